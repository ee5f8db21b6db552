"""With TOOLRLEF_REQUIRE=all, a test that is skipped for a missing program or package fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.corpora import HOSTILE_CASES
from tests.support.skips import FORBIDDEN, NO_ROWS, fail_if_required


def skipped(reason: str) -> pytest.TestReport:
    skip = ("test_x.py", 3, f"Skipped: {reason}")
    return pytest.TestReport("test_x.py::test", ("test_x.py", 2, "test"), {}, "skipped", skip, "call")


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
def test_a_skip_for_a_missing_program_or_package_fails(
    reason: str, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOOLRLEF_REQUIRE", raising=False)
    assert fail_if_required(skipped(reason)).outcome == "skipped"
    monkeypatch.setenv("TOOLRLEF_REQUIRE", "all")
    report = fail_if_required(skipped(reason))
    assert report.outcome == outcome
    assert reason in str(report.longrepr)


def test_expected_failures_and_passed_tests_do_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLRLEF_REQUIRE", "all")
    expected_failure = skipped("")
    expected_failure.wasxfail = "known"
    assert fail_if_required(expected_failure).outcome == "skipped"
    passed = pytest.TestReport("test_x.py::test", ("test_x.py", 2, "test"), {}, "passed", None, "call")
    assert fail_if_required(passed).outcome == "passed"


@pytest.mark.parametrize("name", sorted(HOSTILE_CASES))
def test_the_report_counts_every_case_that_does_not_run(name: str, shared: Path) -> None:
    text = (shared / "hostile" / name).read_text(encoding="utf-8")
    assert len([line for line in text.split("\n") if line.strip()]) == HOSTILE_CASES[name]
