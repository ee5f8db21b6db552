"""Cache keys: settings by value, and a digest of the code that a step runs.

`datasets` pickles an importable function by name, so it does not see an edit or an upgrade of a library and returns
the old rows. Here a key holds the code itself: the syntax trees, without docstrings, of the step's module, of every
module that its settings name, and of all modules of this package that they import anywhere, also inside functions.
Functions of the user count by their source and by the globals they use.

Not covered: packages of others. What a tool's output owes to them is said in `Tool.version`.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import inspect
import json
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodDescriptorType, ModuleType
from typing import Any

from datasets import Features

__all__ = ["NOT_IN_KEY", "canonical", "code_digest", "digest"]

PACKAGE = "toolrlef_data"
# Settings that cannot change an output row, left out of every key by name.
NOT_IN_KEY = frozenset(
    {"device", "batch_tokens", "concurrency", "timeout", "retries", "progress", "num_proc", "max_failed", "store"}
)


def digest(*values: object) -> str:
    """32 hexadecimal digits that stand for JSON values.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    text = json.dumps(values, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def canonical(value: Any) -> Any:
    """Settings as JSON values: equal settings give equal JSON, whatever process made them.

    Raises:
        TypeError: for an object that has no value to go by (a lock, a client, an open file).

    >>> canonical((1, {"b": None, "a": 2.5}))
    [1, {'a': 2.5, 'b': None}]
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, bytes):
        return {"bytes": hashlib.sha256(value).hexdigest()}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Features):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(k): canonical(value[k]) for k in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [canonical(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted((canonical(v) for v in value), key=lambda v: json.dumps(v, sort_keys=True))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        values = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.name not in NOT_IN_KEY}
        if hasattr(value, "in_key"):  # the class has its own word on what stands for a value
            values |= value.in_key()
        return {"": _name(type(value)), **{name: canonical(v) for name, v in values.items()}}
    if isinstance(value, functools.partial):
        return {"partial": canonical(value.func), "args": canonical(value.args), "kwargs": canonical(value.keywords)}
    if isinstance(value, (type, BuiltinFunctionType, MethodDescriptorType)):
        return {"name": _name(value)}
    if isinstance(value, FunctionType):
        ours = _is_ours(value.__module__)
        return (
            {"name": _name(value)} if ours else {"name": value.__qualname__, "source": _function_digest(value, set())}
        )
    raise TypeError(
        f"{type(value).__module__}.{type(value).__qualname__} cannot be part of a setting: a cache key needs plain "
        "values, frozen dataclasses or functions"
    )


def code_digest(*roots: Any) -> str:
    """Digest of all code of this package that the roots reach.

    Args:
        roots: functions, classes, or settings that hold some.
    """
    todo = {name for root in roots for name in _modules_named(root)}
    seen: dict[str, str] = {}
    while todo:
        name = todo.pop()
        path = _source_file(name)
        if path is None:
            continue
        stat = path.stat()
        seen[name], imports = _module(str(path), stat.st_mtime_ns, stat.st_size, _package_of(name, path))
        todo |= imports - seen.keys()
    return digest(seen)


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', None) or 'builtins'}:{value.__qualname__}"


def _is_ours(module: str | None) -> bool:
    return module is not None and (module == PACKAGE or module.startswith(PACKAGE + "."))


def _modules_named(value: Any) -> set[str]:
    """Names of our modules in which the functions and classes found in a setting live."""
    if isinstance(value, (str, bytes, int, float, type(None))):
        return set()
    if isinstance(value, Mapping):
        return set().union(*(_modules_named(v) for v in value.values()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return set().union(*(_modules_named(v) for v in value))
    if isinstance(value, functools.partial):
        return _modules_named(value.func) | _modules_named(value.args) | _modules_named(value.keywords)
    if isinstance(value, (type, FunctionType)):
        return {value.__module__} if _is_ours(value.__module__) else set()
    if dataclasses.is_dataclass(value):
        own = {type(value).__module__} if _is_ours(type(value).__module__) else set()
        return own.union(*(_modules_named(getattr(value, f.name)) for f in dataclasses.fields(value)))
    return set()


@functools.cache
def _source_file(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _package_of(name: str, path: Path) -> str:
    return name if path.name == "__init__.py" else name.rpartition(".")[0]


@functools.cache
def _module(path: str, mtime_ns: int, size: int, package: str) -> tuple[str, frozenset[str]]:
    """(digest of a source file, names of our modules that it imports); memoised until the file changes."""
    tree = ast.parse(Path(path).read_bytes())
    imports: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = importlib.util.resolve_name("." * node.level + base, package)
            # The package's own __init__ only says where names live.
            imports |= ({base} - {PACKAGE}) | {f"{base}.{alias.name}" for alias in node.names}
    return digest(ast.dump(_bare(tree))), frozenset(name for name in imports if _is_ours(name))


def _bare(tree: ast.AST) -> ast.AST:
    """The tree without docstrings, and without tables of names (`Choices`, `__all__`): a new entry changes no row."""
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
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


def _function_digest(function: Callable[..., Any], seen: set[int]) -> str:
    """A function of the user: its source, defaults, closure, and the globals that it names."""
    if id(function) in seen or not isinstance(function, FunctionType):
        return _name(function) if hasattr(function, "__qualname__") else ""
    seen.add(id(function))
    cells = [_cell(c) for c in function.__closure__ or ()]
    used = sorted(n for n in _global_names(function.__code__) if n in function.__globals__)
    parts = [_value_digest(v, seen) for v in (function.__defaults__, function.__kwdefaults__, *cells)]
    return digest(_source(function), parts, {n: _value_digest(function.__globals__[n], seen) for n in used})


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _global_names(code: CodeType) -> set[str]:
    nested = (c for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*(_global_names(c) for c in nested))


def _source(function: FunctionType) -> Any:
    try:
        return ast.dump(_bare(ast.parse(textwrap.dedent(inspect.getsource(function)))))
    except (OSError, SyntaxError, TypeError):  # typed into a prompt, or a lambda inside a longer line
        code = function.__code__
        return [code.co_code.hex(), [repr(c) for c in code.co_consts if not isinstance(c, CodeType)], code.co_names]


def _value_digest(value: Any, seen: set[int]) -> Any:
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, FunctionType) and not _is_library(value):
        return _function_digest(value, seen)
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return _name(value)
    try:
        return canonical(value)
    except TypeError:
        return _name(type(value))


def _is_library(function: FunctionType) -> bool:
    file = getattr(sys.modules.get(function.__module__), "__file__", None) or ""
    paths = sysconfig.get_paths()
    return _is_ours(function.__module__) or file.startswith((paths["stdlib"], paths["purelib"], paths["platlib"]))
