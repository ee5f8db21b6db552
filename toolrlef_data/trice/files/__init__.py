"""Files: the original's JSON Lines, as its repository publishes them.

`writer` writes tables in both layouts. `loader` reads them back: `folder` finds the files, `entries` reads their lines,
`task_entries` brings the files of one question together, and `rows` makes the tables.
"""
