"""One whole card, of tables with everything that is counted: `make test` compares it, too (see test_golden)."""

from __future__ import annotations

from pathlib import Path

from tests.publishing.card.test_golden import CARDS, masked, of_all_counts
from toolrlef_data import publish


def test_a_card_of_all_counts(tmp_path: Path) -> None:
    tables, options = of_all_counts()
    out = publish(tables, tmp_path / "data", version="1.0.0", **options)
    assert masked((out / "README.md").read_text()) == (CARDS / "all_counts.md").read_text()
