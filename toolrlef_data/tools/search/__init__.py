"""Search: passages by their words.

`wiki_search` makes the tool from a corpus: `corpus` reads passages, `bm25` indexes and ranks them. `endpoint` makes
it from a server that searches.
"""
