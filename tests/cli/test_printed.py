"""The arguments that commands pass on, and everything they print, word for word."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from typer.testing import CliRunner

from tests.cli.test_commands import arguments_of, stop
from tests.support.printed import printed_lines
from toolrlef_data import InputError, load_recipe
from toolrlef_data.cli import cache, console, main
from toolrlef_data.cli.show import _condition
from toolrlef_data.cli.trice.reports import check_any, print_missing, print_written
from toolrlef_data.engines.database import merging as stores
from toolrlef_data.engines.database.merging import StoreCounts
from toolrlef_data.publishing.report import writing
from toolrlef_data.recipes.shards import merging, running
from toolrlef_data.recipes.shards.merging import Merged
from toolrlef_data.tables.files import home_dir
from toolrlef_data.tables.stage_cache import stages_dir


def invoke(*words: object) -> list[str]:
    """Return the lines that a command prints."""
    result = CliRunner().invoke(main.app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return printed_lines(result.output)


USAGE = {"gpt": {"requests": 1200, "prompt_tokens": 34567}, "m": {"requests": 2, "completion_tokens": 5}}
COUNTS = [
    "Model usage", "model|requests|prompt tokens|reply tokens", "gpt|1,200|34,567|0", "m|2|0|5",
]  # fmt: skip


def test_a_shard_is_run_with_all_arguments_and_its_record_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    record = {
        "rows_in": {"math": 3000},
        "rows_out": {"math-stage1": 2, "math-stage2": 1},
        "dropped": {"empty": 1},
        "usage": USAGE,
    }

    def run_shard(*arguments: Any, **options: Any) -> dict[str, Any]:
        given.append((arguments, options))
        return record

    monkeypatch.setattr(running, "run_shard", run_shard)
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "5")
    words = ["run", "demo", "--rows", 5, "--folder", tmp_path, "--num-proc", 2, "--shard"]
    for shard, index in (("1/64", 1), ("/64", 5)):
        assert invoke(*words, shard) == [
            f"shard {index}/64", "Rows", "questions (math)|3,000", "math-stage1|2", "math-stage2|1", "Dropped rows", "empty|1",
            *COUNTS, f"shard {index}/64 is finished: {tmp_path}",
        ]  # fmt: skip
        assert given.pop() == ((load_recipe("demo", rows=5), tmp_path, index, 64), {"num_proc": 2})
    for more, message in (
        (["--out", "x"], "--out and --replace are options of toolrlef-data merge: a shard publishes nothing"),
        (["--replace"], "--out and --replace are options of toolrlef-data merge: a shard publishes nothing"),
    ):
        with pytest.raises(InputError) as caught:
            invoke(*words, "1/64", *more)
        assert str(caught.value) == message
    with pytest.raises(InputError) as caught:
        invoke("run", "demo", "--shard", "1/64")
    assert str(caught.value) == "--shard needs --folder, the folder of all shards of this run"
    monkeypatch.delenv("JOB_COMPLETION_INDEX")
    with pytest.raises(InputError, match="SLURM_ARRAY_TASK_ID"):
        invoke("run", "demo", "--folder", tmp_path)
    assert given == []


def test_merge_passes_its_arguments_on_and_prints_all_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "merge_shards", stop)
    words = ["merge", "demo", "--folder", tmp_path]
    assert arguments_of(*words) == (
        (load_recipe("demo"), tmp_path), {"out": None, "replace": False, "keep_shards": False}
    )  # fmt: skip
    options = ["--out", "there", "--rows", 4, "--replace", "--keep-shards"]
    assert arguments_of(*words, *options) == (
        (load_recipe("demo", rows=4), tmp_path), {"out": Path("there"), "replace": True, "keep_shards": True}
    )  # fmt: skip
    assert arguments_of(*words, "--all")[0] == (load_recipe("demo", all_rows=True), tmp_path)
    for retryable, more in (
        ([], []),
        ([3, 1, 2], ["Requests failed in the shards 1-3. To send them again, run these shards and merge again."]),
    ):
        dropped = Counter({("answer", "empty"): 2, ("teach", "no_call"): 1})
        merged = Merged(tmp_path, None, {"math": 9, "qa": 2}, {"math-stage1": 4}, dropped, USAGE, retryable)
        monkeypatch.setattr(merging, "merge_shards", lambda *_, merged=merged, **__: merged)
        assert invoke(*words) == [
            "Rows", "questions (math)|9", "questions (qa)|2", "math-stage1|4", "Dropped rows", "answer: empty|2", "teach: no_call|1",
            *COUNTS, *more, f"Published: {tmp_path}",
        ]  # fmt: skip


def test_merged_stores_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def merge_replies(*arguments: Any) -> list[StoreCounts]:
        given.extend(arguments)
        return [StoreCounts(path, 1000 * n, n, 2 * n) for n, path in enumerate(arguments[1], 1)]

    monkeypatch.setattr(stores, "merge_replies", merge_replies)
    assert invoke("replies", "merge", "out.sqlite", "a/b.sqlite", "c.sqlite") == [
        "Replies", "store|added|already known|damaged", "b.sqlite|1,000|1|2", "c.sqlite|2,000|2|4",
        "3,000 replies were added to out.sqlite",
    ]  # fmt: skip
    assert given == [Path("out.sqlite"), [Path("a/b.sqlite"), Path("c.sqlite")]]


def test_report_passes_its_arguments_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def write_report(*arguments: Any, **options: Any) -> str:
        return f"{arguments} {options}"

    monkeypatch.setattr(writing, "write_report", write_report)
    monkeypatch.setenv("COLUMNS", "200")
    (line,) = invoke("report", "data", "org/name@v2", "--out", "a.html")
    assert line == f"('data', 'org/name@v2') {{'out': {Path('a.html')!r}}}: open it in a browser"
    (line,) = invoke("report", "data")
    assert line == f"('data', None) {{'out': {Path('report.html')!r}}}: open it in a browser"


# Caches ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "hours"), [("0h", 0), ("12h", 12), ("1d", 24), ("30d", 720), ("2w", 336), ("99999h", 99999)]
)
def test_ages(age: str, hours: int) -> None:
    assert cache._nanoseconds(age) == hours * 3600 * 10**9


@pytest.mark.parametrize("age", ["", "h", "12", "1.5h", "-1h", "1m", "100000h", "1h ", "1 h"])
def test_ages_that_are_refused(age: str) -> None:
    with pytest.raises(InputError) as caught:
        cache._nanoseconds(age)
    assert str(caught.value) == f"--older-than: expected hours, days or weeks, such as 12h, 30d or 4w, found {age!r}"


def test_the_sizes_of_caches_are_those_of_their_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOOLRLEF_REPLIES", str(tmp_path / "r.sqlite"))
    for name, size in (("r.sqlite", 5), ("r.sqlite-wal", 7), ("r.sqlite-shm", 11), ("r.sqlite.owners", 100)):
        (tmp_path / name).write_bytes(b"x" * size)
    monkeypatch.setattr("toolrlef_data.tables.files.home_dir", lambda: tmp_path / "home")
    for n, name in enumerate(("indexes", "converted", "adapters"), 1):
        folder = tmp_path / "home" / name / "deep"
        folder.mkdir(parents=True)
        for file in range(n):
            (folder / str(file)).write_bytes(b"x" * 10)
        (folder / "link").symlink_to(tmp_path / "r.sqlite.owners")
    today, day = time.strftime("%Y-%m-%d"), time.strftime("%Y-%m-%d", time.localtime(86_400_000))
    found = cache._sizes((123, 4), 86_400_000 * 10**9)
    assert {kind: tuple(entry.values()) for kind, entry in found.items()} == {
        "stages": (str(stages_dir()), 123, 4, day),
        "replies": (str(tmp_path / "r.sqlite"), 23, 3, today),
        "indexes": (str(tmp_path / "home" / "indexes"), 10, 1, today),
        "models": (str(tmp_path / "home" / "converted"), 20, 2, today),
        "adapters": (str(tmp_path / "home" / "adapters"), 30, 3, today),
    }
    assert {tuple(entry) for entry in found.values()} == {("path", "bytes", "files", "last_use")}
    assert home_dir() != tmp_path / "home"


CACHES = {
    "stages": {"path": "/a [b]", "bytes": 12_340_000, "files": 1234, "last_use": "2026-01-02"},
    "adapters": {"path": "/c", "bytes": 0, "files": 0, "last_use": None},
}
SIZES = ["Caches", "|size|files|last use", "stages|12.3 MB|1,234|2026-01-02", "adapters|0.0 MB|0|never", "stages: /a [b]", "adapters: /c"]  # fmt: skip
STAGES = {"removed": 1500, "bytes": 2_000_000_000, "kept": 0, "in_use": False}


@pytest.mark.parametrize(
    ("facts", "dry_run", "lines"),
    [
        ({}, False, []),
        ({"stages": STAGES}, False, ["Removed 1,500 stages (2,000.0 MB); 0 are kept."]),
        ({"stages": STAGES | {"in_use": True, "kept": 2000}}, True, ["Would remove 1,500 stages (2,000.0 MB); 2,000 are kept.", "A process is running: the stages that were used since it started are kept."]),
        ({"replies": {"bytes": 1_500_000, "files": 1}}, False, ["Removed the replies (1.5 MB)."]),
        ({"replies": {"bytes": 0, "files": 0}}, True, ["Would remove the replies (0.0 MB)."]),
    ],
)  # fmt: skip
def test_what_cache_prints(
    facts: dict[str, Any], dry_run: bool, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    cache._print({**facts, "caches": CACHES}, dry_run)
    assert printed_lines(capsys.readouterr().out) == [*SIZES, *lines]


def test_the_lineage_of_a_folder_without_provenance_is_unknown(tmp_path: Path) -> None:
    for text in (None, "{", "[]", '{"steps": {}}'):
        if text is not None:
            (tmp_path / "provenance.json").write_text(text)
        with pytest.raises(InputError) as caught:
            cache._stages_behind(tmp_path)
        assert str(caught.value) == f"{tmp_path} has no provenance.json of a published data set: its stages are unknown"
    (tmp_path / "provenance.json").write_text('{"stages": {"a": 1, "b": 2}}')
    assert cache._stages_behind(tmp_path) == {"a", "b"}


# Tables and conditions ------------------------------------------------------------------------------------------------


def test_tables_of_counts(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_parts(console.count_table("Rows", {"a": 1234567, "b": 0, "c": None}), "text [b]")
    assert printed_lines(capsys.readouterr().out) == ["Rows", "a|1,234,567", "b|0", "c|unknown", "text [b]"]
    rows = [("x", "1", "-"), ("yy", "20", "abc")]
    table = console.text_table("T", ("name", "n", "3"), rows)
    assert (table.title, [column.justify for column in table.columns]) == ("T", ["left", "right", "left"])
    assert [column.justify for column in console.text_table("T", ("a",), []).columns] == ["left"]
    assert console.dropped_table([]) == "No rows were dropped."
    dropped = Dataset.from_list(
        [{"id": "a", "stage": "teach", "reason": reason, "detail": ""} for reason in ("b", "a", "b")]
    )
    console.print_parts(console.dropped_table([], dropped))
    assert printed_lines(capsys.readouterr().out) == ["Dropped rows", "stage|reason|rows", "teach|b|2", "teach|a|1"]


@pytest.mark.parametrize(
    ("text", "condition"), [("a=b", ("a", "b")), (" gpt.tool = x = y ", ("gpt.tool", "x = y")), ("a=", ("a", ""))]
)
def test_conditions(text: str, condition: tuple[str, str]) -> None:
    assert _condition(text) == condition


@pytest.mark.parametrize("text", ["a", "=b", " =b", ""])
def test_conditions_that_are_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        _condition(text)
    assert str(caught.value) == f"--where: expected COLUMN=VALUE, found {text!r}"


# Reports of the commands of TRICE -------------------------------------------------------------------------------------


def test_a_file_without_rows_is_an_error_with_all_reasons() -> None:
    missing = {"a": "timeout", "b": "no_call", "c": "timeout"}
    for hint, end in (("", ""), ("try --mode w", "; try --mode w")):
        with pytest.raises(InputError) as caught:
            check_any(0, Path("out.json"), missing, hint)
        assert str(caught.value) == f"out.json: not written, since no row is usable: 1 no_call, 2 timeout{end}"
    check_any(1, Path("out.json"), missing)


def test_written_and_missing_rows(capsys: pytest.CaptureFixture[str]) -> None:
    print_written({"rows": 1200, "cost": None}, (Path("a.json"), 1), (Path("b.json"), 1199))
    assert printed_lines(capsys.readouterr().out) == [
        "Rows", "rows|1,200", "cost|unknown", "Wrote 1 row to a.json", "Wrote 1,199 rows to b.json"
    ]  # fmt: skip
    print_missing({"c": "wrong_value", "a": "empty", "b": "wrong_value"})
    assert capsys.readouterr().out == "Not in the output: 1 (empty): a\nNot in the output: 2 (wrong_value): c, b\n"
    with pytest.raises(Exception, match="1"):
        print_missing({str(n): "no_reply:timeout" for n in range(2000)})
    out, err = capsys.readouterr()
    assert out == "Not in the output: 2,000 (no_reply:timeout): 0, 1, 2, ...\n"
    assert err == "2,000 requests failed. All received replies are saved; run the same command to add the rows.\n"
