"""Every public function that receives a table: tables without rows, formats, transforms, and ids that are not unique."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, Value, load_dataset

import toolrlef_data
from tests.support.caches import use_caches
from tests.support.models import bytes_chat
from toolrlef_data import (
    ANNOTATIONS,
    TASKS,
    Drop,
    InputError,
    Reply,
    Responder,
    agreement,
    answer,
    apply,
    audit_grader,
    build_stage1,
    build_stage2,
    counterfactual,
    decontaminate,
    drop_learnt,
    drop_near_duplicates,
    execute,
    explode,
    export,
    generate_trajectories,
    grade,
    keep,
    load_source,
    make_questions,
    near_duplicates,
    overlaps,
    preference_pairs,
    propose_calls,
    publish,
    rank_agreement,
    rescore,
    respond,
    score,
    scripted,
    show,
    shuffle_steps,
    split_queries,
    subset,
    to_trainer,
    tokenise,
    trajectories,
    wiki_search,
    without_tool,
    write_answers,
)
from toolrlef_data._names import PUBLIC_MODULES
from toolrlef_data.trice.ranking.logprobs import LOGPROBS

STUDENT = scripted({"": "The answer is 54."}, progress=False)
RESPONDERS = [Responder("calls", scripted({"": "calculator(2*4)"}, progress=False))]
FINISH = Reply("", tool_calls=(("Finish", '{"return_type": "give_answer", "final_answer": "yes"}'),))
STRING = Value("string")
TESTS = Dataset.from_list([{"id": "t", "question": "Which bird builds its nest on the tall chimney of the old mill?"}])
FORMATS = ("numpy", "torch", "pandas", "arrow")


def shout(row: Mapping[str, Any], settings: None) -> dict[str, Any]:
    return {"loud": row["question"].upper()}


def drop_none(row: Mapping[str, Any], settings: None) -> Drop | None:
    return None


def words(row: Mapping[str, Any], settings: None) -> Iterator[dict[str, Any]]:
    for n, word in enumerate(row["question"].split()):
        yield {"id": f"{row['id']}#{n}", "word": word}


def add_logprobs(row: Mapping[str, Any], settings: None) -> dict[str, Any]:
    """Return log-probabilities that rank the responses in their order in some rows, and against it in others."""
    order = 1 if len(row["responses"][0]) % 2 else -1
    values = [order * -float(n) for n, _ in enumerate(row["responses"], 1)]
    return {
        "logprobs": values,
        "logprob_tokens": [4] * len(values),
        "logprob_errors": [None] * len(values),
        "logprob_model": "m",
    }


def ping(host: str) -> str:
    """Ask a host whether it is up.

    Args:
        host: its name.
    """
    return f"{host} is up"


def explode_words(data: Any) -> Any:
    return explode(data, words, reads=["id", "question"], features={"id": STRING, "word": STRING}, stage="words")


def search(data: Any) -> Any:
    return generate_trajectories(data, [ping], scripted([FINISH] * 9, progress=False))


# Public function -> (the table that it receives, the call).
BY_SPLIT: dict[str, tuple[str, Callable[..., Any]]] = {
    "apply": ("questions", lambda data: apply(data, shout, reads=["question"], adds={"loud": STRING})),
    "keep": ("questions", lambda data: keep(data, drop_none, reads=["id"], stage="keep")),
    "explode": ("questions", explode_words),
    "answer": ("questions", lambda data: answer(data, STUDENT)),
    "grade": ("answered", grade),
    "propose_calls": ("graded", lambda data: propose_calls(data, ANNOTATIONS)),
    "build_stage1": ("graded", lambda data: build_stage1(data, ANNOTATIONS)),
    "respond": ("stage1", lambda data: respond(data, RESPONDERS)),
    "execute": ("responded", execute),
    "score": ("executed", score),
    "build_stage2": ("responded", build_stage2),
    "rank_agreement": ("scored_by_model", rank_agreement),
    "drop_learnt": ("compared", drop_learnt),
    "without_tool": ("stage1", lambda data: without_tool(data, kind=["other_tools", "chat"])),
    "rescore": ("stage2", lambda data: rescore(data, "paper")),
    "decontaminate": ("questions", lambda data: decontaminate(data, TESTS)),
    "drop_near_duplicates": ("questions", drop_near_duplicates),
    "trajectories": ("answers", trajectories),
    "preference_pairs": ("answers", preference_pairs),
    "shuffle_steps": ("samples", shuffle_steps),
    "tokenise": ("samples", lambda data: tokenise(data, "chat", protocol="text")),
}
ONE_SPLIT: dict[str, tuple[str, Callable[..., Any]]] = {
    "split_queries": ("answers", split_queries),
    "generate_trajectories": ("questions", search),
    "counterfactual": ("questions", lambda data: counterfactual(data, STUDENT, samples=1)),
    "overlaps": ("questions", lambda data: overlaps(data, TESTS)),
    "near_duplicates": ("questions", near_duplicates),
}
TABLES = BY_SPLIT | ONE_SPLIT
OTHERS = {"ledger", "lineage", "logprobs", "train", "warm_up"}  # they read records, or need a model


# Functions that write files or read rows -> (the table, a call that returns what is written or read).
READERS: dict[str, tuple[str, Callable[..., Any]]] = {
    "subset": ("questions", lambda data: subset(data, 2).to_list()),
    "subset apart_from": (
        "questions",
        lambda data: subset(load_source("sample", "train"), 5, apart_from=data).to_list(),
    ),
    "export": ("samples", lambda data: export(data, "openai", "out.jsonl").read_text()),
    "to_trainer": ("samples", lambda data: to_trainer(data, "openai").to_list()),
    "publish": ("samples", lambda data: published(data)),
    "write_answers": ("answers", lambda data: [path.read_text() for path in write_answers(data, "answers")]),
    "make_questions": (
        "questions",
        lambda data: make_questions(data, task="math", id="id", context="context", solution="solution").to_list(),
    ),
    "agreement": ("need", lambda data: str(agreement(data, data))),
    "show": ("stage2", lambda data: str(show(data))),
    "audit_grader": ("questions", lambda data: audit_grader(TASKS["math"], data, probes=50)),
    "wiki_search": ("passages", lambda data: wiki_search(data).run("fig").value),
}


def published(data: Any) -> Any:
    publish({"toolbench": {"samples": data}}, "out", version="1.0.0")
    return load_dataset("out", "toolbench-samples", split="train", cache_dir="cache").to_list()


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """The input of each function, as a table in memory that no stage of the package has made."""
    with use_caches(tmp_path_factory.mktemp("caches")):
        made = {"questions": load_source("sample", split="train").select(range(4))}
        made["answered"] = answer(made["questions"], STUDENT)
        made["graded"] = grade(made["answered"])
        made["stage1"] = build_stage1(made["graded"], ANNOTATIONS)
        made["responded"] = respond(made["stage1"], RESPONDERS)
        made["executed"] = execute(made["responded"])
        made["scored_by_model"] = apply(
            build_stage2(made["responded"]), add_logprobs, reads=["responses"], adds=LOGPROBS
        )
        made["compared"] = rank_agreement(made["scored_by_model"])
        made["need"] = counterfactual(made["questions"], STUDENT, samples=1)
        made["stage2"] = score(made["executed"])
        made["answers"] = load_source("sample_trajectories").select(range(3))
        made["samples"] = trajectories(made["answers"]).select(range(3))
        made["passages"] = Dataset.from_list(
            [{"title": "Fig", "text": "A sweet fruit."}, {"title": "Oak", "text": "A tree."}]
        )
        return {name: Dataset.from_list(data.to_list(), features=data.features) for name, data in made.items()}


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bytes_chat(tmp_path / "chat")


def as_rows(result: Any) -> Any:
    if isinstance(result, DatasetDict):
        return {split: as_rows(data) for split, data in result.items()}
    return result.with_format(None).to_list()


def features(result: Any) -> Any:
    return (
        {split: data.features for split, data in result.items()} if isinstance(result, DatasetDict) else result.features
    )


def test_every_function_of_a_table_is_covered() -> None:
    functions = {name for name in PUBLIC_MODULES if inspect.isfunction(getattr(toolrlef_data, name))}
    first = {
        name: next(iter(inspect.signature(getattr(toolrlef_data, name)).parameters.values())) for name in functions
    }
    of_tables = {
        name
        for name, parameter in first.items()
        if parameter.annotation in ("D", "Tables") or "Dataset" in str(parameter.annotation)
    }
    assert of_tables | {"audit_grader", "make_questions"} == set(TABLES) | set(READERS) - {"subset apart_from"} | OTHERS


@pytest.mark.parametrize("name", TABLES)
def test_a_table_without_rows_gets_the_right_columns(name: str, tables: dict[str, Dataset]) -> None:
    source, function = TABLES[name]
    data = tables[source]
    expected = features(function(data))
    in_memory, on_disk = (
        Dataset.from_dict({column: [] for column in data.features}, features=data.features),
        data.select([]),
    )
    for empty in (in_memory, on_disk):
        result = function(empty)
        assert features(result) == expected
        assert not any(map(len, result.values() if isinstance(result, DatasetDict) else [result]))
    if name in BY_SPLIT:
        result = function(DatasetDict(train=data, test=in_memory))
        assert features(result) == {"train": expected, "test": expected}
        assert len(result["train"]) > len(result["test"]) == 0


@pytest.mark.parametrize("name", TABLES)
def test_a_format_changes_no_value_and_a_transform_is_refused(name: str, tables: dict[str, Dataset]) -> None:
    source, function = TABLES[name]
    data = tables[source]
    expected = as_rows(function(data))
    for kind in FORMATS:
        assert as_rows(function(data.with_format(kind))) == expected
        assert as_rows(function(data.with_format(kind, columns=["id"]))) == expected
    for table in [
        data.with_transform(dict),
        *([DatasetDict(a=data, b=data.with_transform(dict))] if name in BY_SPLIT else []),
    ]:
        with pytest.raises(InputError, match=r"has a transform \(`with_transform`\)"):
            function(table)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(
    ("second", "message"),
    [(None, "an id in each row, found none in row 1"), ("same", "expected unique ids, found 'same' twice")],
)
def test_ids_are_unique_and_not_null(name: str, second: str | None, message: str, tables: dict[str, Dataset]) -> None:
    source, function = TABLES[name]
    rows = tables[source].to_list()
    rows[0]["id"], rows[1]["id"] = "same", second
    data = Dataset.from_list(rows, features=tables[source].features)
    for table in [data, *([DatasetDict(train=tables[source], test=data)] if name in BY_SPLIT else [])]:
        with pytest.raises(InputError, match=message):
            function(table)


def as_pandas_3(data: Dataset) -> Dataset:
    """Return a table as `Dataset.from_pandas` makes it with pandas 3, whose texts are large strings."""
    table = data.with_format("arrow")[:]
    large = [pa.large_string() if field.type == pa.string() else field.type for field in table.schema]
    return Dataset(
        table.replace_schema_metadata().cast(
            pa.schema([f.with_type(t) for f, t in zip(table.schema, large, strict=True)])
        )
    )


def test_large_strings_and_columns_of_nulls_are_converted(tables: dict[str, Dataset]) -> None:
    data = tables["questions"]
    expected = answer(data, STUDENT)
    large = as_pandas_3(data)
    assert large.features["id"] == Value("large_string")
    no_context = Dataset.from_list([{**row, "context": None, "solution": None} for row in data.to_list()])
    assert no_context.features["context"] == Value("null")
    for table in (large, no_context, DatasetDict(train=large, test=no_context)):
        result = answer(table, STUDENT)
        assert features(result) in (expected.features, {"train": expected.features, "test": expected.features})
    assert as_rows(answer(large, STUDENT)) == as_rows(expected)
    assert answer(no_context, STUDENT)["context"][:] == [None] * 4
    for name, source, function in (
        ("respond", "stage1", BY_SPLIT["respond"][1]),
        ("trajectories", "answers", trajectories),
    ):
        assert features(function(as_pandas_3(tables[source]))) == features(function(tables[source])), name
    with pytest.raises(
        InputError, match=r"answer needs the column answers as List\(Value\('string'\)\), found Value\('string'\)"
    ):
        answer(data.remove_columns("answers").add_column("answers", ["8"] * 4), STUDENT)
