"""The engine `openai_api`: any server that offers OpenAI's chat or text completions.

`generate` is a generator that runs its event loop in the caller's thread, only while the caller waits for the next
replies. A request occupies its slot until its reply is stored, so a killed run loses at most the in-flight requests.

Not covered: streaming, protocols other than OpenAI's, the Responses API.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable
from typing import Any, NoReturn

from toolrlef_data.engines.openai_api.batches import send_in_batches
from toolrlef_data.engines.openai_api.payloads import check_spec
from toolrlef_data.engines.openai_api.requests import send_directly
from toolrlef_data.engines.openai_api.session import Session
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import Reply, ToolrlefError

__all__ = ["OpenAIEngine"]


class OpenAIEngine:
    """An engine for an OpenAI-compatible server; `EngineSpec` documents its settings.

    Raises:
        InputError: the variable that `base_url` names is not set, or its value is no URL.
        NoUsableApiKey: a required API key is missing when the engine is entered, or the server rejects every key.
        CapReached: a cap of `Limits` forbids the next request.
        AllRequestsRefused: the server has rejected at least eight requests and has sent no reply.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self.session = Session(spec)
        self.on_step: Callable[[], None] | None = None
        self.stats = self.session.stats

    check = staticmethod(check_spec)

    def __repr__(self) -> str:
        return f"OpenAIEngine({self.session})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an engine contains API keys and cannot be pickled; pickle its EngineSpec")

    def __enter__(self) -> OpenAIEngine:
        self.session.open()
        return self

    def __exit__(self, *details: object) -> None:
        self.session.close()

    def identity(self) -> dict[str, Any]:
        session = self.session
        return {"kind": "openai_api", "url": session.address.url, "model": session.spec.model, "quirks": session.quirks}

    def cancel(self) -> None:
        self.session.is_cancelled = True

    def stop(self, error: ToolrlefError) -> None:
        self.session.halt(error)

    def generate(
        self, requests: Iterable[tuple[str, Request] | None]
    ) -> Generator[list[tuple[str, Reply]], None, None]:
        session = self.session
        if not session.scheduler.limiters:
            raise RuntimeError("this engine is not open, so no request could be sent: use it in a `with` statement")
        send = send_in_batches if session.spec.limits.mode == "batch" else send_directly
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(self._connect())
            try:
                yield from send(session, requests, loop)
            finally:
                loop.run_until_complete(session.connection.close())
        finally:
            loop.close()
        if session.stop_error is not None and not session.is_cancelled:
            raise session.stop_error

    async def _connect(self) -> None:
        from toolrlef_data.engines.openai_api.client import Connection  # at use, because it imports aiohttp

        session = self.session
        session.connection = Connection(session.spec, session.address, session.headers, session.proxy)
