"""The forms in which words are compared: every character that is typed in several ways, every number word and month."""

from __future__ import annotations

import pytest

from toolrlef_data.tasks.text_answers import extract, first_words, grade, leaks, ungradable_reason
from toolrlef_data.tasks.words import (
    comparison_form,
    crowded_marks,
    equal_forms,
    has_word_character,
    is_article,
    without_articles,
    word_form,
)

QUOTES = "'\u2018\u2019\u201a\u201b\u2032\u00b4\u02bc\uff07"
DOUBLE_QUOTES = '"\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb\uff02'
DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d"
INVISIBLE = (
    "\u00ad\u061c\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2064\u2066\u2069\ufeff"
)


def test_characters_that_read_the_same_are_equal() -> None:
    for characters, plain in ((QUOTES, "'"), (DOUBLE_QUOTES, '"'), (DASHES, "-"), (INVISIBLE, "")):
        for character in characters:
            assert comparison_form(f"A{character}B") == f"a{plain}b", ascii(character)
    assert comparison_form("\u2027\u206a\u2e3a") == "\u2027\u206a\u2e3a", "no characters of the list"

    for dash in DASHES:
        assert word_form(f"{dash}5") == " -5 ", ascii(dash)
        assert word_form(f"a{dash}b 3{dash}5 {dash} c{dash}") == " a b 3 5 c ", ascii(dash)
    for character in INVISIBLE:
        assert word_form(f"a{character}b") == " ab ", ascii(character)
        assert extract(f" {character} ") is first_words(character) is None, ascii(character)
    assert comparison_form(" A \n B\u00a0c\u3000") == "a b c"


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("O'Brien_Smith (Jr)", "o brien smith jr"),
        ("C++ C# F# #1 +5 a+b +", "c++ c# f# 1 5 a+b"),
        ("-5 10-3 x - 5 well-known -", "-5 10 3 x 5 well known"),
        ("3.5 3. v.2 a.b .5 5..6 ...", "3.5 3 v 2 ab 5 5 6"),
        ("1,234 12,345,678 1,23 1,2345 a,b 1, 234", "1234 12345678 1 23 1 2345 a b 1 234"),
        ("U.S. troops, J.R.R. Tolkien", "us troops jrr tolkien"),
        ("J. R. R. Tolkien", "jrr tolkien"),
        ("vitamin C. A lot", "vitamin c a lot"),
        ("Mr. Moe lives at no.5", "mr moe lives at no 5"),
        ("A & B A&B", "a and b a b"),
        ("\u00c9cole Stra\u00dfe \u0141\u00d3D\u0179 S\u00f8 \u0110 \u0131 \u0130", "ecole strasse lodz so d i i"),
        ("\u0663\u0664 \uff14 \u2460 x\u00b2 \u00bd", "34 4 1 x2 1 2"),
        ("\ufb01sh \uff30", "fish p"),
        ("\u0645\u064f\u0640\u062d\u064e\u0645\u0651\u062f\u0670", "\u0645\u062d\u0645\u062f"),
        ("\u05e9\u05c1\u05b8\u05dc", "\u05e9\u05dc"),
        ("\u0939\u093f\u0928\u094d\u0926\u0940", "\u0939\u093f\u0928\u094d\u0926\u0940"),
        ("\u2764\ufe0f", ""),
        ("\u65e5\u672c3", "\u65e5 \u672c 3"),
        ("\u304b\u3099", "\u304c"),
        ("\u0e01\u0e35\u0e48\u0e01", "\u0e01\u0e35\u0e48 \u0e01"),
        ("", ""),
        ("?!", ""),
        (".", ""),
    ],
)
def test_the_words_of_a_text(text: str, form: str) -> None:
    assert word_form(text) == (f" {form} " if form else " ")


def test_each_character_of_a_script_without_spaces_is_a_word() -> None:
    for first in "\u0e01\u0e81\u0f40\u1000\u1780\u3005\u3042\u30a2\u31f0\u3400\u4e00\ua960\uaa60\uac00\uf906\U00020000":
        assert len(word_form(first * 3).split()) == 3, ascii(first)
    for first in "a\u0430\u05d0\u0627\u0915\u10d0\u1200\u1e00\ua000\ufb50":
        assert len(word_form(first * 3).split()) == 1, ascii(first)


WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
)
NUMBERS = {word: n for n, word in enumerate(f"{WORDS} eighteen nineteen twenty".split())}
NUMBERS |= {
    word: 30 + 10 * n for n, word in enumerate(["thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"])
}
MONTHS = "january february march april may june july august september october november december"


def test_every_number_and_every_date_has_two_forms() -> None:
    for word, number in NUMBERS.items():
        assert equal_forms(f" {word} ") == [f" {word} ", f" {number} "]
        digits = f" {number} "
        assert equal_forms(digits) == ([digits] if number == 1 else [digits, f" {word} "]), '"one" is also a pronoun'
    for month in MONTHS.split():
        for day in ("9", "31"):
            first, other = f" {month} {day} 2018 ", f" {day} {month} 2018 "
            assert (equal_forms(first), equal_forms(other)) == ([first, other], [other, first])
    for form in (" may 9 ", " may 9 18 ", " may 109 2018 ", " 9 mai 2018 ", " oslo ", " 21 ", " twenty one ", " "):
        assert equal_forms(form) == [form]


def test_articles_count_at_the_end_alone() -> None:
    for form, bare in (
        (" the who ", " who "),
        (" a tale of an end ", " tale of end "),
        (" vitamin a ", " vitamin a "),
        (" the the ", " the "),
        (" a an the x ", " x "),
        (" than atheist ", " than atheist "),
        (" ", " "),
    ):
        assert without_articles(form) == bare
    assert [word for word in ("the", "a", "an", "The", "this", "") if is_article(word)] == ["the", "a", "an"]
    assert [bool(has_word_character(text)) for text in ("a", "5", "\u5317", "_", "?", "")] == [True] * 3 + [False] * 3


def test_crowded_marks_are_cut_to_thirty() -> None:
    marks = "\u0301\u0327" * 20
    assert [len(crowded_marks.sub(r"\1", marks[:n])) for n in (29, 30, 31, 40)] == [29, 30, 30, 30]
    assert word_form(f"e{marks}") == " e "


def test_the_limits_of_a_grade_by_the_paper() -> None:
    for words, is_right in ((19, True), (20, False)):
        assert grade("w " * words + "Oslo", ["Oslo"], rule="paper") is is_right
        assert grade("w " * words + "Oslo", ["Oslo"], rule="paper", words=None) is True
        assert grade("w " * 2 + "Oslo", ["Oslo"], rule="paper", words=3) is True
        assert grade("w " * 3 + "Oslo", ["Oslo"], rule="paper", words=3) is False
    assert first_words("a b c") == first_words("a b c", 3) == "a b c"
    assert [ungradable_reason(answers) for answers in (["_", "5"], ["_"], [])] == [None, "no_answer", "no_answer"]


@pytest.mark.parametrize(
    ("argument", "gold", "is_leak"),
    [
        ("Oslos", "Oslo", True),  # four characters: the start of a longer word
        ("Rioja", "Rio", False),
        ("Oslo", "Oslos", False),
        ("in 19235", "in 1923", False),
        ("in 1923", "1923", True),
        ("abcdefg", "bcde", False),
        ("an old fjord", "old", True),
        ("18 ships", "eighteen", True),
        ("May 9, 2018", "9 May 2018", True),
        ("the who", "Who", True),
    ],
)
def test_an_argument_that_holds_a_gold_answer(argument: str, gold: str, is_leak: bool) -> None:
    assert leaks(argument, "Which one?", ["none of it", gold]) is is_leak
    assert not leaks(argument, f"Is it {argument}?", [gold])
