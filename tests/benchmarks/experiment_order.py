"""The effects of shuffling over steps and of merging: one small model, trained on the same steps in five variants.

    python tests/benchmarks/experiment_order.py [--queries 400] [--epochs 4] [--seeds 3]

Data: trajectories from `generate_trajectories` with a scripted model and the package's demo functions. A query has two
tasks (a formula, a unit conversion, a date), so a direct solution has three steps. A random draw, which the query does
not reveal, adds failures:

- In a third of the queries, one task starts with a call of an unknown function. The call stays in the history of the
  correct call, and `without=("unknown_function",)` excludes it from training.
- In another third, the script gives up after an unhelpful search and restarts from the previous step. That step has a
  diversity prompt, which later steps do not see. So histories are not always prefixes of each other.

Model: a randomly initialised Llama with a few hundred thousand weights, and a tokenizer trained on the same texts. The
system message is the same in all samples and is removed to save time. Merging therefore saves less than with it; the
script prints both token counts.

All variants train on the same steps in each epoch, with the same number of updates and the same learning rates. Each
update has the same number of steps, as far as sequences allow. Its loss is the mean over its trained tokens.

| variant | samples | order |
|---|---|---|
| shuffled | split | `shuffle_steps` with another seed in each epoch |
| ordered | split | file by file, the same in each epoch |
| by kind | split | files sorted by the first function, as ToolBench sorts them by tool |
| merged | merged, with one train flag per message | shuffled |
| plain mask | merged, every assistant message is trained | as `merged` |

The held-out steps belong to queries that are not trained on. Their measurements, where a target's loss is the sum over
its tokens:

- the mean loss of a correct target
- the mean loss of the tokens of the function name
- the mean loss of targets with a diversity prompt, and of targets after a failed call
- the probability of a call of an unknown function at the steps where the script calls one

Not shown: effects on large models, pretrained models or real queries; the success of complete searches. In this time a
small model learns which function to call and in which format, but hardly to copy numbers from a query. Most of the
remaining loss is due to these numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

# Task text, with # for a number and @ for a date; function and arguments of the call that solves it.
TASKS = {
    "formula": ("what is # * # + #", "calculator", {"formula": "{0}*{1}+{2}"}),
    "length": ("how many centimetres are # metres", "convert_units", {"value": "{0}", "source": "metre", "target": "centimetre"}),
    "mass": ("how many grams are # kilograms", "convert_units", {"value": "{0}", "source": "kilogram", "target": "gram"}),
    "weekday": ("what weekday is @", "calendar", {"operation": "weekday", "date": "{0}"}),
    "later": ("what date is # days after @", "calendar", {"operation": "add_days", "date": "{1}", "days": "{0}"}),
}  # fmt: skip
MISSPELT = {"calculator": "calculate", "convert_units": "convert", "calendar": "date"}
WITHOUT = ("unknown_function",)
STEPS_PER_UPDATE = 8
LEARNING_RATE = 3e-3
MODEL_SHAPE = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
MAX_BATCH_TOKENS = 4096  # with padding
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


# Trajectories ---------------------------------------------------------------------------------------------------------


def draw_queries(count: int) -> list[str]:
    """Return distinct queries of two tasks each."""
    rng = Random(0)
    queries: dict[str, None] = {}
    while len(queries) < count:
        first, second = (fill_task(TASKS[kind][0], rng) for kind in rng.sample(sorted(TASKS), 2))
        queries[f"Tell me {first}, and {second}."] = None
    return list(queries)


def fill_task(task: str, rng: Random) -> str:
    date = f"2024-{rng.randint(1, 9):02}-{rng.randint(1, 9):02}"
    return re.sub("#", lambda _: str(rng.randint(2, 9)), task).replace("@", date)


def expected_calls(query: str) -> list[tuple[str, str]]:
    """Return the correct calls, in the order of the query's tasks."""
    calls = []
    for text, name, arguments in TASKS.values():
        pattern = re.escape(text).replace(r"\#", "([0-9]+)").replace("@", "([0-9-]+)")
        if task := re.search(pattern, query):
            filled = {key: value.format(*task.groups()) for key, value in arguments.items()}
            values = {key: int(value) if key in ("value", "days") else value for key, value in filled.items()}
            calls.append((task.start(), (name, json.dumps(values))))
    return [call for _, call in sorted(calls)]


def script(request: Any) -> Any:
    """Return the next reply: the correct call, or the failing call that was drawn for the query."""
    from toolrlef_data import Reply
    from toolrlef_data.toolbench.prompts import DIVERSITY

    users = [message.content for message in request.messages if message.role == "user"]
    outputs = [(message.name, json.loads(message.content)) for message in request.messages if message.role == "tool"]
    results = [str(output["response"]) for name, output in outputs if not output["error"] and name != "search"]
    draw = Random(users[0])
    failure, position = draw.choice(["none", "unknown", "stuck"]), draw.randrange(2)
    calls, num_done = expected_calls(users[0]), len(results)
    has_diversity_prompt = users[-1].startswith(DIVERSITY[0])
    if outputs and outputs[-1][0] == "search":
        call = ("Finish", json.dumps({"return_type": "give_up_and_restart"}))
    elif num_done == len(calls):
        answer = f"It is {results[0]}, and {results[1]}."
        call = ("Finish", json.dumps({"return_type": "give_answer", "final_answer": answer}))
    elif failure == "unknown" and num_done == position and len(outputs) == num_done:
        call = (MISSPELT[calls[num_done][0]], calls[num_done][1])
    elif failure == "stuck" and num_done == position and not has_diversity_prompt:
        call = ("search", json.dumps({"query": "answer"}))
    else:
        call = calls[num_done]
    return Reply("", tool_calls=(call,))


def generate_answers(count: int) -> Any:
    """Return the answer files of `count` queries."""
    from toolrlef_data import generate_trajectories, scripted
    from toolrlef_data.toolbench.search.demo_functions import DEMO_FUNCTIONS

    return generate_trajectories(draw_queries(count), DEMO_FUNCTIONS, scripted(script, progress=False))


# Samples --------------------------------------------------------------------------------------------------------------


@dataclass
class ExperimentData:
    """The training samples of each variant, the held-out steps and the tokenizer; tables are from `tokenise`.

    Args:
        tables: samples by variant, in the order of the files.
        num_steps: number of trained steps by sample id.
        held_out: steps of queries that are not trained on.
        groups: one of `GROUPS` by held-out step id.
        tokenizer: folder of the tokenizer.
        full_tokens: split and merged tokens of an epoch with the system message.
    """

    tables: dict[str, Any]
    num_steps: dict[str, int]
    held_out: Any
    groups: dict[str, str]
    tokenizer: Path
    full_tokens: tuple[int, int]


def prepare_data(count: int, folder: Path) -> ExperimentData:
    """Generate trajectories of `count` queries, hold out a fifth of the queries, and tokenise the samples."""
    from toolrlef_data import split_queries, tokenise, trajectories
    from toolrlef_data.toolbench.histories import HALLUCINATED

    parts = split_queries(generate_answers(count), test=0.2)
    split = trajectories(parts["train"], without=WITHOUT)
    merged = trajectories(parts["train"], layout="merged", without=WITHOUT)
    train_tokenizer([message["content"] or "" for row in without_system(split) for message in text_of(row)], folder)
    full_tokens = tuple(sum(tokenise(table, str(folder), protocol="text")["n_tokens"]) for table in (split, merged))
    tables = {
        "split": tokenise(without_system(split), str(folder), protocol="text"),
        "merged": tokenise(without_system(merged), str(folder), protocol="text"),
        "plain mask": tokenise(without_system(merged, train_all=True), str(folder), protocol="text"),
    }
    num_steps = {row["id"]: len(row["steps"]) for table in (split, merged) for row in table}
    assert all(set(num_steps) >= set(table["id"]) for table in tables.values()), "no step was moved to another sequence"
    by_kind = sorted(range(len(split)), key=lambda n: first_function_index(split[n]["query"]))
    held_out = trajectories(parts["test"])
    groups = {}
    for row in held_out:
        *history, target = row["messages"]
        calls = [call for message in history for call in message["tool_calls"] or ()]
        groups[row["id"]] = "first attempt"
        if any(call["function"]["name"] == HALLUCINATED for call in calls):
            groups[row["id"]] = "after a failure"
        if history[-1]["role"] == "user" and len(history) > 2:
            groups[row["id"]] = "diversity prompt"
        if target["tool_calls"][0]["function"]["name"] == HALLUCINATED:
            groups[row["id"]] = "failing call"
    tables = {
        "shuffled": tables["split"],
        "ordered": tables["split"],
        "by kind": tables["split"].select(by_kind),
        "merged": tables["merged"],
        "plain mask": tables["plain mask"],
    }
    tokenised = tokenise(without_system(held_out), str(folder), protocol="text")
    return ExperimentData(tables, num_steps, tokenised, groups, folder, full_tokens)


def without_system(samples: Any, train_all: bool = False) -> Any:
    """Return the samples without system message and tools; with `train_all`, all assistant messages are trained."""
    from datasets import Dataset

    rows = []
    for row in samples:
        messages = [
            {**message, "train": message["train"] or (train_all and message["role"] == "assistant")}
            for message in row["messages"]
            if message["role"] != "system"
        ]
        steps = list(range(sum(message["train"] for message in messages))) if train_all else row["steps"]
        rows.append({**row, "messages": messages, "tools": "[]", "steps": steps})
    return Dataset.from_list(rows, features=samples.features)


def text_of(row: dict[str, Any]) -> list[dict[str, str]]:
    from toolrlef_data.toolbench.search.protocols import render_text_turns

    return render_text_turns(row["messages"], [])


def train_tokenizer(texts: list[str], folder: Path) -> None:
    """Train a tokenizer of words and digits, and save it with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    digits, level = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([digits, level])
    bpe.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|end|>", pad_token="<|end|>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)


def first_function_index(query: str) -> int:
    """Return the index of the query's first function in `MISSPELT`."""
    return list(MISSPELT).index(expected_calls(query)[0][0])


# Training -------------------------------------------------------------------------------------------------------------


def new_model(seed: int, vocab_size: int) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocab_size, max_position_embeddings=1024, **MODEL_SHAPE))


def updates(table: Any, num_steps: dict[str, int], total: int) -> Iterator[list[Any]]:
    """Yield the rows of each update, in order; an update ends when the steps pass a multiple of `STEPS_PER_UPDATE`."""
    rows, done = [], 0
    for row in table:
        rows.append(row)
        previous, done = done, done + num_steps[row["id"]]
        if done // STEPS_PER_UPDATE > previous // STEPS_PER_UPDATE or done == total:
            yield rows
            rows = []


def batches(rows: Sequence[Any]) -> Iterator[tuple[list[Any], Any, Any]]:
    """Yield rows of similar length with their ids and labels; they are padded on the right, so attention is unaffected."""
    import torch

    remaining = sorted(rows, key=lambda row: row["n_tokens"])
    while remaining:
        longest = remaining[-1]["n_tokens"]
        batch = remaining[-max(1, MAX_BATCH_TOKENS // longest) :]
        del remaining[-len(batch) :]
        ids, labels = (
            torch.tensor([row[name] + [padding] * (longest - row["n_tokens"]) for row in batch])
            for name, padding in (("input_ids", 0), ("labels", -100))
        )
        yield batch, ids, labels


def losses(model: Any, ids: Any, labels: Any) -> tuple[Any, Any, Any]:
    """Return row index, token id and loss of each trained token."""
    import torch

    hidden, targets = model.model(ids).last_hidden_state[:, :-1], labels[:, 1:]
    is_trained = targets != -100
    loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[is_trained]), targets[is_trained], reduction="none")
    return is_trained.nonzero()[:, 0], targets[is_trained], loss


@dataclass
class TrainingResult:
    """Measurements and totals of one training run.

    Args:
        measurements: results of `evaluate`, by evaluation.
        tokens: number of tokens in all updates.
        trained: number of trained tokens in all updates.
        updates: number of updates.
        seconds: CPU seconds of training.
    """

    measurements: list[dict[str, float]] = field(default_factory=list)
    tokens: int = 0
    trained: int = 0
    updates: int = 0
    seconds: float = 0.0


def train(
    data: ExperimentData, variant: str, epochs: int, seed: int, evaluated_epochs: Sequence[int]
) -> TrainingResult:
    """Train a new model on a variant, and evaluate it after each of `evaluated_epochs`."""
    import torch
    from transformers import AutoTokenizer

    from toolrlef_data import shuffle_steps

    table, result = data.tables[variant], TrainingResult()
    total = sum(data.num_steps[row_id] for row_id in table["id"])
    num_updates = epochs * -(-total // STEPS_PER_UPDATE)
    tokenizer = AutoTokenizer.from_pretrained(data.tokenizer)
    model, (line_end,) = new_model(seed, len(tokenizer)), tokenizer("\n").input_ids
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: min((n + 1) / 20, (num_updates - n) / num_updates)
    )
    for epoch in range(epochs):
        started_at = time.process_time()
        ordered = table if variant in ("ordered", "by kind") else shuffle_steps(table, seed=1000 * seed + epoch)
        for rows in updates(ordered, data.num_steps, total):
            count = sum(row["n_trained"] for row in rows)
            for _, ids, labels in batches(rows):
                (losses(model, ids, labels)[2].sum() / count).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            result.updates += 1
            result.trained += count
            result.tokens += sum(row["n_tokens"] for row in rows)
        result.seconds += time.process_time() - started_at
        if epoch + 1 in evaluated_epochs:
            result.measurements.append(evaluate(model, data, line_end))
    return result


def evaluate(model: Any, data: ExperimentData, line_end: int) -> dict[str, float]:
    """Return the means over the held-out steps, by the names in `COLUMNS`."""
    import torch

    values: dict[str, list[float]] = {name: [] for name in COLUMNS}
    with torch.no_grad():
        for rows, ids, labels in batches(list(data.held_out)):
            row_index, token, loss = losses(model, ids, labels)
            for n, row in enumerate(rows):
                row_loss, row_tokens = loss[row_index == n], token[row_index == n]
                name_loss = row_loss[: int((row_tokens == line_end).nonzero()[0])]  # the first line is "Action: NAME"
                group = data.groups[row["id"]]
                if group == "failing call":
                    values["P(unknown function)"].append(float(name_loss.sum().neg().exp()))
                    continue
                values["all"].append(float(row_loss.sum()))
                values["function name"].append(float(name_loss.sum()))
                if group in values:
                    values[group].append(float(row_loss.sum()))
    return {name: statistics.mean(column) for name, column in values.items()}


def mean_loss(model: Any, table: Any) -> float:
    """Return the mean loss of all trained tokens of a table."""
    import torch

    with torch.no_grad():
        total = sum(float(losses(model, ids, labels)[2].double().sum()) for _, ids, labels in batches(list(table)))
    return total / sum(table["n_trained"])


GROUPS = ("first attempt", "diversity prompt", "after a failure", "failing call")
COLUMNS = ("all", "function name", "diversity prompt", "after a failure", "P(unknown function)")


def main(count: int, epochs: int, seeds: int, folder: Path) -> None:
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(1)
    started_at = time.perf_counter()
    data = prepare_data(count, folder)
    vocab_size = len(AutoTokenizer.from_pretrained(data.tokenizer))
    group_sizes = {name: list(data.groups.values()).count(name) for name in GROUPS}
    split, merged = (data.tables[name] for name in ("shuffled", "merged"))
    model = new_model(0, vocab_size)
    print(
        f"{count} queries: {len(split)} steps to train in {len(merged)} merged sequences; held out: "
        f"{', '.join(f'{n} {name}' for name, n in group_sizes.items())}\n"
        f"model: {sum(p.numel() for p in model.parameters()):,} weights, {vocab_size} tokens in the vocabulary; data generated in "
        f"{time.perf_counter() - started_at:.0f} s\n"
        f"tokens per epoch, split and merged: {sum(split['n_tokens']):,} and {sum(merged['n_tokens']):,}; with the "
        f"system message: {data.full_tokens[0]:,} and {data.full_tokens[1]:,}\n"
        f"mean loss of the trained tokens before training: split {mean_loss(model, split):.6f}, merged "
        f"{mean_loss(model, merged):.6f}, plain mask {mean_loss(model, data.tables['plain mask']):.6f}\n"
    )
    evaluated_epochs = sorted({max(1, epochs // 4), max(1, epochs // 2), epochs})
    print(f"nats per held-out step: mean and range of {seeds} seeds")
    print(f"{'':<10} {'epoch':>5} {''.join(f'{name:>21}' for name in COLUMNS)}")
    for variant in data.tables:
        runs = [train(data, variant, epochs, seed, evaluated_epochs) for seed in range(seeds)]
        for n, epoch in enumerate(evaluated_epochs):
            cells = ""
            for name in COLUMNS:
                values, form = [run.measurements[n][name] for run in runs], ".1%" if name.startswith("P(") else ".2f"
                value_range = " to ".join(format(value, form) for value in (min(values), max(values)))
                cells += f"{statistics.mean(values):>6{form}} {f'({value_range})':>14}"
            print(f"{variant:<10} {epoch:>5} {cells}", flush=True)
        run = runs[0]
        print(
            f"{'':<10} {run.updates} updates, {run.tokens:,} tokens, {run.trained:,} of them trained; CPU seconds per run: "
            f"{', '.join(f'{run.seconds:.0f}' for run in runs)}",
            flush=True,
        )
    print(f"\n{time.perf_counter() - started_at:.0f} s in total")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", type=Path, help="only write the answer files to this folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["HF_HOME"] = f"{home}/hub"
        os.environ["TOOLRLEF_REPLIES"] = f"{home}/replies.sqlite"
        import datasets

        datasets.disable_progress_bars()
        if args.write:
            from toolrlef_data import write_answers

            write_answers(generate_answers(args.queries), args.write)
        else:
            main(args.queries, args.epochs, args.seeds, Path(home) / "tokenizer")
