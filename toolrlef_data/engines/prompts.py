"""Prompts: an instruction, few-shot examples and an input, rendered in one of four styles.

| style | for | shape |
|---|---|---|
| chat | chat models | a system message, a user and an assistant message for each example, the input |
| completion | base models | one text of `Question:` and `Answer:` lines |
| alpaca | models tuned on Alpaca's template | sections marked `### Instruction:`, `### Input:`, `### Response:` |
| vicuna | the same with Vicuna's marks | sections marked `</s> Instruction:`, `</s> Input:`, `</s> Response:` |

The sentences are this project's own; the section marks are those of the templates (TRICE, section "Local responses").
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from toolrlef_data.engines.spec import Message
from toolrlef_data.records import UnknownName

__all__ = ["STYLES", "render_prompt", "row_seed", "shuffled_indices"]

STYLES = ("chat", "completion", "alpaca", "vicuna")
MARKS = {
    "alpaca": ("### Instruction:", "### Input:", "### Response:"),
    "vicuna": ("</s> Instruction:", "</s> Input:", "</s> Response:"),
}
HEADER = "The following is an instruction for a task{input}. Write a response that does what it asks.\n\n"


def render_prompt(
    style: str, instruction: str, input: str, examples: Sequence[tuple[str, str]] = ()
) -> tuple[Message, ...] | str:
    """A prompt for one question.

    Args:
        style: one of `STYLES`.
        instruction: what to do.
        input: the question; empty for an instruction that needs none.
        examples: (input, output) pairs to show first.

    Returns:
        messages for the style "chat", else the text that the model continues.

    Raises:
        UnknownName: a style that is none of `STYLES`.

    >>> print(render_prompt("completion", "Add.", "1+1", [("2+2", "4")]))
    Add.
    <BLANKLINE>
    Question: 2+2
    Answer: 4
    <BLANKLINE>
    Question: 1+1
    Answer:
    """
    if style == "chat":
        turns = [Message("system", instruction)]
        for shown, output in examples:
            turns += [Message("user", shown), Message("assistant", output)]
        return (*turns, Message("user", input or instruction))
    if style == "completion":
        shots = "".join(f"Question: {shown}\nAnswer: {output}\n\n" for shown, output in examples)
        return f"{instruction}\n\n{shots}Question: {input}\nAnswer:"
    if style not in MARKS:
        raise UnknownName("prompt style", style, STYLES)
    shots = "".join(_sections(style, instruction, shown) + f"{output}\n\n" for shown, output in examples)
    return HEADER.format(input=", with an input" if input else "") + shots + _sections(style, instruction, input)


def _sections(style: str, instruction: str, input: str) -> str:
    first, second, third = MARKS[style]
    middle = f"{second}\n{input}\n\n" if input else ""
    return f"{first}\n{instruction}\n\n{middle}{third}\n"


def row_seed(row_id: str, seed: int = 0) -> int:
    """A seed of one row's own, so that no draw depends on order, batch size or the number of processes."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{row_id}".encode()).digest()[:4], "big")


def shuffled_indices(count: int, row_id: str, seed: int = 0) -> list[int]:
    """A shuffled order of examples, drawn for one row."""
    order = list(range(count))
    random.Random(f"{seed}:{row_id}").shuffle(order)
    return order
