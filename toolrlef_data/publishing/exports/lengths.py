"""Lengths of records in tokens, and what a model's chat template trains of them.

TRL truncates or drops sequences of more than `max_length` tokens, 1,024 by default, without an error. The check renders
each target after its prompt. A text that the template adds before a reply, such as an empty block of reasoning, is
trained too: a warning quotes it. These records do not fit:

| reason | cause |
|---|---|
| those of `tokenise` | the chat template omits a part, such as calls or tools, or does not train the end of the turn |
| merged_tokens | the first tokens of a text reply merge with the prompt |
| tokenizer_loses_text | the tokens of a text reply do not decode to it |
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from toolrlef_data.publishing.exports.messages import call_text
from toolrlef_data.publishing.exports.turns import Turns
from toolrlef_data.records import UnusableRow
from toolrlef_data.toolbench.messages import parse_tools, template_messages
from toolrlef_data.toolbench.tokens.chat_template import ChatTokenizer, find_tokenizer, load_chat_tokenizer
from toolrlef_data.toolbench.tokens.steps import TokeniseSettings, fit_step

__all__ = ["Meter", "Target", "targets_of"]

log = logging.getLogger("toolrlef_data")
TRL_DEFAULT = 1024  # `max_length` of TRL's configurations
CHARACTERS_PER_TOKEN = 3  # at least, of English text
REPLIES = ("completion", "reference", "chosen", "rejected", "output", "preferred_output", "non_preferred_output")
MARK = "replyword"
ROLES = {"human": "user", "gpt": "assistant", "function_call": "assistant", "observation": "tool"}


class Target(NamedTuple):
    """A prompt, a reply that is trained, and the tools; the reply is empty for a prompt alone."""

    prompt: Turns
    reply: Turns
    tools: list[Any]


class Meter:
    """Counts the tokens of records, and checks them with a model's chat template.

    Args:
        tokenizer: model whose tokens are counted; default: that of the check, or characters are counted.
        check_with: model whose chat template checks the records, or None.
    """

    def __init__(self, tokenizer: str | None, check_with: str | None) -> None:
        self.name = tokenizer or check_with
        self.chat = _load(self.name) if self.name else None
        self.checker = _load(check_with) if check_with else None
        self.settings = TokeniseSettings(find_tokenizer(check_with), "tools", None, "drop", {}) if check_with else None
        self.longest = self.n_long = self.count = 0
        self.n_repeated = 0  # responses with the text of an earlier response to their prompt
        self.added: Counter[str] = Counter()  # texts of the template before a reply

    def add(self, record: Mapping[str, Any], text: bytes) -> None:
        """Check a record, and count its longest sequence; `text` is the record in the file."""
        if self.checker is not None and self.settings is not None:
            for target in targets_of(record):
                check_target(target, self.checker, self.settings)
                self.added[added_text(target, self.checker)] += 1
        chat = self.chat
        length = len(text.decode()) if chat is None else max(n_tokens(target, chat) for target in targets_of(record))
        self.longest, self.count = max(self.longest, length), self.count + 1
        self.n_long += length > TRL_DEFAULT * (CHARACTERS_PER_TOKEN if chat is None else 1)

    def report(self, format: str, name: str) -> None:
        """Log the repeated responses, and the length of the longest record: a warning if TRL's default could cut it."""
        if self.n_repeated:
            text = "%s: %d responses repeat an earlier text of their row: each text is used once"
            log.info(text, name, self.n_repeated)
        for text, count in self.added.items():
            if text.strip():
                what = (
                    "%s: the chat template puts %r before %d of the replies; trainers train it, so the model writes it"
                )
                log.warning(what, name, text, count)
        level = logging.WARNING if format.startswith("trl") and self.n_long else logging.INFO
        if self.chat is None:
            text = "%s: the longest of %d records has %d characters; tokenizer= counts its tokens for max_length="
            log.log(level, text, name, self.count, self.longest)
            return
        text = "%s: the longest of %d records has %d tokens of %s: train with max_length=%d or more; %d exceed %d"
        log.log(level, text, name, self.count, self.longest, self.name, self.longest, self.n_long, TRL_DEFAULT)


def _load(model: str) -> ChatTokenizer:
    return load_chat_tokenizer(find_tokenizer(model))


def targets_of(record: Mapping[str, Any]) -> Iterator[Target]:
    """Yield the trained replies of a record of any format, each with its prompt.

    >>> list(targets_of({"prompt": "1+1=", "completion": " 2"}))
    [Target(prompt='1+1=', reply=' 2', tools=[])]
    """
    if isinstance(record.get("input"), Mapping):  # openai_preference
        record = {**record, "prompt": record["input"]["messages"], "tools": record["input"].get("tools", [])}
    tools = parse_tools(given) if isinstance(given := record.get("tools") or [], str) else given
    if "messages" in record:
        messages = record["messages"]
        for n, message in enumerate(messages):
            if message.get("train") or message.get("weight"):
                yield Target(messages[:n], [message], tools)
        return
    if "conversations" in record:
        turns = [_message(turn) for turn in record["conversations"]]
        prompt: Turns = [{"role": "system", "content": record["system"]}, *turns] if record.get("system") else turns
        replies = [[_message(record[side])] for side in ("chosen", "rejected") if side in record]
        yield from (Target(prompt, reply, tools) for reply in replies)
        if not replies:
            yield Target(prompt[:-1], prompt[-1:], tools)
        return
    if "instruction" in record:
        prompt = [{"role": "user", "content": f"{record['instruction']}\n{record['input']}".strip()}]
        for side in REPLIES:
            if side in record:
                yield Target(prompt, [{"role": "assistant", "content": record[side]}], tools)
        return
    prompt = record["prompt"] if "prompt" in record else record["query"]
    replies = [record[side] for side in REPLIES if side in record] or record.get("responses", [])
    yield from (Target(prompt, reply, tools) for reply in replies)
    if not replies:
        yield Target(prompt, "" if isinstance(prompt, str) else [], tools)


def _message(turn: Mapping[str, str]) -> dict[str, Any]:
    """Return a turn of the format sharegpt as a message."""
    message: dict[str, Any] = {"role": ROLES.get(turn["from"], turn["from"]), "content": turn["value"]}
    if turn["from"] == "function_call":
        calls = json.loads(turn["value"])
        calls = calls if isinstance(calls, list) else [calls]
        message |= {"content": "", "tool_calls": [{"type": "function", "function": call} for call in calls]}
    return message


def n_tokens(target: Target, chat: ChatTokenizer) -> int:
    """Return the number of tokens of a prompt and its reply; TRL adds one to end a text reply."""
    if isinstance(target.prompt, str):
        return len(chat.tokenizer(f"{target.prompt}{target.reply}", verbose=False).input_ids) + 1
    messages = [*target.prompt, *target.reply]
    try:
        text = chat.render(messages, target.tools, {}, ask=False)
    except UnusableRow:  # a model without a template, or with one that refuses the messages
        text = json.dumps([*messages, *target.tools], ensure_ascii=False)
    return len(chat.encode([text])[0])


def check_target(target: Target, chat: ChatTokenizer, settings: TokeniseSettings) -> None:
    """Raise `UnusableRow` if a trainer would not train a reply completely, or under another prompt."""
    if not target.reply:
        return
    if not isinstance(target.prompt, str):
        *history, last = [_as_column(message) for message in [*target.prompt, *target.reply]]
        try:
            fit_step(chat, history, last, target.tools, settings)
        except UnusableRow as error:  # without the advice for `tokenise`
            raise UnusableRow(error.reason, error.detail.partition("; pass protocol=")[0]) from None
        return
    prompt, both = (
        chat.tokenizer(text, verbose=False).input_ids for text in (target.prompt, f"{target.prompt}{target.reply}")
    )
    if both[: len(prompt)] != prompt:
        raise UnusableRow("merged_tokens", f"tokens merge where the reply starts: {target.reply!r:.80}")
    if chat.decode(both[len(prompt) :]) != target.reply:
        raise UnusableRow("tokenizer_loses_text", f"the tokens do not decode to the reply: {target.reply!r:.80}")


def added_text(target: Target, chat: ChatTokenizer) -> str:
    """Return the text that a chat template puts between the prompt and the text of a reply; it is trained."""
    if not target.reply or isinstance(target.prompt, str):
        return ""
    *history, last = template_messages([_as_column(message) for message in [*target.prompt, *target.reply]])
    try:
        prompt = chat.render(history, target.tools, {}, ask=True)
        full = chat.render([*history, {**last, "content": MARK}], target.tools, {}, ask=False)
    except UnusableRow:  # a template that refuses a text beside a call
        return ""
    before, mark, _ = full.rpartition(MARK)
    return before[len(prompt) :] if mark and before.startswith(prompt) else ""


def _as_column(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message in the form of `columns.MESSAGE`, with arguments as text."""
    fields = {name: message.get(name) for name in ("role", "content", "name", "tool_call_id")}
    calls = [
        {
            "id": call.get("id"),
            "type": "function",
            "function": {"name": call["function"]["name"], "arguments": call_text(call["function"])},
        }
        for call in message.get("tool_calls") or ()
    ]
    return {**fields, "tool_calls": calls or None}
