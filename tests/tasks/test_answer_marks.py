"""Answers that a response marks as complete: boxes, `####` lines and sentences."""

from __future__ import annotations

import random

import pytest

from tests.support.cpu_time import cpu_limit
from toolrlef_data.tasks.answer_marks import closing_mark, marked_answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Sentences
        ("The answer is 5.", "5"),
        ("The answer is 5! Then", "5"),
        ("The answer is 5\nThen", "5"),
        ("The answer is 3.5. So", "3.5"),
        ("The final answer is **Oslo**.", "Oslo"),
        ("**The answer is Oslo.** And", "Oslo"),
        ("the answer is: Oslo. And", "Oslo"),
        ("The answer to the question is Oslo. And", "Oslo"),
        ("The answer is St. Louis. And", "St. Louis"),
        ("The answer is J. K. Rowling. She", "J. K. Rowling"),
        ("The answer is $1,250.50. And", "$1,250.50"),
        ("The answer is 奥斯陆。", "奥斯陆"),
        ("The answer is 5. The answer is 6", "5"),  # the second one is unfinished
        ("The answer is 5. The answer is 6. And", "6"),
        ("The answer is:\n\n5\n\nThen", "5"),
        # Unfinished sentences: the rest may be missing
        ("The answer is 5", None),
        ("The answer is 5\n", None),
        ("The answer is 3.5", None),
        ("The answer is St.", None),
        ("The answer is Oslo, the capital of Nor", None),
        # Sentences that give no answer
        ("If the answer is 5. Then", None),
        ("The answer is not Oslo. It", None),
        ("The answer is obtained by adding 5 and 3. So", None),
        ("The answer is correct. ", None),
        ("What is the answer is 5? ", None),
        ("The answer is 5? Let me check. 3+2", None),
        ("The answer is the following. First", None),
        ("The answer is simple. We", None),
        ("The answer is:\n1. Add 3", None),  # the first of several lines
        ("The answer is:\n- Oslo.\n- Ber", None),
        ("The answer is:\n5.\nThen", "5"),
        ("The answer is 5. Wait, I forgot", None),
        ("The answer is actually 5. So", "actually 5"),  # a word of the mark retracts nothing
        ("The answer is 5. Actually, 3+3", None),
        ("The answer is 5. But I forgot to add", None),
        ("The answer is 5. Let me recompute: 3+", None),
        ("The answer is either 5 or 6. So", None),
        ("The answer is greater than 5. So", None),
        ("We check that the answer is 5. 3+2", None),
        # The last number or words are no mark
        ("5+3=8 and then", None),
        ("It is 8.", None),
        ("Answer: 8.", None),
        ("", None),
        # Boxes
        (r"So \boxed{8} and", "8"),
        (r"So \boxed{\frac{1}{2}} and", r"\frac{1}{2}"),
        (r"So \boxed{\text{Oslo}}", "Oslo"),
        (r"So \boxed{3}, no, \boxed{4}. And 5", "4"),
        (r"So \boxed{8} and \boxed{9", "8"),
        (r"So \boxed{8", None),
        (r"Write it in \boxed{}", None),
        (r"Write it in \boxed{\ldots} or \boxed{your answer}", None),
        (r"So \boxed{8}. Hmm, that", None),
        # Lines
        ("So it is\n#### 42\n", "42"),
        ("So it is\n#### 42\n\nQuestion: 5", "42"),
        ("So it is\n#### Oslo\n\nQuestion: Who", "Oslo"),
        ("So it is\n#### Answer: Oslo\nThe", "Oslo"),
        ("So it is\n#### 42", None),  # the line may go on with "0"
        ("#### Step 1\nWe add", None),  # headings
        ("I think:\n#### Analysis\nIt is", None),
        ("First\n#### 1. Add\n5", None),
        # The last mark counts
        (r"So \boxed{8}. The answer is 9. And", "9"),
        ("The answer is 9. So\n#### 8\nAnd", "8"),
    ],
)
def test_marked_answer(text: str, expected: str | None) -> None:
    assert marked_answer(text) == expected


def test_random_texts_never_raise() -> None:
    draw = random.Random(6)
    pieces = [
        r"\boxed{",
        "}",
        "{",
        "\\",
        "#### ",
        "\n",
        "The answer is ",
        "St.",
        "5",
        ".",
        "!",
        "Oslo",
        " ",
        "$",
        "**",
        "\ud800",
    ]
    for _ in range(10_000):
        text = "".join(draw.choice(pieces) for _ in range(draw.randint(0, 12)))
        answer = marked_answer(text)
        assert answer is None or answer.strip()


@pytest.mark.parametrize(
    "unit", ["\\boxed{", "answer is ", "answer is St. ", "answer to ", "#### a\n", "#### 1\n", "if ", "{"]
)
def test_long_texts_take_linear_time(unit: str) -> None:
    with cpu_limit():
        marked_answer(unit * (10**5 // len(unit)))


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("The answer is 24. Next, 5", "The answer is 24."),
        (r"The answer is \boxed{24}. Next, 5", r"The answer is \boxed{24}."),  # the sentence contains the box
        (r"The answer is \boxed{24} jars. Next, 5", r"The answer is \boxed{24} jars."),
        (r"So \boxed{24} it is", r"So \boxed{24}"),
        ("So 24.\n#### 24\nNext, 5", "So 24.\n#### 24"),
        (r"The answer is 23. No: \boxed{24} and", r"The answer is 23. No: \boxed{24}"),
        (r"\boxed{23}, so the answer is 24. And", r"\boxed{23}, so the answer is 24."),
    ],
)
def test_a_mark_ends_with_its_sentence(text: str, marked: str) -> None:
    """A reply that was cut off is kept up to there."""
    mark = closing_mark(text)
    assert mark is not None
    assert text[: mark.end].rstrip() == marked
