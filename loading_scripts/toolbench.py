r"""ToolBench: answer files, each the record of one trajectory search for a query (https://github.com/OpenBMB/ToolBench).

A file, answer/G1_answer/7_ChatGPT_DFS_woFilter_w2.json, abridged (Apache-2.0):

    {"win": true, "tree": {"size": 2, "max_length": 2, "tree": {"node_type": "Action Input", "children": [...]}},
     "answer_generation": {"valid_data": true, "query": "How warm is Oslo?", "finish_type": "give_answer",
       "function": [{"name": "temperature_in_cities", ...}, {"name": "Finish", ...}],
       "query_count": 2, "total_tokens": 900, "train_messages": [[{"role": "system", "content": "..."}, ...]]}}

- Rows: one per file (`columns.ANSWERS`), with its path as id: "G1_answer/7_ChatGPT_DFS_woFilter_w2". The column
  `answer` is the exact text of the file, without a byte order mark. Give-ups and invalid files are rows, too.
- Files: `data_dir` is a file, or a folder with *.json files at any depth. They are read in the order of their paths;
  hidden files are skipped.
- Splits: upstream has none; all rows are "train".
- Options: `method="DFS_woFilter_w2"` selects the files whose names contain this text. `recursive=False` skips
  subfolders, as upstream does.
- Cost: each file is read twice, once for the cache key and once for both tables. About 2 MB are in memory at a time.
- Not covered: the contents of messages, functions and the tree (`histories` checks them); failed attempts of chains;
  compressed files.

| drop reason | file |
|---|---|
| `unreadable` | cannot be opened; also a folder that cannot be listed, whose id ends in "/" |
| `too_large` | is larger than 64 MiB |
| `not_json` | is not JSON in UTF-8 |
| `not_an_answer` | has no object `answer_generation`, such as upstream's training files |
| `no_query`, `no_functions` | has no query or no functions |
| `no_trajectory` | has neither messages, nor a tree with a node below its root, nor chains (`CoT@n` files) |
| `wrong_type` | has a key with a value of the wrong type |

Quirks:

- Variants of ToolBench omit keys (win, finish_type, total_tokens, query_count, valid_data); their columns are null.
- In ids, "#" and bytes that are not UTF-8 are percent-encoded. A "%" is encoded only before two hexadecimal digits, so
  that ids stay unique.
- A link to a folder is followed if its target is outside `data_dir`. No folder is read twice.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from datasets import ArrowBasedBuilder

from toolrlef_data.columns import ANSWERS
from toolrlef_data.loading_scripts.base import TableSource
from toolrlef_data.loading_scripts.command import main
from toolrlef_data.loading_scripts.fields import escape_surrogates
from toolrlef_data.loading_scripts.files import list_files, read_file, tree_digest
from toolrlef_data.records import Drop, InputError

__all__ = ["Toolbench", "parse_answer_file"]

# Column -> key in `answer_generation` (`win`: at the top level), and the type of its value.
SUMMARY_KEYS: Mapping[str, tuple[str, type]] = {
    "finish_type": ("finish_type", str),
    "valid": ("valid_data", bool),
    "n_calls": ("query_count", int),
    "total_tokens": ("total_tokens", int),
    "win": ("win", bool),
    "query": ("query", str),
}
_to_escape = re.compile(r"[#\ud800-\udfff]|%(?=[0-9A-Fa-f]{2})")


class Toolbench(TableSource, ArrowBasedBuilder):  # type: ignore[misc]  # datasets has no types
    """Builder of the table of answer files; options: `method` (part of the file names) and `recursive` (subfolders)."""

    source = "toolbench"
    task = "toolbench"
    columns = ANSWERS
    defaults = {"method": "", "recursive": True}  # noqa: RUF012  # read only
    DEFAULT_WRITER_BATCH_SIZE = 16  # rows have about 100 kB, at most 64 MiB; an Arrow batch is limited to 2 GiB of text

    def inspect_files(self) -> tuple[Mapping[str, Sequence[str]], Any]:
        method, recursive = self.options["method"], self.options["recursive"]
        if not isinstance(method, str) or not isinstance(recursive, bool):
            raise InputError(
                f"source toolbench: expected a text as method= and a bool as recursive=, found {self.options}"
            )
        if self.folder is None:
            raise InputError("source toolbench: pass data_dir= with an answer file or a folder of them")
        if not self.folder.exists():
            raise InputError(f"data_dir is neither a file nor a folder: {self.folder}")
        if self.folder.is_file():
            if method not in self.folder.name:
                raise InputError(f"the file name of {self.folder} does not contain method={method!r}")
            self.folder, names = self.folder.parent, [self.folder.name]
        else:
            names = list_files(self.folder, method, ".json", recursive)
        return {"train": names}, tree_digest(self.folder, names)

    def _generate_tables(self, split: str) -> Iterator[tuple[int, pa.Table]]:
        schema = self.info.features.arrow_schema
        rows = self._answers(split) if self.config.name == "questions" else self._dropped_rows(split)
        for n, batch in enumerate(_batches(rows)):
            yield n, pa.Table.from_pylist(batch, schema)

    def _answers(self, split: str) -> Iterator[dict[str, Any]]:
        """Yield the usable rows; store the drops, so that the builder of the other config need not read the files."""
        self.dropped: list[tuple[str, Drop]] = []  # a few hundred bytes each
        for row_id, row in self._read(split):
            if isinstance(row, Drop):
                self.dropped.append((row_id, row))
            else:
                yield self.row(row_id, **row)

    def _dropped_rows(self, split: str) -> Iterator[dict[str, Any]]:
        dropped = getattr(self.sibling, "dropped", None)  # missing if the builder is used directly
        for row_id, row in self._read(split) if dropped is None else dropped:
            if isinstance(row, Drop):
                yield self.dropped_row(row_id, row)

    def _read(self, split: str) -> Iterator[tuple[str, dict[str, Any] | Drop]]:
        for name in self.split_files[split]:
            yield _row_id(name), _read_row(f"{self.folder}{os.sep}{name}", name)


def parse_answer_file(text: str) -> dict[str, Any] | Drop:
    """Return the summary columns of an answer file: query, finish_type, valid, win, n_calls, total_tokens.

    Args:
        text: the text of the file.

    Returns:
        The columns, null if the file has no value for them, or a drop if the file is unusable.

    >>> messages = [[{"role": "user", "content": "How warm is Oslo?"}]]
    >>> answer = {"query": "How warm is Oslo?", "function": [{"name": "Finish"}], "train_messages": messages}
    >>> parse_answer_file(json.dumps({"win": True, "answer_generation": answer}))["win"]
    True
    >>> parse_answer_file("[]").reason
    'not_an_answer'
    """
    try:
        file = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Drop("not_json", f"{error}; it begins {text[:40]!r}" if text.strip() else "the file is empty")
    answer = file.get("answer_generation") if isinstance(file, dict) else None
    if not isinstance(answer, dict):
        found = f"the keys {', '.join(file)}"[:200] if isinstance(file, dict) else type(file).__name__
        return Drop("not_an_answer", escape_surrogates(f"no object 'answer_generation'; found {found}"))
    values = {**answer, "win": file.get("win"), "tree": _root(file)}
    summary = {column: values.get(key) for column, (key, _) in SUMMARY_KEYS.items()}
    if summary["query"] is None or (isinstance(summary["query"], str) and not summary["query"].strip()):
        return Drop("no_query")
    if values.get("function") in (None, []):
        return Drop("no_functions")
    wrong_keys = [key for column, (key, kind) in SUMMARY_KEYS.items() if not _has_type(summary[column], kind)]
    wrong_keys += [key for key, has_type in STRUCTURES.items() if not has_type(values.get(key))]
    if wrong_keys:
        return Drop("wrong_type", f"value of {', '.join(wrong_keys)}")
    if not (any(values.get("train_messages") or ()) or (values["tree"] or {}).get("children") or file.get("trys")):
        return Drop("no_trajectory")
    if summary["valid"] is False:
        summary["finish_type"] = None  # upstream writes "give_answer" for invalid files, too
    return {column: escape_surrogates(value) if isinstance(value, str) else value for column, value in summary.items()}


def _root(file: Mapping[str, Any]) -> Any:
    """Return the root node, or None without a tree."""
    tree = file.get("tree")
    return tree.get("tree") if isinstance(tree, dict) else tree


def _has_type(value: Any, kind: type) -> bool:
    """Whether a value is null or has a type. Booleans are not numbers; integers must fit in 64 bits."""
    return value is None or (type(value) is kind and not (isinstance(value, int) and abs(value) >> 63))


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _is_list_of_object_lists(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(map(_is_list_of_objects, value)))


def _is_node(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and _is_list_of_objects(value.get("children") or []))


# Each check stops at the first item of another type; a pydantic model could report millions of errors.
STRUCTURES = {"function": _is_list_of_objects, "train_messages": _is_list_of_object_lists, "tree": _is_node}


def _read_row(path: str, name: str) -> dict[str, Any] | Drop:
    """Return the columns of one file without `id`, `task` and `dataset`, or a drop."""
    text = read_file(path)
    row = parse_answer_file(text) if isinstance(text, str) else text
    return row if isinstance(row, Drop) else {**row, "source_file": escape_surrogates(name), "answer": text}


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield lists of successive rows, each list of about 2 MB."""
    batch: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += 1000 + len(row.get("answer", ""))
        if size > 2_000_000:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _row_id(name: str) -> str:
    """Return a path as an id, without its extension and with special characters percent-encoded.

    >>> _row_id("G1/a#1.json"), _row_id("G1/100%.json"), _row_id("G1/a%231.json")
    ('G1/a%231', 'G1/100%', 'G1/a%25231')
    """
    stem = name.removesuffix(".json")
    return _to_escape.sub(lambda match: "".join(f"%{byte:02X}" for byte in os.fsencode(match[0])), stem)


if __name__ == "__main__":
    main("toolbench")
