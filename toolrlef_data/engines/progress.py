"""Progress of a model stage: counts for the progress bar, the share of failures and the lineage."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import RETRYABLE_ERRORS, Reply, TooManyFailures

__all__ = ["Progress"]


class Progress:
    """The request and token counts of one run, and their display in a progress bar.

    Args:
        bar: a tqdm progress bar.
        spec: settings of the engine, including `max_failed`.
        expected: expected number of requests.
        stats: returns further statistics for the progress bar, by name.
    """

    def __init__(self, bar: Any, spec: EngineSpec, expected: int, stats: Callable[[], Mapping[str, Any]]) -> None:
        self.bar = bar
        self.spec = spec
        self.expected = expected
        self.stats = stats
        self.failed: Counter[str] = Counter()  # by error kind
        self.token_counts: Counter[str] = Counter()
        self.details: dict[str, str] = {}  # error kind -> detail of the first failure
        self.started = time.monotonic()
        self.last_shown = 0.0
        self.requests = self.from_store = self.answered = self.completion_tokens = 0

    def skip(self, count: int) -> None:
        """Count expected requests as done without a reply; a negative count stands for additional requests."""
        self.expected -= count
        if count > 0:
            self.bar.update(count)
        else:
            self.bar.total -= count

    def count_arrival(self, reply: Reply, rows: int) -> None:
        """Count a reply from the engine, for all rows that wait for it."""
        self.answered += 1
        self.completion_tokens += reply.completion_tokens or 0
        self.count(reply, rows, from_store=rows - 1)
        if time.monotonic() - self.last_shown > 0.2:
            self.show()

    def count(self, reply: Reply, rows: int, *, from_store: int) -> None:
        """Count a reply for `rows` rows, of which `from_store` received it from the reply store."""
        self.from_store += from_store
        if reply.error:
            self.failed[reply.error] += rows
            self.details.setdefault(reply.error, reply.error_detail)
        self.token_counts["prompt_tokens"] += rows * (reply.prompt_tokens or 0)
        self.token_counts["completion_tokens"] += rows * (reply.completion_tokens or 0)
        self.bar.update(rows)

    def usage(self) -> dict[str, Any]:
        """Return the requests and tokens of the run, as counted by the server; stored replies count too."""
        return {"model": self.spec.model, "requests": self.requests, **dict(sorted(self.token_counts.items()))}

    def show(self) -> None:
        """Update the text of the progress bar."""
        self.last_shown = time.monotonic()
        elapsed = max(1e-9, self.last_shown - self.started)
        rate = self.answered / elapsed
        stats: dict[str, Any] = {"from store": self.from_store}
        stats |= {f"failed {kind}": count for kind, count in self.failed.most_common()} | dict(self.stats())
        stats |= {"req/s": f"{rate:.1f}", "tok/s": round(self.completion_tokens / elapsed)}
        if rate and self.bar.total > self.bar.n:
            stats["eta"] = self.bar.format_interval((self.bar.total - self.bar.n) / rate)
        self.bar.set_postfix(stats, refresh=False)

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
