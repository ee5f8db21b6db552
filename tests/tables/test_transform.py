"""transform and fingerprints: what is computed again and what is not, what is written, and that no row disappears."""

from __future__ import annotations

import functools
import importlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, Features, List, Value

from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import Drop, InputError, LedgerError, MissingColumns
from toolrlef_data.tables.files import SCRATCH
from toolrlef_data.tables.fingerprint import canonical, code_digest
from toolrlef_data.tables.lineage import ledger, lineage
from toolrlef_data.tables.stage_cache import stages_dir
from toolrlef_data.tables.transform import apply, explode, join, keep, stack

STRING = Value("string")


class Calls:
    """Rows that a step has seen; a class, since a global list is part of the key of a function that uses it."""

    seen: ClassVar[list[str]] = []


def shout(row: dict[str, Any], settings: str) -> dict[str, Any]:
    Calls.seen.append(row["id"])
    return {"loud": row["text"].upper() + settings}


def shout_batch(batch: dict[str, list[Any]], settings: str) -> dict[str, list[Any]]:
    return {"loud": [text.upper() + settings for text in batch["text"]]}


def drop_odd(row: dict[str, Any], settings: None) -> Drop | None:
    return Drop("odd", f"id {row['id']}") if int(row["id"]) % 2 else None


def keep_all(row: dict[str, Any], settings: None) -> Drop | None:
    return None


def rows(count: int = 10) -> Dataset:
    return Dataset.from_list([{"id": str(i), "text": f"row {i}"} for i in range(count)])


def loud(data: Any, settings: str = "!", **more: Any) -> Any:
    return apply(data, shout, settings, reads=["id", "text"], adds={"loud": STRING}, **more)


def test_a_stage_of_rows_in_memory_is_computed_once() -> None:
    Calls.seen.clear()
    first, again = loud(rows()), loud(rows())
    assert len(Calls.seen) == 10
    assert first[:] == again[:]
    assert first._fingerprint == again._fingerprint


def test_other_rows_or_settings_are_computed_again() -> None:
    fingerprints = {loud(rows())._fingerprint, loud(rows(), "?")._fingerprint, loud(rows(9))._fingerprint}
    assert len(fingerprints) == 3


def test_the_same_step_over_other_columns_is_another_stage() -> None:
    data = Dataset.from_list([{"id": "1", "a": "x", "b": "y"}])
    seen = [
        apply(data, names_seen, None, reads=reads, adds={"seen": STRING})["seen"][0] for reads in (["a"], ["a", "b"])
    ]
    assert seen == ["a", "a b"]


def names_seen(row: dict[str, Any], settings: None) -> dict[str, Any]:
    return {"seen": " ".join(row)}


def test_batched_steps_and_processes_give_the_same_rows() -> None:
    by_row = loud(rows(2500))
    by_batch = apply(rows(2500), shout_batch, "!", reads=["text"], adds={"loud": STRING}, batched=True)
    spread = loud(rows(2500), "!!", num_proc=2)
    assert by_row["loud"][:] == by_batch["loud"][:]
    assert [text + "!" for text in by_row["loud"][:]] == spread["loud"][:]
    assert loud(rows(2500), "!!", num_proc=1)._fingerprint == spread._fingerprint


def test_every_split_of_a_dataset_dict_is_taken() -> None:
    both = loud(DatasetDict({"train": rows(3), "test": rows(2)}))
    assert {name: split["loud"][:] for name, split in both.items()} == {
        "train": ["ROW 0!", "ROW 1!", "ROW 2!"],
        "test": ["ROW 0!", "ROW 1!"],
    }


def test_a_field_of_a_struct_column_is_replaced_and_the_others_stay() -> None:
    features = Features({"id": STRING, "a.b": {"text": STRING, "tool": STRING, "many": List(STRING)}})
    data = Dataset.from_list([{"id": "1", "a.b": {"text": "x", "tool": None, "many": ["m"]}}], features=features)

    done = apply(data, name_tool, None, reads=["a.b.text"], adds={"a.b.tool": STRING})
    assert done[0]["a.b"] == {"text": "x", "tool": "x tool", "many": ["m"]}
    assert done.features == features


def name_tool(row: dict[str, Any], settings: None) -> dict[str, Any]:
    return {"a.b.tool": row["a.b.text"] + " tool"}


def test_kept_and_dropped_add_up_and_the_ledger_names_every_row() -> None:
    kept = keep(rows(), drop_odd, reads=["id"], stage="parity")
    record = lineage(kept)[-1]
    assert kept["id"][:] == ["0", "2", "4", "6", "8"]
    assert (record["rows_in"], record["rows_out"], record["dropped"]) == (10, 5, {"odd": 5})
    gone = Dataset.from_file(record["dropped_files"][0])
    assert [(r["id"], r["stage"], r["reason"], r["detail"]) for r in gone][:2] == [
        ("1", "parity", "odd", "id 1"),
        ("3", "parity", "odd", "id 3"),
    ]
    assert keep(rows(), drop_odd, reads=["id"], stage="parity")[:] == kept[:]


def test_a_judge_that_keeps_all_writes_no_second_copy_and_is_cached() -> None:
    whole = keep(rows(), keep_all, reads=["id"], stage="all")
    assert whole[:] == rows()[:]
    assert keep(rows(), keep_all, reads=["id"], stage="all")._fingerprint == whole._fingerprint
    side = join([rows(), loud(rows()).select_columns(["loud"])], "side")
    assert (
        keep(side, keep_all, reads=["id"], stage="all")[:]
        == keep(side, keep_all, reads=["id"], stage="all")[:]
        == side[:]
    )


# Many rows of one

WORDS = {"id": STRING, "task": STRING, "word": STRING}


def words(row: dict[str, Any], settings: str) -> Iterator[dict[str, Any] | tuple[str, Drop]]:
    Calls.seen.append(row["id"])
    for n, word in enumerate(row["text"].split()):
        name = f"{row['id']}#{n}"
        yield {"id": name, "task": "own", "word": word + settings} if word != "row" else (name, Drop("a_row", word))


def loud_words(row: dict[str, Any], settings: str) -> list[dict[str, Any]]:
    return [{"id": f"{row['id']}#{n}", "word": word.upper()} for n, word in enumerate(row["text"].split())]


def all_alike(row: dict[str, Any], settings: str) -> list[dict[str, Any]]:
    return [{"id": settings or None, "word": row["text"]}]


def nothing_of_the_fifth(row: dict[str, Any], settings: str) -> list[dict[str, Any]]:
    return [] if row["id"] == "5" else [{"id": row["id"], "word": settings}]


def exploded(data: Any, settings: str = "!", step: Any = words, **more: Any) -> Any:
    return explode(data, step, settings, **{"reads": ["id", "text"], "features": WORDS, "stage": "words", **more})


def test_rows_are_taken_apart_and_what_is_left_of_them_is_in_the_ledger() -> None:
    made = exploded(rows(3).add_column("task", ["a", "b", None]).add_column("dataset", ["c"] * 3))
    assert made.features == Features(WORDS), "only the new columns"
    assert made[:] == {"id": ["0#1", "1#1", "2#1"], "task": ["own"] * 3, "word": ["0!", "1!", "2!"]}
    gone = ledger([made])
    assert [(r["id"], r["task"], r["dataset"]) for r in gone] == [
        ("0#0", "a", None),
        ("1#0", "b", None),
        ("2#0", None, None),
    ]
    assert {(r["stage"], r["reason"], r["detail"]) for r in gone} == {("words", "a_row", "row")}
    *_, record = lineage(made)
    assert (record["step"], record["rows_in"], record["rows_out"], record["dropped"]) == ("words", 6, 3, {"a_row": 3})
    assert lineage(made)[0]["step"] == "rows"


def test_taking_apart_is_done_once_and_again_for_what_changes_it() -> None:
    def calls(**more: Any) -> int:
        Calls.seen.clear()
        exploded(**{"data": rows(), **more})
        return len(Calls.seen)

    assert calls() == 10
    assert calls() == 0
    assert calls(batch_rows=3) == 0, "no part of the result"
    assert calls(settings="?") == calls(stage="other") == calls(reads=["text", "id"]) == 10
    assert calls(features={**WORDS, "more": STRING}) == calls(data=rows(9)) + 1 == 10
    for path in stages_dir().glob("*.arrow"):
        path.unlink()
    assert calls(settings="?") == 10, "what was deleted is made again"


def test_code_of_the_users_counts_when_rows_are_taken_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    found = []
    for body in ("x", "y", "x"):
        source = f"def helper():\n    return '{body}'\ndef step(row, settings):\n    return [{{'id': row['id'], 'word': helper()}}]\n"
        (tmp_path / "taking.py").write_text(source)
        importlib.invalidate_caches()
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        sys.modules.pop("taking", None)
        found.append(exploded(rows(1), step=importlib.import_module("taking").step))
    assert [made["word"][:] for made in found] == [["x"], ["y"], ["x"]]
    assert found[0]._fingerprint == found[2]._fingerprint != found[1]._fingerprint


def test_taking_apart_gives_the_same_with_any_batches_and_processes() -> None:
    whole = exploded(rows(50))
    ways: list[dict[str, Any]] = [{"batch_rows": 1}, {"batch_rows": 7, "num_proc": 2}, {"num_proc": 2}]
    for n, more in enumerate(ways):
        other = exploded(rows(50), stage=f"words {n}", **more)
        assert other[:] == whole[:]
        assert [r["id"] for r in ledger([other])] == [r["id"] for r in ledger([whole])]
    mixed = rows(50).select([7, 3, 3, 9]).select([0, 1, 3])
    assert exploded(mixed)["id"][:] == ["7#1", "3#1", "9#1"], "rows that were selected, in their order"


def test_tables_of_which_little_is_left_keep_their_columns() -> None:
    nothing, all_left = exploded(rows().select([])), exploded(Dataset.from_dict({"id": ["1"], "text": ["row row"]}))
    for made in (nothing, all_left):
        assert (len(made), made.features) == (0, Features(WORDS))
    assert len(ledger([nothing])) == 0
    assert ledger([all_left])["id"][:] == ["1#0", "1#1"]
    none_left = exploded(rows(2), step=loud_words)
    assert none_left[:] == {"id": ["0#0", "0#1", "1#0", "1#1"], "task": [None] * 4, "word": ["ROW", "0", "ROW", "1"]}
    assert "dropped_files" not in lineage(none_left)[-1]
    both = exploded(DatasetDict({"train": rows(3), "test": rows(2).select([])}))
    assert {split: len(part) for split, part in both.items()} == {"train": 3, "test": 0}


@pytest.mark.parametrize("processes", [None, 2])
def test_a_row_may_not_vanish(processes: int | None) -> None:
    with pytest.raises(LedgerError, match="neither new rows nor a reason: '5'"):
        exploded(rows(), step=nothing_of_the_fifth, num_proc=processes)
    with pytest.raises(LedgerError):
        exploded(rows(), step=nothing_of_the_fifth)


@pytest.mark.parametrize(("name", "message"), [("same", "'same' stands twice"), ("", "row 0 has none")])
def test_new_rows_have_ids_of_their_own(name: str, message: str) -> None:
    for _ in range(2):  # what was refused is not believed the next time
        with pytest.raises(InputError, match=message):
            exploded(rows(2), name, step=all_alike)


def without_ids(row: dict[str, Any], settings: str) -> list[dict[str, Any]]:
    return [{"word": row["text"]}]


def test_new_rows_have_the_columns_of_their_table() -> None:
    made = exploded(rows(2), step=without_ids, features={"word": STRING})
    assert made[:] == {"word": ["row 0", "row 1"]}, "tables without ids are fine"
    with pytest.raises(InputError, match="has not: word"):
        exploded(rows(2), step=without_ids, features={"words": STRING})


def test_what_cannot_be_taken_apart() -> None:
    with pytest.raises(MissingColumns, match="words needs the columns text; found: id"):
        exploded(rows().remove_columns("text"))
    with pytest.raises(InputError, match="expected a"):
        exploded([{"id": "1", "text": "a"}])


def test_taking_apart_leaves_one_file_for_the_rows_and_one_for_the_ledger() -> None:
    exploded(rows().select([]))
    exploded(rows())
    before = set(stages_dir().iterdir())
    made = exploded(rows(), "?")
    names = {path.name for path in set(stages_dir().iterdir()) - before}
    own = made._fingerprint
    assert {f"{own}.arrow", f"{own}.json"} < names
    assert len(names) == 3


def copies(row: dict[str, Any], settings: str) -> Iterator[dict[str, Any] | tuple[str, Drop]]:
    yield row["id"], Drop("one")
    for n in range(8):
        yield {"id": f"{row['id']}#{n}", "word": row["text"]}


def test_memory_does_not_grow_with_the_rows() -> None:
    """Some rows are taken at once, however many there are and however much each of them gives."""
    usual, peaks = pa.default_memory_pool(), []
    for count in (20, 120):
        data = keep(
            Dataset.from_list([{"id": str(n), "text": "x" * 20_000} for n in range(count)]),
            keep_all,
            reads=["id"],
            stage="in a file, as tables are",
        )
        pool = pa.proxy_memory_pool(usual)
        pa.set_memory_pool(pool)
        try:
            made = exploded(data, step=copies, batch_rows=4)
        finally:
            pa.set_memory_pool(usual)
        assert len(made) == 8 * count
        peaks.append(pool.max_memory())
    assert 20_000 * 8 * 4 < peaks[1] < 1.5 * peaks[0], "all of it would be 19 MB"


def test_an_empty_table_gets_the_new_columns() -> None:
    done = loud(rows().select([]))
    assert len(done) == 0
    assert done.column_names == ["id", "text", "loud"]


def test_the_trail_leads_back_to_the_rows_and_ends_after_a_shuffle() -> None:
    done = keep(loud(rows()), drop_odd, reads=["id"], stage="parity")
    assert [record["step"] for record in lineage(done)] == ["rows", "shout", "parity"]
    assert lineage(done.shuffle(seed=1)) == []


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (
            Dataset.from_dict({"id": ["1"], "txt": ["a"]}),
            MissingColumns,
            "shout needs the columns text; found: id, txt",
        ),
        (Dataset.from_dict({"id": ["1", "2", "1"], "text": ["a"] * 3}), InputError, "'1' stands twice"),
        (Dataset.from_dict({"id": ["1", None], "text": ["a"] * 2}), InputError, "row 1 has none"),
    ],
)
def test_unusable_tables_get_a_clear_error(data: Dataset, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        loud(data)


def test_the_same_rows_from_two_sources_are_not_stacked() -> None:
    with pytest.raises(InputError, match="stands twice"):
        stack([rows(2), loud(rows(2)).remove_columns("loud")], "both")


# Keys


def test_what_cannot_change_an_output_is_not_in_the_key() -> None:
    plain = EngineSpec("local", "m")
    assert canonical(plain) == canonical(
        EngineSpec("local", "m", device="cuda", concurrency=1, timeout=3.0, batch_tokens=8)
    )
    assert canonical(plain) != canonical(EngineSpec("local", "m", max_tokens=3))


@dataclass(frozen=True)
class Holder:
    function: Any


def test_a_function_of_the_user_counts_by_its_source_and_what_it_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))

    def version(body: str) -> Any:
        (tmp_path / "users.py").write_text(textwrap.dedent(body))
        importlib.invalidate_caches()
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        sys.modules.pop("users", None)
        import linecache

        linecache.clearcache()
        return canonical(Holder(importlib.import_module("users").f))

    first = version("LIMIT = 3\ndef g(x): return x\ndef f(x): return g(x) + LIMIT\n")
    same = version(
        'LIMIT = 3\ndef g(x): return x\n\n# moved\ndef f(x):\n    "Says it."\n    return g(x) + LIMIT\nx = 1\n'
    )
    constant = version("LIMIT = 4\ndef g(x): return x\ndef f(x): return g(x) + LIMIT\n")
    helper = version("LIMIT = 3\ndef g(x): return -x\ndef f(x): return g(x) + LIMIT\n")
    assert first == same
    assert len({json.dumps(v) for v in (first, constant, helper)}) == 3


def test_a_setting_without_a_value_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot be part of a setting"):
        canonical(Holder(threading.Lock()))


def test_partials_count_by_their_arguments() -> None:
    assert canonical(functools.partial(shout, settings="a")) != canonical(functools.partial(shout, settings="b"))


def test_the_digest_follows_imports_and_skips_unused_modules(tmp_path: Path) -> None:
    """One task's file counts for the rows of that task, and not for a step that names no task."""
    root = Path(__file__).parents[2]
    package = tmp_path / "toolrlef_data"
    shutil.copytree(root / "toolrlef_data", package, ignore=shutil.ignore_patterns("__pycache__"))
    script = tmp_path / "digests.py"
    script.write_text(
        "from toolrlef_data import TASKS\nfrom toolrlef_data.tables.fingerprint import code_digest\n"
        "from toolrlef_data.trice.scoring import trice\nprint(code_digest(TASKS['math']), code_digest(trice))\n"
    )

    def digests() -> list[str]:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run(
            [sys.executable, script], env=environment, capture_output=True, text=True, check=True
        ).stdout.split()

    math, scoring = digests()
    prompts = package / "engines" / "prompts.py"
    prompts.write_text(prompts.read_text() + "\nOTHER = 1\n")
    source = (package / "tasks" / "math.py").read_text()
    (package / "tasks" / "math.py").write_text(source.replace('"""', '"""Another first line. ', 1))
    assert digests() == [math, scoring], "no task imports prompts, and a docstring changes no row"
    (package / "tasks" / "math.py").write_text(source + "\nOTHER = 1\n")
    after = digests()
    assert after[0] != math, "an edit of the task is seen"
    assert after[1] == scoring, "and only where the task is named"
    assert code_digest(keep_all) == code_digest(drop_odd), "functions outside the package have no module digest"


@pytest.mark.parametrize("name", ["tmp", SCRATCH])
def test_left_over_temporary_files_are_swept_after_a_day(name: str) -> None:
    old, new = stages_dir() / f"{name}old", stages_dir() / f"{name}new"
    old.touch()
    new.touch()
    os.utime(old, (time.time() - 90000,) * 2)
    loud(rows())
    assert not old.exists()
    assert new.exists()


def drop_all(row: dict[str, Any], settings: None) -> Drop | None:
    return Drop("none")


def test_tables_without_rows_are_joined_with_all_their_columns() -> None:
    left = keep(rows(), drop_all, None, reads=["id"], stage="empty")
    both = join([left, loud(left, removes=["id", "text"])], "both")
    assert both.column_names == ["id", "text", "loud"]
    assert [record["step"] for record in lineage(both)] == ["rows", "empty", "shout", "both"]
    assert len(ledger([both])) == 10
