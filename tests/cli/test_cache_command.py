"""The command `cache`: sizes, removal by age, recipe and published folder; replies only if they are named."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from toolrlef_data import EngineSpec, InputError, answer, grade, load_source, publish, scripted, subset
from toolrlef_data.cli.main import app
from toolrlef_data.engines.reply_store import store_path
from toolrlef_data.tables.cache import processes
from toolrlef_data.tables.cache.removal import stored_stages


def student(reply: str) -> EngineSpec:
    return scripted({"": reply}, progress=False)


@pytest.fixture(autouse=True)
def published(fresh_caches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A published folder, stages behind it, and a stage that is behind no folder."""
    monkeypatch.chdir(tmp_path)
    questions = subset(load_source("sample", split="train"), 12)
    out = publish({"math": {"graded": grade(answer(questions, student("It is 1.")))}}, "out", version="1.0.0")
    answer(questions, student("It is 2."))
    processes._release(0, os.getpid())  # as if another process had made them
    return out


def run(*arguments: str, text: str = "") -> dict[str, Any]:
    result = CliRunner().invoke(app, ["cache", "--format", "json", *arguments], input=text)
    if isinstance(result.exception, InputError):
        raise result.exception
    assert result.exit_code == 0, result.output
    facts: dict[str, Any] = json.loads(result.output)
    return facts


def steps() -> list[str]:
    return sorted(stage.step for stage in stored_stages())


def test_sizes() -> None:
    caches = run()["caches"]
    assert list(caches) == ["stages", "replies", "indexes", "models", "adapters"]
    assert caches["replies"]["bytes"] == sum(
        path.stat().st_size for path in store_path().parent.glob("replies.sqlite*") if path.is_file()
    )
    assert caches["stages"]["files"] > 5
    assert caches["adapters"] == {**caches["adapters"], "bytes": 0, "files": 0, "last_use": None}
    text = CliRunner().invoke(app, ["cache"]).output
    assert "adapters" in text
    assert "last use" in text
    assert "Removed" not in text


def test_all_but_those_behind_a_folder(published: Path) -> None:
    before = steps()
    dry = run("--keep", str(published), "--dry-run")
    assert steps() == before
    done = run("--keep", str(published))
    assert done["stages"] == dry["stages"]
    assert done["stages"]["removed"] >= 1
    assert done["caches"]["stages"]["bytes"] == dry["caches"]["stages"]["bytes"] - done["stages"]["bytes"]
    assert steps().count("answer") == before.count("answer") - 1
    assert steps().count("graded") == 1


def test_by_recipe(published: Path) -> None:
    recipe = Path("recipe.yaml")
    text = """
name: Figs
version: 1.0.0
out: {out}
sources: [{{name: sample, split: train}}]
engines: {{m: {{kind: openai_api, model: m, base_url: "http://127.0.0.1:9/v1"}}}}
student: {{engine: m}}
teachers: [annotations]
responders: [{{name: one, engine: m}}]
"""
    recipe.write_text(text.format(out="none"))
    with pytest.raises(InputError, match=r"none has no provenance\.json of a published data set"):
        run("--recipe", str(recipe))
    recipe.write_text(text.format(out=published))
    assert run("--recipe", str(recipe))["stages"]["removed"] >= 2
    assert "graded" not in steps()
    assert steps().count("answer") == 2, "the other answers stay, and so do their inputs"
    assert "subset" in steps()


def test_by_age() -> None:
    assert run("--older-than", "1h")["stages"]["removed"] == 0
    for stage in stored_stages():
        for file in stage.files:
            os.utime(file, ns=(0, 0))
    assert run("--older-than", "4w")["stages"]["kept"] == 0
    assert steps() == []
    with pytest.raises(
        InputError, match="--older-than: expected hours, days or weeks, such as 12h, 30d or 4w, found 'old'"
    ):
        run("--older-than", "old")


def test_replies_are_removed_only_by_name_and_after_a_question() -> None:
    run("--older-than", "0h")
    assert store_path().exists()
    result = CliRunner().invoke(app, ["cache", "--replies"], input="n\n")
    assert result.exit_code == 1
    assert store_path().exists()
    assert run("--replies", "--dry-run")["replies"]["bytes"] > 0
    assert store_path().exists()
    run("--replies", "--yes")
    assert not store_path().exists()
    load_source("sample", split="train")  # this process uses the cache again
    with pytest.raises(InputError, match="a process is running"):
        run("--replies", "--yes")
