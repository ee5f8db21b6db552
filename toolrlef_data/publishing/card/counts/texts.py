"""Counts of texts: their lengths in words, and those with an e-mail address, a link or a phone number.

| key | number of |
|---|---|
| words, name, number | texts with this number of words, which white space separates; empty ones are not counted |
| texts, column | texts |
| pattern, column, kind | texts with a match of the pattern of `PATTERNS` |

Only columns with texts of a source, a model or a tool are searched, and own columns. A regular expression finds neither
names nor addresses of people; numbers in the form of a phone number can be anything.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Features

from toolrlef_data.column_meanings import RESPONSE_MEANINGS
from toolrlef_data.columns import STAGE2, responders_of
from toolrlef_data.publishing.card.column_facts import describe
from toolrlef_data.publishing.card.counts.keys import CountBatch, Counts

__all__ = ["MEASURED", "PATTERNS", "counter"]

# Kind -> regular expression of RE2.
PATTERNS = {
    "e-mail address": r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}",
    "link": r"(?i)\b(?:https?://|www\.)[^\s/]",
    "phone-like number": (
        r"(?:^|[^\d.,/*+-])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)|\d{1,4})(?:[ .-]?\d{2,4}){2,3}"
        r"|\(\d{2,4}\) ?\d{3,4}[ .-]\d{3,4}|\d{3}[ .-]\d{3}[ .-]\d{4})(?:$|[^\d/*+-])"
    ),
}
AUTHORS = frozenset({"source", "model", "tool"})
SAME = "raw"  # of a response: the text again
# Column -> the field of its structs with the text; empty for a column of texts.
MEASURED = {
    **dict.fromkeys(("question", "context", "input", "output", "query"), ""),
    **dict.fromkeys(("messages", "prompt", "chosen", "rejected"), "content"),
    "conversations": "value",
}


class Plan(NamedTuple):
    """The columns to search, to measure, with a response each, and whether the table has ranked responses."""

    searched: list[str]
    measured: list[str]
    responders: list[str]
    is_ranked: bool


def counter(features: Features) -> CountBatch | None:
    """Return the columns to read and the function that counts them; None if the table has no texts."""
    repeated = {"query"} if "input" in features else set()
    searched = [c.name for c in describe(features, {}) if _is_searched(c.author) and c.name not in repeated]
    measured = [name for name in MEASURED if name in features and name not in repeated]
    ranked = ["origin", "responses"]
    ranked = ranked if all(features.get(name) == STAGE2[name] for name in ranked) else []
    columns = list(dict.fromkeys([*searched, *measured, *ranked]))
    plan = Plan(searched, measured, responders_of(features), bool(ranked))
    return (columns, functools.partial(count, plan)) if columns else None


def count(plan: Plan, batch: pa.Table, counts: Counts) -> None:
    """Add the counts of a batch."""
    columns = {name: batch.column(name).combine_chunks() for name in batch.column_names}
    _count_words(plan, columns, counts)
    for name in plan.searched:
        for texts in _leaves(columns[name]):
            counts["texts", name] += len(texts) - texts.null_count
            for kind, pattern in PATTERNS.items():
                counts["pattern", name, kind] += pc.sum(pc.match_substring_regex(texts, pattern=pattern)).as_py() or 0


def _count_words(plan: Plan, columns: dict[str, Any], counts: Counts) -> None:
    for name in plan.measured:
        column, field = columns[name], MEASURED[name]
        if field and pa.types.is_list(column.type) and pa.types.is_struct(column.type.value_type):
            column = pc.struct_field(pc.list_flatten(column), field)
        if pa.types.is_string(column.type):
            _add_words(name, column.to_pylist(), counts)
    for name in plan.responders:
        _add_words(name, pc.struct_field(columns[name], "text").to_pylist(), counts)
    if plan.is_ranked:
        pairs = zip(
            pc.list_flatten(columns["origin"]).to_pylist(),
            pc.list_flatten(columns["responses"]).to_pylist(),
            strict=False,
        )
        for origin, text in pairs:
            _add_words(str(origin), [text], counts)


def _add_words(name: str, texts: list[str | None], counts: Counts) -> None:
    for text in texts:
        if text and (number := len(text.split())):
            counts["words", name, number] += 1


def _is_searched(author: str) -> bool:
    return not author or bool(AUTHORS & set(author.split(", ")))


def _leaves(column: Any) -> Iterator[Any]:
    """Yield the texts of a column, of its lists and of its structs; of responses, those of a model or a tool."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        yield column
    elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        yield from _leaves(pc.list_flatten(column))
    elif pa.types.is_struct(column.type):
        names = [column.type.field(i).name for i in range(column.type.num_fields)]
        is_response = RESPONSE_MEANINGS.keys() >= set(names) and SAME in names
        for name in names:
            if not is_response or (name != SAME and _is_searched(RESPONSE_MEANINGS[name][1])):
                yield from _leaves(pc.struct_field(column, name))
