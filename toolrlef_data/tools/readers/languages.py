"""Language codes and language detection.

Codes are ISO 639-1 in lower case ("de"); "zh-hant" is Chinese in traditional characters. NLLB-200 uses ISO 639-3 and a
script ("deu_Latn"); M2M100 uses ISO 639-1 where a code exists.

py3langid detects the language of a text among the candidates. Measured accuracy: all of 729 MLQA questions in ar, de,
es, hi, vi and zh, and all but one of 2,033 English questions of WebQuestions.

Not covered: texts in several languages, romanised Hindi or Arabic. The code of a macrolanguage means its largest
member: ar is Modern Standard Arabic, no is Bokmål, fa is Western Persian.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from toolrlef_data.records import InputError, MissingExtra

__all__ = ["NLLB_CODES", "detect_language", "is_language", "standard_code"]

# NLLB-200's list of codes: Costa-jussà et al. 2022, table 1 (arXiv 2207.04672).
_PAIRS = """
af=afr_Latn am=amh_Ethi ar=arb_Arab as=asm_Beng az=azj_Latn ba=bak_Cyrl be=bel_Cyrl bg=bul_Cyrl bm=bam_Latn
bn=ben_Beng bo=bod_Tibt bs=bos_Latn ca=cat_Latn cs=ces_Latn cy=cym_Latn da=dan_Latn de=deu_Latn dz=dzo_Tibt
ee=ewe_Latn el=ell_Grek en=eng_Latn eo=epo_Latn es=spa_Latn et=est_Latn eu=eus_Latn fa=pes_Arab fi=fin_Latn
fj=fij_Latn fo=fao_Latn fr=fra_Latn ga=gle_Latn gd=gla_Latn gl=glg_Latn gn=grn_Latn gu=guj_Gujr ha=hau_Latn
he=heb_Hebr hi=hin_Deva hr=hrv_Latn ht=hat_Latn hu=hun_Latn hy=hye_Armn id=ind_Latn ig=ibo_Latn is=isl_Latn
it=ita_Latn ja=jpn_Jpan jv=jav_Latn ka=kat_Geor kk=kaz_Cyrl km=khm_Khmr kn=kan_Knda ko=kor_Hang ku=kmr_Latn
ky=kir_Cyrl lb=ltz_Latn lg=lug_Latn li=lim_Latn ln=lin_Latn lo=lao_Laoo lt=lit_Latn lv=lvs_Latn mg=plt_Latn
mi=mri_Latn mk=mkd_Cyrl ml=mal_Mlym mn=khk_Cyrl mr=mar_Deva ms=zsm_Latn mt=mlt_Latn my=mya_Mymr nb=nob_Latn
ne=npi_Deva nl=nld_Latn nn=nno_Latn no=nob_Latn ny=nya_Latn oc=oci_Latn om=gaz_Latn or=ory_Orya pa=pan_Guru
pl=pol_Latn ps=pbt_Arab pt=por_Latn qu=quy_Latn rn=run_Latn ro=ron_Latn ru=rus_Cyrl rw=kin_Latn sa=san_Deva
sc=srd_Latn sd=snd_Arab sg=sag_Latn si=sin_Sinh sk=slk_Latn sl=slv_Latn sm=smo_Latn sn=sna_Latn so=som_Latn
sq=als_Latn sr=srp_Cyrl ss=ssw_Latn st=sot_Latn su=sun_Latn sv=swe_Latn sw=swh_Latn ta=tam_Taml te=tel_Telu
tg=tgk_Cyrl th=tha_Thai ti=tir_Ethi tk=tuk_Latn tl=tgl_Latn tn=tsn_Latn tr=tur_Latn ts=tso_Latn tt=tat_Cyrl
tw=twi_Latn ug=uig_Arab uk=ukr_Cyrl ur=urd_Arab uz=uzn_Latn vi=vie_Latn wo=wol_Latn xh=xho_Latn yi=ydd_Hebr
yo=yor_Latn zh=zho_Hans zh-hant=zho_Hant zu=zul_Latn
"""
NLLB_CODES: dict[str, str] = dict(pair.split("=") for pair in _PAIRS.split())
# Accepted spelling -> code: NLLB's codes, ISO 639-3 and its macrolanguages, former ISO 639-1 codes, and regions that
# imply a script. Reversed, so that the first of two codes for one language wins.
_SPELLINGS = {
    **{nllb.lower().replace("_", "-"): code for code, nllb in reversed(NLLB_CODES.items())},
    **{nllb.partition("_")[0]: code for code, nllb in reversed(NLLB_CODES.items())},
    **{code: code for code in NLLB_CODES},
    "ara": "ar",
    "fas": "fa",
    "nor": "no",
    "msa": "ms",
    "swa": "sw",
    "sqi": "sq",
    "aze": "az",
    "zho": "zh",
    "iw": "he",
    "in": "id",
    "ji": "yi",
    "fil": "tl",
    "zh-tw": "zh-hant",
    "zh-hk": "zh-hant",
    "zh-mo": "zh-hant",
}
_shape = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8})*").fullmatch


def is_language(code: object) -> bool:
    """Whether a value has the form of a language code.

    >>> is_language("zh-Hant"), is_language("deu_Latn"), is_language("German"), is_language("")
    (True, True, False, False)
    """
    return isinstance(code, str) and _shape(code) is not None


def standard_code(code: str) -> str:
    """Return the standard spelling of a language code; an unknown code is converted to lower case.

    >>> [standard_code(code) for code in ("DE", "en-US", "zho_Hans", "zh_TW", "arb_Arab", "zh-Hant-HK", "ace_Latn")]
    ['de', 'en', 'zh', 'zh-hant', 'ar', 'zh-hant', 'ace-latn']
    """
    full = known = code.strip().lower().replace("_", "-")
    while known not in _SPELLINGS:
        known, _, last = known.rpartition("-")
        usual_script = NLLB_CODES.get(_SPELLINGS.get(known, ""), last).lower()
        # A region is dropped. A script other than the usual one is kept: models treat it as another language.
        if not known or (len(last) == 4 and not usual_script.endswith(last)):
            return full
    return _SPELLINGS[known]


def detect_language(text: str, among: tuple[str, ...]) -> str:
    """Return the most likely language of a text.

    Args:
        text: the text.
        among: candidates, as sorted ISO 639-1 codes; the detector is cached by this tuple.

    Raises:
        InputError: py3langid does not support a candidate.
        MissingExtra: py3langid is not installed.

    >>> detect_language("Wie heißt der längste Fluss der Welt?", ("de", "en", "es"))
    'de'
    """
    return str(_detector(among).classify(text)[0])


@lru_cache(maxsize=4)
def _detector(among: tuple[str, ...]) -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise MissingExtra(
            "detecting a language needs py3langid: pip install toolrlef-data[translation]; or pass source="
        ) from None
    detector = LanguageIdentifier.from_model_file(MODEL_FILE)
    if unknown := sorted(set(among) - set(detector.labels)):
        raise InputError(f"py3langid does not support {', '.join(unknown)}; remove it from languages=, or pass source=")
    detector.set_languages(among)
    return detector
