"""Batch endpoints: a batch job, and requests to the endpoints for files and batches, with retries and several API keys.

https://platform.openai.com/docs/guides/batch
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from toolrlef_data.engines.openai_api.budget import TokenCounts
from toolrlef_data.engines.openai_api.errors import Failure, classify_status
from toolrlef_data.engines.openai_api.session import Session
from toolrlef_data.records import Reply, ToolrlefError

if TYPE_CHECKING:
    import openai

__all__ = ["Job", "fetch_results", "find_batch", "retrieve_batch", "submit_batch"]

T = TypeVar("T")
LABEL = "toolrlef_data_job"
MAX_LISTED = 1000  # number of newest batches that are searched for a label
# Error code of a line without a result -> error kind and action. A batch is cancelled on purpose, so its requests are
# not sent again.
LINE_ERRORS = {
    "batch_expired": ("timeout", "retry"),
    "request_timeout": ("timeout", "retry"),
    "batch_cancelled": ("server", "final"),
}


@dataclass
class Job:
    """A batch job: its name here, its batch id on the server, and the requests that this run waits for.

    Args:
        name: the name in the reply store, and the label of the batch.
        input_file: JSONL file with the requests.
        endpoint: "/chat/completions" or "/completions".
        batch_id: the server's id; None before the batch is created.
        is_recovered: whether an earlier run created the batch.
        lists_all_requests: whether the list of its requests in the reply store is undamaged.
        num_bytes: size of the input file.
        num_not_found: number of polls for which the server did not find the batch.
        reserved: reserved tokens of the requests, by tag.
        unlisted: tags that the job may contain, because its list is damaged.
        created_at: monotonic time in seconds.
    """

    name: str
    input_file: Path
    endpoint: str = ""
    batch_id: str | None = None
    is_recovered: bool = False
    lists_all_requests: bool = True
    num_bytes: int = 0
    num_not_found: int = 0
    reserved: dict[str, TokenCounts] = field(default_factory=dict)
    unlisted: set[str] = field(default_factory=set)
    created_at: float = field(default_factory=time.monotonic)

    def add(self, tag: str, endpoint: str, body: bytes, reserved: TokenCounts) -> None:
        head = json.dumps({"custom_id": tag, "method": "POST", "url": f"/v1{endpoint}"})
        with open(self.input_file, "ab") as file:
            self.num_bytes += file.write(head[:-1].encode() + b', "body": ' + body + b"}\n")
        self.endpoint = endpoint
        self.reserved[tag] = reserved

    def requests(self) -> Iterator[tuple[str, str, bytes]]:
        """Yield (tag, endpoint, body) of the requests in the input file."""
        with open(self.input_file, encoding="utf-8") as file:
            for line in file:
                request = json.loads(line)
                body = json.dumps(request["body"], ensure_ascii=False, separators=(",", ":")).encode()
                yield request["custom_id"], request["url"].removeprefix("/v1"), body


class InvalidResponseError(Exception):
    """The body of a 200 lacks the requested data; the request is retried."""


async def submit_batch(session: Session, job: Job) -> str | None:
    """Upload the input file of a job, create its batch and return the batch id.

    The job's name is the label of the batch, which identifies it if the HTTP response with its id is lost. Returns None
    if the server has no batch endpoints, or if the run is cancelled.
    """
    endpoint: Any = f"/v1{job.endpoint}"
    has_attempted = False

    async def upload(client: openai.AsyncOpenAI) -> str:
        return _required_field(await client.files.create(file=job.input_file, purpose="batch"), "id")

    async def create(client: openai.AsyncOpenAI) -> str:
        # An earlier attempt may have created the batch although its HTTP response was lost.
        nonlocal has_attempted
        existing = await _find_labelled(client, job.name) if has_attempted else None
        has_attempted = True
        if existing is not None:
            return existing
        batch = await client.batches.create(
            input_file_id=str(file_id), endpoint=endpoint, completion_window="24h", metadata={LABEL: job.name}
        )
        return _required_field(batch, "id")

    file_id = await _call(session, upload)
    return None if file_id is None else await _call(session, create)


async def find_batch(session: Session, label: str) -> str | None:
    """Return the id of the batch with a label; None if there is none, or if the run is cancelled."""
    return await _call(session, lambda client: _find_labelled(client, label))


async def retrieve_batch(session: Session, batch_id: str) -> Any:
    """Return the current state of a batch; None if the server does not know it, or if the run is cancelled."""

    async def retrieve(client: openai.AsyncOpenAI) -> Any:
        batch = await client.batches.retrieve(batch_id)
        _required_field(batch, "status")
        return batch

    return await _call(session, retrieve)


async def fetch_results(
    session: Session, file_id: str, path: Path, max_bytes: int, max_line_bytes: int
) -> dict[str, Reply | Failure]:
    """Return the results in an output or error file, by custom id; empty if the run is cancelled.

    Args:
        session: the session.
        file_id: the server's id of the file.
        path: the file to download to.
        max_bytes: maximum size of the file.
        max_line_bytes: maximum size of a line; longer lines count as malformed.

    Raises:
        ToolrlefError: the file does not exist, has more than `max_bytes` bytes, or arrives too slowly.
    """
    from toolrlef_data.engines.openai_api.client import read_limited

    async def download(client: openai.AsyncOpenAI) -> dict[str, Reply | Failure]:
        async with client.files.with_streaming_response.content(file_id) as response:
            with open(path, "wb") as file:
                async for chunk in read_limited(response.iter_bytes(), max_bytes, session.spec.timeout):
                    file.write(chunk)
        results: dict[str, Reply | Failure] = {}
        with open(path, "rb") as file:
            for line in _read_lines(file, max_line_bytes):
                with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):  # a malformed line
                    value = json.loads(line.decode(errors="replace"))
                    results[value["custom_id"]] = _parse_result(session, value)
        if not results and path.stat().st_size:
            raise InvalidResponseError(f"the file {file_id} contains no results")
        return results

    results = await _call(session, download)
    if results is None and not session.is_cancelled:
        # A retry would be billed twice. The job stays recorded, so that another run can fetch its results.
        raise ToolrlefError(f"{session}: the batch result file {file_id} does not exist. Completed requests are saved")
    return results or {}


def _read_lines(file: BinaryIO, max_bytes: int) -> Iterator[bytes]:
    """Yield the lines of a file without those that have more than `max_bytes` bytes."""
    is_start = True
    while line := file.readline(max_bytes + 1):
        is_end = line.endswith(b"\n") or len(line) <= max_bytes
        if is_start and is_end:
            yield line
        is_start = is_end


def _parse_result(session: Session, line: dict[str, Any]) -> Reply | Failure:
    response = line.get("response") or {}
    if not response:
        error = line.get("error") or {}
        kind, action = LINE_ERRORS.get(str(error.get("code")), ("server", "retry"))
        return Failure(kind, action, f"{error.get('code')}: {error.get('message')}")
    outcome = session.parse(response.get("status_code", 200), json.dumps(response.get("body")))
    return outcome if isinstance(outcome, Failure) else outcome[0]


async def _call(session: Session, operation: Callable[[openai.AsyncOpenAI], Awaitable[T]]) -> T | None:
    """Return the result of an operation, which is retried after failures that can be temporary.

    Returns None if it fails with `not_found` for every API key, or if the run is cancelled.
    """
    import aiohttp
    import httpx2
    import openai

    from toolrlef_data.engines.openai_api.client import TooLarge, connection_failure  # at use: it imports aiohttp

    failure = Failure("server", "retry", "")
    attempts, names_without_access = 0, set()
    while not session.is_cancelled:
        enabled = [limiter for limiter in session.scheduler.limiters if not limiter.disabled_reason]
        if not enabled and session.stop_error:
            raise session.stop_error
        limiter = next((limiter for limiter in enabled if limiter.name not in names_without_access), None)
        if limiter is None:
            return None
        client = session.connection.client.with_options(
            api_key=limiter.key or "none",
            default_headers={"Authorization": session.authorization(limiter) or "Bearer none"},
            timeout=session.spec.timeout,
        )
        try:
            return await operation(client)
        except openai.APIStatusError as error:
            failure = classify_status(error.status_code, error.response.text)
        except (
            openai.OpenAIError,
            httpx2.HTTPError,
            aiohttp.ClientError,
            OSError,
            asyncio.TimeoutError,
            TooLarge,
        ) as e:
            causes: list[BaseException] = [e]
            while causes[-1].__cause__ is not None:
                causes.append(causes[-1].__cause__)
            if any(isinstance(cause, (asyncio.TimeoutError, TimeoutError)) for cause in causes):
                ended = f"no complete HTTP response within {session.spec.timeout:g} s"
                failure = Failure("timeout", "retry", ended)
            elif isinstance(causes[-1], TooLarge):
                failure = Failure("too_long", "retry", str(causes[-1]))
            else:
                failure = connection_failure(causes[-1])
        except (InvalidResponseError, ValueError) as error:  # ValueError: the body is not JSON
            failure = Failure("server", "retry", f"{type(error).__name__}: {error}")
        session.failure_counts[failure.kind] += 1
        if failure.kind == "not_found":
            names_without_access.add(limiter.name)
        elif failure.action in ("disable_key", "check_key"):
            session.disable(limiter, failure)
        elif failure.action in ("final", "stop") or (attempts := attempts + 1) > session.spec.retries:
            detail = session.clean(failure.detail)
            raise ToolrlefError(f"{session}: the batch endpoints failed: {detail}. Completed requests are saved")
        else:
            await asyncio.sleep(min(60.0, session.spec.limits.backoff * 2**attempts))
    return None


async def _find_labelled(client: openai.AsyncOpenAI, label: str) -> str | None:
    """Return the id of the batch with a label; None if it is not among the newest `MAX_LISTED`."""
    num_listed = 0
    async for batch in client.batches.list(limit=100):
        if (batch.metadata or {}).get(LABEL) == label:
            return batch.id
        if (num_listed := num_listed + 1) >= MAX_LISTED:
            break
    return None


def _required_field(value: Any, field: str) -> str:
    """Return a string field of an API object; raise InvalidResponseError if it is missing or empty."""
    content = getattr(value, field, None)
    if not isinstance(content, str) or not content:
        raise InvalidResponseError(f"the response body has no {field}")
    return content
