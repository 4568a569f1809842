"""Pictures of a model from scratch against held-out ones: the numbers, the labels, and what is refused."""

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny_networks import write_clip

from eval.config import SHIPPED
from eval.config_files import load
from eval.distribution import Distribution, DistributionConfig, evaluation_of_distribution
from eval.feature_sets import halves
from eval.metrics.distances import frechet_distance, kernel_distance
from eval.metrics.intervals import kernel_distance_interval
from eval.pictures import Rows
from toolkit import metrics
from toolkit.cli import load_config
from toolkit.config import DataConfig, ScratchConfig
from toolkit.data.splits import framing_of, open_split
from toolkit.errors import ConfigError, DataError
from toolkit.hooks.curve import draw_curve
from toolkit.recipes.from_scratch import main

BIRDS = {"dataset_name": "builtin:birds", "dataset_config_name": "painted", "resolution": 32, "center_crop": True}
HELD_OUT = 256


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return f"local-dir:{write_clip(tmp_path_factory.mktemp('networks') / 'clip')}"


@pytest.fixture(scope="module")
def data():
    return DataConfig(**BIRDS, validation_split="validation")


@pytest.fixture(scope="module")
def birds(network, data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return Distribution(DistributionConfig(network=network, pictures=30, batch_size=16), data, seed=0)


def drawn(split, count, start=0):
    rows = Rows(open_split(DataConfig(**BIRDS), split), framing_of(DataConfig(**BIRDS)))
    return [rows[row] for row in range(start, start + count)]


def noise(count):
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(count)]


def test_the_pictures_have_the_first_seeds_and_the_classes_of_held_out_rows(birds, data, network):
    rows = open_split(data, "validation", needs_captions=False)
    assert [request.seed for request in birds.requests] == list(range(30))
    assert [request.label for request in birds.requests] == [rows.label(n * HELD_OUT // 30) for n in range(30)]
    many = Distribution(DistributionConfig(network=network, pictures=300), data, seed=0).requests
    assert [request.label for request in many] == [rows.label(n % HELD_OUT) for n in range(300)]
    (sampling,) = {request.sampling for request in many}
    assert (sampling.inference_steps, sampling.guidance_scale) == (50, 1.0)


def test_the_numbers_are_those_of_the_functions_that_they_are_named_after(birds):
    vectors = birds.vectors(drawn("train", 30))
    figures = birds.figures(vectors, None)
    found = kernel_distance_interval(vectors, birds.reference)
    assert (figures["kid"], figures["kid_low"], figures["kid_high"]) == (found.mean, found.low, found.high)
    assert figures["kid"] == pytest.approx(kernel_distance(vectors, birds.reference))
    assert figures["frechet_n"] == 30
    parts = list(halves(birds.reference, 10))
    assert figures["frechet"] == pytest.approx(np.mean([frechet_distance(vectors, one[:30]) for one, _ in parts]))
    floor = np.mean([frechet_distance(one[:30], other[:30]) for one, other in parts])
    assert figures["frechet_floor"] == pytest.approx(floor)
    assert birds.figures(vectors, vectors) == figures


def test_real_pictures_are_as_near_as_halves_of_the_reference_and_noise_is_not(birds):
    real, far = (birds.figures(birds.vectors(pictures), None) for pictures in (drawn("train", 60), noise(60)))
    assert real["kid_low"] < 0 < real["kid_high"]
    assert real["frechet"] < 1.5 * real["frechet_floor"]
    assert far["kid_low"] > real["kid_high"]
    assert far["frechet"] > 2 * far["frechet_floor"]
    assert real["kid_floor"] == far["kid_floor"] == birds.floor.mean
    assert birds.floor.low < birds.floor.mean < birds.floor.high
    assert abs(birds.floor.mean) < 0.1 * far["kid"]


def test_the_frechet_distance_is_of_as_many_pictures_as_its_floor(birds):
    many = birds.vectors(drawn("train", 200))
    found = birds.frechet(many)
    assert found.n == HELD_OUT // 2
    assert birds.frechet(many[:25]).n == 25
    assert birds.frechet(many[:25]).distance > found.distance
    assert birds.frechet(many[:19]) is None


def test_real_pictures_keep_their_features_whatever_the_batch(birds, network, data):
    alone = Distribution(DistributionConfig(network=network, pictures=20, batch_size=1), data, seed=0)
    pictures = drawn("train", 5)
    np.testing.assert_allclose(alone.vectors(pictures), birds.vectors(pictures), atol=1e-5)


def test_the_judges_tell_other_networks_and_other_pictures_apart(birds, network, data, tmp_path):
    def judges(**others):
        return Distribution(DistributionConfig(**({"network": network} | others)), data, seed=0).judges

    assert judges() == birds.judges
    other = f"local-dir:{write_clip(tmp_path / 'other', seed=1)}"
    assert judges(network=other)["network"] != birds.judges["network"]
    cut = DataConfig(**BIRDS | {"dataset_config_name": "sketch"}, validation_split="validation")
    assert (
        Distribution(DistributionConfig(network=network), cut, 0).judges["held-out pictures"]
        != judges()["held-out pictures"]
    )


def test_data_that_hold_nothing_out_or_too_little_are_refused(network):
    config = DistributionConfig(network=network)
    with pytest.raises(DataError, match="hold none out"):
        Distribution(config, DataConfig(**BIRDS), seed=0)
    with pytest.raises(DataError, match="needs 20 held-out pictures"):
        Distribution(config, DataConfig(**BIRDS, validation_fraction=0.005), seed=0)


def test_what_is_wrong_in_a_configuration_is_named(tmp_path):
    for values, expected in (
        ({"pictures": 5}, "`pictures` = 5"),
        ({"picture": 50}, "no key `picture`"),
        ({"batch_size": 0}, "`batch_size` = 0"),
    ):
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
        with pytest.raises(ConfigError, match=expected):
            load(DistributionConfig, str(tmp_path / "mine.yaml"), SHIPPED)
    with pytest.raises(ConfigError) as raised:
        load(DistributionConfig, "builtin_brids", SHIPPED)
    assert "builtin_birds" in raised.value.remedy


@pytest.mark.parametrize(
    ("name", "base", "pictures"), [("builtin_birds", "builtin_birds", 256), ("cars", "cars-fixed", 2048)]
)
def test_what_ships_loads_and_asks_for_steps_that_were_trained(name, base, pictures):
    shipped = load(DistributionConfig, name, SHIPPED)
    assert shipped.pictures == pictures
    assert shipped.inference_steps <= load_config(["--config", base], ScratchConfig).noise.num_train_timesteps


def test_a_run_from_scratch_records_the_numbers(network, tmp_path):
    (tmp_path / "judge.yaml").write_text(yaml.safe_dump({"network": network, "pictures": 20, "inference_steps": 2}))
    values = {
        "output_dir": str(tmp_path / "run"),
        "model": {"block_out_channels": [8, 8], "layers_per_block": 1, "norm_num_groups": 4},
        "task": {"kind": "pixels", "condition": "class"},
        "data": BIRDS | {"validation_split": "validation", "max_train_samples": 8},
        "noise": {"num_train_timesteps": 10, "scheduler": "ddim"},
        "training": {"train_batch_size": 2, "max_train_steps": 2},
        "validation": {
            "validation_rows": 2,
            "num_validation_images": 1,
            "validation_inference_steps": 2,
            "eval_steps": 2,
            "eval_config": str(tmp_path / "judge.yaml"),
        },
        "tracking": {"report_to": "none"},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
    main(["--config", str(tmp_path / "run.yaml")], evaluation_of_distribution)
    whole = (tmp_path / "run" / "curve.png").read_bytes()
    draw_curve(tmp_path / "run", images_per_step=2)
    assert (tmp_path / "run" / "curve.png").read_bytes() == whole
    rows = {row["step"]: row for row in metrics.read(tmp_path / "run") if "kid" in row}
    assert list(rows) == [0, 2]
    assert rows[2].keys() == {
        "step", "kid", "kid_low", "kid_high", "kid_floor", "frechet", "frechet_floor", "frechet_n"
    }  # fmt: skip
    assert rows[0]["kid"] != rows[2]["kid"]
    assert rows[2]["kid_low"] < rows[2]["kid"] < rows[2]["kid_high"]
