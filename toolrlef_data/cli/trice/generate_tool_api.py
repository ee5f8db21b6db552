"""The command `generate-tool-api`: a call for each wrong row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolrlef_data.cli.console import print_line
from toolrlef_data.cli.trice import flags
from toolrlef_data.cli.trice.models import api_engine, prompt_style, task_tool, with_reader
from toolrlef_data.cli.trice.reports import check_any, print_missing, print_written
from toolrlef_data.records import InputError

if TYPE_CHECKING:
    from toolrlef_data.engines.spec import EngineSpec
    from toolrlef_data.tasks.task import Task
    from toolrlef_data.trice.files.steps import StepRow

__all__ = ["generate_tool_api"]

HINT = "the command answer writes it"
TOOLS = {"qa": "--search-url or --corpus", "retrieval": "--search-url or --corpus", "lama": "--qa-model"}


def generate_tool_api(
    input: Annotated[Path, typer.Option(help="File of wrong rows: id, question, answer.")],
    output: Annotated[Path, typer.Option(help="File to write: the same rows with the field tool.")],
    dataset_name: Annotated[str, typer.Option(help="Data set: GSM8K, ASDiv, SVAMP, T-REx, WebQ, NaturalQ, ...")],
    engine: Annotated[
        str | None, typer.Option(help="Name of the teacher on the server. MLQA needs none: a call is the question.")
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            "--mode", "--model", help="w: write the file again, from stored replies where there are; a: continue it."
        ),
    ] = "a",
    multi_api_keys: flags.MultiApiKeys = False,
    api_keys_file: flags.ApiKeysFile = None,
    api_key: flags.ApiKey = "",
    base_url: flags.BaseUrl = None,
    max_tokens: flags.MaxTokens = 128,
    task: Annotated[str | None, typer.Option(help="Task of a data set that is not the original's.")] = None,
    attempts: Annotated[int, typer.Option(min=1, help="Maximum attempts per row.")] = 3,
    keep_unverified: Annotated[
        bool, typer.Option("--keep-unverified", help="Also write calls that miss the gold answer, as the original.")
    ] = False,
    search_url: flags.SearchUrl = None,
    corpus: flags.Corpus = None,
    qa_model: flags.QaModel = None,
    base_model: Annotated[
        str | None, typer.Option(help="qa: folder or Hub id of a reader, whose answers also verify calls.")
    ] = None,
    lora_weights: flags.LoraWeights = "",
    prompt_template: Annotated[str, typer.Option(help="Prompts of the reader: vicuna, alpaca or chat.")] = "vicuna",
) -> None:
    r"""Write a tool call for each wrong row, and verify it by execution.

    Example:

    toolrlef-data trice generate-tool-api \
    --input data/raw/math/GSM8K_wrong.json \
    --output data/stage1/math/GSM8K_wrong.json \
    --dataset-name GSM8K --mode w --engine gpt-4o-mini
    """
    from toolrlef_data.tasks import TASKS
    from toolrlef_data.trice.files.names import find_dataset, find_task, normalise_name
    from toolrlef_data.trice.files.step_tables import task_of_dataset
    from toolrlef_data.trice.files.steps import open_step, write_rows

    flags.check_mode(mode)
    if task is None:
        found, dataset = TASKS[task_of_dataset(dataset_name)], find_dataset(dataset_name)
    else:
        found, dataset = TASKS[find_task(task, TASKS)], normalise_name(dataset_name)
    spec = None
    if found.make_argument is None:
        if engine is None:
            raise InputError("name the teacher with --engine")
        keys: dict[str, Any] = {"api_key": api_key, "api_keys_file": api_keys_file, "multi_api_keys": multi_api_keys}
        spec = api_engine(engine, base_url=base_url, max_tokens=max_tokens, **keys)
    # A translation cannot show whether the call is right.
    verifiable = task_tool(found, search_url=search_url, corpus=corpus, qa_model=qa_model) if spec else None
    if base_model or lora_weights:
        if not base_model or verifiable is None or verifiable.reader_prompt is None:
            raise InputError(
                "the reader turns the passages of a search into answers: name it with --base-model, for data sets of "
                "qa, and name the search with --search-url or --corpus"
            )
        verifiable = with_reader(verifiable, base_model, lora_weights, prompt_template)
    needs = ("id", "question|instruction", "answer|answers")
    step = open_step(input, output, again=mode == "w", needs=needs, adds=("id", "tool"), hint=HINT)
    new: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    labels = _labels(input, step.remaining, verifiable or found, dataset, spec, attempts, verifiable is not None)
    for row, label in zip(step.remaining, labels, strict=True):
        if label["tool_call"] and (label["verified"] or keep_unverified or verifiable is None):
            new[row.id] = {**row.row, "tool": label["tool_call"]}
        else:
            missing[row.id] = _reason(label["rejected"])
    result = step.in_order(new)
    check_any(len(result), output, missing, "--keep-unverified writes the calls that miss the gold answer")
    write_rows(output, result)
    print_written({"wrong rows": len(step.rows), "  new calls": len(new)}, (output, len(result)))
    if spec and verifiable is None and new:
        print_line(f"The calls are not verified, since {found.tool.name} is not set up: add {TOOLS[found.name]}.")
    print_missing(missing)


def _labels(
    path: Path,
    rows: Sequence[StepRow],
    task: Task,
    dataset: str,
    spec: EngineSpec | None,
    attempts: int,
    verify: bool,
) -> list[dict[str, Any]]:
    """Return the columns `tool_call`, `verified` and `rejected` of each row."""
    from toolrlef_data.trice.files.step_tables import graded_table, parse_rows
    from toolrlef_data.trice.teachers import propose_calls, write_calls

    if not rows:
        return []
    entries = parse_rows(path, rows, "wrong", task, dataset)
    graded = graded_table(task, entries)
    if spec is None:
        labelled = write_calls(graded, verify=verify, task=task)
    else:
        options: dict[str, Any] = {"attempts": attempts, "style": prompt_style(spec.model), "verify": verify}
        labelled = propose_calls(graded, spec, task=task, **options)
    by_id = {row["id"]: row for row in labelled.select_columns(["id", "tool_call", "verified", "rejected"])}
    return [by_id[entry.id] for entry in entries]


def _reason(rejected: Sequence[str]) -> str:
    """Return the reason of the last rejection, such as "wrong_value" or "no_reply:timeout"."""
    kind, _, detail = (rejected or ["no_call"])[-1].partition(":")
    return f"{kind}:{detail.partition(':')[0].strip()}" if kind in ("no_reply", "tool_error") else kind


if __name__ == "__main__":
    flags.run_command(generate_tool_api)
