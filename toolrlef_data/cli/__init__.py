"""Command line: `toolrlef-data`.

`main` contains the entry point and the command `run`; `hub` contains the command `push`; `search` and `trajectories`
contain the commands of these names;
`console` formats their output.
"""
