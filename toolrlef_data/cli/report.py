"""The command `report`: a published data set, or two versions of it, as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolrlef_data.cli.console import print_line

__all__ = ["report"]

VERSION = "A published folder, the id of a repository (its newest tag), or id@tag."


def report(
    folder: Annotated[str, typer.Argument(help=VERSION)],
    later: Annotated[str | None, typer.Argument(help="A later version to compare with. Default: none.")] = None,
    out: Annotated[Path, typer.Option(help="The file; an earlier report is replaced.")] = Path("report.html"),
) -> None:
    """Write one HTML file with the figures and all rows of a published data set, or of two versions side by side."""
    from toolrlef_data.publishing.report.writing import write_report

    path = write_report(folder, later, out=out)
    print_line(f"{path}: open it in a browser")
