"""Runs on a Ray cluster publish the files of a local run, whatever is killed, and pay no reply twice.

Each test is a program in a network and process name space of its own: Ray listens on all interfaces. Ray starts in 10 to
60 seconds.

    HANG_TIMEOUT=1500 python -m tests.crash.test_ray_run scripted_nodes_and_driver --rows 200000 --shards 8

runs one of the programs with a larger table and prints what it counted.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.crash.test_shard_kill import count_lines, recipe_of, reply, write_figs
from tests.support.api_server import ApiServer
from tests.support.caches import use_caches
from tests.support.namespaces import ray_environment, run_in_namespace
from tests.support.shards import published_files, with_engines
from tests.support.skips import OWN_ENVIRONMENT
from tests.support.waiting import HANG_TIMEOUT, wait_until
from toolrlef_data import (
    ANNOTATIONS,
    InputError,
    Responder,
    ToolrlefError,
    answer,
    backend,
    build_stage1,
    build_stage2,
    grade,
    load_source,
    publish,
    respond,
    run_on_ray,
    run_recipe,
    scripted,
)
from toolrlef_data.engines.spec import Request

CONCURRENCY = 4  # requests in flight of a process
KEY = "token-of-the-workers-0123456789"
SECRET = "secret-of-a-worker-9876543210"


# Parts of the programs ------------------------------------------------------------------------------------------------


class Place:
    """The folder of a program, with a recipe for a server; each driver is a process with caches of its own."""

    in_flight = CONCURRENCY

    def __init__(self, folder: Path, rows: int, server: ApiServer) -> None:
        self.folder, self.server = folder, server
        write_figs(folder, rows)
        engine = {
            "kind": "openai_api", "model": "x", "base_url": server.url, "concurrency": CONCURRENCY, "keys": "WORKER_KEY",
            "progress": False,
        }  # fmt: skip
        recipe = {
            "name": "Figs", "version": "1.0.0", "out": str(folder / "out"), "engines": {"model": engine},
            "sources": [{"name": str(folder / "figs.jsonl"), "task": "math", "question": "q", "answers": "a", "solution": "s"}],
            "student": {"engine": "model"}, "responders": [{"name": "one", "engine": "model"}],
        }  # fmt: skip
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))

    def asked(self) -> int:
        """Return the number of requests so far."""
        return len(self.server.requests)

    def start(self, *options: object) -> subprocess.Popen[str]:
        return start_module("toolrlef_data.cli", "run", self.folder / "recipe.yaml", *options)

    def start_on_ray(self, shards: int, address: str, out: str = "ray") -> subprocess.Popen[str]:
        options = ["--backend", "ray", "--address", address, "--shards", shards, "--folder", self.folder / "shards"]
        return self.start(*options, "--out", self.folder / out)

    def run_locally(self) -> tuple[dict[str, str], int]:
        """Return the published files of a local run, and the number of its requests."""
        asked = self.asked()
        finish(self.start("--out", self.folder / "local"))
        return published_files(self.folder / "local"), self.asked() - asked


class ScriptedPlace(Place):
    """A place whose recipe has a scripted model, which writes a line for each request: it is faster than a server."""

    in_flight = 1

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder = folder
        write_figs(folder, rows)
        os.environ["REQUESTS"] = str(folder / "requests")

    def asked(self) -> int:
        return count_lines(self.folder / "requests")

    def start(self, *options: object) -> subprocess.Popen[str]:
        return start_module("tests.crash.test_ray_run", "drive", "--folder", self.folder / "shards", *options)


def start_module(*command: object) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", *map(str, command)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def drive(folder: Path, shards: int, address: str | None, out: Path) -> None:
    """Run the recipe of a scripted place, here or in shards in a folder of the place on the Ray cluster at an address."""
    recipe = recipe_of(folder.parent)
    if address is None:
        run_recipe(recipe, out=out)
    else:
        run_on_ray(recipe, folder, shards, address=address, out=out)


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    output = process.communicate(timeout=HANG_TIMEOUT)[0]
    assert process.returncode == code, output
    return output


@contextlib.contextmanager
def place_with_server(folder: Path, rows: int, latency: float = 0.05) -> Iterator[Place]:
    """Yield a place whose server wants the key of the workers; nodes that start later have it."""
    os.environ["WORKER_KEY"] = KEY
    with ApiServer(latency=latency, keys={KEY}) as server:
        yield Place(folder, rows, server)


def start_again(start: Callable[[], Any]) -> Any:
    """Return the result of a call that starts a node of Ray.

    A node waits 15 seconds for its agents. On a busy machine they take longer; then it is started again.
    """
    for is_last in (*[False] * 9, True):
        try:
            return start()
        except Exception as error:
            if is_last or "timed out during startup" not in str(error):
                raise
    raise AssertionError


@contextlib.contextmanager
def ray_cluster(*cpus: int) -> Iterator[Any]:
    """Yield a cluster with one node for each number of CPUs."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    for n, num_cpus in enumerate(cpus):
        options = {"num_cpus": num_cpus, "include_dashboard": False, "runtime_env_agent_port": 21_000 + n}
        start_again(functools.partial(cluster.add_node, **options))
    yield cluster
    cluster.shutdown()


def workers() -> list[int]:
    """Return the ids of the processes that run a shard; Ray writes the method into their titles."""
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if b"ray::ShardWorker.run" in (folder / "cmdline").read_bytes():
                pids.append(int(folder.name))
    return pids


def wait_for_requests(place: Place, number: int, driver: subprocess.Popen[str]) -> None:
    """Wait until a place has had a number of requests; fail with the output of the driver if it has ended."""
    wait_until(lambda: place.asked() >= number or driver.poll() is not None)
    assert driver.poll() is None, driver.communicate()[0]


def records(folder: Path) -> dict[str, int]:
    """Return name -> time of the last change of the records of finished shards."""
    return {path.name: path.stat().st_mtime_ns for path in (folder / "shards" / "done").glob("*.json")}


def files_with(text: str, *folders: Path) -> list[Path]:
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [path for path in paths if text.encode() in path.read_bytes()]


# The programs ---------------------------------------------------------------------------------------------------------


def equal_files(folder: Path, rows: int, shards: int) -> None:
    """Ray with one shard and with several publishes the files of a local run, and no secret is in any file of Ray."""
    with place_with_server(folder, rows, latency=0.0) as place, ray_cluster(2) as cluster:
        expected, needed = place.run_locally()
        for count in (1, shards):
            asked = len(place.server.requests)
            output = finish(place.start_on_ray(count, cluster.address, out=f"ray-{count}"))
            assert published_files(folder / f"ray-{count}") == expected
            assert len(place.server.requests) - asked == needed
            assert f"({count} of {count} shards)" in output
            assert KEY not in output
            shutil.rmtree(folder / "shards")
        assert files_with(KEY, Path(os.environ["RAY_TMPDIR"])) == []
        place.server.keys = {"another"}
        output = finish(place.start_on_ray(shards, cluster.address, out="refused"), code=2)
        assert re.search(r"error: shard \d/\d: .*key", output), output
        assert KEY not in output
        assert files_with(KEY, Path(os.environ["RAY_TMPDIR"]), folder / "shards") == []


def worker_killed(folder: Path, rows: int, shards: int) -> None:
    """A worker is killed twice while it waits for replies: other workers finish its shards."""
    with place_with_server(folder, rows) as place, ray_cluster(2) as cluster:
        expected, needed = place.run_locally()
        asked = len(place.server.requests)
        driver = place.start_on_ray(shards, cluster.address)
        for part in (1, 2):
            wait_for_requests(place, asked + part * needed // 3, driver)
            os.kill(workers()[0], signal.SIGKILL)
        finish(driver)
        assert published_files(folder / "ray") == expected
        assert needed <= len(place.server.requests) - asked <= needed + 2 * CONCURRENCY


def nodes_and_driver(folder: Path, rows: int, shards: int) -> None:
    """One of two nodes is removed while it works, then the driver is killed and run again."""
    with place_with_server(folder, rows) as place:
        remove_node_and_kill_driver(place, shards)


def scripted_nodes_and_driver(folder: Path, rows: int, shards: int) -> None:
    """As `nodes_and_driver`, with a scripted model."""
    remove_node_and_kill_driver(ScriptedPlace(folder, rows), shards)


def remove_node_and_kill_driver(place: Place, shards: int) -> None:
    folder = place.folder
    expected, needed = place.run_locally()
    asked = place.asked()
    with ray_cluster(1, 1) as cluster:
        (second,) = cluster.worker_nodes
        driver = place.start_on_ray(shards, cluster.address)
        wait_for_requests(place, asked + needed // 4, driver)
        wait_until(lambda: len(workers()) == 2 or driver.poll() is not None)  # both nodes work
        cluster.remove_node(second, allow_graceful=False)
        wait_for_requests(place, asked + 2 * needed // 3, driver)
        driver.kill()
        driver.communicate()
        assert not (folder / "ray").exists()
        finished = records(folder)
        assert 0 < len(finished) < shards
        finish(place.start_on_ray(shards, cluster.address))
        assert {name: time for name, time in records(folder).items() if name in finished} == finished
    assert published_files(folder / "ray") == expected
    sent = place.asked() - asked
    assert needed <= sent <= needed + 3 * place.in_flight, "in flight: of the node, and of the workers of the driver"
    print(f"{needed:,} questions, {sent:,} requests, {len(finished)} of {shards} shards before the driver was killed")


def deadly_reply(request: Request) -> str:
    """Return the reply of `test_shard_kill`; kill this process for the last questions while the file `deadly` exists."""
    folder = Path(os.environ["REQUESTS"]).parent
    number = int(re.findall(r"picks (\d+) figs", request.messages[-1].content)[-1])
    with open(folder / "workers", "a", encoding="utf-8") as file:
        print(os.getpid(), number, file=file)
    if number >= int(os.environ["DEADLY_FROM"]):
        if (folder / "deadly").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        if (folder / "faulty").exists():
            raise ValueError(f"no reply with {os.environ['MY_TOKEN']}")
    return reply(request)


def deadly_shard(folder: Path, rows: int, shards: int) -> None:
    """A shard that kills its workers is given up after three starts; the others are finished, and not run again."""
    write_figs(folder, rows)
    first = rows * (shards - 1) // shards
    os.environ.update(REQUESTS=str(folder / "requests"), DEADLY_FROM=str(first), MY_TOKEN=SECRET)
    recipe = with_engines(recipe_of(folder), model=scripted(deadly_reply, progress=False))

    with ray_cluster(2) as cluster:

        def run() -> Any:
            return run_on_ray(recipe, folder / "shards", shards, address=cluster.address, out=folder / "ray")

        (folder / "deadly").touch()
        with pytest.raises(ToolrlefError, match=rf"1 of {shards} shards .* 3 times: {shards - 1}\."):
            run()
        deaths = [line for line in (folder / "workers").read_text().splitlines() if int(line.split()[1]) >= first]
        assert len(deaths) == 3
        finished = records(folder)
        assert len(finished) == shards - 1
        assert not (folder / "ray").exists()

        (folder / "deadly").rename(folder / "faulty")  # an error that no step expects
        with pytest.raises(
            RuntimeError, match=rf"shard {shards - 1}/{shards}: .*\n(.*\n)*ValueError: no reply"
        ) as caught:
            run()
        assert SECRET not in str(caught.value)
        assert files_with(SECRET, Path(os.environ["RAY_TMPDIR"]), folder / "shards") == []
        assert records(folder) == finished

        (folder / "faulty").unlink()
        (folder / "workers").unlink()
        run()
        assert {name: time for name, time in records(folder).items() if name in finished} == finished
        lines = [line.split() for line in (folder / "workers").read_text().splitlines()]
        assert {int(number) for _, number in lines} == set(range(first, rows)), "finished shards asked nothing"
        run_recipe(recipe, out=folder / "local")
        assert published_files(folder / "ray") == published_files(folder / "local")


def refusals(folder: Path, rows: int, shards: int) -> None:
    """What cannot run is refused before a request; one worker runs many shards in one process."""
    write_figs(folder, rows)
    os.environ.update(REQUESTS=str(folder / "requests"), DEADLY_FROM=str(rows))
    recipe = with_engines(recipe_of(folder), model=scripted(deadly_reply, progress=False))
    with pytest.raises(InputError, match="no Ray cluster at the address 'auto'"):
        run_on_ray(recipe, folder / "shards", shards, out=folder / "ray")
    with ray_cluster(2) as cluster:
        import ray

        def run(**options: Any) -> Any:
            return run_on_ray(recipe, folder / "shards", shards, out=folder / "ray", **options)

        with pytest.raises(InputError, match="no node of the Ray cluster has num_cpus=1 and num_gpus=64"):
            run(address=cluster.address, num_gpus=64)
        assert count_lines(folder / "requests") == 0
        ray.init(address=cluster.address, log_to_driver=False)
        run(num_cpus=2)  # on the cluster of this process
        assert ray.is_initialized()
        pids = Counter(line.split()[0] for line in (folder / "workers").read_text().splitlines())
        assert len(pids) == 1, "an actor runs one shard after another"
        wait_until(lambda: ray.available_resources().get("CPU") == 2.0)  # its worker has ended
        ray.shutdown()
    (folder / "workers").unlink()
    start_again(lambda: run(address="local"))
    assert not (folder / "workers").exists(), "finished shards asked nothing"
    assert not ray.is_initialized()


def steps(folder: Path, rows: int, shards: int) -> None:
    """The functions for tables publish the files of a local run, for any number of ranges; only workers ask the model."""
    write_figs(folder, rows)
    os.environ.update(REQUESTS=str(folder / "requests"), DEADLY_FROM=str(rows))
    model = scripted(deadly_reply, progress=False)

    def run(count: int, chosen: Any) -> dict[str, str]:
        """Run the steps with caches of their own, and return the published files."""
        with use_caches(folder / f"caches-{count}"):
            with chosen:
                source = {"task": "math", "question": "q", "answers": "a", "solution": "s"}
                questions = load_source(str(folder / "figs.jsonl"), split="train", **source)
                stage1 = build_stage1(grade(answer(questions, model)), ANNOTATIONS)
                stage2 = build_stage2(respond(stage1, [Responder("one", model)]))
            publish({"math": {"stage1": stage1, "stage2": stage2}}, folder / f"out-{count}", version="1.0.0")
        return published_files(folder / f"out-{count}")

    expected = run(0, backend("local"))
    needed = count_lines(folder / "workers")
    with ray_cluster(2) as cluster:
        for count in (1, shards, 7):
            (folder / "workers").unlink()
            shared = folder / f"shared-{count}"
            assert run(count, backend("ray", address=cluster.address, shards=count, folder=shared)) == expected, count
            lines = [line.split() for line in (folder / "workers").read_text().splitlines()]
            assert len(lines) == needed
            assert str(os.getpid()) not in {pid for pid, _ in lines}
            assert not list(shared.rglob("*.sqlite*")), "all replies are in the store of the driver"
            assert not list(shared.rglob("*.arrow"))


PROGRAMS: dict[str, Callable[[Path, int, int], None]] = {
    program.__name__: program
    for program in (
        equal_files,
        worker_killed,
        nodes_and_driver,
        scripted_nodes_and_driver,
        deadly_shard,
        refusals,
        steps,
    )
}


def run_program(program: str, rows: int, shards: int, folder: Path) -> str:
    """Run a program in name spaces of its own, and return its output."""
    # The path of a socket has 107 characters, and processes that are ending may write logs.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as short:
        own = {"RAY_TMPDIR": short, "HOME": short, "HF_HOME": str(folder / "home"), **ray_environment()}
        environment = {**os.environ, **own, "TOOLRLEF_REPLIES": str(folder / "replies.sqlite")}
        arguments = ["--folder", folder, "--rows", rows, "--shards", shards]
        return run_in_namespace("tests.crash.test_ray_run", program, *arguments, environment=environment)


@pytest.mark.parametrize(
    ("program", "rows", "shards"),
    [("equal_files", 30, 5), ("worker_killed", 60, 4), ("nodes_and_driver", 100, 5), ("deadly_shard", 30, 4), ("refusals", 12, 3), ("steps", 40, 3)],
)  # fmt: skip
def test_on_ray(program: str, rows: int, shards: int, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason=f"{OWN_ENVIRONMENT}make ray")
    run_program(program, rows, shards, tmp_path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("program", choices=[*PROGRAMS, "drive"])
    parser.add_argument("--folder", type=Path, help="of a program that already has name spaces of its own")
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--shards", type=int, default=5)
    parser.add_argument("--backend", choices=["ray"])
    parser.add_argument("--address")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    from tests.crash import test_ray_run  # Ray sends functions of __main__ by value, and others by name

    if options.program == "drive":
        test_ray_run.drive(options.folder, options.shards, options.address, options.out)
    elif options.folder:
        test_ray_run.PROGRAMS[options.program](options.folder, options.rows, options.shards)
    else:
        with tempfile.TemporaryDirectory() as folder:
            print(test_ray_run.run_program(options.program, options.rows, options.shards, Path(folder)), end="")


if __name__ == "__main__":
    main()
