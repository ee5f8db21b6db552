"""Rows of similar text: overlaps with test questions, and near-duplicates within a table or between two tables.

| module | contents |
|---|---|
| `words` | the words of a text without case, punctuation and numbers, and the hashes of their n-grams |
| `search` | the search for the test question that a text overlaps, and the rules of an overlap |
| `stage` | the stages that list overlapping rows, and drop them |
| `removal` | the removal of the rows of a list |
| `minhash` | MinHash signatures, and the pairs of rows whose signatures agree in part |
| `near_duplicates` | the stages that list near-duplicates, and drop them |
"""
