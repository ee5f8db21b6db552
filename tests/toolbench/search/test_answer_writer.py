"""Answer files: names that the source finds, written all or none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from toolrlef_data.columns import ANSWERS
from toolrlef_data.loading_scripts import load_source
from toolrlef_data.records import InputError
from toolrlef_data.toolbench.search.answer_writer import write_answers

FILE = (
    '{"answer_generation": {"query": "Which?", "function": [{"name": "Finish"}], '
    '"train_messages": [[{"role": "user", "content": "é\\r\\n%s"}]]}}'
)


def table(ids: Sequence[str | None]) -> Dataset:
    rows: list[dict[str, Any]] = [
        {**dict.fromkeys(ANSWERS), "id": row_id, "answer": FILE.replace("%s", str(n))} for n, row_id in enumerate(ids)
    ]
    return Dataset.from_list(rows, features=ANSWERS)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_written_files_load_under_their_ids(tmp_path: Path) -> None:
    ids = ["z", "a/b", "a/c.json", "a/b c\nd", "A/b", "a\\b", "~", "ü/中", "x" * 250, "d" * 255 + "/e"]
    answers = table(ids)
    out = tmp_path / "out" / "more"
    assert write_answers(answers, out) == [out / f"{row_id}.json" for row_id in ids]
    loaded = load_source("toolbench", data_dir=out)
    assert dict(zip(loaded["id"], loaded["answer"], strict=True)) == dict(zip(ids, answers["answer"], strict=True))
    assert write_answers(table(["z"]), out) == [out / "z.json"], "an existing file is replaced"
    assert (out / "z.json").read_bytes() == table(["z"])[0]["answer"].encode()
    assert len(list(out.rglob("*.json"))) == len(ids)
    assert [path for path in files_below(out) if path.startswith(".") or "/." in path] == []
    (tmp_path / "usual").touch()
    assert (out / "z.json").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([""], 'an empty part, a part that starts with "."'),
        (["a/"], 'an empty part, a part that starts with "."'),
        (["/a"], 'an empty part, a part that starts with "."'),
        (["/etc/a"], 'an empty part, a part that starts with "."'),
        (["a//b"], 'an empty part, a part that starts with "."'),  # would be the same file as a/b
        (["a/./b"], 'an empty part, a part that starts with "."'),
        (["."], 'an empty part, a part that starts with "."'),
        ([".."], 'an empty part, a part that starts with "."'),
        (["../a"], 'an empty part, a part that starts with "."'),
        (["a/../b"], 'an empty part, a part that starts with "."'),
        ([".hidden"], 'an empty part, a part that starts with "."'),  # the source skips hidden files
        (["a/.git/b"], 'an empty part, a part that starts with "."'),
        (["a\0b"], "null character"),
        (["x" * 251], "too long"),  # 256 bytes with .json
        (["é" * 126], "too long"),  # bytes, not characters
        (["d" * 256 + "/a"], "too long"),
        (["/".join(["d" * 200] * 25)], "too long"),
        (["a", "a"], "'a': it occurs twice"),
        (["a", "a.json/b"], "'a.json/b': it is below 'a.json'"),
        (["a.json/b", "a"], "'a': it would be both a file and a folder"),
        ([None], "found null"),
    ],
)
def test_an_invalid_id_prevents_all_writing(ids: list[str | None], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="id") as raised:
        write_answers(table(["first", *ids, "last"]), tmp_path / "out")
    assert message in str(raised.value)
    assert len(str(raised.value)) < 600
    assert files_below(tmp_path) == []


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed write keeps the old file and removes the partial one."""
    (tmp_path / "a.json").write_text("old")

    def failing(self: Path, text: str, **options: Any) -> int:
        with self.open("w") as file:
            file.write(text[:9])
        raise OSError(5, "a broken disk")

    monkeypatch.setattr(Path, "write_text", failing)
    with pytest.raises(OSError, match="a broken disk"):
        write_answers(table(["a"]), tmp_path)
    assert (tmp_path / "a.json").read_bytes() == b"old"
    assert files_below(tmp_path) == ["a.json"]
