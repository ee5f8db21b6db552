"""Words: the forms in which answers in words are compared, for `text_answers` and `statements`."""

from __future__ import annotations

import re
import unicodedata

__all__ = [
    "TYPOGRAPHY",
    "comparison_form",
    "crowded_marks",
    "equal_forms",
    "has_word_character",
    "initials",
    "is_article",
    "without_articles",
    "word_form",
]

has_word_character = re.compile(r"[^\W_]").search

# Deliberately short: characters that are typed in several ways and read the same.
TYPOGRAPHY: dict[int, str | None] = {
    **dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u2032\u00b4\u02bc\uff07"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb\uff02"), '"'),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d"), "-"),
    # Soft hyphen, zero-width spaces and joiners, direction marks, byte order mark.
    **dict.fromkeys([0xAD, 0x61C, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF]),
}


def comparison_form(text: str) -> str:
    """Return the text in the form that the paper's rule compares."""
    if not text.isascii():
        text = text.translate(TYPOGRAPHY)
    return " ".join(text.lower().split())


class _WordCharacters(dict[int, str | None]):
    """The translation table of `word_form`, filled on demand: to the character, its digit, a space, or nothing."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        category = unicodedata.category(character)
        translated: str | None = character
        if category == "Nd":
            translated = str(unicodedata.decimal(character))
        elif category == "Cf" or (category == "Mn" and _is_ignored_mark(character)):
            translated = None
        elif category[0] not in "LNM":
            translated = " "
        self[code] = translated
        return translated


# Accents, vowel points of Hebrew and Arabic, variation selectors. Marks of other scripts distinguish words.
_is_ignored_mark = re.compile("[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u0652\u0670\ufe00-\ufe0f]").match
_WORD_CHARACTERS = _WordCharacters(
    {ord(character): character for character in ".,-+#"}
    | {code: "-" for code, plain in TYPOGRAPHY.items() if plain == "-"}
    | {ord("\u0640"): None, ord("\u00f8"): "o", ord("\u0142"): "l", ord("\u0111"): "d", ord("\u0131"): "i"}
)
# Unicode normalisation sorts the marks on a letter in quadratic time. No word has 30 marks on one letter.
crowded_marks = re.compile(r"([^\w\s]{30})[^\w\s]+")
_has_punctuation = re.compile("[-.,+#]").search
initials = re.compile(r"(?<!\w)([^\W\d_])\.(?:(?=[^\W\d_](?!\w))|\s(?=[^\W\d_]\.))")
_thousands = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_punctuation = re.compile(r",|\.(?!\d)|(?<!\d)\.|-(?!\d)|(?<=\w)-|(?<![a-z+])\+|(?<![a-z])#")
_UNSPACED_SCRIPTS = (
    "[\u0e00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff"
    "\ua960-\ua97f\uaa60-\uaa7f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_unspaced = re.compile(rf"((?=\w){_UNSPACED_SCRIPTS}(?:(?!\w){_UNSPACED_SCRIPTS})*)")
_articles = re.compile(r"(?<= )(?:the|an?) (?=\S)")


def word_form(text: str) -> str:
    """Return the text in the form that the default rule compares: words with a space on each side."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", crowded_marks.sub(r"\1", text))
    if " & " in text:
        text = text.replace(" & ", " and ")
    text = text.casefold().translate(_WORD_CHARACTERS)
    if not text.isascii():
        text = " ".join(_unspaced.split(unicodedata.normalize("NFC", text)))
    text = text.rstrip(" .")
    if _has_punctuation(text):
        text = _punctuation.sub(" ", _thousands.sub("", initials.sub(r"\1", text)))
    words = text.split()
    return f" {' '.join(words)} " if words else " "


def without_articles(words: str) -> str:
    """Return the word form without articles, except at its end, where "a" is not an article ("vitamin a")."""
    return _articles.sub("", words) if " the " in words or " a " in words or " an " in words else words


def is_article(word: str) -> bool:
    """Return whether a word is an English article."""
    return word in ("the", "a", "an")


_NUMBER_WORDS = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty
"""
_TENS = "thirty forty fifty sixty seventy eighty ninety"
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBER_WORDS.split())} | {
    word: str(10 * number) for number, word in enumerate(_TENS.split(), start=3)
}
_WORDS = {digits: word for word, digits in _DIGITS.items() if word != "one"}  # "one" is also a pronoun
_MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
_month_first = re.compile(rf" ({_MONTHS}) (\d{{1,2}}) (\d{{4}}) ").fullmatch
_day_first = re.compile(rf" (\d{{1,2}}) ({_MONTHS}) (\d{{4}}) ").fullmatch


def equal_forms(form: str) -> list[str]:
    """Return a word form and, for a number or a date, its other forms.

    >>> equal_forms(" eighteen "), equal_forms(" 9 october 2018 ")
    ([' eighteen ', ' 18 '], [' 9 october 2018 ', ' october 9 2018 '])
    """
    if match := _month_first(form):
        return [form, f" {match[2]} {match[1]} {match[3]} "]
    if match := _day_first(form):
        return [form, f" {match[2]} {match[1]} {match[3]} "]
    word = form.strip()
    other = _DIGITS.get(word) or _WORDS.get(word)
    return [form, f" {other} "] if other else [form]
