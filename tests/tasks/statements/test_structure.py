"""Marked answers, doubtful symbols, and how long a run of words of the question or the context is an echo."""

from __future__ import annotations

import pytest

from toolrlef_data.tasks.statements.passage import read_passage
from toolrlef_data.tasks.statements.structure import has_doubtful_symbol, marked_answers
from toolrlef_data.tasks.statements.verdicts import _echo, states


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        *((f'{{"{key}": "Lyon", "note": "Paris"}}', ["Lyon"]) for key in ("answer", "final_answer", "final answer")),
        *((f'{{"{key}": "Lyon", "note": "Paris"}}', ["Lyon"]) for key in ("result", "response", "ANSWER", "Result")),
        ('{"place": "Lyon", "note": "Paris"}', ["Lyon", "Paris"]),
        ('{"answer": ["Lyon", 5, 2.5, true, null, {"a": 1}]}', ["Lyon", "5", "2.5"]),
        ('{"answer": "Lyon", "result": "Paris"}', ["Lyon", "Paris"]),
        ('{"answer": {"a": "Lyon"}}', []),
        ("{}", []),
        ('["Lyon", ["Paris", [1]]]', ["Lyon", "Paris"]),
        (' \n["Lyon"]', ["Lyon"]),
        ('"Lyon"', ['"Lyon"']),
        ("5", ["5"]),
        ('{"answer": "Lyon"', ['{"answer": "Lyon"']),
        ("[" * 100_000, ["[" * 100_000]),
        ('```json\n{"answer": "Lyon"}\n```', ["Lyon"]),
        ('  ```\n{"answer": "Lyon"}```\n', ["Lyon"]),
        ("```\nLyon\n```", ["Lyon"]),
        ("So ```\nLyon\n```", ["So ```\nLyon\n```"]),
        *(
            (f"<{tag}> Lyon\n</{tag}> Paris", ["Lyon"])
            for tag in ("answer", "final_answer", "final", "ANSWER", "Final")
        ),
        ("<answer>Lyon</answer> <answer>Lyon</answer> <final>Paris</final>", ["Lyon", "Paris"]),
        ("<answer>Ly\non</answer>", ["Ly\non"]),
        ("<answer>Lyon</final>", ["<answer>Lyon</final>"]),
        ("<b>Lyon</b>", ["<b>Lyon</b>"]),
        (r"It is \boxed{Lyon}, not Paris", ["Lyon"]),
        (r"\boxed{Lyon} or \boxed{Paris}", [r"\boxed{Lyon} or \boxed{Paris}"]),
        ("It is Lyon.", ["It is Lyon."]),
        ("", [""]),
    ],
)
def test_marked_answers(text: str, answers: list[str]) -> None:
    assert marked_answers(text) == answers


def test_symbols_that_make_an_answer_unsure() -> None:
    symbols = "\u274c\u274e\u2717\u2718\u2610\u2612\u2611\u2716\u26d4\u00ac\u00b1\u2260\u2248\u2264\u2265"
    for text in (*symbols, "\U0001f44e", "\U0001f6ab", "\U0001f645", "a != b", "!Lyon", "x !Lyon", "~Lyon", "~ Lyon"):
        assert has_doubtful_symbol(f"{text} "), ascii(text)
    for text in ("> 5", "<5", ">= 5", "<=5", "5 - 3", "5 + 3", "5- 3", "[ ] x", "[x] x", "[X] x", "[a](b)"):
        assert has_doubtful_symbol(text), text
    for text in ("Lyon!", "wow! Lyon", "a~b", "> Lyon", "5-3", "5 -3", "a - b", "[y] x", "[a] (b)", "\u2705", "5 < x"):
        assert not has_doubtful_symbol(text), text
    oslo = [(" oslo ", " oslo ")]
    assert (states("Oslo", oslo), states("\u2260 Oslo", oslo)) == (True, None)
    assert states('{"a": "Oslo", "b": "Oslo"}', oslo) is True
    assert states('{"a": "Oslo", "b": "It is not Oslo."}', oslo) is None
    assert states("{}", oslo) is False


LETTERS = "bcdefghijklmnpqrtuvwxyz"
RUN = [f"{letter}{other}" for letter in "bcd" for other in LETTERS]  # words of the context, without function words


def echo(before: int, after: int, source: list[str], allowed: int, more: str = "zz") -> bool | None:
    """Judge an answer with the words around "oslo" that the source has, too."""
    words = [*RUN[:before], "oslo", *RUN[before : before + after]]
    passage = read_passage(" ".join([more, *words, more]))
    start = passage.words.index("oslo")
    return _echo(passage, (start, start + 1), read_passage(" ".join(source)), allowed)


def test_a_run_of_the_context_is_an_echo_by_its_length() -> None:
    for before in (0, 4, 9):
        for around, verdict in ((9, True), (10, None), (24, None), (25, False), (40, False)):
            words = [*RUN[:before], "oslo", *RUN[before:around]]
            long = ["yy", *words, "yy"]
            assert echo(before, around - before, long, 9) is verdict, (before, around)
            assert echo(before, around - before, ["oslo", "yy", *long, "oslo"], 9) is verdict, "the longest run counts"
        for around, verdict in ((11, None), (12, False)):
            words = [*RUN[:before], "oslo", *RUN[before:around]]
            assert echo(before, around - before, words, 9) is verdict, "the whole context"
    assert echo(2, 2, ["yy"], 9) is True
    assert echo(0, 0, ["yy"] * 30 + RUN[:30], 9) is True


def test_a_run_of_the_question_is_an_echo_by_its_content_words() -> None:
    def judge(text: str, question: str) -> bool | None:
        passage = read_passage(text)
        start = passage.words.index("oslo")
        return _echo(passage, (start, start + 1), read_passage(question), 1)

    for text, question, verdict in (
        ("in oslo", "where in oslo is it", True),
        ("the oslo of it", "what the oslo of it is", True),
        ("big oslo", "where is big oslo now", None),  # one word with content, as the whole sentence
        ("big oslo it", "where is big oslo now", True),
        ("big oslo now", "where is big oslo now here", False),
        ("a big oslo now it", "where is big oslo now here", False),
        ("in oslo", "in oslo", False),  # the whole question
        ("it in oslo", "in oslo", False),
        ("oslo", "where is it", True),
    ):
        assert judge(text, question) is verdict, (text, question)
    many = "oslo yy " * 19
    assert judge("big oslo now", f"{many} is big oslo now here") is False
    assert judge("big oslo now", f"oslo yy {many} is big oslo now here") is True, "the first 20 occurrences are read"
