"""The check whether a reply is a response: a reply that was cut off or is empty is none.

| reply | error |
|---|---|
| ended at the token limit, without a complete tool call or a marked answer | `cut_off` |
| has no text: nothing, blanks, or reasoning alone, also with `strip_reasoning=False` | `empty`, or `cut_off` |

A reply with a marked answer that ended at the token limit is a response up to that mark. A reply that is no response
gets a null text: it is never graded, never scored and never a training target. Its `raw` text stays, and `compat=True`
reads it as the original does, which does not look at the finish reason.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict

from toolrlef_data.engines.responses import split_reasoning
from toolrlef_data.records import NO_RESPONSE_ERRORS, InputError, UnknownName
from toolrlef_data.tasks.answer_marks import closing_mark
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.parsing.calls import parse_call

__all__ = ["ACCEPT_CUT", "check_accept_cut", "check_reply", "text_as_original", "warn_of_lost_replies"]

log = logging.getLogger("toolrlef_data")

# What a reply that ended at the token limit must contain to count as a response.
ACCEPT_CUT = ("call", "marked")
MAX_LOST_SHARE = 0.2  # of a responder's replies, above which a warning is logged


def check_accept_cut(accept_cut: Collection[str]) -> tuple[str, ...]:
    """Return the checked option: any of "call" (a complete tool call) and "marked" (a marked answer).

    Raises:
        InputError: the option is no collection, such as a text or None.
        UnknownName: an unknown value.
    """
    if isinstance(accept_cut, str) or not isinstance(accept_cut, Collection):
        found = f"the text {accept_cut!r}" if isinstance(accept_cut, str) else repr(accept_cut)
        raise InputError(f"accept_cut: expected a collection of {', '.join(ACCEPT_CUT)}, found {found}")
    if unknown := sorted(set(accept_cut) - set(ACCEPT_CUT)):
        raise UnknownName("value of accept_cut:", unknown[0], ACCEPT_CUT)
    return tuple(kind for kind in ACCEPT_CUT if kind in accept_cut)


def check_reply(response: Mapping[str, Any], task: Task, accept_cut: Sequence[str], max_tokens: int) -> dict[str, Any]:
    """Return a RESPONSE struct; with a null text and an error if its reply is no response.

    Args:
        response: the struct of a reply; one with an error is returned as it is.
        task: the task, with its tool.
        accept_cut: see `check_accept_cut`.
        max_tokens: the token limit of the engine, for the error's detail.

    >>> from toolrlef_data.engines.responses import build_response
    >>> from toolrlef_data.records import Reply
    >>> from toolrlef_data.tasks import TASKS
    >>> cut = build_response(Reply("5+3=8 and then", finish_reason="length"))
    >>> check_reply(cut, TASKS["math"], ACCEPT_CUT, 8)["error"]
    'cut_off'
    """
    response = dict(response)
    if response["error"] is not None:
        return response
    text, is_cut = response["text"] or "", response["finish_reason"] == "length"
    reasoning, answer = split_reasoning(text)  # the text has it with `strip_reasoning=False`
    if _is_blank(answer):
        reason = "it has reasoning alone" if response["reasoning"] or reasoning else "it has no text"
    elif not is_cut:
        return response
    elif (complete := _complete_part(text, task, accept_cut)) is not None:
        return {**response, "text": complete}
    else:
        reason = "it has neither a complete tool call nor a marked answer"
    detail = f"{reason}; it ended at the token limit (max_tokens={max_tokens})" if is_cut else reason
    return {**response, "text": None, "error": "cut_off" if is_cut else "empty", "error_detail": f"the reply: {detail}"}


# Whitespace, invisible characters, and tokens that end a turn, which a server can leave in a reply.
_is_blank = re.compile(r"(?:[\s\u200b-\u200f\u2060\ufeff]|<\|[a-z_]{1,30}\|>|</s>|<eos>|<end_of_turn>)*").fullmatch


def _complete_part(text: str, task: Task, accept_cut: Sequence[str]) -> str | None:
    """Return the text of an accepted reply, up to the end of its marked answer; None if it is not accepted."""
    if "call" in accept_cut and parse_call(text, task.tool) is not None:
        return text
    mark = closing_mark(text) if "marked" in accept_cut else None
    if mark is None or task.extract(mark.answer) is None:  # such as "the answer is yes." to a question for a number
        return None
    return text[: mark.end].rstrip()


def text_as_original(response: Mapping[str, Any]) -> str | None:
    """Return the text of a response as the original reads it: the complete reply, even if cut off or empty."""
    text: str | None = response["text"]
    if response["error"] not in NO_RESPONSE_ERRORS and response["finish_reason"] != "length":
        return text
    reply = split_reasoning(response["raw"] or "")[1]
    return reply if text is None or reply.startswith(text) else text  # a rendered call is no part of the reply


def warn_of_lost_replies(data: Dataset | DatasetDict, columns: Sequence[str], max_tokens: int, label: str) -> None:
    """Log a warning if many replies are cut off or empty, with the limit to raise.

    Args:
        data: a table with RESPONSE structs.
        columns: the columns of structs, or of lists of structs.
        max_tokens: the token limit of the engine.
        label: the name of the model in the message.
    """
    errors: Counter[str] = Counter()
    total = 0
    for split in data.values() if isinstance(data, DatasetDict) else [data]:
        for column in columns:
            values = split.data.column(column)
            if not pa.types.is_struct(values.type):
                values = pc.list_flatten(values)
            total += len(values)
            kinds = pc.struct_field(values, "error").value_counts().to_pylist()
            errors.update({kind["values"]: kind["counts"] for kind in kinds if kind["values"] in NO_RESPONSE_ERRORS})
    if total and errors.total() / total >= MAX_LOST_SHARE:
        counts = " and ".join(f"{count} {kind}" for kind, count in sorted(errors.items()))
        advice = f": raise max_tokens above {max_tokens}" if errors["cut_off"] else ""
        log.warning("%s: %s of %s replies are no responses (%s)%s", label, errors.total(), total, counts, advice)
