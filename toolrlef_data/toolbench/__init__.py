"""ToolBench: training samples from answer files, and trajectory searches that produce new answer files.

"Upstream" is ToolBench's repository (https://github.com/OpenBMB/ToolBench).

- `answer_file` parses one answer file in upstream's format; `tree` reads and writes its search tree.
- `histories` builds the message history of each step; `messages` validates messages and converts them to OpenAI's;
  `flags` describes what is unusual about a step.
- `samples` builds training samples, one per step or merged (`merging`); `toolllama` writes upstream's text format.
- `preferences` pairs chosen and rejected steps.
- `tokens` converts samples to token ids and labels.
- `search` generates new answer files with a model, using the texts of `prompts`.
"""
