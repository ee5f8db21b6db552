"""Stage 2: how responses are parsed, executed and scored, and which rows are dropped."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, Features

from toolrlef_data import (
    InputError,
    Reply,
    Responder,
    Task,
    Tool,
    ToolError,
    build_stage2,
    execute,
    respond,
    score,
    scripted,
)
from toolrlef_data.columns import RESPONSE, STAGE1, STAGE2
from toolrlef_data.engines.responses import build_response
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import Score
from toolrlef_data.tables.lineage import ledger
from toolrlef_data.tasks.math import MATH


def stage1(count: int = 1, output: str = "calculator(3*19)", answer: str = "57") -> Dataset:
    rows = [
        {"instruction": MATH.instruction, "input": f"Question {i}: how much is 3 times 19?", "output": output, "id": str(i),
         "task": "math", "dataset": "sample", "answers": [answer], "uses_tool": None, "source": "teacher", "verified_by": "value"}
        for i in range(count)
    ]  # fmt: skip
    return Dataset.from_list(rows, features=STAGE1)


def candidates(gold: str, answer: str, **responses: str | Reply) -> Dataset:
    """Return a responded table without `respond`, as for a user's existing responses."""
    row = stage1(output=gold, answer=answer)[0]
    structs: dict[str, Any] = {"gold": build_response(None, text=gold)}
    for name, value in responses.items():
        structs[name] = build_response(value) if isinstance(value, Reply) else build_response(None, text=value)
    return Dataset.from_list([{**row, **structs}], features=Features({**STAGE1, **dict.fromkeys(structs, RESPONSE)}))


def quiet(script: Any, **settings: Any) -> EngineSpec:
    return scripted(script, progress=False, **settings)


def test_the_original_reference_row_is_reproduced() -> None:
    stage2 = build_stage2(
        candidates(
            "calculator(3*19)",
            "57",
            chatgpt="calculator(3*19)",
            davinci=" calculator(76/4*3)",
            vicuna="Jean has $76 / 3 = $<<76/3=25>>25",
            alpaca="Jean has $54.",
        )
    )
    assert stage2.features == STAGE2
    row = stage2[0]
    assert row["origin"] == ["gold", "chatgpt", "davinci", "vicuna", "alpaca"]
    assert row["scores"] == [20, 20, 20, 10, 15]
    assert row["answer"] == ["57.0", "57.0", "57.0", "25.0", "54.0"]
    assert row["responses"][2] == " calculator(76/4*3)", "responses are unchanged"
    assert row["query"] == f"{row['query'].splitlines()[0]}\nQuestion 0: how much is 3 times 19?"
    assert row["uses_tool"] == [True, True, True, False, False]
    assert row["tool_outputs"] == ["57", "57", "57.0", None, None]


@pytest.mark.parametrize(
    ("text", "field", "value", "why"),
    [
        ("calculator(3*19)", "correct", True, "a complete call"),
        ("calculator(3*19", "tool_error", "incomplete_call", "a truncated call is tool use"),
        ("calculator(3*19", "predictions", [], "a truncated call has no prediction"),
        ('{"name": "calculator", "arguments": {"formula": "57', "tool_error", "incomplete_call", "also in JSON"),
        ('{"name": "calculator", "arguments": {"formula": "57', "correct", False, "its numbers are no answer"),
        ('{"name": "calculator", "arguments": 5..7}', "tool_error", "unreadable_call", "a call that does not parse"),
        ("<function=calculator>57</function>", "tool", "calculator", "a tagged call that does not parse is tool use"),
        ('[TOOL_CALLS]calculator[ARGS]{"x": "3*19"}', "correct", True, "a call in a format of a model"),
        ("calculator(formula='3*19', digits=2)", "argument", "3*19", "the argument of the tool"),
        ("calculator(formula='3*19', digits=2)", "arguments", '{"formula": "3*19", "digits": 2}', "all arguments"),
        ("calculator(3*19", "arguments", None, "a truncated call has no arguments"),
        ("It is 57.", "arguments", None, "no call"),
        ("calculator(1/0)", "tool_error", "zero_division", "an error is an error kind, not 0.0"),
        ("calculator(1/0) so 57", "correct", False, "the call counts, not the text after it"),
        ("I used a calculator: 57", "tool", None, "the name alone is no tool use"),
        ("no idea", "predictions", [], "a text without a number has no prediction"),
        ("no idea", "correct", False, "a missing prediction is wrong"),
        ("calculator(data['answer'])", "correct", False, "model text is not evaluated as Python"),
        ("It is 57.001", "correct", True, "predictions and answers are rounded to 2 decimals"),
        ("first calculator(3*19) then calculator(1)", "n_calls", 2, "all calls are counted, the first is executed"),
        (
            "first calculator(3*19) then calculator(1)",
            "argument",
            "3*19",
            "all calls are counted, the first is executed",
        ),
    ],
)
def test_fields_of_an_executed_response(text: str, field: str, value: Any, why: str) -> None:
    executed = execute(candidates("calculator(3*19)", "57", a=text))
    assert executed[0]["a"][field] == value, why


def test_a_failed_call_is_not_scored_as_zero() -> None:
    """The original parses a failure as 0.0, which is correct if the gold answer is 0."""
    responses = {"a": "calculator(oops)", "b": "calculator(1-1)"}
    row = build_stage2(candidates("calculator(5-5)", "0", **responses))[0]
    assert (row["scores"], row["answer"], row["errors"]) == (
        [20, 0, 20],
        ["0.0", None, "0.0"],
        [None, "unknown_name", None],
    )
    compat = build_stage2(candidates("calculator(5-5)", "0", **responses), compat=True)[0]
    assert compat["answer"] == ["0.0", "0.0", "0.0"]
    assert compat["scores"] == [20, 15, 20], "ranked as wrong, by its distance"


def test_compat_looks_for_the_exact_name_of_the_tool() -> None:
    text = "[Calculator(3*19) -> 57] 57"
    assert build_stage2(candidates("calculator(3*19)", "57", a=text))[0]["scores"] == [20, 20]
    compat = build_stage2(candidates("calculator(3*19)", "57", a=text), compat=True)
    assert compat[0]["scores"] == [20, 15], "the original takes this for a response without a tool"


def test_compat_treats_any_mention_of_the_tool_as_tool_use() -> None:
    text = "I need no calculator: 57"
    assert build_stage2(candidates("The answer is 57.", "57", a=text))[0]["scores"] == [20, 20]
    row = build_stage2(candidates("The answer is 57.", "57", a=text), compat=True)[0]
    assert (row["uses_tool"], row["answer"]) == ([False, True], ["57.0", "0.0"])


def test_rows_that_cannot_be_scored_are_dropped() -> None:
    failed = candidates("calculator(3*19)", "57", a=Reply(None, error="timeout", error_detail="30 s"))
    stage2 = build_stage2(failed)
    assert len(stage2) == 0
    assert [(r["stage"], r["reason"], r["detail"]) for r in ledger([stage2])] == [
        ("stage2", "no_reply:timeout", '{"a": "no_reply:timeout"}')
    ]
    assert [r["reason"] for r in ledger([build_stage2(candidates("x", "many", a="7"))])] == ["answer_not_a_number"]


def unsure_of_five(prediction: str | None, answers: Sequence[str]) -> bool | None:
    return None if prediction == "5" else MATH.grade(prediction, answers)


def test_only_scores_that_need_a_grade_are_lost_if_it_is_unsure() -> None:
    task = replace(MATH, name="mine", grade=unsure_of_five)
    for gold in ("It is 5.", "calculator(3*19)"):
        table = candidates(gold, "57", chatgpt="It is 5.", davinci="It is 57.").map(lambda row: {"task": "mine"})
        row = build_stage2(table, task=task, trusted=("chatgpt",))[0]
        assert row["scores"] == ([20, 15, 20] if gold == "It is 5." else [20, 20, 15])
        assert row["correct"] == [None if gold == "It is 5." else True, None, True]
        dropped = ledger([build_stage2(table, task=task)])
        assert dropped["reason"][:] == ["unsure_grade"]
        assert json.loads(dropped["detail"][0]) == {"chatgpt": "unsure_grade"}


def test_an_answer_that_cannot_be_read_is_not_scored() -> None:
    table = candidates("calculator(3*19)", "57", a=r"It is \boxed{A}.", b="It is 57.", c="I do not know.")
    stage2 = build_stage2(table)
    assert [(r["reason"], r["detail"]) for r in ledger([stage2])] == [
        ("unreadable_answer", '{"a": "unreadable_answer"}')
    ]
    row = build_stage2(table, lacking="drop_response")[0]
    assert (row["origin"], row["scores"], row["correct"]) == (["gold", "b", "c"], [20, 15, 0], [True, True, False])
    trusted = build_stage2(table, trusted=("a",))[0]
    assert (trusted["scores"], trusted["correct"]) == ([20, 20, 15, 0], [True, None, True, False])
    original = build_stage2(table, compat=True)[0]
    assert (original["scores"], original["answer"]) == ([20, 10, 15, 5], ["57.0", "0.0", "57.0", "0.0"])


def test_a_tool_failure_drops_the_row() -> None:
    def down(argument: str) -> str:
        raise ToolError("timeout", "no answer in 10 s")

    def broken(argument: str) -> str:
        raise ZeroDivisionError("a bug of the tool")

    no_answer, bug = "timeout: no answer in 10 s", "crashed: ZeroDivisionError: a bug of the tool"
    for function, why, name in ((down, no_answer, "gold"), (down, no_answer, "a"), (broken, bug, "a")):
        task = replace(MATH, tool=Tool("calculator", "", function))
        texts = {"gold": "57", "a": "57", name: "calculator(3*19)"}
        stage2 = build_stage2(candidates(texts["gold"], "57", a=texts["a"]), task=task)
        assert [(r["reason"], json.loads(r["detail"])) for r in ledger([stage2])] == [
            (f"tool_fault:{why.partition(':')[0]}", {name: f"tool_fault:{why}"})
        ]
    with pytest.raises(ZeroDivisionError, match="a bug of the tool"):
        build_stage2(candidates("calculator(3*19)", "57", a="57"), task=task)


def test_a_custom_task_and_tool_in_another_language() -> None:
    def capital(argument: str) -> str:
        return {"Frankreich": "Paris"}[argument]

    def is_correct(prediction: str | None, answers: Sequence[str]) -> bool:
        return prediction is not None and any(a.lower() in prediction.lower() for a in answers)

    def render(row: Mapping[str, Any]) -> str:
        return str(row["question"])

    task = Task(
        name="hauptstadt",
        tool=Tool("nachschlagen", "Schlägt eine Hauptstadt nach.", capital, parameter="land"),
        instruction="Beantworte die Frage; du kannst nachschlagen.",
        plain_instruction="Beantworte die Frage.",
        teacher_instruction="Schreibe einen Aufruf.",
        extract=lambda text: text or None,
        grade=is_correct,
        ungradable_reason=lambda answers: None if answers else "no_answer",
        leaks=lambda argument, question, answers: False,
        render=render,
    )
    data = candidates("nachschlagen(Frankreich)", "Paris", a="Lyon", b="Es ist Paris.", c="nachschlagen(Mars)")
    data = data.map(lambda row: {"task": "hauptstadt"})
    row = build_stage2(data.remove_columns("c"), task=task)[0]
    assert (row["scores"], row["answer"]) == ([20, 10, 15], ["Paris", "Lyon", "Es ist Paris."])
    assert len(build_stage2(data, task=task)) == 0, "a crash of the tool drops the row"


# Responders -----------------------------------------------------------------------------------------------------------


def test_an_added_responder_is_a_column_and_the_only_one_with_requests() -> None:
    class Requests:
        models: list[str] = []  # noqa: RUF012

    def first(request: Request) -> str:
        Requests.models.append("first")
        return "57"

    def second(request: Request) -> str:
        Requests.models.append("second")
        return "calculator(3*19)"

    one = Responder("first", quiet(first))
    respond(stage1(3), [one])
    both = respond(stage1(3), [one, Responder("second", quiet(second))])
    assert Requests.models == ["first"] * 3 + ["second"] * 3
    assert both.column_names == [*STAGE1, "gold", "first", "second"]
    assert build_stage2(both)[0]["scores"] == [20, 15, 20]


def test_each_sample_is_a_column() -> None:
    def by_sample(request: Request) -> str:
        return f"calculator({request.sample}+56)"

    responded = respond(stage1(2), [Responder("poet", quiet(by_sample, temperature=1.0), samples=3)])
    assert responded.column_names[-3:] == ["poet.1", "poet.2", "poet.3"]
    assert build_stage2(responded)[0]["answer"] == ["57.0", "56.0", "57.0", "58.0"]


def test_native_tool_calls_are_rendered_as_text() -> None:
    native = Reply("", tool_calls=(("calculator", '{"formula": "3*19"}'),), finish_reason="tool_calls")
    hermes = '<tool_call>\n{"name": "calculator", "arguments": {"formula": "3*19"}}\n</tool_call>'
    other = Reply("", tool_calls=(("browser", '{"url": "file:///etc/passwd"}'),), finish_reason="tool_calls")

    class Schemas:
        sent: list[tuple[str, ...]] = []  # noqa: RUF012

    def script(request: Request) -> str | Reply:
        Schemas.sent.append(request.tools)
        number = int(request.messages[-1].content[9])
        return (native, hermes, other)[number]

    responded = respond(stage1(3), [Responder("model", quiet(script), protocol="tools")])
    texts = [row["model"]["text"] for row in responded]
    assert texts[:2] == ["calculator(3*19)", "calculator(3*19)"]
    assert "file:///etc/passwd" in texts[2], "a call of another function stays visible, and is a failed call"
    assert '"name": "calculator"' in Schemas.sent[0][0]
    assert build_stage2(responded)["errors"][:] == [[None, None], [None, None], [None, "unreadable_call"]]


def native_row(arguments: str, finish_reason: str = "tool_calls", name: str = "calculator", text: str = "") -> Any:
    """Return a row of stage 2, and the response of a model with one native call."""
    reply = Reply(text, tool_calls=((name, arguments),), finish_reason=finish_reason)
    executed = execute(respond(stage1(), [Responder("model", quiet([reply]), protocol="tools")]))
    return score(executed)[0], executed[0]["model"]


@pytest.mark.parametrize(
    ("arguments", "argument", "why"),
    [
        ('{"formula": "3*19", "unit": "$"}', "3*19", "the tool's parameter among several arguments"),
        ("{'formula': '3*19'}", "3*19", "a Python literal"),
        ('{"formula": "3*19"}}', "3*19", "a superfluous bracket"),
        ('"{\\"formula\\": \\"3*19\\"}"', "3*19", "arguments wrapped twice"),
        ("3*19", "3*19", "the bare argument"),
        ('{"formula": "\\"3*19\\""}', '"3*19"', "quotes are part of the argument"),
        ('{"formula": "(3*19"}', "(3*19", "an unpaired parenthesis"),
        ('{"formula": "formula=57"}', "formula=57", "a keyword"),
        ('{"formula": "3*19 \\ud83d"}', "3*19 \ufffd", "an unpaired surrogate is replaced"),
    ],
)
def test_a_native_call_is_executed_with_its_argument(arguments: str, argument: str, why: str) -> None:
    row, response = native_row(arguments)
    assert (response["argument"], response["n_calls"], row["uses_tool"]) == (argument, 1, [True, True]), why
    assert response["arguments"] is not None
    if '"unit"' in arguments:
        assert response["arguments"] == arguments, "also those that the text does not contain"


@pytest.mark.parametrize(
    ("arguments", "finish_reason", "error"),
    [
        ('{"formula": "57', "stop", "incomplete_call"),
        ('{"a": "57", "b": "1"}', "tool_calls", "unreadable_call"),
        ("{57}", "tool_calls", "unreadable_call"),
        ("", "tool_calls", "unreadable_call"),
        ('{"formula": ""}}</tool_call>calculator(57)', "tool_calls", "unreadable_call"),
    ],
)
def test_an_unreadable_native_call_is_a_failed_call(arguments: str, finish_reason: str, error: str) -> None:
    row, response = native_row(arguments, finish_reason)
    assert (row["scores"], row["errors"], row["uses_tool"]) == ([20, 0], [None, error], [True, True])
    assert arguments in response["text"] or arguments in response["text"].replace('\\"', '"')
    assert (response["raw"], response["arguments"]) == ("", None)


def test_a_native_call_that_is_cut_off_is_no_response() -> None:
    """Its arguments can be valid JSON by chance."""
    reply = Reply("", tool_calls=(("calculator", '{"formula": "3*19"}'),), finish_reason="length")
    response = execute(respond(stage1(), [Responder("model", quiet([reply]), protocol="tools")]))[0]["model"]
    assert (response["text"], response["error"], response["n_calls"]) == (None, "cut_off", None)


def test_a_native_call_of_another_function_beside_an_answer_is_ignored() -> None:
    assert native_row('{"url": "x"}', name="browser", text="It is 57.")[1]["predictions"] == ["57"]
    assert native_row('{"formula": "1+', text="It is 57.")[1]["tool_error"] == "incomplete_call"


def test_one_invalid_response_does_not_affect_the_other_rows() -> None:
    """Unpaired surrogates in the arguments of calls, in the forms that models write."""
    hermes = '<tool_call>{"name": "calculator", "arguments": {"formula": "7*8 \\ud83d"}}</tool_call>'
    encoded = '{"name":"calculator","arguments":"{\\"formula\\": \\"6/2\\\\ud83d\\"}"}'
    texts = [hermes, encoded, 'calculator({"formula": "9-4\\ud83d"})', "calculator(3*19)"]

    def script(request: Request) -> str:
        return texts[int(request.messages[-1].content[9])]

    stage2 = build_stage2(respond(stage1(4), [Responder("model", quiet(script))]))
    assert [row["errors"][1] for row in stage2] == ["syntax", "syntax", "syntax", None]
    assert [row["scores"][1] for row in stage2] == [0, 0, 0, 20]


def test_tables_without_the_column_arguments_are_executed() -> None:
    """As published by earlier versions; other columns and the scores stay the same."""
    table = candidates("calculator(3*19)", "57", a='{"name": "calculator", "arguments": {"x": "1+1"}}', b="It is 57.")
    older = {name: feature for name, feature in RESPONSE.items() if name != "arguments"}
    features = Features({**STAGE1, **dict.fromkeys("ab", older), "gold": older})
    rows = [
        {name: {k: value[k] for k in older} if isinstance(value, dict) else value for name, value in row.items()}
        for row in table
    ]
    published = Dataset.from_list(rows, features=features)
    assert "arguments" not in published[0]["a"]
    executed = execute(published)
    assert executed[0]["a"]["arguments"] == '{"x": "1+1"}'
    assert executed.features["a"] == executed.features["gold"] == RESPONSE
    assert build_stage2(published)[0] == build_stage2(table)[0]
    both = DatasetDict({"train": published, "test": published})
    assert build_stage2(both)["test"][0] == build_stage2(table)[0]


def test_reasoning_is_stored_and_not_parsed() -> None:
    responded = respond(stage1(), [Responder("r1", quiet(["<think>calculator(1+1)? No.</think>calculator(3*19)"]))])
    response = execute(responded)[0]["r1"]
    assert (response["reasoning"], response["text"]) == ("calculator(1+1)? No.", "calculator(3*19)")
    assert (response["argument"], response["n_calls"]) == ("3*19", 1)


def test_only_styles_without_an_adapter_have_few_shot_examples() -> None:
    class Prompts:
        sent: list[str] = []  # noqa: RUF012

    def script(request: Request) -> str:
        Prompts.sent.append(request.prompt)
        return "57"

    respond(stage1(), [Responder("completion", quiet(script), style="completion")])
    respond(stage1(), [Responder("alpaca", quiet(script), style="alpaca")])
    respond(stage1(), [Responder("vicuna", quiet(script), style="vicuna")])
    completion, alpaca, vicuna = Prompts.sent
    assert completion.count("calculator(") == 4
    assert "### Response:" in alpaca
    assert "</s> Response:" in vicuna
    assert "calculator(" not in alpaca + vicuna


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Responder("gold", quiet(["1"])), "'gold' cannot be the name of a responder"),
        (lambda: Responder("input", quiet(["1"])), "'input' cannot be the name of a responder"),
        (lambda: Responder("a.b", quiet(["1"])), "without dots"),
        (lambda: Responder("a", quiet(["1"]), style="llama"), "unknown prompt style 'llama'; choose from: alpaca, chat"),
        (lambda: Responder("a", quiet(["1"]), protocol="mcp"), "unknown protocol 'mcp'; choose from: text, tools"),
        (lambda: respond(stage1(), [Responder("a", quiet(["1"]))] * 2), "responders need distinct names; found twice: a"),
        (lambda: build_stage2(stage1()), "a responder column named gold; found: no responder column"),
        (lambda: respond(stage1(), Responder("a", quiet(["1"]))), "a list of Responder objects"),  # type: ignore[arg-type]
        (lambda: respond(respond(stage1(), []), []), "already has the columns gold"),
        (lambda: score(respond(stage1(), [])), "are not executed: run `execute` first"),
        (lambda: build_stage2(candidates("1", "1", a="1"), rule=one_score), "1 scores; expected a list of 2"),
    ],
)  # fmt: skip
def test_wrong_input_raises(make: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"rule": "best"}, "unknown scoring rule 'best'; choose from: cost, paper, trice"),
        ({"rule": None}, "rule: expected a name or a scoring function, found None"),
        ({"sort": 1}, "unknown option of the rule trice: 'sort'; choose from: levels, missing"),
        ({"rule": "paper", "ties": "share"}, "unknown option of the rule paper: 'ties'"),
        ({"ties": "best"}, "unknown ties 'best'; choose from: order, share"),
        ({"missing": None}, "unknown missing None; choose from: zero, wrong"),
        ({"levels": ()}, "needs at least three levels"),
        ({"levels": 3}, "levels: expected numbers from best to worst, found 3"),
        ({"levels": (3, 2, "1")}, r"levels: expected numbers from best to worst, found \(3, 2, '1'\)"),
        ({"rule": "paper", "levels": (3, 2, 1)}, "needs five levels, found 3"),
        ({"trusted": ["gpt"]}, "unknown trusted responder 'gpt'; choose from: gold"),
        ({"trusted": "gold"}, "trusted: expected a list of responders, found 'gold'"),
        ({"trusted": 3}, "trusted: expected a list of responders, found 3"),
        ({"lacking": "drop"}, "unknown value of lacking: 'drop'; choose from: drop_response, drop_row"),
    ],
)
def test_wrong_settings_of_the_score_raise_before_a_tool_runs(setting: dict[str, Any], words: str) -> None:
    calls: list[str] = []

    def count(argument: str) -> int:
        calls.append(argument)
        return 57

    task = replace(MATH, tool=Tool("calculator", "", count))
    with pytest.raises(InputError, match=words):
        build_stage2(candidates("calculator(3*19)", "57"), task=task, **setting)
    assert not calls


def one_score(candidates: Any, *, numeric: bool, trusted: Sequence[str] = ()) -> list[Score]:
    return [Score("gold", 20.0, "gold")]


def test_calls_of_an_unavailable_tool_are_retried(tmp_path: Path) -> None:
    up = tmp_path / "up"

    def flaky(argument: str) -> int:
        if not up.exists():
            raise ToolError("http", "503")
        return 57

    task = replace(MATH, tool=Tool("calculator", "", flaky))
    data = candidates("calculator(3*19)", "57", a="57")
    down = build_stage2(data, task=task)
    assert [row["reason"] for row in ledger([down])] == ["tool_fault:http"]
    up.touch()
    assert build_stage2(data, task=task)[0]["scores"] == [20, 15]


@pytest.mark.parametrize(("value", "predictions", "error"), [(("9", "57"), ["9", "57"], None), ("57", ["57"], None), (None, [], "crashed"), (float("nan"), [], "crashed"), (True, [], "crashed")])  # fmt: skip
def test_predictions_of_each_type_of_tool_value(value: Any, predictions: list[str], error: str | None) -> None:
    task = replace(MATH, tool=Tool("calculator", "", functools.partial(return_value, value)))
    response = execute(candidates("calculator(x)", "57", a="1"), task=task)[0]["gold"]
    assert (response["predictions"], response["tool_error"]) == (predictions, error)
    assert response["correct"] is (None if error else True)


def return_value(value: Any, argument: str) -> Any:
    return value


def test_a_call_can_name_the_parameter_of_a_custom_tool() -> None:
    task = replace(MATH, name="mine", tool=Tool("rufe", "", len, parameter="wort"))
    table = candidates("rufe(wort=abc)", "3", a='{"name": "rufe", "arguments": {"wort": "ab", "n": 1}}')
    executed = execute(table.map(lambda row: {"task": "mine"}), task=task)
    assert [executed[0][name]["predictions"] for name in ("gold", "a")] == [["3"], ["2"]]


def test_text_around_a_call_stays_if_tools_are_native() -> None:
    text = "First calculator(1+2)=3. The answer is 3."
    responded = respond(stage1(), [Responder("model", quiet([text]), protocol="tools")])
    assert responded[0]["model"]["text"] == text


def test_another_rule_scores_without_execution() -> None:
    class Runs:
        count = 0

    def counting(argument: str) -> float:
        Runs.count += 1
        return 57

    task = replace(MATH, tool=Tool("calculator", "", counting))
    executed = execute(candidates("calculator(3*19)", "57", a="57"), task=task)
    by_trice, by_paper = (score(executed, rule=rule, task=task)[0]["scores"] for rule in ("trice", "paper"))
    assert (by_trice, by_paper, Runs.count) == ([20, 15], [20, 10], 1)


@pytest.mark.parametrize("answers", [["57", "10"], ["10", "57"]])
def test_wrong_predictions_are_ranked_by_the_nearest_gold_answer_or_in_compat_by_the_first(answers: list[str]) -> None:
    table = candidates("calculator(3*19)", "57", a="It is 12.", b="It is 50.").map(lambda row: {"answers": answers})
    assert build_stage2(table)[0]["scores"] == [20, 15, 10], "12 is two from 10, and 50 is seven from 57"
    compat = build_stage2(table, compat=True)[0]["scores"]
    assert compat == ([20, 10, 15] if answers[0] == "57" else [20, 15, 10])
