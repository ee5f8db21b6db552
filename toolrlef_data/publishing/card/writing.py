"""Write the data card (README.md): the templates of `cards/`, filled with numbers computed from the tables."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from datasets import Dataset, DatasetInfo

from toolrlef_data.publishing.card.column_facts import column_facts, response_columns
from toolrlef_data.publishing.card.grader_facts import grader_facts
from toolrlef_data.publishing.card.metadata import card_metadata, config_infos
from toolrlef_data.publishing.card.model_facts import model_facts
from toolrlef_data.publishing.card.need_facts import need_counts, need_differences
from toolrlef_data.publishing.card.prompt_facts import prompt_facts
from toolrlef_data.publishing.card.row_facts import MAX_ITEMS, dropped_counts, example, score_table, uses_tool
from toolrlef_data.publishing.card.source_facts import source_facts
from toolrlef_data.publishing.card.step_facts import StepFacts, query_counts, step_facts
from toolrlef_data.publishing.card.training_facts import training_facts
from toolrlef_data.publishing.markdown import FILTERS
from toolrlef_data.publishing.provenance import stage_settings, stage_summaries
from toolrlef_data.publishing.recipe_file import RECIPE_KEY
from toolrlef_data.records import clean_text
from toolrlef_data.tables.redaction import redact_path
from toolrlef_data.tables.sampling.splits import SHUFFLE
from toolrlef_data.toolbench.samples import SampleSettings
from toolrlef_data.toolbench.tokens.steps import TokeniseSettings

__all__ = ["write_card"]

Splits = Mapping[str, Mapping[str, Dataset]]
Mixes = Mapping[str, Mapping[str, list[str]]]
OWN_FIELDS = ("title", "tokenizer", "columns")  # keys of `card` that are no metadata
# Template -> default title.
TITLES = {
    "tool_use": "Tool-use training data with execution feedback",
    "trajectories": "Tool-use trajectories",
    "both": "Tool-use training data with execution feedback, and trajectories",
}
TOOL_USE_COLUMNS = frozenset(
    {"question", "uses_tool"}
)  # every table from the questions to stage 2 has one of these columns


def write_card(
    folder: Path, splits: Splits, provenance: Mapping[str, Any], card: Mapping[str, Any], mixes: Mixes | None = None
) -> None:
    """Write README.md: metadata with `configs` and `dataset_info`, and the card for the kinds of tables.

    Args:
        folder: the folder, in which the Parquet files are already written.
        splits: config -> split -> table.
        provenance: contents of provenance.json.
        card: title, tokenizer, columns and metadata fields from the user, as in `publish`.
        mixes: mix config -> split -> configs whose files it reads.
    """
    mixes = mixes or {}
    steps = step_facts(splits)
    kind = _template_name(splits, steps)
    title = " ".join(str(card.get("title") or TITLES[kind]).split())
    infos = config_infos(folder, splits, mixes)
    fields = {"pretty_name": title, "tags": ["tool-use", "synthetic"], **card}
    fields = {name: value for name, value in fields.items() if name not in OWN_FIELDS}
    metadata = card_metadata(fields, folder, splits, mixes, infos, provenance["version"])
    facts = _table_facts(splits, mixes, infos, steps) | _tool_use_facts(splits)
    facts |= _trajectory_facts(steps, provenance) | _provenance_facts(provenance)
    facts |= _content_facts(splits, steps, provenance, card)
    body = _templates().get_template(f"{kind}.md.jinja").render(title=title, **facts)
    text = clean_text(f"---\n{metadata.to_yaml()}\n---\n\n{body.strip()}\n")
    (folder / "README.md").write_text(text, encoding="utf-8")


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


def _content_facts(
    splits: Splits, steps: Mapping[str, StepFacts], provenance: Mapping[str, Any], card: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the template variables for columns, sources, prompts, graders, models and trainers."""
    tokenizer = card.get("tokenizer")
    return {
        "columns": column_facts(splits, card.get("columns")),
        "response_columns": response_columns(splits),
        "sources": source_facts(splits),
        "prompts": prompt_facts(splits, provenance),
        "graders": grader_facts(splits, provenance),
        "training": training_facts(splits, steps, tokenizer),
        "tokenizer": redact_path(tokenizer) if tokenizer else None,
        **model_facts(provenance),
    }


def _tool_use_facts(splits: Splits) -> dict[str, Any]:
    return {
        "scores": score_table(splits),
        "uses_tool": uses_tool(splits),
        "need": need_counts(splits),
        "need_differences": need_differences(splits),
    }


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
        "packages": provenance["packages"],
        "recipe": provenance.get(RECIPE_KEY),
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


@functools.cache
def _templates() -> jinja2.Environment:
    folder = str(resources.files("toolrlef_data") / "cards")
    templates = jinja2.Environment(  # noqa: S701 (Markdown, not HTML)
        loader=jinja2.FileSystemLoader(folder), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    templates.filters |= FILTERS
    return templates
