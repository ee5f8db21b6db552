"""The engine `local`: transformers and peft, on the CPU or one GPU.

Requests become token ids through the model's own chat template, or as they are; batches of them are answered by
decoding.py, beams by transformers' `generate()`. weights.py finds the model, models.py loads it. `EngineSpec.options`
are further variables of the chat template, such as ("enable_thinking", False).

Not covered: models over several GPUs, quantised loading, images; native tool calls stay in the text.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any

from toolrlef_data.engines.local.batching import Row, halve_on_oom, plan
from toolrlef_data.engines.local.decoding import Finished, can_share, decode, prefill
from toolrlef_data.engines.local.loading import (
    LoadedModel,
    borrow_model,
    eos_token_ids,
    load_model,
    resolve_dtype,
    unload,
)
from toolrlef_data.engines.local.template_check import find_omitted_parts
from toolrlef_data.engines.local.weights import resolve_adapter, resolve_weights, silence_transformers
from toolrlef_data.engines.openai_api.payloads import to_openai_message
from toolrlef_data.engines.spec import PULL_INTERVAL, EngineSpec, Message, Request
from toolrlef_data.records import InputError, Reply, is_text

__all__ = ["LoadedModel", "LocalEngine", "load_model", "unload"]

# Requests sorted and grouped together: enough for full batches, few enough to start at once.
WINDOW = 512
# Measured on 2 cores with a 135M model: 32 rows generate as fast as 64, and a killed run loses half as much.
MOST_ROWS_ON_CPU = 32


class LocalEngine:
    """The engine kind "local": answers requests with a model on this machine."""

    def __init__(self, spec: EngineSpec) -> None:
        if spec.num_beams > 1 and spec.temperature > 0:
            raise InputError("beam search is not sampled: set temperature=0 or num_beams=1")
        self.spec = spec

    cancel = None
    stop = None

    def stats(self) -> dict[str, Any]:
        return {}

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(self, *_: object) -> None:
        """The base model stays loaded for the next engine; `unload` gives its memory back."""

    def identity(self) -> dict[str, Any]:
        """Digests of weights, tokenizer, template and adapter (commits of Hub ids), and the resolved dtype."""
        spec = self.spec
        return {
            "model": resolve_weights(spec.model, spec.revision).identity(),
            "adapter": resolve_adapter(spec.adapter).identity() if spec.adapter else None,
            "dtype": resolve_dtype(spec.dtype, spec.device),
        }

    def generate(
        self, requests: Iterable[tuple[str, Request] | None]
    ) -> Generator[list[tuple[str, Reply]], None, None]:
        """Yield replies batch by batch; requests are read, and sorted by length, 512 at a time."""
        import torch

        spec = self.spec
        for window in _windows(requests):
            with borrow_model(spec) as loaded:
                prepared = [(tag, _prepare(tag, request, spec, loaded)) for tag, request in window]
                most = MOST_ROWS_ON_CPU if loaded.device == "cpu" else WINDOW
                rows = [row for _, row in prepared if isinstance(row, Row)]
                share = spec.num_beams == 1 and can_share(loaded.model)
            if refused := [(tag, reply) for tag, reply in prepared if isinstance(reply, Reply)]:
                yield refused
            if not rows:
                continue
            budget = spec.batch_tokens // spec.num_beams
            for group in plan(rows, budget=budget, new_tokens=spec.max_tokens, most=most, share=share):
                common = group.batches[0][0].tokens[: group.prefix]
                shared = None
                for batch in group.batches:
                    with borrow_model(spec) as loaded, torch.inference_mode():
                        if common and shared is None:
                            shared = prefill(loaded.model, common)
                        replies = _answer(loaded, batch, spec, shared)
                    yield list(replies)


def _windows(requests: Iterable[tuple[str, Request] | None]) -> Iterator[list[tuple[str, Request]]]:
    """Requests that are answered together: a full window, or those before one that is not ready yet."""
    window: list[tuple[str, Request]] = []
    for pair in requests:
        if pair is not None:
            window.append(pair)
        elif not window:
            time.sleep(PULL_INTERVAL)
        if window and (pair is None or len(window) == WINDOW):
            yield window
            window = []
    if window:
        yield window


def _prepare(tag: str, request: Request, spec: EngineSpec, loaded: LoadedModel) -> Row | Reply:
    """The token ids of a request, or the error reply that it gets."""
    tokenizer = loaded.tokenizer
    if request.messages:
        schemas = [json.loads(tool) for tool in request.tools] or None
        if not tokenizer.chat_template:
            return _refusal(
                "bad_request", f"{spec.model} has no chat template: ask it in the completion style, with a prompt"
            )
        if schemas and "tools" not in tokenizer.get_chat_template(tools=schemas):
            return _refusal("bad_request", f"the chat template of {spec.model} has no place for tools")
        rendered = _rendered(request.messages, schemas, spec, tokenizer)
        if isinstance(rendered, Reply):
            return rendered
        text = rendered
    else:
        text = request.prompt
    if not is_text(text):
        return _refusal("bad_request", "the text holds a lone surrogate, which is no character")
    tokens = tokenizer(text, add_special_tokens=not request.messages).input_ids
    if not tokens:
        return _refusal("bad_request", "the prompt holds no token")
    context = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    if context and len(tokens) + spec.max_tokens > context:
        return _refusal(
            "too_long",
            f"{len(tokens)} tokens and {spec.max_tokens} new ones do not fit into the context of {context}",
        )
    return Row(tag, tuple(tokens), f"{spec.seed}:{request.seed}:{request.sample}")


def _rendered(messages: Sequence[Message], schemas: list[Any] | None, spec: EngineSpec, tokenizer: Any) -> str | Reply:
    """The text that the chat template makes of messages, or the error reply where it cannot, or would lose a call."""
    import jinja2

    def render(turns: Sequence[Any], _: Sequence[Any] = ()) -> str:
        text: str = tokenizer.apply_chat_template(
            list(turns), tools=schemas, tokenize=False, add_generation_prompt=True, **dict(spec.options)
        )
        return text

    # Templates put arguments through `tojson`, and some write "None" where there is no content.
    turns = [{**to_openai_message(message, _arguments), "content": message.content} for message in messages]
    watched = [
        n for n, each in enumerate(messages) if each.content.strip() and (each.tool_calls or each.role == "tool")
    ]
    try:
        text, lost = render(turns), find_omitted_parts(turns, [], dict.fromkeys(watched, ""), render)
    except (jinja2.TemplateError, TypeError, RecursionError) as error:  # TypeError: arguments that are no object
        return _refusal("bad_request", f"the chat template of {spec.model} refuses these messages: {error}")
    if lost:
        kind, turn, name = min(lost, key=lambda part: (part.turn, part.kind == "content"))
        beside = "the content beside a call" if messages[turn].tool_calls else "the content of a tool's message"
        what = beside if kind == "content" else f"the {kind} of {name}"
        return _refusal("bad_request", f"the chat template of {spec.model} leaves out {what}")
    return text


def _arguments(text: str) -> Any:
    """The arguments of a call as the object that they are; any other text as it is."""
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return arguments if isinstance(arguments, dict) else text


def _answer(loaded: LoadedModel, batch: Sequence[Row], spec: EngineSpec, shared: Any) -> list[tuple[str, Reply]]:
    """The replies of a batch."""
    model, tokenizer = loaded.model, loaded.tokenizer
    ends = eos_token_ids(model, tokenizer)

    def work(batch: Sequence[Row]) -> list[tuple[str, Reply]]:
        if spec.num_beams > 1:
            done = _beams(loaded, batch, spec, ends)
        else:
            done = decode(model, tokenizer, batch, spec, ends, shared)
        return [(each.row.tag, _reply(each, tokenizer, spec)) for each in done]

    return halve_on_oom(work, batch, lambda row, message: (row.tag, _refusal("out_of_memory", message)))


def _beams(loaded: LoadedModel, batch: Sequence[Row], spec: EngineSpec, ends: frozenset[int]) -> list[Finished]:
    import torch
    from transformers import GenerationConfig

    width, pad = max(len(row.tokens) for row in batch), min(ends, default=0)
    padded = [[pad] * (width - len(row.tokens)) + list(row.tokens) for row in batch]
    mask = [[0] * (width - len(row.tokens)) + [1] * len(row.tokens) for row in batch]
    settings = GenerationConfig(
        num_beams=spec.num_beams,
        do_sample=False,
        max_new_tokens=spec.max_tokens,
        repetition_penalty=spec.repetition_penalty,
        eos_token_id=sorted(ends) or None,
        pad_token_id=pad,
    )
    with silence_transformers():
        found = loaded.model.generate(
            torch.tensor(padded, device=loaded.model.device),
            attention_mask=torch.tensor(mask, device=loaded.model.device),
            generation_config=settings,
        )
    done = []
    for row, tokens in zip(batch, found[:, width:].tolist(), strict=True):
        end = next((at for at, token in enumerate(tokens) if token in ends), None)
        made = len(tokens) if end is None else end + 1
        done.append(Finished(row, tuple(tokens[:end]), made, "length" if end is None else "stop"))
    return done


def _reply(done: Finished, tokenizer: Any, spec: EngineSpec) -> Reply:
    text = tokenizer.decode(done.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    cuts = [at for stop in spec.stop if (at := text.find(stop)) >= 0]
    return Reply(
        text[: min(cuts)] if cuts else text,
        finish_reason="stop" if cuts else done.reason,
        prompt_tokens=len(done.row.tokens),
        completion_tokens=done.made,
    )


def _refusal(kind: str, detail: str) -> Reply:
    return Reply(None, error=kind, error_detail=detail)
