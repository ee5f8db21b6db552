"""T-REx: one question per evidence, gold answers, and a drop for every unusable evidence."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from toolrlef_data.loading_scripts import load_source, load_tables
from toolrlef_data.loading_scripts.command import main
from toolrlef_data.loading_scripts.trex import make_cloze
from toolrlef_data.records import InputError

FACT = {"uuid": "0c9f", "predicate_id": "P19", "sub_label": "Ann Lee", "obj_label": "Poland"}


def _write(path: Path, *facts: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(fact) + "\n" for fact in facts), encoding="utf-8")
    return path.parent


def _evidences(*sentences: tuple[str, str]) -> dict[str, Any]:
    return {**FACT, "evidences": [{"masked_sentence": text, "obj_surface": surface} for text, surface in sentences]}


@pytest.mark.parametrize(
    ("sentence", "default", "cut"),
    [
        ("Lee was born in [MASK].", "Lee was born in ?", None),
        ("Lee was born in [MASK]", "Lee was born in ?", None),
        ("Lee was born in [MASK] . ", "Lee was born in ?", None),
        ('They said "Lee was born in [MASK]."', 'They said "Lee was born in ?', None),
        ("Lee was born in the town of [MASK]”.", "Lee was born in the town of ?", None),
        ("Lee was  born\tin[MASK].", "Lee was born in ?", None),
        ("Lee was born in [MASK] in 1990.", "mask_not_final", "Lee was born in ?"),
        ("Lee was born in [MASK]'s south.", "mask_not_final", "Lee was born in ?"),
        ("Lee (born in [MASK]).", "mask_not_final", "Lee (born in ?"),
        ("[MASK] is where Lee was born.", "mask_first", "mask_first"),
        ('  "[MASK].', "mask_first", "mask_first"),
        ("[MASK]", "mask_first", "mask_first"),
        ("Lee was born in Poland.", "no_mask", "no_mask"),
        ("", "no_mask", "no_mask"),
        ("Lee moved from [MASK] to [MASK].", "several_masks", "several_masks"),
        ("Lee was born in [mask].", "no_mask", "no_mask"),
    ],
)
def test_make_cloze(sentence: str, default: str, cut: str | None) -> None:
    for cloze, expected in [(make_cloze(sentence), default), (make_cloze(sentence, cut=True), cut or default)]:
        assert (cloze if isinstance(cloze, str) else cloze.reason) == expected


def test_gold_answers_are_the_label_and_all_surfaces(tmp_path: Path) -> None:
    fact = _evidences(
        ("Lee was born in a [MASK].", "Polish town"),
        ("Lee was born in a [MASK].", "Poland"),
        ("Lee was born in a [MASK]", "town in Poland"),
        ("Lee left [MASK].", "Poland"),
        ("Lee was born in [MASK] in 1990.", "Poland"),
    )
    folder = _write(tmp_path / "P19.jsonl", fact, {**fact, "uuid": "77aa", "evidences": []})
    data = load_source("trex", data_dir=folder)
    assert [(row["id"], row["question"], row["answers"]) for row in data] == [
        ("trex-P19-0c9f#1", "Lee was born in a ?", ["Poland", "Polish town", "town in Poland"]),
        ("trex-P19-0c9f#4", "Lee left ?", ["Poland"]),
    ]
    assert {(row["task"], row["dataset"], row["split_origin"]) for row in data} == {("lama", "trex", "train")}
    dropped = load_source("trex", "dropped", data_dir=folder)
    assert list(zip(dropped["id"], dropped["reason"], strict=True)) == [
        ("trex-P19-0c9f#2", "repeated"),
        ("trex-P19-0c9f#3", "repeated"),
        ("trex-P19-0c9f#5", "mask_not_final"),
        ("trex-P19-77aa", "no_evidence"),
    ]
    data = load_source("trex", data_dir=folder, cut=True)
    assert data["question"][:] == ["Lee was born in a ?", "Lee left ?", "Lee was born in ?"]


def test_incomplete_evidences_are_dropped(tmp_path: Path) -> None:
    sentence = {"masked_sentence": "Lee left [MASK]."}
    evidences = [sentence, {"obj_surface": "Poland"}, {**sentence, "masked_sentence": None}, {}]
    folder = _write(tmp_path / "P19.jsonl", {**FACT, "evidences": evidences}, {**FACT, "uuid": "77aa"})
    assert load_source("trex", data_dir=folder)["answers"][:] == [["Poland"]]
    assert load_source("trex", "dropped", data_dir=folder)["reason"][:] == [
        "no_mask",
        "no_mask",
        "no_mask",
        "no_evidence",
    ]
    for evidences in ([3], "none"):  # type: ignore[assignment]
        _write(tmp_path / "P19.jsonl", {**FACT, "evidences": evidences})
        with pytest.raises(
            InputError, match=r"P19\.jsonl, line 1: expected a list of objects under the key 'evidences'"
        ):
            load_source("trex", data_dir=folder)
    _write(tmp_path / "P19.jsonl", {"uuid": "a", "predicate_id": "P19", "evidences": []})
    with pytest.raises(InputError, match="the key 'obj_label' is missing; found: uuid, predicate_id, evidences"):
        load_source("trex", data_dir=folder)


def test_values_that_are_not_text_are_dropped(tmp_path: Path) -> None:
    sentence = {"masked_sentence": "Lee left [MASK].", "obj_surface": "Poland"}
    evidences = [{**sentence, "obj_surface": {"a": 1}}, {**sentence, "masked_sentence": ["[MASK]"]}, sentence]
    labels: list[dict[str, Any]] = [
        {"uuid": "b", "obj_label": None},
        {"uuid": "c", "obj_label": {"a": 1}},
        {"uuid": "d", "obj_label": ["x"]},
    ]
    facts = ({**FACT, **label, "evidences": [sentence]} for label in labels)
    folder = _write(tmp_path / "P19.jsonl", {**FACT, "evidences": evidences}, *facts)
    data = load_source("trex", data_dir=folder)
    assert [(row["id"], row["answers"]) for row in data] == [("trex-P19-0c9f#3", ["Poland"])]
    dropped = load_source("trex", "dropped", data_dir=folder)
    assert dropped["reason"][:] == ["not_text", "not_text", "no_answer", "not_text", "not_text"]


def test_all_relation_files_are_found(tmp_path: Path) -> None:
    fact = _evidences(("Lee left [MASK].", "Poland"), ("Lee left [MASK].", "x" * 200_000))
    for subfolder in (".", "TREx", "data/TREx"):
        folder = tmp_path / subfolder.replace("/", "-")
        _write(folder / subfolder / "P9.jsonl", {**fact, "predicate_id": "P9"})
        _write(folder / subfolder / "P19.jsonl", fact)
        _write(folder / subfolder / "relations.jsonl", {"relation": "P19"})
        data = load_source("trex", data_dir=folder)
        assert data["id"][:] == ["trex-P19-0c9f#1", "trex-P9-0c9f#1"], "sorted on every file system"
        assert len(data[0]["answers"][1]) == 200_000, "rows can be long"


def test_data_dir_is_required() -> None:
    with pytest.raises(InputError, match=r"source trex: pass data_dir= with P"):
        load_source("trex")


def test_real_facts(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shared / "data/trex"
    text = "\n".join(path.read_text("utf-8").strip() for path in sorted(folder.glob("TREx/*")))
    lines = [json.loads(line) for line in text.split("\n")]
    assert len(lines) == 2279
    evidences = [evidence for fact in lines for evidence in fact["evidences"]]
    assert all(evidence["masked_sentence"].count("[MASK]") == 1 for evidence in evidences)
    for options, questions in ({}, 561), ({"cut": True}, 4462):
        tables = load_tables("trex", folder, **options)
        data, dropped = tables.questions["train"], tables.dropped["train"]
        assert len(data) == questions
        assert len(data) + len(dropped) == len(evidences) == 6230, "every evidence is a question or a drop"
        assert set(Counter(dropped["reason"])) == {"mask_first", "repeated", *(() if options else ("mask_not_final",))}
        assert all(question.endswith(" ?") and "[MASK]" not in question for question in data["question"])
        assert len(set(data["id"]) | set(dropped["id"])) == 6230
    labels = {f"trex-{fact['predicate_id']}-{fact['uuid']}": fact["obj_label"] for fact in lines}
    assert all(row["answers"][0] == " ".join(labels[row["id"].partition("#")[0]].split()) for row in data)
    assert sum(len(answers) > 1 for answers in data["answers"]) == 765, "a surface differs from the label"
    main("trex", ["--data-dir", str(folder / "TREx"), "--out", str(tmp_path), "--cut"])
    assert "4462 rows" in capsys.readouterr().out
