"""The package as a whole: light to import, layered, documented, installable."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import zipfile
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, DocTestFinder, DocTestRunner
from pathlib import Path

import pytest

import toolrlef_data
from toolrlef_data._names import HOMES

ROOT = Path(__file__).parents[1]
MODULES = sorted(m.name for m in pkgutil.walk_packages(toolrlef_data.__path__, "toolrlef_data."))

# The floors, lowest first. A module imports from its own room and from lower floors: also inside functions, and by the
# strings that name where an object lives. Rooms of one floor do not import each other.
FLOORS = (
    ("_names", "columns", "records"),
    ("tables",),
    ("engines",),
    ("tools",),
    ("tasks",),
    ("loading_scripts",),
    ("toolbench", "trice"),
    ("publishing",),
    ("recipes",),
    ("cli",),
)
DATA = ("cards", "samples")  # rooms without code, open to all
MOST_MODULES = 12  # in a room; `loading_scripts` has one for each source


def floor_of(room: str) -> int:
    (floor,) = [n for n, rooms in enumerate(FLOORS) if room in rooms]
    return floor


def room_of(module: str) -> str:
    return module.split(".")[1]


def imported_by(module: str) -> set[str]:
    """Modules of the package that a module names: in imports, wherever they stand, and in strings."""
    file = importlib.import_module(module).__file__
    assert file is not None
    found = set()
    for node in ast.walk(ast.parse(Path(file).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "toolrlef_data":
            found |= {f"toolrlef_data.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            found.add(str(node.module))
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and re.fullmatch(r"toolrlef_data\.[\w.]+(:\w+)?", str(node.value)):
            found.add(str(node.value).partition(":")[0])
    return {name for name in found if name.startswith("toolrlef_data.")}


def test_imports_point_downward() -> None:
    upward = [
        (name, other)
        for name in MODULES
        if (room := room_of(name)) not in DATA
        for other in imported_by(name)
        if room_of(other) not in (room, *DATA) and floor_of(room_of(other)) >= floor_of(room)
    ]
    assert upward == []


def test_rooms_are_small_and_tell_their_story() -> None:
    rooms = {path.parent for path in (ROOT / "toolrlef_data").rglob("*.py") if path.parent.name != "parts"}
    for room in rooms - {ROOT / "toolrlef_data" / name for name in ("loading_scripts", *DATA)}:
        if room.is_relative_to(ROOT / "toolrlef_data" / "cards"):
            continue
        modules = {path.stem for path in room.glob("*.py")} - {"__init__", "__main__"}
        assert len(modules) <= MOST_MODULES, room
        told = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
        if room.name != "toolrlef_data":
            assert [name for name in sorted(modules) if f"`{name}" not in told] == [], f"{room}: not in its story"


def test_importing_the_package_is_light() -> None:
    code = (
        "import toolrlef_data, sys; print([m for m in ('torch', 'transformers', 'openai', 'ray') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    code = "import sys; from toolrlef_data import " + ", ".join(n for n in HOMES)
    code += "; print([m for m in ('torch', 'openai', 'ray') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_public_names_are_sorted_and_there() -> None:
    assert sorted(HOMES) == vars(toolrlef_data)["__all__"] == dir(toolrlef_data)
    for name in HOMES:
        assert callable(getattr(toolrlef_data, name)) or name.isupper()


def test_no_room_bears_the_name_of_a_public_function() -> None:
    for room in MODULES:
        assert room.count(".") > 1 or room_of(room) not in HOMES


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    runner = DocTestRunner(optionflags=ELLIPSIS | NORMALIZE_WHITESPACE)
    for test in DocTestFinder(exclude_empty=True).find(module, name):
        report: list[str] = []
        assert runner.run(test, out=report.append).failed == 0, "".join(report)


def test_readme_blocks_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len(blocks) >= 2
    module = tmp_path / "readme.py"
    module.write_text("\n".join(blocks))
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("readme")
    del sys.modules["readme"]


def test_the_folders_in_the_readme_are_those_on_the_disk() -> None:
    tree = (ROOT / "README.md").read_text().split("```text\ntoolrlef_data/\n")[1].split("```")[0]
    named = set(re.findall(r"^    ([a-z_]+)/ ", tree, re.M))
    there = {path.parent.name for path in (ROOT / "toolrlef_data").glob("*/__init__.py")} - {"cards", "loading_scripts"}
    assert named == there


def test_every_room_has_tests() -> None:
    for path in (ROOT / "toolrlef_data").rglob("__init__.py"):
        room = path.parent.relative_to(ROOT / "toolrlef_data")
        if not {"cards", "samples"}.intersection(room.parts):
            assert list((ROOT / "tests" / room).rglob("test_*.py")), f"no tests of {room}"


def test_the_package_is_imported_from_a_zip_file_and_its_command_runs_as_a_module(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as archive:
        for path in (ROOT / "toolrlef_data").rglob("*"):
            if path.suffix in (".py", ".pyi"):
                archive.write(path, path.relative_to(ROOT))
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'package.zip')!r}); import toolrlef_data as t; print(t.EngineSpec)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "<class 'toolrlef_data.engines.spec.EngineSpec'>\n"
    command = [sys.executable, "-m", "toolrlef_data.cli", "--help"]
    assert "trajectories" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
