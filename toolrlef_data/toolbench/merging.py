"""merging: steps whose histories are prefixes of each other, as one sequence.

If the history and target of one step are an exact prefix of another step's messages, one sequence trains both targets.
Each target is trained once, under exactly its history. Other assistant messages of the sequence are not trained.
`tokens` also checks the prefixes on the tokens of a chat template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from toolrlef_data.records import LedgerError

__all__ = ["merge_steps"]

Messages = Sequence[Mapping[str, Any]]


def merge_steps(steps: Sequence[Messages]) -> list[tuple[Messages, dict[int, int]]]:
    """Return the fewest sequences that contain all steps.

    Args:
        steps: history and target of each step of one trajectory.

    Returns:
        (messages, {index of a target in the messages: index of its step}) per sequence, ordered by first step.

    Raises:
        LedgerError: a step is missing or trained twice, which is a bug.

    >>> hi, one, two = ({"content": text} for text in ("hi", "one", "two"))
    >>> [targets for _, targets in merge_steps([[hi, one], [hi, one, two], [hi, two]])]
    [{1: 0, 2: 1}, {1: 2}]
    """
    sequences: list[tuple[Messages, dict[int, int]]] = []
    for n in sorted(range(len(steps)), key=lambda n: -len(steps[n])):  # a sequence starts with its longest step
        messages, target = steps[n], len(steps[n]) - 1
        matches = (
            targets
            for sequence, targets in sequences
            # Two equal steps are trained in two sequences.
            if target not in targets and list(sequence[: target + 1]) == list(messages)
        )
        targets = next(matches, None)
        if targets is None:
            sequences.append((messages, {target: n}))
        else:
            targets[target] = n
    trained = sorted(n for _, targets in sequences for n in targets.values())
    if trained != list(range(len(steps))):
        raise LedgerError(f"merging {len(steps)} steps: expected each step once, found {trained}")
    ordered = [(sequence, dict(sorted(targets.items()))) for sequence, targets in sequences]
    return sorted(ordered, key=lambda pair: min(pair[1].values()))
