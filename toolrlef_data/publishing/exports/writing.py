"""Files: `export` writes one split as a training file of a trainer's format, and a ledger beside it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from datasets import Dataset

from toolrlef_data.checks import as_path
from toolrlef_data.publishing.exports.conversion import Plan, Record, convert_rows, ledger_row, none_fits, plan_export
from toolrlef_data.publishing.exports.llamafactory import dataset_entry
from toolrlef_data.records import Drop, InputError
from toolrlef_data.tables.files import atomic_file, create_folder, scratch_file
from toolrlef_data.tasks.task import Task

__all__ = ["export", "pending_export"]

INFO = "dataset_info.json"
log = logging.getLogger("toolrlef_data")


def export(
    samples: Dataset,
    format: str,
    path: str | Path,
    *,
    style: str | None = None,
    calls: str | None = None,
    arguments: str | None = None,
    pairs: str | None = None,
    min_gap: float | None = None,
    score_range: float | None = None,
    task: Task | Mapping[str, Task] | None = None,
    unfit: str = "refuse",
    tokenizer: str | None = None,
    check_with: str | None = None,
) -> Path:
    """Write one split to a training file in a trainer's format, atomically, and log the length of its longest row.

    Args:
        samples: one split of stage 1, stage 2, trajectories or preference pairs, with the columns of the format.
        format: one of `EXPORTS`.
        path: the file to write; an existing file is replaced. The format "llamafactory" also writes the entry of the
            file in `dataset_info.json` in the same folder.
        style: prompt style of the TRL formats and "rrhf" for stage 1 and stage 2: "chat" (default), "alpaca",
            "completion" or "vicuna". A prompt has no few-shot examples.
        calls: stage 1 and stage 2: "text" (default), or "native": calls in the field `tool_calls`, with the schema of
            the task's tool in `tools`.
        arguments: form of the call arguments. "object" (default of the TRL formats): parsed, for templates that render
            them; arguments that are not a JSON object do not fit. "text" (the only form of the other formats): as the
            model wrote them.
        pairs: pairs of a row of stage 2. "best" (default): the best and the worst response; "adjacent": each response
            and the next one in rank; "all". Equal scores and equal texts are never a pair.
        min_gap: the smallest difference of the scores of a pair; default 0.
        score_range: the difference of scores that is the margin 1; default 20, that of the rules of this package.
        task: one task for all rows, or a mapping of names to tasks; default: the task named in each row. Native calls
            name its tool.
        unfit: treatment of rows that do not fit the format. "refuse" (default): raise an error. "drop": write the row
            to the ledger "<path>.dropped.jsonl" (`columns.DROPPED`). Rows of stage 2 without a pair, and responses
            without a label, are written to the ledger in any case.
        tokenizer: model whose tokens are counted, as in `tokenise`; default: none, characters are counted.
        check_with: model whose chat template renders each record. A record whose target it does not train, or not
            completely, does not fit; a text that it adds before replies is in a warning. Default: no check.

    Returns:
        The path.

    Raises:
        InputError: a row does not fit the format, or with `unfit="drop"` none does; the path is not a file;
            `samples` is not a single split.
        MissingColumns: the table lacks columns of the format; the message lists the formats that fit it.
        UnknownName: an unknown format or option.

    >>> import tempfile
    >>> row = {"instruction": "You can use a calculator.", "input": "3 * 19?", "output": "calculator(3*19)"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = export(Dataset.from_list([row]), "trl", f"{folder}/train.jsonl", style="completion")
    ...     print(path.read_text(), end="")
    {"prompt": "You can use a calculator.\\n\\nQuestion: 3 * 19?\\nAnswer:", "completion": " calculator(3*19)"}
    """
    given: dict[str, Any] = {"style": style, "calls": calls, "arguments": arguments, "pairs": pairs}
    given |= {"min_gap": min_gap, "score_range": score_range, "task": task}
    given |= {"unfit": unfit, "tokenizer": tokenizer, "check_with": check_with}
    with pending_export(samples, format, path, **given) as written:
        return written


@contextlib.contextmanager
def pending_export(samples: Dataset, format: str, path: str | Path, **options: Any) -> Iterator[Path]:
    """Export like `export`, but replace the file only if the block ends without an error; else nothing is left."""
    plan = plan_export(samples, format, **options)
    path = as_path("path", path).resolve()  # replace the target of a link, not the link
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a folder or a device; expected the path of a file")
    if plan.spec.has_entry and path.name == INFO:
        raise InputError(f"{path} is the list of LLaMA-Factory's files: choose another name")
    ledger = path.with_name(f"{path.name}.dropped.jsonl")
    with create_folder(path.parent), atomic_file(path) as new_file, scratch_file(path.parent) as new_ledger:
        with open(new_file, "wb") as file, open(new_ledger, "wb") as ledger_file:
            n_dropped, first = _write(samples, plan, file, ledger_file)
        entry = {path.stem: dataset_entry(path.name, first)} if plan.spec.has_entry and first is not None else {}
        _dataset_info(path.parent, entry)  # raises before the file is replaced
        yield path
        if entry:
            with atomic_file(path.with_name(INFO)) as new_info:
                new_info.write_text(_dataset_info(path.parent, entry), "utf-8")
        if n_dropped:
            text = "%s: %d of %d rows do not fit %s, completely or in part: see %s"
            log.warning(text, path.name, n_dropped, len(samples), format, ledger)
            os.replace(new_ledger, ledger)
    if not n_dropped:
        ledger.unlink(missing_ok=True)  # the ledger of the replaced file
    plan.meter.report(format, path.name)


def _write(samples: Dataset, plan: Plan, file: IO[bytes], ledger: IO[bytes]) -> tuple[int, Record | None]:
    """Write the records of all rows; return the number of rows with a drop, and the first record."""
    n_written = n_dropped = 0
    first: Record | None = None
    for row, outcomes in convert_rows(samples, plan):
        for record, text in outcomes:
            if isinstance(record, Drop):
                drop = ledger_row(row, record, plan)
                ledger.write(json.dumps(drop).encode() + b"\n")
                continue
            prefix, suffix = (b",\n    " if n_written else b"[\n    ", b"") if plan.spec.array else (b"", b"\n")
            file.write(prefix + text + suffix)
            first = first or record
            n_written += 1
        n_dropped += any(isinstance(record, Drop) for record, _ in outcomes)
    if n_dropped and not n_written:
        raise none_fits(drop, plan.format)
    if plan.spec.array:
        file.write(b"\n]" if n_written else b"[]")
    return n_dropped, first


def _dataset_info(folder: Path, entry: Mapping[str, Any]) -> str:
    """Return the text of `dataset_info.json` in a folder with another entry; the other entries stay."""
    if not entry:
        return ""
    info_path = folder / INFO
    try:
        info = json.loads(info_path.read_text("utf-8")) if info_path.exists() else {}
    except ValueError as error:
        raise InputError(f"{info_path} is not JSON: {error}") from None
    if not isinstance(info, dict):
        raise InputError(f"{info_path}: expected a JSON object with an entry for each file")
    for name, described in entry.items():
        other = info.get(name, described)
        if not isinstance(other, dict) or other.get("file_name") != described["file_name"]:
            raise InputError(f"{info_path} has an entry {name!r} of other data: choose another file name")
    return json.dumps({**info, **entry}, indent=2, ensure_ascii=False) + "\n"
