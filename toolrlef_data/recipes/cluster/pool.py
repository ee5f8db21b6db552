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
from typing import Any, Protocol

from toolrlef_data.engines.rules import is_number
from toolrlef_data.records import InputError, MissingExtra

__all__ = ["MAX_STARTS", "Pool", "WorkerPool", "check_address", "check_resources", "connected"]

log = logging.getLogger("toolrlef_data")
LOCAL = "local"  # the address of a cluster of this process alone
MAX_STARTS = 3  # of a job whose worker is lost
POLL_SECONDS = 5.0  # until the nodes are counted again
READY_SECONDS = 60.0  # in which an idle worker must answer
REASON_LENGTH = 300  # characters of Ray's reason for the loss of a worker


def check_address(address: str) -> None:
    """Raise InputError unless the address of a cluster is "auto", "local", or HOST:PORT.

    >>> check_address("ray://head:10001")
    Traceback (most recent call last):
    toolrlef_data.records.InputError: address: 'ray://head:10001' is one of a Ray client, which has no part in the ...
    """
    if not isinstance(address, str) or not address:
        raise InputError(f"address: expected auto, local or HOST:PORT of a Ray cluster, found {address!r:.80}")
    if "://" in address:
        raise InputError(
            f"address: {address!r:.80} is one of a Ray client, which has no part in the shared folder: run on a node "
            "of the cluster, with the address auto"
        )


def check_resources(num_cpus: float, num_gpus: float) -> dict[str, float]:
    """Return the resources of a worker by Ray's names, without those of which it needs none.

    >>> check_resources(num_cpus=1, num_gpus=0)
    {'CPU': 1.0}
    """
    for name, value in {"num_cpus": num_cpus, "num_gpus": num_gpus}.items():
        if not is_number(value) or value < 0:
            raise InputError(f"{name}: expected a number of at least 0, found {value!r:.80}")
    resources = {name: float(amount) for name, amount in (("CPU", num_cpus), ("GPU", num_gpus)) if amount}
    if not resources:
        raise InputError("num_cpus and num_gpus are both 0: a worker needs one of them")
    return resources


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
    try:
        import ray
    except ModuleNotFoundError:
        raise MissingExtra('the backend ray needs the package ray: pip install "toolrlef-data[ray]"') from None
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
    except getattr(ray.exceptions, "AuthenticationError", ()) as error:  # not in older versions, which have no token
        raise InputError(f"the Ray cluster at {address!r} refuses this process: {error}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


class Pool(Protocol):
    """Workers for numbered jobs; `WorkerPool.run` describes the method."""

    def run(
        self, jobs: Iterable[int], on_result: Callable[[int, Any], bool], arguments: tuple[Any, ...] = ()
    ) -> dict[int, str]: ...


class WorkerPool:
    """Actors for numbered jobs; as many as the living nodes have room for.

    Args:
        ray: the module, connected to a cluster.
        build_worker: a class whose objects have a method `run`; it is called on a node.
        arguments: the arguments of `build_worker`.
        resources: the result of `check_resources`.

    Raises:
        InputError: no node has the resources of a worker.
    """

    def __init__(
        self, ray: Any, build_worker: Callable[..., Any], arguments: tuple[Any, ...], resources: Mapping[str, float]
    ) -> None:
        self.ray, self.arguments, self.resources = ray, arguments, resources
        self.actor_class = ray.remote(build_worker).options(
            num_cpus=resources.get("CPU", 0.0), num_gpus=resources.get("GPU", 0.0), max_restarts=0, max_task_retries=0
        )
        self.idle: list[Any] = []
        if self._room() == 0:
            needs = " and ".join(f"num_{name.lower()}s={amount:g}" for name, amount in resources.items())
            raise InputError(f"no node of the Ray cluster has {needs}, which each worker needs")

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *details: object) -> None:
        for worker in self.idle:
            self.ray.kill(worker)

    def _room(self) -> int:
        """Return how many workers the living nodes have resources for."""
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        return sum(
            min(int(node.get(name, 0.0) / amount + 1e-6) for name, amount in self.resources.items()) for node in nodes
        )

    def _is_alive(self, worker: Any) -> bool:
        """Return whether an idle worker answers; end it otherwise."""
        try:
            self.ray.get(worker.__ray_ready__.remote(), timeout=READY_SECONDS)
        except (self.ray.exceptions.RayActorError, self.ray.exceptions.GetTimeoutError):
            self.ray.kill(worker)
            return False
        return True

    def run(
        self, jobs: Iterable[int], on_result: Callable[[int, Any], bool], arguments: tuple[Any, ...] = ()
    ) -> dict[int, str]:
        """Run each job on a worker; a job whose worker is lost goes to another one, at most `MAX_STARTS` times.

        Args:
            jobs: the numbers of the jobs, in the order of their first start.
            on_result: (job, result) -> whether to start further jobs. Jobs that are running go on to their end.
            arguments: further arguments of the method `run` of a worker, after the number of a job.

        Returns:
            job -> why its last worker was lost, for the jobs that lost `MAX_STARTS` workers.

        Raises:
            RayError: a worker could not be started, or its method `run` raised an exception.
        """
        arguments = tuple(map(self.ray.put, arguments))  # serialised once, not for each job
        waiting, starts = deque(jobs), Counter[int]()
        running: dict[Any, tuple[Any, int]] = {}  # reference of the result -> actor, job
        given_up: dict[int, str] = {}
        more = True

        def give(worker: Any) -> None:
            job = waiting.popleft()
            starts[job] += 1
            running[worker.run.remote(job, *arguments)] = (worker, job)

        try:
            while running or (waiting and more):
                while waiting and more and self.idle:
                    worker = self.idle.pop()
                    if self._is_alive(worker):
                        give(worker)
                for _ in range(min(len(waiting), self._room() - len(running)) if more else 0):
                    give(self.actor_class.remote(*self.arguments))
                if not running:  # the last node with room has left
                    log.warning("no node of the Ray cluster has room for a worker; waiting for one")
                    time.sleep(POLL_SECONDS)
                    continue
                finished = self.ray.wait(list(running), timeout=POLL_SECONDS)[0]
                if not finished:  # a node may have left before its worker began: an idle worker must make room
                    while self.idle and len(running) + len(self.idle) > self._room():
                        self.ray.kill(self.idle.pop())
                for reference in finished:
                    worker, job = running[reference]
                    try:
                        result = self.ray.get(reference)
                    except self.ray.exceptions.RayActorError as error:
                        if error.actor_init_failed:
                            raise
                        self.ray.kill(worker)  # one that is only out of reach must not go on
                        if starts[job] < MAX_STARTS:
                            waiting.append(job)
                        else:
                            given_up[job] = str(error).splitlines()[-1][:REASON_LENGTH]
                    else:
                        self.idle.append(worker)
                        more = on_result(job, result) and more
                    del running[reference]
        finally:
            for worker, _ in running.values():
                self.ray.kill(worker)
        return given_up
