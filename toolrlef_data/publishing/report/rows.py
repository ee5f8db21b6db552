"""The rows of one or two versions as lines of JSON, which the page of the report reads.

| line | content |
|---|---|
| first | an object: numbers of the versions; tables with version, config, kind, columns and responders |
| of a row | a list: number of its table, split, change, number of its pair, calls, values in the order of the columns |
| last | an object: the requests, by number of the table, task, data set, and whether the row has an input |

Rows of two versions are matched as in `diff`: by config, id, and number among equal ids. A row that both versions have
with equal values is written once. Both rows of a pair with other values have the same number.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import pyarrow.parquet as pq
from datasets import Features

from toolrlef_data.columns import STAGE2, STAGE2_LATER, responders_of
from toolrlef_data.publishing.hub.difference import RowHashes, changed_columns, configs_of
from toolrlef_data.publishing.hub.versions import Version
from toolrlef_data.publishing.report.requests import Place, requests_of
from toolrlef_data.publishing.viewing import call_in
from toolrlef_data.trice.teachers import MAX_GOLD_ANSWERS

__all__ = ["json_lines"]

Row = dict[str, Any]
Files = Mapping[str, Sequence[str]]  # split -> its files
Change = tuple[str | None, int | None]  # how a row differs from the other version, and the number of its pair
SKIP = "skip"  # the change of a row of the earlier version with an equal row in the later one
BATCH_ROWS = 500
MAX_SAFE = 2**53  # JavaScript rounds larger integers
MANY_DIGITS = re.compile(r"(?<![\d.])\d{16}")  # no decimals


def json_lines(version: Version, later: Version | None = None) -> Iterator[str]:
    """Yield the lines of one version, or of an earlier and a later one.

    Args:
        version: the version, or the earlier one.
        later: the later version. Default: none.
    """
    versions = [version] if later is None else [version, later]
    configs = [configs_of(one) for one in versions]
    names = sorted(dict.fromkeys(config for one in reversed(configs) for config in one), key=_rank)
    tables = [(n, config) for config in names for n in range(len(versions)) if config in configs[n]]
    yield _as_json(
        {
            "versions": [one.facts["version"] for one in versions],
            "tables": [{"version": n, **_table(versions[n], config, configs[n][config])} for n, config in tables],
        }
    )
    places: dict[tuple[int, Place], None] = {}
    for config in names:
        files = [one.get(config, {}) for one in configs]
        for n, changes in enumerate(_changes(versions, files)):
            for (split, row), (change, pair) in zip(_rows(versions[n], files[n]), changes, strict=False):
                if change != SKIP:
                    number = tables.index((n, config))
                    if place := _place(row):
                        places[number, place] = None
                    yield _as_json([number, split, change, pair, _calls(row), list(row.values())])
    requests = []
    for number, place in places:
        n, config = tables[number]
        requests.append([[number, *place], requests_of(versions[n].facts, config, place)])
    yield _as_json({"requests": requests, "gold_answers": MAX_GOLD_ANSWERS})


def _rank(config: str) -> int:
    """Return the place of a config among the others: stage 2 first, dropped rows and tool executions last."""
    return 0 if config.endswith("stage2") else 2 if config.endswith(("-dropped", "-cassette")) else 1


def _table(version: Version, config: str, files: Files) -> dict[str, Any]:
    """Return the facts of a table that the page needs to interpret its rows."""
    path = next(path for paths in files.values() for path in paths)
    schema = pq.read_schema(version.path(path))
    responders = responders_of(Features.from_arrow_schema(schema))
    kind = "stage2" if set(STAGE2) - STAGE2_LATER <= set(schema.names) else "responses" if responders else "rows"
    return {"config": config, "kind": kind, "columns": schema.names, "responders": responders}


def _rows(version: Version, files: Files) -> Iterator[tuple[str, Row]]:
    """Yield (split, row) in the order of the files, as `RowHashes` reads them."""
    for split, path in ((split, path) for split, paths in files.items() for path in paths):
        with pq.ParquetFile(version.path(path)) as file:
            for batch in file.iter_batches(BATCH_ROWS):
                names = batch.schema.names
                for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    yield split, dict(zip(names, values, strict=True))


def _changes(versions: Sequence[Version], files: Sequence[Files]) -> list[Iterable[Change]]:
    """Return for each version how each row of a config differs from the other version, in the order of `_rows`."""
    if len(versions) == 1:
        return [repeat((None, None))]
    only_ids = not all(files)
    a, b = (RowHashes(one, its_files, only_ids=only_ids) for one, its_files in zip(versions, files, strict=True))
    pairs = {key: pair for pair, key in enumerate(changed_columns(a, b))}
    return [
        [("before", pairs[key]) if key in pairs else (SKIP if key in b.rows else "removed", None) for key in a.rows],
        [("changed", pairs[key]) if key in pairs else ("same" if key in a.rows else "added", None) for key in b.rows],
    ]


def _place(row: Row) -> Place | None:
    """Return which requests belong to a row; None for a row without an instruction."""
    if not isinstance(row.get("instruction"), str) or not isinstance(row.get("task"), str):
        return None
    return Place(row["task"], str(row.get("dataset") or ""), bool(row.get("input")))


def _calls(row: Row) -> list[str] | None:
    """Return the call in each response of a row of stage 2; empty if the response calls no tool."""
    uses_tool, texts = row.get("uses_tool"), row.get("responses")
    if not isinstance(uses_tool, list) or not isinstance(texts, list):
        return None
    return [call_in(row["task"], text) if uses else "" for uses, text in zip(uses_tool, texts, strict=True)]


# JSON that JavaScript reads without loss ------------------------------------------------------------------------------


def _as_json(value: Any) -> str:
    """Return a value as one line of ASCII, as JSON that JavaScript reads without loss.

    Integers that JavaScript would round, and floats that JSON does not have, become texts.

    >>> _as_json([2**53 + 1, float("nan"), b"123", "\\u2028"])
    '["9007199254740993", "nan", "<3 bytes>", "\\\\u2028"]'
    """
    try:
        text = json.dumps(value, default=_other, allow_nan=False)
    except ValueError:
        text = ""
    return text if text and not MANY_DIGITS.search(text) else json.dumps(_exact(value), default=_other)


def _exact(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _exact(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_exact(part) for part in value]
    is_exact = not isinstance(value, (int, float)) or (
        math.isfinite(value) and (isinstance(value, float) or abs(value) <= MAX_SAFE)
    )
    return value if is_exact else str(value)


def _other(value: Any) -> str:
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)
