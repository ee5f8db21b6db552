"""answer_writer: searches as answer files of ToolBench's kind.

Not covered: file systems that take names apart in upper and lower case for one, or that have reserved names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from toolrlef_data.columns import ANSWERS
from toolrlef_data.records import InputError
from toolrlef_data.tables.files import atomic_file
from toolrlef_data.tables.transform import check_features
from toolrlef_data.toolbench.histories import rebuilt
from toolrlef_data.toolbench.prompts import DIVERSITY, opening_of
from toolrlef_data.toolbench.search.dfsdt import Found, Method
from toolrlef_data.toolbench.tree import FINAL_ANSWER, GIVE_UP, State, path_to, write_tree

__all__ = ["answer_file", "write_answers"]

MAX_NAME, MAX_PATH = 255, 4095  # bytes, as Linux takes them; of one part, and of the whole


def answer_file(found: Found, query: str, functions: Sequence[Mapping[str, Any]], method: Method) -> dict[str, Any]:
    """A search as ToolBench's answer file, which has `trys` in the place of `tree` where it was made of chains.

    Where it came to no end, `forward_args` holds the opening messages too, which are nowhere else then.

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
    opening = opening_of(query, functions)
    if chosen is None:  # there are no messages to show what the model was told
        arguments |= {"opening": opening, "diversity": list(DIVERSITY)}
    made: dict[str, Any] = {"valid_data": chosen is not None, "query_count": found.n_calls}
    made |= {"total_tokens": found.total_tokens, "final_answer": chosen.call[1] if chosen and chosen.call else ""}
    made["finish_type"] = "give_up" if chosen is not None and chosen.code == GIVE_UP else "give_answer"
    made |= {"function": [dict(function) for function in functions], "chain": []}
    if chosen is not None:
        made["train_messages"] = rebuilt(chosen, opening, found.prompts)
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
        folder: where to; each file is named by its row's id, whose parts become folders. A file of that name is
            replaced.

    Raises:
        InputError: an id that names no file below the folder which the reader of such files would find, or that stands
            twice; nothing has been written then.
    """
    check_features(answers, ANSWERS, "write_answers")
    paths = list(_paths(answers["id"][:], Path(folder)))
    for path, row in zip(paths, answers.select_columns(["answer"]), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as scratch:
            scratch.write_text(row["answer"], encoding="utf-8", newline="")
    return paths


def _paths(ids: Sequence[str | None], folder: Path) -> Iterator[Path]:
    """The file of each id."""
    used: dict[str, bool] = {}  # names below the folder, and whether it is a file
    for row_id in ids:
        if row_id is None:
            raise InputError("write_answers needs an id in every row, found null")
        name = f"{row_id}.json"
        parts = name.split("/")
        path = folder.joinpath(*parts)
        mistake = ""
        if not all(parts) or any(part.startswith(".") for part in parts) or "\0" in name:
            mistake = 'has a part that is empty, begins with "." or holds a null character'
        elif any(len(os.fsencode(part)) > MAX_NAME for part in parts) or len(os.fsencode(path.absolute())) > MAX_PATH:
            mistake = f"is too long: {MAX_NAME} bytes a part, {MAX_PATH} in all"
        elif name in used:
            mistake = "stands twice" if used[name] else f"would be both a file and a folder {name!r:.80}"
        used[name] = True
        for end in range(1, len(parts)):
            above = "/".join(parts[:end])
            if used.setdefault(above, False):
                mistake = mistake or f"lies in {above!r:.80}, which is another id's file"
        if mistake:
            raise InputError(f"no file below {folder} can be named by the id {row_id!r:.120}: it {mistake}")
        yield path
