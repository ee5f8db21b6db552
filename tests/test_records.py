"""Unpaired surrogates: the check, the repair, and the behaviour of the modules that use them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from tests.support.api_server import ApiServer, ServerReply, completion
from toolrlef_data import (
    TASKS,
    EngineSpec,
    Function,
    Responder,
    answer,
    build_stage1,
    build_stage2,
    execute,
    generate_trajectories,
    grade,
    ledger,
    load_source,
    load_trice,
    respond,
    scripted,
    search_endpoint,
    trajectories,
    wiki_search,
)
from toolrlef_data.columns import QUESTIONS
from toolrlef_data.engines.database.rows import TRANSIENT_ERRORS
from toolrlef_data.engines.reply_store import ReplyStore
from toolrlef_data.loading_scripts.fields import escape_surrogates
from toolrlef_data.records import (
    CALL_ERRORS,
    FINAL_ERRORS,
    NO_RESPONSE_ERRORS,
    REPLY_ERRORS,
    RETRYABLE_ERRORS,
    TOOL_ERRORS,
    TOOL_FAILURES,
    Drop,
    Reply,
    ToolResult,
    clean_text,
    is_text,
)
from toolrlef_data.toolbench.answer_file import check_step
from toolrlef_data.tools.functions.arguments import read_arguments
from toolrlef_data.tools.functions.execution import truncate
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
        (lambda text, _: truncate(text), "half \ufffd"),
        (lambda text, _: escape_surrogates(text), "half \\ud83d"),
    ],
)  # fmt: skip
def test_a_text_with_an_unpaired_surrogate_is_rejected_or_repaired(
    run: Callable[..., Any], outcome: Any, tmp_path: Path
) -> None:
    assert run(UNPAIRED, tmp_path) == outcome


# Every path of a text into a table -------------------------------------------------------------------------------------
# Each function below brings `UNPAIRED` into tables by one path, and returns these tables.

ARGUMENTS = json.dumps({"formula": UNPAIRED})
QUESTION = {"id": "a", "task": "math", "dataset": "x", "question": "How many?", "context": "", "answers": ["7"], "solution": "", "split_origin": "train"}  # fmt: skip


def quiet(reply: Any) -> EngineSpec:
    return scripted(reply if callable(reply) else {"": reply}, progress=False)


def _wrong() -> Dataset:
    return grade(answer(Dataset.from_list([QUESTION], features=QUESTIONS), quiet("0")))


def _responded(reply: Reply | str) -> Dataset:
    stage1 = build_stage1(_wrong(), quiet("calculator(3+4)"))
    return respond(stage1, [Responder("other", quiet(reply), protocol="tools")])


def _reply(folder: Path) -> list[Dataset]:
    answered = answer(Dataset.from_list([QUESTION], features=QUESTIONS), quiet(Reply(UNPAIRED, reasoning=UNPAIRED)))
    return [answered, build_stage2(_responded(UNPAIRED))]


def _served_reply(folder: Path) -> list[Dataset]:
    with ApiServer(lambda received, repeats: completion(UNPAIRED)) as server:
        engine = EngineSpec("openai_api", "m", base_url=server.url, progress=False)
        return [answer(Dataset.from_list([QUESTION], features=QUESTIONS), engine)]


def _call(folder: Path) -> list[Dataset]:
    return [build_stage2(_responded(Reply("", tool_calls=(("calculator", ARGUMENTS),))))]


def _written_call(folder: Path) -> list[Dataset]:
    """Return the arguments alone: the text of a call in JSON has the escape, as it was written."""
    rows = [execute(_responded(text))["other"][0] for text in (f"calculator({ARGUMENTS})", f"calculator({UNPAIRED})")]
    return [Dataset.from_list([{name: row[name] for name in ("argument", "arguments")}]) for row in rows]


def _unreadable_call(folder: Path) -> list[Dataset]:
    return [build_stage2(_responded(Reply("", tool_calls=(("calculator", UNPAIRED),))))]


def _teacher(folder: Path) -> list[Dataset]:
    shout = replace(TASKS["math"], tool=Tool("calculator", "", lambda formula: 7))
    return [build_stage1(_wrong(), quiet(f"calculator({UNPAIRED}+1+2)"), task=shout)]


def _tool_value(folder: Path) -> list[Dataset]:
    return [
        execute(
            _responded("calculator(1+2)"), task=replace(TASKS["math"], tool=Tool("calculator", "", lambda _: UNPAIRED))
        )
    ]


def _passage(tool: Tool) -> list[Dataset]:
    task = replace(TASKS["math"], tool=replace(tool, name="calculator"))
    return [execute(_responded("calculator(half)"), task=task)]


def _served_passage(folder: Path) -> list[Dataset]:
    with ApiServer(lambda received, repeats: ServerReply(body={"topk": [{"text": UNPAIRED}]})) as server:
        return _passage(search_endpoint(f"{server.url}/search"))


def _corpus(folder: Path) -> list[Dataset]:
    (folder / "corpus.jsonl").write_text(json.dumps({"title": UNPAIRED, "text": UNPAIRED}))
    return _passage(wiki_search(folder / "corpus.jsonl"))


def _reader(folder: Path) -> list[Dataset]:
    task = replace(TASKS["qa"], name="mine", tool=Tool("calculator", "", lambda _: "passage"), reader=quiet(UNPAIRED))
    return [execute(_responded("calculator(half)").map(lambda row: {"task": "mine"}), task=task)]


FINISH = {"name": "Finish", "arguments": json.dumps({"return_type": "give_answer", "final_answer": "done"})}


def _search(request: Any) -> Reply:
    if any(message.role == "assistant" for message in request.messages):
        return Reply(UNPAIRED, tool_calls=((FINISH["name"], FINISH["arguments"]),))
    return Reply(UNPAIRED, tool_calls=(("ping", "{}"),))


def _observation(folder: Path) -> list[Dataset]:
    nothing = {"type": "object", "properties": {}, "required": []}
    ping = Function("ping", "Asks.", nothing, lambda: UNPAIRED)
    answers = generate_trajectories(["Is it up?"], [ping], quiet(_search))
    return [answers, trajectories(answers)]


def _source_row(folder: Path) -> list[Dataset]:
    rows = [{"question": UNPAIRED, "answer": "#### 7"}, {"question": "How many?", "answer": "#### 7"}]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return [ledger([load_source("gsm8k", split="train", data_dir=folder)])]


def _trice_row(folder: Path) -> list[Dataset]:
    rows = [
        {"instruction": TASKS["math"].instruction, "input": "How many?", "output": text} for text in ("7", UNPAIRED)
    ]
    (folder / "stage1" / "math").mkdir(parents=True)
    (folder / "stage1" / "math" / "math.json").write_text("\n".join(map(json.dumps, rows)))
    return [ledger(list(load_trice(folder)["math"].values()))]


def _answer_file(folder: Path) -> list[Dataset]:
    messages = [
        {"role": "user", "content": "Is it up?"},
        {"role": "assistant", "content": UNPAIRED, "function_call": FINISH},
    ]
    generation = {"query": "Is it up?", "function": [{"name": "Finish"}], "train_messages": [messages], "valid_data": True, "finish_type": "give_answer"}  # fmt: skip
    (folder / "1.json").write_text(json.dumps({"win": True, "answer_generation": generation}))
    return [ledger([trajectories(load_source("toolbench", data_dir=folder))])]


@pytest.mark.parametrize(
    "path",
    [
        *(_reply, _served_reply, _call, _written_call, _unreadable_call, _teacher),
        *(_tool_value, _served_passage, _corpus, _reader, _observation),
    ],
)
def test_a_text_that_is_returned_is_in_the_table_with_a_replacement(
    path: Callable[[Path], list[Dataset]], tmp_path: Path
) -> None:
    for table in path(tmp_path):
        text = json.dumps(table[:], ensure_ascii=False)
        assert "\ufffd" in text or "\\ufffd" in text
        assert "ud83d" not in text
        assert "half ?" not in text


@pytest.mark.parametrize("path", [_source_row, _trice_row, _answer_file])
def test_a_row_of_a_file_is_dropped(path: Callable[[Path], list[Dataset]], tmp_path: Path) -> None:
    (dropped,) = path(tmp_path)
    assert dropped["reason"][:] == ["not_unicode"]


def test_which_errors_are_final() -> None:
    """Literal lists: a kind that becomes final is stored, and no later run sends its request or call again."""
    assert sorted(RETRYABLE_ERRORS) == [
        *("connection", "not_found", "out_of_memory", "rate_limit", "rejected", "server", "timeout"),
    ]
    assert sorted(FINAL_ERRORS) == ["bad_request", "content_filter", "refused", "too_long"]
    assert sorted(NO_RESPONSE_ERRORS) == ["cut_off", "empty"]
    assert sorted(TOOL_FAILURES) == ["crashed", "http", "reader", "timeout", "unavailable"]
    assert sorted(CALL_ERRORS) == [
        *("domain", "empty", "incomplete_call", "invalid_value", "no_result", "overflow", "syntax", "too_large"),
        *("unknown_name", "unreadable_call", "wrong_arguments", "zero_division"),
    ]
    assert REPLY_ERRORS == RETRYABLE_ERRORS | FINAL_ERRORS
    assert TOOL_ERRORS == CALL_ERRORS | TOOL_FAILURES
    assert TRANSIENT_ERRORS == RETRYABLE_ERRORS | TOOL_FAILURES
    assert not TRANSIENT_ERRORS & (FINAL_ERRORS | CALL_ERRORS)
