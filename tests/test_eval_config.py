"""The configurations of evaluations: what ships loads, and what is wrong is named."""

from pathlib import Path

import pytest

from eval.config import SHIPPED, load, validate
from toolkit.errors import ConfigError

MINIMAL = {"prompts": {"file": "prompts.txt"}}


@pytest.mark.parametrize(
    "path", [SHIPPED / f"{name}.yaml" for name in ("birds", "demo", "sketch")], ids=lambda path: path.stem
)
def test_what_ships_loads_and_its_prompts_are_there(path):
    config = load(path.stem)
    for file in (config.prompts.file, config.prompts.without_style):
        assert file is None or file.is_file()


def test_the_two_published_experiments_are_two_wordings_of_one_configuration():
    experiments = load("sketch").experiments
    assert list(experiments) == ["style_in_both", "style_in_scorer_only"]
    assert experiments["style_in_scorer_only"].generator == "{prompt}"
    assert experiments["style_in_both"].scorer == experiments["style_in_scorer_only"].scorer


def test_prompt_files_lie_beside_the_configuration(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("prompts:\n  file: mine.txt\n")
    monkeypatch.chdir(tmp_path.parent)
    assert load(str(tmp_path / "mine.yaml")).prompts.file == tmp_path / "mine.txt"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "`prompts` is missing"),
        ({"prompts": {}}, "exactly one of `file` and `held_out`"),
        ({"prompts": {"held_out": 5}}, "`data`, which is missing"),
        (MINIMAL | {"drawing": {"steps": 3}}, "no key `drawing.steps`"),
        (MINIMAL | {"drawing": {"resolution": 0}}, "`drawing.resolution` = 0"),
        (MINIMAL | {"experiments": {"mine": {"scorer": "a sketch"}}}, "experiments.mine: `scorer` lacks {prompt}"),
        (MINIMAL | {"experiments": {}}, "`experiments`"),
    ],
)
def test_what_is_wrong_is_named(values, expected):
    with pytest.raises(ConfigError) as raised:
        validate(values, "mine.yaml")
    assert expected in raised.value.problem
    assert raised.value.problem.startswith("mine.yaml")


def test_an_unknown_configuration_names_the_nearest():
    with pytest.raises(ConfigError) as raised:
        load("sketsh")
    assert "sketch" in raised.value.remedy
    assert Path("configs/eval").is_dir()
