"""Need and use: whether a model is right without the tool, and whether it is right with it.

| module | content |
|---|---|
| `counterfactual` | `counterfactual`: samples of both kinds, the share of right ones, and the class of each question |
| `classes` | the classes of questions, and the thresholds between them |
| `labels` | the labels of stage 1 by these classes |
| `agreement` | `agreement`: the classes of two models compared |

Whether a model needs a tool is measured on the model itself, as in arXiv 2605.14038. Unlike there, both sides are
measured: a tool may also turn right answers into wrong ones.
"""
