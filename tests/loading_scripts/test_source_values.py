"""Values and texts of sources, one by one: what each becomes, why a row is dropped, and the licence of each source."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolrlef_data.loading_scripts import SOURCES, load_source, load_tables
from toolrlef_data.loading_scripts.base import Question, Row
from toolrlef_data.loading_scripts.fields import (
    CaseInsensitiveRow,
    as_patterns,
    as_text,
    find_files,
    get_text,
    get_texts,
    normalise_number,
    require_text,
)
from toolrlef_data.loading_scripts.files import MAX_FILE_BYTES, list_files, read_file, tree_digest
from toolrlef_data.loading_scripts.licences import HUB_NAMES, LICENCES, UNKNOWN, strictest
from toolrlef_data.loading_scripts.multiarith import parse_word_problem
from toolrlef_data.loading_scripts.rows_read import Locations, question_hashes, read_rows, write_row
from toolrlef_data.loading_scripts.trex import drop_repeats, make_cloze
from toolrlef_data.records import Drop, InputError, UnusableRow
from toolrlef_data.tables.lineage import lineage

SENTENCE = "x" * 150


def rows_of(name: str, raw: dict[str, Any], **options: Any) -> list[Row]:
    """Return the rows of one upstream row, without a file."""
    source = SOURCES[name].__new__(SOURCES[name])
    source.options = {**source.defaults, **options}
    rows: list[Row] = list(source.rows(CaseInsensitiveRow(raw), "row-1", "file, line 1"))
    return rows


@pytest.mark.parametrize(
    ("gold", "found"),
    [
        *(("9 (figs)", "9"), ("1,234", "1234"), ("-3", "-3"), (".5", "0.5"), ("0.50 (kg)", "0.5"), ("7(figs)", "7")),
        *(("2; 3", "several_answers"), ("12:30; 1", "several_answers"), ("1:2", "ratio_or_time")),
        *(("1/2", "fraction"), ("-(1 / 2) (cups)", "fraction"), ("yes", "yes_no"), ("No.", "yes_no"), ("NO!?", "yes_no")),
        *(("3,4 (x)", "not_a_number"), ("9 (a) (b)", "not_a_number"), ("1 : 2", "not_a_number"), ("yes (x)", "not_a_number")),
        *(("yesterday", "not_a_number"), ("9 figs", "not_a_number"), ("", "no_answer")),
    ],
)  # fmt: skip
def test_gold_answers_of_asdiv(gold: str, found: str) -> None:
    raw = {"ID": "p1", "Body": " Ann  has figs. ", "Question": "How\nmany?", "Answer": gold, "Formula": "7+2=9"}
    if found[-1].isdigit():
        expected: Any = Question("asdiv-p1", "Ann has figs. How many?", (found,), "7+2=9")
    else:
        expected = ("asdiv-p1", Drop(found, gold))
    assert rows_of("asdiv", raw) == [expected]
    if isinstance(expected, Question):
        assert rows_of("asdiv", {**raw, "ID": None})[0].id == "row-1"  # type: ignore[union-attr]
        assert rows_of("asdiv", {**raw, "Question": ""})[0].question == ""  # type: ignore[union-attr]


def test_what_a_drop_of_a_source_shows() -> None:
    """The end of a solution, and the beginning of other texts."""
    assert rows_of("gsm8k", {"question": SENTENCE, "answer": ""}) == [("row-1", Drop("no_answer", SENTENCE[:80]))]
    for end, reason in (("4 figs", "no_final_answer"), ("#### 4 figs", "not_a_number")):
        solution = f"{SENTENCE}{end}"
        assert rows_of("gsm8k", {"question": "q", "answer": solution}) == [("row-1", Drop(reason, solution[-80:]))]
    value = f"(list (number {SENTENCE * 2}))"
    (dropped,) = rows_of("webquestions", {"utterance": "who?", "targetValue": value})
    assert (dropped[0][:13], dropped[1]) == ("webquestions-", Drop("unreadable_answer", value[:200]))  # type: ignore[index]
    question = {"id": "a", "question": SENTENCE, "answers": [{"text": "b"}], "context": "c"}
    assert rows_of("mlqa", {**question, "language": "en"}) == [("mlqa-a#en", Drop("same_language", SENTENCE[:80]))]
    assert rows_of("mlqa", {**question, "language": "de", "context": " "}) == [
        ("mlqa-a#de", Drop("no_context", SENTENCE[:80]))
    ]
    assert rows_of("mlqa", {**question, "hub_config": "mlqa.en.vi"}) == [
        Question("mlqa-a#vi", SENTENCE, ("b",), context="c")
    ]
    svamp = {"ID": 7, "Body": "Ann has figs.", "Question": "How many?", "Equation": "( 1 )", "Answer": "few"}
    assert rows_of("svamp", svamp) == [("svamp-7", Drop("not_a_number", "few"))]
    assert rows_of("svamp", {**svamp, "Answer": 2.0}) == [
        Question("svamp-7", "Ann has figs. How many?", ("2",), "( 1 )")
    ]
    hotpot = {"_id": "a", "question": "Is  it?", "answer": "Yes"}
    assert rows_of("hotpotqa", hotpot) == [("hotpotqa-a", Drop("yes_no", "Yes"))]
    assert rows_of("hotpotqa", hotpot, keep_yes_no=True) == [Question("hotpotqa-a", "Is it?", ("Yes",))]
    assert rows_of("hotpotqa", {"_id": "a", "question": "q"}) == [("hotpotqa-a", Drop("no_answer"))]
    sample = {"id": "a", "answer": "few", "question": "q", "solution": "s"}
    assert rows_of("sample", sample) == [("a", Drop("not_a_number", "few"))]


def test_facts_and_sentences_of_lama() -> None:
    fact = {"uuid": "u", "predicate_id": "P1", "sub_label": "Ann", "obj_label": "Peru"}
    assert rows_of("trex", {**fact, "evidences": []}) == [("trex-P1-u", Drop("no_evidence", "Ann, Peru"))]
    assert rows_of("trex", {**fact, "sub_label": None}) == [("trex-P1-u", Drop("no_evidence", ", Peru"))]
    evidence = {"masked_sentence": "Ann is in [MASK].", "obj_surface": "the  town"}
    found = rows_of(
        "trex",
        {**fact, "evidences": [evidence, {**evidence, "masked_sentence": ["x"]}, {**evidence, "obj_surface": True}]},
    )
    assert found == [
        Question("trex-P1-u#1", "Ann is in ?", ("Peru", "the town")),
        ("trex-P1-u#2", Drop("not_text", "the key 'masked_sentence': expected text, found list")),
        ("trex-P1-u#3", Drop("not_text", "the key 'obj_surface': expected text, found bool")),
    ]
    row = {
        "id": "s",
        "obj_label": "figs",
        "masked_sentences": ["Ann eats [MASK].", "Ann eats [MASK].", "Ben [MASK] it."],
    }
    assert rows_of("squad", row) == [
        Question("squad-s#1", "Ann eats ?", ("figs",)),
        ("squad-s#2", Drop("mask_not_final", "[MASK] it.")),
    ]
    assert rows_of("squad", {**row, "masked_sentences": ["Ann eats [MASK]."]}) == [
        Question("squad-s", "Ann eats ?", ("figs",))
    ]
    assert rows_of("squad", {**row, "masked_sentences": []}) == [
        ("squad-s", Drop("no_mask", "the row has no sentence"))
    ]


def test_clozes() -> None:
    long = "y" * 300
    for mark in ("“", "‘", "«", "(", "[", ".", ",", '"', "'", "\n", "\t"):
        assert make_cloze(f"{mark} [MASK].") == Drop("mask_first", f"{mark} [MASK].")
    for mark in (".", "!", "?", "…", '"', "'", "”", "’", "»", " "):
        assert make_cloze(f"Ann eats [MASK]{mark}") == "Ann eats ?"
    for mark in (",", ";", ")", "s", "]"):
        assert make_cloze(f"Ann eats [MASK]{mark}") == Drop("mask_not_final", f"[MASK]{mark}")
    assert make_cloze(f"Ann [MASK] {long}") == Drop("mask_not_final", f"[MASK] {long}"[:80])
    assert make_cloze(f"[MASK] [MASK] {long}") == Drop("several_masks", f"[MASK] [MASK] {long}"[:200])
    assert make_cloze(long) == Drop("no_mask", long[:200])
    assert make_cloze(f"[MASK] {long}", cut=True) == Drop("mask_first", f"[MASK] {long}"[:200])
    drop = Drop("no_mask")
    clozes: list[tuple[str, str | Drop]] = [
        ("a", "x ?"),
        ("b", drop),
        ("c", drop),
        ("d", "y ?"),
        ("e", "x ?"),
        ("f", "x ?"),
    ]
    repeated = Drop("repeated", "as a")
    assert list(drop_repeats(clozes)) == [*clozes[:4], ("e", repeated), ("f", repeated)]


@pytest.mark.parametrize(
    ("solutions", "equations", "expected"),
    [
        (["6"], ["X = 8 - 2"], Question("row-1", "What is it?", ("6",), "8 - 2")),
        ([6.0, "6"], [" x=7", "6 = Y", "XY=3"], Question("row-1", "What is it?", ("6",), "7; 6 = Y; XY=3")),
        (["6", "7.0"], [], ("row-1", Drop("several_answers", "6; 7"))),
        (["few"], [], ("row-1", Drop("not_a_number", "few"))),
        (["", None], [], ("row-1", Drop("no_answer", ""))),
    ],
)
def test_word_problems(solutions: list[Any], equations: list[Any], expected: Row) -> None:
    raw = {"sQuestion": " What  is it? ", "lSolutions": solutions, "lEquations": equations}
    assert parse_word_problem(raw, "row-1", "place") == expected
    assert rows_of("addsub", raw) == [expected]


TEXTS: list[tuple[Any, str | None]] = [
    *((" a ", "a"), ("", ""), (" ", ""), (None, ""), (5, "5"), (5.0, "5.0"), (-0.5, "-0.5")),
    *((True, None), (False, None), (float("inf"), None), (float("nan"), None), (["a"], None), ({}, None), (b"a", None)),
]


@pytest.mark.parametrize(("value", "text"), TEXTS, ids=repr)
def test_the_text_of_a_value(value: Any, text: str | None) -> None:
    assert as_text(value) == text
    raw = CaseInsensitiveRow({"Key": value})
    if text is None:
        with pytest.raises(UnusableRow) as raised:
            get_text(raw, "key", "place")
        assert str(raised.value) == f"not_text: the key 'key': expected text, found {type(value).__name__}"
    else:
        assert get_text(raw, "KEY", "place") == text
    if text:
        assert require_text(raw, "key", "place") == text
        return
    problem = "is null" if value is None else "is not text" if text is None else "is empty"
    with pytest.raises(InputError) as wrong:
        require_text(raw, "key", "place")
    assert str(wrong.value) == f"place: the value of the key 'key' {problem}"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: get_text({"a": 1, "b": 2}, "c", "place"), "place: the key 'c' is missing; found: a, b"),
        (lambda: get_texts({}, "c", "place"), "place: the key 'c' is missing; found: (nothing)"),
        (lambda: get_texts({"c": "x"}, "c", "place"), "place: the value of the key 'c' is not a list of texts"),
        (lambda: get_texts({"c": ["x", 1]}, "c", "place"), "not_text: the key 'c': expected a list of texts"),
    ],
)
def test_the_message_of_a_wrong_value(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError) as raised:
        call()
    assert str(raised.value) == message


def test_lists_of_texts_and_keys_in_any_case() -> None:
    assert get_texts({"a": ["x", None, " y"]}, "a", "place") == ["x", " y"]
    assert get_texts({"a": None}, "a", "place") == []
    row = CaseInsensitiveRow({"sQ": 1, 5: 2})
    assert (row["SQ"], row["5"], len(row), list(row), "sq" in row, "x" in row) == (1, 2, 2, ["sQ", "5"], True, False)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(
            ("5", "5"),
            (" 5 ", "5"),
            ("-5", "-5"),
            ("007", "7"),
            ("5.", "5"),
            (".5", "0.5"),
            ("0.50", "0.5"),
            ("-0", "0"),
        ),
        *(("-0.0", "0"), ("-0.50", "-0.5"), ("1,000,000", "1000000"), ("1,234.50", "1234.5"), ("100", "100")),
        *(("1,00", None), ("3,4", None), ("+5", None), ("", None), (".", None), ("-", None), ("--5", None)),
        *(
            ("1.2.3", None),
            ("1e5", None),
            ("\u0663", None),
            ("5/2", None),
            ("\u00b2", None),
            ("5 6", None),
            ("a", None),
        ),
    ],
)
def test_the_form_of_a_number(text: str, number: str | None) -> None:
    assert normalise_number(text) == number


def test_the_files_of_splits(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "more/c.txt", "d.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "e.txt").mkdir()
    found = find_files({"one": ("*.txt", "a.txt", "more/*"), "two": "d.md", "three": "x"}, tmp_path)
    assert found == {"one": [tmp_path / name for name in ("a.txt", "b.txt", "more/c.txt")], "two": [tmp_path / "d.md"]}
    assert (as_patterns("a"), as_patterns(("a", "b"))) == (("a",), ("a", "b"))
    for n in range(9):
        (tmp_path / f"f{n}").touch()
    names = "a.txt, b.txt, d.md, e.txt, f0, f1, f2, f3"
    for folder, contents in ((tmp_path, names), (tmp_path / "e.txt", "nothing")):
        with pytest.raises(InputError) as raised:
            find_files({"one": ("x", "y"), "two": "z"}, folder)
        assert str(raised.value) == f"{folder} contains none of x, y, z; found: {contents}"
    with pytest.raises(InputError, match=f"^data_dir is not a folder: {tmp_path}/d.md$"):
        find_files({"one": "x"}, tmp_path / "d.md")


def test_listed_and_read_files(tmp_path: Path) -> None:
    for name in ("a_DFS.json", "b.json", "c/d_DFS.json", ".e.json", "f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    assert list_files(tmp_path) == ["a_DFS.json", "b.json", "c/d_DFS.json"]
    assert list_files(tmp_path, "DFS") == ["a_DFS.json", "c/d_DFS.json"]
    assert list_files(tmp_path, suffix=".txt") == ["f.txt"]
    assert list_files(tmp_path, recursive=False) == ["a_DFS.json", "b.json"]
    with pytest.raises(InputError) as raised:
        list_files(tmp_path, "q", ".txt")
    assert (
        str(raised.value)
        == f"{tmp_path} contains no *q*.txt; found: {', '.join(sorted(['.e.json', 'a_DFS.json', 'b.json', 'c', 'f.txt']))}"
    )
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"found: nothing$"):
        list_files(tmp_path / "empty")
    with pytest.raises(InputError, match=rf"^data_dir cannot be listed: {tmp_path}/b.json \(Not a directory\)$"):
        list_files(tmp_path / "b.json")
    digests = [
        tree_digest(tmp_path, names) for names in (["b.json"], ["b.json", "f.txt"], ["f.txt", "b.json"], ["none"], [])
    ]
    assert len(set(digests)) == 5
    (tmp_path / "b.json").write_bytes(b"x" * 600_000)
    assert tree_digest(tmp_path, ["b.json"]) not in digests
    texts = {
        b"\xef\xbb\xbfa\r\n": "a\r\n",
        b"": "",
        b"ab\xff": Drop("not_json", "not UTF-8: invalid start byte at byte 2"),
    }
    for content, expected in texts.items():
        (tmp_path / "b.json").write_bytes(content)
        assert read_file(str(tmp_path / "b.json")) == expected
    assert read_file(f"{tmp_path}/c/") == Drop("unreadable", "the folder cannot be listed")
    assert read_file(f"{tmp_path}/c") == Drop("unreadable", "not a regular file")
    assert read_file(f"{tmp_path}/none") == Drop("unreadable", "No such file or directory")
    assert MAX_FILE_BYTES == 64 * 1024 * 1024
    with open(tmp_path / "b.json", "wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    assert read_file(str(tmp_path / "b.json")) == Drop("too_large", "67108865 bytes")


LOCATIONS = [
    *("a.jsonl, line 7", "a.jsonl, line 8", "b, line 7", "a.jsonl, line 07", "a.jsonl, line 0", "a.jsonl, line"),
    *(
        "a.jsonl, line 9999999999",
        "a.jsonl, line 99999999999",
        "a.jsonl, line \u0663",
        "",
        " 7",
        "a  7",
        "a -7",
        "a 7 ",
    ),
]


def test_locations_are_packed_without_loss() -> None:
    locations = Locations()
    packed = [locations.pack(location) for location in LOCATIONS]
    assert [locations.unpack(number) for number in packed] == LOCATIONS
    assert [locations.pack(location) for location in LOCATIONS] == packed
    assert len(set(packed)) == len(LOCATIONS)
    assert all(0 < number < 2**62 for number in packed)
    assert locations.words["a.jsonl, line", True] == packed[0] >> 36 == packed[1] >> 36 == packed[6] >> 36


def test_which_questions_are_the_same() -> None:
    first, text = question_hashes("a#de", "Who  ate it?", "At noon.")
    assert question_hashes("a#en", "x", "")[0] == first != question_hashes("b", "x", "")[0]
    assert question_hashes("b", "who ate it", "at NOON")[1] == text
    assert text not in (question_hashes("b", "who ate it", "")[1], question_hashes("b", "who eats it", "At noon.")[1])
    assert question_hashes("a", "?", "c")[1] != question_hashes("b", "?", "c")[1], "texts without words"
    assert question_hashes("a", "a", "b")[1] != question_hashes("a", "b", "a")[1]


def test_dropped_rows_are_written_and_read(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"id": "a\n", "detail": "é\u2028"}, {"id": None}]
    with open(tmp_path / "rows", "w") as file:
        for row in rows:
            write_row(row, file)
    assert list(read_rows(tmp_path / "rows")) == rows


def test_the_record_of_a_source_says_what_was_read(tmp_path: Path) -> None:
    lines = [{"question": "How many figs?", "answer": "#### 1"}, {"question": "Why?", "answer": "So."}]
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (record,) = lineage(load_source("gsm8k", "train", tmp_path))
    assert (record["step"], record["settings"]) == ("source gsm8k", {"split": "train", "read_from": "files"})
    assert (record["rows_in"], record["dropped"]) == (2, {"no_final_answer": 1})
    tables = load_tables("gsm8k", tmp_path)
    assert (tables.read_from, list(tables.questions), list(tables.dropped)) == (
        "files",
        ["train", "test"],
        ["train", "test"],
    )
    dropped = load_source("gsm8k", "dropped", tmp_path)
    assert [
        (row["id"], row["task"], row["dataset"], row["stage"], row["reason"], row["detail"]) for row in dropped
    ] == [
        ("gsm8k-train-2", "math", "gsm8k", "source", "no_final_answer", "So."),
        ("gsm8k-test-1", "math", "gsm8k", "source", "duplicate_across_splits", "train"),
        ("gsm8k-test-2", "math", "gsm8k", "source", "no_final_answer", "So."),
    ]
    (tmp_path / "test.jsonl").unlink()
    (tmp_path / "P1.jsonl").write_text(
        '{"uuid": "a", "predicate_id": "P1", "obj_label": "x", "evidences": [{"masked_sentence": "Ann [MASK] b", "obj_surface": "y"}]}'
    )
    (record,) = lineage(load_source("trex", data_dir=tmp_path, cut=True))
    assert record["settings"] == {"split": "train", "read_from": "files", "cut": True}
    assert lineage(load_source("sample", "train"))[0]["settings"] == {"split": "train", "read_from": "files"}


NO_LICENCE = "no licence is stated"
OWN = "written for toolrlef_data"


def test_the_licences_of_all_sources() -> None:
    """As upstream states them; a card of a published data set shows them."""
    assert {name: (licence.name, licence.note, licence.language) for name, licence in LICENCES.items()} == {
        "addsub": ("", NO_LICENCE, "en"),
        "asdiv": ("CC BY-NC 4.0", "", "en"),
        "gsm8k": ("MIT", "", "en"),
        "hotpotqa": ("CC BY-SA 4.0", "", "en"),
        "mlqa": ("CC BY-SA 3.0", "", ""),
        "multiarith": ("", NO_LICENCE, "en"),
        "nq_open": ("CC BY-SA 3.0", "", "en"),
        "sample": ("Apache-2.0", OWN, "en"),
        "sample_lama": ("Apache-2.0", OWN, "en"),
        "sample_mlqa": ("Apache-2.0", OWN, ""),
        "sample_qa": ("Apache-2.0", OWN, "en"),
        "sample_trajectories": ("Apache-2.0", OWN, "en"),
        "squad": ("CC BY-NC 4.0", "", "en"),
        "svamp": ("MIT", "", "en"),
        "toolbench": ("Apache-2.0", "messages by models of OpenAI", "en"),
        "trex": ("CC BY-NC 4.0", "", "en"),
        "triviaqa": ("research use only", "", "en"),
        "webquestions": ("CC BY 4.0", "", "en"),
    }
    assert LICENCES["squad"].homepage == LICENCES["trex"].homepage == "https://github.com/facebookresearch/LAMA"
    assert len({licence.homepage for licence in LICENCES.values()}) == 13
    assert all(licence.homepage.startswith("https://") for name, licence in LICENCES.items() if "sample" not in name)
    order = ["MIT", "Apache-2.0", "CC BY 4.0", "CC BY-SA 3.0", "CC BY-SA 4.0", "CC BY-NC 4.0", "research use only", ""]
    assert list(HUB_NAMES) == order, "from the fewest conditions to the most"
    names = ["mit", "apache-2.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "other", UNKNOWN]
    assert list(HUB_NAMES.values()) == names
    for n, name in enumerate(order):
        assert strictest([*order[: n + 1]][::-1]) == strictest(order[: n + 1]) == HUB_NAMES[name]
    assert (strictest(["MIT", "a licence of mine"]), strictest([]), strictest(iter(["MIT"]))) == ("unknown", "", "mit")


def test_the_names_of_all_sources() -> None:
    for name in SOURCES:
        source = SOURCES[name]
        assert source.source == name
        assert issubclass(source, SOURCES["toolbench"].__mro__[1]), name
    tasks = {name: SOURCES[name].task for name in SOURCES if SOURCES[name].task != "math"}
    assert tasks == {
        **dict.fromkeys(("nq_open", "sample_qa", "triviaqa", "webquestions"), "qa"),
        **dict.fromkeys(("sample_lama", "squad", "trex"), "lama"),
        **dict.fromkeys(("mlqa", "sample_mlqa"), "mlqa"),
        **dict.fromkeys(("toolbench", "sample_trajectories"), "toolbench"),
        "hotpotqa": "retrieval",
    }
    hubs = {name: SOURCES[name].hub for name in SOURCES if SOURCES[name].hub}
    languages = tuple(f"mlqa.en.{language}" for language in ("ar", "de", "es", "hi", "vi", "zh"))
    assert hubs == {
        "asdiv": ("EleutherAI/asdiv",),
        "gsm8k": ("openai/gsm8k", "main"),
        "hotpotqa": ("hotpotqa/hotpot_qa", "distractor"),
        "mlqa": ("facebook/mlqa", *languages),
        "multiarith": ("ChilleD/MultiArith",),
        "nq_open": ("google-research-datasets/nq_open",),
        "svamp": ("ChilleD/SVAMP",),
        "triviaqa": ("mandarjoshi/trivia_qa", "unfiltered.nocontext"),
        "webquestions": ("stanfordnlp/web_questions",),
    }
    assert {name: SOURCES[name].defaults for name in SOURCES if SOURCES[name].defaults} == {
        "hotpotqa": {"keep_yes_no": False},
        "squad": {"cut": False},
        "trex": {"cut": False},
        "toolbench": {"method": "", "recursive": True},
        "sample_trajectories": {"method": "", "recursive": True},
    }
