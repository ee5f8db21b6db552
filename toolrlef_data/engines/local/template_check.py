"""Detection of message parts that a chat template silently omits.

Each part (function name, text, tool call, arguments) is replaced by a unique marker, and the rendered text is searched
for the markers. The parts themselves prove nothing: a function's name also occurs in the tool schemas, and a template
may trim or escape a text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Part", "find_omitted_parts"]

Turn = Mapping[str, Any]


class Part(NamedTuple):
    """A part of a chat.

    Args:
        kind: "function" (the name in a tool schema), "content", "call" (the name in a tool call) or "arguments".
        turn: number of the message, from 0; 0 for a tool schema.
        name: function name; "" for a content.
    """

    kind: str
    turn: int = 0
    name: str = ""


def find_omitted_parts(
    turns: Sequence[Turn],
    tools: Sequence[Turn],
    contents: Mapping[int, str],
    render: Callable[[Sequence[Turn], Sequence[Turn]], str],
) -> list[Part]:
    """Return the parts of a chat that a template omits.

    Args:
        turns: messages in the templates' format; the arguments of a tool call are an object or a text.
        tools: function schemas, each {"type": "function", "function": ...}; their names are checked.
        contents: message number -> text to render before the marker, for the messages whose content is checked.
        render: (messages, schemas) -> text; only called if there is a part to check.

    >>> chat = [{"role": "user", "content": "Hi"}, {"role": "tool", "content": "Rain."}]
    >>> find_omitted_parts(chat, [], {0: "", 1: ""}, lambda turns, tools: turns[0]["content"])
    [Part(kind='content', turn=1, name='')]
    """
    parts: list[Part] = []

    def marker(*part: Any) -> str:
        parts.append(Part(*part))
        return f"kept{len(parts) - 1}word"

    def mark_tool(tool: Turn) -> Turn:
        return {**tool, "function": {**tool["function"], "name": marker("function", 0, tool["function"]["name"])}}

    def mark_call(n: int, call: Turn) -> Turn:
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        name_marker, argument_marker = marker("call", n, name), marker("arguments", n, name)
        marked = {argument_marker: argument_marker} if isinstance(arguments, dict) else argument_marker
        return {**call, "function": {"name": name_marker, "arguments": marked}}

    marked_tools = [mark_tool(tool) for tool in tools]
    marked_turns = []
    for n, turn in enumerate(turns):
        changes: dict[str, Any] = {"content": contents[n] + marker("content", n)} if n in contents else {}
        if turn.get("tool_calls"):
            changes["tool_calls"] = [mark_call(n, call) for call in turn["tool_calls"]]
        marked_turns.append({**turn, **changes})
    text = render(marked_turns, marked_tools) if parts else ""
    return [part for n, part in enumerate(parts) if f"kept{n}word" not in text]
