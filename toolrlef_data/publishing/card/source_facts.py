"""Sources for the data card: the data sets of the rows, with their licences, and the numbers of rows by config."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import pyarrow.compute as pc
from datasets import Dataset

from toolrlef_data.columns import DROPPED
from toolrlef_data.loading_scripts import SOURCES
from toolrlef_data.loading_scripts.licences import LICENCES, UNKNOWN, Licence, strictest
from toolrlef_data.tables.stage_cache import as_arrow

__all__ = ["SourceFacts", "licence_fields", "source_facts"]

BATCH_ROWS = 10_000
RESEARCH_ONLY = "other"  # on the Hub, a licence that it does not list
NOT_A_SOURCE = Licence("", "", "not a source of this package; the publisher knows its terms", language="")


class SourceFacts(NamedTuple):
    """A data set in the column `dataset`: its licence, and its rows by config."""

    name: str
    licence: Licence
    rows: dict[str, int]


def source_facts(splits: Mapping[str, Mapping[str, Dataset]]) -> list[SourceFacts]:
    """Return the data sets of all tables, sorted by name; dropped rows are not counted.

    Args:
        splits: config -> split -> table.
    """
    rows: dict[str, Counter[str]] = {}
    for config, tables in splits.items():
        for data in tables.values():
            if config.endswith("-dropped") or data.features.get("dataset") != DROPPED["dataset"]:
                continue
            for batch in as_arrow(data, ["dataset"]).iter(BATCH_ROWS):
                for pair in pc.value_counts(batch["dataset"]).to_pylist():
                    if pair["values"] is not None:
                        rows.setdefault(pair["values"], Counter())[config] += pair["counts"]
    return [SourceFacts(name, LICENCES.get(name, NOT_A_SOURCE), dict(rows[name])) for name in sorted(rows)]


def licence_fields(sources: list[SourceFacts]) -> dict[str, str | list[str]]:
    """Return the metadata that the sources determine: the strictest licence and the languages if all are known; ids.

    >>> facts = [SourceFacts(name, LICENCES[name], {}) for name in ("gsm8k", "asdiv")]
    >>> licence_fields(facts)
    {'license': 'cc-by-nc-4.0', 'language': ['en'], 'source_datasets': ['EleutherAI/asdiv', 'openai/gsm8k']}
    """
    fields: dict[str, str | list[str]] = {}
    licence = strictest(source.licence.name for source in sources)
    if licence not in ("", UNKNOWN):
        fields["license"] = licence
    if licence == RESEARCH_ONLY:
        source = next(source for source in sources if strictest([source.licence.name]) == RESEARCH_ONLY)
        fields |= {"license_name": source.licence.name.replace(" ", "-"), "license_link": source.licence.homepage}
    languages = {source.licence.language for source in sources}
    if languages and "" not in languages:
        fields["language"] = sorted(languages)
    ids = {SOURCES[source.name].hub[0] for source in sources if source.name in SOURCES and SOURCES[source.name].hub}
    if ids:
        fields["source_datasets"] = sorted(ids)
    return fields
