"""What `publish` and the report write about a task of the publisher: none of its prompts, and what its readers need."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from tests.publishing.report.test_report_rows import lines_of
from toolrlef_data import (
    TASKS,
    Example,
    Responder,
    Task,
    answer,
    build_stage1,
    build_stage2,
    grade,
    make_questions,
    publish,
    respond,
    scripted,
    write_report,
)

SECRETS = ("PLAIN-SECRET", "TEACHER-SECRET", "READER-SECRET", "EXAMPLE-SECRET", "SHOT-SECRET")
ROWS: list[dict[str, Any]] = [{"question": f"What is {n} plus 1?", "answers": n + 1} for n in (3, 5)]


def own_task(name: str) -> Task:
    example = Example("EXAMPLE-SECRET", "2", "calculator(1+1)", "SHOT-SECRET It is 2.")
    return replace(
        TASKS["math"],
        name=name,
        instruction="You may call calculator(formula), says the instruction of the rows.",
        plain_instruction="PLAIN-SECRET solve it.",
        teacher_instruction="TEACHER-SECRET write calculator(formula).",
        reader_instruction="READER-SECRET read it.",
        examples={"mine": [example]},
    )


def run(task: Task) -> dict[str, Dataset]:
    """Return all tables of a run with a model as the teacher and few-shot examples."""
    student = scripted({"": "It is 0."}, progress=False)
    teacher = scripted(
        {row["question"]: f"calculator({n}+1)" for n, row in zip((3, 5), ROWS, strict=True)}, progress=False
    )
    graded = grade(answer(make_questions(ROWS, task=task), student, examples=1))
    stage1 = build_stage1(graded, teacher)
    responded = respond(stage1, [Responder("a", student, examples=1), Responder("b", student, protocol="tools")])
    return {"graded": graded, "stage1": stage1, "responded": responded, "stage2": build_stage2(responded)}


def texts_in(folder: Path) -> dict[str, str]:
    """Return the text of each file of a folder; of packed rows, also that of the values."""
    texts = {}
    for path in (path for path in sorted(folder.rglob("*")) if path.is_file()):
        table = pq.read_table(path) if path.suffix == ".parquet" else None
        texts[path.name] = f"{table.to_pylist()}{table.schema.metadata}" if table else path.read_text("utf-8")
        texts[path.name] += f"{lines_of(path)}" if path.name == "report.html" else ""
    return texts


def unregistered(task: Task) -> None:
    """Leave the registry as it is."""


def registered(task: Task) -> None:
    TASKS[task.name] = task


def in_place_of_ours(task: Task) -> None:
    TASKS.added[task.name] = task  # `TASKS["math"] = task` is refused


@pytest.mark.parametrize(
    ("name", "register"), [("sums", unregistered), ("sums", registered), ("math", in_place_of_ours)]
)
def test_no_file_has_the_private_prompts_of_an_own_task(
    name: str, register: Callable[[Task], None], tmp_path: Path
) -> None:
    register(own_task(name))
    out = publish({name: run(own_task(name))}, tmp_path / "data", version="1.0.0", cassette=True)
    write_report(out, out=out / "report.html")
    texts = texts_in(out)
    assert {"README.md", "provenance.json", "report.html"} < texts.keys()
    assert any("parquet" in path for path in texts)
    assert not [(path, secret) for path, text in texts.items() for secret in SECRETS if secret in text]
    shown = texts["README.md"]
    assert shown.count(": a prompt of the publisher, which is not in this data set.") == 4
    assert "says the instruction of the rows." in shown, "this one is in the rows"


CHILD = """
import sys
from dataclasses import replace
from datasets import load_dataset
from toolrlef_data import TASKS, build_stage2, reward, to_trainer
from toolrlef_data.records import UnknownName

def table(name):
    return load_dataset(sys.argv[1], f"sums-{name}", split="train")

def result(task=None):
    return build_stage2(table("responded"), cassette=table("cassette"), task=task)

for needs_task in (lambda: reward("sums"), result, lambda: to_trainer(table("stage2"), "trl_kto", calls="native")):
    try:
        needs_task()
    except UnknownName as error:
        assert str(error).endswith('register your task with TASKS["sums"] = my_task, or pass task='), error
    else:
        raise AssertionError("the task is known")
task = replace(TASKS["math"], name="sums")
assert result(task).to_list() == table("stage2").to_list()
TASKS[task.name] = task
assert result().to_list() == table("stage2").to_list()
assert reward("sums")(completions=["It is 4."], answers=[["4"]]) == [1.0]
"""


def test_another_process_needs_the_task_and_the_card_says_so(tmp_path: Path) -> None:
    TASKS["sums"] = replace(TASKS["math"], name="sums")
    out = publish({"sums": run(TASKS["sums"])}, tmp_path / "data", version="1.0.0", cassette=True)
    subprocess.run([sys.executable, "-c", CHILD, str(out)], check=True)
    shown = texts_in(out)["README.md"]
    assert "The rows of `sums` are of a task of the publisher, which toolrlef_data does not have." in shown
    assert "First register the publisher's `Task` of `sums`: `TASKS[task.name] = task`." in shown
    assert "For the rows of `sums`, pass the publisher's `Task` as well: `task=task`." in shown


def test_a_warning_names_the_task_of_the_rows_and_another_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also beside rows of the right task; not for trajectories, whose task is any name."""
    rows = Dataset.from_list(
        [{"id": str(n), "task": name, "answers": ["4"]} for n, name in enumerate(("sums", "math"))]
    )
    searches = Dataset.from_list([{"id": "1", "task": "toolbench", "query": "q"}])
    tables = {"smus": rows.select([0]), "math": rows, "sums": rows.select([0]), "web": searches}
    publish({name: {"a": table} for name, table in tables.items()}, tmp_path / "data", version="1.0.0")
    assert [message for message in caplog.messages if "rows of the task" in message] == [
        "the tables published as 'smus' have rows of the task 'sums': is the name meant so?",
        "the tables published as 'math' have rows of the task 'sums': is the name meant so?",
    ]
