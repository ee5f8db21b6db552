"""Trajectories: samples or drop reasons of each file, and ids that depend only on the file."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from tests.support.answer_trees import FUNCTIONS, RandomSearch, row, searches, table
from toolrlef_data.columns import ANSWERS, TOOLLLAMA, TRAJECTORIES
from toolrlef_data.loading_scripts import load_source
from toolrlef_data.publishing.exports.writing import export
from toolrlef_data.records import Drop, InputError, MissingColumns, UnknownName, UnusableRow
from toolrlef_data.tables.lineage import ledger, lineage
from toolrlef_data.toolbench import answer_file as answer_files
from toolrlef_data.toolbench.flags import FLAGS
from toolrlef_data.toolbench.histories import HISTORIES
from toolrlef_data.toolbench.messages import openai_messages
from toolrlef_data.toolbench.preferences import preference_pairs
from toolrlef_data.toolbench.samples import trajectories

File = dict[str, Any]
Conversion = Callable[[Dataset], Dataset]

CONVERSIONS: dict[str, Conversion] = {
    "chosen": lambda answers: trajectories(answers, layout="merged"),
    "toolllama": lambda answers: trajectories(answers, style="toolllama"),
    "all": lambda answers: trajectories(answers, steps="all"),
    "pairs": lambda answers: preference_pairs(answers, finish=("give_answer", "give_up")),
}


def _files(count: int) -> dict[str, File]:
    return {f"G/{search.seed}": search.file() for search in searches(count)}


def _ids(samples: Dataset) -> list[str]:
    """Return the ids of the trained steps, and of the dropped steps and files."""
    steps = []
    for name in samples["id"]:
        file, _, places = name.partition("#")
        steps += [f"{file}#{place}" for place in places.split("+")]
    return steps + list(ledger([samples])["id"])


# Samples -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", ["chosen", "all"])
def test_every_step_yields_a_sample_or_a_drop_reason(steps: str) -> None:
    by_name = {f"G/{search.seed}": search for search in searches(30)}
    if steps == "all":  # without a diversity prompt in the file, the prompt frame is unknown
        by_name = {
            name: search
            for name, search in by_name.items()
            if any("valid" in m for messages in search.lists() for m in messages)
        }
    answers = table({name: search.file() for name, search in by_name.items()})
    for history in HISTORIES:
        samples = trajectories(answers, history=history, steps=steps)
        dropped = {r["id"]: r["reason"] for r in ledger([samples])}
        expected: dict[str, Any] = {}
        for name, search in by_name.items():
            if steps == "all":
                nodes = {f"t{node.place}": node for node in search.root.descendants()}
            elif search.end is None:
                assert dropped.pop(name) == "not_valid"
                continue
            else:
                targets = [messages[-1] for messages in search.lists()]
                path = search.end.path()
                nodes = {
                    str(n): next(node for node in path if node.message is target)
                    for n, target in enumerate(targets, start=1)
                }
            for place, node in nodes.items():
                if node.is_thought:
                    assert dropped.pop(f"{name}#{place}") == "thought_only"
                else:
                    on_path = search.end is not None and node in search.end.path()
                    expected[f"{name}#{place}"] = (
                        openai_messages(node.histories()[history], True),
                        on_path,
                        len(nodes),
                    )
        assert not dropped
        found = {
            r["id"]: (
                [{k: v for k, v in m.items() if k != "train"} for m in r["messages"]],
                r["on_path"],
                r["n_steps"],
            )
            for r in samples
        }
        assert found == expected
        for r in samples:
            search = by_name[r["id"].partition("#")[0]]
            assert r["finish_type"] == ("give_up" if search.end is not None and not search.answer else "give_answer")
            assert (r["query"], r["layout"], r["history"]) == (search.query, "split", history)
            assert [each["function"] for each in json.loads(r["tools"])] == FUNCTIONS
            assert r["source_file"] == f"{r['id'].partition('#')[0]}.json"


@pytest.mark.parametrize("level", ["G1", "G2"])
def test_the_file_equals_upstreams_byte_for_byte(shared: Path, tmp_path: Path, level: str) -> None:
    answers = load_source(
        "toolbench", data_dir=shared / f"data/toolbench/answer/{level}_answer", method="DFS_woFilter_w2"
    )
    samples = trajectories(answers, style="toolllama")
    assert samples.features == TOOLLLAMA
    written = export(samples, "toolllama", tmp_path / "train.json").read_bytes()
    assert written == (shared / f"data/toolbench/reference/toollama_{level}_dfs.json").read_bytes()
    with_thoughts = trajectories(answers, style="toolllama", keep_thought=True)
    assert with_thoughts["id"][:] == samples["id"][:]
    assert with_thoughts["conversations"][:] != samples["conversations"][:]
    if level == "G1":
        assert Counter(ledger([samples])["reason"]) == {"not_valid": 1, "thought_only": 1}


def test_real_files_as_merged_sequences(shared: Path) -> None:
    answers = load_source("toolbench", data_dir=shared / "data/toolbench/answer")
    for history, sequences in (("upstream", 10), ("faithful", 13), ("clean", 9)):
        merged = trajectories(answers, history=history, layout="merged")
        assert (len(merged), sum(map(len, merged["steps"]))) == (sequences, 33)
        assert len(trajectories(answers, history=history)) == 33


# Unusable files ------------------------------------------------------------------------------------------------------


def _plain_search() -> RandomSearch:
    """Return a search with a chosen path of three calls, a diversity prompt and an abandoned branch."""
    for search in (RandomSearch(seed, turns=3, thoughts=0) for seed in range(200)):
        path = search.answer.path() if search.answer else []
        has_prompt = any(m.get("valid") is False for messages in search.lists() for m in messages)
        if len(path) == 3 and has_prompt:
            return search
    raise AssertionError("no such search")


PLAIN = _plain_search().file()


def _with(change: Callable[[File], Any]) -> File:
    file = copy.deepcopy(PLAIN)
    change(file)
    return file


def _lists(file: File) -> list[list[dict[str, Any]]]:
    train_messages: list[list[dict[str, Any]]] = file["answer_generation"]["train_messages"]
    return train_messages


def _change_messages(file: File, change: Callable[[dict[str, Any]], Any], role: str = "", hidden: bool = False) -> None:
    for messages in _lists(file):
        for message in messages:
            if (not role or message["role"] == role) and (not hidden or "valid" in message):
                change(message)


def _insert(file: File, message: dict[str, Any]) -> None:
    for messages in _lists(file):
        messages.insert(1, message)


def _without_opening(file: File) -> None:
    for messages in _lists(file):
        del messages[:2]


def _with_generation(**changes: Any) -> File:
    return _with(lambda f: f["answer_generation"].update(changes))


def _first_input(file: File) -> dict[str, Any]:
    node: dict[str, Any] = file["tree"]["tree"]["children"][0]
    while node["node_type"] != "Action Input":
        node = node["children"][0]
    return node


def _variants(
    why: str, values: list[Any], change: Callable[[File, Any], Any], expected: Any
) -> list[tuple[str, File, Any]]:
    """Return cases that differ in one value."""
    files = [copy.deepcopy(PLAIN) for _ in values]
    for file, value in zip(files, values, strict=True):
        change(file, value)
    return [(f"{why} {value!r}", file, expected) for file, value in zip(files, values, strict=True)]


def _deep(levels: int, lists: bool = False) -> str:
    """Return a file with a chain of calls; files of more than 211 levels are refused."""
    file = _with(lambda f: None if lists else f["answer_generation"].pop("train_messages"))
    file["tree"]["tree"] = "HERE"
    start = '{"node_type": "Action", "description": "lakes", "children": [{"node_type": "Action Input", "children": ['
    end = '], "description": "{}", "observation": "o", "observation_code": 0, "expand_num": 1}]}'
    tree = '{"node_type": "Action Input", "description": "", "children": [' + start * levels + end * levels + "]}"
    return json.dumps(file).replace('"HERE"', tree)


def _chains(*chains: Any) -> File:
    file = _with(lambda f: f.pop("tree"))
    return {**file, "trys": [{"chain": chain} for chain in chains]}


RESULT = {"role": "function", "name": "lakes", "content": "x"}
AS_PLAIN = "as plain"  # like the plain file
NO_OPENING = "no_messages"  # the file has no opening messages

# Description; file or text; drop reasons per conversion, or `AS_PLAIN`. A single reason applies to all conversions.
IRREGULAR: list[tuple[str, Any, Any]] = [
    ("plain", PLAIN, AS_PLAIN),
    ("a list ends in a function's message", _with(lambda f: _lists(f)[0].append(RESULT)), {"chosen": "no_target", "toolllama": "no_target", "all": "tree_differs", "pairs": "tree_differs"}),
    ("a list ends in a user's message", _with(lambda f: _lists(f)[-1].append({"role": "user", "content": "x"})), {"chosen": "no_target", "toolllama": "no_target", "all": "tree_differs", "pairs": "tree_differs"}),
    ("no lists", _with(lambda f: f["answer_generation"].pop("train_messages")), NO_OPENING),
    ("null lists", _with_generation(train_messages=None), NO_OPENING),
    ("empty lists", _with_generation(train_messages=[]), NO_OPENING),
    *_variants("lists are ", [5, "x", {"a": 1}, True, [[]], [5], ["x"], [None]], lambda f, v: f["answer_generation"].update(train_messages=v), "no_messages"),
    *_variants("a list holds ", [5, "x", None, [], {}, {"content": "x"}], lambda f, v: f["answer_generation"].update(train_messages=[[v]]), "not_a_message"),
    ("one list is empty", _with(lambda f: _lists(f).insert(1, [])), "no_messages"),
    *_variants("a content is ", [5, [], {}, True], lambda f, v: _lists(f)[0][0].update(content=v), "not_a_message"),
    *_variants("a role is ", [5, None, [], "developer"], lambda f, v: _lists(f)[0][0].update(role=v), "not_a_message"),
    *_variants("a name is ", [5, [], {}, True], lambda f, v: _change_messages(f, lambda m: m.update(name=v), "function"), "not_a_message"),
    *_variants("a call is ", [5, {}, [], "x", {"name": "lakes"}, {"name": "lakes", "arguments": {"lake": "Inari"}}], lambda f, v: _lists(f)[0][-1].update(function_call=v), "not_a_message"),
    ("null names", _with(lambda f: _change_messages(f, lambda m: m.update(name=None), "function")), AS_PLAIN),
    ("no names", _with(lambda f: _change_messages(f, lambda m: m.pop("name"), "function")), AS_PLAIN),
    ("no null contents", _with(lambda f: _change_messages(f, lambda m: m.pop("content") if m["content"] is None else None)), AS_PLAIN),
    ("null calls", _with(lambda f: _change_messages(f, lambda m: m.setdefault("function_call"))), AS_PLAIN),
    ("further keys", _with(lambda f: _change_messages(f, lambda m: m.update(refusal=None, id=[7]))), AS_PLAIN),
    ("prompts without content", _with(lambda f: _change_messages(f, lambda m: m.pop("content"), hidden=True)), {"all": "tree_differs", "pairs": "tree_differs"}),
    ("prompts with a null", _with(lambda f: _change_messages(f, lambda m: m.update(content=None), hidden=True)), {"all": "tree_differs", "pairs": "tree_differs"}),
    ("a null call in place of the first", _with(lambda f: _lists(f)[0][-1].update(function_call=None)), {"chosen": "thought_only", "toolllama": "thought_only", "all": "tree_differs", "pairs": "tree_differs"}),
    ("a result before any call", _with(lambda f: _insert(f, RESULT)), {"chosen": "result_without_call", "all": "result_without_call", "pairs": "result_without_call"}),
    ("a result before any call, in one list", _with(lambda f: _lists(f)[1].insert(1, RESULT)), {"chosen": "result_without_call", "all": "tree_differs", "pairs": "tree_differs"}),
    ("no opening", _with(_without_opening), {}),
    *_variants("functions are ", [None, 5, "x", [5], [None], [{}], [{"name": None}], [{"name": ["a"]}], [{"name": 5}]], lambda f, v: f["answer_generation"].update(function=v), "not_an_answer"),
    ("one function twice", _with_generation(function=[*FUNCTIONS, *FUNCTIONS]), AS_PLAIN),
    ("no function", _with_generation(function=[]), AS_PLAIN),
    ("a malformed function schema", _with_generation(function=[{"name": "\0", "description": 5, "parameters": [None, 1e400]}]), AS_PLAIN),
    ("an unpaired surrogate in a schema", _with_generation(function=[{"name": "lakes", "x": "\ud800"}]), "not_unicode"),
    ("an unpaired surrogate in the first message", _with(lambda f: _change_messages(f, lambda m: m.update(content="\ud800"), "system")), "not_unicode"),
    ("NUL characters", _with(lambda f: _change_messages(f, lambda m: m.update(content="\0"), "system")), {}),
    ("a pair of surrogates", _with(lambda f: _change_messages(f, lambda m: m.update(content="\U0001f41f"), "system")), AS_PLAIN),
    *_variants("the tree is ", [None, 5, "x", [], {}, {"tree": None}, {"tree": {}}, {"tree": {"node_type": "Action Input", "description": "", "children": 5}}], lambda f, v: f.update(tree=v), {"all": "no_tree", "pairs": "no_tree"}),
    ("no tree", _with(lambda f: f.pop("tree")), {"all": "no_tree", "pairs": "no_tree"}),
    ("the tree is truncated", _with(lambda f: _first_input(f).update(children=[])), {"all": "tree_differs", "pairs": "tree_differs"}),
    ("the tree ends with an action", _with(lambda f: f["tree"]["tree"]["children"].append({"node_type": "Action", "description": "x"})), {"all": "no_tree", "pairs": "no_tree"}),
    ("the tree has another observation", _with(lambda f: _first_input(f).update(observation="else")), {"all": "tree_differs", "pairs": "tree_differs"}),
    ("a node of an unknown type", _with(lambda f: _first_input(f).update(node_type=["x"])), {"all": "no_tree", "pairs": "no_tree"}),
    *_variants("a node's number", [None, "x", [], 1e400], lambda f, v: _first_input(f).update(expand_num=v), AS_PLAIN),
    *_variants("a node's state", [None, "x", [], 5], lambda f, v: _first_input(f).update(pruned=v, finished=v, depth=v), AS_PLAIN),
    ("a tree 200 calls deep", _deep(200), NO_OPENING),
    ("a deep tree with other messages", _deep(200, lists=True), {"all": "tree_differs", "pairs": "tree_differs"}),
    *((f"{n} calls", _deep(n), "not_an_answer") for n in (215, 900)),
    ("no chains", _chains(), {"all": "tree_differs", "pairs": "tree_differs"}),
    ("malformed chains", _chains(5), {"all": "no_tree", "pairs": "no_tree"}),
    ("malformed nodes", _chains([{}]), {"all": "no_tree", "pairs": "no_tree"}),
    *_variants("arguments of the search are ", [5, "x", None, [1], {}, True], lambda f, v: f.update(forward_args=v), AS_PLAIN),
    ("an unknown finish type", _with_generation(finish_type="won"), {"pairs": "finish_type"}),
    ("no finish type", _with_generation(finish_type=None), AS_PLAIN),
    ("invalid, with lists", _with_generation(valid_data=False), {"chosen": "not_valid", "toolllama": "not_valid", "pairs": "not_valid"}),
    ("unknown validity, with lists", _with_generation(valid_data=None), AS_PLAIN),
    ("unknown validity, without lists", _with_generation(valid_data=None, train_messages=None), {"chosen": "not_valid", "toolllama": "not_valid", "all": "no_messages", "pairs": "no_messages"}),
    *[(f"the text {v!r:.20}", v, "not_an_answer") for v in ("", "{", "null", "5", "[]", "{}", '"x"', '{"answer_generation": 5}', '{"answer_generation": "function"}', "[" * 100_000, "9" * 5000, None)],
]  # fmt: skip


# The details of all drops of these files, but for the errors of Python; and those of some conversions only.
DETAILS = {
    "no_messages: expected train_messages as a non-empty list",
    "no_messages: list 1 of train_messages has no messages",
    "no_messages: list 2 of train_messages has no messages",
    *(f"not_a_message: list 1: expected a message, found {kind}" for kind in ("NoneType", "int", "list", "str")),
    *(f"not_a_message: list 1: expected content as text, found {kind}" for kind in ("bool", "dict", "int", "list")),
    *(f"not_a_message: list 2: expected name as text, found {kind}" for kind in ("bool", "dict", "int", "list")),
    *(f"not_a_message: list 1: unknown role {role}" for role in ("'developer'", "5", "None", "[]")),
    "not_a_message: list 1: expected calls with name and arguments as text",
    "not_an_answer: ValueError: too many lists and objects in each other",
    "not_an_answer: KeyError: 'answer_generation'",
    "not_an_answer: expected every function name as text",
    "not_unicode: a function schema has an unpaired surrogate",
    "not_unicode: a text has an unpaired surrogate",
}
OF_LISTS = {
    "no_target: expected an assistant message as target, found the role function",
    "no_target: expected an assistant message as target, found the role user",
    "not_valid: the file has no chosen path: valid_data is false or missing",
    "thought_only: the message has no function call",
}
NO_RESULT = "result_without_call: a function message has no preceding call"
ANY_NODE = "no_tree: expected a node of type Thought or Action or Action Input with a description, found"
OF_TREES = {
    "no_messages: the file has no opening messages",
    "no_tree: expected a node of type Action Input with a description, found ['x']",
    f"{ANY_NODE} 'NoneType'",
    f"{ANY_NODE} None",
    "no_tree: expected every chain of the file as a list of nodes",
    "no_tree: expected one Action Input node below an Action node, found 0 nodes",
    "no_tree: expected the children of a node as a list, found int",
    "no_tree: the file has no tree and no chains",
    "tree_differs: no path of the tree matches the train_messages",
    NO_RESULT,
}
OF_PAIRS = {"finish_type: won", "not_valid: the file has no chosen path"}
ALL_DETAILS = {
    "chosen": DETAILS | OF_LISTS | {NO_RESULT},
    "toolllama": DETAILS | OF_LISTS,
    "all": DETAILS | OF_TREES,
    "pairs": DETAILS | OF_TREES | OF_PAIRS,
}


@pytest.mark.parametrize("conversion", list(CONVERSIONS))
def test_irregular_files_yield_samples_or_drop_reasons_and_affect_no_other_file(conversion: str) -> None:
    files: dict[str, Any] = {}
    for n, (_, file, _) in enumerate(IRREGULAR):
        files |= {f"odd {n}": file, f"good {n}": PLAIN}
    n_samples = CONVERSIONS[conversion](table(files))
    drops = ledger([n_samples])
    plain = CONVERSIONS[conversion](table({"good 0": PLAIN}))
    good_rows = [r for r in n_samples if r["id"].startswith("good")]
    assert len(good_rows) == len(plain) * len(IRREGULAR)
    for n in range(len(IRREGULAR)):
        for r, expected_row in zip(good_rows[n * len(plain) :], plain, strict=False):
            name = expected_row["id"].replace("good 0", f"good {n}")
            assert r == {**expected_row, "id": name, "source_file": f"good {n}.json"}
    assert len(set(drops["id"])) == len(drops)
    details = {f"{r['reason']}: {r['detail']}" for r in drops}
    of_python = {detail for detail in details - DETAILS if detail.startswith("not_an_answer")}
    assert details - of_python == ALL_DETAILS[conversion]
    assert of_python
    by_file: dict[str, list[str]] = {}
    for r in drops:
        by_file.setdefault(r["id"].partition("#")[0], []).append(r["reason"])
        assert (r["stage"], r["task"], r["dataset"]) == (lineage(n_samples)[-1]["step"], "toolbench", "toolbench")
        assert len(r["detail"]) <= 200
    plain_reasons = by_file.get("good 0", [])
    n_samples = Counter(r["id"].partition("#")[0] for r in n_samples)
    for n, (why, _, expected) in enumerate(IRREGULAR):
        reasons, name = by_file.get(f"odd {n}", []), f"odd {n}"
        expected_row = expected if isinstance(expected, str) else expected.get(conversion)
        assert reasons or n_samples[name], f"{why}: neither samples nor drops"
        if expected_row == AS_PLAIN:
            assert (n_samples[name], reasons) == (n_samples["good 0"], plain_reasons), why
        elif expected_row is not None:
            assert set(expected_row.split()) == set(reasons), why
            assert len(reasons) > 1 or not n_samples[name] or name + "#" in "".join(drops["id"]), why
        else:
            assert n_samples[name], f"{why}: {reasons}"


def _long(characters: int) -> File:
    return _with(lambda f: _change_messages(f, lambda m: m.update(content="y" * characters), "function"))


def test_long_observations_and_too_large_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """An observation of 10 MB is part of every later step; a file too large for a batch is dropped."""
    answers = table({"a": PLAIN, "long": _long(10_000_000), "z": PLAIN})
    samples = trajectories(answers, layout="merged", history="clean")
    assert samples["source_file"][:] == ["a.json", "long.json", "z.json"]
    assert 20_000_000 < sum(len(message["content"] or "") for message in samples[1]["messages"]) < 20_001_000
    monkeypatch.setattr(answer_files, "MAX_SAMPLE_CHARACTERS", 400_000)
    answers = table({"a": PLAIN, "long": _long(200_000), "z": PLAIN})
    for conversion, convert in CONVERSIONS.items():
        samples = convert(answers)
        assert {row_id.partition("#")[0] for row_id in samples["id"]} >= {"a", "z"}
        dropped = [(r["id"], r["reason"]) for r in ledger([samples])]
        assert (("long", "too_large") in dropped) == (conversion in ("chosen", "toolllama")), (
            "the tree has other observations"
        )


# Ids and options ------------------------------------------------------------------------------------------------------


def _rows_by_id(samples: Dataset) -> dict[str, Mapping[str, Any]]:
    rows = {r["id"]: r for r in samples}
    assert len(rows) == len(samples)
    return rows


@pytest.mark.parametrize(
    "options", [{}, {"layout": "merged"}, {"steps": "all", "layout": "merged"}, {"style": "toolllama"}]
)
def test_samples_are_independent_of_other_files(options: dict[str, Any]) -> None:
    files = _files(40)
    samples = trajectories(table(files), **options)
    by_id = _rows_by_id(samples)
    assert trajectories(table(files), num_proc=2, **options)[:] == samples[:], "several processes"
    reversed_samples = trajectories(table(dict(reversed(files.items()))), **options)
    assert _rows_by_id(reversed_samples) == by_id
    subset = trajectories(table(dict(list(files.items())[10:13])), **options)
    assert 0 < len(subset) < len(samples)
    assert _rows_by_id(subset).items() <= by_id.items()
    assert sorted(_ids(samples)) == sorted(set(_ids(samples)))


def test_ids_do_not_depend_on_layout_style_history_or_thoughts() -> None:
    answers = table(_files(30))
    for steps in ("chosen", "all"):
        expected = sorted(_ids(trajectories(answers, steps=steps)))
        for options in (
            {"layout": "merged"},
            {"style": "toolllama"},
            {"history": "clean", "keep_thought": False},
            {"history": "upstream", "layout": "merged"},
        ):
            assert sorted(_ids(trajectories(answers, steps=steps, **options))) == expected


# OpenAI's newer message format ---------------------------------------------------------------------------------------


def _modernise(file: File) -> None:
    """Write a file as StableToolBench does: the role "tool", `tool_calls`, and wrapped function schemas."""
    functions = file["answer_generation"]["function"]
    file["answer_generation"]["function"] = [{"type": "function", "function": schema} for schema in functions]
    for messages in _lists(file):
        for n, message in enumerate(messages):
            if call := message.pop("function_call", None):
                message["tool_calls"] = [{"id": f"id{n}", "type": "function", "function": call}]
            if message["role"] == "function":
                message |= {"role": "tool", "tool_call_id": f"id{n - 1}"}


@pytest.mark.parametrize("conversion", list(CONVERSIONS))
def test_both_message_formats_yield_the_same_samples(conversion: str) -> None:
    files = {"a": PLAIN}, {"a": _with(_modernise)}
    plain, modern = ([*CONVERSIONS[conversion](table(file))] for file in files)
    assert plain == modern != []


CALL_A: dict[str, Any] = {"role": "assistant", "content": None, "function_call": {"name": "depth", "arguments": '{"lake":"Inari"}'}}  # fmt: skip
RESULT_A = {"role": "function", "name": "depth", "content": "92"}
FINISH_CALL: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "function_call": {"name": "Finish", "arguments": "{}"},
}


def _tool_calls(*lakes: str, content: str | None = None, **more: Any) -> dict[str, Any]:
    functions = [{"name": "depth", "arguments": json.dumps({"lake": lake})} for lake in lakes]
    calls = [{"id": "c2", "type": "function", "function": function} for function in functions]
    return {"role": "assistant", "content": content, "tool_calls": calls, **more}


def _one_list(*messages: dict[str, Any]) -> Dataset:
    opening = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    return table({"a": _with(lambda f: f["answer_generation"].update(train_messages=[[*opening, *messages]]))})


@pytest.mark.parametrize(
    ("why", "messages", "ids", "flagged"),
    [
        ("one form", [CALL_A, RESULT_A, CALL_A, RESULT_A], ["call_1", "call_2"], False),
        ("both forms", [CALL_A, RESULT_A, _tool_calls("Saimaa"), RESULT_A], ["call_1", "call_2"], False),
        ("with a thought", [CALL_A, RESULT_A, _tool_calls("Saimaa", content="Now."), RESULT_A], ["call_1", "call_2"], False),
        ("equal ids of different calls", [_tool_calls("Inari"), RESULT_A, _tool_calls("Saimaa"), RESULT_A], ["call_1", "call_2"], False),
        ("both keys, one call", [{**_tool_calls("Inari"), "function_call": {"name": "depth", "arguments": '{"lake": "Inari"}'}}, RESULT_A], ["call_1"], False),
        ("no calls in tool_calls", [{**CALL_A, "tool_calls": []}, RESULT_A], ["call_1"], False),
        ("two results", [CALL_A, RESULT_A, RESULT_A], ["call_1", None], True),
        ("the result of another call", [_tool_calls("Inari"), {**RESULT_A, "role": "tool", "tool_call_id": "c9"}], [None], True),
        ("a call without a result", [CALL_A, CALL_A, RESULT_A], ["call_2"], True),
    ],
)  # fmt: skip
def test_each_result_has_its_own_call(
    why: str, messages: list[dict[str, Any]], ids: list[str | None], flagged: bool
) -> None:
    (row,) = trajectories(_one_list(*messages, FINISH_CALL))
    assert [message["tool_call_id"] for message in row["messages"] if message["role"] == "tool"] == ids, why
    call_ids = [call["id"] for message in row["messages"] for call in message["tool_calls"] or ()]
    assert call_ids == [f"call_{n}" for n in range(1, len(call_ids) + 1)]
    assert ("unpaired_call" in row["flags"]) == flagged, why


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({**_tool_calls("Inari"), "function_call": CALL_A["function_call"] | {"name": "other"}}, "not_a_message"),
        ({"role": "assistant", "content": None, "tool_calls": "depth"}, "not_a_message"),
        ({"role": "assistant", "content": None, "tool_calls": [{"function": "depth"}]}, "not_a_message"),
        ({"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "depth"}}]}, "not_a_message"),
        ({"role": "user", "content": "", "tool_calls": _tool_calls("Inari")["tool_calls"]}, "not_a_message"),
    ],
)
def test_unsupported_calls_are_dropped(message: dict[str, Any], reason: str) -> None:
    for style in ("messages", "toolllama"):
        samples = trajectories(_one_list(message, RESULT_A, FINISH_CALL), style=style)
        assert len(samples) == 0
        assert [row["reason"] for row in ledger([samples])] == [reason]


def _parallel(*ids: str | None) -> dict[str, Any]:
    """Return a message with one call per id."""
    message = _tool_calls(*LAKES[: len(ids)])
    for call, call_id in zip(message["tool_calls"], ids, strict=True):
        call["id"] = call_id
    return message


def _result(call_id: str | None = None, content: str = "92") -> dict[str, Any]:
    return {"role": "tool", "name": "depth", "content": content, **({"tool_call_id": call_id} if call_id else {})}


LAKES = ["Inari", "Saimaa", "Oulu"]


@pytest.mark.parametrize(
    ("why", "messages", "ids", "flagged"),
    [
        ("in order", [_parallel("a", "b"), _result("a"), _result("b")], ["call_1", "call_2"], False),
        ("in another order", [_parallel("a", "b", "c"), _result("c"), _result("a"), _result("b")], ["call_3", "call_1", "call_2"], False),
        ("without ids", [_parallel(None, None), _result(), _result()], ["call_1", "call_2"], False),
        ("without ids of results", [_parallel("a", "b"), _result(), _result()], ["call_1", "call_2"], False),
        ("equal ids", [_parallel("a", "a"), _result("a"), _result("a")], ["call_1", "call_2"], False),
        ("a lost result", [_parallel("a", "b"), _result("b")], ["call_2"], True),
        ("a result twice", [_parallel("a", "b"), _result("a"), _result("a")], ["call_1", None], True),
        ("a late result", [_parallel("a", "b"), _result("a"), {"role": "user", "content": "u"}, _result("b")], ["call_1", None], True),
        ("after another call", [CALL_A, RESULT_A, _parallel("a", "b"), _result("b"), _result("a")], ["call_1", "call_3", "call_2"], False),
    ],
)  # fmt: skip
def test_each_result_of_parallel_calls_has_its_own_call(
    why: str, messages: list[dict[str, Any]], ids: list[str | None], flagged: bool, tmp_path: Path
) -> None:
    samples = trajectories(_one_list(*messages, FINISH_CALL))
    assert [message["tool_call_id"] for message in samples[0]["messages"] if message["role"] == "tool"] == ids, why
    assert ("unpaired_call" in samples[0]["flags"]) == flagged, why
    if flagged:
        with pytest.raises(InputError, match="unpaired_call"):
            export(samples, "openai", tmp_path / "train.jsonl")
    else:
        exported = json.loads(export(samples, "trl", tmp_path / "train.jsonl").read_text())
        calls = [len(message.get("tool_calls", [])) for message in exported["prompt"]]
        assert max(calls) > 1, "one message keeps all its calls"


def test_a_message_with_several_calls_is_one_step() -> None:
    opening = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    step = [*opening, _parallel("a", "b")]
    end = [*step, _result("a"), _result("b"), FINISH_CALL]
    answers = table({"a": _with(lambda f: f["answer_generation"].update(train_messages=[step, step, end]))})
    samples = trajectories(answers)  # StableToolBench writes the list of a step once per call
    assert [(row["step"], row["n_steps"], len(row["messages"][-1]["tool_calls"])) for row in samples] == [(1, 2, 2), (2, 2, 1)]  # fmt: skip
    (merged,) = trajectories(answers, layout="merged")
    assert merged["steps"] == [1, 2]
    repeated = _one_list(_parallel("a", "b"), _result("a"), _result("b"), _parallel("c"), _result("c"), FINISH_CALL)
    assert "repeated_call" not in trajectories(repeated)[0]["flags"], "of the target only"
    for other, reasons in (
        (trajectories(answers, style="toolllama"), ["several_calls"] * 2),
        (trajectories(answers, steps="all"), ["several_calls"]),
        (preference_pairs(answers), ["several_calls"]),
    ):
        assert (len(other), [row["reason"] for row in ledger([other])]) == (0, reasons)


@pytest.mark.parametrize("layout", ["split", "merged"])
def test_invalid_arguments_in_a_history_have_a_flag(layout: str, tmp_path: Path) -> None:
    opening = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    invalid = {**CALL_A, "function_call": {"name": "depth", "arguments": "{lake"}}
    lists = [[*opening, CALL_A], [*opening, CALL_A, RESULT_A, invalid], [*opening, CALL_A, RESULT_A, invalid, RESULT_A, FINISH_CALL]]  # fmt: skip
    answers = table({"a": _with(lambda f: f["answer_generation"].update(train_messages=lists))})
    flags = [[flag for flag in row["flags"] if flag != "unknown_function"] for row in trajectories(answers)]
    assert flags == [[], ["invalid_arguments"], ["invalid_arguments_in_history"]]
    valid = trajectories(answers, layout=layout, without=["invalid_arguments", "invalid_arguments_in_history"])
    assert [row["steps"] for row in valid] == [[1]]
    assert len(export(valid, "trl", tmp_path / "train.jsonl").read_text().splitlines()) == 1


# Thoughts of chains ---------------------------------------------------------------------------------------------------


def _chain_file(*turns: tuple[str | None, str], other: Sequence[Mapping[str, Any]] = ()) -> File:
    """Return a CoT@n file; a turn is a thought and "own" (a message of its own), a lake, or "Finish" (a call)."""
    chain: list[dict[str, Any]] = []
    lists: list[list[dict[str, Any]]] = []
    history: list[dict[str, Any]] = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    for thought, what in turns:
        message: dict[str, Any] = {"role": "assistant"}
        if thought is not None:
            chain.append({"node_type": "Thought", "description": thought, "expand_num": 0})
            message["content"] = thought
        if what != "own":
            name, code = ("Finish", 3) if what == "Finish" else ("lakes", 0)
            arguments = json.dumps({"lake": what})
            chain.append({"node_type": "Action", "description": name, "expand_num": 0})
            chain.append({"node_type": "Action Input", "description": arguments, "observation": "ok", "observation_code": code, "expand_num": 0})  # fmt: skip
            message["function_call"] = {"name": name, "arguments": arguments}
        lists.append([*history, message])
        history = lists[-1] + ([] if what == "own" else [{"role": "function", "name": name, "content": "ok"}])
    file = _chains(other, chain) if other else _chains(chain)
    file["answer_generation"].update(valid_data=True, train_messages=lists)
    return file


@pytest.mark.parametrize(
    "turns",
    [
        [(None, "Inari"), ("I know it.", "own"), (None, "Finish")],
        [("First.", "own"), ("Second.", "own"), (None, "Inari"), ("Done.", "Finish")],
        [("First.", "Inari"), ("Hm.", "own"), (None, "Saimaa"), (None, "Finish")],
        [("Again.", "own"), (None, "Inari"), ("Again.", "Inari"), (None, "Finish")],
        [(None, "Inari"), (None, "Finish")],
    ],
)
def test_thoughts_of_chains_keep_their_messages(turns: list[tuple[str | None, str]]) -> None:
    answers = table({"a": _chain_file(*turns)})
    calls = [n for n, (_, what) in enumerate(turns, start=1) if what != "own"]
    chosen, all_steps = (trajectories(answers, steps=steps, history="clean") for steps in ("chosen", "all"))
    assert [row["step"] for row in chosen] == calls
    assert [row["messages"] for row in chosen] == [row["messages"] for row in all_steps]
    assert all(all_steps["on_path"])
    assert {row["reason"] for row in ledger([all_steps])} <= {"thought_only"}


def test_thoughts_of_chains_in_pairs() -> None:
    abandoned = [
        {"node_type": "Thought", "description": "A guess.", "expand_num": 0},
        {"node_type": "Action", "description": "lakes", "expand_num": 0},
        {"node_type": "Action Input", "description": "{}", "observation": "no", "observation_code": 0, "expand_num": 0},
    ]
    file = _chain_file(("I look.", "own"), (None, "Inari"), (None, "Finish"), other=abandoned)
    pairs = preference_pairs(table({"a": file}))
    (row,) = pairs
    assert [message["content"] for side in ("chosen", "rejected") for message in row[side]] == ["I look.", "A guess."]
    assert [m["tool_calls"][0]["function"]["arguments"] for m in row["chosen"]] == ['{"lake": "Inari"}']


def _finish_type(file: dict[str, Any]) -> str:
    generation = file["answer_generation"]
    return str(generation["finish_type"]) if generation["valid_data"] else "unfinished"


def test_filters_record_drops_and_keep_other_samples() -> None:
    answers = table(_files(40))
    samples = trajectories(answers, steps="all", keep_thought=False)
    assert {flag for flags in samples["flags"] for flag in flags} == {*FLAGS} - {"unpaired_call"}
    other_drops = {(r["id"], r["reason"]) for r in ledger([samples])}
    choices: list[Any] = [["lost_thought"], ("unknown_function", "repeated_call"), set(FLAGS)]
    for without in choices:
        filtered = trajectories(answers, steps="all", keep_thought=False, without=without)
        assert filtered["id"][:] == [r["id"] for r in samples if not set(r["flags"]) & set(without)]
        drops = {(r["id"], r["reason"]) for r in ledger([filtered])} - other_drops
        assert {name for name, _ in drops} == set(samples["id"]) - set(filtered["id"])
        by_id = dict(zip(samples["id"], samples["flags"], strict=True))
        assert all(reason in by_id[name] and reason in without for name, reason in drops)
    for kind, n in Counter(samples["finish_type"]).items():
        filtered = trajectories(answers, steps="all", keep_thought=False, finish=[kind])
        assert len(filtered) == n > 0
        assert set(filtered["finish_type"]) == {kind}
        reasons = Counter(r["reason"] for r in ledger([filtered]))
        assert reasons["finish_type"] == sum(_finish_type(file) != kind for file in _files(40).values())
    assert len(trajectories(answers, finish=())) == 0


def test_equal_settings_share_one_stage() -> None:
    answers = table(_files(5))
    first = trajectories(answers, finish=["give_up", "give_answer"], without=("lost_thought", "repeated_call"))
    second = trajectories(
        answers, finish=("give_answer", "give_up"), without=["repeated_call", "lost_thought"], num_proc=2
    )
    explicit_defaults = trajectories(answers, history="faithful", keep_thought=True)
    assert first._fingerprint == second._fingerprint
    assert explicit_defaults._fingerprint == trajectories(answers)._fingerprint != first._fingerprint


def test_features_are_independent_of_the_rows() -> None:
    answers = table({"a": PLAIN, "b": "{"})
    for options, features in (({}, TRAJECTORIES), ({"style": "toolllama"}, TOOLLLAMA)):
        for part in (answers, answers.select([1]), answers.select([])):
            assert trajectories(part, **options).features == features  # type: ignore[arg-type]
    splits = trajectories(DatasetDict({"train": answers, "test": answers.select([1])}))
    assert (len(splits["train"]) > 0, len(splits["test"])) == (True, 0)
    extended = answers.add_column("own", ["x", "y"])
    assert trajectories(extended)[:] == trajectories(answers)[:], "further columns are ignored"


def test_repeated_ids_are_rejected() -> None:
    twice = Dataset.from_list([row("a", PLAIN), row("a", PLAIN)], features=ANSWERS)
    with pytest.raises(InputError, match="expected unique ids"):
        trajectories(twice)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layout": "joined"}, UnknownName, "unknown layout 'joined'; choose from: merged, split"),
        ({"style": "openai"}, UnknownName, "choose from: messages, toolllama"),
        ({"history": "raw"}, UnknownName, "choose from: clean, faithful, upstream"),
        ({"steps": "some"}, UnknownName, "choose from: all, chosen"),
        ({"finish": ["win"]}, UnknownName, "choose from: give_answer, give_up"),
        ({"finish": "give_answer"}, InputError, "expected a list of names"),
        ({"finish": [None, "give_up"]}, UnknownName, "unknown finish type None"),
        ({"without": "lost_thought"}, InputError, "expected a list of names"),
        ({"without": ["lost"]}, UnknownName, "unknown flag 'lost'"),
        ({"style": "toolllama", "layout": "merged"}, InputError, "requires layout 'split', found 'merged'"),
    ],
)
def test_invalid_arguments(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        trajectories(table({"a": PLAIN}), **options)


def test_other_tables_are_rejected() -> None:
    with pytest.raises(MissingColumns, match="trajectories needs the columns"):
        trajectories(Dataset.from_dict({"id": ["a"], "query": ["b"]}))
    with pytest.raises(InputError, match="expected a"):
        trajectories([row("a", PLAIN)])


def test_an_error_after_the_first_sample_drops_the_file() -> None:
    def stream() -> Iterator[dict[str, Any] | tuple[str, Drop]]:
        yield {"id": "a#1"}
        raise UnusableRow("odd", "x" * 300)

    assert list(answer_files.checked_stream({"id": "a", "answer": "{}"}, stream())) == [("a", Drop("odd", "x" * 200))]


def test_a_file_that_is_too_large_keeps_the_drops_of_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_files, "MAX_SAMPLE_CHARACTERS", 100)
    stream: answer_files.SampleStream = iter([{"text": "x" * 99}, ("f#2", Drop("thought_only")), {"text": "y"}])
    first, *others = answer_files.checked_stream({"id": "f", "answer": "z" * 99}, stream)
    assert isinstance(first, tuple)
    assert (first[0], first[1].reason, others) == ("f", "too_large", [("f#2", Drop("thought_only"))])
