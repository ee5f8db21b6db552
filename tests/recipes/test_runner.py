"""recipe and cli: a whole run from one file, and mistakes that point at their line."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_dataset
from typer.testing import CliRunner

from toolrlef_data import TASKS, InputError, build_stage2, load_recipe, load_source, run_recipe, scripted
from toolrlef_data.cli.main import _print_run, app
from toolrlef_data.engines.spec import Request
from toolrlef_data.recipes.runner import shipped_recipes
from toolrlef_data.recipes.schema import Recipe
from toolrlef_data.tasks.text_answers import grade

GOOD = """\
name: Small
version: 1.0.0
out: out/small
sources:
  - {name: sample, rows: 12}
engines:
  student: {kind: local, model: none}
student: {engine: student}
responders:
  - {name: one, engine: student}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (("rows: 12", "rows: many"), 5, "sources.0.rows input should be a valid integer, .* found 'many'"),
        (("rows: 12", "rows: 0"), 5, "sources.0.rows input should be greater than 0, found 0"),
        (("rows: 12", "row: 12"), 5, "sources.0.row is not a key of this section"),
        (("name: sample", "name: gsm9k"), 5, "names an unknown source 'gsm9k'; choose from: .*gsm8k, .*sample, .*svamp"),
        (("kind: local", "kind: vllm"), 7, "names an unknown engine kind 'vllm'; choose from: local"),
        (("student: {engine: student}", "student: {engine: pupil}"), 8, "unknown engine 'pupil'; choose from: student"),
        (("student: {engine: student}\n", ""), 1, "student is missing"),
        (("name: one, engine", "name: one, style: haiku, engine"), 10, "unknown prompt style 'haiku'; choose from: alpaca"),
        (("out: out/small", "out: out/small\nlayout: csv"), 4, "unknown layout 'csv'; choose from: hub, trice, trice-old"),
        (("out: out/small", "out: out/small\nstage2: {rule: best}"), 4, "unknown scoring rule 'best'"),
        (("out: out/small", "out: out/small\nteachers: [gpt]"), 4, "unknown teacher 'gpt'; choose from: annotations, student"),
        (("kind: local", "kind: scripted"), 7, "scripted has no replies here, it is for Python only"),
        (("kind: local", "options: [1], kind: local"), 7, "engines.student.options"),
        (("kind: local", "kind: openai_api, adapter: x"), 7, "engines.student cannot be used: the engine openai_api cannot set adapter"),
        (("kind: local", "keys: sk-0123456789, kind: openai_api"), 7, "engines.student.keys takes names of environment variables"),
        (("kind: local", "limits: {max_cost: 5}, kind: openai_api"), 7, "engines.student.limits limits: max_cost needs price"),
        (("kind: local", "limits: {rps: 5}, kind: openai_api"), 7, "engines.student.limits.rps is not a key of this section"),
        (("kind: local", "keys: [1], kind: openai_api"), 7, "engines.student.keys"),
        (("kind: local", "temprature: 1, kind: local"), 7, "engines.student.temprature is not a key of this section"),
        (("kind: local", "temperature: -1, kind: local"), 7, "engines.student.temperature must be a number of at least 0, found -1.0"),
        (("kind: local", "max_tokens: many, kind: local"), 7, "engines.student.max_tokens input should be a valid integer, .* found 'many'"),
        (("kind: local", "dtype: int8, kind: local"), 7, "engines.student.dtype must be one of auto, float32, bfloat16, float16, found 'int8'"),
        (("kind: local", "limits: {rpm: 0}, kind: local"), 7, "engines.student.limits.rpm must be a number above 0, found 0.0"),
        (("kind: local", "kind: local, base_url: 'http://me:pass@host'"), 7, "engines.student.base_url carries credentials"),
        (("version: 1.0.0", "version: 1.0.0-rc1"), 2, "version string should match pattern"),
        (("{name: one, engine: student}", "{name: one, engine: student}\n  - {name: one, engine: student}"), 11, "is the name of another responder: 'one'"),
        (("name: one", "name: gold"), 10, "none of gold, instruction.*found 'gold'"),
        (("name: one", "name: a.b"), 10, "no dots"),
        (("name: one", "name: one, samples: 2"), 10, "responders.0.samples of the greedy engine 'student'"),
        (("student: {engine: student}", "student: {engine: student, samples: 3}"), 8, "student.samples of the greedy engine"),
        (("name: one, engine: student", "name: one, samples: 2, engine: w}\nwarm_up: {name: w, engine: student"), 10, "of the greedy engine 'w'"),
        (("out: out/small", "out: out/small\nwarm_up: {name: student, engine: student}"), 4, "warm_up.name is the name of another engine"),
        (("out: out/small", "out: out/small\nstage2: {trusted: [chatgpt]}"), 4, "unknown responder 'chatgpt'; choose from: gold, one"),
        (("out: out/small", "out: out/small\nstage2: {rule: paper, ties: share}"), 4, "stage2.ties is not an option of the rule 'paper'"),
        (("out: out/small", "out: out/small\nlayout: trice\ncard: {license: mit}"), 5, "card has no place in the layout 'trice'"),
    ],
)  # fmt: skip
def test_a_mistake_points_at_its_line(tmp_path: Path, change: tuple[str, str], line: int, words: str) -> None:
    assert change[0] in GOOD
    path = written(tmp_path, GOOD.replace(*change))
    with pytest.raises(InputError, match=rf"recipe.yaml:{line}: .*{words}"):
        load_recipe(path)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD.replace("rows: 12", "rows: 0").replace("out: out/small\n", ""))
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "words"), [("a: [", "not YAML"), ("- 1", "a recipe is a mapping with the keys name"), ("", "found None")]
)
def test_a_file_that_is_no_recipe_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_recipe(written(tmp_path, text))


def test_a_path_that_cannot_be_read_as_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        load_recipe(tmp_path)
    (tmp_path / "model.gguf").write_bytes(b"GGUF\xff\xfe")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        load_recipe(tmp_path / "model.gguf")


def test_options_reach_the_spec_and_the_rule(tmp_path: Path) -> None:
    text = GOOD.replace("model: none", "model: none, options: {enable_thinking: false, b: 2}")
    recipe = load_recipe(written(tmp_path, text + "stage2: {ties: share}\nkeep_unverified: true\n"))
    assert recipe.engines["student"].options == (("b", 2), ("enable_thinking", False))
    assert recipe.stage2.model_dump(exclude_none=True) == {
        "rule": "trice", "trusted": (), "compat": False, "ties": "share"
    }  # fmt: skip
    assert recipe.keep_unverified


def small(engine: dict[str, Any], out: Path, **more: Any) -> Recipe:
    """A recipe whose model is a script: only Python can write one."""
    given = {
        "name": "Small", "version": "1.0.0", "out": str(out), "sources": [{"name": "sample", "rows": 12}],
        "engines": {"student": engine}, "student": {"engine": "student"}, "responders": [{"name": "one", "engine": "student"}],
    }  # fmt: skip
    return Recipe.model_validate({**given, **more})


@pytest.mark.parametrize("layout", ["hub", "trice"])
def test_a_run_publishes_and_says_where(layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = small({"kind": "scripted", "model": "x"}, tmp_path / "data", layout=layout, stage2={"ties": "share"})
    recipe = recipe.model_copy(update={"engines": {"student": scripted({"": "calculator(2*4)"}, progress=False)}})
    done = run_recipe(recipe)
    _print_run(done)
    shown = capsys.readouterr().out
    assert ("load_dataset(" in shown) == (layout == "hub")
    assert ("stage2/math/math.json" in shown) == (layout == "trice")


FOUR = """name: Four
version: 1.0.0
out: out/four
sources:
  - {name: sample, rows: 2}
  - {name: sample_qa, rows: 2}
  - {name: sample_lama, rows: 2}
  - {name: sample_mlqa, rows: 2, seed: 1}
tasks:
  qa: {tool: {kind: wiki_search, corpus: sample}, reader: asked, strict: true}
  lama: {tool: {kind: qa_engine, engine: asked, search: {kind: wiki_search, corpus: sample}}}
  mlqa: {tool: {kind: translator_engine, engine: asked}, reader: asked}
engines:
  asked: {kind: local, model: none}
student: {engine: asked}
keep_unverified: true
teachers: [asked]
attempts: 1
cassette: true
responders:
  - {name: one, engine: asked}
"""


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (("kind: wiki_search, corpus: sample}, reader", "kind: wiki_serach, corpus: sample}, reader"), 10, "unknown kind of tool 'wiki_serach'; choose from: .*wiki_search"),
        (("kind: wiki_search, corpus: sample}, reader", "kind: wiki_search, corups: sample}, reader"), 10, "corups is not an argument of wiki_search; choose from: corpus"),
        (("kind: wiki_search, corpus: sample}, reader", "kind: wiki_search}, reader"), 10, "needs the argument 'corpus'"),
        (("search: {kind: wiki_search, corpus: sample}", "search: sample"), 11, "search is a tool, such as"),
        (("kind: translator_engine, engine: asked", "kind: translator_engine, engine: aksed"), 12, "unknown engine 'aksed'"),
        (("kind: translator_engine, engine: asked", "kind: translator, model: x, devise: cpu"), 12, "devise is not an argument of translator; choose from: model, .*device, "),
        (("kind: translator_engine, engine: asked", "kind: translator, device: cpu"), 12, "needs the argument 'model'"),
        (("reader: asked, strict", "reader: aksed, strict"), 10, "reader names an unknown engine 'aksed'"),
        ((", reader: asked, strict: true", ""), 10, "qa needs a reader: the engine that reads what WikiSearch gives"),
        (("tool: {kind: translator_engine, engine: asked}, ", ""), 12, "mlqa needs a tool"),
        (("  mlqa: {", "  mqla: {"), 12, "unknown task 'mqla'"),
        (("keep_unverified: true", "task: qa"), 16, "is 'qa', but the sources are of math, lama, mlqa"),
        (("teachers: [asked]", "teachers: [annotations]"), 17, "teachers needs an engine: annotations write formulas, no calls of the task 'qa'"),
        (("teachers: [asked]", "teachers: []"), 17, "teachers needs an entry"),
        (("kind: wiki_search, corpus: sample}, reader", "kind: wiki_search, name: Find, corpus: sample}, reader"), 10, "name cannot be chosen"),
        (("search: {kind: wiki_search, corpus: sample}", "search: {kind: 3}"), 11, "search is a tool, such as"),
        (("engine: asked, search", "engine: [asked], search"), 11, "unknown engine"),
        (("{name: sample_qa, rows: 2}", "{name: sample_qa, rows: 2, options: {cut: true}}"), 6, "unknown option 'cut'"),
        (("strict: true", "reader_style: alpca"), 10, "unknown prompt style 'alpca'"),
    ],
)  # fmt: skip
def test_a_mistake_about_a_tool_points_at_its_line(
    tmp_path: Path, change: tuple[str, str], line: int, words: str
) -> None:
    assert load_recipe(written(tmp_path, FOUR)).tasks["qa"].strict
    assert change[0] in FOUR
    with pytest.raises(InputError, match=rf"recipe.yaml:{line}: .*{words}"):
        load_recipe(written(tmp_path, FOUR.replace(*change)))


def test_options_of_a_tools_model_are_among_its_arguments(tmp_path: Path) -> None:
    made = "kind: translator, model: x, device: cpu, num_beams: 2"
    tool = (
        load_recipe(written(tmp_path, FOUR.replace("kind: translator_engine, engine: asked", made))).tasks["mlqa"].tool
    )
    assert tool is not None
    assert tool.arguments == {"model": "x", "device": "cpu", "num_beams": 2}


def respond_to_all(request: Request) -> str:
    """One model for every role: it uses whatever tool it is told of."""
    told = " ".join(message.content for message in request.messages)
    for tool in ("calculator", "WikiSearch", "translator", "QA"):
        if f"{tool}(" in told:
            return f"{tool}({'2*4' if tool == 'calculator' else 'the tower of the city'})"
    return "The answer is 8."


def test_four_tasks_are_published_by_themselves_and_as_a_mix(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, FOUR))
    asked = scripted(respond_to_all, progress=False)
    recipe = recipe.model_copy(update={"engines": {"asked": asked}, "out": str(tmp_path / "data")})
    done = run_recipe(recipe)
    assert done.tasks == ("math", "qa", "lama", "mlqa")

    def of(name: str) -> Dataset:  # `load_dataset` would parse the whole card for each of them
        return Dataset.from_parquet(str(next((done.out / name).glob("*.parquet"))))

    mixed = {}
    for stage in ("stage1", "stage2", "dropped"):
        own = {task: of(f"{task}-{stage}") for task in done.tasks if (done.out / f"{task}-{stage}").exists()}
        assert all(set(table["task"]) == {task} for task, table in own.items())
        mixed[stage] = sum(len(table) for table in own.values())
        if stage == "dropped":
            mixed["not drawn"] = sum(table["reason"][:].count("not_drawn") for table in own.values())
        if stage != "dropped":
            assert len(load_dataset(str(done.out), f"mix-{stage}", split="train")) == mixed[stage]
    assert mixed["stage2"] + mixed["dropped"] - mixed["not drawn"] == 8 == len(done.questions)
    assert mixed["not drawn"] == len(load_source("sample_mlqa")) - 2
    assert {row["tool"] for row in of("qa-cassette")} == {
        "WikiSearch",
        "reader of WikiSearch",
    }
    card = (done.out / "README.md").read_text(encoding="utf-8")
    assert "In `qa-stage1` the target of 2 of 2 rows is a tool call (2 not verified)" in card
    assert "| qa | WikiSearch | bm25s " in card
    for task in done.tasks:
        names = ("responded", "stage2", "cassette")
        responded, stage2, cassette = (of(f"{task}-{name}") for name in names)
        strict = replace(TASKS[task], grade=partial(grade, strict=True)) if task == "qa" else None
        assert build_stage2(responded, cassette=cassette, task=strict).to_list() == stage2.to_list()


def test_a_foreign_folder_is_found_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("ten years of work")
    with pytest.raises(InputError, match="is not a published data set"):
        run_recipe(small({"kind": "no such kind", "model": "x"}, tmp_path))


def test_two_numbers_of_rows_exclude_each_other() -> None:
    with pytest.raises(InputError, match=r"--rows.*--all.*exclude each other"):
        load_recipe("demo", rows=3, all_rows=True)


def test_an_unknown_recipe_lists_the_shipped_ones() -> None:
    with pytest.raises(InputError, match="neither a file nor one of api, demo, lama, mix, mlqa, qa"):
        load_recipe("dmeo")


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_shipped_recipes_are_valid(name: str) -> None:
    recipe = load_recipe(name, rows=7)
    assert {source.rows for source in recipe.sources} == {7}
    assert load_recipe(name, all_rows=True).sources[0].rows is None


def test_the_command_line_lists_its_command_and_options() -> None:
    result = CliRunner().invoke(app, ["run", "--help"])
    assert result.exit_code == 0
    assert "--all" in result.output
