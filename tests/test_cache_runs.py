"""Runs that read encodings: the same losses as without, never a stale one, and what is refused."""

import json

import numpy as np
import pytest
import torch
import yaml
from conftest import start_process
from image_folders import picture, state
from PIL import Image

from toolkit.cache.shard import Shard, write_shard
from toolkit.config import RunConfig
from toolkit.errors import CacheError, ConfigError
from toolkit.metrics import read
from toolkit.recipes.data import split_rows
from toolkit.recipes.text_to_image import main
from toolkit.tasks.text_to_image import TextToImage

ROWS = 6


@pytest.fixture
def folder(tmp_path):
    """Six pictures, wider than high, with two captions each."""
    data = tmp_path / "data"
    data.mkdir()
    rows = []
    for row in range(ROWS):
        picture(row, 80, 64).save(data / f"{row}.png")
        rows.append({"file_name": f"{row}.png", "text": [f"a red bird {row}", f"a blue house {row}"]})
    (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return data


@pytest.fixture
def train(tmp_path, folder):
    """`train("--flag", "value", ...)` is a run of 6 updates of 4; its folder."""
    path = tmp_path / "run.yaml"
    values = {
        "seed": 1,
        "model": {"pretrained_model_name_or_path": "builtin:tiny-sd2"},
        "data": {
            "train_data_dir": str(folder),
            "resolution": 64,
            "random_flip": True,
            "planned_crops": 2,
            "cache": str(tmp_path / "cache"),
            "cache_dtype": "float32",
            "validation_fraction": 0.3,
        },
        "objective": {"proportion_empty_prompts": 0.2},
        "optimizer": {"learning_rate": 1e-3, "lr_warmup_steps": 0},
        "training": {"train_batch_size": 4, "max_train_steps": 6},
        "tracking": {"report_to": "none", "logging_steps": 1},
        "validation": {"validation_steps": 3},
    }
    path.write_text(yaml.safe_dump(values))

    def run(*flags, folder="run"):
        main(["--config", str(path), "--output_dir", str(tmp_path / folder), *flags])
        return tmp_path / folder

    return run


def losses(run):
    return np.array([row[name] for row in read(run) for name in ("loss", "held_out_loss") if name in row])


@pytest.fixture
def encodings(monkeypatch):
    """How many pictures and texts were encoded, in this order, since it was last cleared."""
    counts = {"pictures": 0, "texts": 0}
    posterior, text_states = TextToImage.posterior, TextToImage.text_states

    def count_pictures(self, images):
        counts["pictures"] += len(images)
        return posterior(self, images)

    def count_texts(self, captions):
        counts["texts"] += len(captions)
        return text_states(self, captions)

    monkeypatch.setattr(TextToImage, "posterior", count_pictures)
    monkeypatch.setattr(TextToImage, "text_states", count_texts)
    return counts


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 1e-3)])
def test_a_run_has_the_losses_of_one_that_encodes_at_each_visit(train, dtype, tolerance):
    plain, cached = train("--cache", "off", folder="plain"), train("--cache_dtype", dtype, folder="cached")
    assert len(losses(plain)) == 6 + 3
    np.testing.assert_allclose(losses(cached), losses(plain), rtol=tolerance)


def test_nothing_is_encoded_twice_by_any_run(train, encodings):
    train(folder="first")
    assert encodings["pictures"] > 0 < encodings["texts"]
    first = dict(encodings)
    train(folder="second")
    # What is verified is computed again, and no more.
    assert encodings["pictures"] - first["pictures"] <= 8
    assert encodings["texts"] - first["texts"] <= 8


def test_an_edited_picture_is_encoded_anew_and_no_other(train, folder, encodings):
    train(folder="first")
    before = losses(train(folder="same"))
    encodings.update(pictures=0, texts=0)
    Image.new("RGB", (80, 64), (40, 0, 255)).save(folder / "3.png")
    after = losses(train(folder="edited"))
    # Each of its places, mirrored or not, or as a held-out picture; the others are verified, and no more.
    assert 1 <= encodings["pictures"] <= 2 * 2 + 8
    assert not np.allclose(before, after)
    np.testing.assert_allclose(after, losses(train("--cache", "off", folder="plain")), rtol=1e-5)


def test_another_autoencoder_has_encodings_of_its_own(train, encodings, monkeypatch):
    train(folder="first")
    encodings.update(pictures=0, texts=0)
    made = TextToImage.__init__

    def with_another_vae(self, **parts):
        made(self, **parts)
        next(self.vae.parameters()).data.mul_(1.01)

    monkeypatch.setattr(TextToImage, "__init__", with_another_vae)
    train(folder="second")
    assert encodings["pictures"] > 8
    assert encodings["texts"] <= 8


def test_encodings_of_something_else_are_refused(train, tmp_path):
    train(folder="first")
    (pictures,) = (tmp_path / "cache").glob("pictures-*")
    for shard in pictures.glob("*.shard"):
        _with_other_values(shard)
    with pytest.raises(CacheError, match="does not hold what these networks make of these rows"):
        train(folder="second")


def _with_other_values(path):
    shard = Shard(path)
    values = torch.stack([shard.read(row, shard.keys[row].tobytes()) for row in range(len(shard))])
    write_shard(path, np.array(shard.keys), values + 1)


def test_a_flipped_bit_ends_the_run_and_a_file_that_is_gone_or_cut_off_is_encoded_again(train, tmp_path, folder):
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
    expected = losses(train(folder="first"))
    (pictures,), (words,) = ((tmp_path / "cache").glob(f"{kind}-*") for kind in ("pictures", "texts"))
    for shard in pictures.glob("*.shard"):
        _flip_a_bit_of_each_record(shard)
    with pytest.raises(CacheError, match="is not what was written") as told:
        train(folder="second")
    (pictures / told.value.remedy.split()[1].rstrip(":")).unlink()
    for shard in [*pictures.glob("*.shard"), *words.glob("*.shard")]:
        shard.write_bytes(shard.read_bytes()[:-1])
    assert losses(train(folder="third")).tolist() == expected.tolist()
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()} == before


def _flip_a_bit_of_each_record(path):
    shard, content = Shard(path), bytearray(path.read_bytes())
    for row, key in enumerate(shard.keys):
        content[bytes(content).index(shard.read(row, key.tobytes()).numpy().tobytes())] ^= 1
    path.write_bytes(content)


def test_a_folder_that_cannot_be_written_to_is_refused(train, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"file/cache/pictures-\w+/\w+\.shard cannot be written"):
        train("--cache", str(tmp_path / "file" / "cache"))


@pytest.mark.parametrize("key", ["train_data_dir", "dataset_name"])
@pytest.mark.parametrize("cache", ["data", "data/cache", "other/../data/cache", "link/cache"])
def test_a_folder_in_the_data_is_refused_before_anything_is_written(folder, tmp_path, key, cache):
    (tmp_path / "link").symlink_to(folder)
    before = state(folder)
    model = {"pretrained_model_name_or_path": "builtin:tiny-sd2"}
    data = {key: str(folder), "cache": str(tmp_path / cache)}
    config = RunConfig.model_validate({"model": model, "data": data, "output_dir": str(tmp_path / "run")})
    with pytest.raises(ConfigError, match=r"data\.cache: .* lies in the data"):
        split_rows(config)
    assert state(folder) == before


def test_a_folder_beside_the_data_is_not_refused(folder, tmp_path):
    model = {"pretrained_model_name_or_path": "builtin:tiny-sd2"}
    data = {"train_data_dir": str(folder), "cache": str(tmp_path / "data-cache")}
    config = RunConfig.model_validate({"model": model, "data": data, "output_dir": str(tmp_path / "run")})
    assert len(split_rows(config)[0]) == ROWS


def test_two_processes_share_the_work_and_the_losses_are_those_of_one(train, tmp_path):
    alone = train("--cache", "off", folder="alone")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "train_text_to_image.py"]
    flags = ["--config", str(tmp_path / "run.yaml"), "--output_dir", str(tmp_path / "two"), "--train_batch_size", "2"]
    process = start_process([*torchrun, *flags], ACCELERATE_USE_CPU="true")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(alone), rtol=1e-5)
    (pictures,) = (tmp_path / "cache").glob("pictures-*")
    shards = [Shard(path) for path in pictures.glob("*.shard")]
    keys = [bytes(key) for shard in shards for key in shard.keys]
    assert len(shards) >= 2
    assert len(keys) == len(set(keys))


def test_pictures_that_are_cropped_anywhere_are_not_kept(train, tmp_path):
    with pytest.raises(ConfigError, match="cropped anywhere"):
        train("--planned_crops", "null")


def test_transparent_pictures_on_another_background_are_others(train, folder):
    for row in range(ROWS):
        Image.new("RGBA", (80, 64), (255, 0, 0, 40 * row)).save(folder / f"{row}.png")
    train(folder="white")
    on_black = losses(train("--background", "black", folder="black"))
    np.testing.assert_allclose(
        on_black, losses(train("--background", "black", "--cache", "off", folder="plain")), rtol=1e-5
    )


def test_adapters_learn_from_encodings_too(train):
    flags = ("--kind", "lora")
    plain, cached = train(*flags, "--cache", "off", folder="plain"), train(*flags, folder="cached")
    np.testing.assert_allclose(losses(cached), losses(plain), rtol=1e-5)


def test_worker_processes_read_encodings(train):
    alone = losses(train(folder="alone"))
    assert losses(train("--dataloader_num_workers", "2", folder="workers")).tolist() == alone.tolist()


def test_auto_keeps_what_is_seen_often_and_a_run_that_goes_on_does_as_it_did(train, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    train("--cache", "auto", "--max_train_steps", "2", folder="short")
    assert not list((tmp_path / "home").glob("*/encodings/pictures-*"))
    train("--cache", "auto", "--max_train_steps", "12", folder="short")
    assert not list((tmp_path / "home").glob("*/encodings/pictures-*"))
    train("--cache", "auto", "--max_train_steps", "12", folder="long")
    assert list((tmp_path / "home").glob("*/encodings/pictures-*"))


def test_a_stopped_run_goes_on_to_the_same_losses(train):
    whole = train(folder="whole")
    train("--max_train_steps", "3", folder="parts")
    parts = train(folder="parts")
    assert losses(whole)[-3:].tolist() == losses(parts)[-3:].tolist()


def test_pictures_are_drawn_though_the_networks_were_let_go(train):
    run = train("--validation_prompts", "a red bird", "--num_validation_images", "1")
    assert Image.open(run / "samples" / "step-000006.png").width >= 64
