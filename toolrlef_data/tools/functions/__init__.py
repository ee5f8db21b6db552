"""Functions that a model calls with JSON arguments, as described by a JSON schema.

`function` describes a Python callable or an HTTP endpoint, and `execution` calls it. `arguments` parses the model's
arguments and validates them against the schema, which `schemas` compiles. `python_tools` turns Python functions
into tools of TRICE tasks.
"""
