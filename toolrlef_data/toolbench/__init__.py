"""ToolBench: answer files become training samples, and new answer files are searched for.

`answer_file` is one search as upstream stores it; `tree` walks it, `histories` say what the model had seen at a step,
`messages` normalises that. `samples` makes rows of it, split by step or merged (`merging`), in upstream's style
(`toolllama`) or as messages; `preferences` pairs chosen and rejected steps; `tokens` has token ids and labels.
`search` makes new answer files with a model, asked by the `prompts`.
"""
