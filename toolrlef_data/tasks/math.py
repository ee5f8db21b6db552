"""Math word problems with numeric answers, and a calculator.

The task `math` of TRICE (arXiv 2305.13068). Data sets: GSM8K, SVAMP, ASDiv and the bundled sample. One instance:

    question: "A crate holds 12 jars. How many jars are in 7 crates?"
    answers: ["84"]
    response with the tool: "calculator(12*7)"
    response without: "The answer is 84."

- Prediction: the number in the last `\\boxed{}` or `####` line of a response, otherwise its last number, with its sign,
  grouping and exponent. `final_numbers` lists the notations.
- Grading: a prediction is correct if Python's `round(..., 2)` of it and of a gold answer are equal, as in the original.
- A response that gives no number is incorrect. One that gives an answer that cannot be read as a number, such as
  `\\boxed{A}`, is not graded.
- Not covered: times, intervals, number words. Units are ignored. Gold answers that are fractions, or have a unit, are
  covered in own questions only, where `clean_answer` converts them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from toolrlef_data.tasks.final_numbers import final_number, is_unreadable
from toolrlef_data.tasks.number_forms import form_alone
from toolrlef_data.tasks.numbers import UNSIGNED, numbers_in, parse_number, unsigned_numbers
from toolrlef_data.tasks.task import Example, Task
from toolrlef_data.tools.calculator import CALCULATOR
from toolrlef_data.tools.notation import plain_latex

__all__ = [
    "MATH",
    "clean_answer",
    "distance",
    "extract",
    "grade",
    "leaks",
    "numbers_in",
    "parse_number",
    "render",
    "ungradable_reason",
]

# Required verbatim by the TRICE format: other tools' files contain the same sentence.
INSTRUCTION = "Given a math problem, please answer it and you can use a calculator for help."
PLAIN_INSTRUCTION = "Solve the following math word problem. End with a sentence of the form: The answer is <number>."
TEACHER_INSTRUCTION = (
    "You write tool calls. For each math word problem you see the question and its golden answers. Reply with exactly "
    "one line, calculator(FORMULA), and nothing else. FORMULA is one arithmetic formula that computes the answer from "
    "the numbers of the question, with + - * / and parentheses; it holds neither words nor units. Never write the "
    "golden answer itself into the formula: it must come out of the computation."
)

extract = final_number


def grade(
    prediction: str | None, answers: Sequence[str], *, response: str = "", rule: str = "default", anywhere: bool = False
) -> bool | None:
    """Return whether a prediction equals a gold answer, both rounded to 2 decimals.

    Args:
        prediction: a number as text. Any other text, and None, is incorrect.
        answers: gold answers; matching any one suffices.
        response: the response that the prediction is extracted from.
        rule: "default", or "paper": a response without a prediction is always incorrect.
        anywhere: the prediction is the output of a tool, whose number may have a unit or a label, as a gold answer may
            (`clean_answer`); not by the rule "paper".

    Returns:
        None if no gold answer contains a digit, so that none is comparable, and if the answer in `response` cannot be
        read as a number (`is_unreadable`).

    >>> grade("33.333", ["33.33"]), grade("1234567", ["1,234,567"]), grade("nan", ["0"]), grade("7", ["unknown"])
    (True, True, False, None)
    >>> grade("58.44 g/mol", ["58.44"], anywhere=True), grade("58.44 g/mol", ["58.44"])
    (True, False)
    """
    if prediction is None:
        return None if rule == "default" and is_unreadable(response) else False
    if prediction in answers and prediction.isdecimal():
        return True
    value = _value(prediction) if anywhere and rule == "default" else parse_number(prediction)
    comparable = False
    for answer in answers:
        gold = parse_number(answer)
        if gold is None:
            comparable = comparable or _has_digit(answer) is not None
            continue
        comparable = True
        # Rounding moves each value by at most 0.005, so most pairs need no rounding.
        if value is not None and -0.02 < value - gold < 0.02 and (value == gold or round(value, 2) == round(gold, 2)):
            return True
    return False if comparable else None


_has_digit = re.compile(r"\d").search


def ungradable_reason(answers: Sequence[str]) -> str | None:
    """Return why no prediction can be graded with these gold answers; None if at least one is a number.

    >>> ungradable_reason(["72"]), ungradable_reason([]), ungradable_reason(["many"])
    (None, 'no_answer', 'answer_not_a_number')
    """
    if not any(answer.strip() for answer in answers):
        return "no_answer"
    return None if any(parse_number(answer) is not None for answer in answers) else "answer_not_a_number"


_number_tokens = re.compile(UNSIGNED).findall
_power = re.compile(r"(?<=[a-z])\^[23]\b").sub  # of a unit: cm^2
# What may stand before and after the number of a gold answer: few words, a currency, a unit.
_label = re.compile(r"(?:[^\W\d_]+[:.]?\s+){0,4}(?:[^\W\d_]+\s*[=:]\s*)?(?:[A-Z]{2,3})?[^\w\s<>~]{0,3}\s?").fullmatch
_unit = re.compile(r"\s?(?!!)[^\w\s^]{0,3}\s?(?:[^\W\d_]{1,20}(?:\^\d|[\u00b2\u00b3])?[.,/]?\s?){0,4}[.!)]?").fullmatch
# Words that make a number another one, or uncertain.
_changes_value = re.compile(
    r"\b(?:half|halves|quarters?|thirds?|tenths?|hundredths?|dozens?|scores?|hundreds?|thousands?|[mb]illions?|trillions?|"
    r"bn|mn|lakhs?|crores?|or|and|to|about|over|under|least|most|between|minus|not)\b|\d[kKmMbxyzn]\b|[\u00b1\u2248\u2264\u2265]",
).search


def clean_answer(text: str) -> str | None:
    """Return the number of a gold answer as a person writes it, as plain digits; None if it is not one number.

    A percentage is its number, as in responses. "3 million" and "2 or 3" are refused: a response may mean another one.
    The last line of a worked solution counts, if `####` or a box marks its answer.

    >>> [clean_answer(text) for text in ("$68", "920 litres", "1,044", "3/4", "12%", "steps... #### 72")]
    ['68', '920', '1044', '0.75', '12', '72']
    >>> [clean_answer(text) for text in ("many", "3 million", "2 or 3", "0,5", "1 044", "A2")]
    [None, None, None, None, None, None]
    """
    text = " ".join(text.split())
    if parse_number(text) is not None:
        return text.replace(",", "").rstrip(".")
    if "####" in text or "\\boxed" in text:
        return final_number(text)
    if _changes_value(text.casefold()):
        return None
    form = form_alone(plain_latex(text))
    if form is not None:
        return form.number
    tokens = _number_tokens(_power("", text))
    if len(tokens) != 1:
        return None
    before, _, after = text.partition(tokens[0])
    return final_number(text) if _label(before) and _unit(after) else None


def _value(output: str) -> float | None:
    """Return the number that the output of a tool is, alone or with a unit or a label; None if it is not one number."""
    value = parse_number(output)
    number = clean_answer(output) if value is None else None
    return value if number is None else parse_number(number)


def distance(prediction: str | None, answers: Sequence[str]) -> float | None:
    """Return the distance to the nearest gold answer, both rounded to 2 decimals; None if either is not a number.

    The prediction may be the output of a tool, with a unit.

    >>> distance("25.0", ["57"]), distance("25 km", ["57"]), distance(None, ["57"])
    (32.0, 32.0, None)
    """
    value = None if prediction is None else _value(prediction)
    golds = [gold for gold in map(parse_number, answers) if gold is not None]
    if value is None or not golds:
        return None
    return min(abs(round(value, 2) - round(gold, 2)) for gold in golds)


# A formula with a single number still computes something if it contains one of these: sqrt(16), 5!
_has_function = re.compile(r"sqrt|exp|log|ln|fact|[!\u00b2\u00b3]|\bpi\b", re.IGNORECASE).search


def leaks(argument: str, question: str, answers: Sequence[str]) -> bool:
    """Return whether an argument reveals the answer: a formula that is only a gold answer, or a text that contains one.

    A gold answer that equals a number in the question, in digits or words, is no leak, unless it is the whole formula.
    Signs are ignored. Another tool than the calculator computes with a single number, so its argument may be one.

    >>> leaks("72", "72?", ["72"]), leaks("70+2", "How many?", ["72"]), leaks("72+0", "How many?", ["72"])
    (True, False, True)
    >>> leaks("12*1", "He has a dozen. How many?", ["12"]), leaks("H2O", "The molar mass of water?", ["18.02"])
    (False, False)
    """
    formula, argument = argument, plain_latex(argument)
    literals = unsigned_numbers(argument.replace("_", ""))
    if len(literals) == 1 and not _has_function(argument):
        value = CALCULATOR.run(formula).value
        if value is not None and grade(str(value).lstrip("-"), [answer.strip().lstrip("-") for answer in answers]):
            return True
    if "%" in argument:
        literals += [literal / 100 for literal in literals]
    golds = {round(abs(gold), 2) for gold in map(parse_number, answers) if gold is not None}
    leaked = {literal for literal in literals if round(literal, 2) in golds}
    return bool(leaked) and not leaked <= numbers_in(question)


def render(row: Mapping[str, Any]) -> str:
    """Return the input text of a row of a questions table: its context, if any, and its question.

    >>> render({"question": "How many?", "context": ""})
    'How many?'
    """
    return f"{row['context']}\n{row['question']}" if row.get("context") else str(row["question"])


def _examples(text: str) -> tuple[Example, ...]:
    """Parse few-shot examples from blocks of lines: the question, then "formula = answer"."""
    examples = []
    for block in text.strip().split("\n\n"):
        *question, last = block.splitlines()
        formula, _, gold = last.rpartition(" = ")
        examples.append(Example(" ".join(question), gold, f"calculator({formula})", f"The answer is {gold}."))
    return tuple(examples)


# Written for this project, in the style of each data set.
EXAMPLES = {
    "": _examples("""
A theatre has 18 rows of 24 seats, and 57 seats are empty tonight.
How many seats are taken?
18*24-57 = 375

Three friends share a taxi fare of $41.40 equally.
How many dollars does each of them pay?
41.40/3 = 13.8

A tank holds 250 litres and is full. Each morning 35 litres are used, and each evening 20 litres are added.
How many litres are in the tank after 6 days?
250-6*(35-20) = 160

A lamp costs $80. In a sale it is 15 percent cheaper.
What is its price in the sale, in dollars?
80*(1-15/100) = 68
"""),
    "gsm8k": _examples("""
Marta bakes 9 trays of 16 rolls for the village fair.
She keeps a quarter of the rolls for her family and sells the others for $1.50 each.
How much money does she take in?
9*16*(1-1/4)*1.50 = 162

A courier rides 14 km on Monday. On Tuesday he rides twice as far, and on Wednesday 5 km less than on Tuesday.
How many kilometres does he ride on the three days together?
14+14*2+(14*2-5) = 65

Ines saves $35 a month for a bicycle that costs $420. Her uncle pays a third of the price.
For how many months does Ines have to save?
(420-420/3)/35 = 8

A printer makes 30 pages a minute. It runs for 12 minutes, stops for paper, and runs for another 8 minutes.
Every page costs 4 cents. What do all the pages cost, in dollars?
30*(12+8)*4/100 = 24
"""),
    "svamp": _examples("""
Nadia has 43 stamps and 15 coins. She gave 26 stamps to her cousin.
How many stamps does she have now?
43-26 = 17

Each shelf holds 23 books. The library bought 6 new shelves and 4 lamps.
How many books fit on the new shelves?
23*6 = 138

There were 52 frogs at the pond. 19 of them hopped away and 8 more frogs came.
How many frogs are at the pond now?
52-19+8 = 41

Omar packed 96 eggs into boxes with 12 eggs in each box.
How many boxes did he fill?
96/12 = 8
"""),
    "asdiv": _examples("""
Lina picked 8 pears and Tom picked 13 pears.
How many pears did they pick in all?
8+13 = 21

A ribbon is 7.2 meters long. It is cut into 6 equal pieces.
How long is each piece, in meters?
7.2/6 = 1.2

A gardener planted 15 rows with 11 tulips in each row.
How many tulips did he plant?
15*11 = 165

Mr. Sato had $50. He bought a kettle for $18.75 and a cup for $4.50.
How much money does he have left?
50-18.75-4.50 = 26.75
"""),
}

MATH = Task(
    name="math",
    tool=CALCULATOR,
    instruction=INSTRUCTION,
    plain_instruction=PLAIN_INSTRUCTION,
    teacher_instruction=TEACHER_INSTRUCTION,
    extract=extract,
    grade=grade,
    ungradable_reason=ungradable_reason,
    leaks=leaks,
    render=render,
    examples=EXAMPLES,
    numeric=True,
    distance=distance,
    clean_answer=clean_answer,
)
