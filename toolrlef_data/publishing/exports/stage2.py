"""The records of stage 2: pairs, triples, labels and lists of the ranked responses to a prompt; see `formats`.

Responses without a text or a score, and further responses with the same text, are no candidates; the log has the number
of the latter. A response that the
format cannot express is unfit, and the others remain. A row without a pair, and a response without a label, are
recorded in the ledger without an error:

| reason | cause |
|---|---|
| no_pair | no two candidates have different texts, and scores that differ by `min_gap` |
| no_triple | the candidates have fewer than three different scores |
| not_graded | trl_kto: `correct` of the response is null |

A row whose lists are null or have different lengths does not fit (ragged).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from toolrlef_data.publishing.exports.messages import check_names
from toolrlef_data.publishing.exports.options import Options
from toolrlef_data.publishing.exports.turns import Turns, prompt_of, reply_to, tools_column, tools_list
from toolrlef_data.records import Drop, UnusableRow

__all__ = [
    "Candidate",
    "choose_pairs",
    "openai_preference",
    "pair_facts",
    "pair_records",
    "rrhf",
    "trl_kto",
    "trl_preference",
    "trl_tpo",
]

Row = Mapping[str, Any]
Records = Iterator[dict[str, Any] | Drop | UnusableRow]
Express = Callable[[Turns, str, Row, Options], Any]  # (prompt, response, row, options) -> its form in the record


class Candidate(NamedTuple):
    """A response with its score, its responder, and its form in the record."""

    text: str
    score: float
    origin: str
    reply: Any = None


def candidates_of(
    row: Row, prompt: Turns, options: Options, express: Express = reply_to
) -> tuple[list[Candidate], list[UnusableRow]]:
    """Return the candidates of a row, best first, and an error for each response that the format cannot express."""
    found: dict[str, Candidate] = {}
    unfit: list[UnusableRow] = []
    for text, score, origin in _aligned(row, "responses", "scores", "origin"):
        if text is None or score is None or not math.isfinite(score) or text.strip() in found:
            continue
        try:
            found[text.strip()] = Candidate(text, score, origin, express(prompt, text, row, options))
        except UnusableRow as error:
            unfit.append(_unfit(error, origin))
    return sorted(found.values(), key=lambda candidate: -candidate.score), unfit


def _aligned(row: Row, *names: str) -> Iterator[tuple[Any, ...]]:
    """Return the values of lists that have one value a response, response by response."""
    lists = [row[name] for name in names]
    if None in lists or len({len(values) for values in lists}) > 1:
        found = ", ".join(f"{name} {'null' if row[name] is None else len(row[name])}" for name in names)
        raise UnusableRow("ragged", f"expected lists of one length, found {found}")
    return zip(*lists, strict=True)


def _unfit(error: UnusableRow, origin: str) -> UnusableRow:
    return UnusableRow(error.reason, f"the response of {origin}: {error.detail}")


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


def pair_records(
    row: Row, options: Options, express: Express = reply_to
) -> Iterator[tuple[Turns, Candidate, Candidate] | Drop | UnusableRow]:
    """Yield (prompt, chosen, rejected) of each pair of a row, its unfit responses, and a drop if it has no pair."""
    prompt = prompt_of(row, options)
    ranked, unfit = candidates_of(row, prompt, options, express)
    yield from unfit
    pairs = choose_pairs(ranked, options.pairs, options.min_gap)
    yield from ((prompt, better, worse) for better, worse in pairs)
    if not pairs:
        yield _no_pair("no_pair", ranked)


def _no_pair(reason: str, ranked: Sequence[Candidate]) -> Drop:
    return Drop(reason, f"scores of different texts: {[candidate.score for candidate in ranked]}")


def pair_facts(better: Candidate, worse: Candidate, row: Row, options: Options) -> dict[str, Any]:
    """Return the columns that describe a pair: the margin from 0 to 1, the scores, the responders and the row."""
    if (gap := better.score - worse.score) > options.score_range:
        raise UnusableRow("bad_score", f"scores differ by {gap:g}: pass the range of the rule as score_range=")
    scores = {"score_chosen": better.score, "score_rejected": worse.score}
    origins = {"origin_chosen": better.origin, "origin_rejected": worse.origin}
    return {"margin": gap / options.score_range, **scores, **origins, "id": row["id"]}


def trl_preference(row: Row, options: Options) -> Records:
    for pair in pair_records(row, options):
        if not isinstance(pair, tuple):
            yield pair
            continue
        prompt, better, worse = pair
        sides = {"prompt": prompt, "chosen": better.reply, "rejected": worse.reply}
        yield {**sides, **tools_column(row, options), **pair_facts(better, worse, row, options)}


def openai_preference(row: Row, options: Options) -> Records:
    tools = tools_list(row, options)
    for pair in pair_records(row, options, _express_for_openai):
        if not isinstance(pair, tuple):
            yield pair
            continue
        prompt, better, worse = pair
        sides = {"preferred_output": better.reply, "non_preferred_output": worse.reply}
        yield {"input": {"messages": prompt, **({"tools": tools} if tools else {})}, **sides}


def _express_for_openai(prompt: Turns, text: str, row: Row, options: Options) -> Turns:
    reply = reply_to(prompt, text, row, options)
    check_names(reply, tools_list(row, options))
    return reply


def trl_tpo(row: Row, options: Options) -> Records:
    prompt = prompt_of(row, options)
    ranked, unfit = candidates_of(row, prompt, options)
    yield from unfit
    middle = [candidate for candidate in ranked if ranked[0].score > candidate.score > ranked[-1].score]
    if not middle:
        yield _no_pair("no_triple", ranked)
        return
    triple = {"reference": ranked[0], "chosen": middle[0], "rejected": ranked[-1]}
    sides = {side: candidate.reply for side, candidate in triple.items()}
    origins = {f"origin_{side}": candidate.origin for side, candidate in triple.items()}
    yield {"prompt": prompt, **sides, **tools_column(row, options), **origins, "id": row["id"]}


def trl_kto(row: Row, options: Options) -> Records:
    prompt = prompt_of(row, options)
    texts = set()
    for text, correct, origin in _aligned(row, "responses", "correct", "origin"):
        if text is None or text.strip() in texts:
            continue
        texts.add(text.strip())
        if correct is None:
            yield Drop("not_graded", f"the response of {origin}")
            continue
        try:
            completion = reply_to(prompt, text, row, options)
        except UnusableRow as error:
            yield _unfit(error, origin)
            continue
        facts = {"label": correct, "origin": origin, "id": row["id"]}
        yield {"prompt": prompt, "completion": completion, **tools_column(row, options), **facts}


def rrhf(row: Row, options: Options) -> Records:
    prompt = prompt_of(row, options)
    ranked, unfit = candidates_of(row, prompt, options)
    yield from unfit
    if not ranked or ranked[0].score == ranked[-1].score:
        yield _no_pair("no_pair", ranked)
        return
    lists = {"responses": "reply", "scores": "score", "origins": "origin"}
    columns = {name: [getattr(candidate, field) for candidate in ranked] for name, field in lists.items()}
    yield {"query": prompt, **columns, "id": row["id"]}
