"""Reinforcement learning: a task as the reward and the environment of a trainer.

`rewards` has the reward function for TRL.
"""
