"""The model stage, in two passes.

First the requests that the reply store lacks stream through the engine, and every reply is stored as it arrives; then
an ordinary cached map reads the store. So a killed run asks nothing twice, and the result does not depend on the order
in which replies came. A stage that holds a retryable error is kept under a key of its own: a re-run asks exactly the
failed requests again.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict
from datasets.utils import tqdm

from toolrlef_data.engines import ENGINES
from toolrlef_data.engines.claims import Claims
from toolrlef_data.engines.progress import Tally
from toolrlef_data.engines.prompts import row_seed
from toolrlef_data.engines.reply_store import ReplyStore, open_store, reply_key, store_path
from toolrlef_data.engines.spec import Engine, EngineSpec, Request
from toolrlef_data.records import RETRYABLE_ERRORS, InputError, Reply
from toolrlef_data.tables.batches import read_values
from toolrlef_data.tables.fingerprint import canonical, digest
from toolrlef_data.tables.stage_cache import as_arrow
from toolrlef_data.tables.transform import apply

__all__ = ["apart", "ask", "key_of"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Row = Mapping[str, Any]
Render = Callable[[Row, Any], "Request | Sequence[Request] | None"]

LOOK = 0.2  # seconds after which Ctrl-C is noticed at the latest
WAIT = 0.1  # seconds between two looks at what another process is asking
# What of an EngineSpec shapes a reply, beside the model itself; seeds only where replies are sampled.
SAMPLING = ("temperature", "top_p", "top_k", "num_beams", "repetition_penalty", "max_tokens", "stop")


@dataclass(frozen=True)
class Asking:
    """All settings of one model stage; what the two passes share."""

    render: Render
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
    render: Render,
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
        render: (row, settings) -> the request, several of them, or None for a row that is not asked.
        finish: (row, replies, settings) -> new columns; replies is empty for a row that was not asked, and holds all
            samples of a request before those of the next.
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
    rendered = asking.render(row, asking.settings)
    if rendered is None:
        return []
    requests = []
    for request in [rendered] if isinstance(rendered, Request) else rendered:
        for sample in range(asking.samples):
            if asking.spec.temperature > 0:
                request = replace(request, sample=sample, seed=row_seed(str(row["id"]), asking.spec.seed))
            requests.append((key_of(request, asking.spec, asking.identity), request))
    return requests


def key_of(request: Request, spec: EngineSpec, identity: Mapping[str, Any]) -> str:
    """The key in the reply store of a request to a model that `Engine.identity` told of."""
    sampling = {name: getattr(spec, name) for name in SAMPLING}
    sampling["options"] = canonical(spec.options) if spec.kind != "scripted" else None
    return reply_key(dict(identity), sampling, request.in_key())


def _ask_missing(data: Dataset, asking: Asking, label: str) -> tuple[str, dict[str, Any]]:
    """First pass: stream what the store lacks through the engine.

    Returns a salt where replies may come later, and what the stage's replies took.
    """
    store = open_store(Path(asking.store))
    engine = asking.engine(asking.spec)
    total = len(data) * asking.samples
    ended = threading.Event()
    shown = "{desc}: {percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
    with tqdm(total=total, desc=f"Ask {label}", disable=not asking.spec.progress, bar_format=shown) as bar:
        tally = Tally(bar, asking.spec, engine.figures)
        if engine.cancel is None:
            _ask_all(data, asking, store, engine, tally, ended)
        else:
            apart(lambda: _ask_all(data, asking, store, engine, tally, ended), [ended.set, engine.cancel])
        tally.show()
        if (error := tally.too_many(tally.requests)) is not None:
            raise error
    return digest(sorted(tally.again.items())) if tally.again else "", {"usage": tally.usage()}


def apart(work: Callable[[], None], cancel: Sequence[Callable[[], None]]) -> None:
    """Run work in a thread of its own, since a notebook's thread has an event loop already; Ctrl-C ends it cleanly."""
    with ThreadPoolExecutor(1, thread_name_prefix="ask") as pool:
        try:
            asked = pool.submit(work)
            while not wait([asked], LOOK).done:  # a signal just before a wait without end would be lost
                pass
        finally:
            for end in cancel:
                end()
    asked.result()


def _ask_all(
    data: Dataset, asking: Asking, store: ReplyStore, engine: Engine, tally: Tally, ended: threading.Event
) -> None:
    """Ask for everything that is missing; what another process is asking right now is waited for."""
    with Claims(store) as claims:
        while True:
            missing = _missing(data, asking, store, claims, tally)
            first = next(missing, None)
            if first is not None:
                asked = itertools.chain([first], missing)
                with engine, contextlib.closing(engine.generate(asked)) as arriving:
                    for replies in arriving:
                        store.put(replies)
                        for key, reply in replies:
                            tally.arrived(key, reply)
                        if again := [key for key, reply in replies if reply.error in RETRYABLE_ERRORS]:
                            claims.give_up(again)
                        error = tally.too_many(len(data) * asking.samples - tally.not_asked)
                        if error is not None and engine.stop is None:
                            raise error
                        if error is not None and engine.stop is not None:
                            engine.stop(error)  # which raises it when what is under way has arrived
            while tally.held and not ended.is_set() and claims.take([tally.held]) and not store.get([tally.held]):
                ended.wait(WAIT)
            if not tally.held or ended.is_set():
                return
            tally.begin_again()


def _missing(
    data: Dataset, asking: Asking, store: ReplyStore, claims: Claims, tally: Tally
) -> Iterator[tuple[str, Request]]:
    """Requests without a stored reply, each once; looked up as they are pulled, so memory stays constant."""
    for table in as_arrow(data).iter(256):
        columns = {name: read_values(table, name) for name in asking.reads}
        requests = [pair for row in _rows(columns, asking) for pair in _requests(row, asking)]
        asked = set(tally.under_way)  # before the look-up: what is answered from here on is not in `found`
        found = store.get([key for key, _ in requests])
        lacking = [key for key, _ in requests if key not in found and key not in tally.again]
        held = claims.take(lacking)
        found |= store.get(lacking)  # what another process has answered since
        tally.skip(asking.samples * table.num_rows - len(requests))
        tally.requests += len(requests)
        for key, request in requests:
            if key in tally.under_way:
                tally.under_way[key] += 1
            elif key in found:
                tally.stored(found[key])
            elif key in tally.again:
                tally.failed_before(key)
            elif key in asked:
                tally.stored(store.get([key])[key])
            elif key in held:
                tally.held = tally.held or key
            else:
                asked.add(key)
                tally.under_way[key] = 1
                yield key, request
