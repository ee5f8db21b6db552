"""Withhold a number of a question that its call needs: the question without it, and a question that asks for it.

| reason | the row |
|---|---|
| no_prompt | the input is null, or has a context beside the question |
| unreadable_formula | the tool does not compute the gold answer from the call |
| no_clause | no number of the call stands alone in a clause that is safe to rewrite |
| recoverable | the number follows from the rest of the question, or the rest leads to the gold answer |
| bounded | a number that the call does not use counts the same things: "He had 20 figs. He ate 34 figs." |
| not_needed | the call does not fail without the number, or gives the gold answer with another one, too |
| same_question | the question for the number asks what the row's question asks |
| stated | the question asks for another number that it states: "3 figs in May. ... How many figs in May?" |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from toolrlef_data.records import UnusableRow
from toolrlef_data.tasks.numbers import UNSIGNED, numbers_in, parse_number, unsigned_numbers
from toolrlef_data.tasks.task import Task
from toolrlef_data.trice.not_calling.clauses import Clause, clauses_in, last_sentence
from toolrlef_data.trice.not_calling.recoverable import is_recoverable, reachable

__all__ = ["Withheld", "withhold"]

OTHER_VALUES = (2, 3, 7, 11, 29, 101)  # factors by which a number is changed to show that the answer depends on it
AUXILIARIES = {"did", "do", "does", "are", "is", "was", "were"}
WORDS_BEFORE = 3  # words before a noun that may count it: "20 big red balloons"
_numbers = re.compile(UNSIGNED).finditer
_counted = re.compile(rf"{UNSIGNED} ([a-z]+) ((?:in|on|at|from|during) (?:the )?[a-z]+)\b").findall
_amounts = re.compile(rf"\$ ?{UNSIGNED}|{UNSIGNED} dollars").findall
_words = re.compile(r"[a-z0-9$']+").findall


class Withheld(NamedTuple):
    """A question without a number that its call needs.

    Args:
        question: the question.
        clause: the clause that stated the number.
        check: what was executed, as text.
    """

    question: str
    clause: Clause
    check: str


def withhold(question: str, argument: str, answers: Sequence[str], task: Task, random: Random) -> Withheld:
    """Withhold a number of a question, drawn from those that are safe to withhold.

    Args:
        question: the question.
        argument: the argument of its call, a formula.
        answers: the gold answers.
        task: the task, whose tool computes formulas.
        random: draws the number.

    Raises:
        UnusableRow: no number is safe to withhold; the reason is that of the last one.

    >>> from toolrlef_data import TASKS
    >>> text = "Paco had 28 cookies. He gave 7 cookies to Ann. How many cookies are left?"
    >>> withhold(text, "28-7", ["21"], TASKS["math"], Random(1)).question
    'Paco had some cookies. He gave 7 cookies to Ann. How many cookies are left?'
    """
    if not _is_gold(argument, answers, task):
        raise UnusableRow("unreadable_formula", f"expected one of {list(answers)[:3]}: {argument!r:.80}")
    clauses = list(clauses_in(question))
    error = UnusableRow("no_clause", question[:100])
    for clause in random.sample(clauses, len(clauses)):
        try:
            return _without(clause, question, argument, answers, task)
        except UnusableRow as reason:
            error = reason
    raise error


def _without(clause: Clause, question: str, argument: str, answers: Sequence[str], task: Task) -> Withheld:
    literals = [match for match in _numbers(argument) if parse_number(match[0].replace(",", "")) == clause.value]
    rest = question[: clause.start] + " " + question[clause.end :]
    if len(literals) != 1:
        raise UnusableRow("no_clause", f"{clause.number} occurs {len(literals)} times in {argument!r:.80}")
    changed = question[: clause.start] + clause.replacement + question[clause.end :]
    golds = [gold for gold in map(parse_number, answers) if gold is not None]
    numbers = numbers_in(rest)
    if is_recoverable(clause.value, changed) or any(_is_in(gold, reachable(numbers, 2)) for gold in golds):
        raise UnusableRow("recoverable", f"{clause.number}: {changed:.100}")
    if _is_bounded(clause, rest, argument):
        raise UnusableRow("bounded", f"{clause.number}: {changed:.100}")
    start, end = literals[0].span()
    others = [f"{argument[:start]}({clause.value:g}*{factor}){argument[end:]}" for factor in OTHER_VALUES]
    without = argument[:start] + "?" + argument[end:]
    error = task.tool.run(without).error
    if error is None or any(_is_gold(formula, answers, task) for formula in others):
        raise UnusableRow("not_needed", f"{clause.number} in {argument!r:.80}")
    final = last_sentence(question).lower()
    if any(noun in final and place in final for noun, place in _counted(rest.lower())):
        raise UnusableRow("stated", final)
    asked = set(_words(clause.direct.lower()))
    if asked - AUXILIARIES <= set(_words(final)):
        raise UnusableRow("same_question", clause.direct)
    check = f"{clause.number} is withheld: {without} -> {error}"
    return Withheld(changed, clause, check)


def _is_bounded(clause: Clause, rest: str, argument: str) -> bool:
    """Return whether the rest of the question counts the same things by a number that the call does not use."""
    used = set(unsigned_numbers(argument))
    if not clause.noun:
        return any(not numbers_in(amount) & used for amount in _amounts(rest))
    words = rest.lower().replace(",", "").split()
    places = [n for n, word in enumerate(words) if word.strip(".?!;:") == clause.noun]
    counts = [numbers_in(" ".join(words[max(0, n - WORDS_BEFORE) : n])) for n in places]
    return any(values and not values & used for values in counts)


def _is_gold(formula: str, answers: Sequence[str], task: Task) -> bool:
    result = task.tool.run(formula)
    return result.error is None and task.grade_output(str(result.value), answers) is True


def _is_in(value: float, values: set[float]) -> bool:
    return any(abs(other - value) <= 1e-6 * max(1.0, abs(value)) for other in values)
