"""Models from random weights that read texts, end to end: pictures from captions, and their enlargement."""

import shutil

import numpy as np
import pytest
import torch
import yaml
from diffusers import IFPipeline, IFSuperResolutionPipeline
from PIL import Image
from safetensors.torch import load_file
from tiny_t5 import write_t5

from toolkit.errors import CheckpointError, ConfigError
from toolkit.models.text_states import TextStates
from toolkit.recipes.from_checkpoint import export_checkpoint
from toolkit.recipes.from_scratch import main

SMALL, SIDE = 8, 16
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
STEPS = {"num_inference_steps": 2, "guidance_scale": 3.0}


@pytest.fixture
def train(tmp_path):
    """`train("--flag", "value", ...)` is a run of 4 updates of 4 birds; its folder."""
    path = tmp_path / "texts.yaml"
    values = {
        "seed": 3,
        "model": {
            "block_out_channels": [8, 16],
            "layers_per_block": 1,
            "attention_levels": [1],
            "attention_head_dim": 8,
            "norm_num_groups": 4,
        },
        "task": {"kind": "pixels", "condition": "text", "text_encoder": str(write_t5(tmp_path / "t5"))},
        "data": {
            "dataset_name": "builtin:birds",
            "dataset_config_name": "painted",
            "resolution": SMALL,
            "max_train_samples": 13,
            "validation_split": "validation",
        },
        "noise": {"num_train_timesteps": 20, "rescale_betas_from": 1000},
        "optimizer": {"learning_rate": 1e-3, "lr_warmup_steps": 0},
        "ema": {"use_ema": True},
        "training": {"train_batch_size": 4, "max_train_steps": 4},
        "checkpoints": {"checkpointing_steps": 2},
        "validation": {
            "num_validation_images": 2,
            "validation_inference_steps": 2,
            "validation_steps": 2,
            "validation_rows": 3,
        },
        "tracking": {"report_to": "none"},
    }
    path.write_text(yaml.safe_dump(values))

    def run(*flags, folder="run"):
        main(["--config", str(path), "--output_dir", str(tmp_path / folder), *flags])
        return tmp_path / folder

    return run


ENLARGES = (
    "--kind",
    "super_resolution",
    "--resolution",
    str(SIDE),
    "--low_resolution",
    str(SMALL),
    "--noise_level",
    "5",
)


def drawn(pipeline, prompt, **options):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(prompt, generator=torch.Generator().manual_seed(0), **STEPS, **options).images[0]


def test_stock_pipelines_draw_and_enlarge_by_words_what_two_runs_have_learned(train):
    base, enlarger = train(folder="base"), train(*ENLARGES, folder="enlarger")
    stock = IFPipeline.from_pretrained(base)
    small, other = (drawn(stock, prompt) for prompt in ("a blue bird", "a red finch"))
    assert small.size == (SMALL, SMALL)
    assert small.tobytes() != other.tobytes()
    large = drawn(IFSuperResolutionPipeline.from_pretrained(enlarger), "a blue bird", image=small, noise_level=5)
    assert large.size == (SIDE, SIDE)


def test_a_run_draws_its_prompts_or_else_held_out_captions(train):
    own = train("--validation_prompts", "a blue bird", "a red finch", folder="own")
    theirs = train(folder="theirs")
    two, four = (Image.open(run / "samples" / "step-000004.png").height for run in (own, theirs))
    assert 2 * two == four
    assert Image.open(own / "process" / "step-000004.png").size == (8 * SMALL, 2 * SMALL)
    strip = np.asarray(Image.open(own / "interpolation" / "step-000004.png"))
    assert strip.shape == (SMALL, 8 * SMALL, 3)
    other = np.asarray(Image.open(theirs / "interpolation" / "step-000004.png"))
    assert not np.array_equal(strip, other)
    begun = np.asarray(Image.open(theirs / "samples" / "step-000000.png"))
    assert not np.array_equal(begun, np.asarray(Image.open(theirs / "samples" / "step-000004.png")))


def test_texts_are_encoded_once_for_all_runs_that_share_a_folder(train, tmp_path, monkeypatch):
    kept = ("--text_states_dir", str(tmp_path / "kept"))
    first = train(*kept, "--export_text_encoder", "false", folder="first")
    monkeypatch.setattr(TextStates, "load", lambda self: pytest.fail("the encoder is loaded again"))
    again = train(*kept, "--export_text_encoder", "false", folder="again")
    assert torch.equal(*(load_file(run / WEIGHTS)["conv_in.weight"] for run in (first, again)))
    assert not (first / "text_encoder").exists()


def test_captions_matter_and_their_dropout_too(train):
    runs = [
        train("--condition_dropout", dropout, "--ema.use_ema", "false", folder=dropout) for dropout in ("0.0", "1.0")
    ]
    states = [load_file(run / WEIGHTS) for run in runs]
    assert not all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_stopped_run_goes_on_to_the_same_weights_and_its_checkpoint_can_be_exported(train, tmp_path):
    whole = train(folder="whole")
    train("--max_train_steps", "2", folder="parts")
    parts = train(folder="parts")
    export_checkpoint(whole / "checkpoint-4", tmp_path / "exported")
    expected = load_file(whole / WEIGHTS)
    for folder in (parts, tmp_path / "exported"):
        actual = load_file(folder / WEIGHTS)
        assert all(torch.equal(expected[key], actual[key]) for key in expected)


def test_a_run_does_not_go_on_with_another_text_encoder(train, tmp_path):
    train("--max_train_steps", "2")
    shutil.rmtree(tmp_path / "t5")
    write_t5(tmp_path / "t5", seed=1)
    with pytest.raises(CheckpointError, match="text encoder"):
        train()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), ["import IFPipeline", "told captions as", "text-to-image"]),
        (("--export_text_encoder", "false"), ["prompt_embeds=texts.states(['", "TextStates("]),
        (ENLARGES, ["image=small, noise_level=5", "resize((8, 8)", "Enlarges pictures of 8 x 8"]),
        ((*ENLARGES, "--condition", "none"), ["pipeline('', image=small"]),
        (("--low_resolution", "4"), ["import IFPipeline", "Draws pictures of 8 x 8"]),
    ],
    ids=["texts", "without its encoder", "enlarging", "enlarging without captions", "not enlarging whatever the size"],
)
def test_the_card_says_how_to_use_it(train, flags, words):
    card = (train("--max_train_steps", "1", *flags) / "README.md").read_text()
    assert [word for word in words if word not in card] == []


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--kind", "super_resolution"], "needs low_resolution"),
        ([*ENLARGES, "--condition", "class"], "a caption or nothing"),
        (["--kind", "latents", "--vae", "anywhere"], "latents are not drawn from texts"),
        (["--attention_head_dim", "3"], "attention_head_dim = 3 does not divide 16"),
        (["--process", "flow", "--scheduler", "flow"], "no flows"),
        (["--text_encoder", "nowhere"], "task.text_encoder: `nowhere` cannot be loaded"),
        ([*ENLARGES, "--low_resolution", "16"], "task.low_resolution = 16"),
        ([*ENLARGES, "--eval_steps", "2", "--eval_config", "builtin_birds"], "enlarging these same pictures"),
        ([*ENLARGES, "--noise_level", "20"], "task.noise_level = 20"),
    ],
)
def test_what_cannot_work_is_refused_before_it_trains(train, tmp_path, flags, problem):
    with pytest.raises(ConfigError, match=problem):
        train(*flags)
    assert not list(tmp_path.glob("run/checkpoint-*"))
