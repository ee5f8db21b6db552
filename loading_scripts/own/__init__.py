"""Questions of the user: from a file, a folder, the Hub, or a table in memory.

| module | contents |
|---|---|
| `tables` | the rows of a table in memory, of `datasets`, pandas, Polars or as dicts |
| `files` | the rows of CSV, JSON, JSON Lines and Parquet files, and of the Hub |
| `rows` | a row of other columns as a question, or as a drop |
| `contradictions` | rows with the same question and other gold answers |
| `questions` | `make_questions`, and the table with its record |
"""
