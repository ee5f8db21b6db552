"""Rows in the formats of When2Call and BFCL, in words of our own, and functions that write them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

LIGHT = {
    "name": "turn_on_light",
    "description": "Turns on a light.",
    "parameters": {"type": "dict", "properties": {"room": {"type": "string"}}, "required": ["room"]},
}
BOOK = {
    "name": "tables.book",
    "description": "Books a table.",
    "parameters": {
        "type": "dict",
        "properties": {"place": {"type": "string"}, "seats": {"type": "integer"}, "price": {"type": "float"}},
        "required": ["place", "seats"],
    },
}
WHEN2CALL: list[dict[str, Any]] = [
    {
        "uuid": f"row-{n}",
        "source": "made",
        "question": question,
        "correct_answer": right,
        "answers": {
            "direct": "The light is on.",
            "tool_call": json.dumps({"name": "turn_on_light", "arguments": {"room": room}}),
            "request_for_info": "Which room do you mean?",
            "cannot_answer": "Sorry, I cannot do that.",
        },
        "target_tool": None,
        "tools": tools,
    }
    for n, (question, right, room, tools) in enumerate(
        [
            ("Light in the hall, please.", "tool_call", "hall", [json.dumps(LIGHT)]),
            ("Turn on a light.", "request_for_info", "hall", [json.dumps(LIGHT), json.dumps(BOOK)]),
            ("Light in the kitchen, please.", "cannot_answer", "kitchen", []),
            ("Is the cellar lit?", "cannot_answer", "cellar", [json.dumps(BOOK)]),
        ]
    )
]
SIMPLE: list[tuple[str, dict[str, Any]]] = [
    ("A table for four at Luna.", {"tables.book": {"place": ["Luna"], "seats": [4], "price": ["", 20.0]}}),
    ("Two seats at the Old Mill.", {"tables.book": {"place": ["Old Mill", "The Old Mill"], "seats": [2]}}),
]
IRRELEVANT: list[tuple[str, None]] = [("Who wrote Faust?", None), ("What is 30 % of 70?", None)]


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return path


def write_bfcl(folder: Path, name: str, rows: Sequence[tuple[str, dict[str, Any] | None]]) -> Path:
    """Write questions that offer `BOOK`, and their right calls in the folder `possible_answer`."""
    stem = Path(name).stem
    questions = [
        {"id": f"{stem}-{n}", "question": [[{"role": "user", "content": question}]], "function": [BOOK]}
        for n, (question, _) in enumerate(rows)
    ]
    answers = [{"id": f"{stem}-{n}", "ground_truth": [accepted]} for n, (_, accepted) in enumerate(rows) if accepted]
    if answers:
        (folder / "possible_answer").mkdir(exist_ok=True)
        write_lines(folder / "possible_answer" / name, answers)
    return write_lines(folder / name, questions)
