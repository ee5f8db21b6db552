"""Preference pairs: a chosen step and an abandoned branch under one prompt."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from tests.support.answer_trees import FUNCTIONS, searches, table
from toolrlef_data.columns import PAIRS
from toolrlef_data.records import InputError, UnknownName
from toolrlef_data.tables.lineage import ledger
from toolrlef_data.toolbench.messages import openai_messages
from toolrlef_data.toolbench.preferences import preference_pairs

BOTH = ("give_answer", "give_up")


def test_pairs_of_random_searches() -> None:
    """Each step of the path yields a pair or a drop reason with each of its siblings."""
    by_name = {str(search.seed): search for search in searches(60)}
    pairs = preference_pairs(table({name: search.file() for name, search in by_name.items()}), finish=BOTH)
    dropped = {row["id"]: row["reason"] for row in ledger([pairs])}
    assert pairs.features == PAIRS
    counts: Counter[str] = Counter(dropped.values())
    expected = set()
    for name, search in by_name.items():
        path = search.end.path() if search.end else []
        branches = [
            (node, sibling) for node in path if node.parent for sibling in node.parent.children if sibling is not node
        ]
        ids = {f"{name}#{node.place}>{sibling.place}" for node, sibling in branches}
        expected |= ids or {name}
        if not ids:
            assert dropped[name] == ("no_branch" if path else "no_messages"), (
                "a file without a chosen path has no opening"
            )
    assert expected == {*pairs["id"], *dropped}
    for row in pairs:
        name, _, places = row["id"].partition("#")
        search, (place, sibling) = by_name[name], places.split(">")
        nodes = {node.place: node for node in search.root.descendants()}
        on_path = [node.place for node in search.end.path()] if search.end else []
        assert place in on_path
        assert sibling not in on_path
        assert place.rpartition(".")[0] == sibling.rpartition(".")[0], "the branches have different parents"
        assert row["step"] == len(nodes[place].path())
        chosen = next(node for node in nodes[on_path[-1]].path()[row["step"] - 1 :] if not node.is_thought)
        rejected = nodes[sibling]
        while rejected.is_thought:
            rejected = rejected.children[0]
        conversations = [openai_messages(node.histories()["clean"], True) for node in (chosen, rejected)]
        prompt = _without_train(row["prompt"])
        assert [*prompt, *_without_train(row["chosen"])] == conversations[0]
        assert [*prompt, *_without_train(row["rejected"])] == conversations[1], "the prompts differ"
        assert row["chosen"] != row["rejected"]
        trained = [[m["train"] for m in row[part]] for part in ("prompt", "chosen", "rejected")]
        assert trained == [[False] * len(prompt), [True], [False]]
        gave_up = any(node.code == 4 for node in [rejected, *rejected.descendants()])
        assert row["why"] == ("unknown_function" if rejected.code == 1 else "gave_up" if gave_up else "left")
        assert (row["query"], row["finish_type"]) == (search.query, "give_answer" if search.answer else "give_up")
        assert [each["function"] for each in json.loads(row["tools"])] == FUNCTIONS
        counts[row["why"]] += 1
        counts["repeated thoughts"] += len(chosen.path()) > row["step"]
    kinds = {
        "unknown_function",
        "gave_up",
        "left",
        "thought_only",
        "no_branch",
        "no_messages",
        "repeated thoughts",
    }
    assert set(counts) - {"same"} == kinds
    assert min(counts[kind] for kind in kinds) > 1, counts


def _without_train(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
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


def _thought_node(text: str, *children: Any) -> dict[str, Any]:
    return {"node_type": "Thought", "description": text, "expand_num": 1, "children": list(children)}


def _file(*children: Any, path: list[tuple[str | None, str | None, str | None]]) -> dict[str, Any]:
    """Return a file with a tree; the path lists (thought, call, preceding diversity prompt)."""
    root = {"node_type": "Action Input", "description": "", "expand_num": 0, "children": list(children)}
    messages: list[dict[str, Any]] = [{"role": "user", "content": "How deep?"}]
    lists = []
    for thought, call, body in path:
        if body is not None:
            messages.append({"role": "user", "content": f"<{body}>", "valid": False})
        message: dict[str, Any] = {"role": "assistant", "content": thought}
        if call is not None:
            name = "Finish" if call == "end" else "lakes"
            message["function_call"] = {"name": name, "arguments": f'{{"a": "{call}"}}'}
        messages.append(message)
        last = max((i for i, message in enumerate(messages) if "valid" in message), default=None)
        lists.append([m for i, m in enumerate(messages) if "valid" not in m or i == last])
        if call is not None:
            messages.append({"role": "function", "name": "lakes", "content": f"saw {call}"})
    generation = {"valid_data": True, "finish_type": "give_answer", "function": FUNCTIONS, "query": "How deep?"}
    return {"tree": {"tree": root}, "answer_generation": {**generation, "train_messages": lists}}


def _prompt_body(*calls: str, observation: str = "") -> str:
    attempts = [{"name": "lakes", "arguments": f'{{"a": "{c}"}}', "function_output": f"saw {c}"} for c in calls]
    body = json.dumps([{**attempt, "mento-carlo-action-value": 0.0} for attempt in attempts], indent=2) + "\n"
    return body + (f"again, your former observation: {observation}\n" if observation else "")


@pytest.mark.parametrize(
    ("why", "file", "expected"),
    [
        ("no other branch", _file(_node("end", code=3), path=[(None, "end", None)]), {"": "no_branch"}),
        (
            "the same call twice",
            _file(
                _node("x"), _node("x", _node("end", code=3)), path=[(None, "x", _prompt_body("x")), (None, "end", None)]
            ),
            {"1>0": "same"},
        ),
        (
            "the same call after another thought",
            _file(
                _node("x", thought="I try."),
                _node("x", _node("end", code=3), thought="Again."),
                path=[("Again.", "x", _prompt_body("x")), (None, "end", None)],
            ),
            {"1>0": "left"},
        ),
        (
            "the same call below a visited thought",
            _file(
                _thought_node("I try.", _node("x")),
                _node("x", _node("end", code=3), thought="I try."),
                path=[("I try.", "x", _prompt_body("x")), (None, "end", None)],
            ),
            {"1>0": "same"},
        ),
        (
            "a branch without a call",
            _file(_thought_node("Hm.", _thought_node("Hm.")), _node("end", code=3), path=[(None, "end", None)]),
            {"1>0": "thought_only"},
        ),
        (
            "an unknown function with a later give-up",
            _file(
                _node("x", _node("no", code=4), code=1),
                _node("end", code=3),
                path=[(None, "end", _prompt_body("x"))],
            ),
            {"1>0": "unknown_function"},
        ),
        (
            "three attempts",
            _file(
                _node("x", _node("y", _node("no", code=4))),
                _node("y"),
                _node("end", code=3),
                path=[(None, "end", _prompt_body("x", "y"))],
            ),
            {"2>0": "gave_up", "2>1": "left"},
        ),
    ],
)
def test_branch_outcomes(why: str, file: dict[str, Any], expected: dict[str, str]) -> None:
    pairs = preference_pairs(table({"a": file}))
    reasons = {row["id"]: row["why"] for row in pairs} | {row["id"]: row["reason"] for row in ledger([pairs])}
    assert reasons == {f"a#{places}" if places else "a": reason for places, reason in expected.items()}, why


def test_without_thoughts_equal_calls_are_equal() -> None:
    first, second = _node("x", thought="I try."), _node("x", _node("end", code=3), thought="Again.")
    file = _file(first, second, path=[("Again.", "x", _prompt_body("x")), (None, "end", None)])
    pairs = preference_pairs(table({"a": file}), keep_thought=False)
    assert (len(pairs), ledger([pairs])["reason"][:]) == (0, ["same"])


def test_finish_types_select_files() -> None:
    by_name = {str(search.seed): search for search in searches(20)}
    answers = table({name: search.file() for name, search in by_name.items()})
    for finish, is_answered in ((("give_answer",), True), (("give_up",), False)):
        pairs = preference_pairs(answers, finish=finish)
        drops = ledger([pairs])
        excluded = {row["id"] for row in drops if row["reason"] == "finish_type"}
        assert {name for name in by_name if name not in excluded} == {
            name for name, search in by_name.items() if search.end is None or (search.answer is not None) == is_answered
        }
    assert preference_pairs(answers, finish=BOTH)[:] == preference_pairs(answers, finish=BOTH[::-1], num_proc=2)[:]
    with pytest.raises(UnknownName, match="choose from: give_answer, give_up, unfinished"):
        preference_pairs(answers, finish=["win"])
    with pytest.raises(InputError, match="expected a list of names"):
        preference_pairs(answers, finish="give_up")


def test_an_invalid_file_yields_no_pairs() -> None:
    file = _file(_node("x"), _node("end", code=3), path=[(None, "end", _prompt_body("x"))])
    assert len(preference_pairs(table({"a": file}))) == 1
    file["answer_generation"]["valid_data"] = False
    assert ledger([preference_pairs(table({"a": file}))])["reason"][:] == ["not_valid"]
