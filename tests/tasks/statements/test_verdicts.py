"""What an answer states: each kind of answer that contains the gold answer Oslo, right or not, with the reason."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.support.corpora import own_cases
from toolrlef_data.tasks.text_answers import grade

NOT_RIGHT = {
    "three or more candidates": [
        "It is Bergen, Turku, Malmo or Oslo.",
        "Bergen, Turku and Oslo",
        "Bergen, Turku, Malmo, and Oslo are ports",
        "bergen, turku, malmo, oslo",
        "Oslo, Bergen, Turku, Malmo",
        "Bergen; Turku; Oslo",
        "Bergen | Oslo | Turku",
        "Bergen,Turku,Oslo",
        "Bergen_Oslo_Turku",
        "#Bergen #Oslo #Turku",
        "Bergen\nTurku\nOslo",
        "- Oslo\n- Bergen\n- Turku",
        "1. Oslo\n2. Bergen\n3. Turku",
        "A) Bergen B) Turku C) Oslo",
        "a. Bergen b. Oslo c. Turku",
        "Bergen. Turku. Malmo. Oslo.",
        "It is Bergen. It is Turku. It is Oslo.",
        "The answer is Bergen. The answer is Turku. The answer is Oslo.",
        "['Bergen', 'Turku', 'Oslo']",
        "<li>Bergen</li><li>Turku</li><li>Oslo</li>",
        "My first guess is Bergen, my second guess is Turku and my third guess is Oslo",
        "Bergen Turku Malmo Aarhus Oslo Tampere Espoo",
        "Oslo (50%), Bergen (30%), Turku (20%)",
        "Bergen、Turku、Oslo",
        "Bergen, Turku y Oslo",
    ],
    "alternatives": [
        "Either Oslo or Bergen",
        "Oslo/Bergen",
        "Oslo and/or Bergen",
        "Oslo, or maybe Bergen",
        "Oslo, maybe Bergen",
        "Maybe Bergen, maybe Oslo",
        "It could be Oslo, it could be Bergen",
        "The answer could be Bergen. But it could also be Oslo.",
        "Oslo, alternatively Bergen",
        "Oslo, unless it is Bergen",
        "If not Oslo, then Bergen",
        "between Oslo and Bergen",
        "Oslo vs Bergen",
        "Possible answers: Bergen, Oslo",
        "Some say Oslo, others say Bergen",
        "Bergen. Or Oslo.",
        "Maybe Bergen. Maybe Oslo.",
        "It depends: Bergen in summer, Oslo in winter",
        "Bergen oder Oslo",
        "Bergen o Oslo",
        "答案是Oslo或Bergen",
    ],
    "negations": [
        "I do not think it is Oslo.",
        "Not Oslo, but Bergen.",
        "Bergen, not Oslo",
        "It isn’t Oslo.",
        "Oslo is not the answer.",
        "Oslo is wrong; Bergen is right",
        "Oslo: wrong. Bergen: right.",
        "Oslo can be ruled out",
        "Oslo is out of the question",
        "Oslo seems unlikely",
        "Oslo, not!",
        "Anything but Oslo",
        "Every city except Oslo",
        "Neither Bergen nor Oslo",
        "I doubt that it is Oslo",
        "Bergen rather than Oslo",
        "It is no longer Oslo",
        "A common mistake is Oslo",
        "It is not, as many think, Oslo",
        "Oslo. That is not correct.",
        "Oslo, which is wrong",
        "Not (Harald's) Oslo, but Bergen",
        "It is Bergen (not Oslo).",
        "The answer is Bergen, not Turku or Oslo.",
        "No es Oslo",
        "Nicht Oslo, sondern Bergen",
        "It is not B) Oslo.",
        "Not B) Oslo, but C) Bergen",
        "I don't think it is B) Oslo",
        "Ce n'est pas Oslo",
        "答案不是Oslo",
        "यह Oslo नहीं है",
    ],
    "other statements": [
        "Oslo was the capital. It is Bergen now.",
        "It is Oslo. No, wait, it is Bergen.",
        "Oslo. Actually, Bergen.",
        "Oslo, no, Bergen",
        "Oslo, I mean Bergen",
        "The answer is Bergen. It is north of Oslo.",
        "The answer is Bergen. Oslo is the capital.",
        "It used to be Oslo, now it is Bergen",
        "Though many say Oslo, it is Bergen",
        "People think it is Oslo, but it is Bergen",
    ],
    "mentions": [
        "The answer is Bergen, which is west of Oslo.",
        "It is Bergen, 400 km from Oslo.",
        "Bergen, near Oslo",
        "Bergen (close to Oslo)",
        "Bergen, followed by Oslo",
        "Bergen is wetter than Oslo.",
        "It is one of: Bergen, Oslo.",
        "It was thought to be Oslo until 1900; in fact it is Bergen.",
        "I'd say Bergen. Some would say Oslo.",
        "Bergen (some sources: Oslo)",
        "I am unable to say. Oslo is one possibility.",
        "Oslo, I don't think.",
        "Oslo, I do not believe so.",
        "Less likely Oslo, more likely Bergen.",
        "Oslo etc.",
        "~~Oslo~~ Bergen",
        "1. Oslo 2. Bergen 3. Turku",
        "1) Bergen 2) Oslo 3) Turku",
    ],
    "words that are not accounted for": [
        "Bergen replaced Oslo.",
        "Oslo was replaced by Bergen.",
        "Bergen beats Oslo.",
        "Bergen. I considered Oslo.",
        "Bergen, formerly Oslo",
        "Bergen, because Oslo is too far north.",
        "Near Oslo",
        "a town next to Oslo",
        "an alternative to Oslo",
        "A suburb of Oslo",
        "The brother of Oslo",
        "Oslo's rival",
        "Oslo Bergen",
        "Oslo, Bergen",
        "Bergen, Oslo",
        "Bergen: Oslo",
        "New Oslo",
        "from Oslo to Bergen",
        "It used to be Oslo.",
        "It was Oslo until 1940.",
        "Oslo is a trap.",
        "Oslo has a low probability.",
        "Avoid Oslo.",
        "I love Oslo.",
        "Every city but Oslo",
        "The city where the train to Oslo starts.",
        "Oslo would have hosted it.",
        "Oslo was meant to be it.",
        "It will be in Oslo.",
        "It once was in Oslo.",
        "Oslo, had it won",
        "Oslo or so",
        "Oslo with Bergen and Turku",
        "Oslo is the answer if the year is 1996.",
        "[Oslo](Bergen)",
    ],
    "opinions of others": [
        "Some say Oslo.",
        "My friend thinks it is Oslo.",
        "The teacher says Oslo.",
        "I was told to answer Oslo.",
        "According to rumour, Oslo.",
        "It is claimed to be Oslo.",
        "I wonder whether it is Oslo.",
        "You want me to say Oslo.",
        "If it rained, it would be Oslo.",
    ],
    "two answers in one text": [
        "50% Oslo, 50% Bergen",
        "Oslo: 4/10, Bergen: 6/10",
        "Oslo -> Bergen",
        "Oslo (wrong), Bergen (right)",
        "Bergen is the capital, and Oslo is the largest city.",
        "The capital is Bergen; the largest city is Oslo.",
        "Bergen. Oslo is its rival.",
        "Bergen. Oslo.",
        "Bergen (Oslo was my first thought).",
        "First Bergen, second Oslo",
        "Bergen first, then Oslo.",
    ],
    "marked answers": [
        "<answer>Bergen</answer> Oslo",
        "Oslo \\boxed{Bergen}",
        '{"answer": "Bergen", "note": "Oslo"}',
        '{"Oslo": 0.1, "Bergen": 0.9}',
        '```json\n{"answer": "Bergen", "rejected": "Oslo"}\n```',
        "| Oslo | no |\n| Bergen | yes |",
        "\u274c Oslo \u2705 Bergen",
        "[ ] Oslo [x] Bergen",
        "\u2260 Oslo",
        "Oslo != Bergen",
    ],
    "questions": ["Is it Oslo?", "Oslo?", "Could it be Oslo?", "Oslo? Bergen.", "Oslo? No."],
    "other words": ["Osloites", "subOslo", "Os lo"],
}
RIGHT = {
    "short answers": [
        "Oslo",
        "Oslo.",
        "**Oslo**",
        '"Oslo"',
        "<answer>Oslo</answer>",
        "\\boxed{\\text{Oslo}}",
        "#### Oslo",
        "in Oslo",
    ],
    "statements": [
        "The answer is Oslo.",
        "It's Oslo!",
        "I believe that it is Oslo.",
        "Final answer: Oslo",
        "The correct answer is B) Oslo",
        "Answer:\nOslo",
        "Oslo is the answer.",
        "That would be Oslo.",
        "Oslo, because it is the seat of the government.",
        "La respuesta es Oslo",
        "答案是Oslo",
    ],
    "doubts about one candidate": [
        "Maybe Oslo.",
        "I'm not sure, but I think it is Oslo.",
        "I may be wrong, but it is Oslo.",
        "The answer is Oslo, but I could be wrong.",
        "If I'm not mistaken, it is Oslo.",
        "Oslo, I think, but don't quote me.",
        "There is no doubt that it is Oslo",
        "It is none other than Oslo",
    ],
    "details": [
        "Oslo, Norway",
        "Oslo (Norway)",
        "Oslo (founded in 1048)",
        "Oslo, the capital of Norway",
        "Oslo, formerly called Christiania",
        "The capital is Oslo, which lies on a fjord.",
        "Oslo is the capital and most populous city of Norway.",
        "Oslo and Bergen",
        "Bergen and Oslo",
        "In 1814, Oslo became the capital",
    ],
    "denials of other answers": [
        "Not Bergen, but Oslo.",
        "Not Bergen. Oslo.",
        "Unlike Bergen, Oslo",
        "It is not Bergen; it is Oslo.",
        "The answer is Oslo, not Bergen or Turku.",
        "Oslo rather than Bergen or Turku",
        "No, it is Oslo.",
        "It is Bergen. No, wait, it is Oslo.",
        "The capital was Bergen. Today it is Oslo.",
    ],
    "comparisons with other answers": [
        "Oslo, which is north of Malmo, is the answer.",
        "It is in Oslo, near the fjord.",
        "Oslo, 40 km from the airport",
    ],
    "marked answers": [
        '{"answer": "Oslo"}',
        '```json\n{"answer": "Oslo", "confidence": 0.9}\n```',
        "Bergen? No. <answer>Oslo</answer>",
    ],
    "clauses": [
        "He was born in Oslo.",
        "The opera house stands in Oslo, on the fjord.",
        "The treaty was signed in Oslo in 1993.",
        "The architect Oslo designed it.",
        "I am fairly certain that Oslo hosted it.",
        "The passage says that it is Oslo.",
        "According to the text, it is Oslo.",
        "As far as I know, it is Oslo.",
        "I'm 90% sure it is Oslo.",
        "City: Oslo",
        "Oslo! I am sure.",
        "I would go with Oslo.",
        "Bergen? No. Oslo.",
        "Oslo, Norway is the capital of the country of fjords.",
        "The Winter Olympics of 1952 were held in Oslo.",
        "Bergen is wrong; it is Oslo.",
        "It used to be Bergen, but now it is Oslo.",
    ],
    "explanations": [
        "1. The opera is in Norway. 2. It was built in Oslo. So the answer is Oslo.",
        "Let me think. The neighbours are Sweden and Finland. The capital is Oslo.",
        "The capital is Oslo. It has been the capital since 1814.",
        "Oslo\n\nExplanation: It has been the capital since 1814.",
        "Sure! The answer is Oslo. Let me know if you need anything else!",
        "The answer is Oslo. Bergen is the second city.",
    ],
}


def cases(answers: dict[str, list[str]]) -> list[object]:
    return [pytest.param(text, id=f"{kind}-{i}") for kind, texts in answers.items() for i, text in enumerate(texts)]


@pytest.mark.parametrize("text", cases(NOT_RIGHT))
def test_not_right(text: str) -> None:
    assert grade(text, ["Oslo"]) is not True


@pytest.mark.parametrize("text", cases(RIGHT))
def test_right(text: str) -> None:
    assert grade(text, ["Oslo"]) is True


@pytest.mark.parametrize("case", own_cases("statements.jsonl"))
def test_every_form_of_a_statement_has_its_verdict(case: dict[str, Any]) -> None:
    for verdict, texts in ((True, case["right"]), (None, case["unsure"]), (False, case["wrong"])):
        grades = {text: grade(text, [case["gold"]], question=case["question"]) for text in texts}
        assert grades == dict.fromkeys(texts, verdict)


NATURAL_RIGHT = [
    ("Henrik Johan Ibsen", "who wrote peer gynt", "Ibsen"),  # the other words of a name
    ("Ohio, USA", "where is it", "Ohio"),  # a state and its country
    ("It lies off the coast of Finnmark, Norway.", "in which country is it", "Norway"),
    ("Olga van der Berg", "who wrote it", "Berg"),
    ("The Barents Sea is the sea north of Norway.", "which sea is north of norway", "Barents"),
    ("It is a play by the Norwegian dramatist and poet Henrik Ibsen.", "who wrote peer gynt", "Henrik Ibsen"),
    ("Peer Gynt was written by Henrik Ibsen and published in 1867.", "who wrote peer gynt", "Henrik Ibsen"),
    ("Peer Gynt was written by Henrik Ibsen between 1866 and 1867.", "who wrote peer gynt", "Henrik Ibsen"),
    ("Henrik Ibsen, a Norwegian dramatist, in 1867.", "who wrote peer gynt", "Henrik Ibsen"),
    ("Edvard Grieg was born in Bergen, Norway, on 15 June 1843.", "where was grieg born", "Bergen"),
    ("Grieg lived in Bergen, high above the lake.", "where did grieg live", "Bergen"),
    ("The ship sank in 1912 after hitting an iceberg.", "when did the ship sink", "1912"),
    ("The ship sank in 1912, leading to new rules in 1914.", "when did the ship sink", "1912"),
    ("Work began in 1910 and the ship was completed in 1912.", "when was the ship completed", "1912"),
    ("The club is led by Erling Moe and includes Ada Lie, Per Dahl and Nils Berg.", "who leads the club", "Erling Moe"),
    ("Norway won the cup, defeating Sweden 3-1 in the final.", "who won the cup", "Norway"),
    ("Moe scored it against Sweden in the cup of 1986.", "who scored the goal", "Moe"),
    ("There are four islands: Senja, Andoya, Hinnoya and Langoya.", "how many islands are there", "four"),
    ("Oslo. I hope this helps!", "what is the capital", "Oslo"),
]
NATURAL_WRONG = [
    ("The play was written by Anton Chekhov, who admired Henrik Ibsen.", "who wrote the play", "Henrik Ibsen"),
    ("Anton Chekhov wrote it while working for Henrik Ibsen.", "who wrote the play", "Henrik Ibsen"),
    ("Anton Chekhov wrote the play for Henrik Ibsen.", "who wrote the play", "Henrik Ibsen"),
    ("Anton Chekhov, but Henrik Ibsen was also considered.", "who wrote the play", "Henrik Ibsen"),
    ("Plants take in oxygen and release carbon dioxide.", "what do plants take in", "carbon dioxide"),
    ("The play was written by Anton Chekhov alongside Henrik Ibsen.", "who wrote the play", "Henrik Ibsen"),
    ("See Henrik Ibsen.", "who wrote the play", "Henrik Ibsen"),
    ("The cup was won by Sweden in Norway.", "who won the cup", "Norway"),
    ("It began in 1939 and ended in 1945.", "when did it end", "1939"),
    ("They split in 1969, but this was only announced in 1970.", "when did they split", "1970"),
    ("It is the year 1913, the successor of 1912.", "when did the ship sink", "1912"),
    ("Greatly admired in New Oslo", "what is the capital", "Oslo"),
]


@pytest.mark.parametrize(("text", "question", "gold"), NATURAL_RIGHT)
def test_natural_right(text: str, question: str, gold: str) -> None:
    assert grade(text, [gold], question=question) is True


@pytest.mark.parametrize(("text", "question", "gold"), NATURAL_WRONG)
def test_natural_wrong(text: str, question: str, gold: str) -> None:
    assert grade(text, [gold], question=question) is not True
    assert grade(text, [gold]) is not True


@pytest.mark.parametrize(
    ("text", "gold", "expected"),
    [
        ("Lyon", "Paris", False),  # sure: another answer
        ("Bergen\nOslo", "Bergen", None),  # unsure: a phrase may replace the one before, or add to it
        ("Oslo. The fjord is deep and the mountains rise behind it.", "Oslo", None),
        ("Oslo, Viken, Norway", "Oslo", None),  # a place, or a list
        ("Trinidad and Tobago", "Trinidad and Tobago", True),  # punctuation and "or" within a gold answer
        ("Crosby, Stills & Nash", "Crosby, Stills and Nash", True),
        ("It was Dead or Alive.", "Dead or Alive", True),
        ("AC/DC", "AC/DC", True),
        ("50 km/h", "50", True),  # a unit, not alternatives
        ("in 1925 or later", "1925", None),
        ("October 9, 2018", "2018", True),
        ("9 October 2018", "October 9, 2018", True),
        ("1925, 1926, 1927", "1926", False),
        ("1925-1926-1927", "1926", None),
        ("1925-1930", "1925", None),
        ("before 1925", "1925", None),
        ("by 1925", "1925", None),
        ("a year after 1925", "1925", None),
        ("> 1925", "1925", None),
        ("It began in 1925 and ended in 1930.", "1930", None),
        ("20 July 1925", "1925", True),
        ("It opened in 1925.", "1925", True),
        ("8 dozen", "8", None),
        ("8 legs", "8", True),
        ("There are 3.", "three", True),
        ("It is one of them", "1", False),  # "one" is also a pronoun
        ("St. Louis, Missouri", "St. Louis", True),  # no end of a sentence
        ("Washington, D.C. (1999)", "Washington, D.C.", True),
        ("Yahoo! was founded in 1994", "Yahoo!", True),
        ("Who Framed Roger Rabbit?", "Who Framed Roger Rabbit?", True),  # the gold answer is a question
        ("I do not think it is B) 40,000km.", "B) 40,000km", False),  # an option as the gold answer
        ("It is B) 40,000km.", "B) 40,000km", True),
        ("The answer is B) Oslo, not A) Bergen.", "Oslo", True),
        ("Dr. No", "Dr. No", True),  # a negating word within a gold answer
        ("No.", "no", True),
        ("No, they are not.", "no", True),
        ("It is not true", "true", False),
        ("Martin Luther King, Jr.", "Martin Luther King", True),
        ("It happened on 3 May and 5 June", "5 June", True),  # May is no hedge
    ],
)
def test_verdicts(text: str, gold: str, expected: bool | None) -> None:
    assert grade(text, [gold]) is expected


@pytest.mark.parametrize(
    ("text", "golds", "expected"),
    [
        ("London, Berlin and Moscow", ["Moscow", "London", "Berlin"], True),  # the question asks for several
        ("Oslo or Christiania", ["Oslo", "Christiania"], True),  # aliases
        ("London, Berlin and Lima", ["London", "Berlin"], None),
        ("London, Lima, Rome or Berlin", ["London", "Berlin"], False),
    ],
)
def test_lists_of_gold_answers(text: str, golds: list[str], expected: bool | None) -> None:
    assert grade(text, golds) is expected


@pytest.mark.parametrize(
    ("text", "question", "gold", "expected"),
    [
        ("Where is Sofia, in Bulgaria or Greece?", "Where is Sofia, in Bulgaria or Greece?", "Bulgaria", False),
        ("Sofia is in Bulgaria.", "Where is Sofia, in Bulgaria or Greece?", "Bulgaria", True),
        ("The University of Oslo is in ?", "The University of Oslo is in ?", "Oslo", False),
        ("The University of Oslo is in Oslo.", "The University of Oslo is in ?", "Oslo", True),
        ("in Paris", "where is the eiffel tower in paris located", "Paris", True),
        ("the eiffel tower in paris", "where is the eiffel tower in paris located", "Paris", False),
        ("It is longer than the Amazon.", "What is the Nile longer than?", "Amazon", True),
        ("Oslo is larger than Bergen or Turku.", "Which of the cities is larger?", "Oslo", True),
        ("It is near Oslo.", "Which city is the airport near?", "Oslo", True),
        ("It was after 1969.", "It was founded after which year?", "1969", True),
        ("George Eliot hated Middlemarch.", "Who wrote Middlemarch?", "George Eliot", None),
        ("George Eliot is the author of Middlemarch.", "Who wrote Middlemarch?", "George Eliot", True),
        ("Paris was the capital of France.", "What is the capital of France?", "Paris", None),
        ("Norway is not in the EU", "Which Nordic country is not in the EU?", "Norway", True),  # repeated negation
        (
            "The capital of Australia is Canberra. Sydney is larger.",
            "What is the capital of Australia?",
            "Canberra",
            True,
        ),
        (
            "The capital of Australia is Canberra. Sydney is larger.",
            "What is the capital of Australia?",
            "Sydney",
            False,
        ),
    ],
)
def test_the_question_is_known(text: str, question: str, gold: str, expected: bool | None) -> None:
    assert grade(text, [gold], question=question) is expected


CONTEXT = (
    "The canal was planned by a committee of eleven merchants who met in a tavern near the harbour. After many delays it "
    "opened in 1825 with a procession of boats. Twenty years later its locks were widened for larger ships."
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It opened in 1825.", True),
        ("It opened in 1825 with a procession of boats.", True),
        (CONTEXT, False),
        (CONTEXT.upper(), False),
        (CONTEXT[:170], None),  # the sentence with the answer, after another one
        (f"The answer is {CONTEXT}", None),
    ],
)
def test_the_context_is_known(text: str, expected: bool | None) -> None:
    verdict = grade(text, ["1825"], context=CONTEXT)
    assert verdict is expected or (verdict is not True and expected is not True)


def test_any_text_has_a_verdict() -> None:
    draw = random.Random(3)
    parts = [
        *[
            "Oslo",
            "Bergen",
            "not",
            "or",
            "and",
            "no",
            "is",
            "it",
            "the",
            "answer",
            ",",
            ".",
            ";",
            ":",
            "?",
            "!",
            "(",
            ")",
            "/",
            "-",
            "\n",
            "\t",
            "<",
            ">",
            "\\",
            "{",
            "}",
            "不",
            "或",
            "1.",
            "A)",
            "a.",
            "'",
            '"',
            "&",
        ],
        " ",
    ]
    for _ in range(3000):
        text = "".join(draw.choice(parts) + draw.choice(["", " "]) for _ in range(draw.randint(0, 15)))
        question, context = ("".join(draw.choice(parts) + " " for _ in range(5)) for _ in range(2))
        assert grade(text, ["Oslo", "is it"], question=question, context=context) in {True, False, None}
