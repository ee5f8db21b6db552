"""The record of a response that a scoring rule reads, and the application of a rule to the records of one row."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from toolrlef_data.choices import Choices
from toolrlef_data.engines.rules import is_number
from toolrlef_data.records import InputError, Score, ToolrlefError, UnknownName
from toolrlef_data.tables.batches.mapping import function_name
from toolrlef_data.tasks.task import Task

__all__ = [
    "Candidate",
    "apply_rule",
    "checked_rule",
    "distance_of",
    "gold_in",
    "has_call",
    "keywords_for",
    "missing_answer",
    "records_of",
]

MISSING = "0"  # the original's value of a missing number
Rule = Callable[..., Sequence[Score | float]]


@dataclass(frozen=True)
class Candidate(Mapping[str, Any]):
    """A response as a scoring rule sees it; its fields are read as attributes or by key.

    Args:
        name: the responder; `gold` is the output of stage 1.
        prediction: the prediction as text; None without one.
        correct: whether the prediction is correct; None if it cannot be graded.
        uses_tool: whether the response calls the tool; also true for a failed call.
        tool: the name of the called tool; None without a call.
        distance: for wrong numbers: abs(prediction - gold) of values rounded to 2 decimals; else None.
        error: the error kind of the call; None without an error.
        finish_reason: "stop", "length" or "tool_calls"; None if unknown.
        p_plain, p_tool: the share of right samples of the measured model without the tool, and with it
            (`counterfactual`); equal in all candidates of a row, None where it was not measured.

    >>> candidate = Candidate("gold", "72", correct=True)
    >>> candidate.correct, candidate["prediction"], candidate.get("error")
    (True, '72', None)
    """

    name: str
    prediction: str | None = None
    correct: bool | None = None
    uses_tool: bool = False
    tool: str | None = None
    distance: float | None = None
    error: str | None = None
    finish_reason: str | None = None
    p_plain: float | None = None
    p_tool: float | None = None

    def __getitem__(self, field: str) -> Any:
        if field not in FIELDS:
            raise UnknownName("field of a candidate", field, FIELDS)
        return getattr(self, field)

    def __iter__(self) -> Iterator[str]:
        return iter(FIELDS)

    def __len__(self) -> int:
        return len(FIELDS)


FIELDS = [field.name for field in fields(Candidate)]
# Responses that an example row has, besides gold.
EXAMPLES = (
    Candidate("", "57", True, True, "calculator", None, None, "stop"),
    Candidate("", "25.5", False, False, None, 31.5, None, "stop"),
    Candidate("", None, False, True, "calculator", None, "zero_division", "stop"),
    Candidate("", None, None, False, None, None, None, "length"),
)


def distance_of(
    task: Task, prediction: str | None, correct: bool | None, answers: Sequence[str], compat: bool
) -> float | None:
    """Return the distance of a wrong number; with `compat` to the first gold answer, and a missing number is 0."""
    if not task.numeric or correct or task.distance is None:
        return None
    if not compat:
        return task.distance(prediction, answers)
    return task.distance(MISSING if prediction is None else prediction, answers[:1])


def missing_answer(task: Task, text: str | None) -> str:
    """Return the original's value of a missing prediction; it predicts a list if a reader reads passages."""
    is_list = has_call(task, text, False, True) and task.reader_prompt is not None and task.output_is_answer
    return MISSING if task.numeric else "[]" if is_list else ""


def has_call(task: Task, text: str | None, uses_tool: bool, compat: bool) -> bool:
    """Return whether a response calls the tool; the original (`compat`) looks for the name of the tool alone."""
    return task.tool.name in (text or "") if compat else uses_tool


def records_of(candidates: Sequence[Mapping[str, Any]]) -> list[Candidate]:
    """Return the records of a row that may be given as plain dicts, with fields left out.

    Raises:
        InputError: a dict has no name.
    """
    records = []
    for candidate in candidates:
        if not isinstance(candidate, Mapping) or "name" not in candidate:
            raise InputError(f"a candidate needs the name of its responder, found {candidate!r:.80}")
        if not isinstance(candidate, Candidate):
            candidate = Candidate(**{field: candidate[field] for field in FIELDS if field in candidate})
        records.append(candidate)
    return records


def gold_in(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate `gold` of a row; raise InputError if there is none."""
    for candidate in candidates:
        if candidate.name == "gold":
            return candidate
    raise InputError(f"no candidate is named 'gold'; found: {', '.join(c.name for c in candidates) or '(none)'}")


def checked_rule(
    rule: str | Rule, rules: Choices[Any], options: Mapping[str, Any], names: Sequence[str], trusted: Sequence[str]
) -> Rule:
    """Return a rule that is tried on an example row.

    Args:
        rule: a name in `rules`, or a function.
        rules: the rules by name.
        options: the options for the rule.
        names: the responders of the table.
        trusted: the trusted responders.

    Raises:
        UnknownName: an unknown rule or option.
        InputError: the rule is no function of candidates, fails on the example row, or returns no scores.
    """
    function = rules[rule] if isinstance(rule, str) else rule
    if not callable(function):
        raise InputError(f"rule: expected a name or a scoring function, found {rule!r:.80}")
    parameters = inspect.signature(function).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = list(parameters)[1:]
    if unknown := [name for name in options if name not in known and not takes_any]:
        raise UnknownName(f"option of the rule {function_name(function)}:", unknown[0], known)
    others = [name for name in names if name != "gold"]
    row = [Candidate("gold", "57", True, True, "calculator", None, None, "stop")]
    row += [Candidate(**{**EXAMPLES[i % len(EXAMPLES)], "name": name}) for i, name in enumerate(others)]
    try:
        apply_rule(function, row, keywords_for(function, True, trusted, options), "an example row")
    except ToolrlefError:
        raise
    except Exception as error:
        raise InputError(
            f"the rule {function_name(function)} fails on an example row: {type(error).__name__}: {error}. A rule is "
            "called as rule(candidates, numeric=..., trusted=..., **options) and returns a score for each candidate"
        ) from error
    return function


def keywords_for(rule: Rule, numeric: bool, trusted: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of `numeric`, `trusted` and the options that the signature of a rule names."""
    parameters = inspect.signature(rule).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    offered = {"numeric": numeric, "trusted": tuple(trusted), **options}
    return {name: value for name, value in offered.items() if takes_any or name in parameters}


def apply_rule(rule: Rule, candidates: Sequence[Candidate], keywords: Mapping[str, Any], where: str) -> list[float]:
    """Return the scores of the candidates of one row, in order.

    Args:
        rule: the rule.
        candidates: the records.
        keywords: the result of `keywords_for`.
        where: the row, for error messages.

    Raises:
        InputError: it returned no list with one finite number or `Score` for each candidate, in order.
    """
    result = rule(candidates, **keywords)
    what = f"the rule {function_name(rule)} returned for {where}"
    scores = list(result) if isinstance(result, (list, tuple)) or hasattr(result, "tolist") else None
    if scores is None or len(scores) != len(candidates):
        found = type(result).__name__ if scores is None else f"{len(scores)} scores"
        raise InputError(f"{what} {found}; expected a list of {len(candidates)} scores, one for each response")
    numbers = []
    for candidate, score in zip(candidates, scores, strict=True):
        if isinstance(score, Score) and score.name != candidate.name:
            raise InputError(f"{what} the score of {score.name!r} instead of that of {candidate.name!r}")
        number = score.score if isinstance(score, Score) else score
        number = number.item() if hasattr(number, "item") else number  # of numpy
        if not (is_number(number) or isinstance(number, bool)) or not math.isfinite(number):
            raise InputError(f"{what} the score {number!r:.80} of {candidate.name!r}; expected a finite number")
        numbers.append(float(number))
    return numbers
