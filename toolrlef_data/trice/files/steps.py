"""One JSON Lines file of a step: read completely, continued by ids, and replaced in one piece.

Each of the original's scripts reads one file and writes another, line by line. Here a file is written beside its place
and then renamed, so that a killed process leaves the old file or the new one. A file that the original's script left
half-way is continued by the ids in it; an incomplete last line is written again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from toolrlef_data.records import Drop, InputError
from toolrlef_data.tables.files import SCRATCH, scratch_file
from toolrlef_data.trice.files.folder import Line, read_lines

__all__ = ["Step", "StepRow", "describe", "open_step", "read_rows", "unfinished_rows", "write_rows"]

Row = dict[str, Any]
REASONS = {
    "not_json": "not a complete JSON object",
    "not_a_row": "not a JSON object",
    "not_unicode": "a text with an unpaired surrogate",
}
OUTPUT = f"{SCRATCH}output-"  # the start of the names of locked scratch files
log = logging.getLogger("toolrlef_data")


class StepRow(NamedTuple):
    """A row of a step's file, and its position, such as "data/raw/math/GSM8K_wrong.json, line 3"."""

    position: str
    row: Row

    @property
    def id(self) -> str:
        """The id as text."""
        return str(self.row["id"])


def read_rows(
    path: Path, *, needs: Sequence[str] = ("id",), hint: str = "", may_be_empty: bool = False
) -> list[StepRow]:
    """Read the rows of a file.

    Args:
        path: the file.
        needs: the fields that every row must have; for a choice of fields, their names with "|" in between.
        hint: which command writes such a file, for the error message; default: "".
        may_be_empty: whether a file without rows is accepted; default: False.

    Raises:
        InputError: the file is missing, unreadable or empty, a line is not a JSON object with these fields, or two rows
            have the same id. The message names the file and the line.

    >>> Path("wrong.json").write_text('{"id": "GSM8K-1"}\\n{"id": "GSM8K-2"')
    34
    >>> read_rows(Path("wrong.json"))
    Traceback (most recent call last):
    toolrlef_data.records.InputError: wrong.json, line 2: not a complete JSON object: '{"id": "GSM8K-2"'
    """
    lines = _lines(path, hint)
    if not lines and not may_be_empty:
        raise InputError(f"{path}: the file has no rows{f'; {hint}' if hint else ''}")
    return _checked(lines, needs)


def unfinished_rows(path: Path, *, needs: Sequence[str] = ("id",)) -> list[StepRow]:
    """Read the rows of a file that an interrupted process may have left; without an incomplete last line.

    Args:
        path: the file; a missing one has no rows.
        needs: as in `read_rows`.

    Raises:
        InputError: as in `read_rows`, except for the last line.
    """
    if not path.exists():
        return []
    lines = _lines(path)
    if not lines:
        return []
    data = path.read_bytes()
    if isinstance(lines[-1].row, Drop) and lines[-1].row.reason == "not_json" and not data.endswith(b"\n"):
        log.warning("%s: incomplete, as after an interruption: this row is written again", lines[-1].position)
        lines.pop()
    return _checked(lines, needs)


def describe(row: StepRow, problem: str) -> str:
    """Return an error message about a row: its position, the problem, and the fields that it has."""
    return f"{row.position}: {problem}; found the fields {', '.join(row.row) or '(none)'}"


class Step(NamedTuple):
    """A step: the rows of its input, and the rows that its output already has.

    Args:
        rows: the input.
        old: the output of an interrupted run.
        remaining: the input rows whose ids the output lacks.
    """

    rows: list[StepRow]
    old: list[StepRow]
    remaining: list[StepRow]

    def in_order(self, new: Mapping[str, Row]) -> list[Row]:
        """Return the rows of the output, in the order of the input, so that it equals that of an uninterrupted run.

        Args:
            new: id -> new row; an input row that is neither old nor new is missing in the result. Old rows whose ids
                the input lacks come first.

        >>> rows = [StepRow("", {"id": name}) for name in "abc"]
        >>> step = Step(rows, [StepRow("", {"id": "b", "tool": 1})], [rows[0], rows[2]])
        >>> step.in_order({"a": {"id": "a", "tool": 2}})
        [{'id': 'a', 'tool': 2}, {'id': 'b', 'tool': 1}]
        """
        known = {**new, **{row.id: row.row for row in self.old}}
        ids = dict.fromkeys(row.id for row in self.rows)
        others = [row.row for row in self.old if row.id not in ids]
        return [*others, *(known[row_id] for row_id in ids if row_id in known)]


def open_step(
    input: Path, output: Path, *, again: bool, needs: Sequence[str], adds: Sequence[str], hint: str = ""
) -> Step:
    """Read the input of a step, and the rows that its output already has.

    Args:
        input: the file that the step reads.
        output: the file that the step writes.
        again: whether to ignore the rows of `output`, which the step then replaces.
        needs: the fields that the rows of `input` must have, as in `read_rows`.
        adds: the fields that the rows of `output` must have.
        hint: as in `read_rows`.

    Raises:
        InputError: as in `read_rows`, or both files are the same.
    """
    if input.resolve() == output.resolve():
        raise InputError(f"{output} is both the input and the output: name another output")
    if output.is_dir():
        raise InputError(f"{output} is a folder: name a file")
    rows = read_rows(input, needs=needs, hint=hint)
    old = [] if again else unfinished_rows(output, needs=adds)
    done = {row.id for row in old}
    return Step(rows, old, [row for row in rows if row.id not in done])


def to_line(row: Mapping[str, Any]) -> str:
    """Return a row as a line of the original's files, with a line break.

    >>> to_line({"question": "¿Dónde?"})
    '{"question": "¿Dónde?"}\\n'
    """
    return json.dumps(row, ensure_ascii=False) + "\n"


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace a file, or the target of a link, by rows; an interruption leaves the old file."""
    with _output_file(path.resolve()) as scratch, open(scratch, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(map(to_line, rows))


@contextlib.contextmanager
def _output_file(path: Path) -> Iterator[Path]:
    """Like `atomic_file`, and remove the scratch files that killed processes left in the folder.

    A scratch file is locked as long as its process lives. A file system without locks keeps all of them.
    """
    import fcntl  # POSIX only

    with scratch_file(path.parent, OUTPUT) as scratch, contextlib.ExitStack() as stack:
        while not scratch.exists():  # another process may remove it until it is locked
            file = stack.enter_context(open(scratch, "wb"))
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        for other in path.parent.glob(f"{OUTPUT}*"):
            if other != scratch:
                with contextlib.suppress(OSError), open(other, "rb") as old:
                    fcntl.flock(old, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an error while its process lives
                    other.unlink()
        yield scratch
        os.replace(scratch, path)


def _lines(path: Path, hint: str = "") -> list[Line]:
    if not path.is_file():
        problem = "is a folder, not a file" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {problem}{f'; {hint}' if hint else ''}")
    lines, _ = read_lines(path, str(path))
    for n, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n")[:-1], start=1):
        if not line.strip():
            log.warning("%s, line %d: empty, skipped", path, n)
    return lines


def _checked(lines: Iterable[Line], needs: Sequence[str]) -> list[StepRow]:
    positions: dict[str, str] = {}
    rows = []
    for line in lines:
        if isinstance(line.row, Drop):
            what = REASONS.get(line.row.reason, line.row.reason)
            raise InputError(f"{line.position}: {what}: {line.row.detail!r}")
        row = StepRow(line.position, line.row)
        for choice in needs:
            if not any(line.row.get(name) is not None for name in choice.split("|")):
                raise InputError(describe(row, f"expected the field {' or '.join(choice.split('|'))}"))
        if "id" in needs:
            if not isinstance(line.row["id"], (str, int)) or not row.id.strip():
                raise InputError(f"{line.position}: the id must be a text, found {line.row['id']!r:.80}")
            if (first := positions.setdefault(row.id, line.position)) != line.position:
                raise InputError(f"{line.position}: the id {row.id!r} is also in {first}; remove one of the two rows")
        rows.append(row)
    return rows
