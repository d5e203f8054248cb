"""The merged folder on its way to the hub: a loopback server in the hub's place."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes.shards import make_run
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

SCRIPT = Path(__file__).parents[2] / "examples" / "merge_checkpoint.sh"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHON": sys.executable, "HF_HUB_OFFLINE": "0"}


@pytest.mark.slow
def test_upload_creates_a_private_repository_and_sends_the_whole_folder(tmp_path: Path, httpserver: HTTPServer):
    created: list[dict[str, Any]] = []
    committed: list[str] = []

    def create(request: Request) -> Response:
        created.append(request.get_json())
        return Response(
            json.dumps({"url": httpserver.url_for("/me/decomposer"), "name": "me/decomposer"}), mimetype="text/json"
        )

    def preupload(request: Request) -> Response:
        files = [
            {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
            for file in request.get_json()["files"]
        ]
        return Response(json.dumps({"files": files}), mimetype="text/json")

    def commit(request: Request) -> Response:
        lines = [json.loads(line) for line in request.get_data().splitlines()]
        committed.extend(line["value"]["path"] for line in lines if line["key"] == "file")
        answer = {"commitUrl": httpserver.url_for("/me/decomposer/commit/1"), "commitOid": "1", "success": True}
        return Response(json.dumps(answer), mimetype="text/json")

    httpserver.expect_request("/api/repos/create", method="POST").respond_with_handler(create)
    httpserver.expect_request("/api/validate-yaml", method="POST").respond_with_json({"errors": [], "warnings": []})
    httpserver.expect_request(re.compile("/api/models/me/decomposer/preupload/.*")).respond_with_handler(preupload)
    httpserver.expect_request(re.compile("/api/models/me/decomposer/commit/.*")).respond_with_handler(commit)
    arguments = ["bash", str(SCRIPT), str(make_run(tmp_path / "run")), "min_pixels=784"]
    arguments += ["max_pixels=4096", f"out={tmp_path / 'out'}", "upload=me/decomposer"]
    hub = {"HF_ENDPOINT": httpserver.url_for("").rstrip("/"), "HF_TOKEN": "hf_secret"}
    done = subprocess.run(arguments, env=ENVIRONMENT | hub, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "uploaded to" in done.stdout
    assert [repository["private"] for repository in created] == [True]
    assert sorted(committed) == sorted(path.name for path in (tmp_path / "out").iterdir())
    assert "hf_secret" not in done.stdout + done.stderr

    # the hub is gone: the merged model stays, and the line says how to go on
    arguments[5] = f"out={tmp_path / 'again'}"
    closed = hub | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    failed = subprocess.run(arguments, env=ENVIRONMENT | closed, capture_output=True, text=True, timeout=120)
    assert failed.returncode == 1
    assert f"try again with: hf upload me/decomposer {tmp_path / 'again'}" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert (tmp_path / "again" / "model.safetensors").is_file()
