"""One response per question with functions offered: the rows of BFCL.

| figure | definition |
|---|---|
| no call where no function fits | BFCL's accuracy of irrelevance: the response has no call |
| right call | BFCL's accuracy of simple calls: one call, of the right function, whose arguments `accepted` accepts |

What differs from BFCL's evaluation (`eval_runner.py` of the package bfcl-eval, 2026.3.23):

- The prompt is that of `offered`, in any prompt style; with `protocol="tools"`, the functions are in the request.
- A call counts in every format that the package reads, also within prose, and arguments count by position, too.
- A call that cannot be read is a call. BFCL counts it as none.
- A request without a reply counts nowhere. An empty reply is a reply without a call, as in BFCL.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from datasets import Dataset, Features, Value

from toolrlef_data.choices import check_choice
from toolrlef_data.engines.model_stage import ModelStage, run_model_stage
from toolrlef_data.engines.prompts import check_prompt, render_prompt
from toolrlef_data.engines.responses import build_request
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import Reply
from toolrlef_data.trice.benchmarks.accepted import are_accepted
from toolrlef_data.trice.benchmarks.offered import calls_in, instruction_for, schema_text
from toolrlef_data.trice.evaluation.report import Evaluation

__all__ = ["CALLS", "evaluate_calls"]

CALLS = Features(
    id=Value("string"),
    dataset=Value("string"),
    needs_call=Value("bool"),
    n_calls=Value("int64"),
    name=Value("string"),  # function of the first call
    arguments=Value("string"),  # its arguments as a JSON object; null for a call that cannot be read
    correct=Value("bool"),  # null where no call is right
    is_invented=Value("bool"),  # a call of a function that is not offered
    is_cut=Value("bool"),  # the reply ended at the token limit
    text=Value("string"),
    error=Value("string"),  # why there is no reply
)
REPLY = {name: Value("string") for name in ("text", "native", "finish_reason", "error")}


@dataclass(frozen=True)
class CallSettings:
    """The settings of the stage; the cache key contains its engine separately."""

    kind: ClassVar[str] = "function_calls"
    style: str
    protocol: str


def evaluate_calls(
    rows: Sequence[Mapping[str, Any]],
    spec: EngineSpec,
    *,
    style: str = "chat",
    stop: tuple[str, ...] = (),
    protocol: str = "text",
    num_proc: int | None = None,
) -> Evaluation:
    """Return the calls of a model on the rows of BFCL.

    Args:
        rows: the rows of `read_benchmark`.
        spec: the model.
        style, stop, protocol: as in `Responder`.
        num_proc: number of processes.

    Raises:
        TooManyFailures: the share of failed requests exceeds `EngineSpec.max_failed`; all received replies are saved.
    """
    check_prompt(style)
    check_choice("protocol", protocol, ("text", "tools"))
    table = Dataset.from_list(
        [
            {
                "id": row["id"],
                "question": row["question"],
                "functions": json.dumps(row["functions"], ensure_ascii=False),
            }
            for row in rows
        ]
    )
    stage = ModelStage(
        _call_request,
        _reply_columns,
        CallSettings(style, protocol),
        replace(spec, stop=(*spec.stop, *stop)),
        reads=["id", "question", "functions"],
        adds=REPLY,
        name="function calls",
        label=spec.model_name,
    )
    replies = run_model_stage(table, stage, num_proc=num_proc)
    outcomes = [_outcome(row, reply) for row, reply in zip(rows, replies, strict=True)]
    return Evaluation(Dataset.from_list(outcomes, features=CALLS), spec.model_name, "calls")


def _call_request(row: Mapping[str, Any], settings: CallSettings) -> Request:
    functions = json.loads(row["functions"])
    if settings.protocol == "tools":
        prompt = render_prompt(settings.style, row["question"], "")
        prompt = prompt if isinstance(prompt, str) else prompt[1:]  # the user's message alone
        return build_request(prompt, tuple(map(schema_text, functions)))
    return build_request(render_prompt(settings.style, instruction_for(functions), row["question"]))


def _reply_columns(row: Mapping[str, Any], replies: Sequence[Reply], settings: CallSettings) -> dict[str, Any]:
    (reply,) = replies
    return {
        "text": reply.text,
        "native": json.dumps(reply.tool_calls, ensure_ascii=False),
        "finish_reason": reply.finish_reason,
        "error": reply.error,
    }


def _outcome(row: Mapping[str, Any], reply: Mapping[str, Any]) -> dict[str, Any]:
    calls = [] if reply["error"] else calls_in(reply["text"] or "", json.loads(reply["native"]), row["functions"])
    first = calls[0] if calls else None
    correct = None
    if row["accepted"] is not None:
        schemas = {function["name"]: function["parameters"] for function in row["functions"]}
        ((name, accepted),) = row["accepted"].items()
        correct = (
            len(calls) == 1
            and calls[0].name == name
            and calls[0].arguments is not None
            and are_accepted(calls[0].arguments, schemas[name], accepted)
        )
    return {
        "id": row["id"],
        "dataset": row["dataset"],
        "needs_call": row["accepted"] is not None,
        "n_calls": len(calls),
        "name": first and first.name,
        "arguments": json.dumps(first.arguments, ensure_ascii=False) if first and first.arguments is not None else None,
        "correct": correct,
        "is_invented": any(not call.is_offered for call in calls),
        "is_cut": reply["finish_reason"] == "length",
        "text": reply["text"],
        "error": reply["error"],
    }
