"""The command `show`: rows of a published folder, with the responses side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolrlef_data.cli.console import print_line
from toolrlef_data.records import InputError, UnknownName

if TYPE_CHECKING:
    from datasets import DatasetDict

__all__ = ["show"]


def show(
    folder: Annotated[Path, typer.Argument(help="Folder that `run` or `publish` wrote.", exists=True, file_okay=False)],
    config: Annotated[
        str | None, typer.Option(help="Config, such as math-stage1. Default: the first stage 2, else the first.")
    ] = None,
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, help="Maximum number of rows per split.")] = 3,
    id: Annotated[str | None, typer.Option(help="Id of a row.")] = None,  # the name of the option
    where: Annotated[
        list[str] | None,
        typer.Option(help="COLUMN=VALUE, such as errors=syntax or gpt.tool=calculator; several must all hold."),
    ] = None,
) -> None:
    """Print rows of a published folder: the question, and the responses with score, call and result."""
    from toolrlef_data.publishing import viewing

    conditions = dict(map(_condition, where or ()))
    if id is not None:
        conditions["id"] = id
    name, data, names = _load(folder, config)
    print_line(str(viewing.show(data, rows, where=conditions or None)))
    print_line(f"config {name}; all configs: {', '.join(names)}")


def _condition(text: str) -> tuple[str, str]:
    column, mark, value = text.partition("=")
    if not mark or not column.strip():
        raise InputError(f"--where: expected COLUMN=VALUE, found {text!r:.80}")
    return column.strip(), value.strip()


def _load(folder: Path, config: str | None) -> tuple[str, DatasetDict, list[str]]:
    """Return the name of a config, its splits, and the names of all configs."""
    from datasets import disable_progress_bars, get_dataset_config_names, load_dataset

    if not (folder / "README.md").is_file() or not list(folder.rglob("*.parquet")):
        raise InputError(f"{folder} has no published data set: expected README.md and Parquet files")
    disable_progress_bars()
    names = get_dataset_config_names(str(folder.absolute()))
    if config is not None and config not in names:
        raise UnknownName("config", config, names)
    stage2 = [name for name in names if name.endswith("stage2")]
    name = config or (stage2 or names)[0]
    return name, load_dataset(str(folder.absolute()), name), names
