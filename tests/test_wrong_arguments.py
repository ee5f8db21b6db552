"""Plausible mistakes in the arguments of public functions: a clear error, before the first request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, Value

from toolrlef_data import (
    ANNOTATIONS,
    TASKS,
    EngineSpec,
    InputError,
    Method,
    Reply,
    Responder,
    answer,
    apply,
    audit_grader,
    build_stage1,
    build_stage2,
    diff,
    environment,
    evaluate,
    execute,
    explode,
    export,
    generate_trajectories,
    grade,
    keep,
    ledger,
    lineage,
    load_model,
    load_recipe,
    load_source,
    load_trice,
    logprobs,
    parse_call,
    preference_pairs,
    propose_calls,
    publish,
    qa_model,
    render_call,
    render_prompt,
    rescore,
    respond,
    reward,
    score,
    scripted,
    search_endpoint,
    show,
    subset,
    to_trainer,
    tokenise,
    tool_schema,
    train,
    trajectories,
    translator,
    warm_up,
    wiki_search,
    without_tool,
    write_answers,
    write_report,
)
from toolrlef_data.columns import ANSWERS, STAGE1, TRAJECTORIES

ROWS = [{"id": "1", "text": "fig"}]
TABLE = Dataset.from_list(ROWS)
NO_SAMPLES = Dataset.from_dict({name: [] for name in TRAJECTORIES}, features=TRAJECTORIES)
STRING = Value("string")


def no_reply(request: object) -> Reply:
    raise AssertionError("a request was sent")


MODEL = scripted(no_reply, progress=False)
RESPONDERS = [Responder("r", MODEL)]


def add(row: dict[str, Any], settings: None) -> Any:
    return {"n": row["id"]}


def ping(host: str) -> str:
    """Ask a host whether it is up.

    Args:
        host: its name.
    """
    return f"{host} is up"


# Function of a table, with its other arguments -> each refuses what is not a table, and says what it found.
OF_A_TABLE: dict[str, Callable[[Any], object]] = {
    "answer": lambda data: answer(data, MODEL),
    "grade": grade,
    "build_stage1": lambda data: build_stage1(data, ANNOTATIONS),
    "propose_calls": lambda data: propose_calls(data, ANNOTATIONS),
    "respond": lambda data: respond(data, RESPONDERS),
    "execute": execute,
    "score": score,
    "build_stage2": build_stage2,
    "without_tool": lambda data: without_tool(data, kind="chat"),
    "trajectories": trajectories,
    "preference_pairs": preference_pairs,
    "tokenise": lambda data: tokenise(data, "no/model"),
    "apply": lambda data: apply(data, add, reads=["id"], adds={"n": STRING}),
    "keep": lambda data: keep(data, add, reads=["id"], stage="s"),
    "explode": lambda data: explode(data, add, reads=["id"], features={"id": STRING}, stage="s"),
    "lineage": lineage,
    "ledger": lambda data: ledger([data]),
    "publish": lambda data: publish({"math": {"rows": data}}, "out", version="1.0.0"),
}


@pytest.mark.parametrize("name", OF_A_TABLE)
@pytest.mark.parametrize("data", [ROWS, "train.parquet", None, {"train": ROWS}], ids=["rows", "text", "none", "dict"])
def test_what_is_not_a_table_is_refused(name: str, data: Any) -> None:
    with pytest.raises(InputError, match=r"datasets\.Dataset|expected a Dataset|a table|tables"):
        OF_A_TABLE[name](data)


MISTAKES: list[tuple[str, Callable[[], object], str]] = [
    ("one responder", lambda: respond(TABLE, RESPONDERS[0]), "responders: expected a list"),  # type: ignore[arg-type]
    ("a number", lambda: respond(TABLE, 5), "responders: expected a list"),  # type: ignore[arg-type]
    ("a name of a search", lambda: search(method="dfsdt"), "method: expected a Method such as"),
    ("an empty name", lambda: search(method=""), "method: expected a Method"),
    ("one function", lambda: search(functions=5), "functions: expected a list"),
    ("a text", lambda: search(functions="ping"), "functions: expected a list"),
    ("at once", lambda: search(functions_at_once="many"), "functions_at_once must be an integer of at least 1"),
    ("at once", lambda: search(functions_at_once=0.5), "functions_at_once must be an integer of at least 1"),
    ("a model's name", lambda: warm_up(TABLE, "my/model"), "expected an EngineSpec as base, found str"),  # type: ignore[arg-type]
    ("null keys", lambda: EngineSpec("openai_api", "m", keys=None), "keys must be names"),  # type: ignore[arg-type]
    ("a port", lambda: EngineSpec("openai_api", "m", base_url=8000), "base_url must be a URL"),  # type: ignore[arg-type]
    ("kinds", lambda: EngineSpec(["local"], "m"), "unknown engine kind"),  # type: ignore[arg-type]
    ("a text as flag", lambda: EngineSpec("local", "m", progress="no"), "progress must be True or False"),  # type: ignore[arg-type]
    ("splits", lambda: lineage(DatasetDict(a=TABLE)), r"expected a Dataset, found a DatasetDict: pass one of .*'a'"),
    ("no list", lambda: ledger(TABLE), r"expected a list of tables, as in `ledger\(\[table\]\)`"),
    ("a name", lambda: tool_schema("calculator"), "expected a Tool, found 'calculator'"),  # type: ignore[arg-type]
    ("a text", lambda: render_call("calculator(1)"), "expected a ToolCall, found"),  # type: ignore[arg-type]
    ("a tool", lambda: reward(TASKS["math"].tool), "expected a Task or the name of one"),  # type: ignore[arg-type]
    ("null", lambda: environment(None), "expected a Task or the name of one"),  # type: ignore[arg-type]
    ("rows", lambda: load_recipe("demo", rows=0), "rows must be an integer of at least 1, found 0"),
    ("rows", lambda: load_recipe("demo", rows="5"), "rows must be an integer of at least 1"),  # type: ignore[arg-type]
    ("sources", lambda: load_source(["gsm8k"]), "unknown source"),  # type: ignore[arg-type]
    ("a device", lambda: load_model("no/model", device="gpu"), "unknown device 'gpu'; choose from"),
    ("a language", lambda: translator("m", languages="de"), "languages must be a list"),
    ("a length", lambda: translator("m", max_tokens=0.5), "max_tokens must be an integer"),  # type: ignore[arg-type]
    ("a port", lambda: search_endpoint(8893), "expected a URL, found int"),  # type: ignore[arg-type]
    ("a name", lambda: load_trice("data", task="math"), "task: expected a Task, or a mapping"),  # type: ignore[arg-type]
    ("a column", lambda: step(reads="text"), "reads: expected a list of column names, found 'text'"),
    ("a column", lambda: step(removes="text"), "removes: expected a list of column names, found 'text'"),
    ("a name", lambda: step(function="add"), "function: expected a function, found 'add'"),
    ("names", lambda: step(adds=["n"]), "adds: expected a mapping"),
    ("a name", lambda: keep(TABLE, "add", reads=["id"], stage="s"), "judge: expected a function"),  # type: ignore[arg-type]
    ("a column", lambda: keep(TABLE, add, reads="id", stage="s"), "reads: expected a list"),
    ("null", lambda: keep(TABLE, add, reads=["id"], stage=None), "stage: expected a name"),  # type: ignore[arg-type]
    ("names", lambda: rows(features=["id"]), "features: expected a mapping"),
    ("rows of a batch", lambda: rows(batch_rows=0), "batch_rows must be an integer of at least 1"),
    ("a file", lambda: release(recipe="recipe.yaml"), "recipe= must be a RecipeFile"),
    ("a title", lambda: release(card="My data"), "card= must be a Mapping"),
    ("a text", lambda: release(provenance="by me"), "provenance= must be a Mapping"),
    ("a text as flag", lambda: release(replace="no"), "replace= must be a bool"),
    ("a text as flag", lambda: grade(TABLE, compat="no"), "compat must be True or False"),  # type: ignore[arg-type]
    ("a text as flag", lambda: Responder("r", MODEL, strip_reasoning="no"), "strip_reasoning must be"),  # type: ignore[arg-type]
    ("a text as flag", lambda: trajectories(TABLE, keep_thought="no"), "keep_thought must be"),  # type: ignore[arg-type]
    ("a text as flag", lambda: propose_calls(TABLE, ANNOTATIONS, compat="no"), "compat must be"),  # type: ignore[arg-type]
    ("a text as flag", lambda: propose_calls(TABLE, ANNOTATIONS, verify="no"), "verify must be"),  # type: ignore[arg-type]
    ("a text as flag", lambda: load_recipe("demo", all_rows="no"), "all_rows must be"),  # type: ignore[arg-type]
    ("a text as flag", lambda: step(batched="no"), "batched: expected True or False, found 'no'"),
    ("null as flag", lambda: release(replace=None), "replace= must be a bool"),
    ("no folder", lambda: load_source("sample_trajectories", data_dir="no_such"), "neither a file nor a folder"),
    ("a number", lambda: rescore(TABLE, "paper", trusted=5), "trusted: expected a list"),  # type: ignore[arg-type]
    ("a number", lambda: subset(TABLE, 5, apart_from=5), "apart_from: expected a table"),
    ("a number", lambda: show(TABLE, where=5), "where: expected columns"),  # type: ignore[arg-type]
    ("a number", lambda: tokenise(NO_SAMPLES, 5), "the model of the tokenizer must be a name"),  # type: ignore[arg-type]
    ("a text", lambda: tokenise(TABLE, "m", options="x"), "options: expected a mapping"),  # type: ignore[arg-type]
    ("no name of an adapter", lambda: load_model("no/model", adapter=""), "adapter must be a name"),
    ("a list", lambda: load_model(["m"]), "model must be a name"),  # type: ignore[arg-type]
    ("a list", lambda: logprobs(TABLE, MODEL, devices=5), "devices: expected a list"),  # type: ignore[arg-type]
    ("rows", lambda: warm_up(ROWS, EngineSpec("local", "m")), "expected a datasets.Dataset"),
    ("a stage", lambda: rows(stage=["s"]), "stage: expected a name"),
    ("a list", lambda: diff(["a"], "b"), "expected a folder or a repository"),  # type: ignore[arg-type]
    ("a list", lambda: write_report(["a"]), "expected a folder or a repository"),  # type: ignore[arg-type]
    ("no path", lambda: write_report("a", out=3), "out: expected a path"),  # type: ignore[arg-type]
    ("texts", lambda: audit_grader(TASKS["math"], ["x"]), "expected questions with a list of answers"),  # type: ignore[list-item]
    ("a list", lambda: parse_call(["x"], "calculator"), "text: expected a text"),  # type: ignore[arg-type]
    ("a number", lambda: parse_call("x", 5), "tools: expected one or more tools"),  # type: ignore[arg-type]
    ("a name", lambda: train(TABLE, "my/model"), "base: expected an EngineSpec"),  # type: ignore[arg-type]
    ("a number", lambda: train(TABLE, EngineSpec("local", "m"), kept_steps=5), "kept_steps: expected"),  # type: ignore[arg-type]
    ("a text as flag", lambda: evaluate(MODEL, TABLE, tools="no"), "tools must be True"),  # type: ignore[arg-type]
]

# What selects one of several names, with a list; and a number as a path.
NAMES: dict[str, Callable[[Any], object]] = {
    "answer style": lambda value: answer(TABLE, MODEL, style=value),
    "prompt": lambda value: render_prompt(value, "a", "b"),
    "propose_calls style": lambda value: propose_calls(TABLE, MODEL, style=value),
    "responder style": lambda value: Responder("r", MODEL, style=value),
    "responder protocol": lambda value: Responder("r", MODEL, protocol=value),
    "reader style": lambda value: replace(TASKS["math"], reader_style=value),
    "layout": lambda value: release(layout=value),
    "lacking": lambda value: build_stage2(TABLE, lacking=value),
    "trajectories layout": lambda value: trajectories(TABLE, layout=value),
    "trajectories style": lambda value: trajectories(TABLE, style=value),
    "trajectories steps": lambda value: trajectories(TABLE, steps=value),
    "search": lambda value: Method(kind=value),
    "search protocol": lambda value: search(protocol=value),
    "tokens": lambda value: tokenise(TABLE, "m", too_long=value),
    "format": lambda value: export(TABLE, value, "out.jsonl"),
    "unfit": lambda value: export(TABLE, "openai", "out.jsonl", unfit=value),
    "calls": lambda value: export(TABLE, "trl-sft", "out.jsonl", calls=value),
    "trainer": lambda value: to_trainer(TABLE, value),
    "reader": lambda value: qa_model("m", kind=value),
}
PATHS: dict[str, Callable[[Any], object]] = {
    "out": lambda path: publish({"math": {"rows": TABLE}}, path, version="1.0.0"),
    "export": lambda path: export(Dataset.from_dict({n: [] for n in STAGE1}, features=STAGE1), "openai", path),
    "answers": lambda path: write_answers(Dataset.from_dict({n: [] for n in ANSWERS}, features=ANSWERS), path),
    "data_dir": lambda path: load_source("gsm8k", data_dir=path),
    "trice": load_trice,
    "recipe": load_recipe,
    "corpus": wiki_search,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [["chat"], {"chat"}, 5])
def test_what_is_not_a_name_is_refused(name: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"unknown|choose from"):
        NAMES[name](value)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("path", [5, ["folder"], None, b"folder"])
def test_what_is_not_a_path_is_refused(name: str, path: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"expected a path, found|pass data_dir=|expected a Dataset|corpus"):
        PATHS[name](path)


def search(**changes: Any) -> object:
    arguments: dict[str, Any] = {"queries": ["Is a up?"], "functions": [ping], "engine": MODEL, "method": Method()}
    return generate_trajectories(**{**arguments, **changes})


def step(**changes: Any) -> object:
    arguments: dict[str, Any] = {"function": add, "reads": ["id"], "adds": {"n": STRING}}
    return apply(TABLE, **{**arguments, **changes})


def rows(**changes: Any) -> object:
    arguments: dict[str, Any] = {"reads": ["id"], "features": {"id": STRING}, "stage": "s"}
    return explode(TABLE, add, **{**arguments, **changes})


def release(**changes: Any) -> object:
    return publish({"math": {"rows": TABLE}}, "out", version="1.0.0", **changes)


@pytest.mark.parametrize(("call", "message"), [case[1:] for case in MISTAKES], ids=[case[0] for case in MISTAKES])
def test_a_wrong_argument_is_a_clear_error(
    call: Callable[[], object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        call()
    assert list(tmp_path.iterdir()) == [], "nothing is written"
