"""Word lists and tables of numbers: an entry that is lost, added or changed is meant.

What single entries do is tested beside their modules. Print `digest_of(value)` for a change that is meant.
"""

from __future__ import annotations

import importlib

import pytest

from tests.test_fixed_texts import digest_of

DIGESTS = {
    "annotations.composer": {"REASONS": "397525c9"},
    "annotations.evidence": {"_MONEY_WORDS": "29e97749", "_SIGNS": "bc240943", "_other_words": "c4d864eb"},
    "benchmarks.accepted": {"TYPES": "56163841"},
    "benchmarks.choices": {"CHOICES": "d59c6ccb"},
    "benchmarks.files": {"WHEN2TOOL_FILES": "b41588d9"},
    "benchmarks.function_calls": {"CALLS": "9753f4b0", "REPLY": "bf4ad13c"},
    "evaluation.outcomes": {"NEEDS": "6d013f71", "OUTCOMES": "0259c46e"},
    "files.entries": {"REQUIRED_FIELDS": "528a59f2", "STAGE2_FIELDS": "522704b9"},
    "files.lines": {"ANSWER_AS_TEXT": "2f652028", "NO_REPLY": "45d03b68", "QUESTION_IN_INSTRUCTION": "ca3fbb2b"},
    "files.step_tables": {"SUFFIXES": "dcd74174", "TRAINING_SETS": "f16fe592"},
    "files.steps": {"REASONS": "0f072176"},
    "files.task_entries": {"KINDS": "5b806c4a"},
    "files.writer": {"LEDGER_ORDER": "b321ca9c"},
    "need.labels": {"MEASURED": "352b4f58"},
    "not_calling.grammar": {
        "BASES": "cea8e5cf", "COMMON_KNOWLEDGE": "55c223ba", "CURRENCIES": "f5b386f3", "DETERMINERS": "23fa449b", "MONEY_VERBS": "00c3d709", "NAMES_ON_S": "3978ab7d",
        "NO_NAMES": "bb2a5247", "NO_NOUNS": "b451949c", "PLURALS": "9f32e298", "REST": "876587b2", "UNITS": "a5da5bf2",
    },
    "not_calling.recoverable": {"OTHER_SIZES": "08ec9ade"},
    "not_calling.withholding": {"AUXILIARIES": "5524bfe4", "OTHER_VALUES": "f8796878"},
    "ranking.agreement": {"AGREEMENT": "114bd691"},
    "ranking.logprobs": {"LOGPROBS": "0e165244"},
    "scoring.stage": {"MEASURED": "44547f56", "UNGRADED": "681fb5f6"},
    "training.adapter": {"LORA": "88c8bcd5", "SET_BY_TRAINING": "fbf39a15", "STAGE1_DEFAULTS": "bc2b576f", "STAGE2_DEFAULTS": "62eabbae"},
}  # fmt: skip
NAMES = [(module, name) for module, names in DIGESTS.items() for name in names]


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_a_fixed_list_stays_as_it_is(module: str, name: str) -> None:
    value = getattr(importlib.import_module(f"toolrlef_data.trice.{module}"), name)
    assert digest_of(value) == DIGESTS[module][name]
