"""generating: trajectories made by searching, with a model's replies and what the functions really gave.

A search (`dfsdt`) is a generator that yields what it needs, a reply or a function's result. Two passes, as in every
model stage: first many searches at once stream their requests through the engine, and every reply and result is stored
as it arrives; then an ordinary cached map runs each search again from the store. So a killed run asks nothing twice and
calls nothing twice, and what comes out does not depend on the order in which things arrived.

What failed on the model's side for a passing reason ends its search, which is then left out with that reason and goes
on with the next run. What failed on the function's side is what the model saw, and a part of the trajectory.

Not covered: functions that remember earlier calls (the same call with the same arguments is executed once, and its
result used wherever it comes up), and two processes at once, which may both execute a call.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset, Value
from datasets.utils import tqdm

from toolrlef_data.answer_files import answer_file
from toolrlef_data.asking import apart
from toolrlef_data.batches import read_values
from toolrlef_data.columns import ANSWERS
from toolrlef_data.dfsdt import Call, Method
from toolrlef_data.engines import ENGINES, Engine, EngineSpec
from toolrlef_data.fingerprints import digest
from toolrlef_data.lineage import as_arrow, table_of
from toolrlef_data.loading_scripts.reading import text_id
from toolrlef_data.protocols import PROTOCOLS, STOP
from toolrlef_data.records import RETRYABLE_ERRORS, Drop, InputError, UnknownName
from toolrlef_data.replies import open_store, store_path
from toolrlef_data.searching import Generating, Many, One
from toolrlef_data.tally import Tally
from toolrlef_data.tools.functions import Function, functions_of
from toolrlef_data.transform import apply, explode, require

__all__ = ["generate_trajectories"]

Row = Mapping[str, Any]

STRING = Value("string")
SEARCHED = {"answer": STRING, "error": STRING, "error_detail": STRING}
FUNCTIONS_AT_ONCE = 8


def generate_trajectories(
    queries: Dataset | Sequence[str],
    functions: Sequence[Function | Callable[..., Any]],
    engine: EngineSpec,
    *,
    method: Method | None = None,
    protocol: str = "tools",
    functions_at_once: int = FUNCTIONS_AT_ONCE,
) -> Dataset:
    """Search for solutions of queries with functions, and keep the trees as answer files of ToolBench's kind.

    Args:
        queries: texts; or a table with the columns `id` and `query` (or `question`), and perhaps `functions`, the names
            of those that a query may call. Default: all.
        functions: `Function` objects, and callables with type hints and a Google docstring. They are called from
            several threads.
        engine: the model; its `concurrency`, `limits` and `seed` hold here as everywhere.
        method: how to search (`dfsdt.Method`); default: DFSDT as upstream, two children a state.
        protocol: "tools": OpenAI's tool calling; "text": calls stand in the text, for models without it.
        functions_at_once: threads in which functions are executed.

    Returns:
        a table `columns.ANSWERS`: for `trajectories`, or `write_answers`. Queries whose search could not be ended are
        in the ledger with the model's error; the next run goes on with them.

    Raises:
        InputError: a query names a function that there is not, or several chains of a greedy model.
        TooManyFailures: more than `engine.max_failed` of the requests failed; what arrived is stored.
        CapReached: as of `EngineSpec.limits`.

    >>> from toolrlef_data import Reply, scripted, trajectories
    >>> def ping(host: str) -> str:
    ...     '''Ask a host whether it is up.
    ...
    ...     Args:
    ...         host: its name.
    ...     '''
    ...     return f"{host} is up"
    >>> ask = Reply("I ask.", tool_calls=(("ping", '{"host": "a"}'),))
    >>> end = Reply("", tool_calls=(("Finish", '{"return_type": "give_answer", "final_answer": "It is up."}'),))
    >>> answers = generate_trajectories(["Is a up?"], [ping], scripted([ask, end], progress=False))
    >>> trajectories(answers)[1]["messages"][-2]["content"]
    '{"error": "", "response": "a is up"}'
    """
    if not isinstance(engine, EngineSpec):
        raise InputError(f"generate_trajectories asks a model: expected an EngineSpec, found {type(engine).__name__}")
    if protocol not in PROTOCOLS:
        raise UnknownName("protocol", protocol, PROTOCOLS)
    if functions_at_once < 1:
        raise InputError(f"functions_at_once is at least 1, found {functions_at_once}")
    method = method or Method()
    if method.chains > 1 and engine.temperature <= 0:
        raise InputError(f"{method.chains} chains of {engine.model!r} would all be the same: set a temperature above 0")
    if protocol == "text":
        engine = replace(engine, stop=tuple(dict.fromkeys([*engine.stop, *STOP])))
    kind = ENGINES[engine.kind]
    settings = Generating(
        tuple(functions_of(functions).values()),
        method,
        protocol,
        engine,
        kind,
        kind(engine).identity(),
        str(store_path()),
    )
    rows = _rows_of(queries)
    reads = ["id", "query", *(["functions"] if "functions" in rows.column_names else [])]
    searched = apply(
        rows,
        _searched,
        settings,
        reads=reads,
        adds=SEARCHED,
        removes=[name for name in rows.column_names if name not in reads],
        name="search",
        prepare=lambda data: _search_missing(data, settings, reads, functions_at_once),
        unfinished=lambda data: any(error is not None for error in data["error"]),
    )
    return explode(
        searched,
        _answer,
        method.name,
        reads=list(searched.column_names),
        features=ANSWERS,
        stage="generate trajectories",
    )


def _rows_of(queries: Dataset | Sequence[str]) -> Dataset:
    """Queries as a table with `id` and `query`."""
    if isinstance(queries, Dataset):
        if "query" not in queries.column_names and "question" in queries.column_names:
            queries = apply(queries, _as_query, reads=["question"], adds={"query": STRING}, name="queries")
        require(queries, ["id", "query"], "generate_trajectories")
        return queries
    if isinstance(queries, str) or not all(isinstance(query, str) and query.strip() for query in queries):
        raise InputError("queries are a table, or a list of texts of which none is empty")
    rows = [{"id": text_id(query), "query": query} for query in dict.fromkeys(queries)]
    return table_of(rows, {"id": STRING, "query": STRING}, "queries")


def _as_query(row: Row, settings: None) -> dict[str, Any]:
    return {"query": row["question"]}


def _answer(row: Row, method: str) -> Iterator[dict[str, Any] | tuple[str, Drop]]:
    if row["answer"] is None:
        yield row["id"], Drop(row["error"], row["error_detail"])
        return
    file = json.loads(row["answer"])
    made = file["answer_generation"]
    name = f"{row['id']}_{method}"
    yield {
        "id": name,
        "task": "toolbench",
        "dataset": "generated",
        "query": row["query"],
        "finish_type": made["finish_type"],
        "valid": made["valid_data"],
        "win": file["win"],
        "n_calls": made["query_count"],
        "total_tokens": made["total_tokens"],
        "source_file": f"{name}.json",
        "answer": row["answer"],
    }


# The two passes -------------------------------------------------------------------------------------------------------


def _search_missing(
    data: Dataset, settings: Generating, reads: Sequence[str], functions_at_once: int
) -> tuple[str, dict[str, Any]]:
    """First pass: run all searches, asking and calling what the store lacks."""
    store = open_store(Path(settings.store))
    engine: Engine = settings.engine(settings.spec)
    ended = threading.Event()
    shown = "{desc}: {n_fmt} requests [{elapsed}{postfix}]"
    label = Path(settings.spec.model).name
    pool = ThreadPoolExecutor(functions_at_once, thread_name_prefix="function")
    with tqdm(desc=f"Search with {label}", disable=not settings.spec.progress, bar_format=shown, total=0) as bar:
        many = Many(_rows(data, reads), settings, store, pool, ended)
        many.tally = Tally(bar, settings.spec, lambda: {"searched": f"{many.done}/{len(data)}", **engine.figures()})
        try:
            if engine.cancel is None:
                many.run(engine)
            else:
                apart(lambda: many.run(engine), [ended.set, engine.cancel])
        finally:
            pool.shutdown(wait=not ended.is_set(), cancel_futures=True)
        many.tally.show()
        if (error := many.tally.too_many(many.tally.requests)) is not None:
            raise error
    return digest(sorted(many.tally.again.items())) if many.tally.again else "", {"usage": many.tally.usage()}


def _rows(data: Dataset, reads: Sequence[str]) -> Iterator[dict[str, Any]]:
    for table in as_arrow(data).iter(256):
        columns = {name: read_values(table, name) for name in reads}
        yield from ({name: columns[name][i] for name in reads} for i in range(table.num_rows))


def _searched(row: Row, settings: Generating) -> dict[str, Any]:
    """Second pass: one search from the store, as an answer file."""
    one, store = One(row, settings), open_store(Path(settings.store))
    try:
        need = next(one.search)
        while True:
            if isinstance(need, Call):
                seen = one.stored(need, store) or one.execute(need, store)
                need = one.search.send(seen)
                continue
            key, _ = one.request(need)
            reply = store.get([key]).get(key) or store.failures([key])[key]
            if reply.error in RETRYABLE_ERRORS:
                return {"answer": None, "error": reply.error, "error_detail": reply.error_detail}
            need = one.search.send(reply)
    except StopIteration as end:
        file = answer_file(end.value, row["query"], one.schemas, settings.method)
        return {"answer": json.dumps(file), "error": None, "error_detail": None}
