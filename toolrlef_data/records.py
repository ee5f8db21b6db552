"""The records that stages pass around, the text they may hold, the closed sets of error kinds, and the exceptions.

A failure of a model or a tool is data: a kind of a closed set and a message, in a `Reply` or a `ToolResult`.
A mistake of the user or a bug is an exception of this tree:

    ToolrlefError
    ├── InputError            rows, files or settings that cannot be used: says what was found and what was expected
    │   ├── UnknownName       a name that is not among the choices (also a KeyError)
    │   ├── MissingColumns    a table lacks columns that a step reads
    │   └── Unusable          a row, or a part of one, that cannot be used: caught where it becomes a `Drop`
    ├── LedgerError           kept + dropped is not input: a bug, never hidden
    ├── TooManyFailures       the share of failed requests is above the stated limit; what ran is stored
    ├── CapReached            what may be sent or spent is used up; what ran is stored
    ├── NoKeyLeft             no API key is there, or none that the server takes; what ran is stored
    ├── ServerRefuses         the server has refused every request so far: a wrong model, path or setting
    ├── CassetteMiss          a strict replay needs an execution that the cassette does not hold
    ├── ScriptExhausted       a scripted engine was asked more often than it has replies
    └── MissingExtra          an optional package is not installed; the message is the pip command
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeGuard, TypeVar

__all__ = [
    "CALL_ERRORS",
    "FINAL_ERRORS",
    "REPLY_ERRORS",
    "RETRYABLE_ERRORS",
    "TOOL_ERRORS",
    "TOOL_FAILURES",
    "AllRequestsRefused",
    "CapReached",
    "CassetteMiss",
    "Choices",
    "Drop",
    "InputError",
    "LedgerError",
    "MissingColumns",
    "MissingExtra",
    "NoUsableApiKey",
    "Reply",
    "Score",
    "ScriptExhausted",
    "TooManyFailures",
    "ToolCall",
    "ToolError",
    "ToolResult",
    "ToolValue",
    "ToolrlefError",
    "UnknownName",
    "UnusableRow",
    "clean_text",
    "is_text",
]

# Why a model gave no reply. A retryable kind is never final: a re-run asks again.
RETRYABLE_ERRORS = frozenset({"timeout", "rate_limit", "server", "connection", "not_found", "out_of_memory"})
FINAL_ERRORS = frozenset({"refused", "too_long", "content_filter", "bad_request"})
REPLY_ERRORS = RETRYABLE_ERRORS | FINAL_ERRORS

# Why a tool gave no value. The response's own fault: its call could not mean anything to the tool.
CALL_ERRORS = frozenset(
    {"empty", "syntax", "unknown_name", "zero_division", "overflow", "domain", "too_large", "incomplete_call"}
    | {"no_result"}  # a search that found nothing
)
# The tool's fault: the same call may succeed elsewhere or later, so nothing is said about the response.
# "reader": the model that reads the tool's output gave no reply.
TOOL_FAILURES = frozenset({"timeout", "http", "unavailable", "crashed", "reader"})
TOOL_ERRORS = CALL_ERRORS | TOOL_FAILURES

ToolValue = str | int | float | tuple[str, ...]


class ToolrlefError(Exception):
    """The root of every exception that this package raises on purpose."""


class InputError(ToolrlefError, ValueError):
    """Rows, files or settings that cannot be used."""


class UnknownName(InputError, KeyError):
    """A name that is not among the choices.

    >>> raise UnknownName("task", "maths", ["math", "qa"])
    Traceback (most recent call last):
    toolrlef_data.records.UnknownName: unknown task 'maths'; choose from: math, qa
    """

    def __init__(self, what: str, found: object, choices: object = ()) -> None:
        names = (
            ", ".join(sorted(str(c) for c in choices))
            if isinstance(choices, (list, tuple, set, frozenset, Mapping))
            else ""
        )
        self.message = f"unknown {what} {found!r}; choose from: {names or '(none)'}"
        super().__init__(self.message)

    def __str__(self) -> str:  # KeyError would print the repr
        return self.message


class MissingColumns(InputError):
    """A table lacks columns that a step reads; names them, and what was found."""


class UnusableRow(InputError):
    """What cannot be used of a row: a short reason and a detail for people, as the `Drop` that its caller makes of it.

    >>> raise UnusableRow("too_long", "812 tokens")
    Traceback (most recent call last):
    toolrlef_data.records.UnusableRow: too_long: 812 tokens
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class LedgerError(ToolrlefError):
    """The rows kept and the rows dropped do not add up to the rows that came in."""


class TooManyFailures(ToolrlefError):
    """The share of failed requests is above the stated limit; every reply so far is stored."""


class CapReached(ToolrlefError):
    """What may be sent or spent is used up; every reply so far is stored, and a re-run goes on from there."""


class NoUsableApiKey(ToolrlefError):
    """No API key is there, or none that the server takes; every reply so far is stored."""


class AllRequestsRefused(ToolrlefError):
    """The server has refused every request so far: it knows no such model or path, or a setting does not suit it."""


class CassetteMiss(ToolrlefError):
    """A strict replay needs a tool execution that the cassette does not hold; names it."""


class ScriptExhausted(ToolrlefError):
    """A scripted engine was asked more often than it has replies."""


class MissingExtra(ToolrlefError, ImportError):
    """An optional package is not installed; the message names the pip command that brings it."""


class ToolError(Exception):
    """What a tool function raises to return an error: one of `TOOL_ERRORS`, and a message for people.

    >>> ToolError("zero_division", "10/0 has no value").kind
    'zero_division'
    """

    def __init__(self, kind: str, detail: str = "") -> None:
        if kind not in TOOL_ERRORS:
            raise UnknownName("tool error kind", kind, TOOL_ERRORS)
        self.kind = kind
        self.detail = detail
        super().__init__(f"{kind}: {detail}")


class ToolCall(NamedTuple):
    """A complete tool call: the tool's name and the text between its parentheses."""

    tool: str
    argument: str


class ToolResult(NamedTuple):
    """What executing a call gave: a value, or an error kind of `TOOL_ERRORS` with a detail."""

    value: ToolValue | None = None
    error: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered to one request, or why it did not.

    `text` is None exactly where `error` (of `REPLY_ERRORS`) is set. `tool_calls` holds native calls as (name, JSON
    arguments). `finish_reason` is "stop", "length" or "tool_calls". `reasoning` is what a server returned apart from
    the text; reasoning inside the text is split off later. Token counts are None where the engine does not know.
    """

    text: str | None
    reasoning: str = ""
    tool_calls: tuple[tuple[str, str], ...] = ()
    finish_reason: str = "stop"
    error: str | None = None
    error_detail: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Score(NamedTuple):
    """A responder's score in one row, and the state it was given for: gold, trusted, correct, wrong or missing."""

    name: str
    score: float
    state: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Why a row leaves: a short machine-readable reason, and a detail for people."""

    reason: str
    detail: str = ""


def is_text(value: object) -> TypeGuard[str]:
    r"""Whether a value is text that a table, a file and a request can hold: a string without lone surrogates.

    >>> is_text("\U0001f41f"), is_text("half \ud83d"), is_text(5)
    (True, False, False)
    """
    if not isinstance(value, str) or value.isascii():
        return isinstance(value, str)
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def clean_text(text: str) -> str:
    r"""A text with U+FFFD in the place of each lone surrogate; two that make a pair become their character.

    >>> clean_text("half \ud83d") == "half \ufffd", clean_text("\ud83d\udc1f") == "\U0001f41f"
    (True, True)
    """
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


T = TypeVar("T")


class Choices(Mapping[str, T], Generic[T]):
    """Names and where their objects live, imported only when asked for; an unknown name lists the choices.

    Args:
        what: what an entry is, for the message ("task").
        places: name -> "module:attribute".

    >>> Choices("digit", {"pi": "math:pi"})["pi"]
    3.141592653589793
    """

    def __init__(self, what: str, places: Mapping[str, str]) -> None:
        self.what = what
        self.import_paths = dict(places)

    def __getitem__(self, name: str) -> T:
        if name not in self.import_paths:
            raise UnknownName(self.what, name, self.import_paths)
        module, _, attribute = self.import_paths[name].partition(":")
        found: T = getattr(importlib.import_module(module), attribute)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self.import_paths

    def __iter__(self) -> Iterator[str]:
        return iter(self.import_paths)

    def __len__(self) -> int:
        return len(self.import_paths)
