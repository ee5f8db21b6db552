"""Answer files are written under names that their reader finds, all of them or none."""

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
        {**dict.fromkeys(ANSWERS), "id": own, "answer": FILE.replace("%s", str(n))} for n, own in enumerate(ids)
    ]
    return Dataset.from_list(rows, features=ANSWERS)


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_every_file_is_read_back_under_its_id(tmp_path: Path) -> None:
    ids = ["z", "a/b", "a/c.json", "a/b c\nd", "A/b", "a\\b", "~", "ü/中", "x" * 250, "d" * 255 + "/e"]
    answers = table(ids)
    out = tmp_path / "out" / "more"
    assert write_answers(answers, out) == [out / f"{own}.json" for own in ids]
    again = load_source("toolbench", data_dir=out)
    assert dict(zip(again["id"], again["answer"], strict=True)) == dict(zip(ids, answers["answer"], strict=True))
    assert write_answers(table(["z"]), out) == [out / "z.json"], "a file of that name is replaced"
    assert (out / "z.json").read_bytes() == table(["z"])[0]["answer"].encode()
    assert len(list(out.rglob("*.json"))) == len(ids)
    assert [path for path in below(out) if path.startswith(".") or "/." in path] == []
    (tmp_path / "usual").touch()
    assert (out / "z.json").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        ([""], "empty, begins"),
        (["a/"], "empty, begins"),
        (["/a"], "empty, begins"),
        (["/etc/a"], "empty, begins"),
        (["a//b"], "empty, begins"),  # the file of a/b
        (["a/./b"], "empty, begins"),
        (["."], "empty, begins"),
        ([".."], "empty, begins"),
        (["../a"], "empty, begins"),
        (["a/../b"], "empty, begins"),
        ([".hidden"], "empty, begins"),  # the reader leaves out what is hidden
        (["a/.git/b"], "empty, begins"),
        (["a\0b"], "null character"),
        (["x" * 251], "too long"),  # with .json
        (["é" * 126], "too long"),  # bytes, not characters
        (["d" * 256 + "/a"], "too long"),
        (["/".join(["d" * 200] * 25)], "too long"),
        (["a", "a"], "'a': it stands twice"),
        (["a", "a.json/b"], "'a.json/b': it lies in 'a.json'"),
        (["a.json/b", "a"], "'a': it would be both a file and a folder"),
        ([None], "found null"),
    ],
)
def test_where_one_id_names_no_file_nothing_is_written(ids: list[str | None], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="id") as raised:
        write_answers(table(["first", *ids, "last"]), tmp_path / "out")
    assert told in str(raised.value)
    assert len(str(raised.value)) < 600
    assert below(tmp_path) == []


def test_a_file_is_there_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old file is whole while the new one is written, and what was begun is gone where that fails."""
    (tmp_path / "a.json").write_text("old")

    def failing(self: Path, text: str, **options: Any) -> int:
        with self.open("w") as file:
            file.write(text[:9])
        raise OSError(5, "a broken disk")

    monkeypatch.setattr(Path, "write_text", failing)
    with pytest.raises(OSError, match="a broken disk"):
        write_answers(table(["a"]), tmp_path)
    assert (tmp_path / "a.json").read_bytes() == b"old"
    assert below(tmp_path) == ["a.json"]
