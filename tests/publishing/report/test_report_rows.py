"""The report's file: complete rows, and nothing that loads or runs."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, Features, List, Value
from typer.testing import CliRunner

from toolrlef_data import (
    InputError,
    diff,
    publish,
    write_report,
)
from toolrlef_data.cli.main import app
from toolrlef_data.publishing import markdown
from toolrlef_data.publishing.figures.charts import Figure, funnel, scores
from toolrlef_data.publishing.manifest import file_entry, seal

ROWS = [{"id": f"r{n % 4}", "question": f"{n} + 1?", "output": str(n)} for n in range(6)]  # two ids are not unique

PLAIN = [{"id": str(n), "n": n} for n in range(3)]  # nothing of which a card has figures


def lines_of(path: Path) -> list[Any]:
    """Return the lines in the file of a report."""
    (packed,) = re.findall(r'id="data">([^<]*)<', path.read_text())
    return [json.loads(line) for line in gzip.decompress(base64.b64decode(packed)).decode("ascii").splitlines()]


def published(folder: Path, rows: list[dict[str, Any]] | DatasetDict, name: str = "stage1") -> Path:
    table = rows if isinstance(rows, DatasetDict) else Dataset.from_list(rows)
    return publish({"math": {name: table}}, folder, version="1.0.0")


def test_every_row_of_every_config_and_split_is_in_the_file(tmp_path: Path) -> None:
    splits = DatasetDict(train=Dataset.from_list(ROWS), test=Dataset.from_list(ROWS[:1]))
    tables = {"stage1": splits, "other": Dataset.from_list([{"id": "x", "deep": [{"a": None}]}])}
    folder = publish({"math": tables}, tmp_path / "data", version="1.2.3")
    first, *rows, last = lines_of(write_report(folder, out=tmp_path / "r.html"))
    assert first["versions"] == ["1.2.3"]
    assert [(table["config"], table["columns"]) for table in first["tables"]] == [
        ("math-other", ["id", "deep"]),
        ("math-stage1", ["id", "question", "output"]),
    ]
    assert rows[0] == [0, "train", None, None, None, ["x", [{"a": None}]]]
    values = {split: [line[5] for line in rows if line[:2] == [1, split]] for split in ("train", "test")}
    assert values == {"train": [list(row.values()) for row in ROWS], "test": [list(ROWS[0].values())]}
    assert last["requests"] == []


def test_numbers_that_javascript_would_round_are_texts(tmp_path: Path) -> None:
    row = {"id": "1", "big": 2**60 + 1, "edge": 2**53, "small": 7, "share": 1 / 3, "nan": float("nan")}
    _, line, _ = lines_of(write_report(published(tmp_path / "data", [row]), out=tmp_path / "r.html"))
    assert line[5] == ["1", "1152921504606846977", 2**53, 7, 1 / 3, "nan"]


# Two versions -------------------------------------------------------------------------------------------------------


def test_rows_of_two_versions_are_those_of_diff(tmp_path: Path) -> None:
    after = [ROWS[0], *ROWS[2:5], {**ROWS[5], "output": "other"}, {**ROWS[0], "id": "new"}]
    a, b = published(tmp_path / "a", ROWS), published(tmp_path / "b", after)
    first, *rows, _ = lines_of(write_report(a, b, out=tmp_path / "r.html"))
    assert [(table["version"], table["config"]) for table in first["tables"]] == [
        (0, "math-stage1"),
        (1, "math-stage1"),
    ]
    by_change: dict[str, list[list[Any]]] = {}
    for line in rows:
        by_change.setdefault(line[2], []).append(line)
    change = diff(a, b)["math-stage1"]
    assert [line[5][0] for line in by_change["added"]] == list(change.added)
    assert [line[5][0] for line in by_change["removed"]] == list(change.removed)
    assert {line[5][0] for line in by_change["changed"]} == set(change.changed)
    before = {line[3]: line for line in by_change["before"]}
    assert len(before) == len(by_change["changed"]), "each changed row has its earlier one"
    assert all(before[line[3]][5][0] == line[5][0] for line in by_change["changed"])
    assert len(rows) == len(after) + len(change.removed) + len(before), "equal rows are written once"


def test_a_config_of_one_version_only(tmp_path: Path) -> None:
    table = Dataset.from_list(ROWS)
    a = publish({"math": {"stage1": table, "old": table}}, tmp_path / "a", version="1.0.0")
    b = publish({"math": {"stage1": table, "new": table}}, tmp_path / "b", version="2.0.0")
    first, *rows, _ = lines_of(write_report(a, b, out=tmp_path / "r.html"))
    changes = {(first["tables"][line[0]]["config"], line[2]) for line in rows}
    assert changes == {("math-stage1", "same"), ("math-old", "removed"), ("math-new", "added")}


def test_another_split_is_a_change_and_a_new_column_is_none(tmp_path: Path) -> None:
    a = published(tmp_path / "a", DatasetDict(train=Dataset.from_list(ROWS[:2])))
    rows = [{**row, "why": "x"} for row in ROWS[:2]]
    b = published(tmp_path / "b", DatasetDict(train=Dataset.from_list(rows[:1]), test=Dataset.from_list(rows[1:])))
    _, *lines, _ = lines_of(write_report(a, b, out=tmp_path / "r.html"))
    assert sorted((line[2], line[1], line[5][0]) for line in lines) == [
        ("before", "train", "r1"),
        ("changed", "test", "r1"),
        ("same", "train", "r0"),
    ]


# Figures ------------------------------------------------------------------------------------------------------------


def add_figures(folder: Path, *figures: Figure) -> Path:
    """Add figures to a published folder and to its card, as `publish` does."""
    facts, card = json.loads((folder / "provenance.json").read_text()), folder / "README.md"
    with card.open("a") as file:
        file.writelines(f"\n![{markdown.one_line(figure.alt)}]({figure.file})\n" for figure in figures)
    for figure in figures:
        (folder / figure.file).parent.mkdir(exist_ok=True)
        (folder / figure.file).write_bytes(figure.svg)
    facts["files"] |= {name: file_entry(folder / name) for name in ("README.md", *(figure.file for figure in figures))}
    (folder / "provenance.json").write_text(seal(facts))
    return folder


def images_in(path: Path) -> list[tuple[str, str, str]]:
    """Return (alternative text, SVG, caption) of the figures of a report."""
    pattern = r'<figcaption>(.*?)</figcaption><img src="data:image/svg\+xml;base64,([^"]*)" alt="([^"]*)">'
    found = re.findall(pattern, path.read_text())
    return [(html.unescape(alt), base64.b64decode(data).decode(), html.unescape(title)) for title, data, alt in found]


def test_the_figures_of_the_card_are_in_the_report(tmp_path: Path) -> None:
    drawn = [scores({'a|b] "<c>': {20.0: 3, 5.0: 1}}), funnel([("source", 4, 1)])]
    figures = [figure for figure in drawn if figure is not None]
    folder = add_figures(published(tmp_path / "a", PLAIN), *figures)
    images = images_in(write_report(folder, out=tmp_path / "r.html"))
    expected = [(figure.alt, figure.svg.decode()) for figure in figures[::-1]]
    assert [image[:2] for image in images] == expected, "in the order of `FIGURES`"
    assert [image[2] for image in images] == ["Rows by stage", "Scores by responder"]
    later = add_figures(published(tmp_path / "b", PLAIN[1:]), figures[0])
    titles = [image[2] for image in images_in(write_report(folder, later, out=tmp_path / "r.html"))]
    scores_title = "Scores by responder, version 1.0.0"
    assert titles == ["Rows by stage, version 1.0.0", scores_title, scores_title]
    assert images_in(write_report(published(tmp_path / "c", PLAIN), out=tmp_path / "r.html")) == []


# The file -----------------------------------------------------------------------------------------------------------


def test_the_file_names_nothing_outside_itself(tmp_path: Path) -> None:
    text = write_report(published(tmp_path / "data", ROWS), out=tmp_path / "r.html").read_text()
    page = re.sub(r'id="data">[^<]*<', "", text)
    assert (
        re.findall(r"""https?:|url\(|@import|\bimport\(|\bfetch\(|innerHTML|outerHTML|\beval\(|document\.write""", page)
        == []
    )
    assert "default-src 'none'" in page


@pytest.mark.parametrize("name", ['<img src=x onerror="alert(1)">', "{rows}", "a & 'b'", "<!-- rows -->", "\u202egnp"])
def test_the_name_of_a_folder_is_text(name: str, tmp_path: Path) -> None:
    folder = published(tmp_path / name, ROWS)
    path = write_report(folder, out=tmp_path / "r.html")
    assert len(lines_of(path)) == len(ROWS) + 2
    text = path.read_text()
    assert "<img src=x" not in text
    assert "\u202e" not in text
    assert str(tmp_path) not in text, "a path of the machine is not published"


def test_only_an_earlier_report_is_replaced(tmp_path: Path) -> None:
    folder, path = published(tmp_path / "data", ROWS), tmp_path / "r.html"
    assert write_report(folder, out=path) == path
    first = path.read_bytes()
    write_report(folder, out=path)
    assert path.read_bytes() == first, "the same rows give the same bytes"
    path.write_text("mine")
    with pytest.raises(InputError, match="is not a report: move it away"):
        write_report(folder, out=path)
    assert path.read_text() == "mine"
    for out in (tmp_path, tmp_path / "no" / "r.html", folder / "README.md"):
        with pytest.raises(InputError):
            write_report(folder, out=out)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["data", "r.html"], "no unfinished file stays"


def test_a_folder_that_is_no_version(tmp_path: Path) -> None:
    folder = published(tmp_path / "data", ROWS)
    next(folder.glob("*/*.parquet")).write_bytes(b"x")
    for what, message in ((folder, "has changed since"), (tmp_path, "was not written by `publish`")):
        with pytest.raises(InputError, match=message):
            write_report(what, out=tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_the_command(tmp_path: Path) -> None:
    a, b = published(tmp_path / "a", ROWS), published(tmp_path / "b", ROWS[1:])
    for words, changes in (([str(a)], {None}), ([str(a), str(b)], {"same", "removed", "before", "changed"})):
        result = CliRunner().invoke(app, ["report", *words, "--out", str(tmp_path / "r.html")], catch_exceptions=False)
        assert "r.html: open it in a browser" in result.output.replace("\n", "")
        assert {line[2] for line in lines_of(tmp_path / "r.html")[1:-1]} <= changes


def test_features_of_users(tmp_path: Path) -> None:
    """A table with types of its own, without ids."""
    features = Features(text=Value("large_string"), when=Value("timestamp[s]"), lists=List(List(Value("int32"))))
    table = Dataset.from_list([{"text": "a", "when": None, "lists": [[1], []]}], features=features)
    folder = publish({"mine": {"own": table}}, tmp_path / "data", version="1.0.0")
    _, line, _ = lines_of(write_report(folder, out=tmp_path / "r.html"))
    assert line[5] == ["a", None, [[1], []]]
