"""Clozes with a model that answers questions: what is asked, read and shown."""

from __future__ import annotations

import pytest

from toolrlef_data.records import InputError
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.lama import LAMA, render
from toolrlef_data.tools.calls import find_called_tool, parse_call


def test_the_task() -> None:
    assert TASKS["lama"] is LAMA
    assert (LAMA.name, LAMA.tool.name, LAMA.tool.parameter) == ("lama", "QA", "question")
    assert LAMA.instruction == "Given a question, please answer it and you can use a QA model for help."
    for word in ("tool", "qa", "model", "call"):
        assert word not in LAMA.plain_instruction.lower()
    assert find_called_tool(LAMA.teacher_instruction, LAMA.tool) == "QA"
    assert LAMA.reader_prompt is None  # what the tool says is the prediction
    assert LAMA.output_is_answer
    assert render({"question": "It is in ?", "context": ""}) == "It is in ?"


def test_the_tool_says_what_it_lacks() -> None:
    with pytest.raises(InputError, match=r"qa_engine\(engine\) or qa_model\(model\)"):
        LAMA.tool.check()
    with pytest.raises(InputError, match="qa_engine"):
        LAMA.tool.run("anything")


def test_only_a_response_without_a_call_is_cut() -> None:
    words = " ".join([*map(str, range(29)), "Poland"])
    assert LAMA.grade(LAMA.extract(words), ["Poland"]) is False
    assert LAMA.grade(words, ["Poland"]) is False
    assert LAMA.grade_whole(words, ["Poland"]) is True, "with compat, as the published code grades what the tool gave"


@pytest.mark.parametrize("dataset", ["", "trex", "squad", "sample"])
def test_examples_are_right_and_do_not_leak(dataset: str) -> None:
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
        assert not LAMA.grade(example.input, [example.answer]), "the cloze would answer itself"
