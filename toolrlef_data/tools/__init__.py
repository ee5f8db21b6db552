"""Tools: what a response may call. `TOOLS` names those that are ready, `TOOL_KINDS` those made from a corpus or model.

A `Tool` (`tool`) has a name, a version and a function. `calls` turns text into calls and back, with `json_text`
reading strict JSON; `results` runs slow tools through the reply store. The `calculator` evaluates with `arithmetic`;
`search` finds passages; `readers` answer and translate; `functions` are those of a JSON schema. `http` talks to
servers.
"""

from __future__ import annotations

from collections.abc import Callable

from toolrlef_data.records import Choices
from toolrlef_data.tools.tool import Tool

__all__ = ["TOOLS", "TOOL_KINDS"]

TOOLS: Choices[Tool] = Choices("tool", {"calculator": "toolrlef_data.tools.calculator:CALCULATOR"})

# Tools that are made from a corpus or a model: functions that return a `Tool`.
TOOL_KINDS: Choices[Callable[..., Tool]] = Choices(
    "kind of tool",
    {
        "qa_engine": "toolrlef_data.tools.readers.qa_model:qa_engine",
        "qa_model": "toolrlef_data.tools.readers.qa_model:qa_model",
        "search_endpoint": "toolrlef_data.tools.search.endpoint:search_endpoint",
        "translator": "toolrlef_data.tools.readers.translator:translator",
        "translator_engine": "toolrlef_data.tools.readers.translator:translator_engine",
        "wiki_search": "toolrlef_data.tools.search.wiki_search:wiki_search",
    },
)
