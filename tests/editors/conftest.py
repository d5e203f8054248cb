"""Tiny pipelines of diffusers for all tests of local editors, each made once."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
from fakes import tiny_pipelines

from ier1_plugin.chat.torchvision_ops import define_missing_schemas


@pytest.fixture(scope="session")
def pipelines(tmp_path_factory):
    """Kind -> the folder of that pipeline."""
    import torch

    # before anything else imports transformers, which imports torchvision
    define_missing_schemas(torch)
    folders = {}

    def folder(kind):
        if kind not in folders:
            folders[kind] = tiny_pipelines.build(tmp_path_factory.mktemp("pipelines") / kind, kind)
        return folders[kind]

    return folder


@pytest.fixture
def small_qwen(pipelines, monkeypatch):
    tiny_pipelines.shrink_qwen(monkeypatch)
