"""Published Parquet files: earlier versions of `datasets`, pandas and pyarrow read them, and no feature is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as arrow_dataset
import pyarrow.parquet as pq
import pytest
from datasets import (
    ClassLabel,
    Dataset,
    Features,
    Json,
    LargeList,
    List,
    Sequence,
    Value,
    concatenate_datasets,
    load_dataset,
)

from toolrlef_data import columns, publish
from toolrlef_data.publishing import parquet_files
from toolrlef_data.publishing.parquet_files import is_read_unchanged, old_schema, table_bytes, write_parquet
from toolrlef_data.tables.row_files import table_from_rows

# Names of types in `datasets` 2.21, from its table of features; List came with version 4.
OLD_TYPES = {"Value", "ClassLabel", "Translation", "Sequence", "Array2D", "Audio", "Image"}
LABEL = ClassLabel(names=["no", "yes"])
TABLES = [
    value for name, value in vars(columns).items() if isinstance(value, Features) and name.isupper() and len(value) > 1
]
UNUSUAL = Features(
    label=LABEL,
    labels=List(LABEL),
    nested=List({"label": LABEL, "texts": List(Value("string"))}),
    fixed=List(Value("float32"), length=2),
    fixed_labels=List(LABEL, length=2),
    deep=List(List(LABEL)),
    struct={"label": LABEL, "list": List(Value("int8"))},
    columns=Sequence({"label": LABEL}),
    many=LargeList(Value("string")),
    json=Json(),
    calls=List({"arguments": Json()}),
)


def types_in(form: Any) -> set[str]:
    parts = form if isinstance(form, list) else form.values() if isinstance(form, dict) else ()
    own = {form["_type"]} if isinstance(form, dict) and isinstance(form.get("_type"), str) else set()
    return own.union(*map(types_in, parts))


@pytest.mark.parametrize(
    ("feature", "other", "expected"),
    [
        (Value("int64"), Value("string"), False),  # "07" would be 7
        (Value("string"), Value("int64"), False),
        (Value("bool"), Value("int64"), False),  # 2 would be True
        (Value("int32"), Value("int64"), False),
        (Value("int64"), Value("float64"), False),
        (Value("float64"), Value("int64"), True),  # as pandas has a column with and without missing values
        (Value("int64"), Value("int64"), True),
        (Value("null"), Value("string"), False),
        (Value("string"), Value("null"), True),
        (Value("large_string"), Value("string"), True),
        (Value("string"), Value("binary"), False),
        (LABEL, ClassLabel(names=["yes", "no"]), False),
        (List(Value("string")), LargeList(Value("null")), True),
        (List(Value("string")), Value("string"), False),
        (List(Value("null")), List(Value("string")), False),
        ({"a": Value("int64"), "b": Value("string")}, {"a": Value("int8")}, True),
        ({"a": Value("int64")}, {"a": Value("int64"), "b": Value("string")}, False),
    ],
)
def test_features_with_which_another_split_is_read_unchanged(feature: Any, other: Any, expected: bool) -> None:
    assert is_read_unchanged(feature, other) is expected


@pytest.mark.parametrize("features", [*TABLES, UNUSUAL], ids=lambda features: next(iter(features)))
def test_metadata_of_a_file_has_no_later_type_and_loses_no_feature(features: Features) -> None:
    schema = old_schema(features)
    recorded = json.loads((schema.metadata or {}).get(b"huggingface", b'{"info": {"features": {}}}'))
    assert types_in(recorded["info"]["features"]) <= OLD_TYPES
    assert Features.from_arrow_schema(schema) == features
    assert schema.equals(features.arrow_schema), "the Arrow types are those of `datasets`"


def test_tables_of_this_package_need_no_metadata() -> None:
    assert len(TABLES) >= 10
    assert [old_schema(features).metadata for features in TABLES] == [None] * len(TABLES)


def rows() -> list[dict[str, Any]]:
    turns = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": None}]
    return [
        {"id": str(n), "answers": [str(n)] * n, "scores": [0.1 * n, None], "messages": turns[:n], "label": n % 2}
        for n in range(9)
    ]


FEATURES = Features(
    id=Value("string"),
    answers=List(Value("string")),
    scores=List(Value("float64")),
    messages=List({"role": Value("string"), "content": Value("string")}),
    label=LABEL,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    table = Dataset.from_list(rows(), features=FEATURES)
    monkeypatch.setattr(parquet_files, "SHARD_BYTES", table.data.nbytes // 2)
    monkeypatch.setattr(parquet_files, "ROW_GROUP_BYTES", table.data.nbytes // 4)
    return publish({"math": {"stage2": table}}, tmp_path / "data", version="1.0.0") / "math-stage2"


@pytest.mark.parametrize(("excess", "shards"), [(0, 1), (1, 2)])
def test_no_shard_is_larger_than_the_limit(
    excess: int, shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Dataset.from_dict({"id": [*"abcdefgh"]})
    monkeypatch.setattr(parquet_files, "SHARD_BYTES", table_bytes(table) - excess)
    write_parquet(table, tmp_path, "train")
    assert len(list(tmp_path.glob("*.parquet"))) == shards


def test_memory_is_that_of_a_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_caches: Path) -> None:
    def peak(rows: int) -> int:
        texts = ({"id": str(n), "text": f"{n:0500d}"} for n in range(rows))
        table = table_from_rows(texts, {"id": Value("string"), "text": Value("string")}, "texts")  # in a mapped file
        default_pool = pa.default_memory_pool()
        pool = pa.proxy_memory_pool(default_pool)
        pa.set_memory_pool(pool)
        try:
            write_parquet(table, tmp_path / str(rows), "train")
        finally:
            pa.set_memory_pool(default_pool)
        return int(pool.max_memory())

    monkeypatch.setattr(parquet_files, "ROW_GROUP_BYTES", 500_000)
    assert peak(20_000) < peak(5_000) + 20 * 15_000 < 20_000 * 500, "less than 20 bytes a row, of 500"


def test_pandas_and_pyarrow_read_the_published_rows(folder: Path) -> None:
    files = sorted(folder.glob("*.parquet"))
    assert len(files) > 1
    assert arrow_dataset.dataset(folder).to_table().to_pylist() == rows()
    frame = pd.concat(map(pd.read_parquet, files), ignore_index=True)
    assert list(frame) == list(FEATURES)
    assert frame["id"].tolist() == [row["id"] for row in rows()]
    assert [list(values) for values in frame["answers"]] == [row["answers"] for row in rows()]
    assert [list(values) for values in frame["messages"]] == [row["messages"] for row in rows()]


def test_a_single_file_and_the_card_give_the_same_features(folder: Path) -> None:
    by_file = load_dataset("parquet", data_files=str(folder / "*.parquet"), split="train")
    by_card = load_dataset(str(folder.parent), "math-stage2", split="train")
    assert by_file.features == by_card.features == FEATURES
    assert by_file.to_list() == by_card.to_list() == rows()


def test_files_have_small_row_groups_and_the_same_bytes_each_time(folder: Path, tmp_path: Path) -> None:
    files = sorted(folder.glob("*.parquet"))
    groups = [pq.read_metadata(file).num_row_groups for file in files]
    assert max(groups) > 1, "a reader of one row reads one row group"
    # Rows that are selected or in several chunks have the same values.
    parts = [Dataset.from_list(rows(), features=FEATURES).select([n]) for n in range(9)]
    again = publish({"math": {"stage2": concatenate_datasets(parts)}}, tmp_path / "again", version="1.0.0")
    assert [file.name for file in sorted((again / "math-stage2").iterdir())] == [file.name for file in files]


def test_the_bytes_do_not_depend_on_the_batches_of_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes, or shards, make the same rows in other batches, whose `nbytes` differs."""
    rows = [
        {"id": str(n), "answers": ["x" * (n % 7)] * (n % 4), "gold": {"text": None if n % 3 else "é", "count": n}}
        for n in range(1000)
    ]
    table = Dataset.from_list(rows)
    parts = concatenate_datasets([table.select(range(n, min(n + 37, 1000))) for n in range(0, 1000, 37)])
    assert parts.data.nbytes != table.data.nbytes
    monkeypatch.setattr(parquet_files, "ROW_GROUP_BYTES", table_bytes(table) // 5)
    write_parquet(table, tmp_path / "a", "train")
    write_parquet(parts, tmp_path / "b", "train")
    (first,), (second,) = ([*(tmp_path / name).iterdir()] for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    assert pq.read_metadata(first).num_row_groups == 6


def test_the_size_of_values() -> None:
    """8 bytes a number, the bytes of a text and 4, and 4 for each list; a null text has 4."""
    features = Features(n=Value("int8"), flag=Value("bool"), text=Value("string"), big=Value("large_string"), raw=Value("binary"),
                        lists=List(Value("string")), many=LargeList(Value("float32")), pair=List(Value("float32"), length=2), bytes=Value("large_binary"), deep={"x": List({"y": Value("string")})})  # fmt: skip
    rows = [
        {"n": 1, "flag": None, "text": "é", "big": "abc", "raw": b"12345", "lists": ["a", "bc"], "many": [1.0], "pair": [1.0, 2.0], "bytes": b"12", "deep": {"x": [{"y": "abc"}]}},
        {"n": None, "flag": True, "text": None, "big": None, "raw": b"", "lists": [], "many": None, "pair": [3.0, 4.0], "bytes": b"3", "deep": {"x": None}},
    ]  # fmt: skip
    sizes = {name: table_bytes(Dataset.from_list(rows, features=features).select_columns([name])) for name in features}  # fmt: skip
    texts = {"text": 8 + 2, "big": 8 + 3, "raw": 8 + 5, "bytes": 8 + 3}
    assert sizes == {"n": 16, "flag": 16, **texts, "lists": 8 + 8 + 3, "many": 8 + 8, "pair": 8 + 32, "deep": 8 + 4 + 3}
    assert table_bytes(Dataset.from_list(rows, features=features)) == sum(sizes.values())
