"""Executing: slow tools through the store, readers, verification; what is kept, what is asked again, what leaves."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Sequence
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
from toolrlef_data.records import ToolResult, TooManyFailures
from toolrlef_data.tables.lineage import ledger, lineage, usage
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.results import put_results, stored_results, tool_key
from toolrlef_data.tools.tool import ToolInput

WORLD = {
    "Danube source": ("Breg and Brigach meet at Donaueschingen.", "The Danube is long."),
    "Danube": ("The Danube ends in the Black Sea.",),
    "Etna": ("Etna stands on Sicily.", "Volcanoes are hot."),
}


def search(folder: str, inputs: Sequence[ToolInput]) -> list[ToolResult]:
    """A slow tool that notes every execution; files in its folder break it."""
    place = Path(folder)
    results = []
    for each in inputs:
        if each.argument == "poison":
            raise ValueError("a bug in the tool")
        with open(place / "executed", "a", encoding="utf-8") as log:
            log.write(f"{each.argument}|{each.language}\n")
        if (place / "stop").exists() and len(executed(place)) > 2:
            raise KeyboardInterrupt
        if (place / "down").exists() or ((place / "down for 12").exists() and len(executed(place)) <= 10 + 12):
            results.append(ToolResult(error="timeout", detail="the server did not answer"))
        elif each.argument in WORLD:
            results.append(ToolResult(WORLD[each.argument]))
        else:
            results.append(ToolResult(error="no_result"))
    return results


def executed(folder: Path) -> list[str]:
    file = folder / "executed"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def read(request: Request) -> str | Reply:
    """A reader that finds what stands in the passage."""
    text = request.messages[-1].content
    for place in ("Donaueschingen", "Black Sea", "Sicily"):
        if place in text:
            return place
    return Reply(None, error="server") if (Path("reader-down")).exists() else "nobody knows"


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
         "task": task, "dataset": "x", "answers": list(answers), "uses_tool": True, "source": "teacher", "verified_by": None}
        for i, text in enumerate(texts)
    ]  # fmt: skip
    return respond(Dataset.from_list(rows, features=STAGE1), [], task=TASKS[task])


def outcome(table: Dataset, field: str) -> list[Any]:
    return [row[field] for row in table["gold"]]


def test_a_slow_call_is_executed_once_whatever_happens_to_the_cache(qa: Task, tmp_path: Path) -> None:
    table = candidates(["WikiSearch(Etna)", "WikiSearch(Danube)", "WikiSearch(Etna)", "The answer is Sicily."])
    first = execute(table, task=qa)
    assert executed(tmp_path) == ["Etna|", "Danube|"]
    assert outcome(first, "predictions") == [
        ["Sicily", "nobody knows"],
        ["Black Sea"],
        ["Sicily", "nobody knows"],
        ["The answer is Sicily."],
    ]
    assert outcome(first, "correct") == [True, False, True, True]
    shutil.rmtree(datasets.config.HF_DATASETS_CACHE)
    again = execute(candidates(["WikiSearch(Etna)", "WikiSearch(Danube)"]), task=qa)
    assert outcome(again, "predictions") == outcome(first, "predictions")[:2]
    assert executed(tmp_path) == ["Etna|", "Danube|"], "the store has them"


def test_another_version_of_the_tool_executes_again(qa: Task, tmp_path: Path) -> None:
    execute(candidates(["WikiSearch(Etna)"]), task=qa)
    execute(candidates(["WikiSearch(Etna)"]), task=replace(qa, tool=replace(qa.tool, version="corpus 2")))
    assert executed(tmp_path) == ["Etna|", "Etna|"]


def test_a_fault_of_the_tool_is_asked_again_and_never_a_wrong_answer(qa: Task, tmp_path: Path) -> None:
    table = candidates(["WikiSearch(Etna)", "Sicily it is."])
    (tmp_path / "down").touch()
    stage2 = build_stage2(table, task=qa)
    assert stage2["id"] == ["x-1"]
    assert [(row["id"], row["reason"]) for row in ledger([stage2])] == [("x-0", "tool_fault:timeout")]
    (tmp_path / "down").unlink()
    assert build_stage2(table, task=qa)["id"] == ["x-0", "x-1"]
    assert len(executed(tmp_path)) == 2


def test_a_search_that_finds_nothing_is_the_responses_own_fault_and_final(qa: Task, tmp_path: Path) -> None:
    for _ in range(2):
        done = execute(candidates(["WikiSearch(Atlantis)"]), task=qa)
        assert (outcome(done, "tool_error"), outcome(done, "correct")) == (["no_result"], [False])
    assert executed(tmp_path) == ["Atlantis|"]


def test_one_poisoned_argument_costs_only_itself(qa: Task) -> None:
    done = execute(candidates(["WikiSearch(Etna)", "WikiSearch(poison)", "WikiSearch(Danube)"]), task=qa)
    assert outcome(done, "tool_error") == [None, "crashed", None]
    assert outcome(done, "correct") == [True, None, False]


def test_a_tool_that_mostly_fails_stops_the_run_and_what_it_gave_is_kept(qa: Task, tmp_path: Path) -> None:
    good = [f"WikiSearch(none {i})" for i in range(8)]
    execute(candidates(good), task=qa)
    (tmp_path / "down").touch()
    with pytest.raises(TooManyFailures, match=r"calls of WikiSearch failed .*\n    timeout: the server did not answer"):
        execute(candidates([*good, *(f"WikiSearch(more {i})" for i in range(300))]), task=qa)
    assert len(executed(tmp_path)) <= 8 + 60, "not all 300 were tried"


def test_a_bad_beginning_is_no_reason_to_stop(qa: Task, tmp_path: Path) -> None:
    (tmp_path / "down").touch()
    execute(candidates([f"WikiSearch(early {i})" for i in range(10)]), task=qa)
    (tmp_path / "down").unlink()
    (tmp_path / "down for 12").touch()
    done = execute(candidates([f"WikiSearch(place {i})" for i in range(100)]), task=qa)
    assert outcome(done, "tool_error") == ["timeout"] * 12 + ["no_result"] * 88


def test_ctrl_c_loses_no_batch_that_was_done(qa: Task, tmp_path: Path) -> None:
    one = replace(qa, tool=replace(qa.tool, batch=1))
    table = candidates([f"WikiSearch(place {i})" for i in range(5)])
    (tmp_path / "stop").touch()
    with pytest.raises(KeyboardInterrupt):
        execute(table, task=one)
    (tmp_path / "stop").unlink()
    execute(table, task=one)
    assert sorted(executed(tmp_path)) == sorted([*(f"place {i}|" for i in range(5)), "place 2|"])


def test_compat_counts_the_first_passage_only(qa: Task) -> None:
    table = candidates(["WikiSearch(Danube source)"], answers=["nobody knows"])
    assert outcome(execute(table, task=qa), "correct") == [True]
    assert outcome(execute(table, task=qa, compat=True), "correct") == [False]


def test_a_reader_without_reply_is_no_answer_and_is_asked_again(qa: Task, tmp_path: Path) -> None:
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
        ({"reader": None}, r"what WikiSearch gives is no answer yet.*task=replace\(TASKS\['qa'\]"),
        ({"tool": TASKS["qa"].tool}, r"the tool 'WikiSearch' is not set up: make one with wiki_search"),
    ],
)
def test_what_is_lacking_is_told_before_anything_runs(
    qa: Task, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        execute(candidates(["WikiSearch(Etna)"]), task=replace(qa, **change))
    assert executed(tmp_path) == []


def show(argument: str, texts: tuple[str, ...]) -> str:
    return f"{' '.join(texts)}\nQuestion: {argument}\nAnswer:"


def qa_tool(folder: Path | None, script: Any) -> Tool:
    many = None if folder is None else functools.partial(search, str(folder))
    return Tool("QA", "Answers.", parameter="question", many=many, engine=quiet(script), prompt=show)


def test_a_tool_that_asks_a_model_is_its_output(tmp_path: Path) -> None:
    lama = replace(TASKS["lama"], tool=qa_tool(None, {"Etna?": "Sicily", "Danube?": ""}))
    done = execute(
        candidates(["QA(Where is Etna?)", "QA(Where is the Danube?)", "QA(Where is Etna?)"], task="lama"), task=lama
    )
    assert outcome(done, "predictions") == [["Sicily"], [], ["Sicily"]]
    assert outcome(done, "tool_error") == [None, "no_result", None]
    assert usage([done])["mapping"]["requests"] == 2, "each question once, and counted"
    assert all("trail" not in str(record["step"]) for record in lineage(done))


def test_an_open_book_tool_searches_first(tmp_path: Path) -> None:
    lama = replace(TASKS["lama"], tool=qa_tool(tmp_path, {"Etna stands on Sicily.": "Sicily"}))
    done = execute(candidates(["QA(Etna)", "QA(Atlantis)"], task="lama"), task=lama)
    assert outcome(done, "predictions") == [["Sicily"], []]
    assert outcome(done, "tool_error") == [None, "no_result"], "nothing found: the model is not asked"


def test_a_model_that_fails_inside_a_tool_is_the_tools_fault() -> None:
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
    assert labelled["rejected"] == [[], [], ["tool_error:no_result"]]
    stage1 = build_stage1(table, teacher, attempts=1, task=qa)
    assert stage1["verified_by"] == ["output", "reader"]
    assert len(stage1) + len(ledger([stage1])) == 3
    without = build_stage1(table, teacher, attempts=1, task=replace(qa, reader=None))
    assert without["id"] == ["a"], "without a reader the output alone verifies"


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
    with pytest.raises(InputError, match="verified by what a model reads from it"):
        build_stage1(table, task=replace(mlqa, reader=None))
    assert executed(tmp_path) == ["Etna|de", "Danube|es"]


def test_a_table_of_several_tasks_goes_through_at_once(qa: Task) -> None:
    math = candidates(["calculator(3*19)"], answers=["57"], task="math", id0="m-0")
    both = datasets.concatenate_datasets([math, candidates(["WikiSearch(Etna)"])])
    stage2 = build_stage2(both, task={"qa": qa})
    assert list(zip(stage2["task"], stage2["answer"], strict=True)) == [("math", ["57.0"]), ("qa", ["Sicily"])]


def test_few_failures_of_a_small_table_do_not_stop_it(qa: Task, tmp_path: Path) -> None:
    (tmp_path / "down").touch()
    done = execute(candidates(["WikiSearch(Etna)", "WikiSearch(Danube)"]), task=qa)
    assert outcome(done, "tool_error") == ["timeout", "timeout"]
    store = open_store()
    with store.reading() as connection:
        assert connection.execute("SELECT count(*) FROM replies").fetchone() == (0,), "nothing of it is final"


def raises(argument: str) -> str:
    raise ToolError("unavailable", argument) if argument == "x" else InputError("the corpus is gone")


def test_a_users_mistake_inside_a_tool_is_not_taken_for_a_failure() -> None:
    lama = replace(TASKS["lama"], tool=Tool("QA", "Answers.", raises))
    assert outcome(execute(candidates(["QA(x)"], task="lama"), task=lama), "tool_error") == ["unavailable"]
    with pytest.raises(InputError, match="the corpus is gone"):
        execute(candidates(["QA(y)"], task="lama"), task=lama)


def test_responders_of_a_text_task_get_the_levels_of_the_rule(qa: Task) -> None:
    table = candidates(["WikiSearch(Etna)"])
    stage1 = table.remove_columns("gold")
    both = [
        Responder("right", quiet({"": "It is Sicily."})),
        Responder("wrong", quiet({"": "WikiSearch(Danube)"})),
        Responder("none", quiet({"": " "})),
    ]
    stage2 = build_stage2(respond(stage1, both, task=qa), task=qa)
    assert stage2[0]["answer"] == ["Sicily", "It is Sicily.", "Black Sea", None]
    assert stage2[0]["scores"] == [20, 15, 10, 0]
    compat = build_stage2(respond(stage1, both, task=qa), task=qa, compat=True)
    assert (compat[0]["answer"][-1], compat[0]["scores"]) == ("", [20, 15, 10, 10])


# What decides a result ------------------------------------------------------------------------------------------------


def translate(target: str, argument: str, texts: tuple[str, ...]) -> str:
    return f"Into {target}: {argument}"


def say(request: Request) -> str:
    return f"{request.prompt} (said)"


def test_how_a_tools_model_is_asked_decides_what_it_gives() -> None:
    def tool(target: str, **settings: Any) -> Task:
        prompt = functools.partial(translate, target)
        return replace(TASKS["lama"], tool=Tool("QA", "Answers.", engine=quiet(say, **settings), prompt=prompt))

    table = candidates(["QA(Wo?)"], task="lama")
    given = [
        outcome(execute(table, task=tool(target)), "predictions")[0][0] for target in ("English", "Greek", "English")
    ]
    assert given == ["Into English: Wo? (said)", "Into Greek: Wo? (said)", "Into English: Wo? (said)"]


def lookup(world: dict[str, str], inputs: Sequence[ToolInput]) -> list[ToolResult]:
    return [ToolResult(world[each.argument]) for each in inputs]


def test_two_tools_of_one_name_keep_their_results_apart() -> None:
    worlds = {"qa": {"Etna": "a volcano"}, "lama": {"Etna": "a song"}}
    tasks = {
        name: replace(TASKS["lama"], name=name, tool=Tool("QA", "Looks up.", many=functools.partial(lookup, world)))
        for name, world in worlds.items()
    }
    table = candidates(["QA(Etna)", "QA(Etna)"], task="lama")
    both = table.map(lambda row, i: {"task": ["qa", "lama"][i]}, with_indices=True)
    assert outcome(execute(both, task=tasks), "predictions") == [["a volcano"], ["a song"]]


def test_a_model_that_was_cut_off_while_it_thought_has_not_answered(qa: Task) -> None:
    thinking = Reply("<think>The mountain of fire, hmm", finish_reason="length")
    lama = replace(TASKS["lama"], tool=replace(qa_tool(None, {"": thinking})))
    assert outcome(execute(candidates(["QA(Etna)"], task="lama"), task=lama), "tool_error") == ["unavailable"]
    cut = replace(qa, reader=quiet({"": thinking}))
    done = execute(candidates(["WikiSearch(Etna)"]), task=cut)
    assert (outcome(done, "tool_error"), outcome(done, "correct")) == (["reader"], [None])


def odd(inputs: Sequence[ToolInput]) -> list[ToolResult]:
    values = {
        "none": ToolResult(),
        "kind": ToolResult(error="tired"),
        "half": ToolResult("\ud800"),
        "long": ToolResult(10**5000),
        "list": ToolResult(["a"]),  # type: ignore[arg-type]
    }
    return [values.get(each.argument, ToolResult("fine")) for each in inputs]


def odd_quick(argument: str) -> Any:
    return odd([ToolInput(argument)])[0].value


@pytest.mark.parametrize("tool", [Tool("QA", "Odd.", many=odd), Tool("QA", "Odd.", odd_quick)], ids=["slow", "quick"])
def test_odd_results_crash_their_row_alone(tool: Tool) -> None:
    arguments = ["none", "kind", "half", "long", "list", "good"]
    done = execute(
        candidates([f"QA({each})" for each in arguments], task="lama"), task=replace(TASKS["lama"], tool=tool)
    )
    assert outcome(done, "tool_error") == ["crashed"] * 5 + [None]
    assert outcome(done, "predictions") == [[], [], [], [], [], ["fine"]]


def test_a_reader_may_have_settings_of_any_kind_and_every_task_its_own(qa: Task) -> None:
    reader = replace(quiet(read), options=(*quiet(read).options, ("extra_body", {"min_p": 0.1})))
    other = replace(qa, name="other", reader=quiet({"": "Etna it is"}))
    table = candidates(["WikiSearch(Etna)", "WikiSearch(Etna)"]).map(
        lambda row, i: {"task": ["qa", "other"][i]}, with_indices=True
    )
    done = execute(table, task={"qa": replace(qa, reader=reader), "other": other})
    assert outcome(done, "predictions") == [["Sicily", "nobody knows"], ["Etna it is", "Etna it is"]]


def named(row: Any) -> str:
    return f"{row['dataset']} asks: {row['question']}"


def test_a_task_may_render_and_read_as_it_likes(qa: Task) -> None:
    own = replace(qa, render=named, parse_reader_reply=None, reader=quiet({"x asks: Which island?": "It is Sicily."}))
    table = graded(own, [("a", "Which island?", "Sicily")], context="")
    stage1 = build_stage1(table, quiet({"": "WikiSearch(Danube)"}), attempts=1, task=own)
    assert stage1["verified_by"] == ["reader"]


def test_a_gold_answer_across_two_passages_is_in_neither(qa: Task, tmp_path: Path) -> None:
    many = functools.partial(lookup_texts, ("They moved to New", "York is in England."))
    own = replace(qa, tool=replace(qa.tool, many=many), reader=quiet({"": "New York"}))
    table = graded(own, [("a", "Which city?", "New York")])
    assert propose_calls(table, quiet({"": "WikiSearch(city)"}), attempts=1, task=own)["verified_by"] == ["reader"]


def lookup_texts(texts: tuple[str, ...], inputs: Sequence[ToolInput]) -> list[ToolResult]:
    return [ToolResult(texts) for _ in inputs]


def test_strict_grading_is_strict_about_passages_too(qa: Task) -> None:
    texts = (" ".join(["word"] * 30 + ["because"]), " ".join(["word"] * 30 + ["Sicily"]))
    own = replace(qa, tool=replace(qa.tool, many=functools.partial(lookup_texts, texts)), reader=None)
    strict = replace(own, grade=functools.partial(own.grade, strict=True))  # type: ignore[call-arg]
    for task, found in ((own, ["output", "output"]), (strict, ["output", None])):
        table = graded(task, [("a", "Which island?", "Sicily"), ("b", "Which country?", "US")])
        labelled = propose_calls(table, quiet({"": "WikiSearch(x)"}), attempts=1, task=task)
        assert labelled["verified_by"] == found


def test_formulas_are_for_tasks_of_numbers() -> None:
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


def test_a_tool_without_a_batch_is_refused() -> None:
    with pytest.raises(InputError, match="batch must be a whole number of at least 1, found 0"):
        Tool("QA", "Odd.", many=odd, batch=0)


def test_calls_that_a_table_came_with_are_verified_before_a_teacher_is_asked(qa: Task, tmp_path: Path) -> None:
    table = graded(qa, [("a", "On which island is Etna?", "Sicily"), ("b", "Where is the Danube?", "Sicily")])
    came = propose_calls(
        table, quiet({"Etna": "WikiSearch(Etna)", "Danube": "WikiSearch(Danube)"}), attempts=1, task=qa
    )
    nulls: dict[str, Any] = {
        "verified": None,
        "verified_by": None,
        "tool_output": None,
        "teacher": "unknown",
        "rejected": [],
    }
    came = came.map(lambda row: nulls, features=came.features)
    stage1 = build_stage1(came, quiet({"Danube": "WikiSearch(Danube source)"}), attempts=1, task=qa)
    assert [(r["id"], r["output"], r["source"], r["verified_by"]) for r in stage1] == [
        ("a", "WikiSearch(Etna)", "teacher", "output")
    ]
    assert [(row["id"], row["detail"]) for row in ledger([stage1])] == [("b", "wrong_value; wrong_value")]
    assert build_stage1(came, task=qa)["id"] == ["a"], "no teacher is needed"
    plain = came.map(lambda row: {"tool_call": "It is Sicily."})
    assert [row["reason"] for row in ledger([build_stage1(plain, task=qa)])] == ["no_call", "no_call"]
    kept = build_stage1(came, task=qa, keep_unverified=True)
    assert kept["output"] == ["WikiSearch(Etna)", "WikiSearch(Danube)"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda qa: "qa", "takes a Task, or a mapping of names to Tasks such as {'qa': qa}; found 'qa'"),
        (lambda qa: [qa], "takes a Task, or a mapping"),
        (lambda qa: {"qa": qa.tool}, "takes a Task, or a mapping"),
        (lambda qa: {"QA": qa}, "unknown task in task= 'QA'; choose from: .*qa"),
        (lambda qa: replace(qa, tool="sample"), "needs a Tool, found str"),
        (lambda qa: replace(qa, tool=Tool("WikiSearch", "Asks.", engine="gpt", prompt=show)), "needs an EngineSpec as engine, found str"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_what_is_no_task_or_not_its_tool_is_told(qa: Task, make: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        execute(candidates(["WikiSearch(Etna)"]), task=make(qa))


def test_a_stage_that_leaves_nothing_says_so(qa: Task, caplog: pytest.LogCaptureFixture) -> None:
    table = graded(qa, [("a", "Which island?", "Sicily")])
    assert len(build_stage1(table, quiet({"": "I know no search."}), attempts=1, task=replace(qa, reader=None))) == 0
    assert "stage1: none of 1 rows is left (no_call 1)" in caplog.text
    assert "the task 'qa' has no reader: its calls are verified by what WikiSearch gives alone" in caplog.text


def test_prompts_that_call_another_tool_are_told(qa: Task, caplog: pytest.LogCaptureFixture) -> None:
    table = graded(qa, [("a", "Which island?", "Sicily")])
    renamed = replace(TASKS["retrieval"], name="qa", tool=qa.tool, reader=qa.reader)
    build_stage1(table, quiet({"": "WikiSearch(Etna)"}), attempts=1, task=renamed)
    assert "the prompts of the task 'qa' call a tool of another name than 'WikiSearch'" in caplog.text
    caplog.clear()
    build_stage1(table, quiet({"": "WikiSearch(Etna)"}), attempts=1, task=qa)
    assert caplog.text == ""


@pytest.mark.parametrize("given", [None, ["no result"], []], ids=["nothing", "texts", "too few"])
def test_a_tool_that_breaks_its_promise_crashes_its_rows(given: Any) -> None:
    tool = Tool("QA", "Odd.", many=functools.partial(promise, given))
    done = execute(candidates(["QA(a)", "QA(b)"], task="lama"), task=replace(TASKS["lama"], tool=tool))
    assert outcome(done, "tool_error") == ["crashed", "crashed"]


def promise(given: Any, inputs: Sequence[ToolInput]) -> Any:
    return given


def test_a_result_that_was_removed_from_the_store_is_a_failure_that_may_pass() -> None:
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
