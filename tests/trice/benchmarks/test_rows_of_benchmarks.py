"""Whole rows of the benchmarks' files, whole messages, and the calls in replies of every form."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.support.benchmarks import BOOK, LIGHT, write_lines
from toolrlef_data import InputError
from toolrlef_data.engines.prompts import render_prompt
from toolrlef_data.engines.responses import build_request
from toolrlef_data.records import Reply
from toolrlef_data.trice.benchmarks.choices import _outcome as choice_outcome
from toolrlef_data.trice.benchmarks.choices import _with_responses
from toolrlef_data.trice.benchmarks.files import EXPECTED, Benchmark, read_benchmark
from toolrlef_data.trice.benchmarks.function_calls import CallSettings, _call_request, _outcome, _reply_columns
from toolrlef_data.trice.benchmarks.offered import OfferedCall, call_text, calls_in, instruction_for, schema_text

CHOICE: dict[str, Any] = {
    "uuid": "u",
    "question": "q?",
    "correct_answer": "direct",
    "answers": {"direct": "d", "tool_call": "t"},
    "tools": [],
}
CALL: dict[str, Any] = {"id": "a", "question": [[{"role": "user", "content": "q?"}]], "function": [LIGHT]}
TASK: dict[str, Any] = {"id": 7, "difficulty": "easy", "instruction": "q?", "env_name": "CalculatorEnv", "answer": 33}


def message(path: Path) -> str:
    with pytest.raises(InputError) as refused:
        read_benchmark(path)
    return str(refused.value)


def test_a_row_of_choices(tmp_path: Path) -> None:
    bare = {
        "function": {"name": "f", "parameters": {"properties": {"x": {"type": "a"}}, "required": ["x", "y"], "more": 1}}
    }
    rows = [
        {**CHOICE, "source": 5, "tools": [json.dumps(LIGHT), bare, {"name": "g", "description": 3, "parameters": None}]}
    ]
    kind, found, questions = read_benchmark(write_lines(tmp_path / "x.jsonl", [*rows, CHOICE]))
    assert (kind, questions) == ("choices", None)
    shared = {"id": "u", "question": "q?", "answers": {"direct": "d", "tool_call": "t"}, "right": "direct"}
    functions = [
        LIGHT,
        {
            "name": "f",
            "description": "",
            "parameters": {"properties": {"x": {"type": "a"}}, "required": ["x"], "more": 1},
        },
        {"name": "g", "description": "3", "parameters": {"properties": {}, "required": []}},
    ]
    assert found == [{**shared, "dataset": "5", "functions": functions}, {**shared, "dataset": "", "functions": []}]


def test_a_row_of_calls(tmp_path: Path) -> None:
    folder = tmp_path / "possible_answer"
    folder.mkdir()
    turn = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "q?"}]
    path = write_lines(tmp_path / "BFCL_x.json", [{**CALL, "question": [turn]}])
    write_lines(
        folder / path.name, [{"id": "b", "ground_truth": [{}]}, {"id": "a", "ground_truth": [{"f": {"x": [1]}}]}]
    )
    row = {
        "id": "a",
        "dataset": "BFCL_x",
        "question": "Be brief.\n\nq?",
        "functions": [LIGHT],
        "accepted": {"f": {"x": [1]}},
    }
    assert read_benchmark(path) == Benchmark("calls", [row])
    irrelevant = write_lines(tmp_path / "live_irrelevance_1.json", [CALL])
    assert read_benchmark(irrelevant).rows == [{**row, "dataset": irrelevant.stem, "question": "q?", "accepted": None}]


def test_a_row_of_questions(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nested = {
        "id": 8,
        "difficulty": "hard",
        "instruction": "r?",
        "environments": [{"name": "CalculatorEnv"}],
        "expected": {"answer": None},
    }
    two = {**nested, "environments": [{"name": "CalculatorEnv"}, {"name": "B"}]}
    path = tmp_path / "x.json"
    path.write_text(json.dumps([TASK, nested, two, {**TASK, "multi_step": True}, {**TASK, "env_name": "B"}]))
    kind, rows, questions = read_benchmark(str(path))
    assert (kind, rows, [r.getMessage() for r in caplog.records]) == ("questions", [], ["3 of 5 rows need other tools than CalculatorEnv, and are left out"])  # fmt: skip
    shared = {"task": "math", "context": "", "solution": "", "split_origin": "test"}
    assert questions is not None
    assert questions.to_list() == [
        {"id": "when2tool-7", "dataset": "when2tool-easy", "question": "q?", "answers": ["33"], **shared},
        {"id": "when2tool-8", "dataset": "when2tool-hard", "question": "r?", "answers": ["None"], **shared},
    ]
    caplog.clear()
    path.write_text(json.dumps([TASK]))
    read_benchmark(path)
    assert not caplog.records


def test_the_first_file_of_a_folder_is_read(tmp_path: Path) -> None:
    for n, name in enumerate(("test-b.json", "data/tasks_v1_test.json", "tasks_v1_test.json")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps([{**TASK, "id": n}]))
        if name != "test-b.json":
            questions = read_benchmark(tmp_path).questions
            assert questions is not None
            assert questions["id"][:] == [f"when2tool-{n}"]


MISSING = "expected answers with texts, one of them for 'direct'"
# Rows of a file -> the message after its name
REFUSED: list[tuple[list[Any], str]] = [
    ([{**CHOICE, "answers": {"tool_call": "t"}}], f", row 1: {MISSING}"),
    ([CHOICE, {**CHOICE, "answers": {"direct": " "}}], f", row 2: {MISSING}"),
    ([CHOICE, {**CHOICE, "answers": {"direct": 3}}], f", row 2: {MISSING}"),
    ([{**CHOICE, "answers": ["direct"]}], ", row 1: expected answers as dict, found ['direct']"),
    ([{**CHOICE, "correct_answer": None}], ", row 1: expected correct_answer as str, found None"),
    ([{**CHOICE, "tools": "x"}], ", row 1: expected tools as list, found 'x'"),
    ([{**CHOICE, "question": ""}], ", row 1: expected question as str, found ''"),
    ([{**CHOICE, "tools": [{"name": ""}]}], ", row 1: expected name as str, found ''"),
    ([{**CHOICE, "tools": [7]}], ", row 1: expected name as str, found None"),
    ([{**CHOICE, "tools": [{"name": "f", "parameters": {"properties": 3}}]}], ", row 1: expected properties as dict, found 3"),
    ([{**CALL, "id": 5}], ", row 1: expected id as str, found 5"),
    ([{**CALL, "question": "q"}], ", row 1: expected question as list, found 'q'"),
    ([{**CALL, "question": []}], ", row 1: expected a question with one turn, found 0"),
    ([{**CALL, "question": ["q"]}], ", row 1: expected a question with one turn, found 1"),
    ([{**CALL, "question": [[{"content": None}]]}], ", row 1: expected content as str, found None"),
    ([{**CALL, "function": {}}], ", row 1: expected function as list, found {}"),
    ([{**CALL, "function": [{"name": "f", "parameters": {"properties": {"x": {"type": "HashMap"}}}}]}],
     ", row 1: the parameter x has the type 'HashMap', expected one of string, integer, float, boolean, array, tuple, dict, "
     "any; Java and JavaScript are not covered"),
    ([{"difficulty": "d", "instruction": "q?", "env_name": "CalculatorEnv"}], ", row 1: expected expected as dict, found None"),
    ([{**TASK, "difficulty": 3}], ", row 1: expected difficulty as str, found 3"),
    ([{**TASK, "instruction": None}], ", row 1: expected instruction as str, found None"),
    ([{"text": 1, "b": 2}], f": {EXPECTED}; found: text, b"),
    (["x" * 100], f": expected JSON objects, found '{'x' * 79}"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "words"), REFUSED, ids=range(len(REFUSED)))
def test_an_unusable_row_is_named_with_its_field(rows: list[Any], words: str, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "irrelevance.json", rows)
    assert message(path) == f"benchmark: {path}{words}"


def test_unusable_files(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert message(path) == f"benchmark: {path} is no file; {EXPECTED}"
    assert message(tmp_path) == f"benchmark: {tmp_path} is no file; {EXPECTED}"
    path.write_text("\ufeff \n")
    assert message(path) == f"benchmark: {path}: {EXPECTED}; found: no rows"
    path.write_text("[{}")
    assert message(path).startswith(f"benchmark: {path} is not JSON: Expecting ',' delimiter")
    path.write_text(json.dumps([{**TASK, "env_name": "B"}] * 3))
    assert message(path) == "benchmark: none of 3 rows of When2Tool is one of CalculatorEnv"
    write_lines(path, [CALL])
    answers = tmp_path / "possible_answer" / "a.json"
    assert message(path) == f"benchmark: {path} needs its right calls in the file {answers}"
    answers.parent.mkdir()
    for row, words in (
        ({"ground_truth": [{}]}, "expected id as str, found None"),
        ({"id": "a", "ground_truth": {}}, "expected ground_truth as list, found {}"),
        ({"id": "a", "ground_truth": []}, "expected one right call, found 0"),
    ):
        write_lines(answers, [{"id": "x", "ground_truth": [{}]}, row])
        assert message(path) == f"benchmark: {answers}, row 2: {words}"
    write_lines(answers, [{"id": "b", "ground_truth": [{}]}])
    assert message(path) == f"benchmark: {path}, row 1: the folder possible_answer has no right call for a"


# Prompts and calls ----------------------------------------------------------------------------------------------------


def test_schemas_have_the_types_of_json() -> None:
    properties = {
        "a": {"type": "float"},
        "b": {"type": "any", "x": 1},
        "type": {"type": "tuple", "items": [{"type": "dict"}]},
    }
    function = {"name": "f\u00e4", "parameters": {"type": "dict", "properties": properties, "other": "dict"}}
    converted = {"a": {"type": "number"}, "b": {"x": 1}, "type": {"type": "array", "items": [{"type": "object"}]}}
    expected = {"name": "f\u00e4", "parameters": {"type": "object", "properties": converted, "other": "dict"}}
    assert json.loads(schema_text(function)) == {"type": "function", "function": expected}
    lines = instruction_for([function, {"name": "g"}]).split("\n")
    assert lines[:3] == ["You can call these functions:", json.dumps(expected, ensure_ascii=False), '{"name": "g"}']
    assert "f\u00e4" in schema_text(function)
    assert instruction_for([]).split("\n")[1] == "(none)"


def test_a_call_as_the_prompt_asks_for_it() -> None:
    texts = {
        '{"name": "f", "arguments": {"a": "\u00e4", "b": [1, null], "c": true}}': 'f(a="\u00e4", b=[1, null], c=true)',
        '{"name": "f", "arguments": {}}': "f()",
        **{
            text: text for text in ("[1]", "{", '{"name": "f"}', '{"arguments": {}}', '{"name": "f", "arguments": [1]}')
        },
    }
    assert {text: call_text(text) for text in texts} == texts


PLACE = {"place": "Luna", "seats": 4}
# Reply, native calls -> calls
CALLS_IN: list[tuple[str, list[list[str]], list[OfferedCall]]] = [
    ("tables.book('Luna', 4)", [], [OfferedCall("tables.book", PLACE)]),
    ("tables.book('Luna', 4) turn_on_light(hall)", [], [OfferedCall("tables.book", PLACE), OfferedCall("turn_on_light", {"room": "hall"})]),
    ("tables.book(place='Luna', seats=", [], [OfferedCall("tables.book", None)]),
    ("<think>find()</think>None fits.", [], []),
    ("find(a=1)", [], [OfferedCall("find", None, False)]),
    (" [find(a=1)] \n", [], [OfferedCall("find", None, False)]),
    ("find(a=1) or not", [], []),
    ("find(a=1", [], []),
    ("find(", [], [OfferedCall("find", None, False)]),
    ('{"function": "find"}', [], [OfferedCall("find", None, False)]),
    ('I use {"name": "find", "a": 1}.', [], [OfferedCall("find", None, False)]),
    ("Which (one)?", [], []),
    ("tables.book('Luna', 4)", [["turn_on_light", '{"room": 7}'], ["tables_book", '{"place": "Luna", "seats": 4}']],
     [OfferedCall("turn_on_light", {"room": 7}), OfferedCall("tables.book", PLACE)]),
    ("", [["find", '{"a": 1}']], [OfferedCall("find", None, False)]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "native", "expected"), CALLS_IN, ids=range(len(CALLS_IN)))
def test_the_calls_in_a_reply(text: str, native: list[list[str]], expected: list[OfferedCall]) -> None:
    assert calls_in(text, native, [LIGHT, BOOK]) == expected


def test_the_request_of_each_style_and_protocol() -> None:
    row = {"question": "q?", "functions": json.dumps([BOOK])}
    for style in ("chat", "completion", "alpaca"):
        text = render_prompt(style, instruction_for([BOOK]), "q?")
        assert _call_request(row, CallSettings(style, "text")) == build_request(text)
        alone = render_prompt(style, "q?", "")
        expected = alone if isinstance(alone, str) else alone[1:]
        assert _call_request(row, CallSettings(style, "tools")) == build_request(expected, (schema_text(BOOK),))


def test_the_outcome_of_a_reply() -> None:
    row = {
        "id": "a",
        "dataset": "d",
        "functions": [BOOK],
        "accepted": {"tables.book": {"place": ["Luna"], "seats": [4]}},
    }
    calls = (("tables_book", '{"place": "Luna", "seats": 4}'),)
    cases: list[tuple[Reply, Any, dict[str, Any]]] = [
        (Reply("tables.book('Luna', 4)"), row["accepted"], {"n_calls": 1, "correct": True}),
        (Reply("tables.book('Bern', 4)"), row["accepted"], {"n_calls": 1, "correct": False}),
        (Reply("", tool_calls=calls), row["accepted"], {"n_calls": 1, "correct": True}),
        (Reply("tables.book('Luna', 4)"), None, {"n_calls": 1, "correct": None}),
        (Reply("find()", finish_reason="length"), row["accepted"], {"n_calls": 1, "correct": False, "is_invented": True, "is_cut": True}),
        (Reply(None, error="server"), row["accepted"], {"n_calls": 0, "correct": False, "error": "server"}),
        (Reply("No."), None, {"n_calls": 0, "correct": None}),
    ]  # fmt: skip
    for reply, accepted, expected in cases:
        columns = _reply_columns({}, [reply], CallSettings("chat", "text"))
        found = _outcome({**row, "accepted": accepted}, columns)
        shared = {"id": "a", "dataset": "d", "needs_call": accepted is not None, "is_invented": False, "is_cut": False}
        place = "Bern" if "Bern" in (reply.text or "") else "Luna"
        offered = "tables.book" if "book" in f"{reply.text}{reply.tool_calls}" else None
        shared |= {"name": offered or ("find" if expected["n_calls"] else None), "text": reply.text, "error": None}
        shared |= {"arguments": json.dumps({**PLACE, "place": place}) if offered else None}
        assert found == {**shared, **expected}


def test_the_outcome_of_a_choice() -> None:
    row = {"id": "a", "dataset": "d", "question": "q?", "right": "y", "functions": [LIGHT, BOOK], "answers": {"x": "12345", "tool_call": '{"name": "f", "arguments": {"a": 1}}', "y": "z "}}  # fmt: skip
    table_row = _with_responses(row)
    prompt = {"instruction": instruction_for([LIGHT, BOOK]), "input": "q?"}
    assert table_row == {
        "id": "a",
        "task": "when2call",
        "dataset": "d",
        **prompt,
        "responses": ["12345", "f(a=1)", "z "],
    }
    shared = {"id": "a", "dataset": "d", "right": "y", "n_tools": 2, "classes": list(row["answers"]), "choices": table_row["responses"]}  # fmt: skip
    for values, chosen, normalised in (
        ([-5.0, -9.0, -4.0], "y", "x"),
        ([-4.0, -4.0, -4.0], "x", "tool_call"),
        ([-5.0, -4.5, -1.0], "y", "tool_call"),
    ):
        found = choice_outcome(
            row, {"responses": table_row["responses"], "logprobs": values, "logprob_errors": [None] * 3}
        )
        assert found == {**shared, "chosen": chosen, "chosen_normalised": normalised, "logprobs": values, "error": None}
    values_and_errors = {"logprobs": [None, -1.0, None], "logprob_errors": [None, "too_long", "no_prompt"]}
    found = choice_outcome(row, {"responses": table_row["responses"], **values_and_errors})
    assert found == {**shared, "logprobs": [None, -1.0, None], "error": "too_long"}


def test_a_warning_of_other_tools_is_logged_by_the_package(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([TASK, {**TASK, "env_name": "B"}]))
    with caplog.at_level(logging.WARNING, "toolrlef_data"):
        read_benchmark(path)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
