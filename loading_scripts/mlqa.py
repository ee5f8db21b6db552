"""MLQA: questions in seven languages about Wikipedia paragraphs (https://github.com/facebookresearch/MLQA).

A file, dev-context-en-question-es.json, whose name contains the languages of paragraphs and questions (CC BY-SA 3.0):

    {"version": 1.0, "data": [{"title": "Fig", "paragraphs": [{"context": "Figs ripen in late summer.", "qas": [
      {"id": "7d", "question": "¿Cuándo maduran los higos?", "answers": [{"text": "late summer", "answer_start": 14}]}
    ]}]}]}

- Rows: questions in other languages about English paragraphs, with English answers, as the task `mlqa` requires.
- Ids: "mlqa-7d#es", where equal ids before "#" are translations of one question.
- Files: in the data folder, in its dev/ and test/, or in its MLQA_V1/.
- Drops: questions in English (dev-context-en-question-en.json) as `same_language`; empty paragraphs as `no_context`.
- Quirks: `version` can be missing, and a paragraph can have no questions.
- Not covered: paragraphs in other languages; MLQA's training data, which are machine-translated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from toolrlef_data.loading_scripts.base import Question, Row, Source
from toolrlef_data.loading_scripts.command import main
from toolrlef_data.loading_scripts.fields import get_text, gold_answers, require, require_text
from toolrlef_data.loading_scripts.text_files import read_json_object
from toolrlef_data.records import Drop, InputError


def _patterns(split: str) -> tuple[str, ...]:
    name = f"{split}-context-en-question-??.json"
    return name, f"{split}/{name}", f"MLQA_V1/{split}/{name}"


class Mlqa(Source):
    """Builder of the questions table of MLQA."""

    source = "mlqa"
    task = "mlqa"
    files = {"dev": _patterns("dev"), "test": _patterns("test")}  # noqa: RUF012  # read only
    hub = ("facebook/mlqa", *(f"mlqa.en.{language}" for language in ("ar", "de", "es", "hi", "vi", "zh")))

    def read(self, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for location, article in read_json_object(path, "data"):
            for n, paragraph in enumerate(_objects(article, "paragraphs", location), start=1):
                paragraph_location = f"{location}, paragraph {n}"
                for m, question in enumerate(_objects(paragraph, "qas", paragraph_location), start=1):
                    context = require(paragraph, "context", paragraph_location)
                    row = {**question, "context": context, "language": path.stem[-2:]}
                    yield f"{paragraph_location}, question {m}", row

    def rows(self, raw: Mapping[str, Any], fallback_id: str, location: str) -> Iterator[Row]:  # noqa: ARG002
        language = raw["language"] if "language" in raw else raw["hub_config"][-2:]
        row_id = f"mlqa-{require_text(raw, 'id', location)}#{language}"
        question = get_text(raw, "question", location)
        answers = gold_answers(_answers(require(raw, "answers", location), location))
        context = get_text(raw, "context", location)
        if language == "en":
            yield row_id, Drop("same_language", question[:80])
        elif not context:
            yield row_id, Drop("no_context", question[:80])
        else:
            yield Question(row_id, question, answers, context=context)


def _answers(answers: Any, location: str) -> list[str]:
    """Return the texts of a list of answers, or of the Hub's form {"text": [...], ...}."""
    items = answers.get("text") if isinstance(answers, dict) else answers
    if items is None:
        return []
    if not isinstance(items, list):
        raise InputError(f"{location}: the key 'answers': expected a list, found {type(items).__name__}")
    return [get_text(item if isinstance(item, dict) else {"text": item}, "text", location) for item in items]


def _objects(parent: Mapping[str, Any], key: str, location: str) -> list[Mapping[str, Any]]:
    """Return the list of objects under a key; raise InputError if there is none."""
    items = parent.get(key)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        keys = ", ".join(parent)
        raise InputError(f"{location}: expected a list of objects under the key {key!r}; found the keys: {keys}")
    return items


if __name__ == "__main__":
    main("mlqa")
