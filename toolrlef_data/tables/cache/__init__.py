"""What is in the stage cache, and the removal of stages.

| module | content |
|---|---|
| `processes` | which processes use the stages of a folder, and when a stage was last used |
| `removal` | the stages on disk; the choice and removal of stages |
"""
