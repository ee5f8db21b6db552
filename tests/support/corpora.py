"""Tables of cases: our own in tests/fixtures/corpora, and the hostile corpora beside the checkout, which are not public."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

OWN = Path(__file__).parents[1] / "fixtures" / "corpora"
SHARED = Path(__file__).resolve().parents[3] / "shared"
HOSTILE_CASES = {"calculator.jsonl": 323, "grading.jsonl": 116, "parsing.jsonl": 113}  # lines of each file


def own_cases(name: str) -> list[Any]:
    """Return the cases of a corpus in tests/fixtures, one parameter a line."""
    return [pytest.param(case, id=f"{case['why']}-{number}") for number, case in enumerate(_lines(OWN / name), 1)]


def hostile_cases(name: str, *tasks: str) -> list[Any]:
    """Return the cases of a hostile corpus, of some tasks or of all; an empty list if the corpora are absent."""
    path = SHARED / "hostile" / name
    if not path.exists():
        return []
    cases = [case for case in map(_expand, _lines(path)) if not tasks or case["task"] in tasks]
    return [pytest.param(case, id=case["id"]) for case in cases]


def missing_cases() -> int:
    """Return how many hostile cases are absent."""
    return sum(count for name, count in HOSTILE_CASES.items() if not (SHARED / "hostile" / name).exists())


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the cases of a file; `splitlines` would split texts at U+2028."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _expand(case: dict[str, Any]) -> dict[str, Any]:
    """Return a case with its run-length encoded texts in full."""
    expanded = {key: _text(value) for key, value in case.items() if not key.endswith("_parts")}
    expanded |= {key.removesuffix("_parts"): _join(value) for key, value in case.items() if key.endswith("_parts")}
    return expanded


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(item) for item in value]
    if isinstance(value, dict):
        return _join(value["parts"]) if "parts" in value else {key: _text(item) for key, item in value.items()}
    return value


def _join(parts: list[tuple[str, int]]) -> str:
    return "".join(unit * count for unit, count in parts)
