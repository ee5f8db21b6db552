"""Exhausted memory of a CPU or a GPU: how to recognise it, and how to free what is not used."""

from __future__ import annotations

import gc

__all__ = ["first_line", "free_memory", "is_out_of_memory"]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory is exhausted; torch raises a RuntimeError for that of the CPU."""
    import torch

    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "DefaultCPUAllocator" in str(error)


def free_memory() -> None:
    """Collect garbage and empty the CUDA cache."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its class name if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
