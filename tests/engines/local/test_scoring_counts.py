"""Scoring without a model: the sizes of batches, the settings of the engine, its replies and the windows of workers."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from toolrlef_data.engines.local.scoring import scorer as scorer_module
from toolrlef_data.engines.local.scoring.engine import ScoringEngine, ScoringEngines, _build_reply
from toolrlef_data.engines.local.scoring.layouts import TokenisedRow
from toolrlef_data.engines.local.scoring.requests import ScoringRequest
from toolrlef_data.engines.local.scoring.scorer import (
    Scorer,
    _body_length,
    _Item,
    _part,
    _prediction_count,
    _token_count,
)
from toolrlef_data.engines.local.scoring.workers import WORKER_WINDOW, _pull
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import InputError, Reply


def row(n_prompt: int, *n_responses: int) -> TokenisedRow:
    return TokenisedRow((1,) * n_prompt, tuple((2,) * n for n in n_responses))


ROWS = [row(7, 3, 5), row(4, 6)]  # the longest have 12 and 10 tokens


@pytest.mark.parametrize(
    ("layout", "n_tokens", "n_predictions"),
    [
        ("packed", 2 * (7 + 6), 2 * (6 + 1)),  # each response without its last token: 2 + 4, and 5
        ("padded", 3 * 12, 3 * (12 - 4)),
        ("shared", 3 * 12, 3 * (12 - 4)),
        ("single", 3 * 12, 3 * (12 - 4)),
    ],
)
def test_the_size_of_a_batch_in_each_layout(layout: str, n_tokens: int, n_predictions: int) -> None:
    assert (_token_count(ROWS, layout), _prediction_count(ROWS, layout)) == (n_tokens, n_predictions)
    assert [_body_length(r) for r in (*ROWS, row(5), row(5, 0, 1, 2))] == [6, 5, 0, 1]


class Limited:
    """A model whose logits can be limited to the last positions."""

    def __init__(self, device: str, vocabulary: int) -> None:
        config = SimpleNamespace(vocab_size=vocabulary)
        self.device = SimpleNamespace(type=device)
        self.config = SimpleNamespace(get_text_config=lambda: config)

    def forward(self, logits_to_keep: int = 0) -> None: ...


class Unlimited(Limited):
    def forward(self) -> None: ...  # type: ignore[override]


@pytest.mark.parametrize(
    ("model", "budget", "elements", "count"),
    [
        # Rows of 20 + 5 tokens in the layout "packed": a batch of n has 25 * n tokens, 6 * n logits, 625 * n of a mask.
        (Limited("cuda", 10), 100, 10**9, 4),
        (Limited("cuda", 10), 99, 10**9, 3),
        (Limited("cuda", 10), 1, 1, 1),
        (Limited("cuda", 10), 10**9, 1250, 2),
        (Limited("cuda", 10), 10**9, 1249, 1),
        (Limited("cuda", 1000), 10**9, 18_000, 3),
        (Limited("cuda", 1000), 10**9, 17_999, 2),
        (Unlimited("cuda", 1000), 10**9, 75_000, 3),
        (Unlimited("cuda", 1000), 10**9, 74_999, 2),
        (Limited("cuda", 10), 2048 + 500, 10**9, 101),
        (Limited("cpu", 10), 2048 + 500, 10**9, 81),
        (Limited("cpu", 10), 100, 10**9, 4),
    ],
)
def test_a_batch_has_as_many_rows_as_all_limits_allow(
    monkeypatch: pytest.MonkeyPatch, model: Any, budget: int, elements: int, count: int
) -> None:
    monkeypatch.setattr(scorer_module, "MAX_ELEMENTS", elements)
    pending = [_Item(n, (0,), row(20, 6)) for n in range(200)]
    scorer = Scorer(budget)
    assert [item.number for item in scorer._next_batch(pending, model)] == list(range(count))
    scorer.selection.candidates = ["single"]
    assert len(scorer._next_batch(pending, Limited("cuda", 1))) == max(1, min(200, budget // 26, elements // 6))


def test_a_part_of_a_row_keeps_its_numbers() -> None:
    item = _Item(3, (4, 6, 7), row(2, 1, 2, 3))
    assert _part(item, slice(None, 1)) == _Item(3, (4,), row(2, 1))
    assert _part(item, slice(1, None)) == _Item(3, (6, 7), row(2, 2, 3))
    assert not item.is_last_try


def test_the_reply_has_the_sum_and_the_tokens() -> None:
    assert _build_reply(-1.25, "", (1, 2), (3,)) == Reply("-1.25", prompt_tokens=2, completion_tokens=1)
    assert _build_reply(None, "no memory", (1,), (3,)) == Reply(None, error="out_of_memory", error_detail="no memory")
    assert _build_reply(-math.inf, "", (1,), (3,)) == Reply(
        None, error="bad_request", error_detail="the log-probability is -inf: another dtype may help"
    )


def test_the_settings_of_the_engine() -> None:
    spec = EngineSpec("local", "m")
    with pytest.raises(InputError) as caught:
        ScoringEngine(EngineSpec("scripted", "m"))
    assert str(caught.value) == "log-probabilities need a model on this machine (kind 'local'), found 'scripted'"
    for devices in (["cuda:0", "cpu"], ["auto"]):
        with pytest.raises(InputError) as caught:
            ScoringEngine(spec, devices)
        assert str(caught.value) == (
            f"devices: expected devices of one kind such as cuda:0 and cuda:1, found {devices!r}"
        )
    engine = ScoringEngine(spec, ["cuda:1", "cuda:0"])
    assert (engine.spec.device, engine.devices, engine.stats()) == ("cuda:1", ("cuda:1", "cuda:0"), {})
    engine.layouts |= {"single", "packed"}
    assert engine.stats() == {"layout": "packed, single"}
    assert (ScoringEngine(spec).spec, ScoringEngine(spec).devices, ScoringEngine(spec).tolerance) == (spec, (), 0.025)
    engines = ScoringEngines(("cpu",), 0.5)
    made = engines(spec)
    assert (made.devices, made.spec.device, made.tolerance, made.scorer.selection.tolerance) == (
        ("cpu",),
        "cpu",
        0.5,
        0.5,
    )
    assert engines.in_key() == {"devices": None, "tolerance": "0.5"}
    assert ScoringEngines().in_key() == {"devices": None, "tolerance": "0.025"}
    assert made.scorer.budget == spec.batch_tokens


def test_a_worker_gets_the_requests_that_are_ready() -> None:
    pairs = [(f"{n}", ScoringRequest(prompt="p", response=f"{n}")) for n in range(300)]
    requests = iter([*pairs[:130], None, None, *pairs[130:]])
    windows = [_pull(requests) for _ in range(6)]
    assert [(len(window), has_more) for window, has_more in windows] == [
        (WORKER_WINDOW, True), (2, True), (0, True), (WORKER_WINDOW, True), (300 - 130 - WORKER_WINDOW, False), (0, False)
    ]  # fmt: skip
    assert [pair for window, _ in windows for pair in window] == pairs
