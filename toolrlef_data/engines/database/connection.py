"""Opening an SQLite file that several processes share: checks, creation, and repair after damage.

A file is created and repaired by one process at a time; the others wait for the lock `NAME.lock`. It gets its name when
it is complete, in WAL mode. A damaged file is never deleted: it becomes `NAME.damaged-1` (-2, ...), and a new file with
its readable rows replaces it in one step. A process that is killed before this step has changed nothing.

A file on a read-only disk or in a read-only folder is opened without a write-ahead log.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import filelock

from toolrlef_data.engines.database.schema import DamagedDatabase, add_missing_tables, check_tables
from toolrlef_data.engines.database.wal import is_log_cut, is_log_damaged
from toolrlef_data.records import ToolrlefError
from toolrlef_data.tables.files import explain_disk_errors

__all__ = [
    "check_files",
    "file_size",
    "is_damage",
    "is_writable",
    "open_database",
    "raw_connection",
    "repair",
]

log = logging.getLogger(__name__)
BUSY_TIMEOUT = 60.0  # seconds to wait for the locks of other processes
# How SQLite describes damage (sqlite.org/rescode.html: CORRUPT, NOTADB, READONLY, ERROR), such as an unknown version of
# the format: SQLite only reads such files.
_damage = re.compile("malformed|not a database|encrypted|unsupported file format|readonly database").search

# (process, file) of the databases that were opened: their index must not be read again (see `wal`).
_opened: set[tuple[int, Path]] = set()
_opening = threading.Lock()
if hasattr(os, "register_at_fork"):  # POSIX: a child must not inherit the lock of another thread
    os.register_at_fork(before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_opening.release)

# (damaged file, its logs, empty database) -> what was recovered; raises ToolrlefError for the file of another program.
Recover = Callable[[Path, list[Path], sqlite3.Connection], str]


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error of SQLite means that a writable file is damaged."""
    return _damage(str(error)) is not None


def is_writable(path: Path) -> bool:
    """Return whether a database file can be written: SQLite also writes files beside it."""
    return os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))


def open_database(path: Path, schema: str, recover: Recover, mode: int) -> sqlite3.Connection:
    """Open a database in WAL mode; create it if it is missing, and repair it if it is damaged.

    Args:
        path: the file.
        schema: SQL that creates the tables that are missing.
        recover: inserts the readable rows of a damaged file into a new one.
        mode: permissions of a new file, apart from those that the umask removes.

    Raises:
        InputError: the file belongs to another program.
        ToolrlefError: the file is damaged and read-only.
        sqlite3.Error: the file cannot be used for another reason.
    """
    path = path.resolve()  # SQLite writes its other files beside the target of a link
    if not is_writable(path):
        return _open_read_only(path, schema)
    with contextlib.suppress(DamagedDatabase, FileNotFoundError):
        return _connect(path, schema)
    with filelock.FileLock(f"{path}.lock"):
        try:
            return _connect(path, schema)  # another process has created or repaired it
        except FileNotFoundError:
            with _scratch(path) as scratch:
                os.close(os.open(scratch, os.O_CREAT | os.O_EXCL, mode))
                _build(scratch, schema)
                if not path.exists():
                    os.replace(scratch, path)
        except DamagedDatabase as error:
            _replace(path, schema, recover, str(error))
        return _connect(path, schema)


def repair(path: Path, schema: str, recover: Recover, reason: str, damaged: os.stat_result) -> None:
    """Replace a file by a new one with its readable rows, unless another process has already replaced it.

    Args:
        path: the file.
        schema: SQL that creates the tables.
        recover: inserts the readable rows into the new file.
        reason: the error, for the warning.
        damaged: the result of `os.stat` when the file was opened.
    """
    path = path.resolve()
    with filelock.FileLock(f"{path}.lock"):
        if path.exists() and os.path.samestat(path.stat(), damaged):
            _replace(path, schema, recover, reason)


def check_files(path: Path, report_cut: Callable[[Path], None]) -> None:
    """Check a file and its log before they are opened, without SQLite, which would remove a damaged log.

    Args:
        path: the file, without links.
        report_cut: called with the log if it was cut or removed.

    Raises:
        FileNotFoundError: there is no file, and no log of one.
        DamagedDatabase: the file is empty, or missing beside its log, or its log is damaged.
    """
    current_log = Path(f"{path}-wal")
    if not path.exists():
        if file_size(current_log):
            raise DamagedDatabase("the file is missing, but its write-ahead log exists")
        raise FileNotFoundError(path)
    if _scratch_path(path).exists():  # the log of the file may already have another name
        raise DamagedDatabase("an earlier repair was interrupted")
    if not file_size(path):
        raise DamagedDatabase("the file is empty")
    with _opening:  # twice, since another process may be writing
        is_open, index = (os.getpid(), path) in _opened, Path(f"{path}-shm")
        if all(file_size(current_log) and is_log_damaged(current_log, None if is_open else index) for _ in range(2)):
            raise DamagedDatabase("frames of its write-ahead log have wrong checksums")
        if not is_open and all(is_log_cut(current_log, index) for _ in range(2)):
            report_cut(current_log)
        _opened.add((os.getpid(), path))


def _connect(path: Path, schema: str) -> sqlite3.Connection:
    """Open and check an existing file.

    Raises:
        FileNotFoundError: there is no file, and no log of one.
        DamagedDatabase: the file is damaged, empty, or missing beside its log.
    """
    warning = "%s was cut or removed: replies are missing, and their requests are sent again"
    check_files(path, partial(log.warning, warning))
    connection = raw_connection(path, "rw")
    try:
        check_tables(connection, schema)
        # In WAL mode, a killed process loses no committed row with NORMAL (sqlite.org/wal.html).
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(schema)
    except sqlite3.Error as error:
        connection.close()
        if is_damage(error):
            raise DamagedDatabase(str(error)) from error
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def raw_connection(path: Path, mode: str) -> sqlite3.Connection:
    """Open a file without a check; `mode` is that of SQLite, such as "rw"."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, uri=True)
    connection.text_factory = _decode
    return connection


def _decode(content: bytes) -> str:
    """Decode a stored text; damaged bytes become surrogates, which no stored text contains."""
    return str(content, "utf-8", "surrogateescape")


def file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


# Creation and repair --------------------------------------------------------------------------------------------------


def _scratch_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


@contextlib.contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    """Yield the path of a new file beside a database; the caller holds the lock. Remove that of a killed process."""
    scratch = _scratch_path(path)
    scratch.unlink(missing_ok=True)
    try:
        with explain_disk_errors(path.parent):
            yield scratch
    finally:
        scratch.unlink(missing_ok=True)


def _build(path: Path, schema: str, fill: Callable[[sqlite3.Connection], str] = lambda _: "") -> str:
    """Write a new database, and return what `fill` returns."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.executescript(schema)
        connection.execute("BEGIN")
        result = fill(connection)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")
    return result


def _replace(path: Path, schema: str, recover: Recover, reason: str) -> None:
    """Replace a damaged file; the caller holds the lock."""
    current_log = Path(f"{path}-wal")
    names = map(partial(_numbered, path), count(1))
    # A repair that was interrupted may have named the damaged file already.
    kept = next(name for name in names if not _exists(name) or (path.exists() and path.samefile(name)))
    kept_log = Path(f"{kept}-wal")
    with _scratch(path) as scratch:
        recovered = _build(scratch, schema, partial(recover, path, [kept_log, current_log]))
        if path.exists():
            shutil.copymode(path, scratch)
            _keep(path, kept)
        # SQLite would apply the log to the new file.
        if current_log.exists():
            _keep(current_log, kept_log)
            current_log.unlink()
        Path(f"{path}-shm").unlink(missing_ok=True)
        os.replace(scratch, path)
    log.warning("%s is damaged (%s): %s. The damaged file is kept as %s", path, reason, recovered, kept.name)


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.damaged-{number}")


def _exists(kept: Path) -> bool:
    return kept.exists() or Path(f"{kept}-wal").exists()


def _keep(path: Path, kept: Path) -> None:
    """Give a file a second name; on a file system without hard links, copy it."""
    if kept.exists() and path.samefile(kept):
        return
    try:
        os.link(path, kept)
    except OSError:
        shutil.copy2(path, kept)


# Read-only files ------------------------------------------------------------------------------------------------------


def _open_read_only(path: Path, schema: str) -> sqlite3.Connection:
    """Open a file without writing anything; tables that it lacks are empty temporary ones."""
    connection = raw_connection(path, "ro")
    try:
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:  # SQLite cannot create the index of the write-ahead log
            connection.close()
            connection = raw_connection(path, "ro&immutable=1")
            if file_size(Path(f"{path}-wal")):
                log.warning("%s-wal cannot be read in a read-only folder; its replies are missing", path)
        check_tables(connection, schema)
        add_missing_tables(connection, schema)
    except (sqlite3.DatabaseError, DamagedDatabase) as error:
        connection.close()
        if isinstance(error, DamagedDatabase) or is_damage(error):
            raise ToolrlefError(
                f"{path} is damaged ({error}) and read-only; TOOLRLEF_REPLIES may name a copy in a writable folder, "
                "where it is repaired"
            ) from error
        raise
    return connection
