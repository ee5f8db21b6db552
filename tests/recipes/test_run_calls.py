"""A run of a recipe calls the functions of its stages in order, with its fields as arguments and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from toolrlef_data import TASKS, Responder, load_recipe, scripted
from toolrlef_data.publishing.hub.push import Push
from toolrlef_data.recipes import preview as previews
from toolrlef_data.recipes import runner
from toolrlef_data.recipes.runner import Run, publish_tables, recipe_file, run_recipe
from toolrlef_data.recipes.schema import Recipe
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.readers.qa_model import qa_engine
from toolrlef_data.tools.search.wiki_search import wiki_search
from toolrlef_data.trice.annotations.composer import ANNOTATIONS
from toolrlef_data.trice.training import warm_up as training

Calls = list[tuple[Any, ...]]
MODEL, READER, WARM = (scripted({"": name}, progress=False, temperature=0.5) for name in ("model", "reader", "warm"))
PUSH = Push("org/name", "c1", "v2.3.4", "URL", None, {})
STAGES = (
    *("check_replaceable", "check_pushable", "load_source", "subset", "record_source", "stack", "decontaminate"),
    *("answer", "grade", "counterfactual", "build_stage1", "respond", "build_stage2", "ledger", "publish", "push_to_hub"),
)  # fmt: skip
# Lists stand for tables, and recorded calls for their results.
run_of: Any = Run
publish_all: Any = publish_tables
preview_of: Any = previews.preview


class Table(list[str]):
    """A table for functions that are recorded: a list of rows."""

    def select(self, rows: range) -> Table:
        return Table(self[row] for row in rows)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Return the calls of all functions of a run; each returns a table with its name and the rows of its input."""
    calls: Calls = []

    def recorded(name: str) -> Callable[..., Any]:
        def record(*arguments: Any, **options: Any) -> Any:
            given = list(map(plain, arguments))
            calls.append((name, *given, *((plain(options),) if options else ())))
            if name == "load_source":
                return Table(f"{arguments[0]} {options['split']} {row}" for row in range(4))
            if name == "stack":
                return Table(row for table in arguments[0] for row in table)
            if name == "warm_up":
                return WARM
            if name == "push_to_hub":
                return PUSH
            first = arguments[0]
            return Table(f"{name} {row}" for row in first) if isinstance(first, Table) else given[-1]

        return record

    for name in STAGES:
        monkeypatch.setattr(runner, name, recorded(name))
    monkeypatch.setattr(training, "warm_up", recorded("warm_up"))
    monkeypatch.setattr(runner, "lineage", lambda table: [{"settings": "first"}, {"settings": f"of {table[0]}"}])
    return calls


def plain(value: Any) -> Any:
    """Return an argument with its tables and generators as lists."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list) or hasattr(value, "__next__") else value


STUDENT = {
    "engine": "model",
    "style": "completion",
    "examples": 2,
    "samples": 3,
    "strip_reasoning": False,
    "threshold": 0.9,
}
NEED = {
    "engine": "reader", "samples": 4, "threshold": 0.4, "protocol": "tools", "stop": ("Observation:",), "unsure": "grade",
    "hopeless": "call",
}  # fmt: skip
WARM_UP = {"steps": 3, "batch_size": 2, "learning_rate": 1e-3, "max_tokens": 400, "style": "vicuna", "seed": 5}
RESPONDER: dict[str, Any] = {
    "name": "one", "style": "alpaca", "protocol": "tools", "samples": 2, "stop": ("Observation:",), "strip_reasoning": False,
    "examples": 1, "force_call": True,
}  # fmt: skip
MANY: dict[str, Any] = {
    "name": "Many", "version": "2.3.4", "out": "out", "cassette": True, "replace": True, "card": {"license": "mit"},
    "hub": {"repo": "org/name", "private": True}, "layout": "hub",
    "sources": [
        {"name": "sample", "rows": 3},
        {"name": "sample_qa", "split": "train", "rows": 2, "seed": 0, "data_dir": "there", "options": {"cut": 1}},
        {"name": "hub:org/rows", "split": "dev", "rows": 4, "task": "math", "config": "main", "data_dir": "unused"},
    ],
    "decontaminate": {"against": ["svamp"], "data_dir": "there", "n": 11, "ignore_numbers": False},
    "tasks": {
        "qa": {"tool": {"kind": "wiki_search", "corpus": "sample", "k": 2}, "reader": "reader", "reader_style": "completion", "rule": "paper"},
    },
    "engines": {name: {"kind": "local", "model": name, "temperature": 0.5} for name in ("model", "reader")},
    "student": STUDENT, "need": NEED, "teachers": ["model", "annotations"], "attempts": 2, "keep_unverified": True,
    "compat": True, "accept_cut": ["call"], "ask_again": ["empty"],
    "warm_up": {**WARM_UP, "name": "warmed", "engine": "model"},
    "responders": [{**RESPONDER, "engine": "reader"}, {"name": "trained", "engine": "warmed"}],
    "stage2": {"rule": "paper", "trusted": ["one.1"], "levels": [8.0, 4.0], "lacking": "drop_response"},
}  # fmt: skip


def recipe_of(sections: dict[str, Any]) -> Recipe:
    recipe = Recipe.model_validate(sections)
    return recipe.model_copy(update={"engines": {"model": MODEL, "reader": READER}})


def test_all_calls_of_a_run_with_two_tasks(calls: Calls) -> None:
    run = run_recipe(recipe_of(MANY), out="there", num_proc=2)
    math_task = TASKS["math"]
    qa_tool = wiki_search("sample", name="WikiSearch", k=2)
    qa_task = replace(TASKS["qa"], tool=qa_tool, reader=READER, reader_style="completion").with_rule("paper")
    sample, own = [f"sample train {n}" for n in range(3)], [f"hub:org/rows dev {n}" for n in range(4)]
    drawn = [f"subset sample_qa train {n}" for n in range(4)]
    questions = {
        "math": [f"decontaminate {row}" for row in (*sample, *own)],
        "qa": [f"decontaminate {row}" for row in drawn],
    }
    loading: Calls = [
        ("check_replaceable", "there", "2.3.4", {"layout": "hub", "replace": True, "recipe": True}),
        ("check_pushable", "org/name", "2.3.4", {"private": True}),
        ("load_source", "sample", {"split": "train", "data_dir": None}),
        ("ledger", [[f"sample train {n}" for n in range(4)]]),
        ("record_source", sample, "sample: 3 of 4 rows", "of sample train 0", [[f"sample train {n}" for n in range(4)]]),
        ("load_source", "hub:org/rows", {"split": "dev", "task": "math", "config": "main"}),
        ("stack", [sample, own], "questions"),
        ("decontaminate", [*sample, *own], ("svamp",), {"data_dir": "there", "n": 11, "ignore_numbers": False, "num_proc": 2}),
        ("load_source", "sample_qa", {"split": "train", "data_dir": "there", "cut": 1}),
        ("subset", [f"sample_qa train {n}" for n in range(4)], 2, 0),
        ("decontaminate", drawn, ("svamp",), {"data_dir": "there", "n": 11, "ignore_numbers": False, "num_proc": 2}),
    ]  # fmt: skip
    replies = {"accept_cut": ("call",), "ask_again": ("empty",)}
    prompt: dict[str, Any] = {"style": "completion", "examples": 2, "strip_reasoning": False}
    stages: Calls = []
    shared = {}
    for name, task in (("math", math_task), ("qa", qa_task)):
        shared[name] = {"task": {name: task}, "num_proc": 2}
        rows = questions[name]
        answered = [f"answer {row}" for row in rows]
        graded = [f"grade {row}" for row in answered]
        need = [f"counterfactual {row}" for row in rows]
        measured = {"samples": 4, "threshold": 0.4, "protocol": "tools", "stop": ("Observation:",)}
        stages += [
            ("answer", rows, MODEL, {**prompt, "samples": 3, **replies, **shared[name]}),
            ("grade", answered, {"threshold": 0.9, "compat": True, **shared[name]}),
            ("counterfactual", rows, READER, {**prompt, **measured, **replies, **shared[name]}),
            ("build_stage1", graded, [MODEL, ANNOTATIONS], {"attempts": 2, "keep_unverified": True, "compat": True, "unsure": "grade",
             "hopeless": "call", "need": need, **replies, **shared[name]}),
        ]  # fmt: skip
    stage1 = {name: [f"build_stage1 grade answer {row}" for row in rows] for name, rows in questions.items()}
    responders = [Responder(engine=READER, **RESPONDER), Responder("trained", WARM)]
    stages += [("stack", list(stage1.values()), "mix"), ("warm_up", [*stage1["math"], *stage1["qa"]], MODEL, WARM_UP)]
    responded, stage2 = {}, {}
    for name, rows in stage1.items():
        responded[name] = [f"respond {row}" for row in rows]
        stage2[name] = [f"build_stage2 {row}" for row in responded[name]]
        scoring = {
            "rule": "paper",
            "trusted": ("one.1",),
            "compat": True,
            "lacking": "drop_response",
            "levels": (8.0, 4.0),
        }
        stages += [("respond", rows, responders, {**replies, **shared[name]}), ("build_stage2", responded[name], {**scoring, **shared[name]})]  # fmt: skip
    needs = {name: [f"counterfactual {row}" for row in rows] for name, rows in questions.items()}
    tables = {
        name: {"stage1": stage1[name], "stage2": stage2[name], "need": needs[name], "responded": responded[name]}
        for name in questions
    }
    ledger = [data for named in tables.values() for data in named.values()]
    publishing: Calls = [
        ("ledger", ledger),
        ("publish", tables, "there", {
            "version": "2.3.4", "layout": "hub", "dropped": ledger, "card": {"title": "Many", "license": "mit"}, "cassette": True,
            "recipe": runner.recipe_file(recipe_of(MANY)), "replace": True,
        }),
        ("push_to_hub", "there", "org/name", {"private": True}),
    ]  # fmt: skip
    graded_tables = [[f"grade answer {row}" for row in rows] for rows in questions.values()]
    whole = [
        list(questions.values()),
        graded_tables,
        list(stage1.values()),
        list(stage2.values()),
        list(needs.values()),
    ]
    result: Calls = [("stack", parts, "mix") for parts in (*whole[:4], whole[4])]
    expected = [*loading, *stages, *publishing, *result]
    assert list(map(comparable, calls)) == list(map(comparable, expected))
    joined = [[row for part in parts for row in part] for parts in whole]
    assert run == run_of(
        *joined[:4], Path("there") if isinstance(run.out, Path) else run.out, "hub", ("math", "qa"), PUSH, joined[4]
    )


def comparable(call: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a call without the functions of tools and rules, which are new objects for each task."""

    def compared(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: compared(part) for key, part in value.items()}
        if isinstance(value, Task):
            return repr(replace(value, tool=TASKS["math"].tool)), value.tool.name, value.tool.version, value.tool.engine
        return value

    return tuple(map(compared, call))


def test_all_calls_of_a_minimal_run(calls: Calls, tmp_path: Path) -> None:
    """Without options, all of them have the defaults of the functions, and one task has no mix."""
    minimal = {
        "name": "Few", "version": "1.0.0", "out": "out", "layout": "trice", "sources": [{"name": "sample"}],
        "engines": {"model": {"kind": "local", "model": "x"}}, "student": {"engine": "model"},
    }  # fmt: skip
    run = run_recipe(recipe_of(minimal))
    rows = [f"sample train {n}" for n in range(4)]
    shared = {"task": {"math": TASKS["math"]}, "num_proc": None}
    replies = {"accept_cut": ("call", "marked"), "ask_again": ()}
    stage1 = [f"build_stage1 grade answer {row}" for row in rows]
    stage2 = [f"build_stage2 respond {row}" for row in stage1]
    student = {"style": "chat", "examples": 0, "samples": 1, "strip_reasoning": True}
    assert calls == [
        ("check_replaceable", "out", "1.0.0", {"layout": "trice", "replace": False, "recipe": False}),
        ("load_source", "sample", {"split": "train", "data_dir": None}),
        ("answer", rows, MODEL, {**student, **replies, **shared}),
        ("grade", [f"answer {row}" for row in rows], {"threshold": 0.5, "compat": False, **shared}),
        ("build_stage1", [f"grade answer {row}" for row in rows], [ANNOTATIONS], {"attempts": 3, "keep_unverified": False, "compat": False, **replies, **shared}),
        ("respond", stage1, [], {**replies, **shared}),
        ("build_stage2", [f"respond {row}" for row in stage1], {"rule": "trice", "trusted": (), "compat": False, "lacking": "drop_row", **shared}),
        ("ledger", [stage1, stage2]),
        ("publish", {"math": {"stage1": stage1, "stage2": stage2}}, "out", {
            "version": "1.0.0", "layout": "trice", "dropped": [stage1, stage2], "card": None, "cassette": False, "recipe": None, "replace": False,
        }),
    ]  # fmt: skip
    assert run == run_of(
        rows, [f"grade answer {row}" for row in rows], stage1, stage2, run.out, "trice", ("math",), None, None
    )


def test_the_tool_of_a_tool_and_the_student_as_the_model_of_need(calls: Calls) -> None:
    search = {"kind": "wiki_search", "corpus": "sample"}
    sections = {
        "name": "Tools", "version": "1.0.0", "out": "out", "sources": [{"name": "sample_lama", "rows": 9}], "need": {},
        "engines": {"model": {"kind": "local", "model": "x"}}, "student": {"engine": "model"}, "compat": False,
        "tasks": {"lama": {"tool": {"kind": "qa_engine", "engine": "reader", "search": search}}}, "stage2": {"compat": True},
    }  # fmt: skip
    run = run_recipe(recipe_of(sections))
    tool = qa_engine(READER, search=wiki_search("sample", name="WikiSearch"), name=TASKS["lama"].tool.name)
    given = {call[0]: call for call in map(comparable, calls)}
    (task,) = given["answer"][-1]["task"].values()
    assert task == comparable((replace(TASKS["lama"], tool=tool),))[0]
    assert run.questions == [f"sample_lama train {n}" for n in range(4)], "a source with fewer rows is used as it is"
    assert given["counterfactual"][2] is MODEL
    assert run.need == [f"counterfactual {row}" for row in run.questions]
    assert [given[name][-1]["compat"] for name in ("grade", "build_stage1", "build_stage2")] == [False, False, True]


@pytest.mark.parametrize(
    ("tables", "published"),
    [
        ({"math": {"stage1": ["a"], "stage2": []}, "qa": {"stage1": []}}, {"math": {"stage1": ["a"]}}),
        ({"math": {"stage1": [], "stage2": []}}, {"math": {"stage1": [], "stage2": []}}),
    ],
)
def test_tables_without_rows_are_published_only_if_there_are_no_others(
    tables: dict[str, Any], published: dict[str, Any], calls: Calls
) -> None:
    tables = {task: {name: Table(rows) for name, rows in named.items()} for task, named in tables.items()}
    recipe = recipe_of(MANY).model_copy(update={"hub": None, "replace": False, "cassette": False})
    assert publish_all(recipe, tables, None, out=None, replace=True) == ("out", None)
    rows = [table for named in tables.values() for table in named.values()]
    options = {"layout": "hub", "card": None, "cassette": False, "recipe": None, "replace": True, "dropped": rows}
    assert calls == [("ledger", rows), ("publish", published, "out", {"version": "2.3.4", **options})]


def test_the_published_recipe_has_the_sections_that_were_set_and_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "commit_of", lambda file: f"commit of {file.name}")
    monkeypatch.setattr(runner, "date_of", lambda file: f"date of {file.name}")
    sections = {
        "name": "Small", "version": "1.0.0", "out": "out", "sources": [{"name": "sample", "rows": 2}],
        "engines": {"m": {"kind": "local", "model": "x"}}, "student": {"engine": "m", "samples": 1},
    }  # fmt: skip
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(sections))
    file = recipe_file(load_recipe(tmp_path / "small.yaml"))
    assert (file.commit, file.date) == ("commit of small.yaml", "date of small.yaml")
    assert {**file.values, "engines": {}} == {
        **sections,
        "engines": {},
        "sources": ({"name": "sample", "rows": 2},),
        "student": {"engine": "m"},
    }
    unnamed = recipe_file(Recipe.model_validate(sections))
    assert (unnamed.commit, unnamed.date, unnamed.values) == (None, None, file.values)


@pytest.mark.parametrize(("rows", "expected"), [(None, [3, 2, 3]), (5, [3, 2, 4])])
def test_a_preview_is_a_run_on_few_rows_in_a_folder_of_its_own(
    rows: int | None, expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It pushes nothing, and no source gets more rows than in the recipe."""
    monkeypatch.setattr(previews, "run_recipe", lambda recipe, **options: (recipe, options))
    sources = [{"name": "sample", "rows": 3}, {"name": "sample", "rows": 2}, {"name": "sample", "rows": 4, "seed": 1}]
    sections = {**MANY, "sources": sources, "out": str(tmp_path / "data"), "tasks": {}}
    if rows is None:
        sources[2] = {"name": "sample"}
    given: dict[str, Any] = {} if rows is None else {"rows": rows}
    small, options = preview_of(Recipe.model_validate(sections), **given)
    assert [source.rows for source in small.sources] == expected
    assert options == {"out": tmp_path / "data-preview", "replace": True}
    kept = Recipe.model_validate(sections).model_copy(update={"hub": None, "sources": small.sources})
    assert small == kept
    (tmp_path / "many.yaml").write_text(yaml.safe_dump(sections))
    from_file, options = preview_of(tmp_path / "many.yaml", out="there", **given)
    assert (from_file.model_dump(), options) == (small.model_dump(), {"out": "there", "replace": True})
