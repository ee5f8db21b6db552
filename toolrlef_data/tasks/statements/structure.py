"""Structure: the answers that JSON, tags or a box mark in a text."""

from __future__ import annotations

import json
import re

from toolrlef_data.tasks.answer_marks import last_box

__all__ = ["has_doubtful_symbol", "marked_answers"]

ANSWER_KEYS = ("answer", "final_answer", "final answer", "result", "response")
_fence = re.compile(r"\s*```\w*\n(.*?)\n?```\s*", re.DOTALL).fullmatch
_answer_tag = re.compile(r"<(answer|final_answer|final)>(.*?)</\1>", re.DOTALL | re.IGNORECASE).findall
# Symbols that reject, compare or approximate what follows them.
has_doubtful_symbol = re.compile(
    "[\u274c\u274e\u2717\u2718\u2610\u2612\u2611\u2716\u26d4\u00ac\u00b1\u2260\u2248\u2264\u2265\U0001f44e\U0001f6ab\U0001f645]"
    r"|!=|(?:^|\s)[!~]\s?(?=\w)|[<>]=?\s?(?=\d)|\d\s*[-+]\s+\d|\[[ xX]\]|\]\("
).search


def marked_answers(text: str) -> list[str]:
    r"""Return the answers that a text marks; the text itself if it marks none.

    >>> marked_answers('{"answer": "Lyon", "note": "Paris"}'), marked_answers("<answer>Lyon</answer> Paris")
    (['Lyon'], ['Lyon'])
    >>> marked_answers("It is Lyon.")
    ['It is Lyon.']
    """
    if match := _fence(text):
        text = match[1]
    if text.lstrip().startswith(("{", "[")) and (answers := _json_answers(text)) is not None:
        return answers
    if tagged := list(dict.fromkeys(answer.strip() for _, answer in _answer_tag(text))):
        return tagged
    box = last_box(text)
    return [text] if box is None or text.count("boxed") > 1 else [box.answer]


def _json_answers(text: str) -> list[str] | None:
    """Return the values of the key "answer" of a JSON object, or all values; None if the text is no JSON."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        named = [value[key] for key in value if key.casefold() in ANSWER_KEYS]
        value = named or list(value.values())
    values = value if isinstance(value, list) else [value]
    flat = [item for entry in values for item in (entry if isinstance(entry, list) else [entry])]
    return [str(item) for item in flat if isinstance(item, (str, int, float)) and not isinstance(item, bool)]
