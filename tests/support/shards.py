"""Recipes with scripted models for runs in shards, and the files of a published folder."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.caches import use_caches
from toolrlef_data import EngineSpec, merge_shards, run_recipe, run_shard, scripted
from toolrlef_data.recipes.schema import Recipe

REPLIES = {
    "": "calculator(2*4)", "Golden": "calculator(3*4", "apples": "It is 8.", "minutes": "calculator(1+",
    "How": "I do not know.", "price": "",
}  # fmt: skip


def small_recipe(out: Path, replies: Mapping[str, str] = REPLIES, rows: int = 20, **sections: Any) -> Recipe:
    """Return a recipe for the bundled math questions with the scripted engines `model` and `warm`."""
    minimal = {
        "name": "Small", "version": "1.0.0", "out": str(out), "sources": [{"name": "sample", "rows": rows}],
        "engines": {name: {"kind": "scripted", "model": "x"} for name in ("model", "warm")},
        "student": {"engine": "model"}, "teachers": ["annotations", "model"], "attempts": 1,
        "responders": [{"name": "one", "engine": "model"}, {"name": "two", "engine": "warm", "samples": 2}],
        "stage2": {"lacking": "drop_response"},
    }  # fmt: skip
    recipe = Recipe.model_validate({**minimal, **sections})
    model = scripted(replies, progress=False)
    return with_engines(recipe, model=model, warm=dataclasses.replace(model, temperature=0.9))


def with_engines(recipe: Recipe, **engines: EngineSpec) -> Recipe:
    return recipe.model_copy(update={"engines": {**recipe.engines, **engines}})


def published_files(folder: Path) -> dict[str, str]:
    """Return name -> SHA-256 of the files of a published folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def run_locally(recipe: Recipe, folder: Path) -> dict[str, str]:
    """Return the published files of a run without shards, with caches of its own."""
    with use_caches(folder / "local-caches"):
        run_recipe(recipe, out=folder / "local")
    return published_files(folder / "local")


def run_in_shards(recipe: Recipe, folder: Path, count: int, machines: int = 2, **options: Any) -> dict[str, str]:
    """Return the published files of a run in shards, on several machines with caches of their own."""
    for index in range(count):
        with use_caches(folder / f"caches-{index % machines}"):
            run_shard(recipe, folder / "shards", index, count)
    with use_caches(folder / "caches-merge"):
        return published_files(merge_shards(recipe, folder / "shards", out=folder / "merged", **options).out)
