"""step_facts: what a card says of tables of steps, computed from them in batches of rows.

A table is of a kind by its features: samples, upstream's text turns, preference pairs, answer files, or token ids with
labels. Only the columns that are counted are read. What grows with the data is 8 bytes for each query and each file.

Not covered: which of a merged sample's steps carries which flag; the table does not say. Two queries are the same where
`split_queries` takes them for the same, so in other words they are two.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate, combinations
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features

from toolrlef_data.columns import ANSWERS, PAIRS, TOOLLLAMA, TRAJECTORIES
from toolrlef_data.tables.identity import normal_form, text_hash
from toolrlef_data.tables.stage_cache import as_arrow
from toolrlef_data.toolbench.histories import HALLUCINATED

__all__ = ["Facts", "kind_of", "queries_in", "shortened", "step_facts"]

KINDS = {"trajectories": TRAJECTORIES, "toolllama": TOOLLLAMA, "pairs": PAIRS, "answers": ANSWERS}
READS = {
    "trajectories": ("steps", "layout", "history", "messages", "finish_type", "chosen_steps", "flags"),
    "toolllama": ("history", "conversations", "finish_type", "chosen", "flags"),
    "pairs": ("prompt", "chosen", "why", "finish_type", "flags"),
    "answers": ("finish_type", "valid", "n_calls", "total_tokens"),
    "tokens": ("steps", "layout", "input_ids", "labels", "fallback", "shortened"),
}
ALWAYS = ("id", "dataset", "query", "source_file")
ROWS_AT_ONCE = 100  # a merged sample may take a megabyte
FINISH = "Finish"
SHOWN = 10  # functions in the card
IGNORED = -100  # the label that is not trained
# Arguments that are JSON hold no line break before a word, so the last one is the call.
CALL = re.compile(r"\nAction: ([^\n]*)\nAction Input:")
CUT = 300  # characters of a text in an example row
ITEMS = 4  # of a list in an example row


@dataclass
class Facts:
    """What is counted in one config.

    Args:
        kind: of its tables, a key of `READS`.
        rows, steps: by split.
        files, queries: by split, hashes of their names and normal forms.
        counts: what -> value -> how often: finish_type (in steps; "unfinished" where a search did not end), flags,
            layout, history, why, fallback, valid, dataset (in rows), functions (calls that are trained), held (steps of
            a row), lengths (messages of a row, or tokens).
        sums: chosen (steps), messages, written (by the model), trained, plain (rows that train all that the model wrote
            in them), tokens, n_calls, total_tokens, shortened.
    """

    kind: str
    rows: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    files: dict[str, set[int]] = field(default_factory=dict)
    queries: dict[str, set[int]] = field(default_factory=dict)
    counts: dict[str, Counter[Any]] = field(default_factory=lambda: defaultdict(Counter))
    sums: Counter[str] = field(default_factory=Counter)

    def listed(self, what: str) -> list[tuple[Any, int]]:
        """Values with their counts, most first."""
        return sorted(self.counts[what].items(), key=lambda pair: (-pair[1], str(pair[0])))

    @property
    def most_called(self) -> list[tuple[str, int]]:
        return self.listed("functions")[:SHOWN]

    @property
    def finishes(self) -> int:
        return self.counts["functions"][FINISH]

    @property
    def unnamed(self) -> int:
        """Trained calls of the name that stands for a function that there is not."""
        return self.counts["functions"][HALLUCINATED]

    @property
    def lengths(self) -> dict[str, float]:
        """Least, median, most and mean of `counts["lengths"]`."""
        counted = sorted(self.counts["lengths"].items())
        total = sum(rows for _, rows in counted)
        if not total:
            return {}
        below = accumulate(rows for _, rows in counted)
        middle = next(length for (length, _), rows in zip(counted, below, strict=True) if 2 * rows >= total)
        mean = sum(length * rows for length, rows in counted) / total
        return {"least": counted[0][0], "median": middle, "most": counted[-1][0], "mean": mean}


def kind_of(features: Features) -> str:
    """The kind of a table, a key of `READS`; empty for any other table.

    >>> kind_of(PAIRS), kind_of(Features(id=PAIRS["id"]))
    ('pairs', '')
    """
    for kind, expected in KINDS.items():
        if all(features.get(name) == feature for name, feature in expected.items()):
            return kind
    lists = [features.arrow_schema.field(name).type for name in ("input_ids", "labels") if name in features]
    return "tokens" if len(lists) == 2 and all(map(_of_integers, lists)) else ""


def step_facts(splits: Mapping[str, Mapping[str, Dataset]]) -> dict[str, Facts]:
    """Facts of every config that holds steps.

    Args:
        splits: config -> split -> table.
    """
    found = {}
    for config, named in splits.items():
        kinds = {kind_of(data.features) for data in named.values()}
        if len(kinds) == 1 and (kind := kinds.pop()):
            found[config] = facts = Facts(kind)
            for split, data in named.items():
                facts.files[split], facts.queries[split] = set(), set()
                reads = [name for name in (*ALWAYS, *READS[kind]) if name in data.column_names]
                # Selected first: a table in another order is copied with all its columns.
                for batch in as_arrow(data.select_columns(reads)).iter(ROWS_AT_ONCE):
                    _add(facts, split, batch)
    return found


def queries_in(steps: Mapping[str, Facts]) -> tuple[dict[str, int], list[tuple[str, str, int]]]:
    """How many queries each split holds in all configs, and (split, other split, how many stand in both) of each two.

    >>> both = Facts("pairs", queries={"train": {1, 2}, "test": {2}})
    >>> queries_in({"a": both, "b": Facts("pairs", queries={"test": {3}})})
    ({'train': 2, 'test': 2}, [('train', 'test', 1)])
    """
    found: dict[str, set[int]] = {}
    for facts in steps.values():
        for split, queries in facts.queries.items():
            found.setdefault(split, set()).update(queries)
    shared = [(one, two, len(found[one] & found[two])) for one, two in combinations(found, 2)]
    return {split: len(queries) for split, queries in found.items()}, shared


def shortened(value: Any, items: int | None = None) -> Any:
    """A value as an example: long texts cut, and with `items` also long lists.

    >>> shortened({"a": [1, 2, 3, 4, 5, 6]}, 3)
    {'a': [1, 2, '... 3 more ...', 6]}
    """
    if isinstance(value, str):
        return value[:CUT] + " ..." if len(value) > CUT else value
    if isinstance(value, dict):
        return {name: shortened(part, items) for name, part in value.items()}
    if isinstance(value, list):
        if items is not None and len(value) > items:
            value = [*value[: items - 1], f"... {len(value) - items} more ...", value[-1]]
        return [shortened(part, items) for part in value]
    return value


# Counting -------------------------------------------------------------------------------------------------------------


def _add(facts: Facts, split: str, batch: pa.Table) -> None:
    columns = {name: batch.column(name).combine_chunks() for name in batch.column_names}
    held = _lengths(columns["steps"]) if "steps" in columns else pa.array([1] * batch.num_rows, pa.int64())
    facts.rows[split] += batch.num_rows
    facts.steps[split] += pc.sum(held).as_py() or 0
    facts.files[split] |= {text_hash(name) for name in _files(columns)}
    queries = pc.unique(columns["query"]).to_pylist() if "query" in columns else []
    facts.queries[split] |= {text_hash(form) for form in map(normal_form, filter(None, queries)) if form}
    _count(facts, "held", held)
    if "finish_type" in columns:
        _count(facts, "finish_type", _ends(columns), held)
    for name in ("dataset", "layout", "history", "why", "fallback", "valid"):
        if name in columns:
            _count(facts, name, columns[name])
    if "flags" in columns:
        _count(facts, "flags", pc.list_flatten(columns["flags"]))
    for name in ("n_calls", "total_tokens", "shortened"):
        if name in columns:
            facts.sums[name] += pc.sum(columns[name]).as_py() or 0
    if facts.kind in COUNTED:  # what is counted of answer files is counted of every kind
        COUNTED[facts.kind](facts, columns)


def _trajectories(facts: Facts, columns: Mapping[str, Any]) -> None:
    facts.sums["chosen"] += pc.sum(_lengths(columns["chosen_steps"])).as_py() or 0
    _count(facts, "lengths", _lengths(columns["messages"]))
    _called(facts, columns["messages"])


def _pairs(facts: Facts, columns: Mapping[str, Any]) -> None:
    _count(facts, "lengths", _lengths(columns["prompt"]))
    _called(facts, columns["chosen"])


def _called(facts: Facts, messages: Any) -> None:
    """What is trained, and which functions it calls."""
    every = pc.list_flatten(messages)
    trained = pc.fill_null(pc.struct_field(every, "train"), False)
    calls = pc.list_flatten(pc.filter(pc.struct_field(every, "tool_calls"), trained))
    _count(facts, "functions", pc.struct_field(calls, ["function", "name"]))
    facts.sums["messages"] += len(every)
    facts.sums["trained"] += pc.sum(trained).as_py() or 0
    written = pc.equal(pc.struct_field(every, "role"), "assistant")
    facts.sums["written"] += pc.sum(written).as_py() or 0
    rows, other = pc.list_parent_indices(messages), pc.and_not(pc.fill_null(written, False), trained)
    facts.sums["plain"] += len({*pc.filter(rows, trained).to_pylist()} - {*pc.filter(rows, other).to_pylist()})


def _toolllama(facts: Facts, columns: Mapping[str, Any]) -> None:
    facts.sums["chosen"] += pc.sum(columns["chosen"]).as_py() or 0
    lengths = _lengths(columns["conversations"])
    _count(facts, "lengths", lengths)
    every = pc.list_flatten(columns["conversations"])
    ends = pc.subtract(pc.cumulative_sum(lengths), 1)
    last = pc.take(pc.struct_field(every, "value"), pc.filter(ends, pc.greater(lengths, 0)))
    called = [CALL.findall(text or "") for text in last.to_pylist()]
    facts.counts["functions"].update(names[-1] for names in called if names)
    facts.sums["messages"] += len(every)
    facts.sums["trained"] += len(last)
    facts.sums["written"] += pc.sum(pc.equal(pc.struct_field(every, "from"), "assistant")).as_py() or 0


def _tokens(facts: Facts, columns: Mapping[str, Any]) -> None:
    lengths = _lengths(columns["input_ids"])
    _count(facts, "lengths", lengths)
    facts.sums["tokens"] += pc.sum(lengths).as_py() or 0
    facts.sums["trained"] += pc.sum(pc.not_equal(pc.list_flatten(columns["labels"]), IGNORED)).as_py() or 0


COUNTED = {"trajectories": _trajectories, "toolllama": _toolllama, "pairs": _pairs, "tokens": _tokens}


def _ends(columns: Mapping[str, Any]) -> Any:
    """How searches ended; null in answer files stands for two things."""
    if "valid" not in columns:
        return columns["finish_type"]
    open_ended = pc.fill_null(pc.invert(columns["valid"]), False)
    return pc.if_else(open_ended, "unfinished", columns["finish_type"])


def _files(columns: Mapping[str, Any]) -> set[str]:
    """The files that rows were made of: by their name, else by what an id says before "#"."""
    if "source_file" in columns:
        names: list[Any] = pc.unique(columns["source_file"]).to_pylist()
        return {name for name in names if name}
    ids = map(str, columns["id"].to_pylist() if "id" in columns else ())
    return {row_id.rpartition("#")[0] or row_id for row_id in ids}


def _count(facts: Facts, what: str, values: Any, weights: Any = None) -> None:
    """Count values, null left out, each once or with a weight."""
    weights = pa.array([1] * len(values), pa.int64()) if weights is None else weights
    table = pa.table({"value": values, "weight": weights}).group_by("value").aggregate([("weight", "sum")])
    for value, number in zip(table["value"].to_pylist(), table["weight_sum"].to_pylist(), strict=True):
        if value is not None:
            facts.counts[what][value] += number


def _lengths(lists: Any) -> Any:
    return pc.cast(pc.fill_null(pc.list_value_length(lists), 0), pa.int64())


def _of_integers(kind: Any) -> bool:
    return bool((pa.types.is_list(kind) or pa.types.is_large_list(kind)) and pa.types.is_integer(kind.value_type))
