"""answer_file: one parsed ToolBench answer file, with the parts that training samples need."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toolrlef_data.choices import check_choice
from toolrlef_data.records import Drop, InputError, UnusableRow, is_text
from toolrlef_data.toolbench.histories import (
    Step,
    all_steps,
    chosen_steps,
    diversity_prompts,
    find_chosen_end,
    find_opening,
    find_prompt_frame,
)
from toolrlef_data.toolbench.messages import RawMessage, calls_of, checked_message
from toolrlef_data.toolbench.tree import State, read_file_tree
from toolrlef_data.tools.parsing.json_text import check_depth

__all__ = [
    "BATCH_FILES",
    "MAX_SAMPLE_CHARACTERS",
    "READS",
    "AnswerFile",
    "AnswerTree",
    "SampleStream",
    "check_finish_types",
    "check_step",
    "checked_stream",
    "sorted_names",
]

MAX_FILE_DEPTH = (
    850  # of lists and objects; the parser of Python 3.10 and 3.11 fails from about 900 on, later ones do not
)

# The columns of `columns.ANSWERS` that `AnswerFile` reads.
READS = ("id", "task", "dataset", "query", "finish_type", "valid", "source_file", "answer")
BATCH_FILES = 64  # files of about 100 kB each, sometimes several MB
FINISH_TYPES = ("give_answer", "give_up", "unfinished")
MAX_SAMPLE_CHARACTERS = 30_000_000  # of all samples of a file; Arrow limits the text of a batch to 2 GiB
SampleStream = Iterator[dict[str, Any] | tuple[str, Drop]]


@dataclass(frozen=True, slots=True)
class AnswerTree:
    """The search tree of an answer file.

    Args:
        root: the root state.
        opening: the messages before the first step.
        prompts: the result of `histories.diversity_prompts`.
        end: the last state of the chosen path; None without a chosen path.
    """

    root: State
    opening: Sequence[RawMessage]
    prompts: Mapping[int, str]
    end: State | None


class AnswerFile:
    """A parsed answer file; `shared_columns` are the columns that all its samples share.

    Args:
        row: a row of a table with the columns `columns.ANSWERS`.
        finish: accepted finish types; None accepts all.

    Raises:
        UnusableRow: the file is malformed or has another finish type.
    """

    def __init__(self, row: Mapping[str, Any], finish: Sequence[str] | None) -> None:
        self.row = row
        self.finish = "unfinished" if row["valid"] is False else row["finish_type"] or "give_answer"
        if finish is not None and self.finish not in finish:
            raise UnusableRow("finish_type", str(self.finish))
        text = row["answer"] or ""
        self.has_surrogate_escapes = "\\ud" in text or "\\uD" in text
        try:
            self.file = json.loads(text)
            check_depth(self.file, MAX_FILE_DEPTH)
            self.generation = self.file["answer_generation"]
            self.functions = [_unwrapped(function) for function in self.generation["function"]]
            self.function_names = [function["name"] for function in self.functions]
            self.train_messages = self.generation.get("train_messages") or []
            self.tools = json.dumps([{"type": "function", "function": function} for function in self.functions])
        except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
            raise UnusableRow("not_an_answer", f"{type(error).__name__}: {error}") from None
        if not all(isinstance(name, str) for name in self.function_names):
            raise UnusableRow("not_an_answer", "expected every function name as text")
        if self.has_surrogate_escapes and not is_text(json.dumps(self.functions, ensure_ascii=False)):
            raise UnusableRow("not_unicode", "a function schema has an unpaired surrogate")
        self.shared_columns = {name: row[name] for name in ("task", "dataset", "query", "source_file")}
        self.shared_columns["finish_type"] = self.finish

    def chosen_steps(self, history: str) -> list[Step]:
        """Return the steps of the chosen path."""
        if self.row["valid"] is False or not (self.row["valid"] or self.train_messages):
            raise UnusableRow("not_valid", "the file has no chosen path: valid_data is false or missing")
        return chosen_steps(self.train_messages, history)

    def all_steps(self, history: str) -> list[Step]:
        """Return all steps of the search tree."""
        tree = self.parse_tree()
        return list(all_steps(tree.root, tree.opening, tree.prompts, history, tree.end))

    def parse_tree(self) -> AnswerTree:
        """Return the search tree and the end of the chosen path."""
        train_messages: list[list[RawMessage]] = []
        if self.train_messages:
            train_messages = [list(step.messages) for step in chosen_steps(self.train_messages, "upstream")]
        if any(len(calls_of(message)) > 1 for messages in train_messages for message in messages):
            raise UnusableRow("several_calls", "the tree has one call a state, but a message has several")
        try:
            root = read_file_tree(self.file, train_messages)
        except InputError as error:
            raise UnusableRow("no_tree", str(error)) from None
        arguments = self.file.get("forward_args")
        arguments = arguments if isinstance(arguments, dict) else {}
        depth_first = arguments.get("with_filter") is not True
        if train_messages:
            opening, frame = find_opening(train_messages), find_prompt_frame(train_messages, root, depth_first)
        else:
            opening, frame = _stored_prompts(arguments.get("opening"), arguments.get("diversity"))
        prompts = diversity_prompts(root, frame, depth_first) if "tree" in self.file else {}
        end = find_chosen_end(root, train_messages, opening, prompts) if train_messages else None
        if train_messages and end is None:
            raise UnusableRow("tree_differs", "no path of the tree matches the train_messages")
        return AnswerTree(root, opening, prompts, None if self.row["valid"] is False else end)


def _unwrapped(schema: Any) -> Any:
    """Return a function schema without OpenAI's newer wrapper {"type": "function", "function": ...}."""
    is_wrapped = "name" not in schema and isinstance(schema.get("function"), dict)
    return schema["function"] if is_wrapped else schema


def _stored_prompts(opening: Any, diversity: Any) -> tuple[list[RawMessage], tuple[str, str]]:
    """Return the opening and the prompt frame of an unfinished search; only files of this package store them."""
    if not isinstance(opening, list) or not opening:
        raise UnusableRow("no_messages", "the file has no opening messages")
    frame = tuple(diversity) if isinstance(diversity, list) else ()
    if len(frame) != 2 or not all(isinstance(part, str) for part in frame):
        raise UnusableRow("no_messages", "the file has no diversity prompt")
    return [checked_message(message, "opening") for message in opening], (frame[0], frame[1])


def check_step(
    messages: Sequence[RawMessage], has_surrogate_escapes: bool = True, openai_format: bool = True
) -> Drop | None:
    """Return the drop of a step that yields no sample, or None if it yields one.

    Args:
        messages: history and target, in ToolBench's format.
        has_surrogate_escapes: whether the file has escapes that may be unpaired surrogates.
        openai_format: whether the sample has OpenAI's format, in which a result must follow a call, or upstream's text
            turns, which contain at most one call.
    """
    target, n_calls = messages[-1], [len(calls_of(message)) for message in messages]
    if not openai_format and max(n_calls) > 1:
        return Drop("several_calls", f"a message has {max(n_calls)} calls; a text turn can have only one")
    if target["role"] != "assistant":
        return Drop("no_target", f"expected an assistant message as target, found the role {target['role']}")
    if not n_calls[-1]:
        return Drop("thought_only", "the message has no function call")
    call_or_result = next(
        message for message, n in zip(messages, n_calls, strict=True) if n or message["role"] == "function"
    )
    if openai_format and call_or_result["role"] == "function":
        return Drop("result_without_call", "a function message has no preceding call")
    if has_surrogate_escapes and not is_text(json.dumps(messages, ensure_ascii=False)):
        return Drop("not_unicode", "a text has an unpaired surrogate")
    return None


def checked_stream(row: Mapping[str, Any], stream: SampleStream) -> SampleStream:
    """Yield the samples and drops of a file; an unusable file yields one drop only.

    If the samples exceed `MAX_SAMPLE_CHARACTERS` in total, one drop replaces them. They can be far larger than the
    file, because a long message is part of many histories.
    """
    try:
        records = list(stream)
    except UnusableRow as error:
        yield row["id"], Drop(error.reason, error.detail[:200])
        return
    samples = [record for record in records if isinstance(record, dict)]
    if 4 * len(samples) * len(row["answer"] or "") > MAX_SAMPLE_CHARACTERS:  # cheap upper bound
        size = sum(len(json.dumps(sample)) for sample in samples)
        if size > MAX_SAMPLE_CHARACTERS:
            records = [record for record in records if not isinstance(record, dict)]
            yield row["id"], Drop("too_large", f"{size} characters in {len(samples)} samples")
    yield from records


def check_finish_types(finish: Any) -> tuple[str, ...]:
    """Return the finish types in sorted order.

    Raises:
        UnknownName: an unknown finish type.
        InputError: `finish` is not a list, tuple or set.
    """
    return tuple(check_choice("finish type", name, FINISH_TYPES) for name in sorted_names("finish", finish))


def sorted_names(what: str, names: Any) -> Sequence[str]:
    """Return the names that the caller passed as the argument `what`, in sorted order.

    Raises:
        InputError: the argument is not a list, tuple or set.
    """
    if isinstance(names, str) or not isinstance(names, (list, tuple, set, frozenset)):
        raise InputError(f"{what}: expected a list of names, found {names!r:.80}")
    return sorted(names, key=str)
