"""The difference between two published versions, by row id.

Configs whose files have equal digests are not read. Of the others, 8 bytes a value are kept in memory.

Not covered: the order of rows. Without a column `id`, a changed row counts as one removed and one added row.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from toolrlef_data.publishing.hub.versions import Version, version_of
from toolrlef_data.publishing.manifest import row_files

__all__ = ["ConfigDiff", "RowHashes", "changed_columns", "configs_of", "describe", "diff", "difference"]

BATCH_ROWS = 1000
SPLIT = "(split)"  # stands for a column: the split of a row


@dataclass(frozen=True)
class ConfigDiff:
    """Difference of one config; rows are named by their ids.

    Args:
        rows: number of rows before and after; 0 without the config.
        added, removed: ids of rows of one version only.
        changed: id -> columns with other values; "(split)" if the row is in another split.
        rescored: ids of the changed rows with other scores.
        new_columns, lost_columns: columns of one version only; their values are not in `changed`.
    """

    rows: tuple[int, int]
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rescored: tuple[str, ...] = ()
    new_columns: tuple[str, ...] = ()
    lost_columns: tuple[str, ...] = ()


def diff(a: str | Path, b: str | Path, *, token: str | None = None) -> dict[str, ConfigDiff]:
    """Return the difference between two published versions by config; equal configs are absent.

    Args:
        a: the earlier version: a folder, the id of a repository (its newest tag), or "id@tag".
        b: the later version.
        token: access token for the Hub. Default: that of `hf auth login`, or of the variable HF_TOKEN.

    Raises:
        InputError: `publish` or `push_to_hub` did not write a version.
        HubError: the Hub refused a request or could not be reached.

    >>> import tempfile
    >>> from datasets import Dataset
    >>> from toolrlef_data import publish
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, answer in (("a", "3"), ("b", "2")):
    ...         table = Dataset.from_list([{"id": "1", "question": "1 + 1?", "output": answer}])
    ...         out = publish({"math": {"stage1": table}}, f"{folder}/{name}", version="1.0.0")
    ...     diff(f"{folder}/a", f"{folder}/b")["math-stage1"].changed
    {'1': ('output',)}
    """
    return difference(version_of(a, token), version_of(b, token))


def difference(a: Version, b: Version) -> dict[str, ConfigDiff]:
    """Return the difference between two versions by config; equal configs are absent."""
    before, after = configs_of(a), configs_of(b)
    digests = [
        {name: [(split, [version.facts["files"][path]["sha256"] for path in paths]) for split, paths in table.items()]
         for name, table in configs.items()}
        for version, configs in ((a, before), (b, after))
    ]  # fmt: skip
    return {
        config: _compare(
            RowHashes(a, before.get(config, {}), only_ids=config not in after),
            RowHashes(b, after.get(config, {}), only_ids=config not in before),
        )
        for config in dict.fromkeys([*after, *before])
        if digests[0].get(config) != digests[1].get(config)
    }


def describe(changes: Mapping[str, ConfigDiff]) -> list[str]:
    """Return one line of text per config.

    >>> describe({"math-stage1": ConfigDiff((9, 9), ("a",), ("b",), {"c": ("output", "source")}, (), ("why",))})
    ['`math-stage1`: rows: 1 added, 1 removed, 1 changed (output: 1, source: 1); new columns: why']
    """
    return [f"`{config}`: {_text(change)}" for config, change in changes.items()]


def _text(change: ConfigDiff) -> str:
    if not all(change.rows):
        return f"new, {_count(change.rows[1])}" if change.rows[1] else f"removed, {_count(change.rows[0])}"
    by_column = Counter(name for names in change.changed.values() for name in names)
    detail = ", ".join(f"{name}: {n}" for name, n in by_column.items())
    counts = [
        (len(change.added), "added"),
        (len(change.removed), "removed"),
        (len(change.changed), f"changed ({detail})"),
        (len(change.rescored), "rescored"),
    ]
    rows = ", ".join(f"{number} {verb}" for number, verb in counts if number)
    columns = (("new columns", change.new_columns), ("removed columns", change.lost_columns))
    texts = [f"rows: {rows}" if rows else "", *(f"{verb}: {', '.join(names)}" for verb, names in columns if names)]
    return "; ".join(filter(None, texts)) or "the same rows in other files"


def _count(number: int) -> str:
    return f"{number} row{'' if number == 1 else 's'}"


def configs_of(version: Version) -> dict[str, dict[str, list[str]]]:
    """Return config -> split -> its files."""
    configs: dict[str, dict[str, list[str]]] = {}
    for part, paths in row_files(version.facts["files"]).items():
        if len(part) == 2:
            configs.setdefault(part[0], {})[part[1]] = paths
    return configs


class RowHashes:
    """The rows of a config, in the order of its files: key -> one hash per column, in the order of `columns`.

    The key is the id and its number among equal ids. Without a column `id`, it is the hash of the row. With `only_ids`,
    other columns are not read, since there is nothing to compare them with.
    """

    def __init__(self, version: Version, files: Mapping[str, Iterable[str]], *, only_ids: bool) -> None:
        self.columns: list[str] = []
        self.rows: dict[tuple[str, int], bytes] = {}
        counts: Counter[str] = Counter()
        for split, path in ((split, path) for split, paths in files.items() for path in paths):
            with pq.ParquetFile(version.path(path)) as file:
                names = sorted(file.schema_arrow.names)
                names = ["id"] if only_ids and "id" in names else names
                self.columns = [SPLIT, *names]
                for batch in file.iter_batches(BATCH_ROWS, columns=names):
                    values = [[hash(repr(value)) for value in batch[name].to_pylist()] for name in names]
                    hashes = [array("q", (hash(split), *row)).tobytes() for row in zip(*values, strict=True)]
                    ids = map(str, batch["id"].to_pylist()) if "id" in names else map(bytes.hex, hashes)
                    for row_id, row in zip(ids, hashes, strict=True):
                        self.rows[row_id, counts[row_id]] = row
                        counts[row_id] += 1


def changed_columns(a: RowHashes, b: RowHashes) -> dict[tuple[str, int], tuple[str, ...]]:
    """Return key -> columns with other values, of the rows of both tables; only common columns are compared."""
    common = [(name, a.columns.index(name), b.columns.index(name)) for name in b.columns if name in a.columns]
    changed = {}
    for key in b.rows.keys() & a.rows.keys() if a.columns != b.columns else _unequal(a, b):
        before, after = (array("q", rows.rows[key]) for rows in (a, b))
        if names := tuple(name for name, i, j in common if before[i] != after[j]):
            changed[key] = names
    return changed


def _compare(a: RowHashes, b: RowHashes) -> ConfigDiff:
    changed: dict[str, tuple[str, ...]] = {}
    for (row_id, _), names in changed_columns(a, b).items():
        changed[row_id] = tuple(dict.fromkeys((*changed.get(row_id, ()), *names)))
    return ConfigDiff(
        rows=(len(a.rows), len(b.rows)),
        added=tuple(key[0] for key in b.rows if key not in a.rows),
        removed=tuple(key[0] for key in a.rows if key not in b.rows),
        changed={row_id: changed[row_id] for row_id in dict.fromkeys(key[0] for key in b.rows) if row_id in changed},
        rescored=tuple(sorted(row_id for row_id, names in changed.items() if "scores" in names)),
        new_columns=tuple(name for name in b.columns if name not in a.columns and a.columns),
        lost_columns=tuple(name for name in a.columns if name not in b.columns and b.columns),
    )


def _unequal(a: RowHashes, b: RowHashes) -> list[tuple[str, int]]:
    return [key for key, row in b.rows.items() if a.rows.get(key, row) != row]
