"""The questions and the tables of the proof: those that its arms are trained on, and those of its controls."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from datasets import Dataset, concatenate_datasets
from proof_ladder import HELD_OUT, TRAINED, ladder
from proof_report import ORDERS

from toolrlef_data import (
    ANNOTATIONS,
    EngineSpec,
    Responder,
    answer,
    build_stage1,
    build_stage2,
    counterfactual,
    decontaminate,
    grade,
    make_questions,
    respond,
    scripted,
    without_tool,
)
from toolrlef_data.engines.spec import Request
from toolrlef_data.loading_scripts import load_tables
from toolrlef_data.records import InputError
from toolrlef_data.trice.benchmarks.files import read_benchmark

STYLE = "completion"
SAMPLES = 4
OWN, SURE = 0.5, 0.75  # share of right samples from which no call is wanted, in stage 1 and in stage 2
SAMPLED: dict[str, Any] = {"temperature": 0.3}
SAMPLED_AGAIN: dict[str, Any] = {"temperature": 0.5}  # by the model of stage 1, which is surer
DIFFICULTIES = ["when2tool-easy", "when2tool-medium", "when2tool-hard"]  # data sets of its questions
CANDIDATES = 2  # responses without a call, and with one, per question of stage 2
RANKED = ["instruction", "input", "responses", "scores"]
WRONG = scripted({"": "The answer is -987654321."}, progress=False)  # a student that needs the tool for every question


# Questions ------------------------------------------------------------------------------------------------------------


def draw_questions(seed: int, options: argparse.Namespace) -> tuple[Dataset, Dataset]:
    """Return the questions to train on, without those that overlap a held-out one, and the held-out questions.

    If those of When2Tool are held out, the others are held out, too, so that the trained models are the same.
    """
    if options.data_dir:
        trained = source_questions(options.trained, options.data_dir, "train", options.rows, seed)
        held_out = source_questions(options.held_out, options.data_dir, "test", options.questions, seed)
    else:
        trained = ladder_questions(TRAINED, options.rows, seed)
        held_out = ladder_questions(HELD_OUT, options.questions, seed)
    kept = decontaminate(trained, against=held_out)
    if options.when2tool:
        held_out = read_benchmark(options.when2tool).questions
        kept = decontaminate(kept, against=held_out)
    if not len(kept):
        raise InputError(f"no question is left to train on: all {len(trained)} overlap a held-out one")
    return kept, held_out


def ladder_questions(templates: Sequence[tuple[str, str]], count: int, seed: int) -> Dataset:
    return make_questions(ladder(templates, count, seed), task="math", answers="answer", solution="solution")


def source_questions(names: Sequence[str], folder: str, split: str, count: int, seed: int) -> Dataset:
    """Return questions drawn from a split of several sources."""
    rows = [row for name in names for row in source_rows(name, folder, split)]
    questions = make_questions(rows, task="math", answers="answers", id="id", solution="solution").shuffle(seed=seed)
    return questions.select(range(min(count, len(questions))))


def source_rows(name: str, folder: str, split: str) -> Dataset:
    """Return the questions of a split of a source, or of its first split if it lacks that one."""
    tables = load_tables(name, f"{folder}/{name}").questions
    return tables[split] if split in tables else next(iter(tables.values()))


def levels(held_out: Dataset, seed: int, options: argparse.Namespace) -> dict[str, int]:
    """Return the level of each held-out question by id; nothing for real rows."""
    if options.when2tool:
        return {row["id"]: DIFFICULTIES.index(row["dataset"]) + 1 for row in held_out}
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


def not_calling(table: Dataset) -> Dataset:
    """Return rows on which no call is right, made of rows with a call."""
    return without_tool(table, kind=["missing_argument", "other_tools"])


def with_pairs(stage2: Dataset, variants: Dataset) -> Dataset:
    """Return stage 2, and the pairs of the rows on which no call is right."""
    ranked = [table.select_columns(RANKED) for table in (stage2, pairs_of(variants))]
    return concatenate_datasets([ranked[0], ranked[1].cast(ranked[0].features)])


def pairs_of(variants: Dataset) -> Dataset:
    """Return a pair for each row on which no call is right: its text above the call."""

    def pair(row: dict[str, Any]) -> dict[str, Any]:
        origin = ["text", "call"]
        return {"responses": [row["output"], row["rejected"]], "scores": [1.0, 0.0], "origin": origin}

    return variants.filter(lambda row: row["rejected"] is not None).map(pair)


def compared_tables(held_out: Dataset, cloned: EngineSpec, seed: int, count: int) -> dict[str, Dataset]:
    """Return held-out candidates by the name of their order; nothing for questions without solutions, so without gold calls."""
    if not any(held_out["solution"][:]):
        return {}
    stage2, _ = stage2_table(held_out.select(range(min(count, len(held_out)))), cloned, seed, count)
    pairs = pairs_of(not_calling(build_stage1(grade(answer(held_out, WRONG)), ANNOTATIONS))).shuffle(seed=seed)
    return dict(zip(ORDERS, (stage2, pairs.select(range(min(count, len(pairs))))), strict=True))


# Controls -------------------------------------------------------------------------------------------------------------


def gold_answers(questions: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {row["id"]: f"The answer is {row['answers'][0]}." for row in questions}


def answers_in_words(questions: Dataset) -> Dataset:
    """Return a stage 1 table of the questions with the gold answers, without calls."""
    outputs = gold_answers(questions)
    table = build_stage1(grade(answer(questions, WRONG)), ANNOTATIONS)
    return table.map(lambda row: {"output": outputs[row["id"]], "uses_tool": False})


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
