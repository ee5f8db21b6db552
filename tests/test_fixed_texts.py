"""Texts that models see, names in files of the original, and the columns of every table: they stay as they are.

A change of a text changes the reply keys and the data that models learn from, and a change of a name or a column is
one that readers of published data see. Print `digest_of(value)` for a change that is meant.
"""

from __future__ import annotations

import hashlib
import importlib
from typing import Any

import pyarrow as pa
import pytest
from datasets import Features

FIXED = """
toolbench.prompts DIVERSITY ONE_CALL RANKING RULES
toolbench.search.protocols FORMAT GO_ON STOP
toolbench.toolllama FORMAT FUNCTIONS SENTENCE
tools.functions.function FINISH
tools.readers.languages NLLB_CODES _SPELLINGS
tools.readers.qa_model ANSWER_SHORTLY CLOSED_BOOK DESCRIPTION OPEN_BOOK
trice.benchmarks.offered INSTRUCTION JSON_TYPES
trice.cassette EXECUTIONS
trice.files.folder NAMES RESPONSES
trice.files.names COMMAND_NAMES UPSTREAM_NAMES UPSTREAM_TASKS
trice.files.response_files KEPT_FIELDS RESPONDER_ORDER
trice.not_calling.chat FILLINGS MESSAGES
trice.not_calling.texts ASKS NONE_FITS NO_TOOLS_INSTRUCTIONS ONLY_TOOL_DOES_NOT_FIT OTHER_TOOLS
trice.not_calling.texts OTHER_TOOLS_INSTRUCTIONS REFUSALS
columns ANSWERED ANSWERS DROPPED GRADED LABELLED LATER_FIELDS MESSAGE NEED NOT_CALLING PAIRS QUESTIONS RESPONSE STAGE1
columns STAGE2 STAGE2_LATER TOOLLLAMA TRAJECTORIES
"""
NAMES = [(line.split()[0], name) for line in FIXED.strip().splitlines() for name in line.split()[1:]]
DIGESTS: dict[str, str] = {
    "toolbench.prompts.DIVERSITY": "ffde8c00",
    "toolbench.prompts.ONE_CALL": "dab31765",
    "toolbench.prompts.RANKING": "05270245",
    "toolbench.prompts.RULES": "1361037b",
    "toolbench.search.protocols.FORMAT": "1da7a92d",
    "toolbench.search.protocols.GO_ON": "0155bbd7",
    "toolbench.search.protocols.STOP": "cba45ef3",
    "toolbench.toolllama.FORMAT": "bf03ce43",
    "toolbench.toolllama.FUNCTIONS": "88e09286",
    "toolbench.toolllama.SENTENCE": "8f221d79",
    "tools.functions.function.FINISH": "b0296390",
    "tools.readers.languages.NLLB_CODES": "4d402386",
    "tools.readers.languages._SPELLINGS": "01dd46be",
    "tools.readers.qa_model.ANSWER_SHORTLY": "f056679b",
    "tools.readers.qa_model.CLOSED_BOOK": "5b6e64f5",
    "tools.readers.qa_model.DESCRIPTION": "d836acbf",
    "tools.readers.qa_model.OPEN_BOOK": "783e6e4c",
    "trice.benchmarks.offered.INSTRUCTION": "789fbd76",
    "trice.benchmarks.offered.JSON_TYPES": "3fb0ccaa",
    "trice.cassette.EXECUTIONS": "68b7162d",
    "trice.files.folder.NAMES": "331ded5c",
    "trice.files.folder.RESPONSES": "d39b0b80",
    "trice.files.names.COMMAND_NAMES": "ae20d13e",
    "trice.files.names.UPSTREAM_NAMES": "e965ec24",
    "trice.files.names.UPSTREAM_TASKS": "e2a7bd19",
    "trice.files.response_files.KEPT_FIELDS": "a74b6648",
    "trice.files.response_files.RESPONDER_ORDER": "d542e960",
    "trice.not_calling.chat.FILLINGS": "41ca801d",
    "trice.not_calling.chat.MESSAGES": "321228c9",
    "trice.not_calling.texts.ASKS": "c9747ea4",
    "trice.not_calling.texts.NONE_FITS": "23116ad4",
    "trice.not_calling.texts.NO_TOOLS_INSTRUCTIONS": "0c59605a",
    "trice.not_calling.texts.ONLY_TOOL_DOES_NOT_FIT": "3eca92df",
    "trice.not_calling.texts.OTHER_TOOLS": "2c3d3ad9",
    "trice.not_calling.texts.OTHER_TOOLS_INSTRUCTIONS": "aeca4f22",
    "trice.not_calling.texts.REFUSALS": "45ce80c6",
    "columns.ANSWERED": "1e09cfd9",
    "columns.ANSWERS": "fdda7824",
    "columns.DROPPED": "cd312050",
    "columns.GRADED": "a117c25f",
    "columns.LABELLED": "3cbd4249",
    "columns.LATER_FIELDS": "8c7fb181",
    "columns.MESSAGE": "e63112bf",
    "columns.NEED": "693148b9",
    "columns.NOT_CALLING": "b3ce7ff8",
    "columns.PAIRS": "c5cda31b",
    "columns.QUESTIONS": "3546c496",
    "columns.RESPONSE": "ce659d05",
    "columns.STAGE1": "0d71b252",
    "columns.STAGE2": "0fb3a6f2",
    "columns.STAGE2_LATER": "d4994844",
    "columns.TOOLLLAMA": "aa680af0",
    "columns.TRAJECTORIES": "31914e6c",
}


def plain(value: Any) -> Any:
    """Return nested lists of texts, in an order that is the same in every process."""
    if isinstance(value, pa.DataType):
        return str(value)
    if isinstance(value, dict):
        return [[plain(key), plain(item)] for key, item in value.items()]
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else repr(value)


def digest_of(value: Any) -> str:
    """Return a short digest; columns count with their Arrow types, which do not depend on the version of `datasets`."""
    features = value if isinstance(value, Features) else None
    if isinstance(value, dict) and not features and any("Value" in type(item).__name__ for item in value.values()):
        features = Features(value)
    if features is not None:
        value = [[field.name, str(field.type)] for field in features.arrow_schema]
    return hashlib.sha256(repr(plain(value)).encode()).hexdigest()[:8]


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_a_fixed_text_stays_as_it_is(module: str, name: str) -> None:
    value = getattr(importlib.import_module(f"toolrlef_data.{module}"), name)
    assert digest_of(value) == DIGESTS[f"{module}.{name}"]


def test_every_digest_has_its_text() -> None:
    assert list(DIGESTS) == [f"{module}.{name}" for module, name in NAMES]
