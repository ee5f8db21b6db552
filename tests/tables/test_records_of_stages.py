"""The records of stages: every entry, the folder that holds them, and what a lineage, a ledger and a usage say."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, Features, NamedSplit, Value

from toolrlef_data.columns import DROPPED
from toolrlef_data.records import Drop, InputError, ToolrlefError
from toolrlef_data.tables.checksums import stamp
from toolrlef_data.tables.files import read_json
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.lineage import (
    has_records,
    ledger,
    lineage,
    record_source,
    usage,
    without_tasks,
    write_dropped,
)
from toolrlef_data.tables.reshape import explode, join, stack
from toolrlef_data.tables.row_files import materialize, table_from_rows
from toolrlef_data.tables.stage_cache import (
    arrow_files,
    as_arrow,
    build_record,
    count_values,
    discard_record,
    interrupts_held,
    load_stage,
    open_recorded,
    read_record,
    record_path,
    stages_dir,
    stages_in,
    store_files,
    store_unfinished,
    with_fingerprint,
    write_record,
)
from toolrlef_data.tables.transform import Prepared, apply, keep

STRING = Value("string")


def rows(count: int = 4) -> Dataset:
    return Dataset.from_dict({"id": [str(n) for n in range(count)], "text": [f"row {n}" for n in range(count)]})


def drop_odd(row: Mapping[str, Any], settings: Any) -> Drop | None:
    return Drop("odd", f"row {row['id']}") if int(row["id"]) % 2 else None


def drop_more(row: Mapping[str, Any], settings: Any) -> Drop | None:
    return {"0": Drop("zero"), "1": None}.get(row["id"], Drop("large"))


def keep_all(row: Mapping[str, Any], settings: Any) -> Drop | None:
    return None


def shout(row: Mapping[str, Any], settings: Any) -> dict[str, Any]:
    return {"loud": f"{row['text'].upper()}{settings}"}


def apply_shout(data: Any, settings: Any = "!", **options: Any) -> Any:
    return apply(data, shout, settings, reads=["text"], adds={"loud": STRING}, **options)


def names(files: list[str]) -> list[str]:
    return [Path(file).name for file in files]


def test_every_entry_of_a_record() -> None:
    table = keep(rows(), drop_more, {"folder": "/home/me/rows"}, reads=["id"], stage="small")
    start, record = lineage(table)
    dropped = Dataset.from_file(record["dropped_files"][0])
    assert record == {
        "fingerprint": table._fingerprint,
        "step": "small",
        "inputs": [start["fingerprint"]],
        "settings": {"folder": "/home/me/rows"},
        "published": {"folder": "rows"},
        "rows_in": 4,
        "rows_out": 1,
        "dropped": {"large": 2, "zero": 1},
        "files": arrow_files(table),
        "dropped_files": arrow_files(dropped),
        "stamps": {file: list(stamp(file)) for file in arrow_files(table) + arrow_files(dropped)},
    }
    stored = read_json(record_path(table._fingerprint))
    assert stored["files"] + stored["dropped_files"] == names(record["files"] + record["dropped_files"])
    assert sorted(stored["stamps"]) == sorted(names(list(record["stamps"]))), "so that the folder can be moved"
    for file in arrow_files(table):
        assert re.fullmatch(rf"{table._fingerprint}-{stamp(file).checksum[:16]}\.arrow", Path(file).name)
    assert re.fullmatch(
        rf"{digest(table._fingerprint, 'dropped')}-[0-9a-f]{{16}}\.arrow", names(arrow_files(dropped))[0]
    )
    assert build_record("x", [], None, rows(3))["rows_in"] == 3, "a source has its own rows"
    assert "dropped_files" not in build_record("x", [table], None, table, dropped.select([]))
    assert build_record("x", [table], None, table, dropped.select([]))["dropped"] == {}


def test_the_files_of_a_user_are_recorded_with_their_whole_path(tmp_path: Path) -> None:
    data = pa.table({"id": ["a"]})
    file = tmp_path / "own.arrow"
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, data.schema) as writer:
        writer.write_table(data)
    table = keep(Dataset.from_file(str(file)), keep_all, reads=["id"], stage="all")
    assert read_json(record_path(table._fingerprint))["files"] == [str(file)]
    assert lineage(table)[-1]["files"] == [str(file)]


def test_the_ledger_of_a_stage_has_the_task_and_the_data_set_of_each_row() -> None:
    data = rows().add_column("dataset", list("wxyz")).add_column("task", ["a", "b", None, "d"])
    expected = [("1", "b", "x", "odd", "row 1"), ("3", "d", "z", "odd", "row 3")]
    found = ledger([keep(data, drop_odd, reads=["id"], stage="even")])
    assert [tuple(row[name] for name in ("id", "task", "dataset", "reason", "detail")) for row in found] == expected
    assert found["stage"][:] == ["even", "even"]
    no_ids = keep(Dataset.from_dict({"n": ["1"]}), drop_number, reads=["n"], stage="s")
    assert ledger([no_ids])[0] == {**dict.fromkeys(DROPPED), "stage": "s", "reason": "x", "detail": ""}
    many = Dataset.from_dict({"id": [str(n) for n in range(2500)]})
    assert ledger([keep(many, drop_odd, reads=["id"], stage="even")])["id"][:] == [str(n) for n in range(1, 2500, 2)]
    assert len(write_dropped(rows(), lambda table: [None] * table.num_rows, "s", "key")) == 0
    assert list(stages_dir().glob(f"{digest('key', 'dropped')}*")) == [], "no file without dropped rows"


def drop_number(row: Mapping[str, Any], settings: Any) -> Drop:
    return Drop("x")


def test_each_stage_is_once_in_a_ledger() -> None:
    even = keep(rows(8), drop_odd, reads=["id"], stage="even")
    one, other = (keep(even, drop_more, settings, reads=["id"], stage=settings) for settings in ("a", "b"))
    stages = ["even"] * 4
    assert ledger([one])["stage"][:] == [*stages, "a", "a", "a", "a"]
    assert ledger([DatasetDict(x=one), other, one])["stage"][:] == [*stages, *"aaaa", *"bbbb"]
    for empty in ([], (), iter([rows()]), [DatasetDict()]):
        assert (len(ledger(empty)), ledger(empty).features) == (0, DROPPED)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ledger(rows()), "ledger: expected a list of tables, as in `ledger([table])`, found Dataset"),
        (lambda: ledger(DatasetDict(a=rows())), "ledger: expected a list of tables, as in `ledger([table])`, found DatasetDict"),
        (lambda: ledger(None), "ledger: expected a list of tables, as in `ledger([table])`, found NoneType"),  # type: ignore[arg-type]
        (lambda: lineage(DatasetDict(a=rows(), b=rows())), "lineage: expected a Dataset, found a DatasetDict: pass one of its splits ['a', 'b']"),
        (lambda: lineage([1]), "lineage: expected a Dataset, found list"),
    ],
)  # fmt: skip
def test_what_has_no_lineage(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        call()


def test_a_lineage_lists_each_stage_after_its_inputs() -> None:
    start = materialize(rows())
    loud, louder = apply_shout(start), apply_shout(start, "!!", name="louder").select_columns(["loud"])
    louder = materialize(louder.rename_column("loud", "louder"))
    joined = join([loud, louder], "both", inputs=[loud, apply_shout(start, "!!", name="louder")])
    assert [record["step"] for record in lineage(joined)] == ["rows", "shout", "louder", "both"]
    assert has_records(joined._fingerprint, start._fingerprint)
    assert has_records(loud._fingerprint, start._fingerprint)
    assert has_records(loud._fingerprint, "another"), "a source has no inputs"
    assert not has_records("another", "another")
    record_path(start._fingerprint).unlink()
    assert has_records(joined._fingerprint, start._fingerprint), "the end needs no record"
    assert not has_records(joined._fingerprint, "another")


def test_requests_and_tokens_are_added_by_model() -> None:
    tables = []
    for name, model, numbers in (("a", "z", (1, 10)), ("b", "m", (2, 20)), ("c", "z", (3, 30))):
        counts = {"model": model, "requests": numbers[0], "prompt_tokens": numbers[1]}
        prepare = lambda split, counts=counts: Prepared(record={"usage": counts})  # noqa: E731
        tables.append(apply_shout(rows(), name=name, settings=name, prepare=prepare))
    expected = {"m": {"requests": 2, "prompt_tokens": 20}, "z": {"requests": 4, "prompt_tokens": 40}}
    assert usage([*tables, tables[0]]) == expected
    assert list(usage(tables)) == ["m", "z"]
    assert usage([rows()]) == {}


def test_a_ledger_without_some_tasks() -> None:
    table = Dataset.from_dict(
        {**{name: ["x"] * 5 for name in DROPPED}, "task": ["math", "qa", None, "lama", "math"], "id": list("abcde")},
        features=DROPPED,
    )
    assert without_tasks(table, ["math", "lama"])["id"][:] == ["b", "c"]
    assert without_tasks(table, [])["id"][:] == list("abcde")
    assert without_tasks(table.select([]), ["math"])["id"][:] == []


def test_the_record_of_a_source() -> None:
    source = materialize(rows(2))
    record_source(source, "source mine", {"split": "train"})
    assert [lineage(source)[0][name] for name in ("step", "rows_in", "rows_out")] == ["source mine", 2, 2]
    dropped = table_from_rows([dict.fromkeys(DROPPED, "x")] * 3, DROPPED, "drops")
    record_source(source, "source mine", None, dropped)
    (record,) = lineage(source)
    assert (record["rows_in"], record["dropped"], record["dropped_files"]) == (5, {"x": 3}, arrow_files(dropped))
    record_source(source, "source mine", None, dropped.select([]))
    assert "dropped_files" not in lineage(source)[0]


# The folder


def test_another_folder_of_stages_within_a_block(tmp_path: Path) -> None:
    usual = stages_dir()
    with stages_in(tmp_path / "a"):
        with stages_in(tmp_path / "b"):
            assert stages_dir() == tmp_path / "b"
        assert stages_dir() == tmp_path / "a"
        table = apply_shout(rows())
        assert {Path(file).parent for file in arrow_files(table)} == {tmp_path / "a"}
        assert [record["step"] for record in lineage(table)] == ["rows", "shout"]
    assert (stages_dir(), usual.exists()) == (usual, False)
    with pytest.raises(ZeroDivisionError), stages_in(tmp_path / "a"):
        raise ZeroDivisionError
    assert stages_dir() == usual


def test_a_stage_is_loaded_from_its_record(caplog: pytest.LogCaptureFixture) -> None:
    data = materialize(Dataset.from_dict(rows()[:], split="train"))
    table = apply_shout(data)
    key = table._fingerprint
    assert load_stage("0" * 32) is None
    for found, split in (
        (load_stage(key), None),
        (load_stage(key, data), "train"),
        (load_stage(key, split=NamedSplit("dev")), "dev"),
    ):
        assert found is not None
        assert (found.to_list(), found._fingerprint, found.split) == (table.to_list(), key, split)
    write_record("f" * 32, {"replaced_by": key})
    replaced = load_stage("f" * 32, data)
    assert replaced is not None
    assert (replaced._fingerprint, replaced.split) == (key, "train")
    assert read_record("f" * 32) == {"fingerprint": "f" * 32, "replaced_by": key}
    same = keep(data, keep_all, reads=["id"], stage="all")
    assert arrow_files(same) == arrow_files(data)
    os.utime(record_path(key), (1, 1))
    assert load_stage(key) is not None
    assert record_path(key).stat().st_mtime > 1, "it was used"
    os.utime(record_path(key), (1, 1))
    write_record(key, {name: value for name, value in lineage(table)[-1].items() if name != "fingerprint"})
    assert record_path(key).stat().st_mtime > 1
    discard_record(key)
    discard_record(key)
    assert load_stage(key) is None
    assert caplog.messages == []


def test_a_record_keeps_the_stamps_that_it_has() -> None:
    """Otherwise a record that is written again would declare a damaged file right."""
    table = apply_shout(rows())
    record = lineage(table)[-1]
    stamps = {file: [1, "x"] for file in record["stamps"]}
    write_record(table._fingerprint, {**record, "stamps": stamps})
    assert lineage(table)[-1]["stamps"] == stamps
    write_record(table._fingerprint, {**record, "stamps": {}})
    assert lineage(table)[-1]["stamps"] == record["stamps"]


@pytest.mark.parametrize("entry", ["rows_out", "dropped"])
def test_a_record_of_another_number_of_rows_is_not_believed(entry: str, caplog: pytest.LogCaptureFixture) -> None:
    table = keep(rows(), drop_odd, reads=["id"], stage="even")
    record = {name: value for name, value in lineage(table)[-1].items() if name != "stamps"}
    write_record(table._fingerprint, {**record, entry: 3 if entry == "rows_out" else {"odd": 1}})
    assert load_stage(table._fingerprint) is None
    assert caplog.messages == [f"{arrow_files(table)[0]} is damaged: the stage is computed again"]


def test_the_table_of_a_record_is_opened_or_the_error_names_its_file() -> None:
    table = keep(rows(), drop_odd, reads=["id"], stage="even")
    record = lineage(table)[-1]
    assert open_recorded(record).to_list() == table.to_list()
    assert open_recorded(record, "dropped_files")["id"][:] == ["1", "3"]
    file = record["files"][0]
    content = Path(file).read_bytes()
    for damage, problem in ((content[:-1], "damaged"), (None, "missing")):
        Path(file).unlink()
        if damage is not None:
            Path(file).write_bytes(damage)
        message = f"^{re.escape(file)} of the stage 'even' is {problem}: run the stages again$"
        with pytest.raises(ToolrlefError, match=message):
            open_recorded(record)


def test_values_are_counted_by_combination() -> None:
    data = Dataset.from_dict({"a": ["x", None, "x", "x"], "b": [1, 1, 2, 1], "c": [[1]] * 4})
    assert count_values(data, "a", "b") == {("x", 1): 2, (None, 1): 1, ("x", 2): 1}
    assert count_values(data.select([]), "a") == {}
    many = Dataset.from_dict({"a": [str(n % 2) for n in range(20_001)]})
    assert count_values(many, "a") == {("0",): 10_001, ("1",): 10_000}


def test_a_copy_with_another_fingerprint_or_format_leaves_the_table_as_it_was() -> None:
    data = materialize(rows()).with_format("numpy", columns=["id"])
    copied = with_fingerprint(data, "other")
    assert (copied._fingerprint, copied.format["type"], copied.format["columns"]) == ("other", None, ["id", "text"])
    assert (data._fingerprint != "other", data.format["type"], data.format["columns"]) == (True, "numpy", ["id"])
    assert (as_arrow(data, ["text"]).column_names, as_arrow(data)[:].column_names) == (["id", "text"], ["id", "text"])
    assert as_arrow(data, ["text"])[:].column_names == ["text"]
    result, key = store_unfinished(data, "key")
    assert result._fingerprint == key == digest("key", [stamp(file).checksum for file in arrow_files(data)])


def test_files_of_a_stage_are_stored_in_their_order(tmp_path: Path) -> None:
    stages_dir().mkdir(parents=True)
    files = []
    for n in (2, 1, 3):
        files.append(stages_dir() / f".tmp-{n}")
        with open(files[-1], "wb") as file, pa.ipc.new_stream(file, pa.schema([("n", pa.int64())])) as writer:
            writer.write_table(pa.table({"n": [n]}))
    table = store_files(files, "a" * 32, NamedSplit("dev"))
    assert (table["n"][:], table.split, table._fingerprint) == ([2, 1, 3], "dev", "a" * 32)
    assert [file.exists() for file in files] == [False] * 3
    assert len({*arrow_files(table)}) == 3


def test_a_held_block_without_an_interrupt_changes_nothing() -> None:
    with interrupts_held(), interrupts_held():
        steps = ["done"]
    assert steps == ["done"]


# Stages


def test_a_stage_is_computed_again_if_its_caller_says_so() -> None:
    calls: list[str] = []
    seen: list[tuple[int, str]] = []

    def prepare(split: Dataset) -> Prepared:
        calls.append(split._fingerprint)
        return Prepared(record={"mine": len(calls)})

    def is_outdated(split: Dataset, record: Mapping[str, Any]) -> bool:
        seen.append((len(split), record["step"]))
        return bool(record["mine"] < 2)

    for expected in (1, 2, 2, 2):
        table = apply_shout(rows(), prepare=prepare, is_outdated=is_outdated)
        assert (len(calls), lineage(table)[-1]["mine"]) == (expected, expected)
    assert seen == [(4, "shout")] * 3
    apply_shout(rows(), prepare=prepare)
    assert len(calls) == 2
    apply_shout(rows(), prepare=prepare, refresh=True)
    assert len(calls) == 3
    assert calls == [lineage(rows())[0]["fingerprint"]] * 3, "the table that has files"


def test_a_stage_whose_preparation_lost_a_record_is_computed_again() -> None:
    calls: list[str] = []

    def prepare(split: Dataset) -> Prepared:
        calls.append("prepared")
        first = apply_shout(split, "?", name="first")
        return Prepared(record={"inputs": [split._fingerprint, first._fingerprint]})

    def run() -> Dataset:
        table: Dataset = apply_shout(rows(), prepare=prepare)
        return table

    assert [record["step"] for record in lineage(run())] == ["rows", "first", "shout"]
    run()
    assert len(calls) == 1
    discard_record(lineage(run())[1]["fingerprint"])
    assert [record["step"] for record in lineage(run())] == ["rows", "first", "shout"]
    assert len(calls) == 2
    run()
    assert len(calls) == 2


def test_the_digest_of_a_step_is_in_its_record_and_not_that_of_its_input() -> None:
    one, other = (lineage(apply_shout(rows(count)))[-1]["step_digest"] for count in (2, 3))
    assert one == other != lineage(apply_shout(rows(2), "?"))[-1]["step_digest"]


def test_columns_are_removed_and_replaced_in_their_place() -> None:
    data = rows(1).add_column("n", [1])
    table = apply(data, twice, reads=["n"], adds={"n": Value("float64"), "m": STRING}, removes=["text"])
    assert table.features == Features(id=STRING, n=Value("float64"), m=STRING)
    assert table.to_list() == [{"id": "0", "n": 2.0, "m": "1"}]
    same = apply(data, twice, reads=["n"], adds={"m": STRING, "n": Value("float64")}, removes=["text", "missing"])
    assert same.column_names == ["id", "n", "m"]


def twice(row: Mapping[str, Any], settings: Any) -> dict[str, Any]:
    return {"n": 2.0 * row["n"], "m": str(row["n"])}


def test_stacked_and_joined_tables_have_records() -> None:
    one, other = rows(2), Dataset.from_dict({"id": ["x"], "text": ["row x"]})
    stacked = stack([one, other], "both")
    assert [lineage(stacked)[-1][name] for name in ("step", "rows_in", "rows_out")] == ["both", 3, 3]
    assert lineage(stacked)[-1]["inputs"] == [materialize(table)._fingerprint for table in (one, other)]
    parts = [one.select_columns(["id"]), one.select_columns(["text"])]
    joined = join([DatasetDict(a=part) for part in parts], "side", inputs=[DatasetDict(a=one)])
    assert (list(joined), joined["a"].to_list()) == (["a"], one.to_list())
    assert lineage(joined["a"])[-1]["inputs"] == [materialize(one)._fingerprint]
    assert stack([DatasetDict(a=one), DatasetDict(a=other)], "both")["a"].to_list() == stacked.to_list()
    empty = one.select([])
    assert (len(stack([empty, empty], "none")), stack([empty, empty], "none").features) == (0, one.features)
    assert stack([one, other], "both")._fingerprint == stacked._fingerprint != stack([one, other], "b")._fingerprint
    with pytest.raises(
        InputError, match=r"^s: expected tables with the same columns, found differences in more, text$"
    ):
        stack([one, one.rename_column("text", "more")], "s")
    with pytest.raises(InputError, match=r"found differences in text$"):
        stack([one, one.cast_column("text", Value("large_string"))], "s")


@pytest.mark.parametrize("batch_rows", [0, -1, 1.5, "3", None])
def test_a_wrong_number_of_rows_of_a_batch(batch_rows: Any) -> None:
    function: Any = twice
    with pytest.raises(InputError, match=f"^batch_rows must be an integer of at least 1, found {batch_rows!r}$"):
        explode(rows(1), function, reads=["id"], features={"id": STRING}, stage="s", batch_rows=batch_rows)
