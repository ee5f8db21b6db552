"""Test sets, and the questions of a table that overlap them.

| module | contents |
|---|---|
| `reading` | the questions of test sets: tables, files, and sources of this package |
| `decontamination` | `decontaminate` and `overlaps` |
"""
