"""Formats of calls that models write as text, other than `tool(argument)`.

| models | format |
|---|---|
| Hermes, Qwen, most others | a JSON object {"name", "arguments"} and variants, in tags, in a list, in prose |
| Mistral | `[TOOL_CALLS]name[ARGS]{...}` |
| Llama | `<function=name>{...}</function>` |
| Qwen-coder, MiniMax, DeepSeek 3.2 | `<function=name>` or `<invoke name="name">` with `<parameter=...>` elements |
| GLM | `<tool_call>name` with `<arg_key>` and `<arg_value>` elements |
| Gemma | `call:name{key:<escape>value<escape>}` |
| DeepSeek, Kimi, Functionary | a mark such as `<|tool_call_begin|>`, the name, perhaps a fence, and JSON |
| others | `<name>name</name><arguments>{...}</arguments>` |
| gpt-oss (harmony) | `<|channel|>commentary to=functions.name <|message|>{...}` |

A call in one of these formats that names a tool is either complete, or a failed call: it is not an answer. ReAct
(`Action: name`) and elements named after the tool are recognised as failed calls, unless they contain JSON.

Not covered: calls of unknown names, and names with escapes in JSON strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from toolrlef_data.tools.parsing.call_arguments import ARGUMENT_KEYS, KEYWORDS, NAME_KEYS, Arguments, select_argument
from toolrlef_data.tools.parsing.json_text import LiteralReader
from toolrlef_data.tools.parsing.parameters import Parameters

__all__ = ["CallMatch", "CallNames", "call_names", "find_structured_calls"]

# The names of keys in an object that is a call without arguments, rather than an answer that mentions a tool.
_CALL_KEYS = {*NAME_KEYS, "id", "type", "call_id", "tool_call_id", "index"}
_PREFIX = r"(?:(?:functions?|tools?|default_api)[.:])?"
_prefix = re.compile(rf"^{_PREFIX}", re.IGNORECASE).sub
_number = re.compile(r":[0-9]{0,4}$").sub  # of the call, as in Kimi's functions.name:0
# A tag or special token before a name, such as <tool_call> or <|tool_call_begin|>, but not one that closes a call.
_MARK_WORDS = "tool|call|sep|recipient|tag|name|function|action"
_MARK_PART = r"[^<>|\uff5c\s]{0,20}"
_SPECIAL = rf"<(?!/|[^<>\s]{{0,40}}end)[|\uff5c]?{_MARK_PART}(?:{_MARK_WORDS}){_MARK_PART}[|\uff5c]?>"
_ANSWER_KEYS = {"answer", "final_answer", "output", "response", "result", "solution"}
_NO_CALL = object()
_MARKS = ("{", "<", "[", ">>>", "to=", "Action")  # every format contains one of them
_tag_tail = re.compile(r"[\"']?[^<>{}\n]{0,60}>").match
_quoted_key = re.compile(r"\{\s*[\"']").match
# The text between a name and its arguments: marks, tags without attributes, a call number, a fence.
_header = re.compile(
    r"(?:\s+|:[0-9]{1,4}(?![0-9])|\[CALL_ID\][\w-]{0,40}|\[ARGS\]|</?(?!arg_)[a-z_]{1,20}>"
    r"|<[|\uff5c][^<>\n]{0,40}[|\uff5c]>|```\w{0,10}|(?:json|code|commentary|analysis)(?!\w))*"
).match
_parameter = re.compile(r"\s*<[^<>=\s]{0,20}parameter(?:=|\s+name\s*=\s*)[\"']?([\w.-]+)[\"']?[^<>\n]{0,60}>").match
_parameter_end = re.compile(
    r"</[^<>=\s/]{0,20}(?:parameter|function|invoke|tool_call)\s?>|<[^<>=\s/]{0,20}parameter(?:=|\s+name)"
).search
_key = re.compile(r"\s*<arg_key>([^<>]{1,60})</arg_key>\s*<arg_value>").match
_value_end = re.compile(r"</arg_value>|<arg_key>|</tool_call>").search


class CallNames(NamedTuple):
    """The names of a set of tools, and the compiled patterns of their calls."""

    call: Any  # search function of `tool(`; groups: name, blank, the argument if it is short and simple
    direct: Any  # search function of a name that is directly followed by a parenthesis
    mention: Any  # search function of a key of `NAME_KEYS` with a name of a tool
    opening: Any  # search function of the beginning of a tagged call; the group that matched is its kind
    canonical: dict[str, str]  # accepted spelling -> name of the tool
    parameters: dict[str, str | Parameters]  # name of the tool -> name of its argument, "" if unknown
    lowered: tuple[str, ...]  # the names in lower case

    def occur_in(self, text: str) -> bool:
        """Return whether a text contains any of the names, in any case."""
        lowered = text.lower()
        for name in self.lowered:  # noqa: SIM110  # faster than `any` for one name
            if name in lowered:
                return True
        return False

    def canonical_name(self, spelling: str) -> str:
        """Return the name of the tool in a match of `call` or `direct`."""
        return self.canonical.get(spelling) or self.canonical[spelling.lower()]

    def tool(self, spelling: str) -> str | None:
        """Return the name of the tool that a structured call names, in any case and with a prefix such as functions."""
        spelling = _number("", spelling.strip())
        for candidate in (spelling, _prefix("", spelling)):
            same_names = [name for name in self.parameters if name.lower() == candidate.lower()]
            if same_names:
                return candidate if candidate in same_names else same_names[0]
        return None


class CallMatch(NamedTuple):
    """A call in a text, from `start` to `end`; either its arguments or its error is set."""

    start: int
    end: int
    tool: str
    arguments: Arguments | None
    error: str | None = None


@lru_cache(maxsize=256)
def call_names(key: tuple[str | tuple[str, str | Parameters], ...]) -> CallNames:
    """Return the names and patterns of tools, given as names or as (name, parameter) pairs."""
    parameters: dict[str, str | Parameters] = dict((item, "") if isinstance(item, str) else item for item in key)
    any_case = {name: len(name) > 3 for name in parameters}  # "qa" and "Qa" do not mean a tool QA
    ordered = sorted(parameters, key=lambda name: (-len(name), name))
    choices = [f"(?ai:{re.escape(name)})" if any_case[name] else re.escape(name) for name in ordered]
    name = f"({'|'.join(choices)})" if choices else "(?!)()"
    exact = f"(?ai:{_PREFIX}({'|'.join(map(re.escape, ordered))}))" if choices else "(?!)()"
    plain = r"""[^()"'=`\u201c\u2018]{0,200}"""
    method = r"(?:\.[a-z_]\w{0,40}(?=\())?"
    tags = [
        rf"(?P<element><[^<>=\s/]{{0,20}}(?:function|invoke|tool|call)(?:[=/]|\s+name\s*=\s*)[\"']?{exact}(?!\w))",
        rf"(?P<marked>(?:\[TOOL_CALLS\]|{_SPECIAL}|>>>)\s{{0,20}}{exact}(?!\w)(?!(?:\.\w+)?\())",
        rf"(?P<gemma>(?<!\w)call:{exact}(?=\s*\{{))",
        rf"(?P<harmony>(?<![\w?&/])to={exact}(?:json|code)?(?!\w))",
        rf"(?P<react>^[ \t*]{{0,9}}Action[ \t*]{{0,9}}:[ \t*]{{0,9}}{exact}[ \t*]{{0,9}}(?:$|\[))",
        rf"(?P<arguments>(?<![\w.]){exact}(?=\[CALL_ID\]|\[ARGS\]))",
        rf"(?P<braces>(?<![\w\"'/<>=]){name}(?=\s?\{{))",
        rf"(?P<named><{name}(?=\s?/?>))",
    ]
    keys = "|".join(NAME_KEYS)
    quote = r"\\{0,4}[\"']"
    return CallNames(
        call=re.compile(rf"(?<!\w){name}{method}( ?)\((?:({plain}(?:\({plain}\){plain}){{0,20}})\))?").search,
        direct=re.compile(rf"(?<!\w){name}{method}\(").search,
        mention=re.compile(
            rf"{quote}(?:{keys}){quote}\s*:\s*{quote}\s{{0,9}}{exact}(?::[0-9]{{0,4}})?\s{{0,9}}(?:{quote}|\\{{0,4}}$)"
        ).search,
        opening=re.compile("|".join(tags), re.MULTILINE).search,
        canonical={name.lower(): name for name in parameters if any_case[name]} | {name: name for name in parameters},
        parameters=parameters,
        lowered=tuple(name.lower() for name in parameters),
    )


def find_structured_calls(text: str, names: CallNames) -> list[CallMatch]:
    """Return the complete and the failed calls of the formats above, by position; runs in linear time.

    >>> find_structured_calls('call:QA{question:<escape>Who?<escape>}', call_names(("QA",)))[0].arguments.argument
    'Who?'
    """
    if not any(mark in text for mark in _MARKS):
        return []
    reader = LiteralReader(text)
    matches = [*_tagged_calls(text, names, reader), *_json_calls(text, names, reader)]
    return sorted(matches, key=lambda call: call.start)


# Tags -----------------------------------------------------------------------------------------------------------------


def _tagged_calls(text: str, names: CallNames, reader: LiteralReader) -> Iterator[CallMatch]:
    position = 0
    while match := names.opening(text, position):
        position = match.end()
        call = _tagged_call(text, match, names, reader)
        if call is not None:
            yield call
            position = max(position, call.end)


def _tagged_call(text: str, match: re.Match[str], names: CallNames, reader: LiteralReader) -> CallMatch | None:
    """Return the call at an opening, or None if it is text: a name before braces without arguments."""
    kind, tool = match.lastgroup, names.tool(match[(match.lastindex or 0) + 1])
    assert tool is not None
    tail = _tag_tail(text, match.end()) if kind in ("element", "named") else None
    body = match.end() if tail is None else tail.end()
    if header := _header(text, body):
        body = header.end()
    if kind != "react" and text.startswith(("{", "[", '"', "'"), body):
        literal = reader.read(body)
        arguments = select_argument(literal.value, names.parameters[tool]) if literal.state == "complete" else None
        if kind == "braces" and arguments is None and not (literal.value or _quoted_key(text, body)):
            return None
        end, is_cut = literal.end, literal.state == "cut"
    elif kind == "braces":
        return None
    else:
        elements, end, is_cut = _elements(text, body)
        parameter = names.parameters[tool]
        values: Any = elements
        if isinstance(parameter, Parameters):
            values = {name: parameter.decode(name, value) for name, value in elements.items()}
        arguments = select_argument(values, parameter) if elements and not is_cut else None
        is_cut = is_cut or not (elements or text[body:].strip() or "</" in text[match.end() : body])
    error = None if arguments else "incomplete_call" if is_cut else "unreadable_call"
    return CallMatch(match.start(), end, tool, arguments, error)


def _elements(text: str, position: int) -> tuple[dict[str, str], int, bool]:
    """Return the parameter elements at a position, their end, and whether the last of them is cut off."""
    elements: dict[str, str] = {}
    while opening := _parameter(text, position) or _key(text, position):
        closing = (_value_end if "<arg_key>" in opening[0] else _parameter_end)(text, opening.end())
        if closing is None:
            return elements, len(text), True
        elements[opening[1]] = text[opening.end() : closing.start()].strip()
        is_closing_tag = closing[0].startswith("</") and ("parameter" in closing[0] or "arg_value" in closing[0])
        position = closing.end() if is_closing_tag else closing.start()
    return elements, position, False


# JSON -----------------------------------------------------------------------------------------------------------------


def _json_calls(text: str, names: CallNames, reader: LiteralReader) -> Iterator[CallMatch]:
    """Yield the calls in JSON objects. Only objects around a key such as "name" with a name of a tool are read."""
    position = 0
    while mention := names.mention(text, position):
        tool = names.tool(mention[1])
        assert tool is not None
        start = text.find("{", position, mention.start())
        failed, is_inside = None, False
        while start >= 0:
            literal = reader.read(start)
            if literal.state == "complete" and literal.end > mention.start():
                yield from _calls_in(literal.value, names, start, literal.end)
                is_inside = True
                break
            if literal.state != "complete":
                failed = (start, literal)
            start = text.find("{", literal.end if literal.state == "complete" else start + 1, mention.start())
        if is_inside:
            position = literal.end
            continue
        position = mention.end()
        before = text[max(0, mention.start() - 20) : mention.start()].rstrip()
        if failed and (failed[1].end > mention.start() or before.endswith(("{", ","))):
            error = "incomplete_call" if failed[1].state == "cut" else "unreadable_call"
            yield CallMatch(failed[0], max(failed[1].end, position), tool, None, error)


def _calls_in(value: Any, names: CallNames, start: int, end: int) -> Iterator[CallMatch]:
    """Yield the calls in a decoded value, at any depth, in order."""
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, str) and value.lstrip().startswith(("{", "[")) and names.mention(value, 0):
            stack.append(LiteralReader(value).read(0).value)
        elif isinstance(value, list):
            stack += reversed(value)
        elif isinstance(value, dict):
            spellings = [value[key] for key in NAME_KEYS if isinstance(value.get(key), str)]
            tool = next((tool for spelling in spellings if (tool := names.tool(spelling))), None)
            members = _arguments_of(value, names.parameters[tool]) if tool is not None else _NO_CALL
            if tool is None or members is _NO_CALL:
                stack += reversed(list(value.values()))
                continue
            arguments = select_argument(members, names.parameters[tool])
            yield CallMatch(start, end, tool, arguments, None if arguments else "unreadable_call")


def _arguments_of(call: dict[str, Any], parameter: str | Parameters) -> Any:
    """Return the arguments in an object that names a tool, or `_NO_CALL` if it contains an answer instead."""
    for key in ARGUMENT_KEYS:
        if key in call:
            return call[key]
    members = {key: value for key, value in call.items() if key not in _CALL_KEYS}
    known = parameter.names if isinstance(parameter, Parameters) else (parameter, *KEYWORDS)
    if members.keys() & {*known}:
        return members
    return _NO_CALL if _ANSWER_KEYS & members.keys() else None
