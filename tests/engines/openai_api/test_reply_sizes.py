"""The maximum size of a response, the tokens of several choices, and the owners of batch jobs, as whole values."""

from __future__ import annotations

from typing import Any

import pytest

from toolrlef_data import EngineSpec
from toolrlef_data.engines.claims import _is_damaged, _job_row, _split_owner
from toolrlef_data.engines.openai_api.payloads import (
    MAX_TOKEN_BYTES,
    MIN_RESPONSE_BYTES,
    max_response_bytes,
    parse_replies,
)


@pytest.mark.parametrize(
    ("body", "sent", "n", "tokens"),
    [
        ({}, 124, 1, 1000),
        ({}, 1250, 3, 3010),
        ({"max_completion_tokens": 4000, "max_tokens": 20}, 0, 2, 8000),
        ({"max_completion_tokens": "4000"}, 0, 1, 1000),
        ({"top_logprobs": 4}, 500, 2, 2500 * 6),
        ({"top_logprobs": 4, "prompt_logprobs": 1}, 500, 1, 1500 * 8),
    ],
)
def test_the_maximum_size_of_a_response(body: dict[str, Any], sent: int, n: int, tokens: int) -> None:
    spec = EngineSpec("openai_api", "m", max_tokens=1000, options={"extra_body": body} if body else {})
    assert max_response_bytes(spec, sent, n) == MIN_RESPONSE_BYTES + MAX_TOKEN_BYTES * tokens


@pytest.mark.parametrize(
    ("usage", "prompt_tokens", "completion_tokens"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 8}, [7, 0, 0], [3, 3, 2]),
        ({"prompt_tokens": 7}, [7, 0, 0], [None] * 3),
    ],
)
def test_tokens_of_several_choices(
    usage: dict[str, int], prompt_tokens: list[int], completion_tokens: list[Any]
) -> None:
    choices: list[Any] = [{"index": n, "message": {"content": f"c{n}"}, "finish_reason": "stop"} for n in range(4)]
    replies = parse_replies({"choices": choices, "usage": usage}, (), 3)
    assert [reply.text for reply in replies] == ["c0", "c1", "c2"]
    assert [reply.prompt_tokens for reply in replies] == prompt_tokens
    assert [reply.completion_tokens for reply in replies] == completion_tokens


def test_records_of_batch_jobs_have_checksums() -> None:
    for keys in ("", "k1,k2"):
        row = _job_row("j", "s", "r", "me", keys)
        owner, checksum, found = _split_owner(row[3])
        assert (row[:3], owner, bool(checksum)) == (("j", "s", "r"), "me", True)
        assert not _is_damaged(row)
        assert _is_damaged(("x", *row[1:]))
        assert bool(found) == bool(keys)
    assert _split_owner("me") == ("me", "", "")
    assert _split_owner("me c k more") == ("me", "c", "k")
    assert not _is_damaged(("j", "s", "r", "me"))
