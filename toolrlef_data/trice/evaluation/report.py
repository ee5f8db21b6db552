"""The figures of an evaluation, and their differences between two evaluations of the same questions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from toolrlef_data.checks import as_path
from toolrlef_data.records import InputError
from toolrlef_data.tables.files import atomic_file
from toolrlef_data.trice.evaluation.figures import FIGURES
from toolrlef_data.trice.evaluation.intervals import Estimate, Measure, difference, estimate

__all__ = ["Evaluation"]

WIDTH = 34  # of the names of the figures


@dataclass(frozen=True)
class Evaluation:
    """The outcomes of a model on questions.

    Args:
        rows: one row per question: id, task, dataset, needs_tool (null if unknown), and the structs plain and offered
            (null without tools): text, error, uses_tool, tool_error, correct, tokens. Of a benchmark: see
            `benchmarks.choices` and `benchmarks.function_calls`.
        name: name of the model, for reports.
        kind: the kind of the rows, which selects the figures: "questions" (default), "choices" or "calls".
    """

    rows: Dataset
    name: str
    kind: str = "questions"

    def figures(self) -> dict[str, Estimate]:
        """Return the figures by name, with 95 % intervals.

        Shares of right responses are of the graded ones; `rows` has those that could not be graded.
        """
        return {name: estimate(measure) for name, measure in self._measures().items()}

    def differences(self, other: Evaluation) -> dict[str, Estimate]:
        """Return the figures of another evaluation minus those of this one, paired by question.

        Args:
            other: an evaluation of the same questions.

        Raises:
            InputError: the questions differ.
        """
        position = {row_id: n for n, row_id in enumerate(other.rows["id"])}
        if set(position) != set(self.rows["id"]) or other.kind != self.kind:
            raise InputError("the evaluations are of different questions: evaluate both models on the same table")
        order = [position[row_id] for row_id in self.rows["id"]]
        theirs = Evaluation(other.rows.select(order), other.name, other.kind)._measures()
        return {name: difference(measure, theirs[name]) for name, measure in self._measures().items()}

    def _measures(self) -> dict[str, Measure]:
        rows = list(self.rows)
        return {name: measure(rows) for name, measure in FIGURES[self.kind].items()}

    def __str__(self) -> str:
        lines = [f"{name:<{WIDTH}}{value}" for name, value in self.figures().items() if value.n]
        return "\n".join([f"{self.name}: {len(self.rows)} questions; 95 % intervals", *lines])

    def plot(self, path: str | Path, *others: Evaluation) -> Path:
        """Write a bar chart of the figures, with intervals, and return its path.

        Args:
            path: a file whose name ends in .svg, .png or .pdf.
            others: evaluations to show beside this one.
        """
        import matplotlib
        from matplotlib.figure import Figure

        path = as_path("path", path)
        if path.suffix not in (".svg", ".png", ".pdf"):
            raise InputError(f"plot: expected a file name that ends in .svg, .png or .pdf, found {path.name!r}")
        shown = [self, *others]
        figures = [evaluation.figures() for evaluation in shown]
        names = [name for name in FIGURES[self.kind] if any(values[name].n for values in figures)]
        with matplotlib.rc_context({"svg.hashsalt": "toolrlef_data"}):
            figure = Figure(figsize=(8, 1 + 0.35 * len(names) * len(shown)), layout="constrained")
            axes = figure.add_subplot()
            height = 0.8 / len(shown)
            for n, evaluation in enumerate(shown):
                values = [figures[n][name] for name in names]
                places = [i + n * height for i in range(len(names))]
                bars = [value.value or 0 for value in values]
                spans = [[bar - (v.low or 0) for bar, v in zip(bars, values, strict=True)],
                         [(v.high or 0) - bar for bar, v in zip(bars, values, strict=True)]]  # fmt: skip
                axes.barh(places, bars, height, xerr=spans, label=evaluation.name, capsize=2)
            axes.set_yticks([i + 0.4 - height / 2 for i in range(len(names))], names)
            axes.invert_yaxis()
            axes.set_xlim(0, 1)
            axes.xaxis.set_major_formatter("{x:.0%}")
            axes.legend()
            with atomic_file(path) as scratch:
                metadata = {"Date": None} if path.suffix == ".svg" else None
                figure.savefig(scratch, format=path.suffix[1:], metadata=metadata)
        return path
