"""Execution of slow tools in batches, with results cached in the reply store.

The reply key of a result covers everything that determines it:

- the tool's name and version (the version names the corpus or model), and its function with all settings;
- the argument and its language;
- for a tool with an engine: the engine's settings, the prompt function and the model's weights.

Results that are tool failures (`TOOL_FAILURES`) are never final: the next run executes those calls again. Two processes
may both execute the same call of a slow tool, because only model requests are claimed.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from datasets import Value
from datasets.utils import tqdm

from toolrlef_data.columns import RESPONSE
from toolrlef_data.engines import ENGINES
from toolrlef_data.engines.database.rows import decode_reply
from toolrlef_data.engines.model_stage import ModelStage, run_model_stage
from toolrlef_data.engines.reply_store import ReplyStore
from toolrlef_data.engines.responses import build_request, build_response
from toolrlef_data.engines.spec import Request
from toolrlef_data.records import TOOL_FAILURES, Reply, ToolResult, TooManyFailures
from toolrlef_data.tables.fingerprint import canonical, digest
from toolrlef_data.tables.row_files import table_from_rows
from toolrlef_data.tools.tool import Tool, ToolInput

__all__ = ["CALL_COLUMNS", "run_tool", "stored_results", "tool_identity"]

LOST = ToolResult(error="unavailable", detail="the result was deleted from the reply store during the run")
MAX_IGNORED_FAILURES = 10  # a run is never stopped for this many failed calls or fewer
MIN_CALLS = 200  # during a run, the share of failed calls is computed over at least this many
CALL_COLUMNS = {"id": RESPONSE["text"], "argument": RESPONSE["text"], "texts": RESPONSE["predictions"]}
# A merge of shards sums the tokens and failures of the distinct calls.
RESULT_COLUMNS = {
    "value": RESPONSE["text"],
    "error": RESPONSE["text"],
    "detail": RESPONSE["text"],
    "prompt_tokens": RESPONSE["prompt_tokens"],
    "completion_tokens": RESPONSE["completion_tokens"],
    "failed": Value("bool"),
}


def run_tool(inputs: Iterable[ToolInput], tool: Tool, identity: str, store: ReplyStore, table: str = "") -> list[str]:
    """Execute the calls whose results are not stored yet, and store their results.

    Args:
        inputs: unique inputs. They are consumed lazily, so memory use stays constant.
        tool: a slow tool.
        identity: the result of `tool_identity`.
        store: the reply store.
        table: fingerprint of the table that contains the inputs, for the lineage.

    Returns:
        The fingerprint of the table of model requests, which may have no rows, for the lineage; an empty list if the
        tool has no engine.

    Raises:
        TooManyFailures: more than `Tool.max_failed` of the calls ended in a tool failure. All results are stored.
    """
    if tool.engine is None:
        for _ in _run_many(inputs, tool, store, identity):
            pass
        return []
    rows = _engine_calls(inputs, tool, identity, store)
    calls = table_from_rows(rows, CALL_COLUMNS, f"calls of {tool.name}", [table])
    reads = ["id", "argument", "texts"]
    stage = ModelStage(
        _request, _value, tool, tool.engine, reads=reads, adds=RESULT_COLUMNS, name=tool.name, label=tool.name
    )
    answered = run_model_stage(calls, stage)
    for batch in answered.iter(1000):
        results = zip(batch["id"], batch["value"], batch["error"], batch["detail"], strict=True)
        put_results(store, [(key, ToolResult(value, error, detail)) for key, value, error, detail in results])
    return [answered._fingerprint]


def _run_many(
    inputs: Iterable[ToolInput], tool: Tool, store: ReplyStore, identity: str
) -> Iterator[tuple[ToolInput, ToolResult]]:
    """Yield (input, result) for every input, from the store or by running the tool in batches."""
    num_failed = num_done = 0
    last_failure = ToolResult()
    source = iter(inputs)
    with tqdm(desc=f"Call {tool.name}", unit=" calls", leave=False) as bar:
        while batch := list(itertools.islice(source, tool.batch)):
            keys = [tool_key(identity, call) for call in batch]
            results = get_results(store, keys)
            pending = [i for i, key in enumerate(keys) if key not in results]
            new = tool.run_many([batch[i] for i in pending]) if pending else []
            new_results = [(keys[i], result) for i, result in zip(pending, new, strict=True)]
            put_results(store, new_results)
            results |= dict(new_results)
            num_done += len(batch)
            bar.update(len(batch))
            failures = [result for result in new if result.error in TOOL_FAILURES]
            num_failed += len(failures)
            last_failure = failures[-1] if failures else last_failure
            if num_failed > max(MAX_IGNORED_FAILURES, tool.max_failed * max(num_done, MIN_CALLS)):
                break
            yield from ((call, results[key]) for call, key in zip(batch, keys, strict=True))
    if num_failed > max(MAX_IGNORED_FAILURES, tool.max_failed * num_done):
        raise TooManyFailures(
            f"{num_failed} of {num_done} calls of {tool.name} failed (the limit is max_failed={tool.max_failed}). All "
            "results are saved; run the same command to execute the failed and remaining calls. Last failure:\n"
            f"    {last_failure.error}: {last_failure.detail}"
        )


def _engine_calls(
    inputs: Iterable[ToolInput], tool: Tool, identity: str, store: ReplyStore
) -> Iterator[dict[str, Any]]:
    """Yield a row for each call that needs the tool's engine: the argument, and the texts returned by `many`.

    If `many` returns an error, it is stored as the result of the call, and the engine is not queried.
    """
    if tool.many:
        search_identity = tool_identity(replace(tool, engine=None, prompt=None))
        searched = _run_many(inputs, tool, store, search_identity)
    else:
        searched = ((call, ToolResult(())) for call in inputs)
    for call, result in searched:
        key = tool_key(identity, call)
        if result.error:
            put_results(store, [(key, result)])
        else:
            texts = list(result.value) if isinstance(result.value, tuple) else [str(result.value)]
            yield {"id": key, "argument": call.argument, "texts": texts}


def _request(row: Mapping[str, Any], tool: Tool) -> Request:
    """Return the request to the tool's engine for a call."""
    assert tool.prompt is not None
    return build_request(tool.prompt(row["argument"], tuple(row["texts"])))


def _value(row: Mapping[str, Any], replies: Sequence[Reply], tool: Tool) -> dict[str, Any]:
    """Return a model's reply as the tool's result with its tokens; errors of the model are tool failures."""
    reply = replies[0]
    tokens = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
    return {**_result_of_reply(reply)._asdict(), **tokens, "failed": reply.error is not None}


def _result_of_reply(reply: Reply) -> ToolResult:
    response = build_response(reply)
    if response["error"]:
        kind = "timeout" if response["error"] == "timeout" else "unavailable"
        return ToolResult(error=kind, detail=f"{response['error']}: {response['error_detail']}")
    if not response["text"] and response["finish_reason"] == "length":
        return ToolResult(error="unavailable", detail="the reply reached max_tokens before it had any text")
    if not response["text"]:
        return ToolResult(error="no_result", detail="the reply is empty")
    return ToolResult(response["text"])


# Reply store ----------------------------------------------------------------------------------------------------------


def tool_identity(tool: Tool) -> str:
    """Return a digest of a slow tool: its name, version, functions, settings and the identity of its engine.

    The identity and an input determine a result. No model is loaded.

    >>> search = Tool("WikiSearch", "Searches.", many=print, version="corpus 1")
    >>> tool_identity(search) == tool_identity(replace(search, version="corpus 2"))
    False
    """
    weights = None if tool.engine is None else ENGINES[tool.engine.kind](tool.engine).identity()
    return digest("tool", tool.name, tool.version, canonical([tool.many, tool.engine, tool.prompt]), weights)


def tool_key(identity: str, call: ToolInput) -> str:
    """Return the reply key of a call's result.

    >>> tool_key("search", ToolInput("rivers")) == tool_key("search", ToolInput("lakes"))
    False
    """
    return digest(identity, call.argument, call.language)


def put_results(store: ReplyStore, results: Iterable[tuple[str, ToolResult]]) -> None:
    """Store (reply key, result) pairs in one transaction."""
    store.put(
        (key, Reply(None if error else json.dumps(value, ensure_ascii=False), error=error, error_detail=detail))
        for key, (value, error, detail) in results
    )


def get_results(store: ReplyStore, keys: Sequence[str]) -> dict[str, ToolResult]:
    """Return the stored results by reply key; a damaged one is deleted, so that its call is executed again."""
    return store.get_as(keys, _read_result)


def _read_result(key: str, text: object) -> ToolResult | None:
    """Return the result of a stored text, or None if the text is damaged."""
    reply = decode_reply(key, text)
    return None if reply is None else _result(reply)


def stored_results(inputs: Sequence[ToolInput], identity: str, store: ReplyStore) -> dict[ToolInput, ToolResult]:
    """Return the stored result of each input: its final result, else its last failure, else `LOST`."""
    keys = {call: tool_key(identity, call) for call in inputs}
    results = get_results(store, list(keys.values()))
    failures = store.failures([key for key in keys.values() if key not in results])
    results |= {key: result for key, reply in failures.items() if (result := _result(reply)) is not None}
    return {call: results.get(key, LOST) for call, key in keys.items()}


def _result(reply: Reply) -> ToolResult | None:
    """Return a stored reply as the tool result that `put_results` stored; None if its value is damaged."""
    if reply.error:
        return ToolResult(error=reply.error, detail=reply.error_detail)
    try:
        value = json.loads(reply.text or "null")
    except ValueError:
        return None
    return ToolResult(tuple(value) if isinstance(value, list) else value)
