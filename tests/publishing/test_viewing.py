"""Rows for the eye: responses side by side, nothing that a terminal or a browser would execute, and exact filters."""

from __future__ import annotations

import builtins
import html.parser
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, Features, Value
from typer.testing import CliRunner

from tests.support.caches import use_caches
from toolrlef_data import (
    ANNOTATIONS,
    InputError,
    Responder,
    answer,
    build_stage1,
    build_stage2,
    grade,
    load_recipe,
    load_source,
    make_questions,
    preview,
    publish,
    respond,
    scripted,
    show,
)
from toolrlef_data.cli.main import app
from toolrlef_data.columns import RESPONSE
from toolrlef_data.publishing.viewing import MAX_TEXT, plain_text

HOSTILE = "It is \x1b[31m1\x1b[0m\x1b]0;title\x07 <script>alert('1')</script> \u202e [bold red]& \x9b2J\x00"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    with use_caches(tmp_path_factory.mktemp("caches")):
        questions = load_source("sample", split="train").select(range(3))
        graded = grade(answer(questions, scripted({"": "It is 0."}, progress=False)))
        stage1 = build_stage1(graded, ANNOTATIONS)
        replies = {"hostile": HOSTILE, "div": "calculator(1/0)", "long": "x" * (MAX_TEXT + 1) + " 1"}
        responders = [Responder(name, scripted({"": reply}, progress=False)) for name, reply in replies.items()]
        responded = respond(stage1, responders)
        made = {"questions": questions, "graded": graded, "stage1": stage1, "responded": responded}
        made["stage2"] = build_stage2(responded)
        return {name: Dataset.from_list(data.to_list(), features=data.features) for name, data in made.items()}


class Cells(html.parser.HTMLParser):
    """The texts of an HTML table by row, and all tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002  # of the base class
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self.in_cell = self.in_cell and tag not in ("th", "td")

    def handle_data(self, data: str) -> None:
        if self.in_cell:
            self.rows[-1][-1] += data


def test_responses_are_side_by_side(tables: dict[str, Dataset]) -> None:
    cells = Cells(show(tables["stage2"], 1)._repr_html_())
    rows = {row[0]: row[1:] for row in cells.rows}
    assert rows[""] == ["gold", "hostile", "div", "long"]
    assert rows["score"] == ["20", "15", "0", "10"]
    assert rows["grade"] == ["correct", "wrong", "wrong", "wrong"]
    assert rows["call"] == ["calculator(36+36/2)", "", "calculator(1/0)", ""]
    assert rows["result"] == ["54.0", "", "", ""]
    assert rows["error"] == ["", "", "zero_division: division by zero", ""]


def test_nothing_in_a_response_is_executed(tables: dict[str, Dataset]) -> None:
    view = show(tables["stage2"], 1)
    cells = Cells(view._repr_html_())
    assert cells.tags == {"div", "b", "table", "tr", "th", "td", "p"}
    (response,) = [row[2] for row in cells.rows if row[0] == "response"]
    assert response == "It is 1 <script>alert('1')</script>  [bold red]& "
    for text in (str(view), repr(view), view._repr_html_()):
        assert all(char.isprintable() or char in "\n\t" for char in text)
        assert "[bold red]" in text, "markup of rich is text"


def test_the_text_of_a_view_in_a_notebook_is_not_displayed_twice(
    tables: dict[str, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = str(show(tables["stage2"], 1))
    shell = type("ZMQInteractiveShell", (), {})  # by this name, rich knows a notebook
    monkeypatch.setattr(builtins, "get_ipython", shell, raising=False)
    assert str(show(tables["stage2"], 1)) == expected


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("\x1b[1;31mred\x1b[m", "red"),
        ("\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0\x1b\\", ""),
        ("\x1b(Bx\x1bcx\x1b", "xx"),
        ("a\r\nb\tc\rd\x08", "a\nb\tcd"),
        ("\u202eabc\u2066", "abc"),
        ("\x1b]" * 9, ""),
        ("Zürich \U0001f41f", "Zürich \U0001f41f"),
    ],
)
def test_escape_sequences_are_removed(text: str, plain: str) -> None:
    assert plain_text(text) == plain


@pytest.mark.parametrize("name", ["questions", "graded", "stage1", "responded", "stage2"])
@pytest.mark.parametrize("format", [None, "numpy", "pandas", "arrow"])
def test_every_table_in_every_format(tables: dict[str, Dataset], name: str, format: str | None) -> None:
    text = str(show(tables[name].with_format(format), 2))
    assert text == str(show(tables[name], 2))
    assert "How many bowls does it fire" in " ".join(text.split())
    assert text.endswith("2 of 3 rows")


def test_splits_and_long_texts(tables: dict[str, Dataset]) -> None:
    splits = DatasetDict(train=tables["stage2"], test=tables["stage2"].select(range(0)))
    view = show(splits, 1)
    assert view.note == "train: 1 of 3 rows; test: 0 of 0 rows"
    assert view.samples[0].panels[3].facts["response"].endswith("x... (2,003 characters)")


def test_prices_are_no_formulas_and_a_long_context_is_cut() -> None:
    row = {"question": "What do $4 and $5 make?", "answers": "9", "context": "x" * (MAX_TEXT + 1)}
    view = show(make_questions([row], task="math", context="context"))
    assert view._repr_html_().startswith('<div class="tex2jax_ignore mathjax_ignore">')
    assert view._repr_html_().count("<div") == view._repr_html_().count("</div>")
    assert view.samples[0].question.endswith("x... (2,001 characters)\nWhat do $4 and $5 make?\nGold: 9")


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ({"errors": "zero_division"}, ["sample-001", "sample-002", "sample-003"]),
        ({"errors": "syntax"}, []),
        ({"id": "sample-002"}, ["sample-002"]),
        ({"correct": None}, []),
        ({"correct": "false", "id": "sample-003"}, ["sample-003"]),
        ({"scores": 20}, ["sample-001", "sample-002", "sample-003"]),
        ({"scores": [20, 15, 0, 10]}, ["sample-001", "sample-002", "sample-003"]),  # a list is the whole list
        ({"scores": [20, 15, 0]}, []),
        (lambda row: len(row["input"]) < 20, ["sample-002"]),
    ],
)
def test_filters(tables: dict[str, Dataset], where: Any, ids: list[str]) -> None:
    assert [sample.title.split()[0] for sample in show(tables["stage2"], 9, where=where).samples] == ids


@pytest.mark.parametrize(
    ("fields", "grade", "error"),
    [
        ({"correct": True, "error": "timeout"}, "correct", "timeout"),
        ({"n_calls": 1, "tool_error": "syntax", "tool_error_detail": "line 1"}, "not graded", "syntax: line 1"),
        ({"n_calls": 1, "tool_error": "syntax", "error": "timeout"}, "not graded", "syntax"),
        ({}, None, None),  # no step has graded it
    ],
)
def test_grade_and_error_of_a_response(fields: dict[str, Any], grade: str | None, error: str | None) -> None:
    response = {**dict.fromkeys(RESPONSE), "text": "1", **fields}
    table = Dataset.from_list(
        [{"id": "a", "gpt": response}], features=Features({"id": Value("string"), "gpt": RESPONSE})
    )
    facts = show(table).samples[0].panels[0].facts
    assert (facts.get("grade"), facts.get("error")) == (grade, error)


def test_a_text_of_the_maximum_is_not_cut() -> None:
    row = {"id": "a", "note": "x" * MAX_TEXT}
    assert show(Dataset.from_list([row])).samples[0].panels[0].facts["note"] == row["note"]


def test_a_filter_of_a_field(tables: dict[str, Dataset]) -> None:
    assert len(show(tables["responded"], 9, where={"hostile.finish_reason": "stop"}).samples) == 3
    for path in ("nope", "hostile.nope", "id.nope"):
        with pytest.raises(InputError, match=f"unknown column in where: '{path}'"):
            show(tables["responded"], where={path: "x"})


@pytest.mark.parametrize(("table", "n", "message"), [([], 3, "a Dataset"), (None, 0, "at least 1")])
def test_bad_arguments(tables: dict[str, Dataset], table: Any, n: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        show(tables["stage2"] if table is None else table, n)


def test_the_command_shows_a_published_folder(tables: dict[str, Dataset], tmp_path: Path) -> None:
    publish({"math": {name: tables[name] for name in ("stage1", "stage2")}}, tmp_path / "out", version="1.0.0")

    def run(*words: str) -> str:
        return CliRunner().invoke(app, ["show", str(tmp_path / "out"), *words], catch_exceptions=False).output

    text = run("--id", "sample-002")
    assert "What is 5 + 3?" in text
    assert "config math-stage2; all configs: math-stage1, math-stage2" in text
    for words in ([], ["--id", "sample-002"]):
        assert "train: 0 of 3 rows that match" in run("--where", "errors=syntax", *words), "all conditions hold"
    assert "that match" not in run("-n", "1")
    assert "calculator(5+3)" in run("--config", "math-stage1", "--where", " id = sample-002 "), "blanks do not count"
    for words, message in (
        (["--config", "nope"], "unknown config 'nope'"),
        (["--where", "errors"], "expected COLUMN=VALUE"),
        (["--where", " =syntax"], "expected COLUMN=VALUE"),
    ):
        with pytest.raises(InputError, match=message):
            run(*words)
    with pytest.raises(InputError, match="has no published data set"):
        CliRunner().invoke(app, ["show", str(tmp_path)], catch_exceptions=False)


def test_a_preview_runs_all_of_a_recipe_on_three_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("demo")
    model = scripted({"": "It is 1."}, progress=False)
    responders = tuple(responder for responder in recipe.responders if responder.engine in recipe.engines)[:1]
    recipe = recipe.model_copy(
        update={"warm_up": None, "responders": responders, "engines": dict.fromkeys(recipe.engines, model)}
    )
    run = preview(recipe)
    assert (len(run.questions), run.out) == (3, Path(f"{recipe.out}-preview").absolute())
    assert len(show(run.stage2).samples) == len(run.stage2) > 0
    again = preview(recipe, rows=2)
    assert (len(again.questions), again.out) == (2, run.out), "an earlier preview is replaced"
    Path("other").mkdir()
    Path("other/README.md").write_text("mine")
    with pytest.raises(InputError, match="other"):
        preview(recipe, out="other")
