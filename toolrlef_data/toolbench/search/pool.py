"""pool: one search with what it may ask and call, and many of them at once through one engine and the reply store.

A search waits for a reply or for a function; meanwhile the others go on, so that the engine always has requests.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from multiprocessing.pool import AsyncResult, ThreadPool
from typing import Any

from toolrlef_data.engines.ask import WAIT, key_of
from toolrlef_data.engines.claims import Claims
from toolrlef_data.engines.progress import Tally
from toolrlef_data.engines.prompts import row_seed
from toolrlef_data.engines.reply_store import ReplyStore
from toolrlef_data.engines.spec import Engine, EngineSpec, Request
from toolrlef_data.records import RETRYABLE_ERRORS, Reply
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.toolbench.search.dfsdt import Ask, Call, Method, search
from toolrlef_data.toolbench.search.protocols import request_of
from toolrlef_data.tools.functions.function import FINISH, Function, Observation, call

__all__ = ["Generating", "SearchPool", "SearchRun"]

Row = Mapping[str, Any]
Running = Generator[Ask | Call, Reply | Observation, Any]

AT_ONCE = 4  # searches under way for each request that the engine has under way
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
        request = request_of(need.messages, schemas, settings.protocol, need.sample)
        if settings.spec.temperature > 0:
            request = replace(request, seed=row_seed(str(self.row["id"]), settings.spec.seed))
        else:
            request = replace(request, sample=0)
        return key_of(request, settings.spec, settings.identity), request

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
        store.put([(own if seen.fault else shared, Reply(json.dumps([seen.text, seen.code, seen.fault])))])


class SearchPool:
    """The searches under way: those that wait for a reply, by its key, and those that wait for a function.

    A search goes on with what the store has, never with what has just come: the store keeps the first of two replies,
    and writes lone surrogates otherwise, and the second pass reads only the store.

    Args:
        rows: of the queries; a search begins when there is room for it.
        settings: of the run.
        store: of replies and results.
        engine: whose requests these are.
        bar: a tqdm bar; its total is the number of queries.
        functions_at_once: calls under way at most.
    """

    def __init__(
        self,
        rows: Iterator[Row],
        settings: Generating,
        store: ReplyStore,
        engine: Engine,
        bar: Any,
        functions_at_once: int,
    ) -> None:
        self.rows = rows
        self.settings = settings
        self.store = store
        self.engine = engine
        self.claims = Claims(store)
        self.tally = Tally(bar, settings.spec, lambda: {"searched": self.done, **engine.figures()})
        self.ended = threading.Event()
        self.begun = False  # whether a request was made
        self.most = AT_ONCE * settings.spec.concurrency
        self.under_way = self.done = 0
        self.ready: deque[tuple[str, Request]] = deque()
        self.waiting: dict[str, list[SearchRun]] = {}
        self.held: dict[str, Request] = {}  # what another process is asking
        self.looked = 0.0  # when that was last looked at
        # Its threads do not keep the program from ending where a function hangs.
        self.threads = ThreadPool(functions_at_once)
        self.calling: dict[str, tuple[AsyncResult[Observation | KeyboardInterrupt], list[tuple[Call, SearchRun]]]] = {}

    def run(self) -> None:
        """Run all searches to their ends."""
        try:
            with self.claims, self.engine, contextlib.closing(self.engine.generate(self.requests())) as arriving:
                for replies in arriving:
                    self.store.put(replies)
                    self.arrived(dict(replies))
                    if (error := self.tally.too_many(max(FIRST, self.tally.requests))) is not None:
                        if self.engine.stop is None:
                            raise error
                        self.engine.stop(error)  # which raises it when what is under way has arrived
        finally:
            self.ended.set()
            self.threads.close()

    def requests(self) -> Iterator[tuple[str, Request] | None]:
        """Requests as the searches come to need them; None while they all wait for something."""
        while not self.ended.is_set():
            self.take_results()
            while not self.ready and self.under_way < self.most and (row := next(self.rows, None)) is not None:
                self.under_way += 1
                self.go_on(SearchRun(row, self.settings), None)
            if not self.ready:
                self.take_over()
            if self.ready:
                self.check_functions()
                yield self.ready.popleft()
            elif self.under_way:
                yield None
            else:
                return

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
                    self.under_way -= 1  # the next run goes on with it
                    return
                need = run.search.send(known)
        except StopIteration:
            self.under_way -= 1
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
        self.tally.requests += 1
        if key in self.waiting:
            self.waiting[key].append(run)
            self.tally.under_way[key] += 1
            return None
        if key in self.tally.again:
            self.tally.failed_before(key)
            return Reply(None, error=self.tally.again[key])
        held = self.claims.take([key]) if key not in self.store.get([key]) else set()
        reply = self.store.get([key]).get(key)
        if reply is not None:
            self.tally.stored(reply)
            return reply
        self.waiting[key] = [run]
        self.tally.under_way[key] = 1
        if held:
            self.held[key] = request
        else:
            self.ready.append((key, request))
        return None

    def arrived(self, replies: Mapping[str, Reply]) -> None:
        """Go on with the searches that waited for these replies."""
        for key, reply in (dict(replies) | self.store.get(list(replies))).items():
            self.tally.arrived(key, reply)
            if reply.error in RETRYABLE_ERRORS:
                self.claims.give_up([key])
            for run in self.waiting.pop(key, ()):
                if reply.error in RETRYABLE_ERRORS:
                    self.under_way -= 1
                else:
                    self.go_on(run, reply)

    def take_over(self) -> None:
        """Go on with what another process has answered since, and ask for what it has left."""
        if not self.held or time.monotonic() - self.looked < WAIT:
            return
        self.looked = time.monotonic()
        still = self.claims.take(list(self.held))  # before the look-up: what is stored from here on is seen there
        found = self.store.get(list(self.held))
        left = [key for key in self.held if key not in found and key not in still]
        self.ready.extend((key, self.held[key]) for key in left)
        self.held = {key: request for key, request in self.held.items() if key not in found and key in still}
        self.arrived(found)

    def take_results(self) -> None:
        """Go on with the searches whose functions have returned."""
        for key in [key for key, (result, _) in self.calling.items() if result.ready()]:
            result, callers = self.calling.pop(key)
            seen = result.get()
            if isinstance(seen, KeyboardInterrupt):
                raise seen
            for need, run in callers:
                if seen.fault:
                    run.keep(need, seen, self.store)  # each search keeps the fault that it saw
                self.go_on(run, seen)


def _executed(run: SearchRun, need: Call, store: ReplyStore) -> Observation | KeyboardInterrupt:
    """What a call gave; an interrupt, which would only end the thread, is handed on to whoever waits."""
    try:
        return run.execute(need, store)
    except KeyboardInterrupt as interrupt:
        return interrupt
