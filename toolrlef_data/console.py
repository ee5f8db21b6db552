"""console: what the commands print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset
    from rich.table import Table

__all__ = ["dropped_table", "say", "show", "shown_table"]


def shown_table(title: str, names: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Table:
    """Rows as a table; numbers stand at the right."""
    from rich.table import Table

    table = Table(title=title)
    for n, name in enumerate(names):
        table.add_column(name, justify="right" if rows and rows[0][n][:1].isdigit() else "left")
    for row in rows:
        table.add_row(*row)
    return table


def dropped_table(tables: Iterable[Dataset]) -> Table | str:
    """How many rows left on the way to some tables, by stage and reason."""
    from toolrlef_data.card import dropped_counts
    from toolrlef_data.lineage import ledger

    left = dropped_counts({"-dropped": {"train": ledger(tables)}})
    rows = [(stage, reason, str(count)) for stage, reason, count in left]
    return shown_table("Dropped", ["stage", "reason", "rows"], rows) if left else "No row was dropped."


def show(*parts: Table | str) -> None:
    """Print tables, and texts with their markup."""
    from rich.console import Console

    for part in parts:
        Console().print(part)


def say(text: str) -> None:
    """Print a text as it stands, however long its lines are."""
    from rich.console import Console

    Console().print(text, soft_wrap=True, highlight=False, markup=False)
