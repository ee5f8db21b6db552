"""Parsing and rendering of calls in text.

| module | contents |
|---|---|
| `calls` | the calls in a response, native calls, and the text of a call |
| `call_parser` | calls in parentheses |
| `call_formats` | calls as JSON and in tags |
| `call_arguments` | the arguments of a call |
| `parameters` | the arguments of tools that take several |
| `json_text` | strict JSON and literals in text |
"""
