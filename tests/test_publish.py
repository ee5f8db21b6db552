"""publish: the folder loads without this package, is replaced as a whole, and says where its rows come from."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset, load_dataset

from toolrlef_data import (
    ANNOTATIONS,
    InputError,
    Responder,
    answer,
    build_stage1,
    build_stage2,
    grade,
    load_source,
    publish,
    respond,
    scripted,
)
from toolrlef_data.engines import Request
from toolrlef_data.publish import LAYOUTS


def student(request: Request) -> str:
    return "The answer is 8." if "?" in request.messages[-1].content else "I do not know."


def responder(request: Request) -> str:
    return "calculator(2*4)"


@pytest.fixture
def tables() -> dict[str, dict[str, Dataset]]:
    questions = load_source("sample", split="train")
    graded = grade(answer(questions.select(range(30)), scripted(student, progress=False)))
    stage1 = build_stage1(graded, ANNOTATIONS)
    stage2 = build_stage2(respond(stage1, [Responder("other", scripted(responder, progress=False))]))
    return {"math": {"stage1": stage1, "stage2": stage2}}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def left_beside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir() if path != folder)


LOAD = """
import sys
sys.modules["toolrlef_data"] = None  # as in an environment without this package
from datasets import load_dataset
for config in ("math-stage1", "math-stage2", "math-dropped"):
    data = load_dataset(sys.argv[1], config, split="train")
    print(config, len(data), type(data[0].get("scores", [None])[0]).__name__)
print(len(load_dataset(sys.argv[1], split="train")))
"""


def test_the_folder_loads_without_this_package(tables: dict[str, Any], tmp_path: Path) -> None:
    out = publish(tables, tmp_path / "data", version="1.0.0")
    done = subprocess.run([sys.executable, "-c", LOAD, out], capture_output=True, text=True, check=True)
    rows = {name: len(table) for name, table in tables["math"].items()}
    lines = done.stdout.splitlines()
    assert lines[:2] == [f"math-stage1 {rows['stage1']} NoneType", f"math-stage2 {rows['stage2']} float"]
    assert lines[2].startswith(f"math-dropped {30 - rows['stage1']} ")
    assert lines[3] == str(rows["stage1"]), "the first config is the default"


def test_loaded_rows_and_features_are_those_that_were_published(tables: dict[str, Any], tmp_path: Path) -> None:
    out = publish(tables, tmp_path / "data", version="1.0.0")
    for name, table in tables["math"].items():
        loaded = load_dataset(str(out), f"math-{name}", split="train")
        assert loaded.features == table.features
        assert loaded[:] == table[:]


def test_the_same_tables_give_the_same_bytes_and_leave_nothing_beside(tables: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "data"
    first = digests(publish(tables, out, version="1.0.0"))
    assert digests(publish(tables, out, version="1.0.0")) == first
    assert left_beside(out) == []


@pytest.mark.parametrize("moment", ["while writing", "between the renames", "before the old is removed"])
def test_a_run_after_an_interruption_repairs_what_it_left(moment: str, tables: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "data"
    whole = digests(publish(tables, out, version="1.0.0"))
    new, old = out.with_name(".data.new"), out.with_name(".data.old")
    if moment == "while writing":
        (new / "math-stage1").mkdir(parents=True)
        (new / "math-stage1" / "train-00000-of-00001.parquet").write_bytes(b"PAR1 cut off")
    else:
        shutil.copytree(out, new if moment == "between the renames" else old)
        if moment == "between the renames":
            out.rename(old)
    publish(tables, out, version="1.0.0")
    assert digests(out) == whole
    assert left_beside(out) == []


def test_a_failure_while_writing_leaves_the_old_folder(tables: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "data"
    whole = digests(publish(tables, out, version="1.0.0"))
    with pytest.raises(TypeError):
        publish(tables, out, version="2.0.0", provenance={"unwritable": object()})
    assert digests(out) == whole
    assert left_beside(out) == []


def test_a_folder_of_something_else_is_not_touched(tables: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("ten years of work")
    with pytest.raises(InputError, match="is not a published data set"):
        publish(tables, tmp_path, version="1.0.0")
    assert (tmp_path / "thesis.tex").read_text() == "ten years of work"


def test_the_card_and_the_provenance_are_computed_from_the_data(tables: dict[str, Any], tmp_path: Path) -> None:
    out = publish(tables, tmp_path / "data", version="1.2.3", card={"title": "Small sums", "license": "apache-2.0"})
    front, body = (out / "README.md").read_text().split("---\n")[1:3]
    metadata = yaml.safe_load(front)
    assert [c["config_name"] for c in metadata["configs"]] == ["math-stage1", "math-stage2", "math-dropped"]
    assert [i["splits"][0]["num_examples"] for i in metadata["dataset_info"]][:2] == [
        len(t) for t in tables["math"].values()
    ]
    assert (metadata["license"], metadata["pretty_name"]) == ("apache-2.0", "Small sums")
    assert "Version 1.2.3" in body
    assert "| gold |" in body
    told = json.loads((out / "provenance.json").read_text())
    steps = [stage["step"] for stage in told["stages"].values()]
    assert {"graded", "stage1", "target", "executed", "scored"} <= set(steps)
    for stage in told["stages"].values():
        assert stage["rows_in"] == stage["rows_out"] + sum(stage["dropped"].values())
    text = json.dumps(told)
    assert "prompts_sha256" in text
    assert str(tmp_path) not in text, "no path of this machine"


def test_a_table_whose_trail_ends_is_published_and_says_so(
    tables: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mixed = {"math": {"stage2": tables["math"]["stage2"].shuffle(seed=1)}}
    with caplog.at_level(logging.WARNING, "toolrlef_data"):
        out = publish(mixed, tmp_path / "data", version="1.0.0")
    assert "the trail ends here" in caplog.text
    assert "the trail ends here" in (out / "provenance.json").read_text()
    assert "not the whole way here is known" in (out / "README.md").read_text()
    caplog.clear()
    shuffled = load_source("sample", split="train").shuffle(seed=1).select(range(40))
    stage1 = build_stage1(grade(answer(shuffled, scripted(student, progress=False))), ANNOTATIONS)
    publish({"math": {"stage1": stage1}}, tmp_path / "other", version="1.0.0")
    assert "the trail ends before the step 'read_replies'" in caplog.text
    given = Dataset.from_list(
        [{"id": "9", "task": "math", "dataset": "sample", "stage": "mine", "reason": "too long", "detail": ""}]
    )
    out = publish(mixed, tmp_path / "data", version="1.0.0", dropped=given, provenance={"shuffled": "seed 1"})
    assert load_dataset(str(out), "math-dropped", split="train")["reason"][:] == ["too long"]
    assert json.loads((out / "provenance.json").read_text())["shuffled"] == "seed 1"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_originals_files_by_task_and_by_data_set(tables: dict[str, Any], tmp_path: Path) -> None:
    stage1, stage2 = tables["math"].values()
    new = publish(tables, tmp_path / "new", version="1.0.0", layout="trice")
    rows = lines(new / "stage2" / "math" / "math.json")
    assert list(rows[0]) == ["query", "responses", "origin", "scores", "answer"]
    assert all(type(score) is int for row in rows for score in row["scores"])
    assert [row["responses"] for row in rows] == stage2["responses"][:]
    clones = lines(new / "stage1" / "math" / "math.json")
    assert clones == [{name: row[name] for name in ("instruction", "input", "output")} for row in stage1]
    assert lines(new / "stage1" / "math" / "sample.json") == clones
    gold = lines(new / "stage2" / "math" / "math_gold_response.json")
    assert [row["answer"] for row in gold] == [row["answers"][0] for row in stage1]
    old = publish(tables, tmp_path / "old", version="1.0.0", layout="trice-old")
    assert lines(old / "stage2" / "sample" / "sample.json") == rows
    assert lines(old / "stage1" / "sample" / "sample.json") == clones


def test_unknown_layouts_and_no_tables_get_a_clear_error(tables: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"choose from: {', '.join(sorted(LAYOUTS))}"):
        publish(tables, tmp_path / "data", version="1.0.0", layout="csv")
    with pytest.raises(InputError, match="at least one table"):
        publish({}, tmp_path / "data", version="1.0.0")
    with pytest.raises(InputError, match=r"no rows to publish in math-stage2 \(train\)"):
        publish({"math": {"stage2": tables["math"]["stage2"].select([])}}, tmp_path / "data", version="1.0.0")


def test_where_nothing_was_dropped_there_is_no_such_config(tables: dict[str, Any], tmp_path: Path) -> None:
    kept = set(tables["math"]["stage1"]["id"])
    questions = load_source("sample", split="train").filter(lambda row: row["id"] in kept)
    graded = grade(answer(questions, scripted(student, progress=False)))
    out = publish({"math": {"stage1": build_stage1(graded, ANNOTATIONS)}}, tmp_path / "data", version="1.0.0")
    assert "No row was left out." in (out / "README.md").read_text()
    assert load_dataset(str(out), split="train")["id"][:] == [i for i in questions["id"] if i in kept]
