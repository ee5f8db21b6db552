"""Checks of tables and arguments: which types of a column are converted, and the whole message of each error."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, Features, List, Value

from toolrlef_data.checks import (
    as_path,
    check_callable,
    check_features,
    check_names,
    check_table,
    check_type,
    features_of,
    require_columns,
    split_path,
)
from toolrlef_data.choices import Choices, check_choice
from toolrlef_data.records import InputError, MissingColumns, UnknownName

EXPECTED = Features(
    id=Value("string"),
    answers=List(Value("string")),
    response={"text": Value("string"), "n_calls": Value("int64")},
    correct=Value("bool"),
)
PLAIN: dict[str, list[Any]] = {
    "id": ["a"],
    "answers": [["x"]],
    "response": [{"text": "t", "n_calls": 1}],
    "correct": [True],
}
TYPES: dict[str, pa.DataType] = {
    "id": pa.string(),
    "answers": pa.list_(pa.string()),
    "response": pa.struct([("text", pa.string()), ("n_calls", pa.int64())]),
    "correct": pa.bool_(),
}


def table(values: dict[str, list[Any]], types: dict[str, pa.DataType]) -> Dataset:
    columns = {name: pa.array(column, types[name]) for name, column in values.items()}
    return Dataset(pa.table(columns))


@pytest.mark.parametrize(
    ("values", "types"),
    [
        ({}, {"id": pa.large_string()}),
        ({}, {"answers": pa.large_list(pa.large_string())}),
        ({"id": [None]}, {"id": pa.null()}),
        ({"answers": [None]}, {"answers": pa.null()}),
        ({"answers": [[None]]}, {"answers": pa.list_(pa.null())}),
        ({"correct": [None]}, {"correct": pa.null()}),
        ({}, {"response": pa.struct([("text", pa.large_string()), ("n_calls", pa.int64())])}),
        (
            {"response": [{"text": "t", "n_calls": None}]},
            {"response": pa.struct([("text", pa.string()), ("n_calls", pa.null())])},
        ),
    ],
)
def test_values_of_another_type_are_converted(values: dict[str, list[Any]], types: dict[str, pa.DataType]) -> None:
    found = check_features(
        table({**PLAIN, **values, "more": [5]}, {**TYPES, **types, "more": pa.int8()}), EXPECTED, "x"
    )
    assert found.features == Features({**EXPECTED, "more": Value("int8")})
    assert found.to_dict() == {**PLAIN, **values, "more": [5]}


@pytest.mark.parametrize(
    ("values", "types", "column"),
    [
        ({"id": [5]}, {"id": pa.int64()}, "id"),
        ({"answers": ["x"]}, {"answers": pa.string()}, "answers"),
        ({"answers": [[5]]}, {"answers": pa.list_(pa.int64())}, "answers"),
        ({"correct": [1]}, {"correct": pa.int64()}, "correct"),
        ({"response": [{"text": "t"}]}, {"response": pa.struct([("text", pa.string())])}, "response"),
        (
            {"response": [{"n_calls": 1, "text": "t"}]},
            {"response": pa.struct([("n_calls", pa.int64()), ("text", pa.string())])},
            "response",
        ),
        (
            {"response": [{"text": 5, "n_calls": 1}]},
            {"response": pa.struct([("text", pa.int64()), ("n_calls", pa.int64())])},
            "response",
        ),
    ],
)
def test_a_column_of_another_type_is_named(
    values: dict[str, list[Any]], types: dict[str, pa.DataType], column: str
) -> None:
    data = table({**PLAIN, **values}, {**TYPES, **types})
    for tables in (data, DatasetDict(train=data)):
        with pytest.raises(InputError) as raised:
            check_features(tables, EXPECTED, "grade")
        assert str(raised.value) == (
            f"grade needs the column {column} as {EXPECTED[column]}, found {data.features[column]}; convert it with "
            "`data.cast_column`"
        )


def test_a_table_with_the_right_types_is_returned_as_it_is() -> None:
    data = table(PLAIN, TYPES)
    assert check_features(data, EXPECTED, "x") is data
    assert check_table(data) is data
    assert check_table(data.with_format("numpy")).format["type"] is None
    shown = data.with_format(None, columns=["id"])
    assert check_table(shown).format["columns"] == data.column_names
    splits = check_table(DatasetDict(a=shown, b=data))
    assert [split.format["columns"] for split in splits.values()] == [data.column_names] * 2
    assert features_of(DatasetDict(a=data, b=data.remove_columns("id"))) == data.features == features_of(data)


class BytesPath:
    def __fspath__(self) -> bytes:
        return b"x"

    def __repr__(self) -> str:
        return "a path of bytes"


ROWS = Dataset.from_dict({"id": ["a"], "gpt": [{"text": "x"}], "v1.2": [1]})
NO_TABLE = "expected a datasets.Dataset or DatasetDict, found "


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_table([1]), f"{NO_TABLE}list"),
        (lambda: check_table(DatasetDict()), f"{NO_TABLE}a DatasetDict without splits"),
        (lambda: features_of(DatasetDict()), f"{NO_TABLE}a DatasetDict without splits"),
        (lambda: check_table(DatasetDict(a=5)), f"{NO_TABLE}int"),
        (lambda: require_columns(None, [], "x"), f"{NO_TABLE}NoneType"),
        (
            lambda: check_table(ROWS.with_transform(lambda batch: batch)),
            "the table has a transform (`with_transform`), which is not part of its rows: compute the values with "
            "`map`, or remove the transform with `with_format(None)`",
        ),
        (
            lambda: require_columns(ROWS, ["id", "gpt.text", "v1.2", "gold.text", "b", "gold.error"], "score"),
            "score needs the columns gold.text, b, gold.error; found: id, gpt, v1.2",
        ),
        (
            lambda: require_columns(ROWS, ["b", "id", "c", "b"], "score"),
            "score needs the columns b, c; found: id, gpt, v1.2",
        ),
        (
            lambda: require_columns(Dataset.from_dict({}), ["id"], "score"),
            "score needs the columns id; found: (none)",
        ),
        (lambda: check_names("reads", "id"), "reads: expected a list of column names, found 'id'"),
        (lambda: check_names("reads", ["id", 5]), "reads: expected a list of column names, found ['id', 5]"),
        (lambda: check_names("reads", None), "reads: expected a list of column names, found None"),
        (lambda: as_path("folder", 5), "folder: expected a path, found 5"),
        (lambda: as_path("folder", b"x"), "folder: expected a path, found b'x'"),
        (lambda: as_path("folder", BytesPath()), "folder: expected a path, found a path of bytes"),
        (lambda: check_type("n", True, "an integer", int), "n: expected an integer, found True"),
        (lambda: check_type("n", "x" * 100, "a number", int, float), f"n: expected a number, found '{'x' * 79}"),
        (lambda: check_callable("judge", 5), "judge: expected a function, found 5"),
        (lambda: check_choice("layout", ["a"], {"a", "b"}), "unknown layout ['a']; choose from: a, b"),
        (lambda: check_choice("layout", {}, {"a": 1}), "unknown layout {}; choose from: a"),
        (lambda: check_choice("layout", None, ("a", "b")), "unknown layout None; choose from: a, b"),
        (lambda: check_choice("layout", "c", ("a", "b")), "unknown layout 'c'; choose from: a, b"),
        (lambda: Choices("digit", {"pi": "math:pi"})["e"], "unknown digit 'e'; choose from: pi"),
        (lambda: Choices("digit", {"pi": "math:pi"})[5], "unknown digit 5; choose from: pi"),  # type: ignore[index]
    ],
)
def test_messages(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$") as raised:
        call()
    kind = (
        UnknownName if message.startswith("unknown") else MissingColumns if " needs the col" in message else InputError
    )
    assert type(raised.value) is kind


def test_right_arguments_pass() -> None:
    for names in (["id"], ("id",), {"id": 1}, EXPECTED, []):
        check_names("reads", names)
    check_type("n", True, "a flag", bool)
    check_type("n", 1, "a number", int, float)
    check_callable("f", len)
    assert as_path("folder", "~/x") == Path.home() / "x" == as_path("folder", Path("~/x"))
    assert check_choice("layout", "b", ("a", "b")) == "b"


def test_the_path_of_a_field() -> None:
    columns = ["gpt", "v1.2", "a.b"]
    paths = ["gpt.text", "gpt", "v1.2", "v1.2.text", "a.b", "other.text", "a.b.c.d"]
    assert [split_path(path, columns) for path in paths] == [
        ("gpt", "text"),
        ("gpt", ""),
        ("v1.2", ""),
        ("v1.2", "text"),
        ("a.b", ""),
        ("other.text", ""),
        ("a.b.c.d", ""),
    ]


def test_a_registry_has_the_objects_of_the_package_and_of_the_user() -> None:
    digits: Choices[Any] = Choices("digit", {"pi": "math:pi", "tau": "math:tau"})
    unhashable: Any = ["pi"]
    assert (list(digits), len(digits), "pi" in digits, "e" in digits, unhashable in digits) == (
        ["pi", "tau"],
        2,
        True,
        False,
        False,
    )
    digits.added["e"] = 2.7
    assert (list(digits), len(digits), digits["e"], "e" in digits) == (["pi", "tau", "e"], 3, 2.7, True)
    assert (digits["tau"], digits.get("x")) == (pytest.approx(6.2831853), None)
