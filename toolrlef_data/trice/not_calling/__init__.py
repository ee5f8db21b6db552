"""Rows on which the right behaviour is not to call a tool: `without_tool`.

| module | content |
|---|---|
| `stage` | the stage `without_tool` |
| `kinds` | the four kinds of variants |
| `originals` | the call and the own answer of a row |
| `offers` | the tools that a row offers |
| `withholding` | withholds a number of a question |
| `clauses` | finds clauses that state a number, and asks for it |
| `grammar` | the English words that `clauses` reads |
| `recoverable` | whether a withheld number follows from the rest of the question |
| `texts`, `chat` | the fixed texts |
"""
