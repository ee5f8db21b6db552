"""searching: one search with what it may ask and call, and many of them at once through one engine and the reply store.

A search waits for a reply or for a function; meanwhile the others go on, so that the engine always has requests.
"""

from __future__ import annotations

import contextlib
import functools
import json
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from toolrlef_data.asking import WAIT, key_of
from toolrlef_data.dfsdt import Ask, Call, Method, search
from toolrlef_data.engines import Engine, EngineSpec, Request
from toolrlef_data.fingerprints import canonical, code_digest, digest
from toolrlef_data.prompts import row_seed
from toolrlef_data.protocols import request_of
from toolrlef_data.records import RETRYABLE_ERRORS, InputError, Reply
from toolrlef_data.replies import ReplyStore
from toolrlef_data.tally import Tally
from toolrlef_data.tools.functions import FINISH, Function, Observation, call
from toolrlef_data.under_way import Claims

__all__ = ["Generating", "Many", "One"]

Row = Mapping[str, Any]
Running = Generator[Ask | Call, Reply | Observation, Any]

AT_ONCE = 4  # searches under way for each request that the engine has under way
FIRST = 200  # requests that are made before a run is stopped for the share of those that failed


@dataclass(frozen=True)
class Generating:
    """All settings of a run; what its two passes share."""

    functions: tuple[Function, ...]
    method: Method
    protocol: str
    spec: EngineSpec
    engine: Any
    identity: Mapping[str, Any]
    store: str


class One:
    """One search, and what it may call.

    Args:
        row: of the queries.
        settings: of the run.
    """

    def __init__(self, row: Row, settings: Generating) -> None:
        self.row = row
        self.settings = settings
        known = {function.name: function for function in settings.functions}
        names = row.get("functions")
        if names is not None and (missing := [name for name in names if name not in known]):
            raise InputError(f"the query {row['id']!r} names {', '.join(missing)}; there are: {', '.join(known)}")
        self.functions = known if names is None else {name: known[name] for name in names}
        self.schemas = [*(function.schema() for function in self.functions.values()), FINISH]
        greedy = settings.spec.temperature <= 0
        self.search: Running = search(row["id"], row["query"], self.schemas, settings.method, settings.protocol, greedy)

    def request(self, need: Ask) -> tuple[str, Request]:
        """What a search asks the model, with its key."""
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
        shared = digest("function", _identity(self.functions[need.name]), need.arguments)
        return digest(shared, self.row["id"]), shared

    def stored(self, need: Call, store: ReplyStore) -> Observation | None:
        """What a call gave before, or gives at once."""
        if need.name not in self.functions:
            return call(self.functions, need.name, need.arguments)
        keys = self.keys(need)
        found = store.get(keys)
        reply = found.get(keys[0]) or found.get(keys[1])
        return None if reply is None else Observation(*json.loads(reply.text or ""))

    def execute(self, need: Call, store: ReplyStore) -> Observation:
        """Call a function, and store what it gave."""
        seen = call(self.functions, need.name, need.arguments)
        self.keep(need, seen, store)
        return seen

    def keep(self, need: Call, seen: Observation, store: ReplyStore) -> None:
        own, shared = self.keys(need)
        store.put([(own if seen.fault else shared, Reply(json.dumps([seen.text, seen.code, seen.fault])))])


@functools.lru_cache
def _identity(function: Function) -> str:
    """What determines a function's results, beside the arguments."""
    return digest(canonical(function), code_digest(function.function))


class Many:
    """The searches under way: those that wait for a reply, by its key, and those that wait for a function."""

    tally: Tally

    def __init__(
        self,
        rows: Iterator[Row],
        settings: Generating,
        store: ReplyStore,
        pool: ThreadPoolExecutor,
        ended: threading.Event,
    ) -> None:
        self.rows = rows
        self.settings = settings
        self.store = store
        self.pool = pool
        self.ended = ended
        self.most = AT_ONCE * settings.spec.concurrency
        self.under_way = self.done = 0
        self.ready: deque[tuple[str, Request]] = deque()
        self.waiting: dict[str, list[One]] = {}
        self.held: dict[str, Request] = {}  # what another process is asking
        self.looked = 0.0
        self.calling: dict[str, tuple[Call, Future[Observation], list[One]]] = {}

    def run(self, engine: Engine) -> None:
        """Run all searches to their ends."""
        with (
            Claims(self.store) as self.claims,
            engine,
            contextlib.closing(engine.generate(self.requests())) as arriving,
        ):
            for replies in arriving:
                self.store.put(replies)
                self.arrived(replies)
                if (error := self.tally.too_many(max(FIRST, self.tally.requests))) is not None:
                    if engine.stop is None:
                        raise error
                    engine.stop(error)  # which raises it when what is under way has arrived

    def requests(self) -> Iterator[tuple[str, Request] | None]:
        """Requests as the searches come to need them; None while they all wait for something."""
        while not self.ended.is_set():
            self.called()
            while not self.ready and self.under_way < self.most and (row := next(self.rows, None)) is not None:
                one = One(row, self.settings)
                self.under_way += 1
                self.go_on(one, None)
            if not self.ready:
                self.look_at_held()
            if self.ready:
                yield self.ready.popleft()
            elif self.under_way:
                yield None
            else:
                return

    def go_on(self, one: One, value: Reply | Observation | None) -> None:
        """Send a search what it waited for, as long as what it needs next is there."""
        try:
            need = next(one.search) if value is None else one.search.send(value)
            while True:
                found = self.found(one, need)
                if found is None:
                    return
                if isinstance(found, Reply) and found.error in RETRYABLE_ERRORS:
                    self.under_way -= 1
                    return
                need = one.search.send(found)
        except StopIteration:
            self.under_way -= 1
            self.done += 1

    def found(self, one: One, need: Ask | Call) -> Reply | Observation | None:
        """What is known already; else it is asked for, or called, and the search waits."""
        if isinstance(need, Call):
            seen = one.stored(need, self.store)
            if seen is None:
                key = one.keys(need)[1]
                if key not in self.calling:
                    self.calling[key] = need, self.pool.submit(one.execute, need, self.store), []
                self.calling[key][2].append(one)
            return seen
        key, request = one.request(need)
        self.tally.requests += 1
        if key in self.waiting:
            self.waiting[key].append(one)
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
        self.waiting[key] = [one]
        self.tally.under_way[key] = 1
        if held:
            self.held[key] = request
        else:
            self.ready.append((key, request))
        return None

    def arrived(self, replies: Iterable[tuple[str, Reply]]) -> None:
        """Go on with the searches that waited for these replies."""
        for key, reply in replies:
            self.tally.arrived(key, reply)
            if reply.error in RETRYABLE_ERRORS:
                self.claims.give_up([key])
            for one in self.waiting.pop(key, ()):
                self.receive(one, reply)

    def receive(self, one: One, reply: Reply) -> None:
        if reply.error in RETRYABLE_ERRORS:
            self.under_way -= 1  # the next run goes on with it
        else:
            self.go_on(one, reply)

    def called(self) -> None:
        """Go on with the searches whose functions have returned."""
        for key in [key for key, (_, future, _) in self.calling.items() if future.done()]:
            need, future, ones = self.calling.pop(key)
            for n, one in enumerate(ones):
                seen = future.result()
                if n and seen.fault:
                    one.keep(need, seen, self.store)
                self.go_on(one, seen)

    def look_at_held(self) -> None:
        """Take over what another process has answered since, or has left."""
        if self.held and time.monotonic() - self.looked > WAIT:
            self.looked = time.monotonic()
            found = self.store.get(list(self.held))
            for key in list(self.held):
                if key in found:
                    del self.held[key]
                    self.arrived([(key, found[key])])
                elif not self.claims.take([key]):
                    self.ready.append((key, self.held.pop(key)))
