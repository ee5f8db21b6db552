"""The recipe of a published folder: recipe.yaml, without secrets, local paths, private addresses and comments."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import get_token

from toolrlef_data.records import InputError
from toolrlef_data.tables.redaction import redact

__all__ = ["RECIPE_KEY", "RecipeFile", "commit_of", "date_of"]

RECIPE_KEY = "recipe"  # of provenance.json
# Tokens of the Hub, of OpenAI and providers with its form of keys, of GitHub, of Google and of AWS.
TOKEN = re.compile(r"\b(hf_|sk-|gh[pousr]_|github_pat_|AIza|AKIA)[A-Za-z0-9_-]{12,}")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # of an environment variable
MIN_SECRET = 8  # characters of a value of a variable; shorter ones, such as "EMPTY", are no secrets
GIT_SECONDS = 10  # a network drive can be slow


@dataclass(frozen=True)
class RecipeFile:
    """A recipe to publish.

    Args:
        values: the recipe as it ran: sections with plain values.
        commit: id of the commit with the recipe's file; None if it is unknown.
        date: date of that commit, such as "2026-11-30"; None if it is unknown.
    """

    values: Mapping[str, Any]
    commit: str | None = None
    date: str | None = None

    def text(self) -> str:
        """Return the contents of recipe.yaml.

        Raises:
            InputError: a value holds a token, or the value of an environment variable that the recipe names.

        >>> print(RecipeFile({"name": "sums", "sources": [{"name": "gsm8k", "data_dir": "/home/me/rows"}]}).text())
        name: sums
        sources:
        - name: gsm8k
          data_dir: rows
        <BLANKLINE>
        """
        texts = dict(_texts(self.values, ()))
        named = {name for text in texts.values() for name in NAME.findall(text)}
        secrets = [secret for secret in (*map(os.environ.get, named), get_token()) if secret]
        secrets = [secret for secret in secrets if len(secret) >= MIN_SECRET]
        for place, text in texts.items():
            if TOKEN.search(text) or any(secret in text for secret in secrets):
                raise InputError(
                    f"the recipe holds a secret at {'.'.join(place)}, and would be published: name an environment "
                    "variable instead, as in keys: MY_KEY"
                )
        return yaml.safe_dump(redact(self.values), sort_keys=False, allow_unicode=True, width=120)


def _texts(value: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (place, text) of all keys and values."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield (*place, "(key)"), str(key)
            yield from _texts(part, (*place, str(key)))
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            yield from _texts(part, (*place, str(number)))
    else:
        yield place, str(value)


def commit_of(file: Path) -> str | None:
    """Return the id of the git commit that last changed a file; None if it is in none, or has changed since."""
    return _last_commit(file, "%H")


def date_of(file: Path) -> str | None:
    """Return the date of the git commit that last changed a file; None if it is in none, or has changed since."""
    return _last_commit(file, "%cs")


def _last_commit(file: Path, format: str) -> str | None:
    git = shutil.which("git")
    if git is None or not file.is_file():
        return None

    def output(*arguments: str) -> str | None:
        command = [git, "-C", str(file.resolve().parent), *arguments, "--", file.resolve().name]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)  # noqa: S603
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    if output("status", "--porcelain", "--ignored") != "":
        return None
    return output("log", "-1", f"--format={format}") or None
