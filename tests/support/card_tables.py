"""Tables for tests of the data card, with every case that it counts; the values are random and the same in every run."""

from __future__ import annotations

import random
from typing import Any

from datasets import Dataset, Features

from toolrlef_data import TASKS
from toolrlef_data.columns import DROPPED, NEED, RESPONSE, STAGE1, STAGE2
from toolrlef_data.trice.ranking.logprobs import LOGPROBS

RESPONDERS = ("gold", "small", "large|model")
WORDS = ("figs", "and", "3 bags", "of 12,", "write to ann@mail.example", "or", "call +41 44 632 11 11")
NEEDS = ("needs_tool", "indifferent", "harmed", "hopeless", "unsure")
STAGE2_SCORED = Features(**STAGE2, **LOGPROBS)
RESPONDED = Features(**STAGE1, gold=RESPONSE, small=RESPONSE)


def stage1_rows(rows: int, task: str = "math") -> Dataset:
    """Return a table of stage 1 with targets of all kinds, and the need of each question."""
    measured = [
        {**dict.fromkeys(NEED), **stage1_row(n, task), "need": NEEDS[n % 5], "model": "tiny"} for n in range(rows)
    ]
    return Dataset.from_list(measured, features=Features(STAGE1 | NEED))


def stage1_row(n: int, task: str = "math") -> dict[str, Any]:
    draw = random.Random(f"{task} {n}")
    is_call = draw.random() < 0.6
    return {
        "instruction": TASKS[task].instruction,
        "input": f"Question {n // 2}: " + " ".join(draw.choices(WORDS, k=draw.randint(1, 30))),
        "output": f"{TASKS[task].tool.name}({n}+1)" if is_call else f"The answer is {n + 1}.",
        "id": f"{task}-{n}",
        "task": task,
        "dataset": draw.choice(("gsm8k", "asdiv")),
        "answers": [str(n + 1)],
        "uses_tool": is_call,
        "source": "teacher" if is_call else "student",
        "verified_by": draw.choice(("value", "output", None)) if is_call else None,
    }


def stage2_rows(rows: int, task: str = "math") -> Dataset:
    """Return a table of stage 2 with ties, ungraded responses, errors of calls and log-probabilities."""
    return Dataset.from_list([stage2_row(n, task) for n in range(rows)], features=STAGE2_SCORED)


def stage2_row(n: int, task: str) -> dict[str, Any]:
    draw = random.Random(f"{task} {n} ranked")
    shared = {name: value for name, value in stage1_row(n, task).items() if name in STAGE2 and name != "uses_tool"}
    names = [name for name in RESPONDERS if name == "gold" or draw.random() < 0.8]
    width = range(len(names))
    calls = [draw.random() < 0.5 for _ in width]
    errors = [draw.choice((None, None, "syntax", "zero_division")) if call else None for call in calls]
    missing = [draw.choice((None, None, None, "too_long")) for _ in width]
    tokens = [draw.randint(1, 40) for _ in width]
    responses = [" ".join(draw.choices(WORDS, k=draw.randint(1, 50))) for _ in width]
    return {
        **shared,
        "query": f"{shared['instruction']}\n{shared['input']}",
        "responses": responses,
        "origin": names,
        "scores": [20.0, *(draw.choice((20.0, 15.0, 10.0, 5.0, 0.5)) for _ in names[1:])],
        "answer": [None for _ in width],
        "uses_tool": calls,
        "tool_outputs": ["12" if call and not error else None for call, error in zip(calls, errors, strict=True)],
        "errors": errors,
        "rule": "trice",
        "correct": [True, *(draw.choice((True, False, None)) for _ in names[1:])],
        "finish_reasons": [draw.choice(("stop", "stop", "length")) for _ in width],
        "error_details": [None for _ in width],
        "logprobs": [None if error else -draw.random() * 90 for error in missing],
        "logprob_tokens": [None if error else n for error, n in zip(missing, tokens, strict=True)],
        "logprob_errors": missing,
        "logprob_model": "tiny@0123456789ab",
    }


def responded_rows(rows: int, task: str = "math") -> Dataset:
    """Return a table of responses with replies that were cut off, or have no text."""
    table = []
    for n in range(rows):
        draw = random.Random(f"{task} {n} responded")
        responses = {}
        for name in ("gold", "small"):
            error = draw.choice((None, None, "cut_off", "empty"))
            reply: dict[str, Any] = {
                "text": None if error else "It is 12.",
                "error": error,
                "finish_reason": "length" if error else "stop",
            }
            reply["completion_tokens"] = draw.randint(1, 90) if name != "gold" else None
            responses[name] = {**dict.fromkeys(RESPONSE), **reply}
        table.append({**stage1_row(n, task), **responses})
    return Dataset.from_list(table, features=RESPONDED)


def need_rows(rows: int, task: str = "math") -> Dataset:
    """Return a table of the measured need of two models."""
    table = []
    for model in ("tiny", "big"):
        for n in range(rows):
            draw = random.Random(f"{task} {n} {model}")
            values = {"id": f"{task}-{n}", "task": task, "dataset": "gsm8k", "need": draw.choice(NEEDS), "model": model}
            shares = {
                "p_plain": draw.choice((0.0, 0.25, 1.0)),
                "n_plain": 4,
                "p_tool": draw.choice((0.5, 1.0)),
                "n_tool": 8,
            }
            table.append({**dict.fromkeys(NEED), **values, **shares})
    return Dataset.from_list(table, features=NEED)


def dropped_rows(rows: int, task: str = "math") -> Dataset:
    """Return a ledger with lost responses of stage 2."""
    details = ('{"small": "cut_off"}', '{"small": "tool_fault:timeout: 3 s", "large|model": "empty"}')
    table = []
    for n in range(rows):
        stage = ("stage1", "stage2")[n % 2]
        reason, detail = ("wrong_value", "x -> 3") if stage == "stage1" else ("cut_off", details[n % 4 // 2])
        row = {
            "id": f"{task}-d{n}",
            "task": task,
            "dataset": "gsm8k",
            "stage": stage,
            "reason": reason,
            "detail": detail,
        }
        table.append(row)
    return Dataset.from_list(table, features=DROPPED)
