"""Sources convert upstream's files into questions; unusable rows are dropped with a reason or raise an error."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, concatenate_datasets

from toolrlef_data.columns import DROPPED, QUESTIONS
from toolrlef_data.loading_scripts import SOURCES, load_source, load_tables
from toolrlef_data.loading_scripts.base import Question, Row, Source
from toolrlef_data.loading_scripts.command import Tables, build_tables, main
from toolrlef_data.loading_scripts.fields import get_text, gold_answers, require_text
from toolrlef_data.loading_scripts.svamp import join_texts
from toolrlef_data.loading_scripts.text_files import read_json_object
from toolrlef_data.records import Drop, InputError, UnknownName

FIXTURES = Path(__file__).parents[1] / "fixtures"


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
    assert data["answers"][:] == [["72"], ["2125"], ["-10"]], "without commas, with signs"
    assert "<<48/2=24>>" in data[0]["solution"]
    assert {(row["task"], row["dataset"], row["split_origin"], row["context"]) for row in data} == {
        ("math", "gsm8k", "train", "")
    }
    dropped = load_tables("gsm8k", data_dir=gsm8k).dropped["train"]
    assert dropped.features == DROPPED
    assert dropped["reason"][:] == ["no_final_answer", "not_a_number"]


def test_svamp_joins_body_and_question() -> None:
    data = load_source("svamp", data_dir=FIXTURES)
    assert data["id"][:] == ["svamp-chal-1", "svamp-chal-2", "svamp-chal-3"], "upstream's ids"
    assert data["answers"][:] == [["51"], ["12"], ["60"]], "51.0 is 51"
    assert data["solution"][0] == "( 76.0 - 25.0 )"
    assert [row["question"] for row in data] == [
        "A rope is 76 meters long. If 25 meters are cut off, how many meters are left?",
        "Ed has 3 bowls of 4 plums. He eats none. How many plums has Ed?",
        "There were 90 geese on the lake. Then 30 flew away. How many geese stayed?",
    ]


@pytest.mark.parametrize(
    ("body", "question", "problem"),
    [
        ("Ann has 7 figs.", "How many?", "Ann has 7 figs. How many?"),
        ("Has Ann 7 figs?", "How many?", "Has Ann 7 figs? How many?"),
        ("Ann has figs!", "How many?", "Ann has figs! How many?"),
        ("Ann has 7 figs", "How many?", "Ann has 7 figs. How many?"),
        ("Ann has 7 figs, ", "How many?", "Ann has 7 figs. How many?"),
        ("Ann has figs. If she eats 2", "How many?", "Ann has figs. If she eats 2, how many?"),
        ("If so, Ann has 2", "How many?", "If so, Ann has 2. How many?"),
        ("", "How many?", "How many?"),
    ],
)
def test_svamp_ends_a_body_with_one_mark(body: str, question: str, problem: str) -> None:
    assert join_texts(body, question) == problem


def test_asdiv_drops_answers_other_than_one_number() -> None:
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


def test_json_lines_and_json_arrays_are_accepted(tmp_path: Path, gsm8k: Path) -> None:
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
        ("gsm8k", "train.jsonl", "3", r"line 1: expected a JSON object, found int"),
        ("svamp", "SVAMP.json", '[{"ID": ["a"]}]', r"row 1: the value of the key 'ID' is not text"),
        ("svamp", "SVAMP.json", '[{"ID": null}]', r"row 1: the value of the key 'ID' is null"),
        ("svamp", "SVAMP.json", '[{"ID": "chal-1"}]', r"SVAMP\.json, row 1: the key 'Body' is missing; found: ID"),
        ("asdiv", "ASDiv.xml", "<a><b></a>", r"ASDiv\.xml: not valid XML"),
        ("asdiv", "ASDiv.xml", "<a/>", r"ASDiv\.xml is empty"),
        (
            "asdiv",
            "ASDiv.xml",
            '<a><Problem ID="p7"><Body>b</Body></Problem></a>',
            r"Problem p7: the key 'Question' is missing; found: ID, Body",
        ),
    ],
)
def test_invalid_files_raise_an_error_with_the_location(
    tmp_path: Path, source: str, file: str, text: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_source(source, data_dir=_write(tmp_path / "bad", file, text))


def test_duplicate_ids_are_an_error(tmp_path: Path) -> None:
    row = json.loads((FIXTURES / "SVAMP.json").read_text(encoding="utf-8"))[0]
    with pytest.raises(InputError, match=r"row 2: the id 'svamp-chal-1' is also the id of .*row 1"):
        load_source("svamp", data_dir=_write(tmp_path / "twice", "SVAMP.json", json.dumps([row, row])))


def test_unknown_names_list_the_choices(gsm8k: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"asdiv, gsm8k, .*, trex, triviaqa, webquestions"):
        load_source("gsm9k")
    with pytest.raises(InputError, match="unknown split 'dev'; choose from: train, dropped"):
        load_source("gsm8k", split="dev", data_dir=gsm8k)
    shutil.copy(gsm8k / "train.jsonl", gsm8k / "test.jsonl")
    with pytest.raises(InputError, match="split= is missing; choose from: train, test, dropped"):
        load_source("gsm8k", data_dir=gsm8k)
    with pytest.raises(InputError, match=r"contains none of train\.jsonl, test\.jsonl; found: other"):
        load_source("gsm8k", data_dir=_write(tmp_path / "other", "other", ""))
    with pytest.raises(InputError, match="not a folder"):
        load_source("gsm8k", data_dir=tmp_path / "nowhere")


def test_the_cache_key_depends_on_the_contents_of_files(gsm8k: Path, tmp_path: Path) -> None:
    first = load_source("gsm8k", data_dir=gsm8k)
    assert first.cache_files, "the table is on disk"
    copy = shutil.copytree(gsm8k, tmp_path / "copy")
    assert load_source("gsm8k", data_dir=copy)._fingerprint == first._fingerprint, "the path is not part of the key"
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
    assert load_source("gsm8k", "dropped", data_dir=folder)["reason"][:] == ["not_a_number"]


@pytest.mark.parametrize("source", ["asdiv", "gsm8k", "sample", "svamp"])
def test_builders_can_be_used_directly(source: str, tmp_path: Path, gsm8k: Path) -> None:
    folder = None if source == "sample" else gsm8k if source == "gsm8k" else FIXTURES
    builder = SOURCES[source](folder, cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare()
    data = builder.as_dataset("train")
    assert isinstance(data, Dataset)
    assert data.features == QUESTIONS
    assert all(row_id.startswith(source) for row_id in data["id"])


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_the_command_writes_files(kind: str, gsm8k: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main("gsm8k", ["--data-dir", str(gsm8k), "--out", str(tmp_path / "out"), "--format", kind])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"dropped.{kind}", f"train.{kind}"]
    assert "3 rows" in capsys.readouterr().out
    if kind == "jsonl":
        lines = (tmp_path / "out/train.jsonl").read_text(encoding="utf-8").splitlines()
        assert json.loads(lines[1])["answers"] == ["2125"]


def test_the_command_prints_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main("svamp", ["--data-dir", str(tmp_path), "--out", str(tmp_path / "out")])
    assert "contains none of SVAMP.json" in capsys.readouterr().err


class TinySource(Source):
    """Rows {id, q, a}; an option, several files per split, and repeated ids."""

    source = "tiny"
    files = {"train": ("train*.jsonl", "more/train*.jsonl"), "dev": "dev.jsonl"}  # noqa: RUF012  # read only
    defaults = {"loud": False}  # noqa: RUF012  # read only
    has_repeats = True

    def rows(self, raw: Mapping[str, Any], fallback_id: str, location: str) -> Iterator[Row]:  # noqa: ARG002
        if raw.get("a") == "?":
            yield require_text(raw, "id", location), Drop("unclear")
        else:
            question = get_text(raw, "q", location)
            yield Question(
                require_text(raw, "id", location),
                question.upper() if self.options["loud"] else question,
                gold_answers(raw["a"]),
            )


class StrictSource(TinySource):
    has_repeats = False


def _write_rows(folder: Path, **files: list[tuple[str, str, str]]) -> Path:
    for name, rows in files.items():
        lines = [json.dumps({"id": row_id, "q": q, "a": a if a == "?" else [a]}) for row_id, q, a in rows]
        (folder / f"{name}.jsonl").parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def _usable_ids(tables: Tables) -> dict[str, list[str]]:
    return {split: table["id"][:] for split, table in tables.questions.items()}


def _drop_reasons(tables: Tables) -> list[tuple[str, str]]:
    table = concatenate_datasets(list(tables.dropped.values()))
    return list(zip(table["id"], table["reason"], strict=True))


def test_the_files_of_a_split_are_read_in_sorted_order(tmp_path: Path) -> None:
    files = {"train2": [("c", "C", "1")], "train1": [("b", "B", "1")], "more/train0": [("a", "A", "1")]}
    tables = build_tables(TinySource, _write_rows(tmp_path, **files, other=[("d", "D", "1")]))
    assert _usable_ids(tables) == {"train": ["a", "b", "c"]}, (
        "sorted by folder; files without a matching pattern are ignored"
    )
    first = tables.questions["train"]._fingerprint
    assert build_tables(TinySource, tmp_path).questions["train"]._fingerprint == first
    for edit in ({"more/train0": [("a", "other", "1")]}, {"train3": [("e", "E", "1")]}):
        edited = build_tables(TinySource, _write_rows(tmp_path, **edit)).questions["train"]._fingerprint
        assert edited != first, "the key depends on every file"
        first = edited
    (tmp_path / "train3.jsonl").rename(tmp_path / "train0.jsonl")
    assert build_tables(TinySource, tmp_path).questions["train"]._fingerprint != first, "the key depends on file names"


def test_options_are_in_the_cache_key_and_unknown_ones_are_an_error(tmp_path: Path) -> None:
    folder = _write_rows(tmp_path, train=[("a", "why", "1")])
    assert build_tables(TinySource, folder).questions["train"]["question"][:] == ["why"]
    assert build_tables(TinySource, folder, loud=True).questions["train"]["question"][:] == ["WHY"], "no stale cache"
    with pytest.raises(InputError, match=r"source tiny: unknown option 'lout'; choose from: loud"):
        build_tables(TinySource, folder, lout=True)
    with pytest.raises(InputError, match=r"source sample: unknown option 'cut'; choose from: \(none\)"):
        load_source("sample", cut=True)


@pytest.mark.parametrize(
    ("train", "dev", "usable", "dropped"),
    [
        (("x", "who", "1"), ("x", "another", "2"), {"train": ["x"], "dev": []}, [("x", "duplicate_across_splits")]),
        (
            ("x#de", "wer", "1"),
            ("x#zh", "shei", "1"),
            {"train": ["x#de"], "dev": []},
            [("x#zh", "duplicate_across_splits")],
        ),
        (
            ("x", "who was it", "1"),
            ("y", "Who  was it ", "1"),
            {"train": ["x"], "dev": []},
            [("y", "duplicate_across_splits")],
        ),
        (("x", "who", "1"), ("y", "Who?", "1"), {"train": ["x"], "dev": []}, [("y", "duplicate_across_splits")]),
        (("x", "où", "1"), ("y", "ou\u0300", "1"), {"train": ["x"], "dev": []}, [("y", "duplicate_across_splits")]),
        (("x", "?", "1"), ("y", "!", "1"), {"train": ["x"], "dev": ["y"]}, []),
        (("x", "who", "1"), ("y", "what", "1"), {"train": ["x"], "dev": ["y"]}, []),
        (("x", "who", "?"), ("x", "who", "1"), {"train": [], "dev": ["x"]}, [("x", "unclear")]),
    ],
    ids=[
        "same id",
        "variants of one id",
        "same text",
        "punctuation",
        "NFC and NFD",
        "no words",
        "different questions",
        "the first row was dropped itself",
    ],
)
def test_a_question_is_in_one_split_only(
    tmp_path: Path, train: Any, dev: Any, usable: dict[str, list[str]], dropped: list[tuple[str, str]]
) -> None:
    tables = build_tables(TinySource, _write_rows(tmp_path, train=[train], dev=[dev]))
    assert (_usable_ids(tables), _drop_reasons(tables)) == (usable, dropped)


def test_all_variants_of_a_question_of_another_split_are_dropped(tmp_path: Path) -> None:
    rows = [("y#de", "who", "1"), ("y#zh", "shei", "1"), ("z", "what", "1")]
    tables = build_tables(TinySource, _write_rows(tmp_path, train=[("x", "who", "1")], dev=rows))
    assert _usable_ids(tables) == {"train": ["x"], "dev": ["z"]}
    assert _drop_reasons(tables) == [("y#de", "duplicate_across_splits"), ("y#zh", "duplicate_across_splits")]


def test_repeated_ids_are_dropped_or_an_error(tmp_path: Path) -> None:
    rows = [("x", "who", "1"), ("x", "who", "2"), ("y", "when", "?"), ("y", "when", "1"), ("y", "when", "?")]
    folder = _write_rows(tmp_path, train=rows)
    tables = build_tables(TinySource, folder)
    assert _usable_ids(tables) == {"train": ["x", "y"]}, "the first usable row of y"
    assert _drop_reasons(tables) == [("x", "repeated"), ("y", "unclear"), ("y", "repeated")]
    with pytest.raises(InputError, match=r"line 2: the id 'x' is also the id of .*line 1; ids must be unique"):
        build_tables(StrictSource, folder)


def test_a_row_without_a_question_or_an_answer_is_dropped(tmp_path: Path) -> None:
    tables = build_tables(TinySource, _write_rows(tmp_path, train=[("x", "who", " "), ("y", " ", "1")]))
    assert _drop_reasons(tables) == [("x", "no_answer"), ("y", "no_question")]


@pytest.mark.parametrize(
    ("source", "file", "rows", "expected"),
    [
        (
            "gsm8k",
            "train.jsonl",
            [{"question": "q", "answer": None}, {"question": None, "answer": "#### 1"}, {"question": ["q"], "answer": "1"}],
            {"gsm8k-train-1": "no_answer", "gsm8k-train-2": "no_question", "gsm8k-train-3": "not_text"},
        ),
        (
            "svamp",
            "SVAMP.json",
            [
                {"ID": "a", "Body": "b", "Question": "q", "Equation": "", "Answer": None},
                {"ID": "b", "Body": "b", "Question": None, "Equation": "", "Answer": 1},
                {"ID": "c", "Body": "b", "Question": "q", "Equation": "", "Answer": True},
            ],
            {"svamp-a": "no_answer", "svamp-b": "no_question", "svamp-train-3": "not_text"},
        ),
        (
            "asdiv",
            "ASDiv.xml",
            "<a><Problem ID='p'><Body>b</Body><Question/><Answer>1</Answer><Formula/></Problem>"
            "<Problem ID='q'><Body>b</Body><Question>q</Question><Answer/><Formula/></Problem></a>",
            {"asdiv-p": "no_question", "asdiv-q": "no_answer"},
        ),
    ],
)  # fmt: skip
def test_a_row_with_a_null_is_dropped(
    tmp_path: Path, source: str, file: str, rows: Any, expected: dict[str, str]
) -> None:
    folder = _write(tmp_path / "null", file, rows if isinstance(rows, str) else json.dumps(rows))
    dropped = load_source(source, "dropped", data_dir=folder)
    assert dict(zip(dropped["id"], dropped["reason"], strict=True)) == expected


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"id": "x", "q": "why \ud800", "a": ["1"]}, "not_unicode"),
        ({"id": "x", "q": "why", "a": ["1", "\udfff"]}, "not_unicode"),
        ({"id": "x\ud800", "q": "why", "a": ["1"]}, "not_unicode"),
        ({"id": "x\ud800", "q": "why", "a": "?"}, "unclear"),
    ],
    ids=["question", "answer", "id", "id of a dropped row"],
)
def test_a_row_with_an_unpaired_surrogate_is_dropped(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + '\n{"id": "y", "q": "\\ud83c\\udf47", "a": ["1"]}')
    tables = build_tables(TinySource, tmp_path)
    assert _usable_ids(tables) == {"train": ["y"]}, "a pair of surrogates is one character"
    assert _drop_reasons(tables) == [(row["id"].replace("\ud800", "\\ud800"), reason)]


def test_drops_do_not_contain_the_path_of_the_folder(tmp_path: Path) -> None:
    details = []
    for name in ("one", "another"):
        folder = _write_rows(tmp_path / name, **{"more/train1": [("x", "who", "1"), ("x", "who", "1")]})
        tables = build_tables(TinySource, folder)
        details.append((tables.dropped["train"]._fingerprint, tables.dropped["train"]["detail"][:]))
    assert details[0] == details[1]
    assert details[0][1] == ["as more/train1.jsonl, line 1"]
    (tmp_path / "one/more/train1.jsonl").rename(tmp_path / "one/train1.jsonl")
    moved = build_tables(TinySource, tmp_path / "one").dropped["train"]["detail"][:]
    assert moved == ["as train1.jsonl, line 1"], "no stale cache"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a folder with the layout of a Hub repository with two configs, which replaces the Hub for `TinySource`."""
    for config, split, row in [
        ("one", "train", {"ID": "a", "q": "A", "a": ["1"]}),
        ("one", "dev", {"ID": "b", "q": "a ", "a": ["1"]}),
        ("two", "dev", {"ID": "c", "q": "C", "a": ["1"]}),
    ]:
        (tmp_path / config).mkdir(exist_ok=True)
        Dataset.from_list([row]).to_parquet(str(tmp_path / config / f"{split}.parquet"))
    configs = "".join(
        f"- config_name: {config}\n  data_files:\n"
        + "".join(f"  - split: {split}\n    path: {config}/{split}.parquet\n" for split in splits)
        for config, splits in (("one", ("train", "dev")), ("two", ("dev",)))
    )
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    monkeypatch.setattr(TinySource, "hub", (str(tmp_path), "one", "two"))
    return str(tmp_path)


def test_the_hubs_parquet_yields_the_same_rows(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = build_tables(TinySource)
    assert (_usable_ids(tables), _drop_reasons(tables)) == (
        {"train": ["a"], "dev": ["c"]},
        [("b", "duplicate_across_splits")],
    )
    assert tables.read_from == hub
    monkeypatch.setattr(TinySource, "hub", ())
    with pytest.raises(InputError, match=r"source tiny: pass data_dir= with train\*\.jsonl, more/train"):
        build_tables(TinySource)


def test_damaged_tables_of_the_hub_are_converted_again(
    hub: str, fresh_caches: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build_tables(TinySource)
    caplog.clear()
    stages = fresh_caches / "datasets" / "toolrlef_data"
    files = [path for suffix in ("arrow", "json") for path in stages.parent.rglob(f"*.{suffix}")]
    files = [path for path in files if stages not in path.parents]
    assert len(files) == 3 + 2 + 2, "splits, dataset_info.json and .stamps.json"
    for path in files:
        content = path.read_bytes()
        for damaged in (b"", content[:-9], bytes(len(content))):
            path.unlink()
            path.write_bytes(damaged)
            for file in stages.glob("*.arrow"):
                file.unlink()  # so that the tables of the Hub are read
            assert _usable_ids(build_tables(TinySource)) == {"train": ["a"], "dev": ["c"]}
            assert [str(path) in message for message in caplog.messages] == [True]
            caplog.clear()


def test_gold_answers_are_normalised() -> None:
    assert gold_answers(["a\u00a0b", "a b", "", None, " \u3000", "A b"]) == ("a b", "A b"), "case is preserved"


def test_objects_are_trimmed_while_parsing(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"Data": [{"keep": 1, "drop": [{"deep": 2}]}], "n": 1}')
    rows = read_json_object(tmp_path / "a.json", "Data", trim=lambda row: {k: v for k, v in row.items() if k != "drop"})
    assert [row for _, row in rows] == [{"keep": 1}]
    for key, message in [("data", "expected a list under the key 'data'; found the keys: Data, n"), ("n", "a list")]:
        with pytest.raises(InputError, match=message):
            next(read_json_object(tmp_path / "a.json", key))


def test_counts_of_real_rows(shared: Path) -> None:
    gsm8k = load_tables("gsm8k", shared / "data/gsm8k").questions
    assert {split: len(table) for split, table in gsm8k.items()} == {"train": 5387, "test": 1319}
    texts = [solution for table in gsm8k.values() for solution in table["solution"]]
    assert sum("," in text.rpartition("####")[2] for text in texts) == 73, "final answers with commas of thousands"
    assert sum("<<" not in text for text in texts) == 91
    svamp = load_source("svamp", data_dir=shared / "data/svamp")
    assert len(svamp) == 1000
    assert not any("." in answers[0] for answers in svamp["answers"])
    assert len(load_source("asdiv", data_dir=shared / "data/asdiv")) == 2084
    reasons = Counter(load_source("asdiv", "dropped", data_dir=shared / "data/asdiv")["reason"])
    assert reasons == {"several_answers": 90, "ratio_or_time": 61, "fraction": 9, "yes_no": 5, "not_a_number": 56}
