"""The records of trajectories, ToolLLaMA's turns and preference pairs.

All formats except toolllama have no null values. A message without content gets "", because chat templates concatenate
it unchecked; only openai omits the content of a message with calls. Every format marks the trained messages. Sources:

- trl: https://huggingface.co/docs/trl/dataset_formats (tool calling, prompt-completion, preference). TRL has no
  training flag per message, so a merged sample yields one record per target. Most templates render arguments with
  `tojson`, which would quote a string; therefore arguments are objects, as in `tokenise`.
- axolotl: https://docs.axolotl.ai/docs/dataset-formats/conversation.html. The configuration needs
  `type: chat_template`, `message_field_training: train`, `roles_to_train: []` and `train_on_eos: turn`. axolotl parses
  the arguments.
- openai: https://platform.openai.com/docs/guides/supervised-fine-tuning. Arguments are text, an assistant message with
  calls needs no content, and `tools` is omitted where there are none.

| reason | cause |
|---|---|
| no_flag | the value of `train` is null in a message |
| no_target | no message has the train flag |
| not_assistant | a message of another role has the train flag |
| no_prompt | the prompt is empty |
| no_reply | a trained message, `chosen` or `rejected` is empty |
| malformed | a message, its role, a call or its function is null; toolllama: a turn |
| unpaired_call | a result has no call before it; openai: or a call before the last message has no result, or no id |
| bad_tools | `tools` is not a JSON list of functions |
| bad_name | openai: a function name has over 64 characters, or blanks |
| bad_arguments | arguments are not JSON, or not one object where the format needs it |
| bad_number | arguments as objects: `datasets` would change a number, or cannot read it |
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from toolrlef_data.publishing.exports.messages import (
    check_messages,
    check_names,
    check_numbers,
    check_results,
    is_empty,
    plain_messages,
    target_indices,
    tools_of,
    tools_text,
)
from toolrlef_data.publishing.exports.options import Options
from toolrlef_data.records import UnusableRow

__all__ = ["axolotl", "openai", "pair_sides", "prompts_and_targets", "toolllama", "trl", "trl_preference"]

Row = Mapping[str, Any]
Messages = list[dict[str, Any]]
Records = Iterator[dict[str, Any]]


def toolllama(row: Row, options: Options) -> Records:
    if row["conversations"] is None or None in row["conversations"]:
        raise UnusableRow("malformed", "conversations or a turn is null")
    turns = [{"from": turn["from"], "value": turn["value"]} for turn in row["conversations"]]
    yield {"id": row["name"], "conversations": turns}


def trl(row: Row, options: Options) -> Records:
    tools = tools_text(row)
    for prompt, target in prompts_and_targets(row, options.arguments):
        check_numbers([*prompt, target])
        yield {"prompt": prompt, "completion": [target], "tools": tools}


def prompts_and_targets(row: Row, arguments: str) -> list[tuple[Messages, dict[str, Any]]]:
    """Return each trained message with the messages before it."""
    targets = target_indices(row["messages"])
    if targets[0] == 0:
        raise UnusableRow("no_prompt", "the first message has the train flag, so its prompt is empty")
    messages = plain_messages(row["messages"], arguments)
    return [(messages[:n], messages[n]) for n in targets]


def axolotl(row: Row, options: Options) -> Records:
    targets = target_indices(row["messages"])
    messages = [{**message, "train": n in targets} for n, message in enumerate(plain_messages(row["messages"], "text"))]
    for call in (call for message in messages for call in message.get("tool_calls", ())):
        try:
            json.loads(text := call["function"]["arguments"])  # axolotl fails on arguments that it cannot parse
        except (ValueError, TypeError, RecursionError):
            raise UnusableRow("bad_arguments", f"arguments are not JSON: {text!r:.80}") from None
    yield {"messages": messages, "tools": tools_of(row)}


def openai(row: Row, options: Options) -> Records:
    targets, messages = target_indices(row["messages"]), plain_messages(row["messages"], "text", pad_content=False)
    check_results(messages, all_answered=True)
    for n, message in enumerate(messages):
        if message["role"] == "assistant":
            message["weight"] = int(n in targets)
    tools = tools_of(row)
    check_names(messages, tools)
    yield {"messages": messages, "tools": tools} if tools else {"messages": messages}


def trl_preference(row: Row, options: Options) -> Records:
    sides = pair_sides(row, options.arguments)
    check_numbers([message for messages in sides.values() for message in messages])
    yield {**sides, "tools": tools_text(row)}


def pair_sides(row: Row, arguments: str) -> dict[str, Messages]:
    """Return the messages of `prompt`, `chosen` and `rejected`."""
    for side in ("prompt", "chosen", "rejected"):
        if not row[side]:
            raise UnusableRow("no_prompt" if side == "prompt" else "no_reply", f"{side} has no message")
        check_messages(row[side])
        other_roles = {message["role"] for message in row[side]} - {"assistant"}
        if other_roles and side != "prompt":
            raise UnusableRow("not_assistant", f"{side} has messages of the role {', '.join(sorted(other_roles))}")
        if side != "prompt" and any(map(is_empty, row[side])):
            raise UnusableRow("no_reply", f"{side} has a message with neither text nor a call")
    return {side: plain_messages(row[side], arguments) for side in ("prompt", "chosen", "rejected")}
