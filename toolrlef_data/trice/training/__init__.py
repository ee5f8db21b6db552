"""Training of LoRA adapters on stage 1 and stage 2, to warm up responders and to try a data set.

| module | content |
|---|---|
| `adapter` | `train`, which stores an adapter per set of inputs |
| `warm_up` | `warm_up`, a short training run on stage 1 |
| `samples` | tokenised rows, and their order in batches |
| `losses` | behaviour cloning and the ranking loss |
| `updates` | the optimizer updates, by the Trainer of transformers |

For a complete training framework, export the rows to a trainer.
"""
