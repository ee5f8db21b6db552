"""Texts from the data in the Markdown of a card: names that end no table cell, and marks that change no direction."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from toolrlef_data.records import clean_text

__all__ = ["FILTERS", "as_json", "bibtex", "cell", "fenced", "one_line", "share_of", "visible", "without_empty_lines"]

# Control characters except tab and newline, and characters without width or that change the direction of text.
_hidden = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    r"\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_code_block = re.compile(r"(^(?P<fence>`{3,})[^`\n]*\n.*?^(?P=fence)$)", re.MULTILINE | re.DOTALL)


def visible(text: Any) -> str:
    r"""Return a text whose invisible characters are shown by their code points.

    >>> visible("user\u202egpj.exe")
    'user<U+202E>gpj.exe'
    """
    return _hidden.sub(lambda match: f"<U+{ord(match[0]):04X}>", clean_text(str(text)))


def one_line(text: Any) -> str:
    r"""Return a text as one line for a table cell or a heading, which ends no cell and begins no HTML and no link.

    >>> one_line("a|b\n<img> [c](d)")
    'a\\|b \\<img> \\[c\\](d)'
    >>> one_line(r"a\|b\<img> &lt;")  # a backslash of the text would undo the one before the next character
    'a\\\\\\|b\\\\\\<img> \\&lt;'
    """
    return re.sub(r"[\\|<\[\]]|&(?=#?\w+;)", r"\\\g<0>", " ".join(visible(text).split()))


def cell(text: Any, max_chars: int = 80) -> str:
    r"""Return a text as inline code for a table cell.

    >>> cell("a|b\n`c`")
    "`a\\|b 'c'`"
    >>> cell(r"a\|b")
    '`a\\\\\\|b`'
    """
    line = " ".join(visible(text).split())
    line = line[:max_chars] + " ..." if len(line) > max_chars else line
    line = re.sub(r"(\\*)\|", r"\1\1\|", line.replace("`", "'"))
    return f"`{line}`" if line else "(empty)"


def fenced(text: str) -> str:
    """Return a text as a block of code, whose fence is longer than any in the text.

    >>> print(fenced("a ``` b"))
    ````text
    a ``` b
    ````
    """
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{visible(text)}\n{fence}"


def without_empty_lines(text: str) -> str:
    r"""Return Markdown with at most one empty line in a row; blocks of code stay as they are.

    >>> without_empty_lines("a\n\n\n\nb\n```\n\n\n\n```\n")
    'a\n\nb\n```\n\n\n\n```\n'
    """
    parts = _code_block.split(text)[::3], [match[0] for match in _code_block.finditer(text)]
    return "".join(
        re.sub(r"\n{3,}", "\n\n", prose) + code for prose, code in zip(parts[0], [*parts[1], ""], strict=True)
    )


def share_of(part: float, total: float) -> str:
    """Return a share as text.

    >>> share_of(1, 3), share_of(0, 0)
    ('33.3 %', 'none')
    """
    return f"{100 * part / total:.1f} %" if total else "none"


def bibtex(text: str) -> str:
    r"""Return a text as a value of a BibTeX entry.

    >>> bibtex("50 % of {this} & that_one")
    '50 \\% of (this) \\& that\\_one'
    """
    return re.sub(r"([%&_#$])", r"\\\1", visible(text).translate({ord("{"): "(", ord("}"): ")", ord("\\"): "/"}))


def as_json(row: Mapping[str, Any]) -> str:
    """Return a row as JSON with one line per column, and per item of a list of objects.

    >>> print(as_json({"id": "a", "scores": [20, 5], "messages": [{"role": "user"}]}))
    {
     "id": "a",
     "scores": [20, 5],
     "messages": [
      {"role": "user"}
     ]
    }
    """
    lines = []
    for name, value in row.items():
        text = json.dumps(value, ensure_ascii=False)
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            text = "[\n" + ",\n".join(f"  {json.dumps(item, ensure_ascii=False)}" for item in value) + "\n ]"
        lines.append(f" {json.dumps(name, ensure_ascii=False)}: {text}")
    return visible("{\n" + ",\n".join(lines) + "\n}")


# Filters of the templates of `cards/`.
FILTERS = {
    "as_json": as_json,
    "bibtex": bibtex,
    "cell": cell,
    "fenced": fenced,
    "one_line": one_line,
    "share_of": share_of,
}
