"""spec: which model is asked and how (`EngineSpec`), what it is asked (`Request`), what an engine does (`Engine`)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol
from urllib.parse import urlsplit

from toolrlef_data.engines.rules import Rule, apply_rules, is_number, must_be, whole
from toolrlef_data.records import InputError, Reply, ToolrlefError
from toolrlef_data.tables.redaction import redact_fields, redact_path, redact_url

__all__ = ["DTYPES", "Engine", "EngineSpec", "Limits", "Message", "Request"]

ENV_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
PULL_INTERVAL = 0.01  # seconds after which an engine asks again for requests that were not ready
DTYPES = ("auto", "float32", "bfloat16", "float16")

# Types of settings with what holds of them.
Name = Annotated[str, must_be("a name", lambda value: isinstance(value, str) and value.strip())]
Dtype = Annotated[str, must_be(f"one of {', '.join(DTYPES)}", lambda value: value in DTYPES)]
Count = Annotated[int, whole(1)]
Natural = Annotated[int, whole(0)]
Positive = Annotated[float, must_be("a number above 0", lambda n: is_number(n) and n > 0)]
NotNegative = Annotated[float, must_be("a number of at least 0", lambda n: is_number(n) and n >= 0)]
Seconds = Annotated[float, must_be("a number of seconds above 0", lambda n: is_number(n, math.inf) and n > 0)]
Share = Annotated[float, must_be("a share from 0 to 1", lambda n: is_number(n) and 0 <= n <= 1)]
TopP = Annotated[float, must_be("a number above 0, up to 1", lambda n: is_number(n) and 0 < n <= 1)]
Rate = Annotated[float | None, must_be("a number above 0", lambda n: n is None or (is_number(n, math.inf) and n > 0))]
CAP = must_be("a number and not negative", lambda n: n is None or (is_number(n) and n >= 0))
Mode = Annotated[str, must_be("'direct' or 'batch'", lambda value: value in ("direct", "batch"))]


def _is_price(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(is_number(n) and n >= 0 for n in value)


PRICED = "two numbers, of a million prompt tokens and of a million reply tokens"
Price = Annotated[tuple[float, float] | None, must_be(PRICED, lambda value: value is None or _is_price(value))]


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

    rpm: Rate = None
    tpm: Rate = None
    deadline: Seconds = 1800.0
    backoff: Seconds = 0.5
    max_requests: Annotated[int | None, CAP] = None
    max_tokens_total: Annotated[int | None, CAP] = None
    max_cost: Annotated[float | None, CAP] = None
    price: Price = None
    mode: Mode = "direct"
    batch_rows: Count = 50_000
    poll: Seconds = 30.0

    def __post_init__(self) -> None:
        apply_rules(self, "limits: ")
        if self.max_cost is not None and self.price is None:
            raise InputError("limits: max_cost needs price=(of a million prompt tokens, of a million reply tokens)")


LIMITS = must_be("a Limits(...)", lambda value: isinstance(value, Limits))


def _places_of_keys(value: str | tuple[str, ...]) -> tuple[str, ...]:
    places = (value,) if isinstance(value, str) else tuple(value)
    if not all(isinstance(each, str) and (ENV_NAME.fullmatch(each) or each.startswith("file:")) for each in places):
        raise InputError("takes names of environment variables (CAPITALS) or file:PATH, never a key itself")
    return places


def _url(value: str | None) -> str | None:
    if value is None or (value[:1] == "$" and ENV_NAME.fullmatch(value[1:])):
        return value
    try:
        parts = urlsplit(value)
    except ValueError:  # whose message may repeat the password
        parts = urlsplit("")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError(
            "carries credentials or a query, which would be written down with the settings: put the URL into an "
            'environment variable and pass base_url="$NAME"'
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError('is a URL such as "http://localhost:8000/v1", or "$NAME" of a variable')
    return value


def _options(value: Any) -> tuple[tuple[str, Any], ...]:
    pairs = tuple(value.items() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else "?")
    if not all(isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
        raise InputError(f"must be a mapping or (name, value) pairs, found {value!r:.80}")
    return tuple(sorted(pairs)) if isinstance(value, Mapping) else pairs


@dataclass(frozen=True)
class EngineSpec:
    """Which model is asked and how, as plain values.

    Everything that can change a reply is part of the cache key. `keys`, `device`, `batch_tokens`, `concurrency`,
    `timeout`, `retries`, `limits`, `max_failed` and `progress` cannot, and are left out by name
    (`fingerprint.NOT_IN_KEY`).

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
            are sent as they are; `quirks`, see `openai_api.payloads`; `n`, true to get all samples of a row in one
            answer, for which the prompt is paid once.
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
    model: Name
    base_url: Annotated[str | None, Rule(_url)] = None
    keys: Annotated[tuple[str, ...] | str, Rule(_places_of_keys)] = field(default=(), repr=False)
    revision: str | None = None
    adapter: str | None = None
    temperature: NotNegative = 0.0
    top_p: TopP = 1.0
    top_k: Natural = 0
    num_beams: Count = 1
    repetition_penalty: Positive = 1.0
    max_tokens: Count = 128
    stop: tuple[str, ...] = ()
    seed: int = 0
    dtype: Dtype = "auto"
    options: Annotated[Any, Rule(_options)] = ()
    device: str = "auto"
    batch_tokens: Count = 16384
    concurrency: Count = 64
    timeout: Seconds = 120.0
    retries: Natural = 5
    limits: Annotated[Limits, LIMITS] = Limits()
    max_failed: Share = 0.2
    progress: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        apply_rules(self)

    def in_key(self) -> dict[str, Any]:
        """What a cache key takes of folders: their names; what is in them is in `Engine.identity`."""
        places = {"model": self.model, "adapter": self.adapter}
        return {name: Path(place).name for name, place in places.items() if place and Path(place).is_absolute()}

    def published(self) -> dict[str, Any]:
        """What others may read: of a folder the name, of a private server no address."""
        places = {"model": redact_path(str(self.model)), "adapter": self.adapter and redact_path(str(self.adapter))}
        server = self.base_url and redact_url(self.base_url)
        return {**redact_fields(self), **places, "base_url": server, "stop": list(self.stop)}


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
        it in here, so it is called in a thread without one (`ask` sees to that).

        None in the place of a request says that none is ready yet, as where one depends on replies that are awaited.
        The engine then works off what it has, and pulls again when it has handed out replies, or after a
        `PULL_INTERVAL`. It ends when the iterable does; a pull must not wait, since nothing is received meanwhile."""
        ...

    cancel: Callable[[], None] | None
    """Ends `generate` from another thread at a moment when nothing is lost; None where `generate` runs in the caller's
    own thread."""

    stop: Callable[[ToolrlefError], None] | None
    """Ends `generate` with an error when what is under way has arrived; None where nothing else is under way."""

    def stats(self) -> dict[str, Any]:
        """What the progress bar shows beside the counts of the stage: name -> value."""
        ...
