"""search_demo: queries that the functions of `tools.local_functions` can answer, and a script that plays a model.

    answers = generate_trajectories(demo_queries(), DEMO_FUNCTIONS, demo_model())

It is no model. For each query, samples/search_script.jsonl says which message is tried from which state, as a tree:

    {"id": "demo-14", "tries": [{"thought": "I look it up.", "name": "search", "arguments": {"query": "gold"}, "then": [
      {"name": "convert_units", "arguments": {"value": "<1:at ([\\\\d,]+) degrees>", "source": "celsius", ...}, ...}]}]}

A try has a thought, a call, or both; a text in the place of the arguments is sent as it stands, so that it may be no
JSON. The script knows no facts: `<1>` is what the first call on the way gave, `<1:REGEX>` the group that is found in
it, `<1%.2f>` its number as Python formats it. Where there is none, and where no try is left, it gives up.

Covered: both protocols and all kinds of searches. A second try is told by the hidden prompt that it is asked with, in a
chain by the number of the sample; two ways are compared by whether they failed. Not covered: queries of other people.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from datasets import Dataset, List, Value

from toolrlef_data.engines import EngineSpec, Request
from toolrlef_data.fingerprints import code_digest, digest
from toolrlef_data.generating import generate_trajectories
from toolrlef_data.lineage import table_of
from toolrlef_data.protocols import message_from
from toolrlef_data.records import Reply, ScriptExhausted, ToolError
from toolrlef_data.search_prompts import DIVERSITY, RANKING
from toolrlef_data.tools.functions import Function
from toolrlef_data.tools.local_functions import DEMO_FUNCTIONS
from toolrlef_data.tools.search import wiki_search

__all__ = ["demo_model", "demo_queries", "sample_answers"]

Try = Mapping[str, Any]
Turn = tuple[str | None, tuple[str, str] | None]  # a thought, and a call

GIVE_UP: Try = {"thought": "I see no other way.", "name": "Finish", "arguments": {"return_type": "give_up_and_restart"}}
# What the source `sample_trajectories` holds; the search of the last one gives so much that it is cut.
SAMPLED = ("demo-01", "demo-03", "demo-04", "demo-05", "demo-06", "demo-07", "demo-09", "demo-13", "demo-20")
SAMPLED_WIDE = ("demo-14",)

_reference = re.compile(r"<(\d)(?::(.+?)|%(\S+?))?>")
_around = re.split(r"\{\w+\}", RANKING)  # what stands before, between and behind what a ranking shows


class _NotThere(Exception):
    """What a try refers to is not in what the calls gave."""


def demo_queries(rows: int | None = None) -> Dataset:
    """The bundled queries: id, query, and the names of the functions that each may call.

    Args:
        rows: only so many; default: all.

    >>> demo_queries(1)[0]["functions"]
    ['search', 'convert_units']
    """
    features = {"id": Value("string"), "query": Value("string"), "functions": List(Value("string"))}
    return table_of(_lines("queries")[:rows], features, "demo queries")


def demo_model(**settings: Any) -> EngineSpec:
    """The engine that plays a model on `demo_queries`, from a script.

    Args:
        settings: further fields of `EngineSpec`, such as `progress`.

    Raises:
        ScriptExhausted: when it runs, at a query that is none of them.

    >>> from toolrlef_data import generate_trajectories
    >>> generate_trajectories(demo_queries(1), DEMO_FUNCTIONS, demo_model(progress=False))[0]["finish_type"]
    'give_answer'
    """
    script = digest(_text("queries"), _text("search_script"), code_digest(play))  # all that determines its replies
    return EngineSpec("scripted", "demo script", options={"function": play, "script": script}, **settings)


def sample_answers() -> list[Dataset]:
    """What the source `sample_trajectories` bundles, made anew: `write_answers` writes these tables as its files."""
    wide = Function("search", WIDE, json.dumps(QUERY), _five_passages)
    others = [function for function in DEMO_FUNCTIONS if function.__name__ != "search"]
    made = []
    for ids, functions in ((SAMPLED, DEMO_FUNCTIONS), (SAMPLED_WIDE, (*others, wide))):
        rows = [row for row in _lines("queries") if row["id"] in ids]
        queries = table_of(rows, demo_queries(1).features, "demo queries")
        made.append(generate_trajectories(queries, functions, demo_model(progress=False)))
    return made


WIDE = "Searches a small encyclopedia and gives the five passages that fit best."
QUERY = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "What to look for, in a few words."}},
    "required": ["query"],
}


def _five_passages(query: str) -> list[str]:
    found = wiki_search("sample", k=5).run(query)
    if not isinstance(found.value, tuple):
        raise ToolError(found.error or "crashed", found.detail)
    return list(found.value)


def _text(name: str) -> str:
    return (resources.files("toolrlef_data") / "samples" / f"{name}.jsonl").read_text(encoding="utf-8")


@functools.lru_cache
def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _text(name).splitlines()]


@functools.lru_cache
def _script() -> dict[str, Sequence[Try]]:
    """The tries of each query."""
    tries = {row["id"]: row["tries"] for row in _lines("search_script")}
    return {row["query"]: tries[row["id"]] for row in _lines("queries")}


# Playing --------------------------------------------------------------------------------------------------------------


def play(request: Request) -> Reply:
    """The reply to a request of a search, from the script.

    Raises:
        ScriptExhausted: the script does not know the query.
    """
    first, *rest = (message for message in request.messages if message.role != "system")
    if first.content.startswith(_around[0]):
        return Reply(_better(first.content))
    query = next((each for each in _script() if first.content == each or first.content.startswith(f"{each}\n")), None)
    if query is None:
        raise ScriptExhausted(
            f"the demo script knows its own queries only (`demo_queries`), not {first.content!r:.120}"
        )
    turns: list[Turn] = []
    seen: list[str] = []  # what the calls gave
    for message in rest:
        if message.role == "assistant" and request.tools:
            turns.append((message.content or None, message.tool_calls[0][1:] if message.tool_calls else None))
        elif message.role == "assistant":
            turns.append(message_from(Reply(message.content), "text"))
        elif message.role == "tool":
            seen.append(message.content)
        elif message.content.startswith("Observation: "):
            seen.append(message.content.removeprefix("Observation: ").partition("\n")[0])
    tries = _script()[query]
    for turn in turns:
        tries = _below(tries, turn, seen) or ()
    return _said(_next(tries, request), seen, native=bool(request.tools))


def _below(tries: Sequence[Try], turn: Turn, seen: Sequence[str]) -> Sequence[Try] | None:
    """What is tried after a message; a thought of its own stands in one message with what follows it."""
    thought, call = turn
    for one in tries:
        said, then = one.get("thought"), one.get("then", ())
        if "name" not in one:
            if turn == (said, None):
                return then
            if thought == said or (thought or "").startswith(f"{said}\n"):
                found = _below(then, ((thought or "")[len(said or "") + 1 :] or None, call), seen)
                if found is not None:
                    return found
        elif call is not None and turn == (said, (call[0], _arguments(one, seen))):
            return then
    return None


def _next(tries: Sequence[Try], request: Request) -> Try:
    """The first try, or after those that the hidden prompt shows the next one; each chain takes one of its own."""
    number = min(request.sample, len(tries) - 1)
    _, asked_again, prompt = request.messages[-1].content.partition(DIVERSITY[0])
    if asked_again:
        number = len(json.JSONDecoder().raw_decode(prompt)[0])
    return tries[number] if 0 <= number < len(tries) else GIVE_UP


def _said(one: Try, seen: Sequence[str], *, native: bool) -> Reply:
    """A try as a message of the protocol."""
    try:
        call = (one["name"], _arguments(one, seen)) if "name" in one else None
    except _NotThere:
        one, call = GIVE_UP, (GIVE_UP["name"], json.dumps(GIVE_UP["arguments"]))
    thought = one.get("thought", "")
    if native:
        return Reply(thought, tool_calls=() if call is None else (call,))
    lines = [f"Thought: {thought}"] if thought else []
    lines += [f"Action: {call[0]}", f"Action Input: {call[1]}"] if call is not None else []
    return Reply("\n".join(lines))


def _better(ranking: str) -> str:
    """The letter of the way that failed less; A where both did alike."""
    a, _, b = ranking.rpartition(_around[2])[2].partition(_around[3])
    return "A" if _failed(a) <= _failed(b.removesuffix(_around[4])) else "B"


def _failed(way: str) -> int:
    return 2 if "give_up_and_restart" in way else int('{"error": "' in way and '{"error": ""' not in way)


# What the calls gave --------------------------------------------------------------------------------------------------


def _arguments(one: Try, seen: Sequence[str]) -> str:
    """The arguments of a try as text, with what the calls gave in the place of references."""
    given = one["arguments"]
    if isinstance(given, str):
        return _filled(given, seen)
    return json.dumps({name: _value(value, seen) for name, value in given.items()}, ensure_ascii=False)


def _value(value: Any, seen: Sequence[str]) -> Any:
    """A value of an argument; a reference alone that gives a number is one."""
    if not isinstance(value, str):
        return value
    text = _filled(value, seen)
    if _reference.fullmatch(value):
        try:
            return json.loads(text.replace(",", ""), parse_constant=str)
        except ValueError:
            return text
    return text


def _filled(text: str, seen: Sequence[str]) -> str:
    return _reference.sub(lambda found: _looked_up(found, seen), text)


def _looked_up(found: re.Match[str], seen: Sequence[str]) -> str:
    number, pattern, form = found.groups()
    if int(number) > len(seen):
        raise _NotThere
    text = seen[int(number) - 1]
    if pattern:
        group = re.search(pattern, text)
        if group is None:
            raise _NotThere
        return group[1]
    try:
        value = json.loads(text)["response"]
        return format(float(value), form) if form else str(value)
    except (ValueError, TypeError):  # cut, or nothing to count
        raise _NotThere from None
