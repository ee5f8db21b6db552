"""What a machine can check of the prose: the length of sentences in docstrings, and phrases that readers must decode."""

from __future__ import annotations

import ast
import functools
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = [
    path
    for folder in ("toolrlef_data", "loading_scripts", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != Path(__file__)
]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "cards").rglob("*.jinja"))]
MAX_WORDS = 40  # in a sentence of a docstring

# Phrases with several meanings or in no use in the field, and what to write instead.
AVOID = {
    r"under way": "in flight, pending, in progress",
    r"that there (?:is|are) not|there (?:is|are) not(?! (?:a|an|any|enough|yet)\b)": "unknown, missing, no such",
    r"was told|were told|is told|are told|told apart|tells? apart": "given, distinguish",
    r"took up|goes on from there|go on from there|asks? for the rest": "resume",
    r"by (?:its|their) own fault|own faults?": "call error, tool failure",
    r"half a character": "an unpaired surrogate",
    r"shall": "must, should, will",
    r"whose turn": "the request scheduler",
    r"nothing is said|says? nothing of|says? so where": "is unknown, warns when",
    r"(?:kept|set|put|told|taken|stands?) apart": "separate",
    r"what (?:ran|arrived|was left|is left|it lacks) (?:is|are|was)": "completed requests, the remainder",
    r"on its way": "pending",
    r"as a whole one|whole ones|right ones|wrong ones": "name the noun",
    r"anew|once more": "again",
    r"whatever happened|however they": "say what can happen",
    r"may not be believed|is believed|to be believed": "trusted, verified",
    r"in the place of": "instead of, for",
    r"what (?:else )?came of": "the result of",
    r"no use": "unusable",
    r"upstream's own": "upstream's",
}

# Texts that models see are part of the keys of stored replies: they stay as they are.
TEXTS_FOR_MODELS = {
    ("toolbench/prompts.py", "go on from there"),
    ("functions/arguments.py", "half a character"),
    ("functions/function.py", "is told"),
}


def prose_of(text: str) -> Iterator[str]:
    """Sentences of a docstring: without examples, tables, diagrams and headings; an argument's entry starts a new one."""
    block: list[str] = []
    paragraphs: list[str] = []
    literal = False  # inside an indented block after "::" or a line that ends with ":"
    for line in [*text.splitlines(), ""]:
        bare = line.strip()
        if re.match(r"(\{|>>>|\.\.\.|\||```|[├└│─])", bare) or not bare or bare.endswith("──"):
            paragraphs.append(" ".join(block))
            block = []
            literal = bare.startswith(">>>") or (literal and bool(bare))
            continue
        if literal:  # what an example prints
            continue
        if re.match(r"([-*]|\d+[.)]|[\w*`, ]+(\(.*?\))?:)\s", bare) or (bare.endswith(":") and " " not in bare):
            paragraphs.append(" ".join(block))
            block = []
        block.append(bare)
    for paragraph in paragraphs:
        yield from re.split(r"(?<=[.!?])[\"')`]*\s+(?=[A-Z`\"'(])", paragraph)


@functools.cache
def parse(path: Path) -> ast.Module:
    """The syntax tree of a file, which two tests read."""
    return ast.parse(path.read_text())


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """The docstrings of a file with the lines they start in."""
    for node in ast.walk(parse(path)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, text


def comments(path: Path) -> Iterator[tuple[int, str]]:
    """The comments of a file with their lines."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """String literals with blanks that are no docstrings: messages of errors, logs, progress bars and commands."""
    tree = parse(path)
    described = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in described:
            continue
        if " " in node.value.strip():
            yield node.lineno, node.value


def phrases_in(text: str) -> list[str]:
    """The phrases of `AVOID` in a text, each with what to write instead."""
    text = re.sub(r"\s+", " ", text)
    return [
        f"{match.group()!r}; write: {instead}"
        for phrase, instead in AVOID.items()
        for match in re.finditer(rf"\b(?:{phrase})\b", text, re.IGNORECASE)
    ]


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name}:{line}"


def long_sentences(paths: list[Path]) -> list[str]:
    """Sentences of docstrings with more than `MAX_WORDS` words."""
    return [
        f"{place(path, line)}: {len(sentence.split())} words: {sentence}"
        for path in paths
        for line, text in docstrings(path)
        for sentence in prose_of(text)
        if len(sentence.split()) > MAX_WORDS
    ]


def avoided_phrases(paths: list[Path]) -> list[str]:
    """Places with a phrase of `AVOID` in a docstring, a comment or a message."""
    return [
        f"{place(path, line)}: {found}"
        for path in paths
        for texts in (docstrings, comments, messages)
        for line, text in texts(path)
        for found in phrases_in(text)
        if ("/".join(path.parts[-2:]), found.split("'")[1]) not in TEXTS_FOR_MODELS
    ]


def test_sentences_of_docstrings_are_short() -> None:
    assert long_sentences(CODE) == []


def test_no_text_contains_a_phrase_to_avoid() -> None:
    package = [path for path in CODE if ROOT / "tests" not in path.parents]
    assert avoided_phrases(package) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_contains_a_phrase_to_avoid(page: Path) -> None:
    assert phrases_in(page.read_text()) == []


def test_the_checks_find_what_they_look_for(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    long = " ".join(["word"] * (MAX_WORDS + 1))
    file.write_text(
        f'''def f():\n    """Do it.\n\n    {long}.\n    """\n    raise ValueError("a layout that there is not")\n'''
    )
    assert len(long_sentences([file])) == 1
    assert len(avoided_phrases([file])) == 1


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One. Two.", 2),
        ("One.\n\nArgs:\n    a: first.\n    b: second, e.g. this.", 4),
        ("One.\n\n>>> f(1)\nprinted\n", 1),
    ],
)
def test_sentences_are_separated_from_examples(text: str, count: int) -> None:
    assert len([sentence for sentence in prose_of(text) if sentence.strip()]) == count
