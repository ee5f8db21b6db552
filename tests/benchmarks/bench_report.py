"""The report of 10,000 rows of stage 2 in headless Chromium: how long it takes to write, to open and to filter.

    .venv/bin/python tests/benchmarks/bench_report.py --rows 10000

Each row has five responses, of 600 characters on average. CPU seconds are those of the page's main thread.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # the script runs without an installation

from datasets import Dataset, disable_progress_bars

from tests.support.browser import Browser
from toolrlef_data import publish, write_report
from toolrlef_data.columns import STAGE2

NAMES = ("gold", "few_shot", "zero_shot", "sampled", "warmed")
WORDS = [
    "the",
    "a",
    "train",
    "bowl",
    "farmer",
    "half",
    "twice",
    "each",
    "week",
    "sells",
    "keeps",
    "of",
    "and",
    "then",
    "so",
    "it",
    "is",
    "therefore",
    "12",
    "7",
    "3",
    "total",
]
# Name -> JavaScript that sets a filter.
FILTERS = {
    "text, 1 letter": "$('text').value = 'w'",
    "text, in few rows": "$('text').value = 'sells therefore 12'",
    "text, in no row": "$('text').value = 'no such text'",
    "responder, grade, score": "$('text').value = ''; $('responder').value = 'warmed'; $('grade').value = 'right'; $('least').value = 15",
    "none": "$('responder').value = ''; $('grade').value = ''; $('least').value = ''",
}
N_TIMES = 5
COUNT = "$('count').textContent"
PAINTED = "($('grid').offsetHeight, performance.now())"  # after the layout


def make_row(i: int) -> dict[str, object]:
    draw = random.Random(i)

    def text(n: int) -> str:
        return " ".join(draw.choices(WORDS, k=n))

    question, n = text(40), len(NAMES)
    tools = [draw.random() < 0.5 for _ in NAMES]
    return {
        "id": f"row-{i}", "task": "math", "dataset": "synthetic", "answers": ["54"], "instruction": "Answer it.",
        "input": question, "query": f"Answer it.\n{question}", "responses": [text(draw.randint(20, 240)) for _ in NAMES],
        "origin": list(NAMES), "scores": [float(draw.choice((20, 15, 10, 5, 0))) for _ in NAMES],
        "answer": ["54.0"] * n, "uses_tool": tools, "tool_outputs": ["54" if tool else None for tool in tools],
        "errors": [None] * n, "error_details": [None] * n, "correct": [draw.random() < 0.5 for _ in NAMES],
        "finish_reasons": ["stop"] * n, "rule": "trice",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000)
    n_rows = parser.parse_args().rows
    disable_progress_bars()
    with tempfile.TemporaryDirectory() as scratch:
        table = Dataset.from_generator(lambda: map(make_row, range(n_rows)), features=STAGE2, cache_dir=scratch)
        folder = publish({"math": {"stage2": table}}, f"{scratch}/data", version="1.0.0")
        before, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        path = write_report(folder, out=f"{scratch}/report.html")
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(
            f"write: {time.process_time() - cpu:.1f} CPU s, {path.stat().st_size / 1e6:.1f} MB, peak memory +{(after - before) / 1024:.0f} MB"
        )
        with Browser() as browser:
            browser.send("Performance.enable", timeDomain="threadTicks")
            browser.open(path)
            browser.wait("document.getElementById('grid').getAttribute('aria-busy') === 'false'")
            opened = browser.evaluate("performance.now()") / 1000
            heap = _metric(browser, "JSHeapUsedSize") / 1e6
            print(f"open: {opened:.2f} s, {_metric(browser, 'TaskDuration'):.2f} CPU s, JavaScript heap {heap:.0f} MB")
            for name, action in FILTERS.items():
                times, cpu = [], _metric(browser, "TaskDuration")
                for _ in range(N_TIMES):
                    times.append(browser.evaluate(f"{action}; start = performance.now(); filter(); {PAINTED} - start"))
                cpu = 1000 * (_metric(browser, "TaskDuration") - cpu) / N_TIMES
                print(f"filter ({name}): {cpu:.0f} CPU ms, {min(times):.0f} ms; {browser.evaluate(COUNT)}")
            print(f"rows in the document: {browser.evaluate('document.querySelectorAll(`#body > *`).length')}")


def _metric(browser: Browser, name: str) -> float:
    return float({one["name"]: one["value"] for one in browser.send("Performance.getMetrics")["metrics"]}[name])


if __name__ == "__main__":
    main()
