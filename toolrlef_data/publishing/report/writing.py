"""Write the report: one HTML file with the page, the figures and the compressed rows."""

from __future__ import annotations

import base64
import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path

import jinja2

from toolrlef_data.checks import as_path
from toolrlef_data.publishing.hub.versions import Version, version_of
from toolrlef_data.publishing.markdown import visible
from toolrlef_data.publishing.report.card_figures import card_figures
from toolrlef_data.publishing.report.rows import json_lines
from toolrlef_data.records import InputError, clean_text
from toolrlef_data.tables.redaction import redact_path

__all__ = ["write_report"]

MARK = "<!doctype html>\n<!-- report of toolrlef_data -->"  # the beginning of every report
PAGE = resources.files("toolrlef_data.publishing.report") / "page"
STYLE, TEMPLATE = "page.css", "page.html.jinja"
# In the order of the page's only script, which they form together.
SCRIPTS = ("elements.js", "rows.js", "filters.js", "list.js", "opened.js", "changes.js", "start.js")
GZIP = 31  # window size of zlib for the gzip format
ROWS = "<!-- rows -->"  # in the template; not in names, whose special characters are escaped
CHUNK_BYTES = 3 << 16  # a multiple of 3, so that the base64 texts of chunks can be joined


def write_report(
    folder: str | Path, later: str | Path | None = None, *, out: str | Path = "report.html", token: str | None = None
) -> Path:
    """Write a report of a published data set, or of two versions of it, as one HTML file that needs no network.

    Args:
        folder: a published folder, the id of a repository (its newest tag), or "id@tag".
        later: a later version to compare with. Default: none.
        out: the file; an earlier report is replaced. Default: report.html.
        token: access token for the Hub, as in `diff`.

    Returns:
        The file.

    Raises:
        InputError: `publish` or `push_to_hub` did not write a version, or `out` is a file that is no report.
        HubError: the Hub refused a request or could not be reached.

    >>> import tempfile
    >>> from datasets import Dataset
    >>> from toolrlef_data import publish
    >>> table = Dataset.from_list([{"id": "1", "question": "1 + 1?"}])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     data = publish({"math": {"questions": table}}, f"{folder}/data", version="1.0.0")
    ...     print(write_report(data, out=f"{folder}/report.html").name)
    report.html
    """
    path = as_path("out", out)
    _check_target(path)
    versions = [version_of(what, token) for what in (folder, later) if what is not None]
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(_page(versions))
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    return path


def _check_target(path: Path) -> None:
    """Raise InputError unless a report can be written to a path."""
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"out: expected the path of a file in an existing folder, found {path}")
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(MARK)) != MARK.encode():
                raise InputError(f"{path} is not a report: move it away, or choose another file with out= (--out)")


def _page(versions: list[Version]) -> Iterator[str]:
    """Yield the parts of the HTML file."""
    style, template, *scripts = (
        PAGE.joinpath(name).read_text(encoding="utf-8") for name in (STYLE, TEMPLATE, *SCRIPTS)
    )
    script = "\n".join(scripts)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    text = environment.from_string(template).render(
        title=visible(redact_path(versions[-1].name)),
        versions=[(visible(redact_path(one.name)), one.facts["version"]) for one in versions],
        figures=card_figures(versions),
        style=style,
        style_hash=_csp_hash(style),
        script=script,
        script_hash=_csp_hash(script),
    )
    before, _, after = clean_text(text).partition(ROWS)
    yield before
    yield from _compressed(json_lines(*versions))
    yield after


def _csp_hash(text: str) -> str:
    """Return the source of an inline script or style for a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _compressed(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines as gzip in base64, which has no character that ends an HTML element."""
    packer = zlib.compressobj(6, zlib.DEFLATED, GZIP)
    pending = bytearray()
    for line in lines:
        pending += packer.compress(f"{line}\n".encode())
        if len(pending) >= CHUNK_BYTES:
            yield base64.b64encode(pending[:CHUNK_BYTES]).decode()
            del pending[:CHUNK_BYTES]
    yield base64.b64encode(pending + packer.flush()).decode()
