"""What a model can do on each question without the tool, and with a call of the tool that is executed.

questions ─┬─ answer: k samples; the prompt does not name the tool ──grade──> p_plain ─┐
           └─ respond: k samples with a forced call ──execute, grade──> p_tool ────────┴──> need
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from toolrlef_data.checks import check_features
from toolrlef_data.columns import ANSWERED, NEED, QUESTIONS
from toolrlef_data.engines.rules import is_number, must_be
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import InputError
from toolrlef_data.tables.reshape import join
from toolrlef_data.tables.transform import apply
from toolrlef_data.tasks.given.memory import remember_tasks
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.parsing.calls import read_call
from toolrlef_data.trice.evaluation.intervals import wilson
from toolrlef_data.trice.execution import execute_responses
from toolrlef_data.trice.need.classes import need_class
from toolrlef_data.trice.offers import offer_tool
from toolrlef_data.trice.reply_check import ACCEPT_CUT
from toolrlef_data.trice.responders import Responder, respond
from toolrlef_data.trice.row_tasks import tasks_of
from toolrlef_data.trice.student import answer, grade_samples

__all__ = ["counterfactual"]

Row = Mapping[str, Any]
FORCED = "forced"  # the responder whose responses start with a call
PLAIN = ["p_plain", "p_plain_low", "p_plain_high", "n_plain", "tokens_plain", "calls_plain"]
TOOL = [name.replace("plain", "tool") for name in PLAIN]
IDENTITY = ("id", "task", "dataset")


def counterfactual(
    questions: Dataset,
    spec: EngineSpec,
    *,
    samples: int = 8,
    style: str = "chat",
    examples: int = 0,
    stop: tuple[str, ...] = (),
    protocol: str = "text",
    threshold: float = 0.5,
    strip_reasoning: bool = True,
    accept_cut: Collection[str] = ACCEPT_CUT,
    ask_again: Collection[str] = (),
    task: Task | Mapping[str, Task] | None = None,
    num_proc: int | None = None,
) -> Dataset:
    """Measure how often a model is right on each question without the tool, and with a call of the tool.

    The samples without the tool have the prompt of `answer`, which does not name the tool, so a run of `answer` with
    the same settings asks nothing again. The samples with the tool have the prompt of a `Responder` with `force_call`;
    their calls are executed. All replies are cached, and a killed run resumes.

    Args:
        questions: one split with the columns of `columns.QUESTIONS`.
        spec: the model, with a temperature above 0 if there are several samples.
        samples: responses of each kind per question; default 8. Fewer than 4 settle no class.
        style, stop, protocol: as in `Responder`.
        examples: number of few-shot examples in both prompts; default 0.
        threshold: the share of right responses that separates the classes (`need.classes`); default 0.5.
        strip_reasoning, accept_cut, ask_again: as in `answer`, for both kinds.
        task: one task for all rows, or a mapping of names to tasks; default: the task named in each row.
        num_proc: number of processes.

    Returns:
        One row per question (`columns.NEED`), with the class `need` and the model. Both sides have the share of right
        responses with its Wilson interval (95 %), the number of graded responses, and mean tokens and calls. Replies
        that were cut off (but see `accept_cut`), are empty or cannot be graded count as neither right nor wrong, and
        so do forced responses without a call.

    Raises:
        InputError: the table is no single split or lacks a column, or several samples lack a temperature.
        TooManyFailures: too many requests or calls failed; all replies and results are saved.

    Source: necessity measured on the model itself, arXiv 2605.14038; both sides of one question, arXiv 2605.00737.

    >>> from toolrlef_data import load_source, scripted
    >>> questions = load_source("sample", split="train").select(range(1))
    >>> model = scripted({"": "It is 0."}, temperature=1.0, progress=False)
    >>> row = counterfactual(questions, model, samples=8)[0]
    >>> row["p_plain"], row["n_plain"], row["n_tool"], row["need"]  # it never writes a call
    (0.0, 8, 0, 'unsure')
    """
    if not isinstance(questions, Dataset):
        raise InputError(f"counterfactual: expected one split, found a {type(questions).__name__}")
    if not isinstance(spec, EngineSpec):
        raise InputError(f"counterfactual needs a model: expected an EngineSpec, found {type(spec).__name__}")
    must_be("a number above 0 and below 1", lambda n: is_number(n) and 0 < n < 1).check("threshold", threshold)
    table = _questions_only(check_features(questions, QUESTIONS, "counterfactual"), num_proc)
    tasks = tasks_of(table, task)
    shared: dict[str, Any] = {"task": tasks, "num_proc": num_proc}
    replies: dict[str, Any] = {"accept_cut": accept_cut, "ask_again": ask_again, **shared}
    prompt: dict[str, Any] = {"style": style, "examples": examples, "strip_reasoning": strip_reasoning}
    answered = answer(table, spec, samples=samples, **prompt, **replies)
    added = [name for name in ANSWERED if name not in QUESTIONS]
    plain = apply(
        answered,
        _plain_columns,
        tasks,
        reads=["id", "task", "question", "context", "answers", *added],
        adds={name: NEED[name] for name in PLAIN},
        removes=[name for name in ANSWERED if name not in IDENTITY],
        name="without the tool",
        num_proc=num_proc,
    )
    responder = Responder(FORCED, spec, protocol=protocol, samples=samples, stop=stop, force_call=True, **prompt)
    offered = respond(offer_tool(answered, tasks, num_proc), [responder], **replies)
    names = [FORCED] if samples == 1 else [f"{FORCED}.{i + 1}" for i in range(samples)]
    executed = execute_responses(offered, names, tasks, num_proc=num_proc)
    tool = apply(
        executed,
        _tool_columns,
        tuple(names),
        reads=names,
        adds={name: NEED[name] for name in TOOL},
        removes=executed.column_names,
        name="with the tool",
        num_proc=num_proc,
    )
    need = apply(
        join([plain, tool], "need"),
        _class_columns,
        ClassSettings(spec.model_name, threshold),
        reads=["p_plain", "n_plain", "p_tool", "n_tool"],
        adds={name: NEED[name] for name in ("need", "model")},
        name="counterfactual",
        num_proc=num_proc,
    )
    return remember_tasks(need, tasks)


@dataclass(frozen=True)
class ClassSettings:
    """The settings of the classes."""

    model: str
    threshold: float


def _questions_only(table: Dataset, num_proc: int | None) -> Dataset:
    """Return a table without the columns that questions lack, such as those of an earlier stage."""
    extra = [name for name in table.column_names if name not in QUESTIONS]
    if not extra:
        return table
    return apply(table, _no_columns, reads=["id"], adds={}, removes=extra, name="questions", num_proc=num_proc)


def _no_columns(row: Row, settings: None) -> dict[str, Any]:
    return {}


def _plain_columns(row: Row, tasks: Mapping[str, Task]) -> dict[str, Any]:
    responses, task = [row["response"], *row["samples"]], tasks[row["task"]]
    _, grades = grade_samples(row, responses, task)
    calls = [read_call(r["text"], task.tool, r["finish_reason"]).n_calls for r in responses if r["error"] is None]
    return dict(zip(PLAIN, _figures(responses, grades, calls), strict=True))


def _tool_columns(row: Row, names: Sequence[str]) -> dict[str, Any]:
    responses = [row[name] for name in names]
    grades = [response["correct"] if response["tool"] is not None else None for response in responses]
    calls = [response["n_calls"] for response in responses if response["error"] is None]
    return dict(zip(TOOL, _figures(responses, grades, calls), strict=True))


def _figures(responses: Sequence[Row], grades: Sequence[bool | None], calls: Sequence[int]) -> list[float | int | None]:
    """Return the values of one side, in the order of `PLAIN`."""
    known = [grade for grade in grades if grade is not None]
    right, n = sum(known), len(known)
    tokens = [r["completion_tokens"] for r in responses if r["completion_tokens"] is not None]
    return [right / n if n else None, *wilson(right, n), n, _mean(tokens), _mean(calls)]


def _mean(values: Sequence[int]) -> float | None:
    return sum(values) / len(values) if values else None


def _class_columns(row: Row, settings: ClassSettings) -> dict[str, Any]:
    counts = [(round((row[f"p_{side}"] or 0) * row[f"n_{side}"]), row[f"n_{side}"]) for side in ("plain", "tool")]
    return {"need": need_class(*counts[0], *counts[1], settings.threshold), "model": settings.model}
