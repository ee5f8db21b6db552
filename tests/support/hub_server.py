"""A Hub server for tests: dataset repositories in memory, with commits, branches, tags, pull requests and LFS uploads.

The client must run with HF_HUB_DISABLE_XET=1, because this server has no Xet storage. Faults are planted by request:
`fault` receives the number, method and path of each request. It returns None, a status, "cut" to close the connection, or
"lost" to close it after the request was executed.

Not covered: permissions (every token is accepted), Xet, the dataset viewer, and the limits of the real Hub.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Files = dict[str, bytes]
Fault = Callable[[int, str, str], "int | str | None"]
LFS_SUFFIXES = (".parquet", ".png")
MAX_REGULAR = 10_000_000  # bytes; larger files go to LFS


@dataclass
class Repository:
    """One dataset repository: commits by id, and the refs that name them."""

    commits: dict[str, tuple[str, str | None, Files]] = field(default_factory=dict)  # id -> (title, parent, files)
    refs: dict[str, str] = field(default_factory=dict)  # "refs/heads/main" -> commit id
    private: bool = False

    def commit(self, ref: str, title: str, files: Files) -> str:
        """Add a commit on a ref, and return its id."""
        parent = self.refs.get(ref)
        content = json.dumps([title, parent, sorted((path, blob_id(data)) for path, data in files.items())])
        oid = hashlib.sha1(f"{len(self.commits)} {content}".encode()).hexdigest()
        self.commits[oid] = (title, parent, dict(files))
        self.refs[ref] = oid
        return oid

    def resolve(self, revision: str) -> str | None:
        """Return the commit of a branch, tag, full ref or commit id; None if there is none."""
        for ref in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if ref in self.refs:
                return self.refs[ref]
        return revision if revision in self.commits else None

    def files(self, revision: str = "main") -> Files:
        """Return path -> content at a revision."""
        oid = self.resolve(revision)
        return dict(self.commits[oid][2]) if oid else {}

    @property
    def tags(self) -> dict[str, str]:
        """Tag -> commit id."""
        return {ref.removeprefix("refs/tags/"): oid for ref, oid in self.refs.items() if ref.startswith("refs/tags/")}


class HubServer(ThreadingHTTPServer):
    """The server. `requests` lists (method, path) of each request, `headers` their headers, `uploads` the LFS ids."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}  # LFS objects by SHA-256
        self.uploads: list[str] = []
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.fault: Fault = lambda number, method, path: None
        self.fault_message = "planted"
        self.fault_headers: dict[str, str] = {}
        self.lock = threading.RLock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report nothing: clients that are cut off close their connections."""


@contextmanager
def serve_hub() -> Iterator[HubServer]:
    """Yield a running Hub server without repositories."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def blob_id(data: bytes) -> str:
    """Return git's id of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class HubError(Exception):
    """An error response: status, code and message."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        self.status, self.code, self.message = status, code, message or code


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a response is sent in two parts
    server: HubServer

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def _handle(self) -> None:
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        path = unquote(url.path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.lock:
            self.server.requests.append((self.command, path))
            self.server.headers.append(dict(self.headers))
            fault = self.server.fault(len(self.server.requests), self.command, path)
        self.cut = fault in ("cut", "lost")
        if fault == "cut":
            self._send(500, {})
            return
        if isinstance(fault, int):
            self._send(fault, {"error": self.server.fault_message}, self.server.fault_headers)
            return
        try:
            with self.server.lock:
                for pattern, method, function in ROUTES:
                    found = re.fullmatch(pattern, path)
                    if found and self.command in method:
                        function(self, **found.groupdict())
                        return
            self._send(404, {"error": f"no route {self.command} {path}"}, {"X-Error-Code": "EntryNotFound"})
        except HubError as error:
            self._send(
                error.status, {"error": error.message}, {"X-Error-Code": error.code, "X-Error-Message": error.message}
            )

    def _send(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        if self.cut:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815

    def _repository(self, name: str) -> Repository:
        if name not in self.server.repositories:
            raise HubError(404, "RepoNotFound", "Repository not found")
        return self.server.repositories[name]

    def _commit_of(self, name: str, revision: str) -> str:
        oid = self._repository(name).resolve(revision)
        if oid is None:
            raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return oid

    def _entry(self, path: str, data: bytes) -> dict[str, Any]:
        entry = {"type": "file", "oid": blob_id(data), "size": len(data), "path": path}
        if is_lfs(path, len(data)):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return entry

    # Repositories and refs --------------------------------------------------------------------------------------------

    def create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else f"user/{asked['name']}"
        exists = name in self.server.repositories
        if not exists:
            private = bool(asked.get("private")) or asked.get("visibility") == "private"
            repository = self.server.repositories[name] = Repository(private=private)
            repository.commit("refs/heads/main", "initial commit", {".gitattributes": b"*.parquet filter=lfs\n"})
        url = f"{self.server.url}/datasets/{name}"
        self._send(409 if exists else 200, {"url": url, "name": name, "id": name})

    def info(self, name: str, revision: str = "main") -> None:
        repository, oid = self._repository(name), self._commit_of(name, revision)
        siblings = [{"rfilename": path} for path in sorted(repository.commits[oid][2])]
        self._send(200, {"id": name, "sha": oid, "private": repository.private, "siblings": siblings, "tags": []})

    def list_refs(self, name: str) -> None:
        def those(prefix: str) -> list[dict[str, str]]:
            refs = self._repository(name).refs.items()
            return [
                {"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": oid}
                for ref, oid in refs
                if ref.startswith(prefix)
            ]

        pulls = [{**ref, "name": ref["ref"]} for ref in those("refs/pr/")]
        value = {"branches": those("refs/heads/"), "tags": those("refs/tags/"), "converts": [], "pullRequests": pulls}
        self._send(200, value)

    def add_tag(self, name: str, revision: str) -> None:
        tag, oid = json.loads(self.body)["tag"], self._commit_of(name, revision)
        if tag in self._repository(name).tags:
            raise HubError(409, "TagExists", "Tag reference exists already")
        self._repository(name).refs[f"refs/tags/{tag}"] = oid
        self._send(200, {})

    def delete_tag(self, name: str, revision: str) -> None:
        if self._repository(name).refs.pop(f"refs/tags/{revision}", None) is None:
            raise HubError(404, "RevisionNotFound", "Tag not found")
        self._send(200, {})

    def add_branch(self, name: str, revision: str) -> None:
        start = json.loads(self.body or b"{}").get("startingPoint") or "main"
        if f"refs/heads/{revision}" in self._repository(name).refs:
            raise HubError(409, "BranchExists", "Reference already exists")
        self._repository(name).refs[f"refs/heads/{revision}"] = self._commit_of(name, start)
        self._send(200, {})

    def list_commits(self, name: str, revision: str) -> None:
        commits, oid = [], self._commit_of(name, revision)
        while oid is not None:
            title, parent, _ = self._repository(name).commits[oid]
            date = "2026-01-01T00:00:00.000Z"
            commits.append({"id": oid, "title": title, "message": "", "date": date, "authors": []})
            oid = parent  # type: ignore[assignment]
        self._send(200, commits if self.query.get("p", ["0"]) == ["0"] else [])

    # Uploads ----------------------------------------------------------------------------------------------------------

    def validate_yaml(self) -> None:
        self._send(200, {"errors": [], "warnings": []})

    def preupload(self, name: str, revision: str) -> None:
        files = self._repository(name).commits[self._commit_of(name, revision)][2]
        answers = []
        for asked in json.loads(self.body)["files"]:
            path = asked["path"]
            lfs = is_lfs(path, asked["size"])
            data = files.get(path)
            oid = None if data is None else hashlib.sha256(data).hexdigest() if lfs else blob_id(data)
            answers.append({"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False, "oid": oid})
        self._send(200, {"files": answers})

    def lfs_batch(self, name: str) -> None:
        self._repository(name)
        objects = []
        for asked in json.loads(self.body)["objects"]:
            upload = {"upload": {"href": f"{self.server.url}/lfs/{asked['oid']}", "header": {}}}
            objects.append({**asked, **({} if asked["oid"] in self.server.objects else {"actions": upload})})
        self._send(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise HubError(400, "BadObject", "the content does not match its id")
        self.server.objects[oid] = self.body
        self.server.uploads.append(oid)
        self._send(200, {}, {"ETag": f'"{oid}"'})

    def commit(self, name: str, revision: str) -> None:
        repository, head = self._repository(name), self._commit_of(name, revision)
        lines = [json.loads(line) for line in self.body.decode().splitlines() if line]
        header = lines[0]["value"]
        pull = self.query.get("create_pr") == ["1"]
        if header.get("parentCommit") not in (None, head) and not pull:
            raise HubError(412, "Conflict", "A commit has happened since. Please refresh and try again.")
        files = dict(repository.commits[head][2])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.server.objects:
                    raise HubError(400, "BadObject", f"LFS object {value['oid']} is missing")
                files[value["path"]] = self.server.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                if files.pop(value["path"], None) is None:
                    raise HubError(404, "EntryNotFound", "A file with this name doesn't exist")
            elif line["key"] == "deletedFolder":
                files = {path: data for path, data in files.items() if not path.startswith(value["path"])}
        number = sum(ref.startswith("refs/pr/") for ref in repository.refs) + 1
        ref = f"refs/pr/{number}" if pull else f"refs/heads/{revision}"
        if pull:
            repository.refs[ref] = head
        elif ref not in repository.refs:
            raise HubError(404, "RevisionNotFound", f"{revision} is not a branch")
        oid = repository.commit(ref, header["summary"], files)
        value = {"success": True, "commitOid": oid, "commitUrl": f"{self.server.url}/datasets/{name}/commit/{oid}"}
        if pull:
            value["pullRequestUrl"] = f"{self.server.url}/datasets/{name}/discussions/{number}"
        self._send(200, value)

    # Files ------------------------------------------------------------------------------------------------------------

    def tree(self, name: str, revision: str, folder: str = "") -> None:
        files = self._repository(name).commits[self._commit_of(name, revision)][2]
        prefix = f"{folder.strip('/')}/" if folder else ""
        inside = {path: data for path, data in files.items() if path.startswith(prefix)}
        if prefix and not inside:
            raise HubError(404, "EntryNotFound", f"{folder} does not exist")
        recursive = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        folders = {
            "/".join(path.split("/")[:depth])
            for path in inside
            for depth in range(prefix.count("/") + 1, path.count("/") + 1 if recursive else prefix.count("/") + 2)
            if path.count("/") >= depth
        }
        entries = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": path} for path in sorted(folders)]
        entries += [
            self._entry(path, data)
            for path, data in sorted(inside.items())
            if recursive or "/" not in path.removeprefix(prefix)
        ]
        self._send(200, entries)

    def paths_info(self, name: str, revision: str) -> None:
        files = self._repository(name).commits[self._commit_of(name, revision)][2]
        if self.headers.get("Content-Type", "").startswith("application/json"):
            paths = json.loads(self.body)["paths"]
        else:
            paths = parse_qs(self.body.decode())["paths"]
        self._send(200, [self._entry(path, files[path]) for path in paths if path in files])

    def resolve(self, name: str, revision: str, file: str) -> None:
        oid = self._commit_of(name, revision)
        data = self._repository(name).commits[oid][2].get(file)
        if data is None:
            headers = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found", "X-Repo-Commit": oid}
            self._send(404, {"error": "Entry not found"}, headers)
            return
        etag = hashlib.sha256(data).hexdigest() if is_lfs(file, len(data)) else blob_id(data)
        headers = {"X-Repo-Commit": oid, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if span:
            start, end = int(span[1]), min(int(span[2] or len(data) - 1), len(data) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
            self._send(206, data[start : end + 1], headers)
        else:
            self._send(200, data, headers)


def is_lfs(path: str, size: int) -> bool:
    """Return whether the Hub stores a file in LFS."""
    return path.endswith(LFS_SUFFIXES) or size > MAX_REGULAR


_NAME = r"(?P<name>[^/]+/[^/]+)"
_API = rf"/api/datasets/{_NAME}"
_REVISION = r"(?P<revision>refs/(?:heads|tags|pr)/[^/]+|[^/]+)"
ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("/api/repos/create", "POST", Handler.create),
    ("/api/validate-yaml", "POST", Handler.validate_yaml),
    (_API, "GET", Handler.info),
    (rf"{_API}/revision/{_REVISION}", "GET", Handler.info),
    (rf"{_API}/refs", "GET", Handler.list_refs),
    (rf"{_API}/tag/{_REVISION}", "POST", Handler.add_tag),
    (rf"{_API}/tag/{_REVISION}", "DELETE", Handler.delete_tag),
    (rf"{_API}/branch/{_REVISION}", "POST", Handler.add_branch),
    (rf"{_API}/commits/{_REVISION}", "GET", Handler.list_commits),
    (rf"{_API}/preupload/{_REVISION}", "POST", Handler.preupload),
    (rf"/datasets/{_NAME}\.git/info/lfs/objects/batch", "POST", Handler.lfs_batch),
    (r"/lfs/(?P<oid>[0-9a-f]{64})", "PUT", Handler.lfs_put),
    (rf"{_API}/commit/{_REVISION}", "POST", Handler.commit),
    (rf"{_API}/tree/{_REVISION}(?:/(?P<folder>.+))?", "GET", Handler.tree),
    (rf"{_API}/paths-info/{_REVISION}", "POST", Handler.paths_info),
    (rf"/datasets/{_NAME}/resolve/{_REVISION}/(?P<file>.+)", "GETHEAD", Handler.resolve),
]
