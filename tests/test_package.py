"""The complete package: import time, layers, documentation and installation."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
import re
import subprocess
import sys
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, DocTestFinder, DocTestRunner
from pathlib import Path

import pytest

import toolrlef_data
from toolrlef_data._names import PUBLIC_MODULES

ROOT = Path(__file__).parents[1]
# Module -> a package that it needs at import, and that the set-up does not install.
EXTRAS = {"toolrlef_data.publishing.rl.taskset": "verifiers"}
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(toolrlef_data.__path__, "toolrlef_data.")
    if module.name not in EXTRAS or importlib.util.find_spec(EXTRAS[module.name]) is not None
)

# The layers, lowest first. A module imports only from its own folder and from lower layers, also inside functions and by
# import strings. Folders of one layer do not import each other.
LAYERS = (
    ("_names", "column_meanings", "columns", "records"),
    ("checks", "choices"),
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
DATA = ("cards", "samples")  # folders without code, which every module may read
MAX_MODULES = 12  # per folder; `loading_scripts` has one for each source


def layer_of(folder: str) -> int:
    (layer,) = [n for n, folders in enumerate(LAYERS) if folder in folders]
    return layer


def folder_of(module: str) -> str:
    return module.split(".")[1]


def imported_by(module: str) -> set[str]:
    """Return the modules of the package that a module imports, anywhere in the file and by import strings."""
    file = importlib.import_module(module).__file__
    assert file is not None
    names = set()
    for node in ast.walk(ast.parse(Path(file).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "toolrlef_data":
            names |= {f"toolrlef_data.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            names.add(str(node.module))
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and re.fullmatch(r"toolrlef_data\.[\w.]+(:\w+)?", str(node.value)):
            names.add(str(node.value).partition(":")[0])
    return {name for name in names if name.startswith("toolrlef_data.")}


def test_modules_import_only_from_lower_layers() -> None:
    violations = [
        (name, other)
        for name in MODULES
        if (folder := folder_of(name)) not in DATA
        for other in imported_by(name)
        if folder_of(other) not in (folder, *DATA) and layer_of(folder_of(other)) >= layer_of(folder)
    ]
    assert violations == []


def test_folders_are_small_and_describe_their_modules() -> None:
    folders = {path.parent for path in (ROOT / "toolrlef_data").rglob("*.py") if path.parent.name != "parts"}
    for folder in folders - {ROOT / "toolrlef_data" / name for name in ("loading_scripts", *DATA)}:
        if folder.is_relative_to(ROOT / "toolrlef_data" / "cards"):
            continue
        modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"}
        assert len(modules) <= MAX_MODULES, folder
        docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
        if folder.name != "toolrlef_data":
            missing = [name for name in sorted(modules) if f"`{name}" not in docstring]
            assert missing == [], f"{folder}: missing in the docstring of __init__.py"


def test_the_import_loads_no_heavy_packages() -> None:
    code = (
        "import toolrlef_data, sys; print([m for m in ('torch', 'transformers', 'openai', 'ray') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    code = "import sys; from toolrlef_data import " + ", ".join(n for n in PUBLIC_MODULES)
    code += "; print([m for m in ('torch', 'openai', 'ray') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_public_names_are_sorted_and_importable() -> None:
    assert sorted(PUBLIC_MODULES) == vars(toolrlef_data)["__all__"] == dir(toolrlef_data)
    for name in PUBLIC_MODULES:
        assert callable(getattr(toolrlef_data, name)) or name.isupper()


def test_no_folder_has_the_name_of_a_public_function() -> None:
    for module in MODULES:
        assert module.count(".") > 1 or folder_of(module) not in PUBLIC_MODULES


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


def test_the_readme_lists_the_folders_of_the_package() -> None:
    tree = (ROOT / "README.md").read_text().split("```text\ntoolrlef_data/\n")[1].split("```")[0]
    listed = set(re.findall(r"^    ([a-z_]+)/ ", tree, re.M))
    folders = {path.parent.name for path in (ROOT / "toolrlef_data").glob("*/__init__.py")}
    assert listed == folders - {"cards", "loading_scripts"}


def test_every_folder_has_tests() -> None:
    for path in (ROOT / "toolrlef_data").rglob("__init__.py"):
        folder = path.parent.relative_to(ROOT / "toolrlef_data")
        if not {"cards", "samples"}.intersection(folder.parts):
            assert list((ROOT / "tests" / folder).rglob("test_*.py")), f"no tests of {folder}"
