"""Batch mode: requests in files that the server processes within a day, at half the price.

Life of a batch job:

1. Its requests are written to an input file, and the job is recorded in the reply store.
2. The file is uploaded, and the batch is created with the job's name as its label.
3. The batch id is recorded. From then on the run may be interrupted: the next run finds the job and polls it.
4. The results are fetched and stored under the same reply keys as direct replies.

Requests without a result (batch expired or failed, retryable line error) go into a later job, up to `retries` times. If
requests depend on earlier replies, those that become ready within `poll` seconds share a job.

Not covered: a server's limit on enqueued tokens; a job that exceeds it is only retried.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from toolrlef_data.engines.claims import BatchJobs
from toolrlef_data.engines.openai_api.batch_endpoints import (
    Job,
    fetch_results,
    find_batch,
    retrieve_batch,
    submit_batch,
)
from toolrlef_data.engines.openai_api.budget import TokenCounts
from toolrlef_data.engines.openai_api.errors import Failure
from toolrlef_data.engines.openai_api.payloads import (
    UNENCODABLE_REPLY,
    build_body,
    endpoint_of,
    max_response_bytes,
)
from toolrlef_data.engines.openai_api.session import REJECTED, Session
from toolrlef_data.engines.reply_store import open_store
from toolrlef_data.engines.spec import PULL_INTERVAL, Request
from toolrlef_data.records import Reply, ToolrlefError

__all__ = ["send_in_batches"]

TaggedReplies = list[tuple[str, Reply]]
log = logging.getLogger(__name__)
MAX_JOBS = 8  # submitted at the same time
MAX_FILE_BYTES = 190_000_000  # maximum size of an input file; OpenAI accepts 200 MB
LINE_BYTES = 4096  # of a result without its completion
EARLIER_MAX_TOKENS = 16_384  # assumed token limit of the jobs of earlier runs, which may have had other settings
# Final batch status -> message for requests without a result.
END_MESSAGES = {
    "completed": "the batch was completed without a result for this request",
    "failed": "the batch failed",
    "expired": "the batch expired before this request was processed",
    "cancelled": "the batch was cancelled before this request was processed",
}


class BatchRun:
    """The batch jobs of one call of `generate`.

    Args:
        session: the session.
        folder: temporary folder for input and result files.
        records: the records of batch jobs in the reply store.
    """

    def __init__(self, session: Session, folder: Path, records: BatchJobs) -> None:
        self.session = session
        self.folder = folder
        self.records = records
        self.attempts: Counter[str] = Counter()  # by tag
        self.unencodable: TaggedReplies = []
        self.open_job: Job | None = None  # the job to which new requests are added
        self.full_jobs: list[Job] = []  # not submitted yet
        self.submitted: dict[str, Job] = {}  # by name
        self.is_exhausted = False  # whether there are no more requests

    def new_job(self, name: str, **fields: Any) -> Job:
        self.records.make_files()
        return Job(name, self.folder / f"{name}.jsonl", **fields)

    async def recover_jobs(self) -> None:
        """Load the jobs of earlier runs; delete those without a batch, so that this run sends their requests."""
        for name, recorded_id in self.records.pending_jobs().items():
            batch_id = recorded_id or await find_batch(self.session, name)
            if batch_id is None:
                self.records.end(name)
            else:
                self.records.mark_accepted(name, batch_id)
                complete = self.records.lists_all_requests(name)
                job = self.new_job(name, batch_id=batch_id, is_recovered=True, lists_all_requests=complete)
                self.submitted[name] = job
                if not complete:
                    log.warning("%s: the list of requests of batch job %s is damaged", self.records.store.path, name)

    def add(self, tag: str, request: Request) -> bool:
        """Add a request to the submitted job that contains it, or to the open job; return False at a cap.

        A request that no job lists waits for a job with a damaged list.
        """
        session = self.session
        try:
            body = build_body(request, session.spec, session.quirks, 1, session.extra_body)
        except UnicodeEncodeError:
            self.unencodable.append((tag, UNENCODABLE_REPLY))
            return True
        reserved = TokenCounts(len(body) / session.bytes_per_token, session.spec.max_tokens)
        job = self.submitted.get(self.records.job_of(tag) or "")
        if job is None and (damaged := [job for job in self.submitted.values() if not job.lists_all_requests]):
            job = damaged[0]
            job.unlisted.add(tag)
        if job is not None:
            session.spending.start(reserved, requests=0)
            job.add(tag, endpoint_of(request), body, reserved)
            return True
        return self.add_to_open_job(tag, endpoint_of(request), body, reserved)

    def add_to_open_job(self, tag: str, endpoint: str, body: bytes, reserved: TokenCounts) -> bool:
        """Add a request to the open job, or to a new one if it is full; return False at a cap."""
        limits = self.session.spec.limits
        if exceeded_cap := self.session.spending.exceeded_cap(limits, reserved):
            self.session.halt_at_cap(exceeded_cap.message)
            return False
        job = self.open_job
        if job and (
            len(job.reserved) >= limits.batch_rows or job.num_bytes >= MAX_FILE_BYTES or job.endpoint != endpoint
        ):
            self.full_jobs.append(job)
            job = None
        self.open_job = job or self.new_job(uuid.uuid4().hex)
        self.session.spending.start(reserved)
        self.open_job.add(tag, endpoint, body, reserved)
        return True

    async def submit(self, job: Job) -> None:
        """Record a job and submit it to the server."""
        self.records.begin(job.name, job.reserved)
        self.submitted[job.name] = job
        job.batch_id = await submit_batch(self.session, job)
        if job.batch_id is not None:
            self.records.mark_accepted(job.name, job.batch_id)
        elif not self.session.is_cancelled:
            raise ToolrlefError(f"{self.session} has no batch endpoints; use limits=Limits(mode='direct')")

    async def poll(self, job: Job) -> TaggedReplies | None:
        """Return the replies of a job, or None if it has not ended; its retryable requests go into the open job."""
        batch_id = str(job.batch_id)
        batch = await retrieve_batch(self.session, batch_id)
        if batch is None:
            job.num_not_found += 1  # perhaps temporary, and sending its requests again would be billed twice
            # The record may be damaged.
            if job.num_not_found == 1 and (found := await find_batch(self.session, job.name)):
                self.records.mark_accepted(job.name, found)
                job.batch_id = found
            if self.session.is_cancelled or job.num_not_found <= self.session.spec.retries:
                return None
            log.warning("the server no longer knows batch %s; its requests are sent again", batch_id)
            return self.collect(job, {}, Failure("server", "retry", "the server no longer knows the batch"))
        if batch.status not in END_MESSAGES:
            return None
        results: dict[str, Reply | Failure] = {}
        for file_id in filter(None, [batch.output_file_id, batch.error_file_id]):
            limits = self.max_result_bytes(job)
            results |= await fetch_results(self.session, file_id, self.folder / "fetched.jsonl", *limits)
        errors = (batch.errors and batch.errors.data) or []
        messages = [(error.line, f"{error.code}: {error.message}") for error in errors]
        if batch.status == "failed" and job.lists_all_requests:
            tags = self.records.keys(job.name)
            for line, message in messages:  # one invalid line fails the batch; the other requests are retried
                if line is not None and 0 < line <= len(tags):
                    results[tags[line - 1]] = Failure("bad_request", "final", message)
        detail = END_MESSAGES[batch.status] + "".join(f"; {message}" for _, message in messages[:3])
        action = "final" if batch.status == "cancelled" else "retry"
        return self.collect(job, results, Failure("timeout" if batch.status == "expired" else "server", action, detail))

    def max_result_bytes(self, job: Job) -> tuple[int, int]:
        """Return the maximum size of the output file of a job, and of a line in it."""
        spec = self.session.spec
        if job.is_recovered:
            spec = replace(spec, max_tokens=max(spec.max_tokens, EARLIER_MAX_TOKENS))
        num_requests = max(len(job.reserved), len(self.records.keys(job.name)))
        file_bytes = max_response_bytes(spec, job.num_bytes, num_requests) + LINE_BYTES * num_requests
        return file_bytes, min(file_bytes, max_response_bytes(spec, job.num_bytes, 1))

    def collect(self, job: Job, results: dict[str, Reply | Failure], default: Failure) -> TaggedReplies:
        """Return the replies of an ended job; retryable requests go into the open job.

        Args:
            job: the job.
            results: replies and failures by tag.
            default: the failure of requests without a result.
        """
        session = self.session
        replies: TaggedReplies = [(tag, reply) for tag, reply in results.items() if isinstance(reply, Reply)]
        for limiter in session.scheduler.limiters:
            limiter.has_succeeded = limiter.has_succeeded or bool(replies)
        retried = set()
        for tag, reserved in job.reserved.items():
            outcome = results.get(tag, default)
            if isinstance(outcome, Reply):
                session.spending.finish(reserved, session.tokens_used([outcome], reserved))
                continue
            session.spending.finish(reserved, TokenCounts(0, 0))
            if tag in job.unlisted and tag not in results:  # the job does not contain it
                retried.add(tag)
                continue
            session.failure_counts[outcome.kind] += 1
            self.attempts[tag] += 1
            if outcome.action in ("retry", "pause_key") and self.attempts[tag] <= session.spec.retries:
                retried.add(tag)
            else:
                replies.append((tag, session.failed_reply(outcome)))
        for tag, endpoint, body in job.requests() if retried else ():
            if tag in retried and not session.stop_error:
                self.add_to_open_job(tag, endpoint, body, job.reserved[tag])
        rejections = [(tag, reply) for tag, reply in replies if reply.error in REJECTED]
        if len(rejections) == len(replies) and session.rejects_everything(rejections):
            session.halt_after_rejections(rejections)
            return []
        return replies

    def release_reservations(self) -> None:
        """Release the reserved tokens of all requests in unfinished jobs."""
        for job in [*self.submitted.values(), *self.full_jobs, *([self.open_job] if self.open_job else [])]:
            for reserved in job.reserved.values():
                self.session.spending.finish(reserved, TokenCounts(0, 0))


def send_in_batches(
    session: Session, requests: Iterable[tuple[str, Request] | None], loop: asyncio.AbstractEventLoop
) -> Iterator[TaggedReplies]:
    """Yield tagged replies as `send_directly` does, but over the batch endpoints."""
    server = f"{session.address.url} {session.spec.model}"
    with BatchJobs(open_store(), server) as records:
        run = BatchRun(session, records.files, records)
        try:
            yield from _run_jobs(run, iter(requests), loop.run_until_complete)
        finally:
            run.release_reservations()
        if num_jobs := sum(bool(job.reserved) for job in run.submitted.values()):
            log.warning("%d batch jobs are still running on the server; the next run fetches their results", num_jobs)


def _run_jobs(
    run: BatchRun,
    requests: Iterator[tuple[str, Request] | None],
    run_async: Callable[[Coroutine[Any, Any, Any]], Any],
) -> Iterator[TaggedReplies]:
    """Submit and poll jobs, and yield their replies, until all jobs have ended."""
    session, poll_interval = run.session, run.session.spec.limits.poll
    next_poll = 0.0
    run_async(run.recover_jobs())
    while not session.is_cancelled:
        is_idle = _submit_jobs(run, requests, run_async)
        if run.unencodable:
            unencodable, run.unencodable = run.unencodable, []
            yield unencodable
        has_pending = bool(run.full_jobs) or any(job.reserved for job in run.submitted.values())
        if not has_pending and (run.is_exhausted or session.stop_error):
            return
        if time.monotonic() >= next_poll:
            next_poll = time.monotonic() + poll_interval
            for job in list(run.submitted.values()):
                if not session.is_cancelled and (replies := run_async(run.poll(job))) is not None:
                    yield replies  # the caller stores them before it resumes this generator
                    run.records.end(job.name)
                    del run.submitted[job.name]
                    job.input_file.unlink(missing_ok=True)
                    next_poll = 0.0
        if not session.is_cancelled and time.monotonic() < next_poll:
            run_async(asyncio.sleep(PULL_INTERVAL if is_idle else min(0.2, poll_interval)))


def _submit_jobs(
    run: BatchRun,
    requests: Iterator[tuple[str, Request] | None],
    run_async: Callable[[Coroutine[Any, Any, Any]], Any],
) -> bool:
    """Fill and submit up to `MAX_JOBS` jobs; return True if the next request is not ready yet."""
    session, is_idle = run.session, False
    while len(run.submitted) < MAX_JOBS:
        if run.full_jobs:
            run_async(run.submit(run.full_jobs.pop(0)))
            continue
        if not (is_idle or run.is_exhausted or session.stop_error):
            pair = next(requests, "end")
            if isinstance(pair, tuple) and run.add(*pair):
                continue
            is_idle = pair is None
            run.is_exhausted = pair == "end"
        # Requests that become ready within `poll` seconds share a job: tools may still run on recent replies.
        if run.open_job is None or (is_idle and time.monotonic() < run.open_job.created_at + session.spec.limits.poll):
            break
        full_job, run.open_job = run.open_job, None
        run.full_jobs.append(full_job)
    return is_idle
