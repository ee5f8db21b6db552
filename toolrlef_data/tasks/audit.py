"""Audits: error rates of a grader, measured with answers that are generated from the gold answers of a table.

`audit_grader` writes right and wrong answers, extracts their predictions and grades them, without a model:

| kind | right | one of the answers, for the gold answer Oslo |
|---|---|---|
| `plain` | yes | "The answer is Oslo." |
| `paraphrase` | yes | "I believe that it is Oslo." |
| `contrast` | yes | "Not Bergen, but Oslo." |
| `pair` | yes | "Bergen and Oslo" |
| `form` | yes | "OSLO"; for numbers "1,234", "1234.0", "12" for twelve |
| `list` | no | "It is Bergen, Turku, Malmo or Oslo." |
| `alternatives` | no | "Either Oslo or Bergen" |
| `negation` | no | "I do not think it is Oslo." |
| `retraction` | no | "It is Oslo. No, wait, it is Bergen." |
| `question` | no | "Is it Oslo?" |
| `echo` | no | the question, the context, or both |
| `inside_word` | no | "subOsloic"; for numbers "9129" |
| `other` | no | "The answer is Bergen." |
| `empty` | no | "..." |

Not covered: answers in other languages, aliases, answers with several sentences of reasoning.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from datasets import Dataset

from toolrlef_data.checks import check_table, check_type
from toolrlef_data.engines.rules import integer_from
from toolrlef_data.records import InputError
from toolrlef_data.tasks.statements.vocabulary import FUNCTION_WORDS, NO_CANDIDATE
from toolrlef_data.tasks.task import Task
from toolrlef_data.tasks.words import equal_forms, word_form

__all__ = ["Audit", "KindCounts", "audit_grader"]

Row = Mapping[str, Any]

RIGHT = {
    "plain": ["{gold}", "The answer is {gold}.", "It is {gold}."],
    "paraphrase": [
        *["I believe that it is {gold}.", "{gold}, I think.", "The correct answer is {gold}.", "It must be {gold}."],
        *[
            "Answer: {gold}",
            "**{gold}**",
            "Let me think. The answer is {gold}.",
            "I'm not sure, but I think it is {gold}.",
        ],
    ],
    "contrast": [
        "Not {a}, but {gold}.",
        "It is {gold}, not {a}.",
        "It is not {a}; it is {gold}.",
        "{gold} rather than {a}",
    ],
}
RIGHT_IN_WORDS = {
    "pair": ["{a} and {gold}", "{gold} and {a}"],
    "paraphrase": ["{gold} is the answer.", "{gold} (according to the text)"],
}
WRONG = {
    "list": [
        *["It is {a}, {b}, {c} or {gold}.", "{a}, {b} and {gold}", "{gold}, {a}, {b}, {c}", "{a}\n{b}\n{gold}"],
        *["- {gold}\n- {a}\n- {b}", "{a}; {b}; {gold}", "It is {a}. It is {b}. It is {gold}.", "{a}, {b}, {c}, {gold}"],
    ],
    "alternatives": [
        *["Either {gold} or {a}", "{gold} or {a}", "It is {a} or {gold}.", "{gold}, or maybe {a}", "{gold}, maybe {a}"],
        "It could be {gold}, it could be {a}.",
    ],
    "negation": [
        *["Not {gold}, but {a}.", "I do not think it is {gold}.", "It is not {gold}.", "It isn't {gold}."],
        *[
            "{gold} is not the answer.",
            "The answer is {a}, not {gold}.",
            "Neither {a} nor {gold}",
            "{a} rather than {gold}",
        ],
        "Anything except {gold}",
    ],
    "retraction": [
        "It is {gold}. No, wait, it is {a}.",
        "{gold}. Actually, {a}.",
        "The answer was {gold}. It is {a} now.",
    ],
    "question": ["Is it {gold}?", "Could the answer be {gold}?"],
    "other": ["{a}", "The answer is {a}.", "It is {a}."],
    "empty": ["", " \n", "...", "I do not know."],
}
ECHOES = ("{question}", "{context}", "Context: {context}\nQuestion: {question}", "The question is: {question}")
# Wrong answers for tables with few rows.
NAMES = ("Lisbon", "Aristotle", "copper", "Lake Ladoga", "Marie Curie", "violin", "Nairobi", "Saturn")
NUMBERS = ("17", "306", "2048", "91", "5300", "64", "1208", "453")
# Golds whose negation is another answer, such as "not no".
UNUSABLE = frozenset(f" {word} " for word in ("yes", "no", "not", "none", "never", "nothing", "true", "false", "both"))
LEADS = (FUNCTION_WORDS | NO_CANDIDATE) - {"the", "a", "an"}
# Neither a list, an alternative nor a negation.
is_plain = re.compile(r"(?!.*\b(?:and|or|not|no|nothing|never|vs|\w+n't)\b)[\w' -]{1,40}", re.IGNORECASE).fullmatch
is_number = re.compile(r"[-\u2212]?[\d,]*\.?\d+").fullmatch


class KindCounts(NamedTuple):
    """Counts of one kind: whether the answers are right, their number, and how many are graded correct and unsure."""

    is_right: bool
    probes: int
    passed: int
    unsure: int


class Audit(NamedTuple):
    """Error rates of a grader.

    Args:
        probes: number of graded answers.
        false_pass: share of the wrong answers that were graded correct.
        false_fail: share of the right answers that were graded incorrect or unsure.
        kinds: kind of answers -> counts.
        errors: kind of answers -> up to five answers with a wrong grade, each with its gold answer.
    """

    probes: int
    false_pass: float
    false_fail: float
    kinds: dict[str, KindCounts]
    errors: dict[str, list[tuple[str, str]]]


class Probe(NamedTuple):
    """An answer, with its kind."""

    kind: str
    is_right: bool
    text: str


def audit_grader(task: Task, rows: Iterable[Row], *, probes: int = 1000, seed: int = 0) -> Audit:
    """Measure the error rates of a task's grader with generated answers.

    Args:
        task: the task; `Task.extract` and `Task.grade` are called.
        rows: questions with their gold answers (`columns.QUESTIONS`); `question` and `context` may be missing.
        probes: minimum number of answers; default 1000.
        seed: seed of the random draw; default 0.

    Returns:
        the error rates, with counts by kind.

    Raises:
        InputError: `task` is not a Task, `probes` is below 1, no row has a gold answer that can be graded, or fewer
            than three wrong answers are known for each row.

    >>> from toolrlef_data import TASKS, load_source
    >>> audit = audit_grader(TASKS["qa"], load_source("sample_qa", split="train"))
    >>> audit.probes >= 1000, audit.false_pass, audit.false_fail
    (True, 0.0, 0.0)
    """
    if not isinstance(task, Task):
        raise InputError(f"audit_grader: expected a Task, such as TASKS['qa'], found {type(task).__name__}")
    integer_from(1).check("audit_grader: probes", probes)
    check_type("audit_grader: seed", seed, "an integer", int)
    rows = check_table(rows) if isinstance(rows, Dataset) else list(rows)
    if not all(isinstance(row, Mapping) and isinstance(row.get("answers"), list) for row in rows):
        raise InputError("audit_grader: expected questions with a list of answers each")
    usable = [(row, gold) for row in rows for gold in row["answers"][:3] if _is_usable(task, row, gold)]
    if not usable:
        raise InputError(f"audit_grader: no row has a gold answer that the task {task.name!r} can grade")
    others = [gold for _, gold in usable] + list(NUMBERS if task.numeric else NAMES)
    draw = random.Random(seed)
    counts: dict[tuple[str, bool], list[int]] = {}
    errors: dict[str, list[tuple[str, str]]] = {}
    total = 0
    while total < probes:
        num_earlier = total
        for row, gold in draw.sample(usable, len(usable)):
            wrong = _wrong_answers(row["answers"], others, draw)
            for probe in _probes(row, gold, wrong, draw, is_numeric=task.numeric):
                question, context = row.get("question") or "", row.get("context") or ""
                correct = task.grade_row(task.extract(probe.text), row["answers"], question, context)
                count = counts.setdefault((probe.kind, probe.is_right), [0, 0, 0])
                for i, value in enumerate((True, correct is True, correct is None)):
                    count[i] += value
                if (correct is True) != probe.is_right and len(errors.setdefault(probe.kind, [])) < 5:
                    errors[probe.kind].append((probe.text, gold))
                total += 1
            if total >= probes:
                break
        if total == num_earlier:
            raise InputError("audit_grader: no row has three wrong answers; add rows with other gold answers")
    kinds = {kind: KindCounts(is_right, *count) for (kind, is_right), count in sorted(counts.items())}
    right, wrong_ones = ([c for c in kinds.values() if c.is_right is value] for value in (True, False))
    false_pass = sum(c.passed for c in wrong_ones) / max(1, sum(c.probes for c in wrong_ones))
    false_fail = 1 - sum(c.passed for c in right) / max(1, sum(c.probes for c in right))
    return Audit(total, false_pass, false_fail, kinds, errors)


def _is_usable(task: Task, row: Row, gold: str) -> bool:
    if task.ungradable_reason([gold]) or len(gold) > 60 or gold[-1] in ",;" or word_form(gold) in UNUSABLE:
        return False
    return word_form(gold) != word_form(row.get("question") or "")


def _wrong_answers(golds: Sequence[str], others: Sequence[str], draw: random.Random) -> list[str]:
    """Return three answers that differ from the gold answers and from each other."""
    used = [form for gold in golds for form in equal_forms(word_form(gold)) if form.strip()]
    wrong: list[str] = []
    for other in [*draw.sample(others, min(20, len(others))), *others[-len(NAMES) :]]:
        form = word_form(other)
        if (
            len(wrong) < 3
            and is_plain(other)
            and form.split()[0] not in LEADS
            and not any(form in known or known in form for known in used)
        ):
            wrong.append(other)
            used += equal_forms(form)
    return wrong


def _probes(row: Row, gold: str, wrong: Sequence[str], draw: random.Random, *, is_numeric: bool) -> Iterator[Probe]:
    """Yield one answer of each kind."""
    if len(wrong) < 3:
        return
    names = dict(zip("abc", wrong, strict=False), gold=gold)
    for templates, is_right in ((RIGHT, True), (WRONG, False), ({} if is_numeric else RIGHT_IN_WORDS, True)):
        for kind, texts in templates.items():
            yield Probe(kind, is_right, draw.choice(texts).format(**names))
    yield Probe("form", True, draw.choice(_other_forms(gold, is_numeric)))
    if inside := _inside_word(gold):
        yield Probe("inside_word", False, inside)
    question, context = row.get("question") or "", row.get("context") or ""
    echo = draw.choice(ECHOES if context else ECHOES[::3])
    if question:
        yield Probe("echo", False, echo.format(question=question, context=context))


def _other_forms(gold: str, is_numeric: bool) -> list[str]:
    """Return other spellings of a gold answer."""
    if is_number(gold):
        plain = gold.replace(",", "")
        forms = (
            [gold, plain, f"{int(plain):,}"]
            if plain.isdecimal() and not plain.startswith("0") and len(plain) < 30
            else [gold]
        )
        return [*forms, f"{plain}.0", f"${plain}"] if is_numeric and plain.isdecimal() else forms
    return [
        gold.upper(),
        gold.lower(),
        f"\u201c{gold}\u201d",
        *(form.strip() for form in equal_forms(word_form(gold))[1:]),
    ]


def _inside_word(gold: str) -> str:
    """Return a longer word or number that contains the gold answer; "" for other scripts and signs."""
    if not (gold.isascii() and gold.isalnum()):
        return ""
    return f"{'9' if gold[0].isdigit() else 'sub'}{gold}{'9' if gold[-1].isdigit() else 'ic'}"
