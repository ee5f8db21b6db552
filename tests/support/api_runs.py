"""Runs against the scripted API server, and the contents of their reply stores.

The reasoning of each reply is a digest (mark) of the request body, so a store shows which requests have replies.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset

from tests.support.api_server import ApiServer, ReceivedRequest, ServerReply, completion
from toolrlef_data import EngineSpec, answer, load_source
from toolrlef_data.engines.database.rows import REPLY_FIELDS
from toolrlef_data.engines.spec import Limits

CONCURRENCY = 16
# Delay of a reply that no test waits for: longer than every timeout of the tests.
STALL_SECONDS = 500.0


def mark(raw: bytes) -> str:
    """Return the mark of a request body: its SHA-256 digest."""
    return hashlib.sha256(raw).hexdigest()


def sum_reply(received: ReceivedRequest, repeats: int = 0) -> ServerReply:
    """Return a correct or wrong reply, with or without a tool call; it depends only on the request body."""
    prompt = received.body["messages"][-1]["content"]
    match = re.search(r"picks (\d+) figs and then (\d+)", prompt)
    assert match
    first, second = map(int, match.groups())
    draw = int(mark(received.raw), 16)
    wrong = f"The answer is {first}."
    if "Golden answers" in prompt:
        texts = [f"calculator({first}+{second})", f"calculator({first}+{second})", wrong]
    else:
        texts = [f"The answer is {first + second}.", wrong, f"calculator({first}+{second})", f"calculator({first})"]
    return completion(texts[draw % len(texts)], reasoning=mark(received.raw))


def row_number(received: ReceivedRequest) -> int:
    """Return the number of the row that a request belongs to."""
    match = re.search(r"picks (\d+)", received.body["messages"][-1]["content"])
    assert match
    return int(match[1])


def stall_first_requests(is_stalled: Callable[[int], bool]) -> Any:
    """Return a server script that delays the first reply to each selected row by `STALL_SECONDS`."""

    def script(received: ReceivedRequest, repeats: int) -> ServerReply:
        if repeats == 0 and is_stalled(row_number(received)):
            return ServerReply(200, sum_reply(received).body, delay=STALL_SECONDS)
        return sum_reply(received)

    return script


def write_questions(folder: Path, count: int) -> Path:
    """Write questions in the format of GSM8K, and return their folder."""
    folder.mkdir()
    with (folder / "train.jsonl").open("w") as file:
        for i in range(count):
            question = f"Ann picks {i} figs and then {1000 + i} figs. How many figs has she?"
            print(json.dumps({"question": question, "answer": f"#### {1000 + 2 * i}"}), file=file)
    return folder


def load_questions(folder: Path) -> Dataset:
    return load_source("gsm8k", split="train", data_dir=folder)


def stored_marks(home: Path) -> set[str]:
    """Return the marks of the requests whose final replies are stored."""
    return {json.loads(reply)[REPLY_FIELDS.index("reasoning")] for (reply,) in column_values(home, "replies", "reply")}


def column_values(home: Path, table: str, name: str) -> list[tuple[str]]:
    """Return a column of a table of the reply store; empty if there is no store or table."""
    path = home / "replies.sqlite"
    if not path.exists():
        return []
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        exists = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
        return connection.execute(f"SELECT {name} FROM {table}").fetchall() if exists else []


def sent_marks(server: ApiServer, since: int = 0) -> Counter[str]:
    """Return mark -> number of requests, without the first `since` requests to the server."""
    return Counter(mark(received.raw) for received in server.requests[since:])


def owner_files(home: Path) -> list[Path]:
    """Return the lock files of the processes that claim pending requests."""
    folder = home / "replies.sqlite.owners"
    return sorted(folder.iterdir()) if folder.exists() else []


def answer_texts(server: ApiServer, questions: Dataset, **settings: Any) -> list[str]:
    """Return the replies to the questions, or the errors in angle brackets."""
    limits = settings.pop("limits", Limits(backoff=0.01))
    spec = EngineSpec(
        "openai_api", "student", base_url=server.url, concurrency=CONCURRENCY, limits=limits, progress=False, **settings
    )
    responses = answer(questions, spec)["response"][:]
    return [response["text"] or f"<{response['error']}>" for response in responses]
