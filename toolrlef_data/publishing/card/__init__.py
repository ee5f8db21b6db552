"""The data card (README.md) of a published folder, with numbers computed from its tables.

`writing` fills the templates of `cards/`, `metadata` is the front matter, and `figure_facts` writes the figures. Facts
of the templates: `counts` are sums over rows, `row_facts` and `step_facts` count rows, `column_facts` has columns.
`source_facts` names data sets and licences, `prompt_facts` has prompts, `model_facts` models and tools. `grader_facts`
has error rates, `training_facts` trainers and lengths, `need_facts` who needs the tool.
"""
