"""Payloads: request bodies match the settings, and every response body becomes a reply that can be stored."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from itertools import chain
from typing import Any

import pytest

from toolrlef_data.engines.openai_api.errors import classify_body
from toolrlef_data.engines.openai_api.payloads import (
    build_body,
    check_spec,
    endpoint_of,
    find_quirks,
    parse_replies,
    parse_reply,
)
from toolrlef_data.engines.reply_store import reply_key
from toolrlef_data.engines.spec import EngineSpec, Message, Request
from toolrlef_data.records import REPLY_ERRORS, InputError, Reply

CHAT = Request(messages=(Message("system", "be short"), Message("user", "1+1?")))
TOOL = json.dumps({"type": "function", "function": {"name": "calculator", "parameters": {"type": "object"}}})


def spec_of(**settings: Any) -> EngineSpec:
    return EngineSpec("openai_api", **{"model": "m", "base_url": "http://localhost:1/v1", **settings})


def sent_body(request: Request, spec: EngineSpec) -> dict[str, Any]:
    return json.loads(build_body(request, spec, find_quirks(spec)))


# Request bodies ---------------------------------------------------------------------------------------------------------


def test_a_chat_and_a_prompt_go_to_different_paths() -> None:
    assert endpoint_of(CHAT) == "/chat/completions"
    assert endpoint_of(Request(prompt="x")) == "/completions"
    assert "prompt" not in sent_body(CHAT, spec_of())
    assert "messages" not in sent_body(Request(prompt="x"), spec_of())
    assert sent_body(Request(prompt=""), spec_of())["prompt"] == ""


@pytest.mark.parametrize(
    ("settings", "expected", "absent"),
    [
        # default values are not sent: strict servers reject unknown parameters
        (
            {},
            {"max_tokens": 128, "temperature": 0.0},
            "top_p top_k repetition_penalty stop seed tools n stream max_completion_tokens",
        ),
        ({"temperature": 0.7}, {"temperature": 0.7, "seed": 5}, "top_p"),  # sampled, with the seed of the row
        ({"top_p": 0.9}, {"top_p": 0.9}, "top_k seed"),
        ({"top_k": 40, "repetition_penalty": 1.1}, {"top_k": 40, "repetition_penalty": 1.1}, "top_p"),
        ({"stop": ("\n\n", "Q:")}, {"stop": ["\n\n", "Q:"]}, ""),
        # reasoning models reject a temperature and have another name for max_tokens
        ({"model": "o3-mini"}, {"max_completion_tokens": 128}, "max_tokens temperature"),
        ({"model": "openai/o1"}, {"max_completion_tokens": 128}, "max_tokens temperature"),
        ({"model": "gpt-5-nano-2025-08-07"}, {"max_completion_tokens": 128}, "max_tokens temperature"),
        ({"model": "GPT-5"}, {"max_completion_tokens": 128}, "max_tokens temperature"),
        ({"model": "gpt-5-chat-latest"}, {"max_tokens": 128, "temperature": 0.0}, "max_completion_tokens"),
        ({"model": "gpt-4o-mini"}, {"max_tokens": 128, "temperature": 0.0}, "max_completion_tokens"),
        ({"model": "olmo-2"}, {"max_tokens": 128}, "max_completion_tokens"),  # only starts with an o
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
        ({"options": {"extra_body": {"temperature": None}}}, {"temperature": None}, ""),  # extra_body has the last word
    ],
)
def test_settings_are_sent(settings: dict[str, Any], expected: dict[str, Any], absent: str) -> None:
    body = sent_body(Request(messages=CHAT.messages, seed=5), spec_of(**settings))
    assert {name: body.get(name) for name in expected} == expected
    assert not set(absent.split()) & set(body)


def test_roles_and_tools_are_sent_unchanged() -> None:
    body = sent_body(Request(messages=CHAT.messages, tools=(TOOL, TOOL)), spec_of())
    assert body["messages"] == [{"role": "system", "content": "be short"}, {"role": "user", "content": "1+1?"}]
    assert body["tools"] == [json.loads(TOOL)] * 2
    renamed = sent_body(CHAT, spec_of(options={"quirks": {"system": "developer"}}))
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


def test_tool_calls_and_tool_outputs_are_sent_in_openais_format() -> None:
    def tool_call(name: str, call_id: str, arguments: str) -> dict[str, Any]:
        return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}

    assert sent_body(CALLS, spec_of())["messages"] == [
        {"role": "user", "content": "1+1?"},
        {  # arguments are text, even if it is not JSON; without text, the content of tool calls is null
            "role": "assistant",
            "content": None,
            "tool_calls": [tool_call("calculator", "c1", '{"x": "1+1"}'), tool_call("look up", "c2", "{broken")],
        },
        {"role": "tool", "content": "2", "tool_call_id": "c1", "name": "calculator"},
        {"role": "tool", "content": "", "tool_call_id": "c2"},
        {"role": "assistant", "content": "I try again.", "tool_calls": [tool_call("calculator", "c3", "{}")]},
    ]
    assert sent_body(Request(messages=(Message("assistant", ""),)), spec_of())["messages"][0]["content"] == ""


def test_plain_messages_keep_their_reply_keys() -> None:
    request = Request(messages=CHAT.messages, tools=('{"a":1}',), sample=2, seed=7)
    assert request.in_key() == {
        "messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "1+1?"}],
        "prompt": "",
        "tools": ['{"a":1}'],
        "sample": 2,
        "seed": 7,
    }
    # The reply key from before messages had tool calls.
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
def test_every_field_of_a_message_is_in_the_reply_key(message: Message) -> None:
    others = [Message("assistant", "x"), Message("assistant", "x", (("c1", "f", "{}"),)), Message("tool", "x")]
    key = Request(messages=(message,)).in_key()
    assert [Request(messages=(other,)).in_key() == key for other in others] == [other == message for other in others]
    assert json.loads(json.dumps(key)) == key


def test_sampled_bodies_are_distinct_and_reproducible() -> None:
    """Equal requests have equal bodies. With a temperature, other samples and rows have other bodies."""
    spec = spec_of(temperature=1.0)
    bodies = {build_body(Request(prompt="x", seed=2**63 + i, sample=s), spec, {}) for i in range(20) for s in range(4)}
    assert len(bodies) >= 20
    assert build_body(Request(prompt="x", seed=9, sample=1), spec, {}) == build_body(
        Request(prompt="x", seed=9, sample=1), spec, {}
    )
    seeds = [json.loads(body)["seed"] for body in bodies]
    assert all(0 <= seed < 2**31 for seed in seeds), "servers store seeds in 32 bits"
    assert build_body(Request(prompt="x", seed=1), spec_of(), {}) == build_body(
        Request(prompt="x", seed=2), spec_of(), {}
    )


@pytest.mark.parametrize("text", ["héllo 中文 🎉", "a\x00b", '"\\\n\t\u2028', "\ufeff", "x" * 1_000_000, ""])
def test_any_text_is_sent_unchanged(text: str) -> None:
    assert sent_body(Request(prompt=text), spec_of())["prompt"] == text
    assert sent_body(Request(messages=(Message("user", text),)), spec_of())["messages"][0]["content"] == text


def test_an_unpaired_surrogate_raises_an_encoding_error() -> None:
    """The caller catches this error, so that only this row fails."""
    for request in (Request(prompt="\ud83d"), Request(messages=(Message("user", "x\udfff"),))):
        with pytest.raises(UnicodeEncodeError):
            build_body(request, spec_of(), {})


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
        {"options": {"quirks": {"drop": "temperature"}}},  # a string: each letter would be a name
        {"options": {"quirks": {"drop": None}}},
        {"options": {"quirks": {"rename": ["max_tokens"]}}},
        {"options": {"quirks": {"rename": {"max_tokens": 5}}}},
        {"options": {"quirks": {"system": 1}}},
        {"options": {"extra_body": {"stream": True}}},  # streaming is not supported
        {"options": {"extra_body": {"n": 2}}},  # the second completion would be paid for and lost
        {"options": {"extra_body": {"model": "other"}}},  # the cache key has the model of the spec
        {"options": {"extra_body": {"messages": []}}},
        {"options": {"extra_body": {"a": {1, 2}}}},  # not JSON: an error before the run, not during it
        {"options": {"extra_body": {"a": float("nan")}}},
        {"options": {"extra_body": {"a": "\ud83d"}}},
    ],
)
def test_unsupported_settings_are_rejected_early(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        check_spec(spec_of(**settings))


# Response bodies ------------------------------------------------------------------------------------------------------


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
        (chat(content="  42\n"), Reply("  42\n")),  # white space belongs to the reply
        (chat(None, content="42"), Reply("42")),  # llama.cpp and others send a null finish reason
        (chat("length", content="4"), Reply("4", finish_reason="length")),
        (chat("max_tokens", content="4"), Reply("4", finish_reason="length")),
        (chat("model_length", content="4"), Reply("4", finish_reason="length")),  # Mistral
        (chat("max_length", content="4"), Reply("4", finish_reason="length")),
        (chat("MAX_TOKENS", content="4"), Reply("4", finish_reason="length")),
        (chat("eos", content="4"), Reply("4")),  # Together
        (chat("stop_sequence", content="4"), Reply("4")),
        (chat("end_turn", content="4"), Reply("4")),
        # all tokens were used for reasoning: empty and truncated
        (chat("length", content=None, reasoning_content="hm"), Reply("", "hm", finish_reason="length")),
        (chat("length"), Reply("", finish_reason="length")),
        (chat(content="42", reasoning_content="6*7"), Reply("42", "6*7")),  # DeepSeek, vLLM, SGLang, llama.cpp
        (chat(content="42", reasoning="6*7"), Reply("42", "6*7")),  # OpenRouter, Groq, newer vLLM
        (chat(content="42", reasoning_content=None, reasoning="6*7"), Reply("42", "6*7")),
        (chat(content="<think>6*7</think>42"), Reply("<think>6*7</think>42")),  # reasoning in the text: split later
        (chat(content=[{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]), Reply("42")),
        # Mistral's reasoning models: thinking parts in the content
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
        # the deprecated function_call
        (
            chat("function_call", function_call={"name": "f", "arguments": "{}"}),
            Reply("", "", (("f", "{}"),), "tool_calls"),
        ),
        (chat("length", tool_calls=[call(arguments='{"x"')]), Reply("", "", (("f", '{"x"'),), "length")),
        (chat(content="42", tool_calls=[]), Reply("42")),
        (chat(content="42", tool_calls=None, function_call=None, refusal=None), Reply("42")),
        (chat(content="42", refusal="I cannot."), Reply("42")),  # a text is an answer
        (
            chat("tool_calls", tool_calls=[call()], refusal="I cannot."),
            Reply("", "", (("f", '{"x": 1}'),), "tool_calls"),
        ),
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
        # invalid token counts that Python accepts as numbers
        ({**chat(content="42"), "usage": {"prompt_tokens": -1, "completion_tokens": True}}, Reply("42")),
        ({**chat(content="42"), "usage": {"prompt_tokens": 10**30, "completion_tokens": "7"}}, Reply("42")),
        ({"choices": [*chat(content="first")["choices"], *chat(content="second")["choices"]]}, Reply("first")),
    ],
)
def test_replies_in_all_formats(body: dict[str, Any], reply: Reply) -> None:
    assert classify_body(body, "") is None
    assert parse_reply(body) == reply


@pytest.mark.parametrize(
    "body",
    [
        chat("content_filter", content="half of"),
        {"choices": [{"index": 0, "finish_reason": "content_filter"}]},  # Azure: without a message
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
def test_a_filtered_reply_has_the_error_content_filter(body: dict[str, Any]) -> None:
    assert classify_body(body, "") is None
    reply = parse_reply(body)
    assert (reply.text, reply.error) == (None, "content_filter")
    assert reply.error_detail


@pytest.mark.parametrize("finish", ["error", "abort", "insufficient_system_resource"])
def test_an_aborted_generation_is_a_failure(finish: str) -> None:
    """OpenRouter, vLLM, SGLang and DeepSeek report it only in the finish reason; a truncated text must not be stored."""
    body = chat(finish, content="The answer is")
    failure = classify_body(body, json.dumps(body))
    assert failure is not None
    assert failure.action == "retry"


@pytest.mark.parametrize(
    ("text", "stop", "finish", "expected", "expected_finish"),
    [
        ("4 apples\nQ: next", ("Q:",), "length", "4 apples\n", "stop"),  # a server that ignores stop strings
        ("4 apples\nQ:", ("Q:",), "stop", "4 apples\n", "stop"),  # a server that includes it in the text
        ("a b c", ("c", "b"), "stop", "a ", "stop"),  # the earliest in the text, not the first in the list
        ("abc", ("x",), "length", "abc", "length"),
        ("abc", ("", "x"), "stop", "abc", "stop"),  # an empty stop string is ignored
        ("Q: at once", ("Q:",), "stop", "", "stop"),
    ],
)
def test_a_text_ends_before_a_stop_string(
    text: str, stop: tuple[str, ...], finish: str, expected: str, expected_finish: str
) -> None:
    for body in (chat(finish, content=text), {"choices": [{"text": text, "finish_reason": finish}]}):
        reply = parse_reply(body, stop)
        assert (reply.text, reply.finish_reason) == (expected, expected_finish)


def test_a_text_that_is_truncated_at_a_stop_string_keeps_its_tool_calls() -> None:
    reply = parse_reply(chat("tool_calls", content="a\nQ:", tool_calls=[call()]), ("Q:",))
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
    """Draw a JSON value with many field names of response bodies."""
    kind = draw.random() if depth else 0.0
    if kind < 0.3:
        return draw.choice(LEAVES)
    if kind < 0.5:
        return [odd_json(draw, depth - 1) for _ in range(draw.randint(0, 2))]
    return {draw.choice(NAMES): odd_json(draw, depth - 1) for _ in range(draw.randint(0, 5))}


def mutated(draw: random.Random, value: Any) -> Any:
    """Return a well-formed response body with a few odd values."""
    if draw.random() < 0.08:
        return odd_json(draw, 2)
    if isinstance(value, dict):
        return {name: mutated(draw, inner) for name, inner in value.items() if draw.random() > 0.05}
    return [mutated(draw, inner) for inner in value] if isinstance(value, list) else value


WELL_FORMED = {
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


def test_every_response_body_is_a_failure_or_a_valid_reply() -> None:
    """A valid reply has a text or an error, known kinds and finish reasons, strings, and 32-bit token counts."""
    num_replies = 0
    for seed in range(12_000):
        draw = random.Random(seed)
        body = mutated(draw, WELL_FORMED) if seed % 3 else odd_json(draw)
        if classify_body(body, json.dumps(body)[:1000]) is not None:
            continue
        reply = parse_reply(body, ("Q:",))
        num_replies += 1
        assert (reply.text is None) == (reply.error is not None), body
        assert reply.error is None or reply.error in REPLY_ERRORS, body
        assert reply.finish_reason in {"stop", "length", "tool_calls"}, body
        assert isinstance(reply.reasoning, str)
        assert isinstance(reply.error_detail, str)
        assert all(isinstance(part, str) for pair in reply.tool_calls for part in pair), body
        for count in (reply.prompt_tokens, reply.completion_tokens):
            assert count is None or (type(count) is int and 0 <= count < 2**31), body
    assert num_replies > 3000, "most mutated bodies are replies"


def nested_bodies(depth: int) -> tuple[str, ...]:
    nested = "[" * depth + "]" * depth
    return (
        '{"choices": [{"message": {"tool_calls": [{"function": {"name": "f", "arguments": ' + nested + "}}]}}]}",
        '{"error": ' + nested + "}",
        '{"choices": [{"message": {"content": "4"}, "error": ' + nested + "}]}",
        nested,
    )


# The maximal depth depends on the current stack, so every depth near the limit is tested.
@pytest.mark.parametrize("depths", [[100], range(800, 1000), [100_000]], ids=str)
def test_deeply_nested_bodies_raise_no_exception(depths: Iterable[int]) -> None:
    for text in chain.from_iterable(map(nested_bodies, depths)):
        try:
            body = json.loads(text)
        except RecursionError:
            body = None  # as in `Session.parse`
        if classify_body(body, text) is None:
            assert parse_reply(body).error is None


def test_seeds_have_31_bits_and_differ_by_sample() -> None:
    spec = EngineSpec("openai_api", "m", temperature=1.0)
    requests = [Request(prompt="x", seed=2**32 - 1, sample=sample) for sample in range(3)]
    assert [json.loads(build_body(request, spec, {}))["seed"] for request in requests] == [2**31 - 1, 0, 1]


def test_the_tokens_of_several_choices_count_once() -> None:
    choices = [{"message": {"content": text}, "finish_reason": "stop"} for text in "abc"]
    body = {"choices": choices, "usage": {"prompt_tokens": 9, "completion_tokens": 8}}
    replies = parse_replies(body, (), 3)
    assert [reply.prompt_tokens for reply in replies] == [9, 0, 0]
    assert [reply.completion_tokens for reply in replies] == [3, 3, 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 4}, "num_beams is not supported by the openai_api engine"),
        (
            {"dtype": "float16", "revision": "v1", "adapter": "lora", "num_beams": 2},
            "num_beams, adapter, revision, dtype are not supported by the openai_api engine",
        ),
        (
            {"options": {"b": 1, "n": True, "a": 1}},
            "openai_api options: expected extra_body, quirks, n; found a, b",
        ),
        ({"options": {"n": 2}}, "openai_api option n: expected true or false, found int"),
        ({"options": {"extra_body": []}}, "openai_api option extra_body: expected a mapping, found list"),
        ({"options": {"quirks": "drop"}}, "openai_api option quirks: expected a mapping, found str"),
        ({"options": {"quirks": {"z": 1, "b": 2}}}, "quirks: expected rename, drop, system; found b, z"),
        ({"options": {"quirks": {"rename": ["a"]}}}, "quirk rename: expected a mapping of parameter names, found ['a']"),
        ({"options": {"quirks": {"rename": {"a": 5}}}}, "quirk rename: expected a mapping of parameter names, found {'a': 5}"),
        ({"options": {"quirks": {"drop": "a"}}}, "quirk drop: expected a list of parameter names, found 'a'"),
        ({"options": {"quirks": {"drop": ["a", 5]}}}, "quirk drop: expected a list of parameter names, found ['a', 5]"),
        ({"options": {"quirks": {"system": 5}}}, "quirk system: expected a role, found 5"),
        (
            {"options": {"extra_body": {"stream": 1, "a": 1, "n": 1, "model": 1, "prompt": 1, "messages": 1}}},
            "extra_body must not contain messages, model, n, prompt, stream: the engine sets these fields",
        ),
        ({"options": {"extra_body": {"a": {1}}}}, "extra_body contains a value that JSON cannot represent"),
    ],
)  # fmt: skip
def test_each_unsupported_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        spec_of(**settings)
    assert str(caught.value) == message


def test_supported_options_are_accepted() -> None:
    quirks = {"rename": {"max_tokens": "limit"}, "drop": ("seed",), "system": "user"}
    options = {"extra_body": {"a": [1, None, "é"]}, "quirks": quirks, "n": False}
    assert dict(spec_of(options=options).options) == options


@pytest.mark.parametrize(
    ("model", "quirks", "merged"),
    [
        ("m", {}, {}),
        ("m", {"drop": ["a", "b", "a"], "system": "user"}, {"drop": ["a", "b"], "system": "user"}),
        ("Org/O3-mini", {}, {"rename": {"max_tokens": "max_completion_tokens"}, "drop": ["temperature", "top_p", "stop"]}),
        ("o0", {}, {}),
        ("gpt-5-chat-latest", {"rename": {"a": "b"}}, {"rename": {"a": "b"}}),
        ("gpt-4.1", {}, {}),
        (
            "gpt-9", {"rename": {"seed": "start", "max_tokens": "limit"}, "drop": ["stop", "n"]},
            {"rename": {"max_tokens": "limit", "seed": "start"}, "drop": ["temperature", "top_p", "stop", "n"]},
        ),
        ("o1", {"drop": []}, {"rename": {"max_tokens": "max_completion_tokens"}, "drop": ["temperature", "top_p", "stop"]}),
    ],
)  # fmt: skip
def test_quirks_of_the_settings_extend_the_known_ones(
    model: str, quirks: dict[str, Any], merged: dict[str, Any]
) -> None:
    assert find_quirks(spec_of(model=model, options={"quirks": quirks} if quirks else {})) == merged


def test_a_body_has_all_settings_in_a_fixed_order() -> None:
    """Servers cache prompts by their beginning, and the batch files of two runs are compared."""
    spec = spec_of(
        temperature=0.5, top_p=0.9, top_k=3, repetition_penalty=1.2, max_tokens=7, stop=("a", "b"),
        options={"extra_body": {"min_p": 0.1, "é": None}},
    )  # fmt: skip
    request = Request(messages=(Message("user", "é?"),), tools=(TOOL,), sample=2, seed=5)
    assert build_body(request, spec, {}, 3).decode() == (
        '{"model":"m","messages":[{"role":"user","content":"é?"}],"max_tokens":7,"temperature":0.5,"seed":7,'
        '"top_p":0.9,"stop":["a","b"],"top_k":3,"repetition_penalty":1.2,"n":3,"tools":['
        '{"type":"function","function":{"name":"calculator","parameters":{"type":"object"}}}],"min_p":0.1,"é":null}'
    )
    sent = json.loads(build_body(request, spec, {"rename": {"n": "best_of"}, "drop": ["seed"]}, 2, {"own": 1}))
    assert {name: sent.get(name) for name in ("best_of", "seed", "n", "own", "min_p")} == {
        "best_of": 2, "seed": None, "n": None, "own": 1, "min_p": None
    }  # fmt: skip
    assert "n" not in json.loads(build_body(request, spec, {}, 1))


def test_malformed_calls_and_choices_are_skipped() -> None:
    calls: list[Any] = [call(), {"function": None}, "f", {"function": {"name": 5}}, call("g", None), call("h", 5)]
    (choice,) = chat("TOOL_CALLS", tool_calls=calls, function_call={"name": "i"}, refusal="no")["choices"]
    body: dict[str, Any] = {"choices": [choice, None, {"text": "8", "finish_reason": "length"}], "usage": {}}
    first, second = parse_replies(body, (), 3)
    assert first == Reply(
        "", "", (("f", '{"x": 1}'), ("g", "{}"), ("h", "5"), ("i", "{}")), "tool_calls", prompt_tokens=None
    )
    assert second == Reply("8", finish_reason="length", prompt_tokens=0)
    assert parse_replies(body, (), 1) == [first]
    shared = parse_reply({**chat("content_filter"), "usage": {"prompt_tokens": 3, "completion_tokens": 2**31 - 1}})
    assert (shared.prompt_tokens, shared.completion_tokens, shared.error_detail) == (
        3, 2**31 - 1, "the server's content filter stopped the reply"
    )  # fmt: skip
    assert parse_reply({**chat(), "usage": {"completion_tokens": 2**31}}).completion_tokens is None


def test_every_text_of_a_reply_is_redacted_before_it_is_cut() -> None:
    body = chat(content="key a STOP key", reasoning="key b", tool_calls=[call("key c", "key d")])
    assert parse_reply(body, ("STOP",), lambda text: text.replace("key", "[key]")) == Reply(
        "[key] a ", "[key] b", (("[key] c", "[key] d"),), "stop"
    )


@pytest.mark.parametrize(
    ("message", "texts"),
    [
        ({"content": ["4", {"text": "2"}, {"image": "x"}, 5, {"text": [{"text": "!"}]}]}, ("42!", "")),
        ({"content": [{"thinking": "6*7"}, {"thinking": [{"text": "?"}]}, "42"]}, ("42", "6*7?")),
        ({"content": 5, "reasoning": {"text": "x"}, "reasoning_content": ""}, ("", "")),
        ({"content": "42", "reasoning_content": "a", "reasoning": "b"}, ("42", "a")),
        ({"content": [{"thinking": "c", "text": "42"}], "reasoning": "b"}, ("42", "b")),
    ],
)
def test_the_text_and_the_reasoning_of_odd_contents(message: dict[str, Any], texts: tuple[str, str]) -> None:
    reply = parse_reply(chat(**message))
    assert (reply.text, reply.reasoning) == texts
