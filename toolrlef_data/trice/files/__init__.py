"""Files: the original's JSON Lines, as its repository publishes them.

`write` writes tables in both layouts. `load` reads them back: `folder` finds the files, `entries` reads their lines,
`join` brings the files of one question together, and `rows` makes the tables.
"""
