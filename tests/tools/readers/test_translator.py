"""The translator: languages reach the model as its tokenizer has them, and a batch translates as each text alone."""

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
from toolrlef_data.tools.readers import languages, seq2seq
from toolrlef_data.tools.readers.languages import NLLB_CODES
from toolrlef_data.tools.readers.seq2seq import DEFAULTS, Loaded, ModelOptions, in_batches, load
from toolrlef_data.tools.readers.translator import Settings, encode, translator, translator_engine
from toolrlef_data.tools.tool import Tool, ToolInput

FOREIGN = {language: text for language, text in QUESTIONS.items() if language != "en"}
# Of several lengths and languages, in no order.
MIXED = [
    ToolInput(text[: cut or None], language)
    for cut in (0, 12)
    for language, text in sorted(FOREIGN.items(), key=lambda each: each[1])
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
    found: Path = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["m2m100", "nllb"])
def multilingual(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


def make(model: Path, **settings: Any) -> Tool:
    return translator(str(model), **{"max_tokens": 10, "device": "cpu", **settings})


def settings_of(tool: Tool) -> Settings:
    assert isinstance(tool.many, partial)
    found: Settings = tool.many.args[0]
    return found


class Watched:
    """Stands before a model, and writes down what is asked of it."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.asked: list[dict[str, Any]] = []
        self.written: list[list[int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def generate(self, **asked: Any) -> Any:
        self.asked.append(asked)
        found = self.model.generate(**asked)
        self.written += found.tolist()
        return found


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[[Tool], Watched]:
    def watch(tool: Tool) -> Watched:
        loaded = load(settings_of(tool).spec)
        seen = Watched(loaded.model)
        both = Loaded(seen, loaded.tokenizer, loaded.device)
        monkeypatch.setattr("toolrlef_data.tools.readers.translator.load", lambda spec: both)
        return seen

    return watch


TOKENS = {"m2m100": ("__{}__", "__en__"), "nllb": ("{}", "eng_Latn")}


@pytest.mark.parametrize("language", sorted(FOREIGN))
def test_source_and_target_stand_where_the_model_expects_them(
    multilingual: Path, language: str, watched: Callable[[Tool], Watched], request: pytest.FixtureRequest
) -> None:
    tool = make(multilingual)
    seen = watched(tool)
    tool.run_many([ToolInput(FOREIGN[language], language)])
    tokenizer = load(settings_of(tool).spec).tokenizer
    source, target = TOKENS[request.node.callspec.params["multilingual"]]
    code = NLLB_CODES[language] if source == "{}" else language
    first, *words, last = tokenizer.convert_ids_to_tokens(seen.asked[0]["input_ids"][0].tolist())
    assert (first, last) == (source.format(code), "</s>")
    assert words
    # the decoder's start token, then the language that is forced
    assert tokenizer.convert_ids_to_tokens(seen.written[0])[1] == target


def test_another_target(multilingual: Path, watched: Callable[[Tool], Watched]) -> None:
    tool = make(multilingual, target="de", source="en")
    seen = watched(tool)
    tool.run_many([ToolInput(QUESTIONS["en"])])
    written = load(settings_of(tool).spec).tokenizer.convert_ids_to_tokens(seen.written[0])
    assert written[1] in {"__de__", "deu_Latn"}
    assert "de" in tool.description


@pytest.mark.parametrize("batch", [5, 64])
def test_a_batch_translates_as_each_text_alone_in_order(model: Path, batch: int) -> None:
    tool = make(model, batch=batch)
    together = tool.run_many(MIXED)
    assert together == [tool.run_many([each])[0] for each in MIXED]
    assert together == tool.run_many(MIXED[::-1])[::-1]
    assert len({result.value for result in together}) > 3, "texts that all translate the same prove nothing"


def test_beams_do_not_depend_on_the_batch_either(m2m100: Path) -> None:
    tool = make(m2m100, num_beams=3)
    assert tool.run_many(MIXED[:6]) == [tool.run_many([each])[0] for each in MIXED[:6]]


def test_the_language_of_the_row_beats_the_one_seen(multilingual: Path) -> None:
    tool, texts = make(multilingual), [FOREIGN["de"], FOREIGN["de"][:20], FOREIGN["de"][::2]]
    told, wrong = ([tool.run_many([ToolInput(text, code)])[0] for text in texts] for code in ("de", "vi"))
    assert tool.run_many([ToolInput(text) for text in texts[:2]]) == told[:2]
    assert told != wrong
    fixed = make(multilingual, source="vi")
    assert [fixed.run_many([ToolInput(text)])[0] for text in texts] == wrong
    assert fixed.run_many([ToolInput(text, "de") for text in texts]) == told


@pytest.mark.parametrize(
    ("text", "language", "value"),
    [
        (QUESTIONS["en"], "", QUESTIONS["en"]),
        (f"  {QUESTIONS['en']}\n", "en", QUESTIONS["en"]),
        (FOREIGN["de"], "en", FOREIGN["de"]),  # the row is believed
        (QUESTIONS["en"], "en-GB", QUESTIONS["en"]),
        ("1984?", "", "1984?"),  # nothing to translate
        ("1984 / 2024", "zh", "1984 / 2024"),
    ],
)
def test_what_is_in_the_target_language_stays_and_needs_no_model(
    m2m100: Path, text: str, language: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolrlef_data.tools.readers.translator.load", None)
    assert make(m2m100).run_many([ToolInput(text, language)]) == [ToolResult(value)]


def test_texts_of_other_sizes_cost_only_themselves(multilingual: Path) -> None:
    tool = make(multilingual, max_input_tokens=100)
    good = ToolInput(FOREIGN["de"], "de")
    bad = [ToolInput(" \n\t", "de"), ToolInput("Fluss " * 120, "de"), ToolInput("ß" * 10**6, "de")]
    results = tool.run_many([*bad, good])
    assert [result.error for result in results] == ["empty", "too_large", "too_large", None]
    assert results[3:] == tool.run_many([good])


def test_a_model_has_positions_for_so_many_tokens(m2m100: Path) -> None:
    (result,) = make(m2m100).run_many([ToolInput("Fluss " * 150, "de")])
    assert result.error == "too_large"
    assert "at most 128" in result.detail


def test_a_language_that_the_model_does_not_know(multilingual: Path) -> None:
    unknown, known = make(multilingual).run_many([ToolInput("nuqneH", "tlh"), ToolInput(FOREIGN["de"], "de")])
    assert unknown.error == "unavailable"  # the row's language is no fault of a response
    assert "'tlh'" in unknown.detail
    assert str(multilingual.parent) not in unknown.detail
    assert known.error is None


@pytest.mark.parametrize("setting", [{"target": "tlh"}, {"source": "tlh"}])
def test_a_setting_that_the_model_does_not_know_stops(multilingual: Path, setting: dict[str, str]) -> None:
    with pytest.raises(InputError, match="tlh"):
        make(multilingual, **setting).run_many([ToolInput(FOREIGN["de"])])


def test_special_tokens_in_an_argument_are_plain_text(multilingual: Path) -> None:
    tokenizer = load(settings_of(make(multilingual)).spec).tokenizer
    codes = ("de", "__zh__") if hasattr(tokenizer, "get_lang_id") else ("deu_Latn", "zho_Hans")
    row = encode(tokenizer, f"Wo </s> liegt <pad> {codes[1]} Bern?", codes[0])
    ours = {tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.convert_tokens_to_ids(codes[1])}
    assert not ours & set(row[:-1])


def test_no_special_token_stands_in_a_translation(multilingual: Path) -> None:
    for result in make(multilingual, max_tokens=30).run_many(MIXED):
        assert not any(sign in str(result.value) for sign in ("__", "</s>", "<pad>", "_Latn", "_Hans"))


def test_a_model_is_loaded_once_and_only_when_it_is_needed(m2m100: Path) -> None:
    seq2seq._load.cache_clear()
    tool = make(m2m100)
    assert seq2seq._load.cache_info().misses == 0
    tool.run_many(MIXED[:2])
    tool.run_many(MIXED[2:4])
    make(m2m100, max_tokens=5, batch=3).run_many(MIXED[:2])
    assert seq2seq._load.cache_info().misses == 1


def test_time_is_bounded(m2m100: Path) -> None:
    (result,) = make(m2m100, max_time=1e-9).run_many(MIXED[:1])
    assert (result.value, result.error) == (None, "timeout")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"), "cuda"])
def test_memory_that_runs_out_halves_the_batch(error: Exception | str) -> None:
    import torch

    raised = torch.OutOfMemoryError("CUDA out of memory") if isinstance(error, str) else error
    sizes = []

    def work(batch: Any) -> list[str]:
        sizes.append(len(batch))
        if "xxxx" in batch:
            raise raised
        return [text.upper() for text in batch]

    rows = ["a", "xxxx", "bb"]
    assert in_batches(work, rows, 5, lambda detail: "none") == ["A", "none", "BB"]
    assert sizes == [3, 1, 2]


def test_other_errors_are_not_taken_for_memory() -> None:
    def work(batch: Any) -> list[str]:
        raise RuntimeError("index out of range")

    with pytest.raises(RuntimeError, match="index"):
        in_batches(work, ["a"], 5, lambda detail: "none")


def test_a_model_that_does_not_fit_is_unavailable(m2m100: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(spec: Any) -> None:
        raise ToolError("unavailable", "the model does not fit into memory")

    monkeypatch.setattr("toolrlef_data.tools.readers.translator.load", full)
    assert [result.error for result in make(m2m100).run_many(MIXED[:3])] == ["unavailable"] * 3


def test_the_version_changes_with_what_decides_a_translation(m2m100: Path, tmp_path: Path) -> None:
    base = make(m2m100)
    for setting in ({"target": "de"}, {"source": "de"}, {"num_beams": 2}, {"max_tokens": 11}, {"dtype": "bfloat16"}):
        assert make(m2m100, **setting).version != base.version, setting
    for same in (
        {"batch": 3},
        {"max_time": 5.0},
        {"device": "auto", "dtype": "float32"},
        {"languages": [*FOREIGN] * 2},
    ):
        assert make(m2m100, **same).version == base.version, same
        assert canonical(make(m2m100, **same).many) == canonical(base.many), same
    moved = shutil.copytree(m2m100, tmp_path / "elsewhere")
    assert canonical(make(moved)) == canonical(base)
    assert str(moved) not in json.dumps(canonical(make(moved)))
    config = moved / "generation_config.json"
    config.write_text(config.read_text("utf-8").replace("{", '{"no_repeat_ngram_size": 2,', 1), "utf-8")
    assert make(moved).version != base.version


def test_weights_that_change_under_a_tool_are_refused(m2m100: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(m2m100, tmp_path / "moved")
    tool = make(moved)
    (moved / "config.json").write_text((moved / "config.json").read_text("utf-8") + "\n", "utf-8")
    with pytest.raises(InputError, match="changed"):
        tool.run_many(MIXED[:1])


def test_the_models_own_generation_settings_hold(m2m100: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(m2m100, tmp_path / "moved")
    settings = json.loads((moved / "generation_config.json").read_text("utf-8"))
    settings |= {"num_beams": 5, "max_length": 4, "early_stopping": True, "no_repeat_ngram_size": 1}
    (moved / "generation_config.json").write_text(json.dumps(settings), "utf-8")
    results = make(moved).run_many(MIXED[:6])
    assert results != make(m2m100).run_many(MIXED[:6])  # no token twice
    assert max(len(str(result.value)) for result in results) > 6  # our length and beams, not the model's
    assert make(moved, num_beams=5).run_many(MIXED[:6]) != results


@pytest.mark.parametrize(
    ("settings", "why"),
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
        ({"device": "cuda:99"}, "is not there"),
    ],
)
def test_settings_out_of_range_are_refused_at_once(m2m100: Path, settings: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        make(m2m100, **settings)


def test_options_are_known_by_name_and_have_defaults(m2m100: Path) -> None:
    assert DEFAULTS.keys() == ModelOptions.__annotations__.keys()
    assert canonical(make(m2m100, **DEFAULTS)) == canonical(translator(str(m2m100), max_tokens=10))
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'devise'; choose from: .*device"):
        make(m2m100, devise="cpu")


def test_a_model_is_not_loaded_again_for_each_input_after_a_failure(
    m2m100: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn = Path(shutil.copytree(m2m100, tmp_path / "torn"))
    (weights,) = torn.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    tool = make(torn)
    before = seq2seq._load.cache_info().misses
    with pytest.raises(InputError, match="cannot be loaded"):
        tool.run_many(MIXED[:3])
    assert seq2seq._load.cache_info().misses == before + 1
    there = make(m2m100)
    monkeypatch.setattr(seq2seq, "_check_device", lambda device: None)
    gone = replace(settings_of(there).spec, device="cuda:99")  # as on a machine that has lost it since
    with pytest.raises(InputError, match="cannot be put onto the device"):
        load(gone)


def test_a_model_that_writes_nothing_is_at_fault_itself(m2m100: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seq2seq, "generate", lambda loaded, rows, *_: [[loaded.tokenizer.eos_token_id]] * len(rows))
    (result,) = make(m2m100).run_many(MIXED[:1])
    assert (result.error, result.detail) == ("unavailable", "the model wrote no text")


def test_half_a_character_costs_nothing(model: Path) -> None:
    tool = make(model)
    half, whole = tool.run_many([ToolInput("wo \ud83d?", "de"), ToolInput("wo \ufffd?", "de")])
    assert half == whole  # which a tiny model may leave blank
    assert half.error in (None, "unavailable")
    assert tool.run_many([ToolInput("\ud83d\ude00 \udc00", "de")])[0].value == "\U0001f600 \ufffd"


def test_models_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model"):
        make(tmp_path / "none")
    with pytest.raises(InputError, match="Seq2SeqLM"):
        make(tiny_bert(tmp_path / "bert")).run_many(MIXED[:1])


def test_without_the_detector_the_command_is_named(m2m100: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    languages._detector.cache_clear()
    tool = make(m2m100)
    with pytest.raises(MissingExtra, match=r"pip install toolrlef-data\[translation\]"):
        tool.run_many([ToolInput(FOREIGN["de"])])
    assert tool.run_many([ToolInput(FOREIGN["de"], "de")])[0].error is None
    assert make(m2m100, source="de").run_many([ToolInput(FOREIGN["de"])])[0].error is None


def test_nllbs_own_codes_reach_languages_beyond_the_table(nllb: Path) -> None:
    (result,) = make(nllb).run_many([ToolInput("Peu haba?", "ace_Latn")])
    assert result.error is None


def test_an_engine_translates(nllb: Path) -> None:
    spec = EngineSpec("scripted", "demo")
    tool = translator_engine(spec)
    assert tool.prompt is not None
    messages = tool.prompt(FOREIGN["es"], ())
    assert isinstance(messages[0], Message)
    assert [each.content for each in messages if isinstance(each, Message)][1] == FOREIGN["es"]
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
