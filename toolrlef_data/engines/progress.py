"""Progress of a model stage: the progress bar with the time left, the share of failures, and the token usage."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from datasets.utils import tqdm

from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import RETRYABLE_ERRORS, Reply, TooManyFailures

__all__ = ["BAR_FORMAT", "Progress", "step_bar"]

BAR_FORMAT = "{desc}: {percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
SHOW_INTERVAL = 0.2  # minimum seconds between two updates of the bar's text
POINT_INTERVAL = 1.0  # minimum seconds between two points of the rate
POINTS = 64  # the rate is that of the last 64 points, which are at least 64 seconds, or 64 batches of a local model
RECENT_REQUESTS = 512  # the share of stored replies is that of about the last 512 requests


class Progress:
    """The request and token counts of one run, and their display in a progress bar.

    The rate counts rows from the start of the engine on, so that the time to load a model does not lower it. Requests
    with a stored reply take no time; the rows that are not looked up yet are assumed to be like the last ones.

    Args:
        bar: a tqdm progress bar.
        spec: settings of the engine, including `max_failed`.
        expected: expected number of requests.
        stats: returns further statistics for the progress bar, by name.
        parallel: whether the engine answers many requests at a time. There is no time left before as many replies have
            arrived as were in flight at the first reply: the first ones are the fastest.
        clock: returns the time in seconds; default: `time.monotonic`.
    """

    def __init__(
        self,
        bar: Any,
        spec: EngineSpec,
        expected: int,
        stats: Callable[[], Mapping[str, Any]],
        *,
        parallel: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bar = bar
        self.spec = spec
        self.expected = expected
        self.stats = stats
        self.parallel = parallel
        self.clock = clock
        self.failed: Counter[str] = Counter()  # by error kind
        self.lost: Counter[str] = Counter()  # replies without an error that are not complete: cut off, or empty
        self.token_counts: Counter[str] = Counter()
        self.details: dict[str, str] = {}  # error kind -> detail of the first failure
        self.last_shown = float("-inf")
        self.requests = self.from_store = self.answered = self.completion_tokens = 0
        self.sent = self.first_wave = self.arrived_rows = 0
        self.waiting_share = 0.0  # of the recent requests, those without a stored reply
        self.begin()

    def begin(self) -> None:
        """Start to measure the rate: the engine is ready."""
        self.started = self.clock()
        self.points = deque([(self.started, 0)], POINTS)  # (time, rows that the engine has answered)

    def skip(self, count: int) -> None:
        """Count expected requests as done without a reply; a negative count stands for additional requests."""
        self.expected -= count
        if count > 0:
            self.bar.update(count)
        else:
            self.bar.total -= count

    def count_lookup(self, requests: int, waiting: int) -> None:
        """Count requests that were looked up in the reply store, of which `waiting` have no reply yet."""
        if not requests:
            return
        weight = min(1.0, requests / RECENT_REQUESTS) if self.requests else 1.0
        self.waiting_share += weight * (waiting / requests - self.waiting_share)
        self.requests += requests

    def count_arrivals(self, replies: Iterable[tuple[Reply, int]]) -> None:
        """Count replies from the engine that arrived together, each for all rows that wait for it."""
        for reply, rows in replies:
            if not self.answered and self.parallel:
                self.first_wave = self.sent
            self.answered += 1
            self.arrived_rows += rows
            self.completion_tokens += reply.completion_tokens or 0
            self.count(reply, rows, from_store=rows - 1)
        now = self.clock()
        if len(self.points) > 1 and self.points[-1][0] - self.points[-2][0] < POINT_INTERVAL:
            self.points.pop()
        self.points.append((now, self.arrived_rows))
        self.show_sometimes()

    def count(self, reply: Reply, rows: int, *, from_store: int) -> None:
        """Count a reply for `rows` rows, of which `from_store` received it from the reply store."""
        self.from_store += from_store
        if reply.error:
            self.failed[reply.error] += rows
            self.details.setdefault(reply.error, reply.error_detail)
        elif reply.finish_reason == "length":
            self.lost["cut off"] += rows
        elif not (reply.text or "").strip() and not reply.tool_calls:
            self.lost["empty"] += rows
        self.token_counts["prompt_tokens"] += rows * (reply.prompt_tokens or 0)
        self.token_counts["completion_tokens"] += rows * (reply.completion_tokens or 0)
        self.bar.update(rows)

    def usage(self) -> dict[str, Any]:
        """Return the requests and tokens of the run, as counted by the server; stored replies count too."""
        return {"model": self.spec.model, "requests": self.requests, **dict(sorted(self.token_counts.items()))}

    def seconds_left(self) -> float | None:
        """Return the expected time until the last reply; None if it cannot be known yet."""
        (start, start_rows), (last, last_rows) = self.points[0], self.points[-1]
        if not self.answered or self.answered < self.first_wave or last <= start or last_rows == start_rows:
            return None
        not_looked_up = max(0, self.expected - self.requests)
        waiting = max(0, self.bar.total - self.bar.n - not_looked_up) + self.waiting_share * not_looked_up
        seconds_per_row = (last - start) / (last_rows - start_rows)
        return max(0.0, waiting * seconds_per_row - (self.clock() - last))

    def show_sometimes(self) -> None:
        """Update the text of the progress bar, unless it was updated just now."""
        if self.clock() - self.last_shown > SHOW_INTERVAL:
            self.show()

    def show(self) -> None:
        """Update the text of the progress bar."""
        self.last_shown = self.clock()
        elapsed = max(1e-9, self.last_shown - self.started)
        replies = {"from store": self.from_store, **dict(self.lost.most_common())}
        stats: dict[str, Any] = replies | {f"failed {kind}": count for kind, count in self.failed.most_common()}
        stats |= dict(self.stats())
        stats |= {"req/s": f"{self.answered / elapsed:.1f}", "tok/s": round(self.completion_tokens / elapsed)}
        left = self.seconds_left()
        if left is not None and self.bar.total > self.bar.n:
            stats["eta"] = self.bar.format_interval(left)
        self.bar.set_postfix(stats)

    def failure_error(self, requests: int) -> TooManyFailures | None:
        """Return an error if more than `max_failed` of `requests` failed, else None; stored failures count too."""
        if self.failed.total() <= self.spec.max_failed * requests:
            return None
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.failed.most_common())
        examples = "".join(f"\n    {kind}: {self.details[kind]}" for kind in self.failed if self.details.get(kind))
        advice = "A re-run sends the requests with retryable errors again."
        if not RETRYABLE_ERRORS & set(self.failed):
            advice = "These failures are final for these settings: a re-run does not send the requests again."
        return TooManyFailures(
            f"{self.failed.total()} of {requests} requests to {self.spec.model!r} failed ({kinds}), more than "
            f"max_failed={self.spec.max_failed}. All received replies are saved. {advice}{examples}"
        )


def step_bar(description: str, steps: int, show: bool = True) -> Any:
    """Return a progress bar of a few steps, each of which may take long, such as reading the weights of a model."""
    return tqdm(total=steps, desc=description, disable=not show, bar_format=BAR_FORMAT, leave=False)
