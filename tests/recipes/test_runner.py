"""Recipes and their command: a complete run from one file, and error messages with the line of the mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_dataset
from typer.testing import CliRunner

from tests.support.api_server import ApiServer
from toolrlef_data import TASKS, InputError, build_stage2, load_recipe, load_source, publish, run_recipe, scripted
from toolrlef_data.cli.main import _print_run, app
from toolrlef_data.engines.spec import Request
from toolrlef_data.recipes import loading
from toolrlef_data.recipes.loading import shipped_recipes
from toolrlef_data.recipes.schema import Recipe

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


def write_recipe(tmp_path: Path, text: str) -> Path:
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
        (("kind: local", "kind: vllm"), 7, "engines.student unknown engine kind 'vllm'; choose from: local"),
        (("student: {engine: student}", "student: {engine: pupil}"), 8, "unknown engine 'pupil'; choose from: student"),
        (("student: {engine: student}\n", ""), 1, "student is missing"),
        (("name: one, engine", "name: one, style: haiku, engine"), 10, "unknown prompt style 'haiku'; choose from: alpaca"),
        (("out: out/small", "out: out/small\nlayout: csv"), 4, "unknown layout 'csv'; choose from: hub, trice, trice-old"),
        (("out: out/small", "out: out/small\nstage2: {rule: best}"), 4, "unknown scoring rule 'best'"),
        (("out: out/small", "out: out/small\nteachers: [gpt]"), 4, "unknown teacher 'gpt'; choose from: annotations, student"),
        (("kind: local", "kind: scripted"), 7, "kind is 'scripted', which is available in Python only; choose from: local"),
        (("kind: local", "options: [1], kind: local"), 7, "engines.student.options"),
        (("kind: local", "kind: openai_api, adapter: x"), 7, "engines.student adapter is not supported by the openai_api engine"),
        (("kind: local", "keys: sk-0123456789, kind: openai_api"), 7, "engines.student.keys must be names of environment variables"),
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
        (("name: one", "name: a.b"), 10, "without dots"),
        (("name: one", "name: one, samples: 2"), 10, "responders.0.samples of the greedy engine 'student'"),
        (("student: {engine: student}", "student: {engine: student, samples: 3}"), 8, "student.samples of the greedy engine"),
        (("name: one, engine: student", "name: one, samples: 2, engine: w}\nwarm_up: {name: w, engine: student"), 10, "of the greedy engine 'w'"),
        (("out: out/small", "out: out/small\nwarm_up: {name: student, engine: student}"), 4, "warm_up.name is the name of another engine"),
        (("out: out/small", "out: out/small\nstage2: {trusted: [chatgpt]}"), 4, "unknown responder 'chatgpt'; choose from: gold, one"),
        (("out: out/small", "out: out/small\nstage2: {rule: paper, ties: share}"), 4, "stage2.ties is not an option of the rule 'paper'"),
        (("out: out/small", "out: out/small\nneed: {engine: z}"), 4, "need.engine names an unknown engine 'z'"),
        (("out: out/small", "out: out/small\nneed: {samples: 8}"), 4, "need.samples of the greedy engine"),
        (("out: out/small", "out: out/small\nneed: {unsure: maybe}"), 4, "need.unsure"),
        (("out: out/small", "out: out/small\nlayout: trice\ncard: {license: mit}"), 5, "card is not supported by the layout 'trice'; expected 'hub'"),
        (("out: out/small", "out: out/small\ncard: {licence: mit}"), 4, "card.licence is an unknown key: did you mean 'license'"),
        (("out: out/small", "out: out/small\nhub: {repo: small}"), 4, "hub.repo cannot be used: expected the id of a repository.*found 'small'"),
        (("out: out/small", "out: out/small\nlayout: trice\nhub: {repo: org/small}"), 5, "hub is not supported by the layout 'trice'"),
        (("out: out/small", "out: out/small\nhub: {repo: org/small, token: x}"), 4, "hub.token is not a key of this section"),
    ],
)  # fmt: skip
def test_error_has_the_line_of_the_mistake(tmp_path: Path, change: tuple[str, str], line: int, words: str) -> None:
    assert change[0] in GOOD
    path = write_recipe(tmp_path, GOOD.replace(*change))
    with pytest.raises(InputError, match=rf"recipe.yaml:{line}: .*{words}"):
        load_recipe(path)


def test_error_lists_all_mistakes(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, GOOD.replace("rows: 12", "rows: 0").replace("out: out/small\n", ""))
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    assert len(str(caught.value).splitlines()) == 2


def test_an_error_of_a_key_lists_the_keys_of_its_section(tmp_path: Path) -> None:
    for old, new, words in (
        (
            "sources:",
            "responder: []\nsources:",
            "responder is not a key of this section; did you mean responders? Its keys: accept_",
        ),
        ("rows: 12", "row: 12", "; did you mean rows? Its keys: answers, config, context, "),
        ("kind: local", "temprature: 1, kind: local", "; did you mean temperature? Its keys: adapter, base_url"),
        (
            "out: out/small",
            "out: out/small\nhub: {repo: org/small, token: x}",
            "hub.token is not a key of this section. Its keys: private, repo",
        ),
    ):
        with pytest.raises(InputError) as caught:
            load_recipe(write_recipe(tmp_path, GOOD.replace(old, new)))
        assert words in str(caught.value)


def never_asked(request: Request) -> str:
    raise AssertionError("a responder was asked")


def test_a_run_without_a_row_in_stage_1_asks_no_responder_and_says_why(tmp_path: Path) -> None:
    models = {"student": scripted({"": "It is 0."}, progress=False), "other": scripted(never_asked, progress=False)}
    teacher = scripted({"": "calculator(1-1)"}, progress=False)
    recipe = load_recipe(write_recipe(tmp_path, GOOD)).model_copy(
        update={"engines": {**models, "teacher": teacher}, "teachers": ("teacher",), "attempts": 1}
    )
    responders = tuple(section.model_copy(update={"engine": "other"}) for section in recipe.responders)
    with pytest.raises(InputError) as caught:
        run_recipe(recipe.model_copy(update={"responders": responders}), out=tmp_path / "out")
    first, *rows = str(caught.value).splitlines()
    assert first.startswith(
        "stage 1 has no row, so nothing is published: all 12 questions were dropped (wrong_value 12; docs"
    )
    assert len(rows) == 3
    assert all(row.endswith(": wrong_value: calculator(1-1) -> 0") for row in rows)


def test_an_error_of_a_source_names_the_line_of_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("text,right\nHow many?,5\n")
    source = f"name: {tmp_path}/own.csv, task: math, question: txet, answers: right"
    path = write_recipe(tmp_path, GOOD.replace("name: sample", source))
    assert source in path.read_text()
    with pytest.raises(InputError) as caught:
        run_recipe(load_recipe(path), out=tmp_path / "out")
    assert str(caught.value).startswith(f"{path}:5: sources.0: the table lacks the columns of question='txet'")


@pytest.mark.parametrize(
    ("text", "words"),
    [("a: [", "is not valid YAML"), ("- 1", "a recipe must be a mapping with the keys name"), ("", "found None")],
)
def test_error_names_a_file_that_is_not_a_recipe(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_recipe(write_recipe(tmp_path, text))


def test_error_names_an_unreadable_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        load_recipe(tmp_path)
    (tmp_path / "model.gguf").write_bytes(b"GGUF\xff\xfe")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        load_recipe(tmp_path / "model.gguf")


def test_options_reach_the_spec_and_the_rule(tmp_path: Path) -> None:
    text = GOOD.replace("model: none", "model: none, options: {enable_thinking: false, b: 2}")
    recipe = load_recipe(write_recipe(tmp_path, text + "stage2: {ties: share}\nkeep_unverified: true\n"))
    assert recipe.engines["student"].options == (("b", 2), ("enable_thinking", False))
    assert recipe.stage2.model_dump(exclude_none=True) == {
        "rule": "trice", "trusted": (), "compat": False, "lacking": "drop_row", "ties": "share"
    }  # fmt: skip
    assert recipe.keep_unverified


def small(engine: dict[str, Any], out: Path, **sections: Any) -> Recipe:
    """Return a minimal recipe with an engine, which can be scripted."""
    minimal = {
        "name": "Small", "version": "1.0.0", "out": str(out), "sources": [{"name": "sample", "rows": 12}],
        "engines": {"student": engine}, "student": {"engine": "student"}, "responders": [{"name": "one", "engine": "student"}],
    }  # fmt: skip
    return Recipe.model_validate({**minimal, **sections})


@pytest.mark.parametrize("layout", ["hub", "trice"])
def test_run_publishes_and_prints_the_folder(layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = small({"kind": "scripted", "model": "x"}, tmp_path / "data", layout=layout, stage2={"ties": "share"})
    recipe = recipe.model_copy(update={"engines": {"student": scripted({"": "calculator(2*4)"}, progress=False)}})
    _print_run(run_recipe(recipe))
    output = capsys.readouterr().out
    assert ("load_dataset(" in output) == (layout == "hub")
    assert ("stage2/math/math.json" in output) == (layout == "trice")


FOUR = """name: Four
version: 1.0.0
out: out/four
sources:
  - {name: sample, rows: 2}
  - {name: sample_qa, rows: 2}
  - {name: sample_lama, rows: 2}
  - {name: sample_mlqa, rows: 2, seed: 1}
tasks:
  qa: {tool: {kind: wiki_search, corpus: sample}, reader: model, rule: paper}
  lama: {tool: {kind: qa_engine, engine: model, search: {kind: wiki_search, corpus: sample}}}
  mlqa: {tool: {kind: translator_engine, engine: model}, reader: model}
engines:
  model: {kind: local, model: none}
student: {engine: model}
keep_unverified: true
teachers: [model]
attempts: 1
cassette: true
responders:
  - {name: one, engine: model}
"""


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (("kind: wiki_search, corpus: sample}, reader", "kind: wiki_serach, corpus: sample}, reader"), 10, "unknown tool kind 'wiki_serach'; choose from: .*wiki_search"),
        (("kind: wiki_search, corpus: sample}, reader", "kind: wiki_search, corups: sample}, reader"), 10, "corups is not an argument of wiki_search; choose from: corpus"),
        (("kind: wiki_search, corpus: sample}, reader", "kind: wiki_search}, reader"), 10, "lacks the argument 'corpus' of wiki_search"),
        (("search: {kind: wiki_search, corpus: sample}", "search: sample"), 11, "search must be a tool like"),
        (("kind: translator_engine, engine: model", "kind: translator_engine, engine: mdoel"), 12, "unknown engine 'mdoel'"),
        (("kind: translator_engine, engine: model", "kind: translator, model: x, devise: cpu"), 12, "devise is not an argument of translator; choose from: model, .*device, "),
        (("kind: translator_engine, engine: model", "kind: translator, device: cpu"), 12, "lacks the argument 'model' of translator"),
        (("reader: model, rule", "reader: mdoel, rule"), 10, "reader names an unknown engine 'mdoel'"),
        ((", reader: model, rule: paper", ""), 10, "qa needs a reader, the engine that reads the output of WikiSearch"),
        (("tool: {kind: translator_engine, engine: model}, ", ""), 12, "mlqa needs a tool"),
        (("  mlqa: {", "  mqla: {"), 12, "unknown task 'mqla'"),
        (("keep_unverified: true", "task: qa"), 16, "is 'qa', but some sources have the task math, lama, mlqa"),
        (("teachers: [model]", "teachers: [annotations]"), 17, "teachers needs an engine: annotations yield only formulas, no calls of the task 'qa'"),
        (("teachers: [model]", "teachers: []"), 17, "teachers needs an entry"),
        (("kind: wiki_search, corpus: sample}, reader", "kind: wiki_search, name: Find, corpus: sample}, reader"), 10, "name cannot be set"),
        (("search: {kind: wiki_search, corpus: sample}", "search: {kind: 3}"), 11, "search must be a tool like"),
        (("engine: model, search", "engine: [model], search"), 11, "unknown engine"),
        (("{name: sample_qa, rows: 2}", "{name: sample_qa, rows: 2, options: {cut: true}}"), 6, "unknown option 'cut'"),
        (("rule: paper", "rule: strict"), 10, "tasks.qa.rule input should be 'default' or 'paper', found 'strict'"),
        (("rule: paper", "reader_style: alpca"), 10, "unknown prompt style 'alpca'"),
    ],
)  # fmt: skip
def test_error_has_the_line_of_a_mistake_about_a_tool(
    tmp_path: Path, change: tuple[str, str], line: int, words: str
) -> None:
    assert load_recipe(write_recipe(tmp_path, FOUR)).tasks["qa"].rule == "paper"
    assert change[0] in FOUR
    with pytest.raises(InputError, match=rf"recipe.yaml:{line}: .*{words}"):
        load_recipe(write_recipe(tmp_path, FOUR.replace(*change)))


@pytest.mark.parametrize("value", ["true", "false"])
def test_the_key_strict_is_deprecated_and_means_the_default(tmp_path: Path, value: str) -> None:
    with pytest.warns(DeprecationWarning, match="the key strict of a task is deprecated") as warned:
        recipe = load_recipe(write_recipe(tmp_path, FOUR.replace("rule: paper", f"strict: {value}")))
    assert len(warned) == 1
    assert recipe.tasks["qa"].rule == "default"


def test_strict_and_the_rule_of_the_paper_exclude_each_other(tmp_path: Path) -> None:
    both = FOUR.replace("rule: paper", "rule: paper, strict: true")
    assert both != FOUR
    with pytest.raises(InputError, match=r"tasks\.qa.*'strict: true' and 'rule: paper', which exclude each other"):
        load_recipe(write_recipe(tmp_path, both))


def test_model_options_are_arguments_of_a_tool(tmp_path: Path) -> None:
    settings = "kind: translator, model: x, device: cpu, num_beams: 2"
    path = write_recipe(tmp_path, FOUR.replace("kind: translator_engine, engine: model", settings))
    tool = load_recipe(path).tasks["mlqa"].tool
    assert tool is not None
    assert tool.arguments == {"model": "x", "device": "cpu", "num_beams": 2}


def respond_to_all(request: Request) -> str:
    """Play every role: call the tool of the prompt, or answer the question."""
    prompt = " ".join(message.content for message in request.messages)
    for tool in ("calculator", "WikiSearch", "translator", "QA"):
        if f"{tool}(" in prompt:
            return f"{tool}({'2*4' if tool == 'calculator' else 'the tower of the city'})"
    return "The answer is 8."


def test_four_tasks_are_published_separately_and_as_a_mix(tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path, FOUR))
    model = scripted(respond_to_all, progress=False)
    recipe = recipe.model_copy(update={"engines": {"model": model}, "out": str(tmp_path / "data")})
    result = run_recipe(recipe)
    assert result.tasks == ("math", "qa", "lama", "mlqa")

    def load(name: str) -> Dataset:  # faster than `load_dataset`, which parses the complete card for each config
        return Dataset.from_parquet(str(next((result.out / name).glob("*.parquet"))))

    totals = {}
    for stage in ("stage1", "stage2", "dropped"):
        tables = {task: load(f"{task}-{stage}") for task in result.tasks if (result.out / f"{task}-{stage}").exists()}
        assert all(set(table["task"]) == {task} for task, table in tables.items())
        totals[stage] = sum(len(table) for table in tables.values())
        if stage == "dropped":
            totals["not drawn"] = sum(table["reason"][:].count("not_drawn") for table in tables.values())
        if stage != "dropped":
            assert len(load_dataset(str(result.out), f"mix-{stage}", split="train")) == totals[stage]
    assert totals["stage2"] + totals["dropped"] - totals["not drawn"] == 8 == len(result.questions)
    assert totals["not drawn"] == len(load_source("sample_mlqa")) - 2
    assert {row["tool"] for row in load("qa-cassette")} == {"WikiSearch", "reader of WikiSearch"}
    card = (result.out / "README.md").read_text(encoding="utf-8")
    assert "In 2 of 2 rows of `qa-stage1` (100.0 %) the target is a tool call." in card
    assert "| qa-stage1 | none: not verified | 2 | 100.0 % |" in card
    assert "| qa | WikiSearch | bm25s " in card
    for task in result.tasks:
        names = ("responded", "stage2", "cassette")
        responded, stage2, cassette = (load(f"{task}-{name}") for name in names)
        by_paper = TASKS[task].with_rule("paper") if task == "qa" else None
        assert build_stage2(responded, cassette=cassette, task=by_paper).to_list() == stage2.to_list()


def test_folder_with_other_contents_is_refused_before_any_request(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("ten years of work")
    with pytest.raises(InputError, match="is not a published data set"):
        run_recipe(small({"kind": "scripted", "model": "without replies"}, tmp_path))


UNUSABLE: dict[str, tuple[str, str]] = {
    "an older version": ("data", "has the version 1.0.1, which is newer than 1.0.0"),
    "a path of load_dataset's patterns": ("data [v1]", "load_dataset cannot read a folder"),
    "a name that is too long": ("d" * 256, "cannot be a folder"),
    "a file": ("file", "is not a folder"),
    "a card of the user": ("trice", "README.md was not written by `publish`"),
    "a recipe of the user": ("named", r"recipe.yaml was not written by `publish`"),
    "a card that was edited": ("edited", "README.md has changed since it was published"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_unusable_folder_is_refused_before_any_request(case: str, tmp_path: Path) -> None:
    questions = load_source("sample", split="train").select(range(2))
    for name, layout in (("data", "hub"), ("edited", "hub"), ("trice", "trice"), ("named", "hub")):
        publish({"math": {"questions": questions}}, tmp_path / name, version="1.0.1", layout=layout)
    for name in ("edited", "trice"):
        with open(tmp_path / name / "README.md", "a") as card:
            card.write("my words")
    (tmp_path / "file").touch()
    (tmp_path / "named" / "recipe.yaml").touch()
    folder, words = UNUSABLE[case]
    with ApiServer() as server:
        student = {"kind": "openai_api", "model": "x", "base_url": server.url}
        with pytest.raises(InputError, match=words):
            run_recipe(small(student, tmp_path / folder))
        assert not server.requests


@pytest.mark.parametrize("place", ["recipe", "argument", "command"])
def test_replace_allows_an_older_version(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "data"
    publish({"math": {"questions": load_source("sample", split="train")}}, out, version="1.0.1")
    recipe = small({"kind": "scripted", "model": "x"}, out, replace=place == "recipe")
    recipe = recipe.model_copy(update={"engines": {"student": scripted({"": "calculator(2*4)"}, progress=False)}})
    if place == "command":
        monkeypatch.setattr(loading, "load_recipe", lambda *_, **__: recipe)
        assert CliRunner().invoke(app, ["run", "x"]).exit_code == 1
        assert CliRunner().invoke(app, ["run", "x", "--replace"]).exit_code == 0
    else:
        run_recipe(recipe, replace=place == "argument")
    assert str(load_dataset(str(out), "math-stage2", split="train").version) == "1.0.0"


def test_rows_and_all_rows_are_mutually_exclusive() -> None:
    with pytest.raises(InputError, match=r"--rows.*--all.*are mutually exclusive"):
        load_recipe("demo", rows=3, all_rows=True)


def test_error_for_an_unknown_recipe_lists_the_bundled_ones() -> None:
    with pytest.raises(InputError, match="neither a file nor one of api, demo, lama, mix, mlqa, qa"):
        load_recipe("dmeo")


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_bundled_recipes_are_valid(name: str) -> None:
    recipe = load_recipe(name, rows=7)
    assert {source.rows for source in recipe.sources} == {7}
    assert load_recipe(name, all_rows=True).sources[0].rows is None


def test_help_lists_the_options() -> None:
    result = CliRunner().invoke(app, ["run", "--help"])
    assert result.exit_code == 0
    assert "--all" in result.output
