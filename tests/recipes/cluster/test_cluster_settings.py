"""What a run on Ray refuses before it starts, what its worker does in one process, and the section `run` of a recipe.

The runs on a cluster are in tests/crash/test_ray_run.py.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.api_server import ApiServer
from tests.support.caches import use_caches
from tests.support.models import tiny_llama
from tests.support.shards import run_locally, small_recipe, with_engines
from toolrlef_data import EngineSpec, InputError, Limits, load_recipe, run_on_ray, run_recipe, scripted
from toolrlef_data.cli.main import app
from toolrlef_data.engines.local import loading
from toolrlef_data.engines.spec import Request
from toolrlef_data.recipes.cluster.workers import Counts, Failure, ShardWorker
from toolrlef_data.recipes.schema import Recipe, RunSettings, WarmUp
from toolrlef_data.recipes.shards.folders import ShardFolder
from toolrlef_data.records import CapReached, MissingExtra, NoUsableApiKey

SECRET = "secret-of-a-worker-9876543210"


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"folder": "s3://bucket/run"}, "'s3://bucket/run' is object storage"),
        ({"folder": Path("gs://bucket/run")}, "'gs:/bucket/run' is object storage"),
        ({}, None),  # usable, but ray is missing
        ({"shards": 0}, "shards must be an integer of at least 1"),
        ({"address": "ray://head:10001"}, "one of a Ray client"),
        ({"address": ""}, "expected auto, local or HOST:PORT"),
        ({"num_gpus": -1}, "num_gpus: expected a number of at least 0"),
        ({"num_cpus": "2"}, "num_cpus: expected a number"),
        ({"num_cpus": 0}, "both 0"),
    ],
)
def test_unusable_settings_are_refused(
    changes: dict[str, Any], words: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    monkeypatch.chdir(tmp_path)
    values = {"folder": tmp_path / "run", "shards": 2, **changes}
    with pytest.raises(InputError if words else MissingExtra, match=words or r"pip install .toolrlef-data\[ray\]"):
        run_on_ray(small_recipe(tmp_path / "out"), **values)
    assert not list(tmp_path.iterdir())


def test_a_recipe_that_cannot_be_divided_or_holds_a_secret_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_recipe(tmp_path / "out", layout="trice")
    warm_up = recipe.model_copy(update={"warm_up": WarmUp(name="w", engine="model")})
    with pytest.raises(InputError, match="warm_up trains on stage 1 of all rows"):
        run_on_ray(warm_up, tmp_path / "run", 2)
    monkeypatch.setenv("MY_SECRET", SECRET)
    engine = EngineSpec("openai_api", "x", base_url="http://localhost:1/v1", headers={"X-Note": f"MY_SECRET {SECRET}"})
    with pytest.raises(InputError, match="the recipe holds a secret"):
        run_on_ray(with_engines(recipe, model=engine), tmp_path / "run", 2)
    assert not (tmp_path / "run").exists()


# The section `run` and the command ------------------------------------------------------------------------------------


def recipe_file(folder: Path, run: dict[str, Any]) -> Path:
    values = {
        "name": "Small", "version": "1.0.0", "out": str(folder / "data"), "sources": [{"name": "sample"}], "run": run,
        "engines": {"m": {"kind": "openai_api", "model": "x", "base_url": "http://localhost:1/v1"}},
        "student": {"engine": "m"},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    return folder / "recipe.yaml"


def test_how_a_recipe_runs_is_not_published(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path / "out", rows=4, run={"num_proc": 2})
    assert run_locally(recipe, tmp_path) == run_locally(small_recipe(tmp_path / "out", rows=4), tmp_path)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ({"shards": 4}, r"recipe.yaml:\d+: run.shards is a key of the backend ray"),
        ({"backend": "spark"}, r"recipe.yaml:\d+: run.backend "),
        ({"backend": "ray", "workers": 3}, r"recipe.yaml:\d+: run.workers is not a key of this section"),
        ({"backend": "ray", "num_gpus": -1}, r"recipe.yaml:\d+: run.num_gpus "),
    ],
)
def test_a_mistake_in_the_section_is_reported_with_its_line(run: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        load_recipe(recipe_file(tmp_path, run))


def test_a_recipe_for_ray_is_not_run_in_this_process(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path, {"backend": "ray", "shards": 4, "folder": "run", "num_gpus": 1}))
    assert recipe.run == RunSettings(backend="ray", shards=4, folder="run", num_gpus=1)
    with pytest.raises(InputError, match="call run_on_ray"):
        run_recipe(recipe)


@pytest.mark.parametrize(
    ("run", "options", "words"),
    [
        ({}, ["--backend", "spark"], "unknown backend 'spark'"),
        ({}, ["--backend", "ray", "--shard", "0/2"], "--shard runs one shard"),
        ({}, ["--backend", "ray"], "needs --folder"),
        ({"backend": "ray"}, ["--folder", "run"], "needs --shards"),
        ({}, ["--num-gpus", "1"], "--num-gpus is an option of --backend ray"),
        ({"backend": "ray"}, ["--backend", "local", "--shards", "2"], "--shards is an option of --backend ray"),
        ({"backend": "ray", "shards": 2, "folder": "s3://b/run"}, [], "is object storage"),
        ({"backend": "ray", "shards": 2}, ["--folder", "s3://b/run"], "is object storage"),
        ({"backend": "ray"}, ["--folder", "s3://b/run"], "is object storage"),
        ({}, ["--shard", "1/2", "--folder", "s3://b/run"], "is object storage"),
        ({"backend": "ray", "shards": 2, "folder": "run"}, ["--address", "ray://x"], "one of a Ray client"),
        # One shard, in this process: the folder of the section is of the backend ray.
        ({"backend": "ray", "shards": 2, "folder": "run"}, ["--shard", "1/2"], "--shard needs --folder"),
    ],
)
def test_the_command_refuses_what_does_not_fit(
    run: dict[str, Any], options: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        app(["run", str(recipe_file(tmp_path, run)), *options], standalone_mode=False)
    assert not (tmp_path / "run").exists()


# The worker, in this process ------------------------------------------------------------------------------------------


def worker_of(recipe: Recipe, folder: Path, count: int) -> ShardWorker:
    ShardFolder(folder).bind(count)
    return ShardWorker(recipe, str(folder), count, str(Path.cwd()), None)


def test_a_worker_keeps_the_model_for_its_next_shard(tmp_path: Path) -> None:
    engine = EngineSpec("local", str(tiny_llama(tmp_path / "model")), max_tokens=2, progress=False)
    recipe = small_recipe(tmp_path / "out", rows=6, teachers=["annotations"], responders=[])
    recipe = with_engines(recipe, model=engine, warm=dataclasses.replace(engine, temperature=0.9))
    worker = worker_of(recipe, tmp_path / "shards", 3)
    loading.unload()
    bases: list[Any] = []
    for index in range(3):
        result = worker.run(index)
        assert isinstance(result, Counts)
        assert result.rows_in == 2
        bases += loading._BASES.values()
    assert len(bases) == 3
    assert all(base is bases[0] for base in bases), "loaded once"


def test_the_caps_of_a_shard_count_its_own_requests(tmp_path: Path) -> None:
    with ApiServer() as server:
        limits = Limits(max_requests=8)
        engine = EngineSpec("openai_api", "x", base_url=server.url, progress=False, limits=limits)
        recipe = small_recipe(tmp_path / "out", rows=8, teachers=["annotations"], responders=[])
        worker = worker_of(with_engines(recipe, model=engine, warm=engine), tmp_path / "shards", 4)
        assert [type(worker.run(index)) for index in range(4)] == [Counts] * 4
        few = dataclasses.replace(engine, limits=dataclasses.replace(limits, max_requests=4))
        worker = worker_of(with_engines(recipe, model=few, warm=few), tmp_path / "few", 4)
        failure = worker.run(0)
        assert isinstance(failure, Failure)
        assert failure.kind is CapReached


def test_an_error_leaves_a_worker_without_its_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)

    def break_down(request: Request) -> str:
        raise ZeroDivisionError(f"with {SECRET}")

    def failure_of(engine: EngineSpec, name: str) -> Failure:
        recipe = with_engines(small_recipe(tmp_path / "out", rows=4), model=engine)
        with use_caches(tmp_path / name):
            failure = worker_of(recipe, tmp_path / name / "shards", 2).run(1)
        assert isinstance(failure, Failure)
        assert SECRET not in failure.message
        return failure

    bug = failure_of(scripted(break_down, progress=False), "bug")
    assert bug.kind is RuntimeError
    assert "ZeroDivisionError: with [key]" in bug.message
    assert "break_down" in bug.message, "the traceback"
    with ApiServer(keys={"another"}) as server:
        refused = failure_of(EngineSpec("openai_api", "x", base_url=server.url, keys="MY_KEY", progress=False), "key")
    assert refused.kind is NoUsableApiKey


def test_a_node_without_the_shared_folder_is_an_error(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path / "out", rows=4)
    worker = worker_of(recipe, tmp_path / "shards", 2)
    (tmp_path / "shards").rename(tmp_path / "elsewhere")
    failure = worker.run(0)
    assert isinstance(failure, Failure)
    assert failure.kind is InputError
    assert "is not shared" in failure.message
    assert not (tmp_path / "shards").exists()


def test_ray_is_installed_with_its_extra_only() -> None:
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    lines = [line for line in text.splitlines() if re.search(r'"ray\b', line) and "ignore" not in line]
    assert [line.partition(" ")[0] for line in lines if not line.startswith("module")] == ["ray"]
