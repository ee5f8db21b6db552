"""Cache keys: what changes the key of a user function, what does not, and what is rejected."""

from __future__ import annotations

import functools
import importlib
import json
import logging
import random
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest

from toolrlef_data import TASKS, EngineSpec
from toolrlef_data.records import InputError
from toolrlef_data.tables.fingerprint import UnhashableSetting, canonical, code_digest

Write = Callable[..., Any]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write user modules, and return the key of `tool.f` after a fresh import."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    written: set[str] = set()

    def write(**sources: str) -> str:
        for name, source in sources.items():
            path = tmp_path / (name.replace("__", "/", 1) + ".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(source))
            written.add(name.partition("__")[0])
        unload()
        return json.dumps(canonical(importlib.import_module("tool").f))

    def unload() -> None:
        importlib.invalidate_caches()
        for name in [name for name in sys.modules if name.partition(".")[0] in written]:
            del sys.modules[name]

    yield write
    unload()


MOVED_OUT_OF_TRY = ("        h(x)\n    except E: x = 0\n", "    except E: x = 0\n    else:\n        h(x)\n")


@pytest.mark.parametrize(
    ("source", "old", "new"),
    [
        ("import re\nP = re.compile('a')\ndef f(x): return P.search(x)", "'a'", "'b'"),
        ("import re\nP = re.compile('a')\ndef f(x): return P.search(x)", "'a'", "'a', re.I"),
        ("import re\nsearch = re.compile('a').search\ndef f(x): return search(x)", "'a'", "'b'"),
        ("from decimal import Decimal\nRATES = {'eur': [Decimal('1.1')]}\ndef f(x): return RATES[x]", "1.1", "1.2"),
        ("from fractions import Fraction\nHALF = {1: Fraction(1, 2)}\ndef f(x): return HALF[1]", "1, 2", "1, 3"),
        ("import datetime\nDAY = (datetime.date(2020, 1, 1),)\ndef f(x): return DAY", "1, 1", "1, 2"),
        ("import enum\nclass E(enum.Enum):\n    A = 1\n    B = 2\nC = E.A\ndef f(x): return C", "C = E.A", "C = E.B"),
        ("import numpy\nW = numpy.array([1, 2])\ndef f(x): return W", "2]", "3]"),
        ("import numpy\nW = numpy.array([1, 2], 'int64')\ndef f(x): return W", "int64", "int32"),
        ("class C:\n    def g(self): return 1\ndef f(x): return C().g()", "return 1", "return 2"),
        ("def get(s): return 1\nclass C:\n    p = property(get)\ndef f(x): return C().p", "return 1", "return 2"),
        ("def put(s, v): s.v = 1\nclass C:\n    p = property(None, put)\ndef f(x): C().p = x", "= 1", "= 2"),
        ("class C:\n    LIMIT = 1\ndef f(x): return C.LIMIT", "= 1", "= 2"),
        ("class B:\n    LIMIT = 1\nclass C(B): pass\ndef f(x): return C.LIMIT", "= 1", "= 2"),
        ("def g(): return 1\nclass C:\n    def g(self): return g()\ndef f(x): return C().g()", "return 1", "return 2"),
        ("from typing import Protocol\nclass C(Protocol):\n    N = 1\ndef f(x): return C.N", "N = 1", "N = 2"),
        ("from typing import TypedDict\nclass C(TypedDict):\n    a: int\ndef f(x): return C", "a: int", "a: str"),
        ("N = 1\nclass C:\n    LIMIT = N\ndef f(x): return C.LIMIT", "N = 1", "N = 2"),
        ("from collections import namedtuple\nP = namedtuple('P', 'a b')\ndef f(x): return P(1, 2).a", "a b", "b a"),
        ("from typing import NamedTuple\nclass C(NamedTuple):\n    N: int\n    def g(s): return 1\nf = C(3)", "1", "2"),
        ("class C(dict):\n    def __missing__(s, key): return 1\nC3 = {'d': C(a=3)}\ndef f(x): return C3", "1", "2"),
        ("class C(str):\n    def g(s): return 1\nf = C('a')", "return 1", "return 2"),
        ("import enum\nclass C(enum.IntEnum):\n    A = 3\n    def g(s): return 1\nf = C.A", "return 1", "return 2"),
        ("import functools\n@functools.cache\ndef g(x): return 1\ndef f(x): return g(x)", "return 1", "return 2"),
        ("def g(x): return 1\nTABLE = {'f': [g]}\ndef f(x): return TABLE[x]", "return 1", "return 2"),
        ("def f(x, by=1): return x", "by=1", "by=2"),
        ("def f(x, *, by=1): return x", "by=1", "by=2"),
        ("def f(*x): return len(x)", "*x", "**x"),
        ("def f(x): return x", "(x)", "(x, /)"),
        ("def make(n):\n    def g(x): return n\n    return g\nf = make(1)", "make(1)", "make(2)"),
        ("def f(x):\n    def g(): return 1\n    return g()", "return 1", "return 2"),
        ("def f(x): return x in {'a', 'b'}", "'b'", "'c'"),
        ("def f(a, b): return a - b", "f(a, b)", "f(b, a)"),
        ("def f(x):\n    try:\n        g(x)\n        h(x)\n    except E: x = 0\n    return x", *MOVED_OUT_OF_TRY),
        ("from toolrlef_data.tools import TOOLS\nN = 'a'\ndef f(x): return TOOLS[N]", "'a'", "'b'"),
    ],
)  # fmt: skip
def test_an_edit_of_used_code_changes_the_key(module: Write, source: str, old: str, new: str) -> None:
    key = module(tool=source)
    assert module(tool=source) == key
    assert module(tool=source.replace(old, new)) != key


@pytest.mark.parametrize(
    "source",
    [
        "import helper\ndef f(x): return helper.f(x)",
        "import helper as h\ndef f(x): return h.f(x)",
        "from helper import f",
        "from helper import f as g\ndef f(x): return g(x)",
        "def f(x):\n    import helper\n    return helper.f(x)",
        "def f(x):\n    from helper import f as g\n    return g(x)",
        "def f(x):\n    def inner():\n        from helper import f\n        return f(x)\n    return inner()",
        "from middle import g\ndef f(x): return g(x)",
        "import middle\ndef f(x): return middle.g(x)",
        "import pack.inner\ndef f(x): return pack.inner.g(x)",
        "def f(x):\n    from pack import inner\n    return inner.g(x)",
        "class C:\n    def g(self):\n        import helper\n        return helper.f\ndef f(x): return C()",
    ],
)
def test_the_key_covers_the_files_of_user_modules(module: Write, source: str) -> None:
    others = {
        "middle": "def g(x):\n    import helper\n    return helper.f(x)\n",
        "pack____init__": "",
        "pack__inner": "from helper import f\nfrom . import other\ndef g(x): return f(x)\n",
        "pack__other": "",
    }
    key = module(tool=source, helper="def f(x): return 1\n", **others)
    assert module(tool=source, helper="# moved\n\ndef f(x):\n    'Says it.'\n    return 1\n", **others) == key
    assert module(tool=source, helper="__all__ = ['f']\ndef f(x): return 1\n", **others) == key
    assert module(tool=source, helper="def f(x): return 2\n", **others) != key


def test_lines_docstrings_and_unused_names_do_not_change_the_key(module: Write) -> None:
    body = "class C:\n    {doc}\n    seen = []\n    def g(self):\n        {doc}\n        if self: print(1)\n\n"
    body += (
        "def f(x):\n    {doc}\n    class Inner:\n        {doc}\n        n = 1\n    if x: print(C(), Inner, lambda: 3)\n"
    )
    plain = module(tool=body.format(doc=""))
    assert module(tool="UNUSED = 3\n\n\n# moved\n" + body.format(doc="'''Says it.'''\n")) == plain
    assert module(tool=body.format(doc="'Says it.'")) == plain


@pytest.mark.parametrize(
    ("source", "variant"),
    [
        ("f = lambda x: x + 1", "f =     lambda x: (x + 1)"),
        ("def f(x):\n    y = x\n    return y", "def f(x):\n    y = x  # why\n\n    return y"),
        ("D = {'a': 1, 'b': 2}\ndef f(x): return D", "D = {'b': 2, 'a': 1}\ndef f(x): return D"),
        ("A = B = tuple([1])\ndef f(x): return A, B", "A, B = tuple([1]), tuple([1])\ndef f(x): return A, B"),
        ("import functools\n@functools.cache\ndef g(x): return x\ndef f(x): return g(x)", "{source}\ng(1)"),
        ("class C:\n    seen = []\ndef f(x): C.seen.append(x)", "{source}\nf(1)"),
        ("def f(x): return x", "{source}\n{source}"),
        ("def f(x): return x", "LIMIT = 3\n{source}"),
    ],
)
@pytest.mark.parametrize("name", ["tool", "__main__"])
def test_edits_without_effect_do_not_change_the_key(name: str, source: str, variant: str) -> None:
    """For instance, a notebook cell is formatted or run again, or a run collects values in a global."""

    def key(text: str) -> Any:
        namespace: dict[str, Any] = {"__name__": name}
        exec(text, namespace)
        return canonical(namespace["f"])

    assert key(source) == key(variant.replace("{source}", source))


def test_different_lambdas_on_one_line_have_different_keys() -> None:
    pairs: list[tuple[Any, Any]] = [
        (lambda x: x + 1, lambda x: x + 2),
        (lambda x, y: x - y, lambda y, x: x - y),
        (lambda x: x.a, lambda x: x.b),
        (lambda x: lambda: 1, lambda x: lambda: 2),
        (lambda x: 1, lambda x: 1.0),
        (lambda *x: x, lambda x: x),
    ]
    for one, other in pairs:
        assert canonical(one) != canonical(other)


class Counter:
    values: list[int] = []  # noqa: RUF012
    is_down = False


def count(x: int) -> None:
    Counter.values.append(x)


def test_values_that_a_class_collects_do_not_change_the_key() -> None:
    class Local:
        count = 0

    def local(x: int) -> None:
        Local.count += 1

    key = canonical([count, local])
    Counter.values.append(1)
    Counter.is_down = True
    Local.count = 3
    assert canonical([count, local]) == key


LOG, LOCK, END = logging.getLogger("tests"), threading.Lock(), object()
GENERATOR = random.Random(3)


def test_loggers_and_locks_are_allowed_only_inside_functions() -> None:
    canonical(lambda: (LOG, LOCK, END))
    with pytest.raises(InputError, match="cannot be part of a setting"):
        canonical({"lock": LOCK})


def test_the_error_for_an_unhashable_value_names_the_path_to_it() -> None:
    def inner() -> float:
        return GENERATOR.random()

    message = (
        "closure's inner in .*outer: the global GENERATOR in .*inner: random.Random cannot be part .* functools.partial"
    )
    with pytest.raises(UnhashableSetting, match=message):
        canonical(wrap(inner))


def wrap(inner: Any) -> Any:
    def outer() -> Any:
        return inner()

    return outer


@dataclass(frozen=True)
class Shop:
    price: Decimal
    timeout: float = 1.0

    def tool(self, text: str) -> str:
        return f"{self.price} {text}"


class Client:
    def tool(self, text: str) -> str:
        return text


def test_the_key_of_a_bound_method_covers_its_object() -> None:
    key = canonical(Shop(Decimal(1)).tool)
    assert key == canonical(Shop(Decimal(1)).tool)
    assert key != canonical(Shop(Decimal(2)).tool)
    assert key != canonical(Shop(Decimal(1), timeout=2.0).tool), "`NOT_IN_KEY` does not apply to user classes"
    assert canonical("a".join) != canonical("b".join)
    with pytest.raises(InputError, match=r"Client cannot be part .* functools.partial with plain values"):
        canonical(Client().tool)


@dataclass(frozen=True)
class Holder:
    task: Any

    def tool(self, text: str) -> str:
        return text


def test_the_code_of_a_bound_method_covers_that_of_its_object() -> None:
    task = TASKS["math"]
    assert code_digest(Holder(task).tool) == code_digest(task) != code_digest(Holder(None).tool) == code_digest()


def test_different_values_have_different_keys() -> None:
    values = [
        functools.partial(count, 1),
        functools.partial(count, 2),
        {1: "a"},
        {2: "a"},
        {"1": "a"},
        Decimal(1),
        1,
        b"1",
    ]
    assert len({json.dumps(canonical(value)) for value in values}) == len(values)


def test_the_key_of_a_user_function_covers_code_of_this_package() -> None:
    def tool(text: str) -> Any:
        from toolrlef_data import parse_call

        return parse_call(text, ["calculator"])

    key, registry_key = canonical(tool), json.dumps(canonical(lambda: TASKS["math"]))
    assert key != canonical(wrap(tool))
    assert registry_key == json.dumps(canonical(lambda: TASKS["math"]))
    assert code_digest(tool) == code_digest(), "a function outside the package has no code digest"


def test_an_edited_module_is_rejected_until_it_is_reloaded(module: Write, tmp_path: Path) -> None:
    """A process runs the code that it imported; a digest of the edited file would identify other code."""
    source = "import helper\nclass C:\n    N = 1\ndef f(x): return helper.f(x)\ndef g(x): return C.N\n"
    key = module(tool=source, helper="def f(x): return 1\n")
    tool = sys.modules["tool"]
    canonical(tool.g)
    path = tmp_path / "helper.py"
    path.write_text("def f(x): return 1  # the same code\n")
    assert json.dumps(canonical(tool.f)) == key
    path.write_text("def f(x): return 22\n")
    with pytest.raises(InputError, match="source of helper has changed since it was imported: restart the process"):
        canonical(tool.f)
    importlib.reload(sys.modules["helper"])
    assert json.dumps(canonical(tool.f)) not in ("", key)
    path.write_text("def f(x): return 333\n")
    with pytest.raises(InputError, match="source of helper has changed"):
        canonical(tool.f)

    (tmp_path / "tool.py").write_text(source.replace("N = 1", "N = 22"))
    with pytest.raises(InputError, match="source of tool has changed"):
        canonical(tool.g)


def test_the_key_of_a_function_covers_its_bytecode_and_not_the_edited_file(module: Write, tmp_path: Path) -> None:
    key = module(tool="def f(x): return 1\n")
    (tmp_path / "tool.py").write_text("def f(x): return 22\n")
    assert json.dumps(canonical(sys.modules["tool"].f)) == key


def test_the_key_covers_functions_without_a_file() -> None:
    def function_from(source: str) -> Any:
        namespace: dict[str, Any] = {"__name__": "__nowhere__"}
        exec(source, namespace)
        return namespace["f"]

    source = "class C:\n    N = 1\n    def g(self): return 1\ndef f(x): return C"
    keys = [
        canonical(function_from(source.replace(*change)))
        for change in (("", ""), ("N = 1", "N = 2"), ("return 1", "return 2"))
    ]
    assert canonical(function_from(source)) == keys[0]
    assert len({json.dumps(key) for key in keys}) == 3


@dataclass(frozen=True)
class UserSetting:
    kind: ClassVar[str] = "execute"
    n: int = 1


def test_the_kind_identifies_settings_classes_of_this_package_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records stay readable if a settings class or its module is renamed."""
    spec = EngineSpec("scripted", "m")
    assert canonical(spec)[""] == "toolrlef_data.engines.spec:EngineSpec", "the `kind` of a spec is a field"
    assert canonical(UserSetting())[""] != "execute"
    monkeypatch.setattr(UserSetting, "__module__", "toolrlef_data.somewhere")
    assert canonical(UserSetting()) == {"": "execute", "n": 1}
