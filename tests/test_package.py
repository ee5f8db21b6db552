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

ROOT = Path(__file__).parents[1]
MODULES = sorted(m.name for m in pkgutil.walk_packages(toolrlef_data.__path__, "toolrlef_data."))

# What a layer may import: itself and what stands before it.
LAYERS = [
    [
        "_names",
        "records",
        "columns",
        "source_code",
        "fingerprints",
        "published",
        "lineage",
        "batches",
        "stages",
        "transform",
    ],
    ["calls", "replies", "under_way", "prompts", "engines", "tools", "tasks", "scoring"],
    [
        "annotations",
        "formulas",
        "constants",
        "search_prompts",
        "search_trees",
        "messages",
        "histories",
        "merging",
        "toolllama",
    ],
    ["asking", "tally", "responses", "protocols", "dfsdt", "answer_files", "answer_writing", "loading_scripts"],
    ["executing", "reading", "cassette", "tool_results", "teaching", "stage1", "responding", "stage2", "training"],
    ["trajectories", "preferences", "splits", "chat_templates", "chat_steps", "chat_tokens"],
    ["searching", "generating", "search_demo"],
    ["trice_files", "trice_reading", "trice_folder", "trice_entries", "trice_joining", "trice_rows"],
    ["card", "trajectory_card", "publish", "provenance", "exports"],
    ["recipe", "recipe_mistakes", "recipe_model"],
    ["cli", "cli_trajectories", "console"],
]


def layer(module: str) -> int:
    parts = module.split(".")
    name = parts[1] if len(parts) > 1 else ""
    found = [i for i, names in enumerate(LAYERS) if name in names]
    assert found, f"{module} stands in no layer"
    return found[0]


@pytest.mark.parametrize("name", [m for m in MODULES if m.split(".")[1] not in ("cards", "samples", "recipes")])
def test_imports_point_one_way(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__file__ is not None
    imported = set()
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("toolrlef_data."):
            imported.add(str(node.module))
    assert [other for other in imported if layer(other) > layer(name)] == []


def test_importing_the_package_is_light() -> None:
    code = (
        "import toolrlef_data, sys; print([m for m in ('torch', 'transformers', 'openai', 'ray') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    code = "import sys; from toolrlef_data import " + ", ".join(n for n in toolrlef_data.__all__)
    code += "; print([m for m in ('torch', 'openai', 'ray') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_public_names_are_sorted_and_there() -> None:
    assert sorted(toolrlef_data.__all__) == toolrlef_data.__all__ == dir(toolrlef_data)
    for name in toolrlef_data.__all__:
        assert callable(getattr(toolrlef_data, name)) or name.isupper()
    assert callable(importlib.import_module("toolrlef_data").publish), "the function, not its module"


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


def test_the_tree_in_the_readme_is_the_disk() -> None:
    tree = (ROOT / "README.md").read_text().split("```text\n")[1].split("```")[0]
    told = set(re.findall(r"^\s+([a-z_0-9]+\.py)\b", tree, re.M))
    folders = [
        "toolrlef_data",
        "toolrlef_data/engines",
        "toolrlef_data/tasks",
        "toolrlef_data/tools",
        "loading_scripts",
    ]
    there = {path.name for folder in folders for path in (ROOT / folder).glob("*.py") if path.name != "__init__.py"}
    assert told == there


def test_every_module_has_tests() -> None:
    """tests/test_<module>.py, or the test of the module that a part belongs to."""
    served_by = {
        "_names": "package", "published": "publish", "card": "publish", "provenance": "publish", "trice_files": "publish", "recipe_model": "recipe", "recipe_mistakes": "recipe", "columns": "stage1", "records": "transform", "batches": "transform", "stages": "transform", "lineage": "transform", "source_code": "fingerprints",
        "prompts": "stage2", "responding": "stage2", "teaching": "stage1", "cli": "recipe", "formulas": "annotations",
        "constants": "annotations", "engines.scripted": "asking", "engines.decoding": "local", "engines.weights": "local", "engines.batching": "local",
        "engines.models": "local", "engines.connection": "openai_api", "engines.direct": "openai_api", "engines.session": "openai_api", "engines.batch_endpoints": "batch_jobs",
        "tool_results": "executing", "reading": "executing", "tally": "asking", "responses": "asking", "under_way": "asking",
        "tasks.numbers": "math", "tools.arithmetic": "calculator", "tools.passages": "search", "tools.bm25_index": "search", "trice_folder": "trice_reading", "trice_entries": "trice_reading", "trice_joining": "trice_reading", "trice_rows": "trice_reading", "tools.seq2seq": "translator", "tools.spans": "qa_model", "tools.servers": "endpoint", "tools.arguments": "functions",
        "search_prompts": "dfsdt", "messages": "histories", "console": "cli_trajectories", "search_trees": "histories", "answer_files": "trajectories", "answer_writing": "generating", "searching": "generating", "chat_templates": "chat_tokens", "chat_steps": "chat_tokens",
    }  # fmt: skip
    for name in MODULES:
        short = name.removeprefix("toolrlef_data.")
        if short.startswith(("cards", "samples", "recipes")) or short in ("engines", "tasks", "tools"):
            continue
        last = served_by.get(short, "loading_scripts" if short.startswith("loading_scripts") else short.split(".")[-1])
        assert (ROOT / "tests" / f"test_{last}.py").exists(), f"{name}: tests/test_{last}.py"


def test_a_wheel_holds_everything_and_works_elsewhere(tmp_path: Path) -> None:
    source = tmp_path / "source"
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, names):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            target.symlink_to((ROOT / name).readlink())
        elif (ROOT / name).exists():
            target.write_bytes((ROOT / name).read_bytes())
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(tmp_path),
        str(source),
    ]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import toolrlef_data; assert toolrlef_data.__file__.startswith(sys.argv[1])\n"
        "from toolrlef_data import load_recipe, load_source, load_recipe\n"
        "from toolrlef_data.card import _templates; _templates().get_template('tool_use.md.jinja')\n"
        "print(len(load_source('sample', split='train')) >= 120, load_recipe('demo').task, len(load_source('sample_trajectories')))"
    )
    run = [sys.executable, "-c", code, str(site)]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "True math 10\n"
