"""publish: the folder loads without this package, is replaced atomically, and documents the lineage of its rows."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset, DatasetDict, Value, load_dataset

from tests.support.api_server import ApiServer
from tests.support.caches import use_caches
from tests.support.models import bytes_chat, tiny_adapter, tiny_llama
from toolrlef_data import (
    ANNOTATIONS,
    TASKS,
    EngineSpec,
    Example,
    Function,
    InputError,
    Responder,
    Task,
    answer,
    apply,
    build_stage1,
    build_stage2,
    generate_trajectories,
    grade,
    load_source,
    make_questions,
    publish,
    respond,
    scripted,
    tokenise,
    trajectories,
)
from toolrlef_data.columns import DROPPED, STAGE2_LATER
from toolrlef_data.engines import ENGINES
from toolrlef_data.engines.model_stage import ModelStage
from toolrlef_data.engines.spec import Request
from toolrlef_data.publishing.card import metadata as card_metadata
from toolrlef_data.publishing.folder import LAYOUTS
from toolrlef_data.records import Reply
from toolrlef_data.tables.redaction import redact
from toolrlef_data.tables.reshape import stack
from toolrlef_data.trice.teachers import propose_calls


def student(request: Request) -> str:
    return "The answer is 8." if "?" in request.messages[-1].content else "I do not know."


def responder(request: Request) -> str:
    return "calculator(2*4)"


def uppercase(row: dict[str, Any], settings: dict[str, Any]) -> dict[str, str]:
    return {"loud": row["input"].upper()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Dataset]]:
    with use_caches(tmp_path_factory.mktemp("built")) as caches:
        questions = load_source("sample", split="train")
        graded = grade(answer(questions.select(range(30)), scripted(student, progress=False)))
        stage1 = build_stage1(graded, ANNOTATIONS)
        stage2 = build_stage2(respond(stage1, [Responder("other", scripted(responder, progress=False))]))
    return caches, {"stage1": stage1, "stage2": stage2}


@pytest.fixture
def tables(built: tuple[Path, dict[str, Dataset]], fresh_caches: Path) -> dict[str, dict[str, Dataset]]:
    shutil.copytree(built[0], fresh_caches)
    return {"math": built[1].copy()}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def files_beside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir() if path != folder)


LOAD = """
import sys
sys.modules["toolrlef_data"] = None  # as in an environment without this package
from datasets import load_dataset
for config in ("math-stage1", "math-stage2", "math-dropped"):
    data = load_dataset(sys.argv[1], config, split="train")
    print(config, len(data), type(data[0].get("scores", [None])[0]).__name__)
print(len(load_dataset(sys.argv[1], split="train")))
"""


@pytest.mark.parametrize("format", [{"columns": ["id"]}, {"type": "numpy", "columns": ["id"]}])
def test_the_format_of_a_table_changes_no_published_file(format: dict[str, Any], tmp_path: Path) -> None:
    table = Dataset.from_list([{"id": str(n), "question": f"{n} + 1?", "answers": [str(n + 1)]} for n in range(2)])
    for name, data in (("plain", table), ("formatted", table.with_format(**format))):
        publish({"math": {"questions": data}}, tmp_path / name, version="1.0.0")
    plain, formatted = digests(tmp_path / "plain"), digests(tmp_path / "formatted")
    assert {name for name in plain if formatted.get(name) != plain[name]} <= {"provenance.json"}


def test_the_folder_loads_without_this_package(tables: dict[str, Any], tmp_path: Path) -> None:
    out = publish(tables, tmp_path / "data", version="1.0.0")
    done = subprocess.run([sys.executable, "-c", LOAD, out], capture_output=True, text=True, check=True)
    rows = {name: len(table) for name, table in tables["math"].items()}
    lines = done.stdout.splitlines()
    assert lines[:2] == [f"math-stage1 {rows['stage1']} NoneType", f"math-stage2 {rows['stage2']} float"]
    assert lines[2].startswith(f"math-dropped {30 - rows['stage1']} ")
    assert lines[3] == str(rows["stage1"]), "the first config is the default"


def test_loaded_rows_and_features_equal_the_published_ones(tables: dict[str, Any], tmp_path: Path) -> None:
    out = publish(tables, tmp_path / "data", version="1.0.0")
    for name, table in tables["math"].items():
        loaded = load_dataset(str(out), f"math-{name}", split="train")
        assert loaded.features == table.features
        assert loaded[:] == table[:]


def test_same_tables_produce_the_same_bytes_and_no_other_files(tables: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "data"
    first = digests(publish(tables, out, version="1.0.0"))
    assert digests(publish(tables, out, version="1.0.0")) == first
    assert files_beside(out) == []


def test_the_number_of_processes_changes_no_published_byte(tmp_path: Path) -> None:
    def published(num_proc: int | None) -> dict[Path, bytes]:
        with use_caches(tmp_path / f"cache-{num_proc}"):
            student = scripted({"": "It is 0."}, progress=False)
            answered = answer(load_source("sample", split="train").select(range(8)), student, num_proc=num_proc)
            graded = grade(answered, num_proc=num_proc)
            folder = publish({"math": {"graded": graded}}, tmp_path / str(num_proc), version="1.0.0")
            return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert published(2) == published(None)


def test_failure_while_writing_keeps_the_old_folder(tables: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "data"
    complete = digests(publish(tables, out, version="1.0.0"))
    with pytest.raises(TypeError):
        publish(tables, out, version="2.0.0", provenance={"unwritable": object()})
    assert digests(out) == complete
    assert files_beside(out) == []


def test_folder_with_other_contents_is_not_changed(tables: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("ten years of work")
    with pytest.raises(InputError, match="is not a published data set"):
        publish(tables, tmp_path, version="1.0.0")
    assert (tmp_path / "thesis.tex").read_text() == "ten years of work"


def test_card_and_provenance_are_computed_from_the_data(tables: dict[str, Any], tmp_path: Path) -> None:
    card = {"title": "Small sums", "license": "apache-2.0", "tags": ["sums"]}
    out = publish(tables, tmp_path / "data", version="1.2.3", card=card)
    front, body = (out / "README.md").read_text().split("---\n")[1:3]
    metadata = yaml.safe_load(front)
    assert [c["config_name"] for c in metadata["configs"]] == ["math-stage1", "math-stage2", "math-dropped"]
    assert [i["splits"][0]["num_examples"] for i in metadata["dataset_info"]][:2] == [
        len(t) for t in tables["math"].values()
    ]
    assert (metadata["license"], metadata["pretty_name"]) == ("apache-2.0", "Small sums")
    assert metadata["tags"] == ["sums"], "a field of the publisher replaces the default"
    assert "Version 1.2.3" in body
    assert "| gold |" in body
    provenance = json.loads((out / "provenance.json").read_text())
    stage_names = [stage["step"] for stage in provenance["stages"].values()]
    assert {"answer", "build_stage1", "execute", "score"} <= set(stage_names)
    for stage in provenance["stages"].values():
        assert stage["rows_in"] == stage["rows_out"] + sum(stage["dropped"].values())
    text = json.dumps(provenance)
    assert "prompts_sha256" in text
    assert str(tmp_path) not in text, "no local path"


def test_sizes_in_the_card_are_those_of_the_files(
    tables: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage1 = tables["math"]["stage1"]
    parts = DatasetDict(train=stage1.select(range(5)), test=stage1.select(range(5, 8)))
    other = {name: part.map(lambda row: {"task": "qa"}) for name, part in parts.items()}
    # The number of rows has a limit above it, and is not below a limit that it equals.
    monkeypatch.setattr(card_metadata, "SIZES", ((16, "n<16"), (17, "16<=n<17"), (18, "17<=n<18")))
    dropped = Dataset.from_dict({name: [] for name in DROPPED}, features=DROPPED)
    out = publish(
        {"math": {"stage1": parts}, "qa": {"stage1": DatasetDict(other)}},
        tmp_path / "data",
        version="1.0.0",
        dropped=dropped,
    )
    metadata = yaml.safe_load((out / "README.md").read_text().split("---\n")[1])
    assert metadata["size_categories"] == ["16<=n<17"]
    assert [entry.get("default") for entry in metadata["configs"]] == [True, None, None], "the first one"
    names = ["math-stage1", "qa-stage1", "mix-stage1"]
    assert [info["config_name"] for info in metadata["dataset_info"]] == names
    for info, entry in zip(metadata["dataset_info"], metadata["configs"], strict=True):
        paths = [
            path
            for part in entry["data_files"]
            for path in ([part["path"]] if isinstance(part["path"], str) else part["path"])
        ]
        assert info["download_size"] == sum((out / path).stat().st_size for path in paths)
        assert info["dataset_size"] == sum(split["num_bytes"] for split in info["splits"])
        rows = [5, 3] if info["config_name"] != "mix-stage1" else [10, 6]
        assert [(split["name"], split["num_examples"]) for split in info["splits"]] == [
            *zip(["train", "test"], rows, strict=True)
        ]


def test_table_with_incomplete_lineage_is_published_with_a_warning(
    tables: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mixed = {"math": {"stage2": tables["math"]["stage2"].shuffle(seed=1)}}
    with caplog.at_level(logging.WARNING, "toolrlef_data"):
        out = publish(mixed, tmp_path / "data", version="1.0.0")
    assert "the lineage starts at this table" in caplog.text
    assert "the lineage starts at this table" in (out / "provenance.json").read_text()
    assert "The lineage of math-stage2 is incomplete" in (out / "README.md").read_text()
    caplog.clear()
    shuffled = load_source("sample", split="train").shuffle(seed=1).select(range(40))
    stage1 = build_stage1(grade(answer(shuffled, scripted(student, progress=False))), ANNOTATIONS)
    publish({"math": {"stage1": stage1}}, tmp_path / "other", version="1.0.0")
    assert "the lineage starts at the input of the stage 'answer'" in caplog.text
    dropped = Dataset.from_list(
        [{"id": "9", "task": "math", "dataset": "sample", "stage": "mine", "reason": "too long", "detail": ""}]
    )
    out = publish(mixed, tmp_path / "data", version="1.1.0", dropped=dropped, provenance={"shuffled": "seed 1"})
    assert load_dataset(str(out), "math-dropped", split="train")["reason"][:] == ["too long"]
    assert json.loads((out / "provenance.json").read_text())["shuffled"] == "seed 1"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_trice_files_by_task_and_by_data_set(tables: dict[str, Any], tmp_path: Path) -> None:
    stage1, stage2 = tables["math"].values()
    new = publish(tables, tmp_path / "new", version="1.0.0", layout="trice")
    rows = lines(new / "stage2" / "math" / "math.json")
    assert list(rows[0]) == ["query", "responses", "origin", "scores", "answer"]
    assert all(type(score) is int for row in rows for score in row["scores"])
    assert [row["responses"] for row in rows] == stage2["responses"][:]
    clones = lines(new / "stage1" / "math" / "math.json")
    assert clones == [{name: row[name] for name in ("instruction", "input", "output")} for row in stage1]
    assert lines(new / "stage1" / "math" / "sample.json") == clones
    gold = lines(new / "stage2" / "math" / "Math_gold_response.json")
    assert [row["answer"] for row in gold] == [row["answers"][0] for row in stage1]
    old = publish(tables, tmp_path / "old", version="1.0.0", layout="trice-old")
    assert lines(old / "stage2" / "sample" / "sample.json") == rows
    assert lines(old / "stage1" / "sample" / "sample.json") == clones


def test_unknown_layouts_and_missing_tables_are_clear_errors(tables: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"choose from: {', '.join(sorted(LAYOUTS))}"):
        publish(tables, tmp_path / "data", version="1.0.0", layout="csv")
    with pytest.raises(InputError, match="at least one table"):
        publish({}, tmp_path / "data", version="1.0.0")
    with pytest.raises(InputError, match=r"no rows to publish in math-stage2 \(train\)"):
        publish({"math": {"stage2": tables["math"]["stage2"].select([])}}, tmp_path / "data", version="1.0.0")


@pytest.mark.parametrize("layout", ["hub", "trice"])
def test_empty_split_of_a_table_with_rows_is_skipped_with_a_warning(
    layout: str, tables: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage1, stage2 = tables["math"].values()
    partly_empty = DatasetDict(test=stage2.select([]), train=stage2, more=stage2.select([]))
    named = {"stage1": stage1, "stage2": partly_empty}
    out = publish({"math": named}, tmp_path / "data", version="1.0.0", layout=layout)
    warnings = [record.message for record in caplog.records if "math-stage2: skipped test, more" in record.message]
    assert len(warnings) == 1
    names = {path.name for path in out.rglob("*") if path.is_file()}
    assert not any("test" in name or "more" in name for name in names)
    if layout == "hub":
        assert {split: len(rows) for split, rows in load_dataset(str(out), "math-stage2").items()} == {
            "train": len(stage2)
        }
        metadata = yaml.safe_load((out / "README.md").read_text().split("---\n")[1])
        assert [file["split"] for file in metadata["configs"][1]["data_files"]] == ["train"]
    empty = {"stage1": stage1, "stage2": DatasetDict(test=stage2.select([]), more=stage2.select([]))}
    with pytest.raises(InputError, match=r"math-stage2 \(test, more\): `ledger\(\[table\]\)` lists the dropped rows"):
        publish({"math": empty}, tmp_path / "other", version="1.0.0", layout=layout)
    assert not (tmp_path / "other").exists()


def test_card_reports_no_drops_only_for_complete_lineage(tmp_path: Path) -> None:
    questions = load_source("sample", split="train")
    perfect_student = scripted(
        {row["question"]: f"The answer is {row['answers'][0]}." for row in questions}, progress=False
    )

    def stage1_of(rows: Dataset) -> Dataset:
        return build_stage1(grade(answer(rows, perfect_student)), ANNOTATIONS)

    in_memory = Dataset.from_list(list(questions.select(range(9))), features=questions.features)
    cases = [
        (questions, "No rows were dropped.", "complete from the source on"),
        (
            questions.select(range(9)),
            "No dropped rows are known",
            "the lineage starts at the input of the stage 'answer'",
        ),
        (in_memory, "No dropped rows are known", "the lineage starts at rows given in memory"),
    ]
    for i, (rows, words, trail) in enumerate(cases):
        out = publish({"math": {"stage1": stage1_of(rows)}}, tmp_path / str(i), version="1.0.0")
        assert words in (out / "README.md").read_text()
        assert trail in json.loads((out / "provenance.json").read_text())["configs"]["math-stage1"]["train"]["trail"]
        assert sorted(path.parent.name for path in out.rglob("*.parquet")) == ["math-stage1"]


# Files in TRICE's format -----------------------------------------------------------------------------------------------


def without_later_columns(table: Dataset) -> Dataset:
    return table.remove_columns(sorted(STAGE2_LATER))


def test_splits_with_different_columns_are_an_error(tables: dict[str, Any], tmp_path: Path) -> None:
    stage2 = tables["math"]["stage2"]
    splits = DatasetDict(train=without_later_columns(stage2), test=stage2)
    with pytest.raises(
        InputError,
        match="found correct, error_details, finish_reasons, input, instruction only in one of train and test",
    ):
        publish({"math": {"stage2": splits}}, tmp_path / "data", version="1.0.0")
    assert not (tmp_path / "data").exists()


def test_a_stage2_table_of_an_earlier_version_is_noted(
    tables: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = without_later_columns(tables["math"]["stage2"])
    out = publish({"math": {"stage2": old}}, tmp_path / "data", version="1.0.0")
    assert "math-stage2: a table of an earlier version, without the columns instruction, input" in caplog.text
    assert load_dataset(str(out), "math-stage2", split="train").column_names == old.column_names
    mixed = publish({"math": {"stage2": old}, "other": tables["math"]}, tmp_path / "mix", version="1.0.0")
    assert "no mix-stage2: math-stage2 and other-stage2 have different columns" in caplog.text
    assert "mix-stage2" not in (mixed / "README.md").read_text()


def test_splits_and_tasks_do_not_leak_into_each_other(tables: dict[str, Any], tmp_path: Path) -> None:
    stage1, stage2 = tables["math"].values()
    split = {
        "stage1": DatasetDict(train=stage1.select(range(3)), test=stage1.select(range(3, 5))),
        "stage2": DatasetDict(train=stage2.select(range(3)), test=stage2.select(range(3, 5))),
    }
    out = publish({"math": split, "other": tables["math"]}, tmp_path / "data", version="1.0.0", layout="trice")
    clones = [{name: row[name] for name in ("instruction", "input", "output")} for row in stage1]
    assert lines(out / "stage1" / "math" / "math.json") == clones[:3]
    assert lines(out / "dev" / "math" / "math.json") == clones[3:5]
    assert [row["responses"] for row in lines(out / "dev" / "math" / "math_stage2.json")] == stage2["responses"][3:5]
    assert len(lines(out / "stage2" / "math" / "Math_gold_response.json")) == 3
    assert lines(out / "stage1" / "mix" / "mix.json") == clones[:3] + clones
    assert len(lines(out / "stage2" / "mix" / "mix.json")) == 3 + len(stage2)


def test_ids_have_upstream_data_set_names(tables: dict[str, Any], tmp_path: Path) -> None:
    rows = [{**row, "id": f"gsm8k-train-{i}", "dataset": "gsm8k"} for i, row in enumerate(tables["math"]["stage1"])]
    stage1 = Dataset.from_list(rows, features=tables["math"]["stage1"].features)
    out = publish({"math": {"stage1": stage1}}, tmp_path / "data", version="1.0.0", layout="trice-old")
    assert lines(out / "stage2" / "GSM8K" / "GSM8K_gold_response.json")[0]["id"] == "GSM8K-train-0"


def test_responses_are_in_the_files_of_trice_scripts(
    tables: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES.import_paths, "local", "toolrlef_data.engines.scripted:ScriptedEngine")
    local_model = replace(scripted(responder, progress=False), kind="local")
    failing = scripted([Reply(None, error="server_error")] + ["8"] * 40, progress=False)
    responded = respond(tables["math"]["stage1"], [Responder("alpaca", local_model), Responder("gpt", failing)])
    out = publish({"math": {"responded": responded}}, tmp_path / "data", version="1.0.0", layout="trice")
    local_rows = lines(out / "stage2" / "math" / "Math_alpaca_response.json")
    assert [sorted(row) for row in local_rows] == [
        ["answer", "id", "input", "instruction", "question", "response"]
    ] * len(responded)
    api_rows = lines(out / "stage2" / "math" / "Math_gpt_response.json")
    assert {tuple(sorted(row)) for row in api_rows} == {("answer", "id", "input", "output", "question", "response")}
    dropped = [row for row in lines(out / "dropped.json") if row["stage"] == "publish"]
    assert len(api_rows) + len(dropped) == len(responded), "a missing response is recorded in the ledger"
    assert dropped[0]["detail"] == "gpt: server_error"
    assert len(lines(out / "stage2" / "math" / "Math_gold_response.json")) == len(responded)


def test_graded_tables_become_the_raw_files(tmp_path: Path) -> None:
    questions = load_source("sample", split="train")
    labelled = propose_calls(grade(answer(questions, scripted(student, progress=False))), ANNOTATIONS)
    out = publish({"math": {"labelled": labelled}}, tmp_path / "data", version="1.0.0", layout="trice")
    right, wrong = (lines(out / "raw" / "math" / f"sample_{word}.json") for word in ("right", "wrong"))
    assert len(right) + len(wrong) == len(questions)
    assert list(wrong[0]) == ["id", "question", "answer", "input"]
    tools = lines(out / "stage1" / "math" / "sample_wrong.json")
    assert [row["tool"] for row in tools] == [row["tool_call"] for row in labelled if row["verified"]]


def test_unsupported_tables_and_options_are_refused(tables: dict[str, Any], tmp_path: Path) -> None:
    answered = answer(load_source("sample", split="train").select(range(3)), scripted(student, progress=False))
    cases = [
        ({"math": {"answered": answered}}, {}, "'answered' of 'math' cannot be written"),
        ({"math": {"a": tables["math"]["stage1"], "b": tables["math"]["stage1"]}}, {}, "'a' and 'b'.* the same files"),
        (tables, {"card": {"license": "mit"}}, "has no card"),
    ]
    bad_tables: Any
    options: Any
    for bad_tables, options, words in cases:
        with pytest.raises(InputError, match=words):
            publish(bad_tables, tmp_path / "data", version="1.0.0", layout="trice", **options)
    assert list(tmp_path.iterdir()) == []


# Refused arguments, ledgers and redaction --------------------------------------------------------------------------------


def test_invalid_shapes_names_and_versions_raise_before_writing(tables: dict[str, Any], tmp_path: Path) -> None:
    stage1 = tables["math"]["stage1"]
    cases: list[tuple[Any, str, str]] = [
        (stage1, "1.0.0", r"expects \{task: \{name: table\}\}.*found a Dataset"),
        ({"math": stage1}, "1.0.0", "found a Dataset at 'math'"),
        ({"math": DatasetDict(train=stage1)}, "1.0.0", "found a DatasetDict at 'math'"),
        ({"math": {"stage1": [1]}}, "1.0.0", "found a list at 'math', 'stage1'"),
        ({"math": {"dropped": stage1}}, "1.0.0", "cannot be named 'dropped'"),
        ({"math": {"../up": stage1}}, "1.0.0", "name of a table.*'../up'"),
        ({"..": {"stage1": stage1}}, "1.0.0", "name of a task"),
        ({"math": {"stage1": DatasetDict({"a-b": stage1})}}, "1.0.0", "name of a split"),
        ({"a": {"b-c": stage1}, "a-b": {"c": stage1}}, "1.0.0", "two tables have the same config name 'a-b-c'"),
        (tables, "1.0", "three numbers like '1.2.3', found '1.0'"),
    ]
    for bad_tables, version, words in cases:
        with pytest.raises(InputError, match=words):
            publish(bad_tables, tmp_path / "data", version=version)
    with pytest.raises(InputError, match="dropped= lacks task, dataset, stage, reason, detail; found id"):
        publish(tables, tmp_path / "data", version="1.0.0", dropped=Dataset.from_dict({"id": ["1"]}))
    assert list(tmp_path.iterdir()) == []


def test_given_ledger_is_split_by_task(tables: dict[str, Any], tmp_path: Path) -> None:
    other = Dataset.from_list(
        [{**row, "task": "qa"} for row in tables["math"]["stage1"]], features=tables["math"]["stage1"].features
    )
    same = {"dataset": "d", "stage": "s", "reason": "r", "detail": ""}
    dropped = Dataset.from_list(
        [{"id": i, "task": t, **same} for i, t in (("1", "math"), ("2", "qa"), ("3", None))], features=DROPPED
    )
    both = {"math": {"stage1": tables["math"]["stage1"]}, "qa": {"stage1": other}}
    out = publish(both, tmp_path / "data", version="1.0.0", dropped=dropped)
    ids = {task: load_dataset(str(out), f"{task}-dropped", split="train")["id"][:] for task in both}
    assert ids == {"math": ["1", "3"], "qa": ["2", "3"]}, "a row without a task belongs to every task"
    assert "The configs `math-dropped`, `qa-dropped` contain the dropped rows" in (out / "README.md").read_text()
    old = publish(both, tmp_path / "old", version="1.0.0", dropped=dropped, layout="trice")
    assert sorted(row["id"] for row in lines(old / "dropped.json")) == ["1", "2", "3"]


def test_redaction_shortens_paths_and_removes_private_servers() -> None:
    settings = {
        "model": "/home/me/models/small",
        "adapter": "~/lora",
        "data_dir": "file:///data/gsm8k",
        "at": Path("/a/b"),
    }
    assert redact(settings) == {"model": "small", "adapter": "lora", "data_dir": "gsm8k", "at": "b"}
    windows_paths = ["C:\\models\\small", "\\\\share\\models\\small", "../small", ".\\small", "~me/small"]
    assert redact(windows_paths) == ["small"] * 5
    unusual_paths = [
        "\\Users\\me\\small",
        "$HOME/small",
        "%HOME%\\small",
        "FILE:///models/small",
        "smb://box/small",
        "//box/small",
    ]
    assert redact(unusual_paths) == ["small"] * 6
    unchanged = ["org/name", "https://api.openai.com/v1", "/", "</s>", "\n", "\\boxed", "a/b/c", "~", "..."]
    assert redact(unchanged) == unchanged
    spec = EngineSpec(
        "local", "/home/me/small", stop=("/end", "~/"), base_url="http://gpu-box:8000/v1", adapter="./lora"
    )
    fields = redact(spec)
    assert (fields["model"], fields["adapter"], fields["stop"]) == ("small", "lora", ["/end", "~/"])
    assert fields["base_url"] == "a private server"


PRIVATE_HOSTS = [
    *("localhost", "LOCALHOST", "127.0.0.1", "0.0.0.0", "169.254.1.1", "10.0.0.1", "10.255.255.254", "100.64.0.1"),
    *("172.16.0.1", "172.19.9.9", "172.20.0.1", "172.31.255.254", "192.168.0.1", "192.168.255.254"),
    *("[::1]", "[fd00::1]", "[fc00:1:2::3]", "[fe80::1]", "me:pass@10.0.0.1"),
    *("gpu", "gpu-box", "printer.local", "gpu.corp.internal", "box.lan", "a.corp", "a.intranet"),
]
PUBLIC_HOSTS = ["api.openai.com", "11.0.0.1", "172.15.0.1", "172.32.0.1", "192.169.0.1", "100.128.0.1", "mylocal.com"]


@pytest.mark.parametrize("end", ["", "/", ":8000/v1", "?a=1"])
@pytest.mark.parametrize("scheme", ["http", "https", "HTTP"])
def test_urls_of_private_hosts_are_not_published(scheme: str, end: str) -> None:
    assert [host for host in PRIVATE_HOSTS if redact(f"{scheme}://{host}{end}") != "a private server"] == []
    assert [host for host in PUBLIC_HOSTS if redact(f"{scheme}://{host}{end}") == "a private server"] == []


def stage_of(spec: EngineSpec) -> ModelStage:
    return ModelStage(lambda row, settings: None, lambda *_: {}, None, spec, reads=["id"], adds={}, name="answer")


@pytest.mark.parametrize(("base_url", "shown"), [("$MY_URL", "$MY_URL"), (None, "$OPENAI_BASE_URL")])
def test_the_url_in_a_variable_is_not_published(
    base_url: str | None, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MY_URL", "OPENAI_BASE_URL"):
        monkeypatch.setenv(name, "https://me:pass@models.example.com/v1")
    spec = EngineSpec("openai_api", "served", base_url=base_url, keys="MY_KEY")
    monkeypatch.setenv("MY_KEY", "sk-a-key-that-nobody-may-read")
    published = redact(stage_of(spec))
    assert published["identity"]["url"] == shown
    assert published["spec"]["base_url"] == base_url
    assert "example.com" not in json.dumps(published)
    public = replace(spec, base_url="https://models.example.com/v1")
    published = redact(stage_of(public))
    assert published["identity"]["url"] == public.base_url


def test_settings_with_an_unpaired_surrogate_are_published(tmp_path: Path) -> None:
    questions = load_source("sample", split="train").select(range(4))
    answered = answer(questions, scripted({"": "The answer is 8. \ud83d"}, progress=False))
    card = {"title": "half \ud83d"}
    out = publish({"math": {"answered": answered}}, tmp_path / "data", version="1.0.0", card=card)
    assert "The answer is 8. \ufffd" in (out / "provenance.json").read_text()
    assert "half \ufffd" in (out / "README.md").read_text()
    assert publish({"math": {"answered": answered}}, out, version="1.0.0", card=card) == out


def test_nested_objects_are_redacted_by_their_method() -> None:
    """Objects in bound methods, sets and dictionary keys too; a field named `published` is not a method."""
    redacted_task = Task.published(TASKS["math"])

    @dataclass(frozen=True)
    class FieldOfThatName:
        published: str = "yes"

    @dataclass(frozen=True)
    class MethodOfThatName:
        def published(self) -> dict[str, Any]:
            return {"names": {"b", "a"}, "at": Path("/home/me")}

    assert redact(TASKS["math"].examples_for)["self"] == redacted_task
    assert TASKS["math"].instruction not in str(redact({"by": TASKS["math"].examples_for}))
    assert redact(frozenset([Path("/home/me/rows")])) == ["rows"]
    assert redact({"/home/me/rows": 1, "pattern": re.compile("/home/me/x")}) == {
        "rows": 1,
        "pattern": {"pattern": "x", "flags": 32},
    }
    assert redact(functools.partial(os.path.join, "/home/me/x", end="/home/me/y"))["partial"][1:] == [
        ["x"],
        {"end": "y"},
    ]
    assert redact(FieldOfThatName()) == {"published": "yes"}
    assert redact(MethodOfThatName())["names"] == ["a", "b"]
    spec = EngineSpec("local", "org/name", adapter=Path("/home/me/lora"))  # type: ignore[arg-type]
    assert redact(spec)["adapter"] == "lora"


def test_no_published_file_contains_a_prompt_path_or_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test searches the texts of all files and all columns of all tables."""
    monkeypatch.setenv("MY_KEY", key := "sk-a-key-that-nobody-may-read")
    home = tmp_path / "home-of-the-author"
    source = home / "rows"
    source.mkdir(parents=True)
    lines = [
        {"question": f"What is {n} times 4?", "answer": f"It is <<{n}*4={n * 4}>>{n * 4}. #### {n * 4}"}
        for n in range(9)
    ]
    (source / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    example = Example("What is 5 times 5 in the secret example?", "25", "calculator(5*5)", "It is the secret 25.")
    instructions: dict[str, Any] = {
        f"{who}_instruction": f"The secret words for the {who}." for who in ("plain", "teacher", "reader")
    }
    task = replace(TASKS["math"], name="mine", examples={"": [example]}, **instructions)
    with ApiServer() as server:
        spec = EngineSpec("openai_api", "served", base_url=server.url, keys="MY_KEY", temperature=0.5, progress=False)
        model = tiny_llama(home / "models" / "tiny")
        local = EngineSpec(
            "local", str(model), max_tokens=4, progress=False, adapter=str(tiny_adapter(home / "lora", model))
        )
        loaded = load_source("gsm8k", split="train", data_dir=source)
        questions = make_questions(loaded, task=task, id="id", solution="solution")
        graded = grade(answer(questions, spec))
        stage1 = build_stage1(graded, [ANNOTATIONS, spec], task=task)
        candidates = respond(stage1, [Responder("served", spec), Responder("local", local)], task=task)
        marked = apply(
            candidates,
            uppercase,
            {"corpus": str(source), "at": source},
            reads=["input"],
            adds={"loud": Value("string")},
        )
        # compat: the replies of the tiny model are cut off.
        stage2 = build_stage2(marked, task=task, compat=True)
        call = Function(
            "look",
            "Looks it up.",
            {"type": "object", "properties": {}},
            url=f"{server.url}/look",
            headers={"X-Key": "$MY_KEY"},
        )
        searched = generate_trajectories(["Is it up?"], [call], spec)
        steps = trajectories(stack([load_source("sample_trajectories"), searched], "both"))
        tokens = tokenise(steps, str(bytes_chat(home / "chat")), protocol="text")
    tables = {"math": {"stage1": stage1, "stage2": stage2}, "lakes": {"steps": steps, "tokens": tokens}}
    secrets = [*instructions.values(), "secret example", "secret 25", str(tmp_path), home.name, "127.0.0.1", key]
    n_checked = 0
    for layout in ("hub", "trice"):
        out = publish(
            tables if layout == "hub" else {"math": tables["math"]}, tmp_path / layout, version="1.0.0", layout=layout
        )
        for path in (path for path in out.rglob("*") if path.is_file()):
            text = str(Dataset.from_parquet(str(path))[:]) if path.suffix == ".parquet" else path.read_text()
            assert [secret for secret in secrets if secret in text] == [], path
            n_checked += 1
    assert n_checked > 8


def test_digest_of_published_prompts_is_stable() -> None:
    task = replace(TASKS["math"], examples={"": [Example("a", "b", "c", "d")]})
    assert redact(task)["prompts_sha256"]["examples"] == "31cf1ad017924eeddb41fdda6b70c8dd"
