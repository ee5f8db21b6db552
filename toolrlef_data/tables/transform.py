"""Stages that add columns (`apply`) or drop rows (`keep`); `reshape` has those that make other rows.

A row function is a module-level function of one row and frozen settings; a batch function receives lists of values.
A stage maps the function over the batches of an Arrow table with explicit features, in a Dataset or in each split of a
DatasetDict. The cache key comes from `fingerprint`, and each stage writes a record (see `lineage`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from datasets import Dataset, DatasetDict, Features

from toolrlef_data.checks import check_callable, check_names, check_type, require_columns, split_path
from toolrlef_data.records import InputError, LedgerError
from toolrlef_data.tables.batches.functions import (
    RowFunction,
    apply_to_batch,
    judge_batch,
    keep_batch,
)
from toolrlef_data.tables.batches.mapping import (
    by_split,
    check_num_proc,
    function_name,
    key_after,
    map_batches,
    renamed_argument,
    stage_key,
    step_digest,
    warn_if_empty,
)
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.identity import check_ids
from toolrlef_data.tables.lineage import has_records, write_dropped
from toolrlef_data.tables.row_files import materialize
from toolrlef_data.tables.stage_cache import (
    build_record,
    discard_record,
    load_stage,
    read_record,
    store_unfinished,
    with_fingerprint,
    write_record,
)

__all__ = ["Prepared", "apply", "keep"]

D = TypeVar("D", bound="Dataset | DatasetDict")


class Prepared(NamedTuple):
    """What `prepare` of `apply` returns.

    Args:
        salt: changes the cache key of the result; "" leaves it as it is.
        record: further entries of the stage's record.
        is_final: a salted result replaces the cached one for good; otherwise the next run computes it again.
    """

    salt: str = ""
    record: Mapping[str, Any] = MappingProxyType({})
    is_final: bool = False


@renamed_argument("step", "function")
def apply(
    data: D,
    function: RowFunction,
    settings: Any = None,
    *,
    reads: Sequence[str],
    adds: Mapping[str, Any],
    removes: Sequence[str] = (),
    batched: bool = False,
    name: str = "",
    prepare: Callable[[Dataset], Prepared] | None = None,
    unfinished: Callable[[Dataset], bool] | None = None,
    refresh: bool = False,
    is_outdated: Callable[[Dataset, Mapping[str, Any]], bool] | None = None,
    num_proc: int | None = None,
) -> D:
    """Add the columns that a row function or batch function returns; no row is dropped.

    Args:
        data: a Dataset, or a DatasetDict whose splits are transformed separately.
        function: (row, settings) -> dict of new values; with `batched`, (columns as lists, settings) -> dict of lists.
        settings: plain values, frozen dataclasses or functions, all part of the cache key; default: None.
        reads: the columns that the function receives; "gpt.text" is the field `text` of the struct column `gpt`.
        adds: name -> feature of each new column; "gpt.tool" replaces a field of a struct column.
        removes: columns to remove; default: none.
        batched: whether `function` is a batch function; default: False.
        name: name of the stage in the lineage; default: the function's name.
        prepare: called before the map on a table whose result is not cached.
        unfinished: returns whether a result has retryable failures; if so, the next run computes it again.
        refresh: call `prepare` and compute the result even if it is cached; default: False.
        is_outdated: (table, record of the cached result) -> whether to compute the result again; default: never.
        num_proc: number of processes; does not change the result. Default: one.

    Returns:
        The table with the new columns.

    Raises:
        MissingColumns: the table lacks columns of `reads`.
        InputError: `data` is not a table, or has a transform, ids are null or not unique, `num_proc` is below 1, or
            the function returns other columns or types.
        UnhashableSetting: a setting cannot be part of a cache key.

    >>> def double(row, settings):
    ...     return {"twice": row["n"] * settings}
    >>> from datasets import Dataset, Value
    >>> apply(Dataset.from_dict({"n": [1, 2]}), double, 2, reads=["n"], adds={"twice": Value("int64")})["twice"][:]
    [2, 4]
    """
    check_num_proc(num_proc)
    check_callable("function", function)
    for argument, names in {"reads": reads, "removes": removes}.items():
        check_names(argument, names)
    if not isinstance(adds, Mapping):
        raise InputError(f"adds: expected a mapping of columns to features, found {adds!r:.80}")
    for argument, flag in {"batched": batched, "refresh": refresh}.items():
        check_type(argument, flag, "True or False", bool)
    if is_outdated is not None:
        check_callable("is_outdated", is_outdated)
    name = name or function_name(function)

    def on_split(split: Dataset) -> Dataset:
        split = materialize(split)
        require_columns(split, reads, name)
        columns = {
            column: adds.get(column, feature) for column, feature in split.features.items() if column not in removes
        }
        # A path with a field, such as "gpt.tool", replaces values inside an existing column.
        new_columns = {path: feature for path, feature in adds.items() if not split_path(path, split.column_names)[1]}
        features = Features(columns | new_columns)
        step = step_digest(function, [settings, list(reads), list(adds)], features)
        key = key_after(split._fingerprint, step)
        cached = None if refresh else load_stage(key, split)
        if cached is not None:
            record = read_record(cached._fingerprint)
            if record is None:
                return cached
            # The stages that `prepare` ran are inputs, too. Only `prepare` can write their records again.
            is_complete = all(has_records(prepared, split._fingerprint) for prepared in record["inputs"][1:])
            if is_complete and (is_outdated is None or not is_outdated(split, record)):
                return cached
        check_ids(split)
        prepared = prepare(split) if prepare is not None else Prepared()
        unsalted_key = key
        if prepared.salt:
            key = digest(key, prepared.salt)
        batch_function = functools.partial(
            apply_to_batch,
            function=function,
            settings=settings,
            reads=tuple(reads),
            adds=tuple(adds),
            features=features,
            batched=batched,
        )
        result = map_batches(split, batch_function, features, key, name, num_proc)
        if len(result) != len(split):
            raise LedgerError(f"{name}: expected {len(split)} rows, found {len(result)}")
        if "id" in adds:
            check_ids(result)
        if unfinished is not None and unfinished(result):
            result, key = store_unfinished(result, key)
        write_record(key, {**build_record(name, [split], settings, result), "step_digest": step, **prepared.record})
        if prepared.salt and prepared.is_final:
            write_record(unsalted_key, {"replaced_by": key})
        elif prepared.salt:
            discard_record(unsalted_key)
        return result

    return by_split(data, on_split)


def keep(
    data: D,
    judge: RowFunction,
    settings: Any = None,
    *,
    reads: Sequence[str],
    stage: str,
    batched: bool = False,
    num_proc: int | None = None,
) -> D:
    """Drop the rows for which a judge returns a `Drop`, and record them in the ledger.

    Args:
        data: a Dataset, or a DatasetDict whose splits are filtered separately.
        judge: (row, settings) -> None or a `Drop`; with `batched`, (columns as lists, settings) -> list of these.
        settings: plain values, frozen dataclasses or functions, all part of the cache key; default: None.
        reads: the columns that the judge receives.
        stage: name of the stage in the ledger and the lineage.
        batched: whether `judge` is a batch function; default: False.
        num_proc: number of processes; does not change the result. Default: one.

    Returns:
        The table without the dropped rows.

    Raises:
        MissingColumns: the table lacks columns of `reads`.
        InputError: as in `apply`.
        UnhashableSetting: a setting cannot be part of a cache key.
        LedgerError: the retained and dropped rows do not add up to the input rows.

    >>> from datasets import Dataset
    >>> from toolrlef_data import Drop
    >>> def not_empty(row, settings):
    ...     return None if row["text"] else Drop("empty")
    >>> rows = Dataset.from_dict({"id": ["a", "b"], "text": ["", "fish"]})
    >>> keep(rows, not_empty, reads=["text"], stage="filter")["id"][:]
    ['b']
    """
    check_num_proc(num_proc)
    check_callable("judge", judge)
    check_names("reads", reads)
    if not isinstance(stage, str):
        raise InputError(f"stage: expected a name, found {stage!r:.80}")
    check_type("batched", batched, "True or False", bool)

    def on_split(split: Dataset) -> Dataset:
        split = materialize(split)
        require_columns(split, reads, stage)
        key = stage_key(split, judge, [settings, stage, list(reads)], split.features)
        if (cached := load_stage(key, split)) is not None:
            return cached
        check_ids(split)
        verdicts = functools.partial(judge_batch, judge=judge, settings=settings, reads=tuple(reads), batched=batched)
        dropped = write_dropped(split, verdicts, stage, key)
        if len(dropped):
            batch_function = functools.partial(keep_batch, judge=verdicts)
            result = map_batches(split, batch_function, split.features, key, f"{stage}: keep", num_proc)
        else:
            result = with_fingerprint(split, key)
        if len(result) + len(dropped) != len(split):
            raise LedgerError(
                f"{stage}: expected {len(split)} rows, found {len(result)} retained and {len(dropped)} dropped"
            )
        write_record(key, build_record(stage, [split], settings, result, dropped))
        warn_if_empty(result, dropped, stage)
        return result

    return by_split(data, on_split)
