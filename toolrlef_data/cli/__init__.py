"""Command line: `toolrlef-data`.

`main` contains the entry point and the command `run`; `hub` contains the command `push`; `shards` contains the commands
for many machines. `cache`, `report`, `search`, `show` and `trajectories` contain the commands of these names; the
folder `trice` contains the commands of TRICE's documents; `console` formats their output.
"""
