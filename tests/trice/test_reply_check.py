"""A reply that was cut off or is empty is no response: never graded, never scored, never a target."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from tests.support.api_server import ApiServer, completion, error
from toolrlef_data import (
    ANNOTATIONS,
    TASKS,
    EngineSpec,
    InputError,
    Limits,
    Reply,
    Responder,
    answer,
    build_stage1,
    build_stage2,
    execute,
    grade,
    ledger,
    load_source,
    publish,
    respond,
    score,
    scripted,
)
from toolrlef_data.cli.main import _print_run
from toolrlef_data.engines.responses import build_response
from toolrlef_data.publishing.card.row_facts import score_table
from toolrlef_data.recipes.runner import Run
from toolrlef_data.records import CapReached, TooManyFailures, UnknownName
from toolrlef_data.trice.reply_check import ACCEPT_CUT, check_accept_cut, check_reply

LIMIT: dict[str, Any] = {"finish_reason": "length"}


def quiet(script: Any, **settings: Any) -> EngineSpec:
    return replace(scripted(script, progress=False), **settings)


def questions(n: int = 3) -> Dataset:
    return load_source("sample", split="train").select(range(n))


def reasons(table: Dataset) -> Counter[str]:
    return Counter(row["reason"] for row in ledger([table]))


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply("It is 8.", **LIMIT), "cut_off"),  # the last number is not a marked answer
        (Reply("5+3=8 and then", **LIMIT), "cut_off"),
        (Reply("the answer is 5", **LIMIT), "cut_off"),  # the number may be unfinished
        (Reply("The answer is 54. Let me check", **LIMIT), None),
        (Reply("So \\boxed{54} and", **LIMIT), None),
        (Reply("18+36\n#### 54\nNow", **LIMIT), None),
        (Reply("calculator(36+18) and then", **LIMIT), None),
        (Reply("calculator(36+18", **LIMIT), "cut_off"),
        (Reply("<think>36 and", **LIMIT), "cut_off"),
        (Reply("<think>36 and"), "empty"),
        (Reply("", reasoning="36 and", **LIMIT), "cut_off"),
        (Reply("", reasoning="36 and 18"), "empty"),
        (Reply(" \n\t"), "empty"),
        (Reply(""), "empty"),
        (Reply("\u200b\ufeff"), "empty"),
        (Reply("<|im_end|>"), "empty"),
        (Reply("5+3=8. The answer is yes. The", **LIMIT), "cut_off"),  # no number
        (Reply("It is 8."), None),
        (Reply(None, error="timeout"), "timeout"),
    ],
    ids=lambda value: repr(value.text if isinstance(value, Reply) else value),
)
def test_the_error_of_a_reply(reply: Reply, expected: str | None) -> None:
    response = check_reply(build_response(reply), TASKS["math"], ACCEPT_CUT, 24)
    assert response["error"] == expected
    assert (response["text"] is None) == (expected is not None)
    assert response["raw"] == reply.text
    if expected == "cut_off":
        assert "max_tokens=24" in response["error_detail"]


@pytest.mark.parametrize(
    ("text", "is_response"),
    [
        ("<think>36 and", False),
        ("<think>\\boxed{54} calculator(36+18)", False),  # complete marks, but in reasoning
        ("[THINK]36 and", False),
        ("<|channel|>analysis<|message|>36 and", False),
        ("<think>36 and 18</think> \n", False),
        ("36 and 18</think>", False),
        ("<think>36 and 18</think>\\boxed{54} is", True),
        ("So <think> is a tag. \\boxed{54} is", True),
    ],
)
@pytest.mark.parametrize("finish_reason", ["stop", "length"])
def test_reasoning_alone_is_no_response_even_if_it_is_kept(text: str, is_response: bool, finish_reason: str) -> None:
    reply = Reply(text, finish_reason=finish_reason)
    answered = answer(questions(1), quiet({"": reply}), strip_reasoning=False)
    response = respond(
        build_stage1(grade(answer(questions(1), quiet({"": "0"}))), ANNOTATIONS),
        [Responder("a", quiet({"": reply}), strip_reasoning=False)],
    )["a"][0]
    lost = "cut_off" if finish_reason == "length" else "empty"
    for found in (answered["response"][0], response):
        assert found["error"] == (None if is_response else lost)
        assert (found["text"] is not None) == is_response
        assert is_response or "reasoning alone" in found["error_detail"]
        assert not is_response or found["text"].startswith(text.split("\\")[0]), "the reasoning is kept"


@pytest.mark.parametrize(
    ("accept_cut", "expected"),
    [((), ["cut_off", "cut_off"]), (("call",), [None, "cut_off"]), (("marked",), ["cut_off", None])],
)
def test_accept_cut_selects_the_accepted_replies(accept_cut: tuple[str, ...], expected: list[str | None]) -> None:
    texts = {"36 bowls": Reply("calculator(36+18) and", **LIMIT), "": Reply("\\boxed{8} and", **LIMIT)}
    answered = answer(questions(2), quiet(texts), accept_cut=accept_cut)
    assert [row["response"]["error"] for row in answered] == expected


def test_a_marked_answer_is_the_end_of_the_response() -> None:
    reply = Reply("36+18=54. The answer is 54. To check, 54-36 = 1", **LIMIT)
    (row,) = grade(answer(questions(1), quiet({"": reply})))
    assert (row["response"]["text"], row["prediction"]) == ("36+18=54. The answer is 54.", "54")
    assert row["correct"]


def test_unknown_values_are_refused() -> None:
    with pytest.raises(UnknownName, match=r"accept_cut.*'calls'.*call, marked"):
        answer(questions(), quiet({"": "8"}), accept_cut=["calls"])
    with pytest.raises(InputError, match=r"accept_cut.*found the text 'call'"):
        answer(questions(), quiet({"": "8"}), accept_cut="call")
    nothing: Any = None
    with pytest.raises(InputError, match=r"accept_cut.*found None"):
        answer(questions(), quiet({"": "8"}), accept_cut=nothing)
    with pytest.raises(InputError, match=r"ask_again.*found None"):
        answer(questions(), quiet({"": "8"}), ask_again=nothing)
    assert check_accept_cut(["marked", "call", "call"]) == check_accept_cut({"call", "marked"}) == ("call", "marked")
    with pytest.raises(UnknownName, match=r"ask_again.*'timeout'"):
        answer(questions(), quiet({"": "8"}), ask_again={"timeout"})


@pytest.mark.parametrize(("reply", "kind"), [(Reply("5+3=8 and then", **LIMIT), "cut_off"), (Reply(" "), "empty")])
def test_such_replies_are_neither_graded_nor_targets(reply: Reply, kind: str) -> None:
    graded = grade(answer(questions(), quiet({"": reply}), accept_cut=ACCEPT_CUT))
    assert [(row["correct"], row["needs_tool"], row["pass_rate"]) for row in graded] == [(None, None, None)] * 3
    stage1 = build_stage1(graded, ANNOTATIONS)
    assert (len(stage1), reasons(stage1)) == (0, {kind: 3})
    compat = grade(answer(questions(), quiet({"": reply})), compat=True)
    assert [row["needs_tool"] for row in compat] == ([True, False, True] if kind == "cut_off" else [True] * 3)


def test_among_several_samples_only_responses_are_graded() -> None:
    def script(request: Any) -> Reply:
        return Reply("and then", **LIMIT) if request.sample == 0 else Reply("It is 54.")

    answered = answer(questions(1), quiet(script, temperature=1.0), samples=3)
    (row,) = grade(answered)
    assert (row["pass_rate"], row["correct"], row["response"]["text"]) == (1.0, True, "It is 54.")
    (row,) = grade(answer(questions(2).select([1]), quiet(script, temperature=1.0), samples=3))
    assert (row["pass_rate"], row["correct"], row["response"]["text"]) == (0.0, False, "It is 54.")


def test_a_teachers_reply_without_a_response_is_rejected_with_its_kind() -> None:
    graded = grade(answer(questions(1), quiet({"": "It is 0."})))
    teacher = quiet({"": Reply("calculator(36+36/", **LIMIT)}, temperature=0.5)
    stage1 = build_stage1(graded, teacher, attempts=2)
    assert [(row["reason"], row["detail"]) for row in ledger([stage1])] == [
        ("cut_off", "cut_off: calculator(36+36/; cut_off: calculator(36+36/")
    ]
    complete = quiet({"": Reply("calculator(36+36/2) is", **LIMIT)})
    assert build_stage1(graded, complete)["output"][:] == ["calculator(36+36/2)"]
    assert len(build_stage1(graded, complete, attempts=1, accept_cut=())) == 0


def candidates(**replies: Reply) -> Dataset:
    stage1 = build_stage1(grade(answer(questions(2), quiet({"": "It is 0."}))), ANNOTATIONS)
    return respond(stage1, [Responder(name, quiet({"": reply})) for name, reply in replies.items()])


@pytest.mark.parametrize("arguments", ['{"formula": "36+1', '{"formula": "36+18"}'])
def test_a_native_call_at_the_token_limit_is_cut_off(arguments: str) -> None:
    """Also arguments that are complete JSON could have been longer; an earlier call of the reply is complete."""
    stage1 = build_stage1(grade(answer(questions(1), quiet({"": "It is 0."}))), ANNOTATIONS)
    cut = Reply("", tool_calls=(("calculator", arguments),), **LIMIT)
    first = replace(cut, tool_calls=(("calculator", '{"formula": "9*6"}'), *cut.tool_calls))
    models = [Responder(name, quiet({"": reply}), protocol="tools") for name, reply in (("cut", cut), ("first", first))]
    (row,) = respond(stage1, models)
    assert (row["cut"]["error"], row["cut"]["text"]) == ("cut_off", None)
    assert (row["first"]["error"], row["first"]["text"]) == (None, "calculator(9*6)")


def test_stage2_drops_the_row_or_the_response() -> None:
    table = candidates(right=Reply("calculator(36+18)"), cut=Reply("It is 5", **LIMIT), other=Reply("It is 8."))
    rows = build_stage2(table)
    assert len(rows) == 0
    assert [(row["reason"], json.loads(row["detail"])) for row in ledger([rows])] == [
        ("cut_off", {"cut": "cut_off"})
    ] * 2
    responses = build_stage2(table, lacking="drop_response")
    assert responses["origin"][:] == [["gold", "right", "other"]] * 2
    assert [len(row[name]) for row in responses for name in ("scores", "correct", "finish_reasons", "errors")] == [
        3
    ] * 8
    assert responses["correct"][0] == [True, True, False]
    assert build_stage2(table, compat=True)["origin"][:] == [["gold", "right", "cut", "other"]] * 2
    with pytest.raises(UnknownName, match=r"lacking.*drop_response, drop_row"):
        build_stage2(table, lacking="keep")


def test_drop_response_needs_two_other_responses() -> None:
    table = candidates(cut=Reply("It is 5", **LIMIT), empty=Reply(""), other=Reply("It is 8."))
    stage2 = build_stage2(table, lacking="drop_response")
    assert len(stage2) == 0
    assert json.loads(ledger([stage2])[0]["detail"]) == {"cut": "cut_off", "empty": "empty"}


def test_a_row_without_gold_is_dropped_whatever_else_it_has() -> None:
    executed = execute(candidates(right=Reply("calculator(36+18)"), other=Reply("It is 8."), more=Reply("It is 9.")))
    failed = executed.map(lambda row: {"gold": {**row["gold"], "tool_error": "timeout", "correct": None}})
    stage2 = score(failed, lacking="drop_response")
    assert len(stage2) == 0
    assert json.loads(ledger([stage2])[0]["detail"]) == {"gold": "tool_fault:timeout"}


def test_the_card_has_the_share_of_lost_rows(tmp_path: Path) -> None:
    table = candidates(right=Reply("calculator(36+18)"), cut=Reply("It is 5", **LIMIT), other=Reply("It is 8."))
    for lacking, expected in (
        ("drop_response", {"gold": 0.0, "right": 0.0, "other": 0.0, "cut": 1.0}),
        ("drop_row", {"cut": 1.0}),
    ):
        stage2 = build_stage2(table, lacking=lacking)
        records = score_table({"stage2": {"train": stage2}, "stage2-dropped": {"train": ledger([stage2])}})
        shares = {record["name"]: record["lost"] / (record["rows"] + record["lost"]) for record in records}
        assert shares == expected
    script = {"36 bowls": Reply("It is 54."), "": Reply("It is", **LIMIT)}
    stage1 = build_stage1(grade(answer(questions(2), quiet({"": "It is 0."}))), ANNOTATIONS)
    stage2 = build_stage2(respond(stage1, [Responder("half", quiet(script)), Responder("all", quiet({"": "57"}))]))
    card = (publish({"math": {"stage2": stage2}}, tmp_path / "out", version="1.0.0") / "README.md").read_text()
    assert "| half | 1 | 50.0 % |" in card
    assert "| all | 1 | 0.0 % |" in card
    stage2 = build_stage2(table, lacking="drop_response")
    card = (publish({"math": {"stage2": stage2}}, tmp_path / "dropped", version="1.0.0") / "README.md").read_text()
    assert "| cut | 0 | 100.0 % | none | none | none | none | none |" in card, (
        "no response of this responder is in the table"
    )


def test_the_screen_has_the_share_of_a_responder_that_lost_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    graded = grade(answer(questions(1), quiet({"": r"\boxed{A}"})))
    table = candidates(right=Reply("calculator(36+18)"), cut=Reply("It is 5", **LIMIT), other=Reply("It is 8."))
    stage1, stage2 = build_stage1(graded, ANNOTATIONS), build_stage2(table, lacking="drop_response")
    _print_run(Run(questions(1), graded, stage1, stage2, tmp_path))
    lines = [re.split(r"[^\w.%]{2,}", line) for line in capsys.readouterr().out.splitlines()]
    assert ["cut", "100 %", "none", "none"] in [line[1:5] for line in lines]
    assert ["", "not graded", "1", ""] in lines
    assert ["", "stage1", "unreadable_answer", "1", ""] in lines


def test_the_warning_of_lost_replies_counts_every_sample(caplog: pytest.LogCaptureFixture) -> None:
    model = quiet(lambda request: Reply("and", **(LIMIT if request.sample else {})), temperature=1.0, max_tokens=7)
    answer(questions(2), model, samples=4)
    assert "student: 6 of 8 replies are no responses (6 cut_off): raise max_tokens above 7" in caplog.text


def test_many_lost_replies_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        answer(questions(2), quiet({"36 bowls": Reply("and", **LIMIT), "": "8"}, max_tokens=7))
    assert "student: 1 of 2 replies are no responses (1 cut_off): raise max_tokens above 7" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        answer(questions(6), quiet({"36 bowls": Reply("and", **LIMIT), "": "8"}))
    assert caplog.text == ""


def test_cut_replies_do_not_count_as_failed_requests() -> None:
    answered = answer(questions(), quiet({"": Reply("and", **LIMIT)}, max_failed=0.0))
    assert [row["response"]["error"] for row in answered] == ["cut_off"] * 3


# Replies that are requested again --------------------------------------------------------------------------------------


class Served:
    """A server whose replies the test changes, and the stage `answer` on it."""

    def __init__(self) -> None:
        self.reply: Callable[[str], Any] = lambda text: completion("5+3=8 and then", finish_reason="length")
        self.server = ApiServer(lambda received, seen: self.reply(received.body["messages"][-1]["content"]))

    def __enter__(self) -> Served:
        self.server.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        self.server.__exit__(*details)

    def answer(self, n: int = 3, **options: Any) -> tuple[list[str | None], int]:
        """Return the errors of the rows, and the number of requests."""
        before = len(self.server.requests)
        spec = EngineSpec("openai_api", "served", base_url=self.server.url, progress=False, max_failed=1.0, retries=0)
        answered = answer(questions(n), spec, **options)
        grades = grade(answered)["correct"][:]
        assert [grade is None for grade in grades] == [row["response"]["error"] is not None for row in answered]
        return [row["response"]["error"] for row in answered], len(self.server.requests) - before


def test_ask_again_sends_exactly_the_requests_with_that_error() -> None:
    with Served() as served:
        served.reply = lambda text: (
            completion("and then", finish_reason="length") if "36 bowls" in text else completion("It is 8.")
        )
        assert served.answer() == (["cut_off", None, None], 3)
        assert served.answer() == (["cut_off", None, None], 0)
        served.reply = lambda text: completion("It is 54.")
        assert served.answer(ask_again={"bad_request"}) == (["cut_off", None, None], 0)
        assert served.answer(ask_again={"cut_off"}) == ([None, None, None], 1)
        assert served.answer() == ([None, None, None], 0)
        assert served.answer(ask_again={"cut_off"}) == ([None, None, None], 0)


def test_all_stages_with_a_reply_that_was_requested_again_have_the_new_one() -> None:
    """Also those with other settings or other rows, whose results are cached."""
    with Served() as served:
        assert served.answer(3) == (["cut_off"] * 3, 3)
        assert served.answer(2, accept_cut=()) == (["cut_off"] * 2, 0)
        assert served.answer(1, examples=1) == (["cut_off"], 1)
        served.reply = lambda text: completion("It is 54.")
        assert served.answer(1, ask_again={"cut_off"}) == ([None], 1)
        assert served.answer(3) == ([None, "cut_off", "cut_off"], 0)
        assert served.answer(2, accept_cut=()) == ([None, "cut_off"], 0)
        assert served.answer(1, examples=1) == (["cut_off"], 0)
        assert served.answer(3, ask_again={"cut_off"}) == ([None] * 3, 2)
        assert served.answer(2, accept_cut=()) == ([None] * 2, 0)


def test_a_run_that_stopped_while_it_asked_again_is_resumed() -> None:
    with Served() as served:
        assert served.answer(3) == (["cut_off"] * 3, 3)
        spec = EngineSpec("openai_api", "served", base_url=served.server.url, progress=False, max_failed=1.0, retries=0)
        served.reply = lambda text: completion("It is 54.")
        with pytest.raises(CapReached):
            answer(questions(3), replace(spec, limits=Limits(max_requests=1)), ask_again={"cut_off"})
        assert served.answer(3) == ([None] * 3, 3)


def test_a_request_that_fails_again_is_sent_by_the_next_run() -> None:
    with Served() as served:
        assert served.answer(1) == (["cut_off"], 1)
        served.reply = lambda text: error(503, "overloaded", "later")
        assert served.answer(1, ask_again={"cut_off"}) == (["server"], 1)
        served.reply = lambda text: completion("It is 54.")
        assert served.answer(1) == ([None], 1)
        assert served.answer(1) == ([None], 0)


def test_final_failures_are_requested_again() -> None:
    with Served() as served:
        served.reply = lambda text: (
            error(400, "context_length_exceeded", "the prompt is too long") if "36" in text else completion("It is 8.")
        )
        assert served.answer() == (["too_long", None, None], 3)
        served.reply = lambda text: completion("It is 54.")
        assert served.answer() == (["too_long", None, None], 0)
        assert served.answer(ask_again={"too_long"}) == ([None, None, None], 1)


@pytest.mark.parametrize("status", [400, 404])
def test_rejections_of_a_server_that_has_not_replied_are_never_final(status: int) -> None:
    with Served() as served:
        served.reply = lambda text: error(status, None, "tools need another option of the server")
        assert served.answer() == (["rejected"] * 3, 3)
        served.reply = lambda text: completion("It is 54.")
        assert served.answer() == ([None] * 3, 3)


def test_rejected_requests_count_as_failed() -> None:
    with ApiServer(lambda received, seen: error(400, None, "no such option")) as server:
        spec = EngineSpec("openai_api", "served", base_url=server.url, progress=False)
        with pytest.raises(TooManyFailures, match=r"(?s)rejected 3.*sends the requests with retryable errors again"):
            answer(questions(), spec)


def test_a_responders_name_does_not_break_the_card(tmp_path: Path) -> None:
    stage1 = build_stage1(grade(answer(questions(1), quiet({"": "It is 0."}))), ANNOTATIONS)
    stage2 = build_stage2(respond(stage1, [Responder("a|b\nc", quiet({"": "It is 54."}))]))
    card = (publish({"math": {"stage2": stage2}}, tmp_path / "out", version="1.0.0") / "README.md").read_text()
    assert any(line.startswith("| a\\|b c | 1 | 0.0 % |") for line in card.splitlines())
