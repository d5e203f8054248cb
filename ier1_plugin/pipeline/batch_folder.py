"""What a batch has done so far, as files in its output folder: killing a run loses only the items in progress.

    out/run.json             the settings; a run with others is refused
    out/plans/ID.json        item and plan, as soon as there is one
    out/traces/ID.json       item and trace
    out/images/ID.png        the edited image, with its trace inside; written last, so it says that the item is done
    out/errors/ID.json       item, stage and reason of one that failed
    out/results.jsonl        a line for each item in the order of the input, made of the above when a run ends

Files appear whole or not at all. Nothing is held in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ier1_plugin.data.items import Item
from ier1_plugin.runs.folder import RunError, clear_parts, freeze_settings, locked, write, writing
from ier1_plugin.task.images import png_bytes
from ier1_plugin.task.schema import EditResult, Plan, PlanError

RUN, RESULTS = "run.json", "results.jsonl"
NEARBY = "image_from_here"
FOLDERS = PLANS, IMAGES, TRACES, ERRORS = "plans", "images", "traces", "errors"
Status = Literal["open", "edited", "failed"]


@dataclass(frozen=True)
class BatchFolder:
    """The output folder of one batch; may be used from several threads and processes, an item in one at a time."""

    out: Path

    @contextmanager
    def opened(self, settings: Mapping[str, Any]) -> Iterator[BatchFolder]:
        """Takes the folder for this run. RunError: another run is using it, or it was started with other settings."""
        with locked(self.out):
            freeze_settings(self.out / RUN, settings)
            clear_parts(self.out)
            for name in FOLDERS:
                (self.out / name).mkdir(exist_ok=True)
                clear_parts(self.out / name)
            yield self

    def status(self, item: Item) -> tuple[Status, str]:
        """How far an item is, and what went wrong if it failed."""
        if item.problem:
            return "failed", item.problem
        if self.image(item).is_file():
            own = self._is_of(item, self._read(TRACES, item))
            return ("edited", "") if own else ("failed", f"its id {item.id!r} is taken by another item in {self.out}")
        error = self._read(ERRORS, item)
        return ("failed", str(error.get("error"))) if self._is_of(item, error) else ("open", "")

    def plan(self, item: Item) -> Plan | None:
        """The plan that an earlier run or phase made."""
        values = self._read(PLANS, item)
        try:
            return Plan.from_dict(values.get("plan")) if self._is_of(item, values) else None
        except PlanError:
            return None

    def keep_plan(self, item: Item, plan: Plan) -> None:
        self._write(PLANS, item, {"plan": asdict(plan)})

    def keep_result(self, item: Item, result: EditResult) -> None:
        trace = result.trace.to_json()
        self._write(TRACES, item, json.loads(trace))
        self._save(self.image(item), png_bytes(result.image, trace))
        self._file(ERRORS, item).unlink(missing_ok=True)

    def keep_error(self, item: Item, stage: str, error: str) -> None:
        self._write(ERRORS, item, {"stage": stage, "error": error})

    def forget_errors(self) -> None:
        for file in (self.out / ERRORS).glob("*.json"):
            file.unlink()

    def write_results(self, items: Iterable[Item]) -> dict[Status, int]:
        """Writes results.jsonl and returns how many items have which status; open items have no line."""
        counts: dict[Status, int] = {"open": 0, "edited": 0, "failed": 0}
        with writing(self.out / RESULTS) as lines:
            for item in items:
                status, error = self.status(item)
                counts[status] += 1
                line: dict[str, Any] = {"id": item.id, "status": status, "request": item.request}
                if status == "failed":
                    line |= {"error": error}
                elif status == "edited":
                    trace = self._read(TRACES, item)
                    line |= {"image": f"{IMAGES}/{item.name}.png", "trace": f"{TRACES}/{item.name}.json"}
                    line |= {"sub_requests": trace.get("plan", {}).get("sub_requests"), "notes": trace.get("notes")}
                if status != "open":
                    lines.write(f"{json.dumps(line, ensure_ascii=False)}\n".encode())
        return counts

    def image(self, item: Item) -> Path:
        return self.out / IMAGES / f"{item.name}.png"

    def _file(self, folder: str, item: Item) -> Path:
        return self.out / folder / f"{item.name}.json"

    def _write(self, folder: str, item: Item, values: dict[str, Any]) -> None:
        head = {"item": item.as_dict(), NEARBY: self._nearby(item)}
        self._save(self._file(folder, item), json.dumps(head | values, ensure_ascii=False) + "\n")

    def _save(self, file: Path, data: bytes | str) -> None:
        """RunError: the disk is full, or the folder can't be written any more."""
        try:
            write(file, data)
        except OSError as error:
            raise RunError(f"{file} can't be written: {error.strerror or error}") from None

    def _read(self, folder: str, item: Item) -> dict[str, Any]:
        """The file of an item; empty if there is none or it is damaged."""
        try:
            values = json.loads(self._file(folder, item).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return values if isinstance(values, dict) else {}

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
