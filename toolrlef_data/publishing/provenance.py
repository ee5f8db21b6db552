"""Provenance of published tables: their lineage as JSON values.

It contains models, settings, row counts and package versions. Prompts appear only as hashes, local paths not at all.
`stage_summaries` and `stage_settings` prepare the result of `provenance_of` for the card.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from datasets import Dataset

from toolrlef_data.tables.lineage import lineage
from toolrlef_data.tables.redaction import redact
from toolrlef_data.tables.row_files import materialize
from toolrlef_data.tasks import TASKS
from toolrlef_data.toolbench.preferences import PairSettings
from toolrlef_data.toolbench.samples import SampleSettings
from toolrlef_data.toolbench.tokens.steps import TokeniseSettings
from toolrlef_data.trice.not_calling.stage import Settings as NotCallingSettings
from toolrlef_data.trice.row_tasks import warn_of_older_grades

__all__ = ["DECONTAMINATE", "NEAR_DUPLICATES", "overlap_checks", "provenance_of", "stage_settings", "stage_summaries"]

PACKAGES = ("toolrlef_data", "datasets", "pyarrow", "torch", "transformers", "peft")
# Stages with any number of output rows per input row. `rows_in` in their records is the sum of output rows and drops.
EXPANDING_STAGES = frozenset({SampleSettings.kind, PairSettings.kind, TokeniseSettings.kind, NotCallingSettings.kind})
# The settings of these stages that determine the contents of the rows.
CONTENT_SETTINGS = (
    *("layout", "style", "history", "steps", "finish", "without", "keep_thought"),
    *("protocol", "max_length", "too_long", "options"),
)
# Names of the stages of `decontaminate` and `drop_near_duplicates`.
DECONTAMINATE, NEAR_DUPLICATES = "decontaminate", "near duplicates"
log = logging.getLogger("toolrlef_data")


def provenance_of(configs: Mapping[str, Mapping[str, Dataset]]) -> dict[str, Any]:
    """Return the provenance of tables: `configs` (rows, trail), `stages` (settings, row counts) and `packages`.

    Args:
        configs: config -> split -> table.
    """
    stages: dict[str, dict[str, Any]] = {}
    trails: dict[str, Any] = {}
    for config, split, data in ((c, s, data) for c, tables in configs.items() for s, data in tables.items()):
        records = lineage(data)
        for record in records:
            fields = ("step", "inputs", "rows_in", "rows_out", "dropped")
            stages[record["fingerprint"]] = {
                **{field: record[field] for field in fields},
                "settings": record.get("published"),  # missing in records of earlier versions
                **({"usage": redact(record["usage"])} if "usage" in record else {}),
            }
        gap = _lineage_gap(records)
        trails.setdefault(config, {})[split] = {
            "rows": len(data),
            "fingerprint": materialize(data)._fingerprint,
            "trail": gap or "complete from the source on",
            "trail_is_whole": not gap,
        }
        if gap:
            log.warning("%s (%s): %s", config, split, gap)
    warn_of_older_grades([data for tables in configs.values() for data in tables.values()], TASKS)
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"configs": trails, "stages": stages, "packages": versions}


def stage_summaries(provenance: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the record of every stage with additional fields for the card.

    Args:
        provenance: result of `provenance_of`.

    Returns:
        Records with these additional fields:

        - expands: whether the stage is one of `EXPANDING_STAGES`.
        - input_rows: number of rows of its input tables; None if one of them is unknown.
        - tables: names of the published tables that it contributed to.
        - settings_text: its `CONTENT_SETTINGS` as text; empty unless the stage expands rows.
    """
    stages, table_stages = provenance["stages"], _table_stages(provenance)
    summaries = []
    for key, stage in stages.items():
        inputs = [stages.get(parent) for parent in stage["inputs"]]
        input_rows = None if None in inputs else sum(parent["rows_out"] for parent in inputs)
        expands = stage["step"] in EXPANDING_STAGES
        settings = stage["settings"] if expands and isinstance(stage["settings"], dict) else {}
        tables = [table for table, keys in table_stages.items() if key in keys]
        summaries.append(
            {
                **stage,
                "expands": expands,
                "input_rows": input_rows,
                "tables": _table_names(tables, table_stages),
                "settings_text": _settings_text(settings),
            }
        )
    return summaries


def overlap_checks(stages: Iterable[Mapping[str, Any]], stage_name: str) -> list[dict[str, Any]]:
    """Return the stages that compared rows with test sets or with each other, with their settings.

    Args:
        stages: result of `stage_summaries`.
        stage_name: `DECONTAMINATE` or `NEAR_DUPLICATES`.

    Returns:
        Records with the published settings of the stage, and `tables`, `rows_in` and `removed` (reason -> rows).
    """
    return [
        {**stage["settings"], "tables": stage["tables"], "rows_in": stage["rows_in"], "removed": stage["dropped"]}
        for stage in stages
        if stage["step"] == stage_name and isinstance(stage["settings"], dict)
    ]


def stage_settings(provenance: Mapping[str, Any], stage_name: str) -> dict[str, list[dict[str, Any]]]:
    """Return config -> the distinct settings of the stages in its lineage that are named `stage_name`."""
    settings: dict[str, list[dict[str, Any]]] = {}
    for (config, _), keys in _table_stages(provenance).items():
        for key, stage in provenance["stages"].items():
            if key not in keys or stage["step"] != stage_name:
                continue
            if stage["settings"] not in settings.setdefault(config, []):
                settings[config].append(stage["settings"])
    return settings


def _table_stages(provenance: Mapping[str, Any]) -> dict[tuple[str, str], set[str]]:
    """Return (config, split) -> the fingerprints of the stages in its lineage."""
    configs, stages = provenance["configs"], provenance["stages"]
    table_stages = {}
    for config, split, facts in ((c, s, facts) for c, tables in configs.items() for s, facts in tables.items()):
        keys, pending = set(), [facts["fingerprint"]]
        while pending:
            if (key := pending.pop()) in stages and key not in keys:
                keys.add(key)
                pending += stages[key]["inputs"]
        table_stages[config, split] = keys
    return table_stages


def _table_names(tables: Collection[tuple[str, str]], all_tables: Collection[tuple[str, str]]) -> str:
    """Return a short text for (config, split) pairs: "all", or configs, with their splits if some are missing."""
    if len(tables) == len(all_tables) > 1:
        return "all"
    names = []
    for config in dict.fromkeys(config for config, _ in tables):
        splits = [split for name, split in tables if name == config]
        has_all_splits = len(splits) == sum(name == config for name, _ in all_tables)
        names.append(config if has_all_splits else f"{config} ({', '.join(splits)})")
    return ", ".join(names)


def _settings_text(settings: Mapping[str, Any]) -> str:
    """Return the `CONTENT_SETTINGS` as text, without those that have no value.

    >>> _settings_text({"finish": ["give_answer", "give_up"], "without": [], "layout": "split", "max_length": None})
    'layout split, finish give_answer + give_up'
    """
    parts = []
    for name in CONTENT_SETTINGS:
        value = settings.get(name)
        if isinstance(value, list):
            value = " + ".join(map(str, value))
        elif isinstance(value, dict):
            value = " + ".join(f"{key}={item}" for key, item in value.items())
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        parts += [] if value in (None, "") else [f"{name} {value}"]
    return ", ".join(parts)


def _lineage_gap(records: list[dict[str, Any]]) -> str:
    """Return where a lineage starts if it does not start at a source of this package; empty if it does."""
    recorded = {record["fingerprint"] for record in records}
    first_stages = [record["step"] for record in records if not recorded.issuperset(record["inputs"])]
    if first_stages or not records:
        start = f"the input of the stage {first_stages[0]!r}" if first_stages else "this table"
        return (
            f"the lineage starts at {start}, which no stage made: it is your own table, or `datasets` has selected, "
            "reordered or changed its rows; describe its origin with provenance=, and rows dropped before with dropped="
        )
    if any(record["step"] == "rows" for record in records):
        return "the lineage starts at rows given in memory, your own table; describe their origin with provenance="
    return ""
