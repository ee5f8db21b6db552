"""card: fills the templates of `cards/` with numbers computed from the tables, and writes README.md."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from datasets import Dataset, DatasetInfo, Features, SplitDict, SplitInfo
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCardData

from toolrlef_data.columns import responders_of
from toolrlef_data.publishing.provenance import funnel, settings_behind
from toolrlef_data.publishing.step_facts import ITEMS, Facts, queries_in, shortened, step_facts
from toolrlef_data.tables.splits import SHUFFLE
from toolrlef_data.toolbench.samples import SampleSettings
from toolrlef_data.toolbench.tokens.steps import TokeniseSettings
from toolrlef_data.trice.execution import ExecutionSettings

__all__ = ["dropped_counts", "score_table", "write_card"]

Splits = Mapping[str, Mapping[str, Dataset]]
Mixes = Mapping[str, Mapping[str, list[str]]]
# Template -> the title where the user gives none.
TITLES = {
    "tool_use": "Tool-use training data with execution feedback",
    "trajectories": "Tool-use trajectories",
    "both": "Tool-use training data with execution feedback, and trajectories",
}
TOOL_USE = frozenset({"question", "uses_tool"})  # one of these stands in every table from the questions to stage 2
HEX = re.compile("[0-9a-f]{17,}").fullmatch
# Size categories of the Hub's card specification.
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


def write_card(
    folder: Path, splits: Splits, provenance: Mapping[str, Any], card: Mapping[str, Any], mixes: Mixes | None = None
) -> None:
    """Write README.md: metadata with `configs` and `dataset_info`, and a card of the kind that the tables are of.

    Args:
        folder: holds the Parquet files already.
        splits: config -> split -> table.
        provenance: as in provenance.json.
        card: title and metadata fields that the user gave.
        mixes: config -> split -> configs whose files it joins; no second copy of the data.
    """
    mixes = mixes or {}
    steps = step_facts(splits)
    kind = _kind(splits, steps)
    title = str(card.get("title") or TITLES[kind])
    infos = _infos(folder, splits, mixes)
    metadata = _metadata({"pretty_name": title, "tags": ["tool-use", "synthetic"], **card}, splits, mixes, infos)
    facts = _table_facts(splits, mixes, infos, steps) | _tool_use_facts(splits)
    facts |= _trajectory_facts(steps, provenance) | _provenance_facts(provenance)
    body = _templates().get_template(f"{kind}.md.jinja").render(title=title, **facts)
    (folder / "README.md").write_text(f"---\n{metadata.to_yaml()}\n---\n\n{body.strip()}\n", encoding="utf-8")


def _metadata(
    given: Mapping[str, Any], splits: Splits, mixes: Mixes, infos: Mapping[str, DatasetInfo]
) -> DatasetCardData:
    """The front matter: what is given, the size, and `configs` and `dataset_info`, which `load_dataset` reads."""
    metadata = DatasetCardData(**{name: value for name, value in given.items() if name != "title"})
    rows = sum(len(data) for named in splits.values() for data in named.values())
    metadata["size_categories"] = [next((name for limit, name in SIZES if rows < limit), "n>10M")]
    DatasetInfosDict(infos).to_dataset_card_data(metadata)
    files = {config: _data_files({name: [config] for name in named}) for config, named in splits.items()}
    files |= {config: _data_files(joined) for config, joined in mixes.items()}
    files[next(iter(splits))]["default"] = True
    MetadataConfigs(files).to_dataset_card_data(metadata)
    for name in ("configs", "dataset_info"):  # datasets sorts them; the default one belongs first
        told = metadata[name] if isinstance(metadata[name], list) else [metadata[name]]
        metadata[name] = sorted(told, key=lambda own: list(files).index(own["config_name"]))
    return metadata


# What the templates are given; a name that is missing is an error there -----------------------------------------------


def _table_facts(
    splits: Splits, mixes: Mixes, infos: Mapping[str, DatasetInfo], steps: Mapping[str, Facts]
) -> dict[str, Any]:
    """Of tables of every kind."""
    sizes = {
        config: {name: split.num_examples for name, split in info.splits.items()} for config, info in infos.items()
    }
    return {
        "splits": sizes,
        "mixes": {
            config: sorted({one for ones in joined.values() for one in ones}) for config, joined in mixes.items()
        },
        "examples": {config: _example(named, ITEMS if config in steps else None) for config, named in splits.items()},
        "cassettes": [config for config in splits if config.endswith("-cassette")],
        "ledgers": [config for config in splits if config.endswith("-dropped")],
        "dropped": dropped_counts(splits),
    }


def _tool_use_facts(splits: Splits) -> dict[str, Any]:
    return {"scores": score_table(splits), "uses_tool": _uses_tool(splits)}


def _trajectory_facts(steps: Mapping[str, Facts], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Of tables of steps, and of the stages that made them."""
    queries, shared = queries_in(steps)
    return {
        "steps": steps,
        "kinds": {facts.kind for facts in steps.values()},
        "datasets": sorted({name for facts in steps.values() for name in facts.counts["dataset"]}),
        "queries": queries,
        "shared": shared,
        "tokenisers": settings_behind(provenance, TokeniseSettings.kind),
        "orders": _orders(provenance),
        "histories": _histories(steps, provenance),
    }


def _provenance_facts(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Of how all tables were made."""
    configs = provenance["configs"].items()
    return {
        "version": provenance["version"],
        "stages": funnel(provenance),
        "trail_ends": [name for name, named in configs if not all(own["trail_is_whole"] for own in named.values())],
        "engines": _engines(provenance),
        "usage": _usage(provenance),
        "tools": _tools(provenance),
        "packages": provenance["packages"],
    }


def _kind(splits: Splits, steps: Mapping[str, Facts]) -> str:
    """The template for what a folder holds."""
    others = [data for config, named in splits.items() if config not in steps for data in named.values()]
    tool_use = any(TOOL_USE & set(data.column_names) for data in others)
    return ("both" if tool_use else "trajectories") if steps else "tool_use"


def _histories(steps: Mapping[str, Facts], provenance: Mapping[str, Any]) -> list[str]:
    """The histories that occur: told by the rows, by what they were made of, and always clean in pairs."""
    found = {name for facts in steps.values() for name in facts.counts["history"]}
    made = settings_behind(provenance, SampleSettings.kind)
    found |= {settings["history"] for config in steps for settings in made.get(config, ())}
    found |= {"clean" for facts in steps.values() if facts.kind == "pairs"}
    return [name for name in ("faithful", "upstream", "clean") if name in found]


def _orders(provenance: Mapping[str, Any]) -> dict[int, list[str]]:
    """Seed of `shuffle_steps` -> the tables that it put in order."""
    found: dict[int, list[str]] = {}
    for stage in funnel(provenance):
        if stage["step"] == SHUFFLE:
            found.setdefault(stage["settings"]["seed"], []).append(stage["led_to"])
    return found


def dropped_counts(splits: Splits) -> list[tuple[str, str, int]]:
    """(stage, reason, rows) of every `dropped` table, most rows first."""
    counts: Counter[tuple[str, str]] = Counter()
    for config, named in splits.items():
        if config.endswith("-dropped"):
            for data in named.values():
                counts.update(zip(data["stage"], data["reason"], strict=True))
    return [
        (stage, reason, rows) for (stage, reason), rows in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def score_table(splits: Splits) -> list[dict[str, Any]]:
    """One row a responder over all stage 2 tables: rows, mean score, share of each score, share of tool use."""
    totals: dict[str, dict[str, Any]] = {}
    for named in splits.values():
        for data in named.values():
            if not {"origin", "scores", "uses_tool"} <= set(data.column_names):
                continue
            for batch in data.select_columns(["origin", "scores", "uses_tool"]).iter(1000):
                for origin, scores, tools in zip(batch["origin"], batch["scores"], batch["uses_tool"], strict=True):
                    for name, score, tool in zip(origin, scores, tools, strict=True):
                        own = totals.setdefault(
                            name, {"name": name, "rows": 0, "sum": 0.0, "tool": 0, "levels": Counter()}
                        )
                        own["rows"] += 1
                        own["sum"] += score
                        own["tool"] += tool
                        own["levels"][score] += 1
    levels = sorted({level for own in totals.values() for level in own["levels"]}, reverse=True)
    return [
        {
            "name": own["name"],
            "rows": own["rows"],
            "mean": own["sum"] / own["rows"],
            "tool": own["tool"] / own["rows"],
            "levels": [(level, own["levels"][level]) for level in levels],
        }
        for own in totals.values()
    ]


def _uses_tool(splits: Splits) -> dict[str, dict[str, Any]]:
    """config -> rows, and of those whose target is a call: how many, and by what they were verified ("" by nothing)."""
    counts: dict[str, dict[str, Any]] = {}
    for config, named in splits.items():
        if not all({"output", "uses_tool"} <= set(data.column_names) for data in named.values()):
            continue
        if any(responders_of(data.features) for data in named.values()):
            continue
        calls: Counter[str] = Counter()
        for data in named.values():
            told = data["verified_by"][:] if "verified_by" in data.column_names else [None] * len(data)
            calls.update(by or "" for by, uses in zip(told, data["uses_tool"][:], strict=True) if uses)
        rows = sum(len(data) for data in named.values())
        counts[config] = {"rows": rows, "calls": calls.total(), "verified_by": sorted(calls.items())}
    return counts


def _tools(provenance: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(task, tool, version) of every tool that was executed."""
    found = set()
    for stage in provenance["stages"].values():
        settings = stage["settings"] if isinstance(stage["settings"], dict) else {}
        if stage["step"] == ExecutionSettings.kind and isinstance(tasks := settings.get("tasks"), dict):
            found |= {(name, task["tool"]["name"], task["tool"]["version"]) for name, task in tasks.items()}
    return sorted(found)


def _engines(provenance: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every model that was asked, with its settings and the digests that identify it."""
    found: dict[str, dict[str, Any]] = {}
    for stage in provenance["stages"].values():
        settings = stage["settings"]
        if isinstance(settings, dict) and "spec" in settings:
            spec, identity = settings["spec"], settings["identity"]
            own = found.setdefault(repr((spec, identity)), {**spec, "identity": ", ".join(_digests("", identity))})
            own.setdefault("steps", {})[stage["step"]] = True
    return [found[key] for key in sorted(found)]


def _usage(provenance: Mapping[str, Any]) -> list[tuple[str, Counter[str]]]:
    """(model, requests and tokens) of every model, as the stages counted them."""
    used: dict[str, Counter[str]] = {}
    for stage in provenance["stages"].values():
        if taken := stage.get("usage"):
            used.setdefault(taken["model"], Counter()).update({k: v for k, v in taken.items() if k != "model"})
    return sorted(used.items())


def _digests(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from _digests(f"{name} {key}".strip(), value[key])
    elif isinstance(value, str):
        yield f"{name} `{value[:16] if HEX(value) else value}`"


def _infos(folder: Path, splits: Splits, mixes: Mixes) -> dict[str, DatasetInfo]:
    """Of every config, also of those that read the files of others."""
    infos: dict[str, DatasetInfo] = {}
    for config, named in splits.items():
        sizes = {name: (data.data.nbytes, len(data)) for name, data in named.items()}
        files = [file for name in named for file in (folder / config).glob(f"{name}-*.parquet")]
        download = sum(file.stat().st_size for file in files)
        infos[config] = _info(config, next(iter(named.values())).features, sizes, download)
    for config, joined in mixes.items():
        parts = {name: [infos[one].splits[name] for one in ones] for name, ones in joined.items()}
        sizes = {
            name: (sum(one.num_bytes for one in ones), sum(one.num_examples for one in ones))
            for name, ones in parts.items()
        }
        origins = [infos[one] for one in {one: None for ones in joined.values() for one in ones}]
        infos[config] = _info(config, origins[0].features, sizes, sum(one.download_size for one in origins))
    return infos


def _info(config: str, features: Features, sizes: Mapping[str, tuple[int, int]], download: int) -> DatasetInfo:
    """`sizes`: bytes and rows of every split; `download`: bytes of all files."""
    splits = {name: SplitInfo(name, num_bytes=size, num_examples=rows) for name, (size, rows) in sizes.items()}
    info = DatasetInfo(features=features, config_name=config)
    info.splits = SplitDict(splits)
    info.download_size = download
    info.dataset_size = sum(size for size, _ in sizes.values())
    return info


def _data_files(joined: Mapping[str, list[str]]) -> dict[str, Any]:
    """The files of each split, of its own config or of several."""
    files = []
    for name, configs in joined.items():
        paths = [f"{config}/{name}-*" for config in configs]
        files.append({"split": name, "path": paths[0] if len(paths) == 1 else paths})
    return {"data_files": files}


def _example(named: Mapping[str, Dataset], items: int | None) -> dict[str, Any] | None:
    first = next(iter(named.values()))
    return {name: shortened(value, items) for name, value in first[0].items()} if len(first) else None


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)


def _cell(text: Any, most: int = 80) -> str:
    """A text that others wrote, as code in a cell of a table."""
    line = " ".join(str(text).split())
    line = line[:most] + " ..." if len(line) > most else line
    return f"`{line.replace('`', chr(39)).replace('|', chr(92) + '|')}`" if line else "(empty)"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"


def _templates() -> jinja2.Environment:
    folder = str(resources.files("toolrlef_data") / "cards")
    templates = jinja2.Environment(  # noqa: S701 (Markdown, not HTML)
        loader=jinja2.FileSystemLoader(folder), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    templates.filters |= {"as_json": _as_json, "cell": _cell, "share_of": _share}
    return templates
