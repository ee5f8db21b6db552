"""Statistics of tables of steps for the data card, computed in batches of rows.

The features decide the kind of a table: samples, ToolBench text turns, preference pairs, answer files, or token ids
with labels. Only counted columns are read. Memory grows with the data by 8 bytes per query and per file.

Not covered: flags per step of a merged sample, since the table has them only per row. Two queries are equal if
`split_queries` treats them as equal; paraphrases are different queries.
"""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate, combinations
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features

from toolrlef_data.columns import ANSWERS, PAIRS, TOOLLLAMA, TRAJECTORIES, renamed_columns
from toolrlef_data.tables.identity import normal_form, text_hash
from toolrlef_data.tables.stage_cache import as_arrow
from toolrlef_data.toolbench.histories import HALLUCINATED

__all__ = ["StepFacts", "kind_of", "query_counts", "step_facts"]

KINDS = {"trajectories": TRAJECTORIES, "toolllama": TOOLLLAMA, "pairs": PAIRS, "answers": ANSWERS}
COLUMNS = {
    "trajectories": ("steps", "layout", "history", "messages", "finish_type", "on_path_steps", "flags"),
    "toolllama": ("history", "conversations", "finish_type", "on_path", "flags"),
    "pairs": ("prompt", "chosen", "why", "finish_type", "flags"),
    "answers": ("finish_type", "valid", "n_calls", "total_tokens"),
    "tokens": ("steps", "layout", "input_ids", "labels", "fallback", "shortened"),
}
SHARED_COLUMNS = ("id", "dataset", "query", "source_file")
BATCH_ROWS = 100  # a merged sample can have a megabyte
FINISH = "Finish"
TOP_FUNCTIONS = 10  # functions in the card
IGNORED_LABEL = -100  # the label of tokens that are not trained
# The last match in a turn is its call: JSON arguments have no line break before a word.
CALL = re.compile(r"\nAction: ([^\n]*)\nAction Input:")
log = logging.getLogger("toolrlef_data")


@dataclass
class StepFacts:
    """Statistics of one config.

    Args:
        kind: kind of its tables, a key of `COLUMNS`.
        rows: split -> number of rows.
        steps: split -> number of steps.
        files: split -> hashes of the names of the answer files.
        queries: split -> hashes of the normalised queries.
        counts: name -> value -> count. `finish_type` counts steps ("unfinished" for a search that did not finish);
            `functions` counts trained calls. `flags`, `layout`, `history`, `why`, `fallback`, `valid`, `dataset`,
            `steps_per_row` and `lengths` (messages or tokens of a row) count rows.
        sums: name -> total: chosen (steps), messages, assistant (messages), trained (messages or tokens), all_trained
            (rows whose assistant messages are all trained), tokens, n_calls, total_tokens, shortened.
    """

    kind: str
    rows: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    files: dict[str, set[int]] = field(default_factory=dict)
    queries: dict[str, set[int]] = field(default_factory=dict)
    counts: dict[str, Counter[Any]] = field(default_factory=lambda: defaultdict(Counter))
    sums: Counter[str] = field(default_factory=Counter)

    def most_common(self, name: str) -> list[tuple[Any, int]]:
        """Return the (value, count) pairs of `counts[name]`, most frequent first."""
        return sorted(self.counts[name].items(), key=lambda pair: (-pair[1], str(pair[0])))

    @property
    def top_functions(self) -> list[tuple[str, int]]:
        return self.most_common("functions")[:TOP_FUNCTIONS]

    @property
    def finish_calls(self) -> int:
        return self.counts["functions"][FINISH]

    @property
    def hallucinated_calls(self) -> int:
        """Trained calls with the placeholder name for unknown functions."""
        return self.counts["functions"][HALLUCINATED]

    @property
    def lengths(self) -> dict[str, float]:
        """Minimum, lower median, maximum and mean of `counts["lengths"]`; empty without rows."""
        row_counts = sorted(self.counts["lengths"].items())
        total = sum(rows for _, rows in row_counts)
        if not total:
            return {}
        cumulative = accumulate(rows for _, rows in row_counts)
        median = next(length for (length, _), rows in zip(row_counts, cumulative, strict=True) if 2 * rows >= total)
        mean = sum(length * rows for length, rows in row_counts) / total
        return {"min": row_counts[0][0], "median": median, "max": row_counts[-1][0], "mean": mean}


def kind_of(features: Features) -> str:
    """Return the kind of a table, a key of `COLUMNS`; empty for other tables.

    >>> kind_of(PAIRS), kind_of(Features(id=PAIRS["id"]))
    ('pairs', '')
    """
    renamed = renamed_columns(features)
    features = Features({renamed.get(name, name): feature for name, feature in features.items()})
    for kind, expected in KINDS.items():
        if all(features.get(name) == feature for name, feature in expected.items()):
            return kind
    lists = [features.arrow_schema.field(name).type for name in ("input_ids", "labels") if name in features]
    return "tokens" if len(lists) == 2 and all(map(_is_integer_list, lists)) else ""


def step_facts(splits: Mapping[str, Mapping[str, Dataset]]) -> dict[str, StepFacts]:
    """Return config -> statistics, for every config whose tables are all of one kind in `COLUMNS`.

    Args:
        splits: config -> split -> table.
    """
    facts_by_config = {}
    for config, old_tables in splits.items():
        tables = {split: _with_current_columns(data, f"{config} ({split})") for split, data in old_tables.items()}
        kinds = {kind_of(data.features) for data in tables.values()}
        if len(kinds) == 1 and (kind := kinds.pop()):
            facts_by_config[config] = facts = StepFacts(kind)
            for split, data in tables.items():
                facts.files[split], facts.queries[split] = set(), set()
                columns = [name for name in (*SHARED_COLUMNS, *COLUMNS[kind]) if name in data.column_names]
                # Select before reading: a reordered table is copied with all its columns.
                for batch in as_arrow(data.select_columns(columns)).iter(BATCH_ROWS):
                    _add_batch(facts, split, batch)
    return facts_by_config


def _with_current_columns(data: Dataset, name: str) -> Dataset:
    renamed = renamed_columns(data.features)
    if not kind_of(data.features):
        return data
    if {"chosen", "on_path"} <= data.features.keys():
        log.warning(
            "%s: has the column on_path and its former name chosen, so steps on the chosen path are counted wrong: "
            "rename the columns of earlier tables before concatenating them",
            name,
        )
    if not renamed:
        return data
    changes = ", ".join(f"{old} as {new}" for old, new in renamed.items())
    log.warning("%s: a table of an earlier version: reading the columns %s", name, changes)
    return data.rename_columns(renamed)


def query_counts(steps: Mapping[str, StepFacts]) -> tuple[dict[str, int], list[tuple[str, str, int]]]:
    """Return the queries of each split over all configs, and (split, other split, shared queries) for each pair.

    >>> pairs = StepFacts("pairs", queries={"train": {1, 2}, "test": {2}})
    >>> query_counts({"a": pairs, "b": StepFacts("pairs", queries={"test": {3}})})
    ({'train': 2, 'test': 2}, [('train', 'test', 1)])
    """
    queries: dict[str, set[int]] = {}
    for facts in steps.values():
        for split, hashes in facts.queries.items():
            queries.setdefault(split, set()).update(hashes)
    shared = [(split, other, len(queries[split] & queries[other])) for split, other in combinations(queries, 2)]
    return {split: len(hashes) for split, hashes in queries.items()}, shared


# Counting -------------------------------------------------------------------------------------------------------------


def _add_batch(facts: StepFacts, split: str, batch: pa.Table) -> None:
    columns = {name: batch.column(name).combine_chunks() for name in batch.column_names}
    n_steps = _lengths(columns["steps"]) if "steps" in columns else pa.array([1] * batch.num_rows, pa.int64())
    facts.rows[split] += batch.num_rows
    facts.steps[split] += pc.sum(n_steps).as_py() or 0
    facts.files[split] |= {text_hash(name) for name in _file_names(columns)}
    queries = pc.unique(columns["query"]).to_pylist() if "query" in columns else []
    facts.queries[split] |= {text_hash(form) for form in map(normal_form, filter(None, queries)) if form}
    _count(facts, "steps_per_row", n_steps)
    if "finish_type" in columns:
        _count(facts, "finish_type", _finish_types(columns), n_steps)
    for name in ("dataset", "layout", "history", "why", "fallback", "valid"):
        if name in columns:
            _count(facts, name, columns[name])
    if "flags" in columns:
        _count(facts, "flags", pc.list_flatten(columns["flags"]))
    for name in ("n_calls", "total_tokens", "shortened"):
        if name in columns:
            facts.sums[name] += pc.sum(columns[name]).as_py() or 0
    if facts.kind in COUNTERS:
        COUNTERS[facts.kind](facts, columns)


def _count_trajectories(facts: StepFacts, columns: Mapping[str, Any]) -> None:
    facts.sums["chosen"] += pc.sum(_lengths(columns["on_path_steps"])).as_py() or 0
    _count(facts, "lengths", _lengths(columns["messages"]))
    _count_trained(facts, columns["messages"])


def _count_pairs(facts: StepFacts, columns: Mapping[str, Any]) -> None:
    _count(facts, "lengths", _lengths(columns["prompt"]))
    _count_trained(facts, columns["chosen"])


def _count_trained(facts: StepFacts, conversations: Any) -> None:
    """Count messages, trained messages, and the functions that the trained messages call."""
    messages = pc.list_flatten(conversations)
    trained = pc.fill_null(pc.struct_field(messages, "train"), False)
    calls = pc.list_flatten(pc.filter(pc.struct_field(messages, "tool_calls"), trained))
    _count(facts, "functions", pc.struct_field(calls, ["function", "name"]))
    facts.sums["messages"] += len(messages)
    facts.sums["trained"] += pc.sum(trained).as_py() or 0
    assistant = pc.equal(pc.struct_field(messages, "role"), "assistant")
    facts.sums["assistant"] += pc.sum(assistant).as_py() or 0
    rows, untrained = pc.list_parent_indices(conversations), pc.and_not(pc.fill_null(assistant, False), trained)
    trained_rows, untrained_rows = (set(pc.filter(rows, mask).to_pylist()) for mask in (trained, untrained))
    facts.sums["all_trained"] += len(trained_rows - untrained_rows)


def _count_toolllama(facts: StepFacts, columns: Mapping[str, Any]) -> None:
    facts.sums["chosen"] += pc.sum(columns["on_path"]).as_py() or 0
    lengths = _lengths(columns["conversations"])
    _count(facts, "lengths", lengths)
    turns = pc.list_flatten(columns["conversations"])
    ends = pc.subtract(pc.cumulative_sum(lengths), 1)
    last_turns = pc.take(pc.struct_field(turns, "value"), pc.filter(ends, pc.greater(lengths, 0)))
    calls = [CALL.findall(text or "") for text in last_turns.to_pylist()]
    facts.counts["functions"].update(names[-1] for names in calls if names)
    facts.sums["messages"] += len(turns)
    facts.sums["trained"] += len(last_turns)
    facts.sums["assistant"] += pc.sum(pc.equal(pc.struct_field(turns, "from"), "assistant")).as_py() or 0


def _count_tokens(facts: StepFacts, columns: Mapping[str, Any]) -> None:
    lengths = _lengths(columns["input_ids"])
    _count(facts, "lengths", lengths)
    facts.sums["tokens"] += pc.sum(lengths).as_py() or 0
    facts.sums["trained"] += pc.sum(pc.not_equal(pc.list_flatten(columns["labels"]), IGNORED_LABEL)).as_py() or 0


COUNTERS = {
    "trajectories": _count_trajectories,
    "toolllama": _count_toolllama,
    "pairs": _count_pairs,
    "tokens": _count_tokens,
}


def _finish_types(columns: Mapping[str, Any]) -> Any:
    """Return the finish types, with "unfinished" for answer files that are not valid."""
    if "valid" not in columns:
        return columns["finish_type"]
    unfinished = pc.fill_null(pc.invert(columns["valid"]), False)
    return pc.if_else(unfinished, "unfinished", columns["finish_type"])


def _file_names(columns: Mapping[str, Any]) -> set[str]:
    """Return the names of the rows' answer files, from `source_file` or else from the part of `id` before "#"."""
    if "source_file" in columns:
        names: list[Any] = pc.unique(columns["source_file"]).to_pylist()
        return {name for name in names if name}
    ids = map(str, columns["id"].to_pylist() if "id" in columns else ())
    return {row_id.rpartition("#")[0] or row_id for row_id in ids}


def _count(facts: StepFacts, name: str, values: Any, weights: Any = None) -> None:
    """Add the non-null values to `facts.counts[name]`, each once or with its weight."""
    weights = pa.array([1] * len(values), pa.int64()) if weights is None else weights
    table = pa.table({"value": values, "weight": weights}).group_by("value").aggregate([("weight", "sum")])
    for value, number in zip(table["value"].to_pylist(), table["weight_sum"].to_pylist(), strict=True):
        if value is not None:
            facts.counts[name][value] += number


def _lengths(lists: Any) -> Any:
    return pc.cast(pc.fill_null(pc.list_value_length(lists), 0), pa.int64())


def _is_integer_list(arrow: Any) -> bool:
    return bool((pa.types.is_list(arrow) or pa.types.is_large_list(arrow)) and pa.types.is_integer(arrow.value_type))
