"""A QA model: a tool that answers a natural-language question in a few words.

The tool of the task `lama`: `QA(In which country is Lake Bled?)` gives "Slovenia". Two makers:

- `qa_engine`: any engine, asked alone (closed book), or over the passages that a search tool finds (open book);
- `qa_model`: a transformers reader. "extractive" (BERT and the like with a span head) marks the best span of the
  passages that a search tool finds; "seq2seq" (T5 and the like) writes the answer, with passages or without.

Not covered: several answers to one question, and saying that there is none (a model always answers, a search may not);
what else an extractive model cannot do stands in spans.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from toolrlef_data.engines.prompts import render_prompt
from toolrlef_data.engines.spec import EngineSpec, Message
from toolrlef_data.records import InputError, ToolResult, UnknownName, clean_text
from toolrlef_data.tools.readers.seq2seq import (
    DEFAULTS,
    MAX_CHARACTERS,
    Decoding,
    Loaded,
    ModelOptions,
    ModelSpec,
    find_model,
    load,
    token_limit,
    write,
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
    """What decides an answer: the model, the tool that finds the passages, and how long an answer may be."""

    spec: ModelSpec
    search: Tool | None
    max_answer_words: int
    template: str
    max_input_tokens: int
    decoding: Decoding


def qa_engine(engine: EngineSpec, *, search: Tool | None = None, style: str = "chat", name: str = "QA") -> Tool:
    """A tool that asks an engine for a short answer.

    Args:
        engine: any model; `max_tokens=32` is plenty, and one asked in the style "completion" wants `stop=("\\n",)`.
        search: finds the passages to answer from; None answers from what the model knows.
        style: one of `prompts.STYLES`.
        name: as responses write it.

    Raises:
        InputError: search is no slow tool that gives texts.
        UnknownName: no such style.

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
    """A tool that reads with a model of transformers; the model is loaded at the first call.

    Args:
        model: folder or Hub id.
        search: finds the passages; a seq2seq model can do without.
        kind: "extractive" or "seq2seq".
        max_answer_words: words of an answer at most; 20 is where TRICE cuts a plain answer.
        template: of a seq2seq model's input, with {question} and, behind it, {context}. Default: T5's for SQuAD,
            "question: {question} context: {context}", and the bare question without a search.
        name: as responses write it.
        options: revision, device, dtype, batch, max_input_tokens, num_beams, max_time; see `ModelOptions`.

    Raises:
        InputError: no such model or device, an extractive one without a search, or a setting out of range.
        TypeError: an unknown keyword.
        UnknownName: no such kind.

    The tool's error kinds: those of the search; empty, too_large (the question), no_result; unavailable and timeout.
    """
    if kind not in KINDS:
        raise UnknownName("kind of QA model", kind, KINDS)
    _check_search(search)
    if kind == "extractive" and search is None:
        raise InputError("an extractive model marks spans of passages: pass search=, a tool that finds some")
    if max_answer_words < 1:
        raise InputError(f"max_answer_words must be at least 1, found {max_answer_words}")
    if not template:
        template = "{question}" if search is None else "question: {question} context: {context}"
    question, context = template.find("{question}"), template.find("{context}")
    if question < 0 or (search is None) != (context < 0) or 0 <= context < question:
        raise InputError("template holds {question} and, exactly where there is a search, {context} behind it")
    given = DEFAULTS | options
    settings = Settings(
        find_model(KINDS[kind], model, given),
        search,
        max_answer_words,
        template,
        given["max_input_tokens"],
        Decoding(max_answer_words * TOKENS_PER_WORD, given["num_beams"]),
    )
    how: tuple[object, ...] = (kind, f"{max_answer_words} words")
    written = (repr(template), given["max_input_tokens"], f"beams {given['num_beams']}")
    how += (f"windows of {WINDOW}",) if kind == "extractive" else written
    how += (f"over {search.name}: {search.version}",) if search is not None else ()
    read = _mark if kind == "extractive" else _write
    return Tool(
        name,
        DESCRIPTION,
        parameter="question",
        version=settings.spec.version(*how),
        many=partial(_answer, read, settings),
        batch=4 * given["batch"],
    )


def _check_search(search: Tool | None) -> None:
    if search is None:
        return
    if not isinstance(search, Tool) or search.many is None or search.engine is not None:
        found = search.name if isinstance(search, Tool) else search
        raise InputError(f"search takes a tool that finds passages (`many`), found {found!r:.80}")
    search.check()


def _prompt(style: str, argument: str, passages: tuple[str, ...]) -> tuple[Message, ...] | str:
    """What the engine is asked."""
    if not passages:
        return render_prompt(style, CLOSED_BOOK, argument)
    shown = "\n\n".join(f"Passage {n}: {' '.join(passage.split())}" for n, passage in enumerate(passages, 1))
    if style == "completion":  # which writes "Question:" before the input itself
        return render_prompt(style, f"{OPEN_BOOK}\n\n{shown}", argument)
    return render_prompt(style, OPEN_BOOK, f"{shown}\n\nQuestion: {argument}")


def _answer(read: Any, settings: Settings, inputs: Sequence[ToolInput]) -> list[ToolResult]:
    """A result for each input, in order: what the search says of it, else what the model reads."""
    inputs = [each._replace(argument=clean_text(each.argument).strip()) for each in inputs]
    results: list[ToolResult | None] = [_refusal(each.argument) for each in inputs]
    open_ = [n for n, result in enumerate(results) if result is None]
    found = (
        settings.search.run_many([inputs[n] for n in open_])
        if settings.search and open_
        else [ToolResult(())] * len(open_)
    )
    waiting: list[tuple[int, str, tuple[str, ...]]] = []
    for n, result in zip(open_, found, strict=True):
        texts = result.value if isinstance(result.value, tuple) else (str(result.value),)
        passages = tuple(text for text in texts if text.strip())
        if result.error is not None:
            results[n] = result
        elif settings.search is not None and not passages:
            results[n] = ToolResult(error="no_result", detail="no passage was found")
        else:
            waiting.append((n, inputs[n].argument, passages))
    if waiting:
        loaded = load(settings.spec)
        with loaded.lock:
            told = read(settings, loaded, [(question, passages) for _, question, passages in waiting])
        for (n, _, _), result in zip(waiting, told, strict=True):
            results[n] = result
    return [result for result in results if result is not None]


def _refusal(question: str) -> ToolResult | None:
    if not question:
        return ToolResult(error="empty", detail="there is no question")
    if len(question) > MAX_CHARACTERS:
        return ToolResult(error="too_large", detail=f"{len(question)} characters, at most {MAX_CHARACTERS} are read")
    return None


def _write(settings: Settings, loaded: Loaded, asked: Sequence[tuple[str, tuple[str, ...]]]) -> list[ToolResult]:
    """Answers that a seq2seq model writes."""
    most = token_limit(loaded, settings.max_input_tokens)
    before, _, after = settings.template.partition("{context}")
    results: list[ToolResult | None] = []
    rows: list[list[int]] = []
    for question, passages in asked:
        start = before.replace("{question}", question)
        if (count := len(_ids(loaded, start))) > most:
            results.append(ToolResult(error="too_large", detail=f"{count} tokens, at most {most} are read"))
            continue
        results.append(None)
        rows.append(_ids(loaded, (start + " ".join(passages) + after).strip(), most))
    written = iter(write(loaded, rows, settings.spec, settings.decoding))
    return [_shortened(next(written), settings) if result is None else result for result in results]


def _ids(loaded: Loaded, text: str, most: int | None = None) -> list[int]:
    """Token ids; beyond `most` the text's end is cut, not the closing token."""
    cut: dict[str, Any] = {"truncation": True, "max_length": most} if most is not None else {}
    return list(loaded.tokenizer(text, split_special_tokens=True, **cut).input_ids)


def _shortened(result: ToolResult, settings: Settings) -> ToolResult:
    if result.error is not None:
        return result
    return ToolResult(" ".join(str(result.value).split()[: settings.max_answer_words]))


def _mark(settings: Settings, loaded: Loaded, asked: Sequence[tuple[str, tuple[str, ...]]]) -> list[ToolResult]:
    """Answers that an extractive model marks."""
    return best_spans(loaded, asked, max_words=settings.max_answer_words, batch=settings.spec.batch)
