"""The chain of a recipe: its stages with the fingerprints of a local run, and the sums of the stages of all shards.

A run without rows determines the chain: it asks no model, and writes the records of all stages. A stage of a shard has
the same fingerprint, unless a request failed that can be sent again, or a reply was withdrawn. It is then matched by
its place in the chain, and the merged stage has a fingerprint of its own, as in a local run.

Not covered: the stages in which the engine of a tool answers calls (`qa_engine`, `translator_engine`). Their rows are
the distinct calls, so a call that occurs in several shards counts once in each.
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
from toolrlef_data.tables.batches import map_batches
from toolrlef_data.tables.files import scratch_folder
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.lineage import lineage
from toolrlef_data.tables.stage_cache import build_record, open_recorded, read_record, stages_in, write_record
from toolrlef_data.trice.cassette import stages_read

__all__ = ["Chain", "dropping_stages", "find_chain", "kept_tables", "merge_stages", "select_rows", "stages_of"]

FORMAT = 1  # of the files of a shard

Stage = Mapping[str, Any]
Tables = Mapping[str, Mapping[str, Dataset]]


class Kept(NamedTuple):
    """A table of which each shard keeps its rows.

    Args:
        stage: the fingerprint in the chain of the stage that produces it.
        features: its features.
        task, name: as in the tables to publish; the names are "" for a stage whose executions a cassette records.
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
    """

    kept: Mapping[str, Kept]
    records: Mapping[str, Stage]

    @property
    def key(self) -> str:
        """The fingerprint of the chain: of the sources, the settings and the code, but not of shards and machines."""
        return digest(FORMAT, {label: kept.stage for label, kept in self.kept.items()})


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
        return Chain(kept, {key: record for key, record in records.items() if key not in starts})


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
        Dicts with the keys key (the fingerprint in the chain), fingerprint, rows_in, rows_out, dropped, and usage and
        failed of a model stage. A stage of a tool's engine, which depends on the calls in the rows, is not in the
        chain; it has also the keys step, settings, published and inputs (keys of stages).

    Raises:
        LedgerError: the stages differ from the chain, or their rows do not add up.
    """
    stages: dict[str, dict[str, Any]] = {}
    keys: dict[str, str] = {}  # fingerprint in the shard -> key

    def add(key: str, fingerprint: str, more: Mapping[str, Any]) -> Stage:
        record = read_record(fingerprint)
        if record is None:
            raise LedgerError(f"the record of the stage {key} is missing or damaged: run the shard again")
        if record["rows_in"] != record["rows_out"] + sum(record["dropped"].values()):
            raise LedgerError(f"{record['step']}: the retained and dropped rows do not add up to the input rows")
        counts = ("rows_in", "rows_out", "dropped", "usage", "failed")
        stages[key] = {"key": key, "fingerprint": fingerprint, **{n: record[n] for n in counts if n in record}, **more}
        keys[fingerprint] = key
        return record

    def visit(key: str, fingerprint: str) -> None:
        if key in stages or key not in chain.records:  # visited, or questions
            keys.setdefault(fingerprint, key)
            return
        expected = chain.records[key]
        record = add(key, fingerprint, {})
        if record["step"] != expected["step"] or len(record["inputs"]) < len(expected["inputs"]):
            raise LedgerError(f"the stage {record['step']!r} of the shard is {expected['step']!r} in the chain")
        for parent_key, parent in zip(expected["inputs"], record["inputs"], strict=False):
            visit(parent_key, parent)
        further = [visit_further(key, parent) for parent in record["inputs"][len(expected["inputs"]) :]]
        if further:
            stages[key]["further"] = further

    def visit_further(owner: str, fingerprint: str) -> str:
        if fingerprint in keys:
            return keys[fingerprint]
        record = read_record(fingerprint) or {}
        key = f"{owner}/{record.get('step')}"
        inputs = [visit_further(owner, parent) for parent in record.get("inputs", ())]
        add(key, fingerprint, {"inputs": inputs, **{n: record.get(n) for n in ("step", "settings", "published")}})
        return key

    for kept in chain.kept.values():
        if kept.task:
            visit(kept.stage, tables[kept.task][kept.name]._fingerprint)
    return list(stages.values())


def kept_tables(chain: Chain, tables: Tables, stages: Sequence[Stage]) -> Iterator[tuple[str, Dataset]]:
    """Yield (label, table) for the tables of a shard in `chain.kept`.

    Args:
        chain, tables: as in `stages_of`.
        stages: the result of `stages_of`.
    """
    fingerprints = {stage["key"]: stage["fingerprint"] for stage in stages}
    for label, kept in chain.kept.items():
        if kept.task:
            yield label, tables[kept.task][kept.name]
        else:
            record = read_record(fingerprints[kept.stage])
            assert record is not None  # `stages_of` has read it
            yield label, open_recorded(record)


def merge_stages(chain: Chain, shards: Sequence[Sequence[Stage]]) -> dict[str, dict[str, Any]]:
    """Return key -> the record of a stage of all shards, without its files.

    Args:
        chain: the result of `find_chain`.
        shards: the result of `stages_of` for each shard, in order.
    """
    parts: dict[str, list[Stage]] = {}
    for stage in (stage for stages in shards for stage in stages):
        parts.setdefault(stage["key"], []).append(stage)
    fingerprints = {key: _fingerprint(key, stages) for key, stages in parts.items()}
    merged = {}
    for key, stages in parts.items():
        about = chain.records.get(key) or stages[0]
        further = dict.fromkeys(name for stage in stages for name in stage.get("further", ()))
        merged[key] = {
            **{name: about[name] for name in ("step", "settings", "published")},
            **_sums(stages),
            "inputs": [fingerprints.get(parent, parent) for parent in (*about["inputs"], *further)],
            "fingerprint": fingerprints[key],
            "files": [],
        }
    return merged


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
