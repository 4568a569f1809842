"""Runs on latents that read the encodings of their autoencoder: the losses of those that encode at each visit."""

import numpy as np
import pytest
import torch
import yaml
from diffusers import AutoencoderKL

from toolkit.config import ScratchConfig, unused
from toolkit.errors import NoRoomError
from toolkit.metrics import read
from toolkit.models.frozen import Frozen
from toolkit.recipes.from_scratch import main
from toolkit.tasks.generation import LatentSpace


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    """One that has learned nothing, of 4 x 8 x 8 latents."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(4, 4, 8),
        norm_num_groups=2,
        sample_size=32,
    )
    folder = tmp_path_factory.mktemp("autoencoder")
    vae.save_pretrained(folder)
    return folder


@pytest.fixture
def values(tmp_path, autoencoder):
    return {
        "seed": 3,
        "model": {"block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4},
        "task": {"kind": "latents", "vae": str(autoencoder), "condition": "class"},
        "data": {
            "dataset_name": "builtin:birds",
            "dataset_config_name": "painted",
            "resolution": 32,
            "max_train_samples": 7,
            "random_flip": True,
            "cache": str(tmp_path / "cache"),
            "cache_dtype": "float32",
        },
        "noise": {"num_train_timesteps": 20, "rescale_betas_from": 1000},
        "optimizer": {"learning_rate": 1e-3, "lr_warmup_steps": 0},
        "training": {"train_batch_size": 4, "max_train_steps": 4},
        "validation": {"num_validation_images": 1, "validation_inference_steps": 2, "validation_rows": 3},
        "tracking": {"report_to": "none", "logging_steps": 1},
    }


@pytest.fixture
def train(tmp_path, values):
    """`train("--flag", "value", ...)` is a run of 4 updates of 4 birds; its losses."""
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))

    def run(*flags, folder="run"):
        main(["--config", str(tmp_path / "run.yaml"), "--output_dir", str(tmp_path / folder), *flags])
        rows = read(tmp_path / folder)
        return np.array([row[name] for row in rows for name in ("loss", "held_out_loss") if name in row])

    return run


def test_the_losses_are_those_of_a_run_that_encodes_at_each_visit(train, monkeypatch):
    flags = ("--validation_split", "validation")
    plain = train(*flags, "--cache", "off", folder="plain")
    assert len(plain) == 4 + 2
    encoded, posterior = [], LatentSpace.posterior

    def count(self, images):
        encoded.append(len(images))
        return posterior(self, images)

    monkeypatch.setattr(LatentSpace, "posterior", count)
    np.testing.assert_allclose(train(*flags, folder="cached"), plain, rtol=1e-5)
    # Seven rows, mirrored or not, and of the held-out ones the three that are measured.
    assert sum(encoded) == 7 * 2 + 3
    encoded.clear()
    np.testing.assert_allclose(train(*flags, folder="again"), plain, rtol=1e-5)
    # Verified, and no more: four training pictures and the three held-out ones.
    assert sum(encoded) == 4 + 3


def test_an_autoencoder_that_the_device_has_no_room_for_is_told(train, monkeypatch):
    def runs_out(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Frozen, "__init__", runs_out)
    with pytest.raises(NoRoomError, match="setting up"):
        train("--scale_latents", "false")


def test_how_latents_are_scaled_changes_no_encoding(train, tmp_path):
    train()
    train("--scale_latents", "false", folder="other")
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_the_cache_has_no_effect_on_pixels_and_is_read_for_latents(values):
    def told(**task):
        config = ScratchConfig.model_validate(values | {"output_dir": "run", "task": values["task"] | task})
        return [sentence for sentence in unused.unused_keys(config) if sentence.startswith("data.cache")]

    assert told() == []
    assert len(told(kind="pixels")) == 2
