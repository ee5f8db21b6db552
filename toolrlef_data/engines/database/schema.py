"""The tables of a database file, compared with the SQL of their definition."""

from __future__ import annotations

import contextlib
import sqlite3
from functools import cache

from toolrlef_data.records import InputError, ToolrlefError

__all__ = ["DamagedDatabase", "add_missing_tables", "check_tables"]


class DamagedDatabase(ToolrlefError):
    """A database file that SQLite cannot read, or that lacks tables."""


def check_tables(connection: sqlite3.Connection, schema: str) -> None:
    """Raise `DamagedDatabase` for damaged pages, and for tables that differ from the schema or are missing."""
    problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]  # reads about 2 GB a second
    if problem != "ok":
        raise DamagedDatabase(problem.splitlines()[-1])
    tables = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall())
    expected = _tables(schema)
    unknown = [name for name in tables if name not in expected and not str(name).startswith("sqlite_")]
    missing = [name for name in expected if name not in tables]
    if len(missing) == len(expected) and unknown:
        raise InputError(f"a database of another program: expected the table {missing[0]}, found {unknown[0]}")
    if unknown and missing:  # tables of a later version are unknown, and an earlier version lacks tables
        raise DamagedDatabase(f"expected the table {missing[0]}, found {unknown[0]}")
    if different := [name for name, sql in expected.items() if tables.get(name, sql) != sql]:
        raise DamagedDatabase(f"the definition of the table {different[0]} differs")


def add_missing_tables(connection: sqlite3.Connection, schema: str) -> None:
    """Create the tables that a read-only file of an earlier version lacks, as empty temporary ones."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for name, sql in _tables(schema).items():
        if name not in tables:
            connection.execute(sql.replace("CREATE TABLE", "CREATE TEMP TABLE", 1))


@cache
def _tables(schema: str) -> dict[str, str]:
    """Return the SQL of each table of a schema, as SQLite stores it."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(schema)
        return dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall())
