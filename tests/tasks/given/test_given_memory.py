"""The memory of given tasks: by the table and by the name, and which tasks may have the name of a shipped one."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, concatenate_datasets

from toolrlef_data import TASKS, InputError, Task, make_questions
from toolrlef_data.records import UnknownName
from toolrlef_data.tasks.given import memory
from toolrlef_data.tasks.given.checks import check_name, is_same_task, shipped_differences, with_setup_of
from toolrlef_data.tasks.given.memory import find_task, remember_tasks, tasks_on_trail

MATH, QA = TASKS["math"], TASKS["qa"]


@pytest.fixture(autouse=True)
def nothing_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_of_tables", "_by_name"):
        monkeypatch.setattr(memory, name, {})
    monkeypatch.setattr(TASKS, "added", {})


def own(name: str, instruction: str = "Solve it with calculator(formula).") -> Task:
    return replace(MATH, name=name, instruction=instruction)


def table(*fruits: str) -> Dataset:
    """Return a table with a lineage, whose task is the one of this package."""
    return make_questions([{"question": f"How many {fruit}?", "answers": "6"} for fruit in fruits], task=MATH)


def test_a_task_holds_for_its_table_and_its_splits_alone() -> None:
    first, second = table("figs"), table("nuts")
    mine, other = own("mine"), own("mine", "Use calculator(formula).")
    assert remember_tasks(first, {"mine": mine}) is first
    splits = DatasetDict(train=second, test=table("pears"))
    assert remember_tasks(splits, {"mine": other, "math": MATH}) is splits
    assert tasks_on_trail(first) == {"mine": mine}
    assert [tasks_on_trail(split) for split in splits.values()] == [{"mine": other}] * 2
    assert tasks_on_trail(splits) == {"mine": other}
    assert tasks_on_trail(table("cakes")) == {}
    with pytest.raises(InputError) as raised:
        tasks_on_trail(DatasetDict(a=first, b=second))
    assert str(raised.value) == "the table holds rows of two different tasks named 'mine': rename one of them"


def test_tasks_that_are_given_later_are_added_or_replace_those_of_their_name() -> None:
    data = table("figs", "nuts")
    a, b, new = own("a"), own("b"), own("a", "Use calculator(formula).")
    remember_tasks(data, {"a": a})
    remember_tasks(data, {"b": b})
    assert tasks_on_trail(data) == {"a": a, "b": b}
    remember_tasks(data, {"a": new})
    assert tasks_on_trail(data) == {"a": new, "b": b}
    changed = replace(MATH, tool=replace(MATH.tool, description="Other."))
    remember_tasks(data, {"math": changed})
    assert tasks_on_trail(data)["math"] is changed
    remember_tasks(data, {"math": MATH})
    assert tasks_on_trail(data) == {"a": new, "b": b}, "the task of this package is not remembered"


def test_the_trail_follows_the_stages_and_the_files_of_a_table() -> None:
    rows = [{"question": f"How many {fruit}?", "answers": "6"} for fruit in ("figs", "nuts")]
    first, second = own("mine"), own("yours")
    mine = make_questions(rows, task=first)
    yours = make_questions(rows[:1], task=second)
    assert tasks_on_trail(mine.select([1])) == {"mine": first}
    both = concatenate_datasets([mine, yours])
    assert tasks_on_trail(both) == {"mine": first, "yours": second}
    latest = own("mine", "Use calculator(formula).")
    remember_tasks(mine, {"mine": latest})
    assert tasks_on_trail(mine) == {"mine": latest}


def test_a_name_is_found_among_the_registered_the_shipped_and_the_latest_tasks() -> None:
    first, latest, registered = own("mine"), own("mine", "Use calculator(formula)."), own("dates")
    remember_tasks(table("figs"), {"mine": first, "qa": replace(QA, examples={})})
    assert find_task("mine") is first
    remember_tasks(table("nuts"), {"mine": latest})
    assert find_task("mine") is latest
    TASKS["dates"] = registered
    assert find_task("dates") is registered
    assert find_task("qa") is QA, "a set-up task holds for its table alone"
    with pytest.raises(UnknownName) as raised:
        find_task("none")
    message = (
        "unknown task 'none'; choose from: dates, lama, math, mine, mlqa, qa, retrieval; register your task with "
        'TASKS["none"] = my_task, or pass task='
    )
    assert str(raised.value) == raised.value.args[0] == message


def suffixed(text: str, suffix: str = "", rule: str = "default") -> str | None:
    return f"{text}{suffix}{rule}"


CHANGES: dict[str, Any] = {
    "reader": None, "reader_style": "completion", "reader_instruction": "Read.", "examples": {},
    "instruction": "Look it up with WikiSearch.", "plain_instruction": "Say it.", "teacher_instruction": "Write.",
    "extract": suffixed, "grade": suffixed, "ungradable_reason": suffixed, "leaks": suffixed, "render": suffixed,
    "numeric": True, "distance": suffixed, "make_argument": suffixed, "language": suffixed, "reader_prompt": suffixed,
    "parse_reader_reply": suffixed, "output_is_answer": False, "parse_input": suffixed, "clean_answer": suffixed,
    "tool": replace(QA.tool, name="search"),
}  # fmt: skip
SETUP = ("reader", "reader_style", "reader_instruction", "examples")


def test_every_other_field_than_the_set_up_makes_another_task() -> None:
    for name, value in CHANGES.items():
        changed = replace(QA, **{name: value})
        differing = [] if name in SETUP else [name]
        assert shipped_differences("qa", changed) == differing, name
        assert shipped_differences("mine", changed) == []
        assert is_same_task(changed, QA) is (getattr(QA, name) == value), name
        assert shipped_differences("lama", QA) != []
    everything = replace(QA, **CHANGES)
    assert {*shipped_differences("qa", everything)} == CHANGES.keys() - {*SETUP}
    restored = with_setup_of(
        QA, replace(QA, **{name: CHANGES[name] for name in SETUP}, tool=replace(QA.tool, version="2"))
    )
    assert is_same_task(restored, QA)
    assert with_setup_of(QA, everything).tool is everything.tool, "the tool has another name"


def test_a_rule_that_is_bound_alone_makes_no_other_task() -> None:
    for bound, same in (
        (partial(suffixed, rule="paper"), True),
        (partial(suffixed, rule="paper", suffix="!"), False),
        (partial(suffixed, suffix="!"), False),
        (partial(suffixed, "text", rule="paper"), False),
    ):
        assert is_same_task(replace(QA, extract=suffixed), replace(QA, extract=bound)) is same


def test_the_messages_of_names_that_are_taken() -> None:
    message = (
        "'qa' is a task of this package, and the given task differs from it in instruction, leaks: other processes would "
        'take one for the other. Give your task its own name: task=replace(task, name="mine")'
    )
    changed = replace(QA, **{name: CHANGES[name] for name in ("leaks", "instruction")})
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        check_name("qa", changed)
    TASKS["dates"] = own("dates")
    check_name("dates", own("dates"))
    check_name("other", own("dates", "Other."))
    with pytest.raises(
        InputError, match=r'^another task is registered as TASKS\["dates"\]: register the new one, or rename it$'
    ):
        check_name("dates", own("dates", "Other."))
