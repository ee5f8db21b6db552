"""The batches of a stored table: large enough for little memory when it is opened, and no larger."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from datasets import Features

from toolrlef_data.columns import QUESTIONS, RESPONSE
from toolrlef_data.tables.cache.batch_sizes import enlarge_batches

WIDE = Features(id=QUESTIONS["id"], **dict.fromkeys("abcdef", RESPONSE))


def batch_rows(path: Path, features: Features, batches: int, rows: int, text: str = "x") -> list[int]:
    """Return the sizes of the batches of a file after it was written with small ones."""
    schema = features.arrow_schema
    values = [dict.fromkeys(features) | {"id": text}] * rows
    batch = pa.Table.from_pylist(values, schema)
    with open(path, "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for _ in range(batches):
            writer.write_table(batch)
    enlarge_batches(path)
    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
        found = [part.num_rows for part in reader]
    assert sum(found) == batches * rows
    return found


@pytest.mark.parametrize(
    ("features", "batches", "rows", "expected"),
    [
        (QUESTIONS, 9, 1000, [1000] * 9),  # 9 arrays: 200 rows are enough
        (QUESTIONS, 90, 10, [360, 360, 180]),
        (WIDE, 9, 2000, [6000] * 3),  # 115 arrays
        (WIDE, 8, 1, [1] * 8),  # few batches, whatever their sizes
    ],
)
def test_batches_have_rows_for_their_columns(
    features: Features, batches: int, rows: int, expected: list[int], tmp_path: Path
) -> None:
    assert batch_rows(tmp_path / "rows.arrow", features, batches, rows) == expected


def test_batches_of_long_rows_are_limited_by_their_bytes(tmp_path: Path) -> None:
    assert max(batch_rows(tmp_path / "rows.arrow", QUESTIONS, 40, 1, "x" * 1_000_000)) == 16


@pytest.mark.parametrize(("rows", "is_kept"), [(180, False), (181, True)])
def test_batches_of_more_than_half_the_rows_stay(rows: int, is_kept: bool, tmp_path: Path) -> None:
    """Nine arrays: 360 rows are enough."""
    expected = [rows] * 10 if is_kept else [2 * rows] * 5
    assert batch_rows(tmp_path / "rows.arrow", QUESTIONS, 10, rows) == expected


def test_a_file_that_stays_is_not_written_again(tmp_path: Path) -> None:
    schema = QUESTIONS.arrow_schema
    with open(tmp_path / "rows", "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for _ in range(8):
            writer.write_table(pa.Table.from_pylist([dict.fromkeys(QUESTIONS)], schema))
    inode = (tmp_path / "rows").stat().st_ino
    enlarge_batches(tmp_path / "rows")
    assert (tmp_path / "rows").stat().st_ino == inode


@pytest.mark.parametrize(("length", "is_kept"), [(7_500_000, False), (8_100_000, True)])
def test_batches_of_more_than_half_the_bytes_stay(length: int, is_kept: bool, tmp_path: Path) -> None:
    sizes = batch_rows(tmp_path / "rows.arrow", QUESTIONS, 9, 1, "x" * length)
    assert (sizes == [1] * 9) is is_kept
