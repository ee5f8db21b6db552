"""check: what must hold among the sections of a recipe, beside the type of each value."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from toolrlef_data.columns import STAGE1
from toolrlef_data.engines import ENGINES
from toolrlef_data.engines.prompts import STYLES
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.loading_scripts import SOURCES
from toolrlef_data.publishing.folder import LAYOUTS
from toolrlef_data.recipes.schema import MadeTool, Recipe, Response, Student, TaskSettings, tasks_in
from toolrlef_data.records import InputError
from toolrlef_data.tasks import TASKS
from toolrlef_data.tools import TOOL_KINDS
from toolrlef_data.tools.readers.seq2seq import ModelOptions
from toolrlef_data.trice.scoring import RULES

__all__ = ["Place", "mistakes_in"]

Place = tuple[str | int, ...]
Mistakes = Iterator[tuple[Place, str]]


def mistakes_in(recipe: Recipe) -> Mistakes:
    """What cannot run although every value has its type: (where, what is wrong)."""
    if not recipe.sources:
        yield ("sources",), "needs at least one entry"
    for i, source in enumerate(recipe.sources):
        yield from _unknown(("sources", i, "name"), "source", source.name, SOURCES)
        known = SOURCES[source.name].defaults if source.name in SOURCES else source.options
        for option in source.options:
            yield from _unknown(("sources", i, "options", option), "option", option, known)
    yield from _task_mistakes(recipe)
    yield from _unknown(("layout",), "layout", recipe.layout, LAYOUTS)
    if recipe.cassette and recipe.layout != "hub":
        yield ("cassette",), f"has no place in the layout {recipe.layout!r}"
    if recipe.card and recipe.layout != "hub":
        yield ("card",), f"has no place in the layout {recipe.layout!r}"
    for i, teacher in enumerate(recipe.teachers):
        yield from _unknown(("teachers", i), "teacher", teacher, {"annotations", *recipe.engines})
    yield from _engine_mistakes(recipe)
    yield from _asking_mistakes(("student",), recipe.student, recipe.engines)
    yield from _responder_mistakes(recipe)
    yield from _stage2_mistakes(recipe)


def _unknown(place: Place, what: str, name: object, choices: Any) -> Mistakes:
    if not isinstance(name, str) or name not in choices:
        yield place, f"names an unknown {what} {name!r}; choose from: {', '.join(sorted(choices))}"


def _task_mistakes(recipe: Recipe) -> Mistakes:
    found = tasks_in(recipe)
    if recipe.task is not None:
        yield from _unknown(("task",), "task", recipe.task, TASKS)
        if recipe.task in TASKS and (others := [name for name in found if name != recipe.task]):
            yield ("task",), f"is {recipe.task!r}, but the sources are of {', '.join(others)}: leave it out to mix"
    for name, settings in recipe.tasks.items():
        place = ("tasks", name)
        yield from _unknown(place, "task", name, TASKS)
        if settings.reader is not None:
            yield from _unknown((*place, "reader"), "engine", settings.reader, recipe.engines)
        yield from _unknown((*place, "reader_style"), "prompt style", settings.reader_style, STYLES)
        if settings.tool is not None:
            yield from _tool_mistakes((*place, "tool"), settings.tool, recipe.engines)
        if settings.strict and name in TASKS and "strict" not in inspect.signature(TASKS[name].grade).parameters:
            yield (*place, "strict"), f"has no meaning for the task {name!r}"
    for name in found:
        task, settings = TASKS[name], recipe.tasks.get(name, TaskSettings())
        if settings.tool is None:
            try:
                task.tool.check()
            except InputError:
                choices = ", ".join(sorted(TOOL_KINDS))
                yield ("tasks", name), f"needs a tool, such as {{kind: ..., ...}} with a kind of {choices}"
        if task.make_argument is None and not recipe.teachers:
            yield ("teachers",), f"needs an entry: the calls of the task {name!r} are written by a teacher"
        elif task.make_argument is None and not task.numeric and set(recipe.teachers) == {"annotations"}:
            yield ("teachers",), f"needs an engine: annotations write formulas, no calls of the task {name!r}"
        if task.reader_prompt and settings.reader is None:
            yield ("tasks", name), f"needs a reader: the engine that reads what {task.tool.name} gives"


def _tool_mistakes(place: Place, tool: MadeTool, engines: dict[str, EngineSpec]) -> Mistakes:
    if tool.kind not in TOOL_KINDS:
        yield from _unknown((*place, "kind"), "kind of tool", tool.kind, TOOL_KINDS)
        return
    parameters = inspect.signature(TOOL_KINDS[tool.kind]).parameters.values()
    taken = {each.name: each.default is each.empty for each in parameters if each.kind is not each.VAR_KEYWORD}
    if len(taken) < len(parameters):  # **options
        taken |= dict.fromkeys(ModelOptions.__annotations__, False)
    for name, value in tool.arguments.items():
        if name == "name":
            yield (*place, name), "cannot be chosen: prompts and examples call the task's tool by its own name"
        elif name not in taken:
            yield (*place, name), f"is not an argument of {tool.kind}; choose from: {', '.join(taken)}"
        elif name == "engine":
            yield from _unknown((*place, name), "engine", value, engines)
        elif name == "search" and not (isinstance(value, dict) and isinstance(value.get("kind"), str)):
            yield (*place, name), f"is a tool, such as {{kind: wiki_search, corpus: sample}}; found {value!r:.80}"
        elif name == "search":
            yield from _tool_mistakes((*place, name), MadeTool(**value), engines)
    for name, required in taken.items():
        if required and name not in tool.arguments:
            yield place, f"of the kind {tool.kind} needs the argument {name!r}"


def _engine_mistakes(recipe: Recipe) -> Mistakes:
    kinds = set(ENGINES) - {"scripted"}
    for name, engine in recipe.engines.items():
        if engine.kind == "scripted":
            choices = ", ".join(sorted(kinds))
            yield (
                ("engines", name, "kind"),
                f"scripted has no replies here, it is for Python only; choose from: {choices}",
            )
        elif engine.kind in kinds:
            try:
                ENGINES[engine.kind](engine)
            except InputError as error:
                yield ("engines", name), f"cannot be used: {error}"
        else:
            yield from _unknown(("engines", name, "kind"), "engine kind", engine.kind, kinds)
    if warm_up := recipe.warm_up:
        yield from _unknown(("warm_up", "engine"), "engine", warm_up.engine, recipe.engines)
        yield from _unknown(("warm_up", "style"), "prompt style", warm_up.style, STYLES)
        if warm_up.name in recipe.engines:
            yield ("warm_up", "name"), f"is the name of another engine: {warm_up.name!r}"


def _asking_mistakes(place: Place, section: Student | Response, engines: dict[str, EngineSpec]) -> Mistakes:
    yield from _unknown((*place, "engine"), "engine", section.engine, engines)
    yield from _unknown((*place, "style"), "prompt style", section.style, STYLES)
    engine = engines.get(section.engine)
    if section.samples > 1 and engine is not None and engine.temperature == 0:
        told = f"of the greedy engine {section.engine!r} would all be the same: set its temperature above 0"
        yield (*place, "samples"), told


def _responder_mistakes(recipe: Recipe) -> Mistakes:
    engines = dict(recipe.engines)
    if recipe.warm_up is not None and recipe.warm_up.engine in engines:
        engines[recipe.warm_up.name] = engines[recipe.warm_up.engine]
    seen: set[str] = set()
    for i, response in enumerate(recipe.responders):
        place, name = ("responders", i), response.name
        yield from _asking_mistakes(place, response, engines)
        if name in seen:
            yield (*place, "name"), f"is the name of another responder: {name!r}"
        if name == "gold" or name in STAGE1 or "." in name or not name.strip():
            reserved = ", ".join(["gold", *STAGE1])
            yield (*place, "name"), f"names a column: no dots, and none of {reserved}; found {name!r}"
        seen.add(name)


def _stage2_mistakes(recipe: Recipe) -> Mistakes:
    stage2 = recipe.stage2
    columns = [f"{r.name}.{i + 1}" if r.samples > 1 else r.name for r in recipe.responders for i in range(r.samples)]
    for i, name in enumerate(stage2.trusted):
        yield from _unknown(("stage2", "trusted", i), "responder", name, ["gold", *columns])
    yield from _unknown(("stage2", "rule"), "scoring rule", stage2.rule, RULES)
    if stage2.rule in RULES:
        taken = inspect.signature(RULES[stage2.rule]).parameters
        for option in ("ties", "levels", "missing"):
            if getattr(stage2, option) is not None and option not in taken:
                yield ("stage2", option), f"is not an option of the rule {stage2.rule!r}"
