"""Upstream's files become the questions table; what cannot be used is dropped with a reason, or named in an error."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from datasets import Dataset

from toolrlef_data.columns import DROPPED, QUESTIONS
from toolrlef_data.loading_scripts import SOURCES, load_dropped, load_source, prepare
from toolrlef_data.loading_scripts.source import main
from toolrlef_data.records import InputError, UnknownName

FIXTURES = Path(__file__).parent / "fixtures"
SHARED = Path(__file__).parents[2] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the real rows are not here")


@pytest.fixture
def gsm8k(tmp_path: Path) -> Path:
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    shutil.copy(FIXTURES / "gsm8k.jsonl", folder / "train.jsonl")
    return folder


def _write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_gsm8k(gsm8k: Path) -> None:
    data = load_source("gsm8k", split="train", data_dir=gsm8k)
    assert data.features == QUESTIONS
    assert data["id"][:] == ["gsm8k-train-1", "gsm8k-train-2", "gsm8k-train-3"]
    assert data["answers"][:] == [["72"], ["2125"], ["-10"]], "commas go, signs stay"
    assert "<<48/2=24>>" in data[0]["solution"]
    assert {(row["task"], row["dataset"], row["split_origin"], row["context"]) for row in data} == {
        ("math", "gsm8k", "train", "")
    }
    dropped = load_dropped("gsm8k", split="train", data_dir=gsm8k)
    assert dropped.features == DROPPED
    assert dropped["reason"][:] == ["no_final_answer", "not_a_number"]


def test_svamp_joins_body_and_question() -> None:
    data = load_source("svamp", data_dir=FIXTURES)
    assert data["id"][:] == ["svamp-chal-1", "svamp-chal-2", "svamp-chal-3"], "upstream's own ids"
    assert data["answers"][:] == [["51"], ["12"], ["60"]], "51.0 is 51"
    assert data["solution"][0] == "( 76.0 - 25.0 )"
    assert [row["question"] for row in data] == [
        "A rope is 76 meters long. If 25 meters are cut off, how many meters are left?",
        "Ed has 3 bowls of 4 plums. He eats none. How many plums has Ed?",
        "There were 90 geese on the lake. Then 30 flew away. How many geese stayed?",
    ]


def test_asdiv_drops_what_is_not_one_number() -> None:
    data = load_source("asdiv", data_dir=FIXTURES)
    assert [(row["id"], row["answers"]) for row in data] == [
        ("asdiv-made-0001", ["9"]),
        ("asdiv-made-0002", ["6"]),
        ("asdiv-made-0003", ["5"]),
    ]
    assert data[1]["solution"] == "62/8=7 r6"
    assert data[0]["question"] == "Seven red figs and two green ones lie in a bowl. How many figs lie in the bowl?"
    dropped = load_source("asdiv", split="dropped", data_dir=FIXTURES)
    reasons = ["several_answers", "ratio_or_time", "ratio_or_time", "fraction", "yes_no", "not_a_number"]
    assert dropped["reason"][:] == reasons
    assert set(dropped["stage"]) == {"source"}


def test_json_lines_and_a_json_array_are_both_read(tmp_path: Path, gsm8k: Path) -> None:
    rows = [json.loads(line) for line in (FIXTURES / "gsm8k.jsonl").read_text(encoding="utf-8").splitlines()]
    array = _write(tmp_path / "array", "train.jsonl", json.dumps(rows))
    assert load_source("gsm8k", data_dir=array)[:] == load_source("gsm8k", data_dir=gsm8k)[:]
    svamp = json.loads((FIXTURES / "SVAMP.json").read_text(encoding="utf-8"))
    lines = _write(tmp_path / "lines", "SVAMP.json", "\n".join(map(json.dumps, svamp)) + "\n")
    assert load_source("svamp", data_dir=lines)[:] == load_source("svamp", data_dir=FIXTURES)[:]


@pytest.mark.parametrize(
    ("source", "file", "text", "message"),
    [
        ("gsm8k", "train.jsonl", "", r"train\.jsonl is empty"),
        ("gsm8k", "train.jsonl", " \n\n", r"train\.jsonl is empty"),
        ("gsm8k", "train.jsonl", "[]", r"train\.jsonl is empty"),
        (
            "gsm8k",
            "train.jsonl",
            '{"question": "q"}',
            r"train\.jsonl, line 1: the key 'answer' is missing; found: question",
        ),
        ("gsm8k", "train.jsonl", '\n{"a": 1}', r"line 2: the key 'question' is missing; found: a"),
        ("gsm8k", "train.jsonl", "not json", r"line 1: not JSON.*'not json'"),
        ("gsm8k", "train.jsonl", "3", r"line 1: expected an object with keys, found int"),
        ("gsm8k", "train.jsonl", '{"question": ["q"], "answer": "1"}', r"the key 'question' holds no text"),
        ("svamp", "SVAMP.json", '[{"ID": "chal-1"}]', r"SVAMP\.json, row 1: the key 'body' is missing; found: id"),
        ("asdiv", "ASDiv.xml", "<a><b></a>", r"ASDiv\.xml: not XML"),
        ("asdiv", "ASDiv.xml", "<a/>", r"ASDiv\.xml is empty"),
        (
            "asdiv",
            "ASDiv.xml",
            '<a><Problem ID="p7"><Body>b</Body></Problem></a>',
            r"Problem p7: the key 'question' is missing",
        ),
    ],
)
def test_bad_files_are_named(tmp_path: Path, source: str, file: str, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_source(source, data_dir=_write(tmp_path / "bad", file, text))


def test_duplicate_ids_are_refused(tmp_path: Path) -> None:
    row = json.loads((FIXTURES / "SVAMP.json").read_text(encoding="utf-8"))[0]
    with pytest.raises(InputError, match=r"row 2: the id 'svamp-chal-1' is also that of .*row 1"):
        load_source("svamp", data_dir=_write(tmp_path / "twice", "SVAMP.json", json.dumps([row, row])))


def test_unknown_names_list_the_choices(gsm8k: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="asdiv, gsm8k, sample, svamp"):
        load_source("gsm9k")
    with pytest.raises(InputError, match="unknown split 'dev'; choose from: train, dropped"):
        load_source("gsm8k", split="dev", data_dir=gsm8k)
    shutil.copy(gsm8k / "train.jsonl", gsm8k / "test.jsonl")
    with pytest.raises(InputError, match="no split was named; choose from: train, test, dropped"):
        load_source("gsm8k", data_dir=gsm8k)
    with pytest.raises(InputError, match=r"holds none of train\.jsonl, test\.jsonl; found: other"):
        load_source("gsm8k", data_dir=_write(tmp_path / "other", "other", ""))
    with pytest.raises(InputError, match="not a folder"):
        load_source("gsm8k", data_dir=tmp_path / "nowhere")


def test_an_edited_file_is_read_again_and_an_equal_one_is_not(gsm8k: Path, tmp_path: Path) -> None:
    first = load_source("gsm8k", data_dir=gsm8k)
    assert first.cache_files, "lives on disk"
    elsewhere = shutil.copytree(gsm8k, tmp_path / "elsewhere")
    assert load_source("gsm8k", data_dir=elsewhere)._fingerprint == first._fingerprint, "content counts, not the path"
    text = (gsm8k / "train.jsonl").read_text(encoding="utf-8")
    (gsm8k / "train.jsonl").write_text(text.replace("Ann picks", "Eva picks"), encoding="utf-8")
    edited = load_source("gsm8k", data_dir=gsm8k)
    assert edited._fingerprint != first._fingerprint
    assert edited[0]["question"].startswith("Eva")


def test_a_second_load_is_silent(gsm8k: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_source("gsm8k", data_dir=gsm8k)
    capfd.readouterr()
    load_source("gsm8k", data_dir=gsm8k)
    assert capfd.readouterr() == ("", "")


def test_a_split_without_usable_rows_is_an_empty_table(tmp_path: Path) -> None:
    folder = _write(tmp_path / "none", "train.jsonl", '{"question": "q", "answer": "#### x"}')
    data = load_source("gsm8k", data_dir=folder)
    assert (len(data), data.features) == (0, QUESTIONS)
    assert load_dropped("gsm8k", data_dir=folder)["reason"][:] == ["not_a_number"]


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_builders_work_on_their_own(source: str, tmp_path: Path, gsm8k: Path) -> None:
    folder = None if source == "sample" else gsm8k if source == "gsm8k" else FIXTURES
    builder = SOURCES[source](folder, cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare()
    data = builder.as_dataset("train")
    assert isinstance(data, Dataset)
    assert data.features == QUESTIONS
    assert all(row_id.startswith(source) for row_id in data["id"])


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_runnable(kind: str, gsm8k: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main("gsm8k", ["--data-dir", str(gsm8k), "--out", str(tmp_path / "out"), "--format", kind])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"dropped.{kind}", f"train.{kind}"]
    assert "3 rows" in capsys.readouterr().out
    if kind == "jsonl":
        lines = (tmp_path / "out/train.jsonl").read_text(encoding="utf-8").splitlines()
        assert json.loads(lines[1])["answers"] == ["2125"]


def test_runnable_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main("svamp", ["--data-dir", str(tmp_path), "--out", str(tmp_path / "out")])
    assert "holds none of SVAMP.json" in capsys.readouterr().err


@needs_shared
def test_real_rows_keep_their_counts() -> None:
    gsm8k = prepare("gsm8k", SHARED / "data/gsm8k").questions
    assert {split: len(table) for split, table in gsm8k.items()} == {"train": 5387, "test": 1319}
    texts = [solution for table in gsm8k.values() for solution in table["solution"]]
    assert sum("," in text.rpartition("####")[2] for text in texts) == 73, "finals with thousands commas"
    assert sum("<<" not in text for text in texts) == 91
    svamp = load_source("svamp", data_dir=SHARED / "data/svamp")
    assert len(svamp) == 1000
    assert not any("." in answers[0] for answers in svamp["answers"])
    assert len(load_source("asdiv", data_dir=SHARED / "data/asdiv")) == 2084
    reasons = Counter(load_dropped("asdiv", data_dir=SHARED / "data/asdiv")["reason"])
    assert reasons == {"several_answers": 90, "ratio_or_time": 61, "fraction": 9, "yes_no": 5, "not_a_number": 56}
