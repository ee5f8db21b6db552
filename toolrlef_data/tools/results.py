"""Slow tools: executed in batches, their results kept in the reply store beside the replies of models.

The key of a result holds what determines it: the tool's name and version (which names its corpus or model), its
function with its settings, the argument and its language, and for a tool that asks a model, the engine, how it is asked
and which weights answer. A tool's own failures (`TOOL_FAILURES`) are never final: the next run executes those calls
again. Not covered: two processes at once, which may both execute a call of a slow tool (models are asked once).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from datasets.utils import tqdm

from toolrlef_data.columns import RESPONSE
from toolrlef_data.engines import ENGINES
from toolrlef_data.engines.model_stage import ModelStage, run_model_stage
from toolrlef_data.engines.reply_store import ReplyStore
from toolrlef_data.engines.responses import build_request, build_response
from toolrlef_data.engines.spec import Request
from toolrlef_data.records import TOOL_FAILURES, Reply, ToolResult, TooManyFailures
from toolrlef_data.tables.fingerprint import canonical, digest
from toolrlef_data.tables.stage_cache import table_from_rows
from toolrlef_data.tools.tool import Tool, ToolInput

__all__ = ["run_tool", "stored_results", "tool_identity"]

LOST = ToolResult(error="unavailable", detail="its result was removed from the reply store meanwhile")
FEW = 10  # failed calls that never stop a run, whatever their share
FIRST = 200  # calls that are tried before a run is stopped for the share of those that failed
CALLS = {"id": RESPONSE["text"], "argument": RESPONSE["text"], "texts": RESPONSE["predictions"]}
VALUE = {"value": RESPONSE["text"], "error": RESPONSE["text"], "detail": RESPONSE["text"]}


def run_tool(inputs: Iterable[ToolInput], tool: Tool, identity: str, store: ReplyStore, table: str = "") -> list[str]:
    """Execute what the store lacks of a tool's results.

    Args:
        inputs: each once; they are pulled as they are run, so that memory stays constant.
        identity: from `tool_identity`.
        table: the fingerprint of the table that the inputs are from, for the lineage.

    Returns:
        the fingerprint of the table of what a model was asked, for the lineage; empty where none was.

    Raises:
        TooManyFailures: more than `Tool.max_failed` of the calls failed by the tool's own fault; all results are kept.
    """
    if tool.engine is None:
        for _ in _run_many(inputs, tool, store, identity):
            pass
        return []
    asked = table_from_rows(_questions(inputs, tool, identity, store), CALLS, f"calls of {tool.name}", [table])
    if not len(asked):
        return []
    reads = ["id", "argument", "texts"]
    stage = ModelStage(_request, _value, tool, tool.engine, reads=reads, adds=VALUE, name=tool.name, label=tool.name)
    answered = run_model_stage(asked, stage)
    for batch in answered.iter(1000):
        told = zip(batch["id"], batch["value"], batch["error"], batch["detail"], strict=True)
        put_results(store, [(key, ToolResult(value, error, detail)) for key, value, error, detail in told])
    return [answered._fingerprint]


def _run_many(
    inputs: Iterable[ToolInput], tool: Tool, store: ReplyStore, identity: str
) -> Iterator[tuple[ToolInput, ToolResult]]:
    """(input, result) of every input, from the store or from running the tool in batches."""
    failed = done = 0
    last = ToolResult()
    source = iter(inputs)
    with tqdm(desc=f"Call {tool.name}", unit=" calls", leave=False) as bar:
        while batch := list(itertools.islice(source, tool.batch)):
            keys = [tool_key(identity, each) for each in batch]
            results = get_results(store, keys)
            lacking = [i for i, key in enumerate(keys) if key not in results]
            new = tool.run_many([batch[i] for i in lacking]) if lacking else []
            arrived = [(keys[i], result) for i, result in zip(lacking, new, strict=True)]
            put_results(store, arrived)
            results |= dict(arrived)
            done += len(batch)
            bar.update(len(batch))
            faults = [result for result in new if result.error in TOOL_FAILURES]
            failed += len(faults)
            last = faults[-1] if faults else last
            if failed > max(FEW, tool.max_failed * max(done, FIRST)):
                break
            yield from ((each, results[key]) for each, key in zip(batch, keys, strict=True))
    if failed > max(FEW, tool.max_failed * done):
        raise TooManyFailures(
            f"{failed} of {done} calls of {tool.name} failed by the tool's own fault, more than "
            f"max_failed={tool.max_failed}; every result is stored, and a re-run executes the others again"
            f"\n    {last.error}: {last.detail}"
        )


def _questions(inputs: Iterable[ToolInput], tool: Tool, identity: str, store: ReplyStore) -> Iterator[dict[str, Any]]:
    """What a tool's model is asked: the argument, with the texts that were found for it; nothing found is a result."""
    search = tool_identity(replace(tool, engine=None, prompt=None)) if tool.many else ""
    found = _run_many(inputs, tool, store, search) if tool.many else ((each, ToolResult(())) for each in inputs)
    for each, result in found:
        key = tool_key(identity, each)
        if result.error:
            put_results(store, [(key, result)])
        else:
            texts = list(result.value) if isinstance(result.value, tuple) else [str(result.value)]
            yield {"id": key, "argument": each.argument, "texts": texts}


def _request(row: Mapping[str, Any], tool: Tool) -> Request:
    assert tool.prompt is not None
    return build_request(tool.prompt(row["argument"], tuple(row["texts"])))


def _value(row: Mapping[str, Any], replies: Sequence[Reply], tool: Tool) -> dict[str, Any]:
    """A model's reply as the tool's value; the model's failures are the tool's own."""
    response = build_response(replies[0])
    if response["error"]:
        kind = "timeout" if response["error"] == "timeout" else "unavailable"
        return {"value": None, "error": kind, "detail": f"{response['error']}: {response['error_detail']}"}
    if not response["text"] and response["finish_reason"] == "length":
        return {"value": None, "error": "unavailable", "detail": "the reply was cut off before it said anything"}
    if not response["text"]:
        return {"value": None, "error": "no_result", "detail": "the model gave an empty reply"}
    return {"value": response["text"], "error": None, "detail": ""}


# The store ------------------------------------------------------------------------------------------------------------


def tool_identity(tool: Tool) -> str:
    """A digest of everything but the input that determines a slow tool's results; loads no model.

    >>> search = Tool("WikiSearch", "Searches.", many=print, version="corpus 1")
    >>> tool_identity(search) == tool_identity(replace(search, version="corpus 2"))
    False
    """
    weights = None if tool.engine is None else ENGINES[tool.engine.kind](tool.engine).identity()
    return digest("tool", tool.name, tool.version, canonical([tool.many, tool.engine, tool.prompt]), weights)


def tool_key(identity: str, given: ToolInput) -> str:
    """The key of a result.

    >>> tool_key("search", ToolInput("rivers")) == tool_key("search", ToolInput("lakes"))
    False
    """
    return digest(identity, given.argument, given.language)


def put_results(store: ReplyStore, results: Iterable[tuple[str, ToolResult]]) -> None:
    """Store results in one transaction."""
    store.put(
        (key, Reply(None if error else json.dumps(value, ensure_ascii=False), error=error, error_detail=detail))
        for key, (value, error, detail) in results
    )


def get_results(store: ReplyStore, keys: Sequence[str]) -> dict[str, ToolResult]:
    """Stored results of the keys that have one."""
    return {key: _result(reply) for key, reply in store.get(keys).items()}


def stored_results(inputs: Sequence[ToolInput], identity: str, store: ReplyStore) -> dict[ToolInput, ToolResult]:
    """What is known of inputs that were run: a result, or the last failure where there is only that."""
    keys = {each: tool_key(identity, each) for each in inputs}
    found = store.get(list(keys.values()))
    found |= store.failures([key for key in keys.values() if key not in found])
    return {each: _result(found[key]) if key in found else LOST for each, key in keys.items()}


def _result(reply: Reply) -> ToolResult:
    if reply.error:
        return ToolResult(error=reply.error, detail=reply.error_detail)
    value = json.loads(reply.text or "null")
    return ToolResult(tuple(value) if isinstance(value, list) else value)
