"""asking: what is asked, how often, and what becomes of a failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from datasets import Dataset, Value

from tests.support.api_server import ApiServer
from tests.support.chains import Chains
from tests.support.models import tiny_llama
from toolrlef_data.engines import ENGINES
from toolrlef_data.engines.model_stage import ModelStage, run_model_stage
from toolrlef_data.engines.responses import build_response, split_reasoning
from toolrlef_data.engines.scripted import scripted
from toolrlef_data.engines.spec import EngineSpec, Limits, Request
from toolrlef_data.records import InputError, Reply, ScriptExhausted, TooManyFailures


class Server:
    """What was asked; a class, since a global list is part of the key of a function that uses it."""

    asked: ClassVar[list[str]] = []
    down = False


def question(row: Mapping[str, Any], settings: None) -> Request | None:
    return None if row["text"] == "skip" else Request(prompt=row["text"])


def texts(row: Mapping[str, Any], replies: Sequence[Reply], settings: None) -> dict[str, Any]:
    return {"reply": " | ".join(reply.text or f"<{reply.error}>" for reply in replies)}


def echo(request: Request) -> str | Reply:
    Server.asked.append(request.prompt)
    if Server.down and request.prompt.startswith("flaky"):
        return Reply(None, error="timeout", error_detail="no answer")
    if request.prompt.startswith("bad"):
        return Reply(None, error="too_long")
    return f"{request.prompt}#{request.sample}"


def table(*prompts: str) -> Dataset:
    return Dataset.from_list([{"id": str(i), "text": prompt} for i, prompt in enumerate(prompts)])


def run(data: Dataset, spec: EngineSpec, samples: int = 1) -> list[str]:
    adds = {"reply": Value("string")}
    stage = ModelStage(question, texts, None, spec, reads=["text"], adds=adds, name="test", samples=samples)
    found: list[str] = run_model_stage(data, stage)["reply"][:]
    return found


@pytest.fixture(autouse=True)
def fresh() -> None:
    Server.asked.clear()
    Server.down = False


def engine(**settings: Any) -> EngineSpec:
    return scripted(echo, progress=False, **settings)


def test_repeated_greedy_prompts_are_asked_once_also_over_many_windows() -> None:
    prompts = [f"p{i % 7}" for i in range(1000)]
    assert run(table(*prompts), engine()) == [f"{p}#0" for p in prompts]
    assert sorted(Server.asked) == [f"p{i}" for i in range(7)]


def test_a_second_stage_over_the_same_prompts_asks_nothing() -> None:
    run(table("a", "b"), engine())
    run(table("b", "a", "c"), engine())
    assert Server.asked == ["a", "b", "c"]


def test_a_row_without_a_request_is_not_asked() -> None:
    assert run(table("a", "skip", "b"), engine()) == ["a#0", "", "b#0"]
    assert Server.asked == ["a", "b"]


def test_samples_are_asked_apart_and_need_a_temperature() -> None:
    assert run(table("a", "a"), engine(temperature=0.5), samples=2) == ["a#0 | a#1"] * 2
    assert len(Server.asked) == 4, "sampled rows have seeds of their own"
    with pytest.raises(InputError, match="set a temperature above 0"):
        run(table("a"), engine(), samples=2)


def test_a_retryable_failure_is_asked_again_and_nothing_else_is() -> None:
    Server.down = True
    spec = engine(max_failed=0.5)
    assert run(table("a", "flaky", "bad one"), replace(spec, max_failed=0.7)) == ["a#0", "<timeout>", "<too_long>"]
    assert Server.asked == ["a", "flaky", "bad one"]
    Server.down = False
    assert run(table("a", "flaky", "bad one"), replace(spec, max_failed=0.7)) == ["a#0", "flaky#0", "<too_long>"]
    assert Server.asked == ["a", "flaky", "bad one", "flaky"], "a permanent error is final"
    run(table("a", "flaky", "bad one"), replace(spec, max_failed=0.7))
    assert len(Server.asked) == 4


def test_too_many_failures_stop_the_run_and_nothing_is_lost() -> None:
    Server.down = True
    data = table("a", "b", *(f"flaky {i}" for i in range(8)))
    with pytest.raises(TooManyFailures, match=r"3 of 10 requests .* failed \(timeout 3\), more than max_failed=0.2"):
        run(data, engine())
    asked = len(Server.asked)
    with pytest.raises(TooManyFailures):
        run(data, replace(engine(), max_failed=0.0))
    Server.down = False
    asked = len(Server.asked)
    run(data, engine())
    assert Server.asked[asked:] == [f"flaky {i}" for i in range(8)]


def test_stored_failures_count_at_every_run() -> None:
    data = table(*(f"bad {i}" for i in range(6)))
    for _ in range(4):
        with pytest.raises(TooManyFailures, match="too_long"):
            run(data, engine())


def test_the_share_is_of_the_requests_that_are_made() -> None:
    Server.down = True
    with pytest.raises(TooManyFailures, match="1 of 2 requests"):
        run(table(*["skip"] * 98, "flaky a", "flaky b"), engine())


def test_who_is_no_engine_is_named() -> None:
    with pytest.raises(InputError, match="expected an EngineSpec, found str"):
        run(table("a"), "gpt")  # type: ignore[arg-type]


def test_a_script_that_runs_out_says_so_and_keeps_what_it_gave() -> None:
    with pytest.raises(ScriptExhausted, match="the script has 1 replies"):
        run(table("a", "b"), scripted(["one"], progress=False))
    assert run(table("a"), scripted(["one"], progress=False)) == ["one"]


def test_a_mapping_answers_by_the_words_of_the_question() -> None:
    spec = scripted({"first": "1", "second": "2"}, progress=False)
    assert run(table("the second", "the first"), spec) == ["2", "1"]
    with pytest.raises(ScriptExhausted, match="no key of the script"):
        run(table("the third"), spec)


def test_other_settings_are_other_requests() -> None:
    run(table("a"), engine())
    run(table("a"), engine(max_tokens=3))
    run(table("a"), engine(stop=("\n",)))
    run(table("a"), engine(timeout=1.0, concurrency=2))
    assert len(Server.asked) == 3


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("The answer is 12.", "", "The answer is 12."),
        ("<think>7+5</think>\n\n12", "7+5", "12"),
        ("7+5</think>12", "7+5", "12"),  # the template opened it
        ("<think>7+5 and then", "7+5 and then", ""),  # cut off
        ("[THINK]a[/THINK]b", "a", "b"),
        (
            "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>12<|return|>",
            "hmassistant",
            "12",
        ),
        ("I think <think> is a tag", "", "I think <think> is a tag"),
    ],
)
def test_reasoning_is_kept_apart(text: str, reasoning: str, answer: str) -> None:
    assert split_reasoning(text) == (reasoning, answer)


def test_a_response_keeps_the_models_own_words() -> None:
    response = build_response(Reply(" <think>calculator(1+1)</think> 3 "))
    assert (response["raw"], response["reasoning"], response["text"]) == (
        " <think>calculator(1+1)</think> 3 ",
        "calculator(1+1)",
        "3",
    )
    assert build_response(Reply("<think>a</think>b"), strip_reasoning=False)["text"] == "<think>a</think>b"
    failed = build_response(Reply(None, error="timeout", error_detail="30 s"))
    assert (failed["text"], failed["error"], failed["error_detail"]) == (None, "timeout", "30 s")


# Requests that are not ready yet --------------------------------------------------------------------------------------


ASKED: dict[str, dict[str, Any]] = {
    "one at a time": {"concurrency": 1},
    "direct": {"concurrency": 2},
    "samples": {"temperature": 1.0, "options": {"n": True}},
    "batch": {"limits": Limits(mode="batch", poll=0.02)},
    "small batches": {"limits": Limits(mode="batch", poll=0.02, batch_rows=2)},
}


@pytest.mark.parametrize("kind", ["scripted", "local", *ASKED])
def test_chains_go_on_from_what_was_replied(kind: str, tmp_path: Path, one_thread: None) -> None:
    samples = 2 if kind == "samples" else 1
    with ApiServer() as server:
        if kind == "scripted":
            spec = engine()
        elif kind == "local":
            spec = EngineSpec("local", str(tiny_llama(tmp_path / "m")), max_tokens=3)
        else:
            spec = EngineSpec("openai_api", "m", base_url=server.url, **ASKED[kind])
        alone = {name: Chains([name], samples=samples).run(spec).texts[name] for name in "ab"}
        chains = Chains("abcd", samples=samples).run(spec)
    assert not chains.is_open()
    assert not chains.ready
    assert {name: chains.texts[name] for name in "ab"} == alone
    assert len({text for said in chains.texts.values() for text in said}) > 4, "the same replies prove nothing"


@pytest.mark.parametrize("kind", ["scripted", "local"])
def test_what_is_ready_later_is_waited_for(kind: str, tmp_path: Path, one_thread: None) -> None:
    """As where a tool is at work: there is nothing under way, and more comes all the same."""
    pairs = [None, None, ("a", Request(prompt="a")), None, ("b", Request(prompt="b")), None, None]
    spec = engine() if kind == "scripted" else EngineSpec("local", str(tiny_llama(tmp_path / "m")), max_tokens=2)
    taken = [tag for replies in ENGINES[kind](spec).generate(pairs) for tag, _ in replies]
    assert taken == ["a", "b"]
    assert not list(ENGINES[kind](spec).generate([None, None]))


def test_a_script_counts_what_is_asked_and_no_waits() -> None:
    pairs = [None, ("a", Request(prompt="a")), None, ("b", Request(prompt="b"))]
    replies = list(ENGINES["scripted"](scripted(["one", "two"])).generate(pairs))
    assert [reply.text for ((_, reply),) in replies] == ["one", "two"]


def test_a_local_window_ends_where_nothing_is_ready(tmp_path: Path, one_thread: None) -> None:
    chains = Chains("ab", steps=2)
    chains.run(EngineSpec("local", str(tiny_llama(tmp_path / "m")), max_tokens=2))
    assert [event[:3] for event in chains.events] == ["a 0", "b 0", "(a ", "(b ", "a 1", "b 1", "(a ", "(b "]
    assert chains.idle_pulls == 2, "once at the end of each window"
