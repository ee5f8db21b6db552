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


# What is shown, as whole texts ----------------------------------------------------------------------------------------


class Bar:
    """A bar that records what is shown."""

    def __init__(self, total: int) -> None:
        self.total, self.n = total, 0
        self.shown: list[dict[str, Any]] = []

    def update(self, count: int) -> None:
        self.n += count

    def set_postfix(self, stats: dict[str, Any]) -> None:
        self.shown.append(dict(stats))

    def format_interval(self, seconds: float) -> str:
        return f"{seconds:g} s"


def progress_of(total: int, clock: Clock, **options: Any) -> tuple[Progress, Bar]:
    bar = Bar(total)
    return Progress(bar, SPEC, total, dict, clock=clock, **options), bar


def test_the_complete_text_of_the_bar() -> None:
    clock = Clock()
    bar = Bar(20)
    progress = Progress(bar, SPEC, 20, lambda: {"in flight": 3}, clock=clock)
    clock.now = 100.0
    progress.begin()
    progress.count_lookup(20, 20)
    clock.now = 104.0
    lost = [
        Reply("8", finish_reason="length"),
        Reply(" "),
        Reply("", finish_reason="length"),
        Reply(None, error="server"),
    ]
    complete = [Reply("8", completion_tokens=30), Reply("8", completion_tokens=None)]
    progress.count_arrivals([(reply, 1) for reply in [*lost, *complete]] + [(Reply("9"), 2)])
    assert bar.shown == [
        {
            "from store": 1, "cut off": 2, "empty": 1, "failed server": 1, "in flight": 3, "req/s": "1.8", "tok/s": 8,
            "eta": "6 s",
        }
    ]  # fmt: skip
    assert list(bar.shown[0]) == [
        "from store",
        "cut off",
        "empty",
        "failed server",
        "in flight",
        "req/s",
        "tok/s",
        "eta",
    ]
    assert (bar.n, progress.answered, progress.from_store) == (8, 7, 1)
    progress.skip(12)
    progress.show()
    assert "eta" not in bar.shown[-1], "the bar is full"
    assert (bar.n, progress.expected) == (20, 8)
    progress.skip(-5)
    assert (bar.n, bar.total, progress.expected) == (20, 25, 13)


def test_the_text_is_shown_at_most_every_fifth_of_a_second() -> None:
    clock = Clock()
    progress, bar = progress_of(9, clock)
    for clock.now in (1.0, 1.125, 1.1875, 1.25, 1.3125, 1.75):
        progress.show_sometimes()
    assert len(bar.shown) == 3
    assert progress.last_shown == 1.75


def test_the_rate_is_that_of_the_last_points_a_second_apart() -> None:
    clock = Clock()
    progress, _ = progress_of(1000, clock)
    progress.count_lookup(1000, 1000)
    for clock.now in (0.25, 0.5, 1.0, 1.5, 2.25):
        progress.count_arrivals([(Reply("8"), 1)])
    assert list(progress.points) == [(0.0, 0), (1.0, 3), (2.25, 5)]
    for clock.now in range(4, 4 + 70):
        progress.count_arrivals([(Reply("8"), 1)])
    assert (len(progress.points), progress.points[0], progress.points[-1]) == (64, (10.0, 12), (73.0, 75))
    assert progress.seconds_left() == pytest.approx(1000 - 75)
    clock.now += 5
    assert progress.seconds_left() == pytest.approx(1000 - 75 - 5)
    clock.now += 2000
    assert progress.seconds_left() == 0.0


def test_rows_that_are_not_looked_up_are_like_the_last_ones() -> None:
    clock = Clock()
    progress, _ = progress_of(1000, clock)
    progress.count_lookup(0, 0)
    assert (progress.requests, progress.waiting_share) == (0, 0.0)
    progress.count_lookup(4, 1)
    assert progress.waiting_share == 0.25, "the first look-up counts alone"
    progress.count_lookup(256, 256)
    assert progress.waiting_share == 0.25 + 0.5 * 0.75
    progress.count_lookup(600, 60)
    assert progress.waiting_share == pytest.approx(0.1), "more than the recent requests"
    assert progress.requests == 860
    clock.now = 10.0
    for reply in [Reply("8")] * 5:
        progress.count(reply, 1, from_store=1)
    progress.count_arrivals([(Reply("8"), 5)])
    assert progress.seconds_left() == pytest.approx(2.0 * (1000 - 10 - 140 + 0.1 * 140))


def test_a_parallel_engine_has_no_time_left_before_its_first_wave_is_answered() -> None:
    for parallel in (True, False):
        clock = Clock()
        progress, _ = progress_of(100, clock, parallel=parallel)
        progress.count_lookup(100, 100)
        assert progress.seconds_left() is None
        progress.sent = 3
        known = []
        for clock.now in (1.0, 2.0, 3.0, 4.0):
            progress.sent += 1
            progress.count_arrivals([(Reply("8"), 1)])
            known.append(progress.seconds_left() is not None)
        assert progress.first_wave == (4 if parallel else 0)
        assert known == ([False, False, False, True] if parallel else [True] * 4)


@pytest.mark.parametrize(
    ("kinds", "advice"),
    [
        (["timeout", "too_long", "timeout"], "A re-run sends the requests with retryable errors again."),
        (["too_long"] * 3, "These failures are final for these settings: a re-run does not send the requests again."),
    ],
)
def test_the_complete_message_of_too_many_failures(kinds: list[str], advice: str) -> None:
    progress, _ = progress_of(9, Clock())
    for n, kind in enumerate(kinds):
        progress.count(
            Reply(None, error=kind, error_detail=f"detail {n}" if kind != "too_long" or n else ""), 2, from_store=0
        )
    (text,) = [str(progress.failure_error(29))]
    counts = "timeout 4, too_long 2" if "timeout" in kinds else "too_long 6"
    examples = "\n    timeout: detail 0\n    too_long: detail 1" if "timeout" in kinds else ""
    assert text == (
        f"6 of 29 requests to 'mapping' failed ({counts}), more than max_failed=0.2. All received replies are saved. "
        f"{advice}{examples}"
    )
    assert progress.failure_error(30) is None, "exactly the permitted share"
    assert progress.usage() == {"model": "mapping", "requests": 0, "completion_tokens": 0, "prompt_tokens": 0}
