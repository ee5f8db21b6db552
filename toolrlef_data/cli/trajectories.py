"""The command `trajectories`, which builds samples from answer files."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolrlef_data.cli.console import (
    count_table,
    dropped_table,
    flag_table,
    print_line,
    print_parts,
)
from toolrlef_data.records import InputError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


__all__ = ["VERSION", "Layout", "Out", "publish_steps", "trajectories"]

VERSION = "1.0.0"
PAIR_FORMATS = ("trl_preference", "trl_reward")
FORMATS = ("axolotl", "llamafactory", "openai", "toolllama", "trl", *PAIR_FORMATS)
NO_SAMPLES = "no samples: all answer files and steps were dropped; the table of dropped rows lists the reasons"
LOAD = 'To load it:\n    load_dataset("{}", "toolbench-{}", split="train")'
Out = Annotated[Path, typer.Option(help="Output folder.")]
Layout = Annotated[
    str, typer.Option(help="split: one sample per step; merged: one sample for all steps that fit one sequence.")
]


def trajectories(
    out: Out,
    data_dir: Annotated[
        Path | None, typer.Argument(help="ToolBench answer file, or folder of them. Default: bundled answer files.")
    ] = None,
    layout: Layout = "split",
    style: Annotated[
        str | None,
        typer.Option(help="messages: chat messages; toolllama: ToolBench's text turns. Default: as --export requires."),
    ] = None,
    history: Annotated[
        str | None,
        typer.Option(help="Kind of history: faithful, upstream, clean. Default: faithful (toolllama: upstream)."),
    ] = None,
    steps: Annotated[str, typer.Option(help="chosen: steps of the chosen path; all: all steps of the search tree.")] = (
        "chosen"
    ),
    finish: Annotated[
        list[str] | None,
        typer.Option(help="Use only files with this finish type: give_answer, give_up, unfinished; repeatable."),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="Drop steps with this flag, such as invalid_arguments; repeatable.")
    ] = None,
    keep_thought: Annotated[
        bool | None,
        typer.Option(help="Keep the text beside a function call. Default: yes (toolllama: no)."),
    ] = None,
    pairs: Annotated[bool, typer.Option("--pairs", help="Also publish preference pairs.")] = False,
    test: Annotated[
        float | None, typer.Option(help="Share of queries in the test split, between 0 and 1. Default: no split.")
    ] = None,
    shuffle: Annotated[
        int | None, typer.Option(help="Shuffle the samples with this seed. Default: no shuffle.")
    ] = None,
    export: Annotated[
        str | None,
        typer.Option(
            help="Write training files instead of a data set: axolotl, llamafactory, openai, toolllama, trl, "
            "trl_preference, trl_reward."
        ),
    ] = None,
    arguments: Annotated[
        str | None,
        typer.Option(help="Call arguments in the TRL formats: object (parsed), or text (as written). Default: object."),
    ] = None,
    drop_unfit: Annotated[
        bool, typer.Option("--drop-unfit", help="Drop rows that do not fit the export format, instead of an error.")
    ] = False,
    version: Annotated[str, typer.Option(help="Version of the data set.")] = VERSION,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a newer version, or other rows under the same version.")
    ] = False,
) -> None:
    """Build training samples from answer files, and publish or export them."""
    from datasets import DatasetDict

    from toolrlef_data.publishing.placement import check_replaceable
    from toolrlef_data.tables.sampling.splits import shuffle_steps, split_queries
    from toolrlef_data.toolbench.preferences import preference_pairs
    from toolrlef_data.toolbench.samples import trajectories as samples_of

    sample_options = {"--layout": layout != "split", "--style": style, "--history": history, "--without": without}
    _check_export(export, pairs, arguments, drop_unfit, {**sample_options, "--steps": steps != "chosen"})
    if export is None:
        check_replaceable(out, version, replace=replace)
    elif version != VERSION or replace:
        raise InputError("--version and --replace describe a data set: omit them with --export")
    style = style or ("toolllama" if export == "toolllama" else "messages")
    options: dict[str, Any] = {"layout": layout, "style": style, "history": history, "steps": steps}
    options["without"] = without or ()
    shared: dict[str, Any] = {"finish": finish} if finish else {}  # samples and pairs have different defaults
    shared |= {} if keep_thought is None else {"keep_thought": keep_thought}
    answers = _load_answers(data_dir)
    parts = DatasetDict({"train": answers}) if test is None else split_queries(answers, test)
    tables = {}
    if export not in PAIR_FORMATS:
        tables["trajectories" if style == "messages" else style] = samples_of(parts, **options, **shared)
    if pairs or export in PAIR_FORMATS:
        tables["pairs"] = preference_pairs(parts, **shared)
    if shuffle is not None:
        tables = {name: shuffle_steps(table, shuffle) for name, table in tables.items()}
    first, dropped = next(iter(tables.values())), dropped_table(tables.values())
    if not any(map(len, first.values())):
        print_parts(dropped)
        raise InputError(NO_SAMPLES)
    if export is None:
        filled = {name: table for name, table in tables.items() if any(map(len, table.values()))}
        messages = [publish_steps(filled, out, version, replace=replace)]
    else:
        messages = _export_splits(first, export, out, arguments, drop_unfit)
    counts = {f"{name} {split}": len(data) for name, table in tables.items() for split, data in table.items()}
    print_parts(count_table("Samples", {"answer files": len(answers), **counts}), flag_table(first.values()), dropped)
    for message in messages:
        print_line(message)


def _load_answers(data_dir: Path | None) -> Dataset:
    """Return the answer files as a table; if none is usable, print the drop reasons and raise InputError."""
    from toolrlef_data.loading_scripts import load_source

    answers = load_source("toolbench", data_dir=data_dir) if data_dir else load_source("sample_trajectories")
    if not len(answers):
        print_parts(dropped_table([], load_source("toolbench", data_dir=data_dir, split="dropped")))
        raise InputError(NO_SAMPLES)
    return answers


def publish_steps(tables: Mapping[str, Dataset | DatasetDict], out: Path, version: str, *, replace: bool) -> str:
    """Publish tables and return the message that shows how to load the first one."""
    from toolrlef_data.publishing.folder import publish

    publish({"toolbench": tables}, out, version=version, replace=replace)
    return LOAD.format(out, next(iter(tables)))


def _export_splits(
    table: Mapping[str, Dataset], format: str, out: Path, arguments: str | None, drop_unfit: bool
) -> list[str]:
    """Export all splits that have rows, or none after an error, and return the paths of the written files."""
    from toolrlef_data.publishing.exports.formats import EXPORTS
    from toolrlef_data.publishing.exports.writing import pending_export

    suffix, unfit = "json" if EXPORTS[format][0].array else "jsonl", "drop" if drop_unfit else "refuse"
    options: dict[str, Any] = {"arguments": arguments, "unfit": unfit}
    filled = {split: data for split, data in table.items() if len(data)}
    with contextlib.ExitStack() as stack:
        pending = [pending_export(data, format, out / f"{split}.{suffix}", **options) for split, data in filled.items()]
        return [str(stack.enter_context(path)) for path in pending]


def _check_export(
    export: str | None, pairs: bool, arguments: str | None, drop_unfit: bool, sample_options: Mapping[str, Any]
) -> None:
    """Raise InputError for options that would have no effect, and UnknownName for an unknown format."""
    from toolrlef_data.choices import check_choice

    if export is None:
        if arguments or drop_unfit:
            raise InputError("--arguments and --drop-unfit need --export: name a format, or omit them")
        return
    check_choice("format", export, FORMATS)
    if export not in PAIR_FORMATS:
        if pairs:
            hint = "omit --pairs, and export the pairs in a separate command with --export trl_preference"
            raise InputError(f"--export {export} does not write pairs: {hint}")
    elif names := [name for name, value in sample_options.items() if value]:
        raise InputError(f"--export {export} writes pairs and does not support {', '.join(names)}: omit it")
