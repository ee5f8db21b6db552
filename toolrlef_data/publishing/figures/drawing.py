"""Draw bars with labels as SVG."""

from __future__ import annotations

import functools
import io
import unicodedata
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from toolrlef_data.publishing.markdown import visible

__all__ = ["COLOURS", "GREY", "Line", "Part", "draw"]

# All have a contrast of at least 3:1 with white and with the dark pages of the Hub and of GitHub.
GREY = "#7a828c"  # text and lines
COLOURS = ("#23974a", "#1a8fa8", "#3f7fdd", "#9168d8", "#c65aa5", "#dd5a52", "#b9770e", "#85850f")
MAX_LABEL = 34  # characters
WIDTH, LINE, BAR, GAP = 7.6, 0.3, 0.2, 0.015  # inches
CHARACTER = 0.074  # inches, of text of 9 points
MIN_LABELLED = 0.4  # inches of a part that has room for its text


class Part(NamedTuple):
    """A part of a bar, in shares of the width: its start, its length and the number of its colour; and a text on it."""

    start: float
    length: float
    colour: int
    text: str = ""


class Line(NamedTuple):
    """A line of a figure: a label, a bar and a text behind it; without a bar it is a heading."""

    label: str
    parts: tuple[Part, ...] = ()
    text: str = ""
    tick: float | None = None


@functools.lru_cache(maxsize=64)
def draw(legend: tuple[tuple[str, int], ...], lines: tuple[Line, ...]) -> bytes:
    """Return an SVG file with a legend and one line of text or one bar per line."""
    import matplotlib
    from matplotlib.figure import Figure as Canvas
    from matplotlib.patches import Rectangle

    settings: dict[Any, Any] = {
        "svg.hashsalt": "toolrlef_data",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 9,
        "text.parse_math": False,
        "text.color": GREY,
    }
    left = CHARACTER * (1 + max(_columns(_label(line.label)) for line in lines if line.parts)) + 0.1
    width = WIDTH - left - CHARACTER * (2 + max(len(line.text) for line in lines))
    entries = _legend(legend, left)
    first = 1 + max(row for *_, row in entries) if entries else 0
    height = LINE * (first + len(lines)) + 0.06
    with matplotlib.rc_context(settings):
        figure = Canvas(figsize=(WIDTH, height))
        axes: Any = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set(xlim=(0, WIDTH), ylim=(height, 0))
        for text, colour, place, row in entries:
            axes.add_patch(Rectangle((place, LINE * row + 0.11), 0.12, 0.12, color=COLOURS[colour], linewidth=0))
            axes.text(place + 0.18, LINE * row + 0.17, text, va="center")
        for n, line in enumerate(lines, start=first):
            middle = LINE * (n + 0.5) + 0.03
            if not line.parts:
                axes.text(0.02, middle, _label(line.label), va="center", weight="bold")
                continue
            axes.text(left - 0.1, middle, _label(line.label), va="center", ha="right")
            axes.plot([left, left + width], [middle + BAR / 2 + 0.03] * 2, color=GREY, linewidth=0.4)
            for part in (part for part in line.parts if part.length):
                corner = (left + width * part.start, middle - BAR / 2)
                length = max(width * part.length - GAP, 0.008)
                axes.add_patch(Rectangle(corner, length, BAR, color=COLOURS[part.colour], linewidth=0))
                if part.text and length > MIN_LABELLED:
                    axes.text(
                        corner[0] + length / 2, middle, part.text, va="center", ha="center", color="white", size=8
                    )
            if line.tick is not None:
                axes.plot(
                    [left + width * line.tick] * 2, [middle - BAR / 2 - 0.02, middle + BAR / 2 + 0.03], color=GREY
                )
            axes.text(left + width + CHARACTER, middle, line.text, va="center")
        file = io.BytesIO()
        with warnings.catch_warnings():  # the file has the text, and its viewer has other fonts
            warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
            figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _legend(legend: Sequence[tuple[str, int]], left: float) -> list[tuple[str, int, float, int]]:
    """Return (text, number of the colour, place, row) of the entries of a legend."""
    entries, place, row = [], left, 0
    for text, colour in ((_label(text), colour) for text, colour in legend):
        width = 0.36 + CHARACTER * _columns(text)
        if place > left and place + width > WIDTH:
            place, row = left, row + 1
        entries.append((text, colour, place, row))
        place += width
    return entries


def _label(text: str) -> str:
    """Return a text that is cut to `MAX_LABEL` characters, of which wide ones count twice."""
    text = visible(text)
    if _columns(text) <= MAX_LABEL:
        return text
    end = next(n for n in range(len(text) + 1) if _columns(text[: n + 1]) >= MAX_LABEL)
    return text[:end] + "…"


def _columns(text: str) -> int:
    return len(text) + sum(unicodedata.east_asian_width(char) in "WF" for char in text)
