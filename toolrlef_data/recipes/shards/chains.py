"""The chain of a recipe: its stages with the fingerprints of a local run, and the sums of the stages of all shards.

A run without rows determines the chain: it asks no model, and writes the records of all stages. A stage of a shard has
the same fingerprint, unless a request failed that can be sent again, or a reply was withdrawn. It is then matched by
its place in the chain, and the merged stage has a fingerprint of its own, as in a local run.

The engine of a tool (`qa_engine`, `translator_engine`) answers the distinct calls of a table. A call can occur in
several shards, so the shards keep the calls, and the merge counts each once (`calls`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from datasets import Dataset, Features

from toolrlef_data.engines.reply_store import replies_in
from toolrlef_data.recipes.runner import build_tables
from toolrlef_data.recipes.schema import Recipe
from toolrlef_data.records import LedgerError
from toolrlef_data.tables.batches.mapping import map_batches
from toolrlef_data.tables.files import scratch_folder
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.lineage import lineage
from toolrlef_data.tables.stage_cache import build_record, open_recorded, read_record, stages_in, write_record
from toolrlef_data.trice.cassette import stages_called, stages_read

__all__ = ["Chain", "dropping_stages", "find_chain", "kept_tables", "merge_stages", "select_rows", "stages_of"]

FORMAT = 2  # of the files of a shard
COUNTS = ("rows_in", "rows_out", "dropped", "usage", "failed")

Stage = Mapping[str, Any]
Tables = Mapping[str, Mapping[str, Dataset]]


class Kept(NamedTuple):
    """A table of which each shard keeps its rows.

    Args:
        stage: the fingerprint in the chain of the stage that produces it.
        features: its features.
        task, name: as in the tables to publish; "" for a stage whose executions a cassette records, and for the calls
            that the engine of a tool answers.
    """

    stage: str
    features: Features
    task: str = ""
    name: str = ""


@dataclass(frozen=True)
class Chain:
    """The stages of a recipe, as a local run has them.

    Args:
        kept: label, the name in files -> a table of which the shards keep the rows.
        records: fingerprint -> the record of the stage in a run without rows, the questions excluded.
        calls: label -> a table of distinct calls and their results, of which the shards keep the rows, too.
    """

    kept: Mapping[str, Kept]
    records: Mapping[str, Stage]
    calls: Mapping[str, Kept]

    @property
    def key(self) -> str:
        """The fingerprint of the chain: of the sources, the settings and the code, but not of shards and machines."""
        return digest(FORMAT, {label: kept.stage for label, kept in self.kept.items()})

    def calls_of(self, kept: Kept) -> str:
        """Return the fingerprint of the table of calls before their results."""
        calls: str = self.records[kept.stage]["inputs"][0]
        return calls

    def is_distinct(self, key: str) -> bool:
        """Return whether the rows of a stage are distinct calls, so that its fingerprint depends on the rows."""
        return any(key in (kept.stage, self.calls_of(kept)) for kept in self.calls.values())


def find_chain(recipe: Recipe, questions: Mapping[str, Dataset], folder: Path) -> Chain:
    """Return the chain of a recipe for questions of each task, by a run without rows in a temporary folder."""
    with scratch_folder(folder) as scratch, stages_in(scratch), replies_in(scratch / "replies.sqlite"):
        empty = {task: select_rows(table, range(0)) for task, table in questions.items()}
        tables = build_tables(recipe, empty).tables
        starts = {table._fingerprint for table in empty.values()}
        records = {r["fingerprint"]: r for parts in tables.values() for data in parts.values() for r in lineage(data)}
        kept = {
            f"{task}-{name}": Kept(data._fingerprint, data.features, task, name)
            for task, parts in tables.items()
            for name, data in parts.items()
        }
        if recipe.cassette:
            executions = stages_read(data for parts in tables.values() for data in parts.values())
            kept |= {
                f"executions-{n}": Kept(key, open_recorded(records[key]).features) for n, key in enumerate(executions)
            }
        called = [key for record in records.values() for key in stages_called(record)]
        calls = {f"calls-{n}": Kept(key, open_recorded(records[key]).features) for n, key in enumerate(called)}
        return Chain(kept, {key: record for key, record in records.items() if key not in starts}, calls)


def select_rows(data: Dataset, rows: range) -> Dataset:
    """Return a range of the rows of a table in a file of its own, with the fingerprint of the whole table.

    The stage cache must be one of the shard alone (`stages_in`).
    """
    key = data._fingerprint
    part = map_batches(data.select(rows), _unchanged, data.features, key, "select rows", None)
    write_record(key, build_record("questions", [], None, part))
    return part


def _unchanged(table: pa.Table) -> pa.Table:
    return table


# The stages of a shard ------------------------------------------------------------------------------------------------


def stages_of(chain: Chain, tables: Tables) -> list[dict[str, Any]]:
    """Return the counts of the stages that produced the tables of a shard.

    Args:
        chain: the result of `find_chain`.
        tables: task -> name -> table, in the stage cache of the shard.

    Returns:
        Dicts with the keys key (the fingerprint in the chain), fingerprint, rows_in, rows_out, dropped, usage and
        failed of a model stage, and is_distinct.

    Raises:
        LedgerError: the stages differ from the chain, or their rows do not add up.
    """
    stages: dict[str, dict[str, Any]] = {}

    def visit(key: str, fingerprint: str) -> None:
        if key in stages or key not in chain.records:  # visited, or questions
            return
        expected, record = chain.records[key], read_record(fingerprint)
        if record is None:
            raise LedgerError(f"the record of the stage {key} is missing or damaged: run the shard again")
        if record["rows_in"] != record["rows_out"] + sum(record["dropped"].values()):
            raise LedgerError(f"{record['step']}: the retained and dropped rows do not add up to the input rows")
        if record["step"] != expected["step"] or len(record["inputs"]) != len(expected["inputs"]):
            raise LedgerError(f"the stage {record['step']!r} of the shard is {expected['step']!r} in the chain")
        counts = {name: record[name] for name in COUNTS if name in record}
        stages[key] = {"key": key, "fingerprint": fingerprint, **counts, "is_distinct": chain.is_distinct(key)}
        for parent_key, parent in zip(expected["inputs"], record["inputs"], strict=True):
            visit(parent_key, parent)

    for kept in chain.kept.values():
        if kept.task:
            visit(kept.stage, tables[kept.task][kept.name]._fingerprint)
    return list(stages.values())


def kept_tables(chain: Chain, tables: Tables, stages: Sequence[Stage]) -> Iterator[tuple[str, Dataset]]:
    """Yield (label, table) for the tables of a shard in `chain.kept` and `chain.calls`.

    Args:
        chain, tables: as in `stages_of`.
        stages: the result of `stages_of`.
    """
    fingerprints = {stage["key"]: stage["fingerprint"] for stage in stages}
    for label, kept in (*chain.kept.items(), *chain.calls.items()):
        if kept.task:
            yield label, tables[kept.task][kept.name]
        else:
            record = read_record(fingerprints[kept.stage])
            assert record is not None  # `stages_of` has read it
            yield label, open_recorded(record)


def merge_stages(chain: Chain, shards: Sequence[Sequence[Stage]]) -> dict[str, dict[str, Any]]:
    """Return key -> the record of a stage of all shards, without its files; its inputs are keys.

    Args:
        chain: the result of `find_chain`.
        shards: the result of `stages_of` for each shard, in order.
    """
    parts: dict[str, list[Stage]] = {}
    for stage in (stage for stages in shards for stage in stages):
        parts.setdefault(stage["key"], []).append(stage)
    return {
        key: {
            **{name: chain.records[key][name] for name in ("step", "settings", "published", "inputs")},
            **_sums(stages),
            "fingerprint": _fingerprint(key, stages),
            "files": [],
        }
        for key, stages in parts.items()
    }


def _fingerprint(key: str, stages: Sequence[Stage]) -> str:
    found = [stage["fingerprint"] for stage in stages]
    return found[0] if len(set(found)) == 1 else digest(key, found)


def _sums(stages: Sequence[Stage]) -> dict[str, Any]:
    dropped: Counter[str] = Counter()
    for stage in stages:
        dropped.update(stage["dropped"])
    sums: dict[str, Any] = {name: sum(stage[name] for stage in stages) for name in ("rows_in", "rows_out")}
    usages = [stage["usage"] for stage in stages if "usage" in stage]
    if usages:
        counts: Counter[str] = Counter()
        for usage in usages:
            counts.update({name: count for name, count in usage.items() if name != "model"})
        sums["usage"] = {"model": usages[0]["model"], **counts}
    failed = sum(stage.get("failed", 0) for stage in stages)
    return {**sums, "dropped": dict(sorted(dropped.items())), **({"failed": failed} if failed else {})}


def dropping_stages(stages: Sequence[Stage]) -> Iterator[tuple[str, str, int]]:
    """Yield (key, fingerprint, number of dropped rows) of the stages that dropped rows, in order."""
    for stage in stages:
        if stage["dropped"]:
            yield stage["key"], stage["fingerprint"], sum(stage["dropped"].values())
