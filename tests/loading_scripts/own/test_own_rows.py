"""Rows of the user, value by value; and the files that they come from: separators, splits, places and names."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDataset, IterableDatasetDict, Value

from toolrlef_data import TASKS, InputError, ledger, lineage, load_source, make_questions
from toolrlef_data.loading_scripts.own.files import READERS, SPLITS, TEXT_FORMATS, _suffix, is_own_source, read_own
from toolrlef_data.loading_scripts.own.tables import dataset_rows, rows_by_split
from toolrlef_data.tables.fingerprint import digest

TASK = replace(TASKS["qa"], name="mine", clean_answer=None)
WRONG = "expected text or a number, found "
# A value as gold answers; a text is the reason and detail of the drop.
ANSWERS: list[tuple[Any, list[str] | str]] = [
    ("fig", ["fig"]),
    (" fig ", ["fig"]),
    (6, ["6"]),
    (6.0, ["6"]),
    (-6.5, ["-6.5"]),
    (999_999_999_999_999.0, ["999999999999999"]),
    (1e15, ["1000000000000000.0"]),
    (True, f"not_text: {WRONG}True"),
    (float("inf"), f"not_text: {WRONG}inf"),
    ({"a": 1}, f"not_text: {WRONG}{{'a': 1}}"),
    (b"a", f"not_text: {WRONG}b'a'"),
    ([[6]], f"not_text: {WRONG}[6]"),
    (np.bool_(True), f"not_text: {WRONG}True"),
    ([1, "a ", None, float("nan"), "", 2.0, "a"], ["1", "a", "2"]),
    ((1, 2), ["1", "2"]),
    ('["a", 2, null, 3.5]', ["a", "2", "3.5"]),
    (" ['a', None, 3] ", ["a", "3"]),
    ("[]", "no_answer: it is empty"),
    ("[1 2]", ["[1 2]"]),
    ("['a' 'b']", "not_text: expected a list with commas, found \"['a' 'b']\""),
    ('[ "a"  "b"]', "not_text: expected a list with commas, found '[ \"a\"  \"b\"]'"),
    ("[true]", ["[true]"]),
    ("[[1]]", ["[[1]]"]),
    ("(1, 2)", ["(1, 2)"]),
    ("[a", ["[a"]),
    ("a]", ["a]"]),
    ("[x]", ["[x]"]),
    (decimal.Decimal("6.50"), ["6.50"]),
    (datetime.date(2020, 1, 2), ["2020-01-02"]),
    (datetime.time(3, 4), ["03:04:00"]),
    (datetime.datetime(2020, 1, 2, 3), ["2020-01-02 03:00:00"]),
    (np.array([6.0, 7.5]), ["6", "7.5"]),
    (np.float64(6.0), ["6"]),
    (np.str_("fig"), ["fig"]),
    (pd.NA, "no_answer: it is empty"),
    (pd.NaT, "no_answer: it is empty"),
    (None, "no_answer: it is empty"),
    (" ", "no_answer: it is empty"),
]  # fmt: skip


def test_gold_answers_as_people_write_them() -> None:
    rows = [{"id": f"r{n}", "question": f"Question {n}?", "answers": value} for n, (value, _) in enumerate(ANSWERS)]
    table = make_questions(rows, task=TASK, id="id")
    found: dict[str, Any] = dict(zip(table["id"], table["answers"], strict=True))
    expected = {f"r{n}": answers for n, (_, answers) in enumerate(ANSWERS) if isinstance(answers, list)}
    assert found == expected
    drops = [f"{row['reason']}: {row['detail']}" for row in ledger([table])]
    assert drops == [
        answers.replace(": ", f": row {n + 1}, column 'answers': ", 1)
        for n, (_, answers) in enumerate(ANSWERS)
        if isinstance(answers, str)
    ]


def test_every_part_of_a_question() -> None:
    rows = [
        {"key": 7.0, "q": " Who? ", "a": ["Ann"], "c": 5, "s": None, "other": 1},
        {"key": None, "q": "Who?", "a": "Ann", "c": " text ", "s": "so"},
        {"q": "", "a": ["Ann"]},
        {"key": "x", "q": ["Who?"], "a": ["Ann"]},
        {"key": "y", "q": "Who?", "a": "Ann \ud83d"},
    ]
    columns: dict[str, Any] = {"question": "q", "answers": "a", "context": "c", "id": "key", "solution": "s"}
    table = make_questions(rows, task=TASK, dataset="own", **columns)
    texts = {"task": "mine", "dataset": "own", "split_origin": "train", "answers": ["Ann"], "question": "Who?"}
    made_id = f"own-{digest(['Who?', 'text', ['Ann'], 'so'])[:16]}"
    assert table.to_list() == [
        {**texts, "id": "7", "context": "5", "solution": ""},
        {**texts, "id": made_id, "context": "text", "solution": "so"},
    ]
    place_id = f"own-{digest(['row 4'])[:16]}"
    assert [(row["id"], row["reason"], row["detail"]) for row in ledger([table])] == [
        (f"own-{digest(['', '', ['Ann'], ''])[:16]}", "no_question", "row 3, column 'q': it is empty"),
        (place_id, "not_text", f"row 4, column 'q': {WRONG}['Who?']"),
        ("y", "not_unicode", "row 5, column 'a': Ann \\ud83d"),
    ]
    assert {(row["task"], row["dataset"], row["stage"]) for row in ledger([table])} == {("mine", "own", "source")}
    (record,) = lineage(table)
    assert record["settings"] == {"split": "train", "task": "mine", "columns": {"question": "q", "answers": "a", "context": "c", "id": "key", "solution": "s"}}  # fmt: skip
    assert (record["step"], record["rows_in"], record["rows_out"]) == ("rows", 5, 2)


def first_word(row: Any) -> str:
    return str(row["q"].split()[0])


@pytest.mark.parametrize(
    "error", [KeyError("x"), IndexError("x"), TypeError("x"), ValueError("x"), AttributeError("x")]
)
def test_an_error_of_a_function_of_the_row_names_the_row(error: Exception) -> None:
    def fail(row: Any) -> str:
        raise error

    message = f"^row 1: the function context= raised {type(error).__name__}: '?x'?$"
    with pytest.raises(InputError, match=message):
        make_questions([{"question": "Who?", "answers": "Ann"}], task=TASK, context=fail)
    made = make_questions([{"q": "Who is it?", "answers": "Ann"}], task=TASK, question=first_word)
    assert (made["question"][:], lineage(made)[0]["settings"]["columns"]["question"]) == (["Who"], "first_word")
    with pytest.raises(RuntimeError):
        make_questions(
            [{"question": "Who?", "answers": "Ann"}],
            task=TASK,
            context=lambda row: (_ for _ in ()).throw(RuntimeError()),
        )


def test_a_task_reads_and_refuses_gold_answers(caplog: pytest.LogCaptureFixture) -> None:
    shout = replace(TASK, clean_answer=lambda text: text.upper() if text != "x" else None)
    rows = [
        {"question": f"Q{n}?", "answers": answers}
        for n, answers in enumerate((["a", "x"], ["x", "x"], ["b", "B"], "x" * 100))
    ]
    table = make_questions(rows, task=shout)
    assert table["answers"][:] == [["A"], ["B"], ["X" * 100]]
    assert [(row["reason"], row["detail"]) for row in ledger([table])] == [
        ("unreadable_answer", "row 2, column 'answers': 'x'")
    ]
    assert caplog.messages == [
        "mine: 1 of 4 rows were dropped: row 1, column 'answers': 'x' (the other answers are kept); row 2, column "
        "'answers': 'x' (unreadable_answer)"
    ]
    with pytest.raises(
        InputError, match=r"^row 1: clean_answer of the task 'mine' must return a text or None, found int$"
    ):
        make_questions(rows, task=replace(TASK, clean_answer=lambda text: 5))  # type: ignore[arg-type,return-value]
    unusable = replace(TASK, ungradable_reason=lambda answers: "too_short" if len(answers[0]) < 2 else None)
    assert [(row["reason"], row["detail"]) for row in ledger([make_questions([*rows, rows[3]], task=unusable)])][
        :2
    ] == [
        ("too_short", "row 1, column 'answers': 'a | x'"),
        ("too_short", "row 2, column 'answers': 'x | x'"),
    ]


def test_a_warning_counts_rows_that_contradict_an_earlier_one(caplog: pytest.LogCaptureFixture) -> None:
    """Not those of another context, of one gold answer in common, and of a question that is written otherwise."""
    rows = [
        {"id": str(n), "question": question, "context": context, "answers": answers}
        for n, (question, context, answers) in enumerate(
            [
                ("How heavy is CO?", "", ["28"]),
                ("How heavy is Co?", "", ["59"]),
                ("How heavy is  CO?", "", ["28", "28.0"]),
                ("How heavy is CO?", "Twice.", ["56"]),
            ]
        )
    ]
    make_questions(rows, task=TASK, id="id", context="context")
    assert caplog.messages == []
    wrong = [{**rows[0], "id": str(n), "answers": [str(n)]} for n in (58, 60)]
    table = DatasetDict(train=Dataset.from_list([*rows, *wrong]), test=Dataset.from_list([{**rows[0], "id": "x"}]))
    made = make_questions(table, task=TASK, id="id", context="context")
    assert [len(split) for split in made.values()] == [6, 0]
    assert caplog.messages[-1] == (
        "mine: 2 rows have the question of an earlier row, but no gold answer in common with it, such as the ids '0' "
        "and '58'"
    )


def test_a_warning_names_the_first_three_rows(caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"question": "Who?", "answers": "Ann"}, *({"question": "", "answers": "Ann"} for _ in range(4))]

    def problems(*numbers: int) -> str:
        return "; ".join(f"row {n}, column 'question': it is empty (no_question)" for n in numbers)

    make_questions(rows[:4], task=TASK, dataset="own")
    make_questions(rows, task=TASK, dataset="own")
    shown = problems(2, 3, 4)
    assert caplog.messages == [
        f"own: 3 of 4 rows were dropped: {shown}",
        f"own: 4 of 5 rows were dropped: {shown}; ...",
    ]
    with pytest.raises(InputError) as raised:
        make_questions(rows[1:], task=TASK)
    assert str(raised.value) == f"none of the 4 rows can be used: {problems(1, 2, 3)}; ..."
    with pytest.raises(
        InputError, match=r"^the table lacks the columns of question='q', context='c'; found: answers, b$"
    ):
        make_questions([{"answers": "a"}, {"b": 1}], task=TASK, question="q", context="c")


def test_equal_rows_and_equal_questions(tmp_path: Path) -> None:
    row = {"id": "a", "question": "Who?", "answers": ["Ann"]}
    others = [{**row, "id": "b"}, dict(row), {**row, "id": "c", "answers": ["Ben"]}]
    splits = DatasetDict(
        train=Dataset.from_list([row, *others]), test=Dataset.from_list([{**row, "id": "d", "question": "who"}])
    )
    made = make_questions(splits, task=TASK, id="id")
    assert made["train"]["id"][:] == ["a", "b", "c"], "one question may have several rows in one split"
    assert [(row["id"], row["reason"], row["detail"]) for row in ledger(made.values())] == [
        ("a", "duplicate", "train, row 3: it equals train, row 1"),
        ("d", "duplicate_across_splits", "test, row 1: its question is in train"),
    ]
    for change in ({"question": "Why?"}, {"answers": ["Ben"]}, {"c": "text"}, {"s": "so"}):
        message = r"^row 2: the id 'a' is also the id of row 1; ids must be unique$"
        rows = [{"c": "", "s": "", **row}, {"c": "", "s": "", **row, **change}]
        with pytest.raises(InputError, match=message):
            make_questions(rows, task=TASK, id="id", context="c", solution="s")


# Files


def rows_of(name: Path, **options: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(place, dict(row)) for place, row in read_own(str(name), options.pop("split", None), **options).rows]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a,b\n1,2\n", [("line 2", {"a": "1", "b": "2"})]),
        ("a;b\n1,5;2\n", [("line 2", {"a": "1,5", "b": "2"})]),
        ("a\tb\n1;5\t2,0\n", [("line 2", {"a": "1;5", "b": "2,0"})]),
        ("a,b;c\n1,2\n", [("line 2", {"a": "1", "b;c": "2"})]),
        ("sep=;\na;b,c\n1;2\n", [("line 3", {"a": "1", "b,c": "2"})]),
        ("sep=\t\na\tb\n1\t2\n", [("line 3", {"a": "1", "b": "2"})]),
        ("sep=,\na,b\n1,2\n", [("line 3", {"a": "1", "b": "2"})]),
        ('"a,b";"c,d"\n1;2\n', [("line 2", {"a,b": "1", "c,d": "2"})]),
        ("\n  \n a , b \n\n 1 ,\n , \n", [("line 5", {"a": " 1 ", "b": None})]),
        ('a,b\n"1\n2",3\n4,5\n', [("line 3", {"a": "1\n2", "b": "3"}), ("line 4", {"a": "4", "b": "5"})]),
        ('a,b\r\n"x""y",NA\r\n', [("line 2", {"a": 'x"y', "b": "NA"})]),
        ("a\n1\n", [("line 2", {"a": "1"})]),
    ],
)
def test_the_rows_of_a_csv_file(text: str, rows: list[Any], tmp_path: Path) -> None:
    (tmp_path / "my.CSV").write_bytes(text.encode())
    assert rows_of(tmp_path / "my.CSV") == [(f"my.CSV, {place}", row) for place, row in rows]


def test_the_formats_of_files(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("x,y\tz\n1;2\t3\n")
    assert rows_of(tmp_path / "a.tsv") == [("a.tsv, line 2", {"x,y": "1;2", "z": "3"})]
    for suffix in (".json", ".jsonl", ".ndjson"):
        (tmp_path / f"a{suffix}").write_text('{"x": 1}\n')
        assert rows_of(tmp_path / f"a{suffix}") == [(f"a{suffix}, line 1", {"x": 1})]
    Dataset.from_dict({"x": list(range(2100))}).to_parquet(str(tmp_path / "a.parquet"))
    assert rows_of(tmp_path / "a.parquet")[2099] == ("a.parquet, row 2100", {"x": 2099})
    assert list(READERS) == [".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet"]
    assert {*READERS} - {".parquet"} == TEXT_FORMATS
    found = {
        url: _suffix(url)
        for url in ("a/b.CSV.gz", "a.json.bz2", "a.jsonl.xz", "a.tsv.zst", "a.parquet", "a.gz.csv", "a")
    }
    assert list(found.values()) == [".csv", ".json", ".jsonl", ".tsv", ".parquet", ".csv", ""]


def test_the_splits_of_a_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "my data"
    names = {
        "train": ["Train.csv", "train-1.json", "figs.csv", "testing.csv", "validate.csv", "devices.csv", "trains.csv"],
        "test": ["TEST_2.csv", "test.csv"],
        "validation": ["dev1.csv", "val-x.csv", "valid.csv", "Validation.csv"],
    }
    folder.mkdir()
    for name in [*sum(names.values(), []), ".hidden.csv", "README.md", *(f"z{n}.xlsx" for n in range(9))]:  # noqa: RUF017
        (folder / name).write_text('{"a": 1}' if name.endswith("json") else "a\n1\n")
    assert SPLITS == {"valid": "validation", "val": "validation", "dev": "validation"}
    for split, expected in names.items():
        own = read_own(str(folder), split)
        assert [place.partition(",")[0] for place, _ in own.rows] == sorted(expected)
        assert (own.split, own.dataset, own.read_from) == (split, "my data", "files")
    formats = ".csv, .tsv, .json, .jsonl, .ndjson, .parquet"
    ignored = ", ".join(f"z{n}.xlsx" for n in range(8))
    assert set(caplog.messages) == {f"{folder}: not read: {ignored}; formats that are read: {formats}"}
    problems: list[tuple[str | None, str]] = [(None, "split= is missing"), ("dev", "unknown split 'dev'")]
    for other, problem in problems:
        with pytest.raises(InputError) as raised:
            read_own(str(folder), other)
        assert str(raised.value) == f"{folder}: {problem}; choose from: test, train, validation"
    for path in folder.glob("[!z]*.*"):
        path.unlink()
    with pytest.raises(InputError) as none:
        read_own(str(folder), None)
    assert str(none.value) == f"{folder} contains no file of the formats {formats}; found: {ignored}"
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"found: nothing$"):
        read_own(str(folder), None)


def test_the_names_of_what_was_read(tmp_path: Path) -> None:
    (tmp_path / "my.figs.csv").write_text("question,answers\nWho?,Ann\n")
    own = read_own(str(tmp_path / "my.figs.csv"), None)
    assert (own.split, own.dataset, own.read_from) == ("train", "my.figs", "files")
    assert read_own(str(tmp_path / "my.figs.csv"), "dev").split == "dev"
    table = load_source(tmp_path / "my.figs.csv", "dev", task=TASK)
    assert (table["dataset"][:], table["split_origin"][:], table.split) == (["my.figs"], ["dev"], "dev")
    assert lineage(table)[0]["step"] == "source my.figs"
    assert lineage(table)[0]["settings"] == {"split": "dev", "task": "mine", "columns": {"question": "question", "answers": "answers"}, "read_from": "files"}  # fmt: skip
    with pytest.raises(InputError, match=r"data_dir= belongs to the sources of this package$"):
        load_source(tmp_path / "my.figs.csv", data_dir=tmp_path, task=TASK)
    for options in ({"config": "a"}, {"revision": "a"}):
        with pytest.raises(
            InputError, match=r"config= and revision= belong to data sets on the Hub, named hub:org/name$"
        ):
            read_own(str(tmp_path / "my.figs.csv"), None, **options)
    with pytest.raises(
        InputError,
        match=r"choose from: answers, config, context, dataset, id, question, revision, rows, solution, task$",
    ):
        load_source(tmp_path / "my.figs.csv", task=TASK, answer="a")
    for name, is_own in {"hub:a": True, "a.csv": True, "a/": True, "gsm8k": False, str(tmp_path): True}.items():
        assert is_own_source(name) is is_own


# Tables


def placed(table: Any, limit: int | None = None) -> dict[str, list[Any]]:
    return {split: list(rows) for split, rows in rows_by_split(table, limit).items()}


def test_the_rows_of_tables_and_their_places() -> None:
    data = Dataset.from_dict({"a": [1, 2]})
    two = [("row 1", {"a": 1}), ("row 2", {"a": 2})]
    assert placed(data) == placed([{"a": 1}, {"a": 2}]) == placed(({"a": 1}, {"a": 2})) == {"train": two}
    assert placed(Dataset.from_dict({"a": [1, 2]}, split="dev")) == {"dev": two}
    assert placed(pd.DataFrame({"a": [1, 2]})) == placed(data.with_format("numpy")) == {"train": two}
    assert placed(DatasetDict(x=data, y=data.select([1]))) == {
        "x": [("x, row 1", {"a": 1}), ("x, row 2", {"a": 2})],
        "y": [("y, row 1", {"a": 2})],
    }
    stream = IterableDataset.from_generator(lambda: iter([{"a": 1}, {"a": 2}]), split="dev")
    assert placed(stream, 5) == {"dev": two}
    labels = ClassLabel(names=["no", "yes"])
    labelled = Dataset.from_dict({"a": [1, 0, -1, None], "b": [1] * 4}, features=Features(a=labels, b=Value("int64")))
    assert [row["a"] for row in dataset_rows(labelled)] == ["yes", "no", None, None]
    assert [row["b"] for row in dataset_rows(labelled)] == [1] * 4


EXPECTED = "expected a Dataset, DatasetDict, IterableDataset, pandas or Polars frame, Arrow table, or a list of dicts"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: "my.csv", f"{EXPECTED}, found str; load_source('my.csv', ...) reads a file"),
        (lambda: Path("my.csv"), f"{EXPECTED}, found PosixPath; load_source('my.csv', ...) reads a file"),
        (lambda: {"a": [1]}, f"{EXPECTED}, found dict; a dict of columns is Dataset.from_dict(...)"),
        (lambda: 5, f"{EXPECTED}, found int"),
        (lambda: IterableDatasetDict(), "expected one split of the IterableDatasetDict: pass table['train']"),
        (lambda: [{"a": 1}, 5], "row 2: expected a dict, found int"),
        (lambda: pd.DataFrame([[1, 2, 3, 4]], columns=["b", "a", "b", "a"]), "the frame has several columns named a, b: rename them"),
        (lambda: IterableDataset.from_generator(lambda: iter([{"a": 1}])), "an IterableDataset may have no end: pass rows=, the number of rows to read"),
    ],
)  # fmt: skip
def test_the_message_for_another_table(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        placed(make())
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": True}, "rows: expected a whole number above 0, found True"),
        ({"rows": 1.0}, "rows: expected a whole number above 0, found 1.0"),
        ({"dataset": "a\ud83d"}, "dataset: expected a name, found 'a\\ud83d'"),
        ({"dataset": None}, "dataset: expected a name, found None"),
        ({"answers": None}, "answers: expected the name of a column or a function, found None"),
        ({"question": None}, "question: expected the name of a column or a function, found None"),
        ({"id": 5}, "id: expected the name of a column or a function, found int"),
        ({"task": None}, "task: expected a Task or a name in TASKS, found NoneType"),
    ],
)
def test_the_message_for_a_wrong_argument(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        make_questions([{"question": "Who?", "answers": "Ann"}], **{"task": TASK, **options})
    assert str(raised.value) == message


def test_the_first_rows_of_each_split() -> None:
    rows = [{"question": f"Who is {n}?", "answers": str(n)} for n in range(5)]
    assert len(make_questions(rows, task=TASK, rows=3)) == 3
    made = make_questions(DatasetDict(a=Dataset.from_list(rows[:3]), b=Dataset.from_list(rows[3:])), task=TASK, rows=1)
    assert {split: table["answers"][:] for split, table in made.items()} == {"a": [["0"]], "b": [["3"]]}
    assert make_questions(rows, task=TASK)["dataset"][0] == "mine", "the default"
