"""The workers of a pool: actors on the nodes of a Ray cluster.

A worker gets its settings once, and then numbers of shards. Keys come from the environment of the node. What goes back
is the counts of a shard, or an error as text without the secrets of the node.
"""

from __future__ import annotations

import contextlib
import os
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from toolrlef_data.engines.credentials import read_api_keys, resolve_address
from toolrlef_data.engines.openai_api.budget import SPENDING_BY_MODEL
from toolrlef_data.engines.reply_store import open_store
from toolrlef_data.engines.settings import SECRET_HEADER
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.recipes.schema import Recipe
from toolrlef_data.recipes.shards.folders import ShardFolder
from toolrlef_data.recipes.shards.numbers import Shard
from toolrlef_data.recipes.shards.running import run_shard
from toolrlef_data.records import InputError, ToolrlefError
from toolrlef_data.tables.redaction import Secrets

__all__ = ["LOCK_SECONDS", "Counts", "Failure", "ShardWorker", "StepWorker"]

LOCK_SECONDS = 120.0  # a worker that the cluster has lost may hold its shard until Ray ends it
UNEXPECTED = "an error that is not expected:\n"


class Counts(NamedTuple):
    """The counts of a finished shard: all questions, and the rows of all tables."""

    rows_in: int
    rows_out: int


class Failure(NamedTuple):
    """The error of a shard.

    Args:
        kind: class of the error, whose only argument is a message.
        message: the message, without secrets; of an error that is not expected, the traceback.
    """

    kind: type[Exception]
    message: str


class ShardWorker:
    """Runs the shards of a recipe in one process, which keeps a loaded model for the next shard.

    Args:
        recipe: the recipe.
        folder: the absolute path of the folder of all shards.
        count: the number of shards.
        start: the working directory of the driver, where relative paths begin; used if this node has it.
        num_proc: as in `run_shard`.
    """

    def __init__(self, recipe: Recipe, folder: str, count: int, start: str, num_proc: int | None) -> None:
        self.recipe, self.folder, self.count, self.num_proc = recipe, folder, count, num_proc
        _enter(start)

    def run(self, index: int) -> Counts | Failure:
        """Run a shard."""
        result: Counts | Failure = _attempt(lambda: self._run(index), self.recipe.engines.values())
        return result

    def _run(self, index: int) -> Counts:
        _check_shared(self.folder, self.count)
        record = run_shard(self.recipe, self.folder, index, self.count, num_proc=self.num_proc, wait=LOCK_SECONDS)
        replies = ShardFolder(Path(self.folder)).replies(Shard(index, self.count))
        if replies.exists():  # this process goes on, and another machine may read the file
            open_store(replies).close()
        return Counts(sum(record["rows_in"].values()), sum(record["rows_out"].values()))


class StepWorker:
    """Runs steps on ranges of tables in one process, which keeps a loaded model for the next step.

    Args:
        folder: the absolute path of the folder that all nodes share.
        count: the number of ranges of a table.
        start: as in `ShardWorker`.
    """

    def __init__(self, folder: str, count: int, start: str) -> None:
        self.folder, self.count = folder, count
        _enter(start)

    def run(self, index: int, step: Any) -> int | Failure:
        """Run a step of `steps` on a range; return its number of rows."""
        result: int | Failure = _attempt(lambda: self._run(index, step), step.engines)
        return result

    def _run(self, index: int, step: Any) -> int:
        _check_shared(self.folder, self.count)
        rows: int = step.run(index)
        return rows


def _enter(start: str) -> None:
    if Path(start).is_dir():
        os.chdir(start)


def _check_shared(folder: str, count: int) -> None:
    if ShardFolder(Path(folder)).count() != count:
        raise InputError(f"the folder {folder} is not shared: this node has another one than the driver")


def _attempt(call: Callable[[], Any], engines: Iterable[EngineSpec]) -> Any:
    """Return the result of a call, or its error as a `Failure`."""
    SPENDING_BY_MODEL.clear()  # the caps of a shard count its own requests, not those of the shard before it
    try:
        return call()
    except ToolrlefError as error:
        # A class with a constructor of its own, such as UnknownName, is replaced by its base.
        kind = next(kind for kind in type(error).__mro__ if "__init__" not in vars(kind))
        return Failure(kind, Secrets([*_secrets(engines)]).redact(str(error)))
    except Exception:
        return Failure(RuntimeError, UNEXPECTED + Secrets([*_secrets(engines)]).redact(traceback.format_exc()))


def _secrets(engines: Iterable[EngineSpec]) -> Iterator[str]:
    """Yield the secrets of this process: variables whose names are those of secrets, and what the engines read."""
    for name, value in os.environ.items():
        if SECRET_HEADER.search(name):
            yield from (value, *re.split(r"[\s,]+", value))
    for spec in engines:
        with contextlib.suppress(ToolrlefError):  # a missing key is an error of the shard
            yield from resolve_address(spec).secrets
        with contextlib.suppress(ToolrlefError):
            yield from read_api_keys(spec)
