"""Builds that were stopped, started twice, or can't be: what is kept, and what the one line says."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fakes.builder_inputs import (
    GOLD,
    all_rows,
    build,
    command,
    encoded,
    picture,
    rejected,
    report,
    requests,
    write_jsonl,
)
from fakes.chat_server import Answer, Asked, ChatServer, completion, gold_of, honest, serve

from data_prep import build as module
from data_prep.build_rl_dataset import main, parse
from data_prep.settings import RawRow, Settings
from ier1_plugin.runs.folder import locked

FILES = ("train.parquet", "val.parquet", "rejected.jsonl", "report.json")
KEY = "sk-very-secret-key"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def contents(output: Path) -> dict[str, bytes]:
    """The files as they are, the report without the options (which name the output)."""
    files = {name: (output / name).read_bytes() for name in FILES[:-1]}
    return files | {"rows": json.dumps({k: v for k, v in report(output).items() if k != "options"}).encode()}


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("stage", ["choose", "ask_annotator", "assign", "write", "collect"])
def test_a_build_that_dies_between_two_stages_goes_on(stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = requests(tmp_path / "in", 30, photos=10)
    build("jsonl", source, tmp_path / "whole", "--val-fraction", 0.2)
    whole = getattr(module, stage)
    with monkeypatch.context() as patch:
        patch.setattr(module, stage, lambda *arguments: interrupt(whole(*arguments)))
        assert build("jsonl", source, tmp_path / "torn", "--val-fraction", 0.2) == 130
    assert build("jsonl", source, tmp_path / "torn", "--val-fraction", 0.2) == 0
    assert contents(tmp_path / "torn") == contents(tmp_path / "whole")


def test_rows_that_were_read_are_not_read_again_and_half_written_images_are_cut_off(tmp_path: Path, monkeypatch):
    first_file, seen = requests(tmp_path / "in", 40), []
    lines, source = first_file.read_text().splitlines(), first_file.parent
    write_jsonl(source, lines[:20])
    write_jsonl(source, lines[20:], "more.jsonl")
    check = module.check

    def watched(row: RawRow, settings: Settings) -> Any:
        seen.append(int(row.id[1:]))
        if row.id == "r25" and seen.count(25) == 1:
            raise KeyboardInterrupt
        return check(row, settings)

    monkeypatch.setattr(module, "check", watched)
    assert build("jsonl", source, tmp_path / "out") == 130
    first, status = len(seen), first_file.stat()
    # a file that was read to its end is not opened again
    first_file.write_text(" " * status.st_size)
    os.utime(first_file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with (tmp_path / "out" / ".build" / "images.bin").open("ab") as file:
        file.write(b"torn")
    assert build("jsonl", source, tmp_path / "out") == 0
    assert sorted(seen[first:]) == list(range(25, 40))
    images = {id: row["images"][0]["bytes"] for id, row in all_rows(tmp_path / "out").items()}
    assert images == {f"r{n}": encoded(picture(n)) for n in range(40)}


def by(server: ChatServer) -> tuple[str, ...]:
    return ("--annotator", "fake-vlm", "--base-url", server.url, "--concurrency", "2")


def test_rows_without_gold_get_it_from_the_annotator_and_the_key_is_in_no_file(tmp_path: Path):
    def respond(asked: Asked) -> Answer:
        if asked.request.endswith("lamp 4") and not asked.nth:
            return completion(f"your key is {KEY}")
        nothing = completion('{"actions": [], "subjects": [], "goals": []}')
        return nothing if asked.request.endswith("lamp 3") else honest(asked)

    with serve(respond) as server:
        assert build("jsonl", requests(tmp_path / "in", 10, gold={}), tmp_path / "out", *by(server)) == 0
    assert rejected(tmp_path / "out") == {"r3": "the annotator found no edit in the request"}
    rows = all_rows(tmp_path / "out")
    assert len(rows) == 9
    for row in rows.values():
        assert json.loads(row["answer"]) == gold_of(row["problem"])
    assert server.log[0].headers["authorization"] == f"Bearer {KEY}"
    files = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())
    assert b"your key is ***" in files
    assert KEY.encode() not in files


def test_gold_of_the_data_is_not_asked_for_and_duplicates_are_not_paid_for(tmp_path: Path):
    source = requests(tmp_path / "in", 6, gold={})
    with source.open("a") as file:
        file.write(json.dumps({"id": "gold", "image": "0.png", "request": "remove the sofa", **GOLD}) + "\n")
        file.write(json.dumps({"id": "twin", "image": "1.png", "request": "Remove the lamp 1!"}) + "\n")
        file.write(json.dumps({"id": "better", "image": "2.png", "request": "Remove the lamp 2!", **GOLD}) + "\n")
    with serve() as server:
        build("jsonl", source, tmp_path / "out", *by(server))
        assert {asked.request for asked in server.log} == {f"remove the lamp {n}" for n in (0, 1, 3, 4, 5)}
    # of two duplicates the one that brings its gold stays
    assert set(rejected(tmp_path / "out")) == {"twin", "r2"}


def test_ctrl_c_says_one_line_and_the_same_command_goes_on(tmp_path: Path):
    source = requests(tmp_path / "in", 400)
    process = subprocess.Popen(command("jsonl", source, tmp_path / "out"), text=True, stderr=subprocess.PIPE)
    spool = tmp_path / "out" / ".build" / "images.bin"
    while not (spool.exists() and spool.stat().st_size) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.rstrip().splitlines()[-1] == "interrupted; run the same command again to continue"
    assert "Traceback" not in said
    assert build("jsonl", source, tmp_path / "out") == 0
    assert len(all_rows(tmp_path / "out")) == 400


def test_a_second_run_with_the_same_options_finds_nothing_to_do_and_others_need_overwrite(tmp_path: Path, capsys):
    source = requests(tmp_path / "in", 5)
    build("jsonl", source, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert build("jsonl", source, tmp_path / "out", "--concurrency", 3) == 0
    assert "was built with these options before" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    assert build("jsonl", source, tmp_path / "out", "--seed", 1) == 1
    assert "a finished build with other options or inputs (seed 0, now 1)" in capsys.readouterr().err
    # an input that has changed counts as another option
    requests(tmp_path / "in", 6)
    assert build("jsonl", source, tmp_path / "out") == 1
    assert build("jsonl", source, tmp_path / "out", "--seed", 1, "--overwrite") == 0
    assert len(all_rows(tmp_path / "out")) == 6
    assert report(tmp_path / "out")["options"]["seed"] == 1


@pytest.mark.parametrize("unfinished", [False, True])
@pytest.mark.parametrize(
    ("file", "data", "named", "count"),
    [
        ("in/more.jsonl", json.dumps({"image": "0.png", "request": "add a sofa", **GOLD}).encode(), "in (2 files", 4),
        ("bench/more.jsonl", b'{"request": "remove the lamp 0"}', "bench (2 files", 2),
        ("bench/b.png", encoded(picture(0)), "bench/b.png", 2),
        ("in/3.png", encoded(picture(3)), "in/3.png", 4),
        ("root/3.png", encoded(picture(3)), "root/3.png", 4),
        ("in/2.png", b"no image", "in/2.png", 2),
    ],
)
def test_a_build_knows_the_files_that_it_has_read(
    file: str, data: bytes, named: str, count: int, unfinished: bool, tmp_path: Path, monkeypatch: Any, capsys: Any
):
    requests(tmp_path / "in", 4)
    (tmp_path / "in" / "3.png").unlink()
    write_jsonl(tmp_path / "bench", [{"request": "another", "image": "b.png"}])
    (tmp_path / "root").mkdir()
    arguments = ("jsonl", tmp_path / "in", tmp_path / "out", "--exclude", tmp_path / "bench")
    arguments += ("--image-root", tmp_path / "root")
    with monkeypatch.context() as patch:
        if unfinished:
            patch.setattr(module, "assign", interrupt)
        assert build(*arguments) == (130 if unfinished else 0)
    (tmp_path / file).write_bytes(data)
    assert build(*arguments) == 1
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert [words for words in (named, "--overwrite") if words not in complaint] == []
    assert build(*arguments, "--overwrite") == 0
    assert len(all_rows(tmp_path / "out")) == count
    assert build(*arguments) == 0


def test_a_union_knows_that_its_parts_were_built_again(tmp_path: Path):
    source, union = requests(tmp_path / "in", 3), ("rl-rows", tmp_path / "part", tmp_path / "out")
    for status in (0, 1):
        build("jsonl", source, tmp_path / "part", "--overwrite")
        assert build(*union) == status


def test_a_build_without_rows_is_begun_anew(tmp_path: Path):
    source = requests(tmp_path / "in", 1)
    (tmp_path / "in" / "0.png").unlink()
    assert build("jsonl", source, tmp_path / "out") == 1
    (tmp_path / "in" / "0.png").write_bytes(encoded(picture(0)))
    assert build("jsonl", source, tmp_path / "out") == 0


def test_rows_without_gold_are_asked_about_again_where_that_is_wanted(tmp_path: Path):
    source, right = requests(tmp_path / "in", 3, gold={}), threading.Event()
    with serve(
        lambda asked: completion("?") if "lamp 1" in asked.request and not right.is_set() else honest(asked)
    ) as server:
        for option, total, left in ((), 8, ["r1"]), (["--overwrite"], 8, ["r1"]), (["--retry-failed"], 9, []):
            assert build("jsonl", source, tmp_path / "out", *by(server), *option) == 0
            right.set()
            assert (server.total, list(rejected(tmp_path / "out"))) == (total, left)


def test_what_stops_a_build_is_one_line(tmp_path: Path, monkeypatch, capsys):
    source, bare = requests(tmp_path / "in", 2), requests(tmp_path / "bare", 1, gold={})
    (tmp_path / "file").write_text("")
    with locked(tmp_path / "out"):
        assert build("jsonl", source, tmp_path / "out") == 1
    assert build("jsonl", source, tmp_path / "file" / "out") == 1
    monkeypatch.delenv("OPENAI_API_KEY")
    assert build("jsonl", bare, tmp_path / "bare" / "out", "--annotator", "fake-vlm") == 1
    assert main(["--config", str(tmp_path / "nowhere.yaml")]) == 1
    monkeypatch.setitem(sys.modules, "imagehash", None)
    assert build("jsonl", source, tmp_path / "out") == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    wanted = ["another run is writing to", "Not a directory", "OPENAI_API_KEY is not set", "nowhere.yaml can't be read"]
    wanted.append("pip install -e '.[all]'")
    assert [words for words, line in zip(wanted, lines, strict=True) if words not in line] == []


@pytest.mark.parametrize("kilobytes", [20, 200])
def test_a_full_disk_is_one_line_and_nothing_half_written_is_left(kilobytes: int, tmp_path: Path):
    source = requests(tmp_path / "in", 60)
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (kilobytes << 10, kilobytes << 10))
    done = subprocess.run(
        command("jsonl", source, tmp_path / "out"), preexec_fn=limit, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert not any((tmp_path / "out" / name).exists() for name in FILES)
    assert build("jsonl", source, tmp_path / "out") == 0
    assert len(all_rows(tmp_path / "out")) == 60


def test_options_may_stand_in_a_file_and_the_command_line_wins(tmp_path: Path):
    source, config = requests(tmp_path / "in", 30, photos=10), tmp_path / "build.yaml"
    config.write_text(
        f"source: jsonl\ninput: {source}\noutput: {tmp_path / 'out'}\nval-fraction: 0.3\nseed: 3\n"
        "columns:\n  image: image\n  request: request\nexclude: []\n"
    )
    assert main(["--config", str(config), "--seed", "4"]) == 0
    options = report(tmp_path / "out")["options"]
    assert (options["val_fraction"], options["seed"]) == (0.3, 4)
    assert options["columns"] == {"image": "image", "request": "request"}


@pytest.mark.parametrize(
    ("arguments", "config", "complaint"),
    [
        ("", "", "--source and --output are needed"),
        ("--source jsonl --output x", "", "needs --input"),
        ("--source nothing --output x", "", "'nothing'"),
        ("--source photos --output x --val-fraction 1.5", "", "no share from 0"),
        ("--source photos --output x --limit 0", "", "above 0"),
        ("--source photos --output x --min-pixels 9 --max-pixels 8", "", "more than --max-pixels"),
        ("--source photos --output x --columns image", "", "image=NAME"),
        ("--source photos --output x --without-gold", "", "--case-images"),
        ("--source photos --output x --config build.yaml", "sede: 1", "--sede"),
        ("--source photos --output x --config build.yaml", "seed: x", "--seed"),
    ],
)
def test_wrong_options_are_one_line(arguments: str, config: str, complaint: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("build.yaml").write_text(config)
    with pytest.raises(SystemExit) as stop:
        parse(arguments.split())
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert complaint in line
