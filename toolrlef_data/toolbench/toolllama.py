r"""toolllama: steps in the format of upstream's training file for ToolLLaMA, byte for byte.

Upstream (https://github.com/OpenBMB/ToolBench, preprocess/preprocess_toolllama_data.py) writes one sample per step, a
list of turns {"from", "value"}. A call becomes the text "\nThought: ...\nAction: name\nAction Input: arguments". Its
thoughts are those of the preceding messages without a call. Upstream loses a thought

- that shares a message with its call,
- or is separated from its call by another turn, such as a diversity prompt.

A last message without a call yields no sample.

Upstream's script fails on some files. This module reads a missing content as null and a null call as no call, and adds
no output format to a system message without upstream's sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from toolrlef_data.toolbench.messages import is_hidden

__all__ = ["loses_thought", "sample_name", "system_text", "to_conversation"]

Messages = Sequence[Mapping[str, Any]]
Turn = dict[str, Any]  # its "value" is null if the content of a user or function message is null

SENTENCE = "with a function call to actually excute your step."  # misspelt by upstream
FORMAT = " Your output should follow this format:\nThought:\nAction\nAction Input:\n"
FUNCTIONS = "\nSpecifically, you have access to the following APIs: "


def to_conversation(
    messages: Messages, functions: Sequence[Mapping[str, Any]], keep_thought: bool = False
) -> list[Turn] | None:
    r"""Convert a step to upstream's turns, or return None if upstream has no sample for it.

    With `keep_thought`, which upstream does not offer:

    - the text beside a call is added to its thoughts, each on its line;
    - a thought before a hidden diversity prompt (`valid` false) joins the turn of its call, after the prompt;
    - empty thoughts are omitted if the call has another thought.

    Args:
        messages: history and target, in ToolBench's format.
        functions: parsed schemas from the file; upstream prints them with Python's `str`.
        keep_thought: whether to keep all thoughts.

    >>> call = {"role": "assistant", "content": "I look.", "function_call": {"name": "ping", "arguments": "{}"}}
    >>> to_conversation([{"role": "user", "content": "Hi"}, call], [])
    [{'from': 'user', 'value': 'Hi'}, {'from': 'assistant', 'value': '\nThought: \nAction: ping\nAction Input: {}'}]
    >>> to_conversation([call], [], keep_thought=True)
    [{'from': 'assistant', 'value': '\nThought: I look.\nAction: ping\nAction Input: {}'}]
    """
    if not messages or not _has_call(messages[-1]):
        return None
    turns: list[Turn] = []
    thoughts: list[str] = []  # since the last call
    for message in messages:
        role, content = message["role"], message.get("content")
        if role != "assistant":
            turns.append({"from": role, "value": system_text(content, functions) if role == "system" else content})
            if not (keep_thought and is_hidden(message)):
                thoughts = []
            continue
        if keep_thought:
            thoughts += [content] if content else []
        elif not _has_call(message):
            thoughts.append(content or "")
        if _has_call(message):
            call = message["function_call"]
            thought = "".join(f"\nThought: {text}" for text in thoughts or [""])
            value = f"{thought}\nAction: {call['name']}\nAction Input: {call['arguments']}"
            turns.append({"from": role, "value": value})
            thoughts = []
    return turns


def loses_thought(messages: Messages) -> bool:
    """Return whether upstream loses a thought of the target, either beside its call or before a diversity prompt.

    >>> target = {"role": "assistant", "content": "I look.", "function_call": {"name": "ping", "arguments": ""}}
    >>> loses_thought([target])
    True
    """
    if not messages or not _has_call(messages[-1]):
        return False
    if messages[-1].get("content"):
        return True
    after_prompt = False
    for message in reversed(messages[:-1]):
        if is_hidden(message):
            after_prompt = True
        elif message["role"] != "assistant" or _has_call(message):
            return False
        elif after_prompt and message.get("content"):
            return True
    return False


def system_text(content: str | None, functions: Sequence[Mapping[str, Any]]) -> str:
    """Return upstream's system message: the output format after its sentence, and the functions at the end.

    >>> system_text("Help.", [{"name": "ping"}])
    "Help.\\nSpecifically, you have access to the following APIs: [{'name': 'ping'}]"
    """
    return (content or "").replace(SENTENCE, SENTENCE + FORMAT) + FUNCTIONS + str(functions)


def sample_name(messages: Messages, query: str) -> str:
    """Return upstream's id of a sample, which is not unique: the index of the target and the query.

    >>> sample_name([{"role": "user"}, {"role": "assistant"}], "How warm is Oslo?")
    'Step 1: How warm is Oslo?'
    """
    return f"Step {len(messages) - 1}: {query}"


def _has_call(message: Mapping[str, Any]) -> bool:
    return message["role"] == "assistant" and message.get("function_call") is not None
