"""The task that is given once and holds for all later stages: after changes of the table, by name, and what is refused."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_dataset

from toolrlef_data import (
    ANNOTATIONS,
    TASKS,
    EngineSpec,
    InputError,
    Responder,
    Task,
    answer,
    build_stage1,
    build_stage2,
    grade,
    load_source,
    make_questions,
    publish,
    rescore,
    respond,
    scripted,
)
from toolrlef_data.columns import QUESTIONS
from toolrlef_data.tasks.given.checks import is_same_task, shipped_differences
from toolrlef_data.tasks.given.memory import tasks_on_trail


def quiet(reply: str) -> EngineSpec:
    return scripted({"": reply}, progress=False)


STUDENT, ONE, TEACHER = quiet("It is 0."), Responder("one", quiet("It is 7.")), quiet("calculator(5+1)")


def own(name: str = "mine", **changes: Any) -> Task:
    return replace(TASKS["math"], name=name, instruction="Solve it; you can use calculator(formula).", **changes)


def suffixed(suffix: str, text: str, *, rule: str = "default") -> str | None:
    return f"{text}{suffix}" if rule == "default" else text


QA = TASKS["qa"]


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({"reader": quiet("Oslo")}, []),
        ({"reader_style": "completion"}, []),
        ({"reader_instruction": "Read."}, []),
        ({"examples": {}}, []),
        ({"tool": replace(QA.tool, version="2")}, []),
        ({"tool": replace(QA.tool, name="search")}, ["tool"]),
        ({"instruction": "Search.", "output_is_answer": False}, ["instruction", "output_is_answer"]),
        ({"grade": QA.with_rule("paper").grade}, []),
        ({"extract": partial(suffixed, "!", rule="paper")}, ["extract"]),
    ],
)
def test_a_set_up_task_of_this_package_is_the_same_task(changes: dict[str, Any], differing: list[str]) -> None:
    assert shipped_differences("qa", replace(QA, **changes)) == differing


def test_a_rule_makes_no_other_task_but_another_argument_does() -> None:
    one, other = (replace(QA, extract=partial(suffixed, suffix, rule="paper")) for suffix in "!?")
    assert not is_same_task(one, other)
    assert is_same_task(QA, QA.with_rule("paper"))
    assert not is_same_task(QA, replace(QA, grade=partial(QA.grade, rule="paper", words=5)))


def graded(task: Task, data: Callable[[Dataset], Dataset] = lambda table: table) -> Dataset:
    rows = [{"question": f"How many {name}?", "answers": "6"} for name in ("cakes", "figs", "pears")]
    return grade(answer(data(make_questions(rows, task=task)), STUDENT))


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table,
        lambda table: table.select([1, 0]),
        lambda table: table.shuffle(seed=1),
        lambda table: table.map(lambda row: {"dataset": "x"}),
        lambda table: Dataset.from_list(table.to_list(), features=table.features),
    ],
    ids=["as it is", "select", "shuffle", "map", "in memory"],
)
def test_the_task_is_found_after_changes_of_the_table(change: Callable[[Dataset], Dataset]) -> None:
    task = own("found")
    stage1 = build_stage1(change(graded(task, change)), TEACHER, attempts=1)
    assert set(stage1["instruction"]) == {task.instruction}
    stage2 = build_stage2(change(respond(change(stage1), [ONE])), num_proc=2)
    assert stage2["scores"][:] == [[20.0, 15.0]] * len(stage1)


def test_an_older_trail_keeps_its_task_and_new_questions_have_the_new_one() -> None:
    first, second = own("edited"), replace(own("edited"), instruction="Use calculator(formula) now.")
    old = graded(first)
    new = graded(second)
    assert set(build_stage1(old, TEACHER, attempts=1)["instruction"]) == {first.instruction}
    assert set(build_stage1(old.select([0]), TEACHER, attempts=1)["instruction"]) == {first.instruction}
    assert set(build_stage1(new, TEACHER, attempts=1)["instruction"]) == {second.instruction}
    with pytest.raises(InputError, match="another task was given for the rows 'edited' of this table"):
        build_stage1(old, TEACHER, task=second)
    assert len(build_stage1(old, TEACHER, attempts=1, task=own("edited"))) == 3, "the same by value"


def test_the_latest_task_of_equal_questions_holds_also_if_it_is_the_one_of_this_package() -> None:
    rows = [{"question": "How many cakes?", "answers": "6"}]
    task = replace(TASKS["math"], tool=replace(TASKS["math"].tool, description="Another description."))
    assert tasks_on_trail(make_questions(rows, task=task)) == {"math": task}
    assert tasks_on_trail(make_questions(rows, task=TASKS["math"])) == {}


def test_a_task_that_is_given_later_holds_from_there() -> None:
    rows = load_source("sample", split="train").select(range(2)).map(lambda row: {"task": "later"})
    table = grade(answer(rows, STUDENT, task=own("later")).select([0, 1]))
    assert set(build_stage1(table, quiet("calculator(5+3)"), attempts=1, keep_unverified=True)["instruction"]) == {
        own().instruction
    }
    with pytest.raises(InputError, match="another task was given for the rows 'later'"):
        build_stage1(table, TEACHER, task=TASKS["math"])
    tool = replace(TASKS["math"].tool, description="Another description.")
    assert len(build_stage1(table, TEACHER, attempts=1, keep_unverified=True, task=own("later", tool=tool))) == 2


def test_a_registered_task_is_used_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TASKS, "added", {})
    TASKS["dates"] = own("dates")
    table = make_questions([{"question": "How many cakes?", "answers": "6"}], task="dates")
    assert set(build_stage1(grade(answer(table, STUDENT)), TEACHER)["instruction"]) == {own().instruction}
    assert "dates" in TASKS
    assert list(TASKS)[-1] == "dates"
    for name, task, message in (
        ("math", own("math"), "is a task of this package: give your task another name"),
        ("days", own("dates"), "expected a task of this name, found 'dates'"),
        ("days", "dates", "expected a Task, found str"),
    ):
        with pytest.raises(InputError, match=message):
            TASKS[name] = task  # type: ignore[assignment]
    with pytest.raises(InputError, match="another task is registered as TASKS"):
        make_questions([], task=replace(own("dates"), instruction="calculator"))


def test_an_own_task_under_the_name_of_a_shipped_one_is_refused() -> None:
    with pytest.raises(
        InputError, match="'math' is a task of this package, and the given task differs from it in instruction"
    ):
        make_questions([], task=own("math"))
    tool = replace(TASKS["qa"].tool, many=None, function=str.strip)
    assert make_questions([], task=replace(TASKS["qa"], tool=tool).with_rule("paper")).features == QUESTIONS


@pytest.mark.parametrize("name", ["math", "other"])
def test_an_own_task_for_rows_of_a_shipped_one_is_refused_at_every_stage(name: str) -> None:
    questions = load_source("sample", split="train").select(range(1))
    message = "the rows have the task 'math' of this package, and the given task differs from it in instruction: .*"
    message += r'make_questions\(questions, task=replace\(task, name="mine"\)'
    answered = answer(questions, STUDENT)
    stage1 = build_stage1(grade(answered), ANNOTATIONS)
    responded = respond(stage1, [ONE])
    stages: list[Callable[[Task], Dataset]] = [
        lambda task: answer(questions, STUDENT, task=task),
        lambda task: grade(answered, task=task),
        lambda task: build_stage1(grade(answered), TEACHER, task=task),
        lambda task: respond(stage1, [ONE], task={"math": task}),
        lambda task: build_stage2(responded, task=task),
        lambda task: rescore(build_stage2(responded), "paper", task=task),
    ]
    for stage in stages:
        with pytest.raises(InputError, match=message):
            stage(own(name))
    tool = replace(TASKS["math"].tool, description="Another description.")
    assert len(build_stage2(responded, task=replace(TASKS["math"], tool=tool, examples={}))) == 1, (
        "the set-up may differ"
    )


def test_an_unknown_name_is_not_imported_but_refused(tmp_path: Path) -> None:
    name = "antigravity:geohash"
    questions = make_questions([{"question": "How many cakes?", "answers": "6"}], task=own())
    renamed = questions.map(lambda row: {"task": name})
    with pytest.raises(
        InputError, match=rf"unknown task '{name}'.*register your task with TASKS\[\"{name}\"\] = my_task"
    ):
        answer(renamed, STUDENT)
    stage1 = build_stage1(grade(answer(questions, STUDENT)), TEACHER)
    folder = publish({"mine": {"stage1": stage1}}, tmp_path / "out", version="1.0.0")
    provenance = folder / "provenance.json"
    text = provenance.read_text()
    assert '"mine"' in text
    provenance.write_text(text.replace('"mine"', f'"{name}"').replace("toolrlef_data.tasks.math:grade", name))
    loaded = load_dataset(str(folder), "mine-stage1", split="train", cache_dir=str(tmp_path / "cache"))
    loaded = loaded.map(lambda row: {"task": name})
    with pytest.raises(InputError, match="unknown task"):
        respond(loaded, [ONE])
    assert "antigravity" not in sys.modules


def test_stage_1_and_stage_2_agree_on_the_call_of_gold() -> None:
    stage1 = build_stage1(graded(own("calls")), TEACHER, attempts=1)
    other = replace(own("calls"), tool=replace(TASKS["math"].tool, name="solve"))
    responded = respond(stage1, [ONE])
    rows = Dataset.from_list(responded.to_list(), features=responded.features)
    with pytest.raises(
        InputError, match="calls the tool in stage 1, but the task 'calls', whose tool is solve, finds no call in it"
    ):
        build_stage2(rows, task=other)
    without = rows.map(lambda row: {"uses_tool": False})
    with pytest.raises(
        InputError, match=r"does not call the tool in stage 1, but the task 'calls', .*finds a call in it"
    ):
        build_stage2(without)


MAKE = """
import pickle, sys
from dataclasses import replace
from toolrlef_data import TASKS, build_stage1, scripted
if sys.argv[2] == "register":
    TASKS["saved"] = replace(TASKS["math"], name="saved", instruction="Solve it; you can use calculator(formula).")
graded = pickle.load(open(sys.argv[1], "rb"))
print(build_stage1(graded, scripted({"": "calculator(5+1)"}, progress=False), attempts=1)["instruction"][0])
"""


@pytest.mark.parametrize("is_registered", [True, False])
def test_another_process_needs_the_task_registered(is_registered: bool, tmp_path: Path) -> None:
    (tmp_path / "table.pickle").write_bytes(pickle.dumps(graded(own("saved"))))
    mode = "register" if is_registered else "none"
    command = [sys.executable, "-c", MAKE, str(tmp_path / "table.pickle"), mode]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if is_registered:
        assert run.stdout.strip() == own().instruction, run.stderr
    else:
        assert "unknown task 'saved'" in run.stderr
        assert 'TASKS["saved"] = my_task' in run.stderr
