"""`without_tool`: the right behaviour of each kind, its checks, and the rows that yield no variant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, concatenate_datasets, load_dataset

from tests.support.caches import use_caches
from toolrlef_data import (
    ANNOTATIONS,
    TASKS,
    InputError,
    Responder,
    Tool,
    answer,
    build_stage1,
    build_stage2,
    grade,
    ledger,
    lineage,
    make_questions,
    publish,
    respond,
    scripted,
    without_tool,
)
from toolrlef_data.columns import NOT_CALLING, STAGE1
from toolrlef_data.records import MissingColumns, UnknownName
from toolrlef_data.tasks.numbers import numbers_in
from toolrlef_data.tools.parsing.calls import read_call
from toolrlef_data.trice.not_calling.chat import FILLINGS, MESSAGES
from toolrlef_data.trice.not_calling.kinds import KINDS
from toolrlef_data.trice.not_calling.texts import ASKS, NONE_FITS, ONLY_TOOL_DOES_NOT_FIT, OTHER_TOOLS, REFUSALS

QUESTIONS = [
    ("Paco had 226 figs. He ate 41 figs. How many figs are left?", "226-41=<<226-41=185>>185 #### 185", "185"),
    (
        "Ann sold 15 lamps for $120 each and 9 chairs for $75 each. What did she take in?",
        "<<15*120=1800>>1800 <<9*75=675>>675 <<1800+675=2475>>2475 #### 2475",
        "2475",
    ),
    ("A shop bought 84 pens. It sold 37 pens. How many pens are left?", "<<84-37=47>>47 #### 47", "47"),
]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """Stage 1 and stage 2; the student is right on the last question only."""
    with use_caches(tmp_path_factory.mktemp("caches")):
        rows = [{"question": question, "solution": solution, "answers": gold} for question, solution, gold in QUESTIONS]
        questions = make_questions(Dataset.from_list(rows), task="math", solution="solution")
        student = scripted({"": "The answer is 47."}, progress=False)
        stage1 = build_stage1(grade(answer(questions, student)), ANNOTATIONS)
        texts = {"calls": "calculator(100+85)", "boasts": "The calculator gives 2475.", "plain": "It is 2475."}
        responders = [Responder(name, scripted({"": text}, progress=False)) for name, text in texts.items()]
        made = {"stage1": stage1, "stage2": build_stage2(respond(stage1, responders))}
        return {name: Dataset.from_list(table.to_list(), features=table.features) for name, table in made.items()}


def of_kind(table: Dataset, kind: str, **options: Any) -> dict[str, dict[str, Any]]:
    """Return the variants of a kind by the last part of the id of their question."""
    return {row["id"].split("#")[0]: row for row in without_tool(table, kind=kind, **options)}


@pytest.mark.parametrize("source", ["stage1", "stage2"])
def test_every_row_yields_a_variant_or_a_reason_for_every_kind(source: str, tables: dict[str, Dataset]) -> None:
    table = tables[source]
    rows = without_tool(table, kind=list(KINDS))
    dropped = ledger([rows])
    ids = [*rows["id"], *dropped["id"]]
    assert sorted(ids) == sorted(f"{row_id}#{kind}" for row_id in table["id"] for kind in KINDS)
    assert set(dropped["stage"]) == {"without_tool"}
    assert set(rows["kind"]) == set(KINDS)
    assert rows.features == NOT_CALLING


@pytest.mark.parametrize("source", ["stage1", "stage2"])
def test_no_target_calls_and_every_other_text_is_checked(source: str, tables: dict[str, Dataset]) -> None:
    for row in without_tool(tables[source], kind=list(KINDS)):
        names = [schema["function"]["name"] for schema in json.loads(row["tools"])]
        assert read_call(row["output"], ["calculator", *names]).n_calls == 0
        assert row["uses_tool"] is False
        assert row["answers"] == []
        assert ("calculator" in names) == (row["kind"] in ("missing_argument", "chat"))
        if row["kind"] in ("no_tools", "other_tools"):
            assert "calculator" not in row["instruction"] + row["output"]
        if row["source"] == "template":
            assert read_call(row["rejected"], "calculator").n_calls == 1
            assert not {"185", "2475", "47"} & set(row["output"].replace(".", " ").split())


def test_without_tools_the_target_is_the_own_right_answer_or_a_refusal(tables: dict[str, Dataset]) -> None:
    first, second, third = tables["stage1"]["id"]
    rows = of_kind(tables["stage1"], "no_tools")
    assert first not in rows  # 226-41: one step
    assert (rows[second]["source"], rows[second]["rejected"]) == ("template", "calculator(15*120+9*75)")
    assert rows[second]["output"] in REFUSALS
    assert (rows[third]["source"], rows[third]["output"]) == ("student", "The answer is 47.")
    assert rows[third]["rejected"] is None
    from_stage2 = of_kind(tables["stage2"], "no_tools")
    assert (from_stage2[second]["source"], from_stage2[second]["output"]) == ("plain", "It is 2475.")
    assert from_stage2[second]["rejected"] == "calculator(15*120+9*75)"


def test_an_answer_counts_only_if_the_grader_accepts_it_now(tables: dict[str, Dataset]) -> None:
    rows = tables["stage1"].to_list()
    rows[2]["answers"] = ["48"]
    changed = Dataset.from_list(rows, features=tables["stage1"].features)
    assert rows[2]["id"] not in of_kind(changed, "no_tools")


def test_the_needed_tool_is_never_among_the_others(tables: dict[str, Dataset]) -> None:
    renamed = Tool("compute", "Computes.", TASKS["math"].tool.function, parameter="formula")
    shout = Tool("shout", "Says it louder.", str.upper)
    drawn = set()
    for seed in range(5):
        others = [TASKS["math"].tool, renamed, shout]
        for row in without_tool(tables["stage1"], kind="other_tools", others=others, seed=seed):
            drawn |= {schema["function"]["name"] for schema in json.loads(row["tools"])}
    assert drawn == {"shout"}
    with pytest.raises(InputError, match="expected tools beside calculator, which the task 'math' needs"):
        without_tool(tables["stage1"], kind="other_tools", others=[TASKS["math"].tool])
    alone = without_tool(tables["stage1"], kind="other_tools", others=[renamed])
    assert len(alone) == 0
    assert set(ledger([alone])["reason"]) == {"tool_is_offered", "no_call"}


def test_a_missing_number_is_asked_for_and_its_call_is_rejected(tables: dict[str, Dataset]) -> None:
    first, *_ = tables["stage1"]["id"]
    [row] = of_kind(tables["stage1"], "missing_argument").values()
    assert row["id"] == f"{first}#missing_argument"
    withheld = {226.0, 41.0} - numbers_in(row["input"])
    assert len(withheld) == 1
    assert not withheld & numbers_in(row["output"])
    assert "figs" in row["output"]
    assert "?" in row["output"]
    assert row["rejected"] == "calculator(226-41)"
    assert "-> syntax" in row["check"]


def test_texts_differ_by_row_and_seed_but_not_by_order(tables: dict[str, Dataset]) -> None:
    table = tables["stage1"]
    many = Dataset.from_list(
        [{**row, "id": f"{row['id']}-{n}"} for n in range(20) for row in table], features=table.features
    )
    rows = without_tool(many, kind=["no_tools", "other_tools", "chat"])
    outputs = {row["id"]: (row["output"], row["tools"]) for row in rows}
    assert len({output for output, _ in outputs.values()}) > 25
    shuffled = without_tool(many.shuffle(seed=1), kind=["chat", "no_tools", "other_tools"])
    assert {row["id"]: (row["output"], row["tools"]) for row in shuffled} == outputs
    other = without_tool(many, kind=["no_tools", "other_tools", "chat"], seed=1)
    assert {row["id"]: (row["output"], row["tools"]) for row in other} != outputs


def test_the_same_call_reads_the_cached_stage(tables: dict[str, Dataset]) -> None:
    first = without_tool(tables["stage1"], kind="chat")
    again = without_tool(tables["stage1"], kind="chat")
    assert first._fingerprint == again._fingerprint
    assert lineage(again)[-1]["step"] == "without_tool"
    assert without_tool(tables["stage1"], kind="chat", seed=1)._fingerprint != first._fingerprint


def test_messages_of_a_chat_ask_nothing_and_name_no_number() -> None:
    values = {slot: choices[0] for slot, choices in FILLINGS.items()}
    for message, reply in MESSAGES:
        assert "?" not in message
        assert numbers_in(message.format(**values)) | numbers_in(reply.format(**values)) <= {1.0}  # "one"
        used = {slot for slot in FILLINGS if f"{{{slot}}}" in reply}
        assert used <= {slot for slot in FILLINGS if f"{{{slot}}}" in message}, reply
    assert len(MESSAGES) > 40


def test_the_fixed_texts_name_no_number_and_no_tool() -> None:
    for text in (*REFUSALS, *NONE_FITS, *ONLY_TOOL_DOES_NOT_FIT, *ASKS):
        assert numbers_in(text) <= {1.0}, text  # "one more value"
        assert "calculator" not in text
    assert len({schema["function"]["name"] for schema in OTHER_TOOLS}) == len(OTHER_TOOLS) >= 10


def test_the_rows_are_published_and_mixed_with_stage_1(tables: dict[str, Dataset], tmp_path: Path) -> None:
    variants = without_tool(tables["stage1"], kind=list(KINDS))
    mixed = concatenate_datasets([tables["stage1"], variants])
    publish({"math": {"not_calling": variants, "mixed": mixed}}, tmp_path / "out", version="1.0.0")
    loaded = load_dataset(str(tmp_path / "out"), "math-mixed", split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.to_list() == mixed.to_list()
    assert loaded["kind"][: len(tables["stage1"])] == [None] * len(tables["stage1"])
    card = (tmp_path / "out" / "README.md").read_text()
    table = card.split("`math-not_calling`, `math-mixed`")[1]
    for name in set(NOT_CALLING) - set(STAGE1):
        assert f"| `{name}` | string |" in table
    assert 'to_trainer(rows, "trl_preference"' in card or "trl_preference" in card


WRONG: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("kind", {"kind": "silent"}, UnknownName, "unknown kind 'silent'; choose from: chat"),
    ("no kind", {"kind": []}, InputError, "expected one or several different kinds"),
    ("kind twice", {"kind": ["chat", "chat"]}, InputError, "expected one or several different kinds"),
    ("seed", {"kind": "chat", "seed": -1}, InputError, "seed must be"),
    ("one tool", {"kind": "chat", "others": TASKS["math"].tool}, InputError, "others: expected a list"),
    ("no schema", {"kind": "chat", "others": [{"name": "f"}]}, InputError, "with a name and a description"),
    ("no tool", {"kind": "chat", "others": ["f"]}, InputError, "expected a Tool, or a function schema"),
    (
        "same name",
        {"kind": "chat", "others": [{"name": "f", "description": "x"}] * 2},
        InputError,
        "found twice: f",
    ),
]


@pytest.mark.parametrize(("options", "error", "message"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_wrong_arguments_are_clear_errors(
    options: dict[str, Any], error: type[Exception], message: str, tables: dict[str, Dataset]
) -> None:
    with pytest.raises(error, match=message):
        without_tool(tables["stage1"], **options)


def test_unfit_tables_are_refused(tables: dict[str, Dataset]) -> None:
    with pytest.raises(InputError, match="has variants without a call already"):
        without_tool(without_tool(tables["stage1"], kind="chat"), kind="chat")
    with pytest.raises(MissingColumns, match="needs a table of stage 1 or stage 2"):
        without_tool(tables["stage1"].remove_columns("output"), kind="chat")
    rows = [{**tables["stage1"][0], "task": "qa", "output": "WikiSearch(figs)"}]
    other_task = Dataset.from_list(rows, features=tables["stage1"].features)
    with pytest.raises(InputError, match="no number whose absence can be proved"):
        without_tool(other_task, kind="missing_argument")
    [row] = without_tool(other_task, kind="other_tools")
    assert row["rejected"] == "WikiSearch(figs)"


def test_a_null_prompt_is_a_reason(tables: dict[str, Dataset]) -> None:
    rows = tables["stage2"].to_list()
    rows[0] |= {"instruction": None, "input": None}
    table = Dataset.from_list(rows, features=tables["stage2"].features)
    dropped = ledger([without_tool(DatasetDict(train=table), kind="chat")["train"]])
    assert dict(zip(dropped["id"], dropped["reason"], strict=True))[f"{rows[0]['id']}#chat"] == "no_prompt"
