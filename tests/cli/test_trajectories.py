"""The commands `search` and `trajectories`: their output files, and error messages of one line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from datasets import load_dataset
from typer.testing import CliRunner

from tests.support.models import tiny_llama
from toolrlef_data import load_source, preference_pairs, trajectories
from toolrlef_data.cli.main import app, main
from toolrlef_data.cli.trajectories import FORMATS
from toolrlef_data.publishing.exports.formats import EXPORTS


def run(*arguments: object) -> str:
    """Return the output of a successful command."""
    texts = [str(argument) for argument in arguments]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, texts, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def numbers(output: str) -> dict[str, str]:
    """Return the last cell of each table row by the text of the first cells."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if line.startswith("│")]
    return {" ".join(row[:-1]): row[-1] for row in rows}


def write_lines(path: Path, *rows: Mapping[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_scripted_search_writes_answer_files_and_a_data_set(tmp_path: Path) -> None:
    output = run("search", "--scripted", "--rows", 9, "--layout", "merged", "--out", tmp_path / "out")
    counts = numbers(output)
    assert [counts[name] for name in ("queries", "answered", "gave up", "not finished")] == ["9", "6", "3", "0"]
    assert counts["prompt and reply tokens"] == "unknown", "scripted replies have no token counts"
    assert len(list((tmp_path / "out/answers").glob("*.json"))) == 9
    data = tmp_path / "out/data"
    assert f'load_dataset("{data}", "toolbench-trajectories", split="train")' in output
    published = load_dataset(str(data), "toolbench-trajectories", split="train", cache_dir=str(tmp_path / "hf"))
    assert set(published["layout"]) == {"merged"}
    assert str(len(published)) == counts["trajectories"]
    pairs = load_dataset(str(data), "toolbench-pairs", split="train", cache_dir=str(tmp_path / "hf"))
    assert str(len(pairs)) == counts["pairs"] != "0"
    samples = trajectories(load_source("toolbench", data_dir=tmp_path / "out/answers"), layout="merged")
    assert samples["messages"][:] == published["messages"][:], "the answer files yield the same samples"


def test_searches_at_the_maximum_of_turns_are_reported(tmp_path: Path) -> None:
    """This includes searches that gave up after another branch had reached the maximum."""
    for turns, reached in ((1, True), (2, True), (6, False)):
        output = run("search", "--scripted", "--rows", 3, "--max-turns", turns, "--out", tmp_path / str(turns))
        counts = numbers(output)
        assert (counts["no answer: --max-turns reached"] != "0") == ("--max-turns above" in output) == reached
        assert counts["not finished"] == ("1" if turns == 1 else "0")


def test_answers_of_an_earlier_run_are_replaced_and_other_files_are_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "out/answers"

    def names() -> set[str]:
        return {path.name for path in folder.glob("*.json")}

    run("search", "--scripted", "--rows", 3, "--out", tmp_path / "out")
    first = names()
    run("search", "--scripted", "--rows", 2, "--method", "chain", "--out", tmp_path / "out")
    assert len(names()) == 2
    assert not names() & first
    assert set(load_source("toolbench", data_dir=folder)["source_file"]) == names()
    (folder / "deep").mkdir()
    (folder / "deep/mine.json").write_text("{}")
    result = CliRunner().invoke(app, ["search", "--scripted", "--rows", "1", "--out", str(tmp_path / "out")])
    assert "did not write, such as deep/mine.json" in str(result.exception)
    assert len(names()) == 2, "nothing is written or removed"
    assert (folder / "deep/mine.json").read_text() == "{}"


def test_trajectories_replace_other_rows_only_on_request(tmp_path: Path) -> None:
    out = tmp_path / "data"
    run("trajectories", "--out", out)
    run("trajectories", "--out", out)
    changed = ["trajectories", "--layout", "merged", "--out", str(out)]
    result = CliRunner().invoke(app, changed)
    assert "has other rows under the same version 1.0.0: raise the version" in str(result.exception)
    result = CliRunner().invoke(app, [*changed, "--version", "0.9.0"])
    assert "has the version 1.0.0, which is newer than 0.9.0" in str(result.exception)
    result = CliRunner().invoke(app, [*changed, "--version", "2"])
    assert "version must be three numbers" in str(result.exception)
    run(*changed, "--replace")
    run(*changed, "--version", "1.2.0")
    loaded = load_dataset(str(out), "toolbench-trajectories", split="train", cache_dir=str(tmp_path / "hf"))
    assert (str(loaded.version), set(loaded["layout"])) == ("1.2.0", {"merged"})
    result = CliRunner().invoke(app, ["trajectories", "--out", str(out), "--export", "trl", "--replace"])
    assert "--version and --replace describe a data set" in str(result.exception)


@pytest.mark.usefixtures("one_thread")
def test_random_model_yields_counts_but_no_data_set(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A model with random weights: its searches do not finish and yield no samples."""
    model = tiny_llama(tmp_path / "model", context=4096)
    queries = write_lines(
        tmp_path / "q.jsonl", {"query": "How many apples?", "functions": ["calculator"]}, {"query": "Why?"}
    )
    options = ["--model", model, "--max-turns", 2, "--max-calls", 3, "--max-tokens", 6, "--out", tmp_path / "out"]
    output = run("search", queries, *options)
    counts = numbers(output)
    assert (counts["queries"], counts["answered"], counts["not finished"]) == ("2", "0", "2")
    assert (counts["messages with a call"], counts["no answer: --max-turns reached"]) == ("0", "2")
    assert "Use a --max-turns above 2 to continue them" in output
    warnings = {record.message for record in caplog.records if "rows were dropped" in record.message}
    assert len(warnings) == 2, "one for each requested table"
    for reason in {reason for message in warnings for reason in re.findall(r"(\w+) \d+[,)]", message)}:
        assert any(reason in name for name in counts), "every reason in a warning is in the table"
    assert int(counts["prompt and reply tokens"].replace(",", "")) > 0
    assert "no data set was published" in output
    assert not (tmp_path / "out/data").exists()
    assert len(list((tmp_path / "out/answers").glob("*.json"))) == 2


def test_answer_files_are_published_with_a_test_split(tmp_path: Path) -> None:
    counts = numbers(run("trajectories", "--test", 0.3, "--shuffle", 3, "--pairs", "--out", tmp_path / "out"))
    parts = load_dataset(str(tmp_path / "out"), "toolbench-trajectories", cache_dir=str(tmp_path / "hf"))
    assert set(parts) == {"train", "test"}
    assert not set(parts["train"]["query"]) & set(parts["test"]["query"])
    assert [counts[f"trajectories {split}"] for split in parts] == [str(len(data)) for data in parts.values()]
    assert sum(len(data) for data in parts.values()) == len(trajectories(load_source("sample_trajectories")))
    assert parts["train"]["id"] != sorted(parts["train"]["id"])


def test_options_reach_the_samples(tmp_path: Path) -> None:
    options = ["--history", "clean", "--steps", "all", "--finish", "give_answer", "--without", "unknown_function"]
    run("trajectories", *options, "--without", "invalid_arguments", "--out", tmp_path / "out")
    samples = load_dataset(
        str(tmp_path / "out"), "toolbench-trajectories", split="train", cache_dir=str(tmp_path / "hf")
    )
    answers = load_source("sample_trajectories")
    expected = trajectories(
        answers,
        history="clean",
        steps="all",
        finish=["give_answer"],
        without=["unknown_function", "invalid_arguments"],
    )
    assert samples["id"][:] == expected["id"][:]
    run("trajectories", "--style", "toolllama", "--out", tmp_path / "llama")
    llama = load_dataset(str(tmp_path / "llama"), "toolbench-toolllama", split="train", cache_dir=str(tmp_path / "hf"))
    assert llama["conversations"][:] == trajectories(answers, style="toolllama")["conversations"][:]


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_exported(format: str, tmp_path: Path) -> None:
    suffix = "json" if EXPORTS[format][0].array else "jsonl"
    output = run("trajectories", "--export", format, "--drop-unfit", "--out", tmp_path)
    text = (tmp_path / f"train.{suffix}").read_text()
    entries = json.loads(text) if EXPORTS[format][0].array else [json.loads(line) for line in text.splitlines()]
    assert entries
    assert str(tmp_path / f"train.{suffix}") in output
    assert not (tmp_path / "provenance.json").exists()


@pytest.mark.parametrize("share", ["0.3", "0.6"])  # the unfit row is in the first or in the second split
def test_an_export_that_fails_leaves_nothing(share: str, tmp_path: Path) -> None:
    command = ["trajectories", "--export", "trl", "--test", share, "--out"]
    result = CliRunner().invoke(app, [*command, str(tmp_path / "new/data")])
    assert "does not fit the format 'trl'" in str(result.exception)
    assert not (tmp_path / "new").exists()
    run(*command, tmp_path, "--drop-unfit")
    earlier = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {"train.jsonl", "test.jsonl"} < set(earlier)
    assert CliRunner().invoke(app, [*command, str(tmp_path), "--no-keep-thought"]).exit_code == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == earlier


def test_form_of_exported_arguments(tmp_path: Path) -> None:
    def kinds(*options: str) -> set[type]:
        run("trajectories", "--export", "trl", "--drop-unfit", *options, "--out", tmp_path)
        lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
        calls = [call for line in lines for call in line["completion"][0]["tool_calls"]]
        return {type(call["function"]["arguments"]) for call in calls}

    assert (kinds(), kinds("--arguments", "object"), kinds("--arguments", "text")) == ({dict}, {dict}, {str})


def test_text_of_messages_with_calls_is_optional(tmp_path: Path) -> None:
    def contents(*options: str) -> list[str | None]:
        run("trajectories", "--export", "openai", *options, "--out", tmp_path)
        lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
        return [line["messages"][-1].get("content") for line in lines]

    assert contents() == contents("--keep-thought") != contents("--no-keep-thought")
    run("trajectories", "--pairs", "--no-keep-thought", "--out", tmp_path / "out")
    for name, side in (("trajectories", "messages"), ("pairs", "chosen")):
        rows = load_dataset(str(tmp_path / "out"), f"toolbench-{name}", split="train", cache_dir=str(tmp_path / "hf"))
        answers = load_source("sample_trajectories")
        expected = (trajectories if name == "trajectories" else preference_pairs)(answers, keep_thought=False)
        assert rows[side][:] == expected[side][:]


@pytest.mark.parametrize("options", [[], ["--export", "trl"], ["--export", "trl_preference"], ["--test", "0.5"]])
def test_drop_reasons_are_printed_before_the_error_without_samples(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "junk").mkdir()
    write_lines(tmp_path / "junk/other.json", {"not": "an answer"})
    cases: dict[str, list[object]] = {"source not_an_answer": [tmp_path / "junk"]}
    if "trl_preference" not in options:
        cases["trajectories finish_type"] = ["--finish", "unfinished"]
    for reason, extra in cases.items():
        arguments = ["trajectories", *map(str, extra), *options, "--out", str(tmp_path / "x")]
        result = CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)
        assert "no samples: all answer files and steps were dropped" in str(result.exception)
        assert int(numbers(result.output)[reason]) > 0
        assert not (tmp_path / "x").exists()


def test_module_runs_the_command() -> None:
    command = [sys.executable, "-m", "toolrlef_data.cli.main", "trajectories", "--export", "csv", "--out", "x"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "unknown format 'csv'" in done.stderr) == (2, True)


GOOD = {"id": "a", "query": "Why?"}
FOREIGN = "foreign/data"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search", "--out", "x"], "name a --model"),
        (["search", "--scripted", "--model", "m", "--out", "x"], "omit --model and --base-url"),
        (["search", "none.jsonl", "--scripted", "--out", "x"], "none.jsonl is not a file"),
        (["search", "twice.jsonl", "--scripted", "--out", "x"], "line 2: duplicate id 'a'"),
        (["search", "names.jsonl", "--scripted", "--out", "x"], "functions must be a list of names, found 'search'"),
        (["search", "key.jsonl", "--scripted", "--out", "x"], "line 1: the key 'query' is missing; found: text"),
        (["search", "mine.jsonl", "--scripted", "--out", "x"], "only knows `demo_queries`"),
        (
            ["search", "other.jsonl", "--scripted", "--out", "x"],
            "names unknown functions: weather; choose from: calculator",
        ),
        (["search", "--scripted", "--method", "bfs", "--out", "x"], "unknown kind of search 'bfs'"),
        (["search", "--scripted", "--protocol", "xml", "--out", "x"], "unknown protocol 'xml'"),
        (["search", "--scripted", "--layout", "flat", "--out", "x"], "unknown layout 'flat'"),
        (["search", "--scripted", "--width", "0", "--out", "x"], "width must be a whole number"),
        (["search", "--scripted", "--out", "foreign"], "is not a published data set"),
        (
            ["search", "--model", "m", "--keys", "sk-123", "--base-url", "http://h/v1", "--out", "x"],
            "keys must be names",
        ),
        (["trajectories", "nowhere", "--out", "x"], "nowhere"),
        (
            ["trajectories", "--export", "csv", "--out", "x"],
            "unknown format 'csv'; choose from: axolotl, llamafactory, openai",
        ),
        (
            ["trajectories", "--export", "trl", "--pairs", "--out", "x"],
            "a separate command with --export trl_pref",
        ),
        (
            ["trajectories", "--export", "trl_preference", "--layout", "merged", "--out", "x"],
            "pairs and does not support --layout",
        ),
        (["trajectories", "--arguments", "text", "--out", "x"], "need --export"),
        (
            ["trajectories", "--export", "openai", "--arguments", "object", "--out", "x"],
            "supports arguments as text only",
        ),
        (["trajectories", "--export", "trl", "--arguments", "dict", "--out", "x"], "unknown form of arguments 'dict'"),
        (["trajectories", "--style", "haiku", "--out", "x"], "unknown style 'haiku'"),
        (["trajectories", "--without", "spelling", "--out", "x"], "unknown flag 'spelling'"),
        (["trajectories", "--test", "2", "--out", "x"], "expected test between 0 and 1"),
        (["trajectories", "--layout", "merged", "--export", "toolllama", "--out", "x"], "requires layout 'split'"),
        (["trajectories", "--style", "toolllama", "--export", "trl", "--out", "x"], "formats that fit it: toolllama"),
        (["trajectories", "--out", FOREIGN], "is not a published data set"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "twice.jsonl", GOOD, GOOD)
    write_lines(tmp_path / "names.jsonl", {**GOOD, "functions": "search"})
    write_lines(tmp_path / "key.jsonl", {"text": "Why?"})
    write_lines(tmp_path / "mine.jsonl", GOOD)
    write_lines(tmp_path / "other.jsonl", {**GOOD, "functions": ["weather"]})
    (tmp_path / FOREIGN).mkdir(parents=True)
    (tmp_path / FOREIGN / "mine.txt").touch()
    monkeypatch.setattr(sys, "argv", ["toolrlef-data", *arguments])
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # restored after the test; `main` sets it
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert exit_info.value.code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert words in errors[0]
    assert (tmp_path / FOREIGN / "mine.txt").exists()
    assert not (tmp_path / "x").exists(), "nothing is written"
