"""The number of a shard: from the command, or from the variables of Slurm or Kubernetes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from toolrlef_data.records import InputError

__all__ = ["Shard", "find_shard"]

INDEX, TASK = "JOB_COMPLETION_INDEX", "SLURM_ARRAY_TASK_"
FORMS = "--shard I/N with I from 0 to N-1, such as --shard 3/64"


@dataclass(frozen=True)
class Shard:
    """One of `count` contiguous ranges of the rows.

    Args:
        index: its number, from 0 to `count` - 1.
        count: the number of shards.

    >>> str(Shard(3, 64)), Shard(3, 64).rows(1000)
    ('3/64', range(46, 62))
    """

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def name(self) -> str:
        """The part of file names that identifies the shard."""
        return f"{self.index:05d}-of-{self.count:05d}"

    def rows(self, total: int) -> range:
        """Return the numbers of its rows in a table of `total` rows; the sizes of two shards differ by at most one."""
        return range(total * self.index // self.count, total * (self.index + 1) // self.count)


def find_shard(text: str | None, environment: Mapping[str, str]) -> Shard:
    """Return the shard that a command or a scheduler names.

    Args:
        text: "I/N"; "/N" for the index of a Kubernetes job or of a Slurm array with N tasks; None for a Slurm array.
        environment: the environment variables. A Slurm array may begin at any number and has no gaps.

    Raises:
        InputError: the text has another form, the number is out of range, or the variables are missing or have gaps.

    >>> find_shard("3/64", {})
    Shard(index=3, count=64)
    >>> find_shard("/64", {"JOB_COMPLETION_INDEX": "5"})
    Shard(index=5, count=64)
    """
    match = re.fullmatch(r"(\d*)/(\d+)", text or "")
    if text is not None and match is None:
        raise InputError(f"--shard: expected {FORMS}, found {text!r:.80}")
    index, count = match.groups() if match is not None else ("", "")
    if index:
        shard = Shard(int(index), int(count))
    elif count and INDEX in environment:
        shard = Shard(_number(INDEX, environment), int(count))
    elif f"{TASK}ID" in environment:
        shard = _slurm_shard(environment)
        if count and shard.count != int(count):
            raise InputError(
                f"--shard /{count}: the Slurm array has {shard.count} tasks. For a part of the shards, name each: "
                f"--shard $SLURM_ARRAY_TASK_ID/{count} in an array that begins at 0"
            )
    else:
        missing = f"{INDEX} (Kubernetes) or {TASK}ID (Slurm)" if count else f"{TASK}ID (Slurm)"
        job = "; in a Kubernetes job /N, as in --shard /64" if INDEX in environment else ""
        raise InputError(f"no shard is named, and the variable {missing} is not set: pass {FORMS}{job}")
    if not 0 <= shard.index < shard.count:
        raise InputError(f"--shard: expected {FORMS}, found {shard}")
    return shard


def _slurm_shard(environment: Mapping[str, str]) -> Shard:
    first, last, count, task = (_number(f"{TASK}{name}", environment) for name in ("MIN", "MAX", "COUNT", "ID"))
    if last - first + 1 != count:
        raise InputError(
            f"the Slurm array from {first} to {last} has {count} tasks, and thus gaps: name each shard, as in "
            "--shard $SLURM_ARRAY_TASK_ID/64 for an array that is a part of 0-63"
        )
    return Shard(task - first, count)


def _number(name: str, environment: Mapping[str, str]) -> int:
    value = environment.get(name, "")
    if not value.isdecimal():
        raise InputError(f"the variable {name} must be a number, found {value!r:.80}: pass {FORMS}")
    return int(value)
