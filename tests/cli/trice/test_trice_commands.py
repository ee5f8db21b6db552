"""The commands of TRICE's documents: flags in any spelling, files of the original continued, and unusable lines."""

from __future__ import annotations

import fcntl
import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tests.support.api_replies import ReceivedRequest, ServerReply, completion
from tests.support.api_server import ApiServer, error
from tests.support.printed import printed_lines
from tests.support.trice_chain import (
    PASSAGES,
    page_commands,
    raw_rows,
    read_lines,
    reply,
    write_lines,
)
from toolrlef_data import TASKS, EngineSpec, InputError
from toolrlef_data.cli.main import app
from toolrlef_data.cli.trice import models
from toolrlef_data.cli.trice.flags import run_command
from toolrlef_data.cli.trice.group import trice
from toolrlef_data.cli.trice.merge import merge
from toolrlef_data.cli.trice.reports import print_missing
from toolrlef_data.records import ToolrlefError
from toolrlef_data.trice.files.steps import OUTPUT

# The package has functions of these names.
answer, generate_response_llama, generate_tool_api, score = (
    import_module(f"toolrlef_data.cli.trice.{name}")
    for name in ("answer", "generate_response_llama", "generate_tool_api", "score")
)


def run(*words: str, code: int = 0) -> str:
    """Run a command, and return what it prints."""
    result = CliRunner().invoke(app, ["trice", *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def refusal(*words: str) -> str:
    """Run a command that an error stops, and return the message."""
    with pytest.raises(ToolrlefError) as caught:
        run(*words)
    return str(caught.value)


# Files that the original's scripts left half-way ----------------------------------------------------------------------


def call_arguments(source: Path, target: Path, mode: str = "a") -> list[str]:
    names = ["--input", str(source), "--output", str(target), "--dataset_name", "GSM8K", "--mode", mode]
    return ["generate_tool_api", *names, "--engine", "teacher", "--keep-unverified"]


def test_rows_of_the_original_that_are_continued_get_the_field_that_its_evaluator_reads(
    server: ApiServer, tmp_path: Path
) -> None:
    rows = raw_rows("math", 3)
    write_lines(tmp_path / "raw.json", rows)
    write_lines(tmp_path / "out.json", [{**rows[0], "output": " calculator(1+2) "}])  # of generate_response_gpt.py
    run("generate_response_gpt", "--input", "raw.json", "--output", "out.json", "--task", "math", "--engine", "m")
    texts = [" calculator(1+2) ", "calculator(1+31)", "calculator(2+32)"]
    assert [(row["output"], row["response"]) for row in read_lines(Path("out.json"))] == [
        (text, text) for text in texts
    ]


def test_the_original_s_default_folder_of_examples_is_used_if_it_has_the_task(
    server: ApiServer, tmp_path: Path
) -> None:
    write_lines(tmp_path / "raw.json", raw_rows("math", 1))
    arguments = ["generate_response_gpt", "--input", "raw.json", "--task", "Math", "--engine", "m", "--mode", "w"]
    example = {"instruction": "Solve it, please.", "input": "How many pears?", "output": "calculator(1+2)"}
    for name in ("qa", "Math"):
        write_lines(tmp_path / "example" / f"{name}.json", [example])
        output = run(*arguments, "--output", "out.json")
        sent = json.dumps(server.requests[-1].body)
        assert [text in sent for text in ("Solve it, please.", "How many pears?")] == [name == "Math"] * 2
        assert ("Few-shot examples: example/Math.json" in output) == (name == "Math")


@pytest.mark.parametrize(
    "words",
    [
        ["answer", "--input", "raw.json", "--task", "qa", "--engine", "m"],
        [
            "generate_tool_api",
            "--input",
            "raw.json",
            "--output",
            "out.json",
            "--dataset_name",
            "T-REx",
            "--engine",
            "m",
        ],
        ["generate_response_gpt", "--input", "raw.json", "--output", "out.json", "--task", "mlqa", "--engine", "m"],
        ["merge", "--right", "right.json", "--wrong", "calls.json", "--output", "out.json", "--task", "lama"],
        ["score", "--task", "qa", "--data-path", "math", "--target-path", "out.json"],
    ],
)
def test_rows_of_another_task_are_refused(words: list[str], server: ApiServer, tmp_path: Path) -> None:
    """The names of the files say nothing; the ids name the data set."""
    rows = raw_rows("math", 2)
    write_lines(tmp_path / "raw.json", rows)
    write_lines(tmp_path / "right.json", [{**rows[0], "output": "57"}])
    write_lines(tmp_path / "calls.json", [{**rows[1], "tool": "calculator(1+31)"}])
    gold = [{**row, "instruction": "Please.", "output": "57"} for row in rows]
    write_lines(tmp_path / "math" / "math_gold_response.json", gold)
    write_lines(tmp_path / "math" / "math_chatgpt_response.json", [{**row, "response": "57"} for row in rows])
    message = refusal(*words)
    assert ", line 1: 'GSM8K-0' is a row of GSM8K, of the task math, not " in message
    assert (server.requests, Path("out.json").exists()) == ([], False)


def test_the_columns_of_raw_rows_stay_and_answers_get_the_evaluators_form(server: ApiServer, tmp_path: Path) -> None:
    row = {
        "id": "GSM8K-1",
        "question": "Ann has 1 figs and 31 nuts. How many things?",
        "answer": ["32"],
        "mine": [1, None],
    }
    write_lines(tmp_path / "raw.json", [row])
    run("generate_response_gpt", "--input", "raw.json", "--output", "out.json", "--task", "Math", "--engine", "m", "--output_text", "mine_too")  # fmt: skip
    assert read_lines(Path("out.json")) == [
        {**row, "input": row["question"], "answer": "32", "answers": ["32"], "mine_too": "calculator(1+31)", "response": "calculator(1+31)"}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "message"),
    [
        ('{"id": "a"}\n', "out.json, line 1: expected the field tool; found the fields id"),
        ('{"id": "a", "to\n{"id": "b", "tool": "c"}\n', "out.json, line 1: not a complete JSON object"),
    ],
)
def test_a_foreign_output_is_not_continued(old: str, message: str, server: ApiServer, tmp_path: Path) -> None:
    source, target = tmp_path / "GSM8K_wrong.json", tmp_path / "out.json"
    write_lines(source, raw_rows("math"))
    target.write_text(old)
    assert message in refusal(*call_arguments(source, target))
    assert target.read_text() == old


IN_PLACE = ["--input", "GSM8K_wrong.json", "--output", "GSM8K_wrong.json", "--mode", "w", "--engine", "m"]
PARTS = ["--right", "GSM8K_right.json", "--wrong", "GSM8K_calls.json"]


@pytest.mark.parametrize(
    "words",
    [
        ["answer", "--input", "GSM8K_wrong.json", "--task", "math", "--engine", "student"],
        ["generate-tool-api", *IN_PLACE, "--dataset-name", "GSM8K"],
        ["generate-response-gpt", *IN_PLACE, "--task", "math"],
        ["merge", *PARTS, "--output", "GSM8K_right.json"],
        ["merge", *PARTS, "--output", "out.json", "--gold", "GSM8K_calls.json"],
        ["merge", "--mix", "GSM8K_right.json", "--output", "GSM8K_right.json"],
        ["score", "--task", "math", "--data-path", "stage2", "--target-path", "stage2/math_davinci_response.json"],
    ],
    ids=" ".join,
)
def test_no_command_writes_over_its_input(words: list[str], server: ApiServer, tmp_path: Path) -> None:
    rows = raw_rows("math", 3)
    write_lines(tmp_path / "GSM8K_wrong.json", rows)
    write_lines(tmp_path / "GSM8K_right.json", [{**rows[0], "output": "The answer is 30."}])
    write_lines(tmp_path / "GSM8K_calls.json", [{**rows[1], "tool": "calculator(1+31)"}])
    (tmp_path / "stage2").mkdir()
    write_lines(tmp_path / "stage2" / "math_gold_response.json", [GOLD])
    write_lines(tmp_path / "stage2" / "math_davinci_response.json", [{**GOLD, "response": "57"}])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    refusal(*words)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before


def test_failed_requests_leave_the_other_rows_and_a_further_run_adds_theirs(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lines(tmp_path / "raw.json", raw_rows("math"))
    arguments = ["generate-response-gpt", "--input", "raw.json", "--task", "math", "--engine", "m", "--output"]
    run(*arguments, "undisturbed.json")
    with ApiServer(lambda r, n: error(404, None, "lost") if "Ann has 3" in r.body["messages"][-1]["content"] else reply(r)) as other:  # fmt: skip
        output = run(*arguments, "out.json", "--base-url", other.url, code=1)
    assert "1 (not_found): GSM8K-3" in output
    assert [row["id"] for row in read_lines(Path("out.json"))] == [f"GSM8K-{n}" for n in (0, 1, 2, 4, 5)]
    run(*arguments, "out.json")
    assert Path("out.json").read_bytes() == Path("undisturbed.json").read_bytes()


@pytest.mark.parametrize(
    ("reason", "can_be_added"),
    [
        ("server", True),
        ("no_reply:connection", True),
        ("tool_error:http", True),
        ("tool_error:unavailable", True),
        ("tool_error:syntax", False),
        ("no_reply:refused", False),
        ("wrong_value", False),
    ],
)
def test_the_status_is_1_only_if_a_further_run_can_add_rows(reason: str, can_be_added: bool) -> None:
    statuses = []
    try:
        print_missing({"a": "wrong_value", "b": reason})
    except typer.Exit as stop:
        statuses = [stop.exit_code]
    assert statuses == [1] * can_be_added


def test_replies_that_were_cut_off_are_written_as_in_the_original_unless_they_are_dropped(
    server: ApiServer, tmp_path: Path
) -> None:
    def cut(received: ReceivedRequest, repeats: int) -> ServerReply:
        is_cut = "Ann has 1 " in received.body["messages"][-1]["content"]
        return completion(" 5+3=", finish_reason="length") if is_cut else reply(received)

    write_lines(tmp_path / "raw.json", raw_rows("math", 2))
    arguments = ["generate-response-gpt", "--input", "raw.json", "--task", "math", "--engine", "m", "--output"]
    with ApiServer(cut) as other:
        assert "in the file as in the original: 1" in run(*arguments, "all.json", "--base-url", other.url)
        complete = run(*arguments, "complete.json", "--drop-cut", "--base-url", other.url)
        assert "1 (cut_off): GSM8K-1" in complete
        assert "as in the original" not in complete
    assert [row["response"] for row in read_lines(Path("all.json"))] == ["calculator(0+30)", "5+3="]
    assert [row["id"] for row in read_lines(Path("complete.json"))] == ["GSM8K-0"]


@pytest.mark.parametrize("drop_cut", [True, False])
def test_drop_cut_of_a_local_model(drop_cut: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(generate_response_llama, "write_responses", lambda *words, **options: given.append(options))
    words = ["generate_response_llama", "--base_model", "m", "--task", "math", "--data_path", "a", "--output_path", "b"]
    run(*words, "--mode", "a", *(["--drop-cut"] if drop_cut else []))
    assert given == [{"again": False, "drop_cut": drop_cut}]


@pytest.mark.parametrize(
    ("error", "prediction", "ungradable", "reason"),
    [
        ("timeout", None, "no_gold", "no_gold"),  # no reply could be graded
        ("timeout", None, None, "timeout"),
        (None, None, None, "unreadable_answer"),
        (None, "7", None, "unsure_grade"),
    ],
)
def test_why_an_answer_is_neither_right_nor_wrong(
    error: str | None, prediction: str | None, ungradable: str | None, reason: str
) -> None:
    assert answer._reason({"response": {"error": error}, "prediction": prediction}, ungradable) == reason


@pytest.mark.parametrize(
    ("rejected", "reason"),
    [
        ([], "no_call"),
        (["syntax", "wrong_value"], "wrong_value"),  # the last attempt
        (["wrong_value: 7 is not 8"], "wrong_value"),
        (["wrong_value", "no_reply:timeout: after 3 s"], "no_reply:timeout"),
        (["tool_error:http: 503"], "tool_error:http"),
    ],
)
def test_why_a_row_has_no_call(rejected: list[str], reason: str) -> None:
    assert generate_tool_api._reason(rejected) == reason


@pytest.mark.parametrize(("count", "shown"), [(1, "0"), (3, "0, 1, 2"), (4, "0, 1, 2, ...")])
def test_the_first_ids_of_missing_rows_are_printed(count: int, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_missing(dict.fromkeys(map(str, range(count)), "wrong_value"))
    assert capsys.readouterr().out == f"Not in the output: {count} (wrong_value): {shown}\n"


def test_everything_that_the_commands_print(server: ApiServer, tmp_path: Path) -> None:
    """The student answers the rows with odd numbers correctly."""
    rows = raw_rows("math", 4)
    write_lines(tmp_path / "GSM8K.json", rows)
    task = ["--task", "math", "--engine", "m"]
    assert printed_lines(run("answer", "--input", "GSM8K.json", *task[:3], "student", "--output", "folder")) == [
        "Rows", "questions|4", "right|2", "wrong|2", "not graded|0", "Wrote 2 rows to folder/GSM8K_right.json",
        "Wrote 2 rows to folder/GSM8K_wrong.json",
    ]  # fmt: skip
    assert read_lines(Path("folder/GSM8K_right.json")) == [
        {**rows[n], "output": f"The answer is {30 + 2 * n}."} for n in (1, 3)
    ]
    assert read_lines(Path("folder/GSM8K_wrong.json")) == [rows[0], rows[2]]
    calls = [*call_arguments(Path("GSM8K.json"), Path("calls.json"))]
    assert printed_lines(run(*calls)) == ["Rows", "wrong rows|4", "new calls|4", "Wrote 4 rows to calls.json"]
    responses = ["generate_response_gpt", "--input", "GSM8K.json", "--output", "responses.json", *task]
    assert printed_lines(run(*responses)) == [
        "Rows",
        "questions|4",
        "new responses|4",
        "Wrote 4 rows to responses.json",
    ]
    write_lines(Path("calls.json"), read_lines(Path("calls.json"))[:1])
    parts = [
        "--right",
        "folder/GSM8K_right.json",
        "--wrong",
        "calls.json",
        "--output",
        "stage1.json",
        "--gold",
        "gold.json",
    ]
    assert printed_lines(run("merge", *parts)) == [
        "Rows", "stage 1|3", "right rows|2", "wrong rows with a call|1", "Wrote 3 rows to stage1.json", "Wrote 3 rows to gold.json"
    ]  # fmt: skip
    mixed = run("merge", "--mix", "stage1.json", "stage1.json", "--output", "mix.json")
    assert printed_lines(mixed) == ["Rows", "stage1.json|3", "Wrote 3 rows to mix.json"]


# Merging --------------------------------------------------------------------------------------------------------------


def test_merged_files_keep_the_order_and_refuse_other_kinds(server: ApiServer, tmp_path: Path) -> None:
    rows = raw_rows("math")
    write_lines(tmp_path / "GSM8K_right.json", [{**rows[0], "output": "The answer is 30."}])
    write_lines(tmp_path / "GSM8K_wrong.json", [{**rows[1], "tool": "calculator(1+31)"}])
    merge = ["merge", "--right", "GSM8K_right.json", "--wrong", "GSM8K_wrong.json", "--output", "stage1.json"]
    run(*merge, "--gold", "gold.json")
    instruction = "Given a math problem, please answer it and you can use a calculator for help."
    stage1 = [
        {"instruction": instruction, "input": rows[0]["input"], "output": "The answer is 30."},
        {"instruction": instruction, "input": rows[1]["input"], "output": "calculator(1+31)"},
    ]
    assert read_lines(Path("stage1.json")) == stage1
    assert read_lines(Path("gold.json"))[1] == {**stage1[1], "id": "GSM8K-1", "answer": "32"}
    run("merge", "--mix", "stage1.json", "stage1.json", "--output", "mix.json")
    assert Path("mix.json").read_bytes() == Path("stage1.json").read_bytes() * 2
    assert "GSM8K_right.json, line 1: a row of questions, but stage1.json, line 1 is a row of stage 1" in refusal(
        "merge", "--mix", "stage1.json", "GSM8K_right.json", "--output", "mix.json"
    )
    assert "gold.json, line 1: a row of gold responses, but stage1.json, line 1 is a row of stage 1" in refusal(
        "merge", "--mix", "stage1.json", "gold.json", "--output", "mix.json"
    )
    write_lines(tmp_path / "GSM8K_right.json", [{**rows[0], "response": "The answer is 30."}])
    run(*merge)
    assert read_lines(Path("stage1.json")) == stage1, "the original's evaluator calls the field response"
    write_lines(tmp_path / "GSM8K_wrong.json", [{**rows[0], "tool": "calculator(1+31)"}])
    assert "GSM8K_wrong.json, line 1: the id 'GSM8K-0' is also in GSM8K_right.json, line 1" in refusal(*merge)
    write_lines(tmp_path / "GSM8K_wrong.json", [rows[1]])
    assert "GSM8K_wrong.json, line 1: expected the field tool" in refusal(*merge)
    assert read_lines(Path("stage1.json")) == stage1


def test_a_written_file_replaces_the_target_of_a_link_and_the_scratch_files_of_killed_commands(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.json", raw_rows("math", 2))
    (tmp_path / "out.json").symlink_to(tmp_path / "data" / "target.json")
    for name in (f"{OUTPUT}killed", f"{OUTPUT}alive", ".tmp-other"):
        write_lines(tmp_path / "data" / name, [])
    with open(tmp_path / "data" / f"{OUTPUT}alive") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        run("merge", "--mix", str(tmp_path / "a.json"), "--output", str(tmp_path / "out.json"))
    assert (tmp_path / "out.json").is_symlink()
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        ".tmp-other",
        f"{OUTPUT}alive",
        "target.json",
    ]


# Scores ---------------------------------------------------------------------------------------------------------------

GOLD = {"id": "GSM8K-1", "answer": "57", "instruction": "Given a math problem, please solve it.", "input": "How many?", "output": "calculator(3*19)"}  # fmt: skip


def test_a_false_pred_is_kept_unless_recompute_executes_the_response(tmp_path: Path) -> None:
    write_lines(tmp_path / "math_gold_response.json", [GOLD])
    row = {"id": "GSM8K-1", "answer": "57", "input": "How many?", "response": "calculator(3*19)", "pred": 1.0}
    write_lines(tmp_path / "math_davinci_response.json", [row])
    arguments = ["score", "--task", "math", "--data-path", str(tmp_path), "--target-path", str(tmp_path / "out.jsonl")]
    for more, kept, scores in (([], 1, [20, 15]), (["--recompute"], 0, [20, 20])):
        output = " ".join(run(*arguments, *more).split())  # a long path is on several lines
        assert "No file of chatgpt, vicuna, alpaca in " in output
        counts = [line for line in printed_lines(run(*arguments, *more)) if "|" in line]
        assert counts == ["questions|1", "scored|1", f"kept predictions|{kept}"]
        assert read_lines(tmp_path / "out.jsonl")[0]["scores"] == scores


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["math_gold_response"], "no response files"),
        (["math_davinci_response"], "no gold responses: expected "),
        (["math_davinci_response", "Math_davinci_response"], "two files of the responder 'davinci'"),
        (["other_davinci_response"], "expected a name such as math_chatgpt_response.json"),
    ],
)
def test_a_folder_with_other_files_is_refused(names: list[str], message: str, tmp_path: Path) -> None:
    for name in names:
        write_lines(tmp_path / f"{name}.json", [{**GOLD, "response": "57"}])
    assert message in refusal("score", "--task", "math", "--data-path", str(tmp_path), "--target-path", "out.json")


LOCAL = ["--base-model", "PLMs/base", "--lora-weights", "lora"]


@pytest.mark.parametrize(
    ("words", "function", "expected"),
    [
        (["answer", "--input", "raw.json", "--task", "qa", *LOCAL, "--prompt-template", "Alpaca", "--max-tokens", "7"], "student.answer", ("alpaca", 7)),
        (["generate_response_llama", "--data-path", "raw.json", "--output-path", "out.json", "--task", "qa", *LOCAL, "--prompt-template", "Chat", "--max-tokens", "9"], "responders.respond", ("chat", 9)),
        (["score", "--data-path", "stage2", "--target-path", "out.json", "--task", "qa", *LOCAL, "--model", "Alpaca", "--search-url", "http://localhost:9/", "--no-compat"], "files.response_files.score_responses", ("alpaca", 128)),
    ],
)  # fmt: skip
def test_the_options_of_a_local_model_reach_its_spec(
    words: list[str], function: str, expected: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model, its adapter, its prompts and its limit, with the decoding of the original's script."""
    calls: list[tuple[EngineSpec, str]] = []

    def record(table: Any, model: Any, **options: Any) -> None:
        model = model[0] if isinstance(model, list) else model
        if function.endswith("score_responses"):
            assert (options, model.tool.name) == ({"compat": False}, "WikiSearch")
            calls.append((model.reader, model.reader_style))
        else:
            calls.append((model, options["style"]) if isinstance(model, EngineSpec) else (model.engine, model.style))
        raise InputError("enough")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(f"toolrlef_data.trice.{function}", record)
    row = raw_rows("qa", 1)[0]
    write_lines(Path("raw.json"), [row])
    Path("stage2").mkdir()
    gold = {**GOLD, "id": row["id"], "input": row["question"], "output": "WikiSearch(x)", "answer": row["answer"][0]}
    write_lines(Path("stage2/qa_gold_response.json"), [gold])
    write_lines(Path("stage2/qa_davinci_response.json"), [{**row, "response": "WikiSearch(where)"}])
    assert refusal(*words) == "enough"
    ((spec, style),) = calls
    found = (spec.kind, spec.model, spec.adapter, spec.num_beams, spec.repetition_penalty)
    assert found == ("local", "PLMs/base", "lora", 4, 1.3)
    assert (style, spec.max_tokens) == expected


# Flags ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def group() -> Any:
    return typer.main.get_group(trice)


def options_of(group: Any) -> Iterator[tuple[str, str]]:
    """Yield (command, option) for each option of each command."""
    for name, command in group.commands.items():
        for parameter in command.params:
            yield from ((name, option) for option in parameter.opts if option.startswith("--"))


def test_the_message_about_a_misspelt_flag_names_the_correct_one(
    group: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for n, (command, option) in enumerate(options_of(group)):
        misspelt = option[:-2] + option[-1] + option[-2] if option[-1] != option[-2] else option[:-1]
        if n % 2:
            misspelt = misspelt.replace("-", "_").replace("__", "--", 1)
        with pytest.raises(SystemExit) as ended:
            group.main([command, misspelt])
        message = " ".join(capsys.readouterr().err.split())
        assert (ended.value.code, option in message) == (2, True), (command, misspelt, message)


@pytest.mark.parametrize(
    ("words", "is_set"),
    [("--load_8bit", True), ("--load_8bit True", True), ("--load-8bit=True", True), ("--load_8bit False", False)],
)
def test_a_flag_may_have_a_value_as_in_the_original_s_fire(words: str, is_set: bool, tmp_path: Path) -> None:
    arguments = ["generate_response_llama", "--base_model", "m", "--data_path", str(tmp_path / "none.json")]
    others = ["--task", "math", "--output_path", str(tmp_path / "out.json")]
    result = CliRunner().invoke(app, ["trice", *arguments, *words.split(), *others])
    assert "none.json: no such file" in str(result.exception), "all other arguments are read"
    assert ("--load-8bit has no effect" in result.output) == is_set
    output = run(*arguments, "--load_8bit=7", *others, code=2)
    assert "--load-8bit" in output
    assert "does not take a value" in output


def test_each_help_has_an_example_and_each_flag_of_the_page_exists(group: Any) -> None:
    options = set(options_of(group))
    for command in {command for command, _ in options}:
        example = run(command, "--help").rpartition("\nExample:\n")[2].strip()
        lines = example.split("\n")
        assert lines[0].startswith(f"toolrlef-data trice {command} ")
        assert [line[-2:] == " \\" for line in lines] == [True] * (len(lines) - 1) + [False], "as a shell reads them"
        assert max(map(len, lines)) < 80
    for commands in page_commands().values():
        for name, *words in commands:
            for word in words:
                assert not word.startswith("--") or (name.replace("_", "-"), word.replace("_", "-")) in options, word


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--engine", "gpt-turbo-0301"], "name another model, or a server that has it with --base-url or the variable OPENAI_BASE_URL"),
        (["--engine", "text-davinci-003"], "OpenAI does not serve 'text-davinci-003' any more"),
        (["--engine", "m", "--api_key", "sk-secret"], "set the variable OPENAI_API_KEY instead"),
        (["--engine", "m", "--multi_api_keys"], "add --api-keys-file"),
        (["--engine", "m", "--api_key_file", "none.txt"], "none.txt: no such file"),
        (["--engine", "m", "--mode", "x"], "unknown mode 'x'; choose from: a, w"),
        (["--engine", "m", "--dataset_name", "GSM9K"], "unknown data set 'GSM9K'; choose from: ASDiv, AddSub, GSM8K"),
    ],
)  # fmt: skip
def test_unusable_settings_are_refused_before_the_first_request(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    write_lines(Path("in.json"), raw_rows("math"))
    arguments = ["--input", "in.json", "--output", "out.json", "--dataset_name", "GSM8K"]
    found = refusal("generate_tool_api", *arguments, *words)
    assert message in found
    assert "sk-secret" not in found
    assert not Path("out.json").exists()


CALLS = ["generate_tool_api", "--input", "in.json", "--output", "out.json", "--dataset_name", "WebQ", "--engine", "m"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["answer", "--input", "in.json", "--task", "math"], "name the student"),
        (
            ["answer", "--input", "in.json", "--task", "math", "--engine", "m", "--base-model", "b"],
            "name the student",
        ),
        ([*CALLS, "--lora_weights", "l"], "the reader turns the passages of a search into answers"),
        ([*CALLS, "--base_model", "b"], "the reader turns the passages of a search into answers"),
        (
            [*CALLS, "--search_url", "http://localhost:9/", "--corpus", "c"],
            "--search-url and --corpus: name one of them",
        ),
        (["merge", "--mix", "in.json", "--gold", "g.json", "--output", "out.json"], "--mix joins the files"),
        (["merge", "--mix", "in.json", "--right", "in.json", "--output", "out.json"], "--mix joins the files"),
        (["merge", "--mix", "--output", "out.json"], "--mix joins the files"),
        (["merge", "--right", "in.json", "--output", "out.json"], "name both files"),
        (["merge", "--right", "a.json", "--wrong", "b.json", "--output", "out.json", "in.json"], "name both files"),
    ],
)
def test_options_that_exclude_or_need_each_other(
    words: list[str], message: str, server: ApiServer, tmp_path: Path
) -> None:
    write_lines(Path("in.json"), raw_rows("qa"))
    assert message in refusal(*words)
    assert (server.requests, [path.name for path in tmp_path.iterdir()]) == ([], ["in.json"])


def test_the_reader_of_score_is_the_model_of_the_original_if_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments: tuple[Any, ...] = (TASKS["qa"], ["WikiSearch(x)"], {"search_url": "http://localhost:9/"}, None, "")
    with pytest.raises(InputError, match="PLMs/vicuna-7b is no folder"):
        score._with_tool(*arguments, "vicuna")
    Path("PLMs/vicuna-7b").mkdir(parents=True)
    reader = score._with_tool(*arguments, "vicuna").reader
    assert (reader and reader.model) == "PLMs/vicuna-7b"


@pytest.mark.parametrize("has_search", [False, True])
def test_a_qa_model_with_a_search_extracts_answers(
    has_search: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Any, ...]] = []

    def record(model: str, *, search: Any, kind: str) -> Any:
        given.append((model, search and search.name, kind))
        return TASKS["lama"].tool

    monkeypatch.setattr("toolrlef_data.tools.readers.qa_model.qa_model", record)
    write_lines(tmp_path / "corpus.jsonl", PASSAGES)
    corpus = tmp_path / "corpus.jsonl" if has_search else None
    assert models.task_tool(TASKS["lama"], qa_model="m", corpus=corpus) is not None
    assert given == [("m", "WikiSearch" if has_search else None, "extractive" if has_search else "seq2seq")]
    assert models.task_tool(TASKS["lama"], corpus=corpus) is None


@pytest.mark.parametrize(("task", "name"), [("qa", "WikiSearch"), ("retrieval", "retriever")])
def test_a_search_has_the_name_of_the_tool_of_the_task(task: str, name: str, tmp_path: Path) -> None:
    write_lines(tmp_path / "corpus.jsonl", PASSAGES)
    for options in ({"corpus": tmp_path / "corpus.jsonl"}, {"search_url": "http://localhost:9/"}):
        found = models.task_tool(TASKS[task], **options)
        assert (found and found.tool.name) == name


def test_a_script_prints_an_error_as_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["merge", "--mix", "none.json", "--output", "b.json"])
    with pytest.raises(SystemExit) as ended:
        run_command(merge)
    assert (ended.value.code, capsys.readouterr().err) == (2, "error: none.json: no such file\n")
