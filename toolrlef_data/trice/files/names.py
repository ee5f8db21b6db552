"""Names of data sets and ids of rows, in this package and in the original's files."""

from __future__ import annotations

import re
from collections.abc import Iterable

from toolrlef_data.records import UnknownName

__all__ = [
    "UPSTREAM_NAMES",
    "UPSTREAM_TASKS",
    "find_dataset",
    "find_task",
    "normalise_id",
    "normalise_name",
    "upstream_id",
    "upstream_name",
]

# The names of data sets in the original's files.
UPSTREAM_NAMES = {
    "addsub": "AddSub",
    "asdiv": "ASDiv",
    "gsm8k": "GSM8K",
    "hotpotqa": "HotpotQA",
    "mlqa": "MLQA",
    "multiarith": "MultiArith",
    "nq_open": "NaturalQuestions",
    "squad": "SQuAD",
    "svamp": "SVAMP",
    "trex": "TREx",
    "triviaqa": "TriviaQA",
    "webquestions": "WebQuestions",
}
# The names of tasks in the original's code, which its scorer expects in the names of response files.
UPSTREAM_TASKS = {"lama": "LAMA", "math": "Math", "mlqa": "MLQA", "qa": "QA"}
# The names that the original's commands accept for a data set, where its files have another one.
COMMAND_NAMES = {"NaturalQ": "nq_open", "T-REx": "trex", "WebQ": "webquestions"}
NORMALISED_NAMES = {upstream.lower(): name for name, upstream in UPSTREAM_NAMES.items()}
NORMALISED_NAMES |= {upstream.lower(): name for upstream, name in COMMAND_NAMES.items()}


def upstream_name(dataset: str) -> str:
    """Return a data set's name in the original's files.

    >>> upstream_name("nq_open"), upstream_name("mine")
    ('NaturalQuestions', 'mine')
    """
    return UPSTREAM_NAMES.get(dataset, dataset)


def normalise_name(upstream: str) -> str:
    """Return a data set's name in this package, given its name in the original's files in any case.

    >>> normalise_name("NaturalQuestions"), normalise_name("T-REx"), normalise_name("gsm8k"), normalise_name("Mine")
    ('nq_open', 'trex', 'gsm8k', 'Mine')
    """
    lower = upstream.lower()
    return lower if lower in UPSTREAM_NAMES else NORMALISED_NAMES.get(lower, upstream)


def normalise_id(dataset: str, row_id: str) -> str:
    """Return a row's id in this package, given its id in the original's files; the inverse of `upstream_id`.

    >>> normalise_id("gsm8k", "GSM8K-7"), normalise_id("gsm8k", "GSM8K_7"), normalise_id("gsm8k", "GSM8K:my-7")
    ('gsm8k-7', 'GSM8K_7', 'my-7')
    """
    upstream = upstream_name(dataset)
    if dataset in UPSTREAM_NAMES and row_id.startswith(f"{upstream}:"):
        return row_id[len(upstream) + 1 :] or row_id
    return dataset + row_id[len(upstream) :] if dataset and row_id.startswith(f"{upstream}-") else row_id


def upstream_id(dataset: str, row_id: str) -> str:
    """Return a row's id in the original's files; the original's evaluator counts rows by the data set's name in it.

    >>> upstream_id("gsm8k", "gsm8k-7"), upstream_id("gsm8k", "GSM8K_7"), upstream_id("gsm8k", "my-7")
    ('GSM8K-7', 'GSM8K_7', 'GSM8K:my-7')
    """
    upstream = upstream_name(dataset)
    if dataset and row_id.startswith(f"{dataset}-"):
        return upstream + row_id[len(dataset) :]
    return f"{upstream}:{row_id}" if dataset in UPSTREAM_NAMES and upstream not in row_id else row_id


def find_dataset(name: str) -> str:
    """Return a data set's name in this package, given any spelling of the original in any case.

    Raises:
        UnknownName: another name. The message lists the original's.

    >>> find_dataset("T-REx"), find_dataset("webq"), find_dataset("GSM8K"), find_dataset("Natural_Questions")
    ('trex', 'webquestions', 'gsm8k', 'nq_open')
    """
    spellings = {_letters(spelling): dataset for dataset, spelling in UPSTREAM_NAMES.items()}
    spellings |= {_letters(dataset): dataset for dataset in UPSTREAM_NAMES}
    spellings |= {_letters(spelling): dataset for spelling, dataset in COMMAND_NAMES.items()}
    if (found := spellings.get(_letters(name))) is None:
        raise UnknownName("data set", name, list(UPSTREAM_NAMES.values()))
    return found


def find_task(name: str, tasks: Iterable[str]) -> str:
    """Return the name of a task, given in any case.

    Args:
        name: the name.
        tasks: the names of the tasks.

    Raises:
        UnknownName: another name.

    >>> find_task("Math", ["math", "qa"])
    'math'
    """
    names = {task.lower(): task for task in tasks}
    if (found := names.get(name.strip().lower())) is None:
        raise UnknownName("task", name, list(names.values()))
    return found


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
