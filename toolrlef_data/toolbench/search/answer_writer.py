"""answer_writer: search results as ToolBench answer files.

Not covered: file systems that ignore case or reserve names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from toolrlef_data.checks import as_path, check_features
from toolrlef_data.columns import ANSWERS
from toolrlef_data.records import InputError
from toolrlef_data.tables.files import atomic_file
from toolrlef_data.toolbench.histories import rebuild_train_messages
from toolrlef_data.toolbench.prompts import DIVERSITY, opening_messages
from toolrlef_data.toolbench.search.method import Method, SearchResult
from toolrlef_data.toolbench.tree import FINAL_ANSWER, GIVE_UP, State, path_to, write_tree

__all__ = ["answer_file", "write_answers"]

MAX_NAME, MAX_PATH = 255, 4095  # bytes of a name and of a path, as on Linux


def answer_file(
    result: SearchResult, query: str, functions: Sequence[Mapping[str, Any]], method: Method
) -> dict[str, Any]:
    """Convert a search result to a ToolBench answer file, with `trys` instead of `tree` for chains.

    Without a chosen path there are no `train_messages`; `forward_args` then contains the opening messages.

    Args:
        result: the result of `search`.
        query, functions, method: the arguments of that search.

    Returns:
        The content of the file, for `json.dumps`.

    >>> answer_file(SearchResult(), "Is it up?", [{"name": "Finish"}], Method())["answer_generation"]["valid_data"]
    False
    """
    tree = write_tree(result.root)
    arguments: dict[str, Any] = {"single_chain_max_step": 2 * method.max_turns}  # in upstream's unit, 2 per call
    file: dict[str, Any] = {"win": bool(result.answers)}
    if method.kind == "chain":
        ends = [_leaf(child) for child in result.root.children]
        chains = [{"chain": _nodes_to(tree, end), "win": end.code == FINAL_ANSWER} for end in ends]
        file |= {"try_count": len(chains), "trys": chains}
        arguments |= {"pass_at": method.chains, "answer": method.answers}
    else:
        file["tree"] = tree
        arguments |= {"tree_beam_size": method.width, "max_query_count": method.max_calls, "answer": method.answers}
        arguments |= {"with_filter": method.kind == "dfs"}
    chosen = result.chosen
    opening = opening_messages(query, functions)
    if chosen is None:
        arguments |= {"opening": opening, "diversity": list(DIVERSITY)}
    generation: dict[str, Any] = {"valid_data": chosen is not None, "query_count": result.n_calls}
    generation |= {"total_tokens": result.total_tokens}
    generation |= {"final_answer": chosen.call[1] if chosen and chosen.call else ""}
    generation["finish_type"] = "give_up" if chosen is not None and chosen.code == GIVE_UP else "give_answer"
    generation |= {"function": [dict(function) for function in functions], "chain": []}
    if chosen is not None:
        generation["train_messages"] = rebuild_train_messages(chosen, opening, result.prompts)
    file |= {"forward_args": arguments, "compare_candidates": [_nodes_to(tree, end) for end in result.answers]}
    return {**file, "answer_generation": {**generation, "query": query}}


def _leaf(state: State) -> State:
    """Return the last state of a chain."""
    while state.children:
        state = state.children[0]
    return state


def _nodes_to(tree: Mapping[str, Any], end: State) -> list[dict[str, Any]]:
    """Return the nodes of a written tree from its root (excluded) to a state, without their children."""
    nodes = []
    node = tree["tree"]
    for state in path_to(end):
        assert state.parent is not None
        index = next(n for n, child in enumerate(state.parent.children) if child is state)
        for _ in range((state.thought is not None) + 2 * (state.call is not None)):
            node = node["children"][index]
            nodes.append({key: value for key, value in node.items() if key != "children"})
            index = 0
    return nodes


def write_answers(answers: Dataset, folder: str | Path) -> list[Path]:
    """Write a table of answer files as files that ToolBench's scripts can read.

    Args:
        answers: table with the columns `columns.ANSWERS`.
        folder: destination. The row ids name the files; the parts of an id become folders. Existing files of these
            names are replaced.

    Returns:
        The paths of the files, in the order of the rows.

    Raises:
        InputError: an id is not unique or not a valid file name; no file is written then.
        MissingColumns: the table lacks columns of `columns.ANSWERS`.

    >>> from toolrlef_data import load_source
    >>> paths = write_answers(load_source("sample_trajectories"), "answers")
    >>> paths[0].suffix
    '.json'
    """
    answers = check_features(answers, ANSWERS, "write_answers")
    paths = list(_paths(answers["id"][:], as_path("folder", folder)))
    for path, row in zip(paths, answers.select_columns(["answer"]), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as scratch:
            scratch.write_text(row["answer"], encoding="utf-8", newline="")
    return paths


def _paths(ids: Sequence[str | None], folder: Path) -> Iterator[Path]:
    """Yield the file path of each id.

    Raises:
        InputError: an id is not unique or not a valid file name.
    """
    is_file: dict[str, bool] = {}  # by name below the folder
    for row_id in ids:
        if row_id is None:
            raise InputError("write_answers: expected an id in every row, found null")
        name = f"{row_id}.json"
        parts = name.split("/")
        path = folder.joinpath(*parts)
        problem = ""
        if not all(parts) or any(part.startswith(".") for part in parts) or "\0" in name:
            problem = 'has an empty part, a part that starts with ".", or a null character'
        elif any(len(os.fsencode(part)) > MAX_NAME for part in parts) or len(os.fsencode(path.absolute())) > MAX_PATH:
            problem = f"is too long: at most {MAX_NAME} bytes a part, {MAX_PATH} in all"
        elif name in is_file:
            problem = "occurs twice" if is_file[name] else f"would be both a file and a folder {name!r:.80}"
        is_file[name] = True
        for end in range(1, len(parts)):
            parent = "/".join(parts[:end])
            if is_file.setdefault(parent, False):
                problem = problem or f"is below {parent!r:.80}, which is the file of another id"
        if problem:
            raise InputError(f"cannot build a file name below {folder} from the id {row_id!r:.120}: it {problem}")
        yield path
