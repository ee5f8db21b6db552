"""demo: queries that the functions of `demo_functions` can answer, with recorded replies for them.

    answers = generate_trajectories(demo_queries(), DEMO_FUNCTIONS, demo_model())

No model wrote samples/search_replies.jsonl. The replies are those of a hand-written script that took its numbers from
what the functions returned; they were recorded once, in both protocols, and the script no longer exists. One record:

    {"id": "demo-14", "key": "95f6...", "replies": ["Thought: I look it up.\\nAction: search\\nAction Input: {...}"]}

The key is the start of the SHA-256 of the conversation as the text protocol writes it, without the system message. The
replies are samples of one request; later samples repeat the last. Records follow the conversations of a query in
alphabetical order, comparisons of two ways at the end. To add one by hand, take the key from the error message.

Covered: both protocols, all kinds of searches, up to three answers and three tries a state (dfsdt: any number), any
number of turns and chains. Not covered: other queries; functions whose results differ.
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
from toolrlef_data.tables.stage_cache import table_from_rows
from toolrlef_data.toolbench.search.demo_functions import DEMO_FUNCTIONS, value_of
from toolrlef_data.toolbench.search.generation import generate_trajectories
from toolrlef_data.toolbench.search.protocols import message_from, render_text_turns
from toolrlef_data.tools.search.wiki_search import wiki_search

__all__ = ["demo_model", "demo_queries", "sample_answers"]

# What the source `sample_trajectories` holds; the search of the last one gives so much that it is cut.
SAMPLED = ("demo-01", "demo-03", "demo-04", "demo-05", "demo-06", "demo-07", "demo-09", "demo-13", "demo-20")
SAMPLED_WIDE = ("demo-14",)
KEY = 16  # hexadecimal digits


def demo_queries(rows: int | None = None) -> Dataset:
    """The bundled queries: id, query, and the names of the functions that each may call.

    Args:
        rows: only so many; default: all.

    >>> demo_queries(1)[0]["functions"]
    ['search', 'convert_units']
    """
    features = {"id": Value("string"), "query": Value("string"), "functions": List(Value("string"))}
    return table_from_rows(_lines("queries")[:rows], features, "demo queries")


def demo_model(**settings: Any) -> EngineSpec:
    """The engine that plays a model on `demo_queries`, with recorded replies.

    Args:
        settings: further fields of `EngineSpec`, such as `progress`.

    Raises:
        ScriptExhausted: when it runs, at another query, or in a state of a search that was not recorded.

    >>> from toolrlef_data import generate_trajectories
    >>> generate_trajectories(demo_queries(1), DEMO_FUNCTIONS, demo_model(progress=False))[0]["finish_type"]
    'give_answer'
    """
    script = digest(_lines("search_replies"), code_digest(play))  # all that determines its replies
    return EngineSpec("scripted", "demo script", options={"function": play, "script": script}, **settings)


def play(request: Request) -> Reply:
    """The recorded reply to a request of a search.

    Raises:
        ScriptExhausted: none is recorded for its conversation.
    """
    turns: list[dict[str, Any]] = []
    for message in request.messages:
        if message.role != "system":
            calls = [{"function": {"name": name, "arguments": given}} for _, name, given in message.tool_calls]
            turns.append({"role": message.role, "content": message.content, "tool_calls": calls})
    text = "\n".join(turn["content"] for turn in (render_text_turns(turns, []) if request.tools else turns))
    key = hashlib.sha256(text.encode()).hexdigest()[:KEY]
    if key not in (recorded := _recorded()):
        raise ScriptExhausted(
            "the demo script knows its own queries only (`demo_queries`), searched with its own functions and at most "
            f"three tries from a state: no reply is recorded under {key}, for {text[:120]!r} ... {text[-120:]!r}"
        )
    reply = recorded[key][min(request.sample, len(recorded[key]) - 1)]
    if not request.tools:
        return Reply(reply)
    thought, call = message_from(Reply(reply), "text")
    return Reply(thought or "", tool_calls=() if call is None else (call,))


@functools.lru_cache
def _recorded() -> dict[str, list[str]]:
    return {row["key"]: row["replies"] for row in _lines("search_replies")}


@functools.lru_cache
def _lines(name: str) -> list[dict[str, Any]]:
    text = (resources.files("toolrlef_data") / "samples" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def sample_answers() -> list[Dataset]:
    """What the source `sample_trajectories` bundles, made anew: `write_answers` writes these tables as its files."""

    def search(query: str) -> list[str]:
        """Searches a small encyclopedia and gives the five passages that fit best.

        Args:
            query: What to look for, in a few words.
        """
        return list(value_of(wiki_search("sample", k=5).run(query)))

    wide = [function for function in DEMO_FUNCTIONS if function.__name__ != search.__name__] + [search]
    made = []
    for ids, functions in ((SAMPLED, DEMO_FUNCTIONS), (SAMPLED_WIDE, wide)):
        rows = [row for row in _lines("queries") if row["id"] in ids]
        queries = table_from_rows(rows, demo_queries(1).features, "demo queries")
        made.append(generate_trajectories(queries, functions, demo_model(progress=False)))
    return made
