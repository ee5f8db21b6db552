"""Steps on a Ray cluster: `with backend("ray", ...)` around the functions for tables.

A step stays a step of this process: its key, record, ledger and cache are those of a local run. The cluster computes
two parts of it, on ranges of the rows. The map over the batches becomes a file a range. Requests without a stored reply
are sent by the range's worker, with a reply store of its own, whose replies then go to the store of this process.

The rows of a table are written into the shared folder once, and workers read their range there.

Not covered: steps that need all rows, the ledger, and tools that execute distinct inputs. They stay in this process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, Features

from toolrlef_data.choices import check_choice
from toolrlef_data.engines.database.merging import merge_replies
from toolrlef_data.engines.model_stage import ModelStage, requests_of, send_missing
from toolrlef_data.engines.reply_store import ReplyStore, open_store, replies_in
from toolrlef_data.engines.rules import integer_from
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.recipes.cluster.pool import Pool, WorkerPool, check_address, check_resources, connected
from toolrlef_data.recipes.cluster.shard_runs import run_pool, shared_path
from toolrlef_data.recipes.cluster.workers import LOCK_SECONDS, StepWorker
from toolrlef_data.recipes.shards.folders import ShardFolder
from toolrlef_data.recipes.shards.limits import divided_spec
from toolrlef_data.recipes.shards.numbers import Shard
from toolrlef_data.records import InputError
from toolrlef_data.tables.batches.mapping import BACKEND, Backend, check_num_proc
from toolrlef_data.tables.files import atomic_file, explain_disk_errors, remove, write_tables
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.stage_cache import as_arrow, open_files

__all__ = ["Steps", "active", "backend"]

log = logging.getLogger("toolrlef_data")


@contextlib.contextmanager
def backend(
    name: str = "local",
    *,
    num_proc: int | None = None,
    address: str = "auto",
    shards: int | None = None,
    folder: str | Path | None = None,
    num_cpus: float = 1.0,
    num_gpus: float = 0.0,
) -> Iterator[None]:
    """Run the functions for tables within a block on a Ray cluster, or in several processes of this machine.

    The results are those without it: the same rows, features, fingerprints and ledger, for any number of shards. They
    stay in the stage cache and the reply store of this process. Rows are in the folder only; the cluster gets the steps
    and the numbers of ranges. A range whose worker or node is lost goes to another worker, at most three times.

    Args:
        name: "local" (default) or "ray".
        num_proc: local: processes of stages without models, where a function names no number. Default: one.
        address: ray: "auto" (default) for the cluster of this machine or of RAY_ADDRESS, HOST:PORT, or "local" for a
            cluster of this process alone.
        shards: ray: the number of ranges of each table. Caps and rates of an engine are divided by it.
        folder: ray: a folder that every node can write, on a shared file system.
        num_cpus, num_gpus: ray: CPUs and GPUs of a worker. Default: 1 and 0.

    Raises:
        UnknownName: another name.
        InputError: an argument is missing, out of range, or of the other backend, there is no such cluster, or no node
            has the resources of a worker.
        MissingExtra: ray is not installed.

    Within the block, a function raises the error of a range as `run_on_ray` does.

    >>> from toolrlef_data import grade, load_source
    >>> with backend("local", num_proc=2):
    ...     questions = load_source("sample", split="train")
    >>> len(questions) > 10
    True
    """
    check_choice("backend", name, ("local", "ray"))
    if name == "local":
        if shards is not None or folder is not None:
            raise InputError("shards and folder are arguments of the backend ray")
        check_num_proc(num_proc)
        with active(Backend(num_proc=num_proc)):
            yield
        return
    if num_proc is not None:
        raise InputError("num_proc is an argument of the backend local: pass shards")
    count = integer_from(1).check("shards", shards)
    if folder is None:
        raise InputError("the backend ray needs folder=, a folder that all nodes of the cluster share")
    resources = check_resources(num_cpus, num_gpus)
    check_address(address)
    place = ShardFolder(shared_path(folder))
    arguments = (str(place.path), count, os.getcwd())
    with connected(address) as ray, WorkerPool(ray, StepWorker, arguments, resources) as pool:
        place.bind(count)
        steps = Steps(pool, place, count)
        try:
            with active(Backend(map_files=steps.map_files, ask=steps.ask, min_rows=count)):
                yield
        finally:
            remove(place.path / "tables")


@contextlib.contextmanager
def active(chosen: Backend) -> Iterator[None]:
    token = BACKEND.set(chosen)
    try:
        yield
    finally:
        BACKEND.reset(token)


class Steps:
    """The parts of steps that the workers of a pool compute."""

    def __init__(self, pool: Pool, place: ShardFolder, count: int) -> None:
        self.pool, self.place, self.shards = pool, place, [Shard(index, count) for index in range(count)]

    def _run(self, step: Map | Ask, shards: list[Shard]) -> None:
        run_pool(self.pool, self.place, len(self.shards), [shard.index for shard in shards], arguments=(step,))

    def _table(self, data: Dataset) -> str:
        """Return the path of a table in the shared folder, where it is written once."""
        path = self.place.path / "tables" / f"{digest(data._fingerprint, len(data))}.arrow"
        if not path.exists():
            schema = data.features.arrow_schema
            with explain_disk_errors(self.place.path), atomic_file(path) as scratch:
                write_tables(scratch, schema, (batch.cast(schema) for batch in as_arrow(data).iter(TABLE_ROWS)))
        return str(path)

    def map_files(
        self,
        data: Dataset,
        batch_function: Callable[[pa.Table], pa.Table],
        features: Features,
        key: str,
        batch_rows: int,
    ) -> list[Path]:
        """Map a function over the batches of a table; return one file a range, in order."""
        folder = self.place.path / "parts"
        step = Map(self._table(data), len(self.shards), str(folder), key, batch_function, features, batch_rows)
        self._run(step, [shard for shard in self.shards if not step.path(shard).exists()])
        return [step.path(shard) for shard in self.shards]

    def ask(self, data: Dataset, stage: ModelStage) -> None:
        """Let the workers send the requests of a table without a stored reply, and store their replies here."""
        store = open_store(Path(stage.store))
        self._collect(store)  # of a run that was killed
        table = self._table(data)
        limits = divided_spec(stage.name, stage.spec, len(self.shards), len(data) // len(self.shards))
        step = Ask(table, len(self.shards), str(self.place.path), stage, limits)
        open_shards = []
        for shard in self.shards:
            keys = [key for pairs in requests_of(step.part(shard), stage) for key, _ in pairs]
            known = store.get(keys)
            if len(known) < len(set(keys)):
                open_shards.append(shard)
                if known:  # so that the worker does not send them again
                    with contextlib.closing(ReplyStore(self.place.replies(shard))) as own:
                        own.put(known.items())
        try:
            self._run(step, open_shards)
        finally:
            self._collect(store)

    def _collect(self, store: ReplyStore) -> None:
        """Move the replies of all ranges to the store of this process.

        A store with pending batch jobs stays, since only its next run fetches their results.
        """
        for shard in self.shards:
            path = self.place.replies(shard)
            if path.exists():
                with self.place.locked(shard, LOCK_SECONDS):
                    with contextlib.closing(ReplyStore(path)) as own:  # repairs that of a worker whose machine failed
                        jobs = own.count_jobs()
                    merge_replies(store.path, [path])
                    for file in path.parent.glob(f"{path.name}*") if not jobs else ():
                        file.unlink()


TABLE_ROWS = 10_000  # of a record batch of a table in the shared folder


@dataclasses.dataclass(frozen=True)
class Step:
    """A part of a step, which a worker runs on one range of a table.

    Args:
        table: path of the table.
        count: number of ranges.
    """

    table: str
    count: int

    def part(self, shard: Shard) -> Dataset:
        """Return the rows of a range."""
        data = open_files([self.table])
        return data.select(shard.rows(len(data)))


@dataclasses.dataclass(frozen=True)
class Map(Step):
    """The map of a function over the batches of a table.

    Args:
        folder: folder of the files.
        key: fingerprint of the result.
        function: batch -> batch.
        features: features of the result.
        batch_rows: rows of a batch.
    """

    folder: str
    key: str
    function: Callable[[pa.Table], pa.Table]
    features: Features
    batch_rows: int
    engines: tuple[EngineSpec, ...] = ()

    def path(self, shard: Shard) -> Path:
        return Path(self.folder) / f"{self.key}-{shard.name}.arrow"

    def run(self, index: int) -> int:
        """Write the file of a range."""
        shard, schema = Shard(index, self.count), self.features.arrow_schema
        part = self.part(shard)
        batches = (self.function(batch).cast(schema) for batch in as_arrow(part).iter(self.batch_rows))
        with explain_disk_errors(Path(self.folder)), atomic_file(self.path(shard)) as scratch:
            write_tables(scratch, schema, batches)
        return len(part)


@dataclasses.dataclass(frozen=True)
class Ask(Step):
    """The requests of a model stage.

    Args:
        folder: the folder of all ranges.
        stage: the stage.
        spec: its engine with the limits of one range.
    """

    folder: str
    stage: ModelStage
    spec: EngineSpec

    @property
    def engines(self) -> tuple[EngineSpec, ...]:
        return (self.spec,)

    def run(self, index: int) -> int:
        """Send the requests of a range that its store lacks."""
        place, shard = ShardFolder(Path(self.folder)), Shard(index, self.count)
        with place.locked(shard, LOCK_SECONDS), replies_in(place.replies(shard)):
            own = dataclasses.replace(self.stage, spec=self.spec, ask_again=())
            if own.identity != self.stage.identity:
                names = sorted(n for n in own.identity if own.identity[n] != self.stage.identity.get(n))
                raise InputError(
                    f"{own.name}: the model of this node differs from that of the driver in {', '.join(names)}, so its "
                    "replies would be others: name the dtype in the engine, and use the same files"
                )
            part = self.part(shard)
            send_missing(part, own)
            open_store().close()
        return len(part)
