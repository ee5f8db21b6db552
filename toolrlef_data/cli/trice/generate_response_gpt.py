"""The command `generate-response-gpt`: responses of a model behind an API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from toolrlef_data.cli.trice import flags
from toolrlef_data.cli.trice.models import api_engine, prompt_style
from toolrlef_data.cli.trice.responses import example_path, read_examples, write_responses

__all__ = ["generate_response_gpt"]

EXAMPLES = Path("example")  # the original's default


def generate_response_gpt(
    input: Annotated[Path, typer.Option(help="File of raw rows: id, question, answer.")],
    output: Annotated[Path, typer.Option(help="File to write: {task}_{responder}_response.json.")],
    task: flags.TaskName,
    engine: Annotated[str, typer.Option(help="Name of the model on the server.")],
    mode: flags.Mode = "a",
    multi_api_keys: flags.MultiApiKeys = False,
    api_keys_file: flags.ApiKeysFile = None,
    api_key: flags.ApiKey = "",
    base_url: flags.BaseUrl = None,
    max_tokens: flags.MaxTokens = 128,
    example_num: Annotated[int, typer.Option(min=0, help="Number of few-shot examples.")] = 4,
    example_file: Annotated[
        Path | None,
        typer.Option(
            help="File of few-shot examples, or a folder with {task}.json. Default: the folder ./example if it has "
            "that file, else this package's examples."
        ),
    ] = None,
    output_text: Annotated[str, typer.Option(help="Field of the response, beside the field response.")] = "output",
    drop_cut: Annotated[
        bool, typer.Option("--drop-cut", help="Leave out replies that were cut off or are empty.")
    ] = False,
) -> None:
    r"""Write the responses of a model behind an API, which few-shot examples make use the tool.

    Example:

    toolrlef-data trice generate-response-gpt \
    --input data/raw/math/math.json \
    --output data/stage2/math/math_chatgpt_response.json \
    --task math --mode w --engine gpt-4o-mini
    """
    from toolrlef_data.tasks import TASKS
    from toolrlef_data.trice.files.names import find_task
    from toolrlef_data.trice.responders import Responder

    found, instruction = TASKS[find_task(task, TASKS)], ""
    if example_file is not None or example_path(found, EXAMPLES).is_file():
        found, instruction = read_examples(found, example_file or EXAMPLES)
    keys: dict[str, Any] = {"multi_api_keys": multi_api_keys, "api_keys_file": api_keys_file, "api_key": api_key}
    spec = api_engine(engine, base_url=base_url, max_tokens=max_tokens, **keys)
    responder = Responder("model", spec, style=prompt_style(engine), examples=example_num)
    write_responses(
        input,
        output,
        found,
        responder,
        list(dict.fromkeys([output_text, "response"])),
        again=flags.check_mode(mode) == "w",
        drop_cut=drop_cut,
        instruction=instruction,
    )


if __name__ == "__main__":
    flags.run_command(generate_response_gpt)
