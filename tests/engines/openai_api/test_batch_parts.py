"""Parts of batch mode: the input file of a job, the lines of a result file, and when a job is full or ended."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from toolrlef_data.engines.claims import BatchJobs
from toolrlef_data.engines.openai_api import batches
from toolrlef_data.engines.openai_api.batch_endpoints import (
    InvalidResponseError,
    Job,
    _find_labelled,
    _parse_result,
    _read_lines,
    _required_field,
)
from toolrlef_data.engines.openai_api.batches import BatchRun
from toolrlef_data.engines.openai_api.budget import TokenCounts
from toolrlef_data.engines.openai_api.errors import Failure
from toolrlef_data.engines.openai_api.session import Session
from toolrlef_data.engines.reply_store import ReplyStore
from toolrlef_data.engines.spec import EngineSpec, Limits, Message, Request
from toolrlef_data.records import Reply

BODY = '{"model":"m","prompt":"é 1+1="}'.encode()
RESERVED = TokenCounts(3.5, 128)


def test_the_input_file_of_a_job_has_a_line_for_each_request(tmp_path: Path) -> None:
    job = Job("name", tmp_path / "name.jsonl")
    assert (job.endpoint, job.batch_id, job.is_recovered, job.lists_all_requests) == ("", None, False, True)
    assert (job.num_bytes, job.num_not_found, job.reserved, job.unlisted) == (0, 0, {}, set())
    for tag in ("a", "b"):
        job.add(tag, "/completions", BODY, RESERVED)
    lines = job.input_file.read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"custom_id": tag, "method": "POST", "url": "/v1/completions", "body": {"model": "m", "prompt": "é 1+1="}}
        for tag in ("a", "b")
    ]
    assert (job.num_bytes, job.endpoint) == (job.input_file.stat().st_size, "/completions")
    assert job.reserved == {"a": RESERVED, "b": RESERVED}
    assert list(job.requests()) == [("a", "/completions", BODY), ("b", "/completions", BODY)]


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"ab\ncd\n", [b"ab\n", b"cd\n"]),
        (b"ab\ncd", [b"ab\n", b"cd"]),
        (b"abcde\nf\n", [b"abcde\n", b"f\n"]),  # the end of a line does not count
        (b"abcdef\nf\n", [b"f\n"]),
        (b"a" * 23 + b"\nf\n", [b"f\n"]),
        (b"a" * 23, []),
        (b"abcde", [b"abcde"]),
        (b"f\nabcdef", [b"f\n"]),
        (b"\n\n", [b"\n", b"\n"]),
        (b"", []),
    ],
)
def test_lines_above_the_limit_are_skipped(content: bytes, lines: list[bytes]) -> None:
    assert list(_read_lines(io.BytesIO(content), 5)) == lines


@pytest.fixture
def session() -> Session:
    return Session(EngineSpec("openai_api", "m", base_url="http://127.0.0.1:9/v1", limits=Limits(mode="batch")))


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        ({"response": {"status_code": 200, "body": {"choices": [{"text": "8"}]}}}, Reply("8")),
        ({"response": {"body": {"choices": [{"text": "8"}]}}}, Reply("8")),
        ({"response": {"status_code": 400, "body": {"error": "no"}}}, Failure("bad_request", "final", "400: no")),
        ({"response": {"status_code": 500, "body": None}}, Failure("server", "retry", "500: null")),
        ({"error": {"code": "batch_expired", "message": "late"}}, Failure("timeout", "retry", "batch_expired: late")),
        ({"error": {"code": "request_timeout", "message": "late"}}, Failure("timeout", "retry", "request_timeout: late")),
        ({"error": {"code": "batch_cancelled", "message": "by you"}}, Failure("server", "final", "batch_cancelled: by you")),
        ({"response": None, "error": {"code": "other", "message": "m"}}, Failure("server", "retry", "other: m")),
        ({"response": None, "error": None}, Failure("server", "retry", "None: None")),
    ],
)  # fmt: skip
def test_the_outcome_of_a_line(session: Session, line: dict[str, Any], outcome: Reply | Failure) -> None:
    assert _parse_result(session, line) == outcome


class Listing:
    """A client whose server has batches with other labels, and then the searched one."""

    def __init__(self, count: int) -> None:
        self.batches = self
        labels = [{}, None, {"toolrlef_data_job": "other"}]
        self.listed = [SimpleNamespace(id=f"{n}", metadata=labels[n % 3]) for n in range(count)]
        self.listed.append(SimpleNamespace(id="found", metadata={"toolrlef_data_job": "mine"}))

    async def list(self, limit: int) -> AsyncIterator[Any]:
        assert limit == 100
        for batch in self.listed:
            yield batch


@pytest.mark.parametrize(("count", "found"), [(0, "found"), (999, "found"), (1000, None)])
def test_a_batch_is_searched_among_the_newest_thousand(count: int, found: str | None) -> None:
    listing: Any = Listing(count)
    assert asyncio.run(_find_labelled(listing, "mine")) == found


def test_a_missing_field_is_named() -> None:
    value = SimpleNamespace(id="batch_1", empty="", number=5)
    assert _required_field(value, "id") == "batch_1"
    for field in ("empty", "number", "status"):
        with pytest.raises(InvalidResponseError, match=f"^the response body has no {field}$"):
            _required_field(value, field)


# Jobs -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(session: Session, tmp_path: Path) -> Iterator[BatchRun]:
    store = ReplyStore(tmp_path / "r.sqlite")
    session.open()
    session.close()
    with BatchJobs(store, "http://127.0.0.1:9/v1 m") as records:
        yield BatchRun(session, tmp_path, records)
    store.close()


def sizes(run: BatchRun) -> list[int]:
    return [len(job.reserved) for job in [*run.full_jobs, *([run.open_job] if run.open_job else [])]]


def test_a_job_is_full_at_each_of_its_limits(run: BatchRun, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt, chat = Request(prompt="1+1="), Request(messages=(Message("user", "1+1?"),))
    for n, request in enumerate([prompt, prompt, chat, chat, chat, prompt]):
        assert run.add(f"{n}", request)
    assert sizes(run) == [2, 3, 1], "a job has one endpoint"
    assert len({job.name for job in run.full_jobs}) == 2
    body = len(b'{"model":"m","prompt":"1+1=","max_tokens":128,"temperature":0.0}')
    assert run.open_job is not None
    assert run.open_job.reserved == {"5": TokenCounts(body / 3.0, 128)}
    spending = run.session.spending
    assert (spending.requests, spending.in_flight) == (6, 6)
    run.release_reservations()
    assert (spending.requests, spending.in_flight, spending.reserved_completion) == (6, 0, 0.0)
    monkeypatch.setattr(batches, "MAX_FILE_BYTES", run.open_job.num_bytes)
    assert run.add("6", prompt)
    assert sizes(run) == [2, 3, 1, 1], "a file has the size at which no further line is added"
    monkeypatch.setattr(batches, "MAX_FILE_BYTES", run.open_job.num_bytes + 1)
    assert run.add("7", prompt)
    assert sizes(run) == [2, 3, 1, 2]
    assert batches.MAX_JOBS == 8


def test_the_size_of_a_result_file_follows_its_requests(run: BatchRun) -> None:
    job = run.new_job("a" * 32)
    run.records.begin(job.name, ["x", "y", "z"])
    for tag in ("x", "y"):
        job.add(tag, "/completions", BODY, RESERVED)
    tokens = job.num_bytes // 125
    one = 1_000_000 + 256 * (128 + tokens)
    assert run.max_result_bytes(job) == (1_000_000 + 256 * (3 * 128 + tokens) + 3 * 4096, one)
    job.is_recovered = True
    one = 1_000_000 + 256 * (16_384 + tokens)
    assert run.max_result_bytes(job) == (1_000_000 + 256 * (3 * 16_384 + tokens) + 3 * 4096, one)


DEFAULT = Failure("server", "retry", "the batch was completed without a result for this request")


def test_the_replies_of_an_ended_job(run: BatchRun) -> None:
    """A reply counts its tokens; a temporary failure goes into the next job, until its retries are used up."""
    run.session.spec = EngineSpec(
        "openai_api", "m", base_url="http://127.0.0.1:9/v1", retries=1, limits=Limits(mode="batch")
    )
    outcomes: dict[str, Reply | Failure] = {
        "reply": Reply("8", prompt_tokens=2, completion_tokens=1),
        "final": Failure("too_long", "final", "too long"),
        "again": Failure("server", "retry", "later"),
        "limit": Failure("rate_limit", "pause_key", "slow down"),
        "key": Failure("rate_limit", "disable_key", "no money"),
        "not of this run": Reply("9"),
    }
    for tag in (*outcomes, "missing"):
        if tag != "not of this run":
            run.add_to_open_job(tag, "/completions", BODY, RESERVED)
    job, run.open_job = run.open_job, None
    assert job is not None
    replies = dict(run.collect(job, outcomes, DEFAULT))
    assert replies == {
        "reply": outcomes["reply"],
        "not of this run": Reply("9"),
        "final": Reply(None, error="too_long", error_detail="too long"),
        "key": Reply(None, error="rate_limit", error_detail="no money"),
    }
    assert run.open_job is not None
    assert [tag for tag, _, _ in run.open_job.requests()] == ["again", "limit", "missing"]
    assert run.session.failure_counts == {"too_long": 1, "server": 2, "rate_limit": 2}
    spending = run.session.spending
    assert (spending.prompt_tokens, spending.completion_tokens, spending.in_flight) == (2, 1, 3)
    job, run.open_job = run.open_job, None
    failed = dict(run.collect(job, {}, DEFAULT))
    assert failed == dict.fromkeys(
        ("again", "limit", "missing"), Reply(None, error="server", error_detail=DEFAULT.detail)
    )
    assert (run.open_job, spending.in_flight) == (None, 0)
    assert all(limiter.has_succeeded for limiter in run.session.scheduler.limiters)


def test_a_request_that_a_damaged_job_does_not_contain_is_sent_without_an_attempt(run: BatchRun) -> None:
    damaged = run.new_job("d" * 32, batch_id="batch_1", is_recovered=True, lists_all_requests=False)
    run.submitted[damaged.name] = damaged
    assert run.add("a", Request(prompt="1+1="))
    assert run.add("b", Request(prompt="1+1="))
    assert (run.open_job, damaged.unlisted, run.session.spending.requests) == (None, {"a", "b"}, 0)
    assert run.collect(damaged, {"a": Reply("8")}, DEFAULT) == [("a", Reply("8"))]
    assert run.open_job is not None
    assert list(run.open_job.reserved) == ["b"]
    assert (run.attempts, run.session.failure_counts) == ({}, {})
    assert run.session.spending.requests == 1
