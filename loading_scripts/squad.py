"""SQuAD as LAMA asks it: statements with a masked answer (https://github.com/facebookresearch/LAMA, CC BY-NC 4.0).

A row of Squad/test.jsonl of LAMA's data.zip, which is 305 sentences that people made of questions of SQuAD 1.1:

    {"masked_sentences": ["Figs are mostly eaten by [MASK]."], "obj_label": "birds", "id": "56be4db0_0",
     "sub_label": "Squad"}

The gold answer is one word. A row with several sentences is several questions, which share their id up to "#".
Sentences that go on after the mask are dropped as `mask_not_final`; with `cut=True` they end there, and one that asks
then what another one of its row asks is `repeated`. See `trex`. Not covered: SQuAD itself, whose questions and contexts
LAMA does not hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from toolrlef_data.loading_scripts.base import Question, Row, Source, main
from toolrlef_data.loading_scripts.fields import field, gold, text, texts
from toolrlef_data.loading_scripts.trex import cloze, each_once
from toolrlef_data.records import Drop


class Squad(Source):
    """Builder of the questions table of LAMA's SQuAD."""

    source = "squad"
    task = "lama"
    files = {"test": ("test.jsonl", "Squad/test.jsonl", "data/Squad/test.jsonl")}  # noqa: RUF012  # read only
    defaults = {"cut": False}  # noqa: RUF012  # read only

    def rows(self, raw: Mapping[str, Any], name: str, where: str) -> Iterator[Row]:  # noqa: ARG002
        row_id = f"squad-{field(raw, 'id', where)}"
        answers = gold([text(raw, "obj_label", where)])
        sentences = list(dict.fromkeys(texts(raw, "masked_sentences", where)))
        ids = [row_id] if len(sentences) == 1 else [f"{row_id}#{n}" for n in range(1, len(sentences) + 1)]
        clozes = [cloze(sentence, self.options["cut"]) if answers else Drop("no_answer") for sentence in sentences]
        for own_id, found in each_once(zip(ids, clozes, strict=True)):
            yield (own_id, found) if isinstance(found, Drop) else Question(own_id, found, answers)
        if not sentences:
            yield row_id, Drop("no_mask", "the row holds no sentence")


if __name__ == "__main__":
    main("squad")
