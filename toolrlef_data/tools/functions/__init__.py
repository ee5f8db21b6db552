"""Functions: what a model may call by a JSON schema, a Python callable or a server.

`function` describes and executes one; `arguments` reads what the model wrote as its arguments and checks it against the
schema, which `schemas` compiles.
"""
