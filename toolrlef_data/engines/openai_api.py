"""The engine `openai_api`: any server that speaks OpenAI's chat or text completions, through the `openai` package.

One row's life is `_row`: wait for a turn, send, and look at what came; a passing fault waits and goes again, a rate
limit pauses its key for all rows, a key that the server does not take drops out. What is retried stands in `faults`,
how fast it goes in `rates`, what it may cost in `spending`, how a request travels in `connection`, batch mode in
`batch_jobs`.

`generate` steps its own event loop between the replies that it hands out, so everything happens in one thread: a row's
place is free again only when its reply is stored, and a killed run loses at most the requests under way.

Not covered: streaming, servers with other protocols than OpenAI's, the Responses API.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from toolrlef_data.engines import EngineSpec, Request
from toolrlef_data.engines.batch_jobs import ask_in_batches
from toolrlef_data.engines.bodies import body_of, check_spec, path_of, quirks_of, replies_from
from toolrlef_data.engines.faults import Fault, fault_in, fault_of_status
from toolrlef_data.engines.headers import asked_pause
from toolrlef_data.engines.keys import Secrets, address_of, read_keys
from toolrlef_data.engines.rates import Gate, Turns
from toolrlef_data.engines.spending import Need, spending_of
from toolrlef_data.records import CapReached, NoKeyLeft, NoSuchModel, Reply, ToolrlefError

if TYPE_CHECKING:
    from toolrlef_data.engines.connection import Connection

__all__ = ["OpenAIEngine"]

log = logging.getLogger(__name__)
# Who would write a request's URL, whose query may hold a key, to a log.
LOGGERS = ("httpx2", "openai", "openai._base_client", "aiohttp.client")
STEP = 0.2  # seconds after which a stop is noticed at the latest
LOST_BEFORE_STOP = 8  # answers 404, and none of another kind, after which the run stops
LONGEST_WAIT = 60.0  # seconds between two attempts
COUNTS = ("prompt_tokens", "completion_tokens")
BYTES_A_TOKEN = 3.0  # until the server's own counts are known; few tokenizers need more tokens

Samples = list[tuple[str, Request]]  # of one request, tagged; they differ in nothing but their number


class OpenAIEngine:
    """Asks an OpenAI-compatible server; see the module, and `EngineSpec` for the settings.

    Raises:
        InputError: the spec asks for what no such server can do.
        NoKeyLeft: no key where one is needed, when it begins to ask; or the server takes none of them any more.
        CapReached: a cap of `Limits` forbids the next request.
        NoSuchModel: the server answers every request with 404.
    """

    def __init__(self, spec: EngineSpec) -> None:
        check_spec(spec)
        self.spec = spec
        self.address = address_of(spec)
        self.quirks = quirks_of(spec)
        self.secrets = Secrets(self.address.secrets)
        self.spending = spending_of(self.address.url, spec.model)
        self.turns = Turns([], self.spending, spec.limits, time.monotonic)
        self.running: set[asyncio.Task[list[Reply]]] = set()
        self.finished: list[tuple[str, Reply]] = []
        self.left: list[Samples] = []
        self.faults: Counter[str] = Counter()  # of this run, for the progress bar
        self.bytes_a_token = BYTES_A_TOKEN
        self.cancelled = False
        self.stop: ToolrlefError | None = None
        self.crash: BaseException | None = None

    def __repr__(self) -> str:
        return f"OpenAIEngine({self.spec.model!r} at {self.address.url})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an engine holds keys while it asks and is not pickled; its EngineSpec is")

    def identity(self) -> dict[str, Any]:
        return {"kind": "openai_api", "url": self.address.url, "model": self.spec.model, "quirks": self.quirks}

    def __enter__(self) -> OpenAIEngine:
        keys = read_keys(self.spec)
        # A gate without a key is for servers that want none.
        self.turns.gates = [self._gate(key, i + 1) for i, key in enumerate(keys)] or [self._gate("", 0)]
        for name in LOGGERS:
            logging.getLogger(name).addFilter(self._scrub_record)
        return self

    def __exit__(self, *details: object) -> None:
        for name in LOGGERS:
            logging.getLogger(name).removeFilter(self._scrub_record)

    def cancel(self) -> None:
        self.cancelled = True

    def figures(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"in flight": self.spending.under_way}
        shown |= {f"met {kind}": count for kind, count in self.faults.most_common()}
        if (cost := self.spending.cost(self.spec.limits)) is not None:
            shown["cost"] = f"{cost:.4f}"
        return shown

    def generate(self, requests: Iterable[tuple[str, Request]]) -> Iterator[list[tuple[str, Reply]]]:
        loop = asyncio.new_event_loop()
        ask = ask_in_batches if self.spec.limits.mode == "batch" else _ask_directly
        try:
            self.connection = loop.run_until_complete(self._connect())
            yield from ask(self, requests, loop)
        finally:
            loop.run_until_complete(self._leave())
            loop.close()
        # What arrived while everything was stopped is paid for as well.
        yield self.finished
        if error := self.crash or (None if self.cancelled else self.stop):
            raise error

    # Around the rows --------------------------------------------------------------------------------------------------

    async def _connect(self) -> Connection:
        from toolrlef_data.engines.connection import Connection  # and with it openai and aiohttp

        return Connection(self.spec, self.address)

    async def some(self) -> None:
        """Until at least one row is done, or it is time to see whether the run shall stop."""
        if not self.finished:
            self.wake = asyncio.get_running_loop().create_future()
            timer = self.wake.get_loop().call_later(STEP, self._wake)
            await self.wake
            timer.cancel()

    def _wake(self) -> None:
        if not self.wake.done():
            self.wake.set_result(None)

    def begin(self, samples: Samples, loop: asyncio.AbstractEventLoop) -> None:
        task = loop.create_task(self._row([request for _, request in samples]))
        self.running.add(task)
        task.add_done_callback(partial(self._done, samples))

    def _done(self, samples: Samples, task: asyncio.Task[list[Reply]]) -> None:
        self.running.discard(task)
        if not task.cancelled():
            if error := task.exception():
                self.crash = self.crash or error
            elif replies := task.result():
                self.finished += [(tag, reply) for (tag, _), reply in zip(samples, replies, strict=False)]
                self.left += [[sample] for sample in samples[len(replies) :]]  # the server knows no `n`
        self._wake()

    async def _leave(self) -> None:
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)
        await self.connection.close()

    def _gate(self, key: str, number: int) -> Gate:
        self.secrets.add([key])
        return Gate(key, f"API key {number}" if key else "no key", self.spec.limits, self.spec.concurrency)

    def _scrub_record(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self.secrets.scrub(record.getMessage()), ()
        return True

    def reached(self, cap: str) -> None:
        """A cap forbids the next request."""
        self._halt(CapReached(f"{self!r}: {cap}; what ran is stored, and a re-run goes on"))

    def _halt(self, error: ToolrlefError) -> None:
        """Send nothing any more; what is under way is waited for."""
        self.stop = self.stop or error
        self.turns.close(str(error))

    # One row ----------------------------------------------------------------------------------------------------------

    async def _row(self, samples: list[Request]) -> list[Reply]:
        """Replies to samples of one request, after as many attempts as it takes; none where the run stops first."""
        limits = self.spec.limits
        try:
            body = body_of(samples[0], self.spec, self.quirks, len(samples))
        except UnicodeEncodeError:
            why = "the text holds a lone surrogate and cannot be sent"
            return [Reply(None, error="bad_request", error_detail=why)] * len(samples)
        deadline = time.monotonic() + limits.deadline
        need = Need(len(body) / self.bytes_a_token, self.spec.max_tokens * len(samples))
        fault = Fault("rate_limit", "final", f"no turn within the deadline of {limits.deadline:g} s")
        attempts = 0
        while (gate := await self.turns.enter(need, deadline, again=attempts > 0)) is not None:
            limit = min(self.spec.timeout, deadline - time.monotonic())
            outcome = await self._attempt(gate, samples, body, need, limit)
            if isinstance(outcome, list):
                return outcome
            fault = outcome
            self.faults[fault.kind] += 1
            action = fault.action
            if action == "doubt" and not gate.answered:
                action, fault = "drop", fault._replace(kind="rate_limit")
            if action == "drop":
                self.drop(gate, fault)
            elif action == "again":
                attempts += 1
                wait = min(LONGEST_WAIT, limits.backoff * 2 ** (attempts - 1)) * random.uniform(0.5, 1.0)
                if attempts > self.spec.retries or time.monotonic() + wait > deadline:
                    break
                await asyncio.sleep(wait)
            elif action in ("final", "doubt"):
                break
        if gate is None and self.turns.closed:
            self.reached(self.turns.closed)
            return []
        return [self.failed(fault)] * len(samples)

    async def _attempt(
        self, gate: Gate, samples: list[Request], body: bytes, need: Need, limit: float
    ) -> list[Reply] | Fault:
        """Send once, and keep the books; replies, or what was wrong."""
        sent = time.monotonic()
        used = need  # where the answer is lost, the server may have worked for it all the same
        try:
            authorization = f"Bearer {gate.value}" if gate.value else self.address.basic
            answer = await self.connection.post(path_of(samples[0]), body, authorization, limit)
            if isinstance(answer, Fault):
                if answer.kind == "timeout":
                    gate.cut(sent, time.monotonic())
                return answer
            outcome = self.read(answer.status, answer.text, len(samples))
            if isinstance(outcome, list):
                gate.succeed(answer.headers, time.monotonic(), time.time())
                used = self.used(outcome, need)
                self._learn(outcome[0], len(body))
                return outcome
            if answer.status >= 300 or outcome.action in ("pause", "drop"):
                used = Need(0, 0)
            if outcome.action == "pause":
                gate.refuse(asked_pause(answer.headers, answer.text, time.time()), sent, time.monotonic())
            elif answer.status == 503 and (pause := asked_pause(answer.headers, "", time.time())):
                gate.paused_until = max(gate.paused_until, time.monotonic() + pause)
            return outcome
        finally:
            gate.finish(sum(need) - sum(used), time.monotonic(), sent)
            self.spending.finish(need, used)
            self.turns.move()

    def read(self, status: int, text: str, samples: int = 1) -> list[Reply] | Fault:
        """What an answer says, without regard to its headers."""
        if not 200 <= status < 300:
            return fault_of_status(status, text)
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            body = None
        return fault_in(body, text) or [self._clean(reply) for reply in replies_from(body, self.spec.stop, samples)]

    def _clean(self, reply: Reply) -> Reply:
        """Without a key that the server wrote into it."""
        if not self.secrets.values:
            return reply
        clean = self.secrets.scrub_reply
        calls = tuple((name, clean(arguments)) for name, arguments in reply.tool_calls)
        text, reasoning = clean(reply.text or ""), clean(reply.reasoning)
        if reply.error:
            return replace(reply, error_detail=self.secrets.scrub(reply.error_detail))
        return replace(reply, text=text, reasoning=reasoning, tool_calls=calls)

    def _learn(self, reply: Reply, size: int) -> None:
        """How many bytes of a body are a token here; 0.9, to set aside rather too much."""
        if reply.prompt_tokens:
            self.bytes_a_token += 0.05 * (0.9 * size / reply.prompt_tokens - self.bytes_a_token)

    def used(self, replies: list[Reply], need: Need) -> Need:
        """The tokens of an answer by the server's count, and by ours where it gives none."""
        prompts, completions = ([getattr(reply, name) for reply in replies] for name in COUNTS)
        return Need(
            need.prompt if None in prompts else sum(prompts),
            need.completion if None in completions else sum(completions),
        )

    def failed(self, fault: Fault) -> Reply:
        detail = self.secrets.scrub(fault.detail)
        lost = self.faults["not_found"] >= LOST_BEFORE_STOP and not any(gate.answered for gate in self.turns.gates)
        if lost and fault.kind == "not_found":
            self._halt(NoSuchModel(f"{self!r} is not there: {detail}"))
        return Reply(None, error=fault.kind, error_detail=detail)

    def drop(self, gate: Gate, fault: Fault) -> None:
        """Use a key no more; new ones are looked for where keys are read, and without any the run ends."""
        if gate.dropped:
            return
        gate.dropped = self.secrets.scrub(fault.detail)
        log.warning("%s is not used any more: %s", gate.name, gate.dropped)
        known = {gate.value for gate in self.turns.gates}
        fresh = []
        with suppress(NoKeyLeft):  # the file is gone; another key may still work
            fresh = [key for key in read_keys(self.spec) if key not in known] if gate.value else []
        self.turns.gates += [self._gate(key, len(known) + i + 1) for i, key in enumerate(fresh)]
        if all(gate.dropped for gate in self.turns.gates):
            what = f"takes none of the {len(known)} API keys" if gate.value else "wants an API key, and none was named"
            self._halt(NoKeyLeft(f"{self!r} {what}: {gate.dropped}; what ran is stored"))


def _ask_directly(
    engine: OpenAIEngine, requests: Iterable[tuple[str, Request]], loop: asyncio.AbstractEventLoop
) -> Iterator[list[tuple[str, Reply]]]:
    """Keep as many requests under way as `concurrency` says."""
    together = dict(engine.spec.options).get("n", False)
    alike = itertools.groupby(requests, lambda pair: replace(pair[1], sample=0) if together else pair[0])
    waiting = (list(samples) for _, samples in alike)
    while not engine.cancelled and engine.crash is None:
        # A place is free when its replies are stored, which they are when the next ones are asked for.
        room = 0 if engine.stop else engine.spec.concurrency - len(engine.running)
        left, engine.left = engine.left[:room], engine.left[room:]
        for samples in itertools.chain(left, itertools.islice(waiting, room - len(left))):
            engine.begin(samples, loop)
        if not engine.running:
            return
        loop.run_until_complete(engine.some())
        if engine.finished:
            arrived, engine.finished = engine.finished, []
            yield arrived
