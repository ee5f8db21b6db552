"""Load a recipe: a complete run as one YAML file. Errors name the file and line.

| section | contents |
|---|---|
| name, version, out, task, layout, card, cassette, replace | the published data set |
| hub | the repository to push it to |
| sources | sources of questions |
| decontaminate | test sets whose questions are removed |
| tasks | tools and readers of tasks that need them |
| engines | name -> `EngineSpec` |
| student, teachers, attempts, keep_unverified, responders | engines for these roles, with their settings |
| warm_up | a LoRA adapter to train on stage 1; its name can be used like that of an engine |
| stage2 | scoring of the responses |
| run | how the command `run` runs the recipe: processes, or a Ray cluster |
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import pydantic
import yaml

from toolrlef_data.checks import as_path
from toolrlef_data.engines.rules import FLAG, integer_from
from toolrlef_data.recipes.checks import Place, mistakes_in
from toolrlef_data.recipes.schema import Recipe
from toolrlef_data.records import InputError

__all__ = ["load_recipe", "shipped_recipes"]


def shipped_recipes() -> dict[str, Path]:
    """Return name -> path of the recipes bundled with the package."""
    folder = Path(str(resources.files("toolrlef_data") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(path: str | Path, *, rows: int | None = None, all_rows: bool = False) -> Recipe:
    """Load and validate a recipe.

    Args:
        path: a YAML file, or the name of a bundled recipe.
        rows: number of rows per source. Default: the `rows` of each source.
        all_rows: whether to use all rows of every source. Default: False.

    Returns:
        The recipe.

    Raises:
        InputError: the file cannot be read, or the recipe is invalid. The message lists all unknown keys and invalid
            values with file and line. If there are none, it lists all unknown names and invalid combinations.

    >>> load_recipe("demo", rows=5).sources[0].rows
    5
    """
    if rows is not None:
        integer_from(1).check("rows", rows)
    FLAG.check("all_rows", all_rows)
    if rows is not None and all_rows:
        raise InputError("rows (--rows) and all_rows (--all) are mutually exclusive: use one of them")
    file = shipped_recipes().get(str(path)) or as_path("path", path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"no recipe {str(path)!r}: neither a file nor one of {', '.join(shipped_recipes())}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except OSError as error:  # such as a folder, or a missing permission
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{file} is not valid YAML: {error}") from error
    if not isinstance(values, dict) or node is None:
        raise InputError(
            f"{file}: a recipe must be a mapping with the keys {', '.join(Recipe.model_fields)}; found {values!r:.80}"
        )
    values.pop("x", None)  # a section for YAML anchors only
    lines = dict(_lines(node, ()))
    try:
        recipe = Recipe.model_validate(values)
        recipe._file = file
        for i, source in enumerate(recipe.sources):
            source._place = f"{file}:{lines['sources', i]}: sources.{i}: "
    except pydantic.ValidationError as error:
        raise InputError(_report(file, lines, [(e["loc"], _message(e)) for e in error.errors()])) from None
    if mistakes := list(mistakes_in(recipe)):
        raise InputError(_report(file, lines, mistakes))
    if rows is None and not all_rows:
        return recipe
    sources = tuple(source.model_copy(update={"rows": rows}) for source in recipe.sources)
    return recipe.model_copy(update={"sources": sources})


def _lines(node: yaml.Node, place: Place) -> Iterator[tuple[Place, int]]:
    """Yield (place, line) for every key and item of a YAML document."""
    yield place, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _lines(value, (*place, key.value))
            yield (*place, key.value), key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield from _lines(value, (*place, i))


def _message(error: Any) -> str:
    """Return the message for an error of pydantic, which continues the name of the place."""
    if error["type"] == "missing":
        return "is missing"
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"is not a key of this section{_known_keys(error['loc'])}"
    if error["type"] == "value_error":  # raised by this package, with a complete message
        return str(error["ctx"]["error"])
    may_be_secret = {"keys", "base_url", "options"} & set(error["loc"])  # the value could be an API key
    value = "" if may_be_secret else f", found {error['input']!r:.80}"
    return f"{error['msg'][:1].lower()}{error['msg'][1:]}{value}"


def _known_keys(place: Place) -> str:
    """Return the end of a message: the key that may be meant, and all keys of the section of an unknown key."""
    kind: Any = Recipe
    for part in place[:-1]:
        fields = getattr(kind, "model_fields", {})
        # The elements of a tuple, the values of a mapping, or the section of `Section | None`.
        inner = [argument for argument in get_args(kind) if argument not in (Ellipsis, NoneType, str)]
        kind = fields[part].annotation if part in fields else inner[0] if inner else None
        while get_origin(kind) in (Union, UnionType):
            kind = next((argument for argument in get_args(kind) if argument is not NoneType), None)
    keys = sorted(kind.model_fields if hasattr(kind, "model_fields") else (f.name for f in _fields_of(kind)))
    similar = difflib.get_close_matches(str(place[-1]), keys, n=1)
    meant = f"; did you mean {similar[0]}?" if similar else "."
    return f"{meant} Its keys: {', '.join(keys)}" if keys else ""


def _fields_of(kind: Any) -> tuple[Any, ...]:
    return dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()


def _report(file: Path, lines: dict[Place, int], mistakes: list[tuple[Place, str]]) -> str:
    """Return one line of text per mistake, sorted by line; a missing key has the line of its section."""
    messages = []
    for place, message in mistakes:
        section = place
        while section and section not in lines:
            section = section[:-1]
        messages.append((lines[section], f"{file}:{lines[section]}: {'.'.join(map(str, place))} {message}"))
    return "\n".join(text for _, text in sorted(messages))
