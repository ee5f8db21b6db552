"""The group of commands `toolrlef-data trice`."""

from __future__ import annotations

import typer

from toolrlef_data.cli.console import exit_on_interrupt
from toolrlef_data.cli.trice.answer import answer
from toolrlef_data.cli.trice.flags import CONTEXT, ScriptCommand
from toolrlef_data.cli.trice.generate_response_gpt import generate_response_gpt
from toolrlef_data.cli.trice.generate_response_llama import generate_response_llama
from toolrlef_data.cli.trice.generate_tool_api import generate_tool_api
from toolrlef_data.cli.trice.merge import merge
from toolrlef_data.cli.trice.score import score

__all__ = ["trice"]

trice = typer.Typer(name="trice", no_args_is_help=True, context_settings=CONTEXT)


@trice.callback()
def _trice() -> None:
    """Run the steps of TRICE's documents on their files, from raw questions to stage 2; see docs/trice.md."""


for command in (answer, generate_tool_api, merge, generate_response_gpt, generate_response_llama, score):
    trice.command(cls=ScriptCommand)(exit_on_interrupt(command))
