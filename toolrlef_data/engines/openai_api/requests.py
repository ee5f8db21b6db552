"""Direct requests: up to `concurrency` requests in flight, each with its retries.

`RequestPool.complete` waits for an API key, sends a request and handles the outcome. `errors` lists the failures and
their actions.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from toolrlef_data.engines.openai_api.budget import TokenCounts
from toolrlef_data.engines.openai_api.errors import Failure
from toolrlef_data.engines.openai_api.payloads import UNENCODABLE_REPLY, build_body, endpoint_of, max_response_bytes
from toolrlef_data.engines.openai_api.rate_headers import requested_pause
from toolrlef_data.engines.openai_api.rate_limits import MAX_BACKOFF, KeyLimiter
from toolrlef_data.engines.openai_api.session import REJECTED, Session
from toolrlef_data.engines.spec import PULL_INTERVAL, Request
from toolrlef_data.records import AllRequestsRefused, Reply

__all__ = ["send_directly"]

CHECK_INTERVAL = 0.2  # seconds between two checks for a cancel or stop
RequestGroup = list[tuple[str, Request]]  # tagged requests that differ only in their sample number


def send_directly(
    session: Session, requests: Iterable[tuple[str, Request] | None], loop: asyncio.AbstractEventLoop
) -> Iterator[list[tuple[str, Reply]]]:
    """Yield tagged replies as they arrive; the event loop runs only inside this generator."""
    queue = _group_requests(requests, together=dict(session.spec.options).get("n", False))
    pool = RequestPool(session, loop)
    try:
        while not session.is_cancelled and pool.error is None:
            # A slot is free once the replies are stored, which the caller does before it resumes this generator.
            # A row that waits for its next attempt needs no slot.
            num_active = len(pool.tasks) - min(pool.num_waiting, session.spec.concurrency)
            free_slots = 0 if session.stop_error else max(0, session.spec.concurrency - num_active)
            rejections = pool.released_rejections + pool.pending_rejections
            if session.rejects_everything(rejections):  # in-flight requests may still get replies
                free_slots = 0
                if not pool.tasks:
                    session.halt_after_rejections(rejections)
            resent, pool.unanswered_groups = pool.unanswered_groups[:free_slots], pool.unanswered_groups[free_slots:]
            is_idle = False  # becomes True if the next request is not ready yet
            for group in itertools.chain(resent, itertools.islice(queue, free_slots - len(resent))):
                if group is None:
                    is_idle = True
                    break
                pool.start(group)
            if not pool.tasks:
                if not is_idle:
                    break
                pool.release_rejections()  # the next request may depend on them
            loop.run_until_complete(pool.wait_any(PULL_INTERVAL if is_idle else CHECK_INTERVAL))
            if pool.finished:
                yield pool.drain()
    finally:
        loop.run_until_complete(pool.cancel_all())
    yield pool.drain(is_last=True)  # replies that arrived during the cancellation are paid for, too
    if pool.error is not None:
        raise pool.error


def _group_requests(requests: Iterable[tuple[str, Request] | None], together: bool) -> Iterator[RequestGroup | None]:
    """Yield groups: with `together`, adjacent requests that differ only in their sample number; else single requests.

    A None (no request is ready) is passed on and ends a group.
    """
    group: RequestGroup = []
    for pair in requests:
        if group and (pair is None or replace(pair[1], sample=0) != replace(group[0][1], sample=0)):
            yield group
            group = []
        if pair is None:
            yield None
        elif together:
            group.append(pair)
        else:
            yield [pair]
    if group:
        yield group


class RequestPool:
    """The in-flight requests, one task each, and their replies."""

    def __init__(self, session: Session, loop: asyncio.AbstractEventLoop) -> None:
        self.session = session
        self.loop = loop
        self.tasks: set[asyncio.Task[list[Reply]]] = set()
        self.num_waiting = 0  # tasks that wait before the next attempt of their request
        self.finished: list[tuple[str, Reply]] = []
        self.pending_rejections: list[tuple[str, Reply]] = []  # withheld until the server has sent a reply
        self.released_rejections: list[tuple[str, Reply]] = []  # passed on before the server has sent a reply
        self.unanswered_groups: list[RequestGroup] = []  # the server returned fewer choices than requested
        self.error: BaseException | None = None
        self.wake_up: asyncio.Future[None] = loop.create_future()

    def start(self, group: RequestGroup) -> None:
        task = self.loop.create_task(self.complete([request for _, request in group]))
        self.tasks.add(task)
        task.add_done_callback(partial(self._collect, group))

    def _collect(self, group: RequestGroup, task: asyncio.Task[list[Reply]]) -> None:
        self.tasks.discard(task)
        if not task.cancelled():
            if error := task.exception():
                self.error = self.error or error
            elif replies := task.result():
                tagged = [(tag, reply) for (tag, _), reply in zip(group, replies, strict=False)]
                is_pending = replies[0].error in REJECTED and not self.session.has_succeeded()
                (self.pending_rejections if is_pending else self.finished).extend(tagged)
                self.unanswered_groups += [[pair] for pair in group[len(replies) :]]
        self._wake()

    def _wake(self) -> None:
        if not self.wake_up.done():
            self.wake_up.set_result(None)

    def release_rejections(self) -> None:
        """Move the withheld rejections to the finished replies as retryable errors."""
        rejected = [
            (tag, reply if reply == UNENCODABLE_REPLY else replace(reply, error="rejected"))
            for tag, reply in self.pending_rejections
        ]
        self.finished += rejected
        self.released_rejections += rejected
        self.pending_rejections = []

    async def wait_any(self, timeout: float) -> None:
        """Wait until a request has finished, or for `timeout` seconds."""
        if not self.finished:
            self.wake_up = self.loop.create_future()
            timer = self.loop.call_later(timeout, self._wake)
            await self.wake_up
            timer.cancel()

    def drain(self, is_last: bool = False) -> list[tuple[str, Reply]]:
        """Return and remove the finished replies.

        Rejections are included once the server has sent a reply. The last call includes them in any case, unless the
        run stops because of them; without a reply of the server they are retryable.
        """
        if self.session.has_succeeded():
            self.finished += self.pending_rejections
            self.pending_rejections = []
        elif is_last and not isinstance(self.session.stop_error, AllRequestsRefused):
            self.release_rejections()
        finished, self.finished = self.finished, []
        return finished

    async def cancel_all(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def complete(self, group: list[Request]) -> list[Reply]:
        """Send a group as one HTTP request, with retries, and return its replies, or [] if the run stops first."""
        session, spec = self.session, self.session.spec
        try:
            body = build_body(group[0], spec, session.quirks, len(group), session.extra_body)
        except UnicodeEncodeError:
            return [UNENCODABLE_REPLY] * len(group)
        deadline = time.monotonic() + spec.limits.deadline
        reserved = TokenCounts(len(body) / session.bytes_per_token, spec.max_tokens * len(group))
        failure, attempts, num_waits = None, 0, 0
        while (limiter := await session.scheduler.acquire(reserved, deadline, is_retry=num_waits > 0)) is not None:
            timeout = max(0.0, min(spec.timeout, deadline - time.monotonic()))
            outcome = await self.send(limiter, group, body, reserved, timeout)
            if isinstance(outcome, list):
                return outcome
            if outcome.kind == "timeout" and timeout < spec.timeout:  # the deadline ended this attempt
                ended = f"no HTTP response within the deadline of {spec.limits.deadline:g} s"
                failure = failure or outcome._replace(detail=ended)  # an earlier failure is more informative
                break
            session.failure_counts[outcome.kind] += 1
            failure = await _check_key(outcome, limiter)
            match failure:
                case Failure(action="pause_key"):
                    pass  # `acquire` waits for the pause
                case Failure(action="disable_key"):
                    session.disable(limiter, failure)
                case Failure(action="stop"):
                    problem = session.clean(failure.detail)
                    session.halt(AllRequestsRefused(f"{session}: {problem}. Completed requests are saved"))
                    break
                case Failure(action="retry" | "wait"):
                    attempts += failure.action == "retry"
                    num_waits += 1
                    if attempts > spec.retries or not await self.wait_for_retry(num_waits, failure.wait, deadline):
                        break
                case _:
                    break
        no_key = f"no API key was free within the deadline of {spec.limits.deadline:g} s"
        failure = failure or Failure("rate_limit", "final", no_key)
        if limiter is None and session.scheduler.closed_reason:
            session.halt_at_cap(session.scheduler.closed_reason)
            return []
        if (pause := session.scheduler.remaining_pause() if limiter is None else failure.wait) > 1:
            failure = failure._replace(detail=f"{failure.detail}; the server requests a pause of {pause:.0f} s")
        return [session.failed_reply(failure)] * len(group)

    async def wait_for_retry(self, num_waits: int, requested: float, deadline: float) -> bool:
        """Wait before the next attempt of a request; return False if the wait would end after the deadline.

        Args:
            num_waits: number of waits of this request, with this one.
            requested: seconds that the server asks the client to wait at least.
            deadline: the request's deadline.
        """
        backoff = min(MAX_BACKOFF, self.session.spec.limits.backoff * 2 ** (num_waits - 1)) * random.uniform(0.5, 1.0)
        wait = max(requested, backoff)
        if time.monotonic() + wait > deadline:
            return False
        self.num_waiting += 1
        self._wake()  # another request can be sent meanwhile
        try:
            await asyncio.sleep(wait)
        finally:
            self.num_waiting -= 1
        return True

    async def send(
        self, limiter: KeyLimiter, group: list[Request], body: bytes, reserved: TokenCounts, timeout: float
    ) -> list[Reply] | Failure:
        """Send a group as one HTTP request, once; account for its tokens, and return its replies or the failure."""
        session, sent_at, number = self.session, time.monotonic(), limiter.next_number()
        used = reserved  # the server may have processed a request whose HTTP response was lost
        try:
            authorization = session.authorization(limiter)
            max_bytes = max_response_bytes(session.spec, len(body), len(group))
            response = await session.connection.post(endpoint_of(group[0]), body, authorization, timeout, max_bytes)
            if isinstance(response, Failure):
                if response.kind == "timeout":
                    limiter.record_timeout(number)
                used = reserved if response.may_be_billed else TokenCounts(0, 0)
                return response
            outcome = session.parse(response.status, response.text, len(group))
            if isinstance(outcome, list):
                limiter.record_success(response.headers, time.monotonic(), time.time())
                used = session.tokens_used(outcome, reserved)
                session.update_bytes_per_token(outcome[0], len(body))
                return outcome
            if response.status in (404, 405) and "model" not in outcome.detail:
                outcome = outcome._replace(detail=f"{outcome.detail}; {self.missing_path(endpoint_of(group[0]))}")
            if response.status >= 300 or outcome.action in ("pause_key", "disable_key"):
                used = TokenCounts(0, 0)
            if outcome.action in ("pause_key", "retry"):
                is_limit = outcome.action == "pause_key"
                pause = requested_pause(response.headers, response.text if is_limit else "", time.time())
                outcome = outcome._replace(wait=pause or 0.0)
                if is_limit or pause:
                    is_only_key = session.scheduler.is_only_key(limiter)
                    is_paused = limiter.record_rate_limit(pause, number, time.monotonic(), is_only_key)
                    outcome = outcome._replace(action="wait") if is_limit and not is_paused else outcome
            return outcome
        finally:
            limiter.finish(sum(reserved) - sum(used), time.monotonic(), sent_at)
            session.spending.finish(reserved, used)
            session.scheduler.dispatch()

    def missing_path(self, endpoint: str) -> str:
        """Return the advice for a server that does not know the path of an endpoint."""
        paths = {name: url.path for name, url in self.session.connection.urls.items()}
        if endpoint == "/completions":
            remedy = f'pass style="chat", which sends requests to {paths["/chat/completions"]}'
        else:
            remedy = "check base_url, which usually ends with /v1"
        return f"the server has no POST {paths[endpoint]}: {remedy}"


async def _check_key(failure: Failure, limiter: KeyLimiter) -> Failure:
    """Return the failure with the action `check_key` replaced by `final` if the API key works, else by `disable_key`.

    The key works once a request with it succeeds. Without success, this waits until the key has no in-flight requests.
    """
    if failure.action != "check_key":
        return failure
    # Rejections arrive sooner than replies, so the success of an earlier request may still be outstanding.
    while limiter.in_flight and not limiter.has_succeeded and not limiter.disabled_reason:
        await asyncio.sleep(CHECK_INTERVAL / 10)
    if limiter.has_succeeded:
        return failure._replace(action="final")
    return failure._replace(kind="rate_limit", action="disable_key")
