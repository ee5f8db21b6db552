"""Publishing: finished tables as a data set folder with a data card, and as training files.

`folder` writes Parquet files and the card, or files in TRICE's format. `placement` replaces the files of an earlier
publication, which `manifest` lists; `locks` admits one process at a time. `provenance` summarises the lineage. `card`
writes the card; `row_facts`, `step_facts` and `grader_facts` compute its numbers. `exports` writes training files for
other trainers. `rl` has the reward and the environment of a task. `hub` pushes a published folder.
"""
