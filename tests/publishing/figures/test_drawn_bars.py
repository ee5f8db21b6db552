"""What the figures draw: the place, length and colour of every bar, its texts, and the legend."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from typing import NamedTuple

import pytest

from toolrlef_data.publishing.figures.charts import Figure, funnel, lengths, need, scores, tool_rates
from toolrlef_data.publishing.figures.drawing import COLOURS, Line, Part, _columns, _label, _legend, draw

INCH = 72  # points


class Box(NamedTuple):
    """A filled rectangle in inches."""

    x: float
    y: float
    width: float
    height: float
    colour: int


class Drawing(NamedTuple):
    """The parts of an SVG file: boxes, lines as (x, y, x, y), and texts with their places, in inches."""

    boxes: list[Box]
    strokes: list[tuple[float, ...]]
    texts: dict[str, tuple[float, float]]
    size: tuple[float, ...]


def read(svg: bytes) -> Drawing:
    root = ET.fromstring(svg)
    boxes, strokes = [], []
    for node in (node for node in root.iter() if node.tag.endswith("path") and "clip-path" in node.attrib):
        points = [
            [float(n) / INCH for n in pair.split()] for pair in re.findall(r"[ML] ([\d. ]+)", node.get("d") or "")
        ]
        style = node.get("style") or ""
        if "stroke:" in style:
            strokes.append((*points[0], *points[1]))
        else:
            (x, y), (right, bottom) = map(min, zip(*points, strict=True)), map(max, zip(*points, strict=True))
            boxes.append(Box(x, y, right - x, bottom - y, COLOURS.index(style.removeprefix("fill: "))))
    texts = {node.text or "": (float(node.get("x", 0)) / INCH, float(node.get("y", 0)) / INCH) for node in root.iter() if node.tag.endswith("text")}  # fmt: skip
    size = tuple(float(part) / INCH for part in (root.get("viewBox") or "").split()[2:])
    return Drawing(boxes, strokes, texts, size)


def test_the_geometry_of_a_figure() -> None:
    """Labels of 3 characters take 0.396 inches, texts of 6 at the end 0.592 of 7.6; a line has 0.3."""
    line = Line("one", (Part(0, 0.25, 2, "25 %"), Part(0.25, 0.75, 6, "75 %"), Part(1, 0, 3)), "4 rows", tick=0.5)
    small = Line("two", (Part(0, 0.06, 1, "6 %"), Part(0.06, 0.001, 0), Part(0.5, 0.07, 4, "7 %")), "x")
    found = read(draw((("a", 0), ("bc", 1)), (Line("head"), line, small)))
    left, width = 0.396, 6.612
    expected = [
        (left, 0.11, 0.12, 0.12, 0), (left + 0.36 + 0.074, 0.11, 0.12, 0.12, 1),
        (left, 0.68, 0.25 * width - 0.015, 0.2, 2), (left + 0.25 * width, 0.68, 0.75 * width - 0.015, 0.2, 6),
        (left, 0.98, 0.06 * width - 0.015, 0.2, 1), (left + 0.06 * width, 0.98, 0.008, 0.2, 0), (left + 0.5 * width, 0.98, 0.07 * width - 0.015, 0.2, 4),
    ]  # fmt: skip
    assert [value for box in found.boxes for value in box] == pytest.approx(
        [n for box in expected for n in box], abs=1e-4
    )
    strokes = [
        (left, 0.91, left + width, 0.91),
        (left + width / 2, 0.66, left + width / 2, 0.91),
        (left, 1.21, left + width, 1.21),
    ]
    assert [value for stroke in found.strokes for value in stroke] == pytest.approx(
        [n for each in strokes for n in each], abs=1e-4
    )
    places = {"a": left + 0.18, "bc": left + 0.36 + 0.074 + 0.18, "head": 0.02, "one": left - 0.1, "25 %": left + 0.125 * width - 0.0075, "75 %": left + 0.625 * width - 0.0075, "4 rows": left + width + 0.074, "two": left - 0.1, "7 %": left + 0.535 * width - 0.0075, "x": left + width + 0.074}  # fmt: skip
    assert {text: x for text, (x, _) in found.texts.items()} == pytest.approx(places, abs=1e-4), "6 % has no room"
    heights = {
        "a": 0.17,
        "bc": 0.17,
        "head": 0.48,
        "one": 0.78,
        "25 %": 0.78,
        "75 %": 0.78,
        "4 rows": 0.78,
        "two": 1.08,
        "7 %": 1.08,
        "x": 1.08,
    }
    assert {text: y for text, (_, y) in found.texts.items()} == pytest.approx(heights, abs=0.04)
    assert found.size == pytest.approx((7.6, 0.3 * 4 + 0.06))
    assert read(draw((), (small,))).size == pytest.approx((7.6, 0.36))
    svg = draw((), (Line("head"), small)).decode()
    styles = [re.findall(r"(?:weight|size): (\w+)", style) for style in re.findall(r'<text style="([^"]*)"', svg)]
    assert styles == [["700", "9px"], ["9px"], ["8px"], ["8px"], ["9px"]], "a heading is bold, and texts on parts small"


def test_labels_are_cut_after_34_columns() -> None:
    """Wide characters have two."""
    assert [_columns(text) for text in ("", "ab", "漢", "Ａ", "a漢")] == [0, 2, 2, 2, 3]
    for text, label in (("x" * 34, "x" * 34), ("x" * 35, "x" * 33 + "…"), ("漢" * 17, "漢" * 17), ("漢" * 18, "漢" * 16 + "…"), ("a\u202e", "a<U+202E>")):  # fmt: skip
        assert _label(text) == label


def test_entries_of_a_legend_that_have_no_room_begin_a_row() -> None:
    legend = [("x" * 20, 0), ("y" * 20, 1), ("z" * 30, 2), ("v" * 33, 3), ("w", 4)]
    width = [0.36 + 0.074 * len(text) for text, _ in legend]
    places = [1.0, 1.0 + width[0], 1.0 + width[0] + width[1], 1.0, 1.0 + width[3]]
    found = _legend(legend, 1.0)
    assert [(text, colour, row) for text, colour, _, row in found] == [
        (*entry, row) for entry, row in zip(legend, (0, 0, 0, 1, 1), strict=True)
    ]
    assert [place for *_, place, _ in found] == pytest.approx(places)
    wide = [("漢" * 15, n) for n in range(3)]
    assert [row for *_, row in _legend(wide, 5.5)] == [0, 1, 2]


# Charts ---------------------------------------------------------------------------------------------------------------


def bars(figure: Figure | None) -> tuple[list[list[tuple[float, float, int]]], list[float], list[str]]:
    """Return the parts of each bar (start, length, colour) in shares of the width, the ticks, and the texts."""
    assert figure is not None
    found = read(figure.svg)
    base = [stroke for stroke in found.strokes if stroke[1] == stroke[3]]
    left, width = base[0][0], base[0][2] - base[0][0]
    lines: dict[float, list[tuple[float, float, int]]] = {round(stroke[1], 3): [] for stroke in base}
    for box in found.boxes:
        if box.height > 0.15:
            part = (round((box.x - left) / width, 4), round((box.width + 0.015) / width, 4), box.colour)
            lines[round(box.y + box.height + 0.03, 3)].append(part)
    ticks = [round((stroke[0] - left) / width, 4) for stroke in found.strokes if stroke[0] == stroke[2]]
    return list(lines.values()), ticks, list(found.texts)


def test_bars_of_stages() -> None:
    found = bars(funnel([("source", 1800, 200), ("grade", 600, 0)]))
    assert found == ([[(0, 0.9, 2), (0.9, 0.1, 6)], [(0, 0.3, 2)]], [], ["rows", "dropped", "source", "1,800, 200 dropped", "grade", "600"])  # fmt: skip
    assert funnel([("source", 0, 0)]) is None


def test_bars_of_scores_and_needs() -> None:
    """The parts of each bar are shares of it; two parts have colours that are far apart."""
    shares, ticks, texts = bars(scores({"a": {20.0: 3, 5.0: 1}, "b": {5.0: 1}, "none": {}}))
    assert (shares, ticks) == ([[(0, 0.75, 0), (0.75, 0.25, 4)], [(0, 1, 4)]], [])
    assert texts == ["20", "5", "a", "75 %", "25 %", "4 rows", "b", "100 %", "1 row"]
    shares, _, texts = bars(need({"m": {"x": 1, "y": 0, "z": 1}}))
    assert (shares, texts) == ([[(0, 0.5, 0), (0.5, 0.5, 4)]], ["x", "y", "z", "m", "50 %", "2 rows"])
    many = need({"m": {f"c{n}": 1 for n in range(9)}})
    assert [part[2] for part in bars(many)[0][0]] == [0, 1, 2, 3, 4, 5, 6, 7, 0]


def test_bars_of_tool_rates() -> None:
    found = bars(tool_rates({"by task": {"math": (3, 4), "none": (0, 0)}, "empty": {"x": (0, 0)}, "by need": {"all": (1000, 1000)}}))  # fmt: skip
    texts = ["by task", "math", "75.0 % (3 of 4)", "by need", "all", "100.0 % (1,000 of 1,000)"]
    assert found == ([[(0, 0.75, 2)], [(0, 1, 2)]], [1, 1], texts)


def test_bars_of_lengths() -> None:
    """From the 5 % to the 95 % quantile, with a tick at the median; logarithmic if one is more than 20 times another."""
    linear = {"words": {"a": {10: 1, 20: 8, 40: 1}, "b": {30: 1, 200: 1}}}
    shares, ticks, texts = bars(lengths(linear))
    assert shares == [[(0.05, 0.05, 1), (0.1, 0.1, 1)], [(0.15, 0.85, 1)]]
    assert ticks == [0.1, 0.15]
    assert texts[:3] == ["5 % to 95 % quantile, and median", "words", "a"]
    assert texts[3:] == ["20 (10 to 40), longest 40", "b", "30 (30 to 200), longest 200"]
    shares, ticks, texts = bars(lengths({"words": {"a": {10: 1, 201: 1, 3000: 0}}}))
    start = math.log1p(10) / math.log1p(201)
    assert shares == [[pytest.approx((start, 1 - start, 1), abs=1e-3)]]
    assert texts[1] == "words (logarithmic scale)"
    figure = lengths({"words": {"a": {5: 1000}}, "none": {"b": {}}, "tokens": {"c": {1: 1}}})
    assert figure is not None
    assert figure.alt == (
        "Lengths (5 % quantile, median, 95 % quantile, longest). words: a 5, 5, 5, 5. tokens: c 1, 1, 1, 1."
    )
    hundred = lengths({"words": {"a": {10 * n: 1 for n in range(1, 101)}}})
    assert hundred is not None
    assert hundred.alt.endswith("words: a 50, 500, 950, 1,000."), "each of the four is another length"
    assert lengths({"none": {"b": {}}}) is None
