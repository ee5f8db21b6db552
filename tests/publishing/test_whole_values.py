"""Views, targets of trainers, facts about training, and messages of refused arguments, compared as whole values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from toolrlef_data import InputError, publish, push_to_hub, show
from toolrlef_data.columns import RESPONSE, STAGE1, STAGE2
from toolrlef_data.publishing.card import training_facts as training
from toolrlef_data.publishing.card.training_facts import Training
from toolrlef_data.publishing.exports.lengths import Target, targets_of
from toolrlef_data.publishing.viewing import Panel, Sample

# Views of rows --------------------------------------------------------------------------------------------------------


def view(row: dict[str, Any], **features: Any) -> Sample:
    """Return the view of a table with one row; the table has the features of some columns."""
    data = Dataset.from_list([row])
    for name, feature in features.items():
        data = data.cast_column(name, feature)
    (sample,) = show(data).samples
    return sample


def test_a_plain_row() -> None:
    row = {"id": "r1", "task": "qa", "dataset": "x", "question": "Who?", "context": "Ann.", "answers": ["Ann", "Bo"], "n": 0.5, "tags": ["a", 1.0]}  # fmt: skip
    row["tags"] = ["a", "b"]
    assert view(row) == Sample(
        "r1 (qa, x)", "Ann.\nWho?\nGold: Ann | Bo", [Panel("row", {"n": "0.5", "tags": '["a", "b"]'})]
    )
    assert view({"id": 7, "query": "q", "question": ""}) == Sample("7", "q", [Panel("row", {})])
    (sample,) = show(
        DatasetDict(test=Dataset.from_list([{"id": "a", "task": "t", "input": "i", "question": "no"}]))
    ).samples
    assert (sample.title, sample.question) == ("test: a (t)", "i")


def test_a_row_of_responses() -> None:
    empty = dict.fromkeys(RESPONSE)
    called = {**empty, "text": "calculator(1+1)", "tool": "calculator", "argument": "1+1", "tool_output": "2", "n_calls": 1, "correct": True, "predictions": ["2", "3"]}  # fmt: skip
    failed = {**empty, "text": "x(", "tool": "x", "tool_error": "syntax", "tool_error_detail": "no end", "n_calls": 0}
    lost = {**empty, "error": "timeout"}
    row = {"id": "a", "input": "1+1?", "r1": called, "r2": failed, "r3": lost, "r4": None}
    sample = view(row, **dict.fromkeys(("r1", "r2", "r3", "r4"), RESPONSE))
    assert sample.panels == [
        Panel("r1", {"grade": "correct", "call": "calculator(1+1)", "result": "2", "prediction": "2 | 3", "response": "calculator(1+1)"}),
        Panel("r2", {"grade": "not graded", "call": "x(...)", "error": "syntax: no end", "response": "x("}),
        Panel("r3", {"error": "timeout"}),
        Panel("r4", {"response": "(none)"}),
    ]  # fmt: skip


def stage2_row() -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(STAGE2)
    return row | {
        "id": "a", "task": "math", "dataset": "d", "instruction": "Add.", "input": "1+1?", "answers": ["2"], "origin": ["gold", "one", "two"],
        "responses": ["So calculator(1+1).", "3", "Search(x)"], "scores": [20.0, 1.5, 0.0], "uses_tool": [True, False, True],
        "tool_outputs": ["2", None, None], "errors": [None, None, "syntax"], "error_details": [None, None, "at 3"],
        "answer": ["2", "3", None], "correct": [True, False, None],
    }  # fmt: skip


def test_a_row_of_stage2() -> None:
    (sample,) = show(Dataset.from_list([stage2_row()], features=STAGE2)).samples
    panels = [
        Panel("gold", {"score": "20", "grade": "correct", "call": "calculator(1+1)", "result": "2", "prediction": "2", "response": "So calculator(1+1)."}),
        Panel("one", {"score": "1.5", "grade": "wrong", "prediction": "3", "response": "3"}),
        Panel("two", {"score": "0", "grade": "not graded", "call": "yes", "error": "syntax: at 3", "response": "Search(x)"}),
    ]  # fmt: skip
    assert sample == Sample("a (math, d)", "1+1?\nGold: 2", panels)
    older = {name: value for name, value in stage2_row().items() if name not in ("correct", "error_details")}
    assert [panel.facts.get("grade") for panel in view(older).panels] == [None] * 3
    assert view(older).panels[2].facts["error"] == "syntax"
    own = view({**older, "task": "own"})
    assert [panel.facts.get("call") for panel in own.panels] == ["yes", None, "yes"]
    page = show(
        Dataset.from_list([{**stage2_row(), "origin": ["<gold>", "one", "two"]}], features=STAGE2)
    )._repr_html_()
    cells = [cell.partition(">")[2] for cell in page.replace("</th>", "\n").replace("</td>", "\n").split("\n") if cell.startswith(("<th", "<tr", "<td"))]  # fmt: skip
    labels = ["score", "grade", "call", "result", "error", "prediction", "response"]
    assert [cell.rpartition(">")[2] for cell in cells if cell.rpartition(">")[2] in labels] == labels, (
        "one order for all"
    )
    assert "&lt;gold&gt;" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "show: expected a Dataset or a DatasetDict, found list"),
        ((Dataset.from_list([{"a": 1}]), 0), "n: expected a number of rows of at least 1, found 0"),
        ((Dataset.from_list([{"a": 1}]), "3"), "n: expected a number of rows of at least 1, found '3'"),
    ],
)
def test_arguments_that_show_refuses(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError) as caught:
        show(*arguments)
    assert str(caught.value) == message
    with pytest.raises(InputError) as caught:
        show(Dataset.from_list([{"a": 1}]), where=3)  # type: ignore[arg-type]
    assert str(caught.value) == "where: expected columns with their values, or a function of a row, found 3"


# Targets of trainers --------------------------------------------------------------------------------------------------

USER, FIRST, LAST = (
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": "a"},
    {"role": "assistant", "content": "b"},
)
TOOLS = [{"type": "function", "function": {"name": "f"}}]
CALL = {"name": "f", "arguments": {}}
CALLED = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": CALL}]}


@pytest.mark.parametrize(
    ("record", "targets"),
    [
        ({"messages": [USER, {**FIRST, "train": True}, USER, {**LAST, "weight": 0}]}, [([USER], [{**FIRST, "train": True}], [])]),
        ({"messages": [USER, {**FIRST, "weight": 1}], "tools": TOOLS}, [([USER], [{**FIRST, "weight": 1}], TOOLS)]),
        ({"input": {"messages": [USER], "tools": TOOLS}, "preferred_output": [FIRST], "non_preferred_output": [LAST]}, [([USER], [FIRST], TOOLS), ([USER], [LAST], TOOLS)]),
        ({"input": {"messages": [USER]}, "preferred_output": [FIRST]}, [([USER], [FIRST], [])]),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "tools": json.dumps(TOOLS)}, [([USER], [FIRST], TOOLS)]),
        (
            {"conversations": [{"from": "human", "value": "q"}], "system": "s", "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "function_call", "value": json.dumps(CALL)}},
            [([{"role": "system", "content": "s"}, USER], [FIRST], []), ([{"role": "system", "content": "s"}, USER], [CALLED], [])],
        ),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": json.dumps([CALL])}, {"from": "observation", "value": "o"}]}, [([USER, CALLED], [{"role": "tool", "content": "o"}], [])]),
        ({"instruction": "i", "input": "q", "output": "a"}, [([{"role": "user", "content": "i\nq"}], [FIRST], [])]),
        ({"instruction": "i", "input": "", "chosen": "a", "rejected": "b"}, [([{"role": "user", "content": "i"}], [reply], []) for reply in (FIRST, LAST)]),
        ({"prompt": "p", "completion": "a"}, [("p", "a", [])]),
        ({"prompt": [USER], "chosen": [FIRST], "rejected": [LAST], "tools": TOOLS}, [([USER], [FIRST], TOOLS), ([USER], [LAST], TOOLS)]),
        ({"query": "p", "responses": ["a", "b"]}, [("p", "a", []), ("p", "b", [])]),
        ({"prompt": "p", "reference": "a"}, [("p", "a", [])]),
        ({"prompt": "p"}, [("p", "", [])]),
        ({"prompt": [USER], "tools": TOOLS}, [([USER], [], TOOLS)]),
    ],
)  # fmt: skip
def test_targets_of_a_record(record: dict[str, Any], targets: list[tuple[Any, ...]]) -> None:
    assert list(targets_of(record)) == [Target(*target) for target in targets]


# Facts about training -------------------------------------------------------------------------------------------------


def stage1_table(*tasks: str, **changes: Any) -> dict[str, Dataset]:
    row: dict[str, Any] = dict.fromkeys(STAGE1) | {
        "id": "a",
        "instruction": "Add.",
        "input": "1+1",
        "output": "2",
        "answers": ["2"],
    }
    return {"train": Dataset.from_list([{**row, **changes, "task": task} for task in tasks], features=STAGE1)}


def test_facts_about_training_of_stage1() -> None:
    """A record is counted in bytes as JSON; for a reward, a right reply."""
    splits: dict[str, Any] = {
        "math-stage1": stage1_table("math"),
        "both-stage1": stage1_table("math", "math", output="zwölf"),
        "own-stage1": stage1_table("math", "own"),
        "math-questions": {"train": Dataset.from_list([{"id": "a", "question": "?"}])},
    }
    mixes = {
        "mix-stage1": {"test": ["math-stage1"], "train": ["both-stage1", "math-stage1"]},
        "mix-own": {"train": ["math-stage1", "own-stage1"]},
    }
    facts = {(fact.config, fact.format): fact for fact in training.training_facts(splits, {}, mixes=mixes)}
    texts = {name: facts[name, "trl"].max_length for name in ("math-stage1", "both-stage1", "own-stage1")}
    assert texts["both-stage1"] == texts["math-stage1"] + len("zwölf".encode()) - 1
    assert list(facts.values()) == [
        Training("math-stage1", "train", "trl", "SFT", (), 1, 0, texts["math-stage1"]),
        Training("math-stage1", "train", "trl_grpo", "GRPO", ("math",), 1, 0, 1),
        Training("both-stage1", "train", "trl", "SFT", (), 2, 0, texts["both-stage1"]),
        Training("both-stage1", "train", "trl_grpo", "GRPO", ("math",), 2, 0, 6),
        Training("own-stage1", "train", "trl", "SFT", (), 2, 0, texts["own-stage1"]),
        Training("mix-stage1", "test", "trl_grpo", "GRPO", ("math",), 3, 0, 6),
    ]


@pytest.mark.parametrize(
    ("row", "replies"),
    [
        ({"output": "a"}, ["a"]), ({"output": ""}, []), ({"output": None}, []), ({"responses": None, "correct": None}, []),
        ({"responses": ["a", "b", "c", ""], "correct": [True, False, None, True], "output": "z"}, ["a"]),
    ],
)  # fmt: skip
def test_right_replies(row: dict[str, Any], replies: list[str]) -> None:
    assert training._right_replies(row) == replies
    assert training._length({"replies": replies}, None) == max(map(len, replies), default=0)


def test_kinds_of_tables() -> None:
    stage2 = {"train": Dataset.from_list([stage2_row()], features=STAGE2)}
    kinds = [
        training._kind_of(tables)
        for tables in (stage1_table("math"), stage2, {**stage1_table("math"), "test": stage2["train"]})
    ]
    assert kinds == ["stage1", "stage2", ""]
    responded = stage1_table("math")["train"].add_column("one", [dict.fromkeys(RESPONSE)]).cast_column("one", RESPONSE)
    assert training._kind_of({"train": responded}) == ""
    assert training._kind_of({"train": stage1_table("math")["train"].remove_columns("answers")}) == ""


# Refused arguments ----------------------------------------------------------------------------------------------------


def test_arguments_that_publish_and_push_refuse(tmp_path: Path) -> None:
    table = Dataset.from_list([{"id": "1", "question": "1 + 1?"}])
    tables: dict[str, Any] = {"math": {"questions": table}}
    refused: list[tuple[dict[str, Any], str]] = [
        ({"card": 3}, "card= must be a Mapping, found 3"),
        ({"card": {3: "x"}}, "card= must have texts as keys, found 3"),
        ({"card": {"licence": "mit"}}, "card= has the unknown key 'licence': did you mean 'license'?"),
        ({"card": {"license_name": "mine", "Tag": ["x"]}}, "card= has the unknown key 'Tag': did you mean 'tags'?"),
        ({"recipe": {}}, "recipe= must be a RecipeFile, found {}"),
        ({"provenance": []}, "provenance= must be a Mapping, found []"),
        ({"cassette": None}, "cassette= must be a bool, found None"),
        ({"replace": 1}, "replace= must be a bool, found 1"),
        ({"dropped": [table]}, "dropped= expects one Dataset, found a list"),
        ({"dropped": table}, "dropped= lacks task, dataset, stage, reason, detail; found id, question"),
    ]
    for options, message in refused:
        with pytest.raises(InputError) as caught:
            publish(tables, tmp_path / "out", version="1.0.0", **options)
        assert str(caught.value) == message
    with pytest.raises(InputError) as caught:
        publish({"math": {"cassette": table}}, tmp_path / "out", version="1.0.0", cassette=True)
    assert str(caught.value) == "the table name 'cassette' of 'math' is reserved for tool executions: rename the table"
    assert not (tmp_path / "out").exists()
    out = publish(tables, tmp_path / "out", version="1.0.0")
    pushed: list[tuple[Any, dict[str, Any], str]] = [
        (out, {"create_pr": True, "branch": "b"}, "create_pr=True and branch= are mutually exclusive: use one of them"),
        (out, {"version": "1.0.1"}, f"{out} has the version 1.0.0, not 1.0.1: publish it again"),
        (tables, {}, "tables need a version: pass version=, such as version='1.0.0'"),
    ]
    for what, options, message in pushed:
        with pytest.raises(InputError) as caught:
            push_to_hub(what, "org/name", **options)
        assert str(caught.value) == message
