"""The parts of a run in shards: limits, the folder, records of stages, and messages about shards that cannot be merged."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Value

from tests.support.shards import small_recipe, with_engines
from toolrlef_data import EngineSpec, InputError, Limits, ToolrlefError, load_source
from toolrlef_data.columns import DROPPED
from toolrlef_data.publishing.parquet_files import READY_FILES, write_file
from toolrlef_data.recipes.cluster.shard_runs import run_on_ray
from toolrlef_data.recipes.schema import Recipe, WarmUp
from toolrlef_data.recipes.shards import chains, merging
from toolrlef_data.recipes.shards.chains import Chain, Kept, dropping_stages, merge_stages, stages_of
from toolrlef_data.recipes.shards.folders import ShardFolder
from toolrlef_data.recipes.shards.limits import check_shardable, divided, divided_limits
from toolrlef_data.recipes.shards.numbers import Shard
from toolrlef_data.recipes.shards.running import is_final, run_shard
from toolrlef_data.records import LedgerError, TooManyFailures
from toolrlef_data.tables.files import explain_disk_errors, file_digest, read_json, write_json
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.stage_cache import open_recorded, read_record

SERVER: dict[str, Any] = {"base_url": "http://localhost:9/v1"}


def limited(folder: Path, **limits: Any) -> Recipe:
    model = EngineSpec("openai_api", "x", **SERVER, limits=Limits(**limits))
    return with_engines(small_recipe(folder), model=model, warm=EngineSpec("openai_api", "y", **SERVER, max_failed=0.5))


def test_caps_and_rates_are_divided(tmp_path: Path) -> None:
    recipe = limited(
        tmp_path, rpm=60, tpm=8000, max_requests=10, max_tokens_total=9, max_cost=2.0, price=(1.0, 2.0), backoff=3.0
    )
    limits = {"rpm": 15, "tpm": 2000, "max_requests": 2, "max_tokens_total": 2, "max_cost": 0.5}
    for rows, shares in ((1000, (0.2, 0.5)), (20, (1.0, 1.0)), (80, (0.25, 0.5)), (0, (1.0, 1.0))):
        engines = divided(recipe, 4, rows).engines
        model = recipe.engines["model"]
        part = dataclasses.replace(model.limits, **limits)  # type: ignore[arg-type]
        assert engines["model"] == dataclasses.replace(model, limits=part, max_failed=shares[0])
        assert engines["warm"] == dataclasses.replace(recipe.engines["warm"], max_failed=shares[1])
    assert divided_limits(recipe, 4) == [
        "engines.model: each of 4 shards gets rpm=15, tpm=2000, max_cost=0.5, max_requests=2, max_tokens_total=2"
    ]
    assert divided(limited(tmp_path, max_requests=0), 4, 1).engines["model"].limits.max_requests == 0


@pytest.mark.parametrize("limit", ["max_requests", "max_tokens_total"])
def test_a_cap_that_leaves_a_shard_nothing_is_refused(limit: str, tmp_path: Path) -> None:
    assert divided_limits(limited(tmp_path, **{limit: 4}), 4)
    with pytest.raises(InputError) as caught:
        divided(limited(tmp_path, **{limit: 3}), 4, 1)
    message = f"engines.model.limits.{limit}=3 is less than the number of shards, 4: raise it, or use fewer shards"
    assert str(caught.value) == message


def test_a_recipe_that_needs_all_rows_is_refused(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path / "out")
    check_shardable(recipe)
    recipe = recipe.model_copy(update={"warm_up": WarmUp(name="w", engine="model")})
    for refused in (
        lambda: run_shard(recipe, tmp_path / "shards", 0, 2),
        lambda: merging.merge_shards(recipe, tmp_path / "shards"),
    ):
        with pytest.raises(InputError, match="warm_up trains on stage 1 of all rows"):
            refused()
    assert not (tmp_path / "shards").exists()


@pytest.mark.parametrize("folder", ["s3://bucket/run", Path("s3://bucket/run"), "hf://datasets/me/run", "file:///run"])
def test_a_folder_that_is_a_url_is_refused(folder: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = small_recipe(tmp_path / "out")
    for refused in (lambda: run_shard(recipe, folder, 0, 2), lambda: merging.merge_shards(recipe, folder)):
        with pytest.raises(InputError, match=r"is object storage or another URL. The shards need a file system"):
            refused()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name",
    ["", "stages", "stages/00000-of-00002", "stages/x/y", "kept/x", "dropped", "done", "locks", "parts", "tables/x"],
)
def test_a_data_set_is_not_published_where_a_run_removes_files(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A further run of a shard would remove it with the stages of the shard."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "shards", target_is_directory=True)
    used = tmp_path / "shards" / name.partition("/")[0]
    message = rf"since a run writes and removes files of its own in {used}: choose another folder, such as .*published$"
    for out in (
        tmp_path / "shards" / name,
        Path("shards") / name,
        Path("shards/x/..") / name,
        tmp_path / "link" / name,
    ):
        for refused in (
            partial(merging.merge_shards, small_recipe(out), tmp_path / "shards"),
            partial(merging.merge_shards, small_recipe(tmp_path / "out"), "shards", out=out),
            partial(run_on_ray, small_recipe(tmp_path / "out"), "shards", 2, out=out),
        ):
            with pytest.raises(InputError, match=message):
                refused()
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


@pytest.mark.parametrize("layout", ["hub", "trice"])
def test_a_shard_refuses_a_recipe_with_a_secret(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", "secret-of-a-shard-9876543210")
    headers = {"X-Note": "MY_SECRET secret-of-a-shard-9876543210"}
    recipe = with_engines(
        small_recipe(tmp_path / "out", layout=layout), model=EngineSpec("openai_api", "x", **SERVER, headers=headers)
    )
    with pytest.raises(InputError, match=r"the recipe holds a secret at engines\.model"):
        run_shard(recipe, tmp_path / "shards", 0, 2)
    assert not (tmp_path / "shards").exists()


@pytest.mark.parametrize(
    ("index", "count", "message"),
    [
        (2, 2, "index: expected a number from 0 to 1, found 2"), (-1, 2, "index must be an integer of at least 0"),
        (0, 0, "count must be an integer of at least 1"), ("0", 2, "index must be an integer"), (True, 2, "index must be"),
    ],
)  # fmt: skip
def test_a_number_out_of_range_is_refused(index: Any, count: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        run_shard(small_recipe(tmp_path / "out"), tmp_path / "shards", index, count)
    assert message in str(caught.value)
    assert not (tmp_path / "shards").exists()


# The folder -----------------------------------------------------------------------------------------------------------


def test_names_of_the_files_of_a_shard() -> None:
    place, shard = ShardFolder(Path("run")), Shard(3, 64)
    paths = (
        place.kept("qa-stage1", shard),
        place.dropped(shard),
        place.record(shard),
        place.replies(shard),
        place.stages(shard),
    )
    assert [path.as_posix() for path in paths] == [
        "run/kept/qa-stage1-00003-of-00064.parquet", "run/dropped/00003-of-00064.parquet", "run/done/00003-of-00064.json",
        "run/replies-00003-of-00064.sqlite", "run/stages/00003-of-00064",
    ]  # fmt: skip


def test_a_folder_has_the_number_of_shards_of_its_first_run(tmp_path: Path) -> None:
    place = ShardFolder(tmp_path / "a" / "run")
    assert place.count() is None
    for _ in range(2):
        place.bind(3)
        assert (place.count(), read_json(place.path / "shards.json")) == (3, {"shards": 3})
    with pytest.raises(InputError) as caught:
        place.bind(4)
    assert str(caught.value) == (
        f"{place.path} is the folder of 3 shards, and this is one of 4: pass --shard I/3 (on Ray --shards 3), or another folder. A Slurm array "
        "with a part of the shards needs --shard $SLURM_ARRAY_TASK_ID/3"
    )
    assert place.count() == 3


def test_a_shard_is_run_by_one_process(tmp_path: Path) -> None:
    place = ShardFolder(tmp_path)
    with place.locked(Shard(1, 3)), place.locked(Shard(2, 3)):
        with pytest.raises(InputError) as caught, place.locked(Shard(1, 3)):
            pass
        assert str(caught.value) == f"the shard 1/3 in {tmp_path} is run by another process: wait for it, or end it"
    with place.locked(Shard(1, 3)):
        pass


def error_of_another_user(work: Callable[[], object]) -> str:
    """Return the ToolrlefError of work in a process without the rights of root."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            work()
        except ToolrlefError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        return pipe.read()


def test_a_file_of_a_shard_that_another_user_cannot_read_is_named() -> None:
    """Users with umask 077 share a folder; "cannot write to" the folder would send them to the wrong place."""
    shard = Shard(0, 2)
    with tempfile.TemporaryDirectory(prefix="toolrlef-tests-shared-") as folder:  # pytest's folders are private
        place = ShardFolder(Path(folder))
        with place.locked(shard):
            place.bind(2)
        write_json(place.record(shard), record_of(place, shard, "c"))
        locks = place.path / "locks"
        for path in (place.path, locks, place.record(shard).parent):
            path.chmod(0o777)
        files = [place.path / "shards.json", place.record(shard), locks / f"{shard.name}.lock", place.dropped(shard)]
        for path in files:
            path.chmod(0)

        def lock() -> None:
            with place.locked(shard):
                pass

        def read() -> None:
            with explain_disk_errors(place.path):
                place.read_record(shard, "c")

        for path, work in zip(files, (place.count, read, lock), strict=False):
            assert error_of_another_user(work) == f"cannot read or write {path} (Permission denied)"
        place.record(shard).chmod(0o644)
        assert error_of_another_user(read) == f"cannot read or write {place.dropped(shard)} (Permission denied)"


def record_of(place: ShardFolder, shard: Shard, chain: str) -> dict[str, Any]:
    """Return the record of a shard with one table, whose files are written."""
    files = {}
    for path in (place.kept("a", shard), place.dropped(shard)):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"rows of " + path.name.encode())
        files[path.relative_to(place.path).as_posix()] = file_digest(path, 64)
    counts: dict[str, Any] = {"rows_in": {}, "rows_out": {"a": 1}, "dropped": {}, "usage": {}, "stages": []}
    return {"chain": chain, "files": files, **counts}


def test_the_record_of_a_shard_counts_only_with_the_files_it_names(tmp_path: Path) -> None:
    place, shard = ShardFolder(tmp_path), Shard(1, 3)
    assert place.read_record(shard, "c") == (None, "missing")
    record = record_of(place, shard, "c")
    write_json(place.record(shard), record)
    assert place.read_record(shard, "c") == (record, "")
    assert place.read_record(shard, "d") == (None, "of another recipe, source or version")
    for name in record["files"]:
        path = tmp_path / name
        kept = path.read_bytes()
        path.write_bytes(kept[:-1] + b"x")
        assert place.read_record(shard, "c") == (None, f"with a damaged {name}")
        path.unlink()
        assert place.read_record(shard, "c") == (None, f"without {name}")
        path.write_bytes(kept)
    place.record(shard).write_bytes(b"{")
    assert place.read_record(shard, "c") == (None, "damaged")


def test_a_record_of_another_shard_or_form_does_not_count(tmp_path: Path) -> None:
    """Such as one that was copied to a wrong name, or that another version wrote."""
    place, shard = ShardFolder(tmp_path), Shard(1, 3)
    record = record_of(place, shard, "c")
    for missing in record:
        write_json(place.record(shard), {name: value for name, value in record.items() if name != missing})
        assert place.read_record(shard, "c") == (None, "damaged"), missing
    write_json(place.record(shard), [record])
    assert place.read_record(shard, "c") == (None, "damaged")
    other = record_of(place, Shard(0, 3), "c")
    for changed in (
        other,
        {**record, "files": other["files"]},
        {**record, "rows_out": {"b": 1}},
        {**record, "files": {}},
    ):
        write_json(place.record(shard), changed)
        assert place.read_record(shard, "c") == (None, "with the record of another shard")


@pytest.mark.parametrize("value", [{}, {"shards": "2"}, {"shards": 0}, [2], 2, None])
def test_a_number_of_shards_of_another_form_is_written_again(value: Any, tmp_path: Path) -> None:
    write_json(tmp_path / "shards.json", value)
    assert ShardFolder(tmp_path).count() is None
    ShardFolder(tmp_path).bind(3)
    assert ShardFolder(tmp_path).count() == 3


# The stages of shards -------------------------------------------------------------------------------------------------

TEXT = Features({"id": Value("string")})


def stage(
    step: str, inputs: list[str], rows: int, dropped: dict[str, int] | None = None, **more: Any
) -> dict[str, Any]:
    """Return the record of a stage that retains `rows` rows."""
    dropped = dropped or {}
    counts = {"rows_in": rows + sum(dropped.values()), "rows_out": rows, "dropped": dropped}
    return {"step": step, "settings": f"of {step}", "published": True, "inputs": inputs, **counts, **more}


CHAIN = Chain(
    {"math-stage1": Kept("B", TEXT, "math", "stage1"), "math-stage2": Kept("C", TEXT, "math", "stage2"), "executions-0": Kept("A", TEXT)},
    {"A": stage("answer", ["Q"], 0), "B": stage("teach", ["A"], 0), "C": stage("score", ["B"], 0)},
    calls={},
)  # fmt: skip


class Table:
    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint


def shard_of(monkeypatch: pytest.MonkeyPatch, records: dict[str, dict[str, Any]], **last: str) -> list[dict[str, Any]]:
    """Return the stages of a shard whose tables have the fingerprints `last`."""
    monkeypatch.setattr(chains, "read_record", records.get)
    tables: Any = {"math": {name: Table(fingerprint) for name, fingerprint in last.items()}}
    return stages_of(CHAIN, tables)


USAGE = {"model": "m", "requests": 3, "prompt_tokens": 40}


def test_stages_of_shards_are_matched_by_their_place_and_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the second shard a request failed, so its stages have fingerprints of their own."""
    first = shard_of(
        monkeypatch,
        {"A": stage("answer", ["Q"], 3, {"empty": 1}, usage=USAGE), "B": stage("teach", ["A"], 2, {"no_call": 1}), "C": stage("score", ["B"], 2)},
        stage1="B", stage2="C",
    )  # fmt: skip
    counts = {"rows_in": 4, "rows_out": 3, "dropped": {"empty": 1}}
    assert first == [
        {"key": "B", "fingerprint": "B", "rows_in": 3, "rows_out": 2, "dropped": {"no_call": 1}, "is_distinct": False},
        {"key": "A", "fingerprint": "A", **counts, "usage": USAGE, "is_distinct": False},
        {"key": "C", "fingerprint": "C", "rows_in": 2, "rows_out": 2, "dropped": {}, "is_distinct": False},
    ]
    second = shard_of(
        monkeypatch,
        {
            "a": stage("answer", ["Q"], 1, {"timeout": 2}, usage={**USAGE, "cut": 1}, failed=2), "b": stage("teach", ["a"], 1),
            "c": stage("score", ["b"], 1),
        },
        stage1="b", stage2="c",
    )  # fmt: skip
    by_key = {part["key"]: part for part in second}
    assert set(by_key) == {"A", "B", "C"}
    assert [is_final({"stages": shard}) for shard in (first, second)] == [True, False]
    assert not is_final({"stages": [first[0], by_key["A"]]})
    own = {key: digest(key, [key, key.lower()]) for key in "ABC"}
    merged = merge_stages(CHAIN, [first, second])
    sums = {"model": "m", "requests": 6, "prompt_tokens": 80, "cut": 1}
    assert merged == {
        "A": {**stage("answer", ["Q"], 4, {"empty": 1, "timeout": 2}), "usage": sums, "failed": 2, "fingerprint": own["A"], "files": []},
        "B": {**stage("teach", ["A"], 3, {"no_call": 1}), "fingerprint": own["B"], "files": []},
        "C": {**stage("score", ["B"], 3), "fingerprint": own["C"], "files": []},
    }  # fmt: skip
    assert list(dropping_stages(second)) == [("A", "a", 2)]
    assert list(dropping_stages(first)) == [("B", "B", 1), ("A", "A", 1)]
    assert merge_stages(CHAIN, [first, first])["B"]["fingerprint"] == "B"


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ({}, "the record of the stage C is missing or damaged: run the shard again"),
        ({"c": stage("answer", ["b"], 1)}, "the stage 'answer' of the shard is 'score' in the chain"),
        ({"c": stage("score", [], 1)}, "the stage 'score' of the shard is 'score' in the chain"),
        ({"c": {**stage("score", ["b"], 1), "rows_in": 2}}, "score: the retained and dropped rows do not add up to the input rows"),
    ],
)  # fmt: skip
def test_stages_that_do_not_fit_the_chain_are_refused(
    records: dict[str, dict[str, Any]], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    valid = {"b": stage("teach", ["a"], 1), "a": stage("answer", ["Q"], 1)}
    with pytest.raises(LedgerError) as caught:
        shard_of(monkeypatch, {**valid, **records}, stage1="b", stage2="c")
    assert str(caught.value) == message


# Merging --------------------------------------------------------------------------------------------------------------


def test_shards_that_cannot_be_merged_are_named_by_their_problem(tmp_path: Path) -> None:
    place = ShardFolder(tmp_path)
    for index, chain in ((0, "c"), (2, "old"), (3, "c")):
        write_json(place.record(Shard(index, 5)), record_of(place, Shard(index, 5), chain))
    fixed: Any = type("Fixed", (), {"key": "c"})
    with pytest.raises(ToolrlefError) as caught:
        merging._read_records(place, 5, fixed)
    assert str(caught.value) == (
        f"2 of 5 shards in {tmp_path} are finished, the others are not (missing: 1, 4; of another recipe, source or version: 2). "
        "Nothing is published. Run each of them, as in --shard 1/5; stored replies are used again"
    )
    for index in (1, 2, 4):
        write_json(place.record(Shard(index, 5)), record_of(place, Shard(index, 5), "c"))
    assert [shard.index for shard in merging._read_records(place, 5, fixed)] == [0, 1, 2, 3, 4]


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        merging.merge_shards(small_recipe(tmp_path / "out"), tmp_path / "run")
    assert str(caught.value) == f"{tmp_path}/run has no shards: run them with --shard I/N --folder {tmp_path}/run"


def test_the_failures_of_all_shards_together_are_checked(tmp_path: Path) -> None:
    """`max_failed` is a share of the requests of a stage; the model of a stage can have several engines."""
    recipe = limited(tmp_path)
    one = recipe.engines["model"]
    recipe = with_engines(recipe, lower=dataclasses.replace(one, max_failed=0.1))
    for model, failed, requests, is_refused in (("x", 2, 10, False), ("x", 3, 10, True), ("y", 5, 10, False), ("y", 6, 10, True), ("z", 0, 1, False), ("z", 1, 9, True)):  # fmt: skip
        stages = [stage("teach", [], 1, usage={"model": "z", "requests": 1}), stage("answer", [], 1, usage={"model": model, "requests": requests}, failed=failed)]  # fmt: skip
        if not is_refused:
            merging._check_failures(recipe, stages)
            continue
        with pytest.raises(TooManyFailures) as caught:
            merging._check_failures(recipe, stages)
        share = {"x": 0.2, "y": 0.5, "z": 0.0}[model]
        assert str(caught.value) == (
            f"answer: {failed} of {requests} requests to {model!r} failed in all shards, more than max_failed={share}. Nothing is "
            "published. Run the shards again: they send the requests with retryable errors again"
        )
    assert [merging._has_failed({"stages": [{}, {"failed": n}]}) for n in (0, 1)] == [False, True]


def finished_shard(
    place: ShardFolder, shard: Shard, stages: list[dict[str, Any]], kept: dict[str, list[str]], drops: list[str], n: int
) -> None:
    """Write the files of a shard: its kept rows, its dropped rows in the order of the stages, and its record."""
    files = {}
    for label, ids in kept.items():
        write_file(Dataset.from_list([{"id": row_id} for row_id in ids], features=TEXT), place.kept(label, shard))
    rows = [{**dict.fromkeys(DROPPED), "id": row_id, "reason": "r"} for row_id in drops]
    pq.write_table(pa.Table.from_pylist(rows, schema=DROPPED.arrow_schema), place.dropped(shard))
    for path in (*(place.kept(label, shard) for label in kept), place.dropped(shard)):
        files[path.relative_to(place.path).as_posix()] = file_digest(path, 64)
    rows_out = {label: len(ids) for label, ids in kept.items()}
    counts: dict[str, Any] = {"rows_in": {"math": n}, "rows_out": rows_out, "dropped": {}, "usage": {}}
    record = {"chain": CHAIN.key, **counts, "stages": stages, "files": files}
    write_json(place.record(shard), record)


def test_rows_and_ledgers_of_all_shards_are_put_together_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ShardFolder(tmp_path / "run")
    place.bind(2)
    for name in ("kept", "dropped", "done", "stages"):
        (place.path / name).mkdir()

    def part(key: str, rows: int, dropped: dict[str, int], **more: Any) -> dict[str, Any]:
        counts = {"rows_in": rows + sum(dropped.values()), "rows_out": rows, "dropped": dropped}
        return {"key": key, "fingerprint": more.pop("own", key), **counts, "is_distinct": False, **more}

    first = [part("B", 1, {"no_call": 1}), part("A", 2, {"empty": 1, "cut": 1}), part("C", 1, {})]
    second = [
        part("B", 2, {}, own="b"),
        part("A", 2, {"timeout": 1}, own="a", failed=1, usage=USAGE),
        part("C", 2, {}, own="c"),
    ]
    rows = {"math-stage1": ["q0"], "math-stage2": ["q0"], "executions-0": ["q0", "q1"]}
    finished_shard(place, Shard(0, 2), first, rows, ["q1", "q2", "q3"], 4)
    rows = {"math-stage1": ["q4", "q5"], "math-stage2": ["q4", "q5"], "executions-0": ["q4", "q5"]}
    finished_shard(place, Shard(1, 2), second, rows, ["q6"], 3)
    questions = {"math": Dataset.from_list([{"id": f"q{n}"} for n in range(7)], features=TEXT)}
    recipe = limited(tmp_path / "out")
    recipe = with_engines(recipe, m=dataclasses.replace(recipe.engines["model"], model="m", max_failed=1.0))
    monkeypatch.setattr(merging, "load_all", lambda recipe, place: (questions, CHAIN))
    published: list[Any] = []

    def publish(recipe: Recipe, tables: Any, file: Any, **options: Any) -> tuple[str, None]:
        records = {data._fingerprint: read_record(data._fingerprint) for data in tables["math"].values()}
        keys = (digest("A", ["A", "a"]), digest("B", ["B", "b"]))
        ledgers = [open_recorded(read_record(key) or {}, "dropped_files")["id"] for key in keys]
        published.extend(
            ({name: data["id"][:] for name, data in tables["math"].items()}, list(map(list, ledgers)), options)
        )
        assert [list(data.features) for data in tables["math"].values()] == [["id"]] * 2
        assert all(record is not None and record["files"] for record in records.values())
        ready = [(record or {}).get(READY_FILES) for record in records.values()]
        names = [[place.kept(f"math-{name}", Shard(n, 2)).name for n in (0, 1)] for name in ("stage1", "stage2")]
        assert [[Path(path).name for path in paths] if paths else None for paths in ready] == (names if options.pop("kept") else [None, None])  # fmt: skip
        return "there", None

    for keep in (False, True):
        published.clear()
        monkeypatch.setattr(merging, "publish_tables", lambda *a, keep=keep, **o: publish(*a, **o, kept=keep))
        merged = merging.merge_shards(recipe, place.path, out="there", replace=True, keep_shards=keep)
        assert published == [
            {"stage1": ["q0", "q4", "q5"], "stage2": ["q0", "q4", "q5"]}, [["q2", "q3", "q6"], ["q1"]],
            {"out": "there", "replace": True},
        ]  # fmt: skip
        assert [merged.out, merged.push, merged.retryable] == ["there", None, [1]]
        assert (merged.rows_in, merged.rows_out) == ({"math": 7}, {"math-stage1": 3, "math-stage2": 3})
        assert merged.dropped == {
            ("answer", "empty"): 1,
            ("answer", "cut"): 1,
            ("answer", "timeout"): 1,
            ("teach", "no_call"): 1,
        }
    with pytest.raises(LedgerError) as caught:
        merging._write_ledgers(place, {Shard(0, 2): {"stages": [part("B", 1, {"no_call": 5})]}}, {}, tmp_path)
    assert str(caught.value) == f"{place.dropped(Shard(0, 2))}: expected 5 rows, found 3"
    questions["math"] = questions["math"].select(range(6))
    with pytest.raises(LedgerError) as caught:
        merging.merge_shards(recipe, place.path)
    assert str(caught.value) == "math: the shards have 7 questions, and the sources 6"


def test_the_record_of_a_shard_has_its_counts_and_the_digests_of_its_files(tmp_path: Path) -> None:
    questions = load_source("sample", split="train").select(range(2, 5))
    replies = {"": "", questions[1]["question"]: "It is 8."}
    recipe = small_recipe(tmp_path / "out", replies, rows=5, teachers=["annotations"], responders=[])
    place, shard = ShardFolder(tmp_path / "run"), Shard(1, 2)
    record = run_shard(recipe, place.path, 1, 2)
    labels = ["math-stage1", "math-stage2"]
    kept = {label: pq.read_table(place.kept(label, shard)).column("id").to_pylist() for label in labels}
    dropped = pq.read_table(place.dropped(shard)).to_pylist()
    assert kept == {label: [questions[1]["id"]] for label in labels}
    assert [row["id"] for row in dropped] == [questions[0]["id"], questions[2]["id"]]
    paths = [*(place.kept(label, shard) for label in labels), place.dropped(shard)]
    assert {**record, "stages": []} == {
        "chain": record["chain"], "rows_in": {"math": 3}, "rows_out": dict.fromkeys(labels, 1), "dropped": {"empty": 2}, "stages": [],
        "usage": {"mapping": {"requests": 3, "prompt_tokens": 0, "completion_tokens": 0}},
        "files": {path.relative_to(place.path).as_posix(): file_digest(path, 64) for path in paths},
    }  # fmt: skip
    assert Counter(row["reason"] for row in dropped) == record["dropped"]
    assert (place.count(), read_json(place.record(shard)), place.stages(shard).exists()) == (2, record, False)
    assert run_shard(recipe, place.path, 1, 2) == record, "a finished shard is not run again"
