"""Shards that are run again: during a merge, with `ask_again`, and after a process was killed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support.api_server import ApiServer, ReceivedRequest, ServerReply, completion, error
from tests.support.caches import use_caches
from tests.support.shards import published_files, small_recipe, with_engines
from toolrlef_data import EngineSpec, Limits, ToolrlefError, merge_shards, run_shard
from toolrlef_data.recipes import runner
from toolrlef_data.recipes.schema import Recipe
from toolrlef_data.recipes.shards import merging
from toolrlef_data.recipes.shards.folders import ShardFolder
from toolrlef_data.recipes.shards.numbers import Shard
from toolrlef_data.tables.files import STALE_SECONDS


class Model:
    """A server that answers questions; it does not answer the last one while it `fails`."""

    def __init__(self, fails: str) -> None:
        self.fails = fails  # "", "down" or "empty"
        self.server = ApiServer(self.reply)

    def reply(self, received: ReceivedRequest, _repeats: int) -> ServerReply:
        text = received.body["messages"][-1]["content"]
        number = int(text.split("What is ")[-1].split()[0])
        if number == 3 and self.fails == "down":
            return error(503, "overloaded", "later")
        return completion("" if number == 3 and self.fails == "empty" else f"It is {2 * number}.")


@pytest.fixture
def model() -> Iterator[Model]:
    model = Model("")
    with model.server:
        yield model


def recipe_with(model: Model, folder: Path, **sections: Any) -> Recipe:
    """Return a recipe for four questions without responders."""
    (folder / "own.csv").write_text("q,a\n" + "".join(f"What is {n} plus {n}?,{2 * n}\n" for n in range(4)))
    source = {"name": str(folder / "own.csv"), "task": "math", "question": "q", "answers": "a"}
    options: dict[str, Any] = {"sources": [source], "teachers": ["annotations"], "responders": [], **sections}
    limits = Limits(backoff=0.01)
    engine = EngineSpec(
        "openai_api", "x", base_url=model.server.url, progress=False, max_failed=1.0, retries=0, limits=limits
    )
    return with_engines(small_recipe(folder / "out", **options), model=engine)


def run_both(recipe: Recipe, folder: Path) -> None:
    for index in range(2):
        run_shard(recipe, folder / "shards", index, 2)


@pytest.mark.parametrize("keep_shards", [False, True])
def test_a_shard_that_is_run_again_during_a_merge_is_noticed(
    keep_shards: bool, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its request failed before, so its rows change; the records of all shards have been read."""
    model.fails = "down"
    recipe = recipe_with(model, tmp_path)
    run_both(recipe, tmp_path)
    (rows,) = (tmp_path / "shards" / "kept").glob("math-stage1-00001-of-*")
    assert pq.read_metadata(rows).num_rows == 1

    def then_run_again(write: Any) -> Any:
        def wrapper(*arguments: Any) -> Any:
            result = write(*arguments)
            model.fails = ""
            with use_caches(tmp_path / "other-machine"):
                run_shard(recipe, tmp_path / "shards", 1, 2)
            return result

        return wrapper

    with monkeypatch.context() as patch:
        patch.setattr(merging, "_write_tables", then_run_again(merging._write_tables))
        with pytest.raises(ToolrlefError, match=r"were run again during the merge: 1\. Nothing is published"):
            merge_shards(recipe, tmp_path / "shards", keep_shards=keep_shards)
    assert pq.read_metadata(rows).num_rows == 2
    assert not (tmp_path / "out").exists()
    assert merge_shards(recipe, tmp_path / "shards", keep_shards=keep_shards).rows_out["math-stage1"] == 4


def test_kept_files_of_a_merge_are_those_whose_digests_were_read(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard that is run again while the merge publishes gives its files to the next merge."""
    recipe = recipe_with(model, tmp_path)
    run_both(recipe, tmp_path)
    publish = runner.publish_tables

    def after_a_change(*arguments: Any, **options: Any) -> Any:
        for path in (tmp_path / "shards" / "kept").iterdir():
            path.with_suffix(".new").write_bytes(b"rows of the next run")
            path.with_suffix(".new").replace(path)
        return publish(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(merging, "publish_tables", after_a_change)
        merge_shards(recipe, tmp_path / "shards", keep_shards=True)
    tables = [pq.read_table(path) for path in sorted((tmp_path / "out" / "math-stage1").glob("*.parquet"))]
    assert [len(table) for table in tables] == [2, 2]


def test_a_finished_shard_sends_requests_again_that_ask_again_names(model: Model, tmp_path: Path) -> None:
    model.fails = "empty"
    recipe = recipe_with(model, tmp_path)
    run_both(recipe, tmp_path)
    assert merge_shards(recipe, tmp_path / "shards").rows_out["math-stage1"] == 3
    assert len(model.server.requests) == 4
    model.fails = ""
    again = recipe.model_copy(update={"ask_again": ("empty",), "replace": True})
    run_both(again, tmp_path)
    assert len(model.server.requests) == 5
    assert merge_shards(again, tmp_path / "shards").rows_out["math-stage1"] == 4
    run_both(recipe, tmp_path)
    assert len(model.server.requests) == 5


def test_files_of_killed_processes_are_removed_after_a_day(model: Model, tmp_path: Path) -> None:
    recipe = recipe_with(model, tmp_path)
    run_both(recipe, tmp_path)
    folders = [tmp_path / "shards" / name for name in ("kept", "dropped", "done", "stages")]
    for folder in folders:
        for name, age in ((".tmp-old", STALE_SECONDS + 60), (".tmp-new", 0), ("tmp-of-others.parquet", 0)):
            (folder / name).write_bytes(b"rows")
            os.utime(folder / name, times=(time.time() - age,) * 2)
    expected = ShardFolder(tmp_path / "shards").record(Shard(1, 2)).read_bytes()
    run_shard(recipe, tmp_path / "shards", 0, 2)
    assert not [folder for folder in folders if (folder / ".tmp-old").exists()]
    assert all((folder / ".tmp-new").exists() for folder in folders), "perhaps of a process that runs"
    assert ShardFolder(tmp_path / "shards").record(Shard(1, 2)).read_bytes() == expected
    assert merge_shards(recipe, tmp_path / "shards").rows_out["math-stage1"] == 4
    assert published_files(tmp_path / "out")


def test_a_further_run_of_a_shard_keeps_what_is_published_beside_its_files(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path / "out", rows=2, teachers=["annotations"], responders=[])
    run_shard(recipe, tmp_path, 0, 1)
    merge_shards(recipe, tmp_path, out=tmp_path / "published")
    files = published_files(tmp_path / "published")
    ShardFolder(tmp_path).record(Shard(0, 1)).unlink()
    run_shard(recipe, tmp_path, 0, 1)
    assert published_files(tmp_path / "published") == files
    assert any(name.endswith(".parquet") for name in files)
