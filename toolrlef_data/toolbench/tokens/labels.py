"""tokenise: samples as `input_ids` and `labels`, checked on the tokens of a model's own chat template.

Labels come from the turns, never from splitting rendered text. Of each step two chats are rendered: its history up to
where the model answers, and the same with the target. The tokens of the first must begin the second; what follows, up
to the token that ends the turn, is trained. A merged sequence is the chat of its last step; a step shares it where its
own tokens, history and target, begin the sequence token by token, and stands alone where they do not: a template may
end a last turn otherwise than an earlier one, or take old reasoning off.

What a template or a tokenizer would lose in silence is in the ledger instead (`REASONS`).

Not covered: padding, packing, and a trainer's own collation.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict, Features, List, Value

from toolrlef_data.columns import TRAJECTORIES
from toolrlef_data.records import Drop, InputError, LedgerError, UnknownName, UnusableRow
from toolrlef_data.tables.transform import check_features, explode
from toolrlef_data.toolbench.messages import parse_tools
from toolrlef_data.toolbench.search.protocols import PROTOCOLS
from toolrlef_data.toolbench.tokens.chat_template import find_chat_tokenizer, load_chat_tokenizer
from toolrlef_data.toolbench.tokens.steps import Step, TokeniseSettings, fitting_step

__all__ = ["REASONS", "TOKENS", "tokenise"]

log = logging.getLogger("toolrlef_data")
D = TypeVar("D", bound="Dataset | DatasetDict")
Row = Mapping[str, Any]

IGNORED = -100  # the label that PyTorch's cross-entropy leaves out
SAMPLES_AT_ONCE = 100  # they may take a megabyte each, as lists of numbers
READS = ("id", "task", "dataset", "query", "steps", "layout", "messages", "tools")
TOO_LONG = ("drop", "shorten")

TOKENS = Features(
    id=Value("string"),
    task=Value("string"),
    dataset=Value("string"),
    query=Value("string"),
    step=Value("int64"),
    steps=List(Value("int64")),
    layout=Value("string"),
    input_ids=List(Value("int32")),
    labels=List(Value("int32")),  # -100 where nothing is trained
    n_tokens=Value("int64"),
    n_trained=Value("int64"),
    fallback=Value("string"),  # why a step left its sequence (`ALONE`); null in all others
    shortened=Value("int64"),  # messages of the history that were dropped
)

# Why a step stands in a row of its own, its `fallback`.
ALONE = {
    "history": "in a longer chat the template writes what stands before them otherwise",
    "target": "in a longer chat the template writes them otherwise, such as without the reasoning or the end",
    "too_long": "their history was shortened to max_length, as no other step's",
}

# Why a step is in the ledger.
REASONS = {
    "no_target": "the sample trains no message",
    "target_not_assistant": "a message to train is not the model's",
    "steps_not_targets": "the sample names more or fewer steps than it trains messages",
    "invalid_tools": "`tools` is no list of function schemas",
    "empty_target": "there is neither a text nor a call to train",
    "lone_surrogate": "an escape in the arguments stands for no character",
    "special_token_in_target": "the target's own text holds a special token: the model would learn to end inside it",
    "template_refused": "the chat template raises an error",
    "template_not_prefix": "the history's tokens do not begin those of history and target",
    "template_without_tools": "the template leaves the functions out",
    "template_without_calls": "the template leaves calls out",
    "template_without_results": "the template leaves results of calls out",
    "template_without_messages": "the template leaves messages of the system or the user out",
    "template_without_content": "the template leaves (some of) the target's text out",
    "template_without_end": "nothing ends the target: the model would not learn to stop",
    "tokenizer_loses_text": "the tokens of the target do not spell it: the tokenizer lacks characters",
    "too_long": "there are more than `max_length` tokens",
}


def tokenise(
    samples: D,
    model: str,
    *,
    protocol: str = "tools",
    max_length: int | None = None,
    too_long: str = "drop",
    options: Mapping[str, Any] | Sequence[tuple[str, Any]] = (),
    revision: str | None = None,
    num_proc: int | None = None,
) -> D:
    """Token ids and labels of samples, every step trained once, under exactly its history.

    Args:
        samples: a table `columns.TRAJECTORIES`, split or merged.
        model: whose tokenizer and chat template are used: a folder (weights need not be in it), a `.gguf` file,
            `package:NAME` or a Hub id.
        protocol: "tools": the template renders functions, calls and results, and writes arguments anew from the
            object that they are; "text": they are written into plain turns (`protocols`), arguments as they stand.
        max_length: tokens that a row may have.
        too_long: "drop" sends a longer step to the ledger; "shorten" leaves out the oldest turns between the opening
            messages and the last ones, each call with its results, until it fits. A target is never cut.
        options: further variables of the template, such as {"enable_thinking": False}.
        revision: of a Hub id.
        num_proc: processes; does not change the result.

    Returns:
        a table `TOKENS`. A step whose tokens do not begin its merged sequence's stands in a row of its own, with the
        reason in `fallback`. Steps of which no row can be made are in the ledger (`REASONS`), under "file#step".

    Raises:
        InputError: there is no such model, it has no chat template, or an argument is out of range.
        MissingColumns: the table is none of samples.

    >>> from toolrlef_data.columns import TRAJECTORIES
    >>> tokenise(Dataset.from_dict({n: [] for n in TRAJECTORIES}, TRAJECTORIES), "model", protocol="xml")
    Traceback (most recent call last):
    toolrlef_data.records.UnknownName: unknown protocol 'xml'; choose from: text, tools
    """
    for what, found, choices in (("protocol", protocol, PROTOCOLS), ("too_long", too_long, TOO_LONG)):
        if found not in choices:
            raise UnknownName(what, found, choices)
    if max_length is not None and (not isinstance(max_length, int) or max_length < 1):
        raise InputError(f"max_length must be a number of tokens above 0, or None; found {max_length!r}")
    check_features(samples, Features({name: TRAJECTORIES[name] for name in READS}), "tokenise")
    settings = TokeniseSettings(find_chat_tokenizer(model, revision), protocol, max_length, too_long, dict(options))
    shape: dict[str, Any] = {"reads": READS, "features": TOKENS, "stage": TokeniseSettings.kind}
    made = explode(samples, _rows, settings, **shape, batch_rows=SAMPLES_AT_ONCE, num_proc=num_proc)
    alone = Counter(
        why for part in (made.values() if isinstance(made, DatasetDict) else [made]) for why in part["fallback"]
    )
    for why, told in ALONE.items():
        if alone[why]:
            log.warning("tokenise: %d steps stand alone (%s): %s", alone[why], why, told)
    return made


def _rows(row: Row, settings: TokeniseSettings) -> Iterator[dict[str, Any] | tuple[str, Drop]]:
    """The rows of one sample, and the steps of which none can be made."""
    messages = row["messages"] or []
    targets = [n for n, message in enumerate(messages) if message["train"]]
    try:
        _check_targets(messages, targets, row["steps"] or [])
        tools = parse_tools(row["tools"])
    except UnusableRow as fault:
        yield row["id"], Drop(fault.reason, fault.detail)
        return
    chat = load_chat_tokenizer(settings.chat)
    made: dict[int, Step] = {}
    for n, at in enumerate(targets):
        try:
            made[n] = fitting_step(chat, messages[:at], messages[at], tools, settings)
        except UnusableRow as fault:
            yield _id(row, [n], len(targets)), Drop(fault.reason, fault.detail)
    shared = _shared(made)
    for n, step in made.items():
        if n not in shared:
            yield _row(row, step, {n: step}, "split", _why(step, made, shared) if len(targets) > 1 else None)
    if shared:
        yield _row(row, made[shared[-1]], {n: made[n] for n in shared}, row["layout"], None)


def _check_targets(messages: Sequence[Mapping[str, Any]], targets: Sequence[int], steps: Sequence[int]) -> None:
    if not targets:
        raise UnusableRow("no_target")
    if any(messages[n]["role"] != "assistant" for n in targets):
        raise UnusableRow("target_not_assistant")
    if len(steps) != len(targets):
        raise UnusableRow("steps_not_targets", f"{len(steps)} steps, {len(targets)} messages to train")


def _shared(made: Mapping[int, Step]) -> list[int]:
    """The steps that one sequence serves, which is the last one's."""
    whole = [n for n, step in made.items() if not step.shortened]
    return [n for n in whole if made[whole[-1]].ids[: made[n].end] == made[n].own]


def _why(step: Step, made: Mapping[int, Step], shared: Sequence[int]) -> str:
    if step.shortened:
        return "too_long"
    return "target" if made[shared[-1]].ids[: step.start] == step.ids[: step.start] else "history"


def _row(row: Row, whole: Step, steps: Mapping[int, Step], layout: str, fallback: str | None) -> dict[str, Any]:
    labels = [IGNORED] * len(whole.ids)
    for step in steps.values():
        labels[step.start : step.end] = whole.ids[step.start : step.end]
    trained = sum(label != IGNORED for label in labels)
    if trained != sum(step.end - step.start for step in steps.values()):
        raise LedgerError(f"{row['id']}: the targets of the steps {list(steps)} overlap in one sequence")
    numbers = [row["steps"][n] for n in steps]
    return {
        **{name: row[name] for name in ("task", "dataset", "query")},
        "id": _id(row, list(steps), len(row["steps"])),
        "step": numbers[-1],
        "steps": numbers,
        "layout": layout,
        "input_ids": whole.ids,
        "labels": labels,
        "n_tokens": len(whole.ids),
        "n_trained": trained,
        "fallback": fallback,
        "shortened": whole.shortened,
    }


def _id(row: Row, steps: Sequence[int], count: int) -> str:
    """The id of some of a sample's steps: `trajectories` names a sample "file#1+2+3" by all that it trains."""
    file, mark, places = row["id"].rpartition("#")
    listed = places.split("+")
    if len(steps) == count:
        return str(row["id"])
    if mark and len(listed) == count:
        return f"{file}#{'+'.join(listed[n] for n in steps)}"
    return f"{row['id']}#{'+'.join(str(row['steps'][n]) for n in steps)}"
