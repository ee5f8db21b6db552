"""Audits of graders: their error rates, and errors that they find."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from toolrlef_data import InputError, audit_grader, load_source
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.audit import _wrong_answers


@pytest.mark.parametrize("name", ["qa", "lama", "mlqa"])
def test_the_default_rule_has_no_false_pass(name: str) -> None:
    rows = load_source(f"sample_{name}", split="train").to_list()
    for seed in range(3):
        audit = audit_grader(TASKS[name], rows, seed=seed)
        assert audit.probes >= 1000
        assert audit.false_pass == 0, audit.errors
        assert audit.false_fail <= 0.01, audit.errors
        assert len(audit.kinds) == 14
        assert sum(counts.probes for counts in audit.kinds.values()) == audit.probes


@pytest.mark.parametrize("name", ["qa", "retrieval", "lama", "mlqa", "math"])
def test_a_few_rows_suffice_and_the_seed_determines_the_result(name: str) -> None:
    gold = "84" if TASKS[name].numeric else "Turin"
    rows = [{"question": "What is it?", "context": "", "answers": [gold]}]
    audit = audit_grader(TASKS[name], rows)
    assert audit == audit_grader(TASKS[name], rows)
    assert audit != audit_grader(TASKS[name], rows, seed=1)
    assert audit.probes >= 1000


def test_errors_of_a_grader_are_counted_by_kind() -> None:
    rows = load_source("sample_qa", split="train").to_list()
    paper = audit_grader(TASKS["qa"].with_rule("paper"), rows)
    assert paper.false_pass > 0.5
    for kind in ("list", "negation", "alternatives", "question"):
        assert paper.kinds[kind].passed == paper.kinds[kind].probes > 0
    assert paper.kinds["empty"].passed == 0
    golds = {gold for row in rows for gold in row["answers"]}
    texts = [(text, gold) for kind in ("negation", "question") for text, gold in paper.errors[kind]]
    assert len(texts) == 10
    assert all(gold in golds and gold in text != gold for text, gold in texts)
    refuses = audit_grader(replace(TASKS["qa"], grade=lambda prediction, answers: False), rows)
    assert (refuses.false_pass, refuses.false_fail) == (0, 1)
    unsure = audit_grader(replace(TASKS["qa"], grade=lambda prediction, answers: None), rows)
    assert (unsure.false_pass, unsure.false_fail) == (0, 1)
    assert all(counts.unsure == counts.probes for counts in unsure.kinds.values())
    right = {kind for kind, counts in unsure.kinds.items() if counts.is_right}
    assert set(unsure.errors) == right, "to be unsure of a wrong answer is no error"


@pytest.mark.parametrize("row", [{"question": "Which city?"}, {"question": "Which city?", "context": "It is Turin."}])
def test_the_grader_sees_the_row_and_its_echoes(row: dict[str, str]) -> None:
    seen, texts = set(), set()

    def grade(prediction: str | None, answers: list[str], *, question: str, context: str) -> bool:
        seen.add((question, context))
        texts.add(prediction)
        return False

    task = replace(TASKS["qa"], extract=lambda text: text, grade=grade)
    audit_grader(task, [{**row, "answers": ["Turin"]}])
    assert seen == {("Which city?", row.get("context", ""))}
    assert ("It is Turin." in texts and "Context: It is Turin.\nQuestion: Which city?" in texts) == ("context" in row)
    assert not any(text and text.startswith("Context: \n") for text in texts), "an echo of a context that is missing"


@pytest.mark.parametrize("answers", [[], [""], ["?"], ["yes"], ["x" * 100]])
def test_rows_without_a_usable_gold_answer_are_refused(answers: list[str]) -> None:
    with pytest.raises(InputError, match="audit_grader: no row has a gold answer that the task 'qa' can grade"):
        audit_grader(TASKS["qa"], [{"question": "What?", "answers": answers}])


def test_another_task_or_number_of_probes_is_an_input_error() -> None:
    rows = [{"question": "Which city?", "answers": ["Oslo"]}]
    with pytest.raises(InputError, match=r"expected a Task.*found str"):
        audit_grader("qa", rows)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="probes must be an integer of at least 1, found 0"):
        audit_grader(TASKS["qa"], rows, probes=0)


def test_an_answer_that_contains_the_gold_one_is_no_wrong_answer() -> None:
    others = ["Paris", "Royal Old Paris", "Oslo"]
    assert _wrong_answers(["Old Paris"], others, Random(0)) == ["Oslo"]
