"""Stages allocate from the system, which takes back what is freed; the process keeps its own pool of Arrow memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import Dataset, Value

from toolrlef_data import apply, publish
from toolrlef_data.tables.batches.memory import system_memory


def pool_name(columns: dict[str, Any], settings: Any) -> dict[str, Any]:
    return {"pool": [pa.default_memory_pool().backend_name for _ in columns["id"]]}


def refuse(columns: dict[str, Any], settings: Any) -> dict[str, Any]:
    raise ValueError("no")


def table() -> Dataset:
    return Dataset.from_dict({"id": ["a", "b"]})


@pytest.fixture
def other_pool() -> Any:
    """The pool of a process that is not the system's, if Arrow was built with one."""
    other = {"mimalloc": pa.mimalloc_memory_pool, "jemalloc": pa.jemalloc_memory_pool}
    names = [name for name in pa.supported_memory_backends() if name in other]
    if not names:
        pytest.skip("this Arrow has the system's allocator only")
    before = pa.default_memory_pool()
    pa.set_memory_pool(other[names[0]]())
    yield pa.default_memory_pool()
    pa.set_memory_pool(before)


@pytest.mark.parametrize("num_proc", [None, 2])
def test_a_batch_is_computed_in_memory_of_the_system(other_pool: Any, num_proc: int | None) -> None:
    result = apply(
        table(), pool_name, None, reads=["id"], adds={"pool": Value("string")}, batched=True, num_proc=num_proc
    )
    assert result["pool"][:] == ["system", "system"]
    assert pa.default_memory_pool().backend_name == other_pool.backend_name


def test_an_error_leaves_the_pool_as_it_was(other_pool: Any) -> None:
    with pytest.raises(ValueError, match="no"):
        apply(table(), refuse, None, reads=["id"], adds={"pool": Value("string")}, batched=True)
    assert pa.default_memory_pool().backend_name == other_pool.backend_name


def test_publish_takes_no_memory_of_another_pool(other_pool: Any, tmp_path: Path) -> None:
    texts = [f"{n:01000d}" for n in range(5000)]
    rows = {"id": list(map(str, range(5000))), "instruction": texts, "input": texts, "output": texts}
    source = Dataset.from_dict(rows)
    counting = pa.proxy_memory_pool(other_pool)
    pa.set_memory_pool(counting)
    publish({"math": {"stage1": source}}, tmp_path / "out", version="1.0.0")
    assert (counting.max_memory() or 0) < 1_000_000, "of 15 MB"


def test_stages_of_two_threads_that_overlap_leave_the_pool_as_it_was(other_pool: Any) -> None:
    first, second = system_memory(), system_memory()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert pa.default_memory_pool().backend_name == other_pool.backend_name


def test_a_pool_of_the_user_on_the_system_stays() -> None:
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(pa.system_memory_pool())
    pa.set_memory_pool(pool)
    try:
        with system_memory():
            held = pa.array(range(10_000), pa.int64())
            assert pool.bytes_allocated() >= held.nbytes
            del held  # before its pool
    finally:
        pa.set_memory_pool(before)
