"""Engines: where replies come from. One file a kind; `ENGINES` names them.

A stage never holds an engine: it holds an `EngineSpec`, frozen and hashed by value, and the engine connects inside.
To add a kind, write a file with a class that has the two methods of `Engine`, and a line in `ENGINES`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from toolrlef_data.published import place_name, published_fields, server_name
from toolrlef_data.records import Choices, InputError, Reply, ToolrlefError

__all__ = ["ENGINES", "Engine", "EngineSpec", "Limits", "Message", "Request"]

VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
MOMENT = 0.01  # seconds after which an engine asks again for requests that were not ready


@dataclass(frozen=True)
class Limits:
    """What bounds the traffic with an API and what it may cost; nothing of it can change a reply.

    The caps count what this process has sent to one model of one server, over all its stages and retries.

    Args:
        rpm, tpm: requests and tokens a minute that each key may use; None leaves it to the server's headers.
        deadline: seconds that one row may take, with all its waits and retries.
        backoff: seconds before the first retry; they double with each further one, up to 60.
        max_requests: requests sent at most.
        max_tokens_total: prompt and reply tokens at most.
        max_cost: the most that may be spent, in the currency of `price`.
        price: of a million prompt tokens and of a million reply tokens; a batch costs half.
        mode: "direct", or "batch" for the server's batch endpoints.
        batch_rows: requests in one batch at most.
        poll: seconds between two looks at a batch.

    Raises:
        InputError: a value out of range, or max_cost without a price.

    >>> Limits(max_cost=5, price=(0.15, 0.60)).mode
    'direct'
    """

    rpm: float | None = None
    tpm: float | None = None
    deadline: float = 1800.0
    backoff: float = 0.5
    max_requests: int | None = None
    max_tokens_total: int | None = None
    max_cost: float | None = None
    price: tuple[float, float] | None = None
    mode: str = "direct"
    batch_rows: int = 50_000
    poll: float = 30.0

    def __post_init__(self) -> None:
        for name in ("rpm", "tpm", "deadline", "backoff", "batch_rows", "poll"):
            if (value := getattr(self, name)) is not None and not (_is_number(value, math.inf) and value > 0):
                raise InputError(f"limits: {name} must be a number above 0, found {value!r}")
        for name in ("max_requests", "max_tokens_total", "max_cost"):
            if (value := getattr(self, name)) is not None and not (_is_number(value) and value >= 0):
                raise InputError(f"limits: {name} must be a number and not negative, found {value!r}")
        if self.mode not in ("direct", "batch"):
            raise InputError(f"limits: mode is 'direct' or 'batch', found {self.mode!r}")
        price = self.price if isinstance(self.price, (tuple, list, type(None))) else ()
        if price is not None and (len(price) != 2 or not all(_is_number(part) and part >= 0 for part in price)):
            raise InputError("limits: price is two numbers, of a million prompt tokens and of a million reply tokens")
        if self.max_cost is not None and self.price is None:
            raise InputError("limits: max_cost needs price=(of a million prompt tokens, of a million reply tokens)")


def _is_number(value: object, *others: float) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return math.isfinite(value) or value in others


@dataclass(frozen=True)
class EngineSpec:
    """Which model is asked and how, as plain values.

    Everything that can change a reply is part of the cache key. `keys`, `device`, `batch_tokens`, `concurrency`,
    `timeout`, `retries`, `limits`, `max_failed` and `progress` cannot, and are left out by name
    (`fingerprints.NOT_IN_KEY`).

    Args:
        kind: a name in `ENGINES`.
        model: what the kind calls a model. local: Hub id, folder, GGUF file, or `package:NAME` for the one GGUF file in
            an installed package. openai_api: the name that the server knows.
        base_url: of an OpenAI-compatible server, such as "http://localhost:8000/v1"; or "$NAME" of an environment
            variable that holds it, which it must where the URL carries credentials. Default: `$OPENAI_BASE_URL`, else
            OpenAI's own.
        keys: where API keys are read when they are needed: names of environment variables, or "file:PATH" with one key
            a line; never a key itself. Default: `OPENAI_API_KEY`, but only where base_url is not given.
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
        options: further values for the kind, a mapping or (name, value) pairs. openai_api: `extra_body`, fields that
            are sent as they are; `quirks`, see `engines.bodies`; `n`, true to get all samples of a row in one answer,
            for which the prompt is paid once.
        device: "auto", "cpu", "cuda", "cuda:1", ...
        batch_tokens: padded tokens in one batch at most (prompt and reply).
        concurrency: requests under way at once at most.
        timeout: seconds a request may take.
        retries: how often a request that failed for a passing reason is sent again (rate limits do not count).
        limits: rates, deadlines, caps on what is spent, batch mode (`Limits`).
        max_failed: share of a stage's requests that may fail before the run stops.
        progress: show a bar.

    Raises:
        InputError: base_url or keys hold a secret in the place of where one stands; it is not repeated.

    >>> EngineSpec("scripted", "demo", max_tokens=24).temperature
    0.0
    """

    kind: str
    model: str
    base_url: str | None = None
    keys: tuple[str, ...] | str = field(default=(), repr=False)
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
    options: tuple[tuple[str, Any], ...] | Mapping[str, Any] = ()
    device: str = "auto"
    batch_tokens: int = 16384
    concurrency: int = 64
    timeout: float = 120.0
    retries: int = 5
    limits: Limits = Limits()
    max_failed: float = 0.2
    progress: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.options, Mapping):
            object.__setattr__(self, "options", tuple(sorted(self.options.items())))
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        if not isinstance(self.model, str) or not self.model.strip():
            raise InputError(f"model must be a name, found {self.model!r}")
        if not isinstance(self.concurrency, int) or self.concurrency < 1:
            raise InputError(f"concurrency must be a whole number of at least 1, found {self.concurrency!r}")
        if not isinstance(self.retries, int) or self.retries < 0:
            raise InputError(f"retries must be a whole number of at least 0, found {self.retries!r}")
        if not (_is_number(self.timeout, math.inf) and self.timeout > 0):
            raise InputError(f"timeout must be a number of seconds above 0, found {self.timeout!r}")
        if not (_is_number(self.max_failed) and 0 <= self.max_failed <= 1):
            raise InputError(f"max_failed is a share from 0 to 1, found {self.max_failed!r}")
        if not isinstance(self.limits, Limits):
            raise InputError(f"limits takes a Limits(...), found {type(self.limits).__name__}")
        if isinstance(self.keys, str):
            object.__setattr__(self, "keys", (self.keys,))
        if not all(VARIABLE.fullmatch(place) or place.startswith("file:") for place in self.keys):
            raise InputError("keys takes names of environment variables (CAPITALS) or file:PATH, never a key itself")
        if self.base_url is not None and not (self.base_url[:1] == "$" and VARIABLE.fullmatch(self.base_url[1:])):
            try:
                parts = urlsplit(self.base_url)
            except ValueError:  # whose message may repeat the password
                parts = urlsplit("")
            if parts.username or parts.password or parts.query or parts.fragment:
                raise InputError(
                    "base_url carries credentials or a query, which would be written down with the settings: put the "
                    'URL into an environment variable and pass base_url="$NAME"'
                )
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise InputError('base_url is a URL such as "http://localhost:8000/v1", or "$NAME" of a variable')

    def in_key(self) -> dict[str, Any]:
        """What a cache key takes of folders: their names; what is in them is in `Engine.identity`."""
        places = {"model": self.model, "adapter": self.adapter}
        return {name: Path(place).name for name, place in places.items() if place and Path(place).is_absolute()}

    def published(self) -> dict[str, Any]:
        """What others may read: of a folder the name, of a private server no address."""
        places = {"model": place_name(self.model), "adapter": self.adapter and place_name(self.adapter)}
        server = self.base_url and server_name(self.base_url)
        return {**published_fields(self), **places, "base_url": server, "stop": list(self.stop)}


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat: role is "system", "user", "assistant" or "tool".

    Args:
        tool_calls: of an assistant: (id, name of the function, arguments as JSON text) each.
        tool_call_id: of a tool's message: which call it answers.
        name: of a tool's message: the function.
    """

    role: str
    content: str
    tool_calls: tuple[tuple[str, str, str], ...] = ()
    tool_call_id: str = ""
    name: str = ""

    def in_key(self) -> dict[str, Any]:
        """What is set, as JSON values: a plain message looks as it did before there were calls, as stored keys do."""
        key: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            key["tool_calls"] = [list(call) for call in self.tool_calls]
        if self.tool_call_id:
            key["tool_call_id"] = self.tool_call_id
        if self.name:
            key["name"] = self.name
        return key


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

    def in_key(self) -> dict[str, Any]:
        """All of it as JSON values; `dataclasses.asdict` takes ten times as long."""
        messages = [message.in_key() for message in self.messages]
        rest = {"prompt": self.prompt, "tools": list(self.tools), "sample": self.sample, "seed": self.seed}
        return {"messages": messages, **rest}


class Engine(AbstractContextManager["Engine"], Protocol):
    """What a kind of engine offers; `ENGINES[kind]` is a function of an `EngineSpec` that returns one."""

    def identity(self) -> dict[str, Any]:
        """Everything beside the request and the sampling settings that determines a reply, as JSON values: digests of
        weights, adapter and chat template, the resolved dtype, a base URL. Never a key or a header. Loads no model."""
        ...

    def generate(
        self, requests: Iterable[tuple[str, Request] | None]
    ) -> Generator[list[tuple[str, Reply]], None, None]:
        """Yield lists of (tag, reply) as replies arrive, in any order, each list to be stored at once; pulls requests
        as it has room for them. A failure of one request is a `Reply` with an error. An engine with an event loop runs
        it in here, so it is called in a thread without one (`asking` sees to that).

        None in the place of a request says that none is ready yet, as where one depends on replies that are awaited.
        The engine then works off what it has, and pulls again when it has handed out replies, or after a `MOMENT`. It
        ends when the iterable does; a pull must not wait, since nothing is received meanwhile."""
        ...

    cancel: Callable[[], None] | None
    """Ends `generate` from another thread at a moment when nothing is lost; None where `generate` runs in the caller's
    own thread."""

    stop: Callable[[ToolrlefError], None] | None
    """Ends `generate` with an error when what is under way has arrived; None where nothing else is under way."""

    def figures(self) -> dict[str, Any]:
        """What the progress bar shows beside the counts of the stage: name -> value."""
        ...


ENGINES: Choices[Any] = Choices(
    "engine kind",
    {
        "local": "toolrlef_data.engines.local:LocalEngine",
        "openai_api": "toolrlef_data.engines.openai_api:OpenAIEngine",
        "scripted": "toolrlef_data.engines.scripted:ScriptedEngine",
    },
)
