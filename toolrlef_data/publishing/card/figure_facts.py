"""Write the figures of a card, and name them for its templates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from toolrlef_data.publishing.card.counts.keys import Counts
from toolrlef_data.publishing.card.counts.summaries import tool_rate_groups, word_histograms
from toolrlef_data.publishing.card.need_facts import NeedCounts
from toolrlef_data.publishing.figures.charts import Figure, funnel, lengths, need, scores, tool_rates

__all__ = ["write_figures"]


def write_figures(
    folder: Path,
    stages: Iterable[Mapping[str, Any]],
    counts: Counts,
    score_table: Sequence[Mapping[str, Any]],
    needs: Sequence[NeedCounts],
) -> dict[str, Figure]:
    """Write the figures that have something to show, and return them by name.

    Args:
        folder: the published folder.
        stages: result of `stage_summaries`.
        counts: the sum of the counts of all tables with targets or responses.
        score_table: result of `summaries.score_table`.
        needs: result of `need_counts`.
    """
    configs = len({row.config for row in needs})
    figures = {
        "funnel": funnel(_funnel_stages(stages)),
        "scores": scores({row["name"]: row["scores"] for row in score_table if row["scores"]}),
        "tool_rates": tool_rates(tool_rate_groups(counts)),
        "need": need({f"{row.model} ({row.config})" if configs > 1 else row.model: row.classes for row in needs}),
        "lengths": lengths(word_histograms(counts)),
    }
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    for figure in drawn.values():
        (folder / figure.file).parent.mkdir(exist_ok=True)
        (folder / figure.file).write_bytes(figure.svg)
    return drawn


def _funnel_stages(stages: Iterable[Mapping[str, Any]]) -> list[tuple[str, int, int]]:
    """Return (name, output rows, dropped rows) of sources, and of stages that drop rows and make none.

    Without a stage that drops rows, there is nothing to show.
    """
    shown = [stage for stage in stages if not stage["expands"]]
    shown = [stage for stage in shown if not stage["inputs"] or stage["rows_in"] != stage["rows_out"]]
    tables = {stage["tables"] for stage in shown}
    lines = [
        (
            stage["step"] + (f" ({stage['tables']})" if len(tables) > 1 and stage["tables"] != "all" else ""),
            stage["rows_out"],
            sum(stage["dropped"].values()),
        )
        for stage in sorted(shown, key=lambda stage: bool(stage["inputs"]))
    ]
    return lines if any(dropped for *_, dropped in lines) else []
