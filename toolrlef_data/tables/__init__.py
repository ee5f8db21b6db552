"""Tables: cached stages over Arrow tables, with lineage and a ledger of dropped rows.

`transform` applies a row function or batch function to a table, batch by batch (`batches`); `reshape` makes other rows
and puts tables together. The cache key comes from `fingerprint` (the settings) and `code_digest` (the code that the
function uses). `stage_cache` stores the result with its record, through the atomic writes of `files`, and checks both
with their `checksums` before it reads them; `row_files` stores tables that no stage made; `cache` removes stages.
`lineage` reads the records: the stages that produced a table, and the ledger. `redaction` removes secrets from texts,
and local paths and private servers from the settings before they are published. `sampling` draws rows, and `overlap`
finds rows of similar text; `identity` decides which rows are the same question.
"""
