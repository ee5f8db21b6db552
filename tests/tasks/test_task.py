"""`Task`: the deprecated names of its fields and of one method still work, each with one warning."""

from __future__ import annotations

import copy
import logging
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest

from toolrlef_data.records import InputError
from toolrlef_data.tables.fingerprint import canonical
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.math import MATH
from toolrlef_data.tasks.mlqa import MLQA
from toolrlef_data.tasks.qa import QA
from toolrlef_data.tasks.task import RENAMED, Example, Task, parse_examples
from toolrlef_data.tools.tool import Tool

FIELDS = {old: new for old, new in RENAMED.items() if old != "warn"}


def values_of(task: Task) -> dict[str, Any]:
    return {field.name: getattr(task, field.name) for field in fields(task)}


def with_old_names(task: Task) -> dict[str, Any]:
    old_names = {new: old for old, new in FIELDS.items()}
    return {old_names.get(name, name): value for name, value in values_of(task).items()}


@pytest.mark.parametrize(("old", "new"), FIELDS.items())
def test_a_deprecated_attribute_warns_and_returns_the_field(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match="is deprecated: use") as warned:
        value = getattr(MLQA, old)
    assert value is getattr(MLQA, new)
    (warning,) = warned
    assert str(warning.message) == f"Task.{old} is deprecated: use Task.{new}"
    assert warning.filename == __file__


def test_the_deprecated_method_warns_and_checks_the_prompts(caplog: pytest.LogCaptureFixture) -> None:
    task: Any = replace(TASKS["qa"], tool=Tool("Lookup", "Looks up.", len))
    with caplog.at_level(logging.WARNING), pytest.warns(DeprecationWarning, match=r"use Task\.check_prompts") as warned:
        task.warn()
    assert len(warned) == 1
    assert "the prompts of the task 'qa' never name its tool 'Lookup'" in caplog.text


@pytest.mark.parametrize(("old", "new"), FIELDS.items())
def test_a_deprecated_keyword_warns_and_sets_the_field(old: str, new: str) -> None:
    values = values_of(MLQA)
    values[old] = values.pop(new)
    with pytest.warns(DeprecationWarning, match="is deprecated: use") as warned:
        task = Task(**values)
    assert [str(warning.message) for warning in warned] == [f"Task.{old} is deprecated: use Task.{new}"]
    assert warned[0].filename == __file__
    assert task == MLQA


def test_each_deprecated_keyword_warns_once() -> None:
    with pytest.warns(DeprecationWarning, match="is deprecated: use") as warned:
        task = Task(**with_old_names(MLQA))
    assert len(warned) == len(FIELDS)
    assert task == MLQA


@pytest.mark.parametrize("others", [{}, {"name": "other"}, {"output_is_answer": True, "tool": TASKS["qa"].tool}])
def test_replace_accepts_a_deprecated_keyword(others: dict[str, Any]) -> None:
    def reason(answers: object) -> str:
        return "never"

    changes: dict[str, Any]
    for changes in ({"usable": reason, **others}, {**others, "usable": reason}):
        with pytest.warns(
            DeprecationWarning, match=r"Task\.usable is deprecated: use Task\.ungradable_reason"
        ) as warned:
            task = replace(MLQA, **changes)
        assert len(warned) == 1
        assert task == replace(MLQA, ungradable_reason=reason, **others)


@pytest.mark.parametrize(
    "make",
    [
        lambda **names: Task(**{**with_required(MLQA), **names}),
        lambda **names: replace(MLQA, **names),
        lambda **names: replace(MLQA, name="other", **names),
    ],
)
@pytest.mark.parametrize(("old", "new"), FIELDS.items())
def test_old_and_new_name_together_are_an_error(make: Callable[..., Task], old: str, new: str) -> None:
    for names in ((old, new), (new, old)):
        with pytest.raises(TypeError, match=rf"expected '{new}' or its deprecated name '{old}', found both"):
            make(**{name: getattr(MLQA, new) for name in names})


def with_required(task: Task) -> dict[str, Any]:
    return {field.name: getattr(task, field.name) for field in fields(task)[:10]}


@pytest.mark.parametrize("name", ["usabel", "warn", "check_prompts", "in_key"])
def test_an_unknown_keyword_is_an_error(name: str) -> None:
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        replace(MLQA, **{name: None})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["usabel", "in_key", "__wrapped__", "__setstate__"])
def test_an_unknown_attribute_is_an_error(name: str) -> None:
    with pytest.raises(AttributeError, match=f"'Task' object has no attribute '{name}'"):
        getattr(MLQA, name)


def test_deprecated_names_are_in_no_other_place() -> None:
    """Warnings are errors in tests, so none of these reads a deprecated name."""
    assert not {field.name for field in fields(Task)} & RENAMED.keys()
    assert not canonical(MLQA).keys() & RENAMED.keys()
    assert pickle.loads(pickle.dumps(MATH)) == copy.deepcopy(MATH) == copy.copy(MATH) == MATH
    assert "ungradable_reason=" in repr(MATH)


def test_a_task_made_with_deprecated_names_has_the_same_key_and_provenance() -> None:
    with pytest.warns(DeprecationWarning, match="is deprecated: use"):
        task = Task(**with_old_names(MLQA))
    assert canonical(task) == canonical(MLQA)
    assert task.published() == MLQA.published()


# Digests of examples, instruction, plain, teacher and reader instruction; published provenance.json files contain them.
PROMPTS = {
    "math": "d743926a bca660d1 0cfcf2bb 34a10bfd 055539df",
    "qa": "f6da6c03 99131cdb 514a3282 1ea1c9f0 4b51d934",
    "retrieval": "1a1f34cc c8ad66f9 514a3282 87bdcab7 4b51d934",
    "lama": "a58606bf c5139908 e83733da 1be0be8a 055539df",
    "mlqa": "ab79ed7d a4172a21 1d93a5eb f4dcacd4 e983e4a3",
}
TOOLS_OF_TASKS = {
    "math": ("calculator", "Computes an arithmetic formula, such as (12/60)*50, and gives its value.", "formula"),
    "qa": ("WikiSearch", "Searches Wikipedia and gives the passages that fit best.", "query"),
    "retrieval": ("retriever", "Searches Wikipedia and gives the passages that fit best.", "query"),
    "lama": ("QA", "Answers a question.", "question"),
    "mlqa": ("translator", "Translates a text into English.", "text"),
}
# The fields of each task that are not None, and the fields with another value than the default.
FUNCTIONS = ["extract", "grade", "ungradable_reason", "leaks", "render"]
READER = ["reader_prompt", "parse_reader_reply"]
FIELDS_SET = {
    "math": ([*FUNCTIONS, "distance", "clean_answer"], {"numeric": True}),
    "qa": ([*FUNCTIONS, *READER], {}),
    "retrieval": ([*FUNCTIONS, *READER], {}),
    "lama": (FUNCTIONS, {}),
    "mlqa": ([*FUNCTIONS, "make_argument", "language", *READER, "parse_input"], {"output_is_answer": False}),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_a_shipped_task_stays_as_it_is(name: str) -> None:
    task = TASKS[name]
    module = "math" if name == "math" else "text_answers"
    names = ("examples", "instruction", "plain_instruction", "teacher_instruction", "reader_instruction")
    digests = dict(zip(names, PROMPTS[name].split(), strict=True))
    published = task.published()
    published["prompts_sha256"] = {key: digest[:8] for key, digest in published["prompts_sha256"].items()}
    assert published == {
        "task": name,
        "tool": {"name": TOOLS_OF_TASKS[name][0], "version": "1"},
        "grade": {"name": f"toolrlef_data.tasks.{module}:grade"},
        "grader_code": task.grader_code(),
        "prompts_sha256": digests,
    }
    tool = task.tool
    assert (tool.name, tool.description, tool.parameter) == TOOLS_OF_TASKS[name]
    assert (tool.version, tool.batch, tool.max_failed, tool.engine, tool.prompt) == ("1", 256, 0.2, None, None)
    functions, others = FIELDS_SET[name]
    values = values_of(task)
    assert {key for key, value in values.items() if callable(value)} == {*functions}
    defaults = {"numeric": False, "reader": None, "reader_style": "chat", "output_is_answer": True}
    assert {key: values[key] for key in defaults} == defaults | others


@dataclass(frozen=True)
class AliasGrader:
    """A grader with a setting that has no hash."""

    aliases: dict[str, str]

    def __call__(self, prediction: str | None, answers: Sequence[str]) -> bool:
        return self.aliases.get(prediction or "", prediction) in answers


def test_a_grader_needs_only_two_parameters_and_no_hash() -> None:
    task = replace(MATH, grade=AliasGrader({"NYC": "New York"})).with_rule("default")
    assert task.grade_row("NYC", ["New York"], "Where?") is True
    assert task.grade_output("Rome", ["New York"]) is task.grade_whole("Rome", ["New York"]) is False


def test_a_rule_that_the_grader_does_not_support_is_refused() -> None:
    task = replace(TASKS["qa"], name="mine", grade=AliasGrader({}))
    assert not task.has_rules
    assert MATH.has_rules
    assert TASKS["qa"].has_rules
    assert TASKS["qa"].with_rule("paper").has_rules
    with pytest.raises(InputError, match=f"grader of the task '{task.name}' does not support rule='paper'"):
        task.with_rule("paper")


def render_passage(row: Mapping[str, Any]) -> str:
    return f"Passage: {row['context']}\nQuestion: {row['question']}"


def first_answer(row: Mapping[str, Any]) -> str:
    return str(row["answers"][0])


def test_an_answer_in_the_words_of_a_context_is_no_echo_in_stage_2() -> None:
    task = replace(QA, render=render_passage)
    row = {"question": "Where is the Louvre?", "context": "The museum stands in Paris. It opened in 1793."}
    question, context = task.split_input(task.render(row))
    assert task.grade_row("The museum stands in Paris.", ["Paris"], question, context) is True
    assert task.grade_row(task.render(row), ["Paris"], question, context) is not True
    assert QA.split_input("Where is the Louvre?") == ("Where is the Louvre?", "")
    assert replace(QA, render=first_answer).split_input("x") == ("", "x"), "columns that are unknown here"
    assert MLQA.split_input(MLQA.render(row)) == (row["question"], row["context"])


def test_parse_examples() -> None:
    (example,) = parse_examples("\nWho? | who it is | Ann\n", "Search")
    assert (example.input, example.answer, example.call) == ("Who?", "Ann", "Search(who it is)")
    assert example.plain == "The answer is Ann."


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("instruction", 3, "the task 'qa': instruction must be text, found 3"),
        ("plain_instruction", None, "plain_instruction must be text, found None"),
        ("teacher_instruction", b"Ask.", "teacher_instruction must be text"),
        ("reader_instruction", ["Read."], "reader_instruction must be text"),
        ("name", " ", "name must be a name, found ' '"),
        ("tool", "WikiSearch", "tool must be a Tool, found 'WikiSearch'"),
        ("extract", None, "extract must be a function, found None"),
        ("grade", "exact", "grade must be a function, found 'exact'"),
        ("ungradable_reason", None, "ungradable_reason must be a function"),
        ("leaks", True, "leaks must be a function"),
        ("render", "{question}", "render must be a function"),
        ("distance", 1.0, "distance must be a function"),
        ("make_argument", "x", "make_argument must be a function"),
        ("language", "en", "language must be a function"),
        ("reader_prompt", "Read: {}", "reader_prompt must be a function"),
        ("parse_reader_reply", 1, "parse_reader_reply must be a function"),
        ("parse_input", 1, "parse_input must be a function"),
        ("reader", "gpt", "reader must be an EngineSpec or None, found 'gpt'"),
        ("reader_style", "poem", "unknown prompt style 'poem'"),
        ("numeric", "yes", "numeric must be True or False, found 'yes'"),
        ("output_is_answer", 1, "output_is_answer must be True or False, found 1"),
        ("examples", ["x"], "examples must be a mapping of names to lists of Example"),
        ("examples", {"": ["x"]}, "examples must be a mapping of names to lists of Example"),
        ("examples", {"": 3}, "examples must be a mapping of names to lists of Example"),
    ],
)
def test_a_field_of_another_type_is_an_error_at_construction(field: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        replace(TASKS["qa"], **{field: value})


def first_word(reply: str, *, rule: str = "default") -> str | None:
    return reply.split()[0] if rule == "paper" else reply


def test_a_rule_applies_to_each_function_with_a_parameter_for_it() -> None:
    task = replace(TASKS["qa"], parse_reader_reply=first_word)
    by_rule = task.with_rule("paper")
    assert task.parse_reader_reply is not None
    assert by_rule.parse_reader_reply is not None
    assert [parse("Oslo it is") for parse in (task.parse_reader_reply, by_rule.parse_reader_reply)] == [
        "Oslo it is",
        "Oslo",
    ]
    assert task.with_rule("default") is task
    for name in ("qa", "retrieval", "lama", "mlqa"):
        text = "word " * 30
        assert len((TASKS[name].with_rule("paper").extract(text) or "").split()) == 20
    mlqa = TASKS["mlqa"].with_rule("paper").parse_reader_reply
    assert mlqa is not None
    assert len((mlqa("word " * 30) or "").split()) == 20, "its reader's reply is extracted as a response is"


def test_the_examples_of_a_data_set_without_its_own_are_the_general_ones() -> None:
    for task in (TASKS[name] for name in ("math", "qa", "retrieval", "lama", "mlqa")):
        general = task.examples_for("")
        assert len(general) == 4
        assert task.examples_for("a user's data") == general
        assert all(task.examples_for(name) == tuple(task.examples[name]) for name in task.examples)
    assert replace(TASKS["qa"], examples={}).examples_for("nq_open") == ()


def test_the_prompts_of_a_task_name_its_tool(caplog: pytest.LogCaptureFixture) -> None:
    tool = Tool("Look", "Looks up.", str.upper)

    def warnings_of(instruction: str, call: str = "WikiSearch(x)") -> list[str]:
        caplog.clear()
        examples = {"": [Example("x", "y", "WikiSearch(x)", "y")], "other": [Example("x", "y", call, "y")]}
        replace(TASKS["qa"], tool=tool, instruction=instruction, examples=examples).check_prompts()
        return [record.getMessage() for record in caplog.records]

    with caplog.at_level(logging.WARNING):
        message = (
            "the prompts of the task 'qa' never name its tool 'Look': pass name=... to the tool, or set instruction= and "
            "examples= of the task; its instruction is: Answer it."
        )
        assert warnings_of("Answer it.") == warnings_of("Answer it.", "I say Look(x)") == [message]
        assert warnings_of("Answer it.", "Look(x)") == warnings_of("You can LOOK it up.") == []


def test_a_grader_receives_what_it_has_parameters_for() -> None:
    seen: list[dict[str, Any]] = []

    def some(prediction: str | None, answers: Sequence[str], *, context: str = "none", rule: str = "default") -> bool:
        seen.append({"context": context, "rule": rule})
        return True

    def every(prediction: str | None, answers: Sequence[str], **_: Any) -> bool:
        return False

    def all_of_them(
        prediction: str | None,
        answers: Sequence[str],
        *,
        question: str = "",
        context: str = "",
        response: str = "",
        anywhere: bool = False,
        words: int | None = 20,
    ) -> bool:
        seen.append({"question": question, "context": context, "response": response, "to": (anywhere, words)})
        return True

    row = ("Oslo", ["Oslo"], "Where?", "In the text.", "It is Oslo.")
    assert replace(QA, grade=some).grade_row(*row) is True
    assert replace(QA, grade=some).with_rule("paper").grade_row(*row) is True
    assert seen == [{"context": "In the text.", "rule": "default"}, {"context": "In the text.", "rule": "paper"}]
    task = replace(QA, grade=all_of_them)
    seen.clear()
    assert task.grade_row(*row) is task.grade_output("Oslo", ["Oslo"]) is task.grade_whole("Oslo", ["Oslo"]) is True
    none = {"question": "", "context": "", "response": ""}
    assert seen == [
        {"question": "Where?", "context": "In the text.", "response": "It is Oslo.", "to": (False, 20)},
        {**none, "to": (True, 20)},
        {**none, "to": (True, None)},
    ]
    assert (task.has_rules, replace(QA, grade=some).has_rules, replace(QA, grade=every).has_rules) == (
        False,
        True,
        False,
    )


def test_the_whole_message_of_a_rule_that_is_refused() -> None:
    task = replace(QA, name="mine", grade=AliasGrader({}))
    message = (
        "the grader of the task 'mine' does not support rule='paper': its function has no parameter `rule`; omit rule, "
        "or pass task= with another grader"
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        task.with_rule("paper")


def test_the_code_of_a_grader_is_that_of_this_package() -> None:
    """The provenance of a published table names it."""
    codes = {name: TASKS[name].grader_code() for name in ("math", "qa", "lama", "mlqa")}
    assert codes["qa"] == codes["lama"] == codes["mlqa"] == TASKS["qa"].with_rule("paper").grader_code()
    assert codes["math"] != codes["qa"]
    own = replace(QA, grade=AliasGrader({}))
    assert own.grader_code() == codes["qa"], "its extraction is of this package"
    assert (
        replace(own, extract=first_word).grader_code()
        == replace(MATH, grade=AliasGrader({}), extract=first_word).grader_code()
    )
    assert replace(own, extract=first_word).grader_code() not in codes.values()
