"""Configurations of several kinds of run: which program reads which, and what it says of the others."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import yaml

from toolkit import cli
from toolkit.betas import NOISE_SCHEDULES
from toolkit.cli import load_any_config
from toolkit.config import BaseConfig, GanConfig, NoiseConfig, RunConfig, ScratchConfig
from toolkit.errors import ConfigError

Write = Callable[[str], str]
LEAST = {"model": {"pretrained_model_name_or_path": "base"}, "data": {"dataset_name": "rows"}}
LEAST_SCRATCH = {"task": {"kind": "pixels"}, "data": {"dataset_name": "rows"}}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a configuration and returns its path."""

    def to(text: str) -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return to


def refusal(argv: list[str], schema: type[BaseConfig]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        cli.load_config(argv, schema)
    return caught.value


def test_a_file_for_another_program_is_refused_by_name(write: Write) -> None:
    fine_tune = write(yaml.safe_dump(LEAST | {"task": {"kind": "lora"}}))
    with pytest.raises(ConfigError) as caught:
        cli.load_config(["--config", fine_tune], ScratchConfig)
    assert "is for train_text_to_image.py: its task is `lora`" in caught.value.problem
    scratch = write(yaml.safe_dump(LEAST_SCRATCH))
    assert "Start train_unconditional.py" in refusal(["--config", scratch], RunConfig).remedy


def test_a_file_tells_by_its_task_what_kind_of_run_it_is_of(write: Write) -> None:
    assert isinstance(load_any_config(["--config", write(yaml.safe_dump(LEAST_SCRATCH)), "--seed", "3"]), ScratchConfig)
    assert isinstance(load_any_config(["--config", write(yaml.safe_dump(LEAST))]), RunConfig)


def test_a_run_from_random_weights_has_to_say_what_it_learns(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"`task\.kind` is missing"):
        cli.load_config(["--dataset_name", "rows"], ScratchConfig)
    with pytest.raises(ConfigError, match="kind latents needs vae"):
        cli.load_config(["--dataset_name", "rows", "--kind", "latents"], ScratchConfig)
    with pytest.raises(ConfigError) as caught:
        cli.load_config(["--config", write(yaml.safe_dump(LEAST_SCRATCH | {"task": {"kind": "pixel"}}))], ScratchConfig)
    assert "'autoencoder' or 'super_resolution'" in caught.value.problem


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--lr_scheduler", "polynomial"], "lr_scheduler polynomial is not for GANs"),
        (["--use_8bit_adam"], "algorithm adamw only"),
        (["--gradient_accumulation_steps", "2"], "without gradient accumulation"),
        (["--eval_steps", "2", "--eval_config", "builtin_birds"], "eval_steps is not for GANs"),
    ],
)
def test_what_the_loop_of_a_gan_does_not_do_is_refused(flags: list[str], problem: str) -> None:
    assert problem in refusal(["--dataset_name", "rows", "--kind", "gan", *flags], GanConfig).problem


def test_the_noise_schedules_that_a_configuration_names_are_those_that_there_are() -> None:
    assert set(get_args(NoiseConfig.model_fields["noise_schedule"].annotation)) == set(NOISE_SCHEDULES)
