"""progress: the counts of a model stage, for the progress bar, for the share of failures and for the lineage."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import RETRYABLE_ERRORS, Reply, TooManyFailures

__all__ = ["Progress"]


class Progress:
    """Counts of one run, kept in its bar.

    Args:
        bar: a tqdm bar.
        spec: whose `max_failed` holds.
        expected: requests that the run will make, as far as is known.
        figures: what else there is to show.
    """

    def __init__(self, bar: Any, spec: EngineSpec, expected: int, stats: Callable[[], Mapping[str, Any]]) -> None:
        self.bar = bar
        self.spec = spec
        self.expected = expected
        self.stats = stats
        self.failed: Counter[str] = Counter()
        self.used: Counter[str] = Counter()
        self.details: dict[str, str] = {}  # one example of each kind of failure
        self.began = time.monotonic()
        self.shown = 0.0
        self.requests = self.from_store = self.answered = self.tokens = 0

    def skip(self, count: int) -> None:
        """Count requests that a row does not make; below 0 where rows make more than one for each sample."""
        self.expected -= count
        if count > 0:
            self.bar.update(count)
        else:
            self.bar.total -= count

    def arrived(self, reply: Reply, rows: int) -> None:
        """Count a reply from the engine, for all rows that wait for it."""
        self.answered += 1
        self.tokens += reply.completion_tokens or 0
        self.count(reply, rows, from_store=rows - 1)
        if time.monotonic() - self.shown > 0.2:
            self.show()

    def count(self, reply: Reply, rows: int, *, from_store: int) -> None:
        """Count a reply for some rows, of which the store gave it to `from_store`."""
        self.from_store += from_store
        if reply.error:
            self.failed[reply.error] += rows
            self.details.setdefault(reply.error, reply.error_detail)
        self.used["prompt_tokens"] += rows * (reply.prompt_tokens or 0)
        self.used["completion_tokens"] += rows * (reply.completion_tokens or 0)
        self.bar.update(rows)

    def usage(self) -> dict[str, Any]:
        """What the replies took, by the servers' own counts; the same whether they came now or from the store."""
        return {"model": self.spec.model, "requests": self.requests, **dict(sorted(self.used.items()))}

    def show(self) -> None:
        self.shown = time.monotonic()
        elapsed = max(1e-9, self.shown - self.began)
        rate = self.answered / elapsed
        stats: dict[str, Any] = {"from store": self.from_store}
        stats |= {f"failed {kind}": count for kind, count in self.failed.most_common()} | dict(self.stats())
        stats |= {"req/s": f"{rate:.1f}", "tok/s": round(self.tokens / elapsed)}
        if rate and self.bar.total > self.bar.n:
            stats["left"] = self.bar.format_interval((self.bar.total - self.bar.n) / rate)
        self.bar.set_postfix(stats, refresh=False)

    def too_many(self, requests: int) -> TooManyFailures | None:
        """The error where more than `max_failed` of the stage's requests failed, now or in an earlier run."""
        if self.failed.total() <= self.spec.max_failed * requests:
            return None
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.failed.most_common())
        examples = "".join(f"\n    {kind}: {self.details[kind]}" for kind in self.failed if self.details.get(kind))
        advice = "a re-run asks again for what may still come"
        if not RETRYABLE_ERRORS & set(self.failed):
            advice = "these failures are final for these settings: a re-run does not ask again"
        return TooManyFailures(
            f"{self.failed.total()} of {requests} requests to {self.spec.model!r} failed ({kinds}), more than "
            f"max_failed={self.spec.max_failed}; every reply is stored, and {advice}{examples}"
        )
