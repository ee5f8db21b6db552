"""Tools of local models: the whole version, every setting, and the whole message of each error, with tiny models."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.models import PASSAGE, QUESTIONS, tiny_bert, tiny_t5
from toolrlef_data.engines.spec import EngineSpec, Message
from toolrlef_data.records import InputError, ToolResult
from toolrlef_data.tools.readers.generation import run_in_batches, token_limit
from toolrlef_data.tools.readers.qa_model import qa_engine, qa_model
from toolrlef_data.tools.readers.seq2seq import (
    DEFAULTS,
    Decoding,
    LoadedModel,
    ModelSpec,
    load_model,
    package_version,
    resolve_model,
)
from toolrlef_data.tools.readers.spans import Span, Window, _best_result, _best_span
from toolrlef_data.tools.readers.translator import translator, translator_engine
from toolrlef_data.tools.tool import Tool, ToolInput

pytestmark = pytest.mark.usefixtures("one_thread")
PACKAGES = ", ".join(filter(None, map(package_version, ("transformers", "sacremoses"))))


def find(inputs: Sequence[ToolInput]) -> list[ToolResult]:
    return [
        ToolResult(error="http", detail="status 500")
        if call.argument == "broken"
        else ToolResult((PASSAGE, "An old mill."))
        for call in inputs
    ]


def find_blank(inputs: Sequence[ToolInput]) -> list[ToolResult]:
    return [ToolResult((" ", "\n"))] * len(inputs)


SEARCH = Tool("WikiSearch", "Searches.", many=find, version="corpus 1")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("readers") / "bert")


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_t5(tmp_path_factory.mktemp("readers") / "t5")


def settings_of(tool: Tool) -> Any:
    assert isinstance(tool.many, partial)
    return tool.many.args[-1]


def fields_of(tool: Tool) -> tuple[object, ...]:
    return tool.name, tool.description, tool.parameter, tool.batch, tool.max_failed, tool.engine


def test_every_field_of_an_extractive_tool(bert: Path) -> None:
    tool = qa_model(str(bert), search=SEARCH, device="cpu")
    spec = settings_of(tool).spec
    answers = "Answers a factual question in a few words."
    assert fields_of(tool) == ("QA", answers, "question", 64, 0.2, None)
    parts = (spec.identity[:16], PACKAGES, "extractive, 20 words, windows of 384, over WikiSearch: corpus 1")
    assert tool.version == "weights {}, float32, {}, {}".format(*parts)
    assert spec == ModelSpec("QuestionAnswering", str(bert), None, spec.identity, "float32", "cpu", 16, 60.0)
    assert settings_of(tool).decoding == Decoding(80, 1, None)
    other = qa_model(str(bert), search=SEARCH, device="cpu", name="Ask", max_answer_words=3, batch=5, max_time=7.0)
    assert fields_of(other) == ("Ask", answers, "question", 20, 0.2, None)
    assert other.version == tool.version.replace("20 words", "3 words")
    assert (settings_of(other).spec, settings_of(other).decoding) == (
        replace(spec, batch=5, max_time=7.0),
        Decoding(12),
    )


def test_every_field_of_a_generating_tool(t5: Path) -> None:
    tool = qa_model(str(t5), search=SEARCH, kind="seq2seq", device="cpu", num_beams=2, max_input_tokens=99)
    spec = settings_of(tool).spec
    template = "'question: {question} context: {context}'"
    rest = f"seq2seq, 20 words, {template}, 99, beams 2, over WikiSearch: corpus 1"
    assert tool.version == f"weights {spec.identity[:16]}, float32, {PACKAGES}, {rest}"
    assert (spec.head, settings_of(tool).decoding, settings_of(tool).max_input_tokens) == (
        "Seq2SeqLM",
        Decoding(80, 2),
        99,
    )
    closed = qa_model(str(t5), kind="seq2seq", device="cpu")
    assert closed.version.endswith(f"{PACKAGES}, seq2seq, 20 words, '{{question}}', 512, beams 1")
    assert settings_of(closed).template == "{question}"


def test_every_field_of_a_translator(t5: Path) -> None:
    tool = translator(str(t5), device="cpu")
    spec = settings_of(tool).spec
    assert fields_of(tool) == ("translator", "Translates a question into English.", "text", 64, 0.2, None)
    known = f"from ar de es hi vi zh by {package_version('py3langid')}"
    prefix = f"weights {spec.identity[:16]}, float32, {PACKAGES}"
    assert tool.version == f"{prefix}, to en, {known}, 512 to 128 tokens, beams 1"
    options: dict[str, Any] = {"target": "deu_Latn", "source": "ES", "max_tokens": 9, "num_beams": 2, "batch": 3}
    other = translator(str(t5), device="cpu", name="say", languages=["FR", "en", "fr"], max_input_tokens=77, **options)
    assert fields_of(other) == ("say", "Translates a text into deu_Latn.", "text", 12, 0.2, None)
    assert other.version == f"{prefix}, to de, from es, 77 to 9 tokens, beams 2"
    settings = settings_of(other)
    assert (settings.languages, settings.decoding, settings.max_input_tokens) == (("en", "fr"), Decoding(9, 2), 77)


def test_the_defaults_of_the_options() -> None:
    expected = {"revision": None, "device": "auto", "dtype": "auto", "batch": 16, "max_input_tokens": 512}
    assert {**expected, "num_beams": 1, "max_time": 60.0} == DEFAULTS


@pytest.mark.parametrize("name", ["batch", "max_input_tokens", "num_beams", "max_time"])
def test_an_option_out_of_range_is_named_with_the_others(name: str, t5: Path) -> None:
    values = {"batch": 16, "max_input_tokens": 512, "num_beams": 1, "max_time": 60.0, name: 0}
    found = "{batch}, {max_input_tokens}, {num_beams} and {max_time}".format(**values)
    message = "batch, max_input_tokens and num_beams must be at least 1, and max_time more than 0 seconds; found "
    with pytest.raises(InputError, match=f"^{message}{found}$"):
        translator(str(t5), device="cpu", **{name: 0})  # type: ignore[arg-type]
    least: Any = {"batch": 1, "max_input_tokens": 1, "num_beams": 1, "max_time": 1e-9, "device": "cpu"}
    assert resolve_model("Seq2SeqLM", str(t5), DEFAULTS | least).batch == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"search": None}, "an extractive model needs passages: pass search="),
        ({"max_answer_words": 0}, "max_answer_words must be at least 1, found 0"),
        ({"search": 5}, "search must be a slow tool that returns passages and has no engine, found 5"),
        ({"device": "cpu:0"}, "unknown device 'cpu:0'; choose from: auto, cpu, cuda, cuda:0, mps, xpu"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not available: torch finds 0 cuda devices on this machine"),
    ],
)
def test_the_message_of_a_refused_setting(settings: dict[str, Any], message: str, bert: Path) -> None:
    import torch

    message = message.replace("finds 0", f"finds {torch.cuda.device_count()}")
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        qa_model(str(bert), **{"search": SEARCH, "device": "cpu", **settings})


def test_the_message_of_a_template(t5: Path) -> None:
    message = "template must contain {question} and, if and only if there is a search, {context} after it"
    for search, template in ((SEARCH, "{question}"), (SEARCH, "{context}{question}"), (None, "{question}{context}")):
        with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
            qa_model(str(t5), kind="seq2seq", search=search, template=template, device="cpu")
    assert settings_of(qa_model(str(t5), kind="seq2seq", search=SEARCH, template="{question}{context}")).template


def test_the_detail_of_a_question_without_an_answer(bert: Path, t5: Path) -> None:
    extractive = qa_model(str(bert), search=SEARCH, device="cpu")
    generating = qa_model(str(t5), search=SEARCH, kind="seq2seq", device="cpu", max_input_tokens=40)
    blank = replace(SEARCH, many=find_blank)
    texts = [" ", "x" * 20_001, "broken", "mill " * 33, QUESTIONS["en"]]
    shared = [
        ("empty", "the question is empty"),
        ("too_large", "the question has 20001 characters, at most 20000 are allowed"),
        ("http", "status 500"),
    ]
    for tool, long, limit in ((extractive, 33, 32), (generating, 33 + 19, 40)):
        results = tool.run_many([ToolInput(text) for text in texts])
        details = [*shared, ("too_large", f"the question has {long} tokens, at most {limit} are allowed"), (None, "")]
        assert [(result.error, result.detail) for result in results] == details
    assert extractive.run_many([ToolInput("mill " * 32)])[0].error is None
    for result in qa_model(str(bert), search=blank, device="cpu").run_many([ToolInput("mill")] * 2):
        assert (result.error, result.detail) == ("no_result", "the search returned no passage")


def test_the_detail_of_a_text_without_a_translation(t5: Path) -> None:
    tool = translator(str(t5), device="cpu", source="de", max_input_tokens=5, max_tokens=4)
    texts = [" \n", "x" * 20_001, "mill " * 9, "42 (1984)!", " the mill "]
    results = tool.run_many([ToolInput(text) for text in texts])
    assert [(result.error, result.detail) for result in results[:3]] == [
        ("empty", "the text is empty"),
        ("too_large", "the text has 20001 characters, at most 20000 are allowed"),
        ("too_large", "the text has 11 tokens, at most 5 are allowed"),
    ]
    assert results[3] == ToolResult("42 (1984)!"), "nothing to translate"
    assert results[4].error in (None, "unavailable")
    assert tool.run_many([ToolInput(" the mill ", "en")]) == [ToolResult("the mill")]


def test_what_a_tool_of_an_engine_asks() -> None:
    engine = EngineSpec("scripted", "m")
    shortly = (
        "Reply with the answer alone: a name, a date, a number or a few words. Write no sentence and no explanation."
    )
    book, closed = (
        f"Answer the question with the help of the passages. {shortly}",
        f"Answer the question from what you know. {shortly}",
    )
    context = "Passage 1: One two.\n\nPassage 2: Three."
    for style, expected in (
        ("chat", (Message("system", book), Message("user", f"{context}\n\nQuestion: Who?"))),
        ("completion", f"{book}\n\n{context}\n\nQuestion: Who?\nAnswer:"),
    ):
        tool = qa_engine(engine, style=style, search=SEARCH)
        assert tool.prompt is not None
        assert tool.prompt("Who?", ("One \n two.", "Three.")) == expected
    tool = qa_engine(engine, name="Ask")
    assert tool.prompt is not None
    assert tool.prompt("Who?", ()) == (Message("system", closed), Message("user", "Who?"))
    assert fields_of(tool)[:4] == ("Ask", "Answers a factual question in a few words.", "question", 256)
    instruction = (
        "You are a translator. Translate the text that you are given into French. Reply with the translation alone: do "
        "not answer it if it is a question, and add no notes and no quotation marks."
    )
    for style, expected in (
        ("chat", (Message("system", instruction), Message("user", "Wo \n ist es?"))),
        ("completion", f"{instruction}\n\nText: Wo ist es?\nIn French:"),
    ):
        tool = translator_engine(engine, target="French", style=style, name="say")
        assert tool.prompt is not None
        assert tool.prompt("Wo \n ist es?", ()) == expected
        assert fields_of(tool)[:4] == ("say", "Translates a text into French.", "text", 256)
    assert translator_engine(engine).description == "Translates a text into English."


def test_the_name_and_the_key_of_a_model() -> None:
    spec = ModelSpec("Seq2SeqLM", "/models/small", None, "0123456789abcdefgh", "float32")
    assert (spec.name, replace(spec, model="org/small", commit="c0").name) == ("small", "org/small")
    assert spec.in_key() == {"model": "", "commit": None, "batch": 0, "max_time": 0.0}
    assert spec.version("one", 2) == f"weights 0123456789abcdef, float32, {PACKAGES}, one, 2"
    assert (spec.device, spec.batch, spec.max_time) == ("auto", 16, 60.0)


class Config:
    max_position_embeddings: int | None = 128


def test_the_limit_of_the_input_is_the_smaller_one() -> None:
    class Model:
        config: Any = Config()

    loaded = LoadedModel(Model(), None, "cpu")
    assert [token_limit(loaded, limit) for limit in (127, 128, 129)] == [127, 128, 128]
    Model.config = object()
    assert token_limit(loaded, 512) == 512


def test_batches_hold_rows_of_similar_length_longest_first() -> None:
    batches: list[list[str]] = []

    def work(batch: Sequence[str]) -> list[str]:
        batches.append([*batch])
        return [text.upper() for text in batch]

    rows = ["a", "bbbb", "cc", "ddd", "e"]
    assert run_in_batches(work, rows, 2, lambda message: message) == ["A", "BBBB", "CC", "DDD", "E"]
    assert batches == [["bbbb", "ddd"], ["cc", "a"], ["e"]]


def test_the_best_result_of_several_windows() -> None:
    assert _best_result([Span(1.0, "a"), Span(3.0, "b"), Span(3.0, "c"), Span(9.0, "")]) == ToolResult("b")
    nothing = ToolResult(error="no_result", detail="the passages contain no span")
    assert _best_result([]) == _best_result([Span(1.0, "")]) == nothing
    failed = Span(0.0, "", "out of memory: CUDA")
    assert _best_result([Span(1.0, "a"), failed]) == ToolResult(error="unavailable", detail="out of memory: CUDA")


def test_the_score_and_the_limits_of_a_span() -> None:
    import torch

    def best(text: str, offsets: list[Any], starts: list[float], ends: list[float], words: int) -> Span:
        return _best_span(Window(0, text, {}, offsets), torch.tensor(starts), torch.tensor(ends), words)

    letters = [(n, n + 1) for n in range(9)]
    assert best("abcdefghi", letters, [9.0] + [0.0] * 8, [0.0] * 8 + [9.0], 1) == Span(9.0, "a"), "4 tokens a word"
    assert best("abcdefghi", letters, [9.0] + [0.0] * 8, [0.0] * 3 + [7.0] + [0.0] * 5, 1) == Span(16.0, "abcd")
    words = [None, (0, 2), (2, 5), (5, 8), None]
    assert best("ab cd ef", words, [9.0, 2.0, 0.0, 0.0, 0.0], [9.0, 0.0, 3.0, 5.0, 0.0], 2) == Span(5.0, "ab cd")
    assert best("ab cd ef", words, [9.0, 2.0, 0.0, 0.0, 0.0], [9.0, 0.0, 3.0, 5.0, 0.0], 3) == Span(7.0, "ab cd ef")
    assert best(" ", [None, (0, 1)], [0.0, 1.0], [0.0, 1.0], 2) == Span(0.0, "", "")


def test_a_model_that_is_loaded_says_what_it_lacks(bert: Path, t5: Path, tmp_path: Path) -> None:
    spec = settings_of(translator(str(t5), device="cpu")).spec
    loaded = load_model(spec)
    assert (loaded.device, loaded.model.training, loaded is load_model(replace(spec, batch=3))) == ("cpu", False, True)
    wrong = settings_of(qa_model(str(bert), search=SEARCH, device="cpu")).spec
    with pytest.raises(InputError, match=rf"^'{re.escape(str(bert))}' cannot be loaded as a model for Seq2SeqLM: "):
        load_model(replace(wrong, head="Seq2SeqLM"))
    shutil.copytree(t5, tmp_path / "empty")
    (tmp_path / "empty" / "tokenizer.json").unlink()
    (tmp_path / "empty" / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer"}')
    empty = settings_of(translator(str(tmp_path / "empty"), device="cpu")).spec
    with pytest.raises(InputError, match=r"as a model for Seq2SeqLM: the vocabulary of the tokenizer is empty$"):
        load_model(empty)
    with pytest.raises(
        InputError, match=r"^the files of .* have changed since the tool was created; create the tool again$"
    ):
        load_model(replace(spec, identity="another"))
