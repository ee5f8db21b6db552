"""WikiSearch: BM25 search over a corpus of passages on this machine.

The tool of TRICE's task `qa`; the paper searched abstracts of Wikipedia with ColBERTv2, which `search.endpoint` asks.
One call, over a corpus of one passage:

    WikiSearch(common fig) -> ("Fig | The fig is the edible fruit of Ficus carica.",)

The value is a tuple of at most `k` passages, the best first, each `title | text` as ColBERTv2's index has them, the
text cut to `words` words. Passages that share no word with the query are no hits; without a hit the error is
`no_result`. The index is built once for a corpus (`tools.bm25_index` says how, and what a word is) and stays on the
disk, with a copy of the passages.

Not covered: corpora whose index does not fit into memory while it is built; splitting: of an article that is longer
than `words`, all words count for the search, but only the beginning is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from datasets import Dataset

from toolrlef_data.records import InputError, ToolResult
from toolrlef_data.tools.search.bm25 import Index, bm25s_version, built_index, open_index
from toolrlef_data.tools.search.corpus import cut, open_corpus
from toolrlef_data.tools.tool import Tool, ToolInput

__all__ = ["DESCRIPTION", "MAX_QUERY", "check_query", "check_sizes", "wiki_search"]

DESCRIPTION = "Searches Wikipedia for a search term and gives the passages that fit best."
MAX_QUERY = 4000  # characters; longer ones are no search terms


@dataclass(frozen=True)
class Search:
    """Which index is searched, and what is given of it."""

    index: str
    k: int
    words: int


def wiki_search(corpus: Dataset | str | Path, *, name: str = "WikiSearch", k: int = 2, words: int = 384) -> Tool:
    """A search tool over a corpus, indexed at the first call; later calls, in any process, find the index.

    Args:
        corpus: a `datasets.Dataset` with the columns title and text, such as
            `load_dataset("wikimedia/wikipedia", "20231101.en", split="train")`; or a path, of .jsonl or .parquet files
            or of a saved data set; or "sample", the passages that come with this package.
        name: as responses write it.
        k: passages a call at most (arXiv 2305.13068: 2).
        words: of a passage at most (384 there).

    Raises:
        InputError: the corpus is empty or cannot be read, or k or words is not a positive whole number.
        MissingColumns: the corpus lacks title or text.

    >>> corpus = Dataset.from_dict({"title": ["Fig", "Oak"], "text": ["A sweet fruit.", "A tree with acorns."]})
    >>> tool = wiki_search(corpus)
    >>> tool.run("sweet fruits of figs").value, tool.run("of the").error
    (('Fig | A sweet fruit.',), 'no_result')
    """
    check_sizes(k=k, words=words)
    index = built_index(open_corpus(corpus))
    return Tool(
        name,
        DESCRIPTION,
        parameter="query",
        many=partial(_search, Search(index, k, words)),
        version=f"bm25s {bm25s_version()} corpus {index[:16]} k={k} words={words}",
    )


def check_sizes(**sizes: int) -> None:
    """Raise InputError where one is not a positive whole number."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise InputError(f"{name} must be a whole number of at least 1, found {size!r}")


def check_query(query: str) -> ToolResult | None:
    """What a query gives that no search is asked for: an empty or an endless one.

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
    return [check_query(each.argument) or _found(index, settings, each.argument) for each in inputs]


def _found(index: Index, settings: Search, query: str) -> ToolResult:
    hits = index.best(query, settings.k)
    if not hits:
        return ToolResult(error="no_result", detail="no passage shares a word with the search term")
    titles, texts = index.passages.columns
    found = [(titles[hit].as_py(), cut(texts[hit].as_py(), settings.words)) for hit in hits]
    return ToolResult(tuple(f"{title} | {text}" if title else text for title, text in found))
