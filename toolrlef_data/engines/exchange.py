"""exchange: requests and replies of one run, between an engine and the reply store.

What is stored is not asked again, and neither is what is in flight, here or in another process (`claims`); what another
process leaves unanswered is taken over. Every reply is stored as it arrives. Two stages ask in this way: the rows of a
table (`ask`), and searches whose next request depends on the last reply (`toolbench.search.pool`).
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

LOOK = 0.2  # seconds after which Ctrl-C is noticed at the latest
WAIT = 0.1  # seconds between two looks at what other processes are asking
LOOKED_AT = 500  # requests of other processes in one look


class Exchange:
    """The requests of one run: those to be sent, those in flight, and those that another process is asking.

    Args:
        engine: whose requests these are.
        spec: of the engine.
        store: of replies.
        bar: a tqdm bar.
        expected: requests that the run will make, as far as is known; the share of failures is taken of these.
        figures: what the bar shows beside the engine's figures.
        on_reply: called with each awaited reply, as the store has it; it may look up more.
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
        self.progress = Progress(bar, spec, expected, lambda: {**stats(), **engine.stats()})
        self.on_reply = on_reply
        self.ended = threading.Event()
        self.unsent: deque[tuple[str, Request]] = deque()
        self.in_flight: Counter[str] = Counter()  # how many wait for each key, whoever asks for it
        self.claimed_elsewhere: dict[str, Request] = {}
        self.looked = 0.0  # when these were last looked at
        self.retryable: dict[str, str] = {}  # retryable errors of this run, which the next run asks again

    def run(self, steps: Iterator[None]) -> tuple[str, dict[str, Any]]:
        """Ask for everything that is looked up.

        Args:
            steps: resumed before each request is sent. It looks up more when `unsent` is empty; where it cannot,
                replies are waited for. It ends when no more will come.

        Returns:
            a salt for the stage's key, "" unless replies may come in another run, and what the replies took.

        Raises:
            TooManyFailures: more than `EngineSpec.max_failed` of the requests failed.
        """
        if self.engine.cancel is None:
            self._run(steps)
        else:
            run_in_thread(lambda: self._run(steps), [self.ended.set, self.engine.cancel])
        self.progress.show()
        if (error := self.progress.too_many(self.progress.requests)) is not None:
            raise error
        return digest(sorted(self.retryable.items())) if self.retryable else "", {"usage": self.progress.usage()}

    def lookup(self, requests: Sequence[tuple[str, Request]]) -> dict[str, Reply]:
        """The replies that are there; all others are awaited, and asked for unless somebody asks already."""
        keys = [key for key, _ in requests if key not in self.in_flight and key not in self.retryable]
        known = self.store.get(keys)
        missing = [key for key in keys if key not in known]
        elsewhere = self.claims.take(missing)
        known |= self.store.get(missing)  # what another process has answered since
        known |= {key: Reply(None, error=self.retryable[key]) for key, _ in requests if key in self.retryable}
        self.progress.requests += len(requests)
        for key, request in requests:
            if key in known:
                self.progress.count(known[key], 1, from_store=int(key not in self.retryable))
                continue
            self.in_flight[key] += 1
            if self.in_flight[key] == 1 and key in elsewhere:
                self.claimed_elsewhere[key] = request
            elif self.in_flight[key] == 1:
                self.unsent.append((key, request))
        return known

    def _run(self, steps: Iterator[None]) -> None:
        with self.claims:
            requests = self._requests(steps)
            end = ("", Request())
            while (first := next(requests, end)) is None:  # without the engine: loading a model takes long
                self.ended.wait(PULL_INTERVAL)
            if first is end:
                return
            requests = itertools.chain([first], requests)
            with self.engine, contextlib.closing(self.engine.generate(requests)) as arriving:
                for replies in arriving:
                    self.store.put(replies)
                    self._deliver(dict(replies))
                    error = self.progress.too_many(max(self.progress.expected, self.progress.requests))
                    if error is not None and self.engine.stop is None:
                        raise error
                    if error is not None and self.engine.stop is not None:
                        self.engine.stop(error)  # which raises it when what is in flight has arrived

    def _requests(self, steps: Iterator[None]) -> Iterator[tuple[str, Request] | None]:
        """Requests as they are looked up; None while all that are known are awaited."""
        end = object()
        while not self.ended.is_set():
            more = next(steps, end) is not end
            if not self.unsent:
                self._take_over()
            if self.unsent:
                key, request = self.unsent.popleft()
                if key in self.in_flight:  # else a batch job of an earlier run has brought it meanwhile
                    yield key, request
            elif more or self.claimed_elsewhere:
                yield None
            else:
                return

    def _take_over(self) -> None:
        """Take what other processes have answered, and ask for what they have left; some at a time, in turn."""
        if not self.claimed_elsewhere or time.monotonic() - self.looked < WAIT:
            return
        self.looked = time.monotonic()
        keys = list(itertools.islice(self.claimed_elsewhere, LOOKED_AT))
        elsewhere = self.claims.take(keys)  # before the look-up: what is stored from here on is seen there
        known = self.store.get(keys)
        for key in keys:
            request = self.claimed_elsewhere.pop(key)
            if key in elsewhere and key not in known:
                self.claimed_elsewhere[key] = request
            elif key not in known:
                self.unsent.append((key, request))
        self._deliver(known, from_store=True)

    def _deliver(self, replies: dict[str, Reply], *, from_store: bool = False) -> None:
        # The store keeps the first of two replies, and repairs text; what is made of replies sees only the store.
        known = replies if from_store else replies | self.store.get(list(replies))
        if failed := {key: str(reply.error) for key, reply in known.items() if reply.error in RETRYABLE_ERRORS}:
            self.claims.give_up(failed)
        for key, reply in known.items():
            waiting = self.in_flight.pop(key, 0)
            if not waiting:  # a batch job of an earlier run brought what this run does not ask
                continue
            if key in failed:
                self.retryable[key] = failed[key]
            if from_store:
                self.progress.count(reply, waiting, from_store=waiting)
            else:
                self.progress.arrived(reply, waiting)
            if self.on_reply is not None:
                self.on_reply(key, reply)


def run_in_thread(work: Callable[[], None], cancel: Sequence[Callable[[], None]]) -> None:
    """Run work in a thread of its own, since a notebook's thread has an event loop already; Ctrl-C ends it cleanly."""
    with ThreadPoolExecutor(1, thread_name_prefix="ask") as pool:
        try:
            asked = pool.submit(work)
            while not wait([asked], LOOK).done:  # a signal just before a wait without end would be lost
                pass
        finally:
            for end in cancel:
                end()
    asked.result()
