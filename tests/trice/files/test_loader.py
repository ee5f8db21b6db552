"""Files in TRICE's layouts: round trips, TRICE's files, and dropped rows."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, Features, load_dataset

from tests.support.caches import use_caches
from toolrlef_data import (
    TASKS,
    InputError,
    Reply,
    Responder,
    Task,
    Tool,
    answer,
    build_stage1,
    build_stage2,
    grade,
    publish,
    respond,
    scripted,
)
from toolrlef_data.columns import LABELLED, QUESTIONS, RESPONSE, STAGE1, STAGE2, STAGE2_LATER
from toolrlef_data.engines import ENGINES
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.tables.lineage import ledger, lineage
from toolrlef_data.trice.files.loader import load_trice
from toolrlef_data.trice.teachers import propose_calls

Row = dict[str, Any]
IGNORED_FILES = ("provenance.json",)  # differs in the lineage


def quiet(script: Any, **settings: Any) -> EngineSpec:
    return scripted(script, progress=False, **settings)


# Questions that the tool can answer and the student cannot -------------------------------------------------------------

QUESTIONS_BY_DATASET: dict[str, list[tuple[str, str, str, str]]] = {  # data set -> (question, context, answer, call)
    "gsm8k": [
        ("How much is 3 times 19?", "", "57", "calculator(3*19)"),
        ("How much is 4 plus 5?", "", "9", "calculator(4+5)"),
        ("How much is 6 plus 5?", "", "11", "calculator(6+5)"),
    ],
    "svamp": [("How much is 8 less 2?", "Ann has 8 figs.\u2028She eats 2.", "6", "calculator(8-2)")],
    "trex": [("The Mole stands in ?", "", "Turin", "QA(In which city is the Mole?)"), ("Etna is in ?", "", "Sicily", "QA(Where is Etna?)")],
    "nq_open": [("where is the mole", "", "Turin", "WikiSearch(Mole)"), ("where is etna", "", "Sicily", "WikiSearch(Etna)")],
    "mlqa": [
        ("¿Dónde está el Etna?", "Etna is in Sicily.", "Sicily", "translator(¿Dónde está el Etna?)"),
        ("埃特纳火山在哪里？", "Etna is in\nSicily.", "Sicily", "translator(埃特纳火山在哪里？)"),
    ],
}  # fmt: skip
TASK_BY_DATASET = {"gsm8k": "math", "svamp": "math", "trex": "lama", "nq_open": "qa", "mlqa": "mlqa"}


def look_up(argument: str) -> str:
    for sign, place in (("mole", "Turin"), ("etna", "Sicily"), ("埃特纳", "Where is Etna?")):
        if sign in argument.lower():
            return f"Where is {sign}?" if argument.startswith("¿") else place
    return argument


def read(request: Request) -> str:
    return look_up(request.messages[-1].content)


@pytest.fixture(scope="module")
def tasks() -> dict[str, Task]:
    task_tools = {
        name: replace(TASKS[name], tool=replace(TASKS[name].tool, many=None, function=look_up))
        for name in ("lama", "qa", "mlqa")
    }
    return {
        name: replace(task, reader=quiet(read)) if task.reader_prompt else task for name, task in task_tools.items()
    } | {"math": TASKS["math"]}


def questions(*datasets: str, start: int = 0) -> Dataset:
    rows = [
        {"id": f"{name}-{start + i}", "task": TASK_BY_DATASET[name], "dataset": name, "question": question, "context": context,
         "answers": [gold, f"the {gold}"] if TASK_BY_DATASET[name] != "math" else [gold], "solution": "", "split_origin": "train"}
        for name in datasets for i, (question, context, gold, _) in enumerate(QUESTIONS_BY_DATASET[name])
    ]  # fmt: skip
    return Dataset.from_list(rows, features=QUESTIONS)


def student(request: Request) -> str:
    """Answer every second question correctly."""
    text = request.messages[-1].content
    matches = {
        (i, gold)
        for dataset in QUESTIONS_BY_DATASET.values()
        for i, (question, _, gold, _) in enumerate(dataset)
        if text.endswith(question)
    }
    ((i, gold),) = matches
    return f"The answer is {gold}." if i % 2 else "I do not know."


def teacher(request: Request) -> str:
    text = request.messages[-1].content
    return next(
        call for dataset in QUESTIONS_BY_DATASET.values() for question, _, _, call in dataset if question in text
    )


def failing(request: Request) -> str | Reply:
    if "4 plus 5" in request.messages[-1].content:
        return Reply(None, error="content_filter")
    return "I say 12, or Turin."


Tables = dict[str, dict[str, Any]]


def tables_of(tasks: Mapping[str, Task], **datasets: tuple[str, ...]) -> Tables:
    tables: Tables = {}
    for task, names in datasets.items():
        graded = grade(answer(questions(*names), quiet(student)), task=tasks[task])
        stage1 = build_stage1(graded, quiet(teacher), task=tasks)
        responders = [Responder("chatgpt", quiet(teacher)), Responder("alpaca", quiet(failing, max_failed=1.0))]
        responded = respond(stage1, responders, task=tasks)
        stage2 = build_stage2(responded, task=tasks)
        tables[task] = {"graded": graded, "stage1": stage1, "responded": responded, "stage2": stage2}
    return tables


@pytest.fixture(scope="module")
def built(tasks: Mapping[str, Task], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tables]:
    with use_caches(tmp_path_factory.mktemp("built")) as caches:
        return caches, tables_of(tasks, math=("svamp", "gsm8k"), lama=("trex",), qa=("nq_open",), mlqa=("mlqa",))


@pytest.fixture
def tables(built: tuple[Path, Tables], fresh_caches: Path) -> Tables:
    shutil.copytree(built[0], fresh_caches)
    return {task: {**task_tables} for task, task_tables in built[1].items()}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in IGNORED_FILES)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def by_id(rows: Any, *ignored: str) -> dict[str, Row]:
    return {row["id"]: {k: v for k, v in row.items() if k not in ignored} for row in rows}


def write(folder: Path, **files: Any) -> Path:
    """Write files, named by their path with "__" for "/", from a list of rows or from text."""
    for name, rows in files.items():
        path = folder / (name.replace("__", "/") + ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        text = rows if isinstance(rows, str) else "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def drops(*loaded: Any) -> list[tuple[str, str]]:
    return [(row["reason"], row["detail"]) for row in ledger(loaded)]


# Round trips -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["trice", "trice-old"])
def test_loaded_tables_equal_the_published_ones(
    layout: str, tables: Tables, tasks: Mapping[str, Task], tmp_path: Path
) -> None:
    loaded = load_trice(publish(tables, tmp_path / "data", version="1.0.0", layout=layout), task=tasks)
    assert list(loaded) == list(tables), "tasks in the order of the mix"
    for task, published in tables.items():
        # The calls of stage 1 are in {dataset}_wrong.json, so the loaded table has them.
        assert set(loaded[task]) == {"labelled", "stage1", "responded", "stage2"}
        task_tables = loaded[task]
        assert task_tables["stage1"].features == STAGE1
        assert by_id(task_tables["stage1"], "verified_by") == by_id(published["stage1"], "verified_by")
        assert set(task_tables["stage1"]["verified_by"]) == {None}
        assert task_tables["stage2"].features == STAGE2
        unknown = ("tool_outputs", "errors", "rule", *STAGE2_LATER)
        assert by_id(task_tables["stage2"], *unknown) == by_id(published["stage2"], *unknown)
        assert all(len(row["errors"]) == len(row["responses"]) for row in task_tables["stage2"])
        assert task_tables["labelled"].features == LABELLED
        calls = {row["id"]: row["output"] for row in published["stage1"] if row["uses_tool"]}
        assert calls == {row["id"]: row["tool_call"] for row in task_tables["labelled"] if row["tool_call"]}
        columns = ("id", "task", "dataset", "question", "context", "answers", "needs_tool", "correct", "pass_rate")
        first, second = by_id(published["graded"]), by_id(task_tables["labelled"])
        for row_id, row in first.items():
            if task == "mlqa":
                row["question"] = " ".join(row["question"].split())
            assert {name: second[row_id][name] for name in columns} == {name: row[name] for name in columns}
            if not row["needs_tool"]:
                assert second[row_id]["response"]["text"] == row["response"]["text"]
                assert second[row_id]["prediction"] == row["prediction"]
        texts = by_id(published["responded"])
        for row_id, row in by_id(task_tables["responded"]).items():
            for name in ("gold", "chatgpt", "alpaca"):
                assert [row[name][k] for k in ("text", "error")] == [texts[row_id][name][k] for k in ("text", "error")]
    assert loaded["math"]["responded"].features == Features(**STAGE1, gold=RESPONSE, chatgpt=RESPONSE, alpaca=RESPONSE)


@pytest.mark.parametrize("layout", ["trice", "trice-old"])
def test_publishing_loaded_tables_writes_the_same_bytes(
    layout: str, tables: Tables, tasks: Mapping[str, Task], tmp_path: Path
) -> None:
    first = publish(tables, tmp_path / "first", version="1.0.0", layout=layout)
    second = publish(load_trice(first, task=tasks), tmp_path / "second", version="1.0.0", layout=layout)
    assert digests(second) == digests(first)
    assert {"dropped.json", "stage1/mix/mix.json", "stage2/mix/mix.json"} <= set(digests(first))


@pytest.mark.parametrize("layout", ["trice", "trice-old"])
def test_splits_calls_and_ledgers_survive_a_round_trip(layout: str, tasks: Mapping[str, Task], tmp_path: Path) -> None:
    graded = grade(answer(questions("gsm8k", "svamp"), quiet(student)))
    labelled = propose_calls(graded, quiet(teacher))
    parts = {"train": labelled.select(range(2)), "test": labelled.select([2]), "validation": labelled.select([3])}
    stage1 = build_stage1(labelled, quiet(teacher))
    ranked = build_stage2(respond(stage1, [Responder("alpaca", quiet(failing, max_failed=1.0))]))
    dev = {"train": ranked.select([0]), "test": ranked.select(range(1, len(ranked)))}
    tables = {
        "math": {
            "labelled": DatasetDict(parts),
            "stage1": DatasetDict(train=stage1.select([0, 1]), test=stage1.select([2])),
            "stage2": DatasetDict(dev),
        }
    }
    dropped = Dataset.from_list(
        [
            {"id": f"gsm8k-{n}", "task": "math", "dataset": "gsm8k", "stage": "mine", "reason": "long", "detail": ""}
            for n in (70, 8)
        ]
    )
    first = publish(tables, tmp_path / "first", version="1.0.0", layout=layout, dropped=dropped)
    loaded = load_trice(first)
    table = loaded["math"]["labelled"]
    assert isinstance(table, DatasetDict)
    assert {split: len(data) for split, data in table.items()} == {"train": 2, "test": 1, "validation": 1}
    assert table["train"].features == LABELLED
    calls = [row["tool_call"] for data in parts.values() for row in data if row["tool_call"]]
    assert sorted(call for data in table.values() for call in data["tool_call"] if call) == sorted(calls)
    assert list(loaded["math"]["stage1"]) == ["train", "dev"], "a file without a split in its name is dev"
    second = publish(loaded, tmp_path / "second", version="1.0.0", layout=layout)
    assert digests(second) == digests(first)
    assert {row["id"] for row in ledger(loaded["math"]["stage1"].values())} == {"gsm8k-70", "gsm8k-8"}


def test_responses_of_local_models_are_in_the_field_response(
    tasks: Mapping[str, Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES.import_paths, "local", "toolrlef_data.engines.scripted:ScriptedEngine")
    stage1 = build_stage1(
        grade(answer(questions("trex"), quiet(student)), task=tasks["lama"]), quiet(teacher), task=tasks
    )
    responded = respond(
        stage1, [Responder("vicuna", replace(quiet(teacher), kind="local")), Responder("gpt", quiet(teacher))]
    )
    first = publish({"lama": {"responded": responded}}, tmp_path / "first", version="1.0.0", layout="trice")
    rows = [json.loads(line) for line in (first / "stage2/lama/LAMA_vicuna_response.json").read_text().splitlines()]
    assert list(rows[0]) == ["id", "question", "answer", "input", "instruction", "response"]
    assert rows[0]["id"].startswith("TREx-")
    api_rows = [json.loads(line) for line in (first / "stage2/lama/LAMA_gpt_response.json").read_text().splitlines()]
    assert api_rows[0]["instruction"] == api_rows[0]["input"] == "The Mole stands in ?", (
        "TRICE's reader expects it there"
    )
    loaded = load_trice(first, task=tasks)
    assert list(loaded["lama"]) == ["responded"], "without files of stage 1 there is no stage 1 table"
    assert digests(publish(loaded, tmp_path / "second", version="1.0.0", layout="trice")) == digests(first)


def test_raw_files_have_the_fields_of_trices_scripts(tables: Tables, tmp_path: Path) -> None:
    out = publish(tables, tmp_path / "data", version="1.0.0", layout="trice")
    first = {path.stem: json.loads(path.read_text().split("\n")[0]) for path in sorted((out / "raw").rglob("*.json"))}
    assert sorted(first) == [
        "GSM8K_right",
        "GSM8K_wrong",
        "MLQA_right",
        "MLQA_wrong",
        "NaturalQuestions_right",
        "NaturalQuestions_wrong",
        "SVAMP_wrong",
        "TREx_right",
        "TREx_wrong",
    ]
    assert first["GSM8K_wrong"]["input"] == first["GSM8K_wrong"]["question"], "the API scripts read input"
    assert first["MLQA_wrong"]["input"] == "Context: Etna is in Sicily.\nQuestion: ¿Dónde está el Etna?"
    assert first["NaturalQuestions_wrong"]["instruction"] == "where is the mole", "local models read instruction"
    assert first["SVAMP_wrong"]["input"] == "Ann has 8 figs.\u2028She eats 2.\nHow much is 8 less 2?", (
        "U+2028 does not end a line"
    )
    assert not (out / "stage1/mlqa/MLQA.json").exists(), "on many file systems it equals mlqa.json"


# TRICE's files ----------------------------------------------------------------------------------------------------

INSTRUCTION = "Given a math problem, please answer it and you can use a calculator for help."
SUMMARY = "acc: {'GSM8K': 0.5, 'total': 0.5}, tool_rate: 0.25\n"


def raw(n: int, **more: Any) -> Row:
    return {
        "id": f"GSM8K_{n}",
        "question": f"How much is {n} and {n}?",
        "answer": str(2 * n),
        "input": f"How much is {n} and {n}?",
        **more,
    }


def gold(n: int, **more: Any) -> Row:
    return {
        "instruction": INSTRUCTION,
        "input": f"How much is {n} and {n}?",
        "output": f"calculator({n}+{n})",
        "id": f"GSM8K_{n}",
        "answer": str(2 * n),
        **more,
    }


def lines(*rows: Row) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("unit", "prefix"), [("math", "math"), ("math", "Math"), ("Math", "math"), ("GSM8K", "GSM8K"), ("math", "GSM8K")]
)
def test_a_folder_of_trice_loads(unit: str, prefix: str, tmp_path: Path) -> None:
    stage1_rows = [{name: gold(n)[name] for name in ("instruction", "input", "output")} for n in range(1, 5)]
    stage1_rows[0]["output"] = "The answer is 2."
    golds = [gold(n) for n in (4, 3, 2)] + [gold(1, output="The answer is 2.")]
    files = {
        f"raw__{unit}__GSM8K_right": [raw(1)],
        f"raw__{unit}__GSM8K_wrong": [raw(n) for n in (2, 3, 4)],
        f"stage1__{unit}__GSM8K_wrong": [raw(n, tool=f"calculator({n}+{n})") for n in (3, 2, 4)],
        f"stage1__{unit}__{unit}": stage1_rows,
        f"stage2__{unit}__{prefix}_gold_response": golds,
        f"stage2__{unit}__{prefix}_chatgpt_response": lines(
            *(raw(n, output=f" calculator({n}*2)") for n in (2, 1, 4, 3))
        ),
        f"stage2__{unit}__{prefix}_davinci_response": SUMMARY
        + lines(*(raw(n, output="6", response="calculator(3+", pred=0.0) for n in (4, 3, 1))),
        f"stage2__{unit}__{prefix}_vicuna_response": "\ufeffacc: 0.5\r\n\r\n"
        + lines(*(raw(n, response=str(2 * n), pred=2.0 * n) for n in (1, 2, 3, 4))),
        f"stage2__{unit}__{prefix}_alpaca_response": [raw(n, response="2") for n in (1, 2, 3, 4)],
    }
    loaded = load_trice(write(tmp_path / "data", **files))["math"]
    assert list(loaded) == ["labelled", "stage1", "responded"]
    assert loaded["stage1"]["id"] == [f"GSM8K_{n}" for n in (1, 2, 3, 4)]
    assert set(loaded["stage1"]["dataset"]) == {"gsm8k"}
    assert loaded["stage1"]["answers"] == [["2"], ["4"], ["6"], ["8"]]
    assert loaded["stage1"]["uses_tool"] == [False, True, True, True]
    assert loaded["stage1"]["source"] == ["student", "teacher", "teacher", "teacher"]
    labelled = by_id(loaded["labelled"])
    assert labelled["GSM8K_1"]["response"]["text"] == "The answer is 2.", "the text is in stage 1"
    assert labelled["GSM8K_3"]["tool_call"] == "calculator(3+3)"
    responded = by_id(loaded["responded"])
    assert list(loaded["responded"].column_names)[-5:] == ["gold", "chatgpt", "davinci", "vicuna", "alpaca"], (
        "in TRICE's order"
    )
    assert responded["GSM8K_4"]["chatgpt"]["text"] == " calculator(4*2)", "joined by id, with unchanged text"
    assert responded["GSM8K_4"]["davinci"]["text"] == "calculator(3+", "the field response, not output"
    assert (responded["GSM8K_2"]["davinci"]["text"], responded["GSM8K_2"]["davinci"]["error"]) == (None, "not_found")
    stage2 = build_stage2(loaded["responded"])
    assert len(stage2) == 3
    assert ("no_reply:not_found", '{"davinci": "no_reply:not_found"}') in drops(stage2)
    assert build_stage1(loaded["labelled"], quiet(lambda request: "calculator(1+1)"), keep_unverified=True)["source"]
    assert len(respond(loaded["stage1"], [Responder("new", quiet({"": "2"}))])) == 4
    for layout in ("hub", "trice", "trice-old"):
        publish({"math": loaded}, tmp_path / layout, version="1.0.0", layout=layout)
    assert load_dataset(str(tmp_path / "hub"), "math-labelled", split="train")["id"][:] == loaded["labelled"]["id"][:]
    (record,) = (record for record in lineage(loaded["responded"]) if record["step"] == "load_trice")
    assert sorted(record["settings"]["summary_lines"].values()) == ["acc: 0.5", SUMMARY.strip()]
    assert str(tmp_path) not in json.dumps(record["settings"])
    assert drops(*loaded.values()) == []


def test_only_a_first_line_that_is_no_row_is_the_summary(tmp_path: Path) -> None:
    truncated = '{"id": "GSM8K_9", "question": "How mu\n'
    folder = write(
        tmp_path,
        stage2__math__math_gold_response=lines(gold(1), gold(2)),
        stage2__math__math_a_response=lines(raw(1, output="2"), raw(2, output="4")),
        stage2__math__math_b_response=truncated + lines(raw(2, output="4")),
    )
    loaded = load_trice(folder)["math"]["responded"]
    assert [row["text"] for row in loaded["a"]] == ["2", "4"]
    assert [(row["text"], row["error"]) for row in loaded["b"]] == [(None, "not_found"), ("4", None)]
    assert drops(loaded) == [("not_json", f"stage2/math/math_b_response.json, line 1: {truncated.strip()}")]


def ranked(question: str, instruction: str, responses: list[str], **more: Any) -> Row:
    origin = ["gold", "chatgpt", "davinci", "vicuna", "alpaca"][: len(responses)]
    return {
        "query": f"{instruction}\n{question}",
        "responses": responses,
        "origin": origin,
        "scores": [20, 15, 10, 5, 0][: len(responses)],
        "answer": ["57.0"] * len(responses),
        **more,
    }


def test_a_published_mix_is_split_by_its_instructions(tmp_path: Path) -> None:
    """The mix has no ids, tasks and data sets; an instruction can differ if it names exactly one tool."""
    instructions = {
        "math": "Given a math problem, please solve it and you can use a calculator for help.",
        "qa": TASKS["qa"].instruction,
        "lama": TASKS["lama"].instruction,
        "mlqa": TASKS["mlqa"].instruction,
        "retrieval": TASKS["retrieval"].instruction,
    }
    outputs = {
        "math": "calculator(3*19)",
        "qa": "WikiSearch(Mole)",
        "lama": "QA(Where is it?)",
        "mlqa": "It is Turin.",
        "retrieval": "retriever(Mole)",
    }
    order = ["mlqa", "math", "qa", "math", "lama", "retrieval"]
    stage1 = [
        {
            "instruction": instructions[name],
            "input": f"Is {name} a QA or a calculator?\nReally {i}?",
            "output": outputs[name],
        }
        for i, name in enumerate(order)
    ]
    stage1.append(dict(stage1[0]))  # a repeated row in one file is two rows
    stage2 = [
        ranked(row["input"], instructions[name], [row["output"], "no"])
        for name, row in zip(order, stage1, strict=False)
    ][::-1]
    dev = [raw(7), raw(8, answer=["16", 16])]
    folder = write(
        tmp_path / "released",
        stage1__mix__mix=stage1,
        stage2__mix__mix=stage2,
        dev__math__math=dev,
        dev__lama__lama=[
            {"id": "TREx_1", "instruction": "Etna is in ?", "answer": ["Sicily"], "input": "Etna is in ?"}
        ],
    )
    loaded = load_trice(folder)
    assert list(loaded) == ["mlqa", "math", "qa", "lama", "retrieval"]
    assert [len(loaded[name]["stage1"]) for name in loaded] == [2, 2, 1, 1, 1]
    assert loaded["mlqa"]["stage1"]["id"][1] == loaded["mlqa"]["stage1"]["id"][0] + "-2"
    assert loaded["math"]["stage1"]["instruction"] == [instructions["math"]] * 2, (
        "the instruction in the file is unchanged"
    )
    assert set(loaded["math"]["stage1"]["dataset"]) == {""}
    for name, task_tables in loaded.items():
        assert set(task_tables["stage2"]["task"]) == {name}
        assert set(task_tables["stage2"]["id"]) <= set(task_tables["stage1"]["id"]), "the same question has the same id"
        assert task_tables["stage2"]["uses_tool"][0] == [name != "mlqa", False]
        assert task_tables["stage1"]["source"][0] == ("student" if name == "mlqa" else "teacher")
    assert loaded["math"]["stage1"]["answers"] == [["57.0"]] * 2, "the answers are known from stage 2 only"
    test = loaded["math"]["questions"]
    assert isinstance(test, DatasetDict)
    assert test["dev"].features == QUESTIONS
    assert test["dev"]["answers"] == [["14"], ["16"]]
    assert loaded["lama"]["questions"]["dev"]["question"] == ["Etna is in ?"]
    assert loaded["lama"]["questions"]["dev"]["dataset"] == ["trex"]
    reloaded = load_trice(folder)
    assert reloaded["math"]["stage1"]["id"] == loaded["math"]["stage1"]["id"], "ids are derived from the content"
    first = publish(loaded, tmp_path / "first", version="1.0.0", layout="trice")
    assert digests(publish(load_trice(first), tmp_path / "second", version="1.0.0", layout="trice")) == digests(first)
    publish(loaded, tmp_path / "hub", version="1.0.0")
    responded = respond(loaded["math"]["stage1"], [Responder("b", quiet({"": "57"}))])
    assert len(build_stage2(responded)) == 2


@pytest.mark.parametrize("layout", ["trice", "trice-old"])
@pytest.mark.parametrize("with_stage1", [False, True])
def test_questions_survive_a_round_trip(
    layout: str, with_stage1: bool, tasks: Mapping[str, Task], tmp_path: Path
) -> None:
    datasets = {"math": ("gsm8k", "svamp"), "lama": ("trex",), "mlqa": ("mlqa",)}
    tables: Tables = {
        task: {"questions": DatasetDict(train=questions(*names), dev=questions(*names, start=50))}
        for task, names in datasets.items()
    }
    tables["lama"]["questions"]["test"] = questions("trex", start=90)
    if with_stage1:
        stage1 = tables_of(tasks, math=("gsm8k",))["math"]["stage1"]
        tables["math"]["stage1"] = DatasetDict(dev=stage1)
    first = publish(tables, tmp_path / "first", version="1.0.0", layout=layout)
    loaded = load_trice(first, task=tasks)
    for task, task_tables in tables.items():
        splits = loaded[task]["questions"]
        assert set(splits) == set(task_tables["questions"])
        for split, table in task_tables["questions"].items():
            if task == "math" and split == "dev" and with_stage1:
                assert set(by_id(splits[split])) == set(by_id(table)), "in addition to the rows of stage 1"
            rows = by_id(table, "split_origin")
            if task == "mlqa":
                rows = {i: {**row, "question": " ".join(row["question"].split())} for i, row in rows.items()}
            assert by_id(splits[split], "split_origin") == rows
    if with_stage1:
        assert by_id(loaded["math"]["stage1"]["dev"], "verified_by") == by_id(stage1, "verified_by")
    second = publish(loaded, tmp_path / "second", version="1.0.0", layout=layout)
    assert digests(second) == digests(first)
    names = {path.split("/", 2)[2] for path in digests(first) if path.startswith("dev/")}
    unit = "math" if layout == "trice" else "GSM8K"
    assert (f"{unit}_questions.json" in names) == with_stage1
    assert f"raw/{'math' if layout == 'trice' else 'SVAMP'}/SVAMP.json" in digests(first)


def test_the_context_is_the_input_without_the_question(tmp_path: Path) -> None:
    row = {"id": "SVAMP-1", "question": "How many?", "input": "Ann has 2.\nHow many?", "answer": "2"}
    gold_row = {"instruction": INSTRUCTION, "input": "Ann has 2.\nHow many?", "output": "2"}
    loaded = load_trice(write(tmp_path, raw__math__SVAMP=[row], stage1__math__math=[gold_row]))["math"]
    assert (loaded["questions"]["question"][:], loaded["questions"]["context"][:]) == (["How many?"], ["Ann has 2."])
    assert loaded["stage1"]["id"][:] == ["svamp-1"], "joined by the input text"


def test_a_list_of_gold_answers_in_stage_2_becomes_the_answers(tmp_path: Path) -> None:
    row = ranked("Where is it?", INSTRUCTION, ["Turin", "Rome"], answer=[["Turin", "Torino"], "Rome"])
    table = load_trice(write(tmp_path, stage2__math__math=[row]))["math"]["stage2"]
    assert (table["answer"][0], table["answers"][0]) == (["Turin", "Rome"], ["Turin", "Torino"])


@pytest.mark.parametrize("name", ["id", "input", "answers"])
def test_a_responder_with_the_name_of_a_column_raises(name: str, tmp_path: Path) -> None:
    files = {f"stage2__math__math_{name}_response": [raw(1, output="2")]}
    with pytest.raises(InputError, match=rf"stage2/math/math_{name}_response\.json: the responder '{name}'"):
        load_trice(write(tmp_path, stage2__math__math_gold_response=[gold(1)], **files))


def test_an_empty_file_is_named_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "toolrlef_data"):
        load_trice(write(tmp_path, stage1__math__math=[gold(1)], stage2__math__math_a_response=""))
    assert "contain no rows: stage2/math/math_a_response.json" in caplog.text


# Unusable rows and files -------------------------------------------------------------------------------------------------

UNUSABLE: list[tuple[str, str, str, str]] = [  # line, file, drop reason, explanation
    ('{"instruction": "' + INSTRUCTION + '", "input": "cut o', "stage1__math__math", "not_json", "truncated"),
    ("[1, 2]", "stage1__math__math", "not_a_row", "not an object"),
    ('{"a": 1}', "stage1__math__math", "not_a_row", "missing fields"),
    ('{"instruction": "x", "output": null}', "stage1__math__math", "no_text", "no output"),
    ('{"instruction": "x", "output": "\\ud800"}', "stage1__math__math", "not_unicode", "an unpaired surrogate"),
    ('{"instruction": "x", "output": "\\uD800"}', "stage1__math__math", "not_unicode", "an unpaired surrogate in capitals"),
    ('{"query": "x\\ny", "responses": ["a"], "origin": ["gold", "b"], "scores": [1]}', "stage2__math__math", "ragged", "lists of different lengths"),
    ('{"query": "x\\ny", "responses": ["a"], "origin": ["gold"], "scores": ["high"]}', "stage2__math__math", "no_score", "a word"),
    ('{"query": "x\\ny", "responses": ["a"], "origin": ["gold"], "scores": [1e999]}', "stage2__math__math", "no_score", "infinite"),
    ('{"query": "x\\ny", "responses": [null], "origin": ["gold"], "scores": [1]}', "stage2__math__math", "no_text", "a null response"),
    ('{"question": "who?", "output": "x"}', "stage2__math__math_alpaca_response", "no_id", "no id"),
    ('{"id": "GSM8K_1", "question": "who?", "output": ["x"]}', "stage2__math__math_alpaca_response", "no_text", "a list"),
    ('{"id": "GSM8K_2", "question": "who?", "output": "another"}', "stage2__math__math_alpaca_response", "repeated_id", "a repeated id"),
    ('{"instruction": "Do what you like.", "input": "x", "output": "y"}', "stage1__mix__mix", "unknown_task", "no tool in the instruction"),
    ('{"instruction": "Use a QA model or a calculator.", "input": "x", "output": "y"}', "stage1__mix__mix", "unknown_task", "two tools in the instruction"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "file", "reason", "why"), UNUSABLE, ids=[case[3] for case in UNUSABLE])
def test_an_unusable_row_is_dropped(line: str, file: str, reason: str, why: str, tmp_path: Path) -> None:
    files = {
        "stage1__math__math": lines(gold(1), gold(2)),
        "stage1__mix__mix": lines(gold(1), gold(2)),
        "stage2__math__math": lines(ranked("How much is 1 and 1?", INSTRUCTION, ["calculator(1+1)", "2"])),
        "stage2__math__math_alpaca_response": lines(raw(2, output="4"), raw(1, output="2")),
    }
    files[file] += line
    loaded = load_trice(write(tmp_path / "data", **files))["math"]
    n = files[file].count("\n") + 1
    ((dropped_reason, detail),) = drops(*loaded.values())
    assert dropped_reason == reason, detail
    assert detail.startswith(f"{file.replace('__', '/')}.json, line {n}: "), detail
    assert len(loaded["stage1"]) == 2
    assert [row["text"] for row in loaded["responded"]["alpaca"]] == ["2", "4"]
    for record in lineage(loaded["stage1"]):
        assert record["rows_in"] == record["rows_out"] + sum(record["dropped"].values())
    out = publish({"math": loaded}, tmp_path / "out", version="1.0.0", layout="trice")
    assert [json.loads(row)["reason"] for row in (out / "dropped.json").read_text().splitlines()] == [reason]
    publish({"math": loaded}, tmp_path / "hub", version="1.0.0")
    assert load_dataset(str(tmp_path / "hub"), "math-dropped", split="train")["reason"][:] == [reason], "once"


def test_an_id_of_another_question_in_another_split_joins_nothing(tmp_path: Path) -> None:
    """Its gold answer and its call would be those of the other question; the same question keeps its files."""
    sums = [
        {"id": "7", "question": f"{n} + {n}?", "answer": str(2 * n), "tool": f"calculator({n}+{n})"} for n in (1, 2)
    ]
    same = {"id": "8", "question": "Who?", "answer": "8", "tool": "calculator(4+4)"}
    files = {"stage1__math__mine_wrong": lines(sums[0], same), "dev__math__mine_wrong_tool": lines(sums[1], same)}
    labelled = load_trice(write(tmp_path / "data", **files))["math"]["labelled"]
    columns = {split: data.select_columns(["question", "answers", "tool_call"])[:] for split, data in labelled.items()}
    assert columns["train"] == {
        "question": ["1 + 1?", "Who?"],
        "answers": [["2"], ["8"]],
        "tool_call": ["calculator(1+1)", "calculator(4+4)"],
    }
    assert columns["dev"] == {"question": ["Who?"], "answers": [["8"]], "tool_call": ["calculator(4+4)"]}
    ((reason, detail),) = drops(labelled)
    assert reason == "repeated_id"
    assert detail.startswith("dev/math/mine_wrong_tool.json, line 1: is another question"), detail


WRONG_FOLDERS: list[tuple[dict[str, Any], str]] = [
    ({}, "is not a folder"),
    ({"other__x": "{}"}, "expected at least one of the folders raw, stage1, stage2, dev, found other"),
    ({"stage1__math__math": ""}, "contains no rows"),
    (
        {"stage1__math__math": "version https://git-lfs.github.com/spec/v1\n"},
        r"math\.json, line 1: the file has no usable row: not_json: 'version.*git-lfs",
    ),
    ({"stage1__math__math": "{}\nnonsense"}, r"math\.json, line 1: the file has no usable row: not_a_row"),
    (
        {"stage1__riddles__riddles": [{"instruction": "Riddle me.", "input": "x", "output": "y"}]},
        r"riddles\.json, line 1: .*unknown_task: 'Riddle me\.'; pass task=",
    ),
    ({"stage2__math__math": json.dumps([{"query": "x"}], indent=1)}, r"math\.json, line 1: .* not_json"),
    ({"raw__math__GSM8K_wrong": lines(raw(1, id=7))}, r"GSM8K_wrong\.json, line 1: .*no_id"),
    ({"stage1__math__math": lines(gold(1)), "dropped": "{}"}, r"dropped\.json, line 1: not a row of a ledger"),
]


@pytest.mark.parametrize(("files", "words"), WRONG_FOLDERS)
def test_a_wrong_folder_raises(files: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        load_trice(write(tmp_path / "data", **files))


def test_a_wrong_encoding_raises_with_the_line(tmp_path: Path) -> None:
    folder = write(tmp_path, stage1__math__math=lines(gold(1)))
    path = folder / "stage1/math/math.json"
    path.write_bytes(path.read_bytes() + "Größe".encode("latin-1"))
    with pytest.raises(InputError, match=r"math\.json, line 2: not UTF-8"):
        load_trice(folder)
    path.write_bytes(b"\xef\xbb\xbf" + lines(gold(1)).replace("\n", "\r\n\r\n").encode())
    assert len(load_trice(folder)["math"]["stage1"]) == 1, "a byte order mark and empty lines are ignored"


@pytest.mark.parametrize(
    "name",
    ["stage1/mix.json", "stage1/math/more/math.json", "stage1/math/math.jsonl", "stage2/math/math_response.json",
     "stage2/math/new_alpaca_response.json", "stage2/math/GSM8K.json", "dev/math/GSM8K.json"],
)  # fmt: skip
def test_an_unknown_file_name_raises(name: str, tmp_path: Path) -> None:
    folder = write(tmp_path, stage1__math__math=[gold(1)])
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(lines(gold(1)))
    with pytest.raises(InputError, match=rf"{re.escape(name)}: not the name of a TRICE file"):
        load_trice(folder)


def test_ignored_files_are_named_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write(tmp_path, stage1__math__math=[gold(1)], weights__x="{}")
    (folder / ".DS_Store").write_bytes(b"\0\xff")
    (folder / "stage1/math/.DS_Store").write_bytes(b"\0\xff")
    with caplog.at_level(logging.WARNING, "toolrlef_data"):
        load_trice(folder)
    assert "ignored" in caplog.text
    assert caplog.text.strip().endswith(": weights")


# Joins -------------------------------------------------------------------------------------------------------------------


def test_copies_in_both_layouts_are_read_once(tables: Tables, tasks: Mapping[str, Task], tmp_path: Path) -> None:
    new = publish(tables, tmp_path / "new", version="1.0.0", layout="trice")
    old = publish(tables, tmp_path / "old", version="1.0.0", layout="trice-old")
    expected = load_trice(new, task=tasks)
    shutil.copytree(old, new, dirs_exist_ok=True)
    loaded = load_trice(new, task=tasks)
    for task, task_tables in expected.items():
        for name, table in task_tables.items():
            assert by_id(loaded[task][name]) == by_id(table), (task, name)


def test_the_data_set_and_the_task_may_differ_in_case_alone(tmp_path: Path) -> None:
    """The commands write MLQA.json, and join it into mlqa.json."""
    row = {"instruction": TASKS["mlqa"].instruction, "input": "Context: Etna.\nQuestion: ¿Dónde?", "output": "Sicily"}
    write(tmp_path, stage1__mlqa__MLQA=[row], stage1__mlqa__mlqa=[row])
    if len(list((tmp_path / "stage1" / "mlqa").iterdir())) == 2:  # not on a file system that ignores case
        assert load_trice(tmp_path)["mlqa"]["stage1"]["output"][:] == ["Sicily"]


def test_ids_and_answers_are_taken_from_any_file(tmp_path: Path) -> None:
    row = {name: gold(3)[name] for name in ("instruction", "input", "output")}
    write(tmp_path, stage1__math__math=[row], raw__math__math=[raw(3, id="SVAMP-3", answer=["6", "six"]), raw(4)])
    loaded = load_trice(tmp_path)["math"]
    assert loaded["stage1"][0]["id"] == "svamp-3"
    assert (loaded["stage1"][0]["dataset"], loaded["stage1"][0]["answers"]) == ("svamp", ["6", "six"])
    assert loaded["questions"]["id"] == ["svamp-3", "GSM8K_4"], "unanswered rows are questions"
    assert len(answer(loaded["questions"], quiet({"": "6"}))) == 2


def test_a_correct_row_without_a_response_is_no_target(tmp_path: Path) -> None:
    loaded = load_trice(
        write(
            tmp_path / "data",
            raw__math__GSM8K_right=[raw(1), raw(2, output="It is 4.")],
            raw__math__GSM8K_wrong=[raw(3)],
        )
    )["math"]
    assert loaded["graded"]["needs_tool"] == [None, False, True]
    assert loaded["graded"]["correct"] == [True, True, False]
    stage1 = build_stage1(loaded["graded"], quiet(lambda request: "calculator(3+3)"))
    assert stage1["output"] == ["It is 4.", "calculator(3+3)"]
    assert drops(stage1) == [("no_reply", "not_found")]
    out = publish({"math": loaded}, tmp_path / "out", version="1.0.0", layout="trice")
    assert len((out / "raw/math/GSM8K_right.json").read_text().splitlines()) == 2


def test_a_response_without_a_gold_response_is_loaded_and_dropped_by_scoring(tmp_path: Path) -> None:
    """In TRICE's files, questions without a call also have responses."""
    responses = [raw(1, output="2"), raw(2, output=None), {"id": "GSM8K_3", "output": "6", "answer": 6}]
    folder = write(
        tmp_path / "data", stage2__math__math_gold_response=[gold(1)], stage2__math__math_alpaca_response=responses
    )
    loaded = load_trice(folder)["math"]["responded"]
    assert [row["error"] for row in loaded["gold"]] == [None, "not_found", "not_found"]
    assert [row["text"] for row in loaded["alpaca"]] == ["2", None, "6"]
    assert [reason for reason, _ in drops(build_stage2(loaded))] == ["no_reply:not_found"] * 2
    out = publish({"math": {"responded": loaded}}, tmp_path / "out", version="1.0.0", layout="trice")
    reloaded = load_trice(out)["math"]["responded"]
    assert by_id(reloaded)["GSM8K_3"]["gold"]["error"] == "not_found"
    assert [row["id"] for row in ledger([reloaded])] == ["GSM8K_2"] * 2, "a row without any text is in no file"


def test_a_custom_task_is_found_by_its_instruction_or_unit(tmp_path: Path) -> None:
    shout = Tool("shout", "Says it louder.", str.upper)
    loud = replace(TASKS["lama"], name="loud", tool=shout, instruction="Say it; you may shout.")
    rows = [{"instruction": loud.instruction, "input": f"x{i}", "output": "shout(x)"} for i in range(2)]
    loaded = load_trice(write(tmp_path, stage1__mix__mix=rows, stage1__loud__loud=rows), task=loud)
    assert (list(loaded), loaded["loud"]["stage1"]["uses_tool"]) == (["loud"], [True, True])


def test_folders_with_the_same_rows_have_separate_ledgers(tmp_path: Path) -> None:
    clean = load_trice(write(tmp_path / "a", stage1__math__math=lines(gold(1))))["math"]["stage1"]
    truncated = load_trice(write(tmp_path / "b", stage1__math__math=lines(gold(1)) + "{"))["math"]["stage1"]
    assert truncated[:] == clean[:]
    assert (drops(clean), len(drops(truncated))) == ([], 1)
