"""Searches in numbers: nothing is asked or called twice, whatever happens, and the order of events changes nothing."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, Value

from tests.support.api_server import ApiServer, ReceivedRequest, ServerReply, completion, error
from tests.support.models import tiny_llama
from toolrlef_data import (
    CapReached,
    EngineSpec,
    Function,
    InputError,
    Limits,
    Method,
    Reply,
    ToolError,
    generate_trajectories,
    lineage,
    load_source,
    preference_pairs,
    scripted,
    trajectories,
    write_answers,
)
from toolrlef_data.engines.spec import Request
from toolrlef_data.records import TooManyFailures
from toolrlef_data.tables.lineage import ledger
from toolrlef_data.toolbench.toolllama import conversations_of

QUERIES = [f"Is host number {n} up?" for n in range(12)]
HOST = {"type": "object", "properties": {"host": {"type": "string"}}, "required": ["host"]}
ANSWER = ("Finish", json.dumps({"return_type": "give_answer", "final_answer": "It is up."}))
GIVE_UP = ("Finish", json.dumps({"return_type": "give_up_and_restart"}))


def ping(host: str) -> str:
    """Ask a host whether it is up.

    Args:
        host: its name.
    """
    return f"{host} is up"


def wild(request: Request) -> Reply:
    """A model that does anything at all, drawn from what it is asked."""
    draw = random.Random(hashlib.sha256(repr(request.in_key()).encode()).digest())
    calls = [("ping", json.dumps({"host": draw.choice("abc")})), ("pong", "{}"), ("ping", "{broken"), GIVE_UP, ANSWER]
    thought = draw.choice(["", "I think.", "I wonder."])
    call = draw.choices([None, *calls], [2, 6, 1, 1, 2, 1])[0]
    if draw.random() < 0.03:
        return Reply(None, error="content_filter", error_detail="no")
    return Reply(thought, tool_calls=() if call is None else (call,), prompt_tokens=3, completion_tokens=2)


def files_of(answers: Dataset) -> dict[str, str]:
    return dict(zip(answers["id"][:], answers["answer"][:], strict=True))


@pytest.mark.parametrize(
    "method",
    [Method(), Method("dfs", max_turns=4), Method("chain", chains=3), Method(answers=2, width=3, max_calls=30)],
)
def test_order_and_company_change_nothing(method: Method, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = scripted(wild, temperature=1.0, progress=False, max_failed=1.0)
    together = files_of(generate_trajectories(QUERIES, [ping], model, method=method))
    assert len(together) == len(QUERIES)
    monkeypatch.setenv("TOOLRLEF_REPLIES", str(tmp_path / "other.sqlite"))
    alone: dict[str, str] = {}
    for query in reversed(QUERIES):
        alone |= files_of(generate_trajectories([query], [ping], model, method=method))
    assert alone == together
    assert len({json.loads(file)["answer_generation"]["query_count"] for file in together.values()}) > 1, "all alike"


def test_files_are_read_back_by_the_reader_and_in_upstreams_way(tmp_path: Path) -> None:
    answers = generate_trajectories(QUERIES, [ping], scripted(wild, temperature=1.0, progress=False, max_failed=1.0))
    paths = write_answers(answers, tmp_path / "answers")
    read = load_source("toolbench", data_dir=tmp_path / "answers")
    same = ["id", "query", "finish_type", "valid", "win", "n_calls", "total_tokens", "source_file", "answer"]
    assert [{name: row[name] for name in same} for row in read] == sorted(
        ({name: row[name] for name in same} for row in answers), key=lambda row: str(row["id"])
    )
    for steps in ("chosen", "all"):
        for history in ("upstream", "faithful", "clean"):
            ours, theirs = (trajectories(table, steps=steps, history=history) for table in (answers, read))
            assert sorted(map(str, ours.remove_columns("dataset"))) == sorted(
                map(str, theirs.remove_columns("dataset"))
            )
            assert not [row for row in ledger([ours]) if row["reason"] not in ("thought_only", "not_valid")]
    valid = 0
    for path in paths:  # as upstream's script goes through a folder: by name, valid ones, list by list
        file = json.loads(path.read_text())["answer_generation"]
        assert "DFS_woFilter_w2" in path.name
        valid += file["valid_data"]
        for messages in file["train_messages"] if file["valid_data"] else ():
            assert messages[-1]["role"] == "assistant"
            conversations_of(messages, file["function"])
    assert 0 < valid <= len(paths)


# Over HTTP ------------------------------------------------------------------------------------------------------------


def over_http(received: ReceivedRequest, seen: int) -> ServerReply | None:
    """Ask the host that the query names, then answer; what is not well-formed is refused."""
    messages = received.body["messages"]
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    results = [message for message in messages if message["role"] == "tool"]
    if [call["id"] for call in calls] != [result["tool_call_id"] for result in results]:
        return error(400, None, "calls and results differ")
    if [tool["function"]["name"] for tool in received.body["tools"]] != ["ping", "Finish"]:
        return error(400, None, "other tools")
    if not results:
        number = messages[1]["content"].split()[3]
        return completion(None, tool_calls=[("ping", {"host": f"host {number}"})])
    said = json.loads(results[-1]["content"])["response"]
    return completion("I tell.", tool_calls=[("Finish", {"return_type": "give_answer", "final_answer": said})])


def test_openai_tool_calling_goes_back_and_forth() -> None:
    with ApiServer(over_http) as server:
        spec = EngineSpec("openai_api", "any", base_url=server.url, progress=False, limits=Limits(backoff=0.01))
        answers = generate_trajectories(QUERIES, [ping], spec)
        assert len(server.requests) == 2 * len(QUERIES)
        told = [
            json.loads(json.loads(a)["answer_generation"]["final_answer"])["final_answer"] for a in answers["answer"]
        ]
        assert told == [f"host {n} is up" for n in range(len(QUERIES))]
        assert lineage(answers)[-2]["usage"] == {
            "model": "any",
            "requests": 24,
            "prompt_tokens": 192,
            "completion_tokens": 96,
        }
        assert files_of(generate_trajectories(QUERIES, [ping], spec)) == files_of(answers)
        assert len(server.requests) == 2 * len(QUERIES)


def test_a_failure_that_may_pass_leaves_its_search_to_the_next_run() -> None:
    broken = True

    def sometimes(received: ReceivedRequest, seen: int) -> ServerReply | None:
        if broken and "number 3 " in received.body["messages"][1]["content"] and len(received.body["messages"]) > 2:
            return error(503, "overloaded", "later")
        return over_http(received, seen)

    with ApiServer(sometimes) as server:
        spec = EngineSpec(
            "openai_api", "any", base_url=server.url, progress=False, retries=0, limits=Limits(backoff=0.01)
        )
        some = generate_trajectories(QUERIES, [ping], spec)
        assert len(some) == len(QUERIES) - 1
        (left,) = ledger([some]).to_list()
        assert (left["reason"], left["stage"]) == ("server", "generate trajectories")
        assert left["id"] not in {row_id.partition("_")[0] for row_id in some["id"]}
        broken, asked = False, len(server.requests)
        assert len(generate_trajectories(QUERIES, [ping], spec)) == len(QUERIES)
        assert len(server.requests) == asked + 1
        assert len(ledger([generate_trajectories(QUERIES, [ping], spec)])) == 0


def test_a_budget_ends_the_run_and_what_came_is_kept() -> None:
    with ApiServer(over_http) as server:
        capped = Limits(max_requests=7, backoff=0.01)
        spec = EngineSpec("openai_api", "any", base_url=server.url, progress=False, concurrency=2, limits=capped)
        with pytest.raises(CapReached):
            generate_trajectories(QUERIES, [ping], spec)
        assert len(server.requests) == 7
        free = EngineSpec("openai_api", "any", base_url=server.url, progress=False)
        assert len(generate_trajectories(QUERIES, [ping], free)) == len(QUERIES)
        assert len(server.requests) == 2 * len(QUERIES), "the seven were not asked again"


def test_too_many_failures_stop_the_run() -> None:
    with ApiServer(lambda received, seen: error(503, "overloaded", "later")) as server:
        spec = EngineSpec(
            "openai_api", "any", base_url=server.url, progress=False, retries=0, limits=Limits(backoff=0.01)
        )
        with pytest.raises(TooManyFailures, match="12 of 12"):
            generate_trajectories(QUERIES, [ping], spec)


# Functions ------------------------------------------------------------------------------------------------------------


def pings_then_answers(request: Request) -> Reply:
    asked = sum(message.role == "assistant" for message in request.messages)
    return Reply("", tool_calls=(ANSWER if asked else ("ping", '{"host": "a"}'),))


def _function(work: Callable[..., Any]) -> Function:
    return Function("ping", "Asks a host.", HOST, work)


def test_a_function_is_called_once_for_all_searches_and_runs(tmp_path: Path) -> None:
    called = str(tmp_path / "called")  # a list would be a value that the function uses, and change its key

    def work(host: str) -> str:
        with open(called, "a") as file:
            file.write(host)
        return "up"

    generate_trajectories(QUERIES, [_function(work)], scripted(pings_then_answers, progress=False))
    generate_trajectories([*QUERIES, "And this one?"], [_function(work)], scripted(pings_then_answers, progress=False))
    assert Path(called).read_text() == "a"


def test_a_functions_own_fault_is_what_the_model_saw_and_no_other_search_sees_it(tmp_path: Path) -> None:
    called = str(tmp_path / "called")

    def work(host: str) -> str:
        first = not Path(called).exists()
        with open(called, "a") as file:
            file.write(host)
        if first:
            raise ToolError("unavailable", "come back later")
        return "up"

    first = generate_trajectories(QUERIES[:1], [_function(work)], scripted(pings_then_answers, progress=False))
    both = generate_trajectories(QUERIES[:2], [_function(work)], scripted(pings_then_answers, progress=False))
    assert files_of(first).items() <= files_of(both).items(), "what the first saw stays what it saw"
    seen = [row["messages"][-2]["content"] for row in trajectories(both) if row["step"] == 2]
    assert ["come back later" in text for text in seen] == [True, False]
    assert Path(called).read_text() == "aa"


def test_many_functions_that_remember_are_executed_once(tmp_path: Path) -> None:
    """What a function uses may change while it runs; its key is what it was when the run began."""
    memory: dict[str, int] = {}
    called = str(tmp_path / "called")

    def work(host: str) -> str:
        memory[host] = len(memory)
        with open(called, "a") as file:
            file.write("x")
        return "up"

    functions = [Function(f"ping{n}", "Asks.", HOST, partial(work)) for n in range(150)]
    table = Dataset.from_dict({"id": [str(n) for n in range(150)], "query": [f"Ask {n}." for n in range(150)]})
    answers = generate_trajectories(table, functions, scripted(pings_by_number, progress=False))
    assert answers["valid"][:] == [True] * 150
    assert Path(called).read_text() == "x" * 150


def pings_by_number(request: Request) -> Reply:
    number = request.messages[1].content.split()[1].strip(".")
    asked = sum(message.role == "assistant" for message in request.messages)
    return Reply("", tool_calls=(ANSWER if asked else (f"ping{number}", json.dumps({"host": number})),))


def half_a_character(request: Request) -> Reply:
    asked = any(message.role == "assistant" for message in request.messages)
    return Reply("half \ud800", tool_calls=(ANSWER if asked else ("ping", '{"host": "\ud800"}'),))


@pytest.mark.parametrize("protocol", ["tools", "text"])
def test_what_no_table_holds_is_the_same_in_both_passes(protocol: str) -> None:
    answers = generate_trajectories(QUERIES[:2], [ping], scripted(half_a_character, progress=False), protocol=protocol)
    assert answers["win"][:] == [True, True]
    assert trajectories(answers)[0]["messages"][-1]["content"] == "half \ufffd"


def interrupts(host: str) -> str:
    raise KeyboardInterrupt


def test_an_interrupt_within_a_function_ends_the_run() -> None:
    with pytest.raises(KeyboardInterrupt):
        generate_trajectories(QUERIES, [_function(interrupts)], scripted(pings_then_answers, progress=False))


def test_each_query_may_call_its_own_functions() -> None:
    text = {"type": "object", "properties": {}, "required": []}
    functions: list[Any] = [ping, Function("noon", "Tells when noon is.", text, lambda: "12:00")]
    table = Dataset.from_dict({"id": ["1", "2"], "query": QUERIES[:2], "functions": [["ping"], ["noon"]]})
    answers = generate_trajectories(table, functions, scripted(pings_then_answers, progress=False))
    rows = trajectories(answers, without=["unknown_function"])
    assert {row["source_file"]: [tool["function"]["name"] for tool in json.loads(row["tools"])] for row in rows} == {
        "1_DFS_woFilter_w2.json": ["ping", "Finish"],
        "2_DFS_woFilter_w2.json": ["noon", "Finish"],
    }
    assert Counter(ledger([rows])["reason"][:]) == {"unknown_function": 1}
    unknown = Dataset.from_dict({"id": ["1"], "query": QUERIES[:1], "functions": [["pong"]]})
    with pytest.raises(InputError, match="names pong; there are: ping, noon"):
        generate_trajectories(unknown, functions, scripted(pings_then_answers, progress=False))


def test_a_questions_table_and_a_model_without_tool_calling() -> None:
    questions = load_source("sample", split="train").select(range(2))
    said = {
        "": 'Thought: I look.\nAction: ping\nAction Input: {"host": "a"}',
        "Observation:": f"Action: Finish\nAction Input: {ANSWER[1]}",
    }
    answers = generate_trajectories(questions, [ping], scripted(said, progress=False), protocol="text")
    assert answers["query"][:] == questions["question"][:]
    assert trajectories(answers)[0]["messages"][-1]["content"] == "I look."
    assert answers["finish_type"][:] == ["give_answer"] * 2


@pytest.mark.parametrize(("temperature", "requests"), [(0.0, 3), (1.0, 2 + 4 + 8)])
def test_a_greedy_model_that_only_thinks_is_not_asked_the_same_again(temperature: float, requests: int) -> None:
    model = scripted({"": "I think."}, temperature=temperature, progress=False)
    answers = generate_trajectories(QUERIES[:1], [ping], model, method=Method(max_turns=3))
    assert lineage(answers)[-2]["usage"]["requests"] == answers[0]["n_calls"] == requests


@pytest.mark.usefixtures("one_thread")
def test_a_local_model_however_weak_gives_answer_files(tmp_path: Path) -> None:
    model = str(tiny_llama(tmp_path / "model", context=2048))
    spec = EngineSpec("local", model, max_tokens=8, progress=False, temperature=1.0)
    answers = generate_trajectories(QUERIES[:2], [ping], spec, protocol="text", method=Method(max_turns=2, max_calls=4))
    assert [json.loads(file)["tree"]["size"] > 1 for file in answers["answer"]] == [True, True]
    assert answers["valid"][:] == [False, False]
    assert Counter(ledger([trajectories(answers)])["reason"][:]) == {"not_valid": 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "gpt"}, "expected an EngineSpec"),
        ({"protocol": "xml"}, "unknown protocol 'xml'"),
        ({"functions_at_once": 0}, "at least 1"),
        ({"method": Method("chain", chains=2)}, "would all be the same"),
        ({"queries": "one text"}, "queries are one table .a split., or a list"),
        ({"queries": ["a", " "]}, "queries are one table .a split., or a list"),
        ({"queries": Dataset.from_dict({"id": ["1"], "text": ["a"]})}, "query"),
        ({"queries": DatasetDict({"train": Dataset.from_dict({"id": ["1"], "query": ["a"]})})}, "found a DatasetDict"),
        ({"queries": (query for query in QUERIES)}, "found a generator"),
        (
            {"queries": Dataset.from_dict({"id": ["1"], "query": [None]}).cast_column("query", Value("string"))},
            "is empty",
        ),
        ({"functions": [ping, ping]}, "two functions have one name"),
    ],
)
def test_mistakes_are_told_before_anything_is_asked(arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "queries": QUERIES,
        "functions": [ping],
        "engine": scripted([], progress=False),
    } | arguments
    with pytest.raises(InputError, match=message):
        generate_trajectories(**given)


def refuse(request: Request) -> Reply:
    return Reply(None, error="content_filter", error_detail="no")


def test_a_search_without_a_single_step_has_a_reason() -> None:
    answers = generate_trajectories(QUERIES[:2], [ping], scripted(refuse, progress=False, max_failed=1.0))
    for made in (trajectories(answers, steps="all"), trajectories(answers), preference_pairs(answers)):
        assert len(made) == 0
        assert len(ledger([made])) == 2
    assert ledger([trajectories(answers, steps="all")])["reason"][:] == ["no_steps"] * 2
