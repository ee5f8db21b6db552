"""The commands for many machines: one shard of `run`, `merge`, and `replies merge`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolrlef_data.cli.console import count_table, exit_on_interrupt, print_line, print_parts, text_table
from toolrlef_data.records import InputError

if TYPE_CHECKING:
    from toolrlef_data.recipes.schema import Recipe, RunSettings
    from toolrlef_data.recipes.shards.merging import Merged

__all__ = ["merge", "replies", "run_all_on_ray", "run_one_shard", "run_settings"]

replies = typer.Typer(name="replies", no_args_is_help=True)


@replies.callback()
def _replies() -> None:
    """Work on reply stores, which hold all received replies."""


@replies.command("merge")
@exit_on_interrupt
def merge_stores(
    out: Annotated[Path, typer.Argument(help="Store that receives the replies; created if it is missing.")],
    stores: Annotated[list[Path], typer.Argument(help="Stores to copy, such as DIR/replies-*.sqlite.")],
) -> None:
    """Copy the replies of several stores into one; the first reply to a request stays."""
    from toolrlef_data.engines.database.merging import merge_replies

    counts = merge_replies(out, stores)
    rows = [(str(n.path.name), f"{n.added:,}", f"{n.known:,}", f"{n.damaged:,}") for n in counts]
    print_parts(text_table("Replies", ("store", "added", "already known", "damaged"), rows))
    print_line(f"{sum(n.added for n in counts):,} replies were added to {out}")


def run_one_shard(
    recipe: Recipe, shard: str | None, folder: Path | None, out: Path | None, replace: bool, num_proc: int | None
) -> None:
    """Run the shard that `--shard` or a scheduler names, and print its counts."""
    from toolrlef_data.recipes.shards.numbers import find_shard
    from toolrlef_data.recipes.shards.running import run_shard

    if folder is None:
        raise InputError("--shard needs --folder, the folder of all shards of this run")
    if out is not None or replace:
        raise InputError("--out and --replace are options of toolrlef-data merge: a shard publishes nothing")
    found = find_shard(shard, os.environ)
    print_line(f"shard {found}")
    record = run_shard(recipe, folder, found.index, found.count, num_proc=num_proc)
    _print_counts(record["rows_in"], record["rows_out"], record["dropped"], record["usage"])
    print_line(f"shard {found} is finished: {folder}")


def run_settings(recipe: Recipe, backend: str | None, options: Mapping[str, Any], shard: str | None) -> RunSettings:
    """Return how to run a recipe: its section `run` with the options of the command.

    Args:
        recipe: the recipe.
        backend: the option --backend.
        options: the options of the backend ray by their keys in `run`; None for those that are not given.
        shard: the option --shard, which is of no backend.
    """
    from toolrlef_data.choices import check_choice
    from toolrlef_data.recipes.schema import RunSettings

    if backend is not None:
        check_choice("backend", backend, ("local", "ray"))
        if shard is not None and backend == "ray":
            raise InputError("--shard runs one shard, and --backend ray runs all: pass one of them")
    given = {name: value for name, value in options.items() if value is not None}
    chosen = backend or ("local" if shard is not None else recipe.run.backend)
    if chosen == "ray":
        return recipe.run.model_copy(update={"backend": chosen, **given})
    for name in sorted(given.keys() - {"folder"}):
        raise InputError(f"--{name.replace('_', '-')} is an option of --backend ray")
    return RunSettings(num_proc=recipe.run.num_proc)


def run_all_on_ray(
    recipe: Recipe, settings: RunSettings, out: Path | None, replace: bool, num_proc: int | None
) -> None:
    """Run all shards on a Ray cluster, publish them, and print the counts."""
    from toolrlef_data.recipes.cluster.shard_runs import run_on_ray
    from toolrlef_data.recipes.shards.folders import shard_folder

    if settings.folder is None:
        raise InputError("--backend ray needs --folder, a folder that all nodes of the cluster share")
    count = settings.shards or shard_folder(settings.folder).count()
    if count is None:
        raise InputError("--backend ray needs --shards, their number: one for some thousand to ten thousand rows each")
    finished = 0

    def print_shard(shard: object, counts: Any) -> None:
        nonlocal finished
        finished += 1
        print_line(f"shard {shard} is finished: {counts.rows_in:,} questions ({finished} of {count} shards)")

    merged = run_on_ray(
        recipe,
        settings.folder,
        count,
        address=settings.address,
        num_cpus=settings.num_cpus,
        num_gpus=settings.num_gpus,
        num_proc=num_proc,
        out=out,
        replace=replace,
        on_shard=print_shard,
    )
    _print_merged(merged, "run the same command again")


def merge(
    recipe: Annotated[str, typer.Argument(help="The recipe of the shards: a YAML file or a name.")],
    folder: Annotated[Path, typer.Option(help="Folder of all shards.")],
    out: Annotated[Path | None, typer.Option(help="Folder to publish to. Default: as in the recipe.")] = None,
    all_rows: Annotated[bool, typer.Option("--all", help="As for the shards.")] = False,
    rows: Annotated[int | None, typer.Option(min=1, help="As for the shards.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a newer version, or other rows under the same version.")
    ] = False,
    keep_shards: Annotated[
        bool, typer.Option("--keep-shards", help="Publish the files of the shards instead of larger ones.")
    ] = False,
) -> None:
    """Publish the rows of all shards of a recipe as one data set; refuses while shards are missing, and names them."""
    from toolrlef_data.recipes.loading import load_recipe
    from toolrlef_data.recipes.shards.merging import merge_shards

    loaded = load_recipe(recipe, rows=rows, all_rows=all_rows)
    merged = merge_shards(loaded, folder, out=out, replace=replace, keep_shards=keep_shards)
    _print_merged(merged, "run these shards and merge again")


def _print_merged(merged: Merged, again: str) -> None:
    from toolrlef_data.recipes.shards.folders import shard_names

    dropped = {f"{stage}: {reason}": count for (stage, reason), count in merged.dropped.items()}
    _print_counts(merged.rows_in, merged.rows_out, dropped, merged.usage)
    if merged.retryable:
        print_line(f"Requests failed in the shards {shard_names(merged.retryable)}. To send them again, {again}.")
    print_line(f"Published: {merged.out}")


def _print_counts(
    rows_in: Mapping[str, int],
    rows_out: Mapping[str, int],
    dropped: Mapping[str, int],
    usage: Mapping[str, Mapping[str, int]],
) -> None:
    questions = {f"questions ({task})": rows for task, rows in rows_in.items()}
    print_parts(count_table("Rows", {**questions, **rows_out}), count_table("Dropped rows", dropped))
    names = ("requests", "prompt_tokens", "completion_tokens")
    rows = [(model, *(f"{counts.get(name, 0):,}" for name in names)) for model, counts in usage.items()]
    print_parts(text_table("Model usage", ("model", "requests", "prompt tokens", "reply tokens"), rows))
