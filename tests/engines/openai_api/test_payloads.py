"""Bodies: what is sent is what the settings say, and whatever a server sends becomes a reply that can be stored."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from itertools import chain
from typing import Any

import pytest

from toolrlef_data.engines.openai_api.errors import fault_in
from toolrlef_data.engines.openai_api.payloads import body_of, check_spec, path_of, quirks_of, reply_from
from toolrlef_data.engines.reply_store import reply_key
from toolrlef_data.engines.spec import EngineSpec, Message, Request
from toolrlef_data.records import REPLY_ERRORS, InputError, Reply

CHAT = Request(messages=(Message("system", "be short"), Message("user", "1+1?")))
TOOL = json.dumps({"type": "function", "function": {"name": "calculator", "parameters": {"type": "object"}}})


def spec_of(**settings: Any) -> EngineSpec:
    return EngineSpec("openai_api", **{"model": "m", "base_url": "http://localhost:1/v1", **settings})


def sent(request: Request, spec: EngineSpec) -> dict[str, Any]:
    return json.loads(body_of(request, spec, quirks_of(spec)))


# What is sent ---------------------------------------------------------------------------------------------------------


def test_a_chat_and_a_prompt_go_to_different_paths() -> None:
    assert path_of(CHAT) == "/chat/completions"
    assert path_of(Request(prompt="x")) == "/completions"
    assert "prompt" not in sent(CHAT, spec_of())
    assert "messages" not in sent(Request(prompt="x"), spec_of())
    assert sent(Request(prompt=""), spec_of())["prompt"] == ""


@pytest.mark.parametrize(
    ("settings", "names", "absent"),
    [
        # defaults that a server has anyway are not sent: strict servers refuse what they do not know
        (
            {},
            {"max_tokens": 128, "temperature": 0.0},
            "top_p top_k repetition_penalty stop seed tools n stream max_completion_tokens",
        ),
        ({"temperature": 0.7}, {"temperature": 0.7, "seed": 5}, "top_p"),  # sampled: the seed of the row
        ({"top_p": 0.9}, {"top_p": 0.9}, "top_k seed"),
        ({"top_k": 40, "repetition_penalty": 1.1}, {"top_k": 40, "repetition_penalty": 1.1}, "top_p"),
        ({"stop": ("\n\n", "Q:")}, {"stop": ["\n\n", "Q:"]}, ""),
        # reasoning models refuse a temperature and want another name for the limit
        ({"model": "o3-mini"}, {"max_completion_tokens": 128}, "max_tokens temperature"),
        ({"model": "openai/o1"}, {"max_completion_tokens": 128}, "max_tokens temperature"),
        ({"model": "gpt-5-nano-2025-08-07"}, {"max_completion_tokens": 128}, "max_tokens temperature"),
        ({"model": "GPT-5"}, {"max_completion_tokens": 128}, "max_tokens temperature"),
        ({"model": "gpt-5-chat-latest"}, {"max_tokens": 128, "temperature": 0.0}, "max_completion_tokens"),
        ({"model": "gpt-4o-mini"}, {"max_tokens": 128, "temperature": 0.0}, "max_completion_tokens"),
        ({"model": "olmo-2"}, {"max_tokens": 128}, "max_completion_tokens"),  # begins with an o only
        ({"model": "gpt-oss-20b"}, {"max_tokens": 128, "temperature": 0.0}, "max_completion_tokens"),
        (
            {"options": {"quirks": {"rename": {"max_tokens": "max_new_tokens"}, "drop": ["temperature"]}}},
            {"max_new_tokens": 128},
            "max_tokens temperature",
        ),
        (
            {"options": {"extra_body": {"min_p": 0.1, "deep": {"a": [1]}}}},
            {"min_p": 0.1, "deep": {"a": [1]}},
            "extra_body",
        ),
        ({"options": {"extra_body": {"temperature": None}}}, {"temperature": None}, ""),  # the user's word is the last
    ],
)
def test_settings_are_sent(settings: dict[str, Any], names: dict[str, Any], absent: str) -> None:
    body = sent(Request(messages=CHAT.messages, seed=5), spec_of(**settings))
    assert {name: body.get(name) for name in names} == names
    assert not set(absent.split()) & set(body)


def test_roles_and_tools_are_sent_as_they_are() -> None:
    body = sent(Request(messages=CHAT.messages, tools=(TOOL, TOOL)), spec_of())
    assert body["messages"] == [{"role": "system", "content": "be short"}, {"role": "user", "content": "1+1?"}]
    assert body["tools"] == [json.loads(TOOL)] * 2
    renamed = sent(CHAT, spec_of(options={"quirks": {"system": "developer"}}))
    assert [message["role"] for message in renamed["messages"]] == ["developer", "user"]


CALLS = Request(
    messages=(
        Message("user", "1+1?"),
        Message("assistant", "", (("c1", "calculator", '{"x": "1+1"}'), ("c2", "look up", "{broken"))),
        Message("tool", "2", tool_call_id="c1", name="calculator"),
        Message("tool", "", tool_call_id="c2"),
        Message("assistant", "I try again.", (("c3", "calculator", "{}"),)),
    )
)


def test_calls_and_their_results_are_sent_the_way_of_openai() -> None:
    def called(name: str, call: str, arguments: str) -> dict[str, Any]:
        return {"id": call, "type": "function", "function": {"name": name, "arguments": arguments}}

    assert sent(CALLS, spec_of())["messages"] == [
        {"role": "user", "content": "1+1?"},
        {  # arguments are text there, also where they are no JSON; beside calls "no content" is null
            "role": "assistant",
            "content": None,
            "tool_calls": [called("calculator", "c1", '{"x": "1+1"}'), called("look up", "c2", "{broken")],
        },
        {"role": "tool", "content": "2", "tool_call_id": "c1", "name": "calculator"},
        {"role": "tool", "content": "", "tool_call_id": "c2"},
        {"role": "assistant", "content": "I try again.", "tool_calls": [called("calculator", "c3", "{}")]},
    ]
    assert sent(Request(messages=(Message("assistant", ""),)), spec_of())["messages"][0]["content"] == ""


def test_plain_messages_keep_the_keys_of_their_stored_replies() -> None:
    request = Request(messages=CHAT.messages, tools=('{"a":1}',), sample=2, seed=7)
    assert request.in_key() == {
        "messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "1+1?"}],
        "prompt": "",
        "tools": ['{"a":1}'],
        "sample": 2,
        "seed": 7,
    }
    # As it was before messages had calls.
    assert reply_key({"m": "x"}, {"t": 0.0}, request.in_key()) == "c24d202f5ad1cabf7430fb44c1f1a367"


@pytest.mark.parametrize(
    "message",
    [
        Message("assistant", "x"),
        Message("assistant", "x", (("c1", "f", "{}"),)),
        Message("assistant", "x", (("c2", "f", "{}"),)),
        Message("assistant", "x", (("c1", "g", "{}"),)),
        Message("assistant", "x", (("c1", "f", '{"a": 1}'),)),
        Message("assistant", "x", (("c1", "f", "{}"), ("c1", "f", "{}"))),
        Message("assistant", "x", tool_call_id="c1"),
        Message("assistant", "x", name="c1"),
    ],
)
def test_every_field_of_a_message_is_in_its_key(message: Message) -> None:
    others = [Message("assistant", "x"), Message("assistant", "x", (("c1", "f", "{}"),)), Message("tool", "x")]
    mine = Request(messages=(message,)).in_key()
    assert [Request(messages=(other,)).in_key() == mine for other in others] == [other == message for other in others]
    assert json.loads(json.dumps(mine)) == mine


def test_samples_differ_and_repeat() -> None:
    """The same request twice is the same body; another sample or row is another one, where a seed means something."""
    spec = spec_of(temperature=1.0)
    bodies = {body_of(Request(prompt="x", seed=2**63 + i, sample=s), spec, {}) for i in range(20) for s in range(4)}
    assert len(bodies) >= 20
    assert body_of(Request(prompt="x", seed=9, sample=1), spec, {}) == body_of(
        Request(prompt="x", seed=9, sample=1), spec, {}
    )
    seeds = [json.loads(body)["seed"] for body in bodies]
    assert all(0 <= seed < 2**31 for seed in seeds), "servers keep a seed in 32 bits"
    assert body_of(Request(prompt="x", seed=1), spec_of(), {}) == body_of(Request(prompt="x", seed=2), spec_of(), {})


@pytest.mark.parametrize("text", ["héllo 中文 🎉", "a\x00b", '"\\\n\t\u2028', "\ufeff", "x" * 1_000_000, ""])
def test_any_text_arrives_whole(text: str) -> None:
    assert sent(Request(prompt=text), spec_of())["prompt"] == text
    assert sent(Request(messages=(Message("user", text),)), spec_of())["messages"][0]["content"] == text


def test_a_lone_surrogate_is_told_apart() -> None:
    """It is no character: the row fails by itself, which takes an error of its own kind."""
    for request in (Request(prompt="\ud83d"), Request(messages=(Message("user", "x\udfff"),))):
        with pytest.raises(UnicodeEncodeError):
            body_of(request, spec_of(), {})


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 4},
        {"adapter": "lora"},
        {"revision": "main"},
        {"dtype": "float16"},
        {"options": {"extra": {}}},  # a misspelt option
        {"options": {"extra_body": ["min_p"]}},
        {"options": {"quirks": {"renames": {}}}},
        {"options": {"quirks": "drop"}},
        {"options": {"quirks": {"drop": "temperature"}}},  # text: each letter would be a name
        {"options": {"quirks": {"drop": None}}},
        {"options": {"quirks": {"rename": ["max_tokens"]}}},
        {"options": {"quirks": {"rename": {"max_tokens": 5}}}},
        {"options": {"quirks": {"system": 1}}},
        {"options": {"extra_body": {"stream": True}}},  # a stream is not read
        {"options": {"extra_body": {"n": 2}}},  # the second one would be paid for and lost
        {"options": {"extra_body": {"model": "other"}}},  # the cache key would name another model
        {"options": {"extra_body": {"messages": []}}},
        {"options": {"extra_body": {"a": {1, 2}}}},  # no JSON: told before the run, not in the middle of it
        {"options": {"extra_body": {"a": float("nan")}}},
        {"options": {"extra_body": {"a": "\ud83d"}}},
    ],
)
def test_what_no_server_can_do_is_refused_at_once(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        check_spec(spec_of(**settings))


# What comes back ------------------------------------------------------------------------------------------------------


def chat(finish: Any = "stop", **message: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}]}


def call(name: Any = "f", arguments: Any = '{"x": 1}') -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("body", "reply"),
    [
        (chat(content="42"), Reply("42")),
        ({"choices": [{"text": "42", "finish_reason": "stop"}]}, Reply("42")),  # text completions
        ({"choices": [{"text": "42", "message": None}]}, Reply("42")),
        (chat(content=""), Reply("")),
        (chat(content="  42\n"), Reply("  42\n")),  # white space is the model's
        (chat(None, content="42"), Reply("42")),  # llama.cpp and others leave the reason null
        (chat("length", content="4"), Reply("4", finish_reason="length")),
        (chat("max_tokens", content="4"), Reply("4", finish_reason="length")),
        (chat("eos", content="4"), Reply("4")),  # Together
        (chat("stop_sequence", content="4"), Reply("4")),
        (chat("end_turn", content="4"), Reply("4")),
        # all tokens went into thinking: empty, and cut off
        (chat("length", content=None, reasoning_content="hm"), Reply("", "hm", finish_reason="length")),
        (chat("length"), Reply("", finish_reason="length")),
        (chat(content="42", reasoning_content="6*7"), Reply("42", "6*7")),  # DeepSeek, vLLM, SGLang, llama.cpp
        (chat(content="42", reasoning="6*7"), Reply("42", "6*7")),  # OpenRouter, Groq, newer vLLM
        (chat(content="42", reasoning_content=None, reasoning="6*7"), Reply("42", "6*7")),
        (chat(content="<think>6*7</think>42"), Reply("<think>6*7</think>42")),  # inside the text: split later
        (chat(content=[{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]), Reply("42")),
        # Mistral's thinking models: thoughts are a part of the content
        (
            chat(
                content=[
                    {"type": "thinking", "thinking": [{"type": "text", "text": "6*7"}]},
                    {"type": "text", "text": "42"},
                ]
            ),
            Reply("42", "6*7"),
        ),
        (chat(content=[]), Reply("")),
        (chat("tool_calls", content=None, tool_calls=[call()]), Reply("", "", (("f", '{"x": 1}'),), "tool_calls")),
        # servers that send arguments as an object
        (chat("tool_calls", tool_calls=[call(arguments={"x": 1})]), Reply("", "", (("f", '{"x": 1}'),), "tool_calls")),
        (chat("tool_calls", tool_calls=[call(arguments={})]), Reply("", "", (("f", "{}"),), "tool_calls")),
        (chat("tool_calls", tool_calls=[call(arguments="")]), Reply("", "", (("f", ""),), "tool_calls")),
        (chat("tool_calls", tool_calls=[call(arguments="{broken")]), Reply("", "", (("f", "{broken"),), "tool_calls")),
        (
            chat("tool_calls", content="so", tool_calls=[call(), call("g", "{}")]),
            Reply("so", "", (("f", '{"x": 1}'), ("g", "{}")), "tool_calls"),
        ),
        # the first form of the protocol
        (
            chat("function_call", function_call={"name": "f", "arguments": "{}"}),
            Reply("", "", (("f", "{}"),), "tool_calls"),
        ),
        (chat("length", tool_calls=[call(arguments='{"x"')]), Reply("", "", (("f", '{"x"'),), "length")),
        (chat(content="42", tool_calls=[]), Reply("42")),
        (chat(content="42", tool_calls=None, function_call=None, refusal=None), Reply("42")),
        (chat(content=None, refusal="I cannot."), Reply(None, error="refused", error_detail="I cannot.")),
        (
            {**chat(content="42"), "usage": {"prompt_tokens": 3, "completion_tokens": 1}},
            Reply("42", prompt_tokens=3, completion_tokens=1),
        ),
        ({**chat(content="42"), "usage": None}, Reply("42")),
        ({**chat(content="42"), "usage": {"prompt_tokens": 3}}, Reply("42", prompt_tokens=3)),
        (
            {**chat(content="42"), "usage": {"prompt_tokens": 0, "completion_tokens": 0}},
            Reply("42", prompt_tokens=0, completion_tokens=0),
        ),
        # no count of tokens, though Python takes them for numbers
        ({**chat(content="42"), "usage": {"prompt_tokens": -1, "completion_tokens": True}}, Reply("42")),
        ({**chat(content="42"), "usage": {"prompt_tokens": 10**30, "completion_tokens": "7"}}, Reply("42")),
        ({"choices": [*chat(content="first")["choices"], *chat(content="second")["choices"]]}, Reply("first")),
    ],
)
def test_replies_of_all_shapes(body: dict[str, Any], reply: Reply) -> None:
    assert fault_in(body, "") is None
    assert reply_from(body) == reply


@pytest.mark.parametrize(
    "body",
    [
        chat("content_filter", content="half of"),
        {"choices": [{"index": 0, "finish_reason": "content_filter"}]},  # Azure: no message at all
        {
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "content_filter",
                    "message": {"role": "assistant"},
                    "content_filter_results": {},
                }
            ]
        },
        {"choices": [{"text": "", "finish_reason": "content_filter"}]},
    ],
)
def test_a_filtered_reply_is_an_error_of_its_kind(body: dict[str, Any]) -> None:
    assert fault_in(body, "") is None
    reply = reply_from(body)
    assert (reply.text, reply.error) == (None, "content_filter")
    assert reply.error_detail


@pytest.mark.parametrize("finish", ["error", "abort", "insufficient_system_resource"])
def test_a_reply_that_the_server_gave_up_is_not_a_whole_one(finish: str) -> None:
    """OpenRouter, vLLM and SGLang, DeepSeek say so in the finish reason alone; half a text would be stored for good."""
    body = chat(finish, content="The answer is")
    fault = fault_in(body, json.dumps(body))
    assert fault is not None
    assert fault.action == "again"


@pytest.mark.parametrize(
    ("text", "stop", "finish", "cut", "ends"),
    [
        ("4 apples\nQ: next", ("Q:",), "length", "4 apples\n", "stop"),  # a server that knows no stop strings
        ("4 apples\nQ:", ("Q:",), "stop", "4 apples\n", "stop"),  # one that keeps it in the text
        ("a b c", ("c", "b"), "stop", "a ", "stop"),  # the earliest, not the first of the list
        ("abc", ("x",), "length", "abc", "length"),
        ("abc", ("", "x"), "stop", "abc", "stop"),  # an empty one cuts nothing
        ("Q: at once", ("Q:",), "stop", "", "stop"),
    ],
)
def test_a_text_ends_before_a_stop_string(text: str, stop: tuple[str, ...], finish: str, cut: str, ends: str) -> None:
    for body in (chat(finish, content=text), {"choices": [{"text": text, "finish_reason": finish}]}):
        reply = reply_from(body, stop)
        assert (reply.text, reply.finish_reason) == (cut, ends)


def test_a_cut_text_keeps_its_calls() -> None:
    reply = reply_from(chat("tool_calls", content="a\nQ:", tool_calls=[call()]), ("Q:",))
    assert (reply.text, reply.tool_calls, reply.finish_reason) == ("a\n", (("f", '{"x": 1}'),), "tool_calls")


NAMES = (
    *("choices", "message", "content", "text", "finish_reason", "tool_calls", "function_call", "function", "name"),
    *("arguments", "usage", "prompt_tokens", "completion_tokens", "reasoning", "reasoning_content", "refusal", "error"),
    *("code", "status", "type", "detail", "param", "metadata", "raw", "thinking", "0", ""),
)
LEAVES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 7, 429, 10**30, 0.5, -0.0, 1e308, float("inf"), float("nan")),
    *("", "stop", "length", "content_filter", "429", "{}", "[", "null", "a\x00b", "\ud83d", "é", "insufficient_quota"),
)


def odd_json(draw: random.Random, depth: int = 5) -> Any:
    """Any value that `json.loads` gives, rich in the names that a reply has."""
    kind = draw.random() if depth else 0.0
    if kind < 0.3:
        return draw.choice(LEAVES)
    if kind < 0.5:
        return [odd_json(draw, depth - 1) for _ in range(draw.randint(0, 2))]
    return {draw.choice(NAMES): odd_json(draw, depth - 1) for _ in range(draw.randint(0, 5))}


def mutated(draw: random.Random, value: Any) -> Any:
    """A well-formed answer with odd values in a few places."""
    if draw.random() < 0.08:
        return odd_json(draw, 2)
    if isinstance(value, dict):
        return {name: mutated(draw, inner) for name, inner in value.items() if draw.random() > 0.05}
    return [mutated(draw, inner) for inner in value] if isinstance(value, list) else value


WHOLE = {
    "id": "x",
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "text": "4",
            "message": {
                "role": "assistant",
                "content": [{"type": "text", "text": "42"}],
                "reasoning_content": "6*7",
                "reasoning": "6*7",
                "refusal": None,
                "tool_calls": [call(), call(arguments={"a": [1, {"b": None}]})],
                "function_call": {"name": "f", "arguments": "{}"},
            },
            "finish_reason": "stop",
            "logprobs": {"content": []},
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    "error": None,
}


def test_no_answer_of_a_server_breaks_it() -> None:
    """Whatever JSON comes is a fault, or a reply that is whole: text or error, known words, strings, counts that fit."""
    replies = 0
    for case in range(12_000):
        draw = random.Random(case)
        body = mutated(draw, WHOLE) if case % 3 else odd_json(draw)
        fault = fault_in(body, json.dumps(body)[:1000])
        if fault is not None:
            continue
        reply = reply_from(body, ("Q:",))
        replies += 1
        assert (reply.text is None) == (reply.error is not None), body
        assert reply.error is None or reply.error in REPLY_ERRORS, body
        assert reply.finish_reason in {"stop", "length", "tool_calls"}, body
        assert isinstance(reply.reasoning, str)
        assert isinstance(reply.error_detail, str)
        assert all(isinstance(part, str) for pair in reply.tool_calls for part in pair), body
        for count in (reply.prompt_tokens, reply.completion_tokens):
            assert count is None or (type(count) is int and 0 <= count < 2**31), body
    assert replies > 3000, "most mutations are still replies"


def deep_answers(depth: int) -> tuple[str, ...]:
    deep = "[" * depth + "]" * depth
    return (
        '{"choices": [{"message": {"tool_calls": [{"function": {"name": "f", "arguments": ' + deep + "}}]}}]}",
        '{"error": ' + deep + "}",
        '{"choices": [{"message": {"content": "4"}, "error": ' + deep + "}]}",
        deep,
    )


# How deep is just readable depends on the stack of who reads, so every depth near the limit is tried.
@pytest.mark.parametrize("depths", [[100], range(800, 1000), [100_000]], ids=str)
def test_a_deep_answer_breaks_nothing(depths: Iterable[int]) -> None:
    """Arguments and errors that are nested as deep as JSON may be."""
    for text in chain.from_iterable(map(deep_answers, depths)):
        try:
            body = json.loads(text)
        except RecursionError:
            body = None  # as the engine does
        if fault_in(body, text) is None:
            assert reply_from(body).error is None
