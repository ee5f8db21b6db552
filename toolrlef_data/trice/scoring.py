"""Scoring rules, which rank the responses to every question.

A rule is a function that maps the candidates of one row to a list of scores, one per candidate. `RULES` contains the
rules by name. A candidate is a mapping with these keys:

| key | value |
|---|---|
| name | the responder; `gold` is the output of stage 1 |
| prediction | the prediction as text, or None |
| correct | a bool, or None if the prediction cannot be graded |
| uses_tool | whether the response calls the tool |
| distance | numeric tasks: abs(prediction - gold) of values rounded to 2 decimals; else None |

Levels and rules are those of TRICE (arXiv 2305.13068) and its published code.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.columns import STAGE1, STAGE2, responders_of
from toolrlef_data.records import CALL_ERRORS, NO_RESPONSE_ERRORS, Choices, Drop, InputError, Score, UnknownName
from toolrlef_data.tables.lineage import lineage
from toolrlef_data.tables.transform import apply, features_of, function_name, keep
from toolrlef_data.tasks.task import Task
from toolrlef_data.trice.row_tasks import tasks_of, warn_of_older_grades

__all__ = ["LEVELS", "RULES", "Rule", "lost_in_ledger", "paper", "responders_in", "responders_scored", "score", "trice"]

LEVELS = (20.0, 15.0, 10.0, 5.0, 0.0)
LACKING = ("drop_row", "drop_response")
MIN_OTHER_RESPONSES = 2  # besides gold, in a row that lacks a response
STAGE, SCORE = "stage2", "score"  # the names of the stages in the ledger and in the lineage
UNGRADED = frozenset({"unsure_grade", "unreadable_answer"})
STATUS_FIELDS = ("error", "tool_error", "n_calls", "correct", "predictions")
D = TypeVar("D", bound="Dataset | DatasetDict")
Candidate = Mapping[str, Any]
Rule = Callable[..., list[Score]]

RULES: Choices[Rule] = Choices(
    "scoring rule", {"trice": "toolrlef_data.trice.scoring:trice", "paper": "toolrlef_data.trice.scoring:paper"}
)


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
        rule: a name in `RULES`, or a scoring function with the same signature.
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
    function = RULES[rule] if isinstance(rule, str) else rule
    parameters = list(inspect.signature(function).parameters)[1:]
    if unknown := [name for name in options if name not in parameters]:
        raise UnknownName(f"option of the rule {function_name(function)}:", unknown[0], parameters)
    if lacking not in LACKING:
        raise UnknownName("value of lacking:", lacking, LACKING)
    names = responders_in(executed)
    if unknown := sorted(set(trusted) - set(names)):
        raise UnknownName("trusted responder", unknown[0], names)
    if compat and function is RULES["trice"]:
        options = {"missing": "wrong", **options}
    tasks = tasks_of(executed, task)
    warn_of_older_grades([executed], tasks)
    settings = ScoreSettings(tasks, tuple(names), function, tuple(trusted), tuple(options.items()), compat, lacking)
    reads = ["task", "answers", *(f"{name}.{field}" for name in names for field in STATUS_FIELDS)]
    complete = keep(executed, _drop_incomplete, settings, reads=reads, stage=STAGE, batched=True, num_proc=num_proc)
    fields = (*STATUS_FIELDS, "text", "tool", "tool_output", "finish_reason")
    reads = ["instruction", "input", "id", "task", "dataset", "answers", *(f"{n}.{f}" for n in names for f in fields)]
    changes: dict[str, Any] = {"reads": reads, "adds": STAGE2, "removes": [*STAGE1, *names]}
    return apply(complete, _score_columns, settings, **changes, batched=True, name=SCORE, num_proc=num_proc)


def responders_in(data: Dataset | DatasetDict) -> list[str]:
    """Return the responder columns in order, with gold first, as the ranking loss expects."""
    names = responders_of(features_of(data))
    if "gold" not in names:
        raise InputError(
            f"the table needs a responder column named gold; found: {', '.join(names) or 'no responder column'}"
        )
    return ["gold", *(name for name in names if name != "gold")]


# The rules ------------------------------------------------------------------------------------------------------------


def trice(
    candidates: Sequence[Candidate],
    *,
    numeric: bool,
    trusted: Sequence[str] = (),
    missing: str = "zero",
    ties: str = "order",
    levels: Sequence[float] = LEVELS,
) -> list[Score]:
    """Score as the published code does: correct predictions by tool use, wrong numbers by distance.

    Args:
        candidates: the candidates of one row, in responder order.
        numeric: rank wrong predictions by distance, nearest first; otherwise all of them get the first wrong level.
        trusted: names that get the top level if gold uses the tool, else the second level, whatever their responses
            are. They do not change the levels of wrong predictions.
        missing: "zero": a response without a prediction scores the last level and does not use up a level; "wrong": it
            is ranked by its distance, as in the original.
        ties: "order": each of several equal distances uses up a level; "share": they share a level.
        levels: scores from best to worst, at least three; default: the original's five.

    >>> row = [("gold", True, True, 0), ("a", True, True, 0), ("b", False, False, 32.0), ("c", False, False, 3.0)]
    >>> named = [dict(name=n, prediction="", correct=c, uses_tool=u, distance=d) for n, c, u, d in row]
    >>> [score.score for score in trice(named, numeric=True)]
    [20.0, 20.0, 10.0, 15.0]
    """
    if len(levels) < 3:
        raise InputError(f"the rule 'trice' needs at least three levels, found {len(levels)}")
    _check_choice(missing, ("zero", "wrong"), "missing")
    _check_choice(ties, ("order", "share"), "ties")
    gold_uses_tool = _gold_candidate(candidates)["uses_tool"]
    scores: list[Score] = []
    wrong: list[tuple[float, int]] = []
    level = 1
    for i, candidate in enumerate(candidates):
        name, is_like_gold = candidate["name"], candidate["uses_tool"] == gold_uses_tool
        if name == "gold":
            scores.append(Score(name, levels[0], "gold"))
        elif name in trusted:
            scores.append(Score(name, levels[0 if gold_uses_tool else 1], "trusted"))
        elif candidate["correct"]:
            scores.append(Score(name, levels[0 if is_like_gold else 1], "correct"))
            level = level if is_like_gold else 2
        elif candidate["prediction"] is None and missing == "zero":
            scores.append(Score(name, levels[-1], "missing"))
        else:
            distance = candidate.get("distance")
            wrong.append((float("inf") if distance is None else distance, i))
            scores.append(Score(name, levels[-1], "wrong"))  # a placeholder until all distances are known
    wrong.sort()  # by distance, then in responder order
    for rank, (distance, i) in enumerate(wrong):
        if numeric and rank and not (ties == "share" and distance == wrong[rank - 1][0]):
            level += 1
        scores[i] = Score(candidates[i]["name"], levels[min(level, len(levels) - 1)], "wrong")
    return scores


def paper(
    candidates: Sequence[Candidate],
    *,
    numeric: bool,
    trusted: Sequence[str] = (),
    levels: Sequence[float] = LEVELS,
) -> list[Score]:
    """Score by the paper's five states: gold, then correct and wrong predictions with and without gold's tool use.

    Args:
        candidates: the candidates of one row, in responder order.
        numeric: ignored; equal states get equal scores.
        trusted: names that are scored as correct.
        levels: five scores from best to worst.

    >>> row = [("gold", True, True), ("a", True, True), ("b", True, False), ("c", False, True), ("d", False, False)]
    >>> named = [dict(name=n, prediction="1", correct=c, uses_tool=u) for n, c, u in row]
    >>> [score.score for score in paper(named, numeric=True)]
    [20.0, 15.0, 10.0, 5.0, 0.0]
    """
    if len(levels) != 5:
        raise InputError(f"the rule 'paper' has five states and needs five levels, found {len(levels)}")
    gold_uses_tool = _gold_candidate(candidates)["uses_tool"]
    scores = []
    for candidate in candidates:
        name, is_unlike_gold = candidate["name"], candidate["uses_tool"] != gold_uses_tool
        if name == "gold":
            scores.append(Score(name, levels[0], "gold"))
        elif candidate["correct"] or name in trusted:
            scores.append(Score(name, levels[1 + is_unlike_gold], "trusted" if name in trusted else "correct"))
        else:
            state = "missing" if candidate["prediction"] is None else "wrong"
            scores.append(Score(name, levels[3 + is_unlike_gold], state))
    return scores


def _gold_candidate(candidates: Sequence[Candidate]) -> Candidate:
    for candidate in candidates:
        if candidate["name"] == "gold":
            return candidate
    raise InputError(
        f"no candidate is named 'gold'; found: {', '.join(str(c['name']) for c in candidates) or '(none)'}"
    )


def _check_choice(value: str, choices: Sequence[str], option: str) -> None:
    if value not in choices:
        raise InputError(f"unknown {option} {value!r}; choose from: {', '.join(choices)}")


# The stage ------------------------------------------------------------------------------------------------------------


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
            detail = json.dumps(lost, ensure_ascii=False)  # {responder: why its response is missing}
            reasons[i] = reasons[i] or Drop(next(iter(lost.values())), detail)
    return reasons


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
            elif tool_error is not None and tool_error not in CALL_ERRORS:
                lost[i][name] = f"tool_fault:{tool_error}"
            elif correct is None and name != "gold" and name not in settings.trusted:  # their scores need no grade
                lost[i][name] = "unsure_grade" if predictions else "unreadable_answer"
    return lost


def responders_scored(data: Dataset) -> list[str]:
    """Return the responders of a stage 2 table from its lineage, also those whose responses are all dropped."""
    scored = [record["settings"]["names"] for record in lineage(data) if record["step"] == SCORE]
    return list(dict.fromkeys(name for names in scored for name in names))


def lost_in_ledger(dropped: Dataset) -> Counter[str]:
    """Return the number of dropped rows in which the response of each responder is missing, from a ledger."""
    lost: Counter[str] = Counter()
    for stage, reason, detail in zip(dropped["stage"], dropped["reason"], dropped["detail"], strict=True):
        is_lost = reason in NO_RESPONSE_ERRORS | UNGRADED or reason.startswith(("no_reply:", "tool_fault:"))
        if stage == STAGE and is_lost and detail.startswith("{"):  # older ledgers name one responder
            lost.update(json.loads(detail).keys())
    return lost


def _score_columns(columns: Mapping[str, list[Any]], settings: ScoreSettings) -> dict[str, list[Any]]:
    tasks = [settings.tasks[name] for name in columns["task"]]
    lost = _lost_responses(columns, settings)
    origin = [[name for name in settings.names if name not in lost[i]] for i in range(len(tasks))]
    candidates = [
        [
            _candidate(
                name,
                task,
                answers,
                columns[f"{name}.predictions"][i],
                columns[f"{name}.correct"][i],
                columns[f"{name}.tool"][i],
                columns[f"{name}.text"][i],
                settings.compat,
            )
            for name in origin[i]
        ]
        for i, (task, answers) in enumerate(zip(tasks, columns["answers"], strict=True))
    ]
    options = dict(settings.options)
    scores = [
        _score_values(row, settings.rule(row, numeric=task.numeric, trusted=settings.trusted, **options))
        for row, task in zip(candidates, tasks, strict=True)
    ]
    by_row = {
        field: [[columns[f"{name}.{field}"][i] for name in names] for i, names in enumerate(origin)]
        for field in ("text", "tool", "tool_output", "tool_error", "correct", "finish_reason")
    }
    return {
        "query": [f"{i}\n{q}" for i, q in zip(columns["instruction"], columns["input"], strict=True)],
        "responses": by_row["text"],
        "origin": origin,
        "scores": scores,
        "answer": [[c["answer"] for c in row] for row in candidates],
        "uses_tool": [[tool is not None for tool in row] for row in by_row["tool"]],
        "tool_outputs": by_row["tool_output"],
        "errors": by_row["tool_error"],
        "rule": [function_name(settings.rule)] * len(tasks),
        "correct": by_row["correct"],
        "finish_reasons": by_row["finish_reason"],
        **{name: columns[name] for name in ("id", "task", "dataset", "answers", "instruction", "input")},
    }


def _score_values(candidates: Sequence[Candidate], scores: Sequence[Score]) -> list[float]:
    if len(scores) != len(candidates):
        raise InputError(f"the rule returned {len(scores)} scores for {len(candidates)} responses")
    return [score.score for score in scores]


def _candidate(
    name: str,
    task: Task,
    answers: Sequence[str],
    predictions: Sequence[str],
    correct: bool | None,
    tool: str | None,
    text: str | None,
    compat: bool,
) -> dict[str, Any]:
    prediction = predictions[0] if predictions else None
    distance, answer = None, prediction
    if compat and prediction is None:
        answer = "0" if task.numeric else ""  # the original's value of a missing prediction
    if task.numeric:
        if not correct and task.distance is not None:
            distance = task.distance(answer, answers[:1] if compat else answers)
        if answer is not None:
            answer = _rounded(answer)
    return {
        "name": name,
        "prediction": prediction,
        "correct": correct,
        "uses_tool": task.tool.name in (text or "")
        if compat
        else tool is not None,  # the original looks for the name alone
        "distance": distance,
        "answer": answer,
    }


@functools.lru_cache(maxsize=1 << 16)
def _rounded(prediction: str) -> str | None:
    """Return a number as the original writes it, with at most two decimals ("57.0"); None if it is not a number."""
    try:
        return str(round(float(prediction), 2))
    except (ValueError, OverflowError):
        return None
