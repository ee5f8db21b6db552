"""Models and tools for the data card: engines, their requests and tokens, and the versions of tools."""

from __future__ import annotations

import json
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
    """Return one record per engine: its settings, the digests of its model, and its distinct (stage, prompt) pairs."""
    engines: dict[str, dict[str, Any]] = {}
    for stage in provenance["stages"].values():
        settings = stage["settings"]
        if isinstance(settings, dict) and "spec" in settings:
            spec, identity = settings["spec"], settings["identity"]
            engine = engines.setdefault(
                repr((spec, identity)),
                {
                    **spec,
                    "adapter": _short(spec.get("adapter") or ""),
                    "identity": ", ".join(_digests("", identity)),
                    "sampling": _sampling(spec),
                    "stages": [],
                },
            )
            used = (stage["step"], _prompt(settings.get("settings")))
            engine["stages"] = list(dict.fromkeys([*engine["stages"], used]))
    return [engines[key] for key in sorted(engines)]


def _sampling(spec: Mapping[str, Any]) -> str:
    """Return the settings that decide how a reply is sampled as text, without those that have no effect.

    >>> _sampling({"temperature": 0.0, "max_tokens": 24, "top_p": 1.0, "seed": 0, "stop": []})
    'temperature 0.0, max_tokens 24'
    """
    without_effect = {"top_p": 1.0, "top_k": 0, "num_beams": 1, "repetition_penalty": 1.0, "stop": []}
    without_effect |= {} if spec.get("temperature") else {"seed": spec.get("seed")}
    names = ("temperature", "max_tokens", "top_p", "top_k", "num_beams", "repetition_penalty", "stop", "seed")
    used = {name: spec[name] for name in names if name in spec and spec[name] != without_effect.get(name)}
    return ", ".join(f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in used.items())


def _prompt(settings: Any) -> str:
    """Return the prompt style and the number of few-shot examples of a stage as text; empty if it has none.

    >>> _prompt({"responder": {"style": "completion", "examples": 4, "stop": ["\\n"]}})
    'completion, 4 examples, stop ["\\\\n"]'
    """
    if not isinstance(settings, Mapping):
        return ""
    settings = settings.get("responder") or settings
    parts = [str(settings["style"])] if "style" in settings else []
    parts += [f"{settings['examples']} examples"] if settings.get("examples") else []
    parts += [f"stop {json.dumps(settings['stop'], ensure_ascii=False)}"] if settings.get("stop") else []
    return ", ".join(parts)


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
        yield f"{name} `{_short(value)}`"


def _short(text: str) -> str:
    """Return a text, or the first 16 characters of a hexadecimal digest."""
    return text[:16] if is_long_hex(text) else text
