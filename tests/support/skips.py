"""With TOOLRLEF_REQUIRE=all a skip is a failure: what a test needs, a program or a package, is there to be installed.

Two reasons remain skips: the rows beside the checkout (a table of cases from there is then empty), which not everybody
may have, and what the kernel forbids, which no installation changes.
"""

from __future__ import annotations

import os
from typing import TypeVar

import pytest

NO_ROWS = "no folder of real rows beside the checkout"
FORBIDDEN = "the kernel forbids it: "  # and what it is
REMAIN = (NO_ROWS, FORBIDDEN, "got empty parameter set")

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def required(report: Report) -> Report:
    """The report of a test or of a module, a failure where its skip is none that remains."""
    if os.environ.get("TOOLRLEF_REQUIRE") == "all" and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not reason.removeprefix("Skipped: ").startswith(REMAIN):
            report.outcome = "failed"
            report.longrepr = f"skipped, but TOOLRLEF_REQUIRE=all: {reason}"
    return report
