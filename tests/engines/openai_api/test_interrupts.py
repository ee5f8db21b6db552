"""Interrupts and threads: an interrupted stage loses no reply and repeats no completed request."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import functools
import gc
import signal
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import pytest

from tests.support.api_runs import (
    CONCURRENCY,
    STALL_SECONDS,
    answer_texts,
    column_values,
    load_questions,
    owner_files,
    sent_marks,
    stored_marks,
    sum_reply,
    write_questions,
)
from tests.support.api_server import ApiServer, ReceivedRequest, ServerReply
from tests.support.waiting import HANG_TIMEOUT, wait_until
from toolrlef_data import EngineSpec
from toolrlef_data.engines.openai_api.engine import OpenAIEngine
from toolrlef_data.engines.spec import Limits, Message, Request
from toolrlef_data.records import Reply


@contextlib.contextmanager
def interrupt_after(seconds: float) -> Iterator[list[float]]:
    """Raise KeyboardInterrupt in this thread, as Ctrl-C does; the list is non-empty once it was raised."""
    raised: list[float] = []

    def interrupt(*_: object) -> None:
        raised.append(seconds)
        raise KeyboardInterrupt

    previous_handler = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield raised
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous_handler)


def engine_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("ask")]


# An interrupt may fall between the opening of a file and its `with`; the garbage collector then closes it.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stage_interrupted_at_any_moment_resumes_in_the_same_process(tmp_path: Path, fresh_caches: Path) -> None:
    first, questions = (
        load_questions(write_questions(tmp_path / "first", 1)),
        load_questions(write_questions(tmp_path / "rows", 200)),
    )
    with ApiServer(sum_reply, latency=0.03) as server:
        answer_texts(server, first)  # imports and digests everything before the timing starts
        interrupts = swallowed = 0
        for step in range(24):
            num_sent, previously_stored = len(server.requests), stored_marks(fresh_caches)
            try:
                with interrupt_after(0.003 + 0.013 * step) as raised:
                    answer_texts(server, questions)
                swallowed += len(raised)
            except KeyboardInterrupt as interrupt:
                interrupts += 1
                if "_adjust_thread_count" in {frame.name for frame in traceback.extract_tb(interrupt.__traceback__)}:
                    # The thread was starting, so it was not joined; it ends without a join (see below).
                    wait_until(lambda: not engine_threads())
            assert not engine_threads(), "the thread is joined"
            assert not owner_files(fresh_caches)
            assert previously_stored.isdisjoint(sent_marks(server, num_sent))
            wait_until(lambda: not server.connections)
        gc.collect()
        # `datasets` hashes inside a bare `except:`, which swallows an interrupt; the stage then completes.
        assert interrupts > 5 or swallowed
        texts = answer_texts(server, questions)
        assert len(texts) == len(sent_marks(server)) == 200
        assert sent_marks(server).total() <= 200 + CONCURRENCY * interrupts
        assert not column_values(fresh_caches, "claims", "key")


def test_an_interrupt_is_noticed_without_a_signal_that_wakes_the_waiting_thread(tmp_path: Path) -> None:
    # Another thread may receive the signal, or it may arrive just before the wait begins.
    def script(received: ReceivedRequest, repeats: int) -> ServerReply:
        if len(server.requests) == CONCURRENCY:
            _thread.interrupt_main()
        return ServerReply(200, sum_reply(received).body, delay=20.0)

    with ApiServer(script) as server:
        with pytest.raises(KeyboardInterrupt):
            answer_texts(server, load_questions(write_questions(tmp_path / "rows", 200)))
        assert len(server.requests) < 200, "the interrupt ends the stage early"


def test_an_interrupt_while_the_engine_thread_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = load_questions(write_questions(tmp_path / "rows", 200))
    original_start = threading.Thread.start

    def interrupted_start(thread: threading.Thread) -> None:
        original_start(thread)
        if thread.name.startswith("ask"):
            raise KeyboardInterrupt

    with ApiServer(sum_reply, latency=STALL_SECONDS) as server:
        monkeypatch.setattr(threading.Thread, "start", interrupted_start)
        with pytest.raises(KeyboardInterrupt):
            answer_texts(server, questions)
        wait_until(lambda: not engine_threads())  # the thread must not keep running


# Notebooks and threads -----------------------------------------------------------------------------------------------


def test_in_a_running_loop_and_in_a_worker_thread(tmp_path: Path) -> None:
    first, second = (
        load_questions(write_questions(tmp_path / "first", 30)),
        load_questions(write_questions(tmp_path / "second", 31)),
    )
    with ApiServer(sum_reply) as server:

        async def main() -> list[str]:
            ticks = asyncio.create_task(asyncio.sleep(0))
            texts = answer_texts(server, first)
            await ticks
            return texts

        assert len(asyncio.run(main())) == 30
        with ThreadPoolExecutor(1) as pool:
            assert len(pool.submit(answer_texts, server, second).result(HANG_TIMEOUT)) == 31
        assert sent_marks(server).total() == 31, "both share the stored replies"
    gc.collect()


def test_two_threads_with_one_stage_each(tmp_path: Path) -> None:
    tables = [
        load_questions(write_questions(tmp_path / "first", 300)),
        load_questions(write_questions(tmp_path / "second", 340)),
    ]
    with ApiServer(sum_reply, latency=0.002) as server, ThreadPoolExecutor(2) as pool:
        stages = [pool.submit(answer_texts, server, questions) for questions in tables]
        assert [len(stage.result(HANG_TIMEOUT)) for stage in stages] == [300, 340]
        assert sent_marks(server).total() == 340, "each stage waits for the in-flight requests of the other"


def test_two_threads_with_a_shared_cap() -> None:
    # The in-flight request of one counts with its reserved tokens, so the other waits, and no other request wakes it.
    spec_of = functools.partial(EngineSpec, "openai_api", "m", max_tokens=300, limits=Limits(max_tokens_total=500))
    with ApiServer(latency=1.0) as server, ThreadPoolExecutor(2) as pool:
        engines = [OpenAIEngine(spec_of(base_url=server.url)) for _ in range(2)]

        def run(engine: OpenAIEngine, question: str) -> list[tuple[str, Reply]]:
            with engine:
                return list(
                    chain.from_iterable(engine.generate([("", Request(messages=(Message("user", question),)))]))
                )

        first = pool.submit(run, engines[0], "one")
        wait_until(lambda: server.in_flight == 1)
        second = pool.submit(run, engines[1], "two")
        try:
            assert [len(future.result(HANG_TIMEOUT)) for future in (first, second)] == [1, 1]
        finally:
            for engine in engines:
                engine.cancel()
