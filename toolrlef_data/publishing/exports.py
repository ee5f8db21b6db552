"""Export samples to the training files of ToolLLaMA, TRL, axolotl and OpenAI.

| format | input table | file |
|---|---|---|
| toolllama | `TOOLLLAMA` | ToolBench's training file: one JSON array of {id, conversations: [{from, value}]} |
| trl | `TRAJECTORIES` | {prompt: messages, completion: [message], tools}; one line per trained message |
| axolotl | `TRAJECTORIES` | {messages, tools}; every message has `train` |
| openai | `TRAJECTORIES` | {messages, tools}; every assistant message has `weight` 0 or 1 |
| trl_preference | `PAIRS` | {prompt, chosen, rejected, tools} |

All formats except toolllama are JSON Lines without null values. A message without content gets "", because chat
templates concatenate it unchecked; only openai omits the content of a message with calls. Every format marks the
trained messages explicitly. Sources:

- trl: https://huggingface.co/docs/trl/dataset_formats (tool calling, prompt-completion, preference). TRL has no
  training flag per message, so a merged sample yields one line per target. Most templates render arguments with
  `tojson`, which would quote a string; therefore arguments are objects, as in `tokenise`.
- axolotl: https://docs.axolotl.ai/docs/dataset-formats/conversation.html. The configuration needs
  `type: chat_template`, `message_field_training: train`, `roles_to_train: []` and `train_on_eos: turn`. axolotl parses
  the arguments.
- openai: https://platform.openai.com/docs/guides/supervised-fine-tuning. Arguments are text, an assistant message with
  calls needs no content, and `tools` is omitted where there are none.

A row that does not fit the format is an error, or with `unfit="drop"` an entry of a ledger beside the file:

| reason | cause |
|---|---|
| no_flag | the value of `train` is null in a message |
| no_target | no message has the train flag |
| not_assistant | a message of another role has the train flag |
| no_prompt | the prompt is empty |
| no_reply | `chosen` or `rejected` is empty |
| unpaired_call | a result has no call before it; openai: or a call before the last message has no result |
| bad_tools | `tools` is not a JSON list of functions |
| bad_arguments | arguments are not JSON, or not one object where the format needs it |
| not_json | a value has no JSON form (NaN) |
| not_unicode | a text has an unpaired surrogate, which UTF-8 cannot encode |

Not covered: `input_ids` and labels (see `tokenise`), tables of questions and responses.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from datasets import Dataset

from toolrlef_data.checks import check_table
from toolrlef_data.columns import DROPPED
from toolrlef_data.publishing.export_messages import check_results, plain_messages, target_indices, tools_of
from toolrlef_data.records import InputError, MissingColumns, UnknownName, UnusableRow
from toolrlef_data.tables.files import atomic_file, create_folder, scratch_file
from toolrlef_data.tables.stage_cache import as_arrow

__all__ = ["EXPORTS", "Export", "export", "pending_export"]

Row = Mapping[str, Any]
Record = dict[str, Any]

ARGUMENTS = ("text", "object")
UNFIT = ("refuse", "drop")
BATCH_ROWS = 16  # a row has about 10 kB, and can have several MB
log = logging.getLogger("toolrlef_data")


@dataclass(frozen=True, slots=True)
class Export:
    """An export format.

    Args:
        columns: columns that the table must have.
        records: function of a row and one of `ARGUMENTS` that returns the row's records.
        array: whether the file is one indented JSON array instead of JSON Lines.
        arguments: the supported values of `ARGUMENTS`; the first is the default.
    """

    columns: tuple[str, ...]
    records: Callable[[Row, str], list[Record]]
    array: bool = False
    arguments: tuple[str, ...] = ("text",)


def export(
    samples: Dataset, format: str, path: str | Path, *, arguments: str | None = None, unfit: str = "refuse"
) -> Path:
    """Write one split to a training file in a trainer's format, atomically.

    Args:
        samples: one split, with the columns of the format.
        format: one of `EXPORTS`.
        path: the file to write; an existing file is replaced.
        arguments: form of the call arguments. "object" (default of the TRL formats): parsed, for templates that render
            them; arguments that are not a JSON object do not fit. "text" (the only form of the other formats): as the
            model wrote them.
        unfit: treatment of rows that do not fit the format. "refuse" (default): raise an error. "drop": write the row
            to the ledger "<path>.dropped.jsonl" (`columns.DROPPED`).

    Returns:
        The path.

    Raises:
        InputError: a row does not fit the format, or with `unfit="drop"` none does; the path is not a file;
            `samples` is not a single split.
        MissingColumns: the table lacks columns of the format; the message lists the formats that fit it.
        UnknownName: an unknown format or option.

    >>> import tempfile
    >>> hi = {"role": "user", "content": "Hi", "train": False}
    >>> yes = {"role": "assistant", "content": "Yes?", "train": True}
    >>> samples = Dataset.from_list([{"messages": [hi, yes], "tools": "[]"}])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(export(samples, "openai", f"{folder}/train.jsonl").read_text(), end="")
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?", "weight": 1}]}
    """
    with pending_export(samples, format, path, arguments=arguments, unfit=unfit) as written:
        return written


@contextlib.contextmanager
def pending_export(
    samples: Dataset, format: str, path: str | Path, *, arguments: str | None = None, unfit: str = "refuse"
) -> Iterator[Path]:
    """Export like `export`, but replace the file only if the block ends without an error; else nothing is left."""
    spec = _check_options(samples, format, arguments, unfit)
    path = Path(path).resolve()  # replace the target of a link, not the link
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a folder or a device; expected the path of a file")
    ledger = path.with_name(f"{path.name}.dropped.jsonl")
    with create_folder(path.parent), atomic_file(path) as new_file, scratch_file(path.parent) as new_ledger:
        with open(new_file, "wb") as file, open(new_ledger, "wb") as ledger_file:
            n_dropped = _write(
                samples, format, spec, arguments or spec.arguments[0], file, ledger_file if unfit == "drop" else None
            )
        yield path
        if n_dropped:
            log.warning("%s: %d of %d rows do not fit %s: see %s", path.name, n_dropped, len(samples), format, ledger)
            os.replace(new_ledger, ledger)
    if not n_dropped:
        ledger.unlink(missing_ok=True)  # the ledger of the replaced file


def _check_options(samples: Dataset, format: str, arguments: str | None, unfit: str) -> Export:
    """Return the format's `Export`, or raise the errors of `export` that do not depend on a row."""
    options = (("format", format, EXPORTS), ("form of arguments", arguments, ARGUMENTS), ("unfit", unfit, UNFIT))
    for kind, value, choices in options:
        if value not in choices and (kind, value) != ("form of arguments", None):
            raise UnknownName(kind, str(value), choices)
    if not isinstance(samples, Dataset):
        raise InputError(f"export expects one Dataset, found a {type(samples).__name__}: pass one of its splits")
    check_table(samples)
    spec = EXPORTS[format]
    if missing := [name for name in spec.columns if name not in samples.column_names]:
        fitting = [name for name, other in EXPORTS.items() if set(other.columns) <= set(samples.column_names)]
        raise MissingColumns(
            f"the format {format!r} needs the columns {', '.join(spec.columns)}; this table lacks "
            f"{', '.join(missing)}; formats that fit it: {', '.join(fitting) or '(none)'}"
        )
    if arguments not in (None, *spec.arguments):
        raise InputError(f"the format {format!r} supports arguments as text only: omit arguments=")
    return spec


def _write(
    samples: Dataset, format: str, spec: Export, arguments: str, file: IO[bytes], ledger: IO[bytes] | None
) -> int:
    """Write the records of all rows and return the number of dropped rows."""
    n_written = n_dropped = 0
    for number, row in enumerate(_rows(samples, spec.columns)):
        try:
            texts = [_encode(record, spec.array) for record in spec.records(row, arguments)]
        except UnusableRow as error:
            if ledger is None:
                name = f"row {number} ({row['id']})" if "id" in row else f"row {number}"
                hint = "unfit='drop' drops these rows and records the reasons"
                raise InputError(f"{name} does not fit the format {format!r}: {error} ({hint})") from error
            drop = {**row, "stage": f"export_{format}", "reason": error.reason, "detail": error.detail}
            ledger.write(json.dumps({name: drop.get(name) for name in DROPPED}).encode() + b"\n")
            n_dropped += 1
            continue
        for text in texts:
            prefix, suffix = (b",\n    " if n_written else b"[\n    ", b"") if spec.array else (b"", b"\n")
            file.write(prefix + text + suffix)
            n_written += 1
    if n_dropped and not n_written:
        raise InputError(
            f"none of the {n_dropped} rows fits the format {format!r}; the reason of the last one: {drop['detail']}"
        )
    if spec.array:
        file.write(b"\n]" if n_written else b"[]")
    return n_dropped


def _rows(samples: Dataset, columns: Sequence[str]) -> Iterator[Record]:
    ledger_columns = [name for name in ("id", "task", "dataset") if name in samples.column_names]
    for table in as_arrow(samples, [*ledger_columns, *columns]).iter(BATCH_ROWS):
        yield from table.to_pylist()


def _encode(record: Record, indented: bool) -> bytes:
    """Return a record as `json.dump` writes it: on one line, or as an entry of an indented array."""
    try:
        if not indented:
            return json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
        return json.dumps(record, ensure_ascii=False, indent=4).replace("\n", "\n    ").encode()
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        raise UnusableRow("not_unicode", f"a text has the unpaired surrogate U+{code:04X}") from None
    except ValueError as error:
        raise UnusableRow("not_json", str(error)) from None


def _toolllama(row: Row, arguments: str) -> list[Record]:
    turns = [{"from": turn["from"], "value": turn["value"]} for turn in row["conversations"]]
    return [{"id": row["name"], "conversations": turns}]


def _trl(row: Row, arguments: str) -> list[Record]:
    targets = target_indices(row["messages"])
    if targets[0] == 0:
        raise UnusableRow("no_prompt", "the first message has the train flag, so its prompt is empty")
    messages, tools = plain_messages(row["messages"], arguments), tools_of(row)
    return [{"prompt": messages[:n], "completion": [messages[n]], "tools": tools} for n in targets]


def _axolotl(row: Row, arguments: str) -> list[Record]:
    targets = target_indices(row["messages"])
    messages = [
        {**message, "train": n in targets} for n, message in enumerate(plain_messages(row["messages"], arguments))
    ]
    for call in (call for message in messages for call in message.get("tool_calls", ())):
        try:
            json.loads(text := call["function"]["arguments"])  # axolotl fails on arguments that it cannot parse
        except (ValueError, TypeError, RecursionError):
            raise UnusableRow("bad_arguments", f"arguments are not JSON: {text!r:.80}") from None
    return [{"messages": messages, "tools": tools_of(row)}]


def _openai(row: Row, arguments: str) -> list[Record]:
    targets, messages = target_indices(row["messages"]), plain_messages(row["messages"], arguments, pad_content=False)
    check_results(messages, all_answered=True)
    for n, message in enumerate(messages):
        if message["role"] == "assistant":
            message["weight"] = int(n in targets)
    tools = tools_of(row)
    return [{"messages": messages, "tools": tools} if tools else {"messages": messages}]


def _trl_preference(row: Row, arguments: str) -> list[Record]:
    for side in ("prompt", "chosen", "rejected"):
        if not row[side]:
            raise UnusableRow("no_prompt" if side == "prompt" else "no_reply", f"{side} has no message")
        other_roles = {message["role"] for message in row[side]} - {"assistant"}
        if other_roles and side != "prompt":
            raise UnusableRow("not_assistant", f"{side} has messages of the role {', '.join(sorted(other_roles))}")
    sides = {side: plain_messages(row[side], arguments) for side in ("prompt", "chosen", "rejected")}
    return [{**sides, "tools": tools_of(row)}]


EXPORTS: dict[str, Export] = {
    "axolotl": Export(("messages", "tools"), _axolotl),
    "openai": Export(("messages", "tools"), _openai),
    "toolllama": Export(("name", "conversations"), _toolllama, array=True),
    "trl": Export(("messages", "tools"), _trl, arguments=("object", "text")),
    "trl_preference": Export(("prompt", "chosen", "rejected", "tools"), _trl_preference, arguments=("object", "text")),
}
