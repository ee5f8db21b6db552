"""Our own corpus of small files in upstream's formats: the rows, the drops or the error that each must yield."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from tests.support.corpora import own_cases
from toolrlef_data import ledger, load_trice
from toolrlef_data.loading_scripts import load_tables
from toolrlef_data.records import InputError

Rows = list[dict[str, Any]]


def write_files(files: Mapping[str, Any], encoding: str, folder: Path) -> None:
    """Write texts as they are and other values as JSON."""
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode(encoding, "surrogatepass"))


def load(source: str, folder: Path, options: Mapping[str, Any]) -> tuple[Rows, Rows]:
    """Return the rows of all splits or tables, and the dropped rows."""
    if source != "trice":
        tables = load_tables(source, folder, **options)
        return rows_of(tables.questions.values()), rows_of(tables.dropped.values())
    rows, dropped = [], []
    for task, named in load_trice(folder).items():
        splits = {
            f"{task}/{name}/{split}": data
            for name, table in named.items()
            for split, data in (table if isinstance(table, DatasetDict) else {"train": table}).items()
        }
        rows += [{"table": name, **row} for name, data in splits.items() for row in data]
        dropped += ledger(list(splits.values())).to_list()
    return rows, dropped


def rows_of(tables: Iterable[Dataset]) -> Rows:
    return [row for table in tables for row in table]


def whole(rows: Rows, expected: Rows) -> Rows:
    """Return the rows; without the detail, if it is a message of Python and not expected."""
    return [
        {name: value for name, value in row.items() if name != "detail" or name in columns}
        for row, columns in zip(rows, expected, strict=True)
    ]


@pytest.mark.parametrize("case", own_cases("files.jsonl"))
def test_a_file_yields_its_rows_and_drops_or_an_error(case: dict[str, Any], tmp_path: Path) -> None:
    write_files(case["files"], case.get("encoding", "utf-8"), tmp_path)
    options = case.get("options", {})
    if "error" in case:
        with pytest.raises(InputError) as caught:
            load(case["source"], tmp_path, options)
        assert case["error"] in str(caught.value).replace(f"{tmp_path}{os.sep}", "")
        return
    rows, dropped = load(case["source"], tmp_path, options)
    expected_rows, expected_drops = case.get("rows", []), case.get("dropped", [])
    assert (len(rows), len(dropped)) == (len(expected_rows), len(expected_drops)), (rows, dropped)
    assert rows == expected_rows
    assert whole(dropped, expected_drops) == expected_drops
