"""The stage cache heals: a damaged file or record is noticed, and its stage is computed again."""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import datasets
import pyarrow as pa
import pytest
from datasets import Dataset, Features, List, Value, concatenate_datasets

from toolrlef_data import load_source, shuffle_steps, subset
from toolrlef_data.columns import STAGE2, STAGE2_LATER
from toolrlef_data.records import Drop, ToolrlefError
from toolrlef_data.tables.files import read_json
from toolrlef_data.tables.lineage import ledger, lineage
from toolrlef_data.tables.reshape import explode, join, stack
from toolrlef_data.tables.row_files import table_from_rows
from toolrlef_data.tables.stage_cache import (
    arrow_files,
    as_arrow,
    interrupts_held,
    stages_dir,
    store_files,
    store_unfinished,
    write_record,
)
from toolrlef_data.tables.transform import apply, keep

STRING = Value("string")
ROOT = Path(__file__).resolve().parents[2]


def shout(row: dict[str, Any], settings: str) -> dict[str, Any]:
    return {"loud": row["question"].upper() + settings}


def shout_word(row: dict[str, Any], settings: str) -> dict[str, Any]:
    return {"loud": row["word"].upper() + settings}


def drop_odd(row: dict[str, Any], settings: None) -> Drop | None:
    return Drop("odd", row["id"]) if int(row["id"].split("-")[-1]) % 2 else None


def keep_all(row: dict[str, Any], settings: None) -> Drop | None:
    return None


def split_words(row: dict[str, Any], settings: None) -> Iterator[dict[str, Any] | tuple[str, Drop]]:
    for n, word in enumerate(row["question"].split()):
        row_id = f"{row['id']}#{n}"
        yield (row_id, Drop("short", word)) if len(word) < 4 else {"id": row_id, "word": word}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a folder with rows of GSM8K's form, one of which is dropped."""
    lines = [{"question": f"How many figs are {n} figs?", "answer": f"#### {n}"} for n in range(40)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, [*lines, {"question": "", "answer": "#### 1"}])))
    return tmp_path


def run(source: Path, num_proc: int | None = None, is_unfinished: bool = False) -> list[Any]:
    """Run stages of all kinds, and return their rows, the ledger and the lineage."""
    questions = load_source("gsm8k", split="train", data_dir=source)
    even = keep(questions, drop_odd, reads=["id"], stage="even", num_proc=num_proc)
    loud = apply(even, shout, "!", reads=["question"], adds={"loud": STRING}, num_proc=num_proc)
    complete = keep(loud, keep_all, reads=["id"], stage="all")
    quiet = apply(loud, shout, "", reads=["question"], adds={"loud": STRING}, unfinished=lambda result: is_unfinished)
    drawn = keep(subset(complete, 15, seed=1), keep_all, reads=["id"], stage="drawn")
    words = explode(drawn, split_words, reads=["id", "question"], features={"id": STRING, "word": STRING}, stage="w")
    mixed = stack([words, table_from_rows([{"id": "mine", "word": "own"}], words.features, "own rows")], "mixed")
    loud_words = apply(mixed, shout_word, "?", reads=["word"], adds={"loud": STRING}, removes=["id", "word"])
    final = shuffle_steps(join([mixed, loud_words], "both"))
    tables = [questions, even, loud, complete, quiet, drawn, words, mixed, final]
    rows = [table.to_list() for table in tables]
    dropped = ledger([final]).to_list()
    return [rows, dropped, [[record["step"], record["rows_out"]] for record in lineage(final)]]


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file, as a copy or another process does; tables that have the old file open keep it."""
    path.unlink()
    path.write_bytes(content)


def damage(content: bytes, how: str, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    if how == "cut":
        return content[:at]
    if how == "zeroed":
        end = min(len(content), at + draw.randint(1, 4096))
        return content[:at] + bytes(end - at) + content[end:]
    flipped = bytearray(content)
    flipped[at] ^= 1 << draw.randrange(8)
    return bytes(flipped)


def test_many_small_batches_become_few_with_the_same_rows(fresh_caches: Path) -> None:
    schema = Features(id=Value("string"), answers=List(Value("string")), score=Value("float64")).arrow_schema
    rows = [{"id": f"{n}", "answers": ["a", None][: n % 3], "score": None if n % 7 else n / 3} for n in range(100)]
    stages_dir().mkdir(parents=True)
    file = stages_dir() / ".tmp-rows"
    with open(file, "wb") as target, pa.ipc.new_stream(target, schema) as writer:
        for row in rows:
            writer.write_table(pa.Table.from_pylist([row], schema))
    table = store_files([file], "0" * 32)
    assert (len(table.data.to_batches()), table.to_list(), table.features.arrow_schema) == (1, rows, schema)
    assert sorted(stages_dir().iterdir()) == [Path(path["filename"]) for path in table.cache_files]


def test_damage_anywhere_in_the_cache_changes_no_row(
    source: Path, fresh_caches: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = run(source, is_unfinished=True)
    assert [len(part) for part in expected] == [9, 71, 12]
    draw = random.Random(5)
    for how in ("cut", "zeroed", "flipped"):
        files = sorted(path for path in fresh_caches.rglob("*") if path.is_file() and path.stat().st_size)
        assert {path.suffix for path in files} == {".arrow", ".json"}
        damaged = draw.sample(files, 10)
        for path in damaged:
            replace_file(path, damage(path.read_bytes(), how, draw))
        gc.collect()
        caplog.clear()
        assert run(source, is_unfinished=True) == expected, f"{how}: {damaged}"
        assert len(caplog.messages) == len(set(caplog.messages)), "one warning a file"
        caplog.clear()
        assert run(source, is_unfinished=True) == expected
        assert caplog.messages == [], f"not healed after {how}: {damaged}"


def batch_ends(path: Path) -> list[int]:
    """Return the positions after the schema and after each batch of an Arrow stream."""
    buffer = pa.BufferReader(path.read_bytes())
    reader = pa.ipc.open_stream(buffer)
    ends = [buffer.tell()]
    for _ in reader:
        ends.append(buffer.tell())
    return ends


def without_checksums(folder: Path) -> None:
    """Make the records those of an earlier version."""
    for path in folder.glob("*.json"):
        record = read_json(path)
        record.pop("stamps", None)
        path.write_text(json.dumps(record))


@pytest.mark.parametrize("has_checksums", [True, False])
def test_a_file_that_is_cut_between_batches_is_noticed(has_checksums: bool, caplog: pytest.LogCaptureFixture) -> None:
    rows = Dataset.from_dict({"id": [str(n) for n in range(5000)]})

    def even() -> Dataset:
        return keep(rows, drop_odd, reads=["id"], stage="even")

    table = even()
    files = [Path(arrow_files(table)[0]), Path(lineage(table)[-1]["dropped_files"][0])]
    for path in files:
        if not has_checksums:
            without_checksums(stages_dir())
        for end in batch_ends(path)[:-1]:
            caplog.clear()
            replace_file(path, path.read_bytes()[:end])
            assert (len(even()), len(ledger([even()]))) == (2500, 2500)
            assert len(caplog.messages) == 1
            if not has_checksums:
                without_checksums(stages_dir())


def test_records_of_an_earlier_version_are_believed(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = run(source)
    modified = {path: path.stat().st_mtime_ns for path in stages_dir().glob("*.arrow")}
    without_checksums(stages_dir())
    assert run(source) == expected
    assert caplog.messages == []
    assert {path: path.stat().st_mtime_ns for path in modified} == modified, "no file was written again"


@pytest.mark.parametrize("text", ["[]", "3", "null", '{"rows_out": 3}', "{", ""])
def test_a_record_of_another_form_is_ignored_with_a_warning(text: str, caplog: pytest.LogCaptureFixture) -> None:
    rows = Dataset.from_dict({"id": ["0", "1"]})
    table = keep(rows, drop_odd, reads=["id"], stage="even")
    record = stages_dir() / f"{table._fingerprint}.json"
    record.write_text(text)
    assert keep(rows, drop_odd, reads=["id"], stage="even")["id"][:] == ["0"]
    is_reported = [str(record) in message for message in caplog.messages]
    assert is_reported == ([] if text == "null" else [True]), "null is a record that is missing"
    assert len(ledger([table])) == 1


def test_the_shards_of_several_processes_are_checked(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = run(source, num_proc=2)
    assert expected == run(source)
    questions = load_source("gsm8k", split="train", data_dir=source)
    _, second_shard = map(Path, arrow_files(keep(questions, drop_odd, reads=["id"], stage="even")))
    replace_file(second_shard, second_shard.read_bytes()[:-1])
    assert run(source) == expected
    assert [str(second_shard) in message for message in caplog.messages] == [True]


def test_the_file_of_an_earlier_cast_is_not_read() -> None:
    old = {name: STAGE2[name] for name in STAGE2 if name not in STAGE2_LATER}
    tables = [
        table_from_rows([dict.fromkeys(features) | {"id": row_id}], features, "rows")
        for row_id, features in (("old", old), ("new", STAGE2))
    ]
    expected = stack(tables, "both").to_list()
    casts = list(stages_dir().glob("cache-*.arrow"))
    assert casts
    for path in casts:
        replace_file(path, b"")
    assert stack(tables, "both").to_list() == expected


def test_an_incomplete_lineage_is_an_error() -> None:
    rows = Dataset.from_dict({"id": ["0", "1"]})
    table = keep(rows, drop_odd, reads=["id"], stage="even")
    record = stages_dir() / f"{table._fingerprint}.json"
    content = record.read_bytes()
    record.write_bytes(content[:-1])
    with pytest.raises(ToolrlefError, match=r"\.json is damaged: run the stages again"):
        ledger([table])
    record.write_bytes(content)
    file = Path(lineage(table)[-1]["dropped_files"][0])
    replace_file(file, bytes(file.stat().st_size))
    with pytest.raises(ToolrlefError, match=r"of the stage 'even' is damaged: run the stages again"):
        ledger([table])
    file.unlink()
    with pytest.raises(ToolrlefError, match=r"of the stage 'even' is missing: run the stages again"):
        ledger([table])


def test_the_lineage_of_a_replaced_result_ends() -> None:
    table = keep(Dataset.from_dict({"id": ["0", "1"]}), drop_odd, reads=["id"], stage="even")
    write_record(table._fingerprint, {"replaced_by": "other"})
    assert lineage(table) == []
    assert keep(table, keep_all, reads=["id"], stage="all")["id"][:] == ["0"]


def test_unfinished_results_with_other_rows_have_other_keys() -> None:
    """Two runs with other failures: the stages after them must not be taken for each other."""
    parts = [keep(Dataset.from_dict({"id": ids}), drop_odd, reads=["id"], stage="even") for ids in (["0"], ["0", "2"])]
    keys = [store_unfinished(part, "key")[1] for part in [*parts, parts[0]]]
    assert keys[0] == keys[2] != keys[1]
    assert "key" not in keys


def test_a_changed_file_of_the_user_is_an_error(tmp_path: Path) -> None:
    """A stage without dropped rows shares the file, and cannot compute it again."""

    def table() -> Dataset:
        data = Dataset.from_file(str(tmp_path / "rows.arrow"))
        data._fingerprint = "mine"
        return data

    def write(count: int) -> None:
        rows = pa.table({"id": [str(n) for n in range(count)]})
        with open(tmp_path / "new", "wb") as file, pa.ipc.new_stream(file, rows.schema) as writer:
            writer.write_table(rows)
        os.replace(tmp_path / "new", tmp_path / "rows.arrow")

    write(9)
    assert len(keep(table(), keep_all, reads=["id"], stage="all")) == 9
    write(8)
    with pytest.raises(ToolrlefError, match=r"rows.arrow has changed .*if it is right, delete .*\.json") as error:
        keep(table(), keep_all, reads=["id"], stage="all")
    Path(str(error.value).rpartition("delete ")[2]).unlink()
    assert len(keep(table(), keep_all, reads=["id"], stage="all")) == 8


def test_a_cache_can_be_moved(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(source)
    moved = stages_dir().parent.rename(tmp_path / "moved")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", moved)
    modified = {path: path.stat().st_mtime_ns for path in stages_dir().glob("*.arrow")}
    assert run(source) == expected
    assert {path: path.stat().st_mtime_ns for path in modified} == modified


def test_formats_are_set_without_a_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` computes it within an `except:`, which swallows Ctrl-C."""
    rows = Dataset.from_dict({"id": ["0", "1", "2"]})

    def refuse(*args: Any) -> None:
        raise AssertionError

    expected = [rows.with_format("arrow", ["id"]).format, rows.with_format(None).format]
    monkeypatch.setattr(datasets.fingerprint, "update_fingerprint", refuse)
    assert [as_arrow(rows, ["id"]).format, keep(rows, keep_all, reads=["id"], stage="all").format] == expected
    assert sorted(shuffle_steps(rows)["id"]) == ["0", "1", "2"]


def python(script: str, home: Path, *arguments: str) -> str:
    """Run a script in another process with its own caches, and return its output."""
    environment = {**os.environ, "HF_HOME": str(home), "TOOLRLEF_REPLIES": str(home / "replies.sqlite")}
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    result = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


class Interrupting(str):
    """A split's name that sends Ctrl-C when `datasets` computes a fingerprint of it."""

    sent: ClassVar[list[str]] = []

    def __reduce__(self) -> Any:
        self.sent.append(str(self))
        os.kill(os.getpid(), signal.SIGINT)
        return str, (str(self),)


def test_ctrl_c_is_not_lost_in_a_fingerprint() -> None:
    parts = [Dataset.from_dict({"id": [str(n)]}) for n in range(2)]
    concatenate_datasets(parts, split=Interrupting("train"))
    assert Interrupting.sent, "swallowed by `datasets`; if this raises, `interrupts_held` is no longer needed"
    with pytest.raises(KeyboardInterrupt), interrupts_held():
        concatenate_datasets(parts, split=Interrupting("train"))
    assert len(Interrupting.sent) >= 2


def test_ctrl_c_ends_a_held_block_after_it_is_complete() -> None:
    steps = []

    def work() -> None:
        with interrupts_held():
            os.kill(os.getpid(), signal.SIGINT)
            steps.append("complete")
        steps.append("next")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert steps == ["complete"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    thread = threading.Thread(target=lambda: interrupts_held().__enter__())
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


READ_ONLY = """
    import ctypes, os, sys
    from pathlib import Path
    from tests.tables.test_stage_cache import drop_odd, keep, load_source, run
    from toolrlef_data.records import ToolrlefError

    source = Path(sys.argv[1])
    expected = run(source)
    for folder, _, files in os.walk(os.environ["HF_HOME"]):
        for name in [*files, "."]:
            path = os.path.join(folder, name)
            os.chmod(path, os.stat(path).st_mode & ~0o222)
    if os.getuid() == 0:  # drop the capability of root to write everywhere
        ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
    assert not os.access(os.environ["HF_HOME"], os.W_OK)
    assert run(source) == expected
    even = keep(load_source("gsm8k", split="train", data_dir=source), drop_odd, reads=["id"], stage="even")
    for action in (
        lambda: keep(even, drop_odd, reads=["id"], stage="another"),
        lambda: load_source("sample", split="train"),
    ):
        try:
            action()
        except ToolrlefError as error:
            print(error)
"""


def test_a_read_only_cache_is_read(source: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    lines = python(READ_ONLY, home, str(source)).splitlines()
    for path in [home, *home.rglob("*")]:
        path.chmod(0o700)  # so that pytest can remove it
    message = f"cannot write to {home}/datasets/toolrlef_data (Permission denied): set HF_DATASETS_CACHE or HF_HOME to"
    assert [line.startswith(message) for line in lines] == [True, True]


def test_damage_that_keeps_the_number_of_dropped_rows_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    """The ledger refuses the file and advises to run the stages again, which must then write it again."""
    rows = Dataset.from_dict({"id": [str(n) for n in range(50)]})
    expected = ledger([keep(rows, drop_odd, reads=["id"], stage="even")]).to_list()
    assert len(expected) == 25
    for old, new in ((b"oddodd", b"oddeve"), (b"eveneven", b"eveneVen")):
        file = Path(lineage(keep(rows, drop_odd, reads=["id"], stage="even"))[-1]["dropped_files"][0])
        content = file.read_bytes()
        assert old in content
        caplog.clear()
        replace_file(file, content.replace(old, new, 1))
        assert ledger([keep(rows, drop_odd, reads=["id"], stage="even")]).to_list() == expected
        assert [str(file) in message for message in caplog.messages] == [True]
