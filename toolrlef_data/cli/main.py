"""Entry point of the command line, and the command `run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolrlef_data.cli.cache import cache
from toolrlef_data.cli.console import dropped_table, exit_on_interrupt, print_line, print_parts, run_app
from toolrlef_data.cli.hub import push
from toolrlef_data.cli.report import report
from toolrlef_data.cli.search import search
from toolrlef_data.cli.shards import merge, replies, run_all_on_ray, run_one_shard, run_settings
from toolrlef_data.cli.show import show
from toolrlef_data.cli.trajectories import trajectories
from toolrlef_data.cli.trice.group import trice

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Build tool-use training data from question-answer data and from function-calling trajectories."""


@app.command()
@exit_on_interrupt
def run(
    recipe: Annotated[str, typer.Argument(help="YAML file, or name of a bundled recipe, such as demo, qa or mix.")],
    all_rows: Annotated[bool, typer.Option("--all", help="Use all rows of every source.")] = False,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Number of rows per source. Default: as in the recipe.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to publish to. Default: as in the recipe.")] = None,
    num_proc: Annotated[
        int | None, typer.Option(min=1, help="Number of processes for stages without models. Default: 1.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a newer version, or other rows under the same version.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Run one of N parts of the rows, I from 0 to N-1; publish them with merge. /N takes I from a "
            "Kubernetes job. Default with --folder: from a Slurm array.",
        ),
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Folder of all shards, which every machine can write.")] = None,
    backend: Annotated[
        str | None, typer.Option(help="local, or ray: all shards on a Ray cluster. Default: as in the recipe.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="ray: HOST:PORT of the cluster, local for a new one, or auto (default).")
    ] = None,
    shards: Annotated[int | None, typer.Option(min=1, help="ray: number of shards.")] = None,
    num_cpus: Annotated[float | None, typer.Option(min=0, help="ray: CPUs of a worker. Default: 1.")] = None,
    num_gpus: Annotated[float | None, typer.Option(min=0, help="ray: GPUs of a worker. Default: 0.")] = None,
) -> None:
    """Run a recipe from its sources to a published folder. Cached stages and stored replies are reused."""
    from toolrlef_data.recipes.loading import load_recipe
    from toolrlef_data.recipes.runner import run_recipe

    loaded = load_recipe(recipe, rows=rows, all_rows=all_rows)
    on_ray = {"address": address, "shards": shards, "num_cpus": num_cpus, "num_gpus": num_gpus}
    settings = run_settings(loaded, backend, {**on_ray, "folder": str(folder) if folder else None}, shard)
    if settings.backend == "ray":
        run_all_on_ray(loaded, settings, out, replace, num_proc)
        return
    if shard is not None or folder is not None:
        run_one_shard(loaded, shard, folder, out, replace, num_proc)
        return
    loaded = loaded.model_copy(update={"run": settings})
    result = run_recipe(loaded, out=out, num_proc=num_proc, replace=replace)
    _print_run(result)


for command in (cache, merge, push, report, search, show, trajectories):
    app.command()(exit_on_interrupt(command))
app.add_typer(replies)
app.add_typer(trice)


def _print_run(result: object) -> None:
    """Print the row counts, scores, model usage and dropped rows of a run, and how to load the result."""
    from rich.table import Column, Table

    from toolrlef_data.publishing.card.row_facts import score_table
    from toolrlef_data.recipes.runner import Run
    from toolrlef_data.tables.lineage import ledger, usage
    from toolrlef_data.tables.stage_cache import count_values

    assert isinstance(result, Run)
    grades = count_values(result.graded, "correct")
    n_needs_tool = count_values(result.graded, "needs_tool")[True,]
    calls = {by: n for (uses, by), n in count_values(result.stage1, "uses_tool", "verified_by").items() if uses}
    n_verified = sum(n for by, n in calls.items() if by is not None)
    rows = Table("", Column("rows", justify="right"), title="Rows")
    rows.add_row("questions", str(len(result.questions)))
    for name, grade in (("correct without the tool", True), ("wrong without the tool", False), ("not graded", None)):
        rows.add_row(f"  {name}", str(grades[grade,]))
    coverage = f" ({100 * n_verified / n_needs_tool:.0f} % of the questions that need the tool)" if n_needs_tool else ""
    rows.add_row(f"verified calls{coverage}", str(n_verified))
    if None in calls:
        rows.add_row("unverified calls", str(calls[None]))
    rows.add_row("stage 1", str(len(result.stage1)))
    rows.add_row("stage 2", str(len(result.stage2)))
    print_parts(rows)
    scores = score_table({"stage2": {"train": result.stage2}, "stage2-dropped": {"train": ledger([result.stage2])}})
    if scores:
        table = Table(title="Scores by responder")
        levels = [level for level, _ in scores[0]["levels"]]
        for name in ("responder", "lost rows", "mean score", "tool use", *levels):
            table.add_column(name, justify="left" if name == "responder" else "right")
        for responder in scores:
            row = (
                responder["name"],
                f"{100 * responder['lost'] / (responder['rows'] + responder['lost']):.0f} %",
                f"{responder['mean']:.2f}" if responder["rows"] else "none",
                f"{100 * responder['calls'] / responder['responses']:.0f} %" if responder["rows"] else "none",
                *(str(count) for _, count in responder["levels"]),
            )
            table.add_row(*row)
        print_parts(table)
    table = Table(title="Model usage, as reported by the models")
    for name in ("model", "requests", "prompt tokens", "reply tokens"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for model, totals in usage([result.stage1, result.stage2]).items():
        counts = (totals.get(name, 0) for name in ("requests", "prompt_tokens", "completion_tokens"))
        table.add_row(model, *(f"{count:,}" for count in counts))
    print_parts(table)
    print_parts(dropped_table([result.stage1, result.stage2]))
    if result.layout != "hub":
        print_line(f"\nFiles in {result.out}:")
        for path in sorted(path for path in result.out.rglob("*") if path.is_file()):
            print_line(f"    {path.relative_to(result.out)}")
        return
    print_line("\nTo load it:")
    task = result.tasks[0] if len(result.tasks) == 1 else "mix"
    place = f'"{result.out}", "{task}-stage2"'
    if result.push is not None:
        place = f'"{result.push.repo_id}", "{task}-stage2", revision="{result.push.tag}"'
    print_line(f'    load_dataset({place}, split="train")')


def main() -> None:
    """Run the command line."""
    run_app(app)


if __name__ == "__main__":
    main()
