"""A headless Chromium for tests, driven by Selenium.

    @needs_browser
    def test_page(tmp_path):
        with browser(tmp_path, width=390, height=844) as page: ...

        page.open("http://127.0.0.1:7860")
        page.type("#request textarea", "make it black and white")
        page.click("#edit")
        page.wait("return document.querySelector('#pair img') !== null")
        page.screenshot(tmp_path / "page.png", 390, 844)

`needs_browser` skips the test, before it starts anything, where Selenium, chromium or chromedriver is missing.
"""

from __future__ import annotations

import base64
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER and find_spec("selenium")),
    reason="selenium, chromium or chromedriver is not installed (Debian packages chromium, chromium-driver)",
)
PATIENCE = 60.0
DOWNLOADS = "downloads"
"""Folder beside the profile into which the browser saves."""
PHONE = 600
"""A narrower window is a phone's."""


class Page:
    """One tab; elements are named by CSS selectors and waited for."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def open(self, url: str) -> None:
        self._driver.get(url)

    def type(self, selector: str, text: str) -> None:
        """Types into a field; into a file input, the path of a file."""
        self._element(selector).send_keys(text)

    def click(self, selector: str) -> None:
        self._element(selector).click()

    def run(self, script: str) -> Any:
        """What the body of a JavaScript function returns."""
        return self._driver.execute_script(script)

    def wait(self, script: str) -> Any:
        """The first value of `script` that counts as true."""
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.support.wait import WebDriverWait

        try:
            return WebDriverWait(self._driver, PATIENCE, 0.1).until(lambda _: self.run(script))
        except TimeoutException:
            raise AssertionError(f"never came true: {script}\n{self.run('return document.body.innerText')}") from None

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
        taken = self._driver.execute_cdp_cmd("Page.captureScreenshot", shown)
        file.write_bytes(base64.b64decode(taken["data"]))

    def console(self) -> list[str]:
        """What the page and its scripts complained about since the last call."""
        return [entry["message"] for entry in self._driver.get_log("browser")]

    def _element(self, selector: str) -> Any:
        self.wait(f"return document.querySelector({selector!r}) !== null")
        return self._driver.find_element("css selector", selector)


@contextmanager
def browser(folder: Path, width: int, height: int) -> Iterator[Page]:
    """A browser with a profile in `folder` and a window of `width` x `height` CSS pixels."""
    from selenium import webdriver

    # both are named, so that Selenium's own manager looks for neither on the network
    assert CHROMIUM
    assert DRIVER
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(folder / DOWNLOADS)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if width < PHONE:
        metrics = {"width": width, "height": height, "pixelRatio": 2.0}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    session = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield Page(session)
    finally:
        session.quit()
