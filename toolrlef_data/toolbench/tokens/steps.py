"""steps: one step, a history and its target, in the tokens of a chat template, every check passed.

Two chats are rendered: the history up to where the model answers, and the same with the target. The tokens of the first
must begin the second; what follows, up to the token that ends the turn, is the target's.
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
from toolrlef_data.toolbench.tokens.chat_template import Chat, TokenizerSource, left_out

__all__ = ["Step", "TokeniseSettings", "fitting_step"]

Message = Mapping[str, Any]

_ADVISED = frozenset(
    {"template_refused", *(f"template_without_{what}" for what in ("tools", "calls", "results", "content"))}
)
_ADVICE = 'pass protocol="text" for a template without tools'
_PROBE = "keptword"


@dataclass(frozen=True)
class TokeniseSettings:
    """How samples become tokens; the arguments of `tokenise`, checked."""

    kind: ClassVar[str] = "tokenise"
    chat: TokenizerSource
    protocol: str
    max_length: int | None
    too_long: str
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One step in tokens: history and target in `ids`, the target from `start` to `end`."""

    ids: list[int]
    start: int
    end: int
    shortened: int = 0

    @property
    def own(self) -> list[int]:
        return self.ids[: self.end]


def fitting_step(
    chat: Chat, history: Sequence[Message], target: Message, tools: Any, settings: TokeniseSettings
) -> Step:
    """A step in tokens, its history shortened where that is wanted and needed."""
    whole = _tokens(chat, history, target, tools, settings)
    most = settings.max_length
    if most is None or len(whole.ids) <= most:
        return whole
    if settings.too_long == "drop":
        raise UnusableRow("too_long", _lengths(whole, most))
    groups = _groups(history)

    def without(count: int) -> Step:
        gone = {n for group in groups[:count] for n in group}
        kept = [message for n, message in enumerate(history) if n not in gone]
        step = _tokens(chat, kept, target, tools, settings)
        return replace(step, shortened=len(gone))

    fewest = bisect_left(range(1, len(groups)), True, key=lambda count: len(without(count).ids) <= most) + 1
    shorter = without(fewest) if groups else whole
    if len(shorter.ids) > most:
        raise UnusableRow("too_long", f"without {shorter.shortened} messages still {_lengths(shorter, most)}")
    return shorter


def _groups(history: Sequence[Message]) -> list[list[int]]:
    """What can be left out of a history, oldest first: turns behind the opening, each call with all its results.

    The last message of the user stays: it is what the target answers.
    """
    opening = next((n for n, m in enumerate(history) if m["role"] not in ("system", "user")), len(history))
    asked = max((n for n, message in enumerate(history) if message["role"] == "user"), default=-1)
    groups: list[list[int]] = []
    for n in range(opening, len(history)):
        if history[n]["role"] == "tool" and groups:
            groups[-1].append(n)
        else:
            groups.append([n])
    return [group for group in groups if asked not in group]


def _lengths(step: Step, most: int) -> str:
    return f"{len(step.ids)} tokens, {step.end - step.start} of them the target's; max_length is {most}"


def _tokens(chat: Chat, history: Sequence[Message], target: Message, tools: Any, settings: TokeniseSettings) -> Step:
    """A step in tokens, every check passed."""
    if not (target["content"] or "").strip() and not target["tool_calls"]:
        raise UnusableRow("empty_target")
    options = settings.options
    before, turns = _turns(history, tools, settings), _turns([*history, target], tools, settings)
    if settings.protocol == "text":
        tools = []  # they stand in the turns
    own: list[str] = [turns[-1]["content"]]
    for call in turns[-1].get("tool_calls", ()):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        own += [name, arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)]
    if found := next(filter(None, map(chat.special_texts.search, own)), None):
        raise UnusableRow("special_token_in_target", f"{found[0]} stands in what the model writes")
    try:
        asked, full = chat.render(before, tools, options, ask=True), chat.render(turns, tools, options, ask=False)
        lost = left_out(chat, turns, tools, options)
    except UnusableRow as fault:
        raise _advised(fault, settings) from None
    if lost is not None:
        raise _advised(lost, settings)
    first, ids = chat.encode([asked, full])
    if not full.startswith(asked):
        raise UnusableRow("template_not_prefix", _parting(asked, full))
    answer, tokens = full[len(asked) :], ids[len(first) :]
    if ids[: len(first)] != first:
        joined = f"{asked[-20:]!r} and {answer[:20]!r}"
        raise UnusableRow("template_not_prefix", f"the tokenizer joins history and target: {joined}")
    written = _squeezed(answer)
    if not any(_squeezed(form) in written for form in _forms(own[0])):
        raise UnusableRow("template_without_content", "the chat template leaves out some of the target's text")
    if (spelt := _squeezed(chat.text_of(tokens))) != written:
        raise UnusableRow("tokenizer_loses_text", _parting(written, spelt))
    end = chat.without_blanks(tokens)
    _check_end(chat, tokens[:end], written, options)
    return Step(ids, len(first), len(first) + end)


def _turns(messages: Sequence[Message], tools: Any, settings: TokeniseSettings) -> Sequence[Message]:
    return render_text_turns(messages, tools) if settings.protocol == "text" else template_messages(messages)


def _forms(text: str) -> tuple[str, ...]:
    """A text as it is, and as templates write it into JSON."""
    return text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]


def _check_end(chat: Chat, tokens: Sequence[int], written: str, options: Mapping[str, Any]) -> None:
    last = tokens[-1]
    if last in chat.special_ids:
        if tokens.count(last) > 1:
            raise UnusableRow("special_token_in_target", f"{chat.text_of([last])} stands inside the target")
        return
    # A template may end its turns in plain words: those that stand behind any text of the model.
    probe = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": _PROBE}]
    end = _squeezed(chat.render(probe, [], options, ask=False).rpartition(_PROBE)[2])
    if not end or not written.endswith(end):
        raise UnusableRow("template_without_end", "no special token and no words of the template end the turn")


def _advised(fault: UnusableRow, settings: TokeniseSettings) -> UnusableRow:
    told = fault.reason in _ADVISED and settings.protocol == "tools"
    return UnusableRow(fault.reason, f"{fault.detail}; {_ADVICE}" if told else fault.detail)


def _squeezed(text: str) -> str:
    """A text without blanks, and without the differences that tokenizers' normalisation makes."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def _parting(expected: str, found: str) -> str:
    at = next(
        (n for n, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b), min(len(expected), len(found))
    )
    return f"expected {expected[at : at + 30]!r}, found {found[at : at + 30]!r}"
