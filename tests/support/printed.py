"""What a command printed, without the lines of its tables."""

from __future__ import annotations

import re

__all__ = ["printed_lines"]

BORDERS = re.compile(r"[\s┏┓┗┛┡┩┳┻╇━└┘┴─┼├┤]*")


def printed_lines(output: str) -> list[str]:
    """Return the lines of an output; a row of a table is its cells with bars between them, without borders."""
    lines = []
    for line in output.splitlines():
        cells = re.split("[│┃]", line)
        text = "|".join(map(str.strip, cells[1:-1])) if len(cells) > 2 else line.strip()
        if text.strip("|") and not BORDERS.fullmatch(line):  # a table of counts has no names of columns
            lines.append(text)
    return lines
