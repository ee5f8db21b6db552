"""TRICE's JSON Lines files, in the two layouts of its repository (https://github.com/zjunlp/TRICE).

| module | content |
|---|---|
| `writer` | writes tables in both layouts |
| `lines` | turns rows into lines of the files |
| `loader` | reads a folder as tables |
| `folder` | finds the files and reads their lines |
| `entries` | parses lines as entries of a task and a data set |
| `task_entries` | joins the entries of one task across files |
| `rows` | builds the rows of the tables |
| `names` | names of data sets and ids of rows |
| `steps` | reads and continues the file of one step, and replaces it in one piece |
| `step_tables` | rows of such a file as tables, and rows that a step writes |
| `response_files` | scores the response files of one folder |
"""
