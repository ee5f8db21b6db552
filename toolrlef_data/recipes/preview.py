"""A whole run of a recipe on a few rows, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

from toolrlef_data.recipes.loading import load_recipe
from toolrlef_data.recipes.runner import Run, run_recipe
from toolrlef_data.recipes.schema import Recipe

__all__ = ["preview"]


def preview(recipe: str | Path | Recipe, *, rows: int = 3, out: str | Path | None = None) -> Run:
    """Run a recipe from its sources to a published folder on the first rows of every source, and push nothing.

    Replies are stored, so the full run asks for none of them again.

    Args:
        recipe: a YAML file, the name of a bundled recipe, or the result of `load_recipe`.
        rows: number of rows per source. Default 3.
        out: the folder. Default: the recipe's `out` with "-preview" at its end; an earlier preview is replaced.

    Returns:
        The tables, for `show`, and the folder.

    Raises:
        InputError: the recipe is invalid, or the folder has files that no run has made.

    >>> import tempfile
    >>> from toolrlef_data import load_recipe, scripted, show
    >>> model = scripted({"": "The answer is 8."}, progress=False)  # instead of the recipe's local model
    >>> recipe = load_recipe("demo").model_copy(update={"warm_up": None, "responders": ()})
    >>> recipe = recipe.model_copy(update={"engines": dict.fromkeys(recipe.engines, model)})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(show(preview(recipe, out=folder).stage2).note)
    3 of 3 rows
    """
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    sources = tuple(
        source.model_copy(update={"rows": rows if source.rows is None else min(rows, source.rows)})
        for source in loaded.sources
    )
    small = loaded.model_copy(update={"sources": sources, "hub": None})
    default = Path(loaded.out)
    return run_recipe(small, out=out or default.with_name(f"{default.name}-preview"), replace=True)
