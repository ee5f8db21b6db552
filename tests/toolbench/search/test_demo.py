"""The demo: queries, recorded replies, and bundled answer files."""

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

# Texts of the correct answers, worked out by hand from the passages; None: no answer exists.
EXPECTED: dict[str, list[str] | None] = {
    "demo-01": ["4,132 miles"],  # 6650 / 1.609344
    "demo-02": ["16341 days"],
    "demo-03": ["Sunday"],
    "demo-04": ["5.41"],  # 6650 / 1230
    "demo-05": ["29,032 feet"],  # 8849 / 0.3048
    "demo-06": ["869 degrees"],  # 465 * 9/5 + 32
    "demo-07": None,  # division by the number of moons of Venus
    "demo-08": None,  # no passage mentions Loch Ness
    "demo-09": None,  # no function reports the weather
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


def final_answers(answers: Dataset) -> dict[str, str | None]:
    """Return the final answer of each query; None for a give-up."""
    answers_by_query = {}
    for row in answers:
        text = json.loads(json.loads(row["answer"])["answer_generation"]["final_answer"])
        answers_by_query[row["id"].split("_")[0]] = text.get("final_answer")
    return answers_by_query


def states(answers: Dataset) -> dict[str, list[State]]:
    return {row["id"].split("_")[0]: list(states_of(read_file_tree(json.loads(row["answer"])))) for row in answers}


def test_queries_are_varied_and_name_known_functions() -> None:
    queries = demo_queries()
    assert len(set(queries["query"])) == len(set(queries["id"])) == len(queries) == 24
    used = Counter(name for names in queries["functions"] for name in names)
    assert set(used) == {function.__name__ for function in DEMO_FUNCTIONS}
    assert min(used.values()) >= 8
    assert demo_queries(3)["id"][:] == ["demo-01", "demo-02", "demo-03"]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return generate_trajectories(demo_queries(), DEMO_FUNCTIONS, MODEL)


def test_answers_are_correct_or_given_up(answers: Dataset) -> None:
    answered = final_answers(answers)
    assert set(answered) == set(EXPECTED)
    for name, words in EXPECTED.items():
        assert (answered[name] is None) == (words is None), name
        assert all(word in (answered[name] or "") for word in words or ()), (name, answered[name])


def test_every_kind_of_failure_occurs(answers: Dataset) -> None:
    trees = states(answers)
    codes = Counter(state.code for tree in trees.values() for state in tree)
    assert {None, 0, 1, 2, 3, 4, 12} <= set(codes), "thoughts, unknown functions, invalid arguments, failures"
    backtracked = [
        name for name, tree in trees.items() if any(len(s.children) > 1 for s in [*tree, tree[0].parent or tree[0]])
    ]
    assert len(backtracked) >= 8
    observations = " ".join(state.observation for tree in trees.values() for state in tree)
    for text in (
        "unknown_name: no unit",
        "no_result",
        "zero_division",
        "no JSON",
        "is required",
        "domain: there is no day",
    ):
        assert text in observations, text
    calls = {name: {state.call[0] for state in tree if state.call} - {"Finish"} for name, tree in trees.items()}
    assert sum(len(names) >= 2 for names in calls.values()) >= 16


@pytest.mark.parametrize(("method", "least"), [(Method(), 20), (Method("dfs"), 20), (Method("chain"), 10)])
def test_both_protocols_yield_equal_answers(method: Method, least: int) -> None:
    native, text = (
        generate_trajectories(demo_queries(), DEMO_FUNCTIONS, MODEL, method=method, protocol=protocol)
        for protocol in ("tools", "text")
    )
    assert native["answer"][:] == text["answer"][:]
    answered = {name: answer for name, answer in final_answers(native).items() if answer is not None}
    assert len(answered) >= least
    assert all(word in answer for name, answer in answered.items() for word in EXPECTED[name] or ["?"]), (
        "an answer is wrong"
    )
    assert (len(answered) < 20) == (method.kind == "chain"), "a chain cannot backtrack"


def test_chains_start_with_different_attempts() -> None:
    model = demo_model(progress=False, temperature=1.0)
    answers = generate_trajectories(demo_queries(3), DEMO_FUNCTIONS, model, method=Method("chain", chains=2))
    assert answers["finish_type"][:] == ["give_answer"] * 3, "only the second chain of the third query answers it"


def test_wider_searches_are_recorded() -> None:
    """dfsdt backtracks before a fourth attempt."""
    narrow, wide = (
        generate_trajectories(demo_queries(3), DEMO_FUNCTIONS, MODEL, method=Method(width=width)) for width in (3, 9)
    )
    assert final_answers(narrow) == final_answers(wide)
    ranked = generate_trajectories(demo_queries(3), DEMO_FUNCTIONS, MODEL, method=Method("dfs", width=3))
    assert ranked["finish_type"][:] == ["give_answer"] * 3
    with pytest.raises(ScriptExhausted, match="at most three attempts"):
        generate_trajectories(demo_queries(3), DEMO_FUNCTIONS, MODEL, method=Method("dfs", width=4))


def test_records_are_unique_and_sorted_by_query() -> None:
    lines = (SAMPLES / "search_replies.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert [list(record) for record in records] == [["id", "key", "replies"]] * len(records)
    ids = [record["id"] for record in records]
    assert ids == sorted(ids)
    assert set(ids) == set(demo_queries()["id"])
    assert len({record["key"] for record in records}) == len(records)
    assert all(len(set(record["replies"])) == len(record["replies"]) > 0 for record in records)


def test_different_function_results_have_no_recorded_reply() -> None:
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


def test_other_queries_are_rejected() -> None:
    with pytest.raises(ScriptExhausted, match="only knows `demo_queries`"):
        generate_trajectories(["How far is it to Ulm?"], DEMO_FUNCTIONS, MODEL)


# The bundled answer files ---------------------------------------------------------------------------------------------


def test_bundled_answers_equal_generated_ones() -> None:
    """After an intended change: `write_answers(t, FOLDER) for t in sample_answers()`."""
    generated = {row["id"]: row["answer"] for table in sample_answers() for row in table}
    paths = {path.stem: path for path in (SAMPLES / "answers").glob("*.json")}
    assert set(generated) == set(paths)
    for name, path in paths.items():
        assert path.read_text(encoding="utf-8") == generated[name], name
        assert path.stat().st_size < 60_000


def test_bundled_answers_cover_all_cases() -> None:
    answers = load_source("sample_trajectories")
    assert 8 <= len(answers) <= 10
    assert set(answers["dataset"]) == {"sample_trajectories"}
    assert answers["id"][:] == sorted(answers["id"])
    assert set(answers["finish_type"]) == {"give_answer", "give_up"}
    steps = trajectories(answers, steps="all")
    flags = {flag for flags in steps["flags"] for flag in flags}
    arguments = {"invalid_arguments", "invalid_arguments_in_history"}
    assert flags == {"unknown_function", *arguments, "truncated_observation", "repeated_call"}
    assert not all(steps["on_path"]), "abandoned branches"
    assert "thought_only" in ledger([steps])["reason"]
    assert "gave_up" in preference_pairs(answers)["why"]
    merged: list[dict[str, Any]] = list(trajectories(answers, layout="merged"))
    assert max(len(row["steps"]) for row in merged) > 1
