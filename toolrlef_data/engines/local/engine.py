"""The engine `local`: transformers and peft, on the CPU or one GPU.

Chat messages are rendered with the model's chat template; plain prompts are sent unchanged. `decoding` generates the
replies, except for beam search, which uses `generate()` of transformers. `EngineSpec.options` are variables of the chat
template, such as ("enable_thinking", False).

Not covered: models on several GPUs, quantised loading, images, parsing of native tool calls (they remain in the text).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from toolrlef_data.engines.local.batching import TokenisedPrompt, halve_on_oom, plan_batches
from toolrlef_data.engines.local.decoding import Completion, can_share_prefix, decode, prefill
from toolrlef_data.engines.local.loading import (
    LoadedModel,
    borrow_model,
    eos_token_ids,
    load_model,
    parse_device,
    resolve_dtype,
    unload,
)
from toolrlef_data.engines.local.template_check import find_omitted_parts
from toolrlef_data.engines.local.weights import resolve_adapter, resolve_weights, silence_transformers
from toolrlef_data.engines.openai_api.payloads import to_openai_message
from toolrlef_data.engines.spec import PULL_INTERVAL, EngineSpec, Message, Request
from toolrlef_data.records import InputError, Reply, is_text

__all__ = [
    "LoadedModel",
    "LocalEngine",
    "context_length",
    "error_reply",
    "load_model",
    "request_windows",
    "tokenise_prompt",
    "unload",
]

R = TypeVar("R", bound=Request)

# Number of requests that are sorted and grouped together: enough for full batches, few enough to start early.
WINDOW_SIZE = 512
# On 2 cores with a 135M model, a batch size of 32 is as fast as 64, and a killed run loses half as many replies.
MAX_CPU_BATCH_SIZE = 32


class LocalEngine:
    """The engine of the kind "local": a model on this machine.

    Args:
        spec: settings of the engine.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.on_step: Callable[[], None] | None = None
        self.step = 0  # tokens of each unfinished reply of the running batch

    @staticmethod
    def check(spec: EngineSpec) -> None:
        parse_device(spec.device)
        if spec.num_beams > 1 and spec.temperature > 0:
            raise InputError("beam search does not support sampling: set temperature=0 or num_beams=1")

    cancel = None
    stop = None

    def stats(self) -> dict[str, Any]:
        return {"batch": f"{self.step}/{self.spec.max_tokens} tokens"} if self.step else {}

    def __enter__(self) -> LocalEngine:
        """Load the model."""
        with borrow_model(self.spec):
            return self

    def __exit__(self, *_: object) -> None:
        """Keep the base model loaded for the next engine; `unload` frees its memory."""

    def identity(self) -> dict[str, Any]:
        """Return the resolved dtype, and digests (or Hub commits) of the model folder and the adapter."""
        spec = self.spec
        return {
            "model": resolve_weights(spec.model, spec.revision).identity(),
            "adapter": resolve_adapter(spec.adapter).identity() if spec.adapter else None,
            "dtype": resolve_dtype(spec.dtype, spec.device),
        }

    def generate(
        self, requests: Iterable[tuple[str, Request] | None]
    ) -> Generator[list[tuple[str, Reply]], None, None]:
        """Yield the replies of each batch; requests are read in windows of 512 and sorted by length.

        If Ctrl-C interrupts a batch, its finished replies are yielded first.
        """
        import torch

        spec = self.spec
        for window in request_windows(requests, WINDOW_SIZE):
            with borrow_model(spec) as loaded:
                prepared = [(tag, _tokenise(tag, request, spec, loaded)) for tag, request in window]
                max_batch_size = MAX_CPU_BATCH_SIZE if loaded.device == "cpu" else WINDOW_SIZE
                share_prefix = spec.num_beams == 1 and can_share_prefix(loaded.model)
            if errors := [(tag, reply) for tag, reply in prepared if isinstance(reply, Reply)]:
                yield errors
            prompts = [prompt for _, prompt in prepared if isinstance(prompt, TokenisedPrompt)]
            if not prompts:
                continue
            groups = plan_batches(
                prompts,
                token_budget=spec.batch_tokens // spec.num_beams,
                new_tokens=spec.max_tokens,
                max_batch_size=max_batch_size,
                share_prefix=share_prefix,
            )
            for group in groups:
                prefix = group.batches[0][0].tokens[: group.prefix_length]
                shared_prefix = None
                for batch in group.batches:
                    finished: list[Completion] = []
                    try:
                        with borrow_model(spec) as loaded, torch.inference_mode():
                            if prefix and shared_prefix is None:
                                shared_prefix = prefill(loaded.model, prefix)
                            replies = _generate_batch(
                                loaded, batch, spec, shared_prefix, self._count_step, finished.append
                            )
                    except KeyboardInterrupt:
                        if finished:  # they are stored before the interrupt ends the run
                            yield [(done.prompt.tag, _build_reply(done, loaded.tokenizer, spec)) for done in finished]
                        raise
                    self.step = 0
                    yield list(replies)

    def _count_step(self, step: int) -> None:
        self.step = step
        if self.on_step is not None:
            self.on_step()


def request_windows(requests: Iterable[tuple[str, R] | None], size: int) -> Iterator[list[tuple[str, R]]]:
    """Yield windows of requests; a window ends when it has `size` requests or no further request is ready."""
    window: list[tuple[str, R]] = []
    for pair in requests:
        if pair is not None:
            window.append(pair)
        elif not window:
            time.sleep(PULL_INTERVAL)
        if window and (pair is None or len(window) == size):
            yield window
            window = []
    if window:
        yield window


def _tokenise(tag: str, request: Request, spec: EngineSpec, loaded: LoadedModel) -> TokenisedPrompt | Reply:
    """Return the tokenised prompt of a request, or an error reply."""
    tokens = tokenise_prompt(request, spec, loaded.tokenizer)
    if isinstance(tokens, Reply):
        return tokens
    context = context_length(loaded.model)
    if context and len(tokens) + spec.max_tokens > context:
        return error_reply(
            "too_long",
            f"{len(tokens)} prompt tokens and max_tokens={spec.max_tokens} exceed the context of {context} tokens",
        )
    return TokenisedPrompt(tag, tokens, f"{spec.seed}:{request.seed}:{request.sample}")


def context_length(model: Any) -> int | None:
    """Return the maximum number of positions of a model, or None if its configuration has none."""
    length: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return length


def tokenise_prompt(request: Request, spec: EngineSpec, tokenizer: Any) -> tuple[int, ...] | Reply:
    """Return the token ids of a request's prompt, at least one, or an error reply."""
    if request.messages:
        schemas = [json.loads(tool) for tool in request.tools] or None
        if not tokenizer.chat_template:
            return error_reply("bad_request", f"{spec.model} has no chat template: use the prompt style 'completion'")
        if schemas and "tools" not in tokenizer.get_chat_template(tools=schemas):
            return error_reply("bad_request", f"the chat template of {spec.model} does not support tools")
        rendered = _render_chat(request.messages, schemas, spec, tokenizer)
        if isinstance(rendered, Reply):
            return rendered
        text = rendered
    else:
        text = request.prompt
    if not is_text(text):
        return error_reply("bad_request", "the text contains an unpaired surrogate")
    tokens = tokenizer(text, add_special_tokens=not request.messages).input_ids
    if not tokens:
        return error_reply("bad_request", "the prompt is empty (no tokens)")
    return tuple(tokens)


def _render_chat(
    messages: Sequence[Message], schemas: list[Any] | None, spec: EngineSpec, tokenizer: Any
) -> str | Reply:
    """Return the text of messages in the chat template, or an error reply if the template fails or omits a part."""
    import jinja2

    def render(chat: Sequence[Any], _: Sequence[Any] = ()) -> str:
        text: str = tokenizer.apply_chat_template(
            list(chat), tools=schemas, tokenize=False, add_generation_prompt=True, **dict(spec.options)
        )
        return text

    # Content is never None, because some templates write "None"; arguments are objects, because templates use `tojson`.
    chat = [{**to_openai_message(message, _parse_arguments), "content": message.content} for message in messages]
    checked = [n for n, m in enumerate(messages) if m.content.strip() and (m.tool_calls or m.role == "tool")]
    try:
        text, omitted = render(chat), find_omitted_parts(chat, [], dict.fromkeys(checked, ""), render)
    except (jinja2.TemplateError, TypeError, RecursionError) as error:  # TypeError: arguments are not an object
        return error_reply("bad_request", f"the chat template of {spec.model} rejects these messages: {error}")
    if omitted:
        kind, turn, name = min(omitted, key=lambda part: (part.turn, part.kind == "content"))
        content = "the content next to a tool call" if messages[turn].tool_calls else "the content of a tool message"
        part = content if kind == "content" else f"the {kind} of {name}"
        return error_reply("bad_request", f"the chat template of {spec.model} omits {part}")
    return text


def _parse_arguments(text: str) -> Any:
    """Return the JSON object of a tool call's arguments; any other text unchanged."""
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return arguments if isinstance(arguments, dict) else text


def _generate_batch(
    loaded: LoadedModel,
    batch: Sequence[TokenisedPrompt],
    spec: EngineSpec,
    shared_prefix: Any,
    on_step: Callable[[int], None],
    on_finish: Callable[[Completion], None],
) -> list[tuple[str, Reply]]:
    """Return the (tag, reply) pairs of a batch."""
    model, tokenizer = loaded.model, loaded.tokenizer
    eos_ids = eos_token_ids(model, tokenizer)

    def generate(batch: Sequence[TokenisedPrompt]) -> list[tuple[str, Reply]]:
        if spec.num_beams > 1:
            completions = _beam_search(loaded, batch, spec, eos_ids)
        else:
            completions = decode(model, tokenizer, batch, spec, eos_ids, shared_prefix, on_step, on_finish)
        return [(completion.prompt.tag, _build_reply(completion, tokenizer, spec)) for completion in completions]

    return halve_on_oom(generate, batch, lambda prompt, message: (prompt.tag, error_reply("out_of_memory", message)))


def _beam_search(
    loaded: LoadedModel, batch: Sequence[TokenisedPrompt], spec: EngineSpec, eos_ids: frozenset[int]
) -> list[Completion]:
    import torch
    from transformers import GenerationConfig

    width, pad_id = max(len(prompt.tokens) for prompt in batch), min(eos_ids, default=0)
    padded = [[pad_id] * (width - len(prompt.tokens)) + list(prompt.tokens) for prompt in batch]
    mask = [[0] * (width - len(prompt.tokens)) + [1] * len(prompt.tokens) for prompt in batch]
    settings = GenerationConfig(
        num_beams=spec.num_beams,
        do_sample=False,
        max_new_tokens=spec.max_tokens,
        repetition_penalty=spec.repetition_penalty,
        eos_token_id=sorted(eos_ids) or None,
        pad_token_id=pad_id,
    )
    with silence_transformers():
        sequences = loaded.model.generate(
            torch.tensor(padded, device=loaded.model.device),
            attention_mask=torch.tensor(mask, device=loaded.model.device),
            generation_config=settings,
        )
    completions = []
    for prompt, tokens in zip(batch, sequences[:, width:].tolist(), strict=True):
        end = next((n for n, token in enumerate(tokens) if token in eos_ids), None)
        token_count = len(tokens) if end is None else end + 1
        completions.append(Completion(prompt, tuple(tokens[:end]), token_count, "length" if end is None else "stop"))
    return completions


def _build_reply(completion: Completion, tokenizer: Any, spec: EngineSpec) -> Reply:
    text = tokenizer.decode(completion.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    stop_positions = [position for stop in spec.stop if (position := text.find(stop)) >= 0]
    return Reply(
        text[: min(stop_positions)] if stop_positions else text,
        finish_reason="stop" if stop_positions else completion.finish_reason,
        prompt_tokens=len(completion.prompt.tokens),
        completion_tokens=completion.token_count,
    )


def error_reply(kind: str, detail: str) -> Reply:
    """Return a reply with an error of `REPLY_ERRORS` and a message."""
    return Reply(None, error=kind, error_detail=detail)
