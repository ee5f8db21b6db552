"""README and docs: their code runs, their links lead somewhere, the index names every page."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MAX_README_LINES = 185


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code_blocks(page: Path) -> list[str]:
    """The Python code of a page."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.S)


@pytest.mark.parametrize("page", [page for page in PAGES if code_blocks(page)], ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run_in_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = code_blocks(page)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"page_{page.stem.replace('-', '_').lower()}.py"
    file.write_text("\n".join(blocks))
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module(file.stem)
    del sys.modules[file.stem]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_links_of_a_page_lead_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    assert [page.name for page in PAGES[1:] if page.stem != "index" and f"({page.name}" not in index] == []


def test_the_readme_has_two_pages() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MAX_README_LINES


def test_the_folders_in_the_readme_are_those_on_the_disk() -> None:
    tree = (ROOT / "README.md").read_text().split("```text\ntoolrlef_data/\n")[1].split("```")[0]
    named = set(re.findall(r"^    ([a-z_]+)/ ", tree, re.M))
    there = {path.parent.name for path in (ROOT / "toolrlef_data").glob("*/__init__.py")} - {"cards", "loading_scripts"}
    assert named == there
