"""answer_file: one answer file of ToolBench's kind, read as far as samples need it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toolrlef_data.records import Drop, InputError, UnknownName, UnusableRow, is_text
from toolrlef_data.toolbench.histories import (
    Step,
    all_steps,
    chosen_end,
    chosen_steps,
    frame_in,
    opening_in,
    prompts_of,
)
from toolrlef_data.toolbench.messages import Raw, checked_message
from toolrlef_data.toolbench.tree import State, read_file_tree

__all__ = [
    "FILES_AT_ONCE",
    "MOST",
    "READS",
    "Answer",
    "Made",
    "Searched",
    "check_choice",
    "check_step",
    "finish_types",
    "listed",
    "recorded",
]

READS = ("id", "task", "dataset", "query", "finish_type", "valid", "source_file", "answer")  # what `Answer` is made of
FILES_AT_ONCE = 64  # they take a hundred kilobytes each, and may take megabytes
FINISH = ("give_answer", "give_up", "unfinished")
MOST = 30_000_000  # characters of all samples of a file: Arrow's texts hold 2 GiB in a batch
Made = Iterator[dict[str, Any] | tuple[str, Drop]]


@dataclass(frozen=True, slots=True)
class Searched:
    """A file's tree, and what stands around it.

    Args:
        root: of the tree.
        opening: the messages before the first step.
        prompts: from `histories.prompts_of`.
        end: of the path that the file shows; None where it shows none.
    """

    root: State
    opening: Sequence[Raw]
    prompts: Mapping[int, str]
    end: State | None


class Answer:
    """One answer file, checked as far as samples need it; `facts` are the columns that all its samples share.

    Args:
        row: of the table `columns.ANSWERS`.
        finish: which files are wanted, by how they ended; None: all.

    Raises:
        Unusable: what of the file cannot be used.
    """

    def __init__(self, row: Mapping[str, Any], finish: Sequence[str] | None) -> None:
        self.row = row
        self.finish = "unfinished" if row["valid"] is False else row["finish_type"] or "give_answer"
        if finish is not None and self.finish not in finish:
            raise UnusableRow("finish_type", str(self.finish))
        text = row["answer"] or ""
        self.escaped = "\\ud" in text or "\\uD" in text
        try:
            self.file = json.loads(text)
            self.generation = self.file["answer_generation"]
            self.functions = self.generation["function"]
            self.names = [function["name"] for function in self.functions]
            self.lists = self.generation.get("train_messages") or []
            self.tools = json.dumps([{"type": "function", "function": each} for each in self.functions])
        except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
            raise UnusableRow("not_an_answer", f"{type(error).__name__}: {error}") from None
        if not all(isinstance(name, str) for name in self.names):
            raise UnusableRow("not_an_answer", "a function's name is no text")
        if self.escaped and not is_text(json.dumps(self.functions, ensure_ascii=False)):
            raise UnusableRow("not_unicode", "a function's schema holds a lone surrogate")
        self.facts = {name: row[name] for name in ("task", "dataset", "query", "source_file")}
        self.facts["finish_type"] = self.finish

    def chosen(self, history: str) -> list[Step]:
        """The steps that the file shows."""
        if self.row["valid"] is False or not (self.row["valid"] or self.lists):
            raise UnusableRow("not_valid", "the file shows no path: valid_data is false")
        return chosen_steps(self.lists, history)

    def every(self, history: str) -> list[Step]:
        """Every step of the tree."""
        tree = self.tree()
        return list(all_steps(tree.root, tree.opening, tree.prompts, history, tree.end))

    def tree(self) -> Searched:
        """The tree, and the path in it that the file shows."""
        try:
            root = read_file_tree(self.file)
        except InputError as error:
            raise UnusableRow("no_tree", str(error)) from None
        told = self.file.get("forward_args")
        told = told if isinstance(told, dict) else {}
        deep = told.get("with_filter") is not True
        shown = [list(step.messages) for step in chosen_steps(self.lists, "upstream")] if self.lists else []
        if shown:
            opening, frame = opening_in(shown), frame_in(shown, root, deep)
        else:
            opening, frame = _told(told.get("opening"), told.get("diversity"))
        prompts = prompts_of(root, frame, deep) if "tree" in self.file else {}
        end = chosen_end(root, shown, opening, prompts) if shown else None
        if shown and end is None:
            raise UnusableRow("tree_differs", "no path of the tree gives the train_messages")
        return Searched(root, opening, prompts, None if self.row["valid"] is False else end)


def _told(opening: Any, diversity: Any) -> tuple[list[Raw], tuple[str, str]]:
    """What a model was told in a search that came to no end: our own files say it, upstream's do not."""
    if not isinstance(opening, list) or not opening:
        raise UnusableRow("no_messages", "the file does not say what the model was told")
    frame = tuple(diversity) if isinstance(diversity, list) else ()
    if len(frame) != 2 or not all(isinstance(part, str) for part in frame):
        raise UnusableRow("no_messages", "the file does not say how the model was asked for another try")
    return [checked_message(message, "opening") for message in opening], (frame[0], frame[1])


def check_step(messages: Sequence[Raw], escaped: bool = True, answered: bool = True) -> Drop | None:
    """Why a step makes no sample of its own; None where it does.

    Args:
        messages: of the step, history and target.
        escaped: whether the file may hold escapes of lone surrogates, which are then looked for.
        answered: whether what a function gave has to answer a call, as in OpenAI's messages.
    """
    target = messages[-1]
    if target["role"] != "assistant":
        return Drop("no_target", f"the list ends with a message of the role {target['role']}")
    if target.get("function_call") is None:
        return Drop("thought_only", "a thought without a call is no step of its own")
    first = next(message for message in messages if message["role"] == "function" or "function_call" in message)
    if answered and first["role"] == "function":
        return Drop("result_without_call", "a function's message stands before any call")
    if escaped and not is_text(json.dumps(messages, ensure_ascii=False)):
        return Drop("not_unicode", "a text holds a lone surrogate")
    return None


def recorded(row: Mapping[str, Any], made: Made) -> Made:
    """What is made of a file; in its place a reason, where it is irregular, or too much for one batch.

    A long text stands in many samples.
    """
    try:
        whole = list(made)
    except UnusableRow as fault:
        yield row["id"], Drop(fault.reason, fault.detail[:200])
        return
    samples = [each for each in whole if isinstance(each, dict)]
    if 4 * len(samples) * len(row["answer"] or "") > MOST:  # else it cannot be
        size = sum(len(json.dumps(sample)) for sample in samples)
        if size > MOST:
            whole = [each for each in whole if not isinstance(each, dict)]
            yield row["id"], Drop("too_large", f"{size} characters in {len(samples)} samples")
    yield from whole


def finish_types(given: Any) -> tuple[str, ...]:
    """Finish types that a caller asks for, checked."""
    return tuple(check_choice("finish type", kind, FINISH) for kind in listed("finish", given))


def check_choice(what: str, given: Any, choices: Collection[str]) -> str:
    """A name that a caller gives, or an error that lists the choices."""
    if given not in choices:
        raise UnknownName(what, given, choices)
    return str(given)


def listed(what: str, given: Any) -> Sequence[str]:
    """Names that a caller gives, sorted."""
    if isinstance(given, str) or not isinstance(given, (list, tuple, set, frozenset)):
        raise InputError(f"{what} takes a list of names, found {given!r:.80}")
    return sorted(given, key=str)
