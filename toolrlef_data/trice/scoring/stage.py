"""The stage `score`: a rule of `scoring.RULES` scores the responses of every row, and incomplete rows are dropped."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict, Features

from toolrlef_data.checks import check_features, features_of
from toolrlef_data.choices import check_choice
from toolrlef_data.columns import NEED, STAGE1, STAGE2, responders_of
from toolrlef_data.engines.rules import FLAG
from toolrlef_data.records import NO_RESPONSE_ERRORS, TOOL_FAILURES, Drop, InputError, UnknownName
from toolrlef_data.tables.batches.mapping import function_name
from toolrlef_data.tables.lineage import lineage
from toolrlef_data.tables.transform import apply, keep
from toolrlef_data.tasks.task import Task
from toolrlef_data.trice.row_tasks import tasks_of, warn_of_older_grades
from toolrlef_data.trice.scoring import RULES, Candidate, Rule
from toolrlef_data.trice.scoring.candidates import (
    apply_rule,
    checked_rule,
    distance_of,
    has_call,
    keywords_for,
    missing_answer,
)

__all__ = [
    "is_compat",
    "lost_in_ledger",
    "measured_columns",
    "responders_in",
    "responders_scored",
    "rule_options",
    "score",
    "score_settings",
]

LACKING = ("drop_row", "drop_response")
MIN_OTHER_RESPONSES = 2  # besides gold, in a row that lacks a response
STAGE, SCORE = "stage2", "score"  # the names of the stages in the ledger and in the lineage
UNGRADED = frozenset({"unsure_grade", "unreadable_answer"})
EVIDENCE = ("predictions", "correct", "tool", "text", "tool_error", "finish_reason")  # what a rule reads
MEASURED = ("p_plain", "p_tool")  # columns of tables that were built with `need`
STATUS_FIELDS = ("error", "tool_error", "n_calls", "correct", "predictions")
TOOL_FAULT = "tool_fault:"
D = TypeVar("D", bound="Dataset | DatasetDict")


def score(
    executed: D,
    *,
    rule: str | Rule = "trice",
    trusted: Sequence[str] = (),
    compat: bool = False,
    lacking: str = "drop_row",
    task: Task | Mapping[str, Task] | None = None,
    num_proc: int | None = None,
    **options: Any,
) -> D:
    """Score the responses to every question by a rule.

    Args:
        executed: a table from `execute`.
        rule: a name in `RULES`, or a function as described in `build_stage2`.
        trusted, compat, lacking, task, num_proc, options: as in `build_stage2`.

    Returns:
        the stage 2 table (`columns.STAGE2`). Rows without a response and rows with a tool failure are dropped; the
        ledger records them.

    Raises:
        InputError: the responses are not executed, or the table lacks the column `gold`.
        UnknownName: an unknown rule, option, task, trusted responder or value of `lacking`.

    >>> from toolrlef_data import ANNOTATIONS, answer, build_stage1, execute, grade, load_source, respond, scripted
    >>> questions = load_source("sample", split="train").select(range(1))
    >>> graded = grade(answer(questions, scripted({"": "It is 0."}, progress=False)))
    >>> executed = execute(respond(build_stage1(graded, ANNOTATIONS), []))
    >>> score(executed, rule="paper")["scores"][:]
    [[20.0]]
    """
    settings = score_settings(
        executed, rule=rule, trusted=trusted, compat=compat, lacking=lacking, task=task, options=options
    )
    warn_of_older_grades([executed], settings.tasks)
    names = settings.names
    judged = (*STATUS_FIELDS, "tool_error_detail")
    reads = ["task", "answers", *(f"{name}.{field}" for name in names for field in judged)]
    complete = keep(executed, _drop_incomplete, settings, reads=reads, stage=STAGE, batched=True, num_proc=num_proc)
    fields = (*STATUS_FIELDS, "text", "tool", "tool_output", "tool_error_detail", "finish_reason")
    reads = ["instruction", "input", "id", "task", "dataset", "answers", *(f"{n}.{f}" for n in names for f in fields)]
    reads += measured_columns(complete)
    changes: dict[str, Any] = {"reads": reads, "adds": STAGE2, "removes": [*STAGE1, *names]}
    return apply(complete, _score_columns, settings, **changes, batched=True, name=SCORE, num_proc=num_proc)


def score_settings(
    data: Dataset | DatasetDict,
    *,
    rule: str | Rule,
    trusted: Sequence[str],
    compat: bool,
    lacking: str,
    task: Task | Mapping[str, Task] | None,
    options: Mapping[str, Any],
) -> ScoreSettings:
    """Return the checked settings of `score`, for a table before or after its execution.

    The rule is tried on an example row.
    """
    FLAG.check("compat", compat)
    check_choice("value of lacking:", lacking, LACKING)
    names = responders_in(data)
    if isinstance(trusted, str) or not isinstance(trusted, Collection):
        raise InputError(f"trusted: expected a list of responders, found {trusted!r:.80}")
    if unknown := sorted(set(trusted) - set(names), key=str):
        raise UnknownName("trusted responder", unknown[0], names)
    function = checked_rule(rule, RULES, options, names, trusted)
    if compat:
        options = {**rule_options(function), **options}
    tasks = tasks_of(data, task)
    return ScoreSettings(tasks, tuple(names), function, tuple(trusted), tuple(options.items()), compat, lacking)


def rule_options(rule: Rule) -> dict[str, Any]:
    """Return the options with which a rule scores as the original does."""
    return {"missing": "wrong"} if rule is RULES["trice"] else {}


def is_compat(data: Dataset) -> bool:
    """Return whether a stage 2 table was scored with `compat`, by its lineage."""
    return any(record["settings"]["compat"] for record in lineage(data) if record["step"] == SCORE)


def measured_columns(data: Dataset | DatasetDict) -> list[str]:
    """Return the columns of `MEASURED` that a table has; raise an InputError for values that are no numbers."""
    names = [name for name in MEASURED if name in features_of(data)]
    check_features(data, Features({name: NEED[name] for name in names}), "a scoring rule")
    return names


def responders_in(data: Dataset | DatasetDict) -> list[str]:
    """Return the responder columns in order, with gold first, as the ranking loss expects."""
    names = responders_of(features_of(data))
    if "gold" not in names:
        raise InputError(
            f"the table needs a responder column named gold; found: {', '.join(names) or 'no responder column'}"
        )
    return ["gold", *(name for name in names if name != "gold")]


@dataclass(frozen=True)
class ScoreSettings:
    """The settings of a scoring stage."""

    tasks: Mapping[str, Task]
    names: tuple[str, ...]
    rule: Rule
    trusted: tuple[str, ...]
    options: tuple[tuple[str, Any], ...]
    compat: bool
    lacking: str


def _drop_incomplete(columns: Mapping[str, list[Any]], settings: ScoreSettings) -> list[Drop | None]:
    """Drop rows whose gold answer cannot be graded, and rows that lack responses (see `build_stage2`)."""
    reasons: list[Drop | None] = [
        Drop(reason, " | ".join(answers)) if (reason := settings.tasks[task].ungradable_reason(answers)) else None
        for task, answers in zip(columns["task"], columns["answers"], strict=True)
    ]
    for i, lost in enumerate(_lost_responses(columns, settings)):
        n_others = len(settings.names) - 1 - len(lost)
        if lost and (settings.lacking == "drop_row" or "gold" in lost or n_others < MIN_OTHER_RESPONSES):
            whys = {name: _with_message(why, columns[f"{name}.tool_error_detail"][i]) for name, why in lost.items()}
            detail = json.dumps(whys, ensure_ascii=False)  # {responder: why its response is missing}
            reasons[i] = reasons[i] or Drop(next(iter(lost.values())), detail)
    return reasons


def _with_message(why: str, message: str | None) -> str:
    return f"{why}: {message}" if message and why.startswith(TOOL_FAULT) else why


def _lost_responses(columns: Mapping[str, list[Any]], settings: ScoreSettings) -> list[dict[str, str]]:
    """Return for each row why responses are missing, by responder."""
    lost: list[dict[str, str]] = [{} for _ in columns["task"]]
    for name in settings.names:
        fields = zip(*(columns[f"{name}.{field}"] for field in STATUS_FIELDS), strict=True)
        for i, (error, tool_error, n_calls, correct, predictions) in enumerate(fields):
            if error is None and n_calls is None:
                raise InputError(f"the responses of {name} are not executed: run `execute` first")
            if error is not None:
                lost[i][name] = error if error in NO_RESPONSE_ERRORS else f"no_reply:{error}"
            elif tool_error in TOOL_FAILURES:
                lost[i][name] = f"{TOOL_FAULT}{tool_error}"
            elif correct is None and name != "gold" and name not in settings.trusted:  # their scores need no grade
                lost[i][name] = "unsure_grade" if predictions else "unreadable_answer"
    return lost


def responders_scored(data: Dataset) -> list[str]:
    """Return the responders of a stage 2 table from its lineage, also those whose responses are all dropped."""
    scored = [record["settings"]["names"] for record in lineage(data) if record["step"] == SCORE]
    return list(dict.fromkeys(name for names in scored for name in names))


def lost_in_ledger(dropped: Dataset) -> Counter[tuple[str, str]]:
    """Return (responder, reason) -> number of dropped rows in which the response of the responder is missing."""
    lost: Counter[tuple[str, str]] = Counter()
    for stage, reason, detail in zip(dropped["stage"], dropped["reason"], dropped["detail"], strict=True):
        is_lost = reason in NO_RESPONSE_ERRORS | UNGRADED or reason.startswith(("no_reply:", TOOL_FAULT))
        if stage == STAGE and is_lost and detail.startswith("{"):  # older ledgers name one responder
            # A reason such as "tool_fault:timeout" can have the message of the tool behind it.
            lost.update((name, ":".join(str(why).split(":")[:2])) for name, why in json.loads(detail).items())
    return lost


def _score_columns(columns: Mapping[str, list[Any]], settings: ScoreSettings) -> dict[str, list[Any]]:
    tasks = [settings.tasks[name] for name in columns["task"]]
    lost = _lost_responses(columns, settings)
    origin = [[name for name in settings.names if name not in lost[i]] for i in range(len(tasks))]
    rule, options = settings.rule, dict(settings.options)
    keywords = {numeric: keywords_for(rule, numeric, settings.trusted, options) for numeric in (False, True)}
    measured: list[list[float | None]] = [columns.get(name, [None] * len(tasks)) for name in MEASURED]
    answers, scores = [], []
    for i, (task, golds) in enumerate(zip(tasks, columns["answers"], strict=True)):
        responses = [{field: columns[f"{name}.{field}"][i] for field in EVIDENCE} for name in origin[i]]
        pairs = [
            _candidate(name, response, task, golds, settings.compat, *(values[i] for values in measured))
            for name, response in zip(origin[i], responses, strict=True)
        ]
        answers.append([answer for _, answer in pairs])
        row = f"the row {columns['id'][i]!r}"
        scores.append(apply_rule(rule, [candidate for candidate, _ in pairs], keywords[task.numeric], row))
    by_row = {
        field: [[columns[f"{name}.{field}"][i] for name in names] for i, names in enumerate(origin)]
        for field in ("text", "tool", "tool_output", "tool_error", "tool_error_detail", "correct", "finish_reason")
    }
    return {
        "query": [f"{i}\n{q}" for i, q in zip(columns["instruction"], columns["input"], strict=True)],
        "responses": by_row["text"],
        "origin": origin,
        "scores": scores,
        "answer": answers,
        "uses_tool": [[tool is not None for tool in row] for row in by_row["tool"]],
        "tool_outputs": by_row["tool_output"],
        "errors": by_row["tool_error"],
        "rule": [function_name(settings.rule)] * len(tasks),
        "correct": by_row["correct"],
        "finish_reasons": by_row["finish_reason"],
        "error_details": by_row["tool_error_detail"],
        **{name: columns[name] for name in ("id", "task", "dataset", "answers", "instruction", "input")},
    }


def _candidate(
    name: str,
    response: Mapping[str, Any],
    task: Task,
    answers: Sequence[str],
    compat: bool,
    p_plain: float | None,
    p_tool: float | None,
) -> tuple[Candidate, str | None]:
    """Return the record of a response for the rule, and the column `answer`."""
    prediction = next(iter(response["predictions"]), None)
    answer = prediction
    if compat and prediction is None:
        answer = missing_answer(task, response["text"])
    if task.numeric:
        answer = None if answer is None else _rounded(answer)
    distance = distance_of(task, prediction, response["correct"], answers, compat)
    candidate = Candidate(
        name,
        prediction,
        response["correct"],
        has_call(task, response["text"], response["tool"] is not None, compat),
        response["tool"],
        distance,
        response["tool_error"],
        response["finish_reason"],
        p_plain,
        p_tool,
    )
    return candidate, answer


@functools.lru_cache(maxsize=1 << 16)
def _rounded(prediction: str) -> str | None:
    """Return a number as the original writes it, with at most two decimals ("57.0"); None if it is not a number."""
    try:
        return str(round(float(prediction), 2))
    except (ValueError, OverflowError):
        return None
