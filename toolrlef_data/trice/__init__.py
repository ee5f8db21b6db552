"""TRICE: behaviour cloning (stage 1) and ranking data (stage 2), with execution feedback.

| module | content |
|---|---|
| `student` | asks the student, and grades its responses |
| `stage1` | builds the targets of behaviour cloning |
| `teachers` | propose tool calls for wrong answers and verify them by execution |
| `annotations` | the teacher that composes formulas from worked solutions |
| `execution` | executes the calls in responses and grades the predictions |
| `call_execution` | executes calls by a tool, from stored results or from a cassette |
| `reader` | asks a model to extract predictions from tool outputs |
| `need` | measures whether a model needs the tool, and labels stage 1 by it |
| `offers` | questions as rows of stage 1 without an output |
| `responders` | adds one column of responses per responder |
| `reply_check` | turns replies that were cut off or are empty into missing responses |
| `stage2` | executes all responses and scores them |
| `scoring` | the scoring rules, and the stage that applies them |
| `ranking` | the log-probabilities of stage 2's responses, and their agreement with the scores |
| `not_calling` | variants of rows on which the right behaviour is not to call the tool |
| `cassette` | records executions and replays them |
| `evaluation` | evaluates a model without the tool and with it |
| `benchmarks` | the rows of benchmarks of others: When2Call, BFCL, When2Tool |
| `training` | trains LoRA adapters on stage 1 and stage 2 |
| `files` | reads and writes the original's JSON Lines |
| `row_tasks` | maps the task names of a table to tasks, and warns of grades that are out of date |
"""
