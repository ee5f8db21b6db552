"""Conversion of replies into RESPONSE structs, with the reasoning in a separate field."""

from __future__ import annotations

import re
from typing import Any

from toolrlef_data.columns import RESPONSE
from toolrlef_data.engines.spec import Request
from toolrlef_data.records import Reply

__all__ = ["build_request", "build_response", "split_reasoning"]

OPENING_TAGS = ("<think>", "<thinking>", "<reasoning>", "<|begin_of_thought|>", "◁think▷", "[THINK]")
CLOSING_TAG = re.compile(r"</think>|</thinking>|</reasoning>|<\|end_of_thought\|>|◁/think▷|\[/THINK\]")
HARMONY_CALL = re.compile(r"(?:<\|start\|>assistant)?<\|channel\|>(?:commentary|analysis) to=|<\|start\|>assistant to=")
HARMONY_MARKS = re.compile(r"<\|[a-z]+\|>(?:analysis|commentary)?")
HARMONY_FINAL = re.compile(r"<\|channel\|>final(?:<\|constrain\|>\w+)?<\|message\|>")


def split_reasoning(text: str) -> tuple[str, str]:
    """Return (reasoning, remaining text) of a text that may start with tagged reasoning.

    Truncated reasoning yields an empty remaining text. A closing tag without an opening tag ends the reasoning too,
    because many chat templates put the opening tag into the prompt. A call of the harmony format is not reasoning.

    >>> split_reasoning("<think>7 and 5 make 12</think>\\nThe answer is 12.")
    ('7 and 5 make 12', 'The answer is 12.')
    """
    final, call = HARMONY_FINAL.search(text), HARMONY_CALL.search(text)
    if call and (not final or call.start() < final.start()):  # the complete call is the remaining text
        analysis = HARMONY_MARKS.sub("", text[: call.start()])
        return analysis.strip(), text[call.start() :].strip()
    if final:
        analysis = HARMONY_MARKS.sub("", text[: final.start()])
        return analysis.strip(), re.sub(r"<\|(?:return|end)\|>\s*$", "", text[final.end() :]).strip()
    stripped = text.lstrip()
    opening = next((tag for tag in OPENING_TAGS if stripped.startswith(tag)), "")
    closings = list(CLOSING_TAG.finditer(stripped))
    if closings:
        last = closings[-1]
        return stripped[len(opening) : last.start()].strip(), stripped[last.end() :].strip()
    if opening or stripped.startswith("<|channel|>analysis"):
        return stripped[len(opening) :].strip(), ""
    return "", text.strip()


def build_request(prompt: tuple[Any, ...] | str, tools: tuple[str, ...] = ()) -> Request:
    """Return the request for a prompt of `render_prompt`."""
    return Request(prompt=prompt, tools=tools) if isinstance(prompt, str) else Request(messages=prompt, tools=tools)


def build_response(reply: Reply | None, *, text: str | None = None, strip_reasoning: bool = True) -> dict[str, Any]:
    """Return the RESPONSE struct of a reply.

    Args:
        reply: None for a response without a model (gold).
        text: replacement for the reply's text, such as a rendered native tool call.
        strip_reasoning: whether to move tagged reasoning out of the text.
    """
    response: dict[str, Any] = dict.fromkeys(RESPONSE)
    response["predictions"] = []
    if reply is None:
        return {**response, "text": text, "raw": text, "reasoning": "", "finish_reason": "stop"}
    response |= {"raw": reply.text, "finish_reason": reply.finish_reason, "error": reply.error}
    response |= {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
    if reply.error is not None:
        return {**response, "finish_reason": None, "error_detail": reply.error_detail}
    tagged, remaining = split_reasoning(reply.text or "") if strip_reasoning else ("", (reply.text or "").strip())
    reasoning = "\n".join(part for part in (reply.reasoning, tagged) if part)
    return {**response, "reasoning": reasoning, "text": remaining if text is None else text}
