"""Responders: models whose responses to every question are added as struct columns, one column per responder.

Each column depends on stage 1 alone, so adding a responder sends requests to that responder only. `stage2` parses and
executes the responses.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from datasets import Dataset, DatasetDict, Features

from toolrlef_data.checks import check_features, features_of
from toolrlef_data.choices import check_choice
from toolrlef_data.columns import RESPONSE, STAGE1
from toolrlef_data.engines.model_stage import ModelStage, check_samples, run_model_stage
from toolrlef_data.engines.prompts import check_prompt, continuation, render_prompt
from toolrlef_data.engines.responses import build_request, build_response
from toolrlef_data.engines.rules import FLAG
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import InputError, Reply
from toolrlef_data.tables.reshape import join
from toolrlef_data.tables.transform import apply
from toolrlef_data.tasks.given.memory import remember_tasks
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.parsing.calls import parse_call, read_native_calls, render_call
from toolrlef_data.tools.tool import Tool, tool_schema
from toolrlef_data.trice.reply_check import ACCEPT_CUT, check_accept_cut, check_reply, warn_of_lost_replies
from toolrlef_data.trice.row_tasks import tasks_of

__all__ = ["RespondSettings", "Responder", "render_request", "respond"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Row = Mapping[str, Any]

OPTIONAL_COLUMNS = frozenset({"verified_by"})  # missing in older stage 1 tables
# The default number of few-shot examples by prompt style: TRICE's API and local responders.
DEFAULT_SHOTS = {"chat": 4, "completion": 4, "alpaca": 0, "vicuna": 0}


def respond(
    stage1: D,
    responders: Sequence[Responder],
    *,
    accept_cut: Collection[str] = ACCEPT_CUT,
    ask_again: Collection[str] = (),
    task: Task | Mapping[str, Task] | None = None,
    num_proc: int | None = None,
) -> D:
    """Add one struct column of responses per responder, and `gold`, the output of stage 1.

    Args:
        stage1: a table from `build_stage1`.
        responders: in the order of the columns, and later of `responses`.
        accept_cut, ask_again: as in `answer`.
        task: one task for all rows, or a mapping of names to tasks; default: the task named in each row.
        num_proc: number of processes.

    Returns:
        the table with the column `gold` and one RESPONSE struct per responder, or per sample of a responder. A reply
        that was cut off or is empty has a null text and the error `cut_off` or `empty`.

    Raises:
        InputError: two responders have the same name, or the table already has a column of that name.
        TooManyFailures: the share of failed requests exceeds `EngineSpec.max_failed`; all received replies are saved.

    >>> from toolrlef_data import ANNOTATIONS, answer, build_stage1, grade, load_source, scripted
    >>> questions = load_source("sample", split="train").select(range(1))
    >>> graded = grade(answer(questions, scripted({"": "It is 0."}, progress=False)))
    >>> hasty = Responder("hasty", scripted({"": "It is 1."}, progress=False))
    >>> respond(build_stage1(graded, ANNOTATIONS), [hasty])["hasty"][0]["text"]
    'It is 1.'
    """
    if not isinstance(responders, (list, tuple)) or not all(isinstance(one, Responder) for one in responders):
        raise InputError("responders: expected a list of Responder objects")
    names = [responder.name for responder in responders]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"responders need distinct names; found twice: {', '.join(repeated)}")
    tasks = tasks_of(stage1, task)
    for row_task in tasks.values():
        row_task.check_prompts()
    stage1_columns = list(features_of(stage1))
    optional = OPTIONAL_COLUMNS.difference(stage1_columns)
    needed = {name: feature for name, feature in STAGE1.items() if name not in optional}
    stage1 = check_features(stage1, Features(needed), "respond")
    if existing := sorted(set(stage1_columns) & {"gold", *names}):
        raise InputError(
            f"the table already has the columns {', '.join(existing)}: pass stage 1 and all responders at once"
        )
    accepted = check_accept_cut(accept_cut)
    adds = {"gold": RESPONSE}
    parts = [apply(stage1, _gold_column, None, reads=["output"], adds=adds, name="respond: gold", num_proc=num_proc)]
    for responder in responders:
        columns = (
            [responder.name]
            if responder.samples == 1
            else [f"{responder.name}.{i + 1}" for i in range(responder.samples)]
        )
        engine = replace(responder.engine, stop=(*responder.engine.stop, *responder.stop))
        settings = RespondSettings(tasks, responder, tuple(columns), accepted)
        stage = ModelStage(
            _responder_request,
            _response_columns,
            settings,
            engine,
            reads=["id", "task", "dataset", "instruction", "input"],
            adds=dict.fromkeys(columns, RESPONSE),
            name=f"respond: {responder.name}",
            removes=stage1_columns,
            samples=responder.samples,
            label=responder.name,
            ask_again=ask_again,
            response_of=_response,
        )
        parts.append(run_model_stage(stage1, stage, num_proc=num_proc))
        warn_of_lost_replies(parts[-1], columns, engine.max_tokens, responder.name)
    return remember_tasks(join(parts, "respond"), tasks)


@dataclass(frozen=True)
class Responder:
    """A model that responds to every question.

    Args:
        name: the name of its column; not `gold` and not a column of stage 1.
        engine: the model and its sampling settings.
        style: the prompt style: "chat", "completion", "alpaca" or "vicuna" (`prompts`); default "chat".
        protocol: "text" (default): the response contains the call as text; "tools": the request contains the tool's
            schema, and a native call is rendered as a text call.
        samples: responses per question; default 1. More than one need a temperature, and add the columns name.1 to
            name.n.
        stop: strings that end a response, in addition to those of the engine.
        strip_reasoning: move reasoning before the answer to its own field, which is not parsed; default True.
        examples: number of few-shot examples; default 4 for chat and completion, 0 for alpaca and vicuna, as in TRICE.
        force_call: demand a call of every response: a chat has a sentence that asks for one, and in the other styles
            the response starts with the tool's name and a parenthesis. Default False.

    Raises:
        UnknownName: an unknown style or protocol.
        InputError: the name cannot be a column, the engine is no EngineSpec, or a number is out of range.

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
    force_call: bool = False

    def __post_init__(self) -> None:
        for name in ("strip_reasoning", "force_call"):
            FLAG.check(name, getattr(self, name))
        check_prompt(self.style, self.examples)
        check_choice("protocol", self.protocol, ("text", "tools"))
        if not isinstance(self.engine, EngineSpec):
            raise InputError(f"{self.name!r} needs a model: expected an EngineSpec, found {type(self.engine).__name__}")
        check_samples(self.samples, self.engine)
        stop = (self.stop,) if isinstance(self.stop, str) else self.stop
        if not isinstance(stop, (tuple, list)) or not all(isinstance(text, str) and text for text in stop):
            raise InputError(f"stop: expected texts, found {self.stop!r:.80}")
        object.__setattr__(self, "stop", tuple(stop))
        is_name = isinstance(self.name, str) and self.name.strip() and "." not in self.name
        if not is_name or self.name in ("gold", *STAGE1):
            raise InputError(
                f"{self.name!r} cannot be the name of a responder, which names a column: expected a non-empty name "
                f"without dots that is not gold or a column of stage 1 ({', '.join(STAGE1)})"
            )

    @property
    def shots(self) -> int:
        """The number of few-shot examples in a prompt."""
        return DEFAULT_SHOTS[self.style] if self.examples is None else self.examples


@dataclass(frozen=True)
class RespondSettings:
    """The settings of one responder's stage; the cache key contains its engine separately."""

    kind: ClassVar[str] = "respond"
    tasks: Mapping[str, Task]
    responder: Responder
    columns: tuple[str, ...]
    accept_cut: tuple[str, ...]


def _gold_column(row: Row, settings: None) -> dict[str, Any]:
    return {"gold": build_response(None, text=row["output"])}


def _responder_request(row: Row, settings: RespondSettings) -> Request:
    task, responder = settings.tasks[row["task"]], settings.responder
    examples = task.examples_for(row["dataset"])[: responder.shots]
    shots = [(example.input, example.call) for example in examples]
    return render_request(responder, task.tool, shots, row["instruction"], row["input"])


def render_request(
    responder: Responder, tool: Tool, shots: Sequence[tuple[str, str]], instruction: str, input: str
) -> Request:
    """Return the request to a responder.

    Args:
        responder: the responder; its engine is not used.
        tool: the tool of the row's task.
        shots: few-shot examples as (input, output) pairs.
        instruction: of the row.
        input: of the row.
    """
    if responder.force_call and responder.style == "chat":
        instruction += f" Respond with one call, {_call_form(tool)}, and nothing else."
    prompt = render_prompt(responder.style, instruction, input, shots)
    if responder.force_call and isinstance(prompt, str):
        prompt += continuation(prompt, f"{tool.name}(")
    return build_request(prompt, (tool_schema(tool),) if responder.protocol == "tools" else ())


def _call_form(tool: Tool) -> str:
    parameter = tool.call_parameter
    return f"{tool.name}({parameter if isinstance(parameter, str) else ', '.join(parameter.names)})"


def _response_columns(row: Row, replies: Sequence[Reply], settings: RespondSettings) -> dict[str, Any]:
    responses = [_response(row, reply, settings) for reply in replies]
    return dict(zip(settings.columns, responses, strict=True))


def _response(row: Row, reply: Reply, settings: RespondSettings) -> dict[str, Any]:
    responder, task = settings.responder, settings.tasks[row["task"]]
    if responder.force_call and responder.style != "chat" and reply.text is not None:
        opening = f"{task.tool.name}("
        reply = replace(reply, text=reply.text if reply.text.lstrip().startswith(opening) else opening + reply.text)
    response = build_response(reply, strip_reasoning=responder.strip_reasoning)
    if responder.protocol == "tools" and not reply.error:
        response |= _call_text(response["text"], reply, task.tool)
    return check_reply(response, task, settings.accept_cut, responder.engine.max_tokens)


def _call_text(text: str, reply: Reply, tool: Tool) -> dict[str, Any]:
    """Return the fields of a response with a native call or a call as JSON, rendered as a text call."""
    native = read_native_calls(reply.tool_calls, tool, reply.finish_reason)
    if native is not None and native.arguments is not None:
        return {"text": native.text, "arguments": native.arguments}
    call = parse_call(text, tool)
    if call is not None:
        return {} if f"{tool.name}(" in text else {"text": render_call(call, tool)}  # a call written as JSON
    if native is not None and (native.names_tool or not text):
        return {"text": native.text}
    return {}
