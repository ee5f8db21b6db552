"""HotpotQA: questions whose answer requires two Wikipedia articles (https://hotpotqa.github.io, CC BY-SA 4.0).

A row of hotpot_train_v1.1.json, hotpot_dev_distractor_v1.json or hotpot_dev_fullwiki_v1.json, each one JSON array:

    {"_id": "5a7a06", "question": "Which bird eats the fruit that grows on Ann's tree?", "answer": "the fig parrot",
     "type": "bridge", "level": "hard", "supporting_facts": [["Ann", 0], ["Fig", 2]],
     "context": [["Ann", ["Ann has a fig tree.", "It is old."]], ["Fig", ["..."]]]}

- Context: the paragraphs in `context` are ignored, because the retriever should find them.
- Splits: the two dev files contain the same questions with different paragraphs, so the second copy is dropped as
  `repeated`. The test file has no answers and yields only drops (`no_answer`).
- Drops: the answers "yes" and "no" (6 % of all answers according to the paper) are dropped as `yes_no`. They are
  substrings of almost any text, so almost every prediction would be correct. `keep_yes_no=True` keeps them.
- The Hub's copy has `id` instead of `_id`, and a split "validation" instead of "dev".
- Not covered: supporting facts and their score; the passages of the fullwiki setting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from toolrlef_data.loading_scripts.base import Question, Row, Source
from toolrlef_data.loading_scripts.command import main
from toolrlef_data.loading_scripts.fields import get_text, gold_answers, require_text
from toolrlef_data.records import Drop


class Hotpotqa(Source):
    """Builder of the questions table of HotpotQA."""

    source = "hotpotqa"
    task = "retrieval"
    files = {  # noqa: RUF012  # read only
        "train": "hotpot_train_v1.1.json",
        "dev": ("hotpot_dev_distractor_v1.json", "hotpot_dev_fullwiki_v1.json"),
        "test": "hotpot_test_fullwiki_v1.json",
    }
    hub = ("hotpotqa/hotpot_qa", "distractor")
    defaults = {"keep_yes_no": False}  # noqa: RUF012  # read only
    has_repeats = True

    def rows(self, raw: Mapping[str, Any], fallback_id: str, location: str) -> Iterator[Row]:  # noqa: ARG002
        row_id = f"hotpotqa-{require_text(raw, 'id' if 'id' in raw else '_id', location)}"
        question = " ".join(get_text(raw, "question", location).split())
        answers = gold_answers([get_text(raw, "answer", location)]) if "answer" in raw else ()
        if not answers:
            yield row_id, Drop("no_answer")
        elif answers[0].casefold().rstrip(".!") in ("yes", "no") and not self.options["keep_yes_no"]:
            yield row_id, Drop("yes_no", answers[0])
        else:
            yield Question(row_id, question, answers)


if __name__ == "__main__":
    main("hotpotqa")
