"""Responding: every responder's response to every question, one struct column each.

A column is made from stage 1 alone, so a responder that is added later is the only one that is asked. What stands in
a response is looked at later, in `stage2`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from datasets import Dataset, DatasetDict, Features

from toolrlef_data.columns import RESPONSE, STAGE1
from toolrlef_data.engines.model_stage import ModelStage, run_model_stage
from toolrlef_data.engines.prompts import STYLES, render_prompt
from toolrlef_data.engines.responses import build_request, build_response
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import InputError, Reply, UnknownName
from toolrlef_data.tables.transform import apply, check_features, features_of, join
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.calls import call_from_json, parse_call, render_call
from toolrlef_data.tools.tool import tool_schema
from toolrlef_data.trice.row_tasks import tasks_of

__all__ = ["Responder", "Responding", "respond"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Row = Mapping[str, Any]

LATER = frozenset({"verified_by"})  # columns that older tables of stage 1 lack
# Few-shot examples shown to models without an adapter, and to those with one: TRICE's API and local responders.
EXAMPLES = {"chat": 4, "completion": 4, "alpaca": 0, "vicuna": 0}


def respond(
    stage1: D,
    responders: Sequence[Responder],
    *,
    task: Task | Mapping[str, Task] | None = None,
    num_proc: int | None = None,
) -> D:
    """Let every responder respond to every question: one struct column each, beside `gold`, stage 1's own output.

    Each column is made from stage 1 alone, so a responder that is added later is the only one that is asked.

    Args:
        stage1: a table from `build_stage1`.
        responders: in the order that the columns, and later `responses`, shall have.

    Raises:
        InputError: two responders have one name.
    """
    if isinstance(responders, Responder) or not all(isinstance(responder, Responder) for responder in responders):
        raise InputError("respond takes a list of Responder objects")
    names = [responder.name for responder in responders]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"responders need names of their own; found twice: {', '.join(doubled)}")
    tasks = tasks_of(stage1, task)
    for own in tasks.values():
        own.check_prompts()
    columns_before = list(features_of(stage1))
    needed = {name: feature for name, feature in STAGE1.items() if name not in LATER}
    check_features(stage1, Features(needed), "respond")
    if taken := sorted(set(columns_before) & {"gold", *names}):
        raise InputError(
            f"the table has the columns {', '.join(taken)} already: pass stage 1 and all responders at once"
        )
    adds = {"gold": RESPONSE}
    parts = [apply(stage1, _gold, None, reads=["output"], adds=adds, name="respond: gold", num_proc=num_proc)]
    for responder in responders:
        columns = (
            [responder.name]
            if responder.samples == 1
            else [f"{responder.name}.{i + 1}" for i in range(responder.samples)]
        )
        engine = replace(responder.engine, stop=(*responder.engine.stop, *responder.stop))
        settings = Responding(tasks, responder, tuple(columns))
        stage = ModelStage(
            _respond_request,
            _responded,
            settings,
            engine,
            reads=["id", "task", "dataset", "instruction", "input"],
            adds=dict.fromkeys(columns, RESPONSE),
            name=f"respond: {responder.name}",
            removes=columns_before,
            samples=responder.samples,
            label=responder.name,
        )
        parts.append(run_model_stage(stage1, stage, num_proc=num_proc))
    return join(parts, "respond")


@dataclass(frozen=True)
class Responder:
    """One of the models that respond to every question.

    Args:
        name: of its column; not `gold`, and not a column of stage 1.
        engine: which model is asked and how.
        style: "chat", "completion", "alpaca" or "vicuna" (`prompts`).
        protocol: "text": the call stands in the text; "tools": the tool's schema is sent, and a native call is
            rendered as our text call.
        samples: responses a question; more than one give columns name.1 ... name.n and need a temperature.
        stop: a response ends before the first of these, beside the engine's own.
        strip_reasoning: keep reasoning before the answer in its own field, never parsed.
        examples: few-shot examples; default 4 for chat and completion, 0 for alpaca and vicuna, as in TRICE.

    >>> Responder("alpaca", EngineSpec("local", "my/model", adapter="my/lora"), style="alpaca").shots
    0
    """

    name: str
    engine: EngineSpec
    style: str = "chat"
    protocol: str = "text"
    samples: int = 1
    stop: tuple[str, ...] = ()
    strip_reasoning: bool = True
    examples: int | None = None

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise UnknownName("prompt style", self.style, STYLES)
        if self.protocol not in ("text", "tools"):
            raise UnknownName("protocol", self.protocol, ("text", "tools"))
        if self.name == "gold" or self.name in STAGE1 or "." in self.name or not self.name.strip():
            raise InputError(
                f"a responder cannot be named {self.name!r}: it names a column, so no dots, and none of gold, "
                f"{', '.join(STAGE1)}"
            )

    @property
    def shots(self) -> int:
        return EXAMPLES[self.style] if self.examples is None else self.examples


@dataclass(frozen=True)
class Responding:
    """One responder's settings; its engine counts by its own key."""

    kind: ClassVar[str] = "respond"
    tasks: Mapping[str, Task]
    responder: Responder
    columns: tuple[str, ...]


def _gold(row: Row, settings: None) -> dict[str, Any]:
    return {"gold": build_response(None, text=row["output"])}


def _respond_request(row: Row, settings: Responding) -> Request:
    task, responder = settings.tasks[row["task"]], settings.responder
    shown = [(example.input, example.call) for example in task.examples_for(row["dataset"])[: responder.shots]]
    prompt = render_prompt(responder.style, row["instruction"], row["input"], shown)
    return build_request(prompt, (tool_schema(task.tool),) if responder.protocol == "tools" else ())


def _responded(row: Row, replies: Sequence[Reply], settings: Responding) -> dict[str, Any]:
    responses = [_response(row, reply, settings) for reply in replies]
    return dict(zip(settings.columns, responses, strict=True))


def _response(row: Row, reply: Reply, settings: Responding) -> dict[str, Any]:
    responder, tool = settings.responder, settings.tasks[row["task"]].tool
    response = build_response(reply, strip_reasoning=responder.strip_reasoning)
    if responder.protocol == "tools" and not reply.error:
        # The arguments of a call that was cut off may be JSON by chance; it is no call all the same.
        whole = reply.tool_calls if reply.finish_reason != "length" else reply.tool_calls[:-1]
        native = [call_from_json(name, arguments, tool.parameter) for name, arguments in whole if name == tool.name]
        call = next((c for c in native if c is not None), None)
        if call is None and f"{tool.name}(" not in response["text"]:
            call = parse_call(response["text"], tool)  # written as JSON
        if call is not None:
            response["text"] = render_call(call)
    return response
