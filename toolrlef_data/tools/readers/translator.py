"""Translation tools: a sequence-to-sequence model of transformers, or any engine, that translates a question.

This is the tool of the task `mlqa`. The argument of a call is the question: `translator(¿Dónde nace el río?)` returns
"Where does the river rise?". A reader then answers it from the English context.

The tokenizer determines how the languages are passed to the model:

| convention | models | source language | target language |
|---|---|---|---|
| NLLB | facebook/nllb-200-* | a token such as `spa_Latn` before the text | `eng_Latn` as forced first token |
| M2M100 | facebook/m2m100_418M, m2m100_1.2B | `__es__` before the text | `__en__` as forced first token |
| none | Helsinki-NLP/opus-mt-*-en | fixed by the model | fixed by the model; `target` must be that language |

The source language of an input is the language of its row, else `source`, else the detected language (`languages`). An
argument that has no letters, or whose source language is the target, is returned unchanged. The language of a row is
trusted. Special tokens in an argument are read as plain text.

Not covered: the codes of mBART-50, the prefixes of MADLAD and multi-target Marian, T5's instructions ("translate
English to ..."), texts in several languages, long texts (they are refused, not split).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from toolrlef_data.engines.prompts import render_prompt
from toolrlef_data.engines.rules import integer_from
from toolrlef_data.engines.spec import EngineSpec, Message
from toolrlef_data.records import InputError, ToolResult, clean_text
from toolrlef_data.tools.readers.generation import generate_texts, token_limit
from toolrlef_data.tools.readers.languages import NLLB_CODES, detect_language, is_language, standard_code
from toolrlef_data.tools.readers.seq2seq import (
    DEFAULTS,
    MAX_CHARACTERS,
    Decoding,
    LoadedModel,
    ModelOptions,
    ModelSpec,
    load_model,
    package_version,
    resolve_model,
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
    """Settings that determine a translation: the model, the standard language codes, and the generation settings."""

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
    """Return a translation tool with a local sequence-to-sequence model, which is loaded at the first call.

    Args:
        model: folder or Hub id.
        target: target language, as ISO 639-1 or NLLB code. Default "en".
        source: source language of inputs whose row has no language. Default None: detect it.
        languages: candidate languages for detection; the target is always a candidate. Default: those of MLQA.
        max_tokens: maximum number of tokens per translation; longer translations are truncated. Default 128.
        name: name of the tool in a call. Default "translator".
        options: see `ModelOptions`: revision, device, dtype, batch, max_input_tokens, num_beams, max_time.

    Returns:
        A slow tool whose value is the translation. Its error kinds are empty, too_large, unavailable and timeout. The
        kind is unavailable if the model runs out of memory, does not know the row's language or generates no text.

    Raises:
        InputError: the model or device does not exist, or a setting is out of range.
        TypeError: unknown option.

    >>> translator("facebook/nllb-200-distilled-600M", target="English")
    Traceback (most recent call last):
    toolrlef_data.records.InputError: expected a language code such as 'de', found 'English'
    """
    if not isinstance(languages, Iterable) or isinstance(languages, str) or not languages:
        raise InputError(f"languages must be a list of language codes, found {languages!r}")
    integer_from(1).check("max_tokens", max_tokens)
    for code in (target, *languages, *([source] if source is not None else [])):
        if not is_language(code):
            raise InputError(f"expected a language code such as 'de', found {code!r}")
    all_options = DEFAULTS | options
    settings = Settings(
        spec=resolve_model("Seq2SeqLM", model, all_options),
        target=standard_code(target),
        source=standard_code(source) if source is not None else None,
        languages=tuple(sorted({standard_code(code) for code in languages})),
        max_input_tokens=all_options["max_input_tokens"],
        decoding=Decoding(max_tokens, all_options["num_beams"]),
    )
    source_part = (
        f"from {settings.source}"
        if settings.source
        else f"from {' '.join(settings.languages)} by {package_version('py3langid')}"
    )
    return Tool(
        name,
        "Translates a question into English." if settings.target == "en" else f"Translates a text into {target}.",
        parameter="text",
        version=settings.spec.version(
            *(f"to {settings.target}", source_part, f"{settings.max_input_tokens} to {max_tokens} tokens"),
            f"beams {settings.decoding.num_beams}",
        ),
        many=partial(_translate, settings),
        batch=4 * all_options["batch"],  # sorted by length together; an interrupted run loses at most one batch
    )


def translator_engine(
    engine: EngineSpec, *, target: str = "English", style: str = "chat", name: str = "translator"
) -> Tool:
    """Return a translation tool that queries an engine.

    Args:
        engine: any model. With the style "completion", set `stop=("\\n",)`.
        target: English name of the target language. Default "English".
        style: one of `prompts.STYLES`. Default "chat".
        name: name of the tool in a call. Default "translator".

    Returns:
        A tool whose value is the translation.

    Raises:
        UnknownName: unknown style.

    >>> tool = translator_engine(EngineSpec("scripted", "demo"), style="completion")
    >>> print(tool.prompt("Wo liegt Bern?", ())[-32:])
    Text: Wo liegt Bern?
    In English:
    """
    _prompt(style, target, "", ())
    description = f"Translates a text into {target}."
    return Tool(name, description, parameter="text", engine=engine, prompt=partial(_prompt, style, target))


def _prompt(style: str, target: str, argument: str, texts: tuple[str, ...]) -> tuple[Message, ...] | str:
    """Return the engine's prompt for a text; `texts` is empty, because the tool has no `many`."""
    instruction = INSTRUCTION.format(target=target)
    if style == "completion":  # its usual labels, Question: and Answer:, would elicit an answer
        return f"{instruction}\n\nText: {' '.join(argument.split())}\nIn {target}:"
    return render_prompt(style, instruction, argument)


def _translate(settings: Settings, inputs: Sequence[ToolInput]) -> list[ToolResult]:
    """Return a result for each input, in order; the model is loaded only if an input needs it."""
    results: list[ToolResult | None] = [None] * len(inputs)
    pending: list[tuple[int, str, str]] = []
    for n, call in enumerate(inputs):
        text = clean_text(call.argument).strip()
        result = _result_or_language(settings, text, call.language)
        if isinstance(result, ToolResult):
            results[n] = result
        else:
            pending.append((n, text, result))
    if pending:
        loaded = load_model(settings.spec)
        with loaded.lock:
            _run_model(settings, loaded, pending, results)
    return [result for result in results if result is not None]


def _result_or_language(settings: Settings, text: str, row_language: str) -> ToolResult | str:
    """Return the result of a text that needs no model; otherwise, the source language for the model."""
    if not text:
        return ToolResult(error="empty", detail="the text is empty")
    if len(text) > MAX_CHARACTERS:
        detail = f"the text has {len(text)} characters, at most {MAX_CHARACTERS} are allowed"
        return ToolResult(error="too_large", detail=detail)
    if not any(unicodedata.category(character)[0] == "L" for character in text):
        return ToolResult(text)
    language = standard_code(row_language) if row_language.strip() else settings.source
    if language is None:
        language = detect_language(text, tuple(sorted({*settings.languages, settings.target})))
    return ToolResult(text) if language == settings.target else language


def _run_model(
    settings: Settings, loaded: LoadedModel, pending: Sequence[tuple[int, str, str]], results: list[ToolResult | None]
) -> None:
    """Fill in the results of pending (index, text, language) triples."""
    first_token = _first_token(loaded, settings)
    limit = token_limit(loaded, settings.max_input_tokens)
    indices, rows = [], []
    for n, text, language in pending:
        token = _language_token(loaded.tokenizer, language)
        if token is None:
            detail = f"{settings.spec.name} does not know the language {language!r}"
            results[n] = ToolResult(error="unavailable", detail=detail)
            continue
        row = encode(loaded.tokenizer, text, token)
        if len(row) > limit:
            detail = f"the text has {len(row)} tokens, at most {limit} are allowed"
            results[n] = ToolResult(error="too_large", detail=detail)
            continue
        indices.append(n)
        rows.append(row)
    decoding = Decoding(settings.decoding.max_tokens, settings.decoding.num_beams, first_token)
    for n, result in zip(indices, generate_texts(loaded, rows, settings.spec, decoding), strict=True):
        # Every text has a translation, so an empty one is a tool failure, not a call error.
        results[n] = result._replace(error="unavailable") if result.error == "no_result" else result


def encode(tokenizer: Any, text: str, language: str) -> list[int]:
    """Return the token ids of a text, with the language token of the tokenizer's convention ("" for none)."""
    if language and tokenizer.src_lang != language:
        tokenizer.src_lang = language
    return list(tokenizer(text, split_special_tokens=True).input_ids)


def _first_token(loaded: LoadedModel, settings: Settings) -> int | None:
    """Return the id of the forced first token, which selects the target language; None without language tokens."""
    tokenizer = loaded.tokenizer
    for language in (settings.target, settings.source or settings.target):
        if _language_token(tokenizer, language) is None:
            raise InputError(f"{settings.spec.name} does not know the language {language!r}")
    token = _language_token(tokenizer, settings.target)
    if not token:
        return None
    is_m2m100 = hasattr(tokenizer, "get_lang_id")
    return int(tokenizer.get_lang_id(token) if is_m2m100 else tokenizer.convert_tokens_to_ids(token))


def _language_token(tokenizer: Any, language: str) -> str | None:
    """Return the tokenizer's name of a language: "" if it has no language tokens, None for an unknown language."""
    if hasattr(tokenizer, "get_lang_id"):  # M2M100
        codes = tokenizer.lang_code_to_id
        base = language.partition("-")[0]
        return next((code for code in (language, base, {"nb": "no", "nso": "ns"}.get(base)) if code in codes), None)
    if not hasattr(tokenizer, "src_lang"):
        return ""
    code, _, script = language.partition("-")
    token = NLLB_CODES.get(language, f"{code}_{script.title()}")
    is_unknown = tokenizer.convert_tokens_to_ids(token) in (tokenizer.unk_token_id, None)
    return None if is_unknown else token
