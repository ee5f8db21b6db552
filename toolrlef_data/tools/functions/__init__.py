"""Functions that a model calls with JSON arguments, as described by a JSON schema.

`function` describes and executes a Python callable or an HTTP endpoint. `arguments` parses the model's arguments and
validates them against the schema, which `schemas` compiles.
"""
