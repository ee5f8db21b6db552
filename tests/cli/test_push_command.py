"""The command `push`, and the section `hub` of a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import load_dataset
from typer.testing import CliRunner

from tests.support.hub import REPO, repository, use_hub, write
from toolrlef_data import InputError, preview, run_recipe, scripted
from toolrlef_data.cli.main import _print_run, app
from toolrlef_data.engines.spec import Request
from toolrlef_data.recipes.schema import Recipe

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub


def test_push_prints_the_changes_and_the_release(tmp_path: Path) -> None:
    first, second = write(tmp_path / "1", "1.0.0", 9), write(tmp_path / "2", "1.1.0", 7)
    with use_hub() as hub:
        result = CliRunner().invoke(app, ["push", str(first), REPO, "--private"])
        assert (result.exit_code, result.stdout) == (0, f"Tagged v1.0.0: {hub.url}/datasets/{REPO}/tree/v1.0.0\n")
        assert repository(hub).private
        result = CliRunner().invoke(app, ["push", str(second), REPO, "--dry-run"])
        assert result.stdout == "Changes since v1.0.0:\n`math-stage1`: rows: 2 removed\n"
        result = CliRunner().invoke(app, ["push", str(second), REPO, "--create-pr"])
        line = "since v1.0.0: `math-stage1`: rows: 2 removed\n"
        assert result.stdout == f"{line}Not tagged yet: {hub.url}/datasets/{REPO}/discussions/1\n"
        result = CliRunner().invoke(app, ["push", str(second), REPO])
        assert result.stdout == f"{line}Tagged v1.1.0: {hub.url}/datasets/{REPO}/tree/v1.1.0\n"


def recipe(out: Path, **hub: object) -> Recipe:
    engine = scripted({"": "The answer is 8."}, progress=False)
    recipe = Recipe.model_validate(
        {"name": "Small", "version": "1.0.0", "out": str(out), "sources": [{"name": "sample", "rows": 8}]}
        | {"engines": {"student": {"kind": "local", "model": "none"}}, "student": {"engine": "student"}, "hub": hub}
    )
    return recipe.model_copy(update={"engines": {"student": engine}})


def test_a_recipe_pushes_its_folder_and_prints_how_to_load_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with use_hub() as hub:
        run = run_recipe(recipe(tmp_path / "out", repo=REPO, private=True))
        assert run.push is not None
        assert repository(hub).tags == {"v1.0.0": run.push.commit}
        assert repository(hub).private
        _print_run(run)
        (line,) = [line.strip() for line in capsys.readouterr().out.splitlines() if "load_dataset" in line]
        assert line == f'load_dataset("{REPO}", "math-stage2", revision="v1.0.0", split="train")'
        assert len(eval(line, {"load_dataset": load_dataset})) == len(run.stage2)


def test_a_preview_pushes_nothing_and_has_no_more_rows_than_its_recipe(tmp_path: Path) -> None:
    with use_hub() as hub:
        run = preview(recipe(tmp_path / "out", repo=REPO), rows=9)
        assert (run.push, len(run.questions)) == (None, 8)
        assert hub.repositories == {}


def test_a_recipe_that_cannot_push_asks_no_model(tmp_path: Path) -> None:
    asked: list[Request] = []

    def model(request: Request) -> str:
        asked.append(request)
        return "8"

    small, engine = recipe(tmp_path / "out", repo=REPO, private=True), scripted(model, progress=False)
    small = small.model_copy(update={"engines": {"student": engine}})
    with use_hub() as hub:
        CliRunner().invoke(app, ["push", str(write(tmp_path / "1", "1.0.0", 3)), REPO])
        assert not repository(hub).private
        with pytest.raises(InputError, match="public"):
            run_recipe(small)
    assert asked == []
    assert not (tmp_path / "out").exists()
