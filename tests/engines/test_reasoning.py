"""Reasoning of each format is separated from the response, and scripts answer as their documentation says."""

from __future__ import annotations

from typing import Any

import pytest

from toolrlef_data.columns import RESPONSE
from toolrlef_data.engines.responses import build_request, build_response, split_reasoning
from toolrlef_data.engines.scripted import ScriptedEngine, scripted
from toolrlef_data.engines.spec import Message, Request
from toolrlef_data.records import InputError, Reply, ScriptExhausted

TAGS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("◁think▷", "◁/think▷"),
    ("[THINK]", "[/THINK]"),
]


@pytest.mark.parametrize(("start", "end"), TAGS)
def test_each_pair_of_tags_encloses_the_reasoning(start: str, end: str) -> None:
    assert split_reasoning(f"\n {start} 7+5 {end} 12 ") == ("7+5", "12")
    assert split_reasoning(f"{start} 7+5 is ") == ("7+5 is", ""), "it was cut off"
    assert split_reasoning(f" 7+5 {end} 12 ") == ("7+5", "12"), "the first tag is part of the prompt"
    assert split_reasoning(f"12 {start}") == ("", f"12 {start}"), "only a text that begins with it"


MESSAGE = "<|message|>"


@pytest.mark.parametrize(
    ("text", "reasoning", "remaining"),
    [
        ("<|channel|>final<|message|>12", "", "12"),
        ("<|channel|>final<|constrain|>json<|message|> 12 <|end|> \n", "", "12"),
        ("<|channel|>final<|message|>12<|return|>", "", "12"),
        ("<|channel|>final<|message|>12<|call|>", "", "12<|call|>"),
        ("<|channel|>analysis<|message|>a<|end|><|channel|>commentary<|message|>b<|end|><|channel|>final<|message|>c", "ab", "c"),
        ("<|channel|>commentary to=f<|message|>{}", "", "<|channel|>commentary to=f<|message|>{}"),
        ("<|channel|>analysis to=f<|message|>{}", "", "<|channel|>analysis to=f<|message|>{}"),
        ("<|start|>assistant to=f<|channel|>x", "", "<|start|>assistant to=f<|channel|>x"),
        ("<|start|>assistant<|channel|>analysis to=f", "", "<|start|>assistant<|channel|>analysis to=f"),
        # the final message stands before the call
        (
            "<|channel|>final<|message|>12<|end|><|channel|>commentary to=f<|message|>{}", "",
            "12<|end|><|channel|>commentary to=f<|message|>{}",
        ),
        (" <|channel|>analysis<|message|>hm ", "<|channel|>analysis<|message|>hm", ""),
        ("<|channel|>commentary<|message|>hm", "", "<|channel|>commentary<|message|>hm"),
        (" 12 ", "", "12"),
        ("", "", ""),
    ],
)  # fmt: skip
def test_reasoning_of_the_harmony_format(text: str, reasoning: str, remaining: str) -> None:
    assert split_reasoning(text) == (reasoning, remaining)


def test_a_request_has_messages_or_a_prompt() -> None:
    messages = (Message("user", "1+1?"),)
    assert build_request(messages, ("{}",)) == Request(messages=messages, tools=("{}",))
    assert build_request("1+1=", ("{}",)) == Request(prompt="1+1=", tools=("{}",))
    assert (build_request("1+1=").tools, build_request(messages).tools) == ((), ())


@pytest.mark.parametrize(
    ("reply", "options", "fields"),
    [
        (None, {"text": "gold"}, {"text": "gold", "raw": "gold", "reasoning": "", "finish_reason": "stop"}),
        (
            Reply(" <think>7+5</think> 12 ", "first", (), "length", None, "", 9, 4), {},
            {"text": "12", "raw": " <think>7+5</think> 12 ", "reasoning": "first\n7+5", "finish_reason": "length",
             "prompt_tokens": 9, "completion_tokens": 4},
        ),
        (
            Reply("<think>a</think> b ", "r"), {"strip_reasoning": False},
            {"text": "<think>a</think> b", "raw": "<think>a</think> b ", "reasoning": "r", "finish_reason": "stop"},
        ),
        (
            Reply("<think>a</think>b", finish_reason="tool_calls"), {"text": "f(1)"},
            {"text": "f(1)", "raw": "<think>a</think>b", "reasoning": "a", "finish_reason": "tool_calls"},
        ),
        (Reply("<think>a</think>b"), {"text": ""}, {"text": "", "raw": "<think>a</think>b", "reasoning": "a", "finish_reason": "stop"}),
        (
            Reply(None, "r", (), "length", "timeout", "30 s", 9, 4), {"text": "f(1)"},
            {"error": "timeout", "error_detail": "30 s", "prompt_tokens": 9, "completion_tokens": 4},
        ),
        (Reply(""), {}, {"text": "", "raw": "", "reasoning": "", "finish_reason": "stop"}),
    ],
)  # fmt: skip
def test_the_response_of_a_reply(reply: Reply | None, options: dict[str, Any], fields: dict[str, Any]) -> None:
    assert build_response(reply, **options) == {**dict.fromkeys(RESPONSE), "predictions": [], **fields}


# Scripts --------------------------------------------------------------------------------------------------------------


def shout(request: Request) -> str | Reply:
    return request.prompt.upper() if request.prompt != "no" else Reply(None, error="refused")


def answers(script: Any, *requests: Request | str) -> list[Reply]:
    engine = ScriptedEngine(scripted(script))
    pairs = [(f"{n}", Request(prompt=r) if isinstance(r, str) else r) for n, r in enumerate(requests)]
    with engine as opened:
        batches = list(opened.generate(iter(pairs)))
    assert [tag for ((tag, _),) in batches] == [tag for tag, _ in pairs]
    return [reply for ((_, reply),) in batches]


def test_a_script_is_a_sequence_a_mapping_or_a_function() -> None:
    failure = Reply(None, error="timeout")
    assert answers(("one", failure, "two"), "a", "b", "c") == [Reply("one"), failure, Reply("two")]
    assert answers(shout, "a", "no") == [Reply("A"), Reply(None, error="refused")]
    chat = Request(messages=(Message("system", "figs"), Message("user", "pears and plums")), prompt="figs")
    assert answers({"figs": "1", "pears": "2", "plums": failure, "": "0"}, chat, "figs", "x") == [
        failure,
        Reply("1"),
        Reply("0"),
    ]
    assert answers({"": "0", "a": "1"}, "a") == [Reply("1")], (
        "the empty key is the default, also at the start of a text"
    )
    specs = [scripted(script) for script in (["one"], {"a": "1"}, shout)]
    assert [(spec.kind, spec.model) for spec in specs] == [
        ("scripted", "sequence"), ("scripted", "mapping"), ("scripted", "shout")
    ]  # fmt: skip
    assert [ScriptedEngine(spec).stats() for spec in specs] == [{}] * 3
    assert scripted(["one"], temperature=0.5).temperature == 0.5


def test_scripts_with_other_replies_have_other_identities() -> None:
    scripts: list[Any] = [["one"], ["two"], ["one", "two"], {"a": "one"}, {"b": "one"}, {"a": "two"}, shout]
    identities = [ScriptedEngine(scripted(script)).identity() for script in scripts]
    assert len({identity["script"] for identity in identities}) == len(scripts)
    assert {identity["kind"] for identity in identities} == {"scripted"}
    assert [identity["model"] for identity in identities[2::4]] == ["sequence", "shout"]
    assert identities[0] == ScriptedEngine(scripted(("one",), temperature=0.5)).identity()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("one", "a sequence of replies, a mapping or a function, found a single text"),
        (5, "a sequence of replies, a mapping or a function, found int"),
        ({"one"}, "a sequence of replies, a mapping or a function, found set"),
        (None, "a sequence of replies, a mapping or a function, found NoneType"),
    ],
)
def test_no_other_script_is_accepted(script: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        scripted(script)


def test_an_exhausted_script_names_what_was_asked() -> None:
    with pytest.raises(ScriptExhausted, match=r"the script has only 1 replies, but the stage sent another request"):
        answers(["one"], "a", "b")
    with pytest.raises(ScriptExhausted) as caught:
        answers({"figs": "1"}, "x" * 50 + "y" * 80)
    assert str(caught.value) == f"no key of the script occurs in the request ending in {'y' * 80!r}"
