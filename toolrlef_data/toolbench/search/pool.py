"""pool: one search with what it may ask and call, and many of them at once through one engine and the reply store.

A search waits for a reply or for a function; meanwhile the others go on, so that the engine always has requests.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.pool import AsyncResult, ThreadPool
from typing import Any

from toolrlef_data.engines.exchange import Exchange
from toolrlef_data.engines.model_stage import keyed_request
from toolrlef_data.engines.reply_store import ReplyStore
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import RETRYABLE_ERRORS, Reply
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.toolbench.search.dfsdt import Ask, Call, Method, search
from toolrlef_data.toolbench.search.protocols import request_of
from toolrlef_data.tools.functions.function import FINISH, Function, Observation, call

__all__ = ["Generating", "SearchPool", "SearchRun"]

Row = Mapping[str, Any]
Running = Generator[Ask | Call, Reply | Observation, Any]

AT_ONCE = 4  # searches that are open for each request that may be in flight
FIRST = 200  # requests that are made before a run is stopped for the share of those that failed


@dataclass(frozen=True)
class Generating:
    """All settings of a run; what its two passes share.

    `identities` holds what determines each function's results beside the arguments, as it was when the run began.
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
    """One search, what it may call, and the keys under which the store has what it needs.

    Args:
        row: of the queries.
        settings: of the run.
    """

    def __init__(self, row: Row, settings: Generating) -> None:
        self.row = row
        self.settings = settings
        known = {function.name: function for function in settings.functions}
        names = row.get("functions")
        self.functions = known if names is None else {name: known[name] for name in names}
        self.schemas = [*(function.schema() for function in self.functions.values()), FINISH]
        greedy = settings.spec.temperature <= 0
        self.search: Running = search(row["id"], row["query"], self.schemas, settings.method, settings.protocol, greedy)

    def request(self, need: Ask) -> tuple[str, Request]:
        """What the search asks the model, with its key."""
        settings = self.settings
        schemas = [] if need.ranking else self.schemas
        request = request_of(need.messages, schemas, settings.protocol)
        return keyed_request(request, str(self.row["id"]), need.sample, settings.spec, settings.identity)

    def keys(self, need: Call) -> tuple[str, str]:
        """Keys of a result: in this search alone, where the function failed by its own fault, and for all."""
        shared = digest("function", self.settings.identities[need.name], need.arguments)
        return digest(shared, self.row["id"]), shared

    def result(self, need: Call, store: ReplyStore) -> Observation | None:
        """What a call gave before, or gives at once because there is no such function; None where it is to be made."""
        if need.name not in self.functions:
            return call(self.functions, need.name, need.arguments)
        keys = self.keys(need)
        found = store.get(keys)
        reply = found.get(keys[0]) or found.get(keys[1])
        return None if reply is None else Observation(*json.loads(reply.text or ""))

    def execute(self, need: Call, store: ReplyStore) -> Observation:
        """Call a function, and store what it gave, unless another process has stored what the same call gave there."""
        self.keep(need, call(self.functions, need.name, need.arguments), store)
        seen = self.result(need, store)
        assert seen is not None
        return seen

    def keep(self, need: Call, seen: Observation, store: ReplyStore) -> None:
        own, shared = self.keys(need)
        store.put(
            [(own if seen.tool_failure else shared, Reply(json.dumps([seen.text, seen.code, seen.tool_failure])))]
        )


class SearchPool:
    """The open searches: those that wait for a reply, by its key, and those that wait for a function.

    Args:
        rows: of the queries; a search begins when there is room for it.
        settings: of the run.
        store: of replies and results.
        bar: a tqdm bar; its total is the number of requests.
        functions_at_once: calls that are executed at once at most.
    """

    def __init__(
        self, rows: Iterator[Row], settings: Generating, store: ReplyStore, bar: Any, functions_at_once: int
    ) -> None:
        self.rows = rows
        self.settings = settings
        self.store = store
        engine, stats = settings.engine(settings.spec), lambda: {"searched": self.done}
        self.exchange = Exchange(engine, settings.spec, store, bar, expected=FIRST, stats=stats, on_reply=self.arrived)
        self.begun = False  # whether a request was made
        self.most = AT_ONCE * settings.spec.concurrency
        self.open = 0
        self.done: int = 0
        self.waiting: dict[str, list[SearchRun]] = {}
        # Its threads do not keep the program from ending where a function hangs.
        self.threads = ThreadPool(functions_at_once)
        self.calling: dict[str, tuple[AsyncResult[Observation | KeyboardInterrupt], list[tuple[Call, SearchRun]]]] = {}

    def run(self) -> tuple[str, dict[str, Any]]:
        """Run all searches to their ends; see `Exchange.run`."""
        try:
            return self.exchange.run(self.advance())
        finally:
            self.threads.close()

    def advance(self) -> Iterator[None]:
        """Let the searches go on whose functions have returned, and begin others, as long as some are open."""
        while True:
            self.take_results()
            while not self.exchange.unsent and self.open < self.most and (row := next(self.rows, None)) is not None:
                self.open += 1
                self.go_on(SearchRun(row, self.settings), None)
            if not self.open:
                return
            yield

    def check_functions(self) -> None:
        """Raise, before the first request is paid for, where a function's server could not be asked."""
        if not self.begun:
            self.begun = True
            for function in self.settings.functions:
                function.server()

    def go_on(self, run: SearchRun, value: Reply | Observation | None) -> None:
        """Send a search what it waited for (None: let it begin), as long as what it needs next is there."""
        try:
            need = next(run.search) if value is None else run.search.send(value)
            while (known := self.known(run, need)) is not None:
                if isinstance(known, Reply) and known.error in RETRYABLE_ERRORS:
                    self.open -= 1  # the next run goes on with it
                    return
                need = run.search.send(known)
        except StopIteration:
            self.open -= 1
            self.done += 1

    def known(self, run: SearchRun, need: Ask | Call) -> Reply | Observation | None:
        """What is known already; None where it is asked for, or called, and the search waits."""
        return self.known_result(run, need) if isinstance(need, Call) else self.known_reply(run, need)

    def known_result(self, run: SearchRun, need: Call) -> Observation | None:
        seen = run.result(need, self.store)
        if seen is None:
            key = run.keys(need)[1]
            if key not in self.calling:
                self.calling[key] = self.threads.apply_async(_executed, (run, need, self.store)), []
            self.calling[key][1].append((need, run))
        return seen

    def known_reply(self, run: SearchRun, need: Ask) -> Reply | None:
        key, request = run.request(need)
        known = self.exchange.lookup([(key, request)])
        if key not in known:
            self.check_functions()
            self.waiting.setdefault(key, []).append(run)
        return known.get(key)

    def arrived(self, key: str, reply: Reply) -> None:
        """Go on with the searches that waited for a reply."""
        for run in self.waiting.pop(key):
            if reply.error in RETRYABLE_ERRORS:
                self.open -= 1
            else:
                self.go_on(run, reply)

    def take_results(self) -> None:
        """Go on with the searches whose functions have returned."""
        for key in [key for key, (result, _) in self.calling.items() if result.ready()]:
            result, callers = self.calling.pop(key)
            seen = result.get()
            if isinstance(seen, KeyboardInterrupt):
                raise seen
            for need, run in callers:
                if seen.tool_failure:
                    run.keep(need, seen, self.store)  # each search keeps the fault that it saw
                self.go_on(run, seen)


def _executed(run: SearchRun, need: Call, store: ReplyStore) -> Observation | KeyboardInterrupt:
    """What a call gave; an interrupt, which would only end the thread, is handed on to whoever waits."""
    try:
        return run.execute(need, store)
    except KeyboardInterrupt as interrupt:
        return interrupt
