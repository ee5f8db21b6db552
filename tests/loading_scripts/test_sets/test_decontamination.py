"""`decontaminate` and `overlaps`: stages with lineage and ledger, and the forms of test sets."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from tests.support.word_problems import CHANGES, word_problems
from toolrlef_data import InputError, decontaminate, ledger, lineage, load_source, overlaps

TESTS = word_problems(60, seed=1)
# Without 13 words in a row between the numbers, and within the sentences.
TESTS[20] = "Ann has 5 red pens. Ben gives her 6 more. Then 7 of them are lost. How many pens has Ann now?"
TESTS[30] = "Tom sells old maps. Each map costs a coin. He sells two maps on each day. How many coins does he get?"
CLEAN = word_problems(100, seed=2)


def questions(texts: list[str], prefix: str = "q") -> Dataset:
    return Dataset.from_dict({"id": [f"{prefix}{i}" for i in range(len(texts))], "question": texts})


@pytest.fixture
def train() -> Dataset:
    """Return 100 clean rows, and one changed copy of each of five test questions."""
    rng = random.Random(0)
    return questions([*CLEAN, *(change(TESTS[10 * i], rng) for i, change in enumerate(CHANGES.values()))])


COPIES = [f"q{100 + i}" for i in range(5)]


def test_overlapping_rows_are_in_the_ledger_with_both_texts(train: Dataset) -> None:
    clean = decontaminate(train, questions(TESTS, "test-"))
    assert clean["question"][:] == CLEAN
    dropped = ledger([clean])
    assert dropped["id"][:] == COPIES
    assert dropped["stage"][:] == ["decontaminate"] * 5
    reasons = ["words", "words", "numbers", "order", "words"]
    assert dropped["reason"][:] == [f"overlap_{reason}" for reason in reasons]
    for i, row in enumerate(dropped):
        detail = json.loads(row["detail"])
        assert detail.pop("share") > 0.4
        row_text, test_text = train[100 + i]["question"], TESTS[10 * i]
        place = {"test_set": "table 1", "test_id": f"test-{10 * i}"}
        assert detail == {"text": row_text, **place, "test_text": test_text}


def test_the_lineage_names_the_test_sets_and_what_was_found(train: Dataset) -> None:
    (*_, record) = lineage(decontaminate(train, [questions(TESTS), DatasetDict(dev=questions(TESTS[:5]))]))
    assert (record["step"], record["rows_in"], record["rows_out"]) == ("decontaminate", 105, 100)
    assert record["published"] == {
        "n": 13,
        "ignore_numbers": True,
        "column": "question",
        "test_sets": {"table 1": 60, "table 2, dev": 5},
        "found": {"numbers": 1, "order": 1, "words": 3},
    }


def test_overlaps_lists_the_same_rows_and_drops_none(train: Dataset) -> None:
    listed = overlaps(train, questions(TESTS))
    assert listed["id"][:] == COPIES
    assert listed["text"][:] == train["question"][100:]
    assert listed["test_text"][:] == [TESTS[10 * i] for i in range(5)]
    assert len(overlaps(questions(CLEAN), questions(TESTS))) == 0


def test_a_table_without_overlaps_is_unchanged() -> None:
    data = questions(CLEAN)
    clean = decontaminate(data, questions(TESTS))
    assert clean["question"][:] == CLEAN
    assert lineage(clean)[-1]["step"] == "decontaminate"


def test_the_result_is_cached_and_depends_on_the_settings_and_the_test_set(train: Dataset) -> None:
    tests = questions(TESTS)
    first = decontaminate(train, tests)
    assert decontaminate(train, questions(list(TESTS)), num_proc=2)._fingerprint == first._fingerprint
    others = [
        decontaminate(train, tests, n=12),
        decontaminate(train, tests, ignore_numbers=False),
        decontaminate(train, questions(TESTS[1:])),
    ]
    assert len({table._fingerprint for table in [first, *others]}) == 4
    assert [len(table) for table in others] == [100, 101, 101]


def test_processes_find_the_same_overlaps(train: Dataset) -> None:
    tests = questions(TESTS)
    parallel = overlaps(train, tests, num_proc=2).to_list()
    shuffled = sorted(overlaps(train.shuffle(seed=0), tests).to_list(), key=lambda row: int(row["id"][1:]))
    assert parallel == shuffled


def test_splits_are_compared_separately(train: Dataset) -> None:
    splits = decontaminate(DatasetDict(a=train, b=questions(CLEAN)), questions(TESTS))
    assert {name: len(table) for name, table in splits.items()} == {"a": 100, "b": 100}


def write_parquet(path: Path) -> None:
    pq.write_table(pa.table({"question": TESTS}), path)


FILES: dict[str, Any] = {
    "test.txt": lambda path: path.write_text("\n\n".join(TESTS), encoding="utf-8"),
    "test.jsonl": lambda path: path.write_text("\n".join(json.dumps({"question": text}) for text in TESTS)),
    "test.csv": lambda path: path.write_text(
        "number,question\n" + "\n".join(f'{n},"{t}"' for n, t in enumerate(TESTS))
    ),
    "test.parquet": write_parquet,
}


@pytest.mark.parametrize("name", FILES)
def test_a_test_set_can_be_a_file(name: str, train: Dataset, tmp_path: Path) -> None:
    FILES[name](tmp_path / name)
    listed = overlaps(train, tmp_path / name)
    assert listed["id"][:] == COPIES
    assert set(listed["test_set"][:]) == {name}
    lines = {"test.txt": "line 21", "test.jsonl": "test.jsonl, line 11", "test.csv": "test.csv, line 12"}
    assert listed["test_id"][1] == lines.get(name, "test.parquet, row 11")


def test_a_source_is_read_without_its_training_split(tmp_path: Path) -> None:
    for split, texts in {"train": CLEAN, "test": TESTS}.items():
        rows = [{"question": text, "answer": "So it is 5. #### 5"} for text in texts]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    train = load_source("gsm8k", "train", tmp_path)
    assert len(decontaminate(train, "gsm8k", data_dir=tmp_path)) == 100
    listed = overlaps(questions(TESTS), "gsm8k", data_dir=tmp_path)
    assert (len(listed), listed[0]["test_set"], listed[0]["test_id"]) == (60, "gsm8k test", "gsm8k-test-1")


def test_sources_can_have_a_folder_each(tmp_path: Path) -> None:
    gsm8k, svamp = tmp_path / "gsm8k", tmp_path / "svamp"
    gsm8k.mkdir()
    svamp.mkdir()
    row = {"ID": "chal-1", "Body": TESTS[0], "Question": "How many?", "Type": "Subtraction", "Answer": 5.0}
    (svamp / "SVAMP.json").write_text(json.dumps([{**row, "Equation": "( 8.0 - 3.0 )"}]))
    for split, text in {"test": TESTS[1], "train": TESTS[2]}.items():
        (gsm8k / f"{split}.jsonl").write_text(json.dumps({"question": text, "answer": "So it is 5. #### 5"}))
    listed = overlaps(questions(TESTS[:3]), ["svamp", "gsm8k"], data_dir=tmp_path)
    assert listed["id"][:] == ["q0", "q1"]


def test_ids_of_another_type_are_an_error() -> None:
    with pytest.raises(InputError, match="expected texts in the column 'id', found int64"):
        decontaminate(Dataset.from_dict({"id": [1], "question": ["fish"]}), questions(TESTS))


def test_columns_can_be_named() -> None:
    data = Dataset.from_dict({"id": ["a"], "question": ["?"], "story": [TESTS[0]]})
    tests = Dataset.from_dict({"question": ["?"], "problem": [TESTS[0]]})
    assert len(overlaps(data, tests, column="story", against_column="problem")) == 1
    assert overlaps(data, tests)["kind"][:] == []


@pytest.mark.parametrize(
    ("against", "options", "message"),
    [
        (5, {}, "expected a table, the path of a file, the name of a source"),
        ("gsm9k", {}, "unknown source 'gsm9k'"),
        ("missing.jsonl", {}, "no such file"),
        ("missing.txt", {}, "missing.txt"),
        ([], {}, "contain no question"),
        (Dataset.from_dict({"question": ["", None]}), {}, "contain no question"),
        (Dataset.from_dict({"question": [5]}), {}, "row 1: expected a text in 'question', found int"),
        (Dataset.from_dict({"answer": ["5"]}), {}, "choose from: answer"),
        (questions(TESTS), {"against_column": "story"}, "no column 'story'"),
        (questions(TESTS), {"column": "story"}, "no column 'story'"),
        (questions(TESTS), {"n": 4}, "n must be an integer of at least 5 words"),
        (questions(TESTS), {"n": "13"}, "n must be an integer"),
        (questions(TESTS), {"ignore_numbers": 1}, "ignore_numbers"),
        (questions(TESTS), {"num_proc": 0}, "num_proc"),
    ],
)
def test_wrong_arguments_are_errors(against: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        decontaminate(questions(CLEAN), against, **options)
