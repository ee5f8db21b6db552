"""Request and reply traffic of one run, between the reply store and an engine.

A request is sent only if it has no stored reply and is not in flight, in this process or in another one (`claims`). If
another process ends without a reply, this one sends the request. Each reply is stored when it arrives. Two callers use
this module: the model stage for the rows of a table (`model_stage`), and trajectory searches, whose next request
depends on the last reply (`toolbench.search.pool`).
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from toolrlef_data.engines.claims import Claims
from toolrlef_data.engines.progress import Progress
from toolrlef_data.engines.reply_store import ReplyStore
from toolrlef_data.engines.spec import PULL_INTERVAL, Engine, EngineSpec, Request
from toolrlef_data.records import RETRYABLE_ERRORS, Reply
from toolrlef_data.tables.fingerprint import digest

__all__ = ["Exchange"]

INTERRUPT_INTERVAL = 0.2  # maximum seconds until Ctrl-C takes effect
CLAIM_CHECK_INTERVAL = 0.1  # seconds between two checks of requests that other processes have claimed
MAX_CLAIM_CHECKS = 500  # claimed requests per check


class Exchange:
    """The requests of one run: unsent, in flight, or claimed by another process.

    Args:
        engine: the engine that receives the requests.
        spec: settings of the engine.
        store: the reply store.
        bar: a tqdm progress bar.
        expected: expected number of requests; `EngineSpec.max_failed` is a share of it.
        stats: returns further statistics for the progress bar, besides the engine's.
        on_reply: called with (reply key, stored reply) when the reply to a pending request arrives; it may call
            `lookup`.
    """

    def __init__(
        self,
        engine: Engine,
        spec: EngineSpec,
        store: ReplyStore,
        bar: Any,
        *,
        expected: int,
        stats: Callable[[], Mapping[str, Any]] = dict,
        on_reply: Callable[[str, Reply], None] | None = None,
    ) -> None:
        self.engine = engine
        self.store = store
        self.claims = Claims(store)
        self.progress = Progress(
            bar, spec, expected, lambda: {**stats(), **engine.stats()}, parallel=engine.cancel is not None
        )
        engine.on_step = self.progress.show_sometimes
        self.on_reply = on_reply
        self.stopped = threading.Event()
        self.unsent: deque[tuple[str, Request]] = deque()
        self.pending: Counter[str] = Counter()  # reply key -> number of requests that wait for the reply
        self.claimed_elsewhere: dict[str, Request] = {}
        self.last_claim_check = 0.0
        self.retryable: dict[str, str] = {}  # reply key -> error kind in this run; the next run sends the request again

    def run(self, lookups: Iterator[None]) -> tuple[str, dict[str, Any]]:
        """Send all requests that are looked up and have no stored reply.

        Args:
            lookups: a generator, resumed before each request is sent. It must call `lookup` when `unsent` is empty and
                further requests are known; otherwise the run waits for replies. It ends after the last request.

        Returns:
            (salt of the stage's cache key, entries of the lineage record). The salt is "" without retryable errors; the
            entries are the usage, and the number of failed requests if there are any.

        Raises:
            TooManyFailures: more than `EngineSpec.max_failed` of the requests failed.
        """
        if self.engine.cancel is None:
            self._run(lookups)
        else:
            run_in_thread(lambda: self._run(lookups), [self.stopped.set, self.engine.cancel])
        self.progress.show()
        if (error := self.progress.failure_error(self.progress.requests)) is not None:
            raise error
        failed = {"failed": self.progress.failed.total()} if self.progress.failed else {}
        return digest(sorted(self.retryable.items())) if self.retryable else "", {
            "usage": self.progress.usage(),
            **failed,
        }

    def lookup(self, requests: Sequence[tuple[str, Request]]) -> dict[str, Reply]:
        """Return the replies of requests that have one, and queue the others, unless they are already pending.

        A request that failed with a retryable error in this run is not queued again; its reply contains the error.

        Args:
            requests: (reply key, request) pairs.
        """
        keys = [key for key, _ in requests if key not in self.pending and key not in self.retryable]
        stored = self.store.get(keys)
        missing = [key for key in keys if key not in stored]
        claimed_elsewhere = self.claims.acquire(missing)
        stored |= self.store.get(missing)  # another process may have stored replies before the claim
        stored |= {key: Reply(None, error=self.retryable[key]) for key, _ in requests if key in self.retryable}
        self.progress.count_lookup(len(requests), sum(key not in stored for key, _ in requests))
        for key, request in requests:
            if key in stored:
                self.progress.count(stored[key], 1, from_store=int(key not in self.retryable))
                continue
            self.pending[key] += 1
            if self.pending[key] == 1 and key in claimed_elsewhere:
                self.claimed_elsewhere[key] = request
            elif self.pending[key] == 1:
                self.unsent.append((key, request))
        return stored

    def _run(self, lookups: Iterator[None]) -> None:
        with self.claims:
            requests = self._requests(lookups)
            no_more = ("", Request())
            # The engine is entered at the first request, because loading a model is slow.
            while (first := next(requests, no_more)) is None:
                self.stopped.wait(PULL_INTERVAL)
            if first is no_more:
                return
            requests = itertools.chain([first], requests)
            with self.engine, contextlib.closing(self.engine.generate(requests)) as reply_batches:
                self.progress.begin()
                for replies in reply_batches:
                    self.store.put(replies)
                    self._deliver(dict(replies))
                    error = self.progress.failure_error(max(self.progress.expected, self.progress.requests))
                    if error is not None:
                        if self.engine.stop is None:
                            raise error
                        self.engine.stop(error)  # raises the error after the in-flight requests

    def _requests(self, lookups: Iterator[None]) -> Iterator[tuple[str, Request] | None]:
        """Yield requests as they are looked up, and None while all known requests are pending."""
        exhausted = object()
        while not self.stopped.is_set():
            has_more = next(lookups, exhausted) is not exhausted
            if not self.unsent:
                self._check_claims()
            if self.unsent:
                key, request = self.unsent.popleft()
                if key in self.pending:  # otherwise a batch job of an earlier run has delivered its reply
                    self.progress.sent += 1
                    yield key, request
            elif has_more or self.claimed_elsewhere:
                yield None
            else:
                return

    def _check_claims(self) -> None:
        """Deliver replies that other processes have stored, and queue requests whose claims have expired."""
        if not self.claimed_elsewhere or time.monotonic() - self.last_claim_check < CLAIM_CHECK_INTERVAL:
            return
        self.last_claim_check = time.monotonic()
        keys = list(itertools.islice(self.claimed_elsewhere, MAX_CLAIM_CHECKS))
        still_claimed = self.claims.acquire(keys)  # before `get`, which then sees every reply of an expired claim
        stored = self.store.get(keys)
        for key in keys:
            request = self.claimed_elsewhere.pop(key)
            if key in still_claimed and key not in stored:
                self.claimed_elsewhere[key] = request  # at the end of the dictionary: claims are checked in turn
            elif key not in stored:
                self.unsent.append((key, request))
        self._deliver(stored, from_store=True)

    def _deliver(self, replies: dict[str, Reply], *, from_store: bool = False) -> None:
        """Count replies and pass them to `on_reply`; ignore those that no request waits for."""
        # Callers see only stored replies: the store retains the first of two replies, and cleans their text.
        stored = replies if from_store else replies | self.store.get(list(replies))
        if failed := {key: str(reply.error) for key, reply in stored.items() if reply.error in RETRYABLE_ERRORS}:
            self.claims.release(failed)
        # Replies that no request waits for are from a batch job of an earlier run.
        arrived = {key: (reply, self.pending.pop(key)) for key, reply in stored.items() if key in self.pending}
        self.retryable |= {key: kind for key, kind in failed.items() if key in arrived}
        if from_store:
            for reply, rows in arrived.values():
                self.progress.count(reply, rows, from_store=rows)
        else:
            self.progress.count_arrivals(arrived.values())
        if self.on_reply is not None:
            for key, (reply, _) in arrived.items():
                self.on_reply(key, reply)


def run_in_thread(work: Callable[[], None], cancel: Sequence[Callable[[], None]]) -> None:
    """Run work in a separate thread, because a notebook's thread already has an event loop.

    Args:
        work: the function to run.
        cancel: functions that end the work early; called on Ctrl-C, and also after the work has ended.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ask") as pool:
        try:
            future = pool.submit(work)
            while not wait([future], INTERRUPT_INTERVAL).done:  # an unlimited wait could miss a signal
                pass
        finally:
            for cancel_work in cancel:
                cancel_work()
    future.result()
