"""The outcomes of a model on questions: its answers without the tool, and its responses when the tool is offered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Value

from toolrlef_data.checks import check_features
from toolrlef_data.columns import QUESTIONS
from toolrlef_data.engines.rules import FLAG
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import InputError
from toolrlef_data.tasks.task import Task
from toolrlef_data.trice.benchmarks.choices import evaluate_choices
from toolrlef_data.trice.benchmarks.files import Benchmark, read_benchmark
from toolrlef_data.trice.benchmarks.function_calls import evaluate_calls
from toolrlef_data.trice.evaluation.report import Evaluation
from toolrlef_data.trice.execution import execute_responses
from toolrlef_data.trice.offers import offer_tool
from toolrlef_data.trice.responders import Responder, respond
from toolrlef_data.trice.row_tasks import tasks_of
from toolrlef_data.trice.student import answer, grade

__all__ = ["evaluate"]

OUTCOME = {
    "text": Value("string"),
    "error": Value("string"),
    "uses_tool": Value("bool"),
    "tool_error": Value("string"),
    "correct": Value("bool"),
    "tokens": Value("int64"),
}
OUTCOMES = Features(
    id=Value("string"),
    task=Value("string"),
    dataset=Value("string"),
    needs_tool=Value("bool"),
    plain=OUTCOME,
    offered=OUTCOME,
)
NEEDS = {"needs_tool": True, "indifferent": False, "harmed": False}  # classes of a column `need`; others are unknown
OFFERED = "offered"


def evaluate(
    spec: EngineSpec,
    questions: Dataset | None = None,
    *,
    benchmark: str | Path | None = None,
    tools: bool = True,
    style: str = "chat",
    examples: int = 0,
    stop: tuple[str, ...] = (),
    protocol: str = "text",
    task: Task | Mapping[str, Task] | None = None,
    num_proc: int | None = None,
) -> Evaluation:
    """Let a model answer questions without the tool and with the tool offered, execute its calls and grade all.

    Both runs are cached as `answer` and `respond` are. With `benchmark`, evaluate the model on rows of others, such as
    those of When2Call, as their own evaluations do.

    Args:
        spec: the model. Multiple choice needs one of kind "local".
        questions: one split with the columns of `columns.QUESTIONS`. A column `needs_tool` (bool) or `need`
            ("needs_tool", "indifferent", "harmed"; others are unknown) says which questions need the tool. Default:
            those that the model answers wrongly without it in this run.
        benchmark: instead of questions, a file of When2Call or BFCL, or a file or folder of When2Tool, whose rows
            become questions (see `benchmarks.files`).
        tools: whether to offer the tool, too. Default: True.
        style, examples, stop, protocol: as in `Responder`; the prompt without the tool has as many examples.
        task: one task for all rows, or a mapping of names to tasks; default: the task named in each row.
        num_proc: number of processes.

    Returns:
        An `Evaluation`. `print` shows its figures; `differences` compares it with one of another model. For its figures
        on a benchmark, see `benchmarks.choices` and `benchmarks.function_calls`.

    Raises:
        InputError: the table is no single split, lacks a column, or has an ambiguous need; the file of the benchmark
            cannot be read, or an argument does not apply to its rows.
        TooManyFailures: the share of failed requests exceeds `EngineSpec.max_failed`; all received replies are saved.

    >>> from toolrlef_data import load_source, scripted
    >>> questions = load_source("sample", split="train").select(range(4))
    >>> print(evaluate(scripted({"": "It is 0."}, progress=False), questions, tools=False))
    mapping: 4 questions; 95 % intervals
    right without the tool            0.0% [0.0%, 49.0%] of 4
    no response without the tool      0.0% [0.0%, 49.0%] of 4
    """
    FLAG.check("tools", tools)
    if (questions is None) == (benchmark is None):
        raise InputError("evaluate: expected either questions or benchmark=")
    if benchmark is not None:
        found = read_benchmark(benchmark)
        if found.questions is None:
            if not tools or examples or task is not None:
                raise InputError(f"evaluate: tools, examples and task do not apply to the rows of {benchmark}")
            return _evaluate_rows(found, spec, style=style, stop=stop, protocol=protocol, num_proc=num_proc)
        questions = found.questions
    if not isinstance(questions, Dataset):
        raise InputError(f"evaluate: expected one split, found a {type(questions).__name__}")
    needs = _needs(questions)
    table = check_features(questions, QUESTIONS, "evaluate").select_columns(list(QUESTIONS))
    tasks = tasks_of(table, task)
    shared: dict[str, Any] = {"task": tasks, "num_proc": num_proc}
    plain = grade(answer(table, spec, style=style, examples=examples, **shared), **shared)
    outcomes = {
        row["id"]: {
            **{name: row[name] for name in ("id", "task", "dataset")},
            "plain": _outcome({**row["response"], "correct": row["correct"], "tool": None, "tool_error": None}),
            OFFERED: None,
            "needs_tool": needs.get(row["id"]) if needs else None if row["correct"] is None else not row["correct"],
        }
        for row in plain
    }
    if tools:
        offered = offer_tool(table, tasks, num_proc)
        responder = Responder(OFFERED, spec, style, protocol, stop=stop, examples=examples)
        responded = respond(offered, [responder], **shared)
        for row in execute_responses(responded, [OFFERED], tasks, num_proc=num_proc):
            if row["id"] in outcomes:
                outcomes[row["id"]][OFFERED] = _outcome(row[OFFERED])
    return Evaluation(Dataset.from_list(list(outcomes.values()), features=OUTCOMES), spec.model_name)


def _evaluate_rows(
    found: Benchmark, spec: EngineSpec, *, style: str, stop: tuple[str, ...], protocol: str, num_proc: int | None
) -> Evaluation:
    if found.kind == "calls":
        return evaluate_calls(found.rows, spec, style=style, stop=stop, protocol=protocol, num_proc=num_proc)
    if protocol != "text" or stop:
        raise InputError("evaluate: multiple choice has no replies: leave out stop and protocol")
    return evaluate_choices(found.rows, spec, style=style, num_proc=num_proc)


def _needs(questions: Dataset) -> dict[str, bool | None]:
    """Return by id whether a question needs the tool; an empty mapping if the table does not say."""
    names = questions.column_names
    if "need" in names and "needs_tool" in names:
        raise InputError("evaluate: the table has both columns need and needs_tool: remove one")
    if "need" in names:
        return {row["id"]: NEEDS.get(row["need"]) for row in questions.select_columns(["id", "need"])}
    if "needs_tool" in names:
        return dict(zip(questions["id"], questions["needs_tool"], strict=True))
    return {}


def _outcome(response: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a response that an evaluation keeps."""
    uses_tool = None if response["error"] is not None else response["tool"] is not None
    kept = {name: response[name] for name in ("text", "error", "tool_error", "correct")}
    return {**kept, "uses_tool": uses_tool, "tokens": response["completion_tokens"]}
