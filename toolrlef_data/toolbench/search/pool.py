"""pool: many concurrent searches over one engine and the reply store.

While one search waits for a reply or a function, the others proceed, so that the engine always has requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.pool import AsyncResult, ThreadPool
from typing import Any

from toolrlef_data.engines.database.rows import decode_reply
from toolrlef_data.engines.exchange import Exchange
from toolrlef_data.engines.model_stage import keyed_request
from toolrlef_data.engines.reply_store import ReplyStore
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import RETRYABLE_ERRORS, Reply
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.toolbench.search.dfsdt import search
from toolrlef_data.toolbench.search.method import (
    FunctionCall,
    Method,
    ModelRequest,
    SearchAction,
    SearchGenerator,
    SearchInput,
)
from toolrlef_data.toolbench.search.protocols import build_request
from toolrlef_data.tools.functions.execution import Observation, call
from toolrlef_data.tools.functions.function import FINISH, Function

__all__ = ["SearchPool", "SearchRun", "SearchSettings"]

Row = Mapping[str, Any]

SEARCHES_PER_REQUEST = 4  # open searches per request that may be in flight
MIN_REQUESTS = 200  # the share of failures is taken of at least this many requests


@dataclass(frozen=True)
class SearchSettings:
    """All settings of a run, shared by its two passes.

    Args:
        functions: all functions of the run.
        identities: function name -> digest, at the start of the run, of all that determines its results except the
            arguments.
        method: algorithm and limits of the searches.
        protocol: one of `protocols.PROTOCOLS`.
        spec: spec of the engine.
        engine: class of the engine.
        identity: the engine's part of the reply keys.
        store: path of the reply store.
    """

    functions: tuple[Function, ...]
    identities: Mapping[str, str]
    method: Method
    protocol: str
    spec: EngineSpec
    engine: Any
    identity: Mapping[str, Any]
    store: str


class SearchRun:
    """One search, its functions, and the reply keys of its requests and observations.

    Args:
        row: a row of the queries table.
        settings: settings of the run.
    """

    def __init__(self, row: Row, settings: SearchSettings) -> None:
        self.row = row
        self.settings = settings
        functions = {function.name: function for function in settings.functions}
        names = row.get("functions")
        self.functions = functions if names is None else {name: functions[name] for name in names}
        self.schemas = [*(function.schema() for function in self.functions.values()), FINISH]
        greedy = settings.spec.temperature <= 0
        self.search: SearchGenerator[Any] = search(
            row["id"], row["query"], self.schemas, settings.method, settings.protocol, greedy
        )

    def keyed_request(self, action: ModelRequest) -> tuple[str, Request]:
        """Return the request to the engine and its reply key."""
        settings = self.settings
        schemas = [] if action.ranking else self.schemas
        request = build_request(action.messages, schemas, settings.protocol)
        return keyed_request(request, str(self.row["id"]), action.sample, settings.spec, settings.identity)

    def observation_keys(self, action: FunctionCall) -> tuple[str, str]:
        """Return two reply keys of an observation: for a tool failure, seen by this search only, and for any other."""
        shared = digest("function", self.settings.identities[action.name], action.arguments)
        return digest(shared, self.row["id"]), shared

    def stored_observation(self, action: FunctionCall, store: ReplyStore) -> Observation | None:
        """Return the stored observation of a call, or the error for an unknown function; None if not yet executed."""
        if action.name not in self.functions:
            return call(self.functions, action.name, action.arguments)
        keys = self.observation_keys(action)
        observations = store.get_as(keys, _read_observation)
        return observations.get(keys[0]) or observations.get(keys[1])

    def execute(self, action: FunctionCall, store: ReplyStore) -> Observation:
        """Execute a call, store its observation, and return the stored one, which may be another process's."""
        self.store_observation(action, call(self.functions, action.name, action.arguments), store)
        observation = self.stored_observation(action, store)
        assert observation is not None
        return observation

    def store_observation(self, action: FunctionCall, observation: Observation, store: ReplyStore) -> None:
        failure_key, shared_key = self.observation_keys(action)
        key = failure_key if observation.tool_failure else shared_key
        text = json.dumps([observation.text, observation.code, observation.tool_failure])
        store.put([(key, Reply(text))])


def _read_observation(key: str, text: object) -> Observation | None:
    """Return the observation of a stored text, or None if the text is damaged."""
    reply = decode_reply(key, text)
    try:
        return None if reply is None else Observation(*json.loads(reply.text or ""))
    except (ValueError, TypeError):
        return None


class SearchPool:
    """The open searches, waiting for replies or for functions.

    Args:
        rows: rows of the queries table; a search starts as soon as the pool has capacity.
        settings: settings of the run.
        store: the reply store, which also contains the observations.
        bar: a tqdm progress bar of the requests.
        functions_at_once: maximum number of concurrent function calls.
    """

    def __init__(
        self, rows: Iterator[Row], settings: SearchSettings, store: ReplyStore, bar: Any, functions_at_once: int
    ) -> None:
        self.rows = rows
        self.settings = settings
        self.store = store
        self.exchange = Exchange(
            settings.engine(settings.spec),
            settings.spec,
            store,
            bar,
            expected=MIN_REQUESTS,
            stats=lambda: {"searched": self.n_finished},
            on_reply=self.deliver_reply,
        )
        self.has_requested = False
        self.max_open = SEARCHES_PER_REQUEST * settings.spec.concurrency
        self.n_open = 0
        self.n_finished: int = 0
        self.waiting: dict[str, list[SearchRun]] = {}  # for replies, by reply key
        # ThreadPool's threads are daemons: a function that hangs does not keep the process alive.
        self.threads = ThreadPool(functions_at_once)
        self.running: dict[
            str, tuple[AsyncResult[Observation | KeyboardInterrupt], list[tuple[FunctionCall, SearchRun]]]
        ] = {}  # function calls, by key

    def run(self) -> tuple[str, dict[str, Any]]:
        """Run all searches to their end, and return the result of `Exchange.run`."""
        try:
            return self.exchange.run(self.advance())
        finally:
            self.threads.close()

    def advance(self) -> Iterator[None]:
        """Deliver observations and start searches until none is open; yield to `Exchange.run` in between."""
        while True:
            self.deliver_observations()
            while (
                not self.exchange.unsent and self.n_open < self.max_open and (row := next(self.rows, None)) is not None
            ):
                self.n_open += 1
                self.resume(SearchRun(row, self.settings), None)
            if not self.n_open:
                return
            yield

    def check_servers(self) -> None:
        """Raise before the first paid request if a function's server is not usable."""
        if not self.has_requested:
            self.has_requested = True
            for function in self.settings.functions:
                function.server()

    def resume(self, run: SearchRun, value: SearchInput | None) -> None:
        """Send a value to a search (None starts it), then all stored values that it asks for."""
        try:
            action = next(run.search) if value is None else run.search.send(value)
            while (stored := self.lookup(run, action)) is not None:
                if isinstance(stored, Reply) and stored.error in RETRYABLE_ERRORS:
                    self.n_open -= 1  # the next run retries it
                    return
                action = run.search.send(stored)
        except StopIteration:
            self.n_open -= 1
            self.n_finished += 1

    def lookup(self, run: SearchRun, action: SearchAction) -> SearchInput | None:
        """Return a stored reply or observation; if there is none, request it and return None."""
        if isinstance(action, FunctionCall):
            return self.lookup_observation(run, action)
        return self.lookup_reply(run, action)

    def lookup_observation(self, run: SearchRun, action: FunctionCall) -> Observation | None:
        observation = run.stored_observation(action, self.store)
        if observation is None:
            key = run.observation_keys(action)[1]
            if key not in self.running:
                self.running[key] = self.threads.apply_async(_execute, (run, action, self.store)), []
            self.running[key][1].append((action, run))
        return observation

    def lookup_reply(self, run: SearchRun, action: ModelRequest) -> Reply | None:
        key, request = run.keyed_request(action)
        replies = self.exchange.lookup([(key, request)])
        if key not in replies:
            self.check_servers()
            self.waiting.setdefault(key, []).append(run)
        return replies.get(key)

    def deliver_reply(self, key: str, reply: Reply) -> None:
        """Resume the searches that wait for a reply."""
        for run in self.waiting.pop(key):
            if reply.error in RETRYABLE_ERRORS:
                self.n_open -= 1
            else:
                self.resume(run, reply)

    def deliver_observations(self) -> None:
        """Resume the searches whose functions have returned."""
        for key in [key for key, (result, _) in self.running.items() if result.ready()]:
            result, callers = self.running.pop(key)
            observation = result.get()
            if isinstance(observation, KeyboardInterrupt):
                raise observation
            for action, run in callers:
                if observation.tool_failure:
                    run.store_observation(action, observation, self.store)  # a failure is stored for each search
                self.resume(run, observation)


def _execute(run: SearchRun, action: FunctionCall, store: ReplyStore) -> Observation | KeyboardInterrupt:
    """Return the observation of a call, or an interrupt, which the main thread must raise."""
    try:
        return run.execute(action, store)
    except KeyboardInterrupt as interrupt:
        return interrupt
