"""Vocabulary: the words that mark negations, lists, clauses and final statements, in the form that grading compares."""

from __future__ import annotations

from functools import lru_cache


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


@lru_cache(maxsize=4096)
def stem(word: str) -> str:
    """Return a word without an inflectional ending."""
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) > len(ending) + 3:
            return word.removesuffix(ending)
    return word


ABBREVIATIONS = word_set(
    """
    mr mrs ms dr st jr sr mt ft vs no prof gen col lt sgt capt rev hon inc co ltd corp approx ca cf eg ie al fig vol
    jan feb mar apr jun jul aug sep sept oct nov dec ave blvd dept univ est
    """
)
AUXILIARIES = word_set(
    """
    is are was were be been am seem seems looks sounds appears has have had do does did can could will would should may
    might must became become becomes
    """
)
SUBJECTS = word_set("it he she they we you i")
FUNCTION_WORDS = word_set(
    """
    a an the of in at on to by from for with as and or nor but so than then that this these those it its he she they we
    you i my your his her their our me him them us is are was were be been being am has have had do does did can could
    will would should may might must not no if because since while when where which who whom whose what how why there
    here also just only very into over under about after before during between through
    """
)

# Final statements -----------------------------------------------------------------------------------------------------

BE = word_set("is was are were be s would must should")
ANSWER_LEADS = word_set(
    """
    it he she they this that so thus hence therefore then today now actually but also i think believe guess conclude
    would say the answer final correct right my must should be is was are were could may might s know sure am quite and
    here well ok okay yes no
    """
)
COMPLEMENT_LEADS = word_set("the a an in at on from of to by called named probably most likely that it is")
REFERENCES = word_set("it he she they this that these those which there its his her their here also")
REMARKS = word_set("hope let please thanks thank because feel ps have enjoy glad good")
EXPLANATIONS = word_set("source sources explanation note notes reason reasoning evidence reference references")
CORRECTIONS = word_set("no wait actually sorry correction hmm oops scratch however but rather instead yet")
RETRACTIONS = word_set("wait sorry correction oops scratch actually rather hmm")

UPDATES = word_set("now today instead nowadays currently")
# Words that start a sentence after an abbreviation or a number.
SENTENCE_STARTS = word_set("it he she they this that the no wait actually in however but i a not so sorry and there")

# Negations ------------------------------------------------------------------------------------------------------------

NEGATORS = word_set(
    """
    not no never nor neither none nobody nothing nowhere without except excluding unlike non hardly cannot doubt
    doubtful unlikely deny denied disagree wrong incorrect false impossible untrue nope isnt wasnt dont doesnt didnt
    arent cant wont exclude excludes excluded reject rejected refuse confused mistaken mistake misconception myth
    """
)
# Negators of Spanish, German, French, Vietnamese, Hindi, Arabic and Chinese.
FOREIGN_NEGATORS = word_set(
    "nicht kein keine keinen weder nunca tampoco keineswegs ni jamais pas khong नहीं ليس ليست لا 不 没 非"
)
CONTRACTED = word_set("isn wasn don doesn didn aren weren won can couldn wouldn shouldn hasn haven hadn ain")
NEGATING_PAIRS = frozenset(
    {
        *[("other", "than"), ("rather", "than"), ("instead", "of"), ("far", "from"), ("opposed", "to")],
        *[("ruled", "out"), ("rule", "out"), ("rules", "out"), ("ruling", "out"), ("anything", "but"), ("all", "but")],
    }
)
AFFIRMING_PAIRS = frozenset(
    {
        *[("no", "doubt"), ("no", "question"), ("without", "doubt"), ("without", "question"), ("without", "a")],
        *[("not", "only"), ("not", "just"), ("not", "merely"), ("not", "surprisingly"), ("no", "wonder")],
        *[("none", "other"), ("no", "other"), ("nothing", "other"), ("nothing", "but")],
    }
)
REJECTIONS = word_set("wrong incorrect false impossible unlikely excluded untrue mistaken doubtful")
CLAUSE_STARTS = word_set(
    "but however though although because yet while whereas since so sondern sino pero aber mais instead which who where"
)

# Lists ----------------------------------------------------------------------------------------------------------------

JOINERS = {
    **dict.fromkeys(("and", "und", "et", "plus", "和", "与", "و", "और"), "&"),
    **dict.fromkeys(("or", "nor", "oder", "ou", "hoac", "versus", "vs", "或", "还", "أو", "या"), "or"),
}
SPANISH_JOINERS = {"y": "&", "o": "or"}  # in lower case only
NOT_ALTERNATIVES = word_set("not so less more thereabouts later earlier higher lower older younger under over both")
HEDGES = word_set(
    """
    maybe perhaps possibly might may could alternatively otherwise conceivably either others unless vielleicht quizas
    quiza peut 许
    """
)
CHOICES = word_set("answers options candidates possibilities choices alternatives guesses")
PARTICLES = word_set("no yes well ok okay sure thus right sorry wait actually hmm oops")
ITEM_LEADS = word_set(
    """
    in at on from of to by the a an it is was are were maybe perhaps possibly also then probably either neither both
    even like as eg ie not and
    """
)
# An item that starts with one of these is no candidate of a list but the next clause.
NO_CANDIDATE = word_set(
    """
    which who where that because since but so as located known born during including near after before with for when
    while if though although whose whom however also i we you he she they it this there what how why namely called
    formerly now today currently founded built whether having being followed preceded
    """
)
