"""Tools that a response may call.

`TOOLS` lists tools that need no setup. `TOOL_KINDS` lists functions that build a tool from a corpus or a model.

| module | contents |
|---|---|
| `tool` | the `Tool` class and the execution of a call |
| `boundary` | what a tool raises or returns, as a result |
| `parsing` | parsing and rendering of calls in text |
| `results` | execution of slow tools with cached results |
| `calculator`, `arithmetic` | the calculator |
| `notation` | alternative signs and LaTeX in numbers and formulas |
| `search` | passage search |
| `readers` | QA models and translators |
| `functions` | functions that a model calls with JSON arguments |
| `http` | HTTP client |
"""

from __future__ import annotations

from collections.abc import Callable

from toolrlef_data.choices import Choices
from toolrlef_data.tools.tool import Tool

__all__ = ["TOOLS", "TOOL_KINDS"]

TOOLS: Choices[Tool] = Choices("tool", {"calculator": "toolrlef_data.tools.calculator:CALCULATOR"})

# Functions that return a `Tool`.
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
