"""Audits of graders: their error rates, and errors that they find."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from toolrlef_data import InputError, audit_grader, load_source
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.audit import KindCounts, _probes, _wrong_answers


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
    assert audit == audit_grader(TASKS[name], iter(rows)), "any iterable"
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


@pytest.mark.parametrize(
    "answers", [[], [""], ["?"], ["yes"], ["x" * 61], ["Oslo,"], ["Oslo;"], ["the WHAT!"], ["?", "", "no", "Oslo"]]
)
def test_rows_without_a_usable_gold_answer_are_refused(answers: list[str]) -> None:
    with pytest.raises(InputError, match="audit_grader: no row has a gold answer that the task 'qa' can grade"):
        audit_grader(TASKS["qa"], [{"question": "The what?", "answers": answers}])


@pytest.mark.parametrize("gold", ["x" * 60, ",Oslo", "not Oslo"])
def test_a_gold_answer_at_a_limit_is_used(gold: str) -> None:
    assert audit_grader(
        TASKS["qa"], [{"question": None, "answers": ["", gold, "?", "Rome"]}], probes=1
    ).probes == 13 + (gold == "x" * 60)


def test_another_task_or_number_of_probes_is_an_input_error() -> None:
    rows = [{"question": "Which city?", "answers": ["Oslo"]}]
    with pytest.raises(InputError, match=r"expected a Task.*found str"):
        audit_grader("qa", rows)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="audit_grader: probes must be an integer of at least 1, found 0"):
        audit_grader(TASKS["qa"], rows, probes=0)
    with pytest.raises(InputError, match="audit_grader: seed: expected an integer, found '1'"):
        audit_grader(TASKS["qa"], rows, seed="1")  # type: ignore[arg-type]
    for others in (["Oslo"], [{"question": "Which city?"}], [{"question": "Which city?", "answers": "Oslo"}]):
        with pytest.raises(InputError, match="audit_grader: expected questions with a list of answers each"):
            audit_grader(TASKS["qa"], [*rows, *others])


def test_rows_without_wrong_answers_are_refused() -> None:
    names = ["Lisbon", "Aristotle", "copper", "Ladoga", "Curie", "violin", "Nairobi", "Saturn"]
    with pytest.raises(InputError, match="audit_grader: no row has three wrong answers; add rows"):
        audit_grader(TASKS["qa"], [{"question": "Which?", "answers": names[:6]}])
    assert audit_grader(TASKS["qa"], [{"question": "Which?", "answers": names[:5]}], probes=1).probes == 15


def test_an_answer_that_contains_the_gold_one_is_no_wrong_answer() -> None:
    others = ["Paris", "Royal Old Paris", "Oslo"]
    assert _wrong_answers(["Old Paris"], others, Random(0)) == ["Oslo"]


# Number of different answers of each kind for one gold answer.
IN_WORDS = {"plain": 3, "paraphrase": 10, "contrast": 4, "pair": 2, "form": 3}
WRONG = {"list": 8, "alternatives": 6, "negation": 9, "retraction": 3, "question": 2, "echo": 4, "inside_word": 1}
WRONG |= {"other": 3, "empty": 4}


@pytest.mark.parametrize(
    ("gold", "others", "changes", "forms"),
    [
        ("Oslo", ["Bergen", "Turku", "Malmo"], {}, {"OSLO", "oslo", "\u201cOslo\u201d"}),
        ("Eighteen", ["Bergen", "Turku", "Malmo"], {"form": 4}, {"EIGHTEEN", "eighteen", "\u201cEighteen\u201d", "18"}),
        ("1,234", ["17", "306", "2048"], {"form": 4, "inside_word": 0}, {"1,234", "1234", "1234.0", "$1234"}),
        ("1234", ["17", "306", "2048"], {"form": 4}, {"1234", "1,234", "1234.0", "$1234"}),
        ("0.5", ["17", "306", "2048"], {"form": 1, "inside_word": 0}, {"0.5"}),
        ("007", ["17", "306", "2048"], {"form": 3}, {"007", "007.0", "$007"}),
    ],
)
def test_each_kind_of_answer_is_drawn(gold: str, others: list[str], changes: dict[str, int], forms: set[str]) -> None:
    is_numeric = gold[0].isdigit()
    row = {"question": "What is it?", "context": "A text."}
    draw = Random(0)
    probes = {probe for _ in range(500) for probe in _probes(row, gold, others, draw, is_numeric=is_numeric)}
    right = IN_WORDS | ({"pair": 0, "paraphrase": 8} if is_numeric else {})
    for kinds, is_right in ((right, True), (WRONG, False)):
        counts = Counter(probe.kind for probe in probes if probe.is_right is is_right)
        assert counts == Counter(kinds | {kind: n for kind, n in changes.items() if kind in kinds})
    texts = {kind: {probe.text for probe in probes if probe.kind == kind} for kind in [*right, *WRONG]}
    assert texts["form"] == forms
    assert all(
        gold in text
        for kind in [*right, *WRONG]
        if kind not in ("form", "echo", "other", "empty")
        for text in texts[kind]
    )
    assert texts["echo"] == {
        "What is it?",
        "A text.",
        "Context: A text.\nQuestion: What is it?",
        "The question is: What is it?",
    }
    assert not list(_probes(row, gold, others[:2], draw, is_numeric=is_numeric)), "fewer than three other answers"


def test_the_counts_of_an_audit() -> None:
    rows = [{"question": "Which city?", "context": "It is Turin.", "answers": ["Turin"]}]
    audit = audit_grader(TASKS["qa"].with_rule("paper"), rows, probes=60)
    assert audit == audit_grader(TASKS["qa"].with_rule("paper"), rows, probes=60, seed=0)
    assert (audit.probes, round(audit.false_pass, 4), audit.false_fail) == (60, 0.6944, 0.0)
    passed = {"echo": 1, "empty": 0, "other": 0, "paraphrase": 8}
    right = {"plain", "paraphrase", "contrast", "pair", "form"}
    assert audit.kinds == {
        kind: KindCounts(kind in right, 8 if kind == "paraphrase" else 4, passed.get(kind, 4), 0)
        for kind in [*IN_WORDS, *WRONG]
    }
    assert {kind: len(texts) for kind, texts in audit.errors.items()} == {
        kind: passed.get(kind, 4) for kind in WRONG if passed.get(kind, 4)
    }
