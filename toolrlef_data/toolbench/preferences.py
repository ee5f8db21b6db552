"""preferences: pairs of a chosen step and an abandoned branch, for preference training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.checks import check_features
from toolrlef_data.columns import ANSWERS, PAIRS
from toolrlef_data.engines.rules import FLAG
from toolrlef_data.records import Drop, UnusableRow
from toolrlef_data.tables.reshape import explode
from toolrlef_data.toolbench.answer_file import (
    BATCH_FILES,
    READS,
    AnswerFile,
    AnswerTree,
    SampleStream,
    check_finish_types,
    check_step,
    checked_stream,
)
from toolrlef_data.toolbench.flags import flags_of
from toolrlef_data.toolbench.histories import NO_SUCH_FUNCTION, messages_of
from toolrlef_data.toolbench.messages import openai_messages
from toolrlef_data.toolbench.tree import GIVE_UP, State, path_to, states_of

__all__ = ["PairSettings", "preference_pairs"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class PairSettings:
    """Checked arguments of `preference_pairs`."""

    kind: ClassVar[str] = "preference pairs"
    keep_thought: bool
    finish: tuple[str, ...]


def preference_pairs(
    answers: D, *, keep_thought: bool = True, finish: Sequence[str] = ("give_answer",), num_proc: int | None = None
) -> D:
    """Build preference pairs, such as for DPO, from the chosen steps and their abandoned sibling branches.

    The prompt is the clean history (`histories`), because diversity prompts list earlier attempts. The column `why`
    states how the rejected branch ended: "gave_up", "unknown_function" or "left" (abandoned).

    Args:
        answers: table with the columns `columns.ANSWERS`.
        keep_thought: whether to keep the text beside a function call; default: True.
        finish: finish types of the files to use; default: ("give_answer",).
        num_proc: number of processes; does not change the result.

    Returns:
        A table with the columns `columns.PAIRS`. The ledger records a file without an abandoned branch as `no_branch`.

    Raises:
        UnknownName: an unknown finish type.
        InputError: `finish` is not a list, tuple or set.
        MissingColumns: the table lacks columns of `columns.ANSWERS`.

    >>> from toolrlef_data import load_source
    >>> preference_pairs(load_source("sample_trajectories"))["why"][0]
    'gave_up'
    """
    FLAG.check("keep_thought", keep_thought)
    settings = PairSettings(keep_thought, check_finish_types(finish))
    answers = check_features(answers, ANSWERS, "preference_pairs")
    options: dict[str, Any] = {"batch_rows": BATCH_FILES, "num_proc": num_proc}
    return explode(answers, _pairs, settings, reads=READS, features=PAIRS, stage=PairSettings.kind, **options)


def _pairs(row: Row, settings: PairSettings) -> SampleStream:
    """Yield the pairs and drops of one answer file."""
    return checked_stream(row, _build_pairs(row, settings))


def _build_pairs(row: Row, settings: PairSettings) -> SampleStream:
    answer = AnswerFile(row, (*settings.finish, "unfinished"))
    tree = answer.parse_tree()
    if tree.end is None:
        raise UnusableRow("not_valid", "the file has no chosen path")
    path = path_to(tree.end)
    siblings = [(state, sibling) for state in path if state.parent for sibling in state.parent.children]
    branches = [(state, sibling) for state, sibling in siblings if sibling is not state]
    if not branches:
        raise UnusableRow("no_branch", "no step of the chosen path has an abandoned sibling branch")
    for state, other in branches:
        row_id = f"{row['id']}#{state.place}>{other.place}"
        pair = _pair(_first_call(state, path), _first_call(other, ()), answer, tree, settings)
        yield (row_id, pair) if isinstance(pair, Drop) else {"id": row_id, "step": len(path_to(state)), **pair}


def _pair(
    chosen: State, rejected: State, answer: AnswerFile, tree: AnswerTree, settings: PairSettings
) -> dict[str, Any] | Drop:
    """Return the columns of a pair, whose prompt is the chosen state's history, or the drop of an unusable pair."""
    if chosen.call is None or rejected.call is None:
        return Drop("thought_only", "a branch has no call")
    chosen_messages, rejected_messages = (
        messages_of(state, tree.opening, tree.prompts, "clean") for state in (chosen, rejected)
    )
    if drop := check_step(chosen_messages) or check_step(rejected_messages):
        return drop
    chosen_turns, rejected_turns = (
        openai_messages(messages, settings.keep_thought) for messages in (chosen_messages, rejected_messages)
    )
    if chosen_turns[-1] == rejected_turns[-1]:
        return Drop("same", "both branches start with the same message")
    return answer.shared_columns | {
        "prompt": [message | {"train": False} for message in chosen_turns[:-1]],
        "chosen": [chosen_turns[-1] | {"train": True}],
        "rejected": [rejected_turns[-1] | {"train": False}],
        "tools": answer.tools,
        "why": _rejection_reason(rejected),
        "flags": flags_of(chosen_messages, answer.function_names, settings.keep_thought),
    }


def _first_call(state: State, path: Sequence[State]) -> State:
    """Return the first state with a call at or below a state, along the path or else along first children.

    Returns the last state if none has a call.
    """
    while state.call is None and state.children:
        state = next((child for child in state.children if child in path), state.children[0])
    return state


def _rejection_reason(state: State) -> str:
    if state.code == NO_SUCH_FUNCTION:
        return "unknown_function"
    return "gave_up" if any(branch_state.code == GIVE_UP for branch_state in [state, *states_of(state)]) else "left"
