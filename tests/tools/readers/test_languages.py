"""Tests of language codes, NLLB's list of codes, and language detection on short questions."""

from __future__ import annotations

import hashlib

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


def test_the_table_of_codes_stays_the_same() -> None:
    """Versions of tools name its codes."""
    pairs = " ".join(sorted(f"{code}={nllb}" for code, nllb in NLLB_CODES.items()))
    assert (hashlib.sha256(pairs.encode()).hexdigest()[:8], len(NLLB_CODES)) == ("4f28eb70", 130)


def test_macrolanguages_former_codes_and_regions_that_imply_a_script() -> None:
    spellings = "ara=ar fas=fa nor=no msa=ms swa=sw sqi=sq aze=az zho=zh iw=he in=id ji=yi fil=tl zh-tw=zh-hant"
    spellings += " zh-hk=zh-hant zh-mo=zh-hant arb=ar pes=fa nob=nb zsm=ms swh=sw als=sq cmn-hant=cmn-hant zh-sg=zh"
    spellings += " fil-ph=tl ara-eg=ar uz-cyrl=uz-cyrl uz-latn-uz=uz zh-hant-tw=zh-hant zh-hans-hk=zh"
    for spelling, code in (pair.split("=") for pair in spellings.split()):
        assert standard_code(spelling) == standard_code(spelling.upper().replace("-", "_")) == code, spelling


@pytest.mark.parametrize("code", ["de", "deu", "DE", "deu_Latn", "zh-Hant-TW", "de-1996", "en-x-12345678"])
def test_valid_language_codes(code: str) -> None:
    assert is_language(code)


@pytest.mark.parametrize(
    "code", ["", "e", "English", "en US", "12", None, 5, "en-", "en-123456789", "deut", "en.US", "x" * 5000]
)
def test_invalid_language_codes(code: object) -> None:
    assert not is_language(code)
