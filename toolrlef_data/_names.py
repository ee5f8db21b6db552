"""The registry of public names, read from the type stub so that each name is listed once."""

from __future__ import annotations

import ast
import importlib.util
import pkgutil

__all__ = ["PUBLIC_MODULES"]

_stub = ast.parse(pkgutil.get_data("toolrlef_data", "__init__.pyi") or b"")  # `pkgutil` also reads from a zip file
PUBLIC_MODULES: dict[str, str] = {
    alias.name: str(statement.module)
    for statement in _stub.body
    if isinstance(statement, ast.ImportFrom)
    for alias in statement.names
}  # public name -> the module that defines it
if importlib.util.find_spec("verifiers") is None:
    PUBLIC_MODULES.pop("ToolTaskset")  # verifiers looks for it among the public names
