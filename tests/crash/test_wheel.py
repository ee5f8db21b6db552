"""The package works without the repository: from a wheel, from a zip file and as a module."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_wheel_is_complete(tmp_path: Path) -> None:
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
        "from toolrlef_data.publishing.card.writing import _templates; _templates().get_template('tool_use.md.jinja')\n"
        "print(len(load_source('sample', split='train')) >= 120, load_recipe('demo').task, len(load_source('sample_trajectories')))"
    )
    run = [sys.executable, "-c", code, str(site)]
    process = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert process.stdout == "True math 10\n"


def test_the_package_imports_from_a_zip_file_and_runs_as_a_module(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as archive:
        for path in (ROOT / "toolrlef_data").rglob("*"):
            if path.suffix in (".py", ".pyi"):
                archive.write(path, path.relative_to(ROOT))
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'package.zip')!r}); import toolrlef_data as t; print(t.EngineSpec)"
    process = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert process.stdout == "<class 'toolrlef_data.engines.spec.EngineSpec'>\n"
    command = [sys.executable, "-m", "toolrlef_data.cli", "--help"]
    assert "trajectories" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
