"""The table of public names, read from the type stub of the package, so that each name is written once."""

from __future__ import annotations

import ast
from pathlib import Path

__all__ = ["HOMES"]

_stub = ast.parse(Path(__file__).with_name("__init__.pyi").read_text(encoding="utf-8"))
HOMES: dict[str, str] = {
    alias.name: str(statement.module)
    for statement in _stub.body
    if isinstance(statement, ast.ImportFrom)
    for alias in statement.names
}  # public name -> the module in which it is defined
