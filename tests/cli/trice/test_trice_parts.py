"""The parts of TRICE's commands: engines and tools from options, examples, reports, and every default of the options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperOption
from typer.testing import CliRunner

from tests.cli.trice.test_trice_commands import refusal, run
from tests.support.printed import printed_lines
from tests.support.trice_chain import read_lines, write_lines
from toolrlef_data import TASKS, EngineSpec, InputError
from toolrlef_data.cli.trice.flags import check_mode
from toolrlef_data.cli.trice.group import trice
from toolrlef_data.cli.trice.merge import _kind, merge
from toolrlef_data.cli.trice.models import (
    api_engine,
    check_template,
    local_engine,
    prompt_style,
    task_tool,
    with_reader,
)
from toolrlef_data.cli.trice.reports import check_any, print_missing, print_written
from toolrlef_data.cli.trice.responses import _with_fields, example_path, read_examples
from toolrlef_data.cli.trice.score import _refuse, _target_file, _with_tool
from toolrlef_data.trice.files.steps import StepRow

MATH, QA, MLQA, LAMA, RETRIEVAL = (TASKS[name] for name in ("math", "qa", "mlqa", "lama", "retrieval"))
PLAIN: dict[str, Any] = {
    "base_url": None,
    "api_key": "",
    "api_keys_file": None,
    "multi_api_keys": False,
    "max_tokens": 9,
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def message(call: Callable[..., Any], *args: Any, **options: Any) -> str:
    with pytest.raises(InputError) as refused:
        call(*args, **options)
    return str(refused.value)


# Options --------------------------------------------------------------------------------------------------------------

# Command -> option -> default; None without a default, "needed" for an option that must be given.
API = {"multi-api-keys": False, "api-keys-file": None, "api-key": "", "base-url": None, "max-tokens": 128}
SEARCH = {"search-url": None, "corpus": None, "qa-model": None}
DEFAULTS: dict[str, dict[str, Any]] = {
    "answer": {
        "input": "needed", "task": "needed", "output": None, "dataset-name": None, "base-model": None, "lora-weights": "",
        "prompt-template": "vicuna", "engine": None, "rule": "default", **API,
    },
    "generate-tool-api": {
        "input": "needed", "output": "needed", "dataset-name": "needed", "engine": None, "mode": "a", "task": None,
        "attempts": 3, "keep-unverified": False, "base-model": None, "lora-weights": "", "prompt-template": "vicuna",
        **API, **SEARCH,
    },
    "merge": {"output": "needed", "right": None, "wrong": None, "mix": False, "files": None, "gold": None, "task": None},
    "generate-response-gpt": {
        "input": "needed", "output": "needed", "task": "needed", "engine": "needed", "mode": "a", "example-num": 4,
        "example-file": None, "output-text": "output", "drop-cut": False, **API,
    },
    "generate-response-llama": {
        "base-model": "needed", "task": "needed", "data-path": "needed", "output-path": "needed", "lora-weights": "",
        "prompt-template": "vicuna", "mode": "w", "load-8bit": False, "max-tokens": 128, "drop-cut": False,
    },
    "score": {
        "task": "needed", "data-path": "needed", "target-path": "needed", "model": "vicuna", "base-model": None,
        "lora-weights": "", "translator": None, "stage1": None, "recompute": False, "compat": True, **SEARCH,
    },
}  # fmt: skip


def test_every_option_of_every_command_has_its_default() -> None:
    commands = typer.main.get_group(trice).commands
    found = {
        name: {
            parameter.name.replace("_", "-"): "needed" if parameter.required else parameter.default
            for parameter in command.params
            if parameter.name is not None
        }
        for name, command in commands.items()
    }
    assert found == DEFAULTS
    names = {name: option for command in commands.values() for option in command.params for name in option.opts}
    assert names["--model"].name in ("mode", "model")
    assert names["--api-key-file"] is names["--api-keys-file"] or names["--api-key-file"].name == "api_keys_file"
    api_key = names["--api-key"]
    assert isinstance(api_key, TyperOption)
    assert api_key.hidden
    for name, options in DEFAULTS.items():
        for option, lowest in (("max-tokens", 1), ("attempts", 1), ("example-num", 0)):
            if option in options:
                result = CliRunner().invoke(trice, [name, f"--{option}", str(lowest - 1)])
                assert (result.exit_code, f"Invalid value for '--{option}'" in result.output) == (2, True)
                assert "Missing option" in CliRunner().invoke(trice, [name, f"--{option}", str(lowest)]).output


# Models ---------------------------------------------------------------------------------------------------------------


def test_an_engine_behind_an_api(monkeypatch: pytest.MonkeyPatch) -> None:
    assert api_engine("m", **PLAIN) == EngineSpec("openai_api", "m", max_tokens=9)
    Path("keys").write_text("k")
    options = {**PLAIN, "base_url": "http://localhost:1/v1", "api_keys_file": Path("keys"), "multi_api_keys": True}
    expected = EngineSpec(
        "openai_api", "text-davinci-003", base_url="http://localhost:1/v1", keys=("file:keys",), max_tokens=9
    )
    assert api_engine("text-davinci-003", **options) == expected
    retired = (
        "text-davinci-003",
        "code-cushman-001",
        "text-ada-001",
        "gpt-turbo-0301",
        "gpt-3.5-turbo-0301",
        "gpt-3.5-turbo-0613",
    )
    for name in retired:
        assert message(api_engine, name, **PLAIN) == (
            f"--engine: OpenAI does not serve '{name}' any more: name another model, or a server that has it with --base-url "
            "or the variable OPENAI_BASE_URL"
        )
    for name in ("text-davinci-003x", "my-text-davinci-003", "gpt-3.5-turbo", "gpt-3.5-turbo-1106", "text-babbage"):
        assert api_engine(name, **PLAIN).model == name
    monkeypatch.setenv("OPENAI_BASE_URL", " ")
    assert "does not serve" in message(api_engine, retired[0], **PLAIN)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1")
    assert api_engine(retired[0], **PLAIN) == EngineSpec("openai_api", retired[0], max_tokens=9)
    assert message(api_engine, "m", **{**PLAIN, "api_key": "sk"}) == (
        "--api-key: a key in a command is visible to other users and in the shell's history: set the variable "
        "OPENAI_API_KEY instead, or name a file with --api-keys-file"
    )
    assert message(api_engine, "m", **{**PLAIN, "multi_api_keys": True}) == (
        "--multi-api-keys needs the file with the keys: add --api-keys-file"
    )
    assert message(api_engine, "m", **{**PLAIN, "api_keys_file": Path("no")}) == "--api-keys-file: no: no such file"


def test_styles_and_templates() -> None:
    styles = {
        "text-davinci-003": "completion",
        "code-davinci-002": "completion",
        "gpt-4o": "chat",
        "my/text-davinci-003": "chat",
    }
    assert {name: prompt_style(name) for name in styles} == styles
    assert [check_template(name) for name in ("Alpaca", "VICUNA", "chat")] == ["alpaca", "vicuna", "chat"]
    assert message(check_template, "Llama") == "unknown prompt template 'Llama'; choose from: alpaca, chat, vicuna"
    assert [check_mode(mode) for mode in "wa"] == ["w", "a"]
    assert message(check_mode, "x") == "unknown mode 'x'; choose from: a, w"
    spec = EngineSpec("local", "m", max_tokens=128, num_beams=4, repetition_penalty=1.3)
    assert local_engine("m", "") == spec
    assert local_engine("m", "lora", 7) == replace(spec, adapter="lora", max_tokens=7)
    reader = with_reader(QA, "m", "lora", "Alpaca")
    assert reader == replace(QA, reader=replace(spec, adapter="lora"), reader_style="alpaca")


def test_tools_from_options() -> None:
    assert task_tool(MATH) is MATH
    assert task_tool(MATH, search_url="http://localhost:1/", qa_model="x") is MATH
    assert [task_tool(task) for task in (QA, LAMA, MLQA, RETRIEVAL)] == [None] * 4
    assert task_tool(MLQA, search_url="http://localhost:1/", qa_model="x") is None
    assert task_tool(QA, qa_model="x", translator="y") is None
    search = task_tool(QA, search_url="http://localhost:1/")
    assert search is not None
    assert (search.tool.name, replace(search, tool=QA.tool)) == ("WikiSearch", QA)
    refused = "--search-url and --corpus: name one of them"
    assert message(task_tool, QA, search_url="http://localhost:1/", corpus=Path("c")) == refused


def test_the_tool_of_a_score() -> None:
    options: dict[str, Any] = {"search_url": None, "corpus": None, "qa_model": None, "translator": None}
    assert _with_tool(MATH, ["calculator(1)"], options, None, "", "vicuna") is MATH
    idle = _with_tool(QA, [], options, None, "", "vicuna")
    assert (idle.tool.many, idle.tool.function, idle.reader and idle.reader.kind) == (None, _refuse, "scripted")
    assert message(_refuse, "x" * 99) == f"a call to execute was not found before: '{'x' * 79}"
    for task, words in (
        (QA, "--search-url or --corpus"),
        (LAMA, "--qa-model, with --search-url or --corpus if it extracts answers from passages"),
        (MLQA, "--translator"),
    ):
        assert message(_with_tool, task, ["a(b)"] * 1200, options, None, "", "vicuna") == (
            f"1,200 responses call {task.tool.name}, such as 'a(b)': name the tool with {words}"
        )
    options["search_url"] = "http://localhost:1/"
    assert message(_with_tool, QA, ["a"], options, None, "", "alpaca") == (
        "the reader turns the output of WikiSearch into answers, and PLMs/alpaca-7b is no folder: name it with --base-model"
    )
    reader = _with_tool(QA, ["a"], options, "none/there", "lora", "alpaca")
    assert (reader.reader, reader.reader_style) == (local_engine("none/there", "lora"), "alpaca")


def test_the_target_of_a_score() -> None:
    Path("data/math").mkdir(parents=True)
    Path("out.json").mkdir()
    cases = {
        "new": "new/math.json",
        "out.json": "out.json/math.json",
        "a.json": "a.json",
        "a.jsonl": "a.jsonl",
        "a.txt": "a.txt/math.json",
    }
    assert {name: str(_target_file(Path(name), Path("data/math"))) for name in cases} == cases
    assert _target_file(Path("new"), Path("data/math/.")) == Path("new/math.json")


# Examples and rows ----------------------------------------------------------------------------------------------------


def test_the_file_of_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert example_path(MATH, Path("a.json")) == Path("a.json")
    Path("example").mkdir()
    assert example_path(MATH, Path("example")) == Path("example/math.json"), "none is there"
    rows = [{"instruction": f"Do {n}.", "input": f"{n}?", "output": f"f({n})", "id": n} for n in (1, 2)]
    write_lines(Path("example/Math.json"), rows)
    assert example_path(MATH, Path("example")) == Path("example/Math.json")
    task, instruction = read_examples(MATH, Path("example"))
    assert (instruction, replace(task, examples=MATH.examples)) == ("Do 1.", MATH)
    assert [(e.input, e.answer, e.call, e.plain) for e in task.examples_for("gsm8k")] == [("1?", "", "f(1)", ""), ("2?", "", "f(2)", "")]  # fmt: skip
    assert capsys.readouterr().out == "Few-shot examples: example/Math.json\n"
    write_lines(Path("example/math.json"), [{**rows[0], "output": None}])
    assert message(read_examples, MATH, Path("example")) == (
        "example/math.json, line 1: expected the field output; found the fields instruction, input, output, id"
    )
    write_lines(Path("example/QA.json"), rows)
    assert example_path(QA, Path("example")) == Path("example/QA.json")
    assert example_path(RETRIEVAL, Path("example")) == Path("example/retrieval.json")


def test_a_row_gets_all_fields_of_the_response() -> None:
    assert _with_fields({"id": 1, "a": None, "b": "x", "c": ""}, ["a", "b", "c", "d"]) == {
        "id": 1, "a": "x", "b": "x", "c": "", "d": "x"
    }  # fmt: skip


KINDS: list[tuple[str, str]] = [
    ("query responses scores", "stage 2"),
    ("query responses", "an unknown kind"),
    ("instruction input output", "stage 1"),
    ("instruction input output id", "gold responses"),
    ("instruction input output id question", "questions"),
    ("instruction input output question", "an unknown kind"),
    ("id question", "questions"),
    ("id instruction", "questions"),
    ("id question tool", "calls"),
    ("id question response tool", "responses"),
    ("id response", "an unknown kind"),
    ("question", "an unknown kind"),
]


@pytest.mark.parametrize(("fields", "kind"), KINDS)
def test_the_kind_of_a_row(fields: str, kind: str) -> None:
    assert _kind(StepRow("p", dict.fromkeys(fields.split()))) == kind


# Reports --------------------------------------------------------------------------------------------------------------


def test_why_no_row_is_written() -> None:
    check_any(1, Path("out"), {"a": "x"})
    missing = {"a": "empty", "b": "cut_off", "c": "empty"}
    for hint, end in (("", ""), ("do this", "; do this")):
        assert message(check_any, 0, Path("out"), missing, hint) == (
            f"out: not written, since no row is usable: 1 cut_off, 2 empty{end}"
        )


def test_what_is_printed_of_files_and_missing_rows(capsys: pytest.CaptureFixture[str]) -> None:
    print_written({"rows": 1200, "other": None}, (Path("a"), 1), (Path("b"), 1200), (Path("c"), 0))
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "Wrote 1 row to a",
        "Wrote 1,200 rows to b",
        "Wrote 0 rows to c",
    ]
    print_missing({})
    missing = {
        **{f"i{n}": "wrong_value" for n in range(1001)},
        "j": "no_reply:timeout",
        "k": "tool_error:http",
        "l": "empty",
    }
    with pytest.raises(typer.Exit) as stopped:
        print_missing(missing)
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "Not in the output: 1 (empty): l",
        "Not in the output: 1 (no_reply:timeout): j",
        "Not in the output: 1 (tool_error:http): k",
        "Not in the output: 1,001 (wrong_value): i0, i1, i2, ...",
    ]
    assert (stopped.value.exit_code, printed.err) == (
        1,
        "2 requests failed. All received replies are saved; run the same command to add the rows.\n",
    )


def test_the_options_of_merge_that_exclude_each_other() -> None:
    path, mix = Path("a"), "--mix joins the files that follow it: name at least one, without --right, --wrong, --gold"
    parts = "name both files: --right and --wrong, or files to join after --mix"
    options: dict[str, Any]
    for options in ({"right": path}, {"wrong": path}, {"gold": path}):
        assert message(merge, path, mix=True, files=[path], **options) == mix
    assert message(merge, path, mix=True) == message(merge, path, mix=True, files=[]) == mix
    for options in (
        {},
        {"right": path},
        {"wrong": path},
        {"right": path, "wrong": path, "files": [path]},
        {"files": [path]},
    ):
        assert message(merge, path, **options) == parts
    different = "the inputs and the outputs of merge must be different files"
    names: list[Any] = [{"right": "a", "wrong": "a"}, {"right": "o", "wrong": "b"}, {"right": "a", "wrong": "./o"}]
    names += [{"right": "a", "wrong": "b", "gold": name} for name in ("a", "b", "o", "./o")]
    for options in names:
        assert message(merge, Path("o"), **{key: Path(name) for key, name in options.items()}) == different


def test_the_text_of_a_merged_row() -> None:
    """The output comes before the response, also in the other order of fields; the response alone is enough."""
    both = {"output": "an output", "response": "a response"}
    texts = [both, dict(reversed(both.items())), {"response": "alone"}, {**both, "response": ""}]
    rows = [{"id": f"GSM8K-{n}", "question": "q", **text} for n, text in enumerate(texts)]
    write_lines(Path("r.json"), rows)
    write_lines(Path("w.json"), [{"id": "GSM8K-9", "question": "q", "tool": "calculator(1)", **both}])
    merge(Path("o.json"), right=Path("r.json"), wrong=Path("w.json"), task="MATH")
    outputs = [row["output"] for row in read_lines(Path("o.json"))]
    assert outputs == ["an output", "an output", "alone", "an output", "calculator(1)"]


def test_what_merge_needs_in_its_files() -> None:
    def run() -> str:
        return message(merge, Path("o.json"), right=Path("r.json"), wrong=Path("w.json"))

    assert run() == "r.json: no such file; the command answer writes it"
    write_lines(Path("r.json"), [])
    assert run() == "w.json: no such file; the command generate-tool-api writes it"
    write_lines(Path("w.json"), [])
    assert run() == "r.json and w.json have no rows"
    write_lines(Path("r.json"), [{"id": "GSM8K-1", "output": " ", "question": "q"}])
    assert run() == "r.json, line 1: the output is empty; found the fields id, output, question"
    write_lines(Path("r.json"), [{"id": "GSM8K-1", "question": "q"}])
    assert run() == "r.json, line 1: expected the field output or response; found the fields id, question"
    write_lines(Path("r.json"), [{"id": "GSM8K-1", "question": "q", "output": "x"}])
    write_lines(Path("w.json"), [{"id": "GSM8K-1", "question": "q", "tool": "calculator(1)"}])
    assert run() == "w.json, line 1: the id 'GSM8K-1' is also in r.json, line 1: it is right or wrong"
    write_lines(Path("w.json"), [{"id": "1", "question": "q", "tool": "calculator(1)"}])
    write_lines(Path("r.json"), [])
    assert run() == "w.json: unknown task; name it with --task"
    assert not Path("o.json").exists()
    merge(Path("o.json"), right=Path("r.json"), wrong=Path("w.json"), task="MATH")
    assert read_lines(Path("o.json")) == [{"instruction": MATH.instruction, "input": "q", "output": "calculator(1)"}]
    assert message(merge, Path("o.json"), mix=True, files=[Path("w.json"), Path("o.json")]) == (
        "o.json is both an input and the output: name another output"
    )


COMMANDS = {
    "answer": "--input in.json --task math --engine m",
    "generate_tool_api": "--input in.json --output out.json --dataset-name GSM8K --engine m",
    "generate_response_gpt": "--input in.json --output out.json --task math --engine m",
    "generate_response_llama": "--data-path in.json --output-path out.json --task math --base-model b",
}
# Rows -> the message of each command after the name of the file; without one, it would ask the model.
MISSING_FIELDS: list[tuple[dict[str, Any], str, str]] = [
    ({"question": "q", "answer": "1"}, "expected the field id", "expected the field id"),
    ({"id": "1", "answer": "1"}, "expected the field question or instruction", "expected the field input or question or instruction"),
    ({"id": "1", "question": "q"}, "expected the field answer or answers", ""),
]  # fmt: skip


@pytest.mark.parametrize(("row", "words", "of_responses"), MISSING_FIELDS)
def test_the_fields_that_the_commands_need(row: dict[str, Any], words: str, of_responses: str) -> None:
    write_lines(Path("in.json"), [row])
    for command, options in COMMANDS.items():
        expected = of_responses if "response" in command else words
        if expected:
            found = f"in.json, line 1: {expected}; found the fields {', '.join(row)}"
            assert refusal(command, *options.split()) == found


def test_each_command_says_what_is_missing() -> None:
    hints = {"generate_tool_api": "; the command answer writes it"}
    for command, options in COMMANDS.items():
        assert refusal(command, *options.split()) == f"in.json: no such file{hints.get(command, '')}"
    write_lines(Path("in.json"), [{"id": "1", "question": "q", "answer": "1"}])
    gpt = COMMANDS["generate_response_gpt"].split()
    assert refusal("generate_response_gpt", *gpt, "--example-file", "none") == "none: no such file"
    assert refusal("generate_response_gpt", *gpt, "--mode", "x") == "unknown mode 'x'; choose from: a, w"
    llama = COMMANDS["generate_response_llama"].split()
    assert refusal("generate_response_llama", *llama, "--mode", "x") == "unknown mode 'x'; choose from: a, w"
    for command in ("generate_response_llama", "answer"):
        local = COMMANDS[command].replace("--engine m", "--base-model b").split()
        assert refusal(command, *local, "--prompt-template", "x") == (
            "unknown prompt template 'x'; choose from: alpaca, chat, vicuna"
        )
    calls = COMMANDS["generate_tool_api"].replace(" --engine m", "").split()
    assert refusal("generate_tool_api", *calls) == "name the teacher with --engine"
    assert refusal("generate_tool_api", *calls, "--task", "maths") == (
        "unknown task 'maths'; choose from: lama, math, mlqa, qa, retrieval"
    )
    assert refusal("score", "--task", "math", "--data-path", ".", "--target-path", "x", "--model", "x") == (
        "unknown model 'x'; choose from: alpaca, vicuna"
    )
    student = "name the student: --base-model for a local model, or --engine for a model on a server"
    assert refusal("answer", "--input", "in.json", "--task", "math") == student


def test_everything_that_score_prints() -> None:
    gold = {"instruction": MATH.instruction, "input": "q?", "output": "calculator(6*7)", "answer": "42"}
    write_lines(Path("d/math_gold_response.json"), [{**gold, "id": f"GSM8K-{n}"} for n in (1, 2)])
    write_lines(Path("d/math_vicuna_response.json"), [{"id": "GSM8K-1", "input": "q?", "response": "It is 42."}])
    printed = run("score", "--task", "math", "--data-path", "d", "--target-path", "out")
    assert printed_lines(printed) == [
        "No file of chatgpt, davinci, alpaca in d: the rows have the other responses alone.",
        *("Dropped rows", "stage|reason|rows", "stage2|no_reply:not_found|1"),
        *("Rows", "questions|2", "scored|1", "kept predictions|0", "Wrote 1 row to out/d.json"),
    ]
    assert read_lines(Path("out/d.json"))[0]["scores"] == [20, 15]
    write_lines(Path("d/math_vicuna_response.json"), [{"id": "GSM8K-3", "input": "q?", "response": "It is 42."}])
    refused = refusal("score", "--task", "math", "--data-path", "d", "--target-path", "new")
    assert refused == "new/d.json: not written, since no question has all responses"
    same = refusal("score", "--task", "math", "--data-path", "d", "--target-path", "d/math_gold_response.json")
    assert same == "d/math_gold_response.json is both an input and the output: name another --target-path"
