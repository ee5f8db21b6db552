"""The command `answer`: the student's answers, graded into right and wrong rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from toolrlef_data.cli.trice import flags
from toolrlef_data.cli.trice.models import api_engine, check_template, local_engine
from toolrlef_data.cli.trice.reports import check_any, print_missing, print_written
from toolrlef_data.records import InputError

__all__ = ["answer"]


def answer(
    input: Annotated[Path, typer.Option(help="File of raw rows: id, question, answer; of one or several data sets.")],
    task: flags.TaskName,
    output: Annotated[
        Path | None, typer.Option(help="Folder for {dataset}_right.json and _wrong.json. Default: that of the input.")
    ] = None,
    dataset_name: Annotated[
        str | None, typer.Option(help="Data set of all rows. Default: named by their ids, or by the file.")
    ] = None,
    base_model: flags.BaseModel = None,
    lora_weights: flags.LoraWeights = "",
    prompt_template: Annotated[str, typer.Option(help="Prompts of a local model: vicuna, alpaca or chat.")] = "vicuna",
    engine: Annotated[str | None, typer.Option(help="Instead of --base-model: the student's name on a server.")] = None,
    multi_api_keys: flags.MultiApiKeys = False,
    api_keys_file: flags.ApiKeysFile = None,
    api_key: flags.ApiKey = "",
    base_url: flags.BaseUrl = None,
    max_tokens: flags.MaxTokens = 128,
    rule: Annotated[str, typer.Option(help="default, or paper: the first 20 words hold a gold answer.")] = "default",
) -> None:
    r"""Let the student answer each question without a tool, and write right and wrong rows in separate files.

    Example:

    toolrlef-data trice answer --input data/raw/math/GSM8K.json \
    --task math --base-model PLMs/vicuna-7b
    """
    from toolrlef_data.tasks import TASKS
    from toolrlef_data.trice.files.names import find_task, normalise_name, upstream_name
    from toolrlef_data.trice.files.step_tables import parse_rows, question_table
    from toolrlef_data.trice.files.steps import read_rows, write_rows
    from toolrlef_data.trice.student import answer as answer_questions
    from toolrlef_data.trice.student import grade

    found = TASKS[find_task(task, TASKS)]
    if (engine is None) == (base_model is None):
        raise InputError("name the student: --base-model for a local model, or --engine for a model on a server")
    if engine is not None:
        keys: dict[str, Any] = {"api_keys_file": api_keys_file, "multi_api_keys": multi_api_keys, "api_key": api_key}
        spec, style = api_engine(engine, base_url=base_url, max_tokens=max_tokens, **keys), "chat"
    else:
        assert base_model is not None
        spec, style = local_engine(base_model, lora_weights, max_tokens), check_template(prompt_template)
    rows = read_rows(input, needs=("id", "question|instruction", "answer|answers"))
    entries = parse_rows(input, rows, "question", found, normalise_name(dataset_name) if dataset_name else "")
    questions = question_table(found, entries)
    graded = grade(answer_questions(questions, spec, style=style, task=found), rule=rule, task=found)
    columns = ["id", "needs_tool", "response", "prediction", "answers"]
    grades = {row["id"]: row for row in graded.select_columns(columns)}
    folder = output or input.parent
    files: dict[Path, list[dict[str, Any]]] = {}
    missing: dict[str, str] = {}
    for row, entry in zip(rows, entries, strict=True):
        result = grades.get(entry.id)
        if result is None or result["needs_tool"] is None:
            missing[row.id] = "no_answer" if result is None else _reason(result, found.ungradable_reason(entry.answers))
            continue
        name = upstream_name(entry.dataset) or found.name
        is_wrong = result["needs_tool"]
        for suffix in ("right", "wrong"):
            files.setdefault(folder / f"{name}_{suffix}.json", [])
        line = row.row if is_wrong else {**row.row, "output": result["response"]["text"]}
        files[folder / f"{name}_{'wrong' if is_wrong else 'right'}.json"].append(line)
    check_any(len(files), folder, missing)
    if input.resolve() in {path.resolve() for path in files}:
        raise InputError(f"{input} is both the input and an output: name another folder with --output")
    for path, lines in files.items():
        write_rows(path, lines)
    counts = [sum(len(lines) for path, lines in files.items() if path.stem.endswith(s)) for s in ("right", "wrong")]
    names = ("questions", "  right", "  wrong", "  not graded")
    print_written(
        dict(zip(names, (len(rows), *counts, len(missing)), strict=True)),
        *((path, len(lines)) for path, lines in files.items()),
    )
    print_missing(missing)


def _reason(row: dict[str, Any], ungradable: str | None) -> str:
    error = row["response"]["error"]
    return ungradable or error or ("unreadable_answer" if row["prediction"] is None else "unsure_grade")


if __name__ == "__main__":
    flags.run_command(answer)
