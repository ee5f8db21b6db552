"""The batches of a table: the map over them, the functions that are mapped, their memory and their sizes in a file.

| module | content |
|---|---|
| `mapping` | the map over the batches of a table, in this process or on other machines |
| `functions` | the functions that are mapped |
| `memory` | stages allocate from the system |
| `sizes` | the sizes of the record batches of a file |
"""
