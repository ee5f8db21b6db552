"""How many questions need the tool or are harmed by it, by table and model, and how two models differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from typing import Any, NamedTuple

from datasets import Dataset

from toolrlef_data.columns import NEED
from toolrlef_data.trice.need.classes import CLASSES
from toolrlef_data.trice.need.questions import Question, questions_of

__all__ = ["NeedCounts", "need_counts", "need_differences"]

Splits = Mapping[str, Mapping[str, Dataset]]


class NeedCounts(NamedTuple):
    """The questions of one model in one table: their number by class, and the shares of right samples."""

    config: str
    model: str
    questions: int
    classes: dict[str, int]
    right_plain: float | None
    right_tool: float | None


def need_counts(splits: Splits) -> list[NeedCounts]:
    """Return the counts of every table of `counterfactual`, by model."""
    facts = []
    for config, tables in _measured(splits).items():
        classes: dict[str, Counter[str]] = {}
        right: dict[str, Counter[str]] = {}
        for data in tables.values():
            for row in data.select_columns(["model", "need", "p_plain", "n_plain", "p_tool", "n_tool"]):
                model = row["model"] or "unnamed"
                classes.setdefault(model, Counter())[row["need"]] += 1
                counts = right.setdefault(model, Counter())
                for side in ("plain", "tool"):
                    counts[side] += round((row[f"p_{side}"] or 0) * row[f"n_{side}"])
                    counts[f"n_{side}"] += row[f"n_{side}"]
        for model, counted in classes.items():
            shares = [
                right[model][side] / n if (n := right[model][f"n_{side}"]) else None for side in ("plain", "tool")
            ]
            by_class = {name: counted[name] for name in CLASSES}
            facts.append(NeedCounts(config, model, counted.total(), by_class, *shares))
    return facts


def need_differences(splits: Splits) -> list[dict[str, Any]]:
    """Return one record for each two models that were measured on the same questions.

    A record has the models, the number of shared questions, how many have the same class, and how many need the tool
    for one of the models alone.
    """
    by_model: dict[str, dict[Question, str]] = {}
    for data in (data for tables in _measured(splits).values() for data in tables.values()):
        for question, model, need in zip(questions_of(data), data["model"], data["need"], strict=True):
            by_model.setdefault(model or "unnamed", {})[question] = need
    records = []
    for (first, a), (second, b) in combinations(by_model.items(), 2):
        pairs = [(a[question], b[question]) for question in a.keys() & b.keys()]
        if pairs:
            needs = [tuple(need == "needs_tool" for need in pair) for pair in pairs]
            records.append(
                {
                    "models": (first, second),
                    "questions": len(pairs),
                    "same": sum(one == other for one, other in pairs),
                    "alone": (needs.count((True, False)), needs.count((False, True))),
                }
            )
    return records


def _measured(splits: Splits) -> dict[str, Mapping[str, Dataset]]:
    """Return the tables of `counterfactual`; stage 1 and stage 2 repeat their columns."""
    return {
        config: tables
        for config, tables in splits.items()
        if all(set(NEED) <= set(data.column_names) for data in tables.values())
        and not any({"output", "responses"} & set(data.column_names) for data in tables.values())
    }
