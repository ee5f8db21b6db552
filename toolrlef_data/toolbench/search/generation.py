"""generate: trajectories made by searching, with a model's replies and what the functions really gave.

A search (`dfsdt`) is a generator that yields what it needs, a reply or a function's result. Two passes, as in every
model stage: first many searches at once stream their requests through the engine, and every reply and result is stored
as it arrives; then an ordinary cached map runs each search again from the store. So a killed run asks nothing twice and
calls nothing twice, and what comes out does not depend on the order in which things arrived.

What failed on the model's side for a passing reason ends its search, which is then left out with that reason and goes
on with the next run. What failed on the function's side is what the model saw, and a part of the trajectory.

Not covered: functions that remember earlier calls (the same call with the same arguments is executed once, and its
result used wherever it comes up); two processes at once, which may both execute a call (the first result counts); a
server that answers 5xx to what the model itself wrote, which is asked again by every run.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset, Value
from datasets.utils import tqdm

from toolrlef_data.columns import ANSWERS
from toolrlef_data.engines import ENGINES
from toolrlef_data.engines.model_stage import row_batches
from toolrlef_data.engines.reply_store import open_store, store_path
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import RETRYABLE_ERRORS, Drop, InputError, Reply, UnknownName
from toolrlef_data.tables.fingerprint import canonical, code_digest, digest
from toolrlef_data.tables.identity import text_id
from toolrlef_data.tables.stage_cache import table_from_rows
from toolrlef_data.tables.transform import apply, explode, require_columns
from toolrlef_data.toolbench.search.answer_writer import answer_file
from toolrlef_data.toolbench.search.dfsdt import Call, Method
from toolrlef_data.toolbench.search.pool import Generating, SearchPool, SearchRun
from toolrlef_data.toolbench.search.protocols import PROTOCOLS, STOP
from toolrlef_data.tools.functions.function import Function, Observation, functions_by_name

__all__ = ["generate_trajectories"]

Row = Mapping[str, Any]

STRING = Value("string")
SEARCHED = {"answer": STRING, "error": STRING, "error_detail": STRING}
FUNCTIONS_AT_ONCE = 32
LOST = "another run has changed what the store holds; the next run goes on from there"


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
            several threads. Their code and the plain values that they use are in the key of what they gave, so what is
            no plain value (an open file, a session) is made inside, and a key is read from the environment there.
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
    if functions_at_once < 1:
        raise InputError(f"functions_at_once is at least 1, found {functions_at_once}")
    settings = _settings(functions, engine, method or Method(), protocol)
    rows = _rows_of(queries)
    reads = ["id", "query", *(["functions"] if "functions" in rows.column_names else [])]
    _check_rows(rows, reads, settings.identities)
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
        settings.method.name,
        reads=list(searched.column_names),
        features=ANSWERS,
        stage="generate trajectories",
    )


def _settings(
    functions: Sequence[Function | Callable[..., Any]], engine: EngineSpec, method: Method, protocol: str
) -> Generating:
    """What the two passes share, checked."""
    if not isinstance(engine, EngineSpec):
        raise InputError(f"generate_trajectories asks a model: expected an EngineSpec, found {type(engine).__name__}")
    if protocol not in PROTOCOLS:
        raise UnknownName("protocol", protocol, PROTOCOLS)
    if method.chains > 1 and engine.temperature <= 0:
        raise InputError(f"{method.chains} chains of {engine.model!r} would all be the same: set a temperature above 0")
    if protocol == "text":
        engine = replace(engine, stop=tuple(dict.fromkeys([*engine.stop, *STOP])))
    kind = ENGINES[engine.kind]
    offered = tuple(functions_by_name(functions).values())
    identities = {each.name: digest(canonical(each), code_digest(each.function)) for each in offered}
    identity = kind(engine).identity()
    return Generating(offered, identities, method, protocol, engine, kind, identity, str(store_path()))


def _rows_of(queries: Dataset | Sequence[str]) -> Dataset:
    """Queries as a table with `id` and `query`."""
    if isinstance(queries, Dataset):
        if "query" not in queries.column_names and "question" in queries.column_names:
            queries = apply(queries, _as_query, reads=["question"], adds={"query": STRING}, name="queries")
        require_columns(queries, ["id", "query"], "generate_trajectories")
        return queries
    listed = queries if isinstance(queries, (list, tuple)) else [None]
    if not all(isinstance(query, str) and query.strip() for query in listed):
        found = f", found a {type(queries).__name__}" if listed == [None] else ""
        raise InputError(f"queries are one table (a split), or a list of texts of which none is empty{found}")
    rows = [{"id": text_id(query), "query": query} for query in dict.fromkeys(queries)]
    return table_from_rows(rows, {"id": STRING, "query": STRING}, "queries")


def _check_rows(rows: Dataset, reads: Sequence[str], known: Mapping[str, Any]) -> None:
    """Raise where a query is empty, or names a function that there is not."""
    for row in itertools.chain.from_iterable(row_batches(rows, reads)):
        if not isinstance(row["query"], str) or not row["query"].strip():
            raise InputError(f"the query {row['id']!r} is empty")
        if missing := [name for name in row.get("functions") or () if name not in known]:
            raise InputError(f"the query {row['id']!r} names {', '.join(missing)}; there are: {', '.join(known)}")


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
        "finish_type": made["finish_type"] if made["valid_data"] else None,
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
    shown = "{desc}: {n_fmt} requests [{elapsed}{postfix}]"
    label = f"Search {len(data)} queries with {Path(settings.spec.model).name}"
    rows = itertools.chain.from_iterable(row_batches(data, reads))
    with tqdm(desc=label, disable=not settings.spec.progress, bar_format=shown, total=0) as bar:
        return SearchPool(rows, settings, open_store(Path(settings.store)), bar, functions_at_once).run()


def _searched(row: Row, settings: Generating) -> dict[str, Any]:
    """Second pass: one search from the store, as an answer file."""
    run, store = SearchRun(row, settings), open_store(Path(settings.store))
    try:
        need = next(run.search)
        while True:
            known: Reply | Observation | None
            if isinstance(need, Call):
                known = run.result(need, store)
            else:
                key, _ = run.request(need)
                known = store.get([key]).get(key) or store.failures([key]).get(key)
            if known is None:
                return {"answer": None, "error": "unfinished", "error_detail": LOST}
            if isinstance(known, Reply) and known.error in RETRYABLE_ERRORS:
                return {"answer": None, "error": known.error, "error_detail": known.error_detail}
            need = run.search.send(known)
    except StopIteration as end:
        file = answer_file(end.value, row["query"], run.schemas, settings.method)
        return {"answer": json.dumps(file), "error": None, "error_detail": None}
