"""Batch mode against a local server: what is uploaded, what is picked up again, and what becomes of the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from datasets import Dataset, Value

from tests.support.api_server import ApiServer, BatchPlan, ReceivedRequest, ServerReply, error
from tests.support.chains import Chains
from toolrlef_data.engines.claims import BatchJobs
from toolrlef_data.engines.model_stage import ModelStage, run_model_stage
from toolrlef_data.engines.openai_api.budget import spending_of
from toolrlef_data.engines.openai_api.engine import OpenAIEngine
from toolrlef_data.engines.reply_store import open_store
from toolrlef_data.engines.spec import EngineSpec, Limits, Message, Request
from toolrlef_data.records import AllRequestsRefused, CapReached, Reply, ToolrlefError, TooManyFailures
from toolrlef_data.tables.lineage import lineage

BATCH = Limits(mode="batch", poll=0.05, backoff=0.01)


def question(row: Mapping[str, Any], settings: None) -> Request:
    return Request(messages=(Message("user", row["text"]),))


def texts(row: Mapping[str, Any], replies: Sequence[Reply], settings: None) -> dict[str, Any]:
    return {"reply": replies[0].text or f"<{replies[0].error}: {replies[0].error_detail}>"}


def stage_of(spec: EngineSpec) -> ModelStage:
    return ModelStage(question, texts, None, spec, reads=["text"], adds={"reply": Value("string")}, name="test")


def run(server: ApiServer, count: int, **settings: Any) -> list[str]:
    spec = EngineSpec("openai_api", "m", **{"base_url": server.url, "limits": BATCH, "progress": False, **settings})
    data = Dataset.from_list([{"id": str(i), "text": f"question {i}"} for i in range(count)])
    done = run_model_stage(data, stage_of(spec))
    found: list[str] = done["reply"][:]
    return found


def count_batches(server: ApiServer) -> int:
    return sum(received.method == "POST" and received.path == "/v1/batches" for received in server.requests)


def stored_jobs(server: ApiServer) -> dict[str, str | None]:
    with BatchJobs(open_store(), f"{server.url} m") as jobs:
        return jobs.pending_jobs()


def test_a_batch_brings_what_direct_requests_bring(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with ApiServer() as server:
        batched = run(server, 20)
        assert count_batches(server) == 1
        assert len(server.lines) == 20
        assert run(server, 20, limits=Limits()) == batched, "from the store: the mode is no part of the key"
        assert not server.count("question", "/chat/completions")
        monkeypatch.setenv("TOOLRLEF_REPLIES", str(tmp_path / "other.sqlite"))
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
        assert run(server, 20, limits=Limits()) == batched
        assert server.count("question", "/chat/completions") == 20
        assert stored_jobs(server) == {}


def test_a_lone_surrogate_is_refused_before_it_is_in_a_batch() -> None:
    with (
        ApiServer() as server,
        OpenAIEngine(EngineSpec("openai_api", "m", base_url=server.url, limits=BATCH)) as engine,
    ):
        ((_, reply),) = next(engine.generate([("a", Request(prompt="half \ud83d"))]))
        assert (reply.error, reply.error_detail) == (
            "bad_request",
            "the text holds a lone surrogate and cannot be sent",
        )
        assert not count_batches(server)


def test_requests_are_split_over_batches_in_constant_room() -> None:
    with ApiServer() as server:
        assert len(set(run(server, 50, limits=replace(BATCH, batch_rows=4)))) == 50
        assert count_batches(server) == 13
        assert len(server.lines) == 50


def test_lines_that_failed_are_asked_again_or_are_final() -> None:
    def answer(received: ReceivedRequest, seen: int) -> ServerReply | None:
        if not received.path.endswith("/completions"):
            return None
        if b"question 3" in received.raw:
            return error(400, "context_length_exceeded", "maximum context length is 10 tokens")
        if b"question 5" in received.raw and seen == 0:
            return error(500, None, "boom")
        return None

    with ApiServer(answer) as server:
        replies = run(server, 10)
        assert "too_long" in replies[3]
        assert sum(reply.startswith("<") for reply in replies) == 1
        assert count_batches(server) == 2, "the second one with the row that failed for a passing reason"
        assert len(server.lines) == 11


def test_an_expired_batch_keeps_what_it_has_and_the_rest_goes_again() -> None:
    with ApiServer() as server:
        server.batch_plan = lambda number, lines: (
            BatchPlan("expired", answered=range(6)) if number == 0 else BatchPlan()
        )
        replies = run(server, 10)
        assert not any(reply.startswith("<") for reply in replies)
        assert len(server.lines) == 10, "no answered row is sent twice"
        assert count_batches(server) == 2


def test_an_expired_batch_does_not_make_a_larger_one() -> None:
    sizes: list[int] = []

    def plan(number: int, lines: list[dict[str, Any]]) -> BatchPlan:
        sizes.append(len(lines))
        return BatchPlan("expired", answered=[]) if number < 5 else BatchPlan()

    with ApiServer() as server:
        server.batch_plan = plan
        assert not any(reply.startswith("<") for reply in run(server, 22, limits=replace(BATCH, batch_rows=4)))
        assert max(sizes) == 4


def test_bad_rows_of_a_batch_are_final_and_a_batch_of_nothing_else_stops_the_run() -> None:
    def answer(received: ReceivedRequest, seen: int) -> ServerReply | None:
        bad = received.path.endswith("/completions") and b"bad" in received.raw
        return error(400, None, "unfit") if bad else None

    def asked(texts_of_rows: list[str]) -> list[str]:
        spec = EngineSpec("openai_api", "m", base_url=server.url, limits=BATCH, progress=False, max_failed=0.9)
        data = Dataset.from_list([{"id": str(i), "text": text} for i, text in enumerate(texts_of_rows)])
        done = run_model_stage(data, stage_of(spec))
        return list(done["reply"])

    with ApiServer(answer) as server:
        assert (
            sum(reply.startswith("<bad") for reply in asked([*(f"bad {i}" for i in range(12)), "good", "fine"])) == 12
        )
        with pytest.raises(AllRequestsRefused, match="unfit"):
            asked([f"bad as well {i}" for i in range(12)])
        server.script = None
        assert not any(reply.startswith("<") for reply in asked([f"bad as well {i}" for i in range(12)]))


def test_a_batch_that_expires_again_and_again_ends_as_timeouts() -> None:
    with ApiServer() as server:
        server.batch_plan = lambda number, lines: BatchPlan("expired", answered=[])
        replies = run(server, 3, retries=2, max_failed=1.0)
        assert all(reply.startswith("<timeout") for reply in replies)
        assert count_batches(server) == 3


def test_a_line_that_fails_validation_does_not_take_the_others_with_it() -> None:
    bad = {"code": "invalid_json_line", "message": "bad line", "line": 2, "param": None}
    with ApiServer() as server:
        server.batch_plan = lambda number, lines: BatchPlan(failed=bad) if number == 0 else BatchPlan()
        replies = run(server, 6)
        assert [reply.startswith("<bad_request") for reply in replies] == [False, True, *[False] * 4]


def test_a_cancelled_batch_is_not_started_again() -> None:
    with ApiServer() as server:
        server.batch_plan = lambda number, lines: BatchPlan("cancelled", answered=[0])
        with pytest.raises(TooManyFailures, match="2 of 3 requests"):
            run(server, 3)
        assert count_batches(server) == 1


def test_a_server_without_batches_says_so() -> None:
    with (
        ApiServer(lambda received, seen: ServerReply(501, "no") if "/files" in received.path else None) as server,
        pytest.raises(ToolrlefError, match="batches cannot be used"),
    ):
        run(server, 3, retries=1)


@pytest.mark.parametrize("drop", ["before", "headers", "body", "reset"])
@pytest.mark.parametrize("what", ["/v1/files", "/v1/batches", "/content"])
def test_an_answer_that_is_lost_makes_no_second_job(what: str, drop: Any) -> None:
    met: list[str] = []  # an upload's boundary is another each time, so `seen` does not count it

    def answer(received: ReceivedRequest, seen: int) -> ServerReply | None:
        if received.path.endswith(what) and (what == "/content" or received.method == "POST"):
            met.append(received.path)
            return ServerReply(drop=drop) if len(met) == 1 else None
        return None

    with ApiServer(answer) as server:
        assert not any(reply.startswith("<") for reply in run(server, 6))
        assert len(server.batches.jobs) == 1
        assert len(server.lines) == 6


@pytest.mark.parametrize("what", ["/v1/files", "/v1/batches", "/content", "poll"])
@pytest.mark.parametrize("broken", ["<html>wait</html>", "{}", "[]", ""])
def test_a_page_in_the_place_of_an_answer_is_asked_for_again(what: str, broken: str) -> None:
    met: list[str] = []

    def answer(received: ReceivedRequest, seen: int) -> ServerReply | None:
        poll = received.method == "GET" and received.path.startswith("/v1/batches/batch")
        hit = poll if what == "poll" else received.path.endswith(what)
        if hit and (what in ("poll", "/content") or received.method == "POST"):
            met.append(received.path)
            return ServerReply(200, broken.encode()) if len(met) == 1 else None
        return None

    with ApiServer(answer) as server:
        if what == "/content" and not broken:
            return  # an empty result file is one of a batch without results
        assert not any(reply.startswith("<") for reply in run(server, 6))
        assert len(server.batches.jobs) == 1
        assert len(server.lines) == 6


def test_a_result_file_that_is_gone_is_not_paid_again() -> None:
    gone = error(404, None, "no such file")
    with ApiServer(lambda received, seen: gone if received.path.endswith("/content") else None) as server:
        with pytest.raises(ToolrlefError, match="is not there"):
            run(server, 6)
        server.script = None
        assert not any(reply.startswith("<") for reply in run(server, 6))
        assert len(server.batches.jobs) == 1
        assert spending_of(server.url, "m").under_way == 0
        assert spending_of(server.url, "m").requests == 6


def test_a_batch_that_is_not_found_for_a_moment_is_not_paid_again() -> None:
    met: list[str] = []

    def answer(received: ReceivedRequest, seen: int) -> ServerReply | None:
        if received.method == "GET" and received.path.startswith("/v1/batches/batch"):
            met.append(received.path)
            return error(404, None, "no such batch") if len(met) < 3 else None
        return None

    with ApiServer(answer) as server:
        assert not any(reply.startswith("<") for reply in run(server, 6))
        assert len(server.batches.jobs) == 1


def test_a_job_that_another_run_hands_over_is_left_to_it() -> None:
    with ApiServer() as server, BatchJobs(open_store(), f"{server.url} m") as theirs:
        theirs.begin("theirs", ["a", "b"])
        with BatchJobs(open_store(), f"{server.url} m") as ours:
            assert ours.pending_jobs() == {}
        theirs.mark_accepted("theirs", "batch_1")
        with BatchJobs(open_store(), f"{server.url} m") as ours:
            assert ours.pending_jobs() == {"theirs": "batch_1"}
            assert ours.keys("theirs") == ["a", "b"]


def test_caps_hold_in_batches() -> None:
    with ApiServer() as server:
        with pytest.raises(CapReached, match="max_requests=4"):
            run(server, 10, limits=replace(BATCH, max_requests=4))
        assert len(server.lines) == 4
        assert stored_jobs(server) == {}
        run(server, 10, limits=replace(BATCH, max_requests=100))
        assert len(server.lines) == 10, "what ran stays"


def test_tokens_are_in_the_lineage() -> None:
    with ApiServer() as server:
        spec = EngineSpec("openai_api", "m", base_url=server.url, limits=BATCH, progress=False)
        data = Dataset.from_list([{"id": str(i), "text": f"question {i}"} for i in range(5)])
        done = run_model_stage(data, stage_of(spec))
        usage = lineage(done)[-1]["usage"]
        assert usage["requests"] == 5
        assert usage["prompt_tokens"] > 0
        assert usage["completion_tokens"] > 0


def test_what_is_ready_at_once_goes_into_one_batch() -> None:
    with ApiServer() as server:
        chains = Chains("abcdef", steps=3).run(EngineSpec("openai_api", "m", base_url=server.url, limits=BATCH))
        assert not chains.is_open()
        assert count_batches(server) == 3, "one for each step of all chains"
        assert len(server.lines) == 18
        assert stored_jobs(server) == {}
        assert spending_of(server.url, "m").under_way == 0


def test_a_slow_batch_holds_no_other_back() -> None:
    released: list[str] = []

    def answer(received: ReceivedRequest, seen: int) -> ServerReply | None:
        job = server.batches.jobs.get(received.path.rpartition("/")[2])
        if job is None or released or "slow" not in job.lines[0]["body"]["prompt"]:
            return None
        return ServerReply(body={**job.shown, "status": "in_progress"})

    with ApiServer(answer) as server:
        chains = Chains(["slow", "a", "b"], steps=4)
        spec = EngineSpec("openai_api", "m", base_url=server.url, limits=replace(BATCH, batch_rows=1))
        with OpenAIEngine(spec) as engine:
            for replies in engine.generate(chains.requests()):
                chains.receive(replies)
                if len(chains.texts["a"]) == len(chains.texts["b"]) == 4:
                    released.append("")
        assert not chains.is_open()
        assert [event for event in chains.events if event.startswith("(")][-4:] == [f"(slow {i} 0)" for i in range(4)]
        assert count_batches(server) == 12


def test_a_line_that_failed_is_asked_again_while_its_chain_waits() -> None:
    failed = error(500, None, "boom")
    with ApiServer(
        lambda received, seen: failed if received.path.endswith("/completions") and seen == 0 else None
    ) as server:
        chains = Chains("ab", steps=2).run(EngineSpec("openai_api", "m", base_url=server.url, limits=BATCH))
        assert not any(text.startswith("<") for said in chains.texts.values() for text in said)
        assert count_batches(server) == 4
