"""Run all shards of a recipe on a Ray cluster, and publish them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from toolrlef_data.engines.rules import integer_from
from toolrlef_data.recipes.cluster.pool import MAX_STARTS, Pool, WorkerPool, check_address, check_resources, connected
from toolrlef_data.recipes.cluster.workers import Counts, Failure, ShardWorker
from toolrlef_data.recipes.runner import check_publishable, recipe_file
from toolrlef_data.recipes.schema import Recipe
from toolrlef_data.recipes.shards.folders import ShardFolder, shard_folder, shard_names
from toolrlef_data.recipes.shards.limits import check_shardable, divided_limits
from toolrlef_data.recipes.shards.merging import Merged, merge_shards
from toolrlef_data.recipes.shards.numbers import Shard
from toolrlef_data.records import ToolrlefError

__all__ = ["run_on_ray", "run_pool", "shared_path"]

log = logging.getLogger("toolrlef_data")


def run_on_ray(
    recipe: Recipe,
    folder: str | Path,
    shards: int,
    *,
    address: str = "auto",
    num_cpus: float = 1.0,
    num_gpus: float = 0.0,
    num_proc: int | None = None,
    out: str | Path | None = None,
    replace: bool = False,
    on_shard: Callable[[Shard, Counts], object] | None = None,
) -> Merged:
    """Run all shards of a recipe on a Ray cluster, and publish what a local run publishes.

    The cluster gets the recipe and the numbers of the shards; rows are only in the folder. Each worker is an actor that
    runs one shard after another, and keeps a local model loaded in between. A shard whose worker or node is lost is run
    by another worker. Finished shards are not run again by a second call.

    Args:
        recipe: result of `load_recipe`.
        folder: the folder of all shards, which every node can write: a shared file system.
        shards: the number of shards.
        address: "auto" (default) for the cluster of this machine or of RAY_ADDRESS, HOST:PORT, or "local" for a cluster
            of this process alone.
        num_cpus: CPUs of a worker. Default: 1.
        num_gpus: GPUs of a worker; a local model needs one to run on a GPU. Default: 0.
        num_proc: processes of a worker for stages without models. Default: one.
        out, replace: as in `run_recipe`.
        on_shard: called with each finished shard and its counts. Default: not called.

    Returns:
        The published folder, and the counts of all shards.

    Raises:
        InputError: as in `run_shard` and `merge_shards`, the folder is no path of a file system, the recipe holds a
            secret, there is no such cluster, or no node has the resources of a worker. Raised before any model request.
        MissingExtra: ray is not installed.
        ToolrlefError: shards were given up, since each lost its worker three times; the others are finished. Another
            error of a shard, such as CapReached, ends the run after the running shards, and names the shard.
        RuntimeError: an error in a shard that is not expected; the message has the shard and the traceback.
    """
    integer_from(1).check("shards", shards)
    resources = check_resources(num_cpus, num_gpus)
    check_address(address)
    place = ShardFolder(shared_path(folder))
    check_shardable(recipe)
    recipe_file(recipe)  # a secret must not travel
    check_publishable(recipe, out=out, replace=replace)
    place.check_out(out or recipe.out)
    lines = divided_limits(recipe, shards)
    if not num_gpus and any(spec.kind == "local" and spec.device != "cpu" for spec in recipe.engines.values()):
        lines.append("a local model runs on the CPU of its worker: for a GPU, pass num_gpus=1 (--num-gpus 1)")
    arguments = (recipe, str(place.path), shards, os.getcwd(), num_proc)
    with connected(address) as ray, WorkerPool(ray, ShardWorker, arguments, resources) as pool:
        for line in lines:
            log.warning("%s", line)
        place.bind(shards)
        report = None if on_shard is None else lambda index, counts: on_shard(Shard(index, shards), counts)
        run_pool(pool, place, shards, range(shards), report)
    return merge_shards(recipe, place.path, out=out, replace=replace)


def shared_path(folder: str | Path) -> Path:
    """Return the absolute path of the folder of all shards."""
    return shard_folder(folder).path.absolute()


def run_pool(
    pool: Pool,
    place: ShardFolder,
    count: int,
    jobs: Iterable[int],
    on_result: Callable[[int, Any], object] | None = None,
    arguments: tuple[Any, ...] = (),
) -> None:
    """Run shards on the workers of a pool; raise the error of the first one that failed.

    Args:
        pool: the workers.
        place: the folder of all shards.
        count: the number of shards.
        jobs: the numbers of the shards to run.
        on_result: called with the number and the result of each finished shard. Default: not called.
        arguments: further arguments of the method `run` of a worker.
    """
    failures: list[tuple[Shard, Failure]] = []

    def receive(index: int, result: Any) -> bool:
        if isinstance(result, Failure):
            failures.append((Shard(index, count), result))
        elif on_result is not None:
            on_result(index, result)
        return not failures

    given_up = pool.run(jobs, receive, arguments)
    for shard, failure in failures:
        raise failure.kind(f"shard {shard}: {failure.message}")
    if given_up:
        index, reason = next(iter(given_up.items()))
        raise ToolrlefError(
            f"{len(given_up)} of {count} shards in {place.path} are given up, since each lost its worker {MAX_STARTS} "
            f"times: {shard_names([*given_up])}. All others are finished, and nothing is published. The last reason of "
            f"shard {index}: {reason} Mend it (often the memory of a worker: more shards, or more num_cpus for each "
            "worker), and run the same again"
        )
