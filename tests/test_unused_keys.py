"""A key that has no effect in a run is told, and only then."""

from pathlib import Path

import pytest

from toolkit.cli import load_any_config, load_config
from toolkit.config import RunConfig, ScratchConfig
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
        (["--fused_backward_clipping", "previous_norm"], "optimizer.fused_backward_clipping"),
        (
            ["--fused_backward", "--fused_backward_clipping", "previous_norm", "--max_grad_norm", "null"],
            "optimizer.fused_backward_clipping",
        ),
        (["--checkpointed_blocks", "mid_block"], "model.checkpointed_blocks"),
        (["--attention_slicing"], "validation.attention_slicing"),
    ],
)
def test_a_key_without_effect_is_named(flags, key):
    (sentence,) = unused_keys(load_config([*BASE, *flags], RunConfig))
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
        ["--fused_backward", "--fused_backward_clipping", "previous_norm"],
        ["--gradient_checkpointing", "--checkpointed_blocks", "mid_block"],
        ["--attention_slicing", "--validation_prompts", "a house"],
    ],
)
def test_keys_with_effect_are_not_named(flags):
    assert not unused_keys(load_config([*BASE, *flags], RunConfig))


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_give_no_key_in_vain(path):
    assert not unused_keys(load_any_config(["--config", str(path)]))


SCRATCH = ["--dataset_name", "builtin:birds", "--kind", "pixels"]


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        (["--norm", "batch"], "model.norm"),
        (["--patch_size", "4"], "model.patch_size"),
        (["--architecture", "dit", "--attention_levels", "1"], "model.attention_levels"),
        (["--condition_dropout", "0.2"], "task.condition_dropout"),
        (["--kl_weight", "1"], "task.kl_weight"),
        (["--kind", "autoencoder", "--gradient_checkpointing"], "model.gradient_checkpointing"),
        (["--architecture", "variant", "--attention", "none", "--attention_levels", "1"], "model.attention_levels"),
        (["--architecture", "variant", "--norm", "batch", "--norm_num_groups", "4"], "model.norm_num_groups"),
        (["--shift", "3"], "noise.shift"),
        (["--process", "flow", "--scheduler", "flow", "--snr_gamma", "5"], "objective.snr_gamma"),
        (["--validation_guidance_scale", "3"], "validation.validation_guidance_scale"),
        (["--lr_step_factor", "0.8"], "optimizer.lr_step_factor"),
        (["--validation_prompts", "a bird"], "validation.validation_prompts"),
        (["--attention_slicing"], "validation.attention_slicing"),
    ],
)
def test_a_key_without_effect_from_random_weights_is_named(flags, key):
    (sentence,) = unused_keys(load_config([*SCRATCH, *flags], ScratchConfig))
    assert sentence.startswith(f"{key} has no effect ")


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--architecture", "variant", "--norm", "batch"],
        ["--architecture", "dit", "--patch_size", "4"],
        ["--condition", "class", "--condition_dropout", "0.2", "--validation_guidance_scale", "3"],
        ["--lr_scheduler", "step", "--lr_step_epochs", "25", "--lr_step_factor", "0.8"],
    ],
)
def test_keys_with_effect_from_random_weights_are_not_named(flags):
    assert not unused_keys(load_config([*SCRATCH, *flags], ScratchConfig))
