"""The lines and the page of a report as whole values, and the requests of settings that are written out here."""

from __future__ import annotations

import base64
import datetime
import gzip
import hashlib
import json
import random
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, Features

from toolrlef_data import TASKS, InputError, publish, render_prompt, write_report
from toolrlef_data.columns import DROPPED, RESPONSE, STAGE1, STAGE2
from toolrlef_data.publishing.hub.versions import Version, folder_version
from toolrlef_data.publishing.report import requests, writing
from toolrlef_data.publishing.report.card_figures import CardFigure, card_figures
from toolrlef_data.publishing.report.requests import GOLD, INPUT, INSTRUCTION, Place, requests_of
from toolrlef_data.publishing.report.rows import _as_json, _calls, _place, _rank, json_lines

Row = dict[str, Any]


def lines(*folders: Path) -> list[Any]:
    return [json.loads(line) for line in json_lines(*map(folder_version, folders))]


def table(features: Any, *rows: Row) -> Dataset:
    return Dataset.from_list([{**dict.fromkeys(features), **row} for row in rows], features=Features(features))


def ranked() -> Dataset:
    row = {"id": "a", "task": "math", "dataset": "d", "instruction": "Add.", "input": "1+1?", "origin": ["gold", "one", "two"],
           "responses": ["calculator(1+1)", "2", "x("], "scores": [20.0, 5.0, 0.0], "uses_tool": [True, False, True]}  # fmt: skip
    return table(STAGE2, row)


def test_the_lines_of_one_version(tmp_path: Path) -> None:
    """Stage 2 first, the ledger last; calls of stage 2 are read; requests belong to a task, a data set and an input."""
    responded = table({**STAGE1, "one": RESPONSE}, {"id": "b", "task": "math", "instruction": "Add.", "input": ""})
    dropped = table(DROPPED, {"id": "c", "task": "math", "stage": "s", "reason": "r"})
    tables = {"math": {"responded": responded, "stage2": ranked()}}
    first, *rows, last = lines(publish(tables, tmp_path / "a", version="1.2.0", dropped=dropped))
    assert first == {
        "versions": ["1.2.0"],
        "tables": [
            {"version": 0, "config": "math-stage2", "kind": "stage2", "columns": list(STAGE2), "responders": []},
            {"version": 0, "config": "math-responded", "kind": "responses", "columns": [*STAGE1, "one"], "responders": ["one"]},
            {"version": 0, "config": "math-dropped", "kind": "rows", "columns": list(DROPPED), "responders": []},
        ],
    }  # fmt: skip
    assert rows == [
        [0, "train", None, None, ["calculator(1+1)", "", "yes"], list(ranked()[0].values())],
        [1, "train", None, None, None, list(responded[0].values())],
        [2, "train", None, None, None, list(dropped[0].values())],
    ]
    assert last == {"requests": [[[0, "math", "d", True], []], [[1, "math", "", False], []]], "gold_answers": 10}


def test_the_lines_of_two_versions(tmp_path: Path) -> None:
    rows = [{"id": "1", "x": 1}, {"id": "2", "x": 2}, {"id": "3", "x": 3}, {"id": "1", "x": 4}]
    after = [{"id": "1", "x": 1}, {"id": "2", "x": 9}, {"id": "1", "x": 5}, {"id": "4", "x": 4}]
    table, other = Dataset.from_list(rows), Dataset.from_list(after)
    old = publish({"m": {"a": table, "old": table.select([0])}}, tmp_path / "a", version="1.0.0")
    new = publish({"m": {"a": DatasetDict(train=other), "new": other.select([0])}}, tmp_path / "b", version="2.0.0")
    first, *found, last = lines(old, new)
    assert first["versions"] == ["1.0.0", "2.0.0"]
    tables = [(each["version"], each["config"]) for each in first["tables"]]
    assert tables == [(0, "m-a"), (1, "m-a"), (1, "m-new"), (0, "m-old")]
    pairs = {line[5][0]: line[3] for line in found if line[2] == "before"}
    assert sorted(pairs.values()) == [0, 1]
    assert found == [
        [0, "train", "before", pairs["2"], None, ["2", 2]], [0, "train", "removed", None, None, ["3", 3]], [0, "train", "before", pairs["1"], None, ["1", 4]],
        [1, "train", "same", None, None, ["1", 1]], [1, "train", "changed", pairs["2"], None, ["2", 9]], [1, "train", "changed", pairs["1"], None, ["1", 5]],
        [1, "train", "added", None, None, ["4", 4]], [2, "train", "added", None, None, ["1", 1]], [3, "train", "removed", None, None, ["1", 1]],
    ]  # fmt: skip
    assert last == {"requests": [], "gold_answers": 10}


def test_the_order_of_configs() -> None:
    names = ["a-stage1", "a-stage2", "a-dropped", "a-cassette", "stage2-x", "dropped"]
    assert [_rank(name) for name in names] == [1, 0, 2, 2, 1, 1]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([2**53, 2**53 + 1, -(2**53), -(2**53) - 1], '[9007199254740992, "9007199254740993", -9007199254740992, "-9007199254740993"]'),
        ([float("inf"), float("-inf"), 0.1], '["inf", "-inf", 0.1]'),
        ({"a": {1: [float("nan")]}}, '{"a": {"1": ["nan"]}}'),
        ([1.1234567890123456, True, None, "1234567890123456789"], '[1.1234567890123457, true, null, "1234567890123456789"]'),
        ((b"", datetime.date(2026, 11, 30), Decimal("1.50")), '["<0 bytes>", "2026-11-30", "1.50"]'),
        ("é\u2028", '"\\u00e9\\u2028"'),
    ],
)  # fmt: skip
def test_values_that_javascript_reads_without_loss(value: Any, text: str) -> None:
    assert _as_json(value) == text


def test_requests_and_calls_belong_to_rows_with_their_columns() -> None:
    row: Row = {"instruction": "i", "task": "t", "dataset": None, "input": "x"}
    assert _place(row) == Place("t", "", has_input=True)
    assert _place({**row, "dataset": "d", "input": ""}) == Place("t", "d", has_input=False)
    for name in ("instruction", "task"):
        assert _place({**row, name: None}) is None
        assert _place({key: value for key, value in row.items() if key != name}) is None
    calls: Row = {"task": "math", "uses_tool": [True, False], "responses": ["calculator(1)", "calculator(2)"]}
    assert _calls(calls) == ["calculator(1)", ""]
    for name in ("uses_tool", "responses"):
        assert _calls({**calls, name: None}) is None


# The file -------------------------------------------------------------------------------------------------------------


def test_compressed_lines_of_many_chunks() -> None:
    draw = random.Random(3)
    texts = [draw.randbytes(40_000).hex() for _ in range(12)]
    parts = list(writing._compressed(iter(texts)))
    assert len(parts) == 1 + sum(len(part) == 4 << 16 for part in parts) > 2, "each chunk but the last one is whole"
    assert gzip.decompress(base64.b64decode("".join(parts))).decode().splitlines() == texts
    assert gzip.decompress(base64.b64decode("".join(writing._compressed([])))) == b""


def test_the_whole_page(tmp_path: Path) -> None:
    """All scripts in their order, the style, their digests and the names of the versions; nothing is left of it."""
    data = Dataset.from_list([{"id": "1"}])
    old, new = (
        publish({"m": {"a": data}}, tmp_path / name, version=f"{n}.0.0")
        for n, name in enumerate(("<old>", "\u202enew"), 1)
    )
    text = write_report(old, new, out=tmp_path / "r.html").read_text("utf-8")
    names = ["elements.js", "rows.js", "filters.js", "list.js", "opened.js", "changes.js", "start.js"]
    script = "\n".join((writing.PAGE / name).read_text("utf-8") for name in names)
    style = (writing.PAGE / "page.css").read_text("utf-8")
    assert text.startswith(writing.MARK)
    assert f"<style>{style}</style>" in text
    assert text.endswith(f"<script>{script}</script>\n</body>\n</html>")
    digests = [
        "'sha256-" + base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() + "'" for part in (script, style)
    ]
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    policy = policy.replace("&#39;", "'")
    assert (
        policy
        == f"default-src 'none'; script-src {digests[0]}; style-src {digests[1]}; img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert "<title>&lt;U+202E&gt;new: report</title>" in text
    assert "Changes from <b>&lt;old&gt;</b>, version 1.0.0, to <b>&lt;U+202E&gt;new</b>, version 2.0.0" in text
    assert "<h1>&lt;U+202E&gt;new</h1>" in text
    assert "<p>Version 1.0.0</p>" in write_report(old, out=tmp_path / "r.html").read_text("utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["<old>", "\u202enew", "r.html"])


def test_files_that_are_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = publish({"m": {"a": Dataset.from_list([{"id": "1"}])}}, tmp_path / "a", version="1.0.0")
    for out in (tmp_path, tmp_path / "no" / "r.html"):
        with pytest.raises(InputError) as caught:
            write_report(folder, out=out)
        assert str(caught.value) == f"out: expected the path of a file in an existing folder, found {out}"
    for content in ("mine", "", writing.MARK[:-1]):
        (tmp_path / "r.html").write_text(content)
        with pytest.raises(InputError) as caught:
            write_report(folder, out=tmp_path / "r.html")
        message = f"{tmp_path / 'r.html'} is not a report: move it away, or choose another file with out= (--out)"
        assert str(caught.value) == message
    (tmp_path / "r.html").write_text(writing.MARK)
    monkeypatch.setattr(writing, "json_lines", lambda *versions: iter([1 / 0]))  # in the middle of the file
    with pytest.raises(ZeroDivisionError):
        write_report(folder, out=tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text() == writing.MARK
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "r.html"], "the unfinished file is removed"


def test_figures_of_cards(tmp_path: Path) -> None:
    """In the order of their names in the package, of each version in turn; a figure needs a file and a text."""
    texts = {
        "one": r"![Scores. a\|b \[c\].](figures/scores.svg)" + "\n![Rows. x.](figures/funnel.svg)\n![Need.](figures/need.svg)\n",
        "two": "see ![no](figures/funnel.svg)\n![Scores. z.](figures/scores.svg)",
    }  # fmt: skip
    versions: list[Version] = []
    for name, text in texts.items():
        (tmp_path / name / "figures").mkdir(parents=True)
        (tmp_path / name / "README.md").write_text(text)
        for file in ("funnel", "scores"):
            (tmp_path / name / "figures" / f"{file}.svg").write_text(f"<{name} {file}>")
        files = dict.fromkeys(["README.md", "figures/funnel.svg", "figures/scores.svg"])
        versions.append(Version(name, {"files": files, "version": f"{len(versions)}.0.0"}, (tmp_path / name).joinpath))

    def coded(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    rows, score = CardFigure("Rows", "Rows. x.", coded("<one funnel>")), CardFigure("Scores", "Scores. a|b [c].", coded("<one scores>"))  # fmt: skip
    assert card_figures(versions[:1]) == [rows, score]
    later = CardFigure("Scores, version 1.0.0", "Scores. z.", coded("<two scores>"))
    first = [figure._replace(caption=f"{figure.caption}, version 0.0.0") for figure in (rows, score)]
    assert card_figures(versions) == [*first, later]


# Requests -------------------------------------------------------------------------------------------------------------

MATH = TASKS["math"]
PROMPTS = MATH.published()["prompts_sha256"]
SPEC: Row = {"kind": "local", "model": "m", "revision": None, "adapter": "", "base_url": "u", "temperature": 0.0, "top_p": 1.0, "top_k": 0, "max_tokens": 9, "seed": 3, "stop": [], "timeout": 5}  # fmt: skip
ENGINE = {"model": "m", "base_url": "u", "temperature": 0.0, "top_p": 1.0, "top_k": 0, "max_tokens": 9, "seed": 3}
PLACE = Place("math", "gsm8k", has_input=True)


def asked(step: str, place: Place = PLACE, prompts: Any = PROMPTS, task: str = "math", **settings: Any) -> list[Row]:
    stage = {"step": step, "inputs": [], "settings": {"spec": SPEC, "settings": {"tasks": {task: {"prompts_sha256": prompts}}, **settings}}}  # fmt: skip
    others = {"step": "grade", "inputs": ["s"], "settings": {"tasks": {"math": {}}}}
    provenance = {"stages": {"s": stage, "g": others}, "configs": {"a": {"train": {"fingerprint": "g"}}}}
    assert requests_of(provenance, "b", place) == [], "no lineage"
    return requests_of(provenance, "a", place)


def shown(prompt: Any) -> list[list[str]]:
    return [["", prompt]] if isinstance(prompt, str) else [[message.role, message.content] for message in prompt]


@pytest.mark.parametrize("style", ["chat", "completion", "alpaca", "vicuna"])
def test_requests_to_the_student_and_the_teacher(style: str) -> None:
    shots = [(example.input, example.plain) for example in MATH.examples_for("gsm8k")[:2]]
    expected = {"engine": ENGINE, "tools": [], "note": ""}
    for place, text in ((PLACE, INPUT), (PLACE._replace(has_input=False), "")):
        (record,) = asked("answer", place, style=style, examples=2)
        messages = shown(render_prompt(style, MATH.plain_instruction, text, shots))
        assert record == {**expected, "names": ["student"], "messages": messages}
        (record,) = asked("propose_calls", place, style=style)
        messages = shown(render_prompt(style, MATH.teacher_instruction, f"{text}\nGolden answers: {GOLD}"))
        assert record == {**expected, "names": ["teacher"], "messages": messages, "note": requests.SHUFFLED}


def test_requests_to_responders() -> None:
    """A request without examples needs nothing of the task; with them, those of the data set."""
    plain = {"style": "chat", "protocol": "text", "examples": 0, "force_call": False, "name": "one", "other": 1}
    (record,) = asked("respond: one", columns=["one", "one.1"], responder=plain, prompts={})
    messages = [[message.role, message.content] for message in render_prompt("chat", INSTRUCTION, INPUT)]  # type: ignore[union-attr]
    assert record == {"names": ["one", "one.1"], "engine": ENGINE, "messages": messages, "tools": [], "note": ""}
    (record,) = asked("respond: one", columns=["one"], responder={**plain, "examples": 1})
    shots = [(example.input, example.call) for example in MATH.examples_for("gsm8k")[:1]]
    assert record["messages"] == shown(render_prompt("chat", INSTRUCTION, INPUT, shots))
    for changes in ({"examples": 1}, {"force_call": True}, {"protocol": "tools"}):
        (record,) = asked(
            "respond: one", columns=["one"], responder={**plain, **changes}, prompts={**PROMPTS, "examples": "other"}
        )
        note = "The data set has only a digest of the examples of the task 'math', which this package does not know."
        assert record == {"names": ["one"], "engine": ENGINE, "messages": [], "tools": [], "note": note}
    (record,) = asked("respond: one", columns=["one"], responder={**plain, "protocol": "tools", "force_call": True})
    assert [tool["function"]["name"] if isinstance(tool, dict) else json.loads(tool)["function"]["name"] for tool in record["tools"]] == ["calculator"]  # fmt: skip
    assert record["messages"][0][1].startswith(f"{INSTRUCTION} Respond with one call, calculator(")


def test_requests_whose_texts_are_unknown() -> None:
    unknown = {**PROMPTS, "plain_instruction": "x", "examples": "x", "teacher_instruction": "x"}
    text = "The data set has only a digest of the {} of the task {!r}, which this package does not know."
    cases = [
        (asked("answer", prompts=unknown, style="chat", examples=0), text.format("plain instruction", "math")),
        (asked("answer", prompts=unknown, style="chat", examples=1), text.format("plain instruction and examples", "math")),
        (asked("propose_calls", prompts=unknown, style="chat"), text.format("teacher instruction", "math")),
        (asked("answer", PLACE._replace(task="mine"), task="mine", style="chat", examples=0), text.format("plain instruction", "mine")),
        (asked("answer", style="odd", examples=0), "The prompt style 'odd' is unknown to this version of the package."),
    ]  # fmt: skip
    for (record,), note in cases:
        assert (record["messages"], record["tools"], record["note"]) == ([], [], note)
    assert asked("answer", PLACE._replace(task="qa"), style="chat", examples=0) == [], "of another task"
    assert asked("score", style="chat", examples=0) == [], "no request"
