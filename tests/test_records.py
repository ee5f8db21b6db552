"""Unpaired surrogates: the check, the repair, and the behaviour of the modules that use them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolrlef_data.engines.reply_store import ReplyStore
from toolrlef_data.loading_scripts.fields import escape_surrogates
from toolrlef_data.records import Drop, Reply, ToolResult, clean_text, is_text
from toolrlef_data.toolbench.answer_file import check_step
from toolrlef_data.tools.functions.arguments import read_arguments
from toolrlef_data.tools.functions.function import truncate
from toolrlef_data.tools.search.corpus import open_corpus
from toolrlef_data.tools.tool import Tool

UNPAIRED = "half \ud83d"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        *((text, text) for text in ("", "plain", "\x00", "Zürich 中文 \U0001f41f", "\ufffd", "\ufeffmark\ufeff")),
        (UNPAIRED, "half \ufffd"),
        ("\udc1f half", "\ufffd half"),
        ("a\udfffb\ud83dc", "a\ufffdb\ufffdc"),
        ("\udc1f\ud83d", "\ufffd\ufffd"),  # in the wrong order
        ("\ud83d\ud83d\udc1f", "\ufffd\U0001f41f"),
        ("\ud83d\udc1f", "\U0001f41f"),  # a pair is not a character before it is joined
    ],
)
def test_unpaired_surrogates_are_detected_and_replaced(text: str, clean: str) -> None:
    assert is_text(text) == (text == clean)
    assert clean_text(text) == clean
    assert is_text(clean)
    assert json.loads(clean_text(json.dumps([text], ensure_ascii=False))) == [clean], (
        "JSON text can be cleaned without parsing"
    )


@pytest.mark.parametrize("value", [None, 5, b"bytes", ["text"], Path("text")])
def test_only_strings_are_text(value: object) -> None:
    assert not is_text(value)


def _stored(text: str, folder: Path) -> Any:
    store = ReplyStore(folder / "replies.sqlite")
    store.put([("key", Reply(text, error_detail=text))])
    return store.get(["key"])["key"]


def _in_corpus(text: str, folder: Path) -> Any:
    (folder / "corpus.jsonl").write_text(json.dumps({"title": text, "text": "rivers"}))
    (piece,) = open_corpus(folder / "corpus.jsonl")()
    return piece["title"].to_pylist()


MESSAGES = [{"role": "assistant", "function_call": {"name": "ping", "arguments": UNPAIRED}}]


@pytest.mark.parametrize(
    ("run", "outcome"),
    [
        (_stored, Reply("half \ufffd", error_detail="half \ufffd")),
        (_in_corpus, ["half \ufffd"]),
        (lambda text, _: Tool("t", "", lambda _: text).run(""), ToolResult("half \ufffd")),
        (lambda text, _: Tool("t", "", lambda _: (text,)).run(""), ToolResult(("half \ufffd",))),
        (lambda text, _: read_arguments(json.dumps({text: 1}), "{}"), "the arguments are no JSON: half a character (a lone surrogate)"),
        (lambda text, _: check_step(MESSAGES), Drop("not_unicode", "a text has an unpaired surrogate")),
        # Published tables and stored keys depend on these two.
        (lambda text, _: truncate(text), "half ?"),
        (lambda text, _: escape_surrogates(text), "half \\ud83d"),
    ],
)  # fmt: skip
def test_a_text_with_an_unpaired_surrogate_is_rejected_or_repaired(
    run: Callable[..., Any], outcome: Any, tmp_path: Path
) -> None:
    assert run(UNPAIRED, tmp_path) == outcome
