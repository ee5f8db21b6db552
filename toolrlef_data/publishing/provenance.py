"""provenance: where published tables came from, as JSON values, from the records of their stages.

Models, settings, counts and versions; prompts as hashes, and no path of this machine. `funnel` and `settings_behind`
read what `provenance_of` gives, for the card.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Collection, Mapping
from typing import Any

from datasets import Dataset

from toolrlef_data.tables.lineage import lineage
from toolrlef_data.tables.redaction import published
from toolrlef_data.tables.stage_cache import materialize
from toolrlef_data.toolbench.preferences import PairSettings
from toolrlef_data.toolbench.samples import SampleSettings
from toolrlef_data.toolbench.tokens.steps import TokeniseSettings

__all__ = ["funnel", "provenance_of", "settings_behind"]

PACKAGES = ("toolrlef_data", "datasets", "pyarrow", "torch", "transformers", "peft")
# Stages that make many rows of one or none, so that `rows_in` of their records counts what was made and what left.
APART = frozenset({SampleSettings.kind, PairSettings.kind, TokeniseSettings.kind})
# Of their settings, those that decide what is in the rows.
DECIDE = (
    *("layout", "style", "history", "steps", "finish", "without", "keep_thought"),
    *("protocol", "max_length", "too_long", "options"),
)
log = logging.getLogger("toolrlef_data")


def provenance_of(configs: Mapping[str, Mapping[str, Dataset]]) -> dict[str, Any]:
    """What is known of tables: `configs` (rows, trail), `stages` (settings and counts) and `packages`.

    Args:
        configs: config -> split -> table.
    """
    stages: dict[str, dict[str, Any]] = {}
    told: dict[str, Any] = {}
    for config, split, data in ((c, s, data) for c, named in configs.items() for s, data in named.items()):
        trail = lineage(data)
        for record in trail:
            fields = ("step", "inputs", "rows_in", "rows_out", "dropped")
            stages[record["fingerprint"]] = {
                **{field: record[field] for field in fields},
                "settings": record.get("published"),  # a record of an earlier version does not say what may be read
                **({"usage": published(record["usage"])} if "usage" in record else {}),
            }
        gap = _gap_of(trail)
        told.setdefault(config, {})[split] = {
            "rows": len(data),
            "fingerprint": materialize(data)._fingerprint,
            "trail": gap or "known from its source on",
            "trail_is_whole": not gap,
        }
        if gap:
            log.warning("%s (%s): %s", config, split, gap)
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"configs": told, "stages": stages, "packages": versions}


def funnel(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every stage, with what the card says of it beside its record.

    Args:
        told: from `provenance_of`.

    Returns:
        stages with `apart` (it takes rows apart), `given` (rows of its input tables; None where one is not known),
        `led_to` (the tables behind it, in words) and `decided` (its settings in words, where it takes rows apart).
    """
    stages, ways = told["stages"], _ways(told)
    found = []
    for key, stage in stages.items():
        inputs = [stages.get(parent) for parent in stage["inputs"]]
        given = None if None in inputs else sum(each["rows_out"] for each in inputs)
        apart = stage["step"] in APART
        decided = _in_words(stage["settings"]) if apart and isinstance(stage["settings"], dict) else ""
        behind = [table for table, way in ways.items() if key in way]
        found.append({**stage, "apart": apart, "given": given, "decided": decided, "led_to": _named(behind, ways)})
    return found


def settings_behind(told: Mapping[str, Any], step: str) -> dict[str, list[dict[str, Any]]]:
    """config -> the settings of all stages of one name on the way to it, each once."""
    found: dict[str, list[dict[str, Any]]] = {}
    for (config, _), way in _ways(told).items():
        for stage in (stage for key, stage in told["stages"].items() if key in way and stage["step"] == step):
            if stage["settings"] not in found.setdefault(config, []):
                found[config].append(stage["settings"])
    return found


def _ways(told: Mapping[str, Any]) -> dict[tuple[str, str], set[str]]:
    """(config, split) -> the stages that led to it."""
    ways = {}
    for config, split, facts in ((c, s, facts) for c, named in told["configs"].items() for s, facts in named.items()):
        way, ahead = set(), [facts["fingerprint"]]
        while ahead:
            if (key := ahead.pop()) in told["stages"] and key not in way:
                way.add(key)
                ahead += told["stages"][key]["inputs"]
        ways[config, split] = way
    return ways


def _named(tables: Collection[tuple[str, str]], every: Collection[tuple[str, str]]) -> str:
    """Tables in few words."""
    if len(tables) == len(every) > 1:
        return "all"
    words = []
    for config in dict.fromkeys(config for config, _ in tables):
        splits = [split for name, split in tables if name == config]
        whole = len(splits) == sum(name == config for name, _ in every)
        words.append(config if whole else f"{config} ({', '.join(splits)})")
    return ", ".join(words)


def _in_words(settings: Mapping[str, Any]) -> str:
    """The settings that decide what is in the rows, those without a value left out.

    >>> _in_words({"finish": ["give_answer", "give_up"], "without": [], "layout": "split", "max_length": None})
    'layout split, finish give_answer + give_up'
    """
    words = []
    for name in DECIDE:
        value = settings.get(name)
        if isinstance(value, list):
            value = " + ".join(map(str, value))
        elif isinstance(value, dict):
            value = " + ".join(f"{key}={part}" for key, part in value.items())
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        words += [] if value in (None, "") else [f"{name} {value}"]
    return ", ".join(words)


def _gap_of(trail: list[dict[str, Any]]) -> str:
    """Why the records of a table do not lead back to where its rows began; empty where they do."""
    known = {record["fingerprint"] for record in trail}
    ends = [record["step"] for record in trail if not known.issuperset(record["inputs"])]
    if ends or not trail:
        where = f"before the step {ends[0]!r}" if ends else "here"
        return (
            f"the trail ends {where}: that table is not the output of a stage (it was shuffled, selected or made "
            "elsewhere); pass dropped= and provenance= to say what is known of it"
        )
    if any(record["step"] == "rows" for record in trail):
        return "the trail begins at rows that were given in memory; pass provenance= to say where they came from"
    return ""
