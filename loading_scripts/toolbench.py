r"""ToolBench: answer files, each one search for a way to answer a query with tools, as upstream's search writes them.

A file, answer/G1_answer/7_ChatGPT_DFS_woFilter_w2.json (https://github.com/OpenBMB/ToolBench, Apache-2.0), short:

    {"win": true, "tree": {"size": 2, "max_length": 2, "tree": {"node_type": "Action Input", "children": [...]}},
     "answer_generation": {"valid_data": true, "query": "How warm is Oslo?", "finish_type": "give_answer",
       "function": [{"name": "temperature_in_cities", ...}, {"name": "Finish", ...}],
       "query_count": 2, "total_tokens": 900, "train_messages": [[{"role": "system", "content": "..."}, ...]]}}

One row of ours is one file (`columns.ANSWERS`), "G1_answer/7_ChatGPT_DFS_woFilter_w2"; `answer` is the file's text as
it stands, without a byte order mark: nothing is written anew. `data_dir` is a file, or a folder that is searched for
*.json as deep as it goes, in the order of the paths; what is hidden is left out. Upstream has no splits: all rows are
"train". Options: `method="DFS_woFilter_w2"` takes only files whose name holds that text; `recursive=False` takes only
those of the folder itself, as upstream does.

Quirks: relatives of ToolBench leave out keys (win, finish_type, total_tokens, query_count, valid_data), which are then
null. In an id, "#" is written "%23", bytes that are not UTF-8 likewise, and a "%" that could be mistaken for these
"%25", so that no two files share an id. A link to a folder is followed where it leads out of `data_dir`; no folder is
read twice. Give-ups and invalid files are rows like the others.

Dropped are files that cannot be opened (`unreadable`; so are folders, with "/" at the end of their id), are larger
than 64 MiB (`too_large`), are no JSON in UTF-8 (`not_json`), or lack what an answer file has: `not_an_answer`
(upstream's training file may lie beside), `no_query`, `no_functions`, `no_trajectory` (neither messages, nor a tree
that goes below its root, nor the chains of a `CoT@n` file), `wrong_type` (of a key that is read here). Each file is
read twice, once for the cache key and once for both tables, and some 2 MB of them are held at a time. Not covered:
what is inside messages, functions and the tree (`histories` checks that); what a chain tried that came to no answer;
compressed files.
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
from toolrlef_data.loading_scripts.base import TableSource, main
from toolrlef_data.loading_scripts.fields import encodable
from toolrlef_data.loading_scripts.files import files_below, tree_digest, whole_text
from toolrlef_data.records import Drop, InputError

__all__ = ["Toolbench", "read_answer"]

# Column -> its key in `answer_generation` (win: in the file), and the type there.
FACTS: Mapping[str, tuple[str, type]] = {
    "finish_type": ("finish_type", str),
    "valid": ("valid_data", bool),
    "n_calls": ("query_count", int),
    "total_tokens": ("total_tokens", int),
    "win": ("win", bool),
    "query": ("query", str),
}
_to_escape = re.compile(r"[#\ud800-\udfff]|%(?=[0-9A-Fa-f]{2})")


class Toolbench(TableSource, ArrowBasedBuilder):  # type: ignore[misc]  # datasets has no types
    """Builder of the answers table; options `method`: a part of the files' names; `recursive`: subfolders, too."""

    source = "toolbench"
    task = "toolbench"
    columns = ANSWERS
    defaults = {"method": "", "recursive": True}  # noqa: RUF012  # read only
    DEFAULT_WRITER_BATCH_SIZE = 16  # rows of 100 kB, and of 64 MiB at most: Arrow's texts hold 2 GiB in a batch

    def look(self) -> tuple[Mapping[str, Sequence[str]], Any]:
        method, recursive = self.options["method"], self.options["recursive"]
        if not isinstance(method, str) or not isinstance(recursive, bool):
            raise InputError(f"source toolbench: method= is a text and recursive= a bool; found {self.options}")
        if self.folder is None:
            raise InputError("source toolbench: pass data_dir= with an answer file, or a folder of them")
        if self.folder.is_file():
            if method not in self.folder.name:
                raise InputError(f"the name of {self.folder} does not hold method={method!r}")
            self.folder, names = self.folder.parent, [self.folder.name]
        else:
            names = files_below(self.folder, method, ".json", recursive)
        return {"train": names}, tree_digest(self.folder, names)

    def _generate_tables(self, split: str) -> Iterator[tuple[int, pa.Table]]:
        schema = self.info.features.arrow_schema
        rows = self._answers(split) if self.config.name == "questions" else self._dropped(split)
        for n, batch in enumerate(_batches(rows)):
            yield n, pa.Table.from_pylist(batch, schema)

    def _answers(self, split: str) -> Iterator[dict[str, Any]]:
        """The answers; what is dropped on the way is kept for the ledger's builder, so that it need not read again."""
        self.met: list[tuple[str, Drop]] = []  # some hundred bytes each
        for row_id, row in self._read(split):
            if isinstance(row, Drop):
                self.met.append((row_id, row))
            else:
                yield self.row(row_id, **row)

    def _dropped(self, split: str) -> Iterator[dict[str, Any]]:
        met = getattr(self.beside, "met", None)  # where the answers were in the cache, nothing was read
        for row_id, row in self._read(split) if met is None else met:
            if isinstance(row, Drop):
                yield self.dropped_row(row_id, row)

    def _read(self, split: str) -> Iterator[tuple[str, dict[str, Any] | Drop]]:
        for name in self.found[split]:
            yield _id(name), _row(f"{self.folder}{os.sep}{name}", name)


def read_answer(text: str) -> dict[str, Any] | Drop:
    """What an answer file says of itself, as columns: query, finish_type, valid, win, n_calls, total_tokens.

    Args:
        text: of the file.

    Returns:
        The columns, null where the file does not say; or why it is no answer file that can be used.

    >>> messages = [[{"role": "user", "content": "How warm is Oslo?"}]]
    >>> made = {"query": "How warm is Oslo?", "function": [{"name": "Finish"}], "train_messages": messages}
    >>> read_answer(json.dumps({"win": True, "answer_generation": made}))["win"]
    True
    >>> read_answer("[]").reason
    'not_an_answer'
    """
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Drop("not_json", f"{error}; it begins {text[:40]!r}" if text.strip() else "it is empty")
    made = whole.get("answer_generation") if isinstance(whole, dict) else None
    if not isinstance(made, dict):
        found = f"the keys {', '.join(whole)}"[:200] if isinstance(whole, dict) else type(whole).__name__
        return Drop("not_an_answer", encodable(f"no object 'answer_generation'; found {found}"))
    values = {**made, "win": whole.get("win"), "tree": _root(whole)}
    facts = {column: values.get(key) for column, (key, _) in FACTS.items()}
    if facts["query"] is None or (isinstance(facts["query"], str) and not facts["query"].strip()):
        return Drop("no_query")
    if values.get("function") in (None, []):
        return Drop("no_functions")
    wrong = [key for column, (key, kind) in FACTS.items() if not _is(facts[column], kind)]
    wrong += [key for key, fits in LISTS.items() if not fits(values.get(key))]
    if wrong:
        return Drop("wrong_type", f"of the key {', '.join(wrong)}")
    if not (any(values.get("train_messages") or ()) or (values["tree"] or {}).get("children") or whole.get("trys")):
        return Drop("no_trajectory")
    if facts["valid"] is False:
        facts["finish_type"] = None  # upstream writes "give_answer" there all the same
    return {column: encodable(fact) if isinstance(fact, str) else fact for column, fact in facts.items()}


def _root(whole: Mapping[str, Any]) -> Any:
    """The root node; None where there is no tree."""
    tree = whole.get("tree")
    return tree.get("tree") if isinstance(tree, dict) else tree


def _is(value: Any, kind: type) -> bool:
    """Whether a value is null or of a type; true is no number, and a number has 64 bits."""
    return value is None or (type(value) is kind and not (isinstance(value, int) and abs(value) >> 63))


def _objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _lists_of_objects(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(map(_objects, value)))


def _node(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and _objects(value.get("children") or []))


# Each ends at the first item that is of another type; a model of pydantic would list millions of them.
LISTS = {"function": _objects, "train_messages": _lists_of_objects, "tree": _node}


def _row(path: str, name: str) -> dict[str, Any] | Drop:
    """The columns of one file, but for those that are the same in all."""
    text = whole_text(path)
    row = read_answer(text) if isinstance(text, str) else text
    return row if isinstance(row, Drop) else {**row, "source_file": encodable(name), "answer": text}


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Rows in lists of some 2 MB."""
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


def _id(name: str) -> str:
    """A path as an id.

    >>> _id("G1/a#1.json"), _id("G1/100%.json"), _id("G1/a%231.json")
    ('G1/a%231', 'G1/100%', 'G1/a%25231')
    """
    stem = name.removesuffix(".json")
    return _to_escape.sub(lambda odd: "".join(f"%{byte:02X}" for byte in os.fsencode(odd[0])), stem)


if __name__ == "__main__":
    main("toolbench")
