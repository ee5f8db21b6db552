"""Clauses that state a number: which are rewritten, how they are asked for, and which are left alone."""

from __future__ import annotations

import pytest

from toolrlef_data.trice.not_calling.clauses import clauses_in, last_sentence
from toolrlef_data.trice.not_calling.grammar import BASES

# question, what stands for the number, the question for it, the same as an indirect question
REWRITTEN = [
    ("Paco had 26 red figs and 17 limes.", "some", "how many red figs did Paco have", "how many red figs Paco had"),
    ("There are 9 figs in a bowl.", "some", "how many figs are in a bowl", "how many figs are in a bowl"),
    ("There were 45 minutes.", "several", "how many minutes were there", "how many minutes there were"),
    ("Tom had 3 figs.", "some", "how many figs did Tom have", "how many figs Tom had"),
    ("There were 9 figs.", "some", "how many figs were there", "how many figs there were"),
    ("She ate sixteen figs.", "some", "how many figs did she eat", "how many figs she ate"),
    ("A chef buys 8 eggs each day.", "a certain number of", "how many eggs does the chef buy each day", ""),
    ("Each box can hold 6 eggs.", "the same number of", "how many eggs can each box hold", ""),
    ("Each box has 6 eggs and 3 figs.", "some", "how many eggs does each box have", ""),
    ("Tom and Ann have 12 figs.", "some", "how many figs do Tom and Ann have", ""),
    ("Mrs. Hilt ran 5 miles on Sunday.", "several", "how many miles did Mrs. Hilt run on Sunday", ""),
    ("Tom paid $ 1,250 for his bike.", "some money", "how much money did Tom pay for his bike", ""),
    ("Tom earns 15 dollars per lawn.", "a certain amount of money", "how much money does Tom earn per lawn", ""),
    ("If a jar has 40 nuts, how many nuts are in 3 jars?", "some", "how many nuts does the jar have", ""),
    ("There are 8 nuts in each jar.", "the same number of", "how many nuts are in each jar", ""),
    ("Ann's mother used 7 cups of flour.", "several", "how many cups of flour did Ann's mother use", ""),
]


@pytest.mark.parametrize(("question", "replacement", "direct", "indirect"), REWRITTEN, ids=[r[0] for r in REWRITTEN])
def test_a_clause_becomes_a_question_for_its_number(
    question: str, replacement: str, direct: str, indirect: str
) -> None:
    [clause] = clauses_in(question)
    assert (clause.replacement, clause.direct) == (replacement, direct)
    assert indirect in ("", clause.indirect)
    assert question[clause.start : clause.end] == clause.number
    assert clause.replacement in clause.statement


# question, why it is left alone
LEFT_ALONE = [
    ("Tom had 26 more figs than Ann.", "a difference"),
    ("Tom had 2 figs.", '"both" gives away two'),
    ("Tom had 5 dozen eggs.", "a factor"),
    ("Tom ate 5 of the figs.", "no noun"),
    ("Tom saw 4 friends, Ann, Bo, Cy and Di.", "the number of a list"),
    ("Tom has 3 pets: a dog, a cat and a fish.", "the number of a list"),
    ("Tom had 7 cats and dogs.", "the number counts both"),
    ("Tom can eat 13 figs, 3 times a day.", "the number is part of a product"),
    ("Tom read 40 pages that he liked.", "a relative clause"),
    ("Tom sent 6 notes and 12 letters in the morning.", "the time stands after other numbers"),
    ("A dog has 4 legs.", "common knowledge"),
    ("There are 60 minutes in an hour.", "common knowledge"),
    ("It takes 24 hours.", "common knowledge"),
    ("The lamp costs $80.", "no verb that money is the object of"),
    ("Students bought 30 books.", "may be no name"),
    ("I have 50 figs.", "the user is asked in another person"),
    ('He said: "I have 50 figs."', "a quotation"),
    ("How many figs does Tom have if Ann has 3 figs?", "no statement"),
    ("There are 25 kids in Ms. Swan's class and 32 in another.", "the sentence goes on"),
    ("Tom bought 2.5 figs.", "no count"),
    ("If Tom has 40 figs, he is glad.", "a condition of another statement"),
    ("Tom has 8 euros.", "an amount of money without its sign"),
    ("Each shelf has 24 figs each.", "each of each"),
    ("Tom has 8 dollars in a bank where 5 coins are.", "a subordinate clause"),
]


@pytest.mark.parametrize(("question", "reason"), LEFT_ALONE, ids=[case[1] for case in LEFT_ALONE])
def test_other_numbers_are_left_alone(question: str, reason: str) -> None:
    assert [clause.statement for clause in clauses_in(question)] == []


def test_titles_and_decimals_do_not_end_a_sentence() -> None:
    assert last_sentence("Mr. Li has $1.50. What can Mr. Li buy?") == "What can Mr. Li buy?"
    [clause] = clauses_in("Mr. Li paid $4.50 for tea.")
    assert (clause.value, clause.statement) == (4.5, "Mr. Li paid some money for tea")


@pytest.mark.parametrize(
    ("past", "base"), [("played", "play"), ("carried", "carry"), ("dropped", "drop"), ("saved", "save"), ("ate", "eat")]
)
def test_a_past_form_is_asked_for_by_its_base(past: str, base: str) -> None:
    assert BASES[past] == ("did", base)
