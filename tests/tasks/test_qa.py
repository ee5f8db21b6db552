"""The tasks qa and retrieval: prompts, replies of the reader and few-shot examples."""

from __future__ import annotations

import pytest

from toolrlef_data.records import InputError
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.qa import QA, RETRIEVAL, parse_reader_reply, reader_prompt, render
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.parsing.calls import find_called_tool, parse_call

SEARCH_TASKS = [QA, RETRIEVAL]
DATASETS = ["", "webquestions", "nq_open", "triviaqa", "hotpotqa", "sample"]


def test_the_tasks() -> None:
    assert TASKS["qa"] is QA
    assert TASKS["retrieval"] is RETRIEVAL
    assert (QA.name, QA.tool.name, QA.tool.parameter) == ("qa", "WikiSearch", "query")
    assert (RETRIEVAL.name, RETRIEVAL.tool.name, RETRIEVAL.tool.parameter) == ("retrieval", "retriever", "query")
    assert QA.instruction == "Given a question, please answer it and you can use a WikiSearch for help."
    assert RETRIEVAL.instruction == "Given a question, please answer it and you can use a retriever for help."
    assert QA.output_is_answer
    assert QA.make_argument is None


@pytest.mark.parametrize("task", SEARCH_TASKS, ids=lambda task: task.name)
def test_the_error_of_the_tool_says_how_to_set_it_up(task: Task) -> None:
    with pytest.raises(InputError, match=r"wiki_search\(corpus.*replace\(TASKS\['" + task.name):
        task.tool.check()
    with pytest.raises(InputError, match="wiki_search"):
        task.tool.run("anything")


@pytest.mark.parametrize("task", SEARCH_TASKS, ids=lambda task: task.name)
def test_only_some_instructions_name_the_tool(task: Task) -> None:
    for word in ("tool", "search", "retriev", "call"):
        assert word not in task.plain_instruction.lower()
        assert word not in task.reader_instruction.lower()
    assert find_called_tool(task.teacher_instruction, task.tool) == task.tool.name
    other = {"WikiSearch": "retriever", "retriever": "WikiSearch"}[task.tool.name]
    assert other not in task.teacher_instruction + task.instruction


def test_prompt_and_reply_of_the_reader() -> None:
    assert render({"question": "who?", "context": ""}) == "who?"
    assert reader_prompt("who?", "Somebody\ndid.") == "Somebody\ndid.\n\nQuestion: who?"
    long = " ".join(["w"] * 40)
    assert parse_reader_reply(f"\n{long} ") == long  # not truncated, unlike a response without a call
    assert QA.extract(f"\n{long} ") == long
    assert QA.with_rule("paper").extract(long) == " ".join(["w"] * 20)
    assert parse_reader_reply(" \n\t") is None


@pytest.mark.parametrize("task", SEARCH_TASKS, ids=lambda task: task.name)
@pytest.mark.parametrize("dataset", DATASETS)
def test_examples_are_correct_and_do_not_leak(task: Task, dataset: str) -> None:
    examples = task.examples_for(dataset)
    assert len({example.input for example in examples}) == 4
    for example in examples:
        call = parse_call(example.call, task.tool)
        assert call is not None
        assert example.call == f"{task.tool.name}({call.argument})"
        assert not task.leaks(call.argument, example.input, [example.answer]), example.input
        assert task.grade(task.extract(example.plain), [example.answer])
        assert find_called_tool(example.plain, task.tool) is None
        assert not task.grade(example.input, [example.answer]), "the question does not contain the answer"


def test_examples_have_the_style_of_their_data_set() -> None:
    for example in QA.examples_for("nq_open"):
        assert example.input == example.input.lower()
        assert "?" not in example.input
    assert all(example.input.endswith("?") for name in ("", "triviaqa", "hotpotqa") for example in QA.examples[name])
