"""The exchange: one request for what several ask, here and in other processes, and memory that does not grow."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from datasets.utils import tqdm

from toolrlef_data.engines import exchange
from toolrlef_data.engines.claims import Claims
from toolrlef_data.engines.exchange import Exchange
from toolrlef_data.engines.reply_store import ReplyStore
from toolrlef_data.engines.scripted import ScriptedEngine, scripted
from toolrlef_data.engines.spec import Request
from toolrlef_data.records import Reply


def echo(request: Request) -> str:
    return f"{request.prompt}!"


class Entered(ScriptedEngine):
    """Counts how often it was begun, as a local model would be loaded."""

    begun = 0

    def __enter__(self) -> Any:
        Entered.begun += 1
        return super().__enter__()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ReplyStore]:
    Entered.begun = 0
    opened = ReplyStore(tmp_path / "replies.sqlite")
    yield opened
    opened.close()


def made(store: ReplyStore, came: list[tuple[str, str | None]]) -> Exchange:
    spec = scripted(echo, progress=False)
    engine: Any = Entered(spec)
    bar = tqdm(total=0, disable=True)
    return Exchange(engine, spec, store, bar, expected=9, on_reply=lambda key, reply: came.append((key, reply.text)))


def lookups(own: Exchange, keys: Sequence[str]) -> Iterator[None]:
    own.lookup([(key, Request(prompt=key)) for key in keys])
    while own.unsent:
        yield


def test_what_several_ask_is_sent_once_and_nothing_that_is_stored(store: ReplyStore) -> None:
    came: list[tuple[str, str | None]] = []
    store.put([("a", Reply("stored"))])
    own = made(store, came)
    salt, facts = own.run(lookups(own, "abbcb"))
    assert (salt, facts["usage"]["requests"]) == ("", 5)
    assert came == [("b", "b!"), ("c", "c!")]
    assert (own.progress.answered, own.progress.from_store) == (2, 3)


def test_no_engine_is_begun_where_everything_is_stored_or_comes_from_elsewhere(store: ReplyStore) -> None:
    came: list[tuple[str, str | None]] = []
    store.put([("a", Reply("stored"))])
    own = made(store, came)
    with Claims(store) as theirs:
        theirs.take(["b"])
        answered = threading.Timer(0.3, lambda: store.put([("b", Reply("theirs"))]))
        answered.start()
        own.run(lookups(own, "ab"))
        answered.join()
    assert came == [("b", "theirs")]
    assert Entered.begun == own.progress.answered == 0
    assert own.progress.from_store == 2


def test_what_others_leave_is_taken_over_some_at_a_time(store: ReplyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "LOOKED_AT", 2)
    came: list[tuple[str, str | None]] = []
    own = made(store, came)
    with Claims(store) as theirs:
        theirs.take(["a", "b", "c", "d", "e"])
        given_up = threading.Timer(0.3, theirs.give_up, [["d", "e"]])
        given_up.start()
        ended = threading.Timer(1.2, lambda: store.put([(key, Reply("theirs")) for key in "abc"]))
        ended.start()
        own.run(lookups(own, "abcde"))
        given_up.join()
        ended.join()
    assert sorted(came) == [("a", "theirs"), ("b", "theirs"), ("c", "theirs"), ("d", "d!"), ("e", "e!")]
    assert sorted(key for key, _ in came[:2]) == ["d", "e"], "those behind what is still asked are not kept waiting"


def test_what_a_batch_job_of_an_earlier_run_brings_is_not_sent(store: ReplyStore) -> None:
    came: list[tuple[str, str | None]] = []
    own = made(store, came)
    with own.claims:
        own.lookup([(key, Request(prompt=key)) for key in "ab"])
        requests = own._requests(lookups(own, ""))
        first = next(requests)
        own._deliver({"b": Reply("from the job"), "z": Reply("asked by nobody")})
        assert [first and first[0], *(pair and pair[0] for pair in requests)] == ["a"]
    assert came == [("b", "from the job")]
