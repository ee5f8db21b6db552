"""Merging: every step is trained once and under its own history, in as few sequences as there can be."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest

from tests.support.answer_trees import searches, table
from toolrlef_data.tables.lineage import ledger
from toolrlef_data.toolbench.histories import HISTORIES
from toolrlef_data.toolbench.merging import merged
from toolrlef_data.toolbench.messages import FLAGS
from toolrlef_data.toolbench.samples import trajectories


def _words(text: str) -> list[dict[str, Any]]:
    return [{"content": word} for word in text.split()]


@pytest.mark.parametrize(
    ("why", "steps", "expected"),
    [
        ("nothing", [], []),
        ("one", ["a b"], ["a b: 1"]),
        ("each begins the next", ["a b", "a b c d", "a b c d e f"], ["a b c d e f: 1 3 5"]),
        ("in whatever order", ["a b c d e f", "a b", "a b c d"], ["a b c d e f: 1 3 5"]),
        ("two ways from one", ["a b", "a b c d", "a b e f"], ["a b c d: 1 3", "a b e f: 3"]),
        ("the first stands in one alone", ["a b e f", "a b c d", "a b"], ["a b e f: 1 3", "a b c d: 3"]),
        ("nothing in common", ["a b", "c d"], ["a b: 1", "c d: 1"]),
        ("the same message under another history", ["a b", "c b"], ["a b: 1", "c b: 1"]),
        ("the beginning of a message is no beginning", ["a b", "a bc d"], ["a b: 1", "a bc d: 2"]),
        ("the same step twice stands in two", ["a b", "a b"], ["a b: 1", "a b: 1"]),
        ("one of them in what follows", ["a b", "a b", "a b c d"], ["a b c d: 1 3", "a b: 1"]),
        ("both, where two follow", ["a b", "a b", "a b c d", "a b e f"], ["a b c d: 1 3", "a b e f: 1 3"]),
    ],
)
def test_sequences(why: str, steps: list[str], expected: list[str]) -> None:
    found = merged([_words(step) for step in steps])
    said = [f"{' '.join(m['content'] for m in whole)}: {' '.join(map(str, trained))}" for whole, trained in found]
    assert sorted(said) == sorted(expected), why
    assert [min(trained.values()) for _, trained in found] == sorted(min(trained.values()) for _, trained in found)


def test_random_steps_are_each_trained_once_in_as_few_sequences_as_can_be() -> None:
    """No step that ends a sequence begins another sequence, but for copies of one step."""
    draw = random.Random("merging")
    for _ in range(200):
        texts = [" ".join(draw.choices("ab", k=draw.randint(1, 5))) for _ in range(draw.randint(0, 9))]
        steps = [_words(text) for text in texts]
        found = merged(steps)
        assert sorted(n for _, trained in found for n in trained.values()) == list(range(len(steps)))
        for whole, trained in found:
            assert all(list(whole[: at + 1]) == steps[n] for at, n in trained.items())
            assert len(whole) - 1 in trained, "a sequence ends with what it trains"
        copies = Counter(texts)
        assert len(found) == _fewest("", copies)


def _fewest(prefix: str, copies: Counter[str]) -> int:
    """As many as there are copies of a step, or as many as what follows from it needs."""
    below = [f"{prefix} {letter}".strip() for letter in "ab"]
    follow = sum(_fewest(each, copies) for each in below) if any(t.startswith(prefix) for t in copies) else 0
    return max(copies[prefix], follow) if len(prefix) < 12 else 0


def _trained(samples: Any) -> Counter[str]:
    return Counter(json.dumps(pair) for messages in samples["messages"] for pair in _pairs_of(messages))


def _pairs_of(messages: list[dict[str, Any]]) -> list[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """(history, target) of every message of a sample that is trained, without the flags."""
    plain = [{name: value for name, value in message.items() if name != "train"} for message in messages]
    return [(plain[:n], plain[n]) for n, message in enumerate(messages) if message["train"]]


@pytest.mark.parametrize("steps", ["chosen", "all"])
@pytest.mark.parametrize("keep_thought", [True, False])
def test_merging_changes_no_step(steps: str, keep_thought: bool) -> None:
    """History and target of every message that is trained are the same, as often as before."""
    files = {str(search.seed): search.file() for search in searches(25)}
    answers = table(files)
    fewer = 0
    for history in HISTORIES:
        options: dict[str, Any] = {"history": history, "steps": steps, "keep_thought": keep_thought}
        split, whole = trajectories(answers, **options), trajectories(answers, layout="merged", **options)
        assert _trained(split) == _trained(whole)
        assert ledger([split])[:] == ledger([whole])[:]
        fewer += len(split) - len(whole)
        chosen = {row["id"]: row["chosen"] for row in split}
        flags = {row["id"]: row["flags"] for row in split}
        for row in split:
            assert [message["train"] for message in row["messages"]] == [False] * (len(row["messages"]) - 1) + [True]
            assert row["steps"] == [row["step"]]
        for row in whole:
            assert {message["role"] for message in row["messages"] if message["train"]} == {"assistant"}
            assert sum(message["train"] for message in row["messages"]) == len(row["steps"])
            assert row["messages"][-1]["train"]
            assert row["steps"] == sorted(row["steps"])
            assert row["step"] == row["steps"][-1]
            name, _, places = row["id"].partition("#")
            own = [f"{name}#{place}" for place in places.split("+")]
            on_path = [chosen.pop(each) for each in own]
            assert row["chosen"] == all(on_path)
            assert row["flags"] == [flag for flag in FLAGS if any(flag in flags[each] for each in own)]
        assert not chosen, "every step of the split samples is named in one sequence"
        _maximal(whole)
    assert fewer > 20


def _maximal(samples: Any) -> None:
    """No sequence begins another one of its file, unless both train the same message."""
    plain = [
        (row["source_file"], [{**m, "train": None} for m in row["messages"]], [m["train"] for m in row["messages"]])
        for row in samples
    ]
    for name, one, trained in plain:
        for other, two, also in plain:
            if one is not two and name == other and two[: len(one)] == one:
                assert any(a and b for a, b in zip(trained, also, strict=False))


def test_a_step_that_leaves_takes_no_other_with_it() -> None:
    """Its message stays in the sequence as a part of what follows, and is not trained."""
    answers = table({str(search.seed): search.file() for search in searches(25)})
    options: dict[str, Any] = {"history": "clean", "steps": "all"}
    split = trajectories(answers, **options)
    for flag in FLAGS:
        some = trajectories(answers, without=[flag], layout="merged", **options)
        left = {row["id"] for row in ledger([some]) if row["reason"] == flag}
        kept = split.select([n for n, row_id in enumerate(split["id"]) if row_id not in left])
        assert _trained(some) == _trained(kept)
        assert all(flag not in row["flags"] for row in some)
        with_flag = sum(flag in row["flags"] for row in split)
        assert len(left) == with_flag
        assert (with_flag > 0) == (flag != "lost_thought"), "kept thoughts are not lost"
