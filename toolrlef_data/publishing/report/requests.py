"""The requests behind the responses of a published version, rendered again from its settings and its rows.

A request to a responder consists of the row's `instruction` and `input` and of few-shot examples. One to the student or
the teacher has an instruction of the task. A version has digests of instructions and examples, not their texts. The
texts are known if the task is one of this package with the same digests; otherwise a note states what is missing.

Each request is rendered once for all rows of a task and data set: `INPUT`, `INSTRUCTION` and `GOLD` stand for the texts
of a row. The reply store has no requests, only digests of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from toolrlef_data.engines.prompts import STYLES, render_prompt
from toolrlef_data.engines.responses import build_request
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.publishing.provenance import stage_settings
from toolrlef_data.tasks import TASKS
from toolrlef_data.trice.responders import Responder, render_request
from toolrlef_data.trice.teachers import with_gold

__all__ = ["GOLD", "INPUT", "INSTRUCTION", "Place", "requests_of"]

# Characters for private use, which no prompt of this package contains.
INSTRUCTION, INPUT, GOLD = "\ue000", "\ue001", "\ue002"
SHIPPED = TASKS.shipped  # a registered task of the user is private
NO_ENGINE = EngineSpec("local", "none")  # the prompt does not depend on the engine
# Settings of an engine that the report shows.
SHOWN = ("model", "revision", "adapter", "base_url", "temperature", "top_p", "top_k", "max_tokens", "seed", "stop")
UNKNOWN_TEXT = "The data set has only a digest of the {part} of the task {task!r}, which this package does not know."
UNKNOWN_STYLE = "The prompt style {style!r} is unknown to this version of the package."
SHUFFLED = "The few-shot examples of the task are left out: their order depends on the row and the attempt."


class Place(NamedTuple):
    """Rows that share their requests: those of a task and data set, with or without an input."""

    task: str
    dataset: str
    has_input: bool


def requests_of(provenance: Mapping[str, Any], config: str, place: Place) -> list[dict[str, Any]]:
    """Return the requests behind the rows of a config, as JSON values.

    Args:
        provenance: contents of provenance.json.
        config: the config.
        place: which rows.

    Returns:
        one record for each model: names (columns, or "student" or "teacher"), engine (its settings), messages (pairs of
        role and text; a prompt without roles has an empty one), tools (schemas), note (what is unknown or left out).
    """
    found = []
    for step in dict.fromkeys(stage["step"] for stage in provenance["stages"].values()):
        kind = RESPOND if step.startswith(RESPOND) else step
        for stage in stage_settings(provenance, step).get(config, ()) if kind in KINDS else ():
            if _has_request(stage, place.task):
                name, render = KINDS[kind]
                settings = stage["settings"]
                names = settings["columns"] if kind == RESPOND else [name]
                found.append({"names": names, "engine": _engine(stage["spec"]), **render(settings, place)})
    return found


def _has_request(stage: Any, task: str) -> bool:
    """Return whether the settings of a stage are those of requests to a model for rows of a task."""
    tasks = stage["settings"].get("tasks") if isinstance(stage, Mapping) and "spec" in stage else None
    return isinstance(tasks, Mapping) and task in tasks


def _engine(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {name: spec[name] for name in SHOWN if spec.get(name) not in (None, [], "")}


def _to_responder(settings: Mapping[str, Any], place: Place) -> dict[str, Any]:
    own = {name: settings["responder"][name] for name in RESPONDER if name in settings["responder"]}
    if note := _unknown(own["style"], settings, place, []):
        return note
    responder = Responder("responder", NO_ENGINE, **own)
    needs_task = bool(responder.shots) or responder.force_call or responder.protocol == "tools"
    if needs_task and (note := _unknown(own["style"], settings, place, ["examples"])):
        return note
    task = SHIPPED[place.task] if needs_task else next(iter(SHIPPED.values()))  # only its tool is passed, and not used
    examples = task.examples_for(place.dataset)[: responder.shots]
    shots = [(example.input, example.call) for example in examples]
    return _published(render_request(responder, task.tool, shots, INSTRUCTION, _input(place)))


def _to_student(settings: Mapping[str, Any], place: Place) -> dict[str, Any]:
    n_shots = settings["examples"]
    if note := _unknown(settings["style"], settings, place, ["plain_instruction", *["examples"][:n_shots]]):
        return note
    task = SHIPPED[place.task]
    shots = [(example.input, example.plain) for example in task.examples_for(place.dataset)[:n_shots]]
    return _published(build_request(render_prompt(settings["style"], task.plain_instruction, _input(place), shots)))


def _to_teacher(settings: Mapping[str, Any], place: Place) -> dict[str, Any]:
    if note := _unknown(settings["style"], settings, place, ["teacher_instruction"]):
        return note
    task = SHIPPED[place.task]
    prompt = render_prompt(settings["style"], task.teacher_instruction, with_gold(_input(place), [GOLD]))
    return _published(build_request(prompt)) | {"note": SHUFFLED if task.examples_for(place.dataset) else ""}


RESPOND = "respond: "  # with the name of the responder
RESPONDER = ("style", "protocol", "examples", "force_call")  # the settings that decide its prompt
# Name of a stage, or its beginning -> (what its model is, its request).
KINDS: dict[str, tuple[str, Callable[[Mapping[str, Any], Place], dict[str, Any]]]] = {
    RESPOND: ("responder", _to_responder),
    "answer": ("student", _to_student),
    "propose_calls": ("teacher", _to_teacher),
}


def _unknown(style: str, settings: Mapping[str, Any], place: Place, parts: Sequence[str]) -> dict[str, Any] | None:
    """Return a record with a note if the style or one of the prompts of the task is unknown; None if all are known."""
    published = settings["tasks"][place.task].get("prompts_sha256", {})
    known = SHIPPED[place.task].published()["prompts_sha256"] if place.task in SHIPPED else {}
    unknown = [part for part in parts if published.get(part) != known.get(part)]
    if style not in STYLES:
        return {"messages": [], "tools": [], "note": UNKNOWN_STYLE.format(style=style)}
    if unknown:
        part = " and ".join(unknown).replace("_", " ")
        return {"messages": [], "tools": [], "note": UNKNOWN_TEXT.format(part=part, task=place.task)}
    return None


def _input(place: Place) -> str:
    return INPUT if place.has_input else ""


def _published(request: Request) -> dict[str, Any]:
    """Return a request as JSON values."""
    messages = [[message.role, message.content] for message in request.messages] or [["", request.prompt]]
    return {"messages": messages, "tools": list(request.tools), "note": ""}
