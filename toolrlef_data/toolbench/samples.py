"""samples: answer files of ToolBench's kind as training samples, split or merged.

    answers = load_source("toolbench", data_dir="answer")       # one row a file
    parts = split_queries(answers, test=0.1)                    # before anything is taken apart
    samples = trajectories(parts["train"], layout="merged")     # or "split": one sample a step
    publish({"toolbench": {"trajectories": shuffle_steps(samples)}}, "out", version="1.0.0")

A step is one message of the model that calls a function; a thought of its own is joined with the call after it. What no
sample can be made of is in the ledger: whole files under their id, steps under "file#step". Which histories a step can
have stands in `histories`, how sequences come about in `merge`, upstream's own samples in `toolllama`.

Not covered: judging whether an answer is right; a file's `finish_type` says only how it ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.columns import ANSWERS, TOOLLLAMA, TRAJECTORIES
from toolrlef_data.records import Drop, InputError
from toolrlef_data.tables.transform import check_features, explode
from toolrlef_data.toolbench.answer_file import (
    FILES_AT_ONCE,
    READS,
    Answer,
    Made,
    check_choice,
    check_step,
    finish_types,
    listed,
    recorded,
)
from toolrlef_data.toolbench.histories import HISTORIES, Step
from toolrlef_data.toolbench.merging import merged
from toolrlef_data.toolbench.messages import FLAGS, canonical, flags_of
from toolrlef_data.toolbench.toolllama import conversations_of, lost_thought, name_of

__all__ = ["SampleSettings", "trajectories"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Row = Mapping[str, Any]

LAYOUTS = ("split", "merged")
STYLES = ("messages", "toolllama")
STEPS = ("chosen", "all")


@dataclass(frozen=True)
class SampleSettings:
    """How samples are made; the arguments of `trajectories`, checked."""

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
    """Training samples of answer files.

    A step weighs as much as the others in its sequence: under a loss that is a mean over each sequence, merging lowers
    the weight of a step that shares its sequence with others. A mean over all trained tokens is not changed by it.

    Args:
        answers: a table `columns.ANSWERS`, from `load_source("toolbench", ...)` or `generate_trajectories`.
        layout: "split": one sample a step, of which the last message is trained; "merged": one sequence for all steps
            whose histories begin each other, with a flag for each message.
        style: "messages": OpenAI's (`columns.TRAJECTORIES`); "toolllama": upstream's text turns
            (`columns.TOOLLLAMA`), split only; with the defaults of that style, upstream's training file byte for byte
            (`exports`).
        history: "upstream", "faithful" or "clean" (`histories`); default "faithful", for toolllama "upstream".
        keep_thought: keep the text that stands beside a call; default True, for toolllama False as upstream.
        steps: "chosen": those of the path that the file shows; "all": every step of the tree, whose column `chosen`
            tells them apart.
        finish: which files are taken, by how they ended ("give_answer", "give_up", "unfinished"); default: all. A
            valid file that does not say counts as "give_answer"; an invalid one is "unfinished", and has steps only
            under "all".
        without: flags (`messages.FLAGS`) whose steps are left out. A step that calls a function that there is not
            ("unknown_function") has the name that upstream puts in its place.
        num_proc: processes; does not change the result.

    Raises:
        UnknownName: a layout, style, history, flag or kind of steps that there is not.
        MissingColumns: the table is none of answer files.

    >>> from toolrlef_data import load_source, trajectories
    >>> answers = load_source("sample_trajectories")
    >>> split, merged = trajectories(answers), trajectories(answers, layout="merged")
    >>> len(split) > len(merged), sum(map(len, merged["steps"])) == len(split)
    (True, True)
    """
    making = SampleSettings(
        check_choice("layout", layout, LAYOUTS),
        check_choice("style", style, STYLES),
        check_choice("history", history or ("faithful" if style == "messages" else "upstream"), HISTORIES),
        style == "messages" if keep_thought is None else keep_thought,
        check_choice("kind of steps", steps, STEPS),
        None if finish is None else finish_types(finish),
        tuple(check_choice("flag", flag, FLAGS) for flag in listed("without", without)),
    )
    if style == "toolllama" and layout == "merged":
        raise InputError(
            "the style 'toolllama' cannot say which turns of a merged sequence are trained: leave it split"
        )
    check_features(answers, ANSWERS, "trajectories")
    features = TRAJECTORIES if style == "messages" else TOOLLLAMA
    options: dict[str, Any] = {"batch_rows": FILES_AT_ONCE, "num_proc": num_proc}
    return explode(answers, _samples, making, reads=READS, features=features, stage=SampleSettings.kind, **options)


def _samples(row: Row, making: SampleSettings) -> Made:
    """The samples of one file, and what of it no sample can be made of."""
    return recorded(row, _made(row, making))


def _made(row: Row, making: SampleSettings) -> Made:
    answer = Answer(row, making.finish)
    steps = answer.chosen(making.history) if making.steps == "chosen" else answer.every(making.history)
    if not steps:  # the search ended before its first reply
        yield row["id"], Drop("no_steps", "the file shows no step of a search")
    taken: list[tuple[Step, list[str]]] = []
    for step in steps:
        flags = _flags(step, answer.names, making)
        drop = check_step(step.messages, answer.escaped, making.style == "messages")
        drop = drop or next((Drop(flag) for flag in making.without if flag in flags), None)
        if drop is None:
            taken.append((step, flags))
        else:
            yield f"{row['id']}#{step.place}", drop
    made = _messages(answer, taken, making) if making.style == "messages" else _turns(answer, taken, making)
    common = answer.facts | {"history": making.history}
    if making.style == "messages":
        common |= {"layout": making.layout, "n_steps": len(steps)}
    yield from (common | sample for sample in made)


def _messages(
    answer: Answer, taken: Sequence[tuple[Step, list[str]]], making: SampleSettings
) -> Iterator[dict[str, Any]]:
    """Samples as OpenAI's messages: one a step, or one for all steps whose histories begin each other."""
    texts = [canonical(step.messages, making.keep_thought) for step, _ in taken]
    sequences = merged(texts) if making.layout == "merged" else [(t, {len(t) - 1: n}) for n, t in enumerate(texts)]
    for messages, trained in sequences:
        steps = [taken[n][0] for n in trained.values()]
        flags = {flag for n in trained.values() for flag in taken[n][1]}
        yield {
            "id": f"{answer.row['id']}#{'+'.join(step.place for step in steps)}",
            "step": steps[-1].number,
            "steps": [step.number for step in steps],
            "messages": [{**message, "train": n in trained} for n, message in enumerate(messages)],
            "tools": answer.tools,
            "chosen": all(step.chosen for step in steps),
            "chosen_steps": [step.number for step in steps if step.chosen],
            "flags": [flag for flag in FLAGS if flag in flags],
        }


def _turns(answer: Answer, taken: Sequence[tuple[Step, list[str]]], making: SampleSettings) -> Iterator[dict[str, Any]]:
    """Samples as upstream's text turns, one a step."""
    for step, flags in taken:
        yield {
            "id": f"{answer.row['id']}#{step.place}",
            "name": name_of(step.messages, answer.row["query"]),
            "step": step.number,
            "conversations": conversations_of(step.messages, answer.functions, making.keep_thought),
            "chosen": step.chosen,
            "flags": flags,
        }


def _flags(step: Step, functions: Sequence[str], making: SampleSettings) -> list[str]:
    flags = flags_of(step.messages, functions, making.keep_thought)
    if making.style == "toolllama" and not making.keep_thought and lost_thought(step.messages):
        flags = [flag for flag in FLAGS if flag in {*flags, "lost_thought"}]
    return flags
