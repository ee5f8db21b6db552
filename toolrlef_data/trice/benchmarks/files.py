"""Rows of benchmarks in their own file formats. Nothing is downloaded; the user names a file or a folder.

| benchmark | file | format |
|---|---|---|
| When2Call | `when2call_test_mcq.jsonl`, `when2call_test_llm_judge.jsonl` | https://github.com/NVIDIA/When2Call |
| BFCL | `BFCL_v4_irrelevance.json`, `BFCL_v4_simple_python.json` and their live forms | the package bfcl-eval |
| When2Tool | `tasks_v1_test.json`, or `single_hop/test-*.parquet` | https://github.com/Trustworthy-ML-Lab/when2tool |

The right calls of a BFCL file are in a file of the same name in the folder `possible_answer` beside it, as in the
package. A file without it whose name contains "irrelevance" has questions that no function fits.

Of When2Tool, the rows of the calculator become questions of the task math. Those of the other environments are left
out, with a warning: their tools are programs of that repository.

Not covered: BFCL's questions with several turns, several calls, Java and JavaScript.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset

from toolrlef_data.checks import as_path
from toolrlef_data.columns import QUESTIONS
from toolrlef_data.records import InputError
from toolrlef_data.trice.benchmarks.accepted import TYPES

__all__ = ["Benchmark", "read_benchmark"]

log = logging.getLogger("toolrlef_data")
Row = Mapping[str, Any]

EXPECTED = "expected a file of When2Call (fields question, correct_answer, answers, tools), of BFCL (id, question, \
function) or of When2Tool (instruction, difficulty, and environments or env_name)"
WHEN2TOOL_FILES = ("tasks_v1_test.json", "data/tasks_v1_test.json", "single_hop/test-*.parquet", "test-*.parquet")
CALCULATOR = "CalculatorEnv"  # the environment whose tool evaluates a formula, as that of the task math does


class Benchmark(NamedTuple):
    """The rows of a benchmark.

    Args:
        kind: "choices", "calls" or "questions", as in `Evaluation`.
        rows: dictionaries with id, dataset, question and functions (schemas). Of choices also answers (by class) and
            right (the right class); of calls also accepted: the right call as {name: {parameter: accepted values}},
            None where no function fits. Empty for the kind "questions".
        questions: the table of the kind "questions".
    """

    kind: str
    rows: list[dict[str, Any]]
    questions: Dataset | None = None


def read_benchmark(path: str | Path) -> Benchmark:
    """Return the rows of a file of When2Call or BFCL, or the questions of a file or a folder of When2Tool.

    Args:
        path: the file, or a folder of When2Tool: of its repository after `generate_data.sh`, or of its data set.

    Raises:
        InputError: the file does not exist, is none of these, or has an unusable row; the message names it.

    >>> row = {"uuid": "a", "source": "s", "question": "Is it open?", "correct_answer": "direct", "tools": []}
    >>> _ = Path("rows.jsonl").write_text(json.dumps({**row, "answers": {"direct": "Yes.", "tool_call": "{}"}}))
    >>> read_benchmark("rows.jsonl").kind
    'choices'
    """
    path = as_path("benchmark", path)
    if path.is_dir():
        path = next((file for part in WHEN2TOOL_FILES for file in sorted(path.glob(part))), path)
    if not path.is_file():
        raise InputError(f"benchmark: {path} is no file; {EXPECTED}")
    rows = [(f"{path}, row {n}", row) for n, row in enumerate(_read(path), 1)]
    first = rows[0][1] if rows else {}
    if {"question", "correct_answer", "answers", "tools"} <= first.keys():
        return Benchmark("choices", [_choices(row, place) for place, row in rows])
    if {"id", "question", "function"} <= first.keys():
        accepted = _accepted(path)
        return Benchmark("calls", [_calls(row, accepted, path.stem, place) for place, row in rows])
    if {"instruction", "difficulty"} <= first.keys():
        return Benchmark("questions", [], _questions(rows))
    raise InputError(f"benchmark: {path}: {EXPECTED}; found: {', '.join(first) or 'no rows'}")


def _read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a JSON array, of JSON Lines or of a Parquet file."""
    if path.suffix == ".parquet":
        import pyarrow.parquet

        yield from pyarrow.parquet.read_table(path).to_pylist()
        return
    text = path.read_text("utf-8-sig")
    try:
        rows = (
            json.loads(text) if text.lstrip().startswith("[") else map(json.loads, filter(str.strip, text.split("\n")))
        )
        for row in rows:
            if not isinstance(row, dict):
                raise InputError(f"benchmark: {path}: expected JSON objects, found {row!r:.80}")
            yield row
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"benchmark: {path} is not JSON: {error}") from None


def _get(row: Row, key: str, kind: type, place: str) -> Any:
    value = row.get(key)
    if not isinstance(value, kind) or value == "":
        raise InputError(f"benchmark: {place}: expected {key} as {kind.__name__}, found {value!r:.80}")
    return value


def _choices(row: Row, place: str) -> dict[str, Any]:
    answers, right = _get(row, "answers", dict, place), _get(row, "correct_answer", str, place)
    if right not in answers or not all(isinstance(text, str) and text.strip() for text in answers.values()):
        raise InputError(f"benchmark: {place}: expected answers with texts, one of them for {right!r}")
    functions = [json.loads(tool) if isinstance(tool, str) else tool for tool in _get(row, "tools", list, place)]
    return {
        "id": _get(row, "uuid", str, place),
        "dataset": str(row.get("source", "")),
        "question": _get(row, "question", str, place),
        "functions": [_function(function, place) for function in functions],
        "answers": answers,
        "right": right,
    }


def _calls(row: Row, accepted: Mapping[str, Any] | None, dataset: str, place: str) -> dict[str, Any]:
    name = _get(row, "id", str, place)
    turns = _get(row, "question", list, place)
    if len(turns) != 1 or not isinstance(turns[0], list):
        raise InputError(f"benchmark: {place}: expected a question with one turn, found {len(turns)}")
    if accepted is not None and name not in accepted:
        raise InputError(f"benchmark: {place}: the folder possible_answer has no right call for {name}")
    functions = [_function(function, place) for function in _get(row, "function", list, place)]
    for function in functions:
        for parameter, schema in function["parameters"]["properties"].items():
            if schema.get("type") not in TYPES:
                raise InputError(
                    f"benchmark: {place}: the parameter {parameter} has the type {schema.get('type')!r}, expected "
                    f"one of {', '.join(TYPES)}; Java and JavaScript are not covered"
                )
    return {
        "id": name,
        "dataset": dataset,
        "question": "\n\n".join(_get(message, "content", str, place) for message in turns[0]),
        "functions": functions,
        "accepted": None if accepted is None else accepted[name],
    }


def _function(function: Any, place: str) -> dict[str, Any]:
    function = function.get("function", function) if isinstance(function, dict) else {}
    name, parameters = _get(function, "name", str, place), function.get("parameters") or {}
    properties = _get(parameters, "properties", dict, place) if "properties" in parameters else {}
    required = [key for key in parameters.get("required") or [] if key in properties]
    parameters = {**parameters, "properties": properties, "required": required}
    return {"name": name, "description": str(function.get("description", "")), "parameters": parameters}


def _accepted(path: Path) -> dict[str, Any] | None:
    """Return the right calls of a BFCL file by id; None for a file of questions that no function fits."""
    answers = path.parent / "possible_answer" / path.name
    if answers.is_file():
        accepted = {}
        for n, row in enumerate(_read(answers), 1):
            calls = _get(row, "ground_truth", list, f"{answers}, row {n}")
            if len(calls) != 1:
                raise InputError(f"benchmark: {answers}, row {n}: expected one right call, found {len(calls)}")
            accepted[_get(row, "id", str, f"{answers}, row {n}")] = calls[0]
        return accepted
    if "irrelevance" in path.name:
        return None
    raise InputError(f"benchmark: {path} needs its right calls in the file {answers}")


def _questions(rows: list[tuple[str, dict[str, Any]]]) -> Dataset:
    questions, n_other = [], 0
    for place, row in rows:
        environments = row.get("environments") or [{"name": row.get("env_name")}]
        if [environment.get("name") for environment in environments] != [CALCULATOR] or row.get("multi_step"):
            n_other += 1
            continue
        answer = row["answer"] if "answer" in row else _get(row, "expected", dict, place).get("answer")
        questions.append(
            {
                "id": f"when2tool-{row.get('id')}",
                "task": "math",
                "dataset": f"when2tool-{_get(row, 'difficulty', str, place)}",
                "question": _get(row, "instruction", str, place),
                "context": "",
                "answers": [str(answer)],
                "solution": "",
                "split_origin": "test",
            }
        )
    if not questions:
        raise InputError(f"benchmark: none of {len(rows)} rows of When2Tool is one of {CALCULATOR}")
    if n_other:
        log.warning("%d of %d rows need other tools than %s, and are left out", n_other, len(rows), CALCULATOR)
    return Dataset.from_list(questions, features=QUESTIONS)
