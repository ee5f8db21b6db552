"""Numbers in text: the value of a gold answer, all numbers of a question or a formula.

| notation | gold answers | questions |
|---|---|---|
| signs, currency before digits, decimals, a leading dot, scientific notation | yes | yes |
| grouping of thousands (1,234,567) and Indian grouping (12,34,567) | yes | yes |
| digits of any script | yes | yes |
| English number words, fractions, percent, cents | no (3/4 is parsed as 3 and 4) | yes |
| decimal commas (0,5 is parsed as 0 and 5) | no | no |
| grouping by spaces, apostrophes or underscores | no | no |
| Roman numerals, number words of other languages | no | no |
"""

from __future__ import annotations

import re

__all__ = ["GROUPED", "UNSIGNED", "VULGAR_FRACTIONS", "numbers_in", "parse_number", "unsigned_numbers"]

# A grouped number has no "digit comma" before it and no ",digit" after it: those are lists or malformed. The lookbehind
# also keeps the search linear: a malformed run of groups is scanned once, not once per group.
GROUPED = r"(?<!\d,)(?!0)(?:\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3})(?!,?\d)"
UNSIGNED = rf"(?:\d+(?![\d.,eE])|{GROUPED}(?:\.\d+)?|\d+(?:\.\d+)?|(?<![\w.])\.\d+)(?:[eE][-+]?\d+)?"
VULGAR_FRACTIONS = "\u00bc-\u00be\u2150-\u215e"  # a range of a character class
_unsigned = re.compile(UNSIGNED).findall
_one_grouped = re.compile(rf"[-+]?{GROUPED}(?:\.\d*)?(?:[eE][-+]?\d+)?").fullmatch
_MAX_FLOAT = 1.7976931348623157e308


def parse_number(text: str) -> float | None:
    """Return the value of a text that is exactly one number; None for any other text, including "inf" and "nan".

    >>> parse_number("1,234.50"), parse_number("-3e2"), parse_number("$5"), parse_number("1,2"), parse_number("inf")
    (1234.5, -300.0, None, None, None)
    """
    try:
        value = float(text)
    except ValueError:
        if "," not in text or not _one_grouped(text.strip()):
            return None
        value = float(text.replace(",", ""))
    # float() also accepts "inf", "nan" and "1_000".
    return value if -_MAX_FLOAT <= value <= _MAX_FLOAT and "_" not in text else None


def unsigned_numbers(text: str) -> list[float]:
    """Return the values of all numbers in a text, in order, without their signs.

    >>> unsigned_numbers("(1,200-15)*0.5")
    [1200.0, 15.0, 0.5]
    """
    return [float(match.replace(",", "")) for match in _unsigned(text)]


_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_NUMBER_WORDS = {word: float(i) for i, word in enumerate(_ONES.split())}
_NUMBER_WORDS |= {word: 10.0 * i for i, word in enumerate(_TENS.split(), start=2)}
_SCALES = {"dozen": 12.0, "hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9}
_SCALES |= {f"{word}s": scale for word, scale in _SCALES.items()}
_DENOMINATORS = {"half": 2.0, "halves": 2.0, "quarter": 4.0, "quarters": 4.0}
_ORDINALS = "third fourth fifth sixth seventh eighth ninth tenth"
_DENOMINATORS |= {word: float(i) for i, word in enumerate(_ORDINALS.split(), start=3)}
_DENOMINATORS |= {
    f"{word}s": denominator for word, denominator in _DENOMINATORS.items() if not word.endswith("s") and word != "half"
}
_MULTIPLES = {"once": 1.0, "single": 1.0, "twice": 2.0, "thrice": 3.0, "pair": 2.0, "pairs": 2.0, "couple": 2.0}
_MULTIPLES |= {
    f"{word}{end}": factor for word, factor in (("doubl", 2.0), ("tripl", 3.0)) for end in ("e", "ed", "es", "ing")
}

_WORD = rf"\b(?:{'|'.join(_NUMBER_WORDS | _SCALES)})\b"
_FRACTION = rf"\b({'|'.join(_DENOMINATORS)})\b"
_CARDINAL = rf"(?:{UNSIGNED}|{_WORD})(?:(?:\s|-|\sand\s){_WORD})*"
_SUFFIX = r"(\s?(?:%|\u00a2|per\s?cent|cents?\b))?"
_FIRST = "".join(sorted({word[0] for word in _NUMBER_WORDS | _SCALES}))  # a search for one of these is fast
_cardinals = re.compile(rf"(?=[\d.{_FIRST}])({_CARDINAL}){_SUFFIX}").finditer
_digits = re.compile(rf"(?=[\d.])({UNSIGNED}){_SUFFIX}").finditer
_letters = re.compile(r"[a-z]+").findall
_fractions = re.compile(rf"{_FRACTION}(\sa\sdozen)?").finditer
_fraction_after = re.compile(rf"(\sand\s(?:a|one))?[\s-]{_FRACTION}").match
_slash_after = re.compile(rf"\s?[/\u2044]\s?({UNSIGNED})").match
_multiples = re.compile(rf"\b(?:{'|'.join(_MULTIPLES)})\b").findall
_words = re.compile(rf"{UNSIGNED}|[a-z]+|-").findall


def numbers_in(text: str) -> set[float]:
    """Return the values of all numbers in a question, in digits or English words, without their signs.

    Several notations yield more than one value, because a formula can use any of them:

    | notation | values |
    |---|---|
    | percent and cents ("40%") | the number and its hundredth: 40, 0.4 |
    | fraction ("a third") | its value and its denominator: 1/3, 3 |
    | scale ("3 dozen") | both factors and their product: 3, 12, 36 |

    >>> sorted(numbers_in("Twenty-five of the 1,200 pens, half of them red, cost 40% more."))
    [0.4, 0.5, 2.0, 25.0, 40.0, 1200.0]
    """
    text = text.lower()
    words = set(_letters(text))  # most texts have no number words, whose patterns are slow
    values = set() if words.isdisjoint(_MULTIPLES) else {_MULTIPLES[word] for word in _multiples(text)}
    for match in () if words.isdisjoint(_DENOMINATORS) else _fractions(text):
        denominator = _DENOMINATORS[match[1]]
        values |= {1 / denominator, denominator}
        if match[2]:
            values.add(12 / denominator)
    integer, integer_end = 0.0, -1
    has_words = not (words.isdisjoint(_NUMBER_WORDS) and words.isdisjoint(_SCALES))
    for match in (_cardinals if has_words else _digits)(text):
        cardinals = _cardinal_values(match[1])
        values |= cardinals
        if match[2]:
            values |= {value / 100 for value in cardinals}
        elif suffix := _fraction_after(text, match.end()):
            denominator = _DENOMINATORS[suffix[2]]
            values |= {value + 1 / denominator if suffix[1] else value / denominator for value in cardinals}
        elif (suffix := _slash_after(text, match.end())) and (denominator := float(suffix[1].replace(",", ""))):
            values |= {value / denominator for value in cardinals}
            if integer_end + 1 == match.start():  # a mixed number, "1 1/2"
                values |= {integer + value / denominator for value in cardinals}
        integer, integer_end = max(cardinals), match.end()
    return values


def _cardinal_values(phrase: str) -> set[float]:
    """Return the values of one run of digits and number words, such as "2 dozen" or "one hundred and five"."""
    values = set()
    thousands, remainder, previous = 0.0, 0.0, ""
    for word in _words(phrase):
        if word in _SCALES:
            scale = _SCALES[word]
            if scale == 12.0:
                values |= {remainder, scale} if remainder else {scale}
            remainder = (remainder or 1.0) * scale
            if scale >= 1000:
                thousands, remainder = thousands + remainder, 0.0
        elif word not in {"-", "and"}:
            value = _NUMBER_WORDS[word] if word in _NUMBER_WORDS else float(word.replace(",", ""))
            tens = remainder % 100
            if value < 10 and 20 <= tens <= 90 and previous in _NUMBER_WORDS | {"-": 0}:
                if previous != "-":  # "twenty five-dollar notes": 20 and 5
                    values |= {thousands + remainder, value}
            elif previous and not (tens == 0 and value < 100 and previous in _SCALES | {"and": 0}):
                values.add(thousands + remainder)
                thousands = remainder = 0.0
            if word not in _NUMBER_WORDS:
                values.add(value)
            remainder += value
        previous = word
    return values | {thousands + remainder}
