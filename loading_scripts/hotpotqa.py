"""HotpotQA: questions that take two Wikipedia articles to answer (https://hotpotqa.github.io, CC BY-SA 4.0).

A row of hotpot_train_v1.1.json, hotpot_dev_distractor_v1.json, hotpot_dev_fullwiki_v1.json (JSON arrays):

    {"_id": "5a7a06", "question": "Which bird eats the fruit that grows on Ann's tree?", "answer": "the fig parrot",
     "type": "bridge", "level": "hard", "supporting_facts": [["Ann", 0], ["Fig", 2]],
     "context": [["Ann", ["Ann has a fig tree.", "It is old."]], ["Fig", ["..."]]]}

Questions are asked without the paragraphs in `context`: finding them is the retriever's work. So the two dev files hold
the same rows, and a second copy is dropped as `repeated`. The test file has no answers (`no_answer`). Answers "yes" and
"no" (6 in 100 by the paper) are dropped as `yes_no`, since they stand in almost any text, so that almost every
prediction would be right; `keep_yes_no=True` keeps them. The Hub's copy has `id` for `_id`, and calls dev "validation".
Not covered: supporting facts and their score, and the passages of the fullwiki setting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from toolrlef_data.loading_scripts.base import Question, Row, Source, main
from toolrlef_data.loading_scripts.fields import field, gold, text
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
    repeats = True

    def rows(self, raw: Mapping[str, Any], name: str, where: str) -> Iterator[Row]:  # noqa: ARG002
        row_id = f"hotpotqa-{field(raw, 'id' if 'id' in raw else '_id', where)}"
        question = " ".join(text(raw, "question", where).split())
        answers = gold([text(raw, "answer", where)]) if "answer" in raw else ()
        if not answers:
            yield row_id, Drop("no_answer")
        elif answers[0].casefold().rstrip(".!") in ("yes", "no") and not self.options["keep_yes_no"]:
            yield row_id, Drop("yes_no", answers[0])
        else:
            yield Question(row_id, question, answers)


if __name__ == "__main__":
    main("hotpotqa")
