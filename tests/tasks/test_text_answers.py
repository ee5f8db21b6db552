"""Answers in words: extraction, grading by the default rule and the paper's, and leaks."""

from __future__ import annotations

import random
import sys
import unicodedata
from functools import partial
from typing import Any

import pytest

from tests.support.corpora import hostile_cases, own_cases
from tests.support.cpu_time import cpu_limit
from toolrlef_data import InputError
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.text_answers import first_words, grade, leaks, ungradable_reason

# Rows that the default rule grades neither as the paper nor as a careful human, where these agree.
NOT_SEEN = {"grade-171": "inflected form"}


@pytest.mark.parametrize("case", hostile_cases("grading.jsonl", "QA", "LAMA", "MLQA"))
def test_hostile_predictions(case: dict[str, Any]) -> None:
    text = case["prediction"]
    task = TASKS[case["task"].lower()]
    is_gradable = task.ungradable_reason(case["gold"]) is None
    by_paper, by_default = (
        graded.grade(graded.extract(text) if case["kind"] == "text" else text, case["gold"])
        for graded in (task.with_rule("paper"), task)
    )
    assert (by_paper is not None) == is_gradable, case["why"]
    assert bool(by_paper) is case["expect"], case["why"]
    assert (bool(by_default) in {case["expect"], case["sensible"]}) is (case["id"] not in NOT_SEEN), case["why"]


@pytest.mark.parametrize("case", own_cases("answers.jsonl"))
def test_answers(case: dict[str, Any]) -> None:
    task = TASKS[case["task"]]
    assert task.grade(task.extract(case["text"]), case["answers"]) is case["correct"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The answer is Sofia.", "The answer is Sofia."),
        ("  a\tb\n\nc\u00a0d\u3000e ", "a b c d e"),
        (" ".join(map(str, range(30))), " ".join(map(str, range(20)))),
        ("...", "..."),  # has text, though no word
        ("", None),
        (" \n\u00a0", None),
        ("\u200b\ufeff", None),  # only invisible characters
        ("\u200bSofia", "\u200bSofia"),
        ("北" * 10_000, "北" * 10_000),  # one word by the paper's rule
        ("ก" * 99 + " ข", "ก" * 99 + " ข"),
        ("x" * 5000 + " Sofia", "x" * 5000 + " Sofia"),
    ],
)
def test_first_words(text: str, words: str | None) -> None:
    assert first_words(text) == words


def test_first_words_with_a_limit() -> None:
    assert first_words("a b c", 2) == "a b"
    assert len(first_words("北京 " * 10**5) or "") == 20 * 3 - 1


@pytest.mark.parametrize(
    ("prediction", "answers", "paper", "default"),
    [
        ("It is in NEW YORK.", ["New York"], True, True),
        ("Poland", ["Italy", "Poland"], True, True),
        ("Warsaw", ["Poland"], False, False),
        (None, ["Poland"], False, False),
        ("", ["Poland"], False, False),
        ("\u200b", ["Poland"], False, False),
        ("?", ["Poland", "?"], False, False),  # a gold answer without a letter or a digit never matches
        ("Poland", ["\u200b", "Poland"], True, True),
        ("because he said so", ["US"], True, False),
        ("US troops", ["U.S."], False, None),
        ("J.R.R. Tolkien", ["J. R. R. Tolkien"], False, True),
        ("It has vitamin C. A lot", ["vitamin C"], True, None),  # not initials; the last sentence is another phrase
        ("140", ["40"], True, False),
        ("3.5", ["5"], True, False),
        ("1,234,567 people", ["1234567"], False, True),
        ("-5 degrees", ["5"], True, False),
        ("\u22125", ["-5"], True, True),
        ("1939\u20131945", ["1945"], True, None),
        ("1939\u20131945", ["1939-1945"], True, True),
        ("rock \u2019n\u2019 roll", ["Rock 'n' Roll"], True, True),
        ("\u201cSofia\u201d", ["Sofia"], True, True),
        ("the song \u201cHope\u201d", ['song "hope"'], True, True),
        ("New York", ["New\u00a0York"], True, True),  # like 142 gold answers of NQ-open
        ("New\u3000 York", ["New York"], True, True),
        ("New York", ["New\u00ad Yo\u200brk\ufeff"], True, True),
        ("Beatles", ["The Beatles"], False, True),
        ("A Beatle", ["Beatle"], True, True),
        ("vitamin A is the answer", ["vitamin A"], True, True),
        ("vitamin C", ["vitamin A"], False, False),  # at the end, "A" is not an article
        ("who knows", ["The Who"], False, None),
        ("the answer", ["The The"], False, False),
        ("C++, I think", ["C"], True, False),
        ("C++, I think", ["C++"], True, True),
        ("Spider Man", ["Spider-Man"], False, True),
        ("Bulgaria's capital", ["Bulgaria"], True, None),
        ("Beyonce", ["Beyoncé"], False, True),
        ("Beyonce\u0301", ["Beyoncé"], False, True),  # the paper's rule compares code points
        ("ﬁsh and Ｐｏｌｅ", ["fish"], False, True),
        ("Lodz", ["Łódź"], False, True),
        ("STRASSE", ["Straße"], False, True),
        ("ISTANBUL", ["İstanbul"], False, True),
        ("ısparta", ["ISPARTA"], False, True),  # the dotless i
        ("ΟΔΟΣ", ["οδός"], False, True),  # a final sigma, an accent
        ("４０ years", ["40"], False, True),
        ("٤٠", ["40"], False, True),
        ("四十", ["40"], False, False),
        ("答案是北京。", ["北京"], True, True),  # no spaces between words
        ("他40岁", ["40"], True, True),
        ("他140岁", ["40"], True, False),
        ("ニューヨークです", ["ニューヨーク"], True, True),
        ("か\u3099くせい", ["がくせい"], False, True),
        ("かくせい", ["がくせい"], False, False),  # the mark distinguishes words
        ("서울이다", ["서울"], True, True),  # a particle is attached to the word
        ("각", ["가"], False, False),
        ("อยู่ที่กรุงเทพฯ", ["กรุงเทพ"], True, True),
        ("กี่", ["กี"], True, False),  # another mark makes another word
        ("यह हिन्दी है", ["हिन्दी"], True, True),
        ("हिन्दी", ["हिन्द"], True, False),  # a vowel sign belongs to the word
        ("की", ["का"], False, False),
        ("مُحَمَّد", ["محمد"], False, True),  # vowel points
        ("محـــمد", ["محمد"], False, True),  # tatweel
        ("والعراق", ["العراق"], True, False),  # not covered: prefixes of Arabic words
        ("שָׁלוֹם", ["שלום"], False, True),
        ("Poland", [], None, None),
        ("Poland", ["", " ", "?!", "\u200b"], None, None),
        (None, [], None, None),
    ],
)
def test_grade(prediction: str | None, answers: list[str], paper: bool | None, default: bool | None) -> None:
    assert grade(prediction, answers, rule="paper") is paper
    assert grade(prediction, answers) is default
    assert (ungradable_reason(answers) is None) is (paper is not None)


@pytest.mark.parametrize(
    ("argument", "question", "answers", "expected"),
    [
        ("capital Sofia", "capital of Bulgaria?", ["Sofia"], True),
        ("CAPITAL “SOFÍA”", "capital of Bulgaria?", ["Sofia"], True),
        ("capital of Bulgaria", "capital of Bulgaria?", ["Sofia"], False),
        ("Bulgaria", "Where is Sofia, in Bulgaria or Greece?", ["Bulgaria"], False),  # the question contains it
        ("Bulgarian football", "football of what country?", ["Bulgaria"], True),  # the start of a longer word
        ("Bulgarian football", "Bulgarian players?", ["Bulgaria"], False),
        ("Roman emperor", "emperors of what people?", ["Oman"], False),  # not the end of a longer word
        ("events of 1923", "how many in 1923?", ["2"], False),
        ("events of 1923", "which year?", ["1923"], True),
        ("1923-24 season", "which season?", ["1923"], True),
        ("19230 metres", "which year?", ["1923"], False),
        ("Russia", "Who won?", ["US"], False),
        ("US army", "Who won?", ["U.S."], True),
        ("element W", "Which sign?", ["W"], True),
        ("a country", "Which letter?", ["A"], False),  # an article
        ("vitamin a", "Which letter?", ["A"], True),  # no article at the end
        ("vitamin A pills", "Which vitamin?", ["vitamin A"], True),  # no article
        ("vitamin A pills", "What is in vitamin a pills?", ["vitamin A"], False),
        ("The Beatles hits", "Which band?", ["Beatles"], True),
        ("Beatles hits", "Which band?", ["The Beatles"], True),
        ("北京的人口", "首都的人口?", ["北京"], True),
        ("北京的人口", "北京的人口?", ["北京"], False),
        ("anything", "What?", ["", "?", " "], False),
        ("", "What?", ["Sofia"], False),
        ("city of the winter games in 2014", "Where?", ["Sochi"], False),  # not covered: a paraphrase
    ],
)
def test_leaks(argument: str, question: str, answers: list[str], expected: bool) -> None:
    assert leaks(argument, question, answers) is expected


@pytest.mark.parametrize("strict", [True, False])
def test_strict_is_deprecated_and_means_the_default(strict: bool) -> None:
    with pytest.warns(DeprecationWarning, match="strict= is deprecated") as warned:
        assert partial(grade, strict=strict)("because", ["US"]) is False
    assert len(warned) == 1


def test_strict_and_the_rule_of_the_paper_exclude_each_other() -> None:
    with pytest.raises(InputError, match="strict=True and rule='paper' exclude each other"):
        grade("because", ["US"], strict=True, rule="paper")
    with pytest.warns(DeprecationWarning, match="strict= is deprecated"):
        assert grade("because", ["US"], strict=False, rule="paper") is True


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(InputError, match="unknown rule 'strict'; choose from: default, paper"):
        grade("Paris", ["Paris"], rule="strict")
    with pytest.raises(InputError, match="unknown rule 'strict'; choose from: default, paper"):
        TASKS["qa"].with_rule("strict")


CHARACTERS = [
    *"aA iİıßſ.,-+#'\"!?0123456789\n\t",
    *"\u0301\u0327\u0345\u00ad\u200b\u200d\u202e\ufe0f\u00a0\u3000\x00\ud800\U0010ffff",
    *"éﬁＰ４٤½²™…“”’–−北京がか\u3099ー한\u1100\u1161กำี่हिन्दीمحُـשָø€∞🦊",
]
CHARACTERS += ["the ", "a ", " an ", "U.S.", "1,234", "C++"]


def test_random_texts_contain_themselves() -> None:
    draw = random.Random(5)
    for _ in range(5000):
        text, other = ("".join(draw.choice(CHARACTERS) for _ in range(draw.randint(0, 12))) for _ in range(2))
        start = first_words(text)
        assert start is None or start.split() == text.split()[:20]
        comparable = ungradable_reason([text]) is None
        assert grade(text, [text], rule="paper") is (True if comparable else None)
        assert grade(text, [text], anywhere=True) in ({True, None} if comparable else {None})
        assert grade(f"{other} {text}", [text], rule="paper") is (True if comparable else None)
        assert grade(other, [text], rule="paper") in {True, False, None}
        assert grade(other, [text], question=text, context=other) in {True, False, None}
        assert not leaks(text, text, [other, text])
        assert leaks(other, text, [other]) in {True, False}


def test_the_default_rule_does_not_depend_on_normalisation() -> None:
    draw = random.Random(6)
    for _ in range(3000):
        text, gold = ("".join(draw.choice(CHARACTERS) for _ in range(draw.randint(1, 8))) for _ in range(2))
        correct = grade(text, [gold], anywhere=True)
        for form in ("NFC", "NFD"):
            normalised = grade(unicodedata.normalize(form, text), [unicodedata.normalize(form, gold)], anywhere=True)
            assert normalised is correct, (text, gold, form)


def test_combining_marks_are_neither_letters_nor_digits() -> None:
    """The guard against quadratic sorting relies on it."""
    marks = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.combining(chr(code))]
    assert not any(mark.isalnum() or mark.isspace() for mark in marks)


@pytest.mark.parametrize(
    "text",
    [
        "a " * 50_000,
        "a" * 250_000,
        "\u0301\u0327" * 125_000,
        "北" * 40_000,
        "กี่" * 35_000,
        "a.b." * 30_000,
        "1,234" * 25_000,
        "1," * 25_000,
        "\ufdfa" * 10_000,
        "(-+#." * 25_000,
        "the " * 15_000,
        "\u200b" * 125_000,
    ],
    ids=lambda text: ascii(text[:2]),
)
def test_long_texts_take_linear_time(text: str) -> None:
    """Quadratic time would take minutes here."""
    with cpu_limit(10.0):
        first_words(text)
        for rule in ("default", "paper"):
            grade(text, ["x", "no match"], rule=rule)
            grade("x", [text], rule=rule)
        grade(f"{text} Oslo", ["Oslo"], question=text, context=text)
        grade(text, [text[:1], text[:20]], question=text, context=text)
        leaks(text, text, [text])


@pytest.mark.parametrize("space", [" ", "\n", "\t", "\u00a0", "\u3000", "  "])
def test_the_paper_grades_the_first_20_words_for_any_white_space(space: str) -> None:
    words = space.join("abcdefghijklmnopqrst")
    assert grade(f"{words}{space}X1", ["X1"], rule="paper") is False
    assert grade(words[: -1 - len(space)] + f"{space}X1", ["X1"], rule="paper") is True
