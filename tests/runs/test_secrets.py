"""Nothing secret in anything that is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ier1_plugin.runs.errors import one_line
from ier1_plugin.runs.folder import RunError, freeze_settings
from ier1_plugin.runs.secrets import without_secrets

SECRET, SHAPED = "s3cretVALUE", "hf_SECRETtoken123456"
NAMES = (
    "token hf_token accessToken HF-TOKEN key api_key_2 apiKey apikey fal_key X-Api-Key aws_access_key_id client_secret "
    "secret secrets password passwd pass db_password_file Authorization proxy_auth bearer cookie credentials"
)


@pytest.mark.parametrize(
    "value",
    [
        *({name: SECRET} for name in NAMES.split()),
        {"http_options": {"headers": {"X-Any": SECRET, "more": [SECRET]}}},
        {"extra_headers": [["X-Any", SECRET]]},
        {"deep": [{"load_kwargs": ({"token": [SECRET]},)}]},
        {"password": int("20" * 10)},
        {"base_url": f"http://bob:{SECRET}@host/v1"},
        {"base_url": f"see https://bob:p@{SECRET}@host/v1, http://{SECRET}@b"},
        {"base_url": f"https://host/v1?alt=json&api_key={SECRET}#m"},
        {"decomposer": f"openai:https://host/v1?token={SECRET}#m"},
        {"command": ["--hf", SHAPED], "url": f"https://host/v1?sig={SECRET}"},
        {"command": ["-H", f"Authorization: Bearer {SECRET}"]},
        {"command": ["-H", f"X-Api-Key: {SECRET}"], "apiKeys": [SECRET], "creds": SECRET},
        {"note": f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{SECRET}", "more": f"sent Bearer {SECRET}0123456789"},
        {"error": f"got an unexpected argument {{'token': '{SECRET}'}}"},
        {"error": f"Options(api_key='{SECRET}', b=1)"},
        {"options": type("Options", (), {"__repr__": lambda self: f"Options(token='{SECRET}')"})()},
    ],
)
def test_a_secret_is_hidden_wherever_it_stands(value: dict[str, Any]):
    hidden = json.dumps(without_secrets(value))
    assert not any(part in hidden for part in (SECRET, SHAPED, "2020"))


@pytest.mark.parametrize(
    "value",
    [
        {"max_tokens": 2048, "prompt_tokens": 7, "steps": 20, "seed": 0, "guidance": 2.5, "fast": True, "none": None},
        {"token": None, "key": "", "use_auth": False},
        {
            "prompt_key": "problem",
            "answer_key": "answer",
            "key_name": "ARK_API_KEY",
            "monkey": "see",
            "tokenizer": "t5",
        },
        {"editor": "images-api:http://127.0.0.1:8000/v1#Qwen/Qwen-Image-Edit@main", "keys": ["a"]},
        {"path": "a//b", "bypass": "x", "design": "task-1234567890123"},
        {"request": "write Password: and 'the key to my heart' on the token, email me@home"},
    ],
)
def test_what_is_no_secret_stays(value: dict[str, Any]):
    assert without_secrets(value) == value


def test_settings_and_messages_are_written_without_secrets(tmp_path: Path):
    file = tmp_path / "run.json"
    # as an earlier version left it
    file.write_text(json.dumps({"load_kwargs": {"token": SECRET}, "base_url": f"http://me:{SECRET}@h/v1", "seed": 0}))
    settings = {"load_kwargs": {"token": "another"}, "base_url": "http://you:other@h/v1"}
    freeze_settings(file, settings | {"seed": 0})
    with pytest.raises(RunError, match=r"seed 0, now 1") as refused:
        freeze_settings(file, settings | {"seed": 1})
    assert SECRET not in str(refused.value)
    freeze_settings(tmp_path / "new.json", settings)
    written = {"load_kwargs": {"token": "***"}, "base_url": "http://h/v1"}
    assert json.loads((tmp_path / "new.json").read_text()) == written
    assert one_line(ValueError(f"no http://me:{SECRET}@h")) == "no http://h"
