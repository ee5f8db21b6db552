"""Publishing: finished tables as a data set folder with a data card, and as training files.

`folder` writes the folder: `parquet_files`, the `card`, and the `recipe_file`, or files in TRICE's format. `placement`
replaces the files of an earlier publication, which `manifest` lists; `locks` admits one process at a time. `provenance`
summarises the lineage. `figures` draws charts from counts, and `markdown` escapes texts of the card. `exports` writes
training files for other trainers. `rl` has the reward and the environment of a task. `hub` pushes a published folder.
`viewing` shows rows of a table, and `report` all rows of a published folder as a page for a browser.
"""
