"""Numbers and texts of the card, computed by hand from small tables, and the ledger of splits without rows."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset, DatasetDict, DatasetInfo, load_dataset

from toolrlef_data import (
    ANNOTATIONS,
    InputError,
    Responder,
    answer,
    build_stage1,
    build_stage2,
    grade,
    ledger,
    load_source,
    publish,
    respond,
    scripted,
)
from toolrlef_data.columns import ANSWERS, DROPPED, NEED, STAGE1, STAGE2, TOOLLLAMA
from toolrlef_data.publishing import markdown, parquet_files, provenance
from toolrlef_data.publishing.card import model_facts, prompt_facts
from toolrlef_data.publishing.card.counts import summaries
from toolrlef_data.publishing.card.counts.counting import counts_of
from toolrlef_data.publishing.card.counts.keys import add
from toolrlef_data.publishing.card.grader_facts import grader_facts
from toolrlef_data.publishing.card.metadata import card_metadata
from toolrlef_data.publishing.card.need_facts import need_counts, need_differences
from toolrlef_data.publishing.card.row_facts import MAX_CHARS, dropped_counts, lost_responses, shorten
from toolrlef_data.publishing.card.source_facts import source_facts
from toolrlef_data.publishing.card.step_facts import StepFacts, step_facts
from toolrlef_data.publishing.provenance import stage_settings, stage_summaries
from toolrlef_data.records import Reply

LOST = {"one": "empty", "two": "cut_off"}


def rows_of(features: Any, rows: list[dict[str, Any]]) -> Dataset:
    return Dataset.from_list([{**dict.fromkeys(features), **row} for row in rows], features=features)


def scored(**scores: tuple[float, bool]) -> dict[str, Any]:
    """Return a row of stage 2 with a score and a use of the tool for each responder."""
    values = list(scores.values())
    lists = {"scores": [score for score, _ in values], "uses_tool": [uses for _, uses in values]}
    return {"id": "r", "task": "math", "origin": list(scores), "responses": ["x"] * len(values), **lists}


STAGE2_ROWS = [
    scored(gold=(20, True), one=(15, False), two=(10, True)),
    scored(gold=(20, True), one=(15, True)),
    scored(gold=(20, False), one=(5, False)),
]


def test_scores_of_responders_with_different_numbers_of_rows() -> None:
    """Each mean is over the responder's own rows, and each lost row counts for the responders without a response."""
    same = {"id": "r", "task": "math", "dataset": "d", "reason": "empty"}
    drops = [
        {**same, "stage": "stage2", "detail": json.dumps(LOST)},
        {**same, "stage": "stage2", "detail": json.dumps({"two": "tool_fault:timeout: it took 3 s"})},
        {**same, "stage": "stage1", "detail": json.dumps(LOST)},  # of another stage
    ]
    tables = {"math-stage2": {"train": rows_of(STAGE2, STAGE2_ROWS[:2]), "test": rows_of(STAGE2, STAGE2_ROWS[2:])}}
    counts = add(counts_of(data) for data in tables["math-stage2"].values())
    lost = lost_responses({**tables, "math-dropped": {"train": rows_of(DROPPED, drops)}})
    table = {row["name"]: row for row in summaries.score_table(counts, lost)}
    levels = {"gold": [3, 0, 0, 0], "one": [0, 2, 0, 1], "two": [0, 0, 1, 0]}
    expected = {"gold": (3, 20, 2, 0), "one": (3, 35 / 3, 1, 1), "two": (1, 10, 1, 3)}
    assert list(table) == list(expected)
    for name, (rows, mean, calls, n_lost) in expected.items():
        row = table[name]
        assert (row["rows"], row["calls"], row["responses"], row["lost"]) == (rows, calls, rows, n_lost), name
        assert row["mean"] == pytest.approx(mean)
        assert row["levels"] == list(zip(["20", "15", "10", "5"], levels[name], strict=True)), name
    assert [(table[name]["as_gold"], table[name]["others"]) for name in ("one", "two")] == [(2, 3), (1, 1)]
    assert {name: dict(reasons) for name, reasons in lost.items()} == {
        "gold": {"": 0},
        "one": {"": 0, "empty": 1},
        "two": {"": 1, "cut_off": 1, "tool_fault:timeout": 1},
    }


def test_dropped_rows_are_counted_over_all_ledgers_most_first() -> None:
    """A dropped row of a task that is not published is in every ledger, and counts once."""
    pairs = [("a", "x"), ("b", "y"), ("b", "y"), ("a", "z"), ("b", "x"), ("b", "y")]
    drops = [{"id": str(n), "stage": stage, "reason": reason} for n, (stage, reason) in enumerate(pairs)]
    shared = {"id": "s", "task": "lama", "stage": "stage2", "reason": "empty", "detail": '{"one": "empty"}'}
    splits = {
        "math-dropped": {"train": rows_of(DROPPED, [*drops[:4], shared])},
        "math-other": {"train": rows_of(DROPPED, drops)},  # no ledger
        "qa-dropped": {"train": rows_of(DROPPED, [*drops[4:], shared])},
    }
    assert dropped_counts(splits) == [
        *[("b", "y", 3), ("a", "x", 1), ("a", "z", 1), ("b", "x", 1)],
        ("stage2", "empty", 1),
    ]
    assert lost_responses(splits)["one"] == {"empty": 1}


def test_calls_are_counted_by_their_verifier() -> None:
    kinds = [(True, "equal"), (True, None), (False, None), (True, "equal"), (False, "equal")]
    rows = [{"output": "x", "uses_tool": uses, "verified_by": by} for uses, by in kinds]
    tables = {"train": rows_of(STAGE1, rows[:2]), "test": rows_of(STAGE1, rows[2:])}
    counts = add(counts_of(data) for data in tables.values())
    assert summaries.target_table({"math-stage1": counts, "other": add([])}) == {
        "math-stage1": {"rows": 5, "calls": 3, "verified_by": [("", 1), ("equal", 2)]}
    }


def test_examples_are_shortened_only_above_the_limits() -> None:
    assert shorten("x" * MAX_CHARS) == "x" * MAX_CHARS
    assert shorten("x" * (MAX_CHARS + 1)) == "x" * MAX_CHARS + " ..."
    assert shorten({"a": [1, 2, 3]}, 3) == {"a": [1, 2, 3]}
    assert shorten([1, 2, 3, 4], 3) == [1, 2, "... 1 more ...", 4]
    assert shorten([["x" * 999]], None)[0][0].endswith(" ...")


def test_texts_of_the_data_stay_in_their_cell() -> None:
    """A bar or a line break of the data would end a cell of the table; a backtick would end the code."""
    assert markdown.cell("a|b\n c `d`") == "`a\\|b c 'd'`"
    assert markdown.cell("x" * 80) == f"`{'x' * 80}`"
    assert markdown.cell("x" * 81) == f"`{'x' * 80} ...`"
    assert markdown.cell(" \n") == "(empty)"
    assert [markdown.share_of(*part) for part in ((1, 3), (0, 5), (5, 5), (0, 0))] == [
        "33.3 %",
        "0.0 %",
        "100.0 %",
        "none",
    ]
    identity = {"a": {"weights": "ab" * 32, "commit": "main"}, "n": 3, "b": "0123456789abcdefg"}
    assert list(model_facts._digests("", identity)) == [
        "a commit `main`",
        f"a weights `{'ab' * 8}`",
        "b `0123456789abcdefg`",
    ]


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ({3: 1}, (3, 3, 3, 3.0)),
        ({1: 1, 9: 1}, (1, 1, 9, 5.0)),  # the lower of two in the middle
        ({1: 1, 4: 1, 9: 1}, (1, 4, 9, 14 / 3)),
        ({9: 5, 2: 4}, (2, 9, 9, 53 / 9)),
    ],
)
def test_lengths_are_summarised(lengths: dict[int, int], expected: tuple[float, ...]) -> None:
    facts = StepFacts("tokens")
    facts.counts["lengths"] = Counter(lengths)
    assert tuple(facts.lengths.values()) == pytest.approx(expected)
    assert StepFacts("tokens").lengths == {}


def test_turns_and_answer_files_are_counted() -> None:
    """The call of a turn is its last one; a thought can quote another. A file with an unknown `valid` is finished."""
    texts = ["\nThought: as\nAction: quoted\nAction Input: {}\nno\nAction: real\nAction Input: {}", "\nThought: none"]
    turns = [[{"from": "user", "value": "Hi"}, {"from": "assistant", "value": text}] for text in texts]
    rows = [{"id": f"f#{n}", "query": "Hi", "conversations": value, "on_path": not n} for n, value in enumerate(turns)]
    kinds = [(True, "give_answer"), (False, None), (None, "give_up"), (False, "give_answer")]
    files = [{"id": str(n), "valid": valid, "finish_type": end, "n_calls": 2} for n, (valid, end) in enumerate(kinds)]
    tables = {"turns": {"train": rows_of(TOOLLLAMA, rows)}, "files": {"train": rows_of(ANSWERS, files)}}
    facts = step_facts(tables)
    assert facts["turns"].counts["functions"] == {"real": 1}
    assert facts["turns"].sums == {"chosen": 1, "messages": 4, "trained": 2, "assistant": 2}
    assert facts["files"].counts["finish_type"] == {"give_answer": 1, "unfinished": 2, "give_up": 1}
    assert facts["files"].sums["n_calls"] == 8


def stage(step: str, inputs: list[str], rows_out: int, **settings: Any) -> dict[str, Any]:
    return {"step": step, "inputs": inputs, "rows_in": 9, "rows_out": rows_out, "dropped": {}, "settings": settings}


FLAGS = {"keep_thought": False, "without": ["a", "b"], "finish": None}
PROVENANCE: dict[str, Any] = {
    "stages": {
        "s": stage("source", [], 9),
        "t1": stage("trajectories", ["s"], 7, layout="split", **FLAGS),
        "t2": stage("trajectories", ["s", "gone"], 5, layout="merged", keep_thought=True, options={"a": 1, "b": 2}),
        "t3": stage("trajectories", ["s", "t1"], 5, layout="split", **FLAGS),
    },
    "configs": {
        "a": {"train": {"fingerprint": "t1"}, "test": {"fingerprint": "t2"}},
        "b": {"train": {"fingerprint": "t3"}},
        "c": {"train": {"fingerprint": "t2"}},
    },
}


def test_stages_are_summarised_with_their_tables_and_settings() -> None:
    found = {key: (row["tables"], row["input_rows"], row["settings_text"]) for key, row in
             zip(PROVENANCE["stages"], stage_summaries(PROVENANCE), strict=True)}  # fmt: skip
    assert found == {
        "s": ("all", 0, ""),
        "t1": ("a (train), b", 9, "layout split, without a + b, keep_thought no"),
        "t2": ("a (test), c", None, "layout merged, keep_thought yes, options a=1 + b=2"),
        "t3": ("b", 16, "layout split, without a + b, keep_thought no"),
    }
    split, merged = ({"layout": "split", **FLAGS}, PROVENANCE["stages"]["t2"]["settings"])
    assert stage_settings(PROVENANCE, "trajectories") == {"a": [split, merged], "b": [split], "c": [merged]}


@pytest.mark.parametrize(
    ("rows", "category"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (9_999_999, "1M<n<10M"), (10_000_000, "n>10M")],
)
def test_the_size_category_is_that_of_all_rows(rows: int, category: str, tmp_path: Path) -> None:
    tables: Any = {"math": {"train": range(rows // 2), "test": range(rows - rows // 2)}}
    assert card_metadata({}, tmp_path, tables, {}, {"math": DatasetInfo(config_name="math")}, "1.0.0")[
        "size_categories"
    ] == [category]


def test_one_start_in_memory_is_a_gap_of_the_lineage() -> None:
    stages = [("rows", []), ("source sample", []), ("join", ["0", "1"])]
    records = [{"fingerprint": str(n), "step": step, "inputs": inputs} for n, (step, inputs) in enumerate(stages)]
    gap = "the lineage starts at rows given in memory, your own table; describe their origin with provenance="
    assert provenance._lineage_gap(records) == gap
    assert provenance._lineage_gap(records[1:2]) == ""


def test_data_sets_are_counted_by_config_without_the_dropped_rows() -> None:
    kept = [
        {"task": task, "dataset": name} for task, name in (("math", "a"), ("math", "b"), ("qa", "c"), ("math", "a"))
    ]
    tables = {
        "math-stage1": {"train": rows_of(STAGE1, kept[:3]), "test": rows_of(STAGE1, kept[3:])},
        "math-dropped": {"train": rows_of(DROPPED, kept)},
    }
    found = {facts.name: facts.rows for facts in source_facts(tables)}
    assert found == {"a": {"math-stage1": 2}, "b": {"math-stage1": 1}, "c": {"math-stage1": 1}}
    assert prompt_facts._datasets({"math-stage1": tables["math-stage1"]}, "math") == ["a", "b"]


def test_an_engine_has_all_its_stages_with_their_prompts() -> None:
    spec, other = {"kind": "openai", "model": "m"}, {"kind": "openai", "model": "n"}
    runs = [("answer", spec, "chat"), ("respond", spec, "chat"), ("answer", other, "chat"), ("answer", spec, "chat")]
    runs += [("answer", spec, "completion")]
    stages = {
        str(n): {"step": step, "settings": {"spec": found, "identity": {}, "settings": {"style": style}}}
        for n, (step, found, style) in enumerate(runs)
    }
    engines = model_facts.model_facts({"stages": {**stages, "rows": {"step": "rows", "settings": None}}})["engines"]
    assert [(engine["model"], engine["stages"]) for engine in engines] == [
        ("m", [("answer", "chat"), ("respond", "chat"), ("answer", "completion")]),
        ("n", [("answer", "chat")]),
    ]


def test_models_are_compared_on_the_questions_of_both() -> None:
    """A question is known by its task, data set and id, and tables that repeat the columns do not count."""
    needs = {
        "one": ["needs_tool", "needs_tool", "indifferent", "needs_tool"],
        "two": ["needs_tool", "indifferent", "indifferent"],
    }
    keys = [("math", "1", "a"), ("math", "1", "b"), ("qa", "1", "a"), ("qa", "2", "a")]
    figures = {"p_plain": 0.5, "n_plain": 2, "p_tool": 1.0, "n_tool": 4}
    tables = {
        model: rows_of(NEED, [dict(zip(("task", "id", "dataset"), key, strict=True), model=model, need=need, **figures)
                              for key, need in zip(keys, found, strict=False)])
        for model, found in needs.items()
    }  # fmt: skip
    repeated = tables["two"].map(lambda row: {"model": "three"})
    splits = {name: {"train": table} for name, table in tables.items()}
    splits["stage1"] = {"train": repeated.add_column("output", ["x"] * 3)}
    splits["stage2"] = {"train": repeated.add_column("responses", [["x"]] * 3)}
    (record,) = need_differences(splits)
    assert record == {"models": ("one", "two"), "questions": 3, "same": 2, "alone": (1, 0)}
    first, second = need_counts(splits)
    assert (first.model, first.questions, first.right_plain, first.right_tool) == ("one", 4, 0.5, 1.0)
    assert (second.model, second.questions, second.classes["needs_tool"]) == ("two", 3, 1)


def test_usage_is_summed_over_stages_and_listed_by_model(tmp_path: Path) -> None:
    replies = [Reply("It is 8.", prompt_tokens=7, completion_tokens=2)] * 9
    questions = load_source("sample", split="train").select(range(3))
    graded = grade(answer(questions, scripted(replies, progress=False)))
    stage1 = build_stage1(graded, ANNOTATIONS)
    stage2 = build_stage2(respond(stage1, [Responder("one", scripted(replies, progress=False))]))
    out = publish({"math": {"stage2": stage2}}, tmp_path / "data", version="1.0.0")
    stages = json.loads((out / "provenance.json").read_text())["stages"].values()
    counts = [stage["usage"] for stage in stages if "usage" in stage]
    assert len(counts) > 1
    names = {usage["model"] for usage in counts}
    text = (out / "README.md").read_text()
    for name in names:
        total = {
            key: sum(usage.get(key, 0) for usage in counts if usage["model"] == name)
            for key in ("requests", "prompt_tokens", "completion_tokens")
        }
        line = next(
            line for line in text.splitlines() if line.startswith("|") and f" {total['prompt_tokens']:,} |" in line
        )
        assert [cell.strip() for cell in line.split("|")][2:5] == [f"{total[key]:,}" for key in total], name


def test_the_ledger_has_the_dropped_rows_of_a_split_that_is_empty_now(tmp_path: Path) -> None:
    """The split is not published; its dropped rows and its trail are."""
    questions = load_source("sample", split="train")
    parts = DatasetDict(train=questions.select(range(3)), test=questions.select(range(3, 6)))
    texts = {row["question"]: "It is 8." for row in parts["train"]} | {row["question"]: "" for row in parts["test"]}
    graded = grade(answer(parts, scripted(texts, progress=False, max_failed=1.0)))
    stage1 = build_stage1(graded, ANNOTATIONS)
    assert (len(stage1["train"]), len(stage1["test"])) == (3, 0)
    for layout in ("hub", "trice"):
        out = publish({"math": {"stage1": stage1}}, tmp_path / layout, version="1.0.0", layout=layout)
        facts = json.loads((out / "provenance.json").read_text())
        assert {split: entry["rows"] for split, entry in facts["configs"]["math-stage1"].items()} == {
            "train": 3,
            "test": 0,
        }
        if layout == "hub":
            lost = set(load_dataset(str(out), "math-dropped", split="train")["id"])
        else:
            lost = {json.loads(line)["id"] for line in (out / "dropped.json").read_text().splitlines()}
        assert lost == set(ledger([stage1])["id"]) == set(parts["test"]["id"])


def test_names_of_ledgers_are_reserved_and_mixes_have_one_schema(tmp_path: Path) -> None:
    table, other = (Dataset.from_list([{"id": "1", name: "x"}]) for name in ("question", "input"))
    for name in ("dropped", "my-dropped"):
        with pytest.raises(InputError, match="reserved for the dropped rows"):
            publish({"math": {name: table}}, tmp_path / "data", version="1.0.0")
    tables: Any = {"a": {"x": table, "y": table}, "b": {"x": table, "y": other}, "mix": {"x": table}}
    out = publish(tables, tmp_path / "data", version="1.0.0")
    metadata = yaml.safe_load((out / "README.md").read_text().split("---\n")[1])
    names = [entry["config_name"] for entry in metadata["configs"]]
    assert names == ["a-x", "a-y", "b-x", "b-y", "mix-x"], "the user's table keeps its name, and y has two schemas"
    assert load_dataset(str(out), "mix-x", split="train").to_list() == table.to_list()


def test_rows_keep_their_order_over_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Dataset.from_list([{"id": str(n), "question": "x" * 50} for n in range(40)])
    monkeypatch.setattr(parquet_files, "SHARD_BYTES", table.data.nbytes // 12 + 1)
    out = publish({"math": {"questions": table}}, tmp_path / "data", version="1.0.0")
    assert len(list(out.rglob("*.parquet"))) == 12
    assert load_dataset(str(out), "math-questions", split="train")["id"][:] == table["id"][:]


@pytest.mark.parametrize("layout", ["hub", "trice"])
def test_a_file_that_is_gone_is_written_again(layout: str, tmp_path: Path) -> None:
    rows = [{"id": "1", "task": "math", "dataset": "", "instruction": "Add.", "input": "1+2?", "output": "3"}]
    tables = {"math": {"stage1": rows_of(STAGE1, [{**rows[0], "answers": ["3"], "uses_tool": False}])}}
    out = publish(tables, tmp_path / "data", version="1.0.0", layout=layout)
    files = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert len(files) > 2
    for path in files:
        if path.name != "provenance.json":
            path.unlink()
            publish(tables, out, version="1.0.0", layout=layout)
            assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == files, path


def test_graders_are_audited_on_each_question_once(tmp_path: Path) -> None:
    """The questions of stage 1 and stage 2 are the same; one without a usable gold answer stops no audit."""
    questions = load_source("sample", split="train").select(range(4))
    graded = grade(answer(questions, scripted({"": "It is 8."}, progress=False)))
    stage1 = build_stage1(graded, ANNOTATIONS)
    stage2 = build_stage2(respond(stage1, []))
    facts = []
    for number, tables in enumerate(({"stage1": stage1}, {"stage1": stage1, "stage2": stage2})):
        out = publish({"math": tables}, tmp_path / str(number), version="1.0.0")
        text = (out / "README.md").read_text()
        facts.append([line for line in text.splitlines() if line.startswith("| math | default |")])
    assert len(facts[0]) == 1
    assert facts[0] == facts[1]
    provenance = json.loads((out / "provenance.json").read_text())
    bad = {**stage1[0], "id": "bad", "answers": ["many"]}
    mixed = {"math-stage1": {"train": Dataset.from_list([bad, *stage1], features=stage1.features)}}
    assert [entry.task for entry in grader_facts(mixed, provenance)] == ["math"]
    assert (
        grader_facts({"math-stage1": {"train": Dataset.from_list([bad], features=stage1.features)}}, provenance) == []
    )
