"""Reinforcement learning: a task as the reward and the environment of a trainer.

| module | content |
|---|---|
| `rewards` | the reward function for TRL |
| `environments` | the environment for TRL |
| `taskset` | the taskset for verifiers |
"""
