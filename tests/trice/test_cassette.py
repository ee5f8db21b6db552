"""A cassette holds every execution, and stage 2 comes out of it again without a tool, a model or a corpus."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import datasets
import pytest
from datasets import Dataset, Value, load_dataset

from tests.support.caches import use_caches
from toolrlef_data import (
    InputError,
    Responder,
    Tool,
    answer,
    apply,
    build_stage1,
    build_stage2,
    execute,
    grade,
    publish,
    respond,
    scripted,
)
from toolrlef_data.columns import QUESTIONS, STAGE1
from toolrlef_data.engines.spec import Request
from toolrlef_data.records import CassetteMiss, MissingColumns, ToolResult
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.tool import ToolInput
from toolrlef_data.trice.cassette import EXECUTIONS, collect_executions

PASSAGES = {"Etna": ("Etna stands on Sicily.", "Volcanoes are hot."), "Danube": ("The Danube is long.",)}


def search(folder: str, inputs: Sequence[ToolInput]) -> list[ToolResult]:
    assert Path(folder).is_dir(), "a replay must not run the tool"
    none = ToolResult(error="no_result")
    return [ToolResult(PASSAGES[each.argument]) if each.argument in PASSAGES else none for each in inputs]


def quiet(script: Any) -> Any:
    return scripted(script, progress=False)


def rows(task: str, outputs: Sequence[str], answer: str) -> Dataset:
    return Dataset.from_list(
        [
            {"instruction": "Answer.", "input": f"Question {i}?", "output": text, "id": f"{task}-{i}", "task": task, "dataset": "x",
             "answers": [answer], "uses_tool": True, "source": "teacher", "verified_by": None}
            for i, text in enumerate(outputs)
        ],
        features=STAGE1,
    )  # fmt: skip


def qa_over(corpus: Path) -> Task:
    tool = Tool(
        "WikiSearch", "Searches.", parameter="query", many=functools.partial(search, str(corpus)), version="corpus 1"
    )
    return replace(TASKS["qa"], tool=tool, reader=quiet({"Sicily": "Sicily", "": "no idea"}))


@pytest.fixture
def qa(tmp_path: Path) -> Task:
    (tmp_path / "corpus").mkdir()
    return qa_over(tmp_path / "corpus")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks, published with what is needed to build stage 2 again; the tool is gone by then."""
    corpus, out = tmp_path_factory.mktemp("corpus"), tmp_path_factory.mktemp("published") / "out"
    with use_caches(tmp_path_factory.mktemp("caches")):
        publish(two_tasks(qa_over(corpus)), out, version="1.0.0", cassette=True)
    corpus.rmdir()
    return out


def two_tasks(qa: Task) -> dict[str, dict[str, Dataset]]:
    others = [
        Responder("same", quiet({"": "WikiSearch(Danube) calculator(1+1)"})),
        Responder("none", quiet({"": "Sicily"})),
    ]
    tables: dict[str, dict[str, Dataset]] = {}
    for task, outputs, gold in (
        ("qa", ["WikiSearch(Etna)", "WikiSearch(Atlantis)", "WikiSearch(Etna)"], "Sicily"),
        ("math", ["calculator(3*19)", "calculator(1/0)"], "57"),
    ):
        candidates = respond(rows(task, outputs, gold), others)
        stage2 = build_stage2(candidates, task={"qa": qa})
        tables[task] = {"responded": candidates, "stage2": stage2}
    return tables


def config(folder: Path, name: str) -> Dataset:
    table: Dataset = load_dataset(str(folder), name, split="train")
    return table


def test_a_replay_gives_the_same_stage_2_without_tool_model_or_cache(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = {
        name: config(published, name)
        for name in ("qa-responded", "qa-stage2", "qa-cassette", "math-responded", "math-stage2", "math-cassette")
    }
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "another")
    monkeypatch.setenv("TOOLRLEF_REPLIES", str(tmp_path / "another.sqlite"))
    for task in ("qa", "math"):
        again = build_stage2(tables[f"{task}-responded"], cassette=tables[f"{task}-cassette"])
        assert again.to_list() == tables[f"{task}-stage2"].to_list()
    assert not (tmp_path / "another.sqlite").exists(), "a replay asks no store"


def test_every_execution_stands_in_it_once_with_its_version_and_error(published: Path) -> None:
    told = {(r["tool"], r["argument"]): r for r in config(published, "qa-cassette") if r["tool"] == "WikiSearch"}
    assert {argument for _, argument in told} == {"Etna", "Danube", "Atlantis"}
    assert told["WikiSearch", "Etna"]["output"] == list(PASSAGES["Etna"])
    assert (told["WikiSearch", "Atlantis"]["output"], told["WikiSearch", "Atlantis"]["error"]) == ([], "no_result")
    assert {row["version"] for row in told.values()} == {"corpus 1"}
    readings = [r["output"] for r in config(published, "qa-cassette") if r["tool"] == "reader of WikiSearch"]
    expected = [["Sicily", "no idea"]] * 2 + [["no idea"]] * 3  # Etna for two questions, Danube for three
    assert sorted(readings) == expected
    math = {r["argument"]: (r["output"], r["error"]) for r in config(published, "math-cassette")}
    assert math == {"3*19": (["57"], None), "1/0": ([], "zero_division"), "1+1": (["2"], None)}


def test_a_miss_names_what_is_missing(published: Path) -> None:
    cassette, candidates = config(published, "qa-cassette"), config(published, "qa-responded")
    without = cassette.filter(lambda row: row["argument"] != "Etna")
    with pytest.raises(CassetteMiss, match=r"holds no WikiSearch\('Etna'\) for qa 'qa-0'"):
        build_stage2(candidates, cassette=without)
    without = cassette.filter(lambda row: not row["tool"].startswith("reader"))
    with pytest.raises(CassetteMiss, match=r"holds no reader of WikiSearch\('Etna'\) for qa 'qa-0'"):
        build_stage2(candidates, cassette=without)


def test_another_cassette_is_another_result_and_a_wrong_table_is_refused(published: Path) -> None:
    candidates, cassette = config(published, "math-responded"), config(published, "math-cassette")
    changed = cassette.map(lambda row: {"output": ["58"] if row["argument"] == "3*19" else row["output"]})
    first, second = (build_stage2(candidates, cassette=table)[0]["answer"][0] for table in (cassette, changed))
    assert (first, second) == ("57.0", "58.0")
    with pytest.raises(MissingColumns, match="cassette= lacks tool"):
        execute(candidates, cassette=candidates)
    with pytest.raises(InputError, match="takes one Dataset"):
        execute(candidates, cassette=str(published))


def test_a_mix_reads_the_tasks_files_and_nothing_is_copied(published: Path) -> None:
    both = config(published, "mix-stage2")
    assert both.to_list() == [*config(published, "qa-stage2"), *config(published, "math-stage2")]
    assert not (published / "mix-stage2").exists()
    assert "`mix-stage2` reads the files of `math-stage2`, `qa-stage2`" in (published / "README.md").read_text(
        encoding="utf-8"
    )


def test_a_stage_that_was_deleted_is_told(qa: Task) -> None:
    stage2 = build_stage2(respond(rows("qa", ["WikiSearch(Etna)"], "Sicily"), []), task=qa)
    table = collect_executions([stage2])
    assert table.features == EXECUTIONS
    assert len(table) == 2
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "toolrlef_data"
    for file in folder.glob("*.arrow"):
        file.unlink()
    with pytest.raises(InputError, match="gone from the cache: build the tables again"):
        collect_executions([stage2])


def test_the_originals_layout_has_no_place_for_it(qa: Task, tmp_path: Path) -> None:
    stage2 = build_stage2(respond(rows("qa", ["WikiSearch(Etna)"], "Sicily"), []), task=qa)
    with pytest.raises(InputError, match="no place for a cassette"):
        publish({"qa": {"stage2": stage2}}, tmp_path / "out", version="1.0.0", layout="trice", cassette=True)


FAULT = ToolResult(error="timeout", detail="too slow")


def moody(folder: str, inputs: Sequence[ToolInput]) -> list[ToolResult]:
    return [FAULT if (Path(folder) / "down").exists() else ToolResult(PASSAGES["Etna"]) for _ in inputs]


def test_of_two_executions_the_later_one_is_played(tmp_path: Path) -> None:
    """A call that timed out while stage 1 was verified, and worked for stage 2."""
    tool = Tool("WikiSearch", "Searches.", many=functools.partial(moody, str(tmp_path)))
    qa = replace(TASKS["qa"], tool=tool, reader=quiet({"": "Sicily"}))
    questions = [
        {
            "id": "a",
            "task": "qa",
            "dataset": "x",
            "question": "Where?",
            "context": "",
            "answers": ["Sicily"],
            "solution": "",
            "split_origin": "",
        }
    ]
    graded = grade(answer(Dataset.from_list(questions, features=QUESTIONS), quiet({"": "Hm."}), task=qa), task=qa)
    (tmp_path / "down").touch()
    stage1 = build_stage1(graded, quiet({"": "WikiSearch(Etna)"}), attempts=1, keep_unverified=True, task=qa)
    (tmp_path / "down").unlink()
    candidates = respond(stage1, [], task=qa)
    stage2 = build_stage2(candidates, task=qa)
    assert len(stage2) == 1
    assert build_stage2(candidates, cassette=collect_executions([stage2])).to_list() == stage2.to_list()


def by_language(inputs: Sequence[ToolInput]) -> list[ToolResult]:
    return [ToolResult(f"{each.argument} from {each.language}") for each in inputs]


def echo(request: Request) -> str:
    return f"{request.messages[-1].content[-20:]} {request.seed}"


def test_a_row_is_played_what_it_was_given() -> None:
    """One argument in two languages, read by a model that is sampled for each row anew."""
    tool = Tool("translator", "Translates.", many=by_language)
    mlqa = replace(TASKS["mlqa"], tool=tool, reader=scripted(echo, progress=False, temperature=1.0))
    table = rows("mlqa", ["translator(Hotel?)", "translator(Hotel?)"], "from de")
    table = table.map(
        lambda row, i: {"id": ["mlqa-a#de", "mlqa-a#es"][i], "input": "Context: c\nQuestion: Hotel?"}, with_indices=True
    )
    candidates = respond(table, [])
    stage2 = build_stage2(candidates, task=mlqa)
    assert len({answer for row in stage2["answer"] for answer in row}) == 2
    assert build_stage2(candidates, cassette=collect_executions([stage2])).to_list() == stage2.to_list()


@dataclass(frozen=True)
class Own:
    """Settings that call themselves like ours."""

    kind: ClassVar[str] = "execute"
    names: tuple[str, ...] = ("input",)


def read(row: Any, settings: Own | None) -> dict[str, Any]:
    return {"input": row["input"].upper()}


@pytest.mark.parametrize(("name", "settings"), [("read", None), ("execute", Own())])
def test_a_step_of_the_users_own_may_be_called_like_ours(qa: Task, name: str, settings: Own | None) -> None:
    table = rows("qa", ["WikiSearch(Etna)"], "Sicily")
    table = apply(table, read, settings, reads=["input"], adds={"input": Value("string")}, name=name)
    assert len(collect_executions([build_stage2(respond(table, []), task=qa)])) == 2


def test_a_cassette_of_tables_with_a_cut_trail_is_refused(qa: Task, tmp_path: Path) -> None:
    stage2 = build_stage2(respond(rows("qa", ["WikiSearch(Etna)"], "Sicily"), []), task=qa).select([0])
    with pytest.raises(InputError, match="no execution is known behind these"):
        publish({"qa": {"stage2": stage2}}, tmp_path / "out", version="1.0.0", cassette=True)
    assert not (tmp_path / "out").exists()
