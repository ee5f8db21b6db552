"""WikiSearch: BM25 search over a local corpus of passages.

This is the tool of TRICE's task `qa`. The paper searched abstracts of Wikipedia with ColBERTv2; `endpoint` queries such
a server. A call over a corpus of one passage:

    WikiSearch(common fig) -> ("Fig | The fig is the edible fruit of Ficus carica.",)

The value is a tuple of at most `k` passages, best first. Each is `title | text` as in ColBERTv2's index, with the text
truncated to `words` words. Passages that share no word with the query are not returned; if no passage remains, the
error is `no_result`. The index is built once per corpus (see `bm25`) and stays on disk, with a copy of the passages.

Not covered: corpora whose index does not fit into memory while it is built; splitting of long articles (all words are
searched, but only the beginning is returned).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from datasets import Dataset

from toolrlef_data.records import InputError, ToolResult
from toolrlef_data.tools.search.bm25 import Index, bm25s_version, build_index, open_index
from toolrlef_data.tools.search.corpus import first_words, open_corpus
from toolrlef_data.tools.tool import Tool, ToolInput

__all__ = ["DESCRIPTION", "MAX_QUERY", "check_query", "check_sizes", "wiki_search"]

DESCRIPTION = "Searches Wikipedia for a search term and gives the passages that fit best."
MAX_QUERY = 4000  # characters


@dataclass(frozen=True)
class Search:
    """Settings of a search: the index, the maximum number of passages, and their maximum length in words."""

    index: str
    k: int
    words: int


def wiki_search(corpus: Dataset | str | Path, *, name: str = "WikiSearch", k: int = 2, words: int = 384) -> Tool:
    """Return a search tool over a corpus; the first call for a corpus builds its index, later calls reuse it.

    Args:
        corpus: one of:

            - a `datasets.Dataset` with the columns title and text, such as
              `load_dataset("wikimedia/wikipedia", "20231101.en", split="train")`;
            - a path to .jsonl or .parquet files or to a saved dataset;
            - "sample", the passages included in this package.
        name: name of the tool in a call. Default "WikiSearch".
        k: maximum number of passages per call. Default 2, as in arXiv 2305.13068.
        words: maximum number of words per passage. Default 384, as in arXiv 2305.13068.

    Returns:
        A slow tool whose value is a tuple of passages.

    Raises:
        InputError: the corpus is empty or unreadable, or k or words is not a positive integer.
        MissingColumns: the corpus lacks title or text.

    >>> corpus = Dataset.from_dict({"title": ["Fig", "Oak"], "text": ["A sweet fruit.", "A tree with acorns."]})
    >>> tool = wiki_search(corpus)
    >>> tool.run("sweet fruits of figs").value, tool.run("of the").error
    (('Fig | A sweet fruit.',), 'no_result')
    """
    check_sizes(k=k, words=words)
    index = build_index(open_corpus(corpus))
    return Tool(
        name,
        DESCRIPTION,
        parameter="query",
        many=partial(_search, Search(index, k, words)),
        version=f"bm25s {bm25s_version()} corpus {index[:16]} k={k} words={words}",
    )


def check_sizes(**sizes: int) -> None:
    """Raise InputError if a size is not a positive integer."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise InputError(f"{name} must be a whole number of at least 1, found {size!r}")


def check_query(query: str) -> ToolResult | None:
    """Return an error for a query that is empty or too long, else None.

    >>> check_query("figs") is None, check_query(" ").error
    (True, 'empty')
    """
    if not query.strip():
        return ToolResult(error="empty", detail="the search term is empty")
    if len(query) > MAX_QUERY:
        return ToolResult(error="too_large", detail=f"a search term has at most {MAX_QUERY} characters")
    return None


def _search(settings: Search, inputs: Sequence[ToolInput]) -> list[ToolResult]:
    index = open_index(settings.index)
    return [check_query(call.argument) or _hits(index, settings, call.argument) for call in inputs]


def _hits(index: Index, settings: Search, query: str) -> ToolResult:
    rows = index.top_k(query, settings.k)
    if not rows:
        return ToolResult(error="no_result", detail="no passage shares a word with the search term")
    titles, texts = index.passages.columns
    hits = [(titles[row].as_py(), first_words(texts[row].as_py(), settings.words)) for row in rows]
    return ToolResult(tuple(f"{title} | {text}" if title else text for title, text in hits))
