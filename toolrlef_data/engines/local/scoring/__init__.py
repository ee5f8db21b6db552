"""Log-probabilities of given responses by a causal language model on this machine.

| module | contents |
|---|---|
| `layouts` | token log-probabilities of a batch of rows, in four layouts; they keep gradients |
| `selection` | the fastest layout that is exact for a model, by a self-test |
| `scorer` | sums for many rows, in batches within limits on tokens and memory |
| `requests` | requests for the log-probability of a response, and their token ids |
| `engine` | `ScoringEngine`: from requests to replies |
| `workers` | one worker process per device, which runs `worker` |
"""
