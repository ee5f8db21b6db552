"""merge: steps whose histories are the beginning of each other's, as one sequence.

Where one step's history and target are an exact prefix of another's, one sequence serves both: every target is trained
once, under exactly its history. A merged sequence holds messages of the model that are trained elsewhere, or not at
all, so each message carries a flag. Not covered here: whether the prefix also holds on the tokens of a chat template
(`tokenise` checks that).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from toolrlef_data.records import LedgerError

__all__ = ["merged"]

Messages = Sequence[Mapping[str, Any]]


def merged(steps: Sequence[Messages]) -> list[tuple[Messages, dict[int, int]]]:
    """As few sequences as hold all steps.

    Args:
        steps: of each, history and target; all of one trajectory.

    Returns:
        sequences, in the order of the first step of each: the messages, and message -> step for those to train.

    Raises:
        LedgerError: the sequences do not hold every step once: a bug.

    >>> hi, one, two = ({"content": text} for text in ("hi", "one", "two"))
    >>> [trained for _, trained in merged([[hi, one], [hi, one, two], [hi, two]])]
    [{1: 0, 2: 1}, {1: 2}]
    """
    sequences: list[tuple[Messages, dict[int, int]]] = []
    for n in sorted(range(len(steps)), key=lambda n: -len(steps[n])):  # a sequence is as long as its longest step
        messages, at = steps[n], len(steps[n]) - 1
        holding = (
            trained
            for whole, trained in sequences
            if at not in trained and list(whole[: at + 1]) == list(messages)  # the same step twice stands in two
        )
        trained = next(holding, None)
        if trained is None:
            sequences.append((messages, {at: n}))
        else:
            trained[at] = n
    found = sorted(n for _, trained in sequences for n in trained.values())
    if found != list(range(len(steps))):
        raise LedgerError(f"merging {len(steps)} steps trains {found}")
    ordered = [(whole, dict(sorted(trained.items()))) for whole, trained in sequences]
    return sorted(ordered, key=lambda each: min(each[1].values()))
