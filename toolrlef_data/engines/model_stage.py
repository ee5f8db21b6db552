"""The model stage, in two passes.

First the requests that the reply store lacks stream through the engine, and every reply is stored as it arrives; then
an ordinary cached map reads the store. So a killed run asks nothing twice, and the result does not depend on the order
in which replies came. A stage that holds a retryable error is kept under a key of its own: a re-run asks exactly the
failed requests again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict
from datasets.utils import tqdm

from toolrlef_data.engines import ENGINES
from toolrlef_data.engines.exchange import Exchange
from toolrlef_data.engines.prompts import row_seed
from toolrlef_data.engines.reply_store import open_store, reply_key, store_path
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import InputError, Reply
from toolrlef_data.tables.batches import read_values
from toolrlef_data.tables.fingerprint import canonical
from toolrlef_data.tables.redaction import redact_fields
from toolrlef_data.tables.stage_cache import as_arrow
from toolrlef_data.tables.transform import apply

__all__ = ["ModelStage", "keyed_request", "row_batches", "run_model_stage"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Row = Mapping[str, Any]
Render = Callable[[Row, Any], "Request | Sequence[Request] | None"]

MOST_ELSEWHERE = 10_000  # requests that other processes are asking; where there are more, the rows after them wait
AROUND = ("adds", "removes", "name", "label")  # a stage's fields that no reply and no value of a row depends on
# What of an EngineSpec shapes a reply, beside the model itself; seeds only where replies are sampled.
SAMPLING = ("temperature", "top_p", "top_k", "num_beams", "repetition_penalty", "max_tokens", "stop")


@dataclass(frozen=True)
class ModelStage:
    """What a model is asked about the rows of a table, and which columns are made from its replies.

    Args:
        render: (row, settings) -> the request, several of them, or None for a row that is not asked.
        finish: (row, replies, settings) -> new columns; replies is empty for a row that was not asked, and holds all
            samples of a request before those of the next.
        settings: for render and finish.
        spec: the engine.
        reads: columns that render and finish see; `id` is always among them.
        adds: name -> feature of the new columns.
        name: of the stage in the lineage.
        removes: columns to leave out.
        samples: replies a row; more than one needs a temperature.
        label: who is asked, for the progress bar; default: the model's name.

    Raises:
        InputError: several samples of a greedy model, or no EngineSpec.
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
    engine: Any = field(init=False)
    identity: Mapping[str, Any] = field(init=False)
    store: str = field(init=False)

    def __post_init__(self) -> None:
        spec, samples = self.spec, self.samples
        if not isinstance(spec, EngineSpec):
            raise InputError(f"{self.name} asks a model: expected an EngineSpec, found {type(spec).__name__}")
        if samples < 1:
            raise InputError(f"samples must be at least 1, found {samples}")
        if samples > 1 and spec.temperature <= 0:
            raise InputError(f"samples={samples} of {spec.model!r} would all be the same: set a temperature above 0")
        engine = ENGINES[spec.kind]
        derived = {"engine": engine, "identity": engine(spec).identity(), "store": str(store_path())}
        for name, value in {**derived, "reads": tuple(dict.fromkeys(["id", *self.reads]))}.items():
            object.__setattr__(self, name, value)

    def in_key(self) -> dict[str, Any]:
        """The key of a step holds the columns in any case; the stage's name and label change nothing."""
        return dict.fromkeys(AROUND)

    def published(self) -> dict[str, Any]:
        """What others may read."""
        return {name: value for name, value in redact_fields(self).items() if name not in AROUND}


def run_model_stage(data: D, stage: ModelStage, *, num_proc: int | None = None) -> D:
    """Ask a model about the rows of a table, and add the columns made from its replies.

    Args:
        data: a Dataset, or a DatasetDict of which each split is taken.
        stage: what is asked, and what becomes of the replies.
        num_proc: processes that make the columns.

    Raises:
        TooManyFailures: more than `EngineSpec.max_failed` of the requests failed; every reply so far is stored.

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
        prepare=lambda split: _ask_missing(split, stage),
        num_proc=num_proc,
    )


def _read_replies(columns: Mapping[str, list[Any]], stage: ModelStage) -> dict[str, list[Any]]:
    """Second pass: the stored replies of a batch, made into columns."""
    rows = _rows(columns, stage.reads)
    keys = [[key for key, _ in _requests(row, stage)] for row in rows]
    flat = [key for row_keys in keys for key in row_keys]
    store = open_store(Path(stage.store))
    found = store.get(flat)
    found |= store.failures([key for key in flat if key not in found])
    made = [
        stage.finish(row, [found[key] for key in row_keys], stage.settings)
        for row, row_keys in zip(rows, keys, strict=True)
    ]
    return {name: [columns[name] for columns in made] for name in made[0]}


def _requests(row: Row, stage: ModelStage) -> list[tuple[str, Request]]:
    """The requests of one row with their keys; none for a row that is not asked."""
    rendered = stage.render(row, stage.settings)
    if rendered is None:
        return []
    asked = [rendered] if isinstance(rendered, Request) else rendered
    return [
        keyed_request(request, str(row["id"]), sample, stage.spec, stage.identity)
        for request in asked
        for sample in range(stage.samples)
    ]


def keyed_request(
    request: Request, row_id: str, sample: int, spec: EngineSpec, identity: Mapping[str, Any]
) -> tuple[str, Request]:
    """A request with its key in the reply store; where replies are sampled, with its sample's number and a seed.

    Args:
        identity: what `Engine.identity` says of the model.
    """
    if spec.temperature > 0:
        request = replace(request, sample=sample, seed=row_seed(row_id, spec.seed))
    sampling = {name: getattr(spec, name) for name in SAMPLING}
    sampling["options"] = canonical(spec.options) if spec.kind != "scripted" else None
    return reply_key(dict(identity), sampling, request.in_key()), request


def _ask_missing(data: Dataset, stage: ModelStage) -> tuple[str, dict[str, Any]]:
    """First pass: ask for what the store lacks.

    Returns a salt where replies may come later, and what the stage's replies took.
    """
    label = stage.label or Path(stage.spec.model).name
    total = len(data) * stage.samples
    shown = "{desc}: {percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
    with tqdm(total=total, desc=f"Ask {label}", disable=not stage.spec.progress, bar_format=shown) as bar:
        store = open_store(Path(stage.store))
        exchange = Exchange(stage.engine(stage.spec), stage.spec, store, bar, expected=total)
        return exchange.run(_lookups(data, stage, exchange))


def _lookups(data: Dataset, stage: ModelStage, exchange: Exchange) -> Iterator[None]:
    """Look up the requests of all rows, some rows at a time, so that memory stays constant."""
    for rows in row_batches(data, stage.reads):
        requests = [pair for row in rows for pair in _requests(row, stage)]
        exchange.progress.skip(stage.samples * len(rows) - len(requests))
        exchange.lookup(requests)
        while exchange.unsent or len(exchange.claimed_elsewhere) > MOST_ELSEWHERE:
            yield


def row_batches(data: Dataset, reads: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """The rows of a table, some at a time."""
    for table in as_arrow(data).iter(256):
        yield _rows({name: read_values(table, name) for name in reads}, reads)


def _rows(columns: Mapping[str, list[Any]], reads: Sequence[str]) -> list[dict[str, Any]]:
    return [dict(zip(reads, values, strict=True)) for values in zip(*(columns[name] for name in reads), strict=True)]
