"""The command `generate-response-llama`: responses of a local model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolrlef_data.cli.console import print_line
from toolrlef_data.cli.trice import flags
from toolrlef_data.cli.trice.models import check_template, local_engine
from toolrlef_data.cli.trice.responses import write_responses

__all__ = ["generate_response_llama"]

NO_8BIT = "--load-8bit has no effect: the weights are loaded in the type that suits the device."


def generate_response_llama(
    base_model: Annotated[str, typer.Option(help="Folder or Hub id of the base model.")],
    task: flags.TaskName,
    data_path: Annotated[Path, typer.Option(help="File of raw rows: id, question, answer.")],
    output_path: Annotated[Path, typer.Option(help="File to write: {task}_{responder}_response.json.")],
    lora_weights: flags.LoraWeights = "",
    prompt_template: Annotated[str, typer.Option(help="vicuna, alpaca, or chat: the model's own.")] = "vicuna",
    mode: flags.Mode = "w",
    load_8bit: Annotated[bool, typer.Option("--load-8bit", help="Accepted for old scripts; has no effect.")] = False,
    max_tokens: flags.MaxTokens = 128,
    drop_cut: Annotated[
        bool, typer.Option("--drop-cut", help="Leave out replies that were cut off or are empty.")
    ] = False,
) -> None:
    r"""Write the responses of a local model with its LoRA adapter: 4 beams, repetition penalty 1.3.

    Example:

    toolrlef-data trice generate-response-llama \
    --base-model PLMs/vicuna-7b --task math \
    --data-path data/raw/math/math.json --prompt-template vicuna \
    --output-path data/stage2/math/math_vicuna_response.json
    """
    from toolrlef_data.tasks import TASKS
    from toolrlef_data.trice.files.names import find_task
    from toolrlef_data.trice.responders import Responder

    found = TASKS[find_task(task, TASKS)]
    if load_8bit:
        print_line(NO_8BIT)
    spec = local_engine(base_model, lora_weights, max_tokens)
    responder = Responder("model", spec, style=check_template(prompt_template))
    again = flags.check_mode(mode) == "w"
    write_responses(data_path, output_path, found, responder, ["response"], again=again, drop_cut=drop_cut)


if __name__ == "__main__":
    flags.run_command(generate_response_llama)
