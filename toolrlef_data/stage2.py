"""Stage 2, ranking data: several responses to every question, their calls executed, scored by the outcome.

    stage1 ──respond (`responding`)──> responded: one struct column a responder; gold is stage 1's own output
           ──execute──> executed: calls parsed and executed, predictions graded
           ──score──> stage2: one row a question, with a score for every response

`build_stage2` runs what follows `respond`. A response is data: it is parsed, its call is executed by the task's tool,
its prediction is graded, and a rule (`scoring.RULES`) turns one row's outcomes into scores.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.cassette import open_cassette
from toolrlef_data.columns import STAGE1, STAGE2, responders_of
from toolrlef_data.executing import execute_responses
from toolrlef_data.records import OWN_FAULTS, Drop, InputError, Score, UnknownName
from toolrlef_data.scoring import RULES
from toolrlef_data.tasks import Task, tasks_of
from toolrlef_data.transform import apply, features_of, keep, step_name

__all__ = ["build_stage2", "execute", "score"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Rule = Callable[..., list[Score]]


def build_stage2(
    candidates: D,
    *,
    rule: str | Rule = "trice",
    trusted: Sequence[str] = (),
    compat: bool = False,
    task: Task | Mapping[str, Task] | None = None,
    cassette: Dataset | None = None,
    num_proc: int | None = None,
    **options: Any,
) -> D:
    """Make stage 2: execute the responses of every question, grade and score them.

    Args:
        candidates: a table from `respond`: stage 1's columns and one RESPONSE struct a responder, `gold` among them.
        rule: a name in `scoring.RULES`, or a function like those.
        trusted: responders that the rule gives a right one's score, by name; `("chatgpt",)` in the original.
        compat: the original's reading: the tool's name anywhere is tool use, the first gold answer and the first
            prediction count, and a response without a prediction is ranked among the wrong ones.
        task: a task of your own for all rows, or some by their names; default: the task that each row names. It says
            which tool runs and, where the tool's output is no answer yet, which model reads it (`Task.reader`).
        cassette: recorded tool executions (`cassette`), replayed strictly: no tool runs, no model is asked.
        options: further options of the rule, such as `ties="share"`.

    Returns:
        the stage 2 table (`columns.STAGE2`). Rows that lack a response, or whose tool failed by its own fault, are in
        the ledger.
    """
    executed = execute(candidates, compat=compat, task=task, cassette=cassette, num_proc=num_proc)
    return score(executed, rule=rule, trusted=trusted, compat=compat, task=task, num_proc=num_proc, **options)


def execute(
    candidates: D,
    *,
    compat: bool = False,
    task: Task | Mapping[str, Task] | None = None,
    cassette: Dataset | None = None,
    num_proc: int | None = None,
) -> D:
    """Execute the call in every response, or read its answer, and grade the prediction.

    Args:
        candidates: a table from `respond`.
        compat, task, cassette: as in `build_stage2`.

    Returns:
        the table with n_calls, tool, argument, tool_output, tool_error, predictions and correct of every RESPONSE.
        `correct` is null where the model gave no response or the tool failed by its own fault.
    """
    tasks = tasks_of(candidates, task)
    names = _responders(candidates)
    play = None if cassette is None else open_cassette(cassette)
    return execute_responses(candidates, names, tasks, compat=compat, cassette=play, num_proc=num_proc)


def score(
    executed: D,
    *,
    rule: str | Rule = "trice",
    trusted: Sequence[str] = (),
    compat: bool = False,
    task: Task | Mapping[str, Task] | None = None,
    num_proc: int | None = None,
    **options: Any,
) -> D:
    """Score the responses of every question by a rule; arguments as in `build_stage2`, `executed` from `execute`."""
    function = RULES[rule] if isinstance(rule, str) else rule
    known = list(inspect.signature(function).parameters)[1:]
    if unknown := [name for name in options if name not in known]:
        raise UnknownName(f"option of the rule {step_name(function)}:", unknown[0], known)
    names = _responders(executed)
    if unknown := sorted(set(trusted) - set(names)):
        raise UnknownName("trusted responder", unknown[0], names)
    if compat and function is RULES["trice"]:
        options = {"missing": "wrong", **options}
    settings = Scoring(tasks_of(executed, task), tuple(names), function, tuple(trusted), tuple(options.items()), compat)
    judged = ("error", "tool_error", "n_calls")
    reads = ["task", "answers", *(f"{name}.{field}" for name in names for field in judged)]
    whole = keep(executed, _is_whole, settings, reads=reads, stage="stage2", batched=True, num_proc=num_proc)
    fields = ("text", "tool", "tool_output", "tool_error", "predictions", "correct")
    reads = ["instruction", "input", "id", "task", "dataset", "answers", *(f"{n}.{f}" for n in names for f in fields)]
    removes = [*STAGE1, *names]
    return apply(
        whole,
        _scored,
        settings,
        reads=reads,
        adds=STAGE2,
        removes=removes,
        batched=True,
        name="score",
        num_proc=num_proc,
    )


# Scoring --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scoring:
    """How outcomes become scores."""

    tasks: Mapping[str, Task]
    names: tuple[str, ...]
    rule: Rule
    trusted: tuple[str, ...]
    options: tuple[tuple[str, Any], ...]
    compat: bool


def _is_whole(columns: Mapping[str, list[Any]], settings: Scoring) -> list[Drop | None]:
    """A row is scored only where every responder responded, every tool worked, and the gold answer is one."""
    reasons: list[Drop | None] = [
        Drop(reason, " | ".join(answers)) if (reason := settings.tasks[task].usable(answers)) else None
        for task, answers in zip(columns["task"], columns["answers"], strict=True)
    ]
    for name in settings.names:
        for i, (error, calls) in enumerate(zip(columns[f"{name}.error"], columns[f"{name}.n_calls"], strict=True)):
            if error is None and calls is None:
                raise InputError(f"the responses of {name} were not executed: run `execute` first")
            if error is not None:
                reasons[i] = reasons[i] or Drop(f"no_reply:{error}", name)
        for i, error in enumerate(columns[f"{name}.tool_error"]):
            if error is not None and error not in OWN_FAULTS:
                reasons[i] = reasons[i] or Drop(f"tool_fault:{error}", name)
    return reasons


def _scored(columns: Mapping[str, list[Any]], settings: Scoring) -> dict[str, list[Any]]:
    count = len(columns["id"])
    tasks = [settings.tasks[name] for name in columns["task"]]
    read = [[columns[f"{name}.{field}"] for field in ("predictions", "correct", "tool")] for name in settings.names]
    candidates = [
        [
            _candidate(name, task, answers, predictions[i], correct[i], tool[i], settings.compat)
            for name, (predictions, correct, tool) in zip(settings.names, read, strict=True)
        ]
        for i, (task, answers) in enumerate(zip(tasks, columns["answers"], strict=True))
    ]
    options = dict(settings.options)
    scores = [
        _scores(settings.rule(row, numeric=task.numeric, trusted=settings.trusted, **options), settings)
        for row, task in zip(candidates, tasks, strict=True)
    ]
    by_row = {field: _across(columns, settings.names, field) for field in ("text", "tool", "tool_output", "tool_error")}
    return {
        "query": [f"{i}\n{q}" for i, q in zip(columns["instruction"], columns["input"], strict=True)],
        "responses": by_row["text"],
        "origin": [list(settings.names)] * count,
        "scores": scores,
        "answer": [[c["answer"] for c in row] for row in candidates],
        "uses_tool": [[tool is not None for tool in row] for row in by_row["tool"]],
        "tool_outputs": by_row["tool_output"],
        "errors": by_row["tool_error"],
        "rule": [step_name(settings.rule)] * count,
        **{name: columns[name] for name in ("id", "task", "dataset", "answers")},
    }


def _scores(given: Sequence[Score], settings: Scoring) -> list[float]:
    if len(given) != len(settings.names):
        raise InputError(f"the rule gave {len(given)} scores for {len(settings.names)} responses")
    return [score.score for score in given]


def _across(columns: Mapping[str, list[Any]], names: Sequence[str], field: str) -> list[list[Any]]:
    return [list(values) for values in zip(*(columns[f"{name}.{field}"] for name in names), strict=True)]


def _candidate(
    name: str,
    task: Task,
    answers: Sequence[str],
    predictions: Sequence[str],
    correct: bool | None,
    tool: str | None,
    compat: bool,
) -> dict[str, Any]:
    prediction = predictions[0] if predictions else None
    distance, answer = None, prediction
    if compat and prediction is None:
        answer = "0" if task.numeric else ""  # what the original reads where there is nothing
    if task.numeric:
        if not correct and task.distance is not None:
            distance = task.distance(answer, answers[:1] if compat else answers)
        if answer is not None:
            answer = _rounded(answer)
    return {
        "name": name,
        "prediction": prediction,
        "correct": correct,
        "uses_tool": tool is not None,
        "distance": distance,
        "answer": answer,
    }


@functools.lru_cache(maxsize=1 << 16)
def _rounded(prediction: str) -> str | None:
    """A number as the original writes it: a float of at most two decimals ("57.0"); None for what is no number."""
    try:
        return str(round(float(prediction), 2))
    except (ValueError, OverflowError):
        return None


def _responders(data: Dataset | DatasetDict) -> list[str]:
    """Responder columns in order, gold first, as the ranking loss expects."""
    names = responders_of(features_of(data))
    if "gold" not in names:
        raise InputError(
            f"the table needs a responder column named gold; found: {', '.join(names) or 'no responder column'}"
        )
    return ["gold", *(name for name in names if name != "gold")]
