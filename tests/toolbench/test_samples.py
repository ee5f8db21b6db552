"""Trajectories: what each file gives, or why it gives nothing, and ids that depend on the file alone."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from tests.support.answer_trees import FUNCTIONS, RandomSearch, row, searches, table
from toolrlef_data.columns import ANSWERS, TOOLLLAMA, TRAJECTORIES
from toolrlef_data.loading_scripts import load_source
from toolrlef_data.publishing.exports import export
from toolrlef_data.records import Drop, InputError, MissingColumns, UnknownName, UnusableRow
from toolrlef_data.tables.lineage import ledger, lineage
from toolrlef_data.toolbench import answer_file as answer_files
from toolrlef_data.toolbench.histories import HISTORIES
from toolrlef_data.toolbench.messages import FLAGS, canonical
from toolrlef_data.toolbench.preferences import preference_pairs
from toolrlef_data.toolbench.samples import trajectories

File = dict[str, Any]
Made = Callable[[Dataset], Dataset]

WAYS: dict[str, Made] = {
    "chosen": lambda answers: trajectories(answers, layout="merged"),
    "toolllama": lambda answers: trajectories(answers, style="toolllama"),
    "all": lambda answers: trajectories(answers, steps="all"),
    "pairs": lambda answers: preference_pairs(answers, finish=("give_answer", "give_up")),
}


def _files(count: int) -> dict[str, File]:
    return {f"G/{search.seed}": search.file() for search in searches(count)}


def _ids(samples: Dataset) -> list[str]:
    """Ids of the steps that samples train, and of what was dropped."""
    steps = []
    for name in samples["id"]:
        file, _, places = name.partition("#")
        steps += [f"{file}#{place}" for place in places.split("+")]
    return steps + list(ledger([samples])["id"])


# What the files hold --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", ["chosen", "all"])
def test_every_step_is_a_sample_or_has_a_reason(steps: str) -> None:
    made = {f"G/{search.seed}": search for search in searches(30)}
    if steps == "all":  # where a file shows no prompt, what stood around those of other branches is not known
        made = {name: s for name, s in made.items() if any("valid" in m for messages in s.lists() for m in messages)}
    answers = table({name: search.file() for name, search in made.items()})
    for history in HISTORIES:
        samples = trajectories(answers, history=history, steps=steps)
        left = {r["id"]: r["reason"] for r in ledger([samples])}
        expected: dict[str, Any] = {}
        for name, search in made.items():
            if steps == "all":
                asked = {f"t{own.place}": own for own in search.root.descendants()}
            elif search.end is None:
                assert left.pop(name) == "not_valid"
                continue
            else:
                targets = [messages[-1] for messages in search.lists()]
                path = search.end.path()
                asked = {
                    str(n): next(o for o in path if o.message is target) for n, target in enumerate(targets, start=1)
                }
            for place, own in asked.items():
                if own.is_thought:
                    assert left.pop(f"{name}#{place}") == "thought_only"
                else:
                    on_path = search.end is not None and own in search.end.path()
                    expected[f"{name}#{place}"] = (canonical(own.histories()[history], True), on_path, len(asked))
        assert not left
        plain = {
            r["id"]: (
                [{k: v for k, v in m.items() if k != "train"} for m in r["messages"]],
                r["chosen"],
                r["n_steps"],
            )
            for r in samples
        }
        assert plain == expected
        for r in samples:
            search = made[r["id"].partition("#")[0]]
            assert r["finish_type"] == ("give_up" if search.end is not None and not search.answer else "give_answer")
            assert (r["query"], r["layout"], r["history"]) == (search.query, "split", history)
            assert [each["function"] for each in json.loads(r["tools"])] == FUNCTIONS
            assert r["source_file"] == f"{r['id'].partition('#')[0]}.json"


@pytest.mark.parametrize("level", ["G1", "G2"])
def test_upstreams_file_byte_for_byte(shared: Path, tmp_path: Path, level: str) -> None:
    answers = load_source(
        "toolbench", data_dir=shared / f"data/toolbench/answer/{level}_answer", method="DFS_woFilter_w2"
    )
    samples = trajectories(answers, style="toolllama")
    assert samples.features == TOOLLLAMA
    written = export(samples, "toolllama", tmp_path / "train.json").read_bytes()
    assert written == (shared / f"data/toolbench/reference/toollama_{level}_dfs.json").read_bytes()
    kept = trajectories(answers, style="toolllama", keep_thought=True)
    assert kept["id"][:] == samples["id"][:]
    assert kept["conversations"][:] != samples["conversations"][:]
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
    """One of calls alone on its way, with a diversity prompt and a branch that was left."""
    for search in (RandomSearch(seed, turns=3, thoughts=0) for seed in range(200)):
        path = search.answer.path() if search.answer else []
        hidden = any(m.get("valid") is False for messages in search.lists() for m in messages)
        if len(path) == 3 and hidden:
            return search
    raise AssertionError("no such search")


PLAIN = _plain_search().file()


def _changed(change: Callable[[File], Any]) -> File:
    file = copy.deepcopy(PLAIN)
    change(file)
    return file


def _lists(file: File) -> list[list[dict[str, Any]]]:
    found: list[list[dict[str, Any]]] = file["answer_generation"]["train_messages"]
    return found


def _all(file: File, change: Callable[[dict[str, Any]], Any], role: str = "", hidden: bool = False) -> None:
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


def _made(**changes: Any) -> File:
    return _changed(lambda f: f["answer_generation"].update(changes))


def _first_input(file: File) -> dict[str, Any]:
    node: dict[str, Any] = file["tree"]["tree"]["children"][0]
    while node["node_type"] != "Action Input":
        node = node["children"][0]
    return node


def _each(
    why: str, values: list[Any], change: Callable[[File, Any], Any], expected: Any
) -> list[tuple[str, File, Any]]:
    """Cases that differ in one value."""
    made = [copy.deepcopy(PLAIN) for _ in values]
    for file, value in zip(made, values, strict=True):
        change(file, value)
    return [(f"{why} {value!r}", file, expected) for file, value in zip(made, values, strict=True)]


def _deep(levels: int, lists: bool = False) -> str:
    """A tree of so many calls, one below the other; longer than JSON's reader goes, from some 240 on."""
    file = _changed(lambda f: None if lists else f["answer_generation"].pop("train_messages"))
    file["tree"]["tree"] = "HERE"
    step = '{"node_type": "Action", "description": "lakes", "children": [{"node_type": "Action Input", "children": ['
    behind = '], "description": "{}", "observation": "o", "observation_code": 0, "expand_num": 1}]}'
    whole = '{"node_type": "Action Input", "description": "", "children": [' + step * levels + behind * levels + "]}"
    return json.dumps(file).replace('"HERE"', whole)


def _chains(*chains: Any) -> File:
    file = _changed(lambda f: f.pop("tree"))
    return {**file, "trys": [{"chain": chain} for chain in chains]}


LOOKS = {"role": "function", "name": "lakes", "content": "x"}
ALIKE = "as plain"  # what the plain file gives
NONE = "no_messages"  # nothing says what the model was told

# Why; the file, or its text; per way the reasons of its ledger, or `ALIKE`. One reason stands for all ways.
IRREGULAR: list[tuple[str, Any, Any]] = [
    ("plain", PLAIN, ALIKE),
    ("a list ends in a function's message", _changed(lambda f: _lists(f)[0].append(LOOKS)), {"chosen": "no_target", "toolllama": "no_target", "all": "tree_differs", "pairs": "tree_differs"}),
    ("a list ends in a user's message", _changed(lambda f: _lists(f)[-1].append({"role": "user", "content": "x"})), {"chosen": "no_target", "toolllama": "no_target", "all": "tree_differs", "pairs": "tree_differs"}),
    ("no lists", _changed(lambda f: f["answer_generation"].pop("train_messages")), NONE),
    ("null lists", _made(train_messages=None), NONE),
    ("empty lists", _made(train_messages=[]), NONE),
    *_each("lists are ", [5, "x", {"a": 1}, True, [[]], [5], ["x"], [None]], lambda f, v: f["answer_generation"].update(train_messages=v), "no_messages"),
    *_each("a list holds ", [5, "x", None, [], {}, {"content": "x"}], lambda f, v: f["answer_generation"].update(train_messages=[[v]]), "not_a_message"),
    ("one list is empty", _changed(lambda f: _lists(f).insert(1, [])), "no_messages"),
    *_each("a content is ", [5, [], {}, True], lambda f, v: _lists(f)[0][0].update(content=v), "not_a_message"),
    *_each("a role is ", [5, None, [], "tool"], lambda f, v: _lists(f)[0][0].update(role=v), "not_a_message"),
    *_each("a name is ", [5, [], {}, True], lambda f, v: _all(f, lambda m: m.update(name=v), "function"), "not_a_message"),
    *_each("a call is ", [5, {}, [], "x", {"name": "lakes"}, {"name": "lakes", "arguments": {"lake": "Inari"}}], lambda f, v: _lists(f)[0][-1].update(function_call=v), "not_a_message"),
    ("null names", _changed(lambda f: _all(f, lambda m: m.update(name=None), "function")), ALIKE),
    ("no names", _changed(lambda f: _all(f, lambda m: m.pop("name"), "function")), ALIKE),
    ("no null contents", _changed(lambda f: _all(f, lambda m: m.pop("content") if m["content"] is None else None)), ALIKE),
    ("null calls", _changed(lambda f: _all(f, lambda m: m.setdefault("function_call"))), ALIKE),
    ("further keys", _changed(lambda f: _all(f, lambda m: m.update(refusal=None, id=[7]))), ALIKE),
    ("prompts without content", _changed(lambda f: _all(f, lambda m: m.pop("content"), hidden=True)), {"all": "tree_differs", "pairs": "tree_differs"}),
    ("prompts with a null", _changed(lambda f: _all(f, lambda m: m.update(content=None), hidden=True)), {"all": "tree_differs", "pairs": "tree_differs"}),
    ("a null call in place of the first", _changed(lambda f: _lists(f)[0][-1].update(function_call=None)), {"chosen": "thought_only", "toolllama": "thought_only", "all": "tree_differs", "pairs": "tree_differs"}),
    ("a result before any call", _changed(lambda f: _insert(f, LOOKS)), {"chosen": "result_without_call", "all": "result_without_call", "pairs": "result_without_call"}),
    ("a result before any call, in one list", _changed(lambda f: _lists(f)[1].insert(1, LOOKS)), {"chosen": "result_without_call", "all": "tree_differs", "pairs": "tree_differs"}),
    ("no opening", _changed(_without_opening), {}),
    *_each("functions are ", [None, 5, "x", [5], [None], [{}], [{"name": None}], [{"name": ["a"]}], [{"name": 5}]], lambda f, v: f["answer_generation"].update(function=v), "not_an_answer"),
    ("one function twice", _made(function=[*FUNCTIONS, *FUNCTIONS]), ALIKE),
    ("no function", _made(function=[]), ALIKE),
    ("a function's schema is odd", _made(function=[{"name": "\0", "description": 5, "parameters": [None, 1e400]}]), ALIKE),
    ("a lone surrogate in a schema", _made(function=[{"name": "lakes", "x": "\ud800"}]), "not_unicode"),
    ("a lone surrogate in the first message", _changed(lambda f: _all(f, lambda m: m.update(content="\ud800"), "system")), "not_unicode"),
    ("NUL characters", _changed(lambda f: _all(f, lambda m: m.update(content="\0"), "system")), {}),
    ("a pair of surrogates", _changed(lambda f: _all(f, lambda m: m.update(content="\U0001f41f"), "system")), ALIKE),
    *_each("the tree is ", [None, 5, "x", [], {}, {"tree": None}, {"tree": {}}, {"tree": {"node_type": "Action Input", "description": "", "children": 5}}], lambda f, v: f.update(tree=v), {"all": "no_tree", "pairs": "no_tree"}),
    ("no tree", _changed(lambda f: f.pop("tree")), {"all": "no_tree", "pairs": "no_tree"}),
    ("the tree is cut", _changed(lambda f: _first_input(f).update(children=[])), {"all": "tree_differs", "pairs": "tree_differs"}),
    ("the tree ends with an action", _changed(lambda f: f["tree"]["tree"]["children"].append({"node_type": "Action", "description": "x"})), {"all": "no_tree", "pairs": "no_tree"}),
    ("the tree saw something else", _changed(lambda f: _first_input(f).update(observation="else")), {"all": "tree_differs", "pairs": "tree_differs"}),
    ("a node of another kind", _changed(lambda f: _first_input(f).update(node_type=["x"])), {"all": "no_tree", "pairs": "no_tree"}),
    *_each("a node's number", [None, "x", [], 1e400], lambda f, v: _first_input(f).update(expand_num=v), ALIKE),
    *_each("a node's state", [None, "x", [], 5], lambda f, v: _first_input(f).update(pruned=v, finished=v, depth=v), ALIKE),
    ("a tree 200 calls deep", _deep(200), NONE),
    ("one that is not the messages'", _deep(200, lists=True), {"all": "tree_differs", "pairs": "tree_differs"}),
    ("900 calls", _deep(900), "not_an_answer"),
    ("no chains", _chains(), {"all": "tree_differs", "pairs": "tree_differs"}),
    ("chains that are none", _chains(5), {"all": "no_tree", "pairs": "no_tree"}),
    ("nodes that are none", _chains([{}]), {"all": "no_tree", "pairs": "no_tree"}),
    *_each("arguments of the search are ", [5, "x", None, [1], {}, True], lambda f, v: f.update(forward_args=v), ALIKE),
    ("an unknown end", _made(finish_type="won"), {"pairs": "finish_type"}),
    ("no end", _made(finish_type=None), ALIKE),
    ("invalid, with lists", _made(valid_data=False), {"chosen": "not_valid", "toolllama": "not_valid", "pairs": "not_valid"}),
    ("no word of it, with lists", _made(valid_data=None), ALIKE),
    ("no word of it, and no lists", _made(valid_data=None, train_messages=None), {"chosen": "not_valid", "toolllama": "not_valid", "all": "no_messages", "pairs": "no_messages"}),
    *[(f"the text {v!r:.20}", v, "not_an_answer") for v in ("", "{", "null", "5", "[]", "{}", '"x"', '{"answer_generation": 5}', '{"answer_generation": "function"}', "[" * 100_000, "9" * 5000, None)],
]  # fmt: skip


@pytest.mark.parametrize("way", list(WAYS))
def test_irregular_files_give_samples_or_reasons_and_touch_no_other(way: str) -> None:
    files: dict[str, Any] = {}
    for n, (_, file, _) in enumerate(IRREGULAR):
        files |= {f"odd {n}": file, f"good {n}": PLAIN}
    done = WAYS[way](table(files))
    left = ledger([done])
    plain = WAYS[way](table({"good 0": PLAIN}))
    given = [r for r in done if r["id"].startswith("good")]
    assert len(given) == len(plain) * len(IRREGULAR)
    for n in range(len(IRREGULAR)):
        for r, wanted in zip(given[n * len(plain) :], plain, strict=False):
            name = wanted["id"].replace("good 0", f"good {n}")
            assert r == {**wanted, "id": name, "source_file": f"good {n}.json"}
    assert len(set(left["id"])) == len(left)
    by_file: dict[str, list[str]] = {}
    for r in left:
        by_file.setdefault(r["id"].partition("#")[0], []).append(r["reason"])
        assert (r["stage"], r["task"], r["dataset"]) == (lineage(done)[-1]["step"], "toolbench", "toolbench")
        assert len(r["detail"]) <= 200
    usual = by_file.get("good 0", [])
    samples = Counter(r["id"].partition("#")[0] for r in done)
    for n, (why, _, expected) in enumerate(IRREGULAR):
        reasons, name = by_file.get(f"odd {n}", []), f"odd {n}"
        wanted = expected if isinstance(expected, str) else expected.get(way)
        assert reasons or samples[name], f"{why}: it has vanished"
        if wanted == ALIKE:
            assert (samples[name], reasons) == (samples["good 0"], usual), why
        elif wanted is not None:
            assert set(wanted.split()) == set(reasons), why
            assert len(reasons) > 1 or not samples[name] or name + "#" in "".join(left["id"]), why
        else:
            assert samples[name], f"{why}: {reasons}"


def _long(characters: int) -> File:
    return _changed(lambda f: _all(f, lambda m: m.update(content="y" * characters), "function"))


def test_long_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """An observation of 10 MB stands in every later step; what would not fit in a batch leaves as a whole."""
    answers = table({"a": PLAIN, "long": _long(10_000_000), "z": PLAIN})
    samples = trajectories(answers, layout="merged", history="clean")
    assert samples["source_file"][:] == ["a.json", "long.json", "z.json"]
    assert 20_000_000 < sum(len(message["content"] or "") for message in samples[1]["messages"]) < 20_001_000
    monkeypatch.setattr(answer_files, "MOST", 400_000)
    answers = table({"a": PLAIN, "long": _long(200_000), "z": PLAIN})
    for way, made in WAYS.items():
        done = made(answers)
        assert {row_id.partition("#")[0] for row_id in done["id"]} >= {"a", "z"}
        left = [(r["id"], r["reason"]) for r in ledger([done])]
        assert (("long", "too_large") in left) == (way in ("chosen", "toolllama")), "the tree saw other things"


# Ids and options ------------------------------------------------------------------------------------------------------


def _rows_by_id(samples: Dataset) -> dict[str, Mapping[str, Any]]:
    found = {r["id"]: r for r in samples}
    assert len(found) == len(samples)
    return found


@pytest.mark.parametrize(
    "options", [{}, {"layout": "merged"}, {"steps": "all", "layout": "merged"}, {"style": "toolllama"}]
)
def test_a_file_gives_the_same_whatever_stands_beside_it(options: dict[str, Any]) -> None:
    files = _files(40)
    whole = trajectories(table(files), **options)
    by_id = _rows_by_id(whole)
    assert trajectories(table(files), num_proc=2, **options)[:] == whole[:], "also with several processes"
    backwards = trajectories(table(dict(reversed(files.items()))), **options)
    assert _rows_by_id(backwards) == by_id
    some = trajectories(table(dict(list(files.items())[10:13])), **options)
    assert 0 < len(some) < len(whole)
    assert _rows_by_id(some).items() <= by_id.items()
    assert sorted(_ids(whole)) == sorted(set(_ids(whole)))


def test_ids_do_not_depend_on_layout_style_history_or_thoughts() -> None:
    answers = table(_files(30))
    for steps in ("chosen", "all"):
        wanted = sorted(_ids(trajectories(answers, steps=steps)))
        for options in (
            {"layout": "merged"},
            {"style": "toolllama"},
            {"history": "clean", "keep_thought": False},
            {"history": "upstream", "layout": "merged"},
        ):
            assert sorted(_ids(trajectories(answers, steps=steps, **options))) == wanted


def _end_of(file: dict[str, Any]) -> str:
    made = file["answer_generation"]
    return str(made["finish_type"]) if made["valid_data"] else "unfinished"


def test_what_is_left_out_is_named_and_the_rest_stays() -> None:
    answers = table(_files(40))
    whole = trajectories(answers, steps="all", keep_thought=False)
    assert {flag for flags in whole["flags"] for flag in flags} == set(FLAGS)
    usual = {(r["id"], r["reason"]) for r in ledger([whole])}
    choices: list[Any] = [["lost_thought"], ("unknown_function", "repeated_call"), set(FLAGS)]
    for without in choices:
        some = trajectories(answers, steps="all", keep_thought=False, without=without)
        assert some["id"][:] == [r["id"] for r in whole if not set(r["flags"]) & set(without)]
        named = {(r["id"], r["reason"]) for r in ledger([some])} - usual
        assert {name for name, _ in named} == set(whole["id"]) - set(some["id"])
        by_id = dict(zip(whole["id"], whole["flags"], strict=True))
        assert all(reason in by_id[name] and reason in without for name, reason in named)
    for kind, n in Counter(whole["finish_type"]).items():
        some = trajectories(answers, steps="all", keep_thought=False, finish=[kind])
        assert len(some) == n > 0
        assert set(some["finish_type"]) == {kind}
        left = Counter(r["reason"] for r in ledger([some]))
        assert left["finish_type"] == sum(_end_of(file) != kind for file in _files(40).values())
    assert len(trajectories(answers, finish=())) == 0


def test_equal_settings_are_one_stage() -> None:
    answers = table(_files(5))
    one = trajectories(answers, finish=["give_up", "give_answer"], without=("lost_thought", "repeated_call"))
    two = trajectories(
        answers, finish=("give_answer", "give_up"), without=["repeated_call", "lost_thought"], num_proc=2
    )
    same = trajectories(answers, history="faithful", keep_thought=True)
    assert one._fingerprint == two._fingerprint
    assert same._fingerprint == trajectories(answers)._fingerprint != one._fingerprint


def test_tables_of_one_kind_whatever_they_hold() -> None:
    answers = table({"a": PLAIN, "b": "{"})
    for options, features in (({}, TRAJECTORIES), ({"style": "toolllama"}, TOOLLLAMA)):
        for some in (answers, answers.select([1]), answers.select([])):
            assert trajectories(some, **options).features == features  # type: ignore[arg-type]
    both = trajectories(DatasetDict({"train": answers, "test": answers.select([1])}))
    assert (len(both["train"]) > 0, len(both["test"])) == (True, 0)
    more = answers.add_column("own", ["x", "y"])
    assert trajectories(more)[:] == trajectories(answers)[:], "further columns are fine"


def test_two_files_of_one_id_are_refused() -> None:
    twice = Dataset.from_list([row("a", PLAIN), row("a", PLAIN)], features=ANSWERS)
    with pytest.raises(InputError, match="stands twice"):
        trajectories(twice)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layout": "joined"}, UnknownName, "unknown layout 'joined'; choose from: merged, split"),
        ({"style": "openai"}, UnknownName, "choose from: messages, toolllama"),
        ({"history": "raw"}, UnknownName, "choose from: clean, faithful, upstream"),
        ({"steps": "some"}, UnknownName, "choose from: all, chosen"),
        ({"finish": ["win"]}, UnknownName, "choose from: give_answer, give_up"),
        ({"finish": "give_answer"}, InputError, "takes a list of names"),
        ({"finish": [None, "give_up"]}, UnknownName, "unknown finish type None"),
        ({"without": "lost_thought"}, InputError, "takes a list of names"),
        ({"without": ["lost"]}, UnknownName, "unknown flag 'lost'"),
        ({"style": "toolllama", "layout": "merged"}, InputError, "leave it split"),
    ],
)
def test_mistakes(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        trajectories(table({"a": PLAIN}), **options)


def test_other_tables_are_refused() -> None:
    with pytest.raises(MissingColumns, match="trajectories needs the columns"):
        trajectories(Dataset.from_dict({"id": ["a"], "query": ["b"]}))
    with pytest.raises(InputError, match="expected a"):
        trajectories([row("a", PLAIN)])


def test_a_file_that_turns_out_irregular_gives_its_reason_alone() -> None:
    def made() -> Iterator[dict[str, Any] | tuple[str, Drop]]:
        yield {"id": "a#1"}
        raise UnusableRow("odd", "x" * 300)

    assert list(answer_files.recorded({"id": "a", "answer": "{}"}, made())) == [("a", Drop("odd", "x" * 200))]
