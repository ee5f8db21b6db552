"""The command `cache`: what the caches take on disk, and the removal of stages and replies."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from toolrlef_data.cli.console import print_line, print_parts, text_table
from toolrlef_data.records import InputError

__all__ = ["cache"]

HOURS = {"h": 1, "d": 24, "w": 168}
_age = re.compile(r"(\d{1,5})([hdw])").fullmatch


def cache(
    older_than: Annotated[
        str | None, typer.Option(help="Remove stages that were not used for this time: 12h, 30d or 4w.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Remove the stages behind the published folder of this recipe.")
    ] = None,
    keep: Annotated[
        list[Path] | None,
        typer.Option(help="Remove all stages but those behind this published folder; can be repeated."),
    ] = None,
    replies: Annotated[
        bool, typer.Option("--replies", help="Remove all stored replies. Their requests are paid again.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove replies without a question.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed, and remove nothing.")] = False,
    format: Annotated[str, typer.Option(help="table or json.")] = "table",  # the name of the option
) -> None:
    """Show what stages, replies, indexes, models and adapters take on disk, or remove stages. Options are combined."""
    from toolrlef_data.choices import check_choice
    from toolrlef_data.tables.cache.processes import in_use_since
    from toolrlef_data.tables.cache.removal import choose_stages, remove_stages, size_of, stored_stages
    from toolrlef_data.tables.stage_cache import stages_dir

    check_choice("format", format, ("table", "json"))
    limits = [] if older_than is None else [time.time_ns() - _nanoseconds(older_than)]
    only = None if recipe is None else _recipe_stages(recipe)
    kept = {key for folder in keep or () for key in _stages_behind(folder)}
    facts: dict[str, Any] = {}
    if older_than is not None or recipe is not None or keep:
        in_use = in_use_since(stages_dir())
        limits += [in_use] if in_use is not None else []
        stages = stored_stages()
        chosen = choose_stages(stages, used_before=min(limits, default=None), only=only, keep=kept)
        expected = size_of(stages)[0] - size_of(set(stages) - set(chosen))[0]
        n_bytes = expected if dry_run else remove_stages(chosen, stages)
        facts["stages"] = {"removed": len(chosen), "bytes": n_bytes, "kept": len(stages) - len(chosen)}
        facts["stages"]["in_use"] = in_use is not None
    if replies:
        facts["replies"] = _remove_replies(yes, dry_run)
    stages = stored_stages()
    facts["caches"] = _sizes(size_of(stages), max((stage.last_use for stage in stages), default=0))
    if format == "json":
        print_line(json.dumps({**facts, "dry_run": dry_run}, indent=1))
    else:
        _print(facts, dry_run)


def _nanoseconds(age: str) -> int:
    match = _age(age)
    if match is None:
        raise InputError(f"--older-than: expected hours, days or weeks, such as 12h, 30d or 4w, found {age!r}")
    return int(match[1]) * HOURS[match[2]] * 3_600_000_000_000


def _recipe_stages(recipe: str) -> set[str]:
    from toolrlef_data.recipes.loading import load_recipe

    return _stages_behind(Path(load_recipe(recipe).out))


def _stages_behind(folder: Path) -> set[str]:
    """Return the fingerprints of the stages in the lineage of a published folder."""
    path = folder / "provenance.json"
    try:
        stages = json.loads(path.read_text(encoding="utf-8"))["stages"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{folder} has no provenance.json of a published data set: its stages are unknown") from None
    return set(stages)


# Sizes ----------------------------------------------------------------------------------------------------------------


def _sizes(stages: tuple[int, int], last_use: int) -> dict[str, dict[str, Any]]:
    """Return kind -> path, bytes, files and last use of each cache."""
    from toolrlef_data.tables.files import home_dir
    from toolrlef_data.tables.stage_cache import stages_dir

    sizes = {"stages": _entry(stages_dir(), *stages, last_use)}
    sizes["replies"] = _files_entry(_reply_files()[0], _reply_files())
    for kind, name in (("indexes", "indexes"), ("models", "converted"), ("adapters", "adapters")):
        folder = home_dir() / name
        sizes[kind] = _files_entry(folder, (path for path in folder.rglob("*") if not path.is_symlink()))
    return sizes


def _files_entry(path: Path, files: Iterable[Path]) -> dict[str, Any]:
    stats = [file.stat() for file in files if file.is_file()]
    last_use = max((max(stat.st_atime_ns, stat.st_mtime_ns) for stat in stats), default=0)
    return _entry(path, sum(stat.st_size for stat in stats), len(stats), last_use)


def _entry(path: Path, n_bytes: int, files: int, last_use: int) -> dict[str, Any]:
    day = time.strftime("%Y-%m-%d", time.localtime(last_use / 1e9)) if last_use else None
    return {"path": str(path), "bytes": n_bytes, "files": files, "last_use": day}


def _print(facts: Mapping[str, Any], dry_run: bool) -> None:
    rows = [
        (kind, _megabytes(entry["bytes"]), f"{entry['files']:,}", entry["last_use"] or "never")
        for kind, entry in facts["caches"].items()
    ]
    print_parts(text_table("Caches", ["", "size", "files", "last use"], rows))
    for kind, entry in facts["caches"].items():
        print_line(f"{kind}: {entry['path']}")
    word = "Would remove" if dry_run else "Removed"
    if stages := facts.get("stages"):
        print_line(f"{word} {stages['removed']:,} stages ({_megabytes(stages['bytes'])}); {stages['kept']:,} are kept.")
        if stages["in_use"]:
            print_line("A process is running: the stages that were used since it started are kept.")
    if facts.get("replies") is not None:
        print_line(f"{word} the replies ({_megabytes(facts['replies']['bytes'])}).")


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"


# Replies --------------------------------------------------------------------------------------------------------------


def _reply_files() -> list[Path]:
    """Return the paths of the reply store and of its logs."""
    from toolrlef_data.engines.reply_store import store_path

    path = store_path()
    return [path, *(path.with_name(f"{path.name}{end}") for end in ("-wal", "-shm"))]


def _remove_replies(yes: bool, dry_run: bool) -> dict[str, Any]:
    """Remove the reply store after a question, unless a process uses it."""
    from toolrlef_data.tables.cache.processes import in_use_since, is_locked
    from toolrlef_data.tables.stage_cache import stages_dir

    files = [path for path in _reply_files() if path.is_file()]
    n_bytes = sum(path.stat().st_size for path in files)
    owners = _reply_files()[0].with_name(f"{_reply_files()[0].name}.owners")
    locks = (path for path in owners.glob("*") if path.is_file())
    if in_use_since(stages_dir()) is not None or any(map(is_locked, locks)):
        raise InputError("a process is running that may use the replies: wait until it has ended")
    if not dry_run and files:
        if not yes:
            question = f"Remove {files[0]} ({_megabytes(n_bytes)})? All requests will be sent and paid again."
            typer.confirm(question, abort=True)
        for path in files:
            path.unlink(missing_ok=True)
    return {"bytes": n_bytes, "files": len(files)}
