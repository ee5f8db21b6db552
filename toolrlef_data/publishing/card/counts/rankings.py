"""Counts of tables with ranked responses: stage 2.

| key | number of |
|---|---|
| score, responder, score | responses |
| score_sum, responder | millionths of the sum of the scores |
| tool, responder, task, call or answer | responses |
| grade, responder, right, wrong or ungraded | responses |
| as_gold, responder, same or other | responses that call the tool as gold does, or not |
| tool_error, responder, kind | responses whose call has this error |
| finish, responder, reason | responses, by the reason why they ended |
| ranking, all_different, some_equal, all_equal or one | rows, by the scores of their responses |
| logprob, responder, value or the error | responses, if log-probabilities were computed |
| logprob_sum, responder | millionths of the sum of log-probabilities per token, in nats |
| logprob_tokens, responder, number | responses with this number of tokens |
| logprob_model, model | rows |
| pairs, all or ordered | pairs of responses with different scores |
| learnt, learnt or open | rows with a pair |

Sums are of integers, since sums of floats depend on the order of the rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from datasets import Features

from toolrlef_data.columns import STAGE2
from toolrlef_data.publishing.card.counts.keys import CountBatch, Counts
from toolrlef_data.trice.ranking.agreement import pair_differences
from toolrlef_data.trice.ranking.logprobs import LOGPROBS

__all__ = ["MILLION", "counter"]

MILLION = 1_000_000
NEEDED = ("origin", "scores", "uses_tool")
USED = ("task", "correct", "errors", "finish_reasons")
GRADES = {True: "right", False: "wrong", None: "ungraded"}


def counter(features: Features) -> CountBatch | None:
    """Return the columns to read and the function that counts them; None if the table has no ranked responses."""
    if any(features.get(name) != STAGE2[name] for name in NEEDED):
        return None
    known = {**STAGE2, **LOGPROBS}
    return [*NEEDED, *(name for name in (*USED, *LOGPROBS) if features.get(name) == known[name])], count


def count(batch: pa.Table, counts: Counts) -> None:
    """Add the counts of a batch."""
    for row in batch.to_pylist():
        names, scores = row["origin"] or [], row["scores"] or []
        calls = dict(zip(names, row["uses_tool"] or [], strict=False))
        for name, score in zip(names, scores, strict=False):
            if score is not None and math.isfinite(score):
                counts["score", name, score] += 1
                counts["score_sum", name] += round(score * MILLION)
        for name, call in calls.items():
            counts["tool", name, row.get("task") or "", "call" if call else "answer"] += 1
            if "gold" in calls and name != "gold":
                counts["as_gold", name, "same" if bool(call) == bool(calls["gold"]) else "other"] += 1
        for name, grade in zip(names, row.get("correct") or [], strict=False):
            counts["grade", name, GRADES[grade]] += 1
        for key, column in (("tool_error", "errors"), ("finish", "finish_reasons")):
            for name, value in zip(names, row.get(column) or [], strict=False):
                if value is not None:
                    counts[key, name, value] += 1
        counts["ranking", _ranking(scores)] += 1
        if "logprobs" in row:
            _count_logprobs(row, counts)


def _ranking(scores: list[float | None]) -> str:
    if len(scores) < 2:
        return "one"
    different = len(set(scores))
    return "all_equal" if different == 1 else "all_different" if different == len(scores) else "some_equal"


def _count_logprobs(row: Mapping[str, Any], counts: Counts) -> None:
    names, logprobs, tokens = row["origin"] or [], row["logprobs"] or [], row.get("logprob_tokens") or []
    errors = row.get("logprob_errors") or [None] * len(names)
    normalised = [
        None if logprob is None or not n else logprob / n for logprob, n in zip(logprobs, tokens, strict=False)
    ]
    for name, value, n, error in zip(names, normalised, tokens, errors, strict=False):
        counts["logprob", name, error or ("value" if value is not None else "no_tokens")] += 1
        if value is not None:
            counts["logprob_sum", name] += round(value * MILLION)
            counts["logprob_tokens", name, n] += 1
    pairs = pair_differences(row["scores"] or [], normalised) if len(normalised) == len(row["scores"] or []) else []
    n_ordered = sum(difference > 0 for difference in pairs)
    counts["pairs", "all"] += len(pairs)
    counts["pairs", "ordered"] += n_ordered
    if pairs:
        counts["learnt", "learnt" if n_ordered == len(pairs) else "open"] += 1
    if row.get("logprob_model"):
        counts["logprob_model", row["logprob_model"]] += 1
