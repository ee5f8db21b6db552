"""Runs on a Ray cluster; ray is an extra and is imported only when a run begins.

`pool` gives numbered jobs to actors, and starts those of lost actors again; `workers` has the actors. `shard_runs` runs
all shards of a recipe and merges them. `steps` is `backend`, for the functions for tables.
"""
