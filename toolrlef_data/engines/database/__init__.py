"""The SQLite file of the reply store: opening, checks, and recovery after damage.

| module | contents |
|---|---|
| `connection` | opening a database file, with checks; creation and repair by one process at a time |
| `schema` | the tables of a file, compared with their definition |
| `rows` | replies as text with a checksum |
| `wal` | damage in a write-ahead log |
| `merging` | several stores copied into one |
| `sources` | reading of a store that is copied |
| `salvage` | the rows in the bytes of a damaged file |
"""
