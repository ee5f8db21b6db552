"""Every field of a recipe reaches the function that it belongs to: the tables are those of direct calls."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydantic
import pytest
from datasets import Dataset, load_dataset

from toolrlef_data import (
    TASKS,
    EngineSpec,
    InputError,
    Responder,
    answer,
    build_stage1,
    build_stage2,
    counterfactual,
    decontaminate,
    grade,
    ledger,
    load_recipe,
    load_source,
    respond,
    run_recipe,
    scripted,
    subset,
    wiki_search,
)
from toolrlef_data.engines.spec import Request
from toolrlef_data.recipes import runner
from toolrlef_data.recipes.schema import OWN_KEYS, Recipe, RunSettings, Section
from toolrlef_data.tables.reshape import stack
from toolrlef_data.trice.training import warm_up as training


def pupil(request: Request) -> str:
    return "<think>Yes.</think> It is Paris." if request.sample else "It is Rome."


def guide(request: Request) -> str:
    """A teacher whose calls find nothing: all of its attempts are used."""
    return "retriever(no such place)"


def guess(request: Request) -> str:
    return "retriever(Paris)\nObservation: none" if request.sample else "It is Paris."


ENGINES: dict[str, EngineSpec] = {
    "pupil": scripted(pupil, temperature=0.5, progress=False),
    "guide": scripted(guide, progress=False),
    "other": scripted({"": "retriever(Paris)"}, progress=False),
    "guess": scripted(guess, temperature=0.5, progress=False),
    "reader": scripted({"": "Paris"}, progress=False),
}
STUDENT: dict[str, Any] = {"style": "completion", "examples": 2, "samples": 3, "strip_reasoning": False}
RESPONDER: dict[str, Any] = {
    "name": "guesser", "style": "alpaca", "protocol": "tools", "samples": 2, "stop": ("Observation:",),
    "strip_reasoning": False, "examples": 1, "force_call": True,
}  # fmt: skip
NEED: dict[str, Any] = {
    "engine": "guess",
    "samples": 4,
    "threshold": 0.4,
    "protocol": "tools",
    "stop": ("Observation:",),
    "unsure": "grade",
    "hopeless": "grade",
}
TEST_SETS: dict[str, Any] = {"n": 11, "ignore_numbers": False}
WARM_UP = {"steps": 3, "batch_size": 2, "learning_rate": 1e-3, "max_tokens": 400, "style": "vicuna", "seed": 5}
# `compat` of the recipe or of stage 2; the options of the scoring rules. The last one has `need`.
STAGE2: dict[str, dict[str, Any]] = {
    "trice": {"rule": "trice", "ties": "share", "missing": "wrong", "levels": (9.0, 6.0, 3.0)},
    "paper": {"rule": "paper", "trusted": ("guesser.1",), "levels": (8.0, 6.0, 4.0, 2.0, 1.0), "lacking": "drop_response"},
    "cost": {"rule": "cost", "threshold": 0.3},
}  # fmt: skip


def sections(rule: str, folder: Path) -> dict[str, Any]:
    """Return the contents of a recipe in which every field differs from its default, except `layout`, and `hub` of `tests/cli`."""
    return {
        "name": "All fields", "version": "2.3.4", "out": str(folder / "out"), "task": "retrieval", "replace": True,
        "cassette": True, "card": {"license": "cc0-1.0"}, "attempts": 2, "keep_unverified": True, "compat": rule == "trice",
        "sources": [
            {"name": "hotpotqa", "split": "dev", "data_dir": str(folder), "rows": 3, "seed": 4, "options": {"keep_yes_no": True}},
            {"name": "hotpotqa", "split": "train", "data_dir": str(folder), "rows": 2},
        ],
        "decontaminate": {**TEST_SETS, "against": [str(folder / "test.txt"), "svamp"], "data_dir": str(folder)},
        "tasks": {"retrieval": {"tool": {"kind": "wiki_search", "corpus": "sample", "k": 2}, "reader": "reader", "reader_style": "completion", "rule": "paper"}},
        "engines": {name: {"kind": "local", "model": name, "temperature": 0.5} for name in ENGINES},
        "student": {**STUDENT, "engine": "pupil", "threshold": 0.9}, "need": NEED if rule == "cost" else None, "teachers": ["guide", "other"],
        "accept_cut": ["call"], "ask_again": ["empty"], "warm_up": {**WARM_UP, "name": "warmed", "engine": "guess"},
        "responders": [{**RESPONDER, "engine": "guess"}, {"name": "trained", "engine": "warmed"}],
        "stage2": {**STAGE2[rule], "compat": rule == "paper"},
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with questions in HotpotQA's form; some answers are yes."""
    for file, first in (("hotpot_dev_distractor_v1", 0), ("hotpot_train_v1.1", 20)):
        rows = [
            {"_id": f"n{i}", "question": f"Which city is number {i}?", "answer": "yes" if i % 2 else "Paris"}
            for i in range(first, first + 8)
        ]
        (tmp_path / f"{file}.json").write_text(json.dumps(rows))
    svamp = {
        "ID": "chal-1",
        "Body": "",
        "Question": "Which city is number 22?",
        "Equation": "22",
        "Answer": 22.0,
        "Type": "",
    }
    (tmp_path / "SVAMP.json").write_text(json.dumps([svamp]))
    (tmp_path / "test.txt").write_text("Which city is number 99?")
    return tmp_path


def defaults_in(section: pydantic.BaseModel, place: str) -> Iterator[str]:
    """Yield the places of the fields that have their default, in a section and in those below it."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if not field.is_required() and value == field.get_default(call_default_factory=True):
            yield f"{place}.{name}"
        parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else [value]
        for part in parts:
            if isinstance(part, Section):
                yield from defaults_in(part, f"{place}.{name}")


def test_no_field_of_these_recipes_is_left_at_its_default(folder: Path) -> None:
    recipes = {rule: sections(rule, folder) for rule in STAGE2}
    for recipe in recipes.values():  # the second entries of both lists test that lists are read to their end
        del recipe["sources"][1], recipe["responders"][1]
    at_default = [set(defaults_in(Recipe.model_validate(recipe), "recipe")) for recipe in recipes.values()]
    of_own_sources = {f"recipe.sources.{key}" for key in OWN_KEYS}  # tests/loading_scripts/own
    others = {"recipe.run", *(f"recipe.run.{name}" for name in RunSettings.model_fields)}  # tests/recipes/cluster
    assert set.intersection(*at_default) == {"recipe.layout", "recipe.hub", *others, *of_own_sources}


@pytest.mark.parametrize("rule", STAGE2)
def test_every_field_has_the_effect_of_the_argument(rule: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Any] = []

    def train(stage1: Dataset, base: EngineSpec, **settings: Any) -> EngineSpec:
        trained.append((stage1._fingerprint, base, settings))
        return replace(base, temperature=0.25)

    monkeypatch.setattr(training, "warm_up", train)
    recipe = Recipe.model_validate(sections(rule, folder)).model_copy(update={"engines": ENGINES})
    result = run_recipe(recipe)

    compat = rule == "trice"
    tool = wiki_search("sample", name="retriever", k=2)
    task = replace(TASKS["retrieval"], tool=tool, reader=ENGINES["reader"], reader_style="completion").with_rule(
        "paper"
    )
    files: dict[str, Any] = {"data_dir": folder}
    train_split = load_source("hotpotqa", split="train", **files).select(range(2))
    drawn = subset(load_source("hotpotqa", split="dev", keep_yes_no=True, **files), 3, seed=4)
    questions = decontaminate(
        stack([drawn, train_split], "questions"), [folder / "test.txt", "svamp"], data_dir=folder, **TEST_SETS
    )
    assert questions["id"][:] == [*drawn["id"], "hotpotqa-n20"], "n22 is a question of the test sets"
    assert result.questions._fingerprint == questions._fingerprint
    answered = answer(questions, ENGINES["pupil"], **STUDENT, accept_cut=["call"], task=task)
    graded = grade(answered, threshold=0.9, compat=compat, task=task)
    labels: dict[str, Any] = {}
    if rule == "cost":
        measured = {**{name: STUDENT[name] for name in ("style", "examples", "strip_reasoning")}, **NEED}
        labels = {name: measured.pop(name) for name in ("unsure", "hopeless")}
        labels["need"] = counterfactual(
            questions, ENGINES[measured.pop("engine")], accept_cut=["call"], **measured, task=task
        )
        assert result.need is not None
        assert result.need._fingerprint == labels["need"]._fingerprint
    stage1 = build_stage1(
        graded, [ENGINES["guide"], ENGINES["other"]], attempts=2, keep_unverified=True, compat=compat,
        accept_cut=["call"], task=task, **labels,
    )  # fmt: skip
    warmed = replace(ENGINES["guess"], temperature=0.25)
    responders = [Responder(engine=ENGINES["guess"], **RESPONDER), Responder("trained", warmed)]
    responded = respond(stage1, responders, accept_cut=["call"], task=task)
    stage2 = build_stage2(responded, **STAGE2[rule], compat=rule != "cost", task=task)

    for name, table in {"graded": graded, "stage1": stage1, "stage2": stage2}.items():
        assert getattr(result, name)._fingerprint == table._fingerprint, f"{name}: its key covers all settings"
    assert trained == [(stage1._fingerprint, ENGINES["guess"], WARM_UP)]
    published = load_dataset(str(folder / "out"), "retrieval-stage2", split="train")
    assert (published.to_list(), str(published.version)) == (stage2.to_list(), "2.3.4")
    assert load_dataset(str(folder / "out"), "retrieval-responded", split="train").to_list() == responded.to_list()
    card = (folder / "out" / "README.md").read_text(encoding="utf-8")
    assert "license: cc0-1.0" in card
    assert "# All fields" in card


def test_settings_that_change_no_key_reach_every_stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: dict[str, list[Any]] = {}

    def recorded(name: str) -> Any:
        function = getattr(runner, name)

        def record(*tables: Any, **arguments: Any) -> Any:
            passed[name] = [arguments.get("ask_again"), arguments["num_proc"]]
            return function(*tables, **{**arguments, "num_proc": None})

        return record

    for name in ("decontaminate", "answer", "grade", "build_stage1", "respond", "build_stage2"):
        monkeypatch.setattr(runner, name, recorded(name))
    recipe = Recipe.model_validate({**sections("paper", folder), "warm_up": None, "responders": [], "stage2": {}})
    run_recipe(recipe.model_copy(update={"engines": ENGINES}), num_proc=3)
    asks = {name for name, (ask_again, _) in passed.items() if ask_again == ("empty",)}
    assert asks == {"answer", "build_stage1", "respond"}
    assert [num_proc for _, num_proc in passed.values()] == [3] * 6


def answer_numbers(request: Request) -> str:
    """Answer the questions with numbers only."""
    return "It is 8." if re.search(r"\d", request.messages[-1].content) else ""


def test_the_ledger_has_the_rows_of_a_source_whose_rows_are_all_dropped(tmp_path: Path) -> None:
    search = {"kind": "wiki_search", "corpus": "sample"}
    minimal = {
        "name": "Small", "version": "1.0.0", "out": str(tmp_path / "out"), "student": {"engine": "pupil"},
        "sources": [{"name": "sample", "rows": 3}, {"name": "sample_lama", "rows": 2}],
        "tasks": {"lama": {"tool": {"kind": "qa_engine", "engine": "pupil", "search": search}}},
        "engines": {"pupil": {"kind": "local", "model": "none"}}, "teachers": ["annotations", "pupil"], "attempts": 1,
    }  # fmt: skip
    silent = scripted(answer_numbers, progress=False, max_failed=1.0)
    result = run_recipe(Recipe.model_validate(minimal).model_copy(update={"engines": {"pupil": silent}}))
    assert set(result.stage1["task"]) == {"math"}
    kept, lost = set(result.stage1["id"]), set(ledger([result.stage1])["id"])
    assert kept | lost == set(result.questions["id"])
    files = (result.out / "math-dropped").glob("*.parquet")
    assert {row_id for path in files for row_id in Dataset.from_parquet(str(path))["id"]} == lost
    provenance = json.loads((result.out / "provenance.json").read_text())
    assert provenance["configs"]["math-stage1"]["train"]["trail_is_whole"], "selected rows start a lineage"
    assert "sample: 3 of 134 rows" in {stage["step"] for stage in provenance["stages"].values()}


@pytest.mark.parametrize("field", ["keys", "base_url", "headers", "options"])
def test_a_value_that_may_be_a_secret_is_not_in_the_error(field: str, tmp_path: Path) -> None:
    canary = "canary-5d41402abc4b2a76"
    path = tmp_path / "recipe.yaml"
    for value in (f"[[{canary}]]", f"[{{{canary}: 1}}]", f"{{{canary}: [1]}}")[: 2 if field == "options" else 3]:
        engines = f"engines:\n  a: {{kind: openai_api, model: x, {field}: {value}}}\n"
        path.write_text(
            f"name: A\nversion: 1.0.0\nout: a\nsources: [{{name: sample}}]\nstudent: {{engine: a}}\n{engines}"
        )
        with pytest.raises(InputError, match=f"engines.a.{field}") as caught:
            load_recipe(path)
        assert canary not in str(caught.value)


def test_the_options_of_a_source_are_not_in_the_error(tmp_path: Path) -> None:
    canary = "canary-5d41402abc4b2a76"
    path = tmp_path / "recipe.yaml"
    for value in (canary, f"[{canary}]"):
        path.write_text(f"name: A\nversion: 1.0.0\nout: a\nsources: [{{name: sample, options: {value}}}]\n")
        with pytest.raises(InputError, match=r"sources\.0\.options input should be a valid dictionary$") as caught:
            load_recipe(path)
        assert canary not in str(caught.value)


def test_all_rows_of_a_source_with_a_number_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "x: {any: anchors}\nname: A\nversion: 1.0.0\nout: a\nsources: [{name: sample, rows: 3}]\n"
        "engines:\n  a: {kind: local, model: x}\nstudent: {engine: a}\n"
    )
    found = {rows: load_recipe(path, rows=rows, all_rows=rows is None).sources[0].rows for rows in (7, None)}
    assert (found, load_recipe(path).sources[0].rows) == ({7: 7, None: None}, 3)
