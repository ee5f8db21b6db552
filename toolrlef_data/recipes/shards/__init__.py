"""Shards: a recipe on many machines, each of which runs it on a range of the rows.

`numbers` reads the number of a shard from the command or from a scheduler's variables. `running` runs one shard and
writes its tables, ledger and record; `merging` puts the shards together and publishes them. `chains` determines the
stages of a recipe without running them, and adds up their records; `limits` divides caps and rates; `folders` has the
names of the files, the locks and the checks.

A shard has a stage cache and a reply store of its own. Its tables have the fingerprints of a local run, since a
fingerprint covers the source, the settings and the code, and the range is in none of them. The merged tables therefore
have the lineage of a local run, and `publish` writes the same files.
"""
