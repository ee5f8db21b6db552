"""Which rows are the same: hashes, the table of hashes, groups of questions, and the check of ids."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from toolrlef_data.records import InputError
from toolrlef_data.tables.identity import (
    HashTable,
    check_ids,
    distinct,
    group_questions,
    normal_form,
    text_hash,
    text_id,
)
from toolrlef_data.tables.stage_cache import build_record, write_record


def test_hashes_of_texts_are_those_of_earlier_versions() -> None:
    """They are part of the ids of rows, and they decide the order and the draw of rows."""
    assert text_hash("fig") == 3_333_144_383_258_816_692
    assert text_hash("") == 16_476_032_584_258_269_876
    assert text_id(" Who\n ate  the FIG?") == "37e78357e87e2e98"
    assert text_hash("\ud83d") != text_hash("\ud83c"), "also of a text that cannot be encoded"
    assert text_id("\ud83d") != text_id("\ud83c")


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("  Who's   there?! ", "who s there"),
        ("5 - 3, 5*3; 6/2 and 7%3", "5 - 3 5*3 6/2 and 7%3"),
        ("-(3) - ( 4", "- 3 - 4"),
        ("a-b * c / d % e", "a b c d e"),
        ("50% of $3 + 2 = £4", "50 of $3 + 2 = £4"),
        ("x\u00adyz\u200b\ufeff", "xyz"),
        ("Ⅷ ﬁg ＡＢ²", "viii fig ab2"),
        ("a\u00a0b\tc\u2028d_e", "a b c d e"),
        ("a\x07b\ufffd\ue000c", "a b\ufffd c"),
        ("?!", ""),
    ],
)
def test_the_normal_form_of_a_text(text: str, form: str) -> None:
    assert normal_form(text) == form


@pytest.mark.parametrize("typecode", ["B", "Q"])
def test_a_table_of_hashes_is_a_dict(typecode: str) -> None:
    rng = random.Random(typecode)
    table, expected = HashTable(typecode), dict[int, int]()
    largest = 255 if typecode == "B" else 2**63
    pool = [rng.getrandbits(64) for _ in range(400)]
    pool += [256 * n for n in range(200)] + [2**64 - 256 * n for n in range(1, 50)] + [1, 255]  # of one part
    for _ in range(4000):
        key, number = rng.choice(pool), rng.randint(1, largest)
        if rng.random() < 0.5:
            assert table.setdefault(key, number) == expected.get(key, 0)
            expected.setdefault(key, number)
        else:
            table[key] = expected[key] = number
        probe = rng.choice(pool)
        assert table[probe] == expected.get(probe, 0)
    assert [table[key] for key in pool] == [expected.get(key, 0) for key in pool]
    assert sum(map(len, table._keys)) < 2 * len(expected) + 4 * table.PARTS, "memory grows with the hashes"


def test_the_hash_0_is_a_hash() -> None:
    for table in (HashTable(), HashTable("Q")):
        assert (table[0], table.setdefault(0, 7), table.setdefault(0, 8), table[0]) == (0, 0, 7, 7)
        table[0] = 9
        assert table[0] == 9


def test_distinct_values() -> None:
    values: list[Any] = [1, "1", 1.0, True, 1, "a", ("a",), ["a"], ("a",), None, None]
    assert list(map(repr, distinct(values))) == ["1", "'1'", "1.0", "True", "'a'", "('a',)", "['a']", "None"]
    assert list(distinct([3, -3, 2, 3], key=abs)) == [3, 2]


@pytest.mark.parametrize("seed", range(8))
def test_rows_are_grouped_as_by_a_search_of_all_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = [rng.integers(0, high, 60).astype(np.uint64) for high in ((90, 90), (40, 200), (60,))[seed % 3]]
    first = list(range(60))
    for _ in range(60):
        for row in range(60):
            equal = [other for other in range(60) if any(column[row] == column[other] for column in columns)]
            first[row] = min(first[other] for other in equal)
    assert group_questions(*columns).tolist() == first
    assert group_questions(np.zeros(0, np.uint64)).tolist() == []


def test_only_a_table_without_checked_inputs_is_checked() -> None:
    repeated = Dataset.from_dict({"id": ["a", "b", "a"]})
    with pytest.raises(InputError, match=r"^expected unique ids, found 'a' twice$"):
        check_ids(repeated)
    source, later = Dataset.from_dict({"id": ["c"]}), Dataset.from_dict({"id": ["d", "d"]})
    write_record(later._fingerprint, build_record("stage", [source], None, later))
    check_ids(later)
    write_record(repeated._fingerprint, build_record("source", [], None, repeated))
    with pytest.raises(InputError, match="found 'a' twice"):
        check_ids(repeated)
    with pytest.raises(InputError, match=r"^expected an id in each row, found none in row 2$"):
        check_ids(Dataset.from_dict({"id": ["a", "b", None, None]}))
    check_ids(Dataset.from_dict({"name": ["a", "a"]}))
    check_ids(Dataset.from_dict({"id": [1, 2, 1 << 61]}))
