"""Digests of source code and the modules that it imports.

A module of this package or of the user is identified by its syntax tree without docstrings. A process computes the
digest once, for the first cache key that includes the module. If the file changes afterwards, the next key raises an
`InputError`, because the running code is no longer the code on disk. A reloaded module is digested again.
"""

from __future__ import annotations

import ast
import dis
import functools
import hashlib
import importlib.util
import json
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

from toolrlef_data._names import PUBLIC_MODULES
from toolrlef_data.records import InputError

__all__ = [
    "IMPLICIT_NAMES",
    "PACKAGE",
    "class_source",
    "code_imports",
    "code_value",
    "digest",
    "globals_in",
    "is_in_package",
    "is_library",
    "module_digests",
    "names_in",
    "submodule_digests",
]

PACKAGE = "toolrlef_data"
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# Names that the compiler sets in a class body, from its docstring or its position in the file.
IMPLICIT_NAMES = frozenset({"__doc__", "__firstlineno__", "__static_attributes__"})
SIGNATURE_FLAGS = 0x2AC  # *args, **kwargs, generator, coroutine, async generator


class _FirstDigest(NamedTuple):
    """The digest of a loaded module, computed for the first cache key that includes the module."""

    loaded: Any  # the module's spec, or the module itself if it has none
    stamp: tuple[int, int]
    digest_and_imports: tuple[str, frozenset[str]]


_first_digests: dict[str, _FirstDigest] = {}  # by module name


def digest(*values: object) -> str:
    """Return the first 32 hexadecimal digits of the SHA-256 of JSON values.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    text = json.dumps(values, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def code_value(code: CodeType) -> list[Any]:
    """Return a code object as JSON values: instructions, names and constants without line numbers,
    docstrings and addresses."""
    instructions = _instructions(code)
    stored_names = [i.argval if i.opname == "STORE_NAME" else None for i in instructions]
    # Two instructions set an implicit name, a load and a store; both are omitted.
    is_implicit = [
        not IMPLICIT_NAMES.isdisjoint(pair) for pair in zip(stored_names, [*stored_names[1:], None], strict=True)
    ]
    argument_count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
    signature = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & SIGNATURE_FLAGS]
    body = [
        [i.opname, _constant_value(i.argval)]
        for i, is_omitted in zip(instructions, is_implicit, strict=True)
        if not is_omitted
    ]
    covered = getattr(code, "co_exceptiontable", b"")  # what `try` and `with` cover; not in 3.10
    return [signature, code.co_varnames[:argument_count], body, *([covered.hex()] if covered else [])]


def _constant_value(value: Any) -> Any:
    """Return the JSON value of a constant in bytecode."""
    if isinstance(value, CodeType):
        return code_value(value)
    if isinstance(value, frozenset):  # the order differs between processes
        return {"set": sorted(map(_constant_value, value), key=json.dumps)}
    return [_constant_value(v) for v in value] if isinstance(value, tuple) else repr(value)


def _instructions(code: CodeType) -> list[dis.Instruction]:
    return [i for i in dis.get_instructions(code) if i.opname not in {"CACHE", "EXTENDED_ARG"}]


def nested_code(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and all code objects inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested_code(constant)


def names_in(code: CodeType) -> set[str]:
    """Return the global and attribute names that a code object uses, also in nested functions."""
    return {name for inner in nested_code(code) for name in inner.co_names}


def globals_in(code: CodeType) -> set[str]:
    """Return the names of the globals that a code object reads, also in nested functions."""
    loads = (i for inner in nested_code(code) for i in _instructions(inner) if i.opname.startswith("LOAD_"))
    return {i.argval for i in loads if "GLOBAL" in i.opname or i.opname == "LOAD_NAME"} - {"__name__"}


def code_imports(code: CodeType, package: str) -> set[str]:
    """Return the names of the modules that a code object may import when it runs."""
    modules: set[str] = set()
    for inner in nested_code(code):
        instructions = _instructions(inner)
        for level, names, instruction in zip(instructions, instructions[1:], instructions[2:], strict=False):
            if instruction.opname == "IMPORT_NAME":
                modules |= imported_modules(instruction.argval, level.argval, names.argval or (), package)
    return modules


def imported_modules(base: str, level: int, names: Iterable[str], package: str) -> set[str]:
    """Return the modules that `from base import names` may import: the base, and each name as a submodule."""
    if level and not package:  # a relative import outside a package fails when it runs
        return set()
    if level:
        base = importlib.util.resolve_name("." * level + base, package)
    return ({base} - {PACKAGE}) | {_member_module(base, name) for name in names}


def _member_module(base: str, name: str) -> str:
    """Return the module that defines a public name of this package; for any other name, the submodule of that name."""
    return PUBLIC_MODULES.get(name, f"{base}.{name}") if base == PACKAGE else f"{base}.{name}"


def submodule_digests(name: str, names: set[str]) -> dict[str, str]:
    """Return module name -> digest for a module, its submodules in `names`, and all modules that they import."""
    modules, pending = set[str](), [name]
    while pending:
        modules.add(base := pending.pop())
        members = (_member_module(base, member) for member in names)
        pending += [member for member in members if member not in modules and source_file(member)]
    return module_digests(modules - {PACKAGE})


def module_digests(names: Iterable[str]) -> dict[str, str]:
    """Return module name -> digest for modules and all modules that they import, directly or indirectly."""
    pending, digests = set(names), dict[str, str]()
    while pending:
        name = pending.pop()
        if path := source_file(name):
            digests[name], imports = read_module(name, path)
            pending |= imports - digests.keys()
    return digests


def is_in_package(module: str | None) -> bool:
    """Return whether a module belongs to this package."""
    return module is not None and (module == PACKAGE or module.startswith(PACKAGE + "."))


def is_library(module: str | None) -> bool:
    """Return whether a module belongs to the standard library or an installed package other than this one."""
    if not module or is_in_package(module):
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    return _is_installed(file) if file else module.partition(".")[0] in sys.stdlib_module_names


@functools.cache
def _is_installed(file: str) -> bool:
    installed = {"site-packages", "dist-packages"}.intersection(Path(file).parts)
    return bool(installed) or Path(file).is_relative_to(sysconfig.get_path("stdlib"))


def source_file(name: str) -> Path | None:
    """Return the file of a module of this package or of the user, without importing it; otherwise None."""
    spec = _spec(name)
    file = getattr(sys.modules.get(name), "__file__", None) or (spec.origin if spec else None)
    is_source = (
        file and file.endswith(".py") and (is_in_package(name) or not _is_installed(file)) and Path(file).is_file()
    )
    return Path(file) if file and is_source else None


def _spec(name: str) -> ModuleSpec | None:
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    parent = name.rpartition(".")[0]
    if not parent:
        return importlib.util.find_spec(name) if name else None
    parent_spec = _spec(parent)
    folders = parent_spec.submodule_search_locations if parent_spec else None
    return PathFinder.find_spec(name, folders) if folders else None


def _stamp(path: Path) -> tuple[int, int]:
    """Return the modification time of a file, in nanoseconds, and its size, in bytes."""
    return path.stat().st_mtime_ns, path.stat().st_size


def read_module(name: str, path: Path) -> tuple[str, frozenset[str]]:
    """Return (digest of a module's source, imported modules).

    For an imported module, the result is computed once, for the first cache key that includes the module. Reloading the
    module discards it.

    Raises:
        InputError: the file has changed since the result was computed.
    """
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    stamp, module = _stamp(path), sys.modules.get(name)
    if module is None:
        return _parse_module(str(path), *stamp, package)
    loaded = module.__spec__ or module  # a reload replaces the spec
    first = _first_digests.get(name)
    if first is None or first.loaded is not loaded:
        first = _first_digests[name] = _FirstDigest(loaded, stamp, _parse_module(str(path), *stamp, package))
    if first.stamp != stamp and _parse_module(str(path), *stamp, package)[0] != first.digest_and_imports[0]:
        raise InputError(f"the source of {name} has changed since it was imported: restart the process ({path})")
    return first.digest_and_imports


@functools.cache
def _parse_module(path: str, mtime_ns: int, size: int, package: str) -> tuple[str, frozenset[str]]:
    """Return (digest of a module's source, imported modules)."""
    tree, imports = _tree(path, mtime_ns, size), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imports |= imported_modules(node.module or "", node.level, (alias.name for alias in node.names), package)
    return digest(ast.dump(tree)), frozenset(name for name in imports if not is_library(name))


@functools.lru_cache(maxsize=8)
def _tree(path: str, mtime_ns: int, size: int) -> ast.AST:
    """Parse a file, and remove docstrings, `Choices` and `__all__`: a new entry in a registry changes no row."""
    tree = ast.parse(Path(path).read_bytes())
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, *DEFINITIONS)):
            continue
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            del node.body[0]
        node.body = [statement for statement in node.body if not _is_registry(statement)]
    return tree


def _is_registry(statement: ast.stmt) -> bool:
    """Return whether a statement assigns `__all__` or a `Choices(...)`."""
    value = statement.value if isinstance(statement, (ast.Assign, ast.AnnAssign)) else None
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    is_choices = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "Choices"
    return is_choices or any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)


def class_source(cls: type) -> tuple[list[str], set[str]]:
    """Return the source of a class as syntax trees, and the names that its body reads when it runs.

    Both are empty for a class of an interactive session.

    Raises:
        InputError: the file has changed since its import.
    """
    path = source_file(cls.__module__)
    nodes: list[ast.AST] = []
    if path is not None:
        read_module(cls.__module__, path)  # raises the error
        nodes = [_tree(str(path), *_stamp(path))]
    for name in cls.__qualname__.replace(".<locals>", "").split("."):
        nodes = [n for outer in nodes for n in ast.walk(outer) if isinstance(n, DEFINITIONS) and n.name == name]
    return [ast.dump(node) for node in nodes], {name for node in nodes for name in _body_names(node)}


def _body_names(node: ast.AST) -> Iterator[str]:
    """Yield the names that a class body reads when it runs, without those in its methods."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load):
            yield child.id
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from _body_names(child)
