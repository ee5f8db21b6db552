"""Headless Chromium, driven over a pipe by the DevTools protocol; only Debian's package `chromium` is needed."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

__all__ = ["Browser", "find_chromium"]

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    *("--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-component-update"),
)
KEYS = {" ": ("Space", 32), "Enter": ("Enter", 13), "Escape": ("Escape", 27), "Tab": ("Tab", 9)}
CODES = {"PageUp": 33, "PageDown": 34, "End": 35, "Home": 36, "ArrowUp": 38, "ArrowDown": 40}
ALT = 1  # modifier


def find_chromium() -> str:
    """Return the path of Chromium, or skip the test."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("no Chromium: apt-get install chromium")
    return program


class Browser:
    """A tab of a new Chromium with an empty profile.

    Args:
        width, height: size of the view in pixels.
    """

    def __init__(self, width: int = 1400, height: int = 900) -> None:
        self.profile = tempfile.mkdtemp(prefix="toolrlef-chromium-")
        (read, to), (of, write) = os.pipe(), os.pipe()
        command = [find_chromium(), *OPTIONS, f"--user-data-dir={self.profile}", f"--window-size={width},{height}"]
        # Chromium reads commands from descriptor 3 and writes to 4; the shell places the pipes there.
        placed = f'exec "$@" 3</dev/fd/{read} 4>/dev/fd/{write}'
        self.process = subprocess.Popen(
            ["sh", "-c", placed, "sh", *command],
            pass_fds=(read, write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read)
        os.close(write)
        self.to, self.of = os.fdopen(to, "wb"), os.fdopen(of, "rb")
        self.pending = b""
        self.events: list[dict[str, Any]] = []
        self.last_id = 0
        self.session: str | None = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "Accessibility"):
            self.send(f"{domain}.enable")
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the result of a command; events that arrive before it are kept."""
        self.last_id += 1
        message = {"id": self.last_id, "method": method, "params": parameters}
        self.to.write(json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode() + b"\0")
        self.to.flush()
        while (answer := self._receive()).get("id") != self.last_id:
            self.events.append(answer)
            if answer.get("method") == "Page.javascriptDialogOpening":  # blocks the page until it is closed
                raise AssertionError(f"the page opened a dialog: {answer['params']}")
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self.pending:
            part = self.of.read1(1 << 20)
            if not part:
                raise AssertionError("Chromium ended")
            self.pending += part
        message, _, self.pending = self.pending.partition(b"\0")
        return dict(json.loads(message))

    def open(self, path: Path) -> None:
        """Open a file and wait until its grid has been filled or an error is shown."""
        self.send("Page.navigate", url=path.absolute().as_uri())
        self.wait("document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; a promise is awaited."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"])
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript expression is true, at most 60 seconds."""
        loop = f"""new Promise((resolve, reject) => {{
            const end = Date.now() + 60000;
            (function look() {{
                if ({condition}) resolve(true);
                else if (Date.now() > end) reject(new Error("not true in 60 s"));
                else setTimeout(look, 10);
            }})();
        }})"""
        self.evaluate(loop)

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press and release a key."""
        code, number = KEYS.get(key, (key, CODES.get(key, 0)))
        text = {"Enter": "\r", " ": " "}.get(key, "")
        common = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": modifiers}
        self.send("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def set_scheme(self, scheme: str) -> None:
        """Set `prefers-color-scheme` to "light" or "dark"."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def of_kind(self, method: str) -> list[dict[str, Any]]:
        """Return the parameters of the events of a kind so far."""
        return [event["params"] for event in self.events if event.get("method") == method]

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.to.close()  # ends Chromium
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.of.close()
        shutil.rmtree(self.profile, ignore_errors=True)
