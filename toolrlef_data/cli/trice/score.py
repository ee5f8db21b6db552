"""The command `score`: the response files as stage 2."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolrlef_data.cli.console import dropped_table, print_line, print_parts
from toolrlef_data.cli.trice import flags
from toolrlef_data.cli.trice.models import task_tool, with_reader
from toolrlef_data.cli.trice.reports import print_written
from toolrlef_data.records import InputError, UnknownName

if TYPE_CHECKING:
    from toolrlef_data.tasks.task import Task

__all__ = ["score"]

MODELS = ("vicuna", "alpaca")
TOOLS = {
    "qa": "--search-url or --corpus",
    "lama": "--qa-model, with --search-url or --corpus if it extracts answers from passages",
    "mlqa": "--translator",
}


def score(
    task: flags.TaskName,
    data_path: Annotated[Path, typer.Option(help="Folder of the files {task}_{responder}_response.json.")],
    target_path: Annotated[Path, typer.Option(help="File to write, or a folder for {folder of the data}.json.")],
    model: Annotated[str, typer.Option(help="Prompt template of the reader: vicuna or alpaca.")] = "vicuna",
    base_model: Annotated[
        str | None, typer.Option(help="qa, mlqa: folder or Hub id of the reader. Default: PLMs/{model}-7b.")
    ] = None,
    lora_weights: flags.LoraWeights = "",
    search_url: flags.SearchUrl = None,
    corpus: flags.Corpus = None,
    qa_model: flags.QaModel = None,
    translator: flags.Translator = None,
    stage1: Annotated[
        Path | None, typer.Option(help="File of stage 1, if there are no gold responses. Default: that in data/stage1.")
    ] = None,
    recompute: Annotated[bool, typer.Option("--recompute", help="Execute also the responses that have pred.")] = False,
    compat: Annotated[
        bool, typer.Option(help="Parse, grade and score as the original does, or as build_stage2 does by default.")
    ] = True,
) -> None:
    r"""Execute the responses where that is still to be done, score them, and write stage 2.

    Example:

    toolrlef-data trice score --task math --model vicuna \
    --data-path data/stage2/math \
    --target-path data/stage2/math/math.json
    """
    from toolrlef_data.tasks import TASKS
    from toolrlef_data.trice.files.names import find_task
    from toolrlef_data.trice.files.response_files import called_arguments, read_responses, score_responses, stage2_rows
    from toolrlef_data.trice.files.rows import RESPONDER_ORDER
    from toolrlef_data.trice.files.steps import write_rows

    if model.lower() not in MODELS:
        raise UnknownName("model", model, MODELS)
    found = TASKS[find_task(task, TASKS)]
    tools = {"search_url": search_url, "corpus": corpus, "qa_model": qa_model, "translator": translator}
    files = read_responses(data_path, found, stage1)
    target = _target_file(target_path, data_path)
    if target.resolve() in {path.resolve() for path in files.paths.values()}:
        raise InputError(f"{target} is both an input and the output: name another --target-path")
    if recompute:
        files = files._replace(predictions={})
    if absent := [name for name in RESPONDER_ORDER if name not in files.paths]:
        print_line(f"No file of {', '.join(absent)} in {data_path}: the rows have the other responses alone.")
    calls = called_arguments(files, found)
    ready = _with_tool(found, calls, tools, base_model, lora_weights, model.lower())
    stage2 = score_responses(files, ready, compat=compat)
    rows = stage2_rows(stage2, files, compat=compat)
    counts = {"questions": len(files.rows), "  scored": len(rows), "kept predictions": len(files.predictions)}
    print_parts(dropped_table([stage2]))
    if not rows:
        raise InputError(f"{target}: not written, since no question has all responses")
    write_rows(target, rows)
    print_written(counts, (target, len(rows)))


def _target_file(target: Path, data_path: Path) -> Path:
    """Return the file to write: in a folder, the file named after the folder of the data."""
    is_folder = target.is_dir() or target.suffix not in (".json", ".jsonl")
    return target / f"{data_path.resolve().name}.json" if is_folder else target


def _with_tool(
    task: Task, calls: list[str], tools: dict[str, Any], base_model: str | None, lora_weights: str, template: str
) -> Task:
    """Return the task with the tool and the reader of the calls; without calls it needs neither."""
    if task.name == "math":
        return task
    if not calls:
        from toolrlef_data.engines.scripted import scripted

        tool = replace(task.tool, many=None, function=_refuse)
        return replace(task, tool=tool, reader=scripted({}))
    ready = task_tool(task, **tools)
    if ready is None:
        raise InputError(
            f"{len(calls):,} responses call {task.tool.name}, such as {calls[0]!r:.80}: name the tool with "
            f"{TOOLS[task.name]}"
        )
    if task.reader_prompt is None:
        return ready
    folder = base_model or f"PLMs/{template}-7b"
    if base_model is None and not Path(folder).is_dir():
        raise InputError(
            f"the reader turns the output of {task.tool.name} into answers, and {folder} is no folder: name it "
            "with --base-model"
        )
    return with_reader(ready, folder, lora_weights, template)


def _refuse(argument: str) -> str:
    raise InputError(f"a call to execute was not found before: {argument!r:.80}")


if __name__ == "__main__":
    flags.run_command(score)
