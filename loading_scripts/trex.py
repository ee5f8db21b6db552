"""T-REx: facts of Wikidata with Wikipedia sentences that state them, in LAMA's release, one file per relation.

A row of TREx/P19.jsonl (https://github.com/facebookresearch/LAMA, CC BY-NC 4.0):

    {"uuid": "0c9f", "predicate_id": "P19", "sub_label": "Ann Lee", "obj_label": "Poland", "evidences": [
      {"sub_surface": "Lee", "obj_surface": "Polish town", "masked_sentence": "Lee was born in a [MASK]."}]}

- Rows: one question per evidence, with an id such as "trex-P19-0c9f#1". The question is the sentence up to the mask,
  followed by " ?": "Lee was born in a ?".
- Gold answers: `obj_label`, and `obj_surface` of all evidences with the same question.
- Splits: upstream has none; all rows are "train".
- Option: `cut=True` also uses sentences that continue after the mask, and truncates them at the mask.
- Not covered: other parts of LAMA; `relbert/t_rex` on the Hub, which is another data set.

| drop reason | evidence or fact |
|---|---|
| `mask_not_final` | the sentence continues after the mask with more than punctuation; not with `cut=True` |
| `repeated` | another evidence of the fact has the same question |
| `no_mask`, `several_masks` | the sentence has no mask or several |
| `mask_first` | no text precedes the mask |
| `no_evidence` | the fact has no evidence |
| `no_answer` | the fact has no label |
| `not_text` | a value is not text |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from toolrlef_data.loading_scripts.base import Question, Row, Source
from toolrlef_data.loading_scripts.command import main
from toolrlef_data.loading_scripts.fields import as_text, get_text, gold_answers, require_text
from toolrlef_data.records import Drop, InputError

MASK = "[MASK]"
_is_punctuation = re.compile(r"""[\s.!?…"'”’»]*""").fullmatch


class Trex(Source):
    """Builder of the questions table of T-REx; option `cut`: truncate sentences at the mask."""

    source = "trex"
    task = "lama"
    files = {"train": ("P[0-9]*.jsonl", "TREx/P[0-9]*.jsonl", "data/TREx/P[0-9]*.jsonl")}  # noqa: RUF012  # read only
    defaults = {"cut": False}  # noqa: RUF012  # read only

    def rows(self, raw: Mapping[str, Any], fallback_id: str, location: str) -> Iterator[Row]:  # noqa: ARG002
        fact_id = f"trex-{require_text(raw, 'predicate_id', location)}-{require_text(raw, 'uuid', location)}"
        label = get_text(raw, "obj_label", location)
        evidences = raw.get("evidences") or []
        if not isinstance(evidences, list) or not all(isinstance(evidence, dict) for evidence in evidences):
            raise InputError(f"{location}: expected a list of objects under the key 'evidences'")
        if not evidences:
            yield fact_id, Drop("no_evidence", f"{as_text(raw.get('sub_label')) or ''}, {label}")
        clozes = [_make_cloze(evidence, self.options["cut"]) if label else Drop("no_answer") for evidence in evidences]
        answers: dict[str, list[str]] = {}
        for cloze, evidence in zip(clozes, evidences, strict=True):
            if isinstance(cloze, str):
                answers.setdefault(cloze, [label]).append(as_text(evidence.get("obj_surface")) or "")
        for row_id, cloze in drop_repeats((f"{fact_id}#{n}", cloze) for n, cloze in enumerate(clozes, start=1)):
            yield (row_id, cloze) if isinstance(cloze, Drop) else Question(row_id, cloze, gold_answers(answers[cloze]))


def _make_cloze(evidence: Mapping[str, Any], cut: bool) -> str | Drop:
    """Return the cloze of an evidence (see `make_cloze`), or a drop if a value is not text."""
    sentence, surface = as_text(evidence.get("masked_sentence")), as_text(evidence.get("obj_surface"))
    if sentence is None or surface is None:
        key = "masked_sentence" if sentence is None else "obj_surface"
        return Drop("not_text", f"the key {key!r}: expected text, found {type(evidence[key]).__name__}")
    return make_cloze(sentence, cut)


def make_cloze(sentence: str, cut: bool = False) -> str | Drop:
    """Return the part of a sentence before its mask, followed by " ?", or a drop if it yields no question.

    Args:
        sentence: a sentence with one `MASK`.
        cut: whether to truncate a sentence that continues after the mask, instead of dropping it.

    >>> make_cloze("Lee was born in [MASK].")
    'Lee was born in ?'
    >>> make_cloze("Lee was born in [MASK] in 1990.").reason
    'mask_not_final'
    """
    start, mask, rest = sentence.partition(MASK)
    if not mask or MASK in rest:
        return Drop("several_masks" if mask else "no_mask", sentence[:200])
    if not start.strip(" \t\n\"'“‘«([.,"):
        return Drop("mask_first", sentence[:200])
    if not cut and not _is_punctuation(rest):
        return Drop("mask_not_final", f"{MASK}{rest}"[:80])
    return f"{' '.join(start.split())} ?"


def drop_repeats(clozes: Iterable[tuple[str, str | Drop]]) -> Iterator[tuple[str, str | Drop]]:
    """Yield (id, cloze) pairs in which a drop replaces each repeated cloze.

    >>> list(drop_repeats([("x#1", "He is ?"), ("x#2", "He is ?")]))[1]
    ('x#2', Drop(reason='repeated', detail='as x#1'))
    """
    first_ids: dict[str, str] = {}
    for row_id, cloze in clozes:
        first = row_id if isinstance(cloze, Drop) else first_ids.setdefault(cloze, row_id)
        yield row_id, cloze if first == row_id else Drop("repeated", f"as {first}")


if __name__ == "__main__":
    main("trex")
