"""The task lama: prompts, grading and few-shot examples."""

from __future__ import annotations

import pytest

from toolrlef_data.records import InputError
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.lama import LAMA, render
from toolrlef_data.tools.parsing.calls import find_called_tool, parse_call


def test_the_task() -> None:
    assert TASKS["lama"] is LAMA
    assert (LAMA.name, LAMA.tool.name, LAMA.tool.parameter) == ("lama", "QA", "question")
    assert LAMA.instruction == "Given a question, please answer it and you can use a QA model for help."
    for word in ("tool", "qa", "model", "call"):
        assert word not in LAMA.plain_instruction.lower()
    assert find_called_tool(LAMA.teacher_instruction, LAMA.tool) == "QA"
    assert LAMA.reader_prompt is None  # the tool output is the prediction
    assert LAMA.output_is_answer
    assert render({"question": "It is in ?", "context": ""}) == "It is in ?"


def test_the_error_of_the_tool_says_how_to_set_it_up() -> None:
    with pytest.raises(InputError, match=r"qa_engine\(engine\) or qa_model\(model\)"):
        LAMA.tool.check()
    with pytest.raises(InputError, match="qa_engine"):
        LAMA.tool.run("anything")


def test_the_paper_grades_twenty_words_of_a_prediction() -> None:
    words = " ".join([*map("w{}".format, range(29)), "Poland"])
    paper = LAMA.with_rule("paper")
    assert paper.grade(paper.extract(words), ["Poland"]) is False
    assert paper.grade_output(words, ["Poland"]) is False
    assert paper.grade_whole(words, ["Poland"]) is True, "with compat: the published code grades the full tool output"
    assert LAMA.grade(LAMA.extract(words), ["Poland"]) is True


def test_an_output_of_the_tool_contains_the_answer_anywhere() -> None:
    assert LAMA.grade_output("Berlin, Rome or Poland", ["Poland"]) is True
    assert LAMA.grade_output("Polandia", ["Poland"]) is False


@pytest.mark.parametrize("dataset", ["", "trex", "squad", "sample"])
def test_examples_are_correct_and_do_not_leak(dataset: str) -> None:
    examples = LAMA.examples_for(dataset)
    assert len({example.input for example in examples}) == 4
    for example in examples:
        assert example.input.endswith(" ?")
        call = parse_call(example.call, LAMA.tool)
        assert call is not None
        assert example.call == f"QA({call.argument})"
        assert call.argument.endswith("?")
        assert call.argument != example.input
        assert not LAMA.leaks(call.argument, example.input, [example.answer]), example.input
        assert LAMA.grade(LAMA.extract(example.plain), [example.answer])
        assert not LAMA.grade(example.input, [example.answer]), "the cloze does not contain the answer"
