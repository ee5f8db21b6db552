"""Bodies: a request as the JSON that a server takes, and the server's JSON as a reply.

Messages go to `/chat/completions`, a plain prompt to `/completions`. What one model or server does otherwise is data:
`QUIRKS` for well-known models, and an engine's own `options={"quirks": {...}}`, which come on top:

| quirk | value | for |
|---|---|---|
| rename | {our name: theirs} | `max_completion_tokens` |
| drop | [names] | parameters that a model refuses, such as `temperature` |
| system | role | servers that call the system message "developer" or "user" |

Not covered: streaming (a reply is used whole), images, audio, and the Responses API.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from toolrlef_data.engines.spec import EngineSpec, Message, Request
from toolrlef_data.records import InputError, Reply

__all__ = ["QUIRKS", "UNSENDABLE", "body_of", "check_spec", "path_of", "quirks_of", "replies_from", "to_openai_message"]
__all__ += ["reply_from"]

# Model name patterns, without what stands before a slash, and what those models do otherwise; the first that fits.
# Reasoning models of OpenAI: https://platform.openai.com/docs/guides/reasoning
REASONING = {"rename": {"max_tokens": "max_completion_tokens"}, "drop": ["temperature", "top_p", "stop"]}
QUIRKS: dict[str, dict[str, Any]] = {"o[1-9]*": REASONING, "gpt-5-chat*": {}, "gpt-[5-9]*": REASONING}
KINDS_OF_QUIRKS = ("rename", "drop", "system")
OPTIONS = ("extra_body", "quirks", "n")
# What servers call the reasons that OpenAI calls stop, length and tool_calls.
FINISH = {"function_call": "tool_calls", "max_tokens": "length", "model_length": "length", "max_length": "length"}
OURS = ("stop", "length", "tool_calls")
# Parameters of text generation that OpenAI does not have; servers of open models take them under these names.
OPEN_MODELS = {"top_k": 0, "repetition_penalty": 1.0}
# The reply to a request of which `body_of` can make no body.
UNSENDABLE = Reply(None, error="bad_request", error_detail="the text holds a lone surrogate and cannot be sent")


def check_spec(spec: EngineSpec) -> None:
    """Raise where a spec asks for what no such API can do, instead of leaving it out in silence."""
    set_otherwise = {"num_beams": 1, "adapter": None, "revision": None, "dtype": "auto"}
    if wrong := [name for name, default in set_otherwise.items() if getattr(spec, name) != default]:
        raise InputError(
            f"the engine openai_api cannot set {', '.join(wrong)} of {spec.model!r}: the server has chosen its model"
        )
    options = dict(spec.options)
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise InputError(f"the engine openai_api takes the options {', '.join(OPTIONS)}; found {', '.join(unknown)}")
    if not isinstance(options.get("n", False), bool):
        raise InputError(f"the option n of the engine openai_api is true or false, found {options['n']!r:.80}")
    for name in ("extra_body", "quirks"):
        if not isinstance(options.get(name, {}), Mapping):
            raise InputError(f"the option {name} of the engine openai_api is a mapping, found {options[name]!r:.80}")
    _check_quirks(options.get("quirks", {}))
    extra = options.get("extra_body", {})
    if taken := {"messages", "prompt", "model", "n", "stream"} & set(extra):
        raise InputError(f"extra_body may not hold {', '.join(sorted(taken))}: the engine sets them")
    try:
        json.dumps(extra, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError):
        raise InputError("extra_body holds a value that JSON cannot carry") from None


def _check_quirks(quirks: Mapping[str, Any]) -> None:
    if unknown := sorted(set(quirks) - set(KINDS_OF_QUIRKS)):
        raise InputError(f"quirks are {', '.join(KINDS_OF_QUIRKS)}; found {', '.join(unknown)}")
    rename, drop = quirks.get("rename", {}), quirks.get("drop", ())
    if not isinstance(rename, Mapping) or not all(isinstance(name, str) for pair in rename.items() for name in pair):
        raise InputError(f"the quirk rename is a mapping from our names to the server's, found {rename!r:.80}")
    if not isinstance(drop, (list, tuple)) or not all(isinstance(name, str) for name in drop):
        raise InputError(f"the quirk drop is a list of names, found {drop!r:.80}")
    if not isinstance(quirks.get("system", ""), str):
        raise InputError(f"the quirk system is a role, found {quirks['system']!r:.80}")


def quirks_of(spec: EngineSpec) -> dict[str, Any]:
    """What is known of the model, with what the spec says on top.

    >>> quirks_of(EngineSpec("openai_api", "openai/o3-mini"))["rename"]
    {'max_tokens': 'max_completion_tokens'}
    """
    name = spec.model.rpartition("/")[2].lower()
    known = next((quirks for pattern, quirks in QUIRKS.items() if fnmatch.fnmatchcase(name, pattern)), {})
    own = dict(spec.options).get("quirks", {})
    merged = {**known, **own}
    if "rename" in merged:
        merged["rename"] = {**known.get("rename", {}), **own.get("rename", {})}
    if "drop" in merged:
        merged["drop"] = list(dict.fromkeys([*known.get("drop", ()), *own.get("drop", ())]))
    return merged


def path_of(request: Request) -> str:
    return "/chat/completions" if request.messages else "/completions"


def to_openai_message(message: Message, read: Callable[[str], Any] = str) -> dict[str, Any]:
    """A message the way OpenAI takes it, with null for the content beside calls that have none.

    Args:
        read: what becomes of the arguments of a call.

    >>> to_openai_message(Message("tool", "4", tool_call_id="c1"))
    {'role': 'tool', 'content': '4', 'tool_call_id': 'c1'}
    """
    shown: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        shown["content"] = message.content or None
        shown["tool_calls"] = [
            {"id": call, "type": "function", "function": {"name": name, "arguments": read(arguments)}}
            for call, name, arguments in message.tool_calls
        ]
    if message.tool_call_id:
        shown["tool_call_id"] = message.tool_call_id
    if message.name:
        shown["name"] = message.name
    return shown


def body_of(request: Request, spec: EngineSpec, quirks: Mapping[str, Any], samples: int = 1) -> bytes:
    """The body of a request, as UTF-8.

    Args:
        samples: of the same request, in one answer.

    Raises:
        UnicodeEncodeError: the text holds a lone surrogate, which is no character and cannot be sent.

    >>> body_of(Request(prompt="1+1="), EngineSpec("openai_api", "m", max_tokens=2), {})
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
        # Samples of one row share its seed and differ by their number.
        settings["seed"] = (request.seed + request.sample) % 2**31
    if spec.top_p != 1:
        settings["top_p"] = spec.top_p
    if spec.stop:
        settings["stop"] = list(spec.stop)
    settings |= {name: value for name, off in OPEN_MODELS.items() if (value := getattr(spec, name)) != off}
    if samples > 1:
        settings["n"] = samples
    if request.tools:
        settings["tools"] = [json.loads(schema) for schema in request.tools]
    rename = quirks.get("rename", {})
    body |= {rename.get(name, name): value for name, value in settings.items() if name not in quirks.get("drop", ())}
    body |= dict(spec.options).get("extra_body", {})
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def replies_from(body: Mapping[str, Any], stop: Sequence[str], most: int) -> list[Reply]:
    """The choices of an answer as replies, `most` at most; choices that hold nothing end the list.

    The tokens that they took together are counted once: those of the prompt with the first, the others in equal parts.
    """
    choices = body["choices"][:most]
    replies = [reply_from({**body, "choices": [choice]}, stop) for choice in choices if isinstance(choice, Mapping)]
    if len(replies) < 2:
        return replies
    total = replies[0].completion_tokens
    parts = [None if total is None else total // len(replies) + (i < total % len(replies)) for i in range(len(replies))]
    prompts = [replies[0].prompt_tokens, *[0] * (len(replies) - 1)]
    return [
        replace(reply, prompt_tokens=prompt, completion_tokens=part)
        for reply, prompt, part in zip(replies, prompts, parts, strict=True)
    ]


def reply_from(body: Mapping[str, Any], stop: Sequence[str] = ()) -> Reply:
    """The first choice of an answer as a reply; a filtered or refused one is a reply with an error.

    Args:
        body: with at least one choice.
        stop: where the text ends; some servers keep the stop string, or know none.

    >>> reply_from({"choices": [{"message": {"content": "42"}, "finish_reason": "stop"}]}).text
    '42'
    """
    choice = body["choices"][0]
    message = choice.get("message")
    usage = body.get("usage")
    prompt_tokens, completion_tokens = (_count(usage, name) for name in ("prompt_tokens", "completion_tokens"))
    if isinstance(message, Mapping):
        text = _text(message.get("content"))
        thought = _text(message.get("content"), "thinking")  # Mistral: parts of the content
        reasoning = _text(message.get("reasoning_content")) or _text(message.get("reasoning")) or thought
        calls = tuple(_calls(message))
        refusal = _text(message.get("refusal"))
    else:
        text, reasoning, calls, refusal = _text(choice.get("text")), "", (), ""
    finish = str(choice.get("finish_reason") or "stop")
    error, detail = None, ""
    if finish == "content_filter":
        error, detail = "content_filter", "the server's filter cut the reply off"
    elif refusal and not text and not calls:
        error, detail = "refused", refusal
    if error:
        return Reply(None, "", (), "stop", error, detail, prompt_tokens, completion_tokens)
    finish = finish if finish in OURS else FINISH.get(finish, "stop")
    if ends := [place for place in map(text.find, filter(None, stop)) if place >= 0]:
        text, finish = text[: min(ends)], finish if calls else "stop"
    return Reply(text, reasoning, calls, finish, None, "", prompt_tokens, completion_tokens)


def _count(usage: Any, name: str) -> int | None:
    count = usage.get(name) if isinstance(usage, Mapping) else None
    return count if type(count) is int and 0 <= count < 2**31 else None


def _text(content: Any, field: str = "text") -> str:
    """Text that may be missing, or come in parts of several kinds, of which one is wanted."""
    if isinstance(content, list):
        parts = [part.get(field) if isinstance(part, Mapping) else part for part in content]
        return "".join(part if isinstance(part, str) else _text(part) for part in parts)
    return content if isinstance(content, str) and field == "text" else ""


def _calls(message: Mapping[str, Any]) -> list[tuple[str, str]]:
    listed = message.get("tool_calls")
    calls = listed if isinstance(listed, list) else []
    functions = [call.get("function") for call in calls if isinstance(call, Mapping)]
    functions.append(message.get("function_call"))
    found = []
    for function in functions:
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            arguments = function.get("arguments")
            found.append((function["name"], arguments if isinstance(arguments, str) else json.dumps(arguments or {})))
    return found
