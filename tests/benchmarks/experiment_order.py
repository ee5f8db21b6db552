"""What shuffling over steps does, and what merging does: one small model, trained on the same steps in several ways.

    python tests/benchmarks/experiment_order.py [--queries 400] [--epochs 4] [--seeds 3]

Data: trajectories of our own, made by `generate_trajectories` with a script in the place of a model and the package's
own functions. A query holds two tasks (a formula, a quantity to convert, a date), so a plain solution has three steps.
What a query does not tell, because it is drawn: in a third of them one of the two tasks begins with a call of a
function that does not exist, which stays in the history of the right call, and which `without=("unknown_function",)`
trains nowhere; in another third the script gives up after a search that does not help, and goes on from the step
before, asked with a diversity prompt that later steps do not see. So histories are not always each other's beginnings.

Model: a Llama of some hundred thousand random weights, and a tokenizer trained on the same texts. The system message,
the same in all samples, is left out, so that this takes minutes; merging therefore saves less than with it, and both
counts are printed.

Every way sees the same steps in each epoch, in the same number of updates (each of as many steps, as far as sequences
allow), at the same rates; the loss of an update is the mean over its trained tokens.

    shuffled    split, `shuffle_steps` with another seed each epoch
    ordered     split, file after file, in the same order each epoch
    by kind     the same, the files sorted by the function that they need first, as ToolBench's are by their tools
    merged      sequences with a flag for each message, shuffled
    plain mask  the same sequences in the same order, every message of the model trained

Measured on steps of queries that were never trained, the failing calls apart: the mean loss of a target, summed over
its tokens; of the tokens that say which function is called; of the targets that were asked for with a diversity prompt,
and of those behind a failed call; and the probability of a call of a function that does not exist, where the script
made one. Not shown: what any of this does to a large model, to one that was trained before, or to real queries; whether
a whole search with the model succeeds. So small a model learns within this time which function to call, and in which
form, but hardly to copy the numbers of a query, so that most of what loss is left is theirs.
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

# A task in words, with # for a number and @ for a date, and the call that solves it.
TASKS = {
    "formula": ("what is # * # + #", "calculator", {"formula": "{0}*{1}+{2}"}),
    "length": ("how many centimetres are # metres", "convert_units", {"value": "{0}", "source": "metre", "target": "centimetre"}),
    "mass": ("how many grams are # kilograms", "convert_units", {"value": "{0}", "source": "kilogram", "target": "gram"}),
    "weekday": ("what weekday is @", "calendar", {"operation": "weekday", "date": "{0}"}),
    "later": ("what date is # days after @", "calendar", {"operation": "add_days", "date": "{1}", "days": "{0}"}),
}  # fmt: skip
MISSPELT = {"calculator": "calculate", "convert_units": "convert", "calendar": "date"}
WITHOUT = ("unknown_function",)
BATCH = 8  # steps an update
RATE = 3e-3
SHAPE = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
TOKENS_AT_ONCE = 4096  # padded
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


# Trajectories ---------------------------------------------------------------------------------------------------------


def queries(count: int) -> list[str]:
    """Queries of two tasks, all different."""
    rng = Random(0)
    found: dict[str, None] = {}
    while len(found) < count:
        first, second = (filled(TASKS[kind][0], rng) for kind in rng.sample(sorted(TASKS), 2))
        found[f"Tell me {first}, and {second}."] = None
    return list(found)


def filled(task: str, rng: Random) -> str:
    date = f"2024-{rng.randint(1, 9):02}-{rng.randint(1, 9):02}"
    return re.sub("#", lambda _: str(rng.randint(2, 9)), task).replace("@", date)


def calls_of(query: str) -> list[tuple[str, str]]:
    """The right calls, in the order of the query's tasks."""
    found = []
    for text, name, arguments in TASKS.values():
        pattern = re.escape(text).replace(r"\#", "([0-9]+)").replace("@", "([0-9-]+)")
        if task := re.search(pattern, query):
            made = {key: value.format(*task.groups()) for key, value in arguments.items()}
            values = {key: int(value) if key in ("value", "days") else value for key, value in made.items()}
            found.append((task.start(), (name, json.dumps(values))))
    return [call for _, call in sorted(found)]


def script(request: Any) -> Any:
    """The message that follows: the right call, or the wrong one that was drawn for the query."""
    from toolrlef_data import Reply
    from toolrlef_data.toolbench.prompts import DIVERSITY

    users = [message.content for message in request.messages if message.role == "user"]
    told = [(message.name, json.loads(message.content)) for message in request.messages if message.role == "tool"]
    results = [str(shown["response"]) for name, shown in told if not shown["error"] and name != "search"]
    draw = Random(users[0])
    trouble, place = draw.choice(["none", "unknown", "stuck"]), draw.randrange(2)
    calls, done = calls_of(users[0]), len(results)
    asked_again = users[-1].startswith(DIVERSITY[0])
    if told and told[-1][0] == "search":
        call = ("Finish", json.dumps({"return_type": "give_up_and_restart"}))
    elif done == len(calls):
        answer = f"It is {results[0]}, and {results[1]}."
        call = ("Finish", json.dumps({"return_type": "give_answer", "final_answer": answer}))
    elif trouble == "unknown" and done == place and len(told) == done:
        call = (MISSPELT[calls[done][0]], calls[done][1])
    elif trouble == "stuck" and done == place and not asked_again:
        call = ("search", json.dumps({"query": "answer"}))
    else:
        call = calls[done]
    return Reply("", tool_calls=(call,))


def searched(count: int) -> Any:
    """Answer files of so many queries."""
    from toolrlef_data import generate_trajectories, scripted
    from toolrlef_data.toolbench.search.demo_functions import DEMO_FUNCTIONS

    return generate_trajectories(queries(count), DEMO_FUNCTIONS, scripted(script, progress=False))


# Samples --------------------------------------------------------------------------------------------------------------


@dataclass
class Ways:
    """What is trained in each way, as tables of `tokenise`; what is measured on; and the tokenizer.

    Args:
        tables: name of a way -> its samples in the order of the files.
        steps: id of a sample -> how many steps count for it.
        held_out: steps that were never seen.
        groups: id of a held-out step -> "first try", "asked again", "after a failure" or "failing call".
        whole: split and merged tokens of an epoch with the system message.
    """

    tables: dict[str, Any]
    steps: dict[str, int]
    held_out: Any
    groups: dict[str, str]
    tokenizer: Path
    whole: tuple[int, int]


def ways(count: int, folder: Path) -> Ways:
    """Trajectories of so many queries as samples, a fifth of them held out."""
    from toolrlef_data import split_queries, tokenise, trajectories
    from toolrlef_data.toolbench.histories import HALLUCINATED

    parts = split_queries(searched(count), test=0.2)
    split = trajectories(parts["train"], without=WITHOUT)
    merged = trajectories(parts["train"], layout="merged", without=WITHOUT)
    train_tokenizer([message["content"] or "" for row in short(split) for message in text_of(row)], folder)
    whole = tuple(sum(tokenise(table, str(folder), protocol="text")["n_tokens"]) for table in (split, merged))
    tables = {
        "split": tokenise(short(split), str(folder), protocol="text"),
        "merged": tokenise(short(merged), str(folder), protocol="text"),
        "plain mask": tokenise(short(merged, every=True), str(folder), protocol="text"),
    }
    steps = {row["id"]: len(row["steps"]) for table in (split, merged) for row in table}
    assert all(set(steps) >= set(table["id"]) for table in tables.values()), "no step left its sequence"
    by_kind = sorted(range(len(split)), key=lambda n: kind_of(split[n]["query"]))
    held_out = trajectories(parts["test"])
    groups = {}
    for row in held_out:
        *history, target = row["messages"]
        failed = [call["function"]["name"] == HALLUCINATED for each in history for call in each["tool_calls"] or ()]
        groups[row["id"]] = "first try"
        if any(failed):
            groups[row["id"]] = "after a failure"
        if history[-1]["role"] == "user" and len(history) > 2:
            groups[row["id"]] = "asked again"
        if target["tool_calls"][0]["function"]["name"] == HALLUCINATED:
            groups[row["id"]] = "failing call"
    tables = {
        "shuffled": tables["split"],
        "ordered": tables["split"],
        "by kind": tables["split"].select(by_kind),
        "merged": tables["merged"],
        "plain mask": tables["plain mask"],
    }
    return Ways(tables, steps, tokenise(short(held_out), str(folder), protocol="text"), groups, folder, whole)


def short(samples: Any, every: bool = False) -> Any:
    """Samples without system message and functions; with `every`, all messages of the model are trained."""
    from datasets import Dataset

    rows = []
    for row in samples:
        messages = [
            {**message, "train": message["train"] or (every and message["role"] == "assistant")}
            for message in row["messages"]
            if message["role"] != "system"
        ]
        steps = list(range(sum(message["train"] for message in messages))) if every else row["steps"]
        rows.append({**row, "messages": messages, "tools": "[]", "steps": steps})
    return Dataset.from_list(rows, features=samples.features)


def text_of(row: dict[str, Any]) -> list[dict[str, str]]:
    from toolrlef_data.toolbench.search.protocols import render_text_turns

    return render_text_turns(row["messages"], [])


def train_tokenizer(texts: list[str], folder: Path) -> None:
    """Save a tokenizer of words and digits, with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.BPE())
    digits, level = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.pre_tokenizer = pre_tokenizers.Sequence([digits, level])
    words.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    words.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|end|>", pad_token="<|end|>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)


def kind_of(query: str) -> int:
    """The place of a query's first task among the kinds."""
    return list(MISSPELT).index(calls_of(query)[0][0])


# Training -------------------------------------------------------------------------------------------------------------


def new_model(seed: int, words: int) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(vocab_size=words, max_position_embeddings=1024, **SHAPE))


def updates(table: Any, steps: dict[str, int], total: int) -> Iterator[list[Any]]:
    """The rows of a table in its order, in updates: each ends where the steps so far pass a multiple of `BATCH`."""
    rows, done = [], 0
    for row in table:
        rows.append(row)
        before, done = done, done + steps[row["id"]]
        if done // BATCH > before // BATCH or done == total:
            yield rows
            rows = []


def batches(rows: Sequence[Any]) -> Iterator[tuple[list[Any], Any, Any]]:
    """Rows of like length and their tensors, padded on the right, where no other token looks."""
    import torch

    left = sorted(rows, key=lambda row: row["n_tokens"])
    while left:
        longest = left[-1]["n_tokens"]
        taken = left[-max(1, TOKENS_AT_ONCE // longest) :]
        del left[-len(taken) :]
        ids, labels = (
            torch.tensor([row[name] + [filler] * (longest - row["n_tokens"]) for row in taken])
            for name, filler in (("input_ids", 0), ("labels", -100))
        )
        yield taken, ids, labels


def losses(model: Any, ids: Any, labels: Any) -> tuple[Any, Any, Any]:
    """Of each trained token: the row it stands in, its id, and its loss."""
    import torch

    hidden, wanted = model.model(ids).last_hidden_state[:, :-1], labels[:, 1:]
    trained = wanted != -100
    loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[trained]), wanted[trained], reduction="none")
    return trained.nonzero()[:, 0], wanted[trained], loss


@dataclass
class Figures:
    """What training in one way came to.

    Args:
        points: at each point, the figures of `measured`.
        seconds: of the processor, training alone.
    """

    points: list[dict[str, float]] = field(default_factory=list)
    tokens: int = 0
    trained: int = 0
    updates: int = 0
    seconds: float = 0.0


def trained(found: Ways, way: str, epochs: int, seed: int, points: Sequence[int]) -> Figures:
    """Train a new model in one way, and measure it after some of the epochs."""
    import torch
    from transformers import AutoTokenizer

    from toolrlef_data import shuffle_steps

    table, figures = found.tables[way], Figures()
    total = sum(found.steps[row_id] for row_id in table["id"])
    every = epochs * -(-total // BATCH)
    tokenizer = AutoTokenizer.from_pretrained(found.tokenizer)
    model, (line_end,) = new_model(seed, len(tokenizer)), tokenizer("\n").input_ids
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: min((n + 1) / 20, (every - n) / every))
    for epoch in range(epochs):
        start = time.process_time()
        ordered = table if way in ("ordered", "by kind") else shuffle_steps(table, seed=1000 * seed + epoch)
        for rows in updates(ordered, found.steps, total):
            count = sum(row["n_trained"] for row in rows)
            for _, ids, labels in batches(rows):
                (losses(model, ids, labels)[2].sum() / count).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
            figures.updates += 1
            figures.trained += count
            figures.tokens += sum(row["n_tokens"] for row in rows)
        figures.seconds += time.process_time() - start
        if epoch + 1 in points:
            figures.points.append(measured(model, found, line_end))
    return figures


def measured(model: Any, found: Ways, line_end: int) -> dict[str, float]:
    """What a model makes of the held-out steps: by the names in `COLUMNS`."""
    import torch

    told: dict[str, list[float]] = {name: [] for name in COLUMNS}
    with torch.no_grad():
        for rows, ids, labels in batches(list(found.held_out)):
            place, token, loss = losses(model, ids, labels)
            for n, row in enumerate(rows):
                own = place == n
                name = loss[own][: int((token[own] == line_end).nonzero()[0])]  # "Action: ..." stands in the first line
                group = found.groups[row["id"]]
                if group == "failing call":
                    told["P(no such function)"].append(float(name.sum().neg().exp()))
                    continue
                told["all"].append(float(loss[own].sum()))
                told["which function"].append(float(name.sum()))
                if group in told:
                    told[group].append(float(loss[own].sum()))
    return {name: statistics.mean(values) for name, values in told.items()}


def whole_loss(model: Any, table: Any) -> float:
    """The mean loss of all trained tokens of a table."""
    import torch

    with torch.no_grad():
        summed = sum(float(losses(model, ids, labels)[2].double().sum()) for _, ids, labels in batches(list(table)))
    return summed / sum(table["n_trained"])


GROUPS = ("first try", "asked again", "after a failure", "failing call")
COLUMNS = ("all", "which function", "asked again", "after a failure", "P(no such function)")


def main(count: int, epochs: int, seeds: int, folder: Path) -> None:
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(1)
    start = time.perf_counter()
    found = ways(count, folder)
    words = len(AutoTokenizer.from_pretrained(found.tokenizer))
    held = {name: list(found.groups.values()).count(name) for name in GROUPS}
    split, merged = (found.tables[name] for name in ("shuffled", "merged"))
    model = new_model(0, words)
    print(
        f"{count} queries: {len(split)} steps to train in {len(merged)} merged sequences; held out: "
        f"{', '.join(f'{n} {name}' for name, n in held.items())}\n"
        f"model: {sum(p.numel() for p in model.parameters()):,} weights, {words} tokens; data made in "
        f"{time.perf_counter() - start:.0f} s\n"
        f"tokens of an epoch, split and merged: {sum(split['n_tokens']):,} and {sum(merged['n_tokens']):,}; with the "
        f"system message: {found.whole[0]:,} and {found.whole[1]:,}\n"
        f"mean loss of the trained tokens before training: split {whole_loss(model, split):.6f}, merged "
        f"{whole_loss(model, merged):.6f}, plain mask {whole_loss(model, found.tables['plain mask']):.6f}\n"
    )
    points = sorted({max(1, epochs // 4), max(1, epochs // 2), epochs})
    print(f"nats a held-out step: mean and range of {seeds} seeds")
    print(f"{'':<10} {'epoch':>5} {''.join(f'{name:>21}' for name in COLUMNS)}")
    for way in found.tables:
        runs = [trained(found, way, epochs, seed, points) for seed in range(seeds)]
        for n, epoch in enumerate(points):
            cells = ""
            for name in COLUMNS:
                values, form = [run.points[n][name] for run in runs], ".1%" if name.startswith("P(") else ".2f"
                told = " to ".join(format(value, form) for value in (min(values), max(values)))
                cells += f"{statistics.mean(values):>6{form}} {f'({told})':>14}"
            print(f"{way:<10} {epoch:>5} {cells}", flush=True)
        run = runs[0]
        print(
            f"{'':<10} {run.updates} updates, {run.tokens:,} tokens, {run.trained:,} of them trained; CPU seconds a run: "
            f"{', '.join(f'{each.seconds:.0f}' for each in runs)}",
            flush=True,
        )
    print(f"\n{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", type=Path, help="only write the answer files to this folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["HF_HOME"] = f"{home}/hub"
        os.environ["TOOLRLEF_REPLIES"] = f"{home}/replies.sqlite"
        import datasets

        datasets.disable_progress_bars()
        if given.write:
            from toolrlef_data import write_answers

            write_answers(searched(given.queries), given.write)
        else:
            main(given.queries, given.epochs, given.seeds, Path(home) / "tokenizer")
