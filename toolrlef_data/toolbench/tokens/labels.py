"""labels: training samples as `input_ids` and `labels`, checked on the tokens of a model's chat template.

Labels come from the rendered turns, not from splitting text; see `steps`. A merged sequence is the chat of its last
step. A step shares it only if the tokens of its history and target are a prefix of the sequence. Otherwise it becomes a
separate row: a template may end a last turn differently from an earlier one, or remove old reasoning.

A step whose text a template or tokenizer would silently lose is dropped (`REASONS`).

Not covered: padding, packing, and the collation of a trainer.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict, Features, List, Value

from toolrlef_data.checks import check_features
from toolrlef_data.choices import check_choice
from toolrlef_data.columns import TRAJECTORIES
from toolrlef_data.records import Drop, InputError, LedgerError, UnusableRow
from toolrlef_data.tables.reshape import explode
from toolrlef_data.toolbench.messages import parse_tools
from toolrlef_data.toolbench.search.protocols import PROTOCOLS
from toolrlef_data.toolbench.tokens.chat_template import find_chat_tokenizer, load_chat_tokenizer
from toolrlef_data.toolbench.tokens.steps import TokeniseSettings, TokenStep, fit_step

__all__ = ["REASONS", "TOKENS", "tokenise"]

log = logging.getLogger("toolrlef_data")
D = TypeVar("D", bound="Dataset | DatasetDict")
Row = Mapping[str, Any]

IGNORED = -100  # the label that PyTorch's cross-entropy ignores
BATCH_SAMPLES = 100  # up to 1 MB each
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
    labels=List(Value("int32")),  # -100 for tokens that are not trained
    n_tokens=Value("int64"),
    n_trained=Value("int64"),
    fallback=Value("string"),  # why a step is a separate row (`FALLBACKS`); null for other rows
    shortened=Value("int64"),  # messages removed from the history
)

# Values of `fallback`: why a step does not share its merged sequence.
FALLBACKS = {
    "history": "the template renders their history differently in a longer chat",
    "target": "the template renders their target differently in a longer chat, such as without reasoning or end token",
    "too_long": "their history was shortened to max_length",
}

# Drop reasons of steps.
REASONS = {
    "no_target": "the sample trains no message",
    "target_not_assistant": "a message to train is not an assistant message",
    "steps_not_targets": "the number of steps differs from the number of messages to train",
    "invalid_tools": "`tools` is not a list of function schemas",
    "empty_target": "the target has neither text nor a call",
    "lone_surrogate": "a text has an unpaired surrogate",
    "special_token_in_target": "the target contains a special token: the model would learn to stop too early",
    "template_refused": "the chat template raises an error",
    "template_not_prefix": "the tokens of the history are not a prefix of those of history and target",
    "template_without_tools": "the template omits functions",
    "template_without_calls": "the template omits calls",
    "template_without_results": "the template omits the results of calls",
    "template_without_messages": "the template omits system or user messages",
    "template_without_content": "the template omits text of the target",
    "template_without_end": "the target has no end token or text: the model would not learn to stop",
    "tokenizer_loses_text": "the tokens of the target do not decode to its text: the tokenizer lacks characters",
    "too_long": "the step has more than `max_length` tokens",
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
    """Convert training samples to token ids and labels, training each step once, under exactly its history.

    Args:
        samples: table with the columns `columns.TRAJECTORIES`, split or merged.
        model: source of the tokenizer and chat template: a folder (weights are not needed), a `.gguf` file,
            `package:NAME` or a Hub id.
        protocol: "tools" (default): the template renders functions, calls and results; arguments are rendered from
            the parsed object. "text": they are written into plain turns (`protocols`), arguments unchanged.
        max_length: maximum tokens of a row; default: None, no limit.
        too_long: "drop" (default) drops a longer step. "shorten" removes the oldest turns after the opening messages,
            each call with its results, until it fits. A target is never truncated.
        options: further variables of the chat template, such as {"enable_thinking": False}; default: none.
        revision: of a Hub id; default: the locally cached commit, or the newest one.
        num_proc: number of processes; does not change the result.

    Returns:
        A table with the columns `TOKENS`. A step that cannot share its merged sequence is a separate row, with the
        reason in `fallback`. The ledger records dropped steps under "file#step", with a reason of `REASONS`.

    Raises:
        UnknownName: an unknown protocol or value of `too_long`.
        InputError: an unknown model, one without a chat template, or an argument out of range.
        MissingColumns: the table lacks columns of `columns.TRAJECTORIES`.
        MissingExtra: a required package is not installed.

    >>> from toolrlef_data.columns import TRAJECTORIES
    >>> tokenise(Dataset.from_dict({n: [] for n in TRAJECTORIES}, TRAJECTORIES), "model", protocol="xml")
    Traceback (most recent call last):
    toolrlef_data.records.UnknownName: unknown protocol 'xml'; choose from: text, tools
    """
    for what, name, choices in (("protocol", protocol, PROTOCOLS), ("too_long", too_long, TOO_LONG)):
        check_choice(what, name, choices)
    if max_length is not None and (not isinstance(max_length, int) or max_length < 1):
        raise InputError(f"expected max_length as a number of tokens above 0 or None, found {max_length!r}")
    try:
        variables = dict(options)
    except (TypeError, ValueError):
        raise InputError(f"options: expected a mapping of names to values, found {options!r:.80}") from None
    samples = check_features(samples, Features({name: TRAJECTORIES[name] for name in READS}), "tokenise")
    settings = TokeniseSettings(find_chat_tokenizer(model, revision), protocol, max_length, too_long, variables)
    shape: dict[str, Any] = {"reads": READS, "features": TOKENS, "stage": TokeniseSettings.kind}
    rows = explode(samples, _rows, settings, **shape, batch_rows=BATCH_SAMPLES, num_proc=num_proc)
    splits = rows.values() if isinstance(rows, DatasetDict) else [rows]
    counts = Counter(reason for split in splits for reason in split["fallback"])
    for reason, description in FALLBACKS.items():
        if counts[reason]:
            log.warning("tokenise: %d steps are separate rows (%s): %s", counts[reason], reason, description)
    return rows


def _rows(row: Row, settings: TokeniseSettings) -> Iterator[dict[str, Any] | tuple[str, Drop]]:
    """Yield the rows and dropped steps of one sample."""
    messages = row["messages"] or []
    targets = [n for n, message in enumerate(messages) if message["train"]]
    try:
        _check_targets(messages, targets, row["steps"] or [])
        tools = parse_tools(row["tools"])
    except UnusableRow as error:
        yield row["id"], Drop(error.reason, error.detail)
        return
    chat = load_chat_tokenizer(settings.chat)
    steps: dict[int, TokenStep] = {}
    for n, target in enumerate(targets):
        try:
            steps[n] = fit_step(chat, messages[:target], messages[target], tools, settings)
        except UnusableRow as error:
            yield _row_id(row, [n], len(targets)), Drop(error.reason, error.detail)
    shared = _sharing_steps(steps)
    for n, step in steps.items():
        if n not in shared:
            fallback = _fallback(step, steps, shared) if len(targets) > 1 else None
            yield _token_row(row, step, {n: step}, "split", fallback)
    if shared:
        yield _token_row(row, steps[shared[-1]], {n: steps[n] for n in shared}, row["layout"], None)


def _check_targets(messages: Sequence[Mapping[str, Any]], targets: Sequence[int], steps: Sequence[int]) -> None:
    if not targets:
        raise UnusableRow("no_target")
    if any(messages[n]["role"] != "assistant" for n in targets):
        raise UnusableRow("target_not_assistant")
    if len(steps) != len(targets):
        raise UnusableRow("steps_not_targets", f"{len(steps)} steps, {len(targets)} messages to train")


def _sharing_steps(steps: Mapping[int, TokenStep]) -> list[int]:
    """Return the indices of the unshortened steps whose tokens are a prefix of the last such step's tokens."""
    unshortened = [n for n, step in steps.items() if not step.shortened]
    return [n for n in unshortened if steps[unshortened[-1]].ids[: steps[n].end] == steps[n].prefix]


def _fallback(step: TokenStep, steps: Mapping[int, TokenStep], shared: Sequence[int]) -> str:
    """Return the reason, a key of `FALLBACKS`, why a step does not share the merged sequence."""
    if step.shortened:
        return "too_long"
    return "target" if steps[shared[-1]].ids[: step.start] == step.ids[: step.start] else "history"


def _token_row(
    row: Row, sequence: TokenStep, steps: Mapping[int, TokenStep], layout: str, fallback: str | None
) -> dict[str, Any]:
    labels = [IGNORED] * len(sequence.ids)
    for step in steps.values():
        labels[step.start : step.end] = sequence.ids[step.start : step.end]
    n_trained = sum(label != IGNORED for label in labels)
    if n_trained != sum(step.end - step.start for step in steps.values()):
        raise LedgerError(f"{row['id']}: the targets of the steps {list(steps)} overlap in one sequence")
    numbers = [row["steps"][n] for n in steps]
    return {
        **{name: row[name] for name in ("task", "dataset", "query")},
        "id": _row_id(row, list(steps), len(row["steps"])),
        "step": numbers[-1],
        "steps": numbers,
        "layout": layout,
        "input_ids": sequence.ids,
        "labels": labels,
        "n_tokens": len(sequence.ids),
        "n_trained": n_trained,
        "fallback": fallback,
        "shortened": sequence.shortened,
    }


def _row_id(row: Row, steps: Sequence[int], n_steps: int) -> str:
    """Return the id for a subset of a sample's steps; the id of the sample lists all of them, as "file#1+2+3"."""
    file, separator, joined = row["id"].rpartition("#")
    places = joined.split("+")
    if len(steps) == n_steps:
        return str(row["id"])
    if separator and len(places) == n_steps:
        return f"{file}#{'+'.join(places[n] for n in steps)}"
    return f"{row['id']}#{'+'.join(str(row['steps'][n]) for n in steps)}"
