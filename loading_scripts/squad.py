"""LAMA's SQuAD: statements with a masked answer (https://github.com/facebookresearch/LAMA, CC BY-NC 4.0).

A row of Squad/test.jsonl of LAMA's data.zip. Its 305 sentences were written by humans from questions of SQuAD 1.1:

    {"masked_sentences": ["Figs are mostly eaten by [MASK]."], "obj_label": "birds", "id": "56be4db0_0",
     "sub_label": "Squad"}

- Gold answer: one word.
- Ids: the sentences of one row are separate questions, which share their id up to "#".
- Drops: sentences that continue after the mask as `mask_not_final`. With `cut=True` they are truncated at the mask, and
  equal questions of a row are dropped as `repeated`. For other drop reasons see `trex`.
- Not covered: SQuAD itself, whose questions and contexts are not part of LAMA.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from toolrlef_data.loading_scripts.base import Question, Row, Source
from toolrlef_data.loading_scripts.command import main
from toolrlef_data.loading_scripts.fields import get_text, get_texts, gold_answers, require_text
from toolrlef_data.loading_scripts.trex import drop_repeats, make_cloze
from toolrlef_data.records import Drop


class Squad(Source):
    """Builder of the questions table of LAMA's SQuAD; option `cut`: truncate sentences at the mask."""

    source = "squad"
    task = "lama"
    files = {"test": ("test.jsonl", "Squad/test.jsonl", "data/Squad/test.jsonl")}  # noqa: RUF012  # read only
    defaults = {"cut": False}  # noqa: RUF012  # read only

    def rows(self, raw: Mapping[str, Any], fallback_id: str, location: str) -> Iterator[Row]:  # noqa: ARG002
        row_id = f"squad-{require_text(raw, 'id', location)}"
        answers = gold_answers([get_text(raw, "obj_label", location)])
        sentences = list(dict.fromkeys(get_texts(raw, "masked_sentences", location)))
        ids = [row_id] if len(sentences) == 1 else [f"{row_id}#{n}" for n in range(1, len(sentences) + 1)]
        clozes = [make_cloze(sentence, self.options["cut"]) if answers else Drop("no_answer") for sentence in sentences]
        for sentence_id, cloze in drop_repeats(zip(ids, clozes, strict=True)):
            yield (sentence_id, cloze) if isinstance(cloze, Drop) else Question(sentence_id, cloze, answers)
        if not sentences:
            yield row_id, Drop("no_mask", "the row has no sentence")


if __name__ == "__main__":
    main("squad")
