"""The options of export formats, and the check of their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from toolrlef_data.choices import check_choice
from toolrlef_data.engines.prompts import STYLES
from toolrlef_data.records import InputError
from toolrlef_data.tasks.task import Task
from toolrlef_data.trice.scoring import LEVELS

__all__ = ["CHOICES", "NUMBERS", "Options", "check_options"]

# name -> (its name in messages, its values)
CHOICES = {
    "arguments": ("form of arguments", ("object", "text")),
    "style": ("prompt style", STYLES),
    "calls": ("form of calls", ("text", "native")),
    "pairs": ("selection of pairs", ("best", "adjacent", "all")),
}
NUMBERS = ("min_gap", "score_range")


@dataclass(frozen=True)
class Options:
    """The checked options of an export; those that a format lacks have no effect.

    Args:
        arguments, style, calls, pairs, min_gap, score_range: as in `export`.
        tasks: the tasks of the table by name, whose tools native calls name.
    """

    arguments: str = "text"
    style: str = "chat"
    calls: str = "text"
    pairs: str = "best"
    min_gap: float = 0.0
    score_range: float = LEVELS[0] - LEVELS[-1]
    tasks: Mapping[str, Task] = field(default_factory=dict)


def check_options(format: str, supported: Mapping[str, tuple[str, ...]], given: Mapping[str, Any]) -> Options:
    """Return the options of a format, with the defaults of those that are None.

    Args:
        format: the name of the format, for messages.
        supported: option -> its values in this format, the default first; empty for a number.
        given: option -> value or None.

    Raises:
        UnknownName: a value that no format has.
        InputError: an option or a value that this format lacks, or a number out of range.
    """
    values: dict[str, Any] = {name: choices[0] for name, choices in supported.items() if choices}
    for name, value in given.items():
        if value is None:
            continue
        if name in CHOICES:
            check_choice(CHOICES[name][0], value, CHOICES[name][1])
        if name not in supported:
            found = ", ".join(supported) or "none"
            raise InputError(f"the format {format!r} has no option {name} for this table; its options: {found}")
        if name in CHOICES and value not in supported[name]:
            only = f"{name} as {' or '.join(supported[name])} only"
            raise InputError(f"the format {format!r} supports {only}: omit {name}=")
        if name in NUMBERS and not (isinstance(value, (int, float)) and 0 <= value < float("inf")):
            raise InputError(f"{name}: expected a number of at least 0, found {value!r:.40}")
        values[name] = value
    options = Options(**values)
    if options.calls == "native" and options.style != "chat":
        raise InputError(f'calls="native" needs style="chat", found {options.style!r}')
    if options.score_range == 0:
        raise InputError("score_range: expected a number above 0, found 0")
    return options
