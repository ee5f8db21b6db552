"""`evaluate` on BFCL's rows counts calls, right calls and invented calls, as a count by hand does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.benchmarks import BOOK, IRRELEVANT, LIGHT, SIMPLE, write_bfcl
from toolrlef_data import EngineSpec, Evaluation, InputError, evaluate, scripted
from toolrlef_data.records import Reply
from toolrlef_data.trice.benchmarks.function_calls import CallSettings, _call_request
from toolrlef_data.trice.benchmarks.offered import calls_in

LUNA = 'tables.book(place="Luna", seats=4)'


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))


def model(*replies: str | Reply) -> EngineSpec:
    """Return a model with one reply for each question of `SIMPLE`, and the same for those of `IRRELEVANT`."""
    questions = [question for question, _ in (*SIMPLE, *IRRELEVANT)]
    return scripted(dict(zip(questions, replies * 2, strict=True)), progress=False, max_failed=1.0)


def values(found: Evaluation) -> dict[str, float]:
    return {name: figure.value for name, figure in found.figures().items() if figure.value is not None}


def test_right_calls_are_counted(tmp_path: Path) -> None:
    path = write_bfcl(tmp_path, "BFCL_simple.json", SIMPLE)
    found = evaluate(model(LUNA, 'tables.book(place="Old Mill", seats=3)'), benchmark=path)
    assert values(found)["right call"] == 0.5
    assert values(found)["calls where a function fits"] == 1
    assert "no call where no function fits" not in values(found)
    assert found.rows["correct"][:] == [True, False]
    assert found.rows["arguments"][1] == '{"place": "Old Mill", "seats": 3}'


def test_a_model_that_never_calls_loses_all_right_calls(tmp_path: Path) -> None:
    """The guard against "never calls": the paired difference of right calls."""
    simple = write_bfcl(tmp_path, "BFCL_simple.json", SIMPLE)
    irrelevant = write_bfcl(tmp_path, "BFCL_irrelevance.json", IRRELEVANT)
    calling, silent = model(LUNA, "tables.book('The Old Mill', 2)"), model("Sorry, no.", "I cannot do that.")
    before, after = (evaluate(spec, benchmark=simple) for spec in (calling, silent))
    change = before.differences(after)["right call"]
    assert (change.value, change.low, change.n) == (-1, -1, 2)
    before, after = (evaluate(spec, benchmark=irrelevant) for spec in (calling, silent))
    assert before.differences(after)["no call where no function fits"].value == 1
    with pytest.raises(InputError, match="different questions"):
        before.differences(evaluate(calling, benchmark=simple))


@pytest.mark.parametrize(
    ("text", "n_calls", "is_correct", "is_invented"),
    [
        (LUNA, 1, True, False),
        ("tables.book('Luna', 4)", 1, True, False),
        (f"I will do it.\n{LUNA}", 1, True, False),
        ('<tool_call>{"name": "tables.book", "arguments": {"place": "luna", "seats": 4}}</tool_call>', 1, True, False),
        ("<think>tables.book or not?</think>" + LUNA, 1, True, False),
        (f"{LUNA} {LUNA}", 2, False, False),
        ('tables.book(place="Luna")', 1, False, False),
        ('tables.book(place="Luna", seats="4")', 1, False, False),
        ('tables.book(place="Luna", seats=', 1, False, False),
        ("tables.find(place='Luna')", 1, False, True),
        ("[find()]", 1, False, True),
        ("calculator(3*4)", 1, False, True),
        ('{"name": "find", "arguments": {"place": "Luna"}}', 1, False, True),
        ("calculator(3*4) is 12.", 0, False, False),
        ("How many seats (two or four)?", 0, False, False),
        ("", 0, False, False),
    ],
)
def test_the_forms_of_a_reply(text: str, n_calls: int, is_correct: bool, is_invented: bool, tmp_path: Path) -> None:
    path = write_bfcl(tmp_path, "BFCL_simple.json", SIMPLE[:1])
    (row,) = evaluate(model(text, text), benchmark=path).rows
    assert (row["n_calls"], row["correct"], row["is_invented"]) == (n_calls, is_correct, is_invented)
    assert row["error"] is None


def test_native_calls_replace_the_text() -> None:
    calls = calls_in("", [["tables_book", '{"place": "Luna", "seats": 4}'], ["find", "{}"]], [LIGHT, BOOK])
    assert [(call.name, call.arguments, call.is_offered) for call in calls] == [
        ("tables.book", {"place": "Luna", "seats": 4}, True),
        ("find", None, False),
    ]
    assert calls_in("Hello", [["turn_on_light", "{not JSON"]], [LIGHT])[0].arguments is None


def test_failed_requests_count_nowhere_and_cut_replies_are_shown(tmp_path: Path) -> None:
    path = write_bfcl(tmp_path, "BFCL_simple.json", SIMPLE)
    replies = (Reply(None, error="refused"), Reply("I would like to", finish_reason="length"))
    found = evaluate(model(*replies), benchmark=path)
    assert found.figures()["right call"].n == 1
    assert values(found)["no reply"] == 0.5
    assert values(found)["replies at the token limit"] == 1


def test_the_functions_are_in_the_prompt_or_in_the_request(tmp_path: Path) -> None:
    row = {"question": "A table for four?", "functions": json.dumps([BOOK])}
    text, tools = (_call_request(row, CallSettings("chat", protocol)) for protocol in ("text", "tools"))
    assert '"name": "tables.book"' in text.messages[0].content
    assert '"type": "number"' in text.messages[0].content, "types of JSON schemas"
    assert [message.role for message in text.messages] == ["system", "user"]
    assert not text.tools
    assert [(message.role, message.content) for message in tools.messages] == [("user", row["question"])]
    assert json.loads(tools.tools[0])["function"]["parameters"]["type"] == "object"


def test_arguments_that_do_not_apply_are_refused(tmp_path: Path) -> None:
    path = write_bfcl(tmp_path, "BFCL_simple.json", SIMPLE)
    for arguments in ({"tools": False}, {"examples": 2}):
        with pytest.raises(InputError, match="do not apply"):
            evaluate(model("a", "b"), benchmark=path, **arguments)
    with pytest.raises(InputError, match="either questions or benchmark"):
        evaluate(model("a", "b"))
