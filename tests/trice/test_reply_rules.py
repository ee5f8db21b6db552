"""Rules of replies, calls and grades as tables of small cases: whole structs, whole messages, every border."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, Features

from toolrlef_data import RULES, TASKS, EngineSpec, InputError, Tool, make_questions
from toolrlef_data.columns import RESPONSE
from toolrlef_data.engines.responses import build_response
from toolrlef_data.records import Reply, ToolResult, UnknownName
from toolrlef_data.trice.execution import grade_result, grade_text
from toolrlef_data.trice.reader import any_correct, reader_name
from toolrlef_data.trice.reply_check import check_accept_cut, check_reply, text_as_original, warn_of_lost_replies
from toolrlef_data.trice.row_tasks import tasks_of
from toolrlef_data.trice.scoring.candidates import (
    FIELDS,
    Candidate,
    checked_rule,
    distance_of,
    gold_in,
    has_call,
    keywords_for,
    missing_answer,
    records_of,
)
from toolrlef_data.trice.scoring.rescoring import EVIDENCE, rescore
from toolrlef_data.trice.scoring.rescoring import _candidate as restored
from toolrlef_data.trice.scoring.stage import UNGRADED, lost_in_ledger, responders_in, rule_options

MATH, QA, MLQA, LAMA = (TASKS[name] for name in ("math", "qa", "mlqa", "lama"))
CUT: dict[str, Any] = {"finish_reason": "length"}


def message(call: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(InputError) as refused:
        call(*args, **options)
    return str(refused.value)


# Replies --------------------------------------------------------------------------------------------------------------

NO_TEXT, REASONING = "it has no text", "it has reasoning alone"
UNMARKED, LIMIT = (
    "it has neither a complete tool call nor a marked answer",
    "; it ended at the token limit (max_tokens=24)",
)
# Reply -> text, error, detail after "the reply: "
CHECKED: list[tuple[Reply, str | None, str | None, str]] = [
    (Reply(""), None, "empty", NO_TEXT),
    (Reply(" <|im_end|> </s><eos>\n<end_of_turn>\u200b\u200f\u2060\ufeff"), None, "empty", NO_TEXT),
    (Reply("<|IM|>"), "<|IM|>", None, ""),
    (Reply("x </s>"), "x </s>", None, ""),
    (Reply("", **CUT), None, "cut_off", NO_TEXT + LIMIT),
    (Reply("", reasoning="so"), None, "empty", REASONING),
    (Reply("<think>so", **CUT), None, "cut_off", REASONING + LIMIT),
    (Reply("5+3", **CUT), None, "cut_off", UNMARKED + LIMIT),
    (Reply("5+3"), "5+3", None, ""),
    (Reply("The answer is 8. So", **CUT), "The answer is 8.", None, ""),
    (Reply("#### 8 \nSo", **CUT), "#### 8", None, ""),
    (Reply("The answer is yes. So", **CUT), None, "cut_off", UNMARKED + LIMIT),
    (Reply("calculator(5+3) is", **CUT), "calculator(5+3) is", None, ""),
    (Reply("calculator(5+3). The answer is 8. So", **CUT), "calculator(5+3). The answer is 8. So", None, ""),
    (Reply("5+3", finish_reason="tool_calls"), "5+3", None, ""),
]


@pytest.mark.parametrize(("reply", "text", "error", "why"), CHECKED, ids=range(len(CHECKED)))
def test_a_checked_reply_keeps_all_else(reply: Reply, text: str | None, error: str | None, why: str) -> None:
    response = build_response(reply)
    before = dict(response)
    detail = f"the reply: {why}" if why else None
    found = check_reply(response, MATH, ("call", "marked"), 24)
    assert found == {**before, "text": text, "error": error, "error_detail": detail}
    assert (response, found is response) == (before, False)


def test_a_reply_with_an_error_stays_as_it_is() -> None:
    response = build_response(Reply(None, error="server", error_detail="why", **CUT))
    assert check_reply(response, MATH, ("call", "marked"), 24) == response
    kept = {**build_response(Reply("<think>8", **CUT), strip_reasoning=False)}
    assert check_reply(kept, MATH, (), 24)["error_detail"] == f"the reply: {REASONING}{LIMIT}"


# Text, finish reason, error, raw -> the text as the original reads it
ORIGINAL: list[tuple[str | None, str | None, str | None, str | None, str | None]] = [
    ("a", "stop", None, "a b", "a"),
    (None, None, "server", None, None),
    (None, "length", "cut_off", "a b", "a b"),
    (None, "stop", "empty", " ", ""),
    (None, "stop", "empty", None, ""),
    (None, "length", "cut_off", "<think>so</think> a", "a"),
    ("a", "length", None, "a b", "a b"),
    ("calculator(1)", "length", None, "", "calculator(1)"),
    ("calculator(1)", "length", None, '{"call": 1}', "calculator(1)"),
]


@pytest.mark.parametrize(("text", "finish_reason", "error", "raw", "expected"), ORIGINAL)
def test_the_text_as_the_original_reads_it(
    text: str | None, finish_reason: str | None, error: str | None, raw: str | None, expected: str | None
) -> None:
    response = {"text": text, "finish_reason": finish_reason, "error": error, "raw": raw}
    assert text_as_original(response) == expected


def struct_table(**errors: Sequence[str | None]) -> Dataset:
    rows = [
        {name: {**build_response(None), "error": error} for name, error in zip(errors, values, strict=True)}
        for values in zip(*errors.values(), strict=True)
    ]
    return Dataset.from_list(rows, features=Features(dict.fromkeys(errors, RESPONSE)))


# Errors of columns -> the warning
LOST: list[tuple[dict[str, list[str | None]], str]] = [
    ({"a": ["empty", None, None, None, None]}, "m: 1 of 5 replies are no responses (1 empty)"),
    ({"a": ["empty", *[None] * 5]}, ""),
    ({"a": ["cut_off", "server", None, None, None]}, "m: 1 of 5 replies are no responses (1 cut_off): raise max_tokens above 9"),
    ({"a": ["server", "timeout", None]}, ""),
    ({"a": ["empty", "cut_off"], "b": ["empty", None]}, "m: 3 of 4 replies are no responses (1 cut_off and 2 empty): raise max_tokens above 9"),
]  # fmt: skip


@pytest.mark.parametrize(("errors", "warning"), LOST)
def test_lost_replies_are_warned_of_from_a_fifth_on(
    errors: dict[str, list[str | None]], warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    table = struct_table(**errors, other=["cut_off"] * len(errors["a"]))
    warn_of_lost_replies(table, list(errors), 9, "m")
    assert [record.getMessage() for record in caplog.records] == [warning] * bool(warning)
    caplog.clear()
    halves = DatasetDict(train=table.select([0]), test=table.select(range(1, len(table))))
    warn_of_lost_replies(halves, list(errors), 9, "m")
    assert [record.getMessage() for record in caplog.records] == [warning] * bool(warning)
    caplog.clear()
    warn_of_lost_replies(table.select([]), list(errors), 9, "m")
    assert not caplog.records


def test_the_messages_of_accept_cut() -> None:
    assert [check_accept_cut(value) for value in ((), ["marked"], {"call"}, {"marked": 1})] == [
        (), ("marked",), ("call",), ("marked",)
    ]  # fmt: skip
    expected = "accept_cut: expected a collection of call, marked, found "
    for value, found in (("call", "the text 'call'"), (None, "None"), (3, "3")):
        assert message(check_accept_cut, value) == expected + found
    assert (
        message(check_accept_cut, ["z", "call", "b"]) == "unknown value of accept_cut: 'b'; choose from: call, marked"
    )


# Tasks of a table -----------------------------------------------------------------------------------------------------


def test_a_task_that_differs_is_refused_with_its_fields() -> None:
    table = make_questions([{"id": "a", "question": "q", "answers": "1"}], task="math", id="id")
    other = replace(MATH, numeric=False, tool=Tool("sum", "Adds.", str.strip))
    assert message(tasks_of, table, other) == (
        "the rows have the task 'math' of this package, and the given task differs from it in tool, numeric: other "
        "processes would take one for the other. Give your task its own name, and the rows your task: "
        'make_questions(questions, task=replace(task, name="mine"), id="id", context="context", solution="solution")'
    )
    same = replace(MATH, reader=EngineSpec("scripted", "m"), examples={}, tool=replace(MATH.tool, version="2"))
    assert tasks_of(table, same) == tasks_of(table, {"math": same, "qa": QA}) == {"math": same}
    splits = DatasetDict(a=table, b=table.select([]))
    assert tasks_of(splits, None) == tasks_of(splits, {"qa": QA}) == {"math": MATH}
    mine = replace(other, name="mine")
    own = make_questions([{"id": "a", "question": "q", "answers": "1"}], task=mine, id="id")
    assert tasks_of(own, None) == {"mine": mine}
    assert message(tasks_of, own, replace(mine, numeric=True)) == (
        "another task was given for the rows 'mine' of this table at an earlier stage: omit task=, or run the earlier "
        "stages again with the new task"
    )
    assert message(tasks_of, own, {"mine": mine, "yours": mine}) == (
        "unknown task in task= 'yours'; choose from: lama, math, mine, mlqa, qa, retrieval"
    )
    assert message(tasks_of, table.remove_columns("task"), None).startswith("the task of a row needs the columns task")


# Grades of results ----------------------------------------------------------------------------------------------------

FAILED = ("timeout", "http", "unavailable", "crashed", "reader")


def test_a_result_is_graded_by_what_it_is() -> None:
    for error in (*FAILED, "syntax", "no_result", "mine"):
        expected = None if error in FAILED else False
        for compat in (True, False):
            assert grade_result(ToolResult(error=error), ["1"], MATH, compat=compat) is expected
    cases: list[tuple[Any, Any, dict[str, Any], bool | None]] = [
        (MATH, ToolResult(12), {}, True),
        (MATH, ToolResult(13.0), {"verify": False}, False),
        (QA, ToolResult(("a", "Bern")), {}, True),
        (QA, ToolResult(("a", "Bern")), {"compat": True}, False),
        (QA, ToolResult("Bern"), {"verify": False}, None),
        (MLQA, ToolResult("Bern"), {}, None),
        (LAMA, ToolResult("Bern"), {"verify": False}, True),
    ]
    for task, result, options, graded in cases:
        answers = ["12"] if task is MATH else ["Bern"]
        assert grade_result(result, answers, task, **options) is graded, (task.name, result)
    passage = " ".join(["word"] * 60 + ["Bern"])
    assert grade_result(ToolResult(passage), ["Bern"], QA) is True, "a passage has no limit of words"
    assert [any_correct(grades) for grades in ([], [False], [False, None], [None, True], [True, False])] == [
        False, False, None, True, True
    ]  # fmt: skip
    assert reader_name("WikiSearch") == "reader of WikiSearch"


def test_a_text_is_graded_by_its_call_or_its_answer() -> None:
    texts = {"calculator(3*4)": True, "calculator(3*5)": False, "calculator(3*": False, "calculator(1/0) 12": False}
    texts |= {"It is 12.": True, "No.": False}
    assert {text: grade_text(text, ["12"], "q", MATH) for text in texts} == texts
    cloze = "Bern is the capital of ?"
    assert grade_text("Bern is the capital of", ["Bern"], cloze, LAMA) is False, "the question is no answer"
    assert grade_text("It is Bern.", ["Bern"], cloze, LAMA) is True


# Candidates -----------------------------------------------------------------------------------------------------------


def test_the_parts_of_a_candidate() -> None:
    assert [distance_of(MATH, prediction, None, ["5", "9"], compat) for prediction, compat in
            (("8", False), ("8", True), (None, False), (None, True))] == [1.0, 3.0, None, 5.0]  # fmt: skip
    assert distance_of(MATH, "8", True, ["5"], False) is distance_of(QA, "8", False, ["5"], False) is None
    assert distance_of(replace(MATH, distance=None), "8", False, ["5"], True) is None
    values = [missing_answer(task, text) for task, text in
              ((MATH, "calculator(1)"), (QA, "a WikiSearch"), (QA, "Bern"), (QA, None), (MLQA, "translator(a)"), (LAMA, "QA(a)"))]  # fmt: skip
    assert values == ["0", "[]", "", "", "", ""]
    assert [has_call(MATH, text, uses_tool, compat) for text, uses_tool, compat in
            (("my calculator", False, True), ("my calculator", False, False), ("x", True, True), ("x", True, False), (None, True, True))
            ] == [True, False, False, True, False]  # fmt: skip
    candidate = Candidate("a", "1", True, True, "t", 2.0, "e", "stop", 0.25, 0.75)
    assert dict(candidate) == dict(zip(FIELDS, ("a", "1", True, True, "t", 2.0, "e", "stop", 0.25, 0.75), strict=True))
    assert (len(candidate), "name" in candidate, candidate.get("x")) == (10, True, None)
    with pytest.raises(UnknownName) as unknown:
        candidate["names"]
    assert str(unknown.value) == f"unknown field of a candidate 'names'; choose from: {', '.join(sorted(FIELDS))}"


def test_a_candidate_is_restored_from_the_evidence_of_a_table() -> None:
    rest = (None, "stop")
    cases: list[tuple[tuple[Any, ...], Candidate]] = [
        ((MATH, False, ["5", "9"], "a", "It is 8.12345.", "8.12", False, False, None, *rest), Candidate("a", "8.12345", False, False, None, 0.88, *rest)),
        ((MATH, False, ["5"], "a", "calculator(16/3)", "5.33", False, True, "5.3333", *rest), Candidate("a", "5.3333", False, True, "calculator", 0.33, *rest)),
        ((MATH, False, ["5"], "a", "calculator(1/0)", None, False, True, None, "zero_division", "length"), Candidate("a", None, False, True, "calculator", None, "zero_division", "length")),
        ((MATH, True, ["5", "9"], "a", "my calculator", "0.0", False, True, None, *rest), Candidate("a", None, False, True, "calculator", 5.0, *rest)),
        ((MATH, True, ["5", "9"], "a", "8 or so", "8.0", None, False, None, *rest), Candidate("a", "8", None, False, None, 3.0, *rest)),
        ((QA, False, ["Bern"], "a", "It is Rome.", "Rome", False, False, None, *rest), Candidate("a", "Rome", False, False, None, None, *rest)),
        ((QA, False, ["Bern"], "a", "x", "[]", True, True, "out", *rest), Candidate("a", "[]", True, True, "WikiSearch", None, *rest)),
        ((QA, True, ["Bern"], "a", "a WikiSearch", "[]", False, True, None, *rest), Candidate("a", None, False, True, "WikiSearch", None, *rest)),
        ((QA, True, ["Bern"], "a", "no tool", "", False, False, None, *rest), Candidate("a", None, False, False, None, None, *rest)),
    ]  # fmt: skip
    for arguments, expected in cases:
        found = restored(*arguments)
        assert replace(found, distance=None) == replace(expected, distance=None)
        assert found.distance == (None if expected.distance is None else pytest.approx(expected.distance))


def test_what_rescore_refuses() -> None:
    table = Dataset.from_dict({name: [] for name in ("id", "task", "answers", *EVIDENCE)})
    for trusted in ("gold", 3):
        assert (
            message(rescore, table, "trice", trusted=trusted)
            == f"trusted: expected a list of responders, found {trusted!r}"
        )
    assert message(rescore, table.remove_columns(["correct", "origin"]), "trice").startswith(
        "the evidence of the scores needs the columns origin, correct"
    )


def test_rows_of_candidates_and_rules() -> None:
    record = Candidate("gold", "1")
    assert records_of([record, {"name": "a", "correct": True, "mine": 3}]) == [record, Candidate("a", correct=True)]
    assert records_of([record])[0] is record
    for value in ({"correct": True}, "gold"):
        assert message(records_of, [value]) == f"a candidate needs the name of its responder, found {value!r}"
    assert gold_in([Candidate("a"), record]) is record
    assert message(gold_in, [Candidate("a"), Candidate("b")]) == "no candidate is named 'gold'; found: a, b"
    assert message(gold_in, []) == "no candidate is named 'gold'; found: (none)"
    assert rule_options(RULES["trice"]) == {"missing": "wrong"}
    assert rule_options(RULES["paper"]) == rule_options(RULES["cost"]) == {}


def test_a_rule_is_tried_with_each_kind_of_response() -> None:
    seen: list[Any] = []

    def rule(candidates: Any, *, numeric: bool, trusted: tuple[str, ...] = (), weight: float = 1.0) -> list[float]:
        seen.append((candidates, numeric, trusted, weight))
        return [0.0] * len(candidates)

    names = ["a", "gold", "b", "c", "d", "e"]
    assert checked_rule(rule, RULES, {"weight": 2}, names, ["b"]) is rule
    ((row, numeric, trusted, weight),) = seen
    assert (numeric, trusted, weight) == (True, ("b",), 2)
    assert [tuple(candidate.values())[:8] for candidate in row] == [
        ("gold", "57", True, True, "calculator", None, None, "stop"),
        ("a", "57", True, True, "calculator", None, None, "stop"),
        ("b", "25.5", False, False, None, 31.5, None, "stop"),
        ("c", None, False, True, "calculator", None, "zero_division", "stop"),
        ("d", None, None, False, None, None, None, "length"),
        ("e", "57", True, True, "calculator", None, None, "stop"),
    ]
    assert checked_rule("trice", RULES, {"ties": "share"}, names, []) is RULES["trice"]
    assert message(checked_rule, rule, RULES, {"wait": 2}, names, []) == (
        "unknown option of the rule rule: 'wait'; choose from: numeric, trusted, weight"
    )
    assert message(checked_rule, 3, RULES, {}, names, []) == "rule: expected a name or a scoring function, found 3"

    def broken(candidates: Any) -> list[float]:
        raise ValueError("no")

    assert message(checked_rule, broken, RULES, {}, names, []) == (
        "the rule broken fails on an example row: ValueError: no. A rule is called as rule(candidates, numeric=..., "
        "trusted=..., **options) and returns a score for each candidate"
    )
    assert keywords_for(rule, False, ["b"], {"weight": 2, "other": 3}) == {
        "numeric": False,
        "trusted": ("b",),
        "weight": 2,
    }
    assert keywords_for(lambda candidates, **options: [], True, [], {"x": 1}) == {
        "numeric": True,
        "trusted": (),
        "x": 1,
    }
    assert keywords_for(broken, True, [], {}) == {}


def test_gold_is_the_first_responder() -> None:
    table = struct_table(b=[None], gold=[None], a=[None])
    assert responders_in(table) == ["gold", "b", "a"]
    assert message(responders_in, table.remove_columns("gold")) == (
        "the table needs a responder column named gold; found: b, a"
    )
    assert message(responders_in, Dataset.from_dict({"id": ["a"]})) == (
        "the table needs a responder column named gold; found: no responder column"
    )


def test_lost_responses_are_counted_in_the_ledger() -> None:
    details = {"a": "tool_fault:crashed: KeyError: 'x': y", "b": "no_reply:timeout"}
    rows = [
        ("stage2", reason, json.dumps(details))
        for reason in (*UNGRADED, "cut_off", "empty", "no_reply:x", "tool_fault:x")
    ]
    others = [
        ("stage1", "cut_off", json.dumps(details)),
        ("stage2", "no_answer", json.dumps(details)),
        ("stage2", "empty", "a"),
    ]
    table = Dataset.from_list([dict(zip(("stage", "reason", "detail"), row, strict=True)) for row in rows + others])
    assert lost_in_ledger(table) == Counter({("a", "tool_fault:crashed"): 6, ("b", "no_reply:timeout"): 6})


def test_a_warning_is_logged_by_the_package(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        warn_of_lost_replies(struct_table(a=["empty"]), ["a"], 9, "m")
    assert [record.name for record in caplog.records] == ["toolrlef_data"]
