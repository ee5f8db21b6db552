"""What a shard may spend, and which recipes cannot run in shards.

Caps, rates and `max_failed` hold for one process, so each shard gets its part.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.recipes.schema import Recipe
from toolrlef_data.records import InputError

__all__ = ["check_shardable", "divided", "divided_limits", "divided_spec"]

RATES = ("rpm", "tpm", "max_cost")
CAPS = ("max_requests", "max_tokens_total")  # integers
MIN_FAILED = 20  # failures of a stage that never stop a shard; the merge checks the share of all shards


def check_shardable(recipe: Recipe) -> None:
    """Raise an InputError for a recipe with a step that needs all rows at once."""
    if recipe.warm_up is not None:
        raise InputError(
            "warm_up trains on stage 1 of all rows, which no shard has: run the recipe without shards on some rows "
            "first, and name its adapter in an engine (adapter: FOLDER) instead of warm_up"
        )


def divided(recipe: Recipe, count: int, rows: int) -> Recipe:
    """Return a recipe whose caps and rates are divided by the number of shards.

    Args:
        recipe: the recipe.
        count: the number of shards.
        rows: the rows of the shard. A share of failures says little about a few rows, so `MIN_FAILED` failures of a
            stage are allowed.

    Raises:
        InputError: a cap is lower than the number of shards.
    """
    engines = {name: divided_spec(f"engines.{name}", spec, count, rows) for name, spec in recipe.engines.items()}
    return recipe.model_copy(update={"engines": engines})


def divided_spec(name: str, spec: EngineSpec, count: int, rows: int) -> EngineSpec:
    """Return an engine of a shard; `name` is for the error message, the rest as in `divided`."""
    share = min(1.0, MIN_FAILED / max(1, rows))
    limits = dataclasses.replace(spec.limits, **_parts(name, spec, count))
    return dataclasses.replace(spec, max_failed=max(spec.max_failed, share), limits=limits)


def divided_limits(recipe: Recipe, count: int) -> list[str]:
    """Return a line of text for each engine with caps or rates: its limits, and those of one shard."""
    lines = []
    for name, spec in recipe.engines.items():
        if parts := _parts(f"engines.{name}", spec, count):
            limits = ", ".join(f"{limit}={value:g}" for limit, value in parts.items())
            lines.append(f"engines.{name}: each of {count} shards gets {limits}")
    return lines


def _parts(name: str, spec: EngineSpec, count: int) -> dict[str, Any]:
    limits = {limit: getattr(spec.limits, limit) for limit in (*RATES, *CAPS)}
    for limit in CAPS:
        if (value := limits[limit]) is not None and 0 < value < count:
            raise InputError(
                f"{name}.limits.{limit}={value} is less than the number of shards, {count}: raise it, or use "
                "fewer shards"
            )
    return {
        limit: int(value) // count if limit in CAPS else value / count
        for limit, value in limits.items()
        if value is not None
    }
