"""Need and use: whether a model is right without the tool, and whether it is right with it.

| module | content |
|---|---|
| `counterfactual` | `counterfactual`: samples of both kinds, their shares of right samples, and the class |
| `classes` | the classes of questions, and the thresholds between them |
| `labels` | the labels of stage 1 by these classes |
| `questions` | what identifies a question |
| `agreement` | `agreement`: the classes of two models compared |

Whether a model needs a tool is measured on the model itself, as in arXiv 2605.14038. Unlike there, both sides are
measured: with a tool, a model may be wrong where it is right without it.
"""
