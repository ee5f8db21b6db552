"""Requests for the log-probability of a given response, and their token ids.

Prompt and response are tokenised separately and joined, as in training: the tokens of a prompt that ends with a blank
would otherwise depend on the response.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jinja2

from toolrlef_data.engines.local.engine import error_reply, tokenise_prompt
from toolrlef_data.engines.prompts import continuation
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import InputError, Reply, is_text

__all__ = ["ScoringRequest", "end_token", "request_tokeniser", "tokenise_response"]


@dataclass(frozen=True, slots=True)
class ScoringRequest(Request):
    """A request for the log-probability of a response.

    Args:
        response: the response.
        end: whether the token that ends the response is part of it.
    """

    response: str = ""
    end: bool = True

    def in_key(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        return {**Request.in_key(self), "response": self.response, "end": self.end}


def request_tokeniser(
    spec: EngineSpec, tokenizer: Any
) -> Callable[[ScoringRequest], tuple[tuple[int, ...], tuple[int, ...]] | Reply]:
    """Return a function that tokenises requests; it computes a prompt once, since several responses share it.

    Args:
        spec: settings of the engine; its options are variables of the chat template.
        tokenizer: the model's tokenizer.

    Returns:
        A function of a request. It returns the token ids of the prompt and of the response, or an error reply, and
        raises an `InputError` if an end token is requested and the tokenizer has none.
    """
    options = dict(spec.options)
    prompts: dict[Any, tuple[int, ...] | Reply] = {}
    ends: dict[bool, int] = {}

    def tokenise(request: ScoringRequest) -> tuple[tuple[int, ...], tuple[int, ...]] | Reply:
        key = (request.messages, request.prompt, request.tools)
        if key not in prompts:
            prompts[key] = tokenise_prompt(request, spec, tokenizer)
        prompt = prompts[key]
        if isinstance(prompt, Reply):
            return prompt
        if not is_text(request.response):
            return error_reply("bad_request", "the response contains an unpaired surrogate")
        is_chat = bool(request.messages)
        response = tokenise_response(tokenizer, None if is_chat else request.prompt, request.response)
        if not request.end:
            return prompt, response
        if is_chat not in ends:
            ends[is_chat] = end_token(tokenizer, is_chat=is_chat, options=options)
        return prompt, (*response, ends[is_chat])

    return tokenise


def tokenise_response(tokenizer: Any, prompt: str | None, response: str) -> tuple[int, ...]:
    """Return the token ids of a response, without whitespace at its ends and without an end token.

    Args:
        tokenizer: the model's tokenizer.
        prompt: the text that the response continues; None for a chat.
        response: the response. It may be empty.
    """
    text = response.strip()
    if text and prompt is not None:
        text = continuation(prompt, text)
    return tuple(tokenizer(text, add_special_tokens=False).input_ids) if text else ()


def end_token(tokenizer: Any, *, is_chat: bool = False, options: Mapping[str, Any] | None = None) -> int:
    """Return the token that ends a response: in a chat the first token of the template after a reply, if it has one.

    Raises:
        InputError: there is no such token.
    """
    if is_chat and tokenizer.chat_template:
        content = "lorem ipsum"
        turns = [{"role": "user", "content": "dolor"}, {"role": "assistant", "content": content}]
        try:
            text = tokenizer.apply_chat_template(turns, tokenize=False, **(options or {}))
        except (jinja2.TemplateError, TypeError):
            text = ""
        ids = tokenizer(text.rpartition(content)[2].strip(), add_special_tokens=False).input_ids if text else []
        if ids and ids[0] in tokenizer.all_special_ids:
            return int(ids[0])
    if tokenizer.eos_token_id is None:
        raise InputError("the tokenizer has no end-of-text token: pass end=False")
    return int(tokenizer.eos_token_id)
