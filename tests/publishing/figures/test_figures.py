"""Figures are legible on light and dark pages, the same in every process, and safe against any name."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from toolrlef_data.publishing.figures.charts import (
    FIGURES,
    Figure,
    bins,
    funnel,
    lengths,
    need,
    quantile,
    scores,
    tool_rates,
)
from toolrlef_data.publishing.figures.drawing import COLOURS, GREY, WIDTH

HOSTILE = 'a $x^2$ |</text><script>alert(1)</script>" \u202e\x00\ud83d \N{SNOWMAN} 漢字 ' + "x" * 60
PAGES = ("#ffffff", "#0b0f19", "#0d1117")  # white, and the dark pages of the Hub and of GitHub


def figures(name: str = "gold") -> list[Figure]:
    made = [
        funnel([(name, 80, 0), ("stage1", 70, 10)]),
        scores({name: {20.0: 70, 5.5: 3}, "other": {0.0: 2}}),
        tool_rates({name: {name: (3, 4), "none": (0, 0)}}),
        need({name: {name: 3, "harmed": 1}}),
        lengths({name: {name: {1: 5, 400: 1}, "empty": {}}}),
    ]
    assert all(made)
    return [figure for figure in made if figure]


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("page", PAGES)
def test_every_colour_has_a_contrast_of_3_with_light_and_dark_pages(page: str) -> None:
    for colour in (GREY, *COLOURS):
        low, high = sorted((luminance(colour), luminance(page)))
        assert (high + 0.05) / (low + 0.05) >= 3, colour


def test_figures_use_these_colours_only_and_no_background() -> None:
    for figure in figures():
        used = set(re.findall(rb"#[0-9a-f]{6}(?![0-9a-f])", figure.svg.split(b"</metadata>")[1]))
        assert used <= {colour.encode() for colour in (GREY, *COLOURS, "#ffffff")}, figure.file
        background = next(node for node in ET.fromstring(figure.svg).iter() if node.get("id") == "patch_1")
        assert [path.get("style") for path in background] == ["fill: none"]


def test_every_process_draws_the_same_bytes() -> None:
    code = (
        "import hashlib; from tests.publishing.figures.test_figures import figures; "
        "print(*(hashlib.sha256(figure.svg).hexdigest() for figure in figures()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [hashlib.sha256(figure.svg).hexdigest() for figure in figures()]


def test_names_are_text_in_the_svg() -> None:
    """A name is no markup and no formula, and its control characters are shown: XML cannot contain them."""
    assert [figure.file for figure in figures(HOSTILE)] == list(FIGURES)
    for figure in figures(HOSTILE):
        root = ET.fromstring(figure.svg)
        assert not [node for node in root.iter() if node.tag.endswith("script")]
        texts = [node.text or "" for node in root.iter() if node.tag.endswith("text")]
        assert [text for text in texts if text.startswith("a $x^2$ |</text><script>")], figure.file
        assert not re.search(r"[\u202e\x00\ud83d]", figure.alt)
        assert "<U+202E><U+0000>\ufffd ☃ 漢字" in figure.alt


def test_names_in_other_scripts_are_kept_as_text() -> None:
    figure = scores({"漢字" * 20: {1.0: 3}, "שלום": {1.0: 1}})
    assert figure is not None
    texts = [node.text for node in ET.fromstring(figure.svg).iter() if node.tag.endswith("text")]
    assert {"漢字" * 8 + "…", "שלום"} <= set(texts)


def test_nothing_is_drawn_outside_the_figure() -> None:
    many = scores({"gold": {n / 7: 1 for n in range(100)}, HOSTILE: {3.0: 1}})
    assert many is not None
    for figure in [*figures(HOSTILE), many]:
        root = ET.fromstring(figure.svg)
        width, height = (float(part) for part in (root.get("viewBox") or "").split()[2:])
        assert width == pytest.approx(72 * WIDTH)
        for node in (node for node in root.iter() if node.tag.endswith("text")):
            assert 0 <= float(node.get("x", -1)) < width
            assert 0 <= float(node.get("y", -1)) <= height


def test_the_alternative_text_has_all_numbers() -> None:
    texts = {figure.file: re.findall(r"\d[\d.,]*\d|\d", figure.alt) for figure in figures()}
    assert list(texts.values()) == [
        ["80", "0", "1", "70", "10"],
        ["73", "20", "70", "5.5", "3", "0", "0", "2", "20", "0", "5.5", "0", "0", "2"],
        ["75.0", "3", "4"],
        ["4", "3", "1"],
        ["5", "95", "1", "1", "400", "400"],
    ]


def test_nothing_to_show_is_no_figure() -> None:
    assert [funnel([]), scores({}), tool_rates({"a": {"b": (0, 0)}}), need({}), lengths({"words": {"a": {}}})] == [
        None
    ] * 5


def test_many_scores_are_counted_in_ranges() -> None:
    counts = {"a": {n / 10: n for n in range(100)}, "b": {0.0: 3}}
    names, binned = bins(counts)
    assert len(names) == 8
    assert (sum(binned["a"].values()), sum(binned["b"].values()), binned["b"][names[-1]]) == (4950, 3, 3)
    assert names[0] == "8.662 to 9.9"
    assert binned["a"][names[0]] == sum(n for n in range(100) if n / 10 >= 8.6625)


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5, 0.95, 1.0])
def test_quantiles_are_those_of_the_sorted_values(share: float) -> None:
    values = sorted([3, 3, 7, 1, 9, 9, 9, 40])
    counts = {value: values.count(value) for value in values}
    assert quantile(counts, share) == next(v for n, v in enumerate(values, start=1) if n >= share * len(values))
