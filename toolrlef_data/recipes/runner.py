"""Run a recipe: a complete run from its sources to the published folder (see `loading`).

The tasks of the sources run one after another. They are published as one data set, with a mix of all tasks.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset

from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.loading_scripts import load_source
from toolrlef_data.loading_scripts.test_sets.decontamination import decontaminate
from toolrlef_data.publishing.folder import publish
from toolrlef_data.publishing.hub.push import Push, check_pushable, push_to_hub
from toolrlef_data.publishing.placement import check_replaceable
from toolrlef_data.publishing.recipe_file import RecipeFile, commit_of, date_of
from toolrlef_data.recipes.schema import Recipe, Source, TaskSettings, ToolSettings, task_of, tasks_in
from toolrlef_data.records import InputError
from toolrlef_data.tables.lineage import ledger, lineage, record_source
from toolrlef_data.tables.reshape import stack
from toolrlef_data.tables.sampling.subsets import subset
from toolrlef_data.tables.stage_cache import count_values
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools import TOOL_KINDS
from toolrlef_data.tools.tool import Tool
from toolrlef_data.trice.annotations.composer import ANNOTATIONS, Annotations
from toolrlef_data.trice.need.counterfactual import counterfactual
from toolrlef_data.trice.responders import Responder, respond
from toolrlef_data.trice.stage1 import build_stage1
from toolrlef_data.trice.stage2 import build_stage2
from toolrlef_data.trice.student import answer, grade

__all__ = [
    "Built",
    "Run",
    "build_tables",
    "check_publishable",
    "load_questions",
    "publish_tables",
    "recipe_file",
    "run_recipe",
]


@dataclasses.dataclass(frozen=True)
class Run:
    """Result of a recipe.

    Args:
        questions, graded, stage1, stage2: the tables, each with the rows of all tasks.
        need: the measured need of all questions; None if the recipe does not measure it.
        out: the published folder.
        layout: layout of the folder.
        tasks: names of the tasks.
        push: the release on the Hub; None if the recipe names no repository.
    """

    questions: Dataset
    graded: Dataset
    stage1: Dataset
    stage2: Dataset
    out: Path
    layout: str = "hub"
    tasks: tuple[str, ...] = ("math",)
    push: Push | None = None
    need: Dataset | None = None


def run_recipe(
    recipe: Recipe, *, out: str | Path | None = None, num_proc: int | None = None, replace: bool = False
) -> Run:
    """Run a recipe from its sources to the published folder, reusing cached stages and stored replies.

    Args:
        recipe: result of `load_recipe`.
        out: folder to publish to. Default: the recipe's `out`.
        num_proc: number of processes for stages without models. Default: that of the recipe's `run`, else one.
        replace: whether to replace a newer version, or other rows under the same version. Default: the recipe's
            `replace`.

    Returns:
        The tables and the published folder.

    Raises:
        InputError: the folder cannot be replaced (see `publish`), the release cannot be pushed (see `push_to_hub`), or
            the recipe's `run` names another backend. Raised before any model request, except for other rows under the
            same version.
        TooManyFailures: more than `max_failed` of an engine's requests failed; all received replies are saved.
        HubError: the Hub refused a request or could not be reached; the folder is published.
        CapReached: a cap of an engine's limits is reached; all received replies are saved.

    >>> import tempfile
    >>> from toolrlef_data import load_recipe, scripted
    >>> model = scripted({"": "The answer is 8."}, progress=False)  # instead of the recipe's local model
    >>> recipe = load_recipe("demo", rows=5).model_copy(update={"warm_up": None, "responders": ()})
    >>> recipe = recipe.model_copy(update={"engines": dict.fromkeys(recipe.engines, model)})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = run_recipe(recipe, out=folder)
    >>> len(result.questions), len(result.stage1)
    (5, 5)
    """
    if recipe.run.backend != "local":
        raise InputError(
            f"run.backend is {recipe.run.backend!r}, and run_recipe runs in this process: call run_on_ray, or set "
            "run.backend to local"
        )
    num_proc = num_proc or recipe.run.num_proc
    published = check_publishable(recipe, out=out, replace=replace)
    questions = load_questions(recipe, num_proc=num_proc)
    built = build_tables(recipe, questions, needs_rows=True, num_proc=num_proc)
    folder, push = publish_tables(recipe, built.tables, published, out=out, replace=replace)
    needs = [tables["need"] for tables in built.tables.values() if "need" in tables]
    return Run(
        _stack_tasks(questions.values()),
        _stack_tasks(built.graded.values()),
        _stack_tasks(tables["stage1"] for tables in built.tables.values()),
        _stack_tasks(tables["stage2"] for tables in built.tables.values()),
        folder,
        recipe.layout,
        tuple(questions),
        push,
        _stack_tasks(needs) if needs else None,
    )


class Built(NamedTuple):
    """The tables of a recipe before they are published.

    Args:
        graded: task -> the graded table.
        tables: task -> name -> the tables to publish.
    """

    graded: dict[str, Dataset]
    tables: dict[str, dict[str, Dataset]]


def check_publishable(recipe: Recipe, *, out: str | Path | None, replace: bool) -> RecipeFile | None:
    """Return the recipe to publish, if the layout has one; raise InputError if the folder or the release cannot be."""
    is_hub = recipe.layout == "hub"
    options: dict[str, Any] = {"layout": recipe.layout, "replace": replace or recipe.replace, "recipe": is_hub}
    check_replaceable(out or recipe.out, recipe.version, **options)
    published = recipe_file(recipe) if is_hub else None
    if recipe.hub is not None:
        check_pushable(recipe.hub.repo, recipe.version, private=recipe.hub.private)
    return published


def load_questions(recipe: Recipe, *, num_proc: int | None = None) -> dict[str, Dataset]:
    """Return task -> the selected rows of its sources, without those that overlap test sets."""
    tables = {}
    for name in tasks_in(recipe):
        sources = [source for source in recipe.sources if task_of(source) == name]
        tables[name] = _stack([_questions(source) for source in sources], "questions")
        if recipe.decontaminate is not None:
            test_sets = recipe.decontaminate.model_dump()
            tables[name] = decontaminate(tables[name], test_sets.pop("against"), **test_sets, num_proc=num_proc)
    return tables


def build_tables(
    recipe: Recipe, questions: Mapping[str, Dataset], *, needs_rows: bool = False, num_proc: int | None = None
) -> Built:
    """Return the tables of a recipe for questions of each task.

    Args:
        recipe: the recipe.
        questions: task -> questions.
        needs_rows: raise an InputError before the responders are asked if there will be no row to publish. Default:
            False, as for a shard, whose rows are a part of all.
        num_proc: number of processes.
    """
    engines = dict(recipe.engines)
    tasks = {name: _task(name, recipe, engines) for name in questions}
    shared = {name: {"task": {name: task}, "num_proc": num_proc} for name, task in tasks.items()}  # of every stage
    stage1_runs = {name: _run_stage1(questions[name], recipe, engines, shared[name]) for name in tasks}
    stage1 = {name: run[-1] for name, run in stage1_runs.items()}
    if needs_rows and not any(len(table) for _, need, last in stage1_runs.values() for table in (need, last) if table):
        raise InputError(_all_dropped(ledger(stage1.values())))
    if recipe.warm_up is not None:
        from toolrlef_data.trice.training.warm_up import warm_up

        settings = recipe.warm_up.model_dump(exclude={"name", "engine"})
        engines[recipe.warm_up.name] = warm_up(
            _stack_tasks(stage1.values()), engines[recipe.warm_up.engine], **settings
        )
    stage2_runs = {name: _run_stage2(table, recipe, engines, shared[name]) for name, table in stage1.items()}
    tables = {name: {"stage1": stage1[name], "stage2": stage2_runs[name][-1]} for name in tasks}
    for name, (_, need, _) in stage1_runs.items():
        if need is not None:
            tables[name]["need"] = need
        if recipe.cassette:  # rebuilding stage 2 from the cassette needs the responses
            tables[name]["responded"] = stage2_runs[name][0]
    return Built({name: run[0] for name, run in stage1_runs.items()}, tables)


def _all_dropped(dropped: Dataset) -> str:
    """Return the message that stage 1 has no row, with the counts of the reasons and some of the dropped rows."""
    counts = count_values(dropped, "reason").most_common()
    reasons = ", ".join(f"{reason} {count}" for (reason,), count in counts)
    first = dropped.select(range(min(3, len(dropped))))
    rows = "".join(f"\n  {row['id']}: {row['detail'] or row['reason']:.200}" for row in first)
    what = f"all {len(dropped)} questions were dropped ({reasons}; docs/drops.md says what to do)"
    return f"stage 1 has no row, so nothing is published: {what}. The first of them:{rows}"


def publish_tables(
    recipe: Recipe,
    tables: Mapping[str, Mapping[str, Dataset]],
    published: RecipeFile | None,
    *,
    out: str | Path | None,
    replace: bool,
) -> tuple[Path, Push | None]:
    """Publish the tables of a recipe, and push the folder if the recipe names a repository.

    Args:
        recipe: the recipe.
        tables: task -> name -> table.
        published: the result of `check_publishable`.
        out, replace: as in `run_recipe`.
    """
    filled = {
        name: {table: data for table, data in task_tables.items() if len(data)} for name, task_tables in tables.items()
    }
    folder = publish(
        {name: task_tables for name, task_tables in filled.items() if task_tables} or tables,
        out or recipe.out,
        version=recipe.version,
        layout=recipe.layout,
        dropped=ledger(data for task_tables in tables.values() for data in task_tables.values()),
        card={"title": recipe.name, **recipe.card} if published is not None else None,
        cassette=recipe.cassette,
        recipe=published,
        replace=replace or recipe.replace,
    )
    push = push_to_hub(folder, recipe.hub.repo, private=recipe.hub.private) if recipe.hub is not None else None
    return folder, push


def recipe_file(recipe: Recipe) -> RecipeFile:
    """Return the recipe to publish; raise InputError if it holds a secret."""
    values = recipe.model_dump(exclude_defaults=True, exclude={"run"}, warnings=False)
    file = RecipeFile(values, *((commit_of(recipe._file), date_of(recipe._file)) if recipe._file else ()))
    file.text()  # raises before any model request
    return file


def _stack_tasks(tables: Iterable[Dataset]) -> Dataset:
    """Return the tables of all tasks as one table."""
    return _stack(list(tables), "mix")


def _stack(tables: list[Dataset], name: str) -> Dataset:
    """Return tables as one table; a single table keeps its lineage, which the same run in Python has."""
    return tables[0] if len(tables) == 1 else stack(tables, name)


def _task(name: str, recipe: Recipe, engines: Mapping[str, EngineSpec]) -> Task:
    """Return a task with the recipe's settings."""
    task, settings = TASKS[name], recipe.tasks.get(name, TaskSettings())
    fields: dict[str, Any] = {"reader_style": settings.reader_style}
    if settings.tool is not None:
        fields["tool"] = _tool(settings.tool, task.tool.name, engines)
    if settings.reader is not None:
        fields["reader"] = engines[settings.reader]
    return dataclasses.replace(task, **fields).with_rule(settings.rule)


def _tool(settings: ToolSettings, name: str, engines: Mapping[str, EngineSpec]) -> Tool:
    build, arguments = TOOL_KINDS[settings.kind], settings.arguments
    if "name" in inspect.signature(build).parameters:
        arguments.setdefault("name", name)
    if "engine" in arguments:
        arguments["engine"] = engines[arguments["engine"]]
    if "search" in arguments:
        arguments["search"] = _tool(ToolSettings(**arguments["search"]), "WikiSearch", engines)
    return build(**arguments)


def _run_stage1(
    questions: Dataset, recipe: Recipe, engines: Mapping[str, EngineSpec], shared: Mapping[str, Any]
) -> tuple[Dataset, Dataset | None, Dataset]:
    """Return the graded table, the measured need if it is wanted, and stage 1 of the questions of one task."""
    replies = {"accept_cut": recipe.accept_cut, "ask_again": recipe.ask_again, **shared}
    student = recipe.student.model_dump()
    threshold, engine = student.pop("threshold"), engines[student.pop("engine")]
    graded = grade(answer(questions, engine, **student, **replies), threshold=threshold, compat=recipe.compat, **shared)
    teachers: list[EngineSpec | Annotations] = [
        ANNOTATIONS if teacher == "annotations" else engines[teacher] for teacher in recipe.teachers
    ]
    options = {name: getattr(recipe, name) for name in ("attempts", "keep_unverified", "compat")}
    need = None
    if recipe.need is not None:
        settings = recipe.need.model_dump()
        options |= {name: settings.pop(name) for name in ("unsure", "hopeless")}
        measured = engines[settings.pop("engine") or recipe.student.engine]
        prompt = {name: student[name] for name in ("style", "examples", "strip_reasoning")}
        options["need"] = need = counterfactual(questions, measured, **prompt, **settings, **replies)
    stage1 = build_stage1(graded, teachers, **options, **replies)
    return graded, need, stage1


def _run_stage2(
    stage1: Dataset, recipe: Recipe, engines: Mapping[str, EngineSpec], shared: Mapping[str, Any]
) -> tuple[Dataset, Dataset]:
    """Return the responses and stage 2 of one task."""
    responders = [Responder(**{**dict(section), "engine": engines[section.engine]}) for section in recipe.responders]
    responded = respond(stage1, responders, accept_cut=recipe.accept_cut, ask_again=recipe.ask_again, **shared)
    options = recipe.stage2.model_dump(exclude_none=True)
    options["compat"] = options["compat"] or recipe.compat
    return responded, build_stage2(responded, **options, **shared)


def _questions(source: Source) -> Dataset:
    """Return the selected rows of one source, with a lineage that starts at the source and has its dropped rows."""
    options = source.own_options if source.is_own else {"data_dir": source.data_dir, **source.options}
    try:
        data = load_source(source.name, split=source.split, **options)
    except InputError as error:
        raise InputError(f"{source._place}{error}") from error
    if source.rows is None or source.rows >= len(data):
        return data
    if source.seed is not None:
        return subset(data, source.rows, source.seed)
    selected = data.select(range(source.rows))
    records = lineage(data)
    settings = records[-1]["settings"] if records else None
    record_source(selected, f"{source.name}: {source.rows} of {len(data)} rows", settings, ledger([data]))
    return selected
