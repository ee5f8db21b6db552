"""Tests of language codes, NLLB's list of codes, and language detection on short questions."""

from __future__ import annotations

import pytest

from tests.support.models import QUESTIONS
from toolrlef_data.records import InputError
from toolrlef_data.tools.readers.languages import NLLB_CODES, detect_language, is_language, standard_code


@pytest.mark.parametrize(
    ("language", "text"),
    [
        *QUESTIONS.items(),
        ("de", "Wann wurde die Brücke gebaut?"),
        ("en", "When was the bridge built?"),
        ("es", "¿Cuándo se construyó el puente?"),
        ("vi", "Cây cầu được xây dựng khi nào?"),
        ("ar", "متى بني الجسر؟"),
        ("hi", "पुल कब बनाया गया था?"),
        ("zh", "这座桥是什么时候建成的？"),
        ("zh", "這座橋是什麼時候建成的？"),
        ("de", "WER SCHRIEB DAS LIED?"),
    ],
)
def test_detect_language(language: str, text: str) -> None:
    assert detect_language(text, tuple(sorted(QUESTIONS))) == language


def test_an_unsupported_candidate_is_named_in_the_error() -> None:
    with pytest.raises(InputError, match="tlh"):
        detect_language("nuqneH", ("en", "tlh"))


@pytest.mark.parametrize(
    ("code", "standard"),
    [
        ("EN", "en"),
        ("en_US", "en"),
        (" de ", "de"),
        ("deu", "de"),
        ("deu_Latn", "de"),
        ("zh-CN", "zh"),
        ("zh-Hans", "zh"),
        ("zh-Hans-CN", "zh"),
        ("zh-TW", "zh-hant"),
        ("zho_Hant", "zh-hant"),
        ("arb_Arab", "ar"),
        ("ar-EG", "ar"),
        ("iw", "he"),
        ("no", "no"),
        ("nb", "nb"),
        ("sr-Latn", "sr-latn"),  # models treat another script as another language
        ("sr-Cyrl", "sr"),
        ("ace_Latn", "ace-latn"),
        ("tlh", "tlh"),
        ("", ""),
    ],
)
def test_standard_code(code: str, standard: str) -> None:
    assert standard_code(code) == standard


def test_the_codes_are_those_of_nllb() -> None:
    from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

    assert set(NLLB_CODES.values()) <= set(FAIRSEQ_LANGUAGE_CODES)
    assert len(NLLB_CODES) > 100
    for code in FAIRSEQ_LANGUAGE_CODES:  # every NLLB code maps to itself
        standard = standard_code(code)
        assert NLLB_CODES.get(standard, standard) in {code, code.lower().replace("_", "-")}


@pytest.mark.parametrize("code", ["", "e", "English", "en US", "12", None, 5, "en-", "x" * 5000])
def test_invalid_language_codes(code: object) -> None:
    assert not is_language(code)
