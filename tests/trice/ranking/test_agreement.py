"""`rank_agreement` is the paper's comparison of scores and log-probabilities; `drop_learnt` drops by it."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
from datasets import Dataset

from toolrlef_data import InputError, drop_learnt, ledger, rank_agreement
from toolrlef_data.records import MissingColumns


def table(*rows: tuple[list[float | None], list[float | None], list[int | None]]) -> Dataset:
    names = ("scores", "logprobs", "logprob_tokens")
    return Dataset.from_list([{"id": str(n), **dict(zip(names, row, strict=True))} for n, row in enumerate(rows)])


def draw_row(rng: Random) -> tuple[list[float | None], list[float | None], list[int | None]]:
    count = rng.randint(2, 6)
    scores: list[float | None] = [rng.choice([0.0, 5.0, 10.0, 15.0, 20.0]) for _ in range(count)]
    return scores, [-rng.uniform(0, 30) for _ in range(count)], [rng.randint(1, 12) for _ in range(count)]


def test_the_columns_are_those_of_a_plain_double_loop() -> None:
    rng = Random(0)
    rows = [draw_row(rng) for _ in range(40)]
    for found, (scores, logprobs, counts) in zip(rank_agreement(table(*rows)), rows, strict=True):
        p = [(value or 0) / (count or 1) for value, count in zip(logprobs, counts, strict=True)]
        loss, differences = 0.0, []
        for i, low in enumerate(scores):
            for j, high in enumerate(scores):
                if (low or 0) < (high or 0):
                    loss += max(0.0, p[i] - p[j])
                    differences.append(p[j] - p[i])
        assert found["logprobs_normalised"] == pytest.approx(p)
        assert found["ranking_loss"] == pytest.approx(loss)
        assert found["ranking_pairs"] == len(differences)
        assert found["ranking_ordered"] == sum(difference > 0 for difference in differences)
        assert found["ranking_margin"] == (pytest.approx(min(differences)) if differences else None)
        assert found["ranking_learnt"] == (loss == 0 if differences else None)


# Row -> (pairs, ordered, margin, learnt, weight), and why.
CASES: list[tuple[str, list[Any], list[Any], list[Any], tuple[Any, ...]]] = [
    ("equal values are not ordered", [20.0, 0.0], [-2.0, -4.0], [1, 2], (1, 0, 0.0, False, 1.0)),
    ("equal scores are no pair", [20.0, 20.0], [-1.0, -2.0], [1, 1], (0, 0, None, None, 0.0)),
    ("a value that is null is in no pair", [20.0, 10.0, 0.0], [-1.0, None, -2.0], [1, None, 1], (1, 1, 1.0, True, 0.0)),
    ("a score that is null is in no pair", [20.0, None, 0.0], [-1.0, -9.0, -2.0], [1, 1, 1], (1, 1, 1.0, True, 0.0)),
    ("a score that is not a number", [20.0, math.nan, 0.0], [-1.0, -9.0, -2.0], [1, 1, 1], (1, 1, 1.0, True, 0.0)),
    ("an infinite score", [20.0, math.inf, 0.0], [-1.0, -9.0, -2.0], [1, 1, 1], (1, 1, 1.0, True, 0.0)),
    ("a response without tokens has no value", [20.0, 0.0], [-1.0, 0.0], [1, 0], (0, 0, None, None, 0.0)),
    ("no responses", [], [], [], (0, 0, None, None, 0.0)),
]


@pytest.mark.parametrize(
    ("scores", "logprobs", "counts", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_what_is_a_pair(scores: list[Any], logprobs: list[Any], counts: list[Any], expected: tuple[Any, ...]) -> None:
    data = table((scores, logprobs, counts), ([1.0, 0.0], [-1.0, -2.0], [1, 1]))  # a second row gives the types
    row = rank_agreement(data)[0]
    names = ("ranking_pairs", "ranking_ordered", "ranking_margin", "ranking_learnt", "ranking_weight")
    assert tuple(row[name] for name in names) == expected


def test_rows_are_dropped_by_margin_and_recorded() -> None:
    rows = rank_agreement(
        table(
            ([20.0, 0.0], [-1.0, -2.0], [1, 1]),  # ordered by 1 nat
            ([20.0, 0.0], [-1.0, -1.2], [1, 1]),  # ordered by 0.2 nats
            ([20.0, 0.0], [-2.0, -1.0], [1, 1]),  # not ordered
            ([20.0, 20.0], [-2.0, -1.0], [1, 1]),  # no pair: nothing is learnt
        )
    )
    assert drop_learnt(rows)["id"][:] == ["2", "3"]
    assert drop_learnt(rows, margin=1.0)["id"][:] == ["1", "2", "3"], "a difference of the margin is enough"
    kept = drop_learnt(rows, margin=0.5)
    assert kept["id"][:] == ["1", "2", "3"]
    dropped = ledger([kept])
    assert (dropped["id"][:], dropped["reason"][:]) == (["0"], ["ranking_learnt"])


def test_bad_settings_and_tables_are_refused() -> None:
    data = rank_agreement(table(([20.0, 0.0], [-1.0, -2.0], [1, 1])))
    for margin in (-0.1, math.nan, math.inf, "much", True):
        with pytest.raises(InputError, match="margin"):
            drop_learnt(data, margin=margin)  # type: ignore[arg-type]
    with pytest.raises(MissingColumns, match="ranking_margin"):
        drop_learnt(data.remove_columns("ranking_margin"))
    with pytest.raises(MissingColumns, match="logprobs"):
        rank_agreement(data.remove_columns("logprobs"))
