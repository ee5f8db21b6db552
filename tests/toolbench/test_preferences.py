"""Preferences: the chosen step beside the branches that were left, both under one prompt."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from tests.support.answer_trees import FUNCTIONS, searches, table
from toolrlef_data.columns import PAIRS
from toolrlef_data.records import InputError, UnknownName
from toolrlef_data.tables.lineage import ledger
from toolrlef_data.toolbench.messages import canonical
from toolrlef_data.toolbench.preferences import preference_pairs

BOTH = ("give_answer", "give_up")


def test_pairs_of_random_searches() -> None:
    """Of each step on the path, one pair, or reason, with each other try of the state that it came from."""
    made = {str(search.seed): search for search in searches(60)}
    pairs = preference_pairs(table({name: search.file() for name, search in made.items()}), finish=BOTH)
    left = {row["id"]: row["reason"] for row in ledger([pairs])}
    assert pairs.features == PAIRS
    why: Counter[str] = Counter(left.values())
    expected = set()
    for name, search in made.items():
        path = search.end.path() if search.end else []
        tried = [(own, other) for own in path if own.parent for other in own.parent.children if other is not own]
        ids = {f"{name}#{own.place}>{other.place}" for own, other in tried}
        expected |= ids or {name}
        if not ids:
            assert left[name] == ("no_branch" if path else "no_messages"), (
                "a search without an end does not say what was told"
            )
    assert expected == {*pairs["id"], *left}
    for row in pairs:
        name, _, places = row["id"].partition("#")
        search, (place, other) = made[name], places.split(">")
        asked = {own.place: own for own in search.root.descendants()}
        on_path = [own.place for own in search.end.path()] if search.end else []
        assert place in on_path
        assert other not in on_path
        assert place.rpartition(".")[0] == other.rpartition(".")[0], "both were tried from one state"
        assert row["step"] == len(asked[place].path())
        chosen = next(own for own in asked[on_path[-1]].path()[row["step"] - 1 :] if not own.is_thought)
        rejected = asked[other]
        while rejected.is_thought:
            rejected = rejected.children[0]
        sides = [canonical(own.histories()["clean"], True) for own in (chosen, rejected)]
        prompt = _bare(row["prompt"])
        assert [*prompt, *_bare(row["chosen"])] == sides[0]
        assert [*prompt, *_bare(row["rejected"])] == sides[1], "the prompt is the same"
        assert row["chosen"] != row["rejected"]
        trained = [[m["train"] for m in row[part]] for part in ("prompt", "chosen", "rejected")]
        assert trained == [[False] * len(prompt), [True], [False]]
        gave_up = any(own.code == 4 for own in [rejected, *rejected.descendants()])
        assert row["why"] == ("unknown_function" if rejected.code == 1 else "gave_up" if gave_up else "left")
        assert (row["query"], row["finish_type"]) == (search.query, "give_answer" if search.answer else "give_up")
        assert [each["function"] for each in json.loads(row["tools"])] == FUNCTIONS
        why[row["why"]] += 1
        why["two thoughts on the way"] += len(chosen.path()) > row["step"]
    kinds = {
        "unknown_function",
        "gave_up",
        "left",
        "thought_only",
        "no_branch",
        "no_messages",
        "two thoughts on the way",
    }
    assert set(why) - {"same"} == kinds
    assert min(why[kind] for kind in kinds) > 1, why


def _bare(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in message.items() if name != "train"} for message in messages]


def _node(call: str, *children: Any, code: int = 0, number: int = 1, thought: str | None = None) -> dict[str, Any]:
    leaf: dict[str, Any] = {
        "node_type": "Action Input",
        "description": f'{{"a": "{call}"}}',
        "observation": f"saw {call}",
    }
    leaf |= {"observation_code": code, "expand_num": number, "children": list(children)}
    name = "Finish" if code in (3, 4) else "lakes"
    node = {"node_type": "Action", "description": name, "expand_num": 0, "children": [leaf]}
    if thought is not None:
        node = {"node_type": "Thought", "description": thought, "expand_num": 0, "children": [node]}
    return node


def _thinks(text: str, *children: Any) -> dict[str, Any]:
    return {"node_type": "Thought", "description": text, "expand_num": 1, "children": list(children)}


def _file(*children: Any, path: list[tuple[str | None, str | None, str | None]]) -> dict[str, Any]:
    """A file of a tree whose chosen path is (thought, call, prompt that was added before it)."""
    root = {"node_type": "Action Input", "description": "", "expand_num": 0, "children": list(children)}
    told: list[dict[str, Any]] = [{"role": "user", "content": "How deep?"}]
    lists = []
    for thought, call, body in path:
        if body is not None:
            told.append({"role": "user", "content": f"<{body}>", "valid": False})
        said: dict[str, Any] = {"role": "assistant", "content": thought}
        if call is not None:
            name = "Finish" if call == "end" else "lakes"
            said["function_call"] = {"name": name, "arguments": f'{{"a": "{call}"}}'}
        told.append(said)
        last = max((i for i, message in enumerate(told) if "valid" in message), default=None)
        lists.append([m for i, m in enumerate(told) if "valid" not in m or i == last])
        if call is not None:
            told.append({"role": "function", "name": "lakes", "content": f"saw {call}"})
    made = {"valid_data": True, "finish_type": "give_answer", "function": FUNCTIONS, "query": "How deep?"}
    return {"tree": {"tree": root}, "answer_generation": {**made, "train_messages": lists}}


def _tried(*calls: str, observation: str = "") -> str:
    own = [{"name": "lakes", "arguments": f'{{"a": "{c}"}}', "function_output": f"saw {c}"} for c in calls]
    body = json.dumps([{**each, "mento-carlo-action-value": 0.0} for each in own], indent=2) + "\n"
    return body + (f"again, your former observation: {observation}\n" if observation else "")


@pytest.mark.parametrize(
    ("why", "file", "found"),
    [
        ("nothing else was tried", _file(_node("end", code=3), path=[(None, "end", None)]), {"": "no_branch"}),
        (
            "the same call again",
            _file(_node("x"), _node("x", _node("end", code=3)), path=[(None, "x", _tried("x")), (None, "end", None)]),
            {"1>0": "same"},
        ),
        (
            "the same call after another thought",
            _file(
                _node("x", thought="I try."),
                _node("x", _node("end", code=3), thought="Again."),
                path=[("Again.", "x", _tried("x")), (None, "end", None)],
            ),
            {"1>0": "left"},
        ),
        (
            "the same call, of which one came out of a thought that was visited",
            _file(
                _thinks("I try.", _node("x")),
                _node("x", _node("end", code=3), thought="I try."),
                path=[("I try.", "x", _tried("x")), (None, "end", None)],
            ),
            {"1>0": "same"},
        ),
        (
            "it came to no call",
            _file(_thinks("Hm.", _thinks("Hm.")), _node("end", code=3), path=[(None, "end", None)]),
            {"1>0": "thought_only"},
        ),
        (
            "an unknown function, though it gave up later",
            _file(
                _node("x", _node("no", code=4), code=1),
                _node("end", code=3),
                path=[(None, "end", _tried("x"))],
            ),
            {"1>0": "unknown_function"},
        ),
        (
            "of three tries",
            _file(
                _node("x", _node("y", _node("no", code=4))),
                _node("y"),
                _node("end", code=3),
                path=[(None, "end", _tried("x", "y"))],
            ),
            {"2>0": "gave_up", "2>1": "left"},
        ),
    ],
)
def test_what_became_of_a_branch(why: str, file: dict[str, Any], found: dict[str, str]) -> None:
    pairs = preference_pairs(table({"a": file}))
    told = {row["id"]: row["why"] for row in pairs} | {row["id"]: row["reason"] for row in ledger([pairs])}
    assert told == {f"a#{places}" if places else "a": reason for places, reason in found.items()}, why


def test_without_thoughts_the_same_call_is_the_same() -> None:
    first, second = _node("x", thought="I try."), _node("x", _node("end", code=3), thought="Again.")
    file = _file(first, second, path=[("Again.", "x", _tried("x")), (None, "end", None)])
    pairs = preference_pairs(table({"a": file}), keep_thought=False)
    assert (len(pairs), ledger([pairs])["reason"][:]) == (0, ["same"])


def test_which_files_are_taken() -> None:
    made = {str(search.seed): search for search in searches(20)}
    answers = table({name: search.file() for name, search in made.items()})
    for finish, wanted in ((("give_answer",), True), (("give_up",), False)):
        pairs = preference_pairs(answers, finish=finish)
        left = ledger([pairs])
        out = {row["id"] for row in left if row["reason"] == "finish_type"}
        assert {name for name in made if name not in out} == {
            name for name, s in made.items() if s.end is None or (s.answer is not None) == wanted
        }
    assert preference_pairs(answers, finish=BOTH)[:] == preference_pairs(answers, finish=BOTH[::-1], num_proc=2)[:]
    with pytest.raises(UnknownName, match="choose from: give_answer, give_up, unfinished"):
        preference_pairs(answers, finish=["win"])
    with pytest.raises(InputError, match="takes a list of names"):
        preference_pairs(answers, finish="give_up")


def test_lists_of_an_invalid_file_give_no_pairs() -> None:
    file = _file(_node("x"), _node("end", code=3), path=[(None, "end", _tried("x"))])
    assert len(preference_pairs(table({"a": file}))) == 1
    file["answer_generation"]["valid_data"] = False
    assert ledger([preference_pairs(table({"a": file}))])["reason"][:] == ["not_valid"]
