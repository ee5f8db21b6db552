"""Recipes: a complete run as one YAML file. The YAML files in this folder are bundled recipes.

`schema` defines the sections, `checks` validates their combination, `loading` loads a recipe, `runner` runs it,
`preview` on a few rows, `shards` on many machines.
"""
