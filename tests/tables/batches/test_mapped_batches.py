"""The map over batches: where it runs, its processes and progress bars, and what a stage says of its rows."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, Features, Value

from toolrlef_data.records import Drop, InputError, LedgerError, clean_text
from toolrlef_data.tables.batches.functions import (
    explode_batch,
    keep_batch,
    read_drops,
    read_values,
)
from toolrlef_data.tables.batches.mapping import (
    BACKEND,
    BATCH_ROWS,
    THIS_PROCESS,
    Backend,
    check_num_proc,
    function_name,
    key_after,
    stage_key,
    step_digest,
)
from toolrlef_data.tables.files import scratch_folder
from toolrlef_data.tables.fingerprint import canonical, code_digest, digest
from toolrlef_data.tables.lineage import ledger, lineage
from toolrlef_data.tables.reshape import explode
from toolrlef_data.tables.stage_cache import arrow_files, as_arrow, stages_dir
from toolrlef_data.tables.transform import apply, keep

STRING = Value("string")


def shout(row: dict[str, Any], settings: str) -> dict[str, Any]:
    return {"loud": row["text"].upper() + settings}


def rows(count: int) -> Dataset:
    return Dataset.from_dict({"id": [str(n) for n in range(count)], "text": [f"row {n}" for n in range(count)]})


def apply_shout(data: Dataset, settings: str = "!", **options: Any) -> Dataset:
    return apply(data, shout, settings, reads=["text"], adds={"loud": STRING}, **options)


@pytest.fixture
def use_backend() -> Iterator[Callable[..., None]]:
    token = BACKEND.set(THIS_PROCESS)
    yield lambda **options: BACKEND.set(Backend(**options)) and None
    BACKEND.reset(token)


def test_large_tables_are_mapped_by_the_backend(use_backend: Any) -> None:
    calls: list[tuple[int, list[str], str, int]] = []

    def map_files(data: Dataset, function: Any, features: Features, key: str, batch_rows: int) -> list[Path]:
        """Map each row on its own, and return the files of the rows in their order."""
        calls.append((len(data), list(features), key, batch_rows))
        folder = stages_dir() / "elsewhere"
        folder.mkdir(exist_ok=True)
        files = []
        for n, table in enumerate(as_arrow(data).iter(1)):
            files.append(folder / f"{len(calls)}-{n}.arrow")
            result = function(table)
            with open(files[-1], "wb") as file, pa.ipc.new_stream(file, result.schema) as writer:
                writer.write_table(result)
        return files

    use_backend(map_files=map_files, min_rows=3)
    for count in (2, 3, 5):
        table = apply_shout(rows(count))
        assert table["loud"][:] == [f"ROW {n}!" for n in range(count)]
        assert len(arrow_files(table)) == (1 if count < 3 else count)
    assert [call[0] for call in calls] == [3, 5]
    assert calls[-1][1:] == (["id", "text", "loud"], table._fingerprint, BATCH_ROWS)
    words = explode(rows(4), split_words, reads=["id", "text"], features={"id": STRING}, stage="words", batch_rows=7)
    assert (words["id"][:], calls[2][0], calls[2][3]) == (["0", "1", "2", "3"], 4, 7)
    split = Dataset.from_dict(rows(6)[:], split="dev")
    assert (apply_shout(split.select([])).split, apply_shout(split).split) == ("dev", "dev")
    assert len(calls) == 5, "the rows of `explode` are mapped twice, and no rows are not mapped"


def split_words(row: dict[str, Any], settings: None) -> list[Any]:
    return [{"id": row["id"]}]


def test_the_number_of_processes_is_the_stages_or_that_of_the_backend(use_backend: Any) -> None:
    def files(count: int, num_proc: int | None) -> int:
        return len(arrow_files(apply_shout(rows(count), f"{count} {num_proc}", num_proc=num_proc)))

    assert files(4, 2) == 2
    assert files(2, 2) == 2
    assert files(1, 2) == files(4, None) == files(4, 1) == 1
    use_backend(num_proc=2)
    assert files(5, None) == 2
    assert files(5, 1) == 1


@pytest.fixture
def progress_bars(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Show the bars of `datasets`, as without the variable of the tests."""
    monkeypatch.setattr(sys.modules["datasets.utils.tqdm"], "HF_DATASETS_DISABLE_PROGRESS_BARS", None)
    was_disabled = datasets.are_progress_bars_disabled()
    datasets.enable_progress_bars()
    yield
    if was_disabled:
        datasets.disable_progress_bars()


def test_only_a_long_stage_has_a_progress_bar(progress_bars: None, capfd: pytest.CaptureFixture[str]) -> None:
    for count, is_shown in ((19_999, False), (20_000, True)):
        text = rows(count)
        capfd.readouterr()
        apply_shout(text, name="loud rows")
        assert ("loud rows" in capfd.readouterr().err) is is_shown
        assert not datasets.are_progress_bars_disabled(), "as before"
    datasets.disable_progress_bars()
    apply_shout(rows(3))
    assert datasets.are_progress_bars_disabled(), "as before"
    datasets.enable_progress_bars()


@pytest.mark.parametrize("num_proc", [None, 1, 8, np.int64(2)])
def test_numbers_of_processes(num_proc: Any) -> None:
    check_num_proc(num_proc)
    for wrong in (0, True, 2.0, "2", [2]):
        with pytest.raises(InputError, match=r"^num_proc must be an integer of at least 1 or None, found "):
            check_num_proc(wrong)


def _named(row: Any, settings: Any) -> None:
    """A row function."""


class Called:
    def __call__(self, row: Any, settings: Any) -> None:
        """A row function."""


def test_the_name_of_a_function() -> None:
    functions = [shout, _named, functools.partial(functools.partial(_named), 1), Called(), len, lambda: 0]
    assert list(map(function_name, functions)) == ["shout", "named", "named", "Called", "len", "<lambda>"]
    assert lineage(apply_shout(rows(1)))[-1]["step"] == "shout"
    assert lineage(apply_shout(rows(1), "?", name="loud"))[-1]["step"] == "loud"


def test_all_that_determines_a_result_is_in_its_key() -> None:
    """Keys are the names of files in the caches of users."""
    data, features = rows(1), Features(id=STRING)
    step = digest(canonical(shout), ["a"], features.to_dict(), code_digest(shout))
    assert step_digest(shout, ["a"], features) == step
    with_code = [canonical([clean_text]), features.to_dict(), code_digest(clean_text)]
    assert step_digest(shout, [clean_text], features) == digest(canonical(shout), *with_code)
    assert (
        stage_key(data, shout, ["a"], features) == key_after(data._fingerprint, step) == digest(data._fingerprint, step)
    )
    others = [step_digest(shout, ["b"], features), step_digest(shout, ["a"], Features(id=Value("int64")))]
    others += [step_digest(_named, ["a"], features), step_digest(shout, [Drop("a")], features)]
    assert len({step, *others}) == 5


def judge(row: dict[str, Any], settings: None) -> Drop | None:
    return Drop({"0": "b", "1": "a", "2": "a"}[row["id"]], f"row {row['id']}")


def test_the_reasons_of_a_stage_that_drops_all_rows(caplog: pytest.LogCaptureFixture) -> None:
    none = keep(rows(3), judge, reads=["id"], stage="filter")
    assert caplog.messages == ["filter: all 3 rows were dropped (a 2, b 1)"]
    assert [(row["reason"], row["detail"]) for row in ledger([none])] == [
        ("b", "row 0"),
        ("a", "row 1"),
        ("a", "row 2"),
    ]
    caplog.clear()
    keep(rows(3), judge_some, reads=["id"], stage="some")
    assert caplog.messages == []
    explode(rows(2), drop_words, reads=["id"], features={"id": STRING}, stage="words")
    assert caplog.messages == ["words: all 2 rows were dropped (none 2)"]


def judge_some(row: dict[str, Any], settings: None) -> Drop | None:
    return None if row["id"] == "0" else Drop("x")


def drop_words(row: dict[str, Any], settings: None) -> list[Any]:
    return [(row["id"], Drop("none"))]


def test_renamed_functions_keep_their_name_and_docstring() -> None:
    assert (apply.__name__, explode.__name__) == ("apply", "explode")
    assert "no row is dropped" in str(apply.__doc__)


# Mapped functions


def exploded(results: list[Any], **columns: Any) -> list[dict[str, Any]]:
    table = pa.table(
        {"id": ["a"], "task": ["t"], "dataset": ["d"], **{name: [value] for name, value in columns.items()}}
    )
    extended = Features(id=STRING, task=STRING, word=STRING, drop_reason=STRING, drop_detail=STRING)
    made = explode_batch(table, function=lambda row, _: results, settings=None, reads=["id"], features=extended)
    return made.to_pylist()


def test_the_rows_of_an_exploded_batch() -> None:
    nulls = dict.fromkeys(("id", "task", "word", "drop_reason", "drop_detail"))
    results = [{"id": "a#1", "word": "fig"}, ("a#2", Drop("short", "x")), {"task": "own", "id": "a#3"}]
    assert exploded(results) == [
        {**nulls, "id": "a#1", "word": "fig"},
        {**nulls, "id": "a#2", "task": "t", "drop_reason": "short", "drop_detail": "x"},
        {**nulls, "id": "a#3", "task": "own"},
    ]


@pytest.mark.parametrize(
    ("results", "error", "message"),
    [
        ([{"id": "a", "z": 1, "b": 2}], InputError, "^a new row has columns that are not in features: b, z$"),
        ([{"drop_reason": "a"}], InputError, "not in features: drop_reason$"),
        ([], LedgerError, "^expected new rows or a Drop, found neither for the row 'a'$"),
    ],
)
def test_wrong_rows_of_an_exploded_batch(results: list[Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        exploded(results)


def test_the_kept_rows_of_a_batch() -> None:
    table = pa.table({"id": ["a", "b", "c"], "drop_reason": [None, "x", None], "drop_detail": [None, "y", "z"]})
    assert read_drops(table) == [None, Drop("x", "y"), None]
    assert keep_batch(table, judge=read_drops, columns=["id"]).to_pydict() == {"id": ["a", "c"]}
    assert keep_batch(table, judge=read_drops).column_names == table.column_names
    assert keep_batch(table, judge=lambda table: [Drop("x")] * 3).num_rows == 0


def test_the_values_of_a_path() -> None:
    table = pa.table({"gpt": [{"text": "a", "n": 1}, None], "v1.2": [3, 4]})
    assert read_values(table, "gpt.n") == [1, None]
    assert read_values(table, "gpt") == [{"text": "a", "n": 1}, None]
    assert read_values(table, "v1.2") == [3, 4]


def test_small_new_rows_are_stored_in_large_batches() -> None:
    """Each batch of a file takes memory when the file is opened."""
    table = explode(rows(10), split_words, reads=["id", "text"], features={"id": STRING}, stage="words", batch_rows=2)
    assert [batch.num_rows for batch in table.data.to_batches()] == [10]
    table = apply_shout(rows(2001))
    assert [batch.num_rows for batch in table.data.to_batches()] == [2000, 1]
    long = Dataset.from_dict({"id": list("abcd"), "text": ["x" * 3_000_000] * 4})
    table = explode(
        long, copy_text, reads=["id", "text"], features={"id": STRING, "text": STRING}, stage="c", batch_rows=1
    )
    assert [batch.num_rows for batch in table.data.to_batches()] == [1, 1, 1, 1], "long ones in their own"


def copy_text(row: dict[str, Any], settings: None) -> list[Any]:
    return [dict(row)]


def test_a_failed_stage_leaves_no_file() -> None:
    with pytest.raises(ZeroDivisionError), scratch_folder(stages_dir()):
        apply(rows(2), divide, reads=["id"], adds={"n": Value("int64")})
    names = [path.name for path in stages_dir().iterdir() if not path.name.startswith(".in-use")]
    assert sorted(name.rpartition(".")[2] for name in names) == ["arrow", "json"], "the table in memory, and its record"


def divide(row: dict[str, Any], settings: None) -> dict[str, Any]:
    return {"n": 1 // int(row["id"])}
