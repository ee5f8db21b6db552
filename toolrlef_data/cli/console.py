"""Console output of the commands: tables of counts, and single lines of text."""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ParamSpec

import typer

from toolrlef_data.records import ToolrlefError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from rich.table import Table

    from toolrlef_data.toolbench.search.method import Method

__all__ = [
    "CALLS",
    "MAX_TURNS_REACHED",
    "TOKENS",
    "count_table",
    "dropped_table",
    "exit_on_interrupt",
    "flag_table",
    "print_line",
    "print_parts",
    "run_app",
    "search_counts",
    "text_table",
]

INTERRUPTED = "Interrupted. All received replies are saved; run the same command to resume."
MAX_TURNS_REACHED, MAX_CALLS_REACHED = "  no answer: --max-turns reached", "  no answer: --max-calls reached"
CALLS, THOUGHTS = "  messages with a call", "  messages without a call"
TOKENS = "prompt and reply tokens"
ALL_SAMPLES = "(all samples)"
P = ParamSpec("P")


def text_table(title: str, names: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Table:
    """Return rows of text as a table, with right-aligned numbers."""
    from rich.table import Table

    table = Table(title=title)
    for n, name in enumerate(names):
        table.add_column(name, justify="right" if rows and rows[0][n][:1].isdigit() else "left")
    for row in rows:
        table.add_row(*row)
    return table


def count_table(title: str, counts: Mapping[str, int | None]) -> Table:
    """Return a table with one row per name and count; a count of None is shown as "unknown"."""
    rows = [(name, "unknown" if count is None else f"{count:,}") for name, count in counts.items()]
    return text_table(title, ["", ""], rows)


def dropped_table(tables: Iterable[Dataset | DatasetDict], dropped: Dataset | None = None) -> Table | str:
    """Return a table of the dropped rows by stage and reason, or a sentence if there are none.

    Args:
        tables: tables whose ledger is counted.
        dropped: a ledger to count instead.
    """
    from toolrlef_data.publishing.card.row_facts import dropped_counts
    from toolrlef_data.tables.lineage import ledger

    counts = dropped_counts({"-dropped": {"train": ledger(tables) if dropped is None else dropped}})
    rows = [(stage, reason, str(count)) for stage, reason, count in counts]
    return text_table("Dropped rows", ["stage", "reason", "rows"], rows) if rows else "No rows were dropped."


def flag_table(tables: Iterable[Dataset]) -> Table:
    """Return a table with the number of samples with each flag, in total and on chosen paths."""
    from toolrlef_data.toolbench.flags import FLAGS

    counts: Counter[str] = Counter()
    chosen: Counter[str] = Counter()
    for data in tables:
        pairs = "rejected" in data.column_names
        for batch in data.select_columns(["flags"] if pairs else ["flags", "on_path"]).iter(1000):
            on_path = [True] * len(batch["flags"]) if pairs else batch["on_path"]
            for flags, is_chosen in zip(batch["flags"], on_path, strict=True):
                names = [ALL_SAMPLES, *flags]
                counts.update(names)
                chosen.update(names if is_chosen else ())
    rows = [(flag, f"{counts[flag]:,}", f"{chosen[flag]:,}") for flag in (ALL_SAMPLES, *FLAGS)]
    return text_table("Flags", ["flag", "samples", "samples on chosen paths"], rows)


def search_counts(answers: Dataset, method: Method) -> dict[str, int]:
    """Return the rows of the table "Search": numbers of searches by outcome, of model requests, and of messages.

    A search without an answer counts as `MAX_TURNS_REACHED` if at least one of its unfinished branches has
    `method.max_turns` messages.

    Args:
        answers: generated answer files.
        method: the method of their searches.
    """
    from toolrlef_data.toolbench.tree import GIVE_UP, path_to, read_file_tree, states_of

    counts = dict.fromkeys(
        (
            *("  answered", "  gave up", "  not finished", MAX_TURNS_REACHED, MAX_CALLS_REACHED),
            *("model requests", CALLS, THOUGHTS),
        ),
        0,
    )
    for row in answers.select_columns(["valid", "finish_type", "n_calls", "answer"]):
        states = list(states_of(read_file_tree(json.loads(row["answer"]))))
        answered = row["valid"] and row["finish_type"] != "give_up"
        counts["  answered" if answered else "  gave up" if row["valid"] else "  not finished"] += 1
        if not answered:
            unfinished = (state for state in states if state.code != GIVE_UP and not state.children)
            counts[MAX_TURNS_REACHED] += any(len(path_to(state)) >= method.max_turns for state in unfinished)
            counts[MAX_CALLS_REACHED] += row["n_calls"] >= method.max_calls
        counts["model requests"] += row["n_calls"]
        calls = sum(state.call is not None for state in states)
        counts[CALLS] += calls
        counts[THOUGHTS] += len(states) - calls
    return counts


def print_parts(*parts: Table | str) -> None:
    """Print tables and texts without markup: names from the data can have brackets."""
    from rich.console import Console

    for part in parts:
        Console(markup=False).print(part)


def print_line(text: str) -> None:
    """Print a text unchanged, without markup or line wrapping."""
    from rich.console import Console

    Console().print(text, soft_wrap=True, highlight=False, markup=False)


def exit_on_interrupt(command: Callable[P, None]) -> Callable[P, None]:
    """Return a command that, on Ctrl-C in any of its phases, prints how to resume and exits with status 130."""

    @functools.wraps(command)
    def interruptible(*args: P.args, **options: P.kwargs) -> None:
        try:
            command(*args, **options)
        except KeyboardInterrupt:
            typer.secho(INTERRUPTED, err=True)
            raise typer.Exit(130) from None

    return interruptible


def run_app(app: typer.Typer) -> None:
    """Run an app with the arguments of the process; a `ToolrlefError` is printed as one line without a traceback."""
    # torch reads the variable when it is loaded. With spinning OpenMP threads, another busy process halves the speed;
    # passive waiting costs little.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except ToolrlefError as error:
        typer.secho(f"error: {error}", err=True, fg="red")
        raise SystemExit(2) from None
