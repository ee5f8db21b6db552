"""The commands of docs/trice.md, run as they stand there: all tasks, both layouts, as one process each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.api_runs import column_values
from tests.support.api_server import ApiServer
from tests.support.models import tiny_adapter, tiny_bert, tiny_llama, tiny_nllb
from tests.support.trice_chain import (
    DATASETS,
    PASSAGES,
    commands_for,
    raw_rows,
    read_lines,
    reply,
    write_lines,
    write_raw,
)
from toolrlef_data import load_trice

RESPONDERS = ["gold", "chatgpt", "davinci", "vicuna", "alpaca"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models, the adapters, the keys and the corpus that the page names."""
    folder = tmp_path_factory.mktemp("models")
    vicuna = tiny_llama(folder / "PLMs" / "vicuna-7b", context=2048)
    shutil.copytree(vicuna, folder / "PLMs" / "alpaca-7b")
    adapter = tiny_adapter(folder / "vicuna-stage1-lora", vicuna)
    for name in ("vicuna-stage1-lora-step-39", "alpaca-stage1-lora-step-39"):
        shutil.copytree(adapter, folder / name)
    for task in DATASETS:
        for model in ("vicuna", "alpaca"):
            place = folder / "train" / f"{model}-lora" / "stage1" / task
            shutil.copytree(adapter, place)
            shutil.copytree(adapter, place / "checkpoint-39")
    tiny_bert(folder / "PLMs" / "qa-model", context=256)
    tiny_nllb(folder / "PLMs" / "nllb-200-distilled-600M")
    write_lines(folder / "wikipedia.jsonl", PASSAGES)
    (folder / "openai_api_keys.txt").write_text("sk-first\nsk-second\n")
    return folder


@pytest.mark.parametrize("task", DATASETS)
@pytest.mark.parametrize("layout", ["task", "dataset"])
def test_the_commands_of_the_page_run_as_they_stand_there(task: str, layout: str, models: Path, tmp_path: Path) -> None:
    unit = task if layout == "task" else DATASETS[task]
    for path in models.iterdir():
        (tmp_path / path.name).symlink_to(path)
    write_raw(tmp_path, task, unit)
    with ApiServer(reply) as server:
        environment = {**os.environ, "OPENAI_BASE_URL": server.url}
        for words in commands_for(task, layout):
            command = [sys.executable, "-m", "toolrlef_data.cli", "trice", *words]
            process = subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert process.returncode == 0, (words, process.stdout, process.stderr)
    rows = read_lines(tmp_path / "data" / "stage2" / unit / f"{unit}.json")
    assert rows
    assert [row["origin"] for row in rows] == [RESPONDERS] * len(rows)
    tables = load_trice(tmp_path / "data")[task]
    assert len(tables["stage2"]) == len(rows)
    assert {"stage1", "responded", "stage2"} <= set(tables)


def test_the_examples_of_the_helps_run_in_order(models: Path, tmp_path: Path) -> None:
    for path in models.iterdir():
        (tmp_path / path.name).symlink_to(path)
    raw = write_raw(tmp_path, "math", "math")
    shutil.copy(raw, raw.with_name("math.json"))
    program = f'toolrlef-data() {{ "{sys.executable}" -m toolrlef_data.cli "$@"; }}\n'
    with ApiServer(reply) as server:
        environment = {**os.environ, "OPENAI_BASE_URL": server.url, "COLUMNS": "80"}
        for command in ("answer", "generate-tool-api", "merge", "generate-response-gpt", "generate-response-llama", "score"):  # fmt: skip
            words = ["bash", "-c", f"{program} toolrlef-data trice {command} --help"]
            text = subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout
            if command == "score":  # the document's file of the task
                shutil.copy(tmp_path / "data/stage1/math/GSM8K.json", tmp_path / "data/stage1/math/math.json")
            if command == "generate-tool-api":  # the model of the example may answer every row wrongly
                shutil.copy(raw, tmp_path / "data/raw/math/GSM8K_wrong.json")
                write_lines(tmp_path / "data/raw/math/GSM8K_right.json", [])
            words = ["bash", "-c", program + text.rpartition("\nExample:\n")[2]]
            process = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert process.returncode == 0, (command, process.stdout, process.stderr)
    assert len(read_lines(tmp_path / "data/stage2/math/math.json")) == 5


def test_a_reader_verifies_the_calls_of_qa(models: Path, tmp_path: Path) -> None:
    """The passages contain no gold answer, so that each of them is read."""
    write_lines(tmp_path / "wrong.json", raw_rows("qa", 2))
    write_lines(tmp_path / "corpus.jsonl", [{"title": "Mills", "text": "A mill number stands somewhere."}])
    words = ["generate_tool_api", "--input", "wrong.json", "--output", "out.json", "--dataset_name", "TriviaQA"]
    words += ["--engine", "m", "--corpus", "corpus.jsonl", "--keep-unverified", "--attempts", "1"]
    n_replies = []
    with ApiServer(reply) as server:
        environment = {
            **os.environ,
            "OPENAI_BASE_URL": server.url,
            "TOOLRLEF_REPLIES": str(tmp_path / "replies.sqlite"),
        }
        for reader in ([], ["--base_model", str(models / "PLMs" / "vicuna-7b")]):
            command = [sys.executable, "-m", "toolrlef_data.cli", "trice", *words, "--mode", "w", *reader]
            subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
            assert len(read_lines(tmp_path / "out.json")) == 2
            n_replies.append(len(column_values(tmp_path, "replies", "reply")))
    assert n_replies[1] > n_replies[0], "the replies of the reader; those of the teacher are stored before"


@pytest.mark.parametrize("script", ["generate_tool_api", "generate_response_gpt", "generate_response_llama", "score"])
def test_each_script_of_the_original_is_a_module(script: str) -> None:
    command = [sys.executable, "-W", "error", "-m", f"toolrlef_data.cli.trice.{script}", "--help"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert f"trice {script.replace('_', '-')}" in " ".join(text.split())
