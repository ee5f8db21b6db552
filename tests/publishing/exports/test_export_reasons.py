"""What does not fit an export: the whole reason of each row or response, and the whole message of refused arguments."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from toolrlef_data import EXPORTS, TASKS, TOOLS, InputError, Tool, export, to_trainer
from toolrlef_data.columns import STAGE1, STAGE2, TRAJECTORIES
from toolrlef_data.publishing.exports import lengths, llamafactory, messages, stage1, stage2, trajectories, turns
from toolrlef_data.publishing.exports.conversion import convert_rows, plan_export
from toolrlef_data.publishing.exports.lengths import Target, check_target, n_tokens
from toolrlef_data.publishing.exports.options import Options, check_options
from toolrlef_data.records import Drop, MissingColumns, UnknownName, UnusableRow

Row = dict[str, Any]
CALCULATOR = TOOLS["calculator"]
NATIVE = Options(calls="native", tasks={"math": TASKS["math"]})
SHARED: Row = {"id": "r", "task": "math", "instruction": "Add.", "input": "1+1?", "answers": ["2"], "kind": None}
FUNCTION: Row = {"name": "ping", "arguments": '{"host": "a"}'}
CALL: Row = {"id": "c1", "type": "function", "function": FUNCTION}
EMPTY: Row = {"content": "", "name": None, "tool_call_id": None, "tool_calls": None, "train": False}
USER: Row = {**EMPTY, "role": "user", "content": "Is a up?"}
ASKS: Row = {**EMPTY, "role": "assistant", "tool_calls": [CALL], "train": True}
RESULT: Row = {**EMPTY, "role": "tool", "content": "no", "name": "ping", "tool_call_id": "c1"}
SAYS: Row = {**EMPTY, "role": "assistant", "content": "No.", "train": True}
TOOL: Row = {"type": "function", "function": {"name": "ping", "description": "", "parameters": {}}}
TOOLS_TEXT = json.dumps([TOOL])


def table(features: Any, *rows: Row) -> Dataset:
    return Dataset.from_list(
        [{name: row.get(name) for name in features} for row in rows] if rows else [], features=features
    )


def reason_of(function: Callable[..., Any], *arguments: Any) -> tuple[str, str]:
    """Return the reason and the detail of an unfit row; functions of rows yield their records."""
    try:
        found = function(*arguments)
        found = list(found) if isinstance(found, Iterable) else found
    except UnusableRow as error:
        return error.reason, error.detail
    raise AssertionError(f"expected an unfit row, found {found!r}")


def asks(arguments: Any, **fields: Any) -> Row:
    return {**ASKS, "tool_calls": [{**CALL, "function": {**FUNCTION, "arguments": arguments}}], **fields}


def conversation(*parts: Any, tools: str = TOOLS_TEXT) -> Row:
    return {**SHARED, "messages": list(parts), "tools": tools}


def sides(**changes: Any) -> Row:
    return {**SHARED, "prompt": [USER], "chosen": [SAYS], "rejected": [SAYS], "tools": TOOLS_TEXT, **changes}


# Rows -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        ("calculator(3*4) and calculator(5*6)", "several_calls", "2 calls: 'calculator(3*4) and calculator(5*6)'"),
        ("calculator(3*4) makes 12", "text_after_call", "text after the call: ' makes 12'"),
        (
            '{"name": "calculator", "arguments": {"formula": "3*4", "digits": 2}}',
            "other_arguments",
            'expected formula alone, found \'{"formula": "3*4", "digits": 2}\'',
        ),
    ],
)
def test_a_call_that_no_message_expresses(text: str, reason: str, detail: str) -> None:
    assert reason_of(turns.native_message, text, CALCULATOR) == (reason, detail)


def test_a_call_that_cannot_be_read() -> None:
    reason, detail = reason_of(turns.native_message, "calculator(3*", CALCULATOR)
    assert (reason, detail.partition(": ")[2]) == ("unreadable_call", "'calculator(3*'")
    assert detail.partition(": ")[0] not in ("", "None")


def test_native_messages() -> None:
    """Text before the call is its content, what wraps it is none; arguments are an object or their JSON text."""
    function = {"name": "calculator", "arguments": {"formula": "3*4"}}
    call = {"id": "call_1", "type": "function", "function": function}
    assert turns.native_message("I use calculator(3*4).", CALCULATOR) == {
        "role": "assistant",
        "content": "I use",
        "tool_calls": [call],
    }
    as_text = {**call, "function": {**function, "arguments": '{"formula": "3*é"}'}}
    assert turns.native_message("calculator(3*é)", CALCULATOR, "text")["tool_calls"] == [as_text]
    assert turns.native_message(" It is 12.\n", CALCULATOR) == {"role": "assistant", "content": "It is 12."}


@pytest.mark.parametrize("name", ["instruction", "input"])
def test_a_row_without_a_prompt(name: str) -> None:
    expected = ("no_prompt", "instruction or input is null: an earlier version built the table")
    for make in (stage1.trl, stage1.alpaca, stage1.trl_grpo, stage2.trl_kto):
        assert reason_of(make, {**SHARED, "output": "2", name: None}, Options()) == expected


@pytest.mark.parametrize("text", ["", None, " \n"])
def test_a_row_without_a_reply(text: str | None) -> None:
    for make in (stage1.trl, stage1.alpaca, stage1.openai, stage1.axolotl, llamafactory.stage1):
        assert reason_of(make, {**SHARED, "output": text}, Options()) == ("no_reply", "the response is empty")


@pytest.mark.parametrize("answers", [None, [], ["2", None]])
def test_a_row_without_gold_answers(answers: Any) -> None:
    expected = ("no_answer", f"the grader needs gold answers, found {answers!r}")
    assert reason_of(stage1.trl_grpo, {**SHARED, "answers": answers}, Options()) == expected


def test_a_row_of_without_tool_has_no_call_as_target() -> None:
    for tools, text in ((TOOLS_TEXT, 'ping(host="a")'), ("[]", "calculator(1+1)")):
        row = {**SHARED, "kind": "chat", "tools": tools, "output": text}
        expected = ("call_as_target", f"a row of the kind chat calls a tool: {text!r}")
        assert reason_of(turns.target_of, [], row, NATIVE) == expected
        assert turns.target_of([], {**row, "kind": None}, Options()) == [{"role": "assistant", "content": text}]
    plain = {**SHARED, "kind": "chat", "tools": "[]", "output": "It is 2."}
    assert turns.target_of([], plain, Options()) == [{"role": "assistant", "content": "It is 2."}]
    assert reason_of(turns.target_of, [], {**plain, "output": None}, NATIVE) == ("no_reply", "the response is empty")


@pytest.mark.parametrize(
    ("parts", "reason", "detail"),
    [
        ([USER, {**SAYS, "train": None}], "no_flag", "message 1 has no value for train"),
        ([{**USER, "train": True}, SAYS], "not_assistant", "message 0 has the train flag, but its role is 'user'"),
        ([USER, {**SAYS, "train": False}], "no_target", "no message has the train flag"),
        ([], "no_target", "no message has the train flag"),
        (None, "no_target", "no message has the train flag"),
        ([USER, SAYS, {**SAYS, "content": " "}], "no_reply", "message 2 has the train flag, but neither text nor a call"),
        ([USER, None], "malformed", "message 1 or its role is null"),
        ([USER, {**SAYS, "role": None}], "malformed", "message 1 or its role is null"),
        ([USER, {**ASKS, "tool_calls": [CALL, None]}], "malformed", "a call of message 1 or its function is null"),
        ([USER, {**ASKS, "tool_calls": [{**CALL, "function": None}]}], "malformed", "a call of message 1 or its function is null"),
        ([SAYS], "no_prompt", "the first message has the train flag, so its prompt is empty"),
        ([USER, RESULT, SAYS], "unpaired_call", "message 1 is the result of no call before it"),
        ([USER, ASKS, RESULT, RESULT, SAYS], "unpaired_call", "message 3 is the result of no call before it"),
        ([USER, asks("[1]"), RESULT, SAYS], "bad_arguments", "arguments are not a JSON object: '[1]'; arguments=\"text\" exports them unchanged"),
        ([USER, asks('{"n": 48.85837009999999}')], "bad_number", "`datasets` changes or refuses the number 48.85837009999999 of arguments; arguments=\"text\" exports them unchanged"),
    ],
)  # fmt: skip
def test_a_trajectory_without_a_record(parts: Any, reason: str, detail: str) -> None:
    row = {**conversation(), "messages": parts}
    assert reason_of(trajectories.trl, row, Options(arguments="object")) == (reason, detail)


@pytest.mark.parametrize(
    ("make", "parts", "reason", "detail"),
    [
        (trajectories.axolotl, [USER, asks("{x"), RESULT, SAYS], "bad_arguments", "arguments are not JSON: '{x'"),
        (trajectories.axolotl, [USER, asks(None), RESULT, SAYS], "bad_arguments", "arguments are not JSON: None"),
        (trajectories.openai, [USER, ASKS, SAYS], "unpaired_call", "a call before message 2 has no result"),
        (trajectories.openai, [USER, {**ASKS, "tool_calls": [{**CALL, "id": None}]}], "unpaired_call", "a call of message 1 has no id"),
        (trajectories.openai, [USER, {**ASKS, "tool_calls": [{**CALL, "function": {**FUNCTION, "name": "a b"}}]}], "bad_name", "expected 1 to 64 letters, digits, _ and - as function name, found 'a b'"),
        (llamafactory.trajectories, [USER, USER, SAYS], "not_alternating", "message 2 after the system message has the role user"),
        (llamafactory.trajectories, [{**USER, "role": "system"}, USER, SAYS, USER, {**USER, "role": "system"}, SAYS], "not_alternating", "message 4 after the system message has the role system"),
        (llamafactory.trajectories, [USER, {**ASKS, "content": " So "}], "text_beside_call", "text beside a call (for trajectories pass keep_thought=False): ' So '"),
    ],
)  # fmt: skip
def test_a_trajectory_without_a_record_of_one_format(make: Any, parts: Any, reason: str, detail: str) -> None:
    try:
        outcomes = list(make(conversation(*parts), Options()))
    except UnusableRow as error:
        outcomes = [error]
    found = [(each.reason, each.detail) for each in outcomes if isinstance(each, UnusableRow)]
    assert found == [(reason, detail)]


@pytest.mark.parametrize(
    "make", [trajectories.trl, trajectories.openai, trajectories.axolotl, llamafactory.trajectories]
)
def test_functions_that_cannot_be_read(make: Any) -> None:
    row = conversation(USER, SAYS, tools='[{"name": 3}]')
    expected = ("bad_tools", "a function schema has no name: '[{\"name\": 3}]'")
    assert reason_of(make, row, Options(arguments="object")) == expected


def test_names_and_numbers_that_a_format_refuses() -> None:
    long = {**TOOL, "function": {**TOOL["function"], "name": "x" * 65}}
    expected = f"expected 1 to 64 letters, digits, _ and - as function name, found {'x' * 65!r}"
    assert reason_of(messages.check_names, [], [TOOL, long]) == ("bad_name", expected)
    messages.check_names([USER, ASKS], [TOOL])
    infinite = json.dumps([{**TOOL, "function": {**TOOL["function"], "parameters": {"maximum": math.inf}}}])
    makers: list[Any] = [trajectories.trl, llamafactory.trajectories]
    for make in makers:
        outcome = reason_of(messages.tools_text, {"tools": infinite})
        assert outcome[0] == "not_json"
        assert "Out of range" in outcome[1] or "not JSON compliant" in outcome[1]
        try:
            (error,) = make(conversation(USER, SAYS, tools=infinite), Options(arguments="object"))
        except UnusableRow as raised:
            error = raised
        assert (error.reason, error.detail) == outcome


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"prompt": []}, "no_prompt", "prompt has no message"),
        ({"prompt": None}, "no_prompt", "prompt has no message"),
        ({"chosen": []}, "no_reply", "chosen has no message"),
        ({"rejected": None}, "no_reply", "rejected has no message"),
        ({"chosen": [None]}, "malformed", "message 0 or its role is null"),
        (
            {"rejected": [SAYS, USER, RESULT, {**USER, "role": "system"}]},
            "not_assistant",
            "rejected has messages of the role system, tool, user",
        ),
        ({"chosen": [SAYS, {**SAYS, "content": ""}]}, "no_reply", "chosen has a message with neither text nor a call"),
    ],
)
def test_a_pair_of_steps_without_a_record(changes: Row, reason: str, detail: str) -> None:
    for make in (trajectories.trl_preference, llamafactory.pairs):
        assert reason_of(make, sides(**changes), Options()) == (reason, detail)


def test_a_pair_of_llamafactory_has_one_message_a_side() -> None:
    for side in ("chosen", "rejected"):
        expected = ("not_alternating", "chosen or rejected has more than one message")
        assert reason_of(llamafactory.pairs, sides(**{side: [SAYS, SAYS]}), Options()) == expected


@pytest.mark.parametrize("turn", [None, [{"from": "user", "value": "x"}, None]])
def test_a_turn_of_toolllama_that_is_null(turn: Any) -> None:
    row = {"name": "n", "conversations": turn}
    assert reason_of(trajectories.toolllama, row, Options()) == ("malformed", "conversations or a turn is null")


# Responses ------------------------------------------------------------------------------------------------------------

UNREADABLE = "calculator(1+"


def ranked(texts: Any, scores: Any, **changes: Any) -> Row:
    origins = ["gold", "a", "b", "c"][: len(texts)]
    return {
        **SHARED,
        "responses": texts,
        "scores": scores,
        "origin": origins,
        "correct": [True] * len(texts),
        **changes,
    }


def outcomes(make: Any, row: Row, options: Options) -> list[Any]:
    """Return the drops and unfit responses of a row by reason and detail; True stands for a record."""
    found = make(row, options)
    return [True if isinstance(each, dict) else (type(each), each.reason, each.detail) for each in found]


UNFIT_RESPONSE = turns.native_message, UNREADABLE
RANKINGS: list[tuple[Any, str]] = [
    (stage2.trl_preference, "no_pair"),
    (stage2.openai_preference, "no_pair"),
    (llamafactory.ranking, "no_pair"),
    (stage2.trl_tpo, "no_triple"),
]


@pytest.mark.parametrize(("make", "reason"), [*RANKINGS, (stage2.rrhf, "no_pair")])
def test_a_row_without_a_ranking(make: Any, reason: str) -> None:
    """Equal scores, equal texts and missing scores are no ranking; the drop has the scores that are left."""
    rows: list[tuple[list[Any], list[Any], list[float]]] = [
        (["x", "y"], [10.0, 10.0], [10.0, 10.0]),
        (["x", " x\n", "y"], [20.0, 0.0, None], [20.0]),
        ([None, "y", "z"], [20.0, 5.0, math.nan], [5.0]),
        ([], [], []),
    ]
    for texts, scores, left in rows:
        expected = [(Drop, reason, f"scores of different texts: {left}")]
        assert outcomes(make, ranked(texts, scores), Options()) == expected


@pytest.mark.parametrize(("make", "reason"), RANKINGS)
def test_an_unfit_response_is_named_and_the_others_stay(make: Any, reason: str) -> None:
    detail = f"the response of a: {reason_of(*UNFIT_RESPONSE, CALCULATOR)[1]}"
    texts = ["calculator(1+1)", UNREADABLE, "3", "4"]
    row = ranked(texts, [20.0, 15.0, 10.0, 0.0])
    assert outcomes(make, row, NATIVE) == [(UnusableRow, "unreadable_call", detail), True]
    lost = ranked(texts[:2], [20.0, 15.0])
    rest = (Drop, reason, "scores of different texts: [20.0]")
    assert outcomes(make, lost, NATIVE) == [(UnusableRow, "unreadable_call", detail), rest]


def test_labels_of_unfit_and_ungraded_responses() -> None:
    detail = f"the response of a: {reason_of(*UNFIT_RESPONSE, CALCULATOR)[1]}"
    texts = ["calculator(1+1)", UNREADABLE, "3", " 3"]
    row = ranked(texts, None, correct=[True, False, None, True])
    found = outcomes(stage2.trl_kto, row, NATIVE)
    assert found == [True, (UnusableRow, "unreadable_call", detail), (Drop, "not_graded", "the response of b")]
    assert outcomes(stage2.trl_kto, ranked(["3", None, "4"], None), NATIVE) == [True, True]


def test_lists_of_different_lengths() -> None:
    row = ranked(["x"], None, origin=["gold", "a"])
    expected = ("ragged", "expected lists of one length, found responses 1, scores null, origin 2")
    for make, _ in RANKINGS:
        assert reason_of(make, row, Options()) == expected
    expected = ("ragged", "expected lists of one length, found responses 1, correct 1, origin 2")
    assert reason_of(stage2.trl_kto, row, Options()) == expected


def test_scores_outside_of_the_range() -> None:
    """A gap as large as the range has the margin 1."""
    detail = "scores differ by 20.5: pass the range of the rule as score_range="
    makers: list[Any] = [stage2.trl_preference, llamafactory.ranking]
    for make in makers:
        assert reason_of(make, ranked(["x", "y"], [20.5, 0.0]), Options()) == ("bad_score", detail)
        (record,) = make(ranked(["x", "y"], [20.0, 0.0]), Options())
        assert (record["margin"], record["score_chosen"], record["score_rejected"]) == (1.0, 20.0, 0.0)
        (record,) = make(ranked(["x", "y"], [20.5, 0.0]), Options(score_range=41.0))
        assert record["margin"] == 0.5


def test_openai_refuses_the_name_of_a_tool_with_each_response() -> None:
    task = replace(TASKS["math"], tool=Tool("x" * 65, "Too long.", str.upper))
    options = Options(calls="native", tasks={"math": task})
    name = f"expected 1 to 64 letters, digits, _ and - as function name, found {'x' * 65!r}"
    row = ranked(["2", "3"], [20.0, 0.0])
    assert outcomes(stage2.openai_preference, row, options) == [
        (UnusableRow, "bad_name", f"the response of gold: {name}"),
        (UnusableRow, "bad_name", f"the response of a: {name}"),
        (Drop, "no_pair", "scores of different texts: []"),
    ]
    assert reason_of(stage1.openai, {**SHARED, "output": "2"}, options) == ("bad_name", name)
    record: Any = next(stage2.openai_preference(row, Options()))
    assert "tools" not in record["input"]


# Options and arguments ------------------------------------------------------------------------------------------------

STYLES: dict[str, tuple[str, ...]] = {"style": ("alpaca", "chat"), "min_gap": (), "score_range": ()}


def test_options_have_the_first_value_as_default() -> None:
    assert check_options("f", {}, {}) == Options()
    assert check_options("f", STYLES, {"style": None, "min_gap": None}) == Options(style="alpaca")
    given = {"style": "chat", "min_gap": 0, "score_range": 0.5, "calls": "native"}
    expected = Options(style="chat", min_gap=0, score_range=0.5, calls="native")
    assert check_options("f", {**STYLES, "calls": ("text", "native")}, given) == expected
    assert (Options().score_range, Options().min_gap, Options().pairs, Options().arguments) == (20, 0, "best", "text")


@pytest.mark.parametrize(
    ("supported", "given", "message"),
    [
        (STYLES, {"calls": "native"}, "the format 'f' has no option calls for this table; its options: style, min_gap, score_range"),
        ({}, {"min_gap": 1}, "the format 'f' has no option min_gap for this table; its options: none"),
        ({}, {"colour": 1}, "the format 'f' has no option colour for this table; its options: none"),
        (STYLES, {"style": "vicuna"}, "the format 'f' supports style as alpaca or chat only: omit style="),
        ({"arguments": ("text",)}, {"arguments": "object"}, "the format 'f' supports arguments as text only: omit arguments="),
        *((STYLES, {name: value}, f"{name}: expected a number of at least 0, found {value!r}") for name in ("min_gap", "score_range") for value in (-1, -0.1, math.inf, math.nan, "1", [1])),
        (STYLES, {"score_range": 0}, "score_range: expected a number above 0, found 0"),
        ({"calls": ("text", "native"), "style": ("chat", "alpaca")}, {"calls": "native", "style": "alpaca"}, "calls=\"native\" needs style=\"chat\", found 'alpaca'"),
    ],
)  # fmt: skip
def test_options_that_a_format_refuses(supported: Any, given: Row, message: str) -> None:
    with pytest.raises(InputError) as caught:
        check_options("f", supported, given)
    assert str(caught.value) == message
    assert not isinstance(caught.value, UnknownName)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("arguments", ("object", "text")), ("style", ("chat", "alpaca", "completion", "vicuna")), ("calls", ("text", "native")),
        ("pairs", ("best", "adjacent", "all")),
    ],
)  # fmt: skip
def test_every_value_of_an_option(name: str, values: tuple[str, ...]) -> None:
    for value in values:
        assert getattr(check_options("f", {name: values}, {name: value}), name) == value
    with pytest.raises(UnknownName, match=f"choose from: {', '.join(sorted(values))}$"):
        check_options("f", {name: values}, {name: "odd"})


@pytest.mark.parametrize(
    ("name", "kind"),
    [("arguments", "form of arguments"), ("style", "prompt style"), ("calls", "form of calls"), ("pairs", "selection of pairs")],
)  # fmt: skip
def test_a_value_that_no_format_has(name: str, kind: str) -> None:
    with pytest.raises(UnknownName, match=f"unknown {kind} 'odd'"):
        check_options("f", {}, {name: "odd"})


GOOD: Row = {**SHARED, "output": "2"}
TWO: Row = {**SHARED, "origin": ["gold", "a"], "responses": ["2", "3"], "scores": [20.0, 5.0], "correct": [True, False]}


def test_schemas_of_tools_are_not_escaped() -> None:
    task = replace(TASKS["math"], tool=replace(CALCULATOR, description="Zählt."))
    options = Options(calls="native", tasks={"math": task})
    assert "Zählt." in turns.tools_column(SHARED, options)["tools"]
    assert turns.tools_column(SHARED, Options()) == {}
    (schema,) = turns.tools_list(SHARED, options)
    assert (schema["function"]["name"], turns.tools_list(SHARED, Options())) == ("calculator", [])
    (own,) = turns.tools_list({**SHARED, "kind": "chat", "tools": TOOLS_TEXT}, options)
    assert own == TOOL


def test_tables_that_a_format_refuses(tmp_path: Path) -> None:
    refused: list[tuple[Any, str, dict[str, Any], type[Exception], str]] = [
        (DatasetDict(train=table(STAGE1, GOOD)), "trl", {}, InputError, "export expects one Dataset, found a DatasetDict: pass one of its splits"),
        (Dataset.from_list([{"x": 1}]), "trl", {}, MissingColumns, "the format 'trl' needs other columns; this table lacks instruction, input, output; or messages, tools; formats that fit it: (none)"),
        (Dataset.from_list([{"instruction": "", "input": "", "name": "", "conversations": []}]), "alpaca", {}, MissingColumns, "the format 'alpaca' needs other columns; this table lacks output; formats that fit it: toolllama"),
        (Dataset.from_list([{"name": "", "conversations": []}]), "alpaca", {}, MissingColumns, "the format 'alpaca' needs other columns; this table lacks instruction, input, output; formats that fit it: toolllama"),
    ]  # fmt: skip
    for data, name, options, kind, message in refused:
        for make in (lambda *given, **more: export(given[0], given[1], tmp_path / "x", **more), to_trainer):
            with pytest.raises(kind) as caught:
                make(data, name, **options)
            assert str(caught.value) == message
    with pytest.raises(UnknownName, match="unknown unfit 'keep'; choose from: drop, refuse"):
        to_trainer(table(STAGE1, GOOD), unfit="keep")
    with pytest.raises(UnknownName, match="unknown format 'csv'"):
        to_trainer(table(STAGE1, GOOD), "csv")
    assert not list(tmp_path.iterdir())


def test_unfit_rows_are_named_by_number_and_id(tmp_path: Path) -> None:
    rows = [GOOD, {**GOOD, "id": "bad", "output": ""}]
    end = "does not fit the format 'trl': no_reply: the response is empty (unfit='drop' drops these rows and records the reasons)"
    for data, name in ((table(STAGE1, *rows), "row 1 (bad)"), (table(STAGE1, *rows).remove_columns("id"), "row 1")):
        with pytest.raises(InputError) as caught:
            export(data, "trl", tmp_path / "x")
        assert str(caught.value) == f"{name} {end}"
    with pytest.raises(InputError) as caught:
        export(table(STAGE1, rows[1]), "trl", tmp_path / "x", unfit="drop")
    message = "none of the rows fits the format 'trl'; the reason of the last one: no_reply: the response is empty"
    assert str(caught.value) == message
    assert not list(tmp_path.iterdir())


def test_the_ledger_of_an_export(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its rows have the columns of every ledger; the next export without drops removes it."""
    data, path = (
        table(STAGE1, {**GOOD, "dataset": "d"}, {**GOOD, "id": "é", "dataset": "d", "output": ""}),
        tmp_path / "x",
    )
    export(data, "trl", path, unfit="drop")
    ledger = path.with_name("x.dropped.jsonl")
    drop = {"id": "é", "task": "math", "dataset": "d", "stage": "export_trl", "reason": "no_reply"}
    assert [json.loads(line) for line in ledger.read_text().splitlines()] == [
        {**drop, "detail": "the response is empty"}
    ]
    assert f"x: 1 of 2 rows do not fit trl, completely or in part: see {ledger}" in caplog.text
    to_trainer(data, "trl", unfit="drop")
    assert "to_trainer: 1 no_reply: not in the format trl; ledger([...]) has the rows" in caplog.text
    export(data.select([0]), "trl", path)
    assert [one.name for one in tmp_path.iterdir()] == ["x"]


def test_texts_that_no_file_can_hold() -> None:
    half = '{"host": "\\ud83d"}'
    plan = plan_export(table(TRAJECTORIES, conversation(USER, SAYS)), "trl", unfit="drop")
    data = table(TRAJECTORIES, conversation(USER, asks(half)))
    ((_, ((drop, text),)),) = convert_rows(data, plan)
    assert (drop, text) == (Drop("not_unicode", "a text has the unpaired surrogate U+D83D"), b"")
    data = table(TRAJECTORIES, conversation(USER, SAYS, {**USER, "content": "é"}, SAYS))
    ((_, (first, second)),) = convert_rows(data, plan)
    assert json.loads(first[1]) == first[0]
    assert "é".encode() in second[1], "texts are not escaped"


def test_every_option_of_export_reaches_the_records(tmp_path: Path) -> None:
    data = table(STAGE2, TWO)
    read = [
        json.loads(line)
        for line in export(data, "trl_preference", tmp_path / "x", score_range=60, style="alpaca")
        .read_text()
        .splitlines()
    ]
    assert [(row["margin"], type(row["prompt"])) for row in read] == [(0.25, str)]
    both = table(STAGE2, TWO, {**TWO, "scores": [20.0, 19.0]})
    kept = [
        json.loads(line) for line in export(both, "trl_preference", tmp_path / "y", min_gap=2).read_text().splitlines()
    ]
    assert [row["score_rejected"] for row in kept] == [5.0]
    own = replace(TASKS["math"], tool=replace(CALCULATOR, description="Adds."))
    for native in (
        json.loads(export(data, "trl_preference", tmp_path / "z", calls="native", task=own).read_text()),
        to_trainer(data, "trl_preference", calls="native", task=own)[0],
    ):
        assert "Adds." in native["tools"]
    chosen = table(STAGE2, {**TWO, "responses": ["calculator(1+1)", "3"]})
    text = export(chosen, "trl_kto", tmp_path / "t", calls="native", arguments="text").read_text()
    call = json.loads(text.splitlines()[0])["completion"][0]["tool_calls"][0]
    assert call["function"]["arguments"] == '{"formula": "1+1"}'
    middle = table(STAGE2, {**TWO, **ranked(["1", "2", "3"], [20.0, 10.0, 0.0])})
    assert len(export(middle, "trl_preference", tmp_path / "p", pairs="all").read_text().splitlines()) == 3


# LLaMA-Factory --------------------------------------------------------------------------------------------------------

TAGS = {
    "role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt",
    "observation_tag": "observation", "function_tag": "function_call", "system_tag": "system",
}  # fmt: skip
SHAREGPT = {"messages": "conversations", "system": "system", "tools": "tools"}


@pytest.mark.parametrize(
    ("record", "rest"),
    [
        (["instruction", "input", "output"], {"formatting": "alpaca", "columns": {"prompt": "instruction", "query": "input", "response": "output"}}),
        (["instruction", "input", "chosen", "rejected", "margin", "id"], {"formatting": "alpaca", "ranking": True, "columns": {"prompt": "instruction", "query": "input", "chosen": "chosen", "rejected": "rejected"}}),
        (["conversations", "system", "tools"], {"formatting": "sharegpt", "columns": SHAREGPT, "tags": TAGS}),
        (["conversations", "system", "tools", "chosen", "rejected"], {"formatting": "sharegpt", "ranking": True, "columns": {**SHAREGPT, "chosen": "chosen", "rejected": "rejected"}, "tags": TAGS}),
    ],
)  # fmt: skip
def test_the_entry_of_each_kind_of_file(record: list[str], rest: Row) -> None:
    entry = llamafactory.dataset_entry("a.jsonl", dict.fromkeys(record, ""))
    assert entry == {"file_name": "a.jsonl", **rest}


def test_the_list_of_files_keeps_the_entries_of_others(tmp_path: Path) -> None:
    info, data = tmp_path / "dataset_info.json", table(STAGE1, GOOD)
    entry = {
        "file_name": "é.jsonl",
        "formatting": "alpaca",
        "columns": {"prompt": "instruction", "query": "input", "response": "output"},
    }
    mine = {"mine": {"file_name": "mine.json"}}
    info.write_text(json.dumps(mine))
    for _ in range(2):  # its own entry is replaced
        export(data, "llamafactory", tmp_path / "é.jsonl")
        assert info.read_text("utf-8") == json.dumps({**mine, "é": entry}, indent=2, ensure_ascii=False) + "\n"
    refused: dict[str, Any] = {
        f"{info} has an entry 'é' of other data: choose another file name": {"é": {"file_name": "other.jsonl"}},
        f"{info}: expected a JSON object with an entry for each file": [1],
    }
    for message, content in refused.items():
        info.write_text(text := json.dumps(content))
        with pytest.raises(InputError) as caught:
            export(data, "llamafactory", tmp_path / "é.jsonl", calls="native")
        assert str(caught.value) == message
        assert info.read_text() == text
    info.write_text("[")
    with pytest.raises(InputError) as caught:
        export(data, "llamafactory", tmp_path / "é.jsonl")
    assert str(caught.value).startswith(f"{info} is not JSON: ")
    with pytest.raises(InputError) as caught:
        export(data, "llamafactory", info)
    assert str(caught.value) == f"{info} is the list of LLaMA-Factory's files: choose another name"
    export(data, "alpaca", info)  # other formats have no such list
    with pytest.raises(InputError) as caught:
        export(data, "trl", tmp_path)
    assert str(caught.value) == f"{tmp_path} is a folder or a device; expected the path of a file"


# Columns --------------------------------------------------------------------------------------------------------------


def test_rows_of_without_tool_are_read_with_all_columns() -> None:
    assert stage1.RANKED == ("instruction", "input", "output", "rejected", "kind", "tools", "source", "task", "id")
    assert {name: [spec.columns for spec in specs][-1] for name, specs in EXPORTS.items() if stage1.RANKED in [spec.columns for spec in specs]} == {
        "openai_preference": stage1.RANKED, "trl_kto": stage1.RANKED,
        "trl_preference": ("prompt", "chosen", "rejected", "tools"), "trl_reward": ("prompt", "chosen", "rejected", "tools"),
    }  # fmt: skip


# Lengths --------------------------------------------------------------------------------------------------------------


class Letters:
    """A tokenizer with one token a letter, which merges "ab", and a chat template that joins contents."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses

    def tokenizer(self, text: str, *, verbose: bool) -> SimpleNamespace:
        assert not verbose, "no warning of long texts"
        return SimpleNamespace(
            input_ids=[ord(letter) for letter in text.replace("ab", "\N{FULLWIDTH LATIN SMALL LETTER A}")]
        )

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids)).replace("?", "")

    def encode(self, texts: list[str]) -> list[str]:
        return texts

    def render(self, parts: list[Row], tools: list[Any], _: Row, *, ask: bool) -> str:
        assert not ask, "the reply is complete"
        if self.refuses:
            raise UnusableRow("no_template", "")
        return "".join(part["content"] for part in parts) + "t" * len(tools)


def test_tokens_of_a_prompt_and_its_reply() -> None:
    """A text gets one token to end it; messages that no template renders are counted as JSON."""
    chat: Any = Letters()
    assert n_tokens(Target("12", "345", []), chat) == 6
    user, said = {"role": "user", "content": "12"}, {"role": "assistant", "content": "3é"}
    assert n_tokens(Target([user], [said], [{}]), chat) == 5
    refusing: Any = Letters(refuses=True)
    expected = len(json.dumps([user, said, {"n": 1}], ensure_ascii=False))
    assert n_tokens(Target([user], [said], [{"n": 1}]), refusing) == expected


def test_replies_that_a_tokenizer_changes() -> None:
    chat: Any = Letters()
    settings: Any = None
    check_target(Target("12", "345", []), chat, settings)
    check_target(Target("12", "", []), chat, settings)
    merged = ("merged_tokens", "tokens merge where the reply starts: 'b2'")
    assert reason_of(check_target, Target("1a", "b2", []), chat, settings) == merged
    lost = ("tokenizer_loses_text", "the tokens do not decode to the reply: 'b?2'")
    assert reason_of(check_target, Target("1", "b?2", []), chat, settings) == lost


class Template(Letters):
    """A chat template that puts a text before the reply of a model."""

    def __init__(self, before: str = "", *, refuses: bool = False) -> None:
        super().__init__(refuses=refuses)
        self.before = before

    def render(self, parts: list[Row], tools: list[Any], _: Row, *, ask: bool) -> str:
        if self.refuses:
            raise UnusableRow("no_template", "")
        texts = [(self.before if part["role"] == "assistant" else "") + part["content"] for part in parts]
        return "".join(texts) + "t" * len(tools) * ask


def test_a_text_that_a_template_puts_before_a_reply() -> None:
    user, said = {"role": "user", "content": "12"}, {"role": "assistant", "content": "3"}
    chats: dict[str, Any] = {"none": Template(), "block": Template("<b>"), "refusing": Template(refuses=True)}
    found = {name: lengths.added_text(Target([user], [said], []), chat) for name, chat in chats.items()}
    assert found == {"none": "", "block": "<b>", "refusing": ""}
    assert lengths.added_text(Target([user], [said], [{}]), chats["block"]) == "", (
        "the prompt is no beginning of the whole"
    )
    for target in (Target([user], [], []), Target("12", "3", [])):
        assert lengths.added_text(target, chats["block"]) == ""
    settings: Any = None
    check_target(Target([user], [], []), chats["none"], settings)


def test_messages_in_the_form_of_a_column() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": "é"}}}
    given = {"role": "assistant", "content": "a", "name": "n", "tool_call_id": "i", "tool_calls": [call], "train": True}
    made = {"id": None, "type": "function", "function": {"name": "f", "arguments": '{"x": "é"}'}}
    assert lengths._as_column(given) == {"role": "assistant", "content": "a", "name": "n", "tool_call_id": "i", "tool_calls": [made]}  # fmt: skip
    none = {"role": "user", "content": None, "name": None, "tool_call_id": None, "tool_calls": None}
    assert lengths._as_column({"role": "user", "tool_calls": []}) == none


def test_functions_of_openai_are_absent_if_there_are_none() -> None:
    said, asked = {"role": "user", "content": "Is a up?"}, {"role": "assistant", "content": "No.", "weight": 1}
    assert list(trajectories.openai(conversation(USER, SAYS), Options())) == [
        {"messages": [said, asked], "tools": [TOOL]}
    ]
    assert list(trajectories.openai(conversation(USER, SAYS, tools="[]"), Options())) == [{"messages": [said, asked]}]


def test_the_longest_target_of_a_record_counts() -> None:
    """Of a pair, the longer side; of records, the longest; records above the default of TRL are counted."""
    meter = lengths.Meter(None, None)
    meter.chat = Letters()  # type: ignore[assignment]
    for longest in (1021, 1022, 3):
        meter.add({"prompt": "1", "chosen": "2" * longest, "rejected": "3"}, b"")
    meter.add({"prompt": "1", "chosen": "2", "rejected": "3" * 1100}, b"")
    assert (meter.longest, meter.n_long, meter.count) == (1102, 1, 4)
    plain = lengths.Meter(None, None)
    for length in (3 * 1024, 3 * 1024 + 1):
        plain.add({}, "é".encode() * length)
    assert (plain.longest, plain.n_long, plain.count) == (3 * 1024 + 1, 1, 2)


@pytest.mark.parametrize(
    ("has_chat", "format", "n_long", "level", "message"),
    [
        (False, "trl_kto", 1, "WARNING", "x: the longest of 3 records has 9 characters; tokenizer= counts its tokens for max_length="),
        (False, "trl", 0, "INFO", "x: the longest of 3 records has 9 characters; tokenizer= counts its tokens for max_length="),
        (True, "openai", 1, "INFO", "x: the longest of 3 records has 9 tokens of m: train with max_length=9 or more; 1 exceed 1024"),
        (True, "trl", 1, "WARNING", "x: the longest of 3 records has 9 tokens of m: train with max_length=9 or more; 1 exceed 1024"),
    ],
)  # fmt: skip
def test_what_is_logged_of_lengths(
    has_chat: bool, format: str, n_long: int, level: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "toolrlef_data")
    meter = lengths.Meter(None, None)
    meter.chat = Letters() if has_chat else None  # type: ignore[assignment]
    meter.name, meter.longest, meter.n_long, meter.count = "m", 9, n_long, 3
    meter.added.update({"": 3, " \n": 1, "<think>": 2})
    meter.report(format, "x")
    first = "x: the chat template puts '<think>' before 2 of the replies; trainers train it, so the model writes it"
    assert [(r.levelname, r.message) for r in caplog.records] == [("WARNING", first), (level, message)]
