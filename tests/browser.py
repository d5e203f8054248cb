"""A headless Chromium for tests, spoken to in the W3C WebDriver protocol (https://www.w3.org/TR/webdriver2/).

    with browser(tmp_path, width=390, height=844) as page:
        page.open("http://127.0.0.1:7860")
        page.type("#request textarea", "make it black and white")
        page.click("#edit")
        page.wait("return document.querySelector('#pair img') !== null")
        page.screenshot(tmp_path / "page.png")

Skips the test where chromium or its driver (Debian: chromium, chromium-driver) is missing.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from chat_fakes import free_port

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key of a web element in the protocol."""
PATIENCE = 60.0
DOWNLOADS = "downloads"
"""Folder beside the profile into which the browser saves."""


class Page:
    """One tab; elements are named by CSS selectors."""

    def __init__(self, session: str) -> None:
        self._session = session

    def open(self, url: str) -> None:
        self._ask("url", url=url)

    def type(self, selector: str, text: str) -> None:
        """Types into a field; into a file input, the path of a file."""
        self._ask(f"element/{self._element(selector)}/value", text=text)

    def click(self, selector: str) -> None:
        self._ask(f"element/{self._element(selector)}/click")

    def run(self, script: str) -> Any:
        """What the body of a JavaScript function returns."""
        return self._ask("execute/sync", script=script, args=[])

    def wait(self, script: str) -> Any:
        """The first value of `script` that counts as true."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if value := self.run(script):
                return value
            time.sleep(0.1)
        raise AssertionError(f"never came true: {script}\n{self.run('return document.body.innerText')}")

    def download(self, selector: str, file: Path) -> bytes:
        """Clicks what saves `file`, and reads it."""
        self.click(selector)
        end = time.monotonic() + PATIENCE
        while not file.exists() and time.monotonic() < end:
            time.sleep(0.1)
        return file.read_bytes()

    def screenshot(self, file: Path, width: int, height: int) -> None:
        """Of the whole page, however long."""
        shown = {"captureBeyondViewport": True, "clip": {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}}
        taken = self._ask("goog/cdp/execute", cmd="Page.captureScreenshot", params=shown)
        file.write_bytes(base64.b64decode(taken["data"]))

    def _element(self, selector: str) -> str:
        self.wait(f"return document.querySelector({selector!r}) !== null")
        return self._ask("element", using="css selector", value=selector)[ELEMENT]

    def _ask(self, command: str, **values: Any) -> Any:
        return _value(httpx.post(f"{self._session}/{command}", json=values, timeout=PATIENCE))


@contextmanager
def browser(folder: Path, width: int, height: int) -> Iterator[Page]:
    """A browser with a profile in `folder` and a window of `width` x `height` CSS pixels; a phone below 600."""
    driver, port = shutil.which("chromedriver"), free_port()
    if driver is None or shutil.which("chromium") is None:
        pytest.skip("chromium and chromedriver are not installed (Debian packages chromium, chromium-driver)")
    with subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL) as process:
        try:
            yield from _session(f"http://127.0.0.1:{port}", folder, width, height)
        finally:
            process.terminate()


def _session(driver: str, folder: Path, width: int, height: int) -> Iterator[Page]:
    options: dict[str, Any] = {
        "args": [*FLAGS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{height}"],
        "binary": shutil.which("chromium"),
        "prefs": {"download.default_directory": str(folder / DOWNLOADS)},
    }
    if width < 600:
        options["mobileEmulation"] = {"deviceMetrics": {"width": width, "height": height, "pixelRatio": 2.0}}
    wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}}
    transport = httpx.HTTPTransport(retries=5)
    with httpx.Client(transport=transport, timeout=PATIENCE) as client:
        session = _value(client.post(f"{driver}/session", json=wanted))["sessionId"]
        try:
            yield Page(f"{driver}/session/{session}")
        finally:
            client.delete(f"{driver}/session/{session}")


def _value(response: httpx.Response) -> Any:
    value = response.json()["value"]
    assert response.is_success, value
    return value
