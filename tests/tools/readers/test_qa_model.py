"""QA models: the best span of all passages is the answer, a writer keeps its question, an engine is asked shortly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.models import PASSAGE, QUESTIONS, tiny_bert, tiny_t5
from toolrlef_data.engines.spec import EngineSpec, Message
from toolrlef_data.records import InputError, ToolResult, UnknownName
from toolrlef_data.tables.fingerprint import canonical
from toolrlef_data.tools.readers import seq2seq
from toolrlef_data.tools.readers.qa_model import Settings, qa_engine, qa_model
from toolrlef_data.tools.readers.seq2seq import Loaded, load
from toolrlef_data.tools.readers.spans import Window, _best_span, _windows
from toolrlef_data.tools.tool import Tool, ToolInput, not_set_up

QUESTION = QUESTIONS["en"]
OTHER = "A kestrel is a small bird. It rises above the hills, and hovers there, 20 miles from Tarnau."
PASSAGES = {
    "river": (PASSAGE, OTHER),
    "bird": (OTHER,),
    "long": (f"{PASSAGE} {OTHER} " * 6, OTHER),
    "blank": (" ", "\n"),
}


def find(inputs: Sequence[ToolInput]) -> list[ToolResult]:
    """Passages by a word of the question; a search that can fail in each way."""
    results = []
    for each in inputs:
        word = next((word for word in PASSAGES if word in each.argument), "")
        if "broken" in each.argument:
            results.append(ToolResult(error="http", detail="status 500"))
        else:
            results.append(ToolResult(PASSAGES[word]) if word else ToolResult(error="no_result", detail="none"))
    return results


SEARCH = Tool("WikiSearch", "Searches.", many=find, version="corpus 1")
# Mixed lengths, in no order.
MIXED = [
    ToolInput(text)
    for text in (QUESTION, "bird?", "Which river is long?", "A small bird, where?", "long", "river", "Is a bird small?")
]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert") / "model")


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_t5(tmp_path_factory.mktemp("t5") / "model")


def reader(model: Path, **settings: Any) -> Tool:
    return qa_model(str(model), **{"search": SEARCH, "device": "cpu", **settings})


def writer(model: Path, **settings: Any) -> Tool:
    return reader(model, **{"kind": "seq2seq", "max_answer_words": 3, **settings})


def spec_of(tool: Tool) -> Settings:
    assert isinstance(tool.many, partial)
    found: Settings = tool.many.args[1]
    return found


def loaded_of(tool: Tool) -> Loaded:
    return load(spec_of(tool).spec)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_a_batch_reads_as_each_question_alone_in_order(bert: Path, batch: int) -> None:
    tool = reader(bert, batch=batch)
    together = tool.run_many(MIXED)
    assert together == [reader(bert).run_many([each])[0] for each in MIXED]
    assert together == tool.run_many(MIXED[::-1])[::-1]
    assert len({result.value for result in together}) > 3, "answers that are all the same prove nothing"


def test_a_batch_writes_as_each_question_alone_in_order(t5: Path) -> None:
    tool = writer(t5, batch=3)
    assert tool.run_many(MIXED) == [tool.run_many([each])[0] for each in MIXED]


@pytest.mark.parametrize("words", [1, 3, 20])
def test_an_answer_is_a_span_of_a_passage(bert: Path, words: int) -> None:
    for each, result in zip(MIXED, reader(bert, max_answer_words=words).run_many(MIXED), strict=True):
        (found,) = find([each])
        assert isinstance(found.value, tuple)
        assert any(str(result.value) in passage for passage in found.value)
        assert 0 < len(str(result.value).split()) <= words


def test_the_best_span_is_that_of_all_windows_by_hand(bert: Path) -> None:
    """Scored here one window at a time, every span in a loop."""
    import torch

    loaded, limit = loaded_of(reader(bert)), 4
    best, answer = -1e9, ""
    for passage in PASSAGES["long"]:
        windows = _windows(loaded, 0, "long", passage, 64, 1)
        assert len(windows) > 1 or passage is OTHER
        for window in windows:
            with torch.inference_mode():
                out = loaded.model(**{name: torch.tensor([ids]) for name, ids in window.inputs.items()})
            for i, start in enumerate(window.offsets):
                for j, end in enumerate(window.offsets[i : i + 4 * limit], i):
                    if start is None or end is None:
                        continue
                    text = passage[start[0] : end[1]]
                    inside = passage[: end[1]].count(" ") - passage[: start[0]].count(" ") < limit
                    score = float(out.start_logits[0, i] + out.end_logits[0, j])
                    if inside and score > best + 1e-4:
                        best, answer = score, text
    assert reader(bert, max_answer_words=limit).run_many([ToolInput("long")]) == [ToolResult(answer)]


def test_windows_cover_a_passage_and_overlap(bert: Path) -> None:
    loaded = loaded_of(reader(bert))
    windows = _windows(loaded, 0, QUESTION, PASSAGES["long"][0], 64, 12)
    covered = [{at for at in window.offsets if at is not None} for window in windows]
    tokens = loaded.tokenizer(PASSAGES["long"][0], add_special_tokens=False, return_offsets_mapping=True)
    assert set().union(*covered) == {tuple(at) for at in tokens["offset_mapping"]}
    assert all(one & two for one, two in pairwise(covered))
    assert {len(window) for window in windows[:-1]} == {64}


def test_no_token_of_the_question_is_an_answer(bert: Path) -> None:
    (window,) = _windows(loaded_of(reader(bert)), 0, QUESTION, "Tarnau is old.", 64, 12)
    assert [window.passage[at[0] : at[1]] for at in window.offsets if at is not None] == ["Tarnau", "is", "old", "."]


@pytest.mark.parametrize(
    ("starts", "ends", "words", "text"),
    [
        ([9, 1, 0, 0, 0, 0], [9, 0, 3, 0, 0, 0], 5, "old mill"),  # the best start and end lie outside of the passage
        ([0, 1, 0, 3, 0, 0], [0, 2, 0, 1, 0, 0], 5, "stands"),  # an end before its start is none
        ([0, 9, 0, 0, 0, 0], [0, 0, 0, 9, 0, 0], 2, "old"),  # too long: the best that is short enough
        ([0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], 5, "old"),  # the first of equals
        ([0, float("nan"), 0, 1, 0, 0], [0, 0, 0, 1, 0, 0], 5, "stands"),
    ],
)
def test_the_best_span_of_a_window(starts: list[float], ends: list[float], words: int, text: str) -> None:
    import torch

    scores = torch.tensor([starts, ends], dtype=torch.float32)
    window = Window(0, "old mill stands", {}, [None, (0, 3), (3, 8), (9, 15), (15, 15), None])
    assert _best_span(window, scores[0], scores[1], words).text == text


def test_what_the_search_says_stays(bert: Path, t5: Path) -> None:
    asked = ["broken", "nothing", "blank", " ", "river " * 200, "ß" * 10**6, "river"]
    inputs = [ToolInput(text) for text in asked]
    for tool in (reader(bert), writer(t5, max_input_tokens=100)):
        results = tool.run_many(inputs)
        kinds = ["http", "no_result", "no_result", "empty", "too_large", "too_large"]
        assert [result.error for result in results[:-1]] == kinds
        assert results[0].detail == "status 500"
        assert results[-1] == tool.run_many([ToolInput("river")])[0]


def test_half_a_character_in_a_question_costs_nothing(bert: Path, t5: Path) -> None:
    for tool in (reader(bert), writer(t5), writer(t5, search=None)):
        half, whole = tool.run_many([ToolInput("river \ud83d"), ToolInput("river \ufffd")])
        assert half == whole
        assert half.error is None


def test_a_writer_keeps_its_question_and_cuts_the_passages(t5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[list[int]] = []

    def spy(loaded: Loaded, given: list[list[int]], *rest: object) -> list[ToolResult]:
        rows.extend(given)
        return [ToolResult("one two three four five six")] * len(given)

    monkeypatch.setattr("toolrlef_data.tools.readers.qa_model.write", spy)
    tool = writer(t5, max_input_tokens=40)
    assert tool.run_many([ToolInput("long")]) == [ToolResult("one two three")]  # TRICE cuts plain answers as well
    tokenizer = loaded_of(tool).tokenizer
    assert (len(rows[0]), rows[0][-1]) == (40, tokenizer.sep_token_id)
    start = tokenizer("question: long context: The old mill", add_special_tokens=False).input_ids
    assert rows[0][1 : len(start) + 1] == start
    writer(t5, search=None).run_many([ToolInput(QUESTION)])
    assert rows[1] == tokenizer(QUESTION).input_ids
    writer(t5, template="{question} \\n {context}").run_many([ToolInput("bird")])
    assert rows[2] == tokenizer(f"bird \\n {OTHER}").input_ids


def test_special_tokens_in_a_passage_are_plain_text(bert: Path) -> None:
    loaded = loaded_of(reader(bert))
    (window,) = _windows(loaded, 0, "[CLS] river", "The [SEP] mill [PAD]", 64, 8)
    assert window.inputs["input_ids"].count(loaded.tokenizer.sep_token_id) == 2
    assert window.inputs["input_ids"].count(loaded.tokenizer.cls_token_id) == 1


def test_a_model_without_the_head_is_refused(bert: Path, t5: Path, tmp_path: Path) -> None:
    from transformers import BertForMaskedLM

    from toolrlef_data.engines.local.weights import silence_transformers

    bare = Path(shutil.copytree(bert, tmp_path / "bare"))
    with silence_transformers():
        BertForMaskedLM.from_pretrained(bert).save_pretrained(bare)
    with pytest.raises(InputError, match="lack qa_outputs"):
        reader(bare).run_many(MIXED[:1])
    with pytest.raises(InputError, match="Seq2SeqLM"):
        writer(bert).run_many(MIXED[:1])
    with pytest.raises(InputError, match="no model"):
        reader(tmp_path / "none")


def test_the_model_is_loaded_once(bert: Path) -> None:
    seq2seq._load.cache_clear()
    tools = [reader(bert), reader(bert, max_answer_words=2, batch=2)]
    assert seq2seq._load.cache_info().misses == 0
    for tool in tools:
        tool.run_many(MIXED[:2])
    assert seq2seq._load.cache_info().misses == 1


def test_the_version_changes_with_what_decides_an_answer(bert: Path, t5: Path, tmp_path: Path) -> None:
    other = Tool("WikiSearch", "Searches.", many=find, version="corpus 2")
    assert len({reader(bert, **settings).version for settings in ({}, {"max_answer_words": 3}, {"search": other})}) == 3
    changed: list[dict[str, Any]] = [{}, {"search": None}, {"template": "{question} {context}"}, {"num_beams": 2}]
    assert len({writer(t5, **settings).version for settings in changed}) == 4
    assert reader(bert, batch=2, max_time=1.0).version == reader(bert).version
    moved = shutil.copytree(bert, tmp_path / "moved")
    assert canonical(reader(moved, batch=2).many) == canonical(reader(bert).many)
    assert str(moved) not in json.dumps(canonical(reader(moved)))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"search": None}, "pass search="),
        ({"search": Tool("x", "y", str.upper)}, "finds passages"),
        ({"search": Tool("x", "y", many=partial(not_set_up, "make one"))}, "make one"),
        ({"kind": "generative"}, "kind of QA model"),
        ({"max_answer_words": 0}, "at least 1"),
        ({"device": "foo"}, "unknown device"),
        ({"device": "cuda:99"}, "is not there"),
        ({"kind": "seq2seq", "template": "{context}"}, "template"),
        ({"kind": "seq2seq", "template": "{context} {question}"}, "template"),  # a cut would lose the question
        ({"kind": "seq2seq", "template": "{question}"}, "template"),
        ({"kind": "seq2seq", "search": None, "template": "{question} {context}"}, "template"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(bert: Path, settings: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        reader(bert, **settings)


ENGINE = EngineSpec("scripted", "demo")


@pytest.mark.parametrize("style", ["chat", "completion", "alpaca", "vicuna"])
def test_an_engine_sees_the_question_and_the_passages(style: str) -> None:
    tool = qa_engine(ENGINE, search=SEARCH, style=style)
    assert tool.prompt is not None
    for passages in ((), PASSAGES["river"]):
        prompt = tool.prompt(QUESTION, passages)
        text = prompt if isinstance(prompt, str) else "\n".join(message.content for message in prompt)
        places = [text.index(part) for part in (*passages, QUESTION)]
        assert places == sorted(places)  # the question last, next to the answer
        assert "answer alone" in text
        assert ("passages" in text) == bool(passages)
        assert isinstance(prompt, str) or [message.role for message in prompt] == ["system", "user"]


def test_an_engine_alone_or_over_a_search() -> None:
    alone, over = qa_engine(ENGINE), qa_engine(ENGINE, search=SEARCH)
    assert (alone.engine, alone.many, alone.name) == (ENGINE, None, "QA")
    assert over.run_many([ToolInput("bird"), ToolInput("nothing")]) == find([ToolInput("bird"), ToolInput("nothing")])
    assert "corpus 1" in over.version
    assert canonical(alone) != canonical(over)
    assert isinstance(alone.prompt and alone.prompt("Who?", ())[0], Message)
    with pytest.raises(UnknownName, match="style"):
        qa_engine(ENGINE, style="none")
    with pytest.raises(InputError, match="finds passages"):
        qa_engine(ENGINE, search=alone)
