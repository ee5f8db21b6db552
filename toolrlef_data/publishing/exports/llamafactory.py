"""The records for LLaMA-Factory, and the entry of `dataset_info.json` that describes their file.

Calls as text are written in the format alpaca, native calls and trajectories in the format sharegpt. A record of
trajectories ends with its only trained message: the configuration needs `mask_history: true`. Source:
https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md. LLaMA-Factory serialises the arguments of calls, so
they are objects; text would be quoted twice.

| reason | cause |
|---|---|
| not_alternating | sharegpt requires human or observation, and gpt or function_call, in turn |
| text_beside_call | a message has text beside its call; sharegpt has the call alone |
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from toolrlef_data.publishing.exports.messages import tools_of
from toolrlef_data.publishing.exports.options import Options
from toolrlef_data.publishing.exports.stage1 import alpaca
from toolrlef_data.publishing.exports.stage2 import pair_facts, pair_records
from toolrlef_data.publishing.exports.trajectories import pair_sides, prompts_and_targets
from toolrlef_data.publishing.exports.turns import Turns, prompt_of, reply_to, target_of, tools_list
from toolrlef_data.records import Drop, UnusableRow

__all__ = ["dataset_entry", "pairs", "ranking", "stage1", "trajectories"]

Row = Mapping[str, Any]
Message = Mapping[str, Any]
Records = Iterator[dict[str, Any] | Drop | UnusableRow]
TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}
COLUMNS = {"instruction": "prompt", "input": "query", "output": "response", "conversations": "messages"}


def stage1(row: Row, options: Options) -> Records:
    if options.calls == "text":
        yield from alpaca(row, options)
        return
    prompt = prompt_of(row, options)
    yield _conversation([*prompt, *target_of(prompt, row, options)], tools_list(row, options))


def ranking(row: Row, options: Options) -> Records:
    for pair in pair_records(row, options, _express):
        if not isinstance(pair, tuple):
            yield pair
            continue
        prompt, better, worse = pair
        texts = {"instruction": row["instruction"], "input": row["input"]}
        shared = texts if options.calls == "text" else _conversation(prompt, tools_list(row, options))
        sides = {"chosen": better.reply, "rejected": worse.reply}
        yield {**shared, **sides, **pair_facts(better, worse, row, options)}


def _express(prompt: Turns, text: str, row: Row, options: Options) -> Any:
    [reply] = reply_to(prompt, text, row, options)
    return reply["content"] if options.calls == "text" else turn_of(reply)


def trajectories(row: Row, options: Options) -> Records:
    tools = tools_of(row)
    for prompt, target in prompts_and_targets(row, "object"):
        try:
            yield _conversation([*prompt, target], tools)
        except UnusableRow as error:  # the other targets stay
            yield error


def pairs(row: Row, options: Options) -> Records:
    sides = pair_sides(row, "object")
    if len(sides["chosen"]) > 1 or len(sides["rejected"]) > 1:
        raise UnusableRow("not_alternating", "chosen or rejected has more than one message")
    replies = {side: turn_of(sides[side][0]) for side in ("chosen", "rejected")}
    yield {**_conversation(sides["prompt"], tools_of(row)), **replies}


def _conversation(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    system = messages[0]["content"] if messages and messages[0]["role"] == "system" else ""
    rest = messages[1:] if messages and messages[0]["role"] == "system" else messages
    for n, message in enumerate(rest):
        if message["role"] not in (("user", "tool"), ("assistant",))[n % 2]:
            raise UnusableRow(
                "not_alternating", f"message {n + 1} after the system message has the role {message['role']}"
            )
    functions = [tool["function"] for tool in tools]
    try:
        text = json.dumps(functions, ensure_ascii=False, allow_nan=False) if functions else ""
    except ValueError as error:
        raise UnusableRow("not_json", str(error)) from None
    return {"conversations": [turn_of(message) for message in rest], "system": system, "tools": text}


def turn_of(message: Message) -> dict[str, str]:
    """Return a message as a turn of the format sharegpt.

    >>> turn_of({"role": "tool", "content": "72"})
    {'from': 'observation', 'value': '72'}
    """
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    if not calls:
        role = {"user": "human", "assistant": "gpt", "tool": "observation"}[message["role"]]
        return {"from": role, "value": message["content"]}
    if message["content"].strip():
        hint = "for trajectories pass keep_thought=False"
        raise UnusableRow("text_beside_call", f"text beside a call ({hint}): {message['content']!r:.80}")
    value = json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)
    return {"from": "function_call", "value": value}


def dataset_entry(file_name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of `dataset_info.json` for a file, from one of its records.

    >>> dataset_entry("train.jsonl", {"instruction": "Add.", "input": "1+1", "output": "2"})["columns"]
    {'prompt': 'instruction', 'query': 'input', 'response': 'output'}
    """
    is_sharegpt, is_ranking = "conversations" in record, "chosen" in record
    columns = {COLUMNS[name]: name for name in COLUMNS if name in record}
    columns |= {name: name for name in ("system", "tools", "chosen", "rejected") if name in record}
    entry: dict[str, Any] = {"file_name": file_name, "formatting": "sharegpt" if is_sharegpt else "alpaca"}
    entry |= {"ranking": True} if is_ranking else {}
    return {**entry, "columns": columns, **({"tags": TAGS} if is_sharegpt else {})}
