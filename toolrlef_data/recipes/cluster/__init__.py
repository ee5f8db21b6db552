"""Runs on a Ray cluster; ray is an extra and is imported only when a run begins.

`pool` gives numbered jobs to actors, and starts those of lost actors again. `workers` is the actor of a recipe's
shards, and `shard_runs` runs all shards of a recipe with it and merges them.
"""
