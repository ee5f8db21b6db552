"""The engine for log-probabilities: a reply contains the sum over a response's tokens as text.

Requests with the same prompt form one row. With several devices, each one has a worker process (`workers`).

Not covered: a model over several GPUs, models behind an API.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from toolrlef_data.engines.local.engine import LocalEngine, context_length, error_reply, request_windows
from toolrlef_data.engines.local.loading import borrow_model, parse_device
from toolrlef_data.engines.local.scoring.layouts import TokenisedRow
from toolrlef_data.engines.local.scoring.requests import ScoringRequest, request_tokeniser
from toolrlef_data.engines.local.scoring.scorer import Scorer
from toolrlef_data.engines.local.scoring.selection import ROUNDING_TOLERANCE
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import InputError, Reply

__all__ = ["ScoringEngine", "ScoringEngines"]

WINDOW_SIZE = 2048  # requests that are grouped and sorted together

Requests = Iterable["tuple[str, ScoringRequest] | None"]
Replies = Generator[list[tuple[str, Reply]], None, None]


class ScoringEngine:
    """The engine for log-probabilities by a model on this machine.

    Args:
        spec: settings of kind "local"; the sampling settings have no effect.
        devices: devices of one worker process each. Default: `spec.device`, or all GPUs if it is "auto".
        tolerance: that of `LayoutSelection`.

    Raises:
        InputError: the spec has another kind, or the devices are not of one kind.
    """

    def __init__(self, spec: EngineSpec, devices: Sequence[str] = (), tolerance: float = ROUNDING_TOLERANCE) -> None:
        if spec.kind != "local":
            raise InputError(f"log-probabilities need a model on this machine (kind 'local'), found {spec.kind!r}")
        kinds = {parse_device(device)[0] for device in devices}
        if len(kinds) > 1 or "auto" in kinds:
            raise InputError(f"devices: expected devices of one kind such as cuda:0 and cuda:1, found {devices!r}")
        self.spec = replace(spec, device=devices[0]) if devices else spec
        self.devices = tuple(devices)
        self.on_step: Callable[[], None] | None = None
        self.tolerance = tolerance
        self.scorer = Scorer(spec.batch_tokens, tolerance)
        self.layouts: set[str] = set()

    cancel = None
    stop = None

    def stats(self) -> dict[str, Any]:
        return {"layout": ", ".join(sorted(self.layouts))} if self.layouts else {}

    def __enter__(self) -> ScoringEngine:
        """Find the devices; a single one loads the model."""
        if not self.devices and self.spec.device == "auto":
            import torch

            count = torch.cuda.device_count()
            self.devices = tuple(f"cuda:{n}" for n in range(count)) if count > 1 else ()
        if len(self.devices) < 2:
            with borrow_model(self.spec):
                pass
        return self

    def __exit__(self, *_: object) -> None:
        """Keep the base model loaded for the next engine."""

    def identity(self) -> dict[str, Any]:
        """Return the identity of the model as for generation (`LocalEngine.identity`), and a tolerance of the user."""
        identity = LocalEngine(self.spec).identity()
        return identity if self.tolerance == ROUNDING_TOLERANCE else {**identity, "tolerance": repr(self.tolerance)}

    def generate(self, requests: Requests) -> Replies:
        """Yield the replies of each batch; requests are read in windows, grouped by prompt and sorted by length."""
        if len(self.devices) > 1:
            from toolrlef_data.engines.local.scoring.workers import generate_in_workers

            yield from generate_in_workers(self.spec, self.devices, self.tolerance, requests, self.layouts)
            return
        for window in request_windows(requests, WINDOW_SIZE):
            yield from self._score(window)

    def _score(self, window: Sequence[tuple[str, ScoringRequest]]) -> Iterator[list[tuple[str, Reply]]]:
        """Yield the replies to a window of requests, batch by batch."""
        with borrow_model(self.spec) as loaded:
            tokenise = request_tokeniser(self.spec, loaded.tokenizer)
            tokenised = [(tag, tokenise(request)) for tag, request in window]
            context = context_length(loaded.model)
        errors: list[tuple[str, Reply]] = []
        groups: dict[tuple[int, ...], dict[tuple[int, ...], list[str]]] = {}  # prompt -> response -> tags
        for tag, tokens in tokenised:
            if isinstance(tokens, Reply):
                errors.append((tag, tokens))
                continue
            prompt, response = tokens
            n_inputs = len(prompt) + len(response) - 1  # the last token is no input
            if context and n_inputs > context:
                lengths = f"{len(prompt)} prompt tokens and {len(response)} response tokens"
                errors.append((tag, error_reply("too_long", f"{lengths} exceed the context of {context} tokens")))
                continue
            groups.setdefault(prompt, {}).setdefault(response, []).append(tag)
        if errors:
            yield errors
        rows = [TokenisedRow(prompt, tuple(responses)) for prompt, responses in groups.items()]
        for scores in self.scorer.score(rows, self._borrow):
            self.layouts.add(self.scorer.selection.layout)
            replies = []
            for score in scores:
                row = rows[score.row]
                response = row.responses[score.response]
                reply = _build_reply(score.logprob, score.error, row.prompt, response)
                replies += [(tag, reply) for tag in groups[row.prompt][response]]
            yield replies

    @contextmanager
    def _borrow(self) -> Iterator[Any]:
        with borrow_model(self.spec) as loaded:
            yield loaded.model


@dataclass(frozen=True)
class ScoringEngines:
    """A function from a spec to a `ScoringEngine` on given devices, which are in no key."""

    devices: tuple[str, ...] = ()
    tolerance: float = ROUNDING_TOLERANCE

    def __call__(self, spec: EngineSpec) -> ScoringEngine:
        return ScoringEngine(spec, self.devices, self.tolerance)

    def in_key(self) -> dict[str, Any]:
        return {"devices": None, "tolerance": repr(self.tolerance)}


def _build_reply(logprob: float | None, error: str, prompt: Sequence[int], response: Sequence[int]) -> Reply:
    if logprob is None:
        return error_reply("out_of_memory", error)
    if not math.isfinite(logprob):
        return error_reply("bad_request", f"the log-probability is {logprob}: another dtype may help")
    return Reply(repr(logprob), prompt_tokens=len(prompt), completion_tokens=len(response))
