"""Texts from the data in the Markdown of a card: names that end no table cell, and marks that change no direction."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["FILTERS", "cell", "fenced", "one_line", "share_of", "visible"]

# Control characters except tab and newline, unpaired surrogates, and characters without width or that change the
# direction of text.
_hidden = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def visible(text: Any) -> str:
    r"""Return a text whose invisible characters are shown by their code points.

    >>> visible("user\u202egpj.exe")
    'user<U+202E>gpj.exe'
    """
    return _hidden.sub(lambda match: f"<U+{ord(match[0]):04X}>", str(text))


def one_line(text: Any) -> str:
    r"""Return a text as one line for a table cell or a heading, which ends no cell and begins no HTML and no link.

    >>> one_line("a|b\n<img> [c](d)")
    'a\\|b \\<img> \\[c\\](d)'
    """
    return re.sub(r"[|<\[\]]", r"\\\g<0>", " ".join(visible(text).split()))


def cell(text: Any, max_chars: int = 80) -> str:
    r"""Return a text as inline code for a table cell.

    >>> cell("a|b\n`c`")
    "`a\\|b 'c'`"
    """
    line = " ".join(visible(text).split())
    line = line[:max_chars] + " ..." if len(line) > max_chars else line
    return f"`{line.replace('`', chr(39)).replace('|', chr(92) + '|')}`" if line else "(empty)"


def fenced(text: str) -> str:
    """Return a text as a block of code, whose fence is longer than any in the text.

    >>> print(fenced("a ``` b"))
    ````text
    a ``` b
    ````
    """
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{visible(text)}\n{fence}"


def share_of(part: float, total: float) -> str:
    """Return a share as text.

    >>> share_of(1, 3), share_of(0, 0)
    ('33.3 %', 'none')
    """
    return f"{100 * part / total:.1f} %" if total else "none"


def _as_json(value: Any) -> str:
    return visible(json.dumps(value, ensure_ascii=False, indent=1))


# Filters of the templates of `cards/`.
FILTERS = {"as_json": _as_json, "cell": cell, "fenced": fenced, "one_line": one_line, "share_of": share_of}
