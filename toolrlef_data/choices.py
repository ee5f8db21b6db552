"""Registries: the objects that can be chosen by name, such as tasks, tools and engines."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Mapping
from typing import Generic, TypeVar

from toolrlef_data.records import UnknownName

__all__ = ["Choices", "check_choice"]

T = TypeVar("T")


class Choices(Mapping[str, T], Generic[T]):
    """A registry of objects by name; an object is imported on access, and an unknown name raises `UnknownName`.

    Args:
        kind: what an object of the registry is, for the error message, such as "task".
        import_paths: name -> "module:attribute".

    A registry that accepts objects of the user, such as `TASKS`, holds them in `added`.

    >>> Choices("digit", {"pi": "math:pi"})["pi"]
    3.141592653589793
    """

    def __init__(self, kind: str, import_paths: Mapping[str, str]) -> None:
        self.kind = kind
        self.import_paths = dict(import_paths)
        self.added: dict[str, T] = {}

    @property
    def shipped(self) -> Choices[T]:
        """The registry of the package's own objects, without those in `added`."""
        return Choices(self.kind, self.import_paths)

    def __getitem__(self, name: str) -> T:
        if isinstance(name, str) and name in self.added:
            return self.added[name]
        if name not in self:
            raise UnknownName(self.kind, name, list(self))
        module, _, attribute = self.import_paths[name].partition(":")
        value: T = getattr(importlib.import_module(module), attribute)
        return value

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self.import_paths or name in self.added)

    def __iter__(self) -> Iterator[str]:
        yield from self.import_paths
        yield from self.added

    def __len__(self) -> int:
        return len(self.import_paths) + len(self.added)


def check_choice(kind: str, name: object, choices: Collection[str]) -> str:
    """Return a name unchanged if it is one of the choices; raise `UnknownName` for any other value.

    Args:
        kind: what the choices are, for the error message, such as "layout".
        name: the value.
        choices: the names.

    >>> check_choice("layout", ["hub"], ("hub", "trice"))
    Traceback (most recent call last):
    toolrlef_data.records.UnknownName: unknown layout ['hub']; choose from: hub, trice
    """
    if not isinstance(name, str) or name not in choices:  # an unhashable value would be a TypeError
        raise UnknownName(kind, name, choices)
    return name
