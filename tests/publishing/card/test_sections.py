"""Sections of the card: columns, trainers, prompts and sources agree with the rows, and no name breaks a table."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset, DatasetDict, Features, Value, load_dataset
from markdown_it import MarkdownIt

from tests.support.answer_trees import searches, table
from tests.support.models import bytes_chat
from toolrlef_data import (
    TASKS,
    decontaminate,
    drop_near_duplicates,
    export,
    preference_pairs,
    publish,
    reward,
    to_trainer,
    trajectories,
)
from toolrlef_data.column_meanings import COLUMN_MEANINGS, RESPONSE_MEANINGS
from toolrlef_data.columns import DROPPED, RESPONSE, STAGE1, STAGE2
from toolrlef_data.loading_scripts import SOURCES
from toolrlef_data.loading_scripts.licences import LICENCES
from toolrlef_data.publishing.card.column_facts import FEATURES, describe
from toolrlef_data.publishing.card.training_facts import training_facts
from toolrlef_data.tables.fingerprint import digest

DOCS = Path(__file__).parents[3] / "docs" / "publishing.md"
HOSTILE = "a|b `c` <d>\n| e"


def stage1_row(n: int, **values: Any) -> dict[str, Any]:
    shared = {"instruction": TASKS["math"].instruction, "input": f"How much is {n} + 1?" * (n + 1), "id": str(n)}
    facts = {"task": "math", "dataset": "gsm8k", "answers": [str(n + 1)], "uses_tool": True, "source": "teacher"}
    return {**shared, "output": f"calculator({n}+1)", **facts, "verified_by": "value", **values}


def stage2_row(n: int, **values: Any) -> dict[str, Any]:
    row = {name: value for name, value in stage1_row(n).items() if name in STAGE2}
    ranking = {"responses": ["calculator(1)", "No. Ä"], "scores": [20.0, 5.0], "origin": ["gold", HOSTILE]}
    return {**dict.fromkeys(STAGE2), **row, **ranking, "correct": [True, False], "uses_tool": [True, False], **values}


def tables() -> dict[str, Dataset]:
    return {
        "stage1": Dataset.from_list([stage1_row(n) for n in range(5)], features=STAGE1),
        "stage2": Dataset.from_list([stage2_row(n) for n in range(3)], features=STAGE2),
    }


def card_of(folder: Path) -> str:
    return (folder / "README.md").read_text().split("---\n", 2)[2]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def table_rows(text: str) -> list[list[list[str]]]:
    """Return the rows of every table of a Markdown text, outside blocks of code."""
    text = re.sub(r"^(`{3,})[^\n]*\n.*?^\1$", "", text, flags=re.S | re.M)
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.M)
    return [[cells(line) for line in block.splitlines()] for block in blocks]


def test_every_column_of_the_package_has_a_meaning() -> None:
    assert {kind: sorted(set(known) - COLUMN_MEANINGS[kind].keys()) for kind, known in FEATURES.items()} == {
        kind: [] for kind in FEATURES
    }
    assert RESPONSE_MEANINGS.keys() == RESPONSE.keys()


def test_the_publisher_can_give_another_meaning() -> None:
    meanings = {column.name: column.meaning for column in describe(DROPPED, {"reason": "why it is not here"})}
    assert meanings["reason"] == "why it is not here"
    assert meanings["stage"] == COLUMN_MEANINGS["dropped"]["stage"][0]


def test_the_docs_and_the_card_agree_on_the_meaning_of_columns() -> None:
    section = DOCS.read_text().partition("## Columns")[2].partition("\n## ")[0]
    for kind, part in zip(("stage1", "stage2"), section.split("A row of stage 2"), strict=True):
        in_docs = {}
        for names, text in table_rows(part)[0][2:]:
            if names.count("`") == 2:
                in_docs[names.strip("`")] = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
        assert len(in_docs) > 4
        assert in_docs == {name: COLUMN_MEANINGS[kind][name][0] for name in in_docs}


def test_own_columns_have_the_given_meaning_and_no_other(tmp_path: Path) -> None:
    own = Dataset.from_list([{"id": "1", "source": "a thermometer", "why|": "x"}])
    meaning = "who measured it | or\nguessed"
    out = publish({"lab": {"rows": own}}, tmp_path / "data", version="1.0.0", card={"columns": {"source": meaning}})
    rows = next(rows for rows in table_rows(card_of(out)) if rows[0][:2] == ["column", "type"])
    assert rows[2:] == [
        ["`id`", "string", "", ""],
        ["`source`", "string", "", r"who measured it \| or guessed"],
        [r"`why\|`", "string", "", ""],
    ]
    assert "columns" not in yaml.safe_load((out / "README.md").read_text().split("---\n")[1])


def test_no_name_breaks_a_table(tmp_path: Path) -> None:
    dropped = {"id": "x", "task": "math", "dataset": HOSTILE, "stage": HOSTILE, "reason": HOSTILE, "detail": HOSTILE}
    named = tables()
    named["other"] = Dataset.from_list(
        [stage1_row(0, dataset=HOSTILE, task=HOSTILE) | {HOSTILE: 1}],
        features=Features(**STAGE1, **{HOSTILE: Value("int64")}),
    )
    ledger = Dataset.from_list([dropped], features=DROPPED)
    out = publish({"math": named}, tmp_path / "data", version="1.0.0", dropped=ledger, card={"title": HOSTILE})
    found = table_rows(card_of(out))
    assert len(found) > 8
    assert [rows for rows in found if len({len(row) for row in rows}) > 1] == []
    outside = re.sub(r"^(`{3,})[^\n]*\n.*?^\1$|`[^`\n]*`|^# .*$", "", card_of(out), flags=re.S | re.M)
    assert "<d>" not in outside.replace(r"\<d>", ""), "no HTML"


def test_authors_of_a_column_are_those_of_the_legend(tmp_path: Path) -> None:
    card = card_of(publish({"math": tables()}, tmp_path / "out", version="1.0.0"))
    legend, *columns = table_rows(card[card.index("## Columns") : card.index("## Sources")])
    columns = [block for block in columns if block[0] == ["column", "type", "from", "meaning"]]
    known = {row[0] for row in legend[2:]}
    authors = {row[0]: row[2].split(", ") for block in columns for row in block[2:]}
    assert set().union(*authors.values()) <= known
    assert authors["`output`"] == ["model", "source"], "ANNOTATIONS composes calls from the solutions of the source"


def test_max_length_without_a_tokenizer_is_the_longest_record_in_bytes(tmp_path: Path) -> None:
    splits = {name: {"train": table} for name, table in tables().items()}
    facts = {(fact.config, fact.format): fact for fact in training_facts(splits, {})}
    assert list(facts) == [
        *(("stage1", name) for name in ("trl", "trl_grpo")),
        *(("stage2", name) for name in ("trl_preference", "trl_kto", "trl_grpo")),
    ]
    for (config, name), fact in facts.items():
        path = export(splits[config]["train"], name, tmp_path / "file.jsonl")
        lines = path.read_bytes().splitlines()
        assert fact.records == len(lines)
        replies = ["calculator(4+1)"] if config == "stage1" else ["calculator(1)"]
        longest = max(map(len, lines)) if name != "trl_grpo" else len(replies[0])
        assert (fact.max_length, fact.unfit) == (longest, 0), name


@pytest.mark.parametrize("name", ["responses", "scores", "origin", "correct", "instruction", "input", "answers"])
@pytest.mark.parametrize("value", [None, []])
def test_own_rows_without_a_record_are_counted(name: str, value: Any) -> None:
    if value == [] and name in ("instruction", "input"):
        value = ""
    rows = [stage2_row(0), stage2_row(1, **{name: value})]
    facts = training_facts({"stage2": {"train": Dataset.from_list(rows, features=STAGE2)}}, {})
    by_format = {fact.format: (fact.records, fact.unfit) for fact in facts}
    assert by_format["trl_kto"] in ((2, 1), (4, 0)), "a row of two responses has two records or none"
    assert set(by_format) >= {"trl_preference", "trl_kto", "trl_grpo"}


def test_the_length_of_a_completion_is_that_of_right_replies() -> None:
    """A wrong response without an end would make every rollout as long."""
    rows = [stage2_row(0, responses=["calculator(1)", "9" * 5000]), stage2_row(1, responses=["calculator(12)", None])]
    facts = training_facts({"stage2": {"train": Dataset.from_list(rows, features=STAGE2)}}, {})
    assert [fact.max_length for fact in facts if fact.format == "trl_grpo"] == [len("calculator(12)")]
    wrong = Dataset.from_list([stage2_row(0, correct=[False, None])], features=STAGE2)
    assert "trl_grpo" not in [fact.format for fact in training_facts({"stage2": {"train": wrong}}, {})]


def test_rows_of_a_task_that_no_reward_grades_have_none() -> None:
    """A mix has a reward if all of its tasks have one; that of qa needs a corpus."""
    for tasks, has_reward in ((["math", "math"], True), (["math", "qa"], False), (["own", "own"], False)):
        rows = [stage2_row(n, task=task) for n, task in enumerate(tasks)]
        facts = training_facts({"stage2": {"train": Dataset.from_list(rows, features=STAGE2)}}, {})
        assert [fact.tasks for fact in facts if fact.format == "trl_grpo"] == [("math",)] * has_reward


def test_max_length_with_a_tokenizer_is_the_longest_record_in_tokens(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    chat = str(bytes_chat(tmp_path / "chat"))
    out = publish({"math": tables()}, tmp_path / "data", version="1.0.0", card={"tokenizer": chat})
    tokenizer = AutoTokenizer.from_pretrained(chat)
    records = to_trainer(tables()["stage1"], "trl")
    lengths = [
        len(tokenizer.apply_chat_template([*record["prompt"], *record["completion"]], return_dict=False))
        for record in records
    ]
    assert f'SFTConfig("trained", max_length={max(lengths)})' in card_of(out)
    assert "tokens of `chat`" in card_of(out)
    assert str(tmp_path) not in card_of(out)


def test_the_code_of_the_card_makes_the_records_of_every_trainer(tmp_path: Path) -> None:
    answers = table({f"s{n}": search.file() for n, search in enumerate(searches(10))})
    steps = {"steps": trajectories(answers, steps="all"), "pairs": preference_pairs(answers)}
    out = publish({"math": tables(), "web": steps}, tmp_path / "data", version="1.0.0")
    blocks = [code for code in re.findall(r"```python\n(.*?)```", card_of(out), re.S) if "trl" in code]
    assert len(blocks) == 7
    rows = next(rows for rows in table_rows(card_of(out)) if rows[0][1] == "trainer")
    for code, (config, trainer, _, records, *_) in zip(blocks, rows[2:], strict=True):
        assert f"{trainer}Trainer(model" in code
        names: dict[str, Any] = {}
        without_trl = "\n".join(line for line in code.splitlines() if "trl import" not in line)
        exec(without_trl.partition("settings = ")[0].replace("PATH", str(out)), names)
        assert (len(names["rows"]), config in code) == (int(records), True)


def test_prompts_are_verbatim_with_the_digest_of_the_lineage(tmp_path: Path, fresh_caches: Path) -> None:
    from toolrlef_data import answer, grade, load_source, scripted

    task = TASKS["math"]
    graded = grade(answer(load_source("sample", split="train"), scripted({"": "It is 8."}, progress=False)))
    out = publish({"math": {"graded": graded}}, tmp_path / "data", version="1.0.0")
    published = json.dumps(json.loads((out / "provenance.json").read_text())["stages"])
    for text in (task.plain_instruction, task.instruction, task.teacher_instruction):
        assert f"(`{digest(text)}`):\n\n```text\n{text}\n```\n" in card_of(out)
        assert digest(text) in published
    assert all(f"call: {example.call}" in card_of(out) for example in task.examples_for("sample"))
    assert "for the reader" not in card_of(out), "the task has no reader"


def test_sources_name_the_licence_and_the_rows_of_each_data_set(tmp_path: Path) -> None:
    rows = [stage1_row(n, dataset=name) for n, name in enumerate(["gsm8k", "mine", "gsm8k", "asdiv"])]
    data = Dataset.from_list(rows, features=STAGE1)
    named = {"stage1": DatasetDict(train=data.select(range(3)), test=data.select([3]))}
    out = publish({"math": named}, tmp_path / "data", version="1.0.0")
    found = next(rows for rows in table_rows(card_of(out)) if rows[0][0] == "data set")
    assert [(row[0], row[1].partition(" (")[0], row[3]) for row in found[2:]] == [
        ("`asdiv`", "CC BY-NC 4.0", "1 in math-stage1"),
        ("`gsm8k`", "MIT", "2 in math-stage1"),
        ("`mine`", "unknown", "1 in math-stage1"),
    ]


def test_every_source_has_a_licence_as_its_file_states_it() -> None:
    assert LICENCES.keys() == set(SOURCES)
    for name, licence in LICENCES.items():
        text = " ".join((__import__(SOURCES[name].__module__, fromlist=["x"]).__doc__ or "").split())
        assert not licence.homepage or licence.homepage in text, name
        assert not re.match("CC|MIT", licence.name) or licence.name in text, name


@pytest.mark.parametrize("value", ["PATH", 'load_dataset("PATH", "x")'])
def test_load_lines_in_example_rows_stay_as_they_are(tmp_path: Path, value: str) -> None:
    from toolrlef_data.publishing.hub.release import release_of
    from toolrlef_data.publishing.hub.versions import folder_version

    out = publish({"a": {"b": Dataset.from_list([{"text": value}])}}, tmp_path / "data", version="1.0.0")
    card = release_of(folder_version(out), "org/name", None, []).card
    assert f'"text": {json.dumps(value)}' in card
    assert 'load_dataset("org/name", "a-b", revision="v1.0.0", split="train")' in card
    assert load_dataset(str(out), "a-b", split="train")[0] == {"text": value}


def test_a_mix_of_tasks_is_trained_with_the_reward_of_each(tmp_path: Path, fresh_caches: Path) -> None:
    TASKS["sums"] = replace(TASKS["math"], name="sums")
    sums = [stage1_row(n, id=f"s{n}", task="sums", output=f"calculator({n}+{n}+1)") for n in range(12)]
    named = {"math": tables(), "sums": {"stage1": Dataset.from_list(sums, features=STAGE1)}}
    out = publish(named, tmp_path / "data", version="1.0.0")
    shown = next(rows for rows in table_rows(card_of(out)) if rows[0][1] == "trainer")
    assert ["mix-stage1", "GRPO", "`trl_grpo`", "17", "0", str(len("calculator(11+11+1)"))] in shown
    code = next(code for code in re.findall(r"```python\n(.*?)```", card_of(out), re.S) if '"mix-stage1"' in code)
    assert 'reward_funcs=reward(["math", "sums"])' in code
    names: dict[str, Any] = {}
    exec(code.replace("PATH", str(out)).partition("from trl")[0] + code.partition("\nmodel")[2].partition("\n")[2]
         .replace("PATH", str(out)).partition("settings = ")[0], names)  # fmt: skip
    correct = reward(["math", "sums"])(completions=["calculator(1+1)"] * 17, **names["rows"].to_dict())
    assert correct.count(1.0) == 2, "the question 1 of both tasks"


@pytest.mark.parametrize("mark", ["\u202e", "\u2066", "\u200b", "\x9b", "\U000e0041"])
def test_marks_of_direction_are_shown(mark: str, tmp_path: Path) -> None:
    """In a title, a name, a text of a row and a prompt; the metadata of the columns have them, since they are names."""
    named = tables()
    row = stage2_row(0, origin=["gold", f"a{mark}b"], dataset=f"d{mark}e", instruction=f"Do{mark}it.")
    named["stage2"] = Dataset.from_list([row], features=STAGE2)
    dropped = {**dict.fromkeys(DROPPED, "x"), "task": "math", "reason": f"r{mark}s"}
    ledger = Dataset.from_list([dropped], features=DROPPED)
    out = publish({"math": named}, tmp_path / "out", version="1.0.0", dropped=ledger, card={"title": f"t{mark}u"})
    text = (out / "README.md").read_text()
    assert mark not in text
    shown = f"<U+{ord(mark):04X}>"
    for name in (f"a{shown}b", f"d{shown}e", f"Do{shown}it.", f"r{shown}s", f"t{shown}u"):
        assert name in text.replace("\\<", "<"), name
    assert not [path for path in (out / "figures").iterdir() if mark in path.read_text()]


@pytest.mark.parametrize("before", ["", "\\"])
def test_names_make_no_links_and_no_images(before: str, tmp_path: Path) -> None:
    """A backslash in a name does not undo the one that escapes the next character."""
    name = (
        f"!{before}[x](https://tracker.example/1.png) {before}[y](javascript:alert(1)) {before}<img src=z> a{before}|b"
    )
    named = {"stage2": Dataset.from_list([stage2_row(0, origin=["gold", name], dataset=name)], features=STAGE2)}
    dropped = Dataset.from_list([{**dict.fromkeys(DROPPED, "x"), "task": "math", "reason": name}], features=DROPPED)
    card = card_of(publish({"math": named}, tmp_path / "out", version="1.0.0", dropped=dropped, card={"title": name}))
    html = MarkdownIt("commonmark").enable("table").render(card)
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert {source.partition(":")[0] for source in sources} <= {
        "https",
        *(s for s in sources if s.startswith("figures/")),
    }
    assert not [source for source in sources if "tracker" in source]
    assert "<img src=z" not in html


def test_decontamination_and_near_duplicates_are_those_of_the_lineage(tmp_path: Path, fresh_caches: Path) -> None:
    text = "Ann has {} red pens and gives {} of them to her friend Ben. How many pens has Ann now?"
    texts = [
        text.format(7, 2),
        "How many lakes are in the north of the country of the thousand lakes?",
        "How far is it?",
    ]
    rows = [
        {"id": str(n), "question": question, "task": "math"}
        for n, question in enumerate([*texts, texts[1] + " Tell me."])
    ]
    tests = Dataset.from_list([{"question": text.format(5, 1)}, {"question": "What is the name of the lake?"}])
    clean = drop_near_duplicates(decontaminate(Dataset.from_list(rows), tests), threshold=0.6)
    assert clean["id"][:] == ["1", "2"]
    card = card_of(publish({"math": {"questions": clean}}, tmp_path / "out", version="1.0.0"))
    found = {rows[0][1]: rows[2:] for rows in table_rows(card) if rows[0][0] == "tables"}
    ((_, names, compared, dropped),) = found["test sets, with their questions"]
    assert (names.rpartition(" ")[2], compared, dropped) == ("2", "4", "overlap_numbers 1")
    assert [row[1:] for row in found["column"]] == [["`question`", "0.6", "3", "1", "1", "1"]]
    assert f"| decontamination | against {names.rpartition(': ')[0]} |" in card
    assert "not checked" not in card
