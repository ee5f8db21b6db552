"""Models and tools from the options of the commands."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolrlef_data.records import InputError, UnknownName

if TYPE_CHECKING:
    from toolrlef_data.engines.spec import EngineSpec
    from toolrlef_data.tasks.task import Task
    from toolrlef_data.tools.tool import Tool

__all__ = ["TEMPLATES", "api_engine", "check_template", "local_engine", "prompt_style", "task_tool", "with_reader"]

TEMPLATES = ("alpaca", "vicuna", "chat")
COMPLETION_ENGINES = ("text-davinci-", "code-davinci-")
# Names in the original's documents that OpenAI does not serve.
RETIRED = re.compile(r"(text|code)-(ada|babbage|curie|cushman|davinci)-\d+|gpt-turbo-\d+|gpt-3\.5-turbo-(0301|0613)")
# The decoding of the original's generate_response_llama.
DECODING: dict[str, Any] = {"num_beams": 4, "repetition_penalty": 1.3}


def prompt_style(engine: str) -> str:
    """Return the prompt style of a model behind an API: "completion" for `COMPLETION_ENGINES`, else "chat"."""
    return "completion" if engine.startswith(COMPLETION_ENGINES) else "chat"


def api_engine(
    engine: str,
    *,
    base_url: str | None,
    api_key: str,
    api_keys_file: Path | None,
    multi_api_keys: bool,
    max_tokens: int,
) -> EngineSpec:
    """Return the spec of a model behind an API.

    Args:
        engine: the model's name on the server.
        base_url: URL of the server; None: `$OPENAI_BASE_URL`, else OpenAI.
        api_key: "", since a key is refused.
        api_keys_file: file with API keys; None: `$OPENAI_API_KEY`.
        multi_api_keys: whether the file must be given.
        max_tokens: maximum tokens of a reply.

    Raises:
        InputError: a key is given, the file is missing, or OpenAI does not serve the model.
    """
    from toolrlef_data.engines.spec import EngineSpec

    if api_key:
        raise InputError(
            "--api-key: a key in a command is visible to other users and in the shell's history: set the variable "
            "OPENAI_API_KEY instead, or name a file with --api-keys-file"
        )
    if multi_api_keys and api_keys_file is None:
        raise InputError("--multi-api-keys needs the file with the keys: add --api-keys-file")
    if api_keys_file is not None and not api_keys_file.expanduser().is_file():
        raise InputError(f"--api-keys-file: {api_keys_file}: no such file")
    has_server = base_url or os.environ.get("OPENAI_BASE_URL", "").strip()
    if not has_server and RETIRED.fullmatch(engine):
        raise InputError(
            f"--engine: OpenAI does not serve {engine!r} any more: name another model, or a server that has it with "
            "--base-url or the variable OPENAI_BASE_URL"
        )
    keys = () if api_keys_file is None else (f"file:{api_keys_file}",)
    return EngineSpec("openai_api", engine, base_url=base_url, keys=keys, max_tokens=max_tokens)


def local_engine(base_model: str, lora_weights: str, max_tokens: int = 128) -> EngineSpec:
    """Return the spec of a local model with the original's decoding: 4 beams, repetition penalty 1.3."""
    from toolrlef_data.engines.spec import EngineSpec

    return EngineSpec("local", base_model, adapter=lora_weights or None, max_tokens=max_tokens, **DECODING)


def check_template(template: str) -> str:
    """Return a prompt template of a local model in lower case.

    Raises:
        UnknownName: another name than those of `TEMPLATES`.
    """
    if template.lower() not in TEMPLATES:
        raise UnknownName("prompt template", template, TEMPLATES)
    return template.lower()


def task_tool(
    task: Task,
    *,
    search_url: str | None = None,
    corpus: Path | None = None,
    qa_model: str | None = None,
    translator: str | None = None,
) -> Task | None:
    """Return a task with the tool that the options name; None if they name none and the task's has to be set up.

    Raises:
        InputError: a model or a corpus cannot be opened, or both a server and a corpus are named.
    """
    if search_url and corpus:
        raise InputError("--search-url and --corpus: name one of them")
    if task.name == "math":
        return task
    tool: Tool | None = None
    if task.name == "mlqa":
        if translator:
            from toolrlef_data.tools.readers.translator import translator as translator_tool

            tool = translator_tool(translator)
    else:
        tool = _search_tool(search_url, corpus, task.tool.name if task.name != "lama" else "WikiSearch")
        if task.name == "lama":
            from toolrlef_data.tools.readers.qa_model import qa_model as qa_tool

            kind = "extractive" if tool else "seq2seq"
            tool = qa_tool(qa_model, search=tool, kind=kind) if qa_model else None
    return None if tool is None else replace(task, tool=tool)


def with_reader(task: Task, base_model: str, lora_weights: str, template: str) -> Task:
    """Return a task with a local model as the reader of its tool's output."""
    return replace(task, reader=local_engine(base_model, lora_weights), reader_style=check_template(template))


def _search_tool(url: str | None, corpus: Path | None, name: str) -> Tool | None:
    if url:
        from toolrlef_data.tools.search.endpoint import search_endpoint

        return search_endpoint(url, name=name)
    if corpus:
        from toolrlef_data.tools.search.wiki_search import wiki_search

        return wiki_search(corpus, name=name)
    return None
