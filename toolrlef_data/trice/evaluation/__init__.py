"""Evaluation of a model: how often it is right without the tool and with it, and when it calls.

| module | content |
|---|---|
| `outcomes` | `evaluate`: a model answers, its calls are executed, and all is graded |
| `report` | the figures of an evaluation, with intervals, as text and as a plot |
| `figures` | the figures of each kind of evaluation |
| `intervals` | shares and their differences, with 95 % intervals |
"""
