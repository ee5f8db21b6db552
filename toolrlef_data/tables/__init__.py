"""Tables: cached `map` and `filter` over Arrow tables, and what is known of every table.

`transform` runs a step over a table, batch by batch (`batches`), under a key of our own: `fingerprint` turns settings
into values, and `code_digest` covers the code that the step reaches. The result is a file with a record beside it
(`stage_cache`, by `files` that are whole or not there). From the records, `lineage` tells how a table was made and
which rows were dropped, `redaction` what others may read of it. `subsets` and `splits` draw rows, with `identity`
saying when two rows are the same question.
"""
