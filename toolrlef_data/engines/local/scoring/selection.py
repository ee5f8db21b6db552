"""Selection of a layout by a self-test: the fastest one whose values are those of one response at a time.

Whether a layout is exact depends on the attention of a model, and for a window on the length of a row. The self-test
therefore uses the longest row, and is repeated when a longer row follows. Beyond a window or chunk size of the
configuration, it also uses a row of at least twice that size, in which a missing window changes more than noise does.

In bfloat16 and float16, a right layout has other rounding errors than one response at a time: with real models, they
exceed 0.1 nats in some short responses. A second test therefore compares each response of a sample of rows.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence
from typing import Any

from toolrlef_data.engines.local.memory import free_memory, is_out_of_memory
from toolrlef_data.engines.local.scoring.layouts import LAYOUTS, TokenisedRow, token_logprobs

__all__ = ["ROUNDING_TOLERANCE", "LayoutSelection", "row_length"]

# Maximum mean difference per token of a response, in nats: floating-point noise.
TOLERANCE = 1e-4
# In other dtypes, of all responses of a batch. SmolLM2's values in bfloat16 have a mean error of 0.03, and one of
# 0.16 in a response of two tokens; a wrong layout changes some by several nats.
LOW_PRECISION_TOLERANCE = 0.1
# Maximum difference per token of each response of a sample from one response at a time, in low precision. It is half of
# the documented 5e-2, because the sample does not contain the largest difference of all rows.
ROUNDING_TOLERANCE = 2.5e-2
SAMPLED_ROWS = 32
TESTED_RESPONSES = 2  # of a row, the longest ones: enough to notice that one response sees another
# What models raise for arguments that they do not support.
REFUSALS = (TypeError, ValueError, RuntimeError, IndexError, AttributeError, NotImplementedError, AssertionError)
log = logging.getLogger(__name__)


def row_length(row: TokenisedRow) -> int:
    """Return the number of tokens of a prompt and its longest response."""
    return len(row.prompt) + max(map(len, row.responses), default=0)


class LayoutSelection:
    """The layout for a model, from the self-tests so far.

    Args:
        tolerance: maximum difference per token of a response from one response at a time, in nats, for dtypes other
            than float32 and float64. Infinity accepts all rounding errors.

    >>> LayoutSelection().layout
    'packed'
    """

    def __init__(self, tolerance: float = ROUNDING_TOLERANCE) -> None:
        self.tolerance = tolerance
        self.candidates = list(LAYOUTS)
        self.tested_length = 0
        self.refused: dict[str, str] = {}  # layout -> why it was not selected

    @property
    def layout(self) -> str:
        """The fastest layout that passed all self-tests."""
        return self.candidates[0]

    def update(self, model: Any, rows: Sequence[TokenisedRow]) -> None:
        """Run the self-test if a row is longer than all tested ones; to be called in `torch.inference_mode()`.

        Args:
            model: the model, in evaluation mode.
            rows: the rows that are computed next.

        Raises:
            RuntimeError, MemoryError: a row does not fit into memory.
        """
        longest = max(rows, key=row_length)
        length = row_length(longest)
        if length <= self.tested_length or self.layout == "single":
            return
        tests = [
            (batch, token_logprobs(model, batch, "single")) for batch in ([_fewer(longest)], _small_batch(longest))
        ]
        extended = _extended(model.config, longest)
        while self.layout != "single":
            reasons = (_mismatch(model, batch, expected, self.layout) for batch, expected in tests)
            reason = next(filter(None, reasons), "")
            if not reason and extended is not None:
                reason = self._extended_mismatch(model, extended)
            if not reason:
                break
            self._refuse(reason)
        if self.tolerance < math.inf and _is_low_precision(model):
            self._test_rounding(model, rows)
        self.tested_length = length

    def _refuse(self, reason: str) -> None:
        self.refused[self.layout] = reason
        log.info("layout %s is not used for this model: %s", self.layout, reason)
        self.candidates.pop(0)

    def _test_rounding(self, model: Any, rows: Sequence[TokenisedRow]) -> None:
        """Refuse layouts whose rounding errors differ by more than the tolerance in a response of a sample of rows."""
        sample = rows[:: math.ceil(len(rows) / SAMPLED_ROWS)]
        expected = [_or_none(model, row, "single") for row in sample]
        fastest, largest = self.layout, 0.0
        while self.layout != "single":
            found = [_or_none(model, row, self.layout) for row in sample]
            difference = max((_difference(*pair) for pair in zip(found, expected, strict=True)), default=0.0)
            largest = max(largest, difference)
            if difference <= self.tolerance:
                break
            self._refuse(f"rounding errors in {model.dtype} of {difference:.2g} nats per token in a response")
        if self.layout != fastest:
            log.warning(
                "in %s, rounding errors of this model change a response by up to %.2g nats per token in batches: using "
                'the slower layout "%s". A larger tolerance accepts them, and dtype="float32" has none',
                model.dtype,
                largest,
                self.layout,
            )

    def _extended_mismatch(self, model: Any, row: TokenisedRow) -> str:
        """Return why the layout is unusable for a row longer than all real ones, which may not fit into memory."""
        try:
            return _mismatch(model, [row], token_logprobs(model, [row], "single"), self.layout)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return f"a row of {row_length(row)} tokens does not fit into memory"


def _mismatch(model: Any, batch: Sequence[TokenisedRow], expected: Any, layout: str) -> str:
    """Return why a layout is unusable for a batch; "" if its values are the expected ones."""
    import torch

    try:
        found = token_logprobs(model, batch, layout)
    except REFUSALS as error:
        if is_out_of_memory(error):
            raise
        return f"{type(error).__name__}: {error}"
    pairs = zip(itertools.chain(*found), itertools.chain(*expected), strict=True)
    differences = [torch.abs(value - other) for value, other in pairs if len(value)]
    tolerance = TOLERANCE
    if _is_low_precision(model):
        tolerance, differences = LOW_PRECISION_TOLERANCE, [torch.cat(differences)] if differences else []
    largest = max((float(difference.mean()) for difference in differences), key=_or_infinity, default=0.0)
    if _or_infinity(largest) <= tolerance:
        return ""
    return f"{largest:.2g} nats per token off in a row of up to {max(map(row_length, batch))} tokens"


def _is_low_precision(model: Any) -> bool:
    import torch

    return model.dtype not in (torch.float32, torch.float64)


def _or_none(model: Any, row: TokenisedRow, layout: str) -> Any:
    """Return the values of a row, or None if it does not fit into memory."""
    try:
        return token_logprobs(model, [row], layout)[0]
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    free_memory()  # outside the handler, whose traceback keeps the tensors
    return None


def _difference(found: Any, expected: Any) -> float:
    """Return the largest difference of a response's mean, in nats per token; 0 for rows that do not fit into memory."""
    if found is None or expected is None:
        return 0.0
    pairs = zip(found, expected, strict=True)
    return max((_or_infinity(abs(float(a.mean() - b.mean()))) for a, b in pairs if len(a)), default=0.0)


def _or_infinity(value: float) -> float:
    """Return a value, or infinity for one that is not a number."""
    return math.inf if math.isnan(value) else value


def _fewer(row: TokenisedRow) -> TokenisedRow:
    """Return a row with its longest responses."""
    distinct = sorted(dict.fromkeys(row.responses), key=len, reverse=True)
    return TokenisedRow(row.prompt, tuple(distinct[:TESTED_RESPONSES]))


def _small_batch(row: TokenisedRow) -> list[TokenisedRow]:
    """Return two short rows of different lengths, which test the padding of a batch in little time."""
    responses = _fewer(row).responses
    lengths = ((24, 4), (9, 2))  # tokens of the prompt and of each response
    return [
        TokenisedRow(row.prompt[:n_prompt], tuple(response[:n_response] for response in responses))
        for n_prompt, n_response in lengths
    ]


def _extended(config: Any, row: TokenisedRow) -> TokenisedRow | None:
    """Return a row with a prompt of twice the largest window that a row exceeds, or None if it exceeds none."""
    exceeded = [size for size in window_sizes(config) if row_length(row) > size]
    if not exceeded:
        return None
    row = _fewer(row)
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    longest_response = max(map(len, row.responses), default=0)
    length = 2 * max(exceeded)
    if context:
        length = min(length, context - longest_response)
    if length <= len(row.prompt):
        return None
    repeated = row.prompt * (length // len(row.prompt) + 1)
    return TokenisedRow(repeated[:length], row.responses)


def window_sizes(config: Any) -> list[int]:
    """Return the window and chunk sizes of a configuration: the numbers whose names contain these words.

    >>> from types import SimpleNamespace
    >>> text_config = SimpleNamespace(sliding_window=4096, attention_chunk_size=None, hidden_size=64)
    >>> window_sizes(SimpleNamespace(get_text_config=lambda: text_config))
    [4096]
    """
    values = vars(config.get_text_config()).items()
    is_size = [("window" in name or "chunk" in name) and type(value) is int and value > 1 for name, value in values]
    return [value for (_, value), chosen in zip(values, is_size, strict=True) if chosen]
