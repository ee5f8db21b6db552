"""Names of data sets, tasks, ids and files, in every spelling, and the whole message about each other name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from toolrlef_data.loading_scripts import SOURCES
from toolrlef_data.records import Drop, InputError, UnknownName
from toolrlef_data.tasks import TASKS
from toolrlef_data.trice.files.entries import Entry, NameResolver, extract_context, parse_answers, parse_entry
from toolrlef_data.trice.files.folder import PENDING, File, Line, read_folder, read_lines
from toolrlef_data.trice.files.names import (
    UPSTREAM_NAMES,
    find_dataset,
    find_task,
    normalise_id,
    normalise_name,
    upstream_id,
    upstream_name,
)
from toolrlef_data.trice.files.task_entries import TaskEntries, assign_ids, drop_repeated_ids, merge_copies

# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "upstream"), UPSTREAM_NAMES.items())
def test_a_data_set_is_found_by_both_names_in_any_case(name: str, upstream: str) -> None:
    assert upstream_name(name) == upstream
    for spelling in (name, upstream, name.upper(), upstream.upper(), upstream.lower()):
        assert normalise_name(spelling) == find_dataset(spelling) == find_dataset(f" {spelling}-") == name
    for row_id in ("7", "train_7", "a b", "-"):
        ours = f"{name}-{row_id}"
        assert (upstream_id(name, ours), normalise_id(name, f"{upstream}-{row_id}")) == (f"{upstream}-{row_id}", ours)
        assert (upstream_id(name, row_id), normalise_id(name, f"{upstream}:{row_id}")) == (
            f"{upstream}:{row_id}",
            row_id,
        )
        assert upstream_id(name, f"{upstream}_{row_id}") == f"{upstream}_{row_id}"
    assert normalise_id(name, f"{upstream}:") == f"{upstream}:"


def test_names_that_are_known_to_commands_alone() -> None:
    for spelling, name in {"NaturalQ": "nq_open", "T-REx": "trex", "WebQ": "webquestions"}.items():
        assert normalise_name(spelling) == normalise_name(spelling.lower()) == find_dataset(spelling) == name
    assert (normalise_name("Mine"), upstream_name("Mine"), normalise_name("")) == ("Mine", "Mine", "")
    for dataset in ("", "mine"):
        assert (upstream_id(dataset, "7"), normalise_id(dataset, "7")) == ("7", "7")
    assert (upstream_id("mine", "mine-7"), normalise_id("mine", "mine-7"), normalise_id("mine", "mine:7")) == (
        *("mine-7", "mine-7", "mine:7"),
    )
    assert upstream_id("", "-7") == normalise_id("", "-7") == "-7"
    with pytest.raises(UnknownName) as unknown:
        find_dataset("GSM9K")
    assert str(unknown.value) == f"unknown data set 'GSM9K'; choose from: {', '.join(sorted(UPSTREAM_NAMES.values()))}"
    assert [find_task(name, ["math", "QA"]) for name in ("MATH", " math ", "qa", "Qa")] == ["math", "math", "QA", "QA"]
    with pytest.raises(UnknownName) as unknown:
        find_task("maths", ["math", "QA"])
    assert str(unknown.value) == "unknown task 'maths'; choose from: QA, math"


# Folders --------------------------------------------------------------------------------------------------------------

# Path -> (unit, kind, name, responder, split)
PATHS: dict[str, tuple[str, ...]] = {
    "raw/math/GSM8K_right": ("math", "right", "GSM8K", "", "train"),
    "raw/math/GSM8K_wrong": ("math", "wrong", "GSM8K", "", "train"),
    "raw/GSM8K/a_b_Wrong": ("GSM8K", "wrong", "a_b", "", "train"),
    "raw/math/GSM8K_response": ("math", "question", "GSM8K_response", "", "train"),
    "raw/mix/x": ("mix", "question", "mix", "", "train"),
    "stage1/math/GSM8K_wrong": ("math", "tool", "GSM8K", "", "train"),
    "stage1/math/GSM8K_right": ("math", "stage1", "GSM8K_right", "", "train"),
    "stage1/math/math": ("math", "stage1", "math", "", "train"),
    "stage2/math/Math_gold_response": ("math", "gold", "math", "", "train"),
    "stage2/math/math_Gold_response": ("math", "gold", "math", "", "train"),
    "stage2/math/GSM8K_a_b_response": ("math", "response", "math", "a_b", "train"),
    "stage2/math/nq_open_x_response": ("math", "response", "math", "x", "train"),
    "stage2/mine/mine_gold_2_response": ("mine", "response", "mine", "gold_2", "train"),
    "stage2/mine/Mine": ("mine", "stage2", "mine", "", "train"),
    "stage2/mix/anything": ("mix", "stage2", "mix", "", "train"),
    "dev/math/GSM8K_right": ("math", "right", "GSM8K", "", "dev"),
    "dev/math/GSM8K_right_test": ("math", "right", "GSM8K", "", "test"),
    "dev/math/GSM8K_wrong_tool_test": ("math", "tool", "GSM8K", "", "test"),
    "dev/math/GSM8K_wrong_test": ("math", "wrong", "GSM8K", "", "test"),
    "dev/math/Math_gold_response_a": ("math", "gold", "math", "", "a"),
    "dev/math/Math_x_response_a": ("math", "response", "math", "x", "a"),
    "dev/math/math_stage2": ("math", "stage2", "math", "", "dev"),
    "dev/math/math_questions_b_c": ("math", "question", "math", "", "b_c"),
    "dev/math/math_test": ("math", "", "math", "", "test"),
    "dev/math/math": ("math", "", "math", "", "dev"),
    "dev/a.b/a.b": ("a.b", "", "a.b", "", "dev"),
}


def test_the_place_of_a_file_determines_its_rows(tmp_path: Path) -> None:
    for n, path in enumerate(PATHS):
        file = tmp_path / "data" / f"{path}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"id": n}))
    for hidden in ("data/.x", "data/raw/math/.hidden.json"):
        (tmp_path / hidden).write_text("no row")
    (tmp_path / "data" / "dropped.json").write_text("{}\n[]\n")
    (tmp_path / "data" / "provenance.json").write_text("{}")
    (tmp_path / "data" / "notes").mkdir()
    for folder in (tmp_path, tmp_path / "data"):
        files, ledger, ignored = read_folder(folder, ["math"])
        assert {file.path: file[1:6] for file in files} == {f"{path}.json": values for path, values in PATHS.items()}
        assert [file.path for file in files] == sorted(f"{path}.json" for path in PATHS)
        rows = list(PATHS)
        assert [file.lines for file in files] == [
            [Line(f"{path}.json, line 1", {"id": rows.index(path)})]
            for path in sorted(PATHS, key=lambda p: f"{p}.json")
        ]
        assert ledger == [Line("dropped.json, line 1", {}), Line("dropped.json, line 2", Drop("not_a_row", "[]"))]
        assert ignored == ["notes"]


def test_folders_that_are_refused(tmp_path: Path) -> None:
    def message() -> str:
        with pytest.raises(InputError) as refused:
            read_folder(tmp_path / "out", ["math"])
        return str(refused.value)

    out = tmp_path / "out"
    out.write_text("")
    assert message() == f"{out} is not a folder"
    out.unlink()
    out.mkdir()
    expected = f"{out}: expected at least one of the folders raw, stage1, stage2, dev, found "
    assert message() == f"{expected}an empty folder"
    for n in range(10):
        (out / f"f{9 - n}").write_text("")
    assert message() == f"{expected}f0, f1, f2, f3, f4, f5, f6, f7"
    (out / PENDING).mkdir()
    assert message() == f"{out} has files of two publications, since `publish` was interrupted: publish again"
    (out / "provenance.json").write_text("{}")
    assert message().startswith(expected), "the publication is complete"
    (out / "raw" / "math").mkdir(parents=True)
    (out / "raw" / "math" / "x.txt").write_text("")
    assert message() == (
        f"{out / 'raw/math/x.txt'}: not the name of a TRICE file. Expected names such as raw/math/GSM8K_right.json, "
        "_wrong.json; stage1/math/GSM8K_wrong.json, math.json; stage2/math/math_gold_response.json, "
        "math_chatgpt_response.json, math.json; dev/math/math.json, with any task, data set and responder. Rename the "
        "file or move it elsewhere"
    )


LONG = "x" * 300
# Bytes of a response file -> its rows by line, and its summary
CONTENTS: list[tuple[bytes, dict[int, Any], str]] = [
    (b"", {}, ""),
    (b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"a": 2}', {1: {"a": 1}, 3: {"a": 2}}, ""),
    (b"acc: 1\n{}\n", {2: {}}, "acc: 1"),
    (b"\n acc: 1 \nacc: 2\n", {3: Drop("not_json", "acc: 2")}, "acc: 1"),
    (b"{}\nacc: 1", {1: {}, 2: Drop("not_json", "acc: 1")}, ""),
    (b"[1]\n3\n", {1: Drop("not_a_row", "[1]"), 2: Drop("not_a_row", "3")}, ""),
    (b' {"a": \n', {1: Drop("not_json", '{"a":')}, ""),
    (b'x "id": 3\n', {1: Drop("not_json", 'x "id": 3')}, ""),
    (LONG.encode(), {}, LONG[:200]),
    (f"{{}}\n{LONG}".encode(), {1: {}, 2: Drop("not_json", LONG[:80])}, ""),
    (f"[{LONG!r}, 1".replace("'", '"').encode() + b"]", {1: Drop("not_a_row", f'["{LONG}'[:80])}, ""),
    (b'{"a": "\\uD83D\\uDE00"}', {1: {"a": "\U0001f600"}}, ""),
    (b'{"a": "\\ud83d"}', {1: Drop("not_unicode", '{"a": "\\ud83d"}')}, ""),
    ('{"a": "\u2028"}\n{"a": "\x85"}'.encode(), {1: {"a": "\u2028"}, 2: {"a": "\x85"}}, ""),
    (b"[" * 100_000, {}, "[" * 200),
]


@pytest.mark.parametrize(("content", "rows", "summary"), CONTENTS, ids=range(len(CONTENTS)))
def test_lines_of_a_file(content: bytes, rows: dict[int, Any], summary: str, tmp_path: Path) -> None:
    path = tmp_path / "a_response.json"
    path.write_bytes(content)
    assert read_lines(path, "F") == ([Line(f"F, line {n}", row) for n, row in rows.items()], summary)
    path = path.rename(tmp_path / "other.json")
    assert read_lines(path, "F")[1] == "", "only response files have a summary"


def test_the_place_of_a_wrong_byte_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"{}\n{}\nab\xff")
    with pytest.raises(InputError) as wrong:
        read_lines(path, "F")
    assert str(wrong.value) == f"{path}, line 3: not UTF-8 text: invalid start byte at byte 8"


# Entries --------------------------------------------------------------------------------------------------------------


def file_of(unit: str, name: str, kind: str = "question", *rows: Any, responder: str = "") -> File:
    lines = [Line(f"{unit}/{name}, line {n}", row) for n, row in enumerate(rows, start=1)]
    return File(f"{unit}/{name}", unit, kind, name, responder, "train", lines, "")


MATH = TASKS["math"].instruction
# (unit, name of the file, instruction of its row) -> task, precedence
RESOLVED: list[tuple[str, str, str, str | None, int]] = [
    ("math", "math", "", "math", 1),
    ("Math", "MATH", "", "math", 1),
    ("math", "GSM8K", "", "math", 4),
    ("GSM8K", "GSM8K", "", "math", 2),
    ("GSM8K", "gsm8k", "", "math", 2),
    ("GSM8K", "part", "", "math", 4),
    ("mlqa", "mlqa", "", "mlqa", 1),
    ("mlqa", "MLQA", "", "mlqa", 4),
    ("MLQA", "MLQA", "", "mlqa", 2),
    ("mix", "mix", MATH, "math", 0),
    ("mix", "mix", "Use WikiSearch, please.", "qa", 0),
    ("mix", "mix", "Use WikiSearches, please.", None, 0),
    ("mix", "mix", "Use a calculator or WikiSearch.", None, 0),
    ("songs", "songs", f"{MATH} ", "math", 2),
    ("songs", "songs", "Sing.", None, 2),
]


@pytest.mark.parametrize(("unit", "name", "instruction", "task", "precedence"), RESOLVED)
def test_the_task_and_the_precedence_of_a_row(
    unit: str, name: str, instruction: str, task: str | None, precedence: int
) -> None:
    row = {"instruction": instruction, "output": "x"}
    file = file_of(unit, name, "stage1", row)
    resolver = NameResolver(TASKS, [file])
    assert (resolver.task_of(file, row, "stage1"), resolver.precedence_of(file)) == (task, precedence)
    gold = file._replace(kind="gold")
    assert resolver.precedence_of(gold) == (0 if unit == "mix" else 3)


def test_a_row_has_the_task_of_another_row_of_its_unit() -> None:
    rows = [{"instruction": text, "output": "x"} for text in ("Sing.", MATH, TASKS["qa"].instruction)]
    files = [file_of("songs", "a", "stage1", Drop("not_json", ""), rows[0]), file_of("songs", "b", "stage1", *rows)]
    resolver = NameResolver(TASKS, files)
    assert [resolver.task_of(files[0], row, "stage1") for row in rows] == ["math", "math", "qa"]
    assert resolver.unit_tasks == {"songs": "math"}


# (unit, name, id) -> data set
DATASETS = [
    ("math", "math", "GSM8K-1", "gsm8k"),
    ("math", "math", "gsm8k_1", "gsm8k"),
    ("math", "SVAMP", "x-GSM8K-1", "gsm8k"),
    ("math", "SVAMP", "xGSM8K-1", "svamp"),
    ("math", "SVAMP", "GSM8Kx-1", "svamp"),
    ("math", "SVAMP", "GSM8K7", "gsm8k"),
    ("math", "math", "1", ""),
    ("SVAMP", "other", "1", "svamp"),
    ("mine", "other", "1", "mine"),
    ("mix", "mix", "", ""),
    ("MLQA", "MLQA", "", "mlqa"),
    ("mlqa", "mlqa", "", ""),
    ("qa", "NaturalQuestions", "", "nq_open"),
    ("math", "my set", "a my set 3", "my set"),
    ("math", "sample_lama", "sample-lama-009", "sample_lama"),
    ("math", "math", "nq-open-1", "nq_open"),
    ("math", "math", "naturalquestions 1", "nq_open"),
]


@pytest.mark.parametrize(("unit", "name", "row_id", "dataset"), DATASETS)
def test_the_data_set_of_a_row(unit: str, name: str, row_id: str, dataset: str) -> None:
    file = file_of(unit, name)
    assert NameResolver(TASKS, [file]).dataset_of(file, row_id) == dataset
    assert dataset in ("", "mine", "my set", *SOURCES)


STAGE2 = {"query": f"{MATH}\na\nb?", "responses": ["x"], "origin": ["gold"], "scores": [1]}
# kind, row -> (fields of the row, text, id, answers), or the detail of its drop
PARSED: list[tuple[str, dict[str, Any], Any]] = [
    ("question", {"id": "GSM8K-1", "question": "q?", "input": "c\nq?", "answer": 3, "x": 1},
     ({"question": "q?", "input": "c\nq?", "text": None}, "c\nq?", "gsm8k-1", ["3"])),
    ("question", {"id": "1", "instruction": "q?", "answer": ["a", "b", "a", None, " ", {"c": 1}], "output": "o"},
     ({"question": "q?", "input": "", "text": "o"}, "q?", "1", ["a", "b"])),
    ("question", {"id": "1", "question": "", "instruction": "q?", "answers": [], "answer": "4", "output": 3},
     ({"question": "q?", "input": "", "text": None}, "q?", "1", ["4"])),
    ("wrong", {"id": "1", "question": "q?", "answers": ["a", "b"], "answer": "4"},
     ({"question": "q?", "input": "", "text": None}, "q?", "1", ["a", "b"])),
    ("tool", {"id": "1", "question": "q?", "tool": "calculator(1)"},
     ({"question": "q?", "input": "", "tool": "calculator(1)"}, "q?", "1", [])),
    ("stage1", {"instruction": MATH, "input": "i", "output": "o", "question": "no"},
     ({"instruction": MATH, "input": "i", "output": "o"}, "i", "", [])),
    ("", {"instruction": MATH, "output": "o"}, ({"instruction": MATH, "input": "", "output": "o"}, "", "", [])),
    ("", {"id": "1", "instruction": "q?", "output": "o", "question": "q?"},
     ({"question": "q?", "input": "", "text": "o"}, "q?", "1", [])),
    ("gold", {"id": "1", "instruction": MATH, "input": "i", "output": "o", "answer": True},
     ({"instruction": MATH, "input": "i", "output": "o"}, "i", "1", ["True"])),
    ("response", {"id": "1", "question": "q?", "output": "o"}, ({"text": "o", "field": "output"}, "q?", "1", [])),
    ("response", {"id": "1", "input": "i", "output": "o", "response": "r"},
     ({"text": "r", "field": "response"}, "i", "1", [])),
    ("response", {"id": "1", "output": "o", "response": "o"}, ({"text": "o", "field": "output"}, "", "1", [])),
    ("response", {"id": "1", "response": None}, ({"text": None, "field": "response"}, "", "1", [])),
    ("response", {"id": "1", "output": None}, ({"text": None, "field": "output"}, "", "1", [])),
    ("stage2", {**STAGE2, "answer": [["a", "b"]]},
     ({**STAGE2, "scores": [1.0], "answer": ["a"]}, "a\nb?", "", ["a", "b"])),
    ("stage2", {**STAGE2, "origin": [7], "answer": ["a"]},
     ({**STAGE2, "origin": ["7"], "scores": [1.0], "answer": ["a"]}, "a\nb?", "", [])),
    ("stage2", {**STAGE2, "id": "GSM8K-1"}, ({**STAGE2, "scores": [1.0], "answer": [None]}, "a\nb?", "gsm8k-1", [])),
    ("question", {"id": 1, "question": "q?"}, ("no_id", "`id` is missing or not text; found the keys id, question")),
    ("gold", {"instruction": "", "output": ""}, ("no_id", "`id` is missing or not text; found the keys instruction, output")),
    ("question", {"id": "1", "question": " ", "instruction": 3},
     ({"question": " ", "input": "", "text": None}, " ", "1", [])),
    ("question", {"id": "1", "question": "", "instruction": 3},
     ("no_question", "`question` and `instruction` have no text; found the keys id, question, instruction")),
    ("tool", {"id": "1", "question": "q?"}, ("not_a_row", "expected the keys tool, found id, question")),
    ("gold", {"id": "1", "output": "o"}, ("not_a_row", "expected the keys instruction, output, found id, output")),
    ("gold", {"id": "1", "instruction": 1, "output": 2}, ("no_text", "instruction, output: expected text")),
    ("response", {"id": "1"}, ("not_a_row", "expected the keys output, found id")),
    ("response", {"id": "1", "output": 3}, ("no_text", "output: expected text")),
    ("stage2", {"query": "q"}, ("not_a_row", "expected the keys query, responses, origin, scores, found query")),
    ("stage2", {**STAGE2, "query": 3}, ("no_text", "query must be text, and responses must be a list of texts")),
    ("stage2", {**STAGE2, "responses": "x"}, ("no_text", "query must be text, and responses must be a list of texts")),
    *[("stage2", {**STAGE2, name: value}, ("ragged", "responses, origin, scores and answer must be lists of the same length"))
      for name, value in (("origin", "g"), ("origin", []), ("scores", [1, 2]), ("answer", "x"), ("answer", []))],
    *[("stage2", {**STAGE2, "scores": [value]}, ("no_score", f"scores must be numbers: [{value!r}]"))
      for value in (True, None, "1", 1e300, -1e300)],
]  # fmt: skip


@pytest.mark.parametrize(("kind", "row", "expected"), PARSED, ids=range(len(PARSED)))
def test_a_row_as_an_entry(kind: str, row: dict[str, Any], expected: Any) -> None:
    file = file_of("math", "math", kind, row, responder="r" if kind == "response" else "")
    entry = parse_entry(file, file.lines[0], NameResolver(TASKS, [file]))
    if isinstance(entry, Drop):
        assert (entry.reason, entry.detail) == expected
        return
    fields, text, row_id, answers = expected
    kinds = {"wrong": "raw", "": "question" if "question" in row else "stage1"}
    name = {"wrong": "wrong", "response": "r"}.get(kind, "")
    shared = ("math/math, line 1", fields, text, "math", "gsm8k" if row_id.startswith("gsm8k") else "", row_id, answers)
    assert entry == Entry(kinds.get(kind, kind), "train", name, 3 if kind == "gold" else 1, *shared)


def test_the_task_of_a_data_set_counts_only_if_it_is_known() -> None:
    file = file_of("TREx", "TREx")
    assert NameResolver({"math": TASKS["math"]}, [file]).unit_tasks == {"TREx": None}
    assert NameResolver(TASKS, [file]).unit_tasks == {"TREx": "lama"}


def test_an_unknown_task_is_named_by_its_instruction() -> None:
    for kind, row in (("stage1", {"instruction": LONG, "output": ""}), ("stage2", {**STAGE2, "query": f"{LONG}\nq"})):
        file = file_of("songs", "songs", kind, row)
        assert parse_entry(file, file.lines[0], NameResolver(TASKS, [file])) == Drop("unknown_task", LONG[:200])
    drop = Drop("not_json", "x")
    file = file_of("songs", "songs", "stage1", drop)
    assert parse_entry(file, file.lines[0], NameResolver(TASKS, [file])) is drop


def test_answers_and_contexts() -> None:
    assert parse_answers([1, 1.5, True, "a", ["b"], {}, None, "", "a"]) == ["1", "1.5", "True", "a"]
    values: list[Any] = [None, [], " ", 0, {"a": 1}]
    assert [parse_answers(value) for value in values] == [[], [], [], ["0"], []]
    mlqa = TASKS["mlqa"]
    cases = [("", "q"), ("q", "q"), ("Context: c\nQuestion: q", "q"), ("c\nq", "q"), ("Context: \nQuestion: q", "q")]
    assert [extract_context(text, question, mlqa) for text, question in cases] == ["", "", "c", "c\nq", ""]
    assert [extract_context(text, "q", TASKS["math"]) for text in ("a\nq", "\nq", "q\na")] == ["a", "", "q\na"]
    assert extract_context("other", "q", TASKS["qa"]) == "other"
    around = replace(TASKS["qa"], name="around", render=lambda row: f"aa{row['context']}aa")
    assert [extract_context(text, "q", around) for text in ("aaa", "aaaa", "aacaa")] == ["aaa", "", "c"]


# Joins ----------------------------------------------------------------------------------------------------------------


def entry(kind: str = "question", text: str = "t", row_id: str = "", **changes: Any) -> Entry:
    fields: dict[str, Any] = {"split": "train", "name": "", "precedence": 1, "position": "p", "row": {}, "task": "math"}
    fields |= {"dataset": "", "answers": [], **changes}
    return Entry(kind=kind, text=text, id=row_id, **fields)


def test_copies_of_rows_are_merged_across_precedences_alone() -> None:
    rows = [
        entry(text="a", precedence=2, row_id="2a", dataset="d"),
        entry(text="a", precedence=1),
        entry(text="a", precedence=2, row_id="2b", dataset="e"),
        entry(text="a", precedence=3, row_id="3"),
        entry(text="b", precedence=3, row_id="3b"),
    ]
    merged = merge_copies(rows, lambda entry: entry.text)
    assert [(e.text, e.precedence, e.id, e.dataset) for e in merged] == [
        ("a", 1, "2a", "d"), ("a", 2, "2b", "e"), ("b", 3, "3b", "")
    ]  # fmt: skip


def test_ids_are_taken_from_the_file_a_known_row_or_the_text() -> None:
    entries = TaskEntries("math", TASKS["math"])
    rows = [
        entry(text="a"),
        entry(text="a"),
        entry(text="a"),
        entry(text="b", row_id="k1"),
        entry(text="c", dataset="d"),
    ]
    found = assign_ids(entries, rows, lambda entry: {"a": ["k1", "k2"]}.get(entry.text, []))
    derived = found[1].id
    assert [e.id for e in found] == ["k2", derived, f"{derived}-2", "k1", found[4].id]
    assert (derived.partition("-")[0], found[4].id.partition("-")[0]) == ("trice", "d")
    assert derived.partition("-")[2] != found[4].id.partition("-")[2]


def test_only_different_rows_with_an_id_are_dropped() -> None:
    entries = TaskEntries("math", TASKS["math"])
    rows = [
        entry(row_id="1", row={"a": 1}, position="first"),
        entry(row_id="1", row={"a": 1}, position="copy"),
        entry(row_id="1", row={"a": 2}, position="other", dataset="d"),
        *(entry("response", row_id="1", name=name, row={"a": name}, position=name) for name in "xyx"),
    ]
    kept = drop_repeated_ids(entries, rows)
    assert [e.position for e in kept] == ["first", "x", "y"]
    detail = "other: differs from the row with the same id in first"
    assert entries.dropped == [
        {"id": "1", "task": "math", "dataset": "d", "stage": "load_trice", "reason": "repeated_id", "detail": detail}
    ]


def test_facts_of_a_row_are_taken_from_any_file() -> None:
    made = TaskEntries("math", TASKS["math"], {
        ("raw", "test"): [entry("raw", "t", "1", answers=["a", "b"]), entry("raw", "u", "2", answers=["e"])],
        ("gold", "train"): [entry("gold", "t", "1", answers=["c"]), entry("gold", "t", "3")],
        ("stage1", "train"): [entry("stage1", "t", "", answers=["x"])],
        ("response", "b"): [entry("response", "t", "1", answers=["b", "a"], dataset="d"), entry("response", "t", "4")],
        ("tool", "a"): [entry("tool", "v", "2", answers=["e", "f"])],
        ("stage2", "train"): [entry("stage2", "w", "", answers=["g"]), entry("stage2", "w", "", answers=["h"])],
    })  # fmt: skip
    assert made.splits == ["train", "a", "b", "test"]
    assert made.ids_by_text == {"t": ["1", "3", "4"], "u": ["2"], "v": ["2"]}
    assert made.datasets == {"1": "d"}
    assert made.answers == {"1": ["c", "a", "b"], "2": ["e", "f"]}
    assert made.stage2_answers == {"w": ["g"]}
    assert made.identity(entry("question", "w", "9", dataset="z")) == {
        "id": "9", "task": "math", "dataset": "z", "answers": ["g"]
    }  # fmt: skip
    assert made.identity(entry("question", "w", "1"))["dataset"] == "d"
    assert made.identity(entry("question", "w", "9", answers=["own"]))["answers"] == ["own"]
    assert [e.text for e in made.of("tool", "raw")] == ["v", "t", "u"]
    assert [e.text for e in made.of("tool", "raw", split="test")] == ["t", "u"]
    assert [made.uses_tool(text) for text in ("calculator(1)", "calculator(", "7")] == [True, True, False]
