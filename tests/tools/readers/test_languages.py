"""Languages: one spelling of every code, NLLB's own list, and short questions told apart."""

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
def test_languages_are_told_apart(language: str, text: str) -> None:
    assert detect_language(text, tuple(sorted(QUESTIONS))) == language


def test_a_language_that_cannot_be_detected_is_named() -> None:
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
        ("sr-Latn", "sr-latn"),  # another script is another language to a model
        ("sr-Cyrl", "sr"),
        ("ace_Latn", "ace-latn"),
        ("tlh", "tlh"),
        ("", ""),
    ],
)
def test_codes_have_one_spelling(code: str, standard: str) -> None:
    assert standard_code(code) == standard


def test_the_table_is_nllbs() -> None:
    from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

    assert set(NLLB_CODES.values()) <= set(FAIRSEQ_LANGUAGE_CODES)
    assert len(NLLB_CODES) > 100
    for code in FAIRSEQ_LANGUAGE_CODES:  # each of its own codes means itself
        standard = standard_code(code)
        assert NLLB_CODES.get(standard, standard) in {code, code.lower().replace("_", "-")}


@pytest.mark.parametrize("code", ["", "e", "English", "en US", "12", None, 5, "en-", "x" * 5000])
def test_what_is_no_code(code: object) -> None:
    assert not is_language(code)
