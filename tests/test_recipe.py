"""recipe and cli: a whole run from one file, and mistakes that point at their line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from toolrlef_data import InputError, load_recipe
from toolrlef_data.cli import app
from toolrlef_data.recipe import shipped_recipes

GOOD = """\
name: Small
version: 1.0.0
out: out/small
sources:
  - {name: sample, rows: 12}
engines:
  student: {kind: scripted, model: none}
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
        (("name: sample", "name: gsm9k"), 5, "names an unknown source 'gsm9k'; choose from: asdiv, gsm8k, sample, svamp"),
        (("kind: scripted", "kind: vllm"), 7, "names an unknown engine kind 'vllm'; choose from: local, scripted"),
        (("student: {engine: student}", "student: {engine: pupil}"), 8, "unknown engine 'pupil'; choose from: student"),
        (("student: {engine: student}\n", ""), 1, "student is missing"),
        (("name: one, engine", "name: one, style: haiku, engine"), 10, "unknown prompt style 'haiku'; choose from: alpaca"),
        (("out: out/small", "out: out/small\nlayout: csv"), 4, "unknown layout 'csv'; choose from: hub, trice, trice-old"),
        (("out: out/small", "out: out/small\nstage2: {rule: best}"), 4, "unknown scoring rule 'best'"),
        (("out: out/small", "out: out/small\nteachers: [gpt]"), 4, "unknown teacher 'gpt'; choose from: annotations, student"),
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


def test_an_unknown_recipe_lists_the_shipped_ones() -> None:
    with pytest.raises(InputError, match="neither a file nor one of demo"):
        load_recipe("dmeo")


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_shipped_recipes_are_valid(name: str) -> None:
    recipe = load_recipe(name, rows=7)
    assert [source.rows for source in recipe.sources] == [7]
    assert load_recipe(name, all_rows=True).sources[0].rows is None


def test_the_command_line_lists_its_command_and_options() -> None:
    result = CliRunner().invoke(app, ["run", "--help"])
    assert result.exit_code == 0
    assert "--all" in result.output
