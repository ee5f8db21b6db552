"""Batch mode with a local server: uploads, jobs of earlier runs, failed lines and failed batches."""

from __future__ import annotations

import gzip
import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
from datasets import Dataset, Value

from tests.support.api_server import ApiServer, BatchPlan, ReceivedRequest, ServerReply, completion, error
from tests.support.chains import Chains
from toolrlef_data.engines.claims import BatchJobs
from toolrlef_data.engines.model_stage import ModelStage, run_model_stage
from toolrlef_data.engines.openai_api import batches
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
    replies: list[str] = run_model_stage(data, stage_of(spec))["reply"][:]
    return replies


def count_batches(server: ApiServer) -> int:
    return sum(received.method == "POST" and received.path == "/v1/batches" for received in server.requests)


def stored_jobs(server: ApiServer) -> dict[str, str | None]:
    with BatchJobs(open_store(), f"{server.url} m") as jobs:
        return jobs.pending_jobs()


def test_batch_and_direct_mode_return_the_same_replies(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with ApiServer() as server:
        batched = run(server, 20)
        assert count_batches(server) == 1
        assert len(server.lines) == 20
        assert run(server, 20, limits=Limits()) == batched, "from the store: the mode is not in the reply key"
        assert not server.count("question", "/chat/completions")
        monkeypatch.setenv("TOOLRLEF_REPLIES", str(tmp_path / "other.sqlite"))
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
        assert run(server, 20, limits=Limits()) == batched
        assert server.count("question", "/chat/completions") == 20
        assert stored_jobs(server) == {}


def test_an_unpaired_surrogate_is_rejected_before_the_upload() -> None:
    with (
        ApiServer() as server,
        OpenAIEngine(EngineSpec("openai_api", "m", base_url=server.url, limits=BATCH)) as engine,
    ):
        ((_, reply),) = next(engine.generate([("a", Request(prompt="half \ud83d"))]))
        assert reply.error == "bad_request"
        assert reply.error_detail == "the request text contains an unpaired surrogate, which UTF-8 cannot encode"
        assert not count_batches(server)


def test_requests_are_split_into_batches() -> None:
    with ApiServer() as server:
        assert len(set(run(server, 50, limits=replace(BATCH, batch_rows=4)))) == 50
        assert count_batches(server) == 13
        assert len(server.lines) == 50


@pytest.mark.parametrize(
    "temporary", [error(500, None, "boom"), error(429, None, "slow down"), error(408, None, "late")]
)
def test_failed_lines_are_retried_or_final(temporary: ServerReply) -> None:
    def script(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        if not received.path.endswith("/completions"):
            return None
        if b"question 3" in received.raw:
            return error(400, "context_length_exceeded", "maximum context length is 10 tokens")
        if b"question 5" in received.raw and repeats == 0:
            return temporary
        return None

    with ApiServer(script) as server:
        replies = run(server, 10)
        assert "too_long" in replies[3]
        assert sum(reply.startswith("<") for reply in replies) == 1
        assert count_batches(server) == 2, "the second batch has the row with the temporary failure"
        assert len(server.lines) == 11


def test_an_expired_batch_keeps_its_replies_and_the_other_requests_are_retried() -> None:
    with ApiServer() as server:
        server.batch_plan = lambda number, lines: (
            BatchPlan("expired", answered=range(6)) if number == 0 else BatchPlan()
        )
        replies = run(server, 10)
        assert not any(reply.startswith("<") for reply in replies)
        assert len(server.lines) == 10, "no row with a reply is sent twice"
        assert count_batches(server) == 2


def test_a_batch_has_one_endpoint_and_files_of_a_limited_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_FILE_BYTES", 1000)
    kinds = [Request(prompt="x" * 300), Request(messages=(Message("user", "x" * 300),))]
    requests = [(str(n), replace(kinds[n // 5 % 2], seed=n)) for n in range(20)]
    with ApiServer() as server:
        spec = EngineSpec("openai_api", "m", base_url=server.url, limits=BATCH, progress=False, temperature=0.5)
        with OpenAIEngine(spec) as engine:
            replies = dict(chain.from_iterable(engine.generate(requests)))
        assert sorted(replies) == sorted(tag for tag, _ in requests)
        assert all(reply.text for reply in replies.values())
        jobs = server.batches.jobs.values()
        assert all({line["url"] for line in job.lines} == {job.batch["endpoint"]} for job in jobs)
        assert [len(job.lines) for job in jobs] == [3, 2] * 4, "the third line exceeds 1,000 bytes"


def test_batch_rows_applies_to_retries() -> None:
    sizes: list[int] = []

    def plan(number: int, lines: list[dict[str, Any]]) -> BatchPlan:
        sizes.append(len(lines))
        return BatchPlan("expired", answered=[]) if number < 5 else BatchPlan()

    with ApiServer() as server:
        server.batch_plan = plan
        assert not any(reply.startswith("<") for reply in run(server, 22, limits=replace(BATCH, batch_rows=4)))
        assert max(sizes) == 4


def test_rejections_are_final_and_a_batch_of_only_rejections_stops_the_run() -> None:
    def script(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        bad = received.path.endswith("/completions") and b"bad" in received.raw
        return error(400, None, "unfit") if bad else None

    def replies_to(questions: list[str]) -> list[str]:
        spec = EngineSpec("openai_api", "m", base_url=server.url, limits=BATCH, progress=False, max_failed=0.9)
        data = Dataset.from_list([{"id": str(i), "text": text} for i, text in enumerate(questions)])
        return list(run_model_stage(data, stage_of(spec))["reply"])

    with ApiServer(script) as server:
        replies = replies_to([*(f"bad {i}" for i in range(12)), "good", "fine"])
        assert sum(reply.startswith("<bad") for reply in replies) == 12
        only_bad = [f"bad as well {i}" for i in range(12)]
        with pytest.raises(AllRequestsRefused, match="unfit"):
            replies_to(only_bad)
        server.script = None
        assert not any(reply.startswith("<") for reply in replies_to(only_bad))


def test_rejections_after_a_reply_stop_no_run() -> None:
    def script(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        is_bad = any(f"question {n}".encode() in received.raw for n in range(10, 20))
        return error(400, None, "unfit") if received.path.endswith("/completions") and is_bad else None

    with ApiServer(script) as server:
        replies = run(server, 20, limits=replace(BATCH, batch_rows=10), max_failed=0.9)
        assert [reply.startswith("<bad_request") for reply in replies] == [False] * 10 + [True] * 10
        assert count_batches(server) == 2


def test_a_batch_that_always_expires_ends_with_timeouts() -> None:
    with ApiServer() as server:
        server.batch_plan = lambda number, lines: BatchPlan("expired", answered=[])
        replies = run(server, 3, retries=2, max_failed=1.0)
        assert all(reply.startswith("<timeout") for reply in replies)
        assert count_batches(server) == 3


@pytest.mark.parametrize("line", [1, 2, 6])
def test_an_invalid_line_does_not_fail_the_other_requests(line: int) -> None:
    bad = {"code": "invalid_json_line", "message": "bad line", "line": line, "param": None}
    with ApiServer() as server:
        server.batch_plan = lambda number, lines: BatchPlan(failed=bad) if number == 0 else BatchPlan()
        replies = run(server, 6)
        assert [reply.startswith("<bad_request") for reply in replies] == [n == line for n in range(1, 7)]


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_cancelled_batch_is_not_submitted_again(is_silent: bool) -> None:
    with ApiServer() as server:
        server.batch_plan = lambda number, lines: BatchPlan("cancelled", answered=[0], is_silent=is_silent)
        with pytest.raises(TooManyFailures, match="2 of 3 requests"):
            run(server, 3)
        assert count_batches(server) == 1


def test_a_server_without_batch_endpoints_is_an_error() -> None:
    with (
        ApiServer(lambda received, repeats: ServerReply(501, "no") if "/files" in received.path else None) as server,
        pytest.raises(ToolrlefError, match="the batch endpoints failed"),
    ):
        run(server, 3, retries=1)


@pytest.mark.parametrize("drop", ["before", "headers", "body", "reset"])
@pytest.mark.parametrize("endpoint", ["/v1/files", "/v1/batches", "/content"])
def test_a_lost_http_response_creates_no_second_job(endpoint: str, drop: Any) -> None:
    matches: list[str] = []  # uploads have random boundaries, so `repeats` does not count them

    def script(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        if received.path.endswith(endpoint) and (endpoint == "/content" or received.method == "POST"):
            matches.append(received.path)
            return ServerReply(drop=drop) if len(matches) == 1 else None
        return None

    with ApiServer(script) as server:
        assert not any(reply.startswith("<") for reply in run(server, 6))
        assert len(server.batches.jobs) == 1
        assert len(server.lines) == 6


@pytest.mark.parametrize("endpoint", ["/v1/files", "/v1/batches", "/content", "poll"])
@pytest.mark.parametrize("body", ["<html>wait</html>", "{}", "[]", ""])
def test_an_invalid_response_body_is_requested_again(endpoint: str, body: str) -> None:
    matches: list[str] = []

    def script(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        is_poll = received.method == "GET" and received.path.startswith("/v1/batches/batch")
        is_match = is_poll if endpoint == "poll" else received.path.endswith(endpoint)
        if is_match and (endpoint in ("poll", "/content") or received.method == "POST"):
            matches.append(received.path)
            return ServerReply(200, body.encode()) if len(matches) == 1 else None
        return None

    with ApiServer(script) as server:
        if endpoint == "/content" and not body:
            return  # an empty result file is valid: the batch has no results
        assert not any(reply.startswith("<") for reply in run(server, 6))
        assert len(server.batches.jobs) == 1
        assert len(server.lines) == 6


@pytest.mark.parametrize("endpoint", ["/v1/files", "/v1/batches", "/content", "poll"])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_a_huge_response_of_a_batch_endpoint_is_not_read(endpoint: str, is_compressed: bool) -> None:
    size = 2_000_000 if endpoint == "/content" else 8_000_000  # a file has a limit of its own
    body = json.dumps({"pad": "8" * size}).encode()
    huge = (
        ServerReply(200, gzip.compress(body), {"content-encoding": "gzip"}) if is_compressed else ServerReply(200, body)
    )

    def script(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        is_poll = received.method == "GET" and received.path.startswith("/v1/batches/batch")
        is_match = is_poll if endpoint == "poll" else received.path.endswith(endpoint)
        return huge if is_match and (endpoint in ("poll", "/content") or received.method == "POST") else None

    with ApiServer(script) as server:
        with pytest.raises(ToolrlefError, match="compressed" if is_compressed else "more than [0-9]+ bytes"):
            run(server, 6, retries=1, max_tokens=4)
        created = len(server.batches.jobs)
        server.script = None
        assert not any(reply.startswith("<") for reply in run(server, 6, max_tokens=4))
        assert len(server.batches.jobs) == max(created, 1), "no request is billed twice"


def test_a_long_line_of_a_result_file_is_skipped() -> None:
    def script(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        file = server.batches.files.get(received.path.split("/")[-2])
        if not received.path.endswith("/content") or file is None or len(server.batches.jobs) > 1:
            return None
        first, _, others = file[1].partition(b"\n")
        long = b'{"pad": "%b", ' % (b"8" * 1_010_000) + first[1:] + b"\n"
        return ServerReply(200, long + others)

    with ApiServer(script) as server:
        assert not any(reply.startswith("<") for reply in run(server, 6, max_tokens=4))
        assert [len(job.lines) for job in server.batches.jobs.values()] == [6, 1], "its request is sent again"


def test_a_job_of_a_run_with_more_tokens_is_read() -> None:
    """The file limit of a recovered job cannot follow the settings of this run."""
    texts = {str(i): "8" * 60_000 for i in range(30)}

    def script(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        if received.path.endswith("/completions"):
            return completion(texts[received.raw.split(b"question ")[1].split(b'"')[0].decode()])
        return error(503, None, "later") if received.path.endswith("/content") and is_broken else None

    with ApiServer(script) as server:
        is_broken = True
        with pytest.raises(ToolrlefError, match="later"):
            run(server, 30, retries=0, max_tokens=16_000)
        is_broken = False
        run(server, 1, max_tokens=1)
        assert len(run(server, 30, max_tokens=16_000)[3]) == 60_000
        assert sum(received.path.endswith("/content") for received in server.requests) == 3
        assert len(server.batches.jobs) == 2, "one per setting"


def test_a_missing_result_file_is_not_billed_twice() -> None:
    missing = error(404, None, "no such file")
    with ApiServer(lambda received, repeats: missing if received.path.endswith("/content") else None) as server:
        with pytest.raises(ToolrlefError, match="does not exist"):
            run(server, 6)
        server.script = None
        assert not any(reply.startswith("<") for reply in run(server, 6))
        assert len(server.batches.jobs) == 1
        assert spending_of(server.url, "m").in_flight == 0
        assert spending_of(server.url, "m").requests == 6


def test_a_batch_that_is_temporarily_not_found_is_not_billed_twice() -> None:
    polls: list[str] = []

    def script(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        if received.method == "GET" and received.path.startswith("/v1/batches/batch"):
            polls.append(received.path)
            return error(404, None, "no such batch") if len(polls) < 3 else None
        return None

    with ApiServer(script) as server:
        assert not any(reply.startswith("<") for reply in run(server, 6))
        assert len(server.batches.jobs) == 1


def test_a_batch_that_stays_not_found_is_sent_again_after_the_retries() -> None:
    polls: list[str] = []

    def script(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        if received.path == f"/v1/batches/{next(iter(server.batches.jobs), None)}":
            polls.append(received.path)
            return error(404, None, "no such batch")
        return None

    with ApiServer(script) as server:
        assert not any(reply.startswith("<") for reply in run(server, 6, retries=2))
        assert (len(polls), [len(job.lines) for job in server.batches.jobs.values()]) == (3, [6, 6])


def test_a_batch_that_one_key_does_not_find_is_fetched_with_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEYS", "key-of-one-account,key-of-another")

    def script(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        is_read = received.method == "GET" and received.path.count("/") > 2
        return error(404, None, "not found") if is_read and received.key == "key-of-one-account" else None

    with ApiServer(script) as server:
        assert not any(reply.startswith("<") for reply in run(server, 6, keys="MY_KEYS", retries=0))
        assert len(server.batches.jobs) == 1


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE jobs SET remote = 'batch_other'",
        "UPDATE jobs SET remote = X'FF00'",
        "UPDATE jobs SET remote = CAST(X'FF' AS TEXT)",
        "UPDATE jobs SET server = 'http://127.0.0.1:1/v1 m'",
        "UPDATE jobs SET owner = 'x/../y'",
        "UPDATE jobs SET job = 'renamed'",
        "DELETE FROM jobs",
        "UPDATE job_keys SET key = replace(key, substr(key, 1, 1), 'X') WHERE rowid = 2",
        "UPDATE job_keys SET job = 'x' || job WHERE rowid = 3",
        "DELETE FROM job_keys WHERE rowid = 1",
        "DELETE FROM job_keys",
    ],
)
def test_a_job_whose_record_is_damaged_is_not_billed_twice(damage: str) -> None:
    children: list[int] = []

    def kill_at_the_first_poll(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        if received.method == "GET" and received.path.startswith("/v1/batches/batch") and children:
            os.kill(children.pop(), signal.SIGKILL)
        return None

    with ApiServer(kill_at_the_first_poll) as server:
        reader, writer = os.pipe()
        if (child := os.fork()) == 0:
            os.read(reader, 1)  # until the parent knows the process
            run(server, 6)
            os._exit(0)
        children.append(child)
        os.write(writer, b"x")
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        for end in (reader, writer):
            os.close(end)
        with open_store().writing() as connection:
            connection.execute(damage)
        replies = run(server, 7, retries=int("job_keys" not in damage))  # a new request
        assert not any(reply.startswith("<") for reply in replies)
        assert [len(job.lines) for job in server.batches.jobs.values()] == [6, 1]
        assert stored_jobs(server) == {}


def test_a_job_that_another_run_is_submitting_is_not_recovered() -> None:
    with ApiServer() as server, BatchJobs(open_store(), f"{server.url} m") as other_jobs:
        other_jobs.begin("other", ["a", "b"])
        with BatchJobs(open_store(), f"{server.url} m") as jobs:
            assert jobs.pending_jobs() == {}
        other_jobs.mark_accepted("other", "batch_1")
        with BatchJobs(open_store(), f"{server.url} m") as jobs:
            assert jobs.pending_jobs() == {"other": "batch_1"}
            assert jobs.keys("other") == ["a", "b"]


def test_caps_apply_in_batch_mode() -> None:
    with ApiServer() as server:
        with pytest.raises(CapReached, match="max_requests=4"):
            run(server, 10, limits=replace(BATCH, max_requests=4))
        assert len(server.lines) == 4
        assert stored_jobs(server) == {}
        run(server, 10, limits=replace(BATCH, max_requests=100))
        assert len(server.lines) == 10, "completed rows are not sent again"


def test_tokens_are_in_the_lineage() -> None:
    with ApiServer() as server:
        spec = EngineSpec("openai_api", "m", base_url=server.url, limits=BATCH, progress=False)
        data = Dataset.from_list([{"id": str(i), "text": f"question {i}"} for i in range(5)])
        usage = lineage(run_model_stage(data, stage_of(spec)))[-1]["usage"]
        assert usage["requests"] == 5
        assert usage["prompt_tokens"] > 0
        assert usage["completion_tokens"] > 0


def test_requests_that_are_ready_together_share_a_batch() -> None:
    with ApiServer() as server:
        chains = Chains("abcdef", steps=3).run(EngineSpec("openai_api", "m", base_url=server.url, limits=BATCH))
        assert not chains.is_open()
        assert count_batches(server) == 3, "one per step, for all chains"
        assert len(server.lines) == 18
        assert stored_jobs(server) == {}
        assert spending_of(server.url, "m").in_flight == 0


def test_a_slow_batch_does_not_delay_others() -> None:
    releases: list[str] = []

    def script(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        job = server.batches.jobs.get(received.path.rpartition("/")[2])
        if job is None or releases or "slow" not in job.lines[0]["body"]["prompt"]:
            return None
        return ServerReply(body={**job.batch, "status": "in_progress"})

    with ApiServer(script) as server:
        chains = Chains(["slow", "a", "b"], steps=4)
        spec = EngineSpec("openai_api", "m", base_url=server.url, limits=replace(BATCH, batch_rows=1))
        with OpenAIEngine(spec) as engine:
            for replies in engine.generate(chains.requests()):
                chains.receive(replies)
                if len(chains.texts["a"]) == len(chains.texts["b"]) == 4:
                    releases.append("")
        assert not chains.is_open()
        assert [event for event in chains.events if event.startswith("(")][-4:] == [f"(slow {i} 0)" for i in range(4)]
        assert count_batches(server) == 12


def test_a_failed_line_is_retried_while_its_chain_waits() -> None:
    failed = error(500, None, "boom")
    with ApiServer(
        lambda received, repeats: failed if received.path.endswith("/completions") and repeats == 0 else None
    ) as server:
        chains = Chains("ab", steps=2).run(EngineSpec("openai_api", "m", base_url=server.url, limits=BATCH))
        assert not any(text.startswith("<") for texts in chains.texts.values() for text in texts)
        assert count_batches(server) == 4


# Texts and headers ----------------------------------------------------------------------------------------------------

ENDS: dict[str, tuple[BatchPlan, str]] = {
    "completed": (
        BatchPlan(answered=[0], is_silent=True),
        "<server: the batch was completed without a result for this request>",
    ),
    "expired": (
        BatchPlan("expired", answered=[0], is_silent=True),
        "<timeout: the batch expired before this request was processed>",
    ),
    "cancelled": (
        BatchPlan("cancelled", answered=[0], is_silent=True),
        "<server: the batch was cancelled before this request was processed>",
    ),
    "failed": (BatchPlan(failed={"code": "c", "message": "m", "line": None}), "<server: the batch failed; c: m>"),
    "one line": (
        BatchPlan(failed={"code": "c", "message": "m", "line": 2}),
        "<bad_request: c: m>",
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_request_without_a_result_says_how_its_batch_ended(end: str) -> None:
    plan, text = ENDS[end]
    with ApiServer() as server:
        server.batch_plan = lambda number, lines: plan
        replies = run(server, 2, retries=0, max_failed=1.0)
        assert replies[1] == text
        assert replies[0].startswith("<") is (end in ("failed", "one line"))


def test_the_requests_of_batch_mode_carry_the_query_and_the_headers_of_the_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ApiServer() as server:
        monkeypatch.setenv("MY_URL", server.url.replace("http://", "http://me:word@") + "?code=secret-code")
        monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
        replies = run(server, 2, base_url="$MY_URL", headers={"X-Own": "mine"})
        assert not any(reply.startswith("<") for reply in replies)
        assert len({received.path.rpartition("/")[0] for received in server.requests}) >= 3
        for received in server.requests:
            assert received.query.get("code") == "secret-code", received.path
            names = ("authorization", "x-own", "openai-organization", "accept-encoding")
            assert [received.headers.get(name) for name in names] == ["Basic bWU6d29yZA==", "mine", "org-1", "identity"]


@pytest.mark.parametrize(("retries", "count"), [(0, 1), (2, 3)])
def test_an_endpoint_that_fails_is_asked_once_and_for_each_retry(retries: int, count: int) -> None:
    with ApiServer(lambda received, repeats: error(503, None, "later")) as server:
        with pytest.raises(ToolrlefError) as caught:
            run(server, 1, retries=retries, limits=replace(BATCH, backoff=0.001))
        assert str(caught.value) == (
            f"'m' at {server.url}: the batch endpoints failed: 503: later (invalid_request_error). Completed requests are saved"
        )
        assert len(server.requests) == count


def test_a_redirect_of_a_batch_endpoint_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEYS", "key-0123456789abcdef")
    with ApiServer() as other:
        redirect = ServerReply(307, b"", headers={"location": f"{other.url}/files"})
        with ApiServer(lambda received, repeats: redirect) as server:
            with pytest.raises(ToolrlefError, match=r"has no batch endpoints; use limits=Limits\(mode='direct'\)"):
                run(server, 1, keys="MY_KEYS")
            assert server.requests
        assert not other.requests


def test_a_cancelled_run_says_that_its_batches_go_on(caplog: pytest.LogCaptureFixture) -> None:
    def running(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        job = server.batches.jobs.get(received.path.rpartition("/")[2])
        if job is None or is_done:
            return None
        engine.cancel()
        return ServerReply(body={**job.batch, "status": "in_progress"})

    with ApiServer(running) as server:
        is_done: list[str] = []
        spec = EngineSpec("openai_api", "m", base_url=server.url, limits=BATCH, progress=False)
        requests = [("a" * 32, Request(prompt="1+1=")), ("b" * 32, Request(prompt="2+2="))]
        with OpenAIEngine(spec) as engine:
            assert not [pair for replies in engine.generate(iter(requests)) for pair in replies]
        assert caplog.messages == ["1 batch jobs are still running on the server; the next run fetches their results"]
        assert spending_of(server.url, "m").in_flight == 0
        is_done.append("")
        with OpenAIEngine(spec) as engine:
            replies = dict(chain.from_iterable(engine.generate(iter(requests))))
        assert all(reply.text for reply in replies.values())
        assert (len(replies), count_batches(server), len(caplog.messages)) == (2, 1, 1)
        assert spending_of(server.url, "m").requests == 2, "those of the first run"
