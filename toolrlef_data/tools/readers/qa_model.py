"""QA tools: answer a natural-language question in a few words.

This is the tool of the task `lama`: `QA(In which country is Lake Bled?)` returns "Slovenia". Two functions build it:

- `qa_engine` uses any engine, closed book, or open book with passages from a search tool.
- `qa_model` uses a local transformers model. The kind "extractive" (such as BERT with a span head) selects a span of
  the passages from a search tool. The kind "seq2seq" (such as T5) generates the answer, with or without passages.

Not covered: several answers to one question, detection of unanswerable questions (a model always answers; a search may
have no result). `spans` lists the limits of extractive models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from toolrlef_data.choices import check_choice
from toolrlef_data.engines.prompts import render_prompt
from toolrlef_data.engines.spec import EngineSpec, Message
from toolrlef_data.records import InputError, ToolResult, clean_text
from toolrlef_data.tools.readers.generation import generate_texts, token_limit
from toolrlef_data.tools.readers.seq2seq import (
    DEFAULTS,
    MAX_CHARACTERS,
    Decoding,
    LoadedModel,
    ModelOptions,
    ModelSpec,
    load_model,
    resolve_model,
)
from toolrlef_data.tools.readers.spans import TOKENS_PER_WORD, WINDOW, best_spans
from toolrlef_data.tools.tool import Tool, ToolInput

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["qa_engine", "qa_model"]

KINDS = {"extractive": "QuestionAnswering", "seq2seq": "Seq2SeqLM"}
DESCRIPTION = "Answers a factual question in a few words."
ANSWER_SHORTLY = (
    "Reply with the answer alone: a name, a date, a number or a few words. Write no sentence and no explanation."
)
CLOSED_BOOK = f"Answer the question from what you know. {ANSWER_SHORTLY}"
OPEN_BOOK = f"Answer the question with the help of the passages. {ANSWER_SHORTLY}"


@dataclass(frozen=True)
class Settings:
    """Settings that determine an answer: the model, the search tool, the prompt template and the length limits."""

    spec: ModelSpec
    search: Tool | None
    max_answer_words: int
    template: str
    max_input_tokens: int
    decoding: Decoding


def qa_engine(engine: EngineSpec, *, search: Tool | None = None, style: str = "chat", name: str = "QA") -> Tool:
    """Return a QA tool that queries an engine.

    Args:
        engine: any model. `max_tokens=32` is enough; with the style "completion", set `stop=("\\n",)`.
        search: a search tool whose passages are added to the prompt. Default None: closed book.
        style: one of `prompts.STYLES`. Default "chat".
        name: name of the tool in a call. Default "QA".

    Returns:
        A tool whose value is the answer text.

    Raises:
        InputError: search is not a slow tool that returns texts.
        UnknownName: unknown style.

    >>> tool = qa_engine(EngineSpec("scripted", "demo"))
    >>> [message.role for message in tool.prompt("Who painted the ceiling?", ())]
    ['system', 'user']
    """
    _check_search(search)
    _prompt(style, "", ())
    return Tool(
        name,
        DESCRIPTION,
        parameter="question",
        engine=engine,
        prompt=partial(_prompt, style),
        many=search.many if search is not None else None,
        batch=search.batch if search is not None else 256,
        version=f"1, over {search.name}: {search.version}" if search is not None else "1",
    )


def qa_model(
    model: str,
    *,
    search: Tool | None = None,
    kind: str = "extractive",
    max_answer_words: int = 20,
    template: str = "",
    name: str = "QA",
    **options: Unpack[ModelOptions],
) -> Tool:
    """Return a QA tool with a local transformers model, which is loaded at the first call.

    Args:
        model: folder or Hub id.
        search: a search tool for the passages. Required for an extractive model. Default None.
        kind: "extractive" or "seq2seq". Default "extractive".
        max_answer_words: maximum number of words per answer. Default 20, the limit of TRICE for plain answers.
        template: input format of a seq2seq model, with {question} and, if there is a search, {context} after it.
            Default: "question: {question} context: {context}" (T5's format for SQuAD); "{question}" without a search.
        name: name of the tool in a call. Default "QA".
        options: see `ModelOptions`: revision, device, dtype, batch, max_input_tokens, num_beams, max_time.

    Returns:
        A slow tool whose value is the answer text. Its error kinds are those of the search, empty, too_large (the
        question), no_result, unavailable and timeout.

    Raises:
        InputError: the model or device does not exist, an extractive model has no search, or a setting is out of range.
        TypeError: unknown option.
        UnknownName: unknown kind.

    >>> qa_model("deepset/roberta-base-squad2")
    Traceback (most recent call last):
    toolrlef_data.records.InputError: an extractive model needs passages: pass search=
    """
    check_choice("kind of QA model", kind, KINDS)
    _check_search(search)
    if kind == "extractive" and search is None:
        raise InputError("an extractive model needs passages: pass search=")
    if max_answer_words < 1:
        raise InputError(f"max_answer_words must be at least 1, found {max_answer_words}")
    if not template:
        template = "{question}" if search is None else "question: {question} context: {context}"
    question, context = template.find("{question}"), template.find("{context}")
    if question < 0 or (search is None) != (context < 0) or 0 <= context < question:
        raise InputError("template must contain {question} and, if and only if there is a search, {context} after it")
    all_options = DEFAULTS | options
    settings = Settings(
        resolve_model(KINDS[kind], model, all_options),
        search,
        max_answer_words,
        template,
        all_options["max_input_tokens"],
        Decoding(max_answer_words * TOKENS_PER_WORD, all_options["num_beams"]),
    )
    version_parts: tuple[object, ...] = (kind, f"{max_answer_words} words")
    seq2seq_parts = (repr(template), all_options["max_input_tokens"], f"beams {all_options['num_beams']}")
    version_parts += (f"windows of {WINDOW}",) if kind == "extractive" else seq2seq_parts
    version_parts += (f"over {search.name}: {search.version}",) if search is not None else ()
    read = _mark if kind == "extractive" else _write
    return Tool(
        name,
        DESCRIPTION,
        parameter="question",
        version=settings.spec.version(*version_parts),
        many=partial(_answer, read, settings),
        batch=4 * all_options["batch"],
    )


def _check_search(search: Tool | None) -> None:
    """Raise InputError if `search` cannot return passages, or is not set up."""
    if search is None:
        return
    if not isinstance(search, Tool) or search.many is None or search.engine is not None:
        found = search.name if isinstance(search, Tool) else search
        raise InputError(f"search must be a slow tool that returns passages and has no engine, found {found!r:.80}")
    search.check()


def _prompt(style: str, argument: str, passages: tuple[str, ...]) -> tuple[Message, ...] | str:
    """Return the engine's prompt for a question and its passages."""
    if not passages:
        return render_prompt(style, CLOSED_BOOK, argument)
    context = "\n\n".join(f"Passage {n}: {' '.join(passage.split())}" for n, passage in enumerate(passages, 1))
    if style == "completion":  # this style adds "Question:" itself
        return render_prompt(style, f"{OPEN_BOOK}\n\n{context}", argument)
    return render_prompt(style, OPEN_BOOK, f"{context}\n\nQuestion: {argument}")


def _answer(read: Any, settings: Settings, inputs: Sequence[ToolInput]) -> list[ToolResult]:
    """Return a result for each input, in order: the error of the search, else the result of the model."""
    inputs = [call._replace(argument=clean_text(call.argument).strip()) for call in inputs]
    results: list[ToolResult | None] = [_input_error(call.argument) for call in inputs]
    valid = [n for n, result in enumerate(results) if result is None]
    searched = (
        settings.search.run_many([inputs[n] for n in valid])
        if settings.search and valid
        else [ToolResult(())] * len(valid)
    )
    pending: list[tuple[int, str, tuple[str, ...]]] = []
    for n, result in zip(valid, searched, strict=True):
        texts = result.value if isinstance(result.value, tuple) else (str(result.value),)
        passages = tuple(text for text in texts if text.strip())
        if result.error is not None:
            results[n] = result
        elif settings.search is not None and not passages:
            results[n] = ToolResult(error="no_result", detail="the search returned no passage")
        else:
            pending.append((n, inputs[n].argument, passages))
    if pending:
        loaded = load_model(settings.spec)
        with loaded.lock:
            answers = read(settings, loaded, [(question, passages) for _, question, passages in pending])
        for (n, _, _), answer in zip(pending, answers, strict=True):
            results[n] = answer
    return [result for result in results if result is not None]


def _input_error(question: str) -> ToolResult | None:
    """Return an error for a question that is empty or too long, else None."""
    if not question:
        return ToolResult(error="empty", detail="the question is empty")
    if len(question) > MAX_CHARACTERS:
        detail = f"the question has {len(question)} characters, at most {MAX_CHARACTERS} are allowed"
        return ToolResult(error="too_large", detail=detail)
    return None


def _write(
    settings: Settings, loaded: LoadedModel, questions: Sequence[tuple[str, tuple[str, ...]]]
) -> list[ToolResult]:
    """Return the answers of a seq2seq model to (question, passages) pairs."""
    limit = token_limit(loaded, settings.max_input_tokens)
    prefix, _, suffix = settings.template.partition("{context}")
    results: list[ToolResult | None] = []
    rows: list[list[int]] = []
    for question, passages in questions:
        start = prefix.replace("{question}", question)
        if (count := len(_token_ids(loaded, start))) > limit:
            detail = f"the question has {count} tokens, at most {limit} are allowed"
            results.append(ToolResult(error="too_large", detail=detail))
            continue
        results.append(None)
        rows.append(_token_ids(loaded, (start + " ".join(passages) + suffix).strip(), limit))
    answers = iter(generate_texts(loaded, rows, settings.spec, settings.decoding))
    return [_truncate(next(answers), settings) if result is None else result for result in results]


def _token_ids(loaded: LoadedModel, text: str, limit: int | None = None) -> list[int]:
    """Return the token ids of a text, truncated to `limit` without losing the end token."""
    truncation: dict[str, Any] = {"truncation": True, "max_length": limit} if limit is not None else {}
    return list(loaded.tokenizer(text, split_special_tokens=True, **truncation).input_ids)


def _truncate(result: ToolResult, settings: Settings) -> ToolResult:
    """Truncate an answer to its maximum number of words."""
    if result.error is not None:
        return result
    return ToolResult(" ".join(str(result.value).split()[: settings.max_answer_words]))


def _mark(
    settings: Settings, loaded: LoadedModel, questions: Sequence[tuple[str, tuple[str, ...]]]
) -> list[ToolResult]:
    """Return the answers of an extractive model to (question, passages) pairs."""
    return best_spans(loaded, questions, max_words=settings.max_answer_words, batch=settings.spec.batch)
