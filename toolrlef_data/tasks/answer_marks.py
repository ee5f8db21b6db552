r"""Marks that close the answer of a response: `\boxed{...}`, a `####` line, and the sentence "the answer is X."

A mark shows that an answer is complete, also in a response that was cut off. Answers need not be numbers.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from toolrlef_data.tasks.numbers import UNSIGNED, VULGAR_FRACTIONS
from toolrlef_data.tools.notation import CURRENCY, MINUS_SIGNS, plain_latex

__all__ = ["Mark", "closing_mark", "last_box", "last_number_line", "marked_answer"]

_MAX_ANSWER = 300  # characters of a marked answer in a line or sentence


class Mark(NamedTuple):
    """A marked answer, and the positions of its mark in the text."""

    answer: str
    start: int
    end: int


def marked_answer(text: str) -> str | None:
    r"""Return the answer that a response closes with a mark; None if it has no complete mark.

    Args:
        text: a response of any task, also one that was cut off.

    Returns:
        the content of the last mark:

        | mark | complete if |
        |---|---|
        | `\boxed{X}` | all its braces are closed; nothing but an answer is in it (no "...") |
        | `#### X` | the line has ended, and it is no Markdown heading |
        | "the answer is X." | a full stop, an exclamation mark, or more text after the line follows |

        None if the text retracts the answer after the mark ("Wait, ..."). The last number or the last words of a text
        are no mark.

    >>> marked_answer("So 48/2 = 24. The answer is 24. Next, 5"), marked_answer("The answer is 24")
    ('24', None)
    >>> marked_answer(r"Thus \boxed{\text{Paris}} is"), marked_answer("48/2=24\n#### 24\nQuestion: 5")
    ('Paris', '24')
    """
    mark = closing_mark(text)
    return None if mark is None else mark.answer


def closing_mark(text: str) -> Mark | None:
    """Return the mark of `marked_answer` with its positions.

    >>> text = "The answer is 24. Next, 5"
    >>> text[: closing_mark(text).end]
    'The answer is 24.'
    """
    marks = [mark for mark in (last_box(text), _last_line(text), _last_sentence(text)) if mark is not None]
    if not marks:
        return None
    mark = max(marks, key=lambda mark: mark.end)
    return None if _retracts(text, mark.end) else mark


_retracts = re.compile(
    r"\b(?:wait|hmm+|hold on|actually|however|on second thought|i (?:made (?:a mistake|an error)|forgot|missed)|"
    r"redo|recalculat\w+|recomput\w+|"
    r"(?:is|was|'s) (?:wrong|incorrect|not right))\b",
    re.IGNORECASE,
).search

# Boxes ----------------------------------------------------------------------------------------------------------------

_box_braces = re.compile(r"\\(?:boxed|fbox)\s*\{|\\[{}\\]|[{}]").finditer
# An instruction that the response repeats, such as "within \boxed{}" or "\boxed{answer}".
_placeholder = re.compile(r"\W*(?:(?:your |the |final )*(?:answer|number)|\\[lc]?dots)?\W*", re.IGNORECASE).fullmatch
_text_command = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mbox)\s*\{([^{}]*)\}").fullmatch


def last_box(text: str) -> Mark | None:
    r"""Return the content of the last complete `\boxed{...}`.

    >>> last_box(r"\boxed{3} and \boxed{\frac{1}{2}}, not \boxed{4").answer
    '\\frac{1}{2}'
    """
    if "boxed" not in text and "\\fbox" not in text:
        return None
    last = None
    opened: list[re.Match[str] | None] = []  # the open boxes; None for other braces
    for match in _box_braces(text):
        symbol = match[0]
        if len(symbol) > 2:
            opened.append(match)
        elif symbol == "{":
            opened.append(None)
        elif symbol == "}" and opened and (box := opened.pop()) is not None:
            answer = _unwrap(text[box.end() : match.start()][: 10 * _MAX_ANSWER])
            if not _placeholder(answer):
                last = Mark(answer, box.start(), match.end())
    return last


def _unwrap(answer: str) -> str:
    """Return an answer without the markup around it."""
    answer = answer.strip().strip("*_").strip()
    if command := _text_command(answer):
        answer = command[1].strip()
    if len(answer) > 2 and answer[0] == "$" == answer[-1]:
        answer = answer[1:-1].strip()
    return answer


# Lines ----------------------------------------------------------------------------------------------------------------

_lines = re.compile(r"(?<!#)####(?!#)[ \t]*([^\n]*)").finditer
_label = re.compile(r"(?:the )?(?:final )?answer(?: is)?\s*:?\s*(?=\S)|[a-z]\s*=\s*", re.IGNORECASE).match
_SIGN = rf"[{MINUS_SIGNS}+]?[ \t]*"
# A number alone, with at most a unit: "#### 2. Step" and "#### Step 2" are headings.
_number_alone = re.compile(
    rf"[*$]*{_SIGN}[{CURRENCY}]?{_SIGN}"
    rf"(?:(?:\d+\s*)?\\[cdt]?frac\s*\{{?{UNSIGNED}\}}?\s*\{{?{UNSIGNED}\}}?|(?:\d+\s?)?[{VULGAR_FRACTIONS}]|"
    rf"(?:\d+\s+(?:and\s+)?(?=\d+\s?[/\u2044]))?{UNSIGNED}(?:\s?[/\u2044]\s?{UNSIGNED})?)"
    r"(?:\s*(?:[xX*\u00d7]|\\times)\s*10\s*(?:\^|\*\*)\s*\{?[-\u2212]?\d{1,3}\}?)?"
    r"[*$]*\s?%?(?:\s?(?:[a-z\u00b0/]+\.?|\u00b0C|\u00b0F)){0,3}\s*[.*$]*"
).fullmatch


def last_number_line(text: str) -> Mark | None:
    """Return the last `####` line, or end of a line, that contains one number, with at most a unit.

    >>> last_number_line("#### 1. Add\\n3+4=7\\n#### 7 jars").answer
    '7 jars'
    """
    if "####" in text:
        for match in reversed(list(_lines(text))):
            content, _ = _labelled(match[1])
            if _number_alone(plain_latex(content)):
                return Mark(content, match.start(), match.end())
    return None


def _labelled(content: str) -> tuple[str, bool]:
    """Return the content of a line without a label such as "Answer:", and whether it has one."""
    content = content[:_MAX_ANSWER].strip()
    label = _label(content)
    return (content[label.end() :], True) if label else (content, False)


_next_question = re.compile(r"\s*(?:(?:question|q|input|context|problem|instruction)\s*:|#|\Z)", re.IGNORECASE).match
_heading = re.compile(
    r"(?:step|solution|explanation|question|example|context|analysis|conclusion|note|part|section|method|reasoning|final|"
    r"summary|calculation|given|problem|answer)\b|.*:\W*\Z|\d",
    re.IGNORECASE,
).match


def _last_line(text: str) -> Mark | None:
    if "####" not in text:
        return None
    text_start = len(text) - len(text.lstrip())
    for match in reversed(list(_lines(text))):
        if match.end() == len(text) or len(match[1]) > _MAX_ANSWER:
            continue  # the line may be cut off
        answer, has_label = _labelled(match[1])
        answer = _unwrap(answer)
        # A line of words is a heading, unless it is labelled or ends the answer of its question.
        ends_answer = match.start() > text_start and _next_question(text, match.end()) and not _heading(answer)
        if answer and (has_label or ends_answer or _number_alone(plain_latex(answer))):
            return Mark(answer, match.start(), match.end())
    return None


# Sentences ------------------------------------------------------------------------------------------------------------

_answer_is = re.compile(
    r"\banswer(?:[ \t]+to[ \t]+[^.!?\n]{1,80}?)?[ \t]+is(?:[*_ \t]*:\s*|\s+)(?=\S)", re.IGNORECASE
).finditer
_stops = re.compile(r"[.!]+(?=[*_\"'\u201d)\]}$]*(?:\s|\Z))|[\u3002\uff01]|\n").finditer
# After these, a full stop ends no sentence: "St. Louis", "J. K. Rowling".
_abbreviated = re.compile(r"(?:\A|[\s.(])(?:[A-Z]|St|Mr|Mrs|Ms|Dr|Jr|Sr|Mt|Ft|No|vs|Prof|Gen|approx)\Z").search
_no_answer = re.compile(
    r"(?:not|unclear|unknown|un\w+ed|obtained|found|computed|calculated|determined|derived|given|going|to be|wrong|"
    r"incorrect|correct|right|below|above|as follows|the following|simple|clear|obvious|still|yet|either|"
    r"(?:greater|less|more|fewer) than|at (?:least|most))\b|\.\.\.|\u2026",
    re.IGNORECASE,
).match
_list_item = re.compile(r"(?:\d{1,2}[.)]|[-*+\u2022])[ \t]+\S").match  # the first of several lines
_conditional = re.compile(
    r"\b(?:if|whether|unless|until|suppos\w+|assum\w+|whose|what|(?:show|check|verify|prove) that)\b[^.!?\n]*\Z",
    re.IGNORECASE,
).search


def _last_sentence(text: str) -> Mark | None:
    for match in reversed(list(_answer_is(text))):
        sentence = text[match.end() : match.end() + _MAX_ANSWER]
        if _no_answer(sentence) or _conditional(text[max(0, match.start() - 60) : match.start()]):
            continue
        if "\n" in match[0] and _list_item(sentence):
            continue
        for stop in _stops(sentence):
            end = match.end() + stop.end()
            if stop[0] == "\n":
                if not text[end : end + _MAX_ANSWER].strip():
                    break
            elif _abbreviated(sentence[: stop.start()][-8:]) and sentence[stop.end() : stop.end() + 1] != "\n":
                continue
            answer = _unwrap(sentence[: stop.start()])
            if answer and "?" not in answer:
                return Mark(answer, match.start(), end)
            break
    return None
