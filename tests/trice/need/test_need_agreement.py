"""`agreement` of two models, and what the card says of them: recomputed from the rows."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from datasets import Dataset, concatenate_datasets

from toolrlef_data import InputError, agreement, publish
from toolrlef_data.columns import NEED
from toolrlef_data.trice.need.classes import CLASSES


def measured(model: str, classes: dict[str, str]) -> Dataset:
    rows = [
        {**dict.fromkeys(NEED), "id": row_id, "task": "math", "dataset": "mine", "need": need, "model": model, "n_plain": 4, "n_tool": 4, "p_plain": 0.25}
        for row_id, need in classes.items()
    ]  # fmt: skip
    return Dataset.from_list(rows, features=NEED)


def drawn(seed: int) -> dict[str, str]:
    return {str(n): Random(f"{seed}:{n}").choice(CLASSES) for n in range(60)}


def test_figures_are_those_of_the_rows(tmp_path: Path) -> None:
    a, b = drawn(1), drawn(2)
    tables = [measured("small", a), measured("large", b).shuffle(seed=0)]
    result = agreement(*tables)
    clear = [row_id for row_id in a if "unsure" not in (a[row_id], b[row_id])]
    same = sum(a[row_id] == b[row_id] for row_id in clear)
    assert (result.models, result.equal.n, result.equal.value) == (("small", "large"), len(clear), same / len(clear))
    assert sum(result.counts.values()) == 60
    assert list(result.counts.values()) == sorted(result.counts.values(), reverse=True)
    expected = (
        sum(
            [a[row_id] for row_id in clear].count(name) * [b[row_id] for row_id in clear].count(name)
            for name in CLASSES
        )
        / len(clear) ** 2
    )
    assert result.kappa == pytest.approx((same / len(clear) - expected) / (1 - expected))
    gap = result.differences()["harmed"]
    assert gap.value == pytest.approx((list(b.values()).count("harmed") - list(a.values()).count("harmed")) / 60)
    assert sorted([gap.low, gap.value, gap.high]) == [gap.low, gap.value, gap.high]  # type: ignore[type-var]

    folder = publish({"math": {"need": concatenate_datasets(tables)}}, tmp_path / "out", version="1.0.0")
    card = (folder / "README.md").read_text()
    for model, classes in (("small", a), ("large", b)):
        counts = " | ".join(str(list(classes.values()).count(name)) for name in CLASSES)
        assert f"| math-need | {model} | 60 | {counts} | 25.0 % | 0.0 % |" in card
    alone = [sum((x == "needs_tool") > (y == "needs_tool") for x, y in pairs) for pairs in (
        [(a[i], b[i]) for i in a], [(b[i], a[i]) for i in a],
    )]  # fmt: skip
    same = sum(a[i] == b[i] for i in a)
    assert f"Of 60 questions, {same} have the same class for small and large; {alone[0]} need the tool" in card
    assert f"for the first model alone, {alone[1]} for the second alone." in card


def test_equal_models() -> None:
    table = measured("m", drawn(3))
    assert agreement(table, table).kappa == pytest.approx(1)
    assert "Cohen's kappa 1.00" in str(agreement(table, table))
    alike = measured("m", dict.fromkeys(map(str, range(3)), "harmed"))
    assert (agreement(alike, alike).kappa, agreement(alike, alike).equal.value) == (None, 1.0), "chance explains it"
    unsure = measured("m", dict.fromkeys(map(str, range(3)), "unsure"))
    assert (agreement(unsure, unsure).kappa, agreement(unsure, unsure).equal.value) == (None, None)


def test_other_questions_are_refused() -> None:
    first, second = measured("m", {"a": "harmed", "b": "harmed"}), measured("m", {"a": "harmed", "c": "harmed"})
    with pytest.raises(InputError, match="2 questions are in one table alone"):
        agreement(first, second)
    with pytest.raises(InputError, match="twice"):
        agreement(first, concatenate_datasets([first, first]))
    with pytest.raises(InputError, match="p_plain"):
        agreement(first, second.remove_columns("p_plain"))
