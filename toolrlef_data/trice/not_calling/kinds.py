"""The kinds of rows on which the right behaviour is not to call: each makes the variant of a row, or says why not.

The kinds are those of When2Call (https://arxiv.org/abs/2504.18851) that fit data with gold answers: an answer without a
tool, a statement that the tools do not fit, and a question for what is missing. `chat` is ours.

| reason | the row |
|---|---|
| no_prompt | has no instruction or no input |
| no_call | has no call that could be the rejected side |
| names_the_tool | no_tools: its input names the task's tool |
| simple_call | no_tools: a refusal would be the target, and the call has fewer than four numbers |
| tool_is_offered | other_tools: all other tools give the gold answer |
| another one | missing_argument: see `withholding` |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from toolrlef_data.records import UnusableRow
from toolrlef_data.tasks.numbers import numbers_in, unsigned_numbers
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.tool import tool_schema
from toolrlef_data.trice.not_calling.chat import draw_chat
from toolrlef_data.trice.not_calling.offers import OtherTool, draw_tools, list_of_tools
from toolrlef_data.trice.not_calling.originals import Original
from toolrlef_data.trice.not_calling.texts import (
    ASKS,
    NO_TOOLS_INSTRUCTIONS,
    NONE_FITS,
    ONLY_TOOL_DOES_NOT_FIT,
    OTHER_TOOLS_INSTRUCTIONS,
    REFUSALS,
)
from toolrlef_data.trice.not_calling.withholding import withhold

__all__ = ["KINDS", "Variant"]

Row = Mapping[str, Any]
MIN_NUMBERS = 4  # of a formula that one may refuse to compute without a tool
FIXED = "template"  # `source` of a target that is a fixed text


class Variant(NamedTuple):
    """The variant of a row, and what was executed to check it.

    Args:
        instruction, input, output, source: columns of the new row.
        tools: the schemas of the offered tools.
        check: what was executed, as text.
    """

    instruction: str
    input: str
    output: str
    source: str
    tools: Sequence[Any]
    check: str


def no_tools(row: Row, original: Original, task: Task, others: Sequence[OtherTool], random: Random) -> Variant:
    """Return the row without any tool: its own right answer, or a refusal if it has none."""
    if task.tool.name.casefold() in row["input"].casefold():
        raise UnusableRow("names_the_tool", row["input"][:100])
    instruction, refusal = random.choice(NO_TOOLS_INSTRUCTIONS), random.choice(REFUSALS)
    if original.answer is not None:
        check = f"{task.tool.name} is not offered; the answer without it is right"
        return Variant(instruction, row["input"], original.answer, original.writer or "", [], check)
    call, argument = _call_of(row, original)
    if task.numeric and _is_simple(argument):
        raise UnusableRow("simple_call", call[:100])
    return Variant(instruction, row["input"], refusal, FIXED, [], f"{task.tool.name} is not offered")


def other_tools(row: Row, original: Original, task: Task, others: Sequence[OtherTool], random: Random) -> Variant:
    """Return the row with tools that cannot do what it needs; the target says so."""
    call, argument = _call_of(row, original)
    offered = draw_tools(others, task, argument, row["answers"], random)
    if not offered:
        raise UnusableRow("tool_is_offered", call[:100])
    instruction = random.choice(OTHER_TOOLS_INSTRUCTIONS).format(tools=list_of_tools(offered))
    names = [tool.name for tool in offered]
    listed = " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
    output = random.choice(NONE_FITS if names[1:] else ONLY_TOOL_DOES_NOT_FIT).format(names=listed)
    check = f"{task.tool.name} is not among the tools {', '.join(names)}"
    return Variant(instruction, row["input"], output, FIXED, [json.loads(tool.schema) for tool in offered], check)


def missing_argument(row: Row, original: Original, task: Task, others: Sequence[OtherTool], random: Random) -> Variant:
    """Return the row without a number that its call needs; the target asks for it."""
    _, argument = _call_of(row, original)
    withheld = withhold(row["input"], argument, row["answers"], task, random)
    clause = withheld.clause
    words = {"how": "many", "value": "number"} if clause.noun else {"how": "much", "value": "amount"}
    words |= {"direct": clause.direct, "Direct": clause.direct[:1].upper() + clause.direct[1:]}
    words |= {"indirect": clause.indirect, "statement": clause.statement}
    output = random.choice(ASKS).format(**words)
    if clause.value in numbers_in(output):
        raise UnusableRow("recoverable", f"the target has the number {clause.number}")
    return Variant(row["instruction"], withheld.question, output, FIXED, [_schema(task)], withheld.check)


def chat(row: Row, original: Original, task: Task, others: Sequence[OtherTool], random: Random) -> Variant:
    """Return a short message instead of the row's question, with a fitting reply; the tool is offered."""
    _call_of(row, original)
    message, reply = draw_chat(random)
    return Variant(
        row["instruction"], message, reply, FIXED, [_schema(task)], "the message has no question and no number"
    )


def _call_of(row: Row, original: Original) -> tuple[str, str]:
    if original.call is None or original.argument is None:
        raise UnusableRow("no_call", str(row["id"]))
    return original.call, original.argument


def _is_simple(formula: str) -> bool:
    """Return whether a formula has fewer than four numbers: a refusal would teach to give up too early.

    >>> _is_simple("9+12*3"), _is_simple("4*12/(6+2)")
    (True, False)
    """
    return len(unsigned_numbers(formula)) < MIN_NUMBERS


def _schema(task: Task) -> Any:
    return json.loads(tool_schema(task.tool))


KINDS: dict[str, Callable[[Row, Original, Task, Sequence[OtherTool], Random], Variant]] = {
    "no_tools": no_tools,
    "other_tools": other_tools,
    "missing_argument": missing_argument,
    "chat": chat,
}
