"""The demo's queries, the recorded replies that stand in for a model, and the answer files that are bundled."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

import toolrlef_data
from toolrlef_data import Method, generate_trajectories, load_source, preference_pairs, trajectories
from toolrlef_data.records import ScriptExhausted
from toolrlef_data.tables.lineage import ledger
from toolrlef_data.toolbench.search.demo import demo_model, demo_queries, sample_answers
from toolrlef_data.toolbench.search.demo_functions import DEMO_FUNCTIONS
from toolrlef_data.toolbench.tree import State, read_file_tree, states_of

SAMPLES = Path(toolrlef_data.__file__).parent / "samples"
MODEL = demo_model(progress=False)

# What a right answer holds, worked out from the passages by hand; None: there is no answer.
RIGHT: dict[str, list[str] | None] = {
    "demo-01": ["4,132 miles"],  # 6650 / 1.609344
    "demo-02": ["16341 days"],
    "demo-03": ["Sunday"],
    "demo-04": ["5.41"],  # 6650 / 1230
    "demo-05": ["29,032 feet"],  # 8849 / 0.3048
    "demo-06": ["869 degrees"],  # 465 * 9/5 + 32
    "demo-07": None,  # division by the moons of Venus
    "demo-08": None,  # Loch Ness is in no passage
    "demo-09": None,  # no function knows the weather
    "demo-10": ["13635 days", "37.3 years"],
    "demo-11": ["8.34 minutes"],
    "demo-12": ["187.4 pounds"],  # 85 / 0.45359237
    "demo-13": ["27.8 meters per second", "14.4 seconds"],
    "demo-14": ["1337.15 kelvin"],
    "demo-15": ["1886-02-17"],
    "demo-16": ["1988-08-28", "Sunday"],
    "demo-17": ["9.671 kilometers"],  # 5895 + 3776 meters
    "demo-18": ["1,774 milliliters"],  # 7.5 * 236.588
    "demo-19": ["no day 2024-02-30"],
    "demo-20": ["37.8 knots"],  # 70 / 1.852
    "demo-21": ["1.94 marathons"],  # 82 / 42.195
    "demo-22": ["49.4 ounces"],
    "demo-23": None,  # the future
    "demo-24": ["65.5 years"],
}


def found(answers: Dataset) -> dict[str, str | None]:
    """The final answer of each query; None where it was given up."""
    made = {}
    for row in answers:
        text = json.loads(json.loads(row["answer"])["answer_generation"]["final_answer"])
        made[row["id"].split("_")[0]] = text.get("final_answer")
    return made


def states(answers: Dataset) -> dict[str, list[State]]:
    return {row["id"].split("_")[0]: list(states_of(read_file_tree(json.loads(row["answer"])))) for row in answers}


def test_the_queries_are_varied_and_ask_for_functions_that_there_are() -> None:
    queries = demo_queries()
    assert len(set(queries["query"])) == len(set(queries["id"])) == len(queries) == 24
    used = Counter(name for names in queries["functions"] for name in names)
    assert set(used) == {function.__name__ for function in DEMO_FUNCTIONS}
    assert min(used.values()) >= 8
    assert demo_queries(3)["id"][:] == ["demo-01", "demo-02", "demo-03"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return generate_trajectories(demo_queries(), DEMO_FUNCTIONS, MODEL)


def test_answers_are_right_and_the_rest_is_given_up(searched: Dataset) -> None:
    made = found(searched)
    assert set(made) == set(RIGHT)
    for name, words in RIGHT.items():
        assert (made[name] is None) == (words is None), name
        assert all(word in (made[name] or "") for word in words or ()), (name, made[name])


def test_all_that_can_go_wrong_goes_wrong_somewhere(searched: Dataset) -> None:
    trees = states(searched)
    codes = Counter(state.code for tree in trees.values() for state in tree)
    assert {None, 0, 1, 2, 3, 4, 12} <= set(codes), "thoughts alone, unknown functions, bad arguments, failures"
    went_back = [
        name for name, tree in trees.items() if any(len(s.children) > 1 for s in [*tree, tree[0].parent or tree[0]])
    ]
    assert len(went_back) >= 8
    words = " ".join(state.observation for tree in trees.values() for state in tree)
    for trap in (
        "unknown_name: no unit",
        "no_result",
        "zero_division",
        "no JSON",
        "is required",
        "domain: there is no day",
    ):
        assert trap in words, trap
    calls = {name: {state.call[0] for state in tree if state.call} - {"Finish"} for name, tree in trees.items()}
    assert sum(len(names) >= 2 for names in calls.values()) >= 16


@pytest.mark.parametrize(("method", "least"), [(Method(), 20), (Method("dfs"), 20), (Method("chain"), 10)])
def test_every_kind_of_search_finds_the_same_in_both_protocols(method: Method, least: int) -> None:
    native, text = (
        generate_trajectories(demo_queries(), DEMO_FUNCTIONS, MODEL, method=method, protocol=protocol)
        for protocol in ("tools", "text")
    )
    assert native["answer"][:] == text["answer"][:]
    made = {name: answer for name, answer in found(native).items() if answer is not None}
    assert len(made) >= least
    assert all(word in answer for name, answer in made.items() for word in RIGHT[name] or ["?"]), "never a wrong one"
    assert (len(made) < 20) == (method.kind == "chain"), "a chain cannot go back"


def test_chains_begin_with_other_tries() -> None:
    model = demo_model(progress=False, temperature=1.0)
    answers = generate_trajectories(demo_queries(3), DEMO_FUNCTIONS, model, method=Method("chain", chains=2))
    assert answers["finish_type"][:] == ["give_answer"] * 3, "the third is answered by its second chain alone"


def test_a_wider_search_is_recorded_too() -> None:
    """Tries above the third are the same in dfsdt, which goes back before them."""
    narrow, wide = (
        generate_trajectories(demo_queries(3), DEMO_FUNCTIONS, MODEL, method=Method(width=width)) for width in (3, 9)
    )
    assert found(narrow) == found(wide)
    ranked = generate_trajectories(demo_queries(3), DEMO_FUNCTIONS, MODEL, method=Method("dfs", width=3))
    assert ranked["finish_type"][:] == ["give_answer"] * 3
    with pytest.raises(ScriptExhausted, match="at most three tries"):
        generate_trajectories(demo_queries(3), DEMO_FUNCTIONS, MODEL, method=Method("dfs", width=4))


def test_each_record_stands_once_with_the_others_of_its_query() -> None:
    lines = (SAMPLES / "search_replies.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert [list(record) for record in records] == [["id", "key", "replies"]] * len(records)
    ids = [record["id"] for record in records]
    assert ids == sorted(ids)
    assert set(ids) == set(demo_queries()["id"])
    assert len({record["key"] for record in records}) == len(records)
    assert all(len(set(record["replies"])) == len(record["replies"]) > 0 for record in records)


def test_a_function_that_gives_something_else_is_not_answered_from_memory() -> None:
    def search(query: str) -> list[str]:
        """Searches.

        Args:
            query: What for.
        """
        return [f"Nothing about {query}"]

    others = [function for function in DEMO_FUNCTIONS if function.__name__ != "search"]
    with pytest.raises(
        ScriptExhausted, match=r"no reply is recorded under \w+, for 'How long is the Nile.*Nothing about"
    ):
        generate_trajectories(demo_queries(1), [*others, search], MODEL)


def test_queries_of_others_are_refused() -> None:
    with pytest.raises(ScriptExhausted, match="knows its own queries only"):
        generate_trajectories(["How far is it to Ulm?"], DEMO_FUNCTIONS, MODEL)


# The bundled answer files ---------------------------------------------------------------------------------------------


def test_the_bundled_answers_are_what_the_generator_makes() -> None:
    """Where the generator has changed on purpose: `write_answers(t, FOLDER) for t in sample_answers()`."""
    made = {row["id"]: row["answer"] for table in sample_answers() for row in table}
    there = {path.stem: path for path in (SAMPLES / "answers").glob("*.json")}
    assert set(made) == set(there)
    for name, path in there.items():
        assert path.read_text(encoding="utf-8") == made[name], name
        assert path.stat().st_size < 60_000


def test_the_source_reads_them_and_every_situation_occurs() -> None:
    answers = load_source("sample_trajectories")
    assert 8 <= len(answers) <= 10
    assert set(answers["dataset"]) == {"sample_trajectories"}
    assert answers["id"][:] == sorted(answers["id"])
    assert set(answers["finish_type"]) == {"give_answer", "give_up"}
    every = trajectories(answers, steps="all")
    flags = {flag for told in every["flags"] for flag in told}
    assert flags == {"unknown_function", "invalid_arguments", "truncated_observation", "repeated_call"}
    assert not all(every["chosen"]), "branches that were left"
    assert "thought_only" in ledger([every])["reason"]
    assert "gave_up" in preference_pairs(answers)["why"]
    merged: list[dict[str, Any]] = list(trajectories(answers, layout="merged"))
    assert max(len(row["steps"]) for row in merged) > 1
