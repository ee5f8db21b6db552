"""Passage search.

`wiki_search` builds a search tool from a corpus: `corpus` reads the passages, `bm25` indexes and ranks them. `endpoint`
builds a search tool from a search server.
"""
