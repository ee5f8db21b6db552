"""Cassettes record every execution and rebuild stage 2 without a tool, a model or a corpus."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import datasets
import pytest
from datasets import Dataset, Features, Value, load_dataset

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
from toolrlef_data.columns import QUESTIONS, RESPONSE, STAGE1, responders_of
from toolrlef_data.engines.spec import Request
from toolrlef_data.records import CassetteMiss, MissingColumns, ToolResult, ToolrlefError
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.tool import ToolInput
from toolrlef_data.trice.cassette import EXECUTIONS, collect_executions

PASSAGES = {"Etna": ("Etna stands on Sicily.", "Volcanoes are hot."), "Danube": ("The Danube is long.",)}


def search(folder: str, inputs: Sequence[ToolInput]) -> list[ToolResult]:
    assert Path(folder).is_dir(), "a replay must not run the tool"
    none = ToolResult(error="no_result")
    return [ToolResult(PASSAGES[i.argument]) if i.argument in PASSAGES else none for i in inputs]


def quiet(script: Any) -> Any:
    return scripted(script, progress=False)


def rows(task: str, outputs: Sequence[str], answer: str) -> Dataset:
    return Dataset.from_list(
        [
            {"instruction": "Answer.", "input": f"Question {i}?", "output": text, "id": f"{task}-{i}", "task": task, "dataset": "x",
             "answers": [answer], "uses_tool": None, "source": "teacher", "verified_by": None}
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
    """Return a folder with two tasks and their cassettes; the tool's corpus is deleted."""
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


def test_replay_returns_the_same_stage_2_without_tool_model_or_cache(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = {
        name: config(published, name)
        for name in ("qa-responded", "qa-stage2", "qa-cassette", "math-responded", "math-stage2", "math-cassette")
    }
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "another")
    monkeypatch.setenv("TOOLRLEF_REPLIES", str(tmp_path / "another.sqlite"))
    for task in ("qa", "math"):
        replayed = build_stage2(tables[f"{task}-responded"], cassette=tables[f"{task}-cassette"])
        assert replayed.to_list() == tables[f"{task}-stage2"].to_list()
    assert not (tmp_path / "another.sqlite").exists(), "a replay does not open the reply store"


def test_tables_without_the_column_arguments_are_replayed(published: Path) -> None:
    """As published by earlier versions."""
    for task in ("qa", "math"):
        table = config(published, f"{task}-responded")
        names = responders_of(table.features)
        older = {name: feature for name, feature in RESPONSE.items() if name != "arguments"}
        features = Features({**table.features, **dict.fromkeys(names, older)})
        responses = {name: [{k: value[k] for k in older} for value in table[name]] for name in names}
        rows = Dataset.from_dict({**table.to_dict(), **responses}, features=features)
        replayed = build_stage2(rows, cassette=config(published, f"{task}-cassette"))
        assert replayed.to_list() == config(published, f"{task}-stage2").to_list()


def test_each_execution_is_recorded_once_with_version_and_error(published: Path) -> None:
    calls = {(r["tool"], r["argument"]): r for r in config(published, "qa-cassette") if r["tool"] == "WikiSearch"}
    assert {argument for _, argument in calls} == {"Etna", "Danube", "Atlantis"}
    assert calls["WikiSearch", "Etna"]["output"] == list(PASSAGES["Etna"])
    assert (calls["WikiSearch", "Atlantis"]["output"], calls["WikiSearch", "Atlantis"]["error"]) == ([], "no_result")
    assert {row["version"] for row in calls.values()} == {"corpus 1"}
    predictions = [r["output"] for r in config(published, "qa-cassette") if r["tool"] == "reader of WikiSearch"]
    expected = [["Sicily", "no idea"]] * 2 + [["no idea"]] * 3  # Etna for two questions, Danube for three
    assert sorted(predictions) == expected
    math = {r["argument"]: (r["output"], r["error"]) for r in config(published, "math-cassette")}
    assert math == {"3*19": (["57"], None), "1/0": ([], "zero_division"), "1+1": (["2"], None)}


def test_a_miss_names_the_missing_call(published: Path) -> None:
    cassette, candidates = config(published, "qa-cassette"), config(published, "qa-responded")
    without = cassette.filter(lambda row: row["argument"] != "Etna")
    with pytest.raises(CassetteMiss, match=r"does not contain WikiSearch\('Etna'\) for qa 'qa-0'"):
        build_stage2(candidates, cassette=without)
    without = cassette.filter(lambda row: not row["tool"].startswith("reader"))
    with pytest.raises(CassetteMiss, match=r"does not contain reader of WikiSearch\('Etna'\) for qa 'qa-0'"):
        build_stage2(candidates, cassette=without)


def test_the_result_depends_on_the_cassette_and_a_wrong_table_is_rejected(published: Path) -> None:
    candidates, cassette = config(published, "math-responded"), config(published, "math-cassette")
    changed = cassette.map(lambda row: {"output": ["58"] if row["argument"] == "3*19" else row["output"]})
    first, second = (build_stage2(candidates, cassette=table)[0]["answer"][0] for table in (cassette, changed))
    assert (first, second) == ("57.0", "58.0")
    with pytest.raises(MissingColumns, match="the cassette lacks the columns tool"):
        execute(candidates, cassette=candidates)
    with pytest.raises(InputError, match="cassette: expected one Dataset, found str"):
        execute(candidates, cassette=str(published))


def test_a_mix_reads_the_files_of_its_tasks_without_copies(published: Path) -> None:
    both = config(published, "mix-stage2")
    assert both.to_list() == [*config(published, "qa-stage2"), *config(published, "math-stage2")]
    assert not (published / "mix-stage2").exists()
    assert "`mix-stage2` reads the files of `math-stage2`, `qa-stage2`" in (published / "README.md").read_text(
        encoding="utf-8"
    )


def test_a_deleted_stage_raises(qa: Task) -> None:
    stage2 = build_stage2(respond(rows("qa", ["WikiSearch(Etna)"], "Sicily"), []), task=qa)
    table = collect_executions([stage2])
    assert table.features == EXECUTIONS
    assert len(table) == 2
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "toolrlef_data"
    for file in folder.glob("*.arrow"):
        file.unlink()
    with pytest.raises(ToolrlefError, match=r"of the stage 'execute' is missing: run the stages again"):
        collect_executions([stage2])


def test_the_trice_layout_has_no_place_for_a_cassette(qa: Task, tmp_path: Path) -> None:
    stage2 = build_stage2(respond(rows("qa", ["WikiSearch(Etna)"], "Sicily"), []), task=qa)
    with pytest.raises(InputError, match="has no cassette"):
        publish({"qa": {"stage2": stage2}}, tmp_path / "out", version="1.0.0", layout="trice", cassette=True)


TIMEOUT = ToolResult(error="timeout", detail="too slow")


def unreliable_search(folder: str, inputs: Sequence[ToolInput]) -> list[ToolResult]:
    return [TIMEOUT if (Path(folder) / "down").exists() else ToolResult(PASSAGES["Etna"]) for _ in inputs]


def test_replay_uses_the_later_of_two_executions(tmp_path: Path) -> None:
    """A call times out for stage 1 and succeeds for stage 2."""
    tool = Tool("WikiSearch", "Searches.", many=functools.partial(unreliable_search, str(tmp_path)))
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


def translate_by_language(inputs: Sequence[ToolInput]) -> list[ToolResult]:
    return [ToolResult(f"{i.argument} from {i.language}") for i in inputs]


def echo_with_seed(request: Request) -> str:
    return f"{request.messages[-1].content[-20:]} {request.seed}"


def test_replay_distinguishes_rows_with_the_same_argument() -> None:
    """Two rows translate the same argument from two languages, and a sampled reader replies differently to each."""
    tool = Tool("translator", "Translates.", many=translate_by_language)
    mlqa = replace(TASKS["mlqa"], tool=tool, reader=scripted(echo_with_seed, progress=False, temperature=1.0))
    table = rows("mlqa", ["translator(Hotel?)", "translator(Hotel?)"], "from de")
    table = table.map(
        lambda row, i: {"id": ["mlqa-a#de", "mlqa-a#es"][i], "input": "Context: c\nQuestion: Hotel?"}, with_indices=True
    )
    candidates = respond(table, [])
    stage2 = build_stage2(candidates, task=mlqa)
    assert len({answer for row in stage2["answer"] for answer in row}) == 2
    assert build_stage2(candidates, cassette=collect_executions([stage2])).to_list() == stage2.to_list()


@dataclass(frozen=True)
class UserSettings:
    """Settings whose kind equals that of the package's execution stage."""

    kind: ClassVar[str] = "execute"
    names: tuple[str, ...] = ("input",)


def uppercase_input(row: Any, settings: UserSettings | None) -> dict[str, Any]:
    return {"input": row["input"].upper()}


@pytest.mark.parametrize(("name", "settings"), [("read", None), ("execute", UserSettings())])
def test_a_users_stage_can_have_the_name_of_ours(qa: Task, name: str, settings: UserSettings | None) -> None:
    table = rows("qa", ["WikiSearch(Etna)"], "Sicily")
    table = apply(table, uppercase_input, settings, reads=["input"], adds={"input": Value("string")}, name=name)
    assert len(collect_executions([build_stage2(respond(table, []), task=qa)])) == 2


def test_a_table_with_incomplete_lineage_has_no_cassette(qa: Task, tmp_path: Path) -> None:
    stage2 = build_stage2(respond(rows("qa", ["WikiSearch(Etna)"] * 2, "Sicily"), []), task=qa).select([0])
    with pytest.raises(InputError, match="found no execution in the lineage of these tables"):
        publish({"qa": {"stage2": stage2}}, tmp_path / "out", version="1.0.0", cassette=True)
    assert not (tmp_path / "out").exists()


def look_up_in(world: str, argument: str) -> str:
    return f"{argument} is {world}"


def test_replay_distinguishes_tasks_with_the_same_ids_and_tool() -> None:
    worlds = {"mountains": "a volcano", "music": "a song"}
    tables: dict[str, tuple[Dataset, Dataset]] = {}
    for name, world in worlds.items():
        tool = Tool("QA", "Looks up.", functools.partial(look_up_in, world))
        task = replace(TASKS["lama"], name=name, tool=tool)
        named = rows("x", ["QA(Etna)", "QA(Danube)"], "a song").map(lambda row, name=name: {"task": name})
        candidates = respond(named, [], task=task)
        tables[name] = candidates, build_stage2(candidates, task=task)
    cassette = collect_executions([stage2 for _, stage2 in tables.values()])
    assert len(cassette) == 4
    without_tool = replace(TASKS["lama"], tool=Tool("QA", "Looks up.", functools.partial(look_up_in, "unknown")))
    for name, (candidates, stage2) in tables.items():
        replayed = build_stage2(candidates, task=replace(without_tool, name=name), cassette=cassette)
        assert replayed.to_list() == stage2.to_list()
        assert replayed["answer"][:] == [[f"{place} is {worlds[name]}"] for place in ("Etna", "Danube")]
