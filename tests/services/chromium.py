"""A headless Chromium, driven by its DevTools protocol over two pipes: no driver, no port."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAM = "chromium-headless-shell"
COMPLAINTS = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
# Seconds; a busy machine is slow.
PATIENCE = 120
# Root has no sandbox for it; /dev/shm is small in containers; nothing of its own calls home.
OPTIONS = (
    "--remote-debugging-pipe --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars "
    "--no-first-run --disable-background-networking --disable-component-update"
).split()


@dataclass
class Page:
    """A page that is open.

    Attributes:
        requests: every URL that was asked for.
        complaints: what it wrote to the console, and what went wrong in its scripts.
        loads: how many times a page was shown whole.
    """

    browser: Browser
    session: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    loads: int = 0

    def open(self, path: Path) -> None:
        """Open a file and wait until it is shown whole."""
        before = self.loads
        self.call("Page.navigate", url=path.absolute().as_uri())
        while self.loads == before:
            self.browser.listen()

    def run(self, script: str) -> Any:
        """Return what a script's last expression comes to.

        Raises:
            RuntimeError: it failed.
        """
        done = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in done:
            raise RuntimeError(json.dumps(done["exceptionDetails"]))
        return done["result"].get("value")

    def press(self, key: str, text: str = "") -> None:
        """Press a key as a person does."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowLeft": 37, "ArrowRight": 39}
        about = {"key": key, "windowsVirtualKeyCode": codes.get(key, 0)}
        typed = text or {"Enter": "\r", " ": " "}.get(key, "")
        self.call("Input.dispatchKeyEvent", type="keyDown", **about, text=typed)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def emulate(self, width: int, *, dark: bool = False, media: str = "screen") -> None:
        """Be a screen of a width, in the dark, or paper."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def picture(self, path: Path, height: int = 4000) -> None:
        """Save the page as it is seen, from its top."""
        width = self.run("innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def note(self, event: str, params: dict[str, Any]) -> None:
        """Note what happened to this page."""
        if event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event in COMPLAINTS:
            self.complaints.append(json.dumps(params))
        self.loads += event == "Page.loadEventFired"

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the browser for something about this page."""
        return self.browser.call(method, self, **params)


@dataclass
class Browser:
    """A browser of the tests."""

    process: subprocess.Popen[bytes]
    to: int
    back: int
    pages: dict[str, Page] = field(default_factory=dict)
    _number: int = 0
    _rest: bytes = b""

    def page(self) -> Page:
        """Return a new page, empty and watched."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        page = self.pages[found["sessionId"]] = Page(self, found["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.requests.clear()
        return page

    def call(self, method: str, page: Page | None = None, **params: Any) -> dict[str, Any]:
        """Ask for something and return the answer."""
        self._number += 1
        asked = {"id": self._number, "method": method, "params": params}
        if page:
            asked["sessionId"] = page.session
        os.write(self.to, json.dumps(asked).encode() + b"\0")
        while True:
            found = self.listen()
            if found.get("id") != asked["id"]:
                continue
            if "error" in found:
                raise RuntimeError(f"{method}: {found['error']['message']}")
            answer: dict[str, Any] = found["result"]
            return answer

    def listen(self) -> dict[str, Any]:
        """Return the next message; note what pages ask for and complain of."""
        while b"\0" not in self._rest:
            # Unlike select, it takes descriptors of any number.
            poll = select.poll()
            poll.register(self.back, select.POLLIN)
            ready = poll.poll(PATIENCE * 1000)
            more = os.read(self.back, 1 << 20) if ready else b""
            if not more:
                raise RuntimeError(f"{PROGRAM} {'is gone' if ready else 'does not answer'}")
            self._rest += more
        raw, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(raw)
        page = self.pages.get(found.get("sessionId", ""))
        if page and "method" in found:
            page.note(found["method"], found["params"])
        return found


@contextlib.contextmanager
def running() -> Iterator[Browser]:
    """Run a browser; it reads commands from descriptor 3 and answers to descriptor 4."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # Not sh: Debian's knows no descriptor above 9.
        shell = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        process = subprocess.Popen(
            ["/bin/bash", "-c", shell, str(shutil.which(PROGRAM)), *OPTIONS,
             f"--user-data-dir={profile}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            pass_fds=[theirs_in, theirs_out],
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        browser = Browser(process, ours_out, ours_in)
        try:
            yield browser
        finally:
            with contextlib.suppress(OSError, RuntimeError):
                browser.call("Browser.close")
            process.wait(PATIENCE)
            os.close(ours_out)
            os.close(ours_in)
