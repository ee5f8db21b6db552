"""Results of slow tools: what is stored under which key, what stops a run, and the results of a tool with a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from toolrlef_data import Reply, Tool, scripted
from toolrlef_data.columns import RESPONSE
from toolrlef_data.engines.reply_store import open_store
from toolrlef_data.engines.spec import Request
from toolrlef_data.records import ToolResult, TooManyFailures
from toolrlef_data.tables.stage_cache import open_recorded, read_record
from toolrlef_data.tools.results import (
    CALL_COLUMNS,
    LOST,
    RESULT_COLUMNS,
    get_results,
    put_results,
    run_tool,
    stored_results,
    tool_identity,
    tool_key,
)
from toolrlef_data.tools.tool import ToolInput


def by_argument(prefix: str, inputs: Sequence[ToolInput]) -> list[ToolResult]:
    """Return two texts for each argument; fail for one that begins with "bad"."""
    return [
        ToolResult(error="http", detail=f"no {call.argument}")
        if call.argument.startswith("bad")
        else ToolResult((f"{prefix}{call.argument}", call.language))
        for call in inputs
    ]


def calls(good: int, bad: int) -> list[ToolInput]:
    return [ToolInput(f"bad{n}") for n in range(bad)] + [ToolInput(f"good{n}") for n in range(good)]


# A run stops for more than 10 failures and more than the share of the executed calls, counted over 200 or more.
@pytest.mark.parametrize(
    ("bad", "good", "max_failed", "stopped"),
    [
        (10, 0, 0.0, ""),
        (11, 0, 0.0, "11 of 11"),
        (11, 0, 0.2, "11 of 11"),  # at the end, the share of all calls
        (11, 44, 0.2, ""),  # exactly the share
        (11, 43, 0.2, "11 of 54"),
        (300, 0, 0.2, "41 of 41"),  # during the run, more than 40 of 200
        (300, 0, 0.1, "21 of 21"),
        (300, 0, 1.0, ""),
    ],
)
def test_the_failures_that_stop_a_run(bad: int, good: int, max_failed: float, stopped: str) -> None:
    tool = Tool("look", "Looks.", many=partial(by_argument, ""), batch=1, max_failed=max_failed)
    store, inputs = open_store(), calls(good, bad)
    if not stopped:
        assert run_tool(inputs, tool, "identity", store) == []
    else:
        with pytest.raises(TooManyFailures) as raised:
            run_tool(inputs, tool, "identity", store)
        failed, executed = map(int, stopped.split(" of "))
        assert str(raised.value) == (
            f"{stopped} calls of look failed (the limit is max_failed={max_failed}). All results are saved; run the same "
            f"command to execute the failed and remaining calls. Last failure:\n    http: no bad{failed - 1}"
        )
        assert stored_results(inputs[executed:], "identity", store) == dict.fromkeys(inputs[executed:], LOST)
        inputs = inputs[:executed]
    results = stored_results(inputs, "identity", store)
    assert [(call, results[call]) for call in inputs] == list(zip(inputs, by_argument("", inputs), strict=True))


def test_only_calls_without_a_final_result_are_executed_in_batches() -> None:
    executed: list[list[str]] = []

    def record(inputs: Sequence[ToolInput]) -> list[ToolResult]:
        executed.append([call.argument for call in inputs])
        return by_argument("", inputs)

    store, tool = open_store(), Tool("look", "Looks.", many=record, batch=3)
    for inputs in (calls(2, 1), calls(5, 1), calls(5, 1)):
        run_tool(inputs, tool, "identity", store)
    assert executed == [["bad0", "good0", "good1"], ["bad0"], ["good2", "good3", "good4"], ["bad0"]]


def prompt(argument: str, texts: tuple[str, ...]) -> str:
    return f"{argument} after {'|'.join(texts)}"


def other_prompt(argument: str, texts: tuple[str, ...]) -> str:
    return f"{argument} behind {'|'.join(texts)}"


def test_the_identity_covers_what_determines_a_result_and_nothing_else() -> None:
    base = Tool("look", "Looks.", many=partial(by_argument, ""), engine=scripted({"": "a"}), prompt=prompt)
    same: list[dict[str, Any]] = [
        *({"description": "Other."}, {"parameter": "x"}, {"batch": 3}, {"max_failed": 1.0}),
        {"engine": scripted({"": "a"}, progress=False)},
    ]
    assert {tool_identity(replace(base, **change)) for change in same} == {tool_identity(base)}
    others: list[dict[str, Any]] = [
        *({}, {"name": "find"}, {"version": "2"}, {"many": partial(by_argument, "x")}, {"many": None}),
        *({"engine": scripted({"": "b"})}, {"engine": scripted({"": "a"}, max_tokens=9)}, {"prompt": other_prompt}),
        {"engine": None, "prompt": None},
    ]
    assert len({tool_identity(replace(base, **change)) for change in others}) == len(others)


def test_the_key_of_a_result_covers_the_argument_its_language_and_the_tool() -> None:
    inputs = [ToolInput("x"), ToolInput("x", "de"), ToolInput("de", "x")]
    keys = {tool_key(identity, call) for identity in ("a", "b") for call in inputs}
    assert len(keys) == 6
    assert tool_key("a", ToolInput("x", "")) in keys


@pytest.mark.parametrize(
    "result",
    [
        *(ToolResult(text) for text in ("text \u00e9", "", "null", "[1]")),
        *(ToolResult(texts) for texts in (("one",), ("a", "b"), ())),
        *(ToolResult(number) for number in (3, 2.5)),
        ToolResult(error="no_result", detail="none"),
        ToolResult(error="my_kind"),
    ],
)
def test_a_stored_result_is_read_back(result: ToolResult) -> None:
    store = open_store()
    put_results(store, [("key", result), ("other", ToolResult("other"))])
    assert get_results(store, ["key", "missing"]) == {"key": result}


@pytest.mark.parametrize("error", ["timeout", "http", "unavailable", "crashed", "reader"])
def test_a_tool_failure_is_never_final(error: str) -> None:
    store, call, failure = open_store(), ToolInput("x"), ToolResult(error=error, detail="later")
    put_results(store, [(tool_key("i", call), failure)])
    assert get_results(store, [tool_key("i", call)]) == {}
    assert stored_results([call, ToolInput("y")], "i", store) == {call: failure, ToolInput("y"): LOST}
    put_results(store, [(tool_key("i", call), ToolResult("found"))])
    assert stored_results([call], "i", store) == {call: ToolResult("found")}


def test_a_result_that_was_deleted_during_the_run_is_a_tool_failure() -> None:
    message = "the result was deleted from the reply store during the run"
    assert stored_results([ToolInput("x")], "i", open_store()) == {ToolInput("x"): (None, "unavailable", message)}


def test_a_damaged_result_is_deleted() -> None:
    store = open_store()
    put_results(store, [("good", ToolResult("x"))])
    store.put([("bad", Reply("{no json"))])
    assert get_results(store, ["good", "bad"]) == {"good": ToolResult("x")}
    with store.reading() as connection:
        assert connection.execute("SELECT key FROM replies").fetchall() == [("good",)]


def test_the_columns_of_the_calls_of_a_model() -> None:
    assert {name: str(feature) for name, feature in (CALL_COLUMNS | RESULT_COLUMNS).items()} == {
        **dict.fromkeys(("id", "argument", "value", "error", "detail"), str(RESPONSE["text"])),
        **dict.fromkeys(("prompt_tokens", "completion_tokens"), str(RESPONSE["prompt_tokens"])),
        "texts": str(RESPONSE["predictions"]),
        "failed": "Value('bool')",
    }


REPLIES = {
    "good": Reply("  Oslo ", prompt_tokens=7, completion_tokens=2),
    "thinks": Reply("<think>Hm</think>Oslo", prompt_tokens=5, completion_tokens=4),
    "long": Reply("Oslo is", finish_reason="length"),
    "late": Reply("<think>Hm", finish_reason="length"),
    "silent": Reply(" "),
    "slow": Reply(None, error="timeout", error_detail="30 s"),
    "busy": Reply(None, error="rate_limit", error_detail="429"),
    "refused": Reply(None, error="refused", error_detail="policy"),
}
RESULTS = {
    "good": ToolResult("Oslo"),
    "thinks": ToolResult("Oslo"),
    "long": ToolResult("Oslo is"),
    "late": ToolResult(error="unavailable", detail="the reply reached max_tokens before it had any text"),
    "silent": ToolResult(error="no_result", detail="the reply is empty"),
    "slow": ToolResult(error="timeout", detail="timeout: 30 s"),
    "busy": ToolResult(error="unavailable", detail="rate_limit: 429"),
    "refused": ToolResult(error="unavailable", detail="refused: policy"),
}


def reply_to(request: Request) -> Reply:
    word, _, texts = (request.prompt or "").partition(" after ")
    return REPLIES[word] if texts in ("", f"see {word}|de") else Reply("other texts")


@pytest.mark.parametrize("searches", [True, False])
def test_the_reply_of_a_model_is_a_result_or_a_failure(searches: bool) -> None:
    """Its prompt has the texts of the search; the model is not asked after a search that failed."""
    engine = scripted(reply_to, progress=False, max_failed=1.0)
    tool = Tool("QA", "Answers.", many=partial(by_argument, "see ") if searches else None, engine=engine, prompt=prompt)
    expected = RESULTS | ({"bad": ToolResult(error="http", detail="no bad")} if searches else {})
    store, inputs = open_store(), [ToolInput(word, "de") for word in expected]
    (fingerprint,) = run_tool(iter(inputs), tool, "identity", store, "the table")
    assert stored_results(inputs, "identity", store) == {call: expected[call.argument] for call in inputs}
    answered = read_record(fingerprint) or {}
    assert (answered["step"], answered["rows_out"]) == ("QA", len(RESULTS))
    asked = read_record(answered["inputs"][0]) or {}
    assert (asked["step"], asked["inputs"], asked["rows_out"]) == ("calls of QA", ["the table"], len(RESULTS))
    assert answered["usage"] == {"model": "reply_to", "requests": 8, "prompt_tokens": 12, "completion_tokens": 6}
    rows = open_recorded(answered)
    assert [*rows.features] == [*CALL_COLUMNS, *RESULT_COLUMNS]
    assert rows["failed"][:] == [word in ("slow", "busy", "refused") for word in RESULTS]
