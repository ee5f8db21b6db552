"""The engine `scripted`: given replies, for tests and documentation.

Its spec is made by `scripted`. A sequence is used up in the order of one stage's requests, and `ScriptExhausted` is
raised when it runs out; the next stage (a teacher's second attempt is one) begins at its first reply again. A mapping
answers the request whose last words hold its key, the empty key every other one; a function is called with the
`Request`. Replies go through the reply store like any other engine's, so a re-run asks for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from types import FunctionType
from typing import Any

from toolrlef_data.engines.spec import PULL_INTERVAL, EngineSpec, Request
from toolrlef_data.records import InputError, Reply, ScriptExhausted
from toolrlef_data.tables.fingerprint import canonical, digest

__all__ = ["ScriptedEngine", "scripted"]

Script = Sequence[str | Reply] | Mapping[str, str | Reply] | Callable[[Request], str | Reply]


def scripted(replies: Script, **settings: Any) -> EngineSpec:
    """A spec of the engine `scripted`.

    Args:
        replies: texts or `Reply` records in the order of the requests; or {words of the question: reply}; or a
            module-level function of a `Request`.
        settings: further fields of `EngineSpec`, such as `temperature`.

    Raises:
        ScriptExhausted: when it runs, where a sequence is used up or no key of a mapping fits.

    >>> scripted(["The answer is 72.", "I do not know."]).kind
    'scripted'
    """
    if isinstance(replies, str):
        raise InputError("scripted() takes a sequence of replies, a mapping or a function; found one text")
    if isinstance(replies, Mapping):
        script: Any = tuple((key, replies[key]) for key in replies)
        return EngineSpec("scripted", "mapping", options=(("replies", script),), **settings)
    if isinstance(replies, FunctionType):
        return EngineSpec("scripted", replies.__name__, options=(("function", replies),), **settings)
    if not isinstance(replies, Sequence):
        raise InputError(
            f"scripted() takes a sequence of replies, a mapping or a function; found {type(replies).__name__}"
        )
    return EngineSpec("scripted", "sequence", options=(("replies", tuple(replies)),), **settings)


class ScriptedEngine:
    """Answers requests from a script; see `scripted`."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.options = dict(spec.options)

    cancel = None
    stop = None

    def stats(self) -> dict[str, Any]:
        return {}

    def __enter__(self) -> ScriptedEngine:
        return self

    def __exit__(self, *details: object) -> None:
        return None

    def identity(self) -> dict[str, Any]:
        return {"kind": "scripted", "model": self.spec.model, "script": digest(canonical(self.options))}

    def generate(
        self, requests: Iterable[tuple[str, Request] | None]
    ) -> Generator[list[tuple[str, Reply]], None, None]:
        number = 0
        for pair in requests:
            if pair is None:
                time.sleep(PULL_INTERVAL)
                continue
            reply = self._answer(number, pair[1])
            number += 1
            yield [(pair[0], reply if isinstance(reply, Reply) else Reply(reply))]

    def _answer(self, number: int, request: Request) -> str | Reply:
        if "function" in self.options:
            answer: str | Reply = self.options["function"](request)
            return answer
        replies: tuple[Any, ...] = self.options["replies"]
        if self.spec.model == "mapping":
            last = request.messages[-1].content if request.messages else request.prompt
            fitting = [(last.rfind(key) if key else -1, reply) for key, reply in replies if key in last]
            if not fitting:
                raise ScriptExhausted(f"no key of the script is in the request ending in {last[-80:]!r}")
            return max(fitting, key=lambda found: found[0])[1]
        if number >= len(replies):
            raise ScriptExhausted(f"the script has {len(replies)} replies and was asked for one more")
        return replies[number]
