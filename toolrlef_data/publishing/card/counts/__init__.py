"""Numbers of the card that are sums over batches of rows, so that any number of shards gives the same card.

`counting` has the counts of a table, `keys` their type and their sum; `targets`, `rankings`, `responses` and `texts`
count the rows of one kind each. `summaries` turns sums of counts into rows of the card's tables. `questions` finds
repeated questions, for which it keeps 8 bytes per row.
"""
