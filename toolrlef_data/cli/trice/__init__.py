"""The commands of TRICE's documents: `toolrlef-data trice`.

Each command is also a module with the name of the original's script:

    python -m toolrlef_data.cli.trice.generate_tool_api --input F --output F --dataset_name GSM8K --engine NAME

| module | command |
|---|---|
| `answer` | the student's answers, graded into right and wrong rows |
| `generate_tool_api` | a call for each wrong row |
| `merge` | right and wrong rows as stage 1; several files as one |
| `generate_response_gpt` | responses of a model behind an API |
| `generate_response_llama` | responses of a local model |
| `score` | the response files as stage 2 |
| `group` | the group of commands |
| `flags` | options that several commands share, in any spelling |
| `models` | models and tools from options |
| `responses` | what both response commands do |
| `reports` | what the commands print |

docs/trice.md shows the commands in order.
"""
