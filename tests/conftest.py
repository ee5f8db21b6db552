"""Fixtures and settings of all tests: fresh caches for each test, no network, no files outside temporary folders."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from itertools import count
from pathlib import Path

# Read by datasets, huggingface_hub and transformers when they are imported.
HOME = tempfile.mkdtemp(prefix="toolrlef-tests-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
os.environ.update(
    HF_HOME=HOME,
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    TOKENIZERS_PARALLELISM="false",
    OMP_NUM_THREADS="1",  # there are as many workers as cores
)
for name in ("HF_DATASETS_CACHE", "HF_HUB_CACHE", "TOOLRLEF_REPLIES"):
    os.environ.pop(name, None)

# Each worker has its own home; all share one folder of converted weights, which the conversion locks.
CONVERTED = Path(os.environ.setdefault("TOOLRLEF_TESTS_CONVERTED", os.path.join(HOME, "converted")))
CONVERTED.mkdir(exist_ok=True)
Path(HOME, "toolrlef_data").mkdir()
Path(HOME, "toolrlef_data", "converted").symlink_to(CONVERTED)

import pytest  # noqa: E402

from tests.support.caches import use_caches  # noqa: E402
from tests.support.corpora import SHARED, missing_cases  # noqa: E402
from tests.support.skips import NO_ROWS, fail_if_required  # noqa: E402

# `nohup` and background jobs of a script ignore SIGINT, and processes that a test starts inherit this.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The slowest modules start first, so that no worker ends with one of them alone.
SLOWEST = [
    *("test_api_kill", "test_serving", "test_real_model", "test_search_kill", "test_placement"),
    *("test_loader", "test_local", "test_openai_api", "test_labels", "test_folder", "test_translator", "test_trex"),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: n for n, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(SLOWEST)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return fail_if_required((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return fail_if_required((yield))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report how many cases did not run because the rows and corpora beside the checkout are absent."""
    skipped = terminalreporter.stats.get("skipped", [])
    tests = sum(NO_ROWS in str(report.longrepr) for report in skipped)
    if tests or missing_cases():
        terminalreporter.write_line(
            f"not run: {missing_cases()} cases of the hostile corpora and {tests} tests of real rows, which are not public"
        )


CACHES = count()


@pytest.fixture(autouse=True)
def fresh_caches() -> Iterator[Path]:
    """Use an empty stage cache and reply store; converted weights are shared by all tests of the run."""
    with use_caches(Path(HOME, "caches", str(next(CACHES)))) as folder:
        yield folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real rows and adversarial cases beside the checkout; skip the test if it is missing."""
    if not SHARED.is_dir():
        pytest.skip(NO_ROWS)
    return SHARED


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Run torch in one thread: a tiny model gains nothing from more, and switching takes ten times as long."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
