"""Where the trail of a table goes on: after `save_to_disk`, with a format, and not with other rows or columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, Value, concatenate_datasets, load_from_disk

from toolrlef_data import answer, load_source, scripted
from toolrlef_data.columns import DROPPED
from toolrlef_data.records import Drop, InputError
from toolrlef_data.tables.lineage import has_records, ledger, lineage, record_source, usage
from toolrlef_data.tables.reshape import explode, join
from toolrlef_data.tables.row_files import table_from_batches, table_from_rows
from toolrlef_data.tables.sampling.splits import shuffle_steps, split_queries
from toolrlef_data.tables.stage_cache import record_path, stages_dir
from toolrlef_data.tables.transform import apply, keep

STRING = Value("string")


def shout(row: Mapping[str, Any], settings: str) -> dict[str, Any]:
    return {"loud": row["text"].upper() + settings}


def drop_odd(row: Mapping[str, Any], settings: None) -> Drop | None:
    return Drop("odd") if int(row["id"]) % 2 else None


def apply_shout(data: Any, settings: str = "!") -> Any:
    return apply(data, shout, settings, reads=["id", "text"], adds={"loud": STRING})


def stage() -> Dataset:
    rows = Dataset.from_list([{"id": str(i), "text": f"row {i}"} for i in range(20)])
    return apply_shout(keep(rows, drop_odd, reads=["id"], stage="parity"))


def steps(data: Dataset) -> list[str]:
    return [record["step"] for record in lineage(data)]


STEPS = ["rows", "parity", "shout"]


def test_the_rows_of_a_source_are_those_it_yields_and_those_it_drops(tmp_path: Path) -> None:
    lines = [{"question": f"How much is {n}?", "answer": f"#### {n}" if n else "It is nothing."} for n in range(3)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (record,) = lineage(load_source("gsm8k", "train", tmp_path))
    assert (record["rows_in"], record["rows_out"], sum(record["dropped"].values())) == (3, 2, 1)


@pytest.mark.parametrize("shards", [1, 3])
def test_the_trail_goes_on_after_save_to_disk(shards: int, tmp_path: Path) -> None:
    expected = stage()
    expected.save_to_disk(tmp_path / "saved", num_shards=shards)
    loaded = load_from_disk(tmp_path / "saved")
    assert steps(loaded) == steps(loaded.with_format("torch")) == STEPS
    assert ledger([loaded])[:] == ledger([expected])[:]
    result = apply_shout(loaded, "?")
    assert result._fingerprint == apply_shout(expected, "?")._fingerprint
    assert steps(result) == [*STEPS, "shout"]


def test_the_trail_of_each_split_goes_on_after_save_to_disk(tmp_path: Path) -> None:
    DatasetDict(a=stage(), b=apply_shout(stage(), "?")).save_to_disk(tmp_path / "saved")
    loaded = load_from_disk(tmp_path / "saved")
    assert (steps(loaded["a"]), steps(loaded["b"])) == (STEPS, [*STEPS, "shout"])


def test_a_trail_without_records_is_a_table_of_its_own(tmp_path: Path) -> None:
    """Such as on another machine: the records are in the stage cache, not in the saved folder."""
    stage().save_to_disk(tmp_path / "saved")
    for path in stages_dir().glob("*.json"):
        path.unlink()
    loaded = load_from_disk(tmp_path / "saved")
    assert steps(loaded) == []
    assert apply_shout(loaded, "?")["loud"][:2] == ["ROW 0?", "ROW 2?"]


def test_formats_do_not_end_a_trail() -> None:
    for kind in ("torch", "numpy", "pandas", "arrow", None):
        assert steps(stage().with_format(kind)) == STEPS
    data = stage()
    data.set_format("torch", columns=["id"])
    data.reset_format()
    assert steps(data) == STEPS


def swapped(data: Dataset) -> Dataset:
    return data.rename_columns({"text": "loud", "loud": "text"})


def with_other_rows(data: Dataset) -> Dataset:
    """A table of as many rows and the same file, of which a half is in memory."""
    other = Dataset.from_list([{**row, "text": "other"} for row in data.select(range(5)).to_list()])
    return concatenate_datasets([data.select(range(5)), other.cast(data.features)])


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.select(range(5)),
        lambda data: data.select([4, 2]),
        lambda data: data.shuffle(seed=1),
        lambda data: data.select_columns(["id", "text"]),
        lambda data: data.remove_columns("loud"),
        lambda data: data.rename_column("loud", "quiet"),
        swapped,
        with_other_rows,
        lambda data: data.add_column("more", [0] * len(data)),
        lambda data: data.map(lambda row: {"text": "other"}),
        lambda data: concatenate_datasets([data, data]),
    ],
)
def test_other_rows_or_columns_end_a_trail(change: Callable[[Dataset], Dataset], tmp_path: Path) -> None:
    stage().save_to_disk(tmp_path / "saved")
    for data in (stage(), load_from_disk(tmp_path / "saved")):
        assert "shout" not in steps(change(data))


def test_a_changed_folder_ends_a_trail(tmp_path: Path) -> None:
    stage().save_to_disk(tmp_path / "saved")
    path = tmp_path / "saved" / "state.json"
    state = json.loads(path.read_text())
    for text in (json.dumps({**state, "_fingerprint": "0123"}), json.dumps({**state, "_data_files": []}), "[]", "{"):
        loaded = load_from_disk(tmp_path / "saved")
        path.write_text(text)
        assert steps(loaded) == []
        path.write_text(json.dumps(state))


@pytest.mark.parametrize(
    ("second", "message"), [("0", "expected unique ids, found '0' twice"), (None, "found none in row 1")]
)
def test_no_stage_makes_ids_that_are_not_unique_look_checked(second: str | None, message: str) -> None:
    data = Dataset.from_list([{"id": "0", "text": "a", "query": "q"}, {"id": second, "text": "b", "query": "r"}])
    calls: list[Callable[[], Any]] = [
        lambda: keep(data, drop_odd, reads=["id"], stage="parity"),
        lambda: apply_shout(data),
        lambda: apply(data, shout, "", reads=["text"], adds={"loud": STRING}, removes=["id"]),
        lambda: explode(data, explode_row, reads=["text"], features={"word": STRING}, stage="words"),
        lambda: split_queries(data, test=0.5),
        lambda: shuffle_steps(data),
        lambda: join([data, Dataset.from_dict({"loud": ["A", "B"]})], "both"),
    ]
    for call in calls:
        with pytest.raises(InputError, match=message):
            call()


def explode_row(row: Mapping[str, Any], settings: None) -> list[dict[str, Any]]:
    return [{"word": row["text"]}]


def test_equal_rows_computed_from_other_tables_have_another_lineage() -> None:
    row = [{"id": "0", "word": "same"}]
    features = {"id": STRING, "word": STRING}
    parents = [apply_shout(stage().remove_columns("loud"), settings) for settings in "?!"]
    tables = [table_from_rows(row, features, "calls", [parent._fingerprint]) for parent in parents]
    tables.append(table_from_rows(row, features, "other calls", [parents[0]._fingerprint]))
    tables.append(table_from_rows(row, features, "calls"))
    assert len({table._fingerprint for table in tables}) == 4
    assert [lineage(table)[-1]["inputs"] for table in tables] == [
        [parents[0]._fingerprint],
        [parents[1]._fingerprint],
        [parents[0]._fingerprint],
        [],
    ]
    assert [[record["step"] for record in lineage(table)][-1] for table in tables] == [
        "calls",
        "calls",
        "other calls",
        "calls",
    ]
    again = table_from_rows(row, features, "calls", [parents[0]._fingerprint])
    assert again._fingerprint == tables[0]._fingerprint


def test_equal_rows_computed_with_other_settings_have_another_lineage() -> None:
    rows = pa.table({"id": ["0"]})
    tables = [table_from_batches([rows], rows.schema, "calls", settings={"seed": seed}) for seed in (1, 2, 1)]
    assert [lineage(table)[-1]["settings"] for table in tables] == [{"seed": 1}, {"seed": 2}, {"seed": 1}]
    assert tables[0]._fingerprint == tables[2]._fingerprint != tables[1]._fingerprint


def test_a_salt_makes_another_table_of_equal_rows() -> None:
    rows = pa.table({"id": ["0"]})
    tables = [table_from_batches([rows], rows.schema, "calls", salt=salt) for salt in ("", "a", "b", "a")]
    assert len({table._fingerprint for table in tables}) == 3
    assert tables[0]._fingerprint == table_from_batches([rows], rows.schema, "calls")._fingerprint


def test_the_rows_in_of_a_table_of_batches_are_its_rows_and_its_drops() -> None:
    rows = pa.table({"id": ["0", "1"]})
    dropped = [{**dict.fromkeys(DROPPED), "id": "2", "stage": "calls", "reason": "odd"}]
    table = table_from_batches([rows], rows.schema, "calls", dropped=dropped)
    record = lineage(table)[-1]
    assert (record["rows_in"], record["rows_out"], record["dropped"]) == (3, 2, {"odd": 1})
    assert ledger([table])["id"][:] == ["2"]


def test_the_record_of_a_source_has_the_rows_that_are_no_longer_there() -> None:
    data = stage()
    some = data.select(range(2))
    record_source(some, "2 rows", None, ledger([data]))
    (record,) = lineage(some)
    assert (record["rows_in"], record["rows_out"], record["dropped"]) == (12, 2, {"odd": 10})
    assert ledger([some]).to_list() == ledger([data]).to_list()


def test_the_inputs_of_joined_columns_can_be_named() -> None:
    """The parts of a table were made by `datasets` alone."""
    data = stage()
    parts = [data.select_columns([name]) for name in ("id", "loud")]
    joined = join(parts, "both", inputs=[data])
    assert lineage(joined)[-1]["inputs"] == [data._fingerprint]
    assert steps(joined) == [*STEPS, "both"]


def test_a_lineage_is_complete_with_the_records_of_all_inputs() -> None:
    start = Dataset.from_list([{"id": str(i), "text": f"row {i}"} for i in range(4)])
    first = apply_shout(start)
    (begin,) = (record["fingerprint"] for record in lineage(first) if record["step"] == "rows")
    second = apply_shout(first, "?").select_columns(["loud"]).rename_column("loud", "louder")
    for order in ([first, second], [second, first]):
        joined = join(order, "both", inputs=[first, apply_shout(first, "?")][:: 1 if order[0] is first else -1])
        assert has_records(joined._fingerprint, begin)
        path = record_path(apply_shout(first, "?")._fingerprint)
        content = path.read_bytes()
        path.unlink()
        assert not has_records(joined._fingerprint, begin)
        path.write_bytes(content)


def keep_all(row: Mapping[str, Any], settings: None) -> Drop | None:
    return None


def test_a_stage_in_several_lineages_counts_once_in_the_usage() -> None:
    first, second = (
        answer(load_source("sample", split="train").select(rows), scripted({"": "It is 0."}, progress=False))
        for rows in (range(3), range(3, 5))
    )
    later = [keep(first, keep_all, reads=["id"], stage=name) for name in ("a", "b")]
    alone = usage([first])
    assert alone["mapping"]["requests"] == 3
    assert usage([first, first]) == usage([first, *later]) == usage(later) == alone
    assert usage([first, second])["mapping"]["requests"] == 5, "other stages of the same model are added"
