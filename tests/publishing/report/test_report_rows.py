"""The report's file: complete rows and requests, nothing that loads or runs, and no list of all rows in memory."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, Features, List, Value
from typer.testing import CliRunner

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
    diff,
    grade,
    load_source,
    publish,
    push_to_hub,
    respond,
    scripted,
    write_report,
)
from toolrlef_data.cli.main import app
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.publishing import markdown
from toolrlef_data.publishing.figures.charts import Figure, funnel, scores
from toolrlef_data.publishing.hub.versions import folder_version
from toolrlef_data.publishing.manifest import file_entry, seal
from toolrlef_data.publishing.report.requests import Place, requests_of
from toolrlef_data.publishing.report.rows import json_lines

ROWS = [{"id": f"r{n % 4}", "question": f"{n} + 1?", "output": str(n)} for n in range(6)]  # two ids are not unique

PLAIN = [{"id": str(n), "n": n} for n in range(3)]  # nothing of which a card has figures


def lines_of(path: Path) -> list[Any]:
    """Return the lines in the file of a report."""
    (packed,) = re.findall(r'id="data">([^<]*)<', path.read_text())
    return [json.loads(line) for line in gzip.decompress(base64.b64decode(packed)).decode("ascii").splitlines()]


def published(folder: Path, rows: list[dict[str, Any]] | DatasetDict, name: str = "stage1") -> Path:
    table = rows if isinstance(rows, DatasetDict) else Dataset.from_list(rows)
    return publish({"math": {name: table}}, folder, version="1.0.0")


def test_every_row_of_every_config_and_split_is_in_the_file(tmp_path: Path) -> None:
    splits = DatasetDict(train=Dataset.from_list(ROWS), test=Dataset.from_list(ROWS[:1]))
    tables = {"stage1": splits, "other": Dataset.from_list([{"id": "x", "deep": [{"a": None}]}])}
    folder = publish({"math": tables}, tmp_path / "data", version="1.2.3")
    first, *rows, last = lines_of(write_report(folder, out=tmp_path / "r.html"))
    assert first["versions"] == ["1.2.3"]
    assert [(table["config"], table["columns"]) for table in first["tables"]] == [
        ("math-other", ["id", "deep"]),
        ("math-stage1", ["id", "question", "output"]),
    ]
    assert rows[0] == [0, "train", None, None, None, ["x", [{"a": None}]]]
    values = {split: [line[5] for line in rows if line[:2] == [1, split]] for split in ("train", "test")}
    assert values == {"train": [list(row.values()) for row in ROWS], "test": [list(ROWS[0].values())]}
    assert last["requests"] == []


def test_numbers_that_javascript_would_round_are_texts(tmp_path: Path) -> None:
    row = {"id": "1", "big": 2**60 + 1, "edge": 2**53, "small": 7, "share": 1 / 3, "nan": float("nan")}
    _, line, _ = lines_of(write_report(published(tmp_path / "data", [row]), out=tmp_path / "r.html"))
    assert line[5] == ["1", "1152921504606846977", 2**53, 7, 1 / 3, "nan"]


# Two versions -------------------------------------------------------------------------------------------------------


def test_rows_of_two_versions_are_those_of_diff(tmp_path: Path) -> None:
    after = [ROWS[0], *ROWS[2:5], {**ROWS[5], "output": "other"}, {**ROWS[0], "id": "new"}]
    a, b = published(tmp_path / "a", ROWS), published(tmp_path / "b", after)
    first, *rows, _ = lines_of(write_report(a, b, out=tmp_path / "r.html"))
    assert [(table["version"], table["config"]) for table in first["tables"]] == [
        (0, "math-stage1"),
        (1, "math-stage1"),
    ]
    by_change: dict[str, list[list[Any]]] = {}
    for line in rows:
        by_change.setdefault(line[2], []).append(line)
    change = diff(a, b)["math-stage1"]
    assert [line[5][0] for line in by_change["added"]] == list(change.added)
    assert [line[5][0] for line in by_change["removed"]] == list(change.removed)
    assert {line[5][0] for line in by_change["changed"]} == set(change.changed)
    before = {line[3]: line for line in by_change["before"]}
    assert len(before) == len(by_change["changed"]), "each changed row has its earlier one"
    assert all(before[line[3]][5][0] == line[5][0] for line in by_change["changed"])
    assert len(rows) == len(after) + len(change.removed) + len(before), "equal rows are written once"


def test_a_config_of_one_version_only(tmp_path: Path) -> None:
    table = Dataset.from_list(ROWS)
    a = publish({"math": {"stage1": table, "old": table}}, tmp_path / "a", version="1.0.0")
    b = publish({"math": {"stage1": table, "new": table}}, tmp_path / "b", version="2.0.0")
    first, *rows, _ = lines_of(write_report(a, b, out=tmp_path / "r.html"))
    changes = {(first["tables"][line[0]]["config"], line[2]) for line in rows}
    assert changes == {("math-stage1", "same"), ("math-old", "removed"), ("math-new", "added")}


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


def test_another_split_is_a_change_and_a_new_column_is_none(tmp_path: Path) -> None:
    a = published(tmp_path / "a", DatasetDict(train=Dataset.from_list(ROWS[:2])))
    rows = [{**row, "why": "x"} for row in ROWS[:2]]
    b = published(tmp_path / "b", DatasetDict(train=Dataset.from_list(rows[:1]), test=Dataset.from_list(rows[1:])))
    _, *lines, _ = lines_of(write_report(a, b, out=tmp_path / "r.html"))
    assert sorted((line[2], line[1], line[5][0]) for line in lines) == [
        ("before", "train", "r1"),
        ("changed", "test", "r1"),
        ("same", "train", "r0"),
    ]


# Requests -----------------------------------------------------------------------------------------------------------


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


# Figures ------------------------------------------------------------------------------------------------------------


def add_figures(folder: Path, *figures: Figure) -> Path:
    """Add figures to a published folder and to its card, as `publish` does."""
    facts, card = json.loads((folder / "provenance.json").read_text()), folder / "README.md"
    with card.open("a") as file:
        file.writelines(f"\n![{markdown.one_line(figure.alt)}]({figure.file})\n" for figure in figures)
    for figure in figures:
        (folder / figure.file).parent.mkdir(exist_ok=True)
        (folder / figure.file).write_bytes(figure.svg)
    facts["files"] |= {name: file_entry(folder / name) for name in ("README.md", *(figure.file for figure in figures))}
    (folder / "provenance.json").write_text(seal(facts))
    return folder


def images_in(path: Path) -> list[tuple[str, str, str]]:
    """Return (alternative text, SVG, caption) of the figures of a report."""
    pattern = r'<figcaption>(.*?)</figcaption><img src="data:image/svg\+xml;base64,([^"]*)" alt="([^"]*)">'
    found = re.findall(pattern, path.read_text())
    return [(html.unescape(alt), base64.b64decode(data).decode(), html.unescape(title)) for title, data, alt in found]


def test_the_figures_of_the_card_are_in_the_report(tmp_path: Path) -> None:
    drawn = [scores({'a|b] "<c>': {20.0: 3, 5.0: 1}}), funnel([("source", 4, 1)])]
    figures = [figure for figure in drawn if figure is not None]
    folder = add_figures(published(tmp_path / "a", PLAIN), *figures)
    images = images_in(write_report(folder, out=tmp_path / "r.html"))
    expected = [(figure.alt, figure.svg.decode()) for figure in figures[::-1]]
    assert [image[:2] for image in images] == expected, "in the order of `FIGURES`"
    assert [image[2] for image in images] == ["Rows by stage", "Scores by responder"]
    later = add_figures(published(tmp_path / "b", PLAIN[1:]), figures[0])
    titles = [image[2] for image in images_in(write_report(folder, later, out=tmp_path / "r.html"))]
    scores_title = "Scores by responder, version 1.0.0"
    assert titles == ["Rows by stage, version 1.0.0", scores_title, scores_title]
    assert images_in(write_report(published(tmp_path / "c", PLAIN), out=tmp_path / "r.html")) == []


# The file -----------------------------------------------------------------------------------------------------------


def test_the_file_names_nothing_outside_itself(tmp_path: Path) -> None:
    text = write_report(published(tmp_path / "data", ROWS), out=tmp_path / "r.html").read_text()
    page = re.sub(r'id="data">[^<]*<', "", text)
    assert (
        re.findall(r"""https?:|url\(|@import|\bimport\(|\bfetch\(|innerHTML|outerHTML|\beval\(|document\.write""", page)
        == []
    )
    assert "default-src 'none'" in page


@pytest.mark.parametrize("name", ['<img src=x onerror="alert(1)">', "{rows}", "a & 'b'", "<!-- rows -->", "\u202egnp"])
def test_the_name_of_a_folder_is_text(name: str, tmp_path: Path) -> None:
    folder = published(tmp_path / name, ROWS)
    path = write_report(folder, out=tmp_path / "r.html")
    assert len(lines_of(path)) == len(ROWS) + 2
    text = path.read_text()
    assert "<img src=x" not in text
    assert "\u202e" not in text
    assert str(tmp_path) not in text, "a path of the machine is not published"


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


def test_only_an_earlier_report_is_replaced(tmp_path: Path) -> None:
    folder, path = published(tmp_path / "data", ROWS), tmp_path / "r.html"
    assert write_report(folder, out=path) == path
    first = path.read_bytes()
    write_report(folder, out=path)
    assert path.read_bytes() == first, "the same rows give the same bytes"
    path.write_text("mine")
    with pytest.raises(InputError, match="is not a report: move it away"):
        write_report(folder, out=path)
    assert path.read_text() == "mine"
    for out in (tmp_path, tmp_path / "no" / "r.html", folder / "README.md"):
        with pytest.raises(InputError):
            write_report(folder, out=out)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["data", "r.html"], "no unfinished file stays"


def test_a_folder_that_is_no_version(tmp_path: Path) -> None:
    folder = published(tmp_path / "data", ROWS)
    next(folder.glob("*/*.parquet")).write_bytes(b"x")
    for what, message in ((folder, "has changed since"), (tmp_path, "was not written by `publish`")):
        with pytest.raises(InputError, match=message):
            write_report(what, out=tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_the_command(tmp_path: Path) -> None:
    a, b = published(tmp_path / "a", ROWS), published(tmp_path / "b", ROWS[1:])
    for words, changes in (([str(a)], {None}), ([str(a), str(b)], {"same", "removed", "before", "changed"})):
        result = CliRunner().invoke(app, ["report", *words, "--out", str(tmp_path / "r.html")], catch_exceptions=False)
        assert "r.html: open it in a browser" in result.output.replace("\n", "")
        assert {line[2] for line in lines_of(tmp_path / "r.html")[1:-1]} <= changes


def test_features_of_users(tmp_path: Path) -> None:
    """A table with types of its own, without ids."""
    features = Features(text=Value("large_string"), when=Value("timestamp[s]"), lists=List(List(Value("int32"))))
    table = Dataset.from_list([{"text": "a", "when": None, "lists": [[1], []]}], features=features)
    folder = publish({"mine": {"own": table}}, tmp_path / "data", version="1.0.0")
    _, line, _ = lines_of(write_report(folder, out=tmp_path / "r.html"))
    assert line[5] == ["a", None, [[1], []]]
