"""A BM25 index of a corpus, built once by `bm25s`, kept on the disk and memory-mapped.

An index is a folder `indexes/<digest>` in `files.home_dir()`: the arrays of `bm25s`, its vocabulary, the passages
as an Arrow file, and a manifest. The digest covers the titles and texts in order, the version of `bm25s` and
`SETTINGS`; where it came from does not count. It is written beside and renamed, under a lock: what is there is whole.

Words are runs of letters, digits and the marks that belong to them, without regard to case, compatibility forms,
Latin, Greek and Cyrillic accents, and points of Hebrew and Arabic. Scripts written without spaces (Han, kana, Thai,
Lao, Khmer, Burmese) give pairs of neighbours. English stop words are left out.

Not covered: stemming, synonyms, splitting of compounds, a single character of Han inside a longer run. While it is
built, the vocabulary and about 40 bytes for each pair of a passage and a word in it are in memory, since `bm25s` sorts
them there; texts and tokens are not. Of a damaged index only the sizes of its files are noticed.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import itertools
import json
import re
import unicodedata
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from toolrlef_data.records import InputError
from toolrlef_data.tables.files import fill_once, home_dir
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tools.search.corpus import SCHEMA, Content, Passages, content_of

__all__ = ["Index", "bm25s_version", "built_index", "indexes_dir", "open_index", "tokens"]

# The parameters are those of bm25s (Lucene's formula); "tokens" is raised when `tokens` gives something else.
SETTINGS: dict[str, Any] = {"method": "lucene", "k1": 1.5, "b": 0.75, "tokens": 1}
MANIFEST, PASSAGES, NUMBERS = "manifest.json", "passages.arrow", "tokens.bin"
BAR_FROM = 20_000  # passages

_ascii_words = re.compile(r"\w+").findall
_unspaced = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
)
# Accents, points of Hebrew and Arabic, the Arabic stroke that lengthens a word, soft hyphens, joiners.
_left_out = re.compile("[\u00ad\u0300-\u036f\u0591-\u05c7\u0640\u064b-\u0652\u200b-\u200d\u2060\ufeff]+")


class Index(NamedTuple):
    """An open index: the scores of `bm25s`, word -> number, and the passages."""

    scores: Any
    vocabulary: dict[str, int]
    passages: Any

    def best(self, query: str, k: int) -> list[int]:
        """Numbers of the k best passages that share a word with the query; of equal ones, the first in the corpus."""
        known = [self.vocabulary[token] for token in tokens(query) if token in self.vocabulary]
        if not known:
            return []
        scores = self.scores.get_scores_from_ids(known)
        found: list[int] = []
        while len(found) < k and scores[place := int(scores.argmax())] > 0:
            found.append(place)
            scores[place] = 0
        return found


def tokens(text: str) -> list[str]:
    """The words of a text, stop words included.

    >>> tokens("Beyonc\u00e9's caf\u00e9"), tokens("\u6771\u4eac\u90fd")
    (['beyonce', 's', 'cafe'], ['東京', '京都'])
    """
    if text.isascii():
        return _ascii_words(text.lower())
    text = unicodedata.normalize("NFC", _left_out.sub("", unicodedata.normalize("NFKD", text).casefold()))
    words = _words()(text)
    return [part for word in words for part in _parts(word)] if _unspaced.search(text) else words


@functools.cache
def _words() -> Any:
    """Finds words: letters, digits, and the marks that `re` does not count to them, as vowel signs of Indic scripts."""
    marks = "".join(c for c in map(chr, range(0x10000)) if unicodedata.category(c) in ("Mn", "Mc"))
    return re.compile(rf"\w+(?:[{marks}]+\w*)*").findall  # one class of both would take ten times as long


def _parts(word: str) -> Iterator[str]:
    end = 0
    for run in _unspaced.finditer(word):
        if run.start() > end:
            yield word[end : run.start()]
        end, signs = run.end(), run.group()
        yield from map("".join, itertools.pairwise(signs)) if len(signs) > 1 else [signs]
    if end < len(word):
        yield word[end:]


def bm25s_version() -> str:
    return importlib.metadata.version("bm25s")


def indexes_dir() -> Path:
    """The folder of all indexes."""
    folder = home_dir() / "indexes"
    folder.mkdir(exist_ok=True)
    return folder


def built_index(passages: Passages) -> str:
    """The digest of the index of a corpus, which is built where it is missing or damaged.

    Raises:
        InputError: the corpus is empty, or none of its passages holds a word.
        ToolrlefError: the disk is full.
    """
    content = content_of(passages)
    name = digest(content.digest, SETTINGS, bm25s_version())[:32]
    fill_once(indexes_dir() / name, lambda folder: _build(passages, content, folder), _is_whole)
    return name


def open_index(name: str) -> Index:
    """The index of a digest, memory-mapped, opened once in a process.

    Raises:
        InputError: it is not there any more, or damaged.
    """
    folder = indexes_dir() / name
    try:
        state = (folder / MANIFEST).stat()
        return _open(folder, state.st_ino, state.st_mtime_ns)
    except FileNotFoundError:
        raise InputError(
            f"the search index {folder} is gone: call wiki_search(corpus) again, which builds it"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise InputError(
            f"the search index {folder} is damaged: remove it and call wiki_search(corpus) again; {error}"
        ) from error


@functools.lru_cache(maxsize=4)
def _open(folder: Path, inode: int, written: int) -> Index:
    from bm25s import BM25  # type: ignore[import-untyped]

    if not _is_whole(folder):
        raise ValueError("sizes of files differ from the manifest's")
    bm25 = BM25.load(folder, mmap=True, show_progress=False, backend="numpy")
    # Plain views of the mapped files: a slice of np.memmap costs several times as much.
    bm25.scores |= {part: bm25.scores[part].view(np.ndarray) for part in ("data", "indices", "indptr")}
    table = pa.ipc.open_file(pa.memory_map(str(folder / PASSAGES))).read_all()
    return Index(bm25, bm25.vocab_dict, table)


def _is_whole(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["sizes"]
        return bool(sizes) and all((folder / file).stat().st_size == size for file, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


# Building -------------------------------------------------------------------------------------------------------------


def _build(passages: Passages, content: Content, folder: Path) -> None:
    """Build an index in an empty folder."""
    import datasets
    from bm25s import BM25

    bars = content.rows >= BAR_FROM and not datasets.are_progress_bars_disabled()
    numbers = _numbered(passages, content.rows, folder, bars)
    if not numbers.vocab:
        raise InputError("no passage of the corpus holds a word that can be searched for")
    bm25 = BM25(method=SETTINGS["method"], k1=SETTINGS["k1"], b=SETTINGS["b"], backend="numpy")
    bm25.index(numbers, create_empty_token=False, show_progress=bars)
    bm25.save(folder, show_progress=False)
    del numbers
    (folder / NUMBERS).unlink()
    sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    manifest = {"sizes": sizes, "rows": content.rows, "bm25s": bm25s_version(), "settings": SETTINGS}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


class _Numbered(NamedTuple):
    """A corpus as `BM25.index` takes it: the words' numbers of each passage, and word -> number."""

    ids: _Rows
    vocab: dict[str, int]


class _Rows(Sequence[list[int]]):
    """Lists of numbers in a memory-mapped file; `bm25s` goes through them four times."""

    def __init__(self, path: Path, ends: Sequence[int]) -> None:
        mapped: Any = np.memmap(path, np.int32, "r") if path.stat().st_size else np.empty(0, np.int32)
        self.numbers = mapped.view(np.ndarray)
        self.ends = ends

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, place: Any) -> Any:
        return self.numbers[self.ends[place] : self.ends[place + 1]].tolist()

    def __iter__(self) -> Iterator[list[int]]:
        for start, end in itertools.pairwise(self.ends):
            yield self.numbers[start:end].tolist()


def _numbered(passages: Passages, rows: int, folder: Path, bars: bool) -> _Numbered:
    """Write the passages and their words' numbers into a folder, in one pass."""
    from bm25s.stopwords import STOPWORDS_EN  # type: ignore[import-untyped]
    from datasets.utils import tqdm

    count = itertools.count()
    vocabulary: defaultdict[str, int] = defaultdict(count.__next__)
    stop_words = {*STOPWORDS_EN, "s", "t"}  # it's, don't
    vocabulary.update(dict.fromkeys(stop_words, -1))
    ends = array("q", [0])
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(tqdm(desc="Read passages", total=rows, unit=" passages", disable=not bars))
        file = stack.enter_context(open(folder / NUMBERS, "wb"))
        sink = stack.enter_context(pa.OSFile(str(folder / PASSAGES), "wb"))
        writer = stack.enter_context(pa.ipc.new_file(sink, SCHEMA))
        for piece in passages():
            writer.write_table(piece)
            numbers: list[int] = []
            start = ends[-1]
            for title, text in zip(*(column.to_pylist() for column in piece.columns), strict=True):
                words = tokens(f"{title} {text}") if text.strip() else []  # a title alone is nothing to read
                numbers += [number for word in words if (number := vocabulary[word]) >= 0]
                ends.append(start + len(numbers))
            file.write(np.array(numbers, np.int32).tobytes())
            bar.update(len(piece))
    for word in stop_words:
        del vocabulary[word]
    return _Numbered(_Rows(folder / NUMBERS, ends), dict(vocabulary))
