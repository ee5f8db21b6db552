"""Annotations: tool calls composed from upstream's worked solutions, a teacher that is no model.

`composer` makes one expression from the steps of a solution; `formulas` parses them, `constants` are the numbers that
may stand in one without standing in the question.
"""
