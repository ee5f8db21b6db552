"""What both response commands do: prompts from a file of raw rows, and the same rows with responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolrlef_data.cli.console import print_line
from toolrlef_data.cli.trice.reports import check_any, print_missing, print_written
from toolrlef_data.records import NO_RESPONSE_ERRORS

if TYPE_CHECKING:
    from toolrlef_data.tasks.task import Task
    from toolrlef_data.trice.responders import Responder

__all__ = ["example_path", "read_examples", "write_responses"]


def write_responses(
    input: Path,
    output: Path,
    task: Task,
    responder: Responder,
    fields: Sequence[str],
    *,
    again: bool,
    drop_cut: bool,
    instruction: str = "",
) -> None:
    """Write the rows of a file with a responder's responses.

    Args:
        input: file of raw rows.
        output: file to write.
        task: the task of all rows, with the few-shot examples.
        responder: the model.
        fields: the fields that contain the response.
        again: whether to replace the rows that the output already has.
        drop_cut: whether to leave out replies that were cut off or are empty, which the original writes.
        instruction: the instruction of the prompts; default: the task's.
    """
    from toolrlef_data.trice.files.step_tables import parse_rows, prompt_table, response_row
    from toolrlef_data.trice.files.steps import open_step, write_rows
    from toolrlef_data.trice.reply_check import text_as_original
    from toolrlef_data.trice.responders import respond

    needs, adds = ("id", "input|question|instruction"), ("id", "|".join(fields))
    step = open_step(input, output, again=again, needs=needs, adds=adds)
    new: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    n_cut = 0
    if step.remaining:
        entries = parse_rows(input, step.remaining, "question", task)
        table = prompt_table(task, entries, instruction or task.instruction)
        responded = respond(table, [responder], task=task)
        responses = {row["id"]: row[responder.name] for row in responded.select_columns(["id", responder.name])}
        for row, entry in zip(step.remaining, entries, strict=True):
            response = responses[entry.id]
            text = response["text"] if drop_cut else text_as_original(response)
            n_cut += response["error"] in NO_RESPONSE_ERRORS
            if text is None:
                missing[row.id] = response["error"]
            else:
                new[row.id] = response_row(row.row, entry, task.name, dict.fromkeys(fields, text))
    result = [_with_fields(row, fields) for row in step.in_order(new)]
    check_any(len(result), output, missing)
    write_rows(output, result)
    print_written({"questions": len(step.rows), "  new responses": len(new)}, (output, len(result)))
    if n_cut and not drop_cut:
        print_line(f"Replies that were cut off or are empty, and are in the file as in the original: {n_cut:,}")
    print_missing(missing)


def _with_fields(row: dict[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """Return a row of the original's script, which writes one field, with all fields that contain the response."""
    text = next(row[name] for name in fields if row.get(name) is not None)
    return {**row, **{name: text for name in fields if row.get(name) is None}}


def example_path(task: Task, path: Path) -> Path:
    """Return the file of few-shot examples at a path: the path, or {task}.json in a folder, in the original's spelling.

    >>> from toolrlef_data.tasks import TASKS
    >>> example_path(TASKS["math"], Path("examples.jsonl"))
    PosixPath('examples.jsonl')
    """
    from toolrlef_data.trice.files.names import UPSTREAM_TASKS

    if not path.is_dir():
        return path
    files = [path / f"{name}.json" for name in (task.name, UPSTREAM_TASKS.get(task.name, task.name))]
    return next((file for file in files if file.is_file()), files[0])


def read_examples(task: Task, path: Path) -> tuple[Task, str]:
    """Return a task with the few-shot examples at a path (see `example_path`), and the instruction of the first one."""
    from toolrlef_data.tasks.task import Example
    from toolrlef_data.trice.files.steps import read_rows

    file = example_path(task, path)
    rows = read_rows(file, needs=("instruction", "input", "output"))
    print_line(f"Few-shot examples: {file}")
    examples = [Example(row.row["input"], "", row.row["output"], "") for row in rows]
    return replace(task, examples={"": examples}), str(rows[0].row["instruction"])
