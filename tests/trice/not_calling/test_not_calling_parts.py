"""The parts of `without_tool` on their own: whole clauses, variants, originals and offers, and each border."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from datasets import Dataset, Features

from toolrlef_data import TASKS, InputError, Tool, ledger, without_tool
from toolrlef_data.columns import STAGE1, STAGE2
from toolrlef_data.records import MissingColumns, UnusableRow
from toolrlef_data.tools.tool import tool_schema
from toolrlef_data.trice.not_calling.chat import draw_chat
from toolrlef_data.trice.not_calling.clauses import Clause, clauses_in, last_sentence
from toolrlef_data.trice.not_calling.grammar import BASES
from toolrlef_data.trice.not_calling.kinds import KINDS, Variant
from toolrlef_data.trice.not_calling.offers import OtherTool, as_other_tools, draw_tools, fitting, list_of_tools
from toolrlef_data.trice.not_calling.originals import Original, columns_to_read, original_of
from toolrlef_data.trice.not_calling.recoverable import is_recoverable, reachable
from toolrlef_data.trice.not_calling.stage import _check_target
from toolrlef_data.trice.not_calling.texts import ASKS, NO_TOOLS_INSTRUCTIONS, OTHER_TOOLS, REFUSALS
from toolrlef_data.trice.not_calling.withholding import withhold

MATH, QA = TASKS["math"], TASKS["qa"]

# Clauses --------------------------------------------------------------------------------------------------------------

# Question -> number, value, replacement, statement, direct and indirect question, noun
CLAUSES: dict[str, tuple[str, float, str, str, str, str, str]] = {
    "Paco had 26 red figs and 17 limes.": ("26", 26.0, "some", "Paco had some red figs", "how many red figs did Paco have", "how many red figs Paco had", "figs"),
    "There are 9 figs in a bowl.": ("9", 9.0, "some", "there are some figs in a bowl", "how many figs are in a bowl", "how many figs are in a bowl", "figs"),
    "There were 45 minutes.": ("45", 45.0, "several", "there were several minutes", "how many minutes were there", "how many minutes there were", "minutes"),
    "There are 8 nuts per jar.": ("8", 8.0, "the same number of", "there are the same number of nuts per jar", "how many nuts are per jar", "how many nuts are per jar", "nuts"),
    "She can eat sixteen figs.": ("sixteen", 16.0, "some", "she can eat some figs", "how many figs can she eat", "how many figs she can eat", "figs"),
    "They have 1,200 sheep.": ("1,200", 1200.0, "some", "they have some sheep", "how many sheep do they have", "how many sheep they have", "sheep"),
    "It has 12 people on board today.": ("12", 12.0, "some", "it has some people on board today", "how many people does it have on board today", "how many people it has on board today", "people"),
    "A chef buys 8 eggs each day.": ("8", 8.0, "a certain number of", "a chef buys a certain number of eggs each day", "how many eggs does the chef buy each day", "how many eggs the chef buys each day", "eggs"),
    "An aunt had 8 eggs.": ("8", 8.0, "some", "an aunt had some eggs", "how many eggs did the aunt have", "how many eggs the aunt had", "eggs"),
    "Each box can hold 6 eggs.": ("6", 6.0, "the same number of", "each box can hold the same number of eggs", "how many eggs can each box hold", "how many eggs each box can hold", "eggs"),
    "Every box holds 6 eggs.": ("6", 6.0, "the same number of", "every box holds the same number of eggs", "how many eggs does every box hold", "how many eggs every box holds", "eggs"),
    "Each box has 6 eggs and 3 figs.": ("6", 6.0, "some", "each box has some eggs", "how many eggs does each box have", "how many eggs each box has", "eggs"),
    "Mrs. Hilt ran 3.5 miles on Sunday.": ("3.5", 3.5, "several", "Mrs. Hilt ran several miles on Sunday", "how many miles did Mrs. Hilt run on Sunday", "how many miles Mrs. Hilt ran on Sunday", "miles"),
    "Tom paid $ 1,250 for his bike.": ("$ 1,250", 1250.0, "some money", "Tom paid some money for his bike", "how much money did Tom pay for his bike", "how much money Tom paid for his bike", ""),
    "Tom paid $5 dollars for his bike.": ("$5 dollars", 5.0, "some money", "Tom paid some money for his bike", "how much money did Tom pay for his bike", "how much money Tom paid for his bike", ""),
    "Tom earns 15 dollars per lawn.": ("15 dollars", 15.0, "a certain amount of money", "Tom earns a certain amount of money per lawn", "how much money does Tom earn per lawn", "how much money Tom earns per lawn", ""),
    "Each boy saved $9.": ("$9", 9.0, "the same amount of money", "each boy saved the same amount of money", "how much money did each boy save", "how much money each boy saved", ""),
    "Ann's mother used 7 cups of flour.": ("7", 7.0, "several", "Ann's mother used several cups of flour", "how many cups of flour did Ann's mother use", "how many cups of flour Ann's mother used", "cups"),
    "The two clerks sell 40 hats stands.": ("40", 40.0, "some", "the two clerks sell some hats stands", "how many hats stands do the two clerks sell", "how many hats stands the two clerks sell", "stands"),
    "Her cats ate 40 mice at the barn in May.": ("40", 40.0, "some", "her cats ate some mice at the barn in May", "how many mice did her cats eat at the barn in May", "how many mice her cats ate at the barn in May", "mice"),
    "If a jar has 40 nuts, how many nuts are in 3 jars?": ("40", 40.0, "some", "a jar has some nuts", "how many nuts does the jar have", "how many nuts the jar has", "nuts"),
    "Tom bought 12 figs, but he ate one.": ("12", 12.0, "some", "Tom bought some figs", "how many figs did Tom buy", "how many figs Tom bought", "figs"),
    "Tom had 9 boxes of the nuts.": ("9", 9.0, "some", "Tom had some boxes of the nuts", "how many boxes of the nuts did Tom have", "how many boxes of the nuts Tom had", "boxes"),
}  # fmt: skip


@pytest.mark.parametrize("question", CLAUSES)
def test_a_whole_clause(question: str) -> None:
    number, value, *texts = CLAUSES[question]
    start = question.index(number)
    assert list(clauses_in(question)) == [Clause(start, start + len(number), number, value, *texts)]


NO_CLAUSE = """
Mrs. Hilt ran 2.5 miles on Sunday.
James wrote 40 of them.
Tom had 2 figs.
The sell 40 figs.
The cats quickly ate 40 figs.
They has 40 figs.
She have 40 figs.
The cat have 40 figs.
The cats has 40 figs.
Tom have 40 figs.
Tom and Ann has 40 figs.
Tom red had 40 figs.
Students had 40 figs.
A had 40 figs.
He Tom had 40 figs.
Tom had 40 Figs.
Tom had 40 big red round fine figs.
Tom had 40 glass.
Tom had 40 cents.
Tom had 40 boxes of the.
Tom had 40 figs where 9 limes are.
Tom had 40 figs in a b c d e f g h.
Tom had 40 figs in 3 bags.
Tom had 40 figs in a box that was red.
Tom had 40 figs quickly.
Tom takes 40 days.
There are 40 days in May.
There were 40 figs, Ann said.
There were 40 dogs with legs; legs count.
Each box had 40 figs each.
Tom kicked $40.
Tom had 40 figs" and limes.
Does Tom have 40 figs?
If Tom had 40 figs.
Tom bought 40 wheels.
""".strip().split("\n")


def test_clauses_that_are_not_safe_to_rewrite() -> None:
    found = {question: [clause.statement for clause in clauses_in(question)] for question in NO_CLAUSE}
    assert {question: statements for question, statements in found.items() if statements} == {}


def test_forms_of_verbs() -> None:
    forms = {
        "has": ("does", "have"), "have": ("do", "have"), "had": ("did", "have"), "can have": ("can", "have"),
        "carries": ("does", "carry"), "carry": ("do", "carry"), "carried": ("did", "carry"), "fries": ("does", "fry"),
        "pays": ("does", "pay"), "paid": ("did", "pay"), "plays": ("does", "play"), "played": ("did", "play"),
        "washes": ("does", "wash"), "tosses": ("does", "toss"), "fixes": ("does", "fix"), "catches": ("does", "catch"),
        "read": ("did", "read"), "reads": ("does", "read"), "put": ("did", "put"), "dropped": ("did", "drop"),
        "baked": ("did", "bake"), "bakes": ("does", "bake"), "can put": ("can", "put"), "knitted": None, "kniting": None,
    }  # fmt: skip
    assert {form: BASES.get(form) for form in forms} == {**forms, "knitted": ("did", "knit")}


def test_the_last_sentence_begins_at_its_question_word() -> None:
    texts = {
        "Ann has 4 figs. If she eats one, how many has she?": "how many has she?",
        "Dr. Li has $1.50 and A. Bo. What can Dr. Li buy in St. Moritz?": "What can Dr. Li buy in St. Moritz?",
        "How much is it, and what for? ": "what for?",
        "Ann has figs.": "Ann has figs.",
        "How many?  ": "How many?",
        "": "",
    }
    assert {text: last_sentence(text) for text in texts} == texts


# Withheld numbers -----------------------------------------------------------------------------------------------------


def test_what_is_recoverable_at_each_border() -> None:
    cases: list[tuple[float, str, bool]] = [
        (10, "Ann, Bo, Cy, Di, Ed, Flo, Gil, Hal and Ida met.", True),  # nine names
        (11, "Ann, Bo, Cy, Di, Ed, Flo, Gil, Hal, Ida and Jo met.", False),  # far to count
        (8, "Ann, Bo, Cy, Di, Ed, Flo, Gil met Hal and Ida.", True),
        (3, "He has figs, limes and nuts.", True),
        (4, "He has figs, limes and nuts.", False),
        (7, "He has 1 2 3 4 5 6 of each.", True),
        (12, "He eats a dozen.", True),
        (1200, "He has 12 of a hundred percent.", True),
        (5, "He has 20 figs in 4 bags.", True),
        (8, "He ran 5 miles.", True),  # kilometres
        (8.1, "He ran 5 miles.", True),
        (8.3, "He ran 5 miles.", False),
        (8, "He has 5 bags and 35 limes.", False),
        (60, "He has 15 figs, 20 limes and 25 nuts.", True),
        (85, "He has 15 figs, 20 limes, 25 nuts and 25 eggs.", False),  # each number once
        (30.0000001, "He has 15 figs, twice.", True),
    ]
    assert [(value, question, is_recoverable(value, question)) for value, question, _ in cases] == cases


def test_each_number_is_used_once_in_a_reachable_value() -> None:
    assert reachable([2.0, 2.0, 6.0], 1) == {2.0, 6.0}
    assert reachable([2.0, 6.0], 3) == reachable([2.0, 6.0], 2)
    assert reachable([0.0, 4.0], 2) == {0.0, 4.0, -4.0}
    assert 2 * 3 + 5 in reachable([2.0, 3.0, 5.0], 3)
    assert max(reachable([2.0, 3.0, 5.0, 7.0], 3)) == 3 * 5 * 7


@pytest.mark.parametrize(
    ("question", "argument", "gold", "reason", "detail"),
    [
        ("A? Paco had 28 figs.", "28-8", "21", "unreadable_formula", "expected one of ['21']: '28-8'"),
        ("How many?" + " x" * 60, "28-7", "21", "no_clause", ("How many?" + " x" * 60)[:100]),
        ("Paco had 28 figs. How many?", "28+28-35", "21", "no_clause", "28 occurs 2 times in '28+28-35'"),
        ("Paco had 28 figs. How many?", "3*7", "21", "no_clause", "28 occurs 0 times in '3*7'"),
        ("Paco had 28 figs. That is 4 of 7 each. How many?", "28-7", "21", "recoverable", "28: Paco had some figs. That is 4 of 7 each. How many?"),
        ("Paco had 28 figs. He ate 21. How many?", "28-7", "21", "recoverable", "28: Paco had some figs. He ate 21. How many?"),
        ("Paco had 28 figs. He ate 53 figs. How many?", "28-7", "21", "bounded", "28: Paco had some figs. He ate 53 figs. How many?"),
        ("Paco saved $28. He spent $53. How many?", "28-7", "21", "bounded", "$28: Paco saved some money. He spent $53. How many?"),
        ("Paco had 28 figs. How many pens?", "0*28+21", "21", "not_needed", "28 in '0*28+21'"),
        ("Paco had 28 figs in May and 7 figs in June. How many figs were there in June?", "28-7", "21", "stated", "how many figs were there in june?"),
        ("Paco had 28 figs. He ate 7. How many figs did Paco have?", "28-7", "21", "same_question", "how many figs did Paco have"),
    ],
)  # fmt: skip
def test_why_a_number_is_not_withheld(question: str, argument: str, gold: str, reason: str, detail: str) -> None:
    with pytest.raises(UnusableRow) as refused:
        withhold(question, argument, [gold], MATH, Random(0))
    assert (refused.value.reason, refused.value.detail) == (reason, detail)


def test_a_withheld_number_and_what_was_executed() -> None:
    question = "Paco had 28 figs. He ate 7. How many are left?"
    found = withhold(question, "28-7", ["21"], MATH, Random(0))
    assert (found.question, found.check) == (
        "Paco had some figs. He ate 7. How many are left?",
        "28 is withheld: ?-7 -> syntax",
    )
    assert found.clause == next(clauses_in(question))
    grouped = withhold(question.replace("28", "1,280"), "1280-7", ["1273"], MATH, Random(0))
    assert grouped.check == "1,280 is withheld: ?-7 -> syntax"
    used = "Paco had 28 figs. He ate 7 figs. How many are left?"
    values = {withhold(used, "28-7", ["21"], MATH, Random(n)).clause.value for n in range(9)}
    assert values == {28.0, 7.0}, "the other number is used by the call"
    seeds = {withhold("Paco had 28 figs. Ann had 90 limes. How many in all?", "28+90", ["118"], MATH, Random(n)).clause.value for n in range(9)}  # fmt: skip
    assert seeds == {28.0, 90.0}


# Originals ------------------------------------------------------------------------------------------------------------

STAGE1_ROW: dict[str, Any] = {
    "id": "a",
    "task": "math",
    "dataset": "d",
    "instruction": "Do it.",
    "input": "How much is 4 times 12?",
    "answers": ["48"],
}
RIGHT, CALL = "It is 48.", "calculator(4*12)"


def stage2_row(*responses: tuple[str, bool, bool | None, str]) -> dict[str, Any]:
    texts, uses_tool, correct, reasons = (list(values) for values in zip(*responses, strict=True))
    origin = ["gold", *(f"r{n}" for n in range(1, len(texts)))]
    return {**STAGE1_ROW, "responses": texts, "uses_tool": uses_tool, "origin": origin, "correct": correct, "finish_reasons": reasons}  # fmt: skip


ORIGINALS: list[tuple[dict[str, Any], Original]] = [
    ({**STAGE1_ROW, "output": RIGHT, "uses_tool": False}, Original(answer=RIGHT, writer="student")),
    ({**STAGE1_ROW, "output": "It is 49.", "uses_tool": False}, Original()),
    ({**STAGE1_ROW, "output": CALL, "uses_tool": True}, Original(call=CALL, argument="4*12")),
    ({**STAGE1_ROW, "output": "calculator(", "uses_tool": True}, Original()),
    ({**STAGE1_ROW, "output": "", "uses_tool": False}, Original()),
    (
        stage2_row(("calculator(", True, True, "stop"), (CALL, True, True, "stop"), ("calculator(48*1)", True, True, "stop")),
        Original(call=CALL, argument="4*12"),
    ),
    (
        stage2_row((CALL, True, True, "stop"), (RIGHT, False, True, "length"), ("So 48", False, True, "stop"), (RIGHT, False, True, "stop")),
        Original(CALL, "4*12", "So 48", "r2"),
    ),
    (stage2_row((RIGHT, False, None, "stop"), (RIGHT, False, False, "stop"), (CALL, True, None, "stop")), Original()),
    (stage2_row((RIGHT, False, True, "stop")), Original(answer=RIGHT, writer="student")),
    (stage2_row(("4*12 = 47, so 48.", False, True, "stop"), ("The Calculator says 48.", False, True, "stop")), Original()),
    ({**stage2_row((RIGHT, False, True, "stop")), "correct": None, "origin": None, "responses": None, "uses_tool": None, "finish_reasons": None}, Original()),
]  # fmt: skip


@pytest.mark.parametrize(("row", "expected"), ORIGINALS, ids=range(len(ORIGINALS)))
def test_the_call_and_the_own_answer_of_a_row(row: dict[str, Any], expected: Original) -> None:
    assert original_of(row, MATH) == expected


def test_the_columns_of_an_original() -> None:
    shared = ("id", "task", "dataset", "instruction", "input", "answers", "uses_tool")
    assert columns_to_read(STAGE1) == (*shared, "output")
    assert columns_to_read(STAGE2) == (*shared, "responses", "origin", "correct", "finish_reasons")
    with pytest.raises(MissingColumns) as missing:
        columns_to_read(Features(id=STAGE1["id"], responses=STAGE2["responses"]))
    assert str(missing.value) == (
        "without_tool needs a table of stage 1 or stage 2; this one lacks the columns task, dataset, instruction, input, "
        "answers, uses_tool, origin, correct, finish_reasons; found: id, responses"
    )
    with pytest.raises(MissingColumns, match=r"found: \(none\)"):
        columns_to_read(Features())


# Offers ---------------------------------------------------------------------------------------------------------------

SHOUT = Tool("shout", "Says it\n louder.", str.upper)


def spend(amount: float, currency: str = "CHF") -> str:
    """Spends money.

    Args:
        amount: How much.
        currency: Of what.
    """
    return f"{amount} {currency}"


def test_tools_for_other_purposes() -> None:
    schema = {"name": "f\u00e4", "description": "Does f.", "parameters": {"a": 1}}
    slow = Tool("slow", "Waits.", many=lambda inputs: [])
    several = Tool.from_function(spend)
    tools = as_other_tools([SHOUT, schema, {"function": schema | {"name": "g"}}, slow, several], {})
    assert [(tool.name, tool.tool) for tool in tools] == [("shout", SHOUT), ("f\u00e4", None), ("g", None), ("slow", None), ("spend", None)]  # fmt: skip
    assert [json.loads(tool.schema) for tool in tools[1:3]] == [
        {"type": "function", "function": schema}, {"type": "function", "function": {**schema, "name": "g"}}
    ]  # fmt: skip
    assert "f\u00e4" in tools[1].schema
    assert tools[0].schema == tool_schema(SHOUT)
    assert tools[1].function == schema
    assert [tool.name for tool in as_other_tools((), {})] == [tool["function"]["name"] for tool in OTHER_TOOLS]
    assert list_of_tools(tools[:2]) == "- shout: Says it louder.\n- f\u00e4: Does f."


@pytest.mark.parametrize(
    ("others", "words"),
    [
        (SHOUT, "expected a list of Tools or function schemas, found Tool("),
        ({"name": "f"}, "expected a list of Tools or function schemas, found {'name': 'f'}"),
        ("f", "expected a list of Tools or function schemas, found 'f'"),
        (5, "expected a list of Tools or function schemas, found 5"),
        ([5], "expected a Tool, or a function schema with a name and a description: 5"),
        ([{"name": "f", "description": " "}], "expected a Tool, or a function schema with a name and a description: {"),
        ([{"function": 3}], "expected a Tool, or a function schema with a name and a description: {"),
        ([{"name": "f", "description": "x", "a": {1}}], "the schema of f is not JSON: Object of type set is not"),
        ([{"name": "f", "description": "x", "a": float("nan")}], "the schema of f is not JSON: Out of range float"),
        ([SHOUT, SHOUT, {"name": "f", "description": "x"}], "expected tools with distinct names, found twice: shout"),
    ],
)
def test_other_tools_that_are_refused(others: Any, words: str) -> None:
    with pytest.raises(InputError) as refused:
        as_other_tools(others, {})
    assert str(refused.value).startswith(f"others: {words}")


def test_the_tasks_tool_is_no_other_tool() -> None:
    calculator = json.loads(tool_schema(MATH.tool))["function"]
    others = [{**calculator, "name": "CALCULATOR", "description": "x"}, {**calculator, "name": "sum"}, {**calculator, "description": "y", "name": "z"}]  # fmt: skip
    tools = as_other_tools(others, {})
    assert [tool.name for tool in fitting(tools, MATH)] == ["z"]
    with pytest.raises(InputError) as refused:
        as_other_tools(others[:2], {"sums": MATH})
    assert str(refused.value) == "others: expected tools beside calculator, which the task 'sums' needs"


def test_a_tool_that_gives_the_gold_answer_is_not_offered() -> None:
    gives, fails, plain = (Tool(name, name, function) for name, function in (("gives", lambda text: "48"), ("fails", lambda text: 1 / 0), ("plain", str.strip)))  # fmt: skip
    tools = as_other_tools([gives, fails, plain, SHOUT, *OTHER_TOOLS], {})
    drawn = [draw_tools(tools, MATH, "x", ["48"], Random(n)) for n in range(60)]
    names = [{tool.name for tool in draw} for draw in drawn]
    assert [len(draw) for draw in drawn] == [len(group) for group in names], "each tool once"
    assert {len(group) for group in names} == {1, 2, 3, 4}
    assert set().union(*names) == {tool.name for tool in tools} - {"gives"}
    assert draw_tools(tools[:1], MATH, "x", ["48"], Random(0)) == []
    assert draw_tools(tools[:1], MATH, "x", ["49"], Random(0)) == [tools[0]]
    assert OtherTool("a", "{}") == OtherTool("a", "{}", None)


# Variants -------------------------------------------------------------------------------------------------------------

LONG_CALL = Original("calculator(4*12/(6+2))", "4*12/(6+2)")


def test_the_variants_of_each_kind() -> None:
    row = {**STAGE1_ROW, "answers": ["6"]}
    variant = KINDS["no_tools"](row, LONG_CALL, MATH, (), Random(0))
    assert (variant.instruction in NO_TOOLS_INSTRUCTIONS, variant.output in REFUSALS) == (True, True)
    assert variant[1:2] + variant[3:] == (row["input"], "template", [], "calculator is not offered")
    own = KINDS["no_tools"](row, Original(answer="6", writer="r1"), MATH, (), Random(0))
    assert own[1:] == (row["input"], "6", "r1", [], "calculator is not offered; the answer without it is right")
    tools = as_other_tools(
        [SHOUT, {"name": "f", "description": "Does f."}, {"name": "g", "description": "Does g."}], {}
    )
    counts = set()
    for n in range(12):
        offered = KINDS["other_tools"](row, LONG_CALL, MATH, tools, Random(n))
        names = [schema["function"]["name"] for schema in offered.tools]
        listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        assert listed in offered.output
        assert all(f"- {name}: " in offered.instruction for name in names)
        assert offered.check == f"calculator is not among the tools {', '.join(names)}"
        assert (offered.input, offered.source) == (row["input"], "template")
        counts.add(len(names))
    assert counts == {1, 2, 3}
    schema = [json.loads(tool_schema(MATH.tool))]
    chat = KINDS["chat"](row, LONG_CALL, MATH, (), Random(3))
    assert chat == Variant(
        "Do it.", *draw_chat(Random(3)), "template", schema, "the message has no question and no number"
    )
    question = "Paco saved $28. He gave $7 to Ann. How much has he?"
    asked = KINDS["missing_argument"](
        {**row, "input": question, "answers": ["21"]}, Original("c", "28-7"), MATH, (), Random(1)
    )
    assert (asked.instruction, asked.source, asked.tools) == ("Do it.", "template", schema)
    assert asked.check == "$28 is withheld: ?-7 -> syntax"
    direct = "how much money did Paco save"
    words = {"how": "much", "value": "amount", "direct": direct, "Direct": direct.capitalize().replace("paco", "Paco")}
    words |= {"indirect": "how much money Paco saved", "statement": "Paco saved some money"}
    assert asked.output in [text.format(**words) for text in ASKS]


@pytest.mark.parametrize(
    ("kind", "changes", "original", "reason", "detail"),
    [
        (
            "no_tools",
            {"input": "My CALCULATOR" + "x" * 200},
            LONG_CALL,
            "names_the_tool",
            ("My CALCULATOR" + "x" * 200)[:100],
        ),
        ("no_tools", {}, Original(), "no_call", "a"),
        ("no_tools", {}, Original("calculator(9+12*3)", "9+12*3"), "simple_call", "calculator(9+12*3)"),
        ("other_tools", {}, Original(call="x"), "no_call", "a"),
        ("other_tools", {"answers": ["X"]}, Original("c(x)", "x"), "tool_is_offered", "c(x)"),
        ("chat", {}, Original(argument="x"), "no_call", "a"),
        ("missing_argument", {}, Original(), "no_call", "a"),
    ],
)
def test_rows_without_a_variant(
    kind: str, changes: dict[str, Any], original: Original, reason: str, detail: str
) -> None:
    task = QA if reason == "tool_is_offered" else MATH
    with pytest.raises(UnusableRow) as refused:
        KINDS[kind]({**STAGE1_ROW, **changes}, original, task, as_other_tools([SHOUT], {}), Random(0))
    assert (refused.value.reason, refused.value.detail) == (reason, detail)


def test_targets_that_call_or_answer_are_refused() -> None:
    def reason(output: str, source: str = "template", tools: Any = ()) -> str:
        try:
            _check_target(Variant("i", "q", output, source, tools, ""), {"answers": ["48"]}, MATH)
        except UnusableRow as refused:
            return refused.reason if refused.detail == output[:100] else "another detail"
        return ""

    shout = [json.loads(tool_schema(SHOUT))]
    texts = {"shout(x)": "", "calculator(1)": "target_calls", "It is 48.": "target_answers", "It is 49.": ""}
    assert {text: reason(text) for text in texts} == texts
    assert (reason("shout(x)", tools=shout), reason("It is 48.", "student"), reason("calculator(", "student")) == (
        *("target_calls", "", "target_calls"),
    )


def test_the_new_row_and_the_ledger() -> None:
    rows = [{**dict.fromkeys(STAGE1), **STAGE1_ROW, "output": RIGHT, "uses_tool": False}, {**dict.fromkeys(STAGE1), **STAGE1_ROW, "id": "b", "input": "", "output": RIGHT, "uses_tool": False}]  # fmt: skip
    table = without_tool(Dataset.from_list(rows, features=STAGE1), kind="no_tools", seed=4)
    (row,) = table
    assert row == {
        "instruction": row["instruction"], "input": STAGE1_ROW["input"], "output": RIGHT, "id": "a#no_tools", "task": "math",
        "dataset": "d", "answers": [], "uses_tool": False, "source": "student", "verified_by": None, "kind": "no_tools",
        "tools": "[]", "rejected": None, "check": "calculator is not offered; the answer without it is right",
    }  # fmt: skip
    random = Random("4:a")
    assert row["instruction"] == random.choice(NO_TOOLS_INSTRUCTIONS)
    assert [(r["id"], r["reason"], r["detail"]) for r in ledger([table])] == [
        ("b#no_tools", "no_prompt", "instruction or input is null or empty")
    ]
    with pytest.raises(InputError) as refused:
        without_tool(table, kind="chat")
    assert str(refused.value) == "the table has variants without a call already: pass the table of stage 1 or stage 2"
    own = (
        Dataset.from_list([{**rows[0], "instruction": None}], features=STAGE1)
        .add_column("kind", ["x"])
        .add_column("tools", ["y"])
    )
    refused_rows = without_tool(own, kind="no_tools")
    assert (len(refused_rows), ledger([refused_rows])["reason"][:]) == (0, ["no_prompt"])
    qa = Dataset.from_list([{**rows[0], "task": "qa"}], features=STAGE1)
    with pytest.raises(InputError) as refused:
        without_tool(qa, kind=["chat", "missing_argument"])
    assert str(refused.value) == (
        "missing_argument needs numeric answers and a tool that computes formulas; the task 'qa' with the tool WikiSearch "
        "has no number whose absence can be proved: choose another kind"
    )
