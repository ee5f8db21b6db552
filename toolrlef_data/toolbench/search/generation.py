"""generation: new trajectories from searches with a model and real function results.

A search (`dfsdt`) is a generator that yields model requests and function calls. Like every model stage, a run has two
passes:

1. Many concurrent searches stream their requests through the engine. All replies and observations are stored on
   arrival.
2. A cached map runs each search again from the store.

An interrupted run therefore repeats no request and no function call, and the result does not depend on the order of
arrival.

A retryable model failure ends its search. The search is dropped with that reason, and the next run resumes it. A
function failure is an observation for the model, and part of the trajectory.

Not covered:

- functions with state: equal calls are executed once and share their observation;
- function calls of two concurrent processes, which may both execute one; the first observation counts;
- a model server that answers a certain request with 5xx each time: every run retries the request.
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

from toolrlef_data.checks import require_columns
from toolrlef_data.choices import check_choice
from toolrlef_data.columns import ANSWERS
from toolrlef_data.engines import ENGINES
from toolrlef_data.engines.model_stage import row_batches
from toolrlef_data.engines.reply_store import open_store, store_path
from toolrlef_data.engines.rules import integer_from
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import RETRYABLE_ERRORS, Drop, InputError, Reply
from toolrlef_data.tables.fingerprint import canonical, code_digest, digest
from toolrlef_data.tables.identity import text_id
from toolrlef_data.tables.reshape import explode
from toolrlef_data.tables.row_files import table_from_rows
from toolrlef_data.tables.transform import Prepared, apply
from toolrlef_data.toolbench.search.answer_writer import answer_file
from toolrlef_data.toolbench.search.method import FunctionCall, Method, SearchInput
from toolrlef_data.toolbench.search.pool import SearchPool, SearchRun, SearchSettings
from toolrlef_data.toolbench.search.protocols import PROTOCOLS, STOP
from toolrlef_data.tools.functions.function import Function, functions_by_name

__all__ = ["generate_trajectories"]

Row = Mapping[str, Any]

STRING = Value("string")
SEARCH_COLUMNS = {"task": STRING, "dataset": STRING, "answer": STRING, "error": STRING, "error_detail": STRING}
NAMES = {"task": "toolbench", "dataset": "generated"}
FUNCTIONS_AT_ONCE = 32
STORE_CHANGED = "a concurrent run has changed the reply store; run again to resume"


def generate_trajectories(
    queries: Dataset | Sequence[str],
    functions: Sequence[Function | Callable[..., Any]],
    engine: EngineSpec,
    *,
    method: Method | None = None,
    protocol: str = "tools",
    functions_at_once: int = FUNCTIONS_AT_ONCE,
) -> Dataset:
    """Generate trajectories by searching for answers to queries with functions, and return them as answer files.

    Args:
        queries: texts; or a table with the columns `id` and `query` (or `question`), and optionally `functions`, the
            names of the functions for each query (default: all).
        functions: `Function` objects, or callables with type hints and a Google-style docstring. They are called from
            several threads. Their code and the plain values they use are part of the reply keys of their results. They
            must create other objects (open files, sessions) in their body, and read API keys from the environment.
        engine: spec of the model.
        method: algorithm and limits of the search; default: `Method()`, upstream's DFSDT with two attempts per state.
        protocol: "tools" (default): OpenAI's tool calling. "text": calls written as text, for models without it.
        functions_at_once: maximum number of concurrent function calls; default: 32.

    Returns:
        A table with the columns `columns.ANSWERS`, for `trajectories` or `write_answers`. The ledger records queries
        of unfinished searches with the model's error; the next run resumes them.

    Raises:
        InputError: an empty query, an unknown function, several chains of a greedy model, or an invalid argument.
        UnknownName: an unknown protocol.
        TooManyFailures: more than `engine.max_failed` of the requests failed; all received replies are saved.
        CapReached: a cap of `EngineSpec.limits` is reached; all received replies are saved.

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
    integer_from(1).check("functions_at_once", functions_at_once)
    settings = _settings(functions, engine, Method() if method is None else method, protocol)
    rows = _query_table(queries)
    reads = ["id", "query", *(["functions"] if "functions" in rows.column_names else [])]
    _check_rows(rows, reads, settings.identities)
    searched = apply(
        rows,
        _search_row,
        settings,
        reads=reads,
        adds=SEARCH_COLUMNS,
        removes=[name for name in rows.column_names if name not in reads],
        name="search",
        prepare=lambda data: _run_searches(data, settings, reads, functions_at_once),
        unfinished=lambda data: any(error is not None for error in data["error"]),
    )
    return explode(
        searched,
        _answer_row,
        settings.method.name,
        reads=list(searched.column_names),
        features=ANSWERS,
        stage="generate trajectories",
    )


def _settings(
    functions: Sequence[Function | Callable[..., Any]], engine: EngineSpec, method: Method, protocol: str
) -> SearchSettings:
    """Return the checked settings of both passes."""
    if not isinstance(engine, EngineSpec):
        raise InputError(f"generate_trajectories: expected an EngineSpec as engine, found {type(engine).__name__}")
    if not isinstance(method, Method):
        raise InputError(f"method: expected a Method such as Method('dfsdt'), found {method!r:.80}")
    check_choice("protocol", protocol, PROTOCOLS)
    if method.chains > 1 and engine.temperature <= 0:
        raise InputError(
            f"{method.chains} chains of {engine.model!r} would be equal: expected a temperature above 0, "
            f"found {engine.temperature}"
        )
    if protocol == "text":
        engine = replace(engine, stop=tuple(dict.fromkeys([*engine.stop, *STOP])))
    engine_class = ENGINES[engine.kind]
    all_functions = tuple(functions_by_name(functions).values())
    identities = {
        function.name: digest(canonical(function), code_digest(function.function)) for function in all_functions
    }
    identity = engine_class(engine).identity()
    return SearchSettings(
        all_functions, identities, method, protocol, engine, engine_class, identity, str(store_path())
    )


def _query_table(queries: Dataset | Sequence[str]) -> Dataset:
    """Return queries as a table with `id` and `query`."""
    if isinstance(queries, Dataset):
        if "query" not in queries.column_names and "question" in queries.column_names:
            queries = apply(queries, _query_column, reads=["question"], adds={"query": STRING}, name="queries")
        require_columns(queries, ["id", "query"], "generate_trajectories")
        return queries
    texts = queries if isinstance(queries, (list, tuple)) else [None]
    if not all(isinstance(query, str) and query.strip() for query in texts):
        found = f"a {type(queries).__name__}" if texts == [None] else "an empty query or one that is not a text"
        raise InputError(f"queries: expected one table (a split) or a list of texts, found {found}")
    rows = [{"id": text_id(query), "query": query} for query in dict.fromkeys(queries)]
    return table_from_rows(rows, {"id": STRING, "query": STRING}, "queries")


def _check_rows(rows: Dataset, reads: Sequence[str], functions: Mapping[str, Any]) -> None:
    """Raise InputError for an empty query or an unknown function."""
    for row in itertools.chain.from_iterable(row_batches(rows, reads)):
        if not isinstance(row["query"], str) or not row["query"].strip():
            raise InputError(f"the query {row['id']!r} is empty")
        if unknown := [name for name in row.get("functions") or () if name not in functions]:
            raise InputError(
                f"the query {row['id']!r} names unknown functions: {', '.join(unknown)}; "
                f"choose from: {', '.join(functions)}"
            )


def _query_column(row: Row, settings: None) -> dict[str, Any]:
    return {"query": row["question"]}


def _answer_row(row: Row, method: str) -> Iterator[dict[str, Any] | tuple[str, Drop]]:
    if row["answer"] is None:
        yield row["id"], Drop(row["error"], row["error_detail"])
        return
    file = json.loads(row["answer"])
    generation = file["answer_generation"]
    name = f"{row['id']}_{method}"
    yield {
        "id": name,
        "task": row["task"],
        "dataset": row["dataset"],
        "query": row["query"],
        "finish_type": generation["finish_type"] if generation["valid_data"] else None,
        "valid": generation["valid_data"],
        "win": file["win"],
        "n_calls": generation["query_count"],
        "total_tokens": generation["total_tokens"],
        "source_file": f"{name}.json",
        "answer": row["answer"],
    }


# The two passes -------------------------------------------------------------------------------------------------------


def _run_searches(data: Dataset, settings: SearchSettings, reads: Sequence[str], functions_at_once: int) -> Prepared:
    """First pass: run all searches; request replies and execute calls that are not stored."""
    bar_format = "{desc}: {n_fmt} requests [{elapsed}{postfix}]"
    label = f"Search {len(data)} queries with {Path(settings.spec.model).name}"
    rows = itertools.chain.from_iterable(row_batches(data, reads))
    with tqdm(desc=label, disable=not settings.spec.progress, bar_format=bar_format, total=0) as bar:
        return Prepared(*SearchPool(rows, settings, open_store(Path(settings.store)), bar, functions_at_once).run())


def _search_row(row: Row, settings: SearchSettings) -> dict[str, Any]:
    return NAMES | _replay_search(row, settings)


def _replay_search(row: Row, settings: SearchSettings) -> dict[str, Any]:
    """Second pass: return the answer file of one search, run from the store."""
    run, store = SearchRun(row, settings), open_store(Path(settings.store))
    try:
        action = next(run.search)
        while True:
            stored: SearchInput | None
            if isinstance(action, FunctionCall):
                stored = run.stored_observation(action, store)
            else:
                key, _ = run.keyed_request(action)
                stored = store.get([key]).get(key) or store.failures([key]).get(key)
            if stored is None:
                return {"answer": None, "error": "unfinished", "error_detail": STORE_CHANGED}
            if isinstance(stored, Reply) and stored.error in RETRYABLE_ERRORS:
                return {"answer": None, "error": stored.error, "error_detail": stored.error_detail}
            action = run.search.send(stored)
    except StopIteration as end:
        file = answer_file(end.value, row["query"], run.schemas, settings.method)
        return {"answer": json.dumps(file), "error": None, "error_detail": None}
