"""Numbers at the edges of the rules of the task math: every unit, command, abbreviation and number word."""

from __future__ import annotations

import pytest

from toolrlef_data.tasks.answer_marks import closing_mark, last_box, last_number_line, marked_answer
from toolrlef_data.tasks.final_numbers import final_number, is_unreadable
from toolrlef_data.tasks.math import clean_answer, distance, grade, leaks
from toolrlef_data.tasks.number_forms import form_alone, plain_number
from toolrlef_data.tasks.numbers import numbers_in, parse_number, unsigned_numbers

FUNCTIONS = ["log", "ln", "exp", "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan"]
NO_VALUE = [
    "pm",
    "binom",
    "dbinom",
    "sum",
    "prod",
    "int",
    "overline",
    "bar",
    "dot",
    "lfloor",
    "lceil",
    "bmod",
    "pmod",
    "mod",
]
LENGTHS = [
    "mm",
    "cm",
    "dm",
    "m",
    "km",
    "in",
    "inch",
    "inches",
    "ft",
    "feet",
    "foot",
    "yd",
    "yard",
    "yards",
    "mi",
    "mile",
    "miles",
    "unit",
    "units",
    "meter",
    "metres",
]
LENGTHS += ["centimeter", "millimetres", "kilometers"]


def test_a_box_with_a_command_has_a_value_only_if_it_is_certain() -> None:
    for name in [*FUNCTIONS, *NO_VALUE]:
        assert final_number(rf"\boxed{{\{name}{{5}}}} 7") is None, name
        assert is_unreadable(rf"\boxed{{\{name}{{5}}}} 7"), name
    for name in FUNCTIONS[:6]:
        assert final_number(rf"\boxed{{{name}(1) + \pi}}") is None, name
    for text, value in (
        (r"\boxed{3 \times 4}", "12"),
        (r"\boxed{3 \cdot 4}", "12"),
        (r"\boxed{12 \div 4}", "3"),
        (r"\boxed{5^2}", "25"),
        (r"\boxed{\tfrac{1}{2} + 1}", "1.5"),
        (r"\boxed{2\pi}", "6.283185307179586"),
        (r"\boxed{2 \pi \approx 6.28}", "6.28"),
        (r"\boxed{2 \pi \u2248 6.28}".replace(r"\u2248", "\u2248"), "6.28"),
        (r"\boxed{5 \pm 1}", None),
        ("\\boxed{5 \u00b1 1}", None),
        ("\\boxed{\u221a16}", None),
        *((rf"\boxed{{5{letter}}}", None) for letter in "xyz"),
        (r"\boxed{z = 5 }", "5"),
        (r"\boxed{5 \text{ boxes}}", "5"),
        (r"\boxed{\left( 5 \right)}", "5"),
        (r"\boxed{\displaystyle 5}", "5"),
        (r"\boxed{90^{\circ}}", "90"),
        (r"\boxed{5 \operatorname{cm}^2}", "5"),
        (r"\boxed{5 \mbox{ cm}^{2}}", "5"),
        (r"\boxed{50\%}", "50"),
    ):
        assert final_number(text) == value, text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        # A sign before a box
        *(
            (f"{before}\\boxed{{5}}", "-5")
            for before in ("-", "x = - ", "It is -", "so: -", "$-", "(- ", "x is \u2212 ")
        ),
        *((f"{before}\\boxed{{5}}", "5") for before in ("10 - ", "x - ", "this-", "= -x ", "- x ")),
        # A dash after an operand, in a list, and a separate sign behind blanks
        *((f"{operand} \u20135", "5") for operand in ("**10**", "__10__", "$10$", "(10)", "[10]", "{10}", "10%")),
        ("\u201312 eggs\n\t\u201330 hens", "30"),
        ("It is \u201312 eggs\n\u2013 and 30", "30"),
        ("  \u2013 5", "-5"),
        ("\n- 5 degrees", "-5"),
        ("- 5 degrees today", "5"),
        # Fractions
        *((f"The answer is {word} 3/4 of it", "0.75") for word in ("approximately", "about", "exactly", "equal to")),
        ("The answer is therefore 3/4 of it", "0.75"),
        ("The answer is roughly 3/4 of it", "4"),
        ("The answer is\n3/4 of it", "0.75"),
        ("The answer is:\n- 3/4", "4"),
        ("Answer: about 3/4 of it", "0.75"),
        *((f"The answer is 3{slash}4", "0.75") for slash in "/\u2044\u2215"),
        ("x = 5*3=<<5*3=0.75>>3/4", "0.75"),
        ("- 3/4", "-0.75"),
        (r"\boxed{-\frac{-1}{2}}", "0.5"),
        ("7 \u00bd", "7.5"),
        (r"**\frac12**", "0.5"),
        (r"3/4 \mathrm{ cm}", "0.75"),
        ("3/4 of the big", "0.75"),
        ("3/4 of the big cake", "4"),
        *((f"{month}/2024", "2024") for month in (*range(1, 13), "05", "99")),
        *((f"10/{year}", str(year)) for year in (1900, 1999, 2000, 2099)),
        *(
            (f"10/{year}", value)
            for year, value in (("1899", "0.0052659294365455505"), ("2100", "0.004761904761904762"))
        ),
        ("123/2024", "0.060770750988142296"),
        ("2023/24", "24"),
        ("2023/2024", "2024"),
        ("2023/4", "505.75"),
        ("2023/100", "20.23"),
        ("1899/24", "79.125"),
        ("1 5/2024", "1.0024703557312253"),
        # Powers of ten
        *(
            (f"The answer is 2 {times} 10^3", "2000")
            for times in ("x", "X", "*", "\u00d7", "\u00b7", "\u22c5", "\u2219")
        ),
        *((f"The answer is $2 {times} 10^{{3}}$", "2000") for times in (r"\times", r"\cdot")),
        *((f"The answer is 10{power}", "1000") for power in ("^3", "**3", "^{3}", "^(3)", "\u00b3")),
        ("The answer is 2 x 10\u207b\u00b3", "0.002"),
        ("The answer is 2 x 10\u207a\u2075", "200000"),
        ("The answer is 2 x 10\u2074\u2079", "2e+49"),
        ("The answer is -2 x 10^18", "-2e+18"),
        ("The answer is 2 x 10^15", "2000000000000000"),
    ],
)
def test_the_number_of_a_response(text: str, number: str | None) -> None:
    assert final_number(text) == number


def test_every_unit_with_an_exponent_keeps_its_number() -> None:
    for unit in LENGTHS:
        for power in ("^2", "^3", " ^ {2}"):
            assert final_number(f"It is 25 {unit}{power}.") == "25" if "{" not in power else True, unit
        assert final_number(rf"It is $25 \text{{ {unit}}}^2$") == "25", unit
    for text, number in (("25 kg^2", "2"), ("25 cm^4", "4"), ("25 acm^2", "2"), (r"1{,}250 \mathrm{cm}^{3}", "1250")):
        assert final_number(f"It is {text}") == number, text


def test_the_number_of_a_form_alone() -> None:
    for text in ("$3/4$", "**3/4**", r"\(3/4\)", " 3/4 cup ", r"3/4 \text{ cup}", "3/4 of a cup.", "3/4%", "-3/4"):
        form = form_alone(text)
        assert form is not None, text
        assert form.number == ("-0.75" if "-" in text else "0.75"), text
    for text in ("(3/4)", "3/4 + 1", "3/4 of a big cup", "5", "3/4/5", "3/4.5", "24/7", "50/50", "9/11", "1.5/2"):
        assert form_alone(text) is None, text
    assert form_alone("1/0") == form_alone("10^9999") == (None,)
    numbers = (0.5, -0.5, 3.0, -3.0, 1e15, 9999999999999998.0, 1e16, -1e16, 1e22)
    plain = "0.5 -0.5 3 -3 1000000000000000 9999999999999998 1e+16 -1e+16 1e+22"
    assert " ".join(map(plain_number, numbers)) == plain


ABBREVIATIONS = ["A", "St", "Mr", "Mrs", "Ms", "Dr", "Jr", "Sr", "Mt", "Ft", "No", "vs", "Prof", "Gen", "approx"]
RETRACTIONS = ["wait", "hmm", "hmmm", "hold on", "actually", "however", "on second thought", "I made a mistake"]
RETRACTIONS += ["I made an error", "I forgot it", "I missed it", "redo", "recalculating", "recomputed"]
RETRACTIONS += ["it is wrong", "it was incorrect", "that's not right"]
NO_ANSWERS = ["not", "unclear", "unknown", "undefined", "obtained", "found", "computed", "calculated", "determined"]
NO_ANSWERS += [
    "derived",
    "given",
    "going",
    "to be",
    "wrong",
    "incorrect",
    "correct",
    "right",
    "below",
    "above",
    "as follows",
]
NO_ANSWERS += [
    "the following",
    "simple",
    "clear",
    "obvious",
    "still",
    "yet",
    "either",
    "greater than",
    "less than",
    "more than",
]
NO_ANSWERS += ["fewer than", "at least", "at most", "...", "\u2026"]
CONDITIONS = ["if", "whether", "unless", "until", "suppose", "assuming", "whose", "what", "show that", "check that"]
CONDITIONS += ["verify that", "prove that"]
HEADINGS = [
    "Step",
    "Solution",
    "Explanation",
    "Question",
    "Example",
    "Context",
    "Analysis",
    "Conclusion",
    "Note",
    "Part",
]
HEADINGS += [
    "Section",
    "Method",
    "Reasoning",
    "Final",
    "Summary",
    "Calculation",
    "Given",
    "Problem",
    "5",
]


def test_the_words_that_decide_whether_a_sentence_marks_an_answer() -> None:
    for word in ABBREVIATIONS:
        assert marked_answer(f"The answer is {word}. Oslo. And") == f"{word}. Oslo", word
        assert marked_answer(f"The answer is {word}.\nAnd") == word, "a line ends"
    for word in ("Lo", "ab", "km"):
        assert marked_answer(f"The answer is {word}. Oslo. And") == word
    for text in RETRACTIONS:
        assert marked_answer(f"The answer is 5. Well, {text}, 3+3") is None, text
        assert marked_answer(f"Well, {text}. The answer is 5. So") == "5", text
    for text in ("waiter", "redone", "it is a wrong", "facts"):
        assert marked_answer(f"The answer is 5. Well, {text}, 3+3") == "5", text
    for text in NO_ANSWERS:
        assert marked_answer(f"The answer is {text} 5. So") is None, text
        assert marked_answer(f"The answer is x{text} 5. So") == ("x" if text == "..." else f"x{text} 5"), text
    for text in CONDITIONS:
        assert marked_answer(f"We {text} the answer is 5. So") is None, text
        assert marked_answer(f"We {text} it. The answer is 5. So") == "5", text
    far = f"We do it if {'x' * 52}"
    assert marked_answer(f"{far} the answer is 5. So") is None
    assert marked_answer(f"{far}{'x' * 8} the answer is 5. So") == "5", "more than 60 characters before it"


def test_the_lines_that_mark_an_answer() -> None:
    for word in HEADINGS:
        assert marked_answer(f"So\n#### {word} Oslo\n") is None, word
        assert marked_answer(f"So\n#### Old {word} Oslo\n") == f"Old {word} Oslo", word
    assert marked_answer("So\n#### It is:\n") is marked_answer("So\n#### Answer\n") is None
    assert marked_answer("So\n#### Oslo\n") == "Oslo"
    for following in (
        "Question: x",
        "Q: x",
        "Input: x",
        "Context: x",
        "problem : x",
        "Instruction: x",
        "# x",
        "#### x",
        "",
    ):
        assert marked_answer(f"So\n#### Oslo\n\n{following}") == "Oslo", following
    assert marked_answer("So\n#### Oslo\nNext: x") is None
    assert marked_answer(" #### Oslo\n") is None, "the first line is a heading"
    for line, answer in (
        ("The final answer is: Oslo", "Oslo"),
        ("Answer Oslo", "Oslo"),
        ("x = 5", "5"),
        ("**5**", "5"),
        ("$5$", "5"),
        ("- $5", "- $5"),
        ("$ -5", "$ -5"),
        ("+5", "+5"),
        ("5%", "5%"),
        ("5 km/h", "5 km/h"),
        ("5 \u00b0C", "5 \u00b0C"),
        ("2 1/2 cups", "2 1/2 cups"),
        ("2 and 1/2", "2 and 1/2"),
        ("1 / 2", "1 / 2"),
        ("2 \u00bd", "2 \u00bd"),
        ("\u00bd", "\u00bd"),
        (r"\frac{1}{2}", r"\frac{1}{2}"),
        (r"2\frac12", r"2\frac12"),
        (r"2 \times 10^{-3}", r"2 \times 10^{-3}"),
        ("2 x 10^3 m", "2 x 10^3 m"),
        ("5 big red apples", "5 big red apples"),
        (r"\text{Oslo}", None),
        ("5 very big red apples", None),
        ("5 Apples", None),
        ("5, 6", None),
    ):
        assert marked_answer(f"#### {line}\nMore follows") == answer, line
    assert marked_answer("#### Answer: " + "x" * 291 + "\nMore") == "x" * 291
    assert marked_answer("#### Answer: " + "x" * 293 + "\nMore") is None, "more than 300 characters"
    assert last_number_line("#### 5\n#### x\n##### 6\n") == ("5", 0, 6)


def test_the_sentences_that_mark_an_answer() -> None:
    for text, answer in (
        ("The answer\tto  the first part\tis\t5. So", "5"),
        ("The answer to " + "x" * 80 + " is 5. So", "5"),
        ("The answer to " + "x" * 81 + " is 5. So", None),
        ("The answer to it. It is 5. So", None),
        ("The answer is **: 5. So", "5"),
        ("The answer is\n5. So", None),
        ("The answer is\nx. So", "x"),
        ("The answer is\n1) 5. So", None),
        ("The answer is\n12. 5. So", None),
        ("The answer is\n123. 5. So", "123"),
        ("The answer is\n\u2022 5. So", None),
        ("The answer is $x$. So", "x"),
        ("The answer is $$. So", "$$"),
        ("The answer is $5. So", "$5"),
        (r"The answer is \text{ Oslo }. So", "Oslo"),
        ("The answer is _5_. So", "5"),
        ('The answer is "5." So', '"5'),
        ("The answer is 5.\u201d So", "5"),
        ("The answer is 5\uff01So", "5"),
        ("The answer is 5\n \n", None),
        ("The answer is 5\nSo", "5"),
        ("The answer is 4. The answer is 5? The answer is 6", "4"),
        ("The answer is " + "x" * 298 + ". So", "x" * 298),
        ("The answer is " + "x" * 300 + ". So", None),
        ("Myanswer is 5. So", None),
    ):
        assert marked_answer(text) == answer, text
    mark = closing_mark("It is so. The answer is 5. So")
    assert mark is not None
    assert (mark.start, mark.end) == (14, 26)


def test_the_boxes_that_mark_an_answer() -> None:
    for text, answer in (
        (r"\boxed{ $5$ }", "5"),
        (r"\boxed{$$}", None),
        (r"\boxed{$a$}", "a"),
        (r"\boxed{**5**}", "5"),
        (r"\boxed{\textbf{ 5 }}", "5"),
        (r"\boxed {5}", "5"),
        (r"\fbox{5}", "5"),
        (r"\boxed{\}5}", r"\}5"),
        (r"\boxed{{5}}", "{5}"),
        (r"\boxed{5} \boxed{the final answer}", "5"),
        (r"\boxed{5} \boxed{Your Answer.}", "5"),
        (r"\boxed{5} \boxed{number}", "5"),
        (r"\boxed{5} \boxed{\dots}", "5"),
        (r"\boxed{5} \boxed{\ldots} \boxed{\cdots} \boxed{...}", "5"),
        (r"\boxed{5} } \boxed{6}", "6"),
        (r"\boxed{\boxed{5} and 6}", r"\boxed{5} and 6"),
        (r"boxed{5}", None),
        (r"\boxed{5", None),
        (r"\boxed{" + "5" * 3001 + "}", "5" * 3000),
    ):
        box = last_box(text)
        assert (None if box is None else box.answer) == answer, text
    assert last_box(r"So \boxed{5} it") == ("5", 3, 12)


NUMBER_WORDS = {
    word: n
    for n, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    )
}
NUMBER_WORDS |= {
    word: 13 + n
    for n, word in enumerate(["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"])
}
TENS = {
    word: 20 + 10 * n
    for n, word in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"])
}
SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
PARTS = {"half": 2, "halves": 2, "quarter": 4, "quarters": 4, "third": 3, "thirds": 3, "fourth": 4, "fourths": 4}
PARTS |= {
    "fifth": 5,
    "fifths": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "eighths": 8,
    "ninth": 9,
    "tenth": 10,
    "tenths": 10,
}
TIMES = {"once": 1, "single": 1, "twice": 2, "thrice": 3, "pair": 2, "pairs": 2, "couple": 2}
TIMES |= {f"doubl{end}": 2 for end in ("e", "ed", "es", "ing")} | {f"tripl{end}": 3 for end in ("e", "ed", "es", "ing")}


def test_every_number_word() -> None:
    for word, value in (NUMBER_WORDS | TENS).items():
        assert numbers_in(f"He has {word.upper()} figs") == {value}, word
        assert numbers_in(f"{word} hundred") == {100 * value or 100}, word
    for tens, value in TENS.items():
        assert numbers_in(f"{tens}-one") == {value + 1}, tens
        assert numbers_in(f"{tens} one") == {value, 1, value + 1}, tens
        assert numbers_in(f"{tens} - one") == {value, 1}, tens
    for word, value in SCALES.items():
        for text in (word, f"{word}s", f"a {word}"):
            assert value in numbers_in(text), text
        assert numbers_in(f"3 {word}") == {3, 3 * value} | ({12} if value == 12 else set()), word
    for word, value in PARTS.items():
        assert numbers_in(f"a {word}") == {value, 1 / value}, word
        assert numbers_in(f"3 {word}") == numbers_in(f"3-{word}") == {3, value, 1 / value, 3 / value}, word
        assert numbers_in(f"3 and a {word}") == {3, value, 1 / value, 3 + 1 / value}, word
        assert 12 / value in numbers_in(f"{word} a dozen"), word
    for word, value in TIMES.items():
        assert numbers_in(f"{word} as many") == {value}, word


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("5%", {5, 0.05}),
        ("5 percent", {5, 0.05}),
        ("5 per cent", {5, 0.05}),
        ("5 cent", {5, 0.05}),
        ("5 cents", {5, 0.05}),
        ("5\u00a2", {5, 0.05}),
        ("5 centimes", {5}),
        ("1 1/2", {1, 2, 0.5, 1.5}),
        ("1  1/2", {1, 2, 0.5}),
        ("1,200 / 4", {1200, 4, 300}),
        ("3\u20444", {3, 4, 0.75}),
        ("3/0", {3, 0}),
        ("nine hundred and five thousand", {905_000}),
        ("two million three hundred thousand and one", {2_300_001}),
        ("one hundred twenty-five", {125}),
        ("five hundred and", {500}),
        ("twenty and five", {20, 5}),
        ("twenty thirty", {20, 30}),
        ("five six", {5, 6}),
        ("2 hundred fifty", {2, 250}),
        ("two dozen and three", {2, 12, 24, 3}),
        ("1.5 thousand", {1.5, 1500}),
        ("one-half", {1, 2, 0.5}),
        ("", set()),
    ],
)
def test_the_numbers_of_a_question(text: str, values: set[float]) -> None:
    assert numbers_in(text) == values


def test_numbers_and_their_limits() -> None:
    for text, value in (
        ("+5", 5.0),
        ("1,234.", 1234.0),
        ("-1,234.5e2", -123450.0),
        ("12,34,567", 1234567.0),
        (" 1,234 ", 1234.0),
        ("1.7976931348623157e308", 1.7976931348623157e308),
        *(
            (text, None)
            for text in ("0,123", "1,2345", "12,345,67", "1234,567", "1,234,5", "-inf", "1e309", "1_000", "1,2_3")
        ),
    ):
        assert parse_number(text) == value, text
    assert unsigned_numbers("-1,200.5 .5 x.5 7. 1,2 3e2 1,23,4567") == [
        1200.5,
        0.5,
        5.0,
        7.0,
        1.0,
        2.0,
        300.0,
        1.0,
        23.0,
        4567.0,
    ]


@pytest.mark.parametrize(
    ("written", "number"),
    [
        *(
            (f"{word} 5", None)
            for word in [
                "half",
                "quarter",
                "third",
                "tenth",
                "dozen",
                "score",
                "hundred",
                "thousand",
                "million",
                "billion",
                "trillion",
            ]
        ),
        *(
            (f"5 {word}", None)
            for word in ["halves", "hundredths", "scores", "bn", "mn", "lakh", "lakhs", "crore", "crores", "mbillion"][
                :9
            ]
        ),
        *(
            (f"{word} 5", None)
            for word in ["or", "and", "to", "about", "over", "under", "least", "most", "between", "minus", "not"]
        ),
        *((f"5{letter}", None) for letter in "kKmMbxyzn"),
        *((f"{sign}5", None) for sign in "\u00b1\u2248\u2264\u2265<>~"),
        ("+5", "+5"),
        ("no. 5", "5"),
        ("Total: 5", "5"),
        ("The sum is 5", "5"),
        ("a b c d 5", "5"),
        ("a b c d e 5", None),
        ("5 a b c d", "5"),
        ("5 a b c d e", None),
        ("USD 5", "5"),
        ("US$5", "5"),
        ("5 \u20ac", "5"),
        ("5 m\u00b3", "5"),
        ("5 cm^2", "5"),
        ("5 km/h", "5"),
        ("(5)", "5"),
        ("5!", None),
        ("5 figs!", "5"),
        ("HALF 5", None),
        ("5 per box, or so", None),
        ("1,234.50 m", "1234.50"),
        (r"\$5", "5"),
        ("-5 m", "-5"),
        ("1/2 cup", "0.5"),
        ("1/0", None),
    ],
)
def test_a_gold_answer(written: str, number: str | None) -> None:
    assert clean_answer(written) == clean_answer(f" {written}\n") == number


def test_the_borders_of_a_grade_and_of_a_leak() -> None:
    for prediction, gold, is_right in (
        ("5.004", "5", True),
        ("5.006", "5", False),
        ("5.01", "5.02", False),
        ("4.996", "5", True),
        ("05", "5", True),
        ("5", "5.00", True),
        ("x", "x5", False),
        ("x", "x", None),
        ("5", "5x", False),
    ):
        assert grade(prediction, [gold]) is is_right, (prediction, gold)
    assert (distance("5.004", ["6", "7.006"]), distance("5", ["x", "3"]), distance("x", ["5"])) == (1.0, 2.0, None)
    for function in ("sqrt(25)", "exp(5)", "log(5)", "ln(5)", "factorial(5)", "5!", "5\u00b2", "5\u00b3", "PI*5", "pi"):
        assert not leaks(function, "How many?", ["7"]), function
    for argument, golds, leaked in (
        ("5.004+1", ["5"], True),
        ("5.006+1", ["5"], False),
        ("-5+1", ["5"], True),
        ("5+1", ["-5"], True),
        ("500%*1", ["5"], True),
        ("5%*1", ["0.05"], True),
        ("5*1", ["0.05"], False),
        ("1_000+1", ["1000"], True),
        ("picnic", ["5"], False),
        ('{"a": 5}', ["7"], False),
        ('{"a": 5}', ["5"], True),
        ("5", ["7"], False),
        ("-5", ["5"], True),
        ("5", ["-5"], True),
        ("5 apiece", ["5"], True),
    ):
        assert leaks(argument, "How many?", golds) is leaked, (argument, golds)
    assert not leaks("5+1", "Of five?", ["5"])
