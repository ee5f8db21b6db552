"""The commands of TRICE's documents in whole chains, and on files of the original that are continued or scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.trice.test_trice_commands import GOLD, call_arguments, refusal, run
from tests.support.api_replies import completion
from tests.support.api_server import ApiServer
from tests.support.trice_chain import DATASETS, raw_rows, read_lines, write_lines, write_raw
from toolrlef_data import build_stage1, load_trice, publish

RESPONDERS = ["gold", "chatgpt", "davinci"]


def run_chain(task: str, unit: str, *score_options: str) -> list[Any]:
    """Run all commands with models behind the server, and return the rows of stage 2."""
    dataset = DATASETS[task]
    raw, stage1, stage2 = f"data/raw/{unit}/{dataset}", f"data/stage1/{unit}/{dataset}", f"data/stage2/{unit}/{unit}"
    write_raw(Path(), task, unit)
    run("answer", "--input", f"{raw}.json", "--task", task, "--engine", "student")
    run("generate_tool_api", "--input", f"{raw}_wrong.json", "--output", f"{stage1}_wrong.json", "--dataset_name", dataset, "--engine", "text-davinci-003")  # fmt: skip
    run("merge", "--right", f"{raw}_right.json", "--wrong", f"{stage1}_wrong.json", "--output", f"data/stage1/{unit}/{unit}.json")  # fmt: skip
    for name, engine in (("chatgpt", "gpt-3.5-turbo"), ("davinci", "text-davinci-003")):
        run("generate_response_gpt", "--input", f"{raw}.json", "--output", f"{stage2}_{name}_response.json", "--task", task, "--engine", engine)  # fmt: skip
    run("score", "--task", task.upper(), "--data_path", f"data/stage2/{unit}", "--target_path", f"data/stage2/{unit}", *score_options)  # fmt: skip
    return read_lines(Path(f"{stage2}.json"))


def test_math_from_raw_rows_to_stage2_in_the_layout_by_data_set(server: ApiServer) -> None:
    rows = run_chain("math", "GSM8K")
    # The student answers the rows with odd numbers correctly. The call of row 2 misses the gold answer.
    assert [row["query"].partition("Ann has ")[2][0] for row in rows] == ["1", "3", "5", "0", "4"]
    assert [row["origin"] for row in rows] == [RESPONDERS] * 5
    assert rows[0]["responses"] == ["The answer is 32.", "calculator(1+31)", "calculator(1+31)"]
    assert rows[0]["scores"] == [20, 15, 15]
    assert rows[3]["responses"] == ["calculator(0+30)", "calculator(0+30)", "The answer is 999."]
    assert rows[3]["scores"] == [20, 20, 15]
    assert rows[3]["answer"] == ["30.0", "30.0", "999.0"]
    paths = {request.path for request in server.requests}
    assert paths == {"/v1/chat/completions", "/v1/completions"}
    loaded = load_trice("data")["math"]
    assert len(loaded["stage2"]) == 5
    assert len(build_stage1(loaded["labelled"])) == 5


def test_a_folder_of_publish_continues_with_the_commands(server: ApiServer, tmp_path: Path) -> None:
    write_raw(Path(), "math", "math")
    publish(load_trice("data"), tmp_path / "out", version="1.0.0", layout="trice")
    folder = tmp_path / "out" / "raw" / "math"
    run("answer", "--input", str(folder / "GSM8K.json"), "--task", "math", "--engine", "student")
    assert {path.name for path in folder.iterdir()} == {"GSM8K.json", "GSM8K_right.json", "GSM8K_wrong.json"}
    assert [row["id"] for row in read_lines(folder / "GSM8K_wrong.json")] == ["GSM8K-0", "GSM8K-2", "GSM8K-4"]


def test_an_interrupted_file_of_the_original_is_continued_by_ids(server: ApiServer, tmp_path: Path) -> None:
    source, target = tmp_path / "GSM8K_wrong.json", tmp_path / "out.json"
    write_lines(source, raw_rows("math"))
    lines = [json.dumps({**row, "tool": f"calculator(1+{n})"}) for n, row in enumerate(raw_rows("math"))]
    target.write_text("\n".join([lines[3], lines[0], lines[1][:40]]))  # the third line is incomplete
    run(*call_arguments(source, target))
    assert len(server.requests) >= 4
    calls = [row["tool"] for row in read_lines(target)]
    assert calls == ["calculator(1+0)", "calculator(1+31)", "calculator(1+1)", "calculator(1+3)", "calculator(4+34)", "calculator(5+35)"]  # fmt: skip
    n_requests, before = len(server.requests), target.read_bytes()
    run(*call_arguments(source, target))
    assert (len(server.requests), target.read_bytes()) == (n_requests, before)
    run(*call_arguments(source, target, "w"))  # writes the calls of the original again; stored replies are used
    assert read_lines(target)[0]["tool"] == "calculator(0+30)"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "GSM8K_wrong.json: no such file; the command answer writes it"),
        ("", "GSM8K_wrong.json: the file has no rows"),
        ('{"id": "GSM8K-1", "question": "How', "GSM8K_wrong.json, line 1: not a complete JSON object"),
        ('{"id": "a", "question": "b", "answer": "1"}\n[1]\n', "GSM8K_wrong.json, line 2: not a JSON object"),
        ('\n\n{"name": "x"}\n', "GSM8K_wrong.json, line 3: expected the field id; found the fields name"),
        ('{"id": "a", "answer": "1"}\n', "line 1: expected the field question or instruction; found the fields id, answer"),
        ('{"id": "a", "question": "b"}\n', "line 1: expected the field answer or answers"),
        ('{"id": "a", "question": "b", "answer": "1"}\n' * 2, "line 2: the id 'a' is also in "),
        ('{"id": "a", "question": "\\ud83d", "answer": "1"}\n', "line 1: a text with an unpaired surrogate"),
        (b"\xff\n", "line 1: not UTF-8 text"),
    ],
)  # fmt: skip
def test_an_unusable_input_is_an_error_with_file_and_line_and_no_file_changes(
    content: str | bytes | None, message: str, server: ApiServer, tmp_path: Path
) -> None:
    source, target = tmp_path / "GSM8K_wrong.json", tmp_path / "out.json"
    if content is not None:
        source.write_bytes(content if isinstance(content, bytes) else content.encode())
    target.write_text(json.dumps({"id": "GSM8K-9", "tool": "calculator(1+1)"}))
    before = target.read_bytes()
    for mode in "aw":
        assert message in refusal(*call_arguments(source, target, mode))
    assert (target.read_bytes(), server.requests) == (before, [])


def test_an_empty_line_is_reported_and_skipped(
    server: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "GSM8K_wrong.json"
    source.write_text("".join(json.dumps(row) + "\n\n" for row in raw_rows("math", 2)))
    run(*call_arguments(source, tmp_path / "out.json"))
    assert len(read_lines(tmp_path / "out.json")) == 2
    assert f"{source}, line 2: empty, skipped" in caplog.text


def test_calls_of_a_tool_that_is_not_set_up_are_written_unverified(server: ApiServer, tmp_path: Path) -> None:
    write_lines(tmp_path / "WebQ_wrong.json", raw_rows("qa", 2))
    names = ["--input", "WebQ_wrong.json", "--output", "out.json", "--dataset_name", DATASETS["qa"]]
    output = run("generate_tool_api", *names, "--engine", "m", "--mode", "w")
    assert "not verified, since WikiSearch is not set up: add --search-url or --corpus" in output
    assert all(row["tool"].startswith("WikiSearch(") for row in read_lines(Path("out.json")))


def test_without_any_verified_call_the_error_names_the_option_that_writes_the_others(
    server: ApiServer, tmp_path: Path
) -> None:
    write_lines(tmp_path / "GSM8K_wrong.json", raw_rows("math", 2))
    words = ["generate_tool_api", "--input", "GSM8K_wrong.json", "--output", "out.json", "--dataset_name", "GSM8K"]
    with ApiServer(lambda received, repeats: completion("calculator(1+1)")) as other:
        words += ["--engine", "m", "--base-url", other.url]
        assert "2 wrong_value; --keep-unverified writes the calls that miss the gold answer" in refusal(*words)
        run(*words, "--keep-unverified")
    assert [row["tool"] for row in read_lines(Path("out.json"))] == ["calculator(1+1)"] * 2


# Responses, what the original's evaluator predicts for them, and the scores and answers of the original's scorer.
RESPONSES = {
    "chatgpt": ("calculator(3*19)", 57.0),
    "davinci": (" calculator(76/4*3)", 57.0),
    "vicuna": ("Jean has $76 / 3 = $<<76/3=25>>25", 25.0),
    "alpaca": ("Jean has $54.", 54.0),
}


@pytest.mark.parametrize("has_pred", [True, False])
@pytest.mark.parametrize("prefix", ["Math", "math", "GSM8K"])
def test_the_reference_row_is_scored_from_pred_and_from_execution(has_pred: bool, prefix: str, tmp_path: Path) -> None:
    write_lines(tmp_path / f"{prefix}_gold_response.json", [GOLD])
    for name, (text, pred) in RESPONSES.items():
        path = tmp_path / f"{prefix}_{name}_response.json"
        row = {"id": "GSM8K-1", "question": "How many?", "answer": "57", "input": "How many?", "response": text}
        write_lines(path, [{**row, **({"pred": pred} if has_pred else {})}])
        if has_pred:
            path.write_text("acc: {'GSM8K': 1.0}, tool_rate: 0.5\n" + path.read_text())
    run("score", "--task", "math", "--data_path", str(tmp_path), "--target_path", str(tmp_path / "out.json"))
    assert read_lines(tmp_path / "out.json") == [
        {"query": "Given a math problem, please solve it.\nHow many?", "responses": ["calculator(3*19)", *(text for text, _ in RESPONSES.values())],
         "origin": ["gold", *RESPONSES], "scores": [20, 20, 20, 10, 15], "answer": ["57", "57.0", "57.0", "25.0", "54.0"]}
    ]  # fmt: skip


def test_a_kept_pred_is_compared_with_the_first_answer_alone_as_in_the_original(tmp_path: Path) -> None:
    row = {**raw_rows("lama", 1)[0], "answer": ["Paris", "Lyon"]}
    gold = {**GOLD, "id": row["id"], "input": row["input"], "output": "QA(x)", "answer": "Paris"}
    write_lines(tmp_path / "lama_gold_response.json", [gold])
    write_lines(tmp_path / "lama_davinci_response.json", [{**row, "response": "QA(where)", "pred": "Lyon"}])
    arguments = ["score", "--task", "lama", "--data-path", str(tmp_path), "--target-path", str(tmp_path / "out.json")]
    for option, expected in (("--compat", [20, 15]), ("--no-compat", [20, 20])):
        run(*arguments, option)
        assert read_lines(tmp_path / "out.json")[0]["scores"] == expected


@pytest.mark.parametrize(("task", "tool", "flag"), [("lama", "QA", "--qa-model"), ("qa", "WikiSearch", "--")])
def test_a_tool_is_needed_only_where_a_response_calls_it(task: str, tool: str, flag: str, tmp_path: Path) -> None:
    rows = raw_rows(task, 2)
    texts = [row["input"] for row in rows]
    write_lines(tmp_path / f"{task}_gold_response.json", [{**GOLD, "id": row["id"], "input": row["input"], "output": f"{tool}(x)", "answer": row["answer"][0]} for row in rows])  # fmt: skip
    path = tmp_path / f"{task}_davinci_response.json"
    arguments = [
        "score",
        "--task",
        task.upper(),
        "--data-path",
        str(tmp_path),
        "--target-path",
        str(tmp_path / "out.json"),
    ]
    write_lines(path, [{**row, "response": row["answer"][0]} for row in rows])
    run(*arguments)
    assert [row["scores"] for row in read_lines(tmp_path / "out.json")] == [[20, 15]] * len(texts)
    write_lines(path, [{**row, "response": f"{tool}(where)"} for row in rows])
    message = refusal(*arguments)
    assert f"2 responses call {tool}, such as '{tool}(where)': name the tool with {flag}" in message
    write_lines(path, [{**row, "response": f"{tool}(where)", "pred": row["answer"][0]} for row in rows])
    run(*arguments)
    assert [row["scores"] for row in read_lines(tmp_path / "out.json")] == [[20, 20]] * len(texts)


def test_a_flag_with_the_value_false_is_its_opposite(tmp_path: Path) -> None:
    write_lines(tmp_path / "math_gold_response.json", [GOLD])
    write_lines(tmp_path / "math_vicuna_response.json", [{**GOLD, "response": "I need no calculator: 57"}])
    arguments = ["score", "--task", "math", "--data-path", str(tmp_path), "--target-path", str(tmp_path / "out.json")]
    for words, answers in ((["--compat", "True"], ["57", "0.0"]), (["--compat=False"], ["57.0", "57.0"])):
        run(*arguments, *words)
        assert read_lines(tmp_path / "out.json")[0]["answer"] == answers
