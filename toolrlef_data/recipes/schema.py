"""Schema of a recipe; `checks` validates the combination of its sections."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import pydantic

from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.loading_scripts import SOURCES
from toolrlef_data.loading_scripts.own.files import is_own_source
from toolrlef_data.publishing.manifest import VERSION
from toolrlef_data.tasks import TASKS

__all__ = [
    "Recipe",
    "ResponderSettings",
    "RunSettings",
    "Source",
    "Student",
    "TaskSettings",
    "ToolSettings",
    "task_of",
    "tasks_in",
]


RULE_OPTIONS = ("ties", "levels", "missing", "threshold")  # keys of `Stage2` that are options of some rules alone
OWN_KEYS = ("task", "question", "answers", "context", "id", "solution", "dataset", "config", "revision")
AskAgain = Literal["cut_off", "empty", "refused", "too_long", "content_filter", "bad_request"]


class Section(pydantic.BaseModel):
    """A section of a recipe; unknown keys are errors."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Source(Section):
    """A source of questions: a name in `SOURCES`, a file, a folder or "hub:org/name", and arguments of `load_source`.

    `rows` selects the first rows, or with `seed` a random subset of that size. The keys from `task` on are for your own
    files and data sets on the Hub.
    """

    name: str
    split: str = "train"
    data_dir: str | None = None
    rows: int | None = pydantic.Field(default=None, gt=0)
    seed: int | None = None
    options: dict[str, Any] = {}
    task: str | None = None
    question: str | None = None
    answers: str | None = None
    context: str | None = None
    id: str | None = None
    solution: str | None = None
    dataset: str | None = None
    config: str | None = None
    revision: str | None = None
    _place: str = pydantic.PrivateAttr(default="")  # file, line and key, which begin the message of an error

    @property
    def is_own(self) -> bool:
        """Whether this is a file, a folder or a data set on the Hub instead of a name in `SOURCES`."""
        return self.name not in SOURCES and is_own_source(self.name)

    @property
    def own_options(self) -> dict[str, str]:
        """The keys that the recipe sets for an own source."""
        values = {name: getattr(self, name) for name in OWN_KEYS}
        return {name: value for name, value in values.items() if value is not None}


class Decontaminate(Section):
    """The removal of questions that overlap test sets; the keys are arguments of `decontaminate`.

    `against` has names of sources and paths of files. Questions are removed after `rows` of a source has selected them.
    """

    against: tuple[str, ...] = pydantic.Field(min_length=1)
    data_dir: str | None = None
    n: int = pydantic.Field(default=13, ge=5)
    ignore_numbers: bool = True


class ToolSettings(pydantic.BaseModel):
    """A tool built from a corpus or a model: `kind` is a name in `TOOL_KINDS`, the other keys are its arguments.

    The argument `engine` is the name of an engine of the recipe; the argument `search` is another tool.
    """

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)
    kind: str

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class TaskSettings(Section):
    """Settings of a task: its tool, the engine of its reader (`Task.reader`), and the rule of its grader."""

    tool: ToolSettings | None = None
    reader: str | None = None
    reader_style: str = "chat"
    rule: Literal["default", "paper"] = "default"

    @pydantic.model_validator(mode="before")
    @classmethod
    def _ignore_strict(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "strict" not in values:
            return values
        if values["strict"] and values.get("rule", "default") != "default":
            raise ValueError(f"has both 'strict: true' and 'rule: {values['rule']}', which exclude each other")
        warnings.warn(
            "the key strict of a task is deprecated and has no effect: the default is strict; 'rule: paper' selects "
            "the paper's rule",
            DeprecationWarning,
            stacklevel=2,
        )
        return {name: value for name, value in values.items() if name != "strict"}


class Student(Section):
    """The student, which answers the questions without a tool; the keys are arguments of `answer` and `grade`."""

    engine: str
    style: str = "chat"
    examples: int = pydantic.Field(default=0, ge=0)
    samples: int = pydantic.Field(default=1, ge=1)
    threshold: float = pydantic.Field(default=0.5, gt=0, le=1)
    strip_reasoning: bool = True


class Need(Section):
    """A measurement of need; the keys are arguments of `counterfactual` and `build_stage1`.

    Prompt style, few-shot examples and `strip_reasoning` are the student's. `engine` is the student's unless it is
    greedy: then name the same model with a temperature.
    """

    engine: str | None = None
    samples: int = pydantic.Field(default=8, ge=1)
    threshold: float = pydantic.Field(default=0.5, gt=0, lt=1)
    protocol: Literal["text", "tools"] = "text"
    stop: tuple[str, ...] = ()
    unsure: Literal["drop", "call", "grade"] = "drop"
    hopeless: Literal["drop", "call", "grade"] = "call"


class WarmUp(Section):
    """A LoRA adapter trained on stage 1, available as the engine `name`; the other keys are arguments of `warm_up`."""

    name: str
    engine: str
    steps: int = pydantic.Field(default=12, ge=1)
    batch_size: int = pydantic.Field(default=4, ge=1)
    learning_rate: float = pydantic.Field(default=1e-4, gt=0)
    max_tokens: int = pydantic.Field(default=512, ge=1)
    style: str = "alpaca"
    seed: int = 0


class ResponderSettings(Section):
    """A responder of stage 2; the keys are arguments of `Responder`."""

    name: str
    engine: str
    style: str = "chat"
    protocol: Literal["text", "tools"] = "text"
    samples: int = pydantic.Field(default=1, ge=1)
    stop: tuple[str, ...] = ()
    strip_reasoning: bool = True
    examples: int | None = pydantic.Field(default=None, ge=0)
    force_call: bool = False


class Stage2(Section):
    """Scoring of the responses; the keys are arguments of `build_stage2` and options of the scoring rule."""

    rule: str = "trice"
    trusted: tuple[str, ...] = ()
    compat: bool = False
    lacking: Literal["drop_row", "drop_response"] = "drop_row"
    ties: Literal["order", "share"] | None = None
    levels: tuple[float, ...] | None = None
    missing: Literal["zero", "wrong"] | None = None
    threshold: float | None = None


class Hub(Section):
    """The repository to which the published folder is pushed; the keys are arguments of `push_to_hub`."""

    repo: str
    private: bool = False


class RunSettings(Section):
    """How the command `run` runs the recipe; none of the keys changes the result, and none is published.

    The keys from `address` on are for the backend `ray`, and arguments of `run_on_ray`.
    """

    backend: Literal["local", "ray"] = "local"
    num_proc: int | None = pydantic.Field(default=None, ge=1)
    address: str = "auto"
    shards: int | None = pydantic.Field(default=None, ge=1)
    folder: str | None = None
    num_cpus: float = pydantic.Field(default=1.0, ge=0)
    num_gpus: float = pydantic.Field(default=0.0, ge=0)


class Recipe(Section):
    """A complete run, from sources to a published folder."""

    name: str
    version: str = pydantic.Field(pattern=f"^{VERSION.pattern}$")
    out: str
    task: str | None = None  # if given, every source must have this task
    layout: str = "hub"
    cassette: bool = False
    replace: bool = False
    hub: Hub | None = None
    sources: tuple[Source, ...]
    decontaminate: Decontaminate | None = None
    tasks: dict[str, TaskSettings] = {}
    engines: dict[str, EngineSpec]
    student: Student
    need: Need | None = None
    teachers: tuple[str, ...] = ("annotations",)
    attempts: int = pydantic.Field(default=3, ge=1)
    keep_unverified: bool = False
    compat: bool = False  # in `grade`, `build_stage1` and `build_stage2`
    accept_cut: tuple[Literal["call", "marked"], ...] = ("call", "marked")
    ask_again: tuple[AskAgain, ...] = ()
    warm_up: WarmUp | None = None
    responders: tuple[ResponderSettings, ...] = ()
    stage2: Stage2 = Stage2()
    card: dict[str, Any] = {}
    run: RunSettings = RunSettings()
    _file: Path | None = pydantic.PrivateAttr(default=None)  # that it was loaded from; the card names its commit


def tasks_in(recipe: Recipe) -> list[str]:
    """Return the distinct tasks of the sources, in order of first use."""
    return list(dict.fromkeys(task for task in map(task_of, recipe.sources) if task is not None))


def task_of(source: Source) -> str | None:
    """Return the name of a source's task; None if it is unknown."""
    if source.name in SOURCES:
        return SOURCES[source.name].task
    return source.task if source.is_own and source.task in TASKS else None
