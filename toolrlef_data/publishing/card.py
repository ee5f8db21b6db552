"""Write the data card (README.md): the templates of `cards/`, filled with numbers computed from the tables."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pyarrow.parquet as pq
import yaml
from datasets import Dataset, DatasetInfo, Features, SplitDict, SplitInfo
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCardData

from toolrlef_data.publishing.grader_facts import grader_facts
from toolrlef_data.publishing.provenance import stage_settings, stage_summaries
from toolrlef_data.publishing.row_facts import MAX_ITEMS, dropped_counts, example, score_table, uses_tool
from toolrlef_data.publishing.step_facts import StepFacts, query_counts, step_facts
from toolrlef_data.records import clean_text
from toolrlef_data.tables.sampling.splits import SHUFFLE
from toolrlef_data.toolbench.samples import SampleSettings
from toolrlef_data.toolbench.tokens.steps import TokeniseSettings
from toolrlef_data.trice.call_execution import ExecutionSettings

__all__ = ["write_card"]

Splits = Mapping[str, Mapping[str, Dataset]]
Mixes = Mapping[str, Mapping[str, list[str]]]
# Template -> default title.
TITLES = {
    "tool_use": "Tool-use training data with execution feedback",
    "trajectories": "Tool-use trajectories",
    "both": "Tool-use training data with execution feedback, and trajectories",
}
TOOL_USE_COLUMNS = frozenset(
    {"question", "uses_tool"}
)  # every table from the questions to stage 2 has one of these columns
is_long_hex = re.compile("[0-9a-f]{17,}").fullmatch
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
    """Write README.md: metadata with `configs` and `dataset_info`, and the card for the kinds of tables.

    Args:
        folder: the folder, in which the Parquet files are already written.
        splits: config -> split -> table.
        provenance: contents of provenance.json.
        card: title and metadata fields from the user.
        mixes: mix config -> split -> configs whose files it reads.
    """
    mixes = mixes or {}
    steps = step_facts(splits)
    kind = _template_name(splits, steps)
    title = str(card.get("title") or TITLES[kind])
    infos = _infos(folder, splits, mixes)
    fields = {"pretty_name": title, "tags": ["tool-use", "synthetic"], **card}
    metadata = _metadata(fields, folder, splits, mixes, infos, provenance["version"])
    facts = _table_facts(splits, mixes, infos, steps) | _tool_use_facts(splits)
    facts |= _trajectory_facts(steps, provenance) | _provenance_facts(provenance)
    facts["graders"] = grader_facts(splits, provenance)
    body = _templates().get_template(f"{kind}.md.jinja").render(title=title, **facts)
    text = clean_text(f"---\n{metadata.to_yaml()}\n---\n\n{body.strip()}\n")
    (folder / "README.md").write_text(text, encoding="utf-8")


class Quoted(str):
    """A text that YAML has in quotes."""


yaml.add_representer(
    Quoted, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="'")
)


def _metadata(
    fields: Mapping[str, Any],
    folder: Path,
    splits: Splits,
    mixes: Mixes,
    infos: Mapping[str, DatasetInfo],
    version: str,
) -> DatasetCardData:
    """Return the front matter: given fields, size category, and `configs` and `dataset_info` for `load_dataset`."""
    metadata = DatasetCardData(**{name: value for name, value in fields.items() if name != "title"})
    rows = sum(len(data) for tables in splits.values() for data in tables.values())
    metadata["size_categories"] = [next((name for limit, name in SIZES if rows < limit), "n>10M")]
    DatasetInfosDict(infos).to_dataset_card_data(metadata)
    sources = {config: {name: [config] for name in tables} for config, tables in splits.items()} | dict(mixes)
    # `datasets` reads the version of a config here, and nowhere else.
    files: dict[str, dict[str, Any]] = {
        config: {"version": Quoted(version), "data_files": _data_files(folder, configs_by_split)}
        for config, configs_by_split in sources.items()
    }
    files[next(iter(splits))]["default"] = True
    MetadataConfigs(files).to_dataset_card_data(metadata)
    for name in ("configs", "dataset_info"):  # datasets sorts them by name; the default config must be first
        entries = metadata[name] if isinstance(metadata[name], list) else [metadata[name]]
        metadata[name] = sorted(entries, key=lambda entry: list(files).index(entry["config_name"]))
    return metadata


# Template variables ---------------------------------------------------------------------------------------------------


def _table_facts(
    splits: Splits, mixes: Mixes, infos: Mapping[str, DatasetInfo], steps: Mapping[str, StepFacts]
) -> dict[str, Any]:
    """Return the template variables for tables of every kind."""
    sizes = {
        config: {name: split.num_examples for name, split in info.splits.items()} for config, info in infos.items()
    }
    return {
        "splits": sizes,
        "mixes": {
            mix: sorted({config for configs in configs_by_split.values() for config in configs})
            for mix, configs_by_split in mixes.items()
        },
        "examples": {
            config: example(tables, MAX_ITEMS if config in steps else None) for config, tables in splits.items()
        },
        "cassettes": [config for config in splits if config.endswith("-cassette")],
        "ledgers": [config for config in splits if config.endswith("-dropped")],
        "dropped": dropped_counts(splits),
    }


def _tool_use_facts(splits: Splits) -> dict[str, Any]:
    return {"scores": score_table(splits), "uses_tool": uses_tool(splits)}


def _trajectory_facts(steps: Mapping[str, StepFacts], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the template variables for tables of steps."""
    queries, shared = query_counts(steps)
    return {
        "steps": steps,
        "kinds": {facts.kind for facts in steps.values()},
        "datasets": sorted({name for facts in steps.values() for name in facts.counts["dataset"]}),
        "queries": queries,
        "shared": shared,
        "tokenisers": stage_settings(provenance, TokeniseSettings.kind),
        "shuffles": _shuffles(provenance),
        "histories": _histories(steps, provenance),
    }


def _provenance_facts(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the template variables for the provenance of all tables."""
    return {
        "version": provenance["version"],
        "stages": stage_summaries(provenance),
        "incomplete": [
            config
            for config, tables in provenance["configs"].items()
            if not all(facts["trail_is_whole"] for facts in tables.values())
        ],
        "engines": _engines(provenance),
        "usage": _usage(provenance),
        "tools": _tools(provenance),
        "packages": provenance["packages"],
    }


def _template_name(splits: Splits, steps: Mapping[str, StepFacts]) -> str:
    """Return the name of the template for the kinds of tables in a folder."""
    others = [data for config, tables in splits.items() if config not in steps for data in tables.values()]
    tool_use = any(TOOL_USE_COLUMNS & set(data.column_names) for data in others)
    return ("both" if tool_use else "trajectories") if steps else "tool_use"


def _histories(steps: Mapping[str, StepFacts], provenance: Mapping[str, Any]) -> list[str]:
    """Return the kinds of history in the rows or in the settings of their stages; pairs always have clean histories."""
    histories = {name for facts in steps.values() for name in facts.counts["history"]}
    sample_settings = stage_settings(provenance, SampleSettings.kind)
    histories |= {settings["history"] for config in steps for settings in sample_settings.get(config, ())}
    histories |= {"clean" for facts in steps.values() if facts.kind == "pairs"}
    return [name for name in ("faithful", "upstream", "clean") if name in histories]


def _shuffles(provenance: Mapping[str, Any]) -> dict[int, list[str]]:
    """Return seed of `shuffle_steps` -> names of the shuffled tables."""
    shuffles: dict[int, list[str]] = {}
    for stage in stage_summaries(provenance):
        if stage["step"] == SHUFFLE:
            shuffles.setdefault(stage["settings"]["seed"], []).append(stage["tables"])
    return shuffles


def _tools(provenance: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the distinct (task, tool, version) of the executed tools."""
    tools = set()
    for stage in provenance["stages"].values():
        settings = stage["settings"] if isinstance(stage["settings"], dict) else {}
        if stage["step"] == ExecutionSettings.kind and isinstance(tasks := settings.get("tasks"), dict):
            tools |= {(name, task["tool"]["name"], task["tool"]["version"]) for name, task in tasks.items()}
    return sorted(tools)


def _engines(provenance: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one record per engine: its settings, the digests that identify its model, and the names of its stages."""
    engines: dict[str, dict[str, Any]] = {}
    for stage in provenance["stages"].values():
        settings = stage["settings"]
        if isinstance(settings, dict) and "spec" in settings:
            spec, identity = settings["spec"], settings["identity"]
            engine = engines.setdefault(repr((spec, identity)), {**spec, "identity": ", ".join(_digests("", identity))})
            engine.setdefault("stages", {})[stage["step"]] = True
    return [engines[key] for key in sorted(engines)]


def _usage(provenance: Mapping[str, Any]) -> list[tuple[str, Counter[str]]]:
    """Return (model, Counter of its requests and tokens), summed over the stages."""
    usage: dict[str, Counter[str]] = {}
    for stage in provenance["stages"].values():
        if counts := stage.get("usage"):
            usage.setdefault(counts["model"], Counter()).update({k: v for k, v in counts.items() if k != "model"})
    return sorted(usage.items())


def _digests(name: str, value: Any) -> Iterator[str]:
    """Yield the leaves of a model's identity as text, with shortened hexadecimal digests."""
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from _digests(f"{name} {key}".strip(), value[key])
    elif isinstance(value, str):
        yield f"{name} `{value[:16] if is_long_hex(value) else value}`"


def _infos(folder: Path, splits: Splits, mixes: Mixes) -> dict[str, DatasetInfo]:
    """Return the `DatasetInfo` of every config, mixes included."""
    infos: dict[str, DatasetInfo] = {}
    for config, tables in splits.items():
        files = {name: list((folder / config).glob(f"{name}-*.parquet")) for name in tables}
        sizes = {name: (sum(map(_num_bytes, files[name])), len(data)) for name, data in tables.items()}
        download = sum(file.stat().st_size for parts in files.values() for file in parts)
        infos[config] = _info(config, next(iter(tables.values())).features, sizes, download)
    for config, configs_by_split in mixes.items():
        parts = {name: [infos[part].splits[name] for part in configs] for name, configs in configs_by_split.items()}
        sizes = {
            name: (sum(part.num_bytes for part in split_infos), sum(part.num_examples for part in split_infos))
            for name, split_infos in parts.items()
        }
        origins = [infos[part] for part in {part: None for configs in configs_by_split.values() for part in configs}]
        infos[config] = _info(config, origins[0].features, sizes, sum(origin.download_size for origin in origins))
    return infos


def _num_bytes(file: Path) -> int:
    """Return the uncompressed size of a Parquet file, which does not depend on the number of processes."""
    metadata = pq.read_metadata(file)
    return sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))


def _info(config: str, features: Features, sizes: Mapping[str, tuple[int, int]], download: int) -> DatasetInfo:
    """Return a `DatasetInfo`; `sizes`: split -> (bytes, rows), `download`: bytes of all files."""
    splits = {name: SplitInfo(name, num_bytes=size, num_examples=rows) for name, (size, rows) in sizes.items()}
    info = DatasetInfo(features=features, config_name=config)
    info.splits = SplitDict(splits)
    info.download_size = download
    info.dataset_size = sum(size for size, _ in sizes.values())
    return info


def _data_files(folder: Path, configs_by_split: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """Return split -> the paths of its files in the folders of one or more configs, as metadata of a config."""
    files = []
    for name, configs in configs_by_split.items():
        paths = [path for config in configs for path in sorted((folder / config).glob(f"{name}-*.parquet"))]
        names = [path.relative_to(folder).as_posix() for path in paths]
        files.append({"split": name, "path": names[0] if len(names) == 1 else names})
    return files


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)


def _cell(text: Any, max_chars: int = 80) -> str:
    """Return a text from the data as inline code for a table cell."""
    line = " ".join(str(text).split())
    line = line[:max_chars] + " ..." if len(line) > max_chars else line
    return f"`{line.replace('`', chr(39)).replace('|', chr(92) + '|')}`" if line else "(empty)"


def _share(part: float, total: float) -> str:
    return f"{100 * part / total:.1f} %" if total else "none"


@functools.cache
def _templates() -> jinja2.Environment:
    folder = str(resources.files("toolrlef_data") / "cards")
    templates = jinja2.Environment(  # noqa: S701 (Markdown, not HTML)
        loader=jinja2.FileSystemLoader(folder), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    templates.filters |= {"as_json": _as_json, "cell": _cell, "share_of": _share}
    return templates
