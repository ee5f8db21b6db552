"""The model stage: requests for the rows of a table, and new columns from the replies.

A stage has two passes. The first sends the requests that have no stored reply, and stores each reply when it arrives.
The second is an ordinary cached map that reads the reply store. A killed run therefore repeats no request, and the
result does not depend on the order of replies. A result with retryable errors has a separate cache key: a re-run sends
only the failed requests.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict
from datasets.utils import tqdm

from toolrlef_data.engines import ENGINES
from toolrlef_data.engines.credentials import OPENAI_URL
from toolrlef_data.engines.exchange import Exchange
from toolrlef_data.engines.progress import BAR_FORMAT
from toolrlef_data.engines.prompts import row_seed
from toolrlef_data.engines.reply_store import ReplyStore, open_store, reply_key, store_path
from toolrlef_data.engines.rules import integer_from
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import FINAL_ERRORS, NO_RESPONSE_ERRORS, InputError, Reply, ToolrlefError, UnknownName
from toolrlef_data.tables.batches.functions import read_values
from toolrlef_data.tables.batches.mapping import BACKEND
from toolrlef_data.tables.fingerprint import canonical, digest
from toolrlef_data.tables.redaction import redact_fields
from toolrlef_data.tables.stage_cache import as_arrow, write_record
from toolrlef_data.tables.transform import Prepared, apply

__all__ = [
    "ModelStage",
    "check_samples",
    "keyed_request",
    "requests_of",
    "row_batches",
    "run_model_stage",
    "send_missing",
]

D = TypeVar("D", bound="Dataset | DatasetDict")
Row = Mapping[str, Any]
Render = Callable[[Row, Any], "Request | Sequence[Request] | None"]

MAX_CLAIMED_ELSEWHERE = 10_000  # pending requests of other processes, above which no further rows are read
# Fields of `ModelStage` that affect neither replies nor values.
UNKEYED_FIELDS = ("adds", "removes", "name", "label", "action", "ask_again", "response_of")
# Fields of `EngineSpec` in the reply key; `Request` contains the seed of sampled replies.
SAMPLING_FIELDS = ("temperature", "top_p", "top_k", "num_beams", "repetition_penalty", "max_tokens", "stop")


@dataclass(frozen=True)
class ModelStage:
    """The definition of a model stage: requests for the rows of a table, and columns from the replies.

    Args:
        render: (row, settings) -> one request, several requests, or None to skip the row.
        finish: (row, replies, settings) -> new columns. The replies are grouped by request, with all samples of one
            request in sequence. They are empty for a skipped row.
        settings: passed to `render` and `finish`.
        spec: settings of the engine.
        reads: columns that are passed to `render` and `finish`; `id` is always included.
        adds: features of the new columns, by name.
        name: name of the stage in the lineage.
        removes: columns to remove.
        samples: replies per request; more than one requires a temperature above 0.
        label: name of the model in the progress bar. Default: the last part of `spec.model`.
        action: words before the label in the progress bar. Default: "Ask".
        ask_again: error kinds whose requests are sent again although their replies are final; default: none.
        response_of: (row, reply, settings) -> the RESPONSE struct of a reply, whose error `ask_again` may name, too.
            Default: only the error kinds of replies.
        engine: spec -> `Engine`; default: the class of `spec.kind` in `ENGINES`.

    Raises:
        InputError: `spec` is not an EngineSpec, or `samples` is below 1, or above 1 without a temperature.
        UnknownName: an unknown error kind in `ask_again`.
    """

    render: Render
    finish: Callable[[Row, Sequence[Reply], Any], dict[str, Any]]
    settings: Any
    spec: EngineSpec
    reads: Sequence[str]
    adds: Mapping[str, Any]
    name: str
    removes: Sequence[str] = ()
    samples: int = 1
    label: str = ""
    action: str = "Ask"
    ask_again: Collection[str] = ()
    response_of: Callable[[Row, Reply, Any], Mapping[str, Any]] | None = None
    engine: Any = None
    identity: Mapping[str, Any] = field(init=False)
    store: str = field(init=False)

    def __post_init__(self) -> None:
        spec, samples = self.spec, self.samples
        if not isinstance(spec, EngineSpec):
            raise InputError(f"{self.name} needs a model: expected an EngineSpec, found {type(spec).__name__}")
        check_samples(samples, spec)
        if isinstance(self.ask_again, str) or not isinstance(self.ask_again, Collection):
            found = f"the text {self.ask_again!r}" if isinstance(self.ask_again, str) else repr(self.ask_again)
            raise InputError(f"ask_again: expected a collection of error kinds, found {found}")
        if unknown := sorted(set(self.ask_again) - FINAL_ERRORS - NO_RESPONSE_ERRORS):
            raise UnknownName("error kind in ask_again:", unknown[0], FINAL_ERRORS | NO_RESPONSE_ERRORS)
        engine = self.engine or ENGINES[spec.kind]
        derived = {"engine": engine, "identity": engine(spec).identity(), "store": str(store_path())}
        for name, value in {**derived, "reads": tuple(dict.fromkeys(["id", *self.reads]))}.items():
            object.__setattr__(self, name, value)

    def in_key(self) -> dict[str, Any]:
        """Replace `UNKEYED_FIELDS` by None in the cache key; `apply` adds the columns to every cache key."""
        return dict.fromkeys(UNKEYED_FIELDS)

    def published(self) -> dict[str, Any]:
        """Return the redacted fields that are published, without `UNKEYED_FIELDS`.

        Of a URL in an environment variable, only the variable's name is published.
        """
        fields = {name: value for name, value in redact_fields(self).items() if name not in UNKEYED_FIELDS}
        base_url, url = self.spec.base_url, self.identity.get("url")
        if url and (base_url or "$").startswith("$") and url != OPENAI_URL:
            fields["identity"] = {**fields["identity"], "url": base_url or "$OPENAI_BASE_URL"}
        return fields


def check_samples(samples: int, spec: EngineSpec) -> None:
    """Raise an `InputError` for fewer than one sample per request, or for several samples of a greedy model."""
    integer_from(1).check("samples", samples)
    if samples > 1 and spec.temperature <= 0:
        raise InputError(f"samples={samples} of {spec.model!r} would all be the same: set a temperature above 0")


def run_model_stage(data: D, stage: ModelStage, *, num_proc: int | None = None) -> D:
    """Send requests for the rows of a table to a model, and add columns from the replies.

    Args:
        data: a Dataset, or a DatasetDict whose splits are processed one by one.
        stage: definition of the requests and the columns.
        num_proc: processes that compute the columns. Default: one.

    Returns:
        The table with the columns of `stage.adds`, and without those of `stage.removes`.

    Raises:
        TooManyFailures: more than `EngineSpec.max_failed` of the requests failed. All received replies are stored.

    >>> from datasets import Value
    >>> from toolrlef_data.engines.scripted import scripted
    >>> def question(row, settings):
    ...     return Request(prompt=row["text"])
    >>> def texts(row, replies, settings):
    ...     return {"reply": replies[0].text}
    >>> data = Dataset.from_dict({"id": ["a", "b"], "text": ["one", "two"]})
    >>> spec = scripted({"one": "1", "two": "2"}, progress=False)
    >>> stage = ModelStage(question, texts, None, spec, reads=["text"], adds={"reply": Value("string")}, name="demo")
    >>> run_model_stage(data, stage)["reply"][:]
    ['1', '2']
    """
    return apply(
        data,
        _read_replies,
        stage,
        reads=stage.reads,
        adds=stage.adds,
        removes=stage.removes,
        batched=True,
        name=stage.name,
        prepare=lambda split: _prepare(split, stage),
        refresh=bool(stage.ask_again),
        is_outdated=lambda split, record: _is_outdated(split, record, stage),
        num_proc=num_proc,
    )


def _read_replies(columns: Mapping[str, list[Any]], stage: ModelStage) -> dict[str, list[Any]]:
    """Second pass: return the new columns of a batch of rows, from the stored replies."""
    rows = _rows(columns, stage.reads)
    keys = [[key for key, _ in _requests(row, stage)] for row in rows]
    flat = [key for row_keys in keys for key in row_keys]
    store = open_store(Path(stage.store))
    replies = store.get(flat)
    replies |= store.failures([key for key in flat if key not in replies])
    if lost := [key for key in flat if key not in replies]:
        raise ToolrlefError(f"{stage.store}: {len(lost)} replies were deleted or damaged during the run: run again")
    finished = [
        stage.finish(row, [replies[key] for key in row_keys], stage.settings)
        for row, row_keys in zip(rows, keys, strict=True)
    ]
    return {name: [values[name] for values in finished] for name in finished[0]}


def _requests(row: Row, stage: ModelStage) -> list[tuple[str, Request]]:
    """Return the (reply key, request) pairs of a row; none for a skipped row."""
    rendered = stage.render(row, stage.settings)
    if rendered is None:
        return []
    requests = [rendered] if isinstance(rendered, Request) else rendered
    return [
        keyed_request(request, str(row["id"]), sample, stage.spec, stage.identity)
        for request in requests
        for sample in range(stage.samples)
    ]


def keyed_request(
    request: Request, row_id: str, sample: int, spec: EngineSpec, identity: Mapping[str, Any]
) -> tuple[str, Request]:
    """Return (reply key, request); a sampled request gets its sample number and a seed.

    Args:
        request: the request.
        row_id: `id` of the row, for the seed.
        sample: number of the reply among those to the same request.
        spec: settings of the engine.
        identity: the result of `Engine.identity`.
    """
    if spec.temperature > 0:
        request = replace(request, sample=sample, seed=row_seed(row_id, spec.seed))
    sampling = {name: getattr(spec, name) for name in SAMPLING_FIELDS}
    sampling["options"] = canonical(spec.options) if spec.kind != "scripted" else None
    return reply_key(dict(identity), sampling, request.in_key()), request


def _prepare(data: Dataset, stage: ModelStage) -> Prepared:
    """First pass, after other machines have sent the requests that they could, if there are any."""
    backend = BACKEND.get()
    if backend.ask is None or len(data) < backend.min_rows:
        return send_missing(data, stage)
    if stage.ask_again:  # before the others reply: their replies are not asked for again
        store, sent_again = open_store(Path(stage.store)), set[str]()
        for rows in row_batches(data, stage.reads):
            _withdraw(rows, [_requests(row, stage) for row in rows], stage, store, sent_again)
    backend.ask(data, stage)
    return send_missing(data, replace(stage, ask_again=()))


def requests_of(data: Dataset, stage: ModelStage) -> Iterator[list[tuple[str, Request]]]:
    """Yield the (reply key, request) pairs of the rows of a table, in batches of rows."""
    for rows in row_batches(data, stage.reads):
        yield [pair for row in rows for pair in _requests(row, stage)]


def send_missing(data: Dataset, stage: ModelStage) -> Prepared:
    """First pass: send the requests without a stored reply; return the salt and the usage of `Exchange.run`.

    If replies were withdrawn, their keys are part of the salt, so the stages after this one notice the new replies.
    """
    description = f"{stage.action} {stage.label or Path(stage.spec.model).name}"
    total = len(data) * stage.samples
    with tqdm(total=total, desc=description, disable=not stage.spec.progress, bar_format=BAR_FORMAT) as bar:
        store = open_store(Path(stage.store))
        exchange = Exchange(stage.engine(stage.spec), stage.spec, store, bar, expected=total)
        count = store.count_withdrawals()  # a later one outdates the result
        withdrawn: dict[str, int] = {}
        salt, record = exchange.run(_lookups(data, stage, exchange, withdrawn))
    if not withdrawn:
        return Prepared(salt, {**record, "withdrawals": count})
    record = {**record, "withdrawals": count, "withdrawn": digest(sorted(withdrawn.items()))}
    return Prepared(digest(salt, sorted(withdrawn.items())), record, is_final=not salt)


def _is_outdated(data: Dataset, record: Mapping[str, Any], stage: ModelStage) -> bool:
    """Return whether replies of a cached result were withdrawn since, such as by another stage with `ask_again`."""
    if not Path(stage.store).exists():
        return False
    store = open_store(Path(stage.store))
    count = store.count_withdrawals()
    if count <= record.get("withdrawals", 0):
        return False
    withdrawn: dict[str, int] = {}
    for rows in row_batches(data, stage.reads):
        withdrawn |= store.withdrawals([key for row in rows for key, _ in _requests(row, stage)])
    if (digest(sorted(withdrawn.items())) if withdrawn else None) != record.get("withdrawn"):
        return True
    write_record(record["fingerprint"], {**record, "withdrawals": count})  # the next run checks later withdrawals only
    return False


def _lookups(data: Dataset, stage: ModelStage, exchange: Exchange, withdrawn: dict[str, int]) -> Iterator[None]:
    """Look up the requests of all rows in batches, so that memory stays constant; add the withdrawn reply keys."""
    sent_again: set[str] = set()
    for rows in row_batches(data, stage.reads):
        requests_of_rows = [_requests(row, stage) for row in rows]
        requests = [pair for pairs in requests_of_rows for pair in pairs]
        if stage.ask_again:
            _withdraw(rows, requests_of_rows, stage, exchange.store, sent_again)
        withdrawn |= exchange.store.withdrawals([key for key, _ in requests])
        exchange.progress.skip(stage.samples * len(rows) - len(requests))
        exchange.lookup(requests)
        while exchange.unsent or len(exchange.claimed_elsewhere) > MAX_CLAIMED_ELSEWHERE:
            yield


def _withdraw(
    rows: Sequence[Row],
    requests: Sequence[Sequence[tuple[str, Request]]],
    stage: ModelStage,
    store: ReplyStore,
    sent_again: set[str],
) -> None:
    """Withdraw the final replies whose error kind is in `ask_again`, each reply key once a run."""
    replies = store.get([key for pairs in requests for key, _ in pairs if key not in sent_again])
    keys: set[str] = set()
    for row, pairs in zip(rows, requests, strict=True):
        for key in [key for key, _ in pairs if key in replies]:
            error = replies[key].error
            if error is None and stage.response_of is not None:
                error = stage.response_of(row, replies[key], stage.settings)["error"]
            if error in stage.ask_again:
                keys.add(key)
    store.withdraw(sorted(keys))
    sent_again |= keys


def row_batches(data: Dataset, reads: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a table in batches of 256, with the columns `reads`."""
    for table in as_arrow(data).iter(256):
        yield _rows({name: read_values(table, name) for name in reads}, reads)


def _rows(columns: Mapping[str, list[Any]], reads: Sequence[str]) -> list[dict[str, Any]]:
    return [dict(zip(reads, values, strict=True)) for values in zip(*(columns[name] for name in reads), strict=True)]
