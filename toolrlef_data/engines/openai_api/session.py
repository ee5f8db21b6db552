"""One engine's traffic with one server: its keys and turns, what is spent, what faults were met, and why it stops.

`requests` and `batches` ask through it, each in its own way; what an answer means and what becomes of a fault, a key
or a cap is the same for both.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from toolrlef_data.engines.credentials import Secrets, read_api_keys, resolve_address
from toolrlef_data.engines.openai_api.budget import Need, spending_of
from toolrlef_data.engines.openai_api.errors import Fault, fault_in, fault_of_status
from toolrlef_data.engines.openai_api.payloads import check_spec, quirks_of, replies_from
from toolrlef_data.engines.openai_api.rate_limits import Gate, Turns
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import AllRequestsRefused, CapReached, NoUsableApiKey, Reply, ToolrlefError

if TYPE_CHECKING:
    from toolrlef_data.engines.openai_api.client import Connection

__all__ = ["REFUSED", "Session"]

log = logging.getLogger(__name__)
# Who would write a request's URL, whose query may hold a key, to a log.
LOGGERS = ("httpx2", "openai", "openai._base_client", "aiohttp.client")
REFUSED = ("bad_request", "not_found")  # of the row, or of the settings
REFUSED_BEFORE_STOP = 8  # so many of them, and none with a reply, end the run
DETAIL = 500  # characters of a message that are kept
BYTES_A_TOKEN = 3.0  # until the server's own counts are known; few tokenizers need more tokens
FEWEST = 0.3  # bytes a token, whatever a server says
COUNTS = ("prompt_tokens", "completion_tokens")


class Session:
    """What the requests to one server share; see the module.

    Args:
        spec: of the engine.

    Raises:
        InputError: the spec asks for what no such server can do.
    """

    connection: Connection

    def __init__(self, spec: EngineSpec) -> None:
        check_spec(spec)
        self.spec = spec
        self.address = resolve_address(spec)
        self.quirks = quirks_of(spec)
        self.secrets = Secrets(self.address.secrets)
        self.spending = spending_of(self.address.url, spec.model)
        self.scheduler = Turns([], self.spending, spec.limits, time.monotonic)
        self.faults: Counter[str] = Counter()  # for the progress bar
        self.bytes_a_token = BYTES_A_TOKEN
        self.cancelled = False
        self.stop: ToolrlefError | None = None

    def __str__(self) -> str:
        return f"{self.spec.model!r} at {self.address.url}"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a session holds keys and is not pickled; an EngineSpec is")

    def open(self) -> None:
        """Read the keys, and keep them out of the logs."""
        keys = read_api_keys(self.spec)
        # A gate without a key is for servers that want none.
        self.scheduler.limiters = [self._gate(key, i + 1) for i, key in enumerate(keys)] or [self._gate("", 0)]
        for name in LOGGERS:
            logging.getLogger(name).addFilter(self._scrub_record)

    def close(self) -> None:
        for name in LOGGERS:
            logging.getLogger(name).removeFilter(self._scrub_record)

    def authorization(self, gate: Gate) -> str:
        """The header for a key, or for the credentials of the URL."""
        return f"Bearer {gate.value}" if gate.value else self.address.basic_auth

    def stats(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"in flight": self.spending.under_way}
        shown |= {f"met {kind}": count for kind, count in self.faults.most_common()}
        if (cost := self.spending.cost(self.spec.limits)) is not None:
            shown["cost"] = f"{cost:.4f}"
        return shown

    def _gate(self, key: str, number: int) -> Gate:
        self.secrets.add([key])
        return Gate(key, f"API key {number}" if key else "no key", self.spec.limits, self.spec.concurrency)

    def _scrub_record(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self.secrets.redact(record.getMessage()), ()
        return True

    def reached(self, cap: str) -> None:
        """A cap forbids the next request."""
        self.halt(CapReached(f"{self}: {cap}. What ran is stored; another run goes on from there and counts anew"))

    def halt(self, error: ToolrlefError) -> None:
        """Send nothing any more; what is under way is waited for."""
        self.stop = self.stop or error
        self.scheduler.close(str(error))

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
        clean = self.secrets.redact_reply
        calls = tuple((clean(name), clean(arguments)) for name, arguments in reply.tool_calls)
        text, reasoning = clean(reply.text or ""), clean(reply.reasoning)
        if reply.error:
            return replace(reply, error_detail=self.secrets.redact(reply.error_detail)[:DETAIL])
        return replace(reply, text=text, reasoning=reasoning, tool_calls=calls)

    def learn(self, reply: Reply, size: int) -> None:
        """How many bytes of a body are a token here: quickly fewer and slowly more, to set aside rather too much."""
        if reply.prompt_tokens:
            seen = 0.95 * size / reply.prompt_tokens
            self.bytes_a_token = max(FEWEST, min(seen, self.bytes_a_token + 0.02 * (seen - self.bytes_a_token)))

    def used(self, replies: list[Reply], need: Need) -> Need:
        """The tokens of an answer by the server's count, and by ours where it gives none."""
        prompts, completions = ([getattr(reply, name) for reply in replies] for name in COUNTS)
        return Need(
            need.prompt if None in prompts else sum(prompts),
            need.completion if None in completions else sum(completions),
        )

    def answered(self) -> bool:
        """Whether the server has answered something with a reply."""
        return any(gate.answered for gate in self.scheduler.limiters)

    def failed(self, fault: Fault) -> Reply:
        return Reply(None, error=fault.kind, error_detail=self.secrets.redact(fault.detail)[:DETAIL])

    def refuses_all(self, refused: Sequence[tuple[str, Reply]]) -> bool:
        """Whether a server that has answered nothing else has refused so much that the settings are at fault."""
        return len(refused) >= REFUSED_BEFORE_STOP and not self.answered()

    def give_up(self, refused: Sequence[tuple[str, Reply]]) -> None:
        """End a run of which everything is refused."""
        why = refused[0][1].error_detail
        self.halt(AllRequestsRefused(f"{self} has refused all of {len(refused)} requests, such as: {why}"))

    def drop(self, gate: Gate, fault: Fault) -> None:
        """Use a key no more; new ones are looked for where keys are read, and without any the run ends."""
        if gate.dropped:
            return
        gate.dropped = self.secrets.redact(fault.detail)[:DETAIL]
        log.warning("%s is not used any more: %s", gate.name, gate.dropped)
        known = {gate.value for gate in self.scheduler.limiters}
        fresh = []
        with suppress(NoUsableApiKey):  # the file is gone; another key may still work
            fresh = [key for key in read_api_keys(self.spec) if key not in known] if gate.value else []
        self.scheduler.limiters += [self._gate(key, len(known) + i + 1) for i, key in enumerate(fresh)]
        if all(gate.dropped for gate in self.scheduler.limiters):
            what = f"takes none of the {len(known)} API keys" if gate.value else "wants an API key, and none was named"
            self.halt(NoUsableApiKey(f"{self} {what}: {gate.dropped}; what ran is stored"))
