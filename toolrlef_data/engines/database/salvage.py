"""The rows in the bytes of a damaged SQLite file, without SQLite.

A record of the reply store begins with a header of a particular form. It states its length, the type of a text of 32
characters (a reply key or a job name), and the types of the other columns. The bytes of all pages are searched for such
headers, so the file header, the tree of pages and the page headers may be destroyed. Pages of the write-ahead log are
searched as well. Deleted rows are found too: the caller decides what they mean.

Format: sqlite.org/fileformat2.html, "Record Format" and "B-tree Pages". Texts must be in UTF-8.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from toolrlef_data.engines.database.wal import FRAME_HEADER, HEADER

__all__ = ["DEFAULT_PAGE_SIZE", "find_rows"]

DEFAULT_PAGE_SIZE = 4096
KEY = rb"[0-9a-f]{32}"
KEY_TYPE = 13 + 2 * 32  # the serial type of a text of 32 bytes
VARINT = rb"[\x80-\xff]{0,4}[\x00-\x7f]"
# A record of two to four columns that begins with a key: (length of the header, types of the other columns, key).
RECORD = re.compile(rb"([\x03-\x10])%c((?:%b){1,3}?)(?=%b)" % (KEY_TYPE, VARINT, KEY))
MAX_ROW_BYTES = 1 << 30

Page = tuple[Any, int]  # a file's bytes, and the position of the page in them


def find_rows(database: Path, logs: list[Path]) -> Iterator[tuple[Any, ...]]:
    """Yield the values of the records that begin with a key of 32 hexadecimal digits, repeatedly if found repeatedly.

    Args:
        database: the SQLite file; it may be missing.
        logs: its write-ahead logs, the newest last; they may be missing.
    """
    with ExitStack() as stack:
        content = _map(database, stack)
        opened = [mapped for log in logs if (mapped := _map(log, stack))]
        sizes = {DEFAULT_PAGE_SIZE, int.from_bytes(content[16:18], "big")} & {1 << n for n in range(9, 16)}
        for size in sorted(sizes):
            pages = _Pages(content, size, {})
            for log in opened:
                for start in range(HEADER, len(log), FRAME_HEADER + size):
                    number = int.from_bytes(log[start : start + 4], "big")
                    pages.logged.setdefault(number, []).append((log, start + FRAME_HEADER))
            stored = ((content, start) for start in range(0, len(content), size))
            for page in chain(stored, *pages.logged.values()):
                yield from _rows_of_page(page, pages)


class _Pages(NamedTuple):
    """The pages of a database: its file, the page size, and page number -> versions in the logs, the newest last."""

    content: Any
    size: int
    logged: dict[int, list[Page]]

    def max_local(self) -> int:
        """Return how many bytes of a record are stored in the page itself, if it has no overflow pages."""
        return (self.size - 12) * 64 // 255 - 23

    def get(self, number: int, newest: bool) -> Page | None:
        """Return the newest version of a page, or that of the database file."""
        if newest and number in self.logged:
            return self.logged[number][-1]
        start = (number - 1) * self.size
        return (self.content, start) if 0 <= start < len(self.content) else None


def _map(path: Path, stack: ExitStack) -> Any:
    """Return the bytes of a file, memory-mapped; empty if it is missing or empty."""
    if not path.is_file() or not path.stat().st_size:
        return b""
    with open(path, "rb") as file:
        return stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _rows_of_page(page: Page, pages: _Pages) -> Iterator[tuple[Any, ...]]:
    content, start = page
    for match in RECORD.finditer(content, start, min(start + pages.size, len(content))):
        if (types := _read_types(match)) is None:
            continue
        length = match[1][0] + sum(map(_num_bytes, types))
        # Overflow pages in a log may be damaged, or newer than this page.
        payloads = {_read_payload(page, match.start(), length, pages, newest) for newest in (True, False)}
        for payload in payloads:
            if len(payload) == length and (row := _read_values(payload[match[1][0] :], types)) is not None:
                yield row


def _read_types(match: re.Match[bytes]) -> list[int] | None:
    """Return the serial types of a record, or None if its header has another length than it states."""
    types, value = [KEY_TYPE], 0
    if match[1][0] != 2 + len(match[2]):
        return None
    for byte in match[2]:
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            types.append(value)
            value = 0
    valid = all(t < 10 or (t > 12 and t % 2) for t in types) and sum(map(_num_bytes, types)) < MAX_ROW_BYTES
    return types if valid else None


def _num_bytes(serial_type: int) -> int:
    return (serial_type - 13) // 2 if serial_type > 12 else (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)[serial_type]


def _read_payload(page: Page, start: int, length: int, pages: _Pages, newest: bool) -> bytes:
    """Return the bytes of a record; too few if its page or an overflow page is cut."""
    content, page_start = page
    if length <= pages.max_local():
        return bytes(content[start : min(start + length, page_start + pages.size)])
    least = (pages.size - 12) * 32 // 255 - 23
    local = least + (length - least) % (pages.size - 4)
    local = local if local <= pages.max_local() else least
    payload = bytearray(content[start : start + local])
    following = int.from_bytes(content[start + local : start + local + 4], "big")
    while len(payload) < length and (overflow := pages.get(following, newest)):
        content, position = overflow
        payload += content[position + 4 : position + pages.size][: length - len(payload)]
        following = int.from_bytes(content[position : position + 4], "big")
        if position + pages.size > len(content):
            break
    return bytes(payload)


def _read_values(content: bytes, types: list[int]) -> tuple[Any, ...] | None:
    """Return the values of a record: texts, integers and None. A text that is no UTF-8 makes the record unreadable."""
    values: list[Any] = []
    position = 0
    for serial_type in types:
        value = content[position : position + _num_bytes(serial_type)]
        position += len(value)
        if serial_type in (8, 9):
            values.append(serial_type - 8)
        elif serial_type > 12:
            try:
                values.append(value.decode())
            except UnicodeDecodeError:
                return None
        else:
            values.append(int.from_bytes(value, "big", signed=True) if serial_type else None)
    return tuple(values)
