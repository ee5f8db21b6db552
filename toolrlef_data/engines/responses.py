"""responses: from what a model replied to a RESPONSE, with its reasoning kept apart."""

from __future__ import annotations

import re
from typing import Any

from toolrlef_data.columns import RESPONSE
from toolrlef_data.engines.spec import Request
from toolrlef_data.records import Reply

__all__ = ["build_request", "build_response", "split_reasoning"]

OPENINGS = ("<think>", "<thinking>", "<reasoning>", "<|begin_of_thought|>", "◁think▷", "[THINK]")
CLOSING = re.compile(r"</think>|</thinking>|</reasoning>|<\|end_of_thought\|>|◁/think▷|\[/THINK\]")
HARMONY = re.compile(r"<\|channel\|>final(?:<\|constrain\|>\w+)?<\|message\|>")


def split_reasoning(text: str) -> tuple[str, str]:
    """(reasoning, answer) of a text that may open with reasoning in the marks that current models use.

    Reasoning that was cut off before its end leaves an empty answer. A closing mark without an opening one counts: many
    chat templates put the opening mark into the prompt.

    >>> split_reasoning("<think>7 and 5 make 12</think>\\nThe answer is 12.")
    ('7 and 5 make 12', 'The answer is 12.')
    """
    if final := HARMONY.search(text):
        before = re.sub(r"<\|[a-z]+\|>(?:analysis|commentary)?", "", text[: final.start()])
        return before.strip(), re.sub(r"<\|(?:return|end)\|>\s*$", "", text[final.end() :]).strip()
    stripped = text.lstrip()
    opening = next((mark for mark in OPENINGS if stripped.startswith(mark)), "")
    closings = list(CLOSING.finditer(stripped))
    if closings:
        last = closings[-1]
        return stripped[len(opening) : last.start()].strip(), stripped[last.end() :].strip()
    if opening or stripped.startswith("<|channel|>analysis"):
        return stripped[len(opening) :].strip(), ""
    return "", text.strip()


def build_request(prompt: tuple[Any, ...] | str, tools: tuple[str, ...] = ()) -> Request:
    """A request from what `render_prompt` returns."""
    return Request(prompt=prompt, tools=tools) if isinstance(prompt, str) else Request(messages=prompt, tools=tools)


def build_response(reply: Reply | None, *, text: str | None = None, strip_reasoning: bool = True) -> dict[str, Any]:
    """A RESPONSE struct from a reply.

    Args:
        reply: None for a response that no model gave (gold).
        text: what stands in the place of the reply's own text, such as a rendered native tool call.
        strip_reasoning: keep reasoning inside the text apart from it.
    """
    response: dict[str, Any] = dict.fromkeys(RESPONSE)
    response["predictions"] = []
    if reply is None:
        return {**response, "text": text, "raw": text, "reasoning": "", "finish_reason": "stop"}
    response |= {"raw": reply.text, "finish_reason": reply.finish_reason, "error": reply.error}
    response |= {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
    if reply.error is not None:
        return {**response, "finish_reason": None, "error_detail": reply.error_detail}
    inside, own = split_reasoning(reply.text or "") if strip_reasoning else ("", (reply.text or "").strip())
    reasoning = "\n".join(part for part in (reply.reasoning, inside) if part)
    return {**response, "reasoning": reasoning, "text": own if text is None else text}
