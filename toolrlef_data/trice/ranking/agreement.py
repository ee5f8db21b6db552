"""Agreement of a model's log-probabilities with the scores of stage 2.

A pair is two responses of a row with different scores. It is ordered if the length-normalised log-probability of the
response with the higher score is higher. The ranking of a row is learnt if all its pairs are ordered.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict, Features, List, Value

from toolrlef_data.checks import check_features
from toolrlef_data.columns import STAGE2
from toolrlef_data.engines.rules import is_number, must_be
from toolrlef_data.records import Drop
from toolrlef_data.tables.transform import apply, keep
from toolrlef_data.trice.ranking.logprobs import LOGPROBS

__all__ = ["AGREEMENT", "drop_learnt", "pair_differences", "rank_agreement"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Row = Mapping[str, Any]

READS = Features(scores=STAGE2["scores"], logprobs=LOGPROBS["logprobs"], logprob_tokens=LOGPROBS["logprob_tokens"])
AGREEMENT = Features(
    logprobs_normalised=List(Value("float64")),
    ranking_pairs=Value("int64"),
    ranking_ordered=Value("int64"),
    ranking_margin=Value("float64"),
    ranking_loss=Value("float64"),
    ranking_learnt=Value("bool"),
    ranking_weight=Value("float64"),
)


def rank_agreement(stage2: D, *, num_proc: int | None = None) -> D:
    """Add what the model of `logprobs` has already learnt of each row's ranking.

    Args:
        stage2: a table from `logprobs`.
        num_proc: number of processes.

    Returns:
        The table with these columns; responses without a score or a log-probability are in no pair:

        - `logprobs_normalised`: log-probability per token, in nats; null for a response without tokens.
        - `ranking_pairs`: number of pairs of responses with different scores.
        - `ranking_ordered`: number of pairs in which the better response has the higher value.
        - `ranking_margin`: the smallest difference of a pair (better minus worse); null without a pair.
        - `ranking_loss`: the paper's ranking loss of the row, the sum over the pairs of max(0, worse - better).
        - `ranking_learnt`: whether all pairs are ordered; null without a pair.
        - `ranking_weight`: share of the pairs that are not ordered, a weight of the row in training; 0 without a pair.

    Raises:
        MissingColumns: the table lacks the columns of `logprobs`.

    Source: `ranking_loss` is that of TRICE (arXiv 2305.13068), as in RRHF.

    >>> row = {"id": "a", "scores": [20.0, 15.0, 0.0], "logprobs": [-6.0, -8.0, -2.0], "logprob_tokens": [6, 4, 4]}
    >>> (row,) = rank_agreement(Dataset.from_list([row])).to_list()
    >>> row["logprobs_normalised"], row["ranking_ordered"], row["ranking_pairs"], row["ranking_loss"]
    ([-1.0, -2.0, -0.5], 1, 3, 2.0)
    """
    stage2 = check_features(stage2, READS, "rank_agreement")
    return apply(stage2, _agreement, reads=list(READS), adds=AGREEMENT, name="rank_agreement", num_proc=num_proc)


def drop_learnt(stage2: D, *, margin: float = 0.0, num_proc: int | None = None) -> D:
    """Drop the rows whose ranking the model has already learnt, and record them in the ledger.

    Args:
        stage2: a table from `rank_agreement`.
        margin: a ranking is learnt if all pairs are ordered by at least this difference, in nats per token; default 0.
        num_proc: number of processes.

    Returns:
        The other rows, also those without a pair. The reason in the ledger is "ranking_learnt".

    Raises:
        InputError: the margin is negative or not a number.
        MissingColumns: the table lacks the columns of `rank_agreement`.

    >>> rows = [{"id": "a", "scores": [20.0, 0.0], "logprobs": [-1.0, -2.0], "logprob_tokens": [1, 1]}]
    >>> rows += [{**rows[0], "id": "b", "logprobs": [-2.0, -1.0]}]
    >>> drop_learnt(rank_agreement(Dataset.from_list(rows)))["id"][:]
    ['b']
    """
    must_be("a number from 0 on", lambda n: is_number(n) and 0 <= n < math.inf).check("margin", margin)
    reads = Features({name: AGREEMENT[name] for name in ("ranking_learnt", "ranking_margin")})
    stage2 = check_features(stage2, reads, "drop_learnt")
    return keep(stage2, _judge, float(margin), reads=list(reads), stage="drop_learnt", num_proc=num_proc)


def _judge(row: Row, margin: float) -> Drop | None:
    if not row["ranking_learnt"] or row["ranking_margin"] < margin:
        return None
    return Drop("ranking_learnt", f"smallest difference of a pair: {row['ranking_margin']:.4g} nats per token")


def _agreement(row: Row, settings: None) -> dict[str, Any]:
    values = [
        None if logprob is None or not n_tokens else logprob / n_tokens
        for logprob, n_tokens in zip(row["logprobs"], row["logprob_tokens"], strict=True)
    ]
    differences = pair_differences(row["scores"], values)
    n_ordered = sum(difference > 0 for difference in differences)
    return {
        "logprobs_normalised": values,
        "ranking_pairs": len(differences),
        "ranking_ordered": n_ordered,
        "ranking_margin": min(differences, default=None),
        "ranking_loss": math.fsum(max(0.0, -difference) for difference in differences),
        "ranking_learnt": n_ordered == len(differences) if differences else None,
        "ranking_weight": 1 - n_ordered / len(differences) if differences else 0.0,
    }


def pair_differences(scores: Sequence[float | None], values: Sequence[float | None]) -> list[float]:
    """Return the value of the better response minus that of the worse one, for each pair with different scores."""
    known = [
        (score, value)
        for score, value in zip(scores, values, strict=True)
        if score is not None and value is not None and math.isfinite(score)
    ]
    pairs = (sorted(pair, reverse=True) for pair in itertools.combinations(known, 2))
    return [better - worse for (high, better), (low, worse) in pairs if high > low]
