"""The scorer selects an exact layout, stays within its limits, and survives exhausted memory."""

from __future__ import annotations

import itertools
import logging
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.support.scoring import WINDOW, causal_model, naive_logprobs, tokenised_row
from toolrlef_data.engines.local.scoring import scorer as scorer_module
from toolrlef_data.engines.local.scoring.layouts import TokenisedRow
from toolrlef_data.engines.local.scoring.scorer import ResponseScore, Scorer
from toolrlef_data.engines.local.scoring.selection import _extended


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(scorer: Scorer, model: Any, rows: Sequence[TokenisedRow]) -> list[ResponseScore]:
    """Return the results in the order of the rows and responses."""
    scores = [score for batch in scorer.score(rows, lambda: nullcontext(model)) for score in batch]
    assert len({(score.row, score.response) for score in scores}) == len(scores), "one result per response"
    return sorted(scores, key=lambda score: (score.row, score.response))


def assert_exact(scores: Sequence[ResponseScore], model: Any, rows: Sequence[TokenisedRow]) -> None:
    expected = [(sum(values), len(values)) for row in naive_logprobs(model, rows) for values in row]
    assert len(scores) == len(expected)
    for score, (total, count) in zip(scores, expected, strict=True):
        assert score.logprob == pytest.approx(total, abs=1e-4 * max(1, count))


SHORT = [tokenised_row(f"short {n}", 3 + n % 5, [2 + n % 3, 4, 5]) for n in range(20)]
LONG = tokenised_row("long", 3 * WINDOW, [4, 6, 3])


@pytest.mark.parametrize(
    ("kind", "short_layout", "long_layout"),
    [
        ("llama", "packed", "packed"),
        ("gpt2", "packed", "packed"),
        ("mistral", "packed", "shared"),  # a packed row ignores the window
        ("mamba", "padded", "padded"),  # without attention, a mask separates nothing
        ("bloom", "shared", "shared"),  # has no position ids
    ],
)
def test_the_layout_is_exact_also_when_a_long_row_comes_last(kind: str, short_layout: str, long_layout: str) -> None:
    model = causal_model(kind)
    scorer = Scorer(10_000)
    assert_exact(run(scorer, model, SHORT), model, SHORT)
    assert scorer.selection.layout == short_layout
    assert_exact(run(scorer, model, [SHORT[0], LONG]), model, [SHORT[0], LONG])
    assert scorer.selection.layout == long_layout


def test_a_window_is_noticed_although_the_longest_row_hardly_exceeds_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scorer = Scorer(10_000)
    # One token beyond the window may change less than the tolerance in one row, and more in another one.
    run(scorer, causal_model("mistral"), [tokenised_row("just too long", WINDOW - 4, [5, 4])])
    assert scorer.selection.layout == "shared"
    assert f"in a row of up to {2 * WINDOW + 5} tokens" in scorer.selection.refused["packed"]
    assert "layout packed is not used" in caplog.text


def forward_sizes(model: Any, capacity: int | None = None) -> list[tuple[int, ...]]:
    """Return a list that receives the shape of each input, and let inputs of more tokens exhaust the memory."""
    shapes: list[tuple[int, ...]] = []

    def before(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        shape = tuple(kwargs["input_ids"].shape)
        if capacity is not None and shape[0] * shape[1] > capacity:
            raise torch.OutOfMemoryError(f"{shape[0] * shape[1]} tokens\nallocated by somebody")
        shapes.append(shape)

    model.register_forward_pre_hook(before, with_kwargs=True)
    return shapes


def test_batches_stay_within_the_token_budget() -> None:
    model = causal_model("llama")
    rows = [tokenised_row(f"row {n}", 5 + n % 20, [3, 2]) for n in range(40)]
    scorer = Scorer(100)
    shapes = forward_sizes(model)
    scores = run(scorer, model, rows)
    assert max(height * width for height, width in shapes) <= 100
    assert len(shapes) < 30, "several rows in a batch"
    assert_exact(scores, causal_model("llama"), rows)


def test_the_mask_of_a_batch_stays_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of long prompts with short responses, it is larger than the logits."""
    model, rows = causal_model("llama"), [tokenised_row(f"row {n}", 60, [2, 3]) for n in range(6)]
    shapes = forward_sizes(model)
    monkeypatch.setattr(scorer_module, "MAX_ELEMENTS", 2 * 63 * 63)
    scores = run(Scorer(10_000), model, rows)
    assert [shape for shape in shapes if shape[0] > 1 and shape[0] * shape[1] ** 2 > 2 * 63 * 63] == []
    assert max(height for height, width in shapes if width > 60) == 2
    assert_exact(scores, causal_model("llama"), rows)


@pytest.mark.parametrize(
    ("window", "context", "n_prompt", "expected"),
    [(50, None, 60, 100), (50, 90, 60, 80), (50, 65, 60, None), (100, None, 60, None), (50, None, 120, None)],
)
def test_the_row_of_the_second_test_has_twice_the_window_and_fits_the_context(
    window: int, context: int | None, n_prompt: int, expected: int | None
) -> None:
    settings = SimpleNamespace(sliding_window=window, max_position_embeddings=context)
    row = _extended(SimpleNamespace(get_text_config=lambda: settings), tokenised_row("a", n_prompt, [10, 4]))
    assert (row and len(row.prompt)) == expected


def test_a_row_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    model = causal_model("llama")
    assert_exact(run(Scorer(10), model, [LONG, SHORT[0]]), model, [LONG, SHORT[0]])


def test_exhausted_memory_halves_the_budget_for_all_following_batches() -> None:
    model = causal_model("llama")
    rows = [tokenised_row(f"row {n}", 20, [3, 4, 5]) for n in range(16)]
    forward_sizes(model, capacity=150)
    scorer = Scorer(1000)
    scores = run(scorer, model, rows)
    assert_exact(scores, causal_model("llama"), rows)
    assert 75 <= scorer.budget <= 150
    # The reduced budget is kept: no later batch exceeds the memory.
    shapes = forward_sizes(model)
    n_failed = len(shapes)
    run(scorer, model, rows)
    assert n_failed == 0
    assert max(height * width for height, width in shapes) <= 150


def test_a_row_that_does_not_fit_is_split_and_only_responses_too_large_alone_fail() -> None:
    model = causal_model("llama")
    rows = [tokenised_row("large", 20, [30, 30, 30, 60]), *SHORT[:3]]
    forward_sizes(model, capacity=60)
    scores = run(Scorer(1000), model, rows)
    (failed,) = [score for score in scores if score.logprob is None]
    assert (failed.row, failed.response, failed.error) == (0, 3, "79 tokens")
    fits = [TokenisedRow(rows[0].prompt, rows[0].responses[:3]), *rows[1:]]
    assert_exact([score for score in scores if score.logprob is not None], causal_model("llama"), fits)


def test_another_error_of_the_model_is_not_hidden() -> None:
    model = causal_model("llama")
    model.register_forward_pre_hook(lambda module, args: (_ for _ in ()).throw(RuntimeError("a device failed")))
    with pytest.raises(RuntimeError, match="a device failed"):
        run(Scorer(100), model, SHORT)


def test_decoding_and_scoring_need_only_torch_and_transformers() -> None:
    others = ("datasets", "pyarrow", "openai", "peft", "xxhash", "pydantic", "filelock", "huggingface_hub")
    code = f"import sys; sys.modules.update(dict.fromkeys({others}))\n"  # None: the import fails
    code += "import toolrlef_data.engines.local.decoding, toolrlef_data.engines.local.scoring.scorer"
    subprocess.run([sys.executable, "-c", code], check=True)


def one_pass_means(model: Any, rows: Sequence[TokenisedRow]) -> list[float]:
    """Return the log-probability per token of each response, from a forward pass of a plain script."""
    means = []
    for row in rows:
        for response in row.responses:
            with torch.no_grad():
                logits = model(torch.tensor([row.prompt + response])).logits[0].float().log_softmax(-1)
            tokens = logits[len(row.prompt) - 1 : -1].gather(1, torch.tensor(response)[:, None])
            means.append(float(tokens.double().mean()))
    return means


# Many layers with large weights accumulate rounding errors, as real models do.
NOISY: dict[str, Any] = {"num_hidden_layers": 12, "initializer_range": 0.6}


@pytest.mark.parametrize(("changes", "is_noisy"), [({}, False), (NOISY, True)], ids=["two layers", "many layers"])
def test_low_precision_agrees_for_each_response(
    changes: dict[str, Any], is_noisy: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model = causal_model("llama", **changes).bfloat16()
    scorer = Scorer(1000)
    rows = [*SHORT, LONG]
    scores = run(scorer, model, rows)
    assert (scorer.selection.layout != "packed") == is_noisy
    found = [(score.logprob or 0.0) / len(rows[score.row].responses[score.response]) for score in scores]
    expected = one_pass_means(model, rows)
    assert found == pytest.approx(expected, abs=5e-2)
    for a, b in itertools.combinations(range(len(expected)), 2):
        assert abs(expected[a] - expected[b]) <= 0.1 or (expected[a] > expected[b]) == (found[a] > found[b])
    assert ("rounding errors of this model" in caplog.text) == is_noisy


def test_infinite_tolerance_accepts_rounding_errors_but_no_wrong_layout() -> None:
    scorer = Scorer(1000, tolerance=math.inf)
    run(scorer, causal_model("llama", **NOISY).bfloat16(), [*SHORT, LONG])
    assert scorer.selection.layout == "packed"
    scorer = Scorer(1000, tolerance=math.inf)
    run(scorer, causal_model("mistral").bfloat16(), [LONG])
    assert scorer.selection.layout != "packed"
