"""Models from random weights, end to end: what a run leaves, that it resumes, and what it refuses."""

import numpy as np
import pytest
import torch
import yaml
from diffusers import DDIMPipeline, DDPMPipeline
from PIL import Image
from safetensors.torch import load_file

from toolkit.errors import ConfigError
from toolkit.hooks.timesteps import draw_loss_by_timestep
from toolkit.metrics import read
from toolkit.pipelines.latent import LatentDiffusionPipeline
from toolkit.pipelines.pixel import PixelDiffusionPipeline
from toolkit.pipelines.prior import AutoencoderPipeline
from toolkit.recipes.from_checkpoint import export_checkpoint
from toolkit.recipes.from_scratch import main

SIDE = 32


@pytest.fixture
def config(tmp_path):
    """A run of 4 updates of 4 birds."""
    path = tmp_path / "tiny.yaml"
    values = {
        "output_dir": str(tmp_path / "run"),
        "seed": 3,
        "model": {"block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4},
        "task": {"kind": "pixels"},
        "data": {
            "dataset_name": "builtin:birds",
            "dataset_config_name": "painted",
            "resolution": SIDE,
            "max_train_samples": 13,
            "random_flip": True,
        },
        "noise": {"num_train_timesteps": 20, "rescale_betas_from": 1000},
        "optimizer": {"learning_rate": 1e-3, "lr_warmup_steps": 0},
        "ema": {"use_ema": True},
        "training": {"train_batch_size": 4, "max_train_steps": 4},
        "checkpoints": {"checkpointing_steps": 2},
        "validation": {"num_validation_images": 4, "validation_inference_steps": 4, "validation_steps": 2},
        "tracking": {"report_to": "none"},
    }
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture
def train(config, tmp_path):
    """`train("--flag", "value", ...)` runs it; its folder."""

    def run(*flags, folder="run"):
        main(["--config", str(config), "--output_dir", str(tmp_path / folder), *flags])
        return tmp_path / folder

    return run


def drawn(pipeline, **arguments):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(generator=torch.Generator().manual_seed(0), **arguments).images[0]


def test_an_unconditional_run_leaves_what_stock_diffusers_loads_and_draws_with(train):
    run = train()
    picture = drawn(DDPMPipeline.from_pretrained(run), num_inference_steps=4)
    assert picture.size == (SIDE, SIDE)
    assert (run / "unet" / "diffusion_pytorch_model.non_ema.safetensors").exists()
    card = (run / "README.md").read_text()
    assert "DDPMPipeline.from_pretrained" in card
    assert "16 images seen" in card


def test_a_run_draws_its_pictures_at_every_validation(train):
    run = train("--validation_split", "validation", "--validation_rows", "3")
    for folder in ("samples", "process", "interpolation"):
        assert sorted(path.name for path in (run / folder).iterdir()) == [
            "step-000000.png",
            "step-000002.png",
            "step-000004.png",
        ]
    assert Image.open(run / "samples" / "step-000004.png").size == (2 * SIDE, 2 * SIDE)
    assert Image.open(run / "process" / "step-000004.png").size == (8 * SIDE, 2 * SIDE)
    assert Image.open(run / "interpolation" / "step-000004.png").size == (8 * SIDE, SIDE)
    # A row for each of the three validations.
    assert Image.open(run / "over_time.png").height == 3 * SIDE
    held_out = run / "held_out"
    assert sorted(path.name for path in held_out.glob("*.png")) == [f"step-00000{step}.png" for step in (0, 2, 4)]
    losses = {f"step {step}": np.load(held_out / f"step-00000{step}.npy") for step in (0, 4)}
    draw_loss_by_timestep(run / "again.png", losses)
    assert (held_out / "step-000004.png").read_bytes() == (run / "again.png").read_bytes()
    measured = [row for row in read(run) if "held_out_loss" in row]
    assert [row["step"] for row in measured] == [0, 2, 4]
    assert "held_out_loss_band_10_of_10" in measured[0]


def test_a_stopped_run_goes_on_to_the_same_weights(train):
    whole = train(folder="whole")
    train("--max_train_steps", "2", folder="parts")
    parts = train(folder="parts")
    for name in ("unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.non_ema.safetensors"):
        expected, actual = load_file(whole / name), load_file(parts / name)
        assert expected.keys() == actual.keys()
        assert all(torch.equal(expected[key], actual[key]) for key in expected)


def test_the_weights_are_a_function_of_the_seed(train):
    first, again, other = (
        train("--seed", seed, folder=folder) for seed, folder in (("1", "a"), ("1", "b"), ("2", "c"))
    )
    weights = [
        load_file(run / "unet/diffusion_pytorch_model.safetensors")["conv_in.weight"] for run in (first, again, other)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--architecture", "variant", "--norm", "batch", "--attention_levels", "1", "--attention", "linear"],
        ["--architecture", "variant", "--block", "convnext", "--norm", "layer", "--norm_position", "post"],
        ["--architecture", "dit", "--num_layers", "1", "--num_attention_heads", "2", "--patch_size", "8"],
    ],
    ids=["unet2d", "batch norm", "convnext", "dit"],
)
def test_a_run_told_classes_draws_the_one_that_is_asked_for(train, flags):
    run = train("--condition", "class", "--validation_guidance_scale", "2", "--num_validation_images", "1", *flags)
    pipeline = PixelDiffusionPipeline.from_pretrained(run)
    one, other = (drawn(pipeline, class_labels=[label], guidance_scale=3, num_inference_steps=2) for label in (0, 7))
    assert one.size == (SIDE, SIDE)
    assert one.tobytes() != other.tobytes()
    assert "Allen's Hummingbird" in (run / "README.md").read_text()


@pytest.mark.parametrize(
    "flags",
    [
        ["--self_conditioning"],
        ["--prediction_type", "v_prediction", "--scheduler", "dpmsolver++", "--loss_type", "huber"],
        ["--process", "flow", "--scheduler", "flow"],
        ["--dynamic_thresholding_ratio", "0.95", "--scheduler", "ddim"],
    ],
    ids=["self-conditioning", "v and DPM-Solver++", "flow", "dynamic thresholding"],
)
def test_other_processes_and_predictions_train_and_draw(train, flags):
    picture = drawn(PixelDiffusionPipeline.from_pretrained(train(*flags)), num_inference_steps=2)
    assert picture.size == (SIDE, SIDE)


def test_a_deterministic_sampler_is_stock_diffusers_own(train):
    assert type(DDIMPipeline.from_pretrained(train("--scheduler", "ddim"))).__name__ == "DDIMPipeline"


def test_an_autoencoder_draws_from_its_prior_and_serves_latent_diffusion(train):
    autoencoder = train("--kind", "autoencoder", folder="autoencoder")
    assert drawn(AutoencoderPipeline.from_pretrained(autoencoder)).size == (SIDE, SIDE)
    assert (autoencoder / "over_time.png").exists()
    assert not (autoencoder / "process").exists()
    latents = train("--kind", "latents", "--vae", str(autoencoder), folder="latents")
    pipeline = LatentDiffusionPipeline.from_pretrained(latents)
    assert drawn(pipeline, num_inference_steps=2).size == (SIDE, SIDE)
    assert pipeline.unet.config.in_channels == 4
    expected, actual = (load_file(run / "vae/diffusion_pytorch_model.safetensors") for run in (autoencoder, latents))
    assert all(torch.equal(expected[key], actual[key]) for key in expected)


def test_a_checkpoint_of_a_run_with_classes_can_be_exported(train, tmp_path):
    run = train("--condition", "class")
    export_checkpoint(run / "checkpoint-4", tmp_path / "exported")
    name = "unet/diffusion_pytorch_model.safetensors"
    expected, actual = load_file(run / name), load_file(tmp_path / "exported" / name)
    assert all(torch.equal(expected[key], actual[key]) for key in expected)


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--noise_schedule", "linear", "--rescale_betas_from", "null", "--num_train_timesteps", "5"], "alpha-bar is"),
        (["--block_out_channels", "6", "12"], "unet2d cannot be built for 3 x 32 x 32"),
        (["--block_out_channels", *["8"] * 7], "it must divide by 64"),
        (["--kind", "latents", "--vae", "nowhere"], "no autoencoder can be read from nowhere"),
        (["--condition", "class", "--validation_labels", "10"], "there is no class 10"),
    ],
)
def test_what_cannot_work_is_refused_before_it_trains(train, tmp_path, flags, problem):
    with pytest.raises(ConfigError, match=problem):
        train(*flags)
    assert not list(tmp_path.glob("run/checkpoint-*"))


def test_classes_are_not_asked_of_rows_without_labels(train):
    with pytest.raises(ConfigError, match="the rows have no labels"):
        train("--condition", "class", "--dataset_name", "builtin:scenes")
