"""Prompt rendering: an instruction, few-shot examples and an input, in one of four styles.

| style | models | prompt |
|---|---|---|
| chat | chat models | a system message, a user and an assistant message per example, the input as a user message |
| completion | base models | one text with `Question:` and `Answer:` lines |
| alpaca | models tuned on Alpaca's template | sections `### Instruction:`, `### Input:`, `### Response:` |
| vicuna | models tuned on Vicuna's template | sections `</s> Instruction:`, `</s> Input:`, `</s> Response:` |

The section headings are those of the templates in TRICE (section "Local responses"); `HEADER` is this project's.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from toolrlef_data.choices import check_choice
from toolrlef_data.engines.rules import integer_from
from toolrlef_data.engines.settings import STYLES
from toolrlef_data.engines.spec import Message

__all__ = ["STYLES", "check_prompt", "continuation", "render_prompt", "row_seed", "shuffled_indices"]

SECTION_HEADINGS = {
    "alpaca": ("### Instruction:", "### Input:", "### Response:"),
    "vicuna": ("</s> Instruction:", "</s> Input:", "</s> Response:"),
}
HEADER = "The following is an instruction for a task{input}. Write a response that does what it asks.\n\n"


def check_prompt(style: str, examples: int | None = 0) -> None:
    """Raise `UnknownName` for an unknown style, and an `InputError` for an invalid number of few-shot examples."""
    check_choice("prompt style", style, STYLES)
    if examples is not None:
        integer_from(0).check("examples", examples)


def render_prompt(
    style: str, instruction: str, input: str, examples: Sequence[tuple[str, str]] = ()
) -> tuple[Message, ...] | str:
    """Return the prompt for one question.

    Args:
        style: one of `STYLES`.
        instruction: the task.
        input: the question; "" if the instruction contains it.
        examples: few-shot examples as (input, output) pairs.

    Returns:
        Messages for the style "chat", otherwise a text for the model to continue.

    Raises:
        UnknownName: the style is unknown.

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
        messages = [Message("system", instruction)]
        for example_input, output in examples:
            messages += [Message("user", example_input), Message("assistant", output)]
        return (*messages, Message("user", input or instruction))
    if style == "completion":
        shots = "".join(f"Question: {example_input}\nAnswer: {output}\n\n" for example_input, output in examples)
        return f"{instruction}\n\n{shots}Question: {input}\nAnswer:"
    check_choice("prompt style", style, STYLES)
    shots = "".join(
        _sections(style, instruction, example_input) + f"{output}\n\n" for example_input, output in examples
    )
    return HEADER.format(input=", with an input" if input else "") + shots + _sections(style, instruction, input)


def _sections(style: str, instruction: str, input: str) -> str:
    instruction_heading, input_heading, response_heading = SECTION_HEADINGS[style]
    input_section = f"{input_heading}\n{input}\n\n" if input else ""
    return f"{instruction_heading}\n{instruction}\n\n{input_section}{response_heading}\n"


def continuation(prompt: str, response: str) -> str:
    """Return a response as the text that continues a prompt: with a blank, unless the prompt ends with whitespace.

    >>> prompt = render_prompt("completion", "Add.", "1+1")
    >>> (prompt + continuation(prompt, "calculator(1+1)")).splitlines()[-1]
    'Answer: calculator(1+1)'
    """
    response = response.strip()
    return response if prompt[-1:].isspace() else f" {response}"


def row_seed(row_id: str, seed: int = 0) -> int:
    """Return the seed of a row, which makes sampling independent of row order, batch size and process count."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{row_id}".encode()).digest()[:4], "big")


def shuffled_indices(count: int, row_id: str, seed: int = 0) -> list[int]:
    """Return the numbers from 0 to `count` - 1 in a random order that depends on the row id and the seed."""
    indices = list(range(count))
    random.Random(f"{seed}:{row_id}").shuffle(indices)
    return indices
