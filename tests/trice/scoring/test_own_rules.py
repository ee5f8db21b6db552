"""Rules of a user's own: what they read and return, errors before anything is scored, and scores without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, load_dataset

from tests.support.caches import use_caches
from toolrlef_data import (
    ANNOTATIONS,
    RULES,
    TASKS,
    Candidate,
    InputError,
    Responder,
    Score,
    Tool,
    answer,
    build_stage1,
    build_stage2,
    execute,
    grade,
    lineage,
    load_source,
    publish,
    rescore,
    respond,
    score,
    scripted,
)
from toolrlef_data.columns import STAGE2

Row = Sequence[Candidate]
REPLIES = {"right": "calculator(6*7)", "far": "The answer is 1/2.", "near": "It is 41.", "none": "calculator(1/0)"}


@pytest.fixture(scope="module")
def responded(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A table in memory with responses that are not executed."""
    with use_caches(tmp_path_factory.mktemp("caches")):
        questions = load_source("sample", split="train").select(range(3))
        graded = grade(answer(questions, scripted({"": "It is 0."}, progress=False)))
        responders = [Responder(name, scripted({"": reply}, progress=False)) for name, reply in REPLIES.items()]
        data = respond(build_stage1(graded, ANNOTATIONS), responders)
        return Dataset.from_list(data.to_list(), features=data.features)


@pytest.fixture(scope="module")
def executed(responded: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    with use_caches(tmp_path_factory.mktemp("caches")):
        data = execute(responded)
        return Dataset.from_list(data.to_list(), features=data.features)


def by_attribute(candidates: Row) -> list[float]:
    return [2.0 * bool(c.correct) - (c.distance or 0) / 1e6 - (c.error is not None) for c in candidates]


def by_key(candidates: Sequence[Mapping[str, Any]]) -> list[float]:
    return [2.0 * bool(c["correct"]) - (c.get("distance") or 0) / 1e6 - (c["error"] is not None) for c in candidates]


def test_a_record_is_read_by_attribute_and_by_key(executed: Dataset) -> None:
    table = executed
    expected = score(table, rule=by_attribute)
    assert score(table, rule=by_key)["scores"][:] == expected["scores"][:]
    assert all(row[4] <= -1 for row in expected["scores"]), "the failed call has its error"
    assert expected["rule"][0] == "by_attribute"


def test_a_rule_sees_all_fields(executed: Dataset) -> None:
    seen: list[Candidate] = []

    def look(candidates: Row) -> list[int]:
        seen[:] = candidates
        return [0] * len(candidates)

    score(executed, rule=look)
    assert [c.name for c in seen] == ["gold", *REPLIES]
    assert [c.tool for c in seen] == ["calculator", "calculator", None, None, "calculator"]
    assert [c.uses_tool for c in seen] == [True, True, False, False, True]
    assert [c.error for c in seen] == [None, None, None, None, "zero_division"]
    assert {c.finish_reason for c in seen[1:]} == {"stop"}
    assert [c.prediction for c in seen[3:]] == ["41", None]
    fields = [
        "name",
        "prediction",
        "correct",
        "uses_tool",
        "tool",
        "distance",
        "error",
        "finish_reason",
        "p_plain",
        "p_tool",
    ]
    assert list(seen[0]) == fields
    with pytest.raises(KeyError, match="choose from"):
        seen[0]["predicton"]


def test_a_rule_gets_the_keywords_that_it_names(executed: Dataset) -> None:
    def with_options(candidates: Row, *, numeric: bool, trusted: tuple[str, ...], bonus: float = 0) -> Any:
        return np.array([bonus + numeric + (c.name in trusted) for c in candidates], dtype="float32")

    def with_any(candidates: Row, **keywords: Any) -> list[Score]:
        return [Score(c.name, len(keywords), "seen") for c in candidates]

    table = executed
    scored = score(table, rule=with_options, trusted=["near"], bonus=0.5)
    assert scored["scores"][0] == [1.5, 1.5, 1.5, 2.5, 1.5]
    assert score(table, rule=with_any, bonus=1)["scores"][0] == [3.0] * 5
    with pytest.raises(InputError, match="unknown option of the rule with_options: 'bonnus'"):
        score(table, rule=with_options, bonnus=1)


@pytest.mark.parametrize("name", ["trice", "paper"])
def test_shipped_rules_take_dicts_with_fields_left_out(name: str) -> None:
    row = [{"name": "gold", "uses_tool": True}, {"name": "a", "correct": True, "uses_tool": True}, {"name": "b"}]
    assert RULES[name](row, numeric=True)[0] == Score("gold", 20, "gold")
    with pytest.raises(InputError, match="needs the name"):
        RULES[name]([{"correct": True}], numeric=True)


def no_arguments() -> list[float]:
    return []


def never(argument: str) -> str:
    raise AssertionError(f"the call of {argument} is executed")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda candidates: [1.0], "returned for an example row 1 scores; expected a list of 5"),
        (lambda candidates: [float("nan")] * len(candidates), "the score nan of 'gold'"),
        (lambda candidates: [c.correct for c in candidates], "the score None of"),
        (lambda candidates: ["1"] * len(candidates), "the score '1' of 'gold'"),
        (lambda candidates: None, "returned for an example row NoneType"),
        (lambda candidates: [c.corect for c in candidates], "AttributeError.*corect"),
        (no_arguments, "rule\\(candidates, numeric"),
        (lambda candidates: [Score(c.name, 1, "") for c in reversed(candidates)], "instead of that of 'gold'"),
        ("tricee", "unknown scoring rule"),
        (5, "a name or a scoring function"),
    ],
)
def test_an_unusable_rule_is_refused_before_a_call_is_executed(
    rule: Any, message: str, responded: Dataset, executed: Dataset
) -> None:
    task = replace(TASKS["math"], tool=Tool("calculator", "", never))
    with pytest.raises(InputError, match=message):
        build_stage2(responded, rule=rule, task=task)
    with pytest.raises(InputError, match=message):
        rescore(score(executed), rule)


def test_a_score_of_one_row_that_is_no_number_names_the_row(executed: Dataset) -> None:
    def divide(candidates: Row) -> list[float]:
        return [float("nan") if c.name == "near" and c.prediction == "41" else 1.0 for c in candidates]

    with pytest.raises(InputError, match=r"returned for the row '.+' the score nan of 'near'"):
        score(executed, rule=divide)


@pytest.mark.parametrize("options", [{}, {"ties": "share"}, {"missing": "wrong"}, {"trusted": ["near"]}])
@pytest.mark.parametrize("name", ["trice", "paper"])
def test_scores_from_the_evidence_are_those_of_the_build(
    name: str, options: dict[str, Any], tmp_path: Path, executed: Dataset
) -> None:
    if name == "paper" and options.keys() & {"ties", "missing"}:
        options = {}
    built = score(executed, rule=name, **options)
    other = rescore(built, by_attribute)
    assert other["scores"][:] != built["scores"][:]
    again = rescore(other, name, **options)
    assert (again.features, again.to_list()) == (STAGE2, built.to_list())
    assert lineage(again)[-1]["step"] == "rescore"


@pytest.mark.parametrize(
    ("rule", "options"), [("trice", {}), ("trice", {"ties": "share"}), ("paper", {}), (by_attribute, {})]
)
def test_scores_of_a_compat_table_are_those_of_the_build(
    rule: Any, options: dict[str, Any], responded: Dataset
) -> None:
    texts = {"near": "My calculator says 41.", "right": "Calculator(6*7)"}
    changed = responded.map(lambda row: {name: {**row[name], "text": text} for name, text in texts.items()})
    built = build_stage2(changed, rule=rule, compat=True, **options)
    other = rescore(built, lambda candidates: [7.0] * len(candidates))
    assert rescore(other, rule, **options).to_list() == built.to_list(), "the lineage says that it is compat"
    loaded = Dataset.from_list(other.to_list(), features=other.features)
    assert rescore(loaded, rule, compat=True, **options).to_list() == built.to_list()
    if rule == "trice":
        assert rescore(loaded, rule, **options)["scores"][:] != built["scores"][:]


def test_a_table_is_scored_again_after_a_reload_without_a_model(tmp_path: Path, executed: Dataset) -> None:
    built = score(executed)
    publish({"math": {"stage2": built}}, tmp_path / "out", version="1.0.0")
    loaded = load_dataset(str(tmp_path / "out"), "math-stage2", cache_dir=str(tmp_path / "cache"))
    assert isinstance(loaded, DatasetDict)
    again = rescore(loaded, by_attribute)
    assert again["train"]["scores"][:] == score(executed, rule=by_attribute)["scores"][:]
    assert (
        again["train"].remove_columns(["scores", "rule"]).to_list()
        == built.remove_columns(["scores", "rule"]).to_list()
    )


def test_rescoring_is_a_cached_stage(tmp_path: Path, executed: Dataset) -> None:
    calls = tmp_path / "calls"

    def counting(candidates: Row) -> list[float]:
        with open(calls, "a") as file:
            file.write("x")
        return [0.0] * len(candidates)

    built = score(executed)
    sizes: list[int] = []
    for _ in range(2):
        rescore(built, counting)
        sizes.append(calls.stat().st_size)
    assert sizes[1] - sizes[0] == 1, "the second run tries the example row alone"


def test_a_table_without_grades_is_refused(executed: Dataset) -> None:
    with pytest.raises(InputError, match="the evidence of the scores needs the columns correct"):
        rescore(score(executed).remove_columns(["correct"]), "trice")


def test_a_rule_sees_the_measured_need_also_when_it_scores_again(executed: Dataset) -> None:
    values = {"p_plain": 0.25, "p_tool": 1.0}
    measured = executed
    for name, value in values.items():
        measured = measured.add_column(name, [value] * len(executed))

    def by_need(candidates: Row, *, weight: float = 1.0) -> list[float]:
        return [weight * (c.p_tool or 0) - (c.p_plain or 0) if c.p_plain else -1.0 for c in candidates]

    stage2 = score(measured, rule=by_need)
    assert {value for row in stage2["scores"] for value in row} == {0.75}
    assert stage2["p_tool"][:] == [1.0] * len(stage2)
    assert {value for row in rescore(stage2, by_need, weight=2.0)["scores"] for value in row} == {1.75}
    assert {value for row in score(executed, rule=by_need)["scores"] for value in row} == {-1.0}
