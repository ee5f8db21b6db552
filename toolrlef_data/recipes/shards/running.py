"""Run one shard of a recipe: its range of the questions, up to the tables that would be published."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import Dataset

from toolrlef_data.columns import DROPPED
from toolrlef_data.engines.reply_store import replies_in
from toolrlef_data.engines.rules import integer_from
from toolrlef_data.publishing.parquet_files import write_file
from toolrlef_data.recipes.runner import build_tables, load_questions, recipe_file
from toolrlef_data.recipes.schema import Recipe
from toolrlef_data.recipes.shards.chains import Chain, dropping_stages, find_chain, kept_tables, select_rows, stages_of
from toolrlef_data.recipes.shards.folders import ShardFolder, shard_folder
from toolrlef_data.recipes.shards.limits import check_shardable, divided, divided_limits
from toolrlef_data.recipes.shards.numbers import Shard
from toolrlef_data.records import InputError
from toolrlef_data.tables.files import (
    SCRATCH,
    atomic_file,
    explain_disk_errors,
    file_digest,
    remove,
    remove_stale_files,
    write_json,
)
from toolrlef_data.tables.lineage import usage
from toolrlef_data.tables.row_files import materialize
from toolrlef_data.tables.stage_cache import as_arrow, open_recorded, read_record, stages_in

__all__ = ["is_final", "load_all", "run_shard"]

GROUP_ROWS = 10_000  # of a row group of the ledger
log = logging.getLogger("toolrlef_data")


def run_shard(
    recipe: Recipe, folder: str | Path, index: int, count: int, *, num_proc: int | None = None, wait: float = 0.0
) -> dict[str, Any]:
    """Run one shard of a recipe, and write its rows, its ledger and its record.

    All shards read the sources and run on a range of the same questions. A finished shard is not run again, unless
    requests failed that can be sent again, or the recipe has `ask_again`. A shard that was killed continues; only the
    requests in flight are repeated.

    Args:
        recipe: result of `load_recipe`.
        folder: the folder of all shards, which every machine can write.
        index: the number of the shard, from 0.
        count: the number of shards.
        num_proc: number of processes for stages without models. Default: that of the recipe's `run`, else one.
        wait: seconds to wait for another process that runs the shard. Default: 0.

    Returns:
        The record: rows_in (task -> questions), rows_out (table -> rows), dropped (reason -> rows), usage (model ->
        requests and tokens), and the stages and files.

    Raises:
        InputError: the recipe has a step that needs all rows, or holds a secret; the folder is a URL, or has another
            number of shards; or another process runs the shard. Raised before any model request.
        TooManyFailures, CapReached: as in `run_recipe`; caps and rates are divided by `count`.

    >>> import tempfile
    >>> from toolrlef_data import load_recipe, scripted
    >>> model = scripted({"": "The answer is 8."}, progress=False)  # instead of the recipe's local model
    >>> recipe = load_recipe("demo", rows=5).model_copy(update={"warm_up": None, "responders": ()})
    >>> recipe = recipe.model_copy(update={"engines": dict.fromkeys(recipe.engines, model)})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run_shard(recipe, folder, 0, 2)["rows_in"]
    {'math': 2}
    """
    integer_from(1).check("count", count)
    integer_from(0).check("index", index)
    if index >= count:
        raise InputError(f"index: expected a number from 0 to {count - 1}, found {index}")
    shard, place = Shard(index, count), shard_folder(folder)
    check_shardable(recipe)
    recipe_file(recipe)  # a secret is an error before any request, whatever the layout
    num_proc = num_proc or recipe.run.num_proc
    for line in divided_limits(recipe, count):
        log.warning("%s", line)
    place.bind(count)
    with explain_disk_errors(place.path), place.locked(shard, wait):
        questions, chain = load_all(recipe, place)
        record, _ = place.read_record(shard, chain.key)
        if record is None or recipe.ask_again or not is_final(record):
            place.record(shard).unlink(missing_ok=True)
            record = _run(recipe, place, shard, questions, chain, num_proc)
        remove(place.stages(shard))
    return record


def load_all(recipe: Recipe, place: ShardFolder) -> tuple[dict[str, Dataset], Chain]:
    """Return the questions of all shards, by task, and the chain of the recipe."""
    questions = {task: materialize(table) for task, table in load_questions(recipe).items()}
    (place.path / "stages").mkdir(exist_ok=True)
    remove_stale_files(place.path / "stages")
    for name in ("", "kept", "dropped", "done"):
        remove_stale_files(place.path / name, (SCRATCH,))
    return questions, find_chain(recipe, questions, place.path / "stages")


def is_final(record: Mapping[str, Any]) -> bool:
    """Return whether no stage has a fingerprint of its own, as after failures that can be retried.

    That of distinct calls depends on the rows; after failures, the execution that used them has one, too.
    """
    return all(stage["fingerprint"] == stage["key"] for stage in record["stages"] if not stage["is_distinct"])


def _run(
    recipe: Recipe,
    place: ShardFolder,
    shard: Shard,
    questions: Mapping[str, Dataset],
    chain: Chain,
    num_proc: int | None,
) -> dict[str, Any]:
    ranges = {task: shard.rows(len(table)) for task, table in questions.items()}
    own = divided(recipe, shard.count, sum(map(len, ranges.values())))
    with stages_in(place.stages(shard)), replies_in(place.replies(shard)):
        parts = {task: select_rows(table, ranges[task]) for task, table in questions.items()}
        tables = build_tables(own, parts, num_proc=num_proc).tables
        stages = stages_of(chain, tables)
        rows_out = {}
        for label, data in kept_tables(chain, tables, stages):
            with atomic_file(place.kept(label, shard)) as scratch:
                write_file(data, scratch)
            rows_out[label] = len(data)
        with atomic_file(place.dropped(shard)) as scratch, pq.ParquetWriter(scratch, DROPPED.arrow_schema) as writer:
            for _, fingerprint, _ in dropping_stages(stages):
                stage = read_record(fingerprint)
                assert stage is not None  # `stages_of` has read it
                for batch in as_arrow(open_recorded(stage, "dropped_files")).iter(GROUP_ROWS):
                    writer.write_table(batch)
        dropped: Counter[str] = Counter()
        for counts in (stage["dropped"] for stage in stages):
            dropped.update(counts)
        record = {
            "chain": chain.key,
            "rows_in": {task: len(rows) for task, rows in ranges.items()},
            "rows_out": rows_out,
            "dropped": dict(sorted(dropped.items())),
            "usage": usage(data for named in tables.values() for data in named.values()),
            "stages": stages,
            "files": {
                path.relative_to(place.path).as_posix(): file_digest(path, 64)
                for path in (*(place.kept(label, shard) for label in rows_out), place.dropped(shard))
            },
        }
    write_json(place.record(shard), record)
    return record
