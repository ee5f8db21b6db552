"""Batch mode: many requests as one file that the server works off within a day, at half the price.

A job's life: its requests are written to a file, the job is written down in the reply store, the file is uploaded, the
batch is created under a label that says which job it is, and its name is written down as well. From there on the run
may be closed: the next one finds the job, asks only for its state, and fetches what is there. Rows that a batch leaves
unanswered (it expired, was cancelled, or one line failed for a passing reason) go into another one, as often as
`retries` says. The replies are stored under the same keys as those of direct requests.

Where requests wait for the replies of earlier ones, those that are ready within `poll` seconds go into one batch, and
the replies of each batch make the next one.

Not covered: a server's limit on all tokens waiting in batches, other than trying again later.
"""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from toolrlef_data.engines.claims import BatchJobs
from toolrlef_data.engines.openai_api.batch_endpoints import fetch, find, hand_over, retrieve
from toolrlef_data.engines.openai_api.budget import Need
from toolrlef_data.engines.openai_api.errors import Fault
from toolrlef_data.engines.openai_api.payloads import UNSENDABLE, body_of, path_of
from toolrlef_data.engines.openai_api.session import REFUSED, Session
from toolrlef_data.engines.reply_store import open_store
from toolrlef_data.engines.spec import PULL_INTERVAL, Request
from toolrlef_data.records import Reply, ToolrlefError

__all__ = ["ask_in_batches"]

T = TypeVar("T")
Arrived = list[tuple[str, Reply]]
log = logging.getLogger(__name__)
MOST_JOBS = 8  # at once
MOST_BYTES = 190_000_000  # of an input file; OpenAI takes 200 MB
ENDED = {
    "completed": "was completed without this row",
    "failed": "failed",
    "expired": "expired before this row",
    "cancelled": "was cancelled before this row",
}


@dataclass
class Job:
    """One batch: our name for it, the server's, and the requests in it that this run waits for."""

    name: str
    lines: Path
    endpoint: str = ""
    remote: str | None = None
    size: int = 0
    lost: int = 0  # how often the server did not know it
    wanted: dict[str, Need] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)

    def add(self, tag: str, endpoint: str, body: bytes, need: Need) -> None:
        head = json.dumps({"custom_id": tag, "method": "POST", "url": f"/v1{endpoint}"})
        with open(self.lines, "ab") as file:
            self.size += file.write(head[:-1].encode() + b', "body": ' + body + b"}\n")
        self.endpoint = endpoint
        self.wanted[tag] = need


class BatchRun:
    """The jobs of one call of `generate`."""

    def __init__(self, session: Session, folder: Path, records: BatchJobs) -> None:
        self.session = session
        self.folder = folder
        self.records = records
        self.attempts: Counter[str] = Counter()
        self.refused: Arrived = []  # rows that never went into a job
        self.filling: Job | None = None
        self.ready: list[Job] = []  # full, and not handed over yet
        self.jobs: dict[str, Job] = {}
        self.exhausted = False  # no more requests come

    def new(self, name: str, remote: str | None = None) -> Job:
        return Job(name, self.folder / f"{name}.jsonl", remote=remote)

    async def pick_up(self) -> None:
        """The jobs of earlier runs; what the server never heard of is forgotten, so that it is asked now."""
        for name, remote in self.records.pending_jobs().items():
            remote = remote or await find(self.session, name)
            if remote is None:
                self.records.end(name)
            else:
                self.records.mark_accepted(name, remote)
                self.jobs[name] = self.new(name, remote)

    def put(self, tag: str, request: Request) -> bool:
        """Add a request to the job that has it, or to the next one; False where a cap forbids it."""
        session = self.session
        try:
            body = body_of(request, session.spec, session.quirks)
        except UnicodeEncodeError:
            self.refused.append((tag, UNSENDABLE))
            return True
        need = Need(len(body) / session.bytes_a_token, session.spec.max_tokens)
        if (job := self.jobs.get(self.records.job_of(tag) or "")) is not None:
            session.spending.start(need, requests=0)
            job.add(tag, path_of(request), body, need)
            return True
        return self.fill(tag, path_of(request), body, need)

    def fill(self, tag: str, endpoint: str, body: bytes, need: Need) -> bool:
        """Add a request to a job that is not handed over yet; False where a cap forbids it."""
        limits = self.session.spec.limits
        if refusal := self.session.spending.refusal(limits, need):
            self.session.reached(refusal)
            return False
        job = self.filling
        if job and (len(job.wanted) >= limits.batch_rows or job.size >= MOST_BYTES or job.endpoint != endpoint):
            self.ready.append(job)
            job = None
        self.filling = job or self.new(uuid.uuid4().hex)
        self.session.spending.start(need)
        self.filling.add(tag, endpoint, body, need)
        return True

    async def submit(self, job: Job) -> None:
        """Hand a job to the server."""
        self.records.begin(job.name, job.wanted)
        self.jobs[job.name] = job
        job.remote = await hand_over(self.session, job.lines, f"/v1{job.endpoint}", job.name)
        if job.remote is not None:
            self.records.mark_accepted(job.name, job.remote)
        elif not self.session.cancelled:
            raise ToolrlefError(f"{self.session} has no batch endpoints; use limits=Limits(mode='direct')")

    async def look(self, job: Job) -> Arrived | None:
        """What a job brought, once it has ended; None before. Rows without an answer are put into another job."""
        remote = str(job.remote)
        batch = await retrieve(self.session, remote)
        if batch is None:
            job.lost += 1  # perhaps only for a moment, and asking its rows again would be paying again
            if self.session.cancelled or job.lost <= self.session.spec.retries:
                return None
            log.warning("batch %s is not known to the server any more; its rows are asked again", remote)
            return self.settle(job, {}, Fault("server", "again", "the server does not know the batch any more"))
        if batch.status not in ENDED:
            return None
        found: dict[str, Reply | Fault] = {}
        for file in filter(None, [batch.output_file_id, batch.error_file_id]):
            found |= await fetch(self.session, file, self.folder / "fetched.jsonl")
        errors = (batch.errors and batch.errors.data) or []
        messages = [(error.line, f"{error.code}: {error.message}") for error in errors]
        if batch.status == "failed":
            order = self.records.keys(job.name)
            for line, message in messages:  # one bad line fails the whole batch; the others are asked again
                if line is not None and 0 < line <= len(order):
                    found[order[line - 1]] = Fault("bad_request", "final", message)
        why = f"the batch {ENDED[batch.status]}" + "".join(f"; {message}" for _, message in messages[:3])
        action = "final" if batch.status == "cancelled" else "again"
        return self.settle(job, found, Fault("timeout" if batch.status == "expired" else "server", action, why))

    def settle(self, job: Job, found: dict[str, Reply | Fault], missing: Fault) -> Arrived:
        """Replies of an ended job; what may come yet is put into the next one."""
        session = self.session
        arrived: Arrived = [(tag, reply) for tag, reply in found.items() if isinstance(reply, Reply)]
        for gate in session.scheduler.limiters:
            gate.answered = gate.answered or bool(arrived)
        again = set()
        for tag, need in job.wanted.items():
            outcome = found.get(tag, missing)
            if isinstance(outcome, Reply):
                session.spending.finish(need, session.used([outcome], need))
                continue
            session.spending.finish(need, Need(0, 0))
            session.faults[outcome.kind] += 1
            self.attempts[tag] += 1
            if outcome.action in ("again", "pause") and self.attempts[tag] <= session.spec.retries:
                again.add(tag)
            else:
                arrived.append((tag, session.failed(outcome)))
        for tag, endpoint, body in _lines(job.lines) if again else ():
            if tag in again and not session.stop:
                self.fill(tag, endpoint, body, job.wanted[tag])
        refused = [(tag, reply) for tag, reply in arrived if reply.error in REFUSED]
        if len(refused) == len(arrived) and session.refuses_all(refused):
            session.give_up(refused)
            return []
        return arrived

    def release(self) -> None:
        """Give up what is set aside for rows that are still in jobs."""
        for job in [*self.jobs.values(), *self.ready, *([self.filling] if self.filling else [])]:
            for need in job.wanted.values():
                self.session.spending.finish(need, Need(0, 0))


def ask_in_batches(
    session: Session, requests: Iterable[tuple[str, Request] | None], loop: asyncio.AbstractEventLoop
) -> Iterator[Arrived]:
    """Like `ask_directly`, over the batch endpoints."""
    name = f"{session.address.url} {session.spec.model}"
    with tempfile.TemporaryDirectory(prefix="toolrlef_data") as folder, BatchJobs(open_store(), name) as records:
        run = BatchRun(session, Path(folder), records)
        try:
            yield from _steps(run, iter(requests), loop.run_until_complete)
        finally:
            run.release()
        if left := sum(bool(job.wanted) for job in run.jobs.values()):
            log.warning("%d batch jobs go on at the server; the next run fetches what they bring", left)


def _steps(
    run: BatchRun, waiting: Iterator[tuple[str, Request] | None], do: Callable[[Coroutine[Any, Any, Any]], Any]
) -> Iterator[Arrived]:
    """Fill jobs, hand them over, look at them, until nothing is left."""
    session, poll = run.session, run.session.spec.limits.poll
    due = 0.0  # when the jobs are looked at
    do(run.pick_up())
    while not session.cancelled:
        idle = _fill(run, waiting, do)
        if run.refused:
            refused, run.refused = run.refused, []
            yield refused
        if not run.ready and not any(job.wanted for job in run.jobs.values()) and (run.exhausted or session.stop):
            return
        if time.monotonic() >= due:
            due = time.monotonic() + poll
            for job in list(run.jobs.values()):
                if not session.cancelled and (arrived := do(run.look(job))) is not None:
                    yield arrived  # stored when the loop goes on
                    run.records.end(job.name)
                    del run.jobs[job.name]
                    job.lines.unlink(missing_ok=True)
                    due = 0.0
        if not session.cancelled and time.monotonic() < due:
            do(asyncio.sleep(PULL_INTERVAL if idle else min(0.2, poll)))


def _fill(
    run: BatchRun, waiting: Iterator[tuple[str, Request] | None], do: Callable[[Coroutine[Any, Any, Any]], Any]
) -> bool:
    """Fill jobs and hand them over, as many as there may be; whether more requests come that are not ready yet."""
    session, idle = run.session, False
    while len(run.jobs) < MOST_JOBS:
        if run.ready:
            do(run.submit(run.ready.pop(0)))
            continue
        if not (idle or run.exhausted or session.stop):
            pair = next(waiting, "end")
            if isinstance(pair, tuple) and run.put(*pair):
                continue
            idle = pair is None
            run.exhausted = pair == "end"
        # What is ready within a moment, as when tools are at work on what arrived, goes into the same job.
        if run.filling is None or (idle and time.monotonic() < run.filling.begun + session.spec.limits.poll):
            break
        filled, run.filling = run.filling, None
        run.ready.append(filled)
    return idle


def _lines(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """(custom id, endpoint, body) of the lines of an input file."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            value = json.loads(line)
            body = json.dumps(value["body"], ensure_ascii=False, separators=(",", ":")).encode()
            yield value["custom_id"], value["url"].removeprefix("/v1"), body
