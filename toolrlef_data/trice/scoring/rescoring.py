"""Scores by another rule for a stage 2 table, from its own columns: no response is executed, and no model is asked."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.checks import features_of, require_columns
from toolrlef_data.columns import STAGE2
from toolrlef_data.engines.rules import FLAG
from toolrlef_data.records import InputError, UnknownName
from toolrlef_data.tables.batches.mapping import function_name
from toolrlef_data.tables.stage_cache import as_arrow
from toolrlef_data.tables.transform import apply
from toolrlef_data.tasks.task import Task
from toolrlef_data.trice.row_tasks import tasks_of
from toolrlef_data.trice.scoring import RULES, Candidate, Rule
from toolrlef_data.trice.scoring.candidates import (
    apply_rule,
    checked_rule,
    distance_of,
    has_call,
    keywords_for,
    missing_answer,
)
from toolrlef_data.trice.scoring.stage import MEASURED, is_compat, measured_columns, rule_options

__all__ = ["rescore"]

D = TypeVar("D", bound="Dataset | DatasetDict")
EVIDENCE = ("origin", "responses", "answer", "correct", "uses_tool", "tool_outputs", "errors", "finish_reasons")
READS = ("id", "task", "answers", *EVIDENCE)


@dataclass(frozen=True)
class RescoreSettings:
    """The settings of `rescore`."""

    tasks: Mapping[str, Task]
    rule: Rule
    trusted: tuple[str, ...]
    options: tuple[tuple[str, Any], ...]
    compat: bool


def rescore(
    stage2: D,
    rule: str | Rule,
    *,
    trusted: Sequence[str] = (),
    compat: bool | None = None,
    task: Task | Mapping[str, Task] | None = None,
    num_proc: int | None = None,
    **options: Any,
) -> D:
    """Score the responses of a stage 2 table by another rule, from the evidence in the table.

    No tool and no model is needed, so that a table from a folder or from the Hub is scored in seconds.

    Args:
        stage2: a stage 2 table, as built or as loaded.
        rule: a name in `RULES`, or a function as described in `build_stage2`.
        trusted: names of responders that the rule trusts.
        compat: whether the table was built with `compat=True`. Default: as its lineage says, False without a lineage,
            such as after a reload.
        task: as in `build_stage2`; it reads the predictions of numeric tasks.
        num_proc: number of processes.
        options: further options of the rule.

    Returns:
        the table with new values of `scores` and `rule`; all other columns are unchanged.

    Raises:
        MissingColumns: an earlier version built the table, without the grades of its responses.
        UnknownName: an unknown rule, option, task or trusted responder.
        InputError: the rule fails on an example row, or returns no score for a response.

    >>> from toolrlef_data import ANNOTATIONS, Responder, answer, build_stage1, build_stage2, grade, load_source
    >>> from toolrlef_data import rescore, respond, scripted
    >>> questions = load_source("sample", split="train").select(range(1))
    >>> graded = grade(answer(questions, scripted({"": "It is 0."}, progress=False)))
    >>> hasty = Responder("hasty", scripted({"": "It is 1."}, progress=False))
    >>> stage2 = build_stage2(respond(build_stage1(graded, ANNOTATIONS), [hasty]))
    >>> rescore(stage2, lambda candidates: [1.0 if c.correct else -1.0 for c in candidates])["scores"][:]
    [[1.0, -1.0]]
    """
    if isinstance(trusted, str) or not isinstance(trusted, Collection):
        raise InputError(f"trusted: expected a list of responders, found {trusted!r:.80}")
    splits = list(stage2.values()) if isinstance(stage2, DatasetDict) else [stage2]
    for split in splits:
        require_columns(split, READS, "the evidence of the scores")
    names = list(dict.fromkeys(name for split in splits for name in _responders(split)))
    if len(names) and (unknown := sorted(set(trusted) - set(names), key=str)):
        raise UnknownName("trusted responder", unknown[0], names)
    function = checked_rule(rule, RULES, options, names, trusted)
    if compat is None:
        compat = any(map(is_compat, splits))
    FLAG.check("compat", compat)
    if compat:
        options = {**rule_options(function), **options}
    settings = RescoreSettings(tasks_of(stage2, task), function, tuple(trusted), tuple(options.items()), compat)
    adds = {name: STAGE2[name] for name in ("scores", "rule")}
    has_all = set(adds) <= set(features_of(stage2))
    reads = [*READS, *(adds if has_all else ()), *measured_columns(stage2)]
    return apply(stage2, _rescored, settings, reads=reads, adds=adds, name="rescore", num_proc=num_proc)


def _responders(data: Dataset) -> Iterator[str]:
    """Yield the responders of each row."""
    for table in as_arrow(data).iter(1000):
        for names in table["origin"].to_pylist():
            yield from names


def _rescored(row: Mapping[str, Any], settings: RescoreSettings) -> dict[str, Any]:
    """Return the new scores of a row."""
    task = settings.tasks[row["task"]]
    keywords = keywords_for(settings.rule, task.numeric, settings.trusted, dict(settings.options))
    responses = zip(*(row[name] for name in EVIDENCE), strict=True)
    measured: dict[str, Any] = {name: row.get(name) for name in MEASURED}
    candidates = [
        replace(_candidate(task, settings.compat, row["answers"], *response), **measured) for response in responses
    ]
    scores = apply_rule(settings.rule, candidates, keywords, f"the row {row['id']!r}")
    return {"scores": scores, "rule": function_name(settings.rule)}


def _candidate(
    task: Task,
    compat: bool,
    answers: Sequence[str],
    name: str,
    text: str,
    answer: str | None,
    correct: bool | None,
    uses_tool: bool,
    output: str | None,
    error: str | None,
    finish_reason: str | None,
) -> Candidate:
    """Return the record of a response, as `score` made it.

    The column `answer` of a numeric task is rounded, so its prediction is read again: it is the tool's output, or in
    the response. With `compat`, the column has the original's value of a missing one.
    """
    prediction = None if compat and answer == missing_answer(task, text) else answer
    if task.numeric:
        extract = (task.with_rule("paper") if compat and task.has_rules else task).extract
        prediction = output if uses_tool else extract(text)
    distance = distance_of(task, prediction, correct, answers, compat)
    tool = task.tool.name if uses_tool else None
    return Candidate(
        name,
        prediction,
        correct,
        has_call(task, text, uses_tool, compat),
        tool,
        distance,
        error,
        finish_reason,
    )
