"""Failures: error bodies of real servers, and what they mean for the request, the API key and the run.

Each error body has the format of the server named next to it. A temporary failure or a key's failure must not become a
final error of a row: a final error is stored, and no later run sends the request again.
"""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tests.engines.openai_api.test_payloads import odd_json
from toolrlef_data.engines.openai_api.errors import Failure, classify_body, classify_status
from toolrlef_data.records import FINAL_ERRORS, REPLY_ERRORS, RETRYABLE_ERRORS

ACTIONS = {"retry", "pause_key", "disable_key", "check_key", "final"}


def openai(message: str, code: str | None = None, type: str = "invalid_request_error") -> str:
    return json.dumps({"error": {"message": message, "type": type, "param": None, "code": code}})


def vllm(message: str, code: int, type: str = "BadRequestError") -> str:
    """vLLM up to 0.10 and SGLang: the body is the error object."""
    return json.dumps({"object": "error", "message": message, "type": type, "param": None, "code": code})


def llama_cpp(message: str, code: int, type: str) -> str:
    return json.dumps({"error": {"code": code, "message": message, "type": type}})


def anthropic(message: str, type: str) -> str:
    return json.dumps({"type": "error", "error": {"type": type, "message": message}, "request_id": "req_1"})


def openrouter(message: str, code: int, **metadata: Any) -> str:
    return json.dumps({"error": {"message": message, "code": code, "metadata": metadata}, "user_id": "user_1"})


def google(message: str, code: int, status: str, *details: dict[str, Any]) -> str:
    """Google's OpenAI-compatible server: the body is a list with one item."""
    return json.dumps([{"error": {"code": code, "message": message, "status": status, "details": details}}])


GEMINI_RATE = google(
    "You exceeded your current quota, please check your plan and billing details. For more information on this error, "
    "head to the docs.\n* Quota exceeded for metric: generate_content_free_tier_requests, limit: 10\nPlease retry in 34.07s.",
    429,
    "RESOURCE_EXHAUSTED",
    {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}],
    },
    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"},
)
RATE_LIMITS = {
    "OpenAI, requests": openai("Rate limit reached for gpt-4o in organization org-x on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 20s.", "rate_limit_exceeded", "requests"),
    "OpenAI, tokens": openai("Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000. Please try again in 2s. Visit https://platform.openai.com/account/rate-limits to learn more.", "rate_limit_exceeded", "tokens"),
    # an ordinary rate limit of a free account mentions a payment method and links to billing
    "OpenAI, free": openai("Rate limit reached for gpt-3.5-turbo on requests per min. Limit: 3 / min. Please try again in 20s. Contact us through our help center if you continue to have issues. Please add a payment method to your account to increase your rate limit. Visit https://platform.openai.com/account/billing to add a payment method.", None, "requests"),
    "Azure": json.dumps({"error": {"code": "429", "message": "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-02-01 have exceeded call rate limit of your current OpenAI S0 pricing tier. Please retry after 6 seconds. Please go here: https://aka.ms/oai/quotaincrease if you would like to further increase the default rate limit."}}),
    "Azure, tokens": json.dumps({"error": {"code": "RateLimitReached", "message": "Your requests to gpt-4o in East US have exceeded the token rate limit for your current S0 pricing tier. Please retry after 60 seconds."}}),
    "Anthropic": anthropic("This request would exceed your organization's rate limit of 40,000 input tokens per minute.", "rate_limit_error"),
    "OpenRouter, free models": openrouter("Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day", 429, headers={"X-RateLimit-Remaining": "0"}),
    "OpenRouter, upstream": openrouter("Provider returned error", 429, raw="some/model is temporarily rate-limited upstream. Please retry shortly."),
    # a per-minute limit that mentions quota, plan and billing, with the time of the next retry
    "Gemini, a minute": GEMINI_RATE,
    "Vertex": google("Resource exhausted. Please try again later.", 429, "RESOURCE_EXHAUSTED"),
    # a limit on tokens per minute, not an overlong prompt
    "Bedrock": json.dumps({"message": "Too many tokens, please wait before trying again."}),
    "Groq": openai("Rate limit reached for model `llama` in organization `org_x` on tokens per minute (TPM): Limit 6000, Used 5900, Requested 500. Please try again in 4.1s. Need more tokens? Upgrade to Dev Tier today at https://console.groq.com/settings/billing", "rate_limit_exceeded", "tokens"),
    "Mistral": json.dumps({"object": "error", "message": "Requests rate limit exceeded", "type": "rate_limited", "param": None, "code": "1300"}),
    "Mistral, capacity": json.dumps({"object": "error", "message": "Service tier capacity exceeded for this model.", "type": "service_tier_capacity_exceeded", "param": None, "code": "3505"}),
    "Together": json.dumps({"error": {"message": "You have been rate limited. Your rate limit is 60 queries per minute.", "type": "model_rate_limit"}}),
    "a proxy, HTML": "<html><head><title>429 Too Many Requests</title></head></html>",
    "empty body": "",
}  # fmt: skip


@pytest.mark.parametrize("name", RATE_LIMITS)
def test_a_rate_limit_pauses_the_key(name: str) -> None:
    failure = classify_status(429, RATE_LIMITS[name])
    assert (failure.kind, failure.action) == ("rate_limit", "pause_key"), failure


QUOTA_ERRORS = {
    "OpenAI": (429, openai("You exceeded your current quota, please check your plan and billing details. For more information on this error, read the docs.", "insufficient_quota", "insufficient_quota")),
    "OpenAI, hard limit": (429, openai("Billing hard limit has been reached", "billing_hard_limit_reached")),
    "OpenAI, hard limit with 400": (400, openai("Billing hard limit has been reached", "billing_hard_limit_reached")),
    "OpenAI, not active": (429, openai("Your account is not active, please check your billing details on our website.", "billing_not_active", "billing_not_active")),
    # Anthropic sends status 400, which must not become a final error of every row
    "Anthropic": (400, anthropic("Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.", "invalid_request_error")),
    "OpenRouter": (402, openrouter("Insufficient credits. Add more using https://openrouter.ai/settings/credits", 402)),
    "OpenRouter, key limit": (403, openrouter("Key limit exceeded (total limit). Manage it using https://openrouter.ai/settings/keys", 403)),
    "DeepSeek": (402, openai("Insufficient Balance", "invalid_request_error", "unknown_error")),
    "Moonshot": (429, json.dumps({"error": {"message": "Your account is suspended, please check your plan and billing details", "type": "exceeded_current_quota_error"}})),
    "xAI": (429, json.dumps({"code": "Some resource has been exhausted", "error": "Your team x has either used all available credits or reached its monthly spending limit. To continue making API requests, please purchase more credits or raise your spending limit."})),
    "Hugging Face": (402, json.dumps({"error": "You have exceeded your monthly included credits for Inference Providers."})),
    "empty body": (402, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", QUOTA_ERRORS)
def test_an_exhausted_quota_disables_the_key(name: str) -> None:
    assert classify_status(*QUOTA_ERRORS[name]).action == "disable_key"


@pytest.mark.parametrize(
    "text",
    [
        openai("Incorrect API key provided: sk-abcd***wxyz.", "invalid_api_key"),
        anthropic("invalid x-api-key", "authentication_error"),
        json.dumps({"error": {"code": "401", "message": "Access denied due to invalid subscription key or wrong API endpoint."}}),
        json.dumps({"message": "Unauthorized", "request_id": "1"}),
        json.dumps({"error": "Unauthorized"}),  # vLLM with --api-key
        json.dumps({"detail": "Not authenticated"}),
        openrouter("No auth credentials found", 401),
        "Unauthorized",
        "",
    ],
)  # fmt: skip
def test_an_unknown_key_is_disabled(text: str) -> None:
    assert classify_status(401, text).action == "disable_key"


@pytest.mark.parametrize(
    "failure",
    [classify_status(*pair) for pair in QUOTA_ERRORS.values()] + [classify_status(401, ""), classify_status(401, openai("no", "invalid_api_key"))],
)  # fmt: skip
def test_a_failure_of_a_key_is_retryable(failure: Failure) -> None:
    """Without another key before the deadline the row fails with this kind, and the next run must send it again."""
    assert failure.kind in RETRYABLE_ERRORS


FORBIDDEN = {
    "OpenAI, country": openai("Country, region, or territory not supported", "unsupported_country_region_territory"),
    "OpenAI, model": openai("Project `proj_x` does not have access to model `gpt-4`", "model_not_found"),
    "Anthropic": anthropic("Your API key does not have permission to use the specified resource.", "permission_error"),
    "Cloudflare": "<html><head><title>Attention Required! | Cloudflare</title></head></html>",
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_403_depends_on_whether_the_key_has_worked(name: str) -> None:
    failure = classify_status(403, FORBIDDEN[name])
    assert (failure.kind, failure.action) == ("refused", "check_key")


TOO_LONG = {
    "OpenAI": (400, openai("This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens. Please reduce the length of the messages.", "context_length_exceeded")),
    "OpenAI, text": (400, openai("Invalid 'messages[0].content': string too long. Expected a string with maximum length 1048576, but got a string with length 2000000 instead.", "string_above_max_length")),
    # larger than the limit per minute: it would wait forever
    "OpenAI, tokens a minute": (429, openai("Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested 35000. The input or output tokens must be reduced in order to run successfully.", "rate_limit_exceeded", "tokens")),
    "Groq": (413, openai("Request too large for model `llama` in organization `org_x` on tokens per minute (TPM): Limit 6000, Requested 9000, please reduce your message size and try again.", "rate_limit_exceeded", "tokens")),
    "Anthropic": (400, anthropic("prompt is too long: 210000 tokens > 200000 maximum", "invalid_request_error")),
    "Anthropic, with the reply": (400, anthropic("input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length or `max_tokens` and try again", "invalid_request_error")),
    "Anthropic, bytes": (413, anthropic("Request exceeds the maximum size", "request_too_large")),
    "vLLM": (400, vllm("This model's maximum context length is 2048 tokens. However, you requested 3000 tokens (2872 in the messages, 128 in the completion).", 400)),
    "vLLM, decoder": (400, json.dumps({"error": {"message": "The decoder prompt (length 3000) is longer than the maximum model length of 2048.", "type": "BadRequestError", "param": None, "code": 400}})),
    "SGLang": (400, vllm("The input (3000 tokens) is longer than the model's context length (2048 tokens).", 400, "BadRequest")),
    "llama.cpp": (400, llama_cpp("the request exceeds the available context size, try increasing it", 400, "exceed_context_size_error")),
    "Text Generation Inference": (422, json.dumps({"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8192. Given: 9000 `inputs` tokens and 100 `max_new_tokens`", "error_type": "validation"})),
    "Mistral": (400, json.dumps({"object": "error", "message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length", "type": "invalid_request_error", "param": None, "code": "3051"})),
    "Gemini": (400, google("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", 400, "INVALID_ARGUMENT")),
    "OpenRouter": (400, openrouter("Provider returned error", 400, raw=anthropic("prompt is too long: 210000 tokens > 200000 maximum", "invalid_request_error"))),
    "a proxy": (413, "<html><head><title>413 Request Entity Too Large</title></head></html>"),
}  # fmt: skip


@pytest.mark.parametrize("name", TOO_LONG)
def test_a_too_long_request_is_final(name: str) -> None:
    failure = classify_status(*TOO_LONG[name])
    assert (failure.kind, failure.action) == ("too_long", "final"), failure


FILTERED = {
    "OpenAI": (400, openai("Your request was rejected as a result of our safety system.", "content_policy_violation")),
    "OpenAI, usage": (400, openai("Invalid prompt: your prompt was flagged as potentially violating our usage policy.", "invalid_prompt")),
    "Azure": (400, json.dumps({"error": {"message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.", "type": None, "param": "prompt", "code": "content_filter", "status": 400, "innererror": {"code": "ResponsibleAIPolicyViolation"}}})),
    "OpenRouter": (403, openrouter("Your chosen model requires moderation and your input was flagged for \"violence\"", 403, reasons=["violence"], flagged_input="x")),
    "Anthropic": (400, anthropic("Output blocked by content filtering policy", "invalid_request_error")),
    "DeepSeek": (400, openai("Content Exists Risk", "invalid_request_error")),
}  # fmt: skip


@pytest.mark.parametrize("name", FILTERED)
def test_filtered_content_is_final_and_does_not_disable_the_key(name: str) -> None:
    failure = classify_status(*FILTERED[name])
    assert (failure.kind, failure.action) == ("content_filter", "final"), failure


@pytest.mark.parametrize(
    ("status", "text", "kind", "action"),
    [
        (400, openai("Unsupported parameter: 'max_tokens' is not supported with this model.", "unsupported_parameter"), "bad_request", "final"),
        (400, openai("max_tokens is too large: 200000. This model supports at most 16384 completion tokens.", "invalid_value"), "bad_request", "final"),
        (422, json.dumps({"detail": "Unexpected fields in the request: {'top_k'}"}), "bad_request", "final"),  # transformers serve
        (422, json.dumps({"detail": [{"type": "missing", "loc": ["body", "model"], "msg": "Field required", "input": {}}]}), "bad_request", "final"),
        # FastAPI repeats the request; text of the user is not a message of the server
        (422, json.dumps({"detail": [{"type": "missing", "loc": ["body", "model"], "msg": "Field required", "input": {"messages": [{"role": "user", "content": "What is a context window? Is moderation insufficient_quota?"}]}}]}), "bad_request", "final"),
        (400, "", "bad_request", "final"),
        (404, openai("The model `x` does not exist or you do not have access to it.", "model_not_found"), "not_found", "final"),
        (404, vllm("The model `x` does not exist.", 404, "NotFoundError"), "not_found", "final"),
        (404, json.dumps({"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}}), "not_found", "final"),
        (404, json.dumps({"detail": "Not Found"}), "not_found", "final"),  # FastAPI: a wrong path
        (404, "404 page not found", "not_found", "final"),  # a Go server
        (405, json.dumps({"detail": "Method Not Allowed"}), "not_found", "final"),
        (410, openai("The model `x` has been shut down.", "model_gone"), "not_found", "final"),
        (307, "", "not_found", "final"),
        (301, "<html></html>", "not_found", "final"),
        (408, "", "timeout", "retry"),
        (409, "", "server", "retry"),
        (425, "", "server", "retry"),
        (498, openai("Flex tier capacity exceeded", "capacity_exceeded"), "server", "retry"),  # Groq: later
        (500, openai("The server had an error while processing your request. Sorry about that!", None, "server_error"), "server", "retry"),
        (500, vllm("Internal Server Error", 500, "InternalServerError"), "server", "retry"),
        (500, json.dumps({"detail": "CUDA error: out of memory"}), "server", "retry"),
        (502, "<html><head><title>502 Bad Gateway</title></head></html>", "server", "retry"),
        (503, llama_cpp("Loading model", 503, "unavailable_error"), "server", "retry"),
        (503, json.dumps({"error": "Model x is currently loading", "estimated_time": 20.0}), "server", "retry"),
        (503, openai("The engine is currently overloaded, please try again later", None, "server_error"), "server", "retry"),
        (504, "", "server", "retry"),
        (520, "error code: 520", "server", "retry"),  # Cloudflare
        (524, "", "server", "retry"),
        (529, anthropic("Overloaded", "overloaded_error"), "server", "retry"),
        (599, "", "server", "retry"),
        # the message does not make a 500 final
        (500, "context window content_filter", "server", "retry"),
    ],
)  # fmt: skip
def test_each_status_has_an_error_kind_and_an_action(status: int, text: str, kind: str, action: str) -> None:
    assert classify_status(status, text)[:2] == (kind, action)


def test_every_status_has_a_known_kind_and_action() -> None:
    for status in range(300, 600):
        failure = classify_status(status, "")
        assert failure.kind in REPLY_ERRORS
        assert failure.action in ACTIONS
        assert failure.detail.startswith(str(status))
        assert failure.action not in ("retry", "pause_key", "disable_key") or failure.kind not in FINAL_ERRORS, status


WORKING = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "42"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("body", "kind", "action"),
    [
        # OpenRouter reports errors of its provider in a 200
        ({"error": {"code": 429, "message": "Rate limit exceeded"}}, "rate_limit", "pause_key"),
        ({"error": {"code": "429", "message": "slow down"}}, "rate_limit", "pause_key"),
        ({"error": {"code": None, "status": 429, "message": "slow down"}}, "rate_limit", "pause_key"),
        ({"error": {"code": 502, "message": "Provider returned error"}}, "server", "retry"),
        ({"error": {"code": 408, "message": "Request timed out"}}, "timeout", "retry"),
        ({"error": {"code": 400, "message": "prompt is too long: 9 tokens > 8 maximum"}}, "too_long", "final"),
        ({"error": {"code": 400, "message": "bad value"}}, "bad_request", "final"),
        ({"error": {"message": "x", "type": "rate_limit_error"}}, "rate_limit", "pause_key"),
        ({"error": {"message": "Overloaded", "type": "overloaded_error"}}, "server", "retry"),
        ({"error": {"message": "Something went wrong", "type": "server_error", "code": None}}, "server", "retry"),
        ({"error": "upstream connect error"}, "server", "retry"),
        ({"error": "Too Many Requests"}, "rate_limit", "pause_key"),
        ({"error": ["odd"]}, "server", "retry"),
        ({"error": True}, "server", "retry"),
        ({"choices": [{"error": {"code": 502, "message": "broke off"}, "message": {"content": "half"}}]}, "server", "retry"),
        ({"choices": [{"error": {"code": 429, "message": "slow"}, "message": {"content": ""}}]}, "rate_limit", "pause_key"),
        ({**WORKING, "error": {"code": 500, "message": "late"}}, "server", "retry"),
        ({"object": "error", "message": "boom", "type": "InternalServerError", "code": 500}, "server", "retry"),
        ({"detail": "odd"}, "server", "retry"),
        ({}, "server", "retry"),
        ({"choices": []}, "server", "retry"),
        ({"choices": None}, "server", "retry"),
        ({"choices": {}}, "server", "retry"),
        ({"choices": "42"}, "server", "retry"),
        ({"choices": [None]}, "server", "retry"),
        ({"choices": ["42"]}, "server", "retry"),
        # a choice without content is not an empty reply, which would be stored as final
        ({"choices": [{}]}, "server", "retry"),
        ({"choices": [{"index": 0, "finish_reason": "stop"}]}, "server", "retry"),
        ({"choices": [{"index": 0, "message": None, "finish_reason": "stop"}]}, "server", "retry"),
        ({"choices": [{"index": 0, "delta": {"content": "4"}, "finish_reason": None}]}, "server", "retry"),
        (None, "server", "retry"),  # not JSON
        ([], "server", "retry"),
        ([WORKING], "server", "retry"),
        ("42", "server", "retry"),
        (42, "server", "retry"),
        (float("nan"), "server", "retry"),
    ],
)  # fmt: skip
def test_a_200_without_a_reply(body: Any, kind: str, action: str) -> None:
    failure = classify_body(body, json.dumps(body))
    assert failure is not None
    assert failure[:2] == (kind, action), failure


@pytest.mark.parametrize(
    "error", [{"code": "insufficient_quota", "message": "x"}, {"code": 402, "message": "Insufficient credits"}, {"code": 401, "message": "no"}]
)  # fmt: skip
def test_a_failure_of_the_key_in_a_200(error: dict[str, Any]) -> None:
    failure = classify_body({"error": error}, json.dumps({"error": error}))
    assert failure is not None
    assert failure.action == "disable_key"


@pytest.mark.parametrize("error", [None, {}, "", False, []])
def test_an_empty_error_field_is_ignored(error: Any) -> None:
    """OpenRouter, vLLM and others always send the field."""
    body = {**WORKING, "error": error, "choices": [{**WORKING["choices"][0], "error": error}]}
    assert classify_body(body, json.dumps(body)) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (openai("the message", "some_code"), "the message (some_code)"),
        (json.dumps({"error": "the message"}), "the message"),
        (json.dumps({"detail": "the message"}), "the message"),
        (json.dumps({"message": "the message"}), "the message"),
        (json.dumps({"error": {"message": "the message\n  and  more"}}), "the message and more"),  # one line
        (google("the message", 400, "INVALID_ARGUMENT"), "the message"),
        (google("the message", 400, "INVALID_ARGUMENT"), "(INVALID_ARGUMENT)"),
        (FILTERED["Azure"][1], "(content_filter) (400) (ResponsibleAIPolicyViolation)"),
        (json.dumps({"errors": ["the message", "and more"]}), "the message; and more"),
        (openrouter("Provider returned error", 400, raw="the message"), "Provider returned error (400) the message"),
        (json.dumps({"detail": [{"msg": "the message", "loc": ["body"]}]}), "the message"),
        ("the message", "the message"),
        (json.dumps("the message"), "the message"),
    ],
)
def test_the_detail_is_readable_text(text: str, expected: str) -> None:
    detail = classify_status(400, text).detail
    assert detail.startswith("400: ")
    assert expected in detail
    assert "{" not in detail or "loc" in text, "text, not JSON"


@pytest.mark.parametrize(
    "text", ["x" * 1_000_000, json.dumps({"error": {"message": "x" * 1_000_000}}), "\n" * 10_000, "\x00\ud83d"]
)
def test_a_detail_is_one_complete_line(text: str) -> None:
    """The session shortens it, after the redaction of secrets."""
    for failure in (classify_status(500, text), classify_body(None, text), classify_body({"error": text}, text)):
        assert failure is not None
        assert failure.detail.count("x") >= text.count("x")
        assert "\n" not in failure.detail


def test_no_body_raises_an_exception() -> None:
    for seed in range(6000):
        draw = random.Random(seed)
        body = odd_json(draw)
        text = json.dumps(body)
        text = text[: draw.randrange(len(text) + 1)] if seed % 4 == 0 else text
        status = draw.choice([301, 400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 451, 500, 503, 529])
        for failure in (classify_status(status, text), classify_body(body, text), classify_body({"error": body}, text)):
            if failure is not None:
                assert failure.kind in REPLY_ERRORS
                assert failure.action in ACTIONS
                assert isinstance(failure.detail, str)
                assert len(failure.detail) < 4100, "at most 500 are stored, after redaction"


@pytest.mark.parametrize("hint", ["Please try again in 20s.", "Please retry after 60 seconds.", '"retryDelay": "34s"'])
def test_an_exhausted_quota_is_no_rate_limit_although_it_names_a_time(hint: str) -> None:
    """OpenAI appends the hint of the rate limit to it; the account has no money in 20 seconds either."""
    quota = "You exceeded your current quota, please check your plan and billing details."
    for text in (
        openai(f"{quota} {hint}", "insufficient_quota", "insufficient_quota"),
        openai(f"{quota} {hint}", None, "insufficient_quota"),
        json.dumps({"error": {"message": quota, "code": "insufficient_quota"}, "hint": hint}),
    ):
        failure = classify_status(429, text)
        assert (failure.kind, failure.action) == ("rate_limit", "disable_key"), failure
    without_code = classify_status(429, openai(f"{quota} {hint}", "rate_limit_exceeded", "requests"))
    assert without_code.action == "pause_key", "as Gemini's limit per minute"
