"""samples: training samples from ToolBench answer files, one per step or merged.

    answers = load_source("toolbench", data_dir="answer")       # one row per file
    parts = split_queries(answers, test=0.1)                    # split by query, before building samples
    samples = trajectories(parts["train"], layout="merged")     # or "split": one sample per step
    publish({"toolbench": {"trajectories": shuffle_steps(samples)}}, "out", version="1.0.0")

A sample trains assistant messages with a function call. A step without a call is dropped; its thought is joined to the
call after it. The ledger records dropped files under their id, and dropped steps under "file#step".

Not covered: judging whether a final answer is correct; `finish_type` states only how the search ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.checks import check_features
from toolrlef_data.choices import check_choice
from toolrlef_data.columns import ANSWERS, TOOLLLAMA, TRAJECTORIES
from toolrlef_data.engines.rules import FLAG
from toolrlef_data.records import Drop, InputError
from toolrlef_data.tables.reshape import explode
from toolrlef_data.toolbench.answer_file import (
    BATCH_FILES,
    READS,
    AnswerFile,
    SampleStream,
    check_finish_types,
    check_step,
    checked_stream,
    sorted_names,
)
from toolrlef_data.toolbench.flags import FLAGS, flags_of
from toolrlef_data.toolbench.histories import HISTORIES, Step
from toolrlef_data.toolbench.merging import merge_steps
from toolrlef_data.toolbench.messages import openai_messages
from toolrlef_data.toolbench.toolllama import loses_thought, sample_name, to_conversation

__all__ = ["SampleSettings", "trajectories"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Row = Mapping[str, Any]

LAYOUTS = ("split", "merged")
STYLES = ("messages", "toolllama")
STEPS = ("chosen", "all")


@dataclass(frozen=True)
class SampleSettings:
    """Checked arguments of `trajectories`."""

    kind: ClassVar[str] = "trajectories"
    layout: str
    style: str
    history: str
    keep_thought: bool
    steps: str
    finish: tuple[str, ...] | None
    without: tuple[str, ...]


def trajectories(
    answers: D,
    *,
    layout: str = "split",
    style: str = "messages",
    history: str | None = None,
    keep_thought: bool | None = None,
    steps: str = "chosen",
    finish: Sequence[str] | None = None,
    without: Sequence[str] = (),
    num_proc: int | None = None,
) -> D:
    """Build training samples from ToolBench answer files.

    Under a loss averaged per sequence, merging lowers the weight of steps that share a sequence. A loss averaged over
    all trained tokens weighs them equally.

    Args:
        answers: table with the columns `columns.ANSWERS`, from `load_source("toolbench", ...)` or
            `generate_trajectories`.
        layout: "split" (default): one sample per step, which trains its last message. "merged": one sequence for all
            steps whose histories are prefixes of each other, with a `train` flag on each message.
        style: "messages" (default): OpenAI's format (`columns.TRAJECTORIES`). "toolllama": upstream's text turns
            (`columns.TOOLLLAMA`), for layout="split" only. With its defaults, `export` reproduces upstream's training
            file byte for byte.
        history: "upstream", "faithful" or "clean", see `histories`; default: "faithful", for toolllama "upstream".
        keep_thought: whether to keep the text beside a function call; default: True, for toolllama False.
        steps: "chosen" (default): the steps of the chosen path. "all": all steps of the search tree; the column
            `on_path` marks those of the chosen path.
        finish: finish types of the files to use: "give_answer", "give_up", "unfinished"; default: all. A valid file
            without a finish type counts as "give_answer". An invalid file is "unfinished"; its steps require
            steps="all".
        without: flags (`flags.FLAGS`) of the steps to drop; default: none. In a step with the flag
            "unknown_function", upstream's placeholder replaces the name of the function.
        num_proc: number of processes; does not change the result.

    Returns:
        A table with the columns `columns.TRAJECTORIES` or `columns.TOOLLLAMA`, one row per sample.

    Raises:
        UnknownName: an unknown layout, style, history, flag, finish type or step selection.
        MissingColumns: the table lacks columns of `columns.ANSWERS`.
        InputError: style="toolllama" with layout="merged"; `finish` or `without` is not a list, tuple or set.

    >>> from toolrlef_data import load_source, trajectories
    >>> answers = load_source("sample_trajectories")
    >>> split, merged = trajectories(answers), trajectories(answers, layout="merged")
    >>> len(split) > len(merged), sum(map(len, merged["steps"])) == len(split)
    (True, True)
    """
    if keep_thought is not None:
        FLAG.check("keep_thought", keep_thought)
    settings = SampleSettings(
        check_choice("layout", layout, LAYOUTS),
        check_choice("style", style, STYLES),
        check_choice("history", history or ("faithful" if style == "messages" else "upstream"), HISTORIES),
        style == "messages" if keep_thought is None else keep_thought,
        check_choice("step selection", steps, STEPS),
        None if finish is None else check_finish_types(finish),
        tuple(check_choice("flag", flag, FLAGS) for flag in sorted_names("without", without)),
    )
    if style == "toolllama" and layout == "merged":
        raise InputError("style 'toolllama' requires layout 'split', found 'merged': its turns have no train flag")
    answers = check_features(answers, ANSWERS, "trajectories")
    features = TRAJECTORIES if style == "messages" else TOOLLLAMA
    options: dict[str, Any] = {"batch_rows": BATCH_FILES, "num_proc": num_proc}
    return explode(answers, _samples, settings, reads=READS, features=features, stage=SampleSettings.kind, **options)


def _samples(row: Row, settings: SampleSettings) -> SampleStream:
    """Yield the samples and drops of one answer file."""
    return checked_stream(row, _build_samples(row, settings))


def _build_samples(row: Row, settings: SampleSettings) -> SampleStream:
    answer = AnswerFile(row, settings.finish)
    find_steps = answer.chosen_steps if settings.steps == "chosen" else answer.all_steps
    steps = find_steps(settings.history)
    if not steps:
        yield row["id"], Drop("no_steps", "the search ended before its first reply")
    usable: list[tuple[Step, list[str]]] = []
    for step in steps:
        flags = _flags(step, answer.function_names, settings)
        drop = check_step(step.messages, answer.has_surrogate_escapes, settings.style == "messages")
        drop = drop or next((Drop(flag) for flag in settings.without if flag in flags), None)
        if drop is None:
            usable.append((step, flags))
        else:
            yield f"{row['id']}#{step.place}", drop
    build = _message_samples if settings.style == "messages" else _toolllama_samples
    shared = answer.shared_columns | {"history": settings.history}
    if settings.style == "messages":
        shared |= {"layout": settings.layout, "n_steps": len(steps)}
    yield from (shared | sample for sample in build(answer, usable, settings))


def _message_samples(
    answer: AnswerFile, steps: Sequence[tuple[Step, list[str]]], settings: SampleSettings
) -> Iterator[dict[str, Any]]:
    """Yield samples in OpenAI's format: one per step, or one per merged sequence."""
    conversations = [openai_messages(step.messages, settings.keep_thought) for step, _ in steps]
    if settings.layout == "merged":
        sequences = merge_steps(conversations)
    else:
        sequences = [(messages, {len(messages) - 1: n}) for n, messages in enumerate(conversations)]
    for messages, targets in sequences:
        trained = [steps[n][0] for n in targets.values()]
        flags = {flag for n in targets.values() for flag in steps[n][1]}
        yield {
            "id": f"{answer.row['id']}#{'+'.join(step.place for step in trained)}",
            "step": trained[-1].number,
            "steps": [step.number for step in trained],
            "messages": [{**message, "train": n in targets} for n, message in enumerate(messages)],
            "tools": answer.tools,
            "on_path": all(step.chosen for step in trained),
            "on_path_steps": [step.number for step in trained if step.chosen],
            "flags": [flag for flag in FLAGS if flag in flags],
        }


def _toolllama_samples(
    answer: AnswerFile, steps: Sequence[tuple[Step, list[str]]], settings: SampleSettings
) -> Iterator[dict[str, Any]]:
    """Yield samples in upstream's text format, one per step."""
    for step, flags in steps:
        yield {
            "id": f"{answer.row['id']}#{step.place}",
            "name": sample_name(step.messages, answer.row["query"]),
            "step": step.number,
            "conversations": to_conversation(step.messages, answer.functions, settings.keep_thought),
            "on_path": step.chosen,
            "flags": flags,
        }


def _flags(step: Step, functions: Sequence[str], settings: SampleSettings) -> list[str]:
    flags = flags_of(step.messages, functions, settings.keep_thought)
    if settings.style == "toolllama" and not settings.keep_thought and loses_thought(step.messages):
        flags = [flag for flag in FLAGS if flag in {*flags, "lost_thought"}]
    return flags
