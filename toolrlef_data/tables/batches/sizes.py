"""The sizes of the record batches of a stored table, on which the memory of an open table depends."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from toolrlef_data.tables.batches.memory import system_memory
from toolrlef_data.tables.files import atomic_file

__all__ = ["enlarge_batches"]

MIN_BATCHES = 4  # of a file that is written again
ROWS_PER_ARRAY, BATCH_BYTES = 160, 4_000_000  # of the new batches, which end at the first of the two


def enlarge_batches(file: Path) -> None:
    """Write a file with many small record batches again in larger ones.

    An open table takes 560 bytes of memory for each array of each batch. Batches of `ROWS_PER_ARRAY` rows for each
    array take 3.5 bytes a row, whatever the columns are; larger ones would take more memory while they are written.
    """
    with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as reader:
        rows = [batch.num_rows for batch in reader]
        enough = ROWS_PER_ARRAY * sum(_count_arrays(field.type) for field in reader.schema)
    n_batches = len(rows)
    size, n_rows = file.stat().st_size, sum(rows)
    if n_batches <= MIN_BATCHES or n_rows > n_batches * enough // 2 or size > n_batches * BATCH_BYTES // 2:
        return
    with (
        system_memory(),
        atomic_file(file) as scratch,
        pa.memory_map(str(file)) as source,
        pa.ipc.open_stream(source) as reader,
        pa.OSFile(str(scratch), "wb") as target,
        pa.ipc.new_stream(target, reader.schema) as writer,
    ):
        pending: list[pa.RecordBatch] = []
        for n, batch in enumerate(reader, start=1):
            pending.append(batch)
            is_large = sum(part.num_rows for part in pending) >= enough
            if n == n_batches or is_large or sum(part.nbytes for part in pending) >= BATCH_BYTES:
                writer.write_table(pa.Table.from_batches(pending).combine_chunks())
                pending = []
                pa.default_memory_pool().release_unused()


def _count_arrays(kind: pa.DataType) -> int:
    """Return the number of arrays of a column: its own, and those of its fields or of its items.

    >>> _count_arrays(pa.list_(pa.struct({"name": pa.string(), "age": pa.int64()})))
    4
    """
    return 1 + sum(_count_arrays(kind.field(i).type) for i in range(kind.num_fields))
