"""Interrupts and threads: a stage in this process that is interrupted at any moment loses and repeats nothing."""

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
    """A KeyboardInterrupt in this thread, as Ctrl-C or a notebook's stop button raises it; holds it once it was."""
    raised: list[float] = []

    def raise_it(*_: object) -> None:
        raised.append(seconds)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, raise_it)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield raised
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def asking_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("ask")]


def test_interrupted_at_any_moment_and_run_again_in_the_same_process(tmp_path: Path, fresh_caches: Path) -> None:
    first, questions = (
        load_questions(write_questions(tmp_path / "first", 1)),
        load_questions(write_questions(tmp_path / "rows", 200)),
    )
    with ApiServer(sum_reply, latency=0.03) as server:
        answer_texts(server, first)  # to have everything imported and digested
        interrupts = swallowed = 0
        for step in range(24):
            since, before = len(server.requests), stored_marks(fresh_caches)
            try:
                with interrupt_after(0.003 + 0.013 * step) as raised:
                    answer_texts(server, questions)
                swallowed += len(raised)
            except KeyboardInterrupt as interrupt:
                interrupts += 1
                if "_adjust_thread_count" in {frame.name for frame in traceback.extract_tb(interrupt.__traceback__)}:
                    # The thread was just starting, unknown to the one who joins it: it ends by itself (see below).
                    wait_until(lambda: not asking_threads())
            assert not asking_threads(), "it is joined"
            assert not owner_files(fresh_caches)
            assert before.isdisjoint(sent_marks(server, since))
            wait_until(lambda: not server.connections)
        gc.collect()
        # `datasets` hashes in a bare `except:`; an interrupt that falls there ends nothing, and all is answered at once.
        assert interrupts > 5 or swallowed
        texts = answer_texts(server, questions)
        assert len(texts) == len(sent_marks(server)) == 200
        assert sent_marks(server).total() <= 200 + CONCURRENCY * interrupts
        assert not column_values(fresh_caches, "claims", "key")


def test_an_interrupt_is_noticed_though_no_signal_wakes_the_waiting_thread(tmp_path: Path) -> None:
    # As with a signal that another thread gets, or that comes just before an endless wait begins.
    def answer(received: ReceivedRequest, seen: int) -> ServerReply:
        if len(server.requests) == CONCURRENCY:
            _thread.interrupt_main()
        return ServerReply(200, sum_reply(received).body, delay=20.0)

    with ApiServer(answer) as server:
        with pytest.raises(KeyboardInterrupt):
            answer_texts(server, load_questions(write_questions(tmp_path / "rows", 200)))
        assert len(server.requests) < 200, "it is noticed before the stage is through"


def test_an_interrupt_while_the_asking_thread_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = load_questions(write_questions(tmp_path / "rows", 200))
    begin = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        begin(thread)
        if thread.name.startswith("ask"):
            raise KeyboardInterrupt

    with ApiServer(sum_reply, latency=STALL_SECONDS) as server:
        monkeypatch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            answer_texts(server, questions)
        wait_until(lambda: not asking_threads())  # or it goes on behind one's back


# Notebooks and threads -----------------------------------------------------------------------------------------------


def test_in_a_running_loop_and_in_a_worker_thread(tmp_path: Path) -> None:
    first, second = (
        load_questions(write_questions(tmp_path / "first", 30)),
        load_questions(write_questions(tmp_path / "second", 31)),
    )
    with ApiServer(sum_reply) as server:

        async def main() -> list[str]:
            ticks = asyncio.create_task(asyncio.sleep(0))
            found = answer_texts(server, first)
            await ticks
            return found

        assert len(asyncio.run(main())) == 30
        with ThreadPoolExecutor(1) as pool:
            assert len(pool.submit(answer_texts, server, second).result(HANG_TIMEOUT)) == 31
        assert sent_marks(server).total() == 31, "and both share what is stored"
    gc.collect()


def test_two_threads_with_a_stage_each(tmp_path: Path) -> None:
    tables = [
        load_questions(write_questions(tmp_path / "first", 300)),
        load_questions(write_questions(tmp_path / "second", 340)),
    ]
    with ApiServer(sum_reply, latency=0.002) as server, ThreadPoolExecutor(2) as pool:
        stages = [pool.submit(answer_texts, server, questions) for questions in tables]
        assert [len(stage.result(HANG_TIMEOUT)) for stage in stages] == [300, 340]
        assert sent_marks(server).total() == 340, "what one asks the other waits for"


def test_two_threads_below_one_cap() -> None:
    # What one has under way is counted with all that it may use, so the other waits; nobody else can wake it.
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
            assert [len(asked.result(HANG_TIMEOUT)) for asked in (first, second)] == [1, 1]
        finally:
            for engine in engines:
                engine.cancel()
