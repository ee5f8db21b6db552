"""Engines: the sources of model replies.

A stage stores an `EngineSpec` instead of an engine: a frozen dataclass, hashed by value. The engine connects when the
stage runs. `ENGINES` maps each engine kind to its class.

| module | contents |
|---|---|
| `spec` | `EngineSpec`, `Request` and the `Engine` protocol |
| `settings` | the types of their fields; `rules` validates them, and secrets are refused |
| `prompts` | prompt rendering: from a row to chat messages or a text |
| `model_stage` | the model stage: send requests for the rows of a table, add columns |
| `exchange` | request and reply traffic between the reply store and an engine |
| `reply_store` | all received replies, in one SQLite file; `database` checks and repairs the file |
| `claims` | each process's locks on pending requests, and records of batch jobs |
| `progress` | progress bar, failure share and token usage |
| `responses` | conversion of replies into table columns |
| `local` | engine for models on this machine |
| `openai_api` | engine for servers with an OpenAI-compatible API; `credentials` reads API keys |
| `scripted` | engine with predefined replies |

To add a kind, write a class that implements `spec.Engine` and add it to `ENGINES`.
"""

from __future__ import annotations

from typing import Any

from toolrlef_data.choices import Choices

__all__ = ["ENGINES"]

ENGINES: Choices[Any] = Choices(
    "engine kind",
    {
        "local": "toolrlef_data.engines.local.engine:LocalEngine",
        "openai_api": "toolrlef_data.engines.openai_api.engine:OpenAIEngine",
        "scripted": "toolrlef_data.engines.scripted:ScriptedEngine",
    },
)
