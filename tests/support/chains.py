"""Requests that depend on earlier replies, as in trajectory search."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from toolrlef_data.engines import ENGINES
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import Reply


class Chains:
    """Chains of requests; each request contains the replies to the previous one of its chain."""

    def __init__(self, names: Iterable[str], steps: int = 3, samples: int = 1) -> None:
        self.steps, self.samples = steps, samples
        self.texts: dict[str, list[str]] = {name: [] for name in names}
        self.ready = deque(pair for name in self.texts for pair in self.requests_of(name))
        self.events: list[str] = []  # tags of the pulled requests, and, in brackets, tags of the received replies
        self.idle_pulls = 0

    def requests_of(self, name: str) -> list[tuple[str, Request]]:
        """Return the next requests of a chain."""
        step, prompt = len(self.texts[name]) // self.samples, " ".join([name, *self.texts[name][-self.samples :]])
        return [(f"{name} {step} {i}", Request(prompt=prompt, sample=i, seed=5)) for i in range(self.samples)]

    def is_open(self) -> bool:
        return any(len(texts) < self.steps * self.samples for texts in self.texts.values())

    def requests(self) -> Iterator[tuple[str, Request] | None]:
        while self.is_open():
            if self.ready:
                self.events.append(self.ready[0][0])
                yield self.ready.popleft()
            else:
                self.idle_pulls += 1
                yield None

    def receive(self, replies: Iterable[tuple[str, Reply]]) -> None:
        for tag, reply in replies:
            self.events.append(f"({tag})")
            name = tag.split()[0]
            self.texts[name].append(reply.text or f"<{reply.error}>")
            if len(self.texts[name]) % self.samples == 0 and len(self.texts[name]) < self.steps * self.samples:
                self.ready.extend(self.requests_of(name))

    def run(self, spec: EngineSpec) -> Chains:
        with ENGINES[spec.kind](spec) as engine:
            for replies in engine.generate(self.requests()):
                self.receive(replies)
        return self
