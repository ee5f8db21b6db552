"""demo: bundled queries for the functions of `demo_functions`, with recorded replies.

    answers = generate_trajectories(demo_queries(), DEMO_FUNCTIONS, demo_model())

The replies in samples/search_replies.jsonl were recorded from a hand-written script, not from a model. One record:

    {"id": "demo-14", "key": "95f6...", "replies": ["Thought: I look it up.\\nAction: search\\nAction Input: {...}"]}

- The key is the start of the SHA-256 of the conversation in the text protocol, without the system message.
- The replies are the samples of one request; later samples repeat the last one.
- The records of a query are sorted by conversation, with the rankings at the end.
- To add a record by hand, copy the key from the error message.

The recordings support both protocols, all kinds of searches, up to three answers, up to three attempts per state (any
number for dfsdt), and any number of turns and chains.

Not covered: other queries; functions with different results.
"""

from __future__ import annotations

import functools
import hashlib
import json
from importlib import resources
from typing import Any

from datasets import Dataset, List, Value

from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import Reply, ScriptExhausted
from toolrlef_data.tables.fingerprint import code_digest, digest
from toolrlef_data.tables.row_files import table_from_rows
from toolrlef_data.toolbench.search.demo_functions import DEMO_FUNCTIONS, value_of
from toolrlef_data.toolbench.search.generation import generate_trajectories
from toolrlef_data.toolbench.search.protocols import parse_reply, render_text_turns
from toolrlef_data.tools.search.wiki_search import wiki_search

__all__ = ["demo_model", "demo_queries", "sample_answers"]

# The queries of the source `sample_trajectories`; the observation of the wide search is long enough to be truncated.
SAMPLED = ("demo-01", "demo-03", "demo-04", "demo-05", "demo-06", "demo-07", "demo-09", "demo-13", "demo-20")
SAMPLED_WIDE = ("demo-14",)
KEY_LENGTH = 16  # hexadecimal digits


def demo_queries(rows: int | None = None) -> Dataset:
    """Return the bundled queries: id, query, and the names of the functions for each.

    Args:
        rows: maximum number of queries; default: all.

    >>> demo_queries(1)[0]["functions"]
    ['search', 'convert_units']
    """
    features = {"id": Value("string"), "query": Value("string"), "functions": List(Value("string"))}
    return table_from_rows(_lines("queries")[:rows], features, "demo queries")


def demo_model(**settings: Any) -> EngineSpec:
    """Return the spec of an engine with recorded replies to `demo_queries`.

    Args:
        settings: further fields of `EngineSpec`, such as `progress`; default: none.

    Raises:
        ScriptExhausted: at run time, for another query or a search state without a recorded reply.

    >>> from toolrlef_data import generate_trajectories
    >>> generate_trajectories(demo_queries(1), DEMO_FUNCTIONS, demo_model(progress=False))[0]["finish_type"]
    'give_answer'
    """
    script = digest(_lines("search_replies"), code_digest(play))  # everything that determines the replies
    return EngineSpec("scripted", "demo script", options={"function": play, "script": script}, **settings)


def play(request: Request) -> Reply:
    """Return the recorded reply to a request of a search.

    Raises:
        ScriptExhausted: no reply is recorded for the conversation.
    """
    turns: list[dict[str, Any]] = []
    for message in request.messages:
        if message.role != "system":
            calls = [{"function": {"name": name, "arguments": arguments}} for _, name, arguments in message.tool_calls]
            turns.append({"role": message.role, "content": message.content, "tool_calls": calls})
    text = "\n".join(turn["content"] for turn in (render_text_turns(turns, []) if request.tools else turns))
    key = hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]
    recorded = _recorded_replies()
    if key not in recorded:
        raise ScriptExhausted(
            "the demo script only knows `demo_queries`, searched with `DEMO_FUNCTIONS` and at most three attempts per "
            f"state: no reply is recorded under {key}, for {text[:120]!r} ... {text[-120:]!r}"
        )
    replies = recorded[key]
    reply = replies[min(request.sample, len(replies) - 1)]
    if not request.tools:
        return Reply(reply)
    thought, call = parse_reply(Reply(reply), "text")
    return Reply(thought or "", tool_calls=() if call is None else (call,))


@functools.lru_cache
def _recorded_replies() -> dict[str, list[str]]:
    return {row["key"]: row["replies"] for row in _lines("search_replies")}


@functools.lru_cache
def _lines(name: str) -> list[dict[str, Any]]:
    text = (resources.files("toolrlef_data") / "samples" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def sample_answers() -> list[Dataset]:
    """Generate the tables of the source `sample_trajectories`; `write_answers` writes them as its files."""

    def search(query: str) -> list[str]:
        """Searches a small encyclopedia and gives the five passages that fit best.

        Args:
            query: What to look for, in a few words.
        """
        return list(value_of(wiki_search("sample", k=5).run(query)))

    wide = [function for function in DEMO_FUNCTIONS if function.__name__ != search.__name__] + [search]
    tables = []
    for ids, functions in ((SAMPLED, DEMO_FUNCTIONS), (SAMPLED_WIDE, wide)):
        rows = [row for row in _lines("queries") if row["id"] in ids]
        queries = table_from_rows(rows, demo_queries(1).features, "demo queries")
        tables.append(generate_trajectories(queries, functions, demo_model(progress=False)))
    return tables
