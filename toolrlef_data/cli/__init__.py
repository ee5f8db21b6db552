"""Command line: `toolrlef-data`.

`main` contains the entry point and the command `run`; `trajectories` contains the commands `search` and `trajectories`;
`console` formats their output.
"""
