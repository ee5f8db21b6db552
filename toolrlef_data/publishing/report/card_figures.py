"""The figures of a published version: its SVG files, with the alternative texts of its card."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import NamedTuple

from toolrlef_data.publishing.figures.charts import FIGURES
from toolrlef_data.publishing.hub.versions import Version
from toolrlef_data.publishing.manifest import CARD

__all__ = ["CardFigure", "card_figures"]

IMAGE = re.compile(r"^!\[(.*)\]\(([^()\s]+)\)$", re.MULTILINE)
ESCAPED = re.compile(r"\\([|<\[\]])")  # by `markdown.one_line`


class CardFigure(NamedTuple):
    """A figure: its caption, its numbers as text, and its SVG file in base64."""

    caption: str
    alt: str
    data: str


def card_figures(versions: Sequence[Version]) -> list[CardFigure]:
    """Return the figures of one version, or those of two versions in turn; none if their cards have none.

    An `img` element draws an SVG file without running scripts in it or loading other files.
    """
    texts = []
    for one in versions:
        card = one.path(CARD).read_text(encoding="utf-8")
        texts.append({file: ESCAPED.sub(r"\1", alt) for alt, file in IMAGE.findall(card)})
    figures = []
    for file in FIGURES:
        for one, alts in zip(versions, texts, strict=True):
            if file in one.facts["files"] and file in alts:
                caption = alts[file].partition(".")[0]
                caption += f", version {one.facts['version']}" if len(versions) > 1 else ""
                data = base64.b64encode(one.path(file).read_bytes()).decode()
                figures.append(CardFigure(caption, alts[file], data))
    return figures
