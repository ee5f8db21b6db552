"""BM25 indexes of corpora: built once with `bm25s`, stored on disk, and memory-mapped.

An index is a folder `indexes/<digest>` in `files.home_dir()`. It contains the arrays of `bm25s`, the vocabulary, the
passages as an Arrow file, and a manifest. The digest covers the titles and texts in order, the version of `bm25s` and
`SETTINGS`, but not the location of the corpus. An index is written to a temporary folder and renamed under a lock, so
an existing folder is complete.

Words are runs of letters, digits and their combining marks. Matching ignores case, compatibility forms, accents of
Latin, Greek and Cyrillic letters, and points of Hebrew and Arabic. Scripts without spaces (Han, kana, Thai, Lao,
Khmer, Burmese) yield pairs of adjacent characters. English stop words are skipped.

Building needs memory for the vocabulary and about 40 bytes per (passage, distinct word) pair, because `bm25s` sorts
the pairs in memory. Texts and tokens are streamed.

Not covered: stemming, synonyms, splitting of compounds, queries for a single Han character inside a longer run.
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
from toolrlef_data.tables.files import damaged_file, fill_once, home_dir
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tools.search.corpus import SCHEMA, Content, Passages, digest_content

__all__ = ["Index", "bm25s_version", "build_index", "indexes_dir", "open_index", "split_words"]

# The defaults of bm25s (Lucene's formula). Increase "tokens" when the output of `split_words` changes.
SETTINGS: dict[str, Any] = {"method": "lucene", "k1": 1.5, "b": 0.75, "tokens": 1}
MANIFEST, PASSAGES, TOKEN_IDS = "manifest.json", "passages.arrow", "tokens.bin"
MIN_PROGRESS_ROWS = 20_000  # smaller corpora show no progress bar

_ascii_words = re.compile(r"\w+").findall
_unspaced = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
)
# Accents, points of Hebrew and Arabic, Arabic tatweel, soft hyphens, joiners.
_ignored_characters = re.compile("[\u00ad\u0300-\u036f\u0591-\u05c7\u0640\u064b-\u0652\u200b-\u200d\u2060\ufeff]+")


class Index(NamedTuple):
    """An open index: the `BM25` object, word -> token id, and the passages."""

    bm25: Any
    vocabulary: dict[str, int]
    passages: Any

    def top_k(self, query: str, k: int) -> list[int]:
        """Return the row numbers of the k best passages, best first.

        A passage must share a word with the query. Ties are broken by the order in the corpus.
        """
        token_ids = [self.vocabulary[word] for word in split_words(query) if word in self.vocabulary]
        if not token_ids:
            return []
        scores = self.bm25.get_scores_from_ids(token_ids)
        hits: list[int] = []
        while len(hits) < k and scores[hit := int(scores.argmax())] > 0:
            hits.append(hit)
            scores[hit] = 0
        return hits


def split_words(text: str) -> list[str]:
    """Return the normalised words of a text, including stop words.

    >>> split_words("Beyonc\u00e9's caf\u00e9"), split_words("\u6771\u4eac\u90fd")
    (['beyonce', 's', 'cafe'], ['東京', '京都'])
    """
    if text.isascii():
        return _ascii_words(text.lower())
    text = unicodedata.normalize("NFC", _ignored_characters.sub("", unicodedata.normalize("NFKD", text).casefold()))
    words = _word_finder()(text)
    return [part for word in words for part in _split_unspaced(word)] if _unspaced.search(text) else words


@functools.cache
def _word_finder() -> Any:
    """Return a function that finds words, including combining marks that `\\w` excludes, such as Indic vowel signs."""
    marks = "".join(c for c in map(chr, range(0x10000)) if unicodedata.category(c) in ("Mn", "Mc"))
    return re.compile(rf"\w+(?:[{marks}]+\w*)*").findall  # ten times as fast as one character class


def _split_unspaced(word: str) -> Iterator[str]:
    """Yield the parts of a word; a run of a script without spaces yields its pairs of adjacent characters."""
    end = 0
    for run in _unspaced.finditer(word):
        if run.start() > end:
            yield word[end : run.start()]
        end, characters = run.end(), run.group()
        yield from map("".join, itertools.pairwise(characters)) if len(characters) > 1 else [characters]
    if end < len(word):
        yield word[end:]


def bm25s_version() -> str:
    return importlib.metadata.version("bm25s")


def indexes_dir() -> Path:
    """Return the folder of all indexes."""
    return home_dir() / "indexes"


def build_index(passages: Passages) -> str:
    """Build the index of a corpus if it is missing or damaged, and return its digest.

    Raises:
        InputError: the corpus is empty, or no passage has a word.
        ToolrlefError: the disk is full.
    """
    content = digest_content(passages)
    name = digest(content.digest, SETTINGS, bm25s_version())[:32]
    fill_once(indexes_dir() / name, lambda folder: _build(passages, content, folder), _is_complete)
    return name


def open_index(name: str) -> Index:
    """Return the index with the digest `name`, memory-mapped; the last four indexes stay open.

    Raises:
        InputError: the index was deleted or is damaged.
    """
    folder = indexes_dir() / name
    try:
        state = (folder / MANIFEST).stat()
        return _open(folder, state.st_ino, state.st_mtime_ns)
    except FileNotFoundError:
        raise InputError(f"the search index {folder} was deleted; call wiki_search(corpus) to build it again") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise InputError(
            f"the search index {folder} is damaged; call wiki_search(corpus) to build it again: {error}"
        ) from error


@functools.lru_cache(maxsize=4)
def _open(folder: Path, inode: int, modified_ns: int) -> Index:
    from bm25s import BM25  # type: ignore[import-untyped]

    if not _is_complete(folder) or damaged_file(folder):
        raise ValueError("a file differs from its size or checksum")
    bm25 = BM25.load(folder, mmap=True, show_progress=False, backend="numpy")
    # Plain array views of the mapped files: slicing an np.memmap is several times slower.
    bm25.scores |= {name: bm25.scores[name].view(np.ndarray) for name in ("data", "indices", "indptr")}
    table = pa.ipc.open_file(pa.memory_map(str(folder / PASSAGES))).read_all()
    return Index(bm25, bm25.vocab_dict, table)


def _is_complete(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["sizes"]
        return bool(sizes) and all((folder / file).stat().st_size == size for file, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


# Building -------------------------------------------------------------------------------------------------------------


def _build(passages: Passages, content: Content, folder: Path) -> None:
    """Write the index of a corpus to an empty folder."""
    import datasets
    from bm25s import BM25

    show_progress = content.rows >= MIN_PROGRESS_ROWS and not datasets.are_progress_bars_disabled()
    tokenised = _tokenise(passages, content.rows, folder, show_progress)
    if not tokenised.vocab:
        raise InputError("no passage of the corpus has a searchable word")
    bm25 = BM25(method=SETTINGS["method"], k1=SETTINGS["k1"], b=SETTINGS["b"], backend="numpy")
    bm25.index(tokenised, create_empty_token=False, show_progress=show_progress)
    bm25.save(folder, show_progress=False)
    del tokenised
    (folder / TOKEN_IDS).unlink()
    sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    manifest = {"sizes": sizes, "rows": content.rows, "bm25s": bm25s_version(), "settings": SETTINGS}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


class _TokenisedCorpus(NamedTuple):
    """The input of `BM25.index`: the token ids of each passage, and word -> token id."""

    ids: _TokenIds
    vocab: dict[str, int]


class _TokenIds(Sequence[list[int]]):
    """The token ids of each passage, in a memory-mapped file because `bm25s` iterates over them four times.

    `ends` has 0 and the end of each passage in the file, counted in tokens.
    """

    def __init__(self, path: Path, ends: Sequence[int]) -> None:
        mapped: Any = np.memmap(path, np.int32, "r") if path.stat().st_size else np.empty(0, np.int32)
        self.ids = mapped.view(np.ndarray)
        self.ends = ends

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, row: Any) -> Any:
        return self.ids[self.ends[row] : self.ends[row + 1]].tolist()

    def __iter__(self) -> Iterator[list[int]]:
        for start, end in itertools.pairwise(self.ends):
            yield self.ids[start:end].tolist()


def _tokenise(passages: Passages, rows: int, folder: Path, show_progress: bool) -> _TokenisedCorpus:
    """Write the passages and their token ids to a folder, in one pass."""
    from bm25s.stopwords import STOPWORDS_EN  # type: ignore[import-untyped]
    from datasets.utils import tqdm

    next_id = itertools.count()
    vocabulary: defaultdict[str, int] = defaultdict(next_id.__next__)
    stop_words = {*STOPWORDS_EN, "s", "t"}  # it's, don't
    vocabulary.update(dict.fromkeys(stop_words, -1))
    ends = array("q", [0])
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(tqdm(desc="Read passages", total=rows, unit=" passages", disable=not show_progress))
        file = stack.enter_context(open(folder / TOKEN_IDS, "wb"))
        sink = stack.enter_context(pa.OSFile(str(folder / PASSAGES), "wb"))
        writer = stack.enter_context(pa.ipc.new_file(sink, SCHEMA))
        for batch in passages():
            writer.write_table(batch)
            token_ids: list[int] = []
            start = ends[-1]
            for title, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                words = split_words(f"{title} {text}") if text.strip() else []  # a title without text is no hit
                token_ids += [token_id for word in words if (token_id := vocabulary[word]) >= 0]
                ends.append(start + len(token_ids))
            file.write(np.array(token_ids, np.int32).tobytes())
            bar.update(len(batch))
    for word in stop_words:
        del vocabulary[word]
    return _TokenisedCorpus(_TokenIds(folder / TOKEN_IDS, ends), dict(vocabulary))
