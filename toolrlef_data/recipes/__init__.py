"""Recipes: a whole run as one YAML file; those beside this file come with the package.

`schema` says what a recipe holds, `check` finds its mistakes with file and line, `run` runs it.
"""
