"""What the commands print: counts, and rows that are not in the output with their reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import typer

from toolrlef_data.cli.console import count_table, print_line, print_parts
from toolrlef_data.records import RETRYABLE_ERRORS, TOOL_FAILURES, InputError

__all__ = ["check_any", "print_missing", "print_written"]

MAX_IDS = 3  # in a line of the report


def check_any(n_rows: int, output: Path, missing: Mapping[str, str], hint: str = "") -> None:
    """Raise an `InputError` with the reasons if no row could be written.

    Args:
        n_rows: number of rows of the output.
        output: the file, which is not written.
        missing: id -> reason.
        hint: advice for the message.
    """
    if not n_rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(Counter(missing.values()).items()))
        raise InputError(f"{output}: not written, since no row is usable: {reasons}{f'; {hint}' if hint else ''}")


def print_written(counts: Mapping[str, int | None], *files: tuple[Path, int]) -> None:
    """Print counts, and the files with their numbers of rows."""
    print_parts(count_table("Rows", counts))
    for path, n_rows in files:
        print_line(f"Wrote {n_rows:,} {'row' if n_rows == 1 else 'rows'} to {path}")


def print_missing(missing: Mapping[str, str]) -> None:
    """Print which input rows are not in the output and why; exit with status 1 if a further run can add some.

    Args:
        missing: id -> reason.
    """
    reasons = Counter(missing.values())
    for reason, count in sorted(reasons.items()):
        ids = [row_id for row_id, other in missing.items() if other == reason]
        more = ", ..." if count > MAX_IDS else ""
        print_line(f"Not in the output: {count:,} ({reason}): {', '.join(ids[:MAX_IDS])}{more}")
    failed = sum(
        count for reason, count in reasons.items() if reason.rpartition(":")[2] in RETRYABLE_ERRORS | TOOL_FAILURES
    )
    if failed:
        typer.secho(
            f"{failed:,} requests failed. All received replies are saved; run the same command to add the rows.",
            err=True,
            fg="red",
        )
        raise typer.Exit(1)
