"""What a batch has done so far, as files in its output folder: whoever kills a run loses what was under way, no more.

    out/run.json             the settings; a run with others is refused
    out/plans/ID.json        item and plan, as soon as there is one
    out/traces/ID.json       item and trace
    out/images/ID.png        the edited image, with its trace inside; written last, so it says that the item is done
    out/errors/ID.json       item, stage and reason of one that failed
    out/results.jsonl        a line for each item in the order of the input, made of the above when a run ends

Files appear whole or not at all. Nothing is held in memory.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ier1_plugin.data.items import BatchError, Item
from ier1_plugin.runs.folder import PART, write, writing
from ier1_plugin.task.images import png_bytes
from ier1_plugin.task.schema import EditResult, Plan, PlanError

RUN, RESULTS = "run.json", "results.jsonl"
NEARBY = "image_from_here"
FOLDERS = PLANS, IMAGES, TRACES, ERRORS = "plans", "images", "traces", "errors"
Status = Literal["open", "edited", "failed"]


@dataclass(frozen=True)
class Store:
    """The output folder of one batch; may be used from several threads and processes, an item in one at a time."""

    out: Path

    @contextmanager
    def opened(self, settings: Mapping[str, Any]) -> Iterator[Store]:
        """Takes the folder for this run. BatchError: another run has it, or it was begun with other settings."""
        for name in FOLDERS:
            (self.out / name).mkdir(parents=True, exist_ok=True)
        lock = os.open(self.out / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._take(lock)
            self._check_settings(settings)
            self._clear_parts()
            yield self
        finally:
            os.close(lock)

    def status(self, item: Item) -> tuple[Status, str]:
        """How far an item is, and what went wrong if it failed."""
        if item.problem:
            return "failed", item.problem
        if self.image(item).is_file():
            done = self._read(TRACES, item) or {}
            taken = f"its id {item.id!r} is taken by another item in {self.out}"
            return ("edited", "") if self._is_of(item, done) else ("failed", taken)
        error = self._read(ERRORS, item)
        return ("failed", str(error.get("error"))) if error and self._is_of(item, error) else ("open", "")

    def plan(self, item: Item) -> Plan | None:
        """The plan that an earlier run or phase made."""
        values = self._read(PLANS, item)
        if not values or not self._is_of(item, values):
            return None
        try:
            return Plan.from_dict(values.get("plan"))
        except PlanError:
            return None

    def keep_plan(self, item: Item, plan: Plan) -> None:
        self._write(PLANS, item, {"plan": asdict(plan)})

    def keep_result(self, item: Item, result: EditResult) -> None:
        trace = result.trace.to_json()
        self._write(TRACES, item, json.loads(trace))
        write(self.image(item), png_bytes(result.image, trace))
        self._file(ERRORS, item).unlink(missing_ok=True)

    def keep_error(self, item: Item, stage: str, error: str) -> None:
        self._write(ERRORS, item, {"stage": stage, "error": error})

    def forget_errors(self) -> None:
        for file in (self.out / ERRORS).glob("*.json"):
            file.unlink()

    def write_results(self, items: Iterable[Item]) -> dict[Status, int]:
        """Writes results.jsonl and returns how many items are where; items that are open have no line."""
        counts: dict[Status, int] = {"open": 0, "edited": 0, "failed": 0}
        with writing(self.out / RESULTS) as lines:
            for item in items:
                status, error = self.status(item)
                counts[status] += 1
                if status != "open":
                    line = json.dumps(self._line(item, status, error), ensure_ascii=False)
                    lines.write(f"{line}\n".encode())
        return counts

    def image(self, item: Item) -> Path:
        return self.out / IMAGES / f"{item.name}.png"

    def _take(self, lock: int) -> None:
        try:
            # the lock goes when its process does, however that ends
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BatchError(f"another run is writing into {self.out}; wait for it or choose another --out") from None

    def _line(self, item: Item, status: Status, error: str) -> dict[str, Any]:
        line: dict[str, Any] = {"id": item.id, "status": status, "request": item.request}
        if status == "failed":
            return line | {"error": error}
        trace = self._read(TRACES, item) or {}
        line |= {"image": f"{IMAGES}/{item.name}.png", "trace": f"{TRACES}/{item.name}.json"}
        return line | {"sub_requests": trace.get("plan", {}).get("sub_requests"), "notes": trace.get("notes")}

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        file = self.out / RUN
        now = json.loads(json.dumps(settings, default=str))
        if not file.exists():
            write(file, json.dumps(now, indent=2, ensure_ascii=False) + "\n")
            return
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
            changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        except (ValueError, TypeError):
            raise BatchError(f"{file} is damaged; choose another --out") from None
        if changed:
            was = ", ".join(f"{key} {before.get(key)!r}, now {now.get(key)!r}" for key in changed)
            raise BatchError(f"{self.out} was begun with other settings ({was}); choose another --out")

    def _clear_parts(self) -> None:
        for folder in (self.out, *(self.out / name for name in FOLDERS)):
            for part in folder.glob(f".*{PART}"):
                part.unlink()

    def _file(self, folder: str, item: Item) -> Path:
        return self.out / folder / f"{item.name}.json"

    def _write(self, folder: str, item: Item, values: dict[str, Any]) -> None:
        head = {"item": item.as_dict(), NEARBY: self._nearby(item)}
        write(self._file(folder, item), json.dumps(head | values, ensure_ascii=False) + "\n")

    def _is_of(self, item: Item, values: Mapping[str, Any]) -> bool:
        """True if the file was written of this item, here or before its image and this folder moved together."""
        written = values.get("item")
        if written == item.as_dict():
            return True
        moved = isinstance(written, dict) and {**written, "image": item.image} == item.as_dict()
        return moved and values.get(NEARBY) == self._nearby(item)

    def _nearby(self, item: Item) -> str:
        """The path of the image as seen from this folder."""
        return os.path.relpath(item.image, self.out) if item.image else ""

    def _read(self, folder: str, item: Item) -> dict[str, Any] | None:
        try:
            values = json.loads(self._file(folder, item).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return values if isinstance(values, dict) else None
