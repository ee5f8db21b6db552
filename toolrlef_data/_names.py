"""The table of public names, read from the type stub of the package, so that each name is written once."""

from __future__ import annotations

import ast
import pkgutil

__all__ = ["HOMES"]

_stub = ast.parse(pkgutil.get_data("toolrlef_data", "__init__.pyi") or b"")  # from a zip file as well
HOMES: dict[str, str] = {
    alias.name: str(statement.module)
    for statement in _stub.body
    if isinstance(statement, ast.ImportFrom)
    for alias in statement.names
}  # public name -> the module in which it is defined
