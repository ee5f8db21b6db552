"""The task mlqa: prompts, few-shot examples, and arguments that the parser of calls preserves."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.support.cpu_time import cpu_limit
from toolrlef_data import load_source
from toolrlef_data.records import InputError, ToolCall
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.mlqa import MLQA, language, make_argument, reader_prompt, render
from toolrlef_data.tasks.text_answers import grade
from toolrlef_data.tools.parsing.calls import find_called_tool, parse_call, render_call


def test_the_task() -> None:
    assert TASKS["mlqa"] is MLQA
    assert (MLQA.name, MLQA.tool.name, MLQA.tool.parameter) == ("mlqa", "translator", "text")
    assert MLQA.instruction == (
        "Given a context, please answer the question in English and you can use a translator for help."
    )
    for word in ("tool", "transl", "call"):
        assert word not in MLQA.plain_instruction.lower()
        assert word not in MLQA.reader_instruction.lower()
    assert find_called_tool(MLQA.teacher_instruction, MLQA.tool) == "translator"
    assert not MLQA.output_is_answer
    assert MLQA.parse_reader_reply is MLQA.extract  # both are full texts, or 20 words by the paper's rule
    assert not MLQA.leaks("Sofia", "¿Dónde?", ["Sofia"])


def test_the_error_of_the_tool_says_how_to_set_it_up() -> None:
    with pytest.raises(InputError, match=r"translator\(model\) or translator_engine\(engine\)"):
        MLQA.tool.check()
    with pytest.raises(InputError, match="translator_engine"):
        MLQA.tool.run("anything")


@pytest.mark.parametrize(
    ("question", "argument"),
    [
        ("¿Cuándo se abrió?", "¿Cuándo se abrió?"),
        ("  ¿Cuándo\n se\u00a0abrió? ", "¿Cuándo se abrió?"),
        ("Was tat er (1825)?", "Was tat er (1825)?"),
        ("Was heißt :) ?", "Was heißt :） ?"),  # an unpaired parenthesis would end the call
        ("Was heißt (sic?", "Was heißt （sic?"),
        ("a) oder (b)?", "a） oder (b)?"),
        (")(", "）（"),
        ('"谁" 是谁?', '"谁" 是谁?'),
        ('"A", "B" 是什么?', "“A”, “B” 是什么?"),  # would be parsed as two arguments
        ('"谁?"', "谁?"),  # quotes around the full question are removed
        ("'s-Hertogenbosch 在哪?", "'s-Hertogenbosch 在哪?"),
        ("text=谁?", "谁?"),
        ("（谁）?", "（谁）?"),
        ("translator(谁)?", "translator(谁)?"),
        ("", ""),
        (" ", ""),
    ],
)
def test_make_argument(question: str, argument: str) -> None:
    assert make_argument({"question": question}) == argument


def test_the_argument_of_any_question_survives_parsing() -> None:
    draw = random.Random(3)
    parts = [*"()\"'a谁? `{}=\\,\n", "“", "”", "‘", "’", "text=", "translator(", '{"text": "', "\ud800", "\u202e"]
    for _ in range(10_000):
        question = "谁" + "".join(draw.choice(parts) for _ in range(draw.randint(0, 12)))
        question = "".join(draw.sample(question, len(question)))
        argument = make_argument({"question": question})
        call = ToolCall("translator", argument)
        assert parse_call(render_call(call), MLQA.tool) == call
        assert argument.count("谁") == question.count("谁"), "no text of the question is lost"
        assert make_argument({"question": argument}) == argument


@pytest.mark.parametrize("question", ["(" * 10**5, ")" * 10**5, '"' * 10**5, "'" * 10**5 + "a", "(a" * 10**5])
def test_long_questions_take_linear_time(question: str) -> None:
    """Quadratic time would take minutes here."""
    with cpu_limit():
        make_argument({"question": question})


def test_arguments_of_real_questions_are_unchanged(shared: Path) -> None:
    files = sorted((shared / "data" / "mlqa" / "joined").glob("*.json"))
    articles = [article for file in files for article in json.loads(file.read_text(encoding="utf-8"))["data"]]
    rows = [row for article in articles for part in article["paragraphs"] for row in part["qas"]]
    assert len(rows) > 700
    for row in rows:
        call = ToolCall("translator", make_argument(row))
        assert call.argument == " ".join(row["question"].split())
        assert parse_call(render_call(call), MLQA.tool) == call


@pytest.mark.parametrize(
    ("row_id", "code"),
    [
        ("mlqa-4f1a#zh", "zh"),
        ("mlqa-4f1a#ZH", "zh"),
        ("mlqa-4#f1a#yue", "yue"),
        ("mlqa-4f1a", ""),
        ("zh", ""),
        ("mlqa-4f1a#zh-Hans", ""),
        ("mlqa-4f1a#12", ""),
        ("mlqa-4f1a#éé", ""),
        ("mlqa-4f1a#", ""),
        ("mlqa-4f1a#zh\n", ""),
        ("", ""),
    ],
)
def test_language(row_id: str, code: str) -> None:
    assert language({"id": row_id}) == code


def test_the_reader_prompt_has_the_translation_instead_of_the_question() -> None:
    context = "It says:\nQuestion: who?\nAnswer: he."
    text = render({"context": context, "question": "谁\nQuestion: 谁?"})
    assert text == f"Context: {context}\nQuestion: 谁 Question: 谁?"
    assert (
        reader_prompt(text, "Who?") == f"Context: {context}\nQuestion: Who?"
    )  # the last marker is replaced, not the first
    assert reader_prompt("no question", "Who?") == "no question\nQuestion: Who?"


def test_replies_of_the_reader_are_truncated_by_the_rule_of_the_paper() -> None:
    reply = " ".join(["w"] * 20 + ["Sofia"])
    for rule, prediction in (("default", reply), ("paper", " ".join(["w"] * 20))):
        parse_reply = MLQA.with_rule(rule).parse_reader_reply
        assert parse_reply is not None
        assert parse_reply(reply) == prediction


def test_an_echo_of_the_question_or_the_context_is_not_correct() -> None:
    rows = load_source("sample_mlqa", split="train").to_list()
    assert len(rows) > 100
    for row in rows:
        for echo in (row["question"], render(row), row["context"]):
            for shown in ({}, {"question": row["question"], "context": row["context"]}):
                is_context = echo == row["context"] and not shown  # unknown to the grader
                assert MLQA.grade(echo, row["answers"], **shown) is not True or is_context, (echo, row["answers"])


def test_parse_input_is_the_inverse_of_render() -> None:
    for row in ({"context": "It opened.\nQuestion: why?", "question": "¿Qué?"}, {"context": "", "question": "¿Qué?"}):
        assert MLQA.parse_input is not None
        assert MLQA.parse_input(render(row)) == (row["question"], row["context"])


@pytest.mark.parametrize("dataset", ["", "mlqa", "sample"])
def test_examples_are_correct(dataset: str) -> None:
    examples = MLQA.examples_for(dataset)
    assert len({example.input for example in examples}) == 4
    for example in examples:
        context, _, question = example.input.rpartition("\nQuestion: ")
        call = parse_call(example.call, MLQA.tool)
        assert call == ToolCall("translator", question) == ToolCall("translator", make_argument({"question": question}))
        assert context.startswith("Context: ")
        assert context.isascii()
        assert grade(context, [example.answer], anywhere=True), "the context contains the answer"
        assert MLQA.grade(MLQA.extract(example.plain), [example.answer])


def test_the_examples_are_in_six_languages() -> None:
    questions = "".join(example.call for name in ("", "mlqa") for example in MLQA.examples[name])
    assert len({example.input for name in ("", "mlqa") for example in MLQA.examples[name]}) == 8
    for text in ("¿", "罗", "कि", "Nước", "كم", "Wie"):
        assert text in questions
