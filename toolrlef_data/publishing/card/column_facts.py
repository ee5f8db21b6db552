"""Meaning, type and author of every column for the data card; equal tables of several configs are described once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from datasets import Dataset, Features, LargeList, List, Value

from toolrlef_data import columns
from toolrlef_data.column_meanings import COLUMN_MEANINGS, RESPONSE_MEANINGS
from toolrlef_data.columns import completed, responders_of
from toolrlef_data.toolbench.tokens.labels import TOKENS
from toolrlef_data.trice.cassette import EXECUTIONS
from toolrlef_data.trice.ranking.agreement import AGREEMENT
from toolrlef_data.trice.ranking.logprobs import LOGPROBS

__all__ = ["Column", "column_facts", "response_columns"]

# Kind of table, a key of `COLUMN_MEANINGS` -> its features.
FEATURES = {
    "questions": columns.LABELLED,
    "stage1": columns.STAGE1,
    "not_calling": columns.NOT_CALLING,
    "stage2": columns.STAGE2,
    "answers": columns.ANSWERS,
    "trajectories": columns.TRAJECTORIES,
    "toolllama": columns.TOOLLLAMA,
    "pairs": columns.PAIRS,
    "tokens": TOKENS,
    "executions": EXECUTIONS,
    "need": columns.NEED,
    "logprobs": LOGPROBS,
    "agreement": AGREEMENT,
    "dropped": columns.DROPPED,
}
MIN_SHARED = 3  # columns that a table shares with a kind; fewer, such as `id`, can have another meaning in own tables


class Column(NamedTuple):
    """A column in the card; its meaning and author are empty if they are unknown."""

    name: str
    type: str
    meaning: str
    author: str


def column_facts(
    splits: Mapping[str, Mapping[str, Dataset]], given: Mapping[str, str] | None = None
) -> list[tuple[list[str], list[Column]]]:
    """Return (configs, their columns) for each distinct set of columns.

    Args:
        splits: config -> split -> table.
        given: column -> meaning, for columns of the publisher.
    """
    groups: dict[str, tuple[list[str], list[Column]]] = {}
    for config, tables in splits.items():
        features = next(iter(tables.values())).features
        configs, _ = groups.setdefault(repr(features), ([], describe(features, given or {})))
        configs.append(config)
    return list(groups.values())


def describe(features: Features, given: Mapping[str, str]) -> list[Column]:
    """Return the description of every column of a table.

    >>> own = Features(id=Value("string"), source=Value("string"))
    >>> [column.meaning for column in describe(own, {"source": "who measured it"})]
    ['', 'who measured it']
    >>> describe(columns.DROPPED, {})[4]
    Column(name='reason', type='string', meaning='why it was dropped', author='pipeline')
    """
    complete = completed(features)
    shared = {
        kind: [name for name, feature in known.items() if complete.get(name) == feature]
        for kind, known in FEATURES.items()
    }
    kinds = sorted((kind for kind in shared if len(shared[kind]) >= MIN_SHARED), key=lambda kind: -len(shared[kind]))
    responders = responders_of(features)
    described = []
    for name, feature in features.items():
        kind = next((kind for kind in kinds if name in shared[kind]), None)
        meaning, author = COLUMN_MEANINGS[kind][name] if kind else ("", "")
        if name in responders and not kind:
            whose = "the output of stage 1" if name == "gold" else "the responder with the name of the column"
            meaning, author = f"the response of {whose}", "model"
        described.append(Column(name, _type_text(feature), given.get(name, meaning), author))
    return described


def response_columns(splits: Mapping[str, Mapping[str, Dataset]]) -> list[Column]:
    """Return the description of the fields of a response; empty if no table has one."""
    if not any(responders_of(data.features) for tables in splits.values() for data in tables.values()):
        return []
    return [Column(name, _type_text(columns.RESPONSE[name]), *text) for name, text in RESPONSE_MEANINGS.items()]


def _type_text(feature: Any) -> str:
    """Return a feature as text, such as "list of string"; a struct without its fields."""
    if isinstance(feature, (List, LargeList)):
        return f"list of {_type_text(feature.feature)}"
    if isinstance(feature, dict):
        return "response" if responders_of(Features(x=feature)) else "struct"
    return feature.dtype if isinstance(feature, Value) else type(feature).__name__
