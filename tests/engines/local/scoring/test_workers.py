"""Worker processes compute what one engine computes, tell which layouts they use, and report how they end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.models import tiny_llama
from toolrlef_data.engines.local.scoring import workers
from toolrlef_data.engines.local.scoring.engine import ScoringEngine
from toolrlef_data.engines.local.scoring.requests import ScoringRequest
from toolrlef_data.engines.local.scoring.workers import _Worker, generate_in_workers
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import Reply, ToolrlefError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> EngineSpec:
    return EngineSpec("local", str(tiny_llama(tmp_path_factory.mktemp("tiny"))), device="cpu", progress=False)


PAIRS = [(f"{n}", ScoringRequest(prompt=f"How many {n % 4}?", response="36" * (1 + n % 3))) for n in range(11)]


def sums(replies: dict[str, Reply]) -> dict[str, float]:
    return {tag: float(reply.text or "nan") for tag, reply in replies.items()}


def test_workers_compute_what_one_engine_computes(spec: EngineSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "WORKER_WINDOW", 3)
    with ScoringEngine(spec) as engine:
        expected = dict(pair for batch in engine.generate(iter(PAIRS)) for pair in batch)
    several = ScoringEngine(spec, ["cpu", "cpu"])
    requests: Iterator[tuple[str, ScoringRequest] | None] = iter([None, *PAIRS[:5], None, *PAIRS[5:], None])
    with several:
        found = dict(pair for batch in several.generate(requests) for pair in batch)
    assert sums(found) == pytest.approx(sums(expected))
    assert several.layouts == engine.layouts == {"packed"}
    assert len({reply.text for reply in found.values()}) > 5
    assert all(isinstance(reply, Reply) and reply.error is None for reply in found.values())


def test_an_error_of_a_worker_is_named(spec: EngineSpec) -> None:
    missing = EngineSpec("local", "./nowhere", device="cpu", progress=False)
    with pytest.raises(ToolrlefError, match=r"^InputError: no model at './nowhere': expected a folder"):
        list(generate_in_workers(missing, ["cpu"], 0.5, iter(PAIRS), set()))


def test_a_worker_that_is_killed_is_reported_with_its_device(spec: EngineSpec) -> None:
    with _Worker(spec, "cpu", 1, 0.5) as worker:
        os.kill(worker.process.pid, signal.SIGKILL)
        message = r"^the worker for cpu ended with exit code -9. All received values are saved: run again$"
        with pytest.raises(ToolrlefError, match=message):
            worker.receive()
        with pytest.raises(ToolrlefError, match=message):
            worker.send(PAIRS)


def test_a_worker_ends_with_its_connection_and_ignores_ctrl_c(spec: EngineSpec, tmp_path: Path) -> None:
    with _Worker(spec, "cpu", 1, 0.5) as worker:
        worker.send(PAIRS[:1])
        while isinstance(worker.receive(), list):
            pass
        worker.process.send_signal(signal.SIGINT)
        worker.send(PAIRS[:1])
        assert isinstance(worker.receive(), list), "it computes on"
        assert worker.receive() == {"packed"}
    assert worker.process.returncode == 0
