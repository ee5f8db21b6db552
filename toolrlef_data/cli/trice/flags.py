"""Options that several commands share, in the spellings of the original's scripts.

Underscores and dashes are equal: `--dataset_name` is `--dataset-name`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from toolrlef_data.choices import check_choice
from toolrlef_data.cli.console import exit_on_interrupt, run_app

__all__ = [
    "CONTEXT",
    "ApiKey",
    "ApiKeysFile",
    "BaseModel",
    "BaseUrl",
    "Corpus",
    "LoraWeights",
    "MaxTokens",
    "Mode",
    "MultiApiKeys",
    "QaModel",
    "ScriptCommand",
    "SearchUrl",
    "TaskName",
    "Translator",
    "check_mode",
    "run_command",
]

MODES = ("w", "a")
FLAG_VALUES = {"true": True, "false": False}


def _dashed(token: str) -> str:
    return token.replace("_", "-")


CONTEXT: dict[str, Any] = {"token_normalize_func": _dashed}

TaskName = Annotated[str, typer.Option(help="math, lama, qa or mlqa, in any case.")]
Mode = Annotated[
    str, typer.Option("--mode", help="w: write the file again, from stored replies where there are; a: continue it.")
]
MaxTokens = Annotated[int, typer.Option(min=1, help="Maximum tokens of a reply.")]
BaseUrl = Annotated[
    str | None, typer.Option(help="URL of an OpenAI-compatible server. Default: $OPENAI_BASE_URL, else OpenAI.")
]
MultiApiKeys = Annotated[bool, typer.Option("--multi-api-keys", help="Use all keys of --api-keys-file in turn.")]
ApiKeysFile = Annotated[
    Path | None,
    typer.Option("--api-keys-file", "--api-key-file", help="File with API keys, one a line. Default: $OPENAI_API_KEY."),
]
ApiKey = Annotated[str, typer.Option(help="Refused: a key in a command is visible. Set OPENAI_API_KEY.", hidden=True)]
BaseModel = Annotated[str | None, typer.Option(help="Folder or Hub id of the model.")]
LoraWeights = Annotated[str, typer.Option(help="Folder or Hub id of the LoRA adapter. Default: none.")]
SearchUrl = Annotated[str | None, typer.Option(help="qa, lama: URL of a search server with ColBERTv2's API.")]
Corpus = Annotated[Path | None, typer.Option(help="qa, lama: passages to search instead (.jsonl or .parquet).")]
QaModel = Annotated[
    str | None, typer.Option(help="lama: folder of the QA model. With a search, it extracts answers from passages.")
]
Translator = Annotated[str | None, typer.Option(help="mlqa: folder of the translation model, such as NLLB.")]


def check_mode(mode: str) -> str:
    """Return a mode of a file: "w" or "a".

    Raises:
        UnknownName: another mode.
    """
    check_choice("mode", mode, MODES)
    return mode


class ScriptCommand(TyperCommand):
    """A command whose flags may have a value, as with the original's fire: `--load_8bit True`, `--load_8bit=False`.

    Its help ends with the example of its docstring, in lines that a shell can run: rich would fill them with blanks.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help, and the example below it."""
        full_help = self.help or ""
        self.help, _, example = full_help.partition("\nExample:\n")
        super().format_help(ctx, formatter)
        self.help = full_help
        typer.echo(f"Example:\n\n{example.strip()}\n")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse arguments whose flags have no values."""
        flags = {name: param for param in self.params if getattr(param, "is_flag", False) for name in param.opts}
        result: list[str] = []
        waiting = list(args)
        while waiting:
            word = waiting.pop(0)
            name, _, value = word.partition("=")
            if (param := flags.get(_dashed(name))) is None:
                result.append(word)
                continue
            if word == name and waiting and waiting[0].lower() in FLAG_VALUES:
                value = waiting.pop(0)
            is_set = FLAG_VALUES.get(value.lower())
            if is_set is None:
                result.append(word)  # without a value, or with one that is refused
            else:
                result += [name] if is_set else param.secondary_opts[:1]
        return super().parse_args(ctx, result)


def run_command(function: Callable[..., None]) -> None:
    """Run a command as a script, with the arguments of the process."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, context_settings=CONTEXT)
    app.command(cls=ScriptCommand)(exit_on_interrupt(function))
    run_app(app)
