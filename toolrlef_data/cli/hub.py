"""The command `push`: a published folder as a release on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolrlef_data.cli.console import print_line

__all__ = ["push"]


def push(
    folder: Annotated[Path, typer.Argument(help="Folder that `run` or `publish` wrote.", exists=True, file_okay=False)],
    repo: Annotated[str, typer.Argument(help="Dataset repository, such as org/name; created if it is missing.")],
    private: Annotated[bool, typer.Option("--private", help="Create a private repository.")] = False,
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Open a pull request. After its merge, push again to make the tag.")
    ] = False,
    branch: Annotated[
        str | None,
        typer.Option(help="Branch to commit to. After its merge, push again to make the tag. Default: main."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the difference to the newest tag and change nothing.")
    ] = False,
    move_tag: Annotated[bool, typer.Option("--move-tag", help="Replace a tag that has other contents.")] = False,
) -> None:
    """Push a published folder to the Hub in one commit, and tag it. Needs `hf auth login`, or the variable HF_TOKEN."""
    from toolrlef_data.publishing.hub.difference import describe
    from toolrlef_data.publishing.hub.push import push_to_hub

    result = push_to_hub(
        folder, repo, private=private, create_pr=create_pr, branch=branch, dry_run=dry_run, move_tag=move_tag
    )
    if dry_run:
        return
    for line in describe(result.changes) if result.since else ():
        print_line(f"since {result.since}: {line}")
    print_line(f"{'Tagged ' + result.tag if result.tag else 'Not tagged yet'}: {result.url}")
