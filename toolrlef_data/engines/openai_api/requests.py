"""Direct requests: as many rows under way as `concurrency` says, each with its retries.

One row's life is `Rows.row`: wait for a turn, send, and look at what came; a passing fault waits and goes again, a rate
limit pauses its key for all rows, a key that the server does not take drops out. What is retried stands in `errors`.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from toolrlef_data.engines.openai_api.budget import Need
from toolrlef_data.engines.openai_api.errors import Fault
from toolrlef_data.engines.openai_api.payloads import UNSENDABLE, body_of, path_of
from toolrlef_data.engines.openai_api.rate_headers import asked_pause
from toolrlef_data.engines.openai_api.rate_limits import Gate
from toolrlef_data.engines.openai_api.session import REFUSED, Session
from toolrlef_data.engines.spec import PULL_INTERVAL, Request
from toolrlef_data.records import AllRequestsRefused, Reply

__all__ = ["ask_directly"]

STEP = 0.2  # seconds after which a stop is noticed at the latest
LONGEST_WAIT = 60.0  # seconds between two attempts
Samples = list[tuple[str, Request]]  # of one request, tagged; they differ in nothing but their number


def ask_directly(
    session: Session, requests: Iterable[tuple[str, Request] | None], loop: asyncio.AbstractEventLoop
) -> Iterator[list[tuple[str, Reply]]]:
    """Yield replies as they arrive; the loop goes on only in here, between what is handed out."""
    waiting = _samples(requests, together=dict(session.spec.options).get("n", False))
    rows = Rows(session, loop)
    try:
        while not session.cancelled and rows.crash is None:
            # A place is free when its replies are stored, which they are when the next ones are asked for.
            room = 0 if session.stop else session.spec.concurrency - len(rows.running)
            refused = rows.believed + rows.doubtful
            if session.refuses_all(refused):  # what is under way may still be answered
                room = 0
                if not rows.running:
                    session.give_up(refused)
            left, rows.left = rows.left[:room], rows.left[room:]
            idle = False  # what comes next is not ready yet
            for samples in itertools.chain(left, itertools.islice(waiting, room - len(left))):
                if samples is None:
                    idle = True
                    break
                rows.begin(samples)
            if not rows.running:
                if not idle:
                    break
                rows.believe()  # what comes next may wait for nothing else
            loop.run_until_complete(rows.some(PULL_INTERVAL if idle else STEP))
            if rows.finished:
                yield rows.taken()
    finally:
        loop.run_until_complete(rows.end())
    yield rows.taken(last=True)  # what arrived while everything was stopped is paid for as well
    if rows.crash is not None:
        raise rows.crash


def _samples(requests: Iterable[tuple[str, Request] | None], together: bool) -> Iterator[Samples | None]:
    """Requests one by one, or neighbours that differ in nothing but the sample's number, up to a None."""
    samples: Samples = []
    for pair in requests:
        if samples and (pair is None or replace(pair[1], sample=0) != replace(samples[0][1], sample=0)):
            yield samples
            samples = []
        if pair is None:
            yield None
        elif together:
            samples.append(pair)
        else:
            yield [pair]
    if samples:
        yield samples


class Rows:
    """The rows under way, a task each."""

    def __init__(self, session: Session, loop: asyncio.AbstractEventLoop) -> None:
        self.session = session
        self.loop = loop
        self.running: set[asyncio.Task[list[Reply]]] = set()
        self.finished: list[tuple[str, Reply]] = []
        self.doubtful: list[tuple[str, Reply]] = []  # refusals of a server that has answered nothing yet
        self.believed: list[tuple[str, Reply]] = []  # of these, what is handed out all the same
        self.left: list[Samples] = []  # of answers with fewer choices than were asked for
        self.crash: BaseException | None = None
        self.wake: asyncio.Future[None] = loop.create_future()

    def begin(self, samples: Samples) -> None:
        task = self.loop.create_task(self.row([request for _, request in samples]))
        self.running.add(task)
        task.add_done_callback(partial(self._done, samples))

    def _done(self, samples: Samples, task: asyncio.Task[list[Reply]]) -> None:
        self.running.discard(task)
        if not task.cancelled():
            if error := task.exception():
                self.crash = self.crash or error
            elif replies := task.result():
                arrived = [(tag, reply) for (tag, _), reply in zip(samples, replies, strict=False)]
                refused = replies[0].error in REFUSED and not self.session.answered()
                (self.doubtful if refused else self.finished).extend(arrived)
                self.left += [[sample] for sample in samples[len(replies) :]]
        self._wake()

    def _wake(self) -> None:
        if not self.wake.done():
            self.wake.set_result(None)

    def believe(self) -> None:
        """Hand out refusals before the server has answered anything."""
        self.finished += self.doubtful
        self.believed += self.doubtful
        self.doubtful = []

    async def some(self, step: float) -> None:
        """Until at least one row is done, or it is time to see whether there is more, or the run shall stop."""
        if not self.finished:
            self.wake = self.loop.create_future()
            timer = self.loop.call_later(step, self._wake)
            await self.wake
            timer.cancel()

    def taken(self, last: bool = False) -> list[tuple[str, Reply]]:
        """What has arrived; refusals count once the server has answered something, or where no more comes."""
        if self.session.answered() or (last and not isinstance(self.session.stop, AllRequestsRefused)):
            self.finished += self.doubtful
            self.doubtful = []
        taken, self.finished = self.finished, []
        return taken

    async def end(self) -> None:
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)

    async def row(self, samples: list[Request]) -> list[Reply]:
        """Replies to samples of one request, after as many attempts as it takes; none where the run stops first."""
        session, spec = self.session, self.session.spec
        try:
            body = body_of(samples[0], spec, session.quirks, len(samples))
        except UnicodeEncodeError:
            return [UNSENDABLE] * len(samples)
        deadline = time.monotonic() + spec.limits.deadline
        need = Need(len(body) / session.bytes_a_token, spec.max_tokens * len(samples))
        fault, attempts = None, 0
        while (gate := await session.scheduler.enter(need, deadline, again=attempts > 0)) is not None:
            limit = min(spec.timeout, deadline - time.monotonic())
            outcome = await self.attempt(gate, samples, body, need, limit)
            if isinstance(outcome, list):
                return outcome
            if fault and outcome.kind == "timeout" and limit < spec.timeout:
                break  # at the row's own deadline; what was met before says more
            session.faults[outcome.kind] += 1
            fault = await settled(outcome, gate)
            match fault:
                case Fault(action="pause"):
                    pass  # its key waits, for all rows
                case Fault(action="drop"):
                    session.drop(gate, fault)
                case Fault(action="again"):
                    attempts += 1
                    if not await self.waited(attempts, deadline):
                        break
                case _:
                    break
        fault = fault or Fault("rate_limit", "final", f"no turn within the deadline of {spec.limits.deadline:g} s")
        if gate is None and session.scheduler.closed:
            session.reached(session.scheduler.closed)
            return []
        if gate is None and (pause := session.scheduler.pause()) > 1:
            fault = fault._replace(detail=f"{fault.detail}; the server asks to wait {pause:.0f} s")
        return [session.failed(fault)] * len(samples)

    async def waited(self, attempts: int, deadline: float) -> bool:
        """Whether there is a further attempt after so many, once its time has come."""
        spec = self.session.spec
        wait = min(LONGEST_WAIT, spec.limits.backoff * 2 ** (attempts - 1)) * random.uniform(0.5, 1.0)
        if attempts > spec.retries or time.monotonic() + wait > deadline:
            return False
        await asyncio.sleep(wait)
        return True

    async def attempt(
        self, gate: Gate, samples: list[Request], body: bytes, need: Need, limit: float
    ) -> list[Reply] | Fault:
        """Send once, and keep the books; replies, or what was wrong."""
        session, sent = self.session, time.monotonic()
        used = need  # where the answer is lost, the server may have worked for it all the same
        try:
            answer = await session.connection.post(path_of(samples[0]), body, session.authorization(gate), limit)
            if isinstance(answer, Fault):
                if answer.kind == "timeout":
                    gate.cut(sent, time.monotonic())
                used = need if answer.worked else Need(0, 0)
                return answer
            outcome = session.read(answer.status, answer.text, len(samples))
            if isinstance(outcome, list):
                gate.succeed(answer.headers, time.monotonic(), time.time())
                used = session.used(outcome, need)
                session.learn(outcome[0], len(body))
                return outcome
            if answer.status >= 300 or outcome.action in ("pause", "drop"):
                used = Need(0, 0)
            if outcome.action == "pause":
                gate.refuse(asked_pause(answer.headers, answer.text, time.time()), sent, time.monotonic())
            elif outcome.action == "again" and (pause := asked_pause(answer.headers, "", time.time())):
                gate.paused_until = max(gate.paused_until, time.monotonic() + pause)
            return outcome
        finally:
            gate.finish(sum(need) - sum(used), time.monotonic(), sent)
            session.spending.finish(need, used)
            session.scheduler.move()


async def settled(fault: Fault, gate: Gate) -> Fault:
    """A fault that may be the key's or the request's is the key's, where nothing of it is answered."""
    if fault.action != "doubt":
        return fault
    while gate.in_flight and not gate.answered and not gate.dropped:  # refusals are quicker than replies
        await asyncio.sleep(STEP / 10)
    return fault._replace(action="final") if gate.answered else fault._replace(kind="rate_limit", action="drop")
