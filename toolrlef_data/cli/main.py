"""The command line: thin commands over the functions of the package."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from toolrlef_data.cli.console import dropped_table, stoppable
from toolrlef_data.cli.trajectories import search, trajectories
from toolrlef_data.records import ToolrlefError

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Turn question-answer data and searches with functions into training data for selective tool use."""


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped recipe: demo, qa, mix, ...")],
    all_rows: Annotated[bool, typer.Option("--all", help="Take every row of every source.")] = False,
    rows: Annotated[int | None, typer.Option(min=1, help="Take this many rows of every source.")] = None,
    out: Annotated[Path | None, typer.Option(help="Publish to this folder instead of the recipe's.")] = None,
    num_proc: Annotated[int | None, typer.Option(min=1, help="Processes for the steps that ask no model.")] = None,
) -> None:
    """Run a recipe from its sources to a published folder; what was done before is not done again."""
    from toolrlef_data.recipes.runner import load_recipe, run_recipe

    with stoppable():
        done = run_recipe(load_recipe(recipe, rows=rows, all_rows=all_rows), out=out, num_proc=num_proc)
    _print_run(done)


app.command()(search)
app.command()(trajectories)


def _print_run(done: object) -> None:
    """Print what a run made: rows, right and wrong, coverage, scores by responder, what was dropped, where it is."""
    from rich.console import Console
    from rich.table import Column, Table

    from toolrlef_data.publishing.card import score_table
    from toolrlef_data.recipes.runner import Run
    from toolrlef_data.tables.lineage import usage

    assert isinstance(done, Run)
    console = Console()
    outcome = Counter(done.graded["correct"])
    wrong = sum(1 for needs in done.graded["needs_tool"] if needs)
    calls = sum(done.stage1["uses_tool"])
    rows = Table("", Column("rows", justify="right"), title="Rows")
    rows.add_row("questions", str(len(done.questions)))
    for name, grade in (("right without the tool", True), ("wrong without the tool", False), ("not graded", None)):
        rows.add_row(f"  {name}", str(outcome[grade]))
    coverage = f" ({100 * calls / wrong:.0f} % of the wrong ones)" if wrong else ""
    rows.add_row(f"verified calls{coverage}", str(calls))
    rows.add_row("stage 1", str(len(done.stage1)))
    rows.add_row("stage 2", str(len(done.stage2)))
    console.print(rows)
    scores = score_table({"stage2": {"train": done.stage2}})
    if scores:
        table = Table(title="Scores by responder")
        levels = [f"{level:g}" for level, _ in scores[0]["levels"]]
        for name in ("responder", "mean", "uses the tool", *levels):
            table.add_column(name, justify="left" if name == "responder" else "right")
        for own in scores:
            row = (
                own["name"],
                f"{own['mean']:.2f}",
                f"{100 * own['tool']:.0f} %",
                *(str(count) for _, count in own["levels"]),
            )
            table.add_row(*row)
        console.print(table)
    table = Table(title="Replies, by the models' own counts")
    for name in ("model", "requests", "prompt tokens", "reply tokens"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for model, taken in usage([done.stage1, done.stage2]).items():
        counts = (taken.get(name, 0) for name in ("requests", "prompt_tokens", "completion_tokens"))
        table.add_row(model, *(f"{count:,}" for count in counts))
    console.print(table)
    console.print(dropped_table([done.stage1, done.stage2]))
    if done.layout != "hub":
        console.print(f"\nFiles in {done.out}:", soft_wrap=True, highlight=False)
        for path in sorted(path for path in done.out.rglob("*") if path.is_file()):
            console.print(f"    {path.relative_to(done.out)}", soft_wrap=True, highlight=False)
        return
    console.print("\nLoad it:", highlight=False)
    task = done.tasks[0] if len(done.tasks) == 1 else "mix"
    console.print(f'    load_dataset("{done.out}", "{task}-stage2", split="train")', soft_wrap=True, highlight=False)


def main() -> None:
    """The entry point: a mistake of the user is one message, not a traceback."""
    # Read when torch is loaded: threads that wait for each other asleep lose little to another program on the machine,
    # threads that wait awake lose half of their speed to it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except ToolrlefError as error:
        typer.secho(f"error: {error}", err=True, fg="red")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
