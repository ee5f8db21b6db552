"""The requests in the report are those that were sent; versions on the Hub; the rows are not held in memory."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from tests.publishing.report.test_report_rows import ROWS, lines_of, published
from tests.support.hub import REPO, use_hub
from toolrlef_data import (
    ANNOTATIONS,
    TASKS,
    InputError,
    Reply,
    Responder,
    answer,
    build_stage1,
    build_stage2,
    grade,
    load_source,
    publish,
    push_to_hub,
    respond,
    scripted,
    write_report,
)
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.publishing.hub.versions import folder_version
from toolrlef_data.publishing.report.requests import Place, requests_of
from toolrlef_data.publishing.report.rows import json_lines


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub
def test_versions_on_the_hub(tmp_path: Path) -> None:
    a, b = (
        published(tmp_path / "a", ROWS),
        publish({"math": {"stage1": Dataset.from_list(ROWS[1:])}}, tmp_path / "b", version="1.1.0"),
    )
    expected = lines_of(write_report(a, b, out=tmp_path / "r.html"))
    with use_hub():
        for folder in (a, b):
            push_to_hub(folder, REPO)
        assert lines_of(write_report(f"{REPO}@v1.0.0", REPO, out=tmp_path / "r.html")) == expected
        with pytest.raises(InputError, match="no folder org/other, and no repository org/other"):
            write_report("org/other", out=tmp_path / "r.html")


def asked(requests: list[Request], reply: str, **options: Any) -> EngineSpec:
    """Return a model that keeps its requests."""

    def keep(request: Request) -> Reply:
        requests.append(request)
        return Reply(reply)

    return scripted(keep, progress=False, **options)


def filled(record: dict[str, Any], row: dict[str, Any], gold_answers: int) -> list[list[str]]:
    """Return the messages of a record with the texts of a row, as the page fills them in."""
    gold = " | ".join(row["answers"][:gold_answers])
    texts = {"\ue000": row["instruction"], "\ue001": row["input"], "\ue002": gold}
    return [[role, re.sub("[\ue000-\ue002]", lambda mark: texts[mark[0]], text)] for role, text in record["messages"]]


def messages_of(request: Request) -> list[list[str]]:
    return [[message.role, message.content] for message in request.messages] or [["", request.prompt]]


def run(folder: Path, responders: list[Responder], student: EngineSpec, **options: Any) -> Path:
    questions = load_source("sample", split="train").select(range(4))
    stage1 = build_stage1(grade(answer(questions, student, **options)), ANNOTATIONS)
    stage2 = build_stage2(respond(stage1, responders))
    return publish({"math": {"stage1": stage1, "stage2": stage2}}, folder, version="1.0.0")


def requests_in(path: Path, table: int = 0) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]], int]:
    """Return name -> record of the requests of a table, its rows, and the number of gold answers."""
    first, *rows, last = lines_of(path)
    columns = first["tables"][table]["columns"]
    records = {record["names"][0]: record for place, found in last["requests"] if place[0] == table for record in found}
    return (
        records,
        [dict(zip(columns, line[5], strict=True)) for line in rows if line[0] == table],
        last["gold_answers"],
    )


@pytest.mark.parametrize("force_call", [False, True])
@pytest.mark.parametrize("style", ["chat", "completion", "alpaca", "vicuna"])
def test_the_requests_are_those_that_were_sent(style: str, force_call: bool, tmp_path: Path) -> None:
    by_name: dict[str, list[Request]] = {"student": [], "text": [], "tools": []}
    responders = [
        Responder("text", asked(by_name["text"], "1"), style=style, force_call=force_call),
        Responder("tools", asked(by_name["tools"], "2"), style=style, protocol="tools", examples=1),
    ]
    student = asked(by_name["student"], "It is 0.", max_tokens=77)
    folder = run(tmp_path / "data", responders, student=student, style=style, examples=2)
    records, rows, gold_answers = requests_in(write_report(folder, out=tmp_path / "r.html"))
    assert records.keys() == by_name.keys()
    assert records["student"]["engine"]["max_tokens"] == 77
    for name, requests in by_name.items():
        sent = {json.dumps([messages_of(request), list(request.tools)]) for request in requests}
        shown = {json.dumps([filled(records[name], row, gold_answers), records[name]["tools"]]) for row in rows}
        assert shown <= sent, name
        assert len(shown) == len(rows) > 2
        assert records[name]["note"] == ""


def test_the_request_to_a_teacher_has_its_instruction_and_the_gold_answers(tmp_path: Path) -> None:
    requests: list[Request] = []
    questions = load_source("sample", split="train").select(range(3))
    graded = grade(answer(questions, scripted({"": "It is 0."}, progress=False)))
    calls = {row["question"]: f"calculator({row['answers'][0]}+0*{row['answers'][0]})" for row in questions}

    def write_call(request: Request) -> Reply:
        requests.append(request)
        return Reply(next(call for question, call in calls.items() if question in request.messages[-1].content))

    stage1 = build_stage1(graded, scripted(write_call, progress=False), keep_unverified=True)
    folder = publish({"math": {"stage1": stage1}}, tmp_path / "data", version="1.0.0")
    records, rows, gold_answers = requests_in(write_report(folder, out=tmp_path / "r.html"))
    assert {row["source"] for row in rows} == {"teacher"}
    assert "order depends on the row" in records["teacher"]["note"]
    sent = [[messages_of(request)[0], messages_of(request)[-1]] for request in requests]
    for row in rows:
        assert filled(records["teacher"], row, gold_answers) in sent


def test_a_prompt_of_another_version_of_the_package_is_named(tmp_path: Path) -> None:
    fixed = scripted({"": "It is 0."}, progress=False)
    responders = [Responder("shots", fixed), Responder("none", fixed, style="alpaca"), Responder("new", fixed)]
    facts = json.loads((run(tmp_path / "data", responders, student=fixed) / "provenance.json").read_text())
    for stage in facts["stages"].values():
        settings = stage["settings"] if isinstance(stage["settings"], dict) else {}
        if stage["step"] == "respond: new":
            settings["settings"]["responder"]["style"] = "unknown"
        if "spec" in settings:
            prompts = settings["settings"]["tasks"]["math"]["prompts_sha256"]
            prompts |= {"examples": "other", "plain_instruction": "other"}
    records = {
        record["names"][0]: record
        for record in requests_of(facts, "math-stage2", Place("math", "sample", has_input=True))
    }
    assert [records[name]["messages"] for name in ("shots", "student", "new")] == [[], [], []]
    assert "only a digest of the examples of the task 'math'" in records["shots"]["note"]
    assert "only a digest of the plain instruction of the task 'math'" in records["student"]["note"]
    assert "prompt style 'unknown'" in records["new"]["note"]
    assert records["none"]["note"] == "", "it has no text of the task"
    assert records["none"]["messages"]


def test_an_own_task_is_named(tmp_path: Path) -> None:
    own = replace(TASKS["math"], name="mine")
    questions = load_source("sample", split="train").select(range(2))
    questions = Dataset.from_list([{**row, "task": "mine"} for row in questions], features=questions.features)
    fixed = scripted({"": "It is 0."}, progress=False)
    stage1 = build_stage1(grade(answer(questions, fixed, task=own), task=own), ANNOTATIONS, task=own)
    stage2 = build_stage2(respond(stage1, [Responder("shots", fixed)], task=own), task=own)
    folder = publish({"mine": {"stage2": stage2}}, tmp_path / "data", version="1.0.0")
    records, rows, _ = requests_in(write_report(folder, out=tmp_path / "r.html"))
    assert "task 'mine'" in records["shots"]["note"]
    assert records["shots"]["messages"] == []
    assert len(rows) == 2


def test_the_rows_are_not_held_in_memory(tmp_path: Path) -> None:
    """Four times the rows need less than twice the memory."""

    def peak(n: int) -> int:
        rows = [{"id": str(i), "text": f"{i} " * 300} for i in range(n)]
        version = folder_version(published(tmp_path / str(n), rows))
        tracemalloc.start()
        lines: Iterator[str] = json_lines(version)
        assert sum(1 for _ in lines) == n + 2
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(6000) < 2 * peak(1500)
