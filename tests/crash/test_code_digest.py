"""Cache keys in other processes: they follow edits of this package, and nothing else changes them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_code_digest_follows_imports_and_skips_unused_modules(tmp_path: Path) -> None:
    """The module of a task is part of the keys of that task only."""
    package = tmp_path / "toolrlef_data"
    shutil.copytree(ROOT / "toolrlef_data", package, ignore=shutil.ignore_patterns("__pycache__"))
    script = tmp_path / "digests.py"
    script.write_text(
        "from toolrlef_data import TASKS\nfrom toolrlef_data.tables.fingerprint import code_digest\n"
        "from toolrlef_data.trice.scoring.rules import trice\nprint(code_digest(TASKS['math']), code_digest(trice))\n"
    )

    def digests() -> list[str]:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run(
            [sys.executable, script], env=environment, capture_output=True, text=True, check=True
        ).stdout.split()

    math, scoring = digests()
    prompts = package / "engines" / "prompts.py"
    prompts.write_text(prompts.read_text() + "\nOTHER = 1\n")
    source = (package / "tasks" / "math.py").read_text()
    (package / "tasks" / "math.py").write_text(source.replace('"""', '"""Another first line. ', 1))
    assert digests() == [math, scoring], "no task imports prompts, and docstrings are ignored"
    (package / "tasks" / "math.py").write_text(source + "\nOTHER = 1\n")
    edited_math, edited_scoring = digests()
    assert edited_math != math
    assert edited_scoring == scoring, "scoring does not use the task"


def test_an_edit_of_this_package_is_rejected_until_a_restart(tmp_path: Path) -> None:
    package = tmp_path / "toolrlef_data"
    shutil.copytree(ROOT / "toolrlef_data", package, ignore=shutil.ignore_patterns("__pycache__"))
    script = tmp_path / "edit.py"
    script.write_text(
        "import sys\nfrom toolrlef_data.tables.fingerprint import code_digest\nfrom toolrlef_data.trice.scoring.rules import trice\n"
        "code_digest(trice)\nfile = open(sys.modules['toolrlef_data.trice.scoring.rules'].__file__, 'a')\nprint('X = 1', file=file, flush=True)\n"
        "try:\n    code_digest(trice)\nexcept ValueError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    out = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True).stdout
    assert out.startswith(
        "the source of toolrlef_data.trice.scoring.rules has changed since it was imported: restart the process"
    )


def test_keys_are_the_same_in_every_process(tmp_path: Path) -> None:
    """Hash seeds change the order of sets, and addresses differ: neither changes a key."""
    (tmp_path / "tool.py").write_text(
        "import re, logging, threading, dataclasses\nLOG, LOCK, END = logging.getLogger('a'), threading.Lock(), object()\n"
        "WORDS = {'a', 'b', 'c'}\n@dataclasses.dataclass\nclass D:\n    n: int = 1\n    def g(self): return re.escape\n"
        "def f(x):\n    with LOCK:\n        LOG.info('x')\n    "
        "return [i for i in WORDS if i in {'u', 'v', 'w'}] or END or D().g() or (lambda: f'{x!s}')\n"
    )
    code = "import json, tool\nfrom toolrlef_data.tables.fingerprint import canonical\nprint(json.dumps(canonical([tool.f, tool.D(2).g])))"
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    keys = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(keys) == 1
