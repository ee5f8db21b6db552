"""The card of trajectories: its numbers agree with the tables, and it has no secret and no local path."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import statistics
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset, DatasetDict, load_dataset

from tests.support.answer_trees import searches, table
from tests.support.models import bytes_chat
from toolrlef_data import publish
from toolrlef_data.columns import PAIRS, QUESTIONS, STAGE1, STAGE2, TOOLLLAMA, TRAJECTORIES
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.loading_scripts import load_source
from toolrlef_data.publishing.card.row_facts import MAX_CHARS, shorten
from toolrlef_data.publishing.card.step_facts import kind_of, step_facts
from toolrlef_data.records import InputError, Reply
from toolrlef_data.tables.lineage import ledger
from toolrlef_data.tables.redaction import redact
from toolrlef_data.tables.sampling.splits import shuffle_steps, split_queries
from toolrlef_data.toolbench.preferences import preference_pairs
from toolrlef_data.toolbench.samples import trajectories
from toolrlef_data.toolbench.search.answer_writer import write_answers
from toolrlef_data.toolbench.search.generation import generate_trajectories
from toolrlef_data.toolbench.tokens.chat_template import TokenizerSource
from toolrlef_data.toolbench.tokens.labels import TOKENS, tokenise
from toolrlef_data.tools.functions.function import Function

QUERIES = [f"What is known of lake {n}?" for n in range(1, 13)]
SECRET = "sesame-open-4711"
LAKE = {"type": "object", "properties": {"lake": {"type": "integer"}}, "required": ["lake"]}


def measure(folder: str, lake: int) -> str:
    return f"{lake} " + "m" * (1200 if lake == 5 else 1)


def model(request: Request) -> Reply:
    """Call `depth` up to three times, then finish; first give up on every fourth lake, and always on lakes 7 and 8."""
    messages = request.messages
    lake = int(re.findall(r"lake ([0-9]+)", messages[1].content)[0])
    results = [message for message in messages if message.role == "tool"]
    is_retry = messages[-1].role == "user" and len(messages) > 2
    if is_retry:
        return call_reply("area", lake=lake)
    if len(results) < 1 + lake % 3:
        return call_reply("depth", lake=lake)
    if lake == 3 and len(results) == 1:
        return call_reply("volume", lake=lake)
    if lake in (7, 8) or (lake % 4 == 0 and all(message.name != "area" for message in results)):
        return call_reply("Finish", return_type="give_up_and_restart")
    return call_reply("Finish", return_type="give_answer", final_answer=f"Lake {lake} is deep.")


def call_reply(name: str, **arguments: Any) -> Reply:
    call = (name, json.dumps(arguments))
    return Reply(f"I call {name}.", prompt_tokens=10, completion_tokens=3, tool_calls=(call,))


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Answer files of a local model, with functions that have a path, a server and a secret."""
    monkeypatch.setenv("LAKES_KEY", SECRET)
    functions = [
        Function("depth", "How deep.", LAKE, partial(measure, str(tmp_path / "depths"))),
        Function("area", "How large.", LAKE, partial(measure, str(tmp_path / "areas")), version="7"),
        Function("tides", "Of a sea.", LAKE, url="https://lakes.example/tides", headers={"X-Key": "$LAKES_KEY"}),
    ]
    engine = EngineSpec("scripted", str(tmp_path / "models" / "small"), options={"function": model}, progress=False)
    return generate_trajectories(QUERIES, functions, engine)


def tables_of(answers: Dataset) -> dict[str, Any]:
    parts = split_queries(answers, test=0.5)
    return {
        "split": DatasetDict({name: shuffle_steps(trajectories(part)) for name, part in parts.items()}),
        "merged": trajectories(parts, layout="merged", history="clean"),
        "upstream": trajectories(parts, style="toolllama"),
        "pairs": preference_pairs(parts, finish=("give_answer", "give_up")),
        "answers": parts,
    }


def section(card: str, config: str) -> str:
    return card.split(f"\n### {config}\n")[1].split("\n#")[0]


def loaded(out: Path, config: str) -> dict[str, list[dict[str, Any]]]:
    return {split: list(data) for split, data in load_dataset(str(out), config).items()}


def functions_in(text: str) -> list[tuple[str, int, str]]:
    return [(name, int(n), share) for name, n, share in re.findall(r"^\| `(\S+)` \| (\d+) \| (\S+ %) \|$", text, re.M)]


def test_numbers_of_the_card_agree_with_the_loaded_rows(answers: Dataset, tmp_path: Path) -> None:
    out = publish({"lakes": tables_of(answers)}, tmp_path / "data", version="1.0.0")
    card = (out / "README.md").read_text()
    called: dict[str, Counter[str]] = {}
    for config in ("lakes-split", "lakes-merged"):
        splits, text = loaded(out, config), section(card, config)
        for split, data in splits.items():
            steps, files = sum(len(row["steps"]) for row in data), len({row["source_file"] for row in data})
            queries = len({row["query"] for row in data})
            assert f"| {config} | {split} | {len(data)} | {steps} | {files} | {queries} |\n" in card
        rows = [row for data in splits.values() for row in data]
        messages = [message for row in rows for message in row["messages"]]
        trained = [message for message in messages if message["train"]]
        assistant = sum(message["role"] == "assistant" for message in messages)
        share = f"{len(trained)} of these ({100 * len(trained) / assistant:.1f} %) are trained"
        counts = f"{len(messages)}, of which {assistant} are assistant messages"
        assert f"- messages in all rows: {counts}; {share}\n" in text
        lengths = [len(row["messages"]) for row in rows]
        spread = f"{min(lengths)} to {max(lengths)}, median {statistics.median_low(lengths)}"
        assert f"- messages in a row: {spread}, mean {statistics.mean(lengths):.1f}\n" in text
        ends = Counter(row["finish_type"] for row in rows for _ in row["steps"])
        shares = ", ".join(f"`{end}` {n} ({100 * n / ends.total():.1f} %)" for end, n in ends.most_common())
        assert f"- steps by finish type: {shares}\n" in text
        assert f"- steps on the chosen path of their file: {ends.total()} of {ends.total()}\n" in text
        flags = Counter(flag for row in rows for flag in row["flags"])
        assert len(flags) >= 2, "the script causes more than one flag"
        for flag, count in flags.items():
            assert f"`{flag}` {count} ({100 * count / len(rows):.1f} %)" in text
        calls = called[config] = Counter(message["tool_calls"][0]["function"]["name"] for message in trained)
        assert f"- trained calls: {calls.total()}, of {len(calls)} distinct functions; " in text
        assert f"; {100 * calls['Finish'] / calls.total():.1f} % of the calls are `Finish`\n" in text
        expected = [(name, n, f"{100 * n / calls.total():.1f} %") for name, n in calls.items()]
        assert sorted(functions_in(text)) == sorted(expected)
        assert [n for _, n, _ in functions_in(text)] == sorted(calls.values(), reverse=True)
    lengths_in_steps = Counter(len(row["steps"]) for data in loaded(out, "lakes-merged").values() for row in data)
    assert len(lengths_in_steps) > 1
    text = ", ".join(f"{rows} with {steps}" for steps, rows in sorted(lengths_in_steps.items()))
    assert f"- rows by number of trained steps: {text}\n" in section(card, "lakes-merged")
    assert "rows by number" not in section(card, "lakes-split")
    # The configs have the same steps in different forms; calls in text turns are counted too.
    assert called["lakes-split"] == called["lakes-merged"]
    upstream_calls = {name: n for name, n, _ in functions_in(section(card, "lakes-upstream"))}
    assert upstream_calls == called["lakes-split"]
    pairs = [row for data in loaded(out, "lakes-pairs").values() for row in data]
    for why, count in Counter(row["why"] for row in pairs).items():
        assert f"`{why}` {count}" in section(card, "lakes-pairs")
    ends = Counter(answers["finish_type"])
    assert ends["give_up"] == 2
    assert f"`give_up` 2 ({100 * 2 / 12:.1f} %)" in section(card, "lakes-answers")
    assert f"the files report {sum(answers['n_calls'])} model requests" in section(card, "lakes-answers")


def test_card_reports_queries_in_both_splits(answers: Dataset, tmp_path: Path) -> None:
    parts = split_queries(answers, test=0.5)
    assert min(map(len, parts.values())) > 1
    samples = {name: trajectories(part) for name, part in parts.items()}
    counts = {name: len(set(part["query"])) for name, part in parts.items()}
    out = publish({"lakes": {"steps": DatasetDict(samples)}}, tmp_path / "data", version="1.0.0")
    card = (out / "README.md").read_text()
    assert f"Over all configs: {counts['train']} queries in train, {counts['test']} queries in test.\n" in card
    assert "\nNo query is in both train and test.\n" in card

    # A query in another table with other punctuation and case is the same query.
    def uppercase_query(row: dict[str, Any]) -> dict[str, Any]:
        return {"query": row["query"].upper().replace("?", " ?!")}

    pairs = preference_pairs(parts["test"], finish=("give_answer", "give_up"))
    pairs = pairs.map(uppercase_query, load_from_cache_file=False)
    shared = len(set(pairs["query"]))
    assert shared > 0
    out = publish({"lakes": {"steps": DatasetDict(samples), "pairs": pairs}}, tmp_path / "data", version="1.1.0")
    card = (out / "README.md").read_text()
    assert re.search(rf"\*\*{shared} quer(y is|ies are) in both train and test", card)
    assert "No query is" not in card
    single = publish({"lakes": {"steps": samples["train"]}}, tmp_path / "single", version="1.0.0")
    assert " in both " not in (single / "README.md").read_text(), "there is only one split"


def test_rows_round_trip_and_the_example_of_the_card_runs(
    answers: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = trajectories(answers, layout="merged")
    tables = {"merged": samples, "pairs": preference_pairs(answers, finish=("give_answer", "give_up"))}
    out = publish({"lakes": tables}, tmp_path / "data", version="1.0.0")
    for name, table_in in tables.items():
        table_out = load_dataset(str(out), f"lakes-{name}", split="train")
        assert table_out.features == table_in.features
        assert table_out[:] == table_in[:]
        assert kind_of(table_out.features) == kind_of(table_in.features) != ""
    front, card = (out / "README.md").read_text().split("---\n", 2)[1:]
    assert "license" not in yaml.safe_load(front), "the user must state it"
    code = next(code for code in re.findall(r"```python\n(.*?)```", card, re.S) if "trl" not in code).replace(
        "PATH", str(out)
    )
    (tmp_path / "card_example.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    example = importlib.import_module("card_example")
    del sys.modules["card_example"]
    assert [tool["function"]["name"] for tool in example.tools] == ["depth", "area", "tides", "Finish"]
    assert example.trained == [message["train"] for message in samples[0]["messages"]]
    assert example.messages[1] == {"role": "user", "content": samples[0]["messages"][1]["content"]}
    written = [m["tool_calls"] for m in samples[0]["messages"] if m["tool_calls"]]
    parsed = [message["tool_calls"] for message in example.messages if "tool_calls" in message]
    for (text,), (call,) in zip(written, parsed, strict=True):
        assert call["function"]["arguments"] == json.loads(text["function"]["arguments"])
        assert isinstance(call["function"]["arguments"], dict)


def test_neither_paths_nor_secrets_are_published(answers: Dataset, tmp_path: Path, fresh_caches: Path) -> None:
    write_answers(answers, tmp_path / "files")
    files = load_source("toolbench", data_dir=tmp_path / "files")
    assert sorted(files["answer"]) == sorted(answers["answer"])
    tables = {"made": tables_of(answers), "read": {"steps": trajectories(files)}}
    out = publish(tables, tmp_path / "data", version="1.0.0", cassette=True)
    rows = [str(list(load_dataset(str(out), config, split="train"))) for config in ("made-split", "read-steps")]
    texts = [path.read_bytes().decode(errors="replace") for path in out.rglob("*") if path.is_file()]
    for text in [*texts, *rows]:
        for word in (str(tmp_path), str(fresh_caches), SECRET, "LAKES_KEY", "lakes.example", os.path.expanduser("~/")):
            assert word not in text
    stages = json.loads((out / "provenance.json").read_text())["stages"].values()
    (search,) = [stage for stage in stages if stage["step"] == "search"]
    functions = search["settings"]["functions"]
    versions = [(function["name"], function["version"]) for function in functions]
    assert versions == [("depth", "1"), ("area", "7"), ("tides", "1")]
    assert {frozenset(function) for function in functions} == {frozenset({"name", "version", "schema_sha256"})}
    assert search["settings"]["spec"]["model"] == search["usage"]["model"] == "small"
    requests = sum(answers["n_calls"])
    card = (out / "README.md").read_text()
    assert f"\n| small | {requests} | {10 * requests} | {3 * requests} |\n" in card
    assert "\n| search | scripted | small |" in card


def test_tokens_are_counted_by_their_labels(tmp_path: Path) -> None:
    ids = [[1, 2, 3, 4], [5] * 9, [6, 7]]
    labels = [[-100, -100, 3, 4], [-100] * 8 + [5], [-100, 7]]
    rows = [
        {
            **dict.fromkeys(TOKENS),
            "id": f"f{n}#1+2",
            "query": "Which?",
            "steps": [1, 2],
            "input_ids": row_ids,
            "labels": row_labels,
        }
        | {"dataset": "toolbench", "fallback": "history" if n == 1 else None, "shortened": n}
        for n, (row_ids, row_labels) in enumerate(zip(ids, labels, strict=True))
    ]
    plain = Dataset.from_dict({"input_ids": ids, "labels": labels})
    tokens = Dataset.from_list(rows, features=TOKENS)
    assert kind_of(plain.features) == kind_of(tokens.features) == "tokens"
    assert kind_of(Dataset.from_dict({"input_ids": ["a"], "labels": ["b"]}).features) == ""
    out = publish({"lakes": {"tokens": tokens, "plain": plain}}, tmp_path / "data", version="1.0.0")
    card = (out / "README.md").read_text()
    assert "| lakes-tokens | train | 3 | 6 | 3 | 1 |" in card
    assert "| lakes-plain | train | 3 | 3 | 0 | 0 |" in card
    for config, n_removed in (("lakes-tokens", 3), ("lakes-plain", 0)):
        removed = f"messages removed from histories to fit `max_length`: {n_removed}"
        counts = f"in all rows: 15, of which 4 (26.7 %) are trained; {removed}"
        assert f"- tokens {counts}\n- tokens in a row: 2 to 9, median 4, mean 5.0\n" in section(card, config)
    assert "`history` 1\n" in section(card, "lakes-tokens")
    assert "Apache-2.0" in card, "the licence of ToolBench's data; the licence of these rows is not stated"


def test_card_of_both_kinds_has_the_sections_of_both(answers: Dataset, tmp_path: Path) -> None:
    row = {"id": "1", "task": "math", "dataset": "d", "answers": ["2"]}
    stage1 = {"instruction": "i", "input": "1+1?", "output": "2", "uses_tool": False, "source": "student"}
    stage2 = {"query": "1+1?", "responses": ["2"], "origin": ["gold"], "scores": [1.0], "uses_tool": [True]}
    tables = {
        "stage1": Dataset.from_list([dict.fromkeys(STAGE1) | row | stage1], features=STAGE1),
        "stage2": Dataset.from_list([dict.fromkeys(STAGE2) | row | stage2], features=STAGE2),
    }
    steps = {"steps": trajectories(answers)}
    headings: dict[str, list[str]] = {}
    for name, published_tables in {
        "steps": {"lakes": steps},
        "math": {"math": tables},
        "both": {"lakes": steps, "math": tables},
    }.items():
        card = (publish(published_tables, tmp_path / name, version="1.0.0") / "README.md").read_text()
        headings[name] = re.findall(r"^## (.*)$", card, re.M)
        assert "\n\n\n\n" not in card
        assert ("NAACL" in card, "ICLR" in card) == ("math" in published_tables, "lakes" in published_tables)
    assert "Scores by responder" not in headings["steps"]
    assert "Steps" not in headings["math"]
    assert set(headings["both"]) == {*headings["steps"], *headings["math"]}


def test_empty_split_is_skipped_and_counts_are_zero(
    answers: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full = trajectories(answers)
    finish = ("give_answer", "give_up")
    branched = set(preference_pairs(answers, finish=finish)["source_file"])
    sides: list[list[int]] = [[], []]
    for n, file in enumerate(answers["source_file"]):
        sides[file in branched].append(n)
    unbranched = answers.select(sides[False])
    pairs = preference_pairs(DatasetDict(train=answers.select(sides[True]), test=unbranched), finish=finish)
    assert (len(pairs["train"]) > 0, len(pairs["test"])) == (True, 0)
    caplog.clear()
    out = publish({"lakes": {"steps": full, "pairs": pairs}}, tmp_path / "data", version="1.0.0")
    records = [record for record in caplog.records if record.name == "toolrlef_data" and "no rows" in record.message]
    (warning,) = records
    assert "lakes-pairs: skipped test, which has no rows" in warning.message
    assert {split: len(rows) for split, rows in loaded(out, "lakes-pairs").items()} == {"train": len(pairs["train"])}
    dropped = [row for row in loaded(out, "lakes-dropped")["train"] if row["reason"] == "no_branch"]
    assert {row["id"] for row in dropped} >= set(unbranched["id"]), "the ledger explains the empty split"
    for tables in ({"steps": full.select([])}, {"pairs": DatasetDict(test=pairs["test"])}):
        words = r"no rows to publish in lakes-\w+ \(\w+\): `ledger\(\[table\]\)` lists the dropped rows"
        with pytest.raises(InputError, match=words):
            publish({"lakes": {"more": full, **tables}}, tmp_path / "none", version="1.0.0")
    assert not (tmp_path / "none").exists()
    for features in (TRAJECTORIES, TOOLLLAMA, PAIRS, TOKENS):
        empty = Dataset.from_dict({name: [] for name in features}, features=features)
        facts = step_facts({"empty": {"train": empty}})["empty"]
        assert (facts.rows["train"], facts.steps["train"], facts.lengths) == (0, 0, {})
        assert not any(facts.sums.values())


# Tables of searches ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searched() -> Dataset:
    """Answer files of random searches with a chosen path, retries, hallucinated functions and tool outputs."""
    files = {f"s{n}": search.file() for n, search in enumerate(searches(12)) if search.end is not None}
    assert len(files) > 5
    return table(files)


def test_chosen_and_unfinished_steps_are_counted(searched: Dataset, tmp_path: Path) -> None:
    def mark_unfinished(row: dict[str, Any]) -> dict[str, Any]:
        return {"finish_type": "unfinished"} if int(row["source_file"][1:-5]) % 3 == 0 else {}

    split, merged = (
        trajectories(searched, steps="all", layout=layout).map(mark_unfinished, load_from_cache_file=False)
        for layout in ("split", "merged")
    )
    on_path = sum(split["on_path"])
    assert 0 < on_path < len(split)
    assert sum(merged["on_path"]) < on_path, "a merged row with other steps is not chosen"
    invalid = {"valid": False, "finish_type": None}
    files = searched.map(lambda row, n: invalid if n < 3 else {}, with_indices=True, load_from_cache_file=False)
    tables = {"split": split, "merged": merged, "files": files}
    out = publish({"lakes": tables}, tmp_path / "data", version="1.0.0")
    card = (out / "README.md").read_text()
    unfinished = sum(end == "unfinished" for end in split["finish_type"])
    for config in ("lakes-split", "lakes-merged"):
        assert f"- steps on the chosen path of their file: {on_path} of {len(split)}\n" in section(card, config)
        assert f"not finished {unfinished} ({100 * unfinished / len(split):.1f} %)" in section(card, config)
    assert f"not finished 3 ({300 / len(files):.1f} %)" in section(card, "lakes-files")
    assert "unfinished" not in card.split("## Example rows")[0]


def test_counts_do_not_depend_on_the_batches_that_are_read(searched: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {layout: {"train": trajectories(searched, steps="all", layout=layout)} for layout in ("split", "merged")}
    tables |= {"pairs": {"train": preference_pairs(searched)}, "files": {"train": searched}}
    whole = step_facts(tables)
    assert [facts.rows["train"] for facts in whole.values()] == [len(table["train"]) for table in tables.values()]
    monkeypatch.setattr("toolrlef_data.publishing.card.step_facts.BATCH_ROWS", 2)
    assert step_facts(tables) == whole


def test_a_mix_of_columns_of_two_versions_is_warned_of(
    searched: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = trajectories(searched)
    mixed = samples.add_column("chosen", samples["on_path"][:])
    publish({"lakes": {"split": mixed}}, tmp_path / "data", version="1.0.0")
    assert "lakes-split (train): has the column on_path and its former name chosen" in caplog.text


def test_tables_of_earlier_versions_are_counted(
    searched: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Columns that are called on_path and on_path_steps today were called chosen and chosen_steps."""
    samples, upstream = trajectories(searched, steps="all"), trajectories(searched, steps="all", style="toolllama")
    old_names = {"on_path": "chosen", "on_path_steps": "chosen_steps"}
    old = samples.rename_columns(old_names), upstream.rename_columns({"on_path": "chosen"})
    cards = []
    for folder, (first, second) in {"new": (samples, upstream), "old": old}.items():
        out = publish({"lakes": {"split": first, "upstream": second}}, tmp_path / folder, version="1.0.0")
        cards.append((out / "README.md").read_text())
    for config in ("lakes-split", "lakes-upstream"):
        lines = [
            [line for line in section(card, config).splitlines() if "on the chosen path" in line] for card in cards
        ]
        assert lines[0] == lines[1] != []
    notes = [record.message for record in caplog.records if "earlier version" in record.message]
    assert notes == [
        "lakes-split (train): a table of an earlier version: reading the columns chosen as on_path, chosen_steps as "
        "on_path_steps",
        "lakes-upstream (train): a table of an earlier version: reading the columns chosen as on_path",
    ]


def test_guide_counts_fully_trained_rows_and_hallucinated_calls(searched: Dataset, tmp_path: Path) -> None:
    tables = {
        "paths": trajectories(searched, layout="merged", history="clean"),
        "all": trajectories(searched, layout="merged", steps="all"),
        "known": shuffle_steps(trajectories(searched, without=["unknown_function"]), seed=3),
    }
    out = publish({"lakes": tables}, tmp_path / "data", version="1.0.0")
    guide = (out / "README.md").read_text().split("## How to train on it")[1].split("\n## ")[0]
    all_trained = {}
    for name, samples in tables.items():
        masks = [[m["train"] for m in row["messages"] if m["role"] == "assistant"] for row in samples]
        all_trained[name] = sum(map(all, masks))
        assert f"- In {all_trained[name]} of {len(samples)} rows of `lakes-{name}` all assistant messages" in guide
        trained = [m for row in samples for m in row["messages"] if m["train"]]
        hallucinated = sum(m["tool_calls"][0]["function"]["name"].startswith("invalid_hallucination") for m in trained)
        assert (hallucinated > 0) == (name != "known")
        reported = re.findall(rf"In `lakes-{name}` (\d+) trained calls? ha(?:s|ve) the name `invalid_hall", guide)
        assert reported == ([str(hallucinated)] if hallucinated else [])
    assert all_trained["all"] < len(tables["all"]), "some steps are trained in other rows"
    assert 'without=["unknown_function"]' in guide
    assert "`shuffle_steps` (seed 3) put the rows of lakes-known into a random order" in guide


@pytest.mark.parametrize("history", ["faithful", "upstream", "clean"])
def test_only_histories_of_the_table_are_explained(history: str, searched: Dataset, tmp_path: Path) -> None:
    out = publish({"l": {"s": trajectories(searched, history=history)}}, tmp_path / "data", version="1.0.0")
    assert re.findall(r"^- `(faithful|upstream|clean)`: ", (out / "README.md").read_text(), re.M) == [history]


def test_stage_table_has_tables_input_rows_and_settings(answers: Dataset, tmp_path: Path) -> None:
    parts = split_queries(answers, test=0.5)
    tables = {
        "steps": trajectories(parts, layout="merged", finish=["give_answer"], without=["repeated_call"]),
        "pairs": preference_pairs(parts, finish=("give_answer", "give_up")),
    }
    out = publish({"lakes": tables}, tmp_path / "data", version="1.0.0")
    drops = list(ledger([part for named in tables.values() for part in named.values()]))
    stage_table = (out / "README.md").read_text().split("## Stages and dropped rows")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.*?) \| (lakes-.*?) \| (\d+) \| (\d+) \| (.*?) \| `(.*)` \|$", stage_table, re.M)
    expected = {}
    for name, stage in (("steps", "trajectories"), ("pairs", "preference pairs")):
        for split, part in parts.items():
            ids = {row["id"] for row in part}
            reasons = Counter(
                row["reason"] for row in drops if row["stage"] == stage and row["id"].rpartition("#")[0] in ids
            ) + Counter(row["reason"] for row in drops if row["stage"] == stage and row["id"] in ids)
            text = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
            expected[stage, f"lakes-{name} ({split})"] = (str(len(part)), str(len(tables[name][split])), text)
    assert {(stage, table): (n_in, n_out, text) for stage, table, n_in, n_out, text, _ in rows} == expected
    settings = {stage: text for stage, *_, text in rows}
    assert settings["trajectories"] == (
        "layout merged, style messages, history faithful, steps chosen, finish give_answer, without repeated_call, "
        "keep_thought yes"
    )
    assert settings["preference pairs"] == "finish give_answer + give_up, keep_thought yes"


def test_card_of_token_tables_names_the_tokenizer(
    searched: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = bytes_chat(tmp_path / "private" / "bytes-chat")
    monkeypatch.chdir(tmp_path)
    samples = trajectories(searched.select(range(2)), history="clean", layout="merged")
    options: dict[str, Any] = {
        "protocol": "text",
        "max_length": 6000,
        "too_long": "shorten",
        "options": {"date": "1 | May"},
    }
    tokens = tokenise(samples, "private/bytes-chat", **options)
    assert len(tokens) > 0
    out = publish({"lakes": {"tokens": tokens}}, tmp_path / "data", version="1.0.0")
    (stage,) = [
        s
        for s in json.loads((out / "provenance.json").read_text())["stages"].values()
        if "chat" in (s["settings"] or {})
    ]
    digest = hashlib.sha256((chat / "chat_template.jinja").read_bytes()).hexdigest()
    assert {name: stage["settings"][name] for name in options} == options
    assert (stage["settings"]["chat"]["model"], stage["settings"]["chat"]["template_sha256"]) == ("bytes-chat", digest)
    card = (out / "README.md").read_text()
    assert (
        f"- tokenizer and chat template: `bytes-chat` (SHA-256 of the template `{digest[:16]}`), protocol `text`, "
        "`max_length` 6000 (`too_long`: shorten), with `date=1 \\| May`\n"
    ) in section(card, "lakes-tokens")
    assert f"| tokenise | lakes-tokens | {len(samples)} | {len(tokens)} |" in card
    assert "`protocol text, max_length 6000, too_long shorten, options date=1 \\| May` |" in card
    assert "- `clean`: without retry prompts" in card, "the history of the samples behind the tokens"
    assert "private" not in card + json.dumps(stage)
    unlimited = tokenise(samples, "private/bytes-chat", protocol="text")
    card = (publish({"lakes": {"tokens": unlimited}}, tmp_path / "data", version="1.0.0") / "README.md").read_text()
    assert "protocol `text`, rows of any length\n" in card


def test_hub_id_is_published_in_full() -> None:
    source = TokenizerSource("org/chat", "c0ffee", {"hub": "org/chat", "commit": "c0ffee"}, "org/chat", "ab" * 32)
    assert redact(source) == {"model": "org/chat", "template_sha256": "ab" * 32, "identity": source.identity}


def test_card_is_valid_for_unusual_rows(tmp_path: Path) -> None:
    """The rows have nulls, no messages, and names that would break a Markdown table or an example."""
    empty: dict[str, Any] = dict.fromkeys(TRAJECTORIES)
    message: dict[str, Any] = {"role": "assistant", "content": None, "name": None, "tool_call_id": None}
    name = "a|b`c`\n" + "x" * 200
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": "{"}}
    rows = [
        empty,
        {**empty, "messages": [], "steps": [], "flags": []},
        {**empty, "messages": [{**message, "train": None, "tool_calls": None}], "steps": [1], "query": " ?"},
        {**empty, "messages": [{**message, "train": True, "tool_calls": [call]}], "steps": [1], "query": "```\n# Hi"},
    ]
    samples = Dataset.from_list(rows, features=TRAJECTORIES)
    turns = [{"from": "assistant", "value": "\nThought: \nAction: no\nAction Input: {}\nAction: yes\nAction Input: {}"}]
    texts = [
        {**dict.fromkeys(TOOLLLAMA), "conversations": conversation} for conversation in (None, [], turns, turns[:1] * 2)
    ]
    upstream = Dataset.from_list(texts, features=TOOLLLAMA)
    out = publish({"odd": {"samples": samples, "upstream": upstream}}, tmp_path / "data", version="1.0.0")
    card = (out / "README.md").read_text()
    assert "| odd-samples | train | 4 | 2 | 0 | 1 |" in card
    assert f"| `a\\|b'c' {'x' * 73} ...` | 1 | 100.0 % |\n" in card
    assert functions_in(section(card, "odd-upstream")) == [("yes", 2, "100.0 %")]
    assert not re.search(r"^# Hi", card, re.M)


def test_files_are_those_of_the_ids_if_no_column_names_them() -> None:
    """An id without a step is the name of a file of its own."""
    ids = ["f#1", "f#1+3", "g", "g#h#2", "i"]
    data = Dataset.from_dict({"id": ids, "input_ids": [[1]] * 5, "labels": [[1]] * 5})
    (facts,) = step_facts({"tokens": {"train": data}}).values()
    assert len(facts.files["train"]) == len({"f", "g", "g#h", "i"})


def test_features_decide_the_kind_of_a_table() -> None:
    assert kind_of(QUESTIONS) == kind_of(STAGE1) == kind_of(STAGE2) == ""
    extended = TRAJECTORIES.copy()
    extended["note"] = TRAJECTORIES["id"]
    assert kind_of(extended) == "trajectories", "an additional column is allowed"
    del extended["flags"]
    assert kind_of(extended) == ""
    assert shorten({"a": ["x" * 400, 1, 2, 3, 4]}, 3) == {"a": ["x" * MAX_CHARS + " ...", 1, "... 2 more ...", 4]}
    assert shorten([1, 2, 3, 4, 5]) == [1, 2, 3, 4, 5]
