"""Training for the data card: which trainer reads which table, the code for it, and the `max_length` of its rows.

The length of a record is its number of tokens if a tokenizer is named. Else it is the number of UTF-8 bytes of the
record as JSON: a tokenizer that splits bytes never has more tokens, so that no row is cut. `max_length` above the
longest row changes nothing in training without packing.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from datasets import Dataset

from toolrlef_data.columns import STAGE1, STAGE2, responders_of
from toolrlef_data.publishing.card.step_facts import StepFacts
from toolrlef_data.publishing.exports.formats import EXPORTS
from toolrlef_data.publishing.exports.lengths import Target, n_tokens, targets_of
from toolrlef_data.publishing.exports.options import check_options
from toolrlef_data.publishing.exports.stage1 import is_not_calling
from toolrlef_data.publishing.rl.rewards import reward
from toolrlef_data.records import InputError, UnusableRow
from toolrlef_data.tables.stage_cache import as_arrow
from toolrlef_data.tasks import TASKS
from toolrlef_data.toolbench.tokens.chat_template import ChatTokenizer, find_tokenizer, load_chat_tokenizer

__all__ = ["Training", "own_tasks", "training_facts"]

Tables = Mapping[str, Dataset]
BATCH_ROWS = 16  # a row can have several MB
STAGE1_COLUMNS = ("instruction", "input", "output", "answers", "task", "id")
STAGE2_COLUMNS = (*STAGE1_COLUMNS[:2], *STAGE1_COLUMNS[3:], "responses", "scores", "origin", "correct")
# Format of `to_trainer` -> TRL's trainer.
TRAINERS = {"trl": "SFT", "trl_preference": "DPO", "trl_kto": "KTO", "trl_grpo": "GRPO"}
FORMATS = {
    "stage1": ("trl", "trl_grpo"),
    "not_calling": ("trl", "trl_preference"),
    "stage2": ("trl_preference", "trl_kto", "trl_grpo"),
    "trajectories": ("trl",),
    "pairs": ("trl_preference",),
}


class Training(NamedTuple):
    """How to train on a config.

    Args:
        config: the config.
        split: the split that the code loads.
        format: the format of `to_trainer`.
        trainer: the first part of the names of TRL's trainer and its settings, such as "SFT".
        tasks: the tasks whose graders are the reward; empty for other trainers.
        records: number of records over all splits.
        unfit: number of rows, or of parts of them, that do not fit the format.
        max_length: length of the longest record, or for a reward of the longest right reply.
    """

    config: str
    split: str
    format: str
    trainer: str
    tasks: tuple[str, ...]
    records: int
    unfit: int
    max_length: int


def training_facts(
    splits: Mapping[str, Tables],
    steps: Mapping[str, StepFacts],
    tokenizer: str | None = None,
    mixes: Mapping[str, Mapping[str, list[str]]] | None = None,
) -> list[Training]:
    """Return the trainers for every config, in the order of the configs; for mixes, those with a reward.

    Args:
        splits: config -> split -> table.
        steps: result of `step_facts`.
        tokenizer: model whose tokens are counted. Default: bytes are counted.
        mixes: mix config -> split -> configs whose files it reads. Default: none.
    """
    chat = load_chat_tokenizer(find_tokenizer(tokenizer)) if tokenizer else None
    facts = []
    for config, tables in splits.items():
        kind = steps[config].kind if config in steps else _kind_of(tables)
        for name in FORMATS.get(kind, ()):
            tasks = _reward_tasks(tables) if name == "trl_grpo" else ()
            if tasks is None:
                continue
            records, unfit, longest = _measure(tables, name, chat)
            if longest:  # there are records, and for a reward right replies
                facts.append(Training(config, next(iter(tables)), name, TRAINERS[name], tasks, records, unfit, longest))
    rewards = {fact.config: fact for fact in facts if fact.tasks}
    for mix, configs_by_split in (mixes or {}).items():
        names = dict.fromkeys(name for configs in configs_by_split.values() for name in configs)
        parts = [rewards[name] for name in names if name in rewards]
        if len(parts) == len(names):
            facts.append(
                parts[0]._replace(
                    config=mix,
                    split=next(iter(configs_by_split)),
                    tasks=tuple(sorted({task for part in parts for task in part.tasks})),
                    records=sum(part.records for part in parts),
                    unfit=sum(part.unfit for part in parts),
                    max_length=max(part.max_length for part in parts),
                )
            )
    return facts


def own_tasks(splits: Mapping[str, Tables]) -> list[str]:
    """Return the tasks of the rows that are not of this package: a reader needs them from the publisher.

    >>> own_tasks({"a": {"train": Dataset.from_list([{"task": name, "answers": ["1"]} for name in ("math", "figs")])}})
    ['figs']
    """
    tables = [data for named in splits.values() for data in named.values() if "answers" in data.column_names]
    names = {name for data in tables if data.features.get("task") == STAGE1["task"] for name in data.unique("task")}
    return sorted(name for name in names if name is not None and name not in TASKS.shipped)


def _kind_of(tables: Tables) -> str:
    """Return "stage1", "not_calling" or "stage2" for tables with their columns; empty for others."""
    if all(is_not_calling(data) for data in tables.values()):
        return "not_calling"
    for kind, features, names in (("stage1", STAGE1, STAGE1_COLUMNS), ("stage2", STAGE2, STAGE2_COLUMNS)):
        if all(data.features.get(name) == features[name] for data in tables.values() for name in names):
            return "" if any(responders_of(data.features) for data in tables.values()) else kind
    return ""


def _reward_tasks(tables: Tables) -> tuple[str, ...] | None:
    """Return the tasks of the rows if `reward` can grade all of them in a trainer, else None."""
    tasks = {task for data in tables.values() for task in data.unique("task")}
    if tasks and all(task in TASKS for task in tasks):
        with contextlib.suppress(InputError):
            reward(sorted(tasks))
            return tuple(sorted(tasks))
    return None


def _measure(tables: Tables, format: str, chat: ChatTokenizer | None) -> tuple[int, int, int]:
    """Return the number of records, the number of rows or parts that do not fit, and the length of the longest one."""
    n_records = n_unfit = longest = 0
    for record in (record for data in tables.values() for record in _records(data, format)):
        if record is None:
            n_unfit += 1
        else:
            n_records += 1
            longest = max(longest, _length(record, chat))
    return n_records, n_unfit, longest


def _records(data: Dataset, format: str) -> Iterator[dict[str, Any] | None]:
    """Yield the records of a table in a format; None for a row, or a part of one, that does not fit."""
    spec = next(spec for spec in EXPORTS[format] if set(spec.columns) <= set(data.column_names))
    options = check_options(format, spec.options, {})
    # For a reward, the length is that of the right replies, which these columns have.
    replies = [
        name for name in ("output", "responses", "correct") if format == "trl_grpo" and name in data.column_names
    ]
    for batch in as_arrow(data, [*spec.columns, *replies]).iter(BATCH_ROWS):
        for row in batch.to_pylist():
            try:
                for record in spec.records(row, options):
                    if isinstance(record, UnusableRow):
                        yield None
                    elif isinstance(record, dict):
                        yield {"replies": _right_replies(row)} if replies else record
            except UnusableRow:
                yield None


def _right_replies(row: Mapping[str, Any]) -> list[str]:
    """Return the output of a row of stage 1, or the right responses of a row of stage 2."""
    if "responses" not in row:
        return [row["output"]] if row["output"] else []
    graded = zip(row["responses"] or (), row["correct"] or (), strict=False)
    return [text for text, correct in graded if text and correct]


def _length(record: Mapping[str, Any], chat: ChatTokenizer | None) -> int:
    if "replies" in record:
        replies = record["replies"]
        lengths = (len(reply.encode()) if chat is None else n_tokens(Target("", reply, []), chat) for reply in replies)
        return max(lengths, default=0)
    if chat is None:
        return len(json.dumps(record, ensure_ascii=False).encode())
    return max(n_tokens(target, chat) for target in targets_of(record))
