"""The number of a shard from a command, Slurm or Kubernetes; the ranges of rows."""

from __future__ import annotations

import pytest

from toolrlef_data.recipes.shards.folders import shard_names
from toolrlef_data.recipes.shards.numbers import Shard, find_shard
from toolrlef_data.records import InputError


def slurm(task: int, first: int, last: int, count: int | None = None) -> dict[str, str]:
    values = {"ID": task, "MIN": first, "MAX": last, "COUNT": last - first + 1 if count is None else count}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("0/1", {}, Shard(0, 1)),
        ("63/64", {}, Shard(63, 64)),
        ("3/64", slurm(7, 0, 9), Shard(3, 64)),  # the command counts, not the scheduler
        (None, slurm(0, 0, 3), Shard(0, 4)),
        (None, slurm(4, 1, 4), Shard(3, 4)),  # an array that begins at 1
        (None, slurm(12, 10, 12), Shard(2, 3)),
        ("/4", slurm(4, 1, 4), Shard(3, 4)),
        ("/8", {"JOB_COMPLETION_INDEX": "0"}, Shard(0, 8)),
        ("/8", {"JOB_COMPLETION_INDEX": "7", **slurm(1, 0, 7)}, Shard(7, 8)),
    ],
)
def test_a_shard_is_found(text: str | None, environment: dict[str, str], expected: Shard) -> None:
    assert find_shard(text, environment) == expected


@pytest.mark.parametrize(
    ("text", "environment", "words"),
    [
        ("64/64", {}, "I from 0 to N-1.*found 64/64"),
        ("0/0", {}, "found 0/0"),
        ("3", {}, "expected --shard I/N"),
        ("-1/4", {}, "expected --shard I/N"),
        ("a/b", {}, "found 'a/b'"),
        ("1/2/3", {}, "expected --shard I/N"),
        (None, {}, "SLURM_ARRAY_TASK_ID .Slurm. is not set"),
        ("/4", {}, "JOB_COMPLETION_INDEX .Kubernetes. or SLURM_ARRAY_TASK_ID"),
        ("/4", {"JOB_COMPLETION_INDEX": "4"}, "found 4/4"),
        ("/4", {"JOB_COMPLETION_INDEX": ""}, "JOB_COMPLETION_INDEX must be a number, found ''"),
        (None, {"JOB_COMPLETION_INDEX": "4"}, "in a Kubernetes job /N, as in --shard /64"),  # it does not say how many
        (None, slurm(3, 3, 7, count=2), "has 2 tasks, and thus gaps"),  # --array=3,7
        (None, slurm(2, 0, 6, count=4), "and thus gaps"),  # --array=0-6:2
        ("/64", slurm(3, 3, 4), "the Slurm array has 2 tasks"),  # some shards again
        (None, {"SLURM_ARRAY_TASK_ID": "3"}, "SLURM_ARRAY_TASK_MIN must be a number"),
    ],
)
def test_an_unclear_number_is_refused(text: str | None, environment: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        find_shard(text, environment)


@pytest.mark.parametrize("total", [0, 1, 63, 64, 65, 1000])
@pytest.mark.parametrize("count", [1, 3, 64])
def test_ranges_have_each_row_once_in_order(total: int, count: int) -> None:
    ranges = [Shard(index, count).rows(total) for index in range(count)]
    assert [row for rows in ranges for row in rows] == list(range(total))
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


def test_many_missing_shards_are_named_briefly() -> None:
    assert shard_names([7, 1, 2, 3]) == "1-3, 7"
    assert shard_names(list(range(0, 4000, 2))).endswith("22, and 1988 more")
