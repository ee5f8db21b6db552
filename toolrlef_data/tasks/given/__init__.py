"""The tasks that the user of this process has given: which task belongs to the rows of a table.

A table names its tasks in the column `task`. A name is looked up in the lineage of the table (`memory`), then among the
tasks given in this process, then in `TASKS`. Tasks are never imported by a name in a file. `checks` refuses tasks that
another process would take for one of `TASKS`.
"""
