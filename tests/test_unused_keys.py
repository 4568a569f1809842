"""A key that has no effect in a run is told, and only then."""

from pathlib import Path

import pytest

from toolkit.cli import load_config
from toolkit.config.unused import unused_keys

BASE = ["--pretrained_model_name_or_path", "builtin:tiny-sd2", "--dataset_name", "builtin:scenes"]


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        (["--ema_decay", "0.99"], "ema.ema_decay"),
        (["--lr_warmup_steps", "10"], "optimizer.lr_warmup_steps"),
        (["--lr_power", "2", "--lr_scheduler", "cosine"], "optimizer.lr_power"),
        (["--algorithm", "adafactor", "--adam_beta1", "0.5"], "optimizer.adam_beta1"),
        (["--dream_detail_preservation", "2"], "objective.dream_detail_preservation"),
        (["--validation_rows", "3"], "validation.validation_rows"),
        (["--max_train_steps", "3", "--num_train_epochs", "3"], "training.num_train_epochs"),
        (["--eval_config", "sketch"], "validation.eval_config"),
    ],
)
def test_a_key_without_effect_is_named(flags, key):
    (sentence,) = unused_keys(load_config([*BASE, *flags]))
    assert sentence.startswith(f"{key} has no effect ")


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--use_ema", "--ema_decay", "0.99"],
        ["--lr_scheduler", "linear", "--lr_warmup_steps", "10"],
        ["--dream_training", "--dream_detail_preservation", "2"],
        ["--validation_fraction", "0.1", "--validation_rows", "3"],
        ["--eval_steps", "100", "--eval_config", "sketch"],
    ],
)
def test_keys_with_effect_are_not_named(flags):
    assert not unused_keys(load_config([*BASE, *flags]))


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_give_no_key_in_vain(path):
    assert not unused_keys(load_config(["--config", str(path)]))
