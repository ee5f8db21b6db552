"""Exports: tables as training files of TRL, LLaMA-Factory, axolotl, OpenAI, ToolLLaMA and RRHF.

`formats` has the table `EXPORTS`: for each format the tables that it accepts. `stage1`, `stage2`, `trajectories` and
`llamafactory` have the functions that turn a row into records. `turns` has the prompts and replies of stage 1 and
stage 2, `messages` the messages of trajectories. `options` checks the options. `conversion` converts the rows of a
table, `writing` has `export` and `trainer_table` has `to_trainer`. `lengths` counts tokens, and checks records with a
model's chat template.
"""
