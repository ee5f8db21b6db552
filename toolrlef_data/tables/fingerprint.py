"""Cache keys: settings by value, and a digest of the code that a row function uses.

`datasets` identifies an importable function by its name, so it misses an edit and returns old rows. Here a cache key
also identifies the code:

| code | identified by |
|---|---|
| modules of this package | syntax trees without docstrings: the modules of function and settings, and their imports |
| user functions | bytecode, defaults, closures, and the value of each global that they use |
| user classes | source, bases and methods, and the code that the methods use |
| user modules | the files (see `code_digest`) |

A value that cannot be identified is refused with `UnhashableSetting`.

Not covered: installed packages (see `Tool.version`); modules imported by a computed name; attributes of a class or
module that change after its definition; the order of the items of a mapping. An edit between the import of a module
and its first cache key is not noticed.
"""

from __future__ import annotations

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

from toolrlef_data.choices import Choices
from toolrlef_data.records import InputError
from toolrlef_data.tables.code_digest import (
    IMPLICIT_NAMES,
    class_source,
    code_imports,
    code_value,
    digest,
    globals_in,
    is_in_package,
    is_library,
    module_digests,
    names_in,
    submodule_digests,
)

__all__ = ["NOT_IN_KEY", "UnhashableSetting", "canonical", "code_digest", "digest", "key_fields"]

# Settings of this package that do not change an output row; excluded from every key.
NOT_IN_KEY = frozenset(
    {"device", "batch_tokens", "concurrency", "timeout", "retries", "progress", "num_proc", "max_failed", "store"}
    | {"keys", "headers", "limits", "batch"}
)
# Types whose repr is the complete value.
REPR_TYPES = (
    *(complex, range, slice, type(...), type(NotImplemented), np.ufunc, uuid.UUID),
    *(decimal.Decimal, fractions.Fraction, datetime.date, datetime.time, datetime.timedelta, datetime.timezone),
    *(operator.itemgetter, operator.attrgetter, operator.methodcaller, types.GenericAlias, types.UnionType),
)
BUILT_IN_TYPES = (BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, types.MethodWrapperType)
# Objects of these types have no value and change no result: allowed as globals of user functions, not as settings.
VALUELESS_TYPES = (logging.Logger, type(threading.Lock()), type(threading.RLock()))
# id of each user function and class visited so far -> its number; None outside of user code.
Memo = dict[int, int] | None


class UnhashableSetting(InputError, TypeError):
    """A value that cannot be part of a cache key; the message names its type and the alternatives."""


def canonical(value: Any) -> Any:
    """Return settings as JSON values; equal settings have equal JSON in every process.

    Raises:
        UnhashableSetting: the settings contain an object without a value, such as a lock, a client or an open file.
        InputError: the source of a class or module has changed since its import.

    >>> canonical((1, {"b": None, "a": 2.5}))
    [1, {'a': 2.5, 'b': None}]
    """
    return _value(value, None)


def code_digest(*roots: Any) -> str:
    """Return the digest of all code of this package that the roots use.

    Args:
        roots: functions, classes, or settings that contain functions or classes.

    Raises:
        InputError: the source of a module has changed since its import.
    """
    return digest(module_digests(name for root in roots for name in _defining_modules(root)))


def _value(value: Any, memo: Memo) -> Any:
    """Return any object as JSON values."""
    for kinds, as_json in AS_JSON:
        if isinstance(value, kinds):
            plain = as_json(value, memo)
            return {"": _definition(type(value), memo), "value": plain} if _is_own_value(value) else plain
    return _other(value, memo)


def _is_own_value(value: Any) -> bool:
    """Return whether a text, number or collection has a class of the user, such as a `NamedTuple` with methods."""
    module = type(value).__module__
    is_own = module != "builtins" and not (is_in_package(module) or is_library(module))
    return is_own and isinstance(value, (str, int, float, bytes, bytearray, Mapping, list, tuple, set, frozenset))


def _values(values: Iterable[Any], memo: Memo) -> list[Any]:
    return [_value(value, memo) for value in values]


def _choices(value: Choices[Any], memo: Memo) -> Any:
    """Return a registry as JSON values, by its import paths: reading its objects would import them all."""
    code = module_digests(path.partition(":")[0] for path in value.import_paths.values())
    added = {"added": _value(value.added, memo)} if value.added else {}
    return {"choices": value.import_paths, "code": code, **added}


def _mapping(value: Mapping[Any, Any], memo: Memo) -> Any:
    if all(isinstance(key, str) for key in value):
        return {key: _value(value[key], memo) for key in sorted(value)}
    return {"items": sorted((_values(item, memo) for item in value.items()), key=_as_text)}


def _dataclass(value: Any, memo: Memo) -> Any:
    is_setting = is_in_package(type(value).__module__) and memo is None
    kind = _kind(value) if is_setting else _value(type(value), memo)
    return {"": kind, **{name: _value(field, memo) for name, field in key_fields(value).items()}}


def key_fields(settings: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that are part of a cache key; classes of this package omit `NOT_IN_KEY`."""
    is_package_class = any(is_in_package(base.__module__) for base in type(settings).__mro__)
    excluded = NOT_IN_KEY if is_package_class else frozenset()
    values = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings) if f.name not in excluded}
    if hasattr(settings, "in_key"):  # a class may replace fields in the key
        values |= settings.in_key()
    return values


def _kind(settings: Any) -> str:
    """Return the class attribute `kind` of a settings class of this package; otherwise the name of the class."""
    kind = getattr(type(settings), "kind", None)
    is_field = any(field.name == "kind" for field in dataclasses.fields(settings))  # as in `EngineSpec`
    return kind if isinstance(kind, str) and not is_field else _name(type(settings))


def _definition(value: Any, memo: Memo) -> Any:
    """Return the JSON value of a function or class."""
    if is_library(value.__module__):
        return _other(value, memo)
    if is_in_package(value.__module__):  # `code_digest` covers the code of row functions and settings
        return {"name": _name(value)} | ({} if memo is None else {"code": code_digest(value)})
    memo = {} if memo is None else memo
    if id(value) in memo:
        return {"seen": memo[id(value)]}
    memo[id(value)] = len(memo)
    source = _function(value, memo) if isinstance(value, FunctionType) else _class(value, memo)
    return {"name": value.__qualname__, "source": digest(source)}


def _built_in(value: Any, memo: Memo) -> Any:
    owner = getattr(value, "__self__", None)
    is_free = owner is None or isinstance(owner, ModuleType)
    return {"name": _name(value)} | ({} if is_free else {"self": _value(owner, memo)})


def _other(value: Any, memo: Memo) -> Any:
    """Return the JSON value of a settings object, a library callable or a valueless object; refuse all others."""
    if type(value).__module__ == "typing":
        return {"repr": repr(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _dataclass(value, memo)
    if callable(value) and hasattr(value, "__wrapped__") and is_library(type(value).__module__):  # functools.cache
        return {"wrapped": _value(value.__wrapped__, memo)}
    if callable(value) and hasattr(value, "__qualname__") and is_library(getattr(value, "__module__", None)):
        return {"name": _name(value)}
    if memo is not None and (isinstance(value, VALUELESS_TYPES) or type(value) is object):
        return {"type": _name(type(value))}
    raise UnhashableSetting(
        f"{_name(type(value)).replace(':', '.')} cannot be part of a setting: expected plain values, frozen "
        "dataclasses or functions. Pass a module-level function that creates the object, or functools.partial with "
        "plain values. Settings are written to disk, so read secrets from an environment variable inside the function"
    )


# Type -> function that returns its JSON value. The first match counts: a member of an IntEnum is a number and a class.
AS_JSON: tuple[tuple[Any, Callable[[Any, Memo], Any]], ...] = (
    ((type(None), bool, int, float, str), lambda value, _: value),
    ((bytes, bytearray), lambda value, _: {"bytes": hashlib.sha256(value).hexdigest()}),
    (PurePath, lambda value, _: str(value)),
    (Features, lambda value, _: value.to_dict()),
    (Choices, _choices),
    (Mapping, _mapping),
    ((list, tuple), _values),
    ((set, frozenset), lambda value, memo: sorted(_values(value, memo), key=_as_text)),
    (functools.partial, lambda value, memo: {"partial": _values((value.func, value.args, value.keywords), memo)}),
    (re.Pattern, lambda value, memo: {"pattern": _value(value.pattern, memo), "flags": value.flags}),
    ((np.ndarray, np.generic), lambda value, memo: {"array": str(value.dtype), "values": _value(value.tolist(), memo)}),
    (enum.Enum, lambda value, memo: {"": _value(type(value), memo), "name": value.name}),
    (REPR_TYPES, lambda value, _: {"repr": repr(value)}),
    (ModuleType, lambda value, _: {"module": submodule_digests(value.__name__, set())}),
    ((type, FunctionType), _definition),
    (MethodType, lambda value, memo: {"method": _value(value.__func__, memo), "self": _value(value.__self__, memo)}),
    (BUILT_IN_TYPES, _built_in),
)


def _function(function: FunctionType, memo: dict[int, int]) -> Any:
    """Return the JSON value of a user function: bytecode, defaults, closure, globals and imported modules."""
    code, namespace = function.__code__, function.__globals__
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    # These labels are part of stored keys.
    references = {f"the closure's {name}": _cell_contents(cell) for name, cell in cells}
    references |= {"the defaults": function.__defaults__, "the keyword defaults": function.__kwdefaults__}
    references |= {f"the global {name}": namespace[name] for name in sorted(globals_in(code)) if name in namespace}
    imports = module_digests(code_imports(code, namespace.get("__package__") or ""))
    return [code_value(code), _reference_values(references, function.__qualname__, memo, names_in(code)), imports]


def _class(cls: type, memo: dict[int, int]) -> Any:
    """Return the JSON value of a user class: source, bases, methods, and the globals that its body uses."""
    trees, names = class_source(cls)
    attributes = {name: value for name, value in vars(cls).items() if name not in IMPLICIT_NAMES | {"__module__"}}
    namespace = vars(sys.modules.get(cls.__module__, types))
    references = {f"the global {name}": namespace[name] for name in sorted(names) if name in namespace}
    references |= {f"the base {base.__qualname__}": base for base in cls.__bases__ if base is not object}
    generated = []  # methods written by dataclasses or namedtuple
    for name, value in attributes.items():
        wrapped = ((accessor, getattr(value, accessor, None)) for accessor in ("__func__", "fget", "fset"))
        for accessor, method in (("", value), *wrapped):
            if isinstance(method, FunctionType) and method.__code__.co_filename == "<string>" and name.startswith("__"):
                generated.append([name, code_value(method.__code__)])
            elif isinstance(method, FunctionType) or (
                hasattr(method, "__wrapped__") and not isinstance(method, (classmethod, staticmethod))
            ):
                references[f"the method {name} {accessor}".rstrip()] = method
    # A class of an interactive session has no source; the plain values of its attributes replace it.
    constants = {name: value for name, value in attributes.items() if isinstance(value, (str, int, float, tuple))}
    constants = {} if trees else {name: _value(value, memo) for name, value in constants.items()}
    values = _reference_values(references, cls.__qualname__, memo, set())
    return [trees, constants, generated, values]


def _reference_values(
    references: Mapping[str, Any], owner: str, memo: dict[int, int], names: set[str]
) -> dict[str, Any]:
    """Return the JSON values of the objects that a function or class uses, by label.

    Args:
        references: label -> object.
        owner: name of the function or class, for error messages.
        memo: the user functions and classes visited so far.
        names: the attributes that are read from modules; only submodules of these names are included.
    """
    values: dict[str, Any] = {}
    for label, value in references.items():
        try:
            is_module = isinstance(value, ModuleType)
            values[label] = {"module": submodule_digests(value.__name__, names)} if is_module else _value(value, memo)
        except UnhashableSetting as error:
            raise UnhashableSetting(f"{label} in {owner}: {error}") from None
    return values


def _cell_contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the variable is not assigned yet
        return None


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', None) or 'builtins'}:{value.__qualname__}"


def _as_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _defining_modules(value: Any) -> set[str]:
    """Return the names of the modules of this package that define the functions and classes in a setting."""
    components: Iterable[Any] = ()
    if isinstance(value, (type, FunctionType)):
        return {value.__module__} if is_in_package(value.__module__) else set()
    if isinstance(value, Mapping):
        components = value.values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        components = value
    elif isinstance(value, functools.partial):
        components = value.func, value.args, value.keywords
    elif isinstance(value, MethodType):
        components = value.__func__, value.__self__
    elif dataclasses.is_dataclass(value):
        components = type(value), *(getattr(value, f.name) for f in dataclasses.fields(value))
    elif hasattr(value, "__wrapped__"):
        components = (value.__wrapped__,)
    return set[str]().union(*map(_defining_modules, components))
