"""ToolBench's answer files: one row per file with its exact text, and a drop reason for every unusable file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from toolrlef_data import ledger, lineage, trajectories
from toolrlef_data.loading_scripts import files, load_source, load_tables, toolbench
from toolrlef_data.loading_scripts.command import main
from toolrlef_data.loading_scripts.toolbench import parse_answer_file
from toolrlef_data.records import Drop, InputError

LEAF = {"node_type": "Thought", "description": "I look it up.", "children": []}
TREE = {"size": 1, "max_length": 1, "tree": {"node_type": "Action Input", "description": "", "children": [LEAF]}}
BARE = {"size": 0, "max_length": 0, "tree": {"node_type": "Action Input", "description": "", "children": []}}
ANSWER: dict[str, Any] = {
    "valid_data": True,
    "finish_type": "give_answer",
    "function": [{"name": "depth_of_lakes", "parameters": {}}, {"name": "Finish", "parameters": {}}],
    "query": "How deep is Lake Inari?",
    "query_count": 3,
    "total_tokens": 1200,
    "train_messages": [[{"role": "user", "content": "How deep is Lake Inari?"}]],
}
ABSENT = object()


def _answer(top: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    file = {"win": True, "tree": TREE, "answer_generation": {**ANSWER, **fields}, **(top or {})}
    file["answer_generation"] = {k: v for k, v in file["answer_generation"].items() if v is not ABSENT}
    return {k: v for k, v in file.items() if v is not ABSENT}


def _write(path: Path, content: Any = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = _answer() if content is None else content
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def _ids(folder: Path, **options: Any) -> list[str]:
    ids: list[str] = load_source("toolbench", data_dir=folder, **options)["id"][:]
    return ids


def test_one_row_per_file(tmp_path: Path) -> None:
    _write(tmp_path / "G2_answer/7_ChatGPT_DFS_woFilter_w2.json", _answer(query="Ü?", valid_data=False))
    _write(tmp_path / "G1_answer/7_ChatGPT_DFS_woFilter_w2.json", _answer({"win": False}, finish_type="give_up"))
    data = load_source("toolbench", data_dir=tmp_path)
    first, second = data[0], data[1]
    answer = first.pop("answer")
    assert first == {
        "id": "G1_answer/7_ChatGPT_DFS_woFilter_w2",
        "task": "toolbench",
        "dataset": "toolbench",
        "query": "How deep is Lake Inari?",
        "finish_type": "give_up",
        "valid": True,
        "win": False,
        "n_calls": 3,
        "total_tokens": 1200,
        "source_file": "G1_answer/7_ChatGPT_DFS_woFilter_w2.json",
    }
    assert answer == (tmp_path / first["source_file"]).read_text()
    assert (second["query"], second["valid"]) == ("Ü?", False)


def test_the_text_of_a_file_is_unchanged(tmp_path: Path) -> None:
    """Including details that a JSON writer would change: spaces, CRLF, escapes, the order of keys, 1.0 and 1e5."""
    text = (
        json.dumps(_answer(query="Wie\ttief 🐟?", x=[1.0, 1]), indent=3, sort_keys=True).replace("\n", "\r\n") + "\r\n"
    )
    raw = text.replace("1.0", "1e5").replace("Lake Inari", "Lake\\u0020\\ud83d Inari")
    _write(tmp_path / "a.json", raw.encode())
    _write(tmp_path / "b.json", b"\xef\xbb\xbf" + raw.encode())
    _write(tmp_path / "c.json", raw.replace("\\ud83d\\udc1f", "🐟\u2028").encode())
    data = load_source("toolbench", data_dir=tmp_path)
    assert data["answer"][:2] == [raw, raw], "the text has no byte order mark, which json.loads rejects"
    assert data["answer"][2] == raw.replace("\\ud83d\\udc1f", "🐟\u2028")
    assert data["query"][:] == ["Wie\ttief 🐟?", "Wie\ttief 🐟?", "Wie\ttief 🐟\u2028?"]
    _write(tmp_path / "d.json", _answer(query="half \ud83d", finish_type="\udc80"))
    last = load_source("toolbench", data_dir=tmp_path)[3]
    assert (last["query"], last["finish_type"]) == (r"half \ud83d", r"\udc80"), (
        "Arrow cannot encode unpaired surrogates"
    )
    assert json.loads(last["answer"])["answer_generation"]["query"] == "half \ud83d"


def test_selection_of_files(tmp_path: Path) -> None:
    dfs, cot = "7_ChatGPT_DFS_woFilter_w2.json", "7_CoT@1.json"
    for name in (f"G1/{dfs}", f"G1/{cot}", f"G1/deep/er/{dfs}", dfs, f"DFS_woFilter_w2/{cot}", "folder.json/x.json"):
        _write(tmp_path / name)
    for name in (".hidden.json", ".git/x.json", "._7.json", "notes.txt", "x.json.bak", "x.jsonl"):
        _write(tmp_path / name)
    everything = ["7_ChatGPT_DFS_woFilter_w2", "DFS_woFilter_w2/7_CoT@1", "G1/7_ChatGPT_DFS_woFilter_w2"]
    everything += ["G1/7_CoT@1", "G1/deep/er/7_ChatGPT_DFS_woFilter_w2", "folder.json/x"]
    assert _ids(tmp_path) == _ids(Path(f"{tmp_path}{os.sep}")) == everything
    method = "DFS_woFilter_w2"
    assert _ids(tmp_path, method=method) == [everything[0], everything[2], everything[4]], (
        "matches the file name, not the path"
    )
    assert _ids(tmp_path, recursive=False) == everything[:1]
    assert _ids(tmp_path / "G1", recursive=False) == ["7_ChatGPT_DFS_woFilter_w2", "7_CoT@1"]
    for path in (tmp_path / "G1" / dfs, tmp_path / "G1"):
        one = load_source("toolbench", data_dir=path, method=method, recursive=False)
        assert (one["id"][:], one["source_file"][:]) == (["7_ChatGPT_DFS_woFilter_w2"], [dfs])


def test_invalid_arguments_are_an_error(tmp_path: Path) -> None:
    _write(tmp_path / "G1/a.json")
    cases: list[tuple[Path | None, dict[str, Any], str]] = [
        (None, {}, "pass data_dir= with an answer file or a folder"),
        (tmp_path / "none", {}, "neither a file nor a folder: .*none"),
        (tmp_path, {"recursive": False}, r"contains no \*\*\.json; found: G1"),
        (tmp_path, {"method": "CoT"}, r"contains no \*CoT\*\.json; found: G1"),
        (tmp_path / "G1/a.json", {"method": "CoT"}, "does not contain method='CoT'"),
        (tmp_path, {"method": None}, "expected a text as method="),
        (tmp_path, {"recursive": 1}, "a bool as recursive="),
        (tmp_path, {"cut": True}, "unknown option 'cut'; choose from: method, recursive"),
    ]
    for folder, options, message in cases:
        with pytest.raises(InputError, match=message):
            load_source("toolbench", data_dir=folder, **options)


@pytest.mark.parametrize(
    ("content", "reason", "detail"),
    [
        (b"", "not_json", "the file is empty"),
        (b"\xef\xbb\xbf \r\n", "not_json", "the file is empty"),
        (b'{"win": true', "not_json", "it begins"),
        (b"{'win': True}", "not_json", "it begins"),
        (json.dumps(_answer()).encode() + b"\x00", "not_json", "Extra data"),
        (json.dumps(_answer()).encode("utf-16"), "not_json", "not UTF-8"),
        (json.dumps(_answer()).replace("Inari", "Sämi").encode("latin-1").replace(b"\\u00e4", b"\xe4"), "not_json", ""),
        (b"[" * 100_000, "not_json", "recursion"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "not_json", "recursion"),
        (b'{"win": ' + b"9" * 5000 + b"}", "not_json", "digits"),
        ([{"id": "Step 2: How deep?", "conversations": []}], "not_an_answer", "list"),  # upstream's training file
        ("text", "not_an_answer", "str"),
        (7, "not_an_answer", "int"),
        ({"7": {"query": "How deep?"}, "\ud800": 1}, "not_an_answer", "the keys 7, \\ud800"),
        ({"answer_generation": [ANSWER]}, "not_an_answer", "answer_gen"),
        ({"answer_generation": None}, "not_an_answer", ""),
        (_answer(query=ABSENT), "no_query", ""),
        (_answer(query=None), "no_query", ""),
        (_answer(query=" \n"), "no_query", ""),
        (_answer(query=5), "wrong_type", "query"),
        (_answer(function=ABSENT), "no_functions", ""),
        (_answer(function=[]), "no_functions", ""),
        (_answer(function={"name": "Finish"}), "wrong_type", "function"),
        (_answer(function=["Finish"]), "wrong_type", "function"),
        (_answer({"win": "yes"}), "wrong_type", "win"),
        (_answer({"win": float("nan")}), "wrong_type", "win"),
        (_answer(finish_type=True), "wrong_type", "finish_type"),
        (_answer(valid_data=1), "wrong_type", "valid_data"),
        (_answer(query_count=True), "wrong_type", "query_count"),
        (_answer(total_tokens=1200.5), "wrong_type", "total_tokens"),
        (_answer(total_tokens=1 << 63), "wrong_type", "total_tokens"),
        (_answer(train_messages={"0": []}), "wrong_type", "train_messages"),
        (_answer(train_messages=[{"role": "user"}]), "wrong_type", "train_messages"),
        (_answer(train_messages=[["hello"]]), "wrong_type", "train_messages"),
        (_answer({"tree": [LEAF]}), "wrong_type", "tree"),
        (_answer({"tree": {"tree": {"children": ["Thought"]}}}), "wrong_type", "tree"),
        (_answer({"tree": BARE}, train_messages=ABSENT), "no_trajectory", ""),
        (_answer({"tree": BARE}, train_messages=[]), "no_trajectory", ""),
        (_answer({"tree": ABSENT}, train_messages=[[]]), "no_trajectory", ""),
        (_answer({"tree": {}}, train_messages=None), "no_trajectory", ""),
    ],
)
def test_unusable_files_are_dropped(tmp_path: Path, content: Any, reason: str, detail: str) -> None:
    _write(tmp_path / "a.json")
    _write(tmp_path / "b.json", content)
    data, dropped = load_source("toolbench", data_dir=tmp_path), load_source("toolbench", "dropped", data_dir=tmp_path)
    assert (data["id"][:], dropped["id"][:], dropped["reason"][:]) == (["a"], ["b"], [reason])
    assert detail in dropped["detail"][0]
    assert len(dropped["detail"][0]) < 300
    record = lineage(data)[0]
    assert (record["rows_in"], record["rows_out"], record["dropped"]) == (2, 1, {reason: 1})


@pytest.mark.parametrize(
    ("answer", "nulls"),
    [
        (_answer({"win": ABSENT}), {"win"}),
        (_answer(finish_type=ABSENT, total_tokens=ABSENT), {"finish_type", "total_tokens"}),
        (_answer({"win": None}, valid_data=None, query_count=None), {"win", "valid", "n_calls"}),
        (_answer({"tree": ABSENT}), set()),
        (_answer({"tree": BARE}), set()),
        (_answer({"tree": {"tree": {"children": None}}}), set()),
        (_answer(train_messages=ABSENT, valid_data=False), {"finish_type"}),  # an unsuccessful search has none
        (_answer(train_messages=[[{"role": "assistant"}]]), set()),  # variants omit a null content
        (_answer({"forward_args": 1, "compare_candidates": None, "trys": []}), set()),  # ignored keys
    ],
)
def test_keys_that_variants_omit_are_null(answer: dict[str, Any], nulls: set[str]) -> None:
    row = parse_answer_file(json.dumps(answer))
    assert not isinstance(row, Drop)
    assert {column for column, value in row.items() if value is None} == nulls


def test_a_folder_without_usable_files_is_an_empty_table(tmp_path: Path) -> None:
    _write(tmp_path / "a.json", b"{")
    assert (len(load_source("toolbench", data_dir=tmp_path)), _ids(tmp_path)) == (0, [])
    assert load_source("toolbench", split="dropped", data_dir=tmp_path)["reason"][:] == ["not_json"]


def test_ids_are_unique(tmp_path: Path) -> None:
    """No id contains "#", which separates an id from its variant, and no two files share an id."""
    tmp_path = tmp_path / "zip::data"
    names = {b"a#1", b"a%231", b"a%25231", b"100%", b"a.json", b"a", b" ", b"\xff", b"%FF", "ä".encode(), b"a\xcc\x88"}
    names |= {b"\xed\xb3\xbf", b"\\udcff", b"a\nb", b"x#y/a#1", b"zip::a", b"https:/b::c", "名前/🐟".encode()}
    for name in names:
        path = os.path.join(os.fsencode(tmp_path), name + b".json")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(json.dumps(_answer()).encode())
    data, dropped = load_source("toolbench", data_dir=tmp_path), load_source("toolbench", "dropped", data_dir=tmp_path)
    assert (len(data), len(dropped), len(set(data["id"]))) == (len(names), 0, len(names))
    assert not [row_id for row_id in data["id"] if "#" in row_id]
    assert {"a%231", "a%25231", "a%2525231", "100%", "a.json", "x%23y/a%231", "名前/🐟", "%FF", "%25FF"} <= set(
        data["id"]
    )


def test_links_pipes_and_unreadable_files(tmp_path: Path) -> None:
    folder, outside = tmp_path / "data", tmp_path / "outside"
    _write(folder / "G1/a.json")
    _write(outside / "below/b.json")
    _write(tmp_path / "c.json")
    (folder / "G1/loop").symlink_to(folder)
    (folder / "G1/up").symlink_to(tmp_path)
    (folder / "A1").symlink_to(folder / "G1")  # sorts before the folder itself, whose real name is used
    (folder / "below").symlink_to(outside / "below")
    (folder / "parent").symlink_to(outside)  # contains the target of `below`
    (outside / "back").symlink_to(folder)
    (folder / "G1/linked.json").symlink_to(tmp_path / "c.json")
    (folder / "gone.json").symlink_to(tmp_path / "none.json")
    (folder / "self.json").symlink_to(folder / "self.json")
    os.mkfifo(folder / "pipe.json")
    data, dropped = load_source("toolbench", data_dir=folder), load_source("toolbench", "dropped", data_dir=folder)
    assert data["id"][:] == ["G1/a", "G1/linked", "below/b"], "no folder is listed twice"
    assert dropped["id"][:] == ["gone", "pipe", "self"]
    assert set(dropped["reason"]) == {"unreadable"}
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert _ids(link) == data["id"][:]


def test_a_folder_that_cannot_be_listed_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path / "a.json")
    _write(tmp_path / "shut/b.json")
    listing = os.scandir

    def scandir(path: Any) -> Any:
        if "shut" in str(path):
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert _ids(tmp_path) == ["a"]
    dropped = load_source("toolbench", "dropped", data_dir=tmp_path)
    assert (dropped["id"][:], dropped["reason"][:]) == (["shut/"], ["unreadable"])


def test_a_file_that_is_too_large_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path / "a.json")
    _write(tmp_path / "b.json", _answer(x="x" * 5000))
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 4000)
    assert _ids(tmp_path) == ["a"]
    assert load_source("toolbench", "dropped", data_dir=tmp_path)["reason"][:] == ["too_large"]


def test_each_file_is_parsed_once_for_both_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, texts = tmp_path / "data", list[str]()

    def counting(text: str) -> dict[str, Any] | Drop:
        texts.append(text)
        return parse_answer_file(text)

    monkeypatch.setattr(toolbench, "parse_answer_file", counting)
    for n in range(6):
        _write(folder / f"{n}.json", _answer(query=f"How deep is lake {n}?"))
    assert (len(load_source("toolbench", data_dir=folder)), len(texts)) == (6, 6)
    _write(folder / "x/7.json", b"[1]")
    tables = load_tables("toolbench", folder)
    assert (len(tables.questions["train"]), len(tables.dropped["train"]), len(texts)) == (6, 1, 13)
    load_tables("toolbench", folder)
    assert len(texts) == 13, "loading again reads the cache"
    Path(tables.dropped["train"].cache_files[0]["filename"]).unlink()
    assert load_source("toolbench", "dropped", data_dir=folder)["id"][:] == ["x/7"]


def test_the_cache_key_depends_on_the_contents_of_files(tmp_path: Path) -> None:
    folder, path = tmp_path / "data", _write(tmp_path / "data/G1/a.json")
    _write(folder / "G1/b.json")

    def key() -> str:
        fingerprint: str = load_source("toolbench", data_dir=folder)._fingerprint
        return fingerprint

    keys = [key()]
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    copied = load_source("toolbench", data_dir=tmp_path / "copy")
    assert copied._fingerprint == keys[0], "modification times are not part of the key"
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_text(path.read_text().replace("Lake Inari", "Lake Onega"))
    os.utime(path, ns=times)  # size and time are unchanged
    keys.append(key())
    assert "Onega" in load_source("toolbench", data_dir=folder)[0]["query"]
    path.rename(folder / "G1/c.json")
    keys.append(key())
    (folder / "G1/b.json").unlink()
    keys.append(key())
    assert len(set(keys)) == 4


def test_batches_have_a_limited_size(tmp_path: Path) -> None:
    for n in range(60):
        _write(tmp_path / f"{n}.json", _answer(x="x" * 100_000))
    _write(tmp_path / "long.json", _answer(x="x" * 3_000_000))
    data = load_source("toolbench", data_dir=tmp_path)
    batches = data.data.to_batches()
    assert sum(batch.num_rows for batch in batches) == 61
    assert max(batch.nbytes for batch in batches) < 4_000_000 + 3_100_000, "a batch ends at 4 MB, after a row"


def test_the_command_accepts_text_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a_DFS.json", "b_CoT.json", "deep/c_DFS.json", "d_DFS.json"):
        _write(tmp_path / "in" / name, b"{" if "d_" in name else None)
    arguments = ["--data-dir", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    main("toolbench", [*arguments, "--method", "DFS", "--no-recursive"])
    assert "train.jsonl: 1 rows" in capsys.readouterr().out
    row = json.loads((tmp_path / "out/train.jsonl").read_text("utf-8"))
    assert (row["id"], json.loads(row["answer"])) == ("a_DFS", _answer())
    assert json.loads((tmp_path / "out/dropped.jsonl").read_text("utf-8"))["id"] == "d_DFS"
    command = [sys.executable, "-m", "toolrlef_data.loading_scripts.toolbench", *arguments, "--format", "parquet"]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "train.parquet: 3 rows" in process.stdout


def test_real_answer_files(shared: Path) -> None:
    folder = shared / "data/toolbench"
    tables = load_tables("toolbench", folder)
    data, dropped = tables.questions["train"], tables.dropped["train"]
    files = {str(path.relative_to(folder)): path for path in folder.glob("answer/*/*.json")}
    assert data["source_file"][:] == sorted(files)
    texts = [files[name].read_bytes().decode() for name in data["source_file"]]  # with CRLF, as upstream
    assert data["answer"][:] == texts
    assert sum(not valid for valid in data["valid"]) >= 1, "an invalid file is a row, too"
    assert set(data["finish_type"]) <= {"give_answer", "give_up", None}
    assert dropped["id"][:] == ["reference/toollama_G1_dfs", "reference/toollama_G2_dfs"], "upstream's training files"
    assert set(dropped["reason"]) == {"not_an_answer"}


def test_later_stages_report_drops_of_an_empty_table(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    answers = load_source("toolbench", data_dir=tmp_path)
    assert (len(answers), ledger([answers])["reason"][:]) == (0, ["not_an_answer"])
    assert ledger([trajectories(answers)])["reason"][:] == ["not_an_answer"]


def test_a_renamed_or_moved_file_has_a_new_id(tmp_path: Path) -> None:
    """The ids are the paths, so the names are part of the cache key."""
    _write(tmp_path / "G1/a.json")
    _write(tmp_path / "G1/b.json")
    assert _ids(tmp_path) == ["G1/a", "G1/b"]
    (tmp_path / "G1/b.json").rename(tmp_path / "G1/c.json")
    assert _ids(tmp_path) == ["G1/a", "G1/c"]
    (tmp_path / "G1").rename(tmp_path / "G2")
    assert _ids(tmp_path) == ["G2/a", "G2/c"]
