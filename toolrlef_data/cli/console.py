"""console: what the commands print, and the counts for it."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from rich.table import Table

    from toolrlef_data.toolbench.search.dfsdt import Method

__all__ = [
    "AT_TURNS",
    "CALLS",
    "TOKENS",
    "count_table",
    "dropped_table",
    "flag_table",
    "say",
    "searches_in",
    "show",
    "shown_table",
    "stoppable",
]

STOPPED = "stopped; every reply that had arrived is stored, and the same command goes on from there"
AT_TURNS, AT_CALLS = "  without an answer: at the limit of turns", "  without an answer: at the limit of calls"
CALLS, THOUGHTS = "  messages that call something", "  thoughts alone"
TOKENS = "tokens of prompts and replies"


def shown_table(title: str, names: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Table:
    """Rows as a table; numbers stand at the right."""
    from rich.table import Table

    table = Table(title=title)
    for n, name in enumerate(names):
        table.add_column(name, justify="right" if rows and rows[0][n][:1].isdigit() else "left")
    for row in rows:
        table.add_row(*row)
    return table


def count_table(title: str, counts: Mapping[str, int | None]) -> Table:
    """Counts by name; None is one that is not known."""
    rows = [(name, "not known" if count is None else f"{count:,}") for name, count in counts.items()]
    return shown_table(title, ["", ""], rows)


def dropped_table(tables: Iterable[Dataset | DatasetDict], left: Dataset | None = None) -> Table | str:
    """How many rows left on the way to some tables, or stand in a ledger of their own, by stage and reason."""
    from toolrlef_data.publishing.card import dropped_counts
    from toolrlef_data.tables.lineage import ledger

    counts = dropped_counts({"-dropped": {"train": ledger(tables) if left is None else left}})
    rows = [(stage, reason, str(count)) for stage, reason, count in counts]
    return shown_table("Dropped", ["stage", "reason", "rows"], rows) if rows else "No row was dropped."


def flag_table(tables: Iterable[Dataset]) -> Table:
    """How many samples carry each flag, of all and of those on the paths that the files show."""
    from toolrlef_data.toolbench.messages import FLAGS

    counts: Counter[str] = Counter()
    chosen: Counter[str] = Counter()
    for data in tables:
        pairs = "rejected" in data.column_names
        on_path = [True] * len(data) if pairs else data["chosen"][:]
        for flags, shown in zip(data["flags"][:], on_path, strict=True):
            told = ["all", *flags]
            counts.update(told)
            chosen.update(told if shown else ())
    rows = [(flag, f"{counts[flag]:,}", f"{chosen[flag]:,}") for flag in ("all", *FLAGS)]
    return shown_table("Flags", ["", "samples", "on chosen paths"], rows)


def searches_in(answers: Dataset, method: Method) -> dict[str, int]:
    """What there is to count in answer files that were made by a method.

    A search without an answer is at the limit of turns where one of its ways used them up and came to no end, whatever
    became of the others.
    """
    from toolrlef_data.toolbench.tree import GIVE_UP, path_to, read_file_tree, states_of

    counts = dict.fromkeys(
        ("  answered", "  given up", "  not ended", AT_TURNS, AT_CALLS, "requests to the model", CALLS, THOUGHTS), 0
    )
    for row in answers.select_columns(["valid", "finish_type", "n_calls", "answer"]):
        states = list(states_of(read_file_tree(json.loads(row["answer"]))))
        answered = row["valid"] and row["finish_type"] != "give_up"
        counts["  answered" if answered else "  given up" if row["valid"] else "  not ended"] += 1
        if not answered:
            cut = (state for state in states if state.code != GIVE_UP and not state.children)
            counts[AT_TURNS] += any(len(path_to(state)) >= method.max_turns for state in cut)
            counts[AT_CALLS] += row["n_calls"] >= method.max_calls
        counts["requests to the model"] += row["n_calls"]
        calls = sum(state.call is not None for state in states)
        counts[CALLS] += calls
        counts[THOUGHTS] += len(states) - calls
    return counts


def show(*parts: Table | str) -> None:
    """Print tables, and texts with their markup."""
    from rich.console import Console

    for part in parts:
        Console().print(part)


def say(text: str) -> None:
    """Print a text as it stands, however long its lines are."""
    from rich.console import Console

    Console().print(text, soft_wrap=True, highlight=False, markup=False)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Say what becomes of a run that Ctrl-C ends."""
    try:
        yield
    except KeyboardInterrupt:
        typer.secho(STOPPED, err=True)
        raise typer.Exit(130) from None
