"""Facts about graders for the data card: their error rates with answers generated from the published rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from datasets import Dataset

from toolrlef_data.columns import STAGE1, STAGE2
from toolrlef_data.tables.redaction import redact
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.audit import Audit, audit_grader
from toolrlef_data.tasks.task import RULES, Task

__all__ = ["GraderFacts", "grader_facts"]

MAX_ROWS = 200  # of a task; more rows hardly change the rates


class GraderFacts(NamedTuple):
    """The grader of a task: its rule, and its error rates."""

    task: str
    rule: str
    audit: Audit


def grader_facts(splits: Mapping[str, Mapping[str, Dataset]], provenance: Mapping[str, Any]) -> list[GraderFacts]:
    """Return the error rates of the graders in the lineage of the tables; custom graders are not known.

    Args:
        splits: config -> split -> table.
        provenance: contents of provenance.json.
    """
    facts = []
    for name, rule in sorted(_graders(provenance)):
        task = TASKS[name].with_rule(rule)
        rows = list(islice(_rows(name, task, splits), MAX_ROWS))
        if any(task.ungradable_reason(row["answers"]) is None for row in rows):
            facts.append(GraderFacts(name, rule, audit_grader(task, rows)))
    return facts


def _graders(provenance: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return (task, rule) of the package's graders in the settings of all stages."""
    rules: dict[tuple[str, str], str] = {}
    for task in TASKS:
        for rule in RULES if TASKS[task].has_rules else RULES[:1]:
            rules.setdefault((task, repr(redact(TASKS[task].with_rule(rule).grade))), rule)
    graders = set()
    for stage in provenance["stages"].values():
        tasks = stage["settings"].get("tasks") if isinstance(stage["settings"], dict) else None
        for name, settings in tasks.items() if isinstance(tasks, dict) else ():
            key = (name, repr(settings.get("grade")) if isinstance(settings, dict) else "")
            if key in rules:
                graders.add((name, rules[key]))
    return graders


def _rows(name: str, task: Task, splits: Mapping[str, Mapping[str, Dataset]]) -> Iterator[dict[str, Any]]:
    """Yield the questions of one task in the stage 1 and stage 2 tables, each once."""
    known = set()
    for named in splits.values():
        for data in named.values():
            text = next((column for column in ("input", "query") if column in data.column_names), None)
            if text is None or not ({"id", "task", "answers"} <= set(data.column_names)):
                continue
            if data.features["answers"] not in (STAGE1["answers"], STAGE2["answers"]):
                continue
            for row in data.select_columns(["id", "task", "answers", text]):
                if row["task"] == name and row["id"] not in known:
                    known.add(row["id"])
                    prompt = row[text] if text == "input" else row[text].partition("\n")[2]
                    question, context = task.split_input(prompt)
                    yield {"question": question, "context": context, "answers": row["answers"]}
