"""The model stage, in two passes.

First the requests that the reply store lacks stream through the engine, and every reply is stored as it arrives; then
an ordinary cached map reads the store. So a killed run asks nothing twice, and the result does not depend on the order
in which replies came. A stage that holds a retryable error is kept under a key of its own: a re-run asks exactly the
failed requests again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict
from datasets.utils import tqdm

from toolrlef_data.columns import RESPONSE
from toolrlef_data.engines import ENGINES, EngineSpec, Request
from toolrlef_data.fingerprints import canonical, digest
from toolrlef_data.lineage import as_arrow
from toolrlef_data.prompts import row_seed
from toolrlef_data.records import RETRYABLE_ERRORS, InputError, Reply, TooManyFailures
from toolrlef_data.replies import ReplyStore, open_store, reply_key, store_path
from toolrlef_data.transform import apply

__all__ = ["ask", "request_of", "response_of", "split_reasoning"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Row = Mapping[str, Any]

# What of an EngineSpec shapes a reply, beside the model itself; seeds only where replies are sampled.
SAMPLING = ("temperature", "top_p", "top_k", "num_beams", "repetition_penalty", "max_tokens", "stop")


@dataclass(frozen=True)
class Asking:
    """All settings of one model stage; what the two passes share."""

    render: Callable[[Row, Any], Request | None]
    finish: Callable[[Row, Sequence[Reply], Any], dict[str, Any]]
    settings: Any
    spec: EngineSpec
    engine: Any
    identity: Mapping[str, Any]
    samples: int
    reads: tuple[str, ...]
    store: str


def ask(
    data: D,
    render: Callable[[Row, Any], Request | None],
    finish: Callable[[Row, Sequence[Reply], Any], dict[str, Any]],
    settings: Any,
    spec: EngineSpec,
    *,
    reads: Sequence[str],
    adds: Mapping[str, Any],
    removes: Sequence[str] = (),
    samples: int = 1,
    name: str,
    label: str = "",
    unfinished: Callable[[Dataset], bool] | None = None,
    num_proc: int | None = None,
) -> D:
    """Ask a model about the rows of a table, and add the columns made from its replies.

    Args:
        render: (row, settings) -> the request, or None for a row that is not asked.
        finish: (row, replies, settings) -> new columns; replies is empty for a row that was not asked.
        settings: for render and finish.
        spec: the engine.
        reads: columns that render and finish see; `id` is always among them.
        adds: name -> feature of the new columns.
        samples: replies a row; more than one needs a temperature.
        name: of the stage in the lineage.
        unfinished: as in `transform.apply`.
        label: who is asked, for the progress bar; default: the model's name.

    Raises:
        TooManyFailures: more than `spec.max_failed` of the requests failed; every reply so far is stored.
        InputError: several samples of a greedy model, or no EngineSpec.
    """
    if not isinstance(spec, EngineSpec):
        raise InputError(f"{name} asks a model: expected an EngineSpec, found {type(spec).__name__}")
    if samples < 1:
        raise InputError(f"samples must be at least 1, found {samples}")
    if samples > 1 and spec.temperature <= 0:
        raise InputError(f"samples={samples} of {spec.model!r} would all be the same: set a temperature above 0")
    engine = ENGINES[spec.kind]
    identity = engine(spec).identity()
    reads = tuple(dict.fromkeys(["id", *reads]))
    asking = Asking(render, finish, settings, spec, engine, identity, samples, reads, str(store_path()))
    return apply(
        data,
        _read_replies,
        asking,
        reads=reads,
        adds=adds,
        removes=removes,
        batched=True,
        name=name,
        unfinished=unfinished,
        prepare=lambda split: _ask_missing(split, asking, label or Path(spec.model).name),
        num_proc=num_proc,
    )


def _read_replies(columns: Mapping[str, list[Any]], asking: Asking) -> dict[str, list[Any]]:
    """Second pass: the stored replies of a batch, made into columns."""
    rows = _rows(columns, asking)
    keys = [[key for key, _ in _requests(row, asking)] for row in rows]
    flat = [key for row_keys in keys for key in row_keys]
    store = open_store(Path(asking.store))
    found = store.get(flat)
    found |= store.failures([key for key in flat if key not in found])
    made = [
        asking.finish(row, [found[key] for key in row_keys], asking.settings)
        for row, row_keys in zip(rows, keys, strict=True)
    ]
    return {name: [columns[name] for columns in made] for name in made[0]}


def _rows(columns: Mapping[str, list[Any]], asking: Asking) -> list[dict[str, Any]]:
    return [{name: columns[name][i] for name in asking.reads} for i in range(len(columns["id"]))]


def _requests(row: Row, asking: Asking) -> list[tuple[str, Request]]:
    """The requests of one row with their keys; none for a row that is not asked."""
    request = asking.render(row, asking.settings)
    if request is None:
        return []
    sampling = {name: getattr(asking.spec, name) for name in SAMPLING}
    sampling["options"] = canonical(asking.spec.options) if asking.spec.kind != "scripted" else None
    requests = []
    for sample in range(asking.samples):
        if asking.spec.temperature > 0:
            request = replace(request, sample=sample, seed=row_seed(str(row["id"]), asking.spec.seed))
        requests.append((reply_key(dict(asking.identity), sampling, asdict(request)), request))
    return requests


def _ask_missing(data: Dataset, asking: Asking, label: str) -> str:
    """First pass: stream what the store lacks through the engine; returns a salt where replies may come later."""
    store = open_store(Path(asking.store))
    total = len(data) * asking.samples
    again: list[tuple[str, str]] = []
    with tqdm(total=total, desc=f"Ask {label}", disable=not asking.spec.progress) as bar:
        tally = Tally(bar)
        missing = _missing(data, asking, store, tally)
        first = next(missing, None)
        if first is not None:
            with asking.engine(asking.spec) as engine:
                for key, reply in engine.generate(_chain(first, missing)):
                    store.put([(key, reply)])
                    tally.arrived(key, reply)
                    if reply.error in RETRYABLE_ERRORS:
                        again.append((key, str(reply.error)))
                    tally.check(asking.spec, total - tally.not_asked)
        tally.show()
        tally.check(asking.spec, tally.requests)
    return digest(sorted(again)) if again else ""


def _missing(data: Dataset, asking: Asking, store: ReplyStore, tally: Tally) -> Iterator[tuple[str, Request]]:
    """Requests without a stored reply, each once; looked up as they are pulled, so memory stays constant."""
    for table in as_arrow(data).iter(256):
        columns = {name: table.column(name).to_pylist() for name in asking.reads}
        requests = [pair for row in _rows(columns, asking) for pair in _requests(row, asking)]
        asked = set(tally.under_way)  # before the look-up: what is answered from here on is not in `found`
        found = store.get([key for key, _ in requests])
        tally.skip(asking.samples * table.num_rows - len(requests))
        tally.requests += len(requests)
        for key, request in requests:
            if key in tally.under_way:
                tally.under_way[key] += 1
            elif key in found or key in asked:
                tally.stored(found.get(key))
            else:
                asked.add(key)
                tally.under_way[key] = 1
                yield key, request


def _chain(first: tuple[str, Request], rest: Iterator[tuple[str, Request]]) -> Iterator[tuple[str, Request]]:
    yield first
    yield from rest


class Tally:
    """Counts of one stage: for the progress bar, and for the share of failures; and which keys are under way."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar
        self.under_way: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.from_store = self.requests = self.not_asked = self.tokens = 0

    def skip(self, count: int) -> None:
        self.not_asked += count
        self.bar.update(count)

    def stored(self, reply: Reply | None) -> None:
        self.from_store += 1
        if reply is not None and reply.error:
            self.failed[reply.error] += 1
        self.bar.update(1)

    def arrived(self, key: str, reply: Reply) -> None:
        # Rows that ask the same are done with it; a row pulled later finds the reply in the store.
        same = self.under_way.pop(key)
        self.from_store += same - 1
        if reply.error:
            self.failed[reply.error] += same
        self.tokens += reply.completion_tokens or 0
        self.bar.update(same)
        self.show()

    def show(self) -> None:
        elapsed = self.bar.format_dict["elapsed"] or 1e-9
        figures = {"stored": self.from_store, "failed": self.failed.total(), "tokens/s": round(self.tokens / elapsed)}
        self.bar.set_postfix(figures, refresh=False)

    def check(self, spec: EngineSpec, requests: int) -> None:
        """Stop where more than `max_failed` of the stage's requests failed, now or in an earlier run."""
        if self.failed.total() > spec.max_failed * requests:
            kinds = ", ".join(f"{kind} {count}" for kind, count in self.failed.most_common())
            raise TooManyFailures(
                f"{self.failed.total()} of {requests} requests to {spec.model!r} failed ({kinds}), more than "
                f"max_failed={spec.max_failed}; every reply is stored, and a re-run asks only for what may still come"
            )


# From a reply to a RESPONSE ------------------------------------------------------------------------------------------

OPENINGS = ("<think>", "<thinking>", "<reasoning>", "<|begin_of_thought|>", "◁think▷", "[THINK]")
CLOSING = re.compile(r"</think>|</thinking>|</reasoning>|<\|end_of_thought\|>|◁/think▷|\[/THINK\]")
HARMONY = re.compile(r"<\|channel\|>final(?:<\|constrain\|>\w+)?<\|message\|>")


def split_reasoning(text: str) -> tuple[str, str]:
    """(reasoning, answer) of a text that may open with reasoning in the marks that current models use.

    Reasoning that was cut off before its end leaves an empty answer. A closing mark without an opening one counts: many
    chat templates put the opening mark into the prompt.

    >>> split_reasoning("<think>7 and 5 make 12</think>\\nThe answer is 12.")
    ('7 and 5 make 12', 'The answer is 12.')
    """
    if final := HARMONY.search(text):
        before = re.sub(r"<\|[a-z]+\|>(?:analysis|commentary)?", "", text[: final.start()])
        return before.strip(), re.sub(r"<\|(?:return|end)\|>\s*$", "", text[final.end() :]).strip()
    stripped = text.lstrip()
    opening = next((mark for mark in OPENINGS if stripped.startswith(mark)), "")
    closings = list(CLOSING.finditer(stripped))
    if closings:
        last = closings[-1]
        return stripped[len(opening) : last.start()].strip(), stripped[last.end() :].strip()
    if opening or stripped.startswith("<|channel|>analysis"):
        return stripped[len(opening) :].strip(), ""
    return "", text.strip()


def request_of(prompt: tuple[Any, ...] | str, tools: tuple[str, ...] = ()) -> Request:
    """A request from what `render_prompt` returns."""
    return Request(prompt=prompt, tools=tools) if isinstance(prompt, str) else Request(messages=prompt, tools=tools)


def response_of(reply: Reply | None, *, text: str | None = None, strip_reasoning: bool = True) -> dict[str, Any]:
    """A RESPONSE struct from a reply.

    Args:
        reply: None for a response that no model gave (gold).
        text: what stands in the place of the reply's own text, such as a rendered native tool call.
        strip_reasoning: keep reasoning inside the text apart from it.
    """
    response: dict[str, Any] = dict.fromkeys(RESPONSE)
    response["predictions"] = []
    if reply is None:
        return {**response, "text": text, "raw": text, "reasoning": "", "finish_reason": "stop"}
    response |= {"raw": reply.text, "finish_reason": reply.finish_reason, "error": reply.error}
    response |= {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
    if reply.error is not None:
        return {**response, "finish_reason": None, "error_detail": reply.error_detail}
    inside, own = split_reasoning(reply.text or "") if strip_reasoning else ("", (reply.text or "").strip())
    reasoning = "\n".join(part for part in (reply.reasoning, inside) if part)
    return {**response, "reasoning": reasoning, "text": own if text is None else text}
