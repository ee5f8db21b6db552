"""Steps whose ranges are computed elsewhere have the results of a local run; here the workers are in this process.

Runs on a cluster are in tests/crash/test_ray_run.py.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_server import ApiServer, ReceivedRequest, error
from tests.support.caches import use_caches
from tests.support.shards import published_files, small_recipe, with_engines
from toolrlef_data import EngineSpec, InputError, Limits, ToolrlefError, backend, run_recipe
from toolrlef_data.engines.reply_store import ReplyStore, open_store
from toolrlef_data.recipes.cluster.steps import Steps, active
from toolrlef_data.recipes.cluster.workers import StepWorker
from toolrlef_data.recipes.schema import Recipe
from toolrlef_data.recipes.shards.folders import ShardFolder
from toolrlef_data.records import Reply
from toolrlef_data.tables.batches.mapping import BACKEND, Backend


class PoolHere:
    """A pool whose only worker is in this process; `stop` counts the jobs until it is lost for good."""

    def __init__(self, folder: Path, count: int, stop: int = -1) -> None:
        self.worker, self.jobs, self.stop = (
            StepWorker(str(folder), count, str(Path.cwd())),
            list[tuple[str, int]](),
            stop,
        )

    def run(
        self, jobs: Iterable[int], on_result: Callable[[int, Any], bool], arguments: tuple[Any, ...] = ()
    ) -> dict[int, str]:
        for job in jobs:
            if len(self.jobs) == self.stop:
                raise KeyboardInterrupt
            self.jobs.append((type(arguments[0]).__name__, job))
            # A worker knows nothing of the backend of the driver.
            with active(Backend()):
                result = self.worker.run(job, *arguments)
            if not on_result(job, result):
                break
        return {}


@contextmanager
def ranges_here(folder: Path, count: int, stop: int = -1) -> Iterator[PoolHere]:
    place = ShardFolder(folder)
    place.bind(count)
    pool = PoolHere(folder, count, stop)
    steps = Steps(pool, place, count)
    with active(Backend(map_files=steps.map_files, ask=steps.ask, min_rows=count)):
        yield pool


def run(recipe: Recipe, folder: Path, count: int = 0, stop: int = -1) -> dict[str, str]:
    """Return the published files of a run in ranges, or without them for a count of 0, with caches of its own."""
    out = folder / f"out-{count}"
    with use_caches(folder / f"caches-{count}"):
        if count:
            with ranges_here(folder / f"shared-{count}", count, stop):
                run_recipe(recipe, out=out)
        else:
            run_recipe(recipe, out=out)
    return published_files(out)


VARIANTS: dict[str, dict[str, Any]] = {
    "math": {},
    "samples": {"student": {"engine": "warm", "samples": 2}, "ask_again": ["empty"], "cassette": True},
    "trice": {"layout": "trice"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_files_are_those_of_a_local_run(variant: str, tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path / "out", rows=12, **VARIANTS[variant])
    expected = run(recipe, tmp_path)
    for count in (1, 3, 7):
        assert run(recipe, tmp_path, count) == expected, count


def api_recipe(server: ApiServer, out: Path, **settings: Any) -> Recipe:
    engine = EngineSpec(
        "openai_api", "x", base_url=server.url, progress=False, **{"limits": Limits(backoff=0.01), **settings}
    )
    recipe = small_recipe(out, rows=8, teachers=["annotations"], responders=[])
    return with_engines(recipe, model=engine, warm=dataclasses.replace(engine, temperature=0.9))


def test_an_interrupted_run_repeats_no_request_and_no_range(tmp_path: Path) -> None:
    with ApiServer() as server:
        recipe = api_recipe(server, tmp_path / "out")
        with pytest.raises(KeyboardInterrupt):
            run(recipe, tmp_path, 4, stop=2)
        assert len(server.requests) == 4, "two of four ranges have asked"
        with use_caches(tmp_path / "caches-4"), ranges_here(tmp_path / "shared-4", 4) as pool:
            run_recipe(recipe, out=tmp_path / "out-4")
        assert len(server.requests) == 8
        assert [job for kind, job in pool.jobs if kind == "Ask"] == [2, 3]
        assert published_files(tmp_path / "out-4") == run(recipe, tmp_path)


def test_a_batch_job_that_is_pending_is_fetched_by_the_next_run(tmp_path: Path) -> None:
    is_down = threading.Event()
    is_down.set()

    def script(received: ReceivedRequest, repeats: int) -> Any:
        is_status = received.method == "GET" and "/batches/" in received.path
        return error(401, "invalid_api_key", "no") if is_status and is_down.is_set() else None

    with ApiServer(script) as server:
        recipe = api_recipe(server, tmp_path / "out", limits=Limits(mode="batch", poll=0.01, backoff=0.01))
        with pytest.raises(ToolrlefError, match=r"^shard 0/2: "):
            run(recipe, tmp_path, 2)
        is_down.clear()
        files = run(recipe, tmp_path, 2)
        assert len(server.batches.jobs) == 2, "one for each range"
        assert len(server.lines) == 8
        assert not list((tmp_path / "shared-2").rglob("*.sqlite*")), "all replies are in the store of the driver"
        assert files == run(recipe, tmp_path)


def test_known_replies_are_not_asked_for_again(tmp_path: Path) -> None:
    with ApiServer() as server:
        recipe = api_recipe(server, tmp_path / "out")
        with use_caches(tmp_path / "caches-0"):
            run_recipe(recipe, out=tmp_path / "first")
            asked = [request.body for request in server.requests]
            with open_store().writing() as connection:  # one of eight replies is lost
                connection.execute("DELETE FROM replies WHERE key = (SELECT MIN(key) FROM replies)")
            replies = open_store().path
            open_store().close()
        with use_caches(tmp_path / "caches-2") as caches:
            caches.mkdir(exist_ok=True)
            (caches / "replies.sqlite").write_bytes(replies.read_bytes())
            with ranges_here(tmp_path / "shared", 2):
                run_recipe(recipe, out=tmp_path / "again")
        assert len(server.requests) == len(asked) + 1
        assert published_files(tmp_path / "again") == published_files(tmp_path / "first")


def test_the_error_of_a_range_names_it(tmp_path: Path) -> None:
    is_refused = threading.Event()
    is_refused.set()
    with ApiServer(
        lambda received, repeats: error(401, "invalid_api_key", "no") if is_refused.is_set() else None
    ) as server:
        recipe = api_recipe(server, tmp_path / "out")
        with pytest.raises(ToolrlefError, match=r"^shard 0/2: "):
            run(recipe, tmp_path, 2)
        few = api_recipe(server, tmp_path / "out", limits=Limits(max_requests=3))
        with pytest.raises(InputError, match="max_requests=3 is less than the number of shards, 4"):
            run(few, tmp_path, 4)


def test_another_model_on_a_node_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ApiServer() as server:
        monkeypatch.setenv("MY_SERVER", server.url)
        recipe = api_recipe(server, tmp_path / "out")
        engine = dataclasses.replace(recipe.engines["model"], base_url="$MY_SERVER")
        recipe = with_engines(recipe, model=engine, warm=engine)

        class Elsewhere(PoolHere):
            def run(self, *arguments: Any) -> dict[int, str]:
                monkeypatch.setenv("MY_SERVER", "http://localhost:1/v1")
                return super().run(*arguments)

        place = ShardFolder(tmp_path / "shared")
        place.bind(2)
        steps = Steps(Elsewhere(place.path, 2), place, 2)
        with (
            active(Backend(ask=steps.ask)),
            pytest.raises(InputError, match="the model of this node differs from that of the driver in url"),
        ):
            run_recipe(recipe)
        assert not server.requests


# The context manager --------------------------------------------------------------------------------------------------


def test_processes_of_the_backend_change_nothing(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path / "out", rows=8, teachers=["annotations"])
    expected = run(recipe, tmp_path)
    with backend("local", num_proc=2):
        assert BACKEND.get().num_proc == 2
        assert run(recipe, tmp_path) == expected
    assert BACKEND.get() == Backend()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "spark"}, "unknown backend 'spark'"),
        ({"shards": 2}, "arguments of the backend ray"),
        ({"folder": "run"}, "arguments of the backend ray"),
        ({"num_proc": 0}, "num_proc must be"),
        ({"name": "ray", "num_proc": 2}, "num_proc is an argument of the backend local"),
        ({"name": "ray", "folder": "run"}, "shards must be an integer of at least 1"),
        ({"name": "ray", "shards": 2}, "needs folder="),
        ({"name": "ray", "shards": 2, "folder": "s3://bucket/run"}, "is object storage"),
        ({"name": "ray", "shards": 2, "folder": "run", "address": "ray://x"}, "one of a Ray client"),
        ({"name": "ray", "shards": 2, "folder": "run", "num_cpus": 0}, "both 0"),
    ],
)
def test_unusable_arguments_are_refused(
    arguments: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words), backend(**arguments):
        raise AssertionError("entered")
    assert not (tmp_path / "run").exists()


def test_a_closed_store_is_opened_again(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "replies.sqlite")
    store.put([("k", Reply("42"))])
    store.close()
    assert [path.name for path in tmp_path.iterdir() if "wal" in path.name] == [], "one file, for other machines"
    store.put([("l", Reply("43"))])
    assert sorted(store.get(["k", "l"])) == ["k", "l"]
    store.close()
