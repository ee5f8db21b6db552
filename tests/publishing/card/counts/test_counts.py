"""Counts are sums: those of a table are the sum of those of its shards, in any order and number."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from datasets import Dataset, Features, List, Value

from tests.support.card_tables import responded_rows, stage1_row, stage1_rows, stage2_rows
from toolrlef_data.columns import PAIRS, RESPONSE, STAGE1
from toolrlef_data.publishing.card.counts import counting, summaries
from toolrlef_data.publishing.card.counts.counting import counts_of
from toolrlef_data.publishing.card.counts.keys import add, group
from toolrlef_data.publishing.card.counts.questions import repeated_questions

TABLES = {"stage1": stage1_rows, "stage2": stage2_rows, "responded": responded_rows}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("shards", [3, 64])
def test_the_counts_of_shards_add_up_to_those_of_the_table(name: str, shards: int) -> None:
    table = TABLES[name](64)
    parts = [counts_of(table.shard(shards, i)) for i in range(shards)]
    random.Random(shards).shuffle(parts)
    assert add(parts) == counts_of(table)
    assert all(isinstance(number, int) for number in counts_of(table).values()), "sums of floats depend on the order"


def test_summaries_do_not_depend_on_the_order_of_the_rows() -> None:
    """The first row decides nothing: neither the order of responders nor that of texts."""
    table = stage2_rows(40)
    forward, backward = (counts_of(table.select(order)) for order in (range(40), range(39, -1, -1)))
    for summary in (summaries.length_table, summaries.logprob_table, summaries.tool_rate_groups, summaries.rankings):
        assert summary(forward) == summary(backward)
        assert [*map(str, summary(forward))] == [*map(str, summary(backward))]
    (first, second) = (summaries.score_table(counts, {}) for counts in (forward, backward))
    assert first == second


def test_the_size_of_a_batch_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    table = stage2_rows(20)
    expected = counts_of(table)
    monkeypatch.setattr(counting, "BATCH_ROWS", 3)
    assert counts_of(table) == expected


TEXTS = {
    "mail to ann.b+c@mail.example.org, please": "e-mail address",
    "see HTTPS://example.com/x?y=1": "link",
    "www.example.com": "link",
    "call (020) 7946 0958": "phone-like number",
    "+41 44 632 11 11": "phone-like number",
    "555-010-1234!": "phone-like number",
    "a@b": "",
    "http:// and www.": "",
    "100-200-300+4000": "",
    "1234567890 people, 12,500,000 in 2001-2002": "",
    "calculator(123-456-7890*2)": "",
    "12/10/2020": "",
}


@pytest.mark.parametrize("text", TEXTS)
def test_patterns_of_personal_data(text: str) -> None:
    counts = counts_of(Dataset.from_list([{"mine": text}, {"mine": "nothing"}]))
    found = {kind for (_, kind), number in group(counts, "pattern").items() if number}
    assert found == ({TEXTS[text]} - {""})


def test_texts_are_searched_in_lists_structs_and_responses_but_not_in_values_of_the_pipeline() -> None:
    mail = "a@b.example"
    response = {**dict.fromkeys(RESPONSE), "text": mail, "raw": mail, "error_detail": mail, "tool_output": mail}
    rows = [{"id": mail, "own": {"parts": [{"x": [mail, "no"]}]}, "small": response}]
    features = Features(id=Value("string"), own={"parts": List({"x": List(Value("string"))})}, small=RESPONSE)
    found = group(counts_of(Dataset.from_list(rows, features=features)), "pattern")
    assert {column: n for (column, kind), n in found.items() if kind == "e-mail address"} == {
        "id": 1,
        "own": 1,
        "small": 2,
    }
    rows = [{**stage1_row(n), "id": mail, "instruction": mail} for n in range(3)]
    stage1 = Dataset.from_list(rows, features=STAGE1)
    assert not +group(counts_of(stage1), "pattern", "id")
    assert not group(counts_of(stage1), "pattern", "instruction"), "a prompt of the task"


def test_messages_are_measured_one_by_one() -> None:
    message = {"role": "user", "content": "two words"}
    row = {
        **dict.fromkeys(PAIRS),
        "prompt": [message, {**message, "content": None}],
        "chosen": [message],
        "rejected": [],
    }
    counts = counts_of(Dataset.from_list([row], features=PAIRS))
    assert group(counts, "words") == Counter({("prompt", 2): 1, ("chosen", 2): 1})


@pytest.mark.parametrize("column", ["origin", "scores", "uses_tool", "responses", "correct", "errors", "logprobs"])
def test_rows_without_a_value_are_counted_without_it(column: str) -> None:
    table = stage2_rows(2)
    rows: list[dict[str, Any]] = table.to_list()
    rows[0][column] = None
    counts = counts_of(Dataset.from_list(rows, features=table.features))
    assert sum(group(counts, "ranking").values()) == 2


def test_repeated_questions_are_counted_over_splits() -> None:
    train = Dataset.from_list([{"input": text} for text in ("Who?", "who", " WHO ?", "When?", "")])
    test = Dataset.from_list([{"input": text} for text in ("when", "Where?", "where")])
    (found,) = repeated_questions(
        {"qa": {"train": train, "test": test}, "none": {"train": train.rename_column("input", "x")}}
    )
    assert found == ("qa", 8, 4, [("train", "test", 1)])


def test_scores_that_are_no_numbers_are_not_counted() -> None:
    row = {"origin": ["a", "b", "c"], "scores": [float("nan"), None, float("inf")], "uses_tool": [True, False, None]}
    features = Features(origin=List(Value("string")), scores=List(Value("float64")), uses_tool=List(Value("bool")))
    counts = counts_of(Dataset.from_list([row], features=features))
    assert not group(counts, "score")
    assert summaries.score_table(counts, {}) == []
