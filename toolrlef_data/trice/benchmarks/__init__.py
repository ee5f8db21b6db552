"""Benchmarks of others, read from local files: When2Call, BFCL and When2Tool.

| module | content |
|---|---|
| `files` | reads the rows of a benchmark's files |
| `choices` | multiple choice by log-probabilities, as When2Call's evaluation |
| `function_calls` | one response per question with functions offered, as BFCL's evaluation |
| `accepted` | whether the arguments of a call are accepted |
| `offered` | the functions that a row offers: their schemas, the prompt, and the calls in a response |
"""
