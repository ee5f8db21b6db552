"""steps: tokenise one step with a chat template, and check the result.

Two chats are rendered: the history with a generation prompt, and the history with the target. The tokens of the first
must be a prefix of the second. The tokens after it, up to the one that ends the turn, are the target's.
"""

from __future__ import annotations

import json
import unicodedata
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from toolrlef_data.records import UnusableRow
from toolrlef_data.toolbench.messages import template_messages
from toolrlef_data.toolbench.search.protocols import render_text_turns
from toolrlef_data.toolbench.tokens.chat_template import ChatTokenizer, TokenizerSource, find_omitted_part

__all__ = ["TokenStep", "TokeniseSettings", "fit_step"]

Message = Mapping[str, Any]

# The reasons that protocol="text" can avoid.
_PROTOCOL_REASONS = frozenset(
    {"template_refused", *(f"template_without_{kind}" for kind in ("tools", "calls", "results", "content"))}
)
_PROTOCOL_ADVICE = 'pass protocol="text" for a template without tool support'
_PROBE = "keptword"


@dataclass(frozen=True)
class TokeniseSettings:
    """Checked arguments of `tokenise`."""

    kind: ClassVar[str] = "tokenise"
    chat: TokenizerSource
    protocol: str
    max_length: int | None
    too_long: str
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TokenStep:
    """One step as token ids.

    Args:
        ids: token ids of history and target.
        start, end: range of the target in `ids`; the end is exclusive.
        shortened: number of messages removed from the history.
    """

    ids: list[int]
    start: int
    end: int
    shortened: int = 0

    @property
    def prefix(self) -> list[int]:
        """The tokens up to the end of the target."""
        return self.ids[: self.end]


def fit_step(
    chat: ChatTokenizer, history: Sequence[Message], target: Message, tools: Any, settings: TokeniseSettings
) -> TokenStep:
    """Tokenise a step, with its history shortened to `max_length` if the settings allow it.

    Raises:
        UnusableRow: the step is too long, or the chat template or tokenizer fails a check.
    """
    step = _tokenise_step(chat, history, target, tools, settings)
    max_length = settings.max_length
    if max_length is None or len(step.ids) <= max_length:
        return step
    if settings.too_long == "drop":
        raise UnusableRow("too_long", _describe_length(step, max_length))
    groups = _removable_groups(history)

    def without_oldest(count: int) -> TokenStep:
        removed = {n for group in groups[:count] for n in group}
        messages = [message for n, message in enumerate(history) if n not in removed]
        shorter = _tokenise_step(chat, messages, target, tools, settings)
        return replace(shorter, shortened=len(removed))

    count = bisect_left(range(1, len(groups)), True, key=lambda count: len(without_oldest(count).ids) <= max_length) + 1
    shortest = without_oldest(count) if groups else step
    if len(shortest.ids) > max_length:
        length = _describe_length(shortest, max_length)
        raise UnusableRow("too_long", f"after removing {shortest.shortened} messages: {length}")
    return shortest


def _removable_groups(history: Sequence[Message]) -> list[list[int]]:
    """Return the indices of the messages that can be removed from a history, oldest first, each call with its results.

    The opening messages and the last user message cannot be removed.
    """
    opening = next((n for n, message in enumerate(history) if message["role"] not in ("system", "user")), len(history))
    last_user = max((n for n, message in enumerate(history) if message["role"] == "user"), default=-1)
    groups: list[list[int]] = []
    for n in range(opening, len(history)):
        if history[n]["role"] == "tool" and groups:
            groups[-1].append(n)
        else:
            groups.append([n])
    return [group for group in groups if last_user not in group]


def _describe_length(step: TokenStep, max_length: int) -> str:
    return f"{len(step.ids)} tokens, {step.end - step.start} of the target; max_length is {max_length}"


def _tokenise_step(
    chat: ChatTokenizer, history: Sequence[Message], target: Message, tools: Any, settings: TokeniseSettings
) -> TokenStep:
    """Return a step in tokens that passes all checks."""
    if not (target["content"] or "").strip() and not target["tool_calls"]:
        raise UnusableRow("empty_target")
    options = settings.options
    history_turns, turns = _turns(history, tools, settings), _turns([*history, target], tools, settings)
    if settings.protocol == "text":
        tools = []  # already in the turns
    target_texts: list[str] = [turns[-1]["content"]]
    for call in turns[-1].get("tool_calls", ()):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        target_texts += [name, arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)]
    if match := next(filter(None, map(chat.special_texts.search, target_texts)), None):
        raise UnusableRow("special_token_in_target", f"the target contains {match[0]}")
    try:
        prompt = chat.render(history_turns, tools, options, ask=True)
        full = chat.render(turns, tools, options, ask=False)
        omission = find_omitted_part(chat, turns, tools, options)
    except UnusableRow as error:
        raise _with_advice(error, settings) from None
    if omission is not None:
        raise _with_advice(omission, settings)
    prompt_ids, ids = chat.encode([prompt, full])
    if not full.startswith(prompt):
        raise UnusableRow("template_not_prefix", _describe_difference(prompt, full))
    completion, completion_ids = full[len(prompt) :], ids[len(prompt_ids) :]
    if ids[: len(prompt_ids)] != prompt_ids:
        border = f"{prompt[-20:]!r} and {completion[:20]!r}"
        raise UnusableRow("template_not_prefix", f"a token spans history and target: {border}")
    expected = _squeeze(completion)
    if not any(_squeeze(form) in expected for form in _written_forms(target_texts[0])):
        raise UnusableRow("template_without_content", "the chat template omits part of the target's text")
    if (decoded := _squeeze(chat.decode(completion_ids))) != expected:
        raise UnusableRow("tokenizer_loses_text", _describe_difference(expected, decoded))
    length = chat.length_without_blanks(completion_ids)
    _check_end(chat, completion_ids[:length], expected, options)
    return TokenStep(ids, len(prompt_ids), len(prompt_ids) + length)


def _turns(messages: Sequence[Message], tools: Any, settings: TokeniseSettings) -> Sequence[Message]:
    return render_text_turns(messages, tools) if settings.protocol == "text" else template_messages(messages)


def _written_forms(text: str) -> tuple[str, ...]:
    """Return a text unchanged, and the forms in which templates may write it into JSON."""
    return text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]


def _check_end(chat: ChatTokenizer, tokens: Sequence[int], completion: str, options: Mapping[str, Any]) -> None:
    """Raise UnusableRow unless the target ends with its only end token, or with a text that the template adds."""
    last = tokens[-1]
    if last in chat.special_ids:
        if tokens.count(last) > 1:
            raise UnusableRow("special_token_in_target", f"{chat.decode([last])} occurs before the end of the target")
        return
    # A template may end its turns with plain text, which also follows the content of a probe.
    probe = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": _PROBE}]
    end = _squeeze(chat.render(probe, [], options, ask=False).rpartition(_PROBE)[2])
    if not end or not completion.endswith(end):
        raise UnusableRow("template_without_end", "neither a special token nor a text of the template ends the turn")


def _with_advice(error: UnusableRow, settings: TokeniseSettings) -> UnusableRow:
    is_avoidable = error.reason in _PROTOCOL_REASONS and settings.protocol == "tools"
    return UnusableRow(error.reason, f"{error.detail}; {_PROTOCOL_ADVICE}" if is_avoidable else error.detail)


def _squeeze(text: str) -> str:
    """Return a text without whitespace, in the normal form that tokenizers may produce."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def _describe_difference(expected: str, found: str) -> str:
    pairs = enumerate(zip(expected, found, strict=False))
    start = next((n for n, (a, b) in pairs if a != b), min(len(expected), len(found)))
    return f"expected {expected[start : start + 30]!r}, found {found[start : start + 30]!r}"
