"""The progress bar: the time left, and what it counts, with engines that advance a clock of their own."""

from __future__ import annotations

import heapq
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tqdm import tqdm  # type: ignore[import-untyped]  # not the one of datasets, which the tests disable

from toolrlef_data.engines.exchange import Exchange
from toolrlef_data.engines.local.engine import LocalEngine
from toolrlef_data.engines.progress import Progress
from toolrlef_data.engines.reply_store import ReplyStore
from toolrlef_data.engines.scripted import ScriptedEngine, scripted
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import Reply

SPEC = scripted({"": "yes"})


class Clock:
    """A clock of its own, and the shown times left as (time, seconds left)."""

    def __init__(self) -> None:
        self.now = 0.0
        self.shown: list[tuple[float, float | None]] = []

    def __call__(self) -> float:
        return self.now


class BatchEngine(ScriptedEngine):
    """Loads for 30 seconds, then answers batches of 32 in 20 seconds, as a local model does."""

    clock: Clock

    def __enter__(self) -> Any:
        self.clock.now += 30
        return self

    def generate(self, requests: Any) -> Any:
        window = []
        for pair in itertools.chain(requests, [None]):
            window += [pair] if pair else []
            if window and (len(window) == 512 or not pair):
                for batch in (window[i : i + 32] for i in range(0, len(window), 32)):
                    for _ in range(3):
                        self.clock.now += 5
                        assert self.on_step is not None
                        self.on_step()
                    self.clock.now += 5
                    yield [(tag, Reply("yes")) for tag, _ in batch]
                window = []


class ParallelEngine(ScriptedEngine):
    """Answers 64 requests at a time; a request takes about 3 seconds, some take 10."""

    clock: Clock
    concurrency = 64

    def cancel(self) -> None:  # type: ignore[override]
        """Only tells that the engine is parallel."""

    def generate(self, requests: Any) -> Any:
        random = Random(0)
        in_flight: list[tuple[float, str]] = []
        while True:
            while len(in_flight) < self.concurrency and (pair := next(requests, None)):
                heapq.heappush(in_flight, (self.clock.now + random.lognormvariate(1, 0.5), pair[0]))
            if not in_flight:
                return
            self.clock.now, tag = heapq.heappop(in_flight)
            yield [(tag, Reply("yes"))]


def run(engine_class: Any, store: ReplyStore, batches: Sequence[Sequence[str]], skipped: int = 0) -> Clock:
    """Run the requests of the batches, which are reply keys, and return the clock with what was shown."""
    clock = Clock()
    engine = engine_class(SPEC)
    engine.clock = clock
    total = sum(map(len, batches)) + skipped * len(batches)
    with tqdm(total=total, file=io.StringIO()) as bar:
        exchange = Exchange(engine, SPEC, store, bar, expected=total)
        progress = exchange.progress
        progress.clock = clock
        show = progress.show

        def record() -> None:
            show()
            clock.shown.append((clock.now, progress.seconds_left()))

        progress.show = record  # type: ignore[method-assign]
        progress.begin()

        def lookups() -> Iterator[None]:
            for keys in batches:
                progress.skip(skipped)
                exchange.lookup([(key, Request(prompt=key)) for key in keys])
                while exchange.unsent:
                    yield

        exchange.run(lookups())
        assert bar.n == bar.total
    return clock


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ReplyStore]:
    opened = ReplyStore(tmp_path / "replies.sqlite")
    yield opened
    opened.close()


def keys_of(count: int, name: str = "") -> list[list[str]]:
    """Return distinct reply keys in batches of 256."""
    keys = [f"{name}{n}" for n in range(count)]
    return [keys[i : i + 256] for i in range(0, count, 256)]


def put(store: ReplyStore, keys: Sequence[str]) -> None:
    store.put([(key, Reply("yes")) for key in keys])


def all_new(store: ReplyStore) -> list[list[str]]:
    return keys_of(4000)


def first_half_stored(store: ReplyStore) -> list[list[str]]:
    """A run that was stopped, and goes on."""
    put(store, [f"{n}" for n in range(5120)])
    return keys_of(8000)


def most_stored(store: ReplyStore) -> list[list[str]]:
    """A run that repeats the failed requests of an earlier one."""
    put(store, [f"{n}" for n in range(20_000) if n % 10])
    return keys_of(20_000)


def shared_replies(store: ReplyStore) -> list[list[str]]:
    """Each request is that of three rows."""
    return [[key for key in batch for _ in range(3)] for batch in keys_of(1500)]


@pytest.mark.parametrize("rows", [all_new, first_half_stored, most_stored, shared_replies])
@pytest.mark.parametrize("engine", [BatchEngine, ParallelEngine])
def test_the_time_left_is_right_within_a_factor_of_two(
    engine: Any, rows: Callable[[Any], Any], store: ReplyStore
) -> None:
    clock = run(engine, store, rows(store))
    known = [(at, left) for at, left in clock.shown if left is not None]
    end = clock.now - 20  # the time of the last batch, and of the slowest of the last requests
    wrong = [(at, left, clock.now - at) for at, left in known if at < end and not 0.5 < left / (clock.now - at) < 2]
    assert wrong == []
    assert len(known) > 20
    first = known[0][0]
    assert first < 0.2 * clock.now, "the time left is known early"


def test_skipped_rows_take_no_time(store: ReplyStore) -> None:
    clock = run(BatchEngine, store, keys_of(512), skipped=1000)
    wrong = [
        (at, left)
        for at, left in clock.shown
        if left is not None and at < clock.now - 20 and not 0.5 < left / (clock.now - at) < 2
    ]
    assert wrong == []


def test_the_bar_moves_within_a_batch(store: ReplyStore) -> None:
    clock = run(BatchEngine, store, keys_of(64))
    assert [at for at, _ in clock.shown] == [35, 40, 45, 50, 55, 60, 65, 70, 70]
    assert [left for _, left in clock.shown] == [None, None, None, 20, 15, 10, 5, 0, 0]


@pytest.mark.parametrize(
    ("reply", "shown"),
    [
        (Reply("8"), {}),
        (Reply("8 is", finish_reason="length"), {"cut off": 1}),
        (Reply(" "), {"empty": 1}),
        (Reply("", tool_calls=(("calculator", "{}"),)), {}),
        (Reply(None, error="timeout", error_detail="slow"), {"failed timeout": 1}),
    ],
)
def test_lost_replies_are_counted_as_they_arrive(reply: Reply, shown: dict[str, int]) -> None:
    texts: list[dict[str, Any]] = []
    bar: Any = tqdm(total=2, file=io.StringIO())
    bar.set_postfix = texts.append
    progress = Progress(bar, SPEC, 2, dict)
    progress.count_lookup(2, 2)
    progress.count_arrivals([(reply, 1)])
    fixed = ("from store", "req/s", "tok/s", "eta")
    assert [{name: n for name, n in text.items() if name not in fixed} for text in texts] == [shown]
    bar.close()


@pytest.mark.parametrize(
    ("errors", "advice"),
    [
        (["timeout"], None),  # the permitted share
        (["too_long"], None),
        (["timeout", "timeout"], "A re-run sends the requests with retryable errors again"),
        (["too_long", "timeout"], "A re-run sends the requests with retryable errors again"),
        (["too_long", "refused"], "These failures are final"),
    ],
)
def test_too_many_failures_are_explained(errors: list[str], advice: str | None) -> None:
    progress = Progress(tqdm(total=5, file=io.StringIO()), scripted(["8"], max_failed=0.2), 5, dict)
    for n, kind in enumerate(errors):
        progress.count(Reply(None, error=kind, error_detail=f"detail {n}"), 1, from_store=0)
    error = progress.failure_error(5)
    assert (error is None) == (advice is None)
    if advice is not None:
        assert advice in str(error)
        first = {kind: n for n, kind in reversed([*enumerate(errors)])}
        details = [f"{kind}: detail {n}" for kind, n in first.items()]
        assert sorted(line.strip() for line in str(error).splitlines()[1:]) == sorted(details), "one of each kind"


def test_a_reply_of_several_rows_counts_once_a_row_in_the_usage() -> None:
    progress = Progress(tqdm(total=4, file=io.StringIO()), SPEC, 4, dict)
    progress.count_lookup(4, 4)
    progress.count_arrivals([(Reply("8", prompt_tokens=10, completion_tokens=2), 3), (Reply("9"), 1)])
    assert progress.usage() == {"model": "mapping", "requests": 4, "prompt_tokens": 30, "completion_tokens": 6}


def test_a_local_model_tells_its_steps(tmp_path: Path) -> None:
    from tests.support.models import tiny_llama

    engine = LocalEngine(EngineSpec("local", str(tiny_llama(tmp_path / "tiny")), max_tokens=6, progress=False))
    steps: list[Any] = []
    engine.on_step = lambda: steps.append(engine.stats())
    with engine:
        replies = list(engine.generate(iter([("a", Request(prompt="one two")), ("b", Request(prompt="three"))])))
    longest = max(reply.completion_tokens or 0 for batch in replies for _, reply in batch)
    assert steps == [{"batch": f"{n}/6 tokens"} for n in range(1, longest)]
    assert engine.stats() == {}
