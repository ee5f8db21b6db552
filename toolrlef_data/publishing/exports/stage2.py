"""The records of stage 2: pairs, triples, labels and lists of the ranked responses to a prompt; see `formats`.

Responses without a text or a score, and further responses with the same text, are no candidates. A row without a pair,
and a response without a label, are recorded in the ledger without an error:

| reason | cause |
|---|---|
| no_pair | no two candidates have different texts, and scores that differ by `min_gap` |
| no_triple | the candidates have fewer than three different scores |
| not_graded | trl_kto: `correct` of the response is null |
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from toolrlef_data.publishing.exports.messages import check_names
from toolrlef_data.publishing.exports.options import Options
from toolrlef_data.publishing.exports.turns import Turns, prompt_of, reply_to, tools_column, tools_list
from toolrlef_data.records import Drop, UnusableRow

__all__ = ["Candidate", "choose_pairs", "openai_preference", "rrhf", "trl_kto", "trl_preference", "trl_tpo"]

Row = Mapping[str, Any]
Records = Iterator[dict[str, Any] | Drop]


class Candidate(NamedTuple):
    """A response with its score and its responder."""

    text: str
    score: float
    origin: str


def candidates_of(row: Row) -> list[Candidate]:
    """Return the candidates of a row, best first; of equal scores the first one in the row."""
    found: dict[str, Candidate] = {}
    for text, score, origin in zip(row["responses"], row["scores"], row["origin"], strict=True):
        if text is not None and score is not None and math.isfinite(score):
            found.setdefault(text.strip(), Candidate(text, score, origin))
    return sorted(found.values(), key=lambda candidate: -candidate.score)


def choose_pairs(ranked: Sequence[Candidate], pairs: str, min_gap: float) -> list[tuple[Candidate, Candidate]]:
    """Return the (chosen, rejected) pairs of candidates with different scores.

    Args:
        ranked: the candidates, best first.
        pairs: "best": the best and the worst candidate. "adjacent": each candidate and the next one. "all": all pairs.
        min_gap: the smallest difference of scores; equal scores are never a pair.

    >>> ranked = [Candidate("72", 20, "gold"), Candidate("48", 10, "a"), Candidate("24", 10, "b")]
    >>> [(chosen.text, rejected.text) for chosen, rejected in choose_pairs(ranked, "all", 0)]
    [('72', '48'), ('72', '24')]
    """
    if pairs == "best":
        chosen_pairs = [(ranked[0], ranked[-1])] if ranked else []
    elif pairs == "adjacent":
        chosen_pairs = list(itertools.pairwise(ranked))
    else:
        chosen_pairs = [(better, worse) for n, better in enumerate(ranked) for worse in ranked[n + 1 :]]
    return [(better, worse) for better, worse in chosen_pairs if 0 < better.score - worse.score >= min_gap]


def _pairs(row: Row, options: Options) -> list[tuple[Candidate, Candidate]]:
    return choose_pairs(candidates_of(row), options.pairs, options.min_gap)


def _no_pair(row: Row, options: Options) -> Drop:
    return Drop("no_pair", f"scores of different texts: {[candidate.score for candidate in candidates_of(row)]}")


def pair_facts(better: Candidate, worse: Candidate, options: Options) -> dict[str, Any]:
    """Return the columns that describe a pair: the margin from 0 to 1, the scores and the responders."""
    if (gap := better.score - worse.score) > options.score_range:
        raise UnusableRow("bad_score", f"scores differ by {gap:g}: pass the range of the rule as score_range=")
    scores = {"score_chosen": better.score, "score_rejected": worse.score}
    origins = {"origin_chosen": better.origin, "origin_rejected": worse.origin}
    return {"margin": gap / options.score_range, **scores, **origins}


def trl_preference(row: Row, options: Options) -> Records:
    prompt = prompt_of(row, options)
    for better, worse in (pairs := _pairs(row, options)):
        sides = _sides(prompt, {"chosen": better, "rejected": worse}, row, options)
        yield {
            "prompt": prompt,
            **sides,
            **tools_column(row, options),
            **pair_facts(better, worse, options),
            "id": row["id"],
        }
    if not pairs:
        yield _no_pair(row, options)


def _sides(prompt: Turns, candidates: Mapping[str, Candidate], row: Row, options: Options) -> dict[str, Turns]:
    return {side: reply_to(prompt, candidate.text, row, options) for side, candidate in candidates.items()}


def trl_tpo(row: Row, options: Options) -> Records:
    ranked, prompt = candidates_of(row), prompt_of(row, options)
    middle = [candidate for candidate in ranked if ranked[0].score > candidate.score > ranked[-1].score]
    if not middle:
        yield Drop("no_triple", f"scores of different texts: {[candidate.score for candidate in ranked]}")
        return
    triple = {"reference": ranked[0], "chosen": middle[0], "rejected": ranked[-1]}
    origins = {f"origin_{side}": candidate.origin for side, candidate in triple.items()}
    yield {
        "prompt": prompt,
        **_sides(prompt, triple, row, options),
        **tools_column(row, options),
        **origins,
        "id": row["id"],
    }


def trl_kto(row: Row, options: Options) -> Records:
    prompt, texts = prompt_of(row, options), set()
    for text, correct, origin in zip(row["responses"], row["correct"], row["origin"], strict=True):
        if text is None or text.strip() in texts:
            continue
        texts.add(text.strip())
        if correct is None:
            yield Drop("not_graded", f"the response of {origin}")
            continue
        completion = reply_to(prompt, text, row, options)
        facts = {"label": correct, "origin": origin, "id": row["id"]}
        yield {"prompt": prompt, "completion": completion, **tools_column(row, options), **facts}


def rrhf(row: Row, options: Options) -> Records:
    prompt = prompt_of(row, options)
    ranked = candidates_of(row)
    if not ranked or ranked[0].score == ranked[-1].score:
        yield _no_pair(row, options)
        return
    replies = [reply_to(prompt, candidate.text, row, options) for candidate in ranked]
    facts = {"scores": [candidate.score for candidate in ranked], "origins": [candidate.origin for candidate in ranked]}
    yield {"query": prompt, "responses": replies, **facts, "id": row["id"]}


def openai_preference(row: Row, options: Options) -> Records:
    prompt, tools = prompt_of(row, options), tools_list(row, options)
    for better, worse in (pairs := _pairs(row, options)):
        sides = _sides(prompt, {"preferred_output": better, "non_preferred_output": worse}, row, options)
        check_names([*sides["preferred_output"], *sides["non_preferred_output"]], tools)
        yield {"input": {"messages": prompt, **({"tools": tools} if tools else {})}, **sides}
    if not pairs:
        yield _no_pair(row, options)
