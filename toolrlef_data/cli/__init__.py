"""Command line: `toolrlef-data`.

`main` has the commands for recipes, `trajectories` those for ToolBench, `console` what they print.
"""
