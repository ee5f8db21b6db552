"""Whole tables and ledgers of two trails, as they are in tests/fixtures/trails: every column of every stage.

TOOLRLEF_RENEW=1 writes them again: read the difference before a commit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset

from toolrlef_data import (
    ANNOTATIONS,
    TASKS,
    EngineSpec,
    Reply,
    Responder,
    answer,
    build_stage1,
    counterfactual,
    execute,
    grade,
    ledger,
    make_questions,
    rescore,
    respond,
    score,
    scripted,
    without_tool,
)
from toolrlef_data.records import ToolResult
from toolrlef_data.tools.tool import ToolInput

FOLDER = Path(__file__).parents[1] / "fixtures" / "trails"
CUT: dict[str, Any] = {"finish_reason": "length"}


def quiet(script: Any, **settings: Any) -> EngineSpec:
    return scripted(script, progress=False, max_failed=1.0, **settings)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def lines_of(tables: dict[str, Dataset]) -> list[str]:
    """Return the rows of each table, and of the ledger of all, one JSON text a line."""
    rows = [(name, row) for name, table in tables.items() for row in table]
    dropped = sorted(ledger([*tables.values()]), key=lambda row: json.dumps(row, sort_keys=True))
    rows += [("ledger", row) for row in dropped]
    return [json.dumps({"table": name, **without_nulls(row)}, ensure_ascii=False) for name, row in rows]


def check(name: str, tables: dict[str, Dataset]) -> None:
    path, lines = FOLDER / f"{name}.jsonl", lines_of(tables)
    if os.environ.get("TOOLRLEF_RENEW"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    expected = path.read_text(encoding="utf-8").splitlines()
    for line, golden in zip(lines, expected, strict=False):
        assert json.loads(line) == json.loads(golden)
    assert len(lines) == len(expected)


MATH_ROWS = [
    {"id": "figs", "question": "Ada picks 12 figs a day. How many figs does she pick in 7 days?", "answers": "84", "solution": "She picks 12*7=<<12*7=84>>84 figs.\n#### 84"},
    {"id": "rolls", "question": "A tray holds 24 rolls. 5 trays are full, 6 rolls burn. How many are left?", "answers": ["114"], "solution": "5*24=<<5*24=120>>120\n120-6=<<120-6=114>>114\n#### 114"},
    {"id": "rope", "question": "A rope of 9 m is cut into 4 equal pieces. How long is a piece?", "answers": "2.25", "solution": "By the rule of thumb.\n#### 2.25"},
    {"id": "coins", "question": "Ben has 3 coins of 50 cents. How many dollars are they?", "answers": "$1.50", "solution": None},
    {"id": "eggs", "question": "A box holds 6 eggs. How many eggs do 9 boxes hold?", "answers": 54, "solution": "9*6=54"},
    {"id": "books", "question": "Cleo reads 3 books a month. How many books does she read in a year?", "answers": "36", "solution": "3*12=<<3*12=36>>36\n#### 36"},
    {"id": "trains", "question": "A train leaves every 15 minutes. How many trains leave in 2 hours?", "answers": "8", "solution": "120/15=<<120/15=9>>9\n#### 9"},
    {"id": "cups", "question": "4 cups cost 18 dollars. What does one cup cost?", "answers": "4.5", "solution": ""},
    {"id": "figs again", "question": "Ada picks 12 figs a day. How many figs does she pick in 7 days?", "answers": "84", "solution": None},
    {"id": "none", "question": "How many?", "answers": None, "solution": None},
]  # fmt: skip
STUDENT = {
    "figs": "12*7=84. The answer is 84.",
    "rolls": Reply("5*24=120", reasoning="First the trays.", prompt_tokens=30, completion_tokens=9),
    "rope": Reply("9/4 is", **CUT),
    "coins": Reply(None, error="timeout", error_detail="no answer within 5 s"),
    "eggs": "calculator(9*6)",
    "books": Reply("3*12=36. The answer is 36. And then", **CUT),
    "trains": "<think>120/15</think> It is 7.",
    "cups": " ",
}
TEACHER = {
    "rope": "calculator(9/4)",
    "coins": "The call is calculator(3*0.5).",
    "trains": "calculator(8)",
    "cups": "calculator(18/0)",
    "eggs": "calculator(6+9)",
}
CALLING = {
    "figs": "calculator(12*7)",
    "rolls": "calculator(24*5-6",
    "rope": Reply("", tool_calls=(("functions.calculator", '{"formula": "9/4", "unit": "m"}'),)),
    "coins": '{"name": "calculator", "arguments": {"formula": "3*50"}}',
    "eggs": "calculator(9*6) eggs",
    "books": Reply("", tool_calls=(("search", '{"q": "books"}'),)),
    "trains": "Nobody knows.",
    "cups": Reply("calculator(18/4) and", **CUT, completion_tokens=24),
}
OPENED = {"figs": "12+7)", "rolls": "calculator(5*24-6)", "rope": Reply(None, error="too_long"), "": "abc)"}


def test_a_trail_of_calculations() -> None:
    questions = make_questions(MATH_ROWS, task="math", id="id", solution="solution", dataset="shop")
    answered = answer(questions, quiet(STUDENT))
    graded = grade(answered)
    stage1 = build_stage1(graded, [ANNOTATIONS, quiet(TEACHER | {"": "I cannot."})], attempts=2)
    guesses = quiet({"figs": "It is 84.", "rolls": "#### 113", "": "It is 8, or 9?"}, temperature=0.5)
    responders = [
        Responder("native", quiet(CALLING | {"": "none"}), protocol="tools", examples=1),
        Responder("opened", quiet(OPENED), style="completion", force_call=True),
        Responder("guesses", guesses, samples=2, style="alpaca"),
    ]
    executed = execute(respond(stage1, responders))
    stage2 = score(executed, lacking="drop_response")
    tables = {"questions": questions, "answered": answered, "graded": graded, "stage1": stage1, "executed": executed}
    tables |= {"stage2": stage2, "strict": score(executed, trusted=["native"])}
    tables |= {"paper": rescore(stage2, "paper"), "cost": rescore(stage2, "cost")}
    kinds = ["no_tools", "other_tools", "missing_argument", "chat"]
    tables["not_calling"] = without_tool(stage1, kind=kinds, seed=1)
    check("calculations", tables)


PASSAGES = {"capital": ("Oslo is the capital of Norway.", "Bergen is a port."), "river": ("The Tana is long.",)}


def find(inputs: Sequence[ToolInput]) -> list[ToolResult]:
    """Return passages by a word of the argument, or an error: a search tool."""
    return [
        next((ToolResult(texts) for word, texts in PASSAGES.items() if word in call.argument), None)
        or ToolResult(
            error="no_result" if "nothing" in call.argument else "http", detail=f"status of {call.argument!r}"
        )
        for call in inputs
    ]


QA_ROWS = [
    {"q": "What is the capital of Norway?", "gold": ["Oslo", "Kristiania"], "key": "a"},
    {"q": "Which river is long?", "gold": ["Tana"], "key": "b"},
    {"q": "Who wrote Peer Gynt?", "gold": ["Ibsen"], "key": "c"},
    {"q": "Which port lies in the west?", "gold": ["Bergen"], "key": "d"},
]
READER = {
    "Oslo is the capital": "Oslo.",
    "Bergen is a port": "Bergen or Oslo",
    "Tana is long": Reply("The Tana", reasoning="It says so."),
}


def test_a_trail_of_searches() -> None:
    tool = replace(TASKS["qa"].tool, many=find, version="2", max_failed=1.0)
    task = replace(TASKS["qa"], tool=tool, reader=quiet(READER, temperature=0.0))
    questions = make_questions(QA_ROWS, task=task, question="q", answers="gold", id=lambda row: f"no-{row['key']}")
    graded = grade(answer(questions, quiet({"capital": "Bergen", "river": "I think it is the Tana.", "": "Ibsen?"})))
    calls = {"capital": "WikiSearch(capital of Norway)", "Gynt": "WikiSearch(Ibsen)", "port": "WikiSearch(nothing)"}
    stage1 = build_stage1(graded, quiet(calls), attempts=1, keep_unverified=True)
    responders = [
        Responder("same", quiet({**calls, "river": "WikiSearch(river)"})),
        Responder("plain", quiet({"capital": "Oslo", "": "It is Bergen, Oslo or Rome."})),
    ]
    executed = execute(respond(stage1, responders))
    tables = {"graded": graded, "stage1": stage1, "executed": executed}
    tables |= {
        "stage2": score(executed, lacking="drop_response"),
        "compat": score(execute(respond(stage1, responders), compat=True), compat=True),
    }
    model = quiet({"capital": "WikiSearch(capital)", "river": "It is the Tana.", "": "WikiSearch(x"}, temperature=1.0)
    need = counterfactual(questions, model, samples=4)
    tables["need"] = need
    tables["by_need"] = build_stage1(graded, quiet(calls), attempts=1, need=need, unsure="grade", hopeless="drop")
    check("searches", tables)
