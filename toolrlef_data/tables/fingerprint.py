"""Cache keys: settings by value, and a digest of the code that a step runs.

`datasets` pickles an importable function by name, so it does not see an edit or an upgrade of a library and returns
the old rows. Here a key holds the code itself. Modules of this package count by their syntax trees without docstrings:
the step's module, every module that its settings name, and all modules that they import anywhere, also inside
functions. Functions of the user count by their bytecode, which is what runs whatever the file says by now, by their
defaults and closures, and by the value of each global that they use; classes by their source and by what their methods
use; modules of the user by their files. What has no value to go by is refused.

A module counts as it was when a key first held it. Where its file changes later in the same process, the next key is
refused, since the code that runs is not the code that would be digested; a reload is accepted.

Not covered: packages of others (what a tool's output owes to them is said in `Tool.version`); modules that are imported
by a computed name; values of a class's or a module's attributes that change after it was made; an edit between the
import of a module and the first key that holds it.
"""

from __future__ import annotations

import ast
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import hashlib
import json
import logging
import operator
import re
import sys
import threading
import types
import uuid
from collections.abc import Mapping
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
from datasets import Features

from toolrlef_data.records import Choices, InputError
from toolrlef_data.tables.code_digest import (
    DEFINITIONS,
    body_names,
    code_imports,
    digest,
    globals_in,
    instructions,
    is_library,
    is_ours,
    module_digests,
    module_of,
    modules_reached,
    names_in,
    source_file,
    syntax_tree,
)

__all__ = ["NOT_IN_KEY", "UnhashableSetting", "canonical", "code_digest", "digest"]

# Settings that cannot change an output row, left out of every key by name.
NOT_IN_KEY = frozenset(
    {"device", "batch_tokens", "concurrency", "timeout", "retries", "progress", "num_proc", "max_failed", "store"}
    | {"keys", "limits", "batch"}
)
# Their repr says all of their value.
BY_REPR = (
    *(complex, range, slice, type(...), type(NotImplemented), np.ufunc, uuid.UUID),
    *(decimal.Decimal, fractions.Fraction, datetime.date, datetime.time, datetime.timedelta, datetime.timezone),
    *(operator.itemgetter, operator.attrgetter, operator.methodcaller, types.GenericAlias, types.UnionType),
)
BUILT_IN = (BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, types.MethodWrapperType)
# What a function may use though it has no value: none of them can change what the function returns.
HARMLESS = (logging.Logger, type(threading.Lock()), type(threading.RLock()))
# Names that a class body sets by itself, from its docstring or its place in the file.
FROM_PLACE = frozenset({"__doc__", "__firstlineno__", "__static_attributes__"})
SHAPE_FLAGS = 0x2AC  # *args, **kwargs, generator, coroutine, asynchronous generator


class UnhashableSetting(InputError, TypeError):
    """A value that cannot be part of a cache key; names it, and what to pass instead."""


def canonical(value: Any) -> Any:
    """Settings as JSON values: equal settings give equal JSON, whatever process made them.

    Raises:
        UnhashableSetting: for an object that has no value to go by (a lock, a client, an open file).
        InputError: the source of a class or module in use has changed since it was imported.

    >>> canonical((1, {"b": None, "a": 2.5}))
    [1, {'a': 2.5, 'b': None}]
    """
    return _value(value, None)


def code_digest(*roots: Any) -> str:
    """Digest of all code of this package that the roots reach.

    Args:
        roots: functions, classes, or settings that hold some.

    Raises:
        InputError: the source of a module has changed since it was imported.
    """
    return digest(module_digests(name for root in roots for name in _modules_named(root)))


def _value(value: Any, seen: dict[int, int] | None) -> Any:
    """`seen` numbers the functions and classes of the user on the way here; None outside of any function."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": hashlib.sha256(value).hexdigest()}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Features):
        return value.to_dict()
    if isinstance(value, Choices):  # not by value: that would import every choice
        return {
            "choices": value.places,
            "code": module_digests(place.partition(":")[0] for place in value.places.values()),
        }
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: _value(value[key], seen) for key in sorted(value)}
        return {"items": sorted(([_value(k, seen), _value(v, seen)] for k, v in value.items()), key=_as_text)}
    if isinstance(value, (list, tuple)):
        return [_value(v, seen) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_value(v, seen) for v in value), key=_as_text)
    if isinstance(value, functools.partial):
        return {"partial": [_value(part, seen) for part in (value.func, value.args, value.keywords)]}
    if isinstance(value, re.Pattern):
        return {"pattern": _value(value.pattern, seen), "flags": value.flags}
    if isinstance(value, (np.ndarray, np.generic)):
        return {"array": str(value.dtype), "values": _value(value.tolist(), seen)}
    if isinstance(value, enum.Enum):
        return {"": _value(type(value), seen), "name": value.name}
    if isinstance(value, BY_REPR) or type(value).__module__ == "typing":
        return {"repr": repr(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _dataclass(value, seen)
    return _code_value(value, seen)


def _dataclass(value: Any, seen: dict[int, int] | None) -> Any:
    ours = any(is_ours(base.__module__) for base in type(value).__mro__)
    left_out = NOT_IN_KEY if ours else frozenset()
    values = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.name not in left_out}
    if hasattr(value, "in_key"):  # the class has its own word on what stands for a value
        values |= value.in_key()
    known = is_ours(type(value).__module__) and seen is None
    kind = _kind(value) if known else _value(type(value), seen)
    return {"": kind, **{n: _value(v, seen) for n, v in values.items()}}


def _kind(settings: Any) -> str:
    """The kind that a settings class of ours gives itself, for those who read records; else the name of the class."""
    kind = getattr(type(settings), "kind", None)
    is_field = any(field.name == "kind" for field in dataclasses.fields(settings))  # such as an `EngineSpec`'s
    return kind if isinstance(kind, str) and not is_field else _name(type(settings))


def _code_value(value: Any, seen: dict[int, int] | None) -> Any:
    """Functions, classes, modules, methods; anything else is refused."""
    module = getattr(value, "__module__", None)
    if isinstance(value, ModuleType):
        return {"module": modules_reached(value.__name__, set())}
    if isinstance(value, (type, FunctionType)) and is_ours(module):  # a step's or a setting's: see `code_digest`
        return {"name": _name(value)} | ({} if seen is None else {"code": code_digest(value)})
    if isinstance(value, (type, FunctionType)) and not is_library(module):
        seen = {} if seen is None else seen
        if id(value) in seen:
            return {"seen": seen[id(value)]}
        seen[id(value)] = len(seen)
        source = _function(value, seen) if isinstance(value, FunctionType) else _class(value, seen)
        return {"name": value.__qualname__, "source": digest(source)}
    if isinstance(value, MethodType):
        return {"method": _value(value.__func__, seen), "self": _value(value.__self__, seen)}
    if isinstance(value, BUILT_IN):
        owner = getattr(value, "__self__", None)
        bound = owner is not None and not isinstance(owner, ModuleType)
        return {"name": _name(value)} | ({"self": _value(owner, seen)} if bound else {})
    if callable(value) and hasattr(value, "__wrapped__") and is_library(type(value).__module__):  # functools.cache
        return {"wrapped": _value(value.__wrapped__, seen)}
    if callable(value) and hasattr(value, "__qualname__") and is_library(module):
        return {"name": _name(value)}
    if seen is not None and (isinstance(value, HARMLESS) or type(value) is object):
        return {"type": _name(type(value))}
    raise UnhashableSetting(
        f"{_name(type(value)).replace(':', '.')} cannot be part of a setting: a cache key needs plain values, frozen "
        "dataclasses or functions. Pass a module-level function that opens what it needs inside, or functools.partial "
        "with plain values; a secret is none of them, since values are written down: it belongs into an environment "
        "variable that the function reads inside"
    )


def _function(function: FunctionType, seen: dict[int, int]) -> Any:
    """A function of the user: its bytecode, defaults, closure, the globals that it names, the modules it imports."""
    code, space = function.__code__, function.__globals__
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    used = {f"the closure's {name}": _cell(cell) for name, cell in cells}
    used |= {"the defaults": function.__defaults__, "the keyword defaults": function.__kwdefaults__}
    used |= {f"the global {name}": space[name] for name in sorted(globals_in(code)) if name in space}
    imports = module_digests(code_imports(code, space.get("__package__") or ""))
    return [_code(code), _used(used, function.__qualname__, seen, names_in(code)), imports]


def _class(cls: type, seen: dict[int, int]) -> Any:
    """A class of the user: its source, bases, methods, and the globals that its body names; no attribute's value."""
    path = source_file(cls.__module__)
    nodes: list[ast.AST] = []
    if path is not None:
        module_of(cls.__module__, path)  # refuses a file that has changed
        nodes = [syntax_tree(path)]
    for part in cls.__qualname__.replace(".<locals>", "").split("."):
        nodes = [n for top in nodes for n in ast.walk(top) if isinstance(n, DEFINITIONS) and n.name == part]
    own = {name: value for name, value in vars(cls).items() if name not in FROM_PLACE | {"__module__"}}
    space = vars(sys.modules.get(cls.__module__, types))
    used = {f"the global {n}": space[n] for n in sorted({n for t in nodes for n in body_names(t)}) if n in space}
    used |= {f"the base {base.__qualname__}": base for base in cls.__bases__ if base is not object}
    shallow = []
    for name, value in own.items():
        for part_name, part in (("", value), *((a, getattr(value, a, None)) for a in ("__func__", "fget", "fset"))):
            if isinstance(part, FunctionType) and part.__code__.co_filename == "<string>" and name.startswith("__"):
                shallow.append([name, _code(part.__code__)])  # written by dataclasses or namedtuple
            elif isinstance(part, FunctionType) or (
                hasattr(part, "__wrapped__") and not isinstance(part, (classmethod, staticmethod))
            ):
                used[f"the method {name} {part_name}".rstrip()] = part
    # Made at a prompt or by a call: there is no source, so the plain values of attributes stand for it.
    plain = {} if nodes else {n: _value(v, seen) for n, v in own.items() if isinstance(v, (str, int, float, tuple))}
    return [[ast.dump(node) for node in nodes], plain, shallow, _used(used, cls.__qualname__, seen, set())]


def _used(used: Mapping[str, Any], by: str, seen: dict[int, int], names: set[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for what, value in used.items():
        try:
            module = isinstance(value, ModuleType)
            found[what] = {"module": modules_reached(value.__name__, names)} if module else _value(value, seen)
        except UnhashableSetting as error:
            raise UnhashableSetting(f"{what} in {by}: {error}") from None
    return found


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _code(code: CodeType) -> Any:
    """Instructions with names and constants in place: no line, no docstring, no address."""
    steps = instructions(code)
    stored = [s.argval if s.opname == "STORE_NAME" else None for s in steps]
    by_place = [FROM_PLACE.intersection(pair) for pair in zip(stored, [*stored[1:], None], strict=True)]
    arguments = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
    shape = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & SHAPE_FLAGS]
    kept = [[s.opname, _constant(s.argval)] for s, place in zip(steps, by_place, strict=True) if not place]
    return [shape, code.co_varnames[:arguments], kept]


def _constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return _code(value)
    if isinstance(value, frozenset):  # its order differs between processes
        return {"set": sorted(map(_constant, value), key=_as_text)}
    return [_constant(v) for v in value] if isinstance(value, tuple) else repr(value)


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', None) or 'builtins'}:{value.__qualname__}"


def _as_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _modules_named(value: Any) -> set[str]:
    """Names of our modules in which the functions and classes found in a setting live."""
    if isinstance(value, Mapping):
        return set().union(*(_modules_named(v) for v in value.values()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return set().union(*(_modules_named(v) for v in value))
    if isinstance(value, functools.partial):
        return _modules_named([value.func, value.args, value.keywords])
    if isinstance(value, MethodType):
        return _modules_named([value.__func__, value.__self__])
    if isinstance(value, (type, FunctionType)):
        return {value.__module__} if is_ours(value.__module__) else set()
    if dataclasses.is_dataclass(value):
        return _modules_named([type(value), *(getattr(value, f.name) for f in dataclasses.fields(value))])
    return _modules_named(value.__wrapped__) if hasattr(value, "__wrapped__") else set()
