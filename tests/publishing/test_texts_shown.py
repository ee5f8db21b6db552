"""Texts of rows where people read them: in the Markdown of a card, and in views of rows."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from toolrlef_data import show
from toolrlef_data.publishing import markdown, viewing
from toolrlef_data.publishing.viewing import Panel, Sample, View, plain_text

# Characters, by their numbers: the first and the last one of each range, and their neighbours.
HIDDEN = [
    *(0x00, 0x08, 0x0B, 0x0D, 0x1B, 0x1F, 0x7F, 0x85, 0x9F, 0xAD, 0x61C, 0x180E, 0x200B, 0x200E, 0x200F, 0x2028, 0x202A),
    *(0x202E, 0x2060, 0x2066, 0x2069, 0x206F, 0xFEFF, 0xFFF9, 0xFFFB, 0xE0000, 0xE007F),
]  # fmt: skip
SHOWN = [
    *(0x09, 0x0A, 0x20, 0x7E, 0xA0, 0xAC, 0xAE, 0x61B, 0x61D, 0x180D, 0x200A, 0x200C, 0x200D, 0x2010, 0x2027, 0x202F),
    *(0x205F, 0x2070, 0xFEFE, 0xFFF8, 0xFFFC, 0xE0080, 0x1F41F),
]  # fmt: skip


def test_invisible_characters_are_shown_in_a_card() -> None:
    assert [markdown.visible(f"a{chr(n)}b") for n in HIDDEN] == [f"a<U+{n:04X}>b" for n in HIDDEN]
    assert [markdown.visible(chr(n)) for n in SHOWN] == [*map(chr, SHOWN)]
    assert markdown.visible("\ud83d") == "\ufffd"
    assert markdown.visible(3) == "3"


def test_control_characters_are_removed_from_a_view() -> None:
    """Of the invisible characters, those that change the direction of text."""
    removed = [*range(9), *range(0x0B, 0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F)]
    removed += range(0x2066, 0x206A)
    kept = [0x09, 0x0A, 0x20, 0x7E, 0xA0, 0x200B, 0x200D, 0x2028, 0x202F, 0x2065, 0x206A, 0xFEFF]
    assert [n for n in removed if plain_text(f"a{chr(n)}") != "a"] == [0x1B] * 0
    assert [n for n in kept if plain_text(f"a{chr(n)}b") != f"a{chr(n)}b"] == []


FILTERS: list[tuple[str, tuple[Any, ...], str]] = [
    ("one_line", ("a\u202e|b\n [c] <d> \\ &amp; &#65; & &;",), r"a\<U+202E>\|b \[c\] \<d> \\ \&amp; \&#65; & &;"),
    ("cell", ("a\u202e|`b`\n\\|c",), r"`a<U+202E>\|'b' \\\|c`"),
    ("cell", ("abc", 2), "`ab ...`"),
    ("cell", ("abc", 3), "`abc`"),
    ("cell", ("|" * 81,), "`" + r"\|" * 80 + " ...`"),
    ("cell", ("",), "(empty)"),
    ("cell", (None,), "`None`"),
    ("fenced", ("a\u202e",), "```text\na<U+202E>\n```"),
    ("fenced", ("``",), "```text\n``\n```"),
    ("fenced", ("```",), "````text\n```\n````"),
    ("fenced", ("` ````` ```",), "``````text\n` ````` ```\n``````"),
    ("share_of", (2, 3), "66.7 %"),
    ("share_of", (0.5, 1), "50.0 %"),
    ("share_of", (3, 0), "none"),
    ("bibtex", ("{a}\\b % & _ # $ \u202e",), r"(a)/b \% \& \_ \# \$ <U+202E>"),
    ("as_json", ({},), "{\n\n}"),
    ("as_json", ({"é": "é\u202e", "n": None, "empty": [], "nested": {"é": ["é"]}},), '{\n "é": "é<U+202E>",\n "n": null,\n "empty": [],\n "nested": {"é": ["é"]}\n}'),
    ("as_json", ({"a": [{"é": "é"}, "x", {}], "b": ["{"]},), '{\n "a": [\n  {"é": "é"},\n  "x",\n  {}\n ],\n "b": ["{"]\n}'),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "expected"), FILTERS)
def test_filters_of_a_card(name: str, arguments: tuple[Any, ...], expected: str) -> None:
    assert markdown.FILTERS[name](*arguments) == expected  # type: ignore[operator]
    assert sorted(markdown.FILTERS) == ["as_json", "bibtex", "cell", "fenced", "one_line", "share_of"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\n\nb", "a\n\nb"),
        ("a\n\n\nb\n\n\n\n", "a\n\nb\n\n"),
        ("```\n\n\n\n```\n\n\n```text\n\n\n\n```\n\n\nb", "```\n\n\n\n```\n\n```text\n\n\n\n```\n\nb"),
        ("````\n```\n\n\n\n```\n````\n\n\n\nb", "````\n```\n\n\n\n```\n````\n\nb"),
        ("x ```\n\n\n\n```", "x ```\n\n```"),
    ],
)
def test_empty_lines_outside_of_code(text: str, expected: str) -> None:
    assert markdown.without_empty_lines(text) == expected


# Views ----------------------------------------------------------------------------------------------------------------

PANELS = [
    Panel("one", {"other": "1", "response": "é [b]", "prediction": "p", "error": "e", "result": "r", "call": "c", "grade": "g", "score": "s"}),
    Panel("<two>", {"response": "x", "more": "y"}),
]  # fmt: skip
TEXT = """\
a (t)
q?
Gold: 1
┏━━━━━━━━━━━━┳━━━━━━━┳━━━━━━━┓
┃            ┃ one   ┃ <two> ┃
┡━━━━━━━━━━━━╇━━━━━━━╇━━━━━━━┩
│ score      │ s     │       │
├────────────┼───────┼───────┤
│ grade      │ g     │       │
├────────────┼───────┼───────┤
│ call       │ c     │       │
├────────────┼───────┼───────┤
│ result     │ r     │       │
├────────────┼───────┼───────┤
│ error      │ e     │       │
├────────────┼───────┼───────┤
│ prediction │ p     │       │
├────────────┼───────┼───────┤
│ response   │ é [b] │ x     │
├────────────┼───────┼───────┤
│ other      │ 1     │       │
├────────────┼───────┼───────┤
│ more       │       │ y     │
└────────────┴───────┴───────┘

1 of 2 rows"""
HTML_LABELS = ["score", "grade", "call", "result", "error", "prediction", "response", "other", "more"]


def test_the_whole_text_of_a_view() -> None:
    """Known labels have one order, and others follow."""
    view = View([Sample("a (t)", "q?\nGold: 1", PANELS)], "1 of 2 rows")
    assert "\n".join(line.rstrip() for line in str(view).splitlines()) == TEXT
    assert repr(view) == str(view)


def test_the_whole_html_of_a_view() -> None:
    view = View([Sample("<a>", "q?\n<b>", [Panel("<one>", {"response": "<x>"}), Panel("two", {"score": "1"})])], "<n>")
    style = 'style="text-align: left; vertical-align: top; white-space: pre-wrap"'
    rows = [
        [("th", ""), ("th", "&lt;one&gt;"), ("th", "two")],
        [("th", "score"), ("td", ""), ("td", "1")],
        [("th", "response"), ("td", "&lt;x&gt;"), ("td", "")],
    ]
    lines = ["<tr>" + "".join(f"<{tag} {style}>{text}</{tag}>" for tag, text in row) + "</tr>" for row in rows]
    assert view._repr_html_() == "\n".join(
        [
            '<div class="tex2jax_ignore mathjax_ignore">',
            '<div style="white-space: pre-wrap"><b>&lt;a&gt;</b>',
            "q?",
            "&lt;b&gt;</div>",
            *("<table>", *lines, "</table>", "<p>&lt;n&gt;</p>", "</div>"),
        ]
    )


def test_values_of_other_types() -> None:
    row = {"id": "a", "day": datetime.date(2026, 11, 30), "share": 20.0, "few": 1 / 3, "none": None, "é": {"é": [True]}}
    (sample,) = show(Dataset.from_list([row])).samples
    facts = {"day": '"2026-11-30"', "share": "20", "few": "0.333333", "none": "null", "é": '{"é": [true]}'}
    assert sample == Sample("a", "", [Panel("row", facts)])


@pytest.mark.parametrize(
    ("value", "expected", "is_equal"),
    [
        (1, 1, True), (1, "1", True), ("1", 1, False), (20.0, "20", True), (None, "null", True), (True, "true", True),
        (["a", "b"], "b", True), (["a", "b"], "c", False), (["a"], ["a"], True), ([1, 2], "2", True), ([], "x", False),
        ([["a"], ["b"]], "b", True), ({"x": 1}, '{"x": 1}', True), ("a", "A", False),
    ],
)  # fmt: skip
def test_values_that_a_filter_matches(value: Any, expected: Any, is_equal: bool) -> None:
    assert viewing._equals(value, expected) is is_equal


def test_rows_that_match_are_counted_over_batches() -> None:
    """A filter of several columns needs all; a null struct has no fields; a function gets the whole row."""
    rows = [{"id": str(n), "n": n % 2, "x": {"y": n} if n % 3 else None} for n in range(250)]
    splits = DatasetDict(train=Dataset.from_list(rows), test=Dataset.from_list(rows[:3]))
    cases: list[tuple[Any, list[str]]] = [
        ({"n": 1, "id": "201"}, ["train: 201"]),
        ({"x.y": None}, ["train: 0", "train: 3", "test: 0"]),
        ({"x.y": 2, "n": 0}, ["train: 2", "test: 2"]),
        (lambda row: (row["id"] == "249" and row["x"] == {"y": 249}) or row["n"] == 7, []),
        (lambda row: row["x"] == {"y": 248}, ["train: 248"]),
    ]
    for where, titles in cases:
        view = show(splits, 2, where=where)
        assert [sample.title for sample in view.samples] == titles
        counts = [sum(title.startswith(split) for title in titles) for split in ("train", "test")]
        assert view.note == f"train: {counts[0]} of 250 rows that match; test: {counts[1]} of 3 rows that match"
    assert show(Dataset.from_list(rows * 4)).note == "3 of 1,000 rows"
    asked: list[str] = []

    def note(row: dict[str, Any]) -> bool:
        asked.append(row["id"])
        return bool(row["id"] == "1")

    show(splits["train"], 1, where=note)
    assert asked == ["0", "1"], "no row is read after the last one that is shown"


def test_long_texts_are_cut_with_their_length() -> None:
    for length, end in ((2000, "x"), (2001, "x... (2,001 characters)")):
        (panel,) = show(Dataset.from_list([{"note": "x" * length}])).samples[0].panels
        assert panel.facts["note"] == "x" * 1999 + end
