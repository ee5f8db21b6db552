"""Every stage hands `num_proc` on to the maps that it makes: a lost one changes no row, but the time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from datasets import Dataset

from toolrlef_data import (
    ANNOTATIONS,
    TASKS,
    Responder,
    Tool,
    answer,
    build_stage1,
    build_stage2,
    counterfactual,
    drop_learnt,
    evaluate,
    execute,
    grade,
    make_questions,
    propose_calls,
    rank_agreement,
    rescore,
    respond,
    score,
    scripted,
    without_tool,
)
from toolrlef_data.trice.cassette import collect_executions
from toolrlef_data.trice.teachers import write_calls


@pytest.fixture
def maps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Return a list that receives the name and the `num_proc` of each map, which then runs in this process."""
    made: list[tuple[str, Any]] = []
    run = Dataset.map

    def record(self: Dataset, *args: Any, **options: Any) -> Dataset:
        made.append((str(options.get("desc")), options.get("num_proc")))
        return run(self, *args, **{**options, "num_proc": None})

    monkeypatch.setattr(Dataset, "map", record)
    return made


def quiet(script: Any, **settings: Any) -> Any:
    return scripted(script, progress=False, **settings)


def find(argument: str) -> str:
    return "Bern lies there."


def test_all_maps_of_the_stages_have_the_processes_that_the_caller_names(maps: list[tuple[str, Any]]) -> None:
    rows = [
        {"id": f"q{n}", "question": f"{n}*3?", "answers": str(3 * n), "solution": f"{n}*3={3 * n}"} for n in range(4, 9)
    ]
    questions = make_questions(rows, task="math", id="id", solution="solution", dataset="d")
    maps.clear()
    two: dict[str, Any] = {"num_proc": 2}
    answered = answer(questions, quiet({"": "It is 0."}), **two)
    graded = grade(answered, **two)
    need = counterfactual(
        answered,
        quiet({"4*3": "calculator(4*3)", "5*3": "calculator(5*3)", "": "no"}, temperature=1.0),
        samples=4,
        **two,
    )
    labelled = propose_calls(
        graded, quiet({"4*3": "calculator(4*3)", "5*3": "calculator(5*3)", "": "no"}), attempts=2, **two
    )
    propose_calls(graded, ANNOTATIONS, **two)
    write_calls(labelled, **two)
    build_stage1(labelled, quiet({"": "no"}), attempts=1, **two)
    stage1 = build_stage1(labelled, [quiet({"": "no"}), ANNOTATIONS], **two)
    build_stage1(graded, ANNOTATIONS, need=need, unsure="drop", **two)
    candidates = respond(stage1, [Responder("a", quiet({"4*3": "", "": "It is 0."}))], **two)
    score(execute(candidates, compat=True, **two), compat=True, **two)
    stage2 = build_stage2(candidates, **two)
    rescore(stage2, "paper", **two)
    build_stage2(candidates, cassette=collect_executions([stage2]), **two)
    without_tool(stage1, kind="other_tools", **two)
    evaluate(quiet({"": "calculator(4*3)"}), questions, **two)
    logprobs = [
        {"id": str(n), "scores": [1.0, 0.0], "logprobs": [-1.0, -n], "logprob_tokens": [1, 1]} for n in range(3)
    ]
    drop_learnt(rank_agreement(Dataset.from_list(logprobs), **two), **two)
    tool = Tool("WikiSearch", "Searches.", find)
    task = replace(TASKS["qa"], name="mine", tool=tool, reader=quiet({"": "Bern"}))
    facts = make_questions([{"question": f"{n}?", "answers": "Bern"} for n in range(3)], task=task)
    known = grade(answer(facts, quiet({"": "No."}), **two), **two)
    found = build_stage1(known, quiet({"": "WikiSearch(capital)"}), attempts=1, **two)
    read = build_stage2(respond(found, [], **two), **two)
    build_stage2(respond(found, [], **two), cassette=collect_executions([read]), **two)
    without = [name for name, num_proc in maps if num_proc != 2]
    assert without == []
    names = {name.removeprefix("toolrlef_data.").split(":")[0] for name, _ in maps}
    stages = {
        "answer",
        "graded",
        "respond",
        "execute",
        "read",
        "replay readings",
        "stage2",
        "score",
        "rescore",
        "stage1",
    }
    stages |= {"build_stage1", "propose_calls", "verify_calls", "no_label", "label by need", "need", "counterfactual"}
    stages |= {
        "with the tool",
        "without the tool",
        "questions",
        "offered",
        "rank_agreement",
        "drop_learnt",
        "without_tool",
    }
    assert stages - names == set()
