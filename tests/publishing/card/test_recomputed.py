"""Every number of a card is recomputed from the published Parquet files and provenance.json, without code of the card.

A table with an unknown header or a number outside the checked tables and sentences fails the test, so that no number comes
into the card without a test.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.publishing.card.test_sections import card_of, table_rows
from tests.support.card_tables import dropped_rows, need_rows, responded_rows, stage1_rows, stage2_rows
from toolrlef_data import publish, to_trainer

Rows = list[dict[str, Any]]
Tables = dict[str, Rows]
Cells = list[list[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    math = {
        "stage1": stage1_rows(40),
        "stage2": stage2_rows(40),
        "responded": responded_rows(20),
        "need": need_rows(15),
    }
    tables = {"math": math, "lama": {"stage1": stage1_rows(10, "lama"), "stage2": stage2_rows(10, "lama")}}
    out = tmp_path_factory.mktemp("card") / "data"
    return publish(tables, out, version="1.0.0", dropped=dropped_rows(12))


@pytest.fixture(scope="module")
def tables(folder: Path) -> Tables:
    return {path.name: [row for file in sorted(path.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
            for path in sorted(folder.iterdir()) if list(path.glob("*.parquet"))}  # fmt: skip


def share(part: float, total: float) -> str:
    return f"{100 * part / total:.1f} %" if total else "none"


def texts_of(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {n}" for name, n in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def escaped(name: str) -> str:
    return name.replace("|", r"\|")


def ranked(tables: Tables) -> Iterator[tuple[dict[str, Any], int, str]]:
    """Yield (row, position, responder) of the responses of both stage 2 tables."""
    for row in tables["math-stage2"] + tables["lama-stage2"]:
        for position, name in enumerate(row["origin"]):
            yield row, position, name


def lost(tables: Tables) -> dict[str, Counter[str]]:
    reasons: dict[str, Counter[str]] = {name: Counter() for name in ("gold", "small", "large|model")}
    for row in tables["math-dropped"]:
        for name, why in json.loads(row["detail"]).items() if row["stage"] == "stage2" else ():
            reasons[name]["tool_fault:timeout" if why.startswith("tool_fault:timeout") else why] += 1
    for rows in (tables["math-stage2"], tables["lama-stage2"]):
        for name in reasons:
            reasons[name]["without their row"] += len(rows) - sum(name in row["origin"] for row in rows)
    return {name: +counts for name, counts in reasons.items()}


RESPONDERS = ("gold", "large|model", "small")  # sorted, since the tables have no lineage


def score_cells(tables: Tables) -> Cells:
    cells = []
    for name in RESPONDERS:
        found = [(row, i) for row, i, origin in ranked(tables) if origin == name]
        grades = Counter(row["correct"][i] for row, i in found)
        same = sum(row["uses_tool"][i] == row["uses_tool"][0] for row, i in found)
        gone = lost(tables)[name].total()
        cells.append([
            escaped(name), str(len(found)), share(gone, len(found) + gone),
            f"{sum(row['scores'][i] for row, i in found) / len(found):.2f}", share(grades[True], grades[True] + grades[False]),
            share(grades[None], len(found)), share(sum(row["uses_tool"][i] for row, i in found), len(found)),
            "" if name == "gold" else share(same, len(found)),
        ])  # fmt: skip
    return cells


def level_cells(tables: Tables) -> Cells:
    levels = sorted({row["scores"][i] for row, i, _ in ranked(tables)}, reverse=True)
    counts = Counter((name, row["scores"][i]) for row, i, name in ranked(tables))
    return [[escaped(name), *(str(counts[name, level]) for level in levels)] for name in RESPONDERS]


def reply_cells(tables: Tables) -> Cells:
    cells = []
    for config in ("math-stage2", "math-responded", "lama-stage2"):
        replies: dict[str, Counter[str]] = {}
        for row in tables[config]:
            named = {
                name: row[name]["error"] or row[name]["finish_reason"] for name in ("gold", "small") if name in row
            }
            for name, end in (named or dict(zip(row["origin"], row["finish_reasons"], strict=True))).items():
                replies.setdefault(name, Counter())[end] += 1
        cells += [[config, escaped(name), texts_of(replies[name])] for name in RESPONDERS if name in replies]
    return cells


def lost_cells(tables: Tables) -> Cells:
    found = lost(tables)
    return [[escaped(name), ", ".join(f"{reason} {n}" for reason, n in sorted(found[name].items(), key=reason_place))]
            for name in RESPONDERS if found[name]]  # fmt: skip


def reason_place(pair: tuple[str, int]) -> tuple[bool, str]:
    return (pair[0] != "without their row", pair[0])


def logprob_cells(tables: Tables) -> Cells:
    cells = []
    for name in RESPONDERS:
        found = [(row, i) for row, i, origin in ranked(tables) if origin == name]
        values = [row["logprobs"][i] / row["logprob_tokens"][i] for row, i in found if row["logprobs"][i] is not None]
        missing = Counter(row["logprob_errors"][i] for row, i in found if row["logprobs"][i] is None)
        cells.append([escaped(name), str(len(values)), texts_of(missing), f"{sum(values) / len(values):.3f}"])
    return cells


def words(tables: Tables, config: str) -> dict[tuple[str, str], list[int]]:
    lengths: dict[tuple[str, str], list[int]] = {}
    for row in tables[config]:
        texts: list[tuple[str, Any]] = [(name, row[name]) for name in ("input", "output") if name in row]
        texts += list(zip(row.get("origin", ()), row.get("responses", ()), strict=True))
        texts += [(name, row[name]["text"]) for name in ("gold", "small") if name in row]
        for name, text in texts:
            if text and text.split():
                lengths.setdefault(("words", name), []).append(len(text.split()))
        for name in ("gold", "small"):
            if name in row and row[name]["completion_tokens"] is not None:
                lengths.setdefault(("tokens, as the engine counted them", name), []).append(
                    row[name]["completion_tokens"]
                )
        for name, n, value in zip(*(row.get(x, ()) for x in ("origin", "logprob_tokens", "logprobs")), strict=True):
            if value is not None:
                lengths.setdefault(("tokens of the model of the log-probabilities", name), []).append(n)
    return lengths


def length_cells(tables: Tables) -> Cells:
    order = ("input", "output", "gold", "large|model", "small")
    units = ("words", "tokens, as the engine counted them", "tokens of the model of the log-probabilities")
    cells = []
    for config in ("math-stage1", "math-stage2", "math-responded", "lama-stage1", "lama-stage2"):
        found = words(tables, config)
        for unit, name in sorted(found, key=lambda key: (units.index(key[0]), order.index(key[1]))):
            values = sorted(found[unit, name])
            median, high = (next(v for n, v in enumerate(values, 1) if n >= q * len(values)) for q in (0.5, 0.95))
            mean = f"{sum(values) / len(values):.1f}"
            row = [config, escaped(name), unit, str(len(values)), mean, str(median), str(high), str(values[-1])]
            cells.append(row)
    return cells


def repeat_cells(tables: Tables) -> Cells:
    configs = ("math-stage1", "math-stage2", "math-responded", "lama-stage1", "lama-stage2")
    forms = {name: [re.sub(r"[\W_]+", " ", row["input"].casefold()) for row in tables[name]] for name in configs}
    return [[name, str(len(f)), str(len(set(f))), str(len(f) - len(set(f))), ""] for name, f in forms.items()]


SEARCHED = ("answers", "input", "output", "responses", "tool_outputs", "detail", "gold", "small")
MAIL, PHONE = "ann@mail.example", "+41 44 632 11 11"


def leaves(column: str, value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for part in value or () if isinstance(value, list) else ():
        yield from leaves(column, part)
    if isinstance(value, dict):
        for field in ("text", "reasoning", "argument", "arguments", "tool_output"):
            yield from leaves(column, value[field])


def personal_cells(tables: Tables) -> Cells:
    cells = []
    for config in (
        "math-stage1",
        "math-stage2",
        "math-responded",
        "math-need",
        "lama-stage1",
        "lama-stage2",
        "math-dropped",
    ):
        for column in sorted(set(SEARCHED) & tables[config][0].keys()):
            texts = [text for row in tables[config] for text in leaves(column, row[column])]
            found = [sum(MAIL in text for text in texts), 0, sum(PHONE in text for text in texts)]
            if any(found):
                cells.append([config, f"`{column}`", str(len(texts)), *map(str, found)])
    return cells


def all_texts(tables: Tables) -> int:
    return sum(len(list(leaves(name, row[name])))
               for rows in tables.values() for row in rows for name in SEARCHED if name in row)  # fmt: skip


def target_cells(tables: Tables) -> Cells:
    cells = []
    for config in ("math-stage1", "lama-stage1"):
        calls = [row["verified_by"] or "" for row in tables[config] if row["uses_tool"]]
        for by in sorted(set(calls)):
            text = f"its {by}" if by else "none: not verified"
            cells.append([config, text, str(calls.count(by)), share(calls.count(by), len(calls))])
    return cells


def load_cells(tables: Tables) -> Cells:
    order = ("math-stage1", "math-stage2", "math-responded", "math-need", "lama-stage1", "lama-stage2", "math-dropped")
    sizes = {config: len(tables[config]) for config in order}
    sizes |= {f"mix-{name}": sizes[f"math-{name}"] + sizes[f"lama-{name}"] for name in ("stage1", "stage2")}
    return [[name, "train", str(n), f'`load_dataset("PATH", "{name}", split="train")`'] for name, n in sizes.items()]


def dropped_cells(tables: Tables) -> Cells:
    counts = Counter((row["stage"], row["reason"]) for row in tables["math-dropped"])
    return [[*pair, str(n)] for pair, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def source_cells(tables: Tables) -> Cells:
    configs = ("math-stage1", "math-stage2", "math-responded", "math-need", "lama-stage1", "lama-stage2")
    counts = {name: {config: sum(row["dataset"] == name for row in tables[config]) for config in configs}
              for name in ("asdiv", "gsm8k")}  # fmt: skip
    return [
        [f"`{name}`", ", ".join(f"{n} in {config}" for config, n in by.items() if n)] for name, by in counts.items()
    ]


def need_cells(tables: Tables) -> Cells:
    cells = []
    for model in ("tiny", "big"):
        rows = [row for row in tables["math-need"] if row["model"] == model]
        classes = Counter(row["need"] for row in rows)
        shares = [100 * sum(row[f"p_{s}"] * row[f"n_{s}"] for row in rows) / sum(row[f"n_{s}"] for row in rows)
                  for s in ("plain", "tool")]  # fmt: skip
        names = ("needs_tool", "indifferent", "harmed", "hopeless", "unsure")
        numbers = [str(classes[name]) for name in names] + [f"{value:.1f} %" for value in shares]
        cells.append(["math-need", model, str(len(rows)), *numbers])
    return cells


def training_cells(folder: Path, shown: Cells) -> Cells:
    """The records of `to_trainer`; their lengths have tests of their own."""
    from datasets import load_dataset

    cells = []
    for config, trainer, form, _, _, longest in shown:
        rows = to_trainer(load_dataset(str(folder), config, split="train"), form.strip("`"), unfit="drop")
        cells.append([config, trainer, form, str(len(rows)), longest])
    return cells


def stage_cells(folder: Path) -> Cells:
    stages = json.loads((folder / "provenance.json").read_text())["stages"].values()
    shown = [stage for stage in stages if not stage["inputs"] or stage["rows_in"] != stage["rows_out"]]
    return [[s["step"], str(s["rows_in"]), str(s["rows_out"]), texts_of(Counter(s["dropped"]))] for s in shown]


# First cells of the header -> (expected rows, columns that are compared).
CHECKS: dict[tuple[str, ...], tuple[Callable[[Tables], Cells], slice | list[int]]] = {
    ("config", "split", "rows"): (load_cells, slice(None)),
    ("stage", "reason", "rows"): (dropped_cells, slice(None)),
    ("config", "evidence that the call is right"): (target_cells, slice(None)),
    ("config", "model", "questions"): (need_cells, slice(None)),
    ("responder", "rows", "lost rows"): (score_cells, slice(None)),
    ("responder", "20"): (level_cells, slice(None)),
    ("config", "responder or column", "replies"): (reply_cells, slice(None)),
    ("responder", "lost responses"): (lost_cells, slice(None)),
    ("responder", "responses", "without a value"): (logprob_cells, slice(None)),
    ("config", "text", "unit"): (length_cells, slice(None)),
    ("config", "rows", "different questions"): (repeat_cells, slice(None)),
    ("config", "column", "texts"): (personal_cells, slice(None)),
    ("data set", "licence"): (source_cells, [0, 3]),
}
WITHOUT_NUMBERS = {("from", "who wrote the values"), ("column", "type"), ("field", "type")}


def test_every_table_is_recomputed(folder: Path, tables: Tables) -> None:
    found = {}
    for header, _, *rows in table_rows(card_of(folder)):
        key = next((key for key in CHECKS if tuple(header[: len(key)]) == key), None)
        if key is not None:
            found[key] = rows
            expected, columns = CHECKS[key]
            shown = [row[columns] if isinstance(columns, slice) else [row[i] for i in columns] for row in rows]
            assert shown == expected(tables), key
        elif header[:2] == ["stage", "tables"]:
            assert sorted([row[0], *row[2:]] for row in rows) == sorted(stage_cells(folder))
        elif header[:2] == ["config", "trainer"]:
            assert [[*row[:4], row[5]] for row in rows] == training_cells(folder, rows)
        else:
            assert header[0] == "rows" or tuple(header[:2]) in WITHOUT_NUMBERS, f"no test of the table {header}"
    assert found.keys() == CHECKS.keys()


def sentences(tables: Tables) -> list[str]:
    """Return every sentence of the card with a number."""
    stage1 = {name: tables[name] for name in ("math-stage1", "lama-stage1")}
    calls = {name: sum(row["uses_tool"] for row in rows) for name, rows in stage1.items()}
    rows = tables["math-stage2"] + tables["lama-stage2"]
    kinds = Counter("one" if len(row["scores"]) == 1 else "all" if len(set(row["scores"])) == 1 else
                    "none" if len(set(row["scores"])) == len(row["scores"]) else "some" for row in rows)  # fmt: skip
    pairs = [(a, b) for row in rows for i, a in enumerate(positions(row)) for b in positions(row)[:i] if a[0] != b[0]]
    ordered = sum((a[0] > b[0]) == (a[1] > b[1]) for a, b in pairs if a[1] != b[1])
    by_row = [[(a[0] > b[0]) == (a[1] > b[1]) for i, a in enumerate(positions(row)) for b in positions(row)[:i]
               if a[0] != b[0]] for row in rows]  # fmt: skip
    with_pairs = [row for row in by_row if row]
    unverified = {
        name: sum(row["uses_tool"] and not row["verified_by"] for row in rows) for name, rows in stage1.items()
    }
    ungraded = Counter(name for row, i, name in ranked(tables) if row["correct"][i] is None)
    needs = {
        model: {row["id"]: row["need"] for row in tables["math-need"] if row["model"] == model}
        for model in ("tiny", "big")
    }
    both = [(needs["tiny"][i], needs["big"][i]) for i in needs["tiny"]]
    alone = [sum(pair[i] == "needs_tool" != pair[1 - i] for pair in both) for i in (0, 1)]
    errors: dict[str, Counter[str]] = {}
    for row, i, name in ranked(tables):
        if row["errors"][i]:
            errors.setdefault(name, Counter())[row["errors"][i]] += 1
    return [
        *(f"In {calls[name]} of {len(rows)} rows of `{name}` ({share(calls[name], len(rows))}) the target is" for name, rows in stage1.items()),
        f"Tied scores: {kinds['some']} of {len(rows)} rows have some responses with equal scores, but not all. No\n"
        f"signal: {kinds['all']} rows have equal scores only, and {kinds['one']} have one response;",
        *(f"- {escaped(name)}: {texts_of(counts)}\n" for name, counts in errors.items()),
        f"{ordered} of {len(pairs)} pairs are ordered ({share(ordered, len(pairs))}); in {sum(map(all, with_pairs))} of "
        f"{len(with_pairs)} rows all pairs are.",
        f"Regular expressions searched {all_texts(tables)} texts",
        *(f"- {n} of {calls[name]} calls in `{name}` are not verified." for name, n in unverified.items()),
        *(f"- {n} responses of {escaped(name)} could not be graded." for name, n in ungraded.items() if n),
        f"Of {len(both)} questions, {sum(a == b for a, b in both)} have the same class for tiny and big; {alone[0]} need the tool\n"
        f"for the first model alone, {alone[1]} for the second alone.",
        "By tiny@0123456789ab.",
    ]  # fmt: skip


def positions(row: dict[str, Any]) -> list[tuple[float, float]]:
    """Return (score, log-probability per token) of the responses with both."""
    values = zip(row["scores"], row["logprobs"], row["logprob_tokens"], strict=True)
    return [(score, logprob / n) for score, logprob, n in values if logprob is not None]


def summary_lines(tables: Tables) -> list[str]:
    sizes = {row[0]: row[2] for row in load_cells(tables) if not row[0].startswith("mix-") and row[0] != "math-dropped"}
    stage1 = {name: tables[name] for name in ("math-stage1", "lama-stage1")}
    shares = {name: share(sum(row["uses_tool"] for row in rows), len(rows)) for name, rows in stage1.items()}
    means = {row[0]: f"{float(row[3]):.1f}" for row in score_cells(tables)}
    return [
        f"| rows | {', '.join(f'{name} {n}' for name, n in sizes.items())} |",
        f"| dropped rows | {len(tables['math-dropped'])}, each with its reason |",
        f"| targets that are tool calls | {', '.join(f'{name} {text}' for name, text in shares.items())} |",
        f"| mean score of responders | {', '.join(f'{name} {text}' for name, text in means.items())} |",
    ]


FIXED = (
    "arXiv 2305.13068",
    "https://arxiv.org/abs/2305.13068",
    "Version 1.0.0",
    r"TRL's default of 1,024 can cut",
    "those of 95 %\nintervals",
    "cc-by-nc-4.0",
)


def test_no_other_number_is_in_the_card(folder: Path, tables: Tables) -> None:
    text = re.sub(r"^(`{3,})[^\n]*\n.*?^\1$", "", card_of(folder), flags=re.S | re.M)  # examples, prompts, code
    for line in (*summary_lines(tables), *sentences(tables), *FIXED):
        assert line in text, line
        text = text.replace(line, "")
    text = re.sub(r"(?:^\|.*\n)+", "", text, flags=re.M)  # the tables, which another test recomputes
    text = re.sub(r"^!\[.*\]\(.*\)$", "", text, flags=re.M)  # the figures, which another test compares with the tables
    text = re.sub(r"^Built with .*$", "", text, flags=re.M)
    text = re.sub(r"\b[Ss]tage [12]\b|`[^`\n]*`|mix-stage\d|(?:math|lama)-stage\d", "", text)
    text = re.sub(r"^.*\bprompts_sha256\b.*$|^## .*$", "", text, flags=re.M)
    assert re.findall(r"^.*\d.*$", text, re.M) == []


def test_the_numbers_of_the_figures_are_those_of_the_tables(folder: Path, tables: Tables) -> None:
    alts = dict(re.findall(r"^!\[(.*)\]\(figures/(\w+)\.svg\)$", card_of(folder), re.M))
    by_name = {name: alt for alt, name in alts.items()}
    assert by_name.keys() == {"scores", "tool_rates", "need", "lengths"}, "no stage with drops is in the lineage"
    assert {path.stem for path in (folder / "figures").iterdir()} == by_name.keys()
    for row, total in zip(level_cells(tables), score_cells(tables), strict=True):
        names = ("20", "15", "10", "5", "0.5")
        assert (
            f"{row[0]}: {total[1]} rows; " + ", ".join(map(": ".join, zip(names, row[1:], strict=True)))
            in by_name["scores"]
        )
        assert f"{row[0]} {total[6]} (" in by_name["tool_rates"]
    for row in need_cells(tables):
        names = ("needs_tool", "indifferent", "harmed", "hopeless", "unsure")
        assert (
            f"{row[1]}: {row[2]} rows; " + ", ".join(map(": ".join, zip(names, row[3:8], strict=True)))
            in by_name["need"]
        )
    found: dict[tuple[str, str], list[int]] = {}
    for config in ("math-stage1", "math-stage2", "math-responded", "lama-stage1", "lama-stage2"):
        for key, values in words(tables, config).items():
            found.setdefault(key, []).extend(values)
    for (_, name), lengths in found.items():
        values = sorted(lengths)
        quantiles = [next(v for n, v in enumerate(values, 1) if n >= q * len(values)) for q in (0.05, 0.5, 0.95)]
        assert f"{escaped(name)} {', '.join(map(str, quantiles))}, {values[-1]}" in by_name["lengths"]
    for task in ("math", "lama"):
        rows = tables[f"{task}-stage1"]
        calls = sum(row["uses_tool"] for row in rows)
        assert f"{task} {share(calls, len(rows))} ({calls} of {len(rows)})" in by_name["tool_rates"]
    for need in ("needs_tool", "harmed"):
        rows = [row for name in ("math-stage1", "lama-stage1") for row in tables[name] if row["need"] == need]
        calls = sum(row["uses_tool"] for row in rows)
        assert f"{need} {share(calls, len(rows))} ({calls} of {len(rows)})" in by_name["tool_rates"]
