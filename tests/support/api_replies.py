"""Requests, replies and faults of the scripted server; see `api_server`."""

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
    """A request, or a line of a batch file; `answered` is the time at which its reply was sent, or None."""

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
    """A reply of the server, or a fault.

    Args:
        status: the HTTP status.
        body: None for the body of the normal reply; the request then takes effect, for instance creates a batch.
        headers: added to the server's headers, or replacing them.
        delay: seconds, added to the server's latency.
        drop: how the connection fails, or None; see the table.

    | drop | the server sends | then |
    |---|---|---|
    | before | nothing | closes the connection |
    | headers | the headers | closes the connection |
    | body | the headers and half of the body | closes the connection |
    | stall | the headers | waits until the client closes |
    | stall_body | the headers and half of the body | waits until the client closes |
    | reset | nothing | sends a TCP reset |
    """

    status: int = 200
    body: bytes | str | dict[str, Any] | list[Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: Drop | None = None

    def render(self) -> tuple[bytes, bytes]:
        """Return the head (status line and headers) and the body, as bytes."""
        body = json.dumps(self.body) if isinstance(self.body, (dict, list)) else self.body or b""
        raw = body.encode() if isinstance(body, str) else body
        lines = {"content-type": "application/json", "content-length": str(len(raw)), "x-request-id": new_id("req")}
        lines.update((name.lower(), value) for name, value in self.headers.items())
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"HTTP/1.1 {self.status} {PHRASES.get(self.status, 'Odd')}\r\n{head}\r\n".encode("latin-1"), raw


@dataclass(frozen=True)
class BatchPlan:
    """How a batch ends.

    Args:
        status: the final status.
        answered: indices of the lines that run, or None for all. The other lines are in the error file of an expired or
            cancelled batch, and missing from both files of a completed one.
        errors: index -> `ServerReply`, or the `error` object of a line without a response, for the error file.
        failed: the validation error, as a message or an error object; implies the status "failed".
        is_silent: whether the lines that do not run are in neither file, as on servers without an error file.
    """

    status: Literal["completed", "failed", "expired", "cancelled"] = "completed"
    answered: Collection[int] | None = None
    errors: Mapping[int, ServerReply | dict[str, Any]] = field(default_factory=dict)
    failed: str | dict[str, Any] | None = None
    is_silent: bool = False


Script = Callable[[ReceivedRequest, int], ServerReply | None]
Planner = Callable[[int, list[dict[str, Any]]], BatchPlan]


def always(reply: ServerReply) -> Script:
    """Return the script that answers every request with one reply."""
    return lambda received, repeats: reply


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
    """Return a reply with `n` equal choices; tool calls are (name, arguments), and a string of arguments is sent unchanged."""
    choices: list[dict[str, Any]] = []
    for index in range(n):
        reason = finish_reason or ("tool_calls" if tool_calls else "stop")
        choices.append({"index": index, "finish_reason": reason, "logprobs": None})
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
    """Return an error in OpenAI's format."""
    return ServerReply(status, {"error": {"message": message, "type": type, "param": None, "code": code}})


def html(status: int = 200) -> ServerReply:
    """Return the HTML page of a proxy."""
    page = "<html><head><title>Welcome</title></head><body>Please wait.</body></html>"
    return ServerReply(status, page, {"content-type": "text/html"})


def rate_limited(**headers: str) -> ServerReply:
    """Return a 429 with headers: `rate_limited(retry_after="2", x_ratelimit_reset_requests="1s")`."""
    http_headers = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = error(429, "rate_limit_exceeded", "Rate limit reached. Please try again later.", "requests")
    return replace(reply, headers=http_headers)


def normal_reply(body: Any, chat: bool) -> ServerReply:
    """Return a reply whose choices are texts of nine words, or calls of the first tool or the one in `tool_choice`."""
    prompts = body.get("messages" if chat else "prompt") if isinstance(body, dict) else None
    if not prompts or body.get("stream"):
        return error(400, None, "This server needs a JSON body with messages (or a prompt), and does not stream.")
    has_many_prompts = not chat and isinstance(prompts, list) and isinstance(prompts[0], (str, list))
    tools, choice = body.get("tools") or [], body.get("tool_choice")
    if isinstance(choice, dict):
        tools = [tool for tool in tools if tool["function"]["name"] == choice["function"]["name"]]
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or 16384
    choices: list[dict[str, Any]] = []
    completion_tokens = 0
    for prompt in prompts if has_many_prompts else [prompts]:
        for sample in range(body.get("n") or 1):
            digest = hashlib.sha256(canonical([prompt, body.get("seed"), sample])).hexdigest()
            words = ["reply", *(digest[at : at + 4] for at in range(0, 32, 4))]
            reason = "length" if limit < len(words) else None
            reply = completion(" ".join(words[:limit]), finish_reason=reason, chat=chat)
            completion_tokens += min(limit, len(words))
            if tools and choice != "none":
                function = tools[0]["function"]
                schema = function.get("parameters") or {}
                arguments = schema_value(schema, int(digest, 16), schema)
                reply = completion(None, tool_calls=[(function["name"], arguments)])
            assert isinstance(reply.body, dict)
            choices.append({**reply.body["choices"][0], "index": len(choices)})
    texts = [message.get("content") for message in prompts] if chat else prompts
    template = completion("", usage=(count_words(texts), completion_tokens), chat=chat).body
    assert isinstance(template, dict)
    return ServerReply(body={**template, "model": body.get("model"), "choices": choices})


def schema_value(schema: dict[str, Any], number: int, root: dict[str, Any]) -> Any:
    """Return a valid value of a JSON schema, chosen by `number`.

    An object has its required properties, or all properties if none are required.
    """
    if "$ref" in schema:
        target: Any = root
        for name in schema["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        return schema_value(target, number, root)
    if "const" in schema or "enum" in schema:
        values = schema.get("enum") or [schema["const"]]
        return values[number % len(values)]
    for options in (schema.get("anyOf"), schema.get("oneOf"), schema.get("allOf")):
        if options:
            return schema_value(options[0], number, root)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: schema_value(properties[name], number, root) for name in schema.get("required") or properties}
    if kind == "array":
        items = range(max(1, schema.get("minItems", 1)))
        return [schema_value(schema.get("items", {}), number + item, root) for item in items]
    if kind in ("integer", "number"):
        return _between(schema, number % 97, kind == "integer")
    if kind == "string":
        width = max(8, schema.get("minLength", 0))
        return format(number, "064x").ljust(width, "x")[:width][: schema.get("maxLength")]
    return bool(number % 2) if kind == "boolean" else None


def _between(schema: dict[str, Any], offset: int, is_integer: bool) -> Any:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if not is_integer and low is not None and high is not None:
        return (low + high) / 2
    first = None if low is None else ceil(low) if "minimum" in schema else floor(low) + 1
    last = None if high is None else floor(high) if "maximum" in schema else ceil(high) - 1
    first = first if first is not None else last - 96 if last is not None else 0
    return first + offset % (97 if last is None else last - first + 1)


def new_id(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex}"


def unix_now() -> int:
    return int(time.time())


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()  # ASCII only, so that unpaired surrogates can be encoded


def count_words(value: Any) -> int:
    if isinstance(value, str):
        return len(value.split())
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(count_words(part) for part in parts)
