"""A notebook that runs from top to bottom, and the same run as a recipe on the command line: equal published tables."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_server import ApiServer, ReceivedRequest, ServerReply, completion

nbformat = pytest.importorskip("nbformat", reason="pip install nbformat nbclient ipykernel")
nbclient = pytest.importorskip("nbclient", reason="pip install nbformat nbclient ipykernel")
pytest.importorskip("ipykernel", reason="pip install nbformat nbclient ipykernel")

FRUITS = ["figs", "pears", "plums", "limes", "dates", "kiwis", "melons", "grapes"]
LINES = [
    f"{n} bags hold {n + 3} {fruit} each. How many {fruit}?;{n * (n + 3)} {fruit}" for n, fruit in enumerate(FRUITS, 2)
]
QUESTIONS = "\n".join(["Problem;Gold", *LINES, LINES[0], "Why?;unknown", ";3"])
CELLS = [
    """
from toolrlef_data import EngineSpec, Responder, answer, build_stage1, build_stage2, grade, ledger
from toolrlef_data import load_source, publish, respond, show

questions = load_source("questions.csv", task="math", question="Problem", answers="Gold")
questions
""",
    """
settings = dict(base_url="URL", max_tokens=64, concurrency=3)
student, teacher = (EngineSpec("openai_api", name, **settings) for name in ("student", "teacher"))
graded = grade(answer(questions, student))
stage1 = build_stage1(graded, teacher, attempts=2)
show(stage1, 1)
""",
    """
warm = EngineSpec("openai_api", "warm", temperature=0.8, **settings)
responders = [Responder("plain", student), Responder("sampled", warm, samples=2, examples=2)]
stage2 = build_stage2(respond(stage1, responders), lacking="drop_response")
show(stage2, 2)
""",
    """
publish({"math": {"stage1": stage1, "stage2": stage2}}, "out/notebook", version="1.0.0", card={"title": "Fruits"})
print(len(questions), len(stage1), len(stage2), sorted(ledger([stage2])["reason"]))
""",
]
RECIPE = """
name: Fruits
version: 1.0.0
out: out/recipe
sources:
  - {name: questions.csv, task: math, question: Problem, answers: Gold}
engines:
  student: &student {kind: openai_api, model: student, base_url: "URL", max_tokens: 64, concurrency: 3}
  teacher: {<<: *student, model: teacher}
  warm: {<<: *student, model: warm, temperature: 0.8}
student: {engine: student}
teachers: [teacher]
attempts: 2
responders:
  - {name: plain, engine: student}
  - {name: sampled, engine: warm, samples: 2, examples: 2}
stage2: {lacking: drop_response}
"""


def reply(received: ReceivedRequest, _repeats: int) -> ServerReply | None:
    """Answer by the question alone, whatever the order of requests; HTML and an escape sequence stand in some replies."""
    if received.method != "POST":
        return None
    prompt = received.body["messages"][-1]["content"]
    numbers = re.findall(r"(\d+) bags hold (\d+) (\w+)", prompt)
    bags, each, fruit = numbers[-1]
    text = {
        "teacher": f"calculator({bags}*{each})" if fruit != "dates" else "calculator(1/0)",
        "student": f"The answer is {int(bags) * int(each) if fruit == 'figs' else 7}.",
        "warm": f"<b>calculator({bags}+{each})</b>\x1b[31m" if fruit != "kiwis" else "The answer is B.",
    }
    return completion(text[received.body["model"]])


def run_notebook(folder: Path, url: str) -> Any:
    cells = [nbformat.v4.new_code_cell(text.strip().replace("URL", url)) for text in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    return client.execute()


def outputs_of(cell: Any, kind: str) -> str:
    return "".join(output["data"].get(kind, "") for output in cell["outputs"] if "data" in output)


def published(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.parquet")}


@pytest.mark.parametrize("shares_caches", [True, False])
def test_a_notebook_and_a_recipe_publish_equal_tables(
    shares_caches: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "questions.csv").write_text(QUESTIONS)
    for folder in ("first", "first" if shares_caches else "second"):
        (tmp_path / folder).mkdir(exist_ok=True)
    monkeypatch.delenv("TOOLRLEF_REPLIES")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "first"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    with ApiServer(reply) as server:
        notebook = run_notebook(tmp_path, server.url)
        asked = len(server.requests)
        (tmp_path / "recipe.yaml").write_text(RECIPE.replace("URL", server.url))
        if not shares_caches:
            monkeypatch.setenv("HF_HOME", str(tmp_path / "second"))
        command = [sys.executable, "-m", "toolrlef_data.cli", "run", "recipe.yaml"]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        assert len(server.requests) == (asked if shares_caches else 2 * asked)
    by_hand, by_recipe = tmp_path / "out/notebook", tmp_path / "out/recipe"
    assert published(by_hand) == published(by_recipe)
    assert len(published(by_hand)) == 3, "stage 1, stage 2 and the dropped rows"
    hand, recipe = (json.loads((folder / "provenance.json").read_text()) for folder in (by_hand, by_recipe))
    assert (hand["stages"], hand["configs"]) == (recipe["stages"], recipe["configs"])
    view = outputs_of(notebook.cells[2], "text/html")
    assert "&lt;b&gt;calculator" in view
    assert "\x1b" not in view
    assert "<b>calculator" not in view
    outputs = notebook.cells[3]["outputs"]
    assert "the licence of questions is unknown" in "".join(
        output["text"] for output in outputs if output.get("name") == "stderr"
    )
    printed = "".join(output["text"] for output in outputs if output.get("name") == "stdout")
    kept, dropped = re.search(r"(\d+ \d+ \d+) (.*)", printed).groups()  # type: ignore[union-attr]
    assert kept == "8 7 6"
    assert ast.literal_eval(dropped) == [
        "duplicate",
        "no_question",
        "tool_error:zero_division",
        "unreadable_answer",
        "unreadable_answer",
    ]
