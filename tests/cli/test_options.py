"""The commands `push` and `trajectories`: every option reaches its argument. All commands: streams and exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict
from typer.testing import CliRunner

from tests.cli.test_commands import arguments_of, interrupt, options_of, stop
from toolrlef_data import EngineSpec, InputError, load_source
from toolrlef_data.cli import hub, main, trajectories
from toolrlef_data.cli.console import print_line
from toolrlef_data.publishing.hub import push
from toolrlef_data.publishing.hub.difference import ConfigDiff
from toolrlef_data.publishing.hub.push import Push
from toolrlef_data.recipes import runner
from toolrlef_data.tables.identity import text_id
from toolrlef_data.toolbench.search import generation
from toolrlef_data.toolbench.search.demo import demo_queries
from toolrlef_data.toolbench.search.method import Method

FLAGS = {"private", "create_pr", "dry_run", "move_tag"}


def test_every_option_of_push_reaches_its_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "push_to_hub", stop)
    names = {f"--{name.replace('_', '-')}" for name in FLAGS}
    assert {*names, "--branch", "--folder", "--repo"} == options_of(hub.push)
    default = {**dict.fromkeys(FLAGS, False), "branch": None}
    assert arguments_of("push", tmp_path, "org/name") == ((tmp_path, "org/name"), default)
    for name in FLAGS:
        _, given = arguments_of("push", tmp_path, "org/name", f"--{name.replace('_', '-')}")
        assert given == {**default, name: True}
    assert arguments_of("push", tmp_path, "org/name", "--branch", "next")[1] == {**default, "branch": "next"}


CHANGES = {"math-stage1": ConfigDiff((9, 7), removed=("a", "b"))}


@pytest.mark.parametrize(
    ("words", "result", "output"),
    [
        ([], Push("org/name", "c1", "v1.0.0", "URL", None, CHANGES), "Tagged v1.0.0: URL\n"),
        ([], Push("org/name", "c1", "v1.1.0", "URL", "v1.0.0", CHANGES), "since v1.0.0: `math-stage1`: rows: 2 removed\nTagged v1.1.0: URL\n"),
        (["--branch", "next"], Push("org/name", "c1", None, "URL", None, {}), "Not tagged yet: URL\n"),
        (["--dry-run"], Push("org/name", None, None, "URL", "v1.0.0", CHANGES), ""),
    ],
)  # fmt: skip
def test_what_push_prints(
    words: list[str], result: Push, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "push_to_hub", lambda *_, **__: result)
    assert CliRunner().invoke(main.app, ["push", str(tmp_path), "org/name", *words]).output == output


SAMPLES = "toolrlef_data.toolbench.samples"
FUNCTIONS = {
    "trajectories": SAMPLES,
    "preference_pairs": "toolrlef_data.toolbench.preferences",
    "split_queries": "toolrlef_data.tables.sampling.splits",
    "shuffle_steps": "toolrlef_data.tables.sampling.splits",
    "publish": "toolrlef_data.publishing.folder",
    "check_replaceable": "toolrlef_data.publishing.placement",
    "pending_export": "toolrlef_data.publishing.exports.writing",
}
DEFAULTS = {"layout": "split", "style": "messages", "history": None, "steps": "chosen", "without": ()}


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[Any, ...]]]:
    """Return function -> the arguments of its calls, without tables; the functions do what they always do."""
    calls: dict[str, list[tuple[Any, ...]]] = {}

    def record(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*arguments: Any, **options: Any) -> Any:
            plain = [value for value in arguments if not isinstance(value, (Dataset, DatasetDict, Mapping))]
            calls.setdefault(name, []).append((*plain, options))
            return function(*arguments, **options)

        return recorded

    for name, module in FUNCTIONS.items():
        monkeypatch.setattr(f"{module}.{name}", record(name, getattr(import_module(module), name)))
    return calls


def invoke(*words: object) -> None:
    result = CliRunner().invoke(main.app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_every_option_of_trajectories_reaches_its_argument(tmp_path: Path, passed: dict[str, Any]) -> None:
    out = tmp_path / "data"
    options: list[object] = [
        "--layout", "merged", "--history", "clean", "--steps", "all", "--finish", "give_up", "--finish", "give_answer",
        "--without", "repeated_call", "--no-keep-thought", "--pairs", "--test", 0.4, "--shuffle", 0,
        "--version", "0.3.0", "--replace",
    ]  # fmt: skip
    exporting = {"--style", "--export", "--arguments", "--drop-unfit"}
    tested = {str(word).replace("--no-", "--") for word in options if str(word).startswith("--")}
    assert tested | exporting | {"--data-dir", "--out"} == options_of(trajectories.trajectories)
    invoke("trajectories", "--out", out, *options)
    shared = {"finish": ["give_up", "give_answer"], "keep_thought": False}
    samples = {**DEFAULTS, "layout": "merged", "history": "clean", "steps": "all", "without": ["repeated_call"]}
    assert {seed for seed, _ in passed.pop("shuffle_steps")} == {0}
    assert passed == {
        "check_replaceable": [(out, "0.3.0", {"replace": True})],
        "split_queries": [(0.4, {})],
        "trajectories": [({**samples, **shared},)],
        "preference_pairs": [(shared,)],
        "publish": [(out, {"version": "0.3.0", "replace": True})],
    }


def test_options_that_are_not_given_keep_the_defaults_of_the_functions(tmp_path: Path, passed: dict[str, Any]) -> None:
    out = tmp_path / "data"
    invoke("trajectories", "--out", out)
    assert passed == {
        "check_replaceable": [(out, "1.0.0", {"replace": False})],
        "trajectories": [(DEFAULTS,)],
        "publish": [(out, {"version": "1.0.0", "replace": False})],
    }
    passed.clear()
    invoke("trajectories", "--out", out, "--keep-thought", "--style", "toolllama", "--replace")
    assert passed["trajectories"] == [({**DEFAULTS, "style": "toolllama", "keep_thought": True},)]


@pytest.mark.parametrize(
    ("words", "style", "options"),
    [
        (["trl", "--drop-unfit"], "messages", {"arguments": None, "unfit": "drop"}),
        (["trl", "--drop-unfit", "--arguments", "text"], "messages", {"arguments": "text", "unfit": "drop"}),
        (["openai"], "messages", {"arguments": None, "unfit": "refuse"}),
        (["toolllama"], "toolllama", {"arguments": None, "unfit": "refuse"}),
        (["trl_reward", "--drop-unfit"], None, {"arguments": None, "unfit": "drop"}),
    ],
)
def test_options_of_an_export_reach_their_arguments(
    words: list[str], style: str | None, options: dict[str, Any], tmp_path: Path, passed: dict[str, Any]
) -> None:
    invoke("trajectories", "--out", tmp_path, "--export", *words)
    path = tmp_path / ("train.json" if words[0] == "toolllama" else "train.jsonl")
    assert passed.pop("pending_export") == [(words[0], path, options)]
    expected = {"preference_pairs": [({},)]} if style is None else {"trajectories": [({**DEFAULTS, "style": style},)]}
    assert passed == expected, "an export publishes nothing"


def test_a_split_without_rows_is_not_exported(tmp_path: Path) -> None:
    """All queries but one have only answers that `--finish` excludes."""
    answers = load_source("sample_trajectories")
    folder = tmp_path / "answers"
    folder.mkdir()
    seen: set[str] = set()
    for row in answers:
        if row["finish_type"] == "give_up" and row["query"] not in seen and len(seen) < 3:
            seen.add(row["query"])
            (folder / f"{len(seen)}_DFS_woFilter_w2.json").write_text(row["answer"])
    kept = next(row for row in answers if row["finish_type"] == "give_answer" and row["query"] not in seen)
    (folder / "9_DFS_woFilter_w2.json").write_text(kept["answer"])
    words = ["--finish", "give_answer", "--test", 0.5, "--export", "openai"]
    invoke("trajectories", folder, *words, "--out", tmp_path / "out")
    (file,) = (tmp_path / "out").iterdir()
    assert file.read_text().strip()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--drop-unfit"], "need --export"),
        (["--arguments", "text"], "need --export"),
        (["--export", "trl", "--version", "1.0.1"], "describe a data set"),
        (["--export", "trl", "--replace"], "describe a data set"),
        (["--export", "trl_preference", "--style", "messages"], "does not support --style"),
        (["--export", "trl_preference", "--history", "clean"], "does not support --history"),
        (["--export", "trl_preference", "--without", "repeated_call"], "does not support --without"),
        (["--export", "trl_reward", "--steps", "all"], "does not support --steps"),
        (["--export", "trl_reward", "--layout", "merged", "--steps", "all"], "does not support --layout, --steps"),
        (["--test", "0"], "expected test between 0 and 1"),
    ],
)
def test_options_without_an_effect_are_refused(words: list[str], message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main.app, ["trajectories", "--out", str(tmp_path / "x"), *words])
    assert message in str(result.exception)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["run", "dmeo"],
        ["run", "demo", "--rows", "3", "--all"],
        ["push", ".", "no repository"],
        ["search", "--out", "x"],
        ["search", "--scripted", "--base-url", "http://localhost:9/v1", "--out", "x"],
        ["search", "--scripted", "--model", "m", "--out", "x"],
        ["trajectories", "nowhere", "--out", "x"],
    ],
)
def test_an_error_is_one_line_on_stderr_with_the_exit_code_2(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["toolrlef-data", *words])
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    with pytest.raises(SystemExit) as exit_info:
        main.main()
    output, errors = capsys.readouterr()
    assert (exit_info.value.code, output, errors.count("error: "), len(errors.splitlines())) == (2, "", 1, 1)
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE", "the user's own setting stays"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["search", "--scripted"], ["run", "demo"], ["trajectories"]])
def test_an_interrupt_is_told_on_stderr_with_the_exit_code_130(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "generate_trajectories", interrupt)
    monkeypatch.setattr(runner, "run_recipe", interrupt)
    monkeypatch.setattr(f"{SAMPLES}.trajectories", interrupt)
    result = CliRunner().invoke(main.app, [*words, "--out", str(tmp_path / "x")])
    assert (result.exit_code, result.stdout) == (130, "")
    assert "run the same command to resume" in result.stderr


def test_lines_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """A path can be longer than the screen, and can have brackets, which rich reads as markup."""
    line = f'load_dataset("/data [v1]/[bold]{"x" * 300}", "toolbench-pairs")'
    print_line(line)
    assert capsys.readouterr().out == f"{line}\n"


def search_table(path: Path, *lines: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the queries that `search` reads from a file with these lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (table, *_), _ = arguments_of("search", path, "--model", "m", "--out", path.parent / "out")
    rows: list[dict[str, Any]] = table.to_list()
    return rows


def test_queries_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is query, or question without it; an id is optional, and equal queries need one each."""
    monkeypatch.setattr(generation, "generate_trajectories", stop)
    path = tmp_path / "queries.jsonl"
    lines: list[dict[str, Any]] = [
        {"query": "Why?", "question": "no", "id": "a/b"}, {"question": "How?"}, {"query": "Why?", "functions": ["search"]},
        {"query": "Who?", "functions": []},
    ]  # fmt: skip
    found = search_table(path, *lines)
    assert [row["query"] for row in found] == ["Why?", "How?", "Why?", "Who?"]
    assert [row["functions"] for row in found] == [None, None, ["search"], []]
    assert [row["id"] for row in found] == ["a/b", *(text_id(text) for text in ("How?", "Why?", "Who?"))]
    for line, words in (
        ({"query": ""}, "the value of the key 'query' is empty"),
        ({"query": "x", "id": ""}, "the value of the key 'id' is empty"),
    ):
        path.write_text(json.dumps({"query": "Why?"}) + "\n" + json.dumps(line) + "\n")
        result = CliRunner().invoke(main.app, ["search", str(path), "--model", "m", "--out", str(tmp_path / "out")])
        assert f"line 2: {words}" in str(result.exception)
        assert not (tmp_path / "out").exists()


def test_the_defaults_of_search_are_those_of_the_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "generate_trajectories", stop)
    (table, _, spec), given = arguments_of("search", "--model", "m", "--out", tmp_path)
    assert table.to_list() == demo_queries(None).to_list()
    assert spec == EngineSpec("openai_api", "m", max_tokens=256)
    assert given == {"method": Method(), "protocol": "tools"}


@pytest.mark.parametrize(
    "words",
    [
        ["run", "demo", "--rows", "0"],
        ["run", "demo", "--num-proc", "0"],
        ["search", "--scripted", "--rows", "0", "--out", "x"],
        ["search", "--scripted"],
        ["trajectories"],
        ["push", "missing", "org/name"],
        ["push", "file", "org/name"],
        ["push", "."],
        ["run"],
        ["fetch"],
    ],
)
def test_unusable_words_are_refused_before_anything_is_done(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main.app, words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage:" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["data/mine.txt", "answers/mine.json", "answers/deep/mine.json"])
def test_a_search_into_a_folder_with_other_files_asks_no_model(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "generate_trajectories", stop)
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text("mine")
    result = CliRunner().invoke(main.app, ["search", "--scripted", "--out", str(tmp_path)])
    assert isinstance(result.exception, InputError)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [name]
