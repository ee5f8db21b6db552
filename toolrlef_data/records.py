"""Records that stages exchange, text checks, error kinds and the exceptions of the package.

A failed request or tool call is data: an error kind of a closed set and a message, in a `Reply` or a `ToolResult`.
A mistake of the user or a bug is an exception of this tree:

    ToolrlefError
    ├── InputError            unusable rows, files or settings; the message states what was expected and what was found
    │   ├── UnknownName       a name that is not one of the choices (also a KeyError)
    │   ├── MissingColumns    a table without columns that a stage reads
    │   └── UnusableRow       an unusable row or part of a row; the caller turns it into a `Drop`
    ├── LedgerError           the row counts of a stage do not add up (a bug)
    ├── TooManyFailures       the share of failed requests exceeds the limit; completed requests are saved
    ├── CapReached            the cap on requests, tokens or cost is reached; completed requests are saved
    ├── NoUsableApiKey        no API key, or none that the server accepts; completed requests are saved
    ├── AllRequestsRefused    the server has refused every request so far: wrong model, path or setting
    ├── CassetteMiss          a strict replay needs a tool execution that the cassette does not contain
    ├── HubError              the Hub refused a request or could not be reached; nothing is released
    ├── ScriptExhausted       a scripted engine received more requests than it has replies
    └── MissingExtra          an optional package is not installed; the message contains the pip command
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeGuard

__all__ = [
    "CALL_ERRORS",
    "FINAL_ERRORS",
    "NO_RESPONSE_ERRORS",
    "REPLY_ERRORS",
    "RETRYABLE_ERRORS",
    "TOOL_ERRORS",
    "TOOL_FAILURES",
    "AllRequestsRefused",
    "CapReached",
    "CassetteMiss",
    "Drop",
    "HubError",
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
    "ToolUnavailable",
    "ToolValue",
    "ToolrlefError",
    "UnknownName",
    "UnusableRow",
    "clean_text",
    "is_text",
]

# Why a request has no reply. Retryable errors are never stored as final: a re-run sends the request again.
# "rejected": a 400 or 404 of a server that has not sent a single reply yet, so the settings may be wrong.
RETRYABLE_ERRORS = frozenset(
    {"timeout", "rate_limit", "server", "connection", "not_found", "out_of_memory", "rejected"}
)
FINAL_ERRORS = frozenset({"refused", "too_long", "content_filter", "bad_request"})
REPLY_ERRORS = RETRYABLE_ERRORS | FINAL_ERRORS
# Why a reply is no response: it ended at the token limit, or it has no text.
NO_RESPONSE_ERRORS = frozenset({"cut_off", "empty"})

# The response's fault: the tool cannot execute the call, or the search has no result. Every other kind that a tool
# names is the response's fault too, unless it is one of `TOOL_FAILURES`.
CALL_ERRORS = frozenset(
    {"empty", "syntax", "unknown_name", "zero_division", "overflow", "domain", "too_large", "incomplete_call"}
    | {"unreadable_call", "no_result", "wrong_arguments", "invalid_value"}
)
# The tool's fault: the same call may succeed later, so the response is not judged by it.
# "reader": the model that extracts predictions from the tool output returned no reply.
TOOL_FAILURES = frozenset({"timeout", "http", "unavailable", "crashed", "reader"})
TOOL_ERRORS = CALL_ERRORS | TOOL_FAILURES
ERROR_KIND = re.compile(r"[a-z][a-z0-9_]{0,39}")

ToolValue = str | int | float | tuple[str, ...]


class ToolrlefError(Exception):
    """Base class of the exceptions of this package."""


class InputError(ToolrlefError, ValueError):
    """Unusable rows, files or settings."""


class UnknownName(InputError, KeyError):
    """A name that is not one of the choices.

    >>> raise UnknownName("task", "maths", ["math", "qa"])
    Traceback (most recent call last):
    toolrlef_data.records.UnknownName: unknown task 'maths'; choose from: math, qa
    """

    def __init__(self, kind: str, name: object, choices: object = ()) -> None:
        names = (
            ", ".join(sorted({str(choice) for choice in choices}))
            if isinstance(choices, (list, tuple, set, frozenset, Mapping))
            else ""
        )
        self.message = f"unknown {kind} {name!r}; choose from: {names or '(none)'}"
        super().__init__(self.message)

    def __str__(self) -> str:  # `KeyError.__str__` returns the repr of the message
        return self.message


class MissingColumns(InputError):
    """A table without columns that a stage reads; the message lists the missing and the existing columns."""


class UnusableRow(InputError):
    """An unusable row or part of a row, with the reason and detail of the `Drop` that the caller records.

    >>> raise UnusableRow("too_long", "812 tokens")
    Traceback (most recent call last):
    toolrlef_data.records.UnusableRow: too_long: 812 tokens
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class LedgerError(ToolrlefError):
    """The row counts of a stage do not add up: input rows must equal retained plus dropped rows."""


class HubError(ToolrlefError):
    """The Hub refused a request or could not be reached; the releases are as before, and a second push resumes."""


class TooManyFailures(ToolrlefError):
    """The share of failed requests exceeds the limit; all received replies are saved."""


class CapReached(ToolrlefError):
    """The cap on requests, tokens or cost is reached; all received replies are saved, and a re-run resumes."""


class NoUsableApiKey(ToolrlefError):
    """No API key, or none that the server accepts; all received replies are saved."""


class AllRequestsRefused(ToolrlefError):
    """The server has refused every request so far: the model, the path or a setting is wrong."""


class CassetteMiss(ToolrlefError):
    """A strict replay needs a tool execution that the cassette does not contain; the message names it."""


class ScriptExhausted(ToolrlefError):
    """A scripted engine received more requests than it has replies."""


class MissingExtra(ToolrlefError, ImportError):
    """An optional package is not installed; the message contains the pip command."""


class ToolError(Exception):
    """The exception that a tool function raises to report an error.

    Args:
        kind: one of `TOOL_FAILURES` if the same call may succeed later, such as "timeout". Every other kind is the
            call's fault: one of `CALL_ERRORS`, or a name of your own of at most 40 characters, such as "unknown_unit".
        detail: a message for humans; default: "".

    Raises:
        TypeError: `kind` is no name of lower-case letters, digits and "_".

    >>> ToolError("zero_division", "10/0 has no value").kind
    'zero_division'
    """

    def __init__(self, kind: str, detail: str = "") -> None:
        if not isinstance(kind, str) or not ERROR_KIND.fullmatch(kind):
            raise TypeError(f"the kind of a ToolError must be a name such as 'unknown_unit', found {kind!r:.80}")
        self.kind = kind
        self.detail = detail
        super().__init__(f"{kind}: {detail}")


class ToolUnavailable(ToolError):
    """The exception of a tool that cannot be reached now; a re-run executes the call again.

    Args:
        detail: a message for humans; default: "".

    >>> ToolUnavailable("the server is restarting").kind
    'unavailable'
    """

    def __init__(self, detail: str = "") -> None:
        super().__init__("unavailable", detail)


class ToolCall(NamedTuple):
    """A complete tool call: the tool's name and the text between the parentheses.

    >>> ToolCall("calculator", "3*12").argument
    '3*12'
    """

    tool: str
    argument: str


class ToolResult(NamedTuple):
    """The result of a tool call: a value, or an error kind (see `ToolError`) with a detail.

    >>> ToolResult(error="syntax", detail="unbalanced parentheses").value is None
    True
    """

    value: ToolValue | None = None
    error: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply of a model to one request, or the error.

    Args:
        text: the generated text; None if and only if `error` is set.
        reasoning: reasoning that the server returned in a separate field. `split_reasoning` finds reasoning inside the
            text.
        tool_calls: native tool calls as (name, JSON arguments).
        finish_reason: "stop", "length" or "tool_calls".
        error: None, or one of `REPLY_ERRORS`.
        error_detail: a message for humans.
        prompt_tokens: number of prompt tokens; None if the engine does not report it.
        completion_tokens: number of generated tokens; None if the engine does not report it.

    >>> Reply("The answer is 36.").error is None
    True
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
    """A responder's score in one row, and the state of its response: gold, trusted, correct, wrong or missing."""

    name: str
    score: float
    state: str


@dataclass(frozen=True, slots=True)
class Drop:
    """The record of a dropped row: a short machine-readable reason, and a detail for humans.

    >>> Drop("too_long", "812 tokens").reason
    'too_long'
    """

    reason: str
    detail: str = ""


def is_text(value: object) -> TypeGuard[str]:
    r"""Return whether a value is a string without unpaired surrogates, which UTF-8 can encode.

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
    r"""Replace each unpaired surrogate of a text by U+FFFD, and each surrogate pair by its character.

    Every text that a model, tool or function returns is cleaned before it reaches a table. A row of a file with such a
    text is dropped instead (docs/drops.md).

    >>> clean_text("half \ud83d") == "half \ufffd", clean_text("\ud83d\udc1f") == "\U0001f41f"
    (True, True)
    """
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
