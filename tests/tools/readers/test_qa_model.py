"""Tests of QA tools: spans of extractive models, inputs of seq2seq models, and prompts of engines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
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
from toolrlef_data.tools.readers.seq2seq import LoadedModel, load_model
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
    """Return passages by a word of the question, or an error: a search tool."""
    results = []
    for call in inputs:
        word = next((word for word in PASSAGES if word in call.argument), "")
        if "broken" in call.argument:
            results.append(ToolResult(error="http", detail="status 500"))
        else:
            results.append(ToolResult(PASSAGES[word]) if word else ToolResult(error="no_result", detail="none"))
    return results


SEARCH = Tool("WikiSearch", "Searches.", many=find, version="corpus 1")
# Questions of mixed lengths, unsorted.
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


def extractive_tool(model: Path, **settings: Any) -> Tool:
    return qa_model(str(model), **{"search": SEARCH, "device": "cpu", **settings})


def seq2seq_tool(model: Path, **settings: Any) -> Tool:
    return extractive_tool(model, **{"kind": "seq2seq", "max_answer_words": 3, **settings})


def settings_of(tool: Tool) -> Settings:
    assert isinstance(tool.many, partial)
    settings: Settings = tool.many.args[1]
    return settings


def loaded_of(tool: Tool) -> LoadedModel:
    return load_model(settings_of(tool).spec)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_extractive_results_do_not_depend_on_the_batch(bert: Path, batch: int) -> None:
    tool = extractive_tool(bert, batch=batch)
    together = tool.run_many(MIXED)
    assert together == [extractive_tool(bert).run_many([call])[0] for call in MIXED]
    assert together == tool.run_many(MIXED[::-1])[::-1]
    assert len({result.value for result in together}) > 3, "identical answers would prove nothing"


def test_seq2seq_results_do_not_depend_on_the_batch(t5: Path) -> None:
    tool = seq2seq_tool(t5, batch=3)
    assert tool.run_many(MIXED) == [tool.run_many([call])[0] for call in MIXED]


@pytest.mark.parametrize("words", [1, 3, 20])
def test_answers_are_spans_of_a_passage(bert: Path, words: int) -> None:
    for call, result in zip(MIXED, extractive_tool(bert, max_answer_words=words).run_many(MIXED), strict=True):
        (search_result,) = find([call])
        assert isinstance(search_result.value, tuple)
        assert any(str(result.value) in passage for passage in search_result.value)
        assert 0 < len(str(result.value).split()) <= words


def test_the_best_span_equals_that_of_a_direct_implementation(bert: Path) -> None:
    """The reference scores one window at a time and loops over all spans."""
    import torch

    loaded, limit = loaded_of(extractive_tool(bert)), 4
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
    assert extractive_tool(bert, max_answer_words=limit).run_many([ToolInput("long")]) == [ToolResult(answer)]


def test_windows_cover_a_passage_and_overlap(bert: Path) -> None:
    loaded = loaded_of(extractive_tool(bert))
    windows = _windows(loaded, 0, QUESTION, PASSAGES["long"][0], 64, 12)
    covered = [{at for at in window.offsets if at is not None} for window in windows]
    tokens = loaded.tokenizer(PASSAGES["long"][0], add_special_tokens=False, return_offsets_mapping=True)
    assert set().union(*covered) == {tuple(at) for at in tokens["offset_mapping"]}
    assert all(one & two for one, two in pairwise(covered))
    assert {len(window) for window in windows[:-1]} == {64}


def test_tokens_of_the_question_have_no_offsets(bert: Path) -> None:
    (window,) = _windows(loaded_of(extractive_tool(bert)), 0, QUESTION, "Tarnau is old.", 64, 12)
    assert [window.passage[at[0] : at[1]] for at in window.offsets if at is not None] == ["Tarnau", "is", "old", "."]


@pytest.mark.parametrize(
    ("starts", "ends", "words", "text"),
    [
        ([9, 1, 0, 0, 0, 0], [9, 0, 3, 0, 0, 0], 5, "old mill"),  # the best start and end are outside the passage
        ([0, 1, 0, 3, 0, 0], [0, 2, 0, 1, 0, 0], 5, "stands"),  # an end before the start is not allowed
        ([0, 9, 0, 0, 0, 0], [0, 0, 0, 9, 0, 0], 2, "old"),  # the best span is too long
        ([0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], 5, "old"),  # the first wins a tie
        ([0, float("nan"), 0, 1, 0, 0], [0, 0, 0, 1, 0, 0], 5, "stands"),
    ],
)
def test_the_best_span_of_a_window(starts: list[float], ends: list[float], words: int, text: str) -> None:
    import torch

    scores = torch.tensor([starts, ends], dtype=torch.float32)
    window = Window(0, "old mill stands", {}, [None, (0, 3), (3, 8), (9, 15), (15, 15), None])
    assert _best_span(window, scores[0], scores[1], words).text == text


def test_errors_of_the_search_are_returned(bert: Path, t5: Path) -> None:
    questions = ["broken", "nothing", "blank", " ", "river " * 200, "ß" * 10**6, "river"]
    inputs = [ToolInput(text) for text in questions]
    for tool in (extractive_tool(bert), seq2seq_tool(t5, max_input_tokens=100)):
        results = tool.run_many(inputs)
        kinds = ["http", "no_result", "no_result", "empty", "too_large", "too_large"]
        assert [result.error for result in results[:-1]] == kinds
        assert results[0].detail == "status 500"
        assert results[-1] == tool.run_many([ToolInput("river")])[0]


def test_an_unpaired_surrogate_in_a_question_is_replaced(bert: Path, t5: Path) -> None:
    for tool in (extractive_tool(bert), seq2seq_tool(t5), seq2seq_tool(t5, search=None)):
        invalid, replaced = tool.run_many([ToolInput("river \ud83d"), ToolInput("river \ufffd")])
        assert invalid == replaced
        assert invalid.error is None


def test_seq2seq_inputs_keep_the_question_and_truncate_the_passages(t5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[list[int]] = []

    def record(loaded: LoadedModel, batch: list[list[int]], *settings: object) -> list[ToolResult]:
        rows.extend(batch)
        return [ToolResult("one two three four five six")] * len(batch)

    monkeypatch.setattr("toolrlef_data.tools.readers.qa_model.generate_texts", record)
    tool = seq2seq_tool(t5, max_input_tokens=40)
    assert tool.run_many([ToolInput("long")]) == [ToolResult("one two three")]  # truncated to max_answer_words
    tokenizer = loaded_of(tool).tokenizer
    assert (len(rows[0]), rows[0][-1]) == (40, tokenizer.sep_token_id)
    start = tokenizer("question: long context: The old mill", add_special_tokens=False).input_ids
    assert rows[0][1 : len(start) + 1] == start
    seq2seq_tool(t5, search=None).run_many([ToolInput(QUESTION)])
    assert rows[1] == tokenizer(QUESTION).input_ids
    seq2seq_tool(t5, template="{question} \\n {context}").run_many([ToolInput("bird")])
    assert rows[2] == tokenizer(f"bird \\n {OTHER}").input_ids


def test_special_tokens_in_a_passage_are_plain_text(bert: Path) -> None:
    loaded = loaded_of(extractive_tool(bert))
    (window,) = _windows(loaded, 0, "[CLS] river", "The [SEP] mill [PAD]", 64, 8)
    assert window.inputs["input_ids"].count(loaded.tokenizer.sep_token_id) == 2
    assert window.inputs["input_ids"].count(loaded.tokenizer.cls_token_id) == 1


def test_models_without_the_head_are_refused(bert: Path, t5: Path, tmp_path: Path) -> None:
    from transformers import BertForMaskedLM

    from toolrlef_data.engines.local.weights import silence_transformers

    headless = Path(shutil.copytree(bert, tmp_path / "headless"))
    with silence_transformers():
        BertForMaskedLM.from_pretrained(bert).save_pretrained(headless)
    with pytest.raises(InputError, match="lack qa_outputs"):
        extractive_tool(headless).run_many(MIXED[:1])
    with pytest.raises(InputError, match="Seq2SeqLM"):
        seq2seq_tool(bert).run_many(MIXED[:1])
    with pytest.raises(InputError, match="no model"):
        extractive_tool(tmp_path / "none")


def test_the_model_is_loaded_once(bert: Path) -> None:
    seq2seq._load.cache_clear()
    tools = [extractive_tool(bert), extractive_tool(bert, max_answer_words=2, batch=2)]
    assert seq2seq._load.cache_info().misses == 0
    for tool in tools:
        tool.run_many(MIXED[:2])
    assert seq2seq._load.cache_info().misses == 1


def test_the_version_covers_what_determines_an_answer(bert: Path, t5: Path, tmp_path: Path) -> None:
    other = Tool("WikiSearch", "Searches.", many=find, version="corpus 2")
    assert (
        len(
            {extractive_tool(bert, **settings).version for settings in ({}, {"max_answer_words": 3}, {"search": other})}
        )
        == 3
    )
    changed: list[dict[str, Any]] = [{}, {"search": None}, {"template": "{question} {context}"}, {"num_beams": 2}]
    assert len({seq2seq_tool(t5, **settings).version for settings in changed}) == 4
    assert extractive_tool(bert, batch=2, max_time=1.0).version == extractive_tool(bert).version
    moved = shutil.copytree(bert, tmp_path / "moved")
    assert canonical(extractive_tool(moved, batch=2).many) == canonical(extractive_tool(bert).many)
    assert str(moved) not in json.dumps(canonical(extractive_tool(moved)))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"search": None}, "pass search="),
        ({"search": Tool("x", "y", str.upper)}, "returns passages"),
        ({"search": Tool("x", "y", many=partial(not_set_up, "make one"))}, "make one"),
        ({"kind": "generative"}, "kind of QA model"),
        ({"max_answer_words": 0}, "at least 1"),
        ({"device": "foo"}, "unknown device"),
        ({"device": "cuda:99"}, "is not available"),
        ({"kind": "seq2seq", "template": "{context}"}, "template"),
        ({"kind": "seq2seq", "template": "{context} {question}"}, "template"),  # truncation would lose the question
        ({"kind": "seq2seq", "template": "{question}"}, "template"),
        ({"kind": "seq2seq", "search": None, "template": "{question} {context}"}, "template"),
    ],
)
def test_invalid_settings(bert: Path, settings: dict[str, Any], error: str) -> None:
    with pytest.raises(InputError, match=error):
        extractive_tool(bert, **settings)


ENGINE = EngineSpec("scripted", "demo")


@pytest.mark.parametrize("style", ["chat", "completion", "alpaca", "vicuna"])
def test_prompts_of_an_engine(style: str) -> None:
    tool = qa_engine(ENGINE, search=SEARCH, style=style)
    assert tool.prompt is not None
    for passages in ((), PASSAGES["river"]):
        prompt = tool.prompt(QUESTION, passages)
        text = prompt if isinstance(prompt, str) else "\n".join(message.content for message in prompt)
        positions = [text.index(part) for part in (*passages, QUESTION)]
        assert positions == sorted(positions)  # the question is last
        assert "answer alone" in text
        assert ("passages" in text) == bool(passages)
        assert isinstance(prompt, str) or [message.role for message in prompt] == ["system", "user"]


def test_an_engine_with_and_without_a_search() -> None:
    closed_book, open_book = qa_engine(ENGINE), qa_engine(ENGINE, search=SEARCH)
    assert (closed_book.engine, closed_book.many, closed_book.name) == (ENGINE, None, "QA")
    assert open_book.run_many([ToolInput("bird"), ToolInput("nothing")]) == find(
        [ToolInput("bird"), ToolInput("nothing")]
    )
    assert (closed_book.version, open_book.version) == ("1", "1, over WikiSearch: corpus 1")
    assert (closed_book.batch, qa_engine(ENGINE, search=replace(SEARCH, batch=7)).batch) == (256, 7)
    assert canonical(closed_book) != canonical(open_book)
    assert isinstance(closed_book.prompt and closed_book.prompt("Who?", ())[0], Message)
    with pytest.raises(UnknownName, match="style"):
        qa_engine(ENGINE, style="none")
    message = "search must be a slow tool that returns passages and has no engine, found "
    for search, found in ((closed_book, "'QA'"), ("wiki", "'wiki'")):
        with pytest.raises(InputError, match=f"^{message}{found}$"):
            qa_engine(ENGINE, search=search)  # type: ignore[arg-type]
