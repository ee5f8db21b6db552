"""The log-probability of every response of stage 2 by a local model, given the prompt of a responder.

The values are in the reply store, by model, prompt and response: another batch size computes nothing again, and a
killed run resumes. Rows without an instruction or input, as in files of the original, have no prompt and get nulls.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, Features, List, Value

from toolrlef_data.checks import check_features, check_type
from toolrlef_data.columns import STAGE2
from toolrlef_data.engines.local.scoring.engine import ScoringEngines
from toolrlef_data.engines.local.scoring.requests import ScoringRequest
from toolrlef_data.engines.local.scoring.selection import ROUNDING_TOLERANCE
from toolrlef_data.engines.model_stage import ModelStage, run_model_stage
from toolrlef_data.engines.prompts import check_prompt, render_prompt
from toolrlef_data.engines.rules import integer_from, is_number, must_be
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import InputError, Reply
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.stage_cache import as_arrow
from toolrlef_data.tasks.task import Task
from toolrlef_data.trice.row_tasks import tasks_of

__all__ = ["LOGPROBS", "logprobs"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Row = Mapping[str, Any]

COLUMNS = ("id", "task", "dataset", "instruction", "input", "responses")
LOGPROBS = Features(
    logprobs=List(Value("float64")),
    logprob_tokens=List(Value("int64")),
    logprob_errors=List(Value("string")),
    logprob_model=Value("string"),
)
NO_PROMPT = "no_prompt"
log = logging.getLogger("toolrlef_data")


def logprobs(
    stage2: D,
    spec: EngineSpec,
    *,
    style: str = "alpaca",
    examples: int = 0,
    end: bool = True,
    batch_tokens: int | None = None,
    devices: Sequence[str] = (),
    tolerance: float = ROUNDING_TOLERANCE,
    task: Task | Mapping[str, Task] | None = None,
    num_proc: int | None = None,
) -> D:
    """Add the log-probability of every response: the sum over its tokens of log P(token | prompt, earlier tokens).

    Prompt and response are tokenised separately and joined. The values agree with those of one response at a time
    within 1e-4 nats per token in float32, whatever the batch; a self-test selects the layout of the batches. In
    bfloat16 and float16, it selects one at a time for a model whose rounding errors in batches exceed `tolerance`.

    Args:
        stage2: a table from `build_stage2`, with instruction, input and responses.
        spec: a model of kind "local", with or without an adapter. The sampling settings have no effect.
        style: the prompt style that the responder was trained for (`prompts`); default "alpaca", as in `warm_up`.
        examples: number of few-shot examples in the prompt; default 0.
        end: whether the end-of-text token is part of each response, as in the training of the original; default True.
            In a chat, it is the token that ends a reply in the chat template.
        batch_tokens: maximum padded tokens per batch; default: that of the spec. It changes no value.
        devices: devices with one worker process each, such as ("cuda:0", "cuda:1"). Default: the spec's device; all
            GPUs if that is "auto".
        tolerance: for bfloat16 and float16: maximum difference of a response from its value computed alone, in nats per
            token, in a sample of 32 rows; default 0.025. `math.inf` selects the fastest layout.
        task: one task for all rows, or a mapping of names to tasks, for the examples; default: the task of each row.
        num_proc: number of processes that compute the columns.

    Returns:
        The table with the columns `logprobs` (nats, one per response), `logprob_tokens` (number of tokens),
        `logprob_errors` and `logprob_model` (name and digest). A response without a value is null, with an error:
        "no_response" for a null response, "no_prompt", "too_long", "bad_request" or "out_of_memory".

    Raises:
        InputError: the spec is not local, a setting is out of range, or no row has an instruction and an input.
        MissingColumns: a column is missing.
        TooManyFailures: the share of failures exceeds `EngineSpec.max_failed`; all computed values are saved.
        ToolrlefError: a worker process failed; all computed values are saved.

    Source: the length-normalised log-probability of the paper's ranking loss (arXiv 2305.13068) divides these sums by
    the numbers of tokens; see `rank_agreement`.

    >>> from toolrlef_data import EngineSpec
    >>> row = {"id": "a", "task": "math", "dataset": "d", "instruction": "Add.", "input": "1+1?", "responses": ["2"]}
    >>> logprobs(Dataset.from_list([row]), EngineSpec("openai_api", "gpt-4o-mini"))
    Traceback (most recent call last):
    toolrlef_data.records.InputError: log-probabilities need a model on this machine (kind 'local'), found 'openai_api'
    """
    if not isinstance(spec, EngineSpec):
        raise InputError(f"logprobs needs a model: expected an EngineSpec, found {type(spec).__name__}")
    check_prompt(style, examples)
    check_type("end", end, "True or False", bool)
    if batch_tokens is not None:
        integer_from(1).check("batch_tokens", batch_tokens)
    if isinstance(devices, str):
        raise InputError(f"devices: expected a list of devices, found the text {devices!r}")
    check_type("devices", devices, "a list of devices", Sequence)
    stage2 = check_features(stage2, Features({name: STAGE2[name] for name in COLUMNS}), "logprobs")
    _check_prompts(stage2)
    must_be("a number from 0 on", lambda n: is_number(n, math.inf) and n >= 0).check("tolerance", tolerance)
    engine = ScoringEngines(tuple(devices), float(tolerance))
    scoring = _scoring_spec(spec, batch_tokens)
    model = f"{_model_name(spec)}@{digest(engine(scoring).identity())[:12]}"
    settings = LogprobSettings(tasks_of(stage2, task) if examples else {}, style, examples, bool(end), model)
    stage = ModelStage(
        _scoring_requests,
        _logprob_columns,
        settings,
        scoring,
        reads=COLUMNS,
        adds=LOGPROBS,
        name="logprobs",
        action="Score with",
        engine=engine,
    )
    return run_model_stage(stage2, stage, num_proc=num_proc)


@dataclass(frozen=True)
class LogprobSettings:
    """The settings of the stage; the cache key contains its model separately."""

    kind: ClassVar[str] = "logprobs"
    tasks: Mapping[str, Task]
    style: str
    examples: int
    end: bool
    model: str


def _scoring_spec(spec: EngineSpec, batch_tokens: int | None) -> EngineSpec:
    """Return a spec with those settings only that can change a log-probability, and those of the run."""
    return EngineSpec(
        spec.kind,
        spec.model,
        revision=spec.revision,
        adapter=spec.adapter,
        dtype=spec.dtype,
        options=spec.options,
        device=spec.device,
        batch_tokens=batch_tokens or spec.batch_tokens,
        max_failed=spec.max_failed,
        progress=spec.progress,
    )


def _model_name(spec: EngineSpec) -> str:
    return " + ".join(Path(name).name for name in (spec.model, spec.adapter) if name)


def _check_prompts(stage2: Dataset | DatasetDict) -> None:
    """Warn of rows without a prompt; raise an `InputError` if all rows of a table have none."""
    for split in stage2.values() if isinstance(stage2, DatasetDict) else [stage2]:
        texts = as_arrow(split.select_columns(["instruction", "input"]))
        n_null = sum(
            pc.sum(pc.or_(*(pc.is_null(batch[name]) for name in ("instruction", "input")))).as_py()
            for batch in texts.iter(1000)
        )
        if n_null and n_null == len(split):
            raise InputError(
                "logprobs needs instruction and input, which are null in all rows, as in files of the original: add "
                "the columns with the texts of the prompts"
            )
        if n_null:
            log.warning("%d rows have no instruction or input, and get no log-probabilities", n_null)


def _scoring_requests(row: Row, settings: LogprobSettings) -> list[ScoringRequest]:
    """Return one request for each different response of a row."""
    if row["instruction"] is None or row["input"] is None:
        return []
    examples = (
        settings.tasks[row["task"]].examples_for(row["dataset"])[: settings.examples] if settings.examples else []
    )
    shots = [(example.input, example.call) for example in examples]
    prompt = render_prompt(settings.style, row["instruction"], row["input"], shots)
    return [
        ScoringRequest(prompt=prompt, response=text, end=settings.end)
        if isinstance(prompt, str)
        else ScoringRequest(messages=prompt, response=text, end=settings.end)
        for text in _distinct(row)
    ]


def _distinct(row: Row) -> list[str]:
    """Return the different responses of a row, without whitespace at their ends, which is not part of a response."""
    return list(dict.fromkeys(text.strip() for text in row["responses"] or [] if text is not None))


def _logprob_columns(row: Row, replies: Sequence[Reply], settings: LogprobSettings) -> dict[str, Any]:
    by_text = dict(zip(_distinct(row), replies, strict=False))  # no replies without a prompt
    no_prompt, no_response = Reply(None, error=NO_PROMPT), Reply(None, error="no_response")
    found = [no_response if text is None else by_text.get(text.strip(), no_prompt) for text in row["responses"] or []]
    return {
        "logprobs": [None if reply.text is None else float(reply.text) for reply in found],
        "logprob_tokens": [None if reply.text is None else reply.completion_tokens for reply in found],
        "logprob_errors": [reply.error for reply in found],
        "logprob_model": settings.model,
    }
