"""Command line: `toolrlef-data`.

`main` has the entry point and the command for recipes, `trajectories` the commands for ToolBench data, `console` the
output of all commands.
"""
