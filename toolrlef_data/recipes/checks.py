"""Checks of a recipe beyond the types of its values: names, options and combinations of sections."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from toolrlef_data.checks import as_path
from toolrlef_data.columns import STAGE1
from toolrlef_data.engines import ENGINES
from toolrlef_data.engines.prompts import STYLES
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.loading_scripts import SOURCES
from toolrlef_data.loading_scripts.own.files import HUB, is_own_source
from toolrlef_data.publishing.card.writing import misspelt_keys
from toolrlef_data.publishing.folder import LAYOUTS
from toolrlef_data.publishing.hub.client import check_repo_id
from toolrlef_data.recipes.schema import (
    RULE_OPTIONS,
    Recipe,
    ResponderSettings,
    Source,
    Student,
    TaskSettings,
    ToolSettings,
    tasks_in,
)
from toolrlef_data.records import InputError
from toolrlef_data.tasks import TASKS
from toolrlef_data.tools import TOOL_KINDS
from toolrlef_data.tools.readers.seq2seq import ModelOptions
from toolrlef_data.trice.scoring import RULES

__all__ = ["Place", "mistakes_in"]

Place = tuple[str | int, ...]  # keys and indices that lead to a value of the recipe
Mistakes = Iterator[tuple[Place, str]]


def mistakes_in(recipe: Recipe) -> Mistakes:
    """Yield (place, message) for each mistake in a recipe whose values have the right types.

    A message continues the name of the place, such as "layout names an unknown layout 'x'".
    """
    if not recipe.sources:
        yield ("sources",), "needs at least one entry"
    for i, source in enumerate(recipe.sources):
        if source.is_own:
            yield from _own_source_mistakes(i, source)
            continue
        yield from _unknown(("sources", i, "name"), "source", source.name, SOURCES)
        for key in source.own_options:
            yield ("sources", i, key), f"is a key of your own files and data sets on the Hub, not of {source.name!r}"
        options = SOURCES[source.name].defaults if source.name in SOURCES else source.options
        for option in source.options:
            yield from _unknown(("sources", i, "options", option), "option", option, options)
    for i, name in enumerate(recipe.decontaminate.against if recipe.decontaminate else ()):
        if name in SOURCES or not is_own_source(name):
            yield from _unknown(("decontaminate", "against", i), "source", name, SOURCES)
        elif not name.startswith(HUB) and not as_path("against", name).is_file():
            yield ("decontaminate", "against", i), f"names no file: {name!r}"
    yield from _task_mistakes(recipe)
    if recipe.run.backend != "ray":
        for key in sorted(recipe.run.model_fields_set - {"backend", "num_proc"}):
            yield ("run", key), "is a key of the backend ray: set backend: ray"
    yield from _unknown(("layout",), "layout", recipe.layout, LAYOUTS)
    if recipe.cassette and recipe.layout != "hub":
        yield ("cassette",), f"is not supported by the layout {recipe.layout!r}; expected 'hub'"
    if recipe.card and recipe.layout != "hub":
        yield ("card",), f"is not supported by the layout {recipe.layout!r}; expected 'hub'"
    for key, known in misspelt_keys(recipe.card).items():
        yield ("card", key), f"is an unknown key: did you mean {known!r}?"
    if recipe.hub is not None:
        if recipe.layout != "hub":
            yield ("hub",), f"is not supported by the layout {recipe.layout!r}; expected 'hub'"
        try:
            check_repo_id(recipe.hub.repo)
        except InputError as error:
            yield ("hub", "repo"), f"cannot be used: {error}"
    for i, teacher in enumerate(recipe.teachers):
        yield from _unknown(("teachers", i), "teacher", teacher, {"annotations", *recipe.engines})
    yield from _engine_mistakes(recipe)
    yield from _model_mistakes(("student",), recipe.student, recipe.engines)
    if recipe.need is not None:
        engine = recipe.need.engine or recipe.student.engine
        sampled = recipe.student.model_copy(update={"engine": engine, "samples": recipe.need.samples})
        yield from (
            mistake for mistake in _model_mistakes(("need",), sampled, recipe.engines) if mistake[0][1] != "style"
        )
    yield from _responder_mistakes(recipe)
    yield from _stage2_mistakes(recipe)


def _own_source_mistakes(i: int, source: Source) -> Mistakes:
    if source.task is None:
        yield ("sources", i), f"needs a task, the name of one of {', '.join(TASKS)}"
    else:
        yield from _unknown(("sources", i, "task"), "task", source.task, TASKS)
    for key in ("data_dir", "options"):
        if getattr(source, key):
            yield ("sources", i, key), "is a key of the sources of this package, not of your own files"
    is_on_hub = source.name.startswith(HUB)
    for key in ("config", "revision"):
        if getattr(source, key) is not None and not is_on_hub:
            yield ("sources", i, key), "is a key of data sets on the Hub, named hub:org/name"
    if not is_on_hub and not as_path("name", source.name).exists():
        yield ("sources", i, "name"), f"names no file or folder: {source.name!r}"


def _unknown(place: Place, kind: str, name: object, choices: Any) -> Mistakes:
    if not isinstance(name, str) or name not in choices:
        yield place, f"names an unknown {kind} {name!r}; choose from: {', '.join(sorted(choices))}"


def _task_mistakes(recipe: Recipe) -> Mistakes:
    tasks = tasks_in(recipe)
    if recipe.task is not None:
        yield from _unknown(("task",), "task", recipe.task, TASKS)
        if recipe.task in TASKS and (others := [name for name in tasks if name != recipe.task]):
            yield (
                ("task",),
                f"is {recipe.task!r}, but some sources have the task {', '.join(others)}: omit it to mix tasks",
            )
    for name, settings in recipe.tasks.items():
        place = ("tasks", name)
        yield from _unknown(place, "task", name, TASKS)
        if settings.reader is not None:
            yield from _unknown((*place, "reader"), "engine", settings.reader, recipe.engines)
        yield from _unknown((*place, "reader_style"), "prompt style", settings.reader_style, STYLES)
        if settings.tool is not None:
            yield from _tool_mistakes((*place, "tool"), settings.tool, recipe.engines)
        if settings.rule != "default" and name in TASKS and not TASKS[name].has_rules:
            yield (*place, "rule"), f"is not supported by the task {name!r}"
    for name in tasks:
        task, settings = TASKS[name], recipe.tasks.get(name, TaskSettings())
        if settings.tool is None:
            try:
                task.tool.check()
            except InputError:
                choices = ", ".join(sorted(TOOL_KINDS))
                yield ("tasks", name), f"needs a tool: {{kind: ..., ...}}, where kind is one of {choices}"
        if task.make_argument is None and not recipe.teachers:
            yield ("teachers",), f"needs an entry: a teacher writes the calls of the task {name!r}"
        elif task.make_argument is None and not task.numeric and set(recipe.teachers) == {"annotations"}:
            yield ("teachers",), f"needs an engine: annotations yield only formulas, no calls of the task {name!r}"
        if task.reader_prompt and settings.reader is None:
            yield ("tasks", name), f"needs a reader, the engine that reads the output of {task.tool.name}"


def _tool_mistakes(place: Place, tool: ToolSettings, engines: dict[str, EngineSpec]) -> Mistakes:
    if tool.kind not in TOOL_KINDS:
        yield from _unknown((*place, "kind"), "tool kind", tool.kind, TOOL_KINDS)
        return
    parameters = inspect.signature(TOOL_KINDS[tool.kind]).parameters.values()
    is_required = {p.name: p.default is p.empty for p in parameters if p.kind is not p.VAR_KEYWORD}
    if len(is_required) < len(parameters):  # **options
        is_required |= dict.fromkeys(ModelOptions.__annotations__, False)
    for name, value in tool.arguments.items():
        if name == "name":
            yield (*place, name), "cannot be set: prompts and few-shot examples use the name of the task's tool"
        elif name not in is_required:
            yield (*place, name), f"is not an argument of {tool.kind}; choose from: {', '.join(is_required)}"
        elif name == "engine":
            yield from _unknown((*place, name), "engine", value, engines)
        elif name == "search" and not (isinstance(value, dict) and isinstance(value.get("kind"), str)):
            yield (*place, name), f"must be a tool like {{kind: wiki_search, corpus: sample}}; found {value!r:.80}"
        elif name == "search":
            yield from _tool_mistakes((*place, name), ToolSettings(**value), engines)
    for name, required in is_required.items():
        if required and name not in tool.arguments:
            yield place, f"lacks the argument {name!r} of {tool.kind}"


def _engine_mistakes(recipe: Recipe) -> Mistakes:
    for name, engine in recipe.engines.items():
        if engine.kind == "scripted":
            choices = ", ".join(sorted(set(ENGINES) - {"scripted"}))
            message = f"is 'scripted', which is available in Python only; choose from: {choices}"
            yield ("engines", name, "kind"), message
            continue
        try:
            ENGINES[engine.kind](engine)
        except InputError as error:  # such as a variable without a value
            yield ("engines", name), f"cannot be used: {error}"
    if warm_up := recipe.warm_up:
        yield from _unknown(("warm_up", "engine"), "engine", warm_up.engine, recipe.engines)
        yield from _unknown(("warm_up", "style"), "prompt style", warm_up.style, STYLES)
        if warm_up.name in recipe.engines:
            yield ("warm_up", "name"), f"is the name of another engine: {warm_up.name!r}"


def _model_mistakes(place: Place, section: Student | ResponderSettings, engines: dict[str, EngineSpec]) -> Mistakes:
    yield from _unknown((*place, "engine"), "engine", section.engine, engines)
    yield from _unknown((*place, "style"), "prompt style", section.style, STYLES)
    engine = engines.get(section.engine)
    if section.samples > 1 and engine is not None and engine.temperature == 0:
        message = f"of the greedy engine {section.engine!r} would be identical: set its temperature above 0"
        yield (*place, "samples"), message


def _responder_mistakes(recipe: Recipe) -> Mistakes:
    engines = dict(recipe.engines)
    if recipe.warm_up is not None and recipe.warm_up.engine in engines:
        engines[recipe.warm_up.name] = engines[recipe.warm_up.engine]
    names: set[str] = set()
    for i, responder in enumerate(recipe.responders):
        place, name = ("responders", i), responder.name
        yield from _model_mistakes(place, responder, engines)
        if name in names:
            yield (*place, "name"), f"is the name of another responder: {name!r}"
        if name == "gold" or name in STAGE1 or "." in name or not name.strip():
            reserved = ", ".join(["gold", *STAGE1])
            yield (*place, "name"), f"must be a column name without dots and none of {reserved}; found {name!r}"
        names.add(name)


def _stage2_mistakes(recipe: Recipe) -> Mistakes:
    stage2 = recipe.stage2
    columns = [f"{r.name}.{i + 1}" if r.samples > 1 else r.name for r in recipe.responders for i in range(r.samples)]
    for i, name in enumerate(stage2.trusted):
        yield from _unknown(("stage2", "trusted", i), "responder", name, ["gold", *columns])
    yield from _unknown(("stage2", "rule"), "scoring rule", stage2.rule, RULES)
    if stage2.rule in RULES:
        options = inspect.signature(RULES[stage2.rule]).parameters
        for option in RULE_OPTIONS:
            if getattr(stage2, option) is not None and option not in options:
                yield ("stage2", option), f"is not an option of the rule {stage2.rule!r}"
