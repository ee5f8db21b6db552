"""Payloads: request bodies as JSON, and replies parsed from response bodies.

Messages are sent to `/chat/completions`, a plain prompt to `/completions`. Quirks describe how models and servers
deviate from OpenAI's API. `QUIRKS` has those of well-known models; `options={"quirks": {...}}` of the spec extends or
overrides them.

| quirk | value | example |
|---|---|---|
| rename | {OpenAI's parameter: the server's parameter} | `max_completion_tokens` for `max_tokens` |
| drop | [parameters] | `temperature`, which reasoning models reject |
| system | the role of system messages | "developer" |

Not covered: streaming, images, audio, the Responses API.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from toolrlef_data.engines.spec import EngineSpec, Message, Request
from toolrlef_data.records import InputError, Reply

__all__ = [
    "QUIRKS",
    "UNENCODABLE_REPLY",
    "build_body",
    "check_spec",
    "endpoint_of",
    "find_quirks",
    "max_response_bytes",
    "parse_replies",
    "parse_reply",
    "to_openai_message",
]

# Quirks by model name pattern (lower case, without the part before a slash); the first match applies.
# Reasoning models of OpenAI: https://platform.openai.com/docs/guides/reasoning
REASONING_QUIRKS = {"rename": {"max_tokens": "max_completion_tokens"}, "drop": ["temperature", "top_p", "stop"]}
QUIRKS: dict[str, dict[str, Any]] = {"o[1-9]*": REASONING_QUIRKS, "gpt-5-chat*": {}, "gpt-[5-9]*": REASONING_QUIRKS}
QUIRK_NAMES = ("rename", "drop", "system")
OPTIONS = ("extra_body", "quirks", "n")
# Finish reason of another server -> finish reason of OpenAI.
FINISH_REASON_ALIASES = {
    "function_call": "tool_calls",
    "max_tokens": "length",
    "model_length": "length",
    "max_length": "length",
}
FINISH_REASONS = ("stop", "length", "tool_calls")
# Sampling parameters that OpenAI lacks, with their neutral values; servers of open models use these names.
EXTRA_SAMPLING = {"top_k": 0, "repetition_penalty": 1.0}
MIN_RESPONSE_BYTES = 1_000_000  # of the largest response body to a request for few tokens
MAX_TOKEN_BYTES = 256  # a token in JSON with escapes
# The reply to a request whose text `build_body` cannot encode.
UNENCODABLE_REPLY = Reply(
    None, error="bad_request", error_detail="the request text contains an unpaired surrogate, which UTF-8 cannot encode"
)


def check_spec(spec: EngineSpec) -> None:
    """Raise InputError for settings that the API does not support, rather than ignore them."""
    defaults = {"num_beams": 1, "adapter": None, "revision": None, "dtype": "auto"}
    if unsupported := [name for name, default in defaults.items() if getattr(spec, name) != default]:
        verb = "is" if len(unsupported) == 1 else "are"
        raise InputError(f"{', '.join(unsupported)} {verb} not supported by the openai_api engine")
    options = dict(spec.options)
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise InputError(f"openai_api options: expected {', '.join(OPTIONS)}; found {', '.join(unknown)}")
    if not isinstance(options.get("n", False), bool):
        raise InputError(f"openai_api option n: expected true or false, found {type(options['n']).__name__}")
    for name in ("extra_body", "quirks"):
        if not isinstance(options.get(name, {}), Mapping):
            raise InputError(f"openai_api option {name}: expected a mapping, found {type(options[name]).__name__}")
    _check_quirks(options.get("quirks", {}))
    extra = options.get("extra_body", {})
    if reserved := {"messages", "prompt", "model", "n", "stream"} & set(extra):
        raise InputError(f"extra_body must not contain {', '.join(sorted(reserved))}: the engine sets these fields")
    try:
        json.dumps(extra, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError):
        raise InputError("extra_body contains a value that JSON cannot represent") from None


def _check_quirks(quirks: Mapping[str, Any]) -> None:
    if unknown := sorted(set(quirks) - set(QUIRK_NAMES)):
        raise InputError(f"quirks: expected {', '.join(QUIRK_NAMES)}; found {', '.join(unknown)}")
    rename, drop = quirks.get("rename", {}), quirks.get("drop", ())
    if not isinstance(rename, Mapping) or not all(isinstance(name, str) for pair in rename.items() for name in pair):
        raise InputError(f"quirk rename: expected a mapping of parameter names, found {rename!r:.80}")
    if not isinstance(drop, (list, tuple)) or not all(isinstance(name, str) for name in drop):
        raise InputError(f"quirk drop: expected a list of parameter names, found {drop!r:.80}")
    if not isinstance(quirks.get("system", ""), str):
        raise InputError(f"quirk system: expected a role, found {quirks['system']!r:.80}")


def find_quirks(spec: EngineSpec) -> dict[str, Any]:
    """Return the known quirks of the model, merged with those of the spec.

    >>> find_quirks(EngineSpec("openai_api", "openai/o3-mini"))["rename"]
    {'max_tokens': 'max_completion_tokens'}
    """
    name = spec.model.rpartition("/")[2].lower()
    known = next((quirks for pattern, quirks in QUIRKS.items() if fnmatch.fnmatchcase(name, pattern)), {})
    overrides = dict(spec.options).get("quirks", {})
    merged = {**known, **overrides}
    if "rename" in merged:
        merged["rename"] = {**known.get("rename", {}), **overrides.get("rename", {})}
    if "drop" in merged:
        merged["drop"] = list(dict.fromkeys([*known.get("drop", ()), *overrides.get("drop", ())]))
    return merged


def endpoint_of(request: Request) -> str:
    """Return the path of the endpoint for a request, relative to the server's base URL."""
    return "/chat/completions" if request.messages else "/completions"


def to_openai_message(message: Message, convert_arguments: Callable[[str], Any] = str) -> dict[str, Any]:
    """Return a message in OpenAI's format; the content of tool calls without text is null.

    Args:
        message: the message.
        convert_arguments: converts the JSON text of a tool call's arguments; default: no conversion.

    >>> to_openai_message(Message("tool", "4", tool_call_id="c1"))
    {'role': 'tool', 'content': '4', 'tool_call_id': 'c1'}
    """
    converted: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        converted["content"] = message.content or None
        converted["tool_calls"] = [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": convert_arguments(arguments)}}
            for call_id, name, arguments in message.tool_calls
        ]
    if message.tool_call_id:
        converted["tool_call_id"] = message.tool_call_id
    if message.name:
        converted["name"] = message.name
    return converted


def build_body(
    request: Request,
    spec: EngineSpec,
    quirks: Mapping[str, Any],
    num_completions: int = 1,
    extra_body: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the body of a request as UTF-8.

    Args:
        request: the request.
        spec: the engine spec, for model, sampling settings and options.
        quirks: from `find_quirks`.
        num_completions: number of completions to request.
        extra_body: the option `extra_body` with the values of its variables. Default: that of the spec.

    Raises:
        UnicodeEncodeError: the text contains an unpaired surrogate, which UTF-8 cannot encode.

    >>> build_body(Request(prompt="1+1="), EngineSpec("openai_api", "m", max_tokens=2), {})
    b'{"model":"m","prompt":"1+1=","max_tokens":2,"temperature":0.0}'
    """
    body: dict[str, Any] = {"model": spec.model}
    if request.messages:
        body["messages"] = messages = [to_openai_message(message) for message in request.messages]
        for message in messages:
            if message["role"] == "system":
                message["role"] = quirks.get("system", "system")
    else:
        body["prompt"] = request.prompt
    settings: dict[str, Any] = {"max_tokens": spec.max_tokens, "temperature": spec.temperature}
    if spec.temperature > 0:
        # The samples of a row share `request.seed`; the sample number makes their seeds distinct.
        settings["seed"] = (request.seed + request.sample) % 2**31
    if spec.top_p != 1:
        settings["top_p"] = spec.top_p
    if spec.stop:
        settings["stop"] = list(spec.stop)
    settings |= {name: value for name, neutral in EXTRA_SAMPLING.items() if (value := getattr(spec, name)) != neutral}
    if num_completions > 1:
        settings["n"] = num_completions
    if request.tools:
        settings["tools"] = [json.loads(schema) for schema in request.tools]
    rename = quirks.get("rename", {})
    body |= {rename.get(name, name): value for name, value in settings.items() if name not in quirks.get("drop", ())}
    body |= dict(spec.options).get("extra_body", {}) if extra_body is None else extra_body
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def max_response_bytes(spec: EngineSpec, num_sent_bytes: int, num_completions: int) -> int:
    """Return the maximum size of a decoded response body; it is generous, and follows the token limit.

    >>> max_response_bytes(EngineSpec("openai_api", "m", max_tokens=1000), 500, 2)
    1513024
    """
    extra = {name: value for name, value in dict(spec.options).get("extra_body", {}).items() if isinstance(value, int)}
    max_tokens = max([spec.max_tokens, *(value for name, value in extra.items() if name.endswith("tokens"))])
    num_logprobs = [value + 1 for name, value in extra.items() if name.endswith("logprobs")]
    num_tokens = num_completions * max_tokens + (num_sent_bytes if num_logprobs else num_sent_bytes // 125)
    return MIN_RESPONSE_BYTES + MAX_TOKEN_BYTES * num_tokens * (1 + sum(num_logprobs))


def parse_replies(
    body: Mapping[str, Any], stop: Sequence[str], max_replies: int, redact: Callable[[str], str] = str
) -> list[Reply]:
    """Return the choices of a response body as at most `max_replies` replies; see `parse_reply`.

    The server reports the tokens of all choices together. The first reply gets the prompt tokens; the completion tokens
    are divided evenly.
    """
    choices = body["choices"][:max_replies]
    replies = [
        parse_reply({**body, "choices": [choice]}, stop, redact) for choice in choices if isinstance(choice, Mapping)
    ]
    if len(replies) < 2:
        return replies
    total = replies[0].completion_tokens
    count = len(replies)
    completion_tokens = [None if total is None else total // count + (i < total % count) for i in range(count)]
    prompt_tokens = [replies[0].prompt_tokens, *[0] * (count - 1)]
    return [
        replace(reply, prompt_tokens=prompt, completion_tokens=completion)
        for reply, prompt, completion in zip(replies, prompt_tokens, completion_tokens, strict=True)
    ]


def parse_reply(body: Mapping[str, Any], stop: Sequence[str] = (), redact: Callable[[str], str] = str) -> Reply:
    """Return the first choice of a response body as a reply; a filtered or refused choice has an error.

    Args:
        body: the parsed response body, with at least one choice.
        stop: stop strings, applied here since some servers include them in the text or ignore them.
        redact: removes secrets from every text of the reply, before a stop string shortens it. Default: keeps all.

    >>> parse_reply({"choices": [{"message": {"content": "42"}, "finish_reason": "stop"}]}).text
    '42'
    """
    choice = body["choices"][0]
    message = choice.get("message")
    usage = body.get("usage")
    prompt_tokens, completion_tokens = (_token_count(usage, name) for name in ("prompt_tokens", "completion_tokens"))
    if isinstance(message, Mapping):
        text = _text_of(message.get("content"))
        thinking = _text_of(message.get("content"), "thinking")  # Mistral: parts of the content
        reasoning = _text_of(message.get("reasoning_content")) or _text_of(message.get("reasoning")) or thinking
        calls = tuple((redact(name), redact(arguments)) for name, arguments in _parse_calls(message))
        refusal = _text_of(message.get("refusal"))
    else:
        text, reasoning, calls, refusal = _text_of(choice.get("text")), "", (), ""
    text, reasoning = redact(text), redact(reasoning)
    finish_reason = str(choice.get("finish_reason") or "stop").lower()
    error, detail = None, ""
    if finish_reason == "content_filter":
        error, detail = "content_filter", "the server's content filter stopped the reply"
    elif refusal and not text and not calls:
        error, detail = "refused", refusal
    if error:
        return Reply(None, "", (), "stop", error, detail, prompt_tokens, completion_tokens)
    if finish_reason not in FINISH_REASONS:
        finish_reason = FINISH_REASON_ALIASES.get(finish_reason, "stop")
    if stop_positions := [position for position in map(text.find, filter(None, stop)) if position >= 0]:
        text, finish_reason = text[: min(stop_positions)], finish_reason if calls else "stop"
    return Reply(text, reasoning, calls, finish_reason, None, "", prompt_tokens, completion_tokens)


def _token_count(usage: Any, name: str) -> int | None:
    count = usage.get(name) if isinstance(usage, Mapping) else None
    return count if type(count) is int and 0 <= count < 2**31 else None


def _text_of(content: Any, field: str = "text") -> str:
    """Return a message content as text; for a list of parts, the joined values of `field`. Empty if there is none."""
    if isinstance(content, list):
        objects = [part for part in content if field == "text" or isinstance(part, Mapping)]  # a string is text
        parts = [part.get(field) if isinstance(part, Mapping) else part for part in objects]
        return "".join(part if isinstance(part, str) else _text_of(part) for part in parts)
    return content if isinstance(content, str) and field == "text" else ""


def _parse_calls(message: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the (name, arguments) of all well-formed tool calls; arguments are JSON text."""
    tool_calls = message.get("tool_calls")
    calls = tool_calls if isinstance(tool_calls, list) else []
    functions = [call.get("function") for call in calls if isinstance(call, Mapping)]
    functions.append(message.get("function_call"))
    parsed = []
    for function in functions:
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            arguments = function.get("arguments")
            parsed.append((function["name"], arguments if isinstance(arguments, str) else json.dumps(arguments or {})))
    return parsed
