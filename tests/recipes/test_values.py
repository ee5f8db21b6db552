"""Values of a recipe: defaults, limits, values that are false, and the folder and the card of the published data set."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic
import pytest
import yaml

from toolrlef_data import (
    EngineSpec,
    InputError,
    Responder,
    answer,
    build_stage1,
    build_stage2,
    counterfactual,
    decontaminate,
    grade,
    load_recipe,
    load_source,
    publish,
    push_to_hub,
    respond,
    run_recipe,
    scripted,
    subset,
    warm_up,
)
from toolrlef_data.engines.spec import Request
from toolrlef_data.recipes.schema import OWN_KEYS as OWN_SOURCE_KEYS
from toolrlef_data.recipes.schema import (
    RULE_OPTIONS,
    Decontaminate,
    Hub,
    Need,
    Recipe,
    ResponderSettings,
    Section,
    Source,
    Stage2,
    Student,
    TaskSettings,
    WarmUp,
)
from toolrlef_data.tables.lineage import lineage
from toolrlef_data.tasks.task import Task

OWN_KEYS = {  # keys without an argument of the same name
    *OWN_SOURCE_KEYS, "decontaminate", "hub", "tasks", "teachers", "warm_up", "responders", "stage2", "card", "rows", "seed", "split", "options", "run",
}  # fmt: skip


@pytest.mark.parametrize(
    ("section", "functions"),
    [
        (Student, [answer, grade]),
        (ResponderSettings, [Responder]),
        (WarmUp, [warm_up]),
        (Stage2, [build_stage2]),
        (Need, [counterfactual, build_stage1]),
        (Hub, [push_to_hub]),
        (TaskSettings, [Task, grade]),
        (Source, [load_source]),
        (Decontaminate, [decontaminate]),
        (Recipe, [grade, build_stage1, answer, respond, publish]),
    ],
)
def test_defaults_are_those_of_the_functions(section: type[Section], functions: list[Callable[..., Any]]) -> None:
    parameters = [inspect.signature(function).parameters for function in functions]
    for name, field in section.model_fields.items():
        defaults = [known[name].default for known in parameters if name in known]
        if section is Stage2 and name in RULE_OPTIONS:
            assert field.default is None, "the rule has its own default"
        elif section is Need and name == "engine":
            assert field.default is None, "the student's"
        elif not field.is_required() and name not in OWN_KEYS:
            assert defaults, f"{name} is an argument of one of the functions"
            assert all(field.default == default for default in defaults if default is not inspect.Parameter.empty), name


VALID: dict[str, Any] = {
    "name": "Small", "version": "1.0.0", "out": "out", "sources": [{"name": "sample"}], "student": {"engine": "a"},
    "engines": {"a": {"kind": "local", "model": "x", "temperature": 0.5}}, "responders": [{"name": "one", "engine": "a"}],
    "warm_up": {"name": "w", "engine": "a"}, "teachers": ["annotations"],
}  # fmt: skip


def with_value(place: str, value: Any) -> dict[str, Any]:
    """Return the recipe `VALID` with another value, such as of "sources.rows"; of a list, the first item changes."""
    recipe = json.loads(json.dumps(VALID))
    *sections, name = place.split(".")
    inner = recipe
    for section in sections:
        inner = inner.setdefault(section, {})
        inner = inner[0] if isinstance(inner, list) else inner
    inner[name] = value
    return recipe


@pytest.mark.parametrize(
    ("place", "accepted", "refused"),
    [
        ("sources.rows", [1, None], [0, -1]),
        ("sources.seed", [0, -1, None], ["first"]),
        ("student.threshold", [1.0, 0.01], [0, 1.01]),
        ("student.samples", [1], [0]),
        ("student.examples", [0], [-1, None]),
        ("responders.samples", [1], [0]),
        ("responders.examples", [0, None], [-1]),
        ("responders.protocol", ["text", "tools"], ["json"]),
        ("attempts", [1], [0]),
        ("warm_up.steps", [1], [0]),
        ("warm_up.batch_size", [1], [0]),
        ("warm_up.learning_rate", [1e-9], [0, -1]),
        ("warm_up.max_tokens", [1], [0]),
        ("need.threshold", [0.01, 0.99], [0, 1]),
        ("need.samples", [1], [0]),
        ("need.protocol", ["text", "tools"], ["json"]),
        ("version", ["0.0.0", "10.20.30"], ["1.0", "v1.0.0", "1.0.0-rc1", "1.0.0\n", " 1.0.0"]),
        ("accept_cut", [[], ["marked"]], [["all"]]),
        ("ask_again", [["empty"], []], [["timeout"]]),
        ("stage2.lacking", ["drop_response"], ["drop"]),
        ("stage2.ties", ["order", "share", None], ["both"]),
        ("stage2.missing", ["zero", "wrong"], ["null"]),
    ],
)
def test_limits_of_values(place: str, accepted: list[Any], refused: list[Any]) -> None:
    for value in accepted:
        Recipe.model_validate(with_value(place, value))
    for value in refused:
        with pytest.raises(pydantic.ValidationError):
            Recipe.model_validate(with_value(place, value))


@pytest.mark.parametrize("section", ["", "sources", "student", "responders", "warm_up", "stage2", "hub", "tasks.math"])
def test_no_section_has_unknown_keys(section: str) -> None:
    recipe = with_value("hub", {"repo": "org/name"}) if section == "hub" else VALID
    assert Recipe.model_validate(recipe)
    with pytest.raises(pydantic.ValidationError, match="not permitted"):
        Recipe.model_validate({**recipe, **with_value(f"{section}.colour".lstrip("."), "red")})


LAYOUT = "is not supported by the layout '{}'; expected 'hub'"
GREEDY = "of the greedy engine 'a' would be identical"
SEARCH = {"kind": "wiki_search", "corpus": "sample"}
LAMA = {"sources": [{"name": "sample_lama"}], "teachers": ["a"]}
NOT_OF_FILES: dict[str, Any] = {"data_dir": "rows", "options": {"cut": 1}, "config": "main", "revision": "v1"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({"layout": layout, "cassette": True}, f"cassette {LAYOUT.format(layout)}") for layout in ("trice", "trice-old")),
        *(({"layout": layout, "card": {"a": "b"}}, f"card {LAYOUT.format(layout)}") for layout in ("trice", "trice-old")),
        *(({"layout": layout, "hub": {"repo": "a/b"}}, f"hub {LAYOUT.format(layout)}") for layout in ("trice", "trice-old")),
        ({"engines": {"a": {"kind": "local", "model": "x"}}, "student": {"engine": "a", "samples": 2}}, f"student.samples {GREEDY}"),
        ({"engines": {"a": {"kind": "local", "model": "x"}}, "responders": [{"name": "o", "engine": "a", "samples": 2}]}, f"responders.0.samples {GREEDY}"),
        ({"engines": {"w": {"kind": "local", "model": "x"}}, "student": {"engine": "w"}, "warm_up": {"name": "w", "engine": "w"}}, "warm_up.name is the name of another engine: 'w'"),
        ({"engines": {"a": {"kind": "local", "model": "x"}, "w": {"kind": "local", "model": "y"}}}, "warm_up.name is the name of another engine: 'w'"),
        ({"decontaminate": {"against": ["sample", "gsm9k"]}}, "decontaminate.against.1 names an unknown source 'gsm9k'"),
        ({"decontaminate": {"against": ["missing/test.jsonl"]}}, "decontaminate.against.0 names no file: 'missing/test.jsonl'"),
        ({"decontaminate": {"against": []}}, "decontaminate.against tuple should have at least 1 item"),
        ({"decontaminate": {"against": ["sample"], "n": 4}}, "decontaminate.n input should be greater than or equal to 5"),
        ({"warm_up": {"name": "w", "engine": "z"}}, "warm_up.engine names an unknown engine 'z'"),
        ({"warm_up": {"name": "w", "engine": "a", "style": "haiku"}}, "warm_up.style names an unknown prompt style 'haiku'"),
        ({"engines": {"a": {"kind": "local", "model": "x", "temperature": 1}, "g": {"kind": "local", "model": "x"}}, "warm_up": {"name": "w", "engine": "g"}, "responders": [{"name": "o", "engine": "w", "samples": 2}]}, "responders.0.samples of the greedy engine 'w'"),
        ({"teachers": ["gold"]}, "teachers.0 names an unknown teacher 'gold'; choose from: a, annotations"),
        ({"responders": [{"name": "o", "engine": "z"}]}, "responders.0.engine names an unknown engine 'z'"),
        ({"responders": [{"name": "o", "engine": "a"}, {"name": "p", "engine": "a"}, {"name": "o", "engine": "a"}]}, "responders.2.name is the name of another responder: 'o'"),
        *(({"responders": [{"name": name, "engine": "a"}]}, "responders.0.name must be a column name") for name in ("gold", "input", "answers", "uses_tool", "a.b", " ")),
        ({"responders": [{"name": "o", "engine": "a", "samples": 2}], "stage2": {"trusted": ["o.0"]}}, "unknown responder 'o.0'; choose from: gold, o.1, o.2"),
        ({"responders": [{"name": "o", "engine": "a", "samples": 2}], "stage2": {"trusted": ["gold", "o"]}}, "stage2.trusted.1 names an unknown responder 'o'"),
        *(({"stage2": {"rule": "paper", option: value}}, f"stage2.{option} is not an option of the rule 'paper'") for option, value in (("ties", "order"), ("missing", "zero"), ("threshold", 0.4))),
        ({"tasks": {"math": {"rule": "paper", "reader": "z"}}}, "tasks.math.reader names an unknown engine 'z'"),
        ({"tasks": {"math": {"tool": {"kind": "wiki_search"}}}}, "tasks.math.tool lacks the argument 'corpus' of wiki_search"),
        ({**LAMA, "tasks": {"lama": {"tool": {"kind": "qa_engine", "engine": "z", "search": SEARCH}}}}, "tasks.lama.tool.engine names an unknown engine 'z'"),
        ({**LAMA, "tasks": {"lama": {"tool": {"kind": "qa_engine", "engine": "a", "search": {"kind": "wiki_search"}}}}}, "tasks.lama.tool.search lacks the argument 'corpus' of wiki_search"),
        ({**LAMA, "tasks": {"lama": {"tool": {"kind": "qa_engine", "engine": "a", "search": {**SEARCH, "size": 3}}}}}, "tasks.lama.tool.search.size is not an argument of wiki_search"),
        ({"sources": [{"name": "sample_qa"}], "teachers": ["a"], "tasks": {"qa": {"tool": SEARCH}}}, "tasks.qa needs a reader"),
        ({"sources": []}, "sources needs at least one entry"),
        *(({"sources": [{"name": "no/rows.jsonl", "task": "math", key: value}]}, f"sources.0.{key} is a key of") for key, value in NOT_OF_FILES.items()),
        *(({"sources": [{"name": "sample", key: "math"}]}, f"sources.0.{key} is a key of your own files") for key in OWN_SOURCE_KEYS),
        ({"sources": [{"name": "sample", "options": {"cut": 1}}, {"name": "sample", "options": {"keep": 1}}]}, "sources.1.options.keep names an unknown option"),
    ],
)  # fmt: skip
def test_names_and_combinations_that_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**VALID, **changes}, sort_keys=False))
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"layout": "trice-old"},
        {"responders": [{"name": "o", "engine": "a", "samples": 2}], "stage2": {"trusted": ["gold", "o.1", "o.2"]}},
        {"responders": [{"name": "o", "engine": "w", "samples": 2}]},
        {"stage2": {"rule": "trice", "ties": "order", "missing": "zero"}},
        {"stage2": {"rule": "cost", "threshold": 0.4}},
        {"sources": [{"name": "sample_lama"}], "teachers": ["annotations", "a"], "tasks": {"lama": {"tool": {"kind": "qa_engine", "engine": "a", "search": SEARCH}}}},
        {"sources": [{"name": "sample_qa"}], "teachers": ["a"], "tasks": {"qa": {"tool": SEARCH, "reader": "a", "rule": "paper"}}},
        {"hub": {"repo": "org/name"}, "cassette": True, "card": {"license": "mit"}},
        {"x": {"anchors": [1, 2]}},
        {"sources": [{"name": str(Path(__file__).parent), "task": "math"}]},
        {"sources": [{"name": __file__, "task": "math"}]},
    ],
)  # fmt: skip
def test_names_and_combinations_that_are_valid(changes: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**VALID, **changes}, sort_keys=False))
    assert load_recipe(path).name == "Small"


def test_an_engine_that_cannot_be_constructed_is_a_mistake_with_its_reason(tmp_path: Path) -> None:
    engine = {"kind": "openai_api", "model": "x", "temperature": 1, "base_url": "$A_VARIABLE_WITHOUT_A_VALUE"}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**VALID, "engines": {"a": engine}}, sort_keys=False))
    with pytest.raises(InputError, match=r"engines\.a cannot be used: .*A_VARIABLE_WITHOUT_A_VALUE"):
        load_recipe(path)


def test_mistakes_are_listed_with_their_lines_in_the_order_of_the_file(tmp_path: Path) -> None:
    """The checks have another order than the file."""
    lines = [
        "name: A", "version: 1.0.0", "out: a", "stage2: {rule: best}", "responders:", "  - name: one", "    engine: b",
        "student:", "  engine:", "    c", "teachers: [d]", "engines: {a: {kind: local, model: x}}",
        "sources:", "  - {name: e}", "  - name: sample", "    options:", "      f: 1",
    ]  # fmt: skip
    path = tmp_path / "recipe.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    found = [line.split(": ")[0].rpartition(":")[2] for line in str(caught.value).splitlines()]
    places = [line.split(": ")[1].split()[0] for line in str(caught.value).splitlines()]
    expected = {
        "stage2.rule": 4, "responders.0.engine": 7, "student.engine": 9, "teachers.0": 11, "sources.0.name": 14,
        "sources.1.options.f": 17,
    }  # fmt: skip
    assert dict(zip(places, map(int, found), strict=True)) == expected
    assert places == list(expected)


def test_a_mistake_of_the_student_is_not_listed_again_for_need(tmp_path: Path) -> None:
    """`need` has the student's style, and its engine if it names none."""
    path = tmp_path / "recipe.yaml"
    for student, engine, places in (
        ({"engine": "a", "style": "haiku"}, None, ["student.style"]),
        ({"engine": "z"}, "a", ["student.engine"]),
        ({"engine": "z"}, "y", ["student.engine", "need.engine"]),
    ):
        path.write_text(yaml.safe_dump({**VALID, "student": student, "need": {"engine": engine}}, sort_keys=False))
        with pytest.raises(InputError) as caught:
            load_recipe(path)
        assert [line.split(": ")[1].split()[0] for line in str(caught.value).splitlines()] == places


@pytest.mark.parametrize("rule", ["default", "paper"])
def test_a_task_that_is_not_strict_may_name_its_rule(rule: str) -> None:
    with pytest.warns(DeprecationWarning, match="the key strict of a task is deprecated"):
        assert TaskSettings.model_validate({"strict": False, "rule": rule}).rule == rule


def recipe_of(folder: Path, engine: EngineSpec, **sections: Any) -> Recipe:
    recipe = Recipe.model_validate({**VALID, "warm_up": None, "responders": [], "out": str(folder), **sections})
    return recipe.model_copy(update={"engines": {"a": engine}})


def counted() -> tuple[EngineSpec, list[Request]]:
    """Return an engine, and the list of its requests."""
    requests: list[Request] = []

    def reply(request: Request) -> str:
        requests.append(request)
        return "It is 8."

    return scripted(reply, progress=False), requests


def test_values_that_are_false_and_the_title_of_the_user(tmp_path: Path) -> None:
    """The seed 0 is a seed, all rows are no subset, and the title of the card is the user's, if there is one."""
    sources = [{"name": "sample", "rows": 3, "seed": 0}, {"name": "gsm8k", "data_dir": str(tmp_path), "rows": 2}]
    lines = [{"question": f"How much is {i}?", "answer": f"{i}\n#### {i}"} for i in range(4)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, lines)))
    engine, _ = counted()
    run = run_recipe(recipe_of(tmp_path / "out", engine, sources=sources, card={"title": "Mine", "license": "mit"}))
    drawn, read = subset(load_source("sample", split="train"), 3, seed=0), load_source("gsm8k", "train", tmp_path)
    assert run.questions["id"][:] == [*drawn["id"], *read["id"][:2]]
    card = (run.out / "README.md").read_text(encoding="utf-8")
    assert "# Mine\n" in card
    assert "license: mit" in card
    (record,) = (record for record in lineage(run.questions) if record["step"].startswith("gsm8k: 2 of 4"))
    assert record["settings"] == lineage(read)[-1]["settings"] != {}, "a selection has the settings of its source"


def test_the_folder_of_the_argument_replaces_that_of_the_recipe(tmp_path: Path) -> None:
    """The recipe's own folder is neither checked nor written, and the argument's is checked before any request."""
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").touch()
    engine, requests = counted()
    sources = [{"name": "sample", "rows": 2}]
    with pytest.raises(InputError, match="is not a published data set"):
        run_recipe(recipe_of(tmp_path / "own", engine, sources=sources), out=foreign)
    assert requests == []
    run = run_recipe(recipe_of(foreign, engine, sources=sources), out=tmp_path / "other")
    assert run.out == tmp_path / "other"
    assert [path.name for path in foreign.iterdir()] == ["thesis.tex"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["foreign", "other"]


def test_a_folder_is_checked_for_the_layout_of_the_recipe(tmp_path: Path) -> None:
    """`load_dataset` reads a path with brackets as a pattern; the files of TRICE can stand there."""
    engine, requests = counted()
    changes: dict[str, Any] = {"sources": [{"name": "sample", "rows": 2}], "layout": "trice"}
    run = run_recipe(recipe_of(tmp_path / "data [v1]", engine, **changes))
    assert run.layout == "trice"
    assert (run.out / "stage2/math/math.json").is_file()
    before = len(requests)
    with pytest.raises(InputError, match="cannot read a folder"):
        run_recipe(recipe_of(tmp_path / "data [v2]", engine, sources=changes["sources"]))
    assert len(requests) == before


def test_a_recipe_that_cannot_be_published_asks_no_model(tmp_path: Path) -> None:
    engine, requests = counted()
    card = {"title": "hf_ThisTokenMustNeverBeSeen0123"}
    with pytest.raises(InputError, match=r"holds a secret at card\.title"):
        run_recipe(recipe_of(tmp_path / "out", engine, sources=[{"name": "sample", "rows": 2}], card=card))
    assert (requests, list(tmp_path.iterdir())) == ([], [])
