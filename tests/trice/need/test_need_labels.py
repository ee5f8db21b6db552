"""`build_stage1(need=...)`: the class of a question decides on its target, and the ledger has what left."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import Dataset, DatasetDict, load_dataset

from toolrlef_data import (
    ANNOTATIONS,
    InputError,
    Responder,
    answer,
    build_stage1,
    build_stage2,
    counterfactual,
    grade,
    ledger,
    lineage,
    load_source,
    make_questions,
    publish,
    rescore,
    respond,
    scripted,
)
from toolrlef_data.columns import NEED, QUESTIONS
from toolrlef_data.records import UnknownName
from toolrlef_data.trice.need.labels import MEASURED

CLASSES = ("needs_tool", "indifferent", "harmed", "hopeless", "unsure")


def graded(right: bool | None = True, reply: str = "The answer is {}.", compat: bool = False) -> Dataset:
    """Return one graded question per class, with the class as its id; with None, an empty reply is not graded."""
    text = "" if right is None else reply.format(42 if right else 41)
    rows = [{"id": name, "q": f"{name}: what is 6 times 7?", "a": "42", "s": "<<6*7=42>>"} for name in CLASSES]
    questions = make_questions(rows, task="math", question="q", answers="a", id="id", solution="s")
    return grade(answer(questions, scripted({"": text}, progress=False)), compat=compat)


def need_table(*ids: str, **changes: Any) -> Dataset:
    rows = [
        {**dict.fromkeys(NEED), "id": name, "task": "math", "dataset": "mine", "need": name, "model": "m", "n_plain": 8, "n_tool": 8,
         "p_plain": 0.9 if name in ("indifferent", "harmed") else 0.1, "p_tool": 0.9, **changes}
        for name in ids or CLASSES
    ]  # fmt: skip
    return Dataset.from_list(rows, features=NEED)


@pytest.mark.parametrize("right", [True, False, None])
def test_the_class_decides_whatever_the_grade(right: bool | None) -> None:
    stage1 = build_stage1(graded(right), ANNOTATIONS, need=need_table())
    calls = dict(zip(stage1["id"], stage1["uses_tool"], strict=True))
    own = {"indifferent": False, "harmed": False} if right else {}
    assert calls == {"needs_tool": True, "hopeless": True, **own}
    reasons = {row["id"]: (row["stage"], row["reason"], row["detail"]) for row in ledger([stage1])}
    assert reasons["unsure"] == ("need", "need_unsure", "right in 1 of 8 without the tool, in 7 of 8 with it")
    assert (reasons.get("harmed", ("", ""))[1] == "no_right_answer") is (right is not True)
    assert len(stage1) + len(reasons) == len(CLASSES)


def test_no_harmed_row_becomes_a_call_target() -> None:
    need = need_table(*CLASSES, need="harmed")
    for right in (True, False):
        for unsure in ("drop", "call", "grade"):
            stage1 = build_stage1(graded(right), ANNOTATIONS, need=need, unsure=unsure, hopeless=unsure)
            assert stage1["uses_tool"][:] == [False] * len(CLASSES) * right


@pytest.mark.parametrize("compat", [False, True])
def test_no_response_with_a_call_is_a_target_where_the_tool_harms(compat: bool) -> None:
    table = graded(reply="calculator(6*7) = {0}. The answer is {0}.", compat=True)  # grades it as right
    assert table["correct"][:] == [True] * len(CLASSES)
    stage1 = build_stage1(table, ANNOTATIONS, need=need_table(*CLASSES, need="harmed"), compat=compat)
    assert (len(stage1), ledger([stage1])["reason"][:]) == (0, ["target_calls"] * len(CLASSES))


def test_stage1_has_the_lineage_of_the_measurement() -> None:
    questions = load_source("sample", split="train").select_columns(list(QUESTIONS))
    spec = scripted({"": "It is 54."}, temperature=1.0, progress=False)
    answered = answer(questions, spec, samples=4)
    need = counterfactual(answered, spec, samples=4)  # its further columns do not end the lineage
    for table in (need, need.select(range(len(need) - 1, -1, -1))):  # the second one is the user's own table
        stage1 = build_stage1(grade(answered), ANNOTATIONS, need=table)
        records = {record["fingerprint"]: record for record in lineage(stage1)}
        missing = {parent for record in records.values() for parent in record["inputs"]} - records.keys()
        assert ("respond: forced" in [record["step"] for record in records.values()]) is (table is need)
        assert len(missing) == (table is not need)


def test_equal_ids_of_another_data_set_are_other_questions() -> None:
    with pytest.raises(InputError, match="lacks the question 'needs_tool' of the task 'math' and the data set 'mine'"):
        build_stage1(graded(), ANNOTATIONS, need=need_table(dataset="other"))


@pytest.mark.parametrize(
    ("choice", "right", "uses_tool"),
    [("call", True, True), ("grade", True, False), ("grade", False, True), ("drop", True, None)],
)
def test_settings_of_the_other_classes(choice: str, right: bool, uses_tool: bool | None) -> None:
    stage1 = build_stage1(graded(right), ANNOTATIONS, need=need_table(), unsure=choice, hopeless=choice)
    calls = dict(zip(stage1["id"], stage1["uses_tool"], strict=True))
    assert {calls.get("unsure"), calls.get("hopeless")} == {uses_tool}


def test_the_values_are_published_with_every_decision(tmp_path: Any) -> None:
    need = need_table()
    stage1 = build_stage1(graded(), ANNOTATIONS, need=need.select(range(4, -1, -1)))  # in another order
    responders = [Responder(name, scripted({"": f"It is {n}."}, progress=False)) for n, name in ((42, "b"), (41, "c"))]
    stage2 = build_stage2(respond(stage1, responders), rule="cost")
    folder = publish({"math": {"need": need, "stage1": stage1, "stage2": stage2}}, tmp_path / "out", version="1.0.0")
    expected = {row["id"]: {name: row[name] for name in MEASURED} for row in need}
    for config in ("need", "stage1", "stage2"):
        for row in load_dataset(str(folder), f"math-{config}", split="train"):
            assert {name: row[name] for name in MEASURED} == expected[row["id"]]
    scores = {row["id"]: dict(zip(row["origin"], row["scores"], strict=True)) for row in stage2}
    assert scores["needs_tool"] == {"gold": 20.0, "b": 15.0, "c": 5.0}
    assert scores["indifferent"] == {"gold": 20.0, "b": 20.0, "c": 10.0}
    card = (folder / "README.md").read_text()
    assert "even by chance" not in card
    assert "| math-need | m | 5 | 1 | 1 | 1 | 1 | 1 | 42.5 % | 87.5 % |" in card


def test_a_rule_reads_no_other_column_of_that_name() -> None:
    stage1 = build_stage1(graded().add_column("p_plain", ["high"] * len(CLASSES)), ANNOTATIONS)
    stage2 = build_stage2(respond(stage1.remove_columns("p_plain"), []), rule="cost")
    with pytest.raises(InputError, match=r"a scoring rule needs the column p_plain as Value.'float64'.*found .*string"):
        build_stage2(respond(stage1, []), rule="cost")
    with pytest.raises(InputError, match="a scoring rule needs the column p_plain"):
        rescore(stage2.add_column("p_plain", ["high"] * len(stage2)), rule="cost")


def test_splits_share_one_table() -> None:
    table = graded()
    splits = DatasetDict(train=table.select(range(2)), test=table.select(range(2, 5)))
    stage1 = build_stage1(splits, ANNOTATIONS, need=need_table())
    assert {split: data["id"][:] for split, data in stage1.items()} == {
        "train": ["needs_tool", "indifferent"], "test": ["harmed", "hopeless"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("need", "options", "error", "words"),
    [
        (need_table("harmed"), {}, InputError, "lacks the question 'needs_tool'"),
        (need_table(*CLASSES, "harmed"), {}, InputError, "twice"),
        (need_table(need="often"), {}, UnknownName, "often"),
        (need_table(), {"unsure": "keep"}, UnknownName, "unsure"),
        (need_table(), {"hopeless": None}, UnknownName, "hopeless"),
        ({"harmed": True}, {}, InputError, "found a dict"),
        (need_table().remove_columns("p_tool"), {}, InputError, "p_tool"),
    ],
)
def test_a_wrong_need_is_an_error(need: Any, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        build_stage1(graded(), ANNOTATIONS, need=need, **options)


def test_a_table_with_such_columns_is_refused() -> None:
    with pytest.raises(InputError, match="already has the columns model"):
        build_stage1(graded().add_column("model", ["m"] * len(CLASSES)), ANNOTATIONS, need=need_table())
