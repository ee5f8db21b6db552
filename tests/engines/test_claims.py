"""Claims of processes that start and end at the same moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from toolrlef_data.engines.claims import Claims
from toolrlef_data.engines.reply_store import ReplyStore


@pytest.mark.parametrize("error", [FileExistsError, FileNotFoundError])
def test_a_folder_that_another_process_removes_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    """`mkdir` finds a folder that is gone before it checks its type, or the folder is gone after `mkdir`."""
    mkdir, calls = Path.mkdir, []

    def raced_mkdir(path: Path, *args: Any, **options: Any) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise error(str(path))
        mkdir(path, *args, **options)

    store = ReplyStore(tmp_path / "replies.sqlite")
    monkeypatch.setattr(Path, "mkdir", raced_mkdir)
    with Claims(store) as claims:
        assert claims.acquire(["key"]) == set()
        assert calls[0] == calls[1] == tmp_path / "replies.sqlite.owners"
    store.close()
