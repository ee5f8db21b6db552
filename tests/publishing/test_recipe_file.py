"""The published recipe: it is the one that ran, without secrets, local paths and private addresses."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset

from toolrlef_data import InputError, load_recipe, publish
from toolrlef_data.publishing.recipe_file import RecipeFile, commit_of
from toolrlef_data.recipes.loading import shipped_recipes
from toolrlef_data.recipes.runner import recipe_file

SECRET = "a-key-that-nobody-may-read"


def publish_with(folder: Path, values: Any, commit: str | None = None, **options: Any) -> Path:
    table = Dataset.from_list([{"id": "1", "question": "1 + 1?"}])
    recipe = RecipeFile(values, commit)
    return publish({"math": {"questions": table}}, folder, version="1.0.0", recipe=recipe, **options)


def test_the_recipe_is_published_with_its_commit(tmp_path: Path) -> None:
    values = {"name": "Sümmen: x", "engines": {"a": {"model": "/home/me/tiny", "base_url": "http://10.0.0.7/v1"}}}
    out = publish_with(tmp_path / "data", values, commit="abc123")
    facts = json.loads((out / "provenance.json").read_text())
    assert facts["recipe"] == {"file": "recipe.yaml", "commit": "abc123", "date": None}
    assert "recipe.yaml" in facts["files"]
    assert "from the commit `abc123`" in (out / "README.md").read_text()
    assert yaml.safe_load((out / "recipe.yaml").read_text()) == {
        "name": "Sümmen: x",
        "engines": {"a": {"model": "tiny", "base_url": "a private server"}},
    }
    # Another recipe with the same rows is no other version, and the next version replaces it.
    publish_with(out, {"name": "other"})
    assert (out / "recipe.yaml").read_text() == "name: other\n"
    assert "from the commit" not in (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"engines": {"a": {"options": {"key": f"Bearer {SECRET}"}, "keys": "MY_KEY"}}}, "engines.a.options.key"),
        ({"engines": {"a": {"keys": ["$MY_KEY"], "headers": [["X", SECRET]]}}}, r"engines.a.headers.0.1"),
        ({"hub": {"repo": "hf_" + "abcDEF123456" * 2}}, "hub.repo"),
        ({"card": {"sk-proj-0123456789abcdef": 1}}, r"card.\(key\)"),
    ],
)
def test_a_recipe_with_a_secret_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: Any, place: str
) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    with pytest.raises(InputError, match=rf"a secret at {place}") as error:
        publish_with(tmp_path / "data", values)
    assert SECRET not in str(error.value)
    assert not (tmp_path / "data").exists()


def test_names_of_variables_are_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    monkeypatch.setenv("MY_URL", "EMPTY")
    out = publish_with(tmp_path / "data", {"keys": "MY_KEY", "base_url": "$MY_URL", "name": "EMPTY"})
    assert yaml.safe_load((out / "recipe.yaml").read_text()) == {
        "keys": "MY_KEY",
        "base_url": "$MY_URL",
        "name": "EMPTY",
    }


def test_a_file_of_the_user_with_the_name_is_not_replaced(tmp_path: Path) -> None:
    out = publish_with(tmp_path / "data", {"name": "a"})
    (out / "recipe.yaml").write_text("mine")
    with pytest.raises(InputError, match=r"recipe\.yaml has changed since"):
        publish_with(out, {"name": "b"})
    assert (out / "recipe.yaml").read_text() == "mine"


def test_other_layouts_and_own_entries_have_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no recipe"):
        publish_with(tmp_path / "data", {}, layout="trice")
    with pytest.raises(InputError, match="the reserved key 'recipe'"):
        publish_with(tmp_path / "data", {}, provenance={"recipe": "mine"})


@pytest.mark.parametrize("name", shipped_recipes())
def test_the_published_recipe_loads_as_the_same_recipe(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, rows=3)
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe_file(recipe).text())
    assert load_recipe(file).model_dump() == recipe.model_dump()


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *settings, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_loaded_recipe_is_published_with_the_commit_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    shutil.copy(shipped_recipes()["demo"], file)
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "a")
    for rows in (None, 3):
        assert recipe_file(load_recipe(file, rows=rows)).commit == git(tmp_path, "rev-parse", "HEAD")


def test_the_commit_is_the_last_one_of_the_unchanged_file(tmp_path: Path) -> None:
    file = tmp_path / "recipes" / "[a] recipe.yaml"
    file.parent.mkdir()
    file.write_text("name: a\n")
    assert commit_of(file) is None, "in no repository"
    git(tmp_path, "init", "-q")
    assert commit_of(file) is None, "not committed"
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "one")
    first = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "notes").write_text("x")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "another file")
    assert commit_of(file) == first
    file.write_text("name: b\n")
    assert commit_of(file) is None, "changed since"
    assert commit_of(tmp_path / "none.yaml") is None
    git(tmp_path, "rm", "-q", "--cached", "-r", "recipes")
    (tmp_path / ".gitignore").write_text("recipes\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "not published")
    assert commit_of(file) is None, "ignored"
