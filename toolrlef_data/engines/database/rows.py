"""The rows of the reply store: replies as text with a checksum, and the recovery of all rows from a damaged file.

The text of a reply is a JSON list of its fields, and a checksum of the reply key and the list. The checksum is an
object at the end of the list, which versions without checksums ignore. Their rows have none, and count as undamaged if
they are valid JSON.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from dataclasses import fields
from pathlib import Path

import xxhash

from toolrlef_data.engines.database.salvage import DEFAULT_PAGE_SIZE, find_rows
from toolrlef_data.records import RETRYABLE_ERRORS, TOOL_FAILURES, InputError, Reply, clean_text

__all__ = ["REPLY_FIELDS", "TRANSIENT_ERRORS", "decode_reply", "encode_reply", "recover"]

TRANSIENT_ERRORS = RETRYABLE_ERRORS | TOOL_FAILURES  # never final
REPLY_FIELDS = tuple(field.name for field in fields(Reply))  # the order of the stored JSON list


def encode_reply(key: str, reply: Reply) -> str:
    """Return the text of a reply. Unpaired surrogates are replaced (`records.clean_text`).

    >>> encode_reply("k", Reply("42"))
    '["42","",[],"stop",null,"",null,null,{"xxh3":"b5632a2319138c48"}]'
    """
    values = [getattr(reply, name) for name in REPLY_FIELDS]
    text = clean_text(json.dumps(values, ensure_ascii=False, separators=(",", ":"))).removesuffix("]")
    return text + _end(key, text)


def decode_reply(key: str, text: object) -> Reply | None:
    """Return the reply of a text, or None if the text is damaged.

    >>> text = encode_reply("k", Reply("42"))
    >>> decode_reply("k", text) == Reply("42"), decode_reply("k", text.replace("42", "43"))
    (True, None)
    """
    if not isinstance(text, str):
        return None
    try:
        values = json.loads(text)
        if isinstance(values[-1], dict):
            content = text[: -len(_end(key, ""))]
            if content + _end(key, content) != text:
                return None
            values.pop()
        by_name = dict(zip(REPLY_FIELDS, values, strict=False))
        by_name["tool_calls"] = tuple((name, arguments) for name, arguments in by_name["tool_calls"])
        return Reply(**by_name)
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def _end(key: str, text: str) -> str:
    """Return the end of a stored text: the checksum of a reply key and of the text before."""
    return f',{{"xxh3":"{xxhash.xxh3_64_hexdigest(f"{key} {text}".encode())}"}}]'


def recover(damaged: Path, logs: list[Path], connection: sqlite3.Connection) -> str:
    """Copy the readable rows of a damaged store into an empty one, and return their numbers as a text.

    Deleted rows are found too. Withdrawn replies therefore become failures, whose requests are sent again. A row of
    `withdrawn` looks like an entry of an index of `job_keys`: only a number more than those of a key's batch jobs is
    one. Failures and claims are not copied.

    Args:
        damaged: the file.
        logs: its write-ahead logs.
        connection: the empty store.

    Raises:
        InputError: nothing shows that the file is a reply store.
    """
    unreadable: set[str] = set()
    readable: set[str] = set()
    numbers: defaultdict[str, set[int]] = defaultdict(set)  # of withdrawals, and the row numbers in the indexes
    pairs: dict[tuple[str, str], None] = {}  # (request, batch job), in the order of the file; also claims
    for key, *values in find_rows(damaged, logs):
        if len(values) == 3:
            connection.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?)", (key, *values))
        elif isinstance(values[0], int):
            numbers[key].add(values[0])
        elif len(str(values[0])) == len(key):
            pairs[key, str(values[0])] = None
        elif (reply := decode_reply(key, values[0])) is None:
            unreadable.add(key)
        else:
            readable.add(key)
            if reply.error not in TRANSIENT_ERRORS:
                connection.execute("INSERT OR IGNORE INTO replies VALUES (?, ?)", (key, values[0]))
    # The indexes of `job_keys` have two numbers for each of its rows: under the key, and under the job.
    indexed = Counter(name for pair in pairs if pair[1] in numbers for name in pair)
    withdrawn = {key: max(found) for key, found in numbers.items() if len(found) > indexed[key]}
    if not (readable or unreadable or numbers or pairs or _may_be_store(damaged)):
        raise InputError(f"{damaged} is not a usable reply store; move the file away to start a new store")
    connection.executemany("INSERT INTO withdrawn VALUES (?, ?)", withdrawn.items())
    connection.execute("INSERT INTO failures SELECT * FROM replies WHERE key IN (SELECT key FROM withdrawn)")
    connection.execute("DELETE FROM replies WHERE key IN (SELECT key FROM withdrawn)")
    jobs = {job for (job,) in connection.execute("SELECT job FROM jobs")}
    connection.executemany("INSERT OR REPLACE INTO job_keys VALUES (?, ?)", (pair for pair in pairs if pair[1] in jobs))
    (count,) = connection.execute("SELECT COUNT(*) FROM replies").fetchone()
    return f"{count} replies are saved, {len(unreadable - readable)} are unreadable and requested again"


def _may_be_store(path: Path) -> bool:
    """Return whether a file without rows is missing, empty, less than a page, begins with zeros, or has our table."""
    if not path.exists():
        return True
    with open(path, "rb") as file:
        start = file.read(1 << 16)
    is_part = start.startswith(b"SQLite format 3") and len(start) < DEFAULT_PAGE_SIZE
    return is_part or not start[:16].strip(b"\0") or b"CREATE TABLE replies" in start
