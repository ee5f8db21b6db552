"""Responders, teachers and students: wrong settings are errors before a model is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest
from datasets import Dataset

from toolrlef_data import (
    ANNOTATIONS,
    TASKS,
    EngineSpec,
    InputError,
    Responder,
    Tool,
    answer,
    counterfactual,
    evaluate,
    grade,
    load_source,
    scripted,
    tool_schema,
    warm_up,
    without_tool,
)
from toolrlef_data.engines.responses import build_request
from toolrlef_data.engines.spec import Message, Request
from toolrlef_data.tables.lineage import lineage
from toolrlef_data.trice.responders import render_request, respond
from toolrlef_data.trice.row_tasks import tasks_of
from toolrlef_data.trice.stage1 import build_stage1
from toolrlef_data.trice.teachers import propose_calls

ANY = partial(cast, Any)  # for values that a type checker refuses
LOCAL = EngineSpec("local", "no/model")
MODEL = scripted({"": "It is 8."}, progress=False)


def graded() -> Any:
    return grade(answer(load_source("sample", split="train").select(range(1)), MODEL))


CLONED = Dataset.from_list([{"instruction": "Add.", "input": "1+1", "output": "2"}])
WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: Responder("a", "gpt"), "'a' needs a model: expected an EngineSpec, found str"),  # type: ignore[arg-type]
    (lambda: Responder("a", MODEL, samples=0), "samples must be an integer of at least 1, found 0"),
    (
        lambda: Responder("a", MODEL, samples=2),
        "samples=2 of 'mapping' would all be the same: set a temperature above 0",
    ),
    (lambda: Responder("a", MODEL, examples=-1), "examples must be an integer of at least 0, found -1"),
    (lambda: Responder("a", MODEL, stop=("\n", "")), r"stop: expected texts, found \('\\n', ''\)"),
    (lambda: Responder("a", MODEL, style="poem"), "unknown prompt style 'poem'; choose from"),
    (lambda: Responder("a", MODEL, protocol="x"), "unknown protocol 'x'; choose from: text, tools"),
    (
        lambda: answer(load_source("sample", split="train"), MODEL, examples=-1),
        "examples must be an integer of at least 0, found -1",
    ),
    (lambda: answer(load_source("sample", split="train"), MODEL, style="poem"), "unknown prompt style 'poem'"),
    (lambda: propose_calls(graded(), MODEL, attempts=0), "attempts must be an integer of at least 1, found 0"),
    (lambda: build_stage1(graded(), ANNOTATIONS, attempts=0), "attempts must be an integer of at least 1, found 0"),
    (lambda: build_stage1(graded(), MODEL, attempts=ANY("3")), "attempts must be an integer of at least 1, found '3'"),
    (lambda: build_stage1(graded(), ANY(None)), "teacher: expected ANNOTATIONS or an EngineSpec, found NoneType"),
    (lambda: grade(graded(), threshold=ANY("half")), "threshold must be a number above 0, up to 1, found 'half'"),
    (lambda: Responder(ANY(3), MODEL), "3 cannot be the name of a responder"),
    (lambda: Responder("a", MODEL, stop=ANY(3)), "stop: expected texts, found 3"),
    (lambda: Responder("a", MODEL, examples=ANY("4")), "examples must be an integer of at least 0, found '4'"),
    (lambda: warm_up(CLONED, LOCAL, style="poem"), "unknown prompt style 'poem'"),
    (lambda: warm_up(CLONED, LOCAL, steps=0), "steps must be an integer of at least 1, found 0"),
    (lambda: warm_up(CLONED, LOCAL, batch_size=0), "batch_size must be an integer of at least 1, found 0"),
    (lambda: warm_up(CLONED, LOCAL, learning_rate=-1), "learning_rate must be a number above 0, found -1"),
    (lambda: warm_up(CLONED, LOCAL, seed=ANY("x")), "seed must be an integer of at least 0, found 'x'"),
    (
        lambda: replace(TASKS["qa"], reader=ANY("gpt")),
        "the task 'qa': reader must be an EngineSpec or None, found 'gpt'",
    ),
    (lambda: replace(TASKS["qa"], reader_style="poem"), "unknown prompt style 'poem'"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_wrong_settings_are_errors_before_a_model_is_asked(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_all_teachers_are_checked_before_the_first_is_asked() -> None:
    def ask(request: Request) -> str:
        raise AssertionError("a model was asked")

    with pytest.raises(InputError, match="teacher: expected ANNOTATIONS or an EngineSpec, found str"):
        build_stage1(graded(), [scripted(ask), ANY("gpt")])


def test_one_stop_string_is_not_read_as_its_characters() -> None:
    assert Responder("a", MODEL, stop="\n\n").stop == ("\n\n",)  # type: ignore[arg-type]


def test_the_stop_strings_of_engine_and_responder_end_a_response() -> None:
    responder = Responder("a", replace(MODEL, stop=("Question:",)), stop=("\n\n",))
    graded_rows = graded()
    responded = respond(build_stage1(graded_rows, ANNOTATIONS), [responder])
    (spec,) = [r["settings"]["spec"] for r in lineage(responded) if r["step"] == "respond: a"]
    assert spec["stop"] == ["Question:", "\n\n"]


SHOTS = [("1+1?", "calculator(1+1)")]
PREAMBLE = "The following is an instruction for a task, with an input. Write a response that does what it asks."
OPENED = {
    "completion": "Do it.\n\nQuestion: 1+1?\nAnswer: calculator(1+1)\n\nQuestion: 2+3?\nAnswer: calculator(",
    "alpaca": f"{PREAMBLE}\n\n### Instruction:\nDo it.\n\n### Input:\n1+1?\n\n### Response:\ncalculator(1+1)\n\n"
    "### Instruction:\nDo it.\n\n### Input:\n2+3?\n\n### Response:\ncalculator(",
    "vicuna": f"{PREAMBLE}\n\n</s> Instruction:\nDo it.\n\n</s> Input:\n1+1?\n\n</s> Response:\ncalculator(1+1)\n\n"
    "</s> Instruction:\nDo it.\n\n</s> Input:\n2+3?\n\n</s> Response:\ncalculator(",
}


def multiply(value: float, factor: int = 2) -> float:
    """Multiplies.

    Args:
        value: A number.
        factor: Another.
    """
    return value * factor


@pytest.mark.parametrize("protocol", ["text", "tools"])
def test_the_whole_request_of_a_forced_call(protocol: str) -> None:
    calculator = TASKS["math"].tool
    schemas = (tool_schema(calculator),) if protocol == "tools" else ()
    for style, text in OPENED.items():
        responder = Responder("a", MODEL, style, protocol, force_call=True)
        assert render_request(responder, calculator, SHOTS, "Do it.", "2+3?") == build_request(text, schemas)
    forced, free = (Responder("a", MODEL, protocol=protocol, force_call=force) for force in (True, False))
    demand = "Do it. Respond with one call, {}, and nothing else."
    for tool, responder, instruction in (
        (calculator, free, "Do it."),
        (calculator, forced, demand.format("calculator(formula)")),
        (Tool.from_function(multiply), forced, demand.format("multiply(value, factor)")),
    ):
        request = render_request(responder, tool, SHOTS, "Do it.", "2+3?")
        roles = ("system", "user", "assistant", "user")
        texts = (instruction, "1+1?", "calculator(1+1)", "2+3?")
        assert request.messages == tuple(map(Message, roles, texts))
        assert request.tools == ((tool_schema(tool),) if protocol == "tools" else ())


ROWS = load_source("sample", split="train").select(range(2))
NO_TASK = "task: expected a Task, or a mapping of names to Tasks such as {'qa': qa}, found "
KINDS = "no_tools, other_tools, missing_argument, chat"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tasks_of(ROWS, ANY(5)), f"{NO_TASK}5"),
        (lambda: tasks_of(ROWS, ANY({"qa": 5})), f"{NO_TASK}{{'qa': 5}}"),
        (lambda: tasks_of(ROWS, ANY("qa")), f"{NO_TASK}'qa'"),
        (
            lambda: tasks_of(ROWS, {"maths": TASKS["math"]}),
            "unknown task in task= 'maths'; choose from: lama, math, mlqa, qa, retrieval",
        ),
        (lambda: respond(ROWS, ANY("x")), "responders: expected a list of Responder objects"),
        (
            lambda: respond(ROWS, [Responder(name, MODEL) for name in "bacab"]),
            "responders need distinct names; found twice: a, b",
        ),
        (lambda: evaluate(MODEL), "evaluate: expected either questions or benchmark="),
        (lambda: evaluate(MODEL, ROWS, benchmark="x"), "evaluate: expected either questions or benchmark="),
        (lambda: evaluate(MODEL, ANY([1])), "evaluate: expected one split, found a list"),
        (
            lambda: evaluate(MODEL, ROWS.map(lambda row: {"need": "harmed", "needs_tool": True})),
            "evaluate: the table has both columns need and needs_tool: remove one",
        ),
        (lambda: counterfactual(ANY([1]), MODEL), "counterfactual: expected one split, found a list"),
        (lambda: counterfactual(ROWS, ANY("m")), "counterfactual needs a model: expected an EngineSpec, found str"),
        *(
            (
                lambda threshold=threshold: counterfactual(ROWS, MODEL, threshold=threshold),
                f"threshold must be a number above 0 and below 1, found {threshold}",
            )
            for threshold in (0, 1, True, None)
        ),
        (
            lambda: without_tool(ROWS, kind="x"),
            "unknown kind 'x'; choose from: chat, missing_argument, no_tools, other_tools",
        ),
        (lambda: without_tool(ROWS, kind=[]), f"kind: expected one or several different kinds of {KINDS}, found []"),
        (
            lambda: without_tool(ROWS, kind=["chat", "chat"]),
            f"kind: expected one or several different kinds of {KINDS}, found ['chat', 'chat']",
        ),
        (lambda: without_tool(ROWS, kind="chat", seed=-1), "seed must be an integer of at least 0, found -1"),
    ],
)
def test_the_whole_message_of_a_wrong_argument(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        call()
    assert str(raised.value) == message


def test_the_tasks_of_a_table_without_rows_are_those_that_are_given() -> None:
    empty = ROWS.select([])
    assert tasks_of(empty, None) == {}
    assert tasks_of(empty, TASKS["qa"]) == tasks_of(empty, {"qa": TASKS["qa"]}) == {"qa": TASKS["qa"]}
    assert tasks_of(ROWS, None) == {"math": TASKS["math"]}
