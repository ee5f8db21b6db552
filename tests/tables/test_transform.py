"""Stages: when they are computed again, what they write, and that no row is lost."""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, Features, List, Value

from toolrlef_data.columns import GRADED, LATER_FIELDS, RESPONSE, STAGE1, STAGE2, STAGE2_LATER
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import Drop, InputError, LedgerError, MissingColumns
from toolrlef_data.tables import fingerprint
from toolrlef_data.tables.batches.mapping import stage_key
from toolrlef_data.tables.files import SCRATCH
from toolrlef_data.tables.fingerprint import canonical, code_digest, digest
from toolrlef_data.tables.lineage import ledger, lineage
from toolrlef_data.tables.reshape import explode, join, stack
from toolrlef_data.tables.stage_cache import stages_dir
from toolrlef_data.tables.transform import Prepared, apply, keep
from toolrlef_data.trice.student import answer

STRING = Value("string")


class Calls:
    """Ids of the rows of all calls; not a global list, which would be part of the key of the functions that use it."""

    ids: ClassVar[list[str]] = []


def shout(row: dict[str, Any], settings: str) -> dict[str, Any]:
    Calls.ids.append(row["id"])
    return {"loud": row["text"].upper() + settings}


def shout_batch(batch: dict[str, list[Any]], settings: str) -> dict[str, list[Any]]:
    return {"loud": [text.upper() + settings for text in batch["text"]]}


def drop_odd(row: dict[str, Any], settings: None) -> Drop | None:
    return Drop("odd", f"id {row['id']}") if int(row["id"]) % 2 else None


def keep_all(row: dict[str, Any], settings: None) -> Drop | None:
    return None


def copy_path(row: dict[str, Any], settings: str) -> dict[str, Any]:
    return {"copy": row[settings]}


def test_a_column_with_a_dot_in_its_name_comes_before_a_field() -> None:
    """Both can stand in one table; the path of a column that the table lacks is that of a field."""
    rows = Dataset.from_list([{"id": "a", "gpt": {"text": "field", "tool": "none"}, "gpt.text": "column"}])
    for path, expected in (("gpt.text", "column"), ("gpt.tool", "none")):
        assert apply(rows, copy_path, path, reads=[path], adds={"copy": STRING})["copy"][:] == [expected]
    changed = apply(rows, lambda row, settings: {"gpt.text": "new"}, reads=["id"], adds={"gpt.text": STRING})
    assert (changed["gpt.text"][:], changed["gpt"][0]["text"]) == (["new"], "field")


def rows(count: int = 10) -> Dataset:
    return Dataset.from_list([{"id": str(i), "text": f"row {i}"} for i in range(count)])


def apply_shout(data: Any, settings: str = "!", **options: Any) -> Any:
    return apply(data, shout, settings, reads=["id", "text"], adds={"loud": STRING}, **options)


def test_a_stage_is_computed_once() -> None:
    Calls.ids.clear()
    first, second = apply_shout(rows()), apply_shout(rows())
    assert len(Calls.ids) == 10
    assert first[:] == second[:]
    assert first._fingerprint == second._fingerprint


def test_other_rows_or_settings_have_another_fingerprint() -> None:
    fingerprints = {
        apply_shout(rows())._fingerprint,
        apply_shout(rows(), "?")._fingerprint,
        apply_shout(rows(9))._fingerprint,
    }
    assert len(fingerprints) == 3


def test_the_same_function_on_other_columns_is_another_stage() -> None:
    data = Dataset.from_list([{"id": "1", "a": "x", "b": "y"}])
    names = [
        apply(data, join_names, None, reads=reads, adds={"names": STRING})["names"][0] for reads in (["a"], ["a", "b"])
    ]
    assert names == ["a", "a b"]


def join_names(row: dict[str, Any], settings: None) -> dict[str, Any]:
    return {"names": " ".join(row)}


def test_batch_functions_and_processes_return_the_same_rows() -> None:
    by_row = apply_shout(rows(2500))
    by_batch = apply(rows(2500), shout_batch, "!", reads=["text"], adds={"loud": STRING}, batched=True)
    parallel = apply_shout(rows(2500), "!!", num_proc=2)
    assert by_row["loud"][:] == by_batch["loud"][:]
    assert [text + "!" for text in by_row["loud"][:]] == parallel["loud"][:]
    assert apply_shout(rows(2500), "!!", num_proc=1)._fingerprint == parallel._fingerprint


def test_the_argument_step_is_deprecated() -> None:
    with pytest.warns(DeprecationWarning, match="'step' of apply is deprecated: use 'function'") as warned:
        by_old_name = apply(rows(), step=shout, settings="!", reads=["id", "text"], adds={"loud": STRING})  # type: ignore[call-arg]
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert by_old_name._fingerprint == apply_shout(rows())._fingerprint
    with pytest.warns(DeprecationWarning, match="'step' of explode is deprecated: use 'function'") as warned:
        explode(rows(), step=words, settings="!", reads=["id", "text"], features=WORDS, stage="words")  # type: ignore[call-arg]
    assert len(warned) == 1
    with pytest.raises(TypeError, match="step"):
        apply(rows(), function=shout, step=shout, reads=[], adds={})  # type: ignore[call-arg]


def test_every_split_of_a_dataset_dict_is_transformed() -> None:
    both = apply_shout(DatasetDict({"train": rows(3), "test": rows(2)}))
    assert {name: split["loud"][:] for name, split in both.items()} == {
        "train": ["ROW 0!", "ROW 1!", "ROW 2!"],
        "test": ["ROW 0!", "ROW 1!"],
    }


def test_a_field_of_a_struct_column_is_replaced() -> None:
    features = Features({"id": STRING, "a.b": {"text": STRING, "tool": STRING, "many": List(STRING)}})
    data = Dataset.from_list([{"id": "1", "a.b": {"text": "x", "tool": None, "many": ["m"]}}], features=features)

    result = apply(data, name_tool, None, reads=["a.b.text"], adds={"a.b.tool": STRING})
    assert result[0]["a.b"] == {"text": "x", "tool": "x tool", "many": ["m"]}
    assert result.features == features


def name_tool(row: dict[str, Any], settings: None) -> dict[str, Any]:
    return {"a.b.tool": row["a.b.text"] + " tool"}


@pytest.mark.parametrize(
    ("feature", "value", "message"),
    [
        (Value("int64"), 1.5, "new: expected an integer, found 1.5"),  # Arrow makes 1 of it
        (List(STRING), "no", "new: expected a list, found 'no'"),  # Arrow makes the list of its letters of it
        (List({"n": Value("int32")}), [{"n": 1}, {"n": Decimal("0.5")}], r"new.n: expected an integer, found Decimal"),
    ],
)
def test_no_value_is_changed_to_fit_the_type(feature: Any, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        apply(rows(1), lambda row, settings: {"new": settings}, value, reads=["id"], adds={"new": feature})
    features = {"id": STRING, "new": feature}
    with pytest.raises(InputError, match=message):
        explode(rows(1), lambda row, new: [row | {"new": new}], value, reads=["id"], features=features, stage="new")


@pytest.mark.parametrize(
    ("values", "adds", "message"),
    [
        ({}, {"new": STRING}, r"expected a dict with new, found KeyError\('new'\)"),
        (None, {"new": STRING}, "expected a dict with new, found TypeError"),
        ({"words.c": "x"}, {"words.c": STRING}, "words has no field 'c'; its fields: a, b"),
        ({"text.c": "x"}, {"text.c": STRING}, r"text has no field 'c'; its fields: \(none\)"),
        ({"id": "same"}, {"id": STRING}, "expected unique ids, found 'same' twice"),
    ],
)
def test_unusable_results_of_a_function_are_refused(values: Any, adds: dict[str, Any], message: str) -> None:
    data = Dataset.from_dict({"id": ["1", "2"], "text": ["a", "b"], "words": [{"a": "x", "b": "y"}] * 2})
    for _ in range(2):  # nothing is cached
        with pytest.raises(InputError, match=message):
            apply(data, lambda row, settings: settings, values, reads=["id"], adds=adds)


@pytest.mark.parametrize("verdicts", [[], [None], [None] * 3, [None, False], ["odd", None]])
def test_a_judge_returns_a_verdict_for_each_row(verdicts: list[Any]) -> None:
    with pytest.raises(InputError, match="judge: expected"):
        keep(rows(2), lambda columns, settings: settings, verdicts, reads=["id"], stage="judged", batched=True)


def test_the_ledger_lists_every_dropped_row() -> None:
    retained = keep(rows(), drop_odd, reads=["id"], stage="parity")
    record = lineage(retained)[-1]
    assert retained["id"][:] == ["0", "2", "4", "6", "8"]
    assert (record["rows_in"], record["rows_out"], record["dropped"]) == (10, 5, {"odd": 5})
    dropped = Dataset.from_file(record["dropped_files"][0])
    assert [(r["id"], r["stage"], r["reason"], r["detail"]) for r in dropped][:2] == [
        ("1", "parity", "odd", "id 1"),
        ("3", "parity", "odd", "id 3"),
    ]
    assert keep(rows(), drop_odd, reads=["id"], stage="parity")[:] == retained[:]
    named = keep(rows(), drop_odd, reads=["id"], stage="another name")
    assert set(ledger([named])["stage"]) == {"another name"}, "the name is in the key"


def test_a_stage_without_dropped_rows_is_cached() -> None:
    retained = keep(rows(), keep_all, reads=["id"], stage="all")
    assert retained[:] == rows()[:]
    assert keep(rows(), keep_all, reads=["id"], stage="all")._fingerprint == retained._fingerprint
    joined = join([rows(), apply_shout(rows()).select_columns(["loud"])], "side")
    assert lineage(joined)[-1]["rows_in"] == lineage(joined)[-1]["rows_out"] == len(rows())
    assert (
        keep(joined, keep_all, reads=["id"], stage="all")[:]
        == keep(joined, keep_all, reads=["id"], stage="all")[:]
        == joined[:]
    )


# explode

WORDS = {"id": STRING, "task": STRING, "word": STRING}


def words(row: dict[str, Any], settings: str) -> Iterator[dict[str, Any] | tuple[str, Drop]]:
    Calls.ids.append(row["id"])
    for n, word in enumerate(row["text"].split()):
        name = f"{row['id']}#{n}"
        yield {"id": name, "task": "new", "word": word + settings} if word != "row" else (name, Drop("a_row", word))


def shouted_words(row: dict[str, Any], settings: str) -> list[dict[str, Any]]:
    return [{"id": f"{row['id']}#{n}", "word": word.upper()} for n, word in enumerate(row["text"].split())]


def repeated_ids(row: dict[str, Any], settings: str) -> list[dict[str, Any]]:
    return [{"id": settings or None, "word": row["text"]}]


def no_result_for_row_5(row: dict[str, Any], settings: str) -> list[dict[str, Any]]:
    return [] if row["id"] == "5" else [{"id": row["id"], "word": settings}]


def explode_words(data: Any, settings: str = "!", function: Any = words, **options: Any) -> Any:
    return explode(
        data, function, settings, **{"reads": ["id", "text"], "features": WORDS, "stage": "words", **options}
    )


def test_explode_returns_new_rows_and_records_drops_in_the_ledger() -> None:
    result = explode_words(rows(3).add_column("task", ["a", "b", None]).add_column("dataset", ["c"] * 3))
    assert result.features == Features(WORDS), "only the new columns"
    assert result[:] == {"id": ["0#1", "1#1", "2#1"], "task": ["new"] * 3, "word": ["0!", "1!", "2!"]}
    dropped = ledger([result])
    assert [(r["id"], r["task"], r["dataset"]) for r in dropped] == [
        ("0#0", "a", None),
        ("1#0", "b", None),
        ("2#0", None, None),
    ]
    assert {(r["stage"], r["reason"], r["detail"]) for r in dropped} == {("words", "a_row", "row")}
    *_, record = lineage(result)
    assert (record["step"], record["rows_in"], record["rows_out"], record["dropped"]) == ("words", 6, 3, {"a_row": 3})
    assert lineage(result)[0]["step"] == "rows"


def test_dropped_rows_of_explode_have_the_task_and_the_data_set_of_their_row() -> None:
    data = rows(2).add_column("task", ["a", "b"]).add_column("dataset", ["c", "d"])
    result = explode_words(data, features={**WORDS, "dataset": STRING})
    assert [(row["task"], row["dataset"]) for row in ledger([result])] == [("a", "c"), ("b", "d")]


def test_a_table_without_rows_is_no_reason_for_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    empty = rows(1).select([])
    keep(empty, drop_odd, reads=["id"], stage="parity")
    explode_words(empty)
    assert caplog.messages == []
    keep(rows(1), drop_all, reads=["id"], stage="none")
    assert caplog.messages == ["none: all 1 rows were dropped (none 1)"]


@pytest.mark.parametrize("enabled", [True, False])
def test_a_stage_leaves_the_garbage_collector_as_it_was(enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()
    try:
        for build in (
            apply_shout,
            explode_words,
            functools.partial(keep, judge=drop_odd, reads=["id"], stage="parity"),
        ):
            build(rows(3))
            assert gc.isenabled() is enabled
    finally:
        gc.enable()


def one_value(batch: dict[str, list[Any]], settings: None) -> dict[str, list[Any]]:
    return {"only": [len(batch["id"])]}


def test_a_batch_function_returns_a_value_for_each_row() -> None:
    """Without other columns, Arrow would accept fewer values."""
    with pytest.raises(LedgerError, match="one_value: expected 3 rows, found 1"):
        apply(rows(3), one_value, reads=["id"], adds={"only": Value("int64")}, removes=["id", "text"], batched=True)


def test_explode_runs_again_only_after_a_change() -> None:
    def calls(**options: Any) -> int:
        Calls.ids.clear()
        explode_words(**{"data": rows(), **options})
        return len(Calls.ids)

    assert calls() == 10
    assert calls() == 0
    assert calls(batch_rows=3) == 0, "batches do not change the result"
    assert calls(settings="?") == calls(stage="other") == calls(reads=["text", "id"]) == 10
    assert calls(features={**WORDS, "more": STRING}) == calls(data=rows(9)) + 1 == 10
    for path in stages_dir().glob("*.arrow"):
        path.unlink()
    assert calls(settings="?") == 10, "deleted results are computed again"


def test_user_code_is_part_of_the_key_of_explode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    results = []
    for body in ("x", "y", "x"):
        source = f"def helper():\n    return '{body}'\ndef explode_row(row, settings):\n    return [{{'id': row['id'], 'word': helper()}}]\n"
        (tmp_path / "user_module.py").write_text(source)
        importlib.invalidate_caches()
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        sys.modules.pop("user_module", None)
        results.append(explode_words(rows(1), function=importlib.import_module("user_module").explode_row))
    assert [result["word"][:] for result in results] == [["x"], ["y"], ["x"]]
    assert results[0]._fingerprint == results[2]._fingerprint != results[1]._fingerprint


def test_batch_size_and_processes_do_not_change_the_result_of_explode() -> None:
    expected = explode_words(rows(50))
    option_sets: list[dict[str, Any]] = [{"batch_rows": 1}, {"batch_rows": 7, "num_proc": 2}, {"num_proc": 2}]
    for n, options in enumerate(option_sets):
        result = explode_words(rows(50), stage=f"words {n}", **options)
        assert result[:] == expected[:]
        assert [r["id"] for r in ledger([result])] == [r["id"] for r in ledger([expected])]
    selected = rows(50).select([7, 3, 3, 9]).select([0, 1, 3])
    assert explode_words(selected)["id"][:] == ["7#1", "3#1", "9#1"], "the selected rows, in their order"


def test_empty_results_have_all_columns() -> None:
    no_input, all_dropped = (
        explode_words(rows().select([])),
        explode_words(Dataset.from_dict({"id": ["1"], "text": ["row row"]})),
    )
    for result in (no_input, all_dropped):
        assert (len(result), result.features) == (0, Features(WORDS))
    assert len(ledger([no_input])) == 0
    assert ledger([all_dropped])["id"][:] == ["1#0", "1#1"]
    none_dropped = explode_words(rows(2), function=shouted_words)
    assert none_dropped[:] == {"id": ["0#0", "0#1", "1#0", "1#1"], "task": [None] * 4, "word": ["ROW", "0", "ROW", "1"]}
    assert "dropped_files" not in lineage(none_dropped)[-1]
    splits = explode_words(DatasetDict({"train": rows(3), "test": rows(2).select([])}))
    assert {name: len(split) for name, split in splits.items()} == {"train": 3, "test": 0}


@pytest.mark.parametrize("processes", [None, 2])
def test_a_row_without_result_is_an_error(processes: int | None) -> None:
    with pytest.raises(LedgerError, match="expected new rows or a Drop, found neither for the row '5'"):
        explode_words(rows(), function=no_result_for_row_5, num_proc=processes)
    with pytest.raises(LedgerError):
        explode_words(rows(), function=no_result_for_row_5)


@pytest.mark.parametrize(("name", "message"), [("same", "found 'same' twice"), ("", "found none in row 0")])
def test_new_rows_need_unique_ids(name: str, message: str) -> None:
    for _ in range(2):  # the rejected result is not cached
        with pytest.raises(InputError, match=message):
            explode_words(rows(2), name, function=repeated_ids)


def without_ids(row: dict[str, Any], settings: str) -> list[dict[str, Any]]:
    return [{"word": row["text"]}]


def test_new_rows_may_only_have_known_columns() -> None:
    result = explode_words(rows(2), function=without_ids, features={"word": STRING})
    assert result[:] == {"word": ["row 0", "row 1"]}, "a table needs no ids"
    with pytest.raises(InputError, match="columns that are not in features: word"):
        explode_words(rows(2), function=without_ids, features={"words": STRING})


def test_explode_rejects_unusable_tables() -> None:
    with pytest.raises(MissingColumns, match="words needs the columns text; found: id"):
        explode_words(rows().remove_columns("text"))
    with pytest.raises(InputError, match="expected a"):
        explode_words([{"id": "1", "text": "a"}])


def test_explode_writes_rows_record_and_ledger() -> None:
    explode_words(rows().select([]))
    explode_words(rows())
    existing = set(stages_dir().iterdir())
    key = explode_words(rows(), "?")._fingerprint
    names = {path.name for path in set(stages_dir().iterdir()) - existing}
    assert sorted(path.split("-")[0] for path in names) == sorted([key, f"{key}.json", digest(key, "dropped")])


def copies(row: dict[str, Any], settings: str) -> Iterator[dict[str, Any] | tuple[str, Drop]]:
    yield row["id"], Drop("one")
    for n in range(8):
        yield {"id": f"{row['id']}#{n}", "word": row["text"]}


def test_memory_does_not_grow_with_the_rows() -> None:
    default_pool, peaks = pa.default_memory_pool(), []
    for count in (150, 450):
        data = keep(
            Dataset.from_list([{"id": str(n), "text": "x" * 20_000} for n in range(count)]),
            keep_all,
            reads=["id"],
            stage="write to a file",
        )
        pool = pa.proxy_memory_pool(pa.system_memory_pool())
        pa.set_memory_pool(pool)
        try:
            result = explode_words(data, function=copies, batch_rows=4)
        finally:
            pa.set_memory_pool(default_pool)
        assert len(result) == 8 * count
        peaks.append(pool.max_memory())
    assert 20_000 * 8 * 4 < peaks[1] < 1.5 * peaks[0], "all rows together have 72 MB"


def test_an_empty_table_gets_the_new_columns() -> None:
    result = apply_shout(rows().select([]))
    assert len(result) == 0
    assert result.column_names == ["id", "text", "loud"]


def test_the_lineage_begins_at_the_rows_and_is_empty_after_a_shuffle() -> None:
    result = keep(apply_shout(rows()), drop_odd, reads=["id"], stage="parity")
    assert [record["step"] for record in lineage(result)] == ["rows", "shout", "parity"]
    assert lineage(result.shuffle(seed=1)) == []


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (
            Dataset.from_dict({"id": ["1"], "txt": ["a"]}),
            MissingColumns,
            "shout needs the columns text; found: id, txt",
        ),
        (Dataset.from_dict({"id": ["1", "2", "1"], "text": ["a"] * 3}), InputError, "found '1' twice"),
        (Dataset.from_dict({"id": ["1", None], "text": ["a"] * 2}), InputError, "found none in row 1"),
    ],
)
def test_unusable_tables_raise_a_clear_error(data: Dataset, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        apply_shout(data)


def test_stacked_tables_need_unique_ids() -> None:
    with pytest.raises(InputError, match="expected unique ids, found '0' twice"):
        stack([rows(2), apply_shout(rows(2)).remove_columns("loud")], "both")


OLD_RESPONSE = {name: feature for name, feature in RESPONSE.items() if name not in LATER_FIELDS}


@pytest.mark.parametrize(
    ("features", "old"),
    [
        (GRADED, Features(GRADED | {"response": OLD_RESPONSE, "samples": List(OLD_RESPONSE)})),
        (Features(**STAGE1, gold=RESPONSE, own=RESPONSE), Features(**STAGE1, gold=OLD_RESPONSE, own=OLD_RESPONSE)),
        (STAGE2, Features({name: STAGE2[name] for name in STAGE2 if name not in STAGE2_LATER})),
    ],
)
@pytest.mark.parametrize("old_first", [True, False])
def test_stacked_tables_of_earlier_versions_have_null_in_later_columns(
    features: Features, old: Features, old_first: bool
) -> None:
    def table(features: Features, row_id: str) -> Dataset:
        structs = {
            name: {field: "{}" if field == "arguments" else None for field in feature}
            for name, feature in features.items()
            if isinstance(feature, dict)
        }
        return Dataset.from_list([dict.fromkeys(features) | structs | {"id": row_id}], features=features)

    parts = [table(old, "old"), table(features, "new")]
    both = stack(parts if old_first else parts[::-1], "both")
    assert both.features == features
    by_id = {row["id"]: row for row in both}
    assert by_id["new"] == parts[1][0], "rows of this version do not change"
    old_row = by_id["old"]
    for name, value in parts[0][0].items():
        expected = value | dict.fromkeys(LATER_FIELDS) if isinstance(value, dict) else value
        assert old_row[name] == expected, name
    assert all(old_row[name] is None for name in features if name not in old)
    assert lineage(both)[-1]["rows_in"] == 2
    with pytest.raises(InputError, match="expected tables with the same columns, found differences in mine"):
        stack([parts[0], parts[1].add_column("mine", ["x"])], "both")


# Keys


def test_settings_that_do_not_change_rows_are_not_in_the_key() -> None:
    spec = EngineSpec("local", "m")
    assert canonical(spec) == canonical(
        EngineSpec("local", "m", device="cuda", concurrency=1, timeout=3.0, batch_tokens=8)
    )
    assert canonical(spec) != canonical(EngineSpec("local", "m", max_tokens=3))


@dataclass(frozen=True)
class Setting:
    function: Any


def test_the_key_of_a_user_function_covers_its_code_and_globals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))

    def key_of(body: str) -> Any:
        (tmp_path / "users.py").write_text(textwrap.dedent(body))
        importlib.invalidate_caches()
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        sys.modules.pop("users", None)
        import linecache

        linecache.clearcache()
        return canonical(Setting(importlib.import_module("users").f))

    first = key_of("LIMIT = 3\ndef g(x): return x\ndef f(x): return g(x) + LIMIT\n")
    same = key_of(
        'LIMIT = 3\ndef g(x): return x\n\n# moved\ndef f(x):\n    "Says it."\n    return g(x) + LIMIT\nx = 1\n'
    )
    constant = key_of("LIMIT = 4\ndef g(x): return x\ndef f(x): return g(x) + LIMIT\n")
    helper = key_of("LIMIT = 3\ndef g(x): return -x\ndef f(x): return g(x) + LIMIT\n")
    assert first == same
    assert len({json.dumps(key) for key in (first, constant, helper)}) == 3


def test_a_setting_without_a_value_is_rejected() -> None:
    with pytest.raises(TypeError, match="cannot be part of a setting"):
        canonical(Setting(threading.Lock()))


def test_the_key_of_a_partial_covers_its_arguments() -> None:
    assert canonical(functools.partial(shout, settings="a")) != canonical(functools.partial(shout, settings="b"))


def test_the_key_covers_the_code_of_a_step_without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit of a module changes its digest (`test_fingerprint`); here another digest stands for the edit."""
    keys = set()
    for edit in ("", "edited"):
        digests = {module: f"{module} {edit}" for module in [answer.__module__]}
        monkeypatch.setattr(
            fingerprint, "module_digests", lambda names, known=digests: {n: known.get(n) for n in names}
        )
        keys.add(stage_key(rows(), answer, None, rows().features))
    assert len(keys) == 2


def test_functions_outside_the_package_have_no_code_digest() -> None:
    assert code_digest(keep_all) == code_digest(drop_odd)


@pytest.mark.parametrize("name", ["tmp", SCRATCH])
def test_scratch_files_are_removed_after_a_day(name: str) -> None:
    old, new = stages_dir() / f"{name}old", stages_dir() / f"{name}new"
    stages_dir().mkdir(parents=True)
    old.touch()
    new.touch()
    os.utime(old, (time.time() - 90000,) * 2)
    apply_shout(rows())
    assert not old.exists()
    assert new.exists()


def drop_all(row: dict[str, Any], settings: None) -> Drop | None:
    return Drop("none")


def test_joined_empty_tables_have_all_columns() -> None:
    empty = keep(rows(), drop_all, None, reads=["id"], stage="empty")
    joined = join([empty, apply_shout(empty, removes=["id", "text"])], "both")
    assert joined.column_names == ["id", "text", "loud"]
    assert [record["step"] for record in lineage(joined)] == ["rows", "empty", "shout", "both"]
    assert len(ledger([joined])) == 10


@pytest.mark.parametrize("num_proc", ["2", 0, -1, 1.5, True])
def test_a_number_of_processes_below_1_is_refused_before_anything_runs(num_proc: Any) -> None:
    rows = Dataset.from_dict({"id": ["a"]})

    def fail(*arguments: Any) -> Any:
        raise AssertionError("called")

    adds: dict[str, Any] = {"reads": ["id"], "adds": {"x": Value("string")}}
    stages: list[Callable[[], Any]] = [
        lambda: apply(rows, fail, **adds, prepare=fail, num_proc=num_proc),
        lambda: keep(rows, fail, reads=["id"], stage="even", num_proc=num_proc),
        lambda: explode(rows, fail, reads=["id"], features={"id": Value("string")}, stage="e", num_proc=num_proc),
    ]
    for stage in stages:
        with pytest.raises(InputError, match=f"num_proc must be an integer of at least 1 or None, found {num_proc!r}"):
            stage()


def test_the_order_of_joined_and_stacked_tables_is_in_their_fingerprint() -> None:
    """Otherwise the next stage would return the cached rows of the other order."""
    numbers = Dataset.from_list([{"id": str(i)} for i in range(3)])
    texts = Dataset.from_list([{"text": f"row {i}"} for i in range(3)])
    others = Dataset.from_list([{"id": f"x{i}", "text": f"row {i}"} for i in range(2)])
    for parts, combine in (([numbers, texts], join), ([rows(3), others], stack)):
        results = [combine(ordered, "both") for ordered in (parts, parts[::-1])]
        assert results[0]._fingerprint != results[1]._fingerprint
        loud = [apply_shout(result) for result in results]
        assert [table["id"][:] for table in loud] == [table["id"][:] for table in results]
        assert [table.column_names[:2] for table in loud] == [table.column_names for table in results]


def test_a_repeated_id_is_found_in_a_table_of_many_batches() -> None:
    names = [str(i) for i in range(30_001)]
    assert len(keep(Dataset.from_dict({"id": names}), keep_all, reads=["id"], stage="unique")) == 30_001
    for first, second in ((0, 30_000), (9_999, 10_000), (20_000, 29_999)):
        repeated = list(names)
        repeated[second] = names[first]
        with pytest.raises(InputError, match=f"found '{first}' twice"):
            keep(Dataset.from_dict({"id": repeated}), keep_all, reads=["id"], stage="unique")
    without = Dataset.from_dict({"id": [*names[:20_005], None, *names[20_006:]]})
    with pytest.raises(InputError, match="found none in row 20005"):
        keep(without, keep_all, reads=["id"], stage="unique")


def test_a_final_result_keeps_the_split_of_its_table() -> None:
    data = Dataset.from_dict(rows()[:], split="train")
    for salt in ("a", ""):  # the second time from the cache
        result = apply_shout(data, prepare=functools.partial(final_with, salt))
        assert result.split == "train"


def final_with(salt: str, split: Dataset) -> Prepared:
    return Prepared(salt, is_final=True)


def test_a_salted_result_is_computed_again_unless_it_is_final() -> None:
    """A salt stands for failures that may pass, such as those of a server."""
    prepared: list[str] = []

    def prepare(salt: str, is_final: bool, split: Dataset) -> Prepared:
        prepared.append(salt)
        return Prepared(salt, is_final=is_final)

    def run_with(salt: str, is_final: bool = False, **options: Any) -> Any:
        return apply_shout(rows(), prepare=functools.partial(prepare, salt, is_final), **options)

    first = run_with("")
    assert run_with("")._fingerprint == first._fingerprint
    assert prepared == [""]
    failed = run_with("down", refresh=True)
    assert failed._fingerprint != first._fingerprint
    assert failed[:] == first[:]
    assert run_with("down")._fingerprint == failed._fingerprint
    assert prepared == ["", "down", "down"], "not final: the earlier result is not used either"
    final = run_with("other", is_final=True)
    assert run_with("")._fingerprint == final._fingerprint not in (first._fingerprint, failed._fingerprint)
    assert prepared == ["", "down", "down", "other"]
