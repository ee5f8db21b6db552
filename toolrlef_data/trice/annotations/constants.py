"""Constants that a formula can contain although the question does not, each with the words that imply it.

They cover units of time, length, mass, volume and money, shapes, multiples (twice, a third), and the length of a list
in the question ("Ann, Bo and Cy": 3). English only. Not covered: world knowledge that the question does not imply.
"""

from __future__ import annotations

import re

__all__ = ["UNIT_SIZES", "constants_for"]

# How many of one unit are in another: days, inches, months, hours, ...
UNIT_SIZES = frozenset(map(float, (7, 12, 16, 24, 28, 30, 31, 36, 52, 60, 100, 365, 1000, 2000, 3600, 5280)))

_CUES: tuple[tuple[str, tuple[float, ...]], ...] = (
    (r"half|halves|halv", (2, 0.5, 50)),
    (r"and a half|half (?:as|again|more)|half of an? hour|half times", (1.5,)),
    (r"twice|doubl|both|pairs?\b|couple|twins?\b|round[- ]trip|each way|two-|biweekly|again as", (2,)),
    (r"every other|opposite|alternat|to and from|there and back|back home|return|equal|evenly", (2,)),
    (r"\band (?:his|her|their|a|my)\b|\bwith (?:his|her|their|a|my)\b", (2,)),
    (r"radius|diameter|circumference|circular|circle", (2, 3.14)),
    (r"perimeter|rectang|wide\b|width|triang|border|fence", (2,)),
    (r"tripl|thrice|third|triang|trio\b|tricycle", (3,)),
    (r"quarter|fourth|quadrupl|square|quart", (4,)),
    (r"quarter|one-fourth", (0.25, 25)),
    (r"fifth|quintupl", (5, 0.2)),
    (r"sixth|cube|dice\b|die\b", (6,)),
    (r"tenth", (10, 0.1)),
    (r"pentagon", (5,)),
    (r"hexagon", (6,)),
    (r"octagon|octopus|spider", (8,)),
    (r"dime", (10, 0.1)),
    (r"nickel", (5, 0.05)),
    (r"penn(?:y|ies)", (1, 0.01)),
    ("cents?\\b|\u00a2|quarters?\\b|dimes?\\b|nickels?\\b|penn(?:y|ies)|\\d\\.\\d\\d\\b", (100,)),
    (r"percent|%|century|centuries", (100, 0.01)),
    (r"centimeter|\bcm\b|centimetre", (100,)),
    (r"millimeter|\bmm\b", (10, 1000)),
    (r"kilo|\bkm\b|\bkg\b|millilit|\bml\b|litre|\blit[er]|milligram|\bmg\b|\bgrams?\b", (1000,)),
    (r"minute|hour|second|\bmph\b|\bmins?\b|\bam\b|\bpm\b|\b[ap]\.m\b", (60,)),
    (r"hour.*second|second.*hour|\bmph\b.*second", (3600,)),
    (r"\bdays?\b|daily|o'clock|hours?\b", (24,)),
    (r"week|dail|every day|each day|per day|a day|\bdays?\b|sunday|monday|saturday", (7,)),
    (r"work ?week|weekday|school week|school day|monday|business|work(?:s|ing)? days?", (5,)),
    (r"weekend|fortnight", (2,)),
    (r"fortnight", (14,)),
    (r"month", (4, 12, 30)),
    (r"year|annual|decade", (12, 52, 365)),
    (r"\bdecade|decades\b", (10,)),
    (r"dozen", (12, 6)),
    (r"feet|foot|inch|\bft\b", (12,)),
    (r"noon|midnight|\bam\b|\bpm\b|\b[ap]\.m\b|o'clock", (12,)),
    (r"yard", (3, 36)),
    (r"ounce|pound|\blbs?\b|\boz\b", (16,)),
    (r"gallon|cups?\b", (16, 8)),
    (r"gallon|quart", (4,)),
    (r"pints?\b|quart", (2,)),
    (r"\btons?\b", (2000, 1000)),
    (r"mile", (5280,)),
    (r"angle|degree", (180, 360, 90)),
    (r"january|march|may\b|july|august|october|december", (31,)),
    (r"april|june|september|november", (30,)),
    (r"february", (28,)),
    (r"\blegs?\b|paws?\b|wheels?\b|tires?\b|hooves|\bfeet\b", (2, 4)),
    (r"bicycl|\bbikes?\b|shoes?\b|socks?\b|\beyes?\b|\bears?\b|\bhands?\b|parents?\b", (2,)),
    (r"\bcars?\b|\bwalls?\b|seasons?\b", (4,)),
)
_group = re.compile(r"\(\?:[^()]*\)\??")
_no_literal = re.compile(r"\\b|\\d|\[[^]]*\]\??|\.\*|\\?.\?|\s{2,}")


def _needles(pattern: str) -> tuple[str, ...]:
    r"""Return texts of which one is in every match of a pattern: the longest plain text of each alternative.

    >>> _needles(r"\bpairs?\b|round[- ]trip|penn(?:y|ies)")
    ('pair', 'round', 'penn')
    """
    alternatives = _group.sub("\0", pattern).split("|")
    plain = (_no_literal.sub("\0", alternative).replace("\\", "").split("\0") for alternative in alternatives)
    return tuple(max(parts, key=len) for parts in plain)


# To look for plain texts first is ten times faster than to search for all patterns.
_cues = tuple((_needles(pattern), re.compile(pattern), frozenset(map(float, values))) for pattern, values in _CUES)
_two_names = re.compile(r"\b[A-Z][a-z]+ and [A-Z][a-z]+\b")
_ends = re.compile("[.;:?!]")
_listed = re.compile(r"((?:[^,]{1,40}, ?)+(?:[^,]{1,40} )??)(?:and|or)\b")


def constants_for(question: str) -> set[float]:
    """Return the constants that the words of a question imply; 1 is always among them ("a", "another", "herself").

    >>> sorted(constants_for("How many hours does she read in a week?"))
    [1.0, 7.0, 24.0, 60.0]
    """
    text = question.lower()
    constants = {1.0}
    for needles, pattern, values in _cues:
        for needle in needles:
            if needle in text:
                if pattern.search(text):
                    constants |= values
                break
    if " and " in question and _two_names.search(question):
        constants.add(2.0)
    parts = (part for part in _ends.split(question) if "," in part and ("and" in part or "or" in part))
    return constants | {_count_items(items) for part in parts for items in _listed.findall(part)}


def _count_items(items: str) -> float:
    """Return the length of the list that starts with "Ann, Bo, and" or "Ann, Bo and"."""
    return float(items.count(",") + (1 if items.rstrip().endswith(",") else 2))
