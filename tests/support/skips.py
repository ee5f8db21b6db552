"""With TOOLRLEF_REQUIRE=all a skipped test fails, because missing programs and packages can be installed.

Three reasons remain skips: missing real rows beside the checkout, which are not public (a table of cases is then empty);
operations that the kernel forbids; packages of another environment, such as that of `make ray`.
"""

from __future__ import annotations

import os
from typing import TypeVar

import pytest

NO_ROWS = "no folder of real rows beside the checkout"
FORBIDDEN = "the kernel forbids it: "  # followed by the operation
OWN_ENVIRONMENT = "in an environment of its own: "  # followed by the command
ALLOWED = (NO_ROWS, FORBIDDEN, OWN_ENVIRONMENT, "got empty parameter set")

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def fail_if_required(report: Report) -> Report:
    """Return the report of a test or module; a skip for any other reason becomes a failure."""
    if os.environ.get("TOOLRLEF_REQUIRE") == "all" and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not reason.removeprefix("Skipped: ").startswith(ALLOWED):
            report.outcome = "failed"
            report.longrepr = f"skipped, but TOOLRLEF_REQUIRE=all: {reason}"
    return report
