"""Which stages may be removed, as by a search of all stages; and which processes and files hold them."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest
from datasets import Dataset, Value, load_from_disk

from toolrlef_data.records import Drop
from toolrlef_data.tables.cache import processes
from toolrlef_data.tables.cache.processes import in_use_since, is_locked, mark_used
from toolrlef_data.tables.cache.removal import StoredStage, choose_stages, remove_stages, size_of, stored_stages
from toolrlef_data.tables.lineage import lineage
from toolrlef_data.tables.stage_cache import record_path, stages_dir, write_record
from toolrlef_data.tables.transform import apply, keep


def random_stages(rng: random.Random) -> list[StoredStage]:
    stages: list[StoredStage] = []
    for n in range(12):
        others = [stage.key for stage in stages]
        inputs = tuple(rng.sample(others, min(len(others), rng.randint(0, 2)))) + (("lost",) if n % 5 == 4 else ())
        replaced_by = rng.choice(others) if others and rng.random() < 0.2 else ""
        stages.append(StoredStage(f"s{n}", "step", inputs, (), rng.randint(0, 9), replaced_by))
    rng.shuffle(stages)
    return stages


@pytest.mark.parametrize("seed", range(40))
def test_stages_are_chosen_as_by_a_search_of_all(seed: int) -> None:
    rng = random.Random(seed)
    stages = random_stages(rng)
    keys = [stage.key for stage in stages]
    used_before = rng.choice([None, 5])
    only = rng.choice([None, set(rng.sample(keys, 7)), {*keys}])
    keep_them = set(rng.sample(keys, rng.choice([0, 0, 1])))
    kept = {
        stage.key
        for stage in stages
        if not stage.replaced_by
        and (
            (used_before is not None and not stage.last_use < used_before)
            or (only is not None and stage.key not in only)
            or stage.key in keep_them
        )
    }
    for _ in stages:
        kept |= {name for stage in stages if stage.key in kept for name in stage.inputs if name in keys}
    expected = [stage for stage in stages if (stage.replaced_by if stage.replaced_by else stage.key) not in kept]
    assert choose_stages(stages, used_before=used_before, only=only, keep=keep_them) == expected


def drop_odd(row: dict[str, str], settings: None) -> Drop | None:
    return Drop("odd") if int(row["id"]) % 2 else None


def shout(row: dict[str, str], settings: None) -> dict[str, str]:
    return {"loud": row["id"] * 3}


def test_what_is_known_of_a_stage_on_disk() -> None:
    even = keep(Dataset.from_dict({"id": ["0", "1", "2"]}), drop_odd, reads=["id"], stage="even")
    loud = apply(even, shout, reads=["id"], adds={"loud": Value("string")})
    write_record("e" * 32, {"replaced_by": loud._fingerprint})
    lost = stages_dir() / f"{'f' * 32}-{'0' * 16}.arrow"
    lost.write_bytes(b"12345")
    for name in (f"{'f' * 33}.arrow", f"{'f' * 32}-0.arrow", f"{'g' * 32}.json", f"{'f' * 32}.lock"):
        (stages_dir() / name).touch()
    (stages_dir() / f"{'a' * 32}.json").mkdir()
    for n, path in enumerate(sorted(stages_dir().glob("*.json"))):
        os.utime(path, ns=(1000 + n, 1000 + n))
    found = {stage.key: stage for stage in stored_stages()}
    records = {record["step"]: record for record in lineage(loud)}
    assert list(found)[-1] == lost.name, "those with a record first"
    assert found.keys() == {"e" * 32, lost.name, *(record["fingerprint"] for record in records.values())}
    for step, record in records.items():
        stage = found[record["fingerprint"]]
        files = [*record["files"], *record.get("dropped_files", [])]
        assert (stage.step, stage.inputs, stage.replaced_by) == (step, tuple(record["inputs"]), "")
        assert stage.files == (*map(Path, files), record_path(stage.key))
        assert stage.last_use == record_path(stage.key).stat().st_mtime_ns
    assert len(found[even._fingerprint].files) == 3
    assert found["e" * 32] == StoredStage(
        "e" * 32, "", (), (record_path("e" * 32),), record_path("e" * 32).stat().st_mtime_ns, loud._fingerprint
    )
    assert (found[lost.name].step, found[lost.name].files) == ("", (lost,))
    all_files = {file for stage in found.values() for file in stage.files}
    assert size_of(found.values()) == (sum(file.stat().st_size for file in all_files), len(all_files))
    assert size_of([found[lost.name], found[lost.name]]) == (5, 1)
    assert remove_stages([found[lost.name]], found.values()) == 5
    assert not lost.exists()
    assert size_of([found[lost.name]]) == (0, 0)


def test_a_table_that_another_stage_needs_stays(tmp_path: Path) -> None:
    shared, own = tmp_path / "shared", tmp_path / "own"
    for path in (shared, own):
        path.write_text("123")
        os.utime(path, (1, 1))
    one, other = StoredStage("a", "", (), (shared, own), 1), StoredStage("b", "", (), (shared,), 1)
    assert remove_stages([one], [one, other]) == 3
    assert (shared.exists(), own.exists()) == (True, False)
    own.write_text("12345")
    moment = time.time_ns() + 10**9
    os.utime(own, ns=(moment, moment))
    assert remove_stages([one, other], [one, other]) == 3, "a file that was written again stays"
    assert (shared.exists(), own.exists()) == (False, True)


def test_a_stage_that_was_used_since_keeps_its_table() -> None:
    stages_dir().mkdir(parents=True)
    table = stages_dir() / "table.arrow"
    table.write_text("123")
    os.utime(table, (1, 1))
    stages = []
    for key, last_use in (("a", 5), ("b", 9)):
        record_path(key).write_text("12345")
        os.utime(record_path(key), ns=(9, 9))
        stages.append(StoredStage(key, "", (), (table, record_path(key)), last_use))
    assert remove_stages(stages, stages) == 5
    assert [path.exists() for path in (table, record_path("a"), record_path("b"))] == [True, True, False]


def test_the_file_of_a_user_is_no_file_of_a_stage(tmp_path: Path) -> None:
    Dataset.from_dict({"id": ["0", "2"]}).save_to_disk(str(tmp_path / "own"))
    even = keep(load_from_disk(str(tmp_path / "own")), drop_odd, reads=["id"], stage="even")
    (stage,) = (stage for stage in stored_stages() if stage.key == even._fingerprint)
    assert stage.files == (record_path(even._fingerprint),)


def test_no_folder_has_no_stages() -> None:
    assert (stored_stages(), size_of([])) == ([], (0, 0))


# Processes


@pytest.fixture
def no_locks() -> Iterator[None]:
    processes._release(0, os.getpid())
    yield
    processes._release(0, os.getpid())


def test_a_process_holds_the_locks_of_its_last_folders(no_locks: None, tmp_path: Path) -> None:
    folders = [tmp_path / str(n) for n in range(10)]
    for folder in folders:
        folder.mkdir()
        (folder / "a.json").touch()
        os.utime(folder / "a.json", (1, 1))
        before = time.time_ns()
        assert mark_used(folder / "a.json") is True
        assert mark_used(folder / "a.json") is True
        assert (folder / "a.json").stat().st_mtime_ns >= before - 10**9
        (lock,) = folder.glob(f"{processes.PREFIX}*")
        moment, pid = lock.name.removeprefix(processes.PREFIX).split("-")
        assert before <= int(moment) <= time.time_ns()
        assert (int(pid), is_locked(lock)) == (os.getpid(), True)
    assert [len(list(folder.glob(f"{processes.PREFIX}*"))) for folder in folders] == [0, 0, *[1] * 8]
    processes._release(0, os.getpid() + 1)
    assert len(list(tmp_path.glob(f"*/{processes.PREFIX}*"))) == 8, "a child holds no lock"


def test_a_folder_is_in_use_since_the_first_of_its_processes(no_locks: None, tmp_path: Path) -> None:
    locks = [
        filelock.FileLock(tmp_path / f".in-use-{moment}-7", is_singleton=False) for moment in (9 * 10**18, 8 * 10**18)
    ]
    ended = tmp_path / f".in-use-{7 * 10**18}-7"
    ended.touch()
    for lock in locks:
        lock.acquire()
    try:
        assert in_use_since(tmp_path) == 8 * 10**18 - 60 * 10**9, "a minute earlier, since clocks differ"
        assert not ended.exists()
    finally:
        for lock in locks:
            lock.release()
    assert in_use_since(tmp_path) is None
