"""Engines: where replies come from. `ENGINES` names them.

A stage never holds an engine. It holds an `EngineSpec` (`spec`, checked by `rules`), frozen and hashed by value, and
the engine connects inside. `prompts` renders a row as a request; `model_stage` sends it. Its `exchange` looks
requests up in the reply store (`reply_store`) and asks an engine for those that are missing, one process at a time for
each (`claims`), with its `progress`; `responses` turns replies into columns. The kinds: `local` models, servers that
speak the OpenAI API (`openai_api`, with keys from `credentials`), and `scripted` replies.

To add a kind, write a file with a class that has the methods of `spec.Engine`, and a line in `ENGINES`.
"""

from __future__ import annotations

from typing import Any

from toolrlef_data.records import Choices

__all__ = ["ENGINES"]

ENGINES: Choices[Any] = Choices(
    "engine kind",
    {
        "local": "toolrlef_data.engines.local.engine:LocalEngine",
        "openai_api": "toolrlef_data.engines.openai_api.engine:OpenAIEngine",
        "scripted": "toolrlef_data.engines.scripted:ScriptedEngine",
    },
)
