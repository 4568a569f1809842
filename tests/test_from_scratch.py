"""Models from random weights, end to end: what a run leaves, that it resumes, and what it refuses."""

import numpy as np
import pytest
import torch
import yaml
from denoisers import noise
from diffusers import DDIMPipeline, DDPMPipeline
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from toolkit.batch import Batch
from toolkit.cli import load_config
from toolkit.config import ScratchConfig
from toolkit.draws import Draws
from toolkit.errors import ConfigError
from toolkit.hooks.timesteps import draw_loss_by_timestep
from toolkit.metrics import read
from toolkit.models.loading import WEIGHTS
from toolkit.pipelines.denoising import null_class
from toolkit.pipelines.latent import LatentDiffusionPipeline
from toolkit.pipelines.pixel import PixelDiffusionPipeline
from toolkit.pipelines.prior import AutoencoderPipeline
from toolkit.recipes import from_scratch
from toolkit.recipes.from_checkpoint import export_checkpoint
from toolkit.recipes.from_scratch import main
from toolkit.recipes.generation import FromData, build_task

CPU = torch.device("cpu")
SIDE = 32
CLASSES = 10
DIT = ("--architecture", "dit", "--num_layers", "1")


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


@pytest.fixture
def build(config):
    """`build("--flag", "value", ...)` is the task that it would train."""

    def built(*flags):
        return build_task(load_config(["--config", str(config), *flags], ScratchConfig), FromData(CLASSES), CPU)

    return built


def train_losses(task, count=64):
    """Of noise, whose positions have the classes 0, 1, 2, ..."""
    positions, unread = tuple(range(count)), ("",) * count
    batch = Batch(positions, unread, noise(count, 3, SIDE, SIDE), unread, labels=torch.arange(count) % CLASSES)
    return task.losses(task.model.train(), batch, Draws(0, positions, CPU))


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
        [*DIT, "--num_attention_heads", "2", "--patch_size", "8"],
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


@pytest.mark.parametrize("condition", ["none", "class"])
def test_a_transformer_is_told_no_class_only_where_the_draws_say_so(build, condition):
    task = build(*DIT, "--patch_size", "8", "--condition", condition, "--condition_dropout", "0")
    told, null = [], null_class(task.model)
    for block in task.model.transformer_blocks:
        block.norm1.emb.class_embedder.embedding_table.register_forward_pre_hook(
            lambda table, labels: told.extend(labels[0].tolist())
        )
    assert torch.equal(train_losses(task), train_losses(task))
    assert set(told) == set(range(null))


def test_the_estimate_of_a_self_conditioned_network_is_not_counted_in_its_statistics(build):
    task = build("--architecture", "variant", "--norm", "batch", "--self_conditioning")
    train_losses(task, count=4)
    counted = [norm.num_batches_tracked for norm in task.model.modules() if isinstance(norm, nn.BatchNorm2d)]
    assert len(counted) > 3
    assert set(map(int, counted)) == {1}


@pytest.mark.parametrize(
    "flags",
    [
        ["--self_conditioning"],
        ["--prediction_type", "v_prediction", "--scheduler", "dpmsolver++", "--loss_type", "huber"],
        ["--process", "flow", "--scheduler", "flow"],
        ["--process", "flow", "--scheduler", "flow", "--self_conditioning"],
        ["--dynamic_thresholding_ratio", "0.95", "--scheduler", "ddim"],
    ],
    ids=["self-conditioning", "v and DPM-Solver++", "flow", "flow without self-conditioning", "dynamic thresholding"],
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
        (["--block_out_channels", "6", "12"], "norm_num_groups = 4 does not divide 6"),
        (["--block_out_channels", *["8"] * 7], "multiples of 64"),
        (["--attention_levels", "7"], "attention_levels has 7"),
        (["--attention_levels", "-1"], "attention_levels has -1"),
        (["--attention_head_dim", "3"], "attention_head_dim = 3 does not divide 16"),
        ([*DIT, "--patch_size", "5"], "patch_size = 5 does not divide 32"),
        ([*DIT, "--attention_head_dim", "1"], "attention_head_dim is 6"),
        (["--kind", "autoencoder", "--norm_num_groups", "7"], "norm_num_groups = 7 does not divide 8"),
        (["--kind", "autoencoder", "--attention_levels", "2"], "attention_levels has 2"),
        (
            ["--kind", "autoencoder", "--block_out_channels", "8", "8", "8", "--resolution", "30"],
            "30 x 30 pixels cannot be halved 2 times(.|\n)*multiples of 4",
        ),
        (
            ["--kind", "latents", "--vae", "nowhere", "--dynamic_thresholding_ratio", "0.9"],
            "leave it out with task kind",
        ),
        (["--kind", "latents", "--vae", "nowhere"], "no autoencoder can be read from nowhere"),
        (["--kind", "latents", "--vae", str(WEIGHTS / "tiny-sd2"), "--resolution", "30"], "30 x 30 pixels cannot be"),
        (["--condition", "class", "--validation_labels", "10"], "there is no class 10"),
    ],
)
def test_what_cannot_work_is_refused_before_it_trains(train, tmp_path, flags, problem):
    with pytest.raises(ConfigError, match=problem):
        train(*flags)
    assert not list(tmp_path.glob("run/checkpoint-*"))


class DataAreRead(Exception):
    """As far as a run is of interest."""


@pytest.fixture
def begin(train, monkeypatch):
    """As `train`, up to where it reads its data."""

    def reads(config):
        raise DataAreRead

    monkeypatch.setattr(from_scratch, "checked_rows", reads)
    return train


LONG = ("--num_train_timesteps", "1000", "--rescale_betas_from", "null")


@pytest.mark.parametrize(
    ("flags", "dtype", "amplifies"),
    [
        ([], "float32", False),
        (["--scheduler", "ddim", "--mixed_precision", "bf16"], "bfloat16", False),
        (["--scheduler", "dpmsolver++"], "float32", True),
        (["--scheduler", "dpmsolver++", "--prediction_type", "v_prediction"], "float32", False),
        (["--scheduler", "dpmsolver++", "--dynamic_thresholding_ratio", "0.95"], "float32", False),
        (["--kind", "latents", "--vae", "nowhere"], "float32", True),
    ],
)
def test_what_is_told_of_the_noise_is_what_this_run_does_with_it(begin, capsys, flags, dtype, amplifies):
    with pytest.raises(DataAreRead):
        begin(*LONG, *flags)
    told = capsys.readouterr()
    assert f"noised in {dtype}" in told.out
    assert ("20291 times as large in the clean sample" in told.err) == amplifies


@pytest.mark.parametrize("flags", [["--kind", "autoencoder"], ["--process", "flow", "--scheduler", "flow"]])
def test_nothing_is_told_of_noise_that_there_is_not(begin, capsys, flags):
    with pytest.raises(DataAreRead):
        begin(*flags)
    assert "noise schedule" not in capsys.readouterr().out


def test_a_noise_schedule_is_refused_before_the_data_are_read(begin):
    with pytest.raises(ConfigError, match="alpha-bar is"):
        begin("--noise_schedule", "linear", "--rescale_betas_from", "null", "--num_train_timesteps", "5")


def test_classes_are_not_asked_of_rows_without_labels(train):
    with pytest.raises(ConfigError, match="the rows have no labels"):
        train("--condition", "class", "--dataset_name", "builtin:scenes")
