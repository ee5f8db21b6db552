"""With TOOLRLEF_REQUIRE=all a test that is skipped for want of a program fails; one that nothing could save does not."""

from __future__ import annotations

import pytest

from tests.support.skips import FORBIDDEN, NO_ROWS, required


def skipped(reason: str) -> pytest.TestReport:
    place = ("test_x.py", 3, f"Skipped: {reason}")
    return pytest.TestReport("test_x.py::test", ("test_x.py", 2, "test"), {}, "skipped", place, "call")


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("no firefox here", "failed"),
        ("could not import 'ray': No module named 'ray'", "failed"),
        ("", "failed"),
        (NO_ROWS, "skipped"),
        (FORBIDDEN + "user namespaces", "skipped"),
        ("got empty parameter set for (case)", "skipped"),
    ],
)
def test_a_skip_for_what_could_be_installed_fails(reason: str, outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOOLRLEF_REQUIRE", raising=False)
    assert required(skipped(reason)).outcome == "skipped"
    monkeypatch.setenv("TOOLRLEF_REQUIRE", "all")
    report = required(skipped(reason))
    assert report.outcome == outcome
    assert reason in str(report.longrepr)


def test_what_is_expected_to_fail_and_what_passes_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLRLEF_REQUIRE", "all")
    expected = skipped("")
    expected.wasxfail = "known"
    assert required(expected).outcome == "skipped"
    passed = pytest.TestReport("test_x.py::test", ("test_x.py", 2, "test"), {}, "passed", None, "call")
    assert required(passed).outcome == "passed"
