"""English words that `clauses` reads: verbs with their base forms, nouns without a plural -s, and function words."""

from __future__ import annotations

__all__ = [
    "BASES",
    "COMMON_KNOWLEDGE",
    "CURRENCIES",
    "DETERMINERS",
    "MONEY_VERBS",
    "NAMES_ON_S",
    "NO_NAMES",
    "NO_NOUNS",
    "PLURALS",
    "REST",
    "UNITS",
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Base form and past, for verbs whose object can be counted.
_IRREGULAR = """
    have had, buy bought, sell sold, make made, find found, give gave, eat ate, drink drank, spend spent, read read,
    write wrote, draw drew, see saw, catch caught, get got, win won, lose lost, run ran, drive drove, ride rode,
    take took, bring brought, put put, cut cut, send sent, throw threw, break broke, pay paid, build built, grow grew,
    hold held, keep kept, leave left, feed fed, hide hid, sew sewed, swim swam, lay laid, set set, hit hit
"""
_REGULAR = """
    pick collect bake plant use save earn count receive pack invite score walk hike borrow return order gather harvest
    raise cook prepare serve add remove share donate complete solve play watch download delete type print produce need
    own contain deliver wash clean fix paint invite visit answer finish order kick toss cross recycle fold wrap
    peel slice glue stack load carry pull push drop join transfer scrape trim frame display invent record rent hire
    climb jog cycle knit sign mail post fill empty open pour tie trade swap gain adopt discover accumulate decorate
    assemble manufacture handle process lift chop boil roast grill fry sharpen purchase offer
"""
_DOUBLED = "drop trim chop jog swap ship wrap knit grab"


def _past(verb: str) -> str:
    if verb in _DOUBLED.split():
        return f"{verb}{verb[-1]}ed"
    if verb.endswith("e"):
        return f"{verb}d"
    return f"{verb[:-1]}ied" if verb.endswith("y") and verb[-2] not in "aeiou" else f"{verb}ed"


def _third_person(verb: str) -> str:
    if verb == "have":
        return "has"
    if verb.endswith(("s", "sh", "ch", "x", "o", "ss")):
        return f"{verb}es"
    return f"{verb[:-1]}ies" if verb.endswith("y") and verb[-2] not in "aeiou" else f"{verb}s"


def _bases() -> dict[str, tuple[str, str]]:
    """Return form of a verb -> (auxiliary of its question, base form)."""
    pairs = [tuple(pair.split()) for pair in _IRREGULAR.replace("\n", " ").split(",")]
    pairs += [(verb, _past(verb)) for verb in _REGULAR.split()]
    forms = {past: ("did", base) for base, past in pairs}
    forms |= {_third_person(base): ("does", base) for base, _ in pairs}
    forms |= {base: ("do", base) for base, past in pairs if base != past}
    return forms | {f"can {base}": ("can", base) for base, _ in pairs}


BASES = _bases()
MONEY_VERBS = _words("have earn save spend make get receive collect raise donate borrow find win lose pay give")

DETERMINERS = _words("The A An Each Every His Her Their Its This That")
NAMES_ON_S = _words("James Charles Chris Carlos Luis Marcus Lucas Nicholas Thomas Agnes Alexis Frances Lois")
# First words of a sentence that are no names, although they begin with a capital letter.
NO_NAMES = _words("""
    I We You My Our Your It He She They There If When While After Before Then So And But Or Because Since As At In On
    For From With By To Of During Some All Both Most Many Several Half Other Others Who What Which How Where Why Two
    Three Four Five Six Seven Eight Nine Ten Twelve Twenty Everyone Everybody Nobody Someone People Students Yesterday
    Today Tomorrow Tonight Last Next Now Later Once First Second Third Finally Also Only Just Still Even Please
    """)
# Plural nouns without -s, or of several forms.
PLURALS = _words("people children men women feet mice geese sheep fish deer teeth oxen salmon shrimp dice")
# Nouns of a measure: "several miles", not "some miles".
UNITS = _words("""
    miles kilometers kilometres meters metres feet inches yards centimeters seconds minutes hours days weeks months
    years
    pounds ounces grams kilograms tons liters litres gallons cups pints quarts teaspoons tablespoons degrees points
    calories grams milligrams kilocalories
    """)
CURRENCIES = _words("dollars euros cents bucks")  # an amount of money is "some money"
# Nouns whose number is common knowledge for many things, such as the legs of a dog.
COMMON_KNOWLEDGE = _words("""
    legs wheels sides corners eyes ears fingers toes hands arms feet wings paws cents seasons quarters halves
    innings strings holes players letters angles edges vertices cards sixths thirds fourths tires claws hooves degrees
    states squares stripes stars bones teeth keys planets bases beats continents
    """)
# Words that are no part of a noun phrase, or that make the number before them another one.
NO_NOUNS = _words("""
    more fewer less times percent percentage dozen dozens hundred hundreds thousand thousands million millions other
    others different extra additional another each every per a an the his her their its my our this that these those
    and or but of in on at from for to with by as than if when while so because which who whom whose where is are was
    were be been being it he she they them him himself herself half third fourth fifth quarter total remaining
    consecutive out all both either neither not no only about
    """)
# First words of what may follow the noun phrase in its clause.
REST = _words("""
    in on at from for to with during yesterday today tonight last this each every per into onto off away back out up
    down left altogether inside under over near around by there here among
    """)
