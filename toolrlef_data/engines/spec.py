"""Engine settings (`EngineSpec`, `Limits`), requests (`Request`, `Message`) and the `Engine` protocol."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol

from toolrlef_data.engines.rules import FLAG, apply_rules, must_be
from toolrlef_data.engines.settings import (
    CAP_RULE,
    BaseUrl,
    Count,
    Dtype,
    Headers,
    KeySources,
    Mode,
    Name,
    Natural,
    NotNegative,
    Options,
    Positive,
    Price,
    Rate,
    Seconds,
    Share,
    TopP,
    check_option_secrets,
)
from toolrlef_data.records import InputError, Reply, ToolrlefError
from toolrlef_data.tables.redaction import redact_fields, redact_path

__all__ = ["Engine", "EngineSpec", "Limits", "Message", "Request"]

PULL_INTERVAL = 0.01  # seconds before an engine pulls again after None


@dataclass(frozen=True)
class Limits:
    """Rate limits, deadlines and spending caps for an API; none of them changes a reply.

    The caps apply to one model on one server. They count all requests of this process, across stages and retries.

    Args:
        rpm: maximum requests per minute and API key. Default: taken from the server's headers.
        tpm: maximum tokens per minute and API key. Default: taken from the server's headers.
        deadline: seconds until a request fails for good, including waits and retries. Default: 1800.
        backoff: maximum seconds before the first retry; doubled for each further retry, up to 60. The delay is drawn
            between half the maximum and the maximum. Default: 0.5.
        max_requests: cap on requests. Default: none.
        max_tokens_total: cap on prompt and completion tokens. Default: none.
        max_cost: cap on spending, in the currency of `price`. Default: none.
        price: (price of a million prompt tokens, price of a million completion tokens). Batch jobs cost half.
        mode: "direct" (default), or "batch" for the server's batch endpoints.
        batch_rows: maximum requests per batch job. Default: 50,000.
        poll: seconds between two status checks of a batch job. Default: 30.

    Raises:
        InputError: a value is out of range, or `max_cost` is set without `price`.

    >>> Limits(max_cost=5, price=(0.15, 0.60)).mode
    'direct'
    """

    rpm: Rate = None
    tpm: Rate = None
    deadline: Seconds = 1800.0
    backoff: Seconds = 0.5
    max_requests: Annotated[int | None, CAP_RULE] = None
    max_tokens_total: Annotated[int | None, CAP_RULE] = None
    max_cost: Annotated[float | None, CAP_RULE] = None
    price: Price = None
    mode: Mode = "direct"
    batch_rows: Count = 50_000
    poll: Seconds = 30.0

    def __post_init__(self) -> None:
        apply_rules(self, "limits: ")
        if self.max_cost is not None and self.price is None:
            raise InputError("limits: max_cost needs price=(per million prompt tokens, per million completion tokens)")


LIMITS_RULE = must_be("a Limits(...)", lambda value: isinstance(value, Limits))


def _are_texts(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(isinstance(text, str) and text for text in value)


@dataclass(frozen=True)
class EngineSpec:
    """The settings of an engine: a model, its server, sampling settings and limits.

    The cache key contains every setting that can change a reply. `fingerprint.NOT_IN_KEY` lists the others: `keys`,
    `headers`, `device`, `batch_tokens`, `concurrency`, `timeout`, `retries`, `limits`, `max_failed` and `progress`.

    Args:
        kind: a name in `ENGINES`: "local", "openai_api" or "scripted".
        model: model name. local: Hub id, folder, GGUF file, or `package:NAME` for the single GGUF file of an
            installed distribution. openai_api: the model's name on the server.
        base_url: URL of an OpenAI-compatible server, such as "http://localhost:8000/v1", or "$NAME", where the
            environment variable NAME contains the URL (required for a URL with credentials). Default:
            `$OPENAI_BASE_URL`, else OpenAI.
        keys: sources of API keys: names of environment variables, or "file:PATH"; a source contains API keys separated
            by white space or commas. Never an API key itself. Default: `OPENAI_API_KEY` if `base_url` is not set, else
            none.
        headers: HTTP headers of every request to the server, as a mapping or (name, value) pairs. The value "$NAME"
            reads the environment variable NAME; headers such as "api-key" need it. Default: none.
        revision: branch, tag or commit of a Hub id. Default: the locally cached commit, else the newest on the Hub.
        adapter: folder or Hub id of a LoRA adapter. Default: none.
        temperature: 0 (default) decodes greedily; higher values sample, with a separate seed for each request.
        top_p: probability mass of nucleus sampling; 1.0 (default) disables it.
        top_k: number of most likely tokens to sample from; 0 (default) disables it.
        num_beams: number of beams; 1 (default) disables beam search.
        repetition_penalty: factor above 0; 1.0 (default) disables it.
        max_tokens: maximum new tokens per reply. Default: 128.
        stop: strings that end a reply; the reply ends before the first match. Default: none.
        seed: sampling seed, combined with the row id and the sample number of each request. Default: 0.
        dtype: "auto" (default; chosen for the device), "float32", "bfloat16" or "float16".
        options: options of the engine kind, as a mapping or (name, value) pairs. local: variables of the chat template.
            openai_api: `extra_body` (fields sent unchanged), `quirks` (see `openai_api.payloads`), and `n` (true
            requests all samples of a row in one call, which bills the prompt once). A field named like a secret, such
            as `api_key` or `token`, must be "$NAME"; the environment variable NAME contains the value.
        device: "auto" (default), "cpu", "cuda", "cuda:1", ...
        batch_tokens: maximum padded tokens per batch, prompts and replies together. Default: 16384.
        concurrency: maximum in-flight requests. Default: 64.
        timeout: seconds until a request times out. Default: 120.
        retries: maximum retries of a request after a transient failure, not counting rate limits. Default: 5.
        limits: rate limits, deadlines, spending caps and batch mode (`Limits`).
        max_failed: share of a stage's requests that may fail before the run stops, from 0 to 1. Default: 0.2.
        progress: whether to show a progress bar. Default: True.

    Raises:
        UnknownName: an unknown kind.
        InputError: a value is out of range, the kind does not support a setting or an option, or `base_url`, `keys`,
            `headers` or `options` contains a secret (the message omits it).

    >>> EngineSpec("scripted", "demo", max_tokens=24).temperature
    0.0
    """

    kind: str
    model: Name
    base_url: BaseUrl = None
    keys: KeySources = field(default=(), repr=False)
    revision: str | None = None
    adapter: str | None = None
    temperature: NotNegative = 0.0
    top_p: TopP = 1.0
    top_k: Natural = 0
    num_beams: Count = 1
    repetition_penalty: Positive = 1.0
    max_tokens: Count = 128
    stop: Annotated[tuple[str, ...], must_be("texts that are not empty", _are_texts)] = ()
    seed: Annotated[int, must_be("an integer", lambda n: isinstance(n, int) and not isinstance(n, bool))] = 0
    dtype: Dtype = "auto"
    options: Options = ()
    device: str = "auto"
    batch_tokens: Count = 16384
    concurrency: Count = 64
    timeout: Seconds = 120.0
    retries: Natural = 5
    limits: Annotated[Limits, LIMITS_RULE] = Limits()
    max_failed: Share = 0.2
    progress: Annotated[bool, FLAG] = True
    headers: Headers = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        apply_rules(self)
        if self.kind != "scripted":  # whose options have texts of prompts as names
            check_option_secrets(dict(self.options))
        if self.keys and any(name.lower() == "authorization" for name, _ in self.headers):
            raise InputError("keys and the header Authorization exclude each other: keys are sent in this header")
        from toolrlef_data.engines import ENGINES

        ENGINES[self.kind].check(self)

    @property
    def model_name(self) -> str:
        """The model and its adapter for tables and figures, without folder paths.

        >>> EngineSpec("local", "/home/me/tiny", adapter="org/lora").model_name
        'tiny + org/lora'
        """
        return " + ".join(redact_path(name) for name in (self.model, self.adapter) if name)

    def in_key(self) -> dict[str, Any]:
        """Replace the paths of local models and adapters by their names in the cache key.

        `Engine.identity` identifies them by content.
        """
        paths = {"model": self.model, "adapter": self.adapter}
        return {name: Path(path).name for name, path in paths.items() if path and Path(path).is_absolute()}

    def published(self) -> dict[str, Any]:
        """Return the settings for publication, without folder paths and without addresses of private servers."""
        return {**redact_fields(self), "stop": list(self.stop)}  # a stop string such as "/end" is no path


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message.

    Args:
        role: "system", "user", "assistant" or "tool".
        content: the text.
        tool_calls: an assistant's tool calls, as (id, function name, arguments in JSON).
        tool_call_id: id of the tool call that a tool message responds to.
        name: function name of a tool message.
    """

    role: str
    content: str
    tool_calls: tuple[tuple[str, str, str], ...] = ()
    tool_call_id: str = ""
    name: str = ""

    def in_key(self) -> dict[str, Any]:
        """Return the fields that are set, as JSON values.

        Empty fields are omitted, so that reply keys remain valid that were stored before tool calls were supported.
        """
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
    """One request: either chat messages or a plain prompt.

    Args:
        messages: the chat; empty for a plain prompt.
        prompt: text to continue; empty for a chat.
        tools: OpenAI tool schemas in JSON.
        sample: number of this reply among the sampled replies to the same prompt, from 0.
        seed: sampling seed, derived from the row id and `EngineSpec.seed`.
    """

    messages: tuple[Message, ...] = ()
    prompt: str = ""
    tools: tuple[str, ...] = ()
    sample: int = 0
    seed: int = 0

    def in_key(self) -> dict[str, Any]:
        """Return all fields as JSON values; this is ten times faster than `dataclasses.asdict`."""
        messages = [message.in_key() for message in self.messages]
        rest = {"prompt": self.prompt, "tools": list(self.tools), "sample": self.sample, "seed": self.seed}
        return {"messages": messages, **rest}


class Engine(AbstractContextManager["Engine"], Protocol):
    """The interface of an engine; `ENGINES[kind]` creates one from an `EngineSpec`."""

    @staticmethod
    def check(spec: EngineSpec) -> None:
        """Raise InputError for settings that engines of this kind do not support; called by `EngineSpec`."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return everything that determines a reply, except the request and the sampling settings, as JSON values.

        Examples are digests of weights, adapter and chat template, the resolved dtype, and a base URL. API keys and
        headers are excluded. The model is not loaded.
        """
        ...

    def generate(
        self, requests: Iterable[tuple[str, Request] | None]
    ) -> Generator[list[tuple[str, Reply]], None, None]:
        """Yield lists of (tag, reply) as replies arrive, in any order; the caller stores each list immediately.

        A failed request yields a `Reply` with an error. An engine with an event loop runs it inside this method, so the
        calling thread must not have one (see `exchange.run_in_thread`).

        Args:
            requests: (tag, request) pairs, pulled as capacity allows. None means that no request is ready yet, because
                the next ones depend on pending replies. The engine then processes the requests that it has, and pulls
                again after yielding replies, or after `PULL_INTERVAL`. A pull must not block: no reply is received
                during a pull.
        """
        ...

    cancel: Callable[[], None] | None
    """Cancels `generate` from another thread without losing replies; None if `generate` runs in the caller's thread."""

    stop: Callable[[ToolrlefError], None] | None
    """Makes `generate` raise an error after the in-flight requests; None for an engine without parallel requests."""

    on_step: Callable[[], None] | None
    """Set by the caller; an engine that computes replies in batches calls it several times during a batch."""

    def stats(self) -> dict[str, Any]:
        """Return the engine's statistics for the progress bar, by name."""
        ...
