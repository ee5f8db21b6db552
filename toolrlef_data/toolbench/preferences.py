"""preferences: the chosen step beside each branch of a search that was left, for training on preferences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.columns import ANSWERS, PAIRS
from toolrlef_data.records import Drop, UnusableRow
from toolrlef_data.tables.transform import check_features, explode
from toolrlef_data.toolbench.answer_file import (
    FILES_AT_ONCE,
    READS,
    Answer,
    Made,
    Searched,
    check_step,
    finish_types,
    recorded,
)
from toolrlef_data.toolbench.histories import NO_SUCH_FUNCTION, messages_of
from toolrlef_data.toolbench.messages import canonical, flags_of
from toolrlef_data.toolbench.tree import GIVE_UP, State, path_to, states_of

__all__ = ["PairSettings", "preference_pairs"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class PairSettings:
    """How pairs are made; arguments of `preference_pairs`."""

    kind: ClassVar[str] = "preference pairs"
    keep_thought: bool
    finish: tuple[str, ...]


def preference_pairs(
    answers: D, *, keep_thought: bool = True, finish: Sequence[str] = ("give_answer",), num_proc: int | None = None
) -> D:
    """The chosen step beside each step that was tried in its place and left, for DPO and the like.

    Both stand under the clean history (`histories`), since a second try saw the first one in its prompt. `why` says
    what became of the other branch: "gave_up", "unknown_function" or "left".

    Args:
        answers: a table `columns.ANSWERS`.
        keep_thought, finish, num_proc: as of `trajectories`.

    Returns:
        a table `columns.PAIRS`; a file without a branch that was left is in the ledger as `no_branch`.
    """
    pairing = PairSettings(keep_thought, finish_types(finish))
    check_features(answers, ANSWERS, "preference_pairs")
    options: dict[str, Any] = {"batch_rows": FILES_AT_ONCE, "num_proc": num_proc}
    return explode(answers, _pairs, pairing, reads=READS, features=PAIRS, stage=PairSettings.kind, **options)


def _pairs(row: Row, pairing: PairSettings) -> Made:
    return recorded(row, _made(row, pairing))


def _made(row: Row, pairing: PairSettings) -> Made:
    answer = Answer(row, (*pairing.finish, "unfinished"))
    tree = answer.tree()
    if tree.end is None:
        raise UnusableRow("not_valid", "the file shows no path")
    path = path_to(tree.end)
    tried = [(state, other) for state in path if state.parent for other in state.parent.children if other is not state]
    if not tried:
        raise UnusableRow("no_branch", "every step was the only one that was tried")
    for state, other in tried:
        name = f"{row['id']}#{state.place}>{other.place}"
        pair = _pair(_to_call(state, path), _to_call(other, ()), answer, tree, pairing)
        yield (name, pair) if isinstance(pair, Drop) else {"id": name, "step": len(path_to(state)), **pair}


def _pair(taken: State, left: State, answer: Answer, tree: Searched, pairing: PairSettings) -> dict[str, Any] | Drop:
    """The calls of two branches under the history of the one that was taken, or why they are no pair."""
    if taken.call is None or left.call is None:
        return Drop("thought_only", "a branch without a call")
    chosen, rejected = (messages_of(each, tree.opening, tree.prompts, "clean") for each in (taken, left))
    if drop := check_step(chosen) or check_step(rejected):
        return drop
    one, two = (canonical(messages, pairing.keep_thought) for messages in (chosen, rejected))
    if one[-1] == two[-1]:
        return Drop("same", "both branches begin alike")
    return answer.facts | {
        "prompt": [message | {"train": False} for message in one[:-1]],
        "chosen": [one[-1] | {"train": True}],
        "rejected": [two[-1] | {"train": False}],
        "tools": answer.tools,
        "why": _fate(left),
        "flags": flags_of(chosen, answer.names, pairing.keep_thought),
    }


def _to_call(state: State, path: Sequence[State]) -> State:
    """The first state from here on that calls: on a path, or always the first child."""
    while state.call is None and state.children:
        state = next((child for child in state.children if child in path), state.children[0])
    return state


def _fate(state: State) -> str:
    if state.code == NO_SUCH_FUNCTION:
        return "unknown_function"
    return "gave_up" if any(each.code == GIVE_UP for each in [state, *states_of(state)]) else "left"
