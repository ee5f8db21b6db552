"""Log-probabilities of given responses by a causal language model on this machine.

| module | contents |
|---|---|
| `layouts` | token log-probabilities of a batch of rows, in four layouts |
"""
