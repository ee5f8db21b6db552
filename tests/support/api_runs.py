"""Runs against the API server whose replies tell which requests they answer, and what of them a store holds.

The server marks every reply, in its reasoning, with a digest of the body that asked for it: so the store tells which
bodies are answered.
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
from toolrlef_data.engines.reply_store import REPLY_FIELDS
from toolrlef_data.engines.spec import Limits

CONCURRENCY = 16
# Seconds for which a server holds an answer back that nobody shall wait for: more than a test waits for anything.
STALL_SECONDS = 500.0


def mark(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def sum_reply(received: ReceivedRequest, seen: int = 0) -> ServerReply:
    """A reply that depends on the body alone: right and wrong, with and without a call; teachers fail now and then."""
    last = received.body["messages"][-1]["content"]
    found = re.search(r"picks (\d+) figs and then (\d+)", last)
    assert found
    first, second = map(int, found.groups())
    draw = int(mark(received.raw), 16)
    wrong = f"The answer is {first}."
    if "Golden answers" in last:
        texts = [f"calculator({first}+{second})", f"calculator({first}+{second})", wrong]
    else:
        texts = [f"The answer is {first + second}.", wrong, f"calculator({first}+{second})", f"calculator({first})"]
    return completion(texts[draw % len(texts)], reasoning=mark(received.raw))


def row_number(received: ReceivedRequest) -> int:
    """The number of the row that is asked about."""
    found = re.search(r"picks (\d+)", received.body["messages"][-1]["content"])
    assert found
    return int(found[1])


def stall_first_requests(which: Callable[[int], bool]) -> Any:
    """These rows get no answer the first time that they are asked."""
    return lambda received, seen: (
        ServerReply(200, sum_reply(received).body, delay=STALL_SECONDS)
        if seen == 0 and which(row_number(received))
        else sum_reply(received)
    )


def write_questions(folder: Path, count: int) -> Path:
    """Questions in the format of GSM8K."""
    folder.mkdir()
    with (folder / "train.jsonl").open("w") as file:
        for i in range(count):
            question = f"Ann picks {i} figs and then {1000 + i} figs. How many figs has she?"
            print(json.dumps({"question": question, "answer": f"#### {1000 + 2 * i}"}), file=file)
    return folder


def load_questions(folder: Path) -> Dataset:
    return load_source("gsm8k", split="train", data_dir=folder)


def stored_marks(home: Path) -> set[str]:
    """The marks of all final replies in a store."""
    return {json.loads(reply)[REPLY_FIELDS.index("reasoning")] for (reply,) in column_values(home, "replies", "reply")}


def column_values(home: Path, table: str, name: str) -> list[tuple[str]]:
    path = home / "replies.sqlite"
    if not path.exists():
        return []
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        made = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
        return connection.execute(f"SELECT {name} FROM {table}").fetchall() if made else []


def sent_marks(server: ApiServer, since: int = 0) -> Counter[str]:
    return Counter(mark(received.raw) for received in server.requests[since:])


def owner_files(home: Path) -> list[Path]:
    folder = home / "replies.sqlite.owners"
    return sorted(folder.iterdir()) if folder.exists() else []


def answer_texts(server: ApiServer, questions: Dataset, **settings: Any) -> list[str]:
    """Answers to the questions, or errors in angle brackets."""
    limits = settings.pop("limits", Limits(backoff=0.01))
    spec = EngineSpec(
        "openai_api", "student", base_url=server.url, concurrency=CONCURRENCY, limits=limits, progress=False, **settings
    )
    found = answer(questions, spec)["response"][:]
    return [response["text"] or f"<{response['error']}>" for response in found]
