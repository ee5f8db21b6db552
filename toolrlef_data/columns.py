"""The schema: column names and `datasets.Features` of every table, and the checks of a table's columns.

| table | columns |
|---|---|
| questions | id, task, dataset, question, context, answers (gold), solution (worked solution), split_origin |
| answered | + response: RESPONSE, samples: the further samples of the same question |
| graded | + prediction, correct (null: not gradable), pass_rate, needs_tool |
| labelled | + tool_call, tool_output, verified, verified_by, attempts, teacher, rejected: by attempt |
| stage1 | instruction, input, output; id, task, dataset, answers, uses_tool, source, verified_by |
| responded | stage1's + one RESPONSE struct per responder, named after it; the first is `gold` |
| executed | the same; the fields from `n_calls` to `correct` of each RESPONSE have values |
| stage2 | query, responses, origin, scores, answer; id, task, dataset, answers, uses_tool, tool_outputs, errors, ... |
| dropped | id, task, dataset, stage, reason, detail |
| answers | id, task, dataset, query, finish_type, valid, win, n_calls, total_tokens, source_file, answer |
| trajectories | id ... query, step, steps, n_steps, layout, history, messages, tools, ..., on_path, ..., flags |
| toolllama | id ... query, step, name, history, conversations, finish_type, on_path, source_file, flags |
| pairs | id ... query, step, prompt, chosen, rejected, why, tools, finish_type, source_file, flags |

`source` is "student", "teacher" or "question" (a call that needed no teacher). `verified_by` is "value", "output" or
"reader" (see `teachers`); it is null for the student's responses and for unverified calls.

In the table of answer files, `answer` is a complete ToolBench answer file as JSON text. `steps` contains the numbers of
the steps that a sample trains, and `step` the last of them. `tools` is a JSON list of function schemas (see
`trajectories`).

The tables of all tasks have the same features and can be concatenated. Scores are float64, not `Json()`, which rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import pyarrow as pa
from datasets import Dataset, DatasetDict, Features, List, Value

from toolrlef_data.records import InputError, MissingColumns

__all__ = [
    "ANSWERED",
    "ANSWERS",
    "DROPPED",
    "GRADED",
    "LABELLED",
    "LATER_FIELDS",
    "MESSAGE",
    "PAIRS",
    "QUESTIONS",
    "RESPONSE",
    "STAGE1",
    "STAGE2",
    "STAGE2_LATER",
    "TOOLLLAMA",
    "TRAJECTORIES",
    "check_features",
    "check_table",
    "features_of",
    "renamed_columns",
    "require_columns",
    "responders_of",
    "split_path",
]

D = TypeVar("D", bound="Dataset | DatasetDict")
STRING_TYPES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)

STRING, INT, BOOL = Value("string"), Value("int64"), Value("bool")

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
    "predictions": List(STRING),
    "correct": BOOL,
    "prompt_tokens": INT,
    "completion_tokens": INT,
}

LATER_FIELDS = frozenset({"arguments"})  # fields of RESPONSE that tables published before lack

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
)
STAGE2_LATER = frozenset({"instruction", "input", "correct", "finish_reasons"})  # missing in older tables
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
    structs = {name: set(feature) for name, feature in features.items() if isinstance(feature, dict)}
    return [name for name, fields in structs.items() if RESPONSE.keys() - LATER_FIELDS <= fields <= RESPONSE.keys()]


# Checks ---------------------------------------------------------------------------------------------------------------


def check_table(data: D) -> D:
    """Return a table without a format; raise an `InputError` for other objects, and for a table with a transform.

    A format such as "torch" changes only how values are shown. A transform computes values, which are not stored.
    """
    if isinstance(data, DatasetDict) and data:
        return DatasetDict({name: check_table(split) for name, split in data.items()})
    if not isinstance(data, Dataset):
        found = "a DatasetDict without splits" if isinstance(data, DatasetDict) else type(data).__name__
        raise InputError(f"expected a datasets.Dataset or DatasetDict, found {found}")
    if data.format["type"] == "custom":
        raise InputError(
            "the table has a transform (`with_transform`), which is not part of its rows: compute the values with "
            "`map`, or remove the transform with `with_format(None)`"
        )
    is_plain = data.format["type"] is None and data.format["columns"] == data.column_names
    return data if is_plain else data.with_format(None)


def check_features(data: D, expected: Features, name: str) -> D:
    """Return a table whose columns have the types of a schema; additional columns are allowed.

    Columns with the same values in another type are converted: large strings and lists, as pandas 3 and polars have
    them, and columns that contain only nulls.

    Raises:
        MissingColumns: the table lacks columns of the schema.
        InputError: a column has another type.
    """
    data = check_table(data)
    if isinstance(data, DatasetDict):
        return DatasetDict({split: check_features(table, expected, name) for split, table in data.items()})
    require_columns(data, list(expected), name)
    found = data.features
    for column, feature in expected.items():
        if not _is_convertible(*(types.arrow_schema.field(column).type for types in (found, expected))):
            raise InputError(
                f"{name} needs the column {column} as {feature}, found {found[column]}; convert it with "
                "`data.cast_column`"
            )
    if all(found[column] == feature for column, feature in expected.items()):
        return data
    return data.cast(Features({column: expected.get(column, feature) for column, feature in found.items()}))


def _is_convertible(found: pa.DataType, expected: pa.DataType) -> bool:
    """Return whether a type holds the same values as another one, or only nulls."""
    if pa.types.is_struct(found) and pa.types.is_struct(expected):
        pairs = zip(found, expected, strict=False)
        return found.num_fields == expected.num_fields and all(
            a.name == b.name and _is_convertible(a.type, b.type) for a, b in pairs
        )
    if pa.types.is_list(expected) and (pa.types.is_list(found) or pa.types.is_large_list(found)):
        return _is_convertible(found.value_type, expected.value_type)
    if pa.types.is_string(expected):
        return any(is_type(found) for is_type in (*STRING_TYPES, pa.types.is_null))
    return found == expected or pa.types.is_null(found)


def features_of(data: Dataset | DatasetDict) -> Features:
    """Return the features of a Dataset, or of the first split of a DatasetDict."""
    first = data if isinstance(data, Dataset) else next(iter(data.values()))
    return first.features


def require_columns(data: Dataset, columns: Sequence[str], name: str) -> None:
    """Raise `MissingColumns` if a table lacks columns; "gpt.text" requires the column `gpt`."""
    names = dict.fromkeys(split_path(column, data.column_names)[0] for column in columns)
    missing = [column for column in names if column not in data.column_names]
    if missing:
        raise MissingColumns(
            f"{name} needs the columns {', '.join(missing)}; found: {', '.join(data.column_names) or '(none)'}"
        )


def split_path(path: str, columns: Sequence[str]) -> tuple[str, str]:
    """Return ("gpt", "text") for the field "gpt.text" of the struct column "gpt", and (path, "") for a column.

    The name of a column may itself contain dots.
    """
    column, _, field = path.rpartition(".")
    return (column, field) if path not in columns and column in columns else (path, "")
