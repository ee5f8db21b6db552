"""The engine `scripted`: predefined replies, for tests and documentation.

`scripted` creates its spec. There are three kinds of scripts:

| script | reply |
|---|---|
| sequence | the next item; each stage starts with the first item |
| mapping | the value whose key occurs last in the last message; the empty key is the default |
| function | the result of the function for the `Request` |

`ScriptExhausted` is raised if a sequence has no further reply, or no key of a mapping matches. The reply store saves
scripted replies like those of any other engine, so that a re-run requests nothing.
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
    """Create the settings of an engine with predefined replies.

    Args:
        replies: a sequence of texts or `Reply` records, a mapping from texts that occur in the last message to replies,
            or a module-level function from a `Request` to a reply.
        settings: further fields of `EngineSpec`, such as `temperature`.

    Returns:
        An `EngineSpec` of the kind "scripted".

    Raises:
        InputError: `replies` is a single text or has another type.
        ScriptExhausted: the sequence has no further reply, or no key of the mapping matches (raised when the stage
            runs).

    >>> scripted(["The answer is 72.", "I do not know."]).kind
    'scripted'
    """
    if isinstance(replies, str):
        raise InputError("scripted: expected a sequence of replies, a mapping or a function, found a single text")
    if isinstance(replies, Mapping):
        script: Any = tuple((key, replies[key]) for key in replies)
        return EngineSpec("scripted", "mapping", options=(("replies", script),), **settings)
    if isinstance(replies, FunctionType):
        return EngineSpec("scripted", replies.__name__, options=(("function", replies),), **settings)
    if not isinstance(replies, Sequence):
        raise InputError(
            f"scripted: expected a sequence of replies, a mapping or a function, found {type(replies).__name__}"
        )
    return EngineSpec("scripted", "sequence", options=(("replies", tuple(replies)),), **settings)


class ScriptedEngine:
    """The engine of the kind "scripted"."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.options = dict(spec.options)

    @staticmethod
    def check(spec: EngineSpec) -> None:
        """A function may read options of its own, and nothing else depends on a setting."""

    cancel = None
    stop = None
    on_step: Callable[[], None] | None = None

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
        position = 0
        for pair in requests:
            if pair is None:
                time.sleep(PULL_INTERVAL)
                continue
            reply = self._answer(position, pair[1])
            position += 1
            yield [(pair[0], reply if isinstance(reply, Reply) else Reply(reply))]

    def _answer(self, position: int, request: Request) -> str | Reply:
        if "function" in self.options:
            answer: str | Reply = self.options["function"](request)
            return answer
        replies: tuple[Any, ...] = self.options["replies"]
        if self.spec.model == "mapping":
            last = request.messages[-1].content if request.messages else request.prompt
            matches = [(last.rfind(key) if key else -1, reply) for key, reply in replies if key in last]
            if not matches:
                raise ScriptExhausted(f"no key of the script occurs in the request ending in {last[-80:]!r}")
            return max(matches, key=lambda match: match[0])[1]
        if position >= len(replies):
            raise ScriptExhausted(f"the script has only {len(replies)} replies, but the stage sent another request")
        return replies[position]
