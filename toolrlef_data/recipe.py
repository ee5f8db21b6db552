"""recipe: a whole run as one YAML file, checked with messages that point at the line.

Sections: `sources`, `engines` (named `EngineSpec`s), `student`, `teachers`, `warm_up` (a LoRA adapter trained on stage
1, an engine like the others), `responders`, `stage2`, and where to publish. The shipped recipes are in `recipes/`.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml
from datasets import Dataset

from toolrlef_data.annotations import ANNOTATIONS, Annotations
from toolrlef_data.engines import ENGINES, EngineSpec
from toolrlef_data.lineage import lineage, record_source
from toolrlef_data.loading_scripts import SOURCES, load_source
from toolrlef_data.prompts import STYLES
from toolrlef_data.publish import LAYOUTS, publish
from toolrlef_data.records import InputError
from toolrlef_data.responding import Responder, respond
from toolrlef_data.scoring import RULES
from toolrlef_data.stage1 import answer, build_stage1, grade
from toolrlef_data.stage2 import build_stage2
from toolrlef_data.transform import stack

__all__ = ["Recipe", "Run", "load_recipe", "run_recipe", "shipped_recipes"]


class Section(pydantic.BaseModel):
    """A section of a recipe; an unknown key is an error."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Source(Section):
    """Where questions come from: a name in `SOURCES`; the first `rows`, or as many drawn with `seed`."""

    name: str
    split: str = "train"
    data_dir: str | None = None
    rows: int | None = pydantic.Field(default=None, gt=0)
    seed: int | None = None


class Engine(Section):
    """An `EngineSpec` by its field names; see there."""

    kind: str
    model: str
    revision: str | None = None
    adapter: str | None = None
    temperature: float = pydantic.Field(default=0.0, ge=0)
    top_p: float = pydantic.Field(default=1.0, gt=0, le=1)
    top_k: int = pydantic.Field(default=0, ge=0)
    num_beams: int = pydantic.Field(default=1, ge=1)
    repetition_penalty: float = pydantic.Field(default=1.0, gt=0)
    max_tokens: int = pydantic.Field(default=128, ge=1)
    stop: tuple[str, ...] = ()
    seed: int = 0
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    batch_tokens: int = pydantic.Field(default=16384, ge=1)
    max_failed: float = pydantic.Field(default=0.2, ge=0, le=1)

    def spec(self) -> EngineSpec:
        return EngineSpec(**self.model_dump())


class Student(Section):
    """Who answers first, without a tool; arguments of `answer` and `grade`."""

    engine: str
    style: str = "chat"
    examples: int = pydantic.Field(default=0, ge=0)
    samples: int = pydantic.Field(default=1, ge=1)
    threshold: float = pydantic.Field(default=0.5, gt=0, le=1)


class WarmUp(Section):
    """A LoRA adapter trained on stage 1: an engine of its own name; arguments of `warm_up`."""

    name: str
    engine: str
    steps: int = pydantic.Field(default=12, ge=1)
    batch_size: int = pydantic.Field(default=4, ge=1)
    learning_rate: float = pydantic.Field(default=1e-4, gt=0)
    style: str = "alpaca"
    seed: int = 0


class Response(Section):
    """A `Responder`."""

    name: str
    engine: str
    style: str = "chat"
    protocol: Literal["text", "tools"] = "text"
    samples: int = pydantic.Field(default=1, ge=1)
    stop: tuple[str, ...] = ()
    strip_reasoning: bool = True
    examples: int | None = pydantic.Field(default=None, ge=0)


class Stage2(Section):
    """How responses are scored; arguments of `build_stage2`."""

    rule: str = "trice"
    trusted: tuple[str, ...] = ()
    compat: bool = False


class Recipe(Section):
    """A whole run."""

    name: str
    version: str
    out: str
    task: Literal["math"] = "math"
    layout: str = "hub"
    sources: tuple[Source, ...]
    engines: dict[str, Engine]
    student: Student
    teachers: tuple[str, ...] = ("annotations",)
    attempts: int = pydantic.Field(default=3, ge=1)
    warm_up: WarmUp | None = None
    responders: tuple[Response, ...] = ()
    stage2: Stage2 = Stage2()
    card: dict[str, Any] = {}


@dataclasses.dataclass(frozen=True)
class Run:
    """What a recipe made: the tables, and the folder they were published to."""

    questions: Dataset
    graded: Dataset
    stage1: Dataset
    stage2: Dataset
    out: Path


def run_recipe(recipe: Recipe, *, out: str | Path | None = None, num_proc: int | None = None) -> Run:
    """Run a recipe from its sources to the published folder; what was done before is taken from the caches.

    Args:
        recipe: from `load_recipe`.
        out: in the place of the recipe's own folder.
        num_proc: processes for the steps that ask no model.
    """
    engines = {name: engine.spec() for name, engine in recipe.engines.items()}
    questions = stack([_questions(source) for source in recipe.sources], "questions")
    student = recipe.student
    answered = answer(
        questions,
        engines[student.engine],
        style=student.style,
        examples=student.examples,
        samples=student.samples,
        num_proc=num_proc,
    )
    graded = grade(answered, threshold=student.threshold, num_proc=num_proc)
    teachers: list[EngineSpec | Annotations] = [
        ANNOTATIONS if t == "annotations" else engines[t] for t in recipe.teachers
    ]
    stage1 = build_stage1(graded, teachers, attempts=recipe.attempts, num_proc=num_proc)
    if recipe.warm_up is not None:
        from toolrlef_data.training import warm_up

        settings = recipe.warm_up.model_dump(exclude={"name", "engine"})
        engines[recipe.warm_up.name] = warm_up(stage1, engines[recipe.warm_up.engine], **settings)
    responders = [Responder(**{**dict(response), "engine": engines[response.engine]}) for response in recipe.responders]
    candidates = respond(stage1, responders, num_proc=num_proc)
    settings = recipe.stage2.model_dump()
    stage2 = build_stage2(candidates, **settings, num_proc=num_proc)
    tables: dict[str, dict[str, Dataset]] = {recipe.task: {"stage1": stage1, "stage2": stage2}}
    card = {"title": recipe.name, **recipe.card}
    folder = publish(tables, out or recipe.out, version=recipe.version, layout=recipe.layout, card=card)
    return Run(questions, graded, stage1, stage2, folder)


def _questions(source: Source) -> Dataset:
    """The rows of one source, as the beginning of a trail."""
    data = load_source(source.name, split=source.split, data_dir=source.data_dir)
    if source.rows is None or source.rows >= len(data):
        return data
    order = (
        range(len(data))
        if source.seed is None
        else sorted(random.Random(source.seed).sample(range(len(data)), source.rows))
    )
    chosen = data.select(order[: source.rows])
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
        InputError: names the file, the line and what is wrong there; all mistakes at once.
    """
    file = shipped_recipes().get(str(path), Path(path))
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"no recipe {str(path)!r}: neither a file nor one of {', '.join(shipped_recipes())}") from None
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
    if mistakes := list(_wrong_names(recipe)):
        raise InputError(_report(file, lines, mistakes))
    if rows is None and not all_rows:
        return recipe
    sources = tuple(source.model_copy(update={"rows": rows}) for source in recipe.sources)
    return recipe.model_copy(update={"sources": sources})


Place = tuple[str | int, ...]


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
    if error["type"] == "extra_forbidden":
        return "is not a key of this section"
    return f"{error['msg'][:1].lower()}{error['msg'][1:]}, found {error['input']!r:.80}"


def _report(file: Path, lines: dict[Place, int], mistakes: list[tuple[Place, str]]) -> str:
    found = []
    for place, message in mistakes:
        known = place
        while known and known not in lines:
            known = known[:-1]
        found.append((lines[known], f"{file}:{lines[known]}: {'.'.join(map(str, place))} {message}"))
    return "\n".join(text for _, text in sorted(found))


def _wrong_names(recipe: Recipe) -> Iterator[tuple[Place, str]]:
    """Names that stand for nothing, each with its choices."""

    def check(place: Place, what: str, name: str, choices: Any) -> Iterator[tuple[Place, str]]:
        if name not in choices:
            yield place, f"names an unknown {what} {name!r}; choose from: {', '.join(sorted(choices))}"

    for name in ("sources", "teachers"):
        if not getattr(recipe, name):
            yield (name,), "needs at least one entry"
    engines = set(recipe.engines) | ({recipe.warm_up.name} if recipe.warm_up else set())
    for i, source in enumerate(recipe.sources):
        yield from check(("sources", i, "name"), "source", source.name, SOURCES)
    for name, engine in recipe.engines.items():
        yield from check(("engines", name, "kind"), "engine kind", engine.kind, ENGINES)
    yield from check(("student", "engine"), "engine", recipe.student.engine, recipe.engines)
    yield from check(("student", "style"), "prompt style", recipe.student.style, STYLES)
    for i, teacher in enumerate(recipe.teachers):
        yield from check(("teachers", i), "teacher", teacher, {"annotations", *recipe.engines})
    if recipe.warm_up is not None:
        yield from check(("warm_up", "engine"), "engine", recipe.warm_up.engine, recipe.engines)
        yield from check(("warm_up", "style"), "prompt style", recipe.warm_up.style, STYLES)
    for i, response in enumerate(recipe.responders):
        yield from check(("responders", i, "engine"), "engine", response.engine, engines)
        yield from check(("responders", i, "style"), "prompt style", response.style, STYLES)
    yield from check(("stage2", "rule"), "scoring rule", recipe.stage2.rule, RULES)
    yield from check(("layout",), "layout", recipe.layout, LAYOUTS)
