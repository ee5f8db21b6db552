"""code_digest: which modules a piece of code reaches, and a digest of each.

Modules of this package and of the user count by their syntax trees without docstrings. A module counts as it was when
a key first held it: where its file changes later in the same process, the next key is refused, since the code that
runs is not the code that would be digested; a reload is accepted.
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
from typing import Any

from toolrlef_data._names import HOMES
from toolrlef_data.records import InputError

__all__ = [
    "DEFINITIONS",
    "FROM_PLACE",
    "PACKAGE",
    "body_names",
    "code_imports",
    "code_value",
    "digest",
    "globals_in",
    "is_library",
    "is_ours",
    "module_digests",
    "module_of",
    "modules_reached",
    "names_in",
    "source_file",
    "syntax_tree",
]

PACKAGE = "toolrlef_data"
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# Names that a class body sets by itself, from its docstring or its place in the file.
FROM_PLACE = frozenset({"__doc__", "__firstlineno__", "__static_attributes__"})
SHAPE_FLAGS = 0x2AC  # *args, **kwargs, generator, coroutine, asynchronous generator
_first_seen: dict[str, tuple[Any, tuple[int, int], tuple[str, frozenset[str]]]] = {}


def digest(*values: object) -> str:
    """32 hexadecimal digits that stand for JSON values.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    text = json.dumps(values, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def code_value(code: CodeType) -> list[Any]:
    """Instructions with names and constants in place: no line, no docstring, no address."""
    steps = _instructions(code)
    stored = [s.argval if s.opname == "STORE_NAME" else None for s in steps]
    by_place = [FROM_PLACE.intersection(pair) for pair in zip(stored, [*stored[1:], None], strict=True)]
    arguments = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
    shape = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & SHAPE_FLAGS]
    kept = [[s.opname, _constant(s.argval)] for s, place in zip(steps, by_place, strict=True) if not place]
    return [shape, code.co_varnames[:arguments], kept]


def _constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return code_value(value)
    if isinstance(value, frozenset):  # its order differs between processes
        return {"set": sorted(map(_constant, value), key=json.dumps)}
    return [_constant(v) for v in value] if isinstance(value, tuple) else repr(value)


def _instructions(code: CodeType) -> list[dis.Instruction]:
    return [step for step in dis.get_instructions(code) if step.opname not in {"CACHE", "EXTENDED_ARG"}]


def nested_code(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested_code(constant)


def names_in(code: CodeType) -> set[str]:
    return {name for inner in nested_code(code) for name in inner.co_names}


def globals_in(code: CodeType) -> set[str]:
    loads = (s for c in nested_code(code) for s in _instructions(c) if s.opname.startswith("LOAD_"))
    return {s.argval for s in loads if "GLOBAL" in s.opname or s.opname == "LOAD_NAME"} - {"__name__"}


def code_imports(code: CodeType, package: str) -> set[str]:
    found: set[str] = set()
    for inner in nested_code(code):
        steps = _instructions(inner)
        for level, names, step in zip(steps, steps[1:], steps[2:], strict=False):
            if step.opname == "IMPORT_NAME":
                found |= imported_names(step.argval, level.argval, names.argval or (), package)
    return found


def imported_names(base: str, level: int, names: Iterable[str], package: str) -> set[str]:
    """Modules that an import may mean: what it names, and each name in it, if there is such a module."""
    if level and not package:  # such an import cannot run
        return set()
    if level:
        base = importlib.util.resolve_name("." * level + base, package)
    return ({base} - {PACKAGE}) | {_member(base, name) for name in names}


def _member(base: str, name: str) -> str:  # the package's own __init__ only says where names live
    return HOMES.get(name, f"{base}.{name}") if base == PACKAGE else f"{base}.{name}"


def modules_reached(name: str, names: set[str]) -> dict[str, str]:
    """Digests of a module, of the modules inside it that code with these names may mean, and of all they import."""
    found, todo = set[str](), [name]
    while todo:
        found.add(base := todo.pop())
        todo += [m for m in (_member(base, n) for n in names) if m not in found and source_file(m)]
    return module_digests(found - {PACKAGE})


def module_digests(names: Iterable[str]) -> dict[str, str]:
    todo, seen = set(names), dict[str, str]()
    while todo:
        name = todo.pop()
        if path := source_file(name):
            seen[name], imports = module_of(name, path)
            todo |= imports - seen.keys()
    return seen


def is_ours(module: str | None) -> bool:
    return module is not None and (module == PACKAGE or module.startswith(PACKAGE + "."))


def is_library(module: str | None) -> bool:
    if not module or is_ours(module):
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    return _in_library(file) if file else module.partition(".")[0] in sys.stdlib_module_names


@functools.cache
def _in_library(file: str) -> bool:
    installed = {"site-packages", "dist-packages"}.intersection(Path(file).parts)
    return bool(installed) or Path(file).is_relative_to(sysconfig.get_path("stdlib"))


def source_file(name: str) -> Path | None:
    """The file of a module of this package or of the user; finds it without importing anything."""
    spec = _spec(name)
    file = getattr(sys.modules.get(name), "__file__", None) or (spec.origin if spec else None)
    known = file and file.endswith(".py") and (is_ours(name) or not _in_library(file)) and Path(file).is_file()
    return Path(file) if file and known else None


def _spec(name: str) -> ModuleSpec | None:
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    parent = name.rpartition(".")[0]
    if not parent:
        return importlib.util.find_spec(name) if name else None
    above = _spec(parent)
    folders = above.submodule_search_locations if above else None
    return PathFinder.find_spec(name, folders) if folders else None


def _stamp(path: Path) -> tuple[int, int]:
    return path.stat().st_mtime_ns, path.stat().st_size


def module_of(name: str, path: Path) -> tuple[str, frozenset[str]]:
    """(digest of a module's source, names that it imports), as they were when first taken since its import."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    stamp, module = _stamp(path), sys.modules.get(name)
    if module is None:
        return _parsed(str(path), *stamp, package)
    loaded = module.__spec__ or module  # a reload makes another spec
    first = _first_seen.get(name)
    if first is None or first[0] is not loaded:
        first = _first_seen[name] = (loaded, stamp, _parsed(str(path), *stamp, package))
    if first[1] != stamp and _parsed(str(path), *stamp, package)[0] != first[2][0]:
        raise InputError(f"the source of {name} has changed since it was imported: restart the process ({path})")
    return first[2]


@functools.cache
def _parsed(path: str, mtime_ns: int, size: int, package: str) -> tuple[str, frozenset[str]]:
    tree, found = _tree(path, mtime_ns, size), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= imported_names(node.module or "", node.level, (alias.name for alias in node.names), package)
    return digest(ast.dump(tree)), frozenset(name for name in found if not is_library(name))


def syntax_tree(path: Path) -> ast.AST:
    """A file's tree as it is now; see `_tree`."""
    return _tree(str(path), *_stamp(path))


@functools.lru_cache(maxsize=8)
def _tree(path: str, mtime_ns: int, size: int) -> ast.AST:
    """A file without docstrings, and without tables of names (`Choices`, `__all__`): a new entry changes no row."""
    tree = ast.parse(Path(path).read_bytes())
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, *DEFINITIONS)):
            continue
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            del node.body[0]
        node.body = [statement for statement in node.body if not _is_table(statement)]
    return tree


def _is_table(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, (ast.Assign, ast.AnnAssign)) else None
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    choices = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "Choices"
    return choices or any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)


def body_names(node: ast.AST) -> Iterator[str]:
    """Names that a class body reads when it runs, not those inside its methods."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load):
            yield child.id
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from body_names(child)
