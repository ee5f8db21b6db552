"""The SQLite file of the reply store: opening, checks, and recovery after damage.

| module | contents |
|---|---|
| `connection` | opening a database file, with checks; creation and repair by one process at a time |
| `rows` | replies as text with a checksum |
| `wal` | damage in a write-ahead log |
| `merging` | several stores copied into one |
| `salvage` | the rows in the bytes of a damaged file |
"""
