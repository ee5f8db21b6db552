"""Settings as JSON values: what each kind of value becomes in a cache key, and which code is in it."""

from __future__ import annotations

import datetime
import enum
import fractions
import functools
import hashlib
import json
import operator
import re
import textwrap
import types
import typing
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from datasets import Features, Value

from toolrlef_data import checks, records
from toolrlef_data.choices import Choices
from toolrlef_data.columns import QUESTIONS
from toolrlef_data.records import Drop, Reply, clean_text
from toolrlef_data.tables import code_digest as code
from toolrlef_data.tables.fingerprint import NOT_IN_KEY, UnhashableSetting, canonical, code_digest, digest, key_fields

SHA_OF_A = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"


class Fruit(enum.Enum):
    FIG = 1
    PEAR = 2


DIGITS: Choices[Any] = Choices("digit", {"pi": "math:pi"})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (2.5, 2.5),
        ("é", "é"),
        (b"a", {"bytes": SHA_OF_A}),
        (bytearray(b"a"), {"bytes": SHA_OF_A}),
        (PurePosixPath("a/b"), "a/b"),
        (Features(id=Value("string")), Features(id=Value("string")).to_dict()),
        ({"b": (1, [None]), "a": {"c": b"a"}}, {"a": {"c": {"bytes": SHA_OF_A}}, "b": [1, [None]]}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        ({1: "a", "b": 2, None: 3}, {"items": [["b", 2], [1, "a"], [None, 3]]}),
        ({2, 10, 1}, [1, 10, 2]),
        (frozenset({"b", "a"}), ["a", "b"]),
        (functools.partial(print, "a", b=2), {"partial": [{"name": "builtins:print"}, ["a"], {"b": 2}]}),
        (re.compile("a", re.I), {"pattern": "a", "flags": 34}),
        (re.compile(b"a"), {"pattern": {"bytes": SHA_OF_A}, "flags": 0}),
        (np.array([[1, 2]], "int32"), {"array": "int32", "values": [[1, 2]]}),
        (np.int64(3), {"array": "int64", "values": 3}),
        (Fruit.FIG, {"": canonical(Fruit), "name": "FIG"}),
        (re, {"module": {}}),
        (Decimal, {"name": "decimal:Decimal"}),
        (json.dumps, {"name": "json:dumps"}),
        (str.upper, {"name": "builtins:str.upper"}),
        ("a".join, {"name": "builtins:str.join", "self": "a"}),
        (Drop("a"), {"": "toolrlef_data.records:Drop", "reason": "a", "detail": ""}),
        (clean_text, {"name": "toolrlef_data.records:clean_text"}),
        (Drop, {"name": "toolrlef_data.records:Drop"}),
        (DIGITS, {"choices": {"pi": "math:pi"}, "code": {}}),
    ],
)
def test_a_value_in_a_key(value: Any, expected: Any) -> None:
    found = canonical(value)
    assert found == expected
    assert json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True), "also the types of numbers"


@pytest.mark.parametrize(
    "value",
    [
        *(1 + 2j, range(1, 3), slice(1, 2), ..., NotImplemented, np.add, uuid.UUID(int=1)),
        *(Decimal("1.10"), fractions.Fraction(1, 3), datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2)),
        *(datetime.time(1, 2), datetime.timedelta(3), datetime.timezone.utc),
        *(operator.itemgetter("a", 1), operator.attrgetter("a.b"), operator.methodcaller("a", 1)),
        *(list[int], int | str, typing.Optional[int]),  # noqa: UP045  # a type of `typing`
    ],
    ids=repr,
)
def test_a_value_that_its_repr_identifies(value: Any) -> None:
    assert canonical(value) == {"repr": repr(value)}


def test_the_objects_that_a_user_added_to_a_registry_are_in_its_key() -> None:
    added: Choices[Any] = Choices("digit", {"pi": "math:pi"})
    added.added["e"] = 2.7
    assert canonical(added) == {"choices": {"pi": "math:pi"}, "code": {}, "added": {"e": 2.7}}
    registry: Choices[Any] = Choices("check", {"path": "toolrlef_data.checks:split_path"})
    assert {checks.__name__, records.__name__} <= canonical(registry)["code"].keys()


def test_the_whole_message_for_a_value_without_a_key() -> None:
    with pytest.raises(UnhashableSetting) as raised:
        canonical({"a": [object()]})
    assert str(raised.value) == (
        "builtins.object cannot be part of a setting: expected plain values, frozen dataclasses or functions. Pass a "
        "module-level function that creates the object, or functools.partial with plain values. Settings are written "
        "to disk, so read secrets from an environment variable inside the function"
    )
    assert isinstance(raised.value, TypeError)


def test_digests_are_those_of_sorted_json() -> None:
    """They are the names of files in the caches of users."""
    expected = hashlib.sha256(b'[{"a":[2,null],"b":"\\u00e9"},1.5]').hexdigest()[:32]
    assert digest({"b": "é", "a": (2, None)}, 1.5) == expected
    assert digest() == hashlib.sha256(b"[]").hexdigest()[:32]


def test_which_settings_are_in_no_key() -> None:
    names = (
        "device batch_tokens concurrency timeout retries progress num_proc max_failed store keys headers limits batch"
    )
    assert frozenset(names.split()) == NOT_IN_KEY


@dataclass(frozen=True)
class Mine:
    timeout: float = 1.0
    size: int = 2


@dataclass(frozen=True)
class Part(Drop):
    timeout: float = 1.0
    store: str = "a"
    size: int = 2


@dataclass(frozen=True)
class Replaced(Mine):
    def in_key(self) -> Mapping[str, Any]:
        return {"size": 0, "more": "b"}


def test_the_fields_in_the_key_of_a_dataclass() -> None:
    assert key_fields(Mine()) == {"timeout": 1.0, "size": 2}, "a class of the user has no excluded fields"
    assert key_fields(Part("a")) == {"reason": "a", "detail": "", "size": 2}, "a subclass of a class of this package"
    assert key_fields(Replaced()) == {"timeout": 1.0, "size": 0, "more": "b"}
    assert canonical(Mine()) == {"": canonical(Mine), "timeout": 1.0, "size": 2}
    assert canonical(Reply("a"))[""] == "toolrlef_data.records:Reply"


@dataclass(frozen=True)
class Holding:
    function: Any
    other: int = 0

    def method(self) -> None:
        """A method whose object holds the function."""


@functools.cache
def cached(text: str) -> str:
    return text


def test_code_is_found_in_every_part_of_the_settings() -> None:
    expected = code_digest(clean_text)
    assert expected != code_digest(code.digest) != code_digest()
    holders: list[Any] = [
        *([clean_text], (1, clean_text), {clean_text}, frozenset({clean_text}), {"a": {"b": [clean_text]}}),
        *(functools.partial(clean_text), functools.partial(print, clean_text), functools.partial(print, a=clean_text)),
        *(Holding(clean_text), Holding(clean_text).method, functools.cache(clean_text), Reply, Reply("a")),
    ]
    for holder in holders:
        assert code_digest(holder) == code_digest(None, holder) == expected, holder
    empty: Any
    for empty in (None, 5, "toolrlef_data.records", len, Mine, Mine(), cached, [], {"clean_text": 1}):
        assert code_digest(empty) == code_digest(), empty


@pytest.mark.parametrize(
    ("base", "level", "names", "package", "modules"),
    [
        ("a.b", 0, ["c", "d"], "", {"a.b", "a.b.c", "a.b.d"}),
        ("a", 0, [], "p", {"a"}),
        ("a", 1, ["c"], "p.q", {"p.q.a", "p.q.a.c"}),
        ("", 2, ["c"], "p.q", {"p", "p.c"}),
        ("a", 1, ["c"], "", set()),
        ("toolrlef_data", 0, ["Drop", "tools"], "", {"toolrlef_data.records", "toolrlef_data.tools"}),
        ("toolrlef_data.tools", 0, ["Drop"], "", {"toolrlef_data.tools", "toolrlef_data.tools.Drop"}),
    ],
)
def test_the_modules_of_an_import(base: str, level: int, names: list[str], package: str, modules: set[str]) -> None:
    assert code.imported_modules(base, level, names, package) == modules


def test_which_modules_belong_to_whom() -> None:
    for name in ("toolrlef_data", "toolrlef_data.records"):
        assert (code.is_in_package(name), code.is_library(name)) == (True, False)
    for name in ("json", "numpy", "datasets.features", "xml.dom", "lzma"):
        assert (code.is_in_package(name), code.is_library(name)) == (False, True)
    for module in (None, "", "toolrlef_data_of_mine", __name__, "__main__2"):
        assert (code.is_in_package(module), code.is_library(module)) == (False, False)
    own, package = code.source_file(__name__), code.source_file("toolrlef_data.records")
    assert (own, package) == (Path(__file__), Path(str(records.__file__)))
    named = code.submodule_digests("toolrlef_data", {"Drop", "nothing"})
    assert named == code.module_digests(["toolrlef_data.records"]), "not that of the package, which only forwards names"
    assert [code.source_file(name) for name in ("json", "numpy", "nowhere.at_all", "", "sys")] == [None] * 5


REGISTRIES = """
    from toolrlef_data.choices import Choices
    __all__ = ["a"]
    A = Choices("a", {"b": "c:d"})
    B: Choices[int] = Choices("a", {"b": "c:d"})
    class C:
        D = Choices("a", {"b": "c:d"})
"""
VALUES = """
    E = dict(b="c:d")
    F: list[str] = ["c:d"]
    G.Choices("c:d")
    Choices("c:d")
"""


def test_a_new_entry_of_a_registry_changes_no_digest(tmp_path: Path) -> None:
    def digest_of(text: str) -> str:
        path = tmp_path / f"{hashlib.sha256(text.encode()).hexdigest()}.py"
        path.write_text(textwrap.dedent(text))
        return code.read_module("not_imported", path)[0]

    assert digest_of(REGISTRIES) == digest_of(REGISTRIES.replace('"c:d"', '"c:d", "e": "f:g"').replace('["a"]', "[]"))
    lines = VALUES.strip().splitlines()
    for n, line in enumerate(lines):
        edited = [*lines[:n], line.replace("c:d", "c:e"), *lines[n + 1 :]]
        assert digest_of("\n".join(map(str.strip, lines))) != digest_of("\n".join(map(str.strip, edited))), line


def test_the_imports_of_a_module_are_those_of_others_than_the_library(tmp_path: Path) -> None:
    (tmp_path / "part.py").write_text(
        "import json, mine.first\nimport numpy as np\nfrom . import near\nfrom ..far import one, two\n"
        "from toolrlef_data import Drop\ndef f():\n    from mine import second\n"
    )
    _, imports = code.read_module("pack.inner.part", tmp_path / "part.py")
    assert imports == {
        *("mine.first", "mine", "mine.second", "pack.inner", "pack.inner.near", "toolrlef_data.records"),
        *("pack.far", "pack.far.one", "pack.far.two"),
    }
    (tmp_path / "__init__.py").write_text("from . import near\n")
    assert code.read_module("pack.inner", tmp_path / "__init__.py")[1] == {"pack.inner", "pack.inner.near"}


def test_the_schema_of_a_table_is_a_setting() -> None:
    assert canonical(QUESTIONS) == QUESTIONS.to_dict()
