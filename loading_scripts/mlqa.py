"""MLQA: questions in seven languages over paragraphs of Wikipedia (https://github.com/facebookresearch/MLQA).

A file, dev-context-en-question-es.json, names the languages of the paragraphs and of the questions (CC BY-SA 3.0):

    {"version": 1.0, "data": [{"title": "Fig", "paragraphs": [{"context": "Figs ripen in late summer.", "qas": [
      {"id": "7d", "question": "¿Cuándo maduran los higos?", "answers": [{"text": "late summer", "answer_start": 14}]}
    ]}]}]}

Read are the English paragraphs with questions in another language, as the task wants them; the answers are English
then. A question is "mlqa-7d#es": the same id in other languages is the same question. Questions in English, from
dev-context-en-question-en.json, are dropped as `same_language`. A paragraph without text makes `no_context`. `version`
may be missing, and a paragraph may hold no questions. The files are taken from the folder given, from its dev/ and
test/, or from MLQA_V1/ in it. Not covered: paragraphs in other languages, and MLQA's machine-translated training data
(it has no other).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from toolrlef_data.loading_scripts.base import Question, Row, Source, main
from toolrlef_data.loading_scripts.fields import field, gold, read_object, required, text
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
        for where, article in read_object(path, "data"):
            for n, paragraph in enumerate(_objects(article, "paragraphs", where), start=1):
                place = f"{where}, paragraph {n}"
                for m, question in enumerate(_objects(paragraph, "qas", place), start=1):
                    context = required(paragraph, "context", place)
                    yield f"{place}, question {m}", {**question, "context": context, "language": path.stem[-2:]}

    def rows(self, raw: Mapping[str, Any], name: str, where: str) -> Iterator[Row]:  # noqa: ARG002
        language = raw["language"] if "language" in raw else raw["hub_config"][-2:]
        row_id = f"mlqa-{field(raw, 'id', where)}#{language}"
        question, answers = text(raw, "question", where), gold(_answers(required(raw, "answers", where), where))
        context = text(raw, "context", where)
        if language == "en":
            yield row_id, Drop("same_language", question[:80])
        elif not context:
            yield row_id, Drop("no_context", question[:80])
        else:
            yield Question(row_id, question, answers, context=context)


def _answers(answers: Any, where: str) -> list[str]:
    """Of a list of answers, or of the Hub's lists by key."""
    found = answers.get("text") if isinstance(answers, dict) else answers
    if found is None:
        return []
    if not isinstance(found, list):
        raise InputError(f"{where}: the key 'answers' holds no answers, but {type(found).__name__}")
    return [text(answer if isinstance(answer, dict) else {"text": answer}, "text", where) for answer in found]


def _objects(holder: Mapping[str, Any], key: str, where: str) -> list[Mapping[str, Any]]:
    found = holder.get(key)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise InputError(f"{where}: the key {key!r} holds no list of objects; found: {', '.join(holder)}")
    return found


if __name__ == "__main__":
    main("mlqa")
