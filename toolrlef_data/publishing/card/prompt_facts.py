"""Prompts for the data card: the instructions and few-shot examples of the tasks, verbatim, with their digests.

provenance.json has only digests of prompts. The text of a prompt is known if it is one of this package, or if it is in
the published column `instruction`. Other prompts are the publisher's own: the card has only their digests, also if
their task is registered in `TASKS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from datasets import Dataset

from toolrlef_data.columns import STAGE1
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.task import Task

__all__ = ["Prompt", "prompt_facts"]

Splits = Mapping[str, Mapping[str, Dataset]]
# Field of `Task` -> what it is for.
USES = {
    "plain_instruction": "for the student",
    "instruction": "for the responders",
    "teacher_instruction": "for the teacher",
    "reader_instruction": "for the reader",
}
EXAMPLES = "examples"
SHIPPED = TASKS.shipped  # a registered task of the user is private


class Prompt(NamedTuple):
    """A prompt in the lineage of the tables; the text is None if it is unknown."""

    task: str
    name: str
    use: str
    digest: str
    text: str | None


def prompt_facts(splits: Splits, provenance: Mapping[str, Any]) -> list[Prompt]:
    """Return every prompt in the lineage of the tables, by task and in the order of `USES`.

    Args:
        splits: config -> split -> table.
        provenance: contents of provenance.json.
    """
    known = {digest(text): text for text in _texts(splits)}
    prompts = []
    for task, name, sha in sorted(_digests(provenance), key=lambda key: (key[0], [*USES, EXAMPLES].index(key[1]))):
        text = known.get(sha)
        if name == EXAMPLES:
            text = _examples(SHIPPED[task], _datasets(splits, task)) if _is_shipped(task, sha) else None
        if text != "":
            prompts.append(Prompt(task, name, USES.get(name, "for few-shot prompts"), sha, text))
    return prompts


def _digests(provenance: Mapping[str, Any]) -> set[tuple[str, str, str]]:
    """Return (task, field, digest) of the prompts in the settings of all stages."""
    digests = set()
    for stage in provenance["stages"].values():
        tasks = stage["settings"].get("tasks") if isinstance(stage["settings"], dict) else None
        for task, settings in tasks.items() if isinstance(tasks, dict) else ():
            prompts = settings.get("prompts_sha256") if isinstance(settings, dict) else None
            digests |= {(task, name, sha) for name, sha in (prompts or {}).items() if name in (*USES, EXAMPLES)}
    return digests


def _texts(splits: Splits) -> Iterator[str]:
    """Yield the texts of this package's prompts, and those in the rows."""
    yield ""
    for task in SHIPPED.values():
        yield from (getattr(task, name) for name in USES)
    for data in (data for tables in splits.values() for data in tables.values()):
        if data.features.get("instruction") == STAGE1["instruction"]:
            yield from (text for text in data.unique("instruction") if text is not None)


def _is_shipped(task: str, sha: str) -> bool:
    """Return whether a digest is that of the few-shot examples of a task of this package."""
    return task in SHIPPED and bool(SHIPPED[task].published()["prompts_sha256"][EXAMPLES] == sha)


def _datasets(splits: Splits, task: str) -> list[str]:
    """Return the data sets of the rows of a task, sorted."""
    names: set[str] = set()
    for data in (data for tables in splits.values() for data in tables.values()):
        if all(data.features.get(name) == STAGE1[name] for name in ("task", "dataset")):
            pairs = zip(data["task"], data["dataset"], strict=True)
            names |= {dataset for row_task, dataset in pairs if row_task == task and dataset is not None}
    return sorted(names)


def _examples(task: Task, datasets: list[str]) -> str:
    """Return the few-shot examples for data sets as text; empty if there are none."""
    examples = dict.fromkeys(example for name in datasets for example in task.examples_for(name))
    return "\n\n".join("\n".join(f"{name}: {value}" for name, value in asdict(example).items()) for example in examples)
