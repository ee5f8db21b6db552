"""run: a whole run as one YAML file, checked with messages that point at the line.

Sections: `sources`, `tasks` (the tools and readers of those that need some), `engines` (named `EngineSpec`s),
`student`, `teachers`, `warm_up` (a LoRA adapter trained on stage 1, an engine like the others), `responders`, `stage2`,
and where to publish. Sources of several tasks are run task by task and published together, with a mix. The shipped
recipes are in `recipes/`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import pydantic
import yaml
from datasets import Dataset

from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.loading_scripts import SOURCES, load_source
from toolrlef_data.publishing.folder import publish, refuse_foreign
from toolrlef_data.recipes.checks import Place, mistakes_in
from toolrlef_data.recipes.schema import MadeTool, Recipe, Source, TaskSettings, tasks_in
from toolrlef_data.records import InputError
from toolrlef_data.tables.lineage import ledger, lineage, record_source
from toolrlef_data.tables.subsets import subset
from toolrlef_data.tables.transform import stack
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools import TOOL_KINDS
from toolrlef_data.tools.tool import Tool
from toolrlef_data.trice.annotations.composer import ANNOTATIONS, Annotations
from toolrlef_data.trice.responders import Responder, respond
from toolrlef_data.trice.stage1 import answer, build_stage1, grade
from toolrlef_data.trice.stage2 import build_stage2

__all__ = ["Recipe", "Run", "load_recipe", "run_recipe", "shipped_recipes"]


@dataclasses.dataclass(frozen=True)
class Run:
    """What a recipe made: the tables, of all its tasks together, and the folder they were published to."""

    questions: Dataset
    graded: Dataset
    stage1: Dataset
    stage2: Dataset
    out: Path
    layout: str = "hub"
    tasks: tuple[str, ...] = ("math",)


def run_recipe(recipe: Recipe, *, out: str | Path | None = None, num_proc: int | None = None) -> Run:
    """Run a recipe from its sources to the published folder; what was done before is taken from the caches.

    Args:
        recipe: from `load_recipe`.
        out: in the place of the recipe's own folder.
        num_proc: processes for the steps that ask no model.

    Raises:
        InputError: the folder holds something that `publish` did not write; found before anything is asked.
    """
    refuse_foreign(out or recipe.out)
    engines = dict(recipe.engines)
    tasks = {name: _task(name, recipe, engines) for name in tasks_in(recipe)}
    done = {name: _first_stage(name, recipe, engines, tasks, num_proc) for name in tasks}
    stage1 = {name: made[-1] for name, made in done.items()}
    if recipe.warm_up is not None:
        from toolrlef_data.trice.warm_up import warm_up

        settings = recipe.warm_up.model_dump(exclude={"name", "engine"})
        engines[recipe.warm_up.name] = warm_up(_one(stage1.values()), engines[recipe.warm_up.engine], **settings)
    ranked = {name: _second_stage(table, recipe, engines, tasks, num_proc) for name, table in stage1.items()}
    stage2 = {name: made[-1] for name, made in ranked.items()}
    tables = {name: {"stage1": stage1[name], "stage2": stage2[name]} for name in tasks}
    if recipe.cassette:  # what stage 2 is built again from
        tables = {name: {**named, "responded": ranked[name][0]} for name, named in tables.items()}
    kept = {name: {part: table for part, table in named.items() if len(table)} for name, named in tables.items()}
    folder = publish(
        {name: named for name, named in kept.items() if named} or tables,
        out or recipe.out,
        version=recipe.version,
        layout=recipe.layout,
        dropped=ledger(table for named in tables.values() for table in named.values()),
        card={"title": recipe.name, **recipe.card} if recipe.layout == "hub" else None,
        cassette=recipe.cassette,
    )
    questions, graded = (_one([made[i] for made in done.values()]) for i in (0, 1))
    return Run(questions, graded, _one(stage1.values()), _one(stage2.values()), folder, recipe.layout, tuple(tasks))


def _one(tables: Iterable[Dataset]) -> Dataset:
    """The tables of all tasks as one."""
    tables = list(tables)
    return tables[0] if len(tables) == 1 else stack(tables, "mix")


def _task(name: str, recipe: Recipe, engines: Mapping[str, EngineSpec]) -> Task:
    """A task with the tool and the reader that the recipe gives it."""
    task, given = TASKS[name], recipe.tasks.get(name, TaskSettings())
    settings: dict[str, Any] = {"reader_style": given.reader_style}
    if given.tool is not None:
        settings["tool"] = _tool(given.tool, task.tool.name, engines)
    if given.reader is not None:
        settings["reader"] = engines[given.reader]
    if given.strict:
        grade_of: Callable[..., bool | None] = task.grade
        settings["grade"] = functools.partial(grade_of, strict=True)
    return dataclasses.replace(task, **settings)


def _tool(given: MadeTool, name: str, engines: Mapping[str, EngineSpec]) -> Tool:
    make, arguments = TOOL_KINDS[given.kind], given.arguments
    if "name" in inspect.signature(make).parameters:
        arguments.setdefault("name", name)
    if "engine" in arguments:
        arguments["engine"] = engines[arguments["engine"]]
    if "search" in arguments:
        arguments["search"] = _tool(MadeTool(**arguments["search"]), "WikiSearch", engines)
    return make(**arguments)


def _first_stage(
    name: str,
    recipe: Recipe,
    engines: Mapping[str, EngineSpec],
    tasks: Mapping[str, Task],
    num_proc: int | None,
) -> tuple[Dataset, Dataset, Dataset]:
    """(questions, graded, stage 1) of one task."""
    sources = [source for source in recipe.sources if SOURCES[source.name].task == name]
    questions = stack([_questions(source) for source in sources], "questions")
    student = recipe.student
    answered = answer(
        questions,
        engines[student.engine],
        style=student.style,
        examples=student.examples,
        samples=student.samples,
        strip_reasoning=student.strip_reasoning,
        task=tasks,
        num_proc=num_proc,
    )
    graded = grade(answered, threshold=student.threshold, task=tasks, num_proc=num_proc)
    teachers: list[EngineSpec | Annotations] = [
        ANNOTATIONS if t == "annotations" else engines[t] for t in recipe.teachers
    ]
    stage1 = build_stage1(
        graded,
        teachers,
        attempts=recipe.attempts,
        keep_unverified=recipe.keep_unverified,
        task=tasks,
        num_proc=num_proc,
    )
    return questions, graded, stage1


def _second_stage(
    stage1: Dataset,
    recipe: Recipe,
    engines: Mapping[str, EngineSpec],
    tasks: Mapping[str, Task],
    num_proc: int | None,
) -> tuple[Dataset, Dataset]:
    """(responses, stage 2) of one task."""
    responders = [Responder(**{**dict(response), "engine": engines[response.engine]}) for response in recipe.responders]
    candidates = respond(stage1, responders, task=tasks, num_proc=num_proc)
    settings = recipe.stage2.model_dump(exclude_none=True)
    return candidates, build_stage2(candidates, **settings, task=tasks, num_proc=num_proc)


def _questions(source: Source) -> Dataset:
    """The rows of one source, as the beginning of a trail."""
    data = load_source(source.name, split=source.split, data_dir=source.data_dir, **source.options)
    if source.rows is None or source.rows >= len(data):
        return data
    if source.seed is not None:
        return subset(data, source.rows, source.seed)
    chosen = data.select(range(source.rows))
    begin = lineage(data)
    record_source(chosen, f"{source.name}: {source.rows} of {len(data)} rows", begin[-1]["settings"] if begin else None)
    return chosen


# Reading --------------------------------------------------------------------------------------------------------------


def shipped_recipes() -> dict[str, Path]:
    """Names and paths of the recipes that come with the package."""
    folder = Path(str(resources.files("toolrlef_data") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(path: str | Path, *, rows: int | None = None, all_rows: bool = False) -> Recipe:
    """Read and check a recipe.

    Args:
        path: a YAML file, or the name of a shipped recipe.
        rows: in the place of every source's own `rows`.
        all_rows: take every row of every source.

    Raises:
        InputError: names the file, the line and what is wrong there: all unknown keys and unfit values at once and,
            where there are none, all names and values that do not go together.
    """
    if rows is not None and all_rows:
        raise InputError("rows (--rows) and all_rows (--all) exclude each other: give one of them")
    file = shipped_recipes().get(str(path), Path(path))
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"no recipe {str(path)!r}: neither a file nor one of {', '.join(shipped_recipes())}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except OSError as error:  # a folder, no right to read
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{file}: not YAML: {error}") from error
    if not isinstance(values, dict) or node is None:
        raise InputError(
            f"{file}: a recipe is a mapping with the keys {', '.join(Recipe.model_fields)}; found {values!r:.80}"
        )
    values.pop("x", None)  # room for YAML anchors
    lines = dict(_lines(node, ()))
    try:
        recipe = Recipe.model_validate(values)
    except pydantic.ValidationError as error:
        raise InputError(_report(file, lines, [(e["loc"], _message(e)) for e in error.errors()])) from None
    if mistakes := list(mistakes_in(recipe)):
        raise InputError(_report(file, lines, mistakes))
    if rows is None and not all_rows:
        return recipe
    sources = tuple(source.model_copy(update={"rows": rows}) for source in recipe.sources)
    return recipe.model_copy(update={"sources": sources})


def _lines(node: yaml.Node, place: Place) -> Iterator[tuple[Place, int]]:
    """Where every key and item of a YAML document stands."""
    yield place, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _lines(value, (*place, key.value))
            yield (*place, key.value), key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield from _lines(value, (*place, i))


def _message(error: Any) -> str:
    if error["type"] == "missing":
        return "is missing"
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return "is not a key of this section"
    if error["type"] == "value_error":  # said by us, and complete
        return str(error["ctx"]["error"])
    secret = {"keys", "base_url"} & set(error["loc"])  # somebody may have written a key there
    found = "" if secret else f", found {error['input']!r:.80}"
    return f"{error['msg'][:1].lower()}{error['msg'][1:]}{found}"


def _report(file: Path, lines: dict[Place, int], mistakes: list[tuple[Place, str]]) -> str:
    found = []
    for place, message in mistakes:
        known = place
        while known and known not in lines:
            known = known[:-1]
        found.append((lines[known], f"{file}:{lines[known]}: {'.'.join(map(str, place))} {message}"))
    return "\n".join(text for _, text in sorted(found))
