"""Engines: where replies come from. One file a kind; `ENGINES` names them.

A stage never holds an engine: it holds an `EngineSpec`, frozen and hashed by value, and the engine connects inside.
To add a kind, write a file with a class that has the two methods of `Engine`, and a line in `ENGINES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from toolrlef_data.records import Choices, Reply

__all__ = ["ENGINES", "Engine", "EngineSpec", "Message", "Request"]


@dataclass(frozen=True)
class EngineSpec:
    """Which model is asked and how, as plain values.

    Everything that can change a reply is part of the cache key. `device`, `batch_tokens`, `concurrency`, `timeout`,
    `max_failed` and `progress` cannot, and are left out by name (`transform.NOT_IN_KEY`).

    Args:
        kind: a name in `ENGINES`.
        model: what the kind calls a model. local: Hub id, folder, GGUF file, or `package:NAME` for the one GGUF file in
            an installed package.
        revision: of a Hub id.
        adapter: a folder or Hub id of a LoRA adapter over the model.
        temperature: 0 is greedy; above, replies are sampled with a seed of their own.
        top_p, top_k: cut the sampling distribution; 1.0 and 0 leave it whole.
        num_beams: beam search where above 1.
        repetition_penalty: 1.0 is none.
        max_tokens: new tokens at most.
        stop: a reply ends before the first of these.
        seed: of sampling; each request mixes in its row and its sample number.
        dtype: "auto" (chosen for the machine), "float32", "bfloat16", "float16".
        options: further values for the kind, as (name, value) pairs.
        device: "auto", "cpu", "cuda", "cuda:1", ...
        batch_tokens: padded tokens in one batch at most (prompt and reply).
        concurrency: requests under way at once at most.
        timeout: seconds a request may take.
        max_failed: share of a stage's requests that may fail before the run stops.
        progress: show a bar.

    >>> EngineSpec("scripted", "demo", max_tokens=24).temperature
    0.0
    """

    kind: str
    model: str
    revision: str | None = None
    adapter: str | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    num_beams: int = 1
    repetition_penalty: float = 1.0
    max_tokens: int = 128
    stop: tuple[str, ...] = ()
    seed: int = 0
    dtype: str = "auto"
    options: tuple[tuple[str, Any], ...] = ()
    device: str = "auto"
    batch_tokens: int = 16384
    concurrency: int = 64
    timeout: float = 120.0
    max_failed: float = 0.2
    progress: bool = True

    def in_key(self) -> dict[str, Any]:
        """What a cache key takes of folders: their names; what is in them is in `Engine.identity`."""
        places = {"model": self.model, "adapter": self.adapter}
        return {name: Path(place).name for name, place in places.items() if place and Path(place).is_absolute()}


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat: role is "system", "user" or "assistant"."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One request: either chat messages or a plain prompt, never both.

    `tools` holds OpenAI tool schemas as JSON strings. `seed` is drawn from the spec's seed and the row id; `sample`
    numbers the samples of one prompt.
    """

    messages: tuple[Message, ...] = ()
    prompt: str = ""
    tools: tuple[str, ...] = ()
    sample: int = 0
    seed: int = 0


class Engine(AbstractContextManager["Engine"], Protocol):
    """What a kind of engine offers; `ENGINES[kind]` is a function of an `EngineSpec` that returns one."""

    def identity(self) -> dict[str, Any]:
        """Everything beside the request and the sampling settings that determines a reply, as JSON values: digests of
        weights, adapter and chat template, the resolved dtype, a base URL. Never a key or a header. Loads no model."""
        ...

    def generate(self, requests: Iterable[tuple[str, Request]]) -> Iterator[tuple[str, Reply]]:
        """Yield (tag, reply) as replies arrive, in any order; pulls requests as it has room for them. A failure of one
        request is a `Reply` with an error."""
        ...


ENGINES: Choices[Any] = Choices(
    "engine kind",
    {
        "local": "toolrlef_data.engines.local:LocalEngine",
        "scripted": "toolrlef_data.engines.scripted:ScriptedEngine",
    },
)
