"""Recipes: a whole run as one YAML file; those beside this file come with the package.

`schema` says what a recipe holds, `checks` find its mistakes with file and line, `runner` runs it.
"""
