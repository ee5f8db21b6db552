"""Samples hold exactly the prompt that a responder sees and the response with its end, in batches of similar length."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.support.models import tiny_llama
from toolrlef_data.engines.local.loading import load_model
from toolrlef_data.engines.local.scoring.layouts import TokenisedRow
from toolrlef_data.engines.local.scoring.requests import request_tokeniser
from toolrlef_data.engines.prompts import STYLES, render_prompt
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.trice.training.samples import SORTED_BATCHES, Sample, batches, tokenise_row
from toolrlef_data.trice.training.updates import Updates, evaluate_samples, seeded

BASE = EngineSpec("local", "tiny")
UPDATES = Updates(
    steps=1, batch_size=1, accumulation=1, learning_rate=1e-4, schedule="constant", weight=1.0, compat=False, seed=0,
    kept_steps=(),
)  # fmt: skip
ROW = {"instruction": "Write a call.", "input": "How many in 3 boxes of 12?", "output": " calculator(3*12) "}
RANKED: dict[str, Any] = {
    "instruction": "Write a call.",
    "input": "How many in 3 boxes?",
    "responses": ["calculator(3*12)", None, "36", "", "12"],
    "scores": [20.0, 10.0, None, 0.0, float("nan")],
}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_model(str(tiny_llama(tmp_path_factory.mktemp("tiny"))))


@pytest.mark.parametrize("style", STYLES)
def test_a_sample_ends_with_the_response_and_its_end_token(loaded: Any, style: str) -> None:
    sample = tokenise_row(ROW, request_tokeniser(BASE, loaded.tokenizer), style)
    assert sample is not None
    prompt, response = (loaded.tokenizer.decode(ids) for ids in (sample.tokens.prompt, sample.tokens.responses[0]))
    assert response.lstrip() == "calculator(3*12)</s>"
    assert "calculator(" not in prompt
    rendered = render_prompt(style, ROW["instruction"], ROW["input"])
    if isinstance(rendered, str):
        assert list(sample.tokens.prompt) == loaded.tokenizer(rendered).input_ids
    else:
        assert prompt.endswith("<|assistant|>")


def test_a_ranked_sample_has_the_responses_with_a_text_and_a_score(loaded: Any) -> None:
    sample = tokenise_row(RANKED, request_tokeniser(BASE, loaded.tokenizer), "alpaca")
    assert sample is not None
    assert [loaded.tokenizer.decode(ids) for ids in sample.tokens.responses] == ["calculator(3*12)</s>", "</s>"]
    assert sample.scores == (20.0, 0.0)
    assert tokenise_row({**RANKED, "scores": [None] * 5}, request_tokeniser(BASE, loaded.tokenizer), "alpaca") is None


def test_each_epoch_has_every_row_once_in_an_order_of_its_own() -> None:
    samples = [Sample(TokenisedRow(tuple(range(n + 1)), ((1,),))) for n in range(10)]
    epochs = [list(itertools.chain(*itertools.islice(batches(samples, 4, seed), 3))) for seed in (0, 0, 1)]
    assert epochs[0] == epochs[1] != epochs[2]
    two = list(itertools.islice(batches(samples, 4, 0), 6))
    first, second = list(itertools.chain(*two[:3])), list(itertools.chain(*two[3:]))
    assert sorted(first, key=len) == sorted(second, key=len) == samples
    assert first != second


def test_rows_of_similar_length_share_a_batch() -> None:
    samples = [Sample(TokenisedRow(tuple(range(n % 97 + 1)), ((1,),))) for n in range(4 * SORTED_BATCHES)]
    epoch = list(itertools.islice(batches(samples, 4, 0), SORTED_BATCHES))
    padding = sum(max(map(len, batch)) * len(batch) - sum(map(len, batch)) for batch in epoch)
    assert padding < 0.05 * sum(map(len, samples))
    assert [len(batch[0]) for batch in epoch] != sorted(len(batch[0]) for batch in epoch), "batches are in random order"


def test_the_held_out_loss_does_not_depend_on_the_batches(loaded: Any) -> None:
    rows = [TokenisedRow((1, 2, 3), ((4, 5, n), (n, 6))) for n in (7, 8, 9)]
    samples = [Sample(row, (20.0, 0.0)) for row in rows]
    results = []
    for batch_size in (1, 2, 3):
        updates = replace(UPDATES, batch_size=batch_size)
        results.append(evaluate_samples(loaded.model, samples, updates, "padded"))
    assert results[1] == pytest.approx(results[0], rel=1e-4)
    assert results[2] == pytest.approx(results[0], rel=1e-4)


def test_training_leaves_the_random_generators_of_the_user_as_they_were() -> None:
    import torch

    def draws() -> list[float]:
        return [random.random(), float(np.random.random()), float(torch.rand(1))]

    drawn = []
    for trains in (False, True):
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        if trains:
            with seeded(5, "cpu"):
                draws()
        drawn.append(draws())
    assert drawn[0] == drawn[1]
