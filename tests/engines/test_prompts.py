"""Prompts of each style: their texts are part of reply keys, so they must not change."""

from __future__ import annotations

import pytest

from toolrlef_data.engines.prompts import render_prompt, row_seed, shuffled_indices
from toolrlef_data.engines.spec import Message

EXAMPLES = [("2+2", "4"), ("3+3", "6")]
HEADER = "The following is an instruction for a task{}. Write a response that does what it asks.\n\n"


def messages(*pairs: tuple[str, str]) -> tuple[Message, ...]:
    return tuple(Message(role, content) for role, content in pairs)


SHOTS = [("user", "2+2"), ("assistant", "4"), ("user", "3+3"), ("assistant", "6")]
ALPACA = "### Instruction:\nAdd.\n\n### Input:\n{}\n\n### Response:\n"
VICUNA = "</s> Instruction:\nAdd.\n\n</s> Input:\n{}\n\n</s> Response:\n"


@pytest.mark.parametrize(
    ("style", "input", "examples", "prompt"),
    [
        ("chat", "1+1", EXAMPLES, messages(("system", "Add."), *SHOTS, ("user", "1+1"))),
        ("chat", "1+1", [], messages(("system", "Add."), ("user", "1+1"))),
        ("chat", "", [], messages(("system", "Add."), ("user", "Add."))),  # a user message is never empty
        ("chat", "", EXAMPLES, messages(("system", "Add."), *SHOTS, ("user", "Add."))),
        (
            "completion",
            "1+1",
            EXAMPLES,
            "Add.\n\nQuestion: 2+2\nAnswer: 4\n\nQuestion: 3+3\nAnswer: 6\n\nQuestion: 1+1\nAnswer:",
        ),
        ("completion", "1+1", [], "Add.\n\nQuestion: 1+1\nAnswer:"),
        ("alpaca", "1+1", [], HEADER.format(", with an input") + ALPACA.format("1+1")),
        (
            "alpaca",
            "1+1",
            EXAMPLES[:1],
            HEADER.format(", with an input") + ALPACA.format("2+2") + "4\n\n" + ALPACA.format("1+1"),
        ),
        ("alpaca", "", [], HEADER.format("") + "### Instruction:\nAdd.\n\n### Response:\n"),
        ("vicuna", "1+1", [], HEADER.format(", with an input") + VICUNA.format("1+1")),
        ("vicuna", "", [], HEADER.format("") + "</s> Instruction:\nAdd.\n\n</s> Response:\n"),
    ],
)
def test_the_text_of_each_style(style: str, input: str, examples: list[tuple[str, str]], prompt: object) -> None:
    assert render_prompt(style, "Add.", input, examples) == prompt


def test_seeds_and_orders_depend_on_the_row_and_the_seed() -> None:
    """Reply keys contain them, so these values must not change."""
    assert [row_seed("a"), row_seed("b"), row_seed("a", 1)] == [2649998842, 3760296701, 1097006557]
    assert [shuffled_indices(4, "a"), shuffled_indices(4, "a", 1)] == [[2, 3, 1, 0], [3, 2, 0, 1]]
    orders = {tuple(shuffled_indices(4, str(row))) for row in range(200)}
    assert len(orders) == 24, "all orders of four examples"
