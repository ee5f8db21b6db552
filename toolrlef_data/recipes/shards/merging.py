"""Merge the shards of a recipe: check all records, put the rows together in order, and publish them."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from toolrlef_data.columns import DROPPED
from toolrlef_data.publishing.hub.push import Push
from toolrlef_data.publishing.parquet_files import READY_FILES
from toolrlef_data.recipes.runner import check_publishable, publish_tables
from toolrlef_data.recipes.schema import Recipe
from toolrlef_data.recipes.shards.chains import Chain, dropping_stages, merge_stages
from toolrlef_data.recipes.shards.folders import ShardFolder, shard_folder, shard_names
from toolrlef_data.recipes.shards.limits import check_shardable
from toolrlef_data.recipes.shards.numbers import Shard
from toolrlef_data.recipes.shards.running import is_final, load_all
from toolrlef_data.records import InputError, LedgerError, ToolrlefError, TooManyFailures
from toolrlef_data.tables.batches.mapping import key_after
from toolrlef_data.tables.files import explain_disk_errors, read_json, scratch_folder, write_tables
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.identity import distinct
from toolrlef_data.tables.lineage import lineage, usage
from toolrlef_data.tables.row_files import table_from_rows
from toolrlef_data.tables.stage_cache import arrow_files, stages_in, store_files, write_record
from toolrlef_data.tools.results import CALL_COLUMNS

__all__ = ["Merged", "merge_shards"]

Records = Mapping[Shard, Mapping[str, Any]]  # in order
BATCH_ROWS = 2_000
TOKENS = ("completion_tokens", "prompt_tokens")


class Merged(NamedTuple):
    """The published shards.

    Args:
        out: the published folder.
        push: the release on the Hub; None if the recipe names no repository.
        rows_in: task -> questions.
        rows_out: table, such as "math-stage1" -> rows.
        dropped: (stage, reason) -> rows.
        usage: model -> requests and tokens.
        retryable: the numbers of the shards with failed requests that a further run of these shards sends again.
    """

    out: Path
    push: Push | None
    rows_in: Mapping[str, int]
    rows_out: Mapping[str, int]
    dropped: Mapping[tuple[str, str], int]
    usage: Mapping[str, Mapping[str, int]]
    retryable: list[int]


def merge_shards(
    recipe: Recipe,
    folder: str | Path,
    *,
    out: str | Path | None = None,
    replace: bool = False,
    keep_shards: bool = False,
) -> Merged:
    """Publish the rows of all shards as a run of the recipe without shards does.

    Rows, order, features, ledger, card and the bytes of the Parquet files are those of a local run.

    Args:
        recipe: the recipe of the shards.
        folder: the folder of all shards.
        out, replace: as in `run_recipe`.
        keep_shards: publish the files of the shards, one for each, instead of files of up to 500 MB: the same rows in
            other files. Default: False.

    Returns:
        The published folder, and the counts of all shards.

    Raises:
        ToolrlefError: shards are missing, damaged, or of another recipe, source or version; the message names them.
        TooManyFailures: more than `max_failed` of the requests of a stage failed in all shards together.
        InputError: as in `run_recipe`, the folder is a URL, `out` is in it where shards write, or no shard has run.
    """
    place = shard_folder(folder)
    check_shardable(recipe)
    published = check_publishable(recipe, out=out, replace=replace)
    place.check_out(out or recipe.out)
    count = place.count()
    if count is None:
        raise InputError(f"{place.path} has no shards: run them with --shard I/N --folder {place.path}")
    with explain_disk_errors(place.path):
        questions, chain = load_all(recipe, place)
        records = _read_records(place, count, chain)
        for task, table in questions.items():
            rows = sum(record["rows_in"][task] for record in records.values())
            if rows != len(table):
                raise LedgerError(f"{task}: the shards have {rows} questions, and the sources {len(table)}")
        stages = merge_stages(chain, [record["stages"] for record in records.values()])
        origins = [record for table in questions.values() for record in lineage(table)]
        with scratch_folder(place.path / "stages") as scratch, stages_in(scratch):
            for record in origins:
                write_record(record["fingerprint"], record)
            _merge_calls(place, records, stages, chain)
            _check_failures(recipe, stages.values())
            for stage in stages.values():
                stage["inputs"] = [_fingerprint(stages, key) for key in stage["inputs"]]
            try:
                ledgers = _write_ledgers(place, records, stages, scratch)
                tables = _write_tables(place, records, stages, chain, scratch, keep_shards)
            finally:  # before an error about rows that do not add up
                _check_unchanged(place, records)
            for key, stage in stages.items():
                write_record(stage["fingerprint"], {**stage, **ledgers.get(key, {})})
            folder, push = publish_tables(recipe, tables, published, out=out, replace=replace)
            named = {f"{task}-{name}": data for task, parts in tables.items() for name, data in parts.items()}
            dropped: Counter[tuple[str, str]] = Counter()
            for stage in (*origins, *stages.values()):
                dropped.update({(stage["step"], reason): rows for reason, rows in stage["dropped"].items()})
            return Merged(
                folder,
                push,
                {task: len(table) for task, table in questions.items()},
                {name: len(data) for name, data in named.items()},
                dropped,
                usage(named.values()),
                [shard.index for shard, record in records.items() if not is_final(record) and _has_failed(record)],
            )


def _read_records(place: ShardFolder, count: int, chain: Chain) -> dict[Shard, Mapping[str, Any]]:
    """Return the records of all shards; raise a ToolrlefError that names those that cannot be merged."""
    records: dict[Shard, Mapping[str, Any]] = {}
    problems: dict[str, list[int]] = {}
    for shard in (Shard(index, count) for index in range(count)):
        record, problem = place.read_record(shard, chain.key)
        if record is None:
            problems.setdefault(problem, []).append(shard.index)
        else:
            records[shard] = record
    if problems:
        found = "; ".join(f"{problem}: {shard_names(numbers)}" for problem, numbers in problems.items())
        first = min(number for numbers in problems.values() for number in numbers)
        raise ToolrlefError(
            f"{len(records)} of {count} shards in {place.path} are finished, the others are not ({found}). Nothing is "
            f"published. Run each of them, as in --shard {first}/{count}; stored replies are used again"
        )
    return records


def _check_unchanged(place: ShardFolder, records: Records) -> None:
    """Raise a ToolrlefError if a shard was run again since its record was read, so that its rows may be others.

    A shard that is run again removes its record before it changes any other file.
    """
    changed = [shard.index for shard, record in records.items() if read_json(place.record(shard)) != record]
    if changed:
        raise ToolrlefError(
            f"these shards in {place.path} were run again during the merge: {shard_names(changed)}. Nothing is "
            "published. Merge again when they are finished"
        )


def _has_failed(record: Mapping[str, Any]) -> bool:
    return any(stage.get("failed") for stage in record["stages"])


def _check_failures(recipe: Recipe, stages: Iterable[Mapping[str, Any]]) -> None:
    """Raise TooManyFailures for a stage whose failed requests exceed `max_failed` in all shards together."""
    for stage in stages:
        if failed := stage.get("failed", 0):
            model, requests = stage["usage"]["model"], stage["usage"]["requests"]
            share = max((spec.max_failed for spec in recipe.engines.values() if spec.model == model), default=0.0)
            if failed > share * requests:
                raise TooManyFailures(
                    f"{stage['step']}: {failed} of {requests} requests to {model!r} failed in all shards, more than "
                    f"max_failed={share}. Nothing is published. Run the shards again: they send the requests with "
                    "retryable errors again"
                )


def _fingerprint(stages: Mapping[str, Mapping[str, Any]], key: str) -> str:
    """Return the merged fingerprint of a stage of the chain; that of the questions is their key."""
    return str(stages[key]["fingerprint"]) if key in stages else key


def _merge_calls(place: ShardFolder, records: Records, stages: dict[str, dict[str, Any]], chain: Chain) -> None:
    """Replace the sums of the stages in which the engine of a tool answers calls: each distinct call counts once."""
    for label, kept in chain.calls.items():
        files = [place.kept(label, shard) for shard in records]
        answered, calls = stages[kept.stage], stages[chain.calls_of(kept)]
        inputs = [_fingerprint(stages, key) for key in calls["inputs"]]
        rows = ({name: row[name] for name in CALL_COLUMNS} for row in _distinct_rows(files))
        table = table_from_rows(rows, CALL_COLUMNS, calls["step"], inputs)
        totals: Counter[str] = Counter()
        for row in _distinct_rows(files):
            totals.update({name: row[name] or 0 for name in (*TOKENS, "failed")})
        calls |= {"fingerprint": table._fingerprint, "rows_in": len(table), "rows_out": len(table)}
        answered |= {
            "fingerprint": key_after(table._fingerprint, chain.records[kept.stage]["step_digest"]),
            "rows_in": len(table),
            "rows_out": len(table),
            "usage": {**answered["usage"], "requests": len(table), **{name: totals[name] for name in TOKENS if totals}},
            **({"failed": totals["failed"]} if "failed" in answered else {}),
        }


def _distinct_rows(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    return distinct((row for batch in _batches(files) for row in batch.to_pylist()), itemgetter("id"))


# The files of the merged tables ---------------------------------------------------------------------------------------


def _write_ledgers(
    place: ShardFolder, records: Records, stages: Mapping[str, Mapping[str, Any]], scratch: Path
) -> dict[str, dict[str, Any]]:
    """Write the dropped rows of each stage, and return key -> the entries of its record."""
    paths: dict[str, Path] = {}
    with contextlib.ExitStack() as stack:
        writers: dict[str, Any] = {}
        for shard, record in records.items():
            table = pq.ParquetFile(place.dropped(shard)).read().cast(DROPPED.arrow_schema)
            start = 0
            for key, _, rows in dropping_stages(record["stages"]):
                if key not in writers:
                    paths[key] = scratch / f".ledger-{len(paths)}"
                    file = stack.enter_context(open(paths[key], "wb"))
                    writers[key] = stack.enter_context(pa.ipc.new_stream(file, DROPPED.arrow_schema))
                writers[key].write_table(table.slice(start, rows))
                start += rows
            if start != table.num_rows:
                raise LedgerError(f"{place.dropped(shard)}: expected {start} rows, found {table.num_rows}")
    stored = {key: store_files([path], digest(stages[key]["fingerprint"], "dropped")) for key, path in paths.items()}
    return {key: {"dropped_files": arrow_files(data)} for key, data in stored.items()}


def _write_tables(
    place: ShardFolder,
    records: Records,
    stages: dict[str, dict[str, Any]],
    chain: Chain,
    scratch: Path,
    keep_shards: bool,
) -> dict[str, dict[str, Dataset]]:
    """Write the rows of all shards in order, and return task -> name -> table; complete the records in `stages`."""
    tables: dict[str, dict[str, Dataset]] = {}
    for label, kept in chain.kept.items():
        files = [place.kept(label, shard) for shard in records]
        path, stage, schema = scratch / f".rows-{label}", stages[kept.stage], kept.features.arrow_schema
        write_tables(path, schema, (batch.cast(schema) for batch in _batches(files)))
        data = store_files([path], stage["fingerprint"])
        expected = sum(record["rows_out"][label] for record in records.values())
        if not len(data) == expected == stage["rows_out"]:
            raise LedgerError(f"{label}: expected {expected} rows, found {len(data)}")
        stage["files"] = arrow_files(data)
        if kept.task:
            tables.setdefault(kept.task, {})[kept.name] = data
            kept_files = [file for file in files if pq.read_metadata(file).num_rows] if keep_shards else []
            ready = [str(_link(file, scratch).resolve()) for file in kept_files]
            stage |= {READY_FILES: ready} if ready else {}
    return tables


def _link(file: Path, folder: Path) -> Path:
    """Return a second name of a file, which keeps its rows if the shard is run again; else the file itself."""
    try:
        os.link(file, folder / file.name)
    except OSError:
        return file
    return folder / file.name


def _batches(files: Sequence[Path]) -> Iterator[pa.Table]:
    for file in files:
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(BATCH_ROWS):
                yield pa.Table.from_batches([batch])
