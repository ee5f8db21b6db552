"""Reading numbers in text: the last one of a response, a gold answer, all that a question holds.

Covered: signs, currency before digits, thousands (1,234,567) and Indian (12,34,567) grouping, decimals, a leading dot,
scientific notation, digits of any script; in questions also English number words, fractions, percent and cents.
Not covered: decimal commas (0,5 is read 0 and 5), grouping by blanks, apostrophes or underscores, roman numerals,
number words of other languages; in responses and gold answers, number words and fractions (3/4 is read 3 and 4).
"""

from __future__ import annotations

import re

__all__ = ["last_number", "number", "numbers_in", "unsigned_numbers"]

# A grouped number may not follow "digit comma" nor go on with one: that is a list, or malformed. The first of these
# also keeps the search linear: a malformed run of groups is walked once, not once a group.
GROUPED = r"(?<!\d,)(?!0)(?:\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3})(?!,?\d)"
UNSIGNED = rf"(?:\d+(?![\d.,eE])|{GROUPED}(?:\.\d+)?|\d+(?:\.\d+)?|(?<![\w.])\.\d+)(?:[eE][-+]?\d+)?"
# A minus is a sign only where no operand stands before it: 10-3 ends in 3, not in -3.
_signed = re.compile(rf"(?:(?<![\w.)\]%])[-\u2212][$\u20ac\u00a3\u00a5\u20b9]?)?{UNSIGNED}").findall
_unsigned = re.compile(UNSIGNED).findall
_to_last_digit = re.compile(r".*\d", re.DOTALL).match
_one_grouped = re.compile(rf"[-+]?{GROUPED}(?:\.\d*)?(?:[eE][-+]?\d+)?").fullmatch
_JOINED = frozenset("-+.,eE\u2212$\u20ac\u00a3\u00a5\u20b9")  # may tie the digits after them to what is before them
_LONGEST = 2000  # characters looked at: a longer number is beyond the range of a float many times over
_HUGE = 1.7976931348623157e308


def number(text: str) -> float | None:
    """The value of a text that is one number and nothing else; None for any other text, also for inf and nan.

    >>> number("1,234.50"), number("-3e2"), number("$5"), number("1,2"), number("inf")
    (1234.5, -300.0, None, None, None)
    """
    try:
        value = float(text)
    except ValueError:
        if "," not in text or not _one_grouped(text.strip()):
            return None
        value = float(text.replace(",", ""))
    # float() also reads "inf", "nan" and "1_000"
    return value if -_HUGE <= value <= _HUGE and "_" not in text else None


def last_number(text: str) -> str | None:
    """The last number of a text, without grouping and currency; None where the text holds no digit.

    >>> last_number("She pays $1,234.50."), last_number("10-3"), last_number("It fell to -.5 degrees.")
    ('1234.50', '3', '-0.5')
    """
    to_digit = _to_last_digit(text)
    if to_digit is None:
        return None
    # numbers hold no blank: only the last word that has a digit needs to be looked at
    end = to_digit.end()
    start = max(text.rfind(" ", 0, end) + 1, end - _LONGEST)
    word = text[start:end]
    before = word.rstrip("0123456789")
    if len(before) < len(word) and (not before or not (before[-1] in _JOINED or before[-1].isdecimal())):
        return word[len(before) :]
    found: str = _signed(text, start, end)[-1]
    negative = found[0] in "-\u2212"
    plain = found.lstrip("-\u2212$\u20ac\u00a3\u00a5\u20b9").replace(",", "")
    if not plain.isascii():
        plain = "".join(str(int(c)) if c.isdecimal() else c for c in plain)
    return ("-" if negative else "") + ("0" if plain[0] == "." else "") + plain


def unsigned_numbers(text: str) -> list[float]:
    """The values of all numbers in a text, in order, signs left aside.

    >>> unsigned_numbers("(1,200-15)*0.5")
    [1200.0, 15.0, 0.5]
    """
    return [float(found.replace(",", "")) for found in _unsigned(text)]


_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SMALL = {word: float(i) for i, word in enumerate(_ONES.split())}
_SMALL |= {word: 10.0 * i for i, word in enumerate(_TENS.split(), start=2)}
_SCALES = {"dozen": 12.0, "hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9}
_SCALES |= {f"{word}s": scale for word, scale in _SCALES.items()}
_PARTS = {"half": 2.0, "halves": 2.0, "quarter": 4.0, "quarters": 4.0}
_FRACTIONS = "third fourth fifth sixth seventh eighth ninth tenth"
_PARTS |= {word: float(i) for i, word in enumerate(_FRACTIONS.split(), start=3)}
_PARTS |= {f"{word}s": part for word, part in _PARTS.items() if not word.endswith("s") and word != "half"}
_TIMES = {"once": 1.0, "single": 1.0, "twice": 2.0, "thrice": 3.0, "pair": 2.0, "pairs": 2.0, "couple": 2.0}
_TIMES |= {
    f"{word}{end}": times for word, times in (("doubl", 2.0), ("tripl", 3.0)) for end in ("e", "ed", "es", "ing")
}

_WORD = rf"\b(?:{'|'.join(_SMALL | _SCALES)})\b"
_PART = rf"\b({'|'.join(_PARTS)})\b"
_CARDINAL = rf"(?:{UNSIGNED}|{_WORD})(?:(?:\s|-|\sand\s){_WORD})*"
_cardinals = re.compile(rf"({_CARDINAL})(\s?(?:%|\u00a2|per\s?cent|cents?\b))?").finditer
_parts = re.compile(rf"{_PART}(\sa\sdozen)?").finditer
_part_after = re.compile(rf"(\sand\s(?:a|one))?[\s-]{_PART}").match
_slash_after = re.compile(rf"\s?[/\u2044]\s?({UNSIGNED})").match
_times = re.compile(rf"\b(?:{'|'.join(_TIMES)})\b").findall
_words = re.compile(rf"{UNSIGNED}|[a-z]+|-").findall


def numbers_in(text: str) -> set[float]:
    """The values that a question holds, in digits or in English words, signs left aside.

    A number of percent or cents also holds its hundredth. A fraction holds its value and what it divides by ("a third":
    1/3 and 3), because formulas divide; a number with a scale holds both ("3 dozen": 3, 12 and 36).

    >>> sorted(numbers_in("Twenty-five of the 1,200 pens, half of them red, cost 40% more."))
    [0.4, 0.5, 2.0, 25.0, 40.0, 1200.0]
    """
    text = text.lower()
    held = {_TIMES[word] for word in _times(text)}
    for found in _parts(text):
        part = _PARTS[found[1]]
        held |= {1 / part, part, 12 / part} if found[2] else {1 / part, part}
    whole, whole_end = 0.0, -1
    for found in _cardinals(text):
        values = _cardinal(found[1])
        held |= values
        if found[2]:
            held |= {value / 100 for value in values}
        elif after := _part_after(text, found.end()):
            part = _PARTS[after[2]]
            held |= {value + 1 / part if after[1] else value / part for value in values}
        elif (after := _slash_after(text, found.end())) and (below := float(after[1].replace(",", ""))):
            held |= {value / below for value in values}
            if whole_end + 1 == found.start():  # a mixed number, "1 1/2"
                held |= {whole + value / below for value in values}
        whole, whole_end = max(values), found.end()
    return held


def _cardinal(phrase: str) -> set[float]:
    """The values of one stretch of digits and number words, such as "2 dozen" or "one hundred and five"."""
    held = set()
    thousands, below, before = 0.0, 0.0, ""
    for word in _words(phrase):
        if word in _SCALES:
            scale = _SCALES[word]
            if scale == 12.0:
                held |= {below, scale} if below else {scale}
            below = (below or 1.0) * scale
            if scale >= 1000:
                thousands, below = thousands + below, 0.0
        elif word not in {"-", "and"}:
            value = _SMALL[word] if word in _SMALL else float(word.replace(",", ""))
            tens = below % 100
            if value < 10 and 20 <= tens <= 90 and before in _SMALL | {"-": 0}:
                if before != "-":  # "twenty five-dollar notes" are twenty and five
                    held |= {thousands + below, value}
            elif before and not (tens == 0 and value < 100 and before in _SCALES | {"and": 0}):
                held.add(thousands + below)
                thousands = below = 0.0
            if word not in _SMALL:
                held.add(value)
            below += value
        before = word
    return held | {thousands + below}
