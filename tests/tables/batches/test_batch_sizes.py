"""The batches of a stored table: large enough for little memory when it is opened, and no larger."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from datasets import Features

from toolrlef_data.columns import QUESTIONS, RESPONSE
from toolrlef_data.tables.batches.sizes import enlarge_batches

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
        table = reader.read_all()
    assert table.equals(pa.concat_tables([batch] * batches)), "no row is lost or changed"
    return [len(part) for part in table.to_batches()]


@pytest.mark.parametrize(
    ("features", "batches", "rows", "expected"),
    [
        (QUESTIONS, 9, 1000, [1000] * 9),  # 9 arrays: 1,440 rows are enough, and twice as small is large enough
        (QUESTIONS, 90, 30, [1440, 1260]),
        (WIDE, 9, 600, [5400]),  # 115 arrays
        (WIDE, 5, 1, [5]),
        (WIDE, 4, 1, [1] * 4),  # few batches, whatever their sizes
    ],
)
def test_batches_have_rows_for_their_columns(
    features: Features, batches: int, rows: int, expected: list[int], tmp_path: Path
) -> None:
    assert batch_rows(tmp_path / "rows.arrow", features, batches, rows) == expected


def test_batches_of_long_rows_are_limited_by_their_bytes(tmp_path: Path) -> None:
    assert max(batch_rows(tmp_path / "rows.arrow", QUESTIONS, 40, 1, "x" * 1_000_000)) == 4


@pytest.mark.parametrize(("rows", "is_kept"), [(720, False), (721, True)])
def test_batches_of_more_than_half_the_rows_stay(rows: int, is_kept: bool, tmp_path: Path) -> None:
    """Nine arrays: 1,440 rows are enough."""
    expected = [rows] * 10 if is_kept else [2 * rows] * 5
    assert batch_rows(tmp_path / "rows.arrow", QUESTIONS, 10, rows) == expected
