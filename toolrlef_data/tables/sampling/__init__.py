"""Rows drawn from tables, with records of what was drawn.

`subsets` draws rows of questions for the splits of a data set. `splits` divides queries into train and test, and
shuffles steps.
"""
