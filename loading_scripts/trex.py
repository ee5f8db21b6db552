"""T-REx: facts of Wikidata and sentences of Wikipedia that state them, as LAMA publishes them, one file a relation.

A row of TREx/P19.jsonl (https://github.com/facebookresearch/LAMA, CC BY-NC 4.0):

    {"uuid": "0c9f", "predicate_id": "P19", "sub_label": "Ann Lee", "obj_label": "Poland", "evidences": [
      {"sub_surface": "Lee", "obj_surface": "Polish town", "masked_sentence": "Lee was born in a [MASK]."}]}

One row of ours is one evidence, "trex-P19-0c9f#1": the sentence up to its mask, with " ?" in the mask's place ("Lee was
born in a ?"). Gold are `obj_label` and every `obj_surface` of that sentence. By default only sentences that end at the
mask are taken, but for a full stop and quotes after it; the others are dropped as `mask_not_final`. `cut=True` takes
these too, and loses what stood after the mask. Dropped as well are the evidences that ask what another one of the same
fact asks (`repeated`), that hold no mask or several (`no_mask`, `several_masks`) or nothing before it (`mask_first`),
facts without evidences (`no_evidence`) or without a label (`no_answer`), and what is no text (`not_text`). Upstream has
no splits: all rows are "train". Not covered: other parts of LAMA, and `relbert/t_rex` on the Hub, which is another data
set.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from toolrlef_data.loading_scripts.base import Question, Row, Source, main
from toolrlef_data.loading_scripts.fields import as_text, field, gold, text
from toolrlef_data.records import Drop, InputError

MASK = "[MASK]"
_at_the_end = re.compile(r"""[\s.!?…"'”’»]*""").fullmatch


class Trex(Source):
    """Builder of the questions table of T-REx; option `cut`: take sentences that go on after the mask, too."""

    source = "trex"
    task = "lama"
    files = {"train": ("P[0-9]*.jsonl", "TREx/P[0-9]*.jsonl", "data/TREx/P[0-9]*.jsonl")}  # noqa: RUF012  # read only
    defaults = {"cut": False}  # noqa: RUF012  # read only

    def rows(self, raw: Mapping[str, Any], name: str, where: str) -> Iterator[Row]:  # noqa: ARG002
        fact = f"trex-{field(raw, 'predicate_id', where)}-{field(raw, 'uuid', where)}"
        label = text(raw, "obj_label", where)
        evidences = raw.get("evidences") or []
        if not isinstance(evidences, list) or not all(isinstance(evidence, dict) for evidence in evidences):
            raise InputError(f"{where}: the key 'evidences' holds no list of objects")
        if not evidences:
            yield fact, Drop("no_evidence", f"{as_text(raw.get('sub_label')) or ''}, {label}")
        clozes = [_cloze(evidence, self.options["cut"]) if label else Drop("no_answer") for evidence in evidences]
        surfaces: dict[str, list[str]] = {}
        for found, evidence in zip(clozes, evidences, strict=True):
            if isinstance(found, str):
                surfaces.setdefault(found, [label]).append(as_text(evidence.get("obj_surface")) or "")
        for row_id, found in each_once((f"{fact}#{n}", found) for n, found in enumerate(clozes, start=1)):
            yield (row_id, found) if isinstance(found, Drop) else Question(row_id, found, gold(surfaces[found]))


def _cloze(evidence: Mapping[str, Any], cut: bool) -> str | Drop:
    sentence, surface = as_text(evidence.get("masked_sentence")), as_text(evidence.get("obj_surface"))
    if sentence is None or surface is None:
        key = "masked_sentence" if sentence is None else "obj_surface"
        return Drop("not_text", f"the key {key!r} holds no text, but {type(evidence[key]).__name__}")
    return cloze(sentence, cut)


def cloze(sentence: str, cut: bool = False) -> str | Drop:
    """A masked sentence up to its mask, which becomes " ?", or why it makes no question.

    Args:
        sentence: holds one `MASK`.
        cut: also where the sentence goes on after the mask.

    >>> cloze("Lee was born in [MASK].")
    'Lee was born in ?'
    >>> cloze("Lee was born in [MASK] in 1990.").reason
    'mask_not_final'
    """
    before, mask, after = sentence.partition(MASK)
    if not mask or MASK in after:
        return Drop("several_masks" if mask else "no_mask", sentence[:200])
    if not before.strip(" \t\n\"'“‘«([.,"):
        return Drop("mask_first", sentence[:200])
    if not cut and not _at_the_end(after):
        return Drop("mask_not_final", f"{MASK}{after}"[:80])
    return f"{' '.join(before.split())} ?"


def each_once(clozes: Iterable[tuple[str, str | Drop]]) -> Iterator[tuple[str, str | Drop]]:
    """Ids with their clozes, a drop in the place of a cloze that an earlier one of them has.

    >>> list(each_once([("x#1", "He is ?"), ("x#2", "He is ?")]))[1]
    ('x#2', Drop(reason='repeated', detail='as x#1'))
    """
    asked: dict[str, str] = {}
    for row_id, found in clozes:
        first = row_id if isinstance(found, Drop) else asked.setdefault(found, row_id)
        yield row_id, found if first == row_id else Drop("repeated", f"as {first}")


if __name__ == "__main__":
    main("trex")
