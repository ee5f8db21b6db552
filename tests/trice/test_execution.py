"""Execution of slow and fast tools, readers and verification: what is stored, retried and dropped."""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset

from toolrlef_data import (
    ANNOTATIONS,
    InputError,
    Reply,
    Responder,
    Tool,
    ToolError,
    answer,
    build_stage1,
    build_stage2,
    execute,
    grade,
    propose_calls,
    respond,
    scripted,
)
from toolrlef_data.columns import QUESTIONS, STAGE1
from toolrlef_data.engines.reply_store import open_store
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import REPLY_ERRORS, ToolResult, TooManyFailures
from toolrlef_data.tables.lineage import ledger, lineage, usage
from toolrlef_data.tables.stage_cache import record_path
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.results import put_results, stored_results, tool_key
from toolrlef_data.tools.tool import ToolInput

PASSAGES = {
    "Danube source": ("Breg and Brigach meet at Donaueschingen.", "The Danube is long."),
    "Danube": ("The Danube ends in the Black Sea.",),
    "Etna": ("Etna stands on Sicily.", "Volcanoes are hot."),
}


def search(folder: str, inputs: Sequence[ToolInput]) -> list[ToolResult]:
    """A slow tool that logs every execution; files in its folder make it fail."""
    path = Path(folder)
    results = []
    for tool_input in inputs:
        if tool_input.argument == "poison":
            raise ValueError("a bug in the tool")
        with open(path / "executed", "a", encoding="utf-8") as log:
            log.write(f"{tool_input.argument}|{tool_input.language}\n")
        if (path / "stop").exists() and len(executed(path)) > 2:
            raise KeyboardInterrupt
        if (path / "down").exists() or ((path / "down for 12").exists() and len(executed(path)) <= 10 + 12):
            results.append(ToolResult(error="timeout", detail="the server did not answer"))
        elif tool_input.argument in PASSAGES:
            results.append(ToolResult(PASSAGES[tool_input.argument]))
        else:
            results.append(ToolResult(error="no_result"))
    return results


def executed(folder: Path) -> list[str]:
    file = folder / "executed"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def read(request: Request) -> str | Reply:
    """A reader that extracts a known place from the passage."""
    text = request.messages[-1].content
    for place in ("Donaueschingen", "Black Sea", "Sicily"):
        if place in text:
            return place
    return Reply(None, error="server") if Path("reader-down").exists() else "nobody knows"


def quiet(script: Any, **settings: Any) -> EngineSpec:
    return scripted(script, progress=False, **settings)


@pytest.fixture
def qa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    monkeypatch.chdir(tmp_path)
    tool = Tool("WikiSearch", "Searches.", parameter="query", many=functools.partial(search, str(tmp_path)), batch=4)
    return replace(TASKS["qa"], tool=tool, reader=quiet(read))


def candidates(texts: Sequence[str], answers: Sequence[str] = ("Sicily",), task: str = "qa", **ids: str) -> Dataset:
    rows = [
        {"instruction": "Answer.", "input": f"Question {i}?", "output": text, "id": ids.get(f"id{i}", f"x-{i}"),
         "task": task, "dataset": "x", "answers": list(answers), "uses_tool": None, "source": "teacher", "verified_by": None}
        for i, text in enumerate(texts)
    ]  # fmt: skip
    return respond(Dataset.from_list(rows, features=STAGE1), [], task=TASKS[task])


def gold_values(table: Dataset, field: str) -> list[Any]:
    return [row[field] for row in table["gold"]]


def test_a_slow_call_is_executed_once_even_if_the_cache_is_deleted(qa: Task, tmp_path: Path) -> None:
    table = candidates(["WikiSearch(Etna)", "WikiSearch(Danube)", "WikiSearch(Etna)", "The answer is Sicily."])
    first = execute(table, task=qa)
    assert executed(tmp_path) == ["Etna|", "Danube|"]
    assert gold_values(first, "predictions") == [
        ["Sicily", "nobody knows"],
        ["Black Sea"],
        ["Sicily", "nobody knows"],
        ["The answer is Sicily."],
    ]
    assert gold_values(first, "correct") == [True, False, True, True]
    shutil.rmtree(datasets.config.HF_DATASETS_CACHE)
    second = execute(candidates(["WikiSearch(Etna)", "WikiSearch(Danube)"]), task=qa)
    assert gold_values(second, "predictions") == gold_values(first, "predictions")[:2]
    assert executed(tmp_path) == ["Etna|", "Danube|"], "the results are in the reply store"


def test_a_new_version_of_the_tool_is_executed(qa: Task, tmp_path: Path) -> None:
    execute(candidates(["WikiSearch(Etna)"]), task=qa)
    execute(candidates(["WikiSearch(Etna)"]), task=replace(qa, tool=replace(qa.tool, version="corpus 2")))
    assert executed(tmp_path) == ["Etna|", "Etna|"]


def test_a_tool_failure_is_retried_and_is_no_wrong_answer(qa: Task, tmp_path: Path) -> None:
    table = candidates(["WikiSearch(Etna)", "Sicily it is."])
    (tmp_path / "down").touch()
    stage2 = build_stage2(table, task=qa)
    assert stage2["id"] == ["x-1"]
    assert [(row["id"], row["reason"]) for row in ledger([stage2])] == [("x-0", "tool_fault:timeout")]
    (tmp_path / "down").unlink()
    assert build_stage2(table, task=qa)["id"] == ["x-0", "x-1"]
    assert len(executed(tmp_path)) == 2


def test_a_search_without_results_is_a_call_error_and_final(qa: Task, tmp_path: Path) -> None:
    for _ in range(2):
        table = execute(candidates(["WikiSearch(Atlantis)"]), task=qa)
        assert (gold_values(table, "tool_error"), gold_values(table, "correct")) == (["no_result"], [False])
    assert executed(tmp_path) == ["Atlantis|"]


def test_a_crash_affects_only_its_call(qa: Task) -> None:
    executed_table = execute(candidates(["WikiSearch(Etna)", "WikiSearch(poison)", "WikiSearch(Danube)"]), task=qa)
    assert gold_values(executed_table, "tool_error") == [None, "crashed", None]
    assert gold_values(executed_table, "correct") == [True, None, False]


def test_too_many_tool_failures_stop_the_run_and_results_are_saved(qa: Task, tmp_path: Path) -> None:
    good = [f"WikiSearch(none {i})" for i in range(8)]
    execute(candidates(good), task=qa)
    (tmp_path / "down").touch()
    with pytest.raises(TooManyFailures, match=r"calls of WikiSearch failed .*\n    timeout: the server did not answer"):
        execute(candidates([*good, *(f"WikiSearch(more {i})" for i in range(300))]), task=qa)
    assert len(executed(tmp_path)) <= 8 + 60, "the run stops before all 300 calls"


def test_failures_at_the_start_do_not_stop_the_run(qa: Task, tmp_path: Path) -> None:
    (tmp_path / "down").touch()
    execute(candidates([f"WikiSearch(early {i})" for i in range(10)]), task=qa)
    (tmp_path / "down").unlink()
    (tmp_path / "down for 12").touch()
    executed_table = execute(candidates([f"WikiSearch(place {i})" for i in range(100)]), task=qa)
    assert gold_values(executed_table, "tool_error") == ["timeout"] * 12 + ["no_result"] * 88


@pytest.mark.parametrize(("max_failed", "stops"), [(0.11, True), (0.12, False), (1.0, False)])
def test_the_share_of_failed_calls_is_limited_by_the_tool(
    max_failed: float, stops: bool, qa: Task, tmp_path: Path
) -> None:
    """12 of 100 calls fail after ten that do not count."""
    task = replace(qa, tool=replace(qa.tool, max_failed=max_failed))
    execute(candidates([f"WikiSearch(early {i})" for i in range(10)]), task=task)
    (tmp_path / "down for 12").touch()
    table = candidates([f"WikiSearch(place {i})" for i in range(100)])
    with pytest.raises(TooManyFailures, match="12 of 100 calls") if stops else contextlib.nullcontext():
        execute(table, task=task)
    assert len(executed(tmp_path)) == 110, "all calls are executed"


def test_an_interrupt_loses_no_completed_batch(qa: Task, tmp_path: Path) -> None:
    one = replace(qa, tool=replace(qa.tool, batch=1))
    table = candidates([f"WikiSearch(place {i})" for i in range(5)])
    (tmp_path / "stop").touch()
    with pytest.raises(KeyboardInterrupt):
        execute(table, task=one)
    (tmp_path / "stop").unlink()
    execute(table, task=one)
    assert sorted(executed(tmp_path)) == sorted([*(f"place {i}|" for i in range(5)), "place 2|"])


def test_compat_grades_only_the_first_passage(qa: Task) -> None:
    table = candidates(["WikiSearch(Danube source)"], answers=["nobody knows"])
    assert gold_values(execute(table, task=qa), "correct") == [True]
    assert gold_values(execute(table, task=qa, compat=True), "correct") == [False]
    unread = replace(qa, name="mine", reader_prompt=None)
    table = candidates(["WikiSearch(Danube source)"], answers=["long"]).map(lambda row: {"task": "mine"})
    assert gold_values(execute(table, task=unread), "correct") == [True]
    assert gold_values(execute(table, task=unread, compat=True), "correct") == [False]


@pytest.mark.parametrize("answers", [["Malta", "Sicily"], ["Sicily", "Malta"]])
@pytest.mark.parametrize("reader", [True, False])
def test_compat_knows_only_the_first_gold_answer(answers: list[str], reader: bool, qa: Task) -> None:
    task = qa if reader else replace(qa, name="mine", reader_prompt=None)
    table = candidates(["It is Sicily.", "WikiSearch(Etna)"], answers=answers).map(lambda row: {"task": task.name})
    assert gold_values(execute(table, task=task), "correct") == [True, True]
    assert gold_values(execute(table, task=task, compat=True), "correct") == [answers[0] == "Sicily"] * 2


def test_a_reader_without_a_reply_is_a_tool_failure_and_is_retried(qa: Task, tmp_path: Path) -> None:
    patient = replace(qa, reader=quiet(read, max_failed=1.0))
    table = candidates(["WikiSearch(Danube source)", "Sicily"])
    (tmp_path / "reader-down").touch()
    stage2 = build_stage2(table, task=patient)
    assert [(row["id"], row["reason"]) for row in ledger([stage2])] == [("x-0", "tool_fault:reader")]
    (tmp_path / "reader-down").unlink()
    assert len(build_stage2(table, task=patient)) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reader": None}, r"the output of WikiSearch is not an answer.*task=replace\(TASKS\['qa'\]"),
        ({"tool": TASKS["qa"].tool}, r"the tool 'WikiSearch' is not set up: make one with wiki_search"),
    ],
)
def test_a_missing_reader_or_tool_raises_before_execution(
    qa: Task, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        execute(candidates(["WikiSearch(Etna)"]), task=replace(qa, **change))
    assert executed(tmp_path) == []


def qa_prompt(argument: str, texts: tuple[str, ...]) -> str:
    return f"{' '.join(texts)}\nQuestion: {argument}\nAnswer:"


def qa_tool(folder: Path | None, script: Any) -> Tool:
    many = None if folder is None else functools.partial(search, str(folder))
    return Tool("QA", "Answers.", parameter="question", many=many, engine=quiet(script), prompt=qa_prompt)


def test_the_output_of_a_model_tool_is_the_models_reply(tmp_path: Path) -> None:
    lama = replace(TASKS["lama"], tool=qa_tool(None, {"Etna?": "Sicily", "Danube?": ""}))
    executed_table = execute(
        candidates(["QA(Where is Etna?)", "QA(Where is the Danube?)", "QA(Where is Etna?)"], task="lama"), task=lama
    )
    assert gold_values(executed_table, "predictions") == [["Sicily"], [], ["Sicily"]]
    assert gold_values(executed_table, "tool_error") == [None, "no_result", None]
    assert usage([executed_table])["mapping"]["requests"] == 2, "each distinct question is one counted request"
    assert all("trail" not in str(record["step"]) for record in lineage(executed_table))


@pytest.mark.parametrize("step", ["QA", "calls of QA"])
@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:99]), Path.unlink])
def test_a_damaged_record_of_a_model_tool_is_written_again(step: str, damage: Callable[[Path], object]) -> None:
    lama = replace(TASKS["lama"], tool=qa_tool(None, {"": "Sicily"}))
    data = candidates(["QA(Where is Etna?)", "Sicily"], task="lama")
    expected = lineage(execute(data, task=lama))
    (fingerprint,) = [record["fingerprint"] for record in expected if record["step"] == step]
    damage(record_path(fingerprint))
    assert lineage(execute(data, task=lama)) == expected


def test_an_open_book_tool_searches_before_it_asks_the_model(tmp_path: Path) -> None:
    lama = replace(TASKS["lama"], tool=qa_tool(tmp_path, {"Etna stands on Sicily.": "Sicily"}))
    executed_table = execute(candidates(["QA(Etna)", "QA(Atlantis)"], task="lama"), task=lama)
    assert gold_values(executed_table, "predictions") == [["Sicily"], []]
    assert gold_values(executed_table, "tool_error") == [None, "no_result"], (
        "without passages the model gets no request"
    )


def test_a_failed_request_inside_a_tool_is_a_tool_failure() -> None:
    failing = Reply(None, error="bad_request", error_detail="no such model")
    tool = replace(qa_tool(None, {"": failing}), engine=quiet({"": failing}, max_failed=1.0))
    stage2 = build_stage2(
        candidates(["QA(Where is Etna?)", "Sicily"], task="lama"), task=replace(TASKS["lama"], tool=tool)
    )
    assert [(row["id"], row["reason"]) for row in ledger([stage2])] == [("x-0", "tool_fault:unavailable")]


def test_the_language_of_the_row_reaches_the_translator(tmp_path: Path) -> None:
    tool = Tool("translator", "Translates.", many=functools.partial(search, str(tmp_path)))
    mlqa = replace(TASKS["mlqa"], tool=tool, reader=quiet({"": "Sicily"}))
    table = candidates(["translator(Etna)", "translator(Etna)"], task="mlqa", id0="mlqa-a#zh", id1="mlqa-b")
    execute(table, task=mlqa)
    assert executed(tmp_path) == ["Etna|zh", "Etna|"]


def name_language(inputs: Sequence[ToolInput]) -> list[ToolResult]:
    return [ToolResult(f"{tool_input.argument} in {tool_input.language or '?'}") for tool_input in inputs]


def test_one_text_in_two_languages_has_two_results() -> None:
    task = replace(TASKS["mlqa"], tool=Tool("translator", "T.", many=name_language), reader=quiet({"": "Sicily"}))
    ids = {"id0": "mlqa-a#zh", "id1": "mlqa-b#es", "id2": "mlqa-c"}
    for languages in (["zh", "es", "?"], ["zh"]):
        table = candidates(["translator(Etna)"] * len(languages), task="mlqa", **ids)
        assert gold_values(execute(table, task=task), "tool_output") == [f"Etna in {name}" for name in languages]


# Stage 1 --------------------------------------------------------------------------------------------------------------


def graded(task: Task, rows: Sequence[tuple[str, str, str]], context: str = "") -> Dataset:
    table = [
        {
            "id": i,
            "task": task.name,
            "dataset": "x",
            "question": q,
            "context": context,
            "answers": [a],
            "solution": "",
            "split_origin": "",
        }
        for i, q, a in rows
    ]
    return grade(
        answer(Dataset.from_list(table, features=QUESTIONS), quiet({"": "I cannot say."}), task=task), task=task
    )


def test_a_search_is_verified_by_its_output_or_by_the_reader(qa: Task, tmp_path: Path) -> None:
    rows = [
        ("a", "On which island is Etna?", "Sicily"),
        ("b", "Where do the Breg and the Brigach go?", "nobody knows"),
        ("c", "Where is Atlantis?", "Bottom"),
    ]
    teacher = quiet(
        {"Etna": "WikiSearch(Etna)", "Breg": "WikiSearch(Danube source)", "Atlantis": "WikiSearch(Atlantis)"}
    )
    table = graded(qa, rows)
    labelled = propose_calls(table, teacher, attempts=1, task=qa)
    assert labelled["verified_by"] == ["output", "reader", None]
    assert labelled["rejected"] == [[], [], ["tool_error:no_result: WikiSearch(Atlantis)"]]
    stage1 = build_stage1(table, teacher, attempts=1, task=qa)
    assert stage1["verified_by"] == ["output", "reader"]
    assert len(stage1) + len(ledger([stage1])) == 3
    without = build_stage1(table, teacher, attempts=1, task=replace(qa, reader=None))
    assert without["id"] == ["a"], "without a reader, only the output can verify a call"


def test_the_translators_call_needs_no_teacher_and_is_verified_by_the_reader(tmp_path: Path) -> None:
    tool = Tool("translator", "Translates.", many=functools.partial(search, str(tmp_path)))
    script = {"Question: Etna stands on Sicily.": "Sicily", "": "no"}
    mlqa = replace(TASKS["mlqa"], tool=tool, reader=quiet(script))
    table = graded(mlqa, [("m#de", "Etna", "Sicily"), ("n#es", "Danube", "Sicily")], context="Islands and rivers.")
    stage1 = build_stage1(table, task=mlqa)
    assert [(r["output"], r["source"], r["verified_by"]) for r in stage1] == [
        ("translator(Etna)", "question", "reader")
    ]
    assert [row["reason"] for row in ledger([stage1])] == ["wrong_value"]
    assert len(build_stage1(table, task=mlqa, keep_unverified=True)) == 2
    with pytest.raises(InputError, match="the calls of translator are verified by a reader"):
        build_stage1(table, task=replace(mlqa, reader=None))
    assert executed(tmp_path) == ["Etna|de", "Danube|es"]


def test_a_table_can_contain_several_tasks(qa: Task) -> None:
    math = candidates(["calculator(3*19)"], answers=["57"], task="math", id0="m-0")
    both = datasets.concatenate_datasets([math, candidates(["WikiSearch(Etna)"])])
    stage2 = build_stage2(both, task={"qa": qa})
    assert list(zip(stage2["task"], stage2["answer"], strict=True)) == [("math", ["57.0"]), ("qa", ["Sicily"])]


def test_a_few_failures_of_a_small_table_do_not_stop_the_run(qa: Task, tmp_path: Path) -> None:
    (tmp_path / "down").touch()
    executed_table = execute(candidates(["WikiSearch(Etna)", "WikiSearch(Danube)"]), task=qa)
    assert gold_values(executed_table, "tool_error") == ["timeout", "timeout"]
    store = open_store()
    with store.reading() as connection:
        assert connection.execute("SELECT count(*) FROM replies").fetchone() == (0,), "failures are not stored as final"


def raise_by_argument(argument: str) -> str:
    raise ToolError("unavailable", argument) if argument == "x" else InputError("the corpus is gone")


def test_an_input_error_inside_a_tool_is_raised() -> None:
    lama = replace(TASKS["lama"], tool=Tool("QA", "Answers.", raise_by_argument))
    assert gold_values(execute(candidates(["QA(x)"], task="lama"), task=lama), "tool_error") == ["unavailable"]
    with pytest.raises(InputError, match="the corpus is gone"):
        execute(candidates(["QA(y)"], task="lama"), task=lama)


def test_responses_of_a_text_task_are_scored(qa: Task) -> None:
    table = candidates(["WikiSearch(Etna)"])
    stage1 = table.remove_columns("gold")
    responders = [
        Responder("right", quiet({"": "It is Sicily."})),
        Responder("wrong", quiet({"": "WikiSearch(Danube)"})),
        Responder("none", quiet({"": " "})),
    ]
    stage2 = build_stage2(respond(stage1, responders, task=qa), task=qa, lacking="drop_response")
    assert stage2[0]["answer"] == ["Sicily", "It is Sicily.", "Black Sea"]
    assert stage2[0]["scores"] == [20, 15, 10]
    compat = build_stage2(respond(stage1, responders, task=qa), task=qa, compat=True)
    assert (compat[0]["answer"][-1], compat[0]["scores"]) == ("", [20, 15, 10, 10])


@pytest.mark.parametrize("text", ["WikiSearch()", "WikiSearch( )", "I ask WikiSearch", "WikiSearch(Etna"])
def test_compat_writes_an_empty_list_for_a_search_without_a_query(text: str, qa: Task) -> None:
    """The original's evaluator predicts a list, one text a passage, and its scorer writes `str([])`."""
    stage1 = candidates(["WikiSearch(Etna)"]).remove_columns("gold")
    responders = [Responder("a", quiet({"": text})), Responder("b", quiet({"": "It is Sicily."}))]
    table = respond(stage1, responders, task=qa)
    row = build_stage2(table, task=qa, compat=True)[0]
    assert (row["answer"], row["scores"]) == (["Sicily", "[]", "It is Sicily."], [20, 10, 15])
    assert "[]" not in build_stage2(table, task=qa)[0]["answer"]


# Inputs of a result ----------------------------------------------------------------------------------------------------


def translate(target: str, argument: str, texts: tuple[str, ...]) -> str:
    return f"Into {target}: {argument}"


def echo_prompt(request: Request) -> str:
    return f"{request.prompt} (echo)"


def test_the_prompt_of_a_tools_model_determines_its_output() -> None:
    def tool(target: str, **settings: Any) -> Task:
        prompt = functools.partial(translate, target)
        return replace(TASKS["lama"], tool=Tool("QA", "Answers.", engine=quiet(echo_prompt, **settings), prompt=prompt))

    table = candidates(["QA(Wo?)"], task="lama")
    outputs = [
        gold_values(execute(table, task=tool(target)), "predictions")[0][0]
        for target in ("English", "Greek", "English")
    ]
    assert outputs == ["Into English: Wo? (echo)", "Into Greek: Wo? (echo)", "Into English: Wo? (echo)"]


def lookup(world: dict[str, str], inputs: Sequence[ToolInput]) -> list[ToolResult]:
    return [ToolResult(world[tool_input.argument]) for tool_input in inputs]


def test_tools_with_the_same_name_have_separate_results() -> None:
    worlds = {"mountains": {"Etna": "a volcano"}, "lama": {"Etna": "a song"}}
    tasks = {
        name: replace(TASKS["lama"], name=name, tool=Tool("QA", "Looks up.", many=functools.partial(lookup, world)))
        for name, world in worlds.items()
    }
    table = candidates(["QA(Etna)", "QA(Etna)"], task="lama")
    both = table.map(lambda row, i: {"task": ["mountains", "lama"][i]}, with_indices=True)
    assert gold_values(execute(both, task=tasks), "predictions") == [["a volcano"], ["a song"]]


def test_a_reply_truncated_in_its_reasoning_is_no_answer(qa: Task) -> None:
    thinking = Reply("<think>The mountain of fire, hmm", finish_reason="length")
    lama = replace(TASKS["lama"], tool=replace(qa_tool(None, {"": thinking})))
    assert gold_values(execute(candidates(["QA(Etna)"], task="lama"), task=lama), "tool_error") == ["unavailable"]
    truncated = replace(qa, reader=quiet({"": thinking}))
    executed_table = execute(candidates(["WikiSearch(Etna)"]), task=truncated)
    assert (gold_values(executed_table, "tool_error"), gold_values(executed_table, "correct")) == (["reader"], [None])


def invalid_results(inputs: Sequence[ToolInput]) -> list[ToolResult]:
    values = {
        "none": ToolResult(),
        "kind": ToolResult(error="not a name"),
        "half": ToolResult("\ud800"),
        "long": ToolResult(10**5000),
        "list": ToolResult(["a"]),  # type: ignore[arg-type]
    }
    return [values.get(tool_input.argument, ToolResult("fine")) for tool_input in inputs]


def invalid_value(argument: str) -> Any:
    return invalid_results([ToolInput(argument)])[0].value


@pytest.mark.parametrize(
    "tool", [Tool("QA", "Odd.", many=invalid_results), Tool("QA", "Odd.", invalid_value)], ids=["slow", "fast"]
)
def test_an_invalid_result_affects_only_its_row(tool: Tool) -> None:
    arguments = ["none", "kind", "half", "long", "list", "good"]
    executed_table = execute(
        candidates([f"QA({argument})" for argument in arguments], task="lama"), task=replace(TASKS["lama"], tool=tool)
    )
    crashed = "crashed"
    assert gold_values(executed_table, "tool_error") == [crashed, crashed, None, crashed, crashed, None]
    assert gold_values(executed_table, "predictions") == [[], [], ["\ufffd"], [], [], ["fine"]]


def test_each_task_has_its_reader_with_any_options(qa: Task) -> None:
    reader = replace(quiet(read), options=(*quiet(read).options, ("extra_body", {"min_p": 0.1})))
    other = replace(qa, name="other", reader=quiet({"": "Etna it is"}))
    table = candidates(["WikiSearch(Etna)", "WikiSearch(Etna)"]).map(
        lambda row, i: {"task": ["qa", "other"][i]}, with_indices=True
    )
    executed_table = execute(table, task={"qa": replace(qa, reader=reader), "other": other})
    assert gold_values(executed_table, "predictions") == [["Sicily", "nobody knows"], ["Etna it is", "Etna it is"]]


def render_with_dataset(row: Any) -> str:
    return f"{row['dataset']} asks: {row['question']}"


def test_a_task_can_replace_rendering_and_reply_parsing(qa: Task) -> None:
    custom = replace(
        qa,
        name="mine",
        render=render_with_dataset,
        parse_reader_reply=None,
        reader=quiet({"x asks: Which island?": "It is Sicily."}),
    )
    table = graded(custom, [("a", "Which island?", "Sicily")], context="")
    stage1 = build_stage1(table, quiet({"": "WikiSearch(Danube)"}), attempts=1, task=custom)
    assert stage1["verified_by"] == ["reader"]


def test_a_gold_answer_split_across_passages_does_not_verify(qa: Task, tmp_path: Path) -> None:
    many = functools.partial(lookup_texts, ("They moved to New", "York is in England."))
    custom = replace(qa, tool=replace(qa.tool, many=many), reader=quiet({"": "New York"}))
    table = graded(custom, [("a", "Which city?", "New York")])
    assert propose_calls(table, quiet({"": "WikiSearch(city)"}), attempts=1, task=custom)["verified_by"] == ["reader"]


def lookup_texts(texts: tuple[str, ...], inputs: Sequence[ToolInput]) -> list[ToolResult]:
    return [ToolResult(texts) for _ in inputs]


def test_passages_contain_the_answer_as_words_anywhere(qa: Task) -> None:
    texts = (" ".join(["word"] * 30 + ["because"]), " ".join(["word"] * 30 + ["Sicily"]))
    custom = replace(qa, tool=replace(qa.tool, many=functools.partial(lookup_texts, texts)), reader=None)
    for task, expected in ((custom, ["output", None]), (custom.with_rule("paper"), ["output", "output"])):
        table = graded(task, [("a", "Which island?", "Sicily"), ("b", "Which country?", "US")])
        labelled = propose_calls(table, quiet({"": "WikiSearch(x)"}), attempts=1, task=task)
        assert labelled["verified_by"] == expected


def test_formulas_are_composed_for_numeric_tasks_only() -> None:
    lama = replace(TASKS["lama"], tool=Tool("QA", "Echoes.", str.strip))
    rows = [
        {
            "id": "a",
            "task": "lama",
            "dataset": "x",
            "question": "It is ?",
            "context": "",
            "answers": ["3+4"],
            "solution": "3+4 = <<3+4=7>>7",
            "split_origin": "",
        }
    ]
    table = grade(answer(Dataset.from_list(rows, features=QUESTIONS), quiet({"": "no"}), task=lama), task=lama)
    assert propose_calls(table, ANNOTATIONS, task=lama)["rejected"] == [["no_annotation"]]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"function": 3}, "the tool 'shout': function must be a function, found 3"),
        ({"many": "x"}, "the tool 'shout': many must be a function, found 'x'"),
        ({"many": invalid_results, "batch": 0}, "the tool 'shout': batch must be an integer of at least 1, found 0"),
        ({"many": invalid_results, "batch": True}, "batch must be an integer of at least 1, found True"),
        ({"engine": quiet({}), "prompt": "Say it."}, "prompt must be a function, found 'Say it.'"),
        (
            {"function": str.upper, "name": " "},
            "the tool ' ': name must be a name without brackets, quotes, line breaks and blanks at its ends, found ' '",
        ),
        ({"function": str.upper, "description": None}, "description must be text, found None"),
        ({"function": str.upper, "parameter": ""}, "parameter must be a name, found ''"),
        ({"function": str.upper, "version": 2}, "version must be text, found 2"),
        ({"function": str.upper, "max_failed": 20}, "max_failed must be a share from 0 to 1, found 20"),
    ],
)
def test_wrong_fields_of_a_tool_raise(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Tool(**{"name": "shout", "description": "Says it louder.", **fields})


def test_a_key_in_the_failure_of_a_tool_is_redacted() -> None:
    key = "sk-0123456789abcdefghij"

    def fails(argument: str) -> str:
        raise ToolError("http", f"401 for {key}")

    failing = [
        Tool("a", "", fails),
        Tool("b", "", lambda argument: {"-" * 65: key}),  # type: ignore[arg-type, return-value]
        Tool("c", "", many=lambda inputs: [ToolResult(error="http", detail=f"401 for {key}")]),
    ]
    for tool in failing:
        result = tool.run("x")
        assert result.error
        assert "sk-0" not in result.detail


def test_existing_calls_are_verified_before_the_teacher_gets_a_request(qa: Task, tmp_path: Path) -> None:
    table = graded(qa, [("a", "On which island is Etna?", "Sicily"), ("b", "Where is the Danube?", "Sicily")])
    with_calls = propose_calls(
        table, quiet({"Etna": "WikiSearch(Etna)", "Danube": "WikiSearch(Danube)"}), attempts=1, task=qa
    )
    nulls: dict[str, Any] = {
        "verified": None,
        "verified_by": None,
        "tool_output": None,
        "teacher": "unknown",
        "rejected": [],
    }
    with_calls = with_calls.map(lambda row: nulls, features=with_calls.features)
    stage1 = build_stage1(with_calls, quiet({"Danube": "WikiSearch(Danube source)"}), attempts=1, task=qa)
    assert [(r["id"], r["output"], r["source"], r["verified_by"]) for r in stage1] == [
        ("a", "WikiSearch(Etna)", "teacher", "output")
    ]
    detail = (
        "wrong_value: WikiSearch(Danube) -> The Danube ends in the Black Sea.; "
        "wrong_value: WikiSearch(Danube source) -> Breg and Brigach meet at Donaueschingen. The Danube is long."
    )
    assert [(row["id"], row["reason"], row["detail"]) for row in ledger([stage1])] == [("b", "wrong_value", detail)]
    assert build_stage1(with_calls, task=qa)["id"] == ["a"], "no teacher is needed"
    plain = with_calls.map(lambda row: {"tool_call": "It is Sicily."})
    assert [row["reason"] for row in ledger([build_stage1(plain, task=qa)])] == ["no_call", "no_call"]
    unverified = build_stage1(with_calls, task=qa, keep_unverified=True)
    assert unverified["output"] == ["WikiSearch(Etna)", "WikiSearch(Danube)"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda qa: "qa", "task: expected a Task, or a mapping of names to Tasks such as {'qa': qa}, found 'qa'"),
        (lambda qa: [qa], "expected a Task, or a mapping"),
        (lambda qa: {"qa": qa.tool}, "expected a Task, or a mapping"),
        (lambda qa: {"QA": qa}, "unknown task in task= 'QA'; choose from: .*qa"),
        (lambda qa: replace(qa, tool="sample"), "tool must be a Tool, found 'sample'"),
        (lambda qa: replace(qa, tool=Tool("WikiSearch", "Asks.", engine="gpt", prompt=qa_prompt)), "needs an EngineSpec as engine, found str"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_a_wrong_task_or_tool_raises(qa: Task, make: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        execute(candidates(["WikiSearch(Etna)"]), task=make(qa))


def test_a_stage_without_remaining_rows_warns(qa: Task, caplog: pytest.LogCaptureFixture) -> None:
    table = graded(qa, [("a", "Which island?", "Sicily")])
    assert len(build_stage1(table, quiet({"": "I know no search."}), attempts=1, task=replace(qa, reader=None))) == 0
    assert "stage1: all 1 rows were dropped (no_call 1)" in caplog.text
    assert "the task 'qa' has no reader: its calls are verified by the output of WikiSearch alone" in caplog.text


def test_prompts_that_name_another_tool_warn(qa: Task, caplog: pytest.LogCaptureFixture) -> None:
    rows = [("a", "Which island?", "Sicily")]
    mismatched = replace(TASKS["retrieval"], name="mine", tool=qa.tool, reader=qa.reader)
    build_stage1(graded(mismatched, rows), quiet({"": "WikiSearch(Etna)"}), attempts=1, task=mismatched)
    assert "the prompts of the task 'mine' never name its tool 'WikiSearch'" in caplog.text
    caplog.clear()
    build_stage1(graded(qa, rows), quiet({"": "WikiSearch(Etna)"}), attempts=1, task=qa)
    assert caplog.text == ""


@pytest.mark.parametrize("results", [None, ["no result"], []], ids=["none", "texts", "too few"])
def test_a_tool_with_a_wrong_return_type_crashes_its_rows(results: Any) -> None:
    tool = Tool("QA", "Odd.", many=functools.partial(return_results, results))
    executed_table = execute(candidates(["QA(a)", "QA(b)"], task="lama"), task=replace(TASKS["lama"], tool=tool))
    assert gold_values(executed_table, "tool_error") == ["crashed", "crashed"]


def return_results(results: Any, inputs: Sequence[ToolInput]) -> Any:
    return results


def test_a_result_removed_from_the_store_is_a_retryable_failure() -> None:
    store = open_store()
    put_results(
        store,
        [
            (tool_key("t", ToolInput("a")), ToolResult("A")),
            (tool_key("t", ToolInput("b")), ToolResult(error="timeout")),
        ],
    )
    results = stored_results([ToolInput("a"), ToolInput("b"), ToolInput("a", "de")], "t", store)
    assert [result.value or result.error for result in results.values()] == ["A", "timeout", "unavailable"]


def test_stage_2_knows_the_question_and_the_context() -> None:
    context = (
        "The canal was planned by eleven merchants, and after many delays it opened in 1825 with a procession of boats."
    )
    echo = f"Context: {context}\nQuestion: ¿Cuándo se abrió?"
    texts = [context, context.removesuffix("."), echo, "It opened in 1825.", "1820, 1825 or 1830"]
    rows = candidates(texts, ["1825"], "mlqa").map(lambda row: {"input": echo})
    task = replace(TASKS["mlqa"], tool=Tool("translator", "Echoes.", str.strip), reader=quiet({"": "1825"}))
    assert [correct is True for correct in gold_values(execute(rows, task=task), "correct")] == [
        False,
        False,
        False,
        True,
        False,
    ]
    by_paper = gold_values(execute(rows, task=task, compat=True), "correct")
    assert by_paper == [True, True, True, True, True]


def test_the_reader_must_state_the_answer(qa: Task) -> None:
    for reply, expected in (
        ("Sicily", True),
        ("Sicily, Malta or Crete", False),
        ("Not Sicily", False),
        ("Sicily?", None),
    ):
        task = replace(qa, reader=quiet({"": reply}))
        assert gold_values(execute(candidates(["WikiSearch(Danube)"]), task=task), "correct") == [expected], reply
        assert gold_values(execute(candidates(["WikiSearch(Danube)"]), task=task, compat=True), "correct") == [True]


@pytest.mark.parametrize("kind", sorted(REPLY_ERRORS))
def test_each_failure_of_a_tools_model_is_a_tool_failure(kind: str) -> None:
    failing = Reply(None, error=kind, error_detail="why")
    tool = replace(qa_tool(None, {"": failing}), engine=quiet({"": failing}, max_failed=1.0))
    executed_table = execute(candidates(["QA(Etna)"], task="lama"), task=replace(TASKS["lama"], tool=tool))
    assert gold_values(executed_table, "tool_error") == ["timeout" if kind == "timeout" else "unavailable"]
    assert gold_values(executed_table, "correct") == [None]
