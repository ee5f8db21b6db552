"""Write the data card (README.md): the templates of `cards/`, filled with numbers computed from the tables."""

from __future__ import annotations

import difflib
import functools
import inspect
import logging
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from datasets import Dataset, DatasetInfo
from huggingface_hub import DatasetCardData

from toolrlef_data.publishing.card.column_facts import column_facts, response_columns
from toolrlef_data.publishing.card.counts import summaries
from toolrlef_data.publishing.card.counts.counting import counts_of
from toolrlef_data.publishing.card.counts.keys import add, group
from toolrlef_data.publishing.card.counts.questions import repeated_questions
from toolrlef_data.publishing.card.figure_facts import write_figures
from toolrlef_data.publishing.card.grader_facts import grader_facts
from toolrlef_data.publishing.card.metadata import card_metadata, config_infos
from toolrlef_data.publishing.card.model_facts import model_facts
from toolrlef_data.publishing.card.need_facts import need_counts, need_differences
from toolrlef_data.publishing.card.prompt_facts import prompt_facts
from toolrlef_data.publishing.card.row_facts import MAX_ITEMS, dropped_counts, example, lost_responses
from toolrlef_data.publishing.card.source_facts import SourceFacts, licence_fields, source_facts
from toolrlef_data.publishing.card.step_facts import StepFacts, query_counts, step_facts
from toolrlef_data.publishing.card.training_facts import own_tasks, training_facts
from toolrlef_data.publishing.markdown import FILTERS, visible, without_empty_lines
from toolrlef_data.publishing.provenance import (
    DECONTAMINATE,
    NEAR_DUPLICATES,
    overlap_checks,
    stage_settings,
    stage_summaries,
)
from toolrlef_data.publishing.recipe_file import RECIPE_KEY
from toolrlef_data.records import clean_text
from toolrlef_data.tables.redaction import redact_path
from toolrlef_data.tables.sampling.splits import SHUFFLE
from toolrlef_data.toolbench.samples import SampleSettings
from toolrlef_data.toolbench.tokens.steps import TokeniseSettings

__all__ = ["misspelt_keys", "write_card"]

Splits = Mapping[str, Mapping[str, Dataset]]
Mixes = Mapping[str, Mapping[str, list[str]]]
OWN_FIELDS = ("title", "tokenizer", "columns")  # keys of `card` that are no metadata
SIMILAR = 0.8  # "licence" is 0.86 similar to "license"; "license_name", another key of the Hub, is 0.74 similar
# Template -> default title.
TITLES = {
    "tool_use": "Tool-use training data with execution feedback",
    "trajectories": "Tool-use trajectories",
    "both": "Tool-use training data with execution feedback, and trajectories",
}
NO_QUESTIONS = ("-dropped", "-cassette")
# Template -> metadata of the Hub, which the publisher can replace.
TOOL_USE = {"task_categories": ["question-answering", "text-generation"], "tags": ["tool-use", "synthetic", "trice"]}
STEPS = {"task_categories": ["text-generation"], "tags": ["tool-use", "synthetic", "function-calling", "agent"]}
CATEGORIES = {"tool_use": TOOL_USE, "trajectories": STEPS}
CATEGORIES["both"] = {name: [*dict.fromkeys([*TOOL_USE[name], *STEPS[name]])] for name in TOOL_USE}
log = logging.getLogger("toolrlef_data")
# Every table from the questions to stage 2 has one of these columns.
TOOL_USE_COLUMNS = frozenset({"question", "uses_tool"})


def misspelt_keys(card: Mapping[str, Any]) -> dict[str, str]:
    """Return key -> known key, for the keys of `card` that are nearly one of the Hub's metadata or of this package.

    >>> misspelt_keys({"licence": "mit", "license_name": "mine", "title": "Sums"})
    {'licence': 'license'}
    """
    known = [*OWN_FIELDS, "tags", *inspect.signature(DatasetCardData).parameters]
    similar = {
        key: difflib.get_close_matches(key.casefold(), known, n=1, cutoff=SIMILAR) for key in card if key not in known
    }
    return {key: names[0] for key, names in similar.items() if names}


def write_card(
    folder: Path, splits: Splits, provenance: Mapping[str, Any], card: Mapping[str, Any], mixes: Mixes
) -> None:
    """Write README.md: metadata with `configs` and `dataset_info`, and the card for the kinds of tables.

    Args:
        folder: the folder, in which the Parquet files are already written.
        splits: config -> split -> table.
        provenance: contents of provenance.json.
        card: title, tokenizer, columns and metadata fields from the user, as in `publish`.
        mixes: mix config -> split -> configs whose files it reads.
    """
    steps = step_facts(splits)
    kind = _template_name(splits, steps)
    title = visible(" ".join(str(card.get("title") or TITLES[kind]).split()))
    infos = config_infos(folder, splits, mixes)
    sources = source_facts(splits)
    fields = {"pretty_name": title, **CATEGORIES[kind], **licence_fields(sources), **card}
    fields = {name: value for name, value in fields.items() if name not in OWN_FIELDS}
    metadata = card_metadata(fields, folder, splits, mixes, infos, provenance["version"])
    facts = _table_facts(splits, mixes, infos, steps) | _provenance_facts(provenance)
    facts |= _count_facts(folder, splits, facts["stages"]) | _trajectory_facts(steps, provenance)
    facts |= _content_facts(splits, mixes, steps, provenance, card) | _licence_facts(sources, metadata.get("license"))
    body = _templates().get_template(f"{kind}.md.jinja").render(title=title, **facts)
    text = clean_text(f"---\n{metadata.to_yaml()}\n---\n\n{without_empty_lines(body.strip())}\n")
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


def _count_facts(folder: Path, splits: Splits, stages: list[dict[str, Any]]) -> dict[str, Any]:
    """Write the figures, and return the template variables that are sums of counts of rows."""
    by_config = {config: add(counts_of(data) for data in tables.values()) for config, tables in splits.items()}
    data_configs = [config for config in splits if not config.endswith(("-dropped", "-cassette"))]
    total = add(by_config[config] for config in data_configs)
    lost = lost_responses(splits)
    scores = summaries.score_table(total, lost)
    needs = need_counts(splits)
    texts, patterns = summaries.pattern_table(by_config)
    return {
        "scores": scores,
        "rankings": summaries.rankings(total),
        "tool_errors": summaries.by_name(total, "tool_error"),
        "replies": {
            config: summaries.by_name(by_config[config], "reply") | summaries.by_name(by_config[config], "finish")
            for config in data_configs
        },
        "lost": {name: {reason: n for reason, n in reasons.items() if n} for name, reasons in lost.items()},
        "targets": summaries.target_table(by_config),
        "lengths": {config: summaries.length_table(by_config[config]) for config in data_configs},
        "logprobs": summaries.logprob_table(total),
        "logprob_models": [name for (name,) in sorted(group(total, "logprob_model"))],
        "pairs": {name: total["pairs", name] for name in ("all", "ordered")},
        "learnt": {name: total["learnt", name] for name in ("learnt", "open")},
        "texts": texts,
        "patterns": patterns,
        "need": needs,
        "need_differences": need_differences(splits),
        "figures": write_figures(folder, stages, total, scores, needs),
    }


def _licence_facts(sources: list[SourceFacts], licence: Any) -> dict[str, Any]:
    """Return the template variables for licences; warn if the data set has none."""
    fields = licence_fields(sources)
    unknown = [source.name for source in sources if not source.licence.name]
    if unknown and licence is None:
        log.warning(
            "the licence of %s is unknown, so the data set has none: set one with card={'license': ...}",
            ", ".join(unknown),
        )
    return {
        "sources": sources,
        "licence": licence,
        "source_licence": fields.get("license"),
        "unknown_licences": unknown,
        "source_ids": fields.get("source_datasets", []),
    }


def _content_facts(
    splits: Splits,
    mixes: Mixes,
    steps: Mapping[str, StepFacts],
    provenance: Mapping[str, Any],
    card: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the template variables for columns, questions, prompts, graders, models and trainers."""
    tokenizer = card.get("tokenizer")
    return {
        "columns": column_facts(splits, card.get("columns")),
        "response_columns": response_columns(splits),
        "repeats": repeated_questions(
            {name: tables for name, tables in splits.items() if name not in steps and not name.endswith(NO_QUESTIONS)}
        ),
        "prompts": prompt_facts(splits, provenance),
        "graders": grader_facts(splits, provenance),
        "training": training_facts(splits, steps, tokenizer, mixes),
        "own_tasks": own_tasks(splits),
        "tokenizer": redact_path(tokenizer) if tokenizer else None,
        **model_facts(provenance),
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
    stages = stage_summaries(provenance)
    test_sets = overlap_checks(stages, DECONTAMINATE)
    return {
        "version": provenance["version"],
        "stages": stages,
        "test_sets": test_sets,
        "test_set_names": sorted({name for check in test_sets for name in check["test_sets"]}),
        "near_duplicates": overlap_checks(stages, NEAR_DUPLICATES),
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
