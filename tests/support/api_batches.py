"""The batch endpoints of the scripted server, in memory; see `api_server`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from re import search
from typing import TYPE_CHECKING, Any

from tests.support.api_replies import (
    ENDPOINTS,
    BatchPlan,
    ReceivedRequest,
    ServerReply,
    error,
    new_id,
    unix_now,
)

if TYPE_CHECKING:
    from tests.support.api_server import ApiServer


@dataclass
class _Job:
    batch: dict[str, Any]
    lines: list[dict[str, Any]]
    plan: BatchPlan
    number: int
    polls: int = 0


class Batches:
    """Files and batches in memory; a batch advances one status with each poll and each listing."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.files: dict[str, tuple[dict[str, Any], bytes]] = {}
        self.jobs: dict[str, _Job] = {}

    def add_file(self, name: str, purpose: str, content: bytes) -> dict[str, Any]:
        """Store a file and return its object."""
        file = {"object": "file", "bytes": len(content), "created_at": unix_now(), "filename": name}
        file |= {"id": (file_id := new_id("file")), "purpose": purpose, "status": "processed"}
        self.files[file_id] = (file, content)
        return file

    def upload(self, received: ReceivedRequest) -> ServerReply:
        """POST /v1/files."""
        boundary = search(r'boundary="?([^";]+)', received.headers.get("content-type", ""))
        fields: dict[str, tuple[str, bytes]] = {}
        separator = b"\r\n--" + boundary[1].encode() if boundary else b"\0"
        for part in (b"\r\n" + received.raw).split(separator)[1:-1]:
            head, _, content = part.partition(b"\r\n\r\n")
            name, filename = (search(rb"[ ;]" + word + rb'="([^"]*)"', head) for word in (b"name", b"filename"))
            fields[name[1].decode() if name else ""] = (filename[1].decode() if filename else "", content)
        if "file" not in fields or "purpose" not in fields:
            return error(400, None, f"A file and its purpose are needed, found {sorted(fields)}.")
        return ServerReply(body=self.add_file(fields["file"][0], fields["purpose"][1].decode(), fields["file"][1]))

    def create(self, received: ReceivedRequest) -> ServerReply:
        """POST /v1/batches."""
        body = received.body if isinstance(received.body, dict) else {}
        source, endpoint = self.files.get(body.get("input_file_id", "")), body.get("endpoint")
        if source is None or endpoint not in ENDPOINTS or body.get("completion_window") != "24h":
            return error(400, "invalid_value", "A known input_file_id, an endpoint and the window 24h are needed.")
        number = len(self.jobs)
        lines, mistake = _batch_lines(source[1], endpoint)
        plan = BatchPlan(failed=mistake) if mistake else self.server.batch_plan(number, lines)
        plan = replace(plan, status="failed") if plan.failed else plan
        batch = {name: body[name] for name in ("input_file_id", "endpoint", "completion_window")}
        batch |= {"id": new_id("batch"), "object": "batch", "status": "validating", "created_at": unix_now()}
        batch |= {"metadata": body.get("metadata"), "expires_at": unix_now() + 86400, "errors": None}
        batch |= {"output_file_id": None, "error_file_id": None}
        batch["request_counts"] = {"total": len(lines), "completed": 0, "failed": 0}
        self.jobs[batch["id"]] = _Job(batch, lines, plan, number)
        return ServerReply(body={**batch})

    def list_batches(self, query: Mapping[str, str]) -> ServerReply:
        """GET /v1/batches: newest first."""
        ids = list(reversed(self.jobs))
        ids = ids[ids.index(query["after"]) + 1 :] if query.get("after") in ids else ids
        page = ids[: int(query.get("limit", 20))]
        batches = [self.poll(self.jobs[batch_id]) for batch_id in page]
        ends = {"first_id": page[0] if page else None, "last_id": page[-1] if page else None}
        return ServerReply(body={"object": "list", "data": batches, **ends, "has_more": len(page) < len(ids)})

    def poll(self, job: _Job) -> dict[str, Any]:
        """Advance a batch by one status and return it."""
        batch, polls = job.batch, self.server.batch_polls
        if batch["status"] == "cancelling":
            self.end(job, "cancelled")
        elif batch["status"] in ("validating", "in_progress", "finalizing"):
            if job.polls >= polls:
                self.end(job, job.plan.status)
            elif job.plan.status != "failed":
                batch["status"] = "finalizing" if job.polls + 1 == polls > 1 else "in_progress"
                batch.setdefault(f"{batch['status']}_at", unix_now())
            job.polls += 1
        return {**batch}

    def cancel(self, job: _Job) -> ServerReply:
        """POST /v1/batches/ID/cancel: the next poll cancels the batch; only the lines of its plan run."""
        if job.batch["status"] not in ("validating", "in_progress", "finalizing"):
            return error(409, None, f"Cannot cancel a batch with status '{job.batch['status']}'.")
        job.plan = replace(job.plan, answered=job.plan.answered or ())
        job.batch |= {"status": "cancelling", "cancelling_at": unix_now()}
        return ServerReply(body={**job.batch})

    def end(self, job: _Job, status: str) -> None:
        """Run the lines that the plan selects, and write the output file and the error file with shuffled rows."""
        batch, plan = job.batch, job.plan
        batch |= {"status": status, f"{status}_at": unix_now()}
        if status == "failed":
            reason = plan.failed if isinstance(plan.failed, dict) else {"code": "batch_failed", "message": plan.failed}
            batch["errors"] = {"object": "list", "data": [{"line": None, "param": None, **reason}]}
            return
        output: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for index, line in enumerate(job.lines):
            result: ServerReply | dict[str, Any] | None = plan.errors.get(index)
            if result is None and (plan.answered is None or index in plan.answered):
                result = self.server.run_line(line)
            elif result is None and status != "completed" and not plan.is_silent:
                result = {"code": f"batch_{status}", "message": f"This request was not executed: the batch {status}."}
            row = {"id": new_id("batch_req"), "custom_id": line["custom_id"], "response": None, "error": None}
            if isinstance(result, ServerReply):
                row["response"] = {"status_code": result.status, "request_id": new_id("req"), "body": result.body}
            elif result is not None:
                row["error"] = result
            if result is not None:
                (output if isinstance(result, ServerReply) and result.status == 200 else failed).append(row)
        for rows, name in ((output, "output"), (failed, "error")):
            if rows:
                Random(job.number).shuffle(rows)
                content = "".join(json.dumps(row) + "\n" for row in rows).encode()
                batch[f"{name}_file_id"] = self.add_file(f"{batch['id']}_{name}.jsonl", "batch_output", content)["id"]
        batch["request_counts"] = {"total": len(job.lines), "completed": len(output), "failed": len(failed)}


def _batch_lines(content: bytes, endpoint: str) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return (lines of a batch file, first mistake or None); OpenAI's error codes are used where they are known."""
    lines: list[dict[str, Any]] = []
    ids: set[str] = set()
    for number, raw in enumerate(content.splitlines(), 1):
        try:
            line = json.loads(raw)
        except ValueError:
            return lines, {"code": "invalid_json_line", "line": number, "message": "This line is not JSON."}
        if not isinstance(line, dict) or not {"custom_id", "method", "url", "body"} <= line.keys():
            return lines, {"code": "missing_field", "line": number, "message": f"Found only {list(line)}."}
        if line["url"] != endpoint or line["method"] != "POST":
            return lines, {"code": "url_mismatch", "line": number, "message": f"The batch is for POST {endpoint}."}
        if line["custom_id"] in ids:
            return lines, {"code": "duplicate_custom_id", "line": number, "message": f"Again {line['custom_id']}."}
        ids.add(line["custom_id"])
        lines.append(line)
    return lines, None if lines else {"code": "empty_file", "message": "The file is empty."}
