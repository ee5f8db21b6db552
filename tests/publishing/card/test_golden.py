"""Whole cards, as they are in tests/fixtures/cards. TOOLRLEF_RENEW=1 writes them again: read the difference before a commit.

Versions of packages, digests and sizes of files are left out, since other versions of pyarrow write other bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_dataset

from tests.support.answer_trees import searches, table
from tests.support.card_tables import dropped_rows, need_rows, responded_rows, stage1_rows, stage2_rows
from toolrlef_data import (
    ANNOTATIONS,
    Responder,
    answer,
    build_stage1,
    build_stage2,
    grade,
    load_source,
    preference_pairs,
    publish,
    respond,
    scripted,
    trajectories,
)

CARDS = Path(__file__).parents[2] / "fixtures" / "cards"
Publication = tuple[Mapping[str, Mapping[str, Dataset]], Mapping[str, Any]]


def of_a_run() -> Publication:
    """Return stage 1 and stage 2 of a run with scripted models, with complete lineage and drops."""
    texts = {"": "The answer is 8."}
    graded = grade(answer(load_source("sample", split="train"), scripted(texts, progress=False)))
    stage1 = build_stage1(graded, ANNOTATIONS)
    models = {"hasty": "It is 8, I think.", "caller": "calculator(2*4)", "broken": "calculator(2*"}
    responders = [Responder(name, scripted({"": text}, progress=False)) for name, text in models.items()]
    return {"math": {"stage1": stage1, "stage2": build_stage2(respond(stage1, responders))}}, {}


def of_all_counts() -> Publication:
    """Return tables of two tasks with everything that is counted, and a ledger of their own."""
    math = {"stage1": stage1_rows(12), "stage2": stage2_rows(12), "responded": responded_rows(6), "need": need_rows(6)}
    tables = {"math": math, "lama": {"stage1": stage1_rows(6, "lama"), "stage2": stage2_rows(6, "lama")}}
    return tables, {"dropped": dropped_rows(8), "card": {"title": "All counts", "license": "mit"}}


def of_trajectories() -> Publication:
    """Return samples and preference pairs of searches."""
    answers = table({f"s{n}": search.file() for n, search in enumerate(searches(6))})
    return {"web": {"samples": trajectories(answers, steps="all"), "pairs": preference_pairs(answers)}}, {}


def masked(card: str) -> str:
    """Return a card without what differs between machines."""
    card = re.sub(r"^Built with .*$", "Built with PACKAGES.", card, flags=re.M)
    card = re.sub(r"-[0-9a-f]{16}\.parquet", "-DIGEST.parquet", card)
    card = re.sub(r"^( *(?:num_bytes|download_size|dataset_size)): \d+$", r"\1: BYTES", card, flags=re.M)
    return re.sub(r"\b[0-9a-f]{16}\b", "DIGEST", card)


@pytest.mark.parametrize("make", [of_a_run, of_all_counts, of_trajectories], ids=lambda make: make.__name__)
def test_cards_are_those_of_the_fixtures(make: Callable[[], Publication], tmp_path: Path) -> None:
    tables, options = make()
    out = publish(tables, tmp_path / "data", version="1.0.0", **options)
    card = masked((out / "README.md").read_text())
    file = CARDS / f"{make.__name__.removeprefix('of_')}.md"
    if os.environ.get("TOOLRLEF_RENEW"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(card)
    assert card == file.read_text()
    for figure in re.findall(r"\]\((figures/\w+\.svg)\)", card):
        assert (out / figure).is_file()
    for config, split in re.findall(r'`load_dataset\("PATH", "([\w-]+)", split="(\w+)"\)`', card):
        assert len(load_dataset(str(out), config, split=split))


def test_the_summary_is_one_screen(tmp_path: Path) -> None:
    tables, options = of_all_counts()
    card = (publish(tables, tmp_path / "data", version="1.0.0", **options) / "README.md").read_text()
    summary = card.split("---\n", 2)[2].partition("## Load it")[0]
    assert len(summary.splitlines()) < 25
