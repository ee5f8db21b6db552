"""answer_files: answer files of ToolBench's kind: read, as far as samples need it, and written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from datasets import Dataset

from toolrlef_data.columns import ANSWERS
from toolrlef_data.dfsdt import Found, Method
from toolrlef_data.histories import Step, all_steps, chosen_end, chosen_steps, frame_in, opening_in, prompts_of, rebuilt
from toolrlef_data.messages import Irregular
from toolrlef_data.records import Drop, InputError
from toolrlef_data.search_prompts import DIVERSITY, opening_of
from toolrlef_data.search_trees import FINAL_ANSWER, GIVE_UP, State, path_to, tree_in, write_tree
from toolrlef_data.transform import check_features

__all__ = ["FILES_AT_ONCE", "MOST", "READS", "Answer", "Made", "answer_file", "bounded", "unusable", "write_answers"]

READS = ("id", "task", "dataset", "query", "finish_type", "valid", "source_file", "answer")  # what `Answer` is made of
FILES_AT_ONCE = 16  # they may take a megabyte each
MOST = 100_000_000  # characters of all samples of a file: Arrow's texts hold 2 GiB in a batch
Made = Iterator[dict[str, Any] | tuple[str, Drop]]


class Answer:
    """One answer file, checked as far as samples need it.

    Args:
        row: of the table `columns.ANSWERS`.
        finish: which files are wanted, by how they ended.

    Raises:
        Irregular: what of the file cannot be used.
    """

    def __init__(self, row: Mapping[str, Any], finish: Sequence[str]) -> None:
        self.row = row
        self.finish = row["finish_type"] or "give_answer"
        if self.finish not in finish:
            raise Irregular("finish_type", str(self.finish))
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
            raise Irregular("not_an_answer", f"{type(error).__name__}: {error}") from None
        if not all(isinstance(name, str) for name in self.names):
            raise Irregular("not_an_answer", "a function's name is no text")
        if self.escaped and not _is_unicode(self.functions):
            raise Irregular("not_unicode", "a function's schema holds a lone surrogate")

    def chosen(self, history: str) -> list[Step]:
        """The steps that the file shows."""
        if self.row["valid"] is False or not (self.row["valid"] or self.lists):
            raise Irregular("not_valid", "the file shows no path: valid_data is false")
        return chosen_steps(self.lists, history)

    def all(self, history: str) -> list[Step]:
        """Every step of the tree."""
        root, opening, prompts, end = self.tree()
        return list(all_steps(root, opening, prompts, history, end))

    def shown(self) -> tuple[list[dict[str, Any]], Mapping[int, str], State]:
        """As of `tree`, of a file that shows a path."""
        _, opening, prompts, end = self.tree()
        if end is None:
            raise Irregular("not_valid", "the file shows no path: valid_data is false")
        return opening, prompts, end

    def tree(self) -> tuple[State, list[dict[str, Any]], Mapping[int, str], State | None]:
        """The root; the messages before the first step; the diversity prompts; the end of the chosen path."""
        try:
            root = tree_in(self.file)
        except InputError as error:
            raise Irregular("no_tree", str(error)) from None
        arguments = self.file.get("forward_args")
        deep = not (isinstance(arguments, dict) and arguments.get("with_filter") is True)
        shown = [list(step.messages) for step in chosen_steps(self.lists, "upstream")] if self.lists else []
        if not shown:  # the file does not say what the model was told
            opening, frame = opening_of(self.row["query"], self.functions), DIVERSITY
        else:
            opening, frame = opening_in(shown), frame_in(shown, root, deep)
        prompts = prompts_of(root, frame, deep) if "tree" in self.file else {}
        if not shown:
            return root, opening, prompts, None
        end = chosen_end(root, shown, opening, prompts)
        if end is None:
            raise Irregular("tree_differs", "no path of the tree gives the train_messages")
        return root, opening, prompts, None if self.row["valid"] is False else end


def unusable(step: Step, escaped: bool = True, answered: bool = True) -> Drop | None:
    """Why a step makes no sample of its own; None where it does.

    Args:
        escaped: whether the file may hold escapes of lone surrogates, which are then looked for.
        answered: whether what a function gave has to answer a call, as in OpenAI's messages.
    """
    target = step.messages[-1]
    if target["role"] != "assistant":
        return Drop("no_target", f"the list ends with a message of the role {target['role']}")
    if target.get("function_call") is None:
        return Drop("thought_only", "a thought without a call; it is part of the step that follows it")
    first = next(message for message in step.messages if message["role"] == "function" or "function_call" in message)
    if answered and first["role"] == "function":
        return Drop("result_without_call", "a function's message stands before any call")
    if escaped and not _is_unicode(step.messages):
        return Drop("not_unicode", "a text holds a lone surrogate")
    return None


def bounded(row: Mapping[str, Any], made: Iterable[dict[str, Any] | tuple[str, Drop]]) -> Made:
    """What was made of a file, or why it is too much for one batch; a long text stands in many samples."""
    whole = list(made)
    samples = [each for each in whole if isinstance(each, dict)]
    if 4 * len(samples) * len(row["answer"] or "") > MOST:  # else it cannot be
        size = sum(len(json.dumps(sample)) for sample in samples)
        if size > MOST:
            whole = [each for each in whole if not isinstance(each, dict)]
            yield row["id"], Drop("too_large", f"{size} characters in {len(samples)} samples")
    yield from whole


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def answer_file(found: Found, query: str, functions: Sequence[Mapping[str, Any]], method: Method) -> dict[str, Any]:
    """A search as ToolBench's answer file, which has `trys` in the place of `tree` where it was made of chains.

    Args:
        found: what `search` returned, with the query, functions and method that it was given.

    >>> answer_file(Found(), "Is it up?", [{"name": "Finish"}], Method())["answer_generation"]["valid_data"]
    False
    """
    tree = write_tree(found.root)
    arguments: dict[str, Any] = {"single_chain_max_step": 2 * method.max_turns}  # upstream's unit: a call costs 2
    file: dict[str, Any] = {"win": bool(found.answers)}
    if method.kind == "chain":
        ends = [_end(child) for child in found.root.children]
        tries = [{"chain": _nodes_to(tree, end), "win": end.code == FINAL_ANSWER} for end in ends]
        file |= {"try_count": len(tries), "trys": tries}
        arguments |= {"pass_at": method.chains, "answer": method.answers}
    else:
        file["tree"] = tree
        arguments |= {"tree_beam_size": method.width, "max_query_count": method.max_calls, "answer": method.answers}
        arguments |= {"with_filter": method.kind == "dfs"}
    chosen = found.chosen
    made: dict[str, Any] = {"valid_data": chosen is not None, "query_count": found.n_calls}
    made |= {"total_tokens": found.total_tokens, "final_answer": chosen.call[1] if chosen and chosen.call else ""}
    made["finish_type"] = "give_up" if chosen is not None and chosen.code == GIVE_UP else "give_answer"
    made |= {"function": [dict(function) for function in functions], "chain": []}
    if chosen is not None:
        made["train_messages"] = rebuilt(chosen, opening_of(query, functions), found.prompts)
    file |= {"forward_args": arguments, "compare_candidates": [_nodes_to(tree, end) for end in found.answers]}
    return {**file, "answer_generation": {**made, "query": query}}


def _end(state: State) -> State:
    while state.children:
        state = state.children[0]
    return state


def _nodes_to(tree: Mapping[str, Any], end: State) -> list[dict[str, Any]]:
    """The nodes of a written tree from below its root to a state, each without those below it."""
    nodes = []
    node = tree["tree"]
    for state in path_to(end):
        assert state.parent is not None
        place = next(n for n, child in enumerate(state.parent.children) if child is state)
        for _ in range((state.thought is not None) + 2 * (state.call is not None)):
            node = node["children"][place]
            nodes.append({key: value for key, value in node.items() if key != "children"})
            place = 0
    return nodes


def write_answers(answers: Dataset, folder: str | Path) -> list[Path]:
    """Write a table of answer files as the files that ToolBench's own scripts read.

    Args:
        answers: a table `columns.ANSWERS`.
        folder: where to; each file is named by its row's id, whose parts become folders.

    Raises:
        InputError: an id that names no place below the folder.
    """
    check_features(answers, ANSWERS, "write_answers")
    written = []
    for row in answers.select_columns(["id", "answer"]):
        name = PurePosixPath(f"{row['id']}.json")
        if name.is_absolute() or ".." in name.parts or "\0" in str(name):
            raise InputError(f"the id {row['id']!r} names no place below {folder}")
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(row["answer"], encoding="utf-8", newline="")
        written.append(path)
    return written
