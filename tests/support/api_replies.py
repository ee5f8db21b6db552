"""What the scripted server sends: answers, their faults, and normal replies; see `api_server`."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from math import ceil, floor
from typing import Any, Literal

Drop = Literal["before", "headers", "body", "stall", "stall_body", "reset"]
ENDPOINTS = ("/v1/chat/completions", "/v1/completions")
PHRASES = {status.value: status.phrase for status in HTTPStatus}


@dataclass(slots=True)
class ReceivedRequest:
    """One request, or one line of a batch; `answered` is when its last byte was handed out, None where that never was."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    raw: bytes
    time: float
    key: str | None
    connection: int
    query: dict[str, str] = field(default_factory=dict)
    answered: float | None = None


@dataclass(frozen=True)
class ServerReply:
    """What to send. With `body=None` the normal reply is made, with its effects, and sent in the way given here.

    drop: "before" closes without a byte, "headers" closes after headers that promise the whole body, "body" after half
    of it; "stall" and "stall_body" send as much and then nothing until the client goes; "reset" sends a TCP reset.
    A server that never says a word is a `delay` (seconds, added to the latency) longer than the client waits.
    """

    status: int = 200
    body: bytes | str | dict[str, Any] | list[Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: Drop | None = None

    def rendered(self) -> tuple[bytes, bytes]:
        """Head and body as bytes; `headers` take the place of those that the server would send."""
        body = json.dumps(self.body) if isinstance(self.body, (dict, list)) else self.body or b""
        raw = body.encode() if isinstance(body, str) else body
        lines = {"content-type": "application/json", "content-length": str(len(raw)), "x-request-id": new_id("req")}
        lines.update((name.lower(), value) for name, value in self.headers.items())
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"HTTP/1.1 {self.status} {PHRASES.get(self.status, 'Odd')}\r\n{head}\r\n".encode("latin-1"), raw


@dataclass(frozen=True)
class BatchPlan:
    """How a batch ends: "completed", "failed", "expired" or "cancelled".

    answered: indices of the lines that are run, None for all. The others stand in the error file where the batch expired
        or was cancelled, and are lost without a word where it completed.
    errors: {index: an `ServerReply`, or the `error` object of a line that got no response}, for the error file.
    failed: why validation failed, as a message or as an error object; implies the status "failed".
    """

    status: Literal["completed", "failed", "expired", "cancelled"] = "completed"
    answered: Collection[int] | None = None
    errors: Mapping[int, ServerReply | dict[str, Any]] = field(default_factory=dict)
    failed: str | dict[str, Any] | None = None


Script = Callable[[ReceivedRequest, int], ServerReply | None]
Planner = Callable[[int, list[dict[str, Any]]], BatchPlan]


def completion(
    text: str | None,
    *,
    reasoning: str | None = None,
    tool_calls: Sequence[tuple[str, Any]] = (),
    finish_reason: str | None = None,
    n: int = 1,
    usage: tuple[int, int] | None = (8, 4),
    chat: bool = True,
    reasoning_field: str = "reasoning_content",
) -> ServerReply:
    """A reply of `n` equal choices; tool calls are (name, arguments), where a string goes out as it is, broken or not."""
    choices: list[dict[str, Any]] = []
    for index in range(n):
        end = finish_reason or ("tool_calls" if tool_calls else "stop")
        choices.append({"index": index, "finish_reason": end, "logprobs": None})
        if not chat:
            choices[-1]["text"] = text
            continue
        message = choices[-1]["message"] = {"role": "assistant", "content": text, "refusal": None}
        if reasoning is not None:
            message[reasoning_field] = reasoning
        if tool_calls:
            functions = [{"name": a, "arguments": b if isinstance(b, str) else json.dumps(b)} for a, b in tool_calls]
            message["tool_calls"] = [{"id": new_id("call"), "type": "function", "function": f} for f in functions]
    kind = ("chat.completion", "chatcmpl") if chat else ("text_completion", "cmpl")
    body = {"id": new_id(kind[1]), "object": kind[0], "created": unix_now(), "model": "scripted", "choices": choices}
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return ServerReply(body=body)


def error(status: int, code: str | None, message: str, type: str = "invalid_request_error") -> ServerReply:
    """An error body as OpenAI sends it."""
    return ServerReply(status, {"error": {"message": message, "type": type, "param": None, "code": code}})


def html(status: int = 200) -> ServerReply:
    """The page of a proxy where JSON was expected."""
    page = "<html><head><title>Welcome</title></head><body>Please wait.</body></html>"
    return ServerReply(status, page, {"content-type": "text/html"})


def rate_limited(**headers: str) -> ServerReply:
    """A 429 with these headers: `rate_limited(retry_after="2", x_ratelimit_reset_requests="1s")`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    limited = error(429, "rate_limit_exceeded", "Rate limit reached. Please try again later.", "requests")
    return replace(limited, headers=named)


def generated(body: Any, chat: bool) -> ServerReply:
    """The normal reply: texts of nine words, or a call of the first tool (or of the one that `tool_choice` names)."""
    asked = body.get("messages" if chat else "prompt") if isinstance(body, dict) else None
    if not asked or body.get("stream"):
        return error(400, None, "This server needs a JSON body with messages (or a prompt), and does not stream.")
    several = not chat and isinstance(asked, list) and isinstance(asked[0], (str, list))
    tools, choice = body.get("tools") or [], body.get("tool_choice")
    if isinstance(choice, dict):
        tools = [tool for tool in tools if tool["function"]["name"] == choice["function"]["name"]]
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or 16384
    choices: list[dict[str, Any]] = []
    spent = 0
    for prompt in asked if several else [asked]:
        for sample in range(body.get("n") or 1):
            digest = hashlib.sha256(canonical([prompt, body.get("seed"), sample])).hexdigest()
            words = ["reply", *(digest[at : at + 4] for at in range(0, 32, 4))]
            one = completion(" ".join(words[:limit]), finish_reason="length" if limit < len(words) else None, chat=chat)
            spent += min(limit, len(words))
            if tools and choice != "none":
                function = tools[0]["function"]
                schema = function.get("parameters") or {}
                one = completion(None, tool_calls=[(function["name"], fitting(schema, int(digest, 16), schema))])
            assert isinstance(one.body, dict)
            choices.append({**one.body["choices"][0], "index": len(choices)})
    counted = [message.get("content") for message in asked] if chat else asked
    whole = completion("", usage=(words_in(counted), spent), chat=chat).body
    assert isinstance(whole, dict)
    return ServerReply(body={**whole, "model": body.get("model"), "choices": choices})


def fitting(schema: dict[str, Any], number: int, root: dict[str, Any]) -> Any:
    """A value that the JSON schema allows, chosen by `number`: required properties only, all where none is required."""
    if "$ref" in schema:
        target: Any = root
        for name in schema["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        return fitting(target, number, root)
    if "const" in schema or "enum" in schema:
        values = schema.get("enum") or [schema["const"]]
        return values[number % len(values)]
    for options in (schema.get("anyOf"), schema.get("oneOf"), schema.get("allOf")):
        if options:
            return fitting(options[0], number, root)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        parts = schema.get("properties", {})
        return {name: fitting(parts[name], number, root) for name in schema.get("required") or parts}
    if kind == "array":
        items = range(max(1, schema.get("minItems", 1)))
        return [fitting(schema.get("items", {}), number + item, root) for item in items]
    if kind in ("integer", "number"):
        return _between(schema, number % 97, kind == "integer")
    if kind == "string":
        width = max(8, schema.get("minLength", 0))
        return format(number, "064x").ljust(width, "x")[:width][: schema.get("maxLength")]
    return bool(number % 2) if kind == "boolean" else None


def _between(schema: dict[str, Any], step: int, whole: bool) -> Any:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if not whole and low is not None and high is not None:
        return (low + high) / 2
    first = None if low is None else ceil(low) if "minimum" in schema else floor(low) + 1
    last = None if high is None else floor(high) if "maximum" in schema else ceil(high) - 1
    first = first if first is not None else last - 96 if last is not None else 0
    return first + step % (97 if last is None else last - first + 1)


def new_id(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex}"


def unix_now() -> int:
    return int(time.time())


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()  # ASCII only, so that a lone surrogate passes


def words_in(value: Any) -> int:
    if isinstance(value, str):
        return len(value.split())
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(words_in(part) for part in inner)
