"""The log-probabilities of stage 2's responses, and their agreement with the scores.

| module | content |
|---|---|
| `logprobs` | adds the log-probability of every response |
| `agreement` | compares the order of log-probabilities with the order of scores; drops rows whose ranking is learnt |
"""
