"""Reinforcement learning: a task as the reward and the environment of a trainer.

`rewards` has the reward function for TRL, `environments` the environment for TRL. The taskset for verifiers is the
module `toolrlef_taskset` beside this package.
"""
