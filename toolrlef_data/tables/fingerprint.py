"""Cache keys: settings by value, and a digest of the code that a step runs.

`datasets` pickles an importable function by name, so it does not see an edit or an upgrade of a library and returns
the old rows. Here a key holds the code itself. Modules of this package count by their syntax trees without docstrings:
the step's module, every module that its settings name, and all modules that they import anywhere, also inside
functions. Functions of the user count by their bytecode, which is what runs whatever the file says by now, by their
defaults and closures, and by the value of each global that they use; classes by their source and by what their methods
use; modules of the user by their files (see `code_digest`). What has no value to go by is refused.

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
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
from datasets import Features

from toolrlef_data.records import Choices, InputError
from toolrlef_data.tables.code_digest import (
    DEFINITIONS,
    FROM_PLACE,
    body_names,
    code_imports,
    code_value,
    digest,
    globals_in,
    is_library,
    is_ours,
    module_digests,
    module_of,
    modules_reached,
    names_in,
    source_file,
    syntax_tree,
)

__all__ = ["NOT_IN_KEY", "UnhashableSetting", "canonical", "code_digest", "digest", "key_fields"]

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
# A number for each function and class of the user on the way to a value; None outside of any.
Seen = dict[int, int] | None


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


def _value(value: Any, seen: Seen) -> Any:
    for kinds, as_json in AS_JSON:
        if isinstance(value, kinds):
            return as_json(value, seen)
    return _other(value, seen)


def _values(values: Iterable[Any], seen: Seen) -> list[Any]:
    return [_value(value, seen) for value in values]


def _choices(value: Choices[Any], seen: Seen) -> Any:  # not by value: that would import every choice
    code = module_digests(place.partition(":")[0] for place in value.import_paths.values())
    return {"choices": value.import_paths, "code": code}


def _mapping(value: Mapping[Any, Any], seen: Seen) -> Any:
    if all(isinstance(key, str) for key in value):
        return {key: _value(value[key], seen) for key in sorted(value)}
    return {"items": sorted((_values(item, seen) for item in value.items()), key=_as_text)}


def _dataclass(value: Any, seen: Seen) -> Any:
    known = is_ours(type(value).__module__) and seen is None
    kind = _kind(value) if known else _value(type(value), seen)
    return {"": kind, **{n: _value(v, seen) for n, v in key_fields(value).items()}}


def key_fields(settings: Any) -> dict[str, Any]:
    """What of a dataclass a key holds: its fields, of our own (or made from one) without `NOT_IN_KEY`."""
    ours = any(is_ours(base.__module__) for base in type(settings).__mro__)
    left_out = NOT_IN_KEY if ours else frozenset()
    values = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings) if f.name not in left_out}
    if hasattr(settings, "in_key"):  # the class has its own word on what stands for a value
        values |= settings.in_key()
    return values


def _kind(settings: Any) -> str:
    """The kind that a settings class of ours gives itself, for those who read records; else the name of the class."""
    kind = getattr(type(settings), "kind", None)
    is_field = any(field.name == "kind" for field in dataclasses.fields(settings))  # such as an `EngineSpec`'s
    return kind if isinstance(kind, str) and not is_field else _name(type(settings))


def _definition(value: Any, seen: Seen) -> Any:
    """A function or a class."""
    if is_library(value.__module__):
        return _other(value, seen)
    if is_ours(value.__module__):  # a step's or a setting's: see `code_digest`
        return {"name": _name(value)} | ({} if seen is None else {"code": code_digest(value)})
    seen = {} if seen is None else seen
    if id(value) in seen:
        return {"seen": seen[id(value)]}
    seen[id(value)] = len(seen)
    source = _function(value, seen) if isinstance(value, FunctionType) else _class(value, seen)
    return {"name": value.__qualname__, "source": digest(source)}


def _built_in(value: Any, seen: Seen) -> Any:
    owner = getattr(value, "__self__", None)
    bound = owner is not None and not isinstance(owner, ModuleType)
    return {"name": _name(value)} | ({"self": _value(owner, seen)} if bound else {})


def _other(value: Any, seen: Seen) -> Any:
    """Settings classes, callables of libraries, and what a function may use though it has no value; else refused."""
    if type(value).__module__ == "typing":
        return {"repr": repr(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _dataclass(value, seen)
    if callable(value) and hasattr(value, "__wrapped__") and is_library(type(value).__module__):  # functools.cache
        return {"wrapped": _value(value.__wrapped__, seen)}
    if callable(value) and hasattr(value, "__qualname__") and is_library(getattr(value, "__module__", None)):
        return {"name": _name(value)}
    if seen is not None and (isinstance(value, HARMLESS) or type(value) is object):
        return {"type": _name(type(value))}
    raise UnhashableSetting(
        f"{_name(type(value)).replace(':', '.')} cannot be part of a setting: a cache key needs plain values, frozen "
        "dataclasses or functions. Pass a module-level function that opens what it needs inside, or functools.partial "
        "with plain values; a secret is none of them, since values are written down: it belongs into an environment "
        "variable that the function reads inside"
    )


# How a value of each kind is written down. The first that fits counts: a member of an IntEnum is a number.
AS_JSON: tuple[tuple[Any, Callable[[Any, Seen], Any]], ...] = (
    ((type(None), bool, int, float, str), lambda value, _: value),
    ((bytes, bytearray), lambda value, _: {"bytes": hashlib.sha256(value).hexdigest()}),
    (PurePath, lambda value, _: str(value)),
    (Features, lambda value, _: value.to_dict()),
    (Choices, _choices),
    (Mapping, _mapping),
    ((list, tuple), _values),
    ((set, frozenset), lambda value, seen: sorted(_values(value, seen), key=_as_text)),
    (functools.partial, lambda value, seen: {"partial": _values((value.func, value.args, value.keywords), seen)}),
    (re.Pattern, lambda value, seen: {"pattern": _value(value.pattern, seen), "flags": value.flags}),
    ((np.ndarray, np.generic), lambda value, seen: {"array": str(value.dtype), "values": _value(value.tolist(), seen)}),
    (enum.Enum, lambda value, seen: {"": _value(type(value), seen), "name": value.name}),
    (BY_REPR, lambda value, _: {"repr": repr(value)}),
    (ModuleType, lambda value, _: {"module": modules_reached(value.__name__, set())}),
    ((type, FunctionType), _definition),
    (MethodType, lambda value, seen: {"method": _value(value.__func__, seen), "self": _value(value.__self__, seen)}),
    (BUILT_IN, _built_in),
)


def _function(function: FunctionType, seen: dict[int, int]) -> Any:
    """A function of the user: its bytecode, defaults, closure, the globals that it names, the modules it imports."""
    code, space = function.__code__, function.__globals__
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    used = {f"the closure's {name}": _cell(cell) for name, cell in cells}
    used |= {"the defaults": function.__defaults__, "the keyword defaults": function.__kwdefaults__}
    used |= {f"the global {name}": space[name] for name in sorted(globals_in(code)) if name in space}
    imports = module_digests(code_imports(code, space.get("__package__") or ""))
    return [code_value(code), _used(used, function.__qualname__, seen, names_in(code)), imports]


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
                shallow.append([name, code_value(part.__code__)])  # written by dataclasses or namedtuple
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


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', None) or 'builtins'}:{value.__qualname__}"


def _as_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _modules_named(value: Any) -> set[str]:
    """Names of our modules in which the functions and classes found in a setting live."""
    parts: Iterable[Any] = ()
    if isinstance(value, (type, FunctionType)):
        return {value.__module__} if is_ours(value.__module__) else set()
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = value
    elif isinstance(value, functools.partial):
        parts = value.func, value.args, value.keywords
    elif isinstance(value, MethodType):
        parts = value.__func__, value.__self__
    elif dataclasses.is_dataclass(value):
        parts = type(value), *(getattr(value, f.name) for f in dataclasses.fields(value))
    elif hasattr(value, "__wrapped__"):
        parts = (value.__wrapped__,)
    return set[str]().union(*map(_modules_named, parts))
