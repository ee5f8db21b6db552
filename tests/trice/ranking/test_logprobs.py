"""`logprobs` gives the values of a plain loop, computes each value once, and reports what it cannot compute."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict

from tests.support.models import tiny_adapter, tiny_llama
from toolrlef_data import EngineSpec, InputError, lineage, logprobs, rank_agreement, render_prompt
from toolrlef_data.columns import STAGE2
from toolrlef_data.engines.local.engine import load_model, unload
from toolrlef_data.engines.local.scoring.scorer import Scorer
from toolrlef_data.records import TooManyFailures

INSTRUCTION = "Write a call."


def stage2(*rows: tuple[str, list[str | None]], **changes: Any) -> Dataset:
    """Return a stage 2 table with these inputs and responses."""
    return Dataset.from_list(
        [
            {
                **dict.fromkeys(STAGE2),
                "id": str(n),
                "task": "math",
                "dataset": "sums",
                "instruction": INSTRUCTION,
                "input": question,
                "responses": responses,
                "scores": [float(len(responses) - i) for i in range(len(responses))],
                **changes,
            }
            for n, (question, responses) in enumerate(rows)
        ],
        features=STAGE2,
    )


TABLE = stage2(
    ("How many in 3 boxes of 12?", ["calculator(3*12)", " calculator(3*12)\n", "The answer is 36.", "no"]),
    (
        "How many?",
        ["calculator(1)", "", "The answer is 48, she says, and the answer is 36. calculator(3*12) gives 36."],
    ),
    ("Two boxes of 12 apples, and then 3 boxes?", ["The answer is 48.", "calculator(2*12+3*12)"]),
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    unload()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"), context=512)


@pytest.fixture(scope="module")
def spec(folder: Path) -> EngineSpec:
    return EngineSpec("local", str(folder), device="cpu", progress=False)


def naive(spec: EngineSpec, data: Dataset, style: str, end: bool) -> list[list[tuple[float, int]]]:
    """Return (sum, number of tokens) of each response, from the logits of one sequence at a time."""
    loaded = load_model(spec.model, adapter=spec.adapter, device="cpu")
    tokenizer = loaded.tokenizer
    results = []
    for row in data:
        prompt = render_prompt(style, row["instruction"], row["input"])
        if isinstance(prompt, str):
            prompt_ids = tokenizer(prompt).input_ids
            blank = "" if prompt.endswith("\n") else " "
        else:
            turns = [{"role": message.role, "content": message.content} for message in prompt]
            text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            prompt_ids, blank = tokenizer(text, add_special_tokens=False).input_ids, ""
        sums = []
        for response in row["responses"]:
            text = response.strip() and blank + response.strip()
            ids = tokenizer(text, add_special_tokens=False).input_ids + [tokenizer.eos_token_id] * end
            with torch.no_grad():
                logits = loaded.model(torch.tensor([prompt_ids + ids])).logits[0].log_softmax(-1)
            values = [float(logits[len(prompt_ids) + n - 1, token]) for n, token in enumerate(ids)]
            sums.append((sum(values), len(values)))
        results.append(sums)
    return results


@pytest.mark.parametrize(("style", "end"), [("alpaca", True), ("completion", False), ("chat", True)])
def test_values_are_those_of_a_loop(spec: EngineSpec, style: str, end: bool) -> None:
    rows = logprobs(TABLE, spec, style=style, end=end).to_list()
    for row, expected in zip(rows, naive(spec, TABLE, style, end), strict=True):
        assert row["logprob_tokens"] == [count for _, count in expected]
        for value, (total, count) in zip(row["logprobs"], expected, strict=True):
            assert value == pytest.approx(total, abs=1e-4 * max(1, count))
    assert rows[0]["logprobs"][0] == rows[0]["logprobs"][1], "whitespace at the ends is no part of a response"
    assert rows[1]["logprob_tokens"][1] == end, "an empty response has an end token at most"


def test_an_adapter_and_the_end_token_change_the_values(spec: EngineSpec, folder: Path, tmp_path: Path) -> None:
    adapted = replace(spec, adapter=str(tiny_adapter(tmp_path / "adapter", folder)))
    plain, changed, without_end = logprobs(TABLE, spec), logprobs(TABLE, adapted), logprobs(TABLE, spec, end=False)
    expected = naive(adapted, TABLE, "alpaca", True)
    assert changed[0]["logprobs"] == pytest.approx([total for total, _ in expected[0]], abs=1e-3)
    for first, second in ((plain, changed), (plain, without_end)):
        assert all(abs(a - b) > 0.1 for a, b in zip(first[0]["logprobs"], second[0]["logprobs"], strict=True))
    names = {table[0]["logprob_model"] for table in (plain, changed)}
    assert len(names) == 2
    assert not any("/" in name for name in names), "no path of this machine"


def count_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that receives the number of responses of each call of the scorer."""
    calls: list[int] = []
    score = Scorer.score

    def counted(self: Scorer, rows: Any, borrow: Any) -> Any:
        calls.append(sum(len(row.responses) for row in rows))
        return score(self, rows, borrow)

    monkeypatch.setattr(Scorer, "score", counted)
    return calls


def test_each_value_is_computed_once(spec: EngineSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_rows(monkeypatch)
    first = logprobs(TABLE, spec, batch_tokens=10_000)
    assert sum(calls) == 8, "equal responses of a row are computed once"
    # Sampling settings do not change a value, and neither do the batch size, the order, and other columns.
    sampled = replace(spec, temperature=0.7, max_tokens=7, stop=("\n",), batch_tokens=64)
    other = TABLE.select([2, 0, 1]).map(lambda row: {"id": f"other {row['id']}", "answer": ["x"]})
    second = logprobs(other, sampled, batch_tokens=100)
    assert sum(calls) == 8
    assert [second[n]["logprobs"] for n in (1, 2, 0)] == first["logprobs"][:]
    added = TABLE.map(lambda row: {"responses": [*row["responses"], "calculator(2)"]})
    assert [row["logprobs"][:-1] for row in logprobs(added, spec)] == first["logprobs"][:]
    assert sum(calls) == 8 + 3


def test_another_batch_size_gives_the_same_bytes(spec: EngineSpec) -> None:
    tables = [logprobs(TABLE, spec, batch_tokens=batch_tokens) for batch_tokens in (16, 10_000)]
    assert tables[0]._fingerprint == tables[1]._fingerprint
    assert tables[0].data.table.equals(tables[1].data.table)


def test_values_that_do_not_exist_are_null_with_an_error(spec: EngineSpec, caplog: pytest.LogCaptureFixture) -> None:
    data = stage2(("How many?", ["calculator(1)", None, "9" * 600]), ("How few?", ["calculator(2)"]))
    with_null = data.map(lambda row: {"instruction": None if row["id"] == "1" else INSTRUCTION}, features=STAGE2)
    rows = logprobs(with_null, replace(spec, max_failed=0.5)).to_list()
    assert [row["logprob_errors"] for row in rows] == [[None, "no_response", "too_long"], ["no_prompt"]]
    assert [[value is None for value in row["logprobs"]] for row in rows] == [[False, True, True], [True]]
    assert [[value is None for value in row["logprob_tokens"]] for row in rows] == [[False, True, True], [True]]
    assert "1 rows have no instruction or input" in caplog.text
    caplog.clear()
    logprobs(with_null.select([0]), replace(spec, max_failed=0.5))
    assert "no instruction" not in caplog.text, "the row without a prompt is not selected"
    with pytest.raises(InputError, match="null in all rows"):
        logprobs(with_null.select([1]), spec)
    with pytest.raises(TooManyFailures, match="exceed the context of 512 tokens"):
        logprobs(data, replace(spec, max_failed=0.0))
    assert rank_agreement(Dataset.from_list(rows))["ranking_pairs"][:] == [0, 0]


REFUSED: list[tuple[Any, Any, dict[str, Any], str]] = [
    (TABLE, EngineSpec("openai_api", "m"), {}, "need a model on this machine"),
    (TABLE, "m", {}, "expected an EngineSpec, found str"),
    (TABLE, None, {"batch_tokens": 0}, "batch_tokens"),
    (TABLE, None, {"devices": "cpu"}, "expected a list of devices"),
    (TABLE, None, {"devices": ["cpu", "cuda:0"]}, "devices of one kind"),
    (TABLE, None, {"devices": ["gpu"]}, "unknown device 'gpu'"),
    (TABLE, None, {"style": "poem"}, "unknown prompt style 'poem'"),
    (TABLE, None, {"examples": -1}, "examples"),
    (TABLE.remove_columns("instruction"), None, {}, "needs the columns instruction"),
    (stage2(("", []), instruction=None), None, {}, "null in all rows"),
]


@pytest.mark.parametrize(("data", "model", "settings", "message"), REFUSED, ids=[case[-1] for case in REFUSED])
def test_bad_settings_and_tables_are_refused(
    spec: EngineSpec, data: Dataset, model: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        logprobs(data, model or spec, **settings)


def test_splits_and_lineage(spec: EngineSpec, folder: Path) -> None:
    result = logprobs(DatasetDict(train=TABLE, test=TABLE.select([0])), spec)
    assert result["test"][0]["logprobs"] == result["train"][0]["logprobs"]
    (record,) = [record for record in lineage(result["train"]) if record["step"] == "logprobs"]
    assert record["usage"]["requests"] == 8
    assert str(folder) not in str(record["published"])


def test_the_progress_bar_names_the_model_and_the_layout(
    spec: EngineSpec, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tests disable the bars of `datasets`; this is their base class.
    monkeypatch.setattr("toolrlef_data.engines.model_stage.tqdm", importlib.import_module("tqdm").tqdm)
    logprobs(TABLE, replace(spec, progress=True))
    shown = capsys.readouterr().err
    assert f"Score with {Path(spec.model).name}: 100%" in shown
    assert "layout=packed" in shown
