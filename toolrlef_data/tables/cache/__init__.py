"""What is in the stage cache, the batches of its files, and the removal of stages.

| module | content |
|---|---|
| `batch_sizes` | the sizes of the record batches of a file |
| `processes` | which processes use the stages of a folder, and when a stage was last used |
| `removal` | the stages on disk; the choice and removal of stages |
"""
