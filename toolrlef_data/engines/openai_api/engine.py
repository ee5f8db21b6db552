"""The engine `openai_api`: any server that speaks OpenAI's chat or text completions.

`generate` steps its own event loop between the replies that it hands out, so everything happens in one thread: a row's
place is free again only when its reply is stored, and a killed run loses at most the requests under way.

Not covered: streaming, servers with other protocols than OpenAI's, the Responses API.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable
from typing import Any, NoReturn

from toolrlef_data.engines.openai_api.batches import ask_in_batches
from toolrlef_data.engines.openai_api.requests import ask_directly
from toolrlef_data.engines.openai_api.session import Session
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import Reply, ToolrlefError

__all__ = ["OpenAIEngine"]


class OpenAIEngine:
    """Asks an OpenAI-compatible server; see the module, and `EngineSpec` for the settings.

    Raises:
        InputError: the spec asks for what no such server can do.
        NoKeyLeft: no key where one is needed, when it begins to ask; or the server takes none of them any more.
        CapReached: a cap of `Limits` forbids the next request.
        ServerRefuses: the server answers nothing but 400 and 404.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self.session = Session(spec)
        self.stats = self.session.stats

    def __repr__(self) -> str:
        return f"OpenAIEngine({self.session})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an engine holds keys while it asks and is not pickled; its EngineSpec is")

    def __enter__(self) -> OpenAIEngine:
        self.session.open()
        return self

    def __exit__(self, *details: object) -> None:
        self.session.close()

    def identity(self) -> dict[str, Any]:
        session = self.session
        return {"kind": "openai_api", "url": session.address.url, "model": session.spec.model, "quirks": session.quirks}

    def cancel(self) -> None:
        self.session.cancelled = True

    def stop(self, error: ToolrlefError) -> None:
        self.session.halt(error)

    def generate(
        self, requests: Iterable[tuple[str, Request] | None]
    ) -> Generator[list[tuple[str, Reply]], None, None]:
        session = self.session
        ask = ask_in_batches if session.spec.limits.mode == "batch" else ask_directly
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(self._connect())
            try:
                yield from ask(session, requests, loop)
            finally:
                loop.run_until_complete(session.connection.close())
        finally:
            loop.close()
        if session.stop is not None and not session.cancelled:
            raise session.stop

    async def _connect(self) -> None:
        from toolrlef_data.engines.openai_api.client import Connection  # and with it aiohttp

        self.session.connection = Connection(self.session.spec, self.session.address)
