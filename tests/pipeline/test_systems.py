"""The systems and presets that the package ships by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from ier1_plugin.editors import EDITORS
from ier1_plugin.pipeline.system import PRESET, SYSTEM, SettingsError, System, find_settings, read_yaml, shipped
from ier1_plugin.runs.settings import parse_settings


def test_the_systems_of_the_papers_table_1_are_shipped_each_in_its_row():
    systems = {name: System.read(name) for name in shipped(SYSTEM)}
    ablations = {"flux-kontext-multi-turn", "flux-kontext-without-goal", "flux-kontext-qwen3vl"}
    chains = {"flux-kontext", "qwen-image-edit", "nano-banana"}
    alone = {"step1x-edit", "illume-plus", "icedit", "gpt-4o", "seededit"}
    variants = {f"{chain}{variant}" for chain in chains for variant in ("", "-original", "-without-rl")}
    assert set(systems) == alone | variants | ablations
    assert len({one.name for one in systems.values()}) == len(systems)
    for chain in chains:
        three = [systems[f"{chain}{variant}"] for variant in ("", "-original", "-without-rl")]
        assert len({(one.editor, str(one.editor_settings)) for one in three}) == 1
        assert [one.method for one in three] == ["imageedit-r1", "original", "imageedit-r1"]
        assert "#decomposer" in three[0].decomposer
        assert three[2].decomposer == three[2].sequencer == three[0].sequencer
    assert all(systems[name].editor.startswith("folder:") for name in alone)


@pytest.mark.parametrize("name", shipped(SYSTEM))
def test_every_system_names_itself_agents_and_an_editor_that_exist(name: str):
    system = System.read(name)
    assert system.name
    assert system.editor.partition(":")[0] in EDITORS
    assert system.method == "original" or system.decomposer


@pytest.mark.parametrize("name", shipped(PRESET))
def test_every_preset_is_settings_of_an_editor_and_says_what_it_does_in_its_first_line(name: str):
    file = shipped(PRESET)[name]
    assert parse_settings(System, read_yaml(file), name).editor in EDITORS
    assert file.read_text(encoding="utf-8").startswith("# ")


def test_a_name_wins_over_a_folder_of_that_name_and_a_file_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("flux-kontext").mkdir()
    Path("mine").write_text("editor: pillow\n")
    assert find_settings(SYSTEM, "flux-kontext") == shipped(SYSTEM)["flux-kontext"]
    assert find_settings(SYSTEM, "mine") == Path("mine")
    assert find_settings(SYSTEM, "./flux-kontext.yaml") == Path("flux-kontext.yaml")
    with pytest.raises(SettingsError, match="--system flux-kontext-original"):
        System.read("examples/systems/flux_kontext_original.yaml")
