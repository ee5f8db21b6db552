"""Multiple choice by log-probabilities: the rows of When2Call.

Each answer of a row is a choice, of one of the classes direct, tool_call, request_for_info and cannot_answer. The
definitions are those of When2Call's evaluation with lm-evaluation-harness (version 0.4.13, output type
`multiple_choice`):

| figure | definition |
|---|---|
| accuracy (`acc`) | the choice with the highest log-probability is the right one; the end token does not count |
| length-normalised accuracy (`acc_norm`) | the same for the log-probability divided by the number of characters |
| macro-F1 (`macro_f1`) | of the choices without normalisation: mean over the classes that are right or chosen |
| tool hallucination (`additional_metrics.py`) | share of rows with tool_call as choice, without normalisation |

Tool hallucination is of the rows without any tool where cannot_answer is right.

The prompt is not theirs, which depends on the model: it is that of `offered`, in any prompt style, and a call is
written as the prompt asks for it. White space at the ends of an answer is not part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset, Features, List, Value

from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.trice.benchmarks.offered import call_text, instruction_for
from toolrlef_data.trice.evaluation.report import Evaluation
from toolrlef_data.trice.ranking.logprobs import logprobs

__all__ = ["CHOICES", "evaluate_choices"]

CALL = "tool_call"
CHOICES = Features(
    id=Value("string"),
    dataset=Value("string"),
    right=Value("string"),  # class
    chosen=Value("string"),  # class of the highest log-probability; null without a value of each choice
    chosen_normalised=Value("string"),  # the same, per character
    n_tools=Value("int64"),
    classes=List(Value("string")),
    choices=List(Value("string")),
    logprobs=List(Value("float64")),  # nats, one per choice
    error=Value("string"),  # of the first choice without a value, as in `logprob_errors`
)


def evaluate_choices(
    rows: Sequence[Mapping[str, Any]], spec: EngineSpec, *, style: str = "chat", num_proc: int | None = None
) -> Evaluation:
    """Return the choices of a local model on the rows of When2Call.

    Args:
        rows: the rows of `read_benchmark`.
        spec: a model of kind "local", with or without an adapter.
        style: the prompt style.
        num_proc: number of processes.

    Raises:
        InputError: the spec is not local.
    """
    table = Dataset.from_list([_with_responses(row) for row in rows])
    valued = logprobs(table, spec, style=style, end=False, num_proc=num_proc)
    outcomes = [_outcome(row, found) for row, found in zip(rows, valued, strict=True)]
    return Evaluation(Dataset.from_list(outcomes, features=CHOICES), spec.model_name, "choices")


def _with_responses(row: Mapping[str, Any]) -> dict[str, Any]:
    choices = [call_text(text) if name == CALL else text for name, text in row["answers"].items()]
    prompt = {"instruction": instruction_for(row["functions"]), "input": row["question"]}
    return {"id": row["id"], "task": "when2call", "dataset": row["dataset"], **prompt, "responses": choices}


def _outcome(row: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    classes, choices, values = list(row["answers"]), found["responses"], found["logprobs"]
    error = next((error for error in found["logprob_errors"] if error), None)
    scores = {} if error else {"chosen": values, "chosen_normalised": _per_character(choices, values)}
    return {
        **{name: row[name] for name in ("id", "dataset", "right")},
        # Of equal values the first one, as `argmax` of numpy.
        **{name: classes[max(range(len(classes)), key=per_choice.__getitem__)] for name, per_choice in scores.items()},
        "n_tools": len(row["functions"]),
        "classes": classes,
        "choices": choices,
        "logprobs": values,
        "error": error,
    }


def _per_character(choices: Sequence[str], values: Sequence[float]) -> list[float]:
    return [value / len(text.strip()) for text, value in zip(choices, values, strict=True)]
