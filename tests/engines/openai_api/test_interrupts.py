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

from tests.support.api_runs import AT_ONCE, HELD, ask_here, column, loaded, owners, rows, sent, solved, stored
from tests.support.api_server import Answer, ApiServer, Received
from tests.support.waiting import LAST_RESORT, until
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


def test_interrupted_at_any_moment_and_run_again_in_the_same_process(tmp_path: Path, own_caches: Path) -> None:
    first, questions = loaded(rows(tmp_path / "first", 1)), loaded(rows(tmp_path / "rows", 200))
    with ApiServer(solved, latency=0.03) as server:
        ask_here(server, first)  # to have everything imported and digested
        interrupts = swallowed = 0
        for step in range(24):
            since, before = len(server.requests), stored(own_caches)
            try:
                with interrupt_after(0.003 + 0.013 * step) as raised:
                    ask_here(server, questions)
                swallowed += len(raised)
            except KeyboardInterrupt as interrupt:
                interrupts += 1
                if "_adjust_thread_count" in {frame.name for frame in traceback.extract_tb(interrupt.__traceback__)}:
                    # The thread was just starting, unknown to the one who joins it: it ends by itself (see below).
                    until(lambda: not asking_threads())
            assert not asking_threads(), "it is joined"
            assert not owners(own_caches)
            assert before.isdisjoint(sent(server, since))
            until(lambda: not server.connections)
        gc.collect()
        # `datasets` hashes in a bare `except:`; an interrupt that falls there ends nothing, and all is answered at once.
        assert interrupts > 5 or swallowed
        texts = ask_here(server, questions)
        assert len(texts) == len(sent(server)) == 200
        assert sent(server).total() <= 200 + AT_ONCE * interrupts
        assert not column(own_caches, "claims", "key")


def test_an_interrupt_is_noticed_though_no_signal_wakes_the_waiting_thread(tmp_path: Path) -> None:
    # As with a signal that another thread gets, or that comes just before an endless wait begins.
    def answer(received: Received, seen: int) -> Answer:
        if len(server.requests) == AT_ONCE:
            _thread.interrupt_main()
        return Answer(200, solved(received).body, delay=20.0)

    with ApiServer(answer) as server:
        with pytest.raises(KeyboardInterrupt):
            ask_here(server, loaded(rows(tmp_path / "rows", 200)))
        assert len(server.requests) < 200, "it is noticed before the stage is through"


def test_an_interrupt_while_the_asking_thread_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = loaded(rows(tmp_path / "rows", 200))
    begin = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        begin(thread)
        if thread.name.startswith("ask"):
            raise KeyboardInterrupt

    with ApiServer(solved, latency=HELD) as server:
        monkeypatch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ask_here(server, questions)
        until(lambda: not asking_threads())  # or it goes on behind one's back


# Notebooks and threads -----------------------------------------------------------------------------------------------


def test_in_a_running_loop_and_in_a_worker_thread(tmp_path: Path) -> None:
    first, second = loaded(rows(tmp_path / "first", 30)), loaded(rows(tmp_path / "second", 31))
    with ApiServer(solved) as server:

        async def main() -> list[str]:
            ticks = asyncio.create_task(asyncio.sleep(0))
            found = ask_here(server, first)
            await ticks
            return found

        assert len(asyncio.run(main())) == 30
        with ThreadPoolExecutor(1) as pool:
            assert len(pool.submit(ask_here, server, second).result(LAST_RESORT)) == 31
        assert sent(server).total() == 31, "and both share what is stored"
    gc.collect()


def test_two_threads_with_a_stage_each(tmp_path: Path) -> None:
    tables = [loaded(rows(tmp_path / "first", 300)), loaded(rows(tmp_path / "second", 340))]
    with ApiServer(solved, latency=0.002) as server, ThreadPoolExecutor(2) as pool:
        stages = [pool.submit(ask_here, server, questions) for questions in tables]
        assert [len(stage.result(LAST_RESORT)) for stage in stages] == [300, 340]
        assert sent(server).total() == 340, "what one asks the other waits for"


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
        until(lambda: server.in_flight == 1)
        second = pool.submit(run, engines[1], "two")
        try:
            assert [len(asked.result(LAST_RESORT)) for asked in (first, second)] == [1, 1]
        finally:
            for engine in engines:
                engine.cancel()
