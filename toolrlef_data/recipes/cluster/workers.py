"""The worker of a shard on a node of a Ray cluster.

A worker gets the recipe once, and then numbers of shards. Keys come from the environment of the node. What goes back is
the counts of a shard, or an error as text without the secrets of the node.
"""

from __future__ import annotations

import contextlib
import os
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from toolrlef_data.engines.credentials import read_api_keys, resolve_address
from toolrlef_data.engines.openai_api.budget import SPENDING_BY_MODEL
from toolrlef_data.engines.settings import SECRET_HEADER
from toolrlef_data.recipes.schema import Recipe
from toolrlef_data.recipes.shards.folders import ShardFolder
from toolrlef_data.recipes.shards.running import run_shard
from toolrlef_data.records import InputError, ToolrlefError
from toolrlef_data.tables.redaction import Secrets

__all__ = ["Counts", "Failure", "ShardWorker"]

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
        if Path(start).is_dir():
            os.chdir(start)

    def run(self, index: int) -> Counts | Failure:
        """Run a shard."""
        try:
            record = self._run(index)
        except ToolrlefError as error:
            # A class with a constructor of its own, such as UnknownName, is replaced by its base.
            kind = next(kind for kind in type(error).__mro__ if "__init__" not in vars(kind))
            return Failure(kind, self._redact(str(error)))
        except Exception:
            return Failure(RuntimeError, UNEXPECTED + self._redact(traceback.format_exc()))
        return Counts(sum(record["rows_in"].values()), sum(record["rows_out"].values()))

    def _run(self, index: int) -> dict[str, Any]:
        SPENDING_BY_MODEL.clear()  # the caps of a shard count its own requests, not those of the shard before it
        if ShardFolder(Path(self.folder)).count() != self.count:
            raise InputError(f"the folder {self.folder} is not shared: this node has another one than the driver")
        return run_shard(self.recipe, self.folder, index, self.count, num_proc=self.num_proc, wait=LOCK_SECONDS)

    def _redact(self, text: str) -> str:
        return Secrets(list(_secrets(self.recipe))).redact(text)


def _secrets(recipe: Recipe) -> Iterator[str]:
    """Yield the secrets of this process: variables whose names are those of secrets, and what the engines read."""
    for name, value in os.environ.items():
        if SECRET_HEADER.search(name):
            yield from (value, *re.split(r"[\s,]+", value))
    for spec in recipe.engines.values():
        with contextlib.suppress(ToolrlefError):  # a missing key is an error of the shard
            yield from resolve_address(spec).secrets
        with contextlib.suppress(ToolrlefError):
            yield from read_api_keys(spec)
