"""What the benchmarks share: the line about the machine, a photo, calls in turns, a program's costs, slow servers."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from PIL import Image

# a script's own folder comes first, and the checkout's reward_fns and data_prep are in no package
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def machine() -> str:
    """The day, the machine and its Python, to stand above the figures."""
    load = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    return f"{date.today()}, {platform.machine()}, {load}, Python {platform.python_version()}"


def photo(side: int, number: int = 0) -> Image.Image:
    """Grain over large shapes, so that it weighs what a photograph weighs; another one for each number."""
    bands = (Image.radial_gradient("L"), Image.linear_gradient("L"), Image.new("L", (256, 256), number % 256))
    grain = Image.effect_noise((side, side), 60).convert("RGB")
    return Image.blend(Image.merge("RGB", bands).resize((side, side)), grain, 0.1)


class Seconds(NamedTuple):
    wall: float
    cpu: float
    """Of this process."""


def timed(call: Callable[[], Any]) -> Seconds:
    start, cpu = time.perf_counter(), time.process_time()
    call()
    return Seconds(time.perf_counter() - start, time.process_time() - cpu)


def in_turns(work: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[Seconds]]:
    """Times of each contestant; they take turns, so that a busy moment of the machine meets them all."""
    turns = [{name: timed(call) for name, call in work.items()} for _ in range(repeats)]
    return {name: [turn[name] for turn in turns] for name in work}


def costs(
    *command: object, look: Callable[[psutil.Process], None] = lambda process: None
) -> tuple[float, float, float]:
    """Seconds, seconds of CPU (other work on the machine hardly matters to them) and peak MiB of a Python program.
    `look` is called with it again and again.
    """
    start, peak = time.perf_counter(), 0
    before = os.times()
    process = psutil.Popen([sys.executable, *map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # sampled, since the kernel's own maximum (ru_maxrss) counts what this process held when it forked
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            peak = max(peak, process.memory_info().rss)
            look(process)
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"status {process.returncode} of {command}")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, cpu, peak / 2**20


class Listener(ThreadingHTTPServer):
    """Answers each POST with `body` after `seconds`, `slots` of them at a time, and each GET with `stats()`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, seconds: float, slots: int, body: bytes, stats: Callable[[], bytes] = bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seconds, self.free, self.body, self.stats = seconds, threading.Semaphore(slots), body, stats
        self.began: list[float] = []
        self.ended: list[float] = []
        self.address = f"http://127.0.0.1:{self.server_address[1]}/v1"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener

    def do_GET(self) -> None:
        self.reply(self.server.stats())

    def do_POST(self) -> None:
        self.server.began.append(time.perf_counter())
        with self.server.free:
            due = time.perf_counter() + self.server.seconds
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(max(0.0, due - time.perf_counter()))
        self.reply(self.server.body)
        self.server.ended.append(time.perf_counter())

    def reply(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def servers(*command: str) -> Iterator[str]:
    """Runs a script that prints one line about its servers and goes on serving; the line."""
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()
