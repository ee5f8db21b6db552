"""The commands search and trajectories: what they write, and mistakes that are one line."""

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
from toolrlef_data.publishing.exports import EXPORTS


def run(*arguments: object) -> str:
    """The output of a command that ends well."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def numbers(output: str) -> dict[str, str]:
    """The last cell of each row of the tables by the first ones."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if line.startswith("│")]
    return {" ".join(row[:-1]): row[-1] for row in rows}


def written(path: Path, *rows: Mapping[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_scripted_search_writes_answers_and_a_data_set(tmp_path: Path) -> None:
    output = run("search", "--scripted", "--rows", 9, "--layout", "merged", "--out", tmp_path / "out")
    told = numbers(output)
    assert (told["queries"], told["answered"], told["given up"], told["not ended"]) == ("9", "6", "3", "0")
    assert told["tokens of prompts and replies"] == "not known", "a script counts none"
    assert len(list((tmp_path / "out/answers").glob("*.json"))) == 9
    data = tmp_path / "out/data"
    assert f'load_dataset("{data}", "toolbench-trajectories", split="train")' in output
    published = load_dataset(str(data), "toolbench-trajectories", split="train", cache_dir=str(tmp_path / "hf"))
    assert set(published["layout"]) == {"merged"}
    assert str(len(published)) == told["trajectories"]
    pairs = load_dataset(str(data), "toolbench-pairs", split="train", cache_dir=str(tmp_path / "hf"))
    assert str(len(pairs)) == told["pairs"] != "0"
    again = trajectories(load_source("toolbench", data_dir=tmp_path / "out/answers"), layout="merged")
    assert again["messages"][:] == published["messages"][:], "the answer files say all that the data set does"


def test_a_search_that_the_turns_end_says_so(tmp_path: Path) -> None:
    """Also where the model gave up after its turns had been used up on another way."""
    for turns, ended in ((1, True), (2, True), (6, False)):
        output = run("search", "--scripted", "--rows", 3, "--max-turns", turns, "--out", tmp_path / str(turns))
        told = numbers(output)
        assert (told["without an answer: at the limit of turns"] != "0", "--max-turns above" in output) == (
            ended,
            ended,
        )
        assert told["not ended"] == ("1" if turns == 1 else "0")


def test_answers_of_an_earlier_run_go_and_those_of_others_stop_the_search(tmp_path: Path) -> None:
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


@pytest.mark.usefixtures("one_thread")
def test_a_model_that_says_nothing_of_use_is_shown_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Random layers: searches that come to no end, of which nothing can be published."""
    model = tiny_llama(tmp_path / "model", context=4096)
    queries = written(
        tmp_path / "q.jsonl", {"query": "How many apples?", "functions": ["calculator"]}, {"query": "Why?"}
    )
    options = ["--model", model, "--max-turns", 2, "--max-calls", 3, "--max-tokens", 6, "--out", tmp_path / "out"]
    output = run("search", queries, *options)
    told = numbers(output)
    assert (told["queries"], told["answered"], told["not ended"]) == ("2", "0", "2")
    assert (told["messages that call something"], told["without an answer: at the limit of turns"]) == ("0", "2")
    assert "A --max-turns above 2 lets them go on" in output
    warned = {each.message for each in caplog.records if "none of" in each.message}
    assert len(warned) == 2, "of the tables that are asked for, and no other"
    for reason in {reason for each in warned for reason in re.findall(r"(\w+) \d+[,)]", each)}:
        assert any(reason in name for name in told), "what is warned of stands in the table"
    assert int(told["tokens of prompts and replies"].replace(",", "")) > 0
    assert "no data set was published" in output
    assert not (tmp_path / "out/data").exists()
    assert len(list((tmp_path / "out/answers").glob("*.json"))) == 2


def test_answer_files_are_published_with_a_test_split(tmp_path: Path) -> None:
    told = numbers(run("trajectories", "--test", 0.3, "--shuffle", 3, "--pairs", "--out", tmp_path / "out"))
    parts = load_dataset(str(tmp_path / "out"), "toolbench-trajectories", cache_dir=str(tmp_path / "hf"))
    assert set(parts) == {"train", "test"}
    assert not set(parts["train"]["query"]) & set(parts["test"]["query"])
    assert [told[f"trajectories {split}"] for split in parts] == [str(len(data)) for data in parts.values()]
    assert sum(len(data) for data in parts.values()) == len(trajectories(load_source("sample_trajectories")))
    assert parts["train"]["id"] != sorted(parts["train"]["id"])


def test_options_reach_the_samples(tmp_path: Path) -> None:
    options = ["--history", "clean", "--steps", "all", "--finish", "give_answer", "--without", "unknown_function"]
    run("trajectories", *options, "--without", "invalid_arguments", "--out", tmp_path / "out")
    made = load_dataset(str(tmp_path / "out"), "toolbench-trajectories", split="train", cache_dir=str(tmp_path / "hf"))
    answers = load_source("sample_trajectories")
    expected = trajectories(
        answers,
        history="clean",
        steps="all",
        finish=["give_answer"],
        without=["unknown_function", "invalid_arguments"],
    )
    assert made["id"][:] == expected["id"][:]
    run("trajectories", "--style", "toolllama", "--out", tmp_path / "llama")
    llama = load_dataset(str(tmp_path / "llama"), "toolbench-toolllama", split="train", cache_dir=str(tmp_path / "hf"))
    assert llama["conversations"][:] == trajectories(answers, style="toolllama")["conversations"][:]


@pytest.mark.parametrize("format", list(EXPORTS))
def test_every_format_is_exported(format: str, tmp_path: Path) -> None:
    ending = "json" if EXPORTS[format].array else "jsonl"
    output = run("trajectories", "--export", format, "--drop-unfit", "--out", tmp_path)
    text = (tmp_path / f"train.{ending}").read_text()
    entries = json.loads(text) if EXPORTS[format].array else [json.loads(line) for line in text.splitlines()]
    assert entries
    assert str(tmp_path / f"train.{ending}") in output
    assert not (tmp_path / "provenance.json").exists()


def test_arguments_are_exported_as_the_format_or_the_user_wants(tmp_path: Path) -> None:
    def kinds(*options: str) -> set[type]:
        run("trajectories", "--export", "trl", "--drop-unfit", *options, "--out", tmp_path)
        lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
        calls = [call for line in lines for call in line["completion"][0]["tool_calls"]]
        return {type(call["function"]["arguments"]) for call in calls}

    assert (kinds(), kinds("--arguments", "object"), kinds("--arguments", "text")) == ({dict}, {dict}, {str})


def test_text_beside_a_call_is_kept_or_not(tmp_path: Path) -> None:
    def contents(*options: str) -> list[str | None]:
        run("trajectories", "--export", "openai", *options, "--out", tmp_path)
        lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
        return [line["messages"][-1].get("content") for line in lines]

    assert contents() == contents("--keep-thought") != contents("--no-keep-thought")
    run("trajectories", "--pairs", "--no-keep-thought", "--out", tmp_path / "out")
    for name, side in (("trajectories", "messages"), ("pairs", "chosen")):
        made = load_dataset(str(tmp_path / "out"), f"toolbench-{name}", split="train", cache_dir=str(tmp_path / "hf"))
        answers = load_source("sample_trajectories")
        expected = (trajectories if name == "trajectories" else preference_pairs)(answers, keep_thought=False)
        assert made[side][:] == expected[side][:]


@pytest.mark.parametrize("options", [[], ["--export", "trl"], ["--export", "trl_preference"], ["--test", "0.5"]])
def test_where_nothing_is_left_the_reasons_stand_before_the_error(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "junk").mkdir()
    written(tmp_path / "junk/other.json", {"not": "an answer"})
    wanted: dict[str, list[object]] = {"source not_an_answer": [tmp_path / "junk"]}
    if "trl_preference" not in options:
        wanted["trajectories finish_type"] = ["--finish", "unfinished"]
    for reason, more in wanted.items():
        arguments = ["trajectories", *map(str, more), *options, "--out", str(tmp_path / "x")]
        result = CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)
        assert "nothing could be made" in str(result.exception)
        assert int(numbers(result.output)[reason]) > 0
        assert not (tmp_path / "x").exists()


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "toolrlef_data.cli.main", "trajectories", "--export", "csv", "--out", "x"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "unknown format 'csv'" in done.stderr) == (2, True)


GOOD = {"id": "a", "query": "Why?"}
FOREIGN = "foreign/data"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search", "--out", "x"], "name a --model"),
        (["search", "--scripted", "--model", "m", "--out", "x"], "leave --model and --base-url out"),
        (["search", "none.jsonl", "--scripted", "--out", "x"], "none.jsonl is no file"),
        (["search", "twice.jsonl", "--scripted", "--out", "x"], "line 2: the id 'a' stands twice"),
        (["search", "names.jsonl", "--scripted", "--out", "x"], "functions is a list of names, found 'search'"),
        (["search", "key.jsonl", "--scripted", "--out", "x"], "line 1: the key 'query' is missing; found: text"),
        (["search", "mine.jsonl", "--scripted", "--out", "x"], "knows its own queries only"),
        (["search", "other.jsonl", "--scripted", "--out", "x"], "names weather; there are: calculator"),
        (["search", "--scripted", "--method", "bfs", "--out", "x"], "unknown kind of search 'bfs'"),
        (["search", "--scripted", "--protocol", "xml", "--out", "x"], "unknown protocol 'xml'"),
        (["search", "--scripted", "--layout", "flat", "--out", "x"], "unknown layout 'flat'"),
        (["search", "--scripted", "--width", "0", "--out", "x"], "width is a whole number"),
        (["search", "--scripted", "--out", "foreign"], "is not a published data set"),
        (["search", "--model", "m", "--keys", "sk-123", "--base-url", "http://h/v1", "--out", "x"], "keys takes names"),
        (["trajectories", "nowhere", "--out", "x"], "nowhere"),
        (["trajectories", "--export", "csv", "--out", "x"], "unknown format 'csv'; choose from: axolotl, openai"),
        (
            ["trajectories", "--export", "trl", "--pairs", "--out", "x"],
            "a command of their own, with --export trl_pref",
        ),
        (
            ["trajectories", "--export", "trl_preference", "--layout", "merged", "--out", "x"],
            "pairs, which have no --layout",
        ),
        (["trajectories", "--arguments", "text", "--out", "x"], "belong to --export"),
        (["trajectories", "--export", "openai", "--arguments", "object", "--out", "x"], "holds arguments as text"),
        (["trajectories", "--export", "trl", "--arguments", "dict", "--out", "x"], "unknown form of arguments 'dict'"),
        (["trajectories", "--style", "haiku", "--out", "x"], "unknown style 'haiku'"),
        (["trajectories", "--without", "spelling", "--out", "x"], "unknown flag 'spelling'"),
        (["trajectories", "--test", "2", "--out", "x"], "test is a share between 0 and 1"),
        (["trajectories", "--layout", "merged", "--export", "toolllama", "--out", "x"], "leave it split"),
        (["trajectories", "--style", "toolllama", "--export", "trl", "--out", "x"], "formats that fit it: toolllama"),
        (["trajectories", "--out", FOREIGN], "is not a published data set"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "twice.jsonl", GOOD, GOOD)
    written(tmp_path / "names.jsonl", {**GOOD, "functions": "search"})
    written(tmp_path / "key.jsonl", {"text": "Why?"})
    written(tmp_path / "mine.jsonl", GOOD)
    written(tmp_path / "other.jsonl", {**GOOD, "functions": ["weather"]})
    (tmp_path / FOREIGN).mkdir(parents=True)
    (tmp_path / FOREIGN / "mine.txt").touch()
    monkeypatch.setattr(sys, "argv", ["toolrlef-data", *arguments])
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # `main` sets it, for good
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert words in told[0]
    assert (tmp_path / FOREIGN / "mine.txt").exists()
    assert not (tmp_path / "x").exists(), "nothing is written"
