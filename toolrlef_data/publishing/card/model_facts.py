"""Models and tools for the data card: engines, their requests and tokens, and the versions of tools."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from toolrlef_data.trice.call_execution import ExecutionSettings

__all__ = ["model_facts"]

is_long_hex = re.compile("[0-9a-f]{17,}").fullmatch


def model_facts(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the template variables `engines`, `usage` and `tools`.

    Args:
        provenance: contents of provenance.json.
    """
    return {"engines": _engines(provenance), "usage": _usage(provenance), "tools": _tools(provenance)}


def _tools(provenance: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the distinct (task, tool, version) of the executed tools."""
    tools = set()
    for stage in provenance["stages"].values():
        settings = stage["settings"] if isinstance(stage["settings"], dict) else {}
        if stage["step"] == ExecutionSettings.kind and isinstance(tasks := settings.get("tasks"), dict):
            tools |= {(name, task["tool"]["name"], task["tool"]["version"]) for name, task in tasks.items()}
    return sorted(tools)


def _engines(provenance: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one record per engine: its settings, the digests that identify its model, and the names of its stages."""
    engines: dict[str, dict[str, Any]] = {}
    for stage in provenance["stages"].values():
        settings = stage["settings"]
        if isinstance(settings, dict) and "spec" in settings:
            spec, identity = settings["spec"], settings["identity"]
            engine = engines.setdefault(repr((spec, identity)), {**spec, "identity": ", ".join(_digests("", identity))})
            engine.setdefault("stages", {})[stage["step"]] = True
    return [engines[key] for key in sorted(engines)]


def _usage(provenance: Mapping[str, Any]) -> list[tuple[str, Counter[str]]]:
    """Return (model, Counter of its requests and tokens), summed over the stages."""
    usage: dict[str, Counter[str]] = {}
    for stage in provenance["stages"].values():
        if counts := stage.get("usage"):
            usage.setdefault(counts["model"], Counter()).update({k: v for k, v in counts.items() if k != "model"})
    return sorted(usage.items())


def _digests(name: str, value: Any) -> Iterator[str]:
    """Yield the leaves of a model's identity as text, with shortened hexadecimal digests."""
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from _digests(f"{name} {key}".strip(), value[key])
    elif isinstance(value, str):
        yield f"{name} `{value[:16] if is_long_hex(value) else value}`"
