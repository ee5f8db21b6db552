"""Every test has caches of its own, and none leaves anything behind or reaches a network."""

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
    OMP_NUM_THREADS="1",  # as many workers as cores: threads of theirs would only wait for each other
)
for name in ("HF_DATASETS_CACHE", "HF_HUB_CACHE", "TOOLRLEF_REPLIES"):
    os.environ.pop(name, None)

# Workers have homes of their own, and one folder of converted weights, under the lock of the conversion itself.
CONVERTED = Path(os.environ.setdefault("TOOLRLEF_TESTS_CONVERTED", os.path.join(HOME, "converted")))
CONVERTED.mkdir(exist_ok=True)
Path(HOME, "toolrlef_data").mkdir()
Path(HOME, "toolrlef_data", "converted").symlink_to(CONVERTED)

import pytest  # noqa: E402

from tests.support.caches import use_caches  # noqa: E402
from tests.support.skips import NO_ROWS, required  # noqa: E402

# Ignored under `nohup` and in the background of a script, and by inheritance in every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What runs longest begins first, so that no worker is alone with it at the end.
LONGEST = [
    *("test_api_kill", "test_serving", "test_real_model", "test_search_kill"),
    *("test_load", "test_local", "test_openai_api", "test_tokenise", "test_folder", "test_translator", "test_trex"),
]

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: n for n, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return required((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return required((yield))


CACHES = count()


@pytest.fixture(autouse=True)
def fresh_caches() -> Iterator[Path]:
    """A stage cache and a reply store for each test; converted weights are shared by the whole session."""
    with use_caches(Path(HOME, "caches", str(next(CACHES)))) as folder:
        yield folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real rows and hostile cases beside the checkout; tests that need them skip where they are absent."""
    if not SHARED.is_dir():
        pytest.skip(NO_ROWS)
    return SHARED


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """A tiny model gains nothing from threads, and on a busy machine their hand-overs take ten times its time."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
