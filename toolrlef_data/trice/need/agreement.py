"""The classes of two models compared: do they need the tool for the same questions?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from datasets import Dataset

from toolrlef_data.checks import check_features
from toolrlef_data.columns import NEED
from toolrlef_data.records import InputError
from toolrlef_data.trice.evaluation.intervals import Estimate, Share, difference, estimate
from toolrlef_data.trice.need.classes import CLASSES
from toolrlef_data.trice.need.questions import questions_of

__all__ = ["Agreement", "agreement"]


@dataclass(frozen=True)
class Agreement:
    """The classes of two models on the same questions.

    Args:
        models: the names of the models.
        pairs: the two classes of each question.
    """

    models: tuple[str, str]
    pairs: tuple[tuple[str, str], ...]

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """The number of questions by the two classes, most first."""
        return dict(sorted(Counter(self.pairs).items(), key=lambda item: (-item[1], item[0])))

    @property
    def equal(self) -> Estimate:
        """The share of questions with the same class, among those that are clear for both models."""
        clear = ["unsure" not in pair for pair in self.pairs]
        return estimate(Share([a == b and is_clear for (a, b), is_clear in zip(self.pairs, clear, strict=True)], clear))

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa of the clear questions: 1 for equal classes, 0 for chance; None if all have one class.

        Source: Cohen, Educational and Psychological Measurement 20(1), 1960.
        """
        clear = [pair for pair in self.pairs if "unsure" not in pair]
        if not clear:
            return None
        first, second = (Counter(pair[side] for pair in clear) for side in (0, 1))
        observed = sum(a == b for a, b in clear) / len(clear)
        expected = sum(first[name] * second[name] for name in CLASSES) / len(clear) ** 2
        return None if expected == 1 else (observed - expected) / (1 - expected)

    def differences(self) -> dict[str, Estimate]:
        """Return for each class its share in the second model minus that in the first one, paired by question."""
        everything = [True] * len(self.pairs)
        shares = {
            name: [Share([pair[side] == name for pair in self.pairs], everything) for side in (0, 1)]
            for name in CLASSES
        }
        return {name: difference(first, second) for name, (first, second) in shares.items()}

    def __str__(self) -> str:
        first, second = self.models
        lines = [f"{first} (rows) and {second} (columns): {len(self.pairs)} questions"]
        lines.append(f"{'':<12}" + "".join(f"{name:>12}" for name in CLASSES))
        counts = self.counts
        for row in CLASSES:
            lines.append(f"{row:<12}" + "".join(f"{counts.get((row, column), 0):>12}" for column in CLASSES))
        kappa = "none" if self.kappa is None else f"{self.kappa:.2f}"
        lines.append(f"same class, where both are clear: {self.equal}; Cohen's kappa {kappa}")
        return "\n".join(lines)


def agreement(first: Dataset, second: Dataset) -> Agreement:
    """Compare the classes that two models have on the same questions.

    Args:
        first, second: tables from `counterfactual`.

    Returns:
        An `Agreement`: `print` shows the classes of both models, the share of equal ones and Cohen's kappa;
        `differences()` has the difference of the shares of each class, with bootstrap intervals.

    Raises:
        InputError: a table has a question twice, or the questions differ.

    >>> questions = {"id": ["a", "b"], "task": ["math"] * 2, "dataset": ["d"] * 2}
    >>> tables = [
    ...     Dataset.from_dict({**{name: [None] * 2 for name in NEED}, **questions, "need": need, "model": [name] * 2})
    ...     for name, need in {"small": ["needs_tool", "needs_tool"], "large": ["indifferent", "needs_tool"]}.items()
    ... ]
    >>> print(agreement(*tables).equal)
    50.0% [9.5%, 90.5%] of 2
    """
    tables = [check_features(table, NEED, "agreement") for table in (first, second)]
    classes = [dict(zip(questions_of(table), table["need"], strict=True)) for table in tables]
    for table, by_question in zip(tables, classes, strict=True):
        if len(by_question) < len(table):
            raise InputError("agreement: a question is in one table twice")
    if classes[0].keys() != classes[1].keys():
        n = len(classes[0].keys() ^ classes[1].keys())
        raise InputError(f"agreement: {n} questions are in one table alone: measure both models on the same questions")
    names = [", ".join(sorted(filter(None, table.unique("model")))) or "unnamed" for table in tables]
    return Agreement((names[0], names[1]), tuple((need, classes[1][question]) for question, need in classes[0].items()))
