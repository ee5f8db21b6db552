"""Overlaps of real training and test rows; each was read, and is listed here by its number."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolrlef_data import load_source, overlaps


@pytest.mark.parametrize(
    ("source", "against", "found"),
    [("gsm8k", "gsm8k", 4), ("webquestions", "webquestions", 9), ("gsm8k", "svamp", 0)],
)
def test_real_rows_have_few_overlaps(source: str, against: str, found: int, shared: Path) -> None:
    """All hits were read: those of GSM8K have the same text with other names, or 13 equal words."""
    train = load_source(source, "train", shared / "data" / source)
    assert len(overlaps(train, against, data_dir=shared / "data" / against)) == found
