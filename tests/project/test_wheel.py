"""What `pip install` of a wheel brings: built from the checkout's files, installed beside nothing else, and used."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import venv
import zipfile
from functools import partial
from pathlib import Path

import pytest
from fakes.chat_fakes import photo, reply
from fakes.chat_server import chat_server
from fakes.commands import output_of
from PIL import Image

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PLACES = ("ier1_plugin", "reward_fns", "data_prep", "setup.py", "pyproject.toml", "README.md", "LICENSE")
# not on this checkout's path
run = partial(output_of, env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"})


def tracked() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("this is not a git checkout, so nothing says which files belong to the package")
    files = run("git", "ls-files", "-co", "--exclude-standard", *PLACES, cwd=ROOT).splitlines()
    return [file for file in files if (ROOT / file).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a copy, since setuptools leaves files beside its sources."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for file in tracked():
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, source / file)
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", built)
    run(*pip, source, cwd=source)
    (made,) = built.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment that has the wheel, and of other packages what this one has."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    names = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=names))
    scripts = Path(sysconfig.get_path("scripts", "venv", vars=names))
    install = (sys.executable, "-m", "pip", "--python", scripts / "python", "install", "--no-deps", "--no-index")
    run(*install, wheel, cwd=folder)
    # only now, so that pip does not meet the checkout's own installation; .pth files in that folder count for nothing
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return scripts


def test_a_wheel_holds_the_package_alone_with_all_its_files(wheel: Path):
    files = set(zipfile.ZipFile(wheel).namelist())
    assert {file.partition("/")[0].partition("-")[0] for file in files} == {"ier1_plugin", "imageedit_r1"}
    # READMEs are for readers of the repository
    parts = [file for file in tracked() if not file.endswith(".md")]
    package = {file for file in parts if file.startswith("ier1_plugin/")}
    rewards = {f"ier1_plugin/{file}" for file in parts if file.startswith("reward_fns/")}
    assert package | rewards == {file for file in files if file.startswith("ier1_plugin/")}


def test_an_installed_wheel_edits_and_knows_its_systems_in_any_folder(scripts: Path, tmp_path: Path):
    photo(48, 32).save(tmp_path / "photo.png")
    ier1 = scripts / "ier1"
    models = run(ier1, "models", cwd=tmp_path)
    assert all(line in models for line in ("pillow\n", "--system flux-kontext\n", "--preset step-cache\n"))
    run(ier1, "edit", "photo.png", "rotate it to the right", "--method=original", "--editor=pillow", cwd=tmp_path)
    with Image.open(tmp_path / "photo-edited.png") as edited:
        assert edited.size == (32, 48)
    with chat_server(lambda body, number: reply()) as server:
        agents = (f"--decomposer=openai:{server.url}#m", "--sequencer=rule")
        command = (ier1, "edit", "photo.png", "remove the lamp", "--system", "flux-kontext", *agents, "--dry-run")
        plan = run(*command, cwd=tmp_path)
    assert "Delete lamp" in plan


def test_the_reward_comes_with_the_wheel_under_the_packages_own_name(scripts: Path, tmp_path: Path):
    code = (
        "import importlib.util, ier1_plugin.reward_fns.decomposition as reward\n"
        "print(reward.__file__, reward.compute_score([]), importlib.util.find_spec('data_prep'),\n"
        "    importlib.util.find_spec('reward_fns'))"
    )
    file, *rest = run(scripts / "python", "-c", code, cwd=tmp_path).split()
    assert Path(file).is_relative_to(scripts.parent)
    assert rest == ["[]", "None", "None"]
