"""A run in shards publishes the files of a run without shards, and nothing that is incomplete or wrong."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import load_dataset

from tests.support.api_server import ApiServer, error
from tests.support.caches import use_caches
from tests.support.shards import published_files, run_in_shards, run_locally, small_recipe, with_engines
from toolrlef_data import EngineSpec, InputError, Limits, ToolrlefError, load_source, merge_shards, run_shard, scripted
from toolrlef_data.cli.main import app
from toolrlef_data.engines.spec import Request
from toolrlef_data.publishing.parquet_files import write_file
from toolrlef_data.recipes.runner import load_questions
from toolrlef_data.recipes.schema import Recipe, WarmUp
from toolrlef_data.recipes.shards import running
from toolrlef_data.recipes.shards.chains import find_chain
from toolrlef_data.recipes.shards.folders import ShardFolder
from toolrlef_data.recipes.shards.limits import divided, divided_limits
from toolrlef_data.recipes.shards.numbers import Shard
from toolrlef_data.records import Reply, TooManyFailures
from toolrlef_data.tables.files import read_json, write_json

OWN_ROWS = "q,a\n" + "".join(f"What is {n} plus {n}?,{2 * n}\n" for n in range(9)) + ",7\n"
TOOLS = {
    "qa": {"tool": {"kind": "wiki_search", "corpus": "sample"}, "reader": "model", "rule": "paper"},
    "lama": {"tool": {"kind": "qa_engine", "engine": "model", "search": {"kind": "wiki_search", "corpus": "sample"}}},
}
# The recipe must not matter: sources and tasks, drawn rows, measured need, layouts, the cassette, cards.
VARIANTS: dict[str, dict[str, Any]] = {
    "drawn": {"sources": [{"name": "sample", "rows": 11, "seed": 3}], "cassette": True},
    "two sources": {"sources": [{"name": "sample", "rows": 7}, {"name": "own.csv", "task": "math", "question": "q", "answers": "a"}]},
    "test set": {"decontaminate": {"against": ["test.csv"]}},
    "trice": {"layout": "trice"},
    "need": {"need": {"engine": "warm", "samples": 4, "unsure": "grade"}, "student": {"engine": "warm", "samples": 2}},
    "tasks": {
        "sources": [{"name": "sample", "rows": 5}, {"name": "sample_qa", "rows": 4}, {"name": "sample_lama", "rows": 4}],
        "tasks": TOOLS, "keep_unverified": True, "cassette": True, "compat": True,
    },
}  # fmt: skip


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_files_are_those_of_a_local_run(
    variant: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.csv").write_text(OWN_ROWS)
    Path("test.csv").write_text(f'question\n"{load_source("sample", split="train")[3]["question"]}"\n')
    recipe = small_recipe(tmp_path / "out", rows=8, **VARIANTS[variant])
    expected = run_locally(recipe, tmp_path)
    assert len(expected) > 2
    assert run_in_shards(recipe, tmp_path, count) == expected


ENGINE_TOOLS = {
    "lama": {"tool": {"kind": "qa_engine", "engine": "warm", "search": {"kind": "wiki_search", "corpus": "sample"}}},
    "mlqa": {"tool": {"kind": "translator_engine", "engine": "warm"}, "reader": "model"},
}


def call_tools(request: Request) -> Reply:
    """Call the tool of the task with one of three arguments, some of which two shards have in common."""
    system, text = request.messages[0].content, request.messages[-1].content
    if "river" in text:  # a request of a tool
        return Reply(
            "" if "blue" in text else f"A river of {len(text)} m", prompt_tokens=len(text), completion_tokens=7
        )
    tool = "translator" if "translat" in system else "QA"
    name = ("river Po", "blue river", "river Inn")[len(text) % 3]
    return Reply(f"{tool}(Which {name}?)", prompt_tokens=len(text), completion_tokens=5)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_the_calls_of_an_engine_count_once_over_all_shards(count: int, tmp_path: Path) -> None:
    sources = [{"name": "sample_lama", "rows": 6}, {"name": "sample_mlqa", "rows": 5}]
    options: dict[str, Any] = {"teachers": ["model"], "keep_unverified": True, "cassette": True}
    recipe = small_recipe(tmp_path / "out", sources=sources, tasks=ENGINE_TOOLS, **options)
    model = scripted(call_tools, progress=False)
    recipe = with_engines(recipe, model=model, warm=dataclasses.replace(model, temperature=0.5))
    expected = run_locally(recipe, tmp_path)
    assert run_in_shards(recipe, tmp_path, count) == expected
    local = read_json(tmp_path / "local" / "provenance.json")["stages"].values()
    for tool in ("QA", "translator"):
        assert any(stage["step"] == tool and stage["usage"]["completion_tokens"] for stage in local)
    records = [read_json(path) for path in (tmp_path / "shards" / "done").iterdir()]
    sent = sum(stage["rows_in"] for record in records for stage in record["stages"] if stage["is_distinct"])
    needed = sum(stage["rows_in"] for stage in local if stage["step"].endswith(("QA", "translator")))
    assert (sent > needed) == (count > 1), "calls are repeated in shards"


def test_more_shards_than_rows_change_nothing(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path / "out", rows=6, teachers=["annotations"], responders=[])
    assert run_in_shards(recipe, tmp_path, 64) == run_locally(recipe, tmp_path)


def recipe_with_drops(tmp_path: Path) -> Recipe:
    """Return a recipe that drops all questions but those about 4 and 8."""
    (tmp_path / "own.csv").write_text(OWN_ROWS)
    source = {"name": str(tmp_path / "own.csv"), "task": "math", "question": "q", "answers": "a"}
    replies = {"": "I do not know.", "4 plus": "It is 8.", "8 plus": "It is 16."}
    return small_recipe(tmp_path / "out", replies, sources=[source], teachers=["annotations"])


def test_all_rows_are_dropped_in_some_shards(tmp_path: Path) -> None:
    recipe = recipe_with_drops(tmp_path)
    expected = run_locally(recipe, tmp_path)
    assert any("dropped" in name for name in expected)
    assert run_in_shards(recipe, tmp_path, 5) == expected


def test_kept_shards_have_the_same_rows_in_files_of_their_own(tmp_path: Path) -> None:
    recipe = recipe_with_drops(tmp_path)
    run_locally(recipe, tmp_path)
    files = run_in_shards(recipe, tmp_path, 3, keep_shards=True)
    assert sum(name.startswith("math-stage2/train-") for name in files) == 2, "a shard without rows has no file"
    for config in ("math-stage1", "math-stage2", "math-dropped"):
        tables = [load_dataset(str(tmp_path / name), config, split="train") for name in ("local", "merged")]
        assert tables[0].to_list() == tables[1].to_list()
        assert tables[0].features == tables[1].features
    assert list((tmp_path / "shards" / "kept").glob("math-stage2-*")), "the files of the shards stay"


def test_the_chain_depends_on_settings_and_rows_alone(tmp_path: Path) -> None:
    def chain(folder: str, **sections: Any) -> str:
        (tmp_path / folder).mkdir()
        with use_caches(tmp_path / f"caches-{folder}"):
            recipe = small_recipe(tmp_path / folder, **{"rows": 4, **sections})
            recipe = with_engines(recipe, model=dataclasses.replace(recipe.engines["model"], concurrency=3))
            return find_chain(recipe, load_questions(recipe), tmp_path / folder).key

    first = chain("a")
    assert chain("b", card={"license": "mit"}, version="2.0.0") == first
    assert chain("c", attempts=2) != first
    assert chain("d", rows=5) != first


# Incomplete and damaged shards ----------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def count_up(path: Path) -> None:
    path.write_text(path.read_text().replace('"requests": 2', '"requests": 3', 1))


DAMAGE: dict[str, tuple[Callable[[ShardFolder, Shard], Any], str]] = {
    "missing record": (lambda place, shard: place.record(shard).unlink(), "missing: 1"),
    "cut record": (lambda place, shard: cut(place.record(shard)), "damaged: 1"),
    "empty record": (lambda place, shard: place.record(shard).write_bytes(b""), "damaged: 1"),
    "cut rows": (lambda place, shard: cut(place.kept("math-stage2", shard)), "damaged kept/math-stage2-00001-of-00003"),
    "other count": (lambda place, shard: count_up(place.record(shard)), "damaged: 1"),
    "flipped ledger": (lambda place, shard: flip(place.dropped(shard)), "damaged dropped/00001-of-00003.parquet: 1"),
    "missing rows": (lambda place, shard: place.kept("math-stage1", shard).unlink(), "without kept/math-stage1-00001"),
    "other chain": (
        lambda place, shard: write_json(place.record(shard), {**read_json(place.record(shard)), "chain": "0"}),
        "another recipe, source or version: 1",
    ),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Return a folder with three finished shards, and the files of the local run."""
    folder = tmp_path_factory.mktemp("finished")
    recipe = small_recipe(folder / "out", rows=6)
    for index in range(3):
        with use_caches(folder / "caches"):
            run_shard(recipe, folder / "shards", index, 3)
    return folder / "shards", run_locally(recipe, folder)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_shard_is_named_and_made_again(
    case: str, finished: tuple[Path, dict[str, str]], tmp_path: Path, copy_tree: Any
) -> None:
    shards, expected = copy_tree(finished[0], tmp_path / "shards"), finished[1]
    damage, words = DAMAGE[case]
    damage(ShardFolder(shards), Shard(1, 3))
    recipe = small_recipe(tmp_path / "out", rows=6)
    with pytest.raises(ToolrlefError, match=f"2 of 3 shards .*{words}.*--shard 1/3"):
        merge_shards(recipe, shards)
    assert not (tmp_path / "out").exists()
    run_shard(recipe, shards, 1, 3)
    merge_shards(recipe, shards)
    assert published_files(tmp_path / "out") == expected


def test_merge_refuses_another_recipe(finished: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path / "out", rows=6, attempts=3)
    with pytest.raises(ToolrlefError, match=r"0 of 3 shards .*another recipe, source or version: 0-2"):
        merge_shards(recipe, finished[0])
    assert not (tmp_path / "out").exists()


def test_merge_needs_a_folder_of_shards(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no shards"):
        merge_shards(small_recipe(tmp_path / "out"), tmp_path / "nothing")


def test_another_number_of_shards_is_refused(finished: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the folder of 3 shards.*--shard I/3"):
        run_shard(small_recipe(tmp_path / "out", rows=6), finished[0], 0, 2)


def test_a_shard_that_another_process_runs_is_refused(
    finished: tuple[Path, dict[str, str]], tmp_path: Path, copy_tree: Any
) -> None:
    shards = copy_tree(finished[0], tmp_path / "shards")
    recipe = small_recipe(tmp_path / "out", rows=6)
    with ShardFolder(shards).locked(Shard(1, 3)):
        with pytest.raises(InputError, match=r"the shard 1/3 .* is run by another process"):
            run_shard(recipe, shards, 1, 3)
        run_shard(recipe, shards, 2, 3)


def test_a_full_disk_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is always full stands for the file of the rows."""
    recipe = small_recipe(tmp_path / "out", rows=4)
    monkeypatch.setattr(running, "write_file", lambda data, path: write_file(data, Path("/dev/full")))
    with pytest.raises(ToolrlefError, match=r"the disk under .* is full"):
        run_shard(recipe, tmp_path / "shards", 0, 1)
    assert not ShardFolder(tmp_path / "shards").record(Shard(0, 1)).exists()
    monkeypatch.undo()
    with use_caches(tmp_path / "caches"):
        run_shard(recipe, tmp_path / "shards", 0, 1)
        merge_shards(recipe, tmp_path / "shards")
    assert published_files(tmp_path / "out") == run_locally(recipe, tmp_path)


# Requests -------------------------------------------------------------------------------------------------------------


def api_recipe(server: ApiServer, out: Path, **settings: Any) -> Recipe:
    engine = EngineSpec(
        "openai_api", "x", base_url=server.url, progress=False, **{"limits": Limits(backoff=0.01), **settings}
    )
    recipe = small_recipe(out, rows=8, teachers=["annotations"], responders=[])
    return with_engines(recipe, model=engine, warm=dataclasses.replace(engine, temperature=0.9))


def test_each_question_is_asked_once_and_a_finished_shard_nothing(tmp_path: Path) -> None:
    with ApiServer() as server:
        recipe = api_recipe(server, tmp_path / "out")
        for _ in range(2):
            for index in range(3):
                run_shard(recipe, tmp_path / "shards", index, 3)
        merge_shards(recipe, tmp_path / "shards")
        assert len(server.requests) == 8


def test_failed_requests_are_sent_again_by_a_finished_shard(tmp_path: Path) -> None:
    is_down = threading.Event()
    is_down.set()
    with ApiServer(lambda received, repeats: error(503, "overloaded", "later") if is_down.is_set() else None) as server:
        recipe = api_recipe(server, tmp_path / "out", retries=0, max_failed=0.1)
        for index in range(2):  # few rows: a shard alone does not stop
            run_shard(recipe, tmp_path / "shards", index, 2)
        with pytest.raises(TooManyFailures, match="answer: 8 of 8 requests"):
            merge_shards(recipe, tmp_path / "shards")
        assert not (tmp_path / "out").exists()
        is_down.clear()
        for index in range(2):
            run_shard(recipe, tmp_path / "shards", index, 2)
        merged = merge_shards(recipe, tmp_path / "shards")
        assert not merged.retryable
        assert len(server.requests) == 16
        with use_caches(tmp_path / "fresh"):
            assert run_locally(recipe, tmp_path) == published_files(tmp_path / "out")


def test_a_recipe_that_needs_all_rows_is_refused_before_a_request(tmp_path: Path) -> None:
    with ApiServer() as server:
        recipe = api_recipe(server, tmp_path / "out")
        warm_up = WarmUp(name="w", engine="model")
        with pytest.raises(InputError, match="warm_up trains on stage 1 of all rows"):
            run_shard(recipe.model_copy(update={"warm_up": warm_up}), tmp_path / "shards", 0, 2)
        few = api_recipe(server, tmp_path / "out", limits=Limits(max_requests=3))
        with pytest.raises(InputError, match="max_requests=3 is less than the number of shards, 4"):
            run_shard(few, tmp_path / "shards", 0, 4)
        assert not server.requests


@pytest.mark.parametrize(("index", "count"), [(2, 2), (-1, 2), (0, 0), ("0", 2), (True, 2)])
def test_a_number_out_of_range_is_refused(index: Any, count: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"index|count"):
        run_shard(small_recipe(tmp_path / "out"), tmp_path / "shards", index, count)


def test_caps_and_rates_are_divided(tmp_path: Path) -> None:
    limits = Limits(rpm=60, tpm=8000, max_requests=10, max_tokens_total=9, max_cost=2.0, price=(1.0, 1.0))
    recipe = small_recipe(tmp_path)
    recipe = with_engines(recipe, model=EngineSpec("openai_api", "x", base_url="http://x/v1", limits=limits))
    part = divided(recipe, 4, 1000).engines["model"].limits
    assert (part.rpm, part.tpm, part.max_requests, part.max_tokens_total, part.max_cost) == (15, 2000, 2, 2, 0.5)
    assert divided_limits(recipe, 4) == [
        "engines.model: each of 4 shards gets rpm=15, tpm=2000, max_cost=0.5, max_requests=2, max_tokens_total=2"
    ]
    assert divided(recipe, 4, 1000).engines["model"].max_failed == 0.2  # a share, but not of a few rows
    assert divided(recipe, 4, 10).engines["model"].max_failed == 1.0


# The commands ---------------------------------------------------------------------------------------------------------


def test_the_commands_run_and_merge_shards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(*arguments: object) -> str:
        app([*map(str, arguments)], standalone_mode=False)
        return capsys.readouterr().out

    with ApiServer() as server:
        values = {
            "name": "Small", "version": "1.0.0", "out": str(tmp_path / "data"), "sources": [{"name": "sample"}],
            "engines": {"m": {"kind": "openai_api", "model": "x", "base_url": server.url, "limits": {"rpm": 60000}}},
            "student": {"engine": "m"}, "responders": [{"name": "one", "engine": "m"}],
        }  # fmt: skip
        recipe, folder = tmp_path / "recipe.yaml", tmp_path / "run"
        recipe.write_text(yaml.safe_dump(values))
        shared = [recipe, "--rows", 5, "--folder", folder]
        for name, value in {"ID": "2", "MIN": "1", "MAX": "2", "COUNT": "2"}.items():
            monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
        assert "shard 1/2 is finished" in command("run", *shared)
        with pytest.raises(ToolrlefError, match=r"1 of 2 shards .*missing: 0"):
            command("merge", *shared)
        assert "questions (math)" in command("run", *shared, "--shard", "0/2")
        with pytest.raises(InputError, match="--out and --replace are options of toolrlef-data merge"):
            command("run", *shared, "--shard", "0/2", "--out", tmp_path / "x")
        with pytest.raises(InputError, match="--shard needs --folder"):
            command("run", recipe, "--shard", "0/2")
        assert f"Published: {tmp_path / 'data'}" in command("merge", *shared)
        asked = len(server.requests)
        assert len(load_dataset(str(tmp_path / "data"), "math-stage1", split="train")) > 0
        stores = sorted(folder.glob("replies-*.sqlite"))
        assert f"{asked} replies were added" in command("replies", "merge", tmp_path / "all.sqlite", *stores)
        monkeypatch.setenv("TOOLRLEF_REPLIES", str(tmp_path / "all.sqlite"))
        command("run", recipe, "--rows", 5, "--out", tmp_path / "again")
        assert len(server.requests) == asked, "all replies are in the merged store"
    assert published_files(tmp_path / "again") == published_files(tmp_path / "data")
