"""The classes of questions by what a model can do without the tool and with it.

The 95 % interval of a share of right responses lies above the threshold, below it, or around it:

| without the tool | with the tool | class |
|---|---|---|
| below | above | needs_tool |
| above | above | indifferent |
| above | below | harmed |
| below | below | hopeless |
| around, or around with the tool | | unsure |

The threshold is 0.5: a response of the kind "above" is more often right than wrong. The interval of 4 equal outcomes
or more lies on one side of it; of 16 samples, 12 right samples are above, and 4 are below.
"""

from __future__ import annotations

from toolrlef_data.trice.evaluation.intervals import wilson

__all__ = ["CLASSES", "need_class"]

CLASSES = ("needs_tool", "indifferent", "harmed", "hopeless", "unsure")
_BY_SIDES = {
    (False, True): "needs_tool",
    (True, True): "indifferent",
    (True, False): "harmed",
    (False, False): "hopeless",
}


def need_class(right_plain: int, n_plain: int, right_tool: int, n_tool: int, threshold: float = 0.5) -> str:
    """Return the class of a question.

    Args:
        right_plain, n_plain: the right responses without the tool, of the graded ones.
        right_tool, n_tool: the same with the tool.
        threshold: the share that separates "can" from "cannot", above 0 and below 1; default 0.5.

    >>> [need_class(0, 8, 8, 8), need_class(8, 8, 8, 8), need_class(8, 8, 0, 8), need_class(0, 8, 0, 8)]
    ['needs_tool', 'indifferent', 'harmed', 'hopeless']
    >>> need_class(5, 8, 8, 8), need_class(0, 0, 8, 8)
    ('unsure', 'unsure')
    """
    sides = (_side(right_plain, n_plain, threshold), _side(right_tool, n_tool, threshold))
    return "unsure" if None in sides else _BY_SIDES[sides]  # type: ignore[index]


def _side(right: int, n: int, threshold: float) -> bool | None:
    """Return whether an interval is above the threshold (True) or below it (False); None if it is around it."""
    low, high = wilson(right, n)
    return True if low > threshold else False if high < threshold else None
