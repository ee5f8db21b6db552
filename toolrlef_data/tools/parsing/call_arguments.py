"""Arguments of calls: the decoding of JSON and Python literals, and the choice of the argument that a tool receives.

| arguments | the tool's argument |
|---|---|
| `{"query": "tides", "k": 3}` of a tool with the parameter `query` | the value of the tool's parameter |
| `{"expression": "7*8", "unit": "kg"}` | the only value with a common name of an argument |
| `{"x": "7*8"}`, `["7*8"]`, `"7*8"` | the only text or number |
| `{"arguments": {"formula": "7*8"}}`, `"{\\"formula\\": \\"7*8\\"}"` | that of the wrapped arguments |
| `{"a": "7", "b": "8"}`, `{}`, `null` | none: the call is unreadable |

A tool with `Parameters` receives all arguments as a JSON object (see `parameters`).

Unpaired surrogates are replaced by U+FFFD (`records.clean_text`), so that every argument can be stored in a table.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

from toolrlef_data.records import clean_text
from toolrlef_data.tools.parsing.json_text import LiteralReader
from toolrlef_data.tools.parsing.parameters import Parameters

__all__ = [
    "ARGUMENT_KEYS",
    "KEYWORDS",
    "NAME_KEYS",
    "Arguments",
    "bare_argument",
    "decode_arguments",
    "json_object",
    "select_argument",
    "several_arguments",
]

NAME_KEYS = ("name", "tool", "tool_name", "function", "action", "recipient_name")
ARGUMENT_KEYS = ("arguments", "parameters", "args", "input", "tool_input", "action_input", "kwargs")
# Common names of the argument of a tool of one argument.
KEYWORDS = frozenset(
    {"argument", "expression", "formula", "input", "prompt", "q", "query", "question", "search", "term", "text"}
)
MAX_WRAPPINGS = 4
_fenced = re.compile(r"\s*```\w*\s*([{\[].*[}\]])\s*```\s*", re.DOTALL).fullmatch
# What may follow a value: superfluous closing brackets, or the arguments of a further call.
_surplus = re.compile(r"[\s}\])]*(?:$|\{)").match


class Arguments(NamedTuple):
    """The arguments of a readable call.

    Args:
        argument: the text that the tool receives; not empty, without surrounding whitespace. A tool of several
            arguments receives them as a JSON object.
        arguments: all arguments as a JSON object.
    """

    argument: str
    arguments: str


def decode_arguments(text: str, parameter: str | Parameters) -> Arguments | None:
    """Return the arguments of a native call, or None if they cannot be read.

    Args:
        text: JSON, a Python literal, or the bare argument.
        parameter: name of the tool's argument, "" if unknown; or the parameters of a tool of several arguments.

    >>> decode_arguments('{"query": "tides", "k": 3}', "query")
    Arguments(argument='tides', arguments='{"query": "tides", "k": 3}')
    """
    if fenced := _fenced(text):
        text = fenced[1]
    literal = LiteralReader(text).read(0)
    if literal.state == "complete" and _surplus(text, literal.end):
        return select_argument(literal.value, parameter)
    if text.lstrip().startswith(("{", "[", '"', "'")):
        return None
    if isinstance(parameter, Parameters) and parameter.names:
        return select_argument(parameter.decode(parameter.names[0], text), parameter)
    return select_argument(text, parameter)


def select_argument(value: Any, parameter: str | Parameters) -> Arguments | None:
    """Return the arguments in a decoded value, or None if there are none or several without a distinctive name."""
    if isinstance(parameter, Parameters):
        return _named_arguments(value, parameter)
    value = _unwrapped(value, parameter)
    argument = _argument_in(value, parameter)
    if not argument:
        return None
    return Arguments(argument, json_object(value if isinstance(value, dict) else {parameter or "argument": argument}))


def bare_argument(text: str, parameter: str) -> Arguments | None:
    """Return a text as the only argument, without decoding; None if it is blank."""
    argument = clean_text(text).strip()
    return Arguments(argument, json_object({parameter or "argument": argument})) if argument else None


def json_object(members: dict[str, Any]) -> str:
    """Return arguments as JSON text that every parser and table accepts."""
    return json.dumps(_finite(members), ensure_ascii=False)


def several_arguments(members: dict[str, Any] | None) -> Arguments | None:
    """Return the arguments of a tool of several arguments; None for NaN or infinity, which JSON does not have."""
    return None if members is None or not _is_finite(members) else Arguments(*[json_object(members)] * 2)


def _named_arguments(value: Any, parameters: Parameters) -> Arguments | None:
    """Return the arguments of a tool of several arguments in a decoded value: an object, a list or one value."""
    for _ in range(MAX_WRAPPINGS):
        inner = value
        if isinstance(value, str):
            inner = _decoded(value)
        elif isinstance(value, dict) and not value.keys() & {*parameters.names}:
            key = next((key for key in ARGUMENT_KEYS if key in value), None)
            if key is not None and (len(value) == 1 or any(name in value for name in NAME_KEYS)):
                inner = value[key]
        if inner is value or inner is None:
            break
        value = inner
    if isinstance(value, dict):
        return several_arguments(parameters.bind([], value))
    if isinstance(value, str) and value.lstrip().startswith("{"):  # an object that cannot be read
        return None
    values = value if isinstance(value, list) else [] if value is None else [value]
    return several_arguments(parameters.bind(values, {}))


def _unwrapped(value: Any, parameter: str) -> Any:
    """Return the arguments without strings of JSON, and without objects that contain nothing but the arguments."""
    for _ in range(MAX_WRAPPINGS):
        inner = value
        if isinstance(value, str):
            inner = _decoded(value)
        elif isinstance(value, dict):
            key = parameter if parameter in value else next((key for key in ARGUMENT_KEYS if key in value), None)
            if key is None or (key != parameter and len(value) > 1 and not any(name in value for name in NAME_KEYS)):
                break
            inner = _decoded(value[key]) if isinstance(value[key], str) else value[key]
            if not isinstance(inner, dict) or (key == parameter and parameter not in inner):
                break
        if inner is value or inner is None:
            break
        value = inner
    return value


def _decoded(text: str) -> Any:
    """Return the object in a text, or the text in quotes around an object; otherwise None."""
    if not text.lstrip().startswith(("{", '"')):
        return None
    literal = LiteralReader(text).read(0)
    if literal.state != "complete" or text[literal.end :].strip():
        return None
    is_object = isinstance(literal.value, dict) or (
        isinstance(literal.value, str) and literal.value.lstrip().startswith("{")
    )
    return literal.value if is_object else None


def _argument_in(value: Any, parameter: str) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        return _text(value)
    if parameter in value:
        return _text(value[parameter])
    texts = {key: text for key, item in value.items() if (text := _text(item))}
    named = [text for key, text in texts.items() if key.lower() in (*KEYWORDS, parameter.lower())]
    # A schema has one text, too: {"type": "object", "properties": {...}}.
    texts_alone = [] if any(isinstance(item, (dict, list)) for item in value.values()) else list(texts.values())
    for candidates in (texts_alone, named):
        if len(candidates) == 1:
            return candidates[0]
    return ""


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    return clean_text(str(value)).strip()


def _is_finite(value: Any) -> bool:
    """Return whether a decoded value is without NaN and infinity."""
    if isinstance(value, (dict, list)):
        return all(map(_is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def _finite(value: Any) -> Any:
    """Return a decoded value with null instead of NaN and infinity, and without unpaired surrogates."""
    if isinstance(value, dict):
        return {clean_text(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, str):
        return clean_text(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
