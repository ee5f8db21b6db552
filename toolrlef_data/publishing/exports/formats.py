"""The export formats.

| format | table | a record |
|---|---|---|
| trl | stage 1 | {prompt, completion}; with native calls tools |
| trl | trajectories | {prompt: messages, completion: [message], tools}: one record per trained message |
| trl_preference, trl_reward | stage 2 | {prompt, chosen, rejected, margin, scores, origins, id}: one per pair |
| trl_preference, trl_reward | preference pairs | {prompt, chosen, rejected, tools} |
| trl_kto | stage 2 | {prompt, completion, label, origin, id}: one record per graded response |
| trl_tpo | stage 2 | {prompt, reference, chosen, rejected, origins, id} |
| trl_grpo | stage 1 or 2 | {prompt, answers, task, id, input}, for `reward` |
| rrhf | stage 2 | {query, responses, scores, origins, id} |
| alpaca | stage 1 | {instruction, input, output} |
| openai | stage 1, trajectories | {messages, tools}; every trained assistant message has `weight` 1 |
| openai_preference | stage 2 | {input: {messages, tools}, preferred_output, non_preferred_output} |
| axolotl | stage 1, trajectories | {messages, tools}; every message has `train` |
| llamafactory | stage 1 | {instruction, input, output}, or {conversations, system, tools} with native calls |
| llamafactory | stage 2, preference pairs | the same with {chosen, rejected} |
| llamafactory | trajectories | {conversations, system, tools}: one record per trained message |
| toolllama | `TOOLLLAMA` | ToolBench's training file: one JSON array of {id, conversations: [{from, value}]} |

The formats of stage 1, and trl_preference, trl_reward, trl_kto and openai_preference, also take rows of
`without_tool`. All formats but toolllama are JSON Lines. In the TRL and LLaMA-Factory formats `tools` is JSON text,
which they parse: `datasets` would add the keys of all rows to every schema, and change numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from datasets import Json, List, Value

from toolrlef_data.columns import BOOL, INT, STRING
from toolrlef_data.engines.prompts import STYLES
from toolrlef_data.publishing.exports import llamafactory, stage1, stage2, trajectories
from toolrlef_data.publishing.exports.options import Options
from toolrlef_data.records import Drop, UnusableRow

__all__ = ["EXPORTS", "Export"]

FLOAT = Value("float64")


@dataclass(frozen=True, slots=True)
class Export:
    """An export format for one kind of table.

    Args:
        columns: columns that the table must have.
        records: (row, options) -> the row's records, a `Drop` for each part without a record, and an `UnusableRow` for
            each part that does not fit.
        features: feature of each column of the records that the options allow; absent columns are omitted.
        options: option -> supported values, the default first; empty for a number.
        array: whether the file is one indented JSON array instead of JSON Lines.
        has_entry: whether `dataset_info.json` beside the file describes it.
    """

    columns: tuple[str, ...]
    records: Callable[[Mapping[str, Any], Options], Iterable[dict[str, Any] | Drop | UnusableRow]]
    features: Callable[[Options], dict[str, Any]]
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    array: bool = False
    has_entry: bool = False


# Tables and options ---------------------------------------------------------------------------------------------------

STAGE1 = ("instruction", "input", "output")
STAGE2 = ("instruction", "input", "responses", "scores", "origin", "id")
GRADED = ("instruction", "input", "responses", "correct", "origin", "id")
MESSAGES = ("messages", "tools")
PAIRS = ("prompt", "chosen", "rejected", "tools")
CALLS: dict[str, tuple[str, ...]] = {"calls": ("text", "native")}
PROMPT: dict[str, tuple[str, ...]] = {"style": ("chat", *(style for style in STYLES if style != "chat")), **CALLS}
PAIR_OPTIONS: dict[str, tuple[str, ...]] = {"pairs": ("best", "adjacent", "all"), "min_gap": (), "score_range": ()}
OBJECTS: dict[str, tuple[str, ...]] = {"arguments": ("object", "text")}
OBJECT: dict[str, tuple[str, ...]] = {"arguments": ("object",)}
TEXT: dict[str, tuple[str, ...]] = {"arguments": ("text",)}

# Features of the records ----------------------------------------------------------------------------------------------

ORIGINS = {"origin_chosen": STRING, "origin_rejected": STRING}
PAIR_FACTS = {"margin": FLOAT, "score_chosen": FLOAT, "score_rejected": FLOAT, **ORIGINS, "id": STRING}
TURN = {"from": STRING, "value": STRING}
TURNS = List(TURN)
FeaturesOf = Callable[[Options], dict[str, Any]]


def _fixed(**features: Any) -> FeaturesOf:
    return lambda _: features


def _messages(options: Options, *extra: str, **flags: Any) -> Any:
    """Return the feature of messages, with calls, and with further fields that are texts or flags."""
    function = {"name": STRING, "arguments": Json() if options.arguments == "object" else STRING}
    calls = List({"id": STRING, "type": STRING, "function": function})
    return List({"role": STRING, "content": STRING, **dict.fromkeys(extra, STRING), "tool_calls": calls, **flags})


def _turns(options: Options, **flags: Any) -> Any:
    """Return the feature of a prompt or a reply of stage 1 and stage 2."""
    if options.style != "chat":
        return STRING
    if options.calls == "native":
        return _messages(options, **flags)
    return List({"role": STRING, "content": STRING, **flags})


def _prompt_and(*sides: str, **others: Any) -> FeaturesOf:
    return lambda options: {**dict.fromkeys(("prompt", *sides), _turns(options)), **_tools(options, STRING), **others}


def _tools(options: Options, feature: Any) -> dict[str, Any]:
    return {"tools": feature} if options.calls == "native" else {}


def _chat(**flags: Any) -> FeaturesOf:
    return lambda options: {"messages": _turns(options, **flags), "tools": List(Json())}


def _trajectory(*sides: str, tools: Any = STRING, **flags: Any) -> FeaturesOf:
    names = ("name", "tool_call_id")
    return lambda options: {**dict.fromkeys(sides, _messages(options, *names, **flags)), "tools": tools}


def _openai_preference(options: Options) -> dict[str, Any]:
    prompt = {"messages": _turns(options), **_tools(options, List(Json()))}
    return {"input": prompt, "preferred_output": _turns(options), "non_preferred_output": _turns(options)}


def _rrhf(options: Options) -> dict[str, Any]:
    turns = _turns(options)
    lists = {"responses": List(turns), "scores": List(FLOAT), "origins": List(STRING)}
    return {"query": turns, **lists, "id": STRING}


def _llamafactory(options: Options) -> dict[str, Any]:
    if options.calls == "text":
        return {"instruction": STRING, "input": STRING}
    return {"conversations": TURNS, "system": STRING, "tools": STRING}


def _llamafactory_output(options: Options) -> dict[str, Any]:
    return {**_llamafactory(options), **({"output": STRING} if options.calls == "text" else {})}


def _llamafactory_ranking(options: Options) -> dict[str, Any]:
    side = STRING if options.calls == "text" else TURN
    return {**_llamafactory(options), "chosen": side, "rejected": side}


# The formats ----------------------------------------------------------------------------------------------------------

_GRPO = Export(
    ("instruction", "input", "answers", "task", "id"),
    stage1.trl_grpo,
    _prompt_and(answers=List(STRING), task=STRING, id=STRING, input=STRING),
    {"style": PROMPT["style"]},
)
_PAIRS_OF_STAGE2 = Export(
    STAGE2, stage2.trl_preference, _prompt_and("chosen", "rejected", **PAIR_FACTS), PROMPT | OBJECTS | PAIR_OPTIONS
)
_PAIRS_OF_STEPS = Export(PAIRS, trajectories.trl_preference, _trajectory("prompt", "chosen", "rejected"), OBJECTS)
_OPENAI_PAIRS = Export(STAGE2, stage2.openai_preference, _openai_preference, CALLS | TEXT | PAIR_OPTIONS)
_KTO = Export(GRADED, stage2.trl_kto, _prompt_and("completion", label=BOOL, origin=STRING, id=STRING), PROMPT | OBJECTS)


def _with_variants(export: Export) -> tuple[Export, Export]:
    """Return an export of stage 2, and the same for rows of `without_tool`."""
    return export, replace(export, columns=stage1.RANKED, records=stage1.ranked(export.records))


_CONVERSATIONS: dict[str, Any] = {"conversations": TURNS, "system": STRING, "tools": STRING}

EXPORTS: dict[str, tuple[Export, ...]] = {
    "alpaca": (Export(STAGE1, stage1.alpaca, _fixed(**dict.fromkeys(STAGE1, STRING))),),
    "axolotl": (
        Export(STAGE1, stage1.axolotl, _chat(train=BOOL), CALLS | TEXT),
        Export(MESSAGES, trajectories.axolotl, _trajectory("messages", tools=List(Json()), train=BOOL), TEXT),
    ),
    "llamafactory": (
        Export(STAGE1, llamafactory.stage1, _llamafactory_output, CALLS | OBJECT, has_entry=True),
        Export(
            STAGE2,
            llamafactory.ranking,
            lambda options: {**_llamafactory_ranking(options), **PAIR_FACTS},
            CALLS | PAIR_OPTIONS | OBJECT,
            has_entry=True,
        ),
        Export(MESSAGES, llamafactory.trajectories, _fixed(**_CONVERSATIONS), OBJECT, has_entry=True),
        Export(
            PAIRS,
            llamafactory.pairs,
            _fixed(**_CONVERSATIONS, chosen=TURN, rejected=TURN),
            OBJECT,
            has_entry=True,
        ),
    ),
    "openai": (
        Export(STAGE1, stage1.openai, _chat(weight=INT), CALLS | TEXT),
        Export(MESSAGES, trajectories.openai, _trajectory("messages", tools=List(Json()), weight=INT), TEXT),
    ),
    "openai_preference": _with_variants(_OPENAI_PAIRS),
    "rrhf": (Export(STAGE2, stage2.rrhf, _rrhf, {"style": PROMPT["style"]}),),
    "toolllama": (
        Export(
            ("name", "conversations"),
            trajectories.toolllama,
            _fixed(id=STRING, conversations=TURNS),
            TEXT,
            array=True,
        ),
    ),
    "trl": (
        Export(STAGE1, stage1.trl, _prompt_and("completion"), PROMPT | OBJECTS),
        Export(MESSAGES, trajectories.trl, _trajectory("prompt", "completion"), OBJECTS),
    ),
    "trl_grpo": (_GRPO,),
    "trl_kto": _with_variants(_KTO),
    "trl_preference": (*_with_variants(_PAIRS_OF_STAGE2), _PAIRS_OF_STEPS),
    "trl_reward": (*_with_variants(_PAIRS_OF_STAGE2), _PAIRS_OF_STEPS),
    "trl_tpo": (
        Export(
            STAGE2,
            stage2.trl_tpo,
            _prompt_and("reference", "chosen", "rejected", origin_reference=STRING, **ORIGINS, id=STRING),
            PROMPT | OBJECTS,
        ),
    ),
}
