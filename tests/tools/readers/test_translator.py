"""Tests of translation tools: language tokens, batches, detection, limits, memory, and settings."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.models import QUESTIONS, tiny_bert, tiny_m2m100, tiny_nllb, tiny_t5
from toolrlef_data.engines.spec import EngineSpec, Message
from toolrlef_data.records import InputError, MissingExtra, ToolError, ToolResult, UnknownName
from toolrlef_data.tables.fingerprint import canonical
from toolrlef_data.tools.readers import generation, languages, seq2seq
from toolrlef_data.tools.readers.generation import run_in_batches
from toolrlef_data.tools.readers.languages import NLLB_CODES
from toolrlef_data.tools.readers.seq2seq import DEFAULTS, LoadedModel, ModelOptions, load_model
from toolrlef_data.tools.readers.translator import Settings, encode, translator, translator_engine
from toolrlef_data.tools.tool import Tool, ToolInput

FOREIGN = {language: text for language, text in QUESTIONS.items() if language != "en"}
# Texts of several lengths and languages, unsorted.
MIXED = [
    ToolInput(text[: length or None], language)
    for length in (0, 12)
    for language, text in sorted(FOREIGN.items(), key=lambda item: item[1])
]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def m2m100(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_m2m100(tmp_path_factory.mktemp("m2m100") / "model")


@pytest.fixture(scope="module")
def nllb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_nllb(tmp_path_factory.mktemp("nllb") / "model")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_t5(tmp_path_factory.mktemp("plain") / "model")


@pytest.fixture(params=["m2m100", "nllb", "plain"])
def model(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.fixture(params=["m2m100", "nllb"])
def multilingual(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def make_tool(model: Path, **settings: Any) -> Tool:
    return translator(str(model), **{"max_tokens": 10, "device": "cpu", **settings})


def settings_of(tool: Tool) -> Settings:
    assert isinstance(tool.many, partial)
    settings: Settings = tool.many.args[0]
    return settings


class RecordingModel:
    """A wrapper that records the inputs and outputs of a model."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.inputs: list[dict[str, Any]] = []
        self.outputs: list[list[int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def generate(self, **inputs: Any) -> Any:
        self.inputs.append(inputs)
        outputs = self.model.generate(**inputs)
        self.outputs += outputs.tolist()
        return outputs


@pytest.fixture
def record_model(monkeypatch: pytest.MonkeyPatch) -> Callable[[Tool], RecordingModel]:
    def record(tool: Tool) -> RecordingModel:
        loaded = load_model(settings_of(tool).spec)
        recorder = RecordingModel(loaded.model)
        recorded = LoadedModel(recorder, loaded.tokenizer, loaded.device)
        monkeypatch.setattr("toolrlef_data.tools.readers.translator.load_model", lambda spec: recorded)
        return recorder

    return record


TOKENS = {"m2m100": ("__{}__", "__en__"), "nllb": ("{}", "eng_Latn")}


@pytest.mark.parametrize("language", sorted(FOREIGN))
def test_positions_of_the_language_tokens(
    multilingual: Path, language: str, record_model: Callable[[Tool], RecordingModel], request: pytest.FixtureRequest
) -> None:
    tool = make_tool(multilingual)
    recorder = record_model(tool)
    tool.run_many([ToolInput(FOREIGN[language], language)])
    tokenizer = load_model(settings_of(tool).spec).tokenizer
    source, target = TOKENS[request.node.callspec.params["multilingual"]]
    code = NLLB_CODES[language] if source == "{}" else language
    first, *words, last = tokenizer.convert_ids_to_tokens(recorder.inputs[0]["input_ids"][0].tolist())
    assert (first, last) == (source.format(code), "</s>")
    assert words
    # The decoder's start token precedes the forced first token.
    assert tokenizer.convert_ids_to_tokens(recorder.outputs[0])[1] == target


def test_another_target(multilingual: Path, record_model: Callable[[Tool], RecordingModel]) -> None:
    tool = make_tool(multilingual, target="de", source="en")
    recorder = record_model(tool)
    tool.run_many([ToolInput(QUESTIONS["en"])])
    output = load_model(settings_of(tool).spec).tokenizer.convert_ids_to_tokens(recorder.outputs[0])
    assert output[1] in {"__de__", "deu_Latn"}
    assert "de" in tool.description


@pytest.mark.parametrize("batch", [5, 64])
def test_translations_do_not_depend_on_the_batch(model: Path, batch: int) -> None:
    tool = make_tool(model, batch=batch)
    together = tool.run_many(MIXED)
    assert together == [tool.run_many([call])[0] for call in MIXED]
    assert together == tool.run_many(MIXED[::-1])[::-1]
    assert len({result.value for result in together}) > 3, "identical translations would prove nothing"


def test_beam_search_does_not_depend_on_the_batch(m2m100: Path) -> None:
    tool = make_tool(m2m100, num_beams=3)
    assert tool.run_many(MIXED[:6]) == [tool.run_many([call])[0] for call in MIXED[:6]]


def test_the_language_of_the_row_overrides_detection(multilingual: Path) -> None:
    tool, texts = make_tool(multilingual), [FOREIGN["de"], FOREIGN["de"][:20], FOREIGN["de"][::2]]
    expected, wrong = ([tool.run_many([ToolInput(text, code)])[0] for text in texts] for code in ("de", "vi"))
    assert tool.run_many([ToolInput(text) for text in texts[:2]]) == expected[:2]
    assert expected != wrong
    fixed = make_tool(multilingual, source="vi")
    assert [fixed.run_many([ToolInput(text)])[0] for text in texts] == wrong
    assert fixed.run_many([ToolInput(text, "de") for text in texts]) == expected


@pytest.mark.parametrize(
    ("text", "language", "value"),
    [
        (QUESTIONS["en"], "", QUESTIONS["en"]),
        (f"  {QUESTIONS['en']}\n", "en", QUESTIONS["en"]),
        (FOREIGN["de"], "en", FOREIGN["de"]),  # the language of the row is trusted
        (QUESTIONS["en"], "en-GB", QUESTIONS["en"]),
        ("1984?", "", "1984?"),  # nothing to translate
        ("1984 / 2024", "zh", "1984 / 2024"),
    ],
)
def test_texts_that_need_no_translation_load_no_model(
    m2m100: Path, text: str, language: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolrlef_data.tools.readers.translator.load_model", None)
    assert make_tool(m2m100).run_many([ToolInput(text, language)]) == [ToolResult(value)]


def test_invalid_texts_do_not_affect_others(multilingual: Path) -> None:
    tool = make_tool(multilingual, max_input_tokens=100)
    good = ToolInput(FOREIGN["de"], "de")
    invalid = [ToolInput(" \n\t", "de"), ToolInput("Fluss " * 120, "de"), ToolInput("ß" * 10**6, "de")]
    results = tool.run_many([*invalid, good])
    assert [result.error for result in results] == ["empty", "too_large", "too_large", None]
    assert results[3:] == tool.run_many([good])


def test_the_positions_of_the_model_limit_the_input(m2m100: Path) -> None:
    (result,) = make_tool(m2m100).run_many([ToolInput("Fluss " * 150, "de")])
    assert result.error == "too_large"
    assert "at most 128" in result.detail


def test_an_unknown_language_of_a_row(multilingual: Path) -> None:
    unknown, known = make_tool(multilingual).run_many([ToolInput("nuqneH", "tlh"), ToolInput(FOREIGN["de"], "de")])
    assert unknown.error == "unavailable"  # a tool failure: the response did not choose the language
    assert "'tlh'" in unknown.detail
    assert str(multilingual.parent) not in unknown.detail
    assert known.error is None


@pytest.mark.parametrize("setting", [{"target": "tlh"}, {"source": "tlh"}])
def test_an_unknown_language_in_the_settings(multilingual: Path, setting: dict[str, str]) -> None:
    with pytest.raises(InputError, match="tlh"):
        make_tool(multilingual, **setting).run_many([ToolInput(FOREIGN["de"])])


def test_special_tokens_in_an_argument_are_plain_text(multilingual: Path) -> None:
    tokenizer = load_model(settings_of(make_tool(multilingual)).spec).tokenizer
    codes = ("de", "__zh__") if hasattr(tokenizer, "get_lang_id") else ("deu_Latn", "zho_Hans")
    row = encode(tokenizer, f"Wo </s> liegt <pad> {codes[1]} Bern?", codes[0])
    special = {tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.convert_tokens_to_ids(codes[1])}
    assert not special & set(row[:-1])


def test_translations_contain_no_special_tokens(multilingual: Path) -> None:
    for result in make_tool(multilingual, max_tokens=30).run_many(MIXED):
        assert not any(part in str(result.value) for part in ("__", "</s>", "<pad>", "_Latn", "_Hans"))


def test_a_model_is_loaded_once_and_lazily(m2m100: Path) -> None:
    seq2seq._load.cache_clear()
    tool = make_tool(m2m100)
    assert seq2seq._load.cache_info().misses == 0
    tool.run_many(MIXED[:2])
    tool.run_many(MIXED[2:4])
    make_tool(m2m100, max_tokens=5, batch=3).run_many(MIXED[:2])
    assert seq2seq._load.cache_info().misses == 1


def test_time_is_bounded(m2m100: Path) -> None:
    (result,) = make_tool(m2m100, max_time=1e-9).run_many(MIXED[:1])
    assert (result.value, result.error) == (None, "timeout")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"), "cuda"])
def test_out_of_memory_halves_the_batch(error: Exception | str) -> None:
    import torch

    raised = torch.OutOfMemoryError("CUDA out of memory") if isinstance(error, str) else error
    sizes = []

    def work(batch: Any) -> list[str]:
        sizes.append(len(batch))
        if "xxxx" in batch:
            raise raised
        return [text.upper() for text in batch]

    rows = ["a", "xxxx", "bb"]
    assert run_in_batches(work, rows, 5, lambda message: "none") == ["A", "none", "BB"]
    assert sizes == [3, 1, 2]


def test_other_errors_are_raised() -> None:
    def work(batch: Any) -> list[str]:
        raise RuntimeError("index out of range")

    with pytest.raises(RuntimeError, match="index"):
        run_in_batches(work, ["a"], 5, lambda message: "none")


def test_a_model_that_does_not_fit_into_memory(m2m100: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_out_of_memory(spec: Any) -> None:
        raise ToolError("unavailable", "the model does not fit into memory")

    monkeypatch.setattr("toolrlef_data.tools.readers.translator.load_model", raise_out_of_memory)
    assert [result.error for result in make_tool(m2m100).run_many(MIXED[:3])] == ["unavailable"] * 3


def test_the_version_covers_what_determines_a_translation(m2m100: Path, tmp_path: Path) -> None:
    base = make_tool(m2m100)
    for setting in ({"target": "de"}, {"source": "de"}, {"num_beams": 2}, {"max_tokens": 11}, {"dtype": "bfloat16"}):
        assert make_tool(m2m100, **setting).version != base.version, setting
    for option in (
        {"batch": 3},
        {"max_time": 5.0},
        {"device": "auto", "dtype": "float32"},
        {"languages": [*FOREIGN] * 2},
    ):
        assert make_tool(m2m100, **option).version == base.version, option
        assert canonical(make_tool(m2m100, **option).many) == canonical(base.many), option
    moved = shutil.copytree(m2m100, tmp_path / "elsewhere")
    assert canonical(make_tool(moved)) == canonical(base)
    assert str(moved) not in json.dumps(canonical(make_tool(moved)))
    config = moved / "generation_config.json"
    config.write_text(config.read_text("utf-8").replace("{", '{"no_repeat_ngram_size": 2,', 1), "utf-8")
    assert make_tool(moved).version != base.version


def test_changed_weights_are_refused(m2m100: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(m2m100, tmp_path / "moved")
    tool = make_tool(moved)
    (moved / "config.json").write_text((moved / "config.json").read_text("utf-8") + "\n", "utf-8")
    with pytest.raises(InputError, match="changed"):
        tool.run_many(MIXED[:1])


def test_generation_settings_of_the_model_apply(m2m100: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(m2m100, tmp_path / "moved")
    settings = json.loads((moved / "generation_config.json").read_text("utf-8"))
    settings |= {"num_beams": 5, "max_length": 4, "early_stopping": True, "no_repeat_ngram_size": 1}
    (moved / "generation_config.json").write_text(json.dumps(settings), "utf-8")
    results = make_tool(moved).run_many(MIXED[:6])
    assert results != make_tool(m2m100).run_many(MIXED[:6])  # the model's no_repeat_ngram_size applies
    assert max(len(str(result.value)) for result in results) > 6  # its max_length does not
    assert make_tool(moved, num_beams=5).run_many(MIXED[:6]) != results


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"target": "English"}, "language code"),
        ({"source": ""}, "language code"),
        ({"languages": ["German"]}, "language code"),
        ({"languages": []}, "list of language codes"),
        ({"max_tokens": 0}, "at least 1"),
        ({"num_beams": 0}, "at least 1"),
        ({"batch": 0}, "batch"),
        ({"max_time": 0.0}, "max_time"),
        ({"dtype": "int8"}, "dtype"),
        ({"device": "foo"}, "unknown device 'foo'"),
        ({"device": "cuda:x"}, "unknown device"),
        ({"device": "cuda:99"}, "is not available"),
    ],
)
def test_invalid_settings(m2m100: Path, settings: dict[str, Any], error: str) -> None:
    with pytest.raises(InputError, match=error):
        make_tool(m2m100, **settings)


def test_names_and_defaults_of_options(m2m100: Path) -> None:
    assert DEFAULTS.keys() == ModelOptions.__annotations__.keys()
    assert canonical(make_tool(m2m100, **DEFAULTS)) == canonical(translator(str(m2m100), max_tokens=10))
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'devise'; choose from: .*device"):
        make_tool(m2m100, devise="cpu")


def test_a_failed_load_is_not_retried_for_each_input(
    m2m100: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = Path(shutil.copytree(m2m100, tmp_path / "damaged"))
    (weights,) = damaged.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    damaged_tool = make_tool(damaged)
    misses = seq2seq._load.cache_info().misses
    with pytest.raises(InputError, match="cannot be loaded"):
        damaged_tool.run_many(MIXED[:3])
    assert seq2seq._load.cache_info().misses == misses + 1
    tool = make_tool(m2m100)
    monkeypatch.setattr(seq2seq, "_check_device", lambda device: None)
    spec = replace(settings_of(tool).spec, device="cuda:99")  # a device that is no longer available
    with pytest.raises(InputError, match="cannot be moved to the device"):
        load_model(spec)


def test_an_empty_translation_is_a_tool_failure(m2m100: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        generation, "generate_ids", lambda loaded, rows, *_: [[loaded.tokenizer.eos_token_id]] * len(rows)
    )
    (result,) = make_tool(m2m100).run_many(MIXED[:1])
    assert (result.error, result.detail) == ("unavailable", "the model generated no text")


def test_an_unpaired_surrogate_is_replaced(model: Path) -> None:
    tool = make_tool(model)
    invalid, replaced = tool.run_many([ToolInput("wo \ud83d?", "de"), ToolInput("wo \ufffd?", "de")])
    assert invalid == replaced  # a tiny model may generate no text
    assert invalid.error in (None, "unavailable")
    assert tool.run_many([ToolInput("\ud83d\ude00 \udc00", "de")])[0].value == "\U0001f600 \ufffd"


def test_models_without_the_head_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model"):
        make_tool(tmp_path / "none")
    with pytest.raises(InputError, match="Seq2SeqLM"):
        make_tool(tiny_bert(tmp_path / "bert")).run_many(MIXED[:1])


def test_a_missing_detector_names_the_pip_command(m2m100: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    languages._detector.cache_clear()
    tool = make_tool(m2m100)
    with pytest.raises(MissingExtra, match=r"pip install toolrlef-data\[translation\]"):
        tool.run_many([ToolInput(FOREIGN["de"])])
    assert tool.run_many([ToolInput(FOREIGN["de"], "de")])[0].error is None
    assert make_tool(m2m100, source="de").run_many([ToolInput(FOREIGN["de"])])[0].error is None


def test_nllb_codes_outside_the_table(nllb: Path) -> None:
    (result,) = make_tool(nllb).run_many([ToolInput("Peu haba?", "ace_Latn")])
    assert result.error is None


def test_prompts_of_an_engine(nllb: Path) -> None:
    spec = EngineSpec("scripted", "demo")
    tool = translator_engine(spec)
    assert tool.prompt is not None
    messages = tool.prompt(FOREIGN["es"], ())
    assert isinstance(messages[0], Message)
    assert [message.content for message in messages if isinstance(message, Message)][1] == FOREIGN["es"]
    assert "English" in messages[0].content
    assert (tool.engine, tool.many, tool.name, tool.parameter) == (spec, None, "translator", "text")
    for style in ("alpaca", "vicuna", "completion"):
        prompt = translator_engine(spec, style=style, target="French").prompt
        assert prompt is not None
        text = prompt(FOREIGN["es"], ())
        assert FOREIGN["es"] in text
        assert "French" in text
    with pytest.raises(UnknownName, match="style"):
        translator_engine(spec, style="none")
    assert canonical(tool) == canonical(translator_engine(spec)) != canonical(translator_engine(spec, target="German"))
