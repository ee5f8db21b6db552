"""Exports of stage 1 and stage 2: prompts and replies are those of a responder, and pairs follow the scores."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, concatenate_datasets, load_dataset

from tests.support.caches import use_caches
from toolrlef_data import (
    ANNOTATIONS,
    EXPORTS,
    TASKS,
    TOOLS,
    InputError,
    Responder,
    Tool,
    answer,
    build_stage1,
    build_stage2,
    export,
    grade,
    ledger,
    lineage,
    load_source,
    parse_call,
    preference_pairs,
    render_call,
    render_prompt,
    respond,
    scripted,
    to_trainer,
    tool_schema,
    trajectories,
    without_tool,
)
from toolrlef_data.columns import DROPPED, STAGE1, STAGE2
from toolrlef_data.publishing.exports.options import Options
from toolrlef_data.publishing.exports.stage2 import Candidate, choose_pairs
from toolrlef_data.publishing.exports.turns import native_message
from toolrlef_data.records import MissingColumns, ToolCall, UnknownName, UnusableRow
from toolrlef_data.tools.parsing.calls import read_native_calls

CALCULATOR = TOOLS["calculator"]
Row = dict[str, Any]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """Tables of all kinds; the student is right on one question, so that stage 1 has calls and answers."""
    with use_caches(tmp_path_factory.mktemp("caches")):
        questions = load_source("sample", split="train").select(range(8))
        student = scripted({"": "The answer is 54."}, progress=False)
        stage1 = build_stage1(grade(answer(questions, student)), ANNOTATIONS)
        texts = {"hasty": "It is 8, I think.", "careful": "calculator(2*4)", "far": "I use calculator(2000*4)."}
        responders = [Responder(name, scripted({"": text}, progress=False)) for name, text in texts.items()]
        answers = load_source("sample_trajectories").select(range(3))
        made = {
            "stage1": stage1,
            "stage2": build_stage2(respond(stage1, responders)),
            "trajectories": trajectories(answers, layout="merged", keep_thought=False),
            "pairs": preference_pairs(answers, keep_thought=False),
            "toolllama": trajectories(answers, style="toolllama"),
            "mixed": concatenate_datasets([stage1, without_tool(stage1, kind=["no_tools", "other_tools", "chat"])]),
        }
        return {name: Dataset.from_list(table.to_list(), features=table.features) for name, table in made.items()}


def ranked(texts: Sequence[str | None], scores: Sequence[float | None], **columns: Any) -> Dataset:
    """Return a stage 2 table with one row."""
    row: Row = {
        **dict.fromkeys(STAGE2),
        "id": "r",
        "task": "math",
        "instruction": "Add.",
        "input": "1+1",
        "responses": texts,
        "scores": scores,
        "origin": ["gold", *(f"r{n}" for n in range(1, len(texts)))],
        "correct": [None] * len(texts),
        **columns,
    }
    return Dataset.from_list([row], features=STAGE2)


def read_lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def dropped(path: Path) -> list[tuple[str, str]]:
    file = path.with_name(f"{path.name}.dropped.jsonl")
    rows = read_lines(file) if file.exists() else []
    assert all(list(row) == list(DROPPED) for row in rows)
    return [(row["reason"], row["detail"]) for row in rows]


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(field) for name, field in value.items() if field is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def combinations(options: Mapping[str, tuple[str, ...]]) -> list[dict[str, Any]]:
    """Return the combinations of the values of all options; numbers keep their default."""
    choices = {name: values for name, values in options.items() if values}
    found = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    return [chosen for chosen in found if chosen.get("calls") != "native" or chosen.get("style", "chat") == "chat"]


@pytest.mark.parametrize("format", EXPORTS)
def test_a_dataset_has_the_rows_of_the_file(format: str, tables: dict[str, Dataset], tmp_path: Path) -> None:
    for spec in EXPORTS[format]:
        fitting = [table for table in tables.values() if set(spec.columns) <= set(table.column_names)]
        assert fitting
        for table, options in itertools.product(fitting, combinations(spec.options)):
            path = export(table, format, tmp_path / "train.jsonl", unfit="drop", **options)
            rows = json.loads(path.read_text("utf-8")) if spec.array else read_lines(path)
            data = to_trainer(table, format, unfit="drop", **options)
            assert rows
            assert without_nulls(data.to_list()) == without_nulls(rows), (format, options)
            assert data.column_names == list(spec.features(Options(**options))) or "tools" not in rows[0]


@pytest.mark.parametrize("format", ["trl_kto", "trl_tpo", "llamafactory", "trl"])
def test_the_drops_of_a_dataset_are_in_its_ledger(
    format: str, tables: dict[str, Dataset], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = tables["stage2" if format != "trl" else "stage1"].to_list()
    if format == "trl":
        rows[0]["output"], rows[1]["input"] = "", None
    else:
        rows[0]["responses"] = [rows[0]["responses"][0], *["I use calculator(2) now."] * 3]
        rows[1]["correct"] = [None] * len(rows[1]["correct"])
    table = Dataset.from_list(rows, features=tables["stage2" if format != "trl" else "stage1"].features)
    options: dict[str, Any] = {"calls": "native", "unfit": "drop"}
    data = to_trainer(table, format, **options)
    path = export(table, format, tmp_path / "train.jsonl", **options)
    drops = ledger([data]).to_list()
    assert drops == read_lines(path.with_name(f"{path.name}.dropped.jsonl"))
    assert drops
    record = lineage(data)[-1]
    assert record["step"] == drops[0]["stage"] == f"export_{format}"
    assert record["rows_in"] == record["rows_out"] + len(drops) == len(data) + sum(record["dropped"].values())
    assert f"{len(drops)} " in caplog.text or len(record["dropped"]) > 1
    again = to_trainer(table, format, **options)
    assert ledger([again, data]).to_list() == drops


@pytest.mark.parametrize("style", ["chat", "alpaca", "completion", "vicuna"])
def test_prompt_and_completion_are_what_a_responder_saw_and_wrote(
    style: str, tables: dict[str, Dataset], tmp_path: Path
) -> None:
    for row, line in zip(
        tables["stage1"], read_lines(export(tables["stage1"], "trl", tmp_path / "x", style=style)), strict=True
    ):
        prompt = render_prompt(style, row["instruction"], row["input"])
        if isinstance(prompt, str):
            assert line["prompt"] == prompt
            joined = line["prompt"] + line["completion"]
            assert joined[len(prompt) :].strip() == row["output"]
            assert joined[len(prompt) - 1 : len(prompt) + 1].count(" ") + prompt[-1:].isspace() == 1
        else:
            assert line["prompt"] == [{"role": message.role, "content": message.content} for message in prompt]
            assert line["completion"] == [{"role": "assistant", "content": row["output"]}]


def test_native_calls_round_trip_and_have_the_schema(tables: dict[str, Dataset], tmp_path: Path) -> None:
    stage1 = tables["stage1"]
    lines = read_lines(export(stage1, "trl", tmp_path / "trl", calls="native"))
    texts = read_lines(export(stage1, "openai", tmp_path / "openai", calls="native"))
    n_calls = 0
    for row, line, text in zip(stage1, lines, texts, strict=True):
        assert json.loads(line["tools"]) == text["tools"] == [json.loads(tool_schema(CALCULATOR))]
        [message] = line["completion"]
        if row["uses_tool"]:
            [call], [text_call] = message["tool_calls"], text["messages"][-1]["tool_calls"]
            assert json.loads(text_call["function"]["arguments"]) == call["function"]["arguments"]
            native = read_native_calls([("calculator", text_call["function"]["arguments"])], CALCULATOR)
            assert native is not None
            assert native.text == row["output"]
            n_calls += 1
        else:
            assert message == {"role": "assistant", "content": row["output"]}
    assert 0 < n_calls < len(stage1)


HARD_CALLS = ["3*19", "a) b", '"quoted"', "x = 1", "(1", "água\n2", "\\", "1, 2", "'", "`x`", "{1}"]


@pytest.mark.parametrize("argument", HARD_CALLS)
def test_hard_arguments_round_trip(argument: str) -> None:
    look_up = Tool("WikiSearch", "Searches.", str.upper, parameter="query")
    call = ToolCall("WikiSearch", argument)
    message = native_message(render_call(call), look_up)
    assert message["tool_calls"][0]["function"]["arguments"] == {"query": argument}
    assert parse_call(render_call(call), look_up) == call


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("I use calculator(3*4).", "I use"),
        ('<tool_call>{"name": "calculator", "arguments": {"formula": "3*4"}}</tool_call>', ""),
        ('So:\n```json\n{"name": "calculator", "arguments": {"formula": "3*4"}}\n```', "So:"),
        ('[{"name": "calculator", "arguments": {"formula": "3*4"}}]', ""),
    ],
)
def test_text_before_a_call_is_its_content(text: str, content: str) -> None:
    message = native_message(text, CALCULATOR)
    assert message["content"] == content
    assert message["tool_calls"][0]["function"]["arguments"] == {"formula": "3*4"}


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("unreadable_call", "calculator(3*"),
        ("several_calls", "calculator(3*4) and calculator(5*6)"),
        ("text_after_call", "calculator(3*4) makes 12"),
        ("other_arguments", '{"name": "calculator", "arguments": {"formula": "3*4", "digits": 2}}'),
    ],
)
def test_a_call_that_a_message_cannot_express_is_recorded(reason: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(UnusableRow, match=reason):
        native_message(text, CALCULATOR)
    rows = [{**dict.fromkeys(STAGE1), "id": n, "task": "math", "instruction": "Add.", "input": "1+1", "output": output} for n, output in (("bad", text), ("good", "calculator(1+1)"))]  # fmt: skip
    table = Dataset.from_list(rows, features=STAGE1)
    for name in ("trl", "openai", "axolotl", "llamafactory"):
        path = export(table, name, tmp_path / name, calls="native", unfit="drop")
        assert [found for found, _ in dropped(path)] == [reason]
        assert len(read_lines(path)) == 1
        assert len(read_lines(export(table, name, path))) == 2  # as text


def test_openai_refuses_names_that_its_api_refuses(tmp_path: Path) -> None:
    long = Tool("x" * 65, "Too long.", str.upper)
    task = replace(TASKS["math"], name="long", tool=long)
    table = ranked([f"{long.name}(1)", "2"], [20, 0]).map(lambda row: {"task": "long"})
    row = {"id": "r", "task": "long", "instruction": "Add.", "input": "1+1", "output": f"{long.name}(1)"}
    one = Dataset.from_list([{**dict.fromkeys(STAGE1), **row}], features=STAGE1)
    for name, rows in (("openai_preference", table), ("openai", one)):
        with pytest.raises(InputError, match="bad_name"):
            export(rows, name, tmp_path / "x", calls="native", task=task)
        for function in (lambda *given, **options: export(given[0], given[1], tmp_path / "x", **options), to_trainer):
            with pytest.raises(InputError, match="none of the rows fits the format"):
                function(rows, name, calls="native", task=task, unfit="drop")
    [line] = read_lines(export(table, "trl_preference", tmp_path / "x", calls="native", task=task))
    assert line["chosen"][0]["tool_calls"][0]["function"]["name"] == long.name


# Stage 2 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pairs", "min_gap", "expected"),
    [
        ("best", 0, ["ad"]),
        ("best", 21, []),
        ("adjacent", 0, ["ab", "cd"]),  # b and c have equal scores
        ("all", 0, ["ab", "ac", "ad", "bd", "cd"]),
        ("all", 6, ["ab", "ac", "ad", "bd", "cd"]),
        ("all", 10, ["ab", "ac", "ad", "bd", "cd"]),
        ("all", 11, ["ad"]),
    ],
)
def test_pairs_follow_the_scores(pairs: str, min_gap: float, expected: list[str]) -> None:
    candidates = [Candidate(*fields) for fields in (("a", 20, "gold"), ("b", 10, "x"), ("c", 10, "y"), ("d", 0, "z"))]
    found = choose_pairs(candidates, pairs, min_gap)
    assert [better.text + worse.text for better, worse in found] == expected


@pytest.mark.parametrize("pairs", ["best", "adjacent", "all"])
@pytest.mark.parametrize(
    ("texts", "scores"),
    [
        (["a", "b", "c"], [10, 10, 10]),
        (["a", " a ", "a"], [20, 10, 0]),
        (["a", None, "b"], [20, 0, None]),
        (["a", "b"], [20, math.nan]),
    ],
)
def test_ties_and_equal_texts_are_no_pair_but_in_the_ledger(
    texts: list[str | None], scores: list[float | None], pairs: str, tmp_path: Path
) -> None:
    table = ranked(texts, scores)
    good = ranked(["a", "b"], [20.0, 5.0])
    for name in ("trl_preference", "trl_reward", "openai_preference", "llamafactory"):
        both = Dataset.from_list([*table, {**good[0], "id": "good"}], features=STAGE2)
        path = export(both, name, tmp_path / "x", pairs=pairs)  # also with unfit="refuse"
        assert len(read_lines(path)) == 1
        assert [reason for reason, _ in dropped(path)] == ["no_pair"]


def test_a_pair_has_its_margin_scores_and_responders(tmp_path: Path) -> None:
    table = ranked(["calculator(1+1)", "3", "2, I think"], [20, 0, 15])
    [line] = read_lines(export(table, "trl_preference", tmp_path / "x", style="alpaca"))
    facts = {name: line[name] for name in line if name not in ("prompt", "chosen", "rejected")}
    assert facts == {"margin": 1.0, "score_chosen": 20, "score_rejected": 0, "origin_chosen": "gold", "origin_rejected": "r1", "id": "r"}  # fmt: skip
    margins = [line["margin"] for line in read_lines(export(table, "trl_reward", tmp_path / "x", pairs="all"))]
    assert margins == [0.25, 1.0, 0.75]
    other = ranked(["a", "b"], [100, 0])
    with pytest.raises(InputError, match="score_range="):
        export(other, "trl_reward", tmp_path / "x")
    assert to_trainer(other, "trl_reward", score_range=200)["margin"][:] == [0.5]


def test_labels_are_the_grades_and_never_the_scores(tmp_path: Path) -> None:
    table = ranked(["a", "b", "c", "b"], [0, 20, 10, 20], correct=[True, False, None, True])
    path = export(table, "trl_kto", tmp_path / "x", style="completion")
    assert [(line["completion"], line["label"], line["origin"]) for line in read_lines(path)] == [
        (" a", True, "gold"),
        (" b", False, "r1"),
    ]
    assert dropped(path) == [("not_graded", "the response of r2")]
    with pytest.raises(MissingColumns, match=r"trl_kto.*lacks correct"):
        export(table.remove_columns("correct"), "trl_kto", path)


def test_repeated_texts_are_used_once_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "toolrlef_data")
    table = ranked(["a", " a", "b", None, "b ", "c"], [20, 20, 15, 0, 15, 5], correct=[True, True, *[False] * 4])
    for name, texts in (("trl_kto", [" a", " b", " c"]), ("trl_preference", [" a", " a", " b"])):
        caplog.clear()
        options: dict[str, Any] = {} if name == "trl_kto" else {"pairs": "all"}
        rows = to_trainer(table, name, style="completion", **options)
        assert (rows["completion" if name == "trl_kto" else "chosen"][:], len(ledger([rows]))) == (texts, 0)
        export(table, name, tmp_path / "x", style="completion", **options)
        assert [message for message in caplog.messages if "repeat" in message] == [
            f"{place}: 2 responses repeat an earlier text of their row: each text is used once"
            for place in ("to_trainer", "x")
        ]
    caplog.clear()
    export(ranked(["a", "b"], [20, 5]), "trl_preference", tmp_path / "x")
    assert "repeat" not in caplog.text


def test_an_unfit_response_leaves_the_others(tmp_path: Path) -> None:
    texts = ["calculator(1+1)", "calculator(1+", "3", "calculator(4+4)"]
    table = ranked(texts, [20, 15, 10, 0], correct=[True, False, False, False])
    counts = {
        "trl_preference": 3,
        "trl_reward": 3,
        "openai_preference": 3,
        "llamafactory": 3,
        "trl_kto": 3,
        "trl_tpo": 1,
    }
    for name, count in counts.items():
        options: dict[str, Any] = {} if name in ("trl_kto", "trl_tpo") else {"pairs": "all"}
        with pytest.raises(InputError, match=f"{name}.*unreadable_call: the response of r1"):
            export(table, name, tmp_path / name, calls="native", **options)
        path = export(table, name, tmp_path / name, calls="native", unfit="drop", **options)
        assert len(read_lines(path)) == count
        assert [reason for reason, _ in dropped(path)] == ["unreadable_call"]


def test_triples_and_lists_are_in_rank_order(tmp_path: Path) -> None:
    table = ranked(["low", "top", "mid", "mid too"], [0, 20, 10, 10])
    [triple] = read_lines(export(table, "trl_tpo", tmp_path / "x", style="alpaca"))
    assert [triple[side] for side in ("reference", "chosen", "rejected")] == ["top", "mid", "low"]
    assert [triple[f"origin_{side}"] for side in ("reference", "chosen", "rejected")] == ["r1", "r2", "gold"]
    [lists] = read_lines(export(table, "rrhf", tmp_path / "x", style="completion"))
    assert lists["responses"] == [" top", " mid", " mid too", " low"]
    assert (lists["scores"], lists["origins"]) == ([20, 10, 10, 0], ["r1", "r2", "r3", "gold"])
    two = Dataset.from_list([*ranked(["a", "b"], [20, 0]), {**table[0], "id": "good"}], features=STAGE2)
    path = export(two, "trl_tpo", tmp_path / "y")
    assert [reason for reason, _ in dropped(path)] == ["no_triple"]


def test_equal_scores_have_no_order(tmp_path: Path) -> None:
    both = Dataset.from_list([*ranked(["a", "b"], [10, 10]), {**ranked(["a", "b"], [20, 0])[0], "id": "good"}])
    path = export(both, "rrhf", tmp_path / "x")
    assert [line["id"] for line in read_lines(path)] == ["good"]
    assert [reason for reason, _ in dropped(path)] == ["no_pair"]


def test_the_records_of_native_calls_and_their_lineage_follow_the_tool() -> None:
    table = ranked(["calculator(1+1)", "2"], [20, 0])
    math = TASKS["math"]
    other = replace(math, tool=replace(math.tool, description="Adds.", version="2"))
    first, second = (to_trainer(table, "trl_preference", calls="native", task=task) for task in (math, other))
    assert "Adds." in second[0]["tools"]
    assert "Adds." not in first[0]["tools"]
    for data, version in ((first, math.tool.version), (second, "2")):
        assert lineage(data)[-1]["settings"]["tools"]["math"] == {"name": "calculator", "version": version}


def test_a_row_of_an_older_table_has_no_prompt(tmp_path: Path) -> None:
    table = ranked(["a", "b"], [20, 0], instruction=None, input=None)
    with pytest.raises(InputError, match="no_prompt"):
        export(table, "trl_preference", tmp_path / "x")


def test_grpo_rows_have_what_the_reward_reads(tables: dict[str, Dataset]) -> None:
    for name in ("stage1", "stage2"):
        data = to_trainer(tables[name], "trl_grpo")
        assert data.column_names == ["prompt", "answers", "task", "id", "input"]
        assert data["answers"][:] == tables[name]["answers"][:]


# LLaMA-Factory --------------------------------------------------------------------------------------------------------


def test_dataset_info_names_every_column_and_tag(tables: dict[str, Dataset], tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text('{"mine": {"file_name": "mine.json"}}')
    options: dict[str, dict[str, Any]] = {
        "text": {},
        "native": {"calls": "native"},
        "pairs": {"calls": "native", "pairs": "all", "unfit": "drop"},
        "pairs_text": {},
        "steps": {"unfit": "drop"},
    }
    sources = {"pairs": "stage2", "pairs_text": "stage2", "steps": "trajectories"}
    for name, chosen in options.items():
        export(tables[sources.get(name, "stage1")], "llamafactory", tmp_path / f"{name}.jsonl", **chosen)
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert list(info) == ["mine", *options]
    for name in options:
        entry, rows = info[name], read_lines(tmp_path / f"{name}.jsonl")
        assert entry["file_name"] == f"{name}.jsonl"
        assert set(entry["columns"].values()) <= set(rows[0])
        assert entry.get("ranking", False) == ("chosen" in rows[0])
        assert ("tags" in entry) == (entry["formatting"] == "sharegpt") == ("conversations" in rows[0])
    (tmp_path / "dataset_info.json").write_text("[")
    before = (tmp_path / "text.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"dataset_info\.json is not JSON"):
        export(tables["stage1"], "llamafactory", tmp_path / "text.jsonl", calls="native")
    assert (tmp_path / "text.jsonl").read_bytes() == before


def test_an_export_replaces_no_entry_of_other_data(tables: dict[str, Dataset], tmp_path: Path) -> None:
    info = tmp_path / "dataset_info.json"
    export(tables["stage1"], "llamafactory", tmp_path / "math.jsonl")
    export(tables["stage1"], "llamafactory", tmp_path / "math.jsonl", calls="native")
    entries = json.loads(info.read_text())
    assert entries["math"]["formatting"] == "sharegpt", "its own entry is replaced"
    for other in ({"file_name": "mine.json"}, {"hf_hub_url": "org/mine"}, "mine"):
        info.write_text(before := json.dumps({**entries, "mine": other}))
        with pytest.raises(InputError, match="has an entry 'mine' of other data"):
            export(tables["stage1"], "llamafactory", tmp_path / "mine.jsonl")
        assert info.read_text() == before
        assert not (tmp_path / "mine.jsonl").exists()
    with pytest.raises(InputError, match="the list of LLaMA-Factory's files"):
        export(tables["stage1"], "llamafactory", info)
    assert info.read_text() == before


def test_sharegpt_turns_alternate_and_arguments_are_objects(tables: dict[str, Dataset], tmp_path: Path) -> None:
    path = export(tables["trajectories"], "llamafactory", tmp_path / "x.jsonl", unfit="drop")
    n_calls = 0
    for line in read_lines(path):
        turns = line["conversations"]
        assert len(turns) % 2 == 0
        for n, turn in enumerate(turns):
            assert turn["from"] in (("human", "observation"), ("gpt", "function_call"))[n % 2]
            if turn["from"] == "function_call":
                calls = json.loads(turn["value"])
                assert all(
                    isinstance(call["arguments"], dict) for call in (calls if isinstance(calls, list) else [calls])
                )
                n_calls += 1
        assert all("name" in function for function in json.loads(line["tools"]))
    assert n_calls
    assert {reason for reason, _ in dropped(path)} <= {"not_alternating", "text_beside_call", "bad_arguments"}


# Options --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "options", "error", "message"),
    [
        ("trl", {"style": "prose"}, UnknownName, "prompt style"),
        ("trl", {"calls": "xml"}, UnknownName, "form of calls 'xml'; choose from: native, text"),
        ("trl", {"calls": "native", "style": "alpaca"}, InputError, 'calls="native" needs style="chat"'),
        ("trl", {"pairs": "all"}, InputError, "no option pairs for this table; its options: style, calls, arguments"),
        ("alpaca", {"style": "chat"}, InputError, "its options: none"),
        ("trl_preference", {"min_gap": -1}, InputError, "min_gap: expected a number of at least 0, found -1"),
        ("trl_preference", {"score_range": 0}, InputError, "score_range: expected a number above 0"),
    ],
)
def test_invalid_options_raise_before_writing(
    format: str,
    options: dict[str, Any],
    error: type[Exception],
    message: str,
    tables: dict[str, Dataset],
    tmp_path: Path,
) -> None:
    table = tables["stage2" if format == "trl_preference" else "stage1"]
    with pytest.raises(error, match=message):
        export(table, format, tmp_path / "x", **options)
    with pytest.raises(error, match=message):
        to_trainer(table, format, **options)
    assert not list(tmp_path.iterdir())


def test_datasets_reads_the_lines_without_changes(tables: dict[str, Dataset], tmp_path: Path) -> None:
    path = export(tables["stage2"], "trl_preference", tmp_path / "x.jsonl", calls="native", pairs="all")
    loaded = load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "hf"))
    assert without_nulls(loaded.to_list()) == without_nulls(read_lines(path))
