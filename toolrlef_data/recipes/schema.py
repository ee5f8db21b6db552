"""schema: the sections of a recipe; `check` says what must hold among them, `recipe` runs them."""

from __future__ import annotations

from typing import Any, Literal

import pydantic

from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.loading_scripts import SOURCES
from toolrlef_data.publishing.folder import VERSION

__all__ = ["MadeTool", "Recipe", "Response", "Source", "Student", "TaskSettings", "tasks_in"]


class Section(pydantic.BaseModel):
    """A section of a recipe; an unknown key is an error."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Source(Section):
    """Where questions come from: a name in `SOURCES`; the first `rows`, or as many drawn with `seed`; its options."""

    name: str
    split: str = "train"
    data_dir: str | None = None
    rows: int | None = pydantic.Field(default=None, gt=0)
    seed: int | None = None
    options: dict[str, Any] = {}


class MadeTool(pydantic.BaseModel):
    """A tool made from a corpus or a model: a name in `TOOL_KINDS` and that function's arguments.

    An argument `engine` is the name of an engine, an argument `search` such a tool again.
    """

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)
    kind: str

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class TaskSettings(Section):
    """What a task is given: its tool, and who reads what the tool finds (`Task.reader`)."""

    tool: MadeTool | None = None
    reader: str | None = None
    reader_style: str = "chat"
    strict: bool = False


class Student(Section):
    """Who answers first, without a tool; arguments of `answer` and `grade`."""

    engine: str
    style: str = "chat"
    examples: int = pydantic.Field(default=0, ge=0)
    samples: int = pydantic.Field(default=1, ge=1)
    threshold: float = pydantic.Field(default=0.5, gt=0, le=1)
    strip_reasoning: bool = True


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
    """How responses are scored; arguments of `build_stage2`, and the rule's own options where they are given."""

    rule: str = "trice"
    trusted: tuple[str, ...] = ()
    compat: bool = False
    ties: Literal["order", "share"] | None = None
    levels: tuple[float, ...] | None = None
    missing: Literal["zero", "wrong"] | None = None


class Recipe(Section):
    """A whole run."""

    name: str
    version: str = pydantic.Field(pattern=f"^{VERSION.pattern}$")
    out: str
    task: str | None = None  # a check: the task of every source
    layout: str = "hub"
    cassette: bool = False
    sources: tuple[Source, ...]
    tasks: dict[str, TaskSettings] = {}
    engines: dict[str, EngineSpec]
    student: Student
    teachers: tuple[str, ...] = ("annotations",)
    attempts: int = pydantic.Field(default=3, ge=1)
    keep_unverified: bool = False
    warm_up: WarmUp | None = None
    responders: tuple[Response, ...] = ()
    stage2: Stage2 = Stage2()
    card: dict[str, Any] = {}


def tasks_in(recipe: Recipe) -> list[str]:
    """The tasks of the sources, in their order."""
    return list(dict.fromkeys(SOURCES[source.name].task for source in recipe.sources if source.name in SOURCES))
