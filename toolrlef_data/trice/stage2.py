"""Stage 2, ranking data: several responses to every question, with their calls executed and their outcomes scored.

    stage1 ──respond (`responders`)──> responded: one struct column per responder; gold is the output of stage 1
           ──execute──> executed: parsed and executed calls, graded predictions
           ──score (`scoring`)──> stage2: one row per question, with a score for every response

`build_stage2` runs the stages after `respond`. The tool of the task executes the calls, and a rule of `scoring.RULES`
turns the outcomes of each row into scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import pyarrow.compute as pc
from datasets import Dataset, DatasetDict

from toolrlef_data.checks import features_of
from toolrlef_data.columns import RESPONSE
from toolrlef_data.engines.rules import FLAG
from toolrlef_data.records import NO_RESPONSE_ERRORS, InputError
from toolrlef_data.tables.batches.mapping import BATCH_ROWS
from toolrlef_data.tables.stage_cache import as_arrow
from toolrlef_data.tables.transform import apply
from toolrlef_data.tasks.given.memory import remember_tasks
from toolrlef_data.tasks.task import Task
from toolrlef_data.trice.cassette import open_cassette
from toolrlef_data.trice.execution import execute_responses
from toolrlef_data.trice.reply_check import text_as_original
from toolrlef_data.trice.row_tasks import tasks_of
from toolrlef_data.trice.scoring import Rule
from toolrlef_data.trice.scoring.stage import responders_in, score, score_settings

__all__ = ["build_stage2", "execute"]

D = TypeVar("D", bound="Dataset | DatasetDict")
ORIGINAL_FIELDS = ("text", "raw", "finish_reason", "error", "error_detail")


def build_stage2(
    candidates: D,
    *,
    rule: str | Rule = "trice",
    trusted: Sequence[str] = (),
    compat: bool = False,
    lacking: str = "drop_row",
    task: Task | Mapping[str, Task] | None = None,
    cassette: Dataset | None = None,
    num_proc: int | None = None,
    **options: Any,
) -> D:
    """Build stage 2: execute, grade and score the responses to every question.

    Args:
        candidates: a table from `respond`: the columns of stage 1 and one RESPONSE struct per responder, including
            `gold`.
        rule: a name in `scoring.RULES`, or a function: rule(candidates) -> a list with a number or `Score` for each
            `Candidate` of a row. It gets those of the keywords `numeric`, `trusted` and `options` that its signature
            names, and is tried on an example row first.
        trusted: names of responders that the rule trusts; `("chatgpt",)` in the original. Under "trice" they get the
            top score if gold uses the tool, else the second; under "paper" they count as correct.
        compat: grade and score as the original does. A mention of the tool's name is tool use. Answers in words are
            graded by the rule "paper". Only the first gold answer and the first prediction count. A reply that was cut
            off or is empty is a response, and a response without a prediction is ranked as wrong. Numbers and formulas
            are read as by default, since the original loses minus signs and evaluates Python.
        lacking: "drop_row": drop a row in which a response is missing or its tool failed; "drop_response": drop only
            that response, while gold and at least two other responses remain.
        task: one task for all rows, or a mapping of names to tasks; default: the task named in each row. It defines the
            tool and, if the tool output is not an answer, the reader (`Task.reader`).
        cassette: recorded tool executions (`cassette`) for a strict replay without tools or models.
        num_proc: number of processes.
        options: further options of the rule, such as `ties="share"`.

    Returns:
        the stage 2 table (`columns.STAGE2`). The ledger records the dropped rows; the detail names every responder
        whose response is missing.

    Raises:
        InputError: the table lacks the column `gold`, a tool is not set up, or a task lacks its reader.
        UnknownName: an unknown rule, option, task or trusted responder.
        CassetteMiss: the cassette lacks an execution.
        TooManyFailures: too many calls ended in tool failures; all results are saved.

    >>> from toolrlef_data import ANNOTATIONS, Responder, answer, build_stage1, grade, load_source, respond, scripted
    >>> questions = load_source("sample", split="train").select(range(1))
    >>> graded = grade(answer(questions, scripted({"": "It is 0."}, progress=False)))
    >>> hasty = Responder("hasty", scripted({"": "It is 1."}, progress=False))
    >>> build_stage2(respond(build_stage1(graded, ANNOTATIONS), [hasty]))["scores"][:]
    [[20.0, 15.0]]
    """
    scoring: dict[str, Any] = {"rule": rule, "trusted": trusted, "compat": compat, "lacking": lacking, "task": task}
    score_settings(candidates, **scoring, options=options)  # an error before the first call is executed
    executed = execute(candidates, compat=compat, task=task, cassette=cassette, num_proc=num_proc)
    stage2 = score(executed, **scoring, num_proc=num_proc, **options)
    return remember_tasks(stage2, tasks_of(candidates, task))


def execute(
    candidates: D,
    *,
    compat: bool = False,
    task: Task | Mapping[str, Task] | None = None,
    cassette: Dataset | None = None,
    num_proc: int | None = None,
) -> D:
    """Execute the call in every response, or extract its answer, and grade the prediction.

    Args:
        candidates: a table from `respond`.
        compat, task, cassette, num_proc: as in `build_stage2`.

    Returns:
        the table with n_calls, tool, argument, tool_output, tool_error, predictions and correct of every RESPONSE.
        `correct` is null if the model returned no response, if the tool failed, if the answer
        cannot be read, or if the grader is unsure.

    Raises:
        InputError: the table lacks the column `gold`, a tool is not set up, a task lacks its reader, or the task
            and stage 1 disagree about whether an output of stage 1 calls the tool.
        CassetteMiss: the cassette lacks an execution.
        TooManyFailures: too many calls ended in tool failures; all results are saved.

    >>> from toolrlef_data import ANNOTATIONS, answer, build_stage1, grade, load_source, respond, scripted
    >>> questions = load_source("sample", split="train").select(range(1))
    >>> graded = grade(answer(questions, scripted({"": "It is 0."}, progress=False)))
    >>> gold = execute(respond(build_stage1(graded, ANNOTATIONS), []))["gold"][0]
    >>> gold["tool"], gold["correct"]
    ('calculator', True)
    """
    FLAG.check("compat", compat)
    tasks = tasks_of(candidates, task)
    names = responders_in(candidates)
    lookup = None if cassette is None else open_cassette(cassette)
    if compat:
        reads = [f"{name}.{field}" for name in names for field in ORIGINAL_FIELDS]
        adds = {f"{name}.{field}": RESPONSE[field] for name in names for field in ("text", "error", "error_detail")}
        candidates = apply(candidates, _read_as_original, tuple(names), reads=reads, adds=adds, num_proc=num_proc)
    executed = execute_responses(candidates, names, tasks, compat=compat, cassette=lookup, num_proc=num_proc)
    if not compat and "uses_tool" in features_of(executed):
        for split in executed.values() if isinstance(executed, DatasetDict) else [executed]:
            _check_gold(split, tasks)
    return remember_tasks(executed, tasks)


def _check_gold(executed: Dataset, tasks: Mapping[str, Task]) -> None:
    """Raise an `InputError` if stage 1 and these tasks disagree about whether the output of a row calls the tool."""
    for table in as_arrow(executed, ["id", "task", "uses_tool", "gold"]).iter(BATCH_ROWS):
        gold = table.column("gold").combine_chunks()
        has_call = pc.is_valid(pc.struct_field(gold, ["tool"]))
        differs = pc.not_equal(has_call, table.column("uses_tool").combine_chunks())
        is_executed = pc.is_valid(pc.struct_field(gold, ["n_calls"]))
        row = pc.index(pc.and_(is_executed, differs), True).as_py()
        if row >= 0:
            row_id, name, uses_tool = (table.column(column)[row].as_py() for column in ("id", "task", "uses_tool"))
            in_stage1, found = ("calls", "no call") if uses_tool else ("does not call", "a call")
            raise InputError(
                f"the output of the row {row_id!r} {in_stage1} the tool in stage 1, but the task {name!r}, whose tool "
                f"is {tasks[name].tool.name}, finds {found} in it: pass the task of stage 1 as task=, or build stage 1 "
                "again"
            )


def _read_as_original(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the responses with the text of replies that were cut off or are empty."""
    columns: dict[str, Any] = {}
    for name in names:
        response = {field: row[f"{name}.{field}"] for field in ORIGINAL_FIELDS}
        response["text"] = text_as_original(response)
        if response["error"] in NO_RESPONSE_ERRORS:
            response |= {"error": None, "error_detail": None}
        columns |= {f"{name}.{field}": response[field] for field in ("text", "error", "error_detail")}
    return columns
