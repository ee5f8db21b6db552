"""The batch endpoints of a server: files and batches, with the usual retries and keys.

https://platform.openai.com/docs/guides/batch
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from toolrlef_data.engines.openai_api.errors import Fault, fault_of_status
from toolrlef_data.engines.openai_api.session import Session
from toolrlef_data.records import Reply, ToolrlefError

if TYPE_CHECKING:
    import openai

__all__ = ["fetch", "find", "hand_over", "retrieve"]

T = TypeVar("T")
LABEL = "toolrlef_data_job"
LISTED = 1000  # newest batches that are searched for a job of which only the label is known
# What stands in an error file for rows that have no response; a batch that somebody cancelled is not started again.
LINE_ERRORS = {
    "batch_expired": ("timeout", "again"),
    "request_timeout": ("timeout", "again"),
    "batch_cancelled": ("server", "final"),
}


class BrokenAnswer(Exception):
    """An answer of 200 that is not what was asked for; the request is made again."""


async def hand_over(session: Session, lines: Path, endpoint: Any, label: str) -> str | None:
    """Upload a file of requests and create its batch; the server's name for it, or None where it knows no batches.

    Args:
        endpoint: "/v1/chat/completions" or "/v1/completions".
        label: by which the batch is found again where the answer is lost.
    """
    tried = False

    async def uploaded(client: openai.AsyncOpenAI) -> str:
        return _whole(await client.files.create(file=lines, purpose="batch"), "id")

    async def created(client: openai.AsyncOpenAI) -> str:
        # The answer to an earlier attempt may be lost, and the batch be there.
        nonlocal tried
        found = await _labelled(client, label) if tried else None
        tried = True
        if found is not None:
            return found
        batch = await client.batches.create(
            input_file_id=str(file), endpoint=endpoint, completion_window="24h", metadata={LABEL: label}
        )
        return _whole(batch, "id")

    file = await call(session, uploaded)
    return None if file is None else await call(session, created)


async def find(session: Session, label: str) -> str | None:
    """The batch that carries a label."""
    return await call(session, lambda client: _labelled(client, label))


async def retrieve(session: Session, batch: str) -> Any:
    """A batch as it stands now; None where the server does not know it."""

    async def retrieved(client: openai.AsyncOpenAI) -> Any:
        found = await client.batches.retrieve(batch)
        _whole(found, "status")
        return found

    return await call(session, retrieved)


async def fetch(session: Session, file: str, path: Path) -> dict[str, Reply | Fault]:
    """The lines of an output or error file by request.

    Args:
        path: where it is written meanwhile.

    Raises:
        ToolrlefError: the file is not there.
    """

    async def whole(client: openai.AsyncOpenAI) -> dict[str, Reply | Fault]:
        async with client.files.with_streaming_response.content(file) as answer:
            await answer.stream_to_file(path)
        found: dict[str, Reply | Fault] = {}
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):  # no line of a result
                    value = json.loads(line)
                    found[value["custom_id"]] = _outcome(session, value)
        if not found and path.stat().st_size:
            raise BrokenAnswer(f"the file {file} holds no results")
        return found

    found = await call(session, whole)
    if found is None and not session.cancelled:
        # Asking the rows again would be paying for them again; the job stays known, for another run.
        raise ToolrlefError(f"{session}: the result file {file} of a batch is not there; what ran is stored")
    return found or {}


def _outcome(session: Session, line: dict[str, Any]) -> Reply | Fault:
    answer = line.get("response") or {}
    if not answer:
        error = line.get("error") or {}
        kind, action = LINE_ERRORS.get(str(error.get("code")), ("server", "again"))
        return Fault(kind, action, f"{error.get('code')}: {error.get('message')}")
    outcome = session.read(answer.get("status_code", 200), json.dumps(answer.get("body")))
    return outcome if isinstance(outcome, Fault) else outcome[0]


async def call(session: Session, work: Callable[[openai.AsyncOpenAI], Awaitable[T]]) -> T | None:
    """Use an endpoint with the keys in turn and the usual retries; None where no key finds what it is about."""
    import aiohttp
    import httpx2
    import openai

    fault = Fault("server", "again", "")
    attempts, strangers = 0, set()
    while not session.cancelled:
        alive = [gate for gate in session.scheduler.limiters if not gate.dropped]
        if not alive and session.stop:
            raise session.stop
        gate = next((gate for gate in alive if gate.name not in strangers), None)
        if gate is None:
            return None
        client = session.connection.client.with_options(
            api_key=gate.value or "none",
            default_headers={"Authorization": session.address.basic_auth} if session.address.basic_auth else None,
            timeout=session.spec.timeout,
        )
        try:
            return await work(client)
        except openai.APIStatusError as error:
            fault = fault_of_status(error.status_code, error.response.text)
        except (openai.OpenAIError, httpx2.HTTPError, aiohttp.ClientError, OSError) as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            fault = Fault("connection", "again", f"{type(cause).__name__}: {cause}")
        except (BrokenAnswer, ValueError) as error:  # ValueError: a body that is no JSON
            fault = Fault("server", "again", f"{type(error).__name__}: {error}")
        session.faults[fault.kind] += 1
        if fault.kind == "not_found":
            strangers.add(gate.name)
        elif fault.action in ("drop", "doubt"):
            session.drop(gate, fault)
        elif fault.action == "final" or (attempts := attempts + 1) > session.spec.retries:
            said = session.secrets.redact(fault.detail)[:500]
            raise ToolrlefError(f"{session}: batches cannot be used: {said}; what ran is stored")
        else:
            await asyncio.sleep(min(60.0, session.spec.limits.backoff * 2**attempts))
    return None


async def _labelled(client: openai.AsyncOpenAI, name: str) -> str | None:
    """The batch that carries the label of a job."""
    seen = 0
    async for batch in client.batches.list(limit=100):
        if (batch.metadata or {}).get(LABEL) == name:
            return batch.id
        if (seen := seen + 1) >= LISTED:
            break
    return None


def _whole(answer: Any, field: str) -> str:
    """A field that an answer must have."""
    value = getattr(answer, field, None)
    if not isinstance(value, str) or not value:
        raise BrokenAnswer(f"the answer has no {field}")
    return value
