"""The original's files: written, read back and written again; files of others; nothing vanishes unseen."""

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
from toolrlef_data.columns import GRADED, LABELLED, QUESTIONS, RESPONSE, STAGE1, STAGE2
from toolrlef_data.engines import ENGINES
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.tables.lineage import ledger, lineage
from toolrlef_data.trice.files.loader import load_trice
from toolrlef_data.trice.teachers import propose_calls

Row = dict[str, Any]
PUBLISHED = ("provenance.json",)  # differs: it tells another trail


def quiet(script: Any, **settings: Any) -> EngineSpec:
    return scripted(script, progress=False, **settings)


# A small world: facts that a tool knows and a student does not ------------------------------------------------------

QUESTIONS_OF: dict[str, list[tuple[str, str, str, str]]] = {  # data set -> (question, context, answer, call)
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
TASK_OF = {"gsm8k": "math", "svamp": "math", "trex": "lama", "nq_open": "qa", "mlqa": "mlqa"}


def known(argument: str) -> str:
    for sign, place in (("mole", "Turin"), ("etna", "Sicily"), ("埃特纳", "Where is Etna?")):
        if sign in argument.lower():
            return f"Where is {sign}?" if argument.startswith("¿") else place
    return argument


def read(request: Request) -> str:
    return known(request.messages[-1].content)


@pytest.fixture(scope="module")
def tasks() -> dict[str, Task]:
    made = {
        name: replace(TASKS[name], tool=replace(TASKS[name].tool, many=None, function=known))
        for name in ("lama", "qa", "mlqa")
    }
    return {name: replace(task, reader=quiet(read)) if task.reader_prompt else task for name, task in made.items()} | {
        "math": TASKS["math"]
    }


def questions(*datasets: str, start: int = 0) -> Dataset:
    rows = [
        {"id": f"{name}-{start + i}", "task": TASK_OF[name], "dataset": name, "question": asked, "context": context,
         "answers": [gold, f"the {gold}"] if TASK_OF[name] != "math" else [gold], "solution": "", "split_origin": "train"}
        for name in datasets for i, (asked, context, gold, _) in enumerate(QUESTIONS_OF[name])
    ]  # fmt: skip
    return Dataset.from_list(rows, features=QUESTIONS)


def student(request: Request) -> str:
    """Knows every second question."""
    text = request.messages[-1].content
    found = [
        (i, gold) for own in QUESTIONS_OF.values() for i, (asked, _, gold, _) in enumerate(own) if text.endswith(asked)
    ]
    ((i, gold),) = set(found)
    return f"The answer is {gold}." if i % 2 else "I do not know."


def teacher(request: Request) -> str:
    text = request.messages[-1].content
    return next(call for own in QUESTIONS_OF.values() for asked, _, _, call in own if asked in text)


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
    return {task: {**named} for task, named in built[1].items()}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in PUBLISHED)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def by_id(rows: Any, *left_out: str) -> dict[str, Row]:
    return {row["id"]: {k: v for k, v in row.items() if k not in left_out} for row in rows}


def write(folder: Path, **files: Any) -> Path:
    """Files by their path with "__" for "/": a list of rows, or text as it is."""
    for name, rows in files.items():
        path = folder / (name.replace("__", "/") + ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        text = rows if isinstance(rows, str) else "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def drops(*loaded: Any) -> list[tuple[str, str]]:
    return [(row["reason"], row["detail"]) for row in ledger(loaded)]


# Written here, read back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["trice", "trice-old"])
def test_what_the_files_have_a_place_for_comes_back(
    layout: str, tables: Tables, tasks: Mapping[str, Task], tmp_path: Path
) -> None:
    loaded = load_trice(publish(tables, tmp_path / "data", version="1.0.0", layout=layout), task=tasks)
    assert list(loaded) == list(tables), "tasks in the order of the mix"
    for task, named in tables.items():
        assert set(loaded[task]) == {"graded", "stage1", "responded", "stage2"}
        back = loaded[task]
        assert back["stage1"].features == STAGE1
        assert by_id(back["stage1"], "verified_by") == by_id(named["stage1"], "verified_by")
        assert set(back["stage1"]["verified_by"]) == {None}
        assert back["stage2"].features == STAGE2
        unknown = ("tool_outputs", "errors", "rule")
        assert by_id(back["stage2"], *unknown) == by_id(named["stage2"], *unknown)
        assert all(len(row["errors"]) == len(row["responses"]) for row in back["stage2"])
        assert back["graded"].features == GRADED
        told = ("id", "task", "dataset", "question", "context", "answers", "needs_tool", "correct", "pass_rate")
        first, second = by_id(named["graded"]), by_id(back["graded"])
        for row_id, row in first.items():
            if task == "mlqa":
                row["question"] = " ".join(row["question"].split())
            assert {name: second[row_id][name] for name in told} == {name: row[name] for name in told}
            if not row["needs_tool"]:
                assert second[row_id]["response"]["text"] == row["response"]["text"]
                assert second[row_id]["prediction"] == row["prediction"]
        texts = by_id(named["responded"])
        for row_id, row in by_id(back["responded"]).items():
            for name in ("gold", "chatgpt", "alpaca"):
                assert [row[name][k] for k in ("text", "error")] == [texts[row_id][name][k] for k in ("text", "error")]
    assert loaded["math"]["responded"].features == Features(**STAGE1, gold=RESPONSE, chatgpt=RESPONSE, alpaca=RESPONSE)


@pytest.mark.parametrize("layout", ["trice", "trice-old"])
def test_what_was_loaded_gives_the_same_bytes(
    layout: str, tables: Tables, tasks: Mapping[str, Task], tmp_path: Path
) -> None:
    first = publish(tables, tmp_path / "first", version="1.0.0", layout=layout)
    second = publish(load_trice(first, task=tasks), tmp_path / "second", version="1.0.0", layout=layout)
    assert digests(second) == digests(first)
    assert {"dropped.json", "stage1/mix/mix.json", "stage2/mix/mix.json"} <= set(digests(first))


@pytest.mark.parametrize("layout", ["trice", "trice-old"])
def test_splits_calls_and_ledgers_survive_too(layout: str, tasks: Mapping[str, Task], tmp_path: Path) -> None:
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
    lost = Dataset.from_list(
        [
            {"id": f"gsm8k-{n}", "task": "math", "dataset": "gsm8k", "stage": "mine", "reason": "long", "detail": ""}
            for n in (70, 8)
        ]
    )
    first = publish(tables, tmp_path / "first", version="1.0.0", layout=layout, dropped=lost)
    loaded = load_trice(first)
    table = loaded["math"]["labelled"]
    assert isinstance(table, DatasetDict)
    assert {split: len(data) for split, data in table.items()} == {"train": 2, "test": 1, "validation": 1}
    assert table["train"].features == LABELLED
    calls = [row["tool_call"] for data in parts.values() for row in data if row["tool_call"]]
    assert sorted(call for data in table.values() for call in data["tool_call"] if call) == sorted(calls)
    assert list(loaded["math"]["stage1"]) == ["train", "dev"], "a file without a split's name is dev"
    second = publish(loaded, tmp_path / "second", version="1.0.0", layout=layout)
    assert digests(second) == digests(first)
    assert {row["id"] for row in ledger(loaded["math"]["stage1"].values())} == {"gsm8k-70", "gsm8k-8"}


def test_local_responses_stay_in_their_field(
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
    rows = [json.loads(line) for line in (first / "stage2/lama/lama_vicuna_response.json").read_text().splitlines()]
    assert list(rows[0]) == ["id", "question", "answer", "input", "instruction", "response"]
    assert rows[0]["id"].startswith("TREx-")
    asked = [json.loads(line) for line in (first / "stage2/lama/lama_gpt_response.json").read_text().splitlines()]
    assert asked[0]["instruction"] == asked[0]["input"] == "The Mole stands in ?", "where the original's reader looks"
    loaded = load_trice(first, task=tasks)
    assert list(loaded["lama"]) == ["responded"], "without files of stage 1 the gold responses are all there is"
    assert digests(publish(loaded, tmp_path / "second", version="1.0.0", layout="trice")) == digests(first)


def test_raw_files_hold_what_the_originals_scripts_read(tables: Tables, tmp_path: Path) -> None:
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
        "U+2028 ends no line"
    )
    assert not (out / "stage1/mlqa/MLQA.json").exists(), "on many disks it is mlqa.json"


# Made with the original ---------------------------------------------------------------------------------------------------

SAYS = "Given a math problem, please answer it and you can use a calculator for help."
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
        "instruction": SAYS,
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
def test_an_originals_folder_goes_on_here(unit: str, prefix: str, tmp_path: Path) -> None:
    small = [{name: gold(n)[name] for name in ("instruction", "input", "output")} for n in range(1, 5)]
    small[0]["output"] = "The answer is 2."
    golds = [gold(n) for n in (4, 3, 2)] + [gold(1, output="The answer is 2.")]
    files = {
        f"raw__{unit}__GSM8K_right": [raw(1)],
        f"raw__{unit}__GSM8K_wrong": [raw(n) for n in (2, 3, 4)],
        f"stage1__{unit}__GSM8K_wrong": [raw(n, tool=f"calculator({n}+{n})") for n in (3, 2, 4)],
        f"stage1__{unit}__{unit}": small,
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
    assert labelled["GSM8K_1"]["response"]["text"] == "The answer is 2.", "found in stage 1"
    assert labelled["GSM8K_3"]["tool_call"] == "calculator(3+3)"
    responded = by_id(loaded["responded"])
    assert list(loaded["responded"].column_names)[-5:] == ["gold", "chatgpt", "davinci", "vicuna", "alpaca"], (
        "in the original's order"
    )
    assert responded["GSM8K_4"]["chatgpt"]["text"] == " calculator(4*2)", "by id, as it stands"
    assert responded["GSM8K_4"]["davinci"]["text"] == "calculator(3+", "a model's response, not the row's own output"
    assert (responded["GSM8K_2"]["davinci"]["text"], responded["GSM8K_2"]["davinci"]["error"]) == (None, "not_found")
    stage2 = build_stage2(loaded["responded"])
    assert len(stage2) == 3
    assert ("no_reply:not_found", "davinci") in drops(stage2)
    assert build_stage1(loaded["labelled"], quiet(lambda request: "calculator(1+1)"), keep_unverified=True)["source"]
    assert len(respond(loaded["stage1"], [Responder("new", quiet({"": "2"}))])) == 4
    for layout in ("hub", "trice", "trice-old"):
        publish({"math": loaded}, tmp_path / layout, version="1.0.0", layout=layout)
    assert load_dataset(str(tmp_path / "hub"), "math-labelled", split="train")["id"][:] == loaded["labelled"]["id"][:]
    (record,) = (record for record in lineage(loaded["responded"]) if record["step"] == "load_trice")
    assert sorted(record["settings"]["summary_lines"].values()) == ["acc: 0.5", SUMMARY.strip()]
    assert str(tmp_path) not in json.dumps(record["settings"])
    assert drops(*loaded.values()) == []


def test_a_first_line_that_is_a_row_is_read(tmp_path: Path) -> None:
    cut = '{"id": "GSM8K_9", "question": "How mu\n'
    folder = write(
        tmp_path,
        stage2__math__math_gold_response=lines(gold(1), gold(2)),
        stage2__math__math_a_response=lines(raw(1, output="2"), raw(2, output="4")),
        stage2__math__math_b_response=cut + lines(raw(2, output="4")),
    )
    loaded = load_trice(folder)["math"]["responded"]
    assert [row["text"] for row in loaded["a"]] == ["2", "4"]
    assert [(row["text"], row["error"]) for row in loaded["b"]] == [(None, "not_found"), ("4", None)]
    assert drops(loaded) == [("not_json", f"stage2/math/math_b_response.json, line 1: {cut.strip()}")]


def ranked(question: str, says: str, responses: list[str], **more: Any) -> Row:
    origin = ["gold", "chatgpt", "davinci", "vicuna", "alpaca"][: len(responses)]
    return {
        "query": f"{says}\n{question}",
        "responses": responses,
        "origin": origin,
        "scores": [20, 15, 10, 5, 0][: len(responses)],
        "answer": ["57.0"] * len(responses),
        **more,
    }


def test_a_released_mix_is_parted_by_its_instructions(tmp_path: Path) -> None:
    """No ids, no tasks, no data sets; the sentence may be another, as long as it names one tool."""
    sentences = {
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
            "instruction": sentences[name],
            "input": f"Is {name} a QA or a calculator?\nReally {i}?",
            "output": outputs[name],
        }
        for i, name in enumerate(order)
    ]
    stage1.append(dict(stage1[0]))  # the same row twice is two rows
    stage2 = [
        ranked(row["input"], sentences[name], [row["output"], "no"]) for name, row in zip(order, stage1, strict=False)
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
    assert loaded["math"]["stage1"]["instruction"] == [sentences["math"]] * 2, "what a file says is kept"
    assert set(loaded["math"]["stage1"]["dataset"]) == {""}
    for name, named in loaded.items():
        assert set(named["stage2"]["task"]) == {name}
        assert set(named["stage2"]["id"]) <= set(named["stage1"]["id"]), "the same question has the same id"
        assert named["stage2"]["uses_tool"][0] == [name != "mlqa", False]
        assert named["stage1"]["source"][0] == ("student" if name == "mlqa" else "teacher")
    assert loaded["math"]["stage1"]["answers"] == [["57.0"]] * 2, "all that is known"
    test = loaded["math"]["questions"]
    assert isinstance(test, DatasetDict)
    assert test["dev"].features == QUESTIONS
    assert test["dev"]["answers"] == [["14"], ["16"]]
    assert loaded["lama"]["questions"]["dev"]["question"] == ["Etna is in ?"]
    assert loaded["lama"]["questions"]["dev"]["dataset"] == ["trex"]
    again = load_trice(folder)
    assert again["math"]["stage1"]["id"] == loaded["math"]["stage1"]["id"], "ids are made from the content"
    first = publish(loaded, tmp_path / "first", version="1.0.0", layout="trice")
    assert digests(publish(load_trice(first), tmp_path / "second", version="1.0.0", layout="trice")) == digests(first)
    publish(loaded, tmp_path / "hub", version="1.0.0")
    two = respond(loaded["math"]["stage1"], [Responder("b", quiet({"": "57"}))])
    assert len(build_stage2(two)) == 2


@pytest.mark.parametrize("layout", ["trice", "trice-old"])
@pytest.mark.parametrize("with_stage1", [False, True])
def test_questions_come_back_too(layout: str, with_stage1: bool, tasks: Mapping[str, Task], tmp_path: Path) -> None:
    asked = {"math": ("gsm8k", "svamp"), "lama": ("trex",), "mlqa": ("mlqa",)}
    given: Tables = {
        task: {"questions": DatasetDict(train=questions(*names), dev=questions(*names, start=50))}
        for task, names in asked.items()
    }
    given["lama"]["questions"]["test"] = questions("trex", start=90)
    if with_stage1:
        stage1 = tables_of(tasks, math=("gsm8k",))["math"]["stage1"]
        given["math"]["stage1"] = DatasetDict(dev=stage1)
    first = publish(given, tmp_path / "first", version="1.0.0", layout=layout)
    loaded = load_trice(first, task=tasks)
    for task, named in given.items():
        back = loaded[task]["questions"]
        assert set(back) == set(named["questions"])
        for split, table in named["questions"].items():
            if task == "math" and split == "dev" and with_stage1:
                assert set(by_id(back[split])) == set(by_id(table)), "beside the rows of stage 1"
            rows = by_id(table, "split_origin")
            if task == "mlqa":
                rows = {i: {**row, "question": " ".join(row["question"].split())} for i, row in rows.items()}
            assert by_id(back[split], "split_origin") == rows
    if with_stage1:
        assert by_id(loaded["math"]["stage1"]["dev"], "verified_by") == by_id(stage1, "verified_by")
    second = publish(loaded, tmp_path / "second", version="1.0.0", layout=layout)
    assert digests(second) == digests(first)
    names = {path.split("/", 2)[2] for path in digests(first) if path.startswith("dev/")}
    unit = "math" if layout == "trice" else "GSM8K"
    assert (f"{unit}_questions.json" in names) == with_stage1
    assert f"raw/{'math' if layout == 'trice' else 'SVAMP'}/SVAMP.json" in digests(first)


def test_the_context_is_what_the_input_has_beside_the_question(tmp_path: Path) -> None:
    row = {"id": "SVAMP-1", "question": "How many?", "input": "Ann has 2.\nHow many?", "answer": "2"}
    gold_row = {"instruction": SAYS, "input": "Ann has 2.\nHow many?", "output": "2"}
    loaded = load_trice(write(tmp_path, raw__math__SVAMP=[row], stage1__math__math=[gold_row]))["math"]
    assert (loaded["questions"]["question"][:], loaded["questions"]["context"][:]) == (["How many?"], ["Ann has 2."])
    assert loaded["stage1"]["id"][:] == ["svamp-1"], "joined by the text that the model sees"


def test_a_list_of_gold_answers_in_stage2_is_kept(tmp_path: Path) -> None:
    row = ranked("Where is it?", SAYS, ["Turin", "Rome"], answer=[["Turin", "Torino"], "Rome"])
    table = load_trice(write(tmp_path, stage2__math__math=[row]))["math"]["stage2"]
    assert (table["answer"][0], table["answers"][0]) == (["Turin", "Rome"], ["Turin", "Torino"])


@pytest.mark.parametrize("name", ["id", "input", "answers"])
def test_a_responder_called_like_a_column_is_refused(name: str, tmp_path: Path) -> None:
    files = {f"stage2__math__math_{name}_response": [raw(1, output="2")]}
    with pytest.raises(InputError, match=rf"stage2/math/math_{name}_response\.json: the responder '{name}'"):
        load_trice(write(tmp_path, stage2__math__math_gold_response=[gold(1)], **files))


def test_an_empty_file_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "toolrlef_data"):
        load_trice(write(tmp_path, stage1__math__math=[gold(1)], stage2__math__math_a_response=""))
    assert "hold no row: stage2/math/math_a_response.json" in caplog.text


# What cannot be read ------------------------------------------------------------------------------------------------------

BAD: list[tuple[str, str, str, str]] = [  # the line, in which file, the reason, why
    ('{"instruction": "' + SAYS + '", "input": "cut o', "stage1__math__math", "not_json", "a killed writer"),
    ("[1, 2]", "stage1__math__math", "not_a_row", "no object"),
    ('{"a": 1}', "stage1__math__math", "not_a_row", "no field of ours"),
    ('{"instruction": "x", "output": null}', "stage1__math__math", "no_text", "no output"),
    ('{"instruction": "x", "output": "\\ud800"}', "stage1__math__math", "not_unicode", "half a character"),
    ('{"query": "x\\ny", "responses": ["a"], "origin": ["gold", "b"], "scores": [1]}', "stage2__math__math", "ragged", "lists of other lengths"),
    ('{"query": "x\\ny", "responses": ["a"], "origin": ["gold"], "scores": ["high"]}', "stage2__math__math", "no_score", "a word"),
    ('{"query": "x\\ny", "responses": ["a"], "origin": ["gold"], "scores": [1e999]}', "stage2__math__math", "no_score", "infinite"),
    ('{"query": "x\\ny", "responses": [null], "origin": ["gold"], "scores": [1]}', "stage2__math__math", "no_text", "a null response"),
    ('{"question": "who?", "output": "x"}', "stage2__math__math_alpaca_response", "no_id", "nothing to join by"),
    ('{"id": "GSM8K_1", "question": "who?", "output": ["x"]}', "stage2__math__math_alpaca_response", "no_text", "a list"),
    ('{"id": "GSM8K_2", "question": "who?", "output": "another"}', "stage2__math__math_alpaca_response", "repeated_id", "asked twice"),
    ('{"instruction": "Do what you like.", "input": "x", "output": "y"}', "stage1__mix__mix", "unknown_task", "no tool is named"),
    ('{"instruction": "Use a QA model or a calculator.", "input": "x", "output": "y"}', "stage1__mix__mix", "unknown_task", "two are"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "file", "reason", "why"), BAD, ids=[case[3] for case in BAD])
def test_a_row_that_cannot_be_used_is_in_the_ledger(
    line: str, file: str, reason: str, why: str, tmp_path: Path
) -> None:
    files = {
        "stage1__math__math": lines(gold(1), gold(2)),
        "stage1__mix__mix": lines(gold(1), gold(2)),
        "stage2__math__math": lines(ranked("How much is 1 and 1?", SAYS, ["calculator(1+1)", "2"])),
        "stage2__math__math_alpaca_response": lines(raw(2, output="4"), raw(1, output="2")),
    }
    files[file] += line
    loaded = load_trice(write(tmp_path / "data", **files))["math"]
    n = files[file].count("\n") + 1
    ((found, detail),) = drops(*loaded.values())
    assert (found, detail.startswith(f"{file.replace('__', '/')}.json, line {n}: ")) == (reason, True), (found, detail)
    assert len(loaded["stage1"]) == 2
    assert [row["text"] for row in loaded["responded"]["alpaca"]] == ["2", "4"]
    for record in lineage(loaded["stage1"]):
        assert record["rows_in"] == record["rows_out"] + sum(record["dropped"].values())
    out = publish({"math": loaded}, tmp_path / "out", version="1.0.0", layout="trice")
    assert [json.loads(row)["reason"] for row in (out / "dropped.json").read_text().splitlines()] == [reason]
    publish({"math": loaded}, tmp_path / "hub", version="1.0.0")
    assert load_dataset(str(tmp_path / "hub"), "math-dropped", split="train")["reason"][:] == [reason], "once"


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({}, "is not a folder"),
    ({"other__x": "{}"}, "holds none of the folders raw, stage1, stage2, dev; found: other"),
    ({"stage1__math__math": ""}, "holds no rows"),
    (
        {"stage1__math__math": "version https://git-lfs.github.com/spec/v1\n"},
        r"math\.json, line 1: no row of this file can be used: not_json: 'version.*git-lfs",
    ),
    ({"stage1__math__math": "{}\nnonsense"}, r"math\.json, line 1: no row of this file can be used: not_a_row"),
    (
        {"stage1__riddles__riddles": [{"instruction": "Riddle me.", "input": "x", "output": "y"}]},
        r"riddles\.json, line 1: .*unknown_task: 'Riddle me\.'; pass task=",
    ),
    ({"stage2__math__math": json.dumps([{"query": "x"}], indent=1)}, r"math\.json, line 1: .* not_json"),
    ({"raw__math__GSM8K_wrong": lines(raw(1, id=7))}, r"GSM8K_wrong\.json, line 1: .*no_id"),
    ({"stage1__math__math": lines(gold(1)), "dropped": "{}"}, r"dropped\.json, line 1: no row of a ledger"),
]


@pytest.mark.parametrize(("files", "words"), FAULTS)
def test_what_is_no_folder_of_this_kind_gets_a_clear_error(files: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        load_trice(write(tmp_path / "data", **files))


def test_a_file_in_another_encoding_names_its_line(tmp_path: Path) -> None:
    folder = write(tmp_path, stage1__math__math=lines(gold(1)))
    path = folder / "stage1/math/math.json"
    path.write_bytes(path.read_bytes() + "Größe".encode("latin-1"))
    with pytest.raises(InputError, match=r"math\.json, line 2: not UTF-8"):
        load_trice(folder)
    path.write_bytes(b"\xef\xbb\xbf" + lines(gold(1)).replace("\n", "\r\n\r\n").encode())
    assert len(load_trice(folder)["math"]["stage1"]) == 1, "a byte order mark and empty lines do not matter"


@pytest.mark.parametrize(
    "name",
    ["stage1/mix.json", "stage1/math/more/math.json", "stage1/math/math.jsonl", "stage2/math/math_response.json",
     "stage2/math/new_alpaca_response.json", "stage2/math/GSM8K.json", "dev/math/GSM8K.json"],
)  # fmt: skip
def test_a_name_that_no_document_knows_is_refused(name: str, tmp_path: Path) -> None:
    folder = write(tmp_path, stage1__math__math=[gold(1)])
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(lines(gold(1)))
    with pytest.raises(InputError, match=rf"{re.escape(name)}: no file of TRICE is called so"):
        load_trice(folder)


def test_what_stands_beside_the_stages_is_named_and_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(tmp_path, stage1__math__math=[gold(1)], weights__x="{}")
    (folder / ".DS_Store").write_bytes(b"\0\xff")
    (folder / "stage1/math/.DS_Store").write_bytes(b"\0\xff")
    with caplog.at_level(logging.WARNING, "toolrlef_data"):
        load_trice(folder)
    assert "not read" in caplog.text
    assert caplog.text.strip().endswith(": weights")


# Whose row it is ----------------------------------------------------------------------------------------------------------


def test_both_layouts_of_the_same_rows_in_one_folder_are_read_once(
    tables: Tables, tasks: Mapping[str, Task], tmp_path: Path
) -> None:
    new = publish(tables, tmp_path / "new", version="1.0.0", layout="trice")
    old = publish(tables, tmp_path / "old", version="1.0.0", layout="trice-old")
    expected = load_trice(new, task=tasks)
    shutil.copytree(old, new, dirs_exist_ok=True)
    loaded = load_trice(new, task=tasks)
    for task, named in expected.items():
        for name, table in named.items():
            assert by_id(loaded[task][name]) == by_id(table), (task, name)


def test_ids_and_answers_come_from_any_file_that_tells_them(tmp_path: Path) -> None:
    small = {name: gold(3)[name] for name in ("instruction", "input", "output")}
    write(tmp_path, stage1__math__math=[small], raw__math__math=[raw(3, id="SVAMP-3", answer=["6", "six"]), raw(4)])
    loaded = load_trice(tmp_path)["math"]
    assert loaded["stage1"][0]["id"] == "svamp-3"
    assert (loaded["stage1"][0]["dataset"], loaded["stage1"][0]["answers"]) == ("svamp", ["6", "six"])
    assert loaded["questions"]["id"] == ["svamp-3", "GSM8K_4"], "questions that can be answered here"
    assert len(answer(loaded["questions"], quiet({"": "6"}))) == 2


def test_a_right_row_without_its_response_is_no_target(tmp_path: Path) -> None:
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


def test_a_response_without_gold_is_kept_and_said(tmp_path: Path) -> None:
    """As in the original, where questions whose call was never written have responses all the same."""
    responses = [raw(1, output="2"), raw(2, output=None), {"id": "GSM8K_3", "output": "6", "answer": 6}]
    folder = write(
        tmp_path / "data", stage2__math__math_gold_response=[gold(1)], stage2__math__math_alpaca_response=responses
    )
    loaded = load_trice(folder)["math"]["responded"]
    assert [row["error"] for row in loaded["gold"]] == [None, "not_found", "not_found"]
    assert [row["text"] for row in loaded["alpaca"]] == ["2", None, "6"]
    assert drops(build_stage2(loaded)) == [("no_reply:not_found", "gold")] * 2
    out = publish({"math": {"responded": loaded}}, tmp_path / "out", version="1.0.0", layout="trice")
    again = load_trice(out)["math"]["responded"]
    assert by_id(again)["GSM8K_3"]["gold"]["error"] == "not_found"
    assert [row["id"] for row in ledger([again])] == ["GSM8K_2"] * 2, "of which the files hold nothing"


def test_a_task_of_ones_own_is_known_by_its_sentence_or_unit(tmp_path: Path) -> None:
    shout = Tool("shout", "Says it louder.", str.upper)
    mine = replace(TASKS["lama"], name="loud", tool=shout, instruction="Say it; you may shout.")
    rows = [{"instruction": mine.instruction, "input": f"x{i}", "output": "shout(x)"} for i in range(2)]
    loaded = load_trice(write(tmp_path, stage1__mix__mix=rows, stage1__loud__loud=rows), task=mine)
    assert (list(loaded), loaded["loud"]["stage1"]["uses_tool"]) == (["loud"], [True, True])


def test_two_folders_of_the_same_rows_have_ledgers_of_their_own(tmp_path: Path) -> None:
    clean = load_trice(write(tmp_path / "a", stage1__math__math=lines(gold(1))))["math"]["stage1"]
    torn = load_trice(write(tmp_path / "b", stage1__math__math=lines(gold(1)) + "{"))["math"]["stage1"]
    assert torn[:] == clean[:]
    assert (drops(clean), len(drops(torn))) == ([], 1)
