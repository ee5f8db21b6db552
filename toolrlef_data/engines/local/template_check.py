"""What a chat template leaves out in silence, found with words that stand for the parts of a chat.

The parts themselves tell nothing: a function's name is among the tools anyway, and templates may trim or escape a text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Part", "find_omitted_parts"]

Turn = Mapping[str, Any]


class Part(NamedTuple):
    """A part of a chat: its kind ("function", "content", "call", "arguments"), its turn, its function's name."""

    kind: str
    turn: int = 0
    name: str = ""


def find_omitted_parts(
    turns: Sequence[Turn],
    tools: Sequence[Turn],
    contents: Mapping[int, str],
    render: Callable[[Sequence[Turn], Sequence[Turn]], str],
) -> list[Part]:
    """Parts of a chat that a template does not render: functions, texts, calls and their arguments.

    Args:
        turns: messages as templates take them, the arguments of a call an object or a text.
        tools: function schemas, each {"type": "function", "function": ...}; their names are looked for.
        contents: turns whose texts are looked for -> what stands there before the word.
        render: turns and tools -> text; called only where there is a part to look for.

    >>> asked = [{"role": "user", "content": "Hi"}, {"role": "tool", "content": "Rain."}]
    >>> find_omitted_parts(asked, [], {0: "", 1: ""}, lambda turns, tools: turns[0]["content"])
    [Part(kind='content', turn=1, name='')]
    """
    parts: list[Part] = []

    def word(*part: Any) -> str:
        parts.append(Part(*part))
        return f"kept{len(parts) - 1}word"

    def named(tool: Turn) -> Turn:
        return {**tool, "function": {**tool["function"], "name": word("function", 0, tool["function"]["name"])}}

    def called(n: int, call: Turn) -> Turn:
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        shown, inside = word("call", n, name), word("arguments", n, name)
        given = {inside: inside} if isinstance(arguments, dict) else inside
        return {**call, "function": {"name": shown, "arguments": given}}

    shown_tools = [named(tool) for tool in tools]
    shown = []
    for n, turn in enumerate(turns):
        changed: dict[str, Any] = {"content": contents[n] + word("content", n)} if n in contents else {}
        if turn.get("tool_calls"):
            changed["tool_calls"] = [called(n, call) for call in turn["tool_calls"]]
        shown.append({**turn, **changed})
    text = render(shown, shown_tools) if parts else ""
    return [part for n, part in enumerate(parts) if f"kept{n}word" not in text]
