"""Removed stages are computed again; stages in use, their inputs and foreign files stay; open tables stay readable."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
from datasets import Dataset

from toolrlef_data import answer, grade, ledger, load_source, scripted, subset
from toolrlef_data.tables.cache import processes
from toolrlef_data.tables.cache.processes import in_use_since, mark_used
from toolrlef_data.tables.cache.removal import choose_stages, remove_stages, size_of, stored_stages
from toolrlef_data.tables.stage_cache import record_path, stages_dir

DAY = 86_400_000_000_000
STUDENT = scripted({"": "It is 0."}, progress=False)


def chain() -> Dataset:
    return grade(answer(subset(load_source("sample", split="train"), 12), STUDENT))


@pytest.fixture
def graded(fresh_caches: Path) -> Iterator[Dataset]:  # redirects the caches
    return chain()


def end_process() -> None:
    """Do what the end of this process does."""
    processes._release(0, os.getpid())


def age(table: Dataset, days: int) -> None:
    moment = time.time_ns() - days * DAY
    os.utime(record_path(table._fingerprint), ns=(moment, moment))


def test_a_removed_stage_is_computed_again_and_an_open_table_stays_readable(graded: Dataset) -> None:
    rows, stages = graded.to_list(), stored_stages()
    n_bytes, n_files = size_of(stages)
    assert remove_stages(choose_stages(stages), stages) == n_bytes > 0
    assert (stored_stages(), list(stages_dir().glob("*.arrow"))) == ([], [])
    assert graded.to_list() == rows, "the file of an open table is removed from the folder only"
    again = chain()
    assert (again._fingerprint, again.to_list()) == (graded._fingerprint, rows)
    assert size_of(stored_stages())[1] == n_files


def test_stages_are_kept_with_all_that_they_were_computed_from(graded: Dataset) -> None:
    stages = stored_stages()
    kept = choose_stages(stages, keep=[graded._fingerprint])
    remove_stages(kept, stages)
    assert len(ledger([graded])) == len(load_source("sample", split="train")) - 12, "the lineage is complete"
    assert {stage.step for stage in stored_stages()} >= {"source sample", "subset", "answer", "graded"}


def test_the_age_of_a_stage_is_the_time_since_its_last_use(graded: Dataset) -> None:
    limit = time.time_ns() - 5 * DAY
    age(graded, 30)
    assert [stage.step for stage in choose_stages(stored_stages(), used_before=limit)] == ["graded"]
    chain()
    assert choose_stages(stored_stages(), used_before=limit) == []


def test_a_stage_that_is_used_while_it_is_removed_stays(graded: Dataset) -> None:
    age(graded, 30)
    stages = stored_stages()
    chosen = choose_stages(stages, used_before=time.time_ns() - DAY)
    chain()  # after the choice
    assert remove_stages(chosen, stages) == 0
    assert stored_stages()[0].files
    assert size_of(stored_stages()) == size_of(stages)


def test_a_record_that_was_removed_before_its_stage_is_used_is_noticed(tmp_path: Path) -> None:
    assert mark_used(tmp_path / "missing.json") is False
    end_process()


def test_files_of_others_and_shared_tables_stay(graded: Dataset, tmp_path: Path) -> None:
    own = tmp_path / "own"
    graded.save_to_disk(str(own))
    saved = grade(datasets.load_from_disk(str(own)).remove_columns(["prediction", "correct", "needs_tool"]))
    foreign = [stages_dir() / name for name in ("notes.arrow", "mine.json", f"{'a' * 31}.arrow", "cache-1.arrow")]
    for path in foreign:
        path.write_text("mine")
    stages = stored_stages()
    shared = [stage for stage in stages if len({*stage.files}) == 2]
    remove_stages(choose_stages(stages, only=[saved._fingerprint]), stages)
    remaining = {file for stage in stored_stages() for file in stage.files}
    assert all(file.exists() for file in remaining)
    assert shared
    remove_stages(choose_stages(stored_stages()), stored_stages())
    assert [path.read_text() for path in foreign] == ["mine"] * 4
    assert sorted(path.name for path in own.iterdir()) == [
        "data-00000-of-00001.arrow",
        "dataset_info.json",
        "state.json",
    ]


def test_a_table_of_a_killed_process_has_no_record_and_is_removed_by_its_age(graded: Dataset) -> None:
    record_path(graded._fingerprint).unlink()
    lost = [stage for stage in stored_stages() if not stage.step]
    assert len(lost) == 1
    moment = time.time_ns() - 9 * DAY
    os.utime(lost[0].files[0], ns=(moment, moment))
    stages = stored_stages()
    assert choose_stages(stages, used_before=time.time_ns() - DAY) == [
        stage for stage in stages if stage.key == lost[0].key
    ]
    assert remove_stages(choose_stages(stages, used_before=time.time_ns() - DAY), stages) > 0
    assert not lost[0].files[0].exists()


def test_stages_that_a_running_process_used_are_in_use_until_it_ends(graded: Dataset) -> None:
    end_process()
    assert in_use_since(stages_dir()) is None
    code = "from toolrlef_data import load_source\nload_source('sample', split='train')\nprint('loaded', flush=True)\ninput()"
    environment = {**os.environ, "HF_DATASETS_CACHE": str(datasets.config.HF_DATASETS_CACHE)}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loaded\n"
        age(graded, 30)
        since = in_use_since(stages_dir())
        assert since is not None
        steps = {stage.step for stage in choose_stages(stored_stages(), used_before=since)}
        assert steps == {"graded"}, "the source is in use, and the other stages are as new as it"
        process.kill()
    assert in_use_since(stages_dir()) is None
    assert list(stages_dir().glob(f"{processes.PREFIX}*")) == []
