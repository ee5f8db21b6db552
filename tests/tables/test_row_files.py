"""Rows in memory become files of the cache: in chunks, under a key of their content, each with a record."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from datasets import Dataset, Features, Value

from toolrlef_data.columns import DROPPED
from toolrlef_data.tables.files import file_digest
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.lineage import ledger, lineage, record_source
from toolrlef_data.tables.row_files import (
    chunks_of,
    digest_rows,
    materialize,
    spool,
    spooled_tables,
    table_from_batches,
    table_from_rows,
    writable_folder,
)
from toolrlef_data.tables.stage_cache import arrow_files, build_record, stages_dir, with_fingerprint, write_record

SCHEMA = pa.schema([("id", pa.string()), ("n", pa.int64())])
FEATURES = Features(id=Value("string"), n=Value("int64"))


def rows(count: int) -> Iterator[dict[str, Any]]:
    return ({"id": f"r{n}", "n": n} for n in range(count))


@pytest.mark.parametrize(
    ("count", "sizes"), [(0, []), (1, [1]), (1000, [1000]), (1001, [1000, 1]), (2500, [1000, 1000, 500])]
)
def test_rows_are_read_in_chunks_of_1000(count: int, sizes: list[int], tmp_path: Path) -> None:
    chunks = list(chunks_of(rows(count)))
    assert list(map(len, chunks)) == sizes
    assert list(itertools.chain(*chunks)) == list(rows(count))
    spool(rows(count), SCHEMA, tmp_path / "rows")
    assert [table.num_rows for table in spooled_tables(tmp_path / "rows")] == sizes
    assert [row for table in spooled_tables(tmp_path / "rows") for row in table.to_pylist()] == list(rows(count))
    table = table_from_rows(rows(count), FEATURES, "mine")
    assert (table.to_list(), table.features, len(arrow_files(table))) == (list(rows(count)), FEATURES, 1)


def test_rows_are_consumed_lazily() -> None:
    read = []
    chunks = chunks_of(read.append(n) or n for n in range(5000))  # type: ignore[func-returns-value]
    assert (next(chunks)[-1], len(read)) == (999, 1000)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_digest_of_rows_is_that_of_their_list(count: int) -> None:
    values = [{"b": [1.5, None], "a": f"é{n}"} for n in range(count)]
    assert digest_rows(iter(values)) == digest(values)
    assert digest_rows([{"a": 1}]) != digest_rows([{"a": 1}, {"a": 1}])


def test_the_record_of_a_table_of_batches() -> None:
    parent = table_from_rows(rows(2), FEATURES, "parent")
    dropped = [
        {
            "id": f"d{n}",
            "task": "t",
            "dataset": None,
            "stage": "calls",
            "reason": "odd" if n % 3 else "third",
            "detail": str(n),
        }
        for n in range(1002)
    ]
    batches = [pa.Table.from_pylist(list(rows(3)), SCHEMA), pa.Table.from_pylist([{"id": "x", "n": None}], SCHEMA)]
    inputs = ["", parent._fingerprint]
    table = table_from_batches(batches, SCHEMA, "calls", inputs, {"seed": 1}, dropped, "dev")
    assert table.to_list() == [*rows(3), {"id": "x", "n": None}]
    assert table.split == "dev"
    assert table_from_batches(batches, SCHEMA, "calls").split is None
    record = lineage(table)[-1]
    files = {name: record.pop(name) for name in ("files", "dropped_files")}
    assert sorted(record.pop("stamps")) == sorted(files["files"] + files["dropped_files"])
    assert record == {
        "fingerprint": table._fingerprint, "step": "calls", "inputs": [parent._fingerprint], "settings": {"seed": 1},
        "published": {"seed": 1}, "rows_in": 1006, "rows_out": 4, "dropped": {"odd": 668, "third": 334},
    }  # fmt: skip
    assert ledger([table]).to_list() == dropped
    assert ledger([table]).features == DROPPED
    assert [Path(file).name for file in files["files"]] == [f"{table._fingerprint}.arrow"]


def test_equal_rows_of_one_origin_are_one_table() -> None:
    def key(name: str = "a", inputs: tuple[str, ...] = (), settings: Any = None, salt: str = "", n: int = 3) -> str:
        batches = [pa.Table.from_pylist(list(rows(n)), SCHEMA)]
        made = table_from_batches(batches, SCHEMA, name, inputs, settings, salt=salt)._fingerprint
        assert made == table_from_batches(batches, SCHEMA, name, inputs, settings, salt=salt)._fingerprint
        return str(made)

    others = [key(name="b"), key(inputs=("x",)), key(inputs=("y",)), key(settings={"s": 1}), key(salt="1"), key(n=2)]
    assert len({key(), *others}) == 7
    assert key() == digest(file_digest(stages_dir() / f"{key()}.arrow"), digest("a", [])), "as in earlier versions"
    origin = digest(digest("a", ["x"], {"s": 1}), "1")
    salted = key(inputs=("x",), settings={"s": 1}, salt="1")
    assert salted == digest(file_digest(stages_dir() / f"{salted}.arrow"), origin)
    assert key(inputs=("", "")) == key()


def test_a_table_in_memory_is_written_once() -> None:
    data = Dataset.from_dict({"id": ["a", "b"]}, split="dev")
    written = materialize(data)
    assert (written.to_list(), written.split, written.features) == (data.to_list(), "dev", data.features)
    assert arrow_files(written)
    assert materialize(written) is written
    assert materialize(Dataset.from_dict({"id": ["a", "b"]}))._fingerprint == written._fingerprint
    assert materialize(Dataset.from_dict({"id": ["a", "c"]}))._fingerprint != written._fingerprint
    (record,) = lineage(written)
    assert [record[name] for name in ("step", "inputs", "settings", "published", "rows_in", "rows_out", "dropped")] == [
        *("rows", [], None, None, 2, 2, {}),
    ]
    part = materialize(data.select([1]))
    assert (part.to_list(), arrow_files(part) == arrow_files(written)) == ([{"id": "b"}], False)


def test_a_source_without_rows_keeps_its_record_and_is_not_another_one() -> None:
    drops = table_from_rows([dict.fromkeys(DROPPED, "x")], DROPPED, "drops")
    tables = []
    for name in ("one", "other"):
        source = Dataset.from_dict({"id": []})
        source._fingerprint = f"source-{name}"
        record_source(source, f"source {name}", {"split": "train"}, drops)
        tables.append(materialize(source))
    assert [[record["step"] for record in lineage(table)] for table in tables] == [["source one"], ["source other"]]
    assert len({table._fingerprint for table in tables}) == 2
    for table in tables:
        (record,) = lineage(table)
        assert (record["fingerprint"], record["rows_in"], record["dropped"]) == (table._fingerprint, 1, {"x": 1})
        assert (record["files"], len(ledger([table]))) == (arrow_files(table), 1)


def test_a_damaged_file_is_written_again() -> None:
    file = Path(arrow_files(table_from_rows(rows(3), FEATURES, "mine"))[0])
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content[:-40])
    again = table_from_rows(rows(3), FEATURES, "mine")
    assert (again.to_list(), file.read_bytes()) == (list(rows(3)), content)
    file.unlink()
    assert table_from_rows(rows(3), FEATURES, "mine").to_list() == list(rows(3))


def test_scratch_files_of_a_cache_that_cannot_be_written_are_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not stages_dir().exists()
    assert writable_folder() == stages_dir()
    assert stages_dir().is_dir()
    (tmp_path / "file").touch()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file")
    assert writable_folder() == Path(tempfile.gettempdir())


def test_a_saved_table_of_one_folder_is_known_by_its_files(tmp_path: Path) -> None:
    """The names in `state.json` are those of the folder, which may have been moved."""
    table = table_from_rows(rows(5), FEATURES, "mine")
    table.save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "saved").rename(tmp_path / "moved")
    assert materialize(datasets.load_from_disk(str(tmp_path / "moved")))._fingerprint == table._fingerprint
    same = with_fingerprint(table, "e" * 32)
    assert materialize(same)._fingerprint == table._fingerprint, "without a record of its own"
    write_record("e" * 32, build_record("later", [table], None, same))
    assert materialize(same)._fingerprint == "e" * 32, "a stage that dropped no row shares the file"
    assert materialize(table.with_format("numpy"))._fingerprint == table._fingerprint
