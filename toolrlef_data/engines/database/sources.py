"""Reading a store that is copied: nothing is written to its file or its log.

A file without a log is opened as one that does not change, since SQLite would leave files beside it. If another process
opens it meanwhile, its rows are not believed. A file with a log may be in use: it is read like by any other process.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from toolrlef_data.engines.database.connection import check_files, file_size, is_damage, is_writable, raw_connection
from toolrlef_data.engines.database.schema import DamagedDatabase, add_missing_tables, check_tables
from toolrlef_data.records import InputError, ToolrlefError

__all__ = ["check_source", "open_source", "source_errors"]


def check_source(path: Path) -> None:
    """Check that a store exists and can be read.

    Raises:
        InputError: there is no file.
        ToolrlefError: the user may not read it.
    """
    try:
        is_file = path.is_file()
    except PermissionError as error:
        raise ToolrlefError(f"cannot read {path} ({error.strerror}): ask the owner of its folder for access") from None
    if not is_file:
        raise InputError(f"no reply store {path}: expected a file such as replies.sqlite")
    for file in (path, *_log_files(path.resolve())):
        if file.exists() and not os.access(file, os.R_OK):
            status = file.stat()
            raise ToolrlefError(
                f"cannot read {file}: it belongs to the user {_user_name(status.st_uid)} and has the mode "
                f"{status.st_mode & 0o777:04o}. Its owner can allow it (chmod a+r), or pass on a copy of the store"
            )


@contextlib.contextmanager
def open_source(path: Path, schema: str) -> Iterator[sqlite3.Connection]:
    """Yield a read-only connection to a store; tables that it lacks are empty temporary ones.

    Raises:
        InputError: the file belongs to another program.
        ToolrlefError: the file is damaged or cannot be read, or another process has opened it meanwhile.
    """
    with source_errors(path):
        resolved = path.resolve()
        check_files(resolved, _refuse_cut)
        before = _state(resolved)
        is_used = any(file.exists() for file in _log_files(resolved))
        connection = raw_connection(resolved, "ro" if is_used else "ro&immutable=1")
    with contextlib.closing(connection):
        with source_errors(path):
            check_tables(connection, schema)
            add_missing_tables(connection, schema)
        yield connection
    if not is_used and _state(resolved) != before:
        raise ToolrlefError(f"another process has written to {path} while it was read: merge again")


@contextlib.contextmanager
def source_errors(path: Path) -> Iterator[None]:
    """Explain the errors of a store that is read."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path} is not a usable reply store: {error}") from error
    except (sqlite3.DatabaseError, DamagedDatabase) as error:
        # SQLite also says "readonly database" where it cannot write the index of a log.
        if isinstance(error, DamagedDatabase) or (is_damage(error) and "readonly" not in str(error)):
            raise ToolrlefError(
                f"{path} is damaged ({error}), and a store that is copied is not changed. To repair "
                f"{_repairable(path)} first in this command: the store that receives replies is repaired"
            ) from error
        raise ToolrlefError(
            f"{path} cannot be read ({error}): copy it, and its -wal, to a folder that can be written, and name the "
            "copy"
        ) from error


def _repairable(path: Path) -> str:
    return "it, name it" if is_writable(path.resolve()) else "a copy of it and its -wal, name that"


def _refuse_cut(log: Path) -> NoReturn:
    raise DamagedDatabase(f"{log.name} was cut or removed")


def _log_files(path: Path) -> list[Path]:
    """Return the paths of the log and its index, which a process that uses the file makes, and removes at its end."""
    return [Path(f"{path}{end}") for end in ("-wal", "-shm")]


def _state(path: Path) -> tuple[int, ...]:
    """Return what changes when another process writes to a file."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size, *map(file_size, _log_files(path))


def _user_name(number: int) -> str:
    with contextlib.suppress(ImportError, KeyError):  # Windows, or a user of another machine
        import pwd

        return pwd.getpwuid(number).pw_name
    return str(number)
