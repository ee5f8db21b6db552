r"""toolllama: a step as upstream's training file for ToolLLaMA has it, byte for byte.

Upstream (https://github.com/OpenBMB/ToolBench, preprocess/preprocess_toolllama_data.py) writes one sample a step, a
list of turns {"from", "value"}. A call becomes text, "\nThought: ...\nAction: name\nAction Input: arguments", with the
thoughts of the messages before it that held nothing else. Thoughts are lost on the way: one that stands beside its
call, always; one of its own, where another turn comes between it and the call, as a diversity prompt does. A last
message without a call is no sample.

Where upstream's script ends with an error, this goes on: a missing content is read as null, a null call as none, and a
system message without upstream's sentence is left without the words behind it. Not covered: which files and lists are
taken (`trajectories`), and the file itself (`exports`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from toolrlef_data.toolbench.messages import is_hidden

__all__ = ["conversations_of", "lost_thought", "name_of", "system_text"]

Messages = Sequence[Mapping[str, Any]]
Turn = dict[str, Any]  # "value" is null where a user's or a function's content is

SENTENCE = "with a function call to actually excute your step."  # the misspelling is upstream's
FORMAT = " Your output should follow this format:\nThought:\nAction\nAction Input:\n"
FUNCTIONS = "\nSpecifically, you have access to the following APIs: "


def conversations_of(
    messages: Messages, functions: Sequence[Mapping[str, Any]], keep_thought: bool = False
) -> list[Turn] | None:
    r"""The turns of one list of `train_messages`; None where upstream makes no sample of it.

    Args:
        messages: history and target, as ToolBench has them; the last one is the target.
        functions: their schemas, as parsed from the file: upstream prints them as Python does.
        keep_thought: ours, not upstream's. The content beside a call becomes its thought, behind those of the messages
            before it, each on its line; a thought with a hidden diversity prompt (`valid` false) between it and its
            call is kept, in the turn of the call, behind the prompt; thoughts without a text give no line where there
            is one with a text. A last message without a call is still no sample: its text is the next step's thought.

    >>> call = {"role": "assistant", "content": "I look.", "function_call": {"name": "ping", "arguments": "{}"}}
    >>> conversations_of([{"role": "user", "content": "Hi"}, call], [])
    [{'from': 'user', 'value': 'Hi'}, {'from': 'assistant', 'value': '\nThought: \nAction: ping\nAction Input: {}'}]
    >>> conversations_of([call], [], keep_thought=True)
    [{'from': 'assistant', 'value': '\nThought: I look.\nAction: ping\nAction Input: {}'}]
    """
    if not messages or not _calls(messages[-1]):
        return None
    turns: list[Turn] = []
    thoughts: list[str] = []  # that wait for their call
    for message in messages:
        role, content = message["role"], message.get("content")
        if role != "assistant":
            turns.append({"from": role, "value": system_text(content, functions) if role == "system" else content})
            if not (keep_thought and is_hidden(message)):
                thoughts = []
            continue
        if keep_thought:
            thoughts += [content] if content else []
        elif not _calls(message):
            thoughts.append(content or "")
        if _calls(message):
            call = message["function_call"]
            thought = "".join(f"\nThought: {text}" for text in thoughts or [""])
            value = f"{thought}\nAction: {call['name']}\nAction Input: {call['arguments']}"
            turns.append({"from": role, "value": value})
            thoughts = []
    return turns


def lost_thought(messages: Messages) -> bool:
    """Whether upstream's way loses a thought of the target: beside its call, or behind a diversity prompt.

    >>> lost_thought([{"role": "assistant", "content": "I look.", "function_call": {"name": "ping", "arguments": ""}}])
    True
    """
    if not messages or not _calls(messages[-1]):
        return False
    if messages[-1].get("content"):
        return True
    hidden = False
    for message in reversed(messages[:-1]):
        if is_hidden(message):
            hidden = True
        elif message["role"] != "assistant" or _calls(message):
            return False
        elif hidden and message.get("content"):
            return True
    return False


def system_text(content: str | None, functions: Sequence[Mapping[str, Any]]) -> str:
    """The system message as upstream trains it: the form of a reply behind its sentence, the functions at the end.

    >>> system_text("Help.", [{"name": "ping"}])
    "Help.\\nSpecifically, you have access to the following APIs: [{'name': 'ping'}]"
    """
    return (content or "").replace(SENTENCE, SENTENCE + FORMAT) + FUNCTIONS + str(functions)


def name_of(messages: Messages, query: str) -> str:
    """Upstream's id of a sample, which is not unique: the target's place in its list, and the query.

    >>> name_of([{"role": "user"}, {"role": "assistant"}], "How warm is Oslo?")
    'Step 1: How warm is Oslo?'
    """
    return f"Step {len(messages) - 1}: {query}"


def _calls(message: Mapping[str, Any]) -> bool:
    return message["role"] == "assistant" and message.get("function_call") is not None
