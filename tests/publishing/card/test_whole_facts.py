"""Facts of a card as whole values, computed by hand from tables of a few rows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset, DatasetInfo, Features, List, Value

from toolrlef_data import TASKS
from toolrlef_data.column_meanings import COLUMN_MEANINGS
from toolrlef_data.columns import (
    ANSWERS,
    DROPPED,
    NEED,
    NOT_CALLING,
    PAIRS,
    RESPONSE,
    STAGE1,
    STAGE2,
    TOOLLLAMA,
    TRAJECTORIES,
)
from toolrlef_data.loading_scripts.licences import LICENCES, Licence
from toolrlef_data.publishing.card import metadata, writing
from toolrlef_data.publishing.card.column_facts import FEATURES, Column, column_facts, describe, response_columns
from toolrlef_data.publishing.card.counts import summaries
from toolrlef_data.publishing.card.counts.counting import counts_of
from toolrlef_data.publishing.card.counts.questions import repeated_questions
from toolrlef_data.publishing.card.figure_facts import _funnel_stages
from toolrlef_data.publishing.card.grader_facts import _rows, grader_facts
from toolrlef_data.publishing.card.model_facts import model_facts
from toolrlef_data.publishing.card.need_facts import NeedCounts, need_counts, need_differences
from toolrlef_data.publishing.card.prompt_facts import Prompt, prompt_facts
from toolrlef_data.publishing.card.row_facts import dropped_counts, example, lost_responses
from toolrlef_data.publishing.card.source_facts import SourceFacts, licence_fields
from toolrlef_data.publishing.card.step_facts import StepFacts, kind_of, query_counts, step_facts
from toolrlef_data.publishing.card.training_facts import training_facts
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.identity import normal_form, text_hash
from toolrlef_data.tables.sampling.splits import SHUFFLE
from toolrlef_data.toolbench.histories import HALLUCINATED
from toolrlef_data.trice.ranking.logprobs import LOGPROBS

Row = dict[str, Any]


def table(features: Any, *rows: Row) -> Dataset:
    return Dataset.from_list([{**dict.fromkeys(features), **row} for row in rows], features=Features(features))


# Tables of steps ------------------------------------------------------------------------------------------------------


def message(role: str, train: bool | None, *calls: str) -> Row:
    made = [{"id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}} for name in calls]
    return {
        "role": role,
        "content": "x",
        "name": None,
        "tool_call_id": None,
        "tool_calls": made or None,
        "train": train,
    }


def whole(facts: StepFacts) -> tuple[Any, ...]:
    """Return all facts of a config without zeros."""
    counts = {name: dict(counter) for name, counter in facts.counts.items() if counter}
    return facts.kind, dict(facts.rows), dict(facts.steps), counts, dict(+facts.sums)


def hashes(*texts: str) -> set[int]:
    return {text_hash(text) for text in texts}


def test_facts_of_trajectories() -> None:
    """Steps without a finish type, null lists and messages without a flag are counted as far as they go."""
    first = [message("user", False), message("assistant", True, "ping", "Finish"), message("tool", False), message("assistant", True, "ping")]  # fmt: skip
    second = [message("user", None), message("assistant", False, "stop"), message("assistant", True, HALLUCINATED)]
    shared = {"dataset": "toolbench", "layout": "merged", "history": "clean"}
    rows: list[Row] = [
        {**shared, "query": "Who?", "steps": [1, 2], "on_path_steps": [2], "messages": first, "finish_type": "give_answer", "source_file": "f", "flags": ["x", "y"]},
        {**shared, "query": "who", "steps": [3], "on_path_steps": [], "messages": second, "finish_type": "give_up", "source_file": "g", "flags": ["y"]},
        {"dataset": "other", "query": "", "messages": None, "source_file": None},
    ]  # fmt: skip
    tables = {"train": table(TRAJECTORIES, *rows[:2]), "test": table(TRAJECTORIES, rows[2])}
    facts = step_facts({"web": tables, "other": {"train": table(DROPPED, {"id": "1"})}})
    assert list(facts) == ["web"]
    found = facts["web"]
    counts = {
        "dataset": {"toolbench": 2, "other": 1}, "layout": {"merged": 2}, "history": {"clean": 2}, "flags": {"x": 1, "y": 2},
        "steps_per_row": {2: 1, 1: 1, 0: 1}, "finish_type": {"give_answer": 2, "give_up": 1}, "lengths": {4: 1, 3: 1, 0: 1},
        "functions": {"ping": 2, "Finish": 1, HALLUCINATED: 1},
    }  # fmt: skip
    sums = {"chosen": 1, "messages": 7, "trained": 3, "assistant": 4, "all_trained": 1}
    assert whole(found) == ("trajectories", {"train": 2, "test": 1}, {"train": 3, "test": 0}, counts, sums)
    assert (found.files, found.queries) == ({"train": hashes("f", "g"), "test": set()}, {"train": hashes(normal_form("Who?")), "test": set()})  # fmt: skip
    assert (found.finish_calls, found.hallucinated_calls) == (1, 1)
    assert found.most_common("functions") == [("ping", 2), ("Finish", 1), (HALLUCINATED, 1)]
    found.counts["functions"] = Counter({f"f{n:02}": 12 - n // 2 for n in range(12)})
    assert found.top_functions == [(f"f{n:02}", 12 - n // 2) for n in range(10)]


def test_facts_of_pairs_turns_answers_and_tokens() -> None:
    chosen = [message("assistant", True, "ping"), message("assistant", False, "no")]
    pairs = table(PAIRS, {"id": "f#1", "query": "q", "prompt": [message("user", False)], "chosen": chosen, "rejected": [], "why": "gave_up", "finish_type": "give_answer", "flags": []}, {"id": "g", "prompt": [], "chosen": [], "why": "gave_up"})  # fmt: skip
    turns = [{"from": name, "value": value} for name, value in (("system", "s"), ("user", "\nAction: quoted\nAction Input:"), ("assistant", "\nAction: f g\nAction Input: {}"))]  # fmt: skip
    texts = table(TOOLLLAMA, {"id": "f#1", "conversations": turns, "on_path": True, "history": "upstream"}, {"id": "f#2", "conversations": [], "on_path": False}, {"id": "g", "conversations": turns[:2], "on_path": True})  # fmt: skip
    answers = table(ANSWERS, {"id": "a", "valid": True, "finish_type": "give_answer", "n_calls": 2, "total_tokens": 30, "source_file": "x"}, {"id": "b", "valid": False, "finish_type": None, "n_calls": None, "total_tokens": 5, "source_file": "x"})  # fmt: skip
    lists = Features(input_ids=List(Value("int32")), labels=List(Value("int64")), steps=List(Value("int64")), shortened=Value("int64"), fallback=Value("string"), id=Value("string"))  # fmt: skip
    tokens = table(lists, {"input_ids": [1, 2, 3], "labels": [-100, 2, -100], "steps": [1, 4], "shortened": 7, "fallback": "text", "id": "f#1#2"}, {"input_ids": [4], "labels": [4], "steps": [2], "shortened": 1, "id": "g"})  # fmt: skip
    facts = step_facts({name: {"train": data} for name, data in (("p", pairs), ("t", texts), ("a", answers), ("k", tokens))})  # fmt: skip
    assert whole(facts["p"]) == (
        "pairs", {"train": 2}, {"train": 2},
        {"steps_per_row": {1: 2}, "finish_type": {"give_answer": 1}, "why": {"gave_up": 2}, "lengths": {1: 1, 0: 1}, "functions": {"ping": 1}},
        {"messages": 2, "trained": 1, "assistant": 2},
    )  # fmt: skip
    assert facts["p"].files == {"train": set()}
    assert whole(facts["t"]) == (
        "toolllama", {"train": 3}, {"train": 3},
        {"steps_per_row": {1: 3}, "history": {"upstream": 1}, "lengths": {3: 1, 0: 1, 2: 1}, "functions": {"f g": 1, "quoted": 1}},
        {"chosen": 2, "messages": 5, "trained": 2, "assistant": 1},
    )  # fmt: skip
    assert facts["k"].files == {"train": hashes("f#1", "g")}, "those of the ids"
    assert whole(facts["a"]) == (
        "answers", {"train": 2}, {"train": 2},
        {"steps_per_row": {1: 2}, "finish_type": {"give_answer": 1, "unfinished": 1}, "valid": {True: 1, False: 1}},
        {"n_calls": 2, "total_tokens": 35},
    )  # fmt: skip
    assert whole(facts["k"]) == (
        "tokens", {"train": 2}, {"train": 3},
        {"steps_per_row": {2: 1, 1: 1}, "fallback": {"text": 1}, "lengths": {3: 1, 1: 1}},
        {"tokens": 4, "trained": 2, "shortened": 8},
    )  # fmt: skip
    kinds = [kind_of(data.features) for data in (pairs, texts, answers, tokens)]
    assert kinds == ["pairs", "toolllama", "answers", "tokens"]
    floats = Features(input_ids=List(Value("float32")), labels=List(Value("int64")))
    assert [kind_of(floats), kind_of(Features(labels=List(Value("int64")))), kind_of(STAGE1)] == ["", "", ""]


def test_queries_of_splits_over_all_configs() -> None:
    one = StepFacts("pairs", queries={"train": {1, 2}, "test": {2, 3}, "dev": set()})
    two = StepFacts("answers", queries={"test": {1, 2}})
    shared = [("train", "test", 2), ("train", "dev", 0), ("test", "dev", 0)]
    assert query_counts({"a": one, "b": two}) == ({"train": 2, "test": 3, "dev": 0}, shared)
    assert query_counts({}) == ({}, [])


# Counts ---------------------------------------------------------------------------------------------------------------

STAGE2_ROW: Row = {
    "id": "a", "task": "math", "instruction": "i i", "input": "1 2 3", "query": "not counted", "origin": ["gold", "one", "two"],
    "responses": ["g g", "", "t"], "scores": [20.0, 0.5, None], "uses_tool": [True, True, False], "correct": [True, False, None],
    "errors": [None, "syntax", None], "finish_reasons": ["stop", None, "length"], "logprobs": [-4.0, -3.0, None],
    "logprob_tokens": [2, 1, None], "logprob_errors": [None, None, "too_long"], "logprob_model": "m",
}  # fmt: skip


def test_counts_of_a_row_of_stage2() -> None:
    found = counts_of(table({**STAGE2, **LOGPROBS}, STAGE2_ROW))
    expected = {
        ("score", "gold", 20.0): 1, ("score", "one", 0.5): 1, ("score_sum", "gold"): 20_000_000, ("score_sum", "one"): 500_000,
        ("tool", "gold", "math", "call"): 1, ("tool", "one", "math", "call"): 1, ("tool", "two", "math", "answer"): 1,
        ("as_gold", "one", "same"): 1, ("as_gold", "two", "other"): 1,
        ("grade", "gold", "right"): 1, ("grade", "one", "wrong"): 1, ("grade", "two", "ungraded"): 1,
        ("tool_error", "one", "syntax"): 1, ("finish", "gold", "stop"): 1, ("finish", "two", "length"): 1,
        ("ranking", "all_different"): 1, ("logprob", "gold", "value"): 1, ("logprob", "one", "value"): 1, ("logprob", "two", "too_long"): 1,
        ("logprob_sum", "gold"): -2_000_000, ("logprob_sum", "one"): -3_000_000, ("logprob_tokens", "gold", 2): 1, ("logprob_tokens", "one", 1): 1,
        ("pairs", "all"): 1, ("pairs", "ordered"): 1, ("learnt", "learnt"): 1, ("logprob_model", "m"): 1,
        ("words", "input", 3): 1, ("words", "gold", 2): 1, ("words", "two", 1): 1,
    }  # fmt: skip
    others = {key: n for key, n in (+found + -found).items() if key[0] not in ("texts", "pattern") and n}
    assert {**others, **{key: found[key] for key in expected}} == expected
    searched = {key[1]: n for key, n in found.items() if key[0] == "texts" and n}
    assert searched["responses"] == 3
    assert "instruction" not in searched


@pytest.mark.parametrize(
    ("scores", "ranking"),
    [([], "one"), ([1.0], "one"), ([1.0, 1.0], "all_equal"), ([1.0, 2.0], "all_different"), ([1.0, 2.0, 1.0], "some_equal"), ([1.0, None], "all_different")],
)  # fmt: skip
def test_rankings_of_rows(scores: Any, ranking: str) -> None:
    row = {"origin": ["gold", "a", "b"][: len(scores)], "scores": scores, "uses_tool": [False] * len(scores)}
    found = counts_of(table(STAGE2, row))
    assert {key: n for key, n in found.items() if key[0] == "ranking"} == {("ranking", ranking): 1}
    assert summaries.rankings(found) == {**dict.fromkeys(("all_different", "some_equal", "all_equal", "one"), 0), "rows": 1, ranking: 1}  # fmt: skip


@pytest.mark.parametrize(
    ("logprobs", "scores", "expected"),
    [
        ([-4.0, -1.0], [20.0, 5.0], {("pairs", "all"): 1, ("learnt", "open"): 1}),
        ([-4.0, -1.0], [5.0, 5.0], {}),
        ([-1.0, -1.0], [20.0, 5.0], {("pairs", "all"): 1, ("learnt", "open"): 1}),
        ([-1.0, -4.0], [20.0, 5.0], {("pairs", "all"): 1, ("pairs", "ordered"): 1, ("learnt", "learnt"): 1}),
        ([-1.0, None], [20.0, 5.0], {}),
        ([-1.0, -4.0], None, {}),
    ],
)
def test_pairs_that_a_model_orders(logprobs: Any, scores: Any, expected: Any) -> None:
    row = {
        "origin": ["gold", "a"],
        "scores": scores,
        "uses_tool": [False] * 2,
        "logprobs": logprobs,
        "logprob_tokens": [1, 1],
    }
    found = counts_of(table({**STAGE2, **LOGPROBS}, row))
    assert {key: n for key, n in found.items() if key[0] in ("pairs", "learnt") and n} == expected


def test_counts_of_stage1_and_of_responses() -> None:
    kinds = {**STAGE1, "need": Value("string"), "kind": Value("string")}
    rows: list[Row] = [
        {"task": "math", "dataset": "d", "source": "teacher", "verified_by": "value", "uses_tool": True, "need": "harmed", "output": "a b"},
        {"task": "math", "dataset": "d", "source": "student", "uses_tool": False, "kind": "chat", "output": ""},
    ]  # fmt: skip
    found = counts_of(table(kinds, *rows))
    assert {key: n for key, n in found.items() if key[0] not in ("texts", "pattern")} == {
        ("target", "math", "d", "teacher", "value", "call"): 1, ("target", "math", "d", "student", "", "answer"): 1,
        ("need", "harmed", "call"): 1, ("kind", "chat", "answer"): 1, ("words", "output", 2): 1,
    }  # fmt: skip
    responses: list[Row] = [{"text": "a b", "finish_reason": "stop", "completion_tokens": 5}, {"error": "timeout", "finish_reason": "stop"}, {"completion_tokens": 5}]  # fmt: skip
    responded = table({**STAGE1, "one": RESPONSE}, *({"output": "a b", "one": {**dict.fromkeys(RESPONSE), **each}} for each in responses))  # fmt: skip
    found = counts_of(responded)
    assert {key: n for key, n in found.items() if key[0] not in ("texts", "pattern")} == {
        ("reply", "one", "stop"): 1, ("reply", "one", "timeout"): 1, ("tokens", "one", 5): 2, ("words", "one", 2): 1, ("words", "output", 2): 3,
    }  # fmt: skip


def test_words_of_every_column_with_a_text() -> None:
    """A query is not counted beside an input; messages and turns are counted one by one."""
    names = ("question", "context", "input", "output", "query")
    texts = Features({name: Value("string") for name in names})
    row: Any = {name: " x" * n for n, name in enumerate(names, 1)}
    found = {key: n for key, n in counts_of(table(texts, row)).items() if key[0] == "words"}
    assert found == {("words", name, n): 1 for n, name in enumerate(names[:4], 1)}
    (only,) = [key for key in counts_of(table(texts, row).select_columns(["query"])) if key[0] == "words"]
    assert only == ("words", "query", 5)
    roles = ("messages", "prompt", "chosen", "rejected")
    lists = Features({**{name: List({"content": Value("string"), "role": Value("string")}) for name in roles}, "conversations": List({"from": Value("string"), "value": Value("string")})})  # fmt: skip
    part: Any = [{"content": "a b", "role": "x y z"}, {"content": "", "role": "x"}]
    row = {**dict.fromkeys(roles, part), "conversations": [{"from": "a b", "value": "c"}, {"from": "d", "value": None}]}
    found = {key: n for key, n in counts_of(table(lists, row)).items() if key[0] == "words"}
    assert found == {**{("words", name, 2): 1 for name in roles}, ("words", "conversations", 1): 1}


def test_trainers_of_every_kind_of_table() -> None:
    shared = {
        "id": "a",
        "task": "math",
        "instruction": "Add.",
        "input": "1+1?",
        "answers": ["2"],
        "query": "q",
        "tools": "[]",
    }
    user, said = message("user", False), message("assistant", True)
    kinds: dict[str, tuple[Any, Row]] = {
        "stage1": (STAGE1, {"output": "2"}),
        "stage2": (STAGE2, {"responses": ["2", "3"], "scores": [20.0, 5.0], "origin": ["gold", "a"], "correct": [True, False]}),
        "not_calling": (NOT_CALLING, {"output": "What?", "rejected": "calculator(1)", "kind": "chat", "source": "x"}),
        "steps": (TRAJECTORIES, {"messages": [user, said], "steps": [1]}),
        "pairs": (PAIRS, {"prompt": [user], "chosen": [said], "rejected": [said]}),
        "turns": (TOOLLLAMA, {}),
        "answers": (ANSWERS, {}),
    }  # fmt: skip
    splits = {
        name: {"test": table(features, {key: value for key, value in (shared | row).items() if key in features})}
        for name, (features, row) in kinds.items()
    }
    found = training_facts(splits, step_facts(splits))
    assert [(fact.config, fact.format, fact.trainer, fact.tasks, fact.records, fact.split) for fact in found] == [
        ("stage1", "trl", "SFT", (), 1, "test"), ("stage1", "trl_grpo", "GRPO", ("math",), 1, "test"),
        ("stage2", "trl_preference", "DPO", (), 1, "test"), ("stage2", "trl_kto", "KTO", (), 2, "test"), ("stage2", "trl_grpo", "GRPO", ("math",), 1, "test"),
        ("not_calling", "trl", "SFT", (), 1, "test"), ("not_calling", "trl_preference", "DPO", (), 1, "test"),
        ("steps", "trl", "SFT", (), 1, "test"), ("pairs", "trl_preference", "DPO", (), 1, "test"),
    ]  # fmt: skip


def test_the_quantiles_of_lengths() -> None:
    """Of 100 different lengths, each quantile is another one: the median is the 50th, the high one the 95th."""
    kinds = {"words": "words", "tokens": "tokens, as the engine counted them"}
    kinds["logprob_tokens"] = "tokens of the model of the log-probabilities"
    for kind, unit in kinds.items():
        counts: Any = Counter({(kind, "one", 10 * n): 1 for n in range(1, 101)})
        assert summaries.length_table(counts) == [
            {"unit": unit, "name": "one", "texts": 100, "mean": 505, "median": 500, "high": 950, "longest": 1000}
        ]


def test_summaries_of_counts() -> None:
    counts: Any = Counter({
        ("words", "one", 3): 2, ("words", "gold", 1): 1, ("words", "input", 5): 19, ("words", "input", 9): 1, ("tokens", "one", 4): 1,
        ("logprob_tokens", "one", 7): 2, ("logprob", "one", "value"): 2, ("logprob", "one", "too_long"): 1, ("logprob", "gold", "no_tokens"): 1,
        ("logprob_sum", "one"): -3_000_000, ("target", "math", "d", "s", "", "call"): 3, ("target", "", "d", "s", "", "answer"): 1,
        ("target", "math", "d", "s", "v", "answer"): 1, ("need", "harmed", "call"): 2, ("tool", "one", "math", "call"): 1, ("tool", "one", "qa", "answer"): 3,
        ("tool", "gold", "math", "call"): 2, ("reply", "b", "y"): 2, ("reply", "b", "x"): 2, ("reply", "b", "z"): 5, ("reply", "a", "x"): 1,
    })  # fmt: skip
    tokens, logprobs = "tokens, as the engine counted them", "tokens of the model of the log-probabilities"
    assert summaries.word_histograms(counts) == {
        "words": {"input": {5: 19, 9: 1}, "gold": {1: 1}, "one": {3: 2}},
        tokens: {"one": {4: 1}},
        logprobs: {"one": {7: 2}},
    }
    assert list(summaries.word_histograms(counts)["words"]) == ["input", "gold", "one"]
    lengths = {"input": (20, 5.2, 5, 5, 9), "gold": (1, 1, 1, 1, 1), "one": (2, 3, 3, 3, 3)}
    table = [{"unit": "words", "name": name, **dict(zip(("texts", "mean", "median", "high", "longest"), row, strict=True))} for name, row in lengths.items()]  # fmt: skip
    table += [{"unit": unit, "name": "one", "texts": n, "mean": m, "median": m, "high": m, "longest": m} for unit, n, m in ((tokens, 1, 4), (logprobs, 2, 7))]  # fmt: skip
    assert summaries.length_table(counts) == table
    assert summaries.logprob_table(counts) == [
        {"name": "gold", "values": 0, "missing": {"no_tokens": 1}, "mean": None},
        {"name": "one", "values": 2, "missing": {"too_long": 1}, "mean": -1.5},
    ]
    groups = summaries.tool_rate_groups(counts)
    assert groups == {
        "targets by task": {"unknown": (0, 1), "math": (3, 4)},
        "targets by need": {"harmed": (2, 2)},
        "responses by responder": {"gold": (2, 2), "one": (1, 4)},
    }
    assert [list(rates) for rates in groups.values()] == [["unknown", "math"], ["harmed"], ["gold", "one"]]
    assert [(name, list(found)) for name, found in summaries.by_name(counts, "reply").items()] == [("a", ["x"]), ("b", ["z", "x", "y"])]  # fmt: skip
    kinds = {"e-mail address": 1, "link": 0, "phone-like number": 2}
    searched: dict[Any, int] = {("texts", "b"): 4, ("texts", "a"): 3}
    patterns: Any = Counter({**searched, **{("pattern", "a", kind): n for kind, n in kinds.items()}})
    assert summaries.pattern_table({"x": patterns, "y": Counter({("texts", "a"): 2})}) == (9, [{"config": "x", "column": "a", "texts": 3, "found": kinds}])  # fmt: skip


# Models, prompts, graders, need ---------------------------------------------------------------------------------------


def stages(*settings: Any, step: str = "answer", **fields: Any) -> Row:
    return {"stages": {str(n): {"step": step, "settings": each, **fields} for n, each in enumerate(settings)}}


def test_engines_tools_and_usage() -> None:
    spec = {"kind": "local", "model": "m", "adapter": "ab" * 10, "temperature": 0.5, "max_tokens": 9, "top_p": 0.9, "top_k": 3, "num_beams": 2, "repetition_penalty": 1.1, "stop": ["é"], "seed": 4}  # fmt: skip
    prompt = {"responder": {"style": "chat", "examples": 2, "stop": ["é"]}}
    facts = stages({"spec": spec, "identity": {"weights": "0" * 20}, "settings": prompt}, {"tasks": {"math": {"tool": {"name": "t", "version": "1"}}}}, None)  # fmt: skip
    (engine,) = model_facts(facts)["engines"]
    sampling = (
        'temperature 0.5, max_tokens 9, top_p 0.9, top_k 3, num_beams 2, repetition_penalty 1.1, stop ["é"], seed 4'
    )
    expected = {**spec, "adapter": "ab" * 8, "identity": f"weights `{'0' * 16}`", "sampling": sampling, "stages": [("answer", 'chat, 2 examples, stop ["é"]')]}  # fmt: skip
    assert engine == expected
    plain = {
        "temperature": 0.0,
        "max_tokens": 1,
        "top_p": 1.0,
        "top_k": 0,
        "num_beams": 1,
        "repetition_penalty": 1.0,
        "stop": [],
        "seed": 7,
    }
    (engine,) = model_facts(stages({"spec": plain, "identity": "x"}))["engines"]
    assert (engine["sampling"], engine["adapter"], engine["stages"]) == (
        "temperature 0.0, max_tokens 1",
        "",
        [("answer", "")],
    )
    tools = {"tasks": {"qa": {"tool": {"name": "b", "version": "2"}}, "math": {"tool": {"name": "a", "version": "1"}}}}
    executed = stages(tools, tools, None, {"tasks": 3}, step="execute")
    assert model_facts(executed)["tools"] == [("math", "a", "1"), ("qa", "b", "2")]
    assert model_facts(facts)["tools"] == [], "of stages that execute"
    used = [
        {"model": "b", "requests": 1},
        {"model": "a", "requests": 2, "prompt_tokens": 3},
        {"model": "b", "requests": 4},
    ]
    many = {"stages": {str(n): {"step": "answer", "settings": None, "usage": usage} for n, usage in enumerate(used)}}
    assert model_facts(many)["usage"] == [("a", {"requests": 2, "prompt_tokens": 3}), ("b", {"requests": 5})]


def test_prompts_of_a_lineage() -> None:
    """Known texts are those of this package and of the rows; an empty prompt is none."""
    math = TASKS["math"]
    fields = ("plain_instruction", "instruction", "teacher_instruction", "reader_instruction")
    own = {
        "reader_instruction": digest("unknown"),
        "instruction": digest("in a row"),
        "examples": "0" * 32,
        "other": "x",
    }
    known = {name: digest(getattr(math, name)) for name in fields}
    published = {**known, "examples": math.published()["prompts_sha256"]["examples"]}
    provenance = stages({"tasks": {"math": {"prompts_sha256": published}, "mine": {"prompts_sha256": own}}}, {"tasks": {"math": None}}, None)  # fmt: skip
    rows = {"train": table(STAGE1, {"task": "math", "dataset": "gsm8k", "instruction": "in a row"}, {"task": "mine", "dataset": "x"})}  # fmt: skip
    found = prompt_facts({"a": rows}, provenance)
    shown = "\n\n".join(f"input: {each.input}\nplain: {each.plain}\n" for each in math.examples_for("gsm8k"))
    assert [(each.task, each.name, each.use, each.digest) for each in found] == [
        ("math", "plain_instruction", "for the student", known["plain_instruction"]),
        ("math", "instruction", "for the responders", known["instruction"]),
        ("math", "teacher_instruction", "for the teacher", known["teacher_instruction"]),
        ("math", "examples", "for few-shot prompts", published["examples"]),
        ("mine", "instruction", "for the responders", own["instruction"]),
        ("mine", "reader_instruction", "for the reader", own["reader_instruction"]),
        ("mine", "examples", "for few-shot prompts", own["examples"]),
    ]
    texts = [each.text for each in found]
    assert texts[:3] == [math.plain_instruction, math.instruction, math.teacher_instruction]
    assert texts[3] is not None
    assert shown.count("input: ") == texts[3].count("input: ") > 1
    assert texts[4:] == ["in a row", None, None]
    assert prompt_facts({}, stages({"tasks": {"mine": {"prompts_sha256": {"instruction": digest("")}}}})) == []
    assert isinstance(found[0], Prompt)


def test_need_of_models() -> None:
    """Shares are over all samples; a model without a name and a share without samples are told."""
    rows: list[Row] = [
        {"id": "1", "task": "t", "need": "needs_tool", "p_plain": 0.25, "n_plain": 4, "p_tool": 1.0, "n_tool": 2},
        {"id": "2", "task": "t", "need": "harmed", "p_plain": None, "n_plain": 0, "p_tool": 0.5, "n_tool": 2},
        {"id": "1", "task": "t", "model": "m", "need": "unsure", "p_plain": 1.0, "n_plain": 3, "n_tool": 0},
    ]  # fmt: skip
    tables = {
        "need": {"train": table(NEED, *rows)},
        "stage1": {"train": table({**NEED, "output": Value("string")}, *rows)},
    }
    none = dict.fromkeys(("needs_tool", "indifferent", "harmed", "hopeless", "unsure"), 0)
    assert need_counts(tables) == [
        NeedCounts("need", "unnamed", 2, {**none, "needs_tool": 1, "harmed": 1}, 0.25, 0.75),
        NeedCounts("need", "m", 1, {**none, "unsure": 1}, 1.0, None),
    ]
    assert need_differences(tables) == [{"models": ("unnamed", "m"), "questions": 1, "same": 0, "alone": (1, 0)}]


def test_graders_of_other_tables_have_no_facts() -> None:
    """A grader is audited on rows of its task alone; settings that are no tasks are skipped."""
    math = {"tasks": {"math": {"grade": TASKS["math"].published()["grade"]}}}
    row = {"id": "1", "task": "math", "input": "1+1?", "answers": ["2"]}
    splits = {"a": {"train": table(STAGE1, row, {**row, "id": "2", "task": "qa"}), "test": table(STAGE1, row)}}
    (facts,) = grader_facts(splits, stages(math, math, None, {"tasks": None}, {"tasks": {"math": 3}}))
    assert (facts.task, facts.rule) == ("math", "default")
    assert grader_facts(splits, stages({"tasks": {"math": {"grade": "another"}}})) == []
    other = {"a": {"train": table({**STAGE1, "answers": Value("string")}, {**row, "answers": "2"})}}
    assert grader_facts(other, stages(math)) == []
    assert grader_facts({"a": {"train": splits["a"]["train"].remove_columns("id")}}, stages(math)) == []


def test_questions_that_a_grader_is_audited_on() -> None:
    """Of one task, each once, with the text after the instruction; tables with other columns are skipped."""
    row = {"id": "1", "task": "math", "input": "1+1?", "answers": ["2"]}
    ranked: list[Row] = [
        {"id": name, "task": "math", "query": "Add.\n2+2?\nNow.", "answers": ["4"]} for name in ("1", "2")
    ]
    answers = {**STAGE1, "answers": Value("string")}
    lacking = [table(STAGE1, row).remove_columns(name) for name in ("id", "task", "answers", "input")]
    splits = {
        **{f"x{n}": {"train": data} for n, data in enumerate([table(answers, {**row, "answers": "2"}), *lacking])},
        "a": {"train": table(STAGE1, {**row, "id": "0", "task": "qa"}, row, row)},
        "b": {"train": table(STAGE2, *ranked).remove_columns("input"), "test": table(STAGE1, {**row, "id": "3"})},
    }
    questions = [("1+1?", "2"), ("2+2?\nNow.", "4"), ("1+1?", "2")]
    expected = [{"question": "", "context": text, "answers": [gold]} for text, gold in questions]  # see `split_input`
    assert list(_rows("math", TASKS["math"], splits)) == expected


# Columns, sources, stages ---------------------------------------------------------------------------------------------


def test_columns_are_described_once_for_equal_tables() -> None:
    own = Features(
        id=Value("string"), one=RESPONSE, gold=RESPONSE, s={"x": Value("int8")}, many=List(List(Value("int8")))
    )
    rows = {"train": table(own, {"id": "1"})}
    ((configs, columns), (others, _)) = column_facts({"a": rows, "b": {"train": table(DROPPED, {"id": "1"})}, "c": rows}, {"s": "mine"})  # fmt: skip
    assert (configs, others) == (["a", "c"], ["b"])
    assert columns == [
        Column("id", "string", "", ""),
        Column("one", "response", "the response of the responder with the name of the column", "model"),
        Column("gold", "response", "the response of the output of stage 1", "model"),
        Column("s", "struct", "mine", ""),
        Column("many", "list of list of int8", "", ""),
    ]
    assert [column.name for column in response_columns({"a": rows})] == list(RESPONSE)
    assert response_columns({"b": {"train": table(DROPPED, {"id": "1"})}}) == []
    two = Features(id=Value("string"), task=Value("string"), reason=Value("int8"))
    assert [column.meaning for column in describe(two, {})] == ["", "", ""], "two shared columns are too few"


@pytest.mark.parametrize("kind", FEATURES)
def test_the_columns_of_every_kind_have_their_meanings(kind: str) -> None:
    found = {column.name: (column.meaning, column.author) for column in describe(FEATURES[kind], {})}
    assert found == {name: COLUMN_MEANINGS[kind][name] for name in FEATURES[kind]}


def test_repeated_questions_of_every_column() -> None:
    """The first known column is that of the questions; a config needs one in all splits, and can have no rows."""
    texts = {"input": ["a", "A?"], "question": ["a", "b"], "query": ["b", None]}
    data = Dataset.from_dict(texts)
    splits = {name: {"train": data.select_columns([name])} for name in texts}
    splits["both"] = {"train": data, "test": data.select_columns(["query"]), "none": data.select([])}
    splits["lacking"] = {"train": data, "test": Dataset.from_dict({"x": ["a"]})}
    splits["number"] = {"train": Dataset.from_dict({"input": [1]})}
    assert repeated_questions(splits) == [
        ("input", 2, 1, []), ("question", 2, 2, []), ("query", 2, 2, []),
        ("both", 4, 3, [("train", "test", 0), ("train", "none", 0), ("test", "none", 0)]),
    ]  # fmt: skip


def test_the_lost_responses_of_all_tables_are_added() -> None:
    """Those of every split and config, whichever comes last; a table that lost none takes none back."""
    row: Row = {"origin": ["gold", "a", "b"]}
    without_a, without_b = {"origin": ["gold", "b"]}, {"origin": ["gold", "a"]}
    splits = [[row, without_a, without_a], [without_a, without_b], [row]]
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        train, test, other = (table(STAGE2, *splits[place]) for place in order)
        found = lost_responses({"m-stage2": {"train": train, "test": test}, "qa-stage2": {"train": other}})
        assert {name: dict(reasons) for name, reasons in found.items()} == {"gold": {"": 0}, "a": {"": 3}, "b": {"": 1}}
    drop: Row = {"id": "1", "stage": "stage2", "reason": "empty"}
    first, second = (table(DROPPED, {**drop, "detail": f'{{"{name}": "empty", "b": "empty"}}'}) for name in "ac")
    dropped = {"m-dropped": {"train": first}, "qa-dropped": {"train": second}}
    for ledgers in (dropped, dict(reversed(dropped.items()))):
        found = lost_responses(ledgers)
        assert {name: dict(reasons) for name, reasons in found.items()} == {
            "a": {"empty": 1}, "b": {"empty": 2}, "c": {"empty": 1},
        }  # fmt: skip


def test_lost_responses_of_tables_without_a_lineage() -> None:
    """Gold first, then by name; tables without scores are no stage 2; the ledger names further responders."""
    rows: list[Row] = [{"origin": ["b", "gold", "a"]}, {"origin": ["a"]}, {"origin": None}]
    whole = table(STAGE2, *rows)
    tables = {"m-stage2": {"train": whole}, **{f"m-{name}": {"train": whole.remove_columns(name)} for name in ("origin", "scores", "uses_tool")}}  # fmt: skip
    found = lost_responses(tables)
    assert [(name, dict(reasons)) for name, reasons in found.items()] == [
        ("gold", {"": 2}),
        ("a", {"": 1}),
        ("b", {"": 2}),
    ]
    drops = table(
        DROPPED, {"id": "1", "stage": "stage2", "reason": "empty", "detail": '{"c": "empty", "a": "cut_off"}'}
    )
    found = lost_responses({**tables, "m-dropped": {"train": drops}})
    assert {name: dict(reasons) for name, reasons in found.items()} == {
        "gold": {"": 2}, "a": {"": 1, "cut_off": 1}, "b": {"": 2}, "c": {"empty": 1},
    }  # fmt: skip
    assert dropped_counts({"m-dropped": {"train": drops}, "m-x": {"train": drops}}) == [("stage2", "empty", 1)]


@pytest.mark.parametrize(
    ("licences", "fields"),
    [
        ([Licence("h", "MIT"), Licence("h", "CC BY-NC 4.0", language="de")], {"license": "cc-by-nc-4.0", "language": ["de", "en"]}),
        ([Licence("h", "MIT"), Licence("h", "")], {"language": ["en"]}),
        ([Licence("h", "MIT", language="")], {"license": "mit"}),
        ([], {}),
    ],
)  # fmt: skip
def test_licences_of_sources(licences: list[Licence], fields: Row) -> None:
    assert licence_fields([SourceFacts(f"own{n}", licence, {}) for n, licence in enumerate(licences)]) == fields


def test_a_licence_that_the_hub_does_not_list_has_its_name_and_link() -> None:
    others = [name for name, licence in LICENCES.items() if licence_fields([SourceFacts("own", licence, {})]).get("license") == "other"]  # fmt: skip
    for name in others:
        fields = licence_fields([SourceFacts("mine", Licence("h", "MIT"), {}), SourceFacts("own", LICENCES[name], {})])
        assert fields["license_name"] == LICENCES[name].name.replace(" ", "-")
        assert fields["license_link"] == LICENCES[name].homepage
    assert others


def test_stages_of_the_figure_of_rows() -> None:
    """Sources first, then the stages that drop rows; a stage is named with its tables if they differ."""
    shared = {"expands": False, "tables": "all"}
    made = [
        {**shared, "step": "grade", "inputs": ["s"], "rows_in": 9, "rows_out": 7, "dropped": {"a": 1, "b": 1}},
        {**shared, "step": "copy", "inputs": ["s"], "rows_in": 7, "rows_out": 7, "dropped": {}},
        {
            **shared,
            "step": "steps",
            "inputs": ["s"],
            "rows_in": 7,
            "rows_out": 70,
            "dropped": {"c": 3},
            "expands": True,
        },
        {**shared, "step": "source", "inputs": [], "rows_in": 9, "rows_out": 9, "dropped": {}},
    ]
    assert _funnel_stages(made) == [("source", 9, 0), ("grade", 7, 2)]
    made[0]["tables"] = "a"
    assert _funnel_stages(made) == [("source", 9, 0), ("grade (a)", 7, 2)]
    made[3]["tables"] = "a"
    assert _funnel_stages(made) == [("source", 9, 0), ("grade", 7, 2)]
    assert _funnel_stages(made[1:]) == []


def test_histories_and_shuffles_of_a_lineage() -> None:
    clean = StepFacts("pairs")
    told = StepFacts("trajectories")
    told.counts["history"].update({"upstream": 1})
    provenance = {
        "stages": {
            "s": {"step": "trajectories", "inputs": [], "rows_in": 1, "rows_out": 1, "dropped": {}, "settings": {"history": "faithful"}},
            "t": {"step": SHUFFLE, "inputs": ["s"], "rows_in": 1, "rows_out": 1, "dropped": {}, "settings": {"seed": 3}},
        },
        "configs": {"a": {"train": {"fingerprint": "t"}}, "b": {"train": {"fingerprint": "s"}}},
    }  # fmt: skip
    assert writing._histories({"x": clean}, provenance) == ["clean"]
    assert writing._histories({"x": told}, provenance) == ["upstream"]
    assert writing._histories({"a": told, "x": clean}, provenance) == ["faithful", "upstream", "clean"]
    assert writing._shuffles(provenance) == {3: ["a"]}


def test_the_template_follows_the_kinds_of_tables() -> None:
    steps, tool_use = {"train": table(PAIRS, {"id": "1"})}, {"train": table(STAGE1, {"id": "1"})}
    others = {"train": table(DROPPED, {"id": "1"})}
    cases = [({"a": steps}, "trajectories"), ({"a": steps, "b": others}, "trajectories"), ({"a": steps, "b": tool_use}, "both"), ({"a": others}, "tool_use")]  # fmt: skip
    for splits, name in cases:
        assert writing._template_name(splits, step_facts(splits)) == name


def test_example_rows() -> None:
    data = Dataset.from_list([{"a": [1, 2, 3], "b": "x" * 241}, {"a": [], "b": ""}])
    assert example({"train": data}, 2) == {"a": [1, "... 1 more ...", 3], "b": "x" * 240 + " ..."}
    assert example({"train": data}, None) == {"a": [1, 2, 3], "b": "x" * 240 + " ..."}
    assert example({"train": data.select([]), "test": data}, 2) is None


# Metadata -------------------------------------------------------------------------------------------------------------


def test_the_whole_metadata(tmp_path: Path) -> None:
    """The first config is the default, files are named in their order, and sizes are those of the files."""
    data = Dataset.from_list([{"id": "1"}, {"id": "2"}])
    splits = {"z-a": {"train": data, "test": data.select([0])}, "b-a": {"train": data}}
    for name, count in (
        ("z-a/train-1", 2),
        ("z-a/train-0", 1),
        ("z-a/test-0", 1),
        ("b-a/train-0", 1),
        ("z-a/mine-0", 1),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        data.select(range(count)).to_parquet(str(tmp_path / f"{name}.parquet"))
    mixes = {"mix-a": {"train": ["z-a", "b-a"], "test": ["z-a"]}}
    infos = metadata.config_infos(tmp_path, splits, mixes)
    size = {path.relative_to(tmp_path).as_posix(): path.stat().st_size for path in tmp_path.rglob("*.parquet")}
    z = size["z-a/train-0.parquet"] + size["z-a/train-1.parquet"] + size["z-a/test-0.parquet"]
    downloads = {"z-a": z, "b-a": size["b-a/train-0.parquet"], "mix-a": z + size["b-a/train-0.parquet"]}
    assert {name: info.download_size for name, info in infos.items()} == downloads
    assert {name: {split: found.num_examples for split, found in info.splits.items()} for name, info in infos.items()} == {
        "z-a": {"train": 2, "test": 1}, "b-a": {"train": 2}, "mix-a": {"train": 4, "test": 1},
    }  # fmt: skip
    found = metadata.card_metadata({"title": "t", "license": "mit"}, tmp_path, splits, mixes, infos, "1.10.0")
    read = yaml.safe_load(found.to_yaml())
    files = ["z-a/train-0.parquet", "z-a/train-1.parquet"]
    assert (read["license"], read["size_categories"], "title" in read) == ("mit", ["n<1K"], False)
    assert read["configs"] == [
        {"config_name": "z-a", "version": "1.10.0", "default": True, "data_files": [{"split": "train", "path": files}, {"split": "test", "path": "z-a/test-0.parquet"}]},
        {"config_name": "b-a", "version": "1.10.0", "data_files": [{"split": "train", "path": "b-a/train-0.parquet"}]},
        {"config_name": "mix-a", "version": "1.10.0", "data_files": [{"split": "train", "path": [*files, "b-a/train-0.parquet"]}, {"split": "test", "path": "z-a/test-0.parquet"}]},
    ]  # fmt: skip
    assert [info["config_name"] for info in read["dataset_info"]] == ["z-a", "b-a", "mix-a"]
    assert all(info["features"] == [{"name": "id", "dtype": "string"}] for info in read["dataset_info"])
    sizes = [(999, "n<1K"), (10**3, "1K<n<10K"), (10**4, "10K<n<100K"), (10**5, "100K<n<1M"), (10**6, "1M<n<10M"), (10**7, "n>10M")]  # fmt: skip
    for rows, name in sizes:
        many: Any = {"a": {"train": range(rows)}}
        category = metadata.card_metadata({}, tmp_path, many, {}, {"a": DatasetInfo(config_name="a")}, "1.0.0")
        assert category["size_categories"] == [name]
