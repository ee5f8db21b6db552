"""A translator: a sequence-to-sequence model of transformers, or any engine, that puts a question into English.

The tool of the task `mlqa`, whose call is the question itself: `translator(¿Dónde nace el río?)` gives "Where does the
river rise?", and a reader answers that over the English context.

How a model is told the languages is read off its tokenizer:

| convention | models | the source | the target |
|---|---|---|---|
| NLLB | facebook/nllb-200-* | a token such as `spa_Latn` before the text | the first token written is `eng_Latn` |
| M2M100 | facebook/m2m100_418M, m2m100_1.2B | `__es__` before the text | the first token written is `__en__` |
| none | Helsinki-NLP/opus-mt-*-en | is fixed by the model | is fixed by the model: `target` must be that language |

The source language of an input is what its row tells, else `source`, else it is detected (`languages`). An argument
already in the target language, or without a letter, is returned as it is; where the row tells its language, the row is
believed. Special tokens that a model wrote into an argument are read as plain text.

Not covered: mBART-50's codes, MADLAD's and multi-target Marian's prefixes, T5's sentences ("translate English to ..."),
texts of several languages. Long texts are refused, not split into sentences: a question is one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from toolrlef_data.engines.prompts import render_prompt
from toolrlef_data.engines.spec import EngineSpec, Message
from toolrlef_data.records import InputError, ToolResult, clean_text
from toolrlef_data.tools.readers.languages import NLLB_CODES, detect_language, is_language, standard_code
from toolrlef_data.tools.readers.seq2seq import (
    DEFAULTS,
    MAX_CHARACTERS,
    Decoding,
    Loaded,
    ModelOptions,
    ModelSpec,
    find_model,
    load,
    package_version,
    token_limit,
    write,
)
from toolrlef_data.tools.tool import Tool, ToolInput

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["translator", "translator_engine"]

INSTRUCTION = (
    "You are a translator. Translate the text that you are given into {target}. Reply with the translation alone: do "
    "not answer it if it is a question, and add no notes and no quotation marks."
)


@dataclass(frozen=True)
class Settings:
    """What decides a translation: the model, the languages in standard spelling, and how the text is written."""

    spec: ModelSpec
    target: str
    source: str | None
    languages: tuple[str, ...]
    max_input_tokens: int
    decoding: Decoding


def translator(
    model: str,
    *,
    target: str = "en",
    source: str | None = None,
    languages: Sequence[str] = ("ar", "de", "es", "hi", "vi", "zh"),
    max_tokens: int = 128,
    name: str = "translator",
    **options: Unpack[ModelOptions],
) -> Tool:
    """A tool that translates with a sequence-to-sequence model; the model is loaded at the first call.

    Args:
        model: folder or Hub id.
        target: language that is translated into, ISO 639-1 ("en"); also NLLB's codes.
        source: language of every input whose row does not tell it; None detects it.
        languages: those that are told apart where a language is detected; the target is always among them.
        max_tokens: tokens of a translation at most; a longer one is cut there.
        name: as responses write it.
        options: revision, device, dtype, batch, max_input_tokens, num_beams, max_time; see `ModelOptions`.

    Raises:
        InputError: no such model or device, or a setting out of range.
        TypeError: an unknown keyword.

    The tool's error kinds: empty, too_large; unavailable (the memory does not hold it, the model does not know the
    row's language, or wrote nothing) and timeout, which are the tool's own.
    """
    for code in (target, *languages, *([source] if source is not None else [])):
        if not is_language(code):
            raise InputError(f"expected a language code such as 'de', found {code!r}")
    if max_tokens < 1:
        raise InputError(f"max_tokens must be at least 1, found {max_tokens}")
    if isinstance(languages, str) or not languages:
        raise InputError(f"languages takes a list of language codes, found {languages!r}")
    given = DEFAULTS | options
    settings = Settings(
        spec=find_model("Seq2SeqLM", model, given),
        target=standard_code(target),
        source=standard_code(source) if source is not None else None,
        languages=tuple(sorted({standard_code(code) for code in languages})),
        max_input_tokens=given["max_input_tokens"],
        decoding=Decoding(max_tokens, given["num_beams"]),
    )
    read = (
        f"from {settings.source}"
        if settings.source
        else f"from {' '.join(settings.languages)} by {package_version('py3langid')}"
    )
    return Tool(
        name,
        "Translates a question into English." if settings.target == "en" else f"Translates a text into {target}.",
        parameter="text",
        version=settings.spec.version(
            *(f"to {settings.target}", read, f"{settings.max_input_tokens} to {max_tokens} tokens"),
            f"beams {settings.decoding.num_beams}",
        ),
        many=partial(_translate, settings),
        batch=4 * given["batch"],  # what is sorted by length together, and lost when a run is killed
    )


def translator_engine(
    engine: EngineSpec, *, target: str = "English", style: str = "chat", name: str = "translator"
) -> Tool:
    """A tool that asks an engine for the translation.

    Args:
        engine: any model. One asked in the style "completion" wants `stop=("\\n",)`.
        target: the language's English name.
        style: one of `prompts.STYLES`.
        name: as responses write it.

    Raises:
        UnknownName: no such style.

    >>> tool = translator_engine(EngineSpec("scripted", "demo"), style="completion")
    >>> print(tool.prompt("Wo liegt Bern?", ())[-32:])
    Text: Wo liegt Bern?
    In English:
    """
    _prompt(style, target, "", ())
    description = f"Translates a text into {target}."
    return Tool(name, description, parameter="text", engine=engine, prompt=partial(_prompt, style, target))


def _prompt(style: str, target: str, argument: str, found: tuple[str, ...]) -> tuple[Message, ...] | str:
    instruction = INSTRUCTION.format(target=target)
    if style == "completion":  # whose usual marks, Question: and Answer:, would call for an answer
        return f"{instruction}\n\nText: {' '.join(argument.split())}\nIn {target}:"
    return render_prompt(style, instruction, argument)


def _translate(settings: Settings, inputs: Sequence[ToolInput]) -> list[ToolResult]:
    """A result for each input, in order; the model is loaded only where one needs it."""
    results: list[ToolResult | None] = [None] * len(inputs)
    waiting: list[tuple[int, str, str]] = []
    for n, each in enumerate(inputs):
        text = clean_text(each.argument).strip()
        told = _without_model(settings, text, each.language)
        if isinstance(told, ToolResult):
            results[n] = told
        else:
            waiting.append((n, text, told))
    if waiting:
        loaded = load(settings.spec)
        with loaded.lock:
            _by_model(settings, loaded, waiting, results)
    return [result for result in results if result is not None]


def _without_model(settings: Settings, text: str, told: str) -> ToolResult | str:
    """The result of an input that needs no model, else its language."""
    if not text:
        return ToolResult(error="empty", detail="there is no text to translate")
    if len(text) > MAX_CHARACTERS:
        return ToolResult(error="too_large", detail=f"{len(text)} characters, at most {MAX_CHARACTERS} are read")
    if not any(unicodedata.category(sign)[0] == "L" for sign in text):
        return ToolResult(text)
    language = standard_code(told) if told.strip() else settings.source
    if language is None:
        language = detect_language(text, tuple(sorted({*settings.languages, settings.target})))
    return ToolResult(text) if language == settings.target else language


def _by_model(
    settings: Settings, loaded: Loaded, waiting: Sequence[tuple[int, str, str]], results: list[ToolResult | None]
) -> None:
    """Fill in the results of the texts that are waiting: (place, text, language)."""
    first = _first_token(loaded, settings)
    most = token_limit(loaded, settings.max_input_tokens)
    places, rows = [], []
    for n, text, language in waiting:
        token = _language_token(loaded.tokenizer, language)
        if token is None:
            detail = f"{settings.spec.name} does not know the language {language!r}"
            results[n] = ToolResult(error="unavailable", detail=detail)
            continue
        row = encode(loaded.tokenizer, text, token)
        if len(row) > most:
            results[n] = ToolResult(error="too_large", detail=f"{len(row)} tokens, at most {most} are read")
            continue
        places.append(n)
        rows.append(row)
    decoding = Decoding(settings.decoding.max_tokens, settings.decoding.num_beams, first)
    for n, result in zip(places, write(loaded, rows, settings.spec, decoding), strict=True):
        # A question has a translation: that there is none is no fault of the call.
        results[n] = result._replace(error="unavailable") if result.error == "no_result" else result


def encode(tokenizer: Any, text: str, language: str) -> list[int]:
    """The token ids of a text, marked with its language as the tokenizer's convention has it ("" marks nothing)."""
    if language and tokenizer.src_lang != language:
        tokenizer.src_lang = language
    return list(tokenizer(text, split_special_tokens=True).input_ids)


def _first_token(loaded: Loaded, settings: Settings) -> int | None:
    """The id of the token that makes the model write the target language; None where it writes only one."""
    tokenizer = loaded.tokenizer
    for language in (settings.target, settings.source or settings.target):
        if _language_token(tokenizer, language) is None:
            raise InputError(f"{settings.spec.name} does not know the language {language!r}")
    token = _language_token(tokenizer, settings.target)
    if not token:
        return None
    by_code = hasattr(tokenizer, "get_lang_id")
    return int(tokenizer.get_lang_id(token) if by_code else tokenizer.convert_tokens_to_ids(token))


def _language_token(tokenizer: Any, language: str) -> str | None:
    """What the tokenizer calls a language: "" where it has no languages, None where it does not know this one."""
    if hasattr(tokenizer, "get_lang_id"):  # M2M100
        known = tokenizer.lang_code_to_id
        base = language.partition("-")[0]
        return next((code for code in (language, base, {"nb": "no", "nso": "ns"}.get(base)) if code in known), None)
    if not hasattr(tokenizer, "src_lang"):
        return ""
    code, _, script = language.partition("-")
    token = NLLB_CODES.get(language, f"{code}_{script.title()}")
    unknown = tokenizer.convert_tokens_to_ids(token) in (tokenizer.unk_token_id, None)
    return None if unknown else token
