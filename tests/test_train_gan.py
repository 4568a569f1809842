"""`train_gan.py`, end to end: what a run leaves, that it goes on where it was stopped, and what it refuses."""

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from toolkit.adversarial import loop
from toolkit.errors import CheckpointError, ConfigError, NoRoomError
from toolkit.pipelines.gan import GanPipeline
from toolkit.recipes.from_checkpoint import export_checkpoint
from toolkit.recipes.gan import main

SIDE = 32


@pytest.fixture
def train(tmp_path):
    """`train("--flag", "value", ...)` runs 4 updates of 4 birds; its folder."""
    path = tmp_path / "tiny.yaml"
    values = {
        "seed": 3,
        "model": {"channels": 8, "latent_dim": 6, "norm_num_groups": 4},
        "task": {"kind": "gan"},
        "data": {
            "dataset_name": "builtin:birds",
            "dataset_config_name": "painted",
            "resolution": SIDE,
            "max_train_samples": 13,
        },
        "training": {"train_batch_size": 4, "max_train_steps": 4},
        "checkpoints": {"checkpointing_steps": 2},
        "validation": {"num_validation_images": 4, "validation_steps": 2},
        "tracking": {"report_to": "none"},
    }
    path.write_text(yaml.safe_dump(values))

    def run(*flags, folder="run"):
        main(["--config", str(path), "--output_dir", str(tmp_path / folder), *flags])
        return tmp_path / folder

    return run


def test_a_run_leaves_a_pipeline_that_draws_and_a_card_that_says_how(train):
    run = train()
    pipeline = GanPipeline.from_pretrained(run)
    assert pipeline(generator=torch.Generator().manual_seed(0)).images[0].size == (SIDE, SIDE)
    assert sorted(path.name for path in (run / "samples").iterdir()) == [f"step-00000{step}.png" for step in (0, 2, 4)]
    assert Image.open(run / "samples" / "step-000004.png").size == (2 * SIDE, 2 * SIDE)
    card = (run / "README.md").read_text()
    assert "from toolkit.pipelines.gan import GanPipeline" in card
    assert "16 images seen" in card


def test_a_run_is_followed_over_time_and_from_one_latent_to_another(train):
    run = train()
    sheet, strip, over_time = (
        np.asarray(Image.open(run / name))
        for name in ("samples/step-000004.png", "interpolation/step-000004.png", "over_time.png")
    )
    assert strip.shape == (SIDE, 8 * SIDE, 3)
    for shown, drawn in ((strip[:, :SIDE], sheet[:SIDE, :SIDE]), (strip[:, -SIDE:], sheet[:SIDE, SIDE:])):
        assert np.abs(shown.astype(int) - drawn).max() <= 1
    assert len({strip[:, start : start + SIDE].tobytes() for start in range(0, 8 * SIDE, SIDE)}) == 8
    # A row for each of the three times.
    assert over_time.shape[0] == 3 * SIDE
    assert np.array_equal(over_time[-SIDE:, -2 * SIDE :], sheet[:SIDE])


def test_a_run_told_classes_draws_a_row_of_each(train):
    run = train("--condition", "class", "--num_validation_images", "1")
    assert Image.open(run / "samples" / "step-000004.png").height > 8 * SIDE
    assert Image.open(run / "over_time.png").height == 3 * SIDE
    assert Image.open(run / "interpolation" / "step-000004.png").width == 8 * SIDE
    assert len(GanPipeline.from_pretrained(run)(class_labels=[0, 9]).images) == 2


def test_a_stopped_run_goes_on_to_the_same_weights(train):
    whole = train(folder="whole")
    train("--max_train_steps", "2", folder="parts")
    parts = train(folder="parts")
    name = "generator/diffusion_pytorch_model.safetensors"
    expected, actual = load_file(whole / name), load_file(parts / name)
    assert all(torch.equal(expected[key], actual[key]) for key in expected)


def test_what_it_cannot_do_is_refused(train, tmp_path):
    with pytest.raises(ConfigError, match="the rows have no labels"):
        train("--condition", "class", "--dataset_name", "builtin:scenes")
    with pytest.raises(CheckpointError, match="is of a GAN"):
        export_checkpoint(train() / "checkpoint-4", tmp_path / "exported")


def test_a_device_without_room_is_told_and_a_checkpoint_survives_it(train, monkeypatch):
    def full(*args):
        raise torch.OutOfMemoryError

    run = train("--max_train_steps", "2")
    monkeypatch.setattr(loop, "r1_penalties", full)
    with pytest.raises(NoRoomError, match=r"training a GAN: out of memory(.|\n)*another output_dir"):
        train()
    monkeypatch.undo()
    assert train() == run
