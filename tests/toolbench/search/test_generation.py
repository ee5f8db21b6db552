"""Generated trajectories: no repeated requests or calls, and results that are independent of the order of events."""

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
from tests.support.waiting import wait_until
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
from toolrlef_data.toolbench.toolllama import to_conversation

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
    """Return a random reply, seeded by the request."""
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
def test_results_are_independent_of_order_and_other_queries(
    method: Method, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = scripted(wild, temperature=1.0, progress=False, max_failed=1.0)
    together = files_of(generate_trajectories(QUERIES, [ping], model, method=method))
    assert len(together) == len(QUERIES)
    monkeypatch.setenv("TOOLRLEF_REPLIES", str(tmp_path / "other.sqlite"))
    alone: dict[str, str] = {}
    for query in reversed(QUERIES):
        alone |= files_of(generate_trajectories([query], [ping], model, method=method))
    assert alone == together
    assert len({json.loads(file)["answer_generation"]["query_count"] for file in together.values()}) > 1, (
        "the searches are too similar"
    )


def test_written_files_are_readable_by_the_source_and_by_upstream(tmp_path: Path) -> None:
    answers = generate_trajectories(QUERIES, [ping], scripted(wild, temperature=1.0, progress=False, max_failed=1.0))
    paths = write_answers(answers, tmp_path / "answers")
    loaded = load_source("toolbench", data_dir=tmp_path / "answers")
    columns = ["id", "query", "finish_type", "valid", "win", "n_calls", "total_tokens", "source_file", "answer"]
    assert [{name: row[name] for name in columns} for row in loaded] == sorted(
        ({name: row[name] for name in columns} for row in answers), key=lambda row: str(row["id"])
    )
    for steps in ("chosen", "all"):
        for history in ("upstream", "faithful", "clean"):
            ours, reloaded = (trajectories(table, steps=steps, history=history) for table in (answers, loaded))
            assert sorted(map(str, ours.remove_columns("dataset"))) == sorted(
                map(str, reloaded.remove_columns("dataset"))
            )
            assert not [row for row in ledger([ours]) if row["reason"] not in ("thought_only", "not_valid")]
    valid = 0
    for path in paths:  # like upstream's script: by name, valid files only, list by list
        file = json.loads(path.read_text())["answer_generation"]
        assert "DFS_woFilter_w2" in path.name
        valid += file["valid_data"]
        for messages in file["train_messages"] if file["valid_data"] else ():
            assert messages[-1]["role"] == "assistant"
            to_conversation(messages, file["function"])
    assert 0 < valid <= len(paths)


# Over HTTP ------------------------------------------------------------------------------------------------------------


def over_http(received: ReceivedRequest, seen: int) -> ServerReply | None:
    """Ping the host of the query, then answer; reject malformed requests."""
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
    answer = json.loads(results[-1]["content"])["response"]
    return completion("I tell.", tool_calls=[("Finish", {"return_type": "give_answer", "final_answer": answer})])


def test_openai_tool_calling() -> None:
    with ApiServer(over_http) as server:
        spec = EngineSpec("openai_api", "any", base_url=server.url, progress=False, limits=Limits(backoff=0.01))
        answers = generate_trajectories(QUERIES, [ping], spec)
        assert len(server.requests) == 2 * len(QUERIES)
        final_answers = [
            json.loads(json.loads(file)["answer_generation"]["final_answer"])["final_answer"]
            for file in answers["answer"]
        ]
        assert final_answers == [f"host {n} is up" for n in range(len(QUERIES))]
        assert lineage(answers)[-2]["usage"] == {
            "model": "any",
            "requests": 24,
            "prompt_tokens": 192,
            "completion_tokens": 96,
        }
        assert files_of(generate_trajectories(QUERIES, [ping], spec)) == files_of(answers)
        assert len(server.requests) == 2 * len(QUERIES)


def test_the_next_run_resumes_a_search_after_a_retryable_failure() -> None:
    broken = True

    def sometimes(received: ReceivedRequest, seen: int) -> ServerReply | None:
        if broken and "number 3 " in received.body["messages"][1]["content"] and len(received.body["messages"]) > 2:
            return error(503, "overloaded", "later")
        return over_http(received, seen)

    with ApiServer(sometimes) as server:
        spec = EngineSpec(
            "openai_api", "any", base_url=server.url, progress=False, retries=0, limits=Limits(backoff=0.01)
        )
        partial_answers = generate_trajectories(QUERIES, [ping], spec)
        assert len(partial_answers) == len(QUERIES) - 1
        (drop,) = ledger([partial_answers]).to_list()
        assert (drop["reason"], drop["stage"]) == ("server", "generate trajectories")
        assert (drop["task"], drop["dataset"]) == ("toolbench", "generated"), "as in the answers"
        assert drop["id"] not in {row_id.partition("_")[0] for row_id in partial_answers["id"]}
        broken, n_requests = False, len(server.requests)
        assert len(generate_trajectories(QUERIES, [ping], spec)) == len(QUERIES)
        assert len(server.requests) == n_requests + 1
        assert len(ledger([generate_trajectories(QUERIES, [ping], spec)])) == 0


def test_a_cap_ends_the_run_and_replies_are_saved() -> None:
    with ApiServer(over_http) as server:
        capped = Limits(max_requests=7, backoff=0.01)
        spec = EngineSpec("openai_api", "any", base_url=server.url, progress=False, concurrency=2, limits=capped)
        with pytest.raises(CapReached):
            generate_trajectories(QUERIES, [ping], spec)
        assert len(server.requests) == 7
        free = EngineSpec("openai_api", "any", base_url=server.url, progress=False)
        assert len(generate_trajectories(QUERIES, [ping], free)) == len(QUERIES)
        assert len(server.requests) == 2 * len(QUERIES), "the first seven replies are stored"


def test_too_many_failures_stop_the_run() -> None:
    with ApiServer(lambda received, seen: error(503, "overloaded", "later")) as server:
        spec = EngineSpec(
            "openai_api", "any", base_url=server.url, progress=False, retries=0, limits=Limits(backoff=0.01)
        )
        with pytest.raises(TooManyFailures, match="12 of 12"):
            generate_trajectories(QUERIES, [ping], spec)


# Functions ------------------------------------------------------------------------------------------------------------


def pings_then_answers(request: Request) -> Reply:
    n_replies = sum(message.role == "assistant" for message in request.messages)
    return Reply("", tool_calls=(ANSWER if n_replies else ("ping", '{"host": "a"}'),))


def _function(work: Callable[..., Any]) -> Function:
    return Function("ping", "Asks a host.", HOST, work)


def test_all_searches_and_runs_share_one_call(tmp_path: Path) -> None:
    log = str(tmp_path / "called")  # a list would be part of the function's key

    def work(host: str) -> str:
        with open(log, "a") as file:
            file.write(host)
        return "up"

    generate_trajectories(QUERIES, [_function(work)], scripted(pings_then_answers, progress=False))
    generate_trajectories([*QUERIES, "And this one?"], [_function(work)], scripted(pings_then_answers, progress=False))
    assert Path(log).read_text() == "a"


def test_a_tool_failure_is_stored_for_its_search_only(tmp_path: Path) -> None:
    log = str(tmp_path / "called")

    def work(host: str) -> str:
        first = not Path(log).exists()
        with open(log, "a") as file:
            file.write(host)
        if first:
            raise ToolError("unavailable", "come back later")
        return "up"

    first = generate_trajectories(QUERIES[:1], [_function(work)], scripted(pings_then_answers, progress=False))
    both = generate_trajectories(QUERIES[:2], [_function(work)], scripted(pings_then_answers, progress=False))
    assert files_of(first).items() <= files_of(both).items(), "the first search keeps its observation"
    observations = [row["messages"][-2]["content"] for row in trajectories(both) if row["step"] == 2]
    assert ["come back later" in text for text in observations] == [True, False]
    assert Path(log).read_text() == "aa"


def test_searches_that_wait_for_one_call_all_get_its_failure(tmp_path: Path) -> None:
    log, asked = tmp_path / "called", tmp_path / "asked"

    def reply(request: Request) -> Reply:
        if QUERIES[2] not in request.messages[1].content:
            return pings_then_answers(request)
        asked.touch()  # the replies to the first two searches have been delivered: both wait for the call
        return Reply("", tool_calls=(ANSWER,))

    def work(host: str) -> str:
        with open(log, "a") as file:
            file.write(host)
        wait_until(asked.exists)
        raise ToolError("unavailable", "come back later")

    answers = generate_trajectories(QUERIES[:3], [_function(work)], scripted(reply, progress=False))
    observations = [row["messages"][-2]["content"] for row in trajectories(answers) if row["step"] == 2]
    assert ["come back later" in text for text in observations] == [True, True]
    assert log.read_text() == "a"


def test_functions_with_state_are_executed_once(tmp_path: Path) -> None:
    """A function may change the values it uses; its key is taken at the start of the run."""
    memory: dict[str, int] = {}
    log = str(tmp_path / "called")

    def work(host: str) -> str:
        memory[host] = len(memory)
        with open(log, "a") as file:
            file.write("x")
        return "up"

    functions = [Function(f"ping{n}", "Asks.", HOST, partial(work)) for n in range(150)]
    table = Dataset.from_dict({"id": [str(n) for n in range(150)], "query": [f"Ask {n}." for n in range(150)]})
    answers = generate_trajectories(table, functions, scripted(pings_by_number, progress=False))
    assert answers["valid"][:] == [True] * 150
    assert Path(log).read_text() == "x" * 150


def pings_by_number(request: Request) -> Reply:
    number = request.messages[1].content.split()[1].strip(".")
    n_replies = sum(message.role == "assistant" for message in request.messages)
    return Reply("", tool_calls=(ANSWER if n_replies else (f"ping{number}", json.dumps({"host": number})),))


def unpaired_surrogate(request: Request) -> Reply:
    has_asked = any(message.role == "assistant" for message in request.messages)
    return Reply("half \ud800", tool_calls=(ANSWER if has_asked else ("ping", '{"host": "\ud800"}'),))


@pytest.mark.parametrize("protocol", ["tools", "text"])
def test_both_passes_repair_unpaired_surrogates(protocol: str) -> None:
    answers = generate_trajectories(
        QUERIES[:2], [ping], scripted(unpaired_surrogate, progress=False), protocol=protocol
    )
    assert answers["win"][:] == [True, True]
    assert trajectories(answers)[0]["messages"][-1]["content"] == "half \ufffd"


def interrupts(host: str) -> str:
    raise KeyboardInterrupt


def test_an_interrupt_in_a_function_ends_the_run() -> None:
    with pytest.raises(KeyboardInterrupt):
        generate_trajectories(QUERIES, [_function(interrupts)], scripted(pings_then_answers, progress=False))


def test_a_query_selects_its_functions() -> None:
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
    with pytest.raises(InputError, match="names unknown functions: pong; choose from: ping, noon"):
        generate_trajectories(unknown, functions, scripted(pings_then_answers, progress=False))


def test_a_questions_table_and_a_model_without_tool_calling() -> None:
    questions = load_source("sample", split="train").select(range(2))
    replies = {
        "": 'Thought: I look.\nAction: ping\nAction Input: {"host": "a"}',
        "Observation:": f"Action: Finish\nAction Input: {ANSWER[1]}",
    }
    answers = generate_trajectories(questions, [ping], scripted(replies, progress=False), protocol="text")
    assert answers["query"][:] == questions["question"][:]
    assert trajectories(answers)[0]["messages"][-1]["content"] == "I look."
    assert answers["finish_type"][:] == ["give_answer"] * 2


@pytest.mark.parametrize(("temperature", "requests"), [(0.0, 3), (1.0, 2 + 4 + 8)])
def test_a_greedy_model_gets_no_repeated_request(temperature: float, requests: int) -> None:
    model = scripted({"": "I think."}, temperature=temperature, progress=False)
    answers = generate_trajectories(QUERIES[:1], [ping], model, method=Method(max_turns=3))
    assert lineage(answers)[-2]["usage"]["requests"] == answers[0]["n_calls"] == requests


@pytest.mark.usefixtures("one_thread")
def test_a_weak_local_model_yields_answer_files(tmp_path: Path) -> None:
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
        ({"method": Method("chain", chains=2)}, "would be equal: expected a temperature above 0"),
        ({"queries": "one text"}, "expected one table .a split. or a list of texts, found a str"),
        ({"queries": ["a", " "]}, "expected one table .a split. or a list of texts, found an empty query"),
        ({"queries": Dataset.from_dict({"id": ["1"], "text": ["a"]})}, "query"),
        ({"queries": DatasetDict({"train": Dataset.from_dict({"id": ["1"], "query": ["a"]})})}, "found a DatasetDict"),
        ({"queries": (query for query in QUERIES)}, "found a generator"),
        (
            {"queries": Dataset.from_dict({"id": ["1"], "query": [None]}).cast_column("query", Value("string"))},
            "is empty",
        ),
        ({"functions": [ping, ping]}, "two functions have the same name"),
    ],
)
def test_invalid_arguments_are_rejected_before_any_request(arguments: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {
        "queries": QUERIES,
        "functions": [ping],
        "engine": scripted([], progress=False),
    } | arguments
    with pytest.raises(InputError, match=message):
        generate_trajectories(**options)


def refuse(request: Request) -> Reply:
    return Reply(None, error="content_filter", error_detail="no")


def test_a_search_without_steps_has_a_drop_reason() -> None:
    answers = generate_trajectories(QUERIES[:2], [ping], scripted(refuse, progress=False, max_failed=1.0))
    for samples in (trajectories(answers, steps="all"), trajectories(answers), preference_pairs(answers)):
        assert len(samples) == 0
        assert len(ledger([samples])) == 2
    assert ledger([trajectories(answers, steps="all")])["reason"][:] == ["no_steps"] * 2
