"""What a source keeps in memory grows by less than 60 bytes a row; files are read in parts, whatever their format."""

from __future__ import annotations

import csv
import gc
import json
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from toolrlef_data.loading_scripts import text_files
from toolrlef_data.loading_scripts.base import Question
from toolrlef_data.loading_scripts.gsm8k import Gsm8k
from toolrlef_data.loading_scripts.own.files import READERS
from toolrlef_data.loading_scripts.text_files import read_json
from toolrlef_data.records import InputError
from toolrlef_data.tables.identity import HashTable, distinct

SMALL, LARGE, BYTES_PER_ROW = 400, 2_000, 60


def rows(count: int, split: str) -> Iterator[dict[str, str]]:
    for n in range(count):
        question = f"Ann of the {split} has {n} figs and picks {n % 9} more. How many figs has she? " + "Not few. " * 20
        yield {"question": question, "answer": f"{n}+{n % 9}=<<{n}+{n % 9}={n + n % 9}>>\n#### {n + n % 9}"}


def write_jsonl(path: Path, items: Iterable[Any]) -> None:
    with path.open("w") as file:
        file.writelines(f"{json.dumps(item)}\n" for item in items)


def write_array(path: Path, items: Iterable[Any]) -> None:
    with path.open("w") as file:
        file.writelines(f"{'[' if n == 0 else ','}\n{json.dumps(item)}" for n, item in enumerate(items))
        file.write("]")


def write_csv(path: Path, items: Iterable[Any]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["question", "answer"])
        writer.writeheader()
        writer.writerows(items)


def peak(consume: Callable[[], int]) -> int:
    """Return the largest number of bytes that Python held while a function ran."""
    gc.collect()
    tracemalloc.start()
    try:
        assert consume() > 0
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def growth(read: Callable[[int], int]) -> float:
    read(10)  # imports and caches
    return (peak(lambda: read(LARGE)) - peak(lambda: read(SMALL))) / (LARGE - SMALL)


def test_a_source_of_two_splits_grows_by_less_than_60_bytes_a_row(tmp_path: Path) -> None:
    sources = {}
    for count in (10, SMALL, LARGE):
        (tmp_path / str(count)).mkdir()
        for split in ("train", "test"):
            write_jsonl(tmp_path / str(count) / f"{split}.jsonl", rows(count // 2, split))
        sources[count] = Gsm8k.__new__(Gsm8k)
        sources[count].inspect(tmp_path / str(count), {})

    def read(count: int) -> int:
        source = sources[count]
        source.question_splits, source.split_names = HashTable(), source.splits()
        usable = sum(isinstance(row, Question) for split in source.splits() for row in source._checked_rows(split))
        assert usable == count
        return usable

    assert growth(read) < BYTES_PER_ROW


@pytest.mark.parametrize(("suffix", "write"), [(".jsonl", write_jsonl), (".json", write_array), (".csv", write_csv)])
def test_a_file_is_not_in_memory_as_a_whole(
    suffix: str, write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "CHARS", 10_000)
    for count in (10, SMALL, LARGE):
        write(tmp_path / f"{count}{suffix}", rows(count, "train"))
    assert growth(lambda count: sum(1 for _ in READERS[suffix](tmp_path / f"{count}{suffix}"))) < 5


def test_distinct_values_are_kept_as_hashes() -> None:
    assert sum(1 for _ in distinct(("calculator", f"{n // 2}*{n // 2}") for n in range(20_000))) == 10_000
    assert growth(lambda count: sum(1 for _ in distinct(f"{n}*{n}" for n in range(count)))) < BYTES_PER_ROW


@pytest.mark.parametrize("chars", [1, 2, 3, 7, 100])
@pytest.mark.parametrize(
    "text",
    [
        '[{"a": 1}, {"b": [2, {"c": "]},{"}]} ,\n {"d": "\\u00e9\\"\u00e9"}]',
        '  [ {"a": 12.5e3} ]\n\n',
        "[]",
        "[ ]",
        '[{"a": true},{"b": null}]',
        '[{"a": -0.5}, 12, {"b": 1}]',
        '[{"a": 1}, {"b": 2}',
        '[{"a": 1} {"b": 2}]',
        '[{"a": 1},]',
        '[{"a": 1}, {"b": 2}] x',
        '[{"a": 1}]\u00a0',
        '[{"a": tru}]',
        "[" * 100_000,
    ],
)
def test_an_array_is_read_in_parts_as_it_is_read_at_once(
    text: str, chars: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "CHARS", chars)
    path = tmp_path / "rows.json"
    path.write_text(text, encoding="utf-8")
    expected: list[Any] = []
    error = ""
    try:
        for n, row in enumerate(json.loads(text), start=1):
            if not isinstance(row, dict):
                error = f"{path}, row {n}: expected a JSON object, found int"
                break
            expected.append((f"{path}, row {n}", row))
    except (ValueError, RecursionError) as problem:
        error = f"{path}: not JSON: {problem}; it begins {text[:40]!r}"
    found: list[Any] = []
    message = ""
    try:
        found.extend(read_json(path))
    except InputError as problem:
        message = str(problem)
    assert message == error
    assert found == expected or (error and found[: len(expected)] == expected)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b'{"a": 1}\n{"a": "\xff"}\n', r"byte 16, in line 2"),
        (b'\xef\xbb\xbf{"a": 1}\n\n{"a": "\xe9', r"byte 20, in line 3"),
        (b'[{"a": 1},\n{"a": "\xff"}]', r"byte 18, in line 2"),
    ],
)
def test_a_byte_that_is_not_utf_8_is_named(content: bytes, place: str, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_bytes(content)
    with pytest.raises(InputError, match=f"rows.json is not UTF-8 text: .* at {place}; save the file as UTF-8"):
        list(read_json(tmp_path / "rows.json"))
