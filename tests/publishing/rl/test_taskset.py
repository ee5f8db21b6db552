"""The taskset for verifiers: gold answers are valid, replayed responses get their published grade, the tool is served."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.caches import use_caches
from toolrlef_data import (
    ANNOTATIONS,
    TASKS,
    InputError,
    Responder,
    answer,
    build_stage1,
    build_stage2,
    grade,
    load_source,
    publish,
    respond,
    scripted,
)

pytest.importorskip("verifiers.v1", exc_type=ImportError)

import verifiers.v1 as vf
from verifiers.v1.graph import MessageNode
from verifiers.v1.trace import ModelCall, TraceTask
from verifiers.v1.types import AssistantMessage, ToolCall

from toolrlef_data.publishing.rl.taskset import ToolTask, ToolTaskConfig, ToolTasksetConfig

pytestmark = pytest.mark.filterwarnings("ignore")
TEXTS = ["It is 54.", "calculator(36+36/2)", "calculator(2*", "\\boxed{A}", "calculator(1/0)", "54, or calculator(1)"]


OTHER = replace(TASKS["math"], name="other")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published folder with stage 1 and stage 2."""
    root = tmp_path_factory.mktemp("taskset")
    with use_caches(root):
        questions = load_source("sample", split="train").select(range(6))
        stage1 = build_stage1(grade(answer(questions, scripted({"": "It is 0."}, progress=False))), ANNOTATIONS)
        responders = [Responder(f"r{n}", scripted({"": text}, progress=False)) for n, text in enumerate(TEXTS)]
        stage2 = build_stage2(respond(stage1, responders), lacking="drop_response")
        publish({"math": {"stage1": stage1, "stage2": stage2}}, root / "out", version="1.0.0")
        return root / "out"


def tasks_of(folder: Path, subset: str, name: str = "math") -> list[ToolTask]:
    config = ToolTasksetConfig(id="toolrlef-data", data=str(folder), subset=subset, task=ToolTaskConfig(name=name))
    return list(vf.load_taskset(config))


def score(task: ToolTask, message: AssistantMessage, finish_reason: Any = "stop") -> float | None:
    """Return the reward of a message, as `replay` of verifiers computes it from a saved trace."""
    trace = vf.Trace(
        task=TraceTask(type="ToolTask", data=task.data, key=task.key, hash=task.hash),
        agent=vf.AgentInfo(config=vf.AgentConfig()),
        nodes=[MessageNode(message=message, sampled=True)],
        calls=[ModelCall(node=0, finish_reason=finish_reason)],
    )
    asyncio.run(task.score(trace))
    return trace.rewards["correctness"].score if trace.rewards else None


def test_every_gold_answer_is_valid(folder: Path) -> None:
    for subset in ("math-stage1", "math-stage2"):
        tasks = tasks_of(folder, subset)
        assert len(tasks) == 6
        assert all(asyncio.run(task.validate(None)) for task in tasks)
        assert len({task.key for task in tasks}) == 6
    first = tasks_of(folder, "math-stage1")[0]
    changes: list[dict[str, Any]] = [{"output": "It is 1."}, {"answers": ["1"]}, {"answers": []}]
    for wrong in changes:
        changed = ToolTask(first.data.model_copy(update=wrong), first.config)
        assert not asyncio.run(changed.validate(None)), wrong
    noisy = ToolTask(first.data.model_copy(update={"answers": [*first.data.answers, "---"]}), first.config)
    assert asyncio.run(noisy.validate(None))


def test_replayed_responses_get_their_published_grade(folder: Path) -> None:
    from datasets import load_dataset

    rows = load_dataset(str(folder), "math-stage2", split="train", cache_dir=str(folder.parent / "hf"))
    found = set()
    for task, row in zip(tasks_of(folder, "math-stage2"), rows, strict=True):
        for text, correct in zip(row["responses"], row["correct"], strict=True):
            reward = score(task, AssistantMessage(content=text))
            assert reward == (None if correct is None else float(correct)), text
            found.add(reward)
    assert found >= {0.0, 1.0}


def test_native_calls_and_cut_off_responses(folder: Path) -> None:
    task = tasks_of(folder, "math-stage1")[0]
    [gold] = task.data.answers
    call = ToolCall(id="1", name="calculator", arguments=f'{{"formula": "{gold}+0"}}')
    assert score(task, AssistantMessage(tool_calls=[call])) == 1.0
    assert score(task, AssistantMessage(tool_calls=[call]), "length") == 0.0
    assert score(task, AssistantMessage(content=f"It is {gold}.")) == 1.0


def test_wrong_settings_are_errors(folder: Path) -> None:
    with pytest.raises(InputError, match="unknown"):
        tasks_of(folder, "math-stage1", "maths")
    with pytest.raises(InputError, match="expected the task 'other', found 'math'"):
        tasks_of(folder, "math-stage1", f"{__name__}:OTHER")
    with pytest.raises(InputError, match="the tool 'QA' is not set up"):
        tasks_of(folder, "math-stage1", "lama")


def test_the_server_has_the_tool(folder: Path) -> None:
    from mcp.server.fastmcp import FastMCP

    config = ToolTasksetConfig(id="toolrlef-data", task=ToolTaskConfig(name="math"))
    [server] = vf.load_taskset(config).toolsets(config)
    mcp = FastMCP("tools")
    server.register(mcp)
    [tool] = asyncio.run(mcp.list_tools())
    assert (tool.name, tool.inputSchema["required"]) == ("calculator", ["formula"])
    [content], _ = asyncio.run(mcp.call_tool("calculator", {"formula": "3*4"}))
    assert content.text == "12"
