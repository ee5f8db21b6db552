"""A pool of Ray actors that take numbered jobs, one after another.

An actor keeps its process between jobs, and thus a loaded local model. Ray restarts and repeats nothing here: the pool
starts a new actor for one that was lost, on whatever node has room, and counts the starts of each job. What travels is
the number of a job and its small result.

Not covered: a request to an autoscaler for more nodes; nodes that join are used.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from toolrlef_data.records import InputError, MissingExtra

__all__ = ["LOCAL", "MAX_STARTS", "Outcome", "check_address", "check_room", "connected", "run_jobs"]

log = logging.getLogger("toolrlef_data")
LOCAL = "local"  # the address of a cluster of this process alone
MAX_STARTS = 3  # of a job whose worker is lost
POLL_SECONDS = 5.0  # until the nodes are counted again
REASON_LENGTH = 300  # characters of Ray's reason for the loss of a worker


class Outcome(NamedTuple):
    """What became of the jobs of a pool.

    Args:
        given_up: job -> why its last worker was lost, for the jobs that lost `MAX_STARTS` workers.
        unfinished: the jobs that were not started since `on_result` returned False.
    """

    given_up: dict[int, str]
    unfinished: list[int]


def import_ray() -> Any:
    """Return the module `ray`; raise MissingExtra if it is not installed."""
    try:
        import ray
    except ModuleNotFoundError:
        raise MissingExtra("the backend ray needs the package ray: pip install 'toolrlef-data[ray]'") from None
    return ray


def check_address(address: str) -> str:
    """Return the address of a cluster: "auto", "local", or HOST:PORT.

    >>> check_address("ray://head:10001")
    Traceback (most recent call last):
    toolrlef_data.records.InputError: address: 'ray://head:10001' is one of a Ray client, which has no part in the ...
    """
    if not isinstance(address, str) or not address:
        raise InputError(f"address: expected auto, local or HOST:PORT of a Ray cluster, found {address!r:.80}")
    if "://" in address:
        raise InputError(
            f"address: {address!r:.80} is one of a Ray client, which has no part in the shared folder: run the command "
            "on a node of the cluster with the address auto"
        )
    return address


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Connect to a Ray cluster, unless this process is connected already, and yield the module `ray`.

    Args:
        address: "auto" for the cluster of this machine or of RAY_ADDRESS, HOST:PORT, or "local" for a cluster of this
            process alone, which ends with it.

    Raises:
        MissingExtra: ray is not installed.
        InputError: there is no such cluster, or it refuses this process.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster started here reports nothing
    options = {"include_dashboard": False} if address == LOCAL else {}
    try:
        ray.init(address=address, log_to_driver=False, **options)
    except (ConnectionError, ValueError) as error:
        raise InputError(
            f"no Ray cluster at the address {address!r}: start one with `ray start --head`, or pass the address local "
            f"for one on this machine ({error})"
        ) from None
    except ray.exceptions.AuthenticationError as error:
        raise InputError(f"the Ray cluster at {address!r} refuses this process: {error}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def check_room(ray: Any, resources: Mapping[str, float]) -> None:
    """Raise InputError if no node of the cluster has the resources of a worker."""
    if _room(ray, resources) == 0:
        needs = " and ".join(f"num_{name.lower()}s={amount:g}" for name, amount in resources.items())
        raise InputError(f"no node of the Ray cluster has {needs}, which each worker needs")


def _room(ray: Any, resources: Mapping[str, float]) -> int:
    """Return how many workers the living nodes have resources for."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(min(int(node.get(name, 0.0) / amount + 1e-6) for name, amount in resources.items()) for node in nodes)


def run_jobs(
    ray: Any,
    jobs: Iterable[int],
    start_worker: Callable[[], Any],
    resources: Mapping[str, float],
    on_result: Callable[[int, Any], bool],
) -> Outcome:
    """Run each job on a worker; a job whose worker is lost goes to another one, at most `MAX_STARTS` times.

    Args:
        ray: the module, connected to a cluster.
        jobs: the numbers of the jobs, in the order of their first start.
        start_worker: returns a new actor that needs `resources`, with a method `run` of a job. Neither the actor nor
            its method may be repeated by Ray.
        resources: "CPU" and "GPU" -> amount above 0 of a worker.
        on_result: (job, result) -> whether to start further jobs. Jobs that are running go on to their end.

    Raises:
        RayError: a worker could not be started, or `run` raised an exception.
    """
    waiting, starts = deque(jobs), Counter[int]()
    running: dict[Any, tuple[Any, int]] = {}  # reference of the result -> actor, job
    given_up: dict[int, str] = {}
    more = True

    def give(worker: Any) -> None:
        """Start the next job on a worker, or end the worker."""
        if waiting and more:
            job = waiting.popleft()
            starts[job] += 1
            running[worker.run.remote(job)] = (worker, job)
        else:
            ray.kill(worker)

    try:
        while running or (waiting and more):
            for _ in range(min(len(waiting), _room(ray, resources) - len(running)) if more else 0):
                give(start_worker())
            if not running:  # the last node with room has left
                log.warning("no node of the Ray cluster has room for a worker; waiting for one")
                time.sleep(POLL_SECONDS)
                continue
            for reference in ray.wait(list(running), timeout=POLL_SECONDS)[0]:
                worker, job = running[reference]
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayActorError as error:
                    if error.actor_init_failed:
                        raise
                    ray.kill(worker)  # one that is only out of reach must not go on
                    if starts[job] < MAX_STARTS:
                        waiting.append(job)
                    else:
                        given_up[job] = str(error).splitlines()[-1][:REASON_LENGTH]
                else:
                    more = on_result(job, result) and more
                    give(worker)
                del running[reference]
    finally:
        for worker, _ in running.values():
            ray.kill(worker)
    return Outcome(given_up, sorted(waiting))
