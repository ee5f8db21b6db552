"""How single calls are executed and their outputs read: rows, executors, requests of readers, and grades."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from datasets import Dataset, Features

from toolrlef_data import TASKS, InputError, Reply, Task, Tool, execute, respond, scripted
from toolrlef_data.columns import RESPONSE, STAGE1
from toolrlef_data.engines.prompts import render_prompt
from toolrlef_data.engines.responses import build_request, build_response
from toolrlef_data.records import CassetteMiss, ToolError, ToolResult
from toolrlef_data.tools.tool import ToolInput
from toolrlef_data.trice.call_execution import (
    ExecutionSettings,
    Response,
    Row,
    _tool_inputs,
    call_executor,
    input_columns,
    responses_of,
    rows_of,
    strict_executor,
)
from toolrlef_data.trice.execution import (
    ExecutionResult,
    _add_later_fields,
    _execute_response,
    _has_tool_failure,
    execute_responses,
)
from toolrlef_data.trice.reader import (
    READER_FIELDS,
    ReaderSettings,
    ReplaySettings,
    _columns_from_replies,
    _names_to_read,
    _reader_requests,
    _replay,
)
from toolrlef_data.trice.scoring import RULES
from toolrlef_data.trice.scoring.candidates import checked_rule
from toolrlef_data.trice.scoring.stage import _rounded, score
from toolrlef_data.trice.stage2 import _read_as_original

MATH, QA, MLQA = (TASKS[name] for name in ("math", "qa", "mlqa"))


def name_row(row: Any) -> str:
    return f"{row['id']}/{row['task']}"


def settings(
    *tasks: Task, compat: bool = False, verify: bool = False, names: Sequence[str] = ("a",)
) -> ExecutionSettings:
    return ExecutionSettings({task.name: task for task in tasks}, tuple(names), compat, verify, {}, None, "")


# Rows and responses ---------------------------------------------------------------------------------------------------


def test_the_rows_of_a_batch() -> None:
    tongue = replace(MLQA, language=name_row)
    columns: dict[str, list[Any]] = {
        "id": ["1", "2"], "task": ["mlqa", "math"], "answers": [["a", "b"], ["7", "8"]], "input": ["Context: c\nQuestion: q", "c\nr"]
    }  # fmt: skip
    first, second = (
        Row("1", "mlqa", ["a", "b"], "1/mlqa", "q", "c"),
        Row("2", "math", ["7", "8"], "", *MATH.split_input("c\nr")),
    )
    assert rows_of(columns, settings(tongue, MATH)) == [first, second]
    assert [row.answers for row in rows_of(columns, settings(tongue, MATH, compat=True))] == [["a"], ["7"]]
    del columns["input"]
    assert [(row.question, row.context) for row in rows_of(columns, settings(tongue, MATH))] == [
        MLQA.split_input(""), MATH.split_input("")
    ]  # fmt: skip
    fields: dict[str, list[Any]] = {
        "a.error": [None, "x"],
        "a.text": ["t", "u"],
        "a.finish_reason": ["stop", "length"],
        "a.arguments": ["{}", None],
    }
    assert responses_of(fields, "a") == [Response("t", "stop", "{}"), Response(None, "length", None)]
    assert input_columns(["a", "b"]) == [
        *("id", "task", "answers", "a.error", "a.text", "a.finish_reason", "a.arguments", "b.error", "b.text"),
        *("b.finish_reason", "b.arguments"),
    ]


def test_the_distinct_inputs_of_a_slow_tool_in_order() -> None:
    rows = [Row("1", "qa", [], "de"), Row("2", "qa", [], ""), Row("3", "math", [], "")]
    texts: dict[str, list[str | None]] = {
        "a": ["WikiSearch(x)", "WikiSearch(x)", "WikiSearch(z)"],
        "b": ["WikiSearch(y)", None, "x"],
    }
    columns: dict[str, list[Any]] = {
        f"{name}.{field}": [None] * 3 for name in texts for field in ("error", "finish_reason", "arguments")
    }
    columns |= {f"{name}.text": values for name, values in texts.items()}
    both = settings(QA, MATH, names=("a", "b"))
    assert _tool_inputs("qa", rows, columns, both) == [ToolInput("x", "de"), ToolInput("y", "de"), ToolInput("x", "")]
    assert _tool_inputs("math", rows, columns, both) == []


def fail(argument: str) -> str:
    raise ZeroDivisionError("a bug") if argument == "bug" else ToolError("domain", "no root")


def test_fast_tools_are_strict_where_a_call_must_not_fail() -> None:
    task = replace(MATH, tool=Tool("calculator", "", fail))
    row = Row("r1", "math", [], "")
    lenient = call_executor("math", [row], {}, settings(task))
    assert lenient(row, "bug").error == "crashed"
    strict = strict_executor("math", settings(task))
    assert strict is not None
    assert (strict(row, "x"), lenient(row, "x")) == (ToolResult(error="domain", detail="no root"),) * 2
    with pytest.raises(ZeroDivisionError) as raised:
        strict(row, "bug")
    assert getattr(raised.value, "__notes__", [""])[0] in (
        "",
        "raised by the tool 'calculator' at the call of 'r1' with 'bug'",
    )
    slow = replace(MATH, tool=Tool("calculator", "", many=lambda inputs: []))
    assert strict_executor("math", settings(slow)) is None
    recorded = replace(settings(task), cassette=lambda *call: ToolResult(" ".join(call)))
    assert strict_executor("math", recorded) is None
    assert call_executor("math", [row], {}, recorded)(row, "x") == ToolResult("r1 math calculator x")


# Results --------------------------------------------------------------------------------------------------------------

CALLED = ExecutionResult(1, "calculator", "6*7", '{"formula": "6*7"}')
# Response -> its result
RESULTS: list[tuple[Response, ExecutionResult]] = [
    (Response(None, None, None), ExecutionResult()),
    (Response("calculator(6*7)", None, None), CALLED._replace(tool_output="42", predictions=("42",), correct=True)),
    (Response("calculator(6*8)", None, None), ExecutionResult(1, "calculator", "6*8", '{"formula": "6*8"}', "48", predictions=("48",), correct=False)),
    (Response("calculator(6*7)", None, '{"formula": "6*7", "unit": "m"}'), CALLED._replace(arguments='{"formula": "6*7", "unit": "m"}', tool_output="42", predictions=("42",), correct=True)),
    (Response("calculator(6*7)", None, '{"formula": "6*8"}'), CALLED._replace(tool_output="42", predictions=("42",), correct=True)),
    (Response("calculator(6*7)", None, "{"), CALLED._replace(tool_output="42", predictions=("42",), correct=True)),
    (Response("calculator(6/0) calculator(1)", None, None), ExecutionResult(2, "calculator", "6/0", '{"formula": "6/0"}', None, "zero_division", "division by zero", (), False)),
    (Response("calculator(6*", None, None), ExecutionResult(0, "calculator", tool_error="incomplete_call", correct=False)),
    (Response("It is 42.", None, None), ExecutionResult(0, predictions=("42",), correct=True)),
    (Response("My calculator: 41", None, None), ExecutionResult(0, predictions=("41",), correct=False)),
    (Response("No.", None, None), ExecutionResult(0, correct=False)),
]  # fmt: skip


@pytest.mark.parametrize(("response", "expected"), RESULTS, ids=range(len(RESULTS)))
def test_the_result_of_a_response(response: Response, expected: ExecutionResult) -> None:
    row = Row("1", "math", ["42"], "", "6*7?")

    def run(_: Row, argument: str) -> ToolResult:
        return MATH.tool.run(argument)

    found = _execute_response(response, row, settings(MATH), run)
    assert found._replace(predictions=tuple(found.predictions)) == expected
    original = _execute_response(response, row, settings(MATH, compat=True), run)
    is_mention = response.text == "My calculator: 41"
    mentioned = ExecutionResult(0, "calculator", tool_error="incomplete_call", correct=False)
    assert original._replace(predictions=tuple(original.predictions)) == (mentioned if is_mention else expected)


def test_several_outputs_are_joined() -> None:
    row = Row("1", "qa", ["Bern"], "")
    run = lambda row, argument: ToolResult(("x", "In Bern."))  # noqa: E731
    found = _execute_response(Response("WikiSearch(x)", None, None), row, settings(QA, verify=True), run)
    assert (found.tool_output, found.predictions, found.correct) == ("x\n\nIn Bern.", ("x", "In Bern."), True)
    assert _execute_response(Response("WikiSearch(x)", None, None), row, settings(QA), run).correct is None, "not read"


def test_older_structs_get_the_later_fields() -> None:
    found = _add_later_fields({"a": [{"text": "x"}, None], "b": [{"error": "y"}, {}]}, None)
    empty = dict.fromkeys(RESPONSE)
    assert found == {"a": [{**empty, "text": "x"}, None], "b": [{**empty, "error": "y"}, {}]}


def struct_table(*errors: tuple[str | None, str | None]) -> Dataset:
    rows = [
        {name: {**build_response(None), "tool_error": error} for name, error in zip("ab", pair, strict=True)}
        for pair in errors
    ]
    return Dataset.from_list(rows, features=Features(a=RESPONSE, b=RESPONSE))


def test_only_failures_of_tools_leave_a_table_unfinished() -> None:
    for error in ("timeout", "http", "unavailable", "crashed", "reader"):
        table = struct_table((None, None), ("syntax", error))
        assert [_has_tool_failure(table, names) for names in (["a", "b"], ["a"], ["b"], [])] == [
            True,
            False,
            True,
            False,
        ]
    assert not _has_tool_failure(struct_table((None, "syntax"), ("no_result", None)), ["a", "b"])


def test_what_execution_needs() -> None:
    rows = [{**dict.fromkeys(STAGE1), "id": "1", "task": "qa", "dataset": "d", "instruction": "i", "input": "q", "output": "x", "answers": ["a"]}]  # fmt: skip
    table = respond(Dataset.from_list(rows, features=STAGE1), [])
    tool = Tool("WikiSearch", "Searches.", str.strip)
    with pytest.raises(InputError) as refused:
        execute(table, task=replace(QA, tool=tool))
    assert str(refused.value) == (
        "the output of WikiSearch is not an answer, so the task 'qa' needs a reader: pass task=replace(TASKS['qa'], tool=..., "
        "reader=EngineSpec(...))"
    )
    verified = execute_responses(table, ["gold"], {"qa": replace(QA, tool=tool)}, verify=True)
    assert verified["gold"][0]["predictions"] == ["x"]
    with pytest.raises(InputError) as refused:
        score(table)
    assert str(refused.value) == "the responses of gold are not executed: run `execute` first"


# Readers --------------------------------------------------------------------------------------------------------------


def read_row(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": "1",
        "task": "qa",
        "answers": ["Bern", "Biel"],
        "input": "Where?",
        "question": "Where?",
        "context": "",
    }
    for name in "ab":
        row |= {f"{name}.argument": name, f"{name}.tool_error": None, f"{name}.predictions": [f"{name}1", f"{name}2"]}
        row |= {f"{name}.correct": None}
    return {**row, **changes}


def reading(compat: bool = False, verify: bool = False, *tasks: Task) -> ReaderSettings:
    return ReaderSettings({task.name: task for task in tasks or (QA,)}, ("a", "b"), compat, verify)


def test_which_outputs_are_read() -> None:
    cases: list[tuple[dict[str, Any], ReaderSettings, list[str]]] = [
        ({}, reading(), ["a", "b"]),
        ({"task": "math"}, reading(), []),
        ({"a.argument": None, "b.tool_error": "timeout"}, reading(), []),
        ({"a.correct": True}, reading(), ["a", "b"]),
        ({"a.correct": True, "b.correct": False}, reading(verify=True), ["b"]),
    ]
    for changes, found, names in cases:
        assert _names_to_read(read_row(**changes), found) == names
    texts = ["a1", "a2", "b1", "b2"]
    for verify in (False, True):
        task = replace(QA, render=lambda row: f"rendered {row['question']}")
        text = "rendered Where?" if verify else "Where?"
        assert task.reader_prompt is not None
        expected = [build_request(render_prompt(QA.reader_style, QA.reader_instruction, task.reader_prompt(text, output))) for output in texts]  # fmt: skip
        assert _reader_requests(read_row(), reading(False, verify, task)) == expected
    assert _reader_requests(read_row(task="math"), reading()) == []
    assert _reader_requests(read_row(), reading(False, False, replace(QA, reader_prompt=None))) == []


def test_the_predictions_of_a_reader() -> None:
    def read(*texts: Any, **options: Any) -> dict[str, Any]:
        replies = [text if isinstance(text, Reply) else Reply(text) for text in texts]
        return _columns_from_replies(read_row(), replies, reading(**options))

    found = read("No.", "Bern", "Rome", "Biel")
    assert list(found) == [f"{name}.{field}" for name in "ab" for field in READER_FIELDS]
    assert (found["a.predictions"], found["a.correct"], found["b.correct"]) == (["No.", "Bern"], True, True)
    assert read("No.", "Bern", "Rome", "Biel", compat=True)["a.correct"] is False, "the first prediction alone"
    assert read("Biel", "No", "Bern", "No", compat=True)["a.correct"] is False, "the first gold answer alone"
    lost = read("x", Reply(None, error="server"), "Bern", Reply("", finish_reason="length"))
    assert [lost[f"{name}.tool_error"] for name in "ab"] == ["reader", "reader"]
    assert [lost[f"{name}.predictions"] for name in "ab"] == [[], []]
    assert [lost[f"{name}.correct"] for name in "ab"] == [None, None]
    assert read("x", Reply("Bern and", finish_reason="length"), "", "")["a.correct"] is not None
    own = replace(QA, parse_reader_reply=None)
    stripped = _columns_from_replies(read_row(), [Reply(" Bern ")] * 4, reading(False, False, own))
    assert stripped["a.predictions"] == ["Bern", "Bern"]


def test_readings_of_a_cassette() -> None:
    calls: list[tuple[str, ...]] = []

    def replay(*call: str) -> ToolResult:
        calls.append(call)
        return ToolResult(("Bern", "x")) if call[3] == "a" else ToolResult(error="reader")

    found = _replay(read_row(), ReplaySettings(reading(), replay))
    assert calls == [("1", "qa", "reader of WikiSearch", name) for name in "ab"]
    assert (found["a.predictions"], found["a.correct"], found["b.tool_error"], found["b.correct"]) == (["Bern", "x"], True, "reader", None)  # fmt: skip


def test_lost_replies_are_read_as_the_original_reads_them() -> None:
    def found(**response: Any) -> tuple[Any, ...]:
        empty = {"text": None, "raw": None, "finish_reason": None, "error": None, "error_detail": None}
        row = {f"{name}.{field}": value for name in "ab" for field, value in {**empty, **response}.items()}
        columns = _read_as_original(row, ["a", "b"])
        assert list(columns) == [f"{name}.{field}" for name in "ab" for field in ("text", "error", "error_detail")]
        assert [columns[f"a.{field}"] for field in ("text", "error")] == [
            columns[f"b.{field}"] for field in ("text", "error")
        ]
        return tuple(columns[f"b.{field}"] for field in ("text", "error", "error_detail"))

    assert found(text="x", raw="x y", finish_reason="stop") == ("x", None, None)
    assert found(raw="x y", finish_reason="length", error="cut_off", error_detail="why") == ("x y", None, None)
    assert found(raw=" ", finish_reason="stop", error="empty", error_detail="why") == ("", None, None)
    assert found(error="server", error_detail="why") == (None, "server", "why")


# Rules ----------------------------------------------------------------------------------------------------------------


def test_errors_of_the_package_in_a_rule_stay_as_they_are() -> None:
    def rule(candidates: Any) -> list[float]:
        raise CassetteMiss("mine")

    with pytest.raises(CassetteMiss, match="mine"):
        checked_rule(rule, RULES, {}, ["gold"], [])


def test_numbers_as_the_original_writes_them() -> None:
    cases = {"57": "57.0", "57.004": "57.0", "3.14159": "3.14", "-0.5": "-0.5", "x": None, "": None, "1e3": "1000.0"}
    assert {text: _rounded(text) for text in cases} == cases


def test_a_scripted_reader_is_named_by_its_function() -> None:
    assert scripted(fail, progress=False).model_name == "fail"  # type: ignore[arg-type]
