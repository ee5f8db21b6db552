"""Merging: each step is trained once, under its history, in the fewest sequences."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest

from tests.support.answer_trees import searches, table
from toolrlef_data.tables.lineage import ledger
from toolrlef_data.toolbench.flags import FLAGS
from toolrlef_data.toolbench.histories import HISTORIES
from toolrlef_data.toolbench.merging import merge_steps
from toolrlef_data.toolbench.samples import trajectories


def _words(text: str) -> list[dict[str, Any]]:
    return [{"content": word} for word in text.split()]


@pytest.mark.parametrize(
    ("why", "steps", "expected"),
    [
        ("no steps", [], []),
        ("one step", ["a b"], ["a b: 1"]),
        ("each is a prefix of the next", ["a b", "a b c d", "a b c d e f"], ["a b c d e f: 1 3 5"]),
        ("in any order", ["a b c d e f", "a b", "a b c d"], ["a b c d e f: 1 3 5"]),
        ("two branches", ["a b", "a b c d", "a b e f"], ["a b c d: 1 3", "a b e f: 3"]),
        ("the shared step belongs to one branch", ["a b e f", "a b c d", "a b"], ["a b e f: 1 3", "a b c d: 3"]),
        ("nothing in common", ["a b", "c d"], ["a b: 1", "c d: 1"]),
        ("equal targets, different histories", ["a b", "c b"], ["a b: 1", "c b: 1"]),
        ("a prefix of a message is not a prefix", ["a b", "a bc d"], ["a b: 1", "a bc d: 2"]),
        ("equal steps need two sequences", ["a b", "a b"], ["a b: 1", "a b: 1"]),
        ("one of them joins a longer step", ["a b", "a b", "a b c d"], ["a b c d: 1 3", "a b: 1"]),
        ("each joins a longer step", ["a b", "a b", "a b c d", "a b e f"], ["a b c d: 1 3", "a b e f: 1 3"]),
    ],
)
def test_sequences_of_merged_steps(why: str, steps: list[str], expected: list[str]) -> None:
    sequences = merge_steps([_words(step) for step in steps])
    rendered = [
        f"{' '.join(m['content'] for m in messages)}: {' '.join(map(str, targets))}" for messages, targets in sequences
    ]
    assert sorted(rendered) == sorted(expected), why
    assert [min(targets.values()) for _, targets in sequences] == sorted(
        min(targets.values()) for _, targets in sequences
    )


def test_random_steps_are_trained_once_in_the_fewest_sequences() -> None:
    """The last step of a sequence is a prefix of no other sequence, except for equal steps."""
    draw = random.Random("merging")
    for _ in range(200):
        texts = [" ".join(draw.choices("ab", k=draw.randint(1, 5))) for _ in range(draw.randint(0, 9))]
        steps = [_words(text) for text in texts]
        sequences = merge_steps(steps)
        assert sorted(n for _, targets in sequences for n in targets.values()) == list(range(len(steps)))
        for messages, targets in sequences:
            assert all(list(messages[: target + 1]) == steps[n] for target, n in targets.items())
            assert len(messages) - 1 in targets, "a sequence ends with a target"
        copies = Counter(texts)
        assert len(sequences) == _min_sequences("", copies)


def _min_sequences(prefix: str, copies: Counter[str]) -> int:
    """Return the minimum: the copies of a step, or the sequences of its extensions."""
    extensions = [f"{prefix} {letter}".strip() for letter in "ab"]
    n_below = (
        sum(_min_sequences(extension, copies) for extension in extensions)
        if any(t.startswith(prefix) for t in copies)
        else 0
    )
    return max(copies[prefix], n_below) if len(prefix) < 12 else 0


def _trained(samples: Any) -> Counter[str]:
    return Counter(json.dumps(pair) for messages in samples["messages"] for pair in _targets_of(messages))


def _targets_of(messages: list[dict[str, Any]]) -> list[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Return (history, target) of every trained message, without the flags."""
    plain = [{name: value for name, value in message.items() if name != "train"} for message in messages]
    return [(plain[:n], plain[n]) for n, message in enumerate(messages) if message["train"]]


@pytest.mark.parametrize("steps", ["chosen", "all"])
@pytest.mark.parametrize("keep_thought", [True, False])
def test_merging_preserves_steps(steps: str, keep_thought: bool) -> None:
    """Merged and split samples train equal histories and targets, equally often."""
    files = {str(search.seed): search.file() for search in searches(25)}
    answers = table(files)
    n_saved = n_partial = 0
    for history in HISTORIES:
        options: dict[str, Any] = {"history": history, "steps": steps, "keep_thought": keep_thought}
        split, merged = trajectories(answers, **options), trajectories(answers, layout="merged", **options)
        assert _trained(split) == _trained(merged)
        assert ledger([split])[:] == ledger([merged])[:]
        n_saved += len(split) - len(merged)
        chosen = {row["id"]: row["on_path"] for row in split}
        flags = {row["id"]: row["flags"] for row in split}
        for row in split:
            assert [message["train"] for message in row["messages"]] == [False] * (len(row["messages"]) - 1) + [True]
            assert row["steps"] == [row["step"]]
        for row in merged:
            assert {message["role"] for message in row["messages"] if message["train"]} == {"assistant"}
            assert sum(message["train"] for message in row["messages"]) == len(row["steps"])
            assert row["messages"][-1]["train"]
            assert row["steps"] == sorted(row["steps"])
            assert row["step"] == row["steps"][-1]
            name, _, places = row["id"].partition("#")
            step_ids = [f"{name}#{place}" for place in places.split("+")]
            chosen_flags = [chosen.pop(step_id) for step_id in step_ids]
            assert row["on_path"] == all(chosen_flags)
            assert row["on_path_steps"] == [
                n for n, is_chosen in zip(row["steps"], chosen_flags, strict=True) if is_chosen
            ]
            n_partial += 0 < len(row["on_path_steps"]) < len(row["steps"])
            assert row["flags"] == [flag for flag in FLAGS if any(flag in flags[step_id] for step_id in step_ids)]
        assert not chosen, "one sequence names each step of the split samples"
        _check_maximal(merged)
    assert n_saved > 20
    assert (n_partial > 0) == (steps == "all"), "sequences that leave the chosen path"


def _check_maximal(samples: Any) -> None:
    """Check that no sequence is a prefix of another of its file, unless both train the same message."""
    plain = [
        (row["source_file"], [{**m, "train": None} for m in row["messages"]], [m["train"] for m in row["messages"]])
        for row in samples
    ]
    for name, one, trained in plain:
        for other, two, also in plain:
            if one is not two and name == other and two[: len(one)] == one:
                assert any(a and b for a, b in zip(trained, also, strict=False))


def test_a_dropped_step_stays_as_context() -> None:
    """Its message remains in the sequence, without training."""
    answers = table({str(search.seed): search.file() for search in searches(25)})
    options: dict[str, Any] = {"history": "clean", "steps": "all"}
    split = trajectories(answers, **options)
    for flag in FLAGS:
        filtered = trajectories(answers, without=[flag], layout="merged", **options)
        dropped = {row["id"] for row in ledger([filtered]) if row["reason"] == flag}
        kept = split.select([n for n, row_id in enumerate(split["id"]) if row_id not in dropped])
        assert _trained(filtered) == _trained(kept)
        assert all(flag not in row["flags"] for row in filtered)
        with_flag = sum(flag in row["flags"] for row in split)
        assert len(dropped) == with_flag
        assert (with_flag > 0) == (flag not in ("lost_thought", "unpaired_call")), (
            "no thought is lost with keep_thought"
        )
