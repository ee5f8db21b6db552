r"""exports: one canonical record, as the training files of many trainers.

| format | table | a line, or an entry |
|---|---|---|
| toolllama | `TOOLLLAMA` | upstream's own file, one JSON array of {id, conversations: [{from, value}]} |
| trl | `TRAJECTORIES` | {prompt: messages, completion: [message], tools}: one a message that is trained |
| axolotl | `TRAJECTORIES` | {messages, tools}, every message with `train` |
| openai | `TRAJECTORIES` | {messages, tools}, every message of the assistant with `weight` 0 or 1 |
| trl_preference | `PAIRS` | {prompt, chosen, rejected, tools} |

All but the first are JSON Lines; keys without a value are left out. A message always has a content, if need be "", to
which templates add without a look. What is trained is said of every message: no trainer has to guess it. Sources:

- trl: https://huggingface.co/docs/trl/dataset_formats (tool calling, prompt-completion, preference). It has no flags a
  message, so a merged sample gives a line for each of its targets. Most templates write arguments with `tojson`, which
  puts a text into quotes once more: they are objects, as in `tokenise`.
- axolotl: https://docs.axolotl.ai/docs/dataset-formats/conversation.html. Its configuration has to say `type:
  chat_template`, `message_field_training: train`, `roles_to_train: []` and `train_on_eos: turn`. It parses arguments.
- openai: https://platform.openai.com/docs/guides/supervised-fine-tuning; arguments are text, a message that calls needs
  no content, and `tools` is left out where there are none.

A row that a format cannot say is refused, or is dropped into a ledger beside the file: `no_flag` (of a message, whether
it is trained), `no_target` (nothing is trained), `not_the_models` (what others wrote would be trained), `no_prompt`,
`no_reply`, `bad_tools`, `bad_arguments` (no JSON, or not one object where that is wanted), `not_json` (NaN) and
`not_unicode` (a lone surrogate, which UTF-8 cannot hold). Not covered: `input_ids` and labels (`tokenise`), tables
of questions and responses.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from datasets import Dataset

from toolrlef_data.columns import DROPPED
from toolrlef_data.records import InputError, MissingColumns, UnknownName, UnusableRow
from toolrlef_data.tables.files import atomic_file, scratch_file
from toolrlef_data.tables.stage_cache import as_arrow
from toolrlef_data.toolbench.messages import decode_arguments, parse_tools

__all__ = ["EXPORTS", "Export", "export"]

Row = Mapping[str, Any]
Messages = Sequence[Mapping[str, Any]]
Record = dict[str, Any]

ARGUMENTS = ("text", "object")
UNFIT = ("refuse", "drop")
ROWS_AT_ONCE = 16  # a row is some 10 kB, and may be thousands
log = logging.getLogger("toolrlef_data")


@dataclass(frozen=True, slots=True)
class Export:
    """A format: the columns that it needs, and the records that a row gives.

    Args:
        columns: of the table.
        records: of a row, with arguments as one of `ARGUMENTS`.
        array: one JSON array, indented, in place of JSON Lines.
        arguments: which of `ARGUMENTS` it may hold; the first is the default.
    """

    columns: tuple[str, ...]
    records: Callable[[Row, str], list[Record]]
    array: bool = False
    arguments: tuple[str, ...] = ("text",)


def export(
    samples: Dataset, format: str, path: str | Path, *, arguments: str | None = None, unfit: str = "refuse"
) -> Path:
    """Write a table as a trainer's file; the file is there as a whole or not at all.

    Args:
        samples: one split of a table that the format fits.
        format: one of `EXPORTS`.
        path: the file; replaced where there is one.
        arguments: of calls, in the formats of TRL: "object" (their default): parsed, so that a template writes them
            anew; what is no JSON object does not fit. "text" (that of all others): as the model wrote them.
        unfit: what becomes of a row that the format cannot say: "refuse": an error; "drop": a line of the file beside
            it that is called the same with ".dropped.jsonl" (`columns.DROPPED`); a row leaves as a whole.

    Returns:
        the path.

    Raises:
        InputError: a row that does not fit, or only such; the path is no file's; no single split.
        MissingColumns: the table is of another kind; names the formats that it fits.
        UnknownName: an unknown format or option.

    >>> import tempfile
    >>> hi = {"role": "user", "content": "Hi", "train": False}
    >>> yes = {"role": "assistant", "content": "Yes?", "train": True}
    >>> samples = Dataset.from_list([{"messages": [hi, yes], "tools": "[]"}])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(export(samples, "openai", f"{folder}/train.jsonl").read_text(), end="")
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?", "weight": 1}]}
    """
    kind = _checked(samples, format, arguments, unfit)
    path = Path(path).resolve()  # a link to a file stays one
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a folder or a device: name a file to write")
    path.parent.mkdir(parents=True, exist_ok=True)
    ledger = path.with_name(f"{path.name}.dropped.jsonl")
    with atomic_file(path) as written, scratch_file(path.parent) as left:
        with open(written, "wb") as file, open(left, "wb") as out:
            dropped = _write(
                samples, format, kind, arguments or kind.arguments[0], file, out if unfit == "drop" else None
            )
        if dropped:
            log.warning("%s: %d of %d rows do not fit %s: see %s", path.name, dropped, len(samples), format, ledger)
            os.replace(left, ledger)
    if not dropped:
        ledger.unlink(missing_ok=True)  # of the file that was replaced
    return path


def _checked(samples: Dataset, format: str, arguments: str | None, unfit: str) -> Export:
    options = (("format", format, EXPORTS), ("form of arguments", arguments, ARGUMENTS), ("unfit", unfit, UNFIT))
    for what, value, choices in options:
        if value not in choices and (what, value) != ("form of arguments", None):
            raise UnknownName(what, str(value), choices)
    if not isinstance(samples, Dataset):
        raise InputError(f"export takes one Dataset, found a {type(samples).__name__}: pass one of its splits")
    kind = EXPORTS[format]
    if missing := [name for name in kind.columns if name not in samples.column_names]:
        fit = [name for name, other in EXPORTS.items() if set(other.columns) <= set(samples.column_names)]
        raise MissingColumns(
            f"the format {format!r} needs the columns {', '.join(kind.columns)}; this table lacks "
            f"{', '.join(missing)}; formats that fit it: {', '.join(fit) or '(none)'}"
        )
    if arguments not in (None, *kind.arguments):
        raise InputError(f"the format {format!r} holds arguments as text; leave arguments= out")
    return kind


def _write(
    samples: Dataset, format: str, kind: Export, arguments: str, file: IO[bytes], ledger: IO[bytes] | None
) -> int:
    """Write the records of all rows; the number of rows that did not fit."""
    written = dropped = 0
    for number, row in enumerate(_rows(samples, kind.columns)):
        try:
            texts = [_encoded(record, kind.array) for record in kind.records(row, arguments)]
        except UnusableRow as why:
            if ledger is None:
                name = f"row {number} ({row['id']})" if "id" in row else f"row {number}"
                hint = "unfit='drop' leaves such rows out, with their reasons"
                raise InputError(f"{name} does not fit the format {format!r}: {why} ({hint})") from why
            left = {**row, "stage": f"export_{format}", "reason": why.reason, "detail": why.detail}
            ledger.write(json.dumps({name: left.get(name) for name in DROPPED}).encode() + b"\n")
            dropped += 1
            continue
        for text in texts:
            before, behind = (b",\n    " if written else b"[\n    ", b"") if kind.array else (b"", b"\n")
            file.write(before + text + behind)
            written += 1
    if dropped and not written:
        raise InputError(f"none of the {dropped} rows fits the format {format!r}; the last one: {left['detail']}")
    if kind.array:
        file.write(b"\n]" if written else b"[]")
    return dropped


def _rows(samples: Dataset, columns: Sequence[str]) -> Iterator[Record]:
    known = [name for name in ("id", "task", "dataset") if name in samples.column_names]
    for table in as_arrow(samples, [*known, *columns]).iter(ROWS_AT_ONCE):
        yield from table.to_pylist()


def _encoded(record: Record, indented: bool) -> bytes:
    """A record as JSON, byte for byte as `json.dump` writes it, alone or as an entry of an indented array."""
    try:
        if not indented:
            return json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
        return json.dumps(record, ensure_ascii=False, indent=4).replace("\n", "\n    ").encode()
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        raise UnusableRow("not_unicode", f"a text holds the lone surrogate U+{code:04X}") from None
    except ValueError as error:
        raise UnusableRow("not_json", str(error)) from None


def _toolllama(row: Row, arguments: str) -> list[Record]:
    turns = [{"from": turn["from"], "value": turn["value"]} for turn in row["conversations"]]
    return [{"id": row["name"], "conversations": turns}]


def _trl(row: Row, arguments: str) -> list[Record]:
    targets = _targets(row["messages"])
    if targets[0] == 0:
        raise UnusableRow("no_prompt", "the first message is trained, and nothing stands before it")
    messages, tools = _plain(row["messages"], arguments), _tools(row)
    return [{"prompt": messages[:n], "completion": [messages[n]], "tools": tools} for n in targets]


def _axolotl(row: Row, arguments: str) -> list[Record]:
    targets = _targets(row["messages"])
    messages = [{**message, "train": n in targets} for n, message in enumerate(_plain(row["messages"], arguments))]
    for call in (call for message in messages for call in message.get("tool_calls", ())):
        try:
            json.loads(text := call["function"]["arguments"])  # axolotl does, and ends with an error
        except (ValueError, TypeError, RecursionError):
            raise UnusableRow("bad_arguments", f"arguments are no JSON: {text!r:.80}") from None
    return [{"messages": messages, "tools": _tools(row)}]


def _openai(row: Row, arguments: str) -> list[Record]:
    targets, messages = _targets(row["messages"]), _plain(row["messages"], arguments, empty=False)
    for n, message in enumerate(messages):
        if message["role"] == "assistant":
            message["weight"] = int(n in targets)
    tools = _tools(row)
    return [{"messages": messages, "tools": tools} if tools else {"messages": messages}]


def _trl_preference(row: Row, arguments: str) -> list[Record]:
    for side in ("prompt", "chosen", "rejected"):
        if not row[side]:
            raise UnusableRow("no_prompt" if side == "prompt" else "no_reply", f"{side} holds no message")
        others = {message["role"] for message in row[side]} - {"assistant"}
        if others and side != "prompt":
            raise UnusableRow("not_assistant", f"{side} holds messages of the role {', '.join(sorted(others))}")
    sides = {side: _plain(row[side], arguments) for side in ("prompt", "chosen", "rejected")}
    return [{**sides, "tools": _tools(row)}]


def _targets(messages: Messages) -> list[int]:
    """The places of the messages to train, or why a sample does not say which."""
    for n, message in enumerate(messages or ()):
        if message.get("train") is None:
            raise UnusableRow("no_flag", f"message {n} does not say whether it is trained")
        if message["train"] and message["role"] != "assistant":
            raise UnusableRow("not_assistant", f"message {n}, of the role {message['role']!r}, is to be trained")
    targets = [n for n, message in enumerate(messages or ()) if message["train"]]
    if not targets:
        raise UnusableRow("no_target", "no message is to be trained")
    return targets


def _plain(messages: Messages, arguments: str, empty: bool = True) -> list[Record]:
    """Messages without flags and keys that have no value; `empty`: with a content also where there is none."""
    plain = []
    for message in messages:
        calls = [_call(call, arguments) for call in message.get("tool_calls") or ()]
        kept = {"role": message["role"], **({"content": ""} if empty or not calls else {})}
        kept |= _given(message, "content", "name", "tool_call_id")
        plain.append({**kept, "tool_calls": calls} if calls else kept)
    return plain


def _call(call: Mapping[str, Any], arguments: str) -> Record:
    function = {name: call["function"][name] for name in ("name", "arguments")}
    if arguments == "object":
        function = {"name": function["name"] or "", "arguments": decode_arguments(function)}
        if not isinstance(found := function["arguments"], dict):
            way = 'arguments="text" takes them as they are'
            raise UnusableRow("bad_arguments", f"arguments are no JSON object: {found!r:.80}; {way}")
    return {**_given(call, "id", "type"), "function": function}


def _given(holder: Mapping[str, Any], *names: str) -> Record:
    return {name: holder[name] for name in names if holder.get(name) is not None}


def _tools(row: Row) -> list[Mapping[str, Any]]:
    """The functions, each as OpenAI's tool."""
    try:
        return parse_tools(row["tools"])
    except UnusableRow as fault:
        raise UnusableRow("bad_tools", f"{fault.detail}: {row['tools']!r:.80}") from None


EXPORTS: dict[str, Export] = {
    "axolotl": Export(("messages", "tools"), _axolotl),
    "openai": Export(("messages", "tools"), _openai),
    "toolllama": Export(("name", "conversations"), _toolllama, array=True),
    "trl": Export(("messages", "tools"), _trl, arguments=("object", "text")),
    "trl_preference": Export(("prompt", "chosen", "rejected", "tools"), _trl_preference, arguments=("object", "text")),
}
