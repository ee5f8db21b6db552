"""The state that all requests of an engine share: why a run stops, and which keys are used."""

from __future__ import annotations

import logging

import pytest

from toolrlef_data.engines.openai_api.errors import classify_status
from toolrlef_data.engines.openai_api.session import Session
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import CapReached, NoUsableApiKey


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setenv("MY_KEYS", "key-0123456789,key-9876543210")
    session = Session(EngineSpec("openai_api", "m", base_url="http://127.0.0.1:9/v1", keys="MY_KEYS"))
    session.open()
    session.close()
    return session


def test_the_first_reason_to_stop_is_raised(session: Session) -> None:
    """Later errors can follow from it: no request is sent any more."""
    first = CapReached("the cap")
    session.halt(first)
    session.halt(NoUsableApiKey("no key"))
    assert (session.stop_error, session.scheduler.closed_reason) == (first, "the cap")


def test_requests_in_flight_disable_their_key_once(session: Session, caplog: pytest.LogCaptureFixture) -> None:
    first = session.scheduler.limiters[0]
    for text in ("revoked", "revoked", "unknown"):
        session.disable(first, classify_status(401, text))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert first.disabled_reason == "401: revoked"
    assert (len(session.scheduler.limiters), session.stop_error) == (2, None)
