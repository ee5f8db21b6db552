"""`counterfactual`: shares, intervals and classes of a model whose rates are known; nothing is asked twice."""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from tests.support.api_server import ApiServer, ReceivedRequest, ServerReply, completion, error
from toolrlef_data import EngineSpec, InputError, Reply, answer, counterfactual, make_questions, scripted
from toolrlef_data.columns import NEED
from toolrlef_data.engines.spec import Request
from toolrlef_data.records import TooManyFailures
from toolrlef_data.trice.evaluation.intervals import wilson
from toolrlef_data.trice.need.classes import need_class

# Class -> the rates of right samples without the tool and with it.
RATES = {"needs_tool": (5, 95), "indifferent": (95, 95), "harmed": (95, 5), "hopeless": (5, 5)}


def questions(rates: list[tuple[int, int]]) -> Dataset:
    """Return a question for each pair of rates, which its text contains; each gold answer is 42."""
    rows = [
        {"q": f"Case {n} at {plain} and {tool} percent: what is 6 times 7?", "a": 42}
        for n, (plain, tool) in enumerate(rates)
    ]
    return make_questions(rows, task="math", question="q", answers="a")


def student(request: Request) -> str | Reply:
    """A model that is right at the rates in the question."""
    text = request.messages[-1].content
    is_forced = "Respond with one call, calculator(formula), and nothing else." in request.messages[0].content
    assert is_forced == ("calculator" in request.messages[0].content)  # the plain prompt does not name the tool
    plain, tool = (int(text.split()[i]) for i in (3, 5))
    is_right = Random(f"{text}{request.sample}{is_forced}").random() < (tool if is_forced else plain) / 100
    if is_forced:
        return "calculator(6*7)" if is_right else "calculator(6*8)"
    return "The answer is 42." if is_right else "The answer is 48."


def model(function: Any = student, **settings: Any) -> EngineSpec:
    return scripted(function, temperature=1.0, progress=False, **settings)


def test_clear_classes_are_right_at_16_samples() -> None:
    expected = [name for name in RATES for _ in range(30)]
    need = counterfactual(questions([RATES[name] for name in expected]), model(), samples=16)
    assert need.features == NEED
    right = sum(found == name for found, name in zip(need["need"], expected, strict=True))
    assert right / len(expected) >= 0.95
    wrong = Counter((name, found) for found, name in zip(need["need"], expected, strict=True) if found != name)
    assert all(found == "unsure" for _, found in wrong), "a clear question gets another clear class"


def test_the_intervals_cover_the_rates() -> None:
    random = Random(0)
    covered = 0
    for _ in range(2000):
        rate = random.random()
        low, high = wilson(sum(random.random() < rate for _ in range(16)), 16)
        covered += low <= rate <= high
    assert covered / 2000 >= 0.93


def test_values_of_a_question() -> None:
    row = counterfactual(questions([(100, 0)]), model(), samples=8)[0]
    low, high = wilson(8, 8)
    assert (row["p_plain"], row["p_plain_low"], row["p_plain_high"], row["n_plain"]) == (1.0, low, high, 8)
    assert (row["p_tool"], row["p_tool_low"], row["n_tool"], row["calls_plain"], row["calls_tool"]) == (
        0.0,
        0.0,
        8,
        0.0,
        1.0,
    )
    assert (row["need"], row["model"]) == ("harmed", "student")


def lossy(request: Request) -> Reply:
    """A model whose replies are cut off, empty, without a call, or right; they count 10 tokens."""
    kinds = (Reply("6*7 is", finish_reason="length", completion_tokens=10), Reply("", completion_tokens=0))
    if request.sample < 2:
        return kinds[request.sample]
    is_forced = "calculator" in request.messages[0].content
    if is_forced and request.sample == 2:
        return Reply("I will not call. The answer is 42.", completion_tokens=10)
    return Reply("calculator(6*7)" if is_forced else "It is 42.", completion_tokens=10)


def test_what_is_no_response_counts_as_neither() -> None:
    row = counterfactual(questions([(0, 0)]), model(lossy), samples=8)[0]
    assert (row["n_plain"], row["p_plain"], row["n_tool"], row["p_tool"]) == (6, 1.0, 5, 1.0)
    assert row["tokens_plain"] == pytest.approx(70 / 8)
    assert row["calls_tool"] == pytest.approx(5 / 6)  # of the six responses, one has no call


def marked(request: Request) -> Reply:
    """A model whose replies are cut off after a marked answer or a call."""
    is_forced = "calculator" in request.messages[0].content
    text = "calculator(6*7) is" if is_forced else "<think>6*7</think>The answer is 42. And"
    return Reply(text, finish_reason="length")


@pytest.mark.parametrize(("accept_cut", "counts"), [(("call", "marked"), (4, 4)), (("call",), (0, 4)), ((), (0, 0))])
def test_cut_replies_count_as_in_answer(accept_cut: tuple[str, ...], counts: tuple[int, int]) -> None:
    row = counterfactual(questions([(0, 0)]), model(marked), samples=4, accept_cut=accept_cut)[0]
    assert (row["n_plain"], row["n_tool"]) == counts


def test_nothing_is_asked_again_but_what_the_caller_names() -> None:
    with ApiServer(lambda received, seen: completion("")) as server:
        spec = EngineSpec("openai_api", "served", base_url=server.url, temperature=1.0, progress=False)
        for ask_again, expected in (((), 8), ((), 8), (("empty",), 16)):
            row = counterfactual(questions([(0, 0)]), spec, samples=4, ask_again=ask_again)[0]
            assert (row["n_plain"], row["n_tool"], len(server.requests)) == (0, 0, expected)


def continued(request: Request) -> str:
    """A model that continues the text of a prompt."""
    assert request.prompt.endswith("Response:\ncalculator(") or "calculator" not in request.prompt
    return "6*7)\n\nThat is it." if request.prompt.endswith("(") else "The answer is 41."


def test_a_plain_prompt_forces_the_call_by_its_end() -> None:
    row = counterfactual(questions([(0, 0)]), model(continued), samples=4, style="alpaca")[0]
    assert (row["p_plain"], row["p_tool"], row["calls_tool"], row["need"]) == (0.0, 1.0, 1.0, "needs_tool")


def test_nothing_is_asked_twice_also_after_a_failed_run() -> None:
    is_down = True

    def script(received: ReceivedRequest, seen: int) -> ServerReply:
        is_forced = "calculator" in received.body["messages"][0]["content"]
        if is_down and is_forced and received.body["seed"] % 2:
            return error(503, "overloaded", "later")
        return completion("calculator(6*7)" if is_forced else "It is 41.")

    table = questions([(50, 50)] * 3)
    with ApiServer(script) as server:
        spec = EngineSpec("openai_api", "served", base_url=server.url, temperature=1.0, retries=0, progress=False)
        answer(table, spec, samples=4)
        assert len(server.requests) == 12
        with pytest.raises(TooManyFailures):
            counterfactual(table, spec, samples=4)
        failed, is_down = 24 - len(replies_in(server)), False
        need = counterfactual(table, spec, samples=4)
        assert len(server.requests) == 24 + failed
        assert 0 < failed < 12
        assert need["need"][:] == ["needs_tool"] * 3
        assert counterfactual(table, spec, samples=5, threshold=0.4)["n_plain"][:] == [5] * 3
        assert len(server.requests) == 24 + failed + 2 * 3


def test_native_calls_of_a_server() -> None:
    def script(received: ReceivedRequest, seen: int) -> ServerReply:
        if "tools" not in received.body:
            return completion("It is 42.")
        return completion(None, tool_calls=[("calculator", {"formula": "6*8"})])

    with ApiServer(script) as server:
        spec = EngineSpec("openai_api", "served", base_url=server.url, temperature=1.0, progress=False)
        row = counterfactual(questions([(0, 0)]), spec, samples=4, protocol="tools")[0]
    assert (row["p_plain"], row["p_tool"], row["n_tool"], row["calls_tool"], row["need"]) == (
        1.0,
        0.0,
        4,
        1.0,
        "harmed",
    )


def replies_in(server: ApiServer) -> set[str]:
    """Return the requests that got a reply."""
    bodies = [json.dumps(request.body, sort_keys=True) for request in server.requests]
    return {text for text, request in zip(bodies, server.requests, strict=True) if not is_refused(request)}


def is_refused(request: ReceivedRequest) -> bool:
    return "calculator" in request.body["messages"][0]["content"] and request.body["seed"] % 2 == 1


def test_the_model_is_named_without_its_folder() -> None:
    with ApiServer(lambda received, seen: completion("It is 42.")) as server:
        spec = EngineSpec("openai_api", "/home/me/models/tiny", base_url=server.url, progress=False)
        assert counterfactual(questions([(0, 0)]), spec, samples=1)["model"][:] == ["tiny"]


def test_questions_that_answer_drops_are_dropped() -> None:
    table = questions([(100, 100)] * 3).to_list()
    table[1]["question"] = " "
    need = counterfactual(Dataset.from_list(table, features=questions([(0, 0)]).features), model(), samples=4)
    assert need["id"] == [table[0]["id"], table[2]["id"]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"questions": DatasetDict()}, "one split"),
        ({"spec": "gpt"}, "expected an EngineSpec"),
        ({"threshold": 1}, "threshold"),
        ({"spec": scripted({"": "1"}), "samples": 2}, "temperature"),
    ],
)
def test_wrong_arguments(change: dict[str, Any], words: str) -> None:
    arguments = {"questions": questions([(0, 0)]), "spec": model(), **change}
    with pytest.raises(InputError, match=words):
        counterfactual(**arguments)


@pytest.mark.parametrize(("threshold", "expected"), [(0.5, "unsure"), (0.2, "indifferent"), (0.9, "hopeless")])
def test_the_threshold_moves_the_classes(threshold: float, expected: str) -> None:
    assert need_class(10, 20, 10, 20, threshold) == expected


def test_an_interval_that_touches_the_threshold_is_unsure() -> None:
    low, high = wilson(3, 4)
    assert need_class(3, 4, 3, 4, low) == need_class(3, 4, 3, 4, high) == "unsure"
    assert need_class(3, 4, 3, 4, low - 0.001) == "indifferent"
    assert need_class(3, 4, 3, 4, high + 0.001) == "hopeless"
    assert need_class(0, 0, 4, 4, 0.5) == "unsure", "without a sample"


def test_the_class_at_every_border_of_sixteen_samples() -> None:
    names = {0: "hopeless", 4: "hopeless", 5: "unsure", 11: "unsure", 12: "needs_tool", 16: "needs_tool"}
    assert {right: need_class(0, 16, right, 16) for right in names} == names
    names = {0: "needs_tool", 4: "needs_tool", 5: "unsure", 11: "unsure", 12: "indifferent", 16: "indifferent"}
    assert {right: need_class(right, 16, 16, 16) for right in names} == names
    assert [need_class(12, 16, 4, 16), need_class(0, 3, 3, 3), need_class(0, 4, 4, 4)] == [
        *("harmed", "unsure", "needs_tool")
    ]
