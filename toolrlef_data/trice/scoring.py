"""Scoring: `score` ranks the responses of every question by a rule.

Rules are plain functions, one row's candidates in, one `Score` each out; `RULES` names them. A candidate is a mapping
{name, prediction, correct, uses_tool, distance}: the prediction as text or None; correct is a bool, or None where
nothing could be graded; distance is |prediction - gold| of values rounded to 2 decimals, for numeric tasks. Gold is the
candidate of that name. Levels and rules: TRICE (arXiv 2305.13068) and its published code.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.columns import STAGE1, STAGE2, responders_of
from toolrlef_data.records import CALL_ERRORS, Choices, Drop, InputError, Score, UnknownName
from toolrlef_data.tables.transform import apply, features_of, function_name, keep
from toolrlef_data.tasks.task import Task
from toolrlef_data.trice.row_tasks import tasks_of

__all__ = ["LEVELS", "RULES", "Rule", "paper", "responders_in", "score", "trice"]

LEVELS = (20.0, 15.0, 10.0, 5.0, 0.0)
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
    task: Task | Mapping[str, Task] | None = None,
    num_proc: int | None = None,
    **options: Any,
) -> D:
    """Score the responses of every question by a rule; arguments as in `build_stage2`, `executed` from `execute`."""
    function = RULES[rule] if isinstance(rule, str) else rule
    known = list(inspect.signature(function).parameters)[1:]
    if unknown := [name for name in options if name not in known]:
        raise UnknownName(f"option of the rule {function_name(function)}:", unknown[0], known)
    names = responders_in(executed)
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
    changes: dict[str, Any] = {"reads": reads, "adds": STAGE2, "removes": [*STAGE1, *names]}
    return apply(whole, _scored, settings, **changes, batched=True, name="score", num_proc=num_proc)


def responders_in(data: Dataset | DatasetDict) -> list[str]:
    """Responder columns in order, gold first, as the ranking loss expects."""
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
    """The published code's scores: gold first, right ones by tool use, wrong numbers by distance.

    Args:
        candidates: one row's, in responder order.
        numeric: wrong predictions are ranked by distance, nearest first; else all wrong ones get the first wrong level.
        trusted: names that get the top level where their tool use is gold's, else the second, whatever they answered;
            they neither set nor take a level below.
        missing: "zero": no prediction by the response's own fault scores the last level and takes none; "wrong": it is
            ranked among the wrong ones at its distance, as in the original.
        ties: "order": equal distances take one level each; "share": they share one.
        levels: from best to worst, five in the original.

    >>> row = [("gold", True, True, 0), ("a", True, True, 0), ("b", False, False, 32.0), ("c", False, False, 3.0)]
    >>> named = [dict(name=n, prediction="", correct=c, uses_tool=u, distance=d) for n, c, u, d in row]
    >>> [score.score for score in trice(named, numeric=True)]
    [20.0, 20.0, 10.0, 15.0]
    """
    if len(levels) < 3:
        raise InputError(f"the rule 'trice' needs at least three levels, found {len(levels)}")
    _check(missing, ("zero", "wrong"), "missing")
    _check(ties, ("order", "share"), "ties")
    gold_tool = _gold(candidates)["uses_tool"]
    scores: list[Score] = []
    wrong: list[tuple[float, int]] = []
    level = 1
    for i, candidate in enumerate(candidates):
        name, same = candidate["name"], candidate["uses_tool"] == gold_tool
        if name == "gold":
            scores.append(Score(name, levels[0], "gold"))
        elif name in trusted:
            scores.append(Score(name, levels[0 if same else 1], "trusted"))
        elif candidate["correct"]:
            scores.append(Score(name, levels[0 if same else 1], "correct"))
            level = level if same else 2
        elif candidate["prediction"] is None and missing == "zero":
            scores.append(Score(name, levels[-1], "missing"))
        else:
            distance = candidate.get("distance")
            wrong.append((float("inf") if distance is None else distance, i))
            scores.append(Score(name, levels[-1], "wrong"))  # its level is known when all distances are
    wrong.sort()  # by distance; ties stay in responder order
    for place, (distance, i) in enumerate(wrong):
        if numeric and place and not (ties == "share" and distance == wrong[place - 1][0]):
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
    """The paper's five states: gold; right with gold's tool use, right without; wrong with it, wrong without.

    Args:
        candidates: one row's, in responder order.
        numeric: not used: equal states get equal scores.
        trusted: names that count as right, whatever they answered.
        levels: from best to worst, five.

    >>> row = [("gold", True, True), ("a", True, True), ("b", True, False), ("c", False, True), ("d", False, False)]
    >>> named = [dict(name=n, prediction="1", correct=c, uses_tool=u) for n, c, u in row]
    >>> [score.score for score in paper(named, numeric=True)]
    [20.0, 15.0, 10.0, 5.0, 0.0]
    """
    if len(levels) != 5:
        raise InputError(f"the rule 'paper' has five states and needs five levels, found {len(levels)}")
    gold_tool = _gold(candidates)["uses_tool"]
    scores = []
    for candidate in candidates:
        name, other = candidate["name"], candidate["uses_tool"] != gold_tool
        if name == "gold":
            scores.append(Score(name, levels[0], "gold"))
        elif candidate["correct"] or name in trusted:
            scores.append(Score(name, levels[1 + other], "trusted" if name in trusted else "correct"))
        else:
            state = "missing" if candidate["prediction"] is None else "wrong"
            scores.append(Score(name, levels[3 + other], state))
    return scores


def _gold(candidates: Sequence[Candidate]) -> Candidate:
    for candidate in candidates:
        if candidate["name"] == "gold":
            return candidate
    raise InputError(
        f"no candidate is named 'gold'; found: {', '.join(str(c['name']) for c in candidates) or '(none)'}"
    )


def _check(value: str, choices: Sequence[str], what: str) -> None:
    if value not in choices:
        raise InputError(f"unknown {what} {value!r}; choose from: {', '.join(choices)}")


# The step -------------------------------------------------------------------------------------------------------------


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
        Drop(reason, " | ".join(answers)) if (reason := settings.tasks[task].ungradable_reason(answers)) else None
        for task, answers in zip(columns["task"], columns["answers"], strict=True)
    ]
    for name in settings.names:
        for i, (error, calls) in enumerate(zip(columns[f"{name}.error"], columns[f"{name}.n_calls"], strict=True)):
            if error is None and calls is None:
                raise InputError(f"the responses of {name} were not executed: run `execute` first")
            if error is not None:
                reasons[i] = reasons[i] or Drop(f"no_reply:{error}", name)
        for i, error in enumerate(columns[f"{name}.tool_error"]):
            if error is not None and error not in CALL_ERRORS:
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
        "rule": [function_name(settings.rule)] * count,
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
