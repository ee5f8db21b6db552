"""The schema: column names and `datasets.Features` of every table.

| table | columns |
|---|---|
| questions | id, task, dataset, question, context, answers (gold), solution (worked solution), split_origin |
| answered | + response: RESPONSE, samples: the further samples of the same question |
| graded | + prediction, correct (null: not gradable), pass_rate, needs_tool |
| labelled | + tool_call, tool_output, verified, verified_by, attempts, teacher, rejected: by attempt |
| stage1 | instruction, input, output; id, task, dataset, answers, uses_tool, source, verified_by |
| not_calling | stage1's + kind, tools, rejected, check |
| responded | stage1's + one RESPONSE struct per responder, named after it; the first is `gold` |
| executed | the same; the fields from `n_calls` to `correct` of each RESPONSE have values |
| stage2 | query, responses, origin, scores, answer; id, task, dataset, answers, uses_tool, tool_outputs, errors, ... |
| need | id, task, dataset, p_plain, n_plain, ..., p_tool, n_tool, ..., need, model; also columns of stage1 and stage2 |
| dropped | id, task, dataset, stage, reason, detail |
| answers | id, task, dataset, query, finish_type, valid, win, n_calls, total_tokens, source_file, answer |
| trajectories | id ... query, step, steps, n_steps, layout, history, messages, tools, ..., on_path, ..., flags |
| toolllama | id ... query, step, name, history, conversations, finish_type, on_path, source_file, flags |
| pairs | id ... query, step, prompt, chosen, rejected, why, tools, finish_type, source_file, flags |

`source` is "student", "teacher" or "question" (a call that needed no teacher); in rows of `without_tool` also
"template" (a fixed text) or the name of a responder. `verified_by` is "value", "output" or
"reader" (see `teachers`); it is null for the student's responses and for unverified calls.

In the table of answer files, `answer` is a complete ToolBench answer file as JSON text. `steps` contains the numbers of
the steps that a sample trains, and `step` the last of them. `tools` is a JSON list of function schemas (see
`trajectories`).

The tables of all tasks have the same features and can be concatenated. Scores are float64, not `Json()`, which rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datasets import Features, List, Value

__all__ = [
    "ANSWERED",
    "ANSWERS",
    "DROPPED",
    "GRADED",
    "LABELLED",
    "LATER_FIELDS",
    "MESSAGE",
    "NEED",
    "NOT_CALLING",
    "PAIRS",
    "QUESTIONS",
    "RESPONSE",
    "STAGE1",
    "STAGE2",
    "STAGE2_LATER",
    "TOOLLLAMA",
    "TRAJECTORIES",
    "completed",
    "renamed_columns",
    "responders_of",
]

STRING, INT, BOOL, FLOAT = Value("string"), Value("int64"), Value("bool"), Value("float64")

RESPONSE: dict[str, Value | List] = {
    "text": STRING,  # the text that is parsed and graded; null if and only if `error` is set
    "reasoning": STRING,  # never parsed
    "raw": STRING,  # the reply, including reasoning and surrounding whitespace
    "finish_reason": STRING,
    "error": STRING,
    "error_detail": STRING,
    "n_calls": INT,
    "tool": STRING,  # also set for a failed call, which has no argument
    "argument": STRING,
    "arguments": STRING,  # all arguments of the call as a JSON object
    "tool_output": STRING,
    "tool_error": STRING,
    "tool_error_detail": STRING,
    "predictions": List(STRING),
    "correct": BOOL,
    "prompt_tokens": INT,
    "completion_tokens": INT,
}

LATER_FIELDS = frozenset({"arguments", "tool_error_detail"})  # fields of RESPONSE that tables published before lack

QUESTIONS = Features(
    id=STRING,
    task=STRING,
    dataset=STRING,
    question=STRING,
    context=STRING,
    answers=List(STRING),
    solution=STRING,
    split_origin=STRING,
)
ANSWERED = Features(**QUESTIONS, response=RESPONSE, samples=List(RESPONSE))
GRADED = Features(**ANSWERED, prediction=STRING, correct=BOOL, pass_rate=Value("float64"), needs_tool=BOOL)
LABELLED = Features(
    **GRADED,
    tool_call=STRING,
    tool_output=STRING,
    verified=BOOL,
    verified_by=STRING,
    attempts=INT,
    teacher=STRING,
    rejected=List(STRING),
)
STAGE1 = Features(
    instruction=STRING,
    input=STRING,
    output=STRING,
    id=STRING,
    task=STRING,
    dataset=STRING,
    answers=List(STRING),
    uses_tool=BOOL,
    source=STRING,
    verified_by=STRING,
)
NOT_CALLING = Features(
    **STAGE1,
    kind=STRING,  # null in a row of stage 1, if both are in one table
    tools=STRING,  # what the row offers; the tool of the task if `kind` is null
    rejected=STRING,
    check=STRING,
)
STAGE2 = Features(
    query=STRING,
    responses=List(STRING),
    origin=List(STRING),
    scores=List(Value("float64")),
    answer=List(STRING),
    id=STRING,
    task=STRING,
    dataset=STRING,
    answers=List(STRING),
    uses_tool=List(BOOL),
    tool_outputs=List(STRING),
    errors=List(STRING),
    rule=STRING,
    instruction=STRING,
    input=STRING,
    correct=List(BOOL),  # null: the response could not be graded
    finish_reasons=List(STRING),
    error_details=List(STRING),  # what the tool said about each error of `errors`
)
STAGE2_LATER = frozenset(
    {"instruction", "input", "correct", "finish_reasons", "error_details"}
)  # missing in older tables
# Measured of one model (`counterfactual`): a table of their own, and columns of the stages that are built with it.
NEED = Features(
    id=STRING,
    task=STRING,
    dataset=STRING,
    p_plain=FLOAT,  # share of right responses without the tool
    p_plain_low=FLOAT,
    p_plain_high=FLOAT,
    n_plain=INT,  # graded responses
    tokens_plain=FLOAT,  # mean tokens of a reply
    calls_plain=FLOAT,  # mean calls of a response
    p_tool=FLOAT,
    p_tool_low=FLOAT,
    p_tool_high=FLOAT,
    n_tool=INT,
    tokens_tool=FLOAT,
    calls_tool=FLOAT,
    need=STRING,  # the class
    model=STRING,
)
DROPPED = Features(id=STRING, task=STRING, dataset=STRING, stage=STRING, reason=STRING, detail=STRING)

ANSWERS = Features(
    id=STRING,
    task=STRING,
    dataset=STRING,
    query=STRING,
    finish_type=STRING,  # "give_answer", "give_up", or null if the file has none
    valid=BOOL,  # ToolBench's valid_data
    win=BOOL,
    n_calls=INT,  # number of requests to the model
    total_tokens=INT,
    source_file=STRING,
    answer=STRING,
)
# A message in OpenAI's format; `train` marks the training targets.
MESSAGE: dict[str, Value | List] = {
    "role": STRING,  # system, user, assistant, tool
    "content": STRING,
    "name": STRING,  # of the function, in a tool message
    "tool_call_id": STRING,
    "tool_calls": List({"id": STRING, "type": STRING, "function": {"name": STRING, "arguments": STRING}}),
    "train": BOOL,
}
TRAJECTORIES = Features(
    id=STRING,
    task=STRING,
    dataset=STRING,
    query=STRING,
    step=INT,
    steps=List(INT),
    n_steps=INT,  # number of steps of the complete trajectory
    layout=STRING,
    history=STRING,
    messages=List(MESSAGE),
    tools=STRING,
    finish_type=STRING,
    on_path=BOOL,  # whether all its steps belong to the chosen path; TRL has another meaning for a column `chosen`
    on_path_steps=List(INT),  # the `steps` that belong to it
    source_file=STRING,
    flags=List(STRING),
)
TOOLLLAMA = Features(
    id=STRING,
    task=STRING,
    dataset=STRING,
    query=STRING,
    step=INT,
    name=STRING,  # ToolBench's id, which is not unique
    history=STRING,
    conversations=List({"from": STRING, "value": STRING}),
    finish_type=STRING,
    on_path=BOOL,
    source_file=STRING,
    flags=List(STRING),
)
PAIRS = Features(
    id=STRING,
    task=STRING,
    dataset=STRING,
    query=STRING,
    step=INT,
    prompt=List(MESSAGE),
    chosen=List(MESSAGE),
    rejected=List(MESSAGE),
    why=STRING,  # why the other branch was rejected
    tools=STRING,
    finish_type=STRING,
    source_file=STRING,
    flags=List(STRING),
)


def completed(features: Features) -> Features:
    """Return the features of a table with the columns and fields that it lacks if an earlier version built it.

    >>> old = {name: feature for name, feature in RESPONSE.items() if name not in LATER_FIELDS}
    >>> completed(Features(id=STRING, response=old, samples=List(old))) == Features(
    ...     id=STRING, response=RESPONSE, samples=List(RESPONSE)
    ... )
    True
    """
    later = STAGE2_LATER if set(STAGE2) - STAGE2_LATER <= set(features) else frozenset()
    columns = {name: _completed(feature) for name, feature in features.items()}
    return Features(columns | {name: STAGE2[name] for name in STAGE2 if name in later and name not in features})


def _completed(feature: Any) -> Any:
    if isinstance(feature, List):
        return List(_completed(feature.feature), length=feature.length)
    return dict(RESPONSE) if isinstance(feature, dict) and _is_response(feature) else feature


def _is_response(feature: Mapping[str, Any]) -> bool:
    """Return whether a struct has the fields of RESPONSE; it may lack `LATER_FIELDS`."""
    return RESPONSE.keys() - LATER_FIELDS <= feature.keys() <= RESPONSE.keys()


def renamed_columns(features: Features) -> dict[str, str]:
    """Return old name -> name of the columns that an earlier version of this package named differently.

    >>> renamed_columns(Features(id=STRING, chosen=BOOL)), renamed_columns(PAIRS), renamed_columns(TRAJECTORIES)
    ({'chosen': 'on_path'}, {}, {})
    """
    old = {"chosen": ("on_path", BOOL), "chosen_steps": ("on_path_steps", List(INT))}
    return {name: new for name, (new, feature) in old.items() if features.get(name) == feature and new not in features}


def responders_of(features: Features) -> list[str]:
    """Return the names of the responder columns, in column order; they may lack `LATER_FIELDS`.

    >>> responders_of(Features(**STAGE1, gold=RESPONSE, alpaca=RESPONSE))
    ['gold', 'alpaca']
    """
    return [name for name, feature in features.items() if isinstance(feature, dict) and _is_response(feature)]
