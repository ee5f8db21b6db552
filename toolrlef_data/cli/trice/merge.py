"""The command `merge`: right and wrong rows as stage 1, or several files as one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolrlef_data.cli.trice import flags
from toolrlef_data.cli.trice.reports import print_written
from toolrlef_data.records import InputError

if TYPE_CHECKING:
    from toolrlef_data.trice.files.steps import StepRow

__all__ = ["merge"]


def merge(
    output: Annotated[Path, typer.Option(help="File to write.")],
    right: Annotated[Path | None, typer.Option(help="File of right rows with the student's output.")] = None,
    wrong: Annotated[Path | None, typer.Option(help="File of wrong rows with their calls (tool).")] = None,
    mix: Annotated[bool, typer.Option("--mix", help="Join the files that follow, such as those of all data sets.")] = (
        False
    ),
    files: Annotated[list[Path] | None, typer.Argument(help="The files of --mix, in order.")] = None,
    gold: Annotated[
        Path | None, typer.Option(help="Also write the gold responses: the rows of stage 1 with id and answer.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Task of the rows. Default: named by the folder or the ids.")] = None,
) -> None:
    r"""Write stage 1 from the right rows and the wrong rows with calls, or join several files of one kind.

    Example:

    toolrlef-data trice merge --right data/raw/math/GSM8K_right.json \
    --wrong data/stage1/math/GSM8K_wrong.json \
    --output data/stage1/math/GSM8K.json
    """
    if mix:
        if right or wrong or gold or not files:
            raise InputError(
                "--mix joins the files that follow it: name at least one, without --right, --wrong, --gold"
            )
        _join(files, output)
    elif right is None or wrong is None or files:
        raise InputError("name both files: --right and --wrong, or files to join after --mix")
    else:
        _merge(right, wrong, output, gold, task)


def _merge(right: Path, wrong: Path, output: Path, gold: Path | None, task: str | None) -> None:
    """Write the rows of stage 1, and the gold responses if their file is named."""
    from toolrlef_data.tasks import TASKS
    from toolrlef_data.trice.files.names import find_task
    from toolrlef_data.trice.files.step_tables import gold_row, parse_rows, stage1_row, task_of_rows
    from toolrlef_data.trice.files.steps import read_rows, write_rows

    targets = [output, *([gold] if gold else [])]
    if len({path.resolve() for path in (right, wrong, *targets)}) < 2 + len(targets):
        raise InputError("the inputs and the outputs of merge must be different files")
    rows = {
        right: read_rows(
            right, needs=("id", "output|response"), may_be_empty=True, hint="the command answer writes it"
        ),
        wrong: read_rows(
            wrong, needs=("id", "tool"), may_be_empty=True, hint="the command generate-tool-api writes it"
        ),
    }
    if not any(rows.values()):
        raise InputError(f"{right} and {wrong} have no rows")
    positions = {row.id: row.position for row in rows[right]}
    for row in rows[wrong]:
        if row.id in positions:
            raise InputError(f"{row.position}: the id {row.id!r} is also in {positions[row.id]}: it is right or wrong")
    lines: list[dict[str, str]] = []
    gold_lines: list[dict[str, str]] = []
    for path, kind in ((right, "right"), (wrong, "tool")):
        if not rows[path]:
            continue
        found = TASKS[find_task(task, TASKS) if task else task_of_rows(path, rows[path], kind)]
        for row, entry in zip(rows[path], parse_rows(path, rows[path], kind, found), strict=True):
            text = row.row["tool"] if kind == "tool" else row.row.get("output") or row.row.get("response") or ""
            line = stage1_row(row, entry, found, text)
            lines.append(line)
            gold_lines.append(gold_row(line, row, entry, found))
    write_rows(output, lines)
    if gold:
        write_rows(gold, gold_lines)
    counts = {"stage 1": len(lines), "  right rows": len(rows[right]), "  wrong rows with a call": len(rows[wrong])}
    print_written(counts, *((path, len(lines)) for path in targets))


def _join(files: list[Path], output: Path) -> None:
    """Write the rows of files one after another; all rows must be of one kind."""
    from toolrlef_data.trice.files.steps import describe, read_rows, write_rows

    if output.resolve() in {path.resolve() for path in files}:
        raise InputError(f"{output} is both an input and the output: name another output")
    rows = {path: read_rows(path, needs=()) for path in files}
    first = rows[files[0]][0]
    kind = _kind(first)
    for row in (row for path in files for row in rows[path]):
        if _kind(row) != kind:
            raise InputError(describe(row, f"a row of {_kind(row)}, but {first.position} is a row of {kind}"))
    write_rows(output, (row.row for path in files for row in rows[path]))
    n_rows = sum(map(len, rows.values()))
    print_written({str(path): len(rows[path]) for path in files}, (output, n_rows))


def _kind(row: StepRow) -> str:
    """Return what a row is, by its fields."""
    fields = row.row.keys()
    if fields >= {"query", "responses", "scores"}:
        return "stage 2"
    if fields >= {"instruction", "input", "output"} and "question" not in fields:
        return "gold responses" if "id" in fields else "stage 1"
    if "id" in fields and fields & {"question", "instruction"}:
        return "responses" if "response" in fields else "calls" if "tool" in fields else "questions"
    return "an unknown kind"


if __name__ == "__main__":
    flags.run_command(merge)
