"""The exchange: identical requests are sent once, across rows, processes and batch jobs."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from datasets.utils import tqdm

from toolrlef_data.engines import exchange as exchange_module
from toolrlef_data.engines.claims import Claims
from toolrlef_data.engines.exchange import Exchange
from toolrlef_data.engines.reply_store import ReplyStore
from toolrlef_data.engines.scripted import ScriptedEngine, scripted
from toolrlef_data.engines.spec import Engine, Request
from toolrlef_data.records import Reply, TooManyFailures
from toolrlef_data.tables.fingerprint import digest


def echo(request: Request) -> str:
    return f"{request.prompt}!"


class CountingEngine(ScriptedEngine):
    """A scripted engine that counts how often it is entered; a local engine would load its model each time."""

    entered = 0

    def __enter__(self) -> Any:
        CountingEngine.entered += 1
        return super().__enter__()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ReplyStore]:
    CountingEngine.entered = 0
    opened = ReplyStore(tmp_path / "replies.sqlite")
    yield opened
    opened.close()


def make_exchange(store: ReplyStore, delivered: list[tuple[str, str | None]]) -> Exchange:
    spec = scripted(echo, progress=False)
    engine: Any = CountingEngine(spec)
    bar = tqdm(total=0, disable=True)
    return Exchange(
        engine, spec, store, bar, expected=9, on_reply=lambda key, reply: delivered.append((key, reply.text))
    )


def lookups(exchange: Exchange, keys: Sequence[str]) -> Iterator[None]:
    exchange.lookup([(key, Request(prompt=key)) for key in keys])
    while exchange.unsent:
        yield


def test_identical_requests_are_sent_once_and_stored_ones_never(store: ReplyStore) -> None:
    delivered: list[tuple[str, str | None]] = []
    store.put([("a", Reply("stored"))])
    exchange = make_exchange(store, delivered)
    salt, record = exchange.run(lookups(exchange, "abbcb"))
    assert (salt, record["usage"]["requests"]) == ("", 5)
    assert delivered == [("b", "b!"), ("c", "c!")]
    assert (exchange.progress.answered, exchange.progress.from_store) == (2, 3)


def test_engine_is_not_entered_without_unsent_requests(store: ReplyStore) -> None:
    delivered: list[tuple[str, str | None]] = []
    store.put([("a", Reply("stored"))])
    exchange = make_exchange(store, delivered)
    with Claims(store) as other:
        other.acquire(["b"])
        timer = threading.Timer(0.3, lambda: store.put([("b", Reply("other"))]))
        timer.start()
        exchange.run(lookups(exchange, "ab"))
        timer.join()
    assert delivered == [("b", "other")]
    assert CountingEngine.entered == exchange.progress.answered == 0
    assert exchange.progress.from_store == 2


def test_released_claims_are_acquired_in_batches(store: ReplyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "MAX_CLAIM_CHECKS", 2)
    delivered: list[tuple[str, str | None]] = []
    exchange = make_exchange(store, delivered)
    with Claims(store) as other:
        other.acquire(["a", "b", "c", "d", "e"])
        release = threading.Timer(0.3, other.release, [["d", "e"]])
        release.start()
        replies = threading.Timer(1.2, lambda: store.put([(key, Reply("other")) for key in "abc"]))
        replies.start()
        exchange.run(lookups(exchange, "abcde"))
        release.join()
        replies.join()
    assert sorted(delivered) == [("a", "other"), ("b", "other"), ("c", "other"), ("d", "d!"), ("e", "e!")]
    assert sorted(key for key, _ in delivered[:2]) == ["d", "e"], "released claims do not wait for the others"


def test_request_answered_by_an_earlier_batch_job_is_not_sent(store: ReplyStore) -> None:
    delivered: list[tuple[str, str | None]] = []
    exchange = make_exchange(store, delivered)
    with exchange.claims:
        exchange.lookup([(key, Request(prompt=key)) for key in "ab"])
        requests = exchange._requests(lookups(exchange, ""))
        first = next(requests)
        exchange._deliver({"b": Reply("from the job"), "z": Reply("not requested")})
        assert [first and first[0], *(pair and pair[0] for pair in requests)] == ["a"]
    assert delivered == [("b", "from the job")]


def test_reply_stored_between_look_up_and_claim_is_not_requested_again(store: ReplyStore) -> None:
    """Another process looks up, claims, stores and releases while this one is between its look-up and its claim."""
    delivered: list[tuple[str, str | None]] = []
    exchange = make_exchange(store, delivered)
    acquire = exchange.claims.acquire

    def acquire_late(keys: Sequence[str]) -> set[str]:
        if (child := os.fork()) == 0:
            status = 1
            try:
                other = make_exchange(ReplyStore(store.path), [])
                other.run(lookups(other, keys))
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        return acquire(keys)

    exchange.claims.acquire = acquire_late  # type: ignore[method-assign]
    exchange.run(lookups(exchange, "ab"))
    assert (exchange.progress.answered, exchange.progress.from_store) == (0, 2)
    assert CountingEngine.entered == 0


def test_failed_requests_are_released_at_once(store: ReplyStore) -> None:
    delivered: list[tuple[str, str | None]] = []
    exchange = make_exchange(store, delivered)
    with exchange.claims, Claims(store) as other:
        exchange.lookup([(key, Request(prompt=key)) for key in "ab"])
        assert other.acquire(["a", "b"]) == {"a", "b"}
        replies = {"a": Reply(None, error="timeout"), "b": Reply("b!")}
        store.put(replies.items())
        exchange._deliver(replies)
        assert other.acquire(["a"]) == set(), "another process may send the request again, while this one goes on"
        assert other.acquire(["b"]) == {"b"}


def fail_at_first(request: Request) -> Reply:
    is_failure = request.prompt in "abc"
    return Reply(None, error="timeout") if is_failure else Reply("8")


@pytest.mark.parametrize(("max_failed", "is_stopped"), [(0.3, True), (0.4, False)])
def test_the_permitted_share_of_failures_is_that_of_the_expected_requests(
    store: ReplyStore, max_failed: float, is_stopped: bool
) -> None:
    """The first rows may fail, while the others are not looked up yet."""
    spec = scripted(fail_at_first, progress=False, max_failed=max_failed)
    exchange = Exchange(cast("Engine", ScriptedEngine(spec)), spec, store, tqdm(total=0, disable=True), expected=9)

    def one_by_one() -> Iterator[None]:
        for key in "abcdefghi":
            exchange.lookup([(key, Request(prompt=key))])
            yield

    if is_stopped:
        with pytest.raises(TooManyFailures, match="3 of 9 requests"):
            exchange.run(one_by_one())
        assert set(store.get([*"abcdefghi"])) == set()
    else:
        exchange.run(one_by_one())
        assert set(store.get([*"abcdefghi"])) == set("defghi")


def test_a_request_that_failed_in_this_run_is_not_from_the_store(store: ReplyStore) -> None:
    exchange = make_exchange(store, [])
    with exchange.claims:
        exchange.lookup([("a", Request(prompt="a"))])
        store.put([("a", Reply(None, error="timeout"))])
        exchange._deliver({"a": Reply(None, error="timeout")})
        found = exchange.lookup([("a", Request(prompt="a"))])
    assert found == {"a": Reply(None, error="timeout")}
    assert (exchange.progress.failed["timeout"], exchange.progress.from_store) == (2, 0)


def test_run_with_stored_replies_only_claims_nothing(store: ReplyStore) -> None:
    store.put([("a", Reply("stored"))])
    exchange = make_exchange(store, [])
    exchange.run(lookups(exchange, "aa"))
    assert not exchange.claims.folder.exists()


@pytest.mark.parametrize("owner", ["", "../x", "a/b", "\x00", "g" * 32, b"\xff" * 32, 5, None])
def test_claim_of_a_damaged_owner_is_expired(store: ReplyStore, owner: object) -> None:
    with Claims(store) as claims:
        claims.acquire(["a"])
        with store.writing() as connection:
            connection.execute("DROP TABLE claims")
            connection.execute("CREATE TABLE claims (key TEXT PRIMARY KEY, owner) WITHOUT ROWID")
            connection.execute("INSERT INTO claims VALUES ('b', ?)", (owner,))
            connection.execute("INSERT INTO claims VALUES ('c', CAST(X'FF' AS TEXT))")
        assert claims.acquire(["b", "c"]) == set()
    with store.reading() as connection:
        assert connection.execute("SELECT * FROM claims WHERE owner IS NOT NULL").fetchall() == []


def test_a_caller_gets_what_the_store_keeps(store: ReplyStore) -> None:
    """The first of two final replies, and a text in which unpaired surrogates are replaced."""
    delivered: list[tuple[str, str | None]] = []
    exchange = make_exchange(store, delivered)
    with exchange.claims:
        exchange.lookup([(key, Request(prompt=key)) for key in "abc"])
        replies = {"a": Reply("second"), "b": Reply("half \ud83d"), "c": Reply(None, error="timeout")}
        store.put([("a", Reply("first"))])
        store.put(replies.items())
        exchange._deliver(replies)
    assert delivered == [("a", "first"), ("b", "half \ufffd"), ("c", None)]
    assert {key: reply.text for key, reply in store.get("abc").items()} == {"a": "first", "b": "half \ufffd"}


def fail_some(request: Request) -> Reply:
    if request.prompt in "ab":
        return Reply(None, error={"a": "timeout", "b": "too_long"}[request.prompt], error_detail="why")
    return Reply("8", prompt_tokens=3, completion_tokens=2)


def test_the_result_of_a_run_names_its_failures_and_its_usage(store: ReplyStore) -> None:
    shown: list[dict[str, Any]] = []
    bar: Any = tqdm(total=4, disable=True)
    bar.set_postfix = shown.append
    spec = scripted(fail_some, progress=False, max_failed=0.5)

    def run(keys: str) -> tuple[str, dict[str, Any]]:
        engine = cast("Engine", ScriptedEngine(spec))
        exchange = Exchange(engine, spec, store, bar, expected=4, stats=lambda: {"open": 1, "batch": 0})
        assert engine.on_step == exchange.progress.show_sometimes
        assert not exchange.progress.parallel
        return exchange.run(lookups(exchange, keys))

    salt, record = run("abcc")
    usage = {"model": "fail_some", "requests": 4, "prompt_tokens": 6, "completion_tokens": 4}
    assert (salt, record) == (digest([("a", "timeout")]), {"usage": usage, "failed": 2})
    assert {"open": 1, "batch": 0}.items() <= shown[-1].items()
    assert run("bcc") == ("", {"usage": {**usage, "requests": 3}, "failed": 1}), (
        "a final error is no reason to ask again"
    )
    assert run("cc") == ("", {"usage": {**usage, "requests": 2}})


class ParallelEngine(ScriptedEngine):
    """A scripted engine in a thread of its own, as one with an event loop."""

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.calls: list[str] = []
        self.stopped: list[Exception] = []

    def cancel(self) -> None:  # type: ignore[override]
        self.calls.append("cancel")

    def stop(self, error: Exception) -> None:  # type: ignore[override]
        self.stopped.append(error)

    def __enter__(self) -> Any:
        self.calls.append(threading.current_thread().name.rstrip("_0123456789"))
        return self


def test_a_parallel_engine_runs_in_a_thread_and_is_stopped_not_broken_off(store: ReplyStore) -> None:
    spec = scripted(fail_some, progress=False, max_failed=0.1)
    engine = ParallelEngine(spec)
    exchange = Exchange(cast("Engine", engine), spec, store, tqdm(total=4, disable=True), expected=4)
    assert exchange.progress.parallel
    with pytest.raises(TooManyFailures):
        exchange.run(lookups(exchange, "abcd"))
    assert engine.calls == ["ask", "cancel"]
    assert {str(error).splitlines()[0] for error in engine.stopped} >= {
        "1 of 4 requests to 'fail_some' failed (timeout 1), more than max_failed=0.1. All received replies are saved. A "
        "re-run sends the requests with retryable errors again."
    }
    assert set(store.get([*"abcd"])) == set("bcd"), "the requests in flight are answered"
    assert exchange.stopped.is_set()


def test_requests_wait_while_others_are_pending(store: ReplyStore) -> None:
    exchange = make_exchange(store, [])

    def dependent() -> Iterator[None]:
        exchange.lookup([("a", Request(prompt="a"))])
        yield
        while "a" in exchange.pending:
            yield
        exchange.lookup([("b", Request(prompt="b"))])
        yield

    with exchange.claims:
        requests = exchange._requests(dependent())
        assert next(requests) == ("a", Request(prompt="a"))
        assert [next(requests), next(requests)] == [None, None]
        exchange._deliver({"a": Reply("8")})
        assert next(requests) == ("b", Request(prompt="b"))
        assert exchange.progress.sent == 2
        exchange.stopped.set()
        assert next(requests, "end") == "end"


def test_a_retryable_failure_of_this_run_is_not_asked_for_twice(store: ReplyStore) -> None:
    delivered: list[tuple[str, str | None]] = []
    exchange = make_exchange(store, delivered)
    with exchange.claims:
        assert exchange.lookup([("a", Request(prompt="a")), ("a", Request(prompt="a"))]) == {}
        assert (list(exchange.unsent), exchange.pending["a"]) == ([("a", Request(prompt="a"))], 2)
        store.put([("a", Reply(None, error="server"))])
        exchange._deliver({"a": Reply(None, error="server"), "b": Reply(None, error="timeout")})
        assert (exchange.retryable, dict(exchange.pending)) == ({"a": "server"}, {})
        assert exchange.progress.failed == {"server": 2}
        assert exchange.lookup([("a", Request(prompt="a"))]) == {"a": Reply(None, error="server")}
        assert (exchange.progress.requests, len(exchange.unsent)) == (3, 1)
