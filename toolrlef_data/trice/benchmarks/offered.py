"""The functions that a row of a benchmark offers: their schemas, the prompt, and the calls in a response."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from toolrlef_data.engines.responses import split_reasoning
from toolrlef_data.tools.parsing.call_arguments import decode_arguments
from toolrlef_data.tools.parsing.call_formats import CallNames, call_names
from toolrlef_data.tools.parsing.call_parser import find_calls
from toolrlef_data.tools.parsing.parameters import Parameters

__all__ = ["OfferedCall", "call_text", "calls_in", "instruction_for", "schema_text"]

Function = Mapping[str, Any]

INSTRUCTION = """You can call these functions:
{functions}
If one of them does what the user wants, and the user gives every value that it requires, respond with one call, \
name(parameter=value, ...), and nothing else. If a required value is missing, ask for it. If none of them fits, say \
so."""
# Types of BFCL's schemas that JSON schemas name differently; None for a type that allows every value.
JSON_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": None}
# The name at the beginning of a reply, or the name in a call as JSON.
_written = re.compile(r"\s*\[?\s*([A-Za-z_][\w.]{0,80})\(").match
_named = re.compile(r'\{\s*"(?:name|function)"\s*:\s*"([^"\\()\[\]{}<>]{1,80})"').search


class OfferedCall(NamedTuple):
    """A call in a response.

    Args:
        name: the function.
        arguments: its arguments by name; None for a call that cannot be read.
        is_offered: whether the function is one of those that the row offers.
    """

    name: str
    arguments: dict[str, Any] | None
    is_offered: bool = True


def instruction_for(functions: Sequence[Function]) -> str:
    """Return the instruction of a prompt that offers functions: one schema a line.

    >>> "(none)" in instruction_for([])
    True
    """
    listed = [json.dumps(_json_schema(function), ensure_ascii=False) for function in functions]
    return INSTRUCTION.format(functions="\n".join(listed) or "(none)")


def schema_text(function: Function) -> str:
    """Return a function as an OpenAI tool schema in JSON, with the type names of JSON schemas.

    >>> schema_text({"name": "f", "parameters": {"type": "dict"}})
    '{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}'
    """
    return json.dumps({"type": "function", "function": _json_schema(function)}, ensure_ascii=False)


def _json_schema(value: Any) -> Any:
    if isinstance(value, Mapping):
        copy = {key: _json_schema(item) for key, item in value.items()}
        if isinstance(copy.get("type"), str) and copy["type"] in JSON_TYPES:
            name = JSON_TYPES[copy.pop("type")]
            copy = copy if name is None else {"type": name, **copy}
        return copy
    return [_json_schema(item) for item in value] if isinstance(value, list) else value


def call_text(call: str) -> str:
    """Return a call as JSON, with name and arguments, in the form that the instruction asks for; other texts unchanged.

    >>> call_text('{"name": "book", "arguments": {"town": "Bern", "days": 3}}')
    'book(town="Bern", days=3)'
    """
    try:
        value = json.loads(call)
    except ValueError:
        return call
    if not isinstance(value, dict) or not isinstance(value.get("arguments"), dict) or "name" not in value:
        return call
    arguments = (f"{key}={json.dumps(item, ensure_ascii=False)}" for key, item in value["arguments"].items())
    return f"{value['name']}({', '.join(arguments)})"


def calls_in(text: str, native: Sequence[Sequence[str]], functions: Sequence[Function]) -> list[OfferedCall]:
    """Return the calls in a reply: native calls, else the calls in its text in any format.

    A call of a function that is not offered counts if the reply is that call and nothing else, or a call as JSON.

    Args:
        text: the text of the reply; reasoning before the answer is ignored.
        native: (name, arguments as JSON) of each native call.
        functions: the offered functions.

    >>> book = {"name": "book", "parameters": {"properties": {"town": {"type": "string"}}, "required": ["town"]}}
    >>> calls_in('book(town="Bern")', [], [book]), calls_in("calculator(3*4)", [], [book])[0].is_offered
    ([OfferedCall(name='book', arguments={'town': 'Bern'}, is_offered=True)], False)
    """
    # A function that is offered twice is one function.
    signatures = {function["name"]: _parameters(function) for function in functions}
    names = call_names(tuple(signatures.items()))
    if native:
        return [_native_call(name, arguments, names, signatures) for name, arguments in native]
    text = split_reasoning(text)[1]
    calls = [
        OfferedCall(match.tool, None if match.arguments is None else json.loads(match.arguments.arguments))
        for match in find_calls(text, names)
    ]
    if not calls and (match := names.direct(text)):
        calls = [OfferedCall(names.canonical_name(match[1]), None)]  # a call that is not closed
    return calls or _invented_call(text)


def _parameters(function: Function) -> Parameters:
    # Values without quotes keep their own types, also where the schema says "string", as in BFCL's evaluation.
    parameters = function["parameters"]
    return Parameters(tuple(parameters["properties"]), required=frozenset(parameters["required"]))


def _native_call(name: str, arguments: str, names: CallNames, signatures: Mapping[str, Parameters]) -> OfferedCall:
    # Servers replace the dots in names, which OpenAI's interface does not allow.
    dotted = {offered.replace(".", "_"): offered for offered in signatures}
    offered = names.tool(name) or dotted.get(name)
    decoded = decode_arguments(arguments, signatures[offered]) if offered else None
    return OfferedCall(offered or name, json.loads(decoded.arguments) if decoded else None, offered is not None)


def _invented_call(text: str) -> list[OfferedCall]:
    if match := _written(text):
        call = next(find_calls(text, call_names((match[1],))), None)
        end = match.end() if call is None else call.end
        if not text[end:].strip("() \n\t]"):
            return [OfferedCall(match[1], None, is_offered=False)]
    match = _named(text)
    return [OfferedCall(match[1], None, is_offered=False)] if match else []
