"""Parameters of a tool that takes several arguments: reading them from a text or a decoded value, and rendering them.

The argument of such a call is a JSON object, with the parameters in the order of the schema. These calls of
`convert(value, source, target)` have the same argument:

| call | form |
|---|---|
| `convert(3, "km", "m")` | by position |
| `convert(3, target="m", source="km")` | by keyword |
| `convert(3, km, m)` | texts without quotes |
| `convert({"value": 3, "source": "km", "target": "m"})` | an object |
| `{"name": "convert", "arguments": {"value": 3, ...}}` | JSON, tags and native calls |
| `{"name": "convert", "arguments": [3, "km", "m"]}` | a list |

A value that the schema does not allow, a missing or an unknown parameter is no error here: the tool refuses it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from toolrlef_data.records import clean_text
from toolrlef_data.tools.parsing.json_text import LiteralReader

__all__ = ["ArgumentList", "Parameters", "parameters_in", "read_list", "render_arguments"]

_keyword = re.compile(r"\s*(\w{1,60})\s*=(?!=)\s*").match
_blank = re.compile(r"\s*").match
_mark = re.compile(r"[(),]").search
_word = re.compile(r"\w+").fullmatch


class Parameters(NamedTuple):
    """The parameters of a tool.

    Args:
        names: the names, in the order of a call by position.
        texts: those whose value is always a text, so that `007` without quotes stays a text.
        required: those without a default.
        numbers: those whose value is never a text, but a number or null, so that `nan` without quotes is no text.
    """

    names: tuple[str, ...]
    texts: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()

    def decode(self, name: str, text: str) -> Any:
        """Return the value of a parameter that is written without quotes: a literal, a number or a text.

        It may be NaN or infinite, which `several_arguments` refuses.
        """
        if name in self.texts:
            return text
        literal = LiteralReader(text).read(0)
        if literal.state == "complete" and literal.end == len(text):
            return literal.value
        try:
            number = float(text)
        except ValueError:
            return text
        return number if math.isfinite(number) or name in self.numbers else text

    def bind(self, values: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the arguments by name in the order of the parameters, or None if one of them is given twice.

        Superfluous values are named by their positions, so that the tool refuses them.

        >>> Parameters(("value", "source")).bind([3], {"source": "km"})
        {'value': 3, 'source': 'km'}
        """
        if len(values) == 1 and not keywords and self.holds(values[0]):
            values, keywords = [], values[0]
        members = dict(zip(self.names, values, strict=False))
        members |= {str(i): values[i] for i in range(len(self.names), len(values))}
        if members.keys() & keywords.keys():
            return None
        members |= keywords
        return {name: members[name] for name in (*(n for n in self.names if n in members), *members)}

    def holds(self, value: Any) -> bool:
        """Return whether a value is an object of arguments."""
        return isinstance(value, dict) and bool(value) and value.keys() <= set(self.names)


@lru_cache(maxsize=256)
def parameters_in(schema: str) -> Parameters:
    """Return the parameters of a JSON schema, which `validate_parameters` returned.

    >>> parameters_in('{"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}').names
    ('x',)
    """
    parsed = json.loads(schema)
    types = {name: value.get("type") for name, value in parsed["properties"].items()}
    texts = frozenset(name for name, kinds in types.items() if kinds == "string")
    numbers = frozenset(name for name, kinds in types.items() if _are_numbers(kinds))
    return Parameters(tuple(types), texts, frozenset(parsed.get("required", ())), numbers)


def _are_numbers(kinds: str | Sequence[str] | None) -> bool:
    """Return whether the type, or each type, of a schema is that of a number; null is allowed beside one."""
    named = {kinds} if isinstance(kinds, str) else set(kinds or ())
    return bool(named & {"integer", "number"}) and named <= {"integer", "number", "null"}


class ArgumentList(NamedTuple):
    """The arguments that start at a position of a text.

    Args:
        end: the position after the closing parenthesis; 0 if the list cannot be read.
        members: the arguments by name; None for an empty list of a tool with required parameters.
    """

    end: int = 0
    members: dict[str, Any] | None = None


def read_list(text: str, position: int, reader: LiteralReader, parameters: Parameters) -> ArgumentList:
    """Return the arguments between the parentheses of a call.

    Args:
        text: the text.
        position: the position after the opening parenthesis.
        reader: a reader of the text, which limits the characters that are read repeatedly.
        parameters: the tool's parameters.

    >>> text = 'convert(3, km, target="m")'
    >>> read_list(text, 8, LiteralReader(text), Parameters(("value", "source", "target"))).members
    {'value': 3, 'source': 'km', 'target': 'm'}
    """
    values: list[Any] = []
    keywords: dict[str, Any] = {}
    while (position := _after_blank(text, position)) < len(text) and text[position] != ")":
        keyword = _keyword(text, position)
        start = keyword.end() if keyword else position
        name = keyword[1] if keyword else "".join(parameters.names[len(values) : len(values) + 1])
        if (keyword and name in keywords) or (not keyword and keywords):
            return ArgumentList()
        end, value = _read_value(text, start, reader, parameters, name)
        if not end:
            return ArgumentList()
        if keyword:
            keywords[name] = value
        else:
            values.append(value)
        position = end + (text[end] == ",")
    if position >= len(text):
        return ArgumentList()
    if not values and not keywords and parameters.required:
        return ArgumentList(position + 1)
    members = parameters.bind(values, keywords)
    return ArgumentList() if members is None else ArgumentList(position + 1, members)


def _after_blank(text: str, position: int) -> int:
    blank = _blank(text, position)
    return blank.end() if blank else position


def _read_value(text: str, start: int, reader: LiteralReader, parameters: Parameters, name: str) -> tuple[int, Any]:
    """Return (the position of the comma or parenthesis after a value, the value); the position is 0 on failure."""
    literal = reader.read(start)
    end = _after_blank(text, literal.end)
    is_complete = literal.state == "complete" and text[end : end + 1] in (",", ")")
    if is_complete and (name not in parameters.texts or isinstance(literal.value, (str, list, dict))):
        return end, literal.value
    if text.startswith(('"', "'", "{", "["), start):
        return 0, None
    end = _text_end(text, start, reader)
    written = clean_text(text[start:end]).strip()
    return (end, parameters.decode(name, written)) if end and written else (0, None)


def _text_end(text: str, start: int, reader: LiteralReader) -> int:
    """Return the position of the comma or parenthesis after a text without quotes, or 0; parentheses are balanced."""
    position, depth = start, 0
    while reader.steps <= reader.max_steps and (mark := _mark(text, position)):
        reader.steps += mark.end() - position
        position = mark.end()
        if mark[0] == "(":
            depth += 1
        elif not depth:
            return mark.start()
        elif mark[0] == ")":
            depth -= 1
    reader.steps += len(text) - position
    return 0


def render_arguments(arguments: Mapping[str, Any], parameters: Parameters) -> Iterator[str]:
    """Yield the forms of the text between the parentheses of a call, the shortest first.

    >>> list(render_arguments({"value": 3, "target": "m"}, Parameters(("value", "source", "target"))))[0]
    '3, target="m"'
    """
    texts = {name: json.dumps(value, ensure_ascii=False) for name, value in arguments.items()}
    n_positional = next((i for i, name in enumerate(parameters.names) if name not in texts), len(parameters.names))
    if all(map(_word, texts)):
        for n in (n_positional, 0):
            positional = parameters.names[:n]
            keywords = (f"{name}={text}" for name, text in texts.items() if name not in positional)
            yield ", ".join([*(texts[name] for name in positional), *keywords])
    yield json.dumps(arguments, ensure_ascii=False)
